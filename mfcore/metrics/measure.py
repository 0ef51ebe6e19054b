"""Rank for the users of a test set, and measure the rankings.

A `Plan` says for whom to rank what.  Each block of users is then scored, masked and reduced to
what the metrics need: the ranks and ratings of its relevant items, three numbers per user for the
ROC curve, a number per user for each metric of lists, and per item for those of all lists.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.ids import as_vector
from mfcore.data.ratings import Ratings, as_ratings
from mfcore.data.renumber import renumber_items
from mfcore.kernels import ranks as kernels
from mfcore.metrics import lists, ranking, shown
from mfcore.metrics.alignment import Alignment, stored_in
from mfcore.metrics.midranks import roc_sums
from mfcore.metrics.rating import weighted_mean
from mfcore.metrics.shown import Block, Catalogue, Shown
from mfcore.metrics.table import Metric, check_given, needing, reading
from mfcore.metrics.topk import (
    ROWS_AT_A_TIME,
    BlockCells,
    Masks,
    ScoredRows,
    block_cells,
    counted,
    masked_block,
    no_nan,
    rows_of_block,
    score_blocks,
)
from mfcore.parallel import Pool, row_chunks

NOTHING_LEFT = "must hold a relevant cell that takes part in the ranking, got none"
LIST_CELLS = 1 << 18        # users × items whose lists are together in memory


class Values(NamedTuple):
    """The values whose mean a metric is.

    values : one per user, NaN for users without one; or one per rating
    weights : of each in the mean, or None
    rows : row of the test set that each belongs to
    columns : column of the test set, of values per rating
    root : whether the metric is the square root of the mean
    """

    values: np.ndarray
    weights: np.ndarray | None
    rows: np.ndarray
    columns: np.ndarray | None = None
    root: bool = False

    @property
    def total(self) -> float:
        """The metric; NaN if no value is left."""
        known = ~np.isnan(self.values)
        values = self.values if known.all() else self.values[known]
        if not values.size:
            return float("nan")
        mean = weighted_mean(values, None if self.weights is None else self.weights[known])
        return float(np.sqrt(mean)) if self.root else mean

    def select(self, kept: np.ndarray) -> Values:
        """Return some of the values."""
        return self._replace(values=self.values[kept], rows=self.rows[kept],
                             weights=None if self.weights is None else self.weights[kept],
                             columns=None if self.columns is None else self.columns[kept])

    def by_row(self, n_rows: int) -> np.ndarray:
        """Return one value per row of the test set, NaN without one; or those of all ratings."""
        if self.columns is not None:
            return self.values
        out = np.full(n_rows, np.nan)
        out[self.rows] = self.values
        return out


# ------------------------------------------------------------------------ rankings

@dataclass(frozen=True)
class Plan:
    """What to rank, for whom, and what to keep of it."""

    task: Alignment
    wanted: tuple[Metric, ...]
    relevant: sp.csr_array  # relevant cells, by test row and model column
    missing: sp.csr_array  # relevant cells of items that the model does not know
    allowed: Any  # None, bool over the model's items, or CSR by test row and model column
    exclude_seen: bool
    catalogue: Catalogue

    @cached_property
    def unknown(self) -> np.ndarray:
        """Number of relevant items that the model does not know, by test row."""
        return np.diff(self.missing.indptr)

    @cached_property
    def depth(self) -> int:
        """Ranks beyond it need not be exact; -1: no ranks at all."""
        ranks, scores = (reading(self.wanted, reads) for reads in ("ranks", "scores"))
        most = int((np.diff(self.relevant.indptr) + self.unknown).max(initial=0))
        return max([metric.cut for metric in ranks] + [
            metric.cut + most for metric in scores if metric.k], default=-1)

    @cached_property
    def of_lists(self) -> list[Metric]:
        """Metrics that have one value per list."""
        return reading(self.wanted, "lists")

    @cached_property
    def of_all(self) -> list[Metric]:
        """Metrics of all lists together."""
        return reading(self.wanted, "catalogue")

    @cached_property
    def longest(self) -> int:
        """Length of the lists of best items, 0: none."""
        return max([metric.cut for metric in self.of_lists + self.of_all], default=0)


class _Part(NamedTuple):
    """What is kept of a block of users; arrays of parts are joined in order."""

    ranks: np.ndarray  # (n_relevant.sum(),)
    ties: np.ndarray  # (n_relevant.sum(),)
    gains: np.ndarray  # (n_relevant.sum(),)
    n_relevant: np.ndarray  # (n,)
    roc: np.ndarray  # (n, 3): midrank sum, found, candidates
    lists: np.ndarray  # (n, n_metrics, 2): value of each list, and its weight
    items: np.ndarray  # items of the lists: item + n_items × number of the metric of all lists
    sums: np.ndarray  # what each of them has there
    rows: np.ndarray  # (n,) rows of test


def plan_ranking(task: Alignment, wanted: Sequence[Metric], *, threshold: float | None = None,
                 candidates: Any = None, groups: Any = None, item_features: Any = None,
                 exclude_seen: bool = True) -> Plan:
    """Settle what to rank and what to keep; arguments as in `evaluate`."""
    catalogue = _catalogue(task, wanted, groups, item_features)
    asked, allowed = _asked(task, threshold, candidates)
    if needing(wanted, "gains"):
        validation.nonnegative("ratings of relevant test cells, for graded metrics,",
                               asked.by_user.data)
    missing = asked.select_cells(task.columns[asked.by_user.indices] < 0)
    return Plan(task=task, wanted=tuple(wanted), allowed=allowed, exclude_seen=exclude_seen,
                relevant=renumber_items(asked, task.columns, task.model.n_items_).by_user,
                missing=missing.by_user, catalogue=catalogue)


def _catalogue(task: Alignment, wanted: Sequence[Metric], groups: Any, item_features: Any
               ) -> Catalogue:
    """Return what the metrics need to know of the items and users, or raise a ValueError."""
    check_given(wanted, groups=groups, item_features=item_features)
    model, features, categories = task.model, None, None
    if needing(wanted, "groups"):
        groups = _checked_groups(task, groups)
    if needing(wanted, "seen"):
        model.check_seen()
    if needing(wanted, "item_features"):
        features = lists.item_matrix(item_features, model.n_items_)
    if any(metric.name.startswith(("entropy", "calibration")) for metric in wanted):
        categories = lists.categories_of(features)
    counts = model.item_counts_ if needing(wanted, "counts") else np.zeros(0)
    return Catalogue(counts, model.n_users_, features, categories, groups)


def _asked(task: Alignment, threshold: float | None, candidates: Any) -> tuple[Ratings, Any]:
    """Return the relevant cells and the mask of the items to rank."""
    test, chosen = task.test, np.ones(task.test.nnz, bool)
    if threshold is not None:
        chosen = test.by_user.data >= threshold
    if not chosen.any():
        raise ValueError(f"threshold must leave a relevant test cell, got {threshold} above "
                         f"all {test.nnz} ratings")
    inside, allowed = _candidates(task, candidates)
    return test.select_cells(chosen & inside), allowed


def _candidates(task: Alignment, candidates: Any) -> tuple[np.ndarray, Any]:
    """Return which test cells are candidates, and the mask of the items to rank."""
    test, n_items = task.test, task.model.n_items_
    if candidates is None:
        return np.ones(test.nnz, bool), None
    if sp.issparse(candidates) or isinstance(candidates, Ratings):
        offered = as_ratings("candidates", candidates)
        if offered.shape != test.shape:
            raise ValueError(f"candidates must have the shape of test, {test.shape}, got "
                             f"{offered.shape}")
        return (stored_in(test.by_user, offered.by_user),
                renumber_items(offered, task.columns, n_items).by_user)
    candidates = as_vector(candidates, "candidates")
    there = task.model.ratings_.item_positions(candidates, "candidates")
    here = there if test.item_ids is None else test.item_positions(candidates, "candidates")
    validation.known_ids("candidates", candidates.tolist(), np.maximum(here, there))
    allowed, inside = np.zeros(n_items, bool), np.zeros(test.shape[1], bool)
    allowed[there[there >= 0]] = True
    inside[here[here >= 0]] = True
    return inside[test.by_user.indices], allowed


def _checked_groups(task: Alignment, groups: Any) -> tuple[np.ndarray, np.ndarray]:
    both = validation.iterable("groups", groups)
    if len(both) != 2:
        raise ValueError(f"groups must be (user_groups, item_groups), got {len(both)} entries")
    users, items = map(np.asarray, both)
    wanted = (task.test.shape[0],), (task.model.n_items_,)
    if (users.shape, items.shape) != wanted:
        raise ValueError(f"groups must have shapes {wanted[0]} and {wanted[1]}, got "
                         f"{users.shape} and {items.shape}")
    return users, items


# Calls a function with what all calls share and with each part; returns results in order.
Over = Callable[[Callable[[Any, Any], Any], Any, Sequence[Any]], list[Any]]


def measure(plan: Plan, n_threads: int | None, over: Over | None = None
            ) -> dict[str, Values | float]:
    """Return the values of ranking metrics by their keys; a number for those of all lists.

    `over` measures blocks of users elsewhere; None: here, one after the other.  Raises a
    ValueError if no relevant cell is left, or for a NaN among the scores.
    """
    rows, relatedness = _rows_of(plan), None
    if {"folding", "spurious_rate"} & {metric.name for metric in plan.of_lists}:
        from mfcore.metrics.folding import Relatedness

        relatedness = Relatedness(plan.task.model.ratings_, n_threads=n_threads)
    shared = plan, relatedness, n_threads if over is None else 1
    blocks = _blocks(rows)
    found = [_measured_block(shared, block) for block in blocks] if over is None else \
        over(_measured_block, shared, blocks)
    parts = [part for some in found for part in some]
    if not parts:
        raise ValueError(f"test {NOTHING_LEFT}; exclude_seen=False ranks items seen in training "
                         f"too")
    whole = _Part(*map(np.concatenate, zip(*parts, strict=True)))
    indptr = np.concatenate([[0], np.cumsum(whole.n_relevant)])
    ranks = ranking.Ranks(whole.ranks, indptr, whole.ties, whole.gains)
    return {metric.key: _value(plan, whole, ranks, metric) for metric in plan.wanted}


def is_measurable(plan: Plan) -> bool:
    """Return whether a relevant cell takes part in the ranking, without scores of a model."""
    return any(_left_to_find(plan, block)[0].size for block in _blocks(_rows_of(plan)))


def _rows_of(plan: Plan) -> np.ndarray:
    return np.flatnonzero(np.diff(plan.relevant.indptr) + plan.unknown)


def _blocks(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start:stop] for start, stop in row_chunks(rows.size, ROWS_AT_A_TIME)]


def _measured_block(shared: tuple[Plan, Any, int | None], rows: np.ndarray) -> list[_Part]:
    plan, relatedness, n_threads = shared
    with Pool(n_threads) as pool:
        return _measured(plan, rows, relatedness, pool)


def _measured(plan: Plan, rows: np.ndarray, relatedness: Any, pool: Pool) -> list[_Part]:
    rows, relevant, seen = _left_to_find(plan, rows)
    if not rows.size:
        return []
    missing = plan.missing[rows]
    allowed = plan.allowed[rows] if sp.issparse(plan.allowed) else plan.allowed
    scorer = plan.task.scorer(rows, pool)
    masks = Masks((rows.size, scorer.n_items), seen=seen, allowed=allowed)
    known = plan.task.seen(rows) if needing(plan.wanted, "seen") else None
    related = None if relatedness is None else relatedness.scorer(known)
    needs_ranks, needs_scores = plan.depth >= 0, bool(reading(plan.wanted, "scores"))

    def work(start: int, stop: int) -> _Part:
        scored = masked_block(scorer, masks, start, stop)
        cells = block_cells(relevant, start, stop)
        if needs_ranks or needs_scores:
            scored.settle(rows_of_block(cells), cells[2])
        ranks, ties, gains, n_relevant = _ranks(
            plan, scored, cells, _part(relevant, start, stop), _part(missing, start, stop))
        lists = _of_shown(plan, Block(start, masks, relevant, known, related), rows, scored)
        roc = roc_sums(scored, cells) if needs_scores else np.zeros((stop - start, 3))
        return _Part(ranks, ties, gains, n_relevant, roc, *lists, rows[start:stop])

    return _summed(pool.map(work, score_blocks(scorer)), len(plan.of_all) * scorer.n_items)


def _summed(parts: list[_Part], n_sums: int) -> list[_Part]:
    """Return the parts with the sums of all of them in the first, added in their order."""
    total, none = np.zeros(n_sums), np.empty(0, np.int64)
    for part in parts:
        total[part.items] += part.sums
    items = np.flatnonzero(total)
    parts = [part._replace(items=none, sums=np.empty(0)) for part in parts]
    return [parts[0]._replace(items=items, sums=total[items]), *parts[1:]]


def _left_to_find(plan: Plan, rows: np.ndarray) -> tuple[np.ndarray, sp.csr_array, Any]:
    """Return the rows with relevant items that were not seen, these items, and the seen."""
    relevant = plan.relevant[rows]
    if not plan.exclude_seen:
        return rows, relevant, None
    seen = plan.task.seen(rows)
    fresh = ~stored_in(relevant, seen)
    indptr = np.concatenate([[0], np.cumsum(fresh)])[relevant.indptr]
    relevant = sp.csr_array((relevant.data[fresh], relevant.indices[fresh], indptr),
                            shape=relevant.shape)
    kept = np.diff(indptr) + plan.unknown[rows] > 0
    return (rows, relevant, seen) if kept.all() else (rows[kept], relevant[kept], seen[kept])


def _part(cells: sp.csr_array, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of cells of each of some rows, and their values."""
    pointer = cells.indptr[start:stop + 1]
    return np.diff(pointer), cells.data[pointer[0]:pointer[-1]]


