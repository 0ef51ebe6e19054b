"""Ridge regression of the rows of one side on their features, again and again with one F.

Statement.  F (n, m) is sparse, Y (n, k) changes from sweep to sweep, and κ > 0:

    min_X ‖Y − F X‖² + κ ‖X‖²               (FᵀF + κ I) X = FᵀY

Weights Λ of rows and a penalty K for each feature are scales of Y, F and X:

    Σ_u λ_u ‖Y_u − F_u X‖² + Σ_g K_g ‖X_g‖² = ‖Λ^½ Y − (Λ^½ F K^−½) (K^½ X)‖² + ‖K^½ X‖²

Few features, or few rows (up to `MOST_DENSE`): Cholesky of the smaller of FᵀF + κI and

    X = Fᵀ (F Fᵀ + κ I)⁻¹ Y                 since (FᵀF + κ I) Fᵀ = Fᵀ (F Fᵀ + κ I)

More of both, and a κ that changes (Gibbs sampling): the smaller Gram is brought to a band once,

    FᵀF = Q B Qᵀ,    QᵀQ = I               so    (FᵀF + κ I)⁻¹ = Q (B + κ I)⁻¹ Qᵀ    for any κ

which takes 10/3 p³ operations, all of them in products of matrices (an eigendecomposition spends
most of its time on going from the band to two diagonals, and has nothing to add: B + κI is solved
in p b² operations).  A sweep then costs two products with Q.

More of both, and a fixed κ (least squares), or a Gram beyond `BAND_BYTES`: conjugate gradient from
the X of before, in which the r largest eigenvalues of FᵀF no longer matter.  With orthonormal
Ritz vectors U and values θ (Halko, Martinsson, Tropp 2011: of a random subspace, multiplied once),

    preconditioner    1/(θ_r + κ) I + U [ 1/(θ + κ) − 1/(θ_r + κ) ] Uᵀ

What rows have rated is nearly of low rank plus something small, so that a few steps suffice.
Where a search goes on from sweep to sweep, one does: next to the start of before, the solution
has moved by a few percent, of which a step leaves about a tenth.

Sources: Bischof, Lang, Sun 2000 (reduction to a band); Frangella, Tropp, Udell 2023 (a sketch as
the preconditioner).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.canonical import read_only
from mfcore.kernels.cooccurrence import sparse_gram
from mfcore.kernels.features import row_sums
from mfcore.objectives.band import Band
from mfcore.parallel import Pool, equal_cost_chunks, tiled_product
from mfcore.validation import DivergenceError, FitWarning

LOST = 1e-2                  # eigenvalues of FᵀF times the rounding error: more needs float64
MOST_DENSE = 2048            # rows of a Gram that Cholesky factors
BAND_BYTES = 2 << 30         # of a Gram and its Q, beyond which there is no band
RITZ = 32                    # r, at most as many as columns are solved for
CG_STEPS = 200
# Errors from which the last step begins: of least squares, which go on next time, and of draws.
FIXED, DRAWN = 0.3, 1e-5
GROUPED = 8                  # chunks of rows that are multiplied in one call

Solve = Callable[[np.ndarray, np.ndarray, np.ndarray, Pool], np.ndarray]


@dataclass(frozen=True)
class Design:
    """F in both orders, its rows times `left` (n, 1) and its columns times `right` (m, 1)."""

    rows: sp.csr_array
    columns: sp.csr_array
    left: np.ndarray | None = None
    right: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Show places read-only, whoever made them: kernels are compiled for these types."""
        for matrix in (self.rows, self.columns):
            read_only(matrix.indices)
            read_only(matrix.indptr)

    @classmethod
    def of(cls, F: sp.csr_array, real: np.dtype) -> Design:
        """Return a design of F in a precision."""
        F = sp.csr_array(F, dtype=real)
        F.sum_duplicates()
        return cls(F, sp.csr_array(F.T))

    @property
    def fine(self) -> Design:
        """The same in float64 where its own precision cannot tell FᵀF from FᵀF + I."""
        F = _scaled_matrix(self.rows, self.left, self.right, self.rows.dtype.type)
        np.abs(F.data, out=F.data)
        bound = np.max(F.T @ F.sum(axis=1), initial=0.0)            # of the eigenvalues of FᵀF
        if bound * np.finfo(self.rows.dtype).eps <= LOST:
            return self
        left, right = (None if scale is None else scale.astype(np.float64)
                       for scale in (self.left, self.right))
        return Design(self.rows.astype(np.float64), self.columns.astype(np.float64), left, right)

    @property
    def shape(self) -> tuple[int, int]:
        """n and m."""
        n, m = self.rows.shape
        return n, m

    def times(self, X: np.ndarray, pool: Pool) -> np.ndarray:
        """Return F X, shape (n, k)."""
        return _scaled(self.left, _product(self.rows, _scaled(self.right, X), pool))

    def turned(self, Y: np.ndarray, pool: Pool) -> np.ndarray:
        """Return FᵀY, shape (m, k)."""
        return _scaled(self.right, _product(self.columns, _scaled(self.left, Y), pool))

    @property
    def is_tall(self) -> bool:
        """Whether FᵀF is the smaller Gram."""
        return self.shape[0] >= self.shape[1]

    def smaller_gram(self, real: type, pool: Pool) -> np.ndarray:
        """Return FᵀF or F Fᵀ, whichever is smaller, in full."""
        parts = [(self.rows, self.left, self.right), (self.columns, self.right, self.left)]
        outer, inner = (parts if self.is_tall else parts[::-1])
        X = _scaled_matrix(*outer, real)
        by_column = _scaled_matrix(*inner, real)
        out = np.zeros((X.shape[1],) * 2, real)
        counts = np.diff(X.indptr)
        work = np.bincount(X.indices, np.repeat(counts, counts), minlength=X.shape[1])
        cells = (by_column.indptr, by_column.indices, by_column.data, X.indptr, X.indices, X.data)
        pool.over_rows(lambda lo, hi: sparse_gram(*cells, out, lo, hi),
                       np.append(0, np.cumsum(work)))
        lower = np.tril(out, -1)
        out += lower.T
        return out


