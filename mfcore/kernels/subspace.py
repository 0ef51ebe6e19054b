"""Rows of a quadratic objective by exact steps in blocks of dimensions.

For row u with vector p, bias β and stored cells Ω_u, and the other side rotated to the
eigenbasis of its Gram, so that the sum over all columns is diagonal:

    e = b − a s                        kept for every stored cell of the row
    M = Σ_Ω a x xᵀ + [D_B  v_B; v_Bᵀ  w0 n] + Λ           x = [q_B | 1]
    c = Σ_Ω e x − [D p + β v + g;  v·p + w0 n β + w0 Σγ] + Λ (m − [p | β]),   in block B
    [p_B | β] += Δ,    e −= a Δ·x      with M Δ = c

M is the second derivative in these coordinates, and c minus the first (both halved), so a step
goes to the minimum along them: it cannot raise the loss.  Blocks follow one another (Gauss,
Seidel), starting with the largest eigenvalues.  D couples no two blocks, only the stored cells
do.  A learned bias is free in every block, a fixed one in none.

With noise e ~ N(0, I / τ) a block takes Δ = M⁻¹ c + U⁻¹ e, M = UᵀU: a draw of [p_B | β] given the
rest of the row, N([p_B | β] + M⁻¹ c, (τ M)⁻¹), where D may be any diagonal.

Factors are (n · n_blocks, width) arrays, with the blocks of a row below each other.  In the
working arrays of a row, cells with a ≥ 0 come before those with a < 0, and each part is filled
up to a multiple of four with cells of a = e = 0.  `width` is fixed when a kernel is built, so
that loops unroll.

Sources: Rendle, Krichene, Zhang, Koren 2021 (iALS++); the eigenbasis is this library's.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from mfcore.compiled import njit
from mfcore.kernels.gathered import prefetch_row
from mfcore.kernels.lapack import FLAGS, GATHERED, INFO, add_gram, add_noise, solve_spd
from mfcore.kernels.options import KERNEL, MELT

GATHER = 256      # cells scaled into the buffer before they are multiplied; a multiple of 4
AHEAD = 16        # cells between asking for a row and reading it
SMALL = 1e-12     # sums of squares that count as nothing


@njit(**MELT)
def _read_cells(indices: np.ndarray, x: np.ndarray, y: np.ndarray, line: np.ndarray,
                n_blocks: int, start: int, stop: int, column: np.ndarray, a: np.ndarray,
                e: np.ndarray, ends: np.ndarray) -> None:
    """Write the cells, those with a < 0 last: their first block row in Q, a, and b in place of e.

    ends[1] and ends[2], multiples of 4, are the ends of the two parts.
    """
    real, end = a.dtype.type, 0
    for part in range(2):
        for t in range(start, stop):
            value = line[0] * x[t] + line[1]
            if (value < 0) == (part == 1):
                column[end] = np.int64(indices[t]) * n_blocks
                a[end] = real(value)
                e[end] = real(line[2] * y[t] + line[3])
                end += 1
        while end % 4 != 0:
            column[end] = column[end - 1]
            a[end] = e[end] = real(0)
            end += 1
        ends[part + 1] = end


@njit(**MELT)
def _start_errors(width: int, n_blocks: int, Q: np.ndarray, gamma: np.ndarray,
                  sizes: np.ndarray, P: np.ndarray, row: int, bias: float,
                  column: np.ndarray, a: np.ndarray, e: np.ndarray, end: int
                  ) -> tuple[float, float]:
    """Turn b into e = b − a s; return Σ (a s² − 2 b s) and Σ |a| ‖q‖²."""
    known, trace = 0.0, a.dtype.type(0)
    for t in range(0, end, 4):
        for ahead in range(t + AHEAD, min(t + AHEAD + 4, end)):
            for j in range(n_blocks):
                prefetch_row(Q, column[ahead] + j)
        i0, i1, i2, i3 = column[t], column[t + 1], column[t + 2], column[t + 3]
        n0, n1, n2, n3 = i0 // n_blocks, i1 // n_blocks, i2 // n_blocks, i3 // n_blocks
        s0, s1, s2, s3 = bias + gamma[n0], bias + gamma[n1], bias + gamma[n2], bias + gamma[n3]
        for j in range(n_blocks):
            p, q0, q1, q2, q3 = P[row + j], Q[i0 + j], Q[i1 + j], Q[i2 + j], Q[i3 + j]
            for f in range(width):
                s0 += q0[f] * p[f]
                s1 += q1[f] * p[f]
                s2 += q2[f] * p[f]
                s3 += q3[f] * p[f]
        trace += abs(a[t]) * sizes[n0] + abs(a[t + 1]) * sizes[n1] \
            + abs(a[t + 2]) * sizes[n2] + abs(a[t + 3]) * sizes[n3]
        known += s0 * (a[t] * s0 - 2 * e[t]) + s1 * (a[t + 1] * s1 - 2 * e[t + 1]) \
            + s2 * (a[t + 2] * s2 - 2 * e[t + 2]) + s3 * (a[t + 3] * s3 - 2 * e[t + 3])
        e[t] -= a[t] * s0
        e[t + 1] -= a[t + 1] * s1
        e[t + 2] -= a[t + 2] * s2
        e[t + 3] -= a[t + 3] * s3
    return known, trace


@njit(**MELT)
def _gather(width: int, Q: np.ndarray, block: int, column: np.ndarray, a: np.ndarray,
            e: np.ndarray, start: int, stop: int, buffer: np.ndarray, c: np.ndarray) -> None:
    """Write √|a| [q_B | 1] of cells start..stop to the buffer; add their e [q_B | 1] to c."""
    for t in range(start, stop):
        q, scaled, root = Q[column[t] + block], buffer[t - start], np.sqrt(abs(a[t]))
        for f in range(width):
            scaled[f] = root * q[f]
        if c.size > width:
            scaled[width] = root
    for t in range(start, stop, 4):
        q0, q1 = Q[column[t] + block], Q[column[t + 1] + block]
        q2, q3 = Q[column[t + 2] + block], Q[column[t + 3] + block]
        e0, e1, e2, e3 = e[t], e[t + 1], e[t + 2], e[t + 3]
        for f in range(width):
            c[f] += e0 * q0[f] + e1 * q1[f] + e2 * q2[f] + e3 * q3[f]
        if c.size > width:
            c[width] += e0 + e1 + e2 + e3


@njit(**MELT)
def _add_cells(width: int, Q: np.ndarray, block: int, column: np.ndarray, a: np.ndarray,
               e: np.ndarray, ends: np.ndarray, buffer: np.ndarray, sign: np.ndarray,
               flags: np.ndarray, A: np.ndarray, c: np.ndarray) -> None:
    """Add a row's cells to A and c, up to 256 with the same sign of a at a time."""
    for part in range(2):
        for start in range(ends[part], ends[part + 1], GATHER):
            stop = min(start + GATHER, ends[part + 1])
            _gather(width, Q, block, column, a, e, start, stop, buffer, c)
            flags[GATHERED] = stop - start
            add_gram(A, buffer, sign[2 * part:], flags)


