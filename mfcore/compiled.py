"""Compile kernels, and keep them on disk: one checked file per kernel and signature.

Numba's own cache has an index for each function, which names numbered files of machine code.  Two
processes that fill it at once may take the same number, so that the index names the code of
another kernel; and a file that was cut short stops every call.  Here the name of a file is a
digest of all that its machine code depends on, and the file holds a checksum.  There is no index,
and a file that is not whole counts as absent: the kernel is compiled and written again.

Files are read from these folders, and written to the first of them that takes them:

* if NUMBA_CACHE_DIR is set, to its folder `mfcore`, and nowhere else;
* otherwise to `__pycache__` next to the kernels, or to Numba's folder in the cache of this user.

Where none takes them, the computation goes on, and one warning names the folders and the cure.
"""

from __future__ import annotations

import gc
import hashlib
import importlib.resources
import os
import pickle
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from operator import attrgetter
from pathlib import Path
from types import FunctionType
from typing import Any

import llvmlite
import numba
import numpy as np
from numba import config
from numba.core import event
from numba.core.compiler import CompileResult, Flags
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target
from numba.core.serialize import dumps
from numba.misc.appdirs import AppDirs

from mfcore.atomic import replacing

MAGIC, CHECKSUM = b"mfcore kernel 1\n", 32
SUFFIX = ".nbc"
# Settings of Numba that machine code depends on.
SETTINGS = ("OPT", "BOUNDSCHECK", "DEBUGINFO_DEFAULT", "LOOP_VECTORIZE", "SLP_VECTORIZE",
            "USING_SVML", "LLVM_REFPRUNE_PASS", "LLVM_REFPRUNE_FLAGS")
UNUSED = 30 * 24 * 3600        # seconds after which files of other versions are removed
USED: set[str] = set()         # the names of the files of all kernels that this process has called

