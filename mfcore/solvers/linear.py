"""The minimum of the linear autoencoder, in one step and in one matrix.

Inverse.  Cut a symmetric positive definite A into blocks; K is one of them, R all others.
Solving y = A x for x_K leaves

    x_K = D (y_K − A_KR x_R),                              D = A_KK⁻¹
    y_R = A_RK x_K + A_RR x_R = A_RK D y_K + (A_RR − A_RK D A_KR) x_R

so that exchanging x_K and y_K turns the matrix, with the sign of y_K changed, into

    [ −D        D A_KR              ]
    [ A_RK D    A_RR − A_RK D A_KR  ]                      symmetric again

Exchanging every block once gives x = A⁻¹ y, and the matrix is −A⁻¹.  Each pivot A_KK on the
way is a Schur complement of A, positive definite too, so that no pivoting is needed for
stability.  With the lower triangle alone it takes n³ multiplications, as many as an inverse by
Cholesky, but nearly all of them in products of large blocks, which threads share tile by tile.

Sources: Goodnight 1979 (the sweep operator); Bauer, Reinsch 1971 (stability for positive
definite matrices).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import get_lapack_funcs

from mfcore.objectives.linear import LinearAutoencoder
from mfcore.parallel import Pool, row_chunks
from mfcore.solvers.loop import Solver
from mfcore.validation import DivergenceError

TILE = 512      # rows of a tile and of a pivot: two tiles and their product fit into a core's cache


@dataclass
class Weights:
    """The learned matrix B, shape (n_items, n_items)."""

    B: np.ndarray

    def copy(self) -> Weights:
        """Return these weights themselves: there is one epoch, and memory for one matrix."""
        return self


@dataclass(frozen=True)
class ClosedForm(Solver):
    """Computes Gram, inverse and B in the same memory."""

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


def invert(A: np.ndarray, pool: Pool, tile: int = TILE) -> None:
    """Replace symmetric positive definite A (n, n), its lower triangle given, by A⁻¹.

    Raises DivergenceError, with A half done, if A is not positive definite in its precision.
    """
    cuts = row_chunks(len(A), tile)
    for number, (lo, hi) in enumerate(cuts):
        D = _small_inverse(A[lo:hi, lo:hi], lo)
        C = np.concatenate([A[lo:hi, :lo].T, np.zeros_like(D), A[hi:, lo:hi]])
        T = np.empty_like(C)
        pool.map(lambda start, stop, C=C, D=D, T=T:
                 np.matmul(C[start:stop], D, out=T[start:stop]), cuts)
        _update(A, T, C, cuts, number, pool)
        A[lo:hi, :lo], A[hi:, lo:hi], A[lo:hi, lo:hi] = T[:lo].T, T[hi:], -D
    pool.map(lambda *cut: _finish(A, cuts, cut), cuts)


def _small_inverse(block: np.ndarray, start: int) -> np.ndarray:
    """Return the inverse of a block whose lower triangle is given."""
    potrf, potri = get_lapack_funcs(("potrf", "potri"), (block,))
    # Its transpose is in LAPACK's order, with the given triangle as the upper one.
    factor, info = potrf(block.T.copy(order="F"), lower=0)
    if info == 0:
        inverse, info = potri(factor, lower=0)
    if info:
        raise DivergenceError(f"the matrix is not positive definite at row {start + info - 1}; "
                              f"raise reg, or use dtype='float64'")
    upper = np.triu(inverse)
    whole: np.ndarray = np.ascontiguousarray(upper + np.triu(inverse, 1).T)
    return whole


def _update(A: np.ndarray, T: np.ndarray, C: np.ndarray, cuts: list[tuple[int, int]],
            pivot: int, pool: Pool) -> None:
    """Subtract T Cᵀ from the lower triangle of A, except in the pivot's rows and columns."""
    def some(row: tuple[int, int], column: tuple[int, int]) -> None:
        A[slice(*row), slice(*column)] -= T[slice(*row)] @ C[slice(*column)].T

    pool.map(some, [(row, column) for i, row in enumerate(cuts) if i != pivot
                    for j, column in enumerate(cuts[:i + 1]) if j != pivot])


def _finish(A: np.ndarray, cuts: list[tuple[int, int]], row: tuple[int, int]) -> None:
    """Turn −A⁻¹ of the lower triangle into A⁻¹, in the tiles of a row and their mirror."""
    rows = slice(*row)
    for column in cuts:
        if column[1] <= row[0]:
            columns = slice(*column)
            np.negative(A[rows, columns], out=A[rows, columns])
            A[columns, rows] = A[rows, columns].T
    block = -np.tril(A[rows, rows])
    A[rows, rows] = block + np.tril(block, -1).T
