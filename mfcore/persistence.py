"""Write named arrays and a description to one file, and read them back bit for bit.

A model file is a zip archive, stored uncompressed, that `numpy.load` opens as .npz too:

    header.json     {"format": "mfcore", "version": 1, "meta": {...}, "arrays": {name:
                     {"dtype": "<f4", "shape": [n, k], "sha256": "..."}, ...}}
    <name>.npy      numbers and fixed-width text, C or Fortran order; the numbers begin at a
                    multiple of 64 bytes, so that they can be used where they are (mmap)
    <name>.list     ids: strings and integers, as one JSON list

No pickle: reading a file never runs code.  Nothing is allocated before the declared sizes
agree with the size of the file.  The bytes are a function of the content alone.  Writing is
atomic: at any moment the path holds the whole old file or the whole new one.

An open stream of bytes does for a path.  It may be one that cannot go back, such as a pipe or a
file that is compressed on the way: an archive is made, and read, in a file of its own.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import mmap as mapping
import os
import re
import struct
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from mfcore import validation
from mfcore.atomic import name_of, replaceable, replacing

FORMAT, VERSION = "mfcore", 1
NOT_SEEN = ("this model was saved with seen=False: its training ratings, which this needs, are not "
            "known any more; save it with seen=True, or fit it again")
HEADER = "header.json"
# Names and dtypes that a file may contain: no folders, no objects, no structures.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_DTYPE = re.compile(r"[<>|][biufcSU]\d{1,9}")
_LIST = "list"
_TEXT = "utf-8", "surrogatepass"         # ids may hold any code point, lone surrogates too
_PIECE = 1 << 24                         # bytes read at a time, so that no second copy is held
_ALIGN, _PADDING = 64, 0x4D46            # of the parts; the kind of the field that aligns them
_LOCAL, _WIDE = 30, 20                   # bytes of the head of a part, and of sizes of 64 bits
_HEAD = 1 << 17                          # no head of a .npy file is longer
# What zipfile, json and numpy raise for a broken file.
_BROKEN = (zipfile.BadZipFile, struct.error, EOFError, ValueError, TypeError, LookupError,
           AttributeError, ArithmeticError, RuntimeError)


class ModelFileError(ValueError):
    """A model file is truncated, altered, of another kind or of a newer version."""


Place = str | os.PathLike[str] | IO[bytes]


def write(path: Place, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Write arrays and their description to exactly `path`, all of it or nothing.

    Parameters
    ----------
    path : str, path-like, or binary stream
        File to write or replace; no suffix is added.  A stream is written from where it is,
        ends there, and stays open.
    arrays : mapping of str to ndarray
        Booleans, numbers, fixed-width text; or 1-D object arrays of strings and integers.
    meta : mapping of str to JSON values
        Class name, parameters, history: None, bool, int, float, str, lists and dicts with
        string keys; NumPy scalars come back as Python's, tuples as lists.

    Raises
    ------
    TypeError
        For anything else, before a file is touched.
    ValueError
        For an array name that is not letters, digits, "_" and ".".
    FileNotFoundError, IsADirectoryError, FileExistsError
        If the folder does not exist, or `path` is one, or a pipe or device.
    """
    made = _made(path)
    entries = {name: _entry(name, array) for name, array in sorted(arrays.items())}
    header = {"format": FORMAT, "version": VERSION, "meta": plain("meta", meta),
              "arrays": {name: spec for name, (spec, _) in entries.items()}}
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    with made as stream, zipfile.ZipFile(stream, "w") as archive:
        _add(archive, HEADER, (text,))
        for name, (spec, parts) in entries.items():
            _add(archive, _file_name(name, spec), parts)


def read(path: Place, *, only: Collection[str] | None = None,
         mmap: bool = False, check: bool = True) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `write` wrote: (arrays, meta).

    Parameters
    ----------
    path : str, path-like, or binary stream
        A stream is read from where it is to its end, and stays open.
    only : collection of str, or None
        Names of the arrays to read; None: all.  `only=()` reads the description alone.
    mmap : bool
        Map the file instead of reading it.
    check : bool
        Whether arrays are compared with their checksums.

    Returns
    -------
    arrays : dict of str to ndarray
        Writable (read-only where mapped), with the dtype, shape, order and bits that were written;
        names sorted.
    meta : dict

    Raises
    ------
    ModelFileError
        Naming file and cause: truncated, altered, not a model file, or of a newer version.
    FileNotFoundError
    ValueError
        The name of a pipe or device, in which no place can be looked up; a stream that is at its
        end, closed, or not to be read.
    """
    with _opened(path, mmap) as stream, _complaints(path):
        archive, size = zipfile.ZipFile(stream), stream.seek(0, os.SEEK_END)
        members = _members(archive, size)
        header = _header(archive, members)
        specs: dict[str, Any] = header["arrays"]
        if set(members) != {HEADER, *(_file_name(name, specs[name]) for name in specs)}:
            raise ModelFileError("the list of arrays does not agree with its parts")
        file = _bytes_of(stream) if mmap else None
        arrays = {name: _read_array(archive, members[_file_name(name, spec)], spec, file, check)
                  for name, spec in specs.items() if only is None or name in only}
    return arrays, header["meta"]


def is_stream(path: Any, able: str) -> bool:
    """Return whether a place is a stream; `able` is its method: "read" or "write"."""
    return not isinstance(path, (str, os.PathLike)) and hasattr(path, able)


def digest(data: Any) -> str:
    """Return the SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def digest_of_file(path: Path, kind: str = "sha256") -> str:
    """Return a checksum of a file, in hexadecimal, read a piece at a time."""
    total = hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE):
            total.update(piece)
    return total.hexdigest()


