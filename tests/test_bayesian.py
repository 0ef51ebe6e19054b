"""Gibbs sampling is right: each conditional in closed form, the joint by Geweke's test.

Geweke (2004): parameters drawn from the prior, and data from them, have the joint density of
both.  A chain that alternates the sampler's sweep with new data given its parameters has it
too, if and only if every conditional is right; so functions of the parameters must have the
same moments in both.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import samples
import scipy.optimize
import scipy.sparse as sp
from naive import problem as problem_of
from naive import random_problem

import mfcore
from mfcore import BayesianMF, MatrixFactorization, Ratings
from mfcore.data.features import one_hot
from mfcore.metrics.convergence import effective_sample_size, r_hat, unsettled
from mfcore.objectives import bayesian
from mfcore.objectives.bayesian import Hyper, RowPrior, fields_of, guessed_variances
from mfcore.objectives.factors import Factors
from mfcore.objectives.penalty import Penalty, Prior
from mfcore.objectives.quadratic import Cells, Quadratic
from mfcore.objectives.ridge import Design, Shifted
from mfcore.parallel import Pool
from mfcore.solvers.als import solve_exactly
from mfcore.solvers.gibbs import Gaussian, Gibbs, Noise, _lifted, row_noise, sampled_rows
from mfcore.validation import DivergenceError, FitWarning


def one_sample(model, side, number):
    """The vectors of one sample."""
    return getattr(model, side).sample(number, model.n_samples_, np.dtype(model.dtype))[0]


@pytest.fixture
def pool():
    with Pool(1) as pool:
        yield pool


# ------------------------------------------------------------------ conditionals of rows

@pytest.mark.parametrize("case", [
    random_problem(1, learns_bias=True), random_problem(2, weighted=True),
    random_problem(3, w0=0.45, r0=1.7, learns_bias=True, weighted=True)])
def test_rows_are_drawn_from_the_conditional_of_the_dense_model(case, pool):
    dense, at = case
    k, d = at.P.shape[1], at.P.shape[1] + dense.learns_bias
    random, tau = np.random.default_rng(0), 1.7
    prior = RowPrior(random.normal(size=d), random.uniform(0.5, 3, d))
    shift, bias_shift = random.normal(size=(len(at.P), k)), random.normal(size=len(at.P))
    systems = sampled_rows(problem_of(dense).user_rows(at), prior, tau, shift, bias_shift)
    u, draws = 0, 4000
    X = np.column_stack([at.Q, np.ones(len(at.Q))])[:, :d]
    base = np.append(dense.users.means[0], dense.users.bias_mean)[:d]
    mean = base + np.append(shift[u], bias_shift[u])[:d] + prior.mean
    precision = tau * (X.T * dense.W[u]) @ X + np.diag(prior.precision)
    frozen = at.gamma + (0 if dense.learns_bias else at.beta[u])
    right = tau * (X.T * dense.W[u]) @ (dense.T[u] - frozen) + prior.precision * mean
    drawn = np.empty((draws, d))
    for n in range(draws):
        P, beta = at.P.copy(), at.beta.copy()
        solve_exactly(systems, P, beta, pool, random.normal(size=(len(P), d)) / np.sqrt(tau))
        drawn[n] = np.append(P[u], beta[u])[:d]
    covariance = np.linalg.inv(precision)
    error = (drawn.mean(0) - covariance @ right) / np.sqrt(np.diag(covariance) / draws)
    assert np.abs(error).max() < 4.5
    np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=6 * np.sqrt(
        np.outer(np.diag(covariance), np.diag(covariance)).max() / draws))


def test_the_noise_of_a_row_depends_on_the_key_and_its_place_alone(monkeypatch):
    monkeypatch.setattr("mfcore.solvers.gibbs.NOISE_ROWS", 4)
    with Pool(1) as one, Pool(8) as eight:
        noise = row_noise((11, 3), (5, 2, 0), np.dtype("float32"), one)
        np.testing.assert_array_equal(noise, row_noise((11, 3), (5, 2, 0), noise.dtype, eight))
        assert np.abs(noise - row_noise((11, 3), (5, 3, 0), noise.dtype, one)).min() > 0
    assert len(np.unique(noise)) == noise.size


# ------------------------------------------------------------------- other conditionals

F = sp.csr_array(np.random.default_rng(5).normal(size=(12, 4)))
FIELDS = np.array([0, 0, 0, 1])


def moments(draw, n=4000):
    drawn = np.array([draw(np.random.default_rng([7, seed])) for seed in range(n)])
    return drawn.mean(0), np.cov(drawn.reshape(n, -1).T)


def block_of(F, most_dense=256):
    return Shifted(Design.of(F, np.dtype(float)), most_dense)


@pytest.mark.parametrize(("F", "most_dense", "budget"), [
    (F, 256, 1e9), (F, 1, 1e9), (F[:3], 1, 1e9), (F, 1, 0)],
    ids=["factored", "band, tall", "band, wide", "search"])
def test_groups_are_drawn_from_their_ridge_posterior(monkeypatch, pool, F, most_dense, budget):
    monkeypatch.setattr("mfcore.objectives.ridge.BAND_BYTES", budget)
    random = np.random.default_rng(0)
    Y, lam = random.normal(size=(F.shape[0], 2)), np.array([0.8, 2.5])
    K = random.uniform(0.4, 2, 4) if most_dense > 1 else np.full(4, 0.7)
    block = block_of(F, most_dense)
    mean, covariance = moments(lambda rng: bayesian.draw_groups(block, Y, lam, K, np.zeros((4, 2)),
                                                                rng, pool))
    B = (F.T @ F).toarray() + np.diag(K)
    np.testing.assert_allclose(mean, np.linalg.solve(B, F.T @ Y), atol=0.06)
    expected = np.kron(np.linalg.inv(B), np.diag(1 / lam))
    np.testing.assert_allclose(covariance, expected, atol=0.06 * expected.max() / 0.8)


def test_a_mean_is_drawn_about_the_rows_and_one_more_at_zero():
    D, lam = np.random.default_rng(1).normal(2, 1, (9, 2)), np.array([0.5, 4.0])
    mean, covariance = moments(lambda rng: bayesian.draw_mean(D, lam, rng))
    np.testing.assert_allclose(mean, D.sum(0) / 10, atol=0.03)
    np.testing.assert_allclose(covariance, np.diag(1 / (10 * lam)), atol=0.02)


def test_precisions_have_the_moments_of_their_gammas():
    hyper = Hyper(np.array([0.7, 1.3]), F, FIELDS)
    random = np.random.default_rng(2)
    D, G, K = random.normal(size=(12, 2)), random.normal(size=(4, 2)), random.uniform(1, 2, 4)
    mean, _ = moments(lambda rng: hyper.draw_precision(D, G, K, rng))
    T = (D ** 2).sum(0) - D.sum(0) ** 2 / 13 + (K[:, None] * G ** 2).sum(0)
    np.testing.assert_allclose(mean, (12 + 4 + 1) / (T + hyper.variances), rtol=0.03)
    mean, _ = moments(lambda rng: bayesian.draw_field_precisions(G, np.array([2.0, 3]), FIELDS,
                                                                 rng))
    squares = G ** 2 @ [2.0, 3]
    np.testing.assert_allclose(mean, [(2 * 3 + 1) / (squares[:3].sum() + 1),
                                      (2 + 1) / (squares[3] + 1)], rtol=0.05)
    mean, _ = moments(lambda rng: np.atleast_1d(
        bayesian.draw_noise_precision(8, 5.0, 2.0, 1.0, rng)))
    np.testing.assert_allclose(mean, 9 / 7, rtol=0.05)


class Told:
    """A generator whose gammas are their shape, and whose normals are as given, in turn."""

    def __init__(self, *normals):
        self.normals = list(normals)

    def gamma(self, shape, size=None):
        return np.broadcast_to(shape, np.shape(shape) if size is None else size).astype(float)

    def standard_normal(self, shape):
        drawn = self.normals.pop(0)
        assert drawn.shape == shape
        return drawn


def test_precisions_are_gammas_of_the_squares_about_the_best_mean():
    random = np.random.default_rng(2)
    D, G, K = random.normal(1.5, 1, (3, 2)), random.normal(size=(4, 2)), random.uniform(1, 2, 4)
    variances = np.array([0.7, 1.3])
    best = np.array([scipy.optimize.minimize_scalar(                # rows, and one more at zero
        lambda mean, f=f: ((D[:, f] - mean) ** 2).sum() + mean ** 2).fun for f in range(2)])
    squares = best + sum(K[g] * G[g] ** 2 for g in range(4))
    lam = Hyper(variances, F, FIELDS).draw_precision(D, G, K, Told())
    np.testing.assert_allclose(lam, (3 + 4 + 1) / (squares + variances), rtol=1e-7)
    kappa = bayesian.draw_field_precisions(G, lam, FIELDS, Told())
    for field, number in ((0, 3), (1, 1)):
        squares = sum(lam @ G[g] ** 2 for g in range(4) if FIELDS[g] == field)
        assert kappa[field] == pytest.approx((2 * number + 1) / (squares + 1), rel=1e-12)
    assert bayesian.draw_noise_precision(8, 5.0, 2.0, 1.0, Told()) == pytest.approx(9 / (5 + 2))


@pytest.mark.parametrize("most_dense", [256, 1])
def test_means_and_groups_move_with_their_noise_as_far_as_their_spread(pool, most_dense):
    random = np.random.default_rng(3)
    D, lam = random.normal(size=(12, 2)), np.array([0.5, 4.0])
    K = random.uniform(0.4, 2, 4) if most_dense > 1 else np.full(4, 0.7)
    one, rows, groups = (random.normal(size=(n, 2)) for n in (1, 12, 4))
    np.testing.assert_allclose(bayesian.draw_mean(D, lam, Told(one)),
                               D.sum(0) / 13 + one[0] / np.sqrt(13 * lam), rtol=1e-12)
    G = bayesian.draw_groups(block_of(F, most_dense), D, lam, K, np.zeros((4, 2)),
                             Told(groups, rows), pool)
    dense, spread = F.toarray(), 1 / np.sqrt(lam)
    left = np.vstack([dense, np.diag(np.sqrt(K))])          # least squares on rows and on groups
    right = np.vstack([D + rows * spread, groups * spread])
    np.testing.assert_allclose(G, np.linalg.lstsq(left, right, rcond=None)[0], atol=1e-7)


def test_a_prior_starts_from_its_guesses_and_its_draws_rest_on_one_another(pool):
    random = np.random.default_rng(4)
    hyper = Hyper(np.array([0.5, 4.0]), F, FIELDS)
    start, Z, G = hyper.start(), random.normal(size=(12, 2)), random.normal(size=(4, 2))
    assert start.mean.tolist() == [0, 0]
    assert start.precision.tolist() == [2, 0.25]
    assert start.field_precision.tolist() == [1, 1]
    assert Hyper(np.ones(1), None, np.zeros(0, int)).start().field_precision.tolist() == []
    one, rows, groups = (random.normal(size=(n, 2)) for n in (1, 12, 4))
    start = replace(start, field_precision=np.array([0.6, 1.7]))
    prior, drawn, means = hyper.draw(start, Z, G, Told(one, groups, rows), pool)
    K = np.array([0.6, 0.6, 0.6, 1.7])
    lam = hyper.draw_precision(Z - F @ G, G, K, Told())
    mean = bayesian.draw_mean(Z - F @ G, lam, Told(one))
    np.testing.assert_allclose(prior.precision, lam, rtol=1e-12)
    np.testing.assert_allclose(prior.mean, mean, rtol=1e-12)
    expected = bayesian.draw_groups(block_of(F), Z - mean, lam, K, G, Told(groups, rows), pool)
    np.testing.assert_allclose(drawn, expected, rtol=1e-9)
    np.testing.assert_allclose(means, F @ drawn, rtol=1e-9)
    np.testing.assert_allclose(prior.field_precision, bayesian.draw_field_precisions(
        expected, lam, FIELDS, Told()), rtol=1e-9)


def test_small_fields_are_drawn_together_and_a_large_one_given_the_others(pool, monkeypatch):
    monkeypatch.setattr(Shifted, "most_dense", 3)
    random = np.random.default_rng(6)
    wide = sp.csr_array(random.normal(size=(12, 8)))
    hyper = Hyper(np.ones(2), wide, np.array([0, 0, 1, 2, 2, 2, 2, 3]))
    Z, G, drawn = random.normal(size=(12, 2)), random.normal(size=(8, 2)), []
    monkeypatch.setattr(bayesian, "draw_groups", lambda block, Y, precision, K, G, *rest: (
        drawn.append((block.design.rows.toarray(), Y)), G + 1)[1])
    prior, moved, means = hyper.draw(hyper.start(), Z, G.copy(), random, pool)
    parts = [[0, 1, 2], [3, 4, 5, 6], [7]]
    now = G.copy()
    for (F, Y), columns in zip(drawn, parts, strict=True):
        np.testing.assert_array_equal(F, wide.toarray()[:, columns])
        others = np.delete(np.arange(8), columns)
        np.testing.assert_allclose(Y, Z - prior.mean - wide[:, others] @ now[others])
        now[columns] += 1
    np.testing.assert_array_equal(moved, now)
    np.testing.assert_allclose(means, wide @ now)


def test_samples_beside_each_other_score_their_mean_and_come_back():
    P, Q = (np.random.default_rng(seed).normal(size=(3, n, 2)) for seed, n in ((0, 4), (1, 5)))
    wide = bayesian.side_by_side(P), bayesian.side_by_side(Q)
    np.testing.assert_allclose(wide[0] @ wide[1].T, np.mean(P @ Q.transpose(0, 2, 1), axis=0))
    for number in range(3):
        np.testing.assert_allclose(bayesian.one_of(wide[1], number, 3), Q[number], rtol=1e-14)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_mean_and_deviation_of_parts_are_those_of_numpy(n):
    parts = np.random.default_rng(0).normal(3, 2, (n, 4, 2))
    mean, std = bayesian.mean_and_std(iter(parts))
    np.testing.assert_allclose(mean, parts.mean(0), rtol=1e-13)
    np.testing.assert_allclose(std, parts.std(0, ddof=1) if n > 1 else 0 * mean, atol=1e-13)


def test_fields_are_what_stands_before_the_equals_sign():
    assert fields_of(["age=1", "age=2", "tall", "job=x", "job=y"]).tolist() == [0, 0, 1, 2, 2]
    np.testing.assert_allclose(guessed_variances(2.0, 8, True), [0.5] * 8 + [2.0])
    np.testing.assert_allclose(guessed_variances(18.0, 2, False), [3.0, 3.0])


# -------------------------------------------------------------------------- Geweke's test

USERS, ITEMS, WIDTH, VARIANCE = 5, 4, 2, 1.0
GROUPS, GROUP_FIELDS = one_hot([0, 1, 0, 1, 0], "g").matrix, np.zeros(2, int)
BAG = sp.csr_array(np.random.default_rng(8).random((USERS, 6)) < 0.6) / np.sqrt(3)


def hypers():
    variances = guessed_variances(VARIANCE, WIDTH, True)
    return (Hyper(variances, GROUPS, GROUP_FIELDS),
            Hyper(variances, None, np.zeros(0, int)))


def from_the_prior(random: np.random.Generator):
    """A point, the priors of both sides and τ, drawn from the model's own prior."""
    def gamma(v, size=None):
        return random.gamma(0.5, size=size) / (v / 2)

    parts = []
    for hyper, n in zip(hypers(), (USERS, ITEMS), strict=True):
        m, d = len(hyper.fields), WIDTH + 1
        lam, kappa = gamma(hyper.variances, d), gamma(1.0, hyper.fields.max(initial=-1) + 1)
        mean = random.normal(size=d) / np.sqrt(lam)
        G = random.normal(size=(m, d)) / np.sqrt(lam * kappa[hyper.fields][:, None])
        Z = mean + random.normal(size=(n, d)) / np.sqrt(lam)
        parts.append((Z if hyper.features is None else Z + hyper.features @ G, G,
                      RowPrior(mean, lam, kappa)))
    (Z, G, users), (Y, H, items) = parts
    at = Factors(Z[:, :-1].copy(), Y[:, :-1].copy(), Z[:, -1].copy(), Y[:, -1].copy(),
                 G[:, :-1].copy(), np.zeros((0, WIDTH)), G[:, -1].copy(), np.zeros(0))
    return at, users, items, float(gamma(VARIANCE))


