"""XᵀX of a sparse matrix, row by row, so that each thread owns what it writes."""

from __future__ import annotations

import numpy as np

from mfcore.compiled import njit
from mfcore.kernels.options import KERNEL


@njit(**KERNEL)
def sparse_gram(starts: np.ndarray, users: np.ndarray, values: np.ndarray, indptr: np.ndarray,
                indices: np.ndarray, data: np.ndarray, out: np.ndarray, lo: int, hi: int
                ) -> None:
    """Write rows lo..hi of the lower triangle of XᵀX to `out`, shape (m, m), filled with zeros.

    starts, users, values : X by column; indptr, indices, data : X by row, rows sorted
    """
    for i in range(lo, hi):
        line = out[i]
        for t in range(starts[i], starts[i + 1]):
            u, x = users[t], values[t]
            for j in range(indptr[u], indptr[u + 1]):
                if indices[j] > i:
                    break
                line[indices[j]] += x * data[j]
