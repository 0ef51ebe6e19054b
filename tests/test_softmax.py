"""The ranking losses against their formulas, and the model that learns by them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import scipy.sparse as sp

from mfcore import gradcheck
from mfcore.gradcheck import GradientError
from mfcore.objectives.pairwise import Pairwise, Ranking
from mfcore.objectives.softmax import (
    Batch,
    Contrastive,
    Pairs,
    Ranked,
    Softmax,
    Surrogate,
    TopK,
    Vectors,
    Warp,
)
from mfcore.parallel import Pool

LOSSES = {"softmax": Softmax(0.37), "tanh": Surrogate(0.23), "relu": Surrogate(0.31, "relu"),
          "sl@k": TopK(0.41, 0.7, 3), "bpr": Pairs(0.83), "ccl": Contrastive(1.7, 0.13),
          "warp": Warp(0.57)}


def naive(loss, s: float, S: list[float], w: list[float]) -> float:
    """The formulas of the statement, for one cell."""
    pairs, total = [(weight, each - s) for weight, each in zip(w, S, strict=True)], sum(w)
    if isinstance(loss, Softmax):
        positive = math.exp(s / loss.tau)
        return -math.log(positive / (positive + sum(
            weight * math.exp(each / loss.tau) for weight, each in zip(w, S, strict=True))))
    if isinstance(loss, Surrogate):
        sigma = (lambda x: 1 + math.tanh(x)) if loss.surrogate == "tanh" else \
            (lambda x: max(0.0, 1 + x))
        return math.log(1 + sum(weight * sigma(d / 2) ** (1 / loss.tau) for weight, d in pairs))
    if isinstance(loss, TopK):
        beta = sorted(S)[-max(1, min(len(S), round(loss.k * len(S) / total)))]
        return naive(Softmax(loss.tau), s, S, w) / (1 + math.exp((beta - s) / loss.tau_weight))
    if isinstance(loss, Pairs):
        return sum(weight * math.log(1 + math.exp(d / loss.tau)) for weight, d in pairs) / total
    if isinstance(loss, Contrastive):
        beyond = sum(weight * max(0.0, s + d - loss.margin) for weight, d in pairs)
        return 1 - s + loss.weight * beyond / total
    beaten = [(weight, loss.margin + d) for weight, d in pairs if loss.margin + d > 0]
    return math.log(1 + sum(weight for weight, _ in beaten)) * sum(
        by for _, by in beaten) / max(1, len(beaten))


class Drawn(NamedTuple):
    """An objective, its batch, and a point away from all kinks."""

    problem: Ranked
    batch: Batch
    at: Vectors

    def value(self) -> float:
        return self.problem.value(self.at, self.batch, Pool(1))

    def gradient(self) -> Vectors:
        return self.problem.gradient(self.at, self.batch, Pool(1))


def drawn(seed: int, loss, cosine: bool = True, n_cells: int = 8) -> Drawn:
    random = np.random.default_rng(seed)
    at = Vectors(*(random.normal(size=(n, 3)) for n in (4, 9, 5, 2)))
    users, items, negatives = random.integers(4, size=n_cells), random.integers(9, size=n_cells), \
        random.choice(9, 5, replace=False)
    F, E = (sp.csr_array(random.normal(size=(n, m)) * (random.random((n, m)) < 0.5))
            for n, m in ((n_cells, 5), (n_cells + 5, 2)))
    hidden = np.nonzero(items[:, None] == negatives[None])
    batch = Batch(users, items, negatives, random.uniform(0.5, 2, 5), hidden, F, E)
    return Drawn(Ranked(loss, cosine, 0.19), batch, at)


def beta_held(given: Drawn) -> Drawn:
    """Give a loss that holds thresholds those of this point."""
    (problem, batch, at), loss = given, given.problem.loss
    if not isinstance(loss, TopK):
        return given
    x, z = at.P[batch.users] + batch.F @ at.G, at.Q[batch.negatives] + (batch.E @ at.H)[-5:]
    if problem.cosine:
        x, z = (X / np.linalg.norm(X, axis=1)[:, None] for X in (x, z))
    S = x @ z.T
    S[batch.hidden] = -np.inf
    return given._replace(problem=replace(problem, loss=loss.held(S, batch.w)))


def check(given: Drawn, wrong: str = ""):
    def function(x):
        here = given._replace(at=Vectors(**x))
        gradient = vars(here.gradient())
        if wrong:
            gradient[wrong] = 1.001 * gradient[wrong]
        return here.value(), gradient

    return gradcheck(function, vars(given.at))


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_loss_is_its_formula(loss):
    random = np.random.default_rng(0)
    s, S, w = random.normal(size=6), random.normal(size=(6, 7)), random.uniform(0.5, 2, 7)
    expected = [naive(loss, *cell, w.tolist()) for cell in zip(s.tolist(), S.tolist(), strict=True)]
    np.testing.assert_allclose(loss.pull(s, S, w).value, expected, rtol=1e-12)


@pytest.mark.parametrize("cosine", [True, False], ids=["cosine", "dot"])
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_the_taylor_remainder_falls_with_slope_two(loss, cosine):
    result = check(beta_held(drawn(1, loss, cosine)))
    assert list(result.slopes) == ["P", "Q", "G", "H"]
    assert all(slope > 1.9 for slope in result.slopes.values())


@pytest.mark.parametrize("block", ["P", "Q", "G", "H"])
def test_a_gradient_wrong_by_a_thousandth_is_rejected(block):
    with pytest.raises(GradientError, match=f"block '{block}' is wrong"):
        check(drawn(1, LOSSES["softmax"]), wrong=block)


@pytest.mark.parametrize("loss", [Softmax(1.0), Pairs(1.0)], ids=["softmax", "bpr"])
def test_one_negative_at_temperature_one_is_the_pairwise_objective(loss):
    random = np.random.default_rng(3)
    at = Vectors(random.normal(size=(4, 3)), random.normal(size=(6, 3)))
    users, items = np.array([0, 1, 3, 0]), np.array([0, 1, 2, 3])
    none = np.array([], int), np.array([], int)
    given = Drawn(Ranked(loss, False), Batch(users, items, np.array([5]), np.ones(1), none), at)
    pairwise = Pairwise(users, items, np.full(4, 5), 0.0, 0.0, learns_bias=False)
    there = Ranking(at.P, at.Q, np.zeros(6))
    assert given.value() == pytest.approx(pairwise.value(there), rel=1e-14)
    np.testing.assert_allclose(given.gradient().P, pairwise.gradient(there).P, atol=1e-15)
    np.testing.assert_allclose(given.gradient().Q, pairwise.gradient(there).Q, atol=1e-15)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_hidden_negative_has_no_say(loss):
    """But in shares of all negatives, and in β, whose rank counts it as a low score."""
    random = np.random.default_rng(4)
    s, S, w = random.normal(size=3), random.normal(size=(3, 4)), np.ones(4)
    S[:, 2] = -np.inf
    value, a, D = loss.pull(s, S.copy(), w)
    assert np.isfinite([value, a]).all()
    assert not D[:, 2].any()


def test_weighted_negatives_add_up_to_all_items_in_expectation():
    """Whatever their probability: Σ over all negatives that could be drawn, of q times it."""
    random = np.random.default_rng(5)
    s, S, q = np.zeros(1), random.normal(size=(1, 6)), random.dirichlet(np.ones(6))
    drawn = sum(share * np.expm1(Softmax(0.5).pull(s, S[:, [j]], np.array([1 / share])).value[0])
                for j, share in enumerate(q))
    whole = np.expm1(Softmax(0.5).pull(s, S.copy(), np.ones(6)).value[0])
    assert drawn == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("far", [-4000.0, 4000.0])
def test_far_scores_overflow_nothing(loss, far):
    with np.errstate(over="raise", invalid="raise"):
        value, a, D = loss.pull(np.array([far], np.float32), np.zeros((1, 3), np.float32),
                                np.ones(3))
    assert np.isfinite([value, a]).all()
    assert np.isfinite(D).all()


def test_the_length_of_a_vector_changes_no_cosine_and_has_no_gradient():
    given = drawn(6, LOSSES["softmax"])
    given = given._replace(problem=replace(given.problem, reg=0.0),
                           batch=given.batch._replace(F=None, E=None))
    at, d = given.at, given.gradient()
    longer = given._replace(at=Vectors(3.7 * at.P, at.Q * np.arange(1, 10)[:, None]))
    assert longer.value() == pytest.approx(given.value(), rel=1e-12)
    np.testing.assert_allclose(np.einsum("nf,nf->n", d.P, at.P), 0, atol=1e-13)
    np.testing.assert_allclose(np.einsum("nf,nf->n", d.Q, at.Q), 0, atol=1e-13)
