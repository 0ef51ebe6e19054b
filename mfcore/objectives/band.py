"""A symmetric matrix as Q B Qᵀ, with Q orthogonal and B a band: solved for every shift of it.

Column block by column block, the part of A below the band is reflected away from both sides.  With
panel = (I − V T Vᵀ) R (Householder, compact), S the rest of A, and H = I − V T Vᵀ,

    Hᵀ S H = S − V Wᵀ − W Vᵀ,       W = S V T − ½ V Tᵀ (Vᵀ S V T)

so that only products of matrices are left.  Q is the product of all H, built from the last.

    (A + κ I)⁻¹ C = Q (B + κ I)⁻¹ Qᵀ C

Source: Bischof, Lang, Sun 2000.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from mfcore.parallel import Pool, row_chunks, tiled_product

WIDTH = 64
TILE = 512


@dataclass(frozen=True)
class Band:
    """Q (p, p), Qᵀ, and B (b + 1, p) as LAPACK stores a lower band."""

    Q: np.ndarray
    turned: np.ndarray
    B: np.ndarray

    @classmethod
    def of(cls, A: np.ndarray, pool: Pool, width: int = WIDTH) -> Band:
        """Return the band of a symmetric matrix, which is overwritten."""
        reflections = _reflected(A, width, pool)
        B = np.zeros((min(width, len(A) - 1) + 1, len(A)), A.dtype)
        for below in range(len(B)):
            B[below, :len(A) - below] = np.diagonal(A, -below)
        Q = A
        Q[...] = 0
        Q[np.diag_indices_from(Q)] = 1
        for at, V, T in reversed(reflections):
            rest = Q[at:, at:]
            _subtract(rest, V, T @ tiled_product(rest.T, V, pool).T, pool)
        return cls(Q, np.ascontiguousarray(Q.T), B)

    def solve(self, C: np.ndarray, kappa: float, pool: Pool) -> np.ndarray:
        """Return (A + κI)⁻¹ C, shape (p, k)."""
        B = self.B.copy()
        B[0] += B.dtype.type(kappa)
        inner = tiled_product(self.turned, C.astype(B.dtype, copy=False), pool)
        inner = scipy.linalg.solveh_banded(B, inner, overwrite_ab=True, overwrite_b=True,
                                           lower=True, check_finite=False)
        return tiled_product(self.Q, np.ascontiguousarray(inner), pool)


def _reflected(A: np.ndarray, width: int, pool: Pool
               ) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Bring A to a band in place; return where each reflection begins, its V and its T."""
    geqrf, = scipy.linalg.get_lapack_funcs(("geqrf",), (A,))
    found = []
    for at in range(width, len(A) - 1, width):
        panel = A[at:, at - width:at]
        packed, tau, _, _ = geqrf(panel)
        height = min(packed.shape)
        V = np.tril(packed[:, :height], -1)
        V[np.arange(height), np.arange(height)] = 1
        T = _triangle(V, tau)
        R = np.zeros_like(panel)
        R[:height] = np.triu(packed[:height])
        panel[...], A[at - width:at, at:] = R, R.T
        S = A[at:, at:]
        W = tiled_product(S, V @ T, pool)
        W -= V @ (T.T @ (V.T @ W) / 2)
        both, other = np.hstack([V, W]), np.ascontiguousarray(np.hstack([W, V]).T)
        _subtract(S, both, other, pool)
        found.append((at, V, T))
    return found


def _subtract(S: np.ndarray, X: np.ndarray, Y: np.ndarray, pool: Pool) -> None:
    """Take X Y from S in place, in fixed tiles of rows."""
    def tile(start: int, stop: int) -> None:
        S[start:stop] -= X[start:stop] @ Y

    pool.map(tile, row_chunks(len(S), TILE))


def _triangle(V: np.ndarray, tau: np.ndarray) -> np.ndarray:
    """Return T, upper triangular, of the reflections I − τ_j v_j v_jᵀ in turn: I − V T Vᵀ."""
    T, inner = np.diag(tau), V.T @ V
    for j in range(1, len(tau)):
        T[:j, j] = -tau[j] * (T[:j, :j] @ inner[:j, j])
    return T
