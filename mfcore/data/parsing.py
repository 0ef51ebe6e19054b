"""Columns out of blocks of text: kernels read them, on a few threads.

What is wrong is found in the order of the lines, and the first of it is raised.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from mfcore.data.blocks import Block
from mfcore.data.dialect import LineError, comment_complaint, first_records
from mfcore.data.ids import Coded, as_objects, factorize
from mfcore.data.layout import Layout, Reading
from mfcore.data.words import Words, cure_of
from mfcore.kernels import text as kernel
from mfcore.parallel import Pool

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_DATED = re.compile(r"[0-9]{1,4}[-/.][0-9]{1,2}[-/.][0-9]{1,4}", re.ASCII)
_TRUTH = {"true", "false"}
_DEMANDS = {"user": "a user id", "item": "an item id", "rating": "a number",
            "weight": "a number >= 0", "timestamp": "a whole number of seconds"}


class Fields(NamedTuple):
    """Where the fields of a block are: see `split_lines`; and what ends it before its end."""

    block: Block
    starts: np.ndarray
    stops: np.ndarray
    error: LineError | None = None

    def text(self, slot: int, row: int) -> str:
        """Return a field."""
        return self.block.bytes_from(self.starts[slot, row], self.stops[slot, row])

    def line(self, row: int) -> int:
        """Return the number of a row's line."""
        return self.block.line_of(int(self.starts[0, row]))


def parse(blocks: Iterator[Block], layout: Layout, reading: Reading,
          n_threads: int | None = None) -> dict[str, Any]:
    """Return the columns of `layout` in the order of the lines.

    Ratings and weights are float64, timestamps int64.  Ids are int64 if all are written as
    Python prints integers, and `reading.text_ids` is False; else text, as `Coded`.

    Raises
    ------
    LineError
        A line of too few or too many fields, a field that is not a number, not finite or not
        whole, a missing id, one with characters that nobody sees, or ids that are decimals; and
        what the iterator raises.
    """
    columns = [_column(what, slot, layout, reading) for slot, what in enumerate(layout.columns)]
    with Pool(n_threads) as pool:
        for some, error in _in_groups(blocks, pool.n_threads):
            fields = pool.map(_split, [(block, layout) for block in some])
            errors = pool.map(_read, [(column, fields) for column in columns])
            first = min((found for found in (*errors, *(each.error for each in fields), error)
                         if found is not None), key=lambda found: found.line, default=None)
            if first is not None:
                raise first
    return {column.what: column.result() for column in columns}


def _in_groups(blocks: Iterator[Block], size: int
               ) -> Iterator[tuple[list[Block], LineError | None]]:
    """Yield blocks by the dozen, with the error that comes after the last."""
    group: list[Block] = []
    error = None
    try:
        for block in blocks:
            group.append(block)
            if len(group) == size:
                yield group, None
                group = []
    except LineError as found:
        error = found
    yield group, error


def _split(block: Block, layout: Layout) -> Fields:
    places = np.empty(len(block.text) + 1, np.int32)
    places = places[:kernel.marks(block.text, block.format.kinds, places)]
    n_rows = 1 + len(places) // len(block.format.slots)         # (a row has a mark per field)
    starts, stops = np.empty((2, len(layout.columns), n_rows), np.int32)
    n_rows, status, place = kernel.split_lines(block.text, *block.format, places, starts, stops)
    error = None
    if status == kernel.COMMENT:
        error = LineError(block.line_of(place), comment_complaint(layout.dialect.comment))
    if status == kernel.WIDTH:
        _, fields = first_records([block.line_from(place)], layout.dialect)[0]
        error = LineError(block.line_of(place), layout.width_complaint(fields))
    return Fields(block, starts[:, :n_rows], stops[:, :n_rows], error)


def _read(column: _Column, blocks: Sequence[Fields]) -> LineError | None:
    for fields in blocks:
        found = column.read(fields)
        if found is not None:
            return LineError(fields.line(found[0]), found[1])
        if fields.error is not None:
            break
    return None


# ------------------------------------------------------------------------------- columns


def _column(what: str, slot: int, layout: Layout, reading: Reading) -> _Column:
    place = layout.described(what)
    if what in ("user", "item"):
        return _Ids(what, slot, place, reading.text_ids,
                    {each.lower() for each in reading.missing}, layout.title(what))
    if what == "timestamp":
        return _Numbers(what, slot, place, kernel.seconds, np.int64, below=2.0**63)
    return _Numbers(what, slot, place, kernel.reals, np.float64,
                    least=0.0 if what == "weight" else -math.inf)


