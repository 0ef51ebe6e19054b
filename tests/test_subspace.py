"""Subspace ALS: blocks descend to dense least squares, and one block is the exact solution."""

from __future__ import annotations

from dataclasses import replace

import naive
import numpy as np
import pytest
from hypothesis import given
from naive import Dense, as_type, problem, random_problem

from mfcore import parallel
from mfcore.kernels import subspace as kernels
from mfcore.objectives.factors import Factors
from mfcore.objectives.quadratic import Quadratic
from mfcore.parallel import Pool
from mfcore.solvers.als import solve_exactly
from mfcore.solvers.balance import balance
from mfcore.solvers.loop import Monitor, run
from mfcore.solvers.subspace import Subspace, block_shape, noise_width, step_through_blocks
from mfcore.validation import DivergenceError

# The cases that one formula covers, at more factors than fit one block of 16.
WIDE = {"k": 40, "n_items": 9}
CASES = {
    "minimal": random_problem(1, **WIDE),
    "fixed bias": random_problem(2, **WIDE, r0=2.3),
    "learned bias": random_problem(3, **WIDE, r0=2.3, learns_bias=True),
    "weighted unknown": random_problem(4, **WIDE, w0=0.45, r0=1.7),
    "weighted unknown, fixed bias, negative a": random_problem(5, **WIDE, w0=2.9, weighted=True),
    "weighted unknown, learned bias": random_problem(6, **WIDE, w0=0.45, r0=1.7,
                                                     learns_bias=True),
    "learned bias, negative a": random_problem(7, **WIDE, w0=2.9, weighted=True,
                                               learns_bias=True),
    "prior means": random_problem(8, **WIDE, means="rows", learns_bias=True, w0=0.45),
    "a shared prior": random_problem(9, **WIDE, means="shared", weighted=True),
    "more items than factors": random_problem(10, 5, 60, 20, w0=1.3, learns_bias=True,
                                              weighted=True, means="rows"),
    "one small penalty": random_problem(11, 5, 60, 20, weighted=True, learns_bias=True, reg=0.5),
}


@pytest.fixture(params=CASES)
def case(request) -> tuple[Dense, Factors]:
    """Each of the cases: the dense problem, and a point."""
    return CASES[request.param]


@pytest.fixture(scope="module")
def pool():
    with Pool(1) as pool:
        yield pool


@pytest.fixture
def small_chunks(monkeypatch):
    """Small inputs cut into many chunks, of rows and of Grams."""
    monkeypatch.setattr(parallel, "CHUNK_CELLS", 60)
    monkeypatch.setattr(parallel, "GRAM_ROWS", 7)


def half_sweep(objective: Quadratic, at: Factors, block_size: int, *, items: bool = False,
               times: int = 1) -> tuple[Factors, float]:
    """Step through all blocks of one side of a copy; return it and the loss before it."""
    at, known = at.copy(), 0.0
    systems = objective.item_rows(at) if items else objective.user_rows(at)
    X, bias = (at.Q, at.gamma) if items else (at.P, at.beta)
    for _ in range(times):
        known = step_through_blocks(systems, X, bias, Pool(1), block_size)
    return at, known


def steps_in_turn(dense: Dense, at: Factors, block_size: int) -> tuple[np.ndarray, np.ndarray]:
    """The naive twin for users: every block of the eigenbasis by least squares, in turn.

    A block's step is the row solution in which the other dimensions have no say: they are
    moved into the frozen scores.
    """
    k = at.P.shape[1]
    n_blocks, width = block_shape(k, block_size)
    V = np.linalg.eigh(at.Q.T @ at.Q)[1][:, ::-1]
    P, beta, Q = at.P @ V, at.beta.copy(), at.Q @ V
    means = np.broadcast_to(dense.users.means @ V, P.shape)
    for start in range(0, n_blocks * width, width):
        block = slice(start, min(start + width, k))
        others = P @ Q.T - P[:, block] @ Q[:, block].T
        side = replace(dense.users, means=means[:, block])
        for u in range(len(P)):
            one = np.array([u])
            row = replace(dense, R=dense.R[one] - others[one], w=dense.w[one], users=side.take(one),
                          stored=dense.stored[one])
            row = replace(row, w=row.W, stored=np.ones_like(row.stored), r0=0.0,
                          R=dense.T[one] - others[one])
            there = Factors(P[one][:, block], Q[:, block], beta[one], at.gamma)
            P[one, block], beta[one] = row.solved_users(there)
    return P @ V.T, beta


