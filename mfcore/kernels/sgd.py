"""Stochastic gradient steps over one block of a stratified grid, user by user.

For a stored cell (u, i) with e = b − a s, s = p·q + β_u + γ_i, and each row's share λ of its
penalty (the weight divided by the number of its cells), a step of rate η is

    p ← p + 2η (e q − λ_u (p − m_u)),    q ← q + 2η (e p − λ_i (q − m_i))      p the old one
    β ← β + 2η_b (e − λᵇ_u (β − β⁰)),    γ ← γ + 2η_b (e − λᵇ_i γ)

The 2 comes from the formula: the value is (t − s)², without a ½.  With AdaGrad (Duchi, Hazan,
Singer 2011; one rate per row as in LIBMF, Chin et al. 2015) the rate of a row is η / √h, where
h grows by the mean square of the row's gradient, from a start that the caller gives.

Kernels are built for a fixed width K, a multiple of 16, so that loops over factors unroll.

Limits, on 20M ratings with 64 factors: the item rows of a block and the users that pass do not
fit into the L2 cache together, so that asking for rows ahead saves 12 to 15 %.  A cell takes some
150 instructions; 100 of them are vector loads, products and stores that the formula needs.  What
did not help: alternating between users, so that their chains dot → e → p overlap (10 % slower in
the kernel, 5 % faster by the order of cells), two partial dot products, penalties in single
precision, unsigned indices, and smaller blocks.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from mfcore.compiled import njit
from mfcore.kernels.gathered import prefetch_row
from mfcore.kernels.options import KERNEL, MELT

RUN = 32          # users taken in order; the order of the runs is drawn
AHEAD = 4         # cells between asking for an item row and reading it


@njit(**KERNEL)
def sort_stratum(indptr: np.ndarray, indices: np.ndarray, x: np.ndarray, y: np.ndarray,
                 line: np.ndarray, stratum: np.ndarray, first: int, starts: np.ndarray,
                 items: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    """Sort the cells of one user stratum by (item stratum, user), stably.

    The users are first..first + n.  Writes their cells to `items`, `a` and `b`, shape (nnz,)
    (but not to an `a` with a single entry, shared by all), and the start of the cells of each
    user to `starts`, shape (n_strata, n + 1).
    """
    n_strata, n = starts.shape[0], starts.shape[1] - 1
    for c in range(n_strata):
        for v in range(n + 1):
            starts[c, v] = 0
    for v in range(n):
        for t in range(indptr[first + v], indptr[first + v + 1]):
            starts[stratum[indices[t]], v + 1] += 1
    total = indptr[first]
    for c in range(n_strata):
        starts[c, 0] = total
        for v in range(n):
            starts[c, v + 1] += starts[c, v]
        total = starts[c, n]
    place = np.empty(n_strata, np.int64)
    for v in range(n):
        for c in range(n_strata):
            place[c] = starts[c, v]
        for t in range(indptr[first + v], indptr[first + v + 1]):
            c = stratum[indices[t]]
            items[place[c]] = indices[t]
            b[place[c]] = line[2] * y[t] + line[3]
            if a.size > 1:
                a[place[c]] = line[0] * x[t] + line[1]
            place[c] += 1


@njit(**MELT)
def step(K: int, pulled: bool, e: float, rate_p: float, rate_q: float, shrink_p: float,
          shrink_q: float, p: np.ndarray, q: np.ndarray, m: np.ndarray, n: np.ndarray) -> None:
    """Take one step of p and q; the rates include the 2, and shrink = rate · λ."""
    step_p, step_q = rate_p * e, rate_q * e
    for f in range(K):
        pf, qf = p[f], q[f]
        p[f] = pf + step_p * qf - shrink_p * pf
        q[f] = qf + step_q * pf - shrink_q * qf
    if pulled:
        for f in range(K):
            p[f] += shrink_p * m[f]
            q[f] += shrink_q * n[f]


@njit(**MELT)
def mean_square(K: int, e: float, lam: float, x: np.ndarray, y: np.ndarray) -> float:
    """Return the mean square of e y − λ x, the gradient of a row without its 2."""
    total: float = x.dtype.type(0)
    for f in range(K):
        g = e * y[f] - lam * x[f]
        total += g * g
    mean: float = total * x.dtype.type(1 / K)
    return mean


@cache
def block_kernel(K: int, adagrad: bool, pulled: bool) -> Any:
    """Build the kernel for one block; compiled on first use, kept on disk."""

    @njit(**KERNEL)
    def sgd_block(first: int, runs: np.ndarray, starts: np.ndarray, items: np.ndarray,
                  a: np.ndarray, b: np.ndarray, P: np.ndarray, Q: np.ndarray,
                  beta: np.ndarray, gamma: np.ndarray, reg: np.ndarray, item_reg: np.ndarray,
                  bias_reg: np.ndarray, item_bias_reg: np.ndarray, M: np.ndarray,
                  N: np.ndarray, bias_means: np.ndarray, item_bias_means: np.ndarray,
                  rate: float, bias_rate: float,
                  h: np.ndarray, item_h: np.ndarray) -> float:
        """Step through the cells of one block, in runs of 32 users.

        first : the block's first user; runs : the runs, in the order to take them
        starts : ndarray, shape (n_users_of_the_block + 1,), of each user's cells
        a, b : ndarray, shape (nnz,), or (1,) for an a that all cells share
        M, N : prior means, (n, K), or (1, K) if all rows share one; likewise bias_means
        h, item_h : AdaGrad's sums of squares, updated (unused without it)
        Returns Σ (a s² − 2 b s), each score taken before its step.
        """
        real = P.dtype.type
        two = real(2)
        eta, eta_b = two * real(rate), two * real(bias_rate)
        one_a, one_M, one_N = a.size == 1, M.shape[0] == 1, N.shape[0] == 1
        one_m, one_n = bias_means.size == 1, item_bias_means.size == 1
        last = items.size - 1
        known = 0.0
        for run in runs:
            for v in range(run * RUN, min(run * RUN + RUN, starts.size - 1)):
                u = first + v
                p, m = P[u], M[0 if one_M else u]
                lam, lam_b, bias = real(reg[u]), real(bias_reg[u]), beta[u]
                prior = real(bias_means[0 if one_m else u])
                for t in range(starts[v], starts[v + 1]):
                    i = items[t]
                    prefetch_row(Q, items[min(t + AHEAD, last)])
                    q, n = Q[i], N[0 if one_N else i]
                    s = bias + gamma[i]
                    dot = real(0)
                    for f in range(K):
                        dot += p[f] * q[f]
                    s += dot
                    a_t = a[0] if one_a else a[t]
                    known += s * (a_t * s - two * b[t])
                    e = b[t] - a_t * s
                    lam_i = real(item_reg[i])
                    rate_p, rate_q = eta, eta
                    if adagrad:
                        rate_p, rate_q = eta / np.sqrt(h[u]), eta / np.sqrt(item_h[i])
                        h[u] += mean_square(K, e, lam, p, q)
                        item_h[i] += mean_square(K, e, lam_i, q, p)
                    step(K, pulled, e, rate_p, rate_q, rate_p * lam, rate_q * lam_i, p, q, m, n)
                    bias += eta_b * (e - lam_b * (bias - prior))
                    away = gamma[i] - real(item_bias_means[0 if one_n else i])
                    gamma[i] += eta_b * (e - real(item_bias_reg[i]) * away)
                beta[u] = bias
        return known

    return sgd_block
