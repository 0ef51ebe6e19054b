"""`evaluate` and `cross_validate`, on a model of given factors, against a dense twin."""

from __future__ import annotations

import math
import tracemalloc
from itertools import combinations, product

import numpy as np
import pytest
import samples
import scipy.sparse as sp
import strategies
from hypothesis import given
from hypothesis import strategies as st

from mfcore.data.ratings import Ratings, as_ratings
from mfcore.data.renumber import renumber_items
from mfcore.metrics import measure, topk
from mfcore.metrics.evaluate import cross_validate, evaluate
from mfcore.metrics.fitted import NewRows
from mfcore.metrics.table import METRICS, requested


class Product:
    """A scorer S = P Qᵀ."""

    def __init__(self, P, Q):
        self.P, self.Q, self.asked = P, Q, []
        self.n_rows, self.n_items = len(P), len(Q)

    def block(self, start, stop):
        self.asked.append((start, stop))
        return self.P[start:stop] @ self.Q.T

    def rounding(self, start, stop):
        return None


class Stub:
    """A model with given or seeded factors that learns its training set by heart.

    An unknown user scores like the zero vector; a folded-in user like the mean of its items.
    """

    def __init__(self, n_factors=2, seed=0, rates=False):
        self.n_factors, self.seed, self.rates = n_factors, seed, rates

    def get_params(self, deep=True):
        return {"n_factors": self.n_factors, "seed": self.seed, "rates": self.rates}

    @property
    def predicts_ratings(self):
        return self.rates

    def fit(self, ratings):
        self.ratings_ = ratings = as_ratings("ratings", ratings)
        self.n_users_, self.n_items_ = ratings.shape
        self.user_ids_, self.item_ids_ = ratings.user_ids, ratings.item_ids
        self.rating_range_ = ratings.by_user.data.min(), ratings.by_user.data.max()
        self.item_counts_ = np.diff(ratings.by_item.indptr)
        rng = np.random.default_rng(self.seed)
        # Small whole numbers: sums are exact in any order, and ties are many.
        self.P = rng.integers(-3, 4, (self.n_users_, self.n_factors)).astype(np.float32)
        self.Q = rng.integers(-3, 4, (self.n_items_, self.n_factors)).astype(np.float32)
        return self

    def _factors(self, rows, ratings):
        if ratings is not None:
            return (ratings.by_user != 0).astype(np.float32) @ self.Q
        return np.vstack([self.P, np.zeros((1, self.n_factors), np.float32)])[rows]

    def new_rows(self, ratings, user_features, n_rows=None):
        return None if ratings is None else NewRows(ratings, user_features)

    def answers(self):
        return self

    def scorer(self, asked, query, pool):
        rows, new = (None, asked.ratings) if isinstance(asked, NewRows) else (asked, None)
        self.scorer_ = Product(self._factors(rows, new), self.Q)
        return self.scorer_

    def predict(self, users, items, ratings=None):
        rows = users if ratings is not None else self.ratings_.user_positions(users)
        P = self._factors(np.asarray(rows), None) if ratings is None else \
            self._factors(None, ratings)[rows]
        columns = self.ratings_.item_positions(items)
        return np.where(columns >= 0, np.sum(P * self.Q[columns], axis=1, dtype=float), 0.0)


def matrix(rows):
    """CSR from rows of text: "." is a missing cell, a digit a stored one."""
    cells = [list(row.replace(" ", "")) for row in rows]
    where = [(u, i, float(c)) for u, row in enumerate(cells) for i, c in enumerate(row)
             if c != "."]
    users, items, values = zip(*where, strict=True)
    return sp.csr_array((values, (users, items)), shape=(len(cells), len(cells[0])))


TRAIN = matrix(["5...1..", ".2.4...", "......3", "3.....3"])
TEST = matrix([".4.....", "1.....5", "..11...", "......."])


def line_model(scores, train=TRAIN):
    """A fitted stub whose every row scores the items by `scores`."""
    model = Stub(1).fit(train)
    model.P = np.ones((model.n_users_, 1), np.float32)
    model.Q = np.asarray(scores, np.float32)[:, None]
    return model


