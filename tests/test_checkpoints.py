"""A checkpoint knows the fit that it belongs to: everything that `fit` takes is part of it."""

from __future__ import annotations

import inspect
import shutil

import numpy as np
import pytest
import samples

import mfcore
from mfcore import BPR, MatrixFactorization, NeuralMF, Ratings, persistence
from mfcore.models import registry
from mfcore.persistence import ModelFileError
from mfcore.solvers.checkpoint import Checkpoint

# What the file names when a keyword differs; what is no part of the identity, and why.
NAMED = {
    "ratings": "checksum of the ratings",
    "y": "checksum of the ratings",
    "sample_weight": "checksum of the ratings",
    "user_features": "checksums of the features",
    "item_features": "checksums of the features",
    "eval_set": "checksum of eval_set",
    "pretrained": "checksum of pretrained",
}
EXCEPTIONS = {
    "callbacks": "they look on, and a resumed fit may have its own",
    "checkpoint": "the file itself",
}
RATINGS = samples.matrix()
TEST = Ratings(RATINGS[:, ::-1].tocsr())


def stopped(model, path, ratings=None, last=2, **given):
    """Leave the checkpoint of a fit that was stopped at the end of its last epoch."""
    def stop(_, record):
        if record["epoch"] == last:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.fit(RATINGS if ratings is None else ratings, checkpoint=path, callbacks=[stop],
                  **given)


@pytest.mark.parametrize("name", list(registry.MODELS))
def test_every_keyword_of_fit_is_part_of_the_identity_or_an_exception(name):
    taken = set(inspect.signature(getattr(mfcore, name).fit).parameters) - {"self"}
    assert taken <= set(NAMED) | set(EXCEPTIONS)


@pytest.mark.parametrize("made", [
    lambda number: MatrixFactorization(
        number(4), n_epochs=number(3), random_state=number(0), n_threads=number(1)),
    lambda number: mfcore.MultVAE(hidden=(number(4),), n_latent=number(2), n_epochs=3,
                                  random_state=number(0)),
])
def test_numbers_of_numpy_are_parameters_of_a_checkpoint_like_others(made, tmp_path):
    path = tmp_path / "checkpoint"
    stopped(made(np.int64), path)
    resumed = made(int).fit(RATINGS, checkpoint=path)       # from a file with NumPy's numbers
    plain = made(int).fit(RATINGS)
    np.testing.assert_array_equal(resumed.item_factors_, plain.item_factors_)


def test_a_generator_as_a_seed_is_refused_with_a_checkpoint(tmp_path):
    with pytest.raises(ValueError, match=r"integer as random_state: .*random_state.*Generator"):
        MatrixFactorization(4, random_state=np.random.default_rng(0)).fit(
            RATINGS, checkpoint=tmp_path / "checkpoint")


@pytest.mark.parametrize(("made", "changes"), [
    (mfcore.MatrixFactorization, {"solver": "sgd"}), (mfcore.ImplicitMF, {}), (BPR, {}),
    (mfcore.SoftmaxMF, {}), (mfcore.BayesianMF, {}), (NeuralMF, {}), (NeuralMF, {"dropout": 0.4}),
    (mfcore.RatingAutoencoder, {"mask": 0.3, "dropout": 0.4, "refeed": 1, "refeed_rate": 0.1}),
    (mfcore.MultDAE, {}), (mfcore.MultVAE, {}), (mfcore.RecVAE, {})])
def test_what_a_fit_without_a_seed_draws_is_in_its_checkpoint(made, changes, tmp_path):
    path, kept = tmp_path / "checkpoint", tmp_path / "kept"
    params = {"n_epochs": 4, "random_state": None, **changes}
    stopped(samples.small(made, **params), path)
    path.rename(kept)
    answers = []
    for _ in range(2):
        shutil.copy(kept, path)
        answers.append(samples.answers(samples.small(made, **params).fit(RATINGS,
                                                                        checkpoint=path)))
    assert answers[0] == answers[1]


PAIR = tuple(NeuralMF(4, fusion=fusion, hidden=hidden, n_epochs=1, random_state=0)
             for fusion, hidden in (("product", ()), ("concat", (8,))))


@pytest.mark.parametrize(("model", "first", "second"), [
    (BPR(4, n_epochs=4, random_state=0), {"eval_set": TEST}, {}),
    (BPR(4, n_epochs=4, random_state=0), {}, {"eval_set": TEST}),
    (BPR(4, n_epochs=4, random_state=0), {"eval_set": TEST},
     {"eval_set": (Ratings(RATINGS), TEST)}),
    (NeuralMF(4, n_epochs=4, random_state=0), {"pretrained": "one"}, {}),
    (NeuralMF(4, n_epochs=4, random_state=0), {"pretrained": "one"}, {"pretrained": "other"}),
    (NeuralMF(4, fusion="gmf+mlp", hidden=(8,), n_epochs=4, random_state=0),
     {"pretrained": "pair"}, {"pretrained": "one"}),
], ids=repr)
def test_a_checkpoint_of_another_keyword_is_refused_and_kept(model, first, second, tmp_path):
    start = {"one": MatrixFactorization(4, n_epochs=2, random_state=0).fit(RATINGS),
             "other": MatrixFactorization(4, n_epochs=2, random_state=1).fit(RATINGS),
             "pair": tuple(one.fit(RATINGS) for one in PAIR)}
    first, second = ({name: start[value] if isinstance(value, str) else value
                      for name, value in given.items()} for given in (first, second))
    path = tmp_path / "checkpoint"
    stopped(model, path, **first)
    before = path.read_bytes()
    name = next(iter(first or second))
    with pytest.raises(ValueError, match=NAMED[name]):
        model.fit(RATINGS, checkpoint=path, **second)
    assert path.read_bytes() == before
    went_on = model.fit(RATINGS, checkpoint=path, **first)
    users, items = np.arange(5), np.arange(5)
    found = went_on.predict(users, items)
    np.testing.assert_array_equal(found, model.fit(RATINGS, **first).predict(users, items))


