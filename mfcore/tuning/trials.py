"""What a search tries, and what it returns."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from mfcore.metrics.measure import Values
from mfcore.tuning.costs import Rung


class Tuned(NamedTuple):
    """The model that was found, fitted, and a line per fit of the search."""

    model: Any
    table: Any


@dataclass
class Trial:
    """A setting, its point in the space (None: as given), and how far it has come."""

    number: int
    params: dict[str, Any]
    point: np.ndarray | None = None
    score: float = -math.inf            # larger is better
    rung: Rung = Rung()
    epochs: int = 0
    values: dict[Rung, Values | float] = field(default_factory=dict)       # of users, by rung


def framed(lines: list[dict[str, Any]]) -> Any:
    """Return lines as a pandas DataFrame, where pandas is installed; None and integers stay."""
    try:
        import pandas as pd
    except ImportError:
        return lines
    columns = {name: [line[name] for line in lines] for name in lines[0]}
    return pd.DataFrame({name: pd.Series(column, dtype=object if any(
        value is None for value in column) else None) for name, column in columns.items()})