def naive(model, S, seen, relevant, candidates, k):
    """All per-user metrics from dense bool matrices, users without relevant items left out.

    relevant may have columns beyond those of S: items that the model does not know.
    """
    n_users, n_items = S.shape
    known = relevant[:, :n_items] & ~seen & candidates
    rows = []
    for u in range(n_users):
        lost = relevant[u, n_items:].sum()
        m = known[u].sum() + lost
        if not m:
            continue
        order = [i for i in np.lexsort((np.arange(n_items), -S[u]))
                 if candidates[u, i] and not seen[u, i]]
        pairs = [(S[u, i] > S[u, j]) + (S[u, i] == S[u, j]) / 2
                 for i in order if known[u, i] for j in order if not known[u, j]]
        others = len(order) - known[u].sum()
        each = [of_places(np.array(at, int), k, m)
                for at in placings(S[u, order], known[u, order])]
        rows.append({name: np.mean([one[name] for one in each]) for name in each[0]}
                    | {"auc": sum(pairs) / (m * others) if others else np.nan})
    return {name: np.nanmean([row[name] for row in rows]) if
            not np.isnan([row[name] for row in rows]).all() else np.nan for name in rows[0]}


def placings(scores, known):
    """Return the places of known items in all orders of ties; scores are descending."""
    ways, place = [], 1
    for score in dict.fromkeys(scores):
        among = scores == score
        places = range(place, place + among.sum())
        ways.append(list(combinations(places, known[among].sum())))
        place += among.sum()
    return [sum(way, ()) for way in product(*ways)]


def of_places(at, k, m):
    """Return the metrics of a user with m relevant items, those found at places `at`."""
    in_k = at[at <= k]
    return {
        "precision": in_k.size / k, "recall": in_k.size / m,
        "recall_capped": in_k.size / min(k, m), "hit_rate": float(in_k.size > 0),
        "ndcg": sum(1 / np.log2(in_k + 1)) / sum(1 / np.log2(np.arange(1, min(k, m) + 1) + 1)),
        "map": sum((t + 1) / r for t, r in enumerate(in_k)) / min(k, m),
        "mrr": 1 / at[0] if at.size else 0.0}


NAMES = ["precision", "recall", "recall_capped", "hit_rate", "ndcg", "map", "mrr", "auc"]


def check(got, wanted, k):
    for name in NAMES:
        key = name if name in ("mrr", "auc") else f"{name}@{k}"
        assert got[key] == pytest.approx(wanted[name], abs=1e-12, nan_ok=True), name


def dense(matrix):
    stored = sp.csr_array((np.ones(matrix.nnz), matrix.indices, matrix.indptr), matrix.shape)
    return stored.toarray() > 0


# ------------------------------------------------------------------------------- by hand


@pytest.mark.kernel
def test_ranking_by_hand():
    model = line_model([7, 6, 5, 4, 3, 2, 1])
    # Left of seen items, user 0 has its item first; user 1 its two at 1 and 5; user 2 at 3, 4.
    got = evaluate(model, TEST, k=[1, 3])
    assert got["precision@1"] == pytest.approx(2 / 3)
    assert got["recall@3"] == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    assert got["hit_rate@1"] == pytest.approx(2 / 3)
    assert got["mrr"] == pytest.approx((1 + 1 + 1 / 3) / 3)
    ideal = 1 + 1 / math.log2(3)
    assert got["ndcg@3"] == pytest.approx((1 + 1 / ideal + 1 / 2 / ideal) / 3)
    assert got["map@3"] == pytest.approx((1 + 1 / 2 + 1 / 6) / 3)
    assert list(got) == ["precision@1", "precision@3", "recall@1", "recall@3", "ndcg@1",
                         "ndcg@3", "map@1", "map@3", "mrr", "hit_rate@1", "hit_rate@3"]
    assert all(type(value) is float for value in got.values())


@pytest.mark.kernel
def test_seen_items_are_ranked_where_asked():
    model = line_model([7, 6, 5, 4, 3, 2, 1])
    got = evaluate(model, TEST, k=1, metrics=["mrr"], exclude_seen=False)
    assert got == {"mrr": pytest.approx((1 / 2 + 1 + 1 / 3) / 3)}


@pytest.mark.kernel
def test_predictions_are_clipped_to_the_training_range():
    model = line_model([9, 9, 9, -9, 0, 0, 2])  # training ratings from 1 to 5
    model.rates = True
    got = evaluate(model, TEST, k=1)
    errors = np.array([4 - 5, 1 - 5, 5 - 2, 1 - 5, 1 - 1])
    assert got["rmse"] == pytest.approx(np.sqrt(np.mean(errors**2)))
    assert got["mae"] == pytest.approx(np.mean(np.abs(errors)))
    assert list(got)[:3] == ["rmse", "mae", "precision@1"]


