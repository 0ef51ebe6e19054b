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
The cells of a row come in groups of eight (the last is padded with weight 0), so that eight dot
products share each load of p.  The first reading brings the q of a row into cache, where the
later steps find them; copying them to a buffer measured no faster.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from mfcore.compiled import njit
from mfcore.kernels.options import INLINE, KERNEL, MELT
from mfcore.kernels.prefetch import prefetch_row

LANES = 16
GROUP = 8
BLOCK = 1024      # cells of a row whose scalars are held at a time


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
                Q: np.ndarray, gamma: np.ndarray, start: int, n: int, column: np.ndarray,
                a: np.ndarray, b: np.ndarray, o: np.ndarray) -> int:
    """Fill column, a, b and the frozen score o of n cells; return n rounded up to 8.

    The rows of Q that the cells need are on their way into cache when this returns.
    """
    real = a.dtype.type
    a1, a0 = real(line[0]), real(line[1])
    b1, b0 = real(line[2]), real(line[3])
    for t in range(n):
        i = indices[start + t]
        prefetch_row(Q, i)
        column[t] = i
        a[t] = a1 * real(x[start + t]) + a0
        b[t] = b1 * real(y[start + t]) + b0
        o[t] = gamma[i]
    full = -(-n // GROUP) * GROUP
    for t in range(n, full):
        column[t] = column[0]
        a[t] = b[t] = o[t] = 0
    return full


@njit(**MELT)
def _first_reading(K: int, Q: np.ndarray, column: np.ndarray, a: np.ndarray, b: np.ndarray,
                   o: np.ndarray, full: int, p: np.ndarray, bias: float, r: np.ndarray,
                   diagonal: np.ndarray) -> tuple[float, float, float]:
    """Add the cells' share to the residual r and to the diagonal of A, in one pass.

    Returns Σ (a s² − 2 b s), Σ e and Σ a, where s is the score on entry and e = b − a s.
    """
    known, sum_e, sum_a = 0.0, a.dtype.type(0), a.dtype.type(0)
    for t in range(0, full, 4):
        q0, q1 = Q[column[t]], Q[column[t + 1]]
        q2, q3 = Q[column[t + 2]], Q[column[t + 3]]
        a0, a1 = a[t], a[t + 1]
        a2, a3 = a[t + 2], a[t + 3]
        s0, s1 = bias + o[t], bias + o[t + 1]
        s2, s3 = bias + o[t + 2], bias + o[t + 3]
        for f in range(K):
            pf, h0, h1 = p[f], q0[f], q1[f]
            h2, h3 = q2[f], q3[f]
            s0 += h0 * pf
            s1 += h1 * pf
            s2 += h2 * pf
            s3 += h3 * pf
            diagonal[f] += a0 * h0 * h0 + a1 * h1 * h1 + a2 * h2 * h2 + a3 * h3 * h3
        e0, e1 = b[t], b[t + 1]
        e2, e3 = b[t + 2], b[t + 3]
        known += s0 * (a0 * s0 - 2 * e0) + s1 * (a1 * s1 - 2 * e1) \
            + s2 * (a2 * s2 - 2 * e2) + s3 * (a3 * s3 - 2 * e3)
        e0, e1 = e0 - a0 * s0, e1 - a1 * s1
        e2, e3 = e2 - a2 * s2, e3 - a3 * s3
        for f in range(K):
            r[f] += e0 * q0[f] + e1 * q1[f] + e2 * q2[f] + e3 * q3[f]
        sum_e += e0 + e1 + e2 + e3
        sum_a += a0 + a1 + a2 + a3
    return known, sum_e, sum_a


@njit(**MELT)
def _product(K: int, Q: np.ndarray, column: np.ndarray, a: np.ndarray, full: int,
             d: np.ndarray, d_b: float, Ad: np.ndarray) -> float:
    """Add Σ a (q·d + d_b) q over the cells to Ad; return Σ a (q·d + d_b)."""
    total: float = a.dtype.type(0)
    for t in range(0, full, GROUP):
        q0, q1 = Q[column[t]], Q[column[t + 1]]
        q2, q3 = Q[column[t + 2]], Q[column[t + 3]]
        q4, q5 = Q[column[t + 4]], Q[column[t + 5]]
        q6, q7 = Q[column[t + 6]], Q[column[t + 7]]
        s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = d_b
        for f in range(K):
            df = d[f]
            s0 += q0[f] * df
            s1 += q1[f] * df
            s2 += q2[f] * df
            s3 += q3[f] * df
            s4 += q4[f] * df
            s5 += q5[f] * df
            s6 += q6[f] * df
            s7 += q7[f] * df
        s0, s1 = s0 * a[t], s1 * a[t + 1]
        s2, s3 = s2 * a[t + 2], s3 * a[t + 3]
        s4, s5 = s4 * a[t + 4], s5 * a[t + 5]
        s6, s7 = s6 * a[t + 6], s7 * a[t + 7]
        for f in range(K):
            Ad[f] += s0 * q0[f] + s1 * q1[f] + s2 * q2[f] + s3 * q3[f] \
                + s4 * q4[f] + s5 * q5[f] + s6 * q6[f] + s7 * q7[f]
        total += s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7
    return total


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


@cache
def row_solver(K: int) -> Any:
    """Build the kernel for rows of K factors; compiled on first use, kept on disk."""

    @njit(**KERNEL)
    def cg_rows(indptr: np.ndarray, indices: np.ndarray, x: np.ndarray, y: np.ndarray,
                line: np.ndarray, Q: np.ndarray, gamma: np.ndarray, D: np.ndarray,
                v: np.ndarray, g: np.ndarray, whole: np.ndarray, reg: np.ndarray,
                bias_reg: np.ndarray, M: np.ndarray, bias_means: np.ndarray, P: np.ndarray,
                beta: np.ndarray, steps: int, lo: int, hi: int) -> float:
        """Improve rows lo..hi of P and beta by `steps` steps from their values on entry.

        Cells, frozen side and penalties are as in kernels/exact.py; all factors are rotated.
        D, v, g : w0 times the eigenvalues, the column sums and Qᵀγ, shape (K,) each.
        whole : [1 if the bias is learned else 0, w0 n, w0 Σγ].
        Returns Σ_Ω (a s² − 2 b s) of the values on entry; NaN if a row overflows.
        """
        real = Q.dtype.type
        one = real(1)                    # (1 / x would be computed in float64)
        tiny = real(1e-30)
        eps = real(np.finfo(Q.dtype).eps)
        spread = D.sum()
        floor = (spread + real(1e-12)) * eps
        floor_b = (real(whole[1]) + real(1e-12)) * eps
        column = np.empty(BLOCK, np.int64)
        a, b, o = np.empty(BLOCK, Q.dtype), np.empty(BLOCK, Q.dtype), np.empty(BLOCK, Q.dtype)
        r, inverse, z = np.empty(K, Q.dtype), np.empty(K, Q.dtype), np.empty(K, Q.dtype)
        d, Ad = np.empty(K, Q.dtype), np.empty(K, Q.dtype)
        learns, n_w0, sum_g = real(whole[0]), real(whole[1]), real(whole[2])
        shared_prior, no_sums = M.shape[0] == 1, steps > 0 and spread == 0 and n_w0 == 0
        total = 0.0
        for u in range(lo, hi):
            p, bias, m = P[u], beta[u], M[0 if shared_prior else u]
            lam, lam_b = max(real(reg[u]), floor), max(real(bias_reg[u]), floor_b)
            start, stop = indptr[u], indptr[u + 1]
            if start == stop and no_sums:        # the prior, and no rounding of it
                for f in range(K):
                    p[f] = m[f]
                if learns:
                    beta[u] = bias_means[0 if bias_means.size == 1 else u]
                continue
            vp = _start_residual(K, p, bias, m, lam, D, v, g, r, inverse)
            bias_prior = real(bias_means[0 if bias_means.size == 1 else u])
            r_b = lam_b * (bias_prior - bias) - vp - n_w0 * bias - sum_g
            diagonal_b = n_w0 + lam_b
            full = 0
            for block in range(start, stop, BLOCK):
                full = _read_cells(indices, x, y, line, Q, gamma, block,
                                   min(BLOCK, stop - block), column, a, b, o)
                known, sum_e, sum_a = _first_reading(K, Q, column, a, b, o, full, p, bias,
                                                     r, inverse)
                total += known
                r_b += sum_e
                diagonal_b += sum_a
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
            dAd = rz
            for _ in range(steps):
                if not rz > 0:
                    break
                vd = real(0)
                for f in range(K):
                    Ad[f] = (D[f] + lam) * d[f] + d_b * v[f]
                    vd += v[f] * d[f]
                Ad_b = vd + (n_w0 + lam_b) * d_b
                for block in range(start, stop, BLOCK):
                    if stop - start > BLOCK:
                        full = _read_cells(indices, x, y, line, Q, gamma, block,
                                           min(BLOCK, stop - block), column, a, b, o)
                    Ad_b += _product(K, Q, column, a, full, d, d_b, Ad)
                dAd = d_b * Ad_b
                for f in range(K):
                    dAd += d[f] * Ad[f]
                if not dAd > 16 * eps * dMd:     # nothing but rounding along d
                    break
                length = rz / dAd
                old, rz = rz, real(0)
                for f in range(K):
                    p[f] += length * d[f]
                    r[f] -= length * Ad[f]
                    z[f] = r[f] * inverse[f]
                    rz += r[f] * z[f]
                bias += length * d_b
                r_b -= learns * length * Ad_b
                rz += r_b * r_b * inverse_b
                ratio = rz / old
                dMd = rz + ratio * ratio * dMd
                for f in range(K):
                    d[f] = z[f] + ratio * d[f]
                d_b = r_b * inverse_b + ratio * d_b
            if not (abs(rz) < np.inf and abs(dAd) < np.inf and least > 0):
                total = np.nan           # (it stopped, and nobody would know)
            beta[u] = bias
        return total

    return cg_rows