@njit(**MELT)
def update_errors(width: int, Q: np.ndarray, block: int, column: np.ndarray, a: np.ndarray,
                   e: np.ndarray, end: int, step: np.ndarray) -> None:
    """Subtract a Δ·x from e of every cell up to `end`, a multiple of 4."""
    shift: float = a.dtype.type(0)
    if step.size > width:
        shift = step[width]
    for t in range(0, end, 4):
        q0, q1 = Q[column[t] + block], Q[column[t + 1] + block]
        q2, q3 = Q[column[t + 2] + block], Q[column[t + 3] + block]
        s0 = s1 = s2 = s3 = shift
        for f in range(width):
            s0 += q0[f] * step[f]
            s1 += q1[f] * step[f]
            s2 += q2[f] * step[f]
            s3 += q3[f] * step[f]
        e[t] -= a[t] * s0
        e[t + 1] -= a[t + 1] * s1
        e[t + 2] -= a[t + 2] * s2
        e[t + 3] -= a[t + 3] * s3


@njit(**MELT)
def _start_block(width: int, D: np.ndarray, v: np.ndarray, g: np.ndarray, p: np.ndarray,
                 m: np.ndarray, bias: float, lam: float, A: np.ndarray, c: np.ndarray) -> None:
    """Write the part of A and c that does not come from stored cells, for the factors."""
    for i in range(width):
        for h in range(c.size):
            A[i, h] = 0
        A[i, i] = D[i] + lam
        c[i] = lam * (m[i] - p[i]) - D[i] * p[i] - bias * v[i] - g[i]
        if c.size > width:
            A[i, width] = v[i]


@njit(**MELT)
def _longest(indptr: np.ndarray, lo: int, hi: int) -> int:
    longest = 0
    for u in range(lo, hi):
        longest = max(longest, indptr[u + 1] - indptr[u])
    return longest


