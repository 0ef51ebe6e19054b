"""Columns out of frames: dicts, pandas, and what narwhals reads where it is installed.

That is polars (also lazy), pyarrow, DuckDB, Spark, ..., and any object with Arrow's interface
`__arrow_c_stream__`.  Of what is computed on demand, only the columns asked for are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from mfcore import validation
from mfcore.data.columns import Columns
from mfcore.data.ids import WIDE, Coded, as_id_array, as_objects, factorize
from mfcore.data.names import MISSING, Column, named_place
from mfcore.data.words import refuse_words

ARROW = "__arrow_c_stream__"
HOLDERS = ("pyarrow", "polars", "pandas")       # of what comes through Arrow's interface


class Table(NamedTuple):
    """The names of the columns of a frame, and a function that reads some of them."""

    names: list[Any]
    read: Callable[[Sequence[Any]], list[Any]]

    def has(self, asked: Mapping[str, Column]) -> bool:
        """Tell whether there is a column for each that is asked for."""
        return all(self._place(what, column) is not None for what, column in asked.items())

    def columns(self, asked: Mapping[str, Column]) -> dict[str, tuple[str, Any]]:
        """Return how messages name a column, and its values, by what it is.

        Parameters
        ----------
        asked : dict of str to str or int
            Names, or positions from 0; "user", "item", ... also match their usual spellings.

        Raises
        ------
        KeyError
            For columns that are not there, all of them named.
        ValueError
            For two uses of one column, or two columns of one name.
        TypeError
            For names that are neither strings nor positions.
        """
        places = {what: self._place(what, column) for what, column in asked.items()}
        missing = [asked[what] for what, place in places.items() if place is None]
        if missing:
            raise KeyError(f"no column {', '.join(map(repr, missing))} in the frame; it has "
                           f"{self.names[:50]}{self._meant(missing)}")
        titles = [self.names[place] for place in places.values() if place is not None]
        for title in titles:
            if titles.count(title) > 1 or self.names.count(title) > 1:
                raise ValueError(f"{', '.join(asked)} must be one column each, got {title!r} "
                                 f"twice; the frame has {self.names[:50]}")
        return {what: (f"column {title!r}", values) for what, title, values in
                zip(asked, titles, self.read(titles), strict=True)}

    def _place(self, what: str, column: Column) -> int | None:
        if isinstance(column, str):
            return named_place(what, column, self.names)
        place = validation.integer(what, column)
        if place in self.names:             # a label, as pandas gives where there are no names
            return self.names.index(place)
        return place if place < len(self.names) else None

    def _meant(self, missing: Sequence[Any]) -> str:
        if any(isinstance(name, tuple) for name in self.names):
            return "; name its columns by strings: frame.columns = [...]"
        return "".join(validation.meant(str(name), self.names) for name in missing[:1])


def columns_of(frame: Any, asked: Mapping[str, Column], missing: Sequence[str] = MISSING
               ) -> Columns:
    """Return columns of a frame as those of a ratings file; there may be no rows.

    Raises as `table_of` and `Table.columns` do, and ValueError or TypeError, with column and row,
    for missing or infinite values, truth values, and what a file's ids and numbers may not be.
    """
    found = table_of(frame).columns(asked)
    for name, values in found.values():
        if isinstance(values, str) or not hasattr(values, "__len__"):
            raise TypeError(f"{name} must hold a value per rating, got {values!r}")
    if all(len(values) == 0 for _, values in found.values()):           # (of any type)
        nothing = np.empty(0, np.int64)
        return Columns(nothing, nothing, *(nothing if what in found else None
                                           for what in ("rating", "weight", "timestamp")))
    users, items = (ids_of(*found[what], missing) for what in ("user", "item"))
    numbers = {what: numbers_of(*found[what]) for what in found if what in ("rating", "weight")}
    times = times_in(*found["timestamp"]) if "timestamp" in found else None
    lengths: dict[str, Any] = {"users": users, "items": items, **numbers,
                               **({} if times is None else {"times": times.numbers})}
    validation.same_length(**lengths)
    if "weight" in numbers:
        validation.nonnegative(found["weight"][0], numbers["weight"])
    return Columns(users, items, numbers.get("rating"), numbers.get("weight"), times)


def times_in(name: str, values: Any) -> Any:
    """Return a column of moments, `mfcore.data.times.Times`."""
    from mfcore.data.times import Times

    return Times.of(name, values)


def numbers_of(name: str, values: Any) -> np.ndarray:
    """Return a column of finite numbers; raise TypeError for truth values, as a file does."""
    column = validation.vector(name, values)
    if column.dtype == bool or np.asarray(values).dtype == object and \
            any(isinstance(value, (bool, np.bool_)) for value in values):
        raise TypeError(f"{name} must be numbers, got truth values; astype(int) makes 0 and 1 of "
                        f"them")
    validation.refuse_missing(name, column)
    return validation.finite(name, column, "drop or fill these rows first")


def ids_of(name: str, values: Any, missing: Sequence[str]) -> np.ndarray | Coded:
    """Return a column of ids, text as the numbers of distinct ones; raise as `columns_of`."""
    array = as_id_array(name, values)
    if array.dtype != object:
        return array
    distinct, rows = factorize(name, array)
    if distinct.dtype != object:
        return np.take(distinct, rows)
    refuse_words(name, distinct.tolist(), rows, missing)
    return Coded(distinct, rows)


def is_frame(given: Any) -> bool:
    """Tell whether something has columns by name."""
    return isinstance(given, Mapping) or _fields(given) is not None or any(
        hasattr(type(given), name) for name in (ARROW, "columns", "iloc"))


def table_of(frame: Any) -> Table:
    """Return a frame, or an iterator of its parts, as a table.

    Raises
    ------
    TypeError
        For what has no columns by name.
    ImportError
        For a frame that needs narwhals where that is not installed.
    """
    if hasattr(frame, "iloc") and hasattr(frame, "columns"):            # pandas and its like
        return _with_index(frame)
    if _is_column(frame) or not (is_frame(frame) or isinstance(frame, Iterator)):
        raise _no_frame(frame)
    names = list(frame) if isinstance(frame, Mapping) else _fields(frame)
    if names is not None:
        return Table(names, lambda wanted: [frame[name] for name in wanted])
    if isinstance(frame, Iterator) and not hasattr(frame, ARROW):
        return _joined([table_of(part) for part in frame])
    return _by_narwhals(frame)


def _is_column(frame: Any) -> bool:
    """Tell whether something is one column: of pandas, polars or Arrow."""
    return hasattr(frame, "iloc") or (
        hasattr(type(frame), ARROW) and not hasattr(type(frame), "columns")
        and (hasattr(frame, "dtype") or hasattr(frame, "type")))


def _no_frame(frame: Any) -> TypeError:
    cure = "; reset_index() makes a frame of it" if hasattr(frame, "reset_index") else ""
    return TypeError(f"frame must have columns by name, as a dict or a data frame has, got "
                     f"{type(frame).__name__}{cure}")


def _fields(frame: Any) -> list[str] | None:
    """Return the fields of a structured array, None for anything else."""
    names = getattr(getattr(frame, "dtype", None), "names", None)
    return None if names is None else list(names)


def _with_index(frame: Any) -> Table:
    """Return a frame whose index, where it has a name, counts as a column, as it does in a file."""
    names = list(frame.columns)
    levels = [name for name in frame.index.names if name is not None and name not in names]
    return Table(names + levels, lambda wanted: [
        _plain(frame.index.get_level_values(name) if name in levels else frame[name])
        for name in wanted])


def _plain(column: Any) -> Any:
    """Return a column as an array, but one with a time zone, which arrays do not have, as it is."""
    from mfcore.data.times import zone_of

    return column if zone_of(column) is not None else np.asarray(column)


def _joined(tables: Sequence[Table]) -> Table:
    if not tables or any(each.names != tables[0].names for each in tables):
        raise ValueError("parts of a frame must have the same columns, and be one at least, got "
                         + (" and ".join(str(each.names) for each in tables[:2]) or "none"))

    def read(wanted: Sequence[Any]) -> list[Any]:
        parts = zip(*(each.read(wanted) for each in tables), strict=True)
        return [np.concatenate([part if isinstance(part, np.ndarray) else
                                as_objects(getattr(part, "to_pylist", part.__iter__)())
                                for part in column]) for column in parts]
    return Table(tables[0].names, read)


def _by_narwhals(frame: Any) -> Table:
    try:
        import narwhals as nw
    except ImportError:
        raise ImportError(f"reading {type(frame).__name__} needs narwhals: "
                          f"pip install 'mfcore[frames]'") from None
    try:
        found: Any = nw.from_native(frame, pass_through=True)
        if found is frame:
            found = nw.from_arrow(frame, backend=next(filter(find_spec, HOLDERS), "pyarrow"))
    except (TypeError, ValueError) as error:
        raise TypeError(f"frame cannot be read: {' '.join(str(error).split())}") from None
    if isinstance(found, nw.LazyFrame):
        return Table(found.collect_schema().names(),
                     lambda wanted: _arrays(found.select(wanted).collect(), wanted))
    return Table(found.columns, partial(_arrays, found))


def _arrays(found: Any, wanted: Sequence[str]) -> list[np.ndarray]:
    """Return columns as arrays, in which a missing value is None, NaN or NaT."""
    return [_array(name, found.get_column(name)) for name in wanted]


def _array(name: str, column: Any) -> np.ndarray:
    try:
        return _converted(column)
    except Exception as error:                  # (of the library that holds it)
        raise TypeError(f"column {name!r} of type {column.dtype} cannot be read; make numbers or "
                        f"text of it first ({' '.join(str(error).split())})") from None


def _converted(column: Any) -> np.ndarray:
    if column.null_count() or str(column.dtype) in WIDE:
        return as_objects(column.to_list())     # (to_numpy makes a category of Arrow's null)
    return column.to_native() if _plain(column) is column else np.asarray(column.to_numpy())
