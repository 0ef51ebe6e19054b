"""Exact half-sweeps: rows of few cells by a system of their cells (kernels/dual.py), before others.

Where w0 > 0, such rows are solved in the eigenbasis of the frozen side's Gram, as those of
conjugate gradient are.  That costs a product with all of the frozen side, so that it is for
training, where rows are many; a new row is folded in by the other system, which has the same
solution.  No decision depends on more than the row and k, so that parts of a side on other
machines get the same bits.
"""

from __future__ import annotations

import numpy as np

from mfcore.kernels.dual import solve_short_rows, turn_rows
from mfcore.objectives.factors import WholeMatrix
from mfcore.objectives.quadratic import RowSystems
from mfcore.parallel import Pool, row_chunks

LEAST = 192              # factors: with 160, systems of cells take as long as those of factors
TILE = 256               # rows of the frozen side that are turned together


def short_parts(systems: RowSystems, whole: WholeMatrix, P: np.ndarray, beta: np.ndarray,
                pool: Pool, bounds: np.ndarray, done: np.ndarray, *, many: bool) -> list[float]:
    """Solve rows of few cells in place, and set `done` for them.

    done : bool, shape (n_rows,); rows that are solved already stay as they are
    many : whether the rows are all of a side, or a part of it
    Returns what they add to Σ_Ω in each chunk.
    """
    lo, hi = int(bounds[0]), int(bounds[-1])
    k, d, penalty, real = P.shape[1], systems.n_free, systems.penalty, P.dtype
    turns = systems.w0 > 0
    none = [0.0] * (len(bounds) - 1)
    if k < LEAST or systems.common is not None or not (
            np.diff(systems.cells.indptr[lo:hi + 1]) <= d // 2).any():
        return none
    if turns and (d > k or not many or len(penalty.means) > 1):
        return none
    T, D, c0, c1 = systems.Q, np.zeros(k), whole.c0, whole.c1
    means = penalty.means
    if turns:
        if not np.isfinite(whole.A0).all():
            return none                                 # (which the other system will tell)
        D, V = np.linalg.eigh(whole.A0)
        D, c0, c1, means = np.maximum(D, 0.0), c0 @ V, c1 @ V, means @ V
        V = V.astype(real)
        T, nowhere = np.empty(systems.Q.shape, real), np.zeros(len(systems.Q), bool)
        pool.map(lambda *tile: turn_rows(systems.Q, V, T, nowhere, *tile),
                 list(row_chunks(len(T), TILE)))
        back = np.ascontiguousarray(V.T)
    rest = (T, *(each.astype(real) for each in (D, c0, c1)), penalty.reg, penalty.bias_reg,
            means.astype(real, copy=False), penalty.bias_means, P, beta, done)
    given = done.copy()

    def solved(lo: int, hi: int) -> float:
        known = solve_short_rows(*systems.cells, systems.Q, systems.gamma, *rest, lo, hi)
        if turns:
            own = slice(lo, hi)
            turn_rows(P[own], back, P[own], given[own] | ~done[own], 0, hi - lo)
        return float(known)

    return pool.over_chunks(solved, bounds)
