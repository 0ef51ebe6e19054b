"""The same on one machine: its workers map one copy of the factors, and nothing is shipped.

A half-sweep over users, items frozen (and the other way round):

    gram    of runs of items: products of chunks, added here in order             w0 > 0 only
    turn    these runs into the eigenbasis of the sum, in a file                  cg, w0 > 0
    solve   every block of users, reading the items' file; its rows go to a new file

Two copies of the frozen side would push each other out of the cache that processors share; and
a block that ships nothing may be small, so that workers end together.  A block is a run of the
chunks in which one machine solves rows, and tells what each of them adds to the loss: so the
loss, too, has the bits of one machine, however many blocks there are.

Every task reads files that no other changes, and can be done again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from mfcore.data.features import Features
from mfcore.data.ratings import Ratings
from mfcore.distributed import blocks as tasks
from mfcore.distributed.planning import SHARES
from mfcore.distributed.sweeps import OTHER, BlockALS, own
from mfcore.models.factorization.core import Core
from mfcore.models.sides import Sides
from mfcore.objectives.factors import Factors
from mfcore.objectives.penalty import Prior
from mfcore.objectives.quadratic import Cells, RowSystems
from mfcore.parallel import GRAM_ROWS, Pool, equal_cost_chunks
from mfcore.solvers.als import exact_parts, improved_parts, row_cost


def shared_bounds(indptr: np.ndarray, k: int, block_cells: int, threads: int
                  ) -> tuple[np.ndarray, list[int]]:
    """Return the chunks of one machine, and which of their bounds cut blocks of equal cost."""
    chunks = equal_cost_chunks(indptr, row_cost(k))
    cost = np.asarray(indptr)[chunks] + row_cost(k) * chunks
    n_blocks = max(SHARES * threads, -(-int(indptr[-1]) // block_cells))
    cuts = np.searchsorted(cost, np.linspace(0, cost[-1], n_blocks + 1))
    bounds: list[int] = chunks[np.unique(np.append(cuts[:-1], len(chunks) - 1))].tolist()
    return chunks, bounds


# ------------------------------------------------------------------- what a worker does

class Share(NamedTuple):
    """The ratings of a run of chunks, between rows that only fill up tiles.

    `first` is the first row, at a multiple of GRAM_ROWS; `chunks` are counted from there.
    """

    cells: Cells
    prior: Prior
    first: int
    chunks: np.ndarray


def read_share(core: Core, sides: Sides, folder: str, side: str, chunks: np.ndarray,
               features: Features | None) -> Share:
    """Read the rows of a run of chunks; rows that fill up tiles come without ratings."""
    opened = Ratings.open(folder, verify=False)
    whole = opened if side == "user" else opened.transposed
    lo, hi = int(chunks[0]), int(chunks[-1])
    first, last = tiles_around(lo, hi, whole.shape[0])
    own = whole.select_users(np.arange(lo, hi))
    filled = sp.csr_array((own.by_user.data, own.by_user.indices, np.pad(
        own.by_user.indptr, (lo - first, last - hi), "edge")), (last - first, own.shape[1]))
    cells, prior = tasks.systems_of(core, sides, Ratings(filled, weights=own.weights, copy=False),
                                    side, (first, last), features)
    return Share(cells, prior, first, chunks - first)


def tiles_around(lo: int, hi: int, n_rows: int) -> tuple[int, int]:
    """Return the rows of the tiles that rows lo to hi touch."""
    return lo // GRAM_ROWS * GRAM_ROWS, min(-(-hi // GRAM_ROWS) * GRAM_ROWS, n_rows)


def gram_in(folder: str, side: str, span: tuple[int, int]) -> list[np.ndarray]:
    """Return the products that make the Gram of rows that lie in a file."""
    return tasks.gram_of(tasks.load_rows(folder, side, span))


def turn_in(folder: str, side: str, span: tuple[int, int], frozen: tasks.Frozen, target: str
            ) -> None:
    """Turn rows that lie in a file into the eigenbasis, in another."""
    turned = tasks.turn(tasks.load_rows(folder, side, span), frozen)
    tasks.put_rows(Path(target), span[0], turned.X)


def solve_share(share: Share, frozen: tasks.Frozen, side: str, own: str, others: tuple[str, str],
                target: str, *_: None) -> list[float]:
    """Solve the rows of a run of chunks from the files `own` into those of `target`.

    `others` are the files of the frozen side, its factors and its bias column.  Returns what
    each chunk adds to Σ_Ω.
    """
    first, chunks = share.first, share.chunks
    X, bias = tasks.load_rows(own, side, (first, first + len(share.cells.indptr) - 1))[:2]
    Q, gamma = (np.asarray(np.load(path, mmap_mode="r")) for path in others)
    systems = RowSystems(share.cells, share.prior.at(*frozen.groups), Q, gamma, frozen.w0,
                         frozen.learns_bias, whole=frozen.whole)
    with Pool(1) as pool:
        if frozen.basis is None:
            parts = exact_parts(systems, X, bias, pool, chunks)
        else:
            parts = improved_parts(frozen.basis, systems, X, bias, pool, frozen.steps, chunks)
    lo, hi = int(chunks[0]), int(chunks[-1])
    for path, values in zip(tasks.row_files(target, side), (X, bias), strict=True):
        tasks.put_rows(path, first + lo, values[lo:hi])
    return parts


# ------------------------------------------------------------------------- the solver

@dataclass
class SharedALS(BlockALS):
    """Alternating least squares by workers of one machine; see `BlockALS`.

    Parameters
    ----------
    chunks : dict of str to ndarray
        The chunks of one machine of "user" and "item"; `bounds` are some of them.
    """

    chunks: dict[str, np.ndarray] = field(default_factory=dict)
    _files: dict[str, str] = field(default_factory=dict)

    def _begin(self, side: str, at: Factors) -> str:
        """Return the folder in which a side lies as it is."""
        known = self._files.get(side)
        if known is None or not _holds(known, side, at):
            self._files[side] = self._new_files(side, at)
        return self._files[side]

    def _half(self, side: str, at: Factors, rows: dict[str, str], steps: int
              ) -> tuple[str, np.ndarray, float]:
        """Solve one side; return its folder, the Gram of the frozen side and Σ_Ω."""
        other = OTHER[side]
        self._look_for_workers()
        G = self._gram(other, rows[other], at.P.shape[1])
        shared = self._frozen(side, at, G, steps)
        frozen = self._submit(tasks.constant, "frozen", 0, shared)
        others, turned = self._turned(other, rows[other], shared, frozen)
        target = self._empty_files(side, at)
        solved = [self._submit(solve_share, f"solve-{side}s", self._home(p), share, frozen, side,
                               rows[side], others, target, *turned, part=p)
                  for p, share in enumerate(self._held(side))]
        parts = self._results(solved, f"solve {side}s")
        self._take(side, at, target)
        self._files[side] = target
        return target, G, float(sum(chain.from_iterable(parts)))

    def _gram_tasks(self, side: str, rows: str) -> list[Any]:
        return [self._submit(gram_in, f"gram-{side}s", r, rows, side, span)
                for r, span in enumerate(self._runs(side))]

    def _turned(self, side: str, rows: str, shared: tasks.Frozen, frozen: Any
                ) -> tuple[tuple[str, str], list[Any]]:
        """Return the files that a half-sweep reads, and the tasks that must come before."""
        factors, bias = tasks.row_files(rows, side)
        if shared.basis is None or shared.basis.changes_nothing:
            return (str(factors), str(bias)), []
        n = self.bounds[side][-1]
        place = factors.with_name(f"{side}.turned-{self._sweeps}.npy")
        np.lib.format.open_memmap(place, "w+", shared.basis.V.dtype, (n, shared.basis.V.shape[1]))
        return (str(place), str(bias)), [
            self._submit(turn_in, f"turn-{side}s", r, rows, side, span, frozen, str(place))
            for r, span in enumerate(self._runs(side))]

    def _runs(self, side: str) -> list[tuple[int, int]]:
        """Return as many runs of tiles as there are workers, of about equal rows."""
        n = self.bounds[side][-1]
        n_tiles = -(-n // GRAM_ROWS)
        ends = np.unique(np.linspace(0, n_tiles, len(self._workers) + 1).astype(int)) * GRAM_ROWS
        return [(int(lo), min(int(hi), n)) for lo, hi in zip(ends[:-1], ends[1:], strict=True)]

    def _held(self, side: str) -> list[Any]:
        """Return the blocks of a side; they are read once."""
        if side not in self._blocks:
            sides = self._submit(tasks.constant, "sides", 0, self.sides)
            self._blocks[side] = [
                self._submit(read_share, f"read-{side}s", self._home(p), self.core, sides,
                             self.ratings, side, chunks, self._features_of(side, chunks), part=p)
                for p, chunks in enumerate(self._chunks_of(side))]
        return self._blocks[side]

    def _chunks_of(self, side: str) -> list[np.ndarray]:
        cuts = np.searchsorted(self.chunks[side], self.bounds[side])
        return [self.chunks[side][lo:hi + 1] for lo, hi in zip(cuts[:-1], cuts[1:], strict=True)]

    def _features_of(self, side: str, chunks: np.ndarray) -> Features | None:
        F = self.features[side]
        return None if F is None else F.select(np.arange(*tiles_around(
            int(chunks[0]), int(chunks[-1]), self.bounds[side][-1])))

    def _home(self, number: int) -> int:
        """Return the worker of a block, to and fro: one that begins a round ends the next."""
        count = max(1, len(self._workers))
        turn, place = divmod(number, count)
        return place if turn % 2 == 0 else count - 1 - place


def _holds(folder: str, side: str, at: Factors) -> bool:
    return all(np.array_equal(np.load(path, mmap_mode="r"), array)
               for path, array in zip(tasks.row_files(folder, side), own(side, at), strict=True))
