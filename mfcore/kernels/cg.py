"""Rows of a quadratic objective by preconditioned conjugate gradient in an eigenbasis.

The factors are rotated by the eigenvectors of the frozen side's Gram, so that the sum over
all columns is diagonal, D, with one more row and column v for a learned bias:

    A (p, β) = ( (D + λ)∘p + β v + Σ_Ω a s q ,  v·p + (w0 n + λᵇ) β + Σ_Ω a s )
    s = p·q + β

The preconditioner is the diagonal of A, but at least the penalty (a may be negative).
A step costs O(nnz_u k + k), without a k² product.  A fixed bias keeps its value: its residual
is multiplied by zero.

Kernels are built for a fixed width K, a multiple of 16, so that loops over factors unroll
into vector registers; narrower factors are padded with zero columns, which stay zero.
A step reads the q of a row once, for its scores and for the sum of them that is its residual
(kernels/gathered.py); the last step needs no residual.  The first reading brings them into cache,
where the steps find them.  Without the sum of squares for the preconditioner a sweep took a tenth
less time, with the mean square of all columns in its place, and the loss after it was higher.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from mfcore.compiled import njit
from mfcore.kernels.gathered import GROUP, gathers
from mfcore.kernels.options import INLINE, KERNEL, MELT, WEAK

LANES = 16
BLOCK = 256       # cells of a row whose scalars are held at a time
ROOM = BLOCK + GROUP


def padded_width(k: int) -> int:
    """Return k rounded up to a multiple of 16."""
    return -(-k // LANES) * LANES


def padded(X: np.ndarray, K: int) -> np.ndarray:
    """Return X with zero columns up to width K; X itself if it has that width."""
    if X.shape[1] == K:
        return X
    wide = np.zeros((len(X), K), X.dtype)
    wide[:, :X.shape[1]] = X
    return wide


@njit(**INLINE)
def _read_cells(indices: np.ndarray, x: np.ndarray, y: np.ndarray, line: np.ndarray,
                gamma: np.ndarray, a: np.ndarray, b: np.ndarray, o: np.ndarray) -> None:
    """Fill a, b and the frozen score o of some cells; a with 0 up to a multiple of eight."""
    real, n = a.dtype.type, x.size
    a1, a0 = real(line[0]), real(line[1])
    b1, b0 = real(line[2]), real(line[3])
    for t in range(n):
        a[t] = a1 * real(x[t]) + a0
    for t in range(n):
        b[t] = b1 * real(y[t]) + b0
    if gamma.size:
        for t in range(n):
            o[t] = gamma[indices[t]]
    for t in range(n, n + GROUP - 1):
        a[t] = 0


@njit(**MELT)
def _residuals(n: int, a: np.ndarray, b: np.ndarray, o: np.ndarray, bias: float, s: np.ndarray
               ) -> tuple[float, float, float, float]:
    """Overwrite p·q with e = b − a s; return Σ (a s² − 2 b s), Σ e, Σ a and the least a, or 0."""
    real = a.dtype.type
    known, sum_e, sum_a, lowest = 0.0, real(0), real(0), real(0)
    for t in range(n):
        score = s[t] + bias + o[t]
        known += np.float64(score) * np.float64(a[t] * score - 2 * b[t])
        e = b[t] - a[t] * score
        sum_e += e
        sum_a += a[t]
        lowest = min(lowest, a[t])
        s[t] = e
    for t in range(n, n + GROUP - 1):
        s[t] = 0
    return known, sum_e, sum_a, lowest


@njit(**MELT)
def _weighted(n: int, a: np.ndarray, d_b: float, s: np.ndarray) -> tuple[float, float]:
    """Overwrite q·d with a (q·d + d_b); return Σ a (q·d + d_b) and Σ a (q·d + d_b)²."""
    total, square = a.dtype.type(0), a.dtype.type(0)
    for t in range(n):
        score = s[t] + d_b
        s[t] = a[t] * score
        total += s[t]
        square += s[t] * score
    for t in range(n, n + GROUP - 1):
        s[t] = 0
    return total, square


@njit(**MELT)
def _start_residual(K: int, p: np.ndarray, bias: float, m: np.ndarray, lam: float,
                    D: np.ndarray, v: np.ndarray, g: np.ndarray, r: np.ndarray,
                    diagonal: np.ndarray) -> float:
    """Write the residual and the diagonal without the stored cells; return v·p."""
    vp: float = r.dtype.type(0)
    for f in range(K):
        r[f] = lam * (m[f] - p[f]) - D[f] * p[f] - bias * v[f] - g[f]
        diagonal[f] = D[f] + lam
        vp += v[f] * p[f]
    return vp


@njit(**MELT)
def _goal(K: int, D: np.ndarray, lam: float, lam_b: float, shared: float, inverse: np.ndarray,
          inverse_b: float, p: np.ndarray, bias: float, tolerance: float, eps: float) -> float:
    """Return the rᵀM⁻¹r of a row within the tolerance, or -1 if the row may be ill conditioned.

    inverse, inverse_b : the diagonal of M⁻¹, 0 for a fixed bias
    shared : w0 n for a learned bias, which makes v of the same size as D, else 0
    """
    real = D.dtype.type
    pivot, share, size, trace = real(np.inf), real(1), real(0), real(0)
    for f in range(K):
        least = lam if shared > 0 else D[f] + lam
        pivot, share = min(pivot, least), min(share, least * inverse[f])
        size += p[f] * p[f] / inverse[f]
        trace += real(1) / inverse[f]
    if inverse_b > 0:
        pivot, share = min(pivot, lam_b), min(share, lam_b * inverse_b)
        size += bias * bias / inverse_b
        trace += real(1) / inverse_b
    bound = tolerance * share
    goal: float = bound * bound * size
    return goal if pivot > trace * (real(WEAK) * eps) else real(-1)


@cache
def row_solver(K: int) -> Any:
    """Build the kernel for rows of K factors; compiled on first use, kept on disk."""
    dots, add, add_both = gathers(K)

    @njit(**KERNEL)
    def cg_rows(indptr: np.ndarray, indices: np.ndarray, x: np.ndarray, y: np.ndarray,
                line: np.ndarray, Q: np.ndarray, gamma: np.ndarray, D: np.ndarray,
                v: np.ndarray, g: np.ndarray, whole: np.ndarray, reg: np.ndarray,
                bias_reg: np.ndarray, M: np.ndarray, bias_means: np.ndarray, P: np.ndarray,
                beta: np.ndarray, steps: int, tolerance: float, done: np.ndarray, lo: int,
                hi: int) -> float:
        """Improve rows lo..hi of P and beta by up to `steps` steps from their values on entry.

        Cells, frozen side and penalties are as in kernels/exact.py; all factors are rotated.
        Q : rows of K numbers, packed or not (kernels/gathered.py).
        gamma : shape (n_columns,), or (0,) where all are 0.
        D, v, g : w0 times the eigenvalues, the column sums and Qᵀγ, shape (K,) each.
        whole : [1 if the bias is learned else 0, w0 n, w0 Σγ, ΣD, ε of P's type].
        tolerance : of the error of a row by its length, both measured by the preconditioner.
        done : bool, shape (n_rows,); set for rows that are within it.  Shape (0,): take all steps.
        Returns Σ_Ω (a s² − 2 b s) of the values on entry; NaN if a row overflows.
        """
        real = P.dtype.type
        one = real(1)                    # (1 / x would be computed in float64)
        tiny = real(1e-30)
        spread, eps = real(whole[3]), real(whole[4])
        floor = (spread + real(1e-12)) * eps
        floor_b = (real(whole[1]) + real(1e-12)) * eps
        a, b = np.empty(ROOM, P.dtype), np.empty(ROOM, P.dtype)
        o, s = np.empty(ROOM, P.dtype), np.empty(ROOM, P.dtype)
        r, inverse, z = np.empty(K, P.dtype), np.empty(K, P.dtype), np.empty(K, P.dtype)
        d, Ad = np.empty(K, P.dtype), np.empty(K, P.dtype)
        learns, n_w0, sum_g = real(whole[0]), real(whole[1]), real(whole[2])
        shared_prior, no_sums = M.shape[0] == 1, steps > 0 and spread == 0 and n_w0 == 0
        meets = done.size > 0
        for t in range(ROOM):
            o[t] = 0
        total, last = 0.0, indptr[hi]
        for u in range(lo, hi):
            p, bias, m = P[u], beta[u], M[0 if shared_prior else u]
            lam, lam_b = max(real(reg[u]), floor), max(real(bias_reg[u]), floor_b)
            start, stop = indptr[u], indptr[u + 1]
            if start == stop and no_sums:        # the prior, and no rounding of it
                for f in range(K):
                    p[f] = m[f]
                if learns:
                    beta[u] = bias_means[0 if bias_means.size == 1 else u]
                if meets:
                    done[u] = True
                continue
            vp = _start_residual(K, p, bias, m, lam, D, v, g, r, inverse)
            bias_prior = real(bias_means[0 if bias_means.size == 1 else u])
            r_b = lam_b * (bias_prior - bias) - vp - n_w0 * bias - sum_g
            diagonal_b, lowest = n_w0 + lam_b, real(0)
            for block in range(start, stop, BLOCK):
                n = min(BLOCK, stop - block)
                _read_cells(indices[block:block + n], x[block:block + n], y[block:block + n],
                            line, gamma, a, b, o)
                dots(Q, indices, block, block + n, last, p, s)
                known, sum_e, sum_a, least_a = _residuals(n, a, b, o, bias, s)
                add_both(Q, indices, block, block + n, s, r, a, inverse)
                total += known
                r_b += sum_e
                diagonal_b += sum_a
                lowest = min(lowest, least_a)
            r_b *= learns
            inverse_b = one / max(diagonal_b, lam_b + tiny)
            d_b = r_b * inverse_b
            rz, least = r_b * d_b, inverse_b
            for f in range(K):
                inverse[f] = one / max(inverse[f], lam + tiny)
                least = min(least, inverse[f])
                d[f] = r[f] * inverse[f]
                rz += r[f] * d[f]
            dMd = rz                     # d measured by the preconditioner
            dAd, goal, at_first = rz, real(0), rz
            if meets:
                goal = _goal(K, D, lam, lam_b, n_w0 * learns, inverse, inverse_b * learns, p, bias,
                             real(tolerance), eps) if lowest == 0 else -one
                if goal < 0:
                    continue
            for step in range(steps):
                if not rz > goal or (meets and step == steps // 2 and rz * rz > at_first * goal):
                    break
                ends = step == steps - 1
                vd, dAd = real(0), real(0)
                for f in range(K):
                    Ad[f] = (D[f] + lam) * d[f] + d_b * v[f]
                    vd += v[f] * d[f]
                    dAd += d[f] * Ad[f]
                Ad_b = vd + (n_w0 + lam_b) * d_b
                dAd += d_b * Ad_b
                for block in range(start, stop, BLOCK):
                    n = min(BLOCK, stop - block)
                    if stop - start > BLOCK:
                        _read_cells(indices[block:block + n], x[block:block + n],
                                    y[block:block + n], line, gamma, a, b, o)
                    dots(Q, indices, block, block + n, block + n, d, s)
                    sum_s, square = _weighted(n, a, d_b, s)
                    dAd += square
                    Ad_b += sum_s
                    if not ends:
                        add(Q, indices, block, block + n, s, Ad)
                if not dAd > 16 * eps * dMd:     # nothing but rounding along d
                    break
                length = rz / dAd
                for f in range(K):
                    p[f] += length * d[f]
                bias += length * d_b
                if ends:
                    break
                old, rz = rz, real(0)
                for f in range(K):
                    r[f] -= length * Ad[f]
                    z[f] = r[f] * inverse[f]
                    rz += r[f] * z[f]
                r_b -= learns * length * Ad_b
                rz += r_b * r_b * inverse_b
                ratio = rz / old
                dMd = rz + ratio * ratio * dMd
                for f in range(K):
                    d[f] = z[f] + ratio * d[f]
                d_b = r_b * inverse_b + ratio * d_b
            if not (abs(rz) < np.inf and abs(dAd) < np.inf and least > 0):
                total = np.nan           # (it stopped, and nobody would know)
            elif meets:
                done[u] = rz <= goal
            beta[u] = bias
        return total

    return cg_rows
