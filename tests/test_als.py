"""Alternating least squares: each half-sweep is dense least squares, each fit descends."""

from __future__ import annotations

import threading
from dataclasses import replace

import naive
import numpy as np
import pytest
import strategies
from hypothesis import given
from naive import Dense, as_type, problem, random_problem

from mfcore import parallel
from mfcore.objectives.factors import Factors
from mfcore.objectives.quadratic import Quadratic
from mfcore.objectives.scaling import penalty_weights
from mfcore.parallel import Pool
from mfcore.solvers.als import ALS, improve_by_cg, solve_exactly
from mfcore.solvers.balance import balance
from mfcore.solvers.loop import Monitor, run
from mfcore.validation import DivergenceError

SOLVERS = ["cholesky", "cg"]


def counted(seed: int, *, base: float, alpha: float, r: float, w0: float, nu: float | str
            ) -> tuple[Dense, Factors]:
    """Models of counts: r in place of ratings, w = base + alpha·count, λ by frequency."""
    dense, at = random_problem(seed, w0=w0)
    count = np.random.default_rng(seed).integers(1, 5, dense.R.shape)
    users, items = (replace(side, reg=penalty_weights(dense.stored.sum(axis), 0.17, nu, w0,
                                                      dense.R.shape[axis]))
                    for side, axis in ((dense.users, 1), (dense.items, 0)))
    return replace(dense, R=np.full(dense.R.shape, r), w=base + alpha * count, users=users,
                   items=items), at


# The cases that one formula covers.
CASES = {
    "minimal": random_problem(1),
    "fixed bias": random_problem(2, r0=2.3),
    "learned bias": random_problem(3, r0=2.3, learns_bias=True),
    "weighted unknown": random_problem(4, w0=0.45, r0=1.7),
    "weighted unknown, fixed bias and weights": random_problem(5, w0=0.45, weighted=True),
    "weighted unknown, learned bias": random_problem(6, w0=0.45, r0=1.7, learns_bias=True),
    "implicit: w = 1 + 0.7 count": counted(7, base=1.0, alpha=0.7, r=1.0, w0=1.0, nu="none"),
    # Given as a = b = 1, which is w = 1 + w0 and w r = 1.
    "iALS": counted(8, base=1.3, alpha=0.0, r=1 / 1.3, w0=0.3, nu=0.8),
    "prior means": random_problem(9, means="rows", learns_bias=True, w0=0.45),
    "a shared prior": random_problem(10, means="shared", weighted=True),
    "more factors than users": random_problem(11, 3, 4, 9, learns_bias=True, w0=1.3),
    "sixteen factors": random_problem(12, k=16, weighted=True),
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


def half_sweep(objective: Quadratic, at: Factors, solver: str, *, items: bool = False,
               steps: int | None = None) -> tuple[Factors, float]:
    """Solve one side of a copy, CG to the end unless told; return it and the loss within."""
    at = at.copy()
    systems = objective.item_rows(at) if items else objective.user_rows(at)
    X, bias = (at.Q, at.gamma) if items else (at.P, at.beta)
    if solver == "cholesky":
        return at, solve_exactly(systems, X, bias, Pool(1))
    steps = 4 * (X.shape[1] + 2) if steps is None else steps
    return at, improve_by_cg(systems, X, bias, Pool(1), steps)


def assert_near(got: np.ndarray, expected: np.ndarray, tolerance: float = 1e-8) -> None:
    """Agreement relative to the largest number, or to 1."""
    scale = max(1.0, np.abs(expected).max(initial=0))
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * scale)


# --------------------------------------------------------------------------- half-sweeps