@cache
def row_solver(width: int) -> Any:
    """Build the kernel for blocks of `width`; compiled on first use, kept on disk."""

    @njit(**KERNEL)
    def step_rows(indptr: np.ndarray, indices: np.ndarray, x: np.ndarray, y: np.ndarray,
                  line: np.ndarray, Q: np.ndarray, gamma: np.ndarray, sizes: np.ndarray,
                  D: np.ndarray, v: np.ndarray, g: np.ndarray, whole: np.ndarray,
                  reg: np.ndarray, bias_reg: np.ndarray, M: np.ndarray,
                  bias_means: np.ndarray, noise: np.ndarray, P: np.ndarray,
                  beta: np.ndarray, lo: int, hi: int) -> tuple[float, int]:
        """Step once through all blocks of rows lo..hi of P and beta.

        Cells and penalties are as in kernels/exact.py; Q, P, M are rotated and cut into blocks.
        sizes : ‖q‖² of every column.
        D, v, g : w0 times the eigenvalues, the column sums and Qᵀγ, (n_blocks, width).
        whole : [1 if the bias is learned else 0, w0 n, w0 Σγ].
        noise : e of each block of each row, (n_rows · n_blocks, d); or (0, d) for none.
        Returns Σ_Ω (a s² − 2 b s) of the values on entry, and a row with a block that has no
        finite solution (it keeps its values from there on), or -1.
        """
        real = Q.dtype.type
        n_blocks, learns = D.shape[0], whole[0] > 0
        n_w0, sum_g = real(whole[1]), real(whole[2])
        d = width + (1 if learns else 0)
        room = _longest(indptr, lo, hi) + 8
        column, a, e = np.empty(room, np.int64), np.empty(room, Q.dtype), np.empty(room, Q.dtype)
        buffer, ends = np.empty((GATHER, d), Q.dtype), np.zeros(3, np.int64)
        A, c, z = np.empty((d, d), Q.dtype), np.empty(d, Q.dtype), np.empty(d, Q.dtype)
        sign = np.array([1, 1, -1, 1], Q.dtype)
        flags = np.array(FLAGS, np.int32)
        flags[0] = d
        shared_prior = M.shape[0] == n_blocks
        no_sums = not (D.any() or len(noise))
        eps, small, whole_trace = real(np.finfo(Q.dtype).eps), real(SMALL), D.sum()
        total, failed = 0.0, -1
        for u in range(lo, hi):
            row, prior_row = u * n_blocks, 0 if shared_prior else u * n_blocks
            prior = real(bias_means[0 if bias_means.size == 1 else u])
            start, stop = indptr[u], indptr[u + 1]
            if start == stop and no_sums:
                for j in range(n_blocks):
                    for f in range(width):
                        P[row + j, f] = M[prior_row + j, f]
                if learns:
                    beta[u] = prior
                continue
            bias = beta[u]
            _read_cells(indices, x, y, line, n_blocks, start, stop, column, a, e, ends)
            end = ends[2]
            known, trace = _start_errors(width, n_blocks, Q, gamma, sizes, P, row, bias,
                                         column, a, e, end)
            total += known
            sum_a, weight, vp = real(0), real(0), real(0)
            for t in range(end):
                sum_a += a[t]
                weight += abs(a[t])
            for j in range(n_blocks):
                for f in range(width):
                    vp += v[j, f] * P[row + j, f]
            lam = max(real(reg[u]), (small + whole_trace + trace) * eps)
            lam_b = max(real(bias_reg[u]), real(d) * (small + n_w0 + weight) * eps)
            for j in range(n_blocks):
                p = P[row + j]
                _start_block(width, D[j], v[j], g[j], p, M[prior_row + j], bias, lam, A, c)
                if learns:
                    A[width, width] = n_w0 + lam_b
                    c[width] = lam_b * (prior - bias) - vp - n_w0 * bias - sum_g
                _add_cells(width, Q, j, column, a, e, ends, buffer, sign, flags, A, c)
                solve_spd(A, c, flags)
                # LAPACK need not report NaN and infinity (see kernels/exact.py).
                if flags[INFO] != 0 or not np.trace(A) + abs(c.sum()) < np.inf:
                    failed = u
                    break
                if len(noise):
                    add_noise(c, A, noise[row + j], z)
                for f in range(width):
                    p[f] += c[f]
                    vp += v[j, f] * c[f]
                if learns:
                    bias += c[width]
                if j + 1 < n_blocks:
                    update_errors(width, Q, j, column, a, e, end, c)
            beta[u] = bias
        return total, failed

    return step_rows
