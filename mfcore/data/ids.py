"""Names of rows: integers, strings or other hashables, looked up in batches."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any

import numpy as np

from mfcore import validation

HISTORY = "rated"               # prefix of the names of features that are ids: see features.py
_LARGEST = 2**63 - 1            # of int64
_IN_TEXT = re.compile(r"0|-?[1-9][0-9]{0,18}", re.ASCII)        # an integer as Python prints it
WIDE = ("Int128", "UInt128")     # dtypes of polars that NumPy does not have
_TIMES = (date, time, timedelta, np.datetime64, np.timedelta64)      # (a Timestamp is a date)
_NO_IDS = (bool, Decimal, float, complex, np.inexact, np.bool_, *_TIMES)


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
    refuse_set(name, values)
    array = _column(name, values)
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {array.shape}")
    if _beyond_int64(array):
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


def refuse_set(name: str, values: Any) -> None:
    """Raise TypeError for a set where the order of ids matters."""
    if isinstance(values, Set) and not hasattr(values, "mapping"):      # (keys of a dict have one)
        raise TypeError(f"{name} must have an order, got a {type(values).__name__}; sorted() makes "
                        f"a list of it")


def _column(name: str, values: Any) -> np.ndarray:
    """Return any container of ids as an array; a frame of one column is that column."""
    if np.ma.is_masked(values):
        validation.refuse_missing(name, np.atleast_1d(values))
    if _is_table(values) and not hasattr(values, "__array__"):
        raise TypeError(f"{name} must be a column, got a {type(values).__name__}; collect it first")
    if _is_table(values) and len(values.columns) == 1 and hasattr(values, "to_series"):    # polars
        values = values.to_series()
    values = list(values) if str(getattr(values, "dtype", "")) in WIDE else \
        validation.with_nulls(values)
    if not hasattr(values, "__array__"):
        if isinstance(values, (str, bytes)):        # (whose letters nobody means)
            raise TypeError(f"{name} must be a sequence of ids, got {values!r}")
        values = validation.iterable(name, values)
        found = _integers(values)
        return as_objects(map(_plain, values)) if found is None else found
    array = np.asarray(values)
    return array[:, 0] if hasattr(values, "columns") and array.shape[1:] == (1,) else array


def _is_table(values: Any) -> bool:
    return hasattr(type(values), "columns")


def _plain(value: Any) -> Any:
    """Return a scalar of Arrow as the Python object that a column of them holds."""
    return value.as_py() if hasattr(value, "as_py") else value


def _beyond_int64(array: np.ndarray) -> bool:
    return array.dtype.kind == "u" and array.size > 0 and int(array.max()) > _LARGEST


def _integers(values: list[Any]) -> np.ndarray | None:
    """Return integers as int64, as objects if one is too large; None if one is no integer.

    NumPy alone would make floats of np.uint64 and int in one list, and wrap what is too large.
    """
    if not all(map(is_integer, values)):
        return None
    whole = list(map(int, values))
    try:
        return np.array(whole, np.int64)
    except OverflowError:
        return as_objects(whole)


def is_integer(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.timedelta64))


def as_int64(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return values as int64, and which of them are integers of 64 bits; the others become 0."""
    if values.dtype.kind == "u":
        fits = values <= np.uint64(_LARGEST)
        return np.where(fits, values, 0).astype(np.int64), fits
    if values.dtype.kind == "i":
        return values.astype(np.int64, copy=False), np.ones(values.shape, bool)
    fits = np.fromiter((is_integer(value) and -_LARGEST - 1 <= value <= _LARGEST
                        for value in values), bool, len(values))
    whole = np.zeros(values.shape, np.int64)
    whole[fits] = [int(value) for value in values[fits]]
    return whole, fits


def as_objects(values: Iterable[Any]) -> np.ndarray:
    """Return values as a 1-D object array, in which tuples and lists are one entry each."""
    return np.array([*values, None], object)[:-1]


