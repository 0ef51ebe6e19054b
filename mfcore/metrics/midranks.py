"""Where relevant items stand in the whole ranking of a user: what the ROC curve needs.

The midrank of an item is 1 + #greater + ½ #other equal.
"""

from __future__ import annotations

import itertools

import numpy as np

from mfcore.kernels import ranks as kernels
from mfcore.kernels.topk import cells_between
from mfcore.metrics.topk import BlockCells, ScoredRows, no_nan, rows_of_block

CELLS_AT_A_TIME = 1 << 18   # cells that are scored again together


def roc_sums(scored: ScoredRows, cells: BlockCells) -> np.ndarray:
    """Return, for each row, what the area under its ROC curve needs; shape (n, 3).

    They are the sum of the midranks of its relevant items with a score above -inf, the number of
    these, and the number of all items above -inf.  Raises a ValueError for a NaN.
    """
    n, rows = len(cells[0]), rows_of_block(cells)
    candidates = kernels.count_candidates(scored.scores)
    bad = np.flatnonzero(candidates < 0)
    no_nan(int(bad[0]) if bad.size else -1, scored.start)
    found = midranks(scored, rows, cells[2])
    known = ~np.isnan(found)
    return np.column_stack([np.bincount(rows[known], found[known], n),
                            np.bincount(rows[known], minlength=n), candidates])


def midranks(scored: ScoredRows, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the midranks of settled cells in their rows; NaN for a score of -inf.

    Those that rounding could put on either side of one are settled, too.
    """
    value = scored.scores[rows, columns]
    above, near = _counts(scored, rows, columns, value)
    return np.where(value > -np.inf, above + (near + 1) / 2, np.nan)


def _counts(scored: ScoredRows, rows: np.ndarray, columns: np.ndarray, value: np.ndarray
            ) -> tuple[np.ndarray, np.ndarray]:
    """Return how many scores of its row are above that of a settled cell, and how many equal."""
    n = len(rows)
    rounding = np.zeros(len(scored.scores)) if scored.rounding is None else scored.rounding
    slack = rounding[rows].astype(value.dtype)
    above, near, first = np.empty((3, n), np.int64)
    kernels.count_around(scored.scores, rows, columns, rounding, above, near, first)
    unsure = np.flatnonzero((near > 1) & (slack > 0))
    one, which = _equal(rows[unsure], value[unsure])
    for some in (unsure[one[part]] for part in _parts(near[unsure[one]])):
        others = cells_between(scored.scores, rows[some], value[some] - slack[some],
                               value[some] + slack[some], near[some], first[some])
        cell = np.repeat(some, near[some])
        settled = scored.settled(rows[cell], others)
        above += np.bincount(cell[settled > value[cell]], minlength=n)
        near[some] = np.bincount(cell[settled == value[cell]], minlength=n)[some]
    above[unsure], near[unsure] = above[unsure[one]][which], near[unsure[one]][which]
    return above, near


def _equal(rows: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return one cell of each score of each row, and which of these each cell is equal to."""
    order = np.lexsort((value, rows))
    row, score = rows[order], value[order]
    new = np.ones(len(rows), bool)
    new[1:] = (row[1:] != row[:-1]) | (score[1:] != score[:-1])
    which = np.empty(len(rows), np.int64)
    which[order] = np.cumsum(new) - 1
    return order[new], which


def _parts(counts: np.ndarray) -> list[slice]:
    """Return slices of counts whose sums are about CELLS_AT_A_TIME, or one greater count."""
    number = np.cumsum(counts) // CELLS_AT_A_TIME
    bounds = [0, *(np.flatnonzero(np.diff(number)) + 1), len(counts)]
    return [slice(start, stop) for start, stop in itertools.pairwise(bounds) if start < stop]
