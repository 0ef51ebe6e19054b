"""Columns out of lines: by a compiled kernel if every column is numeric, else field by field."""

from __future__ import annotations

import csv
import io
import math
import re
from array import array
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mfcore.data.layout import Layout, split_line
from mfcore.data.textfile import TextFile
from mfcore.kernels import text as kernel
from mfcore.parallel import Pool

CHUNK_BYTES = 4_000_000     # before the end of a chunk is moved to the next end of a line
_INTEGERS, _REALS = ("user", "item", "timestamp"), ("rating", "weight")
_WHOLE = re.compile("[+-]?[0-9]+", re.ASCII)
_NUMBER = re.compile(rb"[+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?")


def parse(source: TextFile, layout: Layout, *, text_ids: bool = False,
          n_threads: int | None = None) -> dict[str, np.ndarray]:
    """Return the columns of `layout`, one array each, in the order of the lines.

    Ratings and weights are float64, timestamps int64.  Ids are int64 if the whole column
    is and `text_ids` is False, else strings in an object array.  Raises ValueError, with line
    and column, for a line that is too short or a field that is not a finite number.
    """
    if not text_ids and re.fullmatch(r"([\x01-\x7f])\1?", layout.separator):
        columns = _parse_numbers(source, layout, n_threads)
        if columns is not None:
            return columns
    return _parse_fields(source, layout, text_ids)


# ------------------------------------------------------------- if every column is numeric


def _parse_numbers(source: TextFile, layout: Layout,
                   n_threads: int | None) -> dict[str, np.ndarray] | None:
    """Run the kernel over chunks of lines; None if a field must be read by Python."""
    data = source.data
    spans = _chunks(data, source.body(layout.header is not None))
    with Pool(n_threads) as pool:
        lines = pool.map(lambda start, stop: np.count_nonzero(data[start:stop] == ord("\n"))
                         + (data[stop - 1] != ord("\n")), spans)
        first = np.concatenate([[0], np.cumsum(lines, dtype=np.int64)])
        out = (np.empty((len(_INTEGERS), first[-1]), np.int64),
               np.empty((len(_REALS), first[-1])),
               np.zeros((len(_REALS), first[-1]), bool))
        width = 0 if layout.separator == " " else len(layout.separator)
        fixed = (ord(layout.separator[0]), width, _slots(layout))
        done = pool.map(kernel.parse_lines, [
            (data, *span, *fixed, row, *out)
            for span, row in zip(spans, first[:-1].tolist(), strict=True)])
    for _, status, column, place in done:
        if status != kernel.DONE:
            _refuse(source, layout, status, column, place)
            return None
    integers, reals, hard = (_without_gaps(each, first, [stored for stored, *_ in done])
                             for each in out)
    _round_hard(source, layout, reals, hard)
    return {what: integers[_INTEGERS.index(what)] if what in _INTEGERS
            else reals[_REALS.index(what)] for what in layout.columns}


def _chunks(data: np.ndarray, start: int) -> list[tuple[int, int]]:
    """Divide at ends of lines; a function of the bytes alone."""
    spans = []
    while start < data.size:
        place = start + CHUNK_BYTES
        ends = data[place:place + CHUNK_BYTES] == ord("\n")
        stop = place + int(np.argmax(ends)) + 1 if ends.any() else data.size
        spans.append((start, stop))
        start = stop
    return spans


def _without_gaps(out: np.ndarray, first: np.ndarray, stored: list[int]) -> np.ndarray:
    """Close the gaps that blank lines leave at the ends of chunks."""
    if sum(stored) == out.shape[1]:
        return out
    return np.concatenate([out[:, row:row + count] for row, count in
                           zip(first.tolist(), stored, strict=False)], axis=1)


def _slots(layout: Layout) -> np.ndarray:
    slots = np.full(layout.last + 1, kernel.SKIP, np.int64)
    for what, column in layout.columns.items():
        slots[column] = _INTEGERS.index(what) if what in _INTEGERS \
            else kernel.REAL + _REALS.index(what)
    return slots


def _refuse(source: TextFile, layout: Layout, status: int, column: int, place: int) -> None:
    """Raise an error for what the kernel found, unless a quote or an id is for Python to read."""
    if status in (kernel.QUOTED, kernel.NOT_INTEGER) or source.data[place:place + 1] == ord('"'):
        return
    fields, number = split_line(source.line_at(place), layout.separator), source.line_number(place)
    if status == kernel.TOO_SHORT:
        raise _too_short(source.name, number, layout, fields)
    raise _wrong(source.name, number, layout, column, fields[column])


