"""Whether a search was cut off: settings at the end of their space, where that end pays.

An arm presses against an end where, in more than a third of its folds, the setting chosen lies at
that end and every trial away from it is worse by more than the smallest effect of interest: what
lies beyond might be better still.  Such an end opens a verdict that it could turn: the loser's, or
either one's where neither lost.

(By how much an end pays says little of what lies beyond: the defaults of a network, outside a space
that ended at eight factors and four epochs, beat both arms that were chosen within it.)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.claims.space import Space, end_of

SHARE = 1 / 3


def pressed(space: Space, folds: Sequence[tuple[list[dict[str, Any]], Mapping[str, Any]]],
            least: float, lower: bool) -> list[str]:
    """Return the ends that an arm presses against, such as "n_epochs highest".

    folds : for each fold, the settings tried, and what the result holds of them
    """
    counts = Counter(name for tried, cell in folds
                     for name in paying(space, tried, cell, least, lower))
    return sorted(name for name, n in counts.items() if n > SHARE * len(folds))


def paying(space: Space, tried: list[dict[str, Any]], cell: Mapping[str, Any], least: float,
           lower: bool) -> Iterator[str]:
    """Yield the ends that one fold chose and that pay (older results lack the last trial)."""
    losses = [math.inf if value is None else value if lower else -value
              for value in cell["trials"]]
    for name, each in space.items():
        end = end_of(each, cell["settings"].get(name))
        if end:
            inside = [loss for loss, settings in zip(losses, tried[:len(losses)], strict=True)
                      if end_of(each, settings.get(name)) != end]
            if min(inside, default=math.inf) - min(losses) > least:
                yield f"{name} {end}"


def opened(verdict: str, first: list[str], second: list[str]) -> list[str]:
    """Return the ends that could turn a verdict about two arms."""
    return second if verdict == "shown" else first if verdict == "refuted" else \
        sorted({*first, *second})
