"""What a user's list of k items holds: formulas of the items, whatever their order.

    c_ui            chance that item i is in the list of user u; 1 or 0, but for ties
    mean over L     Σ_i c_ui x_i / Σ_i c_ui

Where items of equal score compete for the last places, c_ui is the share of the orders of the
ties in which i is in the list, and formulas are expectations: no metric depends on the numbers
of the items.  With j places left for e items of equal score, each has the chance j / e, and two
of them are both in the list with j (j − 1) / (e (e − 1)).  Of `calibration` and `entropy` it is
the shares that are expectations, and of `gini` the number of lists that an item is in.

With x_f the features of an item divided by their sum, q_f is the mean of x_f over L and p_f that
over the items that the user has rated.  The formulas are in `mfcore.metrics.table`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.canonical import check_layout
from mfcore.data.features import Features, multi_hot
from mfcore.metrics.table import PATIENCE

OWN = 0.01          # share of p that is mixed into q, so that the divergence is finite


@dataclass(frozen=True, eq=False)
class Lists:
    """The best items of each row, and those of equal score that found no place.

    items, scores : shape (n, w), best first; −1 and −inf at missing places
    tied : CSR pattern, shape (n, n_items): not in `items`, with the score of the last of them
    k : places of a list, w at least: those beyond w are empty
    """

    items: np.ndarray
    scores: np.ndarray
    tied: sp.csr_array
    k: int

    @cached_property
    def chances(self) -> sp.csr_array:
        """The chance of each item to be in each list, shape (n, n_items)."""
        return self.weights(np.ones(self.width))

    @property
    def width(self) -> int:
        """Places that can hold an item."""
        return int(self.items.shape[1])

    def weights(self, steps: np.ndarray) -> sp.csr_array:
        """Return the expected steps[place] of each item, 0 where it is in no list."""
        each, of_tied = self._shared(np.broadcast_to(steps, self.items.shape))
        rows, places = np.nonzero(self.items >= 0)
        extra = np.diff(self.tied.indptr)
        return sp.csr_array((
            np.concatenate([each[rows, places], np.repeat(of_tied, extra)]),
            (np.concatenate([rows, np.repeat(np.arange(len(extra)), extra)]),
             np.concatenate([self.items[rows, places], self.tied.indices]))),
            shape=self.tied.shape)

    def _shared(self, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean of steps over the places of each score, and that of the tied items."""
        n, k = self.items.shape
        new = np.ones((n, k), bool)
        new[:, 1:] = self.scores[:, 1:] != self.scores[:, :-1]
        starts = np.flatnonzero(new)
        last = np.searchsorted(starts, np.arange(1, n + 1) * k) - 1     # its last group, by row
        sizes = np.diff(np.append(starts, n * k))
        sizes[last] += np.diff(self.tied.indptr)
        means = np.add.reduceat(steps.ravel(), starts) / sizes
        return means[np.cumsum(new) - 1].reshape(n, k), means[last]


def best_lists(scores: np.ndarray, items: np.ndarray, best: np.ndarray, k: int) -> Lists:
    """Return the lists of k items of a block of scores, with what is tied for the last places.

    Parameters
    ----------
    scores : ndarray, shape (n, n_items)
        -inf in masked cells.
    items, best : ndarray, shape (n, more than k, or than n_items)
        What is best in each row, and its scores.
    """
    w = min(k, items.shape[1] - 1)
    last = best[:, w - 1]
    rows = np.flatnonzero((last == best[:, w]) & (last > -np.inf))
    ties = scores[rows] == last[rows, None]
    np.put_along_axis(ties, items[rows, :w], False, axis=1)
    counts = np.zeros(len(scores), np.int64)
    counts[rows] = np.count_nonzero(ties, axis=1)
    columns = np.flatnonzero(ties) % max(1, ties.shape[1])
    tied = sp.csr_array((np.ones(len(columns)), columns.astype(np.int32),
                         np.concatenate([[0], np.cumsum(counts)])), shape=scores.shape)
    return Lists(items[:, :w], best[:, :w], tied, k)


def as_lists(items: Any, n_items: int) -> Lists:
    """Return lists of item numbers, array-like of int, shape (n, k), −1 at missing places."""
    given = validation.numeric("items", items)
    if given.ndim != 2:
        raise ValueError(f"items must have shape (n_lists, k), got {given.shape}")
    found = np.full(given.shape, -1)
    found[given != -1] = validation.positions("items", given[given != -1], n_items)
    order = np.broadcast_to(-np.arange(given.shape[1], dtype=float), given.shape)
    return Lists(found, order, sp.csr_array((len(given), n_items)), given.shape[1])


# ---------------------------------------------------------------------- of each list

def mean_of(lists: Lists, values: np.ndarray) -> np.ndarray:
    """Return the mean of values, one per item, over each list; NaN of an empty one."""
    C = lists.chances
    return _ratio(C @ values, lengths(lists))


def lengths(lists: Lists) -> np.ndarray:
    """Return the number of items in each list."""
    return np.asarray(np.count_nonzero(lists.items >= 0, axis=1), float)


