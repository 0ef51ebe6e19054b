"""How a ratings file is laid out: what the caller says, and what its first lines show."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mfcore import validation

Column = int | str | None

# If several fit equally well, the first is taken; " " means any run of spaces and tabs.
SEPARATORS = (",", "\t", "::", ";", "|", " ")
# Columns of a file without a header, unless they are given by number.
_POSITIONS = {"user": 0, "item": 1, "rating": 2, "timestamp": 3}
_SPELLINGS = {
    "user": ("user", "userid", "users", "uid", "customer", "customerid"),
    "item": ("item", "itemid", "items", "iid", "movie", "movieid", "product", "productid"),
    "rating": ("rating", "ratings", "score", "stars", "value"),
    "weight": ("weight", "weights"),
    "timestamp": ("timestamp", "time", "unixtime", "ts"),
}
# Spellings of a missing rating, or of yes and no, which are not names of columns.
_NO_NAMES = {"", "na", "nan", "null", "none", "nil", "missing", "inf", "infinity", "true",
             "false"}


class Reading(NamedTuple):
    """Which columns of a file to read, and what is known of its format: see `read_ratings`."""

    user: Column = "user"
    item: Column = "item"
    rating: Column = "rating"
    weight: Column = None
    separator: str | None = None
    header: bool | None = None
    encoding: str = "utf-8"
    text_ids: bool = False
    timestamp: Column = None

    @property
    def asked(self) -> dict[str, Column]:
        """The columns asked for; ValueError if those of users or items are not among them."""
        columns = {what: getattr(self, what) for what in _SPELLINGS}
        for what in "user", "item":
            if columns[what] is None:
                raise ValueError(f"{what} must name a column or a position, got None")
        return {what: column for what, column in columns.items() if column is not None}


@dataclass(frozen=True)
class Layout:
    """Where things are in a file: `columns` maps what is wanted to its position, from 0."""

    separator: str
    header: tuple[str, ...] | None
    columns: dict[str, int]

    @property
    def last(self) -> int:
        """The last column that is read."""
        return max(self.columns.values())

    def described(self, column: int) -> str:
        """Name a column for a message: its number from 1 and its header."""
        named = f" ({self.header[column]!r})" if self.header is not None else ""
        return f"column {column + 1}{named}"


def find_layout(name: str, lines: Sequence[str], reading: Reading) -> Layout:
    """Work out the layout of a text file from its first lines.

    Parameters
    ----------
    name : str
        The name of the file in messages.
    lines : sequence of str
        Its first lines that are not blank, at least one.
    reading : Reading
        Columns are positions from 0 or names in the header.  The words "user", "item", ... also
        match their usual spellings and, only without a header, their usual positions (user,
        item, rating, timestamp).  Separator and header are found out if None.

    Raises
    ------
    ValueError
        No separator, no such column, two uses of one column, no line after the header.
    """
    asked, separator = reading.asked, reading.separator
    if separator is not None and (not isinstance(separator, str) or not separator
                                  or set(separator) & set("\r\n\"")):
        raise ValueError(f"separator must be ',', ';', '|', a tab, '::' or ' ' for spaces and "
                         f"tabs, got {separator!r}")
    if separator is None:
        separator = _sniff_separator(name, lines, asked)
    rows = [split_line(line, separator) for line in lines]
    header = _sniff_header(rows, asked) if reading.header is None else reading.header
    if header and len(rows) < 2:
        raise ValueError(f"{name} has a header and no line of ratings: {lines[0]!r}")
    names = tuple(field.strip() for field in rows[0]) if header else None
    first = rows[bool(header)]
    return Layout(separator, names, find_columns(name, asked, names, first))


def split_line(line: str, separator: str) -> list[str]:
    """Cut one line into fields; quotes protect a separator of one character."""
    if separator == " ":
        return line.split()
    if len(separator) > 1:
        return line.split(separator)
    return next(csv.reader([line], delimiter=separator, skipinitialspace=True))


def find_columns(name: str, asked: Mapping[str, Column], header: Sequence[str] | None,
                 first: Sequence[str]) -> dict[str, int]:
    """Return the position of each column asked for, all different and all in `first`."""
    found = {what: _place(name, what, column, header, first)
             for what, column in asked.items()}
    uses: dict[int, str] = {}
    for what, place in found.items():
        if place in uses:
            shown = f"; its columns: {', '.join(header)}" if header else ""
            raise ValueError(f"{name}: {uses[place]} and {what} are both column {place + 1}; "
                             f"say which is which, as in {what}=...{shown}")
        uses[place] = what
    return found


def _place(name: str, what: str, column: Column, header: Sequence[str] | None,
           first: Sequence[str]) -> int:
    cure = "; rating=None counts every line as 1" if what == "rating" else ""
    place = _named_place(name, what, column, header, cure) if isinstance(column, str) else \
        validation.integer(what, column)
    if place >= len(first):
        raise ValueError(f"{name} must have {place + 1} columns for {what}={column!r}, got "
                         f"{len(first)}: {', '.join(map(repr, first))[:60]}{cure}")
    return place


def _named_place(name: str, what: str, column: str, header: Sequence[str] | None,
                 cure: str) -> int:
    names = header or ()
    if column in names:
        return names.index(column)
    if column == what:
        for place, field in enumerate(names):
            if _names_any([field], what):
                return place
        if header is None and what in _POSITIONS:
            return _POSITIONS[what]
    choice = (f"its columns: {', '.join(names)}; name them: user=..., item=..., rating=..."
              f"{cure}") if names else "it has no header"
    raise ValueError(f"{name} has no column {column!r} for {what}; {choice}")


def _plain(field: str) -> str:
    """Reduce `user_id:token`, `userId` and `User ID` to `userid`; keep digits."""
    untyped = re.sub(r":(token|float)(_seq)?$", "", field.strip().lower())
    return re.sub(r"[\W_]", "", untyped)


def _sniff_separator(name: str, lines: Sequence[str], asked: Mapping[str, Column]) -> str:
    """Return the separator that gives enough columns in the most lines."""
    places = [column if isinstance(column, int) else _POSITIONS.get(what, 0)
              for what, column in asked.items() if isinstance(column, int) or column == what]
    for enough in (max([1, *places]) + 1, 2):
        fits = [sum(len(split_line(line, each)) >= enough for line in lines) for each in SEPARATORS]
        if max(fits) > 0:
            return SEPARATORS[fits.index(max(fits))]
    raise ValueError(f"{name}, line 1: expected at least two columns separated by a comma, a "
                     f"tab, '::', '|', ';' or spaces, got {lines[0][:60]!r}")


def _sniff_header(rows: list[list[str]], asked: Mapping[str, Column]) -> bool:
    """Return whether the first line names columns, and is not a rating that would be lost."""
    if any(isinstance(column, str) and column != what for what, column in asked.items()):
        return True
    if "rating" not in asked:
        return _names_any(rows[0], "user", "item")
    place = _rating_place(rows[0], asked["rating"])
    if place < len(rows[0]) and not _may_be_name(rows[0][place]):
        return False
    if _names_any(rows[0], *_SPELLINGS):
        return True
    if len(rows) < 2 or place >= min(len(rows[0]), len(rows[1])):
        return False
    # If the second line has no rating either, this only chooses which error is shown.
    numeric = [any(map(_is_number, row)) for row in rows[:2]]
    return _is_number(rows[1][place]) or numeric == [False, True]


def _names_any(fields: Sequence[str], *whats: str) -> bool:
    return any(_plain(field) in _SPELLINGS[what] for field in fields for what in whats)


def _rating_place(first: Sequence[str], column: Column) -> int:
    if not isinstance(column, str):
        return validation.integer("rating", column)
    named = [place for place, field in enumerate(first) if _names_any([field], "rating")]
    return named[0] if named and not any(map(_is_number, first)) else _POSITIONS["rating"]


def _may_be_name(field: str) -> bool:
    """Distinguish names from numbers, `5 stars`, `-` and spellings of a missing value."""
    plain = _plain(field)
    return plain[:1].isalpha() and plain not in _NO_NAMES and field.strip() != r"\N"


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
