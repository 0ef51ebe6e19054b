"""Products of a sparse batch with dense blocks, and access to its cells in them.

A batch X is CSR (indptr, indices, data), shape (n, m).  For its transpose, the same cells are
sorted by column, so that each thread owns the rows it writes.
"""

from __future__ import annotations

import numpy as np

from mfcore.compiled import njit
from mfcore.kernels.options import KERNEL


@njit(**KERNEL)
def sparse_product(indptr: np.ndarray, indices: np.ndarray, data: np.ndarray, W: np.ndarray,
                   out: np.ndarray, lo: int, hi: int) -> None:
    """Write rows lo..hi of X W to `out`."""
    for u in range(lo, hi):
        line = out[u]
        line[:] = 0
        for t in range(indptr[u], indptr[u + 1]):
            x, w = data[t], W[indices[t]]
            for f in range(w.size):
                line[f] += x * w[f]


@njit(**KERNEL)
def by_column(indptr: np.ndarray, indices: np.ndarray, place: np.ndarray,
              columns: np.ndarray, starts: np.ndarray, rows: np.ndarray, cells: np.ndarray
              ) -> int:
    """Sort the cells of a batch by column, stably; return the number of columns used.

    place : ndarray of int, shape (m,), zeros; left as zeros
    columns : the columns used, ascending; their cells are starts[c] : starts[c + 1]
    rows, cells : ndarray, shape (nnz,), row and position of each cell, in the new order
    """
    for t in range(indices.size):
        place[indices[t]] += 1
    n, total = 0, 0
    for j in range(place.size):
        if place[j] > 0:
            columns[n], starts[n] = j, total
            total += place[j]
            place[j] = starts[n]
            n += 1
    starts[n] = total
    for u in range(indptr.size - 1):
        for t in range(indptr[u], indptr[u + 1]):
            at = place[indices[t]]
            rows[at], cells[at] = u, t
            place[indices[t]] += 1
    for c in range(n):
        place[columns[c]] = 0
    return n


@njit(**KERNEL)
def transposed_product(starts: np.ndarray, rows: np.ndarray, cells: np.ndarray,
                       data: np.ndarray, G: np.ndarray, out: np.ndarray, lo: int, hi: int
                       ) -> None:
    """Write lines lo..hi of Xᵀ G to `out`, one for each column used (see `by_column`)."""
    for c in range(lo, hi):
        line = out[c]
        line[:] = 0
        for t in range(starts[c], starts[c + 1]):
            x, g = data[cells[t]], G[rows[t]]
            for f in range(g.size):
                line[f] += x * g[f]
