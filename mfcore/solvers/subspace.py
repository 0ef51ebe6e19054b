"""Subspace ALS (iALS++): exact steps in blocks of dimensions, all blocks of a side in turn.

A row system of k dimensions costs nnz k² + n k³/3 to solve exactly; k / B blocks of B
dimensions cost nnz k B + n k B²/3.  An epoch steps once through all blocks of all items,
then of all users.  Blocks are cut from the eigenbasis of the frozen side's Gram:

    VᵀQᵀQV = D, diagonal     P → PV, Q → QV, prior means → MV     scores and ‖·‖ stay

In it the sum over all cells couples no two blocks, so that a step differs from the exact
half-sweep by the stored cells alone.  Scores are kept for one row at a time and computed again in
the next half-sweep, so there is no array of all cells; the loss is summed from them.  The step
itself is derived in kernels/subspace.py.

Measured once with 256 factors on 0.9M cells of 6,040 x 3,706, w0 = 0.1: an epoch takes 2.1
CPU-seconds with blocks of 32 or 64, 5.3 with Cholesky (the same loss after six epochs, 425k) and
0.4 with two steps of conjugate gradient (417k).  A block takes about 2 k B flops per cell and
half-sweep, s steps take 4 (s + 1) k.  So blocks are for rows so badly conditioned that two steps
are not enough.

Source: Rendle, Krichene, Zhang, Koren 2021, "iALS++: Speeding up Matrix Factorization with
Subspace Optimization".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mfcore.kernels.cg import padded
from mfcore.kernels.subspace import row_solver
from mfcore.objectives.quadratic import RowSystems
from mfcore.parallel import Pool, gram, tiled_product
from mfcore.solvers.als import Alternating
from mfcore.validation import DivergenceError

LANES = 16


def block_shape(k: int, block_size: int) -> tuple[int, int]:
    """Return the number of blocks and their width: k cut evenly, rounded up to 16s."""
    n_blocks = -(-k // (LANES * -(-block_size // LANES)))
    return n_blocks, LANES * -(-k // (n_blocks * LANES))


def step_through_blocks(systems: RowSystems, P: np.ndarray, beta: np.ndarray, pool: Pool,
                        block_size: int, noise: np.ndarray | None = None) -> float:
    """Solve each block of dimensions of every row once, in place; else as `solve_exactly`.

    block_size : int, >= 1
        Dimensions solved together, rounded up to a multiple of 16; from k on, the solution
        is exact.
    noise : ndarray, shape (n_rows, n_blocks · d), or None
        To draw each block given the others, N(0, 1/τ) where d is the width of a block, and 1 for a
        learned bias.  w0 is then 0, `common` diagonal, and blocks are cut from the factors as
        they are.
    """
    basis = _Blocks(systems, P.dtype, pool, block_size, turns=noise is None)
    penalty, turned = systems.penalty, basis.turn(P, pool)
    kernel = row_solver(basis.width)
    e = np.empty((0, basis.width), P.dtype) if noise is None else \
        noise.reshape(len(P) * len(basis.D), -1)
    fixed = (*systems.cells, basis.Q, systems.gamma, basis.sizes, basis.D, basis.v, basis.g,
             basis.whole, penalty.reg, penalty.bias_reg,
             basis.turn(penalty.means.astype(P.dtype, copy=False), pool), penalty.bias_means, e)
    parts = pool.over_rows(lambda lo, hi: kernel(*fixed, turned, beta, lo, hi),
                           systems.cells.indptr, 8 + basis.width / 4)
    failed = [row for _, row in parts if row >= 0]
    if failed:
        raise DivergenceError(f"a block of row {failed[0]} has no finite solution: its "
                              f"ratings, weights or factors are too large for {P.dtype}; "
                              f"raise reg, rescale the ratings or use dtype='float64'")
    basis.turn_back(turned, P, pool)
    return float(sum(known for known, _ in parts))


def noise_width(k: int, block_size: int, learns_bias: bool) -> int:
    """Return the length of a row of noise of `step_through_blocks`."""
    n_blocks, width = block_shape(k, block_size)
    return n_blocks * (width + learns_bias)


class _Blocks:
    """The frozen side in the eigenbasis of its Gram, largest first, cut into blocks.

    With turns=False it is cut as it is, and D is the diagonal of `common`.
    """

    def __init__(self, systems: RowSystems, dtype: np.dtype, pool: Pool, block_size: int, *,
                 turns: bool = True) -> None:
        k = systems.Q.shape[1]
        n_blocks, self.width = block_shape(k, block_size)
        A0, c0, c1 = systems.whole_matrix(pool)
        self.n_columns = n_blocks * self.width
        turn, D = np.zeros((k, self.n_columns)), np.zeros(self.n_columns)
        turn[:, :k] = np.eye(k)
        self.V: np.ndarray | None = None
        if turns:
            G = A0[:k, :k] if systems.w0 else gram(systems.Q, pool)
            if not np.isfinite(G).all():
                raise DivergenceError("the factors overflow; raise reg or rescale the ratings")
            values, vectors = np.linalg.eigh(G)
            turn[:, :k] = vectors[:, ::-1]
            D[:k] = np.maximum(values[::-1], 0.0) * (systems.w0 != 0)
            self.V = turn.astype(dtype)
        else:
            D[:k] = np.diag(A0)[:k]
        self.Q = self.turn(systems.Q, pool)
        Q = self.Q.reshape(len(systems.Q), -1)
        self.sizes = np.einsum("if,if->i", Q, Q)
        self.D = D.reshape(n_blocks, -1).astype(dtype)
        self.v, self.g = ((-c[:k] @ turn).reshape(n_blocks, -1).astype(dtype) for c in (c1, c0))
        self.whole = np.array([1.0, A0[k, k], -c0[k]]) if systems.learns_bias else np.zeros(3)

    def turn(self, X: np.ndarray, pool: Pool) -> np.ndarray:
        """Return X V with the blocks of a row one below another, (n · n_blocks, width)."""
        if self.V is None:
            return padded(X, self.n_columns).reshape(-1, self.width)
        return tiled_product(X, self.V, pool).reshape(-1, self.width)

    def turn_back(self, turned: np.ndarray, out: np.ndarray, pool: Pool) -> None:
        """Write the result of `turn` to `out`, shape (n, k), in the original basis."""
        rows = turned.reshape(len(out), -1)
        if self.V is None:
            out[...] = rows[:, :out.shape[1]]
        else:
            tiled_product(rows, np.ascontiguousarray(self.V.T), pool, out=out)


@dataclass
class Subspace(Alternating):
    """Subspace ALS on one problem: see `mfcore.solvers.loop.Solver`.

    Parameters
    ----------
    problem : Quadratic
    block_size : int
        Dimensions solved together, rounded up to a multiple of 16; larger blocks need fewer
        but slower epochs.
    """

    block_size: int = 32

    def _half(self, systems: RowSystems, X: np.ndarray, bias: np.ndarray, pool: Pool) -> float:
        return step_through_blocks(systems, X, bias, pool, self.block_size)
