"""Formulas of the metrics: by hand, against scikit-learn, and their kernels naively."""

from __future__ import annotations

import math
from itertools import combinations, permutations

import numpy as np
import pytest
import strategies
from hypothesis import assume, given
from hypothesis import strategies as st

from mfcore.kernels import ranks as kernels
from mfcore.metrics import ranking, rating
from mfcore.metrics.ranking import NEVER, Ranks, Scored
from mfcore.metrics.table import METRICS

# Three users: hits at ranks 1 and 4 of 3 relevant items (one never found), a single
# relevant item at rank 2, and nobody home.

def ranks_of(lists, gains=None) -> Ranks:
    """Build from one list of ranks a user, in any order unless there are gains."""
    return Ranks([rank for ranks in lists for rank in sorted(ranks)],
                 np.cumsum([0, *map(len, lists)]), gains=gains)


def formulas(*reads):
    """The formulas of metrics that read these, by name."""
    return {name: getattr(ranking, kind.function or name)
            for name, kind in METRICS.items() if kind.reads in reads}


BY_HAND = ranks_of([[4, 1, NEVER], [2], []])


def log2(x):
    return math.log2(x)


# -------------------------------------------------------------------------------- ratings


def test_rmse_and_mae_by_hand():
    assert rating.rmse([1, 2, 3], [1.0, 4.0, 2.0]) == pytest.approx(math.sqrt(5 / 3))
    assert rating.mae([1, 2, 3], [1.0, 4.0, 2.0]) == pytest.approx(1.0)


def test_weights_count_a_cell_more_often():
    truth, predicted = [1.0, 2.0, 3.0], [1.5, 4.0, 2.0]
    assert rating.rmse(truth, predicted, [1, 0, 2]) == pytest.approx(
        rating.rmse([1, 3, 3], [1.5, 2, 2]))
    assert rating.mae(truth, predicted, [1, 0, 2]) == pytest.approx((0.5 + 2) / 3)


@given(st.lists(st.tuples(strategies.FLOATS, strategies.FLOATS, strategies.coefficients),
                min_size=1, max_size=9))
def test_rating_errors_equal_those_of_scikit_learn(cells):
    metrics = pytest.importorskip("sklearn.metrics")
    truth, predicted, weights = np.array(cells).T
    assert rating.rmse(truth, predicted, weights) == pytest.approx(
        metrics.root_mean_squared_error(truth, predicted, sample_weight=weights))
    assert rating.mae(truth, predicted, weights) == pytest.approx(
        metrics.mean_absolute_error(truth, predicted, sample_weight=weights))


def test_rating_errors_of_small_integers_do_not_wrap():
    assert rating.rmse(np.array([5], np.uint8), np.array([250], np.uint8)) == 245
    assert rating.mae(np.array([5], np.uint8), np.array([2], np.uint8)) == 3


@pytest.mark.parametrize(("truth", "predicted", "weights", "message"), [
    ([], [], None, "truth must hold at least one rating"),
    ([1.0, 2.0], [1.0], None, r"predicted must have shape \(2,\)"),
    ([1.0, np.nan], [1.0, 2.0], None, "truth must be finite"),
    ([1.0, 2.0], [1.0, np.inf], None, "predicted must be finite"),
    ([1.0, 2.0], [1.0, 2.0], [1.0], r"weights must have shape \(2,\)"),
    ([1.0, 2.0], [1.0, 2.0], [1.0, -1.0], "weights must be >= 0"),
    ([1.0, 2.0], [1.0, 2.0], [1.0, np.nan], "weights must be finite"),
    ([1.0, 2.0], [1.0, 2.0], [0, 0], "weights must not all be 0"),
])
@pytest.mark.parametrize("error", [rating.rmse, rating.mae])
def test_rating_errors_refuse(error, truth, predicted, weights, message):
    with pytest.raises(ValueError, match=message):
        error(truth, predicted, weights)


# --------------------------------------------------------------------------- ranks to values


