"""Sums of vectors over what rows have, eight at a time: the product of a sparse F and a block."""

from __future__ import annotations

import numpy as np

from mfcore.compiled import njit
from mfcore.kernels.options import KERNEL


@njit(**KERNEL)
def row_sums(indptr: np.ndarray, indices: np.ndarray, data: np.ndarray, X: np.ndarray,
             out: np.ndarray, lo: int, hi: int) -> None:
    """Write rows lo..hi of F X to `out`, shape (n_rows, k); F is CSR (indptr, indices, data)."""
    k = X.shape[1]
    for u in range(lo, hi):
        line = out[u]
        line[:] = 0
        t, end = indptr[u], indptr[u + 1]
        while t + 8 <= end:
            a0, a1, a2, a3 = data[t], data[t + 1], data[t + 2], data[t + 3]
            a4, a5, a6, a7 = data[t + 4], data[t + 5], data[t + 6], data[t + 7]
            x0, x1 = X[indices[t]], X[indices[t + 1]]
            x2, x3 = X[indices[t + 2]], X[indices[t + 3]]
            x4, x5 = X[indices[t + 4]], X[indices[t + 5]]
            x6, x7 = X[indices[t + 6]], X[indices[t + 7]]
            for f in range(k):
                line[f] += ((a0 * x0[f] + a1 * x1[f]) + (a2 * x2[f] + a3 * x3[f])) \
                    + ((a4 * x4[f] + a5 * x5[f]) + (a6 * x6[f] + a7 * x7[f]))
            t += 8
        while t < end:
            a, x = data[t], X[indices[t]]
            for f in range(k):
                line[f] += a * x[f]
            t += 1
