"""Adam on mini-batches of stored cells, with the unknown cells counted in full.

An epoch visits every stored cell once, in a seeded order, `batch_size` cells at a time.
Row u is visited n_u times (once, with no cell, if it has none), and every visit takes its cell
and an equal share of what belongs to no single cell: the penalty and, if w0 > 0, the sum over
all cells.  With c_u visits in batch B, E = a s − b and Ĝ the Gram of [Q | 1 | γ]:

    g_u(B) = 2 Σ_{B, u} E [q | 1] + (c_u / n_u) 2 [ w0 [p | β | 1] Ĝ + λ_u (p − m_u) ]

    Σ_B g_u(B) = 2 Σ_{Ω, u} E [q | 1] + 2 [ w0 [p | β | 1] Ĝ + λ_u (p − m_u) ]     Σ_B c_u = n_u
               = ∂L/∂[p | β]                                  for parameters that do not move

Only the order is random.  Ĝ is exact in every batch, at a cost that does not grow with the
matrix: a batch that moves the rows T of a side changes its Gram by

    Ĝ⁺ = Ĝ + Z⁺ᵀZ⁺ − ZᵀZ                  Z = [X | 1 | bias] of the rows T, before and after
       = Ĝ + ½ (M + Mᵀ)                   M = (Z⁺ − Z)ᵀ(Z⁺ + Z): one product, not two

and each epoch sums it afresh, so that rounding errors do not add up.

Adam is lazy: rows outside the batch, and their moments, stay as they are, and n counts the
row's own steps, so that the correction for the zero start is right for each row:

    m ← β1 m + (1 − β1) g        v ← β2 v + (1 − β2) g²
    x ← x − η (m / (1 − β1ⁿ)) / ( √(v / (1 − β2ⁿ)) + ε )

Penalties are part of g ("lazy"), or kept out of the moments ("decoupled"), as a step of its
own towards the prior with h = η (c_u / n_u) 2 λ_u, implicit so that no h overshoots:

    x ← (x + h m_u) / (1 + h)                       from x⁺ = x − h (x⁺ − m_u)

Only "lazy" comes to rest at the minimum of L; "decoupled" weighs the penalty against the data
by √v.

Steps are taken in units of the ratings' σ: x / √σ for vectors, x / σ for biases, and L / σ².  Adam
moves a number by about η whatever its gradient, so that this is η √σ and η σ; ε, in the unit of the
gradient, is ε σ^1.5 and ε σ; and h, with λ in units of σ, has η / σ for vectors.

One thread computes a batch (8192 cells are too few to divide); the two sides then move at the
same time.  The result does not depend on the order of threads.

Sources: Kingma, Ba 2015 (algorithm 1); Loshchilov, Hutter 2019 (decoupled decay).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from mfcore import validation
from mfcore.data.canonical import index_type
from mfcore.kernels import minibatch as kernels
from mfcore.objectives.factors import Factors, augmented_gram
from mfcore.objectives.penalty import Penalty
from mfcore.objectives.quadratic import Quadratic
from mfcore.parallel import Pool
from mfcore.solvers.gradient import FREE, rest_at_prior
from mfcore.solvers.loop import Solver
from mfcore.validation import DivergenceError

DECAYS = ("lazy", "decoupled", None)
MOMENTS = (0.9, 0.999, 1e-8)          # β1, β2, ε
# Default cells of a batch, and the fewest batches of an epoch, which Adam needs to settle.
BATCH_CELLS, LEAST_BATCHES = 8192, 32


class Batch(NamedTuple):
    """A batch on one side: rows, their shares c / n, and [∂L/∂x | ∂L/∂bias]."""

    rows: np.ndarray
    share: np.ndarray
    gradient: np.ndarray


class _Side:
    """The moments of one side, and buffers for the rows of a batch."""

    def __init__(self, indptr: np.ndarray, penalty: Penalty, X: np.ndarray, batch_size: int,
                 n_batches: int) -> None:
        counts = np.diff(indptr)
        (n_rows, k), dtype = X.shape, X.dtype
        self.visits = np.maximum(counts, 1).astype(np.float64)
        self.empty = np.array_split(np.flatnonzero(counts == 0), n_batches)
        self.rest_on(penalty, dtype)
        self.moments = {"first": np.zeros((n_rows, k + 1), dtype),
                        "second": np.zeros((n_rows, k + 1), dtype),
                        "updates": np.zeros(n_rows, np.int64)}
        size = min(batch_size, n_rows) + len(self.empty[0])
        self.buffers = (np.empty(size, np.int64), np.full(n_rows, -1, np.int64),
                        np.empty(size, np.int64), np.empty((size, k + 1), dtype))

    def rest_on(self, penalty: Penalty, dtype: np.dtype) -> None:
        """Take the prior means of a penalty."""
        self.penalty = (penalty.reg, penalty.bias_reg, penalty.means.astype(dtype, copy=False),
                        penalty.bias_means)

    def batch(self, n: int, number: int) -> Batch:
        """Return the batch of the n rows that the buffers hold, and of rows without cells."""
        rows, _, visits, gradient = self.buffers
        stop = n + len(self.empty[number])
        rows[n:stop], visits[n:stop], gradient[n:stop] = self.empty[number], 1, 0
        return Batch(rows[:stop], visits[:stop] / self.visits[rows[:stop]], gradient[:stop])


def _beside(X: np.ndarray, bias: np.ndarray, rows: np.ndarray, swap: bool = False
            ) -> np.ndarray:
    """Return [x | 1 | bias] of some rows; with `swap`, [x | bias | 1] to multiply it with."""
    out = np.ones((len(rows), X.shape[1] + 2), X.dtype)
    out[:, :-2] = X[rows]
    out[:, -2 if swap else -1] = bias[rows]
    return out


class Adam(Solver):
    """Adam on one problem: see `mfcore.solvers.loop.Solver`.

    Parameters
    ----------
    problem : Quadratic
    learning_rate : float, > 0
        η: about how far a number moves in a step, in units of σ.
    batch_size : int >= 1, or None
        Stored cells per batch; None: 8192, or fewer so that there are at least 32 batches.
    decay : {"lazy", "decoupled", None}
        The penalty as part of the gradient, as a step of its own, or left out.
    rate_decay : float, >= 0
        Epoch e (from 0) runs at learning_rate / (1 + rate_decay · e).
    free : {"both", "users", "items"}
        What moves; the rest stays as it is.
    random_state : int, numpy Generator, or None
        Seed of the order of cells.

    Raises
    ------
    ValueError, TypeError
        For a parameter out of range, and for a batch larger than the data.
    """

    def __init__(self, problem: Quadratic, learning_rate: float = 0.03,
                 batch_size: int | None = None, decay: str | None = "lazy",
                 rate_decay: float = 0.1, free: str = "both", random_state: Any = None) -> None:
        cells = problem.by_user
        self.problem = problem
        self.learning_rate = validation.real("learning_rate", learning_rate, above=0)
        self.batch_size = checked_batch_size(batch_size, len(cells.indices))
        self.decay = validation.choice("decay", decay, DECAYS)
        self.rate_decay = validation.real("rate_decay", rate_decay, low=0)
        self.free = validation.choice("free", free, FREE)
        self.n_batches = max(1, -(-len(cells.indices) // self.batch_size))
        random = validation.random_generator("random_state", random_state)
        self._seed, self._epochs = int(random.integers(2**63)), 0
        self._sides: list[_Side] = []
        self._users_of_cells = np.repeat(np.arange(len(cells.indptr) - 1, dtype=np.int32),
                                         np.diff(cells.indptr))

    def epoch(self, at: Factors, pool: Pool) -> float:
        """Visit every stored cell once; return the loss after it."""
        rest_at_prior(self.problem, at, self.free)
        rate = self.learning_rate / (1 + self.rate_decay * self._epochs)
        grams = self.grams(at, pool)
        for side, prior in zip(self._both(at), self.problem.penalties(at), strict=True):
            side.rest_on(prior, at.P.dtype)
        for number, cells in enumerate(self.batches()):
            self._step(at, self.gradients(at, number, cells, grams, pool), grams, rate, pool)
        if self.free == "both":
            self.problem.solve_groups(at, pool)
        self._epochs += 1
        loss = self.problem.value(at, pool).total
        if not np.isfinite(loss):
            raise DivergenceError(f"the loss is {loss} at learning_rate="
                                  f"{self.learning_rate:g}; lower it")
        return loss

    def state(self) -> dict[str, np.ndarray]:
        """Return the seed, the number of epochs done and the moments."""
        arrays = {f"{name}_{one}": array for one, side in enumerate(self._sides)
                  for name, array in side.moments.items()}
        return {"seed": np.array(self._seed), "epochs": np.array(self._epochs), **arrays}

    def sums(self) -> list[np.ndarray]:
        """Return the moments."""
        return [array for side in self._sides for array in side.moments.values()]

    def resume(self, at: Factors, state: dict[str, np.ndarray]) -> None:
        """Go on from what `state` returned, to the same bits."""
        self._seed, self._epochs = int(state["seed"]), int(state["epochs"])
        for one, side in enumerate(self._both(at) if self._epochs else ()):
            for name, array in side.moments.items():
                array[...] = state[f"{name}_{one}"]

    def batches(self) -> Iterator[np.ndarray]:
        """Yield the sorted positions of the cells of each batch of this epoch."""
        n_cells = len(self.problem.by_user.indices)
        order = np.arange(n_cells, dtype=index_type(n_cells))
        random = np.random.default_rng((self._seed, self._epochs))
        random.shuffle(order)
        for number in range(self.n_batches):
            yield np.sort(order[number * self.batch_size:(number + 1) * self.batch_size])

    def gradients(self, at: Factors, number: int, cells: np.ndarray, grams: list[np.ndarray],
                  pool: Pool) -> list[Batch]:
        """Return the gradient of a batch for users and items; valid until the next one.

        Parameters
        ----------
        number : int
            Number of the batch in its epoch, from 0.
        cells : ndarray of int, shape (n,)
            Positions of its stored cells in `by_user` order.
        grams : list of ndarray, shape (k + 2, k + 2)
            See `grams`.
        """
        sides = self._both(at)
        stored = self.problem.by_user
        sizes = kernels.batch_gradient(
            cells, self._users_of_cells, stored.indices, stored.x, stored.y, stored.line, at.P,
            at.Q, at.beta, at.gamma, *sides[0].buffers, *sides[1].buffers)
        return pool.map(lambda one: self._with_the_rest(at, one, sizes[one], number, grams),
                        [(0,), (1,)])

    def _with_the_rest(self, at: Factors, one: int, size: int, number: int,
                       grams: list[np.ndarray]) -> Batch:
        """Add what belongs to no single cell to a side's gradient: Gram and penalty."""
        side, X, bias = self._sides[one], *_blocks(at)[one]
        batch = side.batch(size, number)
        if grams:
            whole = 2 * grams[1 - one][:, :-1].astype(X.dtype)
            left = batch.share[:, None].astype(X.dtype) * _beside(X, bias, batch.rows, swap=True)
            batch.gradient[...] += left @ whole
        if self.decay == "lazy":
            kernels.add_penalty(batch.rows, batch.share, X, bias, *side.penalty, batch.gradient)
        return batch

    def grams(self, at: Factors, pool: Pool) -> list[np.ndarray]:
        """Return w0 Ĝ of users and of items, or nothing if w0 = 0."""
        if self.problem.w0 == 0:
            return []
        return [self.problem.w0 * augmented_gram(*side, pool) for side in _blocks(at)]

    def _step(self, at: Factors, batches: list[Batch], grams: list[np.ndarray], rate: float,
              pool: Pool) -> None:
        """Take a step of Adam in the rows of a batch, and update the Grams."""
        learns_bias, unit = self.problem.learns_bias, self.problem.unit
        moments = np.array([*MOMENTS[:2], MOMENTS[2] * unit ** 1.5, MOMENTS[2] * unit])

        def move(one: int) -> None:
            side, (X, bias), (rows, share, gradient) = \
                self._sides[one], _blocks(at)[one], batches[one]
            before = _beside(X, bias, rows) if grams else X
            kernels.adam_rows(rows, gradient, X, bias, *side.moments.values(),
                              rate * np.array([unit ** 0.5, unit]), moments, learns_bias)
            if self.decay == "decoupled":
                kernels.pull_to_prior(rows, share, X, bias, *side.penalty,
                                      rate * np.array([1 / unit, 1.0]), learns_bias)
            if grams:
                after = _beside(X, bias, rows)
                M = (after - before).T @ (after + before)
                grams[one] += self.problem.w0 / 2 * (M + M.T)

        pool.map(move, [(one,) for one, name in enumerate("PQ") if name in FREE[self.free]])

    def _both(self, at: Factors) -> list[_Side]:
        if not self._sides:
            problem = self.problem
            self._sides = [_Side(cells.indptr, penalty, X, self.batch_size, self.n_batches)
                           for cells, penalty, X in zip((problem.by_user, problem.by_item),
                                                        problem.penalties(at), (at.P, at.Q),
                                                        strict=True)]
        return self._sides


def checked_batch_size(batch_size: int | None, n_cells: int) -> int:
    """Return the cells of a batch; raise ValueError if it exceeds `n_cells`."""
    if batch_size is None:
        return max(1, min(BATCH_CELLS, n_cells // LEAST_BATCHES))
    validation.integer("batch_size", batch_size, low=1)
    if batch_size > n_cells:
        raise ValueError(f"batch_size must be at most the number of ratings, {n_cells}, got "
                         f"{batch_size}; None chooses one")
    return batch_size


def _blocks(at: Factors) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(at.P, at.beta), (at.Q, at.gamma)]
