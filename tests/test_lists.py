"""Formulas of recommended lists: by hand, and with ties as means over all their orders."""

from __future__ import annotations

import math
from itertools import permutations, product

import numpy as np
import pytest
import samples
import scipy.sparse as sp
import strategies
from hypothesis import given
from hypothesis import strategies as st
from test_evaluate import TEST, Stub, line_model

from mfcore import Popularity, Ratings, evaluate
from mfcore.data.features import multi_hot
from mfcore.metrics import folding, lists
from mfcore.metrics.lists import as_lists, best_lists
from mfcore.metrics.table import METRICS, PATIENCE
from mfcore.metrics.topk import best_of_block

FEATURES = multi_hot(["a", "b", "a|b", "", "a", "c", "b|c"])
OF_LISTS = [name for name, kind in METRICS.items() if kind.reads in ("lists", "catalogue")]
GIVEN = {"groups": ([0, 1, 1, 0], [0, 0, 1, 1, 1, 1, 1]), "item_features": FEATURES}


def lists_of(scores, k):
    scores = np.atleast_2d(np.asarray(scores, float))
    return best_lists(scores, *best_of_block(scores, k + 1), k)


def seen_model():
    """A model that ranks items by number, of four users, and knows what they have rated."""
    model = line_model([7, 6, 5, 4, 3, 2, 1])
    model.check_seen = lambda: None
    return model


# ------------------------------------------------------------------------------- by hand

@pytest.mark.kernel
@pytest.mark.parametrize(("scores", "k", "wanted"), [
    ([3, 1, 2, 0], 2, [1, 0, 1, 0]),
    ([3, 2, 2, 2], 2, [1, 1 / 3, 1 / 3, 1 / 3]),
    ([2, 2, 2, 2], 3, [3 / 4] * 4),
    ([2, 2, -np.inf, -np.inf], 3, [1, 1, 0, 0]),
    ([-np.inf] * 4, 2, [0] * 4),
    ([5, 5, 1, 1], 9, [1] * 4),
])
def test_chances_share_the_last_places(scores, k, wanted):
    assert lists_of(scores, k).chances.toarray()[0] == pytest.approx(wanted)


@pytest.mark.kernel
def test_weights_of_places_are_shared_by_ties():
    W = lists_of([[3, 2, 2, 1, 1, 1], [5, 4, -np.inf, 2, 1, 0]], 4).weights(np.array([8, 4, 2, 1]))
    assert W.toarray() == pytest.approx(np.array([[8, 3, 3, 1 / 3, 1 / 3, 1 / 3],
                                                  [8, 4, 0, 2, 1, 0]]))


@pytest.mark.kernel
def test_metrics_of_lists_by_hand():
    model = seen_model()
    # Lists of 2 without seen items: [1, 2], [0, 2], [0, 1]; counts 2 1 0 1 1 0 2, four users.
    # Popular: 6 and 1 or 3; 0 and 6; 0 and 1, 3 or 4; relevant: 1; 0 and 6; 2 and 3.
    got = evaluate(model, TEST, metrics=[name for name in OF_LISTS if METRICS[name].needs != (
        "seen",)], k=2, **GIVEN)
    root = math.sqrt(0.5)
    entropies = [-(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))] * 2 + [1]
    first, second = 1 / (1 + PATIENCE), PATIENCE / (1 + PATIENCE)
    ranked = [np.array([second / 2, first + second / 2]),
              np.array([first + second / 2, second / 2]), np.array([first, second])]

    def divergence(p, q):
        return sum(a * math.log(a / (0.99 * b + 0.01 * a)) for a, b in zip(p, q, strict=True) if a)

    # Rated: 0 and 4 (a, a); 1 and 3 (b, nothing); 6 (half b, half c).
    far = [divergence([1, 0, 0], [0.25, 0.75, 0]), divergence([0, 1, 0], [0.75, 0.25, 0]),
           divergence([0, 0.5, 0.5], [0.5, 0.5, 0])]
    assert got == pytest.approx({
        "item_coverage@2": 3 / 7, "gini@2": (2 * 5 - 8 + 2 * 6 - 8 + 2 * 7 - 8) * 2 / (7 * 6),
        "gini_exposure@2": (4 * PATIENCE + 4 * (1 + PATIENCE) + 12) / (21 * (1 + PATIENCE)),
        "user_coverage@2": 1, "list_length@2": 2, "popularity@2": (1 + 2 + 3) / 6,
        "popularity_rank@2": (4 + 6.5 + 1.5 + 6.5 + 1.5 + 4) / 6,
        "novelty@2": (2 + 2 + 1 + 2 + 1 + 2) / 6, "serendipity@2": (1 / 2 + 0 + 0) / 6,
        "intra_list_similarity@2": (root + root + 0) / 3, "entropy@2": np.mean(entropies),
        "entropy_ranked@2": np.mean([-(q * np.log2(q)).sum() for q in ranked]),
        "calibration@2": np.mean(far), "cross_group_rate@2": (1 + 1 + 2) / 6})