if hasattr(os, "register_at_fork"):
    # A child that was forked while another thread compiled could never compile or load a kernel:
    # so a fork waits until that thread has finished.
    os.register_at_fork(before=global_compiler_lock.acquire,
                        after_in_parent=global_compiler_lock.release,
                        after_in_child=global_compiler_lock.release)


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return the decorator `numba.njit(**options)`, whose machine code is kept on disk."""
    def decorate(function: Callable[..., Any]) -> Any:
        kernel = numba.njit(**options)(function)
        if kernel is not function:             # (NUMBA_DISABLE_JIT leaves it as it is)
            kernel._cache = KernelFiles(function)
            kernel._compiler._customize_flags = Settings
        return kernel

    return decorate


class Settings(Flags):  # type: ignore[misc]
    """How Numba compiles a kernel, as a key that is quick to look up.

    Numba looks it up for every operation that it types, where its own would sort its names and
    compare all values each time: a tenth of the time of compilation.
    """

    names = hash(Flags())

    def __hash__(self) -> int:
        return self.names

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Settings) and bool(self._values == other._values)


class Uncollected(event.Listener):  # type: ignore[misc]
    """No collection of cycles while a kernel is compiled: much is made, and kept, by then."""

    depth, was_on = 0, False

    def on_start(self, event: event.Event) -> None:
        """Stop it at the outermost kernel."""
        if self.depth == 0:
            self.was_on = gc.isenabled()
            gc.disable()
        self.depth += 1

    def on_end(self, event: event.Event) -> None:
        """Go on as before."""
        self.depth -= 1
        if self.depth == 0 and self.was_on:
            gc.enable()


event.register("numba:compile", Uncollected())


class KernelFiles:
    """The files of one kernel: what a dispatcher of Numba asks its cache."""

    cache_path = None

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        place = f"{function.__module__}.{function.__qualname__}".removeprefix("mfcore.kernels.")
        self.name = place.replace("<locals>.", "")

    def load_overload(self, signature: Any, target: Any) -> Any:
        """Return the compiled kernel, or None if no folder holds a whole file of it."""
        target.refresh()
        key = self._key(signature)
        USED.add(self._file(key))
        for folder in folders():
            found, code = _read(folder / self._file(key))
            if found == key:
                with suppress(Exception):      # whatever it is, the kernel can be compiled
                    return CompileResult._rebuild(target, *pickle.loads(code))
        return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        """Write the compiled kernel to the first folder that takes it; warn if none does."""
        if compiled.library.has_dynamic_globals or sources() != SOURCES:
            return          # holds addresses of this process, or was read before an update
        key = self._key(signature)
        try:
            body = key.encode() + b"\0" + dumps(compiled._reduce())
        except Exception as error:             # in a version of Numba to come
            _warn(f"{self.name} cannot be kept on disk: {error!r}")
        else:
            _keep(self._file(key), MAGIC + hashlib.sha256(body).digest() + body)

    def flush(self) -> None:
        """Do nothing: what is compiled again is written again."""

    def _file(self, key: str) -> str:
        return f"{self.name}-{_digest(key.encode())}{SUFFIX}"

    def _key(self, signature: Any) -> str:
        """Return all that the machine code depends on."""
        own = _digest(_told_apart(self.function))
        return f"{machine()}\n{self.name} {own}\n{signature}"


def _told_apart(constant: Any) -> bytes:
    """Return what a constant of a kernel is known by in every process.

    That of a function is where it stands, its code and its own constants: intrinsics of Numba are
    pickled under a number that is drawn in each process.
    """
    function = getattr(constant, "py_func", getattr(constant, "_defn", constant))
    if isinstance(function, FunctionType):
        held = [cell.cell_contents for cell in function.__closure__ or ()]
        code = function.__code__
        return repr((function.__qualname__, code.co_firstlineno)).encode() + code.co_code \
            + _told_apart(held)
    if isinstance(constant, list | tuple):
        return repr([_told_apart(each) for each in constant]).encode()
    return bytes(dumps(constant))


@cache
def machine() -> str:
    """Return what the code of every kernel depends on: sources, versions, settings, processor."""
    versions = [sys.implementation.cache_tag, numba.__version__, llvmlite.__version__,
                np.__version__]
    settings = [f"{name}={getattr(config, name, None)!r}" for name in SETTINGS]
    return repr((SOURCES, versions, settings, cpu_target.target_context.codegen().magic_tuple()))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def sources() -> str:
    """Return a digest of all files of kernels, since Numba follows no import between them."""
    with suppress(Exception):
        files = (importlib.resources.files("mfcore") / "kernels").iterdir()
        return _digest(b"".join(each.name.encode() + each.read_bytes() for each in sorted(
            files, key=attrgetter("name")) if each.name.endswith((".py", ".pyc"))))
    return repr(os.stat(sys.executable))       # frozen, all in one file


SOURCES = sources()          # before the kernels are read: see mfcore/kernels/__init__.py


# ------------------------------------------------------------------------------- folders


def folders() -> list[Path]:
    """Return the folders of kernels, those written to first."""
    if config.CACHE_DIR:
        return [Path(config.CACHE_DIR).absolute() / "mfcore"]
    of_user = Path(AppDirs("numba", appauthor=False).user_cache_dir)
    return [Path(__file__).absolute().parent / "kernels" / "__pycache__",
            *([of_user / "mfcore"] if of_user.is_absolute() else [])]       # (no home: "~/...")


def ready() -> dict[str, set[str]]:
    """Return the names of the files, by folder, that processes like this one would load."""
    return {str(folder): {path.name for path in _files(folder) if _is_ready(path)}
            for folder in folders()}


def _is_ready(path: Path) -> bool:
    key, _ = _read(path)
    return key.startswith(f"{machine()}\n") and path.stem.endswith(f"-{_digest(key.encode())}")


def _files(folder: Path) -> Iterator[Path]:
    with suppress(OSError):                    # not there, or not readable
        yield from (path for path in folder.iterdir() if path.suffix in (SUFFIX, ".nbi"))


def _read(path: Path) -> tuple[str, bytes]:
    """Return key and code out of a file, both empty if it is not there, readable and whole."""
    with suppress(OSError, UnicodeDecodeError):
        content = path.read_bytes() if path.is_file() else b""
        start = len(MAGIC) + CHECKSUM
        body = content[start:]
        if content[:start] == MAGIC + hashlib.sha256(body).digest():
            key, _, code = body.partition(b"\0")
            return key.decode(), code
    return "", b""


def _keep(name: str, content: bytes) -> None:
    refused = []
    for folder in folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).unlink(missing_ok=True)        # not whole, or not readable
            with replacing(folder / name) as file:
                file.write(content)
            _remove_unused(folder)
            return
        except OSError as error:
            refused.append(f"{folder} ({error.strerror or error})")
    _warn(f"compiled kernels cannot be kept, so that each process compiles them again; not "
          f"written to {' and '.join(refused)}. Make room there, let this user write there, or "
          f"set NUMBA_CACHE_DIR to another folder")


_told = False


def _warn(text: str) -> None:
    """Warn once per process that kernels are not kept."""
    global _told
    if not _told:
        _told = True
        warnings.warn(text, stacklevel=2)


@cache
def _remove_unused(folder: Path) -> None:
    """Remove files of other versions that nobody has read for long, once per process."""
    for path in _files(folder):
        with suppress(OSError):
            used = max(path.stat().st_atime, path.stat().st_mtime)
            if used < time.time() - UNUSED and not _is_ready(path):
                path.unlink()
