"""The logistic objective: how likely a like is, for each cell on its own.

Statement.  R is (n_users, n_items), Ω its stored cells with labels y in [0, 1] (0 disliked,
1 liked, between them a share of likes) and weights w; w0 is the weight of every other cell,
whose label is 0:

    L = Σ_Ω w ℓ(s, y) + w0 Σ_{not Ω} ℓ(s, 0)                              known, unknown
        + Σ_u λ_u ‖P_u − m_u‖² + Σ_i λ_i ‖Q_i − m_i‖²                     penalty
        + Σ_u λᵇ_u (β_u − β⁰)² + Σ_i λᵇ_i γ_i²
    ℓ(s, y) = −y ln σ(s) − (1 − y) ln σ(−s)         s = P_u·Q_i + β_u + γ_i
    σ(s) = 1 / (1 + e^(−s))

The penalty has no ½, as in objectives/quadratic.py, and its gradient carries the 2.

Canonical form.  With −ln σ(−s) = ln(1 + eˢ), which we call h(s), and −ln σ(s) = h(s) − s:

    ℓ(s, y) = y (h(s) − s) + (1 − y) h(s) = h(s) − y s
    L = Σ_Ω (w h(s) − w y s) + w0 (Σ_all h(s) − Σ_Ω h(s)) + penalty       the sum over not Ω, split
      = Σ_Ω (a h(s) − b s) + w0 Σ_all h(s) + penalty                      a = w − w0, b = w y

These are a and b of the quadratic form with r0 = 0: the same cells serve both.

Gradient.  h'(s) = eˢ / (1 + eˢ) = σ(s).  With E = a σ(s) − b on Ω and w0 σ(s) added on all cells:

    ∂L/∂P = E Q + 2Λ (P − M)         ∂L/∂β = E 1 + 2Λᵇ (β − β⁰)           items: transpose

No Gram matrix sums σ(s) over all cells, so solvers sample it: a cell drawn with probability π
counts w0 / π, which makes the expected gradient this one.

One row.  x_i = [q_i | 1], z = [p | β], o_i = γ_i (a fixed bias joins o), σ' = σ (1 − σ):

    g = Σ_Ω (a σ − b) x + w0 Σ_all σ x + 2Λ_u (z − m_u)
    H = Σ_Ω a σ' x xᵀ + w0 Σ_all σ' x xᵀ + 2Λ_u

As a + w0 = w >= 0, H is positive definite for λ > 0: a row alone is a convex problem.

Sources: Johnson 2014, "Logistic matrix factorization" (w = α r on likes, w0 = 1; his ascent has
−λ/2 ‖·‖²); He et al. 2017 (this loss on sampled unknown cells).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.special import expit

from mfcore.objectives.factors import Factors, LinearScorer, cell_scores
from mfcore.objectives.penalty import Penalty
from mfcore.objectives.quadratic import Cells, Loss, Quadratic, RowSystems
from mfcore.parallel import Pool, row_chunks

BLOCK_CELLS = 1 << 20       # cells of the whole matrix that are scored at once


@dataclass(frozen=True)
class Logistic(Quadratic):
    """The objective of one data set: cells and penalties as in `Quadratic`, another loss.

    If w0 > 0, `value` and `gradient` visit every cell, in blocks: O(n_users n_items k).
    """

    constant: float = 0.0

    def value(self, at: Factors, pool: Pool) -> Loss:
        """Return the formula's three sums at a point, in float64."""
        cells, at = self.by_user, _doubled(at)
        s = cell_scores(cells.indptr, cells.indices, at.P, at.Q, at.beta, at.gamma, pool)
        h = softplus(s)
        known = float((cells.a + self.w0) @ h - cells.b @ s)
        if self.w0 == 0:
            return Loss(known, 0.0, self.penalty(at))
        whole = sum(pool.map(lambda lo, hi: float(softplus(_block(at, lo, hi)).sum()),
                             _blocks(at)))
        return Loss(known, self.w0 * (whole - float(h.sum())), self.penalty(at))

    def gradient(self, at: Factors, pool: Pool) -> Factors:
        """Return the derivatives by every block in float64 (zeros if biases are fixed)."""
        at = _doubled(at)
        turned = Factors(at.Q, at.P, at.gamma, at.beta)
        users, items = self.penalties(at)
        dP, dbeta = self._side(self.by_user, users, at, pool)
        dQ, dgamma = self._side(self.by_item, items, turned, pool)
        return Factors(dP, dQ, dbeta, dgamma, **self.group_gradient(at))

    def _side(self, cells: Cells, penalty: Penalty, at: Factors, pool: Pool
              ) -> tuple[np.ndarray, np.ndarray]:
        s = cell_scores(cells.indptr, cells.indices, at.P, at.Q, at.beta, at.gamma, pool)
        E = sp.csr_array((cells.a * expit(s) - cells.b, cells.indices, cells.indptr),
                         shape=(len(at.P), len(at.Q)))
        dP = E @ at.Q + 2 * penalty.reg[:, None] * (at.P - penalty.means)
        db = E.sum(axis=1) + 2 * penalty.bias_reg * (at.beta - penalty.bias_means)
        for lo, hi in _blocks(at) if self.w0 else []:
            pull = self.w0 * expit(_block(at, lo, hi))
            dP[lo:hi] += pull @ at.Q
            db[lo:hi] += pull.sum(axis=1)
        return dP, db if self.learns_bias else np.zeros_like(db)


