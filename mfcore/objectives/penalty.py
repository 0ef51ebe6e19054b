"""Penalties: Σ_u λ_u ‖P_u − m_u‖² + Σ_u λᵇ_u (β_u − μ_u)², and how λ grows with the ratings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mfcore.data.chunks import CELLS, rows_of_cells
from mfcore.data.ratings import Ratings
from mfcore.parallel import row_chunks


@dataclass(frozen=True)
class Penalty:
    """λ and λᵇ of each row of one side, shape (n_rows,), and the prior means m and μ.

    `means` is (n_rows, k), or (1, k) where all rows share one; `bias_means` (n_rows,) or (1,).
    """

    reg: np.ndarray
    bias_reg: np.ndarray
    means: np.ndarray
    bias_means: np.ndarray

    def value(self, X: np.ndarray, bias: np.ndarray, learns_bias: bool) -> float:
        """Return Σ λ ‖X − M‖² + Σ λᵇ (bias − μ)² in float64."""
        total = 0.0
        for start, stop in row_chunks(len(X), 8192):
            D = X[start:stop].astype(np.float64) - self.means_of(slice(start, stop))[0]
            total += float(self.reg[start:stop] @ np.einsum("uf,uf->u", D, D))
        if learns_bias:
            total += float(self.bias_reg @ (bias.astype(np.float64) - self.bias_means) ** 2)
        return total

    def means_of(self, rows: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the prior means of some rows; of all of them where they share one."""
        return (self.means if len(self.means) == 1 else self.means[rows],
                self.bias_means if len(self.bias_means) == 1 else self.bias_means[rows])


def counted_cells(ratings: Ratings) -> np.ndarray:
    """Return n of each row: its stored cells of positive weight, float64, shape (n_rows,)."""
    counts: np.ndarray = np.diff(ratings.by_user.indptr)
    if ratings.weights is not None:
        counts = np.zeros(ratings.shape[0], np.int64)
        for start, stop in row_chunks(ratings.nnz, CELLS):
            rows = rows_of_cells(ratings.by_user.indptr, slice(start, stop))
            counts += np.bincount(rows[ratings.weights[start:stop] > 0], minlength=len(counts))
    return counts.astype(np.float64)


def penalty_weights(counts: np.ndarray, reg: float, scaling: str | float, w0: float,
                    n_others: int) -> np.ndarray:
    """Return λ of each row, float64, shape (n_rows,).

    `counts` are those of `counted_cells`.  Scaling "count" gives reg·max(n, 1), "none" gives
    reg, a number ν gives reg·max(n + w0·n_others, 1)^ν (Rendle, Krichene, Zhang, Koren 2021).
    """
    weights = np.full(len(counts), float(reg))
    if scaling == "count":
        weights *= np.maximum(counts, 1.0)
    elif scaling != "none":
        weights *= np.maximum(counts + w0 * n_others, 1.0) ** float(scaling)
    return weights
