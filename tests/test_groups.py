"""Group vectors: a closed form that is the minimum, two forms that are one function."""

from __future__ import annotations

from dataclasses import replace

import naive
import numpy as np
import pytest
import samples
import scipy.sparse as sp
from naive import problem, random_problem, scores

from mfcore.objectives import ridge as ridges
from mfcore.objectives.band import Band
from mfcore.objectives.factors import Factors
from mfcore.objectives.penalty import Penalty, Prior, averages
from mfcore.objectives.ridge import Design, Shifted, ridge_solver
from mfcore.parallel import Pool
from mfcore.solvers.als import ALS
from mfcore.solvers.gradient import LBFGS
from mfcore.solvers.minibatch import Adam
from mfcore.solvers.sgd import SGD
from mfcore.validation import DivergenceError, FitWarning

CASES = {
    "learned bias": random_problem(1, learns_bias=True, n_features=(3, 2)),
    "fixed bias": random_problem(2, r0=2.3, n_features=(3, 2)),
    "weighted unknown": random_problem(3, w0=0.45, r0=1.7, learns_bias=True, n_features=(2, 4)),
    "priors of their own": random_problem(4, learns_bias=True, means="rows", n_features=(3, 3)),
    "one side": random_problem(5, learns_bias=True, n_features=(3, 0)),
}


@pytest.fixture(params=CASES)
def case(request):
    """Each of the cases: the dense problem, and a point."""
    return CASES[request.param]


@pytest.fixture
def pool():
    with Pool(1) as pool:
        yield pool


def one_hot(groups_of_rows: np.ndarray, n_groups: int) -> sp.csr_array:
    """One group a row."""
    n = len(groups_of_rows)
    return sp.csr_array((np.ones(n), (np.arange(n), groups_of_rows)), shape=(n, n_groups))


def test_solving_for_the_groups_zeroes_their_gradient(case, pool):
    dense, at = case
    here = at.copy()
    problem(dense).solve_groups(here, pool)
    gradient = dense.gradient(here)
    for name in ("G", "H", "g", "h") if dense.learns_bias else ("G", "H"):
        np.testing.assert_allclose(getattr(gradient, name), 0, atol=1e-10, err_msg=name)
    assert dense.value(here) < dense.value(at)


def test_where_biases_are_fixed_groups_have_none(pool):
    dense, at = CASES["fixed bias"]
    here = at.copy()
    problem(dense).solve_groups(here, pool)
    np.testing.assert_array_equal(here.g, at.g)
    np.testing.assert_array_equal(here.h, at.h)


def test_the_hierarchical_form_is_the_sum_of_own_and_group_vectors(case, pool):
    dense, at = case
    value = problem(dense).value(at, pool)
    users, items = dense.users, dense.items
    base = (users.means, users.bias_mean, items.means, items.bias_mean)
    F, E = (np.zeros((len(X), 0)) if side.features is None else side.features
            for side, X in ((users, at.P), (items, at.Q)))
    U, V = at.P - F @ at.G - base[0], at.Q - E @ at.H - base[2]
    own = np.sum(users.reg * np.sum(U ** 2, 1)) + np.sum(items.reg * np.sum(V ** 2, 1)) \
        + 0.9 * (np.sum(at.G ** 2) + np.sum(at.H ** 2))
    if dense.learns_bias:
        b, c = at.beta - F @ at.g - base[1], at.gamma - E @ at.h - base[3]
        own += users.bias_reg @ b ** 2 + items.bias_reg @ c ** 2 \
            + 0.6 * (np.sum(at.g ** 2) + np.sum(at.h ** 2))
    S = (U + F @ at.G + base[0]) @ (V + E @ at.H + base[2]).T + at.beta[:, None] + at.gamma
    np.testing.assert_allclose(S, scores(at))
    assert value.penalty == pytest.approx(own, rel=1e-12)


def test_a_group_vector_is_the_shrunken_mean_of_its_members(pool):
    random = np.random.default_rng(0)
    of = np.array([0, 0, 1, 0, 1, 0])                       # nobody is in group 2
    P, reg = random.normal(size=(6, 4)), random.uniform(0.5, 3, 6)
    prior = Prior(Penalty(reg, reg, np.zeros((1, 4)), np.zeros(1)), one_hot(of, 3), 1.3, 0.8)
    G, g = np.ones((3, 4)), np.ones(3)
    prior.solve(P, P[:, 0].copy(), G, g, True, pool)
    for group in range(3):
        members = of == group
        total = reg[members].sum()
        mean = reg[members] @ P[members] / (total + 1.3)
        np.testing.assert_allclose(G[group], mean, atol=1e-14)
        assert g[group] == pytest.approx(mean[0] * (total + 1.3) / (total + 0.8), abs=1e-14)
    assert not G[2].any()


