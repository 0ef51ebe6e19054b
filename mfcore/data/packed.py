"""Gzip, unpacked a piece at a time, so that a small file cannot fill the memory or the disk.

Gzip packs 1032 bytes into one at best, and ratings, which are digits of many ids, into 3 to 10.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

# What unpacks to more than both is no ratings file.
MAX_BYTES, MAX_RATIO = 2**30, 100
_PIECE = 1 << 20


def pieces_of_gzip(name: str, packed: BinaryIO | Any, size: int) -> Iterator[bytes]:
    """Yield what a gzip stream of `size` bytes holds.

    Raises ValueError for one that is damaged, or grows beyond `MAX_BYTES` and `MAX_RATIO`
    times its size.
    """
    most, got = max(MAX_BYTES, MAX_RATIO * size), 0
    try:
        with gzip.GzipFile(fileobj=packed) as stream:
            while piece := stream.read(_PIECE):
                got += len(piece)
                if got > most:
                    raise ValueError(f"{name} unpacks to more than {most:,} bytes out of {size:,}, "
                                     f"as no ratings file does; unpack it yourself if it is one")
                yield piece
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{name} is a damaged or truncated gzip file ({error}); get it "
                         f"again") from None


def gunzipped(name: str, data: Any) -> bytearray:
    """Return what gzipped bytes hold; raises as `pieces_of_gzip`."""
    unpacked = bytearray()
    for piece in pieces_of_gzip(name, io.BytesIO(data), len(data)):
        unpacked += piece
    return unpacked
