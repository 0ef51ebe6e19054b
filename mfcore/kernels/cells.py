"""Sums and scores over stored cells: what a value, a gradient or a prediction needs."""

from __future__ import annotations

import numpy as np
from numba import njit

from mfcore.kernels.options import INLINE, KERNEL


@njit(**INLINE)
def _dot(p: np.ndarray, q: np.ndarray) -> float:
    s: float = p.dtype.type(0)
    for f in range(p.size):
        s += p[f] * q[f]
    return s


@njit(**KERNEL)
def cell_scores(indptr: np.ndarray, indices: np.ndarray, P: np.ndarray, Q: np.ndarray,
                beta: np.ndarray, gamma: np.ndarray, out: np.ndarray, lo: int,
                hi: int) -> None:
    """Write s = p·q + β + γ of the stored cells of rows lo..hi to `out`."""
    for u in range(lo, hi):
        p = P[u]
        for t in range(indptr[u], indptr[u + 1]):
            out[t] = _dot(p, Q[indices[t]]) + beta[u] + gamma[indices[t]]


@njit(**KERNEL)
def pair_scores(rows: np.ndarray, columns: np.ndarray, P: np.ndarray, Q: np.ndarray,
                beta: np.ndarray, gamma: np.ndarray, out: np.ndarray, lo: int,
                hi: int) -> None:
    """Write s of pairs lo..hi to `out`; the side of a row or column of -1 adds nothing."""
    for t in range(lo, hi):
        u, i = rows[t], columns[t]
        s = 0.0
        if u >= 0 and i >= 0:
            s += _dot(P[u], Q[i])
        if u >= 0:
            s += beta[u]
        if i >= 0:
            s += gamma[i]
        out[t] = s


@njit(**KERNEL)
def cell_sums(indptr: np.ndarray, indices: np.ndarray, x: np.ndarray, y: np.ndarray,
              line: np.ndarray, P: np.ndarray, Q: np.ndarray, beta: np.ndarray,
              gamma: np.ndarray, lo: int, hi: int) -> tuple[float, float]:
    """Return Σ (a s² − 2 b s) and Σ s² over the stored cells of rows lo..hi."""
    known, squares = 0.0, 0.0
    for u in range(lo, hi):
        p = P[u]
        for t in range(indptr[u], indptr[u + 1]):
            s = np.float64(_dot(p, Q[indices[t]])) + beta[u] + gamma[indices[t]]
            a, b = line[0] * x[t] + line[1], line[2] * y[t] + line[3]
            known += s * (a * s - 2 * b)
            squares += s * s
    return known, squares
