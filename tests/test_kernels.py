"""Each kernel against its naive twin, on inputs small enough for plain Python."""

from __future__ import annotations

from dataclasses import replace

import naive
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import Dense, problem, random_problem
from numba import njit

from mfcore.kernels import cells as cell_kernels
from mfcore.kernels import cg, exact, lapack
from mfcore.kernels import systems as small
from mfcore.kernels.options import KERNEL
from mfcore.kernels.sorting import counting_order
from mfcore.objectives.factors import Factors
from mfcore.objectives.quadratic import RowSystems
from mfcore.parallel import Pool
from mfcore.solvers.als import improve_by_cg, solve_exactly
from mfcore.validation import DivergenceError

pytestmark = pytest.mark.kernel

CASES = {
    "minimal": random_problem(1),
    "fixed bias": random_problem(2, r0=2.3),
    "learned bias": random_problem(3, r0=2.3, learns_bias=True, means="rows"),
    "weighted unknown": random_problem(4, w0=0.45, r0=1.7, means="shared"),
    "weighted unknown, learned bias": random_problem(5, w0=0.45, r0=1.7, learns_bias=True),
    "mixed signs of a": random_problem(6, w0=1.3, weighted=True, density=0.9),
    "mixed signs, learned bias": random_problem(7, w0=1.3, weighted=True, learns_bias=True),
    "1 x 1": random_problem(8, 1, 1, 1, density=1.0, w0=0.45, learns_bias=True),
}


@pytest.fixture(params=CASES)
def case(request) -> tuple[Dense, Factors]:
    """Each of the cases: the dense problem, and a point."""
    return CASES[request.param]


# --------------------------------------------------------------------------- exact rows

def solve(dense: Dense, at: Factors, lo: int = 0, hi: int | None = None, noise=None,
          weakly=False):
    """Solve users lo..hi, all as weak rows or those that are; return P, β, and Σ_Ω and failures."""
    systems = problem(dense).user_rows(at)
    P, beta, penalty = at.P.copy(), at.beta.copy(), systems.penalty
    whole = [part.copy() for part in systems.whole_matrix(Pool(1))]
    given = (*systems.cells, at.Q, at.gamma, small.widened(whole[0]), *whole[1:], penalty.reg,
             penalty.bias_reg, penalty.means, penalty.bias_means,
             np.empty((0, len(whole[1]))) if noise is None else noise, P, beta)
    weak, hi = np.full(len(P), weakly), len(P) if hi is None else hi
    if not weakly:
        known, failed = exact.solve_rows(*given, weak, np.zeros(len(P), bool), lo, hi)
    if weak.any():
        failed = exact.solve_weak_rows(*given, weak, lo, hi)
    return P, beta, (None if weakly else known, failed)


def known_terms(dense: Dense, at: Factors) -> float:
    """Σ_Ω (a s² − 2 b s)."""
    s = naive.scores(at)
    terms = (dense.w - dense.w0) * s * s - 2 * dense.w * dense.T * s
    return float(terms[dense.stored].sum())


