"""The ranking part of an evaluation: whom to rank what for, and what a block leaves behind.

A block of users is scored, masked and reduced to the ranks of its relevant items, three
numbers a user for the ROC curve, and its lists of best items.  Everything after that works
on these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.ratings import Ratings, as_ratings
from mfcore.kernels import ranks as kernels
from mfcore.metrics import ranking
from mfcore.metrics.alignment import Alignment, moved, stored_in
from mfcore.metrics.folding import (
    cross_group_rate,
    mean_gap,
    quantiles_of_best,
    spurious_rate,
)
from mfcore.metrics.relatedness import Relatedness
from mfcore.metrics.topk import (
    Masks,
    best_of_block,
    block_cells,
    masked_block,
    no_nan,
    score_blocks,
)
from mfcore.parallel import Pool, row_chunks

# Of the gaps between the quantiles of score and relatedness.
FOLDING = {"folding": mean_gap, "spurious_rate": spurious_rate}
LISTED = ("item_coverage", "popularity_rank", "cross_group_rate", *FOLDING)
# Rows whose seen cells are gathered at a time.
ROWS_AT_A_TIME = 8192
Cells = tuple[np.ndarray, np.ndarray, np.ndarray]  # starts, stops, columns of a block


class Metric(NamedTuple):
    """A metric asked for: its key in the result, its name, its cut-off (None: uncut)."""

    key: str
    name: str
    k: int | None


@dataclass(frozen=True)
class Plan:
    """What to rank, for whom, and what to keep of it."""

    task: Alignment
    relevant: sp.csr_array  # relevant cells, by test row and model column
    unknown: np.ndarray  # relevant items that the model does not know, by test row
    allowed: Any  # None, bool over the model's items, or CSR by test row and model column
    exclude_seen: bool
    groups: tuple[np.ndarray, np.ndarray] | None
    depth: int  # ranks beyond it need not be exact; -1: no ranks at all
    longest: int  # length of the lists of best items, 0: none
    roc: bool
    folds: bool  # whether what is listed is held against relatedness


class _Part(NamedTuple):
    """What a block of users leaves behind; arrays of parts are joined in order."""

    ranks: np.ndarray  # (n_relevant.sum(),)
    n_relevant: np.ndarray  # (n,)
    roc: np.ndarray  # (n, 3): midrank sum, found, candidates
    items: np.ndarray  # (n, longest)
    gaps: np.ndarray  # (n, longest): quantile of score less that of relatedness, or NaN
    rows: np.ndarray  # (n,) rows of test


def plan_ranking(task: Alignment, wanted: list[Metric], *, threshold: float | None = None,
                 candidates: Any = None, groups: Any = None,
                 exclude_seen: bool = True) -> Plan:
    """Settle what to rank and what to keep; arguments as in `evaluate`."""
    names = {metric.name for metric in wanted}
    if "cross_group_rate" in names:
        groups = _checked_groups(task, groups)
    folds = not names.isdisjoint(FOLDING)
    if folds:
        task.model._check_seen()
    asked, allowed = _asked(task, threshold, candidates)
    missing = task.columns[asked.by_user.indices] < 0
    cuts = [metric.k or 0 for metric in wanted if metric.name in ranking.PER_USER]
    lists = [metric.k or 0 for metric in wanted if metric.name in LISTED]
    return Plan(task=task, allowed=allowed, exclude_seen=exclude_seen, groups=groups,
                relevant=moved(asked, task.columns, task.model.n_items_).by_user,
                unknown=np.bincount(asked.users_of_cells[missing], minlength=asked.shape[0]),
                depth=max(cuts, default=0 if "auc" in names else -1),
                longest=max(lists, default=0), roc="auc" in names, folds=folds)


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
                moved(offered, task.columns, n_items).by_user)
    there = task.model.ratings_.item_positions(candidates)
    here = there if test.item_ids is None else test.item_positions(candidates)
    validation.known_ids("candidates", candidates, np.maximum(here, there))
    allowed, inside = np.zeros(n_items, bool), np.zeros(test.shape[1], bool)
    allowed[there[there >= 0]] = True
    inside[here[here >= 0]] = True
    return inside[test.by_user.indices], allowed


def _checked_groups(task: Alignment, groups: Any) -> tuple[np.ndarray, np.ndarray]:
    if groups is None:
        raise ValueError("groups must be (user_groups, item_groups) for cross_group_rate, "
                         "got None")
    users, items = map(np.asarray, groups)
    wanted = (task.test.shape[0],), (task.model.n_items_,)
    if (users.shape, items.shape) != wanted:
        raise ValueError(f"groups must have shapes {wanted[0]} and {wanted[1]}, got "
                         f"{users.shape} and {items.shape}")
    return users, items


# Calls a function with what all calls share and with each part; returns results in order.
Over = Callable[[Callable[[Any, Any], Any], Any, Sequence[Any]], list[Any]]


def measure(plan: Plan, wanted: list[Metric], n_threads: int | None,
            over: Over | None = None) -> dict[str, float]:
    """Return the values of ranking metrics by their keys.

    `over` measures blocks of users elsewhere; None: here, one after the other.  Raises a
    ValueError if no relevant cell is left, or for a NaN among the scores.
    """
    rows = np.flatnonzero(np.diff(plan.relevant.indptr) + plan.unknown)
    relatedness = Relatedness(plan.task.model.ratings_, n_threads=n_threads) if plan.folds \
        else None
    shared = plan, relatedness, n_threads if over is None else 1
    blocks = [rows[start:stop] for start, stop in row_chunks(rows.size, ROWS_AT_A_TIME)]
    found = [_measured_block(shared, block) for block in blocks] if over is None else \
        over(_measured_block, shared, blocks)
    parts = [part for some in found for part in some]
    if not parts:
        raise ValueError("test must hold a relevant cell that takes part in the ranking, got "
                         "none; exclude_seen=False ranks items seen in training too")
    whole = _Part(*map(np.concatenate, zip(*parts, strict=True)))
    ranks = ranking.Ranks(whole.ranks, np.concatenate([[0], np.cumsum(whole.n_relevant)]))
    return {metric.key: _value(plan, whole, ranks, metric) for metric in wanted}


def _measured_block(shared: tuple[Plan, Relatedness | None, int | None], rows: np.ndarray
                    ) -> list[_Part]:
    plan, relatedness, n_threads = shared
    with Pool(n_threads) as pool:
        return _measured(plan, rows, relatedness, pool)


def _measured(plan: Plan, rows: np.ndarray, relatedness: Relatedness | None,
              pool: Pool) -> list[_Part]:
    rows, relevant, seen = _left_to_find(plan, rows)
    if not rows.size:
        return []
    unknown = plan.unknown[rows]
    allowed = plan.allowed[rows] if sp.issparse(plan.allowed) else plan.allowed
    scorer = plan.task.scorer(rows)
    masks = Masks((rows.size, scorer.n_items), seen=seen, allowed=allowed)
    related = None if relatedness is None else relatedness.scorer(plan.task.seen(rows))

    def work(start: int, stop: int) -> _Part:
        scores = masked_block(scorer, masks, start, stop)
        starts, stops, columns = cells = block_cells(relevant, start, stop)
        n_relevant = stops - starts + unknown[start:stop]
        best = _best(plan, scores, start)
        gaps = np.empty(best.shape) if related is None else np.subtract(
            *quantiles_of_best(scores, best, related, masks, start))
        return _Part(_ranks(plan, scores, cells, n_relevant, start), n_relevant,
                     _roc(plan, scores, cells), best, gaps, rows[start:stop])

    return pool.map(work, score_blocks(scorer))


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


def _best(plan: Plan, scores: np.ndarray, start: int) -> np.ndarray:
    if not plan.longest:
        return np.empty((scores.shape[0], 0), np.int64)
    return best_of_block(scores, plan.longest, start)[0]


def _ranks(plan: Plan, scores: np.ndarray, cells: Cells, n_relevant: np.ndarray,
           start: int) -> np.ndarray:
    out = np.full(n_relevant.sum(), ranking.NEVER, np.int64)
    if plan.depth >= 0:
        places = np.cumsum(n_relevant) - n_relevant
        no_nan(kernels.leading_ranks(scores, *cells, plan.depth, places, out), start)
    return out


def _roc(plan: Plan, scores: np.ndarray, cells: Cells) -> np.ndarray:
    out = np.zeros((3, scores.shape[0]))
    if plan.roc:
        kernels.midrank_sums(scores, *cells, *out)
    return out.T


def _value(plan: Plan, whole: _Part, ranks: ranking.Ranks, metric: Metric) -> float:
    if metric.name in LISTED:
        return _of_lists(plan, whole, metric)
    if metric.name == "auc":
        sums, found, candidates = whole.roc.T
        values = ranking.auc(sums, found, whole.n_relevant, candidates)
    else:
        values = ranking.PER_USER[metric.name](ranks, metric.k)
    return ranking.mean_over_users(values)


def _of_lists(plan: Plan, whole: _Part, metric: Metric) -> float:
    items = whole.items[:, :metric.k]
    if metric.name in FOLDING:
        return FOLDING[metric.name](whole.gaps[:, :metric.k])
    if metric.name == "item_coverage":
        return ranking.item_coverage(items, _n_offered(plan))
    if metric.name == "popularity_rank" or plan.groups is None:
        return ranking.popularity_rank(items, plan.task.model.item_counts_)
    return cross_group_rate(items, plan.groups[0][whole.rows], plan.groups[1])


def _n_offered(plan: Plan) -> int:
    """Number of items that are a candidate for anyone."""
    if plan.allowed is None:
        return int(plan.task.model.n_items_)
    if sp.issparse(plan.allowed):
        return int(np.unique(plan.allowed.indices).size)
    return int(plan.allowed.sum())
