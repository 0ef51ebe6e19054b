"""Maximal marginal relevance: against a twin that follows the formula item by item."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import strategies
from hypothesis import given
from hypothesis import strategies as st

from mfcore import Popularity, rerank
from mfcore.data.synthetic import planted
from mfcore.metrics import lists
from mfcore.metrics import rerank as reranking


def naive(items, scores, X, k, delta):
    """One user's choice, a candidate at a time."""
    length = np.linalg.norm(X, axis=1)
    U = X / np.where(length > 0, length, 1)[:, None]
    known = [place for place in range(len(items)) if scores[place] > -np.inf]
    wide = max(scores[known]) - min(scores[known]) if known else 0
    s = {place: (scores[place] - min(scores[known])) / (wide or 1) for place in known}
    chosen = [max(known, key=lambda place: scores[place])] if known else []
    while len(chosen) < min(k, len(known)):
        chosen.append(max((place for place in known if place not in chosen), key=lambda place: (
            (1 - delta) * s[place]
            - delta * max(U[items[place]] @ U[items[other]] for other in chosen))))
    return chosen


@pytest.mark.kernel
@given(strategies.seeds, st.integers(1, 6), st.sampled_from([0.0, 0.3, 0.8, 1.0]))
def test_each_item_is_the_most_relevant_least_like_those_before(seed, k, delta):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(12, 3)) * (rng.random((12, 1)) < 0.8)
    items = np.array([rng.permutation(12)[:6] for _ in range(4)])
    scores = rng.normal(size=(4, 6))
    scores[rng.random((4, 6)) < 0.2] = -np.inf
    got, values = rerank(items, scores, X, k, diversity=delta)
    for row in range(4):
        wanted = naive(items[row], scores[row], X, k, delta)
        left = np.count_nonzero(values[row] > -np.inf)
        assert got[row, :left].tolist() == items[row, wanted].tolist()
        assert values[row, :left].tolist() == scores[row, wanted].tolist()
        assert (values[row, left:] == -np.inf).all()


@pytest.mark.kernel
def test_without_diversity_the_order_stays():
    items, scores = np.array([[3, 1, 2, 0]]), np.array([[9.0, 5.0, 5.0, 1.0]])
    got = rerank(items, scores, np.eye(4), 3, diversity=0)
    assert got[0].tolist() == [[3, 1, 2]]


@pytest.mark.kernel
def test_twins_of_what_is_chosen_come_last():
    X = sp.csr_array(np.array([[1.0, 0], [1, 0], [0, 1], [0, 0]]))
    got, scores = rerank([["a", "b", "c", "d"]], [[4.0, 3.9, 2.0, 1.0]], X, 4, diversity=0.6,
                         item_ids=list("abcd"))
    assert got.tolist() == [["a", "c", "d", "b"]]
    assert scores.tolist() == [[4.0, 2.0, 1.0, 3.9]]


def test_lists_become_more_diverse_as_diversity_grows(monkeypatch):
    data = planted(60, 50, random_state=1)
    model = Popularity().fit(data.ratings)
    found = model.recommend(k=30)
    similarity = []
    for delta in (0, 0.3, 0.7, 1):
        items, _ = rerank(*found, data.item_features, 8, diversity=delta)
        similarity.append(np.nanmean(lists.intra_list_similarity(
            lists.as_lists(items, 50), data.item_features.matrix)))
    assert similarity == sorted(similarity, reverse=True)
    assert similarity[-1] < similarity[0] - 0.1
    wanted = rerank(*found, data.item_features, 8)
    monkeypatch.setattr(reranking, "ROWS", 7)
    np.testing.assert_array_equal(rerank(*found, data.item_features, 8)[0], wanted[0])


@pytest.mark.kernel
@pytest.mark.parametrize(("changes", "error", "message"), [
    ({"k": 0}, ValueError, r"k must be in \[1, 3\], got 0"),
    ({"k": 4}, ValueError, r"k must be in \[1, 3\], got 4"),
    ({"diversity": 1.5}, ValueError, r"diversity must be finite and in \[0, 1\]"),
    ({"diversity": "much"}, TypeError, "diversity must be a real number"),
    ({"items": [[0, 1, 1]]}, ValueError, "items must be distinct within a row, got one twice in"),
    ({"items": [[0, 1, 9]]}, IndexError, r"items must be in \[0, 3\], got 9"),
    ({"items": [[0, 1]]}, ValueError, r"shape \(n_users, m\), got \(1, 2\) and \(1, 3\)"),
    ({"items": [0, 1, 2], "scores": [1.0, 2.0, 3.0]}, ValueError, r"shape \(n_users, m\)"),
    ({"scores": [[1.0, np.nan, 0]]}, ValueError, "scores must be finite, .* got nan in row 0"),
    ({"scores": [[1.0, np.inf, 0]]}, ValueError, "got inf in row 0"),
    ({"scores": [list("abc")]}, TypeError, "scores must be numbers"),
    ({"item_features": np.full((4, 1), np.nan)}, ValueError, "item_features must be finite"),
    ({"item_features": None}, TypeError, "item_features must be"),
    ({"item_ids": list("abcd")}, KeyError, "items must be among item_ids, got 0, 1, 2"),
    ({"item_ids": [5, 6]}, ValueError, "a row for each of the 2 items"),
    ({"item_ids": [5, 5, 6, 7]}, ValueError, "item_ids must be distinct"),
])
def test_bad_candidates_are_refused(changes, error, message):
    given = {"items": [[0, 1, 2]], "scores": [[3.0, 2.0, 1.0]], "item_features": np.eye(4),
             "k": 2, **changes}
    with pytest.raises(error, match=message):
        rerank(given.pop("items"), given.pop("scores"), given.pop("item_features"), **given)


@pytest.mark.kernel
def test_missing_places_need_no_row_of_features():
    got, scores = rerank([[2, -1, -1]], [[1.0, -np.inf, -np.inf]], np.eye(3), 2)
    assert (got.tolist(), scores.tolist()) == ([[2, -1]], [[1.0, -np.inf]])
    assert rerank(np.empty((0, 3), int), np.empty((0, 3)), np.eye(3), 2)[0].shape == (0, 2)
