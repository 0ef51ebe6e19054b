"""Equal-cost chunks on a thread pool, with results that do not depend on the number of threads.

Chunk boundaries are a function of the data alone, each chunk writes only its own rows,
and partial sums are added in chunk order.  So 1, 2 and 8 threads give the same bits.

The bits that BLAS gives depend on its own number of threads.  So one guard for the whole
process holds BLAS at one thread while any of our work runs, and restores its threads when the
last work ends; large products are cut into fixed tiles that run on our pool.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import scipy.linalg  # noqa: F401  (kernels call its BLAS, which the guard must find loaded)
from threadpoolctl import ThreadpoolController

from mfcore import validation

Result = TypeVar("Result")

# The fewest cells in a chunk of CSR rows, and the most chunks in a sweep.
CHUNK_CELLS, MAX_CHUNKS = 8_000, 256
# Rows of a Gram are summed in chunks of this size, in order, in float64.
GRAM_ROWS = 2048


def thread_count(n_threads: int | None) -> int:
    """Return the number of threads to use; None means the CPUs this process may use."""
    if n_threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") \
            else os.cpu_count() or 1
    return validation.integer("n_threads", n_threads, low=1, high=4096)


class _BlasGuard:
    """Hold BLAS at one thread while at least one holder is inside.

    The setting belongs to the whole process, but threadpoolctl (from 3.7 on) lets only the
    thread that first set it change it again.  So the guard releases that claim before and
    after each change, and whichever thread leaves last can restore the setting.

    A forked child begins with no holder and with the threads of before: `generation` tells
    those who entered in its parent that they have to enter again.
    """

    def __init__(self) -> None:
        self._held: list[tuple[Any, int]] = []
        self._libraries: list[Any] = []         # of BLAS; to find them takes milliseconds
        self._begin()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._lock, self._holders, self.generation = threading.Lock(), 0, object()
        self._restore()

    def _restore(self) -> None:
        try:
            _set_threads(self._held)
        except MemoryError:             # it takes a few bytes, which may be there the next moment
            _set_threads(self._held)
        self._held = []

    def enter(self) -> object:
        """Hold BLAS; return the generation, which `leave` takes."""
        with self._lock:
            if self._holders == 0:
                self._libraries = self._libraries or \
                    ThreadpoolController().select(user_api="blas").lib_controllers
                single = [(library, 1) for library in self._libraries]
                if not self._held:          # else it could not be restored when last let go
                    self._held = [(library, library.num_threads) for library in self._libraries]
                try:
                    _set_threads(single)
                except BaseException:
                    self._restore()
                    raise
            self._holders += 1
        return self.generation

    def leave(self, generation: object) -> None:
        """Let BLAS go, if it was held in this process."""
        with self._lock:
            self._holders -= generation is self.generation
            if self._holders == 0:
                self._restore()


def _set_threads(limits: list[tuple[Any, int]]) -> None:
    for library, n_threads in limits:
        release = getattr(library, "clear_controlling_thread", lambda force: None)
        release(force=True)
        library.set_num_threads(n_threads)
        release(force=True)


_guard = _BlasGuard()


class Pool:
    """A few threads for one call, with BLAS held at one thread: `with Pool(n) as pool`.

    They start with the first work that is shared out: a request for one user needs none.

    Parameters
    ----------
    n_threads : int or None
        Threads to use; None for all CPUs of the affinity mask.
    """

    def __init__(self, n_threads: int | None = None) -> None:
        self.n_threads = thread_count(n_threads)
        self._executor: ThreadPoolExecutor | None = None
        self._entered: object = None

    def __enter__(self) -> Pool:
        self._executor, self._entered = None, _guard.enter()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._stop()
        finally:
            _guard.leave(self._entered)

    def _started(self) -> ThreadPoolExecutor:
        """Start all threads at once: one that an interrupt met while starting would be lost."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self.n_threads, "mfcore")
            gate = threading.Barrier(self.n_threads)
            try:
                wait([self._executor.submit(gate.wait) for _ in range(self.n_threads)])
            except BaseException:
                gate.abort()            # else the threads that wait at it never end
                self._stop()
                raise
        return self._executor

    def map(self, function: Callable[..., Result], arguments: Sequence[tuple[Any, ...]],
            cost: Sequence[float] | None = None) -> list[Result]:
        """Call `function(*a)` for each a in `arguments`; return results in that order.

        If `cost` is given, the most expensive calls start first.  A single call runs in the
        calling thread.  If a call fails, or on Ctrl-C, queued calls are cancelled and running
        ones, which still write, finish before the exception is raised.
        """
        if self._entered not in (None, _guard.generation):    # in a forked child, without threads
            self.__enter__()
        if self.n_threads == 1 or len(arguments) < 2:
            return [function(*each) for each in arguments]
        order = range(len(arguments)) if cost is None else np.argsort(
            -np.asarray(cost, float), kind="stable")
        futures: dict[int, Future[Result]] = {}
        executor = self._started()
        try:
            for i in order:
                futures[int(i)] = executor.submit(function, *arguments[i])
            done, _ = wait(futures.values(), return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        except BaseException:
            self._stop()
            raise
        return [futures[i].result() for i in range(len(arguments))]

    def over_rows(self, kernel: Callable[[int, int], Result], indptr: np.ndarray,
                  per_row: float = 16.0) -> list[Result]:
        """Call `kernel(lo, hi)` for chunks of CSR rows of equal cost; results in row order."""
        return self.over_chunks(kernel, equal_cost_chunks(indptr, per_row))

    def over_chunks(self, kernel: Callable[[int, int], Result], bounds: np.ndarray
                    ) -> list[Result]:
        """Call `kernel(lo, hi)` for each pair of neighbouring `bounds`; results in that order."""
        return self.map(kernel, list(pairwise(bounds.tolist())))

    def _stop(self) -> None:
        """Cancel queued calls and wait for running ones, however often Ctrl-C is pressed."""
        while self._executor is not None:
            try:
                self._executor.shutdown(wait=True, cancel_futures=True)
                self._executor = None
            except KeyboardInterrupt:
                continue


def equal_cost_chunks(indptr: np.ndarray, per_row: float = 16.0) -> np.ndarray:
    """Cut CSR rows into chunks of about equal cost; return the boundaries.

    Parameters
    ----------
    indptr : ndarray, shape (n_rows + 1,)
        CSR row pointer; a row costs its stored cells plus `per_row`.
    per_row : float
        Fixed cost of a row, in cells.  A very long row makes a chunk of its own.

    Returns
    -------
    bounds : ndarray of int64, shape (n_chunks + 1,)
        Chunk c is rows bounds[c] to bounds[c + 1]; a function of the data alone.
    """
    n_rows = len(indptr) - 1
    cost = np.asarray(indptr, np.float64) + per_row * np.arange(n_rows + 1)
    n_chunks = int(np.clip(cost[-1] // CHUNK_CELLS, 1, MAX_CHUNKS))
    cuts = np.searchsorted(cost, np.linspace(0.0, cost[-1], n_chunks + 1))
    cuts[0], cuts[-1] = 0, n_rows
    return np.unique(cuts).astype(np.int64) if n_rows else np.zeros(2, np.int64)


def row_chunks(n_rows: int, size: int) -> list[tuple[int, int]]:
    """Return (start, stop) of fixed-size chunks of `n_rows` rows."""
    return [(start, min(start + size, n_rows)) for start in range(0, n_rows, size)]


def gram(X: np.ndarray, pool: Pool, *, beside: Sequence[np.ndarray] = (),
         dtype: type | None = None, weights: np.ndarray | None = None) -> np.ndarray:
    """Return XᵀX, or XᵀWX, summed in float64 over fixed chunks in order.

    Parameters
    ----------
    X : ndarray, shape (n, k)
    beside : sequence of ndarray, shapes (n,) or (n, m)
        Further columns, set to the right of X.
    dtype : type or None
        Precision of the products within a chunk; None: X's own.
    weights : ndarray, shape (n,), or None
        The diagonal of W.

    Returns
    -------
    G : ndarray of float64, shape (d, d)
        d is the number of all columns.
    """
    width = X.shape[1] + sum(1 if block.ndim == 1 else block.shape[1] for block in beside)
    parts = gram_parts(X, pool, beside=beside, dtype=dtype, weights=weights)
    return sum(parts, np.zeros((width, width)))


def gram_parts(X: np.ndarray, pool: Pool, *, beside: Sequence[np.ndarray] = (),
               dtype: type | None = None, weights: np.ndarray | None = None
               ) -> list[np.ndarray]:
    """Return the products that `gram` adds, one per chunk of rows, in order.

    Overflow gives infinity without a warning: the caller's error names the remedy.
    """
    def part(start: int, stop: int) -> np.ndarray:
        columns = [block[start:stop] for block in (X, *beside)]
        rows = np.column_stack(columns) if beside else columns[0]
        rows = rows.astype(dtype or X.dtype, copy=False)
        with np.errstate(over="ignore", invalid="ignore"):
            left = rows if weights is None else \
                rows * weights[start:stop, None].astype(rows.dtype, copy=False)
            return np.asarray(left.T @ rows)

    return pool.map(part, row_chunks(X.shape[0], GRAM_ROWS))


def tiled_product(X: np.ndarray, Y: np.ndarray, pool: Pool, *,
                  out: np.ndarray | None = None) -> np.ndarray:
    """Return X @ Y, computed in fixed tiles of rows on the pool."""
    if out is None:
        out = np.empty((X.shape[0], Y.shape[1]), np.result_type(X, Y))

    def tile(start: int, stop: int) -> None:
        np.matmul(X[start:stop], Y, out=out[start:stop])

    pool.map(tile, row_chunks(X.shape[0], GRAM_ROWS))
    return out