def converged(dense, solver, at, pool):
    """The point where a solver comes to rest, after 3000 epochs at the latest."""
    here = at.copy()
    for _ in range(60):
        for _ in range(50):
            solver.epoch(here, pool)
        if max(abs(block).max(initial=0) for name, block in vars(dense.gradient(here)).items()
               if dense.learns_bias or name in "PQGH") < 1e-6:
            break
    return here


def test_at_a_stationary_point_of_the_whole_the_identity_holds(pool):
    of = np.array([0, 1, 0, 1, 1, 0, 0])
    dense, at = random_problem(7, learns_bias=True, k=2, n_features=(2, 1))
    dense = replace(dense, users=replace(dense.users, features=one_hot(of, 2).toarray()))
    here = converged(dense, LBFGS(problem(dense)), at, pool)
    for group in range(2):
        reg = np.where(of == group, dense.users.reg, 0)
        np.testing.assert_allclose(here.G[group], reg @ here.P / (reg.sum() + 0.9), atol=1e-5)


@pytest.mark.parametrize("exact", [True, False])
def test_als_comes_to_rest_where_the_gradient_of_every_block_is_zero(case, exact, pool):
    dense, at = case
    gradient = dense.gradient(converged(dense, ALS(problem(dense), exact, 20), at, pool))
    for name, block in vars(gradient).items():
        if dense.learns_bias or name in "PQGH":
            np.testing.assert_allclose(block, 0, atol=1e-5, err_msg=name)


def test_every_exact_epoch_lowers_the_value(case, pool):
    dense, at = case
    here, solver = at.copy(), ALS(problem(dense), True)
    values = [dense.value(here)]
    for _ in range(12):
        solver.epoch(here, pool)
        values.append(dense.value(here))
    assert np.diff(values).max() < 0


@pytest.mark.parametrize("of", [
    lambda dense: SGD(problem(dense), 1e-3, 1e-3, "constant", 0.0, 0),
    lambda dense: Adam(problem(dense), 1e-3, 1, random_state=0),
], ids=["sgd", "adam"])
def test_after_an_epoch_of_a_stochastic_solver_group_vectors_are_at_their_minimum(of, case, pool):
    dense, at = case
    here = at.copy()
    of(dense).epoch(here, pool)
    gradient = dense.gradient(here)
    np.testing.assert_allclose(gradient.G, 0, atol=1e-10)
    np.testing.assert_allclose(gradient.H, 0, atol=1e-10)


FEATURES = {"tall": (70, 25), "wide": (25, 70)}


@pytest.fixture(params=FEATURES)
def ridge(request):
    """F, weights of rows, penalties of features and Y, and the solution of the dense system."""
    random, (n, m) = np.random.default_rng(1), FEATURES[request.param]
    F = samples.random_array((n, m), density=0.3, rng=random, format="csr")
    weights, reg = random.uniform(0.1, 4, n), random.uniform(0.5, 2, m)
    Y = random.normal(size=(n, 3))
    dense = F.toarray()
    A = (dense.T * weights) @ dense + np.diag(reg)
    return F, weights, reg, Y, np.linalg.solve(A, dense.T @ (weights[:, None] * Y))


def test_groups_are_solved_as_the_dense_system_says(ridge, pool):
    F, weights, reg, Y, exact = ridge
    solve = ridge_solver(Design.of(F, np.dtype(float)), weights, reg)
    np.testing.assert_allclose(solve(Y, 0 * exact, 0 * Y, pool), exact, atol=1e-12)


def test_steps_from_where_groups_are_end_within_their_tolerance(ridge, pool, monkeypatch):
    F, weights, reg, Y, exact = ridge
    monkeypatch.setattr("mfcore.objectives.ridge.MOST_DENSE", 10)
    monkeypatch.setattr("mfcore.objectives.ridge.RITZ", 5)
    solve = ridge_solver(Design.of(F, np.dtype(float)), weights, reg)

    def energy(X):
        return np.sum(weights[:, None] * (F @ X) ** 2) + np.sum(reg[:, None] * X ** 2)

    found = solve(Y, 0 * exact, 0 * Y, pool)
    assert 1e-8 < energy(found - exact) / energy(exact) < ridges.FIXED ** 2
    again = solve(Y, found, F @ found, pool)                # a step at least
    assert energy(again - exact) < 0.7 * energy(found - exact)
    np.testing.assert_array_equal(solve(0 * Y, 0 * exact, 0 * Y, pool), 0)