@pytest.mark.kernel
@pytest.mark.parametrize("solver", SOLVERS)
@given(drawn=naive.problems())
def test_a_user_half_sweep_is_dense_least_squares_row_by_row(solver, drawn):
    dense, at = drawn
    there, _ = half_sweep(problem(dense), at, solver)
    P, beta = dense.solved_users(at)
    assert_near(there.P, P)
    assert_near(there.beta, beta)
    np.testing.assert_array_equal(there.Q, at.Q)
    np.testing.assert_array_equal(there.gamma, at.gamma)


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_case_is_dense_least_squares_for_users_and_items(case, solver):
    dense, at = case
    there, _ = half_sweep(problem(dense), at, solver)
    P, beta = dense.solved_users(at)
    assert_near(there.P, P)
    assert_near(there.beta, beta)
    there, _ = half_sweep(problem(dense), at, solver, items=True)
    Q, gamma = dense.transposed.solved_users(naive.transposed_factors(at))
    assert_near(there.Q, Q)
    assert_near(there.gamma, gamma)


def test_factors_that_fill_a_wider_kernel_are_dense_least_squares_too():
    dense, at = random_problem(17, 9, 30, 20, w0=0.45, learns_bias=True, means="rows")
    there, _ = half_sweep(problem(dense), at, "cg")
    P, beta = dense.solved_users(at)
    assert_near(there.P, P)
    assert_near(there.beta, beta)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_half_sweep_zeroes_the_gradient_of_its_side(case, solver, pool):
    dense, at = case
    for items, solved, other in ((False, ("P", "beta"), "Q"), (True, ("Q", "gamma"), "P")):
        there, _ = half_sweep(problem(dense), at, solver, items=items)
        before, after = (problem(dense).gradient(each, pool) for each in (at, there))
        for name in solved:
            scale = max(1.0, np.abs(getattr(before, name)).max())
            assert np.abs(getattr(after, name)).max() < 1e-8 * scale, name
        assert np.abs(getattr(after, other)).max() > 1e-3


@given(naive.problems(), strategies.seeds)
def test_an_exact_half_sweep_lowers_the_value_below_all_around_it(drawn, seed):
    dense, at = drawn
    there, _ = half_sweep(problem(dense), at, "cholesky")
    lowest = dense.value(there)
    slack = 1e-12 * max(1.0, dense.value(at))
    assert lowest <= dense.value(at) + slack
    step = np.random.default_rng(seed).normal(size=there.P.shape)
    for length in (1e-3, -1e-3, 1.0):
        assert dense.value(replace(there, P=there.P + length * step)) > lowest - slack


@given(naive.problems())
def test_a_single_cg_step_lowers_the_value_of_every_case(drawn):
    dense, at = drawn
    values = [dense.value(half_sweep(problem(dense), at, "cg", steps=steps)[0])
              for steps in range(3)]
    slack = 1e-12 * max(1.0, values[0])
    assert values[0] == pytest.approx(dense.value(at), rel=1e-12)
    assert values[1] <= values[0] + slack
    assert values[2] <= values[1] + slack


@pytest.mark.parametrize("solver", SOLVERS)
@given(drawn=naive.problems())
def test_a_half_sweep_returns_the_loss_of_the_state_that_came_in(solver, drawn):
    dense, at = drawn
    objective = problem(dense)
    around = objective.constant + objective.penalty(at) \
        + objective.w0 * objective.whole_square(at, Pool(1))
    for items in (False, True):
        known = half_sweep(objective, at, solver, items=items, steps=2)[1]
        scale = max(1.0, dense.value(at), around)
        assert around + known == pytest.approx(dense.value(at), abs=1e-11 * scale)


@given(naive.problems(w0=(0.45, 2.9)), strategies.seeds)
def test_a_stored_cell_like_the_unknown_ones_solves_as_an_absent_one(drawn, seed):
    dense, at = drawn
    more = ~dense.stored & (np.random.default_rng(seed).random(dense.R.shape) < 0.5)
    padded = replace(dense, stored=dense.stored | more, w=np.where(more, dense.w0, dense.w),
                     R=np.where(more, dense.r0, dense.R))
    for solver in SOLVERS:
        left, right = (half_sweep(problem(each), at, solver)[0] for each in (padded, dense))
        assert_near(left.P, right.P)
        assert_near(left.beta, right.beta)


