"""The places of the relevant items in a user's ranking.

The rank of item j in a row of scores s, with ties broken by lower column, is

    rank(j) = 1 + #{i < j : s_i >= s_j} + #{i > j : s_i > s_j}

two counts at the speed of a vector comparison, without sorting the row.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from mfcore.kernels.options import INLINE, KERNEL

NEVER = 1 << 62  # the rank of an item that is not among the candidates


@njit(**KERNEL)
def leading_ranks(scores: np.ndarray, starts: np.ndarray, stops: np.ndarray,
                  columns: np.ndarray, depth: int, places: np.ndarray,
                  ranks: np.ndarray) -> int:
    """Write the ranks of each row's relevant items, ascending, up to `depth`.

    scores is (m, n), with -inf in masked cells.  The relevant items of a row are
    columns[starts[row]:stops[row]], ascending; their ranks go to ranks[places[row]:], which is
    preset to NEVER.  The first rank is always exact, later ones up to the first beyond `depth`;
    a relevant item with score -inf stays NEVER.  Returns the first row with a NaN, or -1.
    """
    for row in range(scores.shape[0]):
        values, relevant = scores[row], columns[starts[row]:stops[row]]
        if _has_nan(values):
            return row
        left = values[relevant]
        for t in range(relevant.size):
            first = np.argmax(left)
            if left[first] == -np.inf:
                break
            left[first] = -np.inf
            rank = _rank(values, relevant[first])
            ranks[places[row] + t] = rank
            if rank > depth:
                break
    return -1


@njit(**KERNEL)
def midrank_sums(scores: np.ndarray, starts: np.ndarray, stops: np.ndarray,
                 columns: np.ndarray, sums: np.ndarray, found: np.ndarray,
                 candidates: np.ndarray) -> None:
    """Write what the area under the ROC curve of each row needs.

    sums (m,): the sum of the midranks (1 + #greater + ½ #other equal) of the relevant items
    with a score above -inf; found (m,): their number; candidates (m,): the number of all items
    above -inf.
    """
    for row in range(scores.shape[0]):
        values = scores[row]
        candidates[row] = _count_above(values, values.dtype.type(-np.inf))
        for t in range(starts[row], stops[row]):
            value = values[columns[t]]
            if value > -np.inf:
                above, equal_or_above = _count_above(values, value), _count_from(values, value)
                sums[row] += 0.5 * (above + equal_or_above + 1)
                found[row] += 1


@njit(**INLINE)
def _rank(values: np.ndarray, column: int) -> int:
    value = values[column]
    rank: int = 1 + _count_from(values[:column], value)
    rank += _count_above(values[column + 1:], value)
    return rank


@njit(**INLINE)
def _count_above(values: np.ndarray, bound: float) -> np.int64:
    count = np.int32(0)
    for t in range(values.size):
        count += np.int32(values[t] > bound)
    return np.int64(count)


@njit(**INLINE)
def _count_from(values: np.ndarray, bound: float) -> np.int64:
    count = np.int32(0)
    for t in range(values.size):
        count += np.int32(values[t] >= bound)
    return np.int64(count)


@njit(**INLINE)
def _has_nan(values: np.ndarray) -> np.int32:
    found = np.int32(0)
    for t in range(values.size):
        found |= np.int32(values[t] != values[t])
    return found
