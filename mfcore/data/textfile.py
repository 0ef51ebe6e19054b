"""The text of a file, in pieces: unpacked, in UTF-8, checked to be text.

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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from mfcore import validation
from mfcore.data.dialect import LineError
from mfcore.progress import watched

_PIECE_BYTES = 1 << 20
GZIP, PARQUET = b"\x1f\x8b", b"PAR1"        # the first bytes of such files
_UTF8 = ("utf-8", "utf-8-sig")
MAX_BYTES, MAX_RATIO = 2**30, 100           # no ratings file unpacks to more than both
# Files that are not lines of text, by how they begin, and what to do about them.
_BINARY = {
    rb"PK\x03\x04": "a zip file or a spreadsheet; unpack it, or save it as csv",
    rb"BZh[1-9]1AY&SY": "packed by bzip2; unpack it, or pack it with gzip",
    rb"\xfd7zXZ\0": "packed by xz; unpack it, or pack it with gzip",
    rb"\(\xb5/\xfd": "packed by zstd; unpack it, or pack it with gzip",
    rb"SQLite format 3|\xd0\xcf\x11\xe0|ARROW1|\x89HDF|\x80[\2-\5]":
        "a database, or a table of another program; Ratings.from_frame takes the frame that it "
        "reads, or save it as csv",
    rb"\xff\xfe\0\0|\0\0\xfe\xff": "text in UTF-32; say encoding='utf-32'",
    rb"\xff\xfe|\xfe\xff": "text in UTF-16; say encoding='utf-16'",
    rb"(?s:.*\0)": "not lines of text; or, if it is text in UTF-16, say encoding='utf-16-le' or "
                   "'utf-16-be'"}


@dataclass(frozen=True)
class TextFile:
    """A text file, plain or packed by gzip.

    Parameters
    ----------
    name : str
        What messages call it.
    opened : callable
        Opens its bytes.
    size : int
        How many they are; 0 for a pipe.
    encoding : str
    """

    name: str
    opened: Callable[[], io.BufferedReader]
    size: int
    encoding: str = "utf-8"

    def pieces(self, verbose: int | None = 0) -> Iterator[bytes]:
        """Yield the text in UTF-8, without a byte-order mark, cut anywhere.

        Raises ValueError for a file that is damaged or packed otherwise, LineError where a text
        of another encoding than UTF-8 fails.  `verbose` is as in `progress_bar`.
        """
        with self.opened() as opened, watched(verbose, opened, total=self.size or None,
                                              desc=self.name) as stream:
            start = opened.peek(16)[:16]
            gzipped = start.startswith(GZIP)
            if not gzipped:
                _refuse_binary(self.name, start, self.encoding)
            packed = pieces_of_gzip(self.name, stream, self.size) if gzipped else \
                iter(partial(stream.read, _PIECE_BYTES), b"")
            in_utf8 = codecs.lookup(self.encoding).name in _UTF8
            yield from _without_mark(packed if in_utf8 else _recoded(packed, self.encoding))


def load_text(path: str | os.PathLike[str], encoding: str = "utf-8") -> TextFile:
    """Return the text file of a path, or a pipe, which can be read once.

    Raises FileNotFoundError, IsADirectoryError, and ValueError for a socket, a device (once it is
    read) and an unknown encoding.
    """
    place = validation.path("path", path)
    kind = validation.kind_of(place)
    if kind == "a folder":
        raise IsADirectoryError(f"{place} is a folder; name a file in it")
    if kind is None:
        raise FileNotFoundError(f"there is no file {place}")
    if kind == "a socket":
        raise ValueError(f"{place} is a socket, which has no name to open it by; send the lines "
                         f"through a pipe or a file")
    if kind == "a file":
        return TextFile(place.name, lambda: place.open("rb"), place.stat().st_size,
                        _checked(encoding))
    return TextFile(str(place), partial(_opened_pipe, place, kind), 0, _checked(encoding))


def _opened_pipe(place: Path, kind: str) -> io.BufferedReader:
    """Open a pipe, or what is typed at a terminal."""
    stream = place.open("rb")
    if kind != "a pipe" and not stream.isatty():
        stream.close()
        raise ValueError(f"{place} is {kind}, not a file or pipe of text")
    return stream


def text_of(name: str, data: bytes, encoding: str = "utf-8") -> TextFile:
    """Make a TextFile of bytes: see `load_text`."""
    return TextFile(name, lambda: io.BufferedReader(io.BytesIO(data)), len(data),
                    _checked(encoding))


def _checked(encoding: str) -> str:
    if not isinstance(encoding, str):
        raise TypeError(f"encoding must be a name such as 'utf-8', got {encoding!r}")
    try:
        io.TextIOWrapper(io.BytesIO(), encoding)
    except (LookupError, ValueError):
        raise ValueError(f"encoding must be 'utf-8', 'latin-1', 'utf-16' or another text encoding "
                         f"of Python, got {encoding!r}") from None
    return encoding


def _refuse_binary(name: str, start: bytes, encoding: str) -> None:
    if start.startswith(PARQUET):
        raise ValueError(f"{name} brings a parquet file, which is read from its end: write it to a "
                         f"file first")
    for first, what in _BINARY.items():
        named = "text in UTF" in what and codecs.lookup(encoding).name not in _UTF8
        if re.match(first, start) and not named:
            raise ValueError(f"{name} is a binary file: {what}")


def _without_mark(pieces: Iterator[bytes]) -> Iterator[bytes]:
    first = b""
    while len(first) < len(codecs.BOM_UTF8) and (piece := next(pieces, b"")):
        first += piece
    yield first.removeprefix(codecs.BOM_UTF8)
    yield from pieces


def _recoded(pieces: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    decoder, lines = codecs.getincrementaldecoder(encoding)(), 1
    for piece in chain(pieces, [b""]):
        try:
            text = decoder.decode(piece, final=not piece).encode()
        except UnicodeError as error:
            start = getattr(error, "start", 0)
            lines += piece[:start].decode(encoding, "replace").count("\n")
            raise LineError(lines, f"not {encoding} text ({error}); another encoding= may be "
                                   f"meant") from None
        lines += text.count(b"\n")
        yield text


def pieces_of_gzip(name: str, packed: BinaryIO | Any, size: int) -> Iterator[bytes]:
    """Yield the content of a gzip stream of `size` bytes.

    Raises ValueError if it is damaged, or unpacks to more than `MAX_BYTES` and `MAX_RATIO`
    times its size.
    """
    most, got = max(MAX_BYTES, MAX_RATIO * size), 0
    try:
        with gzip.GzipFile(fileobj=packed) as stream:
            while piece := stream.read(_PIECE_BYTES):
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