def data_given(at: Factors, tau: float, random: np.random.Generator) -> np.ndarray:
    s = at.P @ at.Q.T + at.beta[:, None] + at.gamma
    return s + random.normal(size=s.shape) / np.sqrt(tau)


def full_problem(R: np.ndarray) -> Quadratic:
    """Every cell rated."""
    def cells(M):
        n, m = M.shape
        return Cells(np.arange(n + 1) * m, np.tile(np.arange(m), n), M.ravel(), M.ravel(),
                     np.array([0.0, 1.0, 1.0, 0.0]))

    def penalty(n):
        return Penalty(np.ones(n), np.ones(n), np.zeros((1, WIDTH)), np.zeros(1))

    return Quadratic(cells(R), cells(np.ascontiguousarray(R.T)), Prior(penalty(USERS), GROUPS),
                     Prior(penalty(ITEMS)), 0.0, True, float(np.sum(R ** 2)))


def statistics(at, users, items, tau) -> np.ndarray:
    """Bounded functions of everything that is drawn (the prior's moments are infinite)."""
    return np.tanh(np.concatenate([
        [np.log(tau)], np.log(users.precision), np.log(items.precision),
        np.log(users.field_precision), users.mean, items.mean, at.P[0], at.Q[1], at.beta[:2],
        at.gamma[:1], at.G.ravel(), at.g, at.P[0] ** 2, at.beta[:1] ** 2, at.G[0] ** 2]))


