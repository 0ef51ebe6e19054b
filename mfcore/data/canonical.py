"""Canonical CSR: sorted, without duplicates, finite, in the smallest lossless types, frozen."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.chunks import cells_of_rows
from mfcore.kernels.sorting import counting_order

Duplicates = Literal["error", "last", "mean", "sum"]
R = TypeVar("R", bound=Any)         # Ratings


def no_matrix(name: str, given: Any) -> TypeError:
    """Return the error for anything but a scipy sparse matrix."""
    shape = getattr(given, "shape", None)
    return TypeError(f"{name} must be Ratings or a scipy sparse matrix, got {type(given).__name__}"
                     f"{'' if shape is None else f' of shape {shape}'}; "
                     f"scipy.sparse.csr_array(dense) makes one out of users × items (its zeros "
                     f"count as missing), Ratings.from_frame out of one row per rating")


def canonical_csr(matrix: Any, copy: bool, name: str = "ratings") -> sp.csr_array:
    """Return a read-only canonical CSR of any scipy sparse matrix."""
    if not sp.issparse(matrix):
        raise no_matrix(name, matrix)
    if matrix.ndim != 2:
        raise ValueError(f"{name} must have two dimensions, got shape {matrix.shape}")
    stored = matrix.nnz
    csr = sp.csr_array(check_layout(name, matrix))
    if not csr.has_canonical_format:
        csr = csr.copy()
        csr.sum_duplicates()
    if csr.nnz != stored:
        raise ValueError(f"{name} must hold each (user, item) once, got {stored} cells of "
                         f"which {csr.nnz} differ; Ratings.from_arrays(..., duplicates=...) "
                         f"says how to merge")
    values = _compact_values(name, csr.data, csr)
    kind = index_type(max(csr.nnz, *csr.shape))
    fresh = sp.csr_array((np.ascontiguousarray(values),
                          np.ascontiguousarray(csr.indices, kind),
                          np.ascontiguousarray(csr.indptr, kind)), shape=csr.shape)
    return frozen(fresh.copy() if copy else fresh)


def index_type(most: int) -> type[np.signedinteger[Any]]:
    """Return the type of row numbers, or of positions of cells, up to `most`."""
    return np.int32 if most < 2**31 else np.int64


def check_layout(name: str, matrix: Any) -> Any:
    """Return the matrix as CSR, CSC or COO whose stored indices lie inside its shape.

    SciPy trusts stored indices: its conversions would write outside an array for a wrong one,
    and a kernel would read there.
    """
    n_users, n_items = matrix.shape
    if matrix.format == "csr":
        _check_pointer(name, matrix, n_users)
        _check_range("item", matrix.indices, n_items)
    elif matrix.format == "csc":
        _check_pointer(name, matrix, n_items)
        _check_range("user", matrix.indices, n_users)
    else:
        matrix = matrix.tocoo()
        _check_range("user", matrix.row, n_users)
        _check_range("item", matrix.col, n_items)
    return matrix


def _check_pointer(name: str, matrix: Any, n_rows: int) -> None:
    indptr = matrix.indptr
    if len(indptr) != n_rows + 1 or indptr[0] != 0 or (indptr[1:] < indptr[:-1]).any() or \
            not indptr[-1] <= len(matrix.indices) == len(matrix.data):
        raise ValueError(f"{name} have a broken row pointer (indptr)")


def _check_range(what: str, indices: np.ndarray, size: int) -> None:
    if indices.size and not 0 <= indices.min() <= indices.max() < size:
        raise ValueError(f"{what} indices must be in [0, {size - 1}], got {indices.min()} to "
                         f"{indices.max()}")


def _compact_values(name: str, values: np.ndarray, csr: sp.csr_array) -> np.ndarray:
    """Check `values` and return them as float32 if that loses nothing, else float64."""
    values = validation.numeric(name, values)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        place = int(np.argmin(np.isfinite(values)))
        user = int(np.searchsorted(csr.indptr, place, side="right")) - 1
        raise ValueError(f"{name} must be finite, got {values[place]} for user row {user}, "
                         f"item column {csr.indices[place]}; drop or fill such cells first")
    if values.dtype == np.float32:
        return values
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    return single if np.array_equal(single, values) else values.astype(np.float64, copy=False)


def aligned_weights(weights: Any, by_user: sp.csr_array) -> np.ndarray | None:
    """Return weights as a read-only vector in `by_user` order; ValueError for other cells."""
    if weights is None:
        return None
    if sp.issparse(weights):
        csr = canonical_csr(weights, False, "weights")
        if csr.shape != by_user.shape or not np.array_equal(csr.indptr, by_user.indptr) \
                or not np.array_equal(csr.indices, by_user.indices):
            raise ValueError(f"weights must have the pattern of the ratings, {by_user.shape} "
                             f"with {by_user.nnz} cells, got {csr.shape} with {csr.nnz}")
        weights = csr.data
    weights = validation.vector("weights", weights, by_user.nnz)
    weights = _compact_values("weights", weights, by_user)
    return read_only(validation.nonnegative("weights", weights).copy())


def core(cells: sp.csr_array, least_per_row: int, least_per_column: int
         ) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and columns that keep a least number of stored cells among each other."""
    columns = cells.indices.astype(np.int64)
    rows = np.repeat(np.arange(cells.shape[0]), np.diff(cells.indptr))
    while True:
        found = [np.bincount(places, minlength=size) >= least for places, size, least in
                 ((rows, cells.shape[0], least_per_row), (columns, cells.shape[1],
                                                          least_per_column))]
        kept = found[0][rows] & found[1][columns]
        if kept.all():
            return np.flatnonzero(found[0]), np.flatnonzero(found[1])
        rows, columns = rows[kept], columns[kept]


