"""The directive {shown}: code out of the installed library, never a copy of it.

    ```{shown} mfcore.solvers.als.solve_exactly
    ```

shows the text of the object that the pages import.  With :head: it shows the derivation at the
head of a module instead; a kernel is shown as the function that was compiled.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.directives.code import container_wrapper
from sphinx.util.docutils import SphinxDirective

import mfcore

ROOT = Path(mfcore.__file__).parents[1]


def found(name: str) -> Any:
    """Return the object of a dotted name; raise ImportError or AttributeError without one."""
    parts = name.split(".")
    for stop in range(len(parts), 0, -1):
        try:
            value = import_module(".".join(parts[:stop]))
        except ModuleNotFoundError:
            continue
        for part in parts[stop:]:
            value = getattr(value, part)
        return value
    raise ImportError(f"no module of {name}")


def text_of(name: str, head: bool = False) -> tuple[str, str]:
    """Return what to show of a name, and where in the library it stands."""
    value = found(name)
    value = inspect.unwrap(getattr(value, "fget", None) or getattr(value, "py_func", value))
    path = Path(inspect.getsourcefile(value) or "").relative_to(ROOT).as_posix()
    if head:
        return inspect.getdoc(value) or "", path
    lines, start = inspect.getsourcelines(value)
    return inspect.cleandoc("\n" + "".join(lines)), f"{path}, line {start}"


class Shown(SphinxDirective):
    """Show the source of a name, with its file as caption."""

    required_arguments = 1
    option_spec = {"head": directives.flag}

    def run(self) -> list[nodes.Node]:
        """Return a block of code."""
        head = "head" in self.options
        text, place = text_of(self.arguments[0], head)
        block = nodes.literal_block(text, text, language="text" if head else "python")
        self.set_source_info(block)
        return [container_wrapper(self, block, place)]


def setup(app: Any) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("shown", Shown)
    return {"parallel_read_safe": True}
