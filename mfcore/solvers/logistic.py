"""Stochastic gradient descent of the logistic objective, on the grid of solvers/sgd.py.

The sum over all cells has no Gram matrix to step by: kernels/logistic.py draws its cells
inside each block, counted by (seed, epoch, diagonal, user), so that the bits do not depend on
threads.  To first order in η an epoch moves every parameter, in expectation, by −η times the
gradient of the whole formula.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mfcore.kernels.logistic import logistic_kernel
from mfcore.objectives.factors import Factors
from mfcore.parallel import Pool
from mfcore.solvers.sgd import BLOCK_CELLS, SGD, Grid


@dataclass
class LogisticSGD(SGD):
    """SGD on a `Logistic` problem; parameters and schedules as in `SGD`."""

    @property
    def _block_cells(self) -> int:
        return BLOCK_CELLS                  # each block costs a user at least a round of draws

    def _diagonal(self, grid: Grid, at: Factors, runs: list[np.ndarray], shift: int,
                  rates: tuple[float, float], pool: Pool) -> float:
        random = np.random.default_rng([self.seed, self.epochs_done, shift])
        key = int(random.integers(2**63))
        kernel = logistic_kernel(at.P.shape[1], self.schedule == "adagrad", self._is_pulled)
        cells, rows = (grid.items, grid.a, grid.b), self._row_arguments(at, rates)
        parts = pool.map(
            lambda c, d: kernel(grid.bounds[c], runs[c], grid.starts[c][d], *cells,
                                grid.members[d], self.problem.w0, key, *rows),
            [(c, (c + shift) % grid.n_strata) for c in range(grid.n_strata)])
        return float(sum(parts))

    def _whole(self, at: Factors, pool: Pool) -> float:
        return 0.0                          # the draws have counted it