@pytest.mark.kernel
def test_test_weights_weigh_the_rating_errors():
    model = line_model([5, 5, 5, 5, 5, 5, 5])
    test = Ratings(TEST, weights=np.array([2.0, 0.0, 1.0, 0.5, 0.5]))
    got = evaluate(model, test, metrics="mae")
    assert got["mae"] == pytest.approx((2 * 1 + 0 * 4 + 1 * 0 + 0.5 * 4 + 0.5 * 4) / 4)


@pytest.mark.kernel
def test_a_threshold_says_what_is_relevant_but_not_what_is_predicted():
    model = line_model([7, 6, 5, 4, 3, 2, 1])
    got = evaluate(model, TEST, k=5, metrics=["recall", "mrr", "mae"], threshold=4)
    assert got["recall@5"] == 1
    assert got["mrr"] == pytest.approx((1 + 1 / 5) / 2)
    assert got["mae"] == evaluate(model, TEST, metrics="mae")["mae"]


@pytest.mark.kernel
def test_coverage_popularity_and_groups_look_at_the_lists():
    model = line_model([7, 6, 5, 4, 3, 2, 1])
    # Lists of 2 without seen items: [1, 2], [0, 2], [0, 1]; counts 2 1 0 1 1 0 2.
    groups = np.array([0, 1, 1, 0]), np.array([0, 0, 1, 1, 1, 1, 1])
    got = evaluate(model, TEST, k=(1, 2), groups=groups,
                   metrics=["item_coverage", "popularity_rank@2", "cross_group_rate"])
    assert got == {"item_coverage@1": 2 / 7, "item_coverage@2": 3 / 7,
                   "popularity_rank@2": pytest.approx((4 + 6.5 + 1.5 + 6.5 + 1.5 + 4) / 6),
                   "cross_group_rate@1": 2 / 3, "cross_group_rate@2": 4 / 6}


@pytest.mark.kernel
def test_groups_belong_to_the_rows_of_the_test_set():
    model = line_model([7, 6, 5, 4, 3, 2, 1])
    test = matrix([".......", ".......", "..1....", ".1....."])  # lists of 1: [0], [1]
    got = evaluate(model, test, metrics="cross_group_rate@1",
                   groups=([1, 1, 0, 1], [0, 1, 0, 0, 0, 0, 0]))
    assert got == {"cross_group_rate@1": 0}


@pytest.mark.kernel
def test_renumbered_columns_keep_values_and_weights_together():
    ratings = Ratings(matrix(["123", ".4."]), weights=np.array([0.1, 0.2, 0.3, 0.4]),
                      user_ids=["a", "b"])
    turned = renumber_items(ratings, np.array([3, -1, 0]), 4, list("stuv"))
    assert turned.by_user.toarray().tolist() == [[3, 0, 0, 1], [0, 0, 0, 0]]
    np.testing.assert_allclose(turned.weights, [0.3, 0.1])
    assert turned.user_ids.tolist() == ["a", "b"]
    assert turned.item_ids.tolist() == list("stuv")


@pytest.mark.kernel
def test_coverage_is_a_share_of_the_candidates():
    model = line_model([7, 6, 5, 4, 3, 2, 1])
    options = {"metrics": "item_coverage", "k": 1}
    assert evaluate(model, TEST, candidates=[1, 2, 6], **options)["item_coverage@1"] == 2 / 3
    offered = matrix([".1.1...", "......1", "..1....", "......."])
    assert evaluate(model, TEST, candidates=offered, **options)["item_coverage@1"] == 3 / 4


@pytest.mark.kernel
def test_candidates_restrict_the_ranking_and_the_question():
    model = line_model([7, 6, 5, 4, 3, 2, 1])
    # Left to ask: user 0 item 1 (of 1, 6), user 1 item 6 (of 6 alone); user 2 drops out.
    got = evaluate(model, TEST, candidates=np.array([1, 6]), metrics=["mrr", "recall@1"])
    assert got == {"mrr": 1, "recall@1": 1}
    offered = matrix([".1.1...", "..1...1", "1.1....", "......."])
    assert evaluate(model, TEST, candidates=offered, metrics="mrr") == {
        "mrr": pytest.approx((1 + 1 / 2 + 1 / 2) / 3)}
    assert evaluate(model, TEST, candidates=Ratings(offered), metrics="mrr")["mrr"] == \
        evaluate(model, TEST, candidates=offered, metrics="mrr")["mrr"]


