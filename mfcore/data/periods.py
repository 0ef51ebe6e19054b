"""Periods: time cut into numbered pieces, of equal numbers of ratings or of equal length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mfcore import validation
from mfcore.data.times import UNITS, Times, seconds_of

MOST = 100_000                  # periods of equal numbers of ratings
LENGTHS = 2**31                 # periods of a stated length: row · count + period fits 64 bits


@dataclass(frozen=True)
class Periods:
    """The periods of some ratings.

    Parameters
    ----------
    kind : [unit, aware]
        Of the moments: see `Times`.
    edges : list of numbers
        The first moment of each period but the first; the first and the last are open.
    width : number, or None
        Of all periods, which then begin at multiples of it; `edges` is empty.
    first : int
        Number of the first multiple.
    count : int
        Number of periods.
    """

    kind: list[Any]
    edges: list[float]
    width: float | None
    first: int
    count: int

    @classmethod
    def cut(cls, given: int | str, times: Times, some: Any = slice(None)) -> Periods:
        """Return periods of equal numbers of ratings, of `some` of them, or of a stated length.

        given : number of periods (fewer where many ratings share a moment), or a length such as
            "1D", whose periods begin at multiples of it since 1970, in UTC: days at midnight
        """
        numbers = times.numbers
        if isinstance(given, str):
            width = times.span("periods", given)
            first, last = (int(edge // width) for edge in (numbers.min(), numbers.max()))
            if last - first >= LENGTHS:
                raise ValueError(f"periods of {given!r} would be {last - first + 1:,} between the "
                                 f"first rating and the last, and may be {LENGTHS:,} at most")
            return cls(times.kind, [], width, first, last - first + 1)
        numbers = numbers[some]
        ranks = np.arange(1, given) * len(numbers) // given
        edges = np.unique(np.partition(numbers, ranks)[ranks]) if given > 1 else numbers[:0]
        edges = edges[edges > numbers.min()]
        return cls(times.kind, edges.tolist(), None, 0, len(edges) + 1)

    def check(self) -> None:
        """Raise TypeError or ValueError for what no cut leaves."""
        unit, aware = self.kind
        if unit is not None:
            validation.choice("unit", unit, tuple(UNITS))
        validation.boolean("zone", aware)
        validation.integer("first", self.first, low=-2**63)
        validation.integer("count", self.count, low=1)
        edges = validation.finite("edges", validation.vector("edges", self.edges))
        if self.width is not None:
            validation.real("width", self.width, low=0, above=0)
        if (np.diff(edges) <= 0).any() or len(edges) != (self.width is None) * (self.count - 1):
            raise ValueError(f"edges must ascend, one less than there are periods, {self.count}, "
                             f"and none where these have a width")

    @property
    def times(self) -> Times:
        """Moments at which periods begin, which tell the unit and zone of the fit."""
        known = [] if self.kind[0] is not None else self.edges if self.width is None else \
            [self.first * self.width]
        return Times.stated(np.array(known, None if known else np.int64), self.kind)

    def of(self, numbers: np.ndarray) -> np.ndarray:
        """Return the period of each moment, a number of the unit of the fit; -1 for none.

        Only periods of a stated length have an end.
        """
        if self.width is None:
            places: np.ndarray = np.searchsorted(np.asarray(self.edges), numbers, side="right")
            return places
        found = np.floor_divide(numbers, self.width) - float(self.first)
        return np.where((found >= 0) & (found < self.count), found, -1).astype(np.int64)


def check_periods(name: str, given: Any) -> None:
    """Raise for what cuts no time: TypeError for another type, ValueError out of range."""
    if isinstance(given, str):
        seconds_of(name, given)
    else:
        validation.integer(name, given, low=1, high=MOST)


def moments_of(times: Times, given: Any, size: int) -> np.ndarray:
    """Return moments that are asked about as numbers of the unit of `times`; one is for all."""
    if isinstance(given, str) or (np.ndim(given) == 0 and not isinstance(given, Times)):
        one = given[()] if isinstance(given, np.ndarray) else given
        return np.full(size, times.moment("times", one))
    return times.numbers_of("times", given, size)
