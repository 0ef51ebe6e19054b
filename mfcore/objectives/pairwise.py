"""The pairwise objective of BPR: what a user prefers should score above the rest.

Statement.  T holds triples (u, i, j): user u prefers item i to item j.

    L = Σ_T [ −ln σ(x) + λ (‖P_u‖² + ‖Q_i‖² + ‖Q_j‖²) + λᵇ (γ_i² + γ_j²) ]
    x = s_ui − s_uj        s_ui = P_u·Q_i + γ_i        σ(x) = 1 / (1 + e^(−x))

A user's bias would cancel in x.  Each triple pays the penalty for the rows that it uses: a
row is penalised as often as it is drawn.  No ½ anywhere: the value is this formula, and the
gradient carries the 2.  (An update written with +λΘ, without the 2, has twice this λ.)

Derivation, for one triple.  With −ln σ(x) = ln(1 + e^(−x)):

    d(−ln σ)/dx = −e^(−x) / (1 + e^(−x)) = −σ(−x)                         chain rule
    ∂x/∂P_u = Q_i − Q_j    ∂x/∂Q_i = P_u    ∂x/∂Q_j = −P_u    ∂x/∂γ_i = 1    ∂x/∂γ_j = −1

    ∂L/∂P_u = −σ(−x) (Q_i − Q_j) + 2λ P_u
    ∂L/∂Q_i = −σ(−x) P_u + 2λ Q_i         ∂L/∂Q_j = σ(−x) P_u + 2λ Q_j
    ∂L/∂γ_i = −σ(−x) + 2λᵇ γ_i            ∂L/∂γ_j = σ(−x) + 2λᵇ γ_j

A step of SGD takes one triple: Θ ← (1 − 2ηλ) Θ + η σ(−x) ∂x/∂Θ.

Sources: Rendle, Freudenthaler, Gantner, Schmidt-Thieme 2009 (BPR-Opt, section 4.1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class Ranking:
    """A point of the parameter space: P (n_users, k), Q (n_items, k), γ (n_items,)."""

    P: np.ndarray
    Q: np.ndarray
    gamma: np.ndarray

    def copy(self) -> Ranking:
        """Return a copy that shares no memory."""
        return Ranking(self.P.copy(), self.Q.copy(), self.gamma.copy())


@dataclass(frozen=True)
class Pairwise:
    """The objective of given triples.

    Parameters
    ----------
    users, positives, negatives : ndarray of int, shape (n_triples,)
    reg, bias_reg : float, >= 0
        λ and λᵇ.
    learns_bias : bool
        If False, γ is not a parameter: it keeps its value and pays no penalty.
    """

    users: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray
    reg: float
    bias_reg: float
    learns_bias: bool = True

    def margins(self, at: Ranking) -> np.ndarray:
        """Return x = s_ui − s_uj of every triple, float64, shape (n_triples,)."""
        P, D = at.P[self.users].astype(np.float64), self._differences(at)
        x: np.ndarray = np.einsum("tf,tf->t", P, D) \
            + at.gamma[self.positives] - at.gamma[self.negatives]
        return x

    def value(self, at: Ranking) -> float:
        """Return L at a point, float64."""
        pairs = np.logaddexp(0.0, -self.margins(at)).sum()
        vectors = _square(at.P[self.users]) + _square(at.Q[self.positives]) \
            + _square(at.Q[self.negatives])
        total = pairs + self.reg * vectors
        if self.learns_bias:
            total += self.bias_reg * sum(_square(at.gamma[rows]) for rows in self._items)
        return float(total)

    def gradient(self, at: Ranking) -> Ranking:
        """Return ∂L/∂P, ∂L/∂Q, ∂L/∂γ in float64 (∂L/∂γ is 0 if γ is not learned)."""
        g = np.exp(-np.logaddexp(0.0, self.margins(at)))            # σ(−x), without overflow
        pull = g[:, None] * at.P[self.users]
        d = Ranking(*(np.zeros(part.shape) for part in (at.P, at.Q, at.gamma)))
        np.add.at(d.P, self.users,
                  2 * self.reg * at.P[self.users] - g[:, None] * self._differences(at))
        for rows, sign in zip(self._items, (-1, 1), strict=True):
            np.add.at(d.Q, rows, 2 * self.reg * at.Q[rows] + sign * pull)
            if self.learns_bias:
                np.add.at(d.gamma, rows, 2 * self.bias_reg * at.gamma[rows] + sign * g)
        return d

    @property
    def _items(self) -> tuple[np.ndarray, np.ndarray]:
        return self.positives, self.negatives

    def _differences(self, at: Ranking) -> np.ndarray:
        D: np.ndarray = at.Q[self.positives].astype(np.float64) - at.Q[self.negatives]
        return D


def _square(X: np.ndarray) -> float:
    return float(np.sum(X.astype(np.float64) ** 2))
