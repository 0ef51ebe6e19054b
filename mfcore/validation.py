"""Checks of input, whose messages all give the name, the demand, what came and the cure.

Each function returns the checked value, so that a check reads as an assignment:

    n_epochs = integer("n_epochs", n_epochs, low=1)

Checks run before any work is done and never change the value's meaning.
"""

from __future__ import annotations

import math
import numbers
import os
import stat
import sys
import warnings
from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

CLOSE = 0.5                 # likeness of two words at which one may be meant by the other
MOST = 2**31 - 1            # largest count, of rows or of entries in a list
_KINDS = {stat.S_IFREG: "a file", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe",
          stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


class NotFittedError(ValueError, AttributeError):
    """An estimator was asked for a result before `fit`."""


class FitWarning(UserWarning):
    """A fit whose model says little, although nothing went wrong."""


class DivergenceError(FloatingPointError):
    """Training left the finite numbers; the last finite state is kept."""


def integer(name: str, value: Any, *, low: int = 0, high: int | None = None) -> int:
    """Return `value` as an int, or raise if it is not a whole number in [low, high].

    Raises TypeError for another type (booleans included), ValueError out of range.
    """
    if _is_boolean(value) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer, got {_shown(value)}")
    number = int(value)
    if number < low or (high is not None and number > high):
        demand = f">= {low}" if high is None else f"in [{low}, {high}]"
        raise ValueError(f"{name} must be {demand}, got {value}")
    return number


def count(name: str, value: Any) -> int:
    """Return `value` as an int in [1, MOST], or raise as `integer` does."""
    number = integer(name, value, low=1)
    if number > MOST:
        raise ValueError(f"{name} must be <= {MOST}, got {value}")
    return number


def real(name: str, value: Any, *, low: float = -math.inf, high: float = math.inf,
         above: float | None = None) -> float:
    """Return `value` as a float, or raise if it is not finite, in [low, high], > `above`.

    Raises TypeError for another type (booleans included), ValueError out of range.
    """
    if _is_boolean(value) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a real number, got {_shown(value)}")
    number = float(value)
    inside = low <= number <= high and (above is None or number > above)
    if not math.isfinite(number) or not inside:
        raise ValueError(f"{name} must be finite{_interval(low, high, above)}, got {value}")
    return number


def meant(word: str, known: Iterable[Any]) -> str:
    """Return `; did you mean 'x'?` of the known word that is most like one; "" if none is."""
    spelled = {known_word.lower(): known_word for known_word in known
               if isinstance(known_word, str)}
    near = get_close_matches(word.lower(), spelled, 1, CLOSE)
    return f"; did you mean {spelled[near[0]]!r}?" if near else ""


def unknown(owner: str, words: Sequence[str], known: Iterable[str]) -> ValueError:
    """Return the error for parameters that something does not have."""
    near = meant(words[0], known)
    return ValueError(f"{owner} has no parameter {', '.join(map(repr, words))}"
                      f"{near}{' It' if near else '; it'} has {', '.join(known)}")


def choice(name: str, value: Any, known: Collection[Any]) -> Any:
    """Return `value` if it is one of `known`, else raise a ValueError that lists them."""
    if not isinstance(value, (str, type(None))) or value not in known:
        listed = ", ".join(map(repr, known))
        raise ValueError(f"{name} must be one of {listed}, got {_shown(value)}"
                         f"{meant(value, known) if isinstance(value, str) else ''}")
    return value


def real_or_choice(name: str, value: Any, known: Collection[Any], *,
                   low: float = -math.inf, high: float = math.inf,
                   above: float | None = None) -> Any:
    """Return `value` if it is one of `known` or a finite number in [low, high], else raise."""
    if not isinstance(value, (str, type(None))):
        return real(name, value, low=low, high=high, above=above)
    if value not in known:
        listed = ", ".join(map(repr, known))
        raise ValueError(f"{name} must be a number or one of {listed}, got {value!r}")
    return value


def integer_or_choice(name: str, value: Any, known: Collection[Any], *, low: int = 0) -> Any:
    """Return `value` if it is one of `known` or a whole number >= low, else raise."""
    if isinstance(value, str):
        return real_or_choice(name, value, known)
    return integer(name, value, low=low)


def path(name: str, value: Any) -> Path:
    """Return `value` as a Path; raise if it is not a path or no file can have that name."""
    text = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a path (str or pathlib.Path), got {_shown(value)}")
    if not text or "\0" in text:
        raise ValueError(f"{name} must be a path, neither empty nor with a zero byte, "
                         f"got {text!r}")
    return Path(text)


def kind_of(path: Path) -> str | None:
    """Return what is at a path, links followed: "a file", "a folder", ...; None for nothing."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    return _KINDS.get(stat.S_IFMT(mode), "no file")


def regular_file(path: Path, use: str) -> Path:
    """Return the path of a file that can be read from any place, and twice.

    Parameters
    ----------
    path : Path
    use : str
        How the file is read, as the message says it: "read from its end".

    Raises
    ------
    FileNotFoundError, IsADirectoryError
    ValueError
        A pipe, socket or device.
    """
    kind = kind_of(path)
    if kind is None:
        raise FileNotFoundError(f"there is no file {path}")
    if kind == "a folder":
        raise IsADirectoryError(f"{path} is a folder; name a file in it")
    if kind != "a file":
        raise ValueError(f"{path} is {kind}, and what it holds is {use}: write it to a file first")
    return path


def iterable(name: str, value: Any) -> list[Any]:
    """Return the entries of `value` as a list, or raise a TypeError if it is not iterable."""
    if not hasattr(value, "__iter__") or hasattr(value, "tocsr") \
            or getattr(value, "shape", None) == ():     # (SciPy is heavy; an array of no axis)
        raise TypeError(f"{name} must be a sequence, got {_shown(value)}")
    return list(value.to_pylist() if hasattr(value, "to_pylist") else value)    # (Arrow's nulls)


def boolean(name: str, value: Any) -> bool:
    """Return `value` as a bool, or raise a TypeError."""
    if not _is_boolean(value):
        raise TypeError(f"{name} must be True or False, got {_shown(value)}")
    return bool(value)


def rectangular(name: str, values: Any) -> np.ndarray:
    """Return `values` as an array, or raise a TypeError for a ragged nesting."""
    try:
        return np.asarray(with_nulls(values))
    except ValueError as error:
        raise TypeError(f"{name} must be a rectangular array: {error}") from None


def with_nulls(values: Any) -> Any:
    """Return an array of Arrow as a list if it has nulls, which NumPy may make a category."""
    if hasattr(values, "null_count") and hasattr(values, "to_pylist") and values.null_count:
        return values.to_pylist()
    return values


def numeric(name: str, values: Any) -> np.ndarray:
    """Return `values` as an array of bool, integer or float dtype.

    Raises TypeError for objects, strings, complex numbers and ragged nestings.
    """
    array = rectangular(name, values)
    if array.dtype.kind not in "buif":
        raise TypeError(f"{name} must be numbers, got dtype {array.dtype}")
    return array


def vector(name: str, values: Any, length: int | None = None) -> np.ndarray:
    """Return `values` as a one-dimensional numeric array of the given length.

    Objects may be numbers of any kind, also `Decimal`.  Raises ValueError for None, pandas.NA, a
    masked value and the like, TypeError for anything but a number, both with the first row.
    """
    array = rectangular(name, values)
    if array.ndim == 1 and (np.ma.is_masked(values) or array.dtype.kind in "OUS"):
        array = _numbers(name, values if np.ma.is_masked(values) else array)
    array = numeric(name, array)
    if array.ndim != 1 or (length is not None and array.size != length):
        wanted = "(n,)" if length is None else f"({length},)"
        raise ValueError(f"{name} must have shape {wanted}, got {array.shape}")
    return array


def _numbers(name: str, values: np.ndarray) -> np.ndarray:
    refuse_missing(name, values)
    for row, value in enumerate(values):
        if not isinstance(value, (numbers.Real, Decimal, np.bool_)):
            shown = _shown(value.item() if isinstance(value, np.generic) else value)
            cure = "" if not isinstance(value, str) else "; astype(float) makes numbers of text" \
                if "," not in value else "; decimals are written with a point: " \
                "str.replace(',', '.') and then astype(float) make numbers of these"
            raise TypeError(f"{name} must be numbers, got {shown} in row {row}{cure}")
    try:
        return values.astype(np.float64)
    except OverflowError as error:
        raise ValueError(f"{name} must fit into float64: {error}") from None


def refuse_missing(name: str, values: Any) -> None:
    """Raise a ValueError that names the first missing value of a vector, and its row."""
    array, missing = np.asarray(values), np.ma.getmaskarray(values)
    if array.dtype == object:
        missing = missing | np.fromiter(map(is_missing, array), bool, len(array))
    elif array.dtype.kind in "fcmM":
        missing = missing | (array != array)
    if missing.any():
        row = int(np.argmax(missing))
        value = np.ma.masked if np.ma.is_masked(values[row]) else array[row:row + 1].tolist()[0]
        raise missing_value(name, value, row, int(missing.sum()))


def missing_value(name: str, value: Any, row: int, count: int) -> ValueError:
    """Return the error for a value that is missing."""
    return ValueError(f"{name} must not be missing, got {value!r} in row {row} ({count} in all); "
                      f"drop or fill these rows first")


def warn(text: str, kind: type[Warning] = UserWarning) -> None:
    """Warn whoever called the library, however deep in it this is."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("mfcore"):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, kind, stacklevel=level)


def is_missing(value: Any) -> bool:
    """Tell whether a value is None, NaN, NaT, pandas.NA, masked or a null of Arrow."""
    if value is None or value is np.ma.masked or getattr(value, "is_valid", True) is False:
        return True
    if hasattr(value, "__len__"):           # text, or a row of values
        return False
    try:
        return bool(value != value)
    except (TypeError, ArithmeticError):    # pandas.NA, Decimal("sNaN")
        return True


def finite(name: str, values: np.ndarray, cure: str = "drop or fill these cells first"
           ) -> np.ndarray:
    """Return `values`, or raise a ValueError that names the first NaN or infinity, and the cure."""
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.sum(values) if values.dtype.kind == "f" else 0
    if not np.isfinite(total):
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            first = int(bad[0])
            raise ValueError(f"{name} must be finite, got {values.flat[first]} at position "
                             f"{first} ({bad.size} in all); {cure}")
    return values


def nonnegative(name: str, values: np.ndarray) -> np.ndarray:
    """Return `values`, or raise a ValueError that names the first negative one."""
    if values.size and values.min() < 0:
        first = int(np.argmax(values < 0))
        raise ValueError(f"{name} must be >= 0, got {values.flat[first]} at position {first}")
    return values


def positions(name: str, values: Any, size: int) -> np.ndarray:
    """Return row numbers as int64, or raise: TypeError if not whole, IndexError outside."""
    given = np.atleast_1d(rectangular(name, values))
    array = given if _holds_integers(given) else \
        vector(name, given if given.size else np.empty(0, np.int64))
    if array.dtype.kind not in "uiO":
        raise TypeError(f"{name} must be row numbers (integers), got dtype {array.dtype}")
    outside = (array < 0) | (array >= size)
    if outside.any():
        listed = ", ".join(map(str, array[outside][:5]))
        raise IndexError(f"{name} must be in [0, {size - 1}], got {listed}")
    return array.astype(np.int64, copy=False)


def _holds_integers(array: np.ndarray) -> bool:
    """Tell whether these are integers held as objects, as those of more than 64 bits are."""
    return array.dtype == object and array.ndim == 1 and all(type(value) is int for value in array)


def same_length(**arrays: Collection[Any]) -> None:
    """Raise a ValueError that shows the lengths unless all arrays have the same."""
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"arrays must have the same length, got {shown}")


