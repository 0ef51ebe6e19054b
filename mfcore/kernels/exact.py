"""Rows of a quadratic objective solved exactly: normal equations and Cholesky.

For row u with stored cells i in Ω_u, the free vector z = [p | β] (β last, and only if the
bias is learned), x_i = [q_i | 1] and frozen score o_i = γ_i (+ β_u if it is fixed):

    A = A0 + Σ_Ω a x xᵀ + Λ_u            c = c0 + β_u c1 + Σ_Ω (b − a o) x + Λ_u m_u

A0, c0, c1 are the sums over all columns, weighted by w0 (objectives/quadratic.py).  Cells
are gathered up to 128 at a time, scaled by √a, and their products are added (kernels/systems.py).
Where some of them have negative a, they are gathered again, scaled by √−a, and subtracted; each
time the others are scaled by 0.

Weak rows.  Where a pivot of A, a diagonal number of U squared, is within 128 ε tr A of zero, the
solution is rounding to a good part, or, without a penalty, one of many.  Such rows are solved
again in float64, by steps that leave what A does not determine at the prior:

    z ← z + (A + δ I)⁻¹ (c − A z)        from z = m,   δ = 2⁻⁴⁰ tr A

Along an eigenvector of A with eigenvalue s, a step multiplies the distance to the solution by
δ / (s + δ).  So n steps solve the row to (δ/s)ⁿ where s ≫ δ, and stay at m where s is rounding.

With noise e the row becomes A⁻¹ c + U⁻¹ e, where A = UᵀU.  For e ~ N(0, I / τ) that is a draw
from N(A⁻¹ c, (τ A)⁻¹), since the covariance of U⁻¹ e is U⁻¹ U⁻ᵀ / τ = A⁻¹ / τ.

Sources: Riley 1955 (the steps); Golub, Van Loan 2013, section 4.2 (pivots and rounding).
"""

from __future__ import annotations

import numpy as np

from mfcore.compiled import njit
from mfcore.kernels.lapack import add_noise
from mfcore.kernels.options import INLINE, KERNEL, MELT, WEAK
from mfcore.kernels.systems import add_products, factorise, gathered, lanes, solve_factored, square

GATHER = 128      # cells scaled into the buffer before they are multiplied
AHEAD = 16        # cells between asking for a row and reading it
SMALL = 1e-12     # sums of squares that count as nothing
SOUND = 1 / 16    # least pivot, in units of the mean diagonal, of a row that is not looked at
SHIFT, STEPS = 2.0**-40, 3      # δ / tr A, and steps, of weak rows


@njit(**INLINE)
def _behind(x: np.ndarray, i: int) -> np.ndarray:
    """Return what follows x[i]: loops over slices from 0 vectorise."""
    return x[i + 1:]


@njit(**INLINE)
def _right_of(A: np.ndarray, i: int) -> np.ndarray:
    """Return what follows the diagonal in row i."""
    return A[i, i + 1:]


@njit(**INLINE)
def _trace(A: np.ndarray) -> float:
    trace: float = A.dtype.type(0)
    for i in range(len(A)):
        trace += A[i, i]
    return trace


@njit(**MELT)
def _size(c: np.ndarray) -> float:
    total: float = c.dtype.type(0)
    for i in range(c.size):
        total += abs(c[i])
    return total


@njit(**MELT)
def _add_ridge(A: np.ndarray, A0: np.ndarray, c: np.ndarray, k: int, reg: float,
               bias_reg: float, m: np.ndarray, m_bias: float, least: float) -> float:
    """Add Λ and Λm, Λ at least `least` times the trace of A; return the trace, without Λ.

    Negative a subtract from A0 but leave its rounding error, so that A0 counts separately.
    """
    trace: float = A.dtype.type(SMALL)
    for i in range(c.size):
        trace += abs(A[i, i]) + A0[i, i]
    floor = trace * least
    for f in range(k):
        A[f, f] += max(reg, floor)
        c[f] += max(reg, floor) * m[f]
    if c.size > k:
        A[k, k] += max(bias_reg, floor)
        c[k] += max(bias_reg, floor) * m_bias
    return trace


@njit(**MELT)
def _load(z: np.ndarray, p: np.ndarray, bias: float) -> None:
    for f in range(p.size):
        z[f] = p[f]
    if z.size > p.size:
        z[p.size] = bias


