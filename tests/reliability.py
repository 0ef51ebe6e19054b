"""Figures of `pytest -m soak`, kept for the README: what was tried, and the test that tried it."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "reliability.json"


def record(what: str, count: int, test: str, **more: int) -> None:
    """Put one figure into the results, in place of the one that was there."""
    found = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {"rows": {}}
    found["rows"][what] = {"count": count, "test": test, **more}
    found["versions"] = {"python": platform.python_version(),
                         **{name: version(name) for name in ("numpy", "scipy", "numba")}}
    RESULTS.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")