def known_ids(name: str, values: Iterable[Any], found: np.ndarray) -> None:
    """Raise a KeyError that names the ids for which `found` is -1."""
    missing = [value for value, place in zip(values, found, strict=True) if place < 0]
    if missing:
        shown = ", ".join(map(repr, missing[:5])) + (", ..." if len(missing) > 5 else "")
        raise KeyError(f"{name} not seen in training: {shown}")


def share(name: str, value: Any) -> float:
    """Return `value` as a float, or raise if it is not strictly between 0 and 1."""
    number = real(name, value)
    if not 0 < number < 1:
        raise ValueError(f"{name} must be a share between 0 and 1, both excluded, got {value}")
    return number


def random_generator(name: str, value: Any) -> np.random.Generator:
    """Return a Generator: seeded by an integer >= 0, the one given, or a fresh one for None.

    Raises TypeError for another type (booleans included), ValueError for a negative seed.
    """
    if value is None or isinstance(value, np.random.Generator):
        return np.random.default_rng(value)         # (which returns a Generator as it is)
    if _is_boolean(value) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer, a numpy Generator or None, "
                        f"got {_shown(value)}")
    return np.random.default_rng(integer(name, value))


def rate(name: str, value: Any) -> float:
    """Return `value` as a float in [0, 1): the share of something that is left out."""
    if real(name, value, low=0) >= 1:
        raise ValueError(f"{name} must be in [0, 1), got {value}: 1 leaves nothing")
    return float(value)


def shares(name: str, value: Any) -> None:
    """Raise unless a value is three numbers above 0 that add up to 1."""
    found = [real(name, share, above=0) for share in value]
    if len(found) != 3 or abs(sum(found) - 1) > 1e-6:
        raise ValueError(f"{name} must be three shares that add up to 1, got {value}")


def widths(name: str, value: Any) -> None:
    """Raise unless a value is a tuple of whole numbers >= 1."""
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{name} must be a tuple of widths, got {value!r}")
    for width in value:
        integer(name, width, low=1)


def flag_or_count(name: str, value: Any) -> None:
    """Raise unless a value is a boolean, or a whole number >= 0."""
    if not isinstance(value, bool):
        integer(name, value)


def _is_boolean(value: Any) -> bool:
    return isinstance(value, (bool, np.bool_))


def _interval(low: float, high: float, above: float | None) -> str:
    if above is None and math.isfinite(low) and math.isfinite(high):
        return f" and in [{low:g}, {high:g}]"
    least = (">=", low) if above is None else (">", above)
    return "".join(f" and {sign} {bound:g}" for sign, bound in (least, ("<=", high))
                   if math.isfinite(bound))


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{text[:57]}..." if len(text) > 60 else text