def popularity_ranks(counts: Any) -> np.ndarray:
    """Return the rank of each item by count, 1 for the most; equal counts share their mean."""
    _, group, size = np.unique(-np.asarray(counts), return_inverse=True, return_counts=True)
    ranks: np.ndarray = (np.cumsum(size) - (size - 1) / 2)[group]
    return ranks


def information(counts: np.ndarray, n_users: int) -> np.ndarray:
    """Return −log2 of the share of users who rated each item; nobody counts as one user."""
    return np.asarray(np.log2(max(n_users, 1) / np.maximum(counts, 1)))


def serendipity(lists: Lists, popular: Lists, relevant: sp.csr_array) -> np.ndarray:
    """Return the share of the k places with relevant items that are not in the popular list.

    Parameters
    ----------
    lists, popular : Lists, of the same users and k
        `popular`: the most popular of the items that each user can be recommended.
    relevant : CSR pattern, shape (n, n_items)
    """
    hits = lists.chances.multiply(_pattern(relevant))
    return np.asarray((hits - hits.multiply(popular.chances)).sum(axis=1) / lists.k)


def foreign(lists: Lists, user_groups: np.ndarray, item_groups: np.ndarray) -> np.ndarray:
    """Return the share of each list whose group is not that of its user."""
    C = lists.chances.tocoo()
    away = C.data * (user_groups[C.row] != item_groups[C.col])
    return _ratio(np.bincount(C.row, away, C.shape[0]), lengths(lists))


def intra_list_similarity(lists: Lists, features: sp.csr_array) -> np.ndarray:
    """Return the mean cosine of the features of two different items of each list.

    With x of length 1 (or 0), the sum over pairs is (‖Σ x‖² − Σ ‖x‖²) / 2.  Lists of fewer than
    two items are NaN.
    """
    X = unit_rows(features)
    C, length = lists.chances, lengths(lists)
    own = np.asarray(X.power(2).sum(axis=1))
    pairs = _squares(C @ X) - C.power(2) @ own
    last = _last_chances(lists, C)
    rows = np.diff(last.indptr) > 0
    if rows.any():                          # two tied items are together less often than that
        tied = _pattern(last)
        e, j = np.diff(last.indptr)[rows], np.asarray(last.sum(axis=1))[rows]
        both = _squares(tied[rows] @ X) - tied[rows] @ own
        pairs[rows] += (j * (j - 1) / np.maximum(e * (e - 1), 1) - (j / e) ** 2) * both
    return _ratio(pairs, length * (length - 1))


def entropy(lists: Lists, categories: sp.csr_array, patience: float | None = None) -> np.ndarray:
    """Return the entropy of the features of each list, in bits; NaN if there are none.

    With `patience`, the item at place r weighs patience^(r − 1).
    """
    W = lists.chances if patience is None else lists.weights(patience ** np.arange(lists.width))
    q = shares(W, categories)
    return np.asarray(-np.sum(q * np.log2(np.where(q > 0, q, 1)), axis=1))


def calibration(lists: Lists, history: sp.csr_array, categories: sp.csr_array) -> np.ndarray:
    """Return how far the features of each list are from those of what the user has rated.

    The divergence of Kullback and Leibler, in nats, from 0; NaN where either has no features.

    Parameters
    ----------
    history : CSR pattern, shape (n, n_items)
        What each user has rated.
    """
    p, q = shares(_pattern(history), categories), shares(lists.chances, categories)
    mixed = (1 - OWN) * q + OWN * p
    return np.asarray(np.sum(p * np.log(np.where(p > 0, p / np.where(p > 0, mixed, 1), 1)), axis=1))


def shares(weights: sp.csr_array, categories: sp.csr_array) -> np.ndarray:
    """Return the shares of the features among weighted items, each row of sum 1 or NaN."""
    total = (weights @ categories).toarray()
    return _ratio(total, total.sum(axis=1)[:, None])


# ---------------------------------------------------------------- of two lists each

def overlap(items: Any, others: Any) -> np.ndarray:
    """Return the share of each list's items that are in the other list; NaN of an empty one.

    Parameters
    ----------
    items, others : array-like of int, shape (n_lists, k)
        Such as two models recommend to the same users; -1 marks a missing place.
    """
    first, second = _both(items, others)
    return _ratio(_agreement(first, second), (first >= 0).sum(axis=1))


def rank_biased_overlap(items: Any, others: Any, patience: float = PATIENCE) -> np.ndarray:
    """Return how much two rankings share at each depth, the first depths weighing most, in [0, 1].

    Σ_d p^(d − 1) a_d / Σ_d p^(d − 1), a_d the share of the first d items that both have
    (Webber, Moffat, Zobel 2010, cut off at k).  Arguments as in `overlap`.
    """
    first, second = _both(items, others)
    weights = patience ** np.arange(first.shape[1])
    agree = [_agreement(first[:, :d], second[:, :d]) / d for d in range(1, 1 + len(weights))]
    return np.asarray(weights @ np.array(agree) / weights.sum())