# ------------------------------------------------------------------------ writing

def _made(path: Any) -> AbstractContextManager[IO[bytes]]:
    """Return the context of a file that replaces `path`, or goes into a stream; raise if not."""
    if is_stream(path, "write"):
        from mfcore.streams import filled

        return filled(path)
    replaceable(path)
    return replacing(path)


def _entry(name: str, array: np.ndarray) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """Return an array's entry in the header and its bytes, without copying contiguous ones."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"array names must be letters, digits, '_' and '.', got {name!r}")
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be an ndarray, got {type(array).__name__}")
    dtype = _LIST if array.dtype == object else array.dtype.str
    spec = {"dtype": dtype, "shape": list(array.shape)}
    if dtype == _LIST:
        data: Any = _id_list(name, array)
        return {**spec, "sha256": digest(data)}, (data,)
    if not _DTYPE.fullmatch(dtype):
        raise TypeError(f"{name} has dtype {array.dtype}, which a model file does not store")
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    flat = np.ascontiguousarray(array.T if fortran else array).reshape(-1)
    data = flat.view(np.uint8) if flat.size else b""
    return {**spec, "sha256": digest(data)}, (_npy_header(spec, fortran), data)


def _npy_header(spec: dict[str, Any], fortran: bool) -> bytes:
    """Return the head of a .npy file, version 1.0, padded to 64 bytes."""
    text = repr({"descr": spec["dtype"], "fortran_order": fortran,
                 "shape": tuple(spec["shape"])}).encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def _id_list(name: str, array: np.ndarray) -> bytes:
    """Return an object array of strings and integers as exact UTF-8 JSON."""
    if array.ndim != 1:
        raise TypeError(f"{name} must be one-dimensional to be stored as a list of ids")
    for position, value in enumerate(array):
        if isinstance(value, bool) or not isinstance(value, (str, int, np.integer)):
            raise TypeError(f"{name} holds {value!r} at position {position}; a model file "
                            f"stores integers and strings only, rename such ids first")
    values = [value if isinstance(value, str) else int(value) for value in array]
    return json.dumps(values, ensure_ascii=False).encode(*_TEXT)


def plain(where: str, value: Any) -> Any:
    """Return `value` as JSON can hold it; raise a TypeError that says which part it cannot."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [plain(f"{where}[{i}]", each) for i, each in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: plain(f"{where}[{key!r}]", each) for key, each in value.items()}
    raise TypeError(f"{where} must be None, a boolean, number, string, list or dict with "
                    f"string keys, got {type(value).__name__}")


def _add(archive: zipfile.ZipFile, file_name: str, parts: tuple[Any, ...]) -> None:
    info = zipfile.ZipInfo(file_name, (1980, 1, 1, 0, 0, 0))
    info.create_system, info.external_attr = 3, 0o644 << 16
    info.file_size = sum(len(part) for part in parts)
    info.extra = _padding(archive.start_dir, info)
    with archive.open(info, "w") as stream:
        for part in parts:
            stream.write(part)
    info.extra = b""                        # (the list at the end of the file needs no padding)


def _padding(place: int, info: zipfile.ZipInfo) -> bytes:
    """Return the extra field after which the bytes of a part begin at a multiple of 64."""
    wide = info.file_size * 1.05 > zipfile.ZIP64_LIMIT      # as zipfile decides
    missing = -(place + _LOCAL + len(info.filename) + (_WIDE if wide else 0) + 4) % _ALIGN
    return struct.pack("<HH", _PADDING, missing) + bytes(missing)


# ------------------------------------------------------------------------ reading

def _opened(path: Any, mmap: bool) -> AbstractContextManager[IO[bytes]]:
    """Return the context of a file, or of a stream that can go back, at the place of a model."""
    if is_stream(path, "read"):
        from mfcore.streams import readable

        if mmap:
            raise ValueError("mmap needs the path of a file, got a stream")
        return readable(path)
    return validation.regular_file(validation.path("path", path), "read from its end").open("rb")


