"""Write the answer of a command: text for people, JSON for programs.

Only this module writes to standard output; complaints and progress bars go to standard error.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TextIO

import numpy as np

NOTHING = "–"


class Answer(NamedTuple):
    """The result of a command: `data` for --json, `text` for people."""

    data: dict[str, Any]
    text: str


def write(answer: Answer, as_json: bool) -> None:
    """Write an answer to standard output; characters that its encoding lacks become "?"."""
    text = json.dumps(plain(answer.data), indent=2, allow_nan=False) if as_json else answer.text
    _put(sys.stdout, text)


def complain(text: str) -> None:
    """Write one line to standard error."""
    _put(sys.stderr, f"mfcore: {' '.join(text.split())}")


def _put(stream: TextIO, text: str) -> None:
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "replace").decode(encoding) + "\n")
    stream.flush()


def progress(values: Iterable[Any], quiet: bool, **labels: Any) -> Iterator[Any]:
    """Iterate over `values` with a bar on standard error, if that is a terminal."""
    if not shows_progress(quiet):
        return iter(values)
    from tqdm import tqdm

    return iter(tqdm(values, leave=False, **labels))


def shows_progress(quiet: bool) -> bool:
    """Whether to show bars: not with --quiet, and only on a terminal."""
    return not quiet and sys.stderr.isatty()


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: no NumPy, null for NaN, text for other ids."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def number(value: float | None, digits: int = 4) -> str:
    """Format a measured value, or a dash where there is none."""
    return NOTHING if value is None or math.isnan(value) else f"{value:.{digits}f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """Align columns: those numbered in `left` to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(cell.ljust(width) if column in left else cell.rjust(width)
                         for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
                         ).rstrip()

    return "\n".join([line(head), "  ".join("-" * width for width in widths), *map(line, rows)])
