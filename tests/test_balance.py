"""The balance of two sides: scores stay, the penalty falls as far as it can."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from naive import as_type, problem, random_problem, scores

from mfcore import ImplicitMF, MatrixFactorization
from mfcore.parallel import Pool
from mfcore.solvers.als import ALS
from mfcore.solvers.balance import balance, balancing

CASES = {
    "plain": random_problem(1),
    "learned bias, weighted unknown": random_problem(2, learns_bias=True, w0=0.4),
    "groups on both sides": random_problem(3, n_features=(2, 3), learns_bias=True),
    "more factors than users": random_problem(4, 3, 4, 9),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture(scope="module")
def pool():
    with Pool(1) as pool:
        yield pool


def balanced(dense, at, pool):
    """A balanced copy."""
    here = at.copy()
    balance(problem(dense, real=at.P.dtype.type), here, pool)
    return here


@pytest.mark.parametrize(("real", "tolerance"), [(np.float64, 1e-10), (np.float32, 1e-4)])
def test_no_score_moves_and_the_penalty_falls(case, pool, real, tolerance):
    dense, at = case
    at = as_type(at, real)
    here = balanced(dense, at, pool)
    np.testing.assert_allclose(scores(here), scores(at), atol=tolerance)
    known, unknown, penalty = dense.parts(here)
    assert (known, unknown) == pytest.approx(dense.parts(at)[:2], rel=10 * tolerance)
    assert penalty < 0.97 * dense.parts(at)[2]


@pytest.mark.parametrize("size", [1e-6, 1e6])
def test_penalties_of_any_size_fall_by_the_same_share(case, pool, size):
    def of_vectors(at):
        sides = (of.users, at.P, at.G), (of.items, at.Q, at.H)
        return sum(np.trace(prior.spread(X, G, pool)) for prior, X, G in sides)

    (dense, at), of = case, problem(case[0])
    large = replace(at, P=size * at.P, Q=size * at.Q, G=size * at.G, H=size * at.H)
    fall, far = (of_vectors(balanced(dense, each, pool)) / of_vectors(each)
                 for each in (at, large))
    assert far == pytest.approx(fall, rel=1e-6)
    assert fall < 0.97


def test_groups_turn_with_the_vectors_that_rest_on_them(pool):
    dense, at = CASES["groups on both sides"]
    here = balanced(dense, at, pool)
    M = np.linalg.lstsq(at.P, here.P, rcond=None)[0]
    np.testing.assert_allclose(here.G, at.G @ M)
    np.testing.assert_allclose(here.H @ M.T, at.H)


@pytest.mark.parametrize("name", list(CASES)[:3])
def test_no_other_coordinates_have_a_lower_penalty(name, pool):
    dense, at = CASES[name]
    here = balanced(dense, at, pool)
    least, random = dense.parts(here)[2], np.random.default_rng(0)
    for size in (1e-3, 0.1, 1.0):
        M = np.eye(3) + size * random.normal(size=(3, 3))
        back = np.linalg.inv(M).T
        moved = replace(here, P=here.P @ M, G=here.G @ M, Q=here.Q @ back, H=here.H @ back)
        assert dense.parts(moved)[2] > least


@pytest.mark.parametrize("name", list(CASES)[:3])
def test_a_balanced_point_stays(name, pool):
    dense, at = CASES[name]
    here = balanced(dense, at, pool)
    again = balanced(dense, here, pool)
    for left, right in ((again.P, here.P), (again.Q, here.Q)):     # but for signs
        np.testing.assert_allclose(np.abs(left), np.abs(right), rtol=0, atol=1e-5)


def test_the_turn_is_the_geometric_mean_of_both_sides():
    random = np.random.default_rng(0)
    A, B = (X.T @ X for X in random.normal(size=(2, 9, 5)))
    M, turned = balancing(A, B)
    np.testing.assert_allclose(M.T @ turned, np.eye(5), atol=1e-10)
    np.testing.assert_allclose(M @ M.T @ A @ M @ M.T, B, rtol=1e-4, atol=1e-4)


def test_both_sides_are_alike_and_their_coordinates_do_not_mix():
    random = np.random.default_rng(0)
    A, B = (X.T @ X for X in random.normal(size=(2, 9, 5)))
    M, turned = balancing(A, B)
    users, items = M.T @ A @ M, turned.T @ B @ turned
    np.testing.assert_allclose(users, items, atol=1e-4)
    np.testing.assert_allclose(users, np.diag(np.diag(users)), atol=1e-4)


@pytest.mark.parametrize("without", ["means", "reg"])
def test_nothing_moves_without_a_pull_towards_zero(without, pool):
    case = {"means": {"means": "rows"}, "reg": {"reg": 0.0}}[without]
    dense, at = random_problem(5, **case)
    here = balanced(dense, at, pool)
    np.testing.assert_array_equal(here.P, at.P)
    np.testing.assert_array_equal(here.Q, at.Q)


@pytest.mark.parametrize("scales", [(1e-200, 1e-150), (1e200, 1e150), (1e-300, 1e300)])
def test_the_turn_of_any_scale_is_that_of_scale_one(scales):
    random = np.random.default_rng(0)
    A, B = (X.T @ X for X in random.normal(size=(2, 9, 5)))
    M, turned = balancing(A, B)
    ratio = (scales[1] ** 0.25) / (scales[0] ** 0.25)
    large, small = balancing(scales[0] * A, scales[1] * B)
    np.testing.assert_allclose(np.abs(large), np.abs(ratio * M), rtol=1e-6)     # but for signs
    np.testing.assert_allclose(np.abs(small), np.abs(turned / ratio), rtol=1e-6)


@pytest.mark.parametrize("n_factors", [16, 64, 128])
def test_rows_along_one_line_do_not_stop_a_fit(n_factors, pool):
    random = np.random.default_rng(0)
    dense, at = random_problem(6, 40, 30, n_factors)
    line = random.normal(size=n_factors)
    at = as_type(replace(at, P=np.outer(random.uniform(1, 2, 40), line),
                         Q=np.outer(random.uniform(1, 2, 30), line)), np.float32)
    here = balanced(dense, at, pool)
    np.testing.assert_allclose(scores(here), scores(at), rtol=1e-3)


@pytest.mark.parametrize("solver", ["cg", "cholesky", "subspace"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.filterwarnings("error")
def test_factors_that_have_nothing_to_say_fade_away(solver, dtype):
    alike = sp.csr_array(np.full((30, 40), 3.0))
    model = MatrixFactorization(8, solver=solver, dtype=dtype, n_epochs=40, random_state=0)
    np.testing.assert_allclose(model.fit(alike).predict([0, 7], [0, 7]), 3, rtol=1e-5)
    assert np.isfinite(model.user_factors_).all()


def test_one_user_with_many_factors_can_be_fitted():
    alone = sp.csr_array(np.random.default_rng(0).integers(1, 6, (1, 50)).astype(float))
    for seed in range(3):
        MatrixFactorization(128, n_epochs=3, random_state=seed).fit(alone)


def test_the_scale_of_the_start_is_forgotten(planted):
    fits = [ImplicitMF(8, solver="cholesky", n_epochs=3, init_scale=scale, random_state=0)
            .fit(planted.ratings) for scale in (0.01, 0.1, 1.0)]
    losses = [model.objective()["total"] for model in fits]
    assert max(losses) < 1.01 * min(losses)


def test_an_exact_fit_begins_with_sweeps_of_conjugate_gradient_from_items_of_zero(pool):
    dense, at = CASES["plain"]
    begun, swept = at.copy(), at.copy()
    ALS(problem(dense), exact=True).begin(begun, pool)
    swept.Q[...] = 0
    for _ in range(2):
        ALS(problem(dense), exact=False, cg_steps=1).epoch(swept, pool)
    np.testing.assert_array_equal(begun.P, swept.P)
    np.testing.assert_array_equal(begun.Q, swept.Q)
