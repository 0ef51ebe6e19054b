"""Unusual input works, impossible input is refused before any work, and nothing half-done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import samples
import scipy.sparse as sp

import mfcore
from mfcore import ImplicitMF, MatrixFactorization, Ratings
from mfcore.models.estimator import Estimator
from mfcore.solvers.als import ALS
from mfcore.validation import DivergenceError

FACTORIZED = [MatrixFactorization, ImplicitMF]


def state(model: Any) -> dict[str, Any]:
    """Parameters and fitted attributes, arrays by their bits, models inside by theirs."""
    def plain(value: Any) -> Any:
        if isinstance(value, list) and value and isinstance(value[0], Estimator):
            return [state(inner) for inner in value]
        return value.tobytes() if isinstance(value, np.ndarray) else value

    own = dict(vars(model))
    for side in ("users_", "items_"):
        own.update(own.pop(side).named() if side in own else {})
    return {name: plain(value) for name, value in own.items()}


def timeless(state_of_model: dict[str, Any]) -> dict[str, Any]:
    """The same without what a clock says, and without the objects that hold the input."""
    found = {name: value for name, value in state_of_model.items()
             if name not in ("history_", "ratings_", "estimator")}
    inner = [timeless(each) for each in found.pop("models_", [])]
    return {**found, "models_": inner}


# ---------------------------------------------------------------------------- works

def made_of(change: Any) -> sp.csr_array:
    """The sample with its arrays changed behind SciPy's back."""
    cells = samples.counts().copy()
    cells.data, cells.indices, cells.indptr = change(cells)
    return cells


def unsorted(cells: sp.csr_array) -> tuple[np.ndarray, ...]:
    data, indices = cells.data.copy(), cells.indices.copy()
    for start, stop in zip(cells.indptr[:-1], cells.indptr[1:], strict=True):
        data[start:stop], indices[start:stop] = data[start:stop][::-1], indices[start:stop][::-1]
    return data, indices, cells.indptr


def locked(cells: sp.csr_array) -> tuple[np.ndarray, ...]:
    arrays = tuple(part.copy() for part in (cells.data, cells.indices, cells.indptr))
    for part in arrays:
        part.flags.writeable = False
    return arrays


def strided(cells: sp.csr_array) -> tuple[np.ndarray, ...]:
    return tuple(np.repeat(part, 2)[::2] for part in (cells.data, cells.indices, cells.indptr))


def wide_indices(cells: sp.csr_array) -> tuple[np.ndarray, ...]:
    return cells.data, cells.indices.astype(np.int64), cells.indptr.astype(np.int64)


