"""How a ratings file is laid out: what the caller says, and what its first lines show."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from mfcore import validation
from mfcore.data.dialect import BLANKS, RUNS, Dialect, LineError, first_records, records
from mfcore.data.heading import (
    COMMENTS,
    comments_at_the_top,
    declared_separator,
    look_for_numbered_columns,
    names_in_comment,
    refuse_commented_rows,
    refuse_other_formats,
)
from mfcore.data.names import (
    MISSING,
    POSITIONS,
    SPELLINGS,
    Column,
    is_number,
    may_be_name,
    named_place,
    names_any,
    rating_place,
)

# If several fit equally well, the first is taken whose fields do not hold another.
SEPARATORS = (",", "\t", "::", ";", "|", RUNS)


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
    quoting: bool | int = True
    comment: str | None = None
    skip_lines: int = 0
    missing: Sequence[str] = MISSING

    @property
    def asked(self) -> dict[str, Column]:
        """The columns asked for; ValueError if those of users or items are not among them."""
        columns = {what: getattr(self, what) for what in SPELLINGS}
        for what in "user", "item":
            if columns[what] is None:
                raise ValueError(f"{what} must name a column or a position, got None")
        return {what: column for what, column in columns.items() if column is not None}

    def checked(self) -> Reading:
        """Return the same, with `quoting` as a bool; ValueError or TypeError for a bad option."""
        if not self.asked or self.header is not None:
            validation.boolean("header", self.header)
        validation.boolean("text_ids", self.text_ids)
        validation.integer("skip_lines", self.skip_lines)
        _check_characters("separator", self.separator, "',', ';', '|', a tab, '::' or ' ' for "
                          "spaces and tabs")
        if self.comment:
            _check_characters("comment", self.comment, "the beginning of a line, such as '#'")
        if isinstance(self.missing, str) or not all(isinstance(each, str) for each in self.missing):
            raise TypeError(f"missing must be a sequence of words, got {self.missing!r}")
        return self._replace(quoting=_quoting(self.quoting))


def _check_characters(name: str, text: str | None, demand: str) -> None:
    if text is not None and (not isinstance(text, str) or not text or set(text) & set("\r\n\"\0")
                             or not text.isascii() and not text.isprintable()):
        raise ValueError(f"{name} must be {demand}, got {text!r}")


def _quoting(given: bool | int) -> bool:
    """Understand the constants of `csv` too (of which QUOTE_NONE is a true 3)."""
    if isinstance(given, bool):
        return given
    if given in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONE):
        return given != csv.QUOTE_NONE
    raise ValueError(f"quoting must be True, or False for files in which a quote is only a "
                     f"character, got {given!r}")


@dataclass(frozen=True)
class Layout:
    """Where things are in a file.

    `columns` maps what is wanted to its position, from 0; lines have at most `width` fields; the
    first line of ratings comes after `start` others.
    """

    dialect: Dialect
    header: tuple[str, ...] | None
    columns: dict[str, int]
    width: int
    start: int

    @property
    def separator(self) -> str:
        """What separates columns; " " stands for runs of spaces and tabs."""
        return self.dialect.separator

    @property
    def last(self) -> int:
        """The last column that is read."""
        return max(self.columns.values())

    def title(self, what: str) -> str | None:
        """Return the name of a column in the header; None if it has none."""
        place = self.columns[what]
        return self.header[place] if self.header and place < len(self.header) else None

    def described(self, what: str) -> str:
        """Name a column for a message: its number from 1 and its title."""
        title = self.title(what)
        return f"column {self.columns[what] + 1}" + ("" if title is None else f" ({title!r})")

    def fits(self, n_fields: int) -> bool:
        """Tell whether a line of this many fields can be read."""
        return self.last < n_fields <= self.width

    def width_complaint(self, fields: Sequence[str]) -> str:
        """Say what is wrong with a line of too few or too many fields."""
        shown = f"{len(fields)}: {self.separator.join(fields[:20])[:60]!r}"
        if len(fields) <= self.last:
            cure = _comment_cure(fields) if fields[0][:1] in COMMENTS else \
                "complete the line or leave it out, or say separator=... if it is another one"
            return (f"expected at least {self.last + 1} columns separated by {self.separator!r}, "
                    f"got {shown}; {cure}")
        as_in = "the first line" if self.header is None else "the header"
        return (f"expected at most {self.width} columns separated by {self.separator!r}, as in "
                f"{as_in}, got {shown}; {self._cure_of_wide(fields)}")

    def _cure_of_wide(self, fields: Sequence[str]) -> str:
        if fields[0][:1] in COMMENTS:
            return _comment_cure(fields)
        if not fields[-1].strip(BLANKS):
            return "leave out the separator at the end of the line, or give the column a name"
        quotes = "put fields that hold a separator in quotes (and write decimals with a point)"
        if self.header is None:
            return quotes
        moved = ", ".join(f"{what}={place + 1}" for what, place in self.columns.items())
        return (f"{quotes}, or, if lines begin with a name that the header lacks (as R writes "
                f"them), say skip_lines={self.start}, header=False, {moved}")


def _comment_cure(fields: Sequence[str]) -> str:
    return f"comment={fields[0][:1]!r} skips such lines"


def find_layout(name: str, lines: Sequence[str], reading: Reading, before: int = 0) -> Layout:
    """Work out the layout of a text file from its first lines.

    Parameters
    ----------
    name : str
        The name of the file in messages.
    lines : sequence of str
        Its first lines with their ends, at least one of them not blank.
    before : int
        How many lines of the file come before these.
    reading : Reading
        Columns are positions from 0 or names in the header.  The words "user", "item", ... also
        match their usual spellings and, only without a header, their usual positions (user,
        item, rating, timestamp).  Separator, comments and header are found out if None.

    Raises
    ------
    ValueError
        No separator, no such column, two uses of one column, no line after the header.
    """
    try:
        return _find_layout(name, lines, reading.checked(), before)
    except LineError as error:
        raise ValueError(f"{name}, line {error.line}: {error.complaint}") from None


def _find_layout(name: str, lines: Sequence[str], reading: Reading, before: int) -> Layout:
    asked = reading.asked
    declared, start = declared_separator(lines)
    refuse_other_formats(lines[start:], before + start)
    comment, top = comments_at_the_top(lines, start, reading.comment)
    above, body = lines[start:top], _Body(name, lines[top:], before + top)
    dialect = Dialect(reading.separator or declared or ",", bool(reading.quoting), comment,
                      refuses_comments=reading.comment is None and bool(comment))
    if reading.separator is None and declared is None:
        dialect = dialect._replace(separator=_sniff_separator(body, asked, dialect))
    numbers, rows = body.rows(dialect)
    sniffed = _sniff_header(rows, asked)
    header = sniffed if reading.header is None else reading.header
    names = names_in_comment(above, dialect, asked)
    if names is not None and reading.header is not False and not sniffed:
        header = False
    else:
        names = tuple(rows[0]) if header else None
        if dialect.refuses_comments:
            refuse_commented_rows(above, before + start, rows[0], dialect, asked)
    if header and len(rows) < 2:
        body.check(dialect, 2)
        raise ValueError(f"{name} has a header and no line of ratings: "
                         f"{lines[top].strip(BLANKS)[:60]!r}")
    if names is None and reading.header is None:
        look_for_numbered_columns(name, rows[0], numbers[0], asked)
    line = numbers[bool(header)]
    columns = find_columns(name, asked, names, rows[bool(header)], f", line {line}")
    return Layout(dialect, names, columns, len(names or rows[0]), line - 1)


class _Body(NamedTuple):
    """The first lines after those at the top, and how many come before them."""

    name: str
    lines: Sequence[str]
    before: int

    def rows(self, dialect: Dialect, must: bool = True) -> tuple[list[int], list[list[str]]]:
        """Return (numbers, fields) of the first records; raise if they must be and are not."""
        found = first_records(self.lines, dialect, before=self.before)
        if must and not found:
            self.check(dialect, 1)
            raise ValueError(f"{self.name} holds no ratings")
        return ([number for number, _ in found],
                [[field.strip(BLANKS) for field in fields] for _, fields in found])

    def check(self, dialect: Dialect, count: int) -> None:
        """Raise a LineError if that is why there are not `count` records."""
        list(islice(records(self.lines, dialect, self.before), count))


# --------------------------------------------------------------------------- columns


def find_columns(name: str, asked: Mapping[str, Column], header: Sequence[str] | None,
                 first: Sequence[str], at: str = "") -> dict[str, int]:
    """Return the position of each column asked for, all different and all in `first`.

    `at` says where that is in the file.
    """
    places = {what: _place(what, column, header) for what, column in asked.items()}
    missing = [what for what, place in places.items() if place is None]
    if missing:
        raise ValueError(_complaint_of_missing(name, {what: asked[what] for what in missing},
                                               header or ()))
    found = {what: place for what, place in places.items() if place is not None}
    for what, place in found.items():
        if header and isinstance(asked[what], str) and header.count(header[place]) > 1:
            raise ValueError(f"{name} has several columns {header[place]!r}; say which by its "
                             f"position, as in {what}={place}")
    for what, place in found.items():
        if place >= len(first):
            above = "; skip_lines=... or comment=... leaves out lines without ratings"
            raise ValueError(f"{name}{at} must have {place + 1} columns for {what}="
                             f"{asked[what]!r}, got {len(first)}: "
                             f"{', '.join(map(repr, first))[:60]}{_without_ratings([what])}"
                             f"{above if at else ''}")
    uses: dict[int, str] = {}
    for what, place in found.items():
        if place in uses:
            shown = f"; its columns: {_shown(header)}" if header else ""
            raise ValueError(f"{name}: {uses[place]} and {what} are both column {place + 1}; "
                             f"say which is which, as in {what}=...{shown}")
        uses[place] = what
    return found


def _place(what: str, column: Column, header: Sequence[str] | None) -> int | None:
    if not isinstance(column, str):
        return validation.integer(what, column)
    place = named_place(what, column, header or ())
    return POSITIONS.get(what) if place is None and column == what and header is None else place


def _complaint_of_missing(name: str, missing: Mapping[str, Column], header: Sequence[str]) -> str:
    """Say which columns are missing, all at once, and what there is."""
    listed = ", ".join(f"{column!r} for {what}" for what, column in missing.items())
    if not header:
        return f"{name} has no column {listed}; it has no header"
    near = next(filter(None, (validation.meant(str(each), header) for each in missing.values())),
                "")
    return (f"{name} has no column {listed}{near}{' Its' if near else '; its'} columns: "
            f"{_shown(header)}; name them: user=..., item=..., rating=..."
            f"{_without_ratings(missing)}")


def _without_ratings(missing: Collection[str]) -> str:
    return "; rating=None counts every line as 1" if "rating" in missing else ""


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:50]) + (f", ... ({len(names):,} in all)" if len(names) > 50 else "")


# ------------------------------------------------------------------ separator and header


def _sniff_separator(body: _Body, asked: Mapping[str, Column], dialect: Dialect) -> str:
    """Return the separator that gives enough columns in the most lines."""
    found = {each: body.rows(dialect._replace(separator=each), must=False)[1]
             for each in SEPARATORS}
    places = [column if isinstance(column, int) else POSITIONS.get(what, 0)
              for what, column in asked.items() if isinstance(column, int) or column == what]
    for enough in (max([1, *places]) + 1, 2):
        fits = {each: sum(len(fields) >= enough for fields in rows)
                for each, rows in found.items()}
        best = [each for each in SEPARATORS if fits[each] == max(fits.values()) > 0]
        hidden = {each: _hidden(found[each], enough, SEPARATORS if each == RUNS else best)
                  for each in best}
        for each, others in hidden.items():
            if not others:
                return each
        if best:
            _complain_of_several(body, dialect, hidden)
    line = body.rows(dialect)[0][0]
    raise LineError(line, f"expected at least two columns separated by a comma, a tab, '::', '|', "
                          f"';' or spaces, got {body.lines[0].strip(BLANKS)[:60]!r}; separator=... "
                          f"names another one")


def _hidden(rows: Sequence[Sequence[str]], enough: int, others: Sequence[str]) -> list[str]:
    """Return the separators that each row has in its first fields (spaces do not count)."""
    return [other for other in others if other != RUNS and
            all(any(other in field for field in fields[:enough]) for fields in rows)]


def _complain_of_several(body: _Body, dialect: Dialect, hidden: Mapping[str, Sequence[str]]
                         ) -> None:
    """Raise what keeps a separator from being the only one, such as a quote at the wrong place."""
    several = [each for each in SEPARATORS if each in hidden or
               any(each in others for others in hidden.values())]
    for each in several:
        body.check(dialect._replace(separator=each), 1)
    raise ValueError(f"{body.name} may be separated by {' or '.join(map(repr, several))}; say "
                     f"which by separator=")


def _sniff_header(rows: Sequence[Sequence[str]], asked: Mapping[str, Column]) -> bool:
    """Return whether the first line names columns, and is not a rating that would be lost."""
    if any(isinstance(column, str) and column != what for what, column in asked.items()):
        return True
    if "rating" not in asked:
        return names_any(rows[0], "user", "item")
    place = rating_place(rows[0], asked["rating"])
    if place < len(rows[0]) and not may_be_name(rows[0][place]):
        return False
    if names_any(rows[0], *SPELLINGS):
        return True
    if len(rows) < 2 or place >= min(len(rows[0]), len(rows[1])):
        return False
    # If the second line has no rating either, this only chooses which error is shown.
    numeric = [any(map(is_number, row)) for row in rows[:2]]
    return is_number(rows[1][place]) or numeric == [False, True]
