"""Penalties that the data choose: found before a fit, in its units, and near the best."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import naive
import numpy as np
import pytest
import scipy.sparse as sp

from mfcore import BiasOnly, ImplicitMF, MatrixFactorization, Ratings, evaluate, load
from mfcore.data.split import random_split
from mfcore.objectives.factors import Factors
from mfcore.objectives.quadratic import Cells, Quadratic
from mfcore.parallel import Pool
from mfcore.solvers import als, automatic
from mfcore.solvers.automatic import Trial, ranked

AUTO = {"reg": "auto", "bias_reg": "auto", "random_state": 0}
COUNTED = {"reg": "auto", "alpha": 4.0, "rating_scale": None, "random_state": 0}


def rated(noise, seed=0, n_users=300, n_items=120, share=0.2, rank=3):
    """Return ratings of biases, a few factors, and normal noise."""
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal((n_users, rank)) @ rng.standard_normal((rank, n_items)) \
        + rng.standard_normal((n_users, 1)) + rng.standard_normal(n_items)
    users, items = np.nonzero(rng.random((n_users, n_items)) < share)
    return Ratings.from_arrays(users, items,
                               truth[users, items] + noise * rng.standard_normal(len(users)))


def groups_that_buy_apart(seed=0, n_groups=20, size=100, share=0.05):
    """Return purchases of groups of users, each among items of its own, none a best-seller."""
    rng = np.random.default_rng(seed)
    n = n_groups * size
    users = np.repeat(np.arange(n), round(share * size))
    items = users // size * size + rng.integers(0, size, len(users))
    return Ratings.from_arrays(users, items, duplicates="sum")


def error(model, train, test):
    return evaluate(model.fit(train), test, metrics="rmse")["rmse"]


@pytest.mark.parametrize("noise", [0.3, 1.0, 4.0])
def test_what_is_found_is_near_the_best_of_a_grid(noise):
    train, test = random_split(rated(noise), 0.2, 0, keep=1)
    found = error(MatrixFactorization(**AUTO), train, test)
    grid = [error(MatrixFactorization(reg=reg, bias_reg=2.0, random_state=0), train, test)
            for reg in 10.0 ** np.arange(-2, 2.1, 0.5)]
    assert found <= 1.03 * min(grid)
    assert found <= 1.01 * error(BiasOnly(), train, test)


def test_ratings_with_next_to_no_noise_are_left_their_signal():
    train, test = random_split(rated(0.02), 0.2, 0, keep=1)
    given = MatrixFactorization(**AUTO)
    found = error(given, train, test)
    weaker = MatrixFactorization(reg=0.5 * given.reg_, bias_reg=given.bias_reg_[0], random_state=0)
    assert found < 1.1 * error(weaker, train, test)


def test_noise_asks_for_more():
    found = [MatrixFactorization(**AUTO).fit(rated(noise)).reg_ for noise in (0.3, 1.0, 4.0)]
    assert found == sorted(found)


@pytest.mark.parametrize(("c", "d"), [(10.0, 3.0), (0.01, -7.0)])
def test_it_does_not_depend_on_scale_and_shift(c, d):
    ratings = rated(1.0)
    moved = Ratings.from_arrays(ratings.users_of_cells, ratings.by_user.indices,
                                c * ratings.by_user.data + d)
    one, other = (MatrixFactorization(**AUTO, dtype="float64").fit(each)
                  for each in (ratings, moved))
    assert other.reg_ == pytest.approx(one.reg_, rel=1e-4)
    np.testing.assert_allclose(other.bias_reg_, one.bias_reg_, rtol=1e-4)


@pytest.mark.parametrize("bias", ["learned", "mean"])
@pytest.mark.parametrize("size", [1e-6, 1e4])
def test_it_goes_with_the_size_of_weights(bias, size):
    ratings = rated(1.0)
    w = np.random.default_rng(1).uniform(0, 2, ratings.nnz)
    users, items = ratings.users_of_cells, ratings.by_user.indices
    one, other = (MatrixFactorization(**AUTO, bias=bias, dtype="float64").fit(
        Ratings.from_arrays(users, items, ratings.by_user.data, c * w)) for c in (1.0, size))
    assert other.reg_ == pytest.approx(size * one.reg_, rel=1e-6)
    np.testing.assert_allclose(other.predict(users, items), one.predict(users, items), atol=1e-6)


@pytest.mark.parametrize("model", [MatrixFactorization(**AUTO), ImplicitMF(**COUNTED)], ids=str)
def test_it_is_the_same_for_any_number_of_threads_and_goes_with_the_file(model, tmp_path):
    ratings = groups_that_buy_apart()
    found = [type(model)(**{**model.get_params(), "n_threads": n}).fit(ratings).reg_
             for n in (1, 2, 8)]
    assert len(set(found)) == 1
    fitted = model.fit(ratings)
    fitted.save(tmp_path / "model")
    assert load(tmp_path / "model").reg_ == fitted.reg_ == found[0]
    assert model.reg == "auto"


def test_purchases_without_best_sellers_leave_vectors_that_say_something():
    ratings = groups_that_buy_apart()
    train, test = random_split(ratings, 0.2, 0, keep=1)
    model = ImplicitMF(**COUNTED).fit(train)
    assert np.abs(model.user_factors_).max() > 0.01
    assert evaluate(model, test, metrics="recall@20")["recall@20"] > 0.12     # (by chance .01)


@pytest.mark.parametrize("given", [
    Ratings.from_arrays([0, 0, 0], [0, 1, 2], [1.0, 2.0, 5.0]),                     # one user
    Ratings.from_arrays([0, 0, 1], [0, 1, 1], [3.0, 3.0, 3.0]),                     # constant
    Ratings.from_arrays(np.repeat(range(5), 4), np.tile(range(4), 5),
                        np.arange(20.0) % 5 + 1),                                   # all known
    Ratings.from_arrays([0], [0], [2.0])], ids=["one user", "constant", "all known", "one"])
@pytest.mark.parametrize("model", [MatrixFactorization(**AUTO), ImplicitMF(**COUNTED),
                                   MatrixFactorization(**AUTO, unknown_weight=0.1)], ids=str)
def test_there_is_always_a_penalty(model, given):
    model.fit(given)
    assert 0 < model.reg_ < np.inf
    assert np.isfinite(model.predict([0], [0])).all()


def test_a_place_that_no_item_takes_is_no_hit():
    """The user before holds out the last item, whose number is that of no item here."""
    def cells(indptr, indices):
        ones = np.ones(len(indices))
        return Cells(np.array(indptr), np.array(indices), ones, ones, np.array([1.0, 0, 1, 0]))

    at = Factors(np.ones((2, 1)), np.ones((3, 1)), np.zeros(2), np.array([0.0, 1.0, 2.0]))
    known = SimpleNamespace(by_user=cells([0, 1, 3], [0, 1, 2]))
    with Pool(1) as pool:
        values = ranked(Trial(known, cells([0, 1, 2], [2, 0]), at, 2), np.arange(2), pool)
    np.testing.assert_allclose(values, 1)


@pytest.mark.parametrize(("r", "w"), [(0.0, None), (3.0, np.zeros(20))], ids=["zeros", "no weight"])
def test_there_is_one_where_known_cells_ask_for_nothing(r, w):
    given = Ratings.from_arrays(np.repeat(range(5), 4), np.arange(20) % 7, np.full(20, r), w)
    model = MatrixFactorization(**AUTO, unknown_weight=0.1).fit(given)
    assert 0.01 < model.reg_ < 100


# ------------------------------------------------------------------------- the formulas

def weighed(n_users=40, n_items=30, least=0.0, **options):
    """A problem of weighted cells, each with g = √(its row's cells of some weight), and a point."""
    dense, at = naive.random_problem(3, n_users, n_items, 4, weighted=True, **options)
    dense = replace(dense, w=np.maximum(dense.w, least))
    told = dense.stored & (dense.w > 0)
    users, items = (replace(side, reg=np.sqrt(np.maximum(told.sum(axis), 1)))
                    for axis, side in ((1, dense.users), (0, dense.items)))
    return naive.problem(replace(dense, users=users, items=items)), at


@pytest.mark.parametrize(("n_users", "n_items"), [(40, 40), (90, 10)])
@pytest.mark.parametrize("density", [1.0, 0.3])
def test_the_norm_of_noise_depends_on_the_shape_and_not_on_the_density(n_users, n_items, density):
    problem, _ = weighed(n_users, n_items, least=0.1, density=density)
    wanted = (n_items / n_users) ** 0.25 + (n_users / n_items) ** 0.25
    assert automatic.noise_norm(problem) == pytest.approx(wanted, rel=1e-9 if density == 1 else 0.1)


@pytest.mark.parametrize("share", [1.0, 0.999, 0.98, 0.5, 0.1])
@pytest.mark.parametrize("learns_bias", [False, True])
def test_the_penalty_goes_with_the_error_and_with_what_vectors_explain(share, learns_bias,
                                                                     monkeypatch):
    problem, at = weighed(learns_bias=learns_bias)

    def error(trial, start, pool):
        assert not start.P.any()
        assert not start.Q.any()
        return 3.0

    monkeypatch.setattr(automatic, "_error", error)
    monkeypatch.setattr(automatic, "_settled", lambda *_: share * 3.0)
    monkeypatch.setattr(automatic, "_bias_regs", lambda trial: (5.0, 7.0))
    found = automatic._of_errors(problem, at, 0, None)
    c = {1.0: 1.0, 0.999: 0.7 + 0.3 * np.exp(-0.1), 0.98: 0.7 + 0.3 * np.exp(-2),
         0.5: 0.7 - 0.9 / 7, 0.1: 0.4}[share]
    assert found.reg == pytest.approx(c * np.sqrt(3 * share) * automatic.noise_norm(problem))
    wanted = (5.0, 7.0) if learns_bias else (1.0, 1.0)
    assert found.bias_reg == pytest.approx([share * each for each in wanted])


def test_where_too_little_is_held_out_the_penalty_has_the_unit_of_ratings_and_weights():
    problem, at = weighed(5, 4)
    problem = replace(problem, unit=1.7)
    w = problem.by_user.a
    weight = w.sum() / np.count_nonzero(w)
    assert weight != pytest.approx(1)
    with Pool(1) as pool:
        found = automatic._of_errors(problem, at, 0, pool)
    assert found.reg == pytest.approx(0.7 * weight * 1.7 * automatic.noise_norm(problem))
    assert found.bias_reg == pytest.approx((4 * weight, 4 * weight))


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_labels_ask_for_half_of_what_squares_do_and_for_biases_by_the_slope(share, monkeypatch):
    log_odds = np.log(share / (1 - share))
    problem, at = weighed(learns_bias=True)
    users = replace(problem.users, penalty=replace(problem.users.penalty,
                                                   bias_means=np.array([log_odds])))
    at.beta[:] = log_odds

    def squares(given, start, seed, pool):
        assert given.unit == pytest.approx(np.sqrt(share * (1 - share)))
        np.testing.assert_allclose(given.users.penalty.bias_means, share)
        np.testing.assert_allclose(start.beta, share)
        return automatic.Found(3.0, (2.0, 6.0))

    monkeypatch.setattr(automatic, "_of_errors", squares)
    found = automatic.found_for_labels(replace(problem, users=users), at, 0, None)
    assert found.reg == 1.5
    assert found.bias_reg == pytest.approx(np.multiply(share * (1 - share) / 2, (2.0, 6.0)))


def test_labels_with_weight_on_the_unknown_ask_for_half_of_the_errors_of_a_constant():
    problem, at = weighed(w0=0.4, learns_bias=True)
    with Pool(1) as pool:
        found = automatic.found_for_labels(problem, at, 0, pool)
    cells = problem.by_user
    w = cells.a + 0.4
    s = np.repeat(at.beta, np.diff(cells.indptr)) + at.gamma[cells.indices]
    e = w / (1 + np.exp(-s)) - cells.b
    assert found.reg == pytest.approx(
        0.35 * np.sqrt(e @ e / np.count_nonzero(w)) * automatic.noise_norm(problem))
    assert found.bias_reg == pytest.approx((w.sum() / np.count_nonzero(w),) * 2)


def test_biases_of_a_fit_to_ranks_have_twice_the_mean_weight(monkeypatch):
    problem, at = weighed(w0=0.4, learns_bias=True)
    monkeypatch.setattr(automatic, "_of_ranks", lambda *_: 3.0)
    w = problem.by_user.a + 0.4
    weight = w.sum() / np.count_nonzero(w)
    assert automatic.found_penalties(problem, at, 0, None) == (3.0, (2 * weight, 2 * weight))


def test_an_error_that_keeps_falling_is_followed_until_it_settles(monkeypatch):
    problem, at = weighed()
    with Pool(1) as pool:
        trial = automatic.trial_of(problem, at, 2, 10**6, 0)
        norm, told, epochs = automatic.noise_norm(trial.known), iter((4.0, 2.0, 1.9)), []

        class Fit:
            def __init__(self, scaled, exact, width):
                now, given = scaled.users.penalty, trial.known.users.penalty
                epochs.append([float(np.mean(now.reg / given.reg)),
                               float(np.mean(now.bias_reg / given.bias_reg)), 0])

            def epoch(self, *_):
                epochs[-1][-1] += 1

        monkeypatch.setattr(automatic, "ALS", Fit)
        monkeypatch.setattr(automatic, "_error", lambda *_: next(told))
        assert automatic._settled(trial, 16.0, (3.0, 1.0), pool) == 1.9
    reg, bias_reg, n = zip(*epochs, strict=True)
    assert n == (3, 2, 2)
    np.testing.assert_allclose(reg, 0.5 * norm * np.sqrt([16.0, 4.0, 2.0]))
    np.testing.assert_allclose(bias_reg, np.multiply(3 / 16, [16.0, 4.0, 2.0]))


def test_the_sample_holds_out_a_tenth_of_whole_users_and_starts_at_their_biases():
    problem, at = weighed(400, 60)
    problem = replace(problem, unit=4.0)
    told = np.diff(np.append(0, np.cumsum(problem.by_user.a > 0))[problem.by_user.indptr])
    n = told.sum()
    trial = automatic.trial_of(problem, at, 3, n / 2, 0)
    counts = [np.diff(cells.indptr) for cells in (trial.known.by_user, trial.held)]
    held, whole = counts[1].sum(), sum(counts).sum()
    assert 0.08 < held / whole < 0.12
    assert whole < 0.6 * n
    assert set(sum(counts).tolist()) <= set(told.tolist())
    assert trial.at.P.std() == pytest.approx(np.sqrt(4.0 / 3), rel=0.1)
    assert not trial.at.Q.any()
    assert set(trial.at.beta) <= set(at.beta)


def test_cells_are_drawn_evenly_and_alike_if_items_come_in_another_order():
    dense, _ = naive.random_problem(3, 200, 50, 2)
    order = np.random.default_rng(0).permutation(50)
    drawn = []
    for columns in (np.arange(50), order):
        problem = naive.problem(replace(dense, R=dense.R[:, columns], w=dense.w[:, columns],
                                        stored=dense.stored[:, columns],
                                        items=dense.items.take(columns)))
        numbers = np.zeros((200, 50))
        numbers[np.nonzero(dense.stored[:, columns])] = automatic._drawn(problem, 5)
        drawn.append(numbers)
    np.testing.assert_array_equal(drawn[0][:, order], drawn[1])
    values = drawn[0][dense.stored]
    assert len(set(values)) == len(values)
    assert automatic._mixed(np.zeros(1, np.uint64)) == [0xE220A8397B1DCDAF]     # SplitMix64 of 0
    np.testing.assert_allclose(np.histogram(values, 5, (0, 1))[0] / len(values), 0.2, atol=0.02)


def test_items_of_the_same_users_are_drawn_apart():
    """By what their users said; those of one item are drawn alike, whoever else there is."""
    dense, _ = naive.random_problem(3, 50, 3, 2)
    drawn = automatic._drawn(naive.problem(replace(dense, stored=np.ones((50, 3), bool))), 5)
    assert len(set(drawn)) == 150


def test_a_start_of_no_signal_is_penalised_in_the_unit_of_ratings_and_of_weights():
    problem, at = weighed(w0=0.4)
    silent = replace(problem, unit=5.0, by_user=problem.by_user._replace(
        line=np.array([1.0, 0, 0, 0])))
    with Pool(1) as pool:
        found, larger = (automatic._of_ranks(each, at, 0, pool) / automatic.noise_norm(each)
                         for each in (replace(silent, unit=1.0), silent))
    assert larger == pytest.approx(5 * found)


def test_lists_are_judged_of_users_of_whom_something_is_known_and_something_held_out():
    """Of four users: one of each kind, and one who said nothing."""
    def cells(counts):
        n = sum(counts)
        return Cells(np.append(0, np.cumsum(counts)), np.arange(n) % 3, np.ones(n), np.ones(n),
                     np.array([1.0, 0, 1, 0]))

    at = Factors(np.ones((4, 1)), np.ones((3, 1)), np.zeros(4), np.zeros(3))
    trial = Trial(SimpleNamespace(by_user=cells([1, 2, 0, 0])), cells([0, 1, 1, 0]), at, 2)
    assert automatic._ranked_rows(trial, np.random.default_rng(0)).tolist() == [1]


def test_vectors_and_biases_are_penalised_alike_where_lists_are_tried(monkeypatch):
    problem, at = weighed(60, 30, w0=0.4, learns_bias=True)
    asked, scaled = [], Quadratic.scaled
    monkeypatch.setattr(Quadratic, "scaled",
                        lambda self, *given: (asked.append(given), scaled(self, *given))[1])
    with Pool(1) as pool:
        next(automatic._tried(automatic.trial_of(problem, at, 3, 1e9, 0), 2.0, 0,
                              np.arange(9), pool))
    assert asked == [(2.0 * automatic.PARTS[0], (1.0, 1.0))]


def test_parts_of_the_norm_fall_and_vectors_move_with_each_that_is_tried():
    assert (np.diff([*automatic.PARTS, 0]) < 0).all()
    problem, at = weighed(60, 30, w0=0.4)
    with Pool(1) as pool:
        trial = automatic.trial_of(problem, at, 3, 1e9, 0)
        seen = [trial.at.Q.copy()]
        for _ in zip(range(3), automatic._tried(trial, 2.0, 0, np.arange(9), pool), strict=False):
            seen.append(trial.at.Q.copy())
    assert len(seen) > 2
    assert all((before != after).all() for before, after in zip(seen, seen[1:], strict=False))


@pytest.mark.parametrize(("means", "tried"), [
    ([0.1, 0.2, 0.3, 0.4, 0.5], 5), ([0.5, 0.1, 0.6], 2), ([0.5, 0.499, 0.499, 0.6], 3),
    ([0.5, 0.499, 0.51, 0.509, 0.509, 0.6], 5), ([0.0, 0.0, 0.0, 0.6], 3)])
def test_parts_are_tried_until_one_is_clearly_worse_or_two_in_turn_are_no_better(
        means, tried, monkeypatch):
    problem, at = weighed(60, 30, w0=0.4)
    lists = iter(mean + (mean > 0) * 0.1 * np.resize([n % 2 * 2 - 1, 1 - n % 2 * 2], 10)
                 for n, mean in enumerate(means))
    monkeypatch.setattr(automatic, "PARTS", np.linspace(1, 0.5, len(means)))
    monkeypatch.setattr(automatic, "ranked", lambda *_: next(lists))
    with Pool(1) as pool:
        found = list(automatic._tried(automatic.trial_of(problem, at, 3, 1e9, 0), 2.0, 0,
                                      np.arange(10), pool))
    assert len(found) == tried


def test_the_norm_is_first_halved_until_it_suits_the_median_whatever_lists_say(monkeypatch):
    problem, at = weighed(60, 30, w0=0.4)
    lists = iter(np.full(10, mean) for mean in (0.5, 0.1, 0.2, 0.3, 0.3, 0.3, 0.9))
    monkeypatch.setattr(automatic, "PARTS", (0.9, 0.7, 0.5, 0.3))
    monkeypatch.setattr(automatic, "ranked", lambda *_: next(lists))
    with Pool(1) as pool:
        found = list(automatic._tried(automatic.trial_of(problem, at, 3, 1e9, 0), 2.0, 3,
                                      np.arange(10), pool))
    assert [part for part, _ in found] == [0.9, 0.45, 0.225, 0.1125]


@pytest.mark.parametrize(("targets", "halvings"), [
    ([1.0, 1, 1, 1], 0), ([0.9, 0.9, 0.9, 10.15], 1), ([1.0, 1, 1, 1000], 7),
    ([0.0, 0, 0, 0, 4, 4], 0), ([1e-9, 1e-9, 1.0], automatic.HALVINGS)])
def test_the_norm_is_halved_as_often_as_half_the_mean_target_exceeds_the_median(
        targets, halvings, monkeypatch):
    known = SimpleNamespace(by_user=SimpleNamespace(a=np.ones(len(targets)), b=np.array(targets)))
    asked = []
    for name, given in (
            ("trial_of", SimpleNamespace(known=known)), ("noise_norm", 1.0),
            ("_ranked_rows", np.arange(automatic.LEAST))):
        monkeypatch.setattr(automatic, name, lambda *_, given=given: given)
    monkeypatch.setattr(automatic, "_tried", lambda *given: asked.append(given[2]) or iter([]))
    at = Factors(np.ones((4, 1)), np.ones((3, 1)), np.zeros(4), np.zeros(3))
    automatic._of_ranks(SimpleNamespace(w0=0.0), at, 0, None)
    assert asked == [halvings]


def test_a_few_enormous_counts_do_not_hide_what_the_others_say():
    ratings = groups_that_buy_apart()
    counts = ratings.by_user.data.copy()
    counts[::2000] = 1e6
    enormous = Ratings(sp.csr_array((counts, ratings.by_user.indices, ratings.by_user.indptr)))
    train, test = random_split(enormous, 0.2, 0, keep=1)
    model = ImplicitMF(**COUNTED).fit(train)
    assert evaluate(model, test, metrics="recall@20")["recall@20"] > 0.12     # (by chance .01)


def test_what_is_relevant_has_a_positive_target_and_weight():
    cells = Cells(np.array([0, 2, 4]), np.array([0, 1, 0, 2]), np.ones(4),
                  np.array([1.0, 0, -2, 3]), np.array([1.0, 0, 1, 0]))
    np.testing.assert_array_equal(
        automatic._pattern(cells, np.arange(2), 3).toarray(), [[1, 0, 0], [0, 0, 1]])


def test_penalties_of_biases_are_noise_over_spread():
    random, shape = np.random.default_rng(0), (600, 400)
    dense, at = naive.random_problem(3, *shape, 1, density=0.1, learns_bias=True)
    biases = [random.normal(0, sd, n) for sd, n in zip((1.0, 0.5), shape, strict=True)]
    R = dense.users.bias_mean + np.add.outer(*biases) + random.normal(0, 0.8, shape)
    users, items = (replace(side, bias_reg=np.ones(n))
                    for side, n in zip((dense.users, dense.items), shape, strict=True))
    known = naive.problem(replace(dense, R=R, users=users, items=items))
    found = automatic._bias_regs(Trial(known, None, at, 2))
    assert found == pytest.approx([0.8 ** 2 / np.mean(b ** 2) for b in biases], rel=0.08)
    for b, learned in zip(biases, (at.beta - dense.users.bias_mean, at.gamma), strict=True):
        assert np.corrcoef(b, learned)[0, 1] > 0.9


def test_penalties_of_biases_begin_in_the_unit_of_the_weights():
    penalty = SimpleNamespace(bias_reg=np.ones(2))
    begun = automatic._Bias(penalty, np.array([0, 1, 1]), np.full(3, 3.0), 2, 3.0)
    assert begun.reg == 3 * automatic.BIAS_REG
    np.testing.assert_array_equal(begun.total, [3, 6])


def test_of_parts_that_are_not_shown_to_be_worse_the_first_is_taken():
    best, noise = np.tile([0.4, 0.6], 50), np.tile([0.1, -0.1], 50)
    error = 0.1 / np.sqrt(100)              # of the mean of what a part is below the best
    worse, even = (best + noise - times * error for times in (1.1, 0.9))
    assert automatic._largest_good([(0.9, worse), (0.7, even), (0.5, best)]) == 0.7
    assert automatic._largest_good([(0.9, worse), (0.5, best)]) == 0.5


@pytest.mark.parametrize("model", [ImplicitMF, MatrixFactorization])
def test_estimates_take_the_kernel_of_the_fit(model, monkeypatch):
    built = []
    monkeypatch.setattr(als, "row_solver", lambda K, of=als.row_solver: built.append(K) or of(K))
    model(48, random_state=0, n_epochs=1).fit(groups_that_buy_apart(n_groups=3))
    assert set(built) == {48}