@pytest.mark.kernel
@pytest.mark.parametrize(("metric", "k", "wanted"), [
    (ranking.precision, 1, [1, 0]),
    (ranking.precision, 4, [2 / 4, 1 / 4]),
    (ranking.recall, 4, [2 / 3, 1]),
    (ranking.recall, 2, [1 / 3, 1]),
    (ranking.recall_capped, 2, [1 / 2, 1]),
    (ranking.recall_capped, 4, [2 / 3, 1]),
    (ranking.f1, 4, [2 * 2 / (4 + 3), 2 / (4 + 1)]),
    (ranking.hit_rate, 1, [1, 0]),
    (ranking.hit_rate, 2, [1, 1]),
    (ranking.dcg, 4, [1 + 1 / log2(5), 1 / log2(3)]),
    (ranking.rank_biased_precision, 3, [0.15, 0.15 * 0.85]),
    (ranking.rank_biased_precision, 9, [0.15 * (1 + 0.85**3), 0.15 * 0.85]),
    (ranking.ndcg, 1, [1, 0]),
    (ranking.ndcg, 2, [1 / (1 + 1 / log2(3)), 1 / log2(3)]),
    (ranking.ndcg, 9, [(1 + 1 / log2(5)) / (1 + 1 / log2(3) + 1 / 2), 1 / log2(3)]),
    (ranking.average_precision, 2, [1 / 2, 1 / 2]),
    (ranking.average_precision, 5, [(1 + 2 / 4) / 3, 1 / 2]),
    (ranking.reciprocal_rank, None, [1, 1 / 2]),
    (ranking.reciprocal_rank, 1, [1, 0]),
])
def test_ranking_metrics_by_hand(metric, k, wanted):
    np.testing.assert_allclose(metric(BY_HAND, k), [*wanted, np.nan], rtol=1e-15)


@pytest.mark.kernel
@pytest.mark.parametrize(("metric", "k", "wanted"), [
    # Others (ranks 2, 3, 5 of 5 candidates) before the two found ones: 0 and 2; three relevant.
    (ranking.partial_area, 1, 1 / 3), (ranking.partial_area, 3, (3 + 1) / 9),
    (ranking.partial_area, 8, (3 + 1) / 9), (ranking.top_area, 1, 1), (ranking.top_area, 2, 1 / 2),
    # Of six items, one never found: hits 1 and 2 of k and m = 3.
    (ranking.accuracy, 1, 1 - 2 / 6), (ranking.accuracy, 4, 1 - 3 / 6),
    (ranking.mcc, 1, (6 - 3) / math.sqrt(1 * 3 * 5 * 3)), (ranking.mcc, 4, 0),
])
def test_metrics_of_all_scores_by_hand(metric, k, wanted):
    scored = Scored(np.array([5.0, 0.0]), np.array([2, 0]), np.array([5, 4]))
    got = metric(ranks_of([[1, 4, NEVER], []]), k, scored)
    np.testing.assert_allclose(got, [wanted, np.nan], rtol=1e-14, atol=1e-15)


@pytest.mark.kernel
def test_graded_metrics_by_hand():
    ranks = ranks_of([[1, 3, NEVER], [2], [1], []], gains=[2, 3, 1, 3, 0])
    ideal = 3 + 2 / log2(3) + 1 / 2
    np.testing.assert_allclose(ranking.ndcg_graded(ranks, 3), [
        (2 + 3 / 2) / ideal, 1 / log2(3), np.nan, np.nan])
    np.testing.assert_allclose(ranking.ndcg_graded(ranks, 1), [2 / 3, 0, np.nan, np.nan])
    ideal = 7 + 3 / log2(3) + 1 / 2
    np.testing.assert_allclose(ranking.ndcg_exponential(ranks, 3), [
        (3 + 7 / 2) / ideal, 1 / log2(3), np.nan, np.nan])
    np.testing.assert_allclose(ranking.graded_rank_biased_precision(ranks, 3, 0.5), [
        0.5 * (2 / 3 + 1 / 4), 0.25, 0, np.nan])


