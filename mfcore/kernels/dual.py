"""Rows with fewer cells than unknowns, solved exactly by a system of their cells.

Row u has n stored cells and d unknowns z, and its system (kernels/exact.py), without negative a, is

    A z = c,    A = M + Σ_Ω a x xᵀ,    c = g + Σ_Ω (b − a o) x        M, g : all that is no cell

Where M is diagonal, M⁻¹ costs nothing.  Let z0 = M⁻¹ g be the solution without cells, and B the
rows √a x M^−½ of the cells.  Then

    z = z0 + M^−½ Bᵀ y,    (I + B Bᵀ) y = (b − a (o + x·z0)) / √a

which takes n² d + n³/3 steps where the other takes n d² + d³/3.  (Put z into A z = c, with
Σ a x xᵀ = M^½ BᵀB M^½.)  Cells with a = 0 have nothing in A, and their b x goes into g.

M is w0 QᵀQ + Λ_u without a learned bias, which is diagonal in the eigenbasis V of QᵀQ; with w0 = 0
it is Λ_u, and V the identity.  A pivot of A is no less than the least number of M, so that a row
where this is well above rounding is not weak in the words of kernels/exact.py, and others are left
to it, as are rows of more cells.

Products with V are summed in one order, four rows at a time, so that a row has the same bits in
whatever company it is.

Source: Golub, Van Loan 2013, section 2.1.4 (Sherman, Morrison, Woodbury); Saunders, Gammerman,
Vovk 1998 (ridge regression by cells).
"""

from __future__ import annotations

import numpy as np

from mfcore.compiled import njit
from mfcore.kernels.exact import AHEAD, SMALL
from mfcore.kernels.gathered import prefetch_row
from mfcore.kernels.lapack import FLAGS, GATHERED, INFO, add_outer, solve_spd
from mfcore.kernels.options import KERNEL, MELT, WEAK

LANES = 4


@njit(**MELT)
def _turn_four(X: np.ndarray, rows: np.ndarray, V: np.ndarray, out: np.ndarray) -> None:
    """Write the four rows of X, times V, to `out`, shape (4, k)."""
    x0, x1, x2, x3 = X[rows[0]], X[rows[1]], X[rows[2]], X[rows[3]]
    y0, y1, y2, y3 = out[0], out[1], out[2], out[3]
    for g in range(y0.size):
        y0[g] = y1[g] = y2[g] = y3[g] = 0
    for f in range(x0.size):
        v, f0, f1, f2, f3 = V[f], x0[f], x1[f], x2[f], x3[f]
        for g in range(y0.size):
            y0[g] += f0 * v[g]
            y1[g] += f1 * v[g]
            y2[g] += f2 * v[g]
            y3[g] += f3 * v[g]


@njit(**KERNEL)
def turn_rows(X: np.ndarray, V: np.ndarray, out: np.ndarray, skipped: np.ndarray, lo: int, hi: int
              ) -> None:
    """Write rows lo..hi of X V to `out`, which may be X, but for the `skipped` ones.

    Bits of a row do not depend on the others.
    """
    rows, turned, found = np.empty(LANES, np.int64), np.empty((LANES, V.shape[1]), out.dtype), 0
    for u in range(lo, hi):
        if not skipped[u]:
            rows[found] = u
            found += 1
        if found == LANES or (u == hi - 1 and found > 0):
            for lane in range(found, LANES):
                rows[lane] = rows[0]
            _turn_four(X, rows, V, turned)
            for lane in range(found):
                target, row = out[rows[lane]], turned[lane]
                for f in range(row.size):
                    target[f] = row[f]
            found = 0


@njit(**MELT)
def _put_start(z: np.ndarray, root: np.ndarray, D: np.ndarray, c0: np.ndarray, c1: np.ndarray,
               fixed: float, lam: float, lam_b: float, m: np.ndarray, bias_prior: float) -> float:
    """Write g to z and M^−½ to `root`; return the least number of M."""
    one = z.dtype.type(1)
    least = lam_b if z.size > m.size else np.inf
    for f in range(m.size):
        z[f] = lam * m[f] + c0[f] + fixed * c1[f]
        root[f] = one / np.sqrt(D[f] + lam)
        least = min(least, D[f] + lam)
    if z.size > m.size:
        z[m.size] = lam_b * bias_prior
        root[m.size] = one / np.sqrt(lam_b)
    return least


@njit(**MELT)
def _add_scaled(z: np.ndarray, scale: float, q: np.ndarray) -> None:
    """Add scale · [q | 1] to z (without the 1 where z is as long as q)."""
    for f in range(q.size):
        z[f] += scale * q[f]
    if z.size > q.size:
        z[q.size] += scale


@njit(**MELT)
def _scored(z: np.ndarray, q: np.ndarray) -> float:
    """Return [q | 1]·z."""
    s: float = z[q.size] if z.size > q.size else z.dtype.type(0)
    for f in range(q.size):
        s += q[f] * z[f]
    return s


