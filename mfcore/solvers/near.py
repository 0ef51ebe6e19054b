"""Rows that are near their solutions, solved by conjugate gradient to a tolerance.

After sweeps of conjugate gradient the last half-sweep has little left to do: five to eight steps
bring a row to its solution up to rounding, in a third of the time of a Cholesky factor.  Each step
measures how far a row is (kernels/cg.py).  With the diagonal M of A and a lower bound μ of the
eigenvalues of M⁻¹A, that is μ M ≤ A, the error e that belongs to the residual r has

    ‖e‖_M = ‖A⁻¹r‖_M ≤ ‖M⁻¹r‖_M / μ        A = diag(D + λ) + Σ a q qᵀ,   so   μ = min (D + λ) / M

where no a is negative.  Rows that do not come near in `STEPS`, nor half of the way in half of them,
and rows that may be ill conditioned, are left to Cholesky.  In float64, where as many steps again
would be needed, all are.

The frozen side is turned row by row, so that a row has the same bits in whatever company it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np

from mfcore.kernels.dual import turn_rows
from mfcore.kernels.gathered import aligned
from mfcore.objectives.quadratic import RowSystems
from mfcore.parallel import GRAM_ROWS, Pool, row_chunks

STEPS = 12               # most of a row
TOLERANCE = 2e-6         # ‖e‖_M / ‖z‖_M


class Basis(Protocol):
    """What solvers/als.py turns rows by."""

    V: np.ndarray

    def kernel(self, systems: RowSystems, pool: Pool) -> Callable[..., float]:
        """Return the steps of rows, for systems with the frozen side turned."""


def near_rows(basis: Basis, systems: RowSystems, P: np.ndarray, beta: np.ndarray, pool: Pool,
              bounds: np.ndarray) -> np.ndarray:
    """Solve rows in place, and return which of them are solved; others may have moved."""
    done = np.zeros(len(P), bool)
    kernel = basis.kernel(replace(systems, Q=_turned(basis.V, systems.Q, pool)), pool)
    rotated = np.empty((len(P), basis.V.shape[1]), P.dtype)
    back, nowhere = np.ascontiguousarray(basis.V.T), np.zeros(len(P), bool)

    def solved(lo: int, hi: int) -> None:
        turn_rows(P, basis.V, rotated, nowhere, lo, hi)
        kernel(rotated, beta, STEPS, TOLERANCE, done, lo, hi)
        turn_rows(rotated[lo:hi], back, P[lo:hi], ~done[lo:hi], 0, hi - lo)

    pool.over_chunks(solved, bounds)
    return done


def _turned(V: np.ndarray, Q: np.ndarray, pool: Pool) -> np.ndarray:
    out, nowhere = aligned((len(Q), V.shape[1]), Q.dtype), np.zeros(len(Q), bool)
    pool.map(lambda lo, hi: turn_rows(Q, V, out, nowhere, lo, hi), row_chunks(len(Q), GRAM_ROWS))
    return out