def geweke(n: int, chains: int, pool: Pool, block_size: int | None = None) -> float:
    """The largest |z| of the differences of means between both simulations."""
    random = np.random.default_rng(11)
    direct = np.array([statistics(*from_the_prior(random)) for _ in range(n * 10)])
    means = []
    for chain in range(chains):
        at, users, items, tau = from_the_prior(random)
        gibbs = Gibbs(full_problem(data_given(at, tau, random)), *hypers(),
                      Gaussian(USERS * ITEMS, VARIANCE), frozenset(), 100 + chain, block_size)
        gibbs._priors, gibbs.noise, seen = {"users": users, "items": items}, Noise(tau), []
        for _ in range(n):
            gibbs.epoch(at, pool)
            seen.append(statistics(at, gibbs._priors["users"], gibbs._priors["items"],
                                   gibbs.noise.tau))
            gibbs.problem = full_problem(data_given(at, gibbs.noise.tau, random))
        means.append(np.mean(seen, axis=0))
    chain_error = np.std(means, axis=0, ddof=1) / np.sqrt(chains)
    error = np.sqrt(chain_error ** 2 + direct.var(0) / len(direct))
    return float(np.abs((np.mean(means, axis=0) - direct.mean(0)) / error).max())


def test_the_joint_distribution_is_left_as_it_is(pool):
    assert geweke(120, 30, pool) < 4.5


