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

Neighbourhoods.  With B_ij = 0 also for i outside N_j, the nearest items of j, each column is a
ridge of its own.  W weighs users by the power −γ of their row sums d_u, so that long rows count
less; c makes the mean weight of a cell 1, so that λ means the same for any γ:

    L_j = ‖W^½ (x_j − X_N b)‖² + bᵀ Λ_NN b,      W_u = c d_u^−γ,   c = Σ d_u / Σ d_u^(1−γ)
    b = (G_NN + Λ_NN)⁻¹ G_Nj,                    G = XᵀWX,   min L_j = G_jj − G_Njᵀ b

With N_j all other items and γ = 0 that is B above.

Sources: Steck 2019 (EASE: the Lagrangian, equations 6 to 8); Steck 2020 (EDLAE: dropout); Steck
2019b (Markov random fields: one sparse system for each item); Park et al. 2025 (DAN: powers of
degrees).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from mfcore.kernels import cooccurrence as kernels
from mfcore.objectives.neighbours import Similarity, by_item, cosine
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


@dataclass(frozen=True)
class Neighbourhoods:
    """L with B restricted to neighbours.

    Parameters
    ----------
    X : csr_array, shape (n_users, n_items), rows sorted, >= 0
    reg, dropout
        As in `LinearAutoencoder`.
    user_power : float, >= 0
        γ.
    """

    X: sp.csr_array
    reg: float
    dropout: float = 0.0
    user_power: float = 0.0

    def nearness(self) -> Similarity:
        """Return the cosines that choose neighbours."""
        return cosine(self.X, 0.0)

    def parts(self) -> tuple[sp.csr_array, np.ndarray, np.ndarray]:
        """Return (W^½ X)ᵀ as CSR, its squared row lengths, and Λ, all in X's precision."""
        X, real = self.X, self.X.dtype
        length = np.asarray(abs(X).sum(axis=1, dtype=np.float64)).ravel()
        W = np.power(length, -self.user_power, where=length > 0, out=np.ones(len(length)))
        W *= length.sum() / max(length @ W, np.finfo(float).tiny)
        data = (X.data * np.repeat(np.sqrt(W), np.diff(X.indptr))).astype(real)
        scaled = by_item(sp.csr_array((data, X.indices, X.indptr), shape=X.shape))
        squares = np.asarray(scaled.multiply(scaled).sum(axis=1, dtype=np.float64)).ravel()
        penalties = LinearAutoencoder(X, self.reg, self.dropout).penalties(squares)
        return scaled, squares.astype(real), penalties.astype(real)
