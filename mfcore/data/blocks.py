"""Text in blocks of whole records, for the kernels.

A block without quotes is handed over as it is.  From the first quote on, and for separators that
the kernels do not know, Python's `csv` splits the records, and blocks are written again: the
fields that are read, with bytes between them that no text holds.  So both ways lead to the same
kernels, which alone know what a number is and which ids are the same.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Generator, Iterator
from functools import partial
from itertools import chain, islice
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from mfcore.data.dialect import RUNS, LineError, OpenQuoteError, quick_records, records
from mfcore.data.layout import Layout, Reading, find_layout
from mfcore.data.textfile import TextFile
from mfcore.kernels import text as kernel

BLOCK_RECORDS = 50_000
LONGEST = 2**31 - 1 - (1 << 23)     # bytes of a line: places in a block are int32
_HEAD_BYTES, _HEAD_LINES = 1 << 20, 20
_LINE_END = re.compile(rb"\r\n|\n|\r")
# One character, or the same one twice, but no blank twice: what the kernel knows as a separator.
SIMPLE = re.compile(r"[ \t]|([\x01-\x08\x0b\x0c\x0e-\x1f!-~])\1?")
# Bytes that UTF-8 never uses, and the characters that stand for them in text.
_FIELD_END, _RECORD_END = "\udcff", "\udcfe"
_FIELD_BYTE, _RECORD_BYTE = 0xFF, 0xFE


class Format(NamedTuple):
    """How the kernel splits a block: see `split_lines`."""

    kinds: np.ndarray
    width: int
    slots: np.ndarray
    n_columns: int
    comment: np.ndarray
    skip: bool


class Block(NamedTuple):
    """Whole records as bytes, how to split them, and the number of the line at a byte."""

    text: np.ndarray
    format: Format
    line_of: Callable[[int], int]

    def bytes_from(self, start: int, stop: int) -> str:
        """Return some of the text."""
        return self.text[start:stop].tobytes().decode()

    def line_from(self, start: int) -> str:
        """Return the text of the line that begins at a byte."""
        text = self.text[start:].tobytes()
        end = _LINE_END.search(text)
        return text[:end.start() if end else None].decode()


def opened(source: TextFile, reading: Reading, size: int, *, longest: int = LONGEST,
           verbose: int | None = None) -> tuple[Layout, Iterator[Block]]:
    """Find the layout of a text file; return it with the blocks of its ratings.

    Parameters
    ----------
    source : TextFile
    reading : Reading
    size : int
        Bytes of a block, about.
    longest : int
        Bytes of a line, about, for which there is room.
    verbose : int or None
        1 shows a progress bar, 0 none; None: at a terminal and in a notebook, after half a second.

    Raises
    ------
    LineError, ValueError
        What `find_layout` refuses.  What is wrong further down is raised by the iterator, after
        the records before it.
    """
    reading = reading.checked()
    whole = _without_lines(_whole_lines(source, size, longest, verbose),
                           reading.skip_lines)
    checked = _checked(whole, reading.skip_lines)
    head, error = _head(checked)
    lines = list(_lines(_first_part(b"".join(block for block, _ in head)).decode()))
    if not any(map(str.strip, lines)):
        raise ValueError(f"{source.name} is empty")
    try:
        layout = find_layout(source.name, lines, reading, reading.skip_lines)
    except ValueError as complaint:
        raise (error or complaint) from None
    rest = checked if error is None else _raising(error)
    return layout, _blocks(_from_line(layout.start, chain(head, rest)), layout)


def _head(checked: Iterator[tuple[bytes, int]]
          ) -> tuple[list[tuple[bytes, int]], LineError | None]:
    """Return the blocks from which the layout is found out, and what ends them too early."""
    head: list[tuple[bytes, int]] = []
    n_bytes = n_lines = 0
    try:
        while n_bytes < _HEAD_BYTES or n_lines < _HEAD_LINES:
            head.append(next(checked))
            n_bytes, n_lines = n_bytes + len(head[-1][0]), n_lines + line_count(head[-1][0])
    except StopIteration:
        pass
    except LineError as error:
        if not n_bytes:
            raise
        return head, error
    return head, None


def _first_part(text: bytes) -> bytes:
    """Return what is looked at of the first blocks: enough lines, and a few more."""
    ends = [found.end() for found in islice(_LINE_END.finditer(text), _HEAD_LINES)]
    start = max(_HEAD_BYTES, ends[-1] if ends else 0)
    end = _LINE_END.search(text, start)
    return text[:end.end() if end else None]


def _raising(error: LineError) -> Iterator[tuple[bytes, int]]:
    raise error
    yield


def _from_line(start: int, checked: Iterator[tuple[bytes, int]]) -> Iterator[tuple[bytes, int]]:
    """Leave out the lines before line `start`, counted from 0."""
    for block, before in checked:
        n_lines = max(0, start - before)
        for left in _without_lines(iter([block]), n_lines):
            yield left, before + n_lines


# ------------------------------------------------------------------------ blocks of bytes


def _whole_lines(source: TextFile, size: int, longest: int, verbose: int | None) -> Iterator[bytes]:
    """Yield blocks of at least `size` bytes that end where lines end (the last may not)."""
    held: list[bytes] = []
    for piece in source.pieces(verbose):
        held.append(piece)
        n_bytes = sum(map(len, held))
        if n_bytes >= size and (cut := _last_end(piece)):
            yield b"".join([*held[:-1], piece[:cut]])
            held = [piece[cut:]]
        elif n_bytes > size + longest:
            raise ValueError(f"{source.name} has a line of more than {longest:,} bytes")
    yield b"".join(held)


def _last_end(piece: bytes) -> int:
    """Return the place after the last line end (a final carriage return may be half of one)."""
    return max(piece.rfind(b"\n"), piece.rfind(b"\r", 0, -1)) + 1


def _without_lines(blocks: Iterator[bytes], n_lines: int) -> Iterator[bytes]:
    """Leave out the first lines."""
    for block in blocks:
        if n_lines:
            ends = [found.end() for found in islice(_LINE_END.finditer(block), n_lines)]
            n_lines -= len(ends)
            block = b"" if n_lines else block[ends[-1]:]
        if block:
            yield block


def _checked(blocks: Iterator[bytes], before: int) -> Iterator[tuple[bytes, int]]:
    """Yield blocks of text with the number of lines before each.

    Raises LineError, after the lines before it, for a zero byte and for bytes that are not UTF-8.
    """
    for block in blocks:
        bad, complaint = _first_bad(block)
        good = block[:_last_end(block[:bad] + b"x")] if complaint else block
        yield good, before
        before += line_count(good)
        if complaint:
            raise LineError(before + 1, complaint)


def _first_bad(block: bytes) -> tuple[int, str]:
    """Return the first byte that is not text, and what is wrong with its line."""
    zero = block.find(b"\0")
    try:
        if not block.isascii():
            block[:zero if zero >= 0 else None].decode()
    except UnicodeDecodeError as error:
        return error.start, (f"is not utf-8 text ({error.reason}); encoding='latin-1' or another "
                             f"may be meant")
    return zero, "" if zero < 0 else ("holds a zero byte, as binary files and UTF-16 do; for text, "
                                      "encoding='utf-16-le' or another may be meant")


def line_count(block: bytes) -> int:
    """Return how many line ends there are."""
    returns = block.count(b"\r")
    return block.count(b"\n") + (returns and returns - block.count(b"\r\n"))


def _lines(text: str) -> Iterator[str]:
    return io.StringIO(text, newline="")


# -------------------------------------------------------------------- blocks for the kernel


def _blocks(checked: Iterator[tuple[bytes, int]], layout: Layout) -> Iterator[Block]:
    simple = SIMPLE.fullmatch(layout.separator)
    form = _format(layout)
    for block, before in checked:
        if not simple or (layout.dialect.quoting and b'"' in block):
            yield from _rewritten(chain([(block, before)], checked), layout)
        elif _has_long_line(block):
            yield from _rewritten(iter([(block, before)]), layout)
        else:
            yield Block(np.frombuffer(block, np.uint8), form,
                        partial(_line_of, block, before))


def _has_long_line(block: bytes) -> bool:
    """Tell whether a line may hold a field that `csv` refuses."""
    longest, place = csv.field_size_limit(), 0
    while place + longest < len(block):
        window = block[place:place + longest]
        end = max(window.rfind(b"\n"), window.rfind(b"\r"))
        if end < 0:
            return True
        place += end + 1
    return False


def _line_of(block: bytes, before: int, place: int) -> int:
    return before + line_count(block[:place]) + 1


def _format(layout: Layout) -> Format:
    """Return how the kernel splits text as it is."""
    comment = np.frombuffer(layout.dialect.comment.encode(), np.uint8)
    slots = np.full(layout.last + 1, -1, np.int64)
    slots[list(layout.columns.values())] = np.arange(len(layout.columns))
    return Format(_kinds(b" \t", b"\r\n", layout.separator[0].encode()[0]),
                  0 if layout.separator == RUNS else len(layout.separator), slots, layout.width,
                  comment, not layout.dialect.refuses_comments)


def _kinds(blanks: bytes, ends: bytes, separator: int) -> np.ndarray:
    kinds = np.full(256, kernel.TEXT, np.uint8)
    kinds[list(blanks)] = kernel.BLANK
    kinds[list(ends)] = kernel.END
    kinds[separator] = kernel.SEPARATOR
    if separator in b" ":
        kinds[list(blanks)] = kernel.SEPARATOR
    return kinds


def _rewritten(checked: Iterator[tuple[bytes, int]], layout: Layout) -> Iterator[Block]:
    """Split records by `csv`, and write the fields that are read again."""
    held, error = "", None              # the beginning of a record that a later block ends
    for block, before in checked:
        text = held + block.decode()
        before = before if error is None else error.line - 1
        error = yield from _written(text, layout, before)
        if error is not None and not isinstance(error, OpenQuoteError):
            raise error
        held = "" if error is None else "".join(islice(_lines(text), error.line - 1 - before, None))
    if error is not None:
        raise error


def _written(text: str, layout: Layout, before: int
             ) -> Generator[Block, None, LineError | None]:
    """Yield blocks of the records of a text; return what keeps the next from being read."""
    read, done = itemgetter(*layout.columns.values()), 0
    found = map(_FIELD_END.join, map(read, quick_records(text, layout.dialect, layout.fits)))
    try:
        while some := list(islice(found, BLOCK_RECORDS)):
            yield _again(some, layout, partial(_line_of_record, text, layout, before, done))
            done += len(some)
        return None
    except csv.Error:                   # which line is it?
        pass
    some, numbers, error = [], [], None
    try:
        for number, fields in islice(records(_lines(text), layout.dialect, before), done, None):
            if not layout.fits(len(fields)):
                raise LineError(number, layout.width_complaint(fields))
            some.append(_FIELD_END.join(read(fields)))
            numbers.append(number)
            if len(some) == BLOCK_RECORDS:
                yield _again(some, layout, numbers.__getitem__)
                some, numbers = [], []
    except LineError as complaint:
        error = complaint
    yield _again(some, layout, numbers.__getitem__)
    return error


def _line_of_record(text: str, layout: Layout, before: int, done: int, number: int) -> int:
    found = records(_lines(text), layout.dialect, before)
    return next(islice(found, done + number, None))[0]


def _again(records: list[str], layout: Layout, line_of: Callable[[int], int]) -> Block:
    """Return a block of records that are written with bytes between fields that are not text."""
    text = _RECORD_END.join([*records, ""]).encode("utf-8", "surrogateescape")
    form = Format(_kinds(b" \t\r\n", bytes([_RECORD_BYTE]), _FIELD_BYTE), 1,
                  np.arange(len(layout.columns)), len(layout.columns), np.empty(0, np.uint8), True)
    return Block(np.frombuffer(text, np.uint8), form,
                 lambda place: line_of(text[:place].count(_RECORD_BYTE)))
