"""The logistic objective: SGD to fit it, and Newton's method for new rows.

SGD runs on the grid of solvers/sgd.py.  The sum over all cells has no Gram matrix to step by, so
kernels/logistic.py draws its cells inside each block, keyed by (seed, epoch, diagonal, user), and
the bits do not depend on threads.  To first order in η an epoch moves every parameter, in
expectation, by −η times the gradient of the whole formula.

With the other side frozen a row's problem is smooth and convex (objectives/pointwise.py):

    z ← z − t H⁻¹ g,    t = 1, ½, ¼, ... until the value falls by t gᵀH⁻¹g / 10    (Armijo)

The half steps make it converge from anywhere; near the minimum t = 1 and the number of correct
digits doubles with each of the five to eight steps.  So a new row is the exact minimiser, without
a rate, a seed or a number of passes to choose, and the same row always gets the same vector.
Where w0 > 0 a step costs O(n_items k²), as every cell of the row counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mfcore.kernels.logistic import logistic_kernel
from mfcore.objectives.factors import Factors
from mfcore.objectives.pointwise import LogisticRow
from mfcore.objectives.quadratic import RowSystems
from mfcore.parallel import Pool
from mfcore.solvers.sgd import BLOCK_CELLS, SGD, Grid

MAX_STEPS = 50
PRECISION = 1e-13       # relative fall of the quadratic model's value below which Newton stops


@dataclass
class LogisticSGD(SGD):
    """SGD on a `Logistic` problem; parameters and schedules as in `SGD`."""

    @property
    def _block_cells(self) -> int:
        return BLOCK_CELLS                  # each block costs at least one round of draws per user

    def _diagonal(self, grid: Grid, at: Factors, runs: list[np.ndarray], shift: int,
                  rates: tuple[float, float], pool: Pool) -> float:
        random = np.random.default_rng([self.seed, self.epochs_done, shift])
        key = int(random.integers(2**63))
        kernel = logistic_kernel(at.P.shape[1], self.schedule == "adagrad", self._is_pulled)
        return self._run_blocks(kernel, grid, at, runs, shift, rates, pool,
                                lambda d: (grid.members[d], self.problem.w0, key))

    def _whole(self, at: Factors, pool: Pool) -> float:
        return 0.0                          # already part of the draws


def solve_logistic(systems: RowSystems, P: np.ndarray, beta: np.ndarray, pool: Pool) -> None:
    """Bring every row of one side to its minimum, in place; beta only if it is learned.

    P, beta : ndarray, shapes (n_rows, k), (n_rows,)
    """
    k = P.shape[1]

    def solve(lo: int, hi: int) -> None:
        for row in range(lo, hi):
            z = minimiser(LogisticRow.of(systems, row, float(beta[row])))
            P[row] = z[:k]
            if systems.learns_bias:
                beta[row] = z[k]

    pool.over_rows(solve, systems.cells.indptr)


def minimiser(problem: LogisticRow) -> np.ndarray:
    """Return the minimiser of one row, starting from its prior mean, shape (d,)."""
    z, value = problem.mean, problem.value(problem.mean)
    for _ in range(MAX_STEPS):
        g, H = problem.derivatives(z)
        step = np.linalg.lstsq(H, g, rcond=None)[0] if not problem.ridge.all() else \
            np.linalg.solve(H, g)
        fall, t = float(g @ step), 1.0
        if not fall > PRECISION * max(1.0, abs(value)):
            break
        while (new := problem.value(z - t * step)) > value - t * fall / 10 and t > PRECISION:
            t /= 2
        z, value = z - t * step, new
    return z
