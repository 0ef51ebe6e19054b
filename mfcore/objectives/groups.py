"""Group vectors: prior means that rest on what is known of a row.

Statement.  F (n_rows, n_features) holds what is known of each row: the groups that a user is
in, the genres of an item, any numbers.  Each feature has a vector G_g and a bias g_g, and a
row's prior is the sum over its features:

    m_u = m + F_u G          μ_u = β⁰ + F_u g
    penalty = Σ_u λ_u ‖P_u − m_u‖² + Σ_u λᵇ_u (β_u − μ_u)² + λ_g (‖G‖² + ‖g‖²)

With U = P − F G, what is a row's own, this is the model s = (U_u + F_u G)·Q_i with the penalty
Σ λ_u ‖U_u‖² + λ_g ‖G‖²: the same function of other coordinates.

Closed form.  With P and β as they are, and Λ the diagonal of the λ_u:

    ∂L/∂G = 2 [ λ_g G − Fᵀ Λ (P − m − F G) ]                              chain rule
    0 = ∂L/∂G:  ( FᵀΛF + λ_g I ) G = FᵀΛ (P − m)                          ridge regression

and g alike with Λᵇ and β − β⁰.  λ_g > 0 keeps it solvable where fields are collinear.  For one
group a row FᵀΛF is diagonal, and the solution a shrunken mean of the members' vectors:

    G_g = Σ_{u∈g} λ_u (P_u − m) / ( Σ_{u∈g} λ_u + λ_g )

So at a minimum of L the group vectors are averages, whichever way they were found.

Sources: Agarwal, Chen 2009 (regression-based priors); Bi, Qu, Wang, Shen 2017 (groups).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy.linalg
import scipy.sparse as sp

from mfcore.objectives.penalty import Penalty
from mfcore.parallel import Pool, gram

DENSE_FEATURES = 2048        # up to here FᵀΛF is factored once; beyond, conjugate gradient
CG_STEPS = 50
CG_TOLERANCE = 1e-8

Solve = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Prior:
    """What pulls at the rows of one side: their penalty, and group vectors in its means.

    Parameters
    ----------
    penalty : Penalty
        λ, λᵇ, m and β⁰ of the rows.
    features : csr_array of float64, shape (n_rows, n_features), or None
        F; None: no groups.
    feature_reg : float, or ndarray of shape (n_features,), > 0
        λ_g.
    """

    penalty: Penalty
    features: sp.csr_array | None = None
    feature_reg: float | np.ndarray = 1.0

    def at(self, G: np.ndarray, g: np.ndarray) -> Penalty:
        """Return the penalty of the rows with the means that G and g give them."""
        if self.features is None:
            return self.penalty
        means, bias_means = self.mean_shift(G, g)
        return replace(self.penalty, means=(self.penalty.means + means).astype(G.dtype),
                       bias_means=self.penalty.bias_means + bias_means)

    def mean_shift(self, G: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return F G and F g in float64; zeros (1, k) and (1,) without features."""
        if self.features is None:
            return np.zeros((1, G.shape[1])), np.zeros(1)
        return self.features @ G.astype(np.float64), self.features @ g.astype(np.float64)

    def value(self, P: np.ndarray, beta: np.ndarray, G: np.ndarray, g: np.ndarray,
              learns_bias: bool) -> float:
        """Return the whole penalty of one side in float64."""
        squares = np.einsum("gf,gf->g", G, G, dtype=np.float64)
        if learns_bias:
            squares += g.astype(np.float64) ** 2
        groups = float(np.sum(self.feature_reg * squares))
        return self.at(G, g).value(P, beta, learns_bias) + groups

    @property
    def pulls_elsewhere(self) -> bool:
        """Whether rows without features are pulled towards anything but zero."""
        return bool(self.penalty.means.any())

    def spread(self, P: np.ndarray, G: np.ndarray, pool: Pool) -> np.ndarray:
        """Return UᵀΛU + Gᵀ diag(λ_g) G with U = P − F G, float64: its trace is the penalty."""
        if self.features is None:
            return gram(P, pool, dtype=np.float64, weights=self.penalty.reg)
        U, H = P - self.at(G, np.zeros(len(G))).means, G.astype(np.float64)
        own = gram(U, pool, dtype=np.float64, weights=self.penalty.reg)
        return own + (self.feature_reg * H.T) @ H

    def gradient(self, P: np.ndarray, beta: np.ndarray, G: np.ndarray, g: np.ndarray,
                 learns_bias: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return ∂L/∂G and ∂L/∂g (zeros where the bias is fixed)."""
        if self.features is None:
            return np.zeros_like(G), np.zeros_like(g)
        prior, FT = self.at(G, g), self.features.T
        dG = (self.feature_reg * G.T).T - FT @ (prior.reg[:, None] * (P - prior.means))
        dg = self.feature_reg * g - FT @ (prior.bias_reg * (beta - prior.bias_means))
        return 2 * dG, 2 * dg if learns_bias else np.zeros_like(g)

    def solve(self, P: np.ndarray, beta: np.ndarray, G: np.ndarray, g: np.ndarray,
              learns_bias: bool) -> None:
        """Overwrite G, and g where biases are learned, by the closed form."""
        if self.features is None:
            return
        prior = self.penalty
        G[...] = self._solve_vectors(prior.reg[:, None] * (P - prior.means), G)
        if learns_bias:
            g[...] = self._solve_biases(prior.bias_reg * (beta - prior.bias_means), g)

    @cached_property
    def _solve_vectors(self) -> Solve:
        return ridge_solver(self.features, self.penalty.reg, self.feature_reg)

    @cached_property
    def _solve_biases(self) -> Solve:
        return ridge_solver(self.features, self.penalty.bias_reg, self.feature_reg)


def averages(features: sp.csr_array, X: np.ndarray) -> np.ndarray:
    """Return the mean of X over the members of each feature, weighted by F >= 0; float64.

    X is (n_rows,) or (n_rows, k); a feature without members gets 0.
    """
    weight = np.asarray(features.sum(axis=0)).ravel()
    total = features.T @ X.astype(np.float64)
    share = np.divide(1.0, weight, out=np.zeros_like(weight), where=weight > 0)
    mean: np.ndarray = (total.T * share).T
    return mean


def ridge_solver(F: sp.csr_array, weights: np.ndarray, reg: float | np.ndarray,
                 most_dense: int = DENSE_FEATURES) -> Solve:
    """Return a function that solves (FᵀΛF + diag(reg)) X = FᵀY for X, given Y and a start.

    Up to `most_dense` features by Cholesky, else by conjugate gradient.  Y is (n_rows,) or
    (n_rows, k), X and the start (n_features,) or (n_features, k).
    """
    if not F.shape[1]:                    # (LAPACK of old versions refuses nothing at all)
        return lambda Y, start: np.zeros((0, *Y.shape[1:]))
    weighted = sp.csr_array(F * weights[:, None])
    reg = np.broadcast_to(np.asarray(reg, np.float64), F.shape[1])
    if F.shape[1] <= most_dense:
        factor = scipy.linalg.cho_factor((F.T @ weighted).toarray() + np.diag(reg), lower=True)
        return lambda Y, start: np.asarray(scipy.linalg.cho_solve(factor, F.T @ Y))
    diagonal = np.asarray((weighted.multiply(F)).sum(axis=0)).ravel() + reg

    def times(X: np.ndarray) -> np.ndarray:
        product: np.ndarray = weighted.T @ (F @ X) + (reg * X.T).T
        return product

    return lambda Y, start: conjugate_gradient(times, F.T @ Y, start, diagonal)


def conjugate_gradient(times: Callable[[np.ndarray], np.ndarray], C: np.ndarray,
                       start: np.ndarray, diagonal: np.ndarray) -> np.ndarray:
    """Solve A X = C for every column at once, from `start`, preconditioned by A's diagonal.

    `times(X)` returns A X.  Stops when every residual is 1e-8 of its right-hand side.
    """
    scale = diagonal if C.ndim == 1 else diagonal[:, None]
    X = start.astype(np.float64)
    R = C - times(X)
    D = Z = R / scale
    rz = np.sum(R * Z, axis=0)
    goal = CG_TOLERANCE ** 2 * np.sum(C * C / scale, axis=0)
    for _ in range(CG_STEPS):
        if (rz <= goal).all():
            break
        AD = times(D)
        length = rz / np.maximum(np.sum(D * AD, axis=0), np.finfo(float).tiny)
        X = X + length * D
        R = R - length * AD
        Z = R / scale
        old, rz = rz, np.sum(R * Z, axis=0)
        D = Z + rz / np.maximum(old, np.finfo(float).tiny) * D
    return X
