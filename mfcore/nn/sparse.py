"""The first layer over sparse rows: y = φ(X W + b), with X a CSR batch.

    z_u = Σ_{i stored in row u} x_ui W_i + b
    dW_i = Σ_{u: i stored} x_ui dz_u                  zero, and unwritten, for other rows i

Nothing of the size of n_in is touched but the rows of W that the batch names; X is data,
so that there is no dX.  The cells are sorted by column once a pass, so that each thread owns
the rows it writes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore.kernels import nn_sparse as kernels
from mfcore.nn.layers import Linear, Run, expect
from mfcore.nn.parameters import Rows
from mfcore.parallel import Pool, equal_cost_chunks


class SparseLinear(Linear):
    """y = φ(X W + b) for a scipy CSR batch X, shape (n, n_in)."""

    def forward(self, x: sp.csr_array, run: Run) -> tuple[np.ndarray, Any]:
        """Return y, shape (n, n_out)."""
        W = self.W.value
        expect(self, x, W.shape[0])
        if not sp.issparse(x) or x.format != "csr":
            raise TypeError(f"{self!r} must be given a CSR batch, got {type(x).__name__}")
        x = x if x.dtype == W.dtype else x.astype(W.dtype)
        y, z = self.activation.forward(times(x, W, run.pool), self.b.value)
        return y, (x, y, z)

    def weight_gradient(self, x: sp.csr_array, dz: np.ndarray, pool: Pool) -> Rows:
        """Return dW, of the rows that the batch names."""
        return transposed_times(x, dz, pool)

    def input_gradient(self, dz: np.ndarray, pool: Pool) -> None:
        """Return nothing: the batch is data."""

    def on_blocks(self) -> Linear:
        """Return a layer of the same parameters for dense batches."""
        layer = Linear.__new__(Linear)
        layer.activation, layer.W, layer.b = self.activation, self.W, self.b
        return layer


def times(X: sp.csr_array, W: np.ndarray, pool: Pool) -> np.ndarray:
    """Return X W, shape (n, k), for a CSR X (n, m) and W (m, k)."""
    out = np.empty((X.shape[0], W.shape[1]), W.dtype)
    pool.over_rows(lambda lo, hi: kernels.sparse_product(X.indptr, X.indices, X.data, W, out,
                                                         lo, hi), X.indptr)
    return out


def transposed_times(X: sp.csr_array, G: np.ndarray, pool: Pool) -> Rows:
    """Return Xᵀ G as the rows that X names, for a CSR X (n, m) and G (n, k)."""
    n_most = min(X.nnz, X.shape[1])
    columns, starts = np.empty(n_most, np.int64), np.empty(n_most + 1, np.int64)
    rows, cells = np.empty(X.nnz, np.int32), np.empty(X.nnz, np.int64)
    n = kernels.by_column(X.indptr, X.indices, np.zeros(X.shape[1], np.int64), columns, starts,
                          rows, cells)
    out = np.empty((n, G.shape[1]), G.dtype)
    bounds = equal_cost_chunks(starts[:n + 1]).tolist() if n else [0, 0]
    pool.map(lambda lo, hi: kernels.transposed_product(starts, rows, cells, X.data, G, out,
                                                       lo, hi),
             list(zip(bounds[:-1], bounds[1:], strict=True)))
    return Rows(columns[:n], out)
