"""When ratings were given: a number, or a date and time, for each stored cell.

Moments are kept as whole numbers (or floats, where they have fractions) of one unit, so that they
can be sorted, written and mapped as all numbers are; `values` shows them as they were given.

    seconds = numbers / unit        unit: 1 for "s", 10³ for "ms", 10⁶ for "us", 10⁹ for "ns"

Dates and times with a time zone are kept in UTC.  They are not compared with those without one,
whose zone nobody knows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, timezone
from typing import Any

import numpy as np

from mfcore import validation
from mfcore.data.ids import as_int64

UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
# Unix times from 1973 to 2286, in each unit: what a number of this size is, if it is a moment.
UNIX = {unit: (10**8 * per_second, 10**10 * per_second) for unit, per_second in UNITS.items()}
SPANS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "y": 31556952.0}
MISSING_CURE = "all cells need one: leave these out, or give them one moment of their own"
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?", re.ASCII)
ISO_CURE = ("; np.array(texts, 'datetime64[s]') reads ISO dates, and pandas.to_datetime(texts) "
            "others")
NO_TIMES = ("the ratings have no times: Ratings(..., times=...), from_arrays(..., times=...), "
            "from_frame(..., time_column=...) and read_ratings(..., time_column=...) keep them")


@dataclass(frozen=True)
class Times:
    """The moments of the cells of some ratings.

    Parameters
    ----------
    numbers : ndarray of int64 or float64, shape (nnz,), read-only
    unit : {"s", "ms", "us", "ns"} or None
        Of dates and times, since 1970; None: plain numbers.
    aware : bool
        Whether dates and times had a time zone; they are then in UTC.
    """

    numbers: np.ndarray
    unit: str | None = None
    aware: bool = False

    def __post_init__(self) -> None:
        self.numbers.flags.writeable = False

    def __setstate__(self, state: dict[str, Any]) -> None:          # (of a copy, or a pickle)
        vars(self).update(state)
        self.__post_init__()

    def __len__(self) -> int:
        return len(self.numbers)

    def __bool__(self) -> bool:             # (times of no cells are there, too)
        return True

    @classmethod
    def of(cls, name: str, given: Any, length: int | None = None) -> Times:
        """Return the moments that are given, checked; `length` is how many there must be.

        Raises
        ------
        TypeError
            For anything but numbers, or dates and times; for both; for times with a time zone
            next to times without.
        ValueError
            For missing or infinite ones, another number of them, or Unix times in several units.
        """
        found = given if isinstance(given, Times) else _moments(name, given)
        validation.vector(name, found.numbers, length)
        return found

    @classmethod
    def stated(cls, numbers: np.ndarray, kind: Any) -> Times:
        """Return times that a file holds, of the unit and zone that it states."""
        unit, aware = kind
        if unit not in (None, *UNITS) or (unit is not None and numbers.dtype != np.int64):
            raise ValueError(f"times are of the unit {unit!r}, in {numbers.dtype}")
        return cls(numbers, unit, bool(aware))

    @property
    def values(self) -> np.ndarray:
        """The moments as they were given: numbers, or datetime64."""
        return self.numbers if self.unit is None else self.numbers.view(f"M8[{self.unit}]")

    @property
    def seconds(self) -> np.ndarray:
        """The moments as whole seconds, int64, fractions cut; plain numbers are seconds."""
        seconds: np.ndarray = self.numbers // UNITS[self.unit or "s"]
        return seconds.astype(np.int64)

    @property
    def kind(self) -> list[Any]:
        """Unit and zone, as files state them."""
        return [self.unit, self.aware]

    @property
    def per_second(self) -> float:
        """How many units a second has; plain numbers are taken for Unix times of their size."""
        if self.unit is None:
            return float(UNITS[next(iter(_unix_units(self.numbers)), "s")])
        return float(UNITS[self.unit])

    def take(self, places: np.ndarray) -> Times:
        """Return the moments of some cells."""
        return replace(self, numbers=self.numbers[places])

    def numbers_of(self, name: str, given: Any, length: int | None = None) -> np.ndarray:
        """Return other moments as numbers of this unit, to be compared with these.

        Fractions of the unit count as the next whole one.  Raises TypeError for moments of
        another kind, ValueError for Unix times in another unit and for moments that 64 bits of
        this unit do not hold, and what `of` raises.
        """
        other = Times.of(name, given, length)
        if not len(other.numbers):                  # (no moments are of every kind)
            return np.zeros(0, self.numbers.dtype)
        self.check_kind(name, other)
        if self.unit is None:
            _refuse_units(name, {**_unix_units(self.numbers), **_unix_units(other.numbers)})
        if other.unit == self.unit:
            return other.numbers
        return _in_unit(name, other.values, str(self.unit)).view(np.int64)

    def moment(self, name: str, at: Any) -> float:
        """Return one moment as a number of this unit; text may be a date, as in "2020-01-31"."""
        if self.unit is None:
            self.numbers_of(name, [number := validation.real(name, at)])
            return number
        dated = _dated(at) if isinstance(at, str) else at
        if not isinstance(dated, (date, np.datetime64)):
            raise TypeError(f"{name} must be a date or time, as the timestamps are, got {at!r}")
        return int(self.numbers_of(name, np.array([dated], object), 1)[0])

    def check_kind(self, name: str, other: Times) -> None:
        """Raise TypeError for moments that cannot be compared with these."""
        if (self.unit is None) != (other.unit is None):
            raise TypeError(f"{name} must be {_described(self)}, as the times of the ratings are, "
                            f"got {_described(other)}")
        if self.aware != other.aware:
            raise TypeError(f"{name} must have {'a' if self.aware else 'no'} time zone, as the "
                            f"times of the ratings: {_ZONES}")

    def span(self, name: str, given: Any) -> float:
        """Return a length of time in this unit, > 0.

        given : "30D", "12h", "2W" (s, min, h, D, W, Y), a timedelta, or, where moments are plain
            numbers, a number of what they count
        """
        if isinstance(given, str):
            return seconds_of(name, given) * self.per_second
        if isinstance(given, (timedelta, np.timedelta64)):
            seconds = np.timedelta64(given) / np.timedelta64(1, "s")
            return validation.real(name, float(seconds), above=0) * self.per_second
        if self.unit is not None:
            raise TypeError(f"{name} must be a length of time such as '30D' or '12h', or a "
                            f"timedelta, got {given!r}")
        return validation.real(name, given, above=0)


_ZONES = "tz_localize(...), or replace(tzinfo=...), gives one, and tz_localize(None) takes it away"


def _dated(text: str) -> Any:
    """Return the date or time that a text states, None for another text."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:                          # (Python 3.10 reads no year or month alone)
        try:
            return np.datetime64(text)
        except ValueError:
            return None


