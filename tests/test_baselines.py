"""`BiasOnly` and `Popularity`: known optima, and the same manners as the larger models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import samples
import scipy.sparse as sp

import mfcore
import mfcore.serving
from mfcore import BiasOnly, Popularity, Ratings


def weighted() -> Ratings:
    cells = samples.matrix()
    return Ratings(cells, weights=samples.weights(cells))


def least_squares(ratings: Ratings, reg_users: float, reg_items: float
                  ) -> tuple[np.ndarray, np.ndarray]:
    """b and b̃ of the minimum of BiasOnly's formula, by one dense system."""
    (n_users, n_items), cells = ratings.shape, ratings.by_user
    w = np.ones(ratings.nnz) if ratings.weights is None else ratings.weights.astype(float)
    X = np.zeros((ratings.nnz, n_users + n_items))
    X[np.arange(ratings.nnz), ratings.users_of_cells] = 1
    X[np.arange(ratings.nnz), n_users + cells.indices] = 1
    ridge = np.repeat([reg_users, reg_items], [n_users, n_items])
    target = cells.data - np.average(cells.data, weights=w)
    solution = np.linalg.solve((X.T * w) @ X + np.diag(ridge), X.T @ (w * target))
    return solution[:n_users], solution[n_users:]


# --------------------------------------------------------------------------- BiasOnly

@pytest.mark.kernel
@pytest.mark.parametrize("ratings", [Ratings(samples.matrix()), weighted()],
                         ids=["", "weighted"])
@pytest.mark.parametrize(("reg_users", "reg_items"), [(10.0, 5.0), (0.7, 1.3)])
def test_biases_minimise_the_formula_of_the_docstring(ratings, reg_users, reg_items):
    model = BiasOnly(reg_users=reg_users, reg_items=reg_items, n_epochs=200).fit(ratings)
    user, item = least_squares(ratings, reg_users, reg_items)
    assert np.abs(user).max() > 0.05
    np.testing.assert_allclose(model.user_bias_, user, atol=1e-9)
    np.testing.assert_allclose(model.item_bias_, item, atol=1e-9)
    wanted = model.global_mean_ + user[2] + item
    np.testing.assert_allclose(model.predict(2, np.arange(8)), wanted, atol=1e-9)


@pytest.mark.parametrize("ratings", [Ratings(samples.matrix()), weighted()],
                         ids=["", "weighted"])
def test_the_loss_of_an_alternation_is_the_formula_of_the_docstring(ratings):
    losses: list[float] = []

    def formula(model: BiasOnly, record: dict[str, Any]) -> None:
        w = 1.0 if ratings.weights is None else ratings.weights
        cells, b, c = ratings.by_user, model.user_bias_, model.item_bias_
        errors = cells.data - model.global_mean_ - b[ratings.users_of_cells] - c[cells.indices]
        losses.append((w * errors ** 2).sum() + 0.7 * b @ b + 1.3 * c @ c)

    model = BiasOnly(reg_users=0.7, reg_items=1.3).fit(ratings, callbacks=[formula])
    assert [record["loss"] for record in model.history_] == pytest.approx(losses, rel=1e-6)
    assert (np.diff(losses) < 0).all()


def test_ten_alternations_come_close():
    ratings = Ratings(samples.matrix())
    user, item = least_squares(ratings, 10.0, 5.0)
    model = BiasOnly().fit(ratings)
    np.testing.assert_allclose(model.user_bias_, user, atol=1e-4)
    np.testing.assert_allclose(model.item_bias_, item, atol=1e-4)


def test_no_ratings_no_bias():
    model = BiasOnly(reg_users=0.0, reg_items=0.0).fit(samples.matrix())
    assert model.user_bias_[samples.SILENT_USER] == 0
    assert model.item_bias_[samples.SILENT_ITEM] == 0
    assert model.predict(samples.SILENT_USER, samples.SILENT_ITEM) == model.global_mean_


def test_unknown_users_and_items_fall_back_on_the_other_side():
    model = BiasOnly().fit(samples.named())
    got = model.predict(["u1", "who", "u1", "who"], ["i2", "i2", "what", "what"])
    b, c, mean = model.user_bias_[1], model.item_bias_[2], model.global_mean_
    np.testing.assert_allclose(got, [mean + b + c, mean + c, mean + b, mean], rtol=1e-12)


