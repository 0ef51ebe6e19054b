"""Two steps in the graph of users and items: from the items of a row to users, and back to items.

For a row x, with r_i = d_i^-1/2 of the items and d_v of the users,

    y_v = (1 / d_v) Σ_j X_vj r_j x_j                  near_i = r_i Σ_v y_v X_vi

Users are added in ascending order, in a row of scores as in a single one, so that both have the
same bits.  A byte for every `BLOCK` users says whether one of them was reached.
"""

from __future__ import annotations

import numpy as np

from mfcore.compiled import njit
from mfcore.kernels.options import EXACT, MELT

BLOCK = 64


@njit(**MELT)
def _reach(indices: np.ndarray, data: np.ndarray, lo: int, hi: int, starts: np.ndarray,
           users: np.ndarray, values: np.ndarray, weighted: bool, roots: np.ndarray,
           shares: np.ndarray, y: np.ndarray, reached: np.ndarray) -> None:
    """Add a row, cells lo..hi, to y (n_users,)."""
    for t in range(lo, hi):
        j = indices[t]
        step = data[t] * roots[j]
        for c in range(starts[j], starts[j + 1]):
            v = users[c]
            value = step * shares[v]
            y[v] += value * values[c] if weighted else value
            reached[v // BLOCK] = 1


@njit(**MELT)
def _clear(indices: np.ndarray, lo: int, hi: int, starts: np.ndarray, users: np.ndarray,
           y: np.ndarray) -> None:
    """Set y to 0 where a row has reached it."""
    for t in range(lo, hi):
        j = indices[t]
        for c in range(starts[j], starts[j + 1]):
            y[users[c]] = 0


@njit(**EXACT)
def near_rows(indptr: np.ndarray, indices: np.ndarray, data: np.ndarray, starts: np.ndarray,
              users: np.ndarray, by_item: np.ndarray, ends: np.ndarray, items: np.ndarray,
              by_user: np.ndarray, weighted: bool, roots: np.ndarray, shares: np.ndarray,
              out: np.ndarray) -> None:
    """Write near of some rows to `out`, shape (n_rows, n_items).

    indptr, indices, data : the rows
    starts, users, by_item : X by item;  ends, items, by_user : X by user
    weighted : whether the values of X count; else each is 1
    roots, shares : r (n_items,) and 1 / d (n_users,), in the precision of the scores
    """
    y = np.zeros(shares.size, shares.dtype)
    reached = np.zeros(shares.size // BLOCK + 1, np.uint8)
    for row in range(out.shape[0]):
        line = out[row]
        line[:] = 0
        _reach(indices, data, indptr[row], indptr[row + 1], starts, users, by_item, weighted,
               roots, shares, y, reached)
        for block in range(reached.size):
            if reached[block]:
                reached[block] = 0
                for v in range(block * BLOCK, min((block + 1) * BLOCK, y.size)):
                    step = y[v]
                    if step != 0:
                        y[v] = 0
                        for c in range(ends[v], ends[v + 1]):
                            line[items[c]] += step * by_user[c] if weighted else step
        for i in range(line.size):
            line[i] *= roots[i]


@njit(**EXACT)
def near_cells(indptr: np.ndarray, indices: np.ndarray, data: np.ndarray, starts: np.ndarray,
               users: np.ndarray, by_item: np.ndarray, weighted: bool, roots: np.ndarray,
               shares: np.ndarray, rows: np.ndarray, columns: np.ndarray, out: np.ndarray
               ) -> None:
    """Write near of cells (rows[t], columns[t]) to `out`; 0 where one of them is -1.

    Cells of one row that stand together cost one walk.
    """
    y = np.zeros(shares.size, shares.dtype)
    reached = np.zeros(shares.size // BLOCK + 1, np.uint8)
    at = -1
    for t in range(rows.size):
        row, column, total = rows[t], columns[t], roots.dtype.type(0)
        if row >= 0 and column >= 0:
            if row != at:
                if at >= 0:
                    _clear(indices, indptr[at], indptr[at + 1], starts, users, y)
                _reach(indices, data, indptr[row], indptr[row + 1], starts, users, by_item,
                       weighted, roots, shares, y, reached)
                at = row
            for c in range(starts[column], starts[column + 1]):
                step = y[users[c]]
                total += step * by_item[c] if weighted else step
            total *= roots[column]
        out[t] = total