def test_the_eval_set_of_other_ids_is_another(tmp_path):
    model, path = BPR(4, n_epochs=4, random_state=0), tmp_path / "checkpoint"
    named = samples.named()
    kept = named.select_cells(np.arange(named.nnz) % 3 == 0)
    named = named.select_cells(np.arange(named.nnz) % 3 > 0)
    renamed = Ratings(kept.by_user, user_ids=kept.user_ids[::-1], item_ids=kept.item_ids)

    def stop(_, record):
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.fit(named, eval_set=kept, checkpoint=path, callbacks=[stop])
    with pytest.raises(ValueError, match="checksum of eval_set"):
        model.fit(named, eval_set=renamed, checkpoint=path)


@pytest.mark.parametrize("made", [MatrixFactorization, BPR, NeuralMF, mfcore.MultVAE])
def test_more_epochs_go_on_from_a_checkpoint_and_fewer_are_refused(made, tmp_path):
    path = tmp_path / "checkpoint"
    stopped(samples.small(made, n_epochs=4, random_state=0), path, last=4)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="of a longer fit: it has 3 epochs, and 2 are to be run"):
        samples.small(made, n_epochs=2, random_state=0).fit(RATINGS, checkpoint=path)
    assert path.read_bytes() == before
    for n_epochs in (3, 5):
        path.write_bytes(before)
        model = samples.small(made, n_epochs=n_epochs, random_state=0)
        went_on = samples.answers(model.fit(RATINGS, checkpoint=path))
        assert went_on == samples.answers(model.fit(RATINGS))
        assert not path.exists()


def test_moments_of_another_unit_are_other_ratings(tmp_path):
    """Of the same numbers: a day has other periods in seconds than in nanoseconds."""
    numbers, path = np.arange(RATINGS.nnz) * 10**9, tmp_path / "checkpoint"
    stopped(BPR(4, n_epochs=4, random_state=0), path, ratings=timed(numbers, "ns"))
    for unit in ("s", None):
        with pytest.raises(ValueError, match="checksum of the ratings"):
            BPR(4, n_epochs=4, random_state=0).fit(timed(numbers, unit), checkpoint=path)
    BPR(4, n_epochs=4, random_state=0).fit(timed(numbers, "ns"), checkpoint=path)
    assert not path.exists()


def timed(numbers, unit):
    return Ratings(RATINGS, times=numbers if unit is None else numbers.view(f"M8[{unit}]"))


def test_a_checkpoint_behind_a_link_is_removed_at_the_end_and_the_link_stays(tmp_path):
    (tmp_path / "disk").mkdir()
    file, link = tmp_path / "disk" / "checkpoint", tmp_path / "link"
    link.symlink_to(file)
    stopped(BPR(4, n_epochs=4, random_state=0), link)
    assert file.exists()
    went_on = BPR(4, n_epochs=4, random_state=0).fit(RATINGS, checkpoint=link)
    assert link.is_symlink()
    assert not file.exists()
    assert samples.answers(went_on) == samples.answers(
        BPR(4, n_epochs=4, random_state=0).fit(RATINGS))


@pytest.mark.parametrize("edit", [
    lambda array: np.full_like(array, np.nan), lambda array: np.full_like(array, np.inf),
    lambda array: array[:1], lambda array: array[:, :1], lambda array: array.astype(np.float16)],
    ids=["NaN", "infinite", "a row", "a column", "half"])
@pytest.mark.parametrize("group", ["parameters", "best"])
def test_parameters_of_another_fit_are_refused_and_kept(edit, group, tmp_path):
    """A row or a column would be spread over the whole array."""
    model, path = samples.model("learned", patience=3), tmp_path / "checkpoint"
    stopped(model, path, eval_set=TEST)
    arrays, meta = persistence.read(path)
    name = f"{group}.P"
    persistence.write(path, {**arrays, name: edit(arrays[name])}, meta)
    with pytest.raises(ModelFileError, match="its P must be finite, of shape .* remove the file"):
        model.fit(RATINGS, eval_set=TEST, checkpoint=path)
    assert path.exists()


@pytest.mark.parametrize("every", [1, 3])
def test_a_fit_that_a_callback_stopped_stays_stopped_if_it_was_killed_before_its_end(
        every, tmp_path, monkeypatch):
    path, model = tmp_path / "checkpoint", BPR(4, n_epochs=6, random_state=0)

    def stop(_, record):
        return record["epoch"] == 2

    wanted = BPR(4, n_epochs=6, random_state=0).fit(RATINGS, callbacks=[stop])
    with monkeypatch.context() as killed:
        killed.setattr(Checkpoint, "remove", lambda self: None)
        model.fit(RATINGS, checkpoint=(path, every), callbacks=[stop])
    assert path.exists()
    went_on = BPR(4, n_epochs=6, random_state=0).fit(RATINGS, checkpoint=(path, every))
    assert went_on.n_epochs_ == 2
    assert samples.answers(went_on) == samples.answers(wanted)
    assert not path.exists()
