"""Hypothesis strategies for small ratings with everything that real ones surprise with.

Among the examples, and reached by shrinking: a 1 x 1 matrix, users and items without
ratings, no rating at all (`min_nnz=0`), stored zeros, weights of zero, whole and half
stars and floats that float32 cannot hold, int32 and int64 indices, read-only and
non-contiguous arrays, unsorted rows, integer and string ids.

    @given(strategies.ratings(max_users=6))
    def test_claim(ratings): ...

Numbers are drawn away from 0 and 1 where a wrong factor could hide behind them:
`coefficients` for penalties and weights, `factors` for factor matrices.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from hypothesis import strategies as st

from mfcore.data.ratings import Ratings

HALF_STARS = st.integers(0, 10).map(lambda halves: halves / 2)
# (Ratings that differ by less than 1e-10 are refused.)
FLOATS = st.floats(-100, 100, allow_nan=False, width=64).map(lambda value: round(value, 8))
STORED = st.one_of(HALF_STARS, FLOATS)
WEIGHTS = st.sampled_from([0.0, 0.25, 0.7, 1.0, 2.0, 3.5])
INDEX_TYPES = st.sampled_from([np.int32, np.int64])
seeds = st.integers(0, 2**32 - 1)
n_factors = st.integers(1, 9)
# Neither 0 nor 1, and no value twice the other.
coefficients = st.sampled_from([0.03, 0.17, 0.45, 1.3, 2.9])


def shapes(max_users: int = 6, max_items: int = 6) -> st.SearchStrategy[tuple[int, int]]:
    """(n_users, n_items), from (1, 1)."""
    return st.tuples(st.integers(1, max_users), st.integers(1, max_items))


def awkward(array: np.ndarray, layout: str) -> np.ndarray:
    """Return the same numbers as a "plain", "read-only" or "strided" array."""
    if layout == "strided":
        wide = np.zeros((array.shape[0], 2, *array.shape[1:]), array.dtype)
        wide[:, 0] = array
        return wide[:, 0]
    array = array.copy()
    array.flags.writeable = layout != "read-only"
    return array


layouts = st.sampled_from(["plain", "read-only", "strided"])


@st.composite
def csr_matrices(draw: Any, max_users: int = 6, max_items: int = 6, *, min_nnz: int = 1,
                 values: st.SearchStrategy[float] = STORED) -> sp.csr_array:
    """A canonical or row-unsorted CSR matrix without repeated cells; zeros are stored."""
    n_users, n_items = draw(shapes(max_users, max_items))
    size = n_users * n_items
    cells = draw(st.lists(st.integers(0, size - 1), unique=True,
                          min_size=min(min_nnz, size), max_size=size))
    if draw(st.booleans()):
        cells.sort()
    rows, columns = np.divmod(np.array(cells, np.int64), n_items)
    order = np.argsort(rows, kind="stable")
    indptr = np.zeros(n_users + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=n_users), out=indptr[1:])
    data = draw(st.lists(values, min_size=len(cells), max_size=len(cells)))
    return _assembled(np.array(data, np.float64), columns[order], indptr, (n_users, n_items),
                      draw(INDEX_TYPES), draw(layouts))


def _assembled(data: np.ndarray, indices: np.ndarray, indptr: np.ndarray,
               shape: tuple[int, int], index_type: Any, layout: str) -> sp.csr_array:
    """Set the arrays past SciPy's constructor, which would tidy types and layout."""
    matrix = sp.csr_array(shape)
    matrix.data = awkward(data, layout)
    matrix.indices = awkward(indices.astype(index_type), layout)
    matrix.indptr = awkward(indptr.astype(index_type), layout)
    return matrix


def ids(size: int) -> st.SearchStrategy[Any]:
    """Distinct integers (negative ones too) or distinct strings."""
    integers = st.lists(st.integers(-2**40, 2**40), min_size=size, max_size=size, unique=True)
    strings = st.lists(st.text(max_size=3), min_size=size, max_size=size, unique=True)
    return st.one_of(integers, strings)


@st.composite
def ratings(draw: Any, max_users: int = 6, max_items: int = 6, *, min_nnz: int = 1,
            values: st.SearchStrategy[float] = STORED, weighted: bool | None = None,
            named: bool | None = None) -> Ratings:
    """Draw Ratings; `weighted`, `named`: with weights (ids), without, or either (None)."""
    matrix = draw(csr_matrices(max_users, max_items, min_nnz=min_nnz, values=values))
    weights = user_ids = item_ids = None
    if draw(st.booleans()) if weighted is None else weighted:
        weights = np.array(draw(st.lists(WEIGHTS, min_size=matrix.nnz, max_size=matrix.nnz)))
    if draw(st.booleans()) if named is None else named:
        user_ids, item_ids = draw(ids(matrix.shape[0])), draw(ids(matrix.shape[1]))
    return Ratings(matrix, weights=weights, user_ids=user_ids, item_ids=item_ids)


@st.composite
def factors(draw: Any, n_rows: int, n_columns: int, dtype: Any = np.float64) -> np.ndarray:
    """A factor matrix of normal numbers, in any layout."""
    X = np.random.default_rng(draw(seeds)).normal(size=(n_rows, n_columns))
    return awkward(X.astype(dtype), draw(layouts))
