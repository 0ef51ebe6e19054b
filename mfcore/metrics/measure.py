"""Rank for the users of a test set, and measure the rankings.

An `Alignment` finds the rows and columns of the test set among those of training.  A `Plan` says
for whom to rank what.  Each block of users is then scored, masked and reduced to the ranks of its
relevant items, three numbers per user for the ROC curve, and its lists of best items, which is
all that the metrics need.
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
from mfcore.metrics.fitted import NewRows, Query, Scorer
from mfcore.metrics.topk import (
    ROWS_AT_A_TIME,
    Masks,
    best_of_block,
    block_cells,
    masked_block,
    no_nan,
    score_blocks,
)
from mfcore.parallel import Pool, row_chunks

FOLDING = ("folding", "spurious_rate")
LISTED = ("item_coverage", "popularity_rank", "cross_group_rate", *FOLDING)
NOTHING_LEFT = "must hold a relevant cell that takes part in the ranking, got none"
BlockCells = tuple[np.ndarray, np.ndarray, np.ndarray]  # starts, stops, columns of a block


class Alignment:
    """The rows and columns of a test set, as a fitted model numbers them.

    Parameters
    ----------
    model : fitted model
    test : Ratings or scipy sparse, shape (n_test_users, n_test_items)
        Its ids are looked up in the model; without ids its rows (columns) must be those of
        training.
    fold_in, user_features : or None
        Known ratings and features of the test users, who then count as new to the model.

    Raises
    ------
    TypeError
        If `model` is not a fitted model.
    ValueError
        For an empty test set, a shape other than that of training (without ids), or a fold_in
        with other users than test.
    """

    def __init__(self, model: Any, test: Any, fold_in: Any = None,
                 user_features: Any = None) -> None:
        if not hasattr(model, "answers"):
            raise TypeError(f"model must be a fitted model, got {type(model).__name__}")
        self.model = model
        self.test = as_ratings("test", test)
        if not self.test.nnz:
            raise ValueError("test must hold at least one rating, got none")
        self.columns = _positions(model, "test", self.test, axis=1)
        self.fold_in: Any = None if fold_in is None else self._known_of(fold_in)
        self.new: NewRows | None = model.new_rows(self.fold_in, user_features, self.test.shape[0])
        self.rows = np.empty(0, np.int64) if self.new is not None else \
            _positions(model, "test", self.test, axis=0)

    def _known_of(self, fold_in: Any) -> Ratings:
        """Return the fold-in ratings on the model's items."""
        fold_in = as_ratings("fold_in", fold_in)
        ours, theirs = self.test.user_ids, fold_in.user_ids
        if fold_in.shape[0] != self.test.shape[0] or (
                ours is not None and theirs is not None and not np.array_equal(ours, theirs)):
            raise ValueError(f"fold_in must have the users of test, row by row, got "
                             f"{fold_in.shape[0]} rows beside {self.test.shape[0]}"
                             f"{'' if fold_in.shape[0] != self.test.shape[0] else ' by other ids'}")
        columns = _positions(self.model, "fold_in", fold_in, axis=1)
        return moved(fold_in, columns, self.model.n_items_, self.model.item_ids_)

    def scorer(self, rows: np.ndarray, pool: Pool) -> Scorer:
        """Return the scorer of the given test rows."""
        asked = self.rows[rows] if self.new is None else self.new.select(rows)
        scorer: Scorer = self.model.answers().scorer(asked, Query(), pool)
        return scorer

    def seen(self, rows: np.ndarray) -> sp.csr_array:
        """Return the cells that the model knew of the given test rows, as CSR."""
        if self.new is None:
            return self.model.ratings_.cells_of(self.rows[rows])
        return self.new.select(rows).known(self.model.n_items_).by_user

    def predictions(self) -> np.ndarray:
        """Return the predicted rating of each stored test cell, shape (nnz,), unclipped."""
        test, model = self.test, self.model
        users, columns = test.users_of_cells, test.by_user.indices
        items = _names(test.item_ids, model.item_ids_, columns)
        if self.new is None:
            return np.asarray(model.predict(_names(test.user_ids, model.user_ids_, users),
                                            items))
        rated, place = np.unique(users, return_inverse=True)
        known = self.new.select(rated)
        features = {} if known.features is None else {"user_features": known.features}
        return np.asarray(model.predict(place, items, ratings=known.ratings, **features))


def moved(ratings: Ratings, columns: np.ndarray, n_items: int, item_ids: Any = None) -> Ratings:
    """Renumber columns: j becomes columns[j]; cells of columns that become -1 are dropped."""
    if np.array_equal(columns, np.arange(n_items)):
        return ratings
    cells = columns[ratings.by_user.indices]
    kept = np.flatnonzero(cells >= 0)
    rows = ratings.users_of_cells[kept]
    order = kept[np.lexsort((cells[kept], rows))]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=ratings.shape[0]))])
    matrix = sp.csr_array((ratings.by_user.data[order], cells[order], indptr),
                          shape=(ratings.shape[0], n_items))
    weights = None if ratings.weights is None else ratings.weights[order]
    return Ratings(matrix, weights=weights, user_ids=ratings.user_ids, item_ids=item_ids,
                   copy=False)


