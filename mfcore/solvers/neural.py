"""Training a network on cells: known ones in random order, unknown ones drawn with them.

Objective.  Ω holds the N known cells, with target y and weight w; the others are unknown,
N0 in number, with target 0 and weight w0:

    L = Σ_Ω w ℓ(s, y) + w0 Σ_{not Ω} ℓ(s, 0)                 ℓ squared or logistic

A batch takes n known cells, each once per epoch, and for each of them m of the N0 unknown ones,
all equally likely, with a weight v that corrects for drawing them:

    E Σ_drawn v ℓ(s, 0) = m n v (1/N0) Σ_{not Ω} ℓ(s, 0)     mean of a drawn cell, m n times
                        = (n/N) w0 Σ_{not Ω} ℓ(s, 0)         if v = w0 N0 / (m N)

so that a batch's loss, and its gradient, is L n/N in expectation: drawing unknown cells causes
noise, depending on m, but no bias.  Steps use the mean, 1/n times the batch, with the penalties
of the rows that its cells use.  A draw that hits a known cell is repeated until it does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from mfcore.kernels import nn_sampling as kernels
from mfcore.nn.layers import Layer
from mfcore.nn.losses import Loss
from mfcore.nn.network import Blocks, Part, Trainer, value_and_gradients
from mfcore.nn.optimizers import Adam, cosine_decay
from mfcore.nn.parameters import Parameter, sorting
from mfcore.nn.sparse import RowNumbers
from mfcore.parallel import Pool, row_chunks
from mfcore.solvers.loop import Solver
from mfcore.validation import DivergenceError

# Cells of a batch that go through the network together, on one thread.
PART_CELLS = 512


@dataclass
class TrainingCells:
    """Known cells with targets and weights, and the weight of unknown ones.

    Parameters
    ----------
    pattern : csr_array, shape (n_users, n_items)
        Known cells, rows sorted; its data are not read.
    y : ndarray, shape (nnz,)
        Targets in the order of `pattern`.
    w : ndarray, shape (nnz,), or None
        Weights; None: 1.
    n_drawn : int, >= 0
        m, the unknown cells drawn for each known one.
    unknown_weight : float, >= 0
        w0.
    """

    pattern: sp.csr_array
    y: np.ndarray
    w: np.ndarray | None = None
    n_drawn: int = 0
    unknown_weight: float = 0.0

    def __post_init__(self) -> None:
        n_users, n_items = self.pattern.shape
        users = np.repeat(np.arange(n_users, dtype=np.int32), np.diff(self.pattern.indptr))
        self.pairs = np.column_stack([users, self.pattern.indices.astype(np.int32)])
        self.n_unknown = n_users * n_items - len(self.y)
        if self.n_unknown == 0 or self.unknown_weight == 0:
            self.n_drawn = 0

    @property
    def n_visited(self) -> int:
        """Known and drawn cells of an epoch."""
        return len(self.y) * (1 + self.n_drawn)

    @property
    def drawn_weight(self) -> float:
        """The weight v of a drawn cell."""
        return float(self.unknown_weight * self.n_unknown / (self.n_drawn * len(self.y)))

    def batch(self, cells: np.ndarray, random: np.random.Generator
              ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Return pairs (n, 2), targets (n, 1) and weights (n, 1) of a batch.

        cells : positions of its known cells; unknown ones are drawn and appended.
        """
        pairs, y = self.pairs.take(cells, axis=0), self.y.take(cells)
        w = None if self.w is None else self.w.take(cells)
        if self.n_drawn:
            others = self.draw(self.n_drawn * len(cells), random)
            v = np.full(len(others), self.drawn_weight, y.dtype)
            pairs, y = np.concatenate([pairs, others]), np.concatenate([y, np.zeros_like(v)])
            w = np.concatenate([np.ones(len(cells), y.dtype) if w is None else w, v])
        return pairs, y[:, None], None if w is None else w[:, None]

    def draw(self, n: int, random: np.random.Generator) -> np.ndarray:
        """Return n unknown cells, each equally likely, as pairs (n, 2)."""
        found, out = 0, np.empty((n, 2), np.int32)
        while found < n:
            pairs = random.integers(0, self.pattern.shape, (n - found + 8, 2), np.int32)
            found = kernels.unknown_cells(self.pattern.indptr, self.pattern.indices, pairs, out,
                                          found)
        return out


