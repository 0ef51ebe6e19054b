"""Archives in open streams of bytes, also in those that cannot go back: pipes, sockets, gzip.

An archive is made, and read, in a file of its own.  So a stream gets the bytes that a file would
have, once all of them are there.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import IO

from mfcore.atomic import name_of

PIECE = 1 << 24                          # bytes copied at a time
# Streams in which going back costs nothing; others are copied.
DIRECT = (io.BytesIO, io.BufferedReader, io.BufferedRandom, io.FileIO)


def filled(stream: IO[bytes]) -> AbstractContextManager[IO[bytes]]:
    """Return the context of a file whose bytes go into a stream at the end, from where it is.

    What the stream held from there on is cut off, where it can be.  Raises TypeError for a stream
    of text, ValueError for one that is closed, or open for reading alone.
    """
    _check(stream, "write", "writable")
    return _copied_at_the_end(stream)


def readable(stream: IO[bytes]) -> AbstractContextManager[IO[bytes]]:
    """Return the context of what a stream holds from where it is, as a file that can go back.

    Raises TypeError for a stream of text, ValueError for one that is closed, open for writing
    alone, or at its end.
    """
    _check(stream, "read", "readable")
    return _from_here(stream)


def _check(stream: IO[bytes], use: str, able: str) -> None:
    if isinstance(stream, io.TextIOBase):
        raise TypeError(f"path must be a path or a stream of bytes, and {name_of(stream)} is a "
                        f"stream of text: open it with mode '{use[0]}b', or give its .buffer")
    if getattr(stream, "closed", False) or not getattr(stream, able, lambda: True)():
        raise ValueError(f"{name_of(stream)} is not {able}: it is closed, or open for something "
                         f"else")


@contextmanager
def _copied_at_the_end(stream: IO[bytes]) -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile() as whole:
        yield whole
        whole.seek(0)
        shutil.copyfileobj(whole, stream, PIECE)
    with suppress(OSError, AttributeError):     # (not every stream has an end to set)
        stream.truncate()
    getattr(stream, "flush", lambda: None)()


@contextmanager
def _from_here(stream: IO[bytes]) -> Iterator[IO[bytes]]:
    if isinstance(stream, DIRECT) and stream.seekable():
        if stream.tell() == stream.seek(0, os.SEEK_END):
            raise ValueError(f"there is nothing left to read in {name_of(stream)}: seek(0) goes "
                             f"back to its start")
        yield stream
        return
    with tempfile.TemporaryFile() as whole:
        shutil.copyfileobj(stream, whole, PIECE)
        yield whole
