"""`Ratings`: who rated what, by user and by item, with weights, times and names.

Users are always rows.  A stored zero is a rating of 0 and is never dropped.
Both orientations are canonical CSR (sorted, no duplicates) and read-only.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from os import PathLike
from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data import canonical, positions
from mfcore.data.chunks import cells_of_rows
from mfcore.data.ids import Ids
from mfcore.data.names import MISSING, Column

DUPLICATES = ("error", "last", "mean", "sum")


class Ratings:
    """A frozen sparse matrix of ratings, in both orientations.

    Parameters
    ----------
    matrix : scipy sparse array or matrix, shape (n_users, n_items)
        Stored cells are ratings, stored zeros included.
    weights : sparse with the same cells, or ndarray, shape (nnz,), or None
        Finite, >= 0, 1-D in `by_user` order; None: all 1.  At 0 a cell is not even unknown.
    user_ids, item_ids : sequence of distinct integers, strings or hashables, or None
        Names of rows and columns; None: row numbers.
    times : ndarray of numbers or datetime64, or sequence of dates and times, (nnz,), or None
        When each stored cell was rated, in `by_user` order.  With time zones: kept in UTC.
    copy : bool
        False shares the memory of a canonical CSR matrix, which must then not change.

    Raises
    ------
    TypeError
        Dense arrays, objects, complex numbers.
    ValueError
        NaN or infinite ratings, repeated cells, weights of other cells, negative weights,
        ids that repeat or are not one per row, times that are missing for some cells.

    Notes
    -----
    Values are float32 if that loses nothing (whole and half stars, counts below 2**24),
    else float64.  Indices are int32 if they fit, else int64.
    """

    by_user: sp.csr_array
    weights: np.ndarray | None
    _users: Ids | None
    _items: Ids | None

    def __init__(self, matrix: Any, *, weights: Any = None, user_ids: Any = None,
                 item_ids: Any = None, times: Any = None, copy: bool = True) -> None:
        by_user = canonical.canonical_csr(matrix, copy)
        self.__setstate__({
            "by_user": by_user, "weights": canonical.aligned_weights(weights, by_user),
            "_users": positions.named_or_none("user_ids", user_ids, by_user.shape[0]),
            "_items": positions.named_or_none("item_ids", item_ids, by_user.shape[1]),
            "moments": canonical.moments(times, by_user.nnz)})

    # ------------------------------------------------------ other ways to make them

    @classmethod
    def from_arrays(cls, users: Any, items: Any, values: Any = None, weights: Any = None, *,
                    times: Any = None, duplicates: canonical.Duplicates = "error") -> Ratings:
        """Build from one pair of ids per rating; distinct ids become rows and columns.

        Parameters
        ----------
        users, items : array-like, shape (nnz,)
            Ids: integers, strings or any hashables.
        values, weights, times : array-like, shape (nnz,), or None
            Ratings and weights, None: 1 everywhere; moments: see `Ratings`.
        duplicates : {"error", "last", "mean", "sum"}
            What to do with a repeated (user, item) pair and its weights; the time of the last
            stays with "last", else the latest.
        """
        from mfcore.data.assembling import assembled

        validation.choice("duplicates", duplicates, DUPLICATES)
        made = assembled(users, items, duplicates, values=values, weights=weights, times=times)
        return cls(made.matrix, **made.parts, copy=False)

    @classmethod
    def from_frame(cls, frame: Any, user: Column = "user", item: Column = "item",
                   rating: Column = "rating", weight: Column = None, *, time_column: Column = None,
                   duplicates: canonical.Duplicates = "error",
                   missing: Sequence[str] = MISSING) -> Ratings:
        """Build from a frame with a row per rating.

        Parameters
        ----------
        frame : frame, or iterator of frames
            A dict of columns, or a pandas frame, whose named index counts as a column.  With
            `pip install 'mfcore[frames]'` also polars, lazy or not, a pyarrow table or reader, a
            DuckDB relation, and any other object with Arrow's `__arrow_c_stream__`.
        user, item : str or int
            Columns of ids, by name or position; the defaults also find `userId`, `movie_id`, ...
        rating, weight, time_column : str, int or None
            Columns of numbers, or of dates and times ("timestamp" also finds `time`, `ts`, ...);
            None: every row counts as 1, without a time.
        duplicates, missing
            As in `read_ratings`.

        Raises
        ------
        KeyError, ImportError
            For a column that is not there; for a frame that needs the extra.
        ValueError, TypeError
            For a missing value, with its row, and whatever else a file may not hold.
        """
        from mfcore.data.frames import columns_of
        from mfcore.data.layout import Reading

        validation.choice("duplicates", duplicates, DUPLICATES)
        reading = Reading(user, item, rating, weight, timestamp=time_column, missing=missing)
        found = columns_of(frame, reading.checked().asked, missing).some("the frame")
        return cls.from_arrays(*found[:4], times=found.timestamps, duplicates=duplicates)

    # -------------------------------------------------------------------- on disk

    def write(self, folder: str | PathLike[str]) -> None:
        """Write both orientations to a new folder, whole or not at all.

        Parameters
        ----------
        folder : str or path-like
            Must not exist; its parent must.
        """
        from mfcore.data import folder as files

        files.write(self, folder)

    @classmethod
    def open(cls, folder: str | PathLike[str], *, verify: bool = True) -> Ratings:
        """Open what `write` or `mfcore convert` wrote: mapped from disk, not read into memory.

        Raises RatingsFolderError for a folder that is incomplete or was altered.

        Parameters
        ----------
        folder : str or path-like
            Where they are.
        verify : bool
            Whether to compare the checksums of the arrays, which reads all of them.
        """
        from mfcore.data import folder as files

        return _from_state(files.read(folder, verify))

    @property
    def folder(self) -> str | None:
        """Folder of opened ratings; None for those in memory."""
        return self.__dict__.get("folder")

    def __reduce__(self) -> Any:
        """Pickle opened ratings as the name of their folder, which another process maps."""
        return (_from_state, (self.__dict__,)) if self.folder is None else \
            (partial(Ratings.open, verify=False), (self.folder,))

    # -------------------------------------------------------------- what it holds

    @property
    def shape(self) -> tuple[int, int]:
        """(n_users, n_items)."""
        n_users, n_items = self.by_user.shape
        return n_users, n_items

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
        return canonical.frozen(self.by_user.T.tocsr())

    @cached_property
    def weights_by_item(self) -> np.ndarray | None:
        """The weights in `by_item` order, or None."""
        return None if self.weights is None else canonical.read_only(
            self.weights[canonical.order_by_item(self.by_user)])

    @property
    def times(self) -> np.ndarray | None:
        """Moments of cells, numbers or datetime64, or None; `transposed` has them by item."""
        return None if self.moments is None else self.moments.values

    @cached_property
    def moments_by_item(self) -> Any:
        return self.moments and self.moments.take(canonical.order_by_item(self.by_user))

    @cached_property
    def moments(self) -> Any:
        """The times as numbers of one unit, `mfcore.data.times.Times`, or None."""
        return (other := self.__dict__.get("_exchanged")) and other.moments_by_item

    @cached_property
    def users_of_cells(self) -> np.ndarray:
        """Row number of each stored cell in `by_user` order, shape (nnz,)."""
        rows = np.arange(self.shape[0], dtype=self.by_user.indices.dtype)
        return canonical.read_only(np.repeat(rows, np.diff(self.by_user.indptr)))

    @property
    def transposed(self) -> Ratings:
        """The same cells with users and items exchanged; shares memory."""
        return _from_state({"by_user": self.by_item, "by_item": self.by_user,
                            "weights": self.weights_by_item, "weights_by_item": self.weights,
                            "_users": self._items, "_items": self._users,
                            "_exchanged": self.moments and self})

    def user_positions(self, users: Any, name: str = "users") -> np.ndarray:
        """Return the row of each user, -1 if unknown.

        Parameters
        ----------
        users, name : sequence, str
            Ids, or row numbers if there are no ids; and what an error calls them.
        """
        return positions.positions_of(name, users, self._users, self.shape[0])

    def item_positions(self, items: Any, name: str = "items") -> np.ndarray:
        """Return the column of each item, -1 if unknown: see `Ratings.user_positions`."""
        return positions.positions_of(name, items, self._items, self.shape[1])

    def known_users(self, users: Any, name: str = "users") -> np.ndarray:
        """Return what `user_positions` does; KeyError or IndexError for unknown users."""
        return positions.known_positions(name, users, self._users, self.shape[0])

    def known_items(self, items: Any, name: str = "items") -> np.ndarray:
        """Return the column of each item: see `Ratings.known_users`."""
        return positions.known_positions(name, items, self._items, self.shape[1])

    # ------------------------------------------------------------- parts of it

    def cells_of(self, rows: Any) -> sp.csr_array:
        """Return the cells of some rows, shape (n_rows, n_items).

        Parameters
        ----------
        rows : sequence of int
            Row numbers; -1 gives a row without cells.
        """
        cells = self.by_user
        indptr, places = cells_of_rows(cells.indptr, np.asarray(rows, np.int64))
        return sp.csr_array((cells.data[places], cells.indices[places], indptr),
                            shape=(len(indptr) - 1, self.shape[1]))

    def select_cells(self, chosen: np.ndarray) -> Ratings:
        """Return the chosen cells, with the same shape and ids.

        Parameters
        ----------
        chosen : ndarray of bool, shape (nnz,)
            In `by_user` order; TypeError for anything but booleans.
        """
        chosen = validation.vector("chosen", chosen, self.nnz)
        if chosen.dtype != bool:
            raise TypeError(f"chosen must be booleans, got dtype {chosen.dtype}")
        kept = np.concatenate([[0], np.cumsum(chosen)])[self.by_user.indptr]
        cells = np.flatnonzero(chosen), self.by_user.indices[chosen], kept
        return canonical.part_of(self, sp.csr_array(cells, self.shape), self._users, self._items)

    def select_users(self, rows: Any) -> Ratings:
        """Return some users' rows, with all items.

        Parameters
        ----------
        rows : sequence of int
            Row numbers, in the order wanted.
        """
        rows = validation.positions("rows", rows, self.shape[0])
        ids = None if self._users is None else self._users.select(rows)
        return canonical.part_of(self, canonical.rows_of(self.by_user, rows), ids, self._items)

    def filter(self, *, min_per_user: int = 1, min_per_item: int = 1) -> Ratings:
        """Return the users and items with enough ratings of each other (Seidman 1983: a k-core).

        Without ids, rows and columns get their old numbers as ids.

        Parameters
        ----------
        min_per_user, min_per_item : int, >= 0
            Least numbers of ratings, counted again until all are kept; 0 keeps empty rows.
        """
        rows, columns = canonical.core(
            self.by_user, validation.integer("min_per_user", min_per_user),
            validation.integer("min_per_item", min_per_item))
        return canonical.part_of(self, canonical.numbered(self.by_user)[rows][:, columns],
                       rows if self.user_ids is None else self.user_ids[rows],
                       columns if self.item_ids is None else self.item_ids[columns])

    def decayed(self, half_life: Any, now: Any = None) -> Ratings:
        """Return the same with weights that fall with age: w · 2^(−(now − t) / half_life).

        Parameters
        ----------
        half_life : str such as "30D" or "12h", timedelta, or number > 0
            A number is in the units of numeric times, which "30D" takes for Unix times.
        now : number, date or time, or None
            Not before the last rating, for which None stands.
        """
        from mfcore.data.times import decay

        return Ratings(self.by_user, weights=decay(self, half_life, now), user_ids=self._users,
                       item_ids=self._items, times=self.moments, copy=False)

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Return X (nnz, 2), user and item of each stored cell, and y (nnz,), as `fit` takes them.

        By ids, which are objects unless all are integers, or by numbers; in `by_user` order.
        """
        places = self.users_of_cells, self.by_user.indices
        columns = [place if ids is None else ids[place] for place, ids in
                   zip(places, (self.user_ids, self.item_ids), strict=True)]
        kind = object if any(each.dtype == object for each in columns) else np.int64
        return np.column_stack([each.astype(kind) for each in columns]), self.by_user.data

    def __getitem__(self, key: Any) -> Any:
        """Raise a TypeError: what is given may be ids, rows or cells."""
        raise TypeError("Ratings have no [...]: select_users and select_cells return parts, and "
                        "scikit-learn's tools take X, y = ratings.pairs()")

    # ---------------------------------------------------------------- frozenness

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"Ratings are frozen: cannot set {name!r}; build new ones")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"Ratings are frozen: cannot delete {name!r}")

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            if isinstance(value, sp.csr_array):
                value = canonical.frozen(value)
            elif isinstance(value, np.ndarray):
                canonical.read_only(value)
            self.__dict__[name] = value

    def __repr__(self) -> str:
        n_users, n_items = self.shape
        has = ("" if self.weights is None else ", weighted") + \
            ("" if self.moments is None else ", with times")
        return f"Ratings({n_users:,} users × {n_items:,} items, {self.nnz:,} stored{has})"


def names_of(ratings: Ratings) -> tuple[Ids | None, Ids | None]:
    """Return the names of rows and of columns with their look-ups, None where there are none."""
    return ratings._users, ratings._items


def _from_state(state: dict[str, Any]) -> Ratings:
    made = object.__new__(Ratings)
    made.__setstate__(state)
    return made


def as_ratings(name: str, given: Any, duplicates: canonical.Duplicates = "error") -> Ratings:
    """Return Ratings as they are, or made from a scipy sparse matrix or a frame.

    Raises TypeError for anything else, and for a frame whose columns have other names.
    """
    if isinstance(given, Ratings):
        return given
    if sp.issparse(given):
        return Ratings(given)
    from mfcore.data.frames import is_frame

    if not is_frame(given):
        raise canonical.no_matrix(name, given)
    try:
        return Ratings.from_frame(given, duplicates=duplicates)
    except KeyError as error:
        raise TypeError(f"{name} cannot be read from this frame: {error.args[0]}; name them, "
                        f"Ratings.from_frame(frame, user=..., item=..., rating=...)") from None
