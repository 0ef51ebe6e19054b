"""Write a file or folder whole or not at all, and hold a name while one writes to it.

A file or folder is written next to its target under a hidden name, and takes the target's name
at the end.  Meanwhile its writer holds a lock on it, which the system drops when the writer
ends, however it ends.  So a hidden piece whose lock is free is abandoned, and the next write to
the same folder removes it, but never one that another process or thread is still writing.

What takes several steps under one name (a conversion, a fit with a checkpoint, a download) holds
the lock of that name in the same way: see `owned`.  Locks belong to a process, not to its forks.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import secrets
import shutil
import time
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
# How often, and after how many seconds, a lock that is held is tried again: whoever removes what
# is abandoned holds it for a moment, too.
TRIES, PAUSE = 100, 0.01
UNKNOWN = "another process works on it"
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_HELD: set[int] = set()                   # descriptors of the locks of this process


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a new file that replaces `path` at the end, or is removed on error."""
    target = replaceable(path)
    with named(path), _part(target.parent, lambda part: part.touch(exist_ok=False)) as part:
        with part.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if target.exists():
            shutil.copymode(target, part)
        os.replace(part, replaceable(target))       # (it may have become something else)


@contextmanager
def named(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let the error of a full disk say what could not be written, in the words of the system."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL and error.filename is None:
            error.strerror, error.filename = os.strerror(error.errno), os.fspath(path)
        raise


def name_of(path: Any) -> str:
    """Return how messages name a path or a stream."""
    name = path if isinstance(path, (str, os.PathLike)) else getattr(path, "name", None)
    return str(os.fspath(name)) if isinstance(name, (str, os.PathLike)) else \
        f"the stream ({type(path).__name__})"


def replaceable(path: str | os.PathLike[str]) -> Path:
    """Return the file, links followed, that a write to `path` makes or replaces.

    Raises IsADirectoryError for a folder, FileExistsError for a pipe, socket or device and for
    any name of an open file (`/dev/stdout`), FileNotFoundError where the folder is missing,
    PermissionError where it cannot be written to.
    """
    given = validation.path("path", path)
    kind = validation.kind_of(given)
    if kind == "a folder":
        raise IsADirectoryError(f"cannot write to {path}: it is a folder")
    if kind in (None, "a file"):
        kind = "in a folder of devices" if _leads_to_devices(given) else None
    if kind is not None:
        raise FileExistsError(f"cannot write to {path}: it is {kind}; name a file on a disk")
    target = Path(os.path.realpath(given))
    _check_parent(path, target)
    return target


def _leads_to_devices(path: Path) -> bool:
    """Return whether a path, or a link that it leads to, lies where the system keeps devices."""
    hop = os.path.abspath(path)
    while True:
        folder = os.path.realpath(os.path.dirname(hop))
        if folder in ("/dev", "/dev/fd") or folder.startswith("/proc/"):
            return True
        hop = os.path.join(folder, os.path.basename(hop))
        if not os.path.islink(hop):
            return False
        hop = os.path.join(folder, os.readlink(hop))


@contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Make a folder to fill that takes the name `path` at the end, or is removed on error."""
    target = absent(path)
    with named(path), _part(target.parent, Path.mkdir) as part:
        yield part
        place_folder(part, target)


@contextmanager
def scratch_folder(place: Path) -> Iterator[Path]:
    """Make a folder in `place` for what is needed meanwhile, and remove it at the end.

    Nobody else may look into it.  What a killed process leaves, the next one here removes.
    """
    if not place.is_dir():
        raise FileNotFoundError(f"there is no folder {place}")
    with _part(place, lambda part: part.mkdir(0o700)) as part:
        yield part


def absent(folder: str | os.PathLike[str]) -> Path:
    """Return the absolute path of a folder that can be made; raise if it exists or cannot be."""
    target = place_of(validation.path("folder", folder))
    if os.path.lexists(folder):
        kind = validation.kind_of(target)
        rest = ", or remove it first" if kind in (None, "a file", "a folder") else f": it is {kind}"
        raise FileExistsError(f"{folder} exists; name a new folder{rest}")
    _check_parent(folder, target)
    return target


def place_of(folder: Path) -> Path:
    """Return the absolute path of a folder, links in what is above it followed."""
    return Path(os.path.realpath(folder.parent)) / folder.name


def place_folder(part: Path, target: Path) -> None:
    """Give a folder its final name, once all its files are on disk.

    Raises FileExistsError where something else has taken the name.
    """
    for file in part.iterdir():
        with file.open("r+b") as stream:
            os.fsync(stream.fileno())
    absent(target)
    try:
        os.replace(part, target)
    except OSError:
        absent(target)              # taken just now
        raise


def _check_parent(path: str | os.PathLike[str], target: Path) -> None:
    for folder in (Path(path).parent, target.parent):
        if not folder.is_dir():
            raise FileNotFoundError(f"cannot write {path}: there is no folder {folder}")
    effective = os.access in os.supports_effective_ids
    if not os.access(target.parent, os.W_OK | os.X_OK, effective_ids=effective):
        raise PermissionError(f"cannot write {path}: the folder {target.parent} cannot be "
                              f"written to")


# -------------------------------------------------------------------------- locks

@contextmanager
def owned(path: str | os.PathLike[str], doing: str, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a name, whether or not there is a file of that name.

    Parameters
    ----------
    path : path
        In a folder that exists.
    doing : str
        What the owner does, as others are told: "converts to it".
    wait : bool
        Whether to wait for another owner.

    Raises
    ------
    BlockingIOError
        Another process or thread holds the lock, and `wait` is False.
    """
    target = Path(os.path.realpath(path))
    lock = target.with_name(f"{PREFIX}{_digest(target.name)}{SUFFIX}")
    with ExitStack() as held:
        if not _is_had(lock, wait, held):
            raise BlockingIOError(f"{path} is in use: {_owner(lock)}; wait until it ends, or name "
                                  f"another")
        with _removed_at_the_end(lock):
            with suppress(OSError):                # a full disk: it is a lock all the same
                lock.write_text(f"process {os.getpid()} {doing}")
            yield


def _digest(name: str) -> str:
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:16]


