"""The minimum of the linear autoencoder, in one step and in one matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mfcore.objectives.linear import LinearAutoencoder
from mfcore.parallel import Pool
from mfcore.solvers.inverse import invert
from mfcore.solvers.loop import Solver


@dataclass
class Weights:
    """What is learned: B, shape (n_items, n_items)."""

    B: np.ndarray

    def copy(self) -> Weights:
        """Return these weights themselves: there is one epoch, and memory for one matrix."""
        return self


@dataclass(frozen=True)
class ClosedForm(Solver):
    """Gram, inverse and B in the same matrix."""

    problem: LinearAutoencoder

    def epoch(self, at: Weights, pool: Pool) -> float:
        """Replace B by the minimum; return its value."""
        B = at.B
        self.problem.gram(B, pool)
        penalties = self.problem.penalties(B.diagonal())
        B[np.diag_indices(len(B))] += penalties.astype(B.dtype)
        invert(B, pool)
        diagonal = B.diagonal().copy()                       # of P
        np.divide(B, -diagonal, out=B)
        np.fill_diagonal(B, 0)
        return float((1 / diagonal.astype(np.float64) - penalties).sum())
