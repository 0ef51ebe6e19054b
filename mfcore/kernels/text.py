"""Fields out of lines of text, and numbers and ids out of fields: no Python objects.

`split_lines` finds where the fields are; the other kernels read one column of them each.

A decimal with at most 15 digits or so and a small exponent is one exact integer times or
over one exact power of ten, so a single float64 operation rounds it correctly (W. Clinger,
"How to read floating point numbers accurately", 1990).  The caller reads the rare others,
which the kernels mark as `hard`.

No kernel here calls a helper with an array in an inner loop: counting its references, which Numba
does there, took four times as long as the work.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mfcore.compiled import njit
from mfcore.kernels.options import EXACT

# What a byte is: see `split_lines`.
TEXT, SEPARATOR, END, BLANK = 0, 1, 2, 3
# How `split_lines` ends: at the end of the text, or at a line that it does not read.
DONE, WIDTH, COMMENT = 0, 1, 2

_TAB, _SPACE, _PLUS, _MINUS, _POINT, _ZERO, _E = 9, 32, 43, 45, 46, 48, 101
_EXACT_INTEGER = 2**53
_POWERS = 10.0 ** np.arange(23)
_LARGEST, _LEAST = 2**63 - 1, -2**63
_HASHED, _CODES = 2**40 - 1, 31      # bits of a hash, and of the number of a word
_GROUP = 256
_IS_MARK = np.array([0, 1, 1, 0])
# (EXACT: division by a power of ten must not become a product with its reciprocal.)


# ------------------------------------------------------------------------------- fields


@njit(**EXACT)
def marks(text: np.ndarray, kinds: np.ndarray, places: np.ndarray) -> int:
    """Write the places of separators and line ends, and then that of the end of the text.

    Returns how many they are.  There is no branch in the loop: it takes the same time whatever
    the text; `places`, int32, must have one entry more than the text.
    """
    n_marks = 0
    for at in range(text.size):
        places[n_marks] = at
        n_marks += _IS_MARK[kinds[text[at]]]
    places[n_marks] = text.size
    return n_marks + 1


@njit(**EXACT)
def split_lines(text: np.ndarray, kinds: np.ndarray, width: int, slots: np.ndarray,
                n_columns: int, comment: np.ndarray, skip: bool, places: np.ndarray,
                starts: np.ndarray, stops: np.ndarray) -> tuple[int, int, int]:
    """Find the fields of the lines of a text.

    Parameters
    ----------
    text : ndarray of uint8
    kinds : ndarray of uint8, shape (256,)
        What each byte is: TEXT, SEPARATOR, END (of a line), or BLANK: no part of a field at
        either end of it.  Lines of blanks alone are skipped.
    width : int
        How many separators in a row are one: 1 or 2.  0: any run of them, also at the ends of
        a line.
    slots : ndarray of int64, shape (n_columns_read,)
        Row of `starts` and `stops` for each column; -1 skips it.  The last is not -1.
    n_columns : int
        The most fields of a line.
    comment : ndarray of uint8
        How comments begin; empty: there are none.
    skip : bool
        Whether to skip them, or to stop.
    places : ndarray of int32
        What `marks` found.
    starts, stops : ndarray of int32, shape (n_slots, n_lines)
        The first byte of each field and the byte after it; an empty field's are equal.

    Returns
    -------
    n_rows, status, place : int
        The lines stored.  DONE; or else the line that begins at `place` is a COMMENT, or has
        more fields than `n_columns`, or fewer than `slots` (WIDTH).
    """
    row, begin, first, column, blank = 0, 0, 0, 0, True
    for mark in range(places.size):
        at = places[mark]
        end = mark == places.size - 1 or kinds[text[at]] == END
        if at < first or (width == 2 and not end and (places[mark + 1] != at + 1 or mark + 2
                          == places.size or kinds[text[at + 1]] == END)):
            continue                                # the second half of a separator, or one half
        if width > 0 or at > first:
            start, stop = first, at
            while start < stop and kinds[text[start]] == BLANK:
                start += 1
            while stop > start and kinds[text[stop - 1]] == BLANK:
                stop -= 1
            if column < slots.size and slots[column] >= 0:
                starts[slots[column], row], stops[slots[column], row] = start, stop
            column, blank = column + 1, blank and start == stop
        first = at + max(width, 1)
        if end:
            commented = False
            if comment.size > 0:
                start = begin
                while start < at and (text[start] == _SPACE or text[start] == _TAB):
                    start += 1
                commented = at - start >= comment.size
                for t in range(comment.size if commented else 0):
                    commented = commented and text[start + t] == comment[t]
            if commented and not skip:
                return row, COMMENT, begin
            if not commented and (column > 1 or not blank):
                if column > n_columns or column < slots.size:
                    return row, WIDTH, begin
                row += 1
            begin, first, column, blank = at + 1, at + 1, 0, True
    return row, DONE, text.size


# ------------------------------------------------------------------------------ numbers


@njit(**EXACT)
def integers(text: np.ndarray, starts: np.ndarray, stops: np.ndarray, out: np.ndarray) -> int:
    """Read a column of int64 written as Python prints them; return the first other row, or -1."""
    for row in range(starts.size):
        at, stop = starts[row], stops[row]
        negative = at < stop and text[at] == _MINUS
        first = at + 1 if negative else at
        if first == stop or (text[first] == _ZERO and (negative or first + 1 < stop)):
            return row
        value: Any = np.int64(0)        # below zero, where there is one number more
        for t in range(first, stop):
            digit: Any = np.int64(text[t]) - _ZERO
            if digit < 0 or digit > 9 or (t - first >= 18 and value < (_LEAST + digit) // 10 + (
                    (_LEAST + digit) % 10 > 0)):
                return row
            value = 10 * value - digit
        if not negative and value == _LEAST:
            return row
        out[row] = value if negative else -value
    return -1


@njit(**EXACT)
def seconds(text: np.ndarray, starts: np.ndarray, stops: np.ndarray, out: np.ndarray,
            hard: np.ndarray) -> int:
    """Read a column of decimals without their fractions, as `reals` does; int64.

    Those with an exponent, or with anything else after the digits, are `hard`.
    """
    for row in range(starts.size):
        at, stop = starts[row], stops[row]
        first = at + 1 if at < stop and (text[at] == _MINUS or text[at] == _PLUS) else at
        value: Any = np.int64(0)
        digits, pointed, t = 0, 0, first
        while t < stop:
            digit: Any = np.int64(text[t]) - _ZERO
            if 0 <= digit <= 9:
                if pointed == 0:
                    if value > (_LARGEST - digit) // 10:
                        return row
                    value = value * 10 + digit
                digits += 1
            elif text[t] == _POINT and pointed == 0:
                pointed = 1
            else:
                break
            t += 1
        if digits == 0:
            return row
        out[row], hard[row] = -value if text[at] == _MINUS else value, t < stop
    return -1


@njit(**EXACT)
def reals(text: np.ndarray, starts: np.ndarray, stops: np.ndarray, out: np.ndarray,
          hard: np.ndarray) -> int:
    """Read a column of decimals; return the first row that is none, or -1.

    A row that one float64 operation may round wrongly is marked in `hard`, not read.
    """
    for row in range(starts.size):
        at, stop = starts[row], stops[row]
        negative = at < stop and text[at] == _MINUS
        t = at + 1 if negative or (at < stop and text[at] == _PLUS) else at
        mantissa: Any = np.int64(0)     # (above 2**53, only that it is)
        digits, pointed, scale = 0, 0, 0
        while t < stop:
            digit: Any = np.int64(text[t]) - _ZERO
            if 0 <= digit <= 9:
                mantissa = min(mantissa, _EXACT_INTEGER) * 10 + digit
                digits, scale = digits + 1, scale - pointed
            elif text[t] == _POINT and pointed == 0:
                pointed = 1
            else:
                break
            t += 1
        if digits == 0:
            return row
        if t + 1 < stop and (text[t] == _E or text[t] == _E - 32):
            t += 1
            below = text[t] == _MINUS
            t += t + 1 < stop and (below or text[t] == _PLUS)
            power: Any = 0
            while t < stop and 0 <= np.int64(text[t]) - _ZERO <= 9:
                power = min(power * 10 + np.int64(text[t]) - _ZERO, 99_999)
                t += 1
            scale += -power if below else power
        if t < stop:
            return row
        value = -float(mantissa) if negative else float(mantissa)
        hard[row] = mantissa > 0 and (mantissa > _EXACT_INTEGER or scale < -22 or scale > 22)
        if not hard[row] and mantissa > 0:
            value = value / _POWERS[-scale] if scale < 0 else value * _POWERS[scale]
        out[row] = value
    return -1


# -------------------------------------------------------------------------------- words


@njit(**EXACT)
def _hash(text: np.ndarray, starts: np.ndarray, stops: np.ndarray, first: int, size: int,
          values: np.ndarray) -> None:
    """Write hashes in [0, 2^40) of the words in some rows; no product passes 2^63."""
    for t in range(size):
        value: Any = np.int64(stops[first + t] - starts[first + t])
        for place in range(starts[first + t], stops[first + t]):
            value = (value * 1_000_003 + text[place]) & _HASHED
        value = ((value ^ (value >> 20)) * 1_000_003) & _HASHED
        values[t] = value ^ (value >> 20)


@njit(**EXACT)
def _find(table: np.ndarray, values: np.ndarray, size: int, found: np.ndarray) -> None:
    """Write the first place for each hash that is empty or bears its mark."""
    for t in range(size):
        place = values[t] & (table.size - 1)
        while table[place] >= 0 and table[place] >> _CODES != values[t] >> 8:
            place = (place + 1) & (table.size - 1)
        found[t] = place


@njit(**EXACT)
def _enter(text: np.ndarray, starts: np.ndarray, stops: np.ndarray, first: int, size: int,
           values: np.ndarray, found: np.ndarray, table: np.ndarray, hashes: np.ndarray,
           ends: np.ndarray, words: np.ndarray, known: int, n_words: int, codes: np.ndarray,
           rows: np.ndarray) -> int:
    """Number the words of some rows, whose places are known, and enter those that are new."""
    for row in range(first, first + size):
        at, stop = starts[row], stops[row]
        place, value, same = found[row - first], values[row - first], False
        while table[place] >= 0:
            code = table[place] & (2**_CODES - 1)
            same = ends[code + 1] - ends[code] == stop - at and hashes[code] == value
            for t in range(stop - at if same else 0):
                same = same and text[at + t] == words[ends[code] + t]
            if same:
                break
            place = (place + 1) & (table.size - 1)
        if not same:
            code, end = n_words, ends[n_words]
            table[place], hashes[code] = value >> 8 << _CODES | code, value
            rows[code - known] = row
            for t in range(stop - at):
                words[end + t] = text[at + t]
            n_words += 1
            ends[n_words] = end + stop - at
        codes[row] = code
    return n_words


@njit(**EXACT)
def number_words(text: np.ndarray, starts: np.ndarray, stops: np.ndarray, table: np.ndarray,
                 hashes: np.ndarray, ends: np.ndarray, words: np.ndarray, n_words: int,
                 codes: np.ndarray, rows: np.ndarray) -> int:
    """Number the distinct words of a column, in the order in which they come.

    Parameters
    ----------
    table : ndarray of int64, shape (a power of two,)
        Open addressing: -1, or the upper bits of a hash and the number of a word; at most half
        of it is used.
    hashes, ends : ndarray of int64, shape (at least n_words + n_rows + 1,)
        Hash of each word, and where it ends in `words`, of which the first entry is 0.
    words : ndarray of uint8
        The bytes of the words, one after the other; long enough for all of `text`.
    n_words : int
        How many are known.
    codes : ndarray of int64, shape (n_rows,)
        Becomes the number of each word of the column.
    rows : ndarray of int64, shape (n_rows,)
        Becomes the first row of each new word.

    Returns
    -------
    n_words : int

    Notes
    -----
    Most of the time goes by in waiting for the table and for the words, which are too large for
    the cache.  So all hashes of a group are known before the first is looked for, and all places
    before the first word is compared: the processor then asks for many at a time.
    """
    known = n_words
    values, found = np.empty(_GROUP, np.int64), np.empty(_GROUP, np.int64)
    for first in range(0, starts.size, _GROUP):
        size = min(_GROUP, starts.size - first)
        _hash(text, starts, stops, first, size, values)
        _find(table, values, size, found)
        n_words = _enter(text, starts, stops, first, size, values, found, table, hashes, ends,
                         words, known, n_words, codes, rows)
    return n_words


@njit(**EXACT)
def fill_table(hashes: np.ndarray, n_words: int, table: np.ndarray) -> None:
    """Enter the first `n_words` words into an empty table: see `number_words`."""
    for code in range(n_words):
        place = hashes[code] & (table.size - 1)
        while table[place] >= 0:
            place = (place + 1) & (table.size - 1)
        table[place] = hashes[code] >> 8 << _CODES | code
