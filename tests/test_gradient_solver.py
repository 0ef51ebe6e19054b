"""L-BFGS: steps are exact, the direction is the textbook's, and fits meet the references."""

from __future__ import annotations

from dataclasses import replace

import naive
import numpy as np
import pytest
from hypothesis import given
from naive import Dense, as_type, problem, random_problem
from scipy.optimize import LbfgsInvHessProduct, minimize

from mfcore import gradcheck
from mfcore.objectives.factors import Factors
from mfcore.parallel import Pool
from mfcore.solvers.als import ALS
from mfcore.solvers.gradient import (
    FREE,
    LBFGS,
    Pairs,
    best_step,
    line_coefficients,
    rest_at_prior,
)
from mfcore.solvers.loop import Monitor, run
from mfcore.validation import DivergenceError

CASES = {
    "minimal": random_problem(1),
    "fixed bias": random_problem(2, r0=2.3),
    "learned bias": random_problem(3, r0=2.3, learns_bias=True),
    "weighted unknown": random_problem(4, w0=0.45, r0=1.7),
    "weighted unknown, learned bias": random_problem(5, w0=0.45, r0=1.7, learns_bias=True),
    "weights below w0": random_problem(6, w0=2.9, weighted=True),
    "priors": random_problem(8, w0=0.45, learns_bias=True, means="rows", weighted=True),
    "a shared prior": random_problem(9, means="shared", weighted=True),
    "groups": random_problem(12, w0=0.45, learns_bias=True, n_features=(3, 2)),
    "more factors than users": random_problem(11, 3, 4, 9, learns_bias=True, w0=1.3),
    "1 x 1": random_problem(10, 1, 1, 1, density=1.0, w0=0.45, learns_bias=True),
    "no rating": random_problem(13, density=0.0, w0=0.45, r0=1.7, learns_bias=True),
}


@pytest.fixture(params=CASES)
def case(request) -> tuple[Dense, Factors]:
    """Each of the cases: the dense problem, and a point."""
    return CASES[request.param]


@pytest.fixture(scope="module")
def pool():
    with Pool(1) as pool:
        yield pool


def low_rank_problem(seed: int = 1, **options) -> tuple[Dense, Factors]:
    """60 x 40, k = 16, reg 5: the ratings have rank three, and a little noise."""
    options = {"n_users": 60, "n_items": 40, "k": 16, "density": 0.7, "reg": 5.0, **options}
    dense, at = random_problem(seed, **options)
    random = np.random.default_rng(seed)
    R = random.normal(size=(60, 3)) @ random.normal(size=(3, 40))
    R += dense.r0 + 0.1 * random.normal(size=R.shape)
    return replace(dense, R=R), replace(at, P=0.3 * at.P, Q=0.3 * at.Q)


def moved(at: Factors, d: Factors, t: float) -> Factors:
    """The point at + t d."""
    return Factors(*(x + t * y for x, y in zip(vars(at).values(), vars(d).values(), strict=True)))


def fitted(solver, at: Factors, n_epochs: int, n_threads: int = 1) -> tuple[Factors, list[float]]:
    """Run a solver from a copy; return where it came to and its losses."""
    at, monitor = at.copy(), Monitor()
    with Pool(n_threads) as pool:
        run(solver, at, pool, n_epochs, monitor)
    return at, [record["loss"] for record in monitor.history]


# ---------------------------------------------------------------------------- the step

@given(naive.problems())
def test_the_objective_along_a_direction_is_the_quartic(drawn):
    dense, at = drawn
    d = naive.random_point(np.random.default_rng(3), dense.R.shape, at.P.shape[1])
    if not dense.learns_bias:
        d = replace(d, beta=0 * d.beta, gamma=0 * d.gamma)
    slope = sum(np.vdot(g, x) for g, x in zip(vars(dense.gradient(at)).values(),
                                              vars(d).values(), strict=True))
    c = np.append(slope, line_coefficients(problem(dense), at, d, Pool(1)))
    start = dense.value(at)
    for t in (-0.7, 0.3, 2.1):
        change = dense.value(moved(at, d, t)) - start
        polynomial = float(c @ t ** np.arange(1, 5))
        assert polynomial == pytest.approx(change, abs=1e-10 * max(1, start, abs(change)))


