"""Columns of ratings out of parquet files, and of folders of them as Spark writes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mfcore import validation
from mfcore.data.columns import Columns, files_in
from mfcore.data.frames import ids_of, numbers_of, times_in
from mfcore.data.ids import Coded
from mfcore.data.layout import Reading, find_columns
from mfcore.data.textfile import PARQUET
from mfcore.data.words import refuse_words

SUFFIXES = (".parquet", ".pq")


def is_parquet(path: Path) -> bool:
    """Recognize a parquet file by its name or its first bytes, a folder by a file in it."""
    if path.is_dir():
        return bool(files_in(path, SUFFIXES))
    if path.suffix in SUFFIXES or not path.is_file():       # (a pipe keeps its bytes)
        return path.suffix in SUFFIXES
    with path.open("rb") as stream:
        return stream.read(len(PARQUET)) == PARQUET


def read(path: Path, reading: Reading) -> Columns:
    """Return the columns of a file, or of all files of a folder."""
    if not path.is_dir():
        validation.regular_file(path, "read from its end")
    with _parquet(path) as pq:
        data = pq.ParquetDataset(path)
        titles = _titles(path, reading, data.schema.names)
        table = data.read(columns=list(titles.values()))
    return _of_table(path.name, titles, table, reading)


def pieces(path: Path, reading: Reading, rows: int) -> Iterator[Columns]:
    """Yield the columns of a file in pieces of some rows."""
    with _parquet(path) as pq, \
            pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
        titles = _titles(path, reading, file.schema_arrow.names)
        for batch in file.iter_batches(rows, columns=list(titles.values()),
                                       use_threads=False):      # (each keeps memory)
            yield _of_table(path.name, titles, batch, reading)


def schema(path: Path) -> str:
    """Describe the columns of a file."""
    with _parquet(path) as pq:
        found = pq.read_schema(path)
    return ", ".join(f"{field.name} {field.type}" for field in found)


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
        raise ValueError(f"{path.name} is a damaged parquet file, or a folder of files whose "
                         f"columns differ: {error}") from None
    finally:
        pa.default_memory_pool().release_unused()


def _titles(path: Path, reading: Reading, names: Sequence[str]) -> dict[str, str]:
    places = find_columns(path.name, reading.asked, names, names)
    return {what: names[place] for what, place in places.items()}


def _of_table(name: str, titles: Mapping[str, str], table: Any, reading: Reading) -> Columns:
    if not table.num_rows:
        raise ValueError(f"{name} holds no ratings")
    return Columns.of(name, {what: _column(name, what, title, table.column(title), reading)
                             for what, title in titles.items()})


def _column(name: str, what: str, title: str, column: Any, reading: Reading) -> Any:
    if column.null_count:
        first = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
        raise ValueError(f"{name}: column {title!r} has {column.null_count} empty cells, the first "
                         f"in row {first}; drop or fill these rows first")
    name = f"{name}: column {title!r}"
    if what in ("user", "item"):
        return _ids(name, column, reading)
    if what == "timestamp":
        return times_in(name, column)
    values = np.asarray(column.to_numpy(zero_copy_only=False))
    return numbers_of(name, values).astype(np.float64)


def _ids(name: str, column: Any, reading: Reading) -> Any:
    """Return ids; text (of integers too, if so asked) as the numbers of distinct ones."""
    import pyarrow as pa

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if reading.text_ids and pa.types.is_integer(kind):
        column = column.cast(kind).cast(pa.string())
    elif not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return ids_of(name, column.to_numpy(zero_copy_only=False), reading.missing)
    codes = column.cast(pa.string()).dictionary_encode()
    codes = codes.combine_chunks() if isinstance(codes, pa.ChunkedArray) else codes
    found = Coded(np.asarray(codes.dictionary.to_numpy(zero_copy_only=False), object),
                  codes.indices.to_numpy().astype(np.int64))
    refuse_words(name, found.ids.tolist(), found.codes, reading.missing)
    return found
