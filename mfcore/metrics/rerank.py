"""Diverse lists: the next item is relevant, and unlike those before it.

Maximal marginal relevance chooses, of what is left, the item with the largest

    (1 − δ) s_i − δ max_{j chosen} cos(x_i, x_j)

with s the scores of a user's candidates, moved and scaled to [0, 1], and x the features of the
items.  The first item is the one of the best score.  At δ = 0 the order stays; at 1 the scores
choose the first item alone.

Source: Carbonell, Goldstein 1998 (λ = 1 − δ).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.ids import Ids
from mfcore.metrics.lists import item_matrix, unit_rows

ROWS = 256      # users whose features are together in memory
LAST = -1e300   # value of a missing place: less than any item, more than what is chosen


def rerank(items: Any, scores: Any, item_features: Any, k: int = 10, *, diversity: float = 0.3,
           item_ids: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """Choose k of each user's candidates, relevant and unlike each other.

    Parameters
    ----------
    items, scores : array-like, shape (n_users, m)
        Candidates and their scores, such as `recommend(k=m)` returns, with m several times k;
        a score of -inf marks a missing place.
    item_features : Features, scipy sparse, 2-D array or lists of names, n_items rows
        What likeness is measured by: genres, or vectors such as `model.item_factors_`.
    k : int in [1, m]
        Items to choose.
    diversity : float in [0, 1]
        δ: 0 keeps the order of the scores, 1 looks at likeness alone.
    item_ids : sequence, shape (n_items,), or None
        Ids of the rows of `item_features`, such as `model.item_ids_`; None: row numbers.

    Returns
    -------
    items, scores : ndarray, shape (n_users, k)
        In the order in which they were chosen, with the scores as given; missing places last, as
        `recommend` marks them.

    Raises
    ------
    KeyError, IndexError
        For items without a row of features.
    TypeError, ValueError
        For shapes that differ, scores that are NaN or inf, an item that is twice among the
        candidates of a user, k above m, and features that are not finite.

    Examples
    --------
    >>> from mfcore import rerank
    >>> genres = [["noir"], ["noir"], ["comedy"]]
    >>> items, scores = rerank([[0, 1, 2]], [[0.9, 0.8, 0.7]], genres, k=2, diversity=0.5)
    >>> items.tolist()                                  # one of each kind
    [[0, 2]]
    """
    ids, values = _candidates(items, scores)
    k = validation.integer("k", k, low=1, high=ids.shape[1])
    delta = validation.real("diversity", diversity, low=0, high=1)
    known, names = values > -np.inf, None if item_ids is None else Ids("item_ids", item_ids)
    features = item_matrix(item_features, None if names is None else names.values.size)
    X, rows = unit_rows(features), np.zeros(ids.shape, np.int64)
    rows[known] = _rows(ids[known], names, features.shape[0])
    _check_distinct(rows, known)
    chosen = np.concatenate([chosen_places(X, rows[lo:lo + ROWS], values[lo:lo + ROWS], k, delta)
                             for lo in range(0, max(1, len(rows)), ROWS)])
    return np.take_along_axis(ids, chosen, axis=1), np.take_along_axis(values, chosen, axis=1)


def chosen_places(X: sp.csr_array, rows: np.ndarray, scores: np.ndarray, k: int, delta: float
            ) -> np.ndarray:
    """Return the places of the chosen candidates, in the order of choice, shape (n, k)."""
    n, m = scores.shape
    relevance, missing = _scaled(scores), scores == -np.inf
    like, chosen, every = np.zeros((n, m)), np.empty((n, k), np.int64), np.arange(n)
    features, value = X[rows.ravel()], np.where(missing, LAST, relevance)
    for place in range(k):
        first = np.argmax(value, axis=1)
        chosen[:, place] = first
        picked = features[every * m + first]
        cosines = features.multiply(picked[np.repeat(every, m)]).sum(axis=1).reshape(n, m)
        like = np.maximum(like, cosines) if place else cosines
        value = np.where(missing, LAST, (1 - delta) * relevance - delta * like)
        np.put_along_axis(value, chosen[:, :place + 1], -np.inf, axis=1)
    return chosen


def _scaled(scores: np.ndarray) -> np.ndarray:
    """Return the scores of each row moved and scaled to [0, 1], 0 at missing places."""
    known = scores > -np.inf
    low = np.where(known, scores, np.inf).min(axis=1, keepdims=True)
    wide = np.where(known, scores - np.where(low < np.inf, low, 0), 0).astype(float)
    return np.asarray(wide / np.maximum(wide.max(axis=1, keepdims=True), np.finfo(float).tiny))


def _candidates(items: Any, scores: Any) -> tuple[np.ndarray, np.ndarray]:
    ids, values = np.asarray(items), validation.numeric("scores", scores)
    if values.ndim != 2 or ids.shape != values.shape or not values.shape[1]:
        raise ValueError(f"items and scores must both have shape (n_users, m), got {ids.shape} "
                         f"and {values.shape}")
    bad = ~(values < np.inf)
    if bad.any():
        row, place = np.argwhere(bad)[0].tolist()
        raise ValueError(f"scores must be finite, or -inf at missing places, got "
                         f"{values[row, place]} in row {row}")
    return ids, values


def _rows(ids: np.ndarray, names: Ids | None, n_items: int) -> np.ndarray:
    if names is None:
        return validation.positions("items", ids, n_items)
    rows = names.positions(ids)
    missing = ids[rows < 0].tolist()
    if missing:
        raise KeyError(f"items must be among item_ids, got {', '.join(map(repr, missing[:5]))}")
    return rows


def _check_distinct(rows: np.ndarray, known: np.ndarray) -> None:
    """Raise a ValueError for an item that is twice among a user's candidates."""
    each = np.sort(np.where(known, rows, -1 - np.arange(rows.shape[1])), axis=1)
    twice = np.flatnonzero((each[:, 1:] == each[:, :-1]).any(axis=1))
    if twice.size:
        raise ValueError(f"items must be distinct within a row, got one twice in row {twice[0]}")
