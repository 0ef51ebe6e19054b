"""Ratings of any scale, constant or subnormal ones, singular rows: numbers, or a sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import samples
import scipy.sparse as sp

from mfcore import EASE, BayesianMF, ImplicitMF, MatrixFactorization, Popularity, Ratings, evaluate
from mfcore.parallel import Pool
from mfcore.validation import DivergenceError, NotFittedError

EPS = 2.0**-23                                # of float32
SHAPE = (12, 9)
PAIRS = [grid.ravel() for grid in np.indices(SHAPE)]


def changed(change: Any) -> sp.csr_array:
    """The sample with other values in its cells."""
    cells = samples.counts(*SHAPE).astype(np.float64)
    cells.data = change(cells.data)
    return cells


def blockbuster() -> sp.csr_array:
    """The sample with an item that everybody has rated."""
    dense = samples.dense(samples.counts(*SHAPE))
    dense[:, 0] = 5
    return sp.csr_array(dense)


DATA: dict[str, sp.csr_array] = {
    "plain": changed(lambda values: values),
    "tiny": changed(lambda values: values * 1e-6),
    "huge": changed(lambda values: values * 1e6),
    "tiny and huge": changed(lambda values: np.where(np.arange(len(values)) % 3, 1e-6, 1e6)),
    "constant": changed(lambda values: np.full_like(values, 4)),
    "zeros": changed(np.zeros_like),
    "blockbuster": blockbuster(),
    "one item": sp.csr_array(np.pad(np.full((12, 1), 3.0), ((0, 0), (0, 8)))),
    "subnormal in float32": changed(lambda values: values * 1e-40),
    "subnormal in float64": changed(lambda values: values * 1e-310),
}
SOLVERS = ("cg", "cholesky", "subspace", "sgd", "adam", "lbfgs")
MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    **{made.__name__: (made, {}) for made in samples.EVERY},
    **{f"MatrixFactorization, {solver}": (MatrixFactorization, {"solver": solver})
       for solver in SOLVERS[1:]},
    **{f"MatrixFactorization, {solver}, unknown cells": (
        MatrixFactorization, {"solver": solver, "unknown_weight": 0.3}) for solver in SOLVERS},
    **{f"ImplicitMF, {solver}": (ImplicitMF, {"solver": solver})
       for solver in ("cholesky", "subspace")}}
# Who needs positive values.
POSITIVE = ("ImplicitMF", "BPR", "SoftmaxMF", "GraphFilter", "EASE", "SparseEASE", "ItemKNN",
            "RP3Beta", "PureSVD", "MultDAE", "MultVAE", "RecVAE")


def assert_finite(model: Any, cells: sp.csr_array) -> None:
    """Every number that a model gives is finite; padding is −∞, and nothing else is."""
    assert np.isfinite(model.predict(*PAIRS)).all()
    for similarity in ("dot", "cosine"):
        scores = model.recommend(k=9, similarity=similarity)[1]
        assert (np.isfinite(scores) == (scores > -np.inf)).all()
    assert np.isfinite(model.recommend(k=2, exclude_seen=False)[1]).all()
    assert np.isfinite(model.recommend(ratings=cells, k=2, exclude_seen=False)[1]).all()
    assert all(np.isfinite(record["loss"]) for record in model.history_ if record["loss"])
    if getattr(model, "item_factors_", np.empty((0, 0))).shape[1]:
        assert np.isfinite(model.similar_items(range(SHAPE[1]), 8)[1]).all()
    found = evaluate(model, cells, k=3, exclude_seen=False)
    assert all(np.isfinite(value) for value in found.values())


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("name", MODELS)
def test_ratings_of_any_scale_give_numbers_or_a_sentence_and_never_nan(name, data):
    made, params = MODELS[name]
    model = samples.small(made, **params)
    if data == "zeros" and name.startswith(POSITIVE):
        with pytest.raises(ValueError, match="hold at least one ((count|value) above 0|choice)"):
            model.fit(DATA[data])
    elif data.startswith("subnormal") and model.predicts_ratings and name != "BiasOnly":
        with pytest.raises(DivergenceError, match=r"deviation between .* dividing them by about"):
            model.fit(DATA[data])
    else:
        assert_finite(model.fit(DATA[data]), DATA[data])


def test_steps_that_diverge_at_once_leave_nothing():
    model = samples.small(MatrixFactorization, solver="sgd", learning_rate=100.0)
    with pytest.raises(DivergenceError, match="rescale the ratings, raise reg or lower"):
        model.fit(DATA["plain"])
    with pytest.raises(NotFittedError):       # there is no epoch to go back to
        model.predict(*PAIRS)


def test_steps_that_diverge_later_leave_the_last_finite_epoch():
    model = samples.small(MatrixFactorization, solver="sgd", n_epochs=40, learning_rate=0.1,
                          reg=0.0, schedule="constant", init_scale=3.0)
    with pytest.raises(DivergenceError, match=r"the loss of epoch \d+ is (nan|inf)"):
        model.fit(DATA["plain"])
    assert_finite(model, DATA["plain"])


# ------------------------------------------------------------------- scales of a fit

class Rounded(np.random.Generator):
    """Draws in float64 what it draws in float32, so that both fits start from one place."""

    def standard_normal(self, size: Any = None, dtype: Any = np.float64, out: Any = None) -> Any:
        return super().standard_normal(size, dtype=np.float32).astype(dtype)


def by_precision(name: str, cells: Any, **changes: Any) -> tuple[Any, Any]:
    """A model fitted in float32 and in float64 from the same start."""
    made, params = MODELS[name]
    models = [samples.small(made, **params, **changes, dtype=dtype)
              for dtype in ("float32", "float64")]
    for model in models:
        if "random_state" in model.get_params():
            model.set_params(random_state=Rounded(np.random.PCG64(0)))
        model.fit(cells)
    return models[0], models[1]


def condition(model: Any) -> float:
    """The largest condition number of the row systems of a quadratic model."""
    ratings, found = model.ratings_, [1.0]
    users, items, core = model.users_, model.items_, model.answers().core
    for given, sides in ((ratings, (users, items)), (ratings.transposed, (items, users))):
        systems, _, held = core.row_systems(given, *sides, Pool(1))
        found += [np.linalg.cond(systems.system(row, held[row], Pool(1))[0])
                  for row in range(len(held))]
    return max(found)


def apart(single: Any, double: Any, cells: Any) -> tuple[float, float]:
    """How far scores are apart, in ε of the largest rating, score or first vector; and κ."""
    wanted = double.predict(*PAIRS)
    size = max(np.abs(cells.data).max(), np.abs(wanted).max(), double.get_params().get(
        "init_scale", 0.0)**2)
    kappa = condition(double) if isinstance(double, (MatrixFactorization, ImplicitMF)) and \
        double.get_params().get("solver") in ("cg", "cholesky", "subspace") else 1.0
    return np.abs(single.predict(*PAIRS) - wanted).max() / (EPS * size), kappa


# BayesianMF draws other numbers in another precision; the classes without a `dtype` have one.
PRECISE = [name for name, (made, _) in MODELS.items() if made is not BayesianMF
           and "dtype" in made._parameter_names()]


@pytest.mark.parametrize(("name", "data"), [
    (name, data) for name in PRECISE for data in (
        "plain", "tiny", "huge", "constant", "blockbuster")])
def test_single_precision_is_within_the_stated_bound_of_double_precision(name, data):
    """|s₃₂ − s₆₄| ≤ 16 ε κ S: see "Precision" in docs/limits.md."""
    error, kappa = apart(*by_precision(name, DATA[data]), DATA[data])
    assert error <= 16 * kappa


@pytest.mark.parametrize("made", [MatrixFactorization, ImplicitMF])
@pytest.mark.parametrize("solver", ["cg", "cholesky", "subspace"])
def test_a_penalty_of_a_million_leaves_the_biases(made, solver):
    bias = {"bias_reg": 1e6} if made is MatrixFactorization else {}
    model = samples.small(made, solver=solver, reg=1e6, **bias).fit(DATA["plain"])
    assert_finite(model, DATA["plain"])
    assert np.abs(model.user_factors_).max() < 1e-4
    wanted = model.global_mean_ if made is MatrixFactorization else 0.0
    np.testing.assert_allclose(model.predict(*PAIRS), wanted, atol=1e-3)


# --------------------------------------------------------------- rows that are singular

@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("solver", ["cg", "cholesky", "subspace"])
@pytest.mark.parametrize("n_rated", [1, 3, 8])
def test_a_row_of_fewer_ratings_than_factors_without_a_penalty_fits_them_with_the_shortest_vector(
        solver, dtype, n_rated):
    model = samples.small(MatrixFactorization, n_factors=16, bias=None, reg=0.0, dtype=dtype,
                          solver=solver, init_scale=1.0).fit(DATA["plain"])
    model.item_factors_ = np.random.default_rng(5).normal(size=(9, 16)).astype(dtype)
    row = sp.csr_array((np.arange(1.0, n_rated + 1), np.arange(n_rated), [0, n_rated]),
                       shape=(1, SHAPE[1]))
    X = model.item_factors_[:n_rated].astype(np.float64)
    wanted = np.linalg.pinv(X) @ row.data
    got = model.fold_in_users(row).factors[0]
    bound = 16 * np.finfo(dtype).eps * np.linalg.cond(X)**2
    assert np.abs(X @ got - row.data).max() <= bound * row.data.max()
    assert np.linalg.norm(got - wanted) <= 0.01 * np.linalg.norm(wanted)


def test_a_row_between_two_vectors_that_are_almost_one_is_as_exact_in_float32_as_in_float64():
    vectors = np.array([[1.0, 1.0, 0.5], [1.0, 1.0 + 2**-10, 0.5], [0.3, -0.2, 1.0]], np.float32)
    row = sp.csr_array([[1.0, 2.0, 3.0]])
    folded = []
    for dtype in ("float32", "float64"):
        model = samples.small(MatrixFactorization, n_factors=3, bias=None, reg=0.0, dtype=dtype
                              ).fit(sp.csr_array(np.ones((2, 3))))
        model.item_factors_ = vectors.astype(dtype)
        folded.append(model.fold_in_users(row).factors[0])
    np.testing.assert_allclose(folded[1], np.linalg.solve(vectors.astype(float), [1, 2, 3]),
                               rtol=1e-7)
    np.testing.assert_allclose(folded[0], folded[1], rtol=1e-6)


# The matrix of implicit's own test of factorizations: its rank is the number of factors.
OWN = np.array([[1, 1, 0, 1, 0, 0], [0, 1, 1, 1, 0, 0], [1, 0, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0],
                [0, 0, 1, 1, 0, 1], [0, 1, 0, 0, 0, 1], [0, 0, 0, 0, 1, 1]], float)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("solver", ["cg", "cholesky", "subspace"])
def test_without_a_penalty_an_exact_factorization_is_found_from_every_start(solver, dtype):
    for C in (OWN, (np.random.default_rng(4).random((7, 6)) < 0.45).astype(float)):
        for seed in range(10):
            model = ImplicitMF.like_implicit(6, reg=0, alpha=2.0, solver=solver, dtype=dtype,
                                             random_state=seed, n_threads=1).fit(sp.csr_array(C))
            assert np.abs(model.user_factors_ @ model.item_factors_.T - C).max() < 1e-3


@pytest.mark.parametrize("made", [MatrixFactorization, ImplicitMF])
def test_rounding_a_large_side_moves_loss_and_scores_as_little_as_stated(made, planted,
                                                                         monkeypatch):
    fits = {}
    for dtype in ("float32", "float64"):
        for large in (0, 2**40):
            monkeypatch.setattr("mfcore.solvers.als.LARGE", large)
            fits[dtype, large] = made(16, reg=2.0, dtype=dtype, n_epochs=8,
                                      random_state=0).fit(planted.ratings)
    rounded, plain = (fits["float32", large] for large in (0, 2**40))
    scores = [(model.user_factors_ @ model.item_factors_.T).ravel() for model in (rounded, plain)]
    apart = np.sqrt(np.mean((scores[0] - scores[1])**2)) / scores[1].std()
    assert 0 < apart < 0.01
    loss = [model.objective(planted.ratings)["total"] for model in (rounded, plain)]
    assert loss[0] == pytest.approx(loss[1], rel=1e-5)
    np.testing.assert_array_equal(*(fits["float64", large].user_factors_ for large in (0, 2**40)))


def test_penalties_of_the_size_of_the_defaults_make_no_weak_rows(planted, monkeypatch):
    solved = []
    monkeypatch.setattr("mfcore.kernels.exact.solve_weak_rows", lambda *given: solved.append(given))
    for made in (MatrixFactorization, ImplicitMF):
        for k in (8, 64):
            made(k, solver="cholesky", n_epochs=3, random_state=0).fit(planted.ratings)
    assert not solved


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("vectors", [[[1.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]])
def test_the_score_of_a_singular_row_can_be_explained(vectors, dtype):
    model = MatrixFactorization(2, bias=None, reg=0.0, dtype=dtype).fit(sp.csr_array([[1.0, 2.0]]))
    model.item_factors_ = np.array(vectors, dtype)
    model.user_factors_ = model.fold_in_users(model.ratings_).factors
    score, columns, parts = model.explain(0, 1)
    assert sorted(columns) == [0, 1]
    assert parts.sum() == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize(("made", "solver"), [
    *[(MatrixFactorization, solver) for solver in SOLVERS],
    *[(ImplicitMF, solver) for solver in ("cg", "cholesky", "subspace")]])
def test_no_penalty_and_more_factors_than_ratings_give_numbers(made, solver):
    for data in ("plain", "constant", "one item", "blockbuster"):
        model = samples.small(made, solver=solver, n_factors=16, reg=0.0).fit(DATA[data])
        assert_finite(model, DATA[data])


# ------------------------------------------------------------------ very many ratings

MANY = 100_000
QUICK = {"NeuralMF": {"batch_size": 50_000, "n_epochs": 1, "n_negatives": 1},
         "SoftmaxMF": {"batch_size": 50_000, "n_epochs": 1, "n_negatives": 64}}


# Whose memory, or whose work for a user, goes with the square of its ratings.
PAIRWISE = ["EASE", "SparseEASE", "ItemKNN", "RP3Beta"]


@pytest.mark.parametrize("made", [made for made in samples.EVERY
                                  if made.__name__ not in PAIRWISE])
def test_a_user_of_a_hundred_thousand_ratings_is_served_like_others(made):
    values = np.random.default_rng(0).integers(1, 6, MANY).astype(np.float32)
    items = np.arange(MANY)
    few = [7, 70, 700, 7000]
    cells = sp.csr_array((np.r_[values, values[few]], np.r_[items, few], [0, MANY, MANY + 4]),
                         shape=(2, MANY + 10))
    known = set(made._parameter_names())
    model = samples.small(made, **{name: value for name, value in QUICK.get(
        made.__name__, {}).items() if name in known}).fit(cells)
    assert np.isfinite(model.predict([0, 0, 1], [0, MANY + 9, 50])).all()
    ids, scores = model.recommend([0, 1], k=20)
    assert (np.sort(ids[0])[10:] == np.arange(MANY, MANY + 10)).all()
    assert (ids[0][10:] == -1).all()
    assert not set(ids[1]) & set(few)
    assert np.isfinite(scores[1]).all()


@pytest.mark.parametrize("solver", ["cg", "cholesky", "subspace"])
def test_a_row_of_a_hundred_thousand_ratings_is_as_exact_as_a_short_one(solver):
    random = np.random.default_rng(1)
    cells = sp.csr_array((random.integers(1, 6, MANY).astype(np.float32), np.arange(MANY),
                          [0, MANY]), shape=(1, MANY))
    folded = []
    for dtype in ("float32", "float64"):
        model = samples.small(MatrixFactorization, n_factors=8, solver=solver, dtype=dtype,
                              n_epochs=1).fit(cells)
        model.item_factors_ = np.random.default_rng(2).normal(size=(MANY, 8)).astype(
            np.float32).astype(dtype)
        model.item_bias_ = np.zeros(MANY, dtype)
        folded.append(model.fold_in_users(cells).factors[0])
    systems, _, held = model.answers().core.row_systems(
        model.ratings_, model.users_, model.items_, Pool(1))
    kappa = np.linalg.cond(systems.system(0, held[0], Pool(1))[0])
    assert np.abs(folded[0] - folded[1]).max() <= 16 * kappa * EPS * max(
        np.abs(folded[1]).max(), 1.0)


def test_too_many_items_for_a_dense_inverse_are_refused_before_any_work():
    cells = sp.csr_array(([1.0], [0], [0, 1]), shape=(1, MANY))
    with pytest.raises(ValueError, match="memory must be at least"):
        EASE().fit(cells)


# --------------------------------------------------------------------- equal scores

def test_scores_that_are_all_equal_list_items_in_order_and_measure_as_any_order():
    cells = sp.csr_array(np.ones(SHAPE))
    model = Popularity().fit(cells)
    ids, scores = model.recommend(k=4, exclude_seen=False)
    assert (ids == np.arange(4)).all()
    assert (scores == scores[0, 0]).all()
    test = Ratings(sp.csr_array((np.ones(12), np.arange(12) % 9, np.arange(13)), shape=SHAPE))
    found = evaluate(model, test, k=3, metrics=["recall", "ndcg"], exclude_seen=False)
    assert found["recall@3"] == pytest.approx(3 / SHAPE[1])


def test_constant_ratings_are_predicted_exactly_and_have_no_spread():
    for name in ("BiasOnly", "MatrixFactorization"):
        model = samples.small(MODELS[name][0]).fit(DATA["constant"])
        found = evaluate(model, DATA["constant"], metrics=["rmse", "mae"])
        assert found["rmse"] < 1e-5