def assert_near(got: np.ndarray, expected: np.ndarray, tolerance: float = 1e-8) -> None:
    """Agreement relative to the largest number, or to 1."""
    scale = max(1.0, np.abs(expected).max(initial=0))
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * scale)


# ------------------------------------------------------------------------------- blocks

@pytest.mark.parametrize(("k", "block_size", "expected"), [
    (256, 64, (4, 64)), (100, 64, (2, 64)), (96, 64, (2, 48)), (3, 64, (1, 16)),
    (40, 1, (3, 16)), (40, 17, (2, 32)), (16, 16, (1, 16)), (17, 16, (2, 16))])
def test_blocks_are_even_cover_all_dimensions_and_are_no_wider_than_asked(k, block_size, expected):
    n_blocks, width = block_shape(k, block_size)
    assert (n_blocks, width) == expected
    assert (n_blocks - 1) * width < k <= n_blocks * width
    assert width < block_size + 16


@pytest.mark.kernel
@pytest.mark.parametrize("size", [1, 16, 32])
def test_a_half_sweep_solves_each_block_of_the_eigenbasis_in_turn(case, size):
    dense, at = case
    there, _ = half_sweep(problem(dense), at, size)
    P, beta = steps_in_turn(dense, at, size)
    # Directions without an item are an arbitrary basis of the rest: they all go to the prior.
    assert_near(there.P @ at.Q.T, P @ at.Q.T, 1e-7)
    assert_near(there.beta, beta, 1e-7)


def test_more_than_one_block_is_not_yet_the_exact_solution():
    dense, at = CASES["more items than factors"]
    there, _ = half_sweep(problem(dense), at, 16)
    assert np.abs(there.P - dense.solved_users(at)[0]).max() > 1e-3


def test_repeated_blocks_reach_dense_least_squares_for_users_and_items(case):
    dense, at = case
    there, _ = half_sweep(problem(dense), at, 16, times=200)
    P, beta = dense.solved_users(at)
    assert_near(there.P, P)
    assert_near(there.beta, beta)
    np.testing.assert_array_equal(there.Q, at.Q)
    np.testing.assert_array_equal(there.gamma, at.gamma)
    there, _ = half_sweep(problem(dense), at, 16, items=True, times=200)
    Q, gamma = dense.transposed.solved_users(naive.transposed_factors(at))
    assert_near(there.Q, Q)
    assert_near(there.gamma, gamma)


@pytest.mark.parametrize("size", [40, 64])
def test_a_block_of_all_dimensions_is_the_exact_half_sweep(case, size):
    dense, at = case
    for items in (False, True):
        there, _ = half_sweep(problem(dense), at, size, items=items)
        exact = at.copy()
        objective = problem(dense)
        if items:
            solve_exactly(objective.item_rows(exact), exact.Q, exact.gamma, Pool(1))
        else:
            solve_exactly(objective.user_rows(exact), exact.P, exact.beta, Pool(1))
        for name, block in vars(exact).items():
            assert_near(getattr(there, name), block)


@pytest.mark.kernel
@given(drawn=naive.problems())
def test_one_block_of_any_small_problem_is_dense_least_squares(drawn):
    dense, at = drawn
    there, _ = half_sweep(problem(dense), at, 16)
    P, beta = dense.solved_users(at)
    assert_near(there.P, P)
    assert_near(there.beta, beta)


