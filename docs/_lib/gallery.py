"""The directive {gallery}: notebooks with the first picture of each, their titles and first lines.

    ```{gallery} ratings purchases
    ```

names notebooks in the folder of the page.  Pictures are those that the notebooks draw as they are
executed.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode


class Shelf(nodes.container):
    """A place for cards, filled once every page has been read."""


class Gallery(SphinxDirective):
    """Cards of notebooks."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Return a place for the cards."""
        folder = self.env.docname.rpartition("/")[0]
        shelf = Shelf(classes=["gallery"])
        shelf["pages"] = [f"{folder}/{name}" for name in self.arguments[0].split()]
        return [shelf]


def card(app: Any, here: str, page: str) -> nodes.container:
    """Return the picture, title and first paragraph of a notebook, with a link to it."""
    tree = app.env.get_doctree(page)
    title = next(tree.findall(nodes.title))
    pictures = [picture.deepcopy() for picture in tree.findall(nodes.image)][:1]
    for picture in pictures:                   # none in a notebook that was not run
        picture["alt"] = title.astext()
    link = make_refnode(app.builder, here, page, None, pictures)
    named = make_refnode(app.builder, here, page, None, nodes.strong(text=title.astext()))
    said = nodes.paragraph("", "", named, nodes.Text(
        " " + next(tree.findall(nodes.paragraph)).astext()))
    return nodes.container("", nodes.paragraph("", "", link), said, classes=["card"])


def fill(app: Any, doctree: nodes.document, here: str) -> None:
    """Put cards into their places."""
    for shelf in list(doctree.findall(Shelf)):
        shelf.extend(card(app, here, page) for page in shelf["pages"])
        box = nodes.container("", *shelf.children, classes=["gallery"])
        shelf.replace_self(box)


def setup(app: Any) -> dict[str, bool]:
    """Register the directive."""
    app.add_node(Shelf)
    app.add_directive("gallery", Gallery)
    app.connect("doctree-resolved", fill)
    return {"parallel_read_safe": True}