def test_steps_are_led_by_the_inverse_along_the_vectors_that_are_known(pool):
    random = np.random.default_rng(0)
    F = random.normal(size=(300, 120)) * np.geomspace(9, 0.1, 120)
    steps = ridges.Deflated(Design.of(sp.csr_array(F), np.dtype(float)), 1e-3)
    U, _, theta = steps._found(2, pool)
    other = random.normal(size=(120, 2))
    other -= U @ (U.T @ other)                              # (for it the least of these stands)
    np.testing.assert_allclose(steps._improved(U, 0.7, pool), U / (theta + 0.7), atol=1e-12)
    np.testing.assert_allclose(steps._improved(other, 0.7, pool), other / (theta[0] + 0.7))


def test_steps_that_are_too_few_are_told_and_those_that_overflow_refused(ridge, pool, monkeypatch):
    F, weights, reg, Y, exact = ridge
    monkeypatch.setattr("mfcore.objectives.ridge.MOST_DENSE", 10)
    monkeypatch.setattr("mfcore.objectives.ridge.RITZ", 2)
    monkeypatch.setattr("mfcore.objectives.ridge.CG_STEPS", 1)
    solve = ridge_solver(Design.of(F, np.dtype(float)), weights, 1e-3 * reg)
    with pytest.warns(FitWarning, match=f"vectors of {F.shape[1]} features are not solved"):
        solve(Y, 0 * exact, 0 * Y, pool)
    with pytest.raises(DivergenceError, match="vectors of features overflow"), \
            np.errstate(over="ignore", invalid="ignore"):
        solve(1e300 * Y, 0 * exact, 0 * Y, pool)


@pytest.mark.parametrize("width", [4, 64])
@pytest.mark.parametrize("p", [1, 4, 5, 6, 9, 67])
def test_a_band_solves_every_shift_of_a_matrix(p, width, pool):
    random = np.random.default_rng(p)
    X, C = random.normal(size=(p, p + 2)), random.normal(size=(p, 3))
    band = Band.of(X @ X.T, pool, width)
    for shift in (0.3, 7.0):
        np.testing.assert_allclose(band.solve(C, shift, pool),
                                   np.linalg.solve(X @ X.T + shift * np.eye(p), C), atol=1e-9)
    np.testing.assert_allclose(band.Q.T @ band.Q, np.eye(p), atol=1e-13)


@pytest.mark.parametrize("how", ["factored", "band", "search", "one each"])
@pytest.mark.parametrize("shape", FEATURES.values(), ids=list(FEATURES))
def test_shifted_groups_are_solved_as_the_dense_system_says(how, shape, pool, monkeypatch):
    random = np.random.default_rng(2)
    F = samples.random_array(shape, density=0.3, rng=random, format="csr")
    if how == "one each":
        F = sp.csr_array((random.normal(size=shape[0]), random.integers(0, shape[1], shape[0]),
                          np.arange(shape[0] + 1)), shape=shape)
    monkeypatch.setattr("mfcore.objectives.ridge.BAND_BYTES", 0 if how == "search" else 1e9)
    block = Shifted(Design.of(F, np.dtype(float)), 100 if how == "factored" else 1)
    Y, dense = random.normal(size=(shape[0], 2)), F.toarray()
    for kappa in (0.4, 3.0):
        exact = np.linalg.solve(dense.T @ dense + kappa * np.eye(shape[1]), dense.T @ Y)
        found = block.solve(Y, 0 * exact, np.full(shape[1], kappa), pool)
        np.testing.assert_allclose(found, exact, atol=1e-4 if how == "search" else 1e-10)