def test_the_joint_distribution_is_left_as_it_is_with_history_too(pool, monkeypatch):
    given = globals()
    monkeypatch.setitem(given, "GROUPS", sp.csr_array(sp.hstack([GROUPS, BAG])))
    monkeypatch.setitem(given, "GROUP_FIELDS", np.repeat([0, 1], [2, 6]))
    monkeypatch.setattr(Shifted, "most_dense", 1)       # (each field alone, the bag by a band)
    assert geweke(120, 30, pool) < 4.5


def test_the_joint_distribution_is_left_as_it_is_by_blocks_of_factors(pool, monkeypatch):
    monkeypatch.setattr("mfcore.solvers.subspace.LANES", 1)     # (two factors, two blocks)
    assert geweke(120, 30, pool, block_size=1) < 4.5
    exact = solve_exactly
    monkeypatch.setattr("mfcore.solvers.gibbs.step_through_blocks", lambda systems, X, bias, pool,
                        size, noise: exact(systems, X, bias, pool))
    assert geweke(100, 16, pool, block_size=1) > 6


@pytest.mark.parametrize(("name", "wrong"), [
    ("draw_noise_precision", lambda right: lambda *given: 1.5 * right(*given)),
    ("draw_mean", lambda right: lambda *given: right(*given) + 0.3),
    ("draw_groups", lambda right: lambda *given: 1.3 * right(*given)),
])
def test_a_conditional_that_is_wrong_by_a_factor_is_seen(name, wrong, monkeypatch, pool):
    homes = ["mfcore.objectives.bayesian"] + ["mfcore.solvers.gibbs"] * (name.endswith("noise_"
                                                                                      "precision"))
    for home in homes:
        monkeypatch.setattr(f"{home}.{name}", wrong(getattr(bayesian, name)))
    assert geweke(100, 16, pool) > 6


# ---------------------------------------------------------------------------- the model

def fitted(ratings=None, **params):
    known = {name: params.pop(name) for name in ("user_features", "item_features")
             if name in params}
    model = BayesianMF(**{"n_factors": 3, "n_epochs": 12, "burn_in": 4, "keep": 5,
                          "dtype": "float64", "random_state": 0, "n_threads": 1, **params})
    return model.fit(samples.matrix() if ratings is None else ratings, **known)


def test_the_mean_over_samples_is_one_factorization():
    model = fitted()
    parts = [one_sample(model, "users_", n) @ one_sample(model, "items_", n).T
             + model.user_bias_samples_[n][:, None] + model.item_bias_samples_[n]
             for n in range(model.n_samples_)]
    users, items = np.indices((11, 8)).reshape(2, -1)
    scores, std = model.predict(users, items, return_std=True)
    np.testing.assert_allclose(scores, model.global_mean_ + np.mean(parts, 0).ravel())
    np.testing.assert_allclose(std, np.std(parts, 0, ddof=1).ravel())


