"""Rows of a quadratic objective solved exactly: normal equations and Cholesky.

For row u with stored cells i in Ω_u, the free vector z = [p | β] (β last, and only if the
bias is learned), x_i = [q_i | 1] and frozen score o_i = γ_i (+ β_u if it is fixed):

    A = A0 + Σ_Ω a x xᵀ + Λ_u            c = c0 + β_u c1 + Σ_Ω (b − a o) x + Λ_u m_u

A0, c0, c1 are the sums over all columns, weighted by w0 (objectives/quadratic.py).  Cells
are gathered up to 256 at a time, scaled by √|a|: those with positive a fill the buffer from the
front, those with negative a from the back, and each part is one symmetric BLAS product with
its own sign.  The root is that of |a|, so no weight can make it NaN.

With noise e the row becomes A⁻¹ c + U⁻¹ e, where A = UᵀU.  For e ~ N(0, I / τ) that is a draw
from N(A⁻¹ c, (τ A)⁻¹), since the covariance of U⁻¹ e is U⁻¹ U⁻ᵀ / τ = A⁻¹ / τ.
"""

from __future__ import annotations

import numpy as np

from mfcore.compiled import njit
from mfcore.kernels.lapack import FLAGS, GATHERED, INFO, add_gram, solve_spd
from mfcore.kernels.options import KERNEL, MELT
from mfcore.kernels.prefetch import prefetch_row

GATHER = 256      # cells scaled into the buffer before they are multiplied
AHEAD = 16        # cells between asking for a row and reading it
SMALL = 1e-12     # sums of squares that count as nothing


@njit(**MELT)
def _flush(A: np.ndarray, buffer: np.ndarray, front: int, back: int, sign: np.ndarray,
           flags: np.ndarray) -> None:
    if front > 0:
        flags[GATHERED] = front
        add_gram(A, buffer, sign[0:2], flags)
    if back < GATHER:
        flags[GATHERED] = GATHER - back
        add_gram(A, buffer[back:], sign[2:4], flags)


@njit(**MELT)
def _add_ridge(A: np.ndarray, A0: np.ndarray, c: np.ndarray, k: int, reg: float,
               bias_reg: float, m: np.ndarray, m_bias: float) -> None:
    """Add Λ and Λm; Λ is at least the rounding error of A.

    Negative a subtract from A0 but leave its rounding error, so that A0 counts separately.
    """
    trace = A.dtype.type(SMALL)
    for i in range(c.size):
        trace += abs(A[i, i]) + A0[i, i]
    floor = trace * np.finfo(A.dtype).eps
    for f in range(k):
        A[f, f] += max(reg, floor)
        c[f] += max(reg, floor) * m[f]
    if c.size > k:
        A[k, k] += max(bias_reg, floor)
        c[k] += max(bias_reg, floor) * m_bias


@njit(**MELT)
def _store_scaled(row: np.ndarray, q: np.ndarray, root: float) -> None:
    """Write root · [q | 1] (without the 1 where the row is as long as q)."""
    for f in range(q.size):
        row[f] = root * q[f]
    if row.size > q.size:
        row[q.size] = root


@njit(**MELT)
def _add_targets(c: np.ndarray, Q: np.ndarray, indices: np.ndarray, t: int, last: int,
                 target: np.ndarray) -> None:
    """Add the targets of four cells times their [q | 1] to c."""
    t0, t1, t2, t3 = target[0], target[1], target[2], target[3]
    q0, q1 = Q[indices[t]], Q[indices[min(t + 1, last)]]
    q2, q3 = Q[indices[min(t + 2, last)]], Q[indices[min(t + 3, last)]]
    for f in range(q0.size):
        c[f] += t0 * q0[f] + t1 * q1[f] + t2 * q2[f] + t3 * q3[f]
    if c.size > q0.size:
        c[q0.size] += t0 + t1 + t2 + t3


@njit(**MELT)
def _square(A: np.ndarray, A0: np.ndarray, c: np.ndarray, z: np.ndarray) -> float:
    """Return zᵀ(A − A0) z − 2 zᵀc, from the upper triangles."""
    total = 0.0
    for i in range(z.size):
        inner = A.dtype.type(0)
        left, right, tail = A[i, i + 1:], A0[i, i + 1:], z[i + 1:]
        for j in range(tail.size):                    # (slices from 0 vectorise)
            inner += (left[j] - right[j]) * tail[j]
        total += np.float64(z[i]) * ((A[i, i] - A0[i, i]) * z[i] + 2 * (inner - c[i]))
    return total


@njit(**MELT)
def _load(z: np.ndarray, p: np.ndarray, bias: float) -> None:
    for f in range(p.size):
        z[f] = p[f]
    if z.size > p.size:
        z[p.size] = bias


@njit(**MELT)
def _add_noise(c: np.ndarray, U: np.ndarray, e: np.ndarray, y: np.ndarray) -> None:
    """Add y = U⁻¹ e to c; only the upper triangle of U is read."""
    for i in range(c.size - 1, -1, -1):
        s = e[i]
        row, tail = U[i, i + 1:], y[i + 1:]
        for j in range(tail.size):
            s -= row[j] * tail[j]
        y[i] = s / U[i, i]
        c[i] += y[i]


