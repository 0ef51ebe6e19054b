"""Which drawn cells are not stored."""

from __future__ import annotations

import numpy as np

from mfcore.compiled import njit
from mfcore.kernels.options import KERNEL


@njit(**KERNEL)
def unknown_cells(indptr: np.ndarray, indices: np.ndarray, pairs: np.ndarray, out: np.ndarray,
                  n: int) -> int:
    """Write the pairs (u, i) that are not stored to `out`, from line n on, until it is full.

    indptr, indices : a CSR pattern with sorted rows; pairs : shape (n_pairs, 2)
    Returns the number of lines of `out` written so far.
    """
    for t in range(pairs.shape[0]):
        if n == out.shape[0]:
            break
        u, i = pairs[t, 0], pairs[t, 1]
        lo, hi = indptr[u], indptr[u + 1]
        stop = hi
        while lo < hi:                              # the first stored item >= i
            mid = (lo + hi) // 2
            if indices[mid] < i:
                lo = mid + 1
            else:
                hi = mid
        if lo == stop or indices[lo] != i:
            out[n, 0], out[n, 1] = u, i
            n += 1
    return n