def _ranks(plan: Plan, scored: ScoredRows, cells: BlockCells,
           known: tuple[np.ndarray, np.ndarray], missing: tuple[np.ndarray, np.ndarray]
           ) -> tuple[np.ndarray, ...]:
    """Return the ranks, ties and ratings of relevant items, and the numbers of these by user."""
    n_relevant = known[0] + missing[0]
    ranks = np.full(n_relevant.sum(), kernels.NEVER, np.int64)
    ties, gains = np.ones_like(ranks), np.zeros(ranks.size)
    if plan.depth >= 0:
        which = np.full_like(ranks, -1)
        places = np.cumsum(n_relevant) - n_relevant

        def count(rows: np.ndarray, rounding: np.ndarray, unsure: np.ndarray) -> None:
            no_nan(kernels.leading_ranks(scored.scores, rows, *cells, plan.depth, rounding, places,
                                         ranks, ties, which, unsure), scored.start)

        counted(scored, cells, count)
        gains[which >= 0] = known[1][which[which >= 0]]
        gains[which < 0] = missing[1]
    return ranks, ties, gains, n_relevant


def _of_shown(plan: Plan, block: Block, rows: np.ndarray, scored: ScoredRows
              ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the metrics of each list of a block of scores, and the items of all of them.

    A few rows at a time: a row all of whose scores are equal has all items in its list.
    """
    n, n_items = scored.scores.shape
    lists, sums = np.ones((n, len(plan.of_lists), 2)), np.zeros((len(plan.of_all), n_items))
    for lo, hi in row_chunks(n * bool(plan.longest), max(1, LIST_CELLS // n_items)):
        start = block.start + lo
        at = Shown(plan.catalogue, scored.part(lo, hi), plan.longest, block._replace(start=start),
                   rows[start:block.start + hi])
        _of_lists(plan, at, lists[lo:hi])
        for number, metric in enumerate(plan.of_all):
            sums[number] += getattr(shown, metric.name)(at, metric.k).sum(axis=0)
    items = np.flatnonzero(sums)
    return lists, items.astype(np.min_scalar_type(sums.size)), sums.ravel()[items]


def _of_lists(plan: Plan, at: Shown, out: np.ndarray) -> None:
    """Write the value of each list and its weight, of each metric of lists."""
    for number, metric in enumerate(plan.of_lists):
        found = getattr(shown, metric.kind.function or metric.name)(at, metric.k)
        out[:, number, :1 + isinstance(found, tuple)] = np.transpose(np.atleast_2d(found))


def _value(plan: Plan, whole: _Part, ranks: ranking.Ranks, metric: Metric) -> Values | float:
    kind = metric.kind
    if kind.reads == "catalogue":
        return _of_catalogue(plan, whole, metric)
    if kind.reads == "lists":
        values, weights = whole.lists[:, plan.of_lists.index(metric)].T
        return Values(values, None if (weights == 1).all() else weights, whole.rows)
    formula = getattr(ranking, kind.function or metric.name)
    scored = (ranking.Scored(*whole.roc.T),) if kind.reads == "scores" else ()
    return Values(formula(ranks, metric.k, *scored), None, whole.rows)


def _of_catalogue(plan: Plan, whole: _Part, metric: Metric) -> float:
    """Return a metric of all lists, of the items that can be recommended at all."""
    n_items = plan.task.model.n_items_
    sums = np.bincount(whole.items, whole.sums, len(plan.of_all) * n_items)
    sums = sums.reshape(-1, n_items)[plan.of_all.index(metric)]
    if plan.allowed is not None:
        sums = sums[np.unique(plan.allowed.indices) if sp.issparse(plan.allowed) else
                    plan.allowed]
    total: Callable[[np.ndarray], float] = getattr(lists, metric.kind.total)
    return total(sums)
