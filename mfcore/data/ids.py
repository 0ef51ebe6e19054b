"""Names of rows: integers, strings or other hashables, looked up in batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mfcore import persistence, validation

_LARGEST = 2**63 - 1            # of int64


@dataclass(frozen=True)
class Coded:
    """A column of ids in which each entry is the number of one of its distinct ids.

    Parameters
    ----------
    ids : ndarray of objects
        Each occurs.
    codes : ndarray of int64, shape (n,)
    """

    ids: np.ndarray
    codes: np.ndarray
    dtype = np.dtype(object)

    def __len__(self) -> int:
        return len(self.codes)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.ids[self.codes], dtype)


def as_id_array(name: str, values: Any) -> np.ndarray:
    """Return ids as a 1-D array: int64 for integers, else objects (strings, tuples, ...).

    Raises TypeError for floats (NaN is not equal to itself), booleans and dates, ValueError for
    missing entries and integers beyond int64.  `factorize` checks the objects.
    """
    if np.ma.is_masked(values):
        validation.refuse_missing(name, values)
    array = np.asarray(values) if isinstance(values, np.ndarray) else _from_sequence(values)
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {array.shape}")
    if array.dtype.kind == "u" and array.size and array.max() > _LARGEST:
        raise ValueError(f"{name} must be < 2**63, got {array.max()}; strings can hold them")
    if array.dtype.kind in "iu":
        return array.astype(np.int64, copy=False)
    if array.dtype.kind in "fbcmM":
        validation.refuse_missing(name, array)
        shown = f", such as {array[0]}" if array.size else ""
        cure = _CURES.get(array.dtype.kind, "")
        raise TypeError(f"{name} must be integers, strings or other hashables, got dtype "
                        f"{array.dtype}{shown}{cure}")
    return array.astype(object, copy=False)


_CURES = {"f": "; astype('int64') makes whole numbers of them", "M": "; astype(str) makes names of "
          "them", "b": "; astype(int) makes 0 and 1 of them"}


def _from_sequence(values: Any) -> np.ndarray:
    values = validation.with_nulls(values)
    if hasattr(values, "__array__"):
        return np.asarray(values)
    values = list(values)
    found = _integers(values)
    return as_objects(values) if found is None else found


def _integers(values: list[Any]) -> np.ndarray | None:
    """Return integers as int64, as objects if one is too large; None if one is no integer.

    NumPy alone would make floats of np.uint64 and int in one list, and wrap what is too large.
    """
    if not all(map(_is_integer, values)):
        return None
    whole = list(map(int, values))
    try:
        return np.array(whole, np.int64)
    except OverflowError:
        return as_objects(whole)


def _is_integer(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.timedelta64))


def as_int64(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return values as int64, and which of them are integers of 64 bits; the others become 0."""
    if values.dtype.kind == "u":
        fits = values <= np.uint64(_LARGEST)
        return np.where(fits, values, 0).astype(np.int64), fits
    if values.dtype.kind == "i":
        return values.astype(np.int64, copy=False), np.ones(values.shape, bool)
    fits = np.fromiter((_is_integer(value) and -_LARGEST - 1 <= value <= _LARGEST
                        for value in values), bool, len(values))
    whole = np.zeros(values.shape, np.int64)
    whole[fits] = [int(value) for value in values[fits]]
    return whole, fits


def as_objects(values: Iterable[Any]) -> np.ndarray:
    """Return values as a 1-D object array, in which tuples and lists are one entry each."""
    return np.array([*values, None], object)[:-1]


def as_vector(ids: Any) -> np.ndarray:
    """Return ids (one, or a sequence) as a vector; each tuple in a list is one id."""
    if isinstance(ids, (str, bytes)) or not hasattr(ids, "__iter__"):
        ids = [ids]
    array = np.asarray(ids) if hasattr(ids, "__array__") else _as_asked(list(ids))
    if array.ndim > 1:
        raise ValueError(f"ids must be one-dimensional, got shape {array.shape}")
    return np.atleast_1d(array)


def _as_asked(values: list[Any]) -> np.ndarray:
    if any(isinstance(value, (str, bytes, tuple)) for value in values):
        return as_objects(values)
    found = _integers(values)
    return validation.rectangular("ids", values) if found is None else found