def test_a_new_row_gets_the_bias_of_the_last_half_sweep():
    model = BiasOnly().fit(samples.matrix())
    folded = model.fold_in_users(samples.matrix())
    np.testing.assert_allclose(folded.bias, model.user_bias_, atol=1e-12)
    assert folded.factors.shape == (11, 0)
    assert model.predict([2], [5], ratings=samples.matrix()) == model.predict(2, 5)


def test_the_score_is_minus_the_rmse_of_clipped_predictions():
    model = BiasOnly().fit(samples.matrix())
    test = samples.matrix(seed=9)
    users, items = samples.stored(test).nonzero()
    predicted = np.clip(model.predict(users, items), 0, 5)
    wanted = -np.sqrt(np.mean((samples.dense(test)[users, items] - predicted) ** 2))
    assert model.score(test) == pytest.approx(wanted, rel=1e-6)


# ------------------------------------------------------------------------- Popularity

@pytest.mark.parametrize("ratings", [Ratings(samples.matrix()), weighted()],
                         ids=["", "weighted"])
def test_popularity_is_the_weighted_number_of_ratings(ratings):
    model = Popularity().fit(ratings)
    known = samples.stored(ratings.by_user)
    wanted = known.sum(0) if ratings.weights is None else \
        samples.dense(ratings.by_user, ratings.weights).sum(0)
    np.testing.assert_allclose(model.predict(2, np.arange(8)), wanted, rtol=1e-6)
    np.testing.assert_array_equal(model.predict([99, -0], [99, 99]), 0)


def test_the_most_rated_come_first_and_ties_go_to_the_lower_item():
    cells = samples.matrix()
    model = Popularity().fit(cells)
    items, scores = model.recommend([0], k=8, exclude_seen=False)
    counted = samples.stored(cells).sum(0)
    assert len(set(counted)) < 8                                    # there are ties
    assert items[0].tolist() == sorted(range(8), key=lambda i: (-counted[i], i))
    np.testing.assert_array_equal(scores[0], counted[items[0]])


def test_popularity_is_scored_as_a_ranking():
    model = Popularity().fit(samples.matrix())
    third = model.recommend([0], k=10)[0][0, 2]
    test = sp.csr_array(([1.0], ([0], [third])), shape=(11, 8))
    assert model.score(test) == pytest.approx(1 / np.log2(4))


GROUPS = [["a"], ["b"], ["a", "b"], [], ["b"], ["a"], ["c"], ["b"], [], ["a"], ["c"]]


def grouped_scores(ratings: Ratings, groups: list[list[str]], shrink: float) -> np.ndarray:
    """N p_gi of the docstring, user by user, by loops."""
    (n_users, n_items), names = ratings.shape, sorted({g for mine in groups for g in mine})
    cells = samples.stored(ratings.by_user).astype(float) if ratings.weights is None else \
        samples.dense(ratings.by_user, ratings.weights)
    N_i = cells.sum(0)
    scores = np.empty((n_users, n_items))
    for u in range(n_users):
        of_groups = []
        for g in groups[u]:
            N_gi = sum((cells[v] / len(groups[v]) for v in range(n_users) if g in groups[v]),
                       np.zeros(n_items))
            p = (N_gi + shrink * N_i / N_i.sum()) / (N_gi.sum() + shrink)
            of_groups.append(N_i.sum() * p)
        scores[u] = np.mean(of_groups, axis=0) if of_groups else N_i
    assert names == ["a", "b", "c"]
    return scores


@pytest.mark.parametrize("shrink", [0.0, 0.7, 30.0])
@pytest.mark.parametrize("ratings", [Ratings(samples.matrix()), weighted()],
                         ids=["", "weighted"])
