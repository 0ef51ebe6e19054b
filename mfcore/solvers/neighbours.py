"""Sparse items × items: the largest similarities of each row, and ridges on neighbours.

Rows are cut into blocks of equal work, Σ_u n_u over the users of a row, and each thread owns the
rows that it writes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from mfcore.data.canonical import index_type
from mfcore.kernels import neighbours as kernels
from mfcore.objectives.linear import Neighbourhoods
from mfcore.objectives.neighbours import Similarity
from mfcore.parallel import Pool
from mfcore.solvers.loop import Solver
from mfcore.validation import DivergenceError


@dataclass
class Lists:
    """The kept entries of each row: columns, ascending, and values (n_items, k); counts."""

    columns: np.ndarray
    values: np.ndarray
    counts: np.ndarray

    def copy(self) -> Lists:
        """Return these lists themselves: there is one epoch, and memory for one set of them."""
        return self

    def matrix(self) -> sp.csr_array:
        """Return the matrix of these rows."""
        n, k = self.columns.shape
        kept = np.arange(k) < self.counts[:, None]
        indptr = np.append(0, np.cumsum(self.counts)).astype(index_type(n * k))
        return sp.csr_array((self.values[kept], self.columns[kept].astype(indptr.dtype), indptr),
                            shape=(n, n))


def empty(n_items: int, n_neighbors: int, dtype: str) -> Lists:
    """Return room for the neighbours of all items, without any."""
    k = max(1, min(n_neighbors, n_items - 1))
    return Lists(np.zeros((n_items, k), np.int32), np.zeros((n_items, k), dtype),
                 np.zeros(n_items, np.int64))


def bytes_needed(n_items: int, n_neighbors: int, nnz: int, itemsize: int) -> int:
    """Return what lists and the matrix made of them, twice, take, and X in two more forms."""
    k = max(1, min(n_neighbors, n_items - 1))
    return n_items * k * 3 * (4 + itemsize) + nnz * (2 * 12 + 4 + itemsize)


def keep_nearest(given: Similarity, at: Lists, pool: Pool) -> None:
    """Write the largest entries of each row of T to `at`."""
    L, R = given.L, given.R
    work = np.add.reduceat(np.append(np.diff(R.indptr)[L.indices], 0), L.indptr[:-1]) \
        * (np.diff(L.indptr) > 0)
    cells = L.indptr, L.indices, L.data, R.indptr, R.indices, R.data
    pool.over_rows(lambda lo, hi: kernels.nearest_rows(
        *cells, given.a, given.b, given.shrink, at.columns, at.values, at.counts,
        lo, hi), np.append(0, np.cumsum(work)))


@dataclass(frozen=True)
class Nearest(Solver):
    """Keeps the largest similarities; it minimises nothing."""

    make: Callable[[], Similarity]

    def epoch(self, at: Lists, pool: Pool) -> float:
        """Fill the lists; return 0."""
        keep_nearest(self.make(), at, pool)
        return 0.0


@dataclass(frozen=True)
class LocalRidges(Solver):
    """Predicts each item from its nearest ones."""

    problem: Neighbourhoods

    def epoch(self, at: Lists, pool: Pool) -> float:
        """Find the neighbours and their weights; return the minimum."""
        problem = self.problem
        if at.columns.shape[1] >= len(at.counts) - 1:
            everything(at)
        else:
            keep_nearest(problem.nearness(), at, pool)
        columns, squares, penalties = problem.parts()
        losses = np.zeros(len(at.counts))
        of_items = np.diff(columns.indptr)
        kept = np.where(np.arange(at.columns.shape[1]) < at.counts[:, None], at.columns, -1)
        work = np.where(kept >= 0, of_items[kept], 0).sum(1) + at.counts ** 2
        del kept
        failed = pool.over_rows(lambda lo, hi: kernels.local_ridges(
            columns.indptr, columns.indices, columns.data, squares, penalties, columns.shape[1],
            at.columns, at.counts, at.values, losses, lo, hi), np.append(0, np.cumsum(work)))
        if max(failed, default=-1) >= 0:
            raise DivergenceError(f"the system of item {max(failed)} is not positive definite; "
                                  f"raise reg, or use dtype='float64'")
        return float(losses.sum())


def everything(at: Lists) -> None:
    """Make all other items the neighbours of each."""
    n = len(at.counts)
    others = np.arange(n - 1)
    at.columns[:, :n - 1] = others + (others >= np.arange(n)[:, None])
    at.counts[:] = n - 1


def times_sparse(X: sp.csr_array, S: sp.csr_array) -> np.ndarray:
    """Return X S, dense, each row as it is alone."""
    out = np.empty((X.shape[0], S.shape[1]), S.dtype)
    kernels.times_sparse(X.indptr, X.indices, X.data, S.indptr, S.indices, S.data, out)
    return out
