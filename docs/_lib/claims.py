"""The claims study in the guide: the directive {claim}, and the page of all claims.

A {claim} is a sentence, a figure of what decides, and a link to the page, which is the study's
report, put in the place of a line that says {study}.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from benchmarks.claims import report
from benchmarks.claims.report import interval
from benchmarks.claims.study import RESULTS

PAGE, STUDY = "results/claims", "```{study}\n```\n"


class Claim(SphinxDirective):
    """What the study found on one claim, the figure of what decides, and where the rest is."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return an admonition."""
        name = self.arguments[0]
        path, picture = RESULTS / f"{name}.json", RESULTS / f"{name}_decisive.svg"
        result = json.loads(path.read_text())
        for each in path, picture:
            self.env.note_dependency(str(each))
        up = "../" * self.env.docname.count("/")
        link = nodes.reference("", "All comparisons", internal=True,
                               refuri=f"{up}{PAGE}.html#claim-{name}")
        image = nodes.image(uri=address(picture, self.env.srcdir), alt=said(result))
        return [nodes.admonition(
            "", nodes.title(text=f"Claim: {result['says']}"),
            nodes.paragraph("", f"{result['answer']} ", link, nodes.Text(".")),
            nodes.container("", image, classes=["wide"]), classes=["claim"])]


def address(path: Path, root: Any) -> str:
    """Return where a file is, seen from the guide's folder."""
    return "/" + Path(os.path.relpath(path, root)).as_posix()


def said(result: dict[str, Any]) -> str:
    """Return what the figure shows, for those who do not see it."""
    rows = [row for row in result["comparisons"] if row["decides"]]
    return ("Differences and 95 % intervals of these comparisons; right of 0: in favour of the "
            "sentence. " + "; ".join(f"{row['data']}, {row['says']}: {row['verdict']}, "
                                     f"{interval(row, result)}" for row in rows) + ".")


def study(app: Any, docname: str, source: list[str]) -> None:
    """Put the study's report in the place of its line, a figure in each section."""
    if docname != PAGE:
        return
    text = report.markdown(report.results()).partition("\n")[2]
    text = re.sub(r'<a id="(\w+)"></a>', r"(claim-\1)=", text).replace("](#", "](#claim-")
    for result in report.results():
        picture = address(RESULTS / f"{result['claim']}.svg", app.srcdir)
        text = text.replace(
            f"## {result['says']}\n", f"## {result['says']}\n\n:::{{container}} wide\n"
            f"```{{image}} {picture}\n:alt: Differences and 95 % intervals, which the table below "
            f"lists\n```\n:::\n")
    source[0] = source[0].replace(STUDY, text)


def setup(app: Any) -> dict[str, bool]:
    """Register the directive and the page."""
    app.add_directive("claim", Claim)
    app.connect("source-read", study)
    return {"parallel_read_safe": True}