@given(naive.problems(w0=(0.0,)))
def test_a_weight_of_two_solves_as_a_repeated_cell(drawn):
    dense, at = drawn
    single = problem(dense)
    x = single.by_user
    twice = single.by_user._replace(indptr=2 * x.indptr, indices=np.repeat(x.indices, 2),
                                    x=np.repeat(x.x, 2), y=np.repeat(x.y, 2))
    doubled = problem(replace(dense, w=2 * dense.w))
    for solver in SOLVERS:
        left = half_sweep(replace(single, by_user=twice), at, solver)[0]
        assert_near(left.P, half_sweep(doubled, at, solver)[0].P)


@given(naive.problems(), strategies.seeds)
def test_a_half_sweep_against_rotated_items_gives_rotated_users(drawn, seed):
    dense, at = drawn
    k = at.P.shape[1]
    V = np.linalg.qr(np.random.default_rng(seed).normal(size=(k, k)))[0]
    dense = replace(dense, users=replace(dense.users, means=dense.users.means @ V))
    back = replace(dense, users=replace(dense.users, means=dense.users.means @ V.T))
    for solver in SOLVERS:
        turned, _ = half_sweep(problem(dense), replace(at, Q=at.Q @ V), solver)
        straight, _ = half_sweep(problem(back), at, solver)
        assert_near(turned.P, straight.P @ V)


# -------------------------------------------------------------------------- row systems

@given(naive.problems())
def test_the_dense_system_of_a_row_is_what_the_kernels_solve(drawn):
    dense, at = drawn
    systems = problem(dense).user_rows(at)
    there, _ = half_sweep(problem(dense), at, "cholesky")
    for u in range(len(at.P)):
        z = np.linalg.solve(*systems.system(u, at.beta[u], Pool(1)))
        assert_near(there.P[u], z[:at.P.shape[1]])
        if dense.learns_bias:
            assert_near(there.beta[u], z[-1])


