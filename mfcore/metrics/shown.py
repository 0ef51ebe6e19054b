"""What is shown to a block of users, and the metrics of it.

Each function takes what is shown and a cut-off.  Metrics of each list return one value per user,
or a pair of values and their weights in the mean over users; metrics of all lists together return
a number per list and item; the table's `total` turns their sums into the metric.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from mfcore.metrics import lists as formulas
from mfcore.metrics.lists import Lists, best_lists, lengths, mean_of
from mfcore.metrics.table import PATIENCE
from mfcore.metrics.topk import Masks, ScoredRows, best_of_block

Weighted = tuple[np.ndarray, np.ndarray]


class Catalogue:
    """What is known of the items and users besides scores; features are None if not needed."""

    def __init__(self, counts: np.ndarray, n_users: int, features: sp.csr_array | None,
                 categories: sp.csr_array | None, groups: tuple[np.ndarray, np.ndarray] | None
                 ) -> None:
        self.counts, self.n_users, self.groups = counts, n_users, groups
        self.features, self.categories = features, categories

    @cached_property
    def information(self) -> np.ndarray:
        """−log2 of the share of users who rated each item."""
        return formulas.information(self.counts, self.n_users)

    @cached_property
    def popularity_ranks(self) -> np.ndarray:
        """The rank of each item by its number of ratings."""
        return formulas.popularity_ranks(self.counts)


class Block(NamedTuple):
    """What is known of the users whose scores are in a block.

    start : number of the first row of the block in what follows
    masks : those of the scores
    relevant, seen : CSR, shape (n_rows, n_items), relevant cells and those that the model knew
    related : RelatednessScorer or None
    """

    start: int
    masks: Masks
    relevant: sp.csr_array
    seen: sp.csr_array | None
    related: Any


class Shown:
    """The lists of a block of users, and what metrics compare them with.

    Parameters
    ----------
    catalogue : Catalogue
    scored : ScoredRows
    longest : int >= 1
        Largest cut-off to come.
    block : Block
    rows : ndarray, shape (n,)
        Rows of the test set, for groups.
    """

    def __init__(self, catalogue: Catalogue, scored: ScoredRows, longest: int, block: Block,
                 rows: np.ndarray) -> None:
        self.catalogue, self.scored, self.scores = catalogue, scored, scored.scores
        self.longest = min(longest, self.scores.shape[1])
        self.block, self.rows = block, rows
        self._lists: dict[tuple[str, int], Lists] = {}
        self._gaps: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def of_these(self, cells: Any) -> Any:
        """Return the rows of cells that belong to the scores."""
        return cells[self.block.start:self.block.start + len(self.scores)]

    def lists(self, k: int) -> Lists:
        """Return the k best items of each user."""
        best = self._best                   # (settles the scores that it ties with)
        return self._kept("own", k, self.scores, best)

    def popular(self, k: int) -> Lists:
        """Return the k most popular items that each user can be recommended."""
        return self._kept("popular", k, *self._most_popular)

    def _kept(self, name: str, k: int, scores: np.ndarray, best: tuple[np.ndarray, np.ndarray]
              ) -> Lists:
        if (name, k) not in self._lists:
            self._lists[name, k] = best_lists(scores, *best, k)
        return self._lists[name, k]

    @cached_property
    def _best(self) -> tuple[np.ndarray, np.ndarray]:
        return self.scored.best(self.longest + 1)

    @cached_property
    def _most_popular(self) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        counts = np.broadcast_to(self.catalogue.counts.astype(float), self.scores.shape).copy()
        self.block.masks.apply(counts, self.block.start)
        return counts, best_of_block(counts, self.longest + 1)

    def gaps(self, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return of each item that may be in a list: whose, its chance, q_s − q_r."""
        if k not in self._gaps:
            self._gaps[k] = self.block.related.gaps(self.scored, self.lists(k), self.block.masks)
        return self._gaps[k]


# --------------------------------------------------------------------- of each list

def user_coverage(at: Shown, k: int) -> np.ndarray:
    return np.asarray(np.minimum(lengths(at.lists(k)), 1))


def list_length(at: Shown, k: int) -> np.ndarray:
    return lengths(at.lists(k))


def popularity(at: Shown, k: int) -> np.ndarray:
    return mean_of(at.lists(k), at.catalogue.counts.astype(float))


def popularity_rank(at: Shown, k: int) -> Weighted:
    found = at.lists(k)
    return mean_of(found, at.catalogue.popularity_ranks), lengths(found)


def novelty(at: Shown, k: int) -> np.ndarray:
    return mean_of(at.lists(k), at.catalogue.information)


def serendipity(at: Shown, k: int) -> np.ndarray:
    return formulas.serendipity(at.lists(k), at.popular(k), at.of_these(at.block.relevant))


def cross_group_rate(at: Shown, k: int) -> Weighted:
    users, items = at.catalogue.groups or (at.rows, at.rows)
    found = at.lists(k)
    return formulas.foreign(found, users[at.rows], items), lengths(found)


def intra_list_similarity(at: Shown, k: int) -> np.ndarray:
    return formulas.intra_list_similarity(at.lists(k), at.catalogue.features)


def entropy(at: Shown, k: int) -> np.ndarray:
    return formulas.entropy(at.lists(k), at.catalogue.categories)


def entropy_ranked(at: Shown, k: int) -> np.ndarray:
    return formulas.entropy(at.lists(k), at.catalogue.categories, PATIENCE)


def calibration(at: Shown, k: int) -> np.ndarray:
    return formulas.calibration(at.lists(k), at.of_these(at.block.seen), at.catalogue.categories)


def folding(at: Shown, k: int) -> Weighted:
    return _pooled(at, k, lambda gaps: np.maximum(gaps, 0.0))


def spurious(at: Shown, k: int) -> Weighted:
    from mfcore.metrics.folding import spurious

    return _pooled(at, k, spurious)


def _pooled(at: Shown, k: int, function: Callable[[np.ndarray], np.ndarray]) -> Weighted:
    """Return the mean of a function of the gaps over each list, and the number of items in it."""
    rows, chances, gaps = at.gaps(k)
    n = len(at.scores)
    sums, counts = np.bincount(rows, chances * function(gaps), n), np.bincount(rows, chances, n)
    return np.divide(sums, counts, out=np.full(n, np.nan), where=counts > 0), counts


# ------------------------------------------------------------------ of all together

def item_coverage(at: Shown, k: int) -> sp.csr_array:
    return formulas.unlisted(at.lists(k))


def gini(at: Shown, k: int) -> sp.csr_array:
    return at.lists(k).chances


def gini_exposure(at: Shown, k: int) -> sp.csr_array:
    return formulas.exposure(at.lists(k))