def test_every_half_sweep_lowers_the_value(case):
    dense, at = case
    values = [dense.value(at)]
    for n in range(6):
        at, _ = half_sweep(problem(dense), at, 16, items=n % 2 == 1)
        values.append(dense.value(at))
    assert np.diff(values).max() <= 1e-12 * values[0]
    assert values[1] < values[0]


@pytest.mark.parametrize("name", [name for name, (dense, _) in CASES.items()
                                  if not dense.learns_bias])
def test_every_block_lowers_the_value(name):
    # A half-sweep's change, cut off after n blocks of the eigenbasis: the state between them.
    dense, at = CASES[name]
    n_blocks, width = block_shape(at.P.shape[1], 16)
    V = np.linalg.eigh(at.Q.T @ at.Q)[1][:, ::-1]
    change = (half_sweep(problem(dense), at, 16)[0].P - at.P) @ V
    values = [dense.value(replace(at, P=at.P + change[:, :n * width] @ V[:, :n * width].T))
              for n in range(n_blocks + 1)]
    assert np.diff(values).max() <= 1e-12 * values[0]
    assert values[1] < values[0]


# ----------------------------------------------------------------------------- the loss

@given(drawn=naive.problems())
def test_a_half_sweep_returns_the_loss_of_the_state_that_came_in(drawn):
    dense, at = drawn
    objective = problem(dense)
    around = objective.constant + objective.penalty(at) \
        + objective.w0 * objective.whole_square(at, Pool(1))
    for items in (False, True):
        known = half_sweep(objective, at, 16, items=items)[1]
        scale = max(1.0, dense.value(at), around)
        assert around + known == pytest.approx(dense.value(at), abs=1e-11 * scale)


@pytest.mark.kernel
def test_an_epoch_balances_steps_items_then_users_and_returns_the_loss_between(case, pool):
    dense, at = case
    objective, swept = problem(dense), at.copy()
    loss = Subspace(objective, 16).epoch(swept, pool)
    balanced = at.copy()
    balance(objective, balanced, pool)
    between, _ = half_sweep(objective, balanced, 16, items=True)
    after, _ = half_sweep(objective, between, 16)
    assert loss == pytest.approx(dense.value(between), rel=1e-9)
    assert loss == pytest.approx(objective.value(between, pool).total, rel=1e-9)
    assert_near(swept.Q, between.Q)
    assert_near(swept.P, after.P)


