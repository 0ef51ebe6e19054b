"""One step of each optimizer on some rows of a table, gradient and state in one pass.

rows : ndarray of int, shape (n,), distinct rows of X, shape (n_rows, k)
lines, G : ndarray of int, shape (n,), and shape (m, k); the gradient of rows[j] is G[lines[j]]
S : ndarray, shape (n_rows, n_states, k), the optimizer's memory of each number
c : ndarray of float64; c[0] is the rate η, c[1] the decay λ' (g means G + λ' x)

For a dense parameter all rows are listed, in order; rows without a gradient then share a line
of zeros.
"""

from __future__ import annotations

import numpy as np

from mfcore.compiled import njit
from mfcore.kernels.options import KERNEL


@njit(**KERNEL)
def sgd(rows: np.ndarray, lines: np.ndarray, G: np.ndarray, X: np.ndarray, S: np.ndarray,
        c: np.ndarray) -> None:
    """x ← x − η g."""
    real = X.dtype.type
    eta, lam = real(c[0]), real(c[1])
    for j in range(rows.size):
        x, line = X[rows[j]], G[lines[j]]
        for f in range(x.size):
            x[f] -= eta * (line[f] + lam * x[f])


@njit(**KERNEL)
def momentum(rows: np.ndarray, lines: np.ndarray, G: np.ndarray, X: np.ndarray, S: np.ndarray,
             c: np.ndarray) -> None:
    """m ← μ m + g,  x ← x − η m.  c[2:] = [μ]."""
    real = X.dtype.type
    eta, lam, mu = real(c[0]), real(c[1]), real(c[2])
    for j in range(rows.size):
        x, line, m = X[rows[j]], G[lines[j]], S[rows[j], 0]
        for f in range(x.size):
            m[f] = mu * m[f] + (line[f] + lam * x[f])
            x[f] -= eta * m[f]


@njit(**KERNEL)
def nesterov(rows: np.ndarray, lines: np.ndarray, G: np.ndarray, X: np.ndarray, S: np.ndarray,
             c: np.ndarray) -> None:
    """m ← μ m + g,  x ← x − η (g + μ m).  c[2:] = [μ]."""
    real = X.dtype.type
    eta, lam, mu = real(c[0]), real(c[1]), real(c[2])
    for j in range(rows.size):
        x, line, m = X[rows[j]], G[lines[j]], S[rows[j], 0]
        for f in range(x.size):
            g = line[f] + lam * x[f]
            m[f] = mu * m[f] + g
            x[f] -= eta * (g + mu * m[f])


@njit(**KERNEL)
def adagrad(rows: np.ndarray, lines: np.ndarray, G: np.ndarray, X: np.ndarray, S: np.ndarray,
            c: np.ndarray) -> None:
    """h ← h + g²,  x ← x − η g / (√h + ε).  c[2:] = [ε]."""
    real = X.dtype.type
    eta, lam, eps = real(c[0]), real(c[1]), real(c[2])
    for j in range(rows.size):
        x, line, h = X[rows[j]], G[lines[j]], S[rows[j], 0]
        for f in range(x.size):
            g = line[f] + lam * x[f]
            h[f] += g * g
            x[f] -= eta * g / (np.sqrt(h[f]) + eps)


@njit(**KERNEL)
def rmsprop(rows: np.ndarray, lines: np.ndarray, G: np.ndarray, X: np.ndarray, S: np.ndarray,
            c: np.ndarray) -> None:
    """v ← ρ v + (1 − ρ) g²,  x ← x − η g / (√v + ε).  c[2:] = [ρ, ε]."""
    real = X.dtype.type
    eta, lam, rho, eps = real(c[0]), real(c[1]), real(c[2]), real(c[3])
    rest = real(1 - c[2])
    for j in range(rows.size):
        x, line, v = X[rows[j]], G[lines[j]], S[rows[j], 0]
        for f in range(x.size):
            g = line[f] + lam * x[f]
            v[f] = rho * v[f] + rest * g * g
            x[f] -= eta * g / (np.sqrt(v[f]) + eps)


@njit(**KERNEL)
def adam(rows: np.ndarray, lines: np.ndarray, G: np.ndarray, X: np.ndarray, S: np.ndarray,
         c: np.ndarray) -> None:
    """m ← β1 m + (1 − β1) g,  v ← β2 v + (1 − β2) g²,  x ← x − a m / (√v / r + ε) − d x.

    c[2:] = [β1, β2, ε, a, r, d] with a = η / (1 − β1ᵗ), r = √(1 − β2ᵗ) and d = η λ'', the
    decay outside of the gradient (AdamW).
    """
    real = X.dtype.type
    lam, b1, b2, eps = real(c[1]), real(c[2]), real(c[3]), real(c[4])
    c1, c2 = real(1 - c[2]), real(1 - c[3])
    step, unbias, kept = real(c[5]), real(1 / c[6]), real(1 - c[7])
    for j in range(rows.size):
        x, line, m, v = X[rows[j]], G[lines[j]], S[rows[j], 0], S[rows[j], 1]
        for f in range(x.size):
            g = line[f] + lam * x[f]
            m[f] = b1 * m[f] + c1 * g
            v[f] = b2 * v[f] + c2 * g * g
            x[f] = kept * x[f] - step * m[f] / (np.sqrt(v[f]) * unbias + eps)


@njit(**KERNEL)
def rprop(rows: np.ndarray, lines: np.ndarray, G: np.ndarray, X: np.ndarray, S: np.ndarray,
          c: np.ndarray) -> None:
    """Lengthen a step while the sign of g stays; if it turns, shorten it and skip that gradient.

    S holds the last gradient and the step; c[2:] = [shorter, longer, least, most].
    """
    real = X.dtype.type
    lam, shorter, longer = real(c[1]), real(c[2]), real(c[3])
    least, most, zero = real(c[4]), real(c[5]), real(0)
    for j in range(rows.size):
        x, line, last, step = X[rows[j]], G[lines[j]], S[rows[j], 0], S[rows[j], 1]
        for f in range(x.size):
            g = line[f] + lam * x[f]
            turn = g * last[f]
            if turn > zero:
                step[f] = min(step[f] * longer, most)
            elif turn < zero:
                step[f] = max(step[f] * shorter, least)
                g = zero
            if g > zero:
                x[f] -= step[f]
            elif g < zero:
                x[f] += step[f]
            last[f] = g
