"""Rows of a table written in parts, which then become one file: csv, parquet or npy.

Each part is appended to files in a folder of the work, and is there for good once a journal has
noted it (journal.py).  At the end they are copied into the file that was asked for.
"""

from __future__ import annotations

import csv
import gzip
import shutil
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, NamedTuple

import numpy as np

from mfcore import validation
from mfcore.atomic import named
from mfcore.data.journal import append

PIECE = 1 << 22
END = "\r\n"      # of lines as they are made: the writer quotes text with either in it
Columns = Mapping[str, np.ndarray]


class Format(NamedTuple):
    """How parts are appended to a folder, and how they become a file.

    append(folder, number, columns, kinds) writes the part that begins with a row of that number
    finish(folder, stream, kinds) copies all of them into an open file
    typed : whether a column has one type
    keeps_zeros : whether text may end in zero characters
    """

    append: Callable[[Path, int, Columns, Mapping[str, np.dtype]], None]
    finish: Callable[[Path, IO[bytes], Mapping[str, np.dtype]], None]
    typed: bool = True
    keeps_zeros: bool = True


def format_of(path: Path) -> Format:
    """Return the format that the suffix of a name asks for.

    Raises ValueError for another suffix, ImportError for parquet without pyarrow.
    """
    for suffix, found in FORMATS.items():
        if path.name.lower().endswith(suffix):
            if suffix == ".parquet" and find_spec("pyarrow") is None:
                raise ImportError(f"writing {path.name} needs pyarrow: pip install "
                                  f"'mfcore[parquet]'")
            return found
    raise ValueError(f"{path} must end in {', '.join(FORMATS)}, which says what to write"
                     f"{validation.meant(path.suffix, FORMATS)}")


# ---------------------------------------------------------------------------- csv

def _csv_lines(columns: Columns, head: bool) -> bytes:
    lines: list[str] = []
    writer = csv.writer(SimpleNamespace(write=lines.append), lineterminator=END)
    if head:
        writer.writerow(columns)
    writer.writerows(zip(*(values.astype(str).tolist() if values.dtype.kind == "f" else
                           values.tolist() for values in columns.values()), strict=True))
    return "".join(f"{line.removesuffix(END)}\n" for line in lines).encode()


def _append_csv(folder: Path, number: int, columns: Columns, kinds: Any) -> None:
    append(folder / "rows", _csv_lines(columns, number == 0))


def _append_gzip(folder: Path, number: int, columns: Columns, kinds: Any) -> None:
    append(folder / "rows", gzip.compress(_csv_lines(columns, number == 0), 6, mtime=0))


def _copy(folder: Path, stream: IO[bytes], kinds: Any) -> None:
    path = folder / "rows"
    if path.exists():
        with path.open("rb") as rows:
            shutil.copyfileobj(rows, stream, PIECE)


# ---------------------------------------------------------------------------- npy

def _append_npy(folder: Path, number: int, columns: Columns, kinds: Mapping[str, np.dtype]
                ) -> None:
    rows = np.empty(len(columns["score"]), [*kinds.items()])
    for name, values in columns.items():
        rows[name] = ["" if value is None else value for value in values.tolist()] \
            if values.dtype == object else values
    append(folder / "rows", rows.tobytes())


def _finish_npy(folder: Path, stream: IO[bytes], kinds: Mapping[str, np.dtype]) -> None:
    path, kind = folder / "rows", np.dtype([*kinds.items()])
    size = path.stat().st_size if path.exists() else 0
    np.lib.format.write_array_header_1_0(stream, {
        "descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False,
        "shape": (size // kind.itemsize,)})
    _copy(folder, stream, kinds)


# ------------------------------------------------------------------------ parquet

def _schema(kinds: Mapping[str, np.dtype]) -> Any:
    import pyarrow

    return pyarrow.schema([(name, pyarrow.string() if kind.kind == "U" else
                            pyarrow.from_numpy_dtype(kind)) for name, kind in kinds.items()])


def _append_parquet(folder: Path, number: int, columns: Columns, kinds: Mapping[str, np.dtype]
                    ) -> None:
    import pyarrow
    from pyarrow import parquet

    schema = _schema(kinds)
    arrays = [pyarrow.array(values.tolist() if values.dtype == object else values,
                            schema.field(name).type) for name, values in columns.items()]
    path = folder / f"{number:012d}.parquet"
    with named(path):
        parquet.write_table(pyarrow.table(arrays, schema=schema), path)


def _finish_parquet(folder: Path, stream: IO[bytes], kinds: Mapping[str, np.dtype]) -> None:
    from pyarrow import parquet

    with parquet.ParquetWriter(stream, _schema(kinds)) as writer:
        for part in sorted(folder.glob("*.parquet")):
            writer.write_table(parquet.read_table(part))


FORMATS = {".csv": Format(_append_csv, _copy, False), ".csv.gz": Format(_append_gzip, _copy, False),
           ".npy": Format(_append_npy, _finish_npy, keeps_zeros=False),
           ".parquet": Format(_append_parquet, _finish_parquet)}