@pytest.mark.kernel
def test_a_test_cell_that_was_seen_is_not_asked_for():
    model = line_model([7, 6, 5, 4, 3, 2, 1])
    repeated = matrix(["54.....", ".......", ".......", "...1..."])
    assert evaluate(model, repeated, metrics=["recall@1"])["recall@1"] == 1 / 2
    assert evaluate(model, repeated, metrics=["recall@1"], exclude_seen=False)["recall@1"] == 1 / 4


@pytest.mark.kernel
def test_a_relevant_item_that_a_model_scores_minus_infinity_is_a_miss():
    model = line_model([7, -np.inf, 5, 4, 3, 2, 1])
    test = matrix([".1.....", ".......", ".......", "......."])
    got = evaluate(model, test, metrics=["recall@7", "mrr", "auc"])
    assert got == {"recall@7": 0, "mrr": 0, "auc": 0}


# ------------------------------------------------------------------------------ each user

@pytest.mark.kernel
def test_values_of_users_are_those_whose_mean_is_the_metric():
    model = line_model([7, 6, 5, 4, 3, 2, 1])
    model.rates, model.check_seen = True, lambda: None
    names = [name for name, kind in METRICS.items()
             if kind.reads != "catalogue" and "item_features" not in kind.needs]
    given = {"metrics": names, "k": (1, 3), "groups": ([0, 1, 1, 0], [0, 0, 1, 1, 1, 1, 1])}
    each, whole = (evaluate(model, TEST, per_user=per_user, **given) for per_user in (True, False))
    assert list(each) == list(whole)
    np.testing.assert_allclose(np.sqrt(each["rmse"].mean()), whole["rmse"])
    np.testing.assert_allclose(each["mae"].mean(), whole["mae"])
    for key in list(each)[2:]:
        assert each[key].shape == (4,)
        assert np.isnan(each[key][3])
        assert np.mean(each[key][:3]) == pytest.approx(whole[key]), key
    np.testing.assert_allclose(each["mrr"][:3], [1, 1, 1 / 3])


@pytest.mark.kernel
def test_values_of_ratings_are_errors_in_the_order_of_the_cells():
    model = line_model([9, 9, 9, -9, 0, 0, 2])  # training ratings from 1 to 5
    got = evaluate(model, TEST, metrics=["rmse", "mae"], per_user=True)
    assert got["mae"].tolist() == [1, 4, 3, 4, 0]
    assert got["rmse"].tolist() == [1, 16, 9, 16, 0]


@pytest.mark.kernel
@pytest.mark.parametrize("name", ["item_coverage", "gini", "gini_exposure@3"])
def test_a_metric_of_all_lists_has_no_value_for_each_user(name):
    with pytest.raises(ValueError, match="is a number of all lists together"):
        evaluate(line_model([7, 6, 5, 4, 3, 2, 1]), TEST, metrics=name, per_user=True)


# ------------------------------------------------------------------------- against the twin


@given(strategies.csr_matrices(5, 6), strategies.csr_matrices(5, 6), strategies.seeds,
       st.integers(1, 8), st.booleans())
def test_every_metric_equals_its_dense_twin(train, test, seed, k, exclude_seen):
    shape = np.maximum(train.shape, test.shape)
    train.resize(shape)
    test.resize(shape)
    train, test = Ratings(train), Ratings(test)
    model = Stub(2, seed).fit(train)
    S = model.P @ model.Q.T
    seen = dense(train.by_user) & exclude_seen
    relevant, everything = dense(test.by_user), np.ones(S.shape, bool)
    if not (relevant & ~seen).any():
        with pytest.raises(ValueError, match="takes part in the ranking"):
            evaluate(model, test, k=k, metrics=NAMES, exclude_seen=exclude_seen)
        return
    got = evaluate(model, test, k=k, metrics=NAMES, exclude_seen=exclude_seen)
    check(got, naive(model, S, seen, relevant, everything, k), k)
    offered = np.random.default_rng(seed).random(S.shape) < 0.7
    if (relevant & ~seen & offered).any():
        got = evaluate(model, test, k=k, metrics=NAMES, exclude_seen=exclude_seen,
                       candidates=sp.csr_array(offered))
        check(got, naive(model, S, seen, relevant, offered, k), k)


