"""Ratings out of files: csv, tsv, `::`, gzip and parquet, laid out one rating a line.

    read_ratings("ratings.csv")                                  # user, item, rating, ...
    read_ratings("plays.tsv.gz", user="listener", item="artist", rating="plays")
    read_ratings("clicks.txt", rating=None, duplicates="sum")    # two columns, each line 1

Columns are named by position, from 0, or by the file's header.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.canonical import Duplicates, merge
from mfcore.data.dataset import Dataset
from mfcore.data.ids import factorize
from mfcore.data.layout import Column, find_columns, find_layout
from mfcore.data.parsing import parse
from mfcore.data.ratings import Ratings
from mfcore.data.textfile import TextFile, load_text

FilePath = str | os.PathLike[str]


class Columns(NamedTuple):
    """Columns of a ratings file in the order of its lines; None where not asked for."""

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
    """Read a file with one rating a line.

    Parameters
    ----------
    path : str or path-like
        A text file, plain or gzipped, or a parquet file (needs `mfcore[parquet]`).
    user, item, rating, weight : int, str or None
        Where they stand: a position from 0, or a name of the header.  The defaults also
        find `userId`, `movie_id`, `score` and the like, and without a header, but only
        then, the first three columns.  `rating=None`: every line counts as 1.
        `weight=None`: no weights.
    separator : str or None
        "," ";" "|" a tab, "::", any other text, or " " for runs of spaces and tabs; quotes
        protect a single character.  None: found from the first lines.
    header : bool or None
        Whether the first line names the columns.  None: it does if columns are asked for
        by other names than the defaults, or if a name stands where the rating should;
        with `rating=None` if it has a usual name of users or items, such as `userId`.
    duplicates : {"error", "last", "mean", "sum"}
        What to do with a (user, item) pair that comes again.
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
        Ids sorted, rows and columns only for users and items that the file names.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
    ImportError
        A parquet file without pyarrow.
    ValueError
        Not a ratings file: the message names the line and shows what stands there.
    """
    columns = read_columns(path, user=user, item=item, rating=rating, weight=weight,
                           separator=separator, header=header, encoding=encoding,
                           text_ids=text_ids, n_threads=n_threads)
    return Ratings.from_arrays(columns.users, columns.items, columns.values, columns.weights,
                               duplicates=duplicates)


def read_dataset(path: FilePath, *, timestamp: Column = "timestamp", user: Column = "user",
                 item: Column = "item", rating: Column = "rating",
                 separator: str | None = None, header: bool | None = None,
                 encoding: str = "utf-8", text_ids: bool = False,
                 n_threads: int | None = None) -> Dataset:
    """Read ratings with their timestamps and line order; see `read_ratings`.

    Parameters
    ----------
    timestamp : int, str or None
        Where the seconds stand; without a header the fourth column.
    """
    return dataset_of(read_columns(
        path, user=user, item=item, rating=rating, timestamp=timestamp, separator=separator,
        header=header, encoding=encoding, text_ids=text_ids, n_threads=n_threads))


def read_columns(path: FilePath | TextFile, *, user: Column = "user", item: Column = "item",
                 rating: Column = "rating", weight: Column = None, timestamp: Column = None,
                 separator: str | None = None, header: bool | None = None,
                 encoding: str = "utf-8", text_ids: bool = False,
                 n_threads: int | None = None) -> Columns:
    """Read the columns of a ratings file as arrays, one entry a line; see `read_ratings`.

    Returns
    -------
    columns : Columns
        Ids int64 or strings in object arrays, values and weights float64, timestamps int64.
    """
    wanted = {"user": user, "item": item, "rating": rating, "weight": weight,
              "timestamp": timestamp}
    for name in "user", "item":
        if wanted[name] is None:
            raise ValueError(f"{name} must name a column or a position, got None")
    if not isinstance(path, TextFile) and is_parquet(validation.path("path", path)):
        found = _parse_parquet(Path(path), wanted)
    else:
        source = path if isinstance(path, TextFile) else load_text(path, encoding)
        layout = find_layout(source.name, source.first_lines(), wanted,
                             separator=separator, header=header)
        found = parse(source, layout, text_ids=text_ids, n_threads=n_threads)
    return Columns(found["user"], found["item"], found.get("rating"), found.get("weight"),
                   found.get("timestamp"))


def dataset_of(columns: Columns) -> Dataset:
    """Build ratings, and bring what goes with each line into their order.

    Raises
    ------
    ValueError
        A (user, item) pair that comes twice.
    """
    user_ids, rows = factorize("users", columns.users)
    item_ids, places = factorize("items", columns.items)
    values, weights, timestamps = columns[2:]
    given = {"values": np.ones(len(rows), np.float32) if values is None else values,
             "weights": weights, "timestamps": timestamps,
             "file_order": np.arange(len(rows), dtype=np.int64)}
    shape = (len(user_ids), len(item_ids))
    indptr, places, cells = merge(rows, places, shape, {
        name: array for name, array in given.items() if array is not None}, "error")
    ratings = Ratings(sp.csr_array((cells["values"], places, indptr), shape=shape),
                      weights=cells.get("weights"), user_ids=user_ids, item_ids=item_ids,
                      copy=False)
    return Dataset(ratings, timestamps=cells.get("timestamps"), file_order=cells["file_order"])


# ------------------------------------------------------------------------------- parquet


def is_parquet(path: Path) -> bool:
    if path.suffix in (".parquet", ".pq"):
        return True
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(4) == b"PAR1"


def arrow_columns(path: Path, wanted: Mapping[str, Column], rows: int) -> Iterator[Columns]:
    """Yield the columns of a parquet file, so many rows at a time; see `read_columns`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
        names = tuple(file.schema_arrow.names)
        asked = {what: column for what, column in wanted.items() if column is not None}
        places = find_columns(path.name, asked, names, names)
        for batch in file.iter_batches(rows, columns=[names[p] for p in places.values()],
                                       use_threads=False):      # (each keeps memory)
            found = {what: _arrow_column(path.name, what, names[place], batch.column(names[place]))
                     for what, place in places.items()}
            yield Columns(found["user"], found["item"], found.get("rating"),
                          found.get("weight"), None)
    pa.default_memory_pool().release_unused()


def _parse_parquet(path: Path, wanted: Mapping[str, Column]) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ImportError(f"reading {path.name} needs pyarrow: "
                          f"pip install 'mfcore[parquet]'") from None
    try:
        names = tuple(pq.read_schema(path).names)
        asked = {what: column for what, column in wanted.items() if column is not None}
        places = find_columns(path.name, asked, names, names)
        table = pq.read_table(path, columns=[names[place] for place in places.values()])
    except pa.ArrowException as error:
        raise ValueError(f"{path.name} is a damaged parquet file: {error}") from None
    return {what: _arrow_column(path.name, what, names[place], table.column(names[place]))
            for what, place in places.items()}


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
