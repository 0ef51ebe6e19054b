"""Ratings out of files: csv, tsv, `::`, gzip and parquet, with one rating per line.

    read_ratings("ratings.csv")                                  # user, item, rating, ...
    read_ratings("plays.tsv.gz", user="listener", item="artist", rating="plays")
    read_ratings("clicks.txt", rating=None, duplicates="sum")    # two columns, each line 1

Columns are given by position, from 0, or by their name in the file's header.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mfcore import validation
from mfcore.data.canonical import Duplicates
from mfcore.data.dataset import Dataset
from mfcore.data.layout import Column, Reading, find_columns, find_layout
from mfcore.data.parsing import parse
from mfcore.data.ratings import Ratings, assembled
from mfcore.data.textfile import GZIP, PARQUET, TextFile, load_text, pieces_of_gzip, text_of

FilePath = str | os.PathLike[str]
Frame = dict[str, Any]
Part = Path | Callable[[], Frame]
# The most bytes of text, and rows of a parquet file, that are parsed at a time, and the bytes of
# memory that each of them takes meanwhile (measured, with what remains of the piece before).
TEXT_BYTES, ROWS = 1 << 25, 1 << 20
TEXT_COST, ROW_COST = 12, 300
_PARTS = (".csv", ".tsv", ".dat", ".txt", ".gz", ".parquet", ".pq")


class Columns(NamedTuple):
    """Columns of a ratings file in the order of its lines; None if not asked for.

    Ids are int64 or objects (strings), values and weights float64, timestamps int64.
    """

    users: np.ndarray
    items: np.ndarray
    values: np.ndarray | None = None
    weights: np.ndarray | None = None
    timestamps: np.ndarray | None = None


def read_ratings(path: FilePath, *, user: Column = "user", item: Column = "item",
                 rating: Column = "rating", weight: Column = None,
                 separator: str | None = None, header: bool | None = None,
                 duplicates: Duplicates = "error", encoding: str = "utf-8",
                 text_ids: bool = False, n_threads: int | None = None) -> Ratings:
    """Read a file with one rating per line.

    Parameters
    ----------
    path : str or path-like
        A text file or pipe (`/dev/stdin`), plain or gzipped, or a parquet file (needs
        `mfcore[parquet]`).
    user, item, rating, weight : int, str or None
        Their columns: a position from 0, or a name in the header.  The defaults also find
        `userId`, `movie_id`, `score` and the like, and without a header, but only then, the
        first three columns.  `rating=None`: every line counts as 1.  `weight=None`: no
        weights.
    separator : str or None
        "," ";" "|" a tab, "::", any other text, or " " for runs of spaces and tabs; quotes
        protect a single character.  None: found from the first lines.
    header : bool or None
        Whether the first line names the columns.  None: it does if columns are asked for
        by other names than the defaults, or if it has a name in place of a rating; with
        `rating=None` if it has a usual name of users or items, such as `userId`.
    duplicates : {"error", "last", "mean", "sum"}
        What to do with a repeated (user, item) pair.
    encoding : str
        Of the text.
    text_ids : bool
        True keeps ids as they are written ("007"); False reads a column of whole numbers
        as integers.
    n_threads : int or None
        Threads that parse; None for all CPUs.  The result does not depend on it.

    Returns
    -------
    ratings : Ratings
        Ids sorted; rows and columns only for users and items in the file.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
    ImportError
        A parquet file without pyarrow.
    ValueError
        Not a ratings file: the message names the line and shows what it says.
    """
    reading = Reading(user, item, rating, weight, separator, header, encoding, text_ids)
    columns = read_columns(path, reading, n_threads)
    return Ratings.from_arrays(columns.users, columns.items, columns.values, columns.weights,
                               duplicates=duplicates)


def read_columns(source: FilePath | TextFile, reading: Reading | None = None,
                 n_threads: int | None = None) -> Columns:
    """Read the columns of a ratings file as arrays, one entry per line; see `read_ratings`."""
    reading = reading or Reading()
    if not isinstance(source, TextFile):
        if is_parquet(path := validation.path("path", source)):
            return _of_parquet(path, reading)
        source = load_text(source, reading.encoding)
    return _of_text(source, reading, source.first_lines(), n_threads)


def _of_text(source: TextFile, reading: Reading, head: list[str], n_threads: int | None,
             first: bool = True) -> Columns:
    """Parse a file, or a piece of one, whose first lines are `head`."""
    layout = find_layout(source.name, head, reading)
    layout = layout if first else replace(layout, header=None)
    return _columns(parse(source, layout, text_ids=reading.text_ids, n_threads=n_threads))


def _columns(found: Mapping[str, np.ndarray]) -> Columns:
    return Columns(found["user"], found["item"], found.get("rating"), found.get("weight"),
                   found.get("timestamp"))


def dataset_of(columns: Columns) -> Dataset:
    """Build a Dataset, timestamps in the order of its ratings; ValueError for a repeated pair."""
    ratings, cells = assembled(
        columns.users, columns.items, "error", values=columns.values, weights=columns.weights,
        timestamps=columns.timestamps, file_order=np.arange(len(columns.users), dtype=np.int64))
    return Dataset(ratings, timestamps=cells.get("timestamps"), file_order=cells["file_order"])


# ------------------------------------------------------------- several files, in pieces


def parts_of(sources: Any) -> list[Part]:
    """Return the parts that are named, with the ratings files of a folder in order of names.

    Raises FileNotFoundError for a missing file (or a link to one), ValueError for a pipe or
    device, a folder without parts, or if there is no part at all.
    """
    given = [sources] if isinstance(sources, (str, os.PathLike)) else sources
    found = [part for each in given for part in ([each] if callable(each) else
                                                 _files_of(Path(each)))]
    if not found:
        raise ValueError("sources must name at least one part, got none")
    return found


def _files_of(place: Path) -> list[Path]:
    named = [place] if not place.is_dir() else sorted(
        path for path in place.iterdir() if path.suffix in _PARTS and not path.is_dir())
    if not named:
        raise ValueError(f"{place} holds no parts: no {', '.join(_PARTS)} file")
    return [validation.regular_file(path, "read several times") for path in named]


def check_parts(parts: Sequence[Part], reading: Reading) -> None:
    """Raise a ValueError that names a file whose columns differ from those of the first."""
    schemas = [(part, _schema(part, reading)) for part in parts if isinstance(part, Path)]
    for path, schema in schemas:
        if schema != schemas[0][1]:
            raise ValueError(f"all parts must have the same columns: {path} has {schema}, and "
                             f"{schemas[0][0]} has {schemas[0][1]}; convert them apart, or mend it")


def _schema(path: Path, reading: Reading) -> str:
    if is_parquet(path):
        with _parquet(path) as pq:
            schema = pq.read_schema(path)
        return ", ".join(f"{field.name} {field.type}" for field in schema)
    start = _start_of(path, 1 << 16)
    source = text_of(path.name, start[:start.rfind(b"\n") + 1] or start, reading.encoding)
    layout = find_layout(source.name, source.first_lines(), reading)
    names = "no header" if layout.header is None else f"header {list(layout.header)}"
    return f"{names}, separator {layout.separator!r}"


def _start_of(path: Path, size: int) -> bytes:
    """Return the first bytes of a text file, unpacked."""
    with path.open("rb") as stream:
        if is_gzip(path):
            return next(pieces_of_gzip(path.name, stream, path.stat().st_size), b"")[:size]
        return stream.read(size)


def pieces(part: Part, reading: Reading, scratch: Path, memory: int) -> Iterator[Columns]:
    """Yield the columns of a part in pieces, each parsed within `memory` bytes.

    The result of a function is one piece.
    """
    most = min(TEXT_BYTES, memory // TEXT_COST)
    if callable(part):
        yield _of_frame(part(), reading)
    elif is_parquet(part):
        yield from _pieces_of_parquet(part, reading, min(ROWS, memory // ROW_COST))
    elif is_gzip(part):
        plain = scratch / "unpacked"
        with part.open("rb") as packed, plain.open("wb") as stream:
            stream.writelines(pieces_of_gzip(part.name, packed, part.stat().st_size))
        yield from _pieces_of_text(plain, part.name, reading, most)
        plain.unlink()
    else:
        yield from _pieces_of_text(part, part.name, reading, most)


def _pieces_of_text(path: Path, name: str, reading: Reading, most: int) -> Iterator[Columns]:
    if path.stat().st_size <= most:
        whole = text_of(name, np.fromfile(path, np.uint8), reading.encoding)
        yield _of_text(whole, reading, whole.first_lines(), 1)
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
        yield _of_text(piece, reading, head, 1, first=start == 0)
        start = stop


def _of_frame(frame: Frame, reading: Reading) -> Columns:
    users, items, values, weights = (
        None if name is None or name not in frame else np.asarray(frame[name])
        for name in (reading.user, reading.item, reading.rating, reading.weight))
    if users is None or items is None:
        raise KeyError(f"a part must have columns {reading.user!r} and {reading.item!r}, got "
                       f"{sorted(frame)}")
    for name, array in (("rating", values), ("weight", weights)):
        if array is not None:
            validation.finite(name, validation.vector(name, array, len(users)))
    return Columns(users, items, values, weights)


# ------------------------------------------------------------------------------- parquet


def is_parquet(path: Path) -> bool:
    """Recognize a parquet file by its name or its first bytes."""
    return path.suffix in (".parquet", ".pq") or _begins(path, PARQUET)


def is_gzip(path: Path) -> bool:
    """Recognize a gzipped file by its first bytes."""
    return _begins(path, GZIP)


def _begins(path: Path, first: bytes) -> bool:
    """Return whether a regular file begins with these bytes; a pipe keeps them."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(first)) == first


