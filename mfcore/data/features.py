"""Features: what is known about users or items, as a sparse matrix with named columns.

    age = numeric([24, 53, 23], "age")
    job = one_hot(["writer", "other", "writer"], "job")         # job=other, job=writer
    genre = multi_hot(["Comedy|Drama", "", "Drama"], "genre")   # genre=Comedy, genre=Drama
    concatenate(age, job, genre)
    history(ratings)                                            # rated=10, rated=20

Rows follow the rows (for items the columns) of the ratings.  For later rows, `categories=`
fixes the columns: an unknown category is then an error, not a new column.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.canonical import frozen
from mfcore.data.ids import HISTORY
from mfcore.data.ratings import Ratings, as_ratings


@dataclass(frozen=True, eq=False)
class Features:
    """A frozen sparse matrix of features with a name for each column.

    Parameters
    ----------
    matrix : scipy sparse, shape (n_rows, n_features)
        Finite numbers; kept as a read-only csr_array of float64.
    names : sequence of str, shape (n_features,)
        Distinct; kept as a tuple.

    Raises
    ------
    TypeError
        A dense matrix, or entries that are not numbers.
    ValueError
        NaN, infinity, repeated names, or not one name per column.
    """

    matrix: sp.csr_array
    names: Sequence[str]

    def __post_init__(self) -> None:
        if not sp.issparse(self.matrix):
            raise TypeError(f"features must be a scipy sparse matrix, got "
                            f"{type(self.matrix).__name__}; scipy.sparse.csr_array(dense) "
                            f"makes one")
        validation.finite("features", validation.numeric("features", self.matrix.data))
        matrix = sp.csr_array(self.matrix, dtype=np.float64, copy=True)
        matrix.sum_duplicates()
        names = tuple(self.names)
        if len(names) != matrix.shape[1]:
            raise ValueError(f"names must have {matrix.shape[1]} entries, got {len(names)}")
        if len(set(names)) < len(names):
            twice = sorted(name for name, count in Counter(names).items() if count > 1)
            raise ValueError(f"feature names must be distinct, got more than once: "
                             f"{', '.join(twice[:5])}")
        object.__setattr__(self, "matrix", frozen(matrix))
        object.__setattr__(self, "names", names)

    @property
    def shape(self) -> tuple[int, int]:
        """(n_rows, n_features)."""
        n_rows, n_features = self.matrix.shape
        return n_rows, n_features

    def select(self, rows: Any) -> Features:
        """Return the rows of the given numbers, in that order."""
        return Features(self.matrix[validation.positions("rows", rows, self.shape[0])],
                        self.names)

    def __repr__(self) -> str:
        shown = ", ".join(self.names[:4]) + (", ..." if len(self.names) > 4 else "")
        return f"Features({self.shape[0]:,} rows × {self.shape[1]:,}: {shown})"


def one_hot(values: Iterable[Hashable], prefix: str = "", *,
            categories: Sequence[Hashable] | None = None) -> Features:
    """Turn one category per row into one column per category.

    Parameters
    ----------
    values : iterable of integers, strings or other hashables, shape (n_rows,)
    prefix : str
        Columns are called `prefix=category`, or just the category if it is empty.
    categories : sequence or None
        The categories and their order, for example those of an earlier matrix; None: those
        that occur, sorted.

    Raises
    ------
    ValueError
        A missing value (None, NaN, NaT, pandas.NA, a null of Arrow or polars, a masked one), or
        one that is not in `categories`.
    """
    rows = [[value] for value in validation.iterable("values", values)]
    return _indicators(rows, prefix, categories)


def multi_hot(values: Iterable[str | Iterable[Hashable]], prefix: str = "", *,
              separator: str = "|", categories: Sequence[Hashable] | None = None) -> Features:
    """Turn any number of categories per row into one column per category.

    Parameters
    ----------
    values : iterable of lists of categories, or of strings such as "Comedy|Drama"
        An empty list or string is a row without categories.
    separator : str
        What separates the categories of a string.
    prefix, categories
        As in `one_hot`.

    Raises
    ------
    TypeError, ValueError
        A row that is neither a string nor a list; what `one_hot` refuses.
    """
    rows = [_listed(row, value, separator)
            for row, value in enumerate(validation.iterable("values", values))]
    return _indicators(rows, prefix, categories)


def numeric(values: Any, name: str) -> Features:
    """Turn one number per row into one column; zeros are not stored.

    Raises
    ------
    TypeError, ValueError
        Anything but numbers; NaN and infinity, by position.
    """
    column = validation.finite(name, validation.vector(name, values))
    return Features(sp.csr_array(column.astype(np.float64)[:, np.newaxis]), (name,))


def choices(ratings: Ratings, values: str) -> Ratings:
    """Return the ratings that are chosen: those above 0, or with "raw" values all but 0."""
    data = ratings.by_user.data
    chosen = data > 0 if values == "binary" else data != 0
    return ratings if chosen.all() else ratings.select_cells(chosen)


def weighed(ratings: Ratings) -> Ratings:
    """Return the ratings of positive weight: others say nothing."""
    w = ratings.weights
    return ratings if w is None or w.all() else ratings.select_cells(w > 0)


def history(ratings: Any) -> Features:
    """Return what each row has rated: 1/√n in the column of each of its n items.

    As features of users these turn P = U + F G into SVD++ (Koren 2008); fit(user_features=
    "history") builds them, and completes them for new rows.  Columns are called
    rated=item, by id or number.  It counts that a cell is stored and not of weight 0, not its
    rating; build them from training ratings, never from those to be predicted.
    """
    ratings = as_ratings("ratings", ratings)
    cells = weighed(ratings).by_user
    n = np.diff(cells.indptr)
    matrix = sp.csr_array((np.repeat(1 / np.sqrt(np.maximum(n, 1)), n), cells.indices,
                           cells.indptr), shape=cells.shape)
    items = range(cells.shape[1]) if ratings.item_ids is None else ratings.item_ids.tolist()
    return Features(matrix, tuple(f"{HISTORY}={item}" for item in items))


def concatenate(*blocks: Features) -> Features:
    """Put features of the same rows side by side.

    Raises
    ------
    ValueError
        No block, blocks with different numbers of rows, a repeated name.
    """
    rows = {block.shape[0] for block in blocks}
    if len(rows) != 1:
        raise ValueError(f"features to concatenate must have the same rows, got "
                         f"{[block.shape[0] for block in blocks]}")
    return Features(sp.hstack([block.matrix for block in blocks], format="csr"),
                    tuple(name for block in blocks for name in block.names))


def _listed(row: int, value: Any, separator: str) -> list[Hashable]:
    if isinstance(value, str):
        return [part for part in map(str.strip, value.split(separator)) if part]
    if validation.is_missing(value):
        raise ValueError(f"row {row} is missing ({value!r}); an empty list says none")
    try:
        return list(value)
    except TypeError:
        raise TypeError(f"row {row} must be a string or a list of categories, "
                        f"got {value!r}") from None


def _indicators(rows: list[list[Hashable]], prefix: str,
                categories: Sequence[Hashable] | None) -> Features:
    missing = [t for t, row in enumerate(rows) if any(map(validation.is_missing, row))]
    if missing:
        raise ValueError(f"{prefix or 'values'}: row {missing[0]} is missing ({len(missing)} "
                         f"in all); name a category for it or drop it")
    known = _sorted({value for row in rows for value in row}) if categories is None \
        else list(categories)
    column = {value: place for place, value in enumerate(known)}
    for t, value in ((t, value) for t, row in enumerate(rows) for value in row):
        if value not in column:
            shown = ", ".join(map(repr, list(column)[:20]))
            raise ValueError(f"{prefix or 'values'}: row {t} has the unknown category "
                             f"{value!r}; known: {shown}")
    places = [sorted({column[value] for value in row}) for row in rows]
    indptr = np.cumsum([0, *map(len, places)])
    indices = np.array([place for row in places for place in row], np.int64)
    matrix = sp.csr_array((np.ones(indices.size), indices, indptr),
                          shape=(len(rows), len(known)))
    return Features(matrix, tuple(f"{prefix}={value}" if prefix else str(value)
                                  for value in known))


def _sorted(values: set[Hashable]) -> list[Hashable]:
    try:
        return sorted(values)  # type: ignore[type-var]
    except TypeError:
        return sorted(values, key=repr)
