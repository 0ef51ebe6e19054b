"""`mfcore.serving` answers as the model does, with NumPy alone."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
import samples

import mfcore
from mfcore import persistence, serving
from mfcore.models.registry import OF_ITEMS
from mfcore.serving import served as served_by
from mfcore.serving.served import LINEAR as SERVED
from mfcore.validation import DivergenceError

LINEAR = [*samples.CONFIGURATIONS, *samples.IMPLICIT]
SOLVED = [name for name in LINEAR if samples.model(name).get_params().get("bias") != "mean"]
OTHERS = [name for name in (*SERVED, *OF_ITEMS, "GraphFilter") if name not in
          ("MatrixFactorization", "ImplicitMF")]
RATED = {"i5": 4.0, "i1": 2.0, "i6": 0.0}


def served(model, folder, **how):
    model.save(folder / "model.mfcore")
    return serving.load(folder / "model.mfcore", **how)


def of_class(name):
    made = getattr(mfcore, name)
    return made(**samples.SIZES.get(name, {}), n_threads=1).set_params(
        **({"random_state": 0} if "random_state" in made().get_params() else {}))


def same(found, wanted):
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_allclose(found[1], wanted[1], rtol=2e-6, atol=1e-6)
    assert found[1].dtype == wanted[1].dtype


# -------------------------------------------------------------------------- the same lists

@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("name", LINEAR)
def test_every_user_gets_the_list_of_the_model(name, mmap, tmp_path):
    model = samples.fitted(name, samples.named(samples.counts()))
    same(served(model, tmp_path, mmap=mmap).recommend(k=11), model.recommend(k=11))


@pytest.mark.parametrize("name", OTHERS)
def test_other_models_give_the_same_lists(name, tmp_path):
    model = of_class(name).fit(samples.named(samples.counts()))
    same(served(model, tmp_path).recommend(k=4), model.recommend(k=4))


@pytest.mark.parametrize("name", SOLVED)
@pytest.mark.parametrize("features", [False, True], ids=["", "features"])
def test_a_new_user_gets_the_list_of_the_model(name, features, tmp_path):
    given = {"user_features": [["a"], ["a", "b"], []] * 3 + [["b"]] * 2} if features else {}
    model = samples.model(name, n_epochs=6).fit(samples.named(samples.counts()), **given)
    new = mfcore.Ratings.from_arrays([0] * len(RATED), list(RATED), list(RATED.values()))
    same(served(model, tmp_path).recommend(ratings=RATED, k=8), model.recommend(ratings=new, k=8))


@pytest.mark.parametrize("made", [
    mfcore.EASE(values="raw"), mfcore.BiasOnly(), mfcore.Popularity(), mfcore.PureSVD(3),
    mfcore.ItemKNN(n_neighbors=3, values="raw"), mfcore.RP3Beta(),
    mfcore.SparseEASE(n_neighbors=3),
    mfcore.PureSVD(3, values="raw"), mfcore.GraphFilter(3),
    mfcore.GraphFilter(3, values="raw", dtype="float64")], ids=repr)
def test_so_does_one_of_a_model_without_vectors(made, tmp_path):
    model = made.fit(samples.named(samples.counts()))
    new = mfcore.Ratings.from_arrays([0] * len(RATED), list(RATED), list(RATED.values()))
    same(served(model, tmp_path).recommend(ratings=RATED, k=8), model.recommend(ratings=new, k=8))


@pytest.mark.parametrize("values", ["binary", "raw"])
def test_a_walk_on_the_graph_has_the_bits_of_the_kernel(values, tmp_path):
    ratings = mfcore.fetch("planted").ratings
    if values == "binary":                          # (where some ratings are no choices)
        ratings = mfcore.Ratings(ratings.by_user - 2 * (ratings.by_user > 0).astype(np.float32))
    model = mfcore.GraphFilter(8, share=0, values=values, random_state=0).fit(ratings)
    found = served(model, tmp_path, mmap=True).recommend([3, 599], k=300, exclude_seen=False)
    wanted = model.recommend([3, 599], k=300, exclude_seen=False)
    np.testing.assert_array_equal(found, wanted)


def test_a_graph_without_the_ratings_of_users_serves_new_ones(tmp_path):
    model = mfcore.GraphFilter(3, random_state=0).fit(samples.named(samples.counts()))
    model.save(tmp_path / "model", seen=False)
    here = serving.load(tmp_path / "model")
    same(here.recommend(ratings=["i5", "i1"], k=4), model.recommend(ratings=["i5", "i1"], k=4))
    with pytest.raises(ValueError, match="seen=False"):
        here.recommend(["u1"])


def test_a_new_user_may_be_a_list_of_items(tmp_path):
    model = samples.fitted("linear", samples.named(samples.counts()))
    new = mfcore.Ratings.from_arrays([0, 0], ["i5", "i1"])
    same(served(model, tmp_path).recommend(ratings=["i5", "i1"]), model.recommend(ratings=new))


@pytest.mark.parametrize("name", ["ImplicitMF", "BiasOnly", "EASE", "GraphFilter"])
def test_scores_of_nobody_are_of_the_type_of_others(name, tmp_path):
    model = of_class(name).fit(samples.named(samples.counts()))
    same(served(model, tmp_path).recommend([], k=3), model.recommend([], k=3))


def test_filters_and_seen_items_are_those_of_recommend(tmp_path):
    model = samples.fitted("learned", samples.named())
    here = served(model, tmp_path)
    for how in ({"exclude_seen": False}, {"items": ["i1", "i2", "i7"]},
                {"exclude_items": ["i1", "i0"], "exclude_seen": False}):
        same(here.recommend(["u4", "u0"], k=5, **how), model.recommend(["u4", "u0"], k=5, **how))


def test_unknown_ids_raise_or_are_passed_over(tmp_path):
    model = samples.fitted("learned", samples.named())
    here = served(model, tmp_path)
    with pytest.raises(KeyError, match="nobody"):
        here.recommend("nobody")
    with pytest.raises(KeyError, match="nothing"):
        here.recommend(ratings={"nothing": 1.0})
    asked = {"unknown": "ignore", "k": 3, "items": ["i1", "i2", "i9"]}
    same(here.recommend(["u1", "nobody"], **asked), model.recommend(["u1", "nobody"], **asked))


@pytest.mark.parametrize(("name", "changes", "rated"), [
    ("plain", {"reg": 0.0}, {}), ("plain", {"reg": 0.0}, {"i1": 2.0}),
    ("learned", {"reg": 0.0, "bias_reg": 0.0}, {"i5": 4.0, "i1": 2.0}),
    ("learned", {"reg": 1e-12}, RATED), ("linear", {}, {"i1": 1e20, "i5": 2.0}),
    ("whole matrix", {"reg": 0.0}, {"i1": 1e15})])
def test_what_ratings_hardly_determine_stays_at_the_prior_as_in_the_model(name, changes, rated,
                                                                          tmp_path):
    model = samples.fitted(name, samples.named(samples.counts()), dtype="float64", **changes)
    found = served(model, tmp_path).recommend(ratings=rated, k=8)
    wanted = model.recommend(ratings=rated, k=8)
    assert found[0].tolist() == wanted[0].tolist()
    np.testing.assert_allclose(found[1], wanted[1], rtol=1e-3, atol=1e-9)


def test_ratings_that_no_vector_can_hold_are_refused(tmp_path):
    model = samples.fitted("learned", samples.named())
    for refusing in (model, served(model, tmp_path)):
        with pytest.raises(DivergenceError, match="no finite solution.* too large for float32"):
            refusing.recommend(ratings={"i1": 1e100, "i5": 2.0})


@pytest.mark.parametrize("features", [False, True], ids=["", "features"])
@pytest.mark.parametrize("name", [*SERVED, *OF_ITEMS, "GraphFilter"])
def test_a_user_of_whom_nothing_is_known_gets_the_list_of_the_model(name, features, tmp_path):
    model = of_class(name)
    if features and model.lacks("user_features"):
        return
    given = {"user_features": [["a"], ["a", "b"], []] * 3 + [["b"]] * 2} if features else {}
    model.fit(samples.named(samples.counts()), **given)
    asked = {"users": ["nobody", "u1"], "k": 8, "unknown": "ignore"}
    same(served(model, tmp_path).recommend(**asked), model.recommend(**asked))


def test_rows_have_numbers_where_the_ratings_had_no_ids(tmp_path):
    model = samples.fitted("plain")
    same(served(model, tmp_path).recommend([4, 0], k=3), model.recommend([4, 0], k=3))
    with pytest.raises(IndexError):
        served(model, tmp_path).recommend([11])


def test_equal_scores_go_to_the_item_that_comes_first(tmp_path):
    model = samples.fitted("plain", samples.named(), dtype="float32")
    model.item_factors_ = np.tile(model.item_factors_[:1], (8, 1))
    found, _ = served(model, tmp_path).recommend(["u0"], k=8, exclude_seen=False)
    assert found[0].tolist() == [f"i{number}" for number in range(8)]


def test_predictions_are_those_of_the_model(tmp_path):
    model = samples.fitted("learned", samples.named())
    here = served(model, tmp_path)
    np.testing.assert_allclose(here.predict("u1", ["i2", "i3"]), model.predict("u1", ["i2", "i3"]),
                               rtol=1e-6)


@pytest.mark.parametrize("how", [{"bias": None}, {"loss": "logistic", "solver": "sgd"}], ids=str)
def test_predictions_that_are_more_than_scores_are_refused(how, tmp_path):
    cells = abs(samples.matrix())
    cells.data = (cells.data > 2).astype(float)
    model = mfcore.MatrixFactorization(2, n_epochs=1, random_state=0, **how).fit(cells)
    with pytest.raises(NotImplementedError, match=r"mfcore\.load predicts"):
        served(model, tmp_path).predict(0, [1])


# --------------------------------------------------------------------------------- refusals

def test_a_model_that_needs_more_is_refused_by_name(tmp_path):
    with pytest.raises(NotImplementedError, match=r"mfcore\.load serves NeuralMF"):
        served(of_class("NeuralMF").fit(samples.matrix()), tmp_path)


@pytest.mark.parametrize("name", ["MatrixFactorization", "ImplicitMF"])
def test_a_new_user_of_a_model_with_history_is_refused(name, tmp_path):
    model = of_class(name).fit(samples.named(samples.counts()), user_features="history")
    here = served(model, tmp_path)
    same(here.recommend(k=4), model.recommend(k=4))
    with pytest.raises(NotImplementedError, match=r"mfcore\.load learns it"):
        here.recommend(ratings={"i1": 2.0})


@pytest.mark.parametrize("given", ["i1", {"i1"}, [("i1", 2.0)], [["i1"]], 5], ids=str)
def test_what_is_no_row_of_a_user_is_refused_by_its_type(given, tmp_path):
    here = served(of_class("ImplicitMF").fit(samples.named(samples.counts())), tmp_path)
    with pytest.raises(TypeError, match=f"item: rating}}, got {type(given).__name__}"):
        here.recommend(ratings=given, unknown="ignore")


def test_models_of_ratings_are_known_by_name():
    rates = {name for name in SERVED if getattr(mfcore, name).predicts_ratings}
    assert rates == set(served_by.RATES)


def test_items_alone_know_no_user_whose_ratings_are_not_in_the_file(tmp_path):
    model = of_class("EASE").fit(samples.named(samples.counts()))
    model.save(tmp_path / "m.mfcore", seen=False)
    here = serving.load(tmp_path / "m.mfcore")
    for ask in (lambda: here.recommend("u1"), lambda: here.predict("u1", ["i2"])):
        with pytest.raises(ValueError, match="saved with seen=False"):
            ask()
    same(here.recommend(ratings=["i1"]), model.recommend(ratings=["i1"]))


def test_a_new_user_of_a_model_that_takes_steps_is_refused(tmp_path):
    with pytest.raises(NotImplementedError, match=r"mfcore\.load learns it"):
        served(of_class("BPR").fit(samples.counts()), tmp_path).recommend(ratings=[1, 2])


@pytest.mark.parametrize("name", ["MatrixFactorization", "BiasOnly", "ImplicitMF", "Popularity"])
@pytest.mark.parametrize("asked", [["i1", "i5"], {"i1": -1.0}], ids=["ids", "negative"])
@pytest.mark.parametrize("one", [False, True], ids=["several", "one rating"])
def test_what_the_model_refuses_of_a_new_user_is_refused_in_the_same_words(name, asked, one,
                                                                           tmp_path):
    ratings = samples.named(samples.counts())
    if one:
        ratings = samples.named(samples.counts().sign() * 4)
    model = of_class(name).fit(ratings)
    here = served(model, tmp_path)
    try:
        wanted = model.recommend(ratings=asked, k=3)
    except ValueError as refusal:
        with pytest.raises(ValueError, match=f"^{re.escape(str(refusal))}$"):
            here.recommend(ratings=asked, k=3)
    else:
        same(here.recommend(ratings=asked, k=3), wanted)


@pytest.mark.parametrize(("how", "error"), [
    ({"k": 0}, ValueError), ({"exclude_seen": 1}, TypeError), ({"unknown": "skip"}, ValueError),
    ({"users": [0], "ratings": [1]}, ValueError), ({"ratings": [1, 1]}, ValueError),
    ({"ratings": {1: np.nan}}, ValueError)])
def test_a_request_that_makes_no_sense_is_refused(how, error, tmp_path):
    here = served(samples.fitted("linear"), tmp_path)
    with pytest.raises(error):
        here.recommend(**how)


@pytest.mark.parametrize("mmap", [False, True])
def test_an_altered_file_is_found_out_unless_nobody_looks(mmap, tmp_path):
    here = tmp_path / "model.mfcore"
    samples.fitted("linear").save(here)
    whole, mark = here.read_bytes(), persistence.read(here)[0]["item_factors_"].tobytes()[:16]
    here.write_bytes(whole.replace(mark, b"\0" * 16))
    with pytest.raises(persistence.ModelFileError):
        serving.load(here, mmap=mmap)
    serving.load(here, mmap=True, check=False)


# --------------------------------------------------------------------------- what it needs

def test_neither_numba_nor_scipy_is_imported(tmp_path):
    samples.fitted("learned", samples.named()).save(tmp_path / "model.mfcore")
    code = ("import sys\n"
            "for name in ('numba', 'llvmlite', 'scipy', 'threadpoolctl', 'tqdm'):\n"
            "    sys.modules[name] = None                 # importing it is an ImportError\n"
            "from mfcore import serving\n"
            f"model = serving.load({str(tmp_path / 'model.mfcore')!r}, mmap=True)\n"
            "print(model.recommend('u1', k=3)[0].tolist(), model.recommend(ratings={'i1': 2})[1])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr


def test_mapped_numbers_are_used_where_they_are_in_the_file(tmp_path):
    samples.fitted("learned", samples.named()).save(tmp_path / "model.mfcore")
    arrays, _ = persistence.read(tmp_path / "model.mfcore", mmap=True)
    numbers = [array for array in arrays.values() if array.dtype != object]
    assert numbers
    assert not any(array.flags.owndata or array.flags.writeable for array in numbers)
    assert all(array.ctypes.data % 64 == 0 for array in numbers if array.size)


def test_parts_of_files_of_before_are_copied_where_they_are_not_aligned(tmp_path, monkeypatch):
    monkeypatch.setattr(persistence, "_padding", lambda place, info: b"")
    samples.fitted("learned", samples.named()).save(tmp_path / "model.mfcore")
    for name, array in persistence.read(tmp_path / "model.mfcore", mmap=True)[0].items():
        np.testing.assert_array_equal(array, persistence.read(tmp_path / "model.mfcore")[0][name])
