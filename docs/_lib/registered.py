"""The directives {abilities}, {models}, {metrics}, {spaces}, {epochs}: what is said in tables.

    ```{abilities}
    ```

is a table of what each model can do, {models} one of their pages, {metrics} the metrics with their
formulas and sources, {spaces} a table of where `tune` looks, and {epochs} one of what the budgets
of networks came to, out of its result file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.epochs import epochs
from mfcore.metrics.table import METRICS
from mfcore.models.registry import ABILITIES, MODELS
from mfcore.tuning.spaces import SPACES, described

LACKS = {"no": "–"}
HEAD = ("model", "`--model`", "what it learns", "`predict` returns", *ABILITIES.values())


def rows() -> list[list[str]]:
    """Return a row of cells for each model."""
    return [[f"`{entry.name}`", f"`{entry.command}`", entry.summary, entry.predicts,
             *(LACKS.get(answer, answer) for answer in map(entry.answer, ABILITIES))]
            for entry in MODELS.values()]


def abilities() -> str:
    """Return the table of abilities as Markdown."""
    lines: list[Sequence[str]] = [HEAD, ["---"] * len(HEAD), *rows()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def models() -> str:
    """Return a table of the models, with links to their pages."""
    return "\n".join(["| model | what it learns |", "|---|---|", *(
        f"| [`{name}`](reference/{name}.md) | {each.summary} |" for name, each in MODELS.items())])


READS = {"ratings": "predicted ratings", "ranks": "the first k places", "scores": "all scores",
         "lists": "the list of each user", "catalogue": "all lists"}


def metrics() -> str:
    """Return the table of metrics as Markdown."""
    lines = [["metric", "formula", "reads", "better", "needs", "source"], ["---"] * 6]
    for kind in METRICS.values():
        formula = kind.formula.replace("|", "\\|").replace("_", "\\_")
        lines.append([f"`{kind.name}`", formula, READS[kind.reads], kind.better or "–",
                      ", ".join(kind.needs) or "–", kind.source or "–"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spaces() -> str:
    """Return the default spaces of `tune` as Markdown."""
    lines = ["| model | space |", "|---|---|"]
    for name, space in SPACES.items():
        listed = ", ".join(f"`{parameter}` {described(each)}" for parameter, each in space.items())
        lines.append(f"| `{name}` | {listed} |")
    return "\n".join(lines)


def setup(app: Any) -> dict[str, bool]:
    """Register the directives."""
    for text in (abilities, models, metrics, spaces, epochs):
        app.add_directive(text.__name__, _directive(text))
    return {"parallel_read_safe": True}


def _directive(text: Callable[[], str]) -> Any:
    """Return a directive that reads a text as if it stood on the page."""
    from docutils import nodes
    from docutils.statemachine import StringList
    from sphinx.util.docutils import SphinxDirective

    from mfcore.models import registry

    class Registered(SphinxDirective):
        def run(self) -> list[nodes.Node]:
            self.env.note_dependency(registry.__file__)
            box = nodes.container()
            self.state.nested_parse(StringList(text().splitlines(), registry.__file__),
                                    self.content_offset, box)
            return box.children

    return Registered
