"""`tune` finds good settings within its budget, and tells early what it cannot do."""

from __future__ import annotations

import numpy as np
import pytest

from mfcore import (
    EASE,
    ImplicitMF,
    ItemKNN,
    MatrixFactorization,
    MultDAE,
    Popularity,
    Ratings,
    Segmented,
    evaluate,
    tune,
)
from mfcore.data.split import random_split
from mfcore.data.synthetic import planted
from mfcore.metrics.measure import Values
from mfcore.metrics.paired import standard_error
from mfcore.metrics.table import watchable
from mfcore.tuning import costs, halving, judging
from mfcore.tuning.costs import Costs, Rung
from mfcore.tuning.judging import Judge
from mfcore.tuning.spaces import SPACES, Doubling, LogRange, Range, at_points
from mfcore.tuning.spaces import drawn as points_of

SMALL = {"n_factors": 8, "n_epochs": 9, "random_state": 0}


def noisy(seed=0, n_users=120, n_items=60, share=0.25, rank=2, noise=1.0):
    """Return ratings whose noise a weak penalty fits."""
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal((n_users, rank)) @ rng.standard_normal((rank, n_items))
    users, items = np.nonzero(rng.random((n_users, n_items)) < share)
    return Ratings.from_arrays(users, items,
                               truth[users, items] + noise * rng.standard_normal(len(users)))


def likes():
    """Return what the users above like best, each with the weight 1."""
    ratings = noisy()
    return ratings.select_cells(ratings.by_user.data > 0.5)


def drawn(model, space, n, random):
    return at_points(model, space, points_of(space, n, random))


def rows(table):
    return table if isinstance(table, list) else table.to_dict("records")


def test_a_bad_penalty_is_mended():
    train, test = random_split(noisy(), 0.2, 0, keep=1)
    given = MatrixFactorization(**SMALL, reg=1e-3, bias_reg=1e-3)
    before = evaluate(given.fit(train), test, metrics="rmse")["rmse"]
    found = tune(given, train, {"reg": LogRange(1e-3, 100.0)}, budget=6)
    after = evaluate(found.model, test, metrics="rmse")["rmse"]
    assert after < 0.9 * before
    assert given.reg == 1e-3                                    # and stays as it was


def test_the_search_costs_no_more_than_its_budget():
    for budget in (3, 5.5, 12):
        found = tune(MatrixFactorization(**SMALL), noisy(), budget=budget)
        last = found.model.n_factors / 8 / 3
        assert sum(row["cost"] for row in rows(found.table)) + last <= budget + 1e-9
        assert len({row["trial"] for row in rows(found.table)}) >= budget - 2


def test_more_epochs_go_on_from_the_state_there_is_to_the_same_bits(monkeypatch):
    epochs = []
    true = halving.fit_as_planned

    def counted(model, *args, **options):
        best = true(model, *args, **options)
        epochs.append((model.reg, len(model.history_), model))
        return best

    monkeypatch.setattr(halving, "fit_as_planned", counted)
    ratings = noisy()
    tune(MatrixFactorization(**SMALL), ratings, {"reg": [0.5, 5.0, 50.0]}, budget=8,
         validation=random_split(ratings, 0.2, 0)[1])
    reg, n_epochs, model = next(each for each in epochs if each[1] == 9)
    assert {6, 9} == {n for _, n, _ in epochs}
    alone = MatrixFactorization(**SMALL).set_params(reg=reg).fit(ratings)
    np.testing.assert_array_equal(alone.user_factors_, model.user_factors_)
    assert [record["epoch"] for record in model.history_] == list(range(1, 10))


def test_samples_of_users_come_before_all_of_them(monkeypatch):
    monkeypatch.setattr("mfcore.tuning.costs.LEAST_CELLS", 50)
    found = tune(ImplicitMF(**SMALL), likes(), {"reg": LogRange(0.1, 10)}, budget=5)
    shares = [row["users"] for row in rows(found.table)]
    assert shares == sorted(shares)
    assert sorted(set(np.round(shares, 3))) == [0.111, 0.333, 1.0]


