"""Write a file or folder whole or not at all, and remove what killed writers left behind.

It is written next to its target under a hidden name, and takes the target's name at the end.
Meanwhile its writer holds a lock on it, which the system drops when the writer ends, however
it ends.  So a hidden piece whose lock is free is abandoned, and the next write to the same
folder removes it, but never one that another process or thread is still writing.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from mfcore import validation

try:
    import fcntl
except ImportError:                       # a system without such locks: nothing is removed
    fcntl = None                          # type: ignore[assignment]

PREFIX, SUFFIX = ".mfcore-", ".part"


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a new file that replaces `path` at the end, or is removed on error."""
    target = Path(os.path.realpath(validation.path("path", path)))
    if target.is_dir():
        raise IsADirectoryError(f"cannot write a model to {path}: it is a folder")
    _check_parent(path, target)
    with _part(target.parent, lambda part: part.touch(exist_ok=False)) as part:
        with part.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if target.exists():
            shutil.copymode(target, part)
        os.replace(part, target)


@contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Make a folder to fill that takes the name `path` at the end, or is removed on error."""
    target = absent(path)
    with _part(target.parent, Path.mkdir) as part:
        yield part
        place_folder(part, target)


def absent(folder: str | os.PathLike[str]) -> Path:
    """Return the absolute path of a folder that can be made; raise if it exists or cannot be."""
    target = Path(os.path.abspath(validation.path("folder", folder)))
    if target.exists():
        raise FileExistsError(f"{folder} exists; name a new folder, or remove it first")
    _check_parent(folder, target)
    return target


def place_folder(part: Path, target: Path) -> None:
    """Give a folder its final name, once all its files are on disk."""
    for file in part.iterdir():
        with file.open("r+b") as stream:
            os.fsync(stream.fileno())
    os.replace(part, target)


def _check_parent(path: str | os.PathLike[str], target: Path) -> None:
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {target.parent}")


@contextmanager
def _part(folder: Path, make: Callable[[Path], Any]) -> Iterator[Path]:
    """Make a hidden piece and hold its lock; remove it if it still has its name at the end.

    Removes abandoned pieces in the same folder first.
    """
    for other in folder.glob(f"{PREFIX}*{SUFFIX}"):
        with suppress(OSError), _locked(other, wait=False) as is_free:     # (gone meanwhile)
            if is_free:
                _remove(other)
    with ExitStack() as held:
        part = _made(folder, make, held)
        try:
            yield part
        finally:
            _remove(part)


def _made(folder: Path, make: Callable[[Path], Any], held: ExitStack) -> Path:
    while True:
        part = folder / f"{PREFIX}{secrets.token_hex(8)}{SUFFIX}"
        make(part)
        with suppress(FileNotFoundError):      # taken for abandoned before it was locked
            held.enter_context(_locked(part, wait=True))
            if part.exists():
                return part


def _remove(part: Path) -> None:
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    else:
        part.unlink(missing_ok=True)


@contextmanager
def _locked(part: Path, wait: bool) -> Iterator[bool]:
    """Hold the lock of a file or folder; yield whether it could be had."""
    if fcntl is None:
        yield False
        return
    opened, is_ours = os.open(part, os.O_RDONLY), False
    try:
        with suppress(OSError):                # held by its writer, or a system without locks
            fcntl.flock(opened, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            is_ours = True
        yield is_ours
    finally:
        os.close(opened)
