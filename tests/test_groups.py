"""Group vectors: a closed form that is the minimum, two forms that are one function."""

from __future__ import annotations

from dataclasses import replace

import naive
import numpy as np
import pytest
import samples
import scipy.sparse as sp
from naive import problem, random_problem, scores

from mfcore.objectives.factors import Factors
from mfcore.objectives.penalty import Penalty, Prior, averages, ridge_solver
from mfcore.parallel import Pool
from mfcore.solvers.als import ALS
from mfcore.solvers.gradient import LBFGS
from mfcore.solvers.minibatch import Adam
from mfcore.solvers.sgd import SGD

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
    problem(dense).solve_groups(here)
    gradient = dense.gradient(here)
    for name in ("G", "H", "g", "h") if dense.learns_bias else ("G", "H"):
        np.testing.assert_allclose(getattr(gradient, name), 0, atol=1e-10, err_msg=name)
    assert dense.value(here) < dense.value(at)


def test_where_biases_are_fixed_groups_have_none(pool):
    dense, at = CASES["fixed bias"]
    here = at.copy()
    problem(dense).solve_groups(here)
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
    prior.solve(P, P[:, 0].copy(), G, g, True)
    for group in range(3):
        members = of == group
        total = reg[members].sum()
        mean = reg[members] @ P[members] / (total + 1.3)
        np.testing.assert_allclose(G[group], mean, atol=1e-14)
        assert g[group] == pytest.approx(mean[0] * (total + 1.3) / (total + 0.8), abs=1e-14)
    assert not G[2].any()


def converged(dense, at, pool):
    """The point where L-BFGS on all blocks comes to rest."""
    here, solver = at.copy(), LBFGS(problem(dense))
    for _ in range(3000):
        solver.epoch(here, pool)
    return here


def test_at_a_stationary_point_of_the_whole_the_identity_holds(pool):
    of = np.array([0, 1, 0, 1, 1, 0, 0])
    dense, at = random_problem(7, learns_bias=True, k=2, n_features=(2, 1))
    dense = replace(dense, users=replace(dense.users, features=one_hot(of, 2).toarray()))
    here = converged(dense, at, pool)
    for group in range(2):
        reg = np.where(of == group, dense.users.reg, 0)
        np.testing.assert_allclose(here.G[group], reg @ here.P / (reg.sum() + 0.9), atol=1e-5)


@pytest.mark.parametrize("exact", [True, False])
def test_als_comes_to_rest_where_the_gradient_of_every_block_is_zero(case, exact, pool):
    dense, at = case
    here, solver = at.copy(), ALS(problem(dense), exact, 20)
    for _ in range(2000):
        solver.epoch(here, pool)
    gradient = dense.gradient(here)
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


def test_conjugate_gradient_and_cholesky_agree_on_many_features():
    random = np.random.default_rng(1)
    F = samples.random_array((40, 25), density=0.3, rng=random, format="csr")
    weights, Y = random.uniform(0.1, 4, 40), random.normal(size=(40, 3))
    exact = ridge_solver(F, weights, 0.7)(Y, np.zeros((25, 3)))
    solve = ridge_solver(F, weights, 0.7, most_dense=10)
    np.testing.assert_allclose(solve(Y, np.zeros((25, 3))), exact, atol=1e-7)
    np.testing.assert_allclose(solve(Y[:, 0], np.zeros(25)), exact[:, 0], atol=1e-7)
    np.testing.assert_array_equal(solve(0 * Y, np.zeros((25, 3))), 0)


def test_collinear_features_share_what_one_would_have():
    F = np.repeat(np.eye(3)[[0, 1, 2, 0, 1]], 2, axis=1)              # every column twice
    prior = Prior(Penalty(np.ones(5), np.ones(5), np.zeros((1, 2)), np.zeros(1)),
                  sp.csr_array(F), 0.5)
    G = np.zeros((6, 2))
    prior.solve(np.arange(10.0).reshape(5, 2), np.zeros(5), G, np.zeros(6), False)
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