@njit(**MELT)
def _gather_row(indices: np.ndarray, x: np.ndarray, y: np.ndarray, line: np.ndarray,
                Q: np.ndarray, gamma: np.ndarray, fixed: float, learns: bool, start: int,
                stop: int, last: int, buffer: np.ndarray, root: np.ndarray, target: np.ndarray,
                base: np.ndarray, A: np.ndarray, c: np.ndarray) -> float:
    """Set A to the base and a row's cells, and c to theirs.

    Returns Σ (a o² − 2 b o), the frozen scores' share of the loss.
    """
    real, frozen, before = A.dtype.type, 0.0, base
    for f in range(c.size):
        c[f] = 0
    for block in range(start, max(stop, start + 1), GATHER):
        end, lowest = min(block + GATHER, stop), real(0)
        for t in range(block, end):
            a = real(line[0] * x[t] + line[1])
            b = real(line[2] * y[t] + line[3])
            o = gamma[indices[t]] + fixed
            target[t - block] = b - a * o
            frozen += np.float64(o) * (a * o - 2 * b)
            root[t - block] = np.sqrt(max(a, real(0)))
            lowest = min(lowest, a)
        gathered(buffer, Q, indices, block, end, last, root, target, c, learns)
        add_products(A, before, buffer, end - block, 1.0)
        before = A
        if lowest < 0:
            for t in range(block, end):
                root[t - block] = np.sqrt(max(-real(line[0] * x[t] + line[1]), real(0)))
                target[t - block] = 0
            gathered(buffer, Q, indices, block, end, last, root, target, c, learns)
            add_products(A, A, buffer, end - block, -1.0)
    return frozen


@njit(**MELT)
def _store(P: np.ndarray, beta: np.ndarray, u: int, z: np.ndarray) -> None:
    for f in range(P.shape[1]):
        P[u, f] = z[f]
    if z.size > P.shape[1]:
        beta[u] = z[P.shape[1]]


@njit(**MELT)
def _inverse_norm(U: np.ndarray, sound: float, w: np.ndarray) -> float:
    """Return about ‖A⁻¹‖ for A = UᵀU, or 0 where every pivot is above `sound`.

    w solves Uᵀw = e, its signs e = ±1 chosen as they come so that w grows, which turns it to
    the direction where U is smallest; then ‖A⁻¹‖ ≈ (‖U⁻¹w‖ / ‖w‖)².  Fills w.
    """
    least = U[0, 0]
    for i in range(w.size):
        least = min(least, U[i, i])
        w[i] = 0
    before, after = 0.0, 0.0
    if least * least > sound:
        return after
    for i in range(w.size):
        w[i] = (w[i] - 1 if w[i] < 0 else w[i] + 1) / U[i, i]
        row, rest = _right_of(U, i), _behind(w, i)
        for j in range(rest.size):
            rest[j] -= row[j] * w[i]
        before += w[i] * w[i]
    for i in range(w.size - 1, -1, -1):
        inner = w[i]
        row, rest = _right_of(U, i), _behind(w, i)
        for j in range(rest.size):
            inner -= row[j] * rest[j]
        w[i] = inner / U[i, i]
        after += w[i] * w[i]
    return after / before


