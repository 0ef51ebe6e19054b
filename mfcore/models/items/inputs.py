"""What models of items take from ratings: choices, rows of them, and leading vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore.data.ratings import Ratings
from mfcore.metrics.fitted import Asked, NewRows
from mfcore.models.inputs import check_chosen, stated
from mfcore.solvers.singular import Basis, bytes_needed

# Vectors of "auto", one per number of rows of the smaller side, are between these.
FEWEST_VECTORS, MOST_VECTORS = 16, 512


def inputs(ratings: Ratings, values: str, dtype: str) -> sp.csr_array:
    """Return X of some rows: 1 for each cell above 0 and 0 for others, or the ratings."""
    cells = ratings.by_user
    data = (cells.data > 0).astype(dtype) if values == "binary" else cells.data.astype(dtype)
    return sp.csr_array((data, cells.indices, cells.indptr), shape=cells.shape)


def row_of_each(model: Any, values: str, dtype: str) -> Callable[[Asked], sp.csr_array]:
    """Return what gives X of users of the fit, or of new ones."""
    def rows_of(asked: Asked) -> sp.csr_array:
        if isinstance(asked, NewRows):
            return inputs(asked.known(model.n_items_), values, dtype)
        model.check_seen()
        return inputs(Ratings(model.ratings_.cells_of(asked), copy=False), values, dtype)

    return rows_of


def check_choices(ratings: Ratings, values: str, dtype: str) -> None:
    """Raise for ratings that cannot be taken as choices, as they are or as those above 0."""
    data = ratings.by_user.data
    if values == "raw" and data.sum(dtype=np.float64) > np.finfo(dtype).max:
        raise ValueError(f"ratings are too large for {dtype} with values='raw', up to "
                         f"{data.max():g}; rescale them, or take values='binary'")
    if values == "raw" and data.min(initial=0) < 0:
        raise ValueError(f"ratings must be >= 0 with values='raw', got {data.min():g}; "
                         f"values='binary' takes those above 0 as chosen")
    check_chosen(ratings)


def n_vectors(n_factors: int | str, shape: tuple[int, int], per_vector: int) -> int:
    """Return the number of singular vectors; "auto": one per `per_vector` of the smaller side."""
    if isinstance(n_factors, str):
        least = min(shape)
        wanted = min(max(least // per_vector, FEWEST_VECTORS), MOST_VECTORS)
        return max(1, min(wanted, least // 2))
    return n_factors


def check_vectors(ratings: Ratings, k: int, memory: float, dtype: str) -> None:
    """Raise for more vectors than the memory holds."""
    size = np.dtype(dtype).itemsize
    needed, least = (bytes_needed(each, ratings.shape, ratings.nnz, size) / 1e9 for each in (k, 1))
    if needed > memory:
        raise ValueError(f"memory must be at least {stated(needed)} gigabytes for {k} vectors of "
                         f"ratings of shape {ratings.shape} in {dtype} ({stated(least)} for one), "
                         f"got {memory:g}; lower n_factors, or raise memory")


def leading(at: Basis, k: int, scale: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the singular values and vectors that a model keeps, rows of vectors scaled.

    Those that ratings do not have are zeros.  Before the first epoch all are, and take no memory.
    """
    sigma, kept = np.zeros(k), min(k, len(at.theta))
    sigma[:kept] = np.sqrt(at.theta[:k])
    V = np.zeros((len(at.Q), k), at.Q.dtype)
    if at.theta.any():
        V[:, :kept] = at.Q[:, :k]
        if scale is not None:
            V *= scale[:, None]
    return sigma, V
