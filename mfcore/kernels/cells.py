"""Sums and scores over stored cells: what a value, a gradient or a prediction needs."""

from __future__ import annotations

import numpy as np

from mfcore.compiled import njit
from mfcore.kernels.options import INLINE, KERNEL


@njit(**INLINE)
def _dot(p: np.ndarray, q: np.ndarray) -> float:
    s: float = p.dtype.type(0)
    for f in range(p.size):
        s += p[f] * q[f]
    return s


@njit(**INLINE)
def _wide_dot(p: np.ndarray, q: np.ndarray) -> float:
    s = 0.0
    for f in range(p.size):
        s += np.float64(p[f]) * np.float64(q[f])
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
    """Write s of pairs lo..hi to `out`, added in float64; a side of -1 adds nothing."""
    for t in range(lo, hi):
        u, i = rows[t], columns[t]
        s = 0.0
        if u >= 0 and i >= 0:
            s += _wide_dot(P[u], Q[i])
        if u >= 0:
            s += beta[u]
        if i >= 0:
            s += gamma[i]
        out[t] = s


@njit(**KERNEL)
def row_lengths(X: np.ndarray) -> np.ndarray:
    """Return ‖x‖ of each row, shape (n,), added in float64."""
    out = np.empty(X.shape[0])
    for row in range(X.shape[0]):
        x, total = X[row], 0.0
        for f in range(x.size):
            total += np.float64(x[f]) * np.float64(x[f])
        out[row] = np.sqrt(total)
    return out


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


@njit(**KERNEL)
def cell_pulls(indptr: np.ndarray, indices: np.ndarray, x: np.ndarray, y: np.ndarray,
               line: np.ndarray, P: np.ndarray, Q: np.ndarray, beta: np.ndarray,
               gamma: np.ndarray, dP: np.ndarray, dbeta: np.ndarray, lo: int, hi: int) -> None:
    """Write rows lo..hi of E Q and E 1 to dP and dbeta, E = a s − b on the stored cells."""
    for u in range(lo, hi):
        p, pull = P[u], dP[u]
        pull[:] = 0
        total = pull.dtype.type(0)
        for t in range(indptr[u], indptr[u + 1]):
            q = Q[indices[t]]
            s = _dot(p, q) + beta[u] + gamma[indices[t]]
            e = (line[0] * x[t] + line[1]) * s - (line[2] * y[t] + line[3])
            for f in range(q.size):
                pull[f] += e * q[f]
            total += e
        dbeta[u] = total


@njit(**KERNEL)
def sums_along(indptr: np.ndarray, indices: np.ndarray, x: np.ndarray, y: np.ndarray,
               line: np.ndarray, P: np.ndarray, Q: np.ndarray, beta: np.ndarray,
               gamma: np.ndarray, dP: np.ndarray, dQ: np.ndarray, dbeta: np.ndarray,
               dgamma: np.ndarray, lo: int, hi: int) -> tuple[float, float, float]:
    """Return the coefficients of t², t³, t⁴ in Σ (a s(t)² − 2 b s(t)) over rows lo..hi.

    s(t) = s0 + t s1 + t² s2 is the score at the point plus t times the direction d.
    """
    second, third, fourth = 0.0, 0.0, 0.0
    for u in range(lo, hi):
        p, dp = P[u], dP[u]
        for t in range(indptr[u], indptr[u + 1]):
            i = indices[t]
            q, dq = Q[i], dQ[i]
            s0 = _dot(p, q) + beta[u] + gamma[i]
            s1 = _dot(p, dq) + _dot(dp, q) + dbeta[u] + dgamma[i]
            s2 = _dot(dp, dq)
            a, b = line[0] * x[t] + line[1], line[2] * y[t] + line[3]
            second += a * s1 * s1 + 2 * (a * s0 - b) * s2
            third += 2 * a * s1 * s2
            fourth += a * s2 * s2
    return second, third, fourth