@dataclass(frozen=True)
class LogisticRow:
    """The problem of one row with the other side frozen, in z = [p | β] ([p] for a fixed bias).

    X (n, d) and o (n,) of the columns that count, the row's own or, if w0 > 0, all of them;
    `a` (w0 included) and `b` of each; the diagonal of the penalty, and its mean.
    """

    X: np.ndarray
    offset: np.ndarray
    a: np.ndarray
    b: np.ndarray
    ridge: np.ndarray
    mean: np.ndarray

    @classmethod
    def of(cls, systems: RowSystems, row: int, bias: float) -> LogisticRow:
        """Return the problem of one row of a side; `bias` is its β, used if biases are fixed."""
        columns, a, b = systems.cells.row(row)
        if systems.w0:
            sparse = columns
            columns = np.arange(len(systems.Q))
            a, b = _spread(a, sparse, systems.w0, len(columns)), _spread(b, sparse, 0, len(columns))
        offset = systems.gamma[columns].astype(np.float64)
        ridge, pull = systems.ridge(row)
        mean = np.divide(pull, ridge, out=np.zeros_like(pull), where=ridge > 0)
        return cls(systems.design(columns), offset if systems.learns_bias else offset + bias, a, b,
                   ridge, mean)

    def value(self, z: np.ndarray) -> float:
        """Return the row's share of L."""
        s = self.X @ z + self.offset
        return float(self.a @ softplus(s) - self.b @ s + self.ridge @ (z - self.mean) ** 2)

    def derivatives(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return g (d,) and H (d, d)."""
        p = expit(self.X @ z + self.offset)
        g = self.X.T @ (self.a * p - self.b) + 2 * self.ridge * (z - self.mean)
        H = (self.X.T * (self.a * p * (1 - p))) @ self.X + np.diag(2 * self.ridge)
        return g, H


def softplus(s: np.ndarray) -> np.ndarray:
    """Return h(s) = ln(1 + eˢ), without overflow."""
    h: np.ndarray = np.logaddexp(0.0, s)
    return h


def _spread(values: np.ndarray, columns: np.ndarray, rest: float, n: int) -> np.ndarray:
    """Return a dense row (n,) of `rest`, with `values` added at `columns`."""
    row = np.full(n, float(rest))
    row[columns] += values
    return row


def _doubled(at: Factors) -> Factors:
    return Factors(*(X.astype(np.float64, copy=False) for X in vars(at).values()))


def _blocks(at: Factors) -> list[tuple[int, int]]:
    return row_chunks(len(at.P), max(1, BLOCK_CELLS // len(at.Q)))


def _block(at: Factors, lo: int, hi: int) -> np.ndarray:
    return LinearScorer(at.P, at.Q, at.beta, at.gamma).block(lo, hi)
