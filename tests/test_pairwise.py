"""The pairwise objective against its formula, written out triple by triple."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

from mfcore import gradcheck
from mfcore.gradcheck import GradientError
from mfcore.objectives.pairwise import Pairwise, Ranking


def naive(problem: Pairwise, at: Ranking) -> float:
    """The formula of the statement, one triple after the other."""
    total = 0.0
    for u, i, j in zip(problem.users, problem.positives, problem.negatives, strict=True):
        x = at.P[u] @ at.Q[i] + at.gamma[i] - at.P[u] @ at.Q[j] - at.gamma[j]
        total += -np.log(1 / (1 + np.exp(-x)))
        total += problem.reg * (at.P[u] @ at.P[u] + at.Q[i] @ at.Q[i] + at.Q[j] @ at.Q[j])
        if problem.learns_bias:
            total += problem.bias_reg * (at.gamma[i] ** 2 + at.gamma[j] ** 2)
    return total


def drawn(seed: int, n_triples: int = 9, n_users: int = 4, n_items: int = 5, k: int = 3,
          learns_bias: bool = True) -> tuple[Pairwise, Ranking]:
    random = np.random.default_rng(seed)
    users, positives = random.integers(n_users, size=n_triples), random.integers(
        n_items, size=n_triples)
    negatives = (positives + random.integers(1, max(n_items, 2), size=n_triples)) % n_items
    at = Ranking(*(random.normal(size=shape) for shape in ((n_users, k), (n_items, k), n_items)))
    return Pairwise(users, positives, negatives, 0.37, 0.23, learns_bias), at


def check(problem: Pairwise, at: Ranking, wrong: str = "", factor: float = 1.0):
    def function(x):
        here = Ranking(**x)
        gradient = vars(problem.gradient(here))
        if wrong:
            gradient[wrong] = factor * gradient[wrong]
        return problem.value(here), gradient

    return gradcheck(function, vars(at))


@given(seed=strategies.seeds, n_triples=st.integers(0, 12), k=st.integers(1, 4),
       learns_bias=st.booleans())
def test_the_value_is_the_formula(seed, n_triples, k, learns_bias):
    problem, at = drawn(seed, n_triples, k=k, learns_bias=learns_bias)
    assert problem.value(at) == pytest.approx(naive(problem, at), rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_the_taylor_remainder_falls_with_slope_two(seed):
    result = check(*drawn(seed))
    assert list(result.slopes) == ["P", "Q", "gamma"]
    assert all(slope > 1.9 for slope in result.slopes.values())


@pytest.mark.parametrize("block", ["P", "Q", "gamma"])
def test_a_gradient_wrong_by_a_thousandth_is_rejected(block):
    with pytest.raises(GradientError, match=f"block '{block}' is wrong"):
        check(*drawn(1), wrong=block, factor=1.001)


def test_a_fixed_bias_moves_the_margins_but_has_no_gradient_and_no_penalty():
    problem, at = drawn(2, learns_bias=False)
    assert not problem.gradient(at).gamma.any()
    without = replace(at, gamma=np.zeros(5))
    assert np.abs(problem.margins(at) - problem.margins(without)).max() > 0.1
    assert problem.value(at) == replace(problem, bias_reg=9.9).value(at)


def test_a_shift_of_all_biases_and_a_rotation_change_no_margin():
    problem, at = drawn(3)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    moved = Ranking(at.P @ turn, at.Q @ turn, at.gamma + 1.7)
    np.testing.assert_allclose(problem.margins(moved), problem.margins(at), atol=1e-12)


def test_the_value_does_not_depend_on_the_order_of_triples():
    problem, at = drawn(4)
    turned = replace(problem, users=problem.users[::-1], positives=problem.positives[::-1],
                     negatives=problem.negatives[::-1])
    assert turned.value(at) == pytest.approx(problem.value(at), rel=1e-13)
    np.testing.assert_allclose(turned.gradient(at).Q, problem.gradient(at).Q, atol=1e-13)


def test_swapping_positive_and_negative_turns_the_margin_around():
    problem, at = drawn(5)
    swapped = replace(problem, positives=problem.negatives, negatives=problem.positives)
    np.testing.assert_allclose(swapped.margins(at), -problem.margins(at))
    assert swapped.value(at) - problem.value(at) == pytest.approx(problem.margins(at).sum())


def test_large_margins_overflow_neither_value_nor_gradient():
    problem = Pairwise(*(np.array([n]) for n in (0, 0, 1)), reg=0.0, bias_reg=0.0)
    for x in (-5000.0, 5000.0):
        at = Ranking(np.zeros((1, 1)), np.zeros((2, 1)), np.array([x, 0.0]))
        with np.errstate(all="raise", under="ignore"):
            assert problem.value(at) == max(-x, 0.0)
            assert problem.gradient(at).gamma.tolist() == [-float(x < 0), float(x < 0)]
