"""How high a ranking puts the relevant items: formulas of their ranks.

A user has m relevant test items; the item at rank r (1 is the best) is a hit at k if r <= k.
h_k is the number of hits, r_1 < r_2 < ... their ranks, g the rating of a relevant item.

    precision   h_k / k                            hit_rate          1 if h_k > 0, else 0
    recall      h_k / m                            recall_capped     h_k / min(k, m)
    f1          2 h_k / (k + m)                    mrr               1 / r_1, or 0 if r_1 > k
    dcg         Σ_{r <= k} 1/log2(r + 1)           rbp               (1 − p) Σ_{r <= k} p^(r − 1)
    ndcg        dcg  /  Σ_{i <= min(k, m)} 1/log2(i + 1)
    map         Σ_{r_t <= k} (t / r_t)  /  min(k, m)

graded: each term of ndcg and rbp times a gain, g or 2^g − 1, and the ideal order by gain.  With
the scores of all n candidates of a user, b = n − m of them not relevant and K = min(k, b),

    auc          share of the pairs (relevant, other) in the right order, ties ½
    auc_partial  Σ_t max(0, K − b_t) / (m K)       b_t: others before the t-th relevant item
    auc_top      Σ_{t <= M} max(0, K − b_t) / (M K),  M = min(k, m)
    accuracy     1 − (k + m − 2 h_k) / n           mcc      (h_k n − k m) / √(k m (n − k) (n − m))

Items of equal score share their places: each formula is the expectation over all orders of the
ties, so that no metric depends on the numbers of the items.  With e items at places r, ...,
r + e − 1, c of them relevant and R relevant ones before, a relevant one is at any of these places
with probability 1/e, and if it is at r + i, it is hit number R + 1 + i (c − 1) / (e − 1).  Among
the e − c others, it stands behind 0, 1, ... or e − c, each with the same probability.

Precision divides by k even if fewer than k items can be chosen.  An item that the model does
not know has rank `NEVER`: a miss that still counts in m.  Each formula gives one number per
user, NaN for users without relevant items, which `mean_over_users` leaves out.

Ties: McSherry, Najork (2008).  The sources of the formulas are in `mfcore.metrics.table`.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from mfcore.kernels.ranks import NEVER, first_hits, top_wins
from mfcore.metrics.table import PATIENCE


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
    gains : array-like, shape (n_relevant_in_all,), or None
        Rating of each item; None: all 1.
    """

    def __init__(self, ranks: Any, indptr: Any, ties: Any = None, gains: Any = None) -> None:
        self.ranks = np.asarray(ranks, np.int64)
        self.indptr = np.asarray(indptr, np.int64)
        self.ties = np.ones_like(self.ranks) if ties is None else np.asarray(ties, np.int64)
        self.gains = np.ones(self.ranks.size) if gains is None else np.asarray(gains, float)
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


class Scored(NamedTuple):
    """What a formula needs of all scores of each user, shape (n_users,) each.

    midrank_sum : sum of the midranks of the relevant candidates
    n_found, n_candidates : numbers of relevant candidates, and of candidates
    """

    midrank_sum: np.ndarray
    n_found: np.ndarray
    n_candidates: np.ndarray


def n_relevant(ranks: Ranks, k: int | None = None) -> np.ndarray:
    """Return the number of relevant items."""
    return _known(ranks, ranks.n_relevant.astype(float))


def precision(ranks: Ranks, k: int) -> np.ndarray:
    """Return the hits at k over k."""
    return _known(ranks, ranks.hits(k) / k)


def recall(ranks: Ranks, k: int) -> np.ndarray:
    """Return the hits at k over the number of relevant items."""
    return _share(ranks.hits(k), ranks.n_relevant)


def recall_capped(ranks: Ranks, k: int) -> np.ndarray:
    """Return the hits at k over min(k, number of relevant items): 1 can be reached."""
    return _share(ranks.hits(k), np.minimum(k, ranks.n_relevant))


def f1(ranks: Ranks, k: int) -> np.ndarray:
    """Return the harmonic mean of precision and recall at k."""
    return _known(ranks, 2 * ranks.hits(k) / (k + ranks.n_relevant))


def hit_rate(ranks: Ranks, k: int) -> np.ndarray:
    """Return 1 if any of the first k is relevant, else 0."""
    return _known(ranks, ranks.first_hits(k)[0])


def dcg(ranks: Ranks, k: int) -> np.ndarray:
    """Return the discounted gain at k, each relevant item gaining 1."""
    return _known(ranks, ranks.sums(ranks.expected(_discounts(ranks, k))))


def ndcg(ranks: Ranks, k: int) -> np.ndarray:
    """Return the discounted gain at k, divided by that of the ideal ranking."""
    ideal = np.concatenate([[0.0], np.cumsum(_discounts(ranks, k))])
    return _share(dcg(ranks, k), ideal[np.minimum(k, ranks.n_relevant)])


def ndcg_graded(ranks: Ranks, k: int) -> np.ndarray:
    """Return the same where an item gains its rating; NaN if all of a user's are 0."""
    return _graded(ranks, k, ranks.gains)