@pytest.mark.parametrize("params", [{}, {"bias": None}, {"bias": "mean"},
                                    {"unknown_weight": 0.3, "unknown_value": 1.7},
                                    {"bias": "mean", "unknown_weight": 0.3,
                                     "unknown_value": "bias"}])
def test_every_case_of_the_formula_is_sampled_and_answers(params, tmp_path):
    model = fitted(**params)
    items, scores = model.recommend(k=4)
    assert np.isfinite(scores[scores > -np.inf]).all()
    model.save(tmp_path / "model")
    again = mfcore.load(tmp_path / "model").recommend(k=4)
    np.testing.assert_array_equal(again[0], items)
    new, _ = model.recommend(ratings=samples.matrix()[:3], k=4)
    assert new.shape == (3, 4)


def test_blocks_of_factors_find_what_whole_vectors_find_on_any_number_of_threads():
    truth, ratings = tastes()
    users, items = np.indices(truth.shape).reshape(2, -1)
    errors, found = [], []
    for params in ({}, {"solver": "subspace", "block_size": 16},
                   {"solver": "subspace", "block_size": 16, "n_threads": 8}):
        model = fitted(ratings, n_factors=40, n_epochs=120, burn_in=60, keep=40, **params)
        found.append(model.predict(users, items))
        errors.append(np.sqrt(np.mean((found[-1] - truth.ravel()) ** 2)))
    np.testing.assert_array_equal(found[1], found[2])
    assert errors[1] < 1.15 * errors[0]


@pytest.mark.parametrize("threads", [2, 8])
def test_any_number_of_threads_gives_the_same_bits(threads):
    users = one_hot(["a", "b"] * 5 + ["a"], "g")
    one, more = (fitted(user_features=(users, "history"), n_threads=n) for n in (1, threads))
    np.testing.assert_array_equal(one.user_factors_, more.user_factors_)
    np.testing.assert_array_equal(one.noise_precision_, more.noise_precision_)


def test_optimism_ranks_by_the_mean_and_so_many_standard_deviations():
    model = fitted()
    users, items = np.indices((11, 8)).reshape(2, -1)
    mean, std = (part.reshape(11, 8) for part in model.predict(users, items, return_std=True))
    for optimism in (1.5, -2.0):
        best, scores = model.recommend(k=8, optimism=optimism, exclude_seen=False)
        wanted = mean + optimism * std
        np.testing.assert_array_equal(best, np.argsort(-wanted, axis=1, kind="stable"))
        np.testing.assert_allclose(scores, -np.sort(-wanted, axis=1))
    np.testing.assert_array_equal(model.recommend(k=8)[0], model.recommend(k=8, optimism=0.0)[0])


def test_a_new_row_does_not_depend_on_those_beside_it():
    model, rows = fitted(), samples.matrix()
    together = model.fold_in_users(rows).factors
    for row in range(3):
        np.testing.assert_allclose(model.fold_in_users(rows[[row]]).factors[0], together[row])


def test_new_rows_are_drawn_about_what_training_found():
    random = np.random.default_rng(3)
    P, Q = random.normal(size=(60, 2)), random.normal(size=(40, 2))
    R = sp.csr_array(np.round(P @ Q.T + 0.1 * random.normal(size=(60, 40)), 3))
    model = fitted(R, n_epochs=60, burn_in=30, keep=20)
    users, items = np.indices((60, 40)).reshape(2, -1)
    trained = model.predict(users, items)
    folded = model.predict(users, items, ratings=R)
    assert np.sqrt(np.mean((trained - R.toarray().ravel()) ** 2)) < 0.15
    assert np.sqrt(np.mean((trained - folded) ** 2)) < 0.1


def test_an_interval_covers_what_it_says():
    random = np.random.default_rng(4)
    P, Q = random.normal(size=(120, 2)), random.normal(size=(90, 2))
    R = P @ Q.T + 0.7 * random.normal(size=(120, 90))
    seen = random.random(R.shape) < 0.4
    users, items = np.nonzero(seen)
    model = fitted(Ratings.from_arrays(users, items, R[seen]), n_epochs=120, burn_in=40, keep=60)
    users, items = np.nonzero(~seen)
    scores, std = model.predict(users, items, return_std=True)
    spread = np.sqrt(std ** 2 + 1 / model.noise_precision_.mean())
    assert np.mean(np.abs(scores - R[~seen]) < 1.2816 * spread) == pytest.approx(0.8, abs=0.03)
    assert 1 / np.sqrt(model.noise_precision_.mean()) == pytest.approx(0.7, rel=0.1)


def test_a_killed_chain_goes_on_to_the_same_bits(tmp_path):
    def stop(model, record):
        if record["epoch"] == 7:
            raise KeyboardInterrupt

    model = BayesianMF(3, n_epochs=12, burn_in=4, keep=5, random_state=0)
    users = one_hot(["a", "b"] * 5 + ["a"], "g")
    with pytest.raises(KeyboardInterrupt):
        model.fit(samples.matrix(), user_features=users, checkpoint=tmp_path / "c",
                  callbacks=[stop])
    assert model.n_samples_ >= 1
    model.fit(samples.matrix(), user_features=users, checkpoint=tmp_path / "c")
    straight = BayesianMF(3, n_epochs=12, burn_in=4, keep=5, random_state=0).fit(
        samples.matrix(), user_features=users)
    np.testing.assert_array_equal(model.user_factors_, straight.user_factors_)
    np.testing.assert_array_equal(model.user_feature_factors_, straight.user_feature_factors_)


