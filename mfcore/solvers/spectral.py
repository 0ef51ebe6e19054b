"""Where vectors of a ranking loss over cosines begin: popularity, and the slow directions.

With R = D_u^-1/2 X D_i^-1/2 ≈ U Σ Vᵀ (objectives/graph.py), d the numbers of choices:

    P_u = [ c | √(1 − c²) (U Σ^½)_u / ‖·‖ ]           Q_i = [ b_i | √(1 − b_i²) (V Σ^½)_i / ‖·‖ ]

The leading pair, √d_u and √d_i, says nothing but popularity, and gives way to a column that says
it in units of the scores: with b_i = τ/c (ln d_i − mean over choices), cut to ±B, the common part
c b_i / τ of all scores is ln d_i up to a constant, which is all that a softmax could know of
items without knowing the user.  The rest ranks as PureSVD of R does.

A tenth of the random start stays in: rows without choices, and columns beyond the rank, move from
there.  Rows of zeros stay zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    tau : float, > 0
    length : float, > 0, of the vectors
    """

    cells: sp.csr_array
    tau: float
    length: float

    def begin(self, at: Vectors, pool: Pool) -> None:
        """Do so, in place; vectors of one number stay as they are."""
        w = min(at.P.shape[1], *self.cells.shape)
        if w == 1:
            return
        counts = np.bincount(self.cells.indices, minlength=len(at.Q)).astype(np.float64)
        V, Z, sigma = self._leading(at.Q[:, :w], counts, pool)
        b = np.log(np.maximum(counts, 1))
        b = np.clip(self.tau / COMMON * (b - b @ counts / counts.sum()), -MOST, MOST)
        root = np.sqrt(sigma[1:]).astype(Z.dtype)
        Z = np.divide(Z[:, 1:], root, out=np.zeros_like(Z[:, 1:]), where=root > 0)
        self._move(at.P, np.full(len(Z), COMMON), Z)
        self._move(at.Q, b, V[:, 1:] * root)

    def _leading(self, Q: np.ndarray, counts: np.ndarray, pool: Pool
                 ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return V, R V and the singular values."""
        graph = Graph(self.cells, sp.csr_array(self.cells.astype(bool).T), False,
                      np.diff(self.cells.indptr).astype(np.float64), counts)
        R, transposed = graph.normalised(Q.dtype)
        solver, at = SubspaceIteration(R, transposed, Q.shape[1]), Basis(Q, np.zeros(0))
        solver.begin(at, pool)
        for _ in range(STEPS):
            solver.epoch(at, pool)
        solver.finish(at, pool)
        return at.Q, times(R, at.Q, pool), np.sqrt(at.theta)

    def _move(self, X: np.ndarray, common: np.ndarray, rest: np.ndarray) -> None:
        alive = self.length * X.any(axis=1)
        X *= X.dtype.type(NOISE)
        X[:, 0] += alive * common
        rest = unit_rows(rest)
        rest *= (alive * np.sqrt(1 - common ** 2)).astype(rest.dtype)[:, None]
        X[:, 1:1 + rest.shape[1]] += rest