@given(strategies.seeds)
def test_renumbered_items_have_the_same_metrics(seed):
    rng = np.random.default_rng(seed)
    train, test = (samples.random_array((6, 9), density=0.3, format="csr", rng=rng)
                   for _ in range(2))
    model, order = Stub(1, seed).fit(Ratings(train)), rng.permutation(9)
    other = Stub(1, seed).fit(Ratings(train[:, order]))
    other.Q = model.Q[order]
    got, wanted = (evaluate(one, Ratings(cells), k=3, metrics=NAMES, exclude_seen=False)
                   for one, cells in ((other, test[:, order]), (model, test)))
    assert got == pytest.approx(wanted, abs=1e-12, nan_ok=True)


@given(strategies.seeds, st.sampled_from([1, 3]))
def test_ids_in_any_order_equal_the_dense_twin(seed, k):
    rng = np.random.default_rng(seed)
    train = Ratings(samples.random_array((6, 8), density=0.3, format="csr", rng=rng),
                    user_ids=list("abcdef"), item_ids=np.arange(8) * 10)
    model = Stub(2, seed).fit(train)
    users = rng.permutation(list("abcdxy"))  # x and y are new
    items = rng.permutation([0, 10, 20, 30, 40, 70, 100, 200])  # 100 and 200 are new
    test = Ratings(samples.random_array((6, 8), density=0.4, format="csr", rng=rng),
                   user_ids=users, item_ids=items)
    rows, columns = model.ratings_.user_positions(users), model.ratings_.item_positions(items)
    P = np.vstack([model.P, np.zeros((1, 2))])
    relevant, stored = np.zeros((6, 10), bool), dense(test.by_user)
    relevant[:, columns[columns >= 0]] = stored[:, columns >= 0]
    relevant[:, 8:] = stored[:, columns < 0]
    seen = np.vstack([dense(train.by_user), np.zeros((1, 8), bool)])[rows]
    S, everything = P[rows] @ model.Q.T, np.ones((6, 8), bool)
    got = evaluate(model, test, k=k, metrics=NAMES)
    check(got, naive(model, S, seen, relevant, everything, k), k)
    # As candidates: some known to both, one to the model alone, one to the test set alone.
    offered = np.isin(np.arange(8), [0, 1, 2, 3, 6])
    asked = relevant.copy()
    asked[:, 8:] = stored[:, items == 100] & [True, False]
    if (asked[:, :8] & offered & ~seen).any() or asked[:, 8:].any():
        got = evaluate(model, test, k=k, metrics=NAMES, candidates=[0, 10, 20, 30, 60, 100])
        check(got, naive(model, S, seen, asked, np.tile(offered, (6, 1)), k), k)


@given(strategies.seeds)
def test_folded_in_users_equal_the_dense_twin(seed):
    rng = np.random.default_rng(seed)
    train = Ratings(samples.random_array((4, 7), density=0.5, format="csr", rng=rng),
                    item_ids=list("abcdefg"))
    model = Stub(2, seed, rates=True).fit(train)
    names = rng.permutation(list("abcdefgz"))
    both = samples.random_array((9, 8), density=0.6, format="csr", rng=rng)
    held = rng.random(both.nnz) < 0.5
    parts = Ratings(both, item_ids=names)
    fold_in, test = parts.select_cells(~held), parts.select_cells(held)
    known = np.flatnonzero(names != "z")
    place = model.ratings_.item_positions(names)[known]
    seen, relevant = np.zeros((9, 7), bool), np.zeros((9, 8), bool)
    seen[:, place] = dense(fold_in.by_user)[:, known]
    relevant[:, place] = dense(test.by_user)[:, known]
    relevant[:, 7] = dense(test.by_user)[:, names == "z"][:, 0]
    S = seen @ model.Q @ model.Q.T
    got = evaluate(model, test, fold_in=fold_in, k=3, metrics=[*NAMES, "rmse"])
    check(got, naive(model, S, seen, relevant, np.ones((9, 7), bool), 3), 3)
    users, columns = test.users_of_cells, model.ratings_.item_positions(names)[test.by_user.indices]
    predicted = np.where(columns >= 0, S[users, columns], 0).clip(*model.rating_range_)
    assert got["rmse"] == pytest.approx(
        np.sqrt(np.mean((predicted - test.by_user.data) ** 2)))