@contextmanager
def _complaints(path: Place) -> Iterator[None]:
    """Turn what is raised for a broken file into a ModelFileError."""
    try:
        yield
    except _BROKEN as error:
        cause = error if isinstance(error, ModelFileError) else \
            f"it is truncated, altered or no model file ({error})"
        raise ModelFileError(f"cannot read {name_of(path)}: {cause}") from error


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """Return the members by name, after checking that their sizes fit into the file."""
    infos = archive.infolist()
    members = {info.filename: info for info in infos}
    if len(members) < len(infos):
        raise ModelFileError("two parts have the same name")
    if any(info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size
           for info in infos):
        raise ModelFileError("a part is compressed, which mfcore never does")
    if sum(info.file_size for info in infos) > size or any(i.header_offset < 0 for i in infos):
        raise ModelFileError("it is truncated: its parts are larger than the file")
    return members


def _header(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo]) -> dict[str, Any]:
    if HEADER not in members:
        raise ModelFileError(f"it has no {HEADER}")
    header: dict[str, Any] = json.loads(archive.read(members[HEADER]))
    if header.get("format") != FORMAT:
        raise ModelFileError(f"its {HEADER} is of another program")
    if header.get("version") != VERSION:
        raise ModelFileError(f"it has format version {header.get('version')!r}, and this "
                             f"mfcore reads version {VERSION}; install a newer mfcore")
    return header


def _file_name(name: str, spec: dict[str, Any]) -> str:
    return f"{name}.list" if spec["dtype"] == _LIST else f"{name}.npy"


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, spec: dict[str, Any],
                file: np.ndarray | None, check: bool) -> np.ndarray:
    """Read one array, after checking its declared size against its actual one.

    `file` holds the bytes of the whole file, where it is mapped.
    """
    body = None if file is None else _body(file, info)
    with archive.open(info) if body is None else io.BytesIO(body[:_HEAD].tobytes()) as stream:
        fortran = spec["dtype"] != _LIST and _read_npy_header(stream, spec, info)
        head = stream.tell()
        data = _rest(stream, info.file_size - head) if body is None else _aligned(body[head:])
    if check and digest(data) != spec["sha256"]:
        raise ModelFileError(f"{info.filename} does not match its checksum")
    if spec["dtype"] == _LIST:
        return _ids(data.tobytes(), spec["shape"])
    typed: np.ndarray = data.view(spec["dtype"])
    return typed.reshape(spec["shape"], order="F" if fortran else "C")


def _bytes_of(stream: IO[bytes]) -> np.ndarray:
    """Return the bytes of a file, mapped into memory, read-only."""
    return np.frombuffer(mapping.mmap(stream.fileno(), 0, access=mapping.ACCESS_READ), np.uint8)


def _rest(stream: IO[bytes], size: int) -> np.ndarray:
    """Return what is left of a part, `size` bytes."""
    data = np.empty(size, np.uint8)
    for start in range(0, size, _PIECE):
        piece = stream.read(_PIECE)
        data[start:start + len(piece)] = np.frombuffer(piece, np.uint8)
    return data


def _body(file: np.ndarray, info: zipfile.ZipInfo) -> np.ndarray:
    """Return the bytes of a part, a view of those of the file."""
    local = file[info.header_offset:info.header_offset + _LOCAL].tobytes()
    start = info.header_offset + _LOCAL + sum(struct.unpack("<HH", local[-4:]))
    return file[start:start + info.file_size]


def _aligned(data: np.ndarray) -> np.ndarray:
    """Return bytes where they are, or a copy if numbers cannot be used there."""
    return data if data.ctypes.data % _ALIGN == 0 else data.copy()


def _read_npy_header(stream: IO[bytes], spec: dict[str, Any], info: zipfile.ZipInfo) -> bool:
    """Return whether the order is Fortran; raise if head or size are not those of `spec`."""
    if not _DTYPE.fullmatch(spec["dtype"]):
        raise ModelFileError(f"{info.filename} has a dtype that is never stored")
    start = stream.read(10)
    text = start + stream.read(int.from_bytes(start[8:], "little"))
    heads = [_npy_header(spec, fortran) for fortran in (False, True)]
    size = len(text) + math.prod(spec["shape"]) * np.dtype(spec["dtype"]).itemsize
    if text not in heads or size != info.file_size:
        raise ModelFileError(f"{info.filename} does not have the dtype and shape of the header")
    return text == heads[True]


def _ids(text: bytes, shape: list[int]) -> np.ndarray:
    values = json.loads(text.decode(*_TEXT))
    if not isinstance(values, list) or shape != [len(values)]:
        raise ModelFileError("a list of ids is not of the length in the header")
    return np.array([*values, None], object)[:-1]       # (the None keeps lists from nesting)
