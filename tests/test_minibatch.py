"""Adam: batches add up to the gradient, steps are the textbook's, and fits come near ALS."""

from __future__ import annotations

from dataclasses import replace

import naive
import numpy as np
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st
from naive import Dense, as_type, problem, random_problem
from test_gradient_solver import CASES, fitted, low_rank_problem

from mfcore import gradcheck
from mfcore.kernels import minibatch as kernels
from mfcore.objectives.factors import Factors
from mfcore.parallel import Pool
from mfcore.solvers.als import ALS
from mfcore.solvers.gradient import rest_at_prior
from mfcore.solvers.loop import Monitor, run
from mfcore.solvers.minibatch import MOMENTS, Adam, checked_batch_size
from mfcore.validation import DivergenceError

BLOCKS = ("P", "Q", "beta", "gamma")


@pytest.fixture(params=CASES)
def case(request) -> tuple[Dense, Factors]:
    """Each of the cases: the dense problem, and a point."""
    return CASES[request.param]


@pytest.fixture(scope="module")
def pool():
    with Pool(1) as pool:
        yield pool


def summed(solver: Adam, at: Factors, pool: Pool) -> Factors:
    """The gradients of all batches of an epoch, added up at a point that stands still."""
    k = at.P.shape[1]
    totals = [np.zeros((len(X), k + 1)) for X in (at.P, at.Q)]
    grams = solver.grams(at, pool)
    for number, cells in enumerate(solver.batches()):
        for total, batch in zip(totals, solver.gradients(at, number, cells, grams, pool),
                                strict=True):
            assert len(np.unique(batch.rows)) == len(batch.rows)
            total[batch.rows] += batch.gradient
    learns = float(solver.problem.learns_bias)
    return Factors(totals[0][:, :k], totals[1][:, :k], learns * totals[0][:, k],
                   learns * totals[1][:, k])


def assert_same_gradient(got: Factors, expected: Factors, tolerance: float = 1e-10) -> None:
    for name in BLOCKS:
        left, right = getattr(got, name), getattr(expected, name)
        np.testing.assert_allclose(left, right, rtol=0, err_msg=name,
                                   atol=tolerance * max(1.0, np.abs(right).max(initial=0)))


# ------------------------------------------------------------------------- the gradient

@pytest.mark.kernel
@given(naive.problems(), st.integers(1, 9), strategies.seeds)
def test_the_batches_of_an_epoch_add_up_to_the_dense_gradient(drawn, batch_size, seed):
    dense, at = drawn
    size = min(batch_size, int(dense.stored.sum())) or None
    solver = Adam(problem(dense), batch_size=size, random_state=seed)
    assert_same_gradient(summed(solver, at, Pool(1)), dense.gradient(at))


def test_the_batches_of_every_case_add_up_to_the_objectives_gradient(case, pool):
    dense, at = case
    objective = problem(dense)
    for size in (1, 4, None):
        if size is None or size <= dense.stored.sum():
            solver = Adam(objective, batch_size=size, random_state=0)
            assert_same_gradient(summed(solver, at, pool), objective.gradient(at, pool))


def test_a_gradient_without_decay_lacks_the_penalty_and_nothing_else(case, pool):
    dense, at = case
    bare = replace(dense, users=replace(dense.users, reg=0 * dense.users.reg,
                                        bias_reg=0 * dense.users.bias_reg),
                   items=replace(dense.items, reg=0 * dense.items.reg,
                                 bias_reg=0 * dense.items.bias_reg))
    for decay in ("decoupled", None):
        solver = Adam(problem(dense), decay=decay, random_state=0)
        assert_same_gradient(summed(solver, at, pool), bare.gradient(at))


def test_the_remainder_of_the_summed_batches_falls_with_slope_two(case, pool):
    dense, at = case
    solver = Adam(problem(dense), random_state=0)
    names = BLOCKS if dense.learns_bias else BLOCKS[:2]

    def value_and_gradient(blocks):
        here = replace(at, **blocks)
        gradient = vars(summed(solver, here, pool))
        return solver.problem.value(here, pool).total, {name: gradient[name] for name in names}

    slopes = gradcheck(value_and_gradient, {name: getattr(at, name) for name in names}).slopes
    assert min(slopes.values()) == pytest.approx(2, abs=0.01)