def _owner(lock: Path) -> str:
    with suppress(OSError, ValueError):
        return lock.read_text() or UNKNOWN
    return UNKNOWN


def _is_had(lock: Path, wait: bool, held: ExitStack) -> bool:
    """Enter the lock into `held`; return False if another holds it.

    Where the system has no locks, there is nothing to hold.
    """
    for _ in itertools.count() if wait else range(TRIES):
        with ExitStack() as tried, suppress(FileNotFoundError):    # (removed by its last owner)
            lock.touch()
            if tried.enter_context(_locked(lock, wait)) is not False:
                held.push(tried.pop_all())
                return True
        time.sleep(PAUSE)
    return False


def remove_abandoned(folder: Path) -> None:
    """Remove what killed writers have left in a folder."""
    for other in folder.glob(f"{PREFIX}*{SUFFIX}"):
        with suppress(OSError), _locked(other, wait=False) as is_free:     # (gone meanwhile)
            if is_free:
                remove(other)


@contextmanager
def _part(folder: Path, make: Callable[[Path], Any]) -> Iterator[Path]:
    """Make a hidden piece and hold its lock; remove it if it still has its name at the end.

    Removes abandoned pieces in the same folder first.
    """
    remove_abandoned(folder)
    with ExitStack() as held:
        yield _made(folder, make, held)


def _made(folder: Path, make: Callable[[Path], Any], held: ExitStack) -> Path:
    while True:
        part = folder / f"{PREFIX}{secrets.token_hex(8)}{SUFFIX}"
        held.enter_context(_removed_at_the_end(part))
        make(part)
        with suppress(FileNotFoundError):      # taken for abandoned before it was locked
            held.enter_context(_locked(part, wait=True))
            if part.exists():
                return part


@contextmanager
def _removed_at_the_end(part: Path) -> Iterator[None]:
    """Remove a file or folder at the end, in the process that made it and in no fork of it."""
    owner = os.getpid()
    try:
        yield
    finally:
        if os.getpid() == owner:
            remove(part)


def remove(part: Path) -> None:
    """Remove a file, or a folder with all that is in it."""
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    else:
        part.unlink(missing_ok=True)


@contextmanager
def _locked(part: Path, wait: bool) -> Iterator[bool | None]:
    """Hold the lock of a file or folder; yield whether it could be had.

    None where the system has no locks.
    """
    if fcntl is None:
        yield None
        return
    opened = os.open(part, os.O_RDONLY)
    _HELD.add(opened)
    try:
        yield _lock(opened, wait) and _is_still(part, opened)
    finally:
        if opened in _HELD:                    # (in a fork it is not)
            _HELD.remove(opened)
            os.close(opened)


def _lock(opened: int, wait: bool) -> bool | None:
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:                            # a file system without locks
        return None
    return True


def _is_still(part: Path, opened: int) -> bool:
    """Return whether an open file has its name still: nobody has removed or replaced it."""
    try:
        return os.path.samestat(os.stat(part), os.fstat(opened))
    except FileNotFoundError:
        return False


def _let_go() -> None:
    """Close what a fork has inherited, so that locks end with the process that holds them."""
    for opened in _HELD:
        with suppress(OSError):
            os.close(opened)
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