def as_vector(ids: Any, name: str = "ids") -> np.ndarray:
    """Return ids (one, or a sequence) as a vector; each tuple in a list is one id."""
    is_one = isinstance(ids, (str, bytes)) or hasattr(ids, "as_py") or not hasattr(ids, "__iter__")
    if is_one and not _is_table(ids):
        ids = [ids]
    is_array = hasattr(ids, "__array__") or _is_table(ids)
    array = _column(name, ids) if is_array else _as_asked(list(ids))
    if array.ndim > 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {array.shape}")
    if not array.size:
        return np.empty(0, np.int64)
    return np.atleast_1d(array.astype(object) if _beyond_int64(array) else array)


def _as_asked(values: list[Any]) -> np.ndarray:
    found = _integers(values)
    if found is not None:
        return found
    values = list(map(_plain, values))
    if any(isinstance(value, (str, bytes, tuple)) for value in values):
        return as_objects(values)
    return validation.rectangular("ids", values)


def text_of(name: str, value: Any, row: int = 0) -> str | None:
    """Return an id as a file of text would hold it; None for anything but integers and text.

    Raises ValueError for a missing id, TypeError for floats, booleans and times, with the row.
    """
    if validation.is_missing(value):
        raise validation.missing_value(name, value, row, 1)
    value = _whole(value)
    if isinstance(value, _NO_IDS):
        raise _no_id(name, value, row)
    if isinstance(value, bytes):
        return value.decode(errors="surrogateescape")
    if isinstance(value, str):
        return str(value)
    return str(int(value)) if is_integer(value) else None


def _whole(value: Any) -> Any:
    """Return a whole decimal, as databases have them, as an integer; else the value."""
    is_whole = isinstance(value, Decimal) and value == value.to_integral_value()
    return int(value) if is_whole else value


def _no_id(name: str, value: Any, row: int) -> TypeError:
    cure = _CURES["M"] if isinstance(value, _TIMES) else ""
    return TypeError(f"{name} must be integers, strings or other hashables, got {value!r} in row "
                     f"{row}{cure}")


