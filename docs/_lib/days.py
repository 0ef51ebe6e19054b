"""The directive {days}: the figure and the table of benchmarks/thirty_days.py."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from benchmarks.harness import RESULTS
from benchmarks.page import by_day
from benchmarks.tables import thirty_days


class Days(SphinxDirective):
    """How good lists are for the next day, and what a day costs, out of the result file."""

    def run(self) -> list[nodes.Node]:
        """Return plots and a table."""
        for path in RESULTS.glob("thirty_days_*.json"):
            self.env.note_dependency(str(path))
        plots = "".join(by_day(RESULTS))
        text = f"<div class='days'>{plots}</div>{thirty_days(RESULTS).html()}"
        return [nodes.raw("", text, format="html")]


def setup(app: Any) -> dict[str, Any]:
    """Add the directive."""
    app.add_directive("days", Days)
    return {"version": "1", "parallel_read_safe": True}
