"""Progress bars, and nothing at all where none is asked for.

Even for a bar that is disabled, tqdm starts a thread and takes a lock that forked processes share.
A child that is forked or killed while it is held stops whoever wants it next.  So work that shows
no bar uses nothing of tqdm.
"""

from __future__ import annotations

import operator
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import IO, Any

DELAY = 0.5             # seconds before a bar shows that nobody has asked for
_HUSHED: ContextVar[bool] = ContextVar("mfcore_hushed", default=False)


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
    """Return whether to show bars: None means where somebody looks, at a terminal or a notebook.

    Within other work that hides or shows a bar of its own, None shows none: see `alone`.
    """
    return bool(verbose) if verbose is not None else \
        not _HUSHED.get() and (_is_notebook() or _is_terminal())


@contextmanager
def alone() -> Iterator[None]:
    """Hide bars that nobody has asked for, of work inside other work."""
    token = _HUSHED.set(True)
    try:
        yield
    finally:
        _HUSHED.reset(token)


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):            # there is none, or it is closed
        return False


def _is_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return "IPKernelApp" in getattr(shell, "config", ())


def progress_bar(verbose: bool | int | None, *, total: float | None, **labels: Any) -> Any:
    """Return a bar of tqdm, or what stands for it if it is not shown.

    Parameters
    ----------
    verbose : bool, int or None
        None shows a bar where somebody looks, once the work has taken half a second.
    total : float or None
        How much there is to do, None if unknown.
    **labels
        Further arguments of tqdm.
    """
    if not is_shown(verbose):
        return _Hidden(total)
    return _kind(verbose)(total=total, **labels)


@contextmanager
def only_bar(desc: str, parts: Any, unit: str = "fold") -> Iterator[Any]:
    """Show one bar for work in parts, and none for a part: nobody has asked for either.

    parts : int, or those to come, whose number may be unknown
    """
    total = parts if isinstance(parts, int) else operator.length_hint(parts) or None
    with progress_bar(None, total=total, desc=desc, unit=unit) as bar, alone():
        yield bar


def watched(verbose: bool | int | None, stream: IO[bytes], **labels: Any) -> Any:
    """Return the context of a stream whose `read` moves a bar of tqdm, if one is shown."""
    if not is_shown(verbose):
        return nullcontext(stream)
    return _kind(verbose).wrapattr(stream, "read", **labels)


def _kind(verbose: Any) -> Any:
    """Return the class of a bar; of one that nobody has asked for, one that waits a while."""
    kind = _tqdm()
    if verbose is not None:
        return kind

    class Patient(kind):                            # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **labels: Any) -> None:
            self.begins = time.monotonic() + DELAY
            super().__init__(*args, delay=DELAY, **labels)

        def refresh(self, *args: Any, **options: Any) -> Any:
            """Show the bar, also where only its text has changed, but not before its time."""
            return super().refresh(*args, **options) if time.monotonic() >= self.begins else None

    return Patient


def _tqdm() -> Any:
    """Return the bar of a notebook, if it can show one, or that of a terminal."""
    if not _is_notebook():
        from tqdm import tqdm

        return tqdm
    with warnings.catch_warnings():                 # (it says that ipywidgets are not installed)
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm as either
    return either