def _of_parquet(path: Path, reading: Reading) -> Columns:
    validation.regular_file(path, "read from its end")
    with _parquet(path) as pq:
        titles = _titles(path, reading, pq.read_schema(path).names)
        table = pq.read_table(path, columns=list(titles.values()))
    return _of_table(path.name, titles, table)


def _pieces_of_parquet(path: Path, reading: Reading, rows: int) -> Iterator[Columns]:
    with _parquet(path) as pq, \
            pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
        titles = _titles(path, reading, file.schema_arrow.names)
        for batch in file.iter_batches(rows, columns=list(titles.values()),
                                       use_threads=False):      # (each keeps memory)
            yield _of_table(path.name, titles, batch)


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    """Give pyarrow's reader of parquet, or say how to get it; name a file that it refuses."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ImportError(f"reading {path.name} needs pyarrow: "
                          f"pip install 'mfcore[parquet]'") from None
    try:
        yield pq
    except pa.ArrowException as error:
        raise ValueError(f"{path.name} is a damaged parquet file: {error}") from None
    finally:
        pa.default_memory_pool().release_unused()


def _titles(path: Path, reading: Reading, names: Sequence[str]) -> dict[str, str]:
    places = find_columns(path.name, reading.asked, names, names)
    return {what: names[place] for what, place in places.items()}


def _of_table(name: str, titles: Mapping[str, str], table: Any) -> Columns:
    return _columns({what: _arrow_column(name, what, title, table.column(title))
                     for what, title in titles.items()})


def _arrow_column(name: str, what: str, title: str, column: Any) -> np.ndarray:
    if len(column) == 0:
        raise ValueError(f"{name} holds no ratings")
    if column.null_count:
        raise ValueError(f"{name}: column {title!r} has {column.null_count} empty cells; "
                         f"drop or fill these rows first")
    values = np.asarray(column.to_numpy(zero_copy_only=False))
    if what in ("user", "item"):
        return values
    if values.dtype.kind == "M":
        return values.astype("datetime64[s]").astype(np.int64)
    values = validation.finite(f"{name}: column {title!r}", validation.numeric(title, values))
    return values.astype(np.int64 if what == "timestamp" else np.float64)
