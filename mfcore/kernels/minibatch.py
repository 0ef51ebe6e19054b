"""The gradient of a batch of stored cells, its penalty, and Adam on the rows it touches.

The rows of a batch are kept in compact buffers: `touched[j]` is a row, `place[row]` its j (−1
outside the batch), `visits[j]` the number of its cells in the batch, and line j of `gradient`
is [∂L/∂x | ∂L/∂bias], shape (k + 1,).
"""

from __future__ import annotations

import numpy as np

from mfcore.compiled import njit
from mfcore.kernels.options import KERNEL, MELT


@njit(**MELT)
def _visit(row: int, n: int, touched: np.ndarray, place: np.ndarray, visits: np.ndarray,
           gradient: np.ndarray) -> int:
    """Count a visit; return the row's place, which is n, cleared, on its first visit."""
    j: int = place[row]
    if j < 0:
        j = n
        place[row], touched[j], visits[j] = j, row, 0
        line = gradient[j]
        for f in range(line.size):
            line[f] = 0
    visits[j] += 1
    return j


@njit(**KERNEL)
def batch_gradient(order: np.ndarray, rows: np.ndarray, indices: np.ndarray, x: np.ndarray,
                   y: np.ndarray, line: np.ndarray, P: np.ndarray, Q: np.ndarray,
                   beta: np.ndarray, gamma: np.ndarray, users: np.ndarray,
                   place_u: np.ndarray, visits_u: np.ndarray, dP: np.ndarray,
                   items: np.ndarray, place_i: np.ndarray, visits_i: np.ndarray,
                   dQ: np.ndarray) -> tuple[int, int]:
    """Sum 2 (a s − b)[q | 1] by user and 2 (a s − b)[p | 1] by item over the cells `order`.

    order : positions of stored cells; rows, indices : user and item of every stored cell
    Returns the numbers of users and of items touched; `place_*` are restored.
    """
    real = P.dtype.type
    a1, a0, b1, b0 = real(line[0]), real(line[1]), real(line[2]), real(line[3])
    two = real(2)
    k = P.shape[1]
    n_u, n_i = 0, 0
    for c in range(order.size):
        t = order[c]
        u, i = rows[t], indices[t]
        p, q = P[u], Q[i]
        j = _visit(u, n_u, users, place_u, visits_u, dP)
        h = _visit(i, n_i, items, place_i, visits_i, dQ)
        n_u, n_i = max(n_u, j + 1), max(n_i, h + 1)
        s = real(0)
        for f in range(k):
            s += p[f] * q[f]
        s += beta[u] + gamma[i]
        e = two * ((a1 * real(x[t]) + a0) * s - (b1 * real(y[t]) + b0))
        dp, dq = dP[j], dQ[h]
        for f in range(k):
            dp[f] += e * q[f]
            dq[f] += e * p[f]
        dp[k] += e
        dq[k] += e
    for j in range(n_u):
        place_u[users[j]] = -1
    for h in range(n_i):
        place_i[items[h]] = -1
    return n_u, n_i


@njit(**KERNEL)
def add_penalty(touched: np.ndarray, share: np.ndarray, X: np.ndarray, bias: np.ndarray,
                reg: np.ndarray, bias_reg: np.ndarray, means: np.ndarray, bias_means: np.ndarray,
                gradient: np.ndarray) -> None:
    """Add each touched row's share of 2 λ (x − m) and 2 λᵇ (bias − mean)."""
    real = X.dtype.type
    k = X.shape[1]
    for j in range(touched.size):
        row = touched[j]
        here, g = X[row], gradient[j]
        m = means[0 if means.shape[0] == 1 else row]
        weight = real(2 * share[j] * reg[row])
        for f in range(k):
            g[f] += weight * (here[f] - m[f])
        mean = real(bias_means[0 if bias_means.size == 1 else row])
        g[k] += real(2 * share[j] * bias_reg[row]) * (bias[row] - mean)


@njit(**KERNEL)
def pull_to_prior(touched: np.ndarray, share: np.ndarray, X: np.ndarray, bias: np.ndarray,
                  reg: np.ndarray, bias_reg: np.ndarray, means: np.ndarray, bias_means: np.ndarray,
                  rates: np.ndarray, learns_bias: bool) -> None:
    """Move each touched row x to (x + h m) / (1 + h), h = rate · share · 2 λ, and its bias.

    rates : those of vectors and of biases
    """
    real = X.dtype.type
    k = X.shape[1]
    for j in range(touched.size):
        row = touched[j]
        here, m = X[row], means[0 if means.shape[0] == 1 else row]
        h = 2 * rates[0] * share[j] * reg[row]
        pull = real(h / (1 + h))
        for f in range(k):
            here[f] += pull * (m[f] - here[f])
        if learns_bias:
            h = 2 * rates[1] * share[j] * bias_reg[row]
            mean = real(bias_means[0 if bias_means.size == 1 else row])
            bias[row] += real(h / (1 + h)) * (mean - bias[row])


@njit(**KERNEL)
def adam_rows(touched: np.ndarray, gradient: np.ndarray, X: np.ndarray, bias: np.ndarray,
              first: np.ndarray, second: np.ndarray, updates: np.ndarray, rates: np.ndarray,
              moments: np.ndarray, learns_bias: bool) -> None:
    """Move each touched row one step of Adam.

    first, second : running means of the gradient and of its square, shape (n_rows, k + 1)
    updates : the number of steps that each row has taken, shape (n_rows,)
    rates : η of vectors and of biases
    moments : [β1, β2, ε of vectors, ε of biases]
    """
    real = X.dtype.type
    k = X.shape[1]
    b1, b2, eps, bias_eps = (real(moments[0]), real(moments[1]), real(moments[2]),
                             real(moments[3]))
    c1, c2 = real(1 - moments[0]), real(1 - moments[1])
    for j in range(touched.size):
        row = touched[j]
        updates[row] += 1
        left = 1 - moments[0] ** updates[row]
        length, bias_length = real(rates[0] / left), real(rates[1] / left)
        unbias = real(1 / (1 - moments[1] ** updates[row]))
        g, m, v, here = gradient[j], first[row], second[row], X[row]
        for f in range(k):
            m[f] = b1 * m[f] + c1 * g[f]
            v[f] = b2 * v[f] + c2 * g[f] * g[f]
            here[f] -= length * m[f] / (np.sqrt(v[f] * unbias) + eps)
        if learns_bias:
            m[k] = b1 * m[k] + c1 * g[k]
            v[k] = b2 * v[k] + c2 * g[k] * g[k]
            bias[row] -= bias_length * m[k] / (np.sqrt(v[k] * unbias) + bias_eps)
