"""`validation`: epochs that a held-out share finds, and the fit to all ratings after it."""

from __future__ import annotations

import numpy as np
import pytest

from mfcore import BPR, ImplicitMF, MatrixFactorization, MultDAE, Ratings, load
from mfcore.data.split import random_split
from mfcore.models.stopping import PATIENCE, held_out, parts
from tests import samples

OVERFITTING = {"solver": "adam", "learning_rate": 0.3, "reg": 0.0, "bias_reg": 0.0,
               "n_factors": 8, "n_epochs": 40, "random_state": 0}


def noisy(seed=0, n_users=60, n_items=40, share=0.3):
    rng = np.random.default_rng(seed)
    users, items = np.nonzero(rng.random((n_users, n_items)) < share)
    return Ratings.from_arrays(users, items, rng.integers(1, 6, len(users)).astype(float))


def test_the_fit_is_that_to_all_ratings_for_the_epochs_that_were_found():
    found = MatrixFactorization(**OVERFITTING, validation=0.2).fit(noisy())
    errors = [record["rmse"] for record in found.validation_history_]
    best = 1 + int(np.argmin(errors))
    assert len(errors) == best + PATIENCE < 40
    assert found.n_epochs_ == best
    plain = MatrixFactorization(**{**OVERFITTING, "n_epochs": best}).fit(noisy())
    np.testing.assert_array_equal(found.user_factors_, plain.user_factors_)
    assert found.n_epochs == 40


# Epochs are draws of a posterior, or steps towards a closed form: none is one too many.
NEVER_TOO_MANY = {"BayesianMF", "BiasOnly", "GraphFilter", "PureSVD"}
WITH_EPOCHS = [made for made in samples.EVERY if made.__name__ not in NEVER_TOO_MANY
               and "n_epochs" in samples.default(made).get_params()]


@pytest.mark.parametrize("made", WITH_EPOCHS, ids=lambda made: made.__name__)
def test_every_model_with_epochs_holds_out_a_share(made):
    ratings = samples.matrix(40, 20)
    model = samples.small(made, validation=0.2, n_epochs=2).fit(ratings)
    assert 1 <= len(model.validation_history_) <= 2
    assert model.ratings_.nnz == ratings.nnz


def test_without_refit_the_stopped_model_stays_as_an_eval_set_would_leave_it():
    model = MatrixFactorization(**OVERFITTING, validation=0.2, refit=False, patience=3)
    found = model.fit(noisy())
    known, held = held_out(noisy(), 0.2, 0)
    other = MatrixFactorization(**OVERFITTING, patience=3).fit(known, eval_set=held)
    np.testing.assert_array_equal(found.item_factors_, other.item_factors_)
    assert found.ratings_.nnz == known.nnz
    assert [record["rmse"] for record in found.history_] == \
        [record["rmse"] for record in other.history_]


def test_an_eval_set_takes_the_place_of_the_share():
    known, held = held_out(noisy(), 0.2, 0)
    found = MatrixFactorization(**{**OVERFITTING, "n_epochs": 3}, validation=0.3).fit(
        known, eval_set=held)
    assert found.n_epochs_ == 3
    assert not hasattr(found, "validation_history_")


@pytest.mark.parametrize("model", [ImplicitMF(4, validation=0.2, random_state=0),
                                   BPR(4, validation=0.2, random_state=0),
                                   MultDAE(n_latent=4, validation=0.2, random_state=0)], ids=repr)
def test_models_of_rankings_watch_their_own_metric(model):
    model.fit(noisy())
    values = [record["ndcg@10"] for record in model.validation_history_]
    assert model.n_epochs_ == 1 + int(np.argmax(values))


def test_models_of_choices_hold_out_choices_alone():
    ratings = noisy()
    cells = ratings.by_user.copy()
    cells.data -= 2                                         # (2 is now a stored 0, and 1 negative)
    liked = Ratings(cells)
    known, held = parts(BPR(4, validation=0.2, random_state=0), liked)
    assert held.by_user.data.min() > 0 > known.by_user.data.min()
    stars = MatrixFactorization(4, validation=0.2, random_state=0)
    assert parts(stars, liked)[1].by_user.data.min() < 0
    with pytest.raises(ValueError, match="holds out no value above 0"):
        parts(BPR(4, validation=0.2, random_state=0), Ratings(-ratings.by_user))