def stored_in(cells: sp.csr_array, pattern: sp.csr_array) -> np.ndarray:
    """Return which stored cells of one CSR are stored in another, bool, shape (nnz,)."""
    numbered = sp.csr_array((np.arange(1, cells.nnz + 1), cells.indices, cells.indptr),
                            shape=cells.shape)
    ones = sp.csr_array((np.ones(pattern.nnz, np.int64), pattern.indices, pattern.indptr),
                        shape=pattern.shape)
    found = np.zeros(cells.nnz, bool)
    found[numbered.multiply(ones).tocsr().data - 1] = True
    return found


def _positions(model: Any, name: str, ratings: Ratings, axis: int) -> np.ndarray:
    """Return the model's number of each row (axis 0) or column (axis 1), -1 if unknown."""
    ids, trained = (ratings.user_ids, ratings.item_ids)[axis], (model.n_users_, model.n_items_)
    if ids is not None:
        find = model.ratings_.item_positions if axis else model.ratings_.user_positions
        return np.asarray(find(ids))
    if ratings.shape[axis] != trained[axis]:
        cure = "it looks transposed: users are rows" if ratings.shape[::-1] == trained else \
            "give it ids if its users or items differ from those of training"
        raise ValueError(f"{name} must have the shape of the training ratings, {trained}, got "
                         f"{ratings.shape}; {cure}")
    return np.arange(trained[axis])


def _names(given: np.ndarray | None, trained: np.ndarray | None,
           numbers: np.ndarray) -> np.ndarray:
    """Return the names by which `predict` knows these numbers: ids, or the numbers."""
    ids = given if given is not None else trained
    return numbers if ids is None else ids[numbers]


# ------------------------------------------------------------------------ rankings

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
    folds: bool  # whether recommendations are compared with relatedness


class _Part(NamedTuple):
    """What is kept of a block of users; arrays of parts are joined in order."""

    ranks: np.ndarray  # (n_relevant.sum(),)
    ties: np.ndarray  # (n_relevant.sum(),)
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
        task.model.check_seen()
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
    rows, relatedness = _rows_of(plan), None
    if plan.folds:
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
    ranks = ranking.Ranks(whole.ranks, indptr, whole.ties)
    return {metric.key: _value(plan, whole, ranks, metric) for metric in wanted}


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
    unknown = plan.unknown[rows]
    allowed = plan.allowed[rows] if sp.issparse(plan.allowed) else plan.allowed
    scorer = plan.task.scorer(rows, pool)
    masks = Masks((rows.size, scorer.n_items), seen=seen, allowed=allowed)
    related = None if relatedness is None else relatedness.scorer(plan.task.seen(rows))

    def work(start: int, stop: int) -> _Part:
        scores = masked_block(scorer, masks, start, stop)
        starts, stops, columns = cells = block_cells(relevant, start, stop)
        n_relevant = stops - starts + unknown[start:stop]
        best = np.empty((len(scores), 0), np.int64) if not plan.longest else \
            best_of_block(scores, plan.longest, start)[0]
        gaps = np.empty(best.shape) if related is None else \
            np.subtract(*related.quantiles(scores, best, masks, start))
        return _Part(*_ranks(plan, scores, cells, n_relevant, start), n_relevant,
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


def _ranks(plan: Plan, scores: np.ndarray, cells: BlockCells, n_relevant: np.ndarray,
           start: int) -> tuple[np.ndarray, np.ndarray]:
    ranks = np.full(n_relevant.sum(), kernels.NEVER, np.int64)
    ties = np.ones_like(ranks)
    if plan.depth >= 0:
        places = np.cumsum(n_relevant) - n_relevant
        no_nan(kernels.leading_ranks(scores, *cells, plan.depth, places, ranks, ties), start)
    return ranks, ties


def _roc(plan: Plan, scores: np.ndarray, cells: BlockCells) -> np.ndarray:
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
    from mfcore.metrics import folding

    items, gaps = whole.items[:, :metric.k], whole.gaps[:, :metric.k]
    if metric.name == "item_coverage":
        offered = np.arange(plan.task.model.n_items_) if plan.allowed is None else \
            np.unique(plan.allowed.indices) if sp.issparse(plan.allowed) else \
            np.flatnonzero(plan.allowed)
        return ranking.item_coverage(items, len(offered))
    if metric.name == "cross_group_rate" and plan.groups is not None:
        return folding.cross_group_rate(items, plan.groups[0][whole.rows], plan.groups[1])
    if metric.name == "popularity_rank":
        return ranking.popularity_rank(items, plan.task.model.item_counts_)
    return folding.mean_gap(gaps) if metric.name == "folding" else folding.spurious_rate(gaps)
