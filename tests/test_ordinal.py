"""Ordered probit: draws in intervals, cut points by Metropolis and Hastings, levels as answers."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import samples
import scipy.sparse as sp
import test_bayesian as bayesian
from naive import problem, random_problem
from scipy.special import ndtr
from scipy.stats import multivariate_normal, truncnorm

import mfcore
from mfcore import BayesianMF, Ratings, serving
from mfcore.kernels import ordinal as kernels
from mfcore.objectives.ordinal import GAP, CutPoints, Levels, _ascending, _log_normal, edges_of
from mfcore.parallel import Pool
from mfcore.solvers.gibbs import Gibbs, Noise
from mfcore.solvers.ordinal import Ordinal, latent_rows

CUTS = np.array([-1.0, 0.2, 1.5])


@pytest.fixture
def pool():
    with Pool(1) as pool:
        yield pool


# ------------------------------------------------------------------------------ formulas

def drawn(levels, s, cuts=CUTS, key=77):
    z = np.empty(len(s))
    kernels.latent_draws(levels, s, edges_of(cuts), np.arange(len(s)), key, z, 0, len(s))
    return z


@pytest.mark.kernel
def test_a_draw_lies_between_its_cut_points_also_where_nothing_else_does():
    random = np.random.default_rng(0)
    for size in (1.0, 30.0, 1e6):
        s, levels = size * random.normal(size=90), random.integers(0, 4, 90)
        z, edges = drawn(levels, s), edges_of(CUTS)
        assert (edges[levels] <= z + 1e-14 * size).all()
        assert (z - 1e-14 * size <= edges[levels + 1]).all()


@pytest.mark.kernel
@pytest.mark.parametrize("level", range(4))
@pytest.mark.parametrize("score", [-4.0, 0.4, 5.0])
def test_draws_and_means_are_those_of_a_truncated_normal_number(level, score):
    n, edges = 40_000, edges_of(CUTS)
    s, levels, means = np.full(n, score), np.full(n, level), np.empty(n)
    exact = truncnorm(edges[level] - score, edges[level + 1] - score, score)
    z = drawn(levels, s)
    assert z.mean() == pytest.approx(exact.mean(), abs=5 * exact.std() / np.sqrt(n) + 1e-9)
    assert z.std() == pytest.approx(exact.std(), rel=0.03)
    kernels.latent_means(levels, s, edges, means, 0, n)
    np.testing.assert_allclose(means, exact.mean(), rtol=1e-6)


@pytest.mark.kernel
def test_the_density_of_cut_points_has_the_derivatives_that_are_said(pool):
    random = np.random.default_rng(1)
    s, levels = random.normal(size=70), random.integers(0, 4, 70)
    points, edges = CutPoints(levels), edges_of(CUTS)
    here, slope, H = points.value(CUTS, s, pool)
    p = ndtr(edges[levels + 1] - s) - ndtr(edges[levels] - s)
    assert here == pytest.approx(np.log(p).sum() - (CUTS[-1] - CUTS[0]) / GAP)
    for number, step in enumerate(np.eye(3)[1:] * 1e-5):
        up, down = points.value(CUTS + step, s, pool), points.value(CUTS - step, s, pool)
        assert (up[0] - down[0]) / 2e-5 == pytest.approx(slope[number], rel=1e-6)
        np.testing.assert_allclose((down[1] - up[1]) / 2e-5, H[number], atol=2e-3)


@pytest.mark.kernel
def test_a_move_is_judged_by_the_normal_density_about_its_own_end():
    H, slope = np.array([[3.0, 1.0], [1.0, 2.0]]), np.array([0.7, -0.4])
    steps = np.array([[0.3, 0.1], [-1.0, 2.0]])
    exact = multivariate_normal(np.linalg.solve(H, slope), np.linalg.inv(H))
    one, other = (_log_normal(step, slope, H) for step in steps)
    assert one - other == pytest.approx(exact.logpdf(steps[0]) - exact.logpdf(steps[1]))
    assert _log_normal(steps[0], slope, H) - _log_normal(steps[0], slope, 4 * H) == pytest.approx(
        exact.logpdf(steps[0]) - multivariate_normal(
            np.linalg.solve(4 * H, slope), np.linalg.inv(4 * H)).logpdf(steps[0]))


@pytest.mark.kernel
def test_exact_moves_of_cut_points_are_taken_at_times_and_leave_them_ascending(pool):
    random = np.random.default_rng(0)
    s, levels, cuts, taken = random.normal(size=60), random.integers(0, 4, 60), CUTS, 0
    for _ in range(40):
        found, _ = CutPoints(levels).draw(cuts, s, random, pool, is_exact=True)
        taken += found is not cuts
        assert (np.diff(found) > 0).all()
        cuts = found
    assert 10 < taken < 40
    likely = [CutPoints(levels).value(each, s, pool)[0] for each in (CUTS, cuts)]
    assert likely[1] > likely[0] - 5                    # (the better the move, the likelier)


def test_as_much_of_a_step_is_taken_as_leaves_cut_points_in_order():
    np.testing.assert_allclose(_ascending(CUTS, np.array([0.5, 0.1])), [-1, 0.7, 1.6])
    np.testing.assert_allclose(_ascending(CUTS, np.array([4.0, 0.4])), [-1, 1.2, 1.6])


def test_the_highest_level_can_be_asked_for_and_the_lowest_cannot():
    levels = Levels(np.array([1.0, 2, 4, 5]), CUTS[None])
    assert [levels.reached(each) for each in (5.0, 4.5, 4.0, 1.5)] == [5.0, 5.0, 4.0, 2.0]
    assert Levels(np.array([-1.0, 0, 1]), CUTS[None]).reached(0.0) == 0
    large = Levels(np.array([1e6, 2e6]), np.zeros((1, 1)))
    assert large.reached(2e6 * (1 + 1e-7)) == 2e6                       # (in float32 it is that)
    with pytest.raises(ValueError, match="ratings must be levels of the fit, .* got 9"):
        levels.numbers_of(Ratings(sp.csr_array([[2.0, 9.0]])))
    for each in (1.0, 5.1):
        with pytest.raises(ValueError, match="the lowest level, 1, and not above the .* 5, got"):
            levels.reached(each)


@pytest.mark.kernel
def test_levels_have_the_probabilities_and_means_of_the_formula():
    levels, s = Levels(np.array([1.0, 2, 4, 5]), CUTS[None]), np.linspace(-30, 30, 41)
    p, edges = levels.probabilities(0, s), edges_of(CUTS)
    np.testing.assert_allclose(p, ndtr(edges[1:] - s[:, None]) - ndtr(edges[:-1] - s[:, None]),
                               atol=1e-15)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    np.testing.assert_allclose(levels.expected(0, s), p @ levels.values, atol=3e-6)
    np.testing.assert_allclose(levels.expected(0, s, 4.0), p[:, 2:].sum(axis=1), atol=1e-6)
    slopes = np.diff(levels.expected(0, np.linspace(-9, 9, 999))) * 998 / 18
    assert slopes.max() <= levels.steepest()


def test_levels_whose_cut_points_meet_are_as_steep_as_any():
    levels = Levels(np.array([1.0, 2, 4]), np.array([[0.3, 0.3001]]))
    s = np.linspace(-0.7, 1.3, 201)
    for at_least in (None, 4.0):
        slopes = np.diff(levels.expected(0, s, at_least)) * 200 / 2
        assert slopes.max() == pytest.approx(levels.steepest(at_least), rel=1e-3)


# ------------------------------------------------------------------------- Geweke's test

def test_ratings_of_new_rows_are_drawn_in_their_levels_by_the_number_of_the_sample(pool):
    dense, at = random_problem(3, learns_bias=True)
    systems = problem(dense).user_rows(at)
    levels = np.arange(len(systems.cells.indices)) % 3
    found = [latent_rows(systems, levels, CUTS, number, at.P.copy(), at.beta.copy(), pool).cells.y
             for number in (0, 1, 1)]
    assert (found[0] != found[1]).all()
    np.testing.assert_array_equal(found[1], found[2])
    edges = edges_of(CUTS)
    assert ((edges[levels] <= found[0] + 1e-12) & (found[0] <= edges[levels + 1] + 1e-12)).all()


def geweke(n, chains, pool):
    """As in test_bayesian, with levels for data and the gaps of cut points among what is drawn."""
    random = np.random.default_rng(12)

    def from_the_prior():
        return (*bayesian.from_the_prior(random)[:3],
                -0.5 + np.append(0, np.cumsum(random.exponential(1.0, 2))))

    def levels_given(at, cuts):
        s = at.P @ at.Q.T + at.beta[:, None] + at.gamma
        return np.searchsorted(cuts, (s + random.normal(size=s.shape)).ravel()).astype(np.uint8)

    def statistics(at, users, items, cuts):
        return np.append(bayesian.statistics(at, users, items, 1.0), np.tanh(np.diff(cuts)))

    direct = np.array([statistics(*from_the_prior()) for _ in range(10 * n)])
    means = []
    for chain in range(chains):
        at, users, items, cuts = from_the_prior()
        problem = bayesian.full_problem(np.zeros((bayesian.USERS, bayesian.ITEMS)))
        likelihood = Ordinal.of(problem.by_user, bayesian.ITEMS, np.arange(4.0))
        gibbs = Gibbs(problem, *bayesian.hypers(), likelihood, frozenset(), 100 + chain)
        gibbs._priors, gibbs.noise, seen = {"users": users, "items": items}, Noise(1.0, cuts), []
        for _ in range(n):
            likelihood.levels[:] = levels_given(at, gibbs.noise.cuts)
            gibbs.epoch(at, pool)
            seen.append(statistics(at, gibbs._priors["users"], gibbs._priors["items"],
                                   gibbs.noise.cuts))
        means.append(np.mean(seen, axis=0))
    chain_error = np.std(means, axis=0, ddof=1) / np.sqrt(chains)
    error = np.sqrt(chain_error ** 2 + direct.var(0) / len(direct)) + 1e-12
    return float(np.abs((np.mean(means, axis=0) - direct.mean(0)) / error).max())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_cut_points_scores_and_levels_keep_their_joint_distribution(pool):
    assert geweke(120, 30, pool) < 4.5


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_move_that_is_always_taken_is_seen(pool, monkeypatch):
    draw = CutPoints.draw
    monkeypatch.setattr(CutPoints, "draw", lambda *given: draw(*given[:-1], False))
    assert geweke(100, 16, pool) > 6


# ------------------------------------------------------------------------------ the model

PARAMS = {"n_factors": 3, "likelihood": "ordinal", "n_epochs": 12, "burn_in": 4, "keep": 5,
          "random_state": 0, "n_threads": 1}


def fitted(ratings=None, **params):
    return BayesianMF(**{**PARAMS, **params}).fit(samples.matrix() if ratings is None else ratings)


def planted(seed=1, n=400, m=200):
    """Training levels, held-out pairs, and the probabilities of their levels."""
    random = np.random.default_rng(seed)
    P, Q = 0.6 * random.normal(size=(n, 3)), 0.6 * random.normal(size=(m, 3))
    s = P @ Q.T + 0.5 * random.normal(size=(n, 1)) + 0.6 * random.normal(size=m)
    values, cuts = np.array([0.5, 1, 2, 5]), np.array([-1.2, -0.2, 1.0])
    R = values[np.searchsorted(cuts, s + random.normal(size=s.shape))]
    users, items = np.nonzero(random.random(R.shape) < 0.3)
    held = random.random(len(users)) < 0.2
    known = Ratings.from_arrays(users[~held], items[~held], R[users[~held], items[~held]])
    return known, users[held], items[held], R[users[held], items[held]], cuts


@pytest.fixture(scope="module")
def ordinal():
    """A model of planted levels, with what was planted."""
    known, *rest = planted()
    return fitted(known, n_epochs=120, burn_in=40, keep=40), known, *rest


def test_probabilities_are_those_of_held_out_ratings(ordinal):
    model, _, users, items, ratings, cuts = ordinal
    p = model.predict_proba(users, items)
    given = ratings[:, None] == model.levels_
    np.testing.assert_allclose(p.mean(axis=0), given.mean(axis=0), atol=0.015)
    spread = np.quantile(p[:, 3], [0, 0.5, 1])
    for low, high in zip(spread[:-1], spread[1:], strict=True):
        some = (p[:, 3] >= low) & (p[:, 3] <= high)
        assert p[some, 3].mean() == pytest.approx(given[some, 3].mean(), abs=0.03)
    found = model.cut_points_.mean(axis=0)
    np.testing.assert_allclose(found - found[0], cuts - cuts[0], atol=0.08)
    low, high = model.predict_interval(users, items, coverage=0.7)
    assert np.isin(low, model.levels_).all()
    assert 0.7 < np.mean((low <= ratings) & (ratings <= high)) < 0.95


def test_ratings_that_are_expected_are_means_of_levels_and_what_lists_are_ranked_by(ordinal):
    model, _, users, items, *_ = ordinal
    expected, std = model.predict(users, items, return_std=True)
    np.testing.assert_allclose(expected, model.predict_proba(users, items) @ model.levels_,
                               atol=1e-4)
    draws = model.score_draws(users[:9], items[:9])
    np.testing.assert_allclose(draws.mean(axis=0), expected[:9], rtol=1e-6)
    np.testing.assert_allclose(draws.std(axis=0, ddof=1), std[:9], rtol=1e-5)
    best, scores = model.recommend([0, 5], 4)
    np.testing.assert_allclose(scores.ravel(), model.predict(np.repeat([0, 5], 4), best.ravel()),
                               atol=1e-5)
    best, scores = model.recommend([0, 5], 4, at_least=2)
    p = model.predict_proba(np.repeat([0, 5], 4), best.ravel())
    np.testing.assert_allclose(scores.ravel(), p[:, 2:].sum(axis=1), atol=1e-5)


def test_new_rows_of_levels_are_drawn_about_what_training_found(ordinal):
    model, known, *_ = ordinal
    rows, items = known.by_user[:30], np.tile(np.arange(40), 30)
    users = np.repeat(np.arange(30), 40)
    trained, folded = model.predict(users, items), model.predict(users, items, ratings=rows)
    assert np.sqrt(np.mean((trained - folded) ** 2)) < 0.15 * trained.std()
    alone = model.predict(np.zeros(40, int), items[:40], ratings=rows[[7]])
    np.testing.assert_allclose(alone, folded[7 * 40:8 * 40], rtol=1e-5)
    with pytest.raises(ValueError, match=r"levels of the fit, 0.5, 1, 2, 5, got 3"):
        model.predict([0], [0], ratings=sp.csr_array(([3.0], ([0], [0])), shape=rows[[0]].shape))


def test_levels_have_the_same_bits_for_any_threads_after_an_interrupt_and_in_a_file(tmp_path):
    def stop(model, record):
        if record["epoch"] == 7:
            raise KeyboardInterrupt

    straight = fitted()
    broken = BayesianMF(**PARAMS)
    with pytest.raises(KeyboardInterrupt):
        broken.fit(samples.matrix(), checkpoint=tmp_path / "c", callbacks=[stop])
    broken.fit(samples.matrix(), checkpoint=tmp_path / "c")
    straight.save(tmp_path / "m")
    for other in (broken, fitted(n_threads=8), mfcore.load(tmp_path / "m")):
        np.testing.assert_array_equal(other.user_factors_, straight.user_factors_)
        np.testing.assert_array_equal(other.cut_points_, straight.cut_points_)
    np.testing.assert_array_equal(other.predict_proba([0, 1], [2, 3]),
                                  straight.predict_proba([0, 1], [2, 3]))


def test_two_levels_are_a_probit_and_their_one_cut_point_stays():
    model = fitted(sp.csr_array(np.where(np.random.default_rng(0).random((9, 8)) < 0.4, 1.0, 2)))
    assert model.levels_.tolist() == [1, 2]
    assert np.ptp(model.cut_points_) == 0


@pytest.mark.parametrize("missing", [0, 2, 4])
def test_a_level_that_is_stated_may_be_missing_in_a_fold(missing):
    levels = np.arange(1.0, 6)
    cells = np.random.default_rng(0).choice(np.delete(levels, missing), (30, 20))
    model = fitted(sp.csr_array(cells), levels=levels, n_epochs=30, burn_in=10, keep=20)
    assert (np.diff(model.cut_points_, axis=1) > 0).all()
    p = model.predict_proba(*np.indices(cells.shape).reshape(2, -1))
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert (p.mean(axis=0) < 0.05).tolist() == (levels == missing + 1).tolist()
    one = cells.copy()
    one[0, 0] = missing + 1
    found = mfcore.cross_validate(model, sp.csr_array(one), n_folds=2, metrics="rmse")
    assert np.isfinite(found["rmse"]).all()
    with pytest.raises(ValueError, match="ratings must be levels of the fit"):
        model.update(Ratings.from_arrays([0], [0], [2.5]))


@pytest.mark.parametrize(("params", "ratings", "message"), [
    ({"levels": [1, 3, 2]}, None, "ascend in float32, got 1, 3, 2"),
    ({"levels": [1]}, None, "levels must be 2 to 64 numbers that ascend"),
    ({"levels": [1, 1 + 1e-9]}, None, "levels must be 2 to 64 numbers that ascend in float32"),
    ({}, sp.csr_array(1 + np.eye(3) * 1e-9), "levels that differ in float32"),
    ({"levels": [1, 2, 3]}, sp.csr_array(np.ones((3, 3))), "at least 2 of levels=1, 2, 3, got 1"),
    ({"levels": [1, 2, 3]}, None, "ratings must be among levels=1, 2, 3; the levels found are 0, "),
    ({}, sp.csr_array(np.arange(1.0, 101).reshape(10, 10) / 7), "100 different values: 0.142857"),
    ({}, sp.csr_array(np.ones((3, 3))), "have 1 different values"),
    ({"bias": "mean"}, None, "needs bias='learned', got 'mean'"),
    ({"unknown_weight": 0.1}, None, "needs unknown_weight=0, got 0.1"),
    ({"likelihood": "gaussian", "levels": [1, 2]}, None, "levels go with likelihood='ordinal'"),
    ({"likelihood": "probit"}, None, "likelihood must be"),
])
def test_what_is_no_level_is_refused(params, ratings, message):
    with pytest.raises(ValueError, match=message):
        fitted(ratings, **params)


def test_weights_of_levels_and_answers_by_one_product_are_refused(tmp_path):
    with pytest.raises(ValueError, match="takes no weights"):
        fitted(Ratings(samples.matrix(), weights=samples.matrix()))
    model = fitted()
    with pytest.raises(NotImplementedError, match="expected ratings, which are no inner products"):
        model.index_vectors()
    model.save(tmp_path / "m")
    with pytest.raises(NotImplementedError, match="mfcore.load serves it"):
        serving.load(tmp_path / "m")
    known = samples.matrix()[[0]]
    with pytest.raises(ValueError, match="takes no weights"):
        model.recommend(ratings=Ratings(known, weights=known))
    gaussian = fitted(likelihood="gaussian")
    with pytest.raises(NotImplementedError, match="predict_interval"):
        gaussian.predict_proba([0], [0])
    with pytest.raises(ValueError, match="at_least needs likelihood='ordinal'"):
        gaussian.recommend(at_least=4)
    low, high = gaussian.predict_interval([0, 1], [2, 3], coverage=0.5)
    assert (low < high).all()


def test_levels_in_float32_are_those_in_float64():
    tenths = samples.matrix()
    tenths.data = np.round(tenths.data / 5, 1)
    model = fitted(tenths.astype(np.float32))
    assert model.levels_[7] < 0.7
    best, scores = model.recommend([0], 1, at_least=0.7)
    p = model.predict_proba([0], best.ravel())
    assert scores[0, 0] == pytest.approx(p[0, 7:].sum(), abs=1e-5)
    single, double = (model.predict([0], [1], ratings=row)
                      for row in (tenths[[3]].astype(np.float32), tenths[[3]]))
    np.testing.assert_array_equal(single, double)


def test_what_every_level_reaches_or_none_ranks_no_list(ordinal):
    model = ordinal[0]
    for at_least in (0.5, 5.1, -1e300, 1e300):
        with pytest.raises(ValueError, match="above the lowest level, 0.5, and not above the high"):
            model.recommend([0], at_least=at_least)
    with pytest.raises(ValueError, match="coverage must be a share between 0 and 1"):
        model.predict_interval([0], [0], coverage=1)


def test_vectors_of_uneven_levels_are_not_said_to_shrink():
    uneven = samples.matrix()
    uneven.data[uneven.data > 3] = 1e6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted(uneven)


@pytest.mark.parametrize(("values", "cuts"), [
    ([1.0, 1.0, 2.0], [[0.0, 1.0]]), ([1.0, 2.0, 3.0], [[0.5, 0.5]]), ([1.0], np.empty((1, 0))),
    ([1.0, 2.0, 3.0], [[0.0]])])
def test_levels_and_cuts_that_do_not_ascend_are_refused(values, cuts):
    ratings = Ratings.from_arrays([0, 1], [0, 1], [1.0, 1.0])
    with pytest.raises(ValueError, match="must ascend"):
        Levels(np.array(values), np.array(cuts)).check(ratings)