def test_the_rungs_of_a_model_without_epochs_differ_in_users_alone():
    many = Ratings.from_arrays(np.arange(200_000) // 4, np.arange(200_000) % 50)
    assert Costs(EASE(), many).rungs == [Rung(1 / 9, 1.0), Rung(1 / 3, 1.0), Rung(1.0, 1.0)]
    few = Ratings.from_arrays(np.arange(50), np.arange(50))
    assert Costs(EASE(), few).rungs == [Rung(1.0, 1.0)]


def test_sizes_are_doubled_as_long_as_the_held_out_ratings_gain():
    rich = noisy(n_users=400, n_items=80, share=0.5, rank=6, noise=0.1)
    given = MatrixFactorization(2, n_epochs=10, random_state=0)
    found = tune(given, rich, {"n_factors": Doubling(1, 64)}, budget=40)
    sizes = [row["n_factors"] for row in rows(found.table)]
    assert sizes[-1] >= found.model.n_factors >= 6 > sizes[0]
    poor = tune(given, noisy(rank=1, noise=3.0), {"n_factors": Doubling(1, 64)}, budget=40)
    assert poor.model.n_factors <= 2


@pytest.mark.parametrize("threads", [2, 8])
def test_the_search_does_not_depend_on_the_number_of_threads(threads):
    one, more = (tune(ImplicitMF(**SMALL, n_threads=n), likes(), budget=4)
                 for n in (1, threads))
    assert rows(one.table) == rows(more.table)
    np.testing.assert_array_equal(one.model.item_factors_, more.model.item_factors_)


def test_a_setting_that_diverges_counts_as_the_worst():
    given = MatrixFactorization(**SMALL, solver="sgd", learning_rate=0.01, schedule="constant")
    found = tune(given, noisy(), {"learning_rate": [1000.0, 0.02]}, budget=6)
    assert found.model.learning_rate < 1
    assert any(np.isnan(row["rmse"]) for row in rows(found.table))


def test_a_validation_set_of_its_own_leaves_all_ratings_to_learn_from():
    train, test = random_split(likes(), 0.2, 0, keep=1)
    found = tune(ImplicitMF(**SMALL), train, budget=3, validation=test, metric="recall@5")
    assert found.model.ratings_.nnz == train.nnz
    assert "recall@5" in rows(found.table)[0]
    held = tune(ImplicitMF(**SMALL), train, budget=3, validation=(train, test))
    assert np.isfinite([row["ndcg@10"] for row in rows(held.table)]).all()


def test_features_go_with_the_users_of_a_sample(monkeypatch):
    monkeypatch.setattr("mfcore.tuning.costs.LEAST_CELLS", 50)
    data = planted(200, 60)
    ratings, features = data.ratings, data.user_features
    found = tune(MatrixFactorization(**SMALL), ratings, budget=4, user_features=features)
    assert found.model.user_feature_factors_ is not None


def test_networks_with_a_held_out_share_are_stopped_by_it():
    given = MultDAE(n_latent=4, n_epochs=40, batch_size=20, learning_rate=0.02, validation=0.1,
                    patience=2, random_state=0)
    found = tune(given, noisy(), {"reg": [0.0, 0.01]}, budget=4)
    last = rows(found.table)[-1]
    assert found.model.n_epochs_ <= 40
    assert last["epochs"] <= 40


def test_an_interrupted_search_returns_the_best_model_so_far(monkeypatch):
    calls, true = [], judging.Judge.values

    def interrupted(self, *args):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return true(self, *args)

    monkeypatch.setattr(judging.Judge, "values", interrupted)
    with pytest.warns(UserWarning, match="interrupted"):
        found = tune(MatrixFactorization(**SMALL), noisy(), budget=6)
    assert len(found.table) == 3
    assert np.isfinite(found.model.predict(0, 0)).all()


def test_an_interruption_before_the_first_result_goes_on(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(judging.Judge, "values", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune(MatrixFactorization(**SMALL), noisy())


def never(*_, **__):
    raise AssertionError("work was done")


@pytest.mark.parametrize(("model", "options", "error", "message"), [
    (MatrixFactorization(**SMALL), {"budget": 0.5}, ValueError, r"at least \d\.\d fits"),
    (MatrixFactorization(**SMALL), {"budget": float("nan")}, ValueError, "budget"),
    (MatrixFactorization(**SMALL), {"space": {"regg": [1.0]}}, ValueError, "did you mean 'reg'"),
    (MatrixFactorization(**SMALL), {"space": {}}, ValueError, "at least one"),
    (MatrixFactorization(**SMALL), {"space": {"reg": []}}, ValueError, "holds no value"),
    (MatrixFactorization(**SMALL), {"space": {"reg": 3.0}}, TypeError, "list of values"),
    (MatrixFactorization(**SMALL), {"space": {"reg": "auto"}}, TypeError, "list of values"),
    (MatrixFactorization(**SMALL), {"space": {"reg": LogRange(5, 1)}}, ValueError, "ascending"),
    (MatrixFactorization(**SMALL), {"space": {"reg": [1.0, -1.0]}}, ValueError, "reg"),
    (MatrixFactorization(**SMALL), {"space": {"reg": [2.0] * 50 + [-1.0]}}, ValueError, "reg"),
    (MatrixFactorization(**SMALL), {"space": {"reg": LogRange(0, 1)}}, ValueError, "> 0"),
    (MatrixFactorization(**SMALL), {"space": {"reg": Range(2, 2)}}, ValueError, "ascending"),
    (MatrixFactorization(**SMALL), {"space": {"reg": Range("a", 2)}}, TypeError, "real number"),
    (MatrixFactorization(**SMALL), {"space": {"reg": Range(-1, 2)}}, ValueError, "reg must be"),
    (MatrixFactorization(**SMALL), {"space": {"reg": LogRange}}, TypeError, "list of values"),
    (MatrixFactorization(**SMALL), {"space": {"reg": {1.0, 2.0}}}, TypeError, "list of values"),
    (MatrixFactorization(**SMALL), {"space": {"reg": np.array(1.0)}}, TypeError, "list of values"),
    (MatrixFactorization(**SMALL), {"space": {"reg": Doubling(1, 4)}}, ValueError,
     "n_factors alone"),
    (MatrixFactorization(**SMALL), {"space": {"n_factors": Doubling(1.5, 4)}}, TypeError,
     "integer"),
    (MatrixFactorization(**SMALL), {"metric": ""}, ValueError, "metrics"),
    (MatrixFactorization(**SMALL), {"metric": ["rmse"]}, ValueError, "metrics"),
    (MatrixFactorization(**SMALL), {"validation": None}, TypeError, "validation must be a share"),
    (MatrixFactorization(**SMALL), {"validation": True}, TypeError, "validation must be a share"),
    (MatrixFactorization(**SMALL), {"validation": "0.1"}, TypeError, "validation must be a share"),
    (MatrixFactorization(**SMALL), {"validation": (None,)}, TypeError, "a pair"),
    (MatrixFactorization(**SMALL), {"validation": [0.1]}, TypeError, "validation"),
    (MatrixFactorization, {}, TypeError, "model must be an estimator"),
    (None, {}, TypeError, "model must be an estimator"),
    (Segmented(MatrixFactorization(**SMALL), by=[0]), {"space": {"min_ratings": [1]}}, TypeError,
     "tune its estimator"),
    (MatrixFactorization(**SMALL), {"metric": "rsme"}, ValueError, "metrics"),
    (MatrixFactorization(**SMALL), {"validation": 1.0}, ValueError, "validation"),
    (MatrixFactorization(**SMALL), {"random_state": -1}, ValueError, "random_state"),
    (MatrixFactorization(**SMALL), {"user_features": [["a"]]}, ValueError, "user_features"),
    (Popularity(), {}, ValueError, "no default space"),
    pytest.param(MatrixFactorization(random_state=np.random.default_rng(0)), {}, ValueError,
                 "random_state must be an integer or None", id="a generator as the seed"),
], ids=str)
def test_bad_input_is_told_before_any_work(monkeypatch, model, options, error, message):
    monkeypatch.setattr(halving, "fit_as_planned", never)
    with pytest.raises(error, match=message):
        tune(model, noisy(), **options)


def test_a_share_may_be_a_number_of_numpy():
    found = tune(EASE(), noisy(), {"reg": [1.0]}, budget=3, validation=np.float32(0.25))
    assert rows(found.table) == rows(tune(EASE(), noisy(), {"reg": [1.0]}, budget=3,
                                          validation=0.25).table)


@pytest.mark.parametrize("space", [{"n_factors": [1, 2, 400]}, {"n_epochs": [1, 100, 3, 200]}],
                         ids=str)
def test_dear_values_of_a_list_are_tried_as_the_budget_allows(space):
    for budget in (4, 9):
        found = tune(MatrixFactorization(2, solver="sgd", n_epochs=4, random_state=0), noisy(),
                     space, budget=budget)
        assert sum(row["cost"] for row in rows(found.table)) + 1 <= budget + 1e-9


def test_the_table_keeps_none_and_integers():
    pytest.importorskip("pandas")
    found = tune(EASE(), noisy(), {"n_threads": [None, 1]}, budget=6)
    assert {type(value) for value in found.table["n_threads"]} == {type(None), int}


def test_a_validation_set_is_told_apart_by_its_ids(monkeypatch):
    monkeypatch.setattr(costs, "LEAST_CELLS", 10)
    matrix = noisy()
    names = np.array([f"u{n}" for n in range(matrix.shape[0])])
    items = np.arange(matrix.shape[1])
    ratings = Ratings(matrix.by_user, user_ids=names, item_ids=items)
    test = random_split(ratings, 0.2, 0)[1]
    some = np.random.default_rng(0).permutation(len(names))[:len(names) // 2]
    given = MatrixFactorization(**SMALL)
    found = tune(given, ratings, {"reg": [1.0]}, budget=3, validation=test.select_users(some))
    first = rows(found.table)[0]
    assert first["users"] < 1
    order = np.sort(some)
    again = tune(given, ratings, {"reg": [1.0]}, budget=3, validation=test.select_users(order))
    assert first["rmse"] == pytest.approx(rows(again.table)[0]["rmse"], rel=1e-6)


def test_a_share_that_leaves_nothing_is_refused():
    single = Ratings.from_arrays([0, 1, 2], [0, 1, 0], [1., 2., 3.])
    with pytest.raises(ValueError, match="leaves a side empty.*; pass ratings"):
        tune(MatrixFactorization(**SMALL), single)


@pytest.mark.parametrize("name", SPACES)
def test_the_default_space_of_a_class_is_one_of_valid_parameters(name):
    import mfcore

    model = getattr(mfcore, name)()
    for params in drawn(model, SPACES[name], 30, np.random.default_rng(0)):
        model.set_params(**params).validate()


def test_settings_are_spread_evenly():
    model = MatrixFactorization()
    found = drawn(model, {"reg": LogRange(1.0, 100.0), "decay": Range(0.0, 1.0)}, 64,
                  np.random.default_rng(0))
    cells = {(int(2 * np.log10(each["reg"])), int(4 * each["decay"])) for each in found}
    assert len(cells) == 16


def test_distributions_of_scipy_do():
    from scipy import stats

    found = drawn(MatrixFactorization(), {"reg": stats.loguniform(0.1, 10), "n_epochs":
                                          stats.randint(2, 9)}, 20, np.random.default_rng(0))
    assert all(0.1 <= each["reg"] <= 10 for each in found)
    assert {type(each["n_epochs"]) for each in found} == {int}


def test_a_setting_that_was_better_with_fewer_epochs_gets_them():
    given = MatrixFactorization(16, n_epochs=27, solver="adam", learning_rate=0.1, reg=0.0,
                                bias_reg=0.0, random_state=0)
    ratings = noisy(noise=3.0)
    train, test = random_split(ratings, 0.2, 0, keep=1)
    for validation, learned in ((0.1, ratings), (test, train)):
        found = tune(given, learned, {"decay": [0.2]}, budget=4, validation=validation)
        errors = {row["epochs"]: row["rmse"] for row in rows(found.table) if row["trial"] == 0}
        assert found.model.n_epochs_ == min(errors, key=errors.get) < 27
        assert found.model.ratings_.nnz == learned.nnz


def test_the_last_fit_goes_on_from_the_best_model(monkeypatch):
    plans, true = [], halving.fit_as_planned

    def watched(model, ratings, plan, **options):
        plans.append((ratings.nnz, plan, model))
        return true(model, ratings, plan, **options)

    monkeypatch.setattr(halving, "fit_as_planned", watched)
    ratings = likes()
    given = ImplicitMF(8, n_epochs=60, reg=7.0, random_state=0)         # (better by each epoch)
    found = tune(given, ratings, {"reg": [7.0]}, budget=2.2)
    nnz, plan, model = plans[-1]
    assert nnz == ratings.nnz
    assert plan.start.reg == model.reg
    assert 20 <= plan.n_epochs < 60
    whole = ImplicitMF(**found.model.get_params()).fit(ratings)
    loss = found.model.history_[-1]["loss"]
    assert loss < 1.01 * whole.history_[-1]["loss"]


def test_larger_vectors_cost_more_than_their_number_says():
    few = Ratings.from_arrays(np.arange(2000) % 500, np.arange(2000) % 301)
    costs = Costs(ImplicitMF(64, n_epochs=6, reg=1.0), few)
    one, eight = (costs.last({"n_factors": k}, Rung()) for k in (64, 512))
    assert one == pytest.approx(1.0)
    assert eight > 12 * one


def test_the_model_as_given_goes_through_every_rung():
    found = tune(MatrixFactorization(**SMALL), noisy(), {"reg": LogRange(1e-3, 1e-2)}, budget=12)
    given = [row for row in rows(found.table) if row["trial"] == 0]
    assert {row["epochs"] for row in given} == {row["epochs"] for row in rows(found.table)}


def test_the_first_setting_is_the_model_just_as_given():
    found = tune(MatrixFactorization(24, n_epochs=9, random_state=0), noisy(), budget=6)
    sizes = {row["trial"]: row["n_factors"] for row in rows(found.table)}
    assert sizes[0] == 24
    assert sizes[1] == 12
    scores = {(row["trial"], row["epochs"]): row["rmse"] for row in rows(found.table)}
    assert min(scores.values()) <= scores[0, 9]


def test_the_search_looks_around_what_a_fit_has_found_by_itself():
    space = {"reg": LogRange(0.01, 100.0), "n_epochs": [2, 5]}
    model = MatrixFactorization(8, n_epochs=5).fit(noisy())
    assert isinstance(model.reg, str)
    place, epochs = halving.point_of(space, model)
    assert space["reg"].ppf(place) == pytest.approx(model.reg_)
    assert epochs == 0.75
    assert np.isnan(halving.point_of({"reg": [0.5, 1.0]}, model)).all()


def values_of(numbers, rows=None, columns=None):
    rows = np.arange(len(numbers)) if rows is None else rows
    return Values(np.asarray(numbers, float), None, rows, columns, root=columns is not None)


def test_a_setting_is_preferred_only_beyond_noise():
    rng = np.random.default_rng(0)
    base = rng.random(400)
    noise = 0.1 * rng.standard_normal(400)
    noise -= noise.mean()
    judge = Judge(watchable("metric", "ndcg@10"), None, None)
    error = noise.std(ddof=1) / 20
    assert standard_error(values_of(base + noise), values_of(base)) == pytest.approx(error)
    for gain, is_better in ((0.4, False), (0.6, True), (-0.6, False)):
        changed = values_of(base + noise + gain * error)
        assert judge.prefers(changed, values_of(base)) is is_better
    errors = Judge(watchable("metric", "rmse"), None, None)
    cells = np.arange(400) % 20, np.arange(400) // 20
    assert errors.prefers(values_of(0.5 * base, *cells), values_of(base, *cells))
    assert not errors.prefers(values_of(base, *cells), values_of(0.5 * base, *cells))
    assert judge.prefers(0.3, 0.2)                          # (a metric of all lists together)
    assert standard_error(values_of([0.3]), values_of([0.2])) == 0.0


def test_what_is_no_better_than_noise_leaves_the_model_as_given(monkeypatch):
    ratings = noisy()
    given = MatrixFactorization(**SMALL, reg=2.0)
    found = tune(given, ratings, {"reg": LogRange(1.5, 2.5)}, budget=8)
    assert found.model.reg != 2.0
    monkeypatch.setattr(judging, "SURE", 50.0)
    settled = tune(given, ratings, {"reg": LogRange(1.5, 2.5)}, budget=8)
    assert settled.model.reg == 2.0
    np.testing.assert_array_equal(settled.model.item_factors_, given.fit(ratings).item_factors_)


def test_all_settings_are_judged_by_the_same_users(monkeypatch):
    asked, true = set(), judging.measured

    def watched(task, wanted):
        asked.add((task.model.ratings_.shape[0], task.test.nnz))
        return true(task, wanted)

    monkeypatch.setattr(judging, "LEAST_USERS", 20)
    monkeypatch.setattr(judging, "measured", watched)
    tune(ImplicitMF(**SMALL), likes(), {"n_factors": Doubling(4, 32)}, budget=12)
    assert len(asked) == len({n_users for n_users, _ in asked})


def test_items_are_not_sampled_and_rankings_are_paid_for():
    ratings = Ratings.from_arrays(np.arange(90_000) % 9000, np.arange(90_000) % 7001)
    model, whole = ImplicitMF(64, reg=1.0), Rung(1.0, 1.0)
    plain, ranked = Costs(model, ratings), Costs(model, ratings, ranked=True)
    assert plain.step({}, Rung(), Rung(1 / 9, 1.0)) > 1 / 3
    assert ranked.step({}, Rung(), whole) > 1.1 * plain.step({}, Rung(), whole)
    sparse = Costs(ItemKNN(), ratings, ranked=True)
    assert sparse.fixed == 0.0 < Costs(EASE(), ratings).fixed
    assert sparse.step({}, Rung(), Rung(1 / 9, 1.0)) == pytest.approx(1 / 9 + 0.15)