def test_a_batch_is_its_cells_and_their_share_of_the_rest(pool):
    dense, at = CASES["priors"]
    objective = problem(dense)
    solver = Adam(objective, batch_size=5, random_state=1)
    cells = next(iter(solver.batches()))
    users, items = np.nonzero(dense.stored)
    W, E = np.zeros(dense.R.shape), naive.scores(at)
    W[users[cells], items[cells]] = 1
    E = W * ((dense.W - dense.w0) * E - dense.W * dense.T)
    whole = dense.w0 * naive.scores(at) @ at.Q \
        + dense.users.reg[:, None] * (at.P - dense.users.means)
    share = W.sum(1) / np.maximum(dense.stored.sum(1), 1)
    expected = 2 * (E @ at.Q + share[:, None] * whole)
    got = solver.gradients(at, 0, cells, solver.grams(at, pool), pool)[0]
    touched = W.sum(1) > 0
    idle = np.setdiff1d(got.rows, np.flatnonzero(touched))
    assert dense.stored[idle].sum() == 0
    place = np.argsort(got.rows)
    chosen = place[np.isin(got.rows[place], np.flatnonzero(touched))]
    np.testing.assert_allclose(got.gradient[chosen, :-1], expected[touched], atol=1e-12)


# ------------------------------------------------------------------------------- batches

