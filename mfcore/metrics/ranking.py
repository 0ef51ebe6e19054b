"""How high a ranking puts the relevant items: formulas of their ranks.

A user has m relevant test items; the item at rank r (1 is the best) is a hit at k if r <= k.
h_k is the number of hits, r_1 < r_2 < ... their ranks.

    precision   h_k / k                            hit_rate          1 if h_k > 0, else 0
    recall      h_k / m                            recall_capped     h_k / min(k, m)
    ndcg        Σ_{r <= k} 1/log2(r + 1)  /  Σ_{i <= min(k, m)} 1/log2(i + 1)
    map         Σ_{r_t <= k} (t / r_t)  /  min(k, m)
    mrr         1 / r_1, or 0 if r_1 > k           (k may be left out)
    auc         share of the pairs (relevant, other candidate) in the right order, ties ½

Items of equal score share their places: each formula is the expectation over all orders of the
ties, so that no metric depends on the numbers of the items.  With e items at places r, ...,
r + e − 1, c of them relevant and R relevant ones before, a relevant one is at any of these places
with probability 1/e, and if it is at r + i, it is hit number R + 1 + i (c − 1) / (e − 1).

Precision divides by k even if fewer than k items can be chosen.  An item that the model does
not know has rank `NEVER`: a miss that still counts in m.  Each formula gives one number per
user, NaN for users without relevant items, which `mean_over_users` leaves out.

Recall with the capped denominator: Liang, Krishnan, Hoffman, Jebara (2018).
NDCG: Järvelin, Kekäläinen (2002), binary gain.  Ties: McSherry, Najork (2008).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from mfcore import validation
from mfcore.kernels.ranks import NEVER, first_hits


class Ranks:
    """The ranks of each user's relevant items, ascending, in one flat array.

    Parameters
    ----------
    ranks : array-like of int, shape (n_relevant_in_all,)
        Ranks from 1, ascending within a user, `NEVER` for items never found; the first place
        of those that share a score.
    indptr : array-like of int, shape (n_users + 1,)
        User u has ranks[indptr[u]:indptr[u + 1]].
    ties : array-like of int, shape (n_relevant_in_all,), or None
        How many items share the score, itself included; None: each has its own.
    """

    def __init__(self, ranks: Any, indptr: Any, ties: Any = None) -> None:
        self.ranks = np.asarray(ranks, np.int64)
        self.indptr = np.asarray(indptr, np.int64)
        self.ties = np.ones_like(self.ranks) if ties is None else np.asarray(ties, np.int64)
        self.n_relevant = np.diff(self.indptr)      # of each user

    @cached_property
    def users(self) -> np.ndarray:
        """User of each rank."""
        return np.repeat(np.arange(self.n_relevant.size), self.n_relevant)

    @cached_property
    def tied(self) -> tuple[np.ndarray, np.ndarray]:
        """Relevant items before those of the score of each rank, and those of this score."""
        new = np.ones(self.ranks.size, bool)
        new[1:] = (np.diff(self.ranks) != 0) | (np.diff(self.users) != 0)
        starts = np.flatnonzero(new)
        counts = np.diff(np.append(starts, self.ranks.size))
        return (np.repeat(starts, counts) - self.indptr[self.users], np.repeat(counts, counts))

    def places(self, k: int) -> np.ndarray:
        """How many of the places of each rank's score are among the first k."""
        return np.asarray(np.clip(k - self.ranks + 1, 0, self.ties))

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sum `values`, one per rank, over each user."""
        return np.bincount(self.users, values, self.n_relevant.size)

    def hits(self, k: int) -> np.ndarray:
        """Number of hits at k of each user, float64."""
        return self.sums(self.places(k) / self.ties)

    def expected(self, values: np.ndarray) -> np.ndarray:
        """Mean of values[place - 1] over the places of each rank's score; 0 beyond the last."""
        total = np.concatenate([[0.0], np.cumsum(values)])
        before = np.minimum(self.ranks - 1, values.size)
        after = np.minimum(before + self.ties, values.size)
        own = np.append(values, 0.0)[before]
        return np.where(self.ties == 1, own, (total[after] - total[before]) / self.ties)

    def first_hits(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return each user's chance of a hit at k, and the expected 1 / rank of the first."""
        known, out = np.flatnonzero(self.n_relevant), np.zeros((2, self.n_relevant.size))
        first = self.indptr[known]
        out[:, known] = first_hits(self.ranks[first], self.ties[first], self.tied[1][first], k)
        return np.minimum(out[0], 1), out[1]


def precision(ranks: Ranks, k: int) -> np.ndarray:
    """Return the hits at k over k."""
    return _known(ranks, ranks.hits(k) / k)


def recall(ranks: Ranks, k: int) -> np.ndarray:
    """Return the hits at k over the number of relevant items."""
    return _share(ranks.hits(k), ranks.n_relevant)


def recall_capped(ranks: Ranks, k: int) -> np.ndarray:
    """Return the hits at k over min(k, number of relevant items): 1 can be reached."""
    return _share(ranks.hits(k), np.minimum(k, ranks.n_relevant))


def hit_rate(ranks: Ranks, k: int) -> np.ndarray:
    """Return 1 if any of the first k is relevant, else 0."""
    return _known(ranks, ranks.first_hits(k)[0])


def ndcg(ranks: Ranks, k: int) -> np.ndarray:
    """Return the discounted gain at k, divided by that of the ideal ranking."""
    places = np.minimum(k, ranks.n_relevant)
    steps = 1 / np.log2(np.arange(2, _last(ranks, k) + 2))
    ideal = np.concatenate([[0.0], np.cumsum(steps)])[places]
    return _share(ranks.sums(ranks.expected(steps)), ideal)


def average_precision(ranks: Ranks, k: int) -> np.ndarray:
    """Return the mean over min(k, m) of the precision at each hit ("map")."""
    before, relevant = ranks.tied
    inverse = ranks.expected(1 / np.arange(1, _last(ranks, k) + 1))
    more = (relevant - 1) / np.maximum(ranks.ties - 1, 1)       # hits per further place
    found = (before + 1 - more * ranks.ranks) * inverse + more * ranks.places(k) / ranks.ties
    return _share(ranks.sums(np.where(inverse > 0, found, 0)), np.minimum(k, ranks.n_relevant))


def reciprocal_rank(ranks: Ranks, k: int | None = None) -> np.ndarray:
    """Return 1 / rank of the first relevant item, 0 if it is beyond k ("mrr")."""
    return _known(ranks, ranks.first_hits(NEVER - 1 if k is None else k)[1])


PER_USER: dict[str, Callable[..., np.ndarray]] = {
    "precision": precision, "recall": recall, "recall_capped": recall_capped,
    "hit_rate": hit_rate, "ndcg": ndcg, "map": average_precision, "mrr": reciprocal_rank}


def auc(midrank_sum: np.ndarray, n_found: np.ndarray, n_relevant: np.ndarray,
        n_candidates: np.ndarray) -> np.ndarray:
    """Return the area under each user's ROC curve.

    With n_found relevant items among n_candidates, a relevant item at midrank ρ has
    n_candidates − ρ items below it.  Their sum, less the n_found (n_found − 1) / 2 pairs of
    two relevant items (Mann, Whitney 1947), gives

        pairs won = n_found (n_candidates − n_found) − (Σρ − n_found (n_found + 1) / 2)

    Relevant items that are not among the candidates win no pair.

    Parameters
    ----------
    midrank_sum, n_found, n_relevant, n_candidates : ndarray, shape (n_users,)
        Σρ, and the numbers of relevant candidates, of relevant items and of candidates.

    Returns
    -------
    area : ndarray, shape (n_users,)
        In [0, 1]; NaN if there is no pair.
    """
    others = n_candidates - n_found
    won = n_found * others - (midrank_sum - n_found * (n_found + 1) / 2)
    return _share(won, n_relevant * others)


def mean_over_users(values: np.ndarray) -> float:
    """Return the mean of one number per user, without NaN; NaN if nothing is left."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")


def item_coverage(items: Any, n_items: int) -> float:
    """Return the share of `n_items` items that appear in at least one list, in [0, 1].

    items : array-like of int, shape (n_users, k); -1 marks a missing place.
    """
    validation.integer("n_items", n_items, low=1)
    return np.unique(_recommended(items)).size / n_items


def popularity_rank(items: Any, counts: Any) -> float:
    """Return the mean popularity rank of the recommended items, from 1 (most popular).

    Parameters
    ----------
    items : array-like of int, shape (n_users, k)
        -1 marks a missing place.
    counts : array-like, shape (n_items,)
        Number of training ratings of each item; equal counts share their mean rank.

    Returns
    -------
    rank : float
        In [1, n_items]; NaN when nothing is recommended to anyone.
    """
    counts = validation.vector("counts", counts)
    _, group, size = np.unique(-counts, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(size) - (size - 1) / 2)[group]
    chosen = validation.positions("items", _recommended(items), counts.size)
    return float(ranks[chosen].mean()) if chosen.size else float("nan")


def _recommended(items: Any) -> np.ndarray:
    places = validation.numeric("items", items)
    return np.extract(places != -1, places)


def _last(ranks: Ranks, k: int) -> int:
    """Return the last place up to k that matters: that of a relevant item, or of an ideal one."""
    ends = np.where(ranks.ranks < NEVER, ranks.ranks + ranks.ties - 1, 0)
    return int(min(k, max(ends.max(initial=0), ranks.n_relevant.max(initial=0))))


def _known(ranks: Ranks, values: np.ndarray) -> np.ndarray:
    """Return the values of users with relevant items, NaN for others."""
    return np.where(ranks.n_relevant > 0, values, np.nan)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return part / whole, NaN where whole is 0."""
    out = np.full(part.shape, np.nan)
    np.divide(part, whole, out=out, where=whole > 0)
    return out
