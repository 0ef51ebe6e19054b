"""Alternating least squares by blocks on a cluster: a solver as those of one machine.

A half-sweep over users, items frozen (and the other way round):

    gram    of every block of items: products of chunks, added here in order       w0 > 0 only
    turn    every block of items into the eigenbasis of the sum                    cg, w0 > 0
    ship    to every block of users the rows of every block of items that it wants, picked where
            the items are
    solve   every block of users
    store   its rows in the files of the epoch

Blocks begin at multiples of the chunks in which one machine adds Grams and turns rows, and a
row reads the same neighbours in the same order: its bits are those of one machine, wherever
it is solved.  Only the loss is added by block: equal up to float64 rounding.

Every task can be done again from the files with which the epoch began, so a lost worker
costs its share of an epoch and changes nothing.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mfcore.distributed import blocks as tasks
from mfcore.models.factorization.core import Core
from mfcore.models.sides import Sides
from mfcore.objectives.factors import Factors, WholeMatrix, met, whole_matrix
from mfcore.objectives.quadratic import Quadratic
from mfcore.parallel import GRAM_ROWS, Pool
from mfcore.solvers.als import Eigenbasis, run_up, start_on_sample
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
    bounds: list[int] = tiles[np.unique(cuts)].tolist()
    return bounds


@dataclass
class BlockALS(Solver):
    """Alternating least squares on a cluster: see `mfcore.solvers.loop.Solver`.

    Parameters
    ----------
    client : dask.distributed.Client
    problem : Quadratic
        The whole problem, for penalties and group vectors; of its cells, a sample is read here.
    core : Core
        Says what a stored cell means, as the whole ratings decided it.
    sides : Sides
        Both sides without vectors: the biases that are subtracted from ratings, if any are.
    ratings : path of a folder of ratings that all workers see
    scratch : path of a folder that all workers see
    bounds : dict of str to list of int
        First row of each block of "user" and "item".
    features : dict of str to Features or None
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
    verbose: int = 0
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
        problem.items.solve(*at.of_items, problem.learns_bias)
        rows["item"], users, _ = self._half("item", at, rows, steps)
        problem.users.solve(*at.of_users, problem.learns_bias)
        around = problem.constant + problem.penalty(at)
        rows["user"], items, known = self._half("user", at, rows, steps)
        if problem.w0:
            around += problem.w0 * met(users, items)
        return around + known

    def finish(self, at: Factors, pool: Pool) -> None:
        """Solve all users exactly, unless they are."""
        if not self._users_are_exact:
            self._half("user", at, {side: self._begin(side, at) for side in OTHER}, 0)

    # ------------------------------------------------------------------ a half-sweep

    def _half(self, side: str, at: Factors, rows: dict[str, Any], steps: int
              ) -> tuple[Any, np.ndarray, float]:
        """Solve one side; return its blocks, the Gram of the frozen side and Σ_Ω."""
        other = OTHER[side]
        self._look_for_workers()
        G = self._gram(other, rows[other], at.P.shape[1])
        frozen = self._submit(tasks.constant, "frozen", 0, self._frozen(side, at, G, steps))
        turned = [self._submit(tasks.turn, f"turn-{other}s", b, block, frozen)
                  for b, block in enumerate(rows[other])] if steps else rows[other]
        folder = self._empty_files(side, at)
        solved, stored = [], []
        for p, (block, free) in enumerate(zip(self._held(side), rows[side], strict=True)):
            shipped = [self._submit(tasks.ship, f"ship-to-{side}s", b, given, wanted, part=p)
                       for b, (given, wanted) in enumerate(
                           zip(turned, self._wanted[side][p], strict=True))]
            solved.append(self._submit(tasks.solve, f"solve-{side}s", p, block, free, frozen,
                                       *shipped))
            stored.append(self._submit(tasks.store_rows, f"store-{side}s", p, folder, side,
                                       self._span(side, p), solved[-1]))
        known = self._results(stored, f"solve {side}s")
        self._take(side, at, folder)
        return solved, G, float(sum(known))

    def _gram(self, side: str, rows: Any, k: int) -> np.ndarray:
        """Return the Gram of [X | 1 | bias], its parts added in the order of rows."""
        total = np.zeros((k + 2, k + 2))
        if self.problem.w0:
            for products in self._results(self._gram_tasks(side, rows), f"gram {side}s"):
                for product in products:
                    total += product
        return total

    def _gram_tasks(self, side: str, rows: Any) -> list[Any]:
        return [self._submit(tasks.gram_of, f"gram-{side}s", b, block)
                for b, block in enumerate(rows)]

    def _frozen(self, side: str, at: Factors, G: np.ndarray, steps: int) -> tasks.Frozen:
        problem, k = self.problem, at.P.shape[1]
        d = k + problem.learns_bias
        whole = whole_matrix(problem.w0 * G, d) if problem.w0 else \
            WholeMatrix(np.zeros((d, d)), np.zeros(d), np.zeros(d))
        basis = Eigenbasis(whole, problem.w0, k, at.P.dtype) if steps else None
        groups = (at.G, at.g) if side == "user" else (at.H, at.h)
        return tasks.Frozen(whole, basis, (groups[0].copy(), groups[1].copy()), problem.w0,
                            problem.learns_bias, steps)

    # ------------------------------------------------------------- blocks and their files

    def _span(self, side: str, number: int) -> tuple[int, int]:
        return self.bounds[side][number], self.bounds[side][number + 1]

    def _held(self, side: str) -> list[Any]:
        """Return the blocks of a side; they are read once."""
        if side not in self._blocks:
            sides = self._submit(tasks.constant, "sides", 0, self.sides)
            F = self.features[side]
            self._blocks[side] = [self._submit(
                tasks.read_block, f"read-{side}s", p, self.core, sides, self.ratings, side, span,
                self.bounds[OTHER[side]], None if F is None else F.select(np.arange(*span)))
                for p, span in enumerate(zip(self.bounds[side][:-1], self.bounds[side][1:],
                                             strict=True))]
            n_others = len(self.bounds[OTHER[side]]) - 1
            self._wanted[side] = [[self._submit(tasks.wanted_of, f"want-{side}s", p, block, b,
                                                part=b) for b in range(n_others)]
                                  for p, block in enumerate(self._blocks[side])]
        return self._blocks[side]

    def _begin(self, side: str, at: Factors) -> Any:
        """Write where an epoch begins to files, and have each block read its rows."""
        folder = self._new_files(side, at)
        return [self._submit(tasks.load_rows, f"begin-{side}s", p, folder, side,
                             self._span(side, p)) for p in range(len(self.bounds[side]) - 1)]

    def _new_files(self, side: str, at: Factors) -> str:
        """Make files of a side as it is; drop those that no task reads any more."""
        folder = self._empty_files(side, at)
        for path, array in zip(tasks.row_files(folder, side), own(side, at), strict=True):
            tasks.put_rows(path, 0, array)
        return folder

    def _empty_files(self, side: str, at: Factors) -> str:
        """Make files for the rows of a side, of zeros."""
        self._sweeps += 1
        folder = self.scratch / f"rows-{self._sweeps}"
        folder.mkdir()
        for path, array in zip(tasks.row_files(str(folder), side), own(side, at), strict=True):
            np.lib.format.open_memmap(path, "w+", array.dtype, array.shape)
        shutil.rmtree(self.scratch / f"rows-{self._sweeps - 12}", ignore_errors=True)
        return str(folder)

    def _take(self, side: str, at: Factors, folder: str) -> None:
        for path, array in zip(tasks.row_files(folder, side), own(side, at), strict=True):
            array[...] = np.load(path, mmap_mode="r")

    # ------------------------------------------------------------------------- tasks

    def _look_for_workers(self) -> None:
        self._workers = sorted(self.client.scheduler_info(n_workers=-1)["workers"])

    def _submit(self, function: Any, name: str, number: int, *arguments: Any,
                part: int = 0) -> Any:
        """Have a task done, preferably by the worker that holds this block of its side."""
        workers = self._workers or [""]        # (the name of the folder is this fit's alone)
        return self.client.submit(
            function, *arguments, key=f"{name}-{self._sweeps}.{number}.{part}.{self.scratch.name}",
            pure=False, workers=[workers[number % len(workers)]], allow_other_workers=True)

    def _results(self, futures: list[Any], name: str) -> list[Any]:
        """Return the results in order; a bar counts those that are there."""
        from distributed import as_completed

        with tqdm(total=len(futures), desc=name, unit="block", leave=False,
                  disable=not self.verbose) as bar:
            for _ in as_completed(futures):
                bar.update()
        found: list[Any] = self.client.gather(futures)
        return found


def own(side: str, at: Factors) -> tuple[np.ndarray, np.ndarray]:
    """Return the factors and the bias column of a side."""
    return (at.of_users if side == "user" else at.of_items)[:2]