def seconds_of(name: str, given: str) -> float:
    """Return the seconds of a length of time such as "30D"; raise ValueError for another text."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([a-z]+)", given.strip().lower())
    if found is None or found[2] not in SPANS or float(found[1]) == 0:
        raise ValueError(f"{name} must be a length of time such as '30D', '12h' or '2W' (s, min, "
                         f"h, D, W, Y), got {given!r}")
    return float(found[1]) * SPANS[found[2]]


def _moments(name: str, given: Any) -> Times:
    if np.ma.is_masked(given):
        given = given.tolist()                      # (which has None for what is masked)
    if isinstance(given, (list, tuple)) and all(isinstance(each, np.datetime64) for each in given):
        given = np.array(given, object)             # (NumPy's common unit may not hold them all)
    aware = zone_of(given) is not None
    array = _in_utc(given) if aware else validation.rectangular(name, given)
    if array.dtype == object and array.ndim == 1:
        array, aware = _of_objects(name, array)
    if array.dtype.kind == "M":
        missing = np.isnat(array)
        if missing.any():
            raise ValueError(f"{name} must not hold NaT, got {missing.sum()} in all, the first at "
                             f"position {np.argmax(missing)}; {MISSING_CURE}")
        unit, _ = np.datetime_data(array.dtype)
        unit = unit if unit in UNITS else "ns" if unit in ("ps", "fs", "as") else "s"
        return Times(_in_unit(name, array, unit).view(np.int64), unit, aware)
    if array.dtype.kind not in "iufO" or array.dtype == object:
        is_text = array.dtype.kind == "U"
        raise TypeError(f"{name} must be numbers, or dates and times, got dtype {array.dtype}"
                        f"{ISO_CURE if is_text else ''}")
    return Times(_numbers(name, array))


def zone_of(column: Any) -> Any:
    """Return the time zone of a column of pandas, polars or Arrow; None for anything else."""
    kind = _kind_of(column)
    return getattr(kind, "tz", None) or getattr(kind, "time_zone", None)


def _kind_of(column: Any) -> Any:
    return getattr(column, "dtype", getattr(column, "type", None))


def _in_utc(column: Any) -> np.ndarray:
    kind = _kind_of(column)
    unit = getattr(kind, "unit", None) or getattr(kind, "time_unit", None)
    return np.asarray(column, f"M8[{unit}]")


def _in_unit(name: str, array: np.ndarray, unit: str) -> np.ndarray:
    """Return datetime64 in another unit, up to its next whole one; ValueError out of range."""
    moments: np.ndarray = array.astype(f"M8[{unit}]")
    others = moments.astype(array.dtype)
    if not np.can_cast(array.dtype, moments.dtype):
        moments.view(np.int64)[others < array] += 1
    elif (lost := others != array).any():           # (NumPy wraps around)
        raise ValueError(f"{name} must fit into 64 bits of {unit}, got {array[lost][0]}; "
                         f"'ns' hold the years 1678 to 2261, 'us' all that Python's dates do")
    return moments


def _numbers(name: str, array: np.ndarray) -> np.ndarray:
    """Return plain numbers as int64, or float64 where they have fractions."""
    validation.finite(name, array, MISSING_CURE)
    if array.dtype.kind in "iu":
        numbers = np.array(array, None if array.max(initial=0) >= 2**63 else np.int64)
    else:
        fits = np.abs(array).max(initial=0) < 2.0**63
        whole = array.astype(np.int64) if fits else array
        numbers = np.array(whole) if np.array_equal(whole, array) else array.astype(np.float64)
    _refuse_units(name, _unix_units(numbers))
    return numbers


def _refuse_units(name: str, found: dict[str, Any]) -> None:
    """Raise ValueError for Unix times in several units: see `_unix_units`."""
    if len(found) > 1:
        raise ValueError(f"{name} must be in one unit, got Unix times in {' and in '.join(found)}, "
                         f"such as {' and '.join(str(each) for each in found.values())}")


def _unix_units(numbers: np.ndarray) -> dict[str, Any]:
    """Return the units of Unix times, each with one of them; {} for what are none."""
    found: dict[str, Any] = {}
    known = 0
    if numbers.size and UNIX["s"][0] <= numbers.min() and numbers.max() < UNIX["ns"][1]:
        for unit, (low, high) in UNIX.items():
            inside = (numbers >= low) & (numbers < high)
            if inside.any():
                found[unit] = numbers[np.argmax(inside)].item()
                known += int(inside.sum())
    return found if known == numbers.size else {}


def _of_objects(name: str, array: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return Python's dates, times or numbers as an array, and whether they have a zone."""
    missing = [place for place, each in enumerate(array) if validation.is_missing(each)]
    if missing:
        raise ValueError(f"{name} must not be missing, got {array[missing[0]]!r} at position "
                         f"{missing[0]} ({len(missing)} in all); {MISSING_CURE}")
    dated = [isinstance(each, (date, np.datetime64)) for each in array]
    if not any(dated):
        for row, each in enumerate(array):
            if isinstance(each, str) and not _NUMBER.fullmatch(each):
                raise TypeError(f"{name} must be numbers, or dates and times, got {each!r} in row "
                                f"{row}{ISO_CURE}")
        whole, fits = as_int64(array)
        return (whole if fits.all() else validation.vector(name, array)), False
    if not all(dated):
        raise TypeError(f"{name} must be numbers, or dates and times, and not both, got "
                        f"{array[dated.index(False)]!r} and {array[dated.index(True)]!r}")
    aware = [isinstance(each, datetime) and each.tzinfo is not None for each in array]
    if any(aware) and not all(aware):
        raise TypeError(f"{name} must all have a time zone, or none of them, got "
                        f"{array[aware.index(True)]!r} and {array[aware.index(False)]!r}: {_ZONES}")
    naive = [each.astimezone(timezone.utc).replace(tzinfo=None) for each in array] \
        if any(aware) else array
    exact = [each.to_datetime64() if hasattr(each, "to_datetime64") else np.datetime64(each)
             for each in naive]                     # (a Timestamp of pandas has nanoseconds)
    kinds = {each.dtype for each in exact}
    if len(kinds) > 1:
        unit = np.datetime_data(np.result_type(*kinds))[0]
        exact = [_in_unit(name, np.array([each]), unit)[0] for each in exact]
    return np.array(exact), any(aware)


