"""Effects of periods: what users and items do within a time, next to what they do always."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp

import mfcore
from mfcore import BayesianMF, MatrixFactorization, Popularity, Ratings, evaluate
from mfcore.data.periods import Periods
from mfcore.data.times import Times
from mfcore.objectives.bayesian import NU
from mfcore.objectives.drift import Drifted, Shifting, components, context_of, first_effects
from mfcore.objectives.factors import Factors
from mfcore.objectives.penalty import Penalty, Prior
from mfcore.objectives.quadratic import Cells, Quadratic
from mfcore.parallel import Pool
from mfcore.solvers.drifting import Drifting, LatentDrift, SampledDrift
from mfcore.solvers.gibbs import Noise

DAY = 86_400
FEW = {"n_factors": 4, "random_state": 0, "n_threads": 1}
SHORT = {**FEW, "n_epochs": 8, "burn_in": 2, "keep": 4}
ORDINAL = {"likelihood": "ordinal"}


def planted(drift: float, seed: int = 0, n: tuple[int, int] = (300, 150), nnz: int = 9000
            ) -> tuple[Ratings, Ratings]:
    """Return ratings of ten days, whose users and items drift, and the true scores of others."""
    rng = np.random.default_rng(seed)
    users, items = np.divmod(rng.choice(n[0] * n[1], 2 * nnz, replace=False), n[1])
    times = rng.integers(0, 10 * DAY, len(users))
    d, e = (drift * rng.normal(size=(rows, 10)) for rows in n)
    P, Q = (0.5 * rng.normal(size=(rows, 3)) for rows in n)
    score = np.sum(P[users] * Q[items], axis=1) + d[users, times // DAY] + e[items, times // DAY]
    noisy = score + 0.5 * rng.normal(size=len(users))
    parts = (slice(nnz), noisy), (slice(nnz, None), score)
    train, test = (Ratings.from_arrays(users[part], items[part], values[part],
                                       times=times[part].astype("M8[s]")) for part, values in parts)
    return train, test


def in_levels(ratings: Ratings) -> Ratings:
    """Return the same ratings as five levels, whose distances tell nothing."""
    data = ratings.by_user.data
    levels = np.array([1, 2, 3, 7, 8])[np.digitize(data, np.quantile(data, [0.1, 0.3, 0.6, 0.9]))]
    return Ratings(sp.csr_array((levels, ratings.by_user.indices, ratings.by_user.indptr),
                                ratings.shape), user_ids=ratings.user_ids,
                   item_ids=ratings.item_ids, times=ratings.times)


def error(model: object, test: Ratings) -> float:
    """Return the RMSE of scores against the planted ones, with times where a model knows them."""
    timed = {} if model.periods_ is None else {"times": test.times}
    scores = model.predict(test.user_ids[test.users_of_cells],
                           test.item_ids[test.by_user.indices], **timed)
    return float(np.sqrt(np.mean((scores - test.by_user.data) ** 2)))


@pytest.mark.parametrize(("model", "gain"), [
    (MatrixFactorization(**FEW), 0.05),
    (BayesianMF(**{**FEW, "n_epochs": 60, "burn_in": 20, "keep": 20}), 0.1)],
    ids=["ALS", "Gibbs"])
@pytest.mark.parametrize("drift", [0.0, 0.5])
def test_a_planted_drift_is_found_and_none_does_no_harm(model, gain, drift):
    train, test = planted(drift)
    without = error(model.set_params(user_periods=None, item_periods=None).fit(train), test)
    found = error(model.set_params(user_periods="1D", item_periods="1D").fit(train), test)
    assert found < (1 - gain) * without if drift else found < 1.01 * without


def problem(seed: int = 0) -> tuple[Quadratic, Shifting, Drifted, np.ndarray]:
    """Return a problem with weights, w0 > 0 and two kinds of effects, and its dense cells."""
    rng = np.random.default_rng(seed)
    cells = sp.csr_array(sp.random_array((7, 5), density=0.6, rng=rng))
    turned = sp.csr_array((np.arange(cells.nnz), cells.indices, cells.indptr),
                          shape=(7, 5)).T.tocsr()
    w, t, w0 = rng.uniform(0.3, 2, cells.nnz), rng.normal(size=cells.nnz), 0.1
    line = np.array([1.0, -w0, 1.0, 0.0])
    by_user = Cells(cells.indptr, cells.indices, w, w * t, line)
    order = turned.data
    by_item = Cells(turned.indptr, turned.indices, w[order], (w * t)[order], line)
    priors = [Prior(Penalty(np.ones(n), np.ones(n), np.zeros((1, 3)), np.zeros(1)))
              for n in (7, 5)]
    made = Quadratic(by_user, by_item, *priors, w0, True, float(w @ t ** 2))
    users = np.repeat(np.arange(7), np.diff(cells.indptr))
    periods = rng.integers(0, 3, cells.nnz)
    contexts = [context_of(rows, periods, 3, t, w) for rows in (users, cells.indices)]
    shifting = Shifting(made, contexts)
    at = Drifted(rng.normal(size=(7, 3)), rng.normal(size=(5, 3)), rng.normal(size=7),
                 rng.normal(size=5), drift=rng.normal(size=shifting.size))
    return made, shifting, at, np.column_stack([users, cells.indices, w, t])


def dense(shifting: Shifting, at: Drifted, table: np.ndarray, drift: np.ndarray) -> float:
    """Return the loss of the formula, written out: known cells with effects, unknown without."""
    users, items, w, t = table.T
    users, items, total = users.astype(int), items.astype(int), 0.0
    scores = at.P @ at.Q.T + at.beta[:, None] + at.gamma
    known = np.zeros(scores.shape, bool)
    for cell, (u, i) in enumerate(zip(users, items, strict=True)):
        o = sum(drift[part][context.codes[cell]] for part, context in
                zip(shifting.parts, shifting.contexts, strict=True))
        total += w[cell] * (t[cell] - o - scores[u, i]) ** 2
        known[u, i] = True
    return total + shifting.problem.w0 * float(np.sum(scores[~known] ** 2))


@pytest.mark.kernel
def test_a_shifted_problem_has_the_value_of_the_formula():
    _, shifting, at, table = problem()
    with Pool(1) as pool:
        loss = shifting.at(at.drift).value(at.factors, pool)
    assert loss.known + loss.unknown == pytest.approx(dense(shifting, at, table, at.drift))


@pytest.mark.kernel
def test_effects_are_moved_to_their_minimum_kind_by_kind():
    _, shifting, at, table = problem()
    regs = [0.7, 1.3]
    with Pool(1) as pool:
        shifting.move(at.drift, shifting.scores(at, pool), regs, [np.zeros(0)] * 2)
    last = shifting.parts[1]                # of the kind moved last the gradient is zero
    penalty = regs[1]

    def value(drift):
        return dense(shifting, at, table, drift) + penalty * float(drift[last] @ drift[last])

    for place in range(last.start, last.stop):
        step = np.zeros(len(at.drift))
        step[place] = 1e-4
        assert value(at.drift + step) - value(at.drift - step) == pytest.approx(0, abs=1e-9)


def test_targets_are_drawn_about_scores_with_effects_and_rows_see_them_without():
    made, shifting, at, table = problem()
    users, items = table[:, :2].T.astype(int)
    s = np.sum(at.P[users] * at.Q[items], axis=1) + at.beta[users] + at.gamma[items]
    z, asked, held = np.random.default_rng(1).normal(size=len(s)), [], []

    def drawn(scores, noise, *_, is_exact):
        asked.append(scores)
        return z.copy(), noise

    likelihood = SimpleNamespace(drawn=drawn, after=None,
                                 holding=lambda problem, targets, pool: held.append(targets))
    inner = SimpleNamespace(likelihood=likelihood, seed=3, sweeps_done=2, tau=1.0)
    drifting, before = LatentDrift(inner, shifting), at.drift.copy()
    with Pool(1) as pool:
        drifting._shift(at, pool)
        inner.likelihood.before(made, at.factors, Noise(1.0), None, pool, is_exact=True)
    np.testing.assert_allclose(asked[0], s + shifting.offsets(before))
    np.testing.assert_allclose(held[0], z - shifting.offsets(at.drift))
    assert (at.drift != before).all()


@pytest.mark.kernel
def test_draws_of_effects_have_the_moments_of_their_conditional():
    _, shifting, at, table = problem()
    shifting = Shifting(shifting.problem, shifting.contexts[:1])
    at = replace(at, drift=at.drift[:shifting.size])
    users, items, w, t = table.T
    scores = at.P @ at.Q.T + at.beta[:, None] + at.gamma
    left, codes, tau = t - scores[users.astype(int), items.astype(int)], \
        shifting.contexts[0].codes, 2.5
    weight = np.bincount(codes, w)
    mean = np.bincount(codes, w * left) / (weight + 0.8)
    rng = np.random.default_rng(0)
    draws = []
    with Pool(1) as pool:
        for _ in range(2000):
            shifting.move(at.drift, shifting.scores(at, pool), [0.8],
                          [rng.standard_normal(shifting.size) / np.sqrt(tau)])
            draws.append(at.drift.copy())
    spread = 1 / np.sqrt(tau * (weight + 0.8))
    np.testing.assert_array_less(np.abs(np.mean(draws, axis=0) - mean), 5 * spread / np.sqrt(2000))
    np.testing.assert_allclose(np.std(draws, axis=0), spread, rtol=0.08)


def sampler(shifting: Shifting, sweeps_done: int = 2) -> SampledDrift:
    inner = SimpleNamespace(seed=3, sweeps_done=sweeps_done, tau=2.5, kept_sweeps={3, 5, 9})
    return SampledDrift(inner, shifting)


def test_precisions_of_effects_have_the_mean_of_their_conditional(monkeypatch):
    _, shifting, at, _ = problem()
    asked = []
    monkeypatch.setattr(shifting, "move", lambda drift, s, regs, noise: asked.append(regs))
    drifting, drawn = sampler(shifting), []
    for sweep in range(4000):
        drifting.inner.sweeps_done, drifting.precisions = sweep, np.array([3.0, 0.7])
        drifting.move(at, np.zeros(len(shifting.w)))
        drawn.append(drifting.precisions)
    assert asked[0] == pytest.approx([3.0 / 2.5, 0.7 / 2.5])
    wanted = [(len(each.keys) + NU) / (at.drift[part] @ at.drift[part] + NU * each.variance)
              for each, part in zip(shifting.contexts, shifting.parts, strict=True)]
    np.testing.assert_allclose(np.mean(drawn, axis=0), wanted, rtol=0.03)


def test_the_effects_of_a_sampler_are_the_mean_of_its_kept_sweeps():
    _, shifting, at, _ = problem()
    for done, kept in ((2, 0), (3, 1), (5, 2), (8, 2), (9, 3)):
        drifting = sampler(shifting, done)
        drifting.kept = [np.full(shifting.size, 2.0 * n, np.float32) for n in range(kept)]
        assert set(drifting.effects(at)) == ({kept - 1.0} if kept else
                                             set(at.drift.astype(np.float32)))
        assert len(drifting.draws(at)) == max(kept, 1)


@pytest.mark.parametrize("likelihood", ["gaussian", "ordinal"])
def test_an_error_after_a_sweep_leaves_the_mean_of_the_effects_of_all_kept(likelihood):
    """Whatever a callback raises: the effects are those of a fit of as many sweeps."""
    class LostError(Exception):
        pass

    def lose(model, record):
        if record["epoch"] == 5:
            raise LostError

    train = in_levels(planted(0.5, nnz=2000)[0])
    params = {**SHORT, "likelihood": likelihood, "user_periods": 4}
    whole = BayesianMF(**{**params, "n_epochs": 5, "keep": 3}).fit(train)
    lost = BayesianMF(**{**params, "n_epochs": 5, "keep": 3})
    with pytest.raises(LostError):
        lost.fit(train, callbacks=[lose])
    np.testing.assert_array_equal(lost.user_drift_, whole.user_drift_)


def test_effects_stay_in_the_first_epoch_and_add_nothing_to_its_loss():
    _, shifting, at, _ = problem()
    inner = SimpleNamespace(epoch=lambda at, pool: 7.0, begin=lambda at, pool: None)
    drifting, before = Drifting(inner, shifting), at.drift.copy()
    with Pool(1) as pool:
        drifting.begin(at, pool)
        assert drifting.epoch(at, pool) == 7.0
        np.testing.assert_array_equal(at.drift, before)
        regs = [each.reg for each in shifting.contexts]
        assert drifting.epoch(at, pool) == pytest.approx(7.0 + sum(
            reg * at.drift[part] @ at.drift[part]
            for reg, part in zip(regs, shifting.parts, strict=True)))


def test_the_periods_of_a_row_are_compared_with_each_other():
    rng = np.random.default_rng(0)
    rows, periods, y, w = rng.integers(0, 9, 200), rng.integers(0, 4, 200), *rng.random((2, 200))
    keys, codes = np.unique(4 * rows + periods, return_inverse=True)
    found = context_of(rows, periods, 4, y, w)
    assert (found.noise, found.variance) == components(y, keys // 4, codes, w)
    np.testing.assert_array_equal(found.keys, keys)


def test_first_effects_of_items_are_found_in_what_those_of_users_leave():
    _, shifting, _, table = problem()
    w, y = table[:, 2], table[:, 3]
    one, other = shifting.contexts
    found = first_effects(shifting.contexts, y, w)
    d = np.bincount(one.codes, w * y) / (np.bincount(one.codes, w) + one.reg)
    left = y - d[one.codes]
    e = np.bincount(other.codes, w * left) / (np.bincount(other.codes, w) + other.reg)
    np.testing.assert_allclose(found, np.append(d, e))


@pytest.mark.parametrize("weighted", [False, True])
def test_components_of_variance_are_those_planted(weighted):
    """A rating of weight w has the noise of w equal ones; one without weight may be anything."""
    rng = np.random.default_rng(0)
    owners = np.repeat(np.arange(400), 5)
    codes = rng.integers(0, 2000, 30_000)
    w = rng.choice([0.0, 0.5, 1.0, 3.0], len(codes)) if weighted else np.ones(len(codes))
    y = rng.normal(size=400)[owners[codes]] + 0.6 * rng.normal(size=2000)[codes] \
        + 1.5 * rng.normal(size=len(codes)) / np.sqrt(np.where(w > 0, w, 1e-6))
    noise, variance = components(y, owners, codes, w)
    small = components(1e-4 * y, owners, codes, 3 * w)
    assert small == pytest.approx((3e-8 * noise, 1e-8 * variance), rel=1e-9)
    assert noise == pytest.approx(1.5 ** 2, rel=0.03)
    assert variance == pytest.approx(0.6 ** 2, rel=0.1)


def test_components_of_variance_do_without_effects_and_rows_of_no_weight():
    """They may have been given ratings of weight 0 alone; and weights below 1 are weights."""
    rng = np.random.default_rng(1)
    owners, codes = np.repeat(np.arange(40), 3), rng.integers(0, 120, 900)
    y, w = rng.normal(size=900) + rng.normal(size=120)[codes], rng.uniform(0.1, 0.6, 900)
    w[(codes == 7) | (owners[codes] == 5)] = 0                      # (an effect, and a whole row)
    kept = w > 0
    places = np.cumsum(np.isin(np.arange(120), codes[kept])) - 1
    wanted = components(y[kept], owners[np.unique(codes[kept])], places[codes[kept]], w[kept])
    found = components(y, owners, codes, w)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    np.testing.assert_allclose(components(y, owners, codes, 1e-3 * w), (1e-3 * found[0], found[1]))


@pytest.mark.parametrize("codes", [np.arange(5), np.zeros(5, int)], ids=["alone", "one"])
def test_periods_that_tell_nothing_have_effects_near_zero(codes):
    noise, variance = components(np.arange(5.0), np.zeros(codes.max() + 1, int), codes, np.ones(5))
    assert 0 < variance < 1e-5 * noise


@pytest.mark.parametrize("periods", [5, "3D"])
def test_ratings_without_weight_say_nothing_of_periods_and_their_effects(periods):
    train, _ = planted(0.5, nnz=3000)
    silent = np.random.default_rng(1).random(train.nnz) < 0.3
    cells, times = train.by_user, train.times.copy()
    times[silent] += np.timedelta64(40, "D")
    loud = sp.csr_array((cells.data + 9 * silent, cells.indices, cells.indptr), cells.shape)
    given = Ratings(loud, weights=1.0 * ~silent, times=times)
    rest = given.select_cells(~silent)
    one, other = (MatrixFactorization(**FEW, reg=0.1, bias_reg=0.1, n_epochs=3, dtype="float64",
                                      user_periods=periods, item_periods=periods).fit(each)
                  for each in (given, rest))
    pairs = rest.users_of_cells, rest.by_user.indices
    np.testing.assert_allclose(one.predict(*pairs, times=rest.times),
                               other.predict(*pairs, times=rest.times), rtol=1e-8)


def test_a_drift_of_levels_is_found_and_none_does_no_harm():
    for drift, gain in ((0.0, -0.02), (0.5, 0.05)):
        train, test = planted(drift)
        pairs, agreement = (test.user_ids[test.users_of_cells],
                            test.item_ids[test.by_user.indices]), []
        for periods in ({}, {"user_periods": "1D", "item_periods": "1D"}):
            model = BayesianMF(**{**FEW, **ORDINAL, "n_epochs": 60, "burn_in": 20, "keep": 20},
                               **periods).fit(in_levels(train))
            found = model.predict(*pairs, times=test.times if periods else None)
            agreement.append(np.corrcoef(found, test.by_user.data)[0, 1])
        assert agreement[1] - agreement[0] > gain


@pytest.mark.parametrize("make", [
    lambda: MatrixFactorization(**FEW, n_epochs=8), lambda: BayesianMF(**SHORT),
    lambda: BayesianMF(**SHORT, **ORDINAL),
    lambda: BayesianMF(**{**SHORT, "n_factors": 20}, **ORDINAL, solver="subspace", block_size=16)],
    ids=["ALS", "Gibbs", "levels", "blocks"])
def test_a_fit_goes_on_to_the_same_bits_on_any_number_of_threads(make, tmp_path):
    train = in_levels(planted(0.5)[0])
    whole = make().set_params(user_periods="1D", item_periods=5)
    wanted = whole.fit(train)
    path = tmp_path / "checkpoint"

    stopped = make().set_params(user_periods="1D", item_periods=5, n_threads=8)
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(train, checkpoint=path, callbacks=[
            lambda model, record: (_ for _ in ()).throw(KeyboardInterrupt)
            if record["epoch"] == 6 else False])
    found = make().set_params(user_periods="1D", item_periods=5, n_threads=2).fit(
        train, checkpoint=path)
    for name in ("user_factors_", "item_factors_", "user_bias_", "user_drift_", "item_drift_",
                 *(["cut_points_"] if isinstance(wanted, BayesianMF) else [])):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))


@pytest.fixture(scope="module")
def fitted() -> BayesianMF:
    return BayesianMF(**SHORT, user_periods="1D", item_periods=5).fit(planted(0.5)[0])


@pytest.fixture(scope="module")
def leveled() -> BayesianMF:
    return BayesianMF(**SHORT, **ORDINAL, user_periods="1D", item_periods=5).fit(
        in_levels(planted(0.5)[0]))


def test_spreads_at_a_moment_are_those_of_scores_with_effects_in_each_sample(fitted):
    """Not two spreads added up: a bias and effects of the same user make up for each other."""
    ratings, some = fitted.ratings_, np.arange(0, fitted.ratings_.nnz, 40)
    rows, columns = ratings.users_of_cells[some], ratings.by_user.indices[some]
    users, items = ratings.user_ids[rows], ratings.item_ids[columns]
    draws = fitted.score_draws(users, items)
    for side, of, table in (("user", rows, fitted.user_drift_), ("item", columns,
                                                                fitted.item_drift_)):
        period = Periods(**fitted.periods_[side]).of(ratings.moments.numbers[some])
        effects = {tuple(line[:2].astype(int)): line[3:] for line in table}
        draws = draws + np.array([effects[pair] for pair in zip(of, period, strict=True)]).T
    scores, std = fitted.predict(users, items, times=ratings.times[some], return_std=True)
    np.testing.assert_allclose(scores, draws.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(std, draws.std(axis=0, ddof=1), atol=1e-5)
    low, high = fitted.predict_interval(users, items, times=ratings.times[some])
    np.testing.assert_allclose((low + high) / 2, scores, atol=1e-6)
    stranger = fitted.predict([-1], items[:1], times=ratings.times[:1], return_std=True,
                              unknown="ignore")
    assert stranger[1] > 0


def test_unknown_moments_users_and_items_fall_back_on_the_row(fitted):
    user, item = fitted.user_ids_[3], fitted.item_ids_[4]
    base = fitted.predict([user], [item])
    far = np.datetime64("2030-01-01")
    by_item = fitted.predict([user], [item], times=far) - base      # (the last period is open)
    table = fitted.item_drift_
    rows = table[(table[:, 0] == 4) & (table[:, 1] == 4)]
    assert by_item == pytest.approx(rows[0, 2] if len(rows) else 0.0)
    stranger = fitted.predict(["nobody"], [item], unknown="ignore", times=far) \
        if fitted.user_ids_.dtype == object else fitted.predict([10**6], [item], times=far)
    assert np.isfinite(stranger).all()


@pytest.mark.parametrize("kind", ["fitted", "leveled"])
def test_lists_have_the_scores_that_pairs_have(kind, request):
    fitted = request.getfixturevalue(kind)
    users = fitted.user_ids_[:6]
    times = (np.arange(6) * DAY * 2).astype("M8[s]")
    items, scores = fitted.recommend(users, 4, times=times)
    for user, moment, listed, score in zip(users, times, items, scores, strict=True):
        np.testing.assert_allclose(score, fitted.predict(user, listed, times=moment), rtol=1e-5)
        others = fitted.predict(user, fitted.item_ids_, times=moment)
        seen = fitted.ratings_.cells_of(fitted.ratings_.known_users([user])).indices
        assert score[-1] >= np.delete(others, seen)[
            ~np.isin(np.delete(fitted.item_ids_, seen), listed)].max() - 1e-5
    alone = fitted.recommend(users[2], 4, times=times[2])
    np.testing.assert_array_equal(alone[0][0], items[2])


@pytest.mark.parametrize("given", [lambda days: days, lambda days: days.tolist()],
                         ids=["array", "list"])
def test_lists_of_users_at_moments_of_their_own_are_written_in_chunks(fitted, given, tmp_path,
                                                                      monkeypatch):
    monkeypatch.setattr("mfcore.models.answering.lists_out.MOST_ROWS", 7)
    path = tmp_path / "lists.npy"
    days = (np.arange(len(fitted.user_ids_)) % 10 * DAY).astype("M8[s]")
    items, scores = fitted.recommend(k=3, times=days)
    fitted.recommend_to(path, 3, times=given(days))
    found = np.load(path)
    np.testing.assert_array_equal(found["item"], items.ravel())
    np.testing.assert_array_equal(found["score"], scores.ravel())
    with pytest.raises(ValueError, match=r"times must have a row per user, 300, got 299"):
        fitted.recommend_to(path, 3, times=given(days[1:]))


def test_one_moment_is_one_in_any_container(fitted):
    pair, moment = (fitted.user_ids_[:1], fitted.item_ids_[:1]), np.datetime64(3 * DAY, "s")
    wanted = fitted.predict(*pair, times=moment)
    np.testing.assert_array_equal(fitted.predict(*pair, times=np.array(moment)), wanted)
    assert fitted.predict([], [], times=[]).shape == (0,)


@pytest.mark.parametrize("part", ["training", "evaluation"])
def test_a_checkpoint_of_ratings_of_other_days_is_refused(part, tmp_path):
    train, test = (each.select_users(range(100)) for each in planted(0.5))
    test = Ratings(test.by_user, item_ids=test.item_ids, user_ids=test.user_ids, times=test.times)
    model = MatrixFactorization(**FEW, n_epochs=6, user_periods="1D")

    def stop(_, record):
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    def later(ratings):
        return Ratings(ratings.by_user, user_ids=ratings.user_ids, item_ids=ratings.item_ids,
                       times=ratings.times + DAY)

    with pytest.raises(KeyboardInterrupt):
        model.fit(train, eval_set=test, checkpoint=tmp_path / "c", callbacks=[stop])
    given = (later(train), test) if part == "training" else (train, later(test))
    with pytest.raises(ValueError, match="checksum of"):
        model.fit(given[0], eval_set=given[1], checkpoint=tmp_path / "c")


def test_levels_in_time_are_expected_by_their_probabilities(leveled):
    pairs, when = (leveled.user_ids_[:9], leveled.item_ids_[:9]), np.datetime64(3 * DAY, "s")
    p = leveled.predict_proba(*pairs, times=when)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    np.testing.assert_allclose(p @ leveled.levels_, leveled.predict(*pairs, times=when), atol=1e-4)
    assert np.abs(p - leveled.predict_proba(*pairs)).max() > 0.01


def test_known_rows_of_levels_are_folded_in_without_the_effects_of_items():
    train = in_levels(planted(1.0)[0])
    model = BayesianMF(**{**SHORT, "n_epochs": 40, "burn_in": 20, "keep": 20}, **ORDINAL,
                       item_periods="1D").fit(train)
    users, items = (each.ravel()[:4000] for each in np.indices(train.shape))
    trained = model.predict(model.user_ids_[users], model.item_ids_[items])
    dated = Ratings(train.by_user, item_ids=train.item_ids, times=train.times)
    undated = Ratings(train.by_user, item_ids=train.item_ids)
    away = [np.mean((model.predict(users, model.item_ids_[items], ratings=given) - trained) ** 2)
            for given in (dated, undated)]
    assert away[0] < 0.8 * away[1]


def test_new_users_are_solved_without_the_effects_of_items():
    train, test = planted(0.8)
    model = MatrixFactorization(**FEW, item_periods="1D", n_epochs=5).fit(train)
    shown, asked = test.select_users(range(60)), planted(0.8)[1].select_users(range(60))
    undated = Ratings(shown.by_user, item_ids=shown.item_ids)
    dated = Ratings(shown.by_user, item_ids=shown.item_ids, times=shown.times)
    pairs = asked.users_of_cells, asked.item_ids[asked.by_user.indices]
    errors = [np.mean((model.predict(*pairs, ratings=given, times=asked.times)
                       - asked.by_user.data) ** 2) for given in (undated, dated)]
    assert errors[1] < errors[0]


@pytest.mark.parametrize("made", [
    lambda: MatrixFactorization(**FEW, n_epochs=12),
    lambda: BayesianMF(**{**FEW, "n_epochs": 60, "burn_in": 30, "keep": 30})], ids=["ALS", "Gibbs"])
def test_rows_are_solved_again_without_effects_of_their_own_and_go_with_them(made):
    train, test = planted(1.0)
    model = made().set_params(user_periods="1D", item_periods=5).fit(train)
    X, truth = test.pairs()
    before = model.predict(X[:, 0], X[:, 1], times=test.times)
    errors = [np.sqrt(np.mean((each - truth) ** 2)) for each in (before, copy(model).update(
        rows="all").predict(X[:, 0], X[:, 1], times=test.times))]
    assert errors[1] < 1.02 * errors[0]
    grown = copy(model).update(Ratings.from_arrays([900, 900, 3], [4, 900, 900], [1.0, 2, 3],
                                                   times=np.full(3, DAY).astype("M8[s]")))
    assert np.isfinite(grown.predict([900, 3], [900, 4], times=np.datetime64(DAY, "s"))).all()
    stay = (X[:, 0] != model.user_ids_[0]) & (X[:, 1] != model.item_ids_[2])
    pairs, when = X[stay], test.times[stay]
    left = copy(model).forget(users=model.user_ids_[:1])
    np.testing.assert_array_equal(left.predict(*pairs.T, times=when), before[stay])
    left.forget(items=left.item_ids_[[2]])
    effects, kept = (each.predict(*pairs.T, times=when) - each.predict(*pairs.T)
                     for each in (model, left))
    np.testing.assert_allclose(kept, effects, atol=1e-5)


def test_times_of_another_kind_are_refused_before_any_work():
    train, test = planted(0.5)
    model, seen = MatrixFactorization(**FEW, n_epochs=2, user_periods="1D"), []
    other = Ratings(test.by_user, user_ids=test.user_ids, item_ids=test.item_ids,
                    times=np.arange(test.nnz))
    with pytest.raises(TypeError, match="times"):
        model.fit(train, eval_set=other, callbacks=[lambda *record: seen.append(record)])
    assert not seen
    assert not hasattr(model, "ratings_")


def test_times_that_an_update_would_lose_are_told():
    model = MatrixFactorization(**FEW, n_epochs=1).fit(TRAIN)
    with pytest.warns(UserWarning, match="those of the fit are forgotten"):
        model.update(Ratings.from_arrays([0], [0], [1.0]))
    assert model.ratings_.times is None


def test_a_model_file_keeps_the_effects(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    loaded = mfcore.load(tmp_path / "model")
    pairs, when = (fitted.user_ids_[:9], fitted.item_ids_[:9]), np.datetime64(3 * DAY, "s")
    np.testing.assert_array_equal(loaded.predict(*pairs, times=when),
                                  fitted.predict(*pairs, times=when))


def test_measures_ask_with_the_times_of_the_test_set(fitted):
    test = planted(0.5)[1]
    bare = Ratings(test.by_user, user_ids=test.user_ids, item_ids=test.item_ids)
    dated, undated = (evaluate(fitted, part, metrics="rmse")["rmse"] for part in (test, bare))
    assert dated < undated
    history = BayesianMF(**SHORT, user_periods="1D", item_periods=5).fit(
        planted(0.5)[0], eval_set=test).history_
    assert history[-1]["rmse"] == pytest.approx(dated)


@pytest.mark.parametrize(("given", "count", "numbers"), [
    (3, 3, [0, 0, 1, 1, 2, 2]), (1, 1, [0] * 6), (100, 6, [0, 1, 2, 3, 4, 5]),
    ("1D", 6, [0, 1, 2, 3, 4, 5]), ("2D", 3, [0, 0, 1, 1, 2, 2]), ("1W", 1, [0] * 6)])
def test_time_is_cut_into_periods(given, count, numbers):
    times = Times.of("times", np.arange(6).astype("M8[D]"))
    periods = Periods.cut(given, times)
    assert (periods.count, periods.of(times.numbers).tolist()) == (count, numbers)


def test_moments_outside_belong_to_the_open_periods_and_to_none_of_a_stated_length():
    times = Times.of("times", np.arange(6).astype("M8[D]"))
    outside = np.array([-9, 9]) * DAY
    assert Periods.cut(3, times).of(outside).tolist() == [0, 2]
    assert Periods.cut("1D", times).of(outside).tolist() == [-1, -1]


def test_a_period_without_ratings_leaves_the_row():
    times = np.array([0, 0, 5 * DAY, 5 * DAY]).astype("M8[s]")
    train = Ratings(sp.csr_array(np.array([[1.0, 5], [4, 2]])), times=times)
    model = MatrixFactorization(1, n_epochs=2, user_periods="1D", n_threads=1).fit(train)
    assert model.predict([0], [0], times=np.datetime64(2 * DAY, "s")) == model.predict([0], [0])


TRAIN = planted(0.5)[0]
BARE = Ratings(TRAIN.by_user)


@pytest.mark.parametrize(("model", "ratings", "error", "message"), [
    (MatrixFactorization(user_periods="1D"), BARE, ValueError, "the ratings have no times"),
    (MatrixFactorization(user_periods="0.000001s"), TRAIN, ValueError,
     "periods of '0.000001s' would be .* between the first rating and the last"),
    (BayesianMF(item_periods=0), TRAIN, ValueError, "item_periods must be in"),
    (BayesianMF(item_periods="soon"), TRAIN, ValueError, "item_periods must be a length of time"),
    (BayesianMF(user_periods=2.5), TRAIN, TypeError, "user_periods must be an integer"),
    (MatrixFactorization(user_periods=3, solver="sgd"), TRAIN, ValueError,
     "user_periods and item_periods need solver 'cg' or 'cholesky' or 'subspace', got 'sgd'"),
    (Popularity(half_life="30D"), BARE, ValueError, "the ratings have no times"),
    (Popularity(half_life=-1), TRAIN, ValueError, "half_life must be finite and > 0")])
def test_periods_that_cannot_be_are_refused(model, ratings, error, message):
    with pytest.raises(error, match=message):
        model.fit(ratings)


@pytest.mark.parametrize("periods", [{"user_periods": "1D"}, {"item_periods": 3}])
def test_moments_in_another_unit_than_those_of_the_fit_are_refused(periods):
    unix = Ratings(TRAIN.by_user, times=TRAIN.moments.numbers + 1_600_000_000)
    model = MatrixFactorization(1, n_epochs=1, n_threads=1, **periods).fit(unix)
    for times in (1_600_000_000_000, [1_600_000_000_000]):
        with pytest.raises(ValueError, match="one unit, got Unix times in s and in ms"):
            model.predict([0], [0], times=times)


@pytest.mark.parametrize(("ask", "error", "message"), [
    (lambda m: m.predict([0, 1], [0, 1], times=DAYS3), ValueError, r"times must have shape \(2,\)"),
    (lambda m: m.predict([0], [0], times=5), TypeError, "times must be a date or time"),
    (lambda m: m.predict([0], [0], times=[float("nan")]), ValueError, "times must be finite"),
    (lambda m: m.recommend([0], times="yesterday"), TypeError, "times must be a date or time"),
    (lambda m: m.recommend([0], times="1970-01-02", similarity="cosine"), ValueError, "cosine"),
    (lambda m: m.recommend([0], times="1970-01-02", optimism=1.0), ValueError, "optimism"),
    (lambda m: m.objective(), NotImplementedError, "quadratic formula"),
    (lambda m: m.update(Ratings.from_arrays([0], [0], [1.0])), ValueError, "have no times, and"),
    (lambda m: MatrixFactorization(2, n_epochs=1).fit(BARE).predict([0], [0], times=0), ValueError,
     "times must be None: this MatrixFactorization has learned nothing of time")])
def test_times_that_cannot_be_asked_are_refused(fitted, ask, error, message):
    with pytest.raises(error, match=message):
        ask(fitted)


DAYS3 = np.arange(3).astype("M8[D]")


@pytest.mark.parametrize("half_life", ["1D", DAY / 1.0])
def test_what_is_popular_lately_differs_from_what_is_popular(half_life):
    old, new = np.zeros(5, int), np.full(3, 4 * DAY)
    ratings = Ratings.from_arrays(np.arange(8), np.r_[old, new > 0], times=np.r_[old, new])
    assert Popularity().fit(ratings).recommend([0], 1, exclude_seen=False)[0][0, 0] == 0
    model = Popularity(half_life=half_life).fit(ratings)
    assert model.recommend([0], 1, exclude_seen=False)[0][0, 0] == 1
    np.testing.assert_allclose(model.item_bias_, [5 / 16, 3])


def test_effects_of_factors_copied_stay_effects():
    at = problem()[2]
    copied = at.copy()
    assert type(copied) is Drifted
    assert type(at.factors) is Factors
    assert not np.shares_memory(copied.drift, at.drift)
