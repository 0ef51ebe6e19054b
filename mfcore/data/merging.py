"""Ratings that grow and shrink: new ones put to old ones, rows and columns appended or left out.

Ids are matched as in every other question (data/ids.py): 7 and "7" name one user, and a new id
is kept in the kind that the others have.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data import canonical
from mfcore.data.chunks import column_counts
from mfcore.data.ids import Ids, all_text, as_int64, as_vector, factorize_for_fit
from mfcore.data.ratings import Ratings, names_of
from mfcore.data.renumber import renumber_items


class Merged(NamedTuple):
    """Old and new ratings together; old users and items keep their numbers, new ones follow.

    users, items : ndarray of int64
        Number of each given row (column); -1 where it stays out.
    user_changes, item_changes : ndarray of int64, shapes (n_users,), (n_items,)
        How many cells of each came or went.
    """

    ratings: Ratings
    users: np.ndarray
    items: np.ndarray
    user_changes: np.ndarray
    item_changes: np.ndarray

    @property
    def transposed(self) -> Merged:
        """The same with users and items exchanged."""
        return Merged(self.ratings.transposed, self.items, self.users, self.item_changes,
                      self.user_changes)


class _Cells(NamedTuple):
    """Some cells: row and column of each, value, weight (None: all 1) and time (None: left out)."""

    rows: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    weights: np.ndarray | None
    times: np.ndarray | None


class _Place(NamedTuple):
    """Where given rows (or columns) go: their numbers, -1 to leave out; the ids of all."""

    numbers: np.ndarray
    ids: Ids | None
    size: int


def merged(old: Ratings, new: Ratings, how: str, duplicates: canonical.Duplicates, *,
           users: Any = None, items: Any = None, enter: tuple[bool, bool] = (False, False),
           names: tuple[str, str] = ("users", "items")) -> Merged:
    """Return old and new ratings together, with times where both have them.

    Parameters
    ----------
    old : Ratings, shape (n_users, n_items)
    new : Ratings, shape (n_given, m_given)
    how : {"add", "replace"}
        "add": a cell of both gets one value by `duplicates`; "replace": a given row is all that
        its user has rated.
    duplicates : {"last", "sum", "mean", "error"}
    users, items : ids of the rows and columns of `new`, or None
        None: its own ids, or those of `old` in their order.
    enter : (bool, bool)
        Whether unknown users, unknown items come in without ratings too; those that `users` and
        `items` name always do.
    names : (str, str)
        What rows and columns are called in errors.

    Raises
    ------
    ValueError, TypeError
        For ids that repeat or are not one per row (column); for new numbers that do not follow on
        from the old ones; for text among ids that are integers; for times of another kind.
    """
    dated = old.moments is not None and new.moments is not None
    (old_users, old_items), (own_users, own_items) = names_of(old), names_of(new)
    _refuse_transposed(old, new, users, items)
    enters = [(counts > 0) | named for counts, named in zip(_counts(new), enter, strict=True)]
    row = _placed(names[0], old_users, old.shape[0], own_users, users, enters[0])
    column = _placed(names[1], old_items, old.shape[1], own_items, items, enters[1])
    given = _Cells(row.numbers[new.users_of_cells], column.numbers[new.by_user.indices],
                   new.by_user.data, new.weights,
                   old.moments.numbers_of("times", new.moments) if dated else None)
    kept = old if how == "add" else old.select_cells(~_cells_in(old, row.numbers))
    matrix, weights, times = _inserted(kept, given, (row.size, column.size), duplicates)
    ratings = Ratings(matrix, weights=weights, user_ids=row.ids, item_ids=column.ids, copy=False,
                      times=replace(old.moments, numbers=times) if dated else None)
    changes = np.bincount(given.rows, minlength=row.size), \
        np.bincount(given.columns, minlength=column.size)
    if how == "replace":
        for found, before, after in zip(changes, *map(_counts, (old, kept)), strict=True):
            found[:len(before)] += before - after
    return Merged(ratings, row.numbers, column.numbers, *changes)


def without(ratings: Ratings, users: np.ndarray, items: np.ndarray) -> Ratings:
    """Return ratings without some rows and columns.

    users, items : ndarray of bool, shapes (n_users,), (n_items,); what goes
    """
    rows, columns = np.flatnonzero(~users), np.flatnonzero(~items)
    kept = ratings.select_users(rows)
    if not items.any():
        return kept
    place = np.full(len(items), -1, np.int64)
    place[columns] = np.arange(len(columns))
    ids = names_of(ratings)[1]
    return renumber_items(kept, place, len(columns), None if ids is None else ids.select(columns))


def columns_of(ratings: Ratings, columns: np.ndarray) -> Ratings:
    """Return some columns as rows, shape (n_columns, n_users), without names.

    Cheaper than `Ratings.transposed` where they are few.

    columns : ndarray of int, distinct
    """
    place = np.full(ratings.shape[1], -1, np.int64)
    place[columns] = np.arange(len(columns))
    rows = place[ratings.by_user.indices]
    chosen = np.flatnonzero(rows >= 0)
    places, indptr = canonical.sorted_order(rows[chosen], np.arange(len(chosen)), len(columns))
    order = chosen[places]
    places = sp.csr_array((order, ratings.users_of_cells[order], indptr),
                          shape=(len(columns), ratings.shape[0]))
    return canonical.part_of(ratings, places, None, None)


# ------------------------------------------------------------------------- the places

def _placed(name: str, known: Ids | None, size: int, own: Ids | None, named: Any,
            enters: np.ndarray) -> _Place:
    """Return where the rows (columns) of new ratings go.

    known, size : those of the old ratings
    own, named : ids of the new ones, and those given for them
    enters : ndarray of bool, whether each comes in if it is unknown and not named
    """
    if named is None and own is not None and own is known:
        return _Place(np.arange(size), known, size)
    names = _names(name, known, size, own, named, len(enters))
    validation.same_length(**{name: names, "rows" if name == "users" else "columns": enters})
    numbers = _positions(name, names, known, size)
    if known is None:                   # (numbers: whoever comes in has all before it come, too)
        enters = enters | (names < names[enters].max(initial=0))
    fresh = np.flatnonzero((numbers < 0) & (enters | (named is not None)))
    numbers[fresh] = size + np.arange(len(fresh))
    found = numbers[numbers >= 0]
    repeated = len(np.unique(found)) < len(found)
    if repeated or (known is None and not np.array_equal(names[fresh], numbers[fresh])):
        raise ValueError(f"{name} must be distinct, and new numbers must follow on from {size}, "
                         f"got {names[:8].tolist()}")
    ids = known if known is None or not len(fresh) else _extended(name, known, names[fresh])
    return _Place(numbers, ids, size + len(fresh))


def _names(name: str, known: Ids | None, size: int, own: Ids | None, named: Any, n_given: int
           ) -> np.ndarray:
    """Return the ids of the rows (columns) of new ratings, in the kind that the old ones have."""
    given = own.values if named is None and own is not None else \
        None if named is None else as_vector(named, name)
    if given is None:
        return _numbered(name, known, size, n_given)
    if known is not None:
        is_text = known.values.dtype == given.dtype == object and all_text(given)
        return given if is_text else known.in_kind(name, given)
    whole, fits = as_int64(given)
    if not fits.all():
        raise TypeError(f"{name} of the fit are integers, got {given[~fits][:3].tolist()}")
    return whole


def _numbered(name: str, known: Ids | None, size: int, n_given: int) -> np.ndarray:
    """Return the old ids in their order, for new ratings without names; further numbers follow."""
    if n_given < size or (known is not None and n_given > size):
        part = "rows" if name == "users" else "columns"
        raise ValueError(f"{name} must name the {n_given} {part} of the ratings (the fit had "
                         f"{size} {name}): {name}=[...], or ids of the Ratings")
    return np.arange(n_given) if known is None else known.values


def _positions(name: str, names: np.ndarray, known: Ids | None, size: int) -> np.ndarray:
    if known is not None:
        return known.positions(names, name)
    return np.where((names >= 0) & (names < size), names, -1)


def _extended(name: str, known: Ids, fresh: np.ndarray) -> Ids:
    """Return ids with further ones, all unknown, behind them."""
    factorized = factorize_for_fit(name, fresh)[0]
    if len(factorized) < len(fresh):
        raise ValueError(f"{name} must be distinct, got {len(fresh)} new ones of which "
                         f"{len(factorized)} differ")
    return known.extended(fresh)


def _refuse_transposed(old: Ratings, new: Ratings, users: Any, items: Any) -> None:
    """Raise ValueError for a matrix without names that has the shape of the old, transposed."""
    if new.shape == old.shape[::-1] != old.shape and users is None and items is None and \
            names_of(new) == (None, None):
        raise ValueError(f"ratings must have {old.shape[1]} columns, the items of the fit, got "
                         f"{new.shape}; it looks transposed: users are rows, items are columns")


# --------------------------------------------------------------------------- the cells

def _cells_in(ratings: Ratings, rows: np.ndarray) -> np.ndarray:
    """Return which cells are in some rows, of which others than those of the ratings have none."""
    chosen = np.zeros(ratings.shape[0], bool)
    chosen[rows[(rows >= 0) & (rows < ratings.shape[0])]] = True
    cells: np.ndarray = np.repeat(chosen, np.diff(ratings.by_user.indptr))
    return cells


def _counts(ratings: Ratings) -> tuple[np.ndarray, np.ndarray]:
    return np.diff(ratings.by_user.indptr), column_counts(ratings.by_user.indices,
                                                          ratings.shape[1])


def _inserted(old: Ratings, new: _Cells, shape: tuple[int, int],
              duplicates: canonical.Duplicates
              ) -> tuple[sp.csr_array, np.ndarray | None, np.ndarray | None]:
    """Return the cells of old ratings and new cells, and the weights and times of both.

    New cells are few: they are looked up among the old ones, which stay sorted.
    """
    place = old.users_of_cells * np.int64(shape[1]) + old.by_user.indices
    keys = new.rows * np.int64(shape[1]) + new.columns
    order = np.argsort(keys, kind="stable")
    keys, at = keys[order], np.searchsorted(place, keys[order])
    again = at < len(place)
    again[again] = place[at[again]] == keys[again]
    if again.any() and duplicates == "error":
        raise ValueError(f"{again.sum()} of {len(keys)} new ratings are of pairs that have one; "
                         f"duplicates=\"last\", \"mean\" or \"sum\" says how to merge")

    def both(stored: np.ndarray, given: np.ndarray, how: str = duplicates) -> np.ndarray:
        changed = _changed(stored, at[again], given[order][again], how)
        values: np.ndarray = np.insert(changed, at[~again], given[order][~again])
        return values

    columns = np.insert(old.by_user.indices, at[~again], new.columns[order][~again])
    counts = np.bincount(keys[~again] // shape[1], minlength=shape[0])
    counts[:old.shape[0]] += np.diff(old.by_user.indptr)
    matrix = sp.csr_array((both(old.by_user.data, new.values), columns,
                           np.concatenate([[0], np.cumsum(counts)])), shape=shape)
    times = None if new.times is None else both(
        old.moments.numbers, new.times, duplicates if duplicates == "last" else "latest")
    if old.weights is None and new.weights is None:
        return matrix, None, times
    weights = [np.ones(size, np.float32) if own is None else own for own, size in
               ((old.weights, old.nnz), (new.weights, len(keys)))]
    return matrix, both(weights[0], weights[1]), times


def _changed(stored: np.ndarray, at: np.ndarray, given: np.ndarray, duplicates: str) -> np.ndarray:
    """Return stored values with others at some places, in a dtype that holds both."""
    if duplicates == "latest":
        given, duplicates = np.maximum(stored[at], given), "last"
    adds_up = len(at) > 0 and duplicates != "last"
    out = stored.astype(np.float64 if adds_up else np.result_type(stored, given))
    total = out[at] + given if adds_up else given
    out[at] = total / 2 if duplicates == "mean" else total
    return out