def _described(times: Times) -> str:
    if times.unit is None:
        return "numbers"
    return f"dates and times {'with' if times.aware else 'without'} a time zone"


# ------------------------------------------------------------------- what is made of them

def times_of(ratings: Any, given: Any = None, name: str = "timestamps") -> Times:
    """Return the times that are given for some Ratings, else their own; ValueError for neither."""
    if given is not None:
        return Times.of(name, given, ratings.nnz)
    found: Times | None = ratings.moments
    if found is None:
        raise ValueError(NO_TIMES)
    return found


def counting(ratings: Any) -> Any:
    """Return which cells of Ratings have a weight > 0; all, if none has."""
    weights = ratings.weights
    return slice(None) if weights is None or not weights.any() else weights > 0


def decay(ratings: Any, half_life: Any, now: Any = None) -> np.ndarray:
    """Return w · 2^(−age / half_life) of each cell of Ratings: see `Ratings.decayed`."""
    times, some = times_of(ratings), counting(ratings)
    latest = times.numbers[some].max() if ratings.nnz else -np.inf
    moment = latest if now is None else times.moment("now", now)
    if moment < latest:
        raise ValueError(f"now must not be before the last rating, {times.values[some].max()}, got "
                         f"{now!r}")
    ages = np.maximum(moment - times.numbers, 0)            # (without weight it may come later)
    shares = np.exp2(-ages / times.span("half_life", half_life))
    weights: np.ndarray = shares if ratings.weights is None else shares * ratings.weights
    return weights.astype(np.float32)