@given(naive.problems())
def test_the_sums_over_all_columns_are_those_over_every_cell(drawn):
    dense, at = drawn
    A0, c0, c1 = problem(dense).user_rows(at).whole_matrix(Pool(1))
    X = np.column_stack([at.Q, np.ones(len(at.Q))]) if dense.learns_bias else at.Q
    np.testing.assert_allclose(A0, dense.w0 * X.T @ X, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(c0, -dense.w0 * X.T @ at.gamma, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(c1, -dense.w0 * X.sum(0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(("n_cells", "k"), [(256, 3), (257, 3), (700, 3), (1024, 3), (1025, 3),
                                            (2500, 5)])
def test_a_row_longer_than_the_buffers_is_dense_least_squares(solver, n_cells, k):
    dense, at = random_problem(n_cells, 2, n_cells, k, density=1.0, w0=0.45, weighted=True,
                               learns_bias=True, means="rows")
    there, known = half_sweep(problem(dense), at, solver)
    P, beta = dense.solved_users(at)
    assert_near(there.P, P)
    assert_near(there.beta, beta)
    around = np.sum(dense.w * dense.T ** 2) + dense.w0 * np.sum(naive.scores(at) ** 2)
    assert around + known == pytest.approx(sum(dense.parts(at)[:2]), rel=1e-10)


def test_a_row_of_negative_and_positive_a_is_dense_least_squares_in_any_order():
    dense, at = random_problem(3, 1, 600, 4, density=1.0, w0=1.3)
    for weights in (np.r_[np.zeros(300), np.full(300, 3.5)],        # all negative a first
                    np.r_[np.full(300, 3.5), np.zeros(300)],
                    np.tile([0.25, 3.5, 1.3], 200)):                # and a = 0
        mixed = replace(dense, w=weights[None])
        assert_near(half_sweep(problem(mixed), at, "cholesky")[0].P, mixed.solved_users(at)[0])
        assert_near(half_sweep(problem(mixed), at, "cg")[0].P, mixed.solved_users(at)[0])


@pytest.mark.parametrize("solver", SOLVERS)
def test_int64_indices_and_read_only_float32_ratings_are_solved_as_they_are(solver):
    dense, at = random_problem(4, w0=0.45, means="rows", learns_bias=True)
    given = as_type(at, np.float64, "read-only")
    given.P, given.beta = at.P.copy(), at.beta.copy()        # the side that is written
    objective = problem(dense, index=np.int64, data=np.float32, layout="read-only")
    systems = objective.user_rows(given)
    if solver == "cholesky":
        solve_exactly(systems, given.P, given.beta, Pool(1))
    else:
        improve_by_cg(systems, given.P, given.beta, Pool(1), 30)
    P, beta = dense.solved_users(at)
    assert_near(given.P, P)
    assert_near(given.beta, beta)


# ------------------------------------------------------------------ at the edge of numbers

@pytest.mark.parametrize("solver", SOLVERS)
def test_without_penalty_and_with_more_factors_than_ratings_every_rating_is_met(solver):
    dense, at = random_problem(5, 6, 30, 20, density=0.4, reg=0.0)
    at.P[:] = 0.0
    there, _ = half_sweep(problem(dense), at, solver, steps=60)
    residual = (dense.T - naive.scores(there))[dense.stored]
    assert np.abs(residual).max() < 1e-6
    least, _ = dense.solved_users(at)
    size = 1.2 if solver == "cholesky" else 2.0     # CG: least in the norm of its diagonal
    assert np.linalg.norm(there.P) < size * np.linalg.norm(least)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("w0", [0.0, 0.45])
@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_without_penalty_nothing_is_infinite(solver, w0, real, pool):
    dense, at = random_problem(6, 12, 9, 15, reg=0.0, w0=w0, learns_bias=True, weighted=True)
    at = as_type(at, real)
    sweep, before = ALS(problem(dense, real=real), solver == "cholesky", 20), dense.value(at)
    for _ in range(5):
        sweep.epoch(at, pool)
    for block in vars(at).values():
        assert np.isfinite(block).all()
        assert np.abs(block).max(initial=0) < 1e4
    assert dense.value(at) < 0.1 * before


@pytest.mark.parametrize("solver", SOLVERS)
def test_without_penalty_an_empty_row_gets_the_prior(solver):
    dense, at = random_problem(7, reg=0.0, means="rows", learns_bias=True)
    there, _ = half_sweep(problem(dense), at, solver, steps=1)
    np.testing.assert_allclose(there.P[-1], dense.users.means[-1], rtol=1e-12)
    assert there.beta[-1] == pytest.approx(dense.users.bias_mean, rel=1e-12)


@pytest.mark.parametrize(("real", "size"), [(np.float32, 3e38), (np.float64, 1.5e308)])
def test_numbers_that_overflow_raise_and_name_the_row(real, size, pool):
    dense, at = random_problem(8, density=1.0)
    R = dense.R.copy()
    R[3] = size
    at = as_type(at, real)
    systems = problem(replace(dense, R=np.zeros_like(R)), real=real).user_rows(at)
    systems.cells.y.reshape(R.shape)[3] = size
    before = at.P[3].copy()
    with pytest.raises(DivergenceError, match=f"row 3 .*too large for {np.dtype(real)}; raise"):
        solve_exactly(systems, at.P, at.beta, pool)
    np.testing.assert_array_equal(at.P[3], before)
    assert np.isfinite(at.P).all()


def test_frozen_factors_that_are_not_finite_raise():
    dense, at = random_problem(9, w0=0.45)
    at.Q[2, 1] = np.nan
    with pytest.raises(DivergenceError, match=r"row \d has no finite solution"):
        half_sweep(problem(dense), at, "cholesky")


def test_a_fit_that_diverges_names_the_epoch_and_keeps_finite_factors(pool):
    dense, at = random_problem(10, density=1.0, reg=0.0)
    dense = replace(dense, R=dense.R * 1e38)
    at = as_type(at, np.float32)
    monitor = Monitor()
    with np.errstate(over="ignore"), pytest.raises(DivergenceError, match="epoch 1"):
        run(ALS(problem(dense, real=np.float32), exact=True), at, pool, 5, monitor)
    for block in vars(at).values():
        assert np.isfinite(block).all()


@pytest.mark.usefixtures("small_chunks")
def test_chunks_that_overflow_to_both_infinities_are_told(pool):
    dense, at = random_problem(18, 40, 20, 1, density=1.0)
    early = np.arange(40)[:, None] < 20
    at = replace(at, P=np.where(early, 1e150, 1e200), Q=np.ones((20, 1)))
    # Early rows: −2 b s overflows.  Late rows: s² does.
    R = np.where(early, 1e200, np.zeros((40, 20)))
    with np.errstate(over="ignore"):
        systems = problem(replace(dense, R=R)).user_rows(at)
    with pytest.raises(DivergenceError, match="steps of rows overflow"):
        improve_by_cg(systems, at.P, at.beta, pool, 1)


# -------------------------------------------------------------------------------- epochs

@pytest.mark.parametrize("solver", SOLVERS)
def test_an_epoch_balances_solves_items_then_users_and_returns_the_loss_between(case, solver, pool):
    dense, at = case
    objective = problem(dense)
    swept = at.copy()
    loss = ALS(objective, solver == "cholesky", 3).epoch(swept, pool)
    balanced = at.copy()
    balance(objective, balanced, pool)
    between, _ = half_sweep(objective, balanced, solver, items=True, steps=3)
    after, _ = half_sweep(objective, between, solver, steps=3)
    assert loss == pytest.approx(dense.value(between), rel=1e-9)
    assert_near(swept.Q, between.Q)
    assert_near(swept.P, after.P)


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_loss_never_rises_from_epoch_to_epoch(case, solver, pool):
    dense, at = case
    at, sweep = at.copy(), ALS(problem(dense), solver == "cholesky", 1)
    losses = [sweep.epoch(at, pool) for _ in range(12)]
    assert np.diff(losses).max() <= 1e-10 * losses[0]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_after_a_fit_a_training_row_folds_in_to_its_own_factors(case, solver, real):
    dense, at = case
    at = as_type(at, real)
    solver = ALS(problem(dense, real=real), solver == "cholesky")
    with Pool(1) as pool:
        run(solver, at, pool, 3, Monitor())
        for u in range(len(at.P)):
            alone = replace(dense, R=dense.R[[u]], w=dense.w[[u]], stored=dense.stored[[u]],
                            users=dense.users.take(np.array([u])))
            P, beta = np.zeros((1, at.P.shape[1]), real), at.beta[[u]]
            solve_exactly(problem(alone, real=real).user_rows(at), P, beta, pool)
            tolerance = 1e-5 if real is np.float32 else 1e-12
            assert_near(P[0], at.P[u], tolerance)
            assert_near(beta, at.beta[[u]], tolerance)


class Interrupted:
    """A solver stopped by Ctrl-C in the middle of a half-sweep, after some epochs."""

    def __init__(self, solver: ALS, epochs: int):
        self.solver, self.left = solver, epochs
        self.begin, self.finish, self.sums = solver.begin, solver.finish, solver.sums
        self.go_back = solver.go_back

    def epoch(self, at, pool):
        if self.left == 0:
            solve_exactly(self.solver.problem.item_rows(at), at.Q, at.gamma, pool)
            at.P[: len(at.P) // 2] = 0.0
            raise KeyboardInterrupt
        self.left -= 1
        return self.solver.epoch(at, pool)


@pytest.mark.parametrize("solver", SOLVERS)
def test_ctrl_c_leaves_what_a_fit_of_the_finished_epochs_gives(solver, pool):
    dense, at = CASES["weighted unknown, learned bias"]
    stopped, whole, solver = at.copy(), at.copy(), ALS(problem(dense), solver == "cholesky")
    with pytest.raises(KeyboardInterrupt):
        run(Interrupted(solver, 2), stopped, pool, 5, Monitor())
    run(solver, whole, pool, 2, Monitor())
    for name, block in vars(whole).items():
        np.testing.assert_array_equal(getattr(stopped, name), block)


# ------------------------------------------------------------------- threads, precision

def fitted(dense: Dense, at: Factors, solver: str, n_threads: int, real=np.float32,
           n_epochs: int = 3) -> tuple[Factors, list[float]]:
    """Fit a copy; return it and its losses."""
    at, monitor = as_type(at, real), Monitor()
    with Pool(n_threads) as pool:
        run(ALS(problem(dense, real=real), solver == "cholesky"), at, pool, n_epochs, monitor)
    return at, [record["loss"] for record in monitor.history]


def assert_same_bits(left: tuple[Factors, list[float]], right: tuple[Factors, list[float]]):
    """Factors, biases and losses are the same to the last bit."""
    assert left[1] == right[1]
    for name, block in vars(left[0]).items():
        np.testing.assert_array_equal(block, getattr(right[0], name), err_msg=name)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("w0", [0.0, 0.45])
def test_1_2_and_8_threads_give_the_same_bits(solver, w0):
    dense, at = random_problem(11, 60, 50, 6, w0=w0, learns_bias=True, weighted=True)
    assert len(parallel.equal_cost_chunks(problem(dense).by_user.indptr)) > 20
    alone = fitted(dense, at, solver, 1)
    for n_threads in (2, 8):
        assert_same_bits(fitted(dense, at, solver, n_threads), alone)


@pytest.mark.parametrize("solver", SOLVERS)
def test_where_rows_are_cut_into_chunks_does_not_change_factors(solver, monkeypatch):
    dense, at = random_problem(12, 60, 50, 6, w0=0.45, learns_bias=True)
    whole, _ = fitted(dense, at, solver, 1)
    monkeypatch.setattr(parallel, "CHUNK_CELLS", 60)
    cut, _ = fitted(dense, at, solver, 2)
    for name, block in vars(whole).items():
        np.testing.assert_array_equal(block, getattr(cut, name), err_msg=name)


@pytest.mark.usefixtures("small_chunks")
def test_two_fits_at_once_give_what_each_gives_alone():
    inputs = [(*random_problem(13, 60, 50, 6, w0=0.45, learns_bias=True), "cg"),
              (*random_problem(14, 60, 50, 6), "cholesky")]
    alone = [fitted(*each, 2) for each in inputs]
    barrier, together = threading.Barrier(2), [None, None]

    def work(n):
        barrier.wait()
        together[n] = fitted(*inputs[n], 2)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(alone, together, strict=True):
        assert_same_bits(one, other)


@pytest.mark.parametrize("solver", SOLVERS)
def test_float32_half_sweeps_stay_near_float64(case, solver):
    dense, at = case
    single = as_type(at, np.float32)
    exact = as_type(single, np.float64)
    for items in (False, True):
        left, known = half_sweep(problem(dense, real=np.float32), single, solver, items=items)
        right, expected = half_sweep(problem(dense), exact, solver, items=items)
        for name in ("P", "beta", "Q", "gamma"):
            assert getattr(left, name).dtype == np.float32
            assert_near(getattr(left, name), getattr(right, name), 1e-4)
        assert known == pytest.approx(expected, rel=1e-5, abs=1e-4)


# ---------------------------------------------------------------------------- whole fits

@pytest.mark.parametrize("settings", [{}, {"w0": 0.1}, {"learns_bias": True}],
                         ids=["minimal", "weighted unknown", "learned bias"])
def test_where_factors_abound_all_fits_reach_the_same_objective(settings):
    # Three factors and noise, of which reg 5 leaves fewer than 16 directions alive: then no
    # start ends in a worse optimum than another.
    dense, _ = random_problem(15, 60, 40, 16, reg=5.0, **settings)
    truth = naive.random_point(np.random.default_rng(16), (60, 40), 3)
    noise = 0.3 * np.random.default_rng(17).normal(size=(60, 40))
    dense, values = replace(dense, R=naive.scores(truth) + noise), []
    for solver, seed in (("cholesky", 0), ("cg", 0), ("cholesky", 1), ("cg", 2)):
        start = naive.random_point(np.random.default_rng(seed), (60, 40), 16)
        start.beta[:], start.gamma[:] = dense.users.bias_mean, 0.0
        at, _ = fitted(dense, start, solver, 1, np.float64, 300)
        values.append(dense.value(at))
        assert np.linalg.matrix_rank(at.P, tol=1e-3) < 16
    assert max(values) - min(values) < 1e-4 * min(values)
