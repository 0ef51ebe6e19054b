"""Ratings in several files, read a piece at a time; and whether the files belong together."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mfcore import validation
from mfcore.data.layout import Column, find_layout
from mfcore.data.packed import pieces_of_gzip
from mfcore.data.parsing import parse
from mfcore.data.readers import Columns, arrow_columns, is_parquet
from mfcore.data.textfile import TextFile, load_text, text_of

Frame = dict[str, Any]
Source = Path | Callable[[], Frame]
# Bytes of text, and rows of a parquet file, that are parsed at a time, at most; and what one of
# them takes in memory meanwhile (measured, with what stays of the one before).
TEXT_BYTES, ROWS = 1 << 25, 1 << 20
TEXT_COST, ROW_COST = 12, 300
_PARTS = (".csv", ".tsv", ".dat", ".txt", ".gz", ".parquet", ".pq")


class Reading(NamedTuple):
    """Which columns to read; as for `read_ratings`."""

    user: Column = "user"
    item: Column = "item"
    rating: Column = "rating"
    weight: Column = None
    separator: str | None = None
    header: bool | None = None
    encoding: str = "utf-8"
    text_ids: bool = False

    @property
    def wanted(self) -> dict[str, Column]:
        """The column of each meaning."""
        return {"user": self.user, "item": self.item, "rating": self.rating,
                "weight": self.weight, "timestamp": None}


def parts_of(given: Any) -> list[Path]:
    """Return the files that are named, with the ratings files of a folder in order of names.

    Raises FileNotFoundError for what is not there, ValueError for a folder without parts.
    """
    places = [Path(each) for each in ([given] if isinstance(given, (str, Path)) else given)]
    found: list[Path] = []
    for place in places:
        if not place.exists():
            raise FileNotFoundError(f"there is no file {place}")
        inside = [place] if place.is_file() else sorted(
            path for path in place.iterdir() if path.suffix in _PARTS and path.is_file())
        if not inside:
            raise ValueError(f"{place} holds no parts: no {', '.join(_PARTS)} file")
        found += inside
    return found


def check_parts(paths: Sequence[Path], reading: Reading) -> None:
    """Raise ValueError, naming the file, for a part with other columns than the first."""
    schemas = [_schema(path, reading) for path in paths]
    for path, schema in zip(paths, schemas, strict=True):
        if schema != schemas[0]:
            raise ValueError(f"all parts must have the same columns: {path} has {schema}, and "
                             f"{paths[0]} has {schemas[0]}; convert them apart, or mend it")


def _schema(path: Path, reading: Reading) -> str:
    if is_parquet(path):
        import pyarrow.parquet as pq

        return ", ".join(f"{field.name} {field.type}" for field in pq.read_schema(path))
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        start = stream.read(1 << 16)
    source = text_of(path.name, start[:start.rfind(b"\n") + 1] or start, reading.encoding)
    layout = find_layout(source.name, source.first_lines(), reading.wanted,
                         separator=reading.separator, header=reading.header)
    names = "no header" if layout.header is None else f"header {list(layout.header)}"
    return f"{names}, separator {layout.separator!r}"


def pieces(source: Source, reading: Reading, scratch: Path, memory: int) -> Iterator[Columns]:
    """Yield the columns of a part, a piece at a time; text stays where it is on disk.

    Pieces are parsed within `memory` bytes; what a function returns is one piece.
    """
    most = min(TEXT_BYTES, memory // TEXT_COST)
    if callable(source):
        yield _of_frame(source(), reading)
    elif is_parquet(source):
        yield from arrow_columns(source, reading.wanted, min(ROWS, memory // ROW_COST))
    elif source.suffix == ".gz":
        plain = scratch / "unpacked"
        with source.open("rb") as packed, plain.open("wb") as stream:
            stream.writelines(pieces_of_gzip(source.name, packed, source.stat().st_size))
        yield from _pieces_of_text(plain, source.name, reading, most)
        plain.unlink()
    else:
        yield from _pieces_of_text(source, source.name, reading, most)


def _pieces_of_text(path: Path, name: str, reading: Reading, most: int) -> Iterator[Columns]:
    if path.stat().st_size <= most:
        whole = load_text(path, reading.encoding)
        yield _parsed(TextFile(name, whole.data, whole.encoding), reading, whole.first_lines())
        return
    data = np.memmap(path, np.uint8, "r")
    head = text_of(name, data[:1 << 16].tobytes(), reading.encoding).first_lines()[:-1]
    start = 0
    while start < data.size:
        stop = min(start + most, data.size)
        if stop < data.size:
            stop = start + data[start:stop].tobytes().rfind(b"\n") + 1
        if stop <= start:
            raise ValueError(f"{name} has a line of more than {most} bytes")
        piece = text_of(f"{name} (lines counted from byte {start})", data[start:stop].tobytes(),
                        reading.encoding)
        yield _parsed(piece, reading, head, first=start == 0)
        start = stop


def _parsed(source: TextFile, reading: Reading, head: list[str], first: bool = True) -> Columns:
    layout = find_layout(source.name, head, reading.wanted, separator=reading.separator,
                         header=reading.header)
    layout = layout if first else replace(layout, header=None)
    found = parse(source, layout, text_ids=reading.text_ids, n_threads=1)
    return Columns(found["user"], found["item"], found.get("rating"), found.get("weight"), None)


def _of_frame(frame: Frame, reading: Reading) -> Columns:
    taken = [None if name is None or name not in frame else np.asarray(frame[name])
             for name in (reading.user, reading.item, reading.rating, reading.weight)]
    users, items, values, weights = taken
    if users is None or items is None:
        raise KeyError(f"a part must have columns {reading.user!r} and {reading.item!r}, got "
                       f"{sorted(frame)}")
    for name, array in (("rating", values), ("weight", weights)):
        if array is not None:
            validation.finite(name, validation.vector(name, array, len(users)))
    return Columns(users, items, values, weights, None)
