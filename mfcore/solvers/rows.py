"""Training a network on rows: mini-batches in random order, or all rows at once.

With N rows of c cells each on average, a loss ℓ_u of each row, and a penalty of the weights,

    L / (N c) = (1 / N c) Σ_u ℓ_u + (λ / N c) ‖W‖²

A batch of n rows estimates the first term by (1 / n c) Σ ℓ_u; the optimizer adds the gradient
of the second, 2λ/(N c) W, in every step.  Models whose row is one observation have c = 1.

An epoch is one pass of every stage.  Most models have one; in alternating training a stage moves
some parameters while the others rest.

Full batch (L-BFGS).  d = −H g with H from the last steps (see `gradient.py`), and a step along d
that satisfies the strong Wolfe conditions (see `line_search.py`).

Source: Nocedal, Wright 2006, section 7.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mfcore.nn.autoencoder import Plain, identity_loss
from mfcore.nn.network import Trainer, value_and_gradients
from mfcore.nn.parameters import Parameter, unpack
from mfcore.parallel import Pool, row_chunks
from mfcore.solvers.gradient import MEMORY, Pairs
from mfcore.solvers.line_search import Point, strong_wolfe
from mfcore.solvers.loop import Solver
from mfcore.validation import DivergenceError

Make = Callable[[np.ndarray, np.random.Generator, Pool], Any]


@dataclass
class Vector:
    """All numbers of a network."""

    weights: np.ndarray

    def copy(self) -> Vector:
        """Return a copy that shares no memory."""
        return Vector(self.weights.copy())


@dataclass
class Stage:
    """One kind of step.

    Parameters
    ----------
    trainer : Trainer
        Its network returns the loss of what `make` returns.
    make : callable
        make(rows, random, pool) returns the network's input for a batch.
    n_passes : int
        Passes over all rows in an epoch.
    size : float
        c, the cells of a row that a step's loss is divided by.
    moved, at_rest : sequences of Parameter
        Those that this stage moves, and those that it must not.
    begin, after : callable or None
        begin() before the passes; after(x, pool) yields trainers, inputs and shares of
        further steps.
    """

    trainer: Trainer
    make: Make
    n_passes: int = 1
    size: float = 1.0
    moved: Sequence[Parameter] = ()
    at_rest: Sequence[Parameter] = ()
    begin: Callable[[], None] | None = None
    after: Callable[[Any, Pool], Iterable[tuple[Trainer, Any, float]]] | None = None

    @property
    def own(self) -> list[Parameter]:
        """The parameters that this stage moves: all if `moved` names none."""
        return list(self.moved) or self.trainer.network.parameters()

    def enter(self) -> None:
        """Free the parameters that move and freeze the rest."""
        for parameters, frozen in ((self.moved, False), (self.at_rest, True)):
            for parameter in parameters:
                parameter.frozen = frozen
        if self.begin is not None:
            self.begin()


@dataclass
class RowSGD(Solver):
    """Mini-batch steps, stage after stage.

    Parameters
    ----------
    stages : sequence of Stage
    n_rows, batch_size : int
    seed : int, >= 0
        Together with the number of the epoch it determines order and draws.
    memory : sequence of ndarray
        What else the next epoch needs; changed in place.
    """

    stages: Sequence[Stage]
    n_rows: int
    batch_size: int
    seed: int
    memory: Sequence[np.ndarray] = ()
    done: int = 0

    def epoch(self, at: Vector, pool: Pool) -> float:
        """Run the passes of all stages; return the mean loss in the last pass."""
        random = np.random.default_rng([self.seed, self.done])
        loss = 0.0
        for stage in self.stages:
            stage.enter()
            for _ in range(stage.n_passes):
                loss = self._pass(stage, random, pool)
        self.done += 1
        if not np.isfinite(at.weights.sum(dtype=np.float64)):
            optimizer = self.stages[0].trainer.optimizer
            raise DivergenceError(f"weights are not finite after step {optimizer.t} at rate "
                                  f"{optimizer.rate:g}; lower learning_rate")
        return loss

    def _pass(self, stage: Stage, random: np.random.Generator, pool: Pool) -> float:
        total, order = 0.0, random.permutation(self.n_rows)
        for start, stop in row_chunks(self.n_rows, self.batch_size):
            n = stop - start
            x = stage.make(np.sort(order[start:stop]), random, pool)
            value = stage.trainer.step([(x, ())], pool, 1 / (n * stage.size))
            total += n / self.n_rows * value
            for trainer, more, share in () if stage.after is None else stage.after(x, pool):
                trainer.step([(more, ())], pool, share, fed_back=True)
        return total

    def state(self) -> dict[str, np.ndarray]:
        """Return the seed, the number of epochs done and the state of trainers and stages."""
        state = {"seed": np.array(self.seed), "done": np.array(self.done)}
        for number, stage in enumerate(self.stages):
            found = stage.trainer.state(stage.own)
            state |= {f"stage_{number}_{name}": array for name, array in found.items()}
        return state | {f"rest_{number}": array for number, array in enumerate(self.memory)}

    def sums(self) -> list[np.ndarray]:
        """Return the memory of all optimizers."""
        return [each for stage in self.stages for each in stage.trainer.optimizer.memories()]

    def resume(self, at: Vector, state: dict[str, np.ndarray]) -> None:
        """Go on from what `state` returned."""
        self.seed, self.done = int(state["seed"]), int(state["done"])
        for number, stage in enumerate(self.stages):
            prefix = f"stage_{number}_"
            stage.trainer.resume(stage.own, {
                name[len(prefix):]: array for name, array in state.items()
                if name.startswith(prefix)})
        for number, array in enumerate(self.memory):
            array[...] = state[f"rest_{number}"]


@dataclass
class RowLBFGS(Solver):
    """Limited-memory BFGS on all rows at once, one step an epoch.

    Parameters
    ----------
    network : Plain
    x : the network's input for all rows
    size : float
        N c.
    reg : float
        λ.
    """

    network: Plain
    x: Any
    size: float
    reg: float
    _pairs: Pairs = field(default_factory=lambda: Pairs(MEMORY), init=False)
    _known: tuple[np.ndarray, float, np.ndarray] | None = field(default=None, init=False)

    def epoch(self, at: Vector, pool: Pool) -> float:
        """Take one step; return the objective after it, divided by N c."""
        start = at.weights.copy()
        if self._known is None or not np.array_equal(self._known[0], start):
            self._known = (start, *self.value_and_gradient(pool))
        _, value, g = self._known
        d = np.empty(len(g))
        self._pairs.put_direction(g, d, pool)
        slope = float(g @ d)
        if not np.isfinite(slope):
            raise DivergenceError("the gradient overflows; rescale the ratings and weights, or "
                                  "take dtype='float64'")
        first = 1.0 if self._pairs.kept else min(1.0, 1 / float(np.linalg.norm(g)))
        best = strong_wolfe(self._along(at, d, pool), Point(0.0, value, slope), first)
        if best is None:
            at.weights[...] = start
            self._pairs = Pairs(MEMORY)
            return value
        at.weights[...] = start + best.t * d
        self._pairs.add(self._pairs.begin(at.weights - start), best.found - g, pool)
        self._known = (at.weights.copy(), best.value, best.found)
        return best.value

    def _along(self, at: Vector, d: np.ndarray, pool: Pool) -> Callable[[float], Point]:
        """Return what goes a step t along d, and returns the point with its gradient."""
        start = at.weights.copy()

        def step(t: float) -> Point:
            at.weights[...] = start + t * d
            value, g = self.value_and_gradient(pool)
            return Point(t, value, float(g @ d), g)

        return step

    def value_and_gradient(self, pool: Pool) -> tuple[float, np.ndarray]:
        """Return L / (N c) and its gradient, as one vector, at the network's present weights."""
        parameters = self.network.parameters()
        value, gradients = value_and_gradients(self.network, identity_loss, [(self.x, ())], pool,
                                               share=1 / self.size)
        blocks, penalty = [], 0.0
        for parameter in parameters:
            block = gradients.dense(parameter)
            if parameter.penalised:
                W = parameter.value
                penalty += self.reg / self.size * float(np.vdot(W, W))
                block = block + W.dtype.type(2 * self.reg / self.size) * W
            blocks.append(block.ravel())
        return value + penalty, np.concatenate(blocks)

    def state(self) -> dict[str, np.ndarray]:
        """Return the pairs that the next step uses."""
        return self._pairs.state()

    def resume(self, at: Vector, state: dict[str, np.ndarray]) -> None:
        """Go on from what `state` returned."""
        unpack(at.weights, self.network.parameters())
        self._pairs.resume(state)
