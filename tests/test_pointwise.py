"""The logistic objective against its formula, written out cell by cell."""

from __future__ import annotations

from dataclasses import replace

import naive
import numpy as np
import pytest
from naive import Dense, random_problem

from mfcore import gradcheck
from mfcore.gradcheck import GradientError
from mfcore.objectives import pointwise
from mfcore.objectives.pointwise import Logistic, LogisticRow
from mfcore.objectives.quadratic import Factors
from mfcore.parallel import Pool
from mfcore.solvers.newton import minimiser, solve_logistic

BLOCKS = ("P", "Q", "beta", "gamma")


def labelled(seed: int = 0, **kind) -> tuple[Dense, Factors]:
    """A problem whose ratings are labels: 0, 1, and shares between."""
    dense, at = random_problem(seed, **kind)
    random = np.random.default_rng(seed)
    return replace(dense, R=random.choice([0.0, 1.0, 1.0, 0.3], dense.R.shape), r0=0.0), at


CASES = {
    "likes and dislikes": labelled(1),
    "learned bias and weights": labelled(2, learns_bias=True, weighted=True),
    "weighted unknown": labelled(3, w0=0.45, learns_bias=True),
    "unknown above known": labelled(4, w0=1.3, weighted=True, means="rows", learns_bias=True),
    "a shared prior": labelled(5, w0=0.2, means="shared"),
}


@pytest.fixture(params=CASES)
def case(request) -> tuple[Dense, Factors]:
    return CASES[request.param]


@pytest.fixture(scope="module")
def pool():
    with Pool(1) as pool:
        yield pool


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(pointwise, "BLOCK_CELLS", 15)


def logistic(dense: Dense) -> Logistic:
    """The library's objective of a dense problem."""
    squared = naive.problem(dense)
    return Logistic(*(getattr(squared, name) for name in
                      ("by_user", "by_item", "users", "items", "w0", "learns_bias")))


def parts(dense: Dense, at: Factors) -> tuple[float, float, float]:
    """The formula's three sums, one cell after the other."""
    known = unknown = 0.0
    for (u, i), s in np.ndenumerate(naive.scores(at)):
        like = 1 / (1 + np.exp(-s))
        if dense.stored[u, i]:
            y = dense.R[u, i]
            known -= dense.w[u, i] * (y * np.log(like) + (1 - y) * np.log(1 - like))
        else:
            unknown -= dense.w0 * np.log(1 - like)
    penalty = dense.users.value(*at.of_users, dense.learns_bias) \
        + dense.items.value(*at.of_items, dense.learns_bias)
    return known, unknown, penalty


def check(dense: Dense, at: Factors, pool: Pool, wrong: str = "", factor: float = 1.0):
    def function(x):
        here = Factors(**x)
        gradient = vars(logistic(dense).gradient(here, pool))
        if wrong:
            gradient[wrong] = factor * gradient[wrong]
        return logistic(dense).value(here, pool).total, gradient

    free = BLOCKS if dense.learns_bias else BLOCKS[:2]
    fixed = {name: getattr(at, name) for name in BLOCKS if name not in free}

    def of_free(x):
        value, gradient = function({**x, **fixed})
        return value, {name: gradient[name] for name in free}
    return gradcheck(of_free, {name: getattr(at, name) for name in free})


# ------------------------------------------------------------------------- value, gradient

def test_the_value_is_the_formula(case, pool, small_blocks):
    dense, at = case
    np.testing.assert_allclose(logistic(dense).value(at, pool), parts(dense, at), rtol=1e-12)


def test_the_taylor_remainder_falls_with_slope_two(case, pool, small_blocks):
    result = check(*case, pool)
    assert all(slope > 1.9 for slope in result.slopes.values())


@pytest.mark.parametrize("block", BLOCKS)
def test_a_gradient_wrong_by_a_thousandth_is_rejected(block, pool):
    with pytest.raises(GradientError, match=f"block '{block}' is wrong"):
        check(*CASES["weighted unknown"], pool, wrong=block, factor=1.001)


def test_a_fixed_bias_has_no_gradient(pool):
    dense, at = CASES["likes and dislikes"]
    gradient = logistic(dense).gradient(at, pool)
    assert not gradient.beta.any()
    assert not gradient.gamma.any()


def test_a_dislike_of_the_unknowns_weight_is_as_good_as_unknown(pool):
    dense, at = CASES["weighted unknown"]
    full = replace(dense, R=np.where(dense.stored, dense.R, 0), w=dense.W,
                   stored=np.ones_like(dense.stored))
    assert logistic(full).value(at, pool).total == pytest.approx(
        logistic(dense).value(at, pool).total, rel=1e-12)


def test_large_scores_overflow_neither_value_nor_gradient(pool):
    dense, at = labelled(6, w0=0.3, learns_bias=True)
    for beta in (-5000.0, 5000.0):
        there = replace(at, beta=np.full(len(at.beta), beta))
        with np.errstate(all="raise", under="ignore"):
            assert np.isfinite(logistic(dense).value(there, pool).total)
            assert all(np.isfinite(X).all()
                       for X in vars(logistic(dense).gradient(there, pool)).values())


# ---------------------------------------------------------------------------------- a row

def test_a_rows_value_and_derivatives_are_those_of_the_formula(case, pool):
    dense, at = case
    k, objective = at.P.shape[1], logistic(dense)
    for u in range(len(at.P)):
        row = LogisticRow.of(objective.user_rows(at), u, at.beta[u])
        z = np.append(at.P[u], at.beta[u]) if dense.learns_bias else at.P[u]

        def moved(z, u=u):
            there = at.copy()
            there.P[u] = z[:k]
            if dense.learns_bias:
                there.beta[u] = z[k]
            return there
        shift = np.linspace(0.1, 0.4, len(z))
        assert row.value(z + shift) - row.value(z) == pytest.approx(
            sum(parts(dense, moved(z + shift))) - sum(parts(dense, at)), rel=1e-9, abs=1e-10)
        gradient = objective.gradient(at, pool)
        g, H = row.derivatives(z)
        np.testing.assert_allclose(g[:k], gradient.P[u], atol=1e-12)
        if dense.learns_bias:
            assert g[k] == pytest.approx(gradient.beta[u], abs=1e-12)
        for f, d in enumerate(1e-6 * np.eye(len(z))):
            slope = (row.derivatives(z + d)[0] - row.derivatives(z - d)[0]) / 2e-6
            np.testing.assert_allclose(H[f], slope, atol=1e-7)


def test_newton_zeroes_the_gradient_of_every_row_from_far_away(case, pool):
    dense, at = case
    far = replace(at, P=at.P + 30, Q=5 * at.Q)
    solve_logistic(logistic(dense).user_rows(far), far.P, far.beta, pool)
    gradient = logistic(dense).gradient(far, pool)
    assert np.abs(gradient.P).max() < 1e-5
    assert np.abs(gradient.beta).max() < 1e-5


def test_where_nothing_is_known_newton_ends_at_the_prior(pool):
    dense, at = CASES["learned bias and weights"]
    row = LogisticRow.of(logistic(dense).user_rows(at), len(at.P) - 1, 0.0)
    np.testing.assert_array_equal(minimiser(row), row.mean)
