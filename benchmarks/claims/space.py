"""Search spaces, written as data: a range or a choice for each setting, else a fixed value.

`always` marks settings without which an arm would be another one; the rest are left to the
library's defaults in one trial.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

Space = dict[str, Any]
END = 0.05                     # share of a range that is its end


@dataclass(frozen=True)
class Between:
    """A number of a range, its logarithm uniform unless `log` is False."""

    low: float
    high: float
    log: bool = True
    always: bool = False

    def draw(self, random: np.random.Generator) -> float:
        """Return a number of the range, to four digits."""
        if self.log:
            found = np.exp(random.uniform(np.log(self.low), np.log(self.high)))
        else:
            found = random.uniform(self.low, self.high)
        return float(f"{found:.4g}")

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{', log' if self.log else ''}"


@dataclass(frozen=True)
class OneOf:
    """One of several values, all equally likely."""

    values: tuple[Any, ...]
    always: bool = False

    def draw(self, random: np.random.Generator) -> Any:
        """Return one of the values."""
        return self.values[random.integers(len(self.values))]

    def __str__(self) -> str:
        return " | ".join(map(str, self.values))


def end_of(each: Any, value: Any) -> str:
    """Return "lowest" or "highest" where a value lies at that end of its space, else "".

    None, a setting left to its default, lies at no end.  The ends of a range are a twentieth of it
    wide; nothing lies beyond 0.  Of two numbers the larger is an end.  One value, and a choice of
    other things than numbers, has none.
    """
    if value is None:
        return ""
    if isinstance(each, Between):
        low, high, value = map(math.log if each.log else float, (each.low, each.high, value))
        place = (value - low) / (high - low)
        return "lowest" if place < END and each.low > 0 else "highest" if place > 1 - END else ""
    if not isinstance(each, OneOf) or len(each.values) == 1 or not all(
            type(one) in (int, float) for one in each.values):
        return ""
    if value == max(each.values):
        return "highest"
    return "lowest" if value == min(each.values) != 0 and len(each.values) > 2 else ""


def one_of(*values: Any, always: bool = False) -> OneOf:
    """Return the choice among values."""
    return OneOf(values, always)


def drawn(space: Space, random: np.random.Generator) -> dict[str, Any]:
    """Return settings: what is drawn, and what is fixed."""
    return {name: each.draw(random) if hasattr(each, "draw") else each
            for name, each in space.items()}


def by_default(space: Space, random: np.random.Generator) -> dict[str, Any]:
    """Return what is fixed, and of what is drawn the settings that make the arm."""
    return drawn({name: each for name, each in space.items()
                  if not hasattr(each, "draw") or getattr(each, "always", False)}, random)


def is_free(space: Space) -> bool:
    """Whether there is anything to choose."""
    return any(hasattr(each, "draw") for each in space.values())


def written(space: Space) -> dict[str, str]:
    """Return a space as text."""
    return {name: str(each) for name, each in space.items()}