def test_one_sample_that_is_kept_is_the_last():
    model = fitted(keep=1)
    assert model.n_samples_ == 1
    straight = fitted(keep=8)
    np.testing.assert_array_equal(one_sample(model, "users_", 0).round(9),
                                  one_sample(straight, "users_", 7).round(9))


def test_history_measures_the_mean_of_the_samples_so_far():
    ratings = Ratings(samples.matrix())
    model = BayesianMF(3, n_epochs=12, burn_in=4, keep=8, random_state=0, n_threads=1)
    model.fit(ratings, eval_set=ratings)
    assert model.history_[-1]["rmse"] == pytest.approx(mfcore.evaluate(
        model, ratings, metrics=["rmse"])["rmse"])
    assert len(model.history_) == 12


# ------------------------------------------------------------------------- unusual input

@pytest.mark.parametrize("ratings", [
    sp.csr_array(np.full((4, 3), 3.0)), sp.csr_array(([4.0], ([0], [1])), shape=(1, 2)),
    sp.csr_array(np.full((3, 3), 0.0) + 1e-6), sp.csr_array(1e6 * np.arange(1.0, 13).reshape(4, 3)),
], ids=["constant", "a single rating", "tiny", "huge"])
def test_priors_keep_extremes_finite(ratings):
    model = fitted(ratings, n_epochs=40, burn_in=20, keep=20)
    assert np.isfinite(model.predict([0], [0])).all()
    assert np.isfinite(model.noise_precision_).all()


def test_constant_ratings_are_predicted():
    model = fitted(sp.csr_array(np.full((9, 7), 3.0)), n_epochs=60, burn_in=30, keep=30)
    np.testing.assert_allclose(model.predict([0, 4], [1, 2]), 3.0, atol=0.05)


@pytest.mark.parametrize(("params", "message"), [
    ({"burn_in": 12}, "burn_in"), ({"burn_in": -1}, "burn_in"), ({"keep": 9}, "keep"),
    ({"keep": 0}, "keep"), ({"n_epochs": 0}, "n_epochs"),
    ({"solver": "subspace", "unknown_weight": 0.1}, "solver='subspace' needs unknown_weight=0"),
])
def test_sweeps_that_do_not_fit_together_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        fitted(**params)


def test_a_sampler_has_no_objective():
    with pytest.raises(NotImplementedError, match="BayesianMF"):
        fitted().objective()


# --------------------------------------------------------------------- after the fit

def tastes(n_users=90, n_items=70, noise=0.3):
    random = np.random.default_rng(6)
    truth = random.normal(size=(n_users, 2)) @ random.normal(size=(2, n_items))
    seen = np.nonzero(random.random(truth.shape) < 0.4)
    return truth, Ratings.from_arrays(*seen, truth[seen] + noise * random.normal(size=len(seen[0])))


@pytest.mark.parametrize("params", [{}, {"bias": "mean"}, {"bias": None}])
def test_an_update_knows_what_a_fit_to_all_ratings_knows_and_how_well(params, tmp_path):
    truth, ratings = tastes()
    users, items = ratings.users_of_cells, ratings.by_user.indices
    late = (users >= 70) | (items >= 55)
    settings = {"n_epochs": 120, "burn_in": 60, "keep": 40, **params}
    first = Ratings(ratings.select_cells(~late).by_user[:70, :55])
    grown = fitted(first, **settings).update(ratings, duplicates="last", rows="all", n_passes=2)
    whole, pairs = fitted(ratings, **settings), np.indices(truth.shape).reshape(2, -1)
    (mean, std), (wanted, spread) = (each.predict(*pairs, return_std=True)
                                     for each in (grown, whole))
    errors = [np.sqrt(np.mean((each - truth.ravel()) ** 2)) for each in (mean, wanted)]
    assert errors[0] < 1.15 * errors[1]
    assert 0.95 < std.mean() / spread.mean() < 1.2
    grown.save(tmp_path / "model")
    np.testing.assert_array_equal(mfcore.load(tmp_path / "model").predict(*pairs), mean)
    left = grown.forget(users=[0, 1], items=[0]).predict(np.arange(88), np.full(88, 3))
    assert grown.user_factors_.shape == (88, 120)
    assert np.sqrt(np.mean((left - truth[2:, 4]) ** 2)) < 2 * errors[1]


def test_new_items_are_drawn_about_what_training_found():
    truth, ratings = tastes()
    model = fitted(ratings, n_epochs=80, burn_in=40, keep=40)
    folded = model.fold_in_items(ratings.by_user[:, :9])
    scores = model.global_mean_ + model.user_factors_ @ folded.factors.T \
        + model.user_bias_[:, None] + folded.bias
    assert np.sqrt(np.mean((scores - truth[:, :9]) ** 2)) < 0.2


def test_ratings_explain_a_score_by_how_it_moves_with_them():
    model = fitted(bias=None)
    row, (score, items, shares) = samples.matrix()[[3]], model.explain(3, 2)
    before = model.predict([0], [2], ratings=row)
    for item, share in zip(items, shares, strict=True):
        raised = row.copy()
        raised.data[raised.indices == item] *= 1.5
        moved = model.predict([0], [2], ratings=raised) - before
        assert moved[0] == pytest.approx(0.5 * share, abs=1e-9)
    assert score == pytest.approx(model.predict([3], [2])[0])


