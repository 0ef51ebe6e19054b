"""The cases, by name, in the order of the report."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.case import Case
from benchmarks.cases import als, bpr, ease, neural, reading, serving, sgd, softmax, start

FILES = (als, sgd, bpr, softmax, serving, ease, neural, reading, start)


def cases(widths: Sequence[int] = (64, 128), widest: int = 256) -> dict[str, Case]:
    """Return all cases, for these numbers of factors; one that has one width has the first."""
    return {case.name: case for file in FILES for case in file.cases(widths, widest)}


CASES = cases()