@pytest.mark.kernel
def test_a_test_set_without_ids_has_the_rows_of_training():
    named = Ratings(TRAIN, user_ids=list("abcd"), item_ids=list("stuvwxy"))
    plain = line_model([7, 6, 5, 4, 3, 2, 1])
    model = line_model([7, 6, 5, 4, 3, 2, 1], named)
    metrics = ["mrr", "rmse", "recall"]
    assert evaluate(model, TEST, metrics=metrics) == evaluate(plain, TEST, metrics=metrics)
    inside = Ratings(TEST, user_ids=list("abcd"), item_ids=list("stuvwxy"))
    assert evaluate(model, inside, metrics=metrics) == evaluate(plain, TEST, metrics=metrics)


@pytest.mark.kernel
def test_candidates_by_id_work_for_a_test_set_without_ids():
    model = line_model([7, 6, 5, 4, 3, 2, 1], Ratings(TRAIN, item_ids=list("stuvwxy")))
    assert evaluate(model, TEST, candidates=["t", "y"], metrics="recall@1")["recall@1"] == 1


# ------------------------------------------------------------------- threads, memory, work


def larger(seed=0, n_users=900, n_items=400):
    rng = np.random.default_rng(seed)
    whole = Ratings(samples.random_array((n_users, n_items), density=0.05, format="csr", rng=rng))
    held = rng.random(whole.nnz) < 0.3
    model = Stub(4, seed, rates=True).fit(whole.select_cells(~held))
    model.P += rng.normal(size=model.P.shape).astype(np.float32)
    return model, whole.select_cells(held)


def test_the_same_bits_for_any_number_of_threads(monkeypatch):
    monkeypatch.setattr(measure, "ROWS_AT_A_TIME", 300)
    model, test = larger()
    groups = np.arange(900) % 2, np.arange(400) % 2
    metrics = [*NAMES, "rmse", "item_coverage", "popularity_rank", "cross_group_rate"]
    results = [evaluate(model, test, metrics=metrics, groups=groups, n_threads=n)
               for n in (1, 2, 8)]
    assert results[0] == results[1] == results[2]


def test_rows_at_a_time_do_not_change_the_result(monkeypatch):
    model, test = larger()
    groups = np.arange(900) % 2, np.arange(400) % 3
    metrics = [*NAMES, "item_coverage", "popularity_rank", "cross_group_rate"]
    wanted = evaluate(model, test, metrics=metrics, groups=groups)
    monkeypatch.setattr(measure, "ROWS_AT_A_TIME", 37)
    monkeypatch.setattr(topk, "BLOCK_ROWS", 5)
    assert evaluate(model, test, metrics=metrics, groups=groups) == pytest.approx(wanted)


@pytest.mark.kernel
def test_users_without_test_cells_are_not_scored():
    model = line_model([7, 6, 5, 4, 3, 2, 1])
    evaluate(model, TEST, metrics="mrr", threshold=4)
    assert model.scorer_.n_rows == 2