def test_an_update_by_what_is_no_level_leaves_the_model():
    model = fitted(samples.counts(), likelihood="ordinal")
    before = model.user_factors_
    with pytest.raises(ValueError, match="ratings must be levels of the fit"):
        model.update(Ratings.from_arrays([0], [0], [2.5]))
    assert model.user_factors_ is before or np.array_equal(model.user_factors_, before)
    model.update(Ratings.from_arrays([0, 11], [8, 0], [model.levels_[1]] * 2))
    np.testing.assert_allclose(model.predict_proba([11, 0], [8, 8]).sum(axis=1), 1)


# --------------------------------------------------------------------------- SVD++

@pytest.mark.parametrize("make", [
    lambda **given: MatrixFactorization(3, n_epochs=6, random_state=0, **given),
    lambda **given: BayesianMF(3, n_epochs=6, burn_in=2, keep=3, random_state=0, **given)])
def test_history_is_the_bag_of_training_items_and_is_built_for_new_users(make):
    rows = samples.matrix()
    model = make(dtype="float64").fit(rows, user_features="history", item_features="history")
    n = np.maximum(np.diff(rows.indptr), 1)
    bag = samples.stored(rows) / np.sqrt(n)[:, None]
    np.testing.assert_allclose(model.user_features_.matrix.toarray(), bag)
    assert model.user_feature_names_[:2] == ["rated=0", "rated=1"]
    assert model.item_features_.shape == (8, 11)
    if isinstance(model, MatrixFactorization):
        folded = model.fold_in_users(rows)
        np.testing.assert_allclose(folded.factors, model.user_factors_, atol=1e-9)
        explicit = replace(problem_point(model), P=bag @ model.user_feature_factors_)
        prior = model.fold_in_users(rows[[samples.SILENT_USER]])
        np.testing.assert_allclose(prior.factors[0], explicit.P[samples.SILENT_USER], atol=1e-9)


def problem_point(model) -> Factors:
    return Factors(model.user_factors_, model.item_factors_, model.user_bias_, model.item_bias_)


def test_history_goes_with_other_features_and_through_partial_fit():
    users = one_hot(["a", "b"] * 5 + ["a"], "g")
    rows = samples.matrix()
    model = MatrixFactorization(3, n_epochs=6, random_state=0, dtype="float64").fit(
        rows, user_features=(users, "history"))
    folded = model.fold_in_users(rows, user_features=users)
    np.testing.assert_allclose(folded.factors, model.user_factors_, atol=1e-9)
    fresh = samples.matrix(seed=9)[:1]
    model.partial_fit(fresh, users=[11], user_features=[["g=b"]])
    assert model.user_features_.shape == (12, 10)
    np.testing.assert_allclose(model.user_features_.matrix.toarray()[11, :2], [0, 1])
    np.testing.assert_allclose(model.user_features_.matrix.toarray()[11, 2:],
                               samples.stored(fresh)[0] / np.sqrt(fresh.nnz))


# ------------------------------------------------------------------------- convergence

def autoregressive(n: int, rho: float, seed: int) -> np.ndarray:
    random, x = np.random.default_rng(seed), np.zeros(n)
    for t in range(1, n):
        x[t] = rho * x[t - 1] + random.normal()
    return x


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_the_effective_sample_size_of_an_autoregression_is_known(rho):
    n = 20_000
    expected = n * (1 - rho) / (1 + rho)
    assert effective_sample_size(autoregressive(n, rho, 1)) == pytest.approx(expected, rel=0.1)


def test_r_hat_tells_chains_that_agree_from_those_that_do_not():
    chains = [autoregressive(2000, 0.5, seed) for seed in range(4)]
    assert r_hat(chains) < 1.01
    assert r_hat([*chains[:3], chains[3] + 3]) > 1.2
    drifting = np.linspace(0, 5, 2000)                       # one chain, halves disagree
    assert r_hat([chains[0] + drifting]) > 1.2


@pytest.mark.parametrize("draws", [[1.0, 2, 3], [1, np.nan, 2, 3], "abcd"])
def test_what_is_no_chain_is_refused(draws):
    with pytest.raises((TypeError, ValueError)):
        effective_sample_size(draws)
    with pytest.raises((TypeError, ValueError)):
        r_hat([draws, draws])
    assert np.isnan(effective_sample_size(np.ones(9)))
    assert np.isnan(r_hat([np.ones(9)]))


