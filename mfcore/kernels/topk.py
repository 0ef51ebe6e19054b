"""Masks on a block of scores, and the k best of each row.

A masked cell holds -inf.  The k best of a row so far are in a heap whose root is the worst of
them, `threshold`.  The row is read in chunks, which are compared with the threshold: a chunk
where nothing passes costs one vector comparison, and few scores pass, about
k·(1 + ln(n / k)) in all.

For long lists a first look raises the threshold at once: the k-th largest of the maxima
of more than k disjoint groups is a lower bound on the k-th best score.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from mfcore.compiled import njit
from mfcore.kernels.options import INLINE, KERNEL

CHUNK = 64  # scores compared with the threshold at a time; 32 and 128 are slower


@njit(**KERNEL)
def drop_cells(scores: np.ndarray, starts: np.ndarray, stops: np.ndarray,
               columns: np.ndarray) -> None:
    """Set the cells columns[starts[row]:stops[row]] of each row to -inf."""
    for row in range(scores.shape[0]):
        for t in range(starts[row], stops[row]):
            scores[row, columns[t]] = -np.inf


@njit(**KERNEL)
def keep_cells(scores: np.ndarray, starts: np.ndarray, stops: np.ndarray,
               columns: np.ndarray) -> None:
    """Set all other cells of each row to -inf; columns ascend within a row."""
    for row in range(scores.shape[0]):
        done = 0
        for t in range(starts[row], stops[row]):
            scores[row, done:columns[t]] = -np.inf
            done = columns[t] + 1
        scores[row, done:] = -np.inf


@cache
def selector(looks: bool) -> Any:
    """Build the kernel for lists with a first look, or for others, which need half of the code."""

    @njit(**KERNEL)
    def select_top(scores: np.ndarray, n_groups: int, rounding: np.ndarray, columns: np.ndarray,
                   best: np.ndarray, close: np.ndarray) -> int:
        """Write the k best of each row, best first, with ties broken by lower column.

        scores is (m, n), columns and best (m, k).  Cells of -inf are never taken; places that are
        left get -1 and -inf.  n_groups is the size of the first look.  close[row] says whether
        others are within 2 rounding[row] of the k-th best.  Returns the first row with a NaN,
        or -1.
        """
        if looks:
            group_best = np.empty(n_groups, scores.dtype)
        for row in range(scores.shape[0]):
            floor = scores.dtype.type(-np.inf)
            slack = scores.dtype.type(2 * rounding[row])
            if looks:
                floor = _lower_bound(scores[row], group_best, best[row], columns[row])
            size, beyond = _fill(scores[row], floor, slack, best[row], columns[row])
            if size < 0:
                return row
            _sort_heap(best[row], columns[row], size)
            best[row, size:], columns[row, size:] = -np.inf, -1
            close[row] = slack > 0 and beyond > -np.inf and beyond >= best[row, -1] - slack
        return -1

    return select_top


@njit(**KERNEL)
def settle_best(settled: np.ndarray, rounding: np.ndarray, columns: np.ndarray,
                best: np.ndarray) -> None:
    """Replace the scores of the k best of each row by settled ones, and put these in order.

    settled, columns and best are (m, k); a row whose rounding is 0 stays as it is.
    """
    for row in range(columns.shape[0]):
        if rounding[row] > 0:
            for t in range(columns.shape[1]):
                if columns[row, t] >= 0:
                    _move_up(settled[row, t], columns[row], best[row], t)


@njit(**INLINE)
def _move_up(value: float, columns: np.ndarray, best: np.ndarray, place: int) -> None:
    """Put the column of a place where it belongs among those before it."""
    column = columns[place]
    while place > 0 and (best[place - 1] < value or (
            best[place - 1] == value and columns[place - 1] > column)):
        best[place], columns[place] = best[place - 1], columns[place - 1]
        place -= 1
    best[place], columns[place] = value, column


@njit(**KERNEL)
def count_between(scores: np.ndarray, rows: np.ndarray, low: np.ndarray,
                  high: np.ndarray) -> np.ndarray:
    """Return how many cells of rows[t] have scores from low[t] to high[t]."""
    counts = np.empty(rows.size, np.int64)
    for t in range(rows.size):
        counts[t] = _count_between(scores[rows[t]], low[t], high[t])
    return counts


@njit(**KERNEL)
def cells_between(scores: np.ndarray, rows: np.ndarray, low: np.ndarray, high: np.ndarray,
                  counts: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return the columns of the counts[t] cells of rows[t] with scores from low[t] to high[t].

    Those of t = 0 come first.  None of them is before column first[t].
    """
    columns = np.empty(counts.sum(), np.int64)
    at = 0
    for t in range(rows.size):
        values, stop, column = scores[rows[t]], at + counts[t], first[t]
        while at < stop:
            part = values[column:column + CHUNK]
            if _count_between(part, low[t], high[t]):
                for c in range(part.size):
                    if low[t] <= part[c] <= high[t]:
                        columns[at] = column + c
                        at += 1
            column += CHUNK
    return columns