@pytest.mark.kernel
def test_a_user_whose_items_are_never_found_scores_zero():
    ranks = ranks_of([[NEVER, NEVER]])
    for name, metric in formulas("ranks").items():
        assert metric(ranks, 3).tolist() == [2 * (name == "n_relevant")]
    assert ranking.reciprocal_rank(ranks).tolist() == [0]
    scored = Scored(np.zeros(1), np.zeros(1), np.array([7]))
    assert [metric(ranks, 3, scored)[0] for metric in (
        ranking.area, ranking.partial_area, ranking.top_area)] == [0, 0, 0]


@pytest.mark.kernel
def test_users_without_relevant_items_are_left_out_of_the_mean():
    assert ranking.mean_over_users(ranking.precision(BY_HAND, 4)) == pytest.approx(3 / 8)
    assert math.isnan(ranking.mean_over_users(np.array([np.nan])))


@pytest.mark.kernel
@given(st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=6, unique=True),
                min_size=1, max_size=4), st.integers(1, 50))
def test_the_ideal_ranking_scores_one_where_one_can_be_reached(lists, k):
    best = ranks_of([range(1, len(ranks) + 1) for ranks in lists])
    for metric in (ranking.recall_capped, ranking.hit_rate, ranking.ndcg,
                   ranking.average_precision, ranking.reciprocal_rank):
        np.testing.assert_allclose(metric(best, k), 1, rtol=1e-14)
        assert (metric(ranks_of(lists), k) <= 1 + 1e-14).all()


@st.composite
def graded(draw):
    """Distinct scores of 2 to 12 items, and which of them are relevant."""
    n = draw(st.integers(2, 12))
    scores = np.array(draw(st.permutations(range(n))), float)
    relevant = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    assume(0 < relevant.sum() < n)
    ranks = np.empty(n, int)
    ranks[np.argsort(-scores)] = np.arange(1, n + 1)
    return scores, relevant, ranks_of([ranks[relevant].tolist()]), n


@given(graded(), st.integers(1, 15))
def test_ndcg_equals_that_of_scikit_learn(case, k):
    metrics = pytest.importorskip("sklearn.metrics")
    scores, relevant, ranks, _ = case
    assert ranking.ndcg(ranks, k)[0] == pytest.approx(
        metrics.ndcg_score(relevant[None].astype(float), scores[None], k=k))


@given(graded(), st.integers(1, 15), st.integers(0, 2**32))
def test_graded_ndcg_equals_that_of_scikit_learn(case, k, seed):
    metrics = pytest.importorskip("sklearn.metrics")
    scores, relevant, ranks, _ = case
    gains = np.where(relevant, np.random.default_rng(seed).integers(1, 6, len(scores)), 0)
    by_rank = gains[np.argsort(-scores)]
    ranks = Ranks(ranks.ranks, ranks.indptr, gains=by_rank[by_rank > 0])
    assert ranking.ndcg_graded(ranks, k)[0] == pytest.approx(
        metrics.ndcg_score(gains[None], scores[None], k=k))
    assert ranking.ndcg_exponential(ranks, k)[0] == pytest.approx(
        metrics.ndcg_score(2.0**gains[None] - 1, scores[None], k=k))


@given(graded(), st.integers(1, 12))
def test_what_is_chosen_and_what_is_relevant_correlate_as_in_scikit_learn(case, k):
    metrics = pytest.importorskip("sklearn.metrics")
    scores, relevant, ranks, n = case
    shown = np.argsort(np.argsort(-scores)) < k
    scored = Scored(ranks.ranks.sum(keepdims=True), ranks.n_relevant, np.array([n]))
    assert ranking.accuracy(ranks, k, scored)[0] == pytest.approx(
        metrics.accuracy_score(relevant, shown))
    assert ranking.mcc(ranks, k, scored)[0] == pytest.approx(
        metrics.matthews_corrcoef(relevant, shown))


