"""Ratings out of files: csv, tsv, `::`, gzip and parquet, with one rating per line.

    read_ratings("ratings.csv")                                  # user, item, rating, ...
    read_ratings("plays.tsv.gz", user="listener", item="artist", rating="plays")
    read_ratings("clicks.txt", rating=None, duplicates="sum")    # two columns, each line 1

Columns are given by position, from 0, or by their name in the file's header.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mfcore import validation
from mfcore.data import frames, parquet
from mfcore.data.assembling import assembled
from mfcore.data.blocks import opened
from mfcore.data.canonical import Duplicates
from mfcore.data.columns import Columns, files_in
from mfcore.data.dataset import Dataset
from mfcore.data.dialect import LineError
from mfcore.data.layout import Reading
from mfcore.data.names import MISSING, Column
from mfcore.data.parsing import parse
from mfcore.data.ratings import Ratings
from mfcore.data.textfile import TextFile, load_text

FilePath = str | os.PathLike[str]
Frame = dict[str, Any]
Part = Path | Callable[[], Frame]
BLOCK_BYTES = 1 << 22            # of text, for each thread
# The most bytes of text, and rows of a parquet file, that are parsed at a time, and the bytes of
# memory that each of them takes meanwhile (measured, with what remains of the piece before).
TEXT_BYTES, ROWS = 1 << 25, 1 << 20
TEXT_COST, ROW_COST = 32, 300
_PARTS = (".csv", ".tsv", ".dat", ".txt", ".gz", ".parquet", ".pq")


def read_ratings(path: FilePath, *, user: Column = "user", item: Column = "item",
                 rating: Column = "rating", weight: Column = None, time_column: Column = None,
                 separator: str | None = None, header: bool | None = None,
                 duplicates: Duplicates = "error", encoding: str = "utf-8",
                 text_ids: bool = False, quoting: bool | int = True,
                 comment: str | None = None, skip_lines: int = 0,
                 missing: Sequence[str] = MISSING, n_threads: int | None = None,
                 verbose: int | None = None) -> Ratings:
    """Read a file with one rating per line.

    Parameters
    ----------
    path : str or path-like
        A text file or pipe (`/dev/stdin`), plain or gzipped, a parquet file, or a folder of
        parquet files as Spark writes it (parquet needs `mfcore[parquet]`).
    user, item, rating, weight : int, str or None
        Their columns: a position from 0, or a name in the header.  The defaults also find
        `userId`, `movie_id`, `score` and the like, and without a header, but only then, the
        first three columns.  `rating=None`: every line counts as 1.  `weight=None`: no
        weights.
    time_column : int, str or None
        The column of the times, in whole seconds (parquet: numbers, or dates and times);
        "timestamp" also finds `time`, `ts` and the like, and without a header the fourth column.
    separator : str or None
        "," ";" "|" a tab, "::", any other text, or " " for runs of spaces and tabs.  None: found
        from the first lines, or from a line `sep=;` above them.
    header : bool or None
        Whether the first line names the columns.  None: it does if columns are asked for
        by other names than the defaults, or if it has a name in place of a rating; with
        `rating=None` if it has a usual name of users or items, such as `userId`.
    duplicates : {"error", "last", "mean", "sum"}
        What to do with a repeated (user, item) pair.
    encoding : str
        Of the text: "utf-8", "latin-1", "utf-16", or any other that Python knows.
    text_ids : bool
        True keeps ids as they are written; False reads a column as integers if all of it is
        written as Python prints integers.  A column with +7, 007 or A1 is text.
    quoting : bool, or a constant of `csv`
        True: a field that begins with a double quote ends with one, and holds separators, line
        ends and doubled quotes.  False (`csv.QUOTE_NONE`): a quote is a character.
    comment : str or None
        How lines that are skipped begin; "" for none.  None: "#" or "%", if the first line
        begins so; then only lines at the top are skipped, and one further down is refused.
    skip_lines : int
        How many lines at the top are skipped in any case.
    missing : sequence of str
        How a missing id is written, in upper or lower case; such lines are refused, as are
        empty ids.  () takes these words for names.
    n_threads : int or None
        Threads that parse; None for all CPUs.  The result does not depend on it.
    verbose : int or None
        1 shows a progress bar, 0 none; None: at a terminal and in a notebook, after half a second.

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

    Notes
    -----
    The grammar is that of Python's `csv`; spaces and tabs around a field are no part of it.  A
    number is ASCII: a sign, digits with at most one point, an exponent.  Lines of more fields than
    the header, or than the first line, are refused.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from mfcore import read_ratings
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "plays.csv")
    ...     _ = path.write_text("listener,artist,plays\\nann,Bach,12\\nbob,Bach,3\\nbob,Ravel,1\\n")
    ...     read_ratings(path, user="listener", item="artist", rating="plays")
    Ratings(2 users × 2 items, 3 stored)
    """
    reading = Reading(user, item, rating, weight, separator, header, encoding, text_ids,
                      timestamp=time_column, quoting=quoting, comment=comment,
                      skip_lines=skip_lines, missing=missing)
    columns = read_columns(path, reading, n_threads, verbose)
    return Ratings.from_arrays(columns.users, columns.items, columns.values, columns.weights,
                               times=columns.timestamps, duplicates=duplicates)


def read_dataset(path: FilePath, *, timestamp: Column = "timestamp", **options: Any) -> Dataset:
    """Read ratings with their timestamps and line order.

    Parameters
    ----------
    path : str or path-like
    timestamp : int or str
        The column of the seconds, as in `read_ratings`; without a header the fourth.
    **options
        Those of `read_ratings`; but a repeated pair is always refused.
    """
    n_threads, verbose = options.pop("n_threads", None), options.pop("verbose", None)
    return dataset_of(read_columns(path, Reading(timestamp=timestamp, **options), n_threads,
                                   verbose))


def read_columns(source: FilePath | TextFile, reading: Reading | None = None,
                 n_threads: int | None = None, verbose: int | None = None) -> Columns:
    """Read the columns of a ratings file as arrays, one entry per line; see `read_ratings`."""
    reading = (reading or Reading()).checked()
    if not isinstance(source, TextFile):
        if parquet.is_parquet(path := validation.path("path", source)):
            return parquet.read(path, reading)
        source = load_text(source, reading.encoding)
    with _naming(source.name):
        layout, blocks = opened(source, reading, BLOCK_BYTES, verbose=verbose)
        return Columns.of(source.name, parse(blocks, layout, reading, n_threads))


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Put the name of the file before what is wrong with a line of it."""
    try:
        yield
    except LineError as error:
        raise ValueError(f"{name}, line {error.line}: {error.complaint}") from None


