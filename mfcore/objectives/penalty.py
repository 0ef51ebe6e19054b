"""Penalties: Σ_u λ_u ‖P_u − m_u‖² + Σ_u λᵇ_u (β_u − β⁰)², and how λ grows with the ratings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mfcore.parallel import row_chunks


@dataclass(frozen=True)
class Penalty:
    """λ and λᵇ of each row of one side, shape (n_rows,), and the prior means.

    `means` is (n_rows, k), or (1, k) where all rows share one.
    """

    reg: np.ndarray
    bias_reg: np.ndarray
    means: np.ndarray
    bias_mean: float = 0.0

    def value(self, X: np.ndarray, bias: np.ndarray, learns_bias: bool) -> float:
        """Return Σ λ ‖X − M‖² + Σ λᵇ (bias − mean)² in float64."""
        total = 0.0
        for start, stop in row_chunks(len(X), 8192):
            means = self.means if len(self.means) == 1 else self.means[start:stop]
            D = X[start:stop].astype(np.float64) - means
            total += float(self.reg[start:stop] @ np.einsum("uf,uf->u", D, D))
        if learns_bias:
            total += float(self.bias_reg @ (bias.astype(np.float64) - self.bias_mean) ** 2)
        return total


def penalty_weights(counts: np.ndarray, reg: float, scaling: str | float, w0: float,
                    n_others: int) -> np.ndarray:
    """Return λ of each row, float64, shape (n_rows,).

    `counts` are the stored cells of positive weight n of each row; scaling "count" gives
    reg·max(n, 1), "none" gives reg, a number ν gives reg·max(n + w0·n_others, 1)^ν
    (Rendle, Krichene, Zhang, Koren 2021).
    """
    weights = np.full(len(counts), float(reg))
    if scaling == "count":
        weights *= np.maximum(counts, 1.0)
    elif scaling != "none":
        weights *= np.maximum(counts + w0 * n_others, 1.0) ** float(scaling)
    return weights
