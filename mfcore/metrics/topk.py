"""The k best items of each row of a score matrix that is never in memory as a whole.

Rows are scored in blocks: one product (BLAS, in the scorer), then masks, then a partial
selection.  The blocks depend on the number of items alone, so the result does not depend on the
number of threads.

BLAS rounds a row by the block that it is in.  So that a row has one list in any company, what
decides it is scored again, each cell alone: the k best, and all that rounding could have put
behind them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.chunks import Columns
from mfcore.data.positions import filled, lengthened
from mfcore.kernels import topk as kernels
from mfcore.metrics.fitted import Scorer, Settling
from mfcore.parallel import Pool, row_chunks

# Most scores (64 MB of float32 per thread) and rows of a block: beyond 128 rows the product gains
# nothing and the block leaves the cache before it is read.
BLOCK_SCORES = 1 << 24
BLOCK_ROWS = 128
ROWS_AT_A_TIME = 8192   # rows whose seen cells are gathered together
# A first look at group maxima pays for itself from this k on, in as many groups of as many items.
LONG_LIST, GROUPS, GROUP_SIZE = 16, 64, 8
CELLS_AT_A_TIME = 1 << 20   # cells that are looked through together for those to score again
LISTED_AT_A_TIME = 1 << 16  # items of lists that are scored again together
BlockCells = tuple[np.ndarray, np.ndarray, np.ndarray]  # starts, stops, columns of a block


class Masks:
    """Which cells of a score matrix may not be recommended.

    Parameters
    ----------
    shape : (n_rows, n_items)
    seen, excluded : None, CSR of that shape, Columns, or (excluded) bool ndarray, shape (n_items,)
        Stored cells, or marked items, are left out.
    allowed : None, bool ndarray, shape (n_items,), or CSR of that shape
        All but the marked items, or stored cells, are left out.

    Raises
    ------
    TypeError
        For masks that are neither bool arrays nor sparse.
    ValueError
        For another shape, or column numbers outside the matrix.
    """

    def __init__(self, shape: tuple[int, int], *, seen: Any = None, allowed: Any = None,
                 excluded: Any = None) -> None:
        self._drop = [_cells(name, mask, shape) for name, mask in
                      (("seen", seen), ("excluded", excluded)) if _is_rows(mask)]
        self._keep = [_cells("allowed", allowed, shape)] if sp.issparse(allowed) else []
        items = [] if allowed is None or sp.issparse(allowed) else \
            [_items("allowed", allowed, shape[1])]
        if excluded is not None and not _is_rows(excluded):
            items.append(~_items("excluded", excluded, shape[1]))
        if seen is not None and not _is_rows(seen):
            raise TypeError(f"seen must be a scipy sparse matrix, got {type(seen).__name__}")
        left = np.logical_and.reduce(items) if items else None
        self._columns = None if left is None or left.all() else np.flatnonzero(left)

    def apply(self, scores: np.ndarray, start: int) -> None:
        """Set the masked cells of a block, rows from `start` on, to -inf in place."""
        stop = start + scores.shape[0]
        if self._columns is not None:
            starts = np.zeros(scores.shape[0], np.int64)
            kernels.keep_cells(scores, starts, starts + self._columns.size, self._columns)
        for mask in self._keep:
            kernels.keep_cells(scores, *block_cells(mask, start, stop))
        for mask in self._drop:
            kernels.drop_cells(scores, *block_cells(mask, start, stop))


def top_k(scorer: Scorer, k: int, *, seen: Any = None, allowed: Any = None,
          excluded: Any = None, pool: Pool) -> tuple[np.ndarray, np.ndarray]:
    """Find the k best items of each row of a scorer; ties go to the lower item.

    Parameters
    ----------
    scorer : Scorer
    k : int >= 1
        May exceed the number of items.
    seen, allowed, excluded
        Cells to leave out: see `Masks`.
    pool : Pool

    Returns
    -------
    columns : ndarray of int64, shape (n_rows, k)
        Item numbers, best first; -1 where there are fewer than k items to choose from.
    scores : ndarray of the scorer's dtype, shape (n_rows, k)
        Their scores; -inf at missing places.  An item scored -inf counts as left out.

    Raises
    ------
    ValueError
        For NaN among the scores that are not left out, k < 1, masks of another shape, or so large
        a k that places without an item would take more than a gibibyte.
    MemoryError
        With the bytes needed: see `needed`.
    """
    k = validation.count("k", k)
    held = max(1, filled(k, scorer.n_rows, scorer.n_items))
    masks = Masks((scorer.n_rows, scorer.n_items), seen=seen, allowed=allowed,
                  excluded=excluded)

    def work(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        return masked_block(scorer, masks, start, stop).chosen(held)

    try:
        parts = pool.map(work, score_blocks(scorer))
        columns, scores = map(np.concatenate, zip(*parts, strict=True))
        pool.map(lambda lo, hi: settle_lists(scorer, lo, columns[lo:hi], scores[lo:hi]),
                 row_chunks(scorer.n_rows, max(1, LISTED_AT_A_TIME // held)))
        return lengthened(columns, scores, k)
    except MemoryError:
        least = needed(scorer.n_rows, scorer.n_items, k, pool.n_threads)
        raise MemoryError(
            f"the {k} best of {scorer.n_items:,} items for {scorer.n_rows:,} users need "
            f"{least / 1e6:,.0f} MB besides the model; ask for fewer users at a time, a smaller "
            f"k or fewer threads") from None


def needed(n_rows: int, n_items: int, k: int, n_threads: int, itemsize: int = 4) -> int:
    """Return the bytes that `top_k` needs in addition to the scorer.

    The lists take n_rows · k · 2 (8 + itemsize), and each thread two blocks of scores.
    """
    block = _block_rows(n_items) * n_items
    return n_rows * k * 2 * (8 + itemsize) + 2 * n_threads * block * itemsize


def rows_within(memory: int, n_items: int, per_row: int, n_threads: int) -> int:
    """Return how many rows `top_k` can take at a time within a memory, in bytes; 0: not one.

    `per_row` are the bytes that are held for a row besides two blocks of scores on each thread.
    """
    scores, at_once = 2 * 4 * n_items, n_threads * _block_rows(n_items)
    rows = memory // (per_row + scores)
    return rows if rows <= at_once else (memory - scores * at_once) // per_row


def _block_rows(n_items: int) -> int:
    return min(BLOCK_ROWS, max(1, BLOCK_SCORES // max(1, n_items)))


def score_blocks(scorer: Scorer) -> list[tuple[int, int]]:
    """Return (start, stop) of the blocks of rows to score at a time; at least one."""
    return row_chunks(scorer.n_rows, _block_rows(scorer.n_items)) or [(0, 0)]


def masked_block(scorer: Scorer, masks: Masks, start: int, stop: int) -> ScoredRows:
    """Return a block of scores, rows start..stop, with masked cells -inf."""
    scores = np.ascontiguousarray(scorer.block(start, stop))
    masks.apply(scores, start)
    return ScoredRows(scores, scorer, start, scorer.rounding(start, stop))


@dataclass(eq=False)
class ScoredRows:
    """Scores of some rows, to be settled where rounding could decide.

    scores : ndarray, shape (n, n_items), -inf in masked cells
    scorer, start : whose scores they are, from which row on
    rounding : ndarray, shape (n,), or None
        How far a score may be from what it is settled to; None, or 0 in a row: it is exact.
    """

    scores: np.ndarray
    scorer: Any
    start: int
    rounding: np.ndarray | None

    def best(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (columns, scores) of the k best of each row; they and their ties are settled."""
        columns, best = self.chosen(k)
        settle_lists(self.scorer, self.start, columns, best)
        rows, places = np.nonzero(columns >= 0)
        self.scores[rows, columns[rows, places]] = best[rows, places]
        return columns, best

    def chosen(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the same, with scores that are settled only where rounding could choose.

        A score more than two roundings below that of the last of the k best is not among them.
        """
        if self.rounding is None:
            return best_of_block(self.scores, k, self.start)
        columns, best, close = selected(self.scores, k, self.rounding, self.start)
        if close.any():
            rows = np.flatnonzero(close)
            low = best[rows, -1] - 2 * self.rounding[rows].astype(best.dtype)
            self.settle_between(rows, low, np.full_like(low, np.inf))
            columns[rows], best[rows] = best_of_block(self.scores[rows], k)
        return columns, best

    def settle(self, rows: np.ndarray, columns: np.ndarray) -> None:
        """Score cells again, each alone."""
        self.scores[rows, columns] = self.settled(rows, columns)

    def settled(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return scores of cells, each computed alone; masked and exact ones are as they are."""
        found: np.ndarray = self.scores[rows, columns]
        if self.rounding is not None:
            left = (found > -np.inf) & (self.rounding[rows] > 0)
            found[left] = self.scorer.cells(self.start + rows[left], columns[left])
        return found

    def settle_between(self, rows: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
        """Settle the cells of rows[t] with scores from low[t] to high[t]."""
        step = max(1, CELLS_AT_A_TIME // max(1, self.scores.shape[1]))
        for lo, hi in row_chunks(len(rows), step):
            within = rows[lo:hi], low[lo:hi], high[lo:hi]
            counts = kernels.count_between(self.scores, *within)
            columns = kernels.cells_between(self.scores, *within, counts, np.zeros_like(counts))
            self.settle(np.repeat(within[0], counts), columns)

    def part(self, lo: int, hi: int) -> ScoredRows:
        """Return some of the rows, a view."""
        return ScoredRows(self.scores[lo:hi], self.scorer, self.start + lo,
                          None if self.rounding is None else self.rounding[lo:hi])


def settle_lists(scorer: Scorer, start: int, columns: np.ndarray, best: np.ndarray) -> None:
    """Score the k best of rows from `start` on again, each cell alone, and put them in order."""
    n, k = columns.shape
    rounding = scorer.rounding(start, start + n)
    if rounding is not None:
        rows, settling = np.repeat(np.arange(start, start + n), k), cast(Settling, scorer)
        settled = settling.cells(rows, columns.ravel()).reshape(n, k)
        kernels.settle_best(settled, rounding, columns, best)


def best_of_block(scores: np.ndarray, k: int, first_row: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return (columns, scores) of the k best of each row, both of shape (n_rows, k).

    `first_row` is the number of the first row in the message about a NaN.
    """
    return selected(scores, k, np.zeros(len(scores)), first_row)[:2]


def selected(scores: np.ndarray, k: int, rounding: np.ndarray, first_row: int
             ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the same, and of each row whether rounding could put others among them."""
    columns, best = np.empty((len(scores), k), np.int64), np.empty((len(scores), k), scores.dtype)
    close = np.empty(len(scores), bool)
    groups = max(GROUPS, 1 << (2 * k - 1).bit_length()) if k >= LONG_LIST else 0
    if scores.shape[1] < GROUP_SIZE * groups:
        groups = 0
    select_top = kernels.selector(groups > 0)
    no_nan(select_top(scores, groups, rounding, columns, best, close), first_row)
    return columns, best, close


def counted(scored: ScoredRows, cells: BlockCells,
            count: Callable[[np.ndarray, np.ndarray, np.ndarray], None]) -> None:
    """Count places of relevant cells, settled ones, once more where rounding could decide one.

    count(rows, rounding, unsure) marks such cells.
    """
    columns = cells[2]
    n, unsure = len(cells[0]), np.zeros(len(columns), bool)
    exact = np.zeros(n)
    rounding = exact if scored.rounding is None else scored.rounding
    count(np.arange(n), rounding, unsure)
    if not unsure.any():
        return
    again = rows_of_block(cells)[unsure]
    value = scored.scores[again, columns[unsure]]
    slack = rounding[again].astype(value.dtype)
    scored.settle_between(again, value - slack, value + slack)
    count(np.unique(again), exact, unsure)


def no_nan(bad_row: int, first_row: int) -> None:
    """Raise a ValueError if a kernel met a NaN, in row `bad_row` of a block; -1: it did not."""
    if bad_row >= 0:
        raise ValueError(f"scores must not be NaN, got NaN in row {first_row + bad_row}; "
                         f"did the training diverge?")


def block_cells(mask: Any, start: int, stop: int) -> BlockCells:
    """Return (starts, stops, columns) of the stored cells of rows start..stop, int64."""
    pointer = mask.indptr[start:stop + 1].astype(np.int64)
    columns = mask.indices[pointer[0]:pointer[-1]].astype(np.int64)
    return pointer[:-1] - pointer[0], pointer[1:] - pointer[0], columns


def rows_of_block(cells: BlockCells) -> np.ndarray:
    """Return the row of each cell, numbered from the first row of the block."""
    starts, stops, _ = cells
    return np.repeat(np.arange(len(starts)), stops - starts)


def _is_rows(mask: Any) -> bool:
    """Return whether a mask holds cells of its own for each row."""
    return isinstance(mask, Columns) or sp.issparse(mask)


def _cells(name: str, mask: Any, shape: tuple[int, int]) -> Columns:
    """Return a mask as CSR with sorted columns, all of them inside the matrix."""
    if isinstance(mask, Columns):                   # (out of Ratings, which are sound)
        if len(mask.indptr) != shape[0] + 1:
            raise ValueError(f"{name} must have {shape[0]} rows, got {len(mask.indptr) - 1}")
        if mask.indices.size and mask.indices.max() >= shape[1]:        # (a changed model)
            raise ValueError(f"{name} must have column numbers below {shape[1]}, the number of "
                             f"items that have scores, got {mask.indices.max()}")
        return mask
    csr = mask if sp.issparse(mask) and mask.format == "csr" else sp.csr_array(mask)
    if csr.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {csr.shape}")
    try:
        csr.check_format(full_check=True)
    except ValueError as error:
        raise ValueError(f"{name} must be a sound CSR matrix, but its {error}") from None
    csr = csr if csr.has_sorted_indices else csr.sorted_indices()
    return Columns(csr.indptr, csr.indices)


def _items(name: str, mask: Any, n_items: int) -> np.ndarray:
    """Return a bool mask over the items."""
    marked = validation.vector(name, mask, n_items)
    if marked.dtype != bool:
        raise TypeError(f"{name} must be a bool mask over the items or a scipy sparse matrix, "
                        f"got dtype {marked.dtype}")
    return marked
