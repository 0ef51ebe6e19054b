"""Where vectors of a ranking loss over cosines begin: popularity, and the slow directions.

With R = D_u^-1/2 X D_i^-1/2 ≈ U Σ Vᵀ (objectives/graph.py), d the numbers of choices:

    P_u = [ c | √(1 − c²) (U Σ^½)_u / ‖·‖ ]           Q_i = [ b_i | √(1 − b_i²) (V Σ^½)_i / ‖·‖ ]

The leading pair, √d_u and √d_i, says nothing but popularity, and gives way to a column that says
it in units of the scores: with b_i = τ/c (ln d_i − mean over choices), cut to ±B, the common part
c b_i / τ of all scores is ln d_i up to a constant, which is all that a softmax could know of
items without knowing the user.  The rest ranks as PureSVD of R does.

A tenth of the random start stays in: rows without choices, and columns beyond the rank, move from
there.  Rows of zeros stay zeros.

Choices without any taste have no directions, and all that is learned of them is noise.  Popularity
alone is c = 1, with b_i cut nowhere: ln d_i less the middle of its range, scaled to ±B.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from mfcore.nn.sparse import times
from mfcore.objectives.factors import unit_rows
from mfcore.objectives.graph import Graph
from mfcore.objectives.softmax import Vectors
from mfcore.parallel import Pool
from mfcore.solvers.singular import Basis, SubspaceIteration

STEPS = 4                       # of the subspace iteration
COMMON, MOST = 0.5, 0.8         # c, B
NOISE = 0.1


@dataclass(frozen=True)
class SpectralStart:
    """Moves random vectors of a given length to where a fit to `cells` begins.

    cells : csr_array, shape (n_users, n_items), whose pattern holds what users have chosen
    length : float, > 0, of the vectors
    """

    cells: sp.csr_array
    length: float

    def popular(self, at: Vectors) -> Vectors:
        """Return vectors whose scores say popularity alone; those of one number cannot."""
        P, Q = np.zeros_like(at.P), np.zeros_like(at.Q)
        if Q.shape[1] > 1:
            t = np.log(np.maximum(self._counts, 0.5))
            t -= (t.min() + t.max()) / 2
            Q[:, 0] = b = MOST * t / max(t.max(), 1e-9)
            P[:, 0], Q[:, 1] = 1, np.sqrt(1 - b ** 2)
        return replace(at, P=self.length * P, Q=self.length * Q)

    @property
    def _counts(self) -> np.ndarray:
        return np.bincount(self.cells.indices, minlength=self.cells.shape[1]).astype(np.float64)

    def begin(self, at: Vectors, tau: float, pool: Pool) -> None:
        """Do so for a temperature, in place; vectors of one number stay as they are."""
        w = min(at.P.shape[1], *self.cells.shape)
        if w > 1:
            self._place(at, self._leading(at.Q[:, :w], pool), tau)

    def _place(self, at: Vectors, leading: Leading, tau: float) -> None:
        """Move vectors to where they begin; overwrites R V."""
        V, Z, sigma = leading
        counts = self._counts
        b = np.log(np.maximum(counts, 1))
        b = np.clip(tau / COMMON * (b - b @ counts / counts.sum()), -MOST, MOST)
        root = np.sqrt(sigma[1:]).astype(Z.dtype)
        Z = Z[:, 1:]
        np.divide(Z, np.where(root > 0, root, np.inf), out=Z)
        self._move(at.P, np.full(len(Z), COMMON), Z)
        self._move(at.Q, b, V[:, 1:] * root)

    def _leading(self, Q: np.ndarray, pool: Pool) -> Leading:
        """Return V, R V and the singular values, from the columns of Q, which are overwritten."""
        R, transposed = Graph(self.cells, sp.csr_array(self.cells.astype(bool).T), False,
                              np.diff(self.cells.indptr).astype(np.float64), self._counts
                              ).normalised(Q.dtype)
        solver, at = SubspaceIteration(R, transposed, Q.shape[1]), Basis(Q, np.zeros(0))
        solver.begin(at, pool)
        for _ in range(STEPS):
            solver.epoch(at, pool)
        solver.finish(at, pool)
        return Leading(at.Q, times(R, at.Q, pool), np.sqrt(at.theta))

    def _move(self, X: np.ndarray, common: np.ndarray, rest: np.ndarray) -> None:
        alive = self.length * X.any(axis=1)
        X *= X.dtype.type(NOISE)
        X[:, 0] += alive * common
        rest = unit_rows(rest)
        rest *= (alive * np.sqrt(1 - common ** 2)).astype(rest.dtype)[:, None]
        X[:, 1:1 + rest.shape[1]] += rest


class Leading(NamedTuple):
    """V, R V and Σ."""

    V: np.ndarray
    Z: np.ndarray
    sigma: np.ndarray