@dataclass
class NeuralSGD(Solver):
    """Mini-batch training of a network that scores pairs (user, item).

    Parameters
    ----------
    cells : TrainingCells
    trainer : Trainer
        Its network maps pairs (n, 2) to scores (n, 1).
    batch_size : int, >= 1
        Known cells of a batch.
    seed : int, >= 0
        Together with the number of the epoch it determines order and draws.
    done : int
        Epochs done.
    """

    cells: TrainingCells
    trainer: Trainer
    batch_size: int
    seed: int
    done: int = 0

    def epoch(self, at: Blocks, pool: Pool) -> float:
        """Visit every known cell once; return the mean of the loss over batches."""
        total, n_cells = 0.0, len(self.cells.y)
        for parts, n in self.batches():
            total += n / n_cells * self.trainer.step(parts, pool, 1 / n)
        self.done += 1
        for name, block in vars(at).items():
            if not np.isfinite(block.sum(dtype=np.float64)):
                raise DivergenceError(f"{name} is not finite after step "
                                      f"{self.trainer.optimizer.t} at rate "
                                      f"{self.trainer.optimizer.rate:g}; lower learning_rate")
        return total

    def batches(self) -> Iterator[tuple[list[Part], int]]:
        """Yield the parts of each batch of this epoch, and its number of known cells.

        Batches are sorted by the side with fewer rows, so that few of these are in several parts.
        """
        random = np.random.default_rng([self.seed, self.done])
        order, side = random.permutation(len(self.cells.y)), np.argmin(self.cells.pattern.shape)
        for start, stop in row_chunks(len(order), self.batch_size):
            n = stop - start
            pairs, y, w = self.cells.batch(order[start:stop], random)
            at = sorting(pairs[:, int(side)])
            pairs, y = pairs.take(at, axis=0), y.take(at, axis=0)
            w = None if w is None else y.dtype.type(1 / n) * w.take(at, axis=0)
            yield [(RowNumbers(pairs[lo:hi]), (y[lo:hi], 1 / n if w is None else w[lo:hi]))
                   for lo, hi in row_chunks(len(pairs), PART_CELLS)], n

    def state(self) -> dict[str, np.ndarray]:
        """Return the seed, the number of epochs done and the trainer's state."""
        return {"seed": np.array(self.seed), "done": np.array(self.done),
                **self.trainer.state(self.trainer.network.parameters())}

    def sums(self) -> Iterable[np.ndarray]:
        """Return the optimizer's memory."""
        return self.trainer.optimizer.memories()

    def resume(self, at: Blocks, state: dict[str, np.ndarray]) -> None:
        """Go on from what `state` returned."""
        self.seed, self.done = int(state["seed"]), int(state["done"])
        self.trainer.resume(self.trainer.network.parameters(), state)


# Steps of a new row, their first rate in units of the spread of known rows (both chosen on held
# out ratings of new users in ML-100K and MovieTweetings), and the number of items that stand for
# all in the sum over unknown cells.
FOLD_STEPS, FOLD_RATE, FOLD_ITEMS = 30, 0.2, 128


def fold_in_by_adam(make: Callable[[int, int], tuple[Layer, list[Parameter]]],
                    spreads: Sequence[float], cells: TrainingCells, loss: Loss, pool: Pool
                    ) -> list[np.ndarray]:
    """Return tables of new rows after a fixed number of steps on their cells, the rest frozen.

    A row's steps depend on its own cells alone: gradients are full, and Adam treats each number
    separately.  Only the items for unknown cells are drawn, and they are always the same.

    Parameters
    ----------
    make : callable
        make(lo, hi) returns a network of these rows at their start, all else frozen, and
        their tables.
    spreads : sequence of float, > 0
        How far rows lie from their mean, for each table.
    """
    random = np.random.default_rng(0)
    items = np.sort(random.permutation(cells.pattern.shape[1])[:FOLD_ITEMS])

    def some(lo: int, hi: int) -> list[np.ndarray]:
        network, tables = make(lo, hi)
        part = _row_cells(cells, lo, hi, items if cells.n_drawn else items[:0])
        optimizers = [Adam(FOLD_RATE * spread, lazy=True, schedule=cosine_decay(FOLD_STEPS))
                      for spread in spreads]
        for _ in range(FOLD_STEPS if len(part[0]) else 0):
            _, gradients = value_and_gradients(network, loss, [part], Pool(1), apart=True)
            for table, optimizer in zip(tables, optimizers, strict=True):
                optimizer.step(gradients.of(table), Pool(1))
        return [table.value for table in tables]

    parts = pool.over_rows(some, cells.pattern.indptr, FOLD_ITEMS)
    return [np.concatenate(blocks) for blocks in zip(*parts, strict=True)]


def _row_cells(cells: TrainingCells, lo: int, hi: int, items: np.ndarray) -> Part:
    """Return the known cells of rows lo..hi, and their unknown ones among `items`."""
    pattern = cells.pattern
    known = slice(pattern.indptr[lo], pattern.indptr[hi])
    pairs, y = cells.pairs[known], cells.y[known]
    w = np.ones_like(y) if cells.w is None else cells.w[known]
    if len(items):
        drawn = np.array(np.meshgrid(np.arange(lo, hi), items, indexing="ij")).reshape(2, -1).T
        others = np.empty_like(drawn, np.int32)
        n = kernels.unknown_cells(pattern.indptr, pattern.indices, drawn, others, 0)
        counts = np.maximum(np.bincount(others[:n, 0] - lo, minlength=hi - lo), 1)
        unknown = pattern.shape[1] - np.diff(pattern.indptr[lo:hi + 1])
        v = (cells.unknown_weight * unknown / counts)[others[:n, 0] - lo].astype(y.dtype)
        pairs, y = np.concatenate([pairs, others[:n]]), np.concatenate([y, np.zeros_like(v)])
        w = np.concatenate([w, v])
    return RowNumbers(pairs - np.array([lo, 0], np.int32)), (y[:, None], w[:, None])
