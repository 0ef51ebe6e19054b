"""Stochastic gradient steps of the logistic objective over one block of a stratified grid.

A cell (u, i) contributes a h(s) − b s, h(s) = ln(1 + eˢ) (objectives/pointwise.py).  With
e = b − a σ(s), and each row's share of its penalty, a step of rate η is

    p ← p + η (e q − 2 λ_u (p − m_u)),    q ← q + η (e p − 2 λ_i (q − m_i))    p the old one
    β ← β + η_b (e − 2 λᵇ_u (β − β⁰)),    γ ← γ + η_b (e − 2 λᵇ_i (γ − γ⁰))

If w0 > 0, every stored cell is followed by DRAWS cells of the same user, drawn uniformly from
the m items of the block, known or not, with b = 0, no penalty, and

    a = w0 m / (DRAWS · n)          n the user's stored cells in the block, or 1 if there are none

so that the n · DRAWS drawn cells of a user have the expected gradient w0 Σ_i σ(s_ui) ∂s_ui of all
cells of that user in the block.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from mfcore.compiled import njit
from mfcore.kernels.draws import mix
from mfcore.kernels.options import KERNEL
from mfcore.kernels.sgd import RUN, mean_square, step

DRAWS = 4         # drawn cells for each stored one


@cache
def logistic_kernel(K: int, adagrad: bool, pulled: bool) -> Any:
    """Build the kernel for one block; compiled on first use, kept on disk."""

    @njit(**KERNEL)
    def logistic_block(first: int, runs: np.ndarray, starts: np.ndarray, items: np.ndarray,
                       a: np.ndarray, b: np.ndarray, members: np.ndarray, w0: float, key: int,
                       P: np.ndarray, Q: np.ndarray, beta: np.ndarray, gamma: np.ndarray,
                       reg: np.ndarray, item_reg: np.ndarray, bias_reg: np.ndarray,
                       item_bias_reg: np.ndarray, M: np.ndarray, N: np.ndarray,
                       bias_means: np.ndarray, item_bias_means: np.ndarray, rate: float,
                       bias_rate: float, h: np.ndarray, item_h: np.ndarray) -> float:
        """Step through the stored and drawn cells of one block; otherwise as `sgd_block`.

        members : ndarray, shape (m,), the items of the block; key : that of its draws
        Returns Σ (a h(s) − b s), each score taken before its step.
        """
        real = P.dtype.type
        one_a, one_M, one_N = a.size == 1, M.shape[0] == 1, N.shape[0] == 1
        one_m, one_n = bias_means.size == 1, item_bias_means.size == 1
        m_items = members.size
        around = 1 + DRAWS if w0 > 0 and m_items > 0 else 1
        loss = 0.0
        for run in runs:
            for v in range(run * RUN, min(run * RUN + RUN, starts.size - 1)):
                u = first + v
                p, m = P[u], M[0 if one_M else u]
                prior = real(bias_means[0 if one_m else u])
                lo, stored = starts[v], starts[v + 1] - starts[v]
                rounds = max(stored, 1)
                drawn, draw = w0 * m_items / (DRAWS * rounds), mix(u, key)
                for t in range(lo, lo + rounds):
                    for c in range(0 if stored else 1, around):
                        if c == 0:
                            i, a_t, b_t, share = items[t], a[0 if one_a else t], b[t], real(2)
                        else:
                            i = members[(mix(draw, key) * m_items) >> 32]
                            a_t, b_t, share = real(drawn), real(0), real(0)
                            draw += 1
                        q, n = Q[i], N[0 if one_N else i]
                        dot = real(0)
                        for f in range(K):
                            dot += p[f] * q[f]
                        s = np.float64(dot) + beta[u] + gamma[i]
                        small = math.exp(-abs(s))
                        like = (1.0 if s > 0 else small) / (1 + small)          # σ(s)
                        loss += a_t * (max(s, 0.0) + math.log1p(small)) - b_t * s
                        e = real(b_t - a_t * like)
                        lam, lam_i = share * real(reg[u]), share * real(item_reg[i])
                        rate_p = rate_q = real(rate)
                        if adagrad:
                            rate_p, rate_q = rate_p / np.sqrt(h[u]), rate_q / np.sqrt(item_h[i])
                            h[u] += mean_square(K, e, lam, p, q)
                            item_h[i] += mean_square(K, e, lam_i, q, p)
                        step(K, pulled, e, rate_p, rate_q, rate_p * lam, rate_q * lam_i,
                             p, q, m, n)
                        lam, lam_i = share * real(bias_reg[u]), share * real(item_bias_reg[i])
                        beta[u] += real(bias_rate) * (e - lam * (beta[u] - prior))
                        away = gamma[i] - real(item_bias_means[0 if one_n else i])
                        gamma[i] += real(bias_rate) * (e - lam_i * away)
        return loss

    return logistic_block
