"""Alternating least squares by blocks on a cluster: solvers like those of one machine.

A half-sweep over users, items frozen (and the other way round), where factors are shipped:

    gram    every block of items: products of chunks, added here in order          w0 > 0 only
    turn    every block of items into the eigenbasis of the sum                    cg, w0 > 0
    ship    to every block of users the rows of every block of items that it wants, picked on
            the worker that has them
    solve   every block of users
    store   its rows in the files of the epoch

Blocks begin at multiples of the chunks in which one machine adds Grams and turns rows, and a
row reads the same neighbours in the same order: its bits are those of one machine, wherever
it is solved.  Only the loss is added by block, and equal up to float64 rounding.

Where all workers are on one machine, they map one copy of the factors and ship nothing:

    gram    runs of items: products of chunks, added here in order                 w0 > 0 only
    turn    these runs into the eigenbasis of the sum, in a file                   cg, w0 > 0
    solve   every block of users, reading the items' file; its rows go to a new file

Two copies of the frozen side would push each other out of the cache that processors share.  And
a block that ships nothing may be small, so that workers finish together.  Here a block is a run
of the chunks in which one machine solves rows, and returns what each of them adds to the loss:
so the loss, too, has the bits of one machine, however many blocks there are.

Every task can be done again from files that no other task changes, so a lost worker costs its
share of an epoch and changes nothing.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from mfcore.data.features import Features
from mfcore.distributed import blocks as tasks
from mfcore.distributed.planning import SHARES
from mfcore.models.factorization.core import Core
from mfcore.models.sides import Sides
from mfcore.npy import mapped
from mfcore.objectives.factors import Factors, WholeMatrix, met, whole_matrix
from mfcore.objectives.quadratic import Quadratic
from mfcore.parallel import GRAM_ROWS, Pool, equal_cost_chunks
from mfcore.progress import progress_bar
from mfcore.solvers.als import SUMS, Eigenbasis, row_cost, run_up, start_on_sample
from mfcore.solvers.balance import balance
from mfcore.solvers.loop import Solver
from mfcore.solvers.sample import STEPS

OTHER = {"user": "item", "item": "user"}


def block_bounds(indptr: np.ndarray, block_cells: int) -> list[int]:
    """Cut rows into blocks of about `block_cells` cells that begin at multiples of GRAM_ROWS."""
    n_rows, nnz = len(indptr) - 1, int(indptr[-1])
    tiles = np.append(np.arange(0, n_rows, GRAM_ROWS), n_rows)
    n_blocks = max(1, -(-nnz // block_cells))
    cuts = np.searchsorted(indptr[tiles], np.linspace(0, nnz, n_blocks + 1))
    cuts[0], cuts[-1] = 0, len(tiles) - 1
    return list(tiles[np.unique(cuts)].tolist())


def shared_bounds(indptr: np.ndarray, k: int, block_cells: int, threads: int
                  ) -> tuple[np.ndarray, list[int]]:
    """Return the chunks of one machine, and which of their bounds cut blocks of equal cost."""
    chunks = equal_cost_chunks(indptr, row_cost(k))
    cost = np.asarray(indptr)[chunks] + row_cost(k) * chunks
    n_blocks = max(SHARES * threads, -(-int(indptr[-1]) // block_cells))
    cuts = np.searchsorted(cost, np.linspace(0, cost[-1], n_blocks + 1))
    return chunks, chunks[np.unique(np.append(cuts[:-1], len(chunks) - 1))].tolist()


@dataclass
class BlockALS(Solver):
    """Alternating least squares on a cluster: see `mfcore.solvers.loop.Solver`.

    Parameters
    ----------
    client : dask.distributed.Client
    problem : Quadratic
        The whole problem, for penalties and group vectors; a sample is drawn from its cells here.
    core : Core
        The decisions of the fit, made from all ratings: what a stored cell means, and the
        penalties.  Sent to the workers.
    sides : Sides
        Users and items, without vectors or features: only the biases that are subtracted from
        ratings, if any are.  Sent to the workers.
    ratings : path of a folder of ratings that all workers see
    scratch : path of a folder that all workers see
    bounds : dict of str to list of int
        First row of each block of "user" and "item".
    features : dict of str to Features or None
        Of "user" and "item"; each block is sent those of its rows.
    steps : int
        Conjugate gradient steps; 0: exact.
    """

    client: Any
    problem: Quadratic
    core: Core
    sides: Sides
    ratings: str
    scratch: Path
    bounds: dict[str, list[int]]
    features: dict[str, Any]
    steps: int
    verbose: int | None = 0
    _blocks: dict[str, list[Any]] = field(default_factory=dict)
    _wanted: dict[str, list[list[Any]]] = field(default_factory=dict)
    _workers: list[str] = field(default_factory=list)
    _sweeps: int = 0
    _users_are_exact: bool = False

    def epoch(self, at: Factors, pool: Pool) -> float:
        """Balance, sweep over items, then users; return the loss before the users moved."""
        loss = self._sweep(at, pool, self.steps)
        self._users_are_exact = not self.steps
        return loss

    def begin(self, at: Factors, pool: Pool) -> None:
        """Begin as solvers/als.py does; a sample is small, and is solved here."""
        if start_on_sample(self.problem, at, pool):
            self._half("user", at, {side: self._begin(side, at) for side in OTHER}, STEPS)
        elif not self.steps:
            run_up(at, lambda: self._sweep(at, pool, 1))

    def _sweep(self, at: Factors, pool: Pool, steps: int) -> float:
        problem = self.problem
        balance(problem, at, pool)
        rows = {side: self._begin(side, at) for side in OTHER}
        problem.items.solve(*at.of_items, problem.learns_bias, pool)
        rows["item"], users, _ = self._half("item", at, rows, steps)
        problem.users.solve(*at.of_users, problem.learns_bias, pool)
        around = problem.constant + problem.penalty(at)
        rows["user"], items, known = self._half("user", at, rows, steps)
        if problem.w0:
            around += problem.w0 * met(users, items)
        return around + known

    def finish(self, at: Factors, pool: Pool) -> None:
        """Solve all users exactly, unless they are."""
        if not self._users_are_exact:
            self._half("user", at, {side: self._begin(side, at) for side in OTHER}, 0, ends=True)

    # ------------------------------------------------------------------ a half-sweep

    def _half(self, side: str, at: Factors, rows: dict[str, Any], steps: int, *,
              ends: bool = False) -> tuple[Any, np.ndarray, float]:
        """Solve one side; return its rows, the Gram of the frozen side and Σ_Ω (not at the end)."""
        # (`scheduler_info` may name none: a thread of the client drops the names now and then.)
        self._workers = sorted(self.client.nthreads())
        G = self._gram(OTHER[side], rows[OTHER[side]], at.P.shape[1], None if steps else SUMS)
        frozen = self._frozen(side, at, G, steps)._replace(ends=ends)
        folder = self._new_files(side, at, filled=False)
        solved, known = self._solve(side, rows, frozen, folder)
        for path, array in zip(tasks.row_files(folder, side), own(side, at), strict=True):
            array[...] = mapped(path)
        return solved, G, known

    def _gram(self, side: str, rows: Any, k: int, dtype: type | None) -> np.ndarray:
        """Return the Gram of [X | 1 | bias], its parts added in the order of rows."""
        total = np.zeros((k + 2, k + 2))
        if self.problem.w0:
            for products in self._results(self._gram_tasks(side, rows, dtype), f"gram {side}s"):
                for product in products:
                    total += product
        return total

    def _gram_tasks(self, side: str, rows: Any, dtype: type | None) -> list[Any]:
        return [self._submit(tasks.gram_of, f"gram-{side}s", b, block, dtype)
                for b, block in enumerate(rows)]

    def _frozen(self, side: str, at: Factors, G: np.ndarray, steps: int) -> tasks.Frozen:
        problem, k = self.problem, at.P.shape[1]
        d = k + problem.learns_bias
        whole = whole_matrix(problem.w0 * G, d) if problem.w0 else \
            WholeMatrix(np.zeros((d, d)), np.zeros(d), np.zeros(d))
        frozen = own(OTHER[side], at)[0]
        basis = Eigenbasis(whole, problem.w0, frozen.shape, frozen.dtype) if steps else None
        groups = (at.G, at.g) if side == "user" else (at.H, at.h)
        return tasks.Frozen(whole, basis, (groups[0].copy(), groups[1].copy()), problem.w0,
                            problem.learns_bias, steps)

    def _solve(self, side: str, rows: dict[str, Any], frozen: tasks.Frozen, folder: str
               ) -> tuple[Any, float]:
        """Solve the blocks of a side into files; return its rows, as `_begin` does, and Σ_Ω."""
        other, sent = OTHER[side], self._submit(tasks.constant, "frozen", 0, frozen)
        turned = [self._submit(tasks.turn, f"turn-{other}s", b, block, sent)
                  for b, block in enumerate(rows[other])] if frozen.steps else rows[other]
        solved, stored = [], []
        for p, (block, free) in enumerate(zip(self._held(side), rows[side], strict=True)):
            shipped = [self._submit(tasks.ship, f"ship-to-{side}s", b, given, wanted, part=p)
                       for b, (given, wanted) in enumerate(
                           zip(turned, self._wanted[side][p], strict=True))]
            solved.append(self._submit(tasks.solve, f"solve-{side}s", p, block, free, sent,
                                       *shipped))
            stored.append(self._submit(tasks.store_rows, f"store-{side}s", p, folder, side,
                                       self._spans(side)[p], solved[-1]))
        return solved, float(sum(self._results(stored, f"solve {side}s")))

    # ------------------------------------------------------------- blocks and their files

    def _spans(self, side: str) -> list[tuple[int, int]]:
        return list(zip(self.bounds[side][:-1], self.bounds[side][1:], strict=True))

    def _held(self, side: str) -> list[Any]:
        """Return the blocks of a side; they are read once."""
        if side not in self._blocks:
            self._blocks[side] = self._read(side, self._submit(tasks.constant, "sides", 0,
                                                               self.sides))
        return self._blocks[side]

    def _read(self, side: str, sides: Any) -> list[Any]:
        bounds = self.bounds[OTHER[side]]
        found = [self._submit(tasks.read_block, f"read-{side}s", p, self.core, sides, self.ratings,
                              side, span, bounds, self._features_of(side, span))
                 for p, span in enumerate(self._spans(side))]
        self._wanted[side] = [[self._submit(tasks.wanted_of, f"want-{side}s", p, block, b, part=b)
                               for b in range(len(bounds) - 1)] for p, block in enumerate(found)]
        return found

    def _features_of(self, side: str, span: tuple[int, int]) -> Features | None:
        F = self.features[side]
        return None if F is None else F.select(np.arange(*span))

    def _begin(self, side: str, at: Factors) -> Any:
        """Write the start of an epoch to files, and have each block read its rows."""
        folder = self._new_files(side, at, filled=True)
        return [self._submit(tasks.load_rows, f"begin-{side}s", p, folder, side, span)
                for p, span in enumerate(self._spans(side))]

    def _new_files(self, side: str, at: Factors, *, filled: bool) -> str:
        """Make files of the present rows of a side, or of zeros; drop those no longer read."""
        self._sweeps += 1
        folder = self.scratch / f"rows-{self._sweeps}"
        folder.mkdir()
        for path, array in zip(tasks.row_files(str(folder), side), own(side, at), strict=True):
            np.lib.format.open_memmap(path, "w+", array.dtype, array.shape)
            if filled:
                tasks.put_rows(path, 0, array)
        shutil.rmtree(self.scratch / f"rows-{self._sweeps - 12}", ignore_errors=True)
        return str(folder)

    # ------------------------------------------------------------------------- tasks

    def _submit(self, function: Any, name: str, number: int, *arguments: Any,
                part: int = 0) -> Any:
        """Submit a task, preferably to the worker that holds this block of its side."""
        workers = self._workers or [""]        # (the name of the folder is this fit's alone)
        return self.client.submit(
            function, *arguments, key=f"{name}-{self._sweeps}.{number}.{part}.{self.scratch.name}",
            pure=False, workers=[workers[number % len(workers)]], allow_other_workers=True)

    def _results(self, futures: list[Any], name: str) -> list[Any]:
        """Return the results in order; a bar counts those that are there."""
        from distributed import as_completed

        with progress_bar(self.verbose, total=len(futures), desc=name, unit="block",
                          leave=False) as bar:
            for _ in as_completed(futures):
                bar.update()
        return list(self.client.gather(futures))


@dataclass
class SharedALS(BlockALS):
    """Alternating least squares by workers of one machine; see `BlockALS`.

    The rows of a side are the folder with its files.

    Parameters
    ----------
    chunks : dict of str to ndarray
        The chunks of one machine of "user" and "item"; `bounds` are some of them.
    """

    chunks: dict[str, np.ndarray] = field(default_factory=dict)
    _files: dict[str, str] = field(default_factory=dict)

    def _begin(self, side: str, at: Factors) -> str:
        """Return a folder with the present rows of a side: the last one, unless they changed."""
        folder = self._files.get(side)
        if folder is None or not all(
                np.array_equal(mapped(path), array) for path, array in
                zip(tasks.row_files(folder, side), own(side, at), strict=True)):
            folder = self._files[side] = self._new_files(side, at, filled=True)
        return folder

    def _gram_tasks(self, side: str, rows: str, dtype: type | None) -> list[Any]:
        return [self._submit(tasks.gram_in, f"gram-{side}s", r, rows, side, span, dtype)
                for r, span in enumerate(self._runs(side))]

    def _solve(self, side: str, rows: dict[str, str], frozen: tasks.Frozen, folder: str
               ) -> tuple[str, float]:
        sent = self._submit(tasks.constant, "frozen", 0, frozen)
        others, turned = self._turned(OTHER[side], rows[OTHER[side]], frozen, sent)
        solved = [self._submit(tasks.solve_share, f"solve-{side}s", self._home(p), share, sent,
                               side, rows[side], others, folder, *turned, part=p)
                  for p, share in enumerate(self._held(side))]
        parts = self._results(solved, f"solve {side}s")
        self._files[side] = folder
        return folder, float(sum(chain.from_iterable(parts)))

    def _turned(self, side: str, rows: str, frozen: tasks.Frozen, sent: Any
                ) -> tuple[tuple[str, str], list[Any]]:
        """Return the files that a half-sweep reads, and the tasks that must come before."""
        factors, bias = tasks.row_files(rows, side)
        if frozen.basis is None or frozen.basis.changes_nothing:
            return (str(factors), str(bias)), []
        n, (width, dtype) = self.bounds[side][-1], frozen.basis.row
        place = factors.with_name(f"{side}.turned-{self._sweeps}.npy")
        np.lib.format.open_memmap(place, "w+", dtype, (n, width))
        return (str(place), str(bias)), [
            self._submit(tasks.turn_in, f"turn-{side}s", r, rows, side, span, sent, str(place))
            for r, span in enumerate(self._runs(side))]

    def _runs(self, side: str) -> list[tuple[int, int]]:
        """Return as many runs of tiles as there are workers, of about equal rows."""
        n, count = self.bounds[side][-1], max(1, len(self._workers))    # (a lost one comes back)
        n_tiles = -(-n // GRAM_ROWS)
        ends = np.unique(np.linspace(0, n_tiles, count + 1).astype(int)) * GRAM_ROWS
        return [(int(lo), min(int(hi), n)) for lo, hi in zip(ends[:-1], ends[1:], strict=True)]

    def _read(self, side: str, sides: Any) -> list[Any]:
        chunks, n = self.chunks[side], self.bounds[side][-1]
        cuts = np.searchsorted(chunks, self.bounds[side])
        return [self._submit(tasks.read_share, f"read-{side}s", self._home(p), self.core, sides,
                             self.ratings, side, chunks[lo:hi + 1],
                             self._features_of(side, tasks.tiles_around(
                                 int(chunks[lo]), int(chunks[hi]), n)), part=p)
                for p, (lo, hi) in enumerate(zip(cuts[:-1], cuts[1:], strict=True))]

    def _home(self, number: int) -> int:
        """Return the worker of a block; they take turns back and forth (0 1 2 2 1 0 ...)."""
        count = max(1, len(self._workers))
        turn, place = divmod(number, count)
        return place if turn % 2 == 0 else count - 1 - place


def own(side: str, at: Factors) -> tuple[np.ndarray, np.ndarray]:
    """Return the factors and the bias column of a side."""
    return (at.of_users if side == "user" else at.of_items)[:2]
