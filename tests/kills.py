"""A process that dies at a chosen file operation, as `kill -9` leaves it there.

    points = points_of(work, folder)                    # what `work` does to files, in order
    for number in range(len(points)):
        assert dies_at(number, work, folder)            # before that operation
        ...                                             # and whoever comes next finds this

`work` runs in forks of this process, which need not compile or import anything.  A point is an
audit event of Python: a file opened for writing, a rename, a removal, a truncation, a folder made.
So a kill before one operation is a kill after the one before it, with all that was written
meanwhile.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Point(NamedTuple):
    """One file operation: the stage that did it, which it was, the name of the file."""

    stage: str
    event: str
    name: str


def points_of(work: Callable[[], Any], folder: Path, stages: tuple[str, ...] = ()) -> list[Point]:
    """Return the points of `work` in a folder, each with its stage.

    A stage is the outermost of the functions `stages` that is running, or "".
    """
    told, tell = os.pipe()
    found: list[Point] = []

    def note(event: str, path: str) -> None:
        found.append(Point(_stage(stages), event, os.path.basename(path)))

    def all_of_it() -> None:
        _watch(folder, note)
        work()
        with os.fdopen(tell, "w") as stream:
            stream.write(json.dumps(found))

    child = _fork(all_of_it)
    os.close(tell)
    with os.fdopen(told) as stream:
        text = stream.read()
    os.waitpid(child, 0)
    return [Point(*each) for each in json.loads(text)]


def dies_at(number: int, work: Callable[[], Any], folder: Path) -> bool:
    """Kill `work` before its operation `number`, from 0; return whether it came that far."""
    left = [number]

    def count(*_: str) -> None:
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1

    def until_then() -> None:
        _watch(folder, count)
        work()

    return os.WIFSIGNALED(os.waitpid(_fork(until_then), 0)[1])


def dies(work: Callable[[], Any]) -> bool:
    """Run `work` in a fork; return whether it was killed (it may do that itself)."""
    return os.WIFSIGNALED(os.waitpid(_fork(work), 0)[1])


def die() -> None:
    """Kill this process."""
    os.kill(os.getpid(), signal.SIGKILL)


def _fork(work: Callable[[], Any]) -> int:
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            work()
        os._exit(0)
    return child


def _watch(folder: Path, told: Callable[[str, str], None]) -> None:
    """Tell of every change in a folder, from now on, before it is made."""
    inside = os.path.realpath(folder)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in CHANGES or (event == "open" and arguments[2] & WRITES):
            path, by_number = arguments[0], arguments[-1]
            if not isinstance(path, (str, os.PathLike)):
                return
            relative = event in ("os.remove", "os.rmdir") and by_number != -1
            if relative or os.path.realpath(path).startswith(inside):
                told(event, os.fspath(path))

    sys.addaudithook(hook)


def _stage(stages: tuple[str, ...]) -> str:
    """Return the outermost of some functions that are running, or ""."""
    found, frame = "", sys._getframe()
    while frame is not None and frame.f_code is not _fork.__code__:
        found = frame.f_code.co_name if frame.f_code.co_name in stages else found
        frame = frame.f_back
    return found
