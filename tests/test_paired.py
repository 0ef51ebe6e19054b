"""Variances of paired differences, their intervals and Holm's correction: by hand and by chance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mfcore.metrics.measure import Values
from mfcore.metrics.paired import METHODS, Paired, additions, estimate, holm, variance_of


def of_differences(x, **more):
    """A difference of each of n users, on one test set."""
    x = np.asarray(x, float)
    return Paired(np.array([x.mean()]), (x - x.mean()) / len(x), np.zeros(len(x), int),
                  np.arange(len(x)), None, **more)


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=30).filter(lambda x: np.std(x) > 1e-3),
       st.sampled_from([0.9, 0.95, 0.99]))
def test_of_one_value_per_user_it_is_the_paired_t_test(x, confidence):
    got, wanted = estimate(of_differences(x), confidence), stats.ttest_1samp(x, 0)
    interval = wanted.confidence_interval(confidence)
    np.testing.assert_allclose(got[:3], [np.mean(x), *interval], rtol=1e-9, atol=1e-12)
    n = np.count_nonzero(np.abs(x) > 1e-12 * np.abs(x).max())
    assert got.p == pytest.approx(max(wanted.pvalue, 2.0 ** (1 - n)))


def test_what_users_add_to_rmse_is_its_change_if_they_count_more():
    """The influence of a value is the derivative of the metric by its weight."""
    rng = np.random.default_rng(0)
    x, w = rng.random(9), rng.random(9) + 0.5
    rows = np.arange(9)
    got = additions(Values(x, w, rows, root=True))
    step = 1e-6
    for t in range(9):
        more = w + step * (rows == t) * w[t]
        before, after = (Values(x, each, rows, root=True).total for each in (w, more))
        assert got[t] == pytest.approx((after - before) / step, abs=1e-6)
    assert got.sum() == pytest.approx(0, abs=1e-12)
    assert (additions(Values(np.zeros(3), None, rows[:3], root=True)) == 0).all()


def test_values_of_one_user_are_not_independent():
    rng = np.random.default_rng(1)
    user = np.repeat(np.arange(40), 5)
    x = rng.normal(size=40)[user]                       # the same five times
    many = Paired(np.array([x.mean()]), (x - x.mean()) / 200, np.zeros(200, int), user,
                  np.arange(200))
    one = of_differences(x[::5])
    assert variance_of(many)[0] == pytest.approx(variance_of(one)[0], rel=0.01)
    by_item = many._replace(users=np.arange(200), items=user)
    assert variance_of(by_item)[0] == pytest.approx(variance_of(one)[0], rel=0.01)


def test_two_ways_of_clustering_add_up():
    """x_ui = a_u + b_i on all pairs: the variance of the mean is that of both."""
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=50), rng.normal(size=30)
    x = (a[:, None] + b[None]).ravel()
    users, items = (part.ravel() for part in np.indices((50, 30)))
    got = variance_of(Paired(np.array([x.mean()]), (x - x.mean()) / x.size,
                             np.zeros(x.size, int), users, items))[0]
    assert got == pytest.approx(a.var(ddof=1) / 50 + b.var(ddof=1) / 30, rel=0.04)


def in_folds(rng, k, n, of_fit, of_value=1.0, test_share=0.0):
    d = of_fit * rng.normal(size=k)[:, None] + of_value * rng.normal(size=(k, n))
    means = d.mean(axis=1)
    return Paired(means, ((d - means[:, None]) / (k * n)).ravel(), np.repeat(np.arange(k), n),
                  np.tile(np.arange(n), k), None, test_share)


def test_the_variance_of_fits_is_seen_by_folds_alone():
    rng = np.random.default_rng(3)
    calm, wild = (np.mean([variance_of(in_folds(rng, 5, 200, of_fit))[0] for _ in range(200)])
                  for of_fit in (0.0, 1.0))
    assert calm == pytest.approx(2 / 1000, rel=0.1)     # of users, and once more of folds
    assert wild == pytest.approx(1 / 5 + 2 / 1000, rel=0.2)


def test_folds_that_share_training_ratings_know_less():
    rng = np.random.default_rng(4)
    apart = in_folds(rng, 5, 200, 1.0)
    shared = apart._replace(test_share=0.25)
    ratio = variance_of(shared)[0] / variance_of(apart)[0]
    assert ratio == pytest.approx(1 + 5 * 0.25, rel=0.03)


@pytest.mark.parametrize("of_fit", [0.0, 0.07, 0.3])
def test_of_draws_without_a_difference_few_are_called_one(of_fit):
    rng = np.random.default_rng(5)
    p = np.array([estimate(in_folds(rng, 5, 200, of_fit), 0.95).p for _ in range(1000)])
    assert np.mean(p < 0.05) < 0.06
    assert np.mean(p < 0.01) < 0.02


@pytest.mark.parametrize("method", METHODS)
def test_intervals_hold_the_truth_as_often_as_they_say(method):
    rng, held = np.random.default_rng(6), []
    for _ in range(300):
        x = 0.4 + rng.exponential(size=40) - 1
        found = estimate(of_differences(x), 0.9, method, 400, rng)
        held.append(found.low < 0.4 < found.high)
    assert 0.83 < np.mean(held) < 0.96


@pytest.mark.parametrize("method", METHODS)
def test_methods_agree_where_users_are_many(method):
    x = np.random.default_rng(7).normal(size=400)
    x += 0.3 - x.mean()
    found = estimate(of_differences(x), 0.95, method, 2000, np.random.default_rng(0))
    wanted = estimate(of_differences(x), 0.95)
    np.testing.assert_allclose(found[:3], wanted[:3], atol=0.02)
    assert found.p < 0.002


def test_few_users_are_never_sure():
    for method in METHODS:
        found = estimate(of_differences([1.0, 1.1, 0.9, 1.0]), 0.99, method, 500,
                         np.random.default_rng(0))
        assert found.p >= 2.0 ** -3
    same = estimate(of_differences([1.0, 1.0, 1.0]), 0.99)
    assert same == (1, 1, 1, 2.0 ** -2)
    assert estimate(of_differences([0.0, 0.0]), 0.99) == (0, 0, 0, 1)


def test_permutations_of_few_users_are_all_signs():
    x = np.array([0.3, 0.1, 0.4, 0.2, -0.05])
    signs = np.array(np.meshgrid(*[[-1, 1]] * 5)).reshape(5, -1).T
    means = np.abs((signs * x).mean(axis=1))
    found = estimate(of_differences(x), 0.9, "permutation", 9999, np.random.default_rng(0))
    scale = np.sqrt(5 / 4)              # the unbiased variance
    assert found.p == pytest.approx(np.mean(means * scale >= x.mean() - 1e-12))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_steps_down(p):
    got = holm(p)
    for i, value in enumerate(np.argsort(p, kind="stable")):
        before = np.sort(p)[:i + 1] * (len(p) - np.arange(i + 1))
        assert got[value] == pytest.approx(min(1, before.max()))


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