def _product(F: sp.csr_array, X: np.ndarray, pool: Pool) -> np.ndarray:
    if X.shape[1] == 1:
        return np.asarray(F @ X.astype(F.dtype, copy=False))
    X = np.ascontiguousarray(X.astype(F.dtype, copy=False))
    out = np.empty((F.shape[0], X.shape[1]), F.dtype)
    bounds = np.append(equal_cost_chunks(F.indptr)[:-1:GROUPED], F.shape[0])
    pool.over_chunks(lambda lo, hi: row_sums(F.indptr, F.indices, F.data, X, out, lo, hi), bounds)
    return out


def _scaled(scale: np.ndarray | None, X: np.ndarray) -> np.ndarray:
    return X if scale is None else scale * X


def _scaled_matrix(F: sp.csr_array, left: np.ndarray | None, right: np.ndarray | None, real: type
                   ) -> sp.csr_array:
    data = F.data.astype(real)
    if left is not None:
        data *= np.repeat(left[:, 0].astype(real), np.diff(F.indptr))
    if right is not None:
        data *= right[F.indices, 0].astype(real)
    return sp.csr_array((data, F.indices, F.indptr), shape=F.shape)


# ------------------------------------------------------------------------- a fixed penalty

def ridge_solver(design: Design, weights: np.ndarray, reg: float | np.ndarray) -> Solve:
    """Return what solves (FᵀΛF + diag(reg)) X = FᵀΛY for X (m, k).

    It takes Y (n, k), a start (m, k), F·start (n, k) and a pool.  The solution is exact up to
    `MOST_DENSE` features or rows.  Beyond, it is one step or more away from the start, and the
    last of them began at most about `FIXED` from the solution.
    """
    n, m = design.shape
    real = design.rows.dtype
    left = np.sqrt(weights).astype(real)[:, None]
    right = np.sqrt(np.broadcast_to(np.asarray(reg, np.float64), m)).astype(real)[:, None]
    scaled = Design(design.rows, design.columns, left, 1 / right).fine
    method = Factored(scaled) if min(n, m) <= MOST_DENSE else Deflated(scaled, FIXED)

    def solve(Y: np.ndarray, start: np.ndarray, before: np.ndarray, pool: Pool) -> np.ndarray:
        if not m:                        # (old versions of LAPACK refuse an empty system)
            return np.zeros((0, *Y.shape[1:]))
        found: np.ndarray = method.solve(left * Y, right * start, pool, before=left * before)
        found /= right
        return found

    return solve