@pytest.mark.parametrize("shape", [(90, 130), (130, 90)], ids=["wide", "tall"])
def test_a_large_feature_does_not_cost_float32_the_others(shape, pool, monkeypatch):
    random = np.random.default_rng(3)
    F = samples.random_array(shape, density=0.2, rng=random, format="csr").toarray()
    F[:, 0] = 1e4 * random.random(shape[0])
    Y = random.normal(size=(shape[0], 2)).astype(np.float32)
    design = Design.of(sp.csr_array(F), np.dtype("float32"))
    F = design.rows.toarray().astype(np.float64)
    exact = np.linalg.solve(F.T @ F + np.eye(shape[1]), F.T @ Y)
    zeros = np.zeros_like(exact), 0 * Y
    ridge, block = ridge_solver(design, np.ones(shape[0]), 1.0), Shifted(design.fine, 1)
    np.testing.assert_allclose(ridge(Y, *zeros, pool), exact, atol=1e-6)
    np.testing.assert_allclose(block.solve(Y, zeros[0], np.ones(shape[1]), pool), exact, atol=1e-6)
    monkeypatch.setattr("mfcore.objectives.ridge.BAND_BYTES", 0)
    np.testing.assert_allclose(block.solve(Y, zeros[0], np.ones(shape[1]), pool), exact, atol=1e-4)
    assert Design.of(sp.csr_array(F[:, 1:]), np.dtype("float32")).fine.rows.dtype == np.float32


def test_features_too_large_for_any_precision_are_refused(pool):
    F = np.repeat(1e12 * np.random.default_rng(0).random((11, 1)), 3, axis=1)
    block, zeros = Shifted(Design.of(sp.csr_array(F), np.dtype(float))), np.zeros((3, 2))
    with pytest.raises(DivergenceError, match="give their columns standard deviations near 1"):
        block.solve(np.ones((11, 2)), zeros, np.ones(3), pool)


def test_solutions_have_the_same_bits_for_any_number_of_threads(monkeypatch):
    random = np.random.default_rng(4)
    F = samples.random_array((900, 700), density=0.05, rng=random, format="csr")
    Y, start = random.normal(size=(900, 5)), np.zeros((700, 5))
    monkeypatch.setattr("mfcore.objectives.ridge.MOST_DENSE", 10)
    monkeypatch.setattr("mfcore.objectives.band.TILE", 100)
    monkeypatch.setattr("mfcore.parallel.GRAM_ROWS", 64)

    def found(n_threads):
        design = Design.of(F, np.dtype("float32"))
        with Pool(n_threads) as pool:
            return (ridge_solver(design, np.ones(900), 0.5)(Y, start, 0 * Y, pool),
                    Shifted(design).solve(Y, start, np.full(700, 2.0), pool))

    for several in (found(2), found(8)):
        for one, other in zip(found(1), several, strict=True):
            np.testing.assert_array_equal(one, other)


def test_collinear_features_share_what_one_would_have(pool):
    F = np.repeat(np.eye(3)[[0, 1, 2, 0, 1]], 2, axis=1)              # every column twice
    prior = Prior(Penalty(np.ones(5), np.ones(5), np.zeros((1, 2)), np.zeros(1)),
                  sp.csr_array(F), 0.5)
    G = np.zeros((6, 2))
    prior.solve(np.arange(10.0).reshape(5, 2), np.zeros(5), G, np.zeros(6), False, pool)
    np.testing.assert_allclose(G[::2], G[1::2])
    np.testing.assert_allclose(2 * G[0], np.array([0 + 6, 1 + 7]) / (2 + 0.5 / 2))


def test_an_average_is_the_mean_over_members_weighted_by_the_features():
    F = sp.csr_array(np.array([[1.0, 0, 0], [3, 1, 0], [0, 2, 0]]))
    X = np.array([[2.0, 0], [4, 1], [1, 1]])
    np.testing.assert_allclose(averages(F, X), [[14 / 4, 3 / 4], [6 / 3, 1], [0, 0]])
    np.testing.assert_allclose(averages(F, X[:, 0]), [14 / 4, 2, 0])


def test_rotating_factors_and_groups_together_leaves_the_value(case, pool):
    dense, at = case
    V = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    turned = replace(at, **{name: getattr(at, name) @ V for name in "PQGH"})
    sides = [replace(side, means=side.means @ V) for side in (dense.users, dense.items)]
    rotated = replace(dense, users=sides[0], items=sides[1])
    assert problem(rotated).value(turned, pool).total == pytest.approx(
        problem(dense).value(at, pool).total)


def test_transposing_swaps_the_groups_of_users_and_of_items(case, pool):
    dense, at = case
    dense = replace(dense, users=replace(dense.users, bias_mean=0.0))
    there = naive.transposed_factors(at)
    assert problem(dense.transposed).value(there, pool).total == pytest.approx(
        problem(dense).value(at, pool).total)


def test_a_point_copies_all_its_blocks(case):
    _, at = case
    other = at.copy()
    assert isinstance(other, Factors)
    for name, block in vars(at).items():
        assert getattr(other, name) is not block
        np.testing.assert_array_equal(getattr(other, name), block)