@pytest.mark.kernel
def test_what_is_relevant_and_not_popular_is_serendipity():
    model = line_model([1, 2, 7, 6, 5, 4, 3])
    # Lists of 2: [2, 3], [2, 4], [2, 3]; relevant of the third user: 2 and 3, of which 3 is one of
    # three items that share the second place by popularity.
    got = evaluate(model, TEST, metrics="serendipity", k=2, per_user=True)["serendipity@2"]
    np.testing.assert_allclose(got, [0, 0, (1 + 2 / 3) / 2, np.nan])


@pytest.mark.kernel
def test_coverage_counts_distinct_items():
    assert lists.item_coverage([[0, 3], [3, -1]], 8) == 2 / 8
    assert lists.item_coverage([[-1]], 8) == 0


@pytest.mark.kernel
def test_popularity_ranks_share_ties():
    counts = [7, 1, 7, 0]  # ranks 1.5, 3, 1.5, 4
    values = lists.mean_of(as_lists([[0, 3], [1, -1], [-1, -1]], 4), lists.popularity_ranks(counts))
    np.testing.assert_allclose(values, [(1.5 + 4) / 2, 3, np.nan])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_popularity_ranks_equal_those_of_scipy(counts):
    from scipy.stats import rankdata

    assert lists.popularity_ranks(counts).tolist() == rankdata(-np.array(counts)).tolist()


@pytest.mark.kernel
def test_gini_is_0_for_equal_counts_and_1_less_1_over_n_for_a_single_item():
    assert lists.gini(np.full(5, 3.0)) == pytest.approx(0)
    assert lists.gini(np.array([0, 0, 4.0, 0])) == pytest.approx(1 - 1 / 4)
    assert math.isnan(lists.gini(np.zeros(3)))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any))
def test_gini_is_half_the_mean_difference_over_the_mean(counts):
    x = np.array(counts, float)
    assert lists.gini(x) == pytest.approx(
        np.abs(x[:, None] - x[None]).mean() / (2 * x.mean()), abs=1e-12)


@pytest.mark.kernel
def test_the_cross_group_rate_is_the_share_of_foreign_items():
    items = [[0, 1, 2], [2, 1, -1]]
    assert folding.cross_group_rate(items, ["a", "b"], ["a", "b", "b"]) == 2 / 5
    assert folding.cross_group_rate(items, [0, 1], np.array([0, 1, 1])) == 2 / 5
    assert math.isnan(folding.cross_group_rate([[-1]], [0], [0]))


@pytest.mark.kernel
def test_two_lists_share_items_at_every_depth():
    first, second = [[0, 1, 2], [3, -1, -1], [-1, -1, -1]], [[0, 2, 5], [4, 3, -1], [1, 2, 3]]
    np.testing.assert_allclose(lists.overlap(first, second), [2 / 3, 1, np.nan])
    weights = 1 + 0.5 + 0.25
    np.testing.assert_allclose(lists.rank_biased_overlap(first, second, 0.5), [
        (1 + 0.5 * 1 / 2 + 0.25 * 2 / 3) / weights, (0.5 * 1 / 2 + 0.25 * 1 / 3) / weights, 0])
    assert lists.rank_biased_overlap(second[:1], second[:1]).tolist() == [1]
    with pytest.raises(ValueError, match=r"both have shape \(n_lists, k\), got \(1, 3\) and"):
        lists.overlap(first[:1], second)


