"""Adam on batches of chosen cells, which share their negatives.

An epoch visits every chosen cell once, in a seeded order, `batch_size` cells at a time.  A batch
draws its negatives with replacement, all items equally often or by popularity (an item of a random
chosen cell: q_j = n_j / nnz); one that is drawn c_j times counts once, with c_j times the weight:

    w_j = c_j / (|N| q_j)                       (objectives/softmax.py)

Without a number of negatives, all items are negatives of every batch.  Negatives that a user has
chosen do not count for its cells.

Adam is lazy: rows outside of the batch, and their moments, stay as they are (nn/optimizers.py).
A batch's gradient is that of the mean of its cells.  The penalty enters the gradient, paid for
the user and the item of each cell.

All draws come from the seed and the number of the epoch, in the calling thread; scores are
computed in fixed tiles, whose sums are added in order.  So the result does not depend on threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore.kernels import softmax as kernels
from mfcore.nn.optimizers import Adam
from mfcore.nn.parameters import Gradients, Parameter, Rows
from mfcore.nn.sparse import transposed_times
from mfcore.objectives.softmax import Batch, Ranked, Slopes, Vectors
from mfcore.parallel import Pool, row_chunks
from mfcore.solvers.loop import Solver
from mfcore.solvers.spectral import SpectralStart
from mfcore.solvers.warmth import warmest
from mfcore.validation import DivergenceError


@dataclass(frozen=True)
class Negatives:
    """How a batch draws its negatives.

    Parameters
    ----------
    number : int >= 1, or None
        None: all items, none drawn.
    popular : bool
        Whether an item is drawn as often as it is chosen; else all equally often.
    """

    number: int | None
    popular: bool

    def draw(self, cells: sp.csr_array, counts: np.ndarray, random: np.random.Generator
             ) -> tuple[np.ndarray, np.ndarray]:
        """Return distinct items in ascending order, and their weights, float64."""
        n_items = cells.shape[1]
        if self.number is None:
            return np.arange(n_items), np.ones(n_items)
        if not self.popular:
            drawn, times = np.unique(random.integers(n_items, size=self.number),
                                     return_counts=True)
            return drawn, times * (n_items / self.number)
        drawn, times = np.unique(cells.indices[random.integers(cells.nnz, size=self.number)],
                                 return_counts=True)
        return drawn.astype(np.int64), times * (cells.nnz / self.number) / counts[drawn]


@dataclass
class RankingAdam(Solver):
    """The solver of SoftmaxMF: see `mfcore.solvers.loop.Solver`.

    Parameters
    ----------
    cells : csr_array, shape (n_users, n_items)
        Its pattern holds the items that each user has chosen.
    problem : Ranked
    negatives : Negatives
    features : (csr_array, csr_array)
        F (n_users, n_features) and E (n_items, n_features); None: none.
    optimizer : Adam
    batch_size : int
    seed : int, >= 0
    start : SpectralStart or None
        What moves the vectors before the first epoch.
    taus : tuple of float, > 0
        Temperatures of which the best is found before the first epoch, where there is a start.
    """

    cells: sp.csr_array
    problem: Ranked
    negatives: Negatives
    features: tuple[sp.csr_array | None, sp.csr_array | None]
    optimizer: Adam
    batch_size: int
    seed: int
    start: SpectralStart | None = None
    taus: tuple[float, ...] = (1.0,)
    done: int = 0
    _parameters: dict[str, Parameter] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._users = np.repeat(np.arange(self.cells.shape[0]), np.diff(self.cells.indptr))
        self._counts = np.bincount(self.cells.indices, minlength=self.cells.shape[1])
        self._place = np.full(self.cells.shape[1], -1, np.int64)

    def begin(self, at: Vectors, pool: Pool) -> None:
        """Find the temperature, and move the vectors to where the first epoch begins."""
        if self.start is not None:
            tau = warmest(self, at, pool) if len(self.taus) > 1 else self.taus[0]
            self._warm(tau)
            self.start.begin(at, tau, pool)

    @property
    def tau(self) -> float:
        """Temperature of the loss; 1 where it has none."""
        return float(getattr(self.problem.loss, "tau", 1.0))

    def _warm(self, tau: float) -> None:
        loss: Any = self.problem.loss
        if hasattr(loss, "tau"):
            self.problem = replace(self.problem, loss=replace(loss, tau=tau))

    def epoch(self, at: Vectors, pool: Pool) -> float:
        """Visit every chosen cell once; return the mean loss, before each step."""
        parameters, total = self._of(at), 0.0
        for batch in self.batches():
            n = len(batch.users)
            found = self.problem.slopes(at, batch, pool, 1 / n)
            total += found.value * n
            self.optimizer.step(self._gradients(batch, found, parameters, pool), pool)
        self.done += 1
        if not all(np.isfinite(block.sum(dtype=np.float64)) for block in vars(at).values()):
            raise DivergenceError(f"the vectors are not finite at learning_rate="
                                  f"{self.optimizer.rate:g}; lower it")
        return float(total / self.cells.nnz)

    def batches(self) -> Iterator[Batch]:
        """Yield the batches of this epoch."""
        random = np.random.default_rng([self.seed, self.done])
        order = random.permutation(self.cells.nnz)
        for lo, hi in row_chunks(len(order), self.batch_size):
            some = np.sort(order[lo:hi])
            yield self.batch(self._users[some], self.cells.indices[some].astype(np.int64),
                             *self.negatives.draw(self.cells, self._counts, random))

    def batch(self, users: np.ndarray, items: np.ndarray, negatives: np.ndarray, w: np.ndarray
              ) -> Batch:
        """Return a batch with the features of its rows, and what does not count in it."""
        F, E = self.features
        self._place[negatives] = np.arange(len(negatives))
        hidden = chosen(self.cells, users, self._place)
        self._place[negatives] = -1
        return Batch(users, items, negatives, w, hidden, None if F is None else F[users],
                     None if E is None else E[np.concatenate([items, negatives])])

    def _gradients(self, batch: Batch, found: Slopes, parameters: dict[str, Parameter],
                   pool: Pool) -> Gradients:
        """Return the gradient by blocks, with the penalty of the cells' rows."""
        gradients, n = Gradients(), len(batch.users)
        for name, group, rows, F, g in (("P", "G", batch.users, batch.F, found.users),
                                        ("Q", "H", batch.columns, batch.E, found.items)):
            if F is not None:
                gradients.add(parameters[group], transposed_times(F, g, pool))
            if self.problem.reg:
                own = parameters[name].value[rows[:n]]
                g[:n] += own.dtype.type(2 * self.problem.reg / n) * own
            gradients.add(parameters[name], Rows(rows, g))
        return gradients

    def _of(self, at: Vectors) -> dict[str, Parameter]:
        """Return the blocks as parameters of the optimizer."""
        if not self._parameters:
            self._parameters = {name: Parameter(name, block) for name, block in vars(at).items()}
        return self._parameters

    def state(self) -> dict[str, np.ndarray]:
        """Return the seed, the temperature, the number of epochs done and the moments."""
        return {"seed": np.array(self.seed), "tau": np.array(self.tau), "done": np.array(self.done),
                **self.optimizer.state(list(self._parameters.values()))}

    def sums(self) -> list[np.ndarray]:
        """Return the moments."""
        return self.optimizer.memories()

    def resume(self, at: Vectors, state: dict[str, np.ndarray]) -> None:
        """Go on from what `state` returned, to the same bits."""
        self.seed, self.done = int(state["seed"]), int(state["done"])
        self._warm(float(state["tau"]))
        self.optimizer.resume(list(self._of(at).values()), state)


def chosen(cells: sp.csr_array, users: np.ndarray, place: np.ndarray
           ) -> tuple[np.ndarray, np.ndarray]:
    """Return the (rows, columns) of negatives that the users of rows have chosen.

    place : ndarray of int, shape (n_items,), the column of each item, −1 for no negative
    """
    most, items = 4 * len(users), np.flatnonzero(place >= 0)
    while True:
        rows, columns = np.empty(most, np.int64), np.empty(most, np.int64)
        n = kernels.find_chosen(cells.indptr, cells.indices, users, items, place, rows,
                                columns)
        if n <= most:
            return rows[:n], columns[:n]
        most = n