@njit(**MELT)
def _gather_row(indices: np.ndarray, x: np.ndarray, y: np.ndarray, line: np.ndarray,
                Q: np.ndarray, gamma: np.ndarray, fixed: float, start: int, stop: int,
                buffer: np.ndarray, target: np.ndarray, sign: np.ndarray, flags: np.ndarray,
                A: np.ndarray, c: np.ndarray) -> float:
    """Add a row's cells to A and c, four at a time (the last padded with a = b = 0).

    Returns Σ (a o² − 2 b o), the frozen scores' share of the loss.
    """
    real = A.dtype.type
    frozen, front, back, last = 0.0, 0, GATHER, stop - 1
    for t in range(start, stop, 4):
        for ahead in range(t + AHEAD, min(t + AHEAD + 4, stop)):
            prefetch_row(Q, indices[ahead])
        for lane in range(4):
            here = t + lane
            i = indices[min(here, last)]
            a = real(line[0] * x[here] + line[1]) if here < stop else real(0)
            b = real(line[2] * y[here] + line[3]) if here < stop else real(0)
            o = gamma[i] + fixed
            target[lane] = b - a * o
            frozen += np.float64(o) * (a * o - 2 * b)
            place = front
            if a < 0:
                back -= 1
                place = back
            else:
                front += 1
            _store_scaled(buffer[place], Q[i], np.sqrt(abs(a)))
        _add_targets(c, Q, indices, t, last, target)
        if back - front < 4 or t + 4 >= stop:
            _flush(A, buffer, front, back, sign, flags)
            front, back = 0, GATHER
    return frozen


@njit(**KERNEL)
def solve_rows(indptr: np.ndarray, indices: np.ndarray, x: np.ndarray, y: np.ndarray,
               line: np.ndarray, Q: np.ndarray, gamma: np.ndarray, A0: np.ndarray,
               c0: np.ndarray, c1: np.ndarray, reg: np.ndarray, bias_reg: np.ndarray,
               M: np.ndarray, bias_means: np.ndarray, noise: np.ndarray, P: np.ndarray,
               beta: np.ndarray, lo: int, hi: int) -> tuple[float, int]:
    """Solve rows lo..hi in place.

    Parameters
    ----------
    indptr, indices, x, y, line
        Stored cells in CSR: a = line[0]·x + line[1], b = line[2]·y + line[3].
    Q, gamma : ndarray, shapes (n_columns, k), (n_columns,)
        The frozen side.
    A0, c0, c1 : ndarray, shapes (d, d), (d,), (d,)
        Sums over all columns; d is k + 1 if the bias is learned, else k.
    reg, bias_reg : ndarray, shape (n_rows,)
        Λ_u, the penalty weight of each row's factors and bias.
    M, bias_means : ndarray, shapes (n_rows, k), (n_rows,)
        Prior means; (1, k) and (1,) if all rows share one.
    noise : ndarray, shape (n_rows, d), or (0, d) for none
        e of each row.
    P, beta : ndarray, shapes (n_rows, k), (n_rows,)
        The free side; rows lo..hi are overwritten (beta only if it is learned).

    Returns
    -------
    known : float
        Σ_Ω (a s² − 2 b s) of the values on entry: zᵀ(A − A0) z − 2 zᵀc + Σ (a o² − 2 b o), for
        c without its sums over all columns.
    failed : int
        A row whose system has no finite solution, or -1; such a row keeps its values.
    """
    k, d = Q.shape[1], c0.size
    learns = d > k
    buffer, target = np.empty((GATHER, d), Q.dtype), np.empty(4, Q.dtype)
    A, c, z = np.empty((d, d), Q.dtype), np.empty(d, Q.dtype), np.empty(d, Q.dtype)
    sign = np.array([1, 1, -1, 1], Q.dtype)
    flags = np.array(FLAGS, np.int32)
    flags[0] = d
    shared_prior, no_sums = M.shape[0] == 1, not (A0.any() or len(noise))
    known, failed = 0.0, -1
    for u in range(lo, hi):
        m = M[0 if shared_prior else u]
        bias_prior = bias_means[0 if bias_means.size == 1 else u]
        if indptr[u] == indptr[u + 1] and no_sums:
            _load(P[u], m, bias_prior)
            if learns:
                beta[u] = bias_prior
            continue
        fixed = Q.dtype.type(0 if learns else beta[u])
        for i in range(d):
            c[i] = 0
            for j in range(d):
                A[i, j] = A0[i, j]
        known += _gather_row(indices, x, y, line, Q, gamma, fixed, indptr[u], indptr[u + 1],
                             buffer, target, sign, flags, A, c)
        _load(z, P[u], beta[u])
        known += _square(A, A0, c, z)
        for f in range(d):
            c[f] += c0[f] + fixed * c1[f]
        _add_ridge(A, A0, c, k, reg[u], bias_reg[u], m, bias_prior)
        solve_spd(A, c, flags)
        # LAPACK need not report NaN and infinity.  (isfinite tests x - x == 0, which is
        # always true of a sum that may be reordered.)
        if flags[INFO] != 0 or not np.trace(A) + abs(c.sum()) < np.inf:
            failed = u
            continue
        if len(noise):
            _add_noise(c, A, noise[u], z)
        for f in range(k):
            P[u, f] = c[f]
        if learns:
            beta[u] = c[k]
    return known, failed
