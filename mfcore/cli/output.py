"""Write the answer of a command: text for people, JSON for programs.

Only this module writes to standard output; complaints and progress bars go to standard error.
Ids, titles and file names may hold anything: what moves the cursor, clears the screen or reverses
a line is written as an escape.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from textwrap import indent
from typing import Any, NamedTuple, TextIO
from unicodedata import bidirectional, category

import numpy as np

NOTHING = "–"
# Classes of signs that turn the direction of writing, and may show a text in another order.
TURNING = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


class Answer(NamedTuple):
    """The result of a command: `data` for --json, `text` for people."""

    data: dict[str, Any]
    text: str


class Listing(NamedTuple):
    """An answer of any length, written entry by entry, so that it is never in memory as a whole.

    title : its name in JSON
    entries : the data and the text of each; the first is made before anything is written
    """

    title: str
    entries: Iterator[tuple[dict[str, Any], str]]


def write(answer: Answer | Listing, as_json: bool) -> None:
    """Write an answer to standard output; characters that its encoding lacks become "?"."""
    stream = sys.stdout
    for piece in _pieces(answer, as_json):
        _put(stream, piece)
    _put(stream, "\n")
    stream.flush()


def complain(text: str) -> None:
    """Write one line to standard error."""
    _put(sys.stderr, f"mfcore: {' '.join(text.split())}\n")
    sys.stderr.flush()


def _pieces(answer: Answer | Listing, as_json: bool) -> Iterator[str]:
    """Yield an answer in pieces."""
    if isinstance(answer, Answer):
        yield _json(answer.data) if as_json else answer.text
        return
    first = True
    for data, text in answer.entries:
        if not as_json:
            yield text if first else f"\n\n{text}"
        else:
            yield f'{{\n  "{answer.title}": [\n' if first else ",\n"
            yield indent(_json(data), "    ")
        first = False
    if as_json:
        yield _json({answer.title: []}) if first else "\n  ]\n}"


def _json(data: dict[str, Any]) -> str:
    return json.dumps(plain(data), indent=2, allow_nan=False)


def _put(stream: TextIO, text: str) -> None:
    encoding = stream.encoding or "utf-8"
    safe = "\n".join(map(shown, text.split("\n")))
    stream.write(safe.encode(encoding, "replace").decode(encoding))


def shown(value: Any) -> str:
    """Return a value as text on one line, with escapes for what a terminal would act upon.

    Escaped are control characters, ends of lines, and what turns the direction of writing.
    """
    text = str(value)
    if text.isprintable():
        return text
    return "".join(ascii(sign)[1:-1] if _is_acted_upon(sign) else sign for sign in text)


def _is_acted_upon(sign: str) -> bool:
    return category(sign) in ("Cc", "Zl", "Zp") or bidirectional(sign) in TURNING


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
    rows = [[shown(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(cell.ljust(width) if column in left else cell.rjust(width)
                         for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
                         ).rstrip()

    return "\n".join([line(head), "  ".join("-" * width for width in widths), *map(line, rows)])
