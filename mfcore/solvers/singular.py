"""Leading right singular vectors of a sparse matrix, by randomised subspace iteration.

Statement.  For R (n, m) the V (m, k), VᵀV = I, that keeps most of it:

    L(V) = ‖R − R V Vᵀ‖² = ‖R‖² − ‖R V‖²          its minimum is ‖R‖² − Σ_{f ≤ k} σ_f²

Method.  Q (m, w) starts as a random matrix, orthonormal, with w a little above k.  An epoch is

    Z = R Q,   T = ZᵀZ = E diag(θ) Eᵀ           Rayleigh–Ritz: the best V in the span of Q is Q E,
                                              and θ_f ≤ σ_f² is what column f keeps
    Y = Rᵀ Z E diag(1 / θ)                     a power step: a part along σ_f grows by σ_f² / θ
    Q ← Y (YᵀY)^-1/2                            the orthonormal matrix nearest to Y

The columns of Y are nearly orthonormal, since Y → V as Q → V, so that the Gram may be formed:
its condition is near 1 (the first step, from a random Q, is the worst).  Directions that R does
not have (θ at rounding) become columns of zeros.  The angle between span Q and v_f shrinks by
(σ_{w+1} / σ_f)² in an epoch.  `finish` ends with one more Rayleigh–Ritz step, which sorts
columns by θ and gives them a sign that rounding does not decide.

Products are cut by rows, and Grams added in fixed order: the same bits for any number of threads.

Sources: Halko, Martinsson, Tropp 2011 (algorithm 4.4 and theorem 9.1); Higham 2008, section 8.1
(the nearest orthonormal matrix); Stathopoulos, Wu 2002 (orthonormality by the Gram).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from mfcore.nn.sparse import times
from mfcore.objectives.factors import LinearScorer
from mfcore.parallel import GRAM_ROWS, Pool, gram, tiled_product
from mfcore.solvers.loop import Solver
from mfcore.solvers.ranked import ndcg_of, parted
from mfcore.validation import DivergenceError

EXTRA = 32          # columns beyond those asked for
LOST = 16           # roundings of the largest θ below which a direction is not there
LEAST_USERS = 10    # by whose held-out cells a width is chosen


@dataclass
class Basis:
    """Q (m, w), and θ (w,) of its columns, descending."""

    Q: np.ndarray
    theta: np.ndarray

    def copy(self) -> Basis:
        """Return these arrays themselves: a step makes new ones."""
        return Basis(self.Q, self.theta)


def width(n_factors: int, shape: tuple[int, int]) -> int:
    """Return w."""
    return min(n_factors + EXTRA, *shape)


def bytes_needed(n_factors: int, shape: tuple[int, int], nnz: int, itemsize: int) -> int:
    """Return what a fit takes: Q, Z or its user vectors, one more of each, and R in both orders.

    A Gram is added from parts.
    """
    w = max(width(n_factors, shape), n_factors)
    parts = -(-max(shape) // GRAM_ROWS) * w
    return itemsize * w * (shape[0] + 3 * shape[1] + parts) + 2 * (itemsize + 4) * nnz


def drawn(n_factors: int, shape: tuple[int, int], dtype: np.dtype, random: np.random.Generator
          ) -> Basis:
    """Return a random start, not yet orthonormal; the identity where all columns are taken."""
    w, m = width(n_factors, shape), shape[1]
    Q = np.eye(m, dtype=dtype) if w == m else random.standard_normal((m, w), dtype=dtype)
    return Basis(Q, np.zeros(w))


@dataclass(frozen=True)
class SubspaceIteration(Solver):
    """Improves a Basis of the leading right singular vectors.

    R, transposed : csr_array, shapes (n, m), (m, n), in one precision
    n_factors : k
    """

    R: sp.csr_array
    transposed: sp.csr_array
    n_factors: int

    def begin(self, at: Basis, pool: Pool) -> None:
        """Make the columns of Q orthonormal."""
        at.Q = orthonormal(at.Q, np.eye(at.Q.shape[1]), pool)

    def epoch(self, at: Basis, pool: Pool) -> float:
        """Take a power step; return L of Q before it."""
        Z = times(self.R, at.Q, pool)
        theta, E = _ritz(Z, pool)
        there = theta > LOST * np.finfo(Z.dtype).eps * theta[0]
        scale = np.divide(1.0, theta, out=np.zeros_like(theta), where=there)
        Y = times(self.transposed, Z, pool)
        del Z
        at.Q, at.theta = orthonormal(Y, E * scale, pool), theta
        return max(self._total - float(theta[:self.n_factors].sum()), 0.0)

    def finish(self, at: Basis, pool: Pool) -> None:
        """Turn Q so that its columns are the Ritz vectors, largest θ first."""
        at.theta, E = _ritz(times(self.R, at.Q, pool), pool)
        V = tiled_product(at.Q, E.astype(at.Q.dtype), pool)
        V *= np.where(V.max(axis=0) < -V.min(axis=0), -1, 1).astype(V.dtype)
        at.Q = V

    @property
    def _total(self) -> float:
        return float(np.vdot(self.R.data.astype(np.float64), self.R.data))


def orthonormal(Y: np.ndarray, C: np.ndarray, pool: Pool) -> np.ndarray:
    """Return the matrix with orthonormal columns nearest to Y C, shape (m, w).

    Columns of zeros in Y C stay so.
    """
    M, F = np.linalg.eigh(_finite(C.T @ gram(Y, pool) @ C))
    there = LOST * len(M) * np.finfo(Y.dtype).eps * M[-1] < M
    roots = np.divide(1.0, np.sqrt(np.abs(M)), out=np.zeros_like(M), where=there)
    return tiled_product(Y, (C @ (F * roots) @ F.T).astype(Y.dtype), pool)


def _ritz(Z: np.ndarray, pool: Pool) -> tuple[np.ndarray, np.ndarray]:
    """Return θ >= 0, descending, and E."""
    theta, E = np.linalg.eigh(_finite(gram(Z, pool)))
    return np.maximum(theta[::-1], 0), E[:, ::-1]


def _finite(G: np.ndarray) -> np.ndarray:
    if not np.isfinite(G).all():
        raise DivergenceError("products of the ratings overflow; rescale them, or take "
                              "dtype='float64'")
    return G


def best_width(X: sp.csr_array, k: int, n_epochs: int, random: np.random.Generator, pool: Pool
               ) -> int:
    """Return how many of k vectors rank a held-out tenth of the cells best: a power of two, or k.

    The vectors of the other cells are nested, so that one iteration serves all widths.
    """
    known, held, rows = parted(X, random)
    if len(rows) < LEAST_USERS:
        return k
    solver, at = SubspaceIteration(known, known.T.tocsr(), k), drawn(k, X.shape, X.dtype, random)
    solver.begin(at, pool)
    for _ in range(n_epochs):
        solver.epoch(at, pool)
    solver.finish(at, pool)
    some, most = known[rows], min(k, at.Q.shape[1])
    P, widths = times(some, at.Q, pool), [*(2**f for f in range(most.bit_length())
                                            if 2**f < most), most]
    values = [ndcg_of(LinearScorer(P[:, :w].copy(), at.Q[:, :w].copy()), some, held[rows],
                      pool).mean() for w in widths]
    return int(widths[int(np.argmax(values))])