@njit(**INLINE)
def _count_between(values: np.ndarray, low: float, high: float) -> np.int64:
    count = np.int32(0)
    for t in range(values.size):
        count += np.int32((values[t] >= low) & (values[t] <= high))
    return np.int64(count)


@njit(**INLINE)
def _lower_bound(values: np.ndarray, group_best: np.ndarray, best: np.ndarray,
                 columns: np.ndarray) -> float:
    """Return a score below which nothing is among the k best.

    The heap serves as scratch: the row itself will fill at least as many places of it.
    """
    group_best[:] = -np.inf
    for start in range(0, values.size, group_best.size):
        part = values[start:start + group_best.size]
        for t in range(part.size):
            group_best[t] = part[t] if part[t] > group_best[t] else group_best[t]
    none = values.dtype.type(0)
    size, _ = _fill(group_best, values.dtype.type(-np.inf), none, best, columns)
    # Strictly below the bound, since ties with it may belong to the k best.
    floor: float = values.dtype.type(best[0] - abs(best[0]) * 1e-6 - 1e-30)
    full = size == best.size and floor < best[0]
    if not full:
        floor = values.dtype.type(-np.inf)
    return floor


@njit(**INLINE)
def _fill(values: np.ndarray, floor: float, slack: float, best: np.ndarray,
          columns: np.ndarray) -> tuple[np.int64, float]:
    """Put the k largest values above `floor` into a heap.

    Returns their number, -1 at a NaN, and the best of the others that came within `slack` of the
    threshold.
    """
    size: np.int64 = np.int64(0)  # a literal 0 would compile the helpers twice
    threshold, beyond = floor, values.dtype.type(-np.inf)
    whole = values.size - values.size % CHUNK
    for start in range(0, whole, CHUNK):
        chunk, low = values[start:start + CHUNK], threshold - slack
        passing = np.int32(0)
        for t in range(CHUNK):
            passing |= np.int32(not (chunk[t] <= low))
        if passing:
            size, threshold, beyond = _insert(values, start, start + CHUNK, size, threshold,
                                              slack, beyond, best, columns)
            if size < 0:
                return size, beyond
    size, threshold, beyond = _insert(values, whole, values.size, size, threshold, slack, beyond,
                                      best, columns)
    return size, beyond


@njit(**INLINE)
def _insert(values: np.ndarray, start: int, stop: int, size: int, threshold: float,
            slack: float, beyond: float, best: np.ndarray, columns: np.ndarray
            ) -> tuple[int, float, float]:
    k, low = best.size, threshold - slack
    for t in range(start, stop):
        value = values[t]
        if not (value <= low):
            if value != value:
                return -1, threshold, beyond
            if value <= threshold:
                beyond = max(beyond, value)
            elif size < k:
                _rise(best, columns, size, value, t)
                size += 1
            else:
                beyond = max(beyond, threshold)
                _sink(best, columns, k, value, t)
            if size == k:
                threshold = best[0]
                low = threshold - slack
    return size, threshold, beyond


@njit(**INLINE)
def _rise(best: np.ndarray, columns: np.ndarray, place: int, value: float,
          column: int) -> None:
    """Put an entry at a leaf and move it up past the better ones."""
    while place > 0:
        parent = (place - 1) >> 1
        if best[parent] < value or (best[parent] == value and columns[parent] > column):
            break
        best[place], columns[place] = best[parent], columns[parent]
        place = parent
    best[place], columns[place] = value, column


@njit(**INLINE)
def _sink(best: np.ndarray, columns: np.ndarray, size: int, value: float, column: int) -> None:
    """Put an entry at the root of a heap of `size` and move it down past the worse ones."""
    place, child = 0, 1
    while child < size:
        right = min(child + 1, size - 1)
        if (best[right] < best[child]) | ((best[right] == best[child])
                                          & (columns[right] > columns[child])):
            child = right
        if best[child] > value or (best[child] == value and columns[child] < column):
            break
        best[place], columns[place] = best[child], columns[child]
        place, child = child, 2 * child + 1
    best[place], columns[place] = value, column


@njit(**INLINE)
def _sort_heap(best: np.ndarray, columns: np.ndarray, size: int) -> None:
    """Turn the heap into a list, best first."""
    for end in range(size - 1, 0, -1):
        value, column = best[end], columns[end]
        best[end], columns[end] = best[0], columns[0]
        _sink(best, columns, end, value, column)