def test_the_search_goes_with_the_file(tmp_path):
    model = MatrixFactorization(**OVERFITTING, validation=0.2).fit(noisy())
    model.save(tmp_path / "model")
    assert load(tmp_path / "model").validation_history_ == model.validation_history_


@pytest.mark.parametrize("stage", ["search", "refit"])
@pytest.mark.parametrize("every", [1, 3])
def test_an_interrupted_fit_goes_on_to_the_same_bits_in_both_stages(tmp_path, monkeypatch, stage,
                                                                   every):
    from mfcore.solvers import loop

    expected = MatrixFactorization(**OVERFITTING, validation=0.2).fit(noisy())
    model = MatrixFactorization(**OVERFITTING, validation=0.2)
    kill_at = 4 if stage == "search" else len(expected.validation_history_) + 4
    true, calls = loop._one_epoch, []

    def epoch(*args, **options):
        calls.append(1)
        if len(calls) == kill_at:
            raise KeyboardInterrupt
        return true(*args, **options)

    monkeypatch.setattr(loop, "_one_epoch", epoch)
    with pytest.raises(KeyboardInterrupt):
        model.fit(noisy(), checkpoint=(tmp_path / "fit", every))
    assert model.n_epochs_ == 3                              # what was reached can be used
    done = len(calls)
    model.fit(noisy(), checkpoint=(tmp_path / "fit", every))
    np.testing.assert_array_equal(model.user_factors_, expected.user_factors_)
    assert not list(tmp_path.iterdir())
    total = len(expected.validation_history_) + expected.n_epochs_
    assert len(calls) - done <= total - done + 2 * every + 2             # it went on


def test_callbacks_see_the_final_fit_alone():
    seen = []
    model = MatrixFactorization(**OVERFITTING, validation=0.2)
    model.fit(noisy(), callbacks=[lambda fitted, record: seen.append((fitted, record["epoch"]))])
    assert seen == [(model, epoch) for epoch in range(1, model.n_epochs_ + 1)]


def test_what_cannot_be_held_out_is_refused_and_the_old_model_stays():
    model = MatrixFactorization(**OVERFITTING).fit(noisy())
    old = model.user_factors_
    single = Ratings.from_arrays([0, 1, 2], [0, 1, 0], [1., 2., 3.])
    with pytest.raises(ValueError, match=r"validation=0\.1 leaves a side empty"):
        model.set_params(validation=0.1).fit(single)
    assert np.shares_memory(model.user_factors_, old)


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (1, ValueError), (-.1, ValueError),
                                              ("a", TypeError), (True, TypeError)])
def test_a_bad_share_is_refused(value, error):
    with pytest.raises(error, match="validation"):
        MatrixFactorization(validation=value).fit(noisy())


def test_every_user_keeps_as_many_cells_as_asked():
    ratings = noisy(share=0.08)
    for keep in (1, 2):
        train, test = random_split(ratings, 0.9, 0, keep=keep)
        counts = np.diff(ratings.by_user.indptr)
        np.testing.assert_array_equal(np.diff(train.by_user.indptr), np.minimum(counts, keep))
        assert train.nnz + test.nnz == ratings.nnz


def test_the_share_is_the_one_asked_for():
    train, test = random_split(noisy(), 0.1, 0, keep=1)
    assert test.nnz == round(0.1 * noisy().nnz)


def test_generators_as_seeds_hold_out_a_share_too():
    model = samples.model("mean", validation=0.2, random_state=np.random.default_rng(0))
    assert model.fit(noisy()).validation_history_


def test_a_search_that_ends_before_its_first_epoch_leaves_the_old_model_as_it_was():
    model = MatrixFactorization(**OVERFITTING).fit(noisy())
    sides = model.users_, model.items_
    model.set_params(validation=0.2, eval_metric="ndcg@3", random_state=0)
    with pytest.raises(ValueError, match="user_features"):
        model.fit(noisy(), user_features=[["a"]])
    assert (model.users_, model.items_) == sides
