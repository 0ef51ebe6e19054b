"""Sums of vectors over what rows have, four at a time: the product of a sparse F and a block."""

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
        while t + 4 <= end:
            a, b, c, d = data[t], data[t + 1], data[t + 2], data[t + 3]
            p, q = X[indices[t]], X[indices[t + 1]]
            r, s = X[indices[t + 2]], X[indices[t + 3]]
            for f in range(k):
                line[f] += (a * p[f] + b * q[f]) + (c * r[f] + d * s[f])
            t += 4
        while t < end:
            a, p = data[t], X[indices[t]]
            for f in range(k):
                line[f] += a * p[f]
            t += 1
