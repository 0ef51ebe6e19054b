"""The directive {solution}: text that is folded away, formulas and all."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective


class Solution(SphinxDirective):
    """What an exercise comes to."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the content between the tags of a folded part."""
        inside = nodes.container()
        self.state.nested_parse(self.content, self.content_offset, inside)
        return [nodes.raw("", '<details class="solution"><summary>Solution</summary>',
                          format="html"), inside, nodes.raw("", "</details>", format="html")]


def setup(app: Any) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("solution", Solution)
    return {"parallel_read_safe": True}