def merge(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int],
          arrays: dict[str, np.ndarray], duplicates: Duplicates
          ) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Sort cells by (row, column) and merge repeated ones; return indptr, columns, arrays.

    The array "times" keeps the last of repeated cells with "last", else the latest.  Raises
    ValueError for repeated cells if `duplicates` is "error".
    """
    order = sorted_order(columns, np.arange(len(columns)), shape[1])[0]
    order, indptr = sorted_order(rows, order, shape[0])
    columns = columns[order]
    arrays = {name: array[order] for name, array in arrays.items()}
    first = np.ones(len(rows), bool)
    first[1:] = columns[1:] != columns[:-1]
    first[indptr[:-1][np.diff(indptr) > 0]] = True
    if first.all():
        return indptr, columns, arrays
    if duplicates == "error":
        again = len(rows) - int(first.sum())
        raise ValueError(f"each (user, item) pair must come once, got {len(rows):,} pairs of which "
                         f"{again:,} repeat{'s' * (again == 1)} another; "
                         f"duplicates=\"last\", \"mean\" or \"sum\" says how to merge")
    starts = np.flatnonzero(first)
    return np.searchsorted(starts, indptr), columns[starts], {
        name: np.maximum.reduceat(array, starts) if name == "times" and duplicates != "last"
        else _merged(array, starts, duplicates) for name, array in arrays.items()}


def order_by_item(by_user: sp.csr_array) -> np.ndarray:
    """Return where each cell of the transpose is in `by_user`, shape (nnz,)."""
    order: np.ndarray = numbered(by_user).T.tocsr().data
    return order


def numbered(by_user: sp.csr_array) -> sp.csr_array:
    """Return the cells with their places as values."""
    return sp.csr_array((np.arange(by_user.nnz), by_user.indices, by_user.indptr), by_user.shape)


def rows_of(by_user: sp.csr_array, rows: np.ndarray) -> sp.csr_array:
    """Return some rows of `numbered`, at the cost of their cells alone."""
    indptr, places = cells_of_rows(by_user.indptr, rows)
    return sp.csr_array((places, by_user.indices[places], indptr), (len(rows), by_user.shape[1]))


def sorted_order(keys: np.ndarray, order: np.ndarray, n_keys: int
                 ) -> tuple[np.ndarray, np.ndarray]:
    """Return `order` stably sorted by keys in [0, n_keys), and where each key begins."""
    out, starts = np.empty_like(order), np.zeros(n_keys + 1, np.int64)
    counting_order(keys, order, starts, out)
    return out, starts


def _merged(array: np.ndarray, starts: np.ndarray, duplicates: Duplicates) -> np.ndarray:
    counts = np.diff(np.append(starts, len(array)))
    if duplicates == "last":
        return np.take(array, starts + counts - 1)
    total = np.add.reduceat(array.astype(np.float64), starts)
    return total / counts if duplicates == "mean" else total


def part_of(ratings: R, places: sp.csr_array, users: Any, items: Any) -> R:
    """Return some cells, named by their places in `by_user` order, with the ids of their rows."""
    at, weights, times = places.data, ratings.weights, ratings.moments
    matrix = sp.csr_array((ratings.by_user.data[at], places.indices, places.indptr), places.shape)
    made: R = type(ratings)(matrix, weights=None if weights is None else weights[at],
                            user_ids=users, item_ids=items,
                            times=None if times is None else times.take(at), copy=False)
    return made


def moments(times: Any, size: int, kind: Any = None) -> Any:
    """Return the checked times of that many cells, `mfcore.data.times.Times`; None for None.

    kind : unit and zone that a file states, or None
    """
    if times is None:
        return None
    from mfcore.data.times import Times

    found = Times.of("times", times if kind is None else Times.stated(times, kind), size)
    if found.numbers.dtype == np.uint64:                # (which no folder holds)
        raise ValueError(f"times must be below 2**63, got {found.numbers.max()}")
    return found


def read_only(array: np.ndarray) -> np.ndarray:
    """Return the array itself, made read-only."""
    array.flags.writeable = False
    return array


class FrozenCSR(sp.csr_array):  # type: ignore[misc]
    """A canonical csr_array that cannot be changed: fitted models rely on it.

    Read-only arrays alone would not do: much of SciPy changes a matrix by giving it new arrays
    (`A.data = x`, `A.resize`, `A[i, j] = x` for a new cell).  `frozen` makes them.

    Notes
    -----
    What is computed from it is an ordinary csr_array, as is `copy()`; so `A *= 2` makes `A` the
    name of another matrix.  Copies by `copy` and `pickle` are frozen.
    """

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """The class of results: SciPy makes them by `self.__class__(...)`."""
        return sp.csr_array

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"this matrix is frozen: cannot set {name!r}; {_CHANGE_A_COPY}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"this matrix is frozen: cannot delete {name!r}; {_CHANGE_A_COPY}")

    def _refuse(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError(f"this matrix is frozen; {_CHANGE_A_COPY}")

    __setitem__ = setdiag = resize = eliminate_zeros = _refuse

    def _is_so_already(self) -> None:
        """Do nothing: a canonical matrix is sorted, without duplicates and spare memory."""

    sort_indices = sum_duplicates = prune = _is_so_already

    def _not_in_place(self, other: Any) -> Any:
        return NotImplemented       # Python then computes A * other, a new matrix

    __imul__ = __itruediv__ = _not_in_place

    def check_format(self, full_check: bool = True) -> None:
        """Raise ValueError for arrays that do not fit together: see `csr_array.check_format`."""
        sp.csr_array(self).check_format(full_check)     # (which sets attributes of a matrix)

    def __reduce__(self) -> Any:
        return _frozen_of, ((self.data, self.indices, self.indptr), self.shape)


_CHANGE_A_COPY = "change a copy of it, copy() makes one"


def frozen(matrix: sp.csr_array) -> FrozenCSR:
    """Return a canonical matrix as one that cannot be changed; its arrays become read-only."""
    if isinstance(matrix, FrozenCSR):
        return matrix
    matrix.has_canonical_format = True          # (what is not known, SciPy looks up and notes)
    for array in (matrix.data, matrix.indices, matrix.indptr):
        read_only(array)
    made = FrozenCSR.__new__(FrozenCSR)
    for name, value in vars(matrix).items():    # (one by one: Python reads them faster then)
        object.__setattr__(made, name, value)
    return made


def _frozen_of(arrays: tuple[np.ndarray, ...], shape: tuple[int, int]) -> FrozenCSR:
    return frozen(sp.csr_array(arrays, shape=shape))