@njit(**MELT)
def _store_cell(row: np.ndarray, q: np.ndarray, scale: float, root: np.ndarray) -> None:
    """Write a row of B."""
    for f in range(q.size):
        row[f] = scale * q[f] * root[f]
    if row.size > q.size:
        row[q.size] = scale * root[q.size]


@njit(**KERNEL)
def solve_short_rows(indptr: np.ndarray, indices: np.ndarray, x: np.ndarray, y: np.ndarray,
                     line: np.ndarray, Q: np.ndarray, gamma: np.ndarray, T: np.ndarray,
                     D: np.ndarray, c0: np.ndarray, c1: np.ndarray, reg: np.ndarray,
                     bias_reg: np.ndarray, M: np.ndarray, bias_means: np.ndarray, P: np.ndarray,
                     beta: np.ndarray, done: np.ndarray, lo: int, hi: int) -> float:
    """Solve rows lo..hi in place, in the basis V, where they are short and sound.

    Parameters
    ----------
    indptr, indices, x, y, line, Q, gamma, reg, bias_reg, bias_means, beta
        As in `solve_rows`.
    T : ndarray, shape (n_columns, k)
        Q V; Q itself where V is the identity.
    D, c0, c1 : ndarray, shapes (k,), (d,), (d,)
        w0 times the eigenvalues of QᵀQ, and the sums over all columns in the basis V.
    M : ndarray, shape (n_rows, k) or (1, k)
        Prior means in the basis V.
    P : ndarray, shape (n_rows, k)
        The free side on entry; rows that are solved are overwritten, in the basis V.
    done : ndarray of bool, shape (n_rows,)
        Rows that are solved: those that are given stay as they are, and others are set.

    Returns
    -------
    known : float
        Σ_Ω (a s² − 2 b s) of the values on entry, over rows that are solved.
    """
    k, d, real = Q.shape[1], c0.size, Q.dtype.type
    learns, most = d > k, d // 2
    B, S = np.empty((max(most, 1), d), Q.dtype), np.empty(max(most * most, 1), Q.dtype)
    target, z, root = np.empty(max(most, 1), Q.dtype), np.empty(d, Q.dtype), np.empty(d, Q.dtype)
    scale = np.array([1, 1], Q.dtype)
    flags = np.array(FLAGS, np.int32)
    flags[GATHERED] = d
    spread, eps, known = D.sum(), np.finfo(Q.dtype).eps, 0.0
    for u in range(lo, hi):
        start, stop = indptr[u], indptr[u + 1]
        n = stop - start
        if done[u] or n > most or (n == 0 and spread == 0):
            continue
        m, lam, lam_b = M[0 if M.shape[0] == 1 else u], real(reg[u]), real(bias_reg[u])
        bias_prior = real(bias_means[0 if bias_means.size == 1 else u])
        fixed = real(0 if learns else beta[u])
        least = _put_start(z, root, D, c0, c1, fixed, lam, lam_b, m, bias_prior)
        trace, lowest, before = spread + real(SMALL), real(0), 0.0
        for t in range(start, min(start + AHEAD, stop)):
            prefetch_row(T, indices[t])
        for t in range(start, stop):
            if t + AHEAD < stop:
                prefetch_row(T, indices[t + AHEAD])
            i = indices[t]
            a, b = real(line[0] * x[t] + line[1]), real(line[2] * y[t] + line[3])
            q, size = T[i], real(learns)
            for f in range(k):
                size += q[f] * q[f]
            trace += a * size
            lowest = min(lowest, a)
            if a == 0 and b != 0:
                _add_scaled(z, b, q)
            s = _scored(P[u], Q[i]) + gamma[i] + beta[u]
            before += s * (np.float64(a) * s - 2 * b)
        if not (lowest == 0 and least > trace * real(WEAK) * eps and trace < np.inf):
            continue
        for f in range(d):
            z[f] *= root[f] * root[f]
        for t in range(n):
            i, here = indices[start + t], start + t
            a, b = real(line[0] * x[here] + line[1]), real(line[2] * y[here] + line[3])
            size = np.sqrt(a)
            e = b - a * (gamma[i] + fixed + _scored(z, T[i]))
            target[t] = e / size if a > 0 else real(0)
            _store_cell(B[t], T[i], size, root)
        square = S[:n * n].reshape(n, n)
        for i in range(n):
            for j in range(n):
                square[i, j] = 1 if i == j else 0
        flags[0], flags[INFO] = n, 0
        if n > 0:
            add_outer(square, B, scale, flags)
            solve_spd(square, target[:n], flags)
        for f in range(d):
            z[f] /= root[f]
        for t in range(n):
            row, size = B[t], target[t]
            for f in range(d):
                z[f] += size * row[f]
        total = real(0)
        for f in range(d):
            z[f] *= root[f]
            total += abs(z[f])
        if flags[INFO] != 0 or not total < np.inf:
            continue
        done[u] = True
        known += before
        for f in range(k):
            P[u, f] = z[f]
        if learns:
            beta[u] = z[k]
    return known
