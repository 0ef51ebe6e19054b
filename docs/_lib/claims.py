"""The directive {claim}: what the claims study found, out of its result file, and its figure."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from benchmarks.claims.report import interval
from benchmarks.claims.study import RESULTS


class Claim(SphinxDirective):
    """A sentence of the study, its verdicts, effects with their intervals, and figure."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return an admonition."""
        name = self.arguments[0]
        path = RESULTS / f"{name}.json"
        self.env.note_dependency(str(path))
        box = nodes.admonition(classes=["claim"])
        box += nodes.title(text="What the claims study found")
        if not path.exists():
            box += nodes.paragraph(text=f"Not answered yet: python -m benchmarks claims {name} "
                                        f"runs the experiment.")
            return [box]
        result = json.loads(path.read_text())
        box += nodes.paragraph("", "", nodes.emphasis(text=result["says"]))
        if result["found"]:
            box += nodes.paragraph(text=result["found"])
        box += nodes.bullet_list("", *(
            nodes.list_item("", nodes.paragraph(text=sentence(row, result)))
            for row in result["comparisons"] if row["decides"]))
        box += nodes.paragraph(text="Differences of arms tuned in the same way, paired by fold or "
                                    "seed, positive in favour of the sentence; 95 % bootstrap "
                                    f"intervals. python -m benchmarks claims {name} runs it.")
        if path.with_suffix(".svg").exists():
            box += self.figure(path.with_suffix(".svg"), result)
        return [box]

    def figure(self, path: Path, result: dict[str, Any]) -> nodes.container:
        """Return the study's figure, which scrolls by itself where it is wider than the page."""
        self.env.note_dependency(str(path))
        address = "/" + Path(os.path.relpath(path, self.env.srcdir)).as_posix()
        return nodes.container("", nodes.image(uri=address, alt=said(result)), classes=["wide"])


def sentence(row: dict[str, Any], result: dict[str, Any]) -> str:
    """Return one comparison as a line."""
    return f"{row['data']}, {row['says']}: {row['verdict']}, {interval(row, result)}"


def said(result: dict[str, Any]) -> str:
    """Return what the figure shows, for those who do not see it."""
    rows = result["comparisons"]
    kinds = dict.fromkeys(row["verdict"] for row in rows)
    counts = ", ".join(f"{kind} {sum(row['verdict'] == kind for row in rows)}" for kind in kinds)
    return (f"Differences and 95 % intervals of these comparisons ({counts}); right of 0: in "
            f"favour of the sentence. " + "; ".join(sentence(row, result) for row in rows) + ".")


def setup(app: Any) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("claim", Claim)
    return {"parallel_read_safe": True}
