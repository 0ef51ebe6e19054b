"""Small formulas of the objectives, each held by itself."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
from naive import problem, random_problem

from mfcore import Ratings
from mfcore.objectives.bayesian import OptimisticScorer
from mfcore.objectives.biases import fitted_biases, log_odds, mean_size, rating_scale
from mfcore.objectives.factors import Factors
from mfcore.objectives.penalty import Penalty, Prior
from mfcore.objectives.scaling import implied_rating, score_rounding
from mfcore.parallel import Pool


@pytest.mark.parametrize("learns_bias", [False, True])
def test_what_each_cell_adds_to_a_score_sums_to_it(learns_bias):
    dense, at = random_problem(3, 5, 8, 3, density=0.7, learns_bias=learns_bias)
    systems = problem(dense).user_rows(at)
    A, c = systems.system(1, at.beta[1], Pool(1))
    pull = c - systems.ridge(1)[1]
    columns, parts = systems.contributions(1, at.beta[1], 4, Pool(1))
    np.testing.assert_array_equal(columns, np.flatnonzero(dense.stored[1]))
    score = systems.design(np.array([4]))[0] @ np.linalg.solve(A, pull)
    assert parts.sum() == pytest.approx(score, rel=1e-9)
    assert len(np.unique(parts.round(12))) == len(parts)


@pytest.mark.parametrize("turned", [False, True])
def test_biases_alone_are_shrunken_means_in_turn(turned):
    R = np.array([[1.0, 5, 0, 3], [4, 0, 2, 0], [0, 2, 2, 5]])
    R = R.T if turned else R
    stored, users = R > 0, np.zeros(len(R))
    for _ in range(10):
        items = np.where(stored, R - 3 - users[:, None], 0).sum(0) / (stored.sum(0) + 5)
        users = np.where(stored, R - 3 - items, 0).sum(1) / (stored.sum(1) + 10)
    found = fitted_biases(Ratings(sp.csr_array(R)), 3.0)
    np.testing.assert_allclose(found[0], users)
    np.testing.assert_allclose(found[1], items)


@pytest.mark.parametrize(("values", "size"), [
    ([-2.0, 0.0, 4.0], 3), ([0.0, 0.0, 0.0], 1), ([1e-31, 0.0, 0.0], 1), ([1e31, 1e31, 0.0], 1),
    ([1e-29, 0.0, 0.0], 1e-29)])
def test_the_mean_size_is_that_of_ratings_that_are_not_0_and_can_be_divided_by(values, size):
    rated = sp.csr_array((values, ([0, 1, 1], [0, 0, 1])))
    assert mean_size(Ratings(rated)) == pytest.approx(size)


def test_the_scale_of_ratings_is_their_weighted_deviation_and_1_where_all_that_count_are_equal():
    cells = sp.csr_array(([3.0, 3.0, 9.0, 4.0], ([0, 0, 1, 1], [0, 1, 0, 1])))

    def scale(weights, mean):
        return rating_scale(Ratings(cells, weights=np.array(weights)), mean)

    assert scale([1.0, 2.0, 0.0, 0.0], 3.0) == 1
    assert scale([1.0, 2.0, 0.0, 3.0], 3.5) == pytest.approx(0.5)


def test_biases_of_features_are_a_ridge_on_the_biases_of_their_members():
    F, lam = np.array([[1.0, 0], [1, 1], [0, 2]]), np.array([0.5, 2.0, 3.0])
    prior = Prior(Penalty(np.ones(3), lam, np.zeros((1, 1)), np.array([0.7])), sp.csr_array(F),
                  1.0, 1.5)
    g, beta = np.zeros(2), np.array([1.0, -2.0, 0.5])
    prior.solve(np.zeros((3, 1)), beta, np.zeros((2, 1)), g, True, Pool(1))
    expected = np.linalg.solve(F.T @ (lam[:, None] * F) + 1.5 * np.eye(2),
                               F.T @ (lam * (beta - 0.7)))
    np.testing.assert_allclose(g, expected)


@pytest.mark.parametrize(("optimism", "factor"), [(0.0, 2), (-3.0, 8), (0.5, 3)])
def test_rounding_of_an_optimistic_score_is_that_of_its_mean_and_its_deviation(optimism, factor):
    each = [SimpleNamespace(n_rows=3, n_items=1, rounding=lambda start, stop, e=e: np.array(e))
            for e in ([1.0, 2, 3], [3.0, 1, 0])]
    found = OptimisticScorer(each, optimism).rounding(0, 3)
    np.testing.assert_allclose(found, factor * np.array([3.0, 2, 3]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounding_of_a_score_is_a_unit_for_each_product_and_six_more(dtype):
    units = np.finfo(dtype).eps / 2 + np.finfo(float).eps / 2
    np.testing.assert_allclose(score_rounding(np.array([0.0, 3.0]), 10, np.dtype(dtype)),
                               [16 * np.finfo(dtype).tiny, 16 * 3 * units])


def test_a_penalty_is_scaled_for_factors_and_for_biases():
    found = Penalty(np.array([1.0, 3]), np.array([2.0, 5]), np.ones((1, 2)),
                    np.zeros(1)).scaled(2.0, 3.0)
    assert (found.reg.tolist(), found.bias_reg.tolist()) == ([2, 6], [6, 15])


def test_a_point_has_no_features_unless_they_are_given():
    at = Factors(*(np.zeros(shape) for shape in ((3, 2), (4, 2), 3, 4)))
    assert [each.shape for each in (at.G, at.H, at.g, at.h)] == [(0, 1), (0, 1), (0,), (0,)]


def test_an_id_alone_stands_for_the_one_rating_of_the_fit():
    assert implied_rating("MF", None) == 1.0
    assert implied_rating("MF", (4.0, 4.0)) == 4.0
    with pytest.raises(ValueError, match="MF learned ratings from 1 to 5: give them with the ids"):
        implied_rating("MF", (1.0, 5.0))


@pytest.mark.parametrize("weights", [None, np.array([2.0, 1.0, 0.5, 3.0, 1.5])])
def test_log_odds_of_items_count_what_is_liked_what_is_not_and_what_is_unknown(weights):
    likes = sp.csr_array((np.array([1.0, -1.0, 1.0, 1.0, 0.5]), ([0, 0, 1, 2, 2], [0, 1, 0, 0, 1])),
                         shape=(4, 3))
    w = np.ones(5) if weights is None else weights
    liked, disliked, unknown = [w[0] + w[2] + w[3], w[4], 0], [0, w[1], 0], [1, 2, 4]
    np.testing.assert_allclose(log_odds(Ratings(likes, weights=weights), 0.25), [
        np.log((a + 0.5) / (b + 0.25 * n + 0.5))
        for a, b, n in zip(liked, disliked, unknown, strict=True)])