def ndcg_exponential(ranks: Ranks, k: int) -> np.ndarray:
    """Return the same where an item gains 2^rating − 1."""
    return _graded(ranks, k, np.exp2(ranks.gains) - 1)


def _graded(ranks: Ranks, k: int, gains: np.ndarray) -> np.ndarray:
    steps = _discounts(ranks, k)
    best = np.lexsort((-gains, ranks.users))
    place = np.arange(gains.size) - ranks.indptr[ranks.users]
    ideal = ranks.sums(gains[best] * np.append(steps, 0.0)[np.minimum(place, steps.size)])
    return _share(ranks.sums(gains * ranks.expected(steps)), ideal)


def rank_biased_precision(ranks: Ranks, k: int, patience: float = PATIENCE) -> np.ndarray:
    """Return the share of relevant items that a user meets who reads on with chance `patience`.

    Of an endless list all of whose items are relevant it is 1; at most 1 − patience^min(k, m).
    """
    return _known(ranks, ranks.sums(ranks.expected(_geometric(ranks, k, patience))))


def graded_rank_biased_precision(ranks: Ranks, k: int, patience: float = PATIENCE) -> np.ndarray:
    """Return the same with each item's share of the largest rating of all users."""
    gains = ranks.gains / max(ranks.gains.max(initial=0.0), np.finfo(float).tiny)
    return _known(ranks, ranks.sums(gains * ranks.expected(_geometric(ranks, k, patience))))


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


# ------------------------------------------------------------------- of all scores

def area(ranks: Ranks, k: int | None, scored: Scored) -> np.ndarray:
    """Return the area under each user's ROC curve: see `auc`."""
    return auc(scored.midrank_sum, scored.n_found, ranks.n_relevant, scored.n_candidates)


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


def partial_area(ranks: Ranks, k: int, scored: Scored) -> np.ndarray:
    """Return the share of pairs in the right order with the first K = min(k, b) others."""
    limits = np.minimum(k, scored.n_candidates - scored.n_found)
    return _share(ranks.sums(_wins(ranks, limits)), ranks.n_relevant * limits)


def top_area(ranks: Ranks, k: int, scored: Scored) -> np.ndarray:
    """Return the same share with the first min(k, m) relevant items alone."""
    limits = np.minimum(k, scored.n_candidates - scored.n_found)
    most = np.minimum(k, ranks.n_relevant)
    won, (before, relevant) = _wins(ranks, limits), ranks.tied
    taken = np.clip(most[ranks.users] - before, 0, relevant)
    cut = np.flatnonzero((taken < relevant) & (won > 0))
    won[cut] = top_wins((ranks.ties - relevant)[cut], relevant[cut], taken[cut],
                        _left(ranks, limits)[cut]) / relevant[cut]
    return _share(ranks.sums(won), most * limits)


def _left(ranks: Ranks, limits: np.ndarray) -> np.ndarray:
    """Return, at each rank, how many of the first others are not before the items of its score."""
    others = np.minimum(ranks.ranks - 1 - ranks.tied[0], int(limits.max(initial=0)))
    return np.asarray(np.maximum(limits[ranks.users].astype(np.int64) - others, 0))


def _wins(ranks: Ranks, limits: np.ndarray) -> np.ndarray:
    """Return what each relevant item wins: E max(0, left − x), x uniform on 0, ..., others tied."""
    left, slots = _left(ranks, limits), np.maximum(ranks.ties - ranks.tied[1] + 1, 1)
    terms = np.minimum(slots, left)
    return np.asarray((terms * left - terms * (terms - 1) / 2) / slots)


def accuracy(ranks: Ranks, k: int, scored: Scored) -> np.ndarray:
    """Return the share of the candidates that are rightly among the first k, or rightly not."""
    n, chosen = _table(ranks, k, scored)
    return _share(n - chosen - ranks.n_relevant + 2 * ranks.hits(k), n)


def mcc(ranks: Ranks, k: int, scored: Scored) -> np.ndarray:
    """Return the correlation of being relevant with being among the first k; 0 if one is all."""
    (n, chosen), m = _table(ranks, k, scored), ranks.n_relevant
    scale = np.sqrt(chosen * m * (n - chosen) * (n - m))
    return _known(ranks, np.nan_to_num(_share(ranks.hits(k) * n - chosen * m, scale)))


def _table(ranks: Ranks, k: int, scored: Scored) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of items to choose from, those never found included, and of chosen ones."""
    n = scored.n_candidates + ranks.n_relevant - scored.n_found
    return np.where(ranks.n_relevant > 0, n, 0.0), np.minimum(k, scored.n_candidates)


def mean_over_users(values: np.ndarray) -> float:
    """Return the mean of one number per user, without NaN; NaN if nothing is left."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")


# -------------------------------------------------------------------------- parts

def _discounts(ranks: Ranks, k: int) -> np.ndarray:
    """Return 1/log2(r + 1) of the places that matter."""
    return 1 / np.log2(np.arange(2, _last(ranks, k) + 2))


def _geometric(ranks: Ranks, k: int, patience: float) -> np.ndarray:
    """Return (1 − p) p^(r − 1) of the places that matter."""
    return np.asarray((1 - patience) * patience ** np.arange(_last(ranks, k)))


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