def test_a_chain_that_has_not_settled_says_so_and_a_longer_one_says_nothing():
    ratings = tastes()[1]
    with pytest.warns(FitWarning, match=r"has not settled.* raise n_epochs, and burn_in"):
        fitted(ratings, n_epochs=20, burn_in=0, keep=20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted(ratings, n_epochs=200, burn_in=80, keep=60)
        fitted(n_epochs=200, burn_in=80, keep=60)                   # of a few ratings


@pytest.mark.parametrize("n", [8, 12, 20, 60, 125])
def test_chance_is_rarely_taken_for_a_chain_that_has_not_settled(n):
    random = np.random.default_rng(n)
    alarms = np.mean([unsettled(random.normal(size=(2, n))) is not None for _ in range(400)])
    assert alarms < 0.08
    assert unsettled(np.ones((2, n))) is None


@pytest.mark.parametrize("n", [8, 12, 20, 60, 125])
def test_a_number_that_moves_all_along_has_not_settled_on_any_scale(n):
    still, moving = np.random.default_rng(n).normal(size=(2, n))
    moving += np.linspace(0, 8, n)
    r, effective = unsettled([still, moving])
    assert r > 1.4
    assert effective < 10
    assert unsettled([still, np.exp(9 * moving)]) == (r, effective)      # (ranks are the same)


def test_a_chain_that_hardly_moves_is_worth_few_draws_though_its_halves_agree():
    wave = np.sin(np.linspace(0, 4 * np.pi, 60))
    r, effective = unsettled([wave])
    assert r < 1.1
    assert effective < 10
    assert unsettled([wave[::8]]) is None                               # (too short to tell)


def test_a_single_rating_is_no_chain_that_has_not_settled():
    with warnings.catch_warnings():
        warnings.simplefilter("error", FitWarning)
        for seed in range(3):
            BayesianMF(2, random_state=seed).fit(Ratings.from_arrays([0], [0], [3.0]))


def test_the_draws_of_a_score_are_what_its_mean_and_spread_are_of():
    model = fitted()
    draws = model.score_draws([0, 1], [2, 3])
    scores, std = model.predict([0, 1], [2, 3], return_std=True)
    assert draws.shape == (5, 2)
    np.testing.assert_allclose(draws.mean(0), scores)
    np.testing.assert_allclose(draws.std(0, ddof=1), std)


def test_a_trace_has_a_line_for_each_number():
    plots = pytest.importorskip("mfcore.plots")
    pytest.importorskip("matplotlib").use("Agg")
    ax = plots.plot_trace(fitted().score_draws([0, 1], [2, 3]), labels=["a", "b"])
    assert len(ax.lines) == 2
    with pytest.raises(ValueError, match="draws must have shape"):
        plots.plot_trace(np.zeros((2, 2, 2)))


@pytest.mark.parametrize(("kept", "drawn", "compared"), [(8, 8, True), (9, 8, False),
                                                         (7, 7, False)])
def test_halves_of_a_chain_are_compared_if_it_is_whole_and_has_eight_samples(
        kept, drawn, compared, pool, monkeypatch):
    dense, at = random_problem(1)
    hyper, asked = Hyper(guessed_variances(1.0, 3, True), None, np.zeros(0, int)), []
    gibbs = Gibbs(problem_of(dense), hyper, hyper, Gaussian(9, 1.0), frozenset(range(kept)), 0)
    monkeypatch.setattr(Gibbs, "_compare_halves", lambda self: asked.append(len(self.samples)))
    gibbs.samples = [gibbs.sample(at)] * drawn
    gibbs.finish(at, pool)
    assert asked == [drawn] * compared


def test_a_row_without_a_factor_is_drawn_once_more_and_named_by_its_side(pool, monkeypatch):
    dense, at = random_problem(1, learns_bias=True)
    calls = []

    def failing(systems, *rest):
        calls.append(systems)
        if len(calls) < 3:
            raise DivergenceError("the system of row 4 has no finite solution")
        return 0.0

    monkeypatch.setattr("mfcore.solvers.gibbs.solve_exactly", failing)
    hyper = Hyper(guessed_variances(1.0, 3, True), None, np.zeros(0, int))
    gibbs = Gibbs(problem_of(dense), hyper, hyper, Gaussian(9, 1.0), frozenset(), 0)
    with pytest.raises(DivergenceError, match="no finite draw of the items; rescale"):
        gibbs.epoch(at.copy(), pool)
    lift = calls[1].common - calls[0].common
    assert (np.diag(lift) > 0).all()
    assert not (lift - np.diag(np.diag(lift))).any()


def test_a_millionth_of_trace_and_penalty_lifts_rows_without_a_cholesky_factor():
    dense, at = random_problem(5, w0=0.45, learns_bias=True)
    systems = replace(problem_of(dense).user_rows(at), common=np.zeros((4, 4)))
    with Pool(1) as pool:
        more = _lifted(systems, 3, pool) * 1e6
    of_factors = 0.45 * np.sum(at.Q ** 2) + dense.users.reg[0]
    of_bias = 0.45 * len(at.Q) + dense.users.bias_reg[0]
    np.testing.assert_allclose(more, np.diag([of_factors] * 3 + [of_bias]), rtol=1e-6, atol=1e-9)


# ------------------------------------------------------------------------------ noise

def test_noise_is_not_lost_where_many_factors_could_explain_everything():
    random = np.random.default_rng(8)
    users, items = np.nonzero(random.random((150, 60)) < 0.2)
    clicks = Ratings.from_arrays(users, items, (random.random(len(users)) < 0.1).astype(float))
    model = BayesianMF(n_epochs=150, burn_in=50, keep=20, random_state=0).fit(clicks)
    assert np.mean(1 / model.noise_precision_) > 0.3 * clicks.by_user.data.var()


def test_the_guess_of_the_noise_is_in_units_of_the_ratings():
    ratings = tastes()[1]
    one, large = (fitted(Ratings(scale * ratings.by_user)) for scale in (1.0, 10.0))
    np.testing.assert_allclose(100 * large.noise_precision_, one.noise_precision_, rtol=1e-6)


def test_a_killed_chain_remembers_what_it_expects_of_the_noise(tmp_path):
    def stop(model, record):
        if record["epoch"] == 3:
            raise KeyboardInterrupt

    ratings = tastes()[1]
    model = BayesianMF(3, n_epochs=6, burn_in=2, keep=3, random_state=0)
    with pytest.raises(KeyboardInterrupt):
        model.fit(ratings, checkpoint=tmp_path / "c", callbacks=[stop])
    model.fit(ratings, checkpoint=tmp_path / "c")
    straight = BayesianMF(3, n_epochs=6, burn_in=2, keep=3, random_state=0).fit(ratings)
    np.testing.assert_array_equal(model.noise_precision_, straight.noise_precision_)