@njit(**KERNEL)
def solve_rows(indptr: np.ndarray, indices: np.ndarray, x: np.ndarray, y: np.ndarray,
               line: np.ndarray, Q: np.ndarray, gamma: np.ndarray, A0: np.ndarray,
               c0: np.ndarray, c1: np.ndarray, reg: np.ndarray, bias_reg: np.ndarray,
               M: np.ndarray, bias_means: np.ndarray, noise: np.ndarray, P: np.ndarray,
               beta: np.ndarray, weak: np.ndarray, done: np.ndarray, lo: int, hi: int
               ) -> tuple[float, int]:
    """Solve rows lo..hi in place, but for those that are done.

    Parameters
    ----------
    indptr, indices, x, y, line
        Stored cells in CSR: a = line[0]·x + line[1], b = line[2]·y + line[3].
    Q, gamma : ndarray, shapes (n_columns, k), (n_columns,)
        The frozen side.
    A0, c0, c1 : ndarray, shapes (K, K), (d,), (d,)
        Sums over all columns, A0 as `widened` gives it; d is k + 1 if the bias is learned, else k.
    reg, bias_reg : ndarray, shape (n_rows,)
        Λ_u, the penalty weight of each row's factors and bias.
    M, bias_means : ndarray, shapes (n_rows, k), (n_rows,)
        Prior means; (1, k) and (1,) if all rows share one.
    noise : ndarray, shape (n_rows, d), or (0, d) for none
        e of each row.
    P, beta : ndarray, shapes (n_rows, k), (n_rows,)
        The free side; rows lo..hi are overwritten (beta only if it is learned).
    weak : ndarray of bool, shape (n_rows,)
        Set for rows to be solved by `solve_weak_rows`; they keep their values.
    done : ndarray of bool, shape (n_rows,)
        Rows that stay as they are.

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
    K, n_lanes = len(A0), lanes(A0)
    buffer = np.empty((K // n_lanes, GATHER, n_lanes), Q.dtype)
    root, target = np.empty(GATHER, Q.dtype), np.empty(GATHER, Q.dtype)
    A, inverse = np.empty((K, K), Q.dtype), np.empty(K, Q.dtype)
    targets, before = np.empty(K, Q.dtype), np.zeros(K, Q.dtype)
    c, z = targets[:d], before[:d]
    shared_prior, no_sums = M.shape[0] == 1, _trace(A0[:d]) == 0 and len(noise) == 0
    eps = np.finfo(Q.dtype).eps
    known, failed = 0.0, -1
    for u in range(lo, hi):
        if done[u]:
            continue
        m = M[0 if shared_prior else u]
        bias_prior = bias_means[0 if bias_means.size == 1 else u]
        if indptr[u] == indptr[u + 1] and no_sums:
            _load(P[u], m, bias_prior)
            if learns:
                beta[u] = bias_prior
            continue
        fixed = Q.dtype.type(0 if learns else beta[u])
        known += _gather_row(indices, x, y, line, Q, gamma, fixed, learns, indptr[u],
                             indptr[u + 1], indptr[hi], buffer, root, target, A0, A, targets)
        _load(z, P[u], beta[u])
        known += square(A, A0, before)
        for f in range(d):
            known -= 2 * np.float64(z[f]) * c[f]
        for f in range(d):
            c[f] += c0[f] + fixed * c1[f]
        trace = _add_ridge(A, A0, c, k, reg[u], bias_reg[u], m, bias_prior, eps)
        is_positive = factorise(A, inverse)
        if is_positive:
            solve_factored(A, inverse, targets)
        # (isfinite tests x - x == 0, which is always true of a sum that may be reordered.)
        if is_positive and not _trace(A) + _size(c) < np.inf or not trace < np.inf:
            failed = u
            continue
        if not is_positive or _inverse_norm(A, SOUND * trace / d, z) * trace * WEAK * eps > 1:
            weak[u] = True
            continue
        if len(noise):
            add_noise(c, A, noise[u], z)
        _store(P, beta, u, c)
    return known, failed


# ----------------------------------------------------------------------- weak rows

@njit(**MELT)
def _put_residual(r: np.ndarray, A: np.ndarray, c: np.ndarray, z: np.ndarray) -> None:
    """Write c − A z to r, from the upper triangle."""
    for i in range(c.size):
        r[i] = c[i]
    for i in range(c.size):
        row, tail, rest = _right_of(A, i), _behind(z, i), _behind(r, i)
        inner = A[i, i] * z[i]
        for j in range(tail.size):
            inner += row[j] * tail[j]
            rest[j] -= row[j] * z[i]
        r[i] -= inner


@njit(**KERNEL)
def solve_weak_rows(indptr: np.ndarray, indices: np.ndarray, x: np.ndarray, y: np.ndarray,
                    line: np.ndarray, Q: np.ndarray, gamma: np.ndarray, A0: np.ndarray,
                    c0: np.ndarray, c1: np.ndarray, reg: np.ndarray, bias_reg: np.ndarray,
                    M: np.ndarray, bias_means: np.ndarray, noise: np.ndarray, P: np.ndarray,
                    beta: np.ndarray, weak: np.ndarray, lo: int, hi: int) -> int:
    """Solve the weak rows among lo..hi in place; return a row without a finite solution, or -1.

    Arguments are those of `solve_rows`, with A0, c0 and c1 in float64, the type of the work.
    """
    k, d, real = Q.shape[1], c0.size, A0.dtype
    learns = d > k
    K, n_lanes = len(A0), lanes(A0)
    buffer = np.empty((K // n_lanes, GATHER, n_lanes), real)
    root, target = np.empty(GATHER, real), np.empty(GATHER, real)
    A, U, inverse = np.empty((K, K), real), np.empty((K, K), real), np.empty(K, real)
    targets, rest = np.empty(K, real), np.empty(K, real)
    c, z, r = targets[:d], np.empty(d, real), rest[:d]
    most, failed = np.finfo(P.dtype).max, -1
    for u in range(lo, hi):
        if not weak[u]:
            continue
        m = M[0 if M.shape[0] == 1 else u]
        bias_prior = bias_means[0 if bias_means.size == 1 else u]
        fixed = A0.dtype.type(0 if learns else beta[u])
        _gather_row(indices, x, y, line, Q, gamma, fixed, learns, indptr[u], indptr[u + 1],
                    indptr[hi], buffer, root, target, A0, A, targets)
        for f in range(d):
            c[f] += c0[f] + fixed * c1[f]
        trace = _add_ridge(A, A0, c, k, reg[u], bias_reg[u], m, bias_prior, 0.0)
        _load(z, m, bias_prior)
        for i in range(K):
            for j in range(K):
                U[i, j] = A[i, j]
            U[i, i] += SHIFT * trace
        is_positive = factorise(U, inverse)
        for _ in range(STEPS):
            _put_residual(r, A, c, z)
            for f in range(d, K):
                rest[f] = 0
            solve_factored(U, inverse, rest)
            for f in range(d):
                z[f] += r[f]
        if len(noise):
            add_noise(z, U, noise[u], r)
        if not is_positive or not np.abs(z).max() <= most:
            failed = u
            continue
        _store(P, beta, u, z)
    return failed
