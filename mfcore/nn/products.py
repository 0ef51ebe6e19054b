"""Dense products in fixed tiles on the pool: the same bits for any number of threads."""

from __future__ import annotations

import numpy as np

from mfcore.parallel import Pool, row_chunks

# A tile holds about so many multiplications (a fifth of a millisecond), and a product at
# most so many tiles.
TILE_PRODUCTS = 1 << 24
MAX_TILES = 16


def product(X: np.ndarray, Y: np.ndarray, pool: Pool) -> np.ndarray:
    """Return X @ Y, shape (n, k), cut along the longer side of the result.

    The cuts are a function of the shapes alone.
    """
    n, k = X.shape[0], Y.shape[1]
    n_tiles = min(MAX_TILES, n * k * X.shape[1] // TILE_PRODUCTS, max(n, k))
    out: np.ndarray = np.empty((n, k), np.result_type(X, Y))
    if X.shape[1] == 1:                       # an outer product: BLAS takes ten times as long
        np.multiply(X, Y, out=out)
        return out
    if n_tiles < 2:
        np.matmul(X, Y, out=out)
        return out

    @np.errstate(over="ignore", invalid="ignore")               # (the caller's is not ours)
    def rows(start: int, stop: int) -> None:
        np.matmul(X[start:stop], Y, out=out[start:stop])

    @np.errstate(over="ignore", invalid="ignore")
    def columns(start: int, stop: int) -> None:
        np.matmul(X, Y[:, start:stop], out=out[:, start:stop])

    longer = max(n, k)
    pool.map(rows if n >= k else columns, row_chunks(longer, -(-longer // n_tiles)))
    return out