# ---------------------------------------------------------------------------------- ties

def orders_of(scores):
    """The scores with ties broken in each order, as often as it is as probable."""
    for order in permutations(range(len(scores))):
        broken = np.full(len(scores), -np.inf)
        place = np.lexsort((order, -scores))
        broken[place] = -np.arange(len(scores), dtype=float)
        yield np.where(np.isneginf(scores), -np.inf, broken)


levels = st.lists(st.sampled_from([-np.inf, 0.0, 1.0, 2.0]), min_size=4, max_size=5)


@pytest.mark.kernel
@given(levels, st.integers(1, 6), strategies.seeds)
def test_metrics_of_lists_are_means_over_all_orders_of_ties(scores, k, seed):
    rng, scores = np.random.default_rng(seed), np.array(scores)
    n = len(scores)
    X = sp.csr_array(rng.integers(0, 3, (n, 2)).astype(float))
    relevant = sp.csr_array(rng.integers(0, 2, (1, n)).astype(float))
    values, steps = rng.random(n), rng.random(k)
    other = lists_of(rng.random(n), k)
    groups = np.array([1]), rng.integers(0, 2, n)
    formulas = [lambda L: L.chances.toarray(), lambda L: L.weights(steps).toarray(),
                lambda L: lists.mean_of(L, values), lists.lengths,
                lambda L: lists.serendipity(L, other, relevant),
                lambda L: lists.foreign(L, *groups),
                lambda L: lists.intra_list_similarity(L, X),
                lambda L: lists.coverage(np.asarray(lists.unlisted(L).sum(axis=0)))]
    tied, untied = lists_of(scores, k), [lists_of(one, k) for one in orders_of(scores)]
    for formula in formulas:
        np.testing.assert_allclose(formula(tied), np.mean([formula(L) for L in untied], axis=0),
                                   atol=1e-12)


@pytest.mark.kernel
def test_coverage_of_several_tied_lists_is_a_mean_over_the_orders_of_all():
    scores = np.array([[1.0, 1, 1], [0, 2, 2]])
    each = [np.stack(ways) for ways in product(*map(orders_of, scores))]
    wanted = np.mean([lists.coverage(np.asarray(lists.unlisted(lists_of(one, 1)).sum(axis=0)))
                      for one in each])
    got = lists.coverage(np.asarray(lists.unlisted(lists_of(scores, 1)).sum(axis=0)))
    assert got == pytest.approx(wanted)


@given(strategies.seeds)
def test_renumbered_items_have_the_same_metrics_of_lists(seed):
    rng = np.random.default_rng(seed)
    train, test = (samples.random_array((6, 9), density=0.3, format="csr", rng=rng)
                   for _ in range(2))
    model, order = Stub(1, seed).fit(Ratings(train)), rng.permutation(9)
    other = Stub(1, seed).fit(Ratings(train[:, order]))
    other.Q = model.Q[order]
    X, groups = rng.integers(0, 3, (9, 2)), rng.integers(0, 2, 9)
    names = [name for name in OF_LISTS if name not in ("folding", "spurious_rate", "calibration")]
    got, wanted = (evaluate(one, Ratings(cells), k=3, metrics=names, exclude_seen=False,
                            item_features=X[way], groups=(np.arange(6) % 2, groups[way]))
                   for one, cells, way in ((other, test[:, order], order),
                                           (model, test, slice(None))))
    assert got == pytest.approx(wanted, abs=1e-12, nan_ok=True)