@given(graded(), st.integers(1, 12))
def test_partial_areas_count_pairs_with_the_first_others(case, k):
    scores, relevant, ranks, n = case
    firsts = np.sort(scores[~relevant])[::-1][:k]
    scored = Scored(ranks.ranks.sum(keepdims=True), ranks.n_relevant, np.array([n]))
    top = np.sort(scores[relevant])[::-1][:k]
    for chosen, metric in ((scores[relevant], ranking.partial_area), (top, ranking.top_area)):
        assert metric(ranks, k, scored)[0] == pytest.approx(
            np.mean(chosen[:, None] > firsts[None]))
    assert ranking.partial_area(ranks, n, scored)[0] == pytest.approx(
        ranking.area(ranks, None, scored)[0])


@given(graded())
def test_uncut_average_precision_and_reciprocal_rank_equal_those_of_scikit_learn(case):
    metrics = pytest.importorskip("sklearn.metrics")
    scores, relevant, ranks, n = case
    # With k = n both divide by the number of relevant items.
    assert ranking.average_precision(ranks, n)[0] == pytest.approx(
        metrics.average_precision_score(relevant, scores))
    first = np.zeros(n, bool)
    first[np.flatnonzero(relevant)[np.argmax(scores[relevant])]] = True
    assert ranking.reciprocal_rank(ranks)[0] == pytest.approx(
        metrics.label_ranking_average_precision_score(first[None], scores[None]))


@given(graded(), st.integers(1, 12))
def test_precision_and_recall_equal_those_of_a_classifier_of_the_first_k(case, k):
    metrics = pytest.importorskip("sklearn.metrics")
    scores, relevant, ranks, n = case
    k = min(k, n)
    shown = np.zeros(n, bool)
    shown[np.argsort(-scores)[:k]] = True
    assert ranking.precision(ranks, k)[0] == pytest.approx(
        metrics.precision_score(relevant, shown))
    assert ranking.recall(ranks, k)[0] == pytest.approx(metrics.recall_score(relevant, shown))


# -------------------------------------------------------------------------- ranks from scores


def naive_ranks(values, relevant):
    """Return (rank, ties) of each relevant item that is above -inf, ascending."""
    return sorted(((values > values[j]).sum() + 1, (values == values[j]).sum())
                  for j in relevant if values[j] > -np.inf)


@st.composite
def scored(draw):
    """Scores (m, n) with ties and masked cells; relevant columns of each row as CSR."""
    m, n = draw(st.integers(1, 3)), draw(st.integers(1, 40))
    levels = st.sampled_from([-np.inf, -1.5, 0.0, 0.1, 2.0])
    values = draw(st.lists(levels if draw(st.booleans()) else strategies.FLOATS,
                           min_size=m * n, max_size=m * n))
    columns = [sorted(draw(st.sets(st.integers(0, n - 1), max_size=6))) for _ in range(m)]
    stops = np.cumsum([len(c) for c in columns])
    starts = stops - [len(c) for c in columns]
    scores = np.array(values, draw(st.sampled_from([np.float32, np.float64]))).reshape(m, n)
    return scores, starts, stops, np.array(sum(columns, []), np.int64)


def leading_ranks(scores, starts, stops, columns, depth, *out):
    """Call the kernel on all rows of exact scores."""
    every, exact = np.arange(len(scores)), np.zeros(len(scores))
    return kernels.leading_ranks(scores, every, starts, stops, columns, depth, exact, *out,
                                 np.zeros(len(columns), bool))


def midranks(scores, rows, columns, rounding=0.0):
    """Return the midranks of cells, and the first chunk with something near them."""
    above, near, first = np.empty((3, len(rows)), np.int64)
    kernels.count_around(scores, rows, columns, np.full(len(scores), rounding), above, near, first)
    return np.where(near > 0, above + (near + 1) / 2, np.nan), near, first