@given(st.integers(1, 60), st.integers(1, 60), strategies.seeds)
def test_an_epoch_visits_every_cell_once_in_a_seeded_order(n_items, batch_size, seed):
    dense, _ = random_problem(0, 1, n_items, 1, density=1.0)
    make = lambda: Adam(problem(dense), batch_size=min(batch_size, n_items),  # noqa: E731
                        random_state=seed)
    batches = list(make().batches())
    assert len(batches) == make().n_batches
    assert {len(batch) for batch in batches[:-1]} <= {min(batch_size, n_items)}
    assert sorted(np.concatenate(batches)) == list(range(n_items))
    for one, other in zip(batches, make().batches(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_each_epoch_and_each_seed_has_an_order_of_its_own(pool):
    dense, at = low_rank_problem()
    solver, at = Adam(problem(dense), random_state=3), at.copy()
    orders = []
    for _ in range(2):
        orders.append(np.concatenate(list(solver.batches())))
        solver.epoch(at, pool)
    orders.append(np.concatenate(list(Adam(problem(dense), random_state=4).batches())))
    assert len({order.tobytes() for order in orders}) == 3


def test_the_grams_follow_the_batches_exactly(pool):
    dense, at = CASES["weighted unknown, learned bias"]
    solver, at = Adam(problem(dense), 0.1, 3, random_state=0), at.copy()
    grams = solver.grams(at, pool)
    for number, cells in enumerate(solver.batches()):
        batches = solver.gradients(at, number, cells, grams, pool)
        solver._step(at, batches, grams, 0.1, pool)
        for got, expected in zip(grams, solver.grams(at, pool), strict=True):
            np.testing.assert_allclose(got, expected, atol=1e-11)


# -------------------------------------------------------------------------------- steps

def textbook_adam(x: np.ndarray, gradients: list[np.ndarray], rate: float, eps: float
                  ) -> np.ndarray:
    """Kingma and Ba 2015, algorithm 1."""
    b1, b2 = MOMENTS[:2]
    m = v = np.zeros_like(x)
    for n, g in enumerate(gradients, 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g ** 2
        x = x - rate * (m / (1 - b1 ** n)) / (np.sqrt(v / (1 - b2 ** n)) + eps)
    return x


@pytest.mark.kernel
@pytest.mark.parametrize("learns_bias", [False, True])
def test_each_row_takes_the_steps_of_the_textbook_at_its_own_count(learns_bias):
    random = np.random.default_rng(0)
    X, bias = random.normal(size=(4, 3)), random.normal(size=4)
    start, bias_start = X.copy(), bias.copy()
    first, second, updates = np.zeros((4, 4)), np.zeros((4, 4)), np.zeros(4, np.int64)
    seen: dict[int, list[np.ndarray]] = {row: [] for row in range(4)}
    for rows in ([0, 2], [2], [2, 1], [1, 0]):
        gradient = random.normal(size=(len(rows), 4))
        kernels.adam_rows(np.array(rows), gradient, X, bias, first, second, updates,
                          np.array([0.3, 0.7]), np.array([*MOMENTS[:2], 0.1, 0.2]), learns_bias)
        for row, g in zip(rows, gradient, strict=True):
            seen[row].append(g)
    for row, gradients in seen.items():
        expected = textbook_adam(start[row], [g[:3] for g in gradients], 0.3, 0.1)
        np.testing.assert_allclose(X[row], expected, rtol=1e-12)
        expected = textbook_adam(bias_start[row], [g[3] for g in gradients], 0.7, 0.2)
        assert bias[row] == pytest.approx(expected if learns_bias else bias_start[row])
    assert updates.tolist() == [2, 2, 3, 0]


@pytest.mark.kernel
@pytest.mark.parametrize("shared", [False, True])
def test_a_decoupled_step_is_the_implicit_step_towards_the_prior(shared):
    random = np.random.default_rng(1)
    X, bias = random.normal(size=(4, 3)), random.normal(size=4)
    reg, bias_reg = random.uniform(0.2, 30, (2, 4))
    means = random.normal(size=(1 if shared else 4, 3))
    rows, share = np.array([3, 1]), np.array([0.25, 1.0])
    expected, expected_bias = X.copy(), bias.copy()
    for row, c in zip(rows, share, strict=True):
        m = means[0 if shared else row]
        h = 0.3 * c * 2 * reg[row]
        expected[row] = (X[row] + h * m) / (1 + h)
        h = 0.7 * c * 2 * bias_reg[row]
        expected_bias[row] = (bias[row] + h * 1.7) / (1 + h)
    given = reg, bias_reg, means, np.array([1.7]), np.array([0.3, 0.7])
    kernels.pull_to_prior(rows, share, X, bias, *given, True)
    np.testing.assert_allclose(X, expected, rtol=1e-13)
    np.testing.assert_allclose(bias, expected_bias, rtol=1e-13)
    kernels.pull_to_prior(rows, share, X, bias, *given, False)
    np.testing.assert_allclose(bias, expected_bias, rtol=1e-13)


def test_rows_outside_a_batch_stay_as_they_are(pool):
    dense, at = CASES["minimal"]
    solver, here = Adam(problem(dense), 0.1, 1, random_state=0), at.copy()
    cells = next(iter(solver.batches()))
    solver._step(here, solver.gradients(here, 0, cells, [], pool), [], 0.1, pool)
    moved = np.flatnonzero((here.P != at.P).any(1))
    user = np.nonzero(dense.stored)[0][cells[0]]
    empty = np.flatnonzero(~dense.stored.any(1))
    assert user in moved
    assert set(moved) <= {user, *empty}


# --------------------------------------------------------------------------------- fits

@pytest.mark.parametrize("learns_bias", [False, True])
@pytest.mark.parametrize("w0", [0.0, 0.45])
def test_a_whole_fit_comes_near_als_where_the_factors_exceed_the_rank(w0, learns_bias):
    dense, at = low_rank_problem(w0=w0, r0=1.7, learns_bias=learns_bias)
    reference, _ = fitted(ALS(problem(dense), True), at, 400)
    assert np.linalg.matrix_rank(reference.P, tol=1e-3) < 16
    best = dense.value(reference)
    solver = Adam(problem(dense), 0.05, 100, rate_decay=0.1, random_state=0)
    there, losses = fitted(solver, at, 150)
    assert losses[-1] == pytest.approx(dense.value(there), rel=1e-9)
    assert abs(losses[-1] / best - 1) < 5e-3


def test_with_one_side_fixed_a_falling_rate_comes_near_dense_least_squares(case):
    dense, at = case
    P, beta = dense.solved_users(at)
    best = dense.value(replace(at, P=P, beta=beta))
    solver = Adam(problem(dense), 0.5, rate_decay=0.1, free="users", random_state=0)
    there, _ = fitted(solver, at, 300)
    assert dense.value(there) - best < 3e-4 * max(best, 1.0)
    np.testing.assert_array_equal(there.Q, at.Q)
    np.testing.assert_array_equal(there.gamma, at.gamma)


@pytest.mark.parametrize("name", ["minimal", "learned bias", "weights below w0", "priors"])
def test_with_one_side_fixed_and_all_cells_in_a_batch_it_is_dense_least_squares(name):
    dense, at = CASES[name]
    P, beta = dense.solved_users(at)
    solver = Adam(problem(dense), 0.5, int(dense.stored.sum()), rate_decay=0.02, free="users")
    there, _ = fitted(solver, at, 1500)
    np.testing.assert_allclose(there.P, P, rtol=0, atol=1e-8 * max(1, np.abs(P).max()))
    np.testing.assert_allclose(there.beta, beta, rtol=0, atol=1e-8 * max(1, np.abs(beta).max()))


def test_with_users_fixed_and_all_cells_in_a_batch_it_is_dense_least_squares():
    dense, at = CASES["priors"]
    Q, gamma = dense.transposed.solved_users(naive.transposed_factors(at))
    solver = Adam(problem(dense), 0.5, int(dense.stored.sum()), rate_decay=0.02, free="items")
    there, _ = fitted(solver, at, 1500)
    np.testing.assert_allclose(there.Q, Q, rtol=0, atol=1e-8 * max(1, np.abs(Q).max()))
    np.testing.assert_allclose(there.gamma, gamma, rtol=0, atol=1e-8)
    np.testing.assert_array_equal(there.P, at.P)


def test_a_decoupled_fit_shrinks_but_rests_above_the_formulas_minimum():
    dense, at = low_rank_problem()
    fits = {decay: fitted(Adam(problem(dense), 0.05, 100, decay, 0.1, random_state=0), at, 100)
            for decay in ("lazy", "decoupled", None)}
    norms = {decay: np.linalg.norm(there.P) for decay, (there, _) in fits.items()}
    assert norms["decoupled"] < 0.95 * norms[None]
    assert norms["lazy"] < 0.95 * norms[None]
    assert fits["decoupled"][1][-1] > 1.02 * fits["lazy"][1][-1]


@pytest.mark.parametrize("unit", [1.0, 4.0])
@pytest.mark.parametrize("free", ["both", "users", "items"])
@pytest.mark.parametrize("decay", ["lazy", "decoupled", None])
@pytest.mark.parametrize("w0", [0.0, 0.45])
def test_the_first_epoch_of_one_batch_is_a_step_by_the_signs_of_the_gradient(
        unit, free, decay, w0, pool):
    dense, at = random_problem(4, w0=w0, learns_bias=True, means="rows", weighted=True)
    solver = Adam(replace(problem(dense), unit=unit), 0.02, int(dense.stored.sum()), decay, 0.3,
                  free)
    solver.epoch(moved := at.copy(), pool)
    if w0 == 0:
        start = at.copy()
        rest_at_prior(solver.problem, start, free)
    else:
        start = at
    bare = replace(dense, users=replace(dense.users, reg=0 * dense.users.reg,
                                        bias_reg=0 * dense.users.bias_reg),
                   items=replace(dense.items, reg=0 * dense.items.reg,
                                 bias_reg=0 * dense.items.bias_reg))
    slopes = (dense if decay == "lazy" else bare).gradient(start)
    for name, side, of in (("P", dense.users, "users"), ("beta", dense.users, "users"),
                           ("Q", dense.items, "items"), ("gamma", dense.items, "items")):
        before, g, bias = getattr(start, name), getattr(slopes, name), name in ("beta", "gamma")
        eta, eps = 0.02 * unit ** (1 if bias else 0.5), MOMENTS[2] * unit ** (1 if bias else 1.5)
        after = before - eta * g / (np.abs(g) + eps)
        if decay == "decoupled":
            reg = side.bias_reg if bias else side.reg[:, None]
            h = 2 * 0.02 * (1 if bias else 1 / unit) * reg
            after = (after + h * (side.bias_mean if bias else side.means)) / (1 + h)
        expected = after if free in ("both", of) else getattr(at, name)
        np.testing.assert_allclose(getattr(moved, name), expected, rtol=1e-6, atol=1e-7,
                                   err_msg=name)


def test_rows_without_ratings_are_exactly_at_their_prior():
    dense, at = CASES["priors"]
    dense = replace(dense, w0=0.0)
    there, _ = fitted(Adam(problem(dense), random_state=0), at, 2)
    np.testing.assert_array_equal(there.P[-1], dense.users.means[-1])
    assert there.beta[-1] == dense.users.bias_mean


@pytest.mark.parametrize("w0", [0.0, 0.45])
def test_the_bits_do_not_depend_on_the_threads(w0):
    dense, at = low_rank_problem(w0=w0, learns_bias=True)
    at = as_type(at, np.float32)
    ways = [fitted(Adam(problem(dense), random_state=5), at, 3, n)[0] for n in (1, 2, 8)]
    for name in BLOCKS:
        assert len({getattr(way, name).tobytes() for way in ways}) == 1


def test_float32_factors_stay_near_the_float64_fit():
    dense, at = low_rank_problem(w0=0.45, learns_bias=True)
    exact, _ = fitted(Adam(problem(dense), random_state=5), at, 20)
    rounded, _ = fitted(Adam(problem(dense, real=np.float32), random_state=5),
                        as_type(at, np.float32), 20)
    assert rounded.P.dtype == np.float32
    assert dense.value(rounded) == pytest.approx(dense.value(exact), rel=1e-4)


def test_int64_indices_and_read_only_cells_give_the_same_fit():
    dense, at = CASES["priors"]
    plain, _ = fitted(Adam(problem(dense), random_state=0), at, 3)
    other, _ = fitted(Adam(problem(dense, index=np.int64, layout="read-only"), random_state=0),
                      at, 3)
    np.testing.assert_allclose(plain.P, other.P, rtol=1e-12)


@pytest.mark.parametrize("case", [
    low_rank_problem(w0=0.45, learns_bias=True),
    random_problem(3, n_features=(2, 3), learns_bias=True)], ids=["biases", "groups"])
def test_a_resumed_fit_has_the_bits_of_one_that_never_stopped(case, pool):
    """Rows of a group are pulled to where its vector is now, not to where it once was."""
    dense, at = case
    whole, _ = fitted(Adam(problem(dense), rate_decay=0.2, random_state=0), at, 7)
    first, stopped = Adam(problem(dense), rate_decay=0.2, random_state=0), at.copy()
    run(first, stopped, pool, 4, Monitor())
    second = Adam(problem(dense), rate_decay=0.2, random_state=99)
    second.resume(stopped, first.state())
    run(second, stopped, pool, 3, Monitor())
    for name in BLOCKS:
        np.testing.assert_array_equal(getattr(stopped, name), getattr(whole, name))


# ---------------------------------------------------------------------------- bad input

@pytest.mark.parametrize(("options", "message"), [
    ({"learning_rate": 0.0}, "learning_rate must be finite and > 0, got 0.0"),
    ({"learning_rate": float("nan")}, "learning_rate must be finite"),
    ({"rate_decay": -0.1}, "rate_decay must be finite and >= 0, got -0.1"),
    ({"batch_size": 0}, "batch_size must be >= 1, got 0"),
    ({"batch_size": 10_000}, r"batch_size must be at most the number of ratings, \d+, got 10000"),
    ({"decay": "sudden"}, "decay must be one of 'lazy', 'decoupled', None"),
    ({"free": "all"}, "free must be one of"),
    ({"random_state": -1}, "random_state must be >= 0"),
])
def test_what_is_out_of_range_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        Adam(problem(CASES["minimal"][0]), **options)


def test_no_batch_size_gives_many_batches_or_large_ones():
    assert checked_batch_size(None, 0) == 1
    assert checked_batch_size(None, 3200) == 100
    assert checked_batch_size(None, 10**8) == 8192
    assert checked_batch_size(77, 77) == 77


def test_a_rate_that_diverges_names_epoch_and_rate_and_keeps_the_state_before(pool):
    dense, at = low_rank_problem()
    at = as_type(at, np.float32)
    here = at.copy()
    with np.errstate(all="ignore"), pytest.raises(
            DivergenceError, match=r"epoch 1: .* at learning_rate=1e\+30; lower it"):
        run(Adam(problem(dense, real=np.float32), 1e30), here, pool, 3, Monitor())
    for name in BLOCKS:
        np.testing.assert_array_equal(getattr(here, name), getattr(at, name))