FORMS = {
    "unsorted": made_of(unsorted), "read-only": made_of(locked), "strided": made_of(strided),
    "int64 indices": made_of(wide_indices), "csr_matrix": sp.csr_matrix(samples.counts()),
    "csc": sp.csc_array(samples.counts()), "coo": sp.coo_array(samples.counts()),
    "lil": sp.lil_matrix(samples.counts()), "float32": samples.counts().astype(np.float32),
    "int8": samples.counts().astype(np.int8), "uint64": samples.counts().astype(np.uint64),
    "big-endian": made_of(lambda cells: (cells.data.astype(">f8"), cells.indices, cells.indptr)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("made", samples.SHARED)
def test_every_form_of_matrix_gives_the_same_model(made, form):
    """Every form becomes the same Ratings before a model sees it: see `test_ratings.py`."""
    cells = FORMS[form]
    wanted, model = samples.small(made).fit(samples.counts()), samples.small(made).fit(cells)
    for got, right in zip(model.recommend(k=4), wanted.recommend(k=4), strict=True):
        np.testing.assert_array_equal(got, right)
    for got, right in zip(model.recommend(ratings=cells, k=4),
                          wanted.recommend(ratings=wanted.ratings_, k=4), strict=True):
        np.testing.assert_array_equal(got, right)


def test_the_arrays_that_came_in_are_left_as_they_were():
    cells = made_of(unsorted)
    before = cells.data.copy(), cells.indices.copy()
    model = samples.fitted("mean", cells)
    model.recommend(ratings=cells)
    model.partial_fit(cells)
    np.testing.assert_array_equal(cells.data, before[0])
    np.testing.assert_array_equal(cells.indices, before[1])


def test_ratings_may_lie_on_disk(tmp_path):
    cells, parts = samples.matrix(), {}
    for name in ("data", "indices", "indptr"):
        np.save(tmp_path / f"{name}.npy", getattr(cells, name))
        parts[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
    mapped = sp.csr_array(cells.shape)
    mapped.data, mapped.indices, mapped.indptr = parts.values()
    for given in (mapped, Ratings(mapped, copy=False)):
        model = samples.fitted("learned", given)
        np.testing.assert_array_equal(model.user_factors_,
                                      samples.fitted("learned").user_factors_)


@pytest.mark.parametrize("layout", ["read-only", "strided", "int32", "list"])
def test_questions_come_in_arrays_of_any_layout(layout):
    def awkward(values: list[int]) -> Any:
        array = np.array(values, np.int32 if layout == "int32" else np.int64)
        array = np.repeat(array, 2)[::2] if layout == "strided" else array
        array.flags.writeable = layout != "read-only"
        return values if layout == "list" else array

    model = samples.fitted("mean")
    users, items = awkward([2, 0, 9]), awkward([5, 1, 7])
    np.testing.assert_array_equal(model.predict(users, items), model.predict([2, 0, 9], [5, 1, 7]))
    np.testing.assert_array_equal(model.recommend(users, items=items)[0],
                                  model.recommend([2, 0, 9], items=[5, 1, 7])[0])
    np.testing.assert_array_equal(model.similar_items(items)[0],
                                  model.similar_items([5, 1, 7])[0])


@pytest.mark.kernel
@pytest.mark.parametrize("name", [*samples.CONFIGURATIONS, *samples.IMPLICIT])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (6, 1), (2, 3)], ids=str)
@pytest.mark.parametrize("solver", ["cg", "cholesky"])
def test_more_factors_than_the_smaller_side_are_no_problem(name, shape, solver):
    if name == "balanced" and 1 in shape:
        name = "learned, unknown"                     # a full matrix has no unknown cells
    cells = sp.csr_array(np.arange(1.0, 1 + np.prod(shape)).reshape(shape) % 5)
    model = samples.fitted(name, cells, n_factors=18, solver=solver)
    assert model.user_factors_.shape == (shape[0], 18)
    users, items = (grid.ravel() for grid in np.indices(shape))
    assert np.isfinite(model.predict(users, items)).all()
    np.testing.assert_allclose(model.fold_in_users(cells).factors, model.user_factors_, atol=1e-5)


@pytest.mark.parametrize("made", [made for made, _ in samples.definers("fit")])
def test_a_fit_on_another_shape_starts_anew(made):
    """`test_contract.py` fits every model twice; what a fit forgets is the base class's."""
    model = samples.small(made).fit(samples.named(samples.counts()))
    other = samples.counts(7, 12, seed=5)
    fresh = samples.small(made).fit(other)
    model.learned_ = "something"
    model.fit(other)
    assert timeless(state(model)) == timeless(state(fresh))
    assert (model.n_users_, model.n_items_, model.user_ids_) == (7, 12, None)
    assert model.n_epochs_ == fresh.n_epochs_


def test_ratings_that_are_all_equal_or_of_weight_zero_are_ratings():
    same = sp.csr_array((np.full(3, 4.0), ([0, 1, 1], [0, 0, 1])))
    for name in samples.CONFIGURATIONS:
        model = samples.fitted(name, same)
        np.testing.assert_allclose(model.predict([0, 1], [0, 1]), 4.0, atol=4.0)
        assert np.isfinite(model.recommend(k=2, exclude_seen=False)[1]).all()
    weightless = Ratings(same, weights=[0.0, 0.0, 0.0])
    model = samples.fitted("mean", weightless)
    assert model.predict(0, 1)[0] == pytest.approx(4.0)


# -------------------------------------------------------------------------- refused

def with_value(value: Any) -> sp.csr_array:
    cells = samples.counts()
    cells.data[5] = value
    return cells


def broken(**parts: np.ndarray) -> sp.csr_array:
    cells = samples.counts()
    for name, value in parts.items():
        setattr(cells, name, value)
    return cells


def repeated() -> sp.coo_array:
    return sp.coo_array(([1.0, 2.0, 3.0], ([0, 0, 1], [1, 1, 0])), shape=(2, 2))


OBJECTS = broken(data=samples.counts().data.astype(object))

RATINGS: dict[str, tuple[Any, type[Exception], str]] = {
    "NaN": (with_value(np.nan), ValueError, "must be finite, got nan for user row"),
    "inf": (with_value(np.inf), ValueError, "must be finite, got inf for user row"),
    "-inf": (with_value(-np.inf), ValueError, "must be finite, got -inf for user row"),
    "no rating": (sp.csr_array((3, 4)), ValueError, "at least one rating"),
    "no user": (sp.csr_array((0, 4)), ValueError, "at least one rating"),
    "no item": (sp.csr_array((3, 0)), ValueError, "at least one rating"),
    "no cell": (Ratings(sp.csr_array((3, 4))), ValueError, "at least one rating"),
    "duplicates": (repeated(), ValueError, "each .user, item. once, got 3 cells of which 2"),
    "dense": (samples.counts().toarray(), TypeError, "scipy sparse matrix, got ndarray"),
    "list": ([[1.0, 2.0]], TypeError, "scipy sparse matrix, got list"),
    "None": (None, TypeError, "scipy sparse matrix, got NoneType"),
    "string": ("ratings.csv", TypeError, "scipy sparse matrix, got str"),
    "complex": (samples.counts().astype(complex), TypeError, "numbers, got dtype complex128"),
    "objects": (OBJECTS, TypeError, "numbers, got dtype object"),
    "column out of range": (broken(indices=np.full(samples.counts().nnz, 8, np.int32)),
                            ValueError, r"item indices must be in \[0, 7\]"),
    "negative column": (broken(indices=np.full(samples.counts().nnz, -1, np.int32)),
                        ValueError, r"item indices must be in \[0, 7\]"),
    # (The difference of these two wraps around, to a positive one.)
    "row pointer that ends below 0": (
        broken(indptr=np.append(samples.counts().indptr[:-1], -2**31).astype(np.int32)), ValueError,
        "broken row pointer"),
    "row pointer": (broken(indptr=samples.counts().indptr[::-1].copy()), ValueError,
                    "broken row pointer"),
}


@pytest.mark.parametrize("ratings", RATINGS)
@pytest.mark.parametrize("made", [made for made, _ in samples.definers("fit")])
def test_what_are_no_ratings_is_refused_and_the_old_model_stays(made, ratings):
    """Ratings are looked at by `fit`, before a model sees them."""
    given, error, message = RATINGS[ratings]
    model = samples.small(made).fit(samples.counts())
    before = state(model)
    with pytest.raises(error, match=message):
        model.fit(given)
    assert state(model) == before
    with pytest.raises(error, match=message):
        samples.default(made).fit(given)


ASKS = {"fold_in_users": lambda m, r: m.fold_in_users(r),
        "fold_in_items": lambda m, r: m.fold_in_items(r),
        "partial_fit": lambda m, r: m.partial_fit(r), "score": lambda m, r: m.score(r),
        "recommend": lambda m, r: m.recommend(ratings=r)}
# One function looks at ratings for all that are asked: see also `bad_inputs.py`.
NEW_ROWS = [*[("fold_in_users", key) for key in RATINGS if key not in (
    "None", "no rating", "no user", "no item", "no cell", "duplicates")],
    *[(ask, key) for ask in ASKS if ask != "fold_in_users"
      for key in ("NaN", "dense", "row pointer")], ("partial_fit", "None"), ("score", "None")]


@pytest.mark.parametrize(("ask", "ratings"), NEW_ROWS)
def test_new_rows_that_are_no_ratings_are_refused_and_the_model_stays(ask, ratings):
    given, error, message = RATINGS[ratings]
    model = samples.fitted("learned")
    before = state(model)
    with pytest.raises(error, match=message):
        ASKS[ask](model, given)
    assert state(model) == before


@pytest.mark.parametrize("ask", ["fold_in_users", "fold_in_items"])
def test_new_rows_that_are_nothing_are_asked_for(ask):
    with pytest.raises(ValueError, match="needs ratings or .*_features, got neither"):
        ASKS[ask](samples.fitted("learned"), None)


PAIRS: dict[str, tuple[Any, Any, type[Exception], str]] = {
    "NaN": ([[0, 1]], [np.nan], ValueError, "must not be missing, got nan in row 0"),
    "lengths": ([[0, 1], [1, 1]], [1.0], ValueError, "length|shape"),
    "three columns": ([[0, 1, 2]], [1.0], ValueError, r"X must have shape \(n, 2\)"),
    "one dimension": ([0, 1], [1.0, 1.0], ValueError, r"X must have shape \(n, 2\)"),
    "sparse": (samples.matrix(), [1.0], ValueError, r"X must have shape \(n, 2\)"),
    "floats": ([[0.5, 1.0]], [1.0], TypeError, "must be integers, strings or other hashables"),
    "duplicates": ([[0, 1], [0, 1]], [1.0, 2.0], ValueError, "each .user, item. pair .*once"),
    "nothing": (np.empty((0, 2), int), [], ValueError, "at least one rating"),
    "words": ([[0, 1]], ["good"], TypeError, "must be numbers"),
}


@pytest.mark.parametrize("pairs", PAIRS)
@pytest.mark.parametrize("made", [made for made, _ in samples.definers("fit")])
def test_what_are_no_pairs_is_refused_and_the_old_model_stays(made, pairs):
    """Pairs are looked at by `fit`, before a model sees them."""
    X, y, error, message = PAIRS[pairs]
    model = samples.small(made).fit(samples.counts())
    before = state(model)
    with pytest.raises(error, match=message):
        model.fit(X, y)
    assert state(model) == before


@pytest.mark.parametrize("weights", [[-1.0], [np.nan], [np.inf], ["1"], [1.0, 2.0], [[1.0]]],
                         ids=str)
def test_weights_that_are_none_are_refused(weights):
    with pytest.raises((ValueError, TypeError), match="weights must"):
        Ratings(sp.csr_array([[3.0]]), weights=weights)


COMMON: list[tuple[str, Any]] = [
    *[("n_factors", value) for value in (0, -3, 2.0, "8", None, True)],
    *[("reg", value) for value in (-0.1, np.nan, np.inf, "0.1", None, True)],
    *[("reg_scaling", value) for value in ("counts", -0.5, np.nan, None)],
    *[("solver", value) for value in ("newton", None, 1)],
    *[("n_epochs", value) for value in (0, -1, 2.5, None)],
    *[("n_threads", value) for value in (0, -1, 1.5, "2", True)],
    *[("tol", value) for value in (-1e-3, np.nan, "0")],
    *[("cg_steps", value) for value in (0, 1.5, None)],
    *[("patience", value) for value in (0, 1.5)],
    *[("init_scale", value) for value in (0.0, -1.0, np.inf)],
    *[("dtype", value) for value in ("float16", np.float32, None)],
    *[("random_state", value) for value in (-1, "seed", 1.5, True)],
    *[("unknown_weight", value) for value in (-0.1, np.inf, "even", None)],
    ("verbose", -1), ("eval_metric", "correctness"), ("eval_metric", "ndcg@0"),
]
PARAMETERS: list[tuple[Any, str, Any]] = [
    *[(MatrixFactorization, name, value) for name, value in COMMON],
    # (The ranges are the same: once a parameter shows that they are looked at.)
    *[(ImplicitMF, name, value) for name, value in dict(COMMON).items()],
    *[(MatrixFactorization, "bias", value) for value in ("median", 0, True)],
    *[(MatrixFactorization, "bias_share", value) for value in (-0.1, 1.1, np.nan, None)],
    *[(MatrixFactorization, "bias_reg", value) for value in (-0.1, np.inf, "x")],
    *[(MatrixFactorization, "unknown_value", value) for value in (np.nan, "mean", None)],
    *[(ImplicitMF, "alpha", value) for value in (0.0, -1.0, np.inf, "1")],
    *[(ImplicitMF, "confidence", value) for value in ("sqrt", None)],
    *[(ImplicitMF, "whole_matrix", value) for value in (1, "yes", None)],
    *[(ImplicitMF, "negatives", value) for value in ("drop", None)],
]


@pytest.mark.parametrize(("made", "name", "value"), PARAMETERS,
                         ids=[f"{made.__name__}-{name}={value}" for made, name, value in
                              PARAMETERS])
def test_parameters_out_of_range_are_refused_by_name_and_the_old_model_stays(made, name, value):
    model = samples.small(made).fit(samples.counts())
    model.set_params(**{name: value})
    before = state(model)
    with pytest.raises((ValueError, TypeError), match=rf"^(metrics|{name}) must"):
        model.fit(samples.matrix(5, 6))
    assert state(model).keys() == before.keys()
    assert model.n_users_ == 11
    np.testing.assert_array_equal(state(model)["user_factors_"], before["user_factors_"])


def test_parameters_are_looked_at_before_the_ratings():
    with pytest.raises(ValueError, match="^reg must"):
        MatrixFactorization(reg=-1.0).fit("no ratings at all")


# Found only once the ratings are there: still nothing half-done.
LATE: dict[str, tuple[dict[str, Any], dict[str, Any], Any, type[Exception], str]] = {
    "balanced": ({"unknown_weight": "balanced"}, {}, sp.csr_array(np.ones((3, 3))), ValueError,
                 "needs cells without a rating, got a full matrix"),
    "bias": ({"unknown_value": "bias", "bias": "learned"}, {}, samples.matrix(5, 6), ValueError,
             "unknown_value='bias' needs bias='mean', got bias='learned'"),
    "no bias": ({"unknown_value": "bias", "bias": None}, {}, samples.matrix(5, 6), ValueError,
                "needs bias='mean', got bias=None"),
    "patience": ({"patience": 2}, {}, samples.matrix(5, 6), ValueError,
                 "patience needs an eval_set"),
    "eval shape": ({}, {"eval_set": samples.matrix(4, 6)}, samples.matrix(5, 6), ValueError,
                   "shape of the training ratings"),
    "eval fold-in": ({}, {"eval_set": (samples.matrix(3, 6), samples.matrix(4, 6))},
                     samples.matrix(5, 6), ValueError, "fold_in must have the users of test"),
    "eval type": ({}, {"eval_set": [1, 2]}, samples.matrix(5, 6), TypeError, "scipy sparse"),
    "eval nothing": ({}, {"eval_set": sp.csr_array((5, 6))}, samples.matrix(5, 6), ValueError,
                     "at least one rating"),
    "eval NaN": ({}, {"eval_set": with_value(np.nan)}, samples.counts(), ValueError, "finite"),
}


@pytest.mark.parametrize("late", LATE)
def test_what_the_ratings_do_not_allow_is_refused_and_the_old_model_stays(late):
    params, watched, ratings, error, message = LATE[late]
    model = samples.fitted("mean").set_params(**params)
    before, calls = state(model), []
    with pytest.raises(error, match=message):
        model.fit(ratings, **watched, callbacks=[lambda m, record: calls.append(record)])
    assert state(model) == before
    assert not calls                                          # before any work
    unfitted = samples.model("mean").set_params(**params)
    with pytest.raises(error, match=message):
        unfitted.fit(ratings, **watched)
    assert state(unfitted) == state(samples.model("mean").set_params(**params))


def huge(scale: float) -> sp.csr_array:
    return sp.csr_array(scale * np.array([[3.0, 1, 0], [2, 0, 3], [0, 1, 1]]))


@pytest.mark.parametrize(("name", "solver", "scale"), [
    ("plain", "cholesky", 1e38), ("mean, unknown", "cg", 1e25),
    ("learned, unknown", "cg", 1e19)])
@pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value")
def test_ratings_too_large_for_products_are_refused_and_the_old_model_stays(name, solver, scale):
    model = samples.fitted(name, solver=solver).set_params(reg=0.0)
    before = state(model)
    with pytest.raises(DivergenceError, match="products would overflow.*rescale the ratings"):
        model.fit(huge(scale))
    assert state(model) == before


class Sabotaged:
    """`ALS.epoch` that comes to harm, once all its rows have moved, in one epoch."""

    def __init__(self, monkeypatch: Any, epoch: int, harm: Any) -> None:
        self.calls, self.epoch, self.harm, self.healthy = 0, epoch, harm, ALS.epoch
        monkeypatch.setattr(ALS, "epoch", lambda solver, at, pool: self(solver, at, pool))

    def __call__(self, solver: ALS, at: Any, pool: Any) -> float:
        self.calls += 1
        loss = self.healthy(solver, at, pool)
        return self.harm(at) if self.calls == self.epoch else loss


def spoil(at: Any) -> float:
    at.P[:] = np.nan
    return float("nan")


def break_off(at: Any) -> float:
    raise KeyboardInterrupt


@pytest.mark.parametrize("harm", [spoil, break_off])
@pytest.mark.parametrize("solver", ["cg", "cholesky"])
@pytest.mark.parametrize("name", ["learned", "linear"])
def test_an_epoch_that_diverges_or_is_broken_off_is_undone(name, solver, harm, monkeypatch):
    ratings = samples.counts()
    apart = samples.fitted(name, ratings, solver=solver, n_epochs=2)
    Sabotaged(monkeypatch, 3, harm)
    model = samples.model(name, solver=solver, n_epochs=9)
    with pytest.raises((DivergenceError, KeyboardInterrupt)) as caught:
        model.fit(ratings)
    assert harm is break_off or "the loss of epoch 3 is nan" in str(caught.value)
    assert model.n_epochs_ == 2
    np.testing.assert_array_equal(model.user_factors_, apart.user_factors_)
    np.testing.assert_array_equal(model.item_factors_, apart.item_factors_)


@pytest.mark.parametrize("harm", [spoil, break_off])
@pytest.mark.parametrize("solver", ["cg", "cholesky"])
def test_a_fit_broken_off_in_its_first_epoch_leaves_what_was_there(solver, harm, monkeypatch):
    model, fresh = samples.fitted("learned"), samples.model("learned", solver=solver)
    before = state(model)
    for one in (model, fresh):
        Sabotaged(monkeypatch, 1, harm)
        with pytest.raises((DivergenceError, KeyboardInterrupt)):
            one.fit(samples.matrix(5, 6))
        monkeypatch.undo()
    assert state(model) == before
    assert not [name for name in vars(fresh) if name.endswith("_")]


# ------------------------------------------------------------------------ interrupted

def interrupt_at(epoch: int, error: type[BaseException] = KeyboardInterrupt) -> Any:
    def callback(model: Any, record: dict[str, Any]) -> None:
        if record["epoch"] == epoch:
            raise error

    return callback


# What comes to interrupt is caught by the loop, whatever the model.
INTERRUPTED = [*[(name, KeyboardInterrupt) for name in (*samples.CONFIGURATIONS,
                                                        *samples.IMPLICIT)],
               ("learned", RuntimeError), ("linear", RuntimeError)]


@pytest.mark.parametrize("solver", ["cg", "cholesky"])
@pytest.mark.parametrize(("name", "error"), INTERRUPTED)
def test_an_interrupted_fit_leaves_its_last_finished_epoch(name, solver, error):
    ratings = samples.counts()
    model = samples.model(name, solver=solver, n_epochs=9)
    with pytest.raises(error):
        model.fit(ratings, callbacks=[interrupt_at(3, error)])
    apart = samples.fitted(name, ratings, solver=solver, n_epochs=3)
    assert model.n_epochs_ == 3
    np.testing.assert_array_equal(model.user_factors_, apart.user_factors_)
    np.testing.assert_array_equal(model.item_factors_, apart.item_factors_)
    if apart.item_bias_ is not None:
        np.testing.assert_array_equal(model.user_bias_, apart.user_bias_)
        np.testing.assert_array_equal(model.item_bias_, apart.item_bias_)
    for got, wanted in zip(model.recommend(k=4), apart.recommend(k=4), strict=True):
        np.testing.assert_array_equal(got, wanted)


SCRIPT = """
import signal, sys
sys.path.insert(0, sys.argv[1])
import numpy as np, samples

signal.signal(signal.SIGINT, signal.default_int_handler)   # a shell's background job has none
model = samples.model(sys.argv[2], solver=sys.argv[3], n_epochs=10**9, n_threads=2)
cells = samples.counts(300, 60)

def told(model, record):
    if record["epoch"] == 2:
        print("fitting", flush=True)

try:
    model.fit(cells, callbacks=[told])
except KeyboardInterrupt:
    folded = model.fold_in_users(cells)
    np.testing.assert_allclose(folded.factors, model.user_factors_, atol=1e-5)
    assert 2 <= model.n_epochs_ < 10**9
    assert (model.recommend(k=5)[0] >= 0).all()
    print("usable", flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C reaches a child by SIGINT")
@pytest.mark.parametrize(("name", "solver"), [("learned", "cg"), ("linear", "cholesky")])
def test_control_c_leaves_a_model_that_can_be_used(name, solver):
    child = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, os.path.dirname(__file__), name, solver],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "fitting\n"
        os.kill(child.pid, signal.SIGINT)
        shown, complaint = child.communicate(timeout=60)
    finally:
        child.kill()
    assert (shown, child.returncode) == ("usable\n", 0), complaint


@pytest.mark.parametrize("name", ["EASE", "SparseEASE", "ItemKNN", "RP3Beta",
                                  "GraphFilter", "MultDAE", "MultVAE", "RecVAE", "SoftmaxMF",
                                  "BPR"])
def test_dislikes_alone_are_no_choices(name):
    cells = sp.csr_array(([-1.0, -2.0, 0.0], ([0, 1, 2], [0, 1, 1])), shape=(3, 2))
    with pytest.raises(ValueError, match="at least one value above 0, got none"):
        getattr(mfcore, name)().fit(cells)