@pytest.mark.kernel
def test_errors_kept_through_the_blocks_stay_equal_to_recomputed_ones():
    dense, at = CASES["learned bias, negative a"]
    objective, (n_blocks, width) = problem(dense), block_shape(40, 16)
    cells, n = objective.by_user, len(at.Q)
    Q = np.zeros((n, n_blocks * width))
    Q[:, :40] = at.Q
    for u in range(len(at.P)):
        row = slice(cells.indptr[u], cells.indptr[u + 1])
        fill = -len(cells.indices[row]) % 4
        column = np.append(cells.indices[row], np.zeros(fill, np.int64)) * n_blocks
        a, b = np.append(cells.a[row], np.zeros(fill)), np.append(cells.b[row], np.zeros(fill))
        p, bias = np.zeros(n_blocks * width), at.beta[u]
        p[:40] = at.P[u]
        e = b - a * (Q[column // n_blocks] @ p + bias)
        for block in range(n_blocks):
            step = np.random.default_rng(block).normal(size=width + 1)
            kernels.update_errors(width, Q.reshape(-1, width), block, column, a, e, len(e), step)
            p[block * width:(block + 1) * width] += step[:-1]
            bias += step[-1]
        np.testing.assert_allclose(e, b - a * (Q[column // n_blocks] @ p + bias), atol=1e-11)


@pytest.mark.kernel
def test_without_penalty_an_empty_row_is_solved_also_where_a_column_vanishes(pool):
    dense, at = random_problem(10, w0=0.7, reg=0.0)
    at = replace(at, Q=at.Q * [0.0, 1.0, 1.0])
    there, _ = half_sweep(problem(dense), at, 3)
    assert np.isfinite(there.P).all()
    empty = ~dense.stored.any(axis=1)
    assert empty.any()
    np.testing.assert_allclose((there.P @ at.Q.T)[empty], (dense.solved_users(at)[0]
                                                          @ at.Q.T)[empty], atol=1e-9)



# ------------------------------------------------------------------- shapes and edges

@pytest.mark.parametrize("n_cells", [*(pytest.param(n, marks=pytest.mark.kernel)
                                       for n in (256, 257)), 700, 1025])
def test_a_row_longer_than_the_buffers_is_dense_least_squares(n_cells):
    dense, at = random_problem(n_cells, 2, n_cells, 20, density=1.0, w0=0.45, weighted=True,
                               learns_bias=True, means="rows")
    there, known = half_sweep(problem(dense), at, 20)
    P, beta = dense.solved_users(at)
    assert_near(there.P, P)
    assert_near(there.beta, beta)
    around = np.sum(dense.w * dense.T ** 2) + dense.w0 * np.sum(naive.scores(at) ** 2)
    assert around + known == pytest.approx(sum(dense.parts(at)[:2]), rel=1e-10)


def test_int64_indices_and_read_only_float32_ratings_are_solved_as_they_are():
    dense, at = random_problem(4, w0=0.45, means="rows", learns_bias=True)
    given = as_type(at, np.float64, "read-only")
    given.P, given.beta = at.P.copy(), at.beta.copy()        # the side that is written
    objective = problem(dense, index=np.int64, data=np.float32, layout="read-only")
    step_through_blocks(objective.user_rows(given), given.P, given.beta, Pool(1), 16)
    P, beta = dense.solved_users(at)
    assert_near(given.P, P)
    assert_near(given.beta, beta)


@pytest.mark.parametrize("w0", [0.0, 0.45])
@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_without_penalty_nothing_is_infinite(w0, real, pool):
    dense, at = random_problem(6, 12, 9, 40, reg=0.0, w0=w0, learns_bias=True, weighted=True)
    at = as_type(at, real)
    sweep, before = Subspace(problem(dense, real=real), 16), dense.value(at)
    for _ in range(5):
        sweep.epoch(at, pool)
    for block in vars(at).values():
        assert np.isfinite(block).all()
        assert np.abs(block).max(initial=0) < 1e4
    assert dense.value(at) < 0.1 * before


def test_without_penalty_an_empty_row_gets_the_prior():
    dense, at = random_problem(7, reg=0.0, means="rows", learns_bias=True, k=40)
    there, _ = half_sweep(problem(dense), at, 16)
    np.testing.assert_allclose(there.P[-1], dense.users.means[-1], rtol=0, atol=1e-12)
    assert there.beta[-1] == pytest.approx(dense.users.bias_mean, rel=1e-12)


@pytest.mark.parametrize(("real", "size"), [(np.float32, 3e38), (np.float64, 1.5e308)])
def test_numbers_that_overflow_raise_name_the_row_and_leave_it(real, size, pool):
    dense, at = random_problem(8, density=1.0)
    R = dense.R.copy()
    R[3] = size
    at = as_type(at, real)
    systems = problem(replace(dense, R=np.zeros_like(R)), real=real).user_rows(at)
    systems.cells.y.reshape(R.shape)[3] = size
    before = at.P.copy()
    with pytest.raises(DivergenceError, match=f"row 3 .*too large for {np.dtype(real)}; raise"):
        step_through_blocks(systems, at.P, at.beta, pool, 16)
    np.testing.assert_array_equal(at.P, before)


def test_frozen_factors_that_are_not_finite_raise(pool):
    dense, at = random_problem(9, w0=0.45)
    at.Q[2, 1] = np.nan
    with pytest.raises(DivergenceError, match="the factors overflow; raise reg"):
        step_through_blocks(problem(dense).user_rows(at), at.P, at.beta, pool, 16)


# ------------------------------------------------------------------- threads, precision

def fitted(dense: Dense, at: Factors, n_threads: int, real=np.float32, n_epochs: int = 3,
           block_size: int = 16) -> tuple[Factors, list[float]]:
    """Fit a copy; return it and its losses."""
    at, monitor = as_type(at, real), Monitor()
    with Pool(n_threads) as pool:
        run(Subspace(problem(dense, real=real), block_size), at, pool, n_epochs, monitor)
    return at, [record["loss"] for record in monitor.history]


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("w0", [0.0, 0.45])
def test_1_2_and_8_threads_give_the_same_bits(w0):
    dense, at = random_problem(11, 60, 50, 20, w0=w0, learns_bias=True, weighted=True)
    assert len(parallel.equal_cost_chunks(problem(dense).by_user.indptr)) > 20
    alone, losses = fitted(dense, at, 1)
    for n_threads in (2, 8):
        together, same = fitted(dense, at, n_threads)
        assert same == losses
        for name, block in vars(alone).items():
            np.testing.assert_array_equal(block, getattr(together, name), err_msg=name)


def test_float32_half_sweeps_stay_near_float64(case):
    dense, at = case
    single = as_type(at, np.float32)
    exact = as_type(single, np.float64)
    for items in (False, True):
        single, known = half_sweep(problem(dense, real=np.float32), single, 16, items=items)
        exact, expected = half_sweep(problem(dense), exact, 16, items=items)
        left, right = naive.scores(single), naive.scores(exact)
        assert single.P.dtype == np.float32
        assert_near(left, right, 1e-3)
        assert known == pytest.approx(expected, rel=1e-4, abs=1e-3)


def test_after_a_fit_a_training_row_folds_in_to_its_own_factors(case):
    dense, at = case
    at, _ = fitted(dense, at, 1, np.float64)
    for u in range(len(at.P)):
        alone = replace(dense, R=dense.R[[u]], w=dense.w[[u]], stored=dense.stored[[u]],
                        users=dense.users.take(np.array([u])))
        P, beta = np.zeros((1, at.P.shape[1])), at.beta[[u]]
        solve_exactly(problem(alone).user_rows(at), P, beta, Pool(1))
        assert_near(P[0], at.P[u], 1e-12)
        assert_near(beta, at.beta[[u]], 1e-12)


@pytest.mark.parametrize("settings", [{}, {"w0": 0.1}, {"learns_bias": True}],
                         ids=["minimal", "weighted unknown", "learned bias"])
def test_where_factors_abound_blocks_reach_the_objective_of_exact_sweeps(settings):
    # As in the tests of ALS: reg 5 leaves fewer directions alive than there are factors.
    dense, _ = random_problem(15, 60, 40, 20, reg=5.0, **settings)
    truth = naive.random_point(np.random.default_rng(16), (60, 40), 3)
    noise = 0.3 * np.random.default_rng(17).normal(size=(60, 40))
    dense, values = replace(dense, R=naive.scores(truth) + noise), []
    for block_size, seed in ((16, 0), (32, 0), (16, 1)):
        start = naive.random_point(np.random.default_rng(seed), (60, 40), 20)
        start.beta[:], start.gamma[:] = dense.users.bias_mean, 0.0
        at, _ = fitted(dense, start, 1, np.float64, 120, block_size)
        values.append(dense.value(at))
    assert max(values) - min(values) < 1e-4 * min(values)


@pytest.mark.kernel
def test_a_draw_takes_a_number_per_dimension_of_a_block_and_one_for_its_bias():
    assert block_shape(20, 8) == (2, 16)
    assert [noise_width(20, 8, learns_bias) for learns_bias in (False, True)] == [32, 34]