def factorize(name: str, values: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return (distinct ids, row number of each value).

    The distinct ids are sorted if they compare, else in order of first appearance.
    Raises as `as_id_array` does, ValueError for missing ids (None, NaN, NaT, NA), TypeError
    for floats and booleans among the objects, and for unhashable objects.
    """
    if isinstance(values, Coded):
        distinct, rows = factorize(name, values.ids)
        return distinct, rows[values.codes]
    array = as_id_array(name, values)
    if array.dtype != object:
        return _factorize_integers(array)
    codes: dict[Any, int] = {}
    try:
        rows = np.fromiter((codes.setdefault(value, len(codes)) for value in array),
                           np.int64, len(array))
    except TypeError as error:
        raise TypeError(f"{name} must be hashable: {error}") from None
    distinct = as_id_array(name, _checked(name, codes, rows))
    try:
        order = np.argsort(distinct, kind="stable")
    except TypeError:
        return distinct, rows
    place = np.empty_like(order)
    place[order] = np.arange(order.size)
    return distinct[order], place[rows]


def _checked(name: str, codes: Mapping[Any, int], rows: np.ndarray) -> list[Any]:
    """Return distinct ids; whole decimals, as databases have them, become integers."""
    found, missing = list(codes), np.fromiter(map(validation.is_missing, codes), bool, len(codes))
    if missing.any():
        lines = np.flatnonzero(missing[rows])
        raise validation.missing_value(name, found[rows[lines[0]]], int(lines[0]), len(lines))
    for code, value in enumerate(found):
        if isinstance(value, Decimal) and value == value.to_integral_value():
            found[code] = int(value)
        elif isinstance(value, (bool, Decimal, float, complex, np.inexact, np.bool_)):
            raise TypeError(f"{name} must be integers, strings or other hashables, got {value!r} "
                            f"in row {np.argmax(rows == code)}")
    return found


def _factorize_integers(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    if high - low > 4 * array.size + 1_000_000:
        distinct, rows = np.unique(array, return_inverse=True)
        return distinct, rows
    present = np.zeros(high - low + 1, bool)
    present[array - low] = True
    place = np.cumsum(present, dtype=np.int64) - 1
    return np.flatnonzero(present) + low, place[array - low]


class Ids:
    """Distinct ids of the rows of a matrix; ValueError for repeated ones."""

    def __init__(self, name: str, values: Any) -> None:
        self.values = as_id_array(name, values).copy()
        self.values.flags.writeable = False
        distinct = factorize(name, self.values)[0].size
        if distinct < self.values.size:
            raise ValueError(f"{name} must be distinct, got {self.values.size} ids of which "
                             f"{distinct} differ")

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.values.flags.writeable = False         # a pickle does not keep it

    @cached_property
    def _by_value(self) -> dict[Any, int]:
        return {value: row for row, value in enumerate(self.values.tolist())}

    @cached_property
    def _order(self) -> np.ndarray:
        return np.argsort(self.values, kind="stable")

    def positions(self, values: Any) -> np.ndarray:
        """Return the row number of each id as int64, -1 if it is unknown."""
        array = as_vector(values)
        if self.values.dtype == object:
            asked = array.tolist() if array.dtype.kind in "iu" else array
            return np.fromiter((self._by_value.get(value, -1) for value in asked), np.int64)
        if array.dtype.kind in "fbc" and array.size:
            raise TypeError(f"ids are integers, got dtype {array.dtype}; convert them first")
        whole, fits = as_int64(array)
        if not self.values.size:
            return np.full(len(array), -1, np.int64)
        order = self._order
        place = order[np.searchsorted(self.values, whole, sorter=order).clip(0, order.size - 1)]
        return np.where(fits & (self.values[place] == whole), place, -1)


def named_or_none(name: str, ids: Any, size: int) -> Ids | None:
    """Return the checked ids of `size` rows, or None if rows have only numbers."""
    if ids is None:
        return None
    named = ids if isinstance(ids, Ids) else Ids(name, ids)
    if named.values.size != size:
        raise ValueError(f"{name} must have {size} entries, got {named.values.size}")
    return named


def positions_of(name: str, values: Any, ids: Ids | None, size: int) -> np.ndarray:
    """Return row numbers, -1 if unknown; without `ids`, `values` are row numbers themselves."""
    if ids is not None:
        return ids.positions(values)
    array = as_vector(values)
    if array.dtype != object or not all(map(_is_integer, array)):       # (of more than 64 bits)
        array = validation.numeric(name, array)
        if array.size and array.dtype.kind not in "iu":
            raise TypeError(f"{name} must be row numbers (the ratings have no ids), got dtype "
                            f"{array.dtype}")
    rows, fits = as_int64(array)
    return np.where(fits & (rows >= 0) & (rows < size), rows, -1)


def known_positions(name: str, values: Any, ids: Ids | None, size: int) -> np.ndarray:
    """Return row numbers; KeyError for an unknown id, IndexError for a number out of range."""
    values = as_vector(values)
    if ids is None:
        return validation.positions(name, values, size)
    rows = ids.positions(values)
    validation.known_ids(name, values.tolist(), rows)
    return rows


class CollectedIds:
    """Distinct ids, collected in pieces.

    Each id has a key at once, and a row number once all are known.  The key of an integer is
    the integer; of any other id, its place among those seen.  Rows are numbered by sorted id,
    as in `Ratings.from_arrays`.
    """

    def __init__(self, name: str, known: np.ndarray | None = None) -> None:
        self.name = name
        self._known = None if known is None or not known.size else known    # of no kind if empty
        self._codes: dict[Any, int] = {}
        if known is not None and known.dtype == object:
            self._codes = {value: code for code, value in enumerate(known.tolist())}
        self._places: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self._codes) or (0 if self._known is None else len(self._known))

    def keys(self, values: Any) -> np.ndarray:
        """Return the key of each id, int64, and remember new ids.

        Raises ValueError if some pieces hold integers and others do not.
        """
        array = values if isinstance(values, Coded) else as_id_array(self.name, values)
        if not len(array):
            return np.empty(0, np.int64)
        distinct, rows = factorize(self.name, array)
        if self._known is not None and (distinct.dtype == object) != (self._known.dtype == object):
            raise ValueError(f"{self.name} are whole numbers in some parts and text in others; "
                             f"read them all as they are written (text_ids=True, --text-ids)")
        self._places = None
        if distinct.dtype != object:
            self._known = distinct if self._known is None else _united(self._known, distinct)
            return np.take(distinct, rows) if array.dtype == object else np.asarray(array)
        codes = np.array([self._codes.setdefault(value, len(self._codes)) for value in distinct],
                         np.int64)
        self._known = self._known if self._known is not None else np.empty(0, object)
        return np.asarray(codes[rows])

    @property
    def sorted_ids(self) -> np.ndarray:
        """All ids, in the order of the rows."""
        if not self._codes:
            return np.empty(0, np.int64) if self._known is None else self._known
        return factorize(self.name, list(self._codes))[0]

    def numbers(self, keys: np.ndarray) -> np.ndarray:
        """Return the row number of each key, once all ids are known."""
        if self._codes:
            if self._places is None:
                self._places = factorize(self.name, list(self._codes))[1]
            return np.asarray(self._places[keys])
        ids = self.sorted_ids
        if not ids.size or int(ids[-1]) - int(ids[0]) > 4 * ids.size + 1_000_000:
            return np.searchsorted(ids, keys)
        if self._places is None:            # a table is faster where ids lie close together
            self._places = np.zeros(ids[-1] - ids[0] + 1, np.int64)
            self._places[ids - ids[0]] = np.arange(ids.size)
        return np.asarray(self._places[keys - ids[0]])

    def save(self, path: Path) -> None:
        """Write the ids to a file."""
        ids = as_id_array(self.name, list(self._codes)) if self._codes else self.sorted_ids
        persistence.write(path, {"ids": ids}, {})

    @classmethod
    def load(cls, path: Path, name: str) -> CollectedIds:
        """Read what `save` wrote; there are no ids if there is no file."""
        return cls(name, persistence.read(path)[0]["ids"] if path.exists() else None)


def _united(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the union of two sorted arrays, sorted.

    A stable sort merges runs; np.union1d hashes every entry again, which takes 200 times as long.
    """
    both = np.sort(np.concatenate([a, b]), kind="stable")
    fresh = np.ones(both.size, bool)
    fresh[1:] = both[1:] != both[:-1]
    return both[fresh]
