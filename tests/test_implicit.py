"""`ImplicitMF` minimises its formula, and the published losses of the libraries it is like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import samples
import scipy.sparse as sp
from sklearn.base import clone

from mfcore import ImplicitMF, Ratings
from mfcore.parallel import Pool

CASES = sorted(samples.IMPLICIT)
CONVERGED = {"solver": "cholesky", "n_epochs": 4000, "tol": 1e-15, "dtype": "float64",
             "init_scale": 1.0, "random_state": 0, "n_threads": 1}


# ------------------------------------------------------- the formula, written out densely

def naive_terms(model: ImplicitMF, ratings: Ratings) -> dict[str, float]:
    count, known = samples.dense(ratings.by_user), samples.stored(ratings.by_user)
    size, n_users, n_items = np.abs(count) / model.rating_scale_, *count.shape
    confidence = {"linear": 1 + model.alpha * size, "log": 1 + model.alpha * np.log(1 + size),
                  "raw": model.alpha * size}[model.confidence]
    given = known if ratings.weights is None else \
        samples.dense(ratings.by_user, ratings.weights)
    P, Q = model.user_factors_.astype(float), model.item_factors_.astype(float)
    S, w0 = P @ Q.T, model.unknown_weight
    w, wanted = given * confidence, 1.0 * (count > 0)
    rated = known & (given > 0)
    # What stored cells cost and what the others do: `whole_matrix` adds w0 s² to the first.
    over = w0 * (S ** 2)[known].sum() if model.whole_matrix else 0.0
    terms = {"known": (w * (wanted - S) ** 2)[known].sum() + over,
             "unknown": w0 * (S ** 2)[~known].sum(),
             "penalty": penalty(model, rated.sum(1), P, w0 * n_items)
             + penalty(model, rated.sum(0), Q, w0 * n_users)}
    return {"total": sum(terms.values()), **terms}


def penalty(model: ImplicitMF, counts: np.ndarray, X: np.ndarray, added: float) -> float:
    nu = {"none": 0, "count": 1}.get(model.reg_scaling, model.reg_scaling)
    added = 0 if isinstance(model.reg_scaling, str) else added
    return sum(model.reg_ * max(n + added, 1) ** nu * (x @ x)
               for n, x in zip(counts, X, strict=True))


@pytest.mark.kernel
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("scaling", ["none", "count", 0.6])
@pytest.mark.parametrize("whole", [False, True], ids=["", "whole"])
@pytest.mark.parametrize("w0", [0.0, 0.4, 1.7])
@pytest.mark.parametrize("confidence", ["linear", "log", "raw"])
def test_the_objective_is_the_formula_of_the_docstring(confidence, w0, whole, scaling, weighted):
    cells = samples.counts(7, 6)
    ratings = Ratings(cells, weights=samples.weights(cells) if weighted else None)
    model = ImplicitMF(2, alpha=2.3, confidence=confidence, unknown_weight=w0,
                       whole_matrix=whole, reg=0.4, reg_scaling=scaling, n_epochs=2,
                       init_scale=1.0, dtype="float64", random_state=0, n_threads=1)
    model.fit(ratings)
    assert model.objective() == pytest.approx(naive_terms(model, ratings), rel=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_the_objective_is_the_formula_in_single_precision_too(name):
    model = samples.fitted(name)
    assert model.user_factors_.dtype == model.item_factors_.dtype == np.float32
    assert model.objective() == pytest.approx(naive_terms(model, model.ratings_), rel=1e-5)


def test_counts_of_zero_are_no_preference():
    """A stored 0 has p = 0: with the confidence of an absent cell it is one."""
    cells = samples.counts()
    assert (cells.data == 0).any()
    without = Ratings(cells).select_cells(cells.data > 0)
    kept, dropped = (samples.fitted("linear", ratings) for ratings in (cells, without))
    np.testing.assert_allclose(kept.user_factors_, dropped.user_factors_, atol=1e-5)
    np.testing.assert_allclose(kept.item_factors_, dropped.item_factors_, atol=1e-5)


def test_negative_counts_are_refused_or_dislikes_as_told():
    cells = samples.counts()
    cells.data[::3] *= -1
    with pytest.raises(ValueError, match=r"counts must be >= 0.*negatives='zero'"):
        ImplicitMF(3).fit(cells)
    model = ImplicitMF(3, negatives="zero", alpha=5.0, reg=0.1, random_state=0).fit(cells)
    assert model.objective()["total"] == pytest.approx(
        naive_terms(model, model.ratings_)["total"], rel=1e-5)
    users, items = cells.nonzero()
    scores = model.predict(users, items)
    signs = cells.data[cells.data != 0] > 0
    assert scores[signs].mean() > scores[~signs].mean() + 0.5


def test_counts_of_zero_and_below_alone_are_refused():
    cells = samples.counts()
    cells.data[:] = 0
    with pytest.raises(ValueError, match="at least one count above 0"):
        ImplicitMF(3).fit(cells)


def test_new_rows_with_negative_counts_are_refused_too():
    model = samples.fitted("linear")
    row = samples.counts(1, 8)
    row.data[:] = -1
    with pytest.raises(ValueError, match="counts must be >= 0"):
        model.fold_in_users(row)


# ------------------------------------------------------------------------- explaining

@pytest.mark.parametrize("solver", ["cg", "cholesky"])
@pytest.mark.parametrize("name", CASES)
def test_a_score_is_the_sum_of_the_contributions_of_what_was_counted(name, solver):
    """Hu, Koren, Volinsky 2008, section 5: nothing else adds to a score."""
    model = samples.fitted(name, solver=solver, dtype="float64")
    for user in (0, 2, samples.SILENT_USER, 7):
        for item in (0, 5):
            score, items, contributions = model.explain(user, item, k=99)
            assert score == pytest.approx(contributions.sum(), rel=1e-9, abs=1e-12)
            assert len(items) == samples.stored(model.ratings_.by_user)[user].sum()


def test_an_item_without_preference_contributes_nothing():
    model = samples.fitted("linear", dtype="float64")
    zero = model.ratings_.by_user.indices[1]                 # the stored zero, of user 0
    _, items, contributions = model.explain(0, 5, k=99)
    assert contributions[items == zero] == 0
    assert (contributions[items != zero] != 0).all()


# ------------------------------------------------------- the losses of other libraries

def loss_of_implicit(cells: sp.csr_array, P: np.ndarray, Q: np.ndarray, *, alpha: float,
                     reg: float) -> float:
    """Σ_ui c (p − s)² + reg (‖P‖² + ‖Q‖²); c = |alpha·r| where stored, else 1; p = r > 0."""
    R, S = samples.dense(cells), P @ Q.T
    c = np.where(samples.stored(cells), np.abs(alpha * R), 1.0)
    return float((c * ((R > 0) - S) ** 2).sum() + reg * ((P ** 2).sum() + (Q ** 2).sum()))


def loss_of_spark(cells: sp.csr_array, P: np.ndarray, Q: np.ndarray, *, alpha: float,
                  reg: float) -> float:
    """Σ_ui c (p − s)² + reg (Σ n_u ‖P_u‖² + Σ n_i ‖Q_i‖²); c = 1 + alpha·r; n counts r > 0."""
    R, S = samples.dense(cells), P @ Q.T
    liked = R > 0
    ridge = liked.sum(1) @ (P ** 2).sum(1) + liked.sum(0) @ (Q ** 2).sum(1)
    return float(((1 + alpha * np.abs(R)) * (liked - S) ** 2).sum() + reg * ridge)


def loss_of_ials(cells: sp.csr_array, P: np.ndarray, Q: np.ndarray, *, unknown_weight: float,
                 reg: float, nu: float) -> float:
    """Σ_S (s − 1)² + α₀ Σ_all s² + λ Σ_u (n_u + α₀ n_items)^ν ‖P_u‖² + items alike."""
    liked, S = samples.stored(cells), P @ Q.T
    n_users, n_items = liked.shape
    ridge = (liked.sum(1) + unknown_weight * n_items) ** nu @ (P ** 2).sum(1) \
        + (liked.sum(0) + unknown_weight * n_users) ** nu @ (Q ** 2).sum(1)
    return float(((S - 1) ** 2)[liked].sum() + unknown_weight * (S ** 2).sum() + reg * ridge)


def positive(cells: sp.csr_array) -> sp.csr_array:
    return Ratings(cells).select_cells(cells.data > 0).by_user


def binary() -> sp.csr_array:
    cells = positive(samples.counts())
    return sp.csr_array((np.ones(cells.nnz), cells.indices, cells.indptr), cells.shape)


def with_dislikes() -> sp.csr_array:
    cells = samples.counts()
    cells.data[::5] *= -1
    return cells


LIKE: dict[str, tuple[Any, Callable[..., float], dict[str, float], sp.csr_array]] = {
    "implicit": (ImplicitMF.like_implicit, loss_of_implicit, {"alpha": 2.3, "reg": 0.4},
                 samples.counts()),
    "implicit, dislikes": (ImplicitMF.like_implicit, loss_of_implicit,
                           {"alpha": 2.3, "reg": 0.4}, with_dislikes()),
    "Spark": (ImplicitMF.like_spark, loss_of_spark, {"alpha": 2.3, "reg": 0.4},
              positive(samples.counts())),
    "iALS": (ImplicitMF.like_ials, loss_of_ials,
             {"unknown_weight": 0.3, "reg": 0.02, "nu": 1.0}, binary()),
    "iALS, ν = 0.6": (ImplicitMF.like_ials, loss_of_ials,
                      {"unknown_weight": 0.3, "reg": 0.02, "nu": 0.6}, binary()),
}


@pytest.mark.parametrize("library", LIKE)
def test_the_objective_moves_as_the_published_loss_does(library):
    make, loss, params, cells = LIKE[library]
    states = []
    for seed in range(4):
        model = make(3, **params, n_epochs=seed + 1, init_scale=2.0, dtype="float64",
                     random_state=seed, n_threads=1).fit(cells)
        published = loss(cells, model.user_factors_, model.item_factors_, **params)
        states.append((model.objective()["total"], published))
    ours, published = np.diff(states, axis=0).T
    assert np.abs(published).min() > 1e-3 * states[0][1]
    np.testing.assert_allclose(ours, published, rtol=1e-8)


@pytest.mark.parametrize("solver", ["cg", "cholesky"])
@pytest.mark.parametrize("library", LIKE)
def test_the_published_loss_is_flat_where_the_fit_ends(library, solver):
    make, loss, params, cells = LIKE[library]
    model = make(3, **params, **{**CONVERGED, "solver": solver}).fit(cells)
    P, Q = model.user_factors_, model.item_factors_
    assert min(np.abs(P).max(), np.abs(Q).max()) > 0.1
    by_user = samples.slope(lambda X: loss(cells, X, Q, **params), P)
    by_item = samples.slope(lambda X: loss(cells, P, X, **params), Q)
    np.testing.assert_allclose(by_user, 0, atol=2e-5)
    np.testing.assert_allclose(by_item, 0, atol=2e-5)


@pytest.mark.parametrize("make", [ImplicitMF.like_implicit, ImplicitMF.like_spark,
                                  ImplicitMF.like_ials])
def test_a_model_like_another_is_an_ordinary_one(make):
    model = make(5, reg=0.3, n_epochs=2, random_state=1)
    assert type(model) is ImplicitMF
    assert clone(model).get_params() == model.get_params()
    assert (model.n_factors, model.reg, model.n_epochs) == (5, 0.3, 2)


# -------------------------------------------------------------------- implicit, itself

def theirs(cells: sp.csr_array, start: tuple[np.ndarray, np.ndarray], n_epochs: int) -> Any:
    """implicit's users and items after fitting the transposed matrix: it moves users first."""
    als = pytest.importorskip("implicit.cpu.als", reason="implicit is not installed")
    with Pool(1):                              # or it warns
        peer = als.AlternatingLeastSquares(
            factors=start[0].shape[1], regularization=0.4, alpha=2.3, dtype=np.float64,
            use_cg=False, iterations=n_epochs, num_threads=1)
    peer.item_factors, peer.user_factors = (X.copy() for X in start)
    with Pool(1):
        peer.fit(sp.csr_matrix(cells.T), show_progress=False)
    return peer.item_factors, peer.user_factors