def _both(items: Any, others: Any) -> tuple[np.ndarray, np.ndarray]:
    first, second = validation.numeric("items", items), validation.numeric("others", others)
    if first.ndim != 2 or first.shape != second.shape or not first.shape[1]:
        raise ValueError(f"items and others must both have shape (n_lists, k), got {first.shape} "
                         f"and {second.shape}")
    return first, second


def _agreement(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return how many items each two lists have in common."""
    both = np.sort(np.concatenate([first, second], axis=1), axis=1)
    return np.asarray(((both[:, 1:] == both[:, :-1]) & (both[:, 1:] >= 0)).sum(axis=1), float)


# ------------------------------------------------------------------- of all together

def unlisted(lists: Lists) -> sp.csr_array:
    """Return ln(1 − chance) of each item in each list: sums say how probable it is in none."""
    C = lists.chances
    with np.errstate(divide="ignore"):
        return sp.csr_array((np.log1p(-np.minimum(C.data, 1)), C.indices, C.indptr), C.shape)


def coverage(unlisted: np.ndarray) -> float:
    """Return the share of the items that are in a list, of sums over `unlisted`."""
    return float(np.mean(-np.expm1(unlisted)))


def exposure(lists: Lists) -> sp.csr_array:
    """Return patience^(r − 1) of the item at place r of each list."""
    return lists.weights(PATIENCE ** np.arange(lists.width))


def gini(counts: np.ndarray) -> float:
    """Return Gini's coefficient of counts of items: 0 if all are equal, 1 − 1/n if one has all.

    NaN if all are 0.
    """
    x, n = np.sort(counts), len(counts)
    total = x.sum()
    return float((2 * np.arange(1, n + 1) - n - 1) @ x / (n * total)) if total > 0 else float("nan")


def item_coverage(items: Any, n_items: int) -> float:
    """Return the share of `n_items` items that appear in at least one list, in [0, 1].

    items : array-like of int, shape (n_users, k); -1 marks a missing place.
    """
    validation.integer("n_items", n_items, low=1)
    return coverage(np.asarray(unlisted(as_lists(items, n_items)).sum(axis=0)))


# ------------------------------------------------------------------------- features

def item_matrix(given: Any, n_items: int | None) -> sp.csr_array:
    """Return features of items as CSR of float64, shape (n_items, n_features), n_items if given.

    Parameters
    ----------
    given : Features, scipy sparse, 2-D array-like of numbers, or lists of names

    Raises
    ------
    TypeError, ValueError
        For anything else, another number of rows, NaN and infinity.
    """
    if not isinstance(given, Features) and not sp.issparse(given):
        names = not isinstance(given, np.ndarray) and any(
            isinstance(name, str) for row in validation.iterable("item_features", given)
            for name in (row if hasattr(row, "__iter__") else ()))
        given = multi_hot(given) if names else \
            sp.csr_array(np.atleast_2d(validation.numeric("item_features", given)))
    matrix = given.matrix if isinstance(given, Features) else _sparse(given)
    if matrix.shape[0] != (matrix.shape[0] if n_items is None else n_items) or not matrix.shape[1]:
        raise ValueError(f"item_features must have a row for each of the {n_items} items, and a "
                         f"column, got shape {matrix.shape}")
    validation.finite("item_features", matrix.data)
    return matrix


def _sparse(given: Any) -> sp.csr_array:
    if given.ndim != 2:
        raise ValueError(f"item_features must have two dimensions, got shape {given.shape}")
    validation.numeric("item_features", given.data)
    return sp.csr_array(check_layout("item_features", given), dtype=float)


def categories_of(features: sp.csr_array) -> sp.csr_array:
    """Return each item's features as shares of sum 1; a row of zeros stays one.

    Raises ValueError for negative features, which are no shares.
    """
    validation.nonnegative("item_features of entropy and calibration", features.data)
    return _scaled(features, np.asarray(features.sum(axis=1)))


def unit_rows(features: sp.csr_array) -> sp.csr_array:
    """Return rows of length 1; a row of zeros stays one."""
    return _scaled(features, np.sqrt(features.power(2).sum(axis=1)))


def _scaled(rows: sp.csr_array, by: np.ndarray) -> sp.csr_array:
    scale = np.divide(1, by, out=np.zeros(len(by)), where=by > 0)
    return sp.csr_array(sp.diags_array(scale) @ rows)


def _last_chances(lists: Lists, chances: sp.csr_array) -> sp.csr_array:
    """Return the chances of the items that compete for the last places, of lists with ties."""
    C = chances.tocoo()
    competing = (np.diff(lists.tied.indptr)[C.row] > 0) & (C.data < 1)
    return sp.csr_array((C.data[competing], (C.row[competing], C.col[competing])), C.shape)


def _pattern(cells: sp.csr_array) -> sp.csr_array:
    """Return 1 at the stored cells."""
    return sp.csr_array((np.ones(cells.nnz), cells.indices, cells.indptr), cells.shape)


def _squares(X: sp.csr_array) -> np.ndarray:
    return np.asarray(X.power(2).sum(axis=1))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return part / whole, NaN where whole is 0."""
    out = np.full(part.shape, np.nan)
    return np.asarray(np.divide(part, whole, out=out, where=whole > 0))
