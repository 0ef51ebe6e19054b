"""`Ratings`: who rated what, by user and by item, with weights and names.

Users are rows, everywhere.  A stored zero is a rating of 0 and is never dropped.
Both orientations are canonical CSR (sorted, no duplicates) and read-only.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.ids import Ids, factorize

Duplicates = Literal["error", "last", "mean", "sum"]


class Ratings:
    """A frozen sparse matrix of ratings, in both orientations.

    Parameters
    ----------
    matrix : scipy sparse array or matrix, shape (n_users, n_items)
        Stored cells are ratings, stored zeros included.
    weights : sparse of the same pattern, or ndarray, shape (nnz,), or None
        Weight of each stored cell, finite and >= 0, 1-D in `by_user` order; None: all 1.
    user_ids, item_ids : sequence of distinct integers, strings or hashables, or None
        Names of rows and columns; None: row numbers.
    copy : bool
        False shares the memory of a canonical CSR matrix, which must then not change.

    Raises
    ------
    TypeError
        Dense arrays, objects, complex numbers.
    ValueError
        NaN or infinite ratings, repeated cells, weights of another pattern, negative
        weights, ids that repeat or are not as many as rows.

    Notes
    -----
    Values are float32 where that loses nothing (whole and half stars, counts below
    2**24), else float64.  Indices are int32 where they fit, else int64.
    """

    by_user: sp.csr_array
    weights: np.ndarray | None

    def __init__(self, matrix: Any, *, weights: Any = None, user_ids: Any = None,
                 item_ids: Any = None, copy: bool = True) -> None:
        by_user = _canonical_csr(matrix, copy)
        state = {"by_user": by_user, "weights": _aligned_weights(weights, by_user),
                 "_users": _names("user_ids", user_ids, by_user.shape[0]),
                 "_items": _names("item_ids", item_ids, by_user.shape[1])}
        self.__setstate__(state)

    # ------------------------------------------------------------ other ways in

    @classmethod
    def from_arrays(cls, users: Any, items: Any, values: Any = None, weights: Any = None, *,
                    duplicates: Duplicates = "error") -> Ratings:
        """Build from one id pair a rating; distinct ids become rows and columns.

        Parameters
        ----------
        users, items : array-like, shape (nnz,)
            Ids: integers, strings or any hashables.
        values, weights : array-like, shape (nnz,), or None
            Ratings and weights; None: 1 everywhere.
        duplicates : {"error", "last", "mean", "sum"}
            What to do with a repeated (user, item) pair; applies to weights likewise.
        """
        validation.choice("duplicates", duplicates, ("error", "last", "mean", "sum"))
        user_ids, rows = factorize("users", users)
        item_ids, columns = factorize("items", items)
        validation.same_length(users=rows, items=columns)
        columns_of = {"values": np.ones(len(rows), np.float32) if values is None else
                      validation.vector("values", values, len(rows))}
        if weights is not None:
            columns_of["weights"] = validation.vector("weights", weights, len(rows))
        rows, columns, merged = _merge(rows, columns, columns_of, duplicates)
        indptr = np.zeros(len(user_ids) + 1, np.int64)
        np.cumsum(np.bincount(rows, minlength=len(user_ids)), out=indptr[1:])
        matrix = sp.csr_array((merged["values"], columns, indptr),
                              shape=(len(user_ids), len(item_ids)))
        return cls(matrix, weights=merged.get("weights"), user_ids=user_ids,
                   item_ids=item_ids, copy=False)

    @classmethod
    def from_frame(cls, frame: Any, user: str = "user", item: str = "item",
                   rating: str | None = "rating", weight: str | None = None, *,
                   duplicates: Duplicates = "error") -> Ratings:
        """Build from anything that answers `frame[name]` with a column.

        A pandas or polars frame, a pyarrow table, a dict of arrays, or what a database
        query gives (DuckDB's `fetchnumpy()`).  `rating=None`: every row counts as 1.
        """
        def column(name: str | None) -> Any:
            if name is None:
                return None
            try:
                return np.asarray(frame[name])
            except (KeyError, IndexError, ValueError) as error:
                known = list(getattr(frame, "columns", None) or getattr(frame, "keys", list)())
                raise KeyError(f"no column {name!r} in the frame; it has {known}") from error

        return cls.from_arrays(column(user), column(item), column(rating), column(weight),
                               duplicates=duplicates)

    # -------------------------------------------------------------- what it holds

    @property
    def shape(self) -> tuple[int, int]:
        """(n_users, n_items)."""
        return self.by_user.shape

    @property
    def nnz(self) -> int:
        """Number of stored cells, stored zeros included."""
        return int(self.by_user.nnz)

    @property
    def density(self) -> float:
        """Share of the cells that are stored, in [0, 1]."""
        return self.nnz / max(1, self.shape[0] * self.shape[1])

    @property
    def user_ids(self) -> np.ndarray | None:
        """Names of the rows, or None."""
        return None if self._users is None else self._users.values

    @property
    def item_ids(self) -> np.ndarray | None:
        """Names of the columns, or None."""
        return None if self._items is None else self._items.values

    @cached_property
    def by_item(self) -> sp.csr_array:
        """The transpose in CSR, shape (n_items, n_users), built on first use."""
        return _frozen(self.by_user.T.tocsr())

    @cached_property
    def weights_by_item(self) -> np.ndarray | None:
        """The weights in `by_item` order, or None."""
        if self.weights is None:
            return None
        pattern = self.by_user
        turned = sp.csr_array((self.weights, pattern.indices, pattern.indptr), pattern.shape)
        return _read_only(turned.T.tocsr().data)

    @cached_property
    def users_of_cells(self) -> np.ndarray:
        """Row number of each stored cell in `by_user` order, shape (nnz,)."""
        counts = np.diff(self.by_user.indptr)
        return np.repeat(np.arange(self.shape[0], dtype=self.by_user.indices.dtype), counts)

    @property
    def transposed(self) -> Ratings:
        """The same cells with users and items exchanged; shares memory."""
        state = {"by_user": self.by_item, "by_item": self.by_user,
                 "weights": self.weights_by_item, "weights_by_item": self.weights,
                 "_users": self._items, "_items": self._users}
        turned = object.__new__(Ratings)
        turned.__setstate__(state)
        return turned

    def user_positions(self, users: Any) -> np.ndarray:
        """Row number of each user (id, or number where there are no ids), -1 if unknown."""
        return _positions("users", users, self._users, self.shape[0])

    def item_positions(self, items: Any) -> np.ndarray:
        """Column number of each item (id, or number where there are no ids), -1 if unknown."""
        return _positions("items", items, self._items, self.shape[1])

    # ------------------------------------------------------------- parts of it

    def select_cells(self, chosen: np.ndarray) -> Ratings:
        """Keep the cells where `chosen` (bool, in `by_user` order); shape and ids stay."""
        kept = np.concatenate([[0], np.cumsum(chosen)])[self.by_user.indptr]
        matrix = sp.csr_array((self.by_user.data[chosen], self.by_user.indices[chosen], kept),
                              shape=self.shape)
        weights = None if self.weights is None else self.weights[chosen]
        return Ratings(matrix, weights=weights, user_ids=self.user_ids,
                       item_ids=self.item_ids, copy=False)

    def select_users(self, rows: Any) -> Ratings:
        """Keep the rows of the given numbers, in that order; items and ids stay."""
        rows = validation.positions("rows", rows, self.shape[0])
        pattern = self.by_user
        weights = None if self.weights is None else sp.csr_array(
            (self.weights, pattern.indices, pattern.indptr), pattern.shape)[rows].data
        ids = None if self.user_ids is None else self.user_ids[rows]
        return Ratings(pattern[rows], weights=weights, user_ids=ids, item_ids=self.item_ids,
                       copy=False)

    # ---------------------------------------------------------------- frozenness

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"Ratings are frozen: cannot set {name!r}; build new ones")

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            if isinstance(value, sp.csr_array):
                _frozen(value)
            elif isinstance(value, np.ndarray):
                _read_only(value)
            self.__dict__[name] = value

    def __repr__(self) -> str:
        n_users, n_items = self.shape
        weighted = "" if self.weights is None else ", weighted"
        return f"Ratings({n_users:,} users × {n_items:,} items, {self.nnz:,} stored{weighted})"


def as_ratings(name: str, ratings: Any) -> Ratings:
    """Return Ratings as they are, or made from a scipy sparse matrix."""
    return ratings if isinstance(ratings, Ratings) else Ratings(ratings)


def _canonical_csr(matrix: Any, copy: bool) -> sp.csr_array:
    if not sp.issparse(matrix):
        raise TypeError(f"ratings must be Ratings or a scipy sparse matrix, got "
                        f"{type(matrix).__name__}; scipy.sparse.csr_array(dense) makes one "
                        f"(its zeros count as missing)")
    if matrix.ndim != 2:
        raise ValueError(f"ratings must have two dimensions, got shape {matrix.shape}")
    stored = matrix.nnz
    csr = sp.csr_array(matrix)
    _check_indices(csr)
    if not csr.has_canonical_format:
        csr = csr.copy()
        csr.sum_duplicates()
    if csr.nnz != stored:
        raise ValueError(f"ratings must hold each (user, item) once, got {stored} cells of "
                         f"which {csr.nnz} differ; Ratings.from_arrays(..., duplicates=...) "
                         f"says how to merge")
    values = _compact_values("ratings", csr.data, csr)
    index_type = np.int32 if max(csr.nnz, *csr.shape) < 2**31 else np.int64
    fresh = sp.csr_array((values, csr.indices.astype(index_type, copy=False),
                          csr.indptr.astype(index_type, copy=False)), shape=csr.shape)
    fresh.has_canonical_format = True
    return _frozen(fresh.copy() if copy else fresh)


def _check_indices(csr: sp.csr_array) -> None:
    """SciPy trusts stored indices; a wrong one would read foreign memory in a kernel."""
    indptr, n_items = csr.indptr, csr.shape[1]
    whole = len(indptr) == csr.shape[0] + 1 and indptr[0] == 0 and \
        (np.diff(indptr) >= 0).all() and indptr[-1] <= len(csr.indices)
    if not whole:
        raise ValueError("ratings have a broken row pointer (indptr)")
    if csr.indices.size and not 0 <= csr.indices.min() <= csr.indices.max() < n_items:
        raise ValueError(f"item indices must be in [0, {n_items - 1}], got "
                         f"{csr.indices.min()} to {csr.indices.max()}")


def _compact_values(name: str, values: np.ndarray, csr: sp.csr_array) -> np.ndarray:
    """Check `values` and return them as float32 where that loses nothing, else float64."""
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


def _aligned_weights(weights: Any, by_user: sp.csr_array) -> np.ndarray | None:
    if weights is None:
        return None
    if sp.issparse(weights):
        csr = _canonical_csr(weights, False)
        same = csr.shape == by_user.shape and np.array_equal(csr.indptr, by_user.indptr) \
            and np.array_equal(csr.indices, by_user.indices)
        if not same:
            raise ValueError(f"weights must have the pattern of the ratings, {by_user.shape} "
                             f"with {by_user.nnz} cells, got {csr.shape} with {csr.nnz}")
        weights = csr.data
    weights = validation.vector("weights", weights, by_user.nnz)
    weights = _compact_values("weights", weights, by_user)
    return _read_only(validation.nonnegative("weights", weights).copy())


def _names(name: str, ids: Any, size: int) -> Ids | None:
    if ids is None:
        return None
    named = ids if isinstance(ids, Ids) else Ids(name, ids)
    if named.values.size != size:
        raise ValueError(f"{name} must have {size} entries, got {named.values.size}")
    return named


def _positions(name: str, values: Any, ids: Ids | None, size: int) -> np.ndarray:
    if ids is not None:
        return ids.positions(values)
    array = np.atleast_1d(validation.numeric(name, values))
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be row numbers (the ratings have no ids), got dtype "
                        f"{array.dtype}")
    inside = (array >= 0) & (array < size)
    return np.where(inside, array, -1).astype(np.int64)


def _merge(rows: np.ndarray, columns: np.ndarray, arrays: dict[str, np.ndarray],
           duplicates: Duplicates) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Sort cells by (row, column) and settle repeated ones."""
    order = np.lexsort((columns, rows))
    rows, columns = rows[order], columns[order]
    arrays = {name: array[order] for name, array in arrays.items()}
    first = np.ones(len(rows), bool)
    first[1:] = (rows[1:] != rows[:-1]) | (columns[1:] != columns[:-1])
    if first.all():
        return rows, columns, arrays
    if duplicates == "error":
        raise ValueError(f"each (user, item) pair must come once, got {len(rows)} pairs of "
                         f"which {first.sum()} differ; duplicates=\"last\", \"mean\" or "
                         f"\"sum\" says how to merge")
    starts = np.flatnonzero(first)
    return rows[starts], columns[starts], {
        name: _settle(array, starts, duplicates) for name, array in arrays.items()}


def _settle(array: np.ndarray, starts: np.ndarray, duplicates: Duplicates) -> np.ndarray:
    counts = np.diff(np.append(starts, len(array)))
    if duplicates == "last":
        return array[starts + counts - 1]
    total = np.add.reduceat(array.astype(np.float64), starts)
    return total / counts if duplicates == "mean" else total


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def _frozen(matrix: sp.csr_array) -> sp.csr_array:
    for array in (matrix.data, matrix.indices, matrix.indptr):
        _read_only(array)
    return matrix
