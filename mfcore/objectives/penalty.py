"""Penalties of rows, and the group vectors that carry what is known about a row into its prior.

Statement.  F (n_rows, n_features) holds what is known about each row: the groups that a user
is in, the genres of an item, any numbers.  Each feature has a vector G_g and a bias g_g, and a
row's prior mean is the sum over its features:

    penalty = Σ_u λ_u ‖P_u − m_u‖² + Σ_u λᵇ_u (β_u − μ_u)² + λ_g ‖G‖² + λᵇ_g ‖g‖²
    m_u = m + F_u G          μ_u = β⁰ + F_u g

Without features the last two terms are gone, and the means are m and β⁰.

With U = P − F G, what is a row's own, this is the model s = (U_u + F_u G)·Q_i with the penalty
Σ λ_u ‖U_u‖² + λ_g ‖G‖²: the same function in other coordinates.

Closed form.  With P and β as they are, and Λ the diagonal of the λ_u:

    ∂L/∂G = 2 [ λ_g G − Fᵀ Λ (P − m − F G) ]                              chain rule
    0 = ∂L/∂G:  ( FᵀΛF + λ_g I ) G = FᵀΛ (P − m)                          ridge regression

The same holds for g, with Λᵇ, λᵇ_g and β − β⁰.  λ_g > 0 keeps the system solvable when features are
collinear.  With one group per row FᵀΛF is diagonal, and the solution is a shrunken mean of the
members' vectors:

    G_g = Σ_{u∈g} λ_u (P_u − m) / ( Σ_{u∈g} λ_u + λ_g )

So at a minimum of L the group vectors are averages, however they were found.  objectives/ridge.py
solves these systems.

Units.  If r becomes c r, the loss becomes c² times as large, and the same model is the minimum if
biases become c times as large, vectors of both sides √c times, and

    Σ λ_u ‖P_u‖² + Σ λᵇ_u β_u²,  for  P → √c P, β → c β,  is c² times as large if  λ → c λ, λᵇ → λᵇ

So λ_u and λ_g are numbers times the standard deviation σ of the ratings, and λᵇ are plain numbers.

Sources: Agarwal, Chen 2009 (regression-based priors); Bi, Qu, Wang, Shen 2017 (groups);
Rendle, Krichene, Zhang, Koren 2021 (λ by the number of ratings).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore.data.chunks import CELLS, rows_of_cells
from mfcore.data.ratings import Ratings
from mfcore.parallel import Pool, gram, row_chunks, tiled_product


@dataclass(frozen=True)
class Penalty:
    """λ and λᵇ of each row of one side, shape (n_rows,), and the prior means m and μ.

    `means` is (n_rows, k), or (1, k) if all rows share one; `bias_means` is (n_rows,) or (1,).
    """

    reg: np.ndarray
    bias_reg: np.ndarray
    means: np.ndarray
    bias_means: np.ndarray

    def value(self, X: np.ndarray, bias: np.ndarray, learns_bias: bool) -> float:
        """Return Σ λ ‖X − M‖² + Σ λᵇ (bias − μ)² in float64."""
        def squares(rows: slice) -> float:          # (its array is gone before the next is made)
            D = X[rows].astype(np.float64)
            D -= self.means_of(rows)[0]
            return float(self.reg[rows] @ np.einsum("uf,uf->u", D, D))

        total = sum((squares(slice(*chunk)) for chunk in row_chunks(len(X), 8192)), 0.0)
        if learns_bias:
            total += float(self.bias_reg @ (bias.astype(np.float64) - self.bias_means) ** 2)
        return total

    def scaled(self, reg: float, bias_reg: float) -> Penalty:
        """Return the penalty with all λ and all λᵇ times a number."""
        return replace(self, reg=reg * self.reg, bias_reg=bias_reg * self.bias_reg)

    def means_of(self, rows: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the prior means of some rows, or the ones that all rows share."""
        return (self.means if len(self.means) == 1 else self.means[rows],
                self.bias_means if len(self.bias_means) == 1 else self.bias_means[rows])


def counted_cells(ratings: Ratings) -> np.ndarray:
    """Return n, the number of stored cells of positive weight per row, float64, (n_rows,)."""
    counts: np.ndarray = np.diff(ratings.by_user.indptr)
    if ratings.weights is not None:
        counts = np.zeros(ratings.shape[0], np.int64)
        for start, stop in row_chunks(ratings.nnz, CELLS):
            rows = rows_of_cells(ratings.by_user.indptr, slice(start, stop))
            counts += np.bincount(rows[ratings.weights[start:stop] > 0], minlength=len(counts))
    return counts.astype(np.float64)


