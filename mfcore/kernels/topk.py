"""Masks on a block of scores, and the k best of each row.

A masked cell holds -inf.  The k best of a row so far are in a heap whose root is the worst of
them, `threshold`.  The row is read in chunks, which are compared with the threshold: a chunk
where nothing passes costs one vector comparison, and few scores pass, about
k·(1 + ln(n / k)) in all.

For long lists a first look raises the threshold at once: the k-th largest of the maxima
of more than k disjoint groups is a lower bound on the k-th best score.
"""

from __future__ import annotations

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


@njit(**KERNEL)
def select_top(scores: np.ndarray, n_groups: int, columns: np.ndarray,
               best: np.ndarray) -> int:
    """Write the k best of each row, best first, with ties broken by lower column.

    scores is (m, n); columns (m, k) is preset to -1, best (m, k) to -inf.  Cells of -inf are
    never taken.  n_groups is the size of the first look, 0 for none.  Returns the first row
    with a NaN, or -1.
    """
    group_best = np.empty(n_groups, scores.dtype)
    for row in range(scores.shape[0]):
        floor = scores.dtype.type(-np.inf)
        if n_groups:
            floor = _lower_bound(scores[row], group_best, best[row], columns[row])
        size = _fill(scores[row], floor, best[row], columns[row])
        if size < 0:
            return row
        _sort_heap(best[row], columns[row], size)
    return -1


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
    size = _fill(group_best, values.dtype.type(-np.inf), best, columns)
    # Strictly below the bound, since ties with it may belong to the k best.
    floor: float = values.dtype.type(best[0] - abs(best[0]) * 1e-6 - 1e-30)
    full = size == best.size and floor < best[0]
    if not full:
        floor = values.dtype.type(-np.inf)
    return floor


@njit(**INLINE)
def _fill(values: np.ndarray, floor: float, best: np.ndarray,
          columns: np.ndarray) -> np.int64:
    """Put the k largest values above `floor` into a heap; return their number, or -1 at a NaN."""
    size: np.int64 = np.int64(0)  # a literal 0 would compile the helpers twice
    threshold = floor
    whole = values.size - values.size % CHUNK
    for start in range(0, whole, CHUNK):
        chunk = values[start:start + CHUNK]
        passing = np.int32(0)
        for t in range(CHUNK):
            passing |= np.int32(not (chunk[t] <= threshold))
        if passing:
            size, threshold = _insert(values, start, start + CHUNK, size, threshold,
                                      best, columns)
            if size < 0:
                return size
    size, threshold = _insert(values, whole, values.size, size, threshold, best, columns)
    return size


@njit(**INLINE)
def _insert(values: np.ndarray, start: int, stop: int, size: int, threshold: float,
            best: np.ndarray, columns: np.ndarray) -> tuple[int, float]:
    k = best.size
    for t in range(start, stop):
        value = values[t]
        if not (value <= threshold):
            if value != value:
                return -1, threshold
            if size < k:
                _rise(best, columns, size, value, t)
                size += 1
            else:
                _sink(best, columns, k, value, t)
            if size == k:
                threshold = best[0]
    return size, threshold


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