def dataset_of(columns: Columns) -> Dataset:
    """Build a Dataset, timestamps in the order of its ratings; ValueError for a repeated pair."""
    made = assembled(
        columns.users, columns.items, "error", values=columns.values, weights=columns.weights,
        times=columns.timestamps, file_order=np.arange(len(columns.users), dtype=np.int64))
    ratings = Ratings(made.matrix, **made.parts, copy=False)
    return Dataset(ratings, timestamps=ratings.moments and ratings.moments.seconds,
                   file_order=made.columns["file_order"])


# ------------------------------------------------------------- several files, in pieces


def parts_of(sources: Any) -> list[Part]:
    """Return the parts that are named, with the ratings files of a folder: see `files_in`.

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
    named = files_in(place, _PARTS) if place.is_dir() else [place]
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
    if parquet.is_parquet(path):
        return parquet.schema(path)
    with _naming(path.name):
        layout, _ = opened(load_text(path, reading.encoding), reading, 1 << 16)
    names = "no header" if layout.header is None else f"header {list(layout.header)}"
    return f"{names}, separator {layout.separator!r}"


def pieces(part: Part, reading: Reading, memory: int) -> Iterator[Columns]:
    """Yield the columns of a part in pieces, each parsed within `memory` bytes.

    The result of a function is one piece.
    """
    if callable(part):
        yield frames.columns_of(part(), reading.asked, reading.missing)
    elif parquet.is_parquet(part):
        yield from parquet.pieces(part, reading, min(ROWS, memory // ROW_COST))
    else:
        yield from _pieces_of_text(part, reading, min(TEXT_BYTES, memory // TEXT_COST))


def _pieces_of_text(path: Path, reading: Reading, most: int) -> Iterator[Columns]:
    with _naming(path.name):
        layout, blocks = opened(load_text(path, reading.encoding), reading, most, longest=most)
        for block in blocks:
            found = parse(iter([block]), layout, reading, n_threads=1)
            if len(found["user"]):
                yield Columns.of(path.name, found)