def _round_hard(source: TextFile, layout: Layout, reals: np.ndarray, hard: np.ndarray) -> None:
    """Round the decimals that the kernel left to Python: too many digits, huge exponents."""
    for slot, t in zip(*np.nonzero(hard), strict=True):
        place = int(reals[slot, t])
        found = _NUMBER.match(source.data[place:place + 2000].tobytes())
        reals[slot, t] = float(found[0]) if found else np.nan
        if not np.isfinite(reals[slot, t]):
            _refuse(source, layout, kernel.NOT_NUMBER, layout.columns[_REALS[slot]], place)


# --------------------------------------------------------------------- field by field


def _parse_fields(source: TextFile, layout: Layout, text_ids: bool) -> dict[str, np.ndarray]:
    texts: dict[str, list[str]] = {what: [] for what in layout.columns}
    same: dict[str, str] = {}       # one object for each distinct id
    lines = array("q")
    for number, fields in _rows(source, layout):
        if len(fields) <= layout.last:
            raise _too_short(source.name, number, layout, fields)
        for what, column in layout.columns.items():
            field = fields[column].strip()
            texts[what].append(same.setdefault(field, field))
        lines.append(number)
    return {what: _column(source, layout, what, texts[what], lines, text_ids)
            for what in layout.columns}


def _rows(source: TextFile, layout: Layout) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, fields) of each line that is not blank, after the header."""
    stream = io.TextIOWrapper(io.BytesIO(source.data.data), source.encoding, newline="")
    quoted = len(layout.separator) == 1 and layout.separator != " "
    rows = _quoted_rows(stream, layout.separator) if quoted else (
        (number, split_line(line, layout.separator))
        for number, line in enumerate(stream, 1) if line.strip())
    number = 0
    try:
        for count, (number, fields) in enumerate(rows):
            if count > 0 or layout.header is None:
                yield number, fields
    except UnicodeDecodeError as error:
        raise ValueError(f"{source.name}, near line {number + 1}: not {source.encoding} text "
                         f"({error.reason}); encoding='latin-1' may be meant") from None
    except csv.Error as error:
        raise ValueError(f"{source.name}, line {number + 1}: {error}") from None


def _quoted_rows(stream: Any, separator: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(stream, delimiter=separator, skipinitialspace=separator != "\t",
                        strict=True)
    return ((reader.line_num, fields) for fields in reader if any(map(str.strip, fields)))


def _column(source: TextFile, layout: Layout, what: str, texts: list[str], lines: array[int],
            text_ids: bool) -> np.ndarray:
    _, read, dtype = _FIELDS[what]
    if what in ("user", "item") and not text_ids and all(map(_fits_int64, set(texts))):
        read, dtype = int, np.int64
    values: np.ndarray = np.empty(len(texts), dtype)
    for t, text in enumerate(texts):
        try:
            values[t] = read(text)
        except (ValueError, OverflowError):
            raise _wrong(source.name, lines[t], layout, layout.columns[what], text) from None
    return values


def _fits_int64(text: str) -> bool:
    return bool(_WHOLE.fullmatch(text)) and -2**63 <= int(text) < 2**63


def _present(text: str) -> str:
    if not text:
        raise ValueError("empty")
    return text


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("not finite")
    return value


def _whole_seconds(text: str) -> int:
    return int(text) if _WHOLE.fullmatch(text) else int(_finite(text))


# What a message demands of a field, and how the field is read.
_FIELDS: dict[str, tuple[str, Callable[[str], Any], type]] = {
    "user": ("a user id", _present, object), "item": ("an item id", _present, object),
    "rating": ("a number", _finite, np.float64), "weight": ("a number", _finite, np.float64),
    "timestamp": ("a whole number of seconds", _whole_seconds, np.int64)}


def _wrong(name: str, line: int, layout: Layout, column: int, field: str) -> ValueError:
    what = next(what for what, place in layout.columns.items() if place == column)
    return ValueError(f"{name}, line {line}: expected {_FIELDS[what][0]} in "
                      f"{layout.described(column)}, got {field.strip()[:60]!r}")


def _too_short(name: str, line: int, layout: Layout, fields: list[str]) -> ValueError:
    shown = layout.separator.join(fields)[:60]
    return ValueError(f"{name}, line {line}: expected at least {layout.last + 1} columns "
                      f"separated by {layout.separator!r}, got {len(fields)}: {shown!r}")
