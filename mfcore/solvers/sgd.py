"""Stochastic gradient descent on a stratified grid: no locks, no races, the same bits.

Users and items are cut into a fixed g × g grid of blocks.  Blocks of a diagonal share no user and
no item, so they run in parallel and in any order with the same result (Gemulla et al. 2011;
LIBMF's grid, Zhuang et al. 2013, without its scheduler).  Within a block the steps go user by
user, in a new random order each epoch, so that a user's row stays in registers and the block's
items in cache.

The penalty λ_u ‖P_u − m_u‖² is divided into n_u equal shares, one for each cell of the row.  A
share is at most what takes a row half of the way to m_u in a step: with more, rows of few cells
would step beyond it, and with twice as much away from it.

If w0 > 0 the canonical form has a term over all cells, w0 Σ_all s².  After each diagonal every
row takes 1/g of it by one implicit step of rate τ = η / g, in z = [p | β]:

    z ← z − 2τ w0 (Ĝ z' + ĝ),  taken at the new z'        Ĝ = Σ_i x xᵀ, ĝ = Σ_i γ_i x, x = [q | 1]
    (I + 2τ w0 Ĝ) z' = z − 2τ w0 ĝ                        one k × k system for all rows

An explicit step would diverge once 2τ w0 exceeds 2 / (largest eigenvalue of Ĝ), which grows
with the catalogue; the implicit one cannot.  To first order in η an epoch moves every parameter
by −η times the gradient of the whole formula; if η w0 λ_max(Ĝ) / g is not small, the two kinds of
steps work against each other and the fit ends near the optimum, not at it.  So blocks are smaller
there: on ML-100K with 16 factors and w0 = 0.1, 100 epochs at η = 0.003 / (1 + 0.1 t) end 0.3 %
above the minimum with 8 strata per side and 1.3 % with 2 (constant η: 1.4 % and 15 %).

The logistic objective has no Gram matrix for such a step.  kernels/logistic.py draws its unknown
cells inside each block instead, keyed by (seed, epoch, diagonal, user), so that the bits do not
depend on threads.  To first order in η the expected move is −η times the gradient again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mfcore.data.chunks import column_counts, empty_beside
from mfcore.kernels.cg import padded, padded_width
from mfcore.kernels.logistic import logistic_kernel
from mfcore.kernels.sgd import RUN, block_kernel, sort_stratum
from mfcore.objectives.factors import Factors
from mfcore.objectives.quadratic import Quadratic, RowSystems
from mfcore.parallel import Pool, tiled_product
from mfcore.solvers.loop import Solver

BLOCK_CELLS = 20_000        # cells of a block to aim at
PAID_BLOCK_CELLS = 1_500    # the same if steps for the sum over all cells follow
MAX_STRATA = 16             # most strata per side
MOST_PULL = 0.25            # of η λ / n: a step takes 2 η λ / n of the way to the prior


@dataclass(frozen=True)
class Grid:
    """A problem's cells, sorted by user stratum, item stratum and user.

    User stratum c is rows bounds[c] to bounds[c + 1]; starts[c], shape (g, rows + 1), holds
    where each user's cells of each item stratum begin in `items`, `a` and `b` (`a` has one
    entry if all cells share it).  members[d] are the items of stratum d.
    """

    bounds: list[int]
    starts: list[np.ndarray]
    members: list[np.ndarray]
    items: np.ndarray
    a: np.ndarray
    b: np.ndarray

    @property
    def n_strata(self) -> int:
        """Strata per side, g."""
        return len(self.starts)


def stratified(problem: Quadratic, dtype: np.dtype, random: np.random.Generator,
               pool: Pool, block_cells: int = BLOCK_CELLS) -> Grid:
    """Cut a problem's cells into a grid that depends on the data and the seed alone.

    User strata are ranges of rows with equal cost, so that a block reads memory in order; items
    are assigned at random.
    """
    cells, nnz = problem.by_user, len(problem.by_user.indices)
    g = int(np.clip(np.sqrt(nnz / block_cells), 2, MAX_STRATA))
    bounds = np.searchsorted(cells.indptr, np.linspace(0, nnz, g + 1)).tolist()
    bounds[0], bounds[-1] = 0, len(cells.indptr) - 1
    n_items = len(problem.by_item.indptr) - 1
    stratum = dealt_out(column_counts(cells.indices, n_items), g, random)
    starts = [np.empty((g, hi - lo + 1), np.int64)
              for lo, hi in zip(bounds[:-1], bounds[1:], strict=True)]
    items = empty_beside(cells.indices, nnz, cells.indices.dtype)
    b = empty_beside(cells.indices, nnz, dtype)
    a = np.full(1, cells.line[1], dtype) if cells.line[0] == 0 else \
        empty_beside(cells.indices, nnz, dtype)
    pool.map(lambda c: sort_stratum(*cells, stratum, bounds[c], starts[c], items, a, b),
             [(c,) for c in range(g)])
    members = [np.flatnonzero(stratum == d) for d in range(g)]
    return Grid(bounds, starts, members, items, a, b)


def dealt_out(counts: np.ndarray, g: int, random: np.random.Generator) -> np.ndarray:
    """Return a stratum in [0, g) for each row, so that strata have about equal counts.

    Rows are dealt out by decreasing count in rounds of g, each round shuffled.
    """
    order = np.argsort(-counts, kind="stable")
    rounds = -(-len(counts) // g)
    dealt = random.permuted(np.tile(np.arange(g), (rounds, 1)), axis=1).ravel()
    stratum = np.empty(len(counts), np.int64)
    stratum[order] = dealt[:len(counts)]
    return stratum


@dataclass
class SGD(Solver):
    """Stochastic gradient descent on one problem: see `mfcore.solvers.loop.Solver`.

    Parameters
    ----------
    problem : Quadratic
    learning_rate, bias_learning_rate : float, > 0
        η of the factors and of learned biases, for ratings in units of σ: a step of P / √σ
        along the gradient of L / σ² by it is one of P along that of L with η / σ.
    schedule : {"constant", "inverse", "adagrad"}
        η; η / (1 + decay·(epoch − 1)); or η / √h for each row, h of gradients in that unit.
    decay : float, >= 0
    seed : int
        Of the grid and of the order of users.
    """

    problem: Quadratic
    learning_rate: float
    bias_learning_rate: float
    schedule: str
    decay: float
    seed: int
    epochs_done: int = 0
    _grid: Grid | None = None
    _squares: tuple[np.ndarray, np.ndarray] = field(default=(np.empty(0), np.empty(0)))
    _means: tuple[np.ndarray, ...] = ()
    _shares: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)

    def epoch(self, at: Factors, pool: Pool) -> float:
        """Step through all stored cells once; return the loss along the way.

        Known cells count as they were before their step; penalty and unknown cells as they are
        after the epoch.
        """
        grid, k = self._grid or self._prepare(at, pool), at.P.shape[1]
        K = padded_width(k)
        slower = 1 + self.decay * self.epochs_done if self.schedule == "inverse" else 1.0
        rates = (self._rate / slower,
                 self.bias_learning_rate / slower if self.problem.learns_bias else 0.0)
        random = np.random.default_rng([self.seed, self.epochs_done + 1])
        runs = [random.permutation(-(-(part.shape[1] - 1) // RUN)) for part in grid.starts]
        wide = Factors(padded(at.P, K), padded(at.Q, K), at.beta, at.gamma)
        users, items = self.problem.penalties(at)
        self._means = (*(padded(side.means.astype(at.P.dtype), K) for side in (users, items)),
                       users.bias_means, items.bias_means)
        known = 0.0
        for shift in range(grid.n_strata):
            known += self._diagonal(grid, wide, runs, shift, rates, pool)
        if wide.P is not at.P:
            at.P[:], at.Q[:] = wide.P[:, :k], wide.Q[:, :k]
        self._pull_unrated(at, (self._first_rate / slower, rates[1]))
        self.problem.solve_groups(at, pool)
        self.epochs_done += 1
        return self.problem.constant + known + self._whole(at, pool) + self.problem.penalty(at)

    @property
    def _rate(self) -> float:
        """The rate of vectors; that over √h, with h in the unit of the gradient's square, σ³."""
        unit = self.problem.unit
        return self.learning_rate * (np.sqrt(unit) if self.schedule == "adagrad" else 1 / unit)

    @property
    def _first_rate(self) -> float:
        """The rate of vectors without a gradient so far."""
        return self._rate / (self._spread ** 1.5 if self.schedule == "adagrad" else 1.0)

    def finish(self, at: Factors, pool: Pool) -> None:
        """Give rows without cells exactly their prior, unless unknown cells have a weight."""
        if self.problem.w0 == 0:
            self._pull_unrated(at, (1e30, 1e30))

    def _pull_unrated(self, at: Factors, rates: tuple[float, float]) -> None:
        """Take one implicit step of the penalty for rows without cells."""
        problem = self.problem
        for cells, side, X, bias in zip((problem.by_user, problem.by_item),
                                        problem.penalties(at), (at.P, at.Q),
                                        (at.beta, at.gamma), strict=True):
            empty = np.flatnonzero(np.diff(cells.indptr) == 0)
            means, bias_means = side.means_of(empty)
            X[empty] = means + (X[empty] - means) / (1 + 2 * rates[0] * side.reg[empty, None])
            if problem.learns_bias:
                bias[empty] = bias_means + (bias[empty] - bias_means) / (
                    1 + 2 * rates[1] * side.bias_reg[empty])

    def state(self) -> dict[str, np.ndarray]:
        """Return the seed, the number of epochs done and AdaGrad's sums of squares."""
        return {"counters": np.array([self.seed, self.epochs_done]),
                "user_squares": self._squares[0], "item_squares": self._squares[1]}

    def sums(self) -> tuple[np.ndarray, np.ndarray]:
        """Return AdaGrad's sums of squares."""
        return self._squares

    def resume(self, at: Factors, state: dict[str, np.ndarray]) -> None:
        """Go on from what `state` returned; the grid follows from the seed."""
        self.seed, self.epochs_done = (int(value) for value in state["counters"])
        self._squares = state["user_squares"], state["item_squares"]

    def _prepare(self, at: Factors, pool: Pool) -> Grid:
        random = np.random.default_rng(self.seed)
        self._grid = grid = stratified(self.problem, at.P.dtype, random, pool, self._block_cells)
        if self.epochs_done == 0:
            limits = np.finfo(at.P.dtype)
            first = np.clip(self._spread ** 3, limits.tiny, limits.max)
            self._squares = (np.full(len(at.P), first, at.P.dtype),
                             np.full(len(at.Q), first, at.P.dtype))
        sides = ((self.problem.users.penalty, self.problem.by_user),
                 (self.problem.items.penalty, self.problem.by_item))
        counts = [np.maximum(np.diff(cells.indptr), 1) for _, cells in sides]
        most, most_bias = (MOST_PULL / max(rate, np.finfo(float).tiny)
                           for rate in (self._first_rate, self.bias_learning_rate))
        self._shares = [(np.minimum(penalty.reg / n, most),
                         np.minimum(penalty.bias_reg / n, most_bias))
                        for (penalty, _), n in zip(sides, counts, strict=True)]
        return grid

    @property
    def _spread(self) -> float:
        """Of ratings; its cube is of the size of a gradient's square, with which AdaGrad begins."""
        return self.problem.unit

    @property
    def _block_cells(self) -> int:
        return PAID_BLOCK_CELLS if self.problem.w0 else BLOCK_CELLS

    def _diagonal(self, grid: Grid, at: Factors, runs: list[np.ndarray], shift: int,
                  rates: tuple[float, float], pool: Pool) -> float:
        """Take the steps of a diagonal, then 1 / g of the sum over all cells."""
        kernel = block_kernel(at.P.shape[1], self.schedule == "adagrad", self._is_pulled)
        known = self._run_blocks(kernel, grid, at, runs, shift, rates, pool)
        problem = self.problem.without_groups       # (the sum over all cells has no prior)
        if problem.w0:
            for systems, X, bias in ((problem.user_rows(at), at.P, at.beta),
                                     (problem.item_rows(at), at.Q, at.gamma)):
                implicit_step(systems, X, bias, rates, grid.n_strata, pool)
        return known

    def _run_blocks(self, kernel: Callable[..., float], grid: Grid, at: Factors,
                    runs: list[np.ndarray], shift: int, rates: tuple[float, float], pool: Pool,
                    drawn: Callable[[int], tuple[Any, ...]] = lambda d: ()) -> float:
        """Run the blocks (c, c + shift) of all user strata c, no two of which share a row.

        `drawn` are further arguments of the kernel for an item stratum.
        """
        (reg, bias_reg), (item_reg, item_bias_reg) = self._shares
        rows = (at.P, at.Q, at.beta, at.gamma, reg, item_reg, bias_reg, item_bias_reg,
                *self._means, *rates, *self._squares)
        return float(sum(pool.map(
            lambda c, d: kernel(grid.bounds[c], runs[c], grid.starts[c][d], grid.items, grid.a,
                                grid.b, *drawn(d), *rows),
            [(c, (c + shift) % grid.n_strata) for c in range(grid.n_strata)])))

    @property
    def _is_pulled(self) -> bool:
        return bool(self._means[0].any() or self._means[1].any())

    def _whole(self, at: Factors, pool: Pool) -> float:
        """Return w0 Σ_all s²."""
        problem = self.problem
        return problem.w0 * problem.whole_square(at, pool) if problem.w0 else 0.0