@pytest.mark.kernel
@given(scored(), st.integers(0, 6))
def test_leading_ranks_equal_those_of_counting(case, depth):
    scores, starts, stops, columns = case
    places = starts + np.arange(len(starts))  # one spare place per row
    ranks = np.full(len(columns) + len(starts), NEVER, np.int64)
    ties, which = np.ones_like(ranks), np.full_like(ranks, -1)
    assert leading_ranks(scores, starts, stops, columns, depth, places, ranks, ties, which) == -1
    for row, values in enumerate(scores):
        wanted = naive_ranks(values, columns[starts[row]:stops[row]])
        first_beyond = min([rank for rank, _ in wanted if rank > depth], default=depth)
        exact = sum(rank <= first_beyond for rank, _ in wanted)
        cells = slice(places[row], places[row] + stops[row] - starts[row] + 1)
        assert list(zip(ranks[cells], ties[cells], strict=True))[:exact] == wanted[:exact]
        assert (ranks[cells][exact:] == NEVER).all()
        own = which[cells][:-1]
        assert sorted(own) == list(range(starts[row], stops[row]))
        by_rank = [(values > values[columns[place]]).sum() + 1 for place in own[:exact]]
        assert by_rank == [rank for rank, _ in wanted[:exact]]


@st.composite
def tied(draw):
    """Scores of up to 6 items with ties, and which of them are relevant."""
    n = draw(st.integers(1, 6))
    scores = np.array(draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)))
    relevant = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    assume(relevant.any())
    return scores, np.flatnonzero(relevant), draw(st.integers(0, 2))


@pytest.mark.kernel
@given(tied(), st.integers(1, 8), st.integers(0, 2**32))
def test_metrics_of_ties_are_means_over_all_their_orders(case, k, seed):
    scores, relevant, n_unknown = case
    gains = np.random.default_rng(seed).integers(0, 4, len(relevant) + n_unknown)
    gains[0] = 3                    # (the largest is the same in all orders)
    best = np.argsort(-scores[relevant], kind="stable")
    ranks, ties = zip(*naive_ranks(scores, relevant), strict=True)
    found = Ranks([*ranks, *[NEVER] * n_unknown], [0, len(gains)], [*ties, *[1] * n_unknown],
                  [*gains[:len(relevant)][best], *gains[len(relevant):]])
    orders = [orderly(scores, relevant, gains, order) for order in permutations(range(len(scores)))]
    sums = [np.array([np.sum(ranks) + (np.sum(ties) - len(ties)) / 2])] + [
        each.ranks[each.ranks < NEVER].sum(keepdims=True) for each in orders]
    scored = [Scored(total, np.array([len(relevant)]), np.array([len(scores)])) for total in sums]
    for name, metric in formulas("ranks", "scores").items():
        rest = [(each,) if METRICS[name].reads == "scores" else () for each in scored]
        each = [metric(ranks, k, *more)[0] for ranks, more in zip(orders, rest[1:], strict=True)]
        assert metric(found, k, *rest[0])[0] == pytest.approx(
            np.mean(each), abs=1e-12, nan_ok=True), name


def orderly(scores, relevant, gains, order):
    """The ranks of relevant items where ties are in one order; items beyond them are unknown."""
    places = np.argsort(np.lexsort((order, -scores)))[relevant] + 1
    return Ranks([*np.sort(places), *[NEVER] * (len(gains) - len(places))], [0, len(gains)],
                 gains=[*gains[:len(places)][np.argsort(places)], *gains[len(places):]])


@pytest.mark.kernel
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 8), st.integers(0, 6))
def test_the_first_relevant_items_of_ties_win_what_they_win_on_average(b, c, limit, taken):
    taken = min(taken, c)
    ways = [sum(max(0, limit - (place - t)) for t, place in enumerate(way[:taken]))
            for way in combinations(range(b + c), c)]
    got = kernels.top_wins(*(np.array([each]) for each in (b, c, taken, limit)))
    assert got[0] == pytest.approx(np.mean(ways))


@pytest.mark.kernel
def test_many_ties_do_not_underflow():
    got = kernels.top_wins(*(np.array([each]) for each in (10_000, 200, 200, 10_001)))
    mean = 10_000 * np.arange(1, 201) / 201             # of the negative hypergeometric
    assert got[0] == pytest.approx(np.sum(10_001 - mean), rel=1e-6)