def test_no_users_times_items_matrix_is_held():
    rng = np.random.default_rng(0)
    train = Ratings(samples.random_array((4000, 5000), density=0.001, format="csr", rng=rng))
    test = Ratings(samples.random_array((4000, 5000), density=0.0005, format="csr", rng=rng))
    model = Stub(2).fit(train)
    metrics = ["ndcg", "auc", "item_coverage"]
    evaluate(model, test, metrics=metrics, n_threads=1)
    tracemalloc.start()
    evaluate(model, test, metrics=metrics, n_threads=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12e6  # the matrix in float32 would be 80 MB, a block is 2.6 MB


# ------------------------------------------------------------------------- cross validation


@pytest.mark.kernel
def test_cross_validation_measures_each_fold_with_a_fresh_model():
    ratings = Ratings(matrix(["54321", "12345", "52315", "11155"]))
    folds = [(ratings.select_cells(np.arange(20) % 2 == part),
              ratings.select_cells(np.arange(20) % 2 != part)) for part in (0, 1)]
    model = Stub(3, seed=4, rates=True)
    got = cross_validate(model, ratings, folds=folds, k=2, metrics=["rmse", "ndcg"])
    wanted = [evaluate(Stub(3, 4).fit(train), test, k=2, metrics=["rmse", "ndcg"])
              for train, test in folds]
    assert list(got) == ["rmse", "ndcg@2"]
    for key, values in got.items():
        assert values.tolist() == [result[key] for result in wanted]
    assert not hasattr(model, "n_users_")


@pytest.mark.kernel
def test_cross_validation_keeps_the_values_of_users_by_fold():
    ratings = Ratings(matrix(["54321", "12345", "52315"]))
    options = {"k": 2, "metrics": ["mae", "ndcg"], "random_state": 3}
    each, whole = (cross_validate(Stub(3, 4, rates=True), ratings, 2, per_user=per_user, **options)
                   for per_user in (True, False))
    assert [len(values) for values in each["mae"]] == [8, 7]
    assert [values.shape for values in each["ndcg@2"]] == [(3,), (3,)]
    for key, values in whole.items():
        assert [np.nanmean(part) for part in each[key]] == pytest.approx(values.tolist())


def test_cross_validation_cuts_seeded_folds():
    _, ratings = larger(n_users=300, n_items=30)
    first, second, other = (cross_validate(Stub(), ratings, 3, random_state=seed,
                                           metrics="recall") for seed in (1, 1, 2))
    assert first["recall@5"].shape == (3,)
    assert first["recall@5"].tolist() == second["recall@5"].tolist()
    assert first["recall@5"].tolist() != other["recall@5"].tolist()


class NeverFitted(Stub):
    def fit(self, ratings):
        raise AssertionError("fitted before the options were checked")


@pytest.mark.kernel
@pytest.mark.parametrize(("options", "error", "message"), [
    ({"metrics": "correctness"}, ValueError, "metrics must be one of"),
    ({"k": 0}, ValueError, "k must be >= 1"),
    ({"cutoff": 3}, TypeError, "cutoff"),
    ({"n_folds": 1}, ValueError, "n_folds"),
    ({"folds": []}, ValueError, "folds must hold at least one"),
    ({"folds": 2}, TypeError, r"folds must be pairs \(train, test\), got 2; n_folds says how many"),
    ({"folds": (TRAIN, TRAIN)}, TypeError, r"folds must be pairs \(train, test\), got csr_"),
    ({"folds": [(TRAIN,)]}, TypeError, r"folds must be pairs \(train, test\), got tuple"),
    ({"folds": [(TRAIN, TEST), (TRAIN,)]}, TypeError, "folds must be pairs .* got tuple"),
    ({"metrics": "entropy"}, ValueError, "item_features must be one row per item"),
    ({"metrics": "gini", "per_user": True}, ValueError, "gini is a number of all lists"),
    ({"per_user": 1}, TypeError, "per_user must be True or False"),
    ({"user_features": [["a"]]}, ValueError, "cannot be given where folds are fitted"),
])
def test_cross_validation_refuses_before_any_fit(options, error, message):
    with pytest.raises(error, match=message):
        cross_validate(NeverFitted(), TRAIN, **options)


# --------------------------------------------------------------------------------- refusals


@pytest.mark.kernel
def test_metrics_may_name_their_own_cut():
    keys = [metric.key for metric in requested(["mrr", "mrr@3", "ndcg@100", "ndcg@100", "map",
                                                "auc"], (1, 2), rates=False)]
    assert keys == ["mrr", "mrr@3", "ndcg@100", "map@1", "map@2", "auc"]
    assert requested("ndcg", np.int64(7), rates=True)[0].key == "ndcg@7"


@pytest.mark.kernel
def test_every_metric_of_the_table_is_in_the_docstring():
    text = evaluate.__doc__
    assert [name for name in METRICS if f'"{name}"' not in text] == []


@pytest.mark.kernel
def test_a_name_that_is_nearly_right_is_said():
    with pytest.raises(ValueError, match="did you mean 'hit_rate'"):
        requested("hitrate", 3, rates=False)


@pytest.mark.kernel
@pytest.mark.parametrize(("options", "error", "message"), [
    ({"metrics": "correctness"}, ValueError, "one of 'rmse', 'mae', .*got 'correctness'"),
    ({"metrics": ["ndcg", 3]}, ValueError, "metrics must be one of"),
    ({"metrics": "ndcg@ten"}, ValueError, "metrics must look like 'ndcg' or 'ndcg@10'"),
    ({"metrics": "ndcg@0"}, ValueError, "metrics must look like"),
    ({"metrics": "ndcg@"}, ValueError, "metrics must look like"),
    ({"metrics": "rmse@3"}, ValueError, "rmse takes no cut-off"),
    ({"metrics": "auc@3"}, ValueError, "auc takes no cut-off"),
    ({"per_user": "yes"}, TypeError, "per_user must be True or False"),
    ({"metrics": 3}, TypeError, "metrics must be a sequence"),
    ({"metrics": []}, ValueError, "at least one"),
    ({"k": ()}, ValueError, "at least one"),
    ({"k": (5, 0)}, ValueError, "k must be >= 1, got 0"),
    ({"k": 2.5}, TypeError, "k must be an integer"),
    ({"exclude_seen": 1}, TypeError, "exclude_seen must be True or False"),
    ({"threshold": "4"}, TypeError, "threshold must be a real number"),
    ({"threshold": np.nan}, ValueError, "threshold must be finite"),
    ({"threshold": 6}, ValueError, "threshold must leave a relevant test cell, got 6"),
    ({"n_threads": 0}, ValueError, "n_threads must be"),
    ({"metrics": "cross_group_rate"}, ValueError, "groups must be"),
    ({"metrics": "cross_group_rate", "groups": ([0], [0] * 7)}, ValueError,
     r"groups must have shapes \(4,\) and \(7,\)"),
    ({"metrics": "cross_group_rate", "groups": ([0] * 4, [0])}, ValueError,
     r"groups must have shapes"),
    ({"candidates": [1, 99]}, KeyError, "candidates not seen in training: 99"),
    ({"candidates": TRAIN.T.tocsr()}, ValueError, "candidates must have the shape of test"),
    ({"candidates": [4]}, ValueError, "takes part in the ranking"),
    ({"fold_in": TRAIN[:2]}, ValueError, "fold_in must have the users of test"),
    ({"fold_in": TRAIN[:, :3]}, ValueError, r"fold_in must have the shape .* got \(4, 3\)"),
])
def test_evaluate_refuses(options, error, message):
    with pytest.raises(error, match=message):
        evaluate(line_model([7, 6, 5, 4, 3, 2, 1]), TEST, **options)


@pytest.mark.kernel
@pytest.mark.parametrize(("test", "error", "message"), [
    (TEST.T.tocsr(), ValueError, "transposed: users are rows"),
    (TEST[:3], ValueError, r"training ratings, \(4, 7\), got \(3, 7\); give it ids"),
    (TEST[:, :3], ValueError, r"got \(4, 3\); give it ids"),
    (sp.csr_array((4, 7)), ValueError, "test must hold at least one rating"),
    (TEST.toarray(), TypeError, "scipy sparse"),
    (TRAIN, ValueError, "takes part in the ranking"),
])
def test_a_test_set_that_does_not_fit_is_refused(test, error, message):
    with pytest.raises(error, match=message):
        evaluate(line_model([7, 6, 5, 4, 3, 2, 1]), test)


@pytest.mark.kernel
@pytest.mark.parametrize("name", ["ndcg_graded", "ndcg_exponential", "rbp_graded"])
def test_negative_ratings_gain_nothing_and_are_refused(name):
    test = TEST.copy()
    test.data[2] = -1
    model = line_model([7, 6, 5, 4, 3, 2, 1])
    with pytest.raises(ValueError, match="for graded metrics, must be >= 0, got -1"):
        evaluate(model, test, metrics=name)
    assert 0 < evaluate(model, test, metrics=f"{name}@3", threshold=0)[f"{name}@3"] < 1


@pytest.mark.kernel
def test_graded_gains_follow_the_items_through_ids_and_unknown_ones():
    train = Ratings(TRAIN, item_ids=list("stuvwxy"))
    model = line_model([7, 6, 5, 4, 3, 2, 1], train)
    # Left of seen items, user 0 ranks t u v x y; z is unknown to the model.
    test = Ratings(matrix(["1.35", "....", "....", "...."]), item_ids=["v", "t", "u", "z"])
    got = evaluate(model, test, metrics="ndcg_graded", k=3, per_user=True)["ndcg_graded@3"]
    ideal = 5 + 3 / math.log2(3) + 1 / 2
    np.testing.assert_allclose(got, [(3 / math.log2(3) + 1 / 2) / ideal, np.nan, np.nan, np.nan])


@pytest.mark.kernel
def test_fold_in_with_other_users_is_refused():
    model = line_model([7, 6, 5, 4, 3, 2, 1])
    test = Ratings(TEST, user_ids=list("abcd"))
    with pytest.raises(ValueError, match="by other ids"):
        evaluate(model, test, fold_in=Ratings(TRAIN, user_ids=list("abdc")))


@pytest.mark.kernel
@pytest.mark.parametrize("metrics", ["mrr", "auc", "item_coverage"])
def test_a_nan_among_the_scores_raises(metrics):
    model = line_model([7, 6, 5, np.nan, 3, 2, 1])
    with pytest.raises(ValueError, match="NaN"):
        evaluate(model, TEST, metrics=metrics)
