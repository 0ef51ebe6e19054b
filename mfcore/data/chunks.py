"""Arrays as long as the ratings: computed in chunks, and kept on disk if the ratings are.

Ratings that are mapped from a folder may be larger than memory.  So nothing that grows with
them is made in one piece: sums and arrays are computed over chunks of `CELLS` cells, and a new
array is a file if the ratings are files.
"""

from __future__ import annotations

import mmap
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mfcore import validation
from mfcore.npy import mapped
from mfcore.parallel import row_chunks

CELLS = 1 << 22         # computed or copied at a time
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def summed(values: Callable[[slice], float], size: int) -> float:
    """Return Σ values(chunk) over chunks of cells, in order, in float64."""
    return float(sum(values(slice(start, stop)) for start, stop in row_chunks(size, CELLS)))


def column_counts(indices: np.ndarray, n_columns: int) -> np.ndarray:
    """Return how many cells each column has, int64, shape (n_columns,)."""
    counts = np.zeros(n_columns, np.int64)
    for start, stop in row_chunks(len(indices), CELLS):
        counts += np.bincount(indices[start:stop], minlength=n_columns)
    return counts


def rows_of_cells(indptr: np.ndarray, chunk: slice) -> np.ndarray:
    """Return the row number of each cell in a chunk of CSR cells."""
    first = int(np.searchsorted(indptr, chunk.start, "right")) - 1
    last = int(np.searchsorted(indptr, chunk.stop, "left"))
    counts = np.diff(np.clip(indptr[first:last + 1], chunk.start, chunk.stop))
    return np.repeat(np.arange(first, last), counts)


class Columns(NamedTuple):
    """The stored columns of some rows, as in CSR: those of row t ascend in
    indices[indptr[t]:indptr[t + 1]]."""

    indptr: np.ndarray
    indices: np.ndarray


def cells_of_rows(indptr: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pointers of some rows of a CSR, and the places of their cells in it.

    -1 stands for a row without cells.
    """
    starts = indptr[rows]
    counts = np.where(rows < 0, 0, indptr[rows + 1] - starts)
    pointers = np.zeros(len(rows) + 1, indptr.dtype)
    np.cumsum(counts, out=pointers[1:])
    return pointers, np.arange(pointers[-1]) + np.repeat(starts - pointers[:-1], counts)


def columns_of_rows(indptr: np.ndarray, indices: np.ndarray, rows: np.ndarray) -> Columns:
    """Return the columns of some rows of a CSR; -1 stands for a row without cells."""
    pointers, places = cells_of_rows(indptr, rows)
    return Columns(pointers, indices[places])


def filled_beside(array: np.ndarray, values: Callable[[slice], np.ndarray], size: int,
                  dtype: Any) -> np.ndarray:
    """Return `values(slice(0, size))`, computed in chunks; placed as by `empty_beside`."""
    out = empty_beside(array, size, dtype)
    for start, stop in row_chunks(size, CELLS):
        out[start:stop] = values(slice(start, stop))
    return out


def empty_beside(array: np.ndarray, shape: int | tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return a new array: in memory, or if `array` is mapped, in a file without a name."""
    if not is_mapped(array) or 0 in np.atleast_1d(shape):
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile(dir=os.environ.get("MFCORE_SCRATCH")) as stream:
        return np.asarray(np.memmap(stream, dtype, "w+", shape=shape))


def is_mapped(array: np.ndarray) -> bool:
    """Return whether an array is part of a file that is mapped into memory."""
    base: Any = array
    while base is not None:
        if isinstance(base, np.memmap):
            return True
        base = getattr(base, "base", None)
    return False


class Mapped(np.memmap):
    """An array that is a file, which another process maps instead of copying it."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle the name of the file; for a part of the array, its numbers."""
        whole = self.base if isinstance(self.base, Mapped) else self
        if isinstance(whole.base, mmap.mmap) and whole.ctypes.data == self.ctypes.data and \
                (whole.shape, whole.strides) == (self.shape, self.strides):
            return _open_mapped, (str(self.filename), "r")
        return np.asarray(self).__reduce_ex__(protocol)

    @classmethod
    def new(cls, path: Path, shape: tuple[int, int], dtype: Any) -> Mapped:
        """Make a .npy file of zeros, and map it for writing."""
        np.lib.format.open_memmap(path, "w+", dtype, shape)
        return _open_mapped(str(path.resolve()), "r+")


def _open_mapped(path: str, mode: Any) -> Mapped:
    head: Any = mapped(path, mode)
    return Mapped(path, head.dtype, mode, head.offset, head.shape)


def byte_count(name: str, size: Any) -> int:
    """Return the bytes that "256MB", "2 GB" or a whole number stand for.

    Raises ValueError, or TypeError for what is neither text nor a whole number.
    """
    if not isinstance(size, str):
        return validation.integer(name, size, low=1)
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([kmgt]?)b?", size.strip().lower())
    if found is None:
        raise ValueError(f"{name} must be a size such as 2GB or 512MB, got {size!r}")
    return int(float(found[1]) * UNITS[found[2]])
