"""The linear autoencoder without a diagonal: a row of ratings predicts itself.

With X (n_users, n_items), and B (n_items, n_items) with a zero diagonal, so that an item must
be explained by others,

    L = ‖X − X B‖² + Σ_ij Λ_i B_ij²,         diag B = 0

Derivation.  G = XᵀX + diag Λ, P = G⁻¹, and μ_j a multiplier for each B_jj = 0:

    0 = ∂/∂B [ ½ L + Σ_j μ_j B_jj ] = −XᵀX + (XᵀX + diag Λ) B + diag μ
    B = P (XᵀX − diag μ)
      = P (G − diag Λ − diag μ)                    XᵀX = G − diag Λ
      = I − P diag c                               c = Λ + μ
    0 = B_jj = 1 − P_jj c_j                        the constraint
    B = I − P diag(1 / diag P),   that is B_ij = −P_ij / P_jj off the diagonal

Its value.  Column j is a ridge regression of x_j on all other columns.  Its minimum is the
Schur complement of G at j, less Λ_j, and that complement is 1 / P_jj:

    L = Σ_j (1 / P_jj − Λ_j)

Denoising.  Let training see X̃, X with each cell left out with probability p and the others
scaled by 1 / (1 − p), and ask for X.  The cells of X̃ are independent, with mean x and variance
x² p/(1−p), so that E ‖X − X̃ B‖² = ‖X − X B‖² + Σ_i p/(1−p) (XᵀX)_ii ‖B_i‖².  So dropout is a
penalty:

    Λ_i = λ + p / (1 − p) (XᵀX)_ii

Sources: Steck 2019 (EASE: the Lagrangian, equations 6 to 8); Steck 2020 (EDLAE: dropout).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from mfcore.kernels import cooccurrence as kernels
from mfcore.parallel import Pool


@dataclass(frozen=True)
class LinearAutoencoder:
    """L for one X.

    Parameters
    ----------
    X : csr_array, shape (n_users, n_items), rows sorted
    reg : float, > 0
        λ.
    dropout : float in [0, 1)
        p.
    """

    X: sp.csr_array
    reg: float
    dropout: float = 0.0

    def gram(self, out: np.ndarray, pool: Pool) -> None:
        """Write the lower triangle of XᵀX to `out`, shape (n_items, n_items)."""
        X, by_item = self.X, self.X.tocsc()
        counts = np.diff(X.indptr)
        work = np.bincount(X.indices, np.repeat(counts, counts), minlength=X.shape[1])
        out[...] = 0
        cells = (by_item.indptr, by_item.indices, by_item.data, X.indptr, X.indices, X.data)
        pool.over_rows(lambda lo, hi: kernels.sparse_gram(*cells, out, lo, hi),
                       np.append(0, np.cumsum(work)))

    def penalties(self, square: np.ndarray) -> np.ndarray:
        """Return Λ, float64, shape (n_items,), for the diagonal of XᵀX."""
        share = self.dropout / (1 - self.dropout)
        return self.reg + share * square.astype(np.float64)

    def value(self, B: np.ndarray) -> float:
        """Return L at any B.  It is computed densely: for small matrices."""
        square = np.asarray(self.X.multiply(self.X).sum(axis=0), np.float64).ravel()
        E = self.X.toarray().astype(np.float64) - self.X @ B.astype(np.float64)
        return float(np.vdot(E, E) + self.penalties(square) @ (B.astype(np.float64) ** 2).sum(1))