@dataclass(frozen=True)
class Prior:
    """The penalty of the rows of one side, with group vectors in its means.

    Parameters
    ----------
    penalty : Penalty
        λ, λᵇ, m and β⁰ of the rows.
    features : csr_array of float64, shape (n_rows, n_features), or None
        F, or None for no groups.
    feature_reg, feature_bias_reg : float, or ndarray of shape (n_features,), > 0
        λ_g and λᵇ_g.
    """

    penalty: Penalty
    features: sp.csr_array | None = None
    feature_reg: float | np.ndarray = 1.0
    feature_bias_reg: float | np.ndarray = 1.0
    # F in both orders, what solves its systems, and F G of the last G: each is made once.
    kept: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "kept": {}}

    def scaled(self, share: float) -> Prior:
        """Return the prior with all its penalties times a number: G is solved as before."""
        return replace(self, penalty=self.penalty.scaled(share, share),
                       feature_reg=share * self.feature_reg,
                       feature_bias_reg=share * self.feature_bias_reg)

    def with_penalty(self, penalty: Penalty) -> Prior:
        """Return the prior with another penalty of its rows."""
        kept = {key: made for key, made in self.kept.items() if key[0] == "design"}
        return replace(self, penalty=penalty, kept=kept)

    def at(self, G: np.ndarray, g: np.ndarray) -> Penalty:
        """Return the penalty of the rows with the means that G and g give them."""
        if self.features is None:
            return self.penalty
        means, bias_means = self.mean_shift(G, g)
        return replace(self.penalty, means=(self.penalty.means + means).astype(G.dtype),
                       bias_means=self.penalty.bias_means + bias_means)

    def mean_shift(self, G: np.ndarray, g: np.ndarray, pool: Pool | None = None
                   ) -> tuple[np.ndarray, np.ndarray]:
        """Return F G, in G's precision, and F g in float64, of features that there are.

        Those of the G and g of last time are not computed again.
        """
        F: Any = self.features
        return self._shift(G, pool), self._kept_of("bias shift", g,
                                                   lambda: F @ g.astype(np.float64))

    def _shift(self, G: np.ndarray, pool: Pool | None) -> np.ndarray:
        return self._kept_of("shift", G, lambda: self._design(G.dtype).times(G, pool or Pool(1)))

    def _kept_of(self, name: str, G: np.ndarray, made: Callable[[], np.ndarray]) -> np.ndarray:
        """Return what is made of G, or g; that of the last one is there already."""
        before: Any = self.kept.get((name,))
        if before is None or before[0].dtype != G.dtype or not np.array_equal(before[0], G):
            before = self.kept[name,] = G.copy(), made()
        found: np.ndarray = before[1]
        return found

    def turn_groups(self, G: np.ndarray, M: np.ndarray, pool: Pool) -> None:
        """Overwrite G with G M; F G turns with it."""
        shift = self._shift(G, pool)
        tiled_product(G, M, pool, out=G)
        self.kept["shift",] = G.copy(), tiled_product(shift, M, pool)

    def _design(self, real: np.dtype) -> Any:
        from mfcore.objectives.ridge import Design

        key = "design", real.name
        if key not in self.kept:
            self.kept[key] = Design.of(self.features, real)
        return self.kept[key]

    def value(self, P: np.ndarray, beta: np.ndarray, G: np.ndarray, g: np.ndarray,
              learns_bias: bool) -> float:
        """Return the whole penalty of one side in float64."""
        groups = self.feature_reg * np.einsum("gf,gf->g", G, G, dtype=np.float64)
        if learns_bias:
            groups = groups + self.feature_bias_reg * g.astype(np.float64) ** 2
        return self.at(G, g).value(P, beta, learns_bias) + float(np.sum(groups))

    @property
    def pulls_elsewhere(self) -> bool:
        """Whether rows without features are pulled towards anything but zero."""
        return bool(self.penalty.means.any())

    def spread(self, P: np.ndarray, G: np.ndarray, pool: Pool) -> np.ndarray:
        """Return UᵀΛU + Gᵀ diag(λ_g) G with U = P − F G, float64: its trace is the penalty."""
        if self.features is None:
            return gram(P, pool, dtype=np.float64, weights=self.penalty.reg)
        U, H = P - self._shift(G, pool), G.astype(np.float64)
        if self.pulls_elsewhere:
            U -= self.penalty.means.astype(G.dtype)
        own = gram(U, pool, dtype=np.float64, weights=self.penalty.reg)
        return own + (self.feature_reg * H.T) @ H

    def gradient(self, P: np.ndarray, beta: np.ndarray, G: np.ndarray, g: np.ndarray,
                 learns_bias: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return ∂L/∂G and ∂L/∂g (zeros where the bias is fixed)."""
        if self.features is None:
            return np.zeros_like(G), np.zeros_like(g)
        prior, FT = self.at(G, g), self.features.T
        dG = (self.feature_reg * G.T).T - FT @ (prior.reg[:, None] * (P - prior.means))
        dg = self.feature_bias_reg * g - FT @ (prior.bias_reg * (beta - prior.bias_means))
        return 2 * dG, 2 * dg if learns_bias else np.zeros_like(g)

    def solve(self, P: np.ndarray, beta: np.ndarray, G: np.ndarray, g: np.ndarray,
              learns_bias: bool, pool: Pool) -> None:
        """Overwrite G, and g if biases are learned, with the closed form."""
        if self.features is None:
            return
        prior, design = self.penalty, self._design(P.dtype)
        solve = self._solver("vectors", design, prior.reg, self.feature_reg)
        shift, bias_shift = self.mean_shift(G, g, pool)
        G[...] = solve(P - prior.means, G, shift, pool)
        if learns_bias:
            solve = self._solver("biases", design, prior.bias_reg, self.feature_bias_reg)
            away = (beta - prior.bias_means).astype(P.dtype)
            before = bias_shift[:, None].astype(P.dtype)
            g[...] = solve(away[:, None], g[:, None], before, pool)[:, 0]
        self.mean_shift(G, g, pool)

    def _solver(self, name: str, design: Any, reg: np.ndarray, feature_reg: Any) -> Any:
        from mfcore.objectives.ridge import ridge_solver

        key = name, design.rows.dtype.name
        if key not in self.kept:
            self.kept[key] = ridge_solver(design, reg, feature_reg)
        return self.kept[key]


def averages(features: sp.csr_array, X: np.ndarray) -> np.ndarray:
    """Return the mean of X over the members of each feature, weighted by F >= 0; float64.

    X is (n_rows,) or (n_rows, k); a feature without members gets 0.
    """
    weight = np.asarray(features.sum(axis=0)).ravel()
    total = features.T @ X.astype(np.float64)
    share = np.divide(1.0, weight, out=np.zeros_like(weight), where=weight > 0)
    mean: np.ndarray = (total.T * share).T
    return mean
