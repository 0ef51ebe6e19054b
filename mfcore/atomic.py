"""Put a file in the place of another, all of it or nothing, and clear away what kills left.

A file is written beside its target under a hidden name, and takes the target's name at the
end.  While it is written, its writer holds a lock on it, which the system drops when the
writer ends, however it ends.  So a hidden file whose lock is free belongs to nobody: the next
write to the folder removes it, and never one that another process or thread still writes.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from mfcore import validation

try:
    import fcntl
except ImportError:                       # a system without such locks: nothing is removed
    fcntl = None                          # type: ignore[assignment]

PREFIX, SUFFIX = ".mfcore-", ".part"


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a file beside `path` that takes its place at the end, or vanishes on error."""
    target = Path(os.path.realpath(validation.path("path", path)))
    if target.is_dir():
        raise IsADirectoryError(f"cannot write a model to {path}: it is a folder")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {target.parent}")
    remove_abandoned(target.parent)
    with _part(target.parent) as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())
        if target.exists():
            shutil.copymode(target, stream.name)
        if fcntl is None:
            stream.close()                # such systems rename no open file
        os.replace(stream.name, target)


@contextmanager
def _part(folder: Path) -> Iterator[IO[bytes]]:
    """Open a new locked file; remove it if it still has its name at the end."""
    while True:
        part = folder / f"{PREFIX}{secrets.token_hex(8)}{SUFFIX}"
        try:
            with open(part, "xb") as stream:
                _lock(stream)
                if part.exists():         # not taken for abandoned before it was locked
                    yield stream
                    return
        finally:                          # (of a closed file: some systems remove no other)
            part.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """Remove the hidden files in a folder whose writers have ended."""
    for part in folder.glob(f"{PREFIX}*{SUFFIX}"):
        with suppress(OSError), open(part, "rb") as stream:     # locked, or gone meanwhile
            if _lock(stream, wait=False):
                part.unlink()


def _lock(stream: IO[bytes], wait: bool = True) -> bool:
    """Hold a file until it is closed; return whether the system can."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        if wait:                          # a file system without locks
            return False
        raise
    return True