@pytest.mark.parametrize("c", [[-1.0, 2.0, 0.0, 0.0], [-1.0, -2.0, 0.0, 3.0],
                               [-1e-9, 3.0, -4.0, 1.5], [-2.0, 0.0, 0.0, 1.0],
                               [-1e-30, 1e-12, 0.0, 1e9], [-1e6, 5.0, -3.0, 1.0]])
def test_the_best_step_has_the_least_value_of_all_steps(c):
    c = np.array(c)
    t = best_step(c)
    trial = t * np.concatenate([np.linspace(0, 4, 4001), np.geomspace(4, 1e4, 500)])
    assert t > 0
    assert c @ t ** np.arange(1, 5) <= ((trial[:, None] ** np.arange(1, 5)) @ c).min() \
        + 1e-12 * abs(c[0] * t)


@pytest.mark.parametrize("c", [[0.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [0.0] * 4])
def test_where_the_direction_does_not_fall_there_is_no_step(c):
    assert best_step(np.array(c)) == 0.0


@pytest.mark.parametrize("scale", [1.0, 1e-150, 1e150])
@pytest.mark.parametrize("most", [3, 4])
def test_the_direction_is_that_of_the_matrix_updated_pair_by_pair(most, scale, pool):
    random = np.random.default_rng(0)
    A = random.normal(size=(7, 7))
    A = A @ A.T + np.eye(7)
    pairs, g = Pairs(most), random.normal(size=7)
    for step in random.normal(size=(4, 7)):
        pairs.add(pairs.begin(step / scale), scale * (A @ step), pool)
    steps, changes, ratios = zip(*pairs.kept, strict=True)
    assert len(ratios) == most
    (S, Y), root = np.array([steps, changes], np.float64), np.sqrt(np.array(ratios))[:, None]
    S, Y = S * root * scale, Y / root / scale       # (H is that of any c s, y / c, times c²)
    first = (S[-1] @ Y[-1]) / (Y[-1] @ Y[-1])
    H = first * LbfgsInvHessProduct(S / np.sqrt(first), Y * np.sqrt(first)).todense()
    d = np.empty(7)
    pairs.put_direction(scale**2 * g, d, pool)
    np.testing.assert_allclose(d, -H @ g, rtol=1e-10)
    pairs.put_direction(scale * (A @ step), d, pool)
    np.testing.assert_allclose(scale * d, -step, rtol=1e-6)
    Pairs(3).put_direction(g, d, pool)
    np.testing.assert_array_equal(d, -g)


def test_pairs_are_kept_in_the_room_of_the_oldest_and_without_rounding_alone(pool):
    pairs = Pairs(2)
    for number in range(4):
        pairs.add(pairs.begin(np.eye(3)[number % 3]), np.ones(3), pool)
    rooms = {pair.s.ctypes.data for pair in pairs.kept}
    pairs.add(pairs.begin(np.ones(3)), -np.ones(3), pool)          # sᵀy < 0: not kept
    assert [pair.s.tolist() for pair in pairs.kept] == [[1.0, 0.0, 0.0]]
    pairs.add(pairs.begin(np.ones(3)), np.zeros(3), pool)
    assert {pair.s.ctypes.data for pair in pairs.kept} <= rooms


def test_the_first_epoch_follows_the_gradient_to_the_least_value(case, pool):
    dense, at = case
    there, at = at.copy(), at.copy()
    loss = LBFGS(problem(dense)).epoch(there, pool)
    rest_at_prior(problem(dense), at)
    d = moved(dense.gradient(at), dense.gradient(at), -2.0)
    values = [dense.value(moved(at, d, t)) for t in np.geomspace(1e-4, 10, 400)]
    assert loss == pytest.approx(dense.value(there), rel=1e-11)
    assert loss <= min(values) * (1 + 1e-12)


def test_the_loss_falls_in_every_epoch(case):
    dense, at = case
    _, losses = fitted(LBFGS(problem(dense), memory=3), at, 40)
    assert np.diff(losses).max() <= 1e-12 * losses[0]


# ------------------------------------------------------------------------- the gradient

def test_the_remainder_of_what_it_follows_falls_with_slope_two(case, pool):
    dense, at = case
    solver, objective = LBFGS(problem(dense)), problem(dense)
    names = [name for name in (FREE["both"] if dense.learns_bias else "PQGH")
             if getattr(at, name).size]

    def value_and_gradient(blocks):
        here = replace(at, **blocks)
        solver._begin(here, pool)
        gradient = vars(solver._blocks(solver._g, here))
        return objective.value(here, pool).total, {name: gradient[name] for name in names}

    # (Rows that rest at their prior are moved there: they are no part of the check.)
    if dense.w0 == 0:
        dense = replace(dense, stored=np.ones_like(dense.stored))
        solver, objective = LBFGS(problem(dense)), problem(dense)
    slopes = gradcheck(value_and_gradient, {name: getattr(at, name) for name in names}).slopes
    assert set(slopes) == set(names)
    assert min(slopes.values()) == pytest.approx(2, abs=0.01)


# ------------------------------------------------------------------------------- fits

def test_with_one_side_fixed_it_is_dense_least_squares(case):
    dense, at = case
    there, _ = fitted(LBFGS(problem(dense), 30, free="users"), at, 200)
    P, beta = dense.solved_users(at)
    np.testing.assert_allclose(there.P, P, rtol=0, atol=1e-8 * max(1, np.abs(P).max()))
    np.testing.assert_allclose(there.beta, beta, rtol=0, atol=1e-8 * max(1, np.abs(beta).max()))
    np.testing.assert_array_equal(there.Q, at.Q)
    np.testing.assert_array_equal(there.gamma, at.gamma)
    there, _ = fitted(LBFGS(problem(dense), 30, free="items"), at, 200)
    Q, gamma = dense.transposed.solved_users(naive.transposed_factors(at))
    np.testing.assert_allclose(there.Q, Q, rtol=0, atol=1e-8 * max(1, np.abs(Q).max()))
    np.testing.assert_allclose(there.gamma, gamma, rtol=0,
                               atol=1e-8 * max(1, np.abs(gamma).max()))
    np.testing.assert_array_equal(there.P, at.P)


@pytest.mark.parametrize("learns_bias", [False, True])
@pytest.mark.parametrize("w0", [0.0, 0.45])
def test_a_whole_fit_meets_als_and_scipy_where_the_factors_exceed_the_rank(w0, learns_bias):
    dense, at = low_rank_problem(w0=w0, r0=1.7, learns_bias=learns_bias)
    objective = problem(dense)
    reference, _ = fitted(ALS(objective, True), at, 400)
    assert np.linalg.matrix_rank(reference.P, tol=1e-3) < 16
    best = dense.value(reference)
    _, losses = fitted(LBFGS(objective), at, 150)
    assert abs(losses[-1] / best - 1) < 1e-7
    assert abs(losses[59] / best - 1) < 1e-4
    solver = LBFGS(objective)

    def value_and_gradient(x):
        here = replace(at, **{name: vars(solver._blocks(x, at))[name] for name in FREE["both"]})
        with Pool(1) as pool:
            return objective.value(here, pool).total, \
                solver._flat(objective.gradient(here, pool))

    scipys = minimize(value_and_gradient, solver._flat(at), jac=True, method="L-BFGS-B",
                      options={"maxiter": 400, "maxfun": 1000, "ftol": 0, "gtol": 1e-8})
    assert losses[-1] == pytest.approx(scipys.fun, rel=1e-7)


def test_rows_without_ratings_are_exactly_at_their_prior():
    dense, at = CASES["priors"]
    dense = replace(dense, w0=0.0)
    there, _ = fitted(LBFGS(problem(dense)), at, 5)
    np.testing.assert_array_equal(there.P[-1], dense.users.means[-1])
    assert there.beta[-1] == dense.users.bias_mean
    np.testing.assert_array_equal(there.Q[-1], dense.items.means[-1])
    untouched = at.copy()
    rest_at_prior(problem(replace(dense, w0=0.3)), untouched)
    np.testing.assert_array_equal(untouched.P, at.P)


def test_float32_factors_hold_the_rounded_float64_fit():
    dense, at = low_rank_problem(w0=0.45)
    at = as_type(as_type(at, np.float32), np.float64)
    exact, losses = fitted(LBFGS(problem(dense)), at, 25)
    rounded, same = fitted(LBFGS(problem(dense)), as_type(at, np.float32), 25)
    assert rounded.P.dtype == np.float32
    assert same == losses
    for name in FREE["both"]:
        np.testing.assert_array_equal(getattr(rounded, name),
                                      getattr(exact, name).astype(np.float32))


def test_ratings_in_another_unit_take_the_same_steps():
    dense, at = low_rank_problem(learns_bias=True)
    c = 9.0
    users, items = (replace(side, reg=c * side.reg, bias_mean=c * side.bias_mean)
                    for side in (dense.users, dense.items))
    scaled = replace(dense, R=c * dense.R, r0=c * dense.r0, users=users, items=items)
    there = replace(at, P=c ** 0.5 * at.P, Q=c ** 0.5 * at.Q, beta=c * at.beta, gamma=c * at.gamma)
    _, wanted = fitted(LBFGS(problem(dense)), at, 6)
    _, losses = fitted(LBFGS(replace(problem(scaled), unit=c)), there, 6)
    np.testing.assert_allclose(losses, np.multiply(c ** 2, wanted), rtol=1e-4)


def test_the_bits_do_not_depend_on_the_threads(monkeypatch):
    monkeypatch.setattr("mfcore.parallel.CHUNK_CELLS", 60)
    monkeypatch.setattr("mfcore.parallel.GRAM_ROWS", 7)
    dense, at = low_rank_problem(w0=0.45, learns_bias=True)
    alone, losses = fitted(LBFGS(problem(dense)), at, 6, 1)
    together, same = fitted(LBFGS(problem(dense)), at, 6, 3)
    assert losses == same
    np.testing.assert_array_equal(alone.P, together.P)


def test_a_resumed_fit_has_the_bits_of_one_that_never_stopped(pool):
    dense, at = low_rank_problem(learns_bias=True)
    at = as_type(at, np.float32)
    whole, _ = fitted(LBFGS(problem(dense), 4), at, 9)
    first, stopped = LBFGS(problem(dense), 4), at.copy()
    run(first, stopped, pool, 5, Monitor())
    second = LBFGS(problem(dense), 4)
    second.resume(stopped, first.state())
    run(second, stopped, pool, 4, Monitor())
    for name in FREE["both"]:
        np.testing.assert_array_equal(getattr(stopped, name), getattr(whole, name))
    fresh, again = LBFGS(problem(dense), 4), stopped.copy()
    fresh.resume(again, LBFGS(problem(dense), 4).state())          # nothing ran yet
    assert fresh.epoch(again, pool) > 0


def test_parameters_changed_from_outside_begin_afresh(pool):
    dense, at = CASES["learned bias"]
    solver, here = LBFGS(problem(dense)), at.copy()
    for _ in range(3):
        solver.epoch(here, pool)
    again = at.copy()
    assert solver.epoch(again, pool) == LBFGS(problem(dense)).epoch(at.copy(), pool)


# ---------------------------------------------------------------------------- bad input

def test_what_is_out_of_range_is_named():
    objective = problem(CASES["minimal"][0])
    with pytest.raises(ValueError, match="memory must be >= 1, got 0"):
        LBFGS(objective, 0)
    with pytest.raises(ValueError, match="free must be one of"):
        LBFGS(objective, free="none")


def test_numbers_that_overflow_raise_and_keep_the_state(pool):
    dense, at = CASES["minimal"]
    dense = replace(dense, R=dense.R * 1e200)
    here = at.copy()
    with np.errstate(all="ignore"), pytest.raises(DivergenceError, match=r"epoch 1: .*raise reg"):
        run(LBFGS(problem(dense)), here, pool, 3, Monitor())
    np.testing.assert_array_equal(here.P, at.P)