@dataclass
class _Column:
    """A column that is read block by block.

    `read` returns the first row that it refuses, and why.
    """

    what: str
    slot: int
    place: str              # as messages call it

    def read(self, fields: Fields) -> tuple[int, str] | None:
        raise NotImplementedError

    def result(self) -> Any:
        raise NotImplementedError

    def expected(self, fields: Fields, row: int, cure: str = "") -> tuple[int, str]:
        """Return a row with what is expected of it."""
        got = fields.text(self.slot, row)[:60]
        return row, f"expected {_DEMANDS[self.what]} in {self.place}, got {got!r}{cure}"


@dataclass
class _Numbers(_Column):
    """Numbers: a kernel reads most, Python those that it marks as hard."""

    kernel: Callable[..., int]
    dtype: type
    least: float = -math.inf
    below: float = math.inf
    parts: list[np.ndarray] = field(default_factory=list)

    def read(self, fields: Fields) -> tuple[int, str] | None:
        starts, stops = fields.starts[self.slot], fields.stops[self.slot]
        values: np.ndarray = np.empty(len(starts), self.dtype)
        hard = np.zeros(len(starts), bool)
        bad = self.kernel(fields.block.text, starts, stops, values, hard)
        read = len(starts) if bad < 0 else bad
        for row in np.flatnonzero(hard[:read]).tolist():
            text = fields.text(self.slot, row)
            value = float(text) if _NUMBER.fullmatch(text) else math.nan
            if not abs(value) < self.below:
                read = row
                break
            values[row] = value
        read = min([read, *np.flatnonzero(values[:read] < self.least)[:1].tolist()])
        self.parts.append(values)
        if read == len(starts):
            return None
        comma = re.fullmatch("[+-]?[0-9]*,[0-9]+", fields.text(self.slot, read))
        if comma:
            cure = "; write decimals with a point, and thousands without a comma"
        elif self.what == "timestamp" and _DATED.match(fields.text(self.slot, read)):
            cure = "; dates come by pandas.read_csv(path, parse_dates=[...]) and Ratings.from_frame"
        else:
            cure = "; correct the line, or leave it out"
        return self.expected(fields, read, cure)

    def result(self) -> np.ndarray:
        return np.concatenate(self.parts)


@dataclass
class _Ids(_Column):
    """Ids: integers, until one is written otherwise; then all are text."""

    text_ids: bool
    missing: set[str]
    title: str | None       # of the column
    integers: list[np.ndarray] = field(default_factory=list)
    codes: list[np.ndarray] = field(default_factory=list)
    words: Words | None = None
    first: int = 0          # line
    # Whether all are numbers, and the first that is not a whole one.
    numeric: bool = True
    decimal: tuple[int, str] | None = None

    def __post_init__(self) -> None:
        self.words = Words() if self.text_ids else None

    def read(self, fields: Fields) -> tuple[int, str] | None:
        text, starts, stops = (fields.block.text, fields.starts[self.slot],
                               fields.stops[self.slot])
        if not self.first and len(starts):
            self.first = fields.line(0)
        if self.words is None:
            values = np.empty(len(starts), np.int64)
            if kernel.integers(text, starts, stops, values) < 0:
                self.integers.append(values)
                return None
            self.words = self._as_text()
        known = len(self.words.texts)
        codes, rows = self.words.numbers(text, starts, stops)
        self.codes.append(codes)
        return self._refused(fields, rows.tolist(), self.words.texts[known:])

    def _as_text(self) -> Words:
        """Turn the integers so far into the words that they were."""
        words, integers = Words(), np.concatenate([np.empty(0, np.int64), *self.integers])
        distinct, rows = factorize(self.what, integers)
        self.codes = [words.numbers_of(list(map(str, distinct.tolist())))[rows]]
        self.integers = []
        return words

    def _refused(self, fields: Fields, rows: Sequence[int], texts: Sequence[str]
                 ) -> tuple[int, str] | None:
        for row, text in zip(rows, texts, strict=True):
            if self.numeric:
                self._note_number(fields, row, text)
            cure = cure_of(text, self.missing, self.title)
            if cure is not None:
                return self.expected(fields, row, cure)
        return None

    def _note_number(self, fields: Fields, row: int, text: str) -> None:
        self.numeric = bool(_NUMBER.fullmatch(text))
        if self.numeric and self.decimal is None and not text.lstrip("+-").isdecimal():
            self.decimal = fields.line(row), text

    def result(self) -> Any:
        if self.words is None:
            return np.concatenate(self.integers)
        if self.numeric and self.decimal is not None and not self.text_ids:
            line, text = self.decimal
            raise LineError(line, f"expected {_DEMANDS[self.what]} in {self.place}, got the "
                                  f"decimal {text!r}; write whole numbers, or say text_ids=True "
                                  f"to read such ids as text")
        texts = self.words.texts
        if not self.text_ids and all(text.lower() in _TRUTH for text in texts):
            raise LineError(self.first, f"expected {_DEMANDS[self.what]} in {self.place}, got only "
                                        f"True and False; say text_ids=True if these are ids")
        return Coded(as_objects(texts), np.concatenate(self.codes))