@dataclass
class Factored:
    """(FᵀF + I)⁻¹ FᵀY by Cholesky, factored once, in float64."""

    design: Design
    _factor: tuple[np.ndarray, bool] | None = None

    def solve(self, Y: np.ndarray, start: np.ndarray, pool: Pool, *, before: np.ndarray
              ) -> np.ndarray:
        """Return X (m, k), float64; the start is not used."""
        F = self.design
        if self._factor is None:
            A = F.smaller_gram(np.float64, pool)
            A[np.diag_indices_from(A)] += 1
            self._factor = scipy.linalg.cho_factor(A, lower=True, overwrite_a=True)
        if F.is_tall:
            return np.asarray(scipy.linalg.cho_solve(self._factor, F.turned(Y, pool)))
        return F.turned(scipy.linalg.cho_solve(self._factor, Y), pool).astype(np.float64)


# ----------------------------------------------------------------------- conjugate gradient

@dataclass
class Deflated:
    """(FᵀF + κI)⁻¹ FᵀY by conjugate gradient, until what is left of the error is small.

    The last step begins where, in the norm ‖F X‖² + κ ‖X‖², the error is at most `tolerance` of
    X (where the preconditioner is the inverse: elsewhere about that).
    """

    design: Design
    tolerance: float
    _ritz: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def solve(self, Y: np.ndarray, start: np.ndarray, pool: Pool, kappa: float = 1.0,
              before: np.ndarray | None = None) -> np.ndarray:
        """Return X (m, k), from `start`, one step away from it at least; `before` is F·start.

        It warns with a FitWarning where `CG_STEPS` are too few, and raises DivergenceError where
        residuals are not finite.
        """
        F, real = self.design, self.design.rows.dtype
        tiny, shift = np.finfo(real).tiny, real.type(kappa)
        X: np.ndarray = start.astype(real)
        S = F.times(X, pool) if before is None else before
        R = F.turned(Y - S, pool) - shift * X
        if not R.any():
            return X
        D = Z = self._improved(R, kappa, pool)
        rz, goal = _squares(R, Z), self._goal(S, X, kappa)
        for _ in range(CG_STEPS):
            if not np.isfinite(rz).all():
                raise DivergenceError("the vectors of features overflow; rescale the ratings and "
                                      "the features, or use dtype='float64'")
            T = F.times(D, pool)
            length = (rz / np.maximum(_squares(T, T) + kappa * _squares(D, D), tiny)).astype(real)
            X = X + length * D
            if (rz <= goal).all():
                return X
            S, R = S + length * T, R - length * (F.turned(T, pool) + shift * D)
            Z = self._improved(R, kappa, pool)
            old, rz, goal = rz, _squares(R, Z), self._goal(S, X, kappa)
            D = Z + (rz / np.maximum(old, tiny)).astype(real) * D
        left = self.tolerance * np.sqrt((rz / np.maximum(goal, tiny)).max())
        validation.warn(f"vectors of {F.shape[1]:,} features are not solved: after {CG_STEPS} "
                        f"steps of conjugate gradient {left:.1g} of the error is left; raise "
                        f"their penalty, or leave out features that are nearly the same",
                        FitWarning)
        return X

    def _goal(self, S: np.ndarray, X: np.ndarray, kappa: float) -> np.ndarray:
        return self.tolerance ** 2 * (_squares(S, S) + kappa * _squares(X, X))

    def _improved(self, R: np.ndarray, kappa: float, pool: Pool) -> np.ndarray:
        """Return the preconditioner times R."""
        U, turned, theta = self._found(R.shape[1], pool)
        rest = 1 / (theta[0] + kappa)
        gain = (1 / (theta + kappa) - rest).astype(R.dtype)
        inner: np.ndarray = gain[:, None] * tiled_product(turned, R, pool)
        found: np.ndarray = tiled_product(U, inner, pool)
        found += R.dtype.type(rest) * R
        return found

    def _found(self, width: int, pool: Pool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return U (m, r), Uᵀ and θ (r,), ascending, found once for R of that width."""
        if self._ritz is None:
            F, real = self.design, self.design.rows.dtype
            random = np.random.default_rng(0)
            start = random.standard_normal((F.shape[1], min(RITZ, width, *F.shape)))
            V = np.linalg.qr(F.turned(F.times(start, pool), pool).astype(np.float64))[0]
            theta, W = np.linalg.eigh(V.T @ F.turned(F.times(V, pool), pool).astype(np.float64))
            U = (V @ W).astype(real)
            self._ritz = U, np.ascontiguousarray(U.T), np.maximum(theta, 0)
        return self._ritz


def _squares(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Return Σ X Y of each column, float64."""
    sums: np.ndarray = np.einsum("gf,gf->f", X, Y, dtype=np.float64)
    return sums


# ------------------------------------------------------------------- a penalty that changes

@dataclass
class Shifted:
    """(FᵀF + diag κ)⁻¹ FᵀY for κ that change: what draws the vectors of some fields together.

    κ are one number, or, where features are few enough to factor FᵀF + diag κ each time, one for
    each feature.
    """

    design: Design
    most_dense: int = 256
    _kept: Band | None = None

    def solve(self, Y: np.ndarray, start: np.ndarray, kappa: np.ndarray, pool: Pool) -> np.ndarray:
        """Return X (m, k) for κ (m,); a search begins at `start`.

        Raises DivergenceError where FᵀF is too large for κ to be seen.
        """
        try:
            return self._solved(Y, start, kappa, pool)
        except np.linalg.LinAlgError:
            raise DivergenceError("features are too large, or too unlike each other in size: give "
                                  "their columns standard deviations near 1") from None

    def _solved(self, Y: np.ndarray, start: np.ndarray, kappa: np.ndarray, pool: Pool
                ) -> np.ndarray:
        F, shift = self.design, float(kappa[0])
        n, m = F.shape
        if m <= self.most_dense:
            A = self._gram + np.diag(kappa)
            return np.asarray(scipy.linalg.solve(A, F.turned(Y, pool), assume_a="pos"))
        if self._is_diagonal:
            found: np.ndarray = F.turned(Y, pool) / (self._squares + kappa)[:, None]
            return found
        if 2 * min(n, m) ** 2 * F.rows.dtype.itemsize > BAND_BYTES:
            return self._deflated.solve(Y, start, pool, shift)
        band = self._band(pool)
        if F.is_tall:
            return band.solve(F.turned(Y, pool), shift, pool)
        return F.turned(band.solve(Y, shift, pool), pool)

    @cached_property
    def _gram(self) -> np.ndarray:
        F = self.design.rows
        return np.asarray((F.T @ F).toarray(), np.float64)

    @cached_property
    def _squares(self) -> np.ndarray:
        F = self.design.rows
        return np.asarray(F.multiply(F).sum(axis=0), np.float64).ravel()

    @cached_property
    def _is_diagonal(self) -> bool:
        """Whether no row has two features."""
        return bool(np.diff(self.design.rows.indptr).max(initial=0) <= 1)

    @cached_property
    def _deflated(self) -> Deflated:
        return Deflated(self.design, DRAWN)

    def _band(self, pool: Pool) -> Band:
        if self._kept is None:
            gram = self.design.smaller_gram(self.design.rows.dtype.type, pool)
            self._kept = Band.of(gram, pool)
        return self._kept
