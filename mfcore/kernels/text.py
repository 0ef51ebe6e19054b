"""Numbers out of lines of text: one pass over the bytes, no Python objects.

A decimal with at most 15 digits or so and a small exponent is one exact integer times or
over one exact power of ten, so a single float64 operation rounds it correctly (W. Clinger,
"How to read floating point numbers accurately", 1990).  The caller reads the rare others:
`hard` says which they are, and `reals` where in the text.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mfcore.compiled import njit
from mfcore.kernels.options import EXACT

# How `parse_lines` ends.
DONE, TOO_SHORT, NOT_INTEGER, NOT_NUMBER, QUOTED = 0, 1, 2, 3, 4
# Where a column goes: SKIP, row s of `integers` for s < REAL, else row s - REAL of `reals`.
SKIP, REAL = -1, 8

_NEWLINE, _RETURN, _TAB, _SPACE, _QUOTE = 10, 13, 9, 32, 34
_PLUS, _MINUS, _POINT, _ZERO = 43, 45, 46, 48
_EXACT_INTEGER = 2**53
_POWERS = 10.0 ** np.arange(23)
_LARGEST = 2**63 - 1
# (EXACT: division by a power of ten must not become a product with its reciprocal.)
_HELPER = {**EXACT, "forceinline": True}


@njit(**_HELPER)
def _digit(text: np.ndarray, at: int, stop: int) -> int:
    """Return the digit at `at`, or -1 if there is none."""
    if at >= stop:
        return -1
    digit: Any = np.int64(text[at]) - _ZERO
    return digit if 0 <= digit <= 9 else -1


@njit(**_HELPER)
def _after_sign(text: np.ndarray, at: int, stop: int) -> int:
    return at + 1 if at < stop and (text[at] == _MINUS or text[at] == _PLUS) else at


@njit(**_HELPER)
def _integer(text: np.ndarray, at: int, stop: int) -> tuple[int, int]:
    """Return (value, first byte after it); that byte is `at` if there is no int64."""
    first = _after_sign(text, at, stop)
    value: Any = np.int64(0)
    t = first
    digit = _digit(text, t, stop)
    while digit >= 0:
        if t - first >= 18 and value > (_LARGEST - digit) // 10:
            return 0, at
        value = value * 10 + digit
        t += 1
        digit = _digit(text, t, stop)
    if t == first:
        return 0, at
    return (-value if text[at] == _MINUS else value), t


@njit(**_HELPER)
def _exponent(text: np.ndarray, at: int, stop: int) -> tuple[int, int]:
    """Return the (value, first byte after it) of an exponent such as `e-3`, or (0, at)."""
    if at >= stop or (text[at] != 69 and text[at] != 101):      # E, e
        return 0, at
    first = _after_sign(text, at + 1, stop)
    value: Any = np.int64(0)
    t = first
    digit = _digit(text, t, stop)
    while digit >= 0:
        value = min(value * 10 + digit, 99_999)
        t += 1
        digit = _digit(text, t, stop)
    if t == first:
        return 0, at
    return (-value if text[at + 1] == _MINUS else value), t


@njit(**_HELPER)
def _digits(text: np.ndarray, at: int, stop: int) -> tuple[int, int, int, int]:
    """Return (mantissa, number of digits, power of ten, first byte after) of `12.50`.

    A mantissa above 2**53 is wrong, but still above 2**53.
    """
    mantissa: Any = np.int64(0)
    count, decimals, pointed, t = 0, 0, 0, at
    while t < stop:
        digit = _digit(text, t, stop)
        if digit >= 0:
            mantissa = min(mantissa, _EXACT_INTEGER) * 10 + digit
            count += 1
            decimals += pointed
        elif text[t] == _POINT and pointed == 0:
            pointed = 1
        else:
            break
        t += 1
    return mantissa, count, -decimals, t


@njit(**_HELPER)
def _real(text: np.ndarray, at: int, stop: int) -> tuple[float, int, bool]:
    """Return (value, first byte after it, exact); that byte is `at` if there is no number."""
    mantissa, count, scale, t = _digits(text, _after_sign(text, at, stop), stop)
    if count == 0:
        return 0.0, at, True
    power, t = _exponent(text, t, stop)
    scale += power
    value = float(-mantissa if text[at] == _MINUS else mantissa)
    if mantissa > _EXACT_INTEGER or scale < -22 or scale > 22:
        return value, t, mantissa == 0
    return (value / _POWERS[-scale] if scale < 0 else value * _POWERS[scale]), t, True


@njit(**_HELPER)
def _blank(byte: int, separator: int, width: int) -> bool:
    """Tell whether a byte is padding: a space unless it separates; with width 0, also a tab."""
    return (byte == _SPACE and separator != _SPACE) or \
        (width == 0 and byte in (_SPACE, _TAB))


@njit(**_HELPER)
def _at_separator(text: np.ndarray, at: int, stop: int, separator: int, width: int) -> bool:
    if width == 0:
        return bool(text[at] in (_SPACE, _TAB))
    doubled = width == 1 or (at + 1 < stop and text[at + 1] == separator)
    return bool(text[at] == separator and doubled)


@njit(**_HELPER)
def _field_end(text: np.ndarray, at: int, stop: int, separator: int, width: int) -> int:
    while at < stop and not _at_separator(text, at, stop, separator, width):
        at += 1
    return at


@njit(**_HELPER)
def _parse_line(text: np.ndarray, at: int, stop: int, separator: int, width: int,
                slots: np.ndarray, row: int, integers: np.ndarray, reals: np.ndarray,
                hard: np.ndarray) -> tuple[int, int, int]:
    """Store the fields of one line; return (status, column, first byte of the field)."""
    for column in range(slots.size):
        while at < stop and _blank(text[at], separator, width):
            at += 1
        field, slot = at, slots[column]
        if slot == SKIP:
            if field < stop and text[field] == _QUOTE:
                return QUOTED, column, field
            at = _field_end(text, field, stop, separator, width)
        else:
            if slot < REAL:
                integers[slot, row], at = _integer(text, field, stop)
            else:
                value, at, exact = _real(text, field, stop)
                reals[slot - REAL, row] = value if exact else float(field)
                hard[slot - REAL, row] = not exact
            number = at > field
            while number and width > 0 and at < stop and _blank(text[at], separator, width):
                at += 1
            if not number or (at < stop and
                              not _at_separator(text, at, stop, separator, width)):
                return NOT_NUMBER if slot >= REAL else NOT_INTEGER, column, field
        if at >= stop and column + 1 < slots.size:
            return TOO_SHORT, column, field
        at += max(width, 1)
    return DONE, 0, 0


@njit(**EXACT)
def parse_lines(text: np.ndarray, start: int, stop: int, separator: int, width: int,
                slots: np.ndarray, row: int, integers: np.ndarray, reals: np.ndarray,
                hard: np.ndarray) -> tuple[int, int, int, int]:
    """Read the lines of text[start:stop] into columns `row`, `row` + 1, ... of the output.

    Parameters
    ----------
    text : ndarray of uint8
        Lines that end in a line feed, maybe after a carriage return; blank ones are skipped.
    separator, width : int
        The byte of the separator, and how many of it there are (`::` has width 2).  Width 0 is
        any run of spaces and tabs.
    slots : ndarray of int64, shape (n_columns,)
        Where each column goes; the first and the last column read must not be SKIP.
    integers : ndarray of int64, shape (n_integers, n_lines)
    reals : ndarray of float64, shape (n_reals, n_lines)
        A value or, if `hard` is set, the place of its first byte in `text`.
    hard : ndarray of bool, shape (n_reals, n_lines)

    Returns
    -------
    n_rows, status, column, place : int
        The number of lines stored; DONE, or why it stopped, in which column, at which byte.
    """
    at, stored = start, row
    while at < stop:
        end = at
        while end < stop and text[end] != _NEWLINE:
            end += 1
        last = end
        while last > at and (text[last - 1] == _RETURN
                             or _blank(text[last - 1], separator, width)):
            last -= 1
        if last > at:
            status, column, place = _parse_line(text, at, last, separator, width, slots,
                                                stored, integers, reals, hard)
            if status != DONE:
                return stored - row, status, column, place
            stored += 1
        at = end + 1
    return stored - row, DONE, 0, 0
