"""The bytes of a text file: unpacked, checked to be text, with line numbers for messages.

Gzip is unpacked in pieces, so that a small file cannot fill the memory or the disk: it packs
up to 1032 bytes into one, but ratings, which are digits of many ids, only 3 to 10.
"""

from __future__ import annotations

import codecs
import gzip
import io
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mfcore import validation

_SAMPLE_BYTES, _BLOCK_BYTES = 65_536, 1 << 20
GZIP, PARQUET = b"\x1f\x8b", b"PAR1"        # the first bytes of such files
MAX_BYTES, MAX_RATIO = 2**30, 100           # no ratings file unpacks to more than both


@dataclass(frozen=True)
class TextFile:
    """The bytes of a text file, unpacked, without a byte-order mark.

    Lines end in a line feed, perhaps after a carriage return.
    """

    name: str                   # used in messages
    data: np.ndarray            # uint8, read-only
    encoding: str = "utf-8"     # in which separators and numbers must be ASCII

    def first_lines(self, count: int = 20) -> list[str]:
        """Return up to `count` of the first lines that are not blank."""
        sample = self.data[:_SAMPLE_BYTES].tobytes().decode(self.encoding, "replace")
        return [line for line in re.split("\r\n|\n|\r", sample) if line.strip()][:count]

    def line_number(self, place: int) -> int:
        """Return the number, from 1, of the line that holds byte `place`."""
        return int(np.count_nonzero(self.data[:place] == 10)) + 1

    def line_at(self, place: int) -> str:
        """Return the text of the line that holds byte `place`."""
        before = self.data[max(0, place - _SAMPLE_BYTES):place].tobytes()
        after = self.data[place:place + _SAMPLE_BYTES].tobytes()
        line = before[before.rfind(b"\n") + 1:] + after.partition(b"\n")[0]
        return line.decode(self.encoding, "replace").strip("\r")

    def body(self, header: bool) -> int:
        """Return the place of the first byte after the header."""
        if not header:
            return 0
        text = self.data[:_SAMPLE_BYTES].tobytes()
        start = len(text) - len(text.lstrip())
        return (text.find(b"\n", start) + 1) or self.data.size


def load_text(path: str | os.PathLike[str], encoding: str = "utf-8") -> TextFile:
    """Read a text file, or a pipe to its end, unpacking gzip.

    Raises FileNotFoundError, IsADirectoryError, and ValueError for an empty or binary file, a
    damaged gzip file, or a device.
    """
    place = validation.path("path", path)
    regular = validation.kind_of(place) == "a file"
    return text_of(place.name if regular else str(place), bytes_of(place), encoding)


def bytes_of(place: Path) -> np.ndarray:
    """Read a file, or a pipe to its end, as uint8; raises as `load_text`, but for what it holds."""
    kind = validation.kind_of(place)
    if kind == "a folder":
        raise IsADirectoryError(f"{place} is a folder; name a file in it")
    if kind is None:
        raise FileNotFoundError(f"there is no file {place}")
    return np.fromfile(place, np.uint8) if kind == "a file" else _of_pipe(place, kind)


def _of_pipe(place: Path, kind: str) -> np.ndarray:
    """Read a pipe, or what is typed at a terminal, to its end."""
    if kind == "a socket":
        raise ValueError(f"{place} is a socket, which has no name to open it by; send the lines "
                         f"through a pipe or a file")
    with place.open("rb") as stream:
        if kind != "a pipe" and not stream.isatty():
            raise ValueError(f"{place} is {kind}, not a file or pipe of text")
        found = stream.read()
    if found[:4] == PARQUET:
        raise ValueError(f"{place} brings a parquet file, which is read from its end: write it to "
                         f"a file first")
    return np.frombuffer(found, np.uint8)


def text_of(name: str, data: Any, encoding: str = "utf-8") -> TextFile:
    """Make a TextFile of bytes, unpacking gzip; see `load_text`."""
    codecs.lookup(encoding)
    data = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data
    if data[:2].tobytes() == GZIP:
        data = np.frombuffer(gunzipped(name, data), np.uint8)
    if data[:3].tobytes() == codecs.BOM_UTF8:
        data = data[3:]
    if b"\0" in data[:_SAMPLE_BYTES].tobytes() or data[:4].tobytes() == b"PK\x03\x04":
        raise ValueError(f"{name} is a binary file, not lines of text; read_ratings takes "
                         f"csv, tsv, '::', gzip and parquet files, text in UTF-8")
    data = _with_line_feeds(data)
    data.flags.writeable = False
    file = TextFile(name, data, encoding)
    if not file.first_lines(1):           # (bytes know fewer blanks than text)
        raise ValueError(f"{name} is empty")
    return file


def _with_line_feeds(data: np.ndarray) -> np.ndarray:
    """Turn each carriage return that ends a line by itself into a line feed, in a copy."""
    given = data
    for start in range(0, data.size, _BLOCK_BYTES):
        places = start + np.flatnonzero(given[start:start + _BLOCK_BYTES] == ord("\r"))
        lone = places[given[np.minimum(places + 1, data.size - 1)] != ord("\n")]
        if lone.size:
            data = given.copy() if data is given else data
            data[lone] = ord("\n")
    return data


def pieces_of_gzip(name: str, packed: BinaryIO | Any, size: int) -> Iterator[bytes]:
    """Yield the content of a gzip stream of `size` bytes.

    Raises ValueError if it is damaged, or unpacks to more than `MAX_BYTES` and `MAX_RATIO`
    times its size.
    """
    most, got = max(MAX_BYTES, MAX_RATIO * size), 0
    try:
        with gzip.GzipFile(fileobj=packed) as stream:
            while piece := stream.read(_BLOCK_BYTES):
                got += len(piece)
                if got > most:
                    raise ValueError(f"{name} unpacks to more than {most:,} bytes out of {size:,}, "
                                     f"as no ratings file does; unpack it yourself if it is one")
                yield piece
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{name} is a damaged or truncated gzip file ({error}); get it "
                         f"again") from None


def gunzipped(name: str, data: Any) -> bytearray:
    """Return the content of gzipped bytes; raises as `pieces_of_gzip`."""
    unpacked = bytearray()
    for piece in pieces_of_gzip(name, io.BytesIO(data), len(data)):
        unpacked += piece
    return unpacked
