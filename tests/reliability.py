"""Figures of `pytest -m soak` for docs/guarantees.md: what was tried, and by which test."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "reliability.json"
MUTATION = RESULTS.with_name("mutation.json")       # what `tests/mutation.py --record` keeps


def record(what: str, count: int, test: str, **more: int) -> None:
    """Put one figure into the results, in place of the one that was there."""
    found = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {"rows": {}}
    found["rows"][what] = {"count": count, "test": test, **more}
    found["versions"] = {"python": platform.python_version(),
                         **{name: version(name) for name in ("numpy", "scipy", "numba")}}
    RESULTS.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")


def mutation_row(part: str, found: dict[str, float]) -> str:
    """Return the score of a part of the library as a row of the page's table."""
    return (f"| `{part}` | {found['mutants']:,} | {found['tried']} | {found['equivalent']} | "
            f"{found['killed']} | {found['share']:.1%} | {found['low']:.1%} to "
            f"{found['high']:.1%} |")