def started(cells: sp.csr_array, **params: Any) -> tuple[ImplicitMF, tuple[np.ndarray, ...]]:
    """A fitted model, and the factors from which it began (a documented draw)."""
    k, scale = 3, params["init_scale"] / np.sqrt(3)
    random = np.random.default_rng(params["random_state"])
    start = tuple(scale * random.standard_normal((n, k)) for n in cells.shape)
    return ImplicitMF.like_implicit(k, alpha=2.3, reg=0.4, **params).fit(cells), start


@pytest.mark.parametrize("cells", [samples.counts(), with_dislikes()], ids=["", "dislikes"])
def test_implicit_finds_the_same_users_from_the_same_items(cells):
    model, start = started(cells, **{**CONVERGED, "n_epochs": 4, "tol": None})
    P, model.item_factors_ = theirs(cells, start, 4)         # (it moves our users last)
    np.testing.assert_allclose(model.fold_in_users(cells).factors, P, rtol=1e-3, atol=1e-5)


def test_implicit_arrives_at_the_same_loss():
    cells = samples.counts(40, 30)
    model, start = started(cells, **{**CONVERGED, "n_epochs": 300, "tol": None, "solver": "cg"})
    P, Q = theirs(cells, start, 300)
    ours = loss_of_implicit(cells, model.user_factors_, model.item_factors_, alpha=2.3, reg=0.4)
    assert ours == pytest.approx(loss_of_implicit(cells, P, Q, alpha=2.3, reg=0.4), rel=1e-3)


# ------------------------------------------------------- counts over four orders of magnitude

@pytest.mark.parametrize("n_factors", [16, 200])
def test_rows_of_heavy_counts_end_where_folding_them_in_ends(n_factors):
    random = np.random.default_rng(3)
    cells = sp.random_array((600, 300), density=0.05, rng=random, format="csr")
    cells.data = np.ceil(np.exp(random.normal(2.0, 2.0, cells.nnz)))
    model = ImplicitMF(n_factors, random_state=0, n_threads=1).fit(Ratings(cells))
    folded, fitted = model.fold_in_users(cells).factors, model.user_factors_
    far = np.linalg.norm(folded - fitted, axis=1)
    assert (far < 1e-3 * np.linalg.norm(folded, axis=1).max()).all()