@dataclass
class LogisticSGD(SGD):
    """SGD on a `Logistic` problem, with random cells for the sum over all; else as `SGD`."""

    @property
    def _spread(self) -> float:
        return 0.5                          # the largest standard deviation of labels

    @property
    def _block_cells(self) -> int:
        return BLOCK_CELLS                  # each block costs at least one round of draws per user

    def _diagonal(self, grid: Grid, at: Factors, runs: list[np.ndarray], shift: int,
                  rates: tuple[float, float], pool: Pool) -> float:
        random = np.random.default_rng([self.seed, self.epochs_done, shift])
        key = int(random.integers(2**63))
        kernel = logistic_kernel(at.P.shape[1], self.schedule == "adagrad", self._is_pulled)
        return self._run_blocks(kernel, grid, at, runs, shift, rates, pool,
                                lambda d: (grid.members[d], self.problem.w0, key))

    def _whole(self, at: Factors, pool: Pool) -> float:
        return 0.0                          # already part of the draws


def implicit_step(systems: RowSystems, X: np.ndarray, bias: np.ndarray,
                  rates: tuple[float, float], parts: int, pool: Pool) -> None:
    """Take the implicit step of the sum over all cells in place; rates are η and η_b."""
    k = X.shape[1]
    A0, c0, c1 = systems.whole_matrix(pool)
    rate = np.append(np.full(k, 2 * rates[0] / parts), 2 * rates[1] / parts)[:len(c0)]
    T = np.linalg.inv(np.eye(len(c0)) + rate[:, None] * A0).T
    Z = np.column_stack([X, bias]) if systems.learns_bias else X
    free = (rate * c0) @ T
    moved = tiled_product(Z, T.astype(X.dtype), pool)
    moved += free.astype(X.dtype)
    if systems.learns_bias:
        X[:], bias[:] = moved[:, :k], moved[:, k]
    else:
        X[:] = moved + np.outer(bias, (rate * c1) @ T).astype(X.dtype)
