"""What layers compute with: rows by number, and products, sparse and dense.

A batch of cells names popular rows again and again.  Layers that compute once for each row
that occurs need the distinct rows, and the place of each cell's row among them.  They are found
once for all layers that read the batch.

Products have the same bits for any number of threads.  Those with a CSR batch touch only the
rows of W that it names; its cells are sorted by column once per pass, so that each thread owns
the rows it writes.  A dense product is cut into fixed tiles.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from mfcore.kernels import nn_rows, nn_sparse
from mfcore.nn.parameters import Rows, sorting
from mfcore.parallel import Pool, row_chunks

TILE_PRODUCTS = 1 << 24     # multiplications per tile, about: a fifth of a millisecond
MAX_TILES = 16              # tiles per product, at most
GROUP = 16                  # rows of each product of `product_apart`, as many as BLAS unrolls


class Distinct(NamedTuple):
    """The rows that a column names.

    rows : ndarray, shape (d,), ascending, without −1; counts : how often each is named
    place : ndarray, shape (n,), where each cell's row is in `rows`; −1 for row −1
    least : the smallest number, 0 if there are no cells
    """

    rows: np.ndarray
    counts: np.ndarray
    place: np.ndarray
    least: int


class RowNumbers:
    """Numbers of rows, shape (n, n_columns): one column for each side of a pair.

    Parameters
    ----------
    x : ndarray of int, shape (n, n_columns)
        −1 is an unknown row.
    """

    def __init__(self, x: np.ndarray) -> None:
        self.x = x
        self._columns: dict[int, np.ndarray] = {}
        self._distinct: dict[int, Distinct] = {}

    def __len__(self) -> int:
        return len(self.x)

    def column(self, number: int) -> np.ndarray:
        """Return a column, contiguous."""
        if number not in self._columns:
            self._columns[number] = np.ascontiguousarray(self.x[:, number])
        return self._columns[number]

    def distinct(self, number: int) -> Distinct:
        """Return the distinct rows of a column."""
        if number not in self._distinct:
            self._distinct[number] = _distinct(self.column(number))
        return self._distinct[number]


def _distinct(rows: np.ndarray) -> Distinct:
    order = sorting(rows)
    place, found = np.full(len(rows), -1), np.empty(len(order), rows.dtype)
    counts = np.empty(len(order), np.int64)
    n = nn_rows.number_rows(rows, order, found, counts, place)
    return Distinct(found[:n], counts[:n], place, int(rows.min(initial=0)))


def numbered(x: np.ndarray | RowNumbers) -> RowNumbers:
    """Return x as `RowNumbers`."""
    return x if isinstance(x, RowNumbers) else RowNumbers(x)


def with_values(X: sp.csr_array, values: np.ndarray) -> sp.csr_array:
    """Return X with other values in its stored cells."""
    return sp.csr_array((values, X.indices, X.indptr), shape=X.shape)


def times(X: sp.csr_array, W: np.ndarray, pool: Pool) -> np.ndarray:
    """Return X W, shape (n, k), for a CSR X (n, m) and W (m, k)."""
    out = np.empty((X.shape[0], W.shape[1]), W.dtype)
    pool.over_rows(lambda lo, hi: nn_sparse.sparse_product(
        X.indptr, X.indices, X.data, W, out, lo, hi), X.indptr)
    return out


def transposed_times(X: sp.csr_array, G: np.ndarray, pool: Pool) -> Rows:
    """Return Xᵀ G as the rows that X names, for a CSR X (n, m) and G (n, k)."""
    n_most = min(X.nnz, X.shape[1])
    columns, starts = np.empty(n_most, np.int64), np.empty(n_most + 1, np.int64)
    rows, cells = np.empty(X.nnz, np.int32), np.empty(X.nnz, np.int64)
    n = nn_sparse.by_column(X.indptr, X.indices, np.zeros(X.shape[1], np.int64), columns, starts,
                            rows, cells)
    out = np.empty((n, G.shape[1]), G.dtype)
    pool.over_rows(lambda lo, hi: nn_sparse.transposed_product(
        starts, rows, cells, X.data, G, out, lo, hi), starts[:n + 1])
    return Rows(columns[:n], out)


def product(X: np.ndarray, Y: np.ndarray, pool: Pool) -> np.ndarray:
    """Return X @ Y, shape (n, k), cut along the longer side of the result.

    The cuts depend only on the shapes.
    """
    n, k = X.shape[0], Y.shape[1]
    longer = max(n, k)
    n_tiles = min(MAX_TILES, n * k * X.shape[1] // TILE_PRODUCTS, longer)
    out: np.ndarray = np.empty((n, k), np.result_type(X, Y))
    if X.shape[1] == 1:                       # an outer product: BLAS would take ten times as long
        np.multiply(X, Y, out=out)
        return out
    if n_tiles < 2:
        np.matmul(X, Y, out=out)
        return out

    @np.errstate(over="ignore", invalid="ignore")       # (a thread does not inherit its caller's)
    def tile(start: int, stop: int) -> None:
        if n >= k:
            np.matmul(X[start:stop], Y, out=out[start:stop])
        else:
            np.matmul(X, Y[:, start:stop], out=out[:, start:stop])

    pool.map(tile, row_chunks(longer, -(-longer // n_tiles)))
    return out


def product_apart(X: np.ndarray, Y: np.ndarray, pool: Pool) -> np.ndarray:
    """Return X @ Y, shape (n, k), of groups of rows: a row's bits do not depend on the others.

    BLAS rounds by the shape of a product.  So each product has `GROUP` rows, the last ones zero
    where there are fewer.
    """
    (n, width), k = X.shape, Y.shape[1]
    n_groups = -(-n // GROUP)
    groups, out = np.zeros((n_groups, GROUP, width), X.dtype), \
        np.empty((n_groups, GROUP, k), np.result_type(X, Y))
    groups.reshape(-1, width)[:n] = X
    pool.map(lambda lo, hi: np.matmul(groups[lo:hi], Y, out=out[lo:hi]),
             row_chunks(n_groups, GROUP))
    product: np.ndarray = out.reshape(-1, k)[:n]
    return product