def test_rows_solved_exactly_are_dense_least_squares_on_all_cells(case):
    dense, at = case
    P, beta, (known, failed) = solve(dense, at)
    expected = dense.solved_users(at)
    np.testing.assert_allclose(P, expected[0], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(beta, expected[1], rtol=1e-9, atol=1e-9)
    assert failed == -1
    assert known == pytest.approx(known_terms(dense, at), rel=1e-11)


def test_rows_solved_as_weak_are_the_same(case):
    dense, at = case
    P, beta, (_, failed) = solve(dense, at, weakly=True)
    expected = dense.solved_users(at)
    np.testing.assert_allclose(P, expected[0], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(beta, expected[1], rtol=1e-9, atol=1e-9)
    assert failed == -1


@pytest.mark.parametrize("weakly", [False, True])
def test_rows_outside_the_chunk_stay_as_they_are(weakly):
    dense, at = CASES["learned bias"]
    P, beta, _ = solve(dense, at, 2, 4, weakly=weakly)
    whole = solve(dense, at, weakly=weakly)
    outside = [0, 1, 4, 5, 6]
    np.testing.assert_array_equal(P[outside], at.P[outside])
    np.testing.assert_array_equal(beta[outside], at.beta[outside])
    np.testing.assert_array_equal(P[2:4], whole[0][2:4])
    np.testing.assert_array_equal(beta[2:4], whole[1][2:4])


@pytest.mark.parametrize("n_cells", [255, 256, 257, 300])
def test_a_row_as_long_as_the_gather_buffer_loses_no_cell(n_cells):
    dense, at = random_problem(n_cells, 1, n_cells, 2, density=1.0, w0=0.45, weighted=True)
    dense = replace(dense, w=dense.w + 0.1)             # negative and positive a, none zero
    P, _, (known, _) = solve(dense, at)
    np.testing.assert_allclose(P, dense.solved_users(at)[0], rtol=1e-9)
    assert known == pytest.approx(known_terms(dense, at), rel=1e-11)


@pytest.mark.parametrize("learns", [True, False])
def test_an_empty_row_gets_its_prior_bit_for_bit(learns):
    dense, at = random_problem(9, means="rows", learns_bias=learns, r0=0.4)
    P, beta, _ = solve(dense, at)
    np.testing.assert_array_equal(P[-1], dense.users.means[-1])
    assert beta[-1] == (dense.users.bias_mean if learns else at.beta[-1])


def test_an_empty_row_with_unknown_cells_is_solved_also_where_a_column_vanishes():
    dense, at = random_problem(10, w0=0.7, means="rows")
    at = replace(at, Q=at.Q * [0.0, 1.0, 1.0])
    P, _, _ = solve(dense, at)
    np.testing.assert_allclose(P, dense.solved_users(at)[0], rtol=1e-9, atol=1e-12)


def test_without_penalty_a_row_of_weightless_cells_gets_its_prior():
    dense, at = random_problem(11, means="rows", learns_bias=True, reg=0.0)
    dense = replace(dense, w=np.zeros_like(dense.w))
    P, beta, (_, failed) = solve(dense, at)
    assert failed == -1
    np.testing.assert_allclose(P, dense.users.means, rtol=1e-12)
    np.testing.assert_allclose(beta, dense.users.bias_mean, rtol=1e-12)


@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_without_penalty_cells_that_cancel_all_unknown_ones_give_the_prior(real):
    # Every cell stored with weight 0: A0 and the cells cancel up to rounding.
    dense, at = random_problem(12, 2, 40, 3, density=1.0, w0=1.3, means="rows", reg=0.0)
    dense = replace(dense, w=np.zeros_like(dense.w))
    at = naive.as_type(at, real)
    systems = problem(dense, real=real).user_rows(at)
    solve_exactly(systems, at.P, at.beta, Pool(1))
    np.testing.assert_allclose(at.P, dense.users.means, rtol=1e-2)


def test_a_weak_row_takes_three_steps_of_its_shifted_system():
    # Along a direction as weak as the shift, each step halves what is left.
    dense, at = random_problem(14, 1, 2, 2, density=1.0, reg=0.0)
    weakness = np.sqrt(exact.SHIFT)
    at = replace(at, Q=np.diag([1.0, weakness]))
    P, _, _ = solve(dense, at, weakly=True)
    target = dense.R[0] - at.beta[0] - at.gamma
    np.testing.assert_allclose(P[0], target * [1.0, 7 / 8 / weakness], rtol=1e-6)


@settings(max_examples=20)
@given(st.integers(1, 6), st.integers(0, 9999))
def test_the_norm_of_an_inverse_is_estimated_from_signs_that_let_a_solution_grow(n, seed):
    random = np.random.default_rng(seed)
    U = np.triu(random.normal(size=(n, n)), 1) + np.diag(random.uniform(0.5, 2, n))
    w = np.zeros(n)
    for i in range(n):
        partial = -U[:i, i] @ w[:i]
        w[i] = (partial - 1 if partial < 0 else partial + 1) / U[i, i]
    expected = np.sum(np.linalg.solve(U, w)**2) / np.sum(w**2)
    assert exact._inverse_norm(U, np.inf, np.empty(n)) == pytest.approx(expected)
    assert exact._inverse_norm(U, 0.0, np.empty(n)) == 0
    assert expected <= np.linalg.norm(np.linalg.inv(U.T @ U), 2) * (1 + 1e-9)


def test_a_diagonal_that_overflows_is_told_by_conjugate_gradient():
    dense, at = random_problem(13, 1, 5, 2, density=1.0)
    at = naive.as_type(replace(at, P=at.P * 0, Q=np.full_like(at.Q, 1e19)), np.float32)
    systems = problem(dense, real=np.float32).user_rows(at)
    with pytest.raises(DivergenceError):
        improve_by_cg(systems, at.P, at.beta, Pool(1), 3)


@pytest.mark.parametrize("weakly", [False, True])
def test_noise_moves_a_row_by_the_inverse_root_of_its_system(case, weakly):
    dense, at = case
    systems, d = problem(dense).user_rows(at), at.P.shape[1] + dense.learns_bias
    noise = np.random.default_rng(3).normal(size=(len(at.P), d))
    (P0, beta0, _), (P, beta, _) = (
        solve(dense, at, noise=each, weakly=weakly) for each in (None, noise))
    for u in range(len(P)):
        A, _ = systems.system(u, at.beta[u], Pool(1))
        moved = np.append(P[u] - P0[u], beta[u] - beta0[u])[:d]
        expected = scipy.linalg.solve_triangular(scipy.linalg.cholesky(A), noise[u])
        np.testing.assert_allclose(moved, expected, atol=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_row_without_finite_solution_is_named_and_keeps_its_values(bad):
    dense, at = CASES["minimal"]
    user = int(np.flatnonzero(dense.stored.any(1))[2])
    item = int(np.flatnonzero(dense.stored[user])[0])
    dense = replace(dense, R=np.where(np.arange(6) == item, np.where(
        np.arange(7)[:, None] == user, bad, dense.R), dense.R))
    P, _, (_, failed) = solve(dense, at)
    assert failed == user
    np.testing.assert_array_equal(P[user], at.P[user])
    assert np.isfinite(P).all()


# ------------------------------------------------------------------------------ CG rows

def cg_rows(systems: RowSystems, at: Factors, steps: int, lo: int = 0):
    """Call the kernel for a problem without unknown cells or with an eigenbasis as it is.

    Q must have orthogonal columns where w0 > 0, so that its Gram is diagonal.
    """
    k, penalty = at.Q.shape[1], systems.penalty
    K = cg.padded_width(k)
    A0, c0, c1 = systems.whole_matrix(Pool(1))
    learned = (1.0, A0[-1, -1], -c0[k]) if systems.learns_bias else (0.0, 0.0, 0.0)
    whole = np.array([*learned, np.trace(A0[:k, :k]), np.finfo(float).eps])
    P, beta = widened(at.P, K), at.beta.copy()
    known = cg.row_solver(K)(
        *systems.cells, widened(at.Q, K), at.gamma,
        *(widened(v[None, :k], K)[0] for v in (np.diag(A0), -c1, -c0)), whole,
        penalty.reg, penalty.bias_reg, widened(penalty.means, K), penalty.bias_means, P, beta,
        steps, 0.0, np.empty(0, bool), lo, len(P))
    assert not P[:, k:].any()
    return P[:, :k], beta, known


def widened(X: np.ndarray, K: int) -> np.ndarray:
    """Zero columns on the right."""
    out = np.zeros((len(X), K))
    out[:, :X.shape[1]] = X
    return out


def orthogonal(dense: Dense, at: Factors) -> Factors:
    """The point with Q replaced by one with a diagonal Gram, where the kernel needs that."""
    if dense.w0 == 0:
        return at
    return replace(at, Q=np.linalg.svd(at.Q, full_matrices=False)[0] * [1.7, 1.1, 0.6][
        :at.Q.shape[1]])


def textbook(systems: RowSystems, at: Factors, u: int, steps: int) -> np.ndarray:
    """The same steps on the dense system of one row."""
    A, c = systems.system(u, at.beta[u], Pool(1))
    z = np.append(at.P[u], at.beta[u]) if systems.learns_bias else at.P[u]
    ridge = systems.ridge(u)[0]
    return naive.conjugate_gradient(A, c, z, np.maximum(np.diag(A), ridge), steps)


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_each_step_is_the_textbooks_preconditioned_step(case, steps):
    dense, at = case
    at = orthogonal(dense, at)
    systems = problem(dense).user_rows(at)
    P, beta, known = cg_rows(systems, at, steps)
    for u in range(len(P)):
        z = np.append(P[u], beta[u]) if dense.learns_bias else P[u]
        np.testing.assert_allclose(z, textbook(systems, at, u, steps), rtol=1e-9, atol=1e-9)
    assert known == pytest.approx(known_terms(dense, at), rel=1e-11)


def test_enough_steps_give_dense_least_squares(case):
    dense, at = case
    at = orthogonal(dense, at)
    P, beta, _ = cg_rows(problem(dense).user_rows(at), at, 4 * (at.P.shape[1] + 2))
    expected = dense.solved_users(at)
    np.testing.assert_allclose(P, expected[0], rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(beta, expected[1], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("n_cells", [7, 8, 9, 40])
def test_a_last_group_of_cells_that_is_not_full_counts_once(n_cells):
    dense, at = random_problem(n_cells, 1, n_cells, 2, density=1.0, weighted=True)
    P, _, known = cg_rows(problem(dense).user_rows(at), at, 20)
    np.testing.assert_allclose(P, dense.solved_users(at)[0], rtol=1e-8)
    assert known == pytest.approx(known_terms(dense, at), rel=1e-11)


@pytest.mark.parametrize("learns", [True, False])
def test_without_penalty_an_empty_row_still_moves_to_its_prior(learns):
    dense, at = random_problem(13, means="rows", learns_bias=learns, reg=0.0)
    P, beta, _ = cg_rows(problem(dense).user_rows(at), at, 1)
    np.testing.assert_allclose(P[-1], dense.users.means[-1], rtol=1e-12)
    np.testing.assert_allclose(beta[-1], dense.users.bias_mean if learns else at.beta[-1],
                               rtol=1e-12)


def test_without_penalty_more_steps_than_cells_do_not_run_away():
    # 3 cells, 9 factors: after 3 steps nothing but rounding is left along six directions.
    dense, at = random_problem(14, 1, 3, 9, density=1.0, reg=0.0)
    P, _, _ = cg_rows(problem(dense).user_rows(at), at, 60)
    np.testing.assert_allclose(at.Q @ P[0] + at.gamma + at.beta[0], dense.T[0], atol=1e-8)
    assert np.abs(P - at.P).max() < 10


@pytest.mark.parametrize("learns", [True, False])
def test_a_row_with_a_cell_that_is_not_finite_keeps_its_values_under_cg(learns):
    dense, at = random_problem(3, learns_bias=learns)
    systems = problem(dense).user_rows(at)
    user = int(np.flatnonzero(dense.stored.any(1))[2])
    expected = cg_rows(systems, at, 3)
    systems.cells.y[systems.cells.indptr[user]] = np.nan
    P, beta, _ = cg_rows(systems, at, 3)
    np.testing.assert_array_equal(P[user], at.P[user])
    assert beta[user] == at.beta[user]
    np.testing.assert_array_equal(np.delete(P, user, 0), np.delete(expected[0], user, 0))


@pytest.mark.parametrize(("k", "K"), [(1, 16), (16, 16), (17, 32), (64, 64), (65, 80)])
def test_the_width_of_a_kernel_is_the_next_multiple_of_sixteen(k, K):
    assert cg.padded_width(k) == K


def test_a_kernel_is_built_once_for_a_width():
    assert cg.row_solver(16) is cg.row_solver(16)


# -------------------------------------------------------------------------------- cells

def test_sums_over_stored_cells_are_those_of_the_formula(case):
    dense, at = case
    cells = problem(dense).by_user
    known, squares = cell_kernels.cell_sums(*cells, at.P, at.Q, at.beta, at.gamma, 0, len(at.P))
    assert known == pytest.approx(known_terms(dense, at), rel=1e-12)
    assert squares == pytest.approx(np.sum(naive.scores(at)[dense.stored] ** 2), rel=1e-12)


def test_cells_outside_the_chunk_are_neither_scored_nor_summed():
    dense, at = CASES["learned bias"]
    cells, everything = problem(dense).by_user, (at.P, at.Q, at.beta, at.gamma)
    first, last = cells.indptr[2], cells.indptr[4]
    out = np.full(len(cells.indices), np.nan)
    cell_kernels.cell_scores(cells.indptr, cells.indices, *everything, out, 2, 4)
    S = naive.scores(at)[dense.stored]
    np.testing.assert_allclose(out[first:last], S[first:last], rtol=1e-13)
    assert np.isnan(np.delete(out, np.s_[first:last])).all()
    parts = [cell_kernels.cell_sums(*cells, *everything, lo, hi)
             for lo, hi in ((0, 2), (2, 4), (4, 7))]
    np.testing.assert_allclose(np.sum(parts, axis=0),
                               cell_kernels.cell_sums(*cells, *everything, 0, 7), rtol=1e-13)


def test_the_pull_of_stored_cells_is_that_of_the_formula_on_the_rows_asked_for(case):
    dense, at = case
    E = np.where(dense.stored, (dense.w - dense.w0) * naive.scores(at) - dense.w * dense.T, 0)
    dP, dbeta = np.full_like(at.P, 7.0), np.full_like(at.beta, 7.0)
    lo, hi = (1, 5) if len(at.P) > 1 else (0, 1)
    cell_kernels.cell_pulls(*problem(dense).by_user, at.P, at.Q, at.beta, at.gamma, dP, dbeta,
                            lo, hi)
    np.testing.assert_allclose(dP[lo:hi], (E @ at.Q)[lo:hi], rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(dbeta[lo:hi], E.sum(axis=1)[lo:hi], rtol=1e-11, atol=1e-11)
    assert (np.delete(dP, np.s_[lo:hi], 0) == 7).all()
    assert (np.delete(dbeta, np.s_[lo:hi]) == 7).all()


def test_the_sums_along_a_direction_are_the_coefficients_of_a_quartic(case):
    dense, at = case
    d = naive.random_point(np.random.default_rng(3), dense.R.shape, at.P.shape[1])
    found = np.zeros(3)
    for lo, hi in ((0, 1), (1, len(at.P))):
        found += cell_kernels.sums_along(*problem(dense).by_user, at.P, at.Q, at.beta, at.gamma,
                                         d.P, d.Q, d.beta, d.gamma, lo, hi)
    t = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    values = [known_terms(dense, Factors(*(x + step * dx for x, dx in zip(
        (at.P, at.Q, at.beta, at.gamma), (d.P, d.Q, d.beta, d.gamma), strict=True))))
        for step in t]
    quartic = np.linalg.solve(np.vander(t, increasing=True), values)
    np.testing.assert_allclose(found, quartic[2:], rtol=1e-9, atol=1e-9 * np.abs(quartic).max())


def test_pairs_with_an_unknown_side_score_what_is_known():
    _, at = CASES["learned bias"]
    rows, columns = np.array([3, -1, 2, -1]), np.array([1, 2, -1, -1])
    out = np.full(4, np.nan)
    cell_kernels.pair_scores(rows, columns, at.P, at.Q, at.beta, at.gamma, out, 0, 4)
    np.testing.assert_allclose(out, [naive.scores(at)[3, 1], at.gamma[2], at.beta[2], 0.0],
                               rtol=1e-13)


# ------------------------------------------------------------------------------- lapack

@njit(**KERNEL)
def compiled_gram(A, B, scale, flags):
    """Call add_gram as kernels do."""
    lapack.add_gram(A, B, scale, flags)


@njit(**KERNEL)
def compiled_solve(A, c, flags):
    """Call solve_spd as kernels do."""
    lapack.solve_spd(A, c, flags)


def new_flags(n: int, gathered: int = 0) -> np.ndarray:
    """The integers of a call."""
    flags = np.array(lapack.FLAGS, np.int32)
    flags[0], flags[lapack.GATHERED] = n, gathered
    return flags


@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize("add_gram", [compiled_gram, lapack.add_gram],
                         ids=["compiled", "plain"])
@pytest.mark.parametrize(("sign", "kept"), [(1, 1), (-1, 1), (1, 0.5)])
def test_a_gram_of_the_gathered_rows_is_added_to_the_upper_triangle(real, add_gram, sign, kept):
    B = np.random.default_rng(0).normal(size=(6, 3)).astype(real)
    A = np.full((3, 3), 0.7, real)
    add_gram(A, B, np.array([sign, kept], real), new_flags(3, 4))
    expected = 0.7 * kept + sign * np.triu(B[:4].T @ B[:4])
    np.testing.assert_allclose(np.triu(A), np.triu(expected), rtol=1e-5)
    np.testing.assert_array_equal(np.tril(A, -1), np.tril(np.full((3, 3), 0.7, real), -1))


@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize("solve_spd", [compiled_solve, lapack.solve_spd],
                         ids=["compiled", "plain"])
def test_a_definite_system_is_solved_from_its_upper_triangle(real, solve_spd):
    random = np.random.default_rng(1)
    X = random.normal(size=(9, 4))
    A, c = X.T @ X + np.eye(4), random.normal(size=4)
    given, x, flags = np.triu(A).astype(real), c.astype(real), new_flags(4)
    solve_spd(given, x, flags)
    assert flags[lapack.INFO] == 0
    np.testing.assert_allclose(x, np.linalg.solve(A, c), rtol=1e-4 if real is np.float32 else
                               1e-12)


@pytest.mark.parametrize("solve_spd", [compiled_solve, lapack.solve_spd],
                         ids=["compiled", "plain"])
def test_an_indefinite_system_is_reported(solve_spd):
    flags = new_flags(2)
    solve_spd(np.array([[1.0, 2.0], [0.0, 1.0]]), np.ones(2), flags)
    assert flags[lapack.INFO] > 0


# ------------------------------------------------------------------------------ sorting

@settings(max_examples=50)
@given(st.data())
def test_counting_order_sorts_stably_and_returns_the_row_pointer(data):
    n_keys = data.draw(st.integers(1, 6))
    keys = np.array(data.draw(st.lists(st.integers(0, n_keys - 1), max_size=30)), np.int64)
    order = np.array(data.draw(st.permutations(range(len(keys)))), np.int64)
    out, starts = np.empty_like(order), np.zeros(n_keys + 1, np.int64)
    counting_order(keys, order, starts, out)
    assert out.tolist() == sorted(order.tolist(), key=lambda t: keys[t])
    assert starts.tolist() == [int((keys < key).sum()) for key in range(n_keys + 1)]


@pytest.mark.kernel
@pytest.mark.parametrize("solve_spd", [compiled_solve, lapack.solve_spd],
                         ids=["compiled", "plain"])
def test_what_stands_below_the_diagonal_is_never_read(solve_spd):
    A, c = np.array([[2.0, 1.0], [np.nan, 3.0]]), np.array([1.0, 2.0])
    flags = np.array(lapack.FLAGS, np.int32)
    flags[0] = 2
    solve_spd(A, c, flags)
    assert flags[lapack.INFO] == 0
    np.testing.assert_allclose(c, [0.2, 0.6])
