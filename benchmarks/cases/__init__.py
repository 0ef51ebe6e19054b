"""The cases, by name, in the order of the report."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.case import Case
from benchmarks.cases import als


def cases(widths: Sequence[int] = (64, 128), widest: int = 256) -> dict[str, Case]:
    """Return all cases, with so many factors; one that has one width has the first."""
    return {case.name: case for module in (als,) for case in module.cases(widths, widest)}


CASES = cases()