def whole_numbers(name: str, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ids as int64, and which of them are integers of 64 bits or the text of one."""
    if values.dtype != object:
        return as_int64(values)
    texts = [text_of(name, value, row) for row, value in enumerate(values)]
    return as_int64(as_objects(None if text is None else integer_of(text) for text in texts))


def integer_of(text: str) -> int | None:
    """Return the integer that Python prints so; None for other text, such as 007."""
    return int(text) if _IN_TEXT.fullmatch(text) else None


def factorize(name: str, values: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return (distinct ids, row number of each value).

    The distinct ids are sorted if they compare, else in order of first appearance.
    Raises as `as_id_array` does, ValueError for missing ids (None, NaN, NaT, NA), TypeError
    for floats, booleans and times among the objects, and for unhashable objects.
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
        raise TypeError(f"{name} must be hashable ({error}): make text of such values, or a row "
                        f"of each entry") from None
    distinct = as_id_array(name, _checked(name, codes, rows))
    try:
        order = np.argsort(distinct, kind="stable")
    except TypeError:
        return distinct, rows
    place = np.empty_like(order)
    place[order] = np.arange(order.size)
    return distinct[order], place[rows]


def factorize_for_fit(name: str, values: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return what `factorize` does; ValueError for an integer and the text that it prints.

    Elsewhere they are one id, so that a column with both would make two rows of one.
    """
    distinct, rows = factorize(name, values)
    if distinct.dtype != object or all_text(distinct):
        return distinct, rows
    if twins := {str(each) for each in distinct if is_integer(each)}.intersection(distinct):
        raise ValueError(f"{name} must not be integers and their text in one column, got "
                         f"{min(twins)} and {min(twins)!r}; astype(str) makes text of all")
    return distinct, rows


def all_text(values: Iterable[Any]) -> bool:
    """Return whether all values are plain text, which needs no other check; quick."""
    return set(map(type, values)) <= {str}


def _checked(name: str, codes: Mapping[Any, int], rows: np.ndarray) -> list[Any]:
    """Return distinct ids; whole decimals, as databases have them, become integers."""
    if all_text(codes):
        return list(codes)
    found, missing = list(codes), np.fromiter(map(validation.is_missing, codes), bool, len(codes))
    if missing.any():
        lines = np.flatnonzero(missing[rows])
        raise validation.missing_value(name, found[rows[lines[0]]], int(lines[0]), len(lines))
    for code, value in enumerate(map(_whole, codes)):
        found[code] = value
        if isinstance(value, _NO_IDS):
            raise _no_id(name, value, int(np.argmax(rows == code)))
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
    """Distinct ids of the rows of a matrix; ValueError for repeated ones.

    An id is looked up as it is; failing that, an integer by its text, and text by the integer
    that prints so.  A table of a database and a file of text so name the same rows.
    """

    values: np.ndarray

    def __init__(self, name: str, values: Any) -> None:
        array = as_id_array(name, values).copy()
        distinct = factorize(name, array)[0].size
        if distinct < array.size:
            raise ValueError(f"{name} must be distinct, got {array.size} ids of which "
                             f"{distinct} differ")
        self.__setstate__({"values": array})

    @classmethod
    def of_distinct(cls, values: np.ndarray) -> Ids:
        """Return ids that are known to be sound and distinct."""
        made = object.__new__(cls)
        made.__setstate__({"values": values})
        return made

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.values.flags.writeable = False         # a pickle does not keep it

    def extended(self, fresh: np.ndarray) -> Ids:
        """Return ids with further ones, distinct and unknown, behind them."""
        made = Ids.of_distinct(np.concatenate([self.values, fresh.astype(self.values.dtype)]))
        if "_by_value" in vars(self):               # (to look all of them up anew takes longer)
            further = zip(fresh.tolist(), range(len(self.values), len(made.values)), strict=True)
            made.__dict__["_by_value"] = {**self._by_value, **dict(further)}
        return made

    def select(self, rows: np.ndarray) -> Ids:
        """Return the ids of some rows; those of distinct rows are distinct."""
        if len(np.unique(rows)) < len(rows):
            return Ids("ids", self.values[rows])
        return Ids.of_distinct(self.values[rows])

    @cached_property
    def _by_value(self) -> dict[Any, int]:
        return {value: row for row, value in enumerate(self.values.tolist())}

    @cached_property
    def _by_text(self) -> dict[str, int]:
        """The row of each text; none of a text that two ids share, as those of 1 and "1"."""
        if all_text(self._by_value):
            return self._by_value
        texts = [text_of("ids", value) for value in self._by_value]
        count = Counter(texts)
        return {text: row for row, text in enumerate(texts)
                if text is not None and count[text] == 1}

    @cached_property
    def _order(self) -> np.ndarray:
        return np.argsort(self.values, kind="stable")

    def positions(self, values: Any, name: str = "ids") -> np.ndarray:
        """Return the row number of each id as int64, -1 if it is unknown.

        Raises for missing ids, floats, booleans and times, as `factorize`.
        """
        array = as_id_array(name, as_vector(values, name))
        return self._among_objects(name, array) if self.values.dtype == object else \
            self._among_integers(*whole_numbers(name, array))

    def _among_objects(self, name: str, asked: np.ndarray) -> np.ndarray:
        listed = asked.tolist()
        rows = np.fromiter((self._by_value.get(value, -1) for value in listed), np.int64,
                           len(listed))
        for place in np.flatnonzero(rows < 0):
            text = text_of(name, listed[place], int(place))
            rows[place] = -1 if text is None else self._by_text.get(text, -1)
        return rows

    def _among_integers(self, asked: np.ndarray, fits: np.ndarray) -> np.ndarray:
        if not self.values.size:
            return np.full(len(asked), -1, np.int64)
        order = self._order
        place = order[np.searchsorted(self.values, asked, sorter=order).clip(0, order.size - 1)]
        return np.where(fits & (self.values[place] == asked), place, -1)

    def in_kind(self, name: str, values: np.ndarray) -> np.ndarray:
        """Return further ids as these are: integers among integers, text among text.

        Raises TypeError for anything but an integer among integers.
        """
        if self.values.dtype != object:
            whole, fits = whole_numbers(name, as_id_array(name, values))
            if not fits.all():
                raise TypeError(f"{name} of the fit are integers, got "
                                f"{values[~fits][:3].tolist()}")
            return whole
        if self._by_text is self._by_value:
            return as_objects(text_of(name, value) or value for value in values.tolist())
        return as_id_array(name, values).astype(object)
