"""Progress bars, and nothing at all where none is asked for.

Even for a bar that is disabled, tqdm starts a thread and takes a lock that forked processes share.
A child that is forked or killed while it is held stops whoever wants it next.  So work that shows
no bar uses nothing of tqdm.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import IO, Any


class _Hidden:
    """What a bar of tqdm offers, without the bar."""

    def __init__(self, total: float | None) -> None:
        self.n, self.total = 0.0, total

    def __enter__(self) -> _Hidden:
        return self

    def __exit__(self, *_: object) -> None:
        """End."""

    def update(self, n: float = 1) -> None:
        self.n += n

    def ignore(self, *_: object) -> None:
        """Show nothing."""

    set_postfix = set_postfix_str = close = ignore


def is_shown(verbose: bool | int | None) -> bool:
    """Return whether to show bars: None means where somebody looks, at a terminal or a notebook."""
    return _is_watched() if verbose is None else bool(verbose)


def _is_watched() -> bool:
    stream = sys.stderr
    if stream is not None and not getattr(stream, "closed", False) and stream.isatty():
        return True
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


def progress_bar(shown: bool, *, total: float | None, **labels: Any) -> Any:
    """Return a bar of tqdm, or what stands for it if it is not shown.

    `total` is how much there is to do, None if unknown; `labels` are further arguments of tqdm.
    """
    if not shown:
        return _Hidden(total)
    from tqdm import tqdm

    return tqdm(total=total, **labels)


def watched(shown: bool, stream: IO[bytes], **labels: Any) -> Any:
    """Return the context of a stream whose `read` moves a bar of tqdm, if one is shown."""
    if not shown:
        return nullcontext(stream)
    from tqdm import tqdm

    return tqdm.wrapattr(stream, "read", **labels)