def test_popularity_by_group_is_the_formula_of_the_docstring(ratings, shrink):
    model = Popularity(shrink=shrink).fit(ratings, user_features=GROUPS)
    wanted = grouped_scores(ratings, GROUPS, shrink)
    users, items = np.indices(wanted.shape).reshape(2, -1)
    np.testing.assert_allclose(model.predict(users, items), wanted.ravel(), rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(model.predict([99], [1]), wanted[3, 1])       # of no group


def test_a_new_user_is_served_by_its_group(tmp_path):
    model = Popularity(shrink=0.7).fit(samples.matrix(), user_features=GROUPS)
    wanted = model.recommend([1, 3], exclude_seen=False)
    for each in model, mfcore.load(saved(model, tmp_path)):
        got = each.recommend(user_features=[["b"], []])
        np.testing.assert_array_equal(got[0], wanted[0])
        np.testing.assert_array_equal(got[1], wanted[1])
    served = mfcore.serving.load(saved(model, tmp_path))
    np.testing.assert_array_equal(served.recommend([1, 3], exclude_seen=False)[0], wanted[0])


def saved(model: Any, folder: Any) -> Any:
    model.save(folder / "model")
    return folder / "model"


def test_groups_that_come_and_change_are_counted_as_in_a_fit():
    cells, later = samples.matrix(), [["c"], *GROUPS[1:-1], ["a", "c"]]
    model = Popularity(shrink=0.7).fit(cells[:-1], user_features=GROUPS[:-1])
    model.update(cells[[0, 10]], how="replace", users=[0, 10], user_features=[later[0], later[10]])
    wanted = Popularity(shrink=0.7).fit(cells, user_features=later)
    users, items = np.indices(wanted.ratings_.shape).reshape(2, -1)
    np.testing.assert_allclose(model.predict(users, items), wanted.predict(users, items),
                               rtol=2e-6)
    model.forget([4])
    left = Popularity(shrink=0.7).fit(cells[np.delete(np.arange(11), 4)],
                                      user_features=later[:4] + later[5:])
    np.testing.assert_allclose(model.predict(0, np.arange(8)), left.predict(0, np.arange(8)),
                               rtol=2e-6)


def test_what_users_have_rated_is_no_group():
    with pytest.raises(ValueError, match="must be groups"):
        Popularity().fit(samples.matrix(), user_features="history")


# ------------------------------------------------------------------------------- both

BOTH = [BiasOnly, Popularity]


@pytest.mark.parametrize("made", BOTH)
@pytest.mark.parametrize("ask", [
    lambda m: m.similar_items([0]), lambda m: m.similar_users([0]), lambda m: m.explain(0, 0),
    lambda m: m.similar_groups("a")],
    ids=["similar_items", "similar_users", "explain", "similar_groups"])
def test_what_needs_factors_is_not_implemented(made, ask):
    model = made().fit(samples.matrix())
    with pytest.raises(NotImplementedError, match=made.__name__):
        ask(model)


@pytest.mark.parametrize(("params", "error"), [
    ({"reg_users": -0.1}, ValueError), ({"reg_items": np.nan}, ValueError),
    ({"n_epochs": 0}, ValueError), ({"n_epochs": 2.0}, TypeError),
    ({"n_threads": 0}, ValueError), ({"reg_users": "a"}, TypeError)])
def test_parameters_out_of_range_are_refused_by_name(params, error):
    model = BiasOnly().fit(samples.matrix())
    before = dict(vars(model))
    with pytest.raises(error, match=next(iter(params))):
        model.set_params(**params).fit(samples.matrix(seed=9))
    assert {**vars(model), **params} == {**before, **params}


def test_the_history_of_biases_has_what_every_history_has():
    for record in BiasOnly(n_epochs=3).fit(samples.matrix()).history_:
        assert {"epoch", "loss", "seconds"} <= set(record)


@pytest.mark.parametrize("made", BOTH)
def test_the_evaluation_set_is_measured(made):
    model = made().fit(samples.matrix(), eval_set=samples.matrix(seed=9))
    assert set(model.history_[-1]) & {"rmse", "ndcg@10"}


@pytest.mark.parametrize("made", BOTH)
def test_callbacks_are_called_and_stop_the_fit(made):
    calls: list[Any] = []
    made().fit(samples.matrix(), callbacks=[lambda *given: calls.append(given) or True])
    assert len(calls) == 1
