"""Numbers of rows: what a batch is to tables, sorted once for all layers that read it.

A batch of cells names popular rows again and again.  Layers that compute once for each row
that occurs need the distinct rows, and where among them each cell finds its own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mfcore.kernels import nn_rows as kernels
from mfcore.nn.parameters import sorting


class Distinct(NamedTuple):
    """The rows that a column names.

    rows : ndarray, shape (d,), ascending, without −1; counts : how often each is named
    place : ndarray, shape (n,), of each cell's row in `rows`; −1 where it names nobody
    least : the smallest number, 0 where there is none
    """

    rows: np.ndarray
    counts: np.ndarray
    place: np.ndarray
    least: int


class RowNumbers:
    """Numbers of rows, shape (n, n_columns): one column for each side of a pair.

    Parameters
    ----------
    x : ndarray of int, shape (n, n_columns)
        −1 is nobody.
    """

    def __init__(self, x: np.ndarray) -> None:
        self.x = x
        self._columns: dict[int, np.ndarray] = {}
        self._distinct: dict[int, Distinct] = {}

    def __len__(self) -> int:
        return len(self.x)

    def column(self, number: int) -> np.ndarray:
        """Return a column, contiguous."""
        if number not in self._columns:
            self._columns[number] = np.ascontiguousarray(self.x[:, number])
        return self._columns[number]

    def distinct(self, number: int) -> Distinct:
        """Return the distinct rows of a column."""
        if number not in self._distinct:
            self._distinct[number] = _distinct(self.column(number))
        return self._distinct[number]


def _distinct(rows: np.ndarray) -> Distinct:
    order = sorting(rows)
    place, found = np.full(len(rows), -1), np.empty(len(order), rows.dtype)
    counts = np.empty(len(order), np.int64)
    n = kernels.number_rows(rows, order, found, counts, place)
    return Distinct(found[:n], counts[:n], place, int(rows.min(initial=0)))


def numbered(x: np.ndarray | RowNumbers) -> RowNumbers:
    """Return x, or an array as it."""
    return x if isinstance(x, RowNumbers) else RowNumbers(x)