@given(scored())
def test_auc_equals_that_of_scikit_learn_with_ties(case):
    metrics = pytest.importorskip("sklearn.metrics")
    scores, starts, stops, columns = case
    rows = np.repeat(np.arange(len(scores)), stops - starts)
    midrank = midranks(scores, rows, columns)[0]
    found = ~np.isnan(midrank)
    sums = np.bincount(rows[found], midrank[found], len(scores))
    n_found = np.bincount(rows[found], minlength=len(scores))
    area = ranking.auc(sums, n_found, n_found, kernels.count_candidates(scores))
    for row, values in enumerate(scores):
        relevant = np.isin(np.arange(values.size), columns[starts[row]:stops[row]])
        kept = values > -np.inf
        if len(set(relevant[kept])) < 2:
            assert np.isnan(area[row])
        else:
            wanted = metrics.roc_auc_score(relevant[kept], values[kept])
            assert area[row] == pytest.approx(wanted, abs=1e-12)


@pytest.mark.kernel
def test_auc_by_hand():
    # Two relevant items at ranks 1 and 4 of 5 win 3 and 1 of their three pairs each.
    assert ranking.auc(np.array([5.0]), np.array([2]), np.array([2]), np.array([5])) == 4 / 6
    # A third one that the model does not know wins none of its three pairs.
    assert ranking.auc(np.array([5.0]), np.array([2]), np.array([3]), np.array([5])) == 4 / 9


@pytest.mark.kernel
def test_midranks_share_a_tie_and_ignore_masked_cells():
    scores = np.array([[1.0, 2.0, 1.0, -np.inf, 1.0, 0.0]])
    found, near, _ = midranks(scores, np.zeros(3, int), np.array([0, 1, 3]))
    assert str(found.tolist()) == "[3.0, 1.0, nan]"
    assert near.tolist() == [3, 1, 0]
    assert kernels.count_candidates(scores).tolist() == [5]
    scores = np.array([[1.0, np.nan], [2.0, 0.0]])
    assert kernels.count_candidates(scores).tolist() == [-1, 2]


@pytest.mark.kernel
def test_cells_in_any_order_are_counted_in_their_own_rows():
    random = np.random.default_rng(0)
    scores = random.integers(0, 6, (3, 40)).astype(float)
    rows, columns = random.integers(0, 3, 60), random.integers(0, 40, 60)
    found, near, _ = midranks(scores, rows, columns)
    value, own = scores[rows, columns][:, None], scores[rows]
    np.testing.assert_array_equal(near, (own == value).sum(axis=1))
    np.testing.assert_array_equal(found, (own > value).sum(axis=1) + (near + 1) / 2)


@pytest.mark.kernel
@given(st.integers(0, 600), st.integers(0, 600), strategies.seeds)
def test_what_is_near_a_score_is_counted_and_no_column_before_the_first_holds_it(j, i, seed):
    scores = np.random.default_rng(seed).choice(np.arange(0.0, 90.0, 3.0), (2, 601))
    scores[1, i], scores[1, j] = 100.5, 100.0
    found, near, first = midranks(scores, np.ones(2, int), np.array([j, 0]), rounding=1.0)
    assert near[0] == 1 + (i != j)
    assert found[0] == 1 + (i != j) / 2
    assert first[0] <= min(i, j) < first[0] + kernels.CHUNK
    if 0 not in (i, j):
        assert near[1] == (scores[1] == scores[1, 0]).sum()
        assert found[1] == (scores[1] > scores[1, 0]).sum() + (near[1] + 1) / 2


@pytest.mark.kernel
@pytest.mark.parametrize("place", [0, 2, 4])
def test_leading_ranks_name_the_row_with_a_nan(place):
    scores = np.ones((3, 5))
    scores[2, place] = np.nan
    starts = np.array([0, 1, 2])
    got = leading_ranks(scores, starts, starts + 1, np.array([1, 2, 2]), 3, starts,
                        *np.zeros((3, 3), np.int64))
    assert got == 2