def test_a_few_rows_at_a_time_give_the_same_metrics(monkeypatch):
    from mfcore.metrics import measure

    rng = np.random.default_rng(3)
    train, test = (samples.random_array((60, 40), density=0.1, format="csr", rng=rng)
                   for _ in range(2))
    model = Stub(2, 1).fit(train)
    model.check_seen = lambda: None
    given = {"groups": (np.arange(60) % 3, np.arange(40) % 3),
             "item_features": rng.integers(0, 3, (40, 3)), "metrics": OF_LISTS, "k": (2, 5)}
    wanted = evaluate(model, test, **given)
    monkeypatch.setattr(measure, "LIST_CELLS", 120)
    assert evaluate(model, test, **given) == pytest.approx(wanted)


# ------------------------------------------------------------------------------ features

@pytest.mark.kernel
@pytest.mark.parametrize("form", [
    FEATURES, FEATURES.matrix, FEATURES.matrix.toarray(), FEATURES.matrix.toarray().tolist(),
    ["a", "b", "a|b", "", "a", "c", "b|c"], [["a"], ["b"], ["a", "b"], [], ["a"], ["c"], "b|c"]])
def test_features_come_in_any_form(form):
    np.testing.assert_array_equal(lists.item_matrix(form, 7).toarray(), FEATURES.matrix.toarray())


@pytest.mark.kernel
@pytest.mark.parametrize(("form", "error", "message"), [
    (FEATURES, ValueError, "a row for each of the 6 items"),
    (3, TypeError, "item_features must be a sequence"), (np.zeros((6, 0)), ValueError, "column"),
    (np.full((6, 1), np.nan), ValueError, "item_features must be finite"),
    ([[None]] * 6, TypeError, "item_features must be numbers"),
    ([[1.0], [2.0, 3.0]] * 3, TypeError, "item_features must be a rectangular array"),
])
def test_features_that_do_not_fit_are_refused(form, error, message):
    with pytest.raises(error, match=message):
        lists.item_matrix(form, 6)


@pytest.mark.kernel
@pytest.mark.parametrize(("metric", "given", "message"), [
    ("entropy", {}, "item_features must be one row per item for entropy, got None"),
    ("cross_group_rate", {}, r"groups must be \(user_groups, item_groups\) for cross_group_rate"),
    ("calibration", {"item_features": -np.ones((7, 2))}, "entropy and calibration must be >= 0"),
])
def test_what_a_metric_needs_is_asked_for(metric, given, message):
    with pytest.raises(ValueError, match=message):
        evaluate(seen_model(), TEST, metrics=metric, **given)


@pytest.mark.kernel
def test_items_without_features_say_nothing():
    model = seen_model()
    got = evaluate(model, TEST, k=2, item_features=np.zeros((7, 2)), per_user=True,
                   metrics=["intra_list_similarity", "entropy", "calibration"])
    assert got["intra_list_similarity@2"][:3].tolist() == [0, 0, 0]
    assert np.isnan(got["entropy@2"]).all()
    assert np.isnan(got["calibration@2"]).all()


@pytest.mark.kernel
def test_lists_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="user_groups"):
        folding.cross_group_rate([[0]], [0, 1], [0])
    with pytest.raises(ValueError, match="items must have shape"):
        folding.cross_group_rate([0], [0], [0])
    with pytest.raises(IndexError, match=r"items must be in \[0, 0\]"):
        folding.cross_group_rate([[1]], [0], [0])
    with pytest.raises(IndexError, match=r"items must be in \[0, 1\]"):
        as_lists([[2]], 2)
    with pytest.raises(ValueError, match="n_items must be"):
        lists.item_coverage([[0]], 0)




@pytest.mark.parametrize("name", ["items", "exclude_items"])
@pytest.mark.parametrize("given", [[0.5], [-1], [10 ** 6]])
def test_what_an_error_names_is_the_argument_that_was_given(name, given):
    model = Popularity().fit(samples.matrix())
    with pytest.raises((TypeError, IndexError), match=f"^{name} must be"):
        model.recommend(**{name: given})


def test_candidates_that_are_no_numbers_of_items_are_called_candidates():
    ratings = Ratings(samples.matrix())
    with pytest.raises(TypeError, match="^candidates must be"):
        evaluate(Popularity().fit(ratings), ratings, candidates=[float("nan")])
