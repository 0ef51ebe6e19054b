"""Search spaces, written as data: a range or a choice for each setting, else a fixed value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Space = dict[str, Any]


@dataclass(frozen=True)
class Between:
    """A number of a range, its logarithm uniform unless `log` is False."""

    low: float
    high: float
    log: bool = True

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

    def draw(self, random: np.random.Generator) -> Any:
        """Return one of the values."""
        return self.values[random.integers(len(self.values))]

    def __str__(self) -> str:
        return " | ".join(map(str, self.values))


def one_of(*values: Any) -> OneOf:
    """Return the choice among values."""
    return OneOf(values)


def drawn(space: Space, random: np.random.Generator) -> dict[str, Any]:
    """Return settings: what is drawn, and what is fixed."""
    return {name: each.draw(random) if hasattr(each, "draw") else each
            for name, each in space.items()}


def is_free(space: Space) -> bool:
    """Whether there is anything to choose."""
    return any(hasattr(each, "draw") for each in space.values())


def written(space: Space) -> dict[str, str]:
    """Return a space as text."""
    return {name: str(each) for name, each in space.items()}
