"""The grammar of text files: that of Python's `csv`, with separators of any length.

Fields end at a separator, records at a line feed, a carriage return, or both.  A field that
begins with a double quote ends with one, holds separators and line ends, and doubles quotes (RFC
4180); `quoting=False` reads quotes as characters.  Blanks (spaces and tabs) around a field are no
part of it, and records of blanks alone are skipped.  Everything here works on lists of lines;
`blocks` and `kernels/text.py` do the same to bytes.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

RUNS = " "              # the separator that stands for any run of spaces and tabs
BLANKS = " \t\r\n"      # what is no part of a field at its ends
# Single characters in place of a separator of several, which `csv` does not know; no text
# holds them, since no encoding can.
_STAND_IN = "\udc00"
_OUTSIDE_QUOTES = re.compile(r'"[^"]*"|\t')


class Dialect(NamedTuple):
    """How the lines of a file are to be read.

    Lines that begin with `comment` are skipped, or refused if `refuses_comments`: they were found
    at the top of the file, and may be data further down.
    """

    separator: str
    quoting: bool = True
    comment: str = ""
    refuses_comments: bool = False


class LineError(ValueError):
    """What is wrong with a line: its number, and a sentence without a subject."""

    def __init__(self, line: int, complaint: str) -> None:
        super().__init__(line, complaint)
        self.line, self.complaint = line, complaint


class OpenQuoteError(LineError):
    """A record that more lines may end."""


def records(lines: Iterable[str], dialect: Dialect, before: int = 0
            ) -> Iterator[tuple[int, list[str]]]:
    """Yield (number of its first line, fields) of each record that is not blank.

    Parameters
    ----------
    lines : iterable of str
        Lines with their ends, as a text stream with `newline=""` gives them.
    dialect : Dialect
    before : int
        How many lines of the file come before these.

    Raises
    ------
    LineError
        A quote that does not end, or text after one that does; a field longer than
        `csv.field_size_limit()`; a comment, if they are refused.
    """
    number, start, between = before, before + 1, True

    def counted() -> Iterator[str]:
        nonlocal number, start, between
        for line in lines:
            number += 1
            if between:
                if is_commented(line, dialect.comment):
                    _refuse_comment(number, dialect)
                    continue
                start, between = number, False
            yield line

    try:
        for fields in _reader(_for_csv(counted(), dialect), dialect):
            fields = _of_csv(fields, dialect)
            if len(fields) > 1 or (fields and fields[0].strip(BLANKS)):
                yield start, fields
            between = True
    except csv.Error as error:
        kind = OpenQuoteError if "unexpected end of data" in str(error) else LineError
        raise kind(start, _explained(str(error), dialect)) from None


def quick_records(text: str, dialect: Dialect, fits: Callable[[int], bool]
                  ) -> Iterator[list[str]]:
    """Yield what `records` does, without numbers, in half the time.

    Raises `csv.Error` where `records` raises, for a record whose number of fields does not fit,
    and for dialects that it does not know.
    """
    if dialect.comment or dialect.separator == RUNS or len(dialect.separator) > 1:
        raise csv.Error
    common = -1
    for fields in _reader(io.StringIO(text, newline=""), dialect):
        if len(fields) == common:
            yield fields
        elif len(fields) > 1 or (fields and fields[0].strip(BLANKS)):
            if not fits(len(fields)):
                raise csv.Error
            common = len(fields)
            yield fields


def first_records(lines: Iterable[str], dialect: Dialect, count: int = 20, before: int = 0
                  ) -> list[tuple[int, list[str]]]:
    """Return up to `count` records, those before the first that cannot be read."""
    found = []
    try:
        for record in islice(records(lines, dialect, before), count):
            found.append(record)
    except LineError:
        pass
    return found


def is_commented(line: str, comment: str) -> bool:
    """Tell whether a line is a comment; there are none if `comment` is empty."""
    return bool(comment) and line.lstrip(" \t").startswith(comment)


def _refuse_comment(number: int, dialect: Dialect) -> None:
    if dialect.refuses_comments:
        raise LineError(number, comment_complaint(dialect.comment))


def comment_complaint(comment: str) -> str:
    """Say what is wrong with a line that may be a comment."""
    return (f"begins with {comment!r}, as the lines at the top do; comment={comment!r} skips all "
            f"such lines, comment='' reads them")


def _reader(lines: Iterable[str], dialect: Dialect) -> Iterator[list[str]]:
    separator = dialect.separator if len(dialect.separator) == 1 else _STAND_IN
    return csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True,
                      quoting=csv.QUOTE_MINIMAL if dialect.quoting else csv.QUOTE_NONE)


def _for_csv(lines: Iterator[str], dialect: Dialect) -> Iterator[str]:
    """Return lines with a separator that `csv` knows."""
    if len(dialect.separator) > 1:
        return (line.replace(dialect.separator, _STAND_IN) for line in lines)
    if dialect.separator == RUNS:
        return (_OUTSIDE_QUOTES.sub(lambda found: " " if found[0] == "\t" else found[0], line)
                if dialect.quoting and '"' in line else line.replace("\t", " ") for line in lines)
    return lines


def _of_csv(fields: list[str], dialect: Dialect) -> list[str]:
    if len(dialect.separator) > 1:
        return [field.replace(_STAND_IN, dialect.separator) for field in fields]
    if dialect.separator == RUNS and len(fields) > 1 and not fields[-1].strip(BLANKS):
        return fields[:-1]              # the blanks at the end of the line
    return fields


def _explained(error: str, dialect: Dialect) -> str:
    cure = "quoting=False reads quotes as characters"
    if "unexpected end of data" in error:
        return f"begins a field with a quote that does not end; {cure}"
    if "expected after" in error:
        return f"has text after the end of a quoted field; write a quote in it twice, or {cure}"
    if "field limit" in error:
        return (f"has a field of more than {csv.field_size_limit():,} characters, or a quote that "
                f"does not end; csv.field_size_limit(n) allows longer ones, {cure}")
    return f"cannot be read ({error}); {cure}"
