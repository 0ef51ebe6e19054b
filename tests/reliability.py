"""Figures for docs/guarantees.md: what `pytest -m soak` tried, and scores of mutation testing.

    python tests/reliability.py

puts those on file into the tables of the page.
"""

from __future__ import annotations

import json
import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "reliability.json"
PAGE = RESULTS.parents[2] / "docs" / "guarantees.md"
MUTATION = RESULTS.with_name("mutation.json")       # what `tests/mutation.py --record` keeps


def record(what: str, count: int, test: str, **more: int) -> None:
    """Put one figure into the results, in place of the one that was there."""
    found = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {"rows": {}}
    found["rows"][what] = {"count": count, "test": test, **more}
    found["versions"] = {"python": platform.python_version(),
                         **{name: version(name) for name in ("numpy", "scipy", "numba")}}
    RESULTS.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")


def tried_row(what: str, found: dict[str, Any]) -> str:
    """Return what was tried without anything lost as a row of the page's table."""
    return f"| {what} | {found['count']:,} | `{found['test']}` |"


def mutation_row(part: str, found: dict[str, Any]) -> str:
    """Return the score of a part of the library as a row of the page's table."""
    following = found.get("next")
    return (f"| `{part}` | {found['mutants']:,} | {found['tried']} | {found['equivalent']} | "
            f"{_noticed(found)} | {_noticed(following) if following else '–'} |")


def _noticed(found: dict[str, Any]) -> str:
    return (f"{found['killed']} of {found['tried'] - found['equivalent']}: {found['share']:.1%} "
            f"({found['low']:.1%} to {found['high']:.1%})")


def main() -> None:
    """Write the rows of both tables of the page anew."""
    page = PAGE.read_text("utf-8")
    tables = {RESULTS: [tried_row(*each) for each in _read(RESULTS)["rows"].items()],
              MUTATION: [mutation_row(*each) for each in _read(MUTATION).items()]}
    for path, rows in tables.items():
        page = re.sub(rf"(<!-- figures: \S*{path.name} -->.*?\n\|(?:-+\|)+\n).*?(<!-- end)",
                      lambda found, rows=rows: found[1] + "\n".join([*rows, found[2]]), page,
                      flags=re.DOTALL)
    PAGE.write_text(page, "utf-8")


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8"))


if __name__ == "__main__":
    main()
