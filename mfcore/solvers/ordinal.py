"""Ratings as levels, in a Gibbs sampler: cut points, then numbers between them in place of ratings.

The formulas are in objectives/ordinal.py.  Draws are keyed by the cell's place among the cells
by user, and the same number stands in both orientations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from mfcore.data.canonical import read_only
from mfcore.kernels import ordinal as kernels
from mfcore.objectives.factors import Factors, cell_scores
from mfcore.objectives.ordinal import CELLS, CutPoints, edges_of, first_cuts
from mfcore.objectives.quadratic import Cells, Quadratic, RowSystems
from mfcore.parallel import Pool, row_chunks
from mfcore.solvers.als import solve_exactly
from mfcore.solvers.gibbs import Noise
from mfcore.validation import DivergenceError

LINE = np.array([0.0, 1.0, 1.0, 0.0])       # a = 1, b = z
EM_STEPS = 6


@dataclass
class Ordinal:
    """The likelihood of ordered probit: see `mfcore.solvers.gibbs.Likelihood`.

    Parameters
    ----------
    levels : ndarray of int, shape (nnz,)
        The level of each cell by user, from 0.
    counts : ndarray, shape (K,)
        Cells of each level.
    places : ndarray of int, shape (nnz,)
        Where each cell by item stands among those by user.
    """

    levels: np.ndarray
    counts: np.ndarray
    places: np.ndarray
    loss: float = 0.0

    @classmethod
    def of(cls, cells: Cells, n_columns: int, values: np.ndarray) -> Ordinal:
        """Return the likelihood of the ratings in `cells.y`, all of which are among `values`."""
        levels = np.searchsorted(values, cells.y).astype(np.uint8)
        counts = np.bincount(levels, minlength=len(values))
        numbers = np.arange(len(levels), dtype=np.int64)
        turned = sp.csr_array((numbers, cells.indices, cells.indptr),
                              shape=(len(cells.indptr) - 1, n_columns)).T.tocsr()
        return cls(levels, counts, turned.data)

    def start(self) -> Noise:
        """Return τ = 1, and cut points that give each level its share."""
        return Noise(1.0, first_cuts(self.counts))

    def before(self, problem: Quadratic, at: Factors, noise: Noise, random: np.random.Generator,
               pool: Pool, *, is_exact: bool) -> tuple[Quadratic, Noise]:
        """Return the problem with a draw of z for ratings, and the cut points about it."""
        cells = problem.by_user
        s = cell_scores(cells.indptr, cells.indices, at.P, at.Q, at.beta, at.gamma, pool)
        z, noise = self.drawn(s, noise, random, pool, is_exact=is_exact)
        return self.holding(problem, z, pool), noise

    def drawn(self, s: np.ndarray, noise: Noise, random: np.random.Generator, pool: Pool, *,
              is_exact: bool) -> tuple[np.ndarray, Noise]:
        """Return a draw of z of each cell by user, whose scores are s, and the cut points."""
        cuts, log_p = CutPoints(self.levels).draw(noise.cuts, s, random, pool, is_exact)
        if not np.isfinite(log_p):
            raise DivergenceError(f"the log-likelihood is {log_p}; use dtype='float64'")
        self.loss = -2 * log_p
        edges, key = edges_of(cuts), int(random.integers(2**62))
        z, numbers = np.empty_like(s), np.arange(len(s))
        pool.map(lambda lo, hi: kernels.latent_draws(self.levels, s, edges, numbers, key, z, lo,
                                                     hi), row_chunks(len(s), CELLS))
        return z, noise._replace(cuts=cuts)

    def holding(self, problem: Quadratic, z: np.ndarray, pool: Pool) -> Quadratic:
        """Return the problem with numbers by user in place of the ratings."""
        turned = np.empty_like(z)
        pool.map(lambda lo, hi: np.take(z, self.places[lo:hi], out=turned[lo:hi]),
                 row_chunks(len(z), CELLS))
        return replace(problem, by_user=_holding(problem.by_user, z, LINE),
                       by_item=_holding(problem.by_item, turned, LINE))

    def after(self, problem: Quadratic, at: Factors, noise: Noise, random: np.random.Generator,
              pool: Pool) -> tuple[float, Noise]:
        """Return −2 ln p of the scores before the sweep; nothing is left to draw."""
        return self.loss, noise


def _holding(cells: Cells, z: np.ndarray, line: np.ndarray) -> Cells:
    held = read_only(z)
    return Cells(cells.indptr, cells.indices, held, held, line)


def latent_rows(systems: RowSystems, levels: np.ndarray, cuts: np.ndarray, number: int,
                P: np.ndarray, beta: np.ndarray, pool: Pool,
                offsets: np.ndarray | float = 0.0) -> RowSystems:
    """Return systems of new rows with a draw of z for their ratings; P and β move to their mode.

    The mode is where `EM_STEPS` of z at its mean and rows solved end; from there z is drawn, by
    the sample's number and the cell's column, so that a row does not depend on the others.
    `offsets` (nnz,) are known parts of the scores that the rows have nothing to do with.
    """
    cells, edges = systems.cells, edges_of(cuts)
    for step in range(EM_STEPS + 1):
        s = cell_scores(cells.indptr, cells.indices, P, systems.Q, beta, systems.gamma, pool)
        s += offsets
        z = np.empty_like(s)
        if step < EM_STEPS:
            kernels.latent_means(levels, s, edges, z, 0, len(z))
        else:
            kernels.latent_draws(levels, s, edges, cells.indices.astype(np.int64), number, z, 0,
                                 len(z))
        z -= offsets
        systems = replace(systems, cells=_holding(cells, z, LINE))
        if step < EM_STEPS:
            solve_exactly(systems, P, beta, pool)
    return systems
