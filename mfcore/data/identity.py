"""Know a file or a function again in another process.

Two functions of one name may return different things: a lambda in a loop, one that was edited
meanwhile.  So a function is known by its code, by what is bound to it (defaults, closures,
arguments of a partial, attributes of an object), and by the functions and values that its code
names.  Installed libraries are known by name, and mapped arrays by their file.
"""

from __future__ import annotations

import copyreg
import dis
import functools
import hashlib
import sysconfig
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), range)
_LIBRARY = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})


def identities(parts: Sequence[Path | Callable[[], Any]]) -> list[Any]:
    """Return what each part is known by: a list of JSON values.

    A file is known by its path, size and times; a function by its attribute `identity`, a
    string, or else by its code and the values that it uses.

    Raises
    ------
    ValueError
        A function without such an attribute uses something that cannot be copied, such as an
        open file, a connection or a generator.
    """
    digest = _Digest()              # one for all: what they share is visited once
    return [of_file(part) if isinstance(part, Path) else _of_function(number, part, digest)
            for number, part in enumerate(parts)]


def of_file(path: Path) -> list[Any]:
    """Return path, size and times of a file; whoever changes a file changes one of them."""
    found = path.stat()
    return [str(path.resolve()), found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _of_function(number: int, part: Callable[[], Any], digest: _Digest) -> list[str]:
    named = getattr(part, "identity", None)
    if isinstance(named, str):
        return ["named", named]
    try:
        digest.add(part)
    except (TypeError, RecursionError, AttributeError, OSError) as error:
        raise ValueError(
            f"part {number + 1}, {part!r}, cannot be known again by another process, so that an "
            f"interrupted conversion could not go on ({error}); open what it needs inside the "
            f"function, or say what it returns: function.identity = 'plays of 2019'") from None
    return ["code", digest.hexdigest()]


class _Digest:
    """A checksum of a walk through values, each visited once."""

    def __init__(self) -> None:
        self._sum = hashlib.sha256()
        self._seen: dict[int, tuple[int, Any]] = {}     # (what is seen is kept: ids stay)

    def hexdigest(self) -> str:
        return self._sum.hexdigest()

    def add(self, *values: Any) -> None:
        for value in values:
            kind = type(value)
            if kind in _PLAIN:
                self._put(kind.__name__, repr(value))
            elif id(value) in self._seen:
                self._put("again", str(self._seen[id(value)][0]))
            else:
                self._seen[id(value)] = len(self._seen), value
                self._put(kind.__name__)
                self._visit(value)

    def _put(self, *texts: str) -> None:
        for text in texts:
            data = text.encode("utf-8", "surrogatepass")
            self._sum.update(b"%d:" % len(data) + data)

    def _visit(self, value: Any) -> None:
        for kind, visit in self._VISITS:
            if isinstance(value, kind):
                return visit(self, value)
        return self._object(value)

    def _items(self, value: Iterable[Any]) -> None:
        values = list(value)
        self.add(len(values), *values)

    def _pairs(self, value: Mapping[Any, Any]) -> None:
        self._items([each for pair in value.items() for each in pair])

    def _set(self, value: Iterable[Any]) -> None:
        members = []
        for member in value:                # in no order
            digest = _Digest()
            digest.add(member)
            members.append(digest.hexdigest())
        self._items(sorted(members))

    def _array(self, value: np.ndarray) -> None:
        self.add(value.shape, value.dtype.str)
        file = _file_of(value)
        if file is not None:
            start = np.frombuffer(file._mmap, np.uint8)      # type: ignore[attr-defined]
            self.add(of_file(Path(file.filename)), value.strides,   # type: ignore[arg-type]
                     _address(value) - _address(start))
        elif value.dtype.hasobject:
            self._items(value.ravel().tolist())
        else:
            self._sum.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)

    def _code(self, value: CodeType) -> None:
        self.add(value.co_code, value.co_consts, value.co_names, value.co_varnames,
                 value.co_flags, value.co_argcount, value.co_kwonlyargcount)

    def _function(self, value: FunctionType) -> None:
        self._put(value.__module__ or "", value.__qualname__)
        if _is_installed(value.__globals__.get("__file__")):
            return
        self.add(value.__code__, value.__defaults__, value.__kwdefaults__)
        for cell in value.__closure__ or ():
            self.add(*_content(cell))
        for name in sorted(_globals_of(value.__code__) & value.__globals__.keys()):
            self.add(name, value.__globals__[name])

    def _builtin(self, value: BuiltinFunctionType) -> None:
        self._put(value.__name__)
        self.add(value.__self__)

    def _method(self, value: MethodType) -> None:
        self.add(value.__self__, value.__func__)

    def _partial(self, value: functools.partial[Any]) -> None:
        self.add(value.func, value.args, value.keywords)

    def _module(self, value: ModuleType) -> None:
        self._put(value.__name__)
        path = getattr(value, "__file__", None)
        if path is not None and not _is_installed(path):
            self.add(Path(path).read_bytes())

    def _class(self, value: type) -> None:
        self._put(value.__module__, value.__qualname__)
        for name, member in sorted(vars(value).items()):
            plain = getattr(member, "__func__", member)       # of static and class methods
            if isinstance(plain, FunctionType):
                self.add(name, plain)

    def _object(self, value: Any) -> None:
        """Visit what a pickle of an object would hold."""
        reduce = copyreg.dispatch_table.get(type(value))
        found: Any = value.__reduce_ex__(4) if reduce is None else reduce(value)
        if isinstance(found, str):
            self._put(found)
            return
        make, arguments, state, entries, pairs = (*found, None, None, None)[:5]
        self.add(make, arguments, state)
        for each in (entries, pairs):
            self._items(() if each is None else each)

    _VISITS: tuple[tuple[Any, Callable[..., None]], ...] = (
        (np.ndarray, _array), (dict, _pairs), ((list, tuple), _items), ((set, frozenset), _set),
        (CodeType, _code), (FunctionType, _function), (BuiltinFunctionType, _builtin),
        (MethodType, _method), (functools.partial, _partial), (ModuleType, _module),
        (type, _class))


def _is_installed(path: str | None) -> bool:
    """Return whether a file of Python belongs to a library."""
    return path is not None and (path.startswith(_LIBRARY)
                                 or not {"site-packages", "dist-packages"}.isdisjoint(
                                     Path(path).parts))


def _content(cell: Any) -> list[Any]:
    try:
        return [cell.cell_contents]
    except ValueError:          # a name that is bound later
        return []


def _globals_of(code: CodeType) -> set[str]:
    """Return the names of a module that a function, or one inside it, looks up."""
    found = {str(each.argval) for each in dis.get_instructions(code)
             if each.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    inner = [each for each in code.co_consts if isinstance(each, CodeType)]
    return found.union(*map(_globals_of, inner))


def _file_of(array: Any) -> np.memmap | None:
    """Return the mapped file that an array is part of, if nothing but the file can change it."""
    while array is not None:
        if isinstance(array, np.memmap) and array.mode == "r" and array.filename is not None:
            return array
        array = getattr(array, "base", None)
    return None


def _address(array: np.ndarray) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
