"""Alternating least squares: with one side frozen, every row of the other is linear.

An epoch balances the two sides (balance.py), then takes a half-sweep over items and one over
users, each after computing its group vectors, which have a closed form (objectives/penalty.py).
A half-sweep solves the row systems of objectives/quadratic.py

* "cholesky": exactly (normal equations, kernels/exact.py, or a system of the row's cells where
  they are fewer than the factors, kernels/dual.py), or
* "cg": by a few conjugate gradient steps that start from the current row (kernels/cg.py),
  in the eigenbasis of the frozen side's Gram, where the sum over all cells is diagonal
  (Hu, Koren, Volinsky 2008; Takács, Pilászy, Tikk 2011 for the warm start).

A fit begins with items from a sample of the users (sample.py), as part of its first epoch.  With
too few ratings for that, an exact fit begins with two sweeps of conjugate gradient: next to
random factors an exact solution is worth no more than one such step, which takes a tenth to a
third of its time.

The fit ends with one exact half-sweep over users (`finish`), so that folding in a training row
gives that row's factors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mfcore.kernels.cg import padded, padded_width, row_solver
from mfcore.kernels.exact import solve_rows, solve_weak_rows
from mfcore.objectives.factors import Factors, WholeMatrix
from mfcore.objectives.quadratic import Quadratic, RowSystems
from mfcore.parallel import Pool, equal_cost_chunks, tiled_product
from mfcore.solvers.balance import balance
from mfcore.solvers.loop import Solver
from mfcore.solvers.sample import STEPS, SWEEPS, of_users, point_of_users, sample_of, take_over
from mfcore.validation import DivergenceError

RUN_UP = 2        # sweeps of conjugate gradient before the first exact one
SUMS = np.float64  # type of the products over all columns that exact rows are made of


def run_up(at: Factors, sweep: Callable[[], float]) -> None:
    """Begin an exact fit with sweeps of conjugate gradient, in which items start from zero.

    So their start does not matter, as in an exact solution: items in another order give the same
    model in that order.
    """
    at.Q[...] = 0
    for _ in range(RUN_UP):
        sweep()


def solve_exactly(systems: RowSystems, P: np.ndarray, beta: np.ndarray, pool: Pool,
                  noise: np.ndarray | None = None, *, many: bool = False) -> float:
    """Solve every row of one side in place, by Cholesky.

    Parameters
    ----------
    systems : RowSystems
    P, beta : ndarray, shapes (n_rows, k), (n_rows,)
        The free side, overwritten; beta only if the bias is learned.
    noise : ndarray, shape (n_rows, d), or None
        For random draws around the solution: see kernels/exact.py.
    many : bool
        Whether the rows are all of a side: see solvers/short.py.

    Returns
    -------
    known : float
        Σ_Ω (a s² − 2 b s) of the values before the step.

    Raises
    ------
    DivergenceError
        If a row system has no finite solution.
    """
    return float(sum(exact_parts(systems, P, beta, pool, noise=noise, many=many)))


def exact_parts(systems: RowSystems, P: np.ndarray, beta: np.ndarray, pool: Pool,
                bounds: np.ndarray | None = None, noise: np.ndarray | None = None, *,
                many: bool = False) -> list[float]:
    """Solve as above; return the part of each chunk of rows in the sum.

    `bounds` are the chunks, of all rows or of some; None: those of `row_bounds`.
    """
    from mfcore.solvers.short import short_parts

    whole, penalty, dtype = systems.whole_matrix(pool, SUMS), systems.penalty, P.dtype
    weak, done = np.zeros(len(P), bool), np.zeros(len(P), bool)
    bounds = row_bounds(systems, P.shape[1]) if bounds is None else bounds
    before = [0.0] * (len(bounds) - 1) if noise is not None else \
        short_parts(systems, whole, P, beta, pool, bounds, done, many=many)
    rest = (penalty.reg, penalty.bias_reg, penalty.means.astype(dtype, copy=False),
            penalty.bias_means, np.empty((0, len(whole.c0)), dtype) if noise is None else noise,
            P, beta, weak)
    frozen = (*systems.cells, systems.Q, systems.gamma)
    rounded = [part.astype(dtype) for part in whole]
    parts = pool.over_chunks(lambda lo, hi: solve_rows(*frozen, *rounded, *rest, done, lo, hi),
                             bounds)
    failed = [row for _, row in parts]
    if weak.any():
        failed += pool.over_chunks(lambda lo, hi: solve_weak_rows(*frozen, *whole, *rest, lo, hi),
                                   bounds)
    failed = [row for row in failed if row >= 0]
    if failed:
        raise DivergenceError(f"the system of row {failed[0]} has no finite solution: its "
                              f"ratings, weights or factors are too large for {dtype}; "
                              f"raise reg, rescale the ratings or use dtype='float64'")
    return [float(known) + more for (known, _), more in zip(parts, before, strict=True)]


def improve_by_cg(systems: RowSystems, P: np.ndarray, beta: np.ndarray, pool: Pool,
                  steps: int, width: int = 0) -> float:
    """Take `steps` conjugate gradient steps in every row, in place; otherwise as above.

    `width` factors, if those are more, are what the kernel is built for.
    """
    basis = Eigenbasis(systems.whole_matrix(pool), systems.w0, systems.Q.shape[1], P.dtype, width)
    turned = replace(systems, Q=basis.turn(systems.Q, pool))
    return float(sum(improved_parts(basis, turned, P, beta, pool, steps)))


def improved_parts(basis: Eigenbasis, systems: RowSystems, P: np.ndarray, beta: np.ndarray,
                   pool: Pool, steps: int, bounds: np.ndarray | None = None) -> list[float]:
    """Improve rows with the frozen side's Q already turned and P not; parts as above."""
    penalty, wide = systems.penalty, systems.Q.shape[1] > P.shape[1]
    rotated = basis.turn(P, pool, out=None if wide else P)      # in place: no second P
    fixed = (*systems.cells, systems.Q, systems.gamma, basis.D, basis.v, basis.g, basis.whole,
             penalty.reg, penalty.bias_reg,
             basis.turn(penalty.means.astype(P.dtype, copy=False), pool), penalty.bias_means)
    kernel = row_solver(systems.Q.shape[1])
    parts = pool.over_chunks(lambda lo, hi: kernel(*fixed, rotated, beta, steps, lo, hi),
                             row_bounds(systems, P.shape[1]) if bounds is None else bounds)
    if np.isnan(parts).any():
        raise DivergenceError(f"steps of rows overflow: their ratings, weights or factors are too "
                              f"large for {P.dtype}; raise reg, rescale the ratings or use "
                              f"dtype='float64'")
    basis.turn_back(rotated, P, pool)
    return [float(part) for part in parts]      # (fsum raises where infinities meet)


def row_bounds(systems: RowSystems, k: int) -> np.ndarray:
    """Return the chunks of rows that are solved together, with about equal cost."""
    return equal_cost_chunks(systems.cells.indptr, row_cost(k))


def row_cost(k: int) -> float:
    """Return the fixed cost of a row of k factors, in stored cells."""
    return 8 + k / 4


class Eigenbasis:
    """The eigenbasis of the frozen side's Gram, padded to the kernel's width K.

    With VᵀGV = D for w0 G = w0 QᵀQ, scores are unchanged when both sides turn by V:
    p·q = (Vᵀp)·(Vᵀq).  If w0 = 0 there is nothing to make diagonal, and V is the identity.
    """

    def __init__(self, whole: WholeMatrix, w0: float, k: int, dtype: np.dtype,
                 width: int = 0) -> None:
        K = padded_width(max(k, width))
        A0, c0, c1 = whole
        if not np.isfinite(A0).all():
            raise DivergenceError("the factors overflow; raise reg or rescale the ratings")
        D, V = np.linalg.eigh(A0[:k, :k]) if w0 else (np.zeros(k), np.eye(k))
        self.V = np.zeros((k, K), dtype)
        self.V[:, :k] = V
        self._is_identity = w0 == 0
        self.D = np.zeros(K, dtype)
        self.D[:k] = np.maximum(D, 0.0)
        self.v, self.g = (padded((-c[:k] @ V).astype(dtype)[None], K)[0] for c in (c1, c0))
        self.whole = np.array([1.0, A0[k, k], -c0[k]]) if len(c0) > k else np.zeros(3)

    @property
    def changes_nothing(self) -> bool:
        """Whether turning returns the same array."""
        return self._is_identity and self.V.shape[0] == self.V.shape[1]

    def turn(self, X: np.ndarray, pool: Pool, out: np.ndarray | None = None) -> np.ndarray:
        """Return X V, shape (n, K), in `out` if given; X itself if that changes nothing."""
        if self._is_identity:
            return padded(X, self.V.shape[1])
        return tiled_product(X, self.V, pool, out=out)

    def turn_back(self, rotated: np.ndarray, out: np.ndarray, pool: Pool) -> None:
        """Write rotated Vᵀ to `out`, shape (n, k)."""
        if not self._is_identity:
            tiled_product(rotated, np.ascontiguousarray(self.V.T), pool, out=out)
        elif rotated is not out:
            out[:] = rotated[:, :out.shape[1]]


def start_on_sample(problem: Quadratic, at: Factors, pool: Pool) -> bool:
    """Fit all but the users to a sample of users; return whether there is a sample."""
    rows = sample_of(problem, at.P.shape[1])
    if rows is None:
        return False
    part, found = of_users(problem, rows), point_of_users(at, rows)
    for _ in range(SWEEPS):
        ALS(part, exact=False, cg_steps=STEPS).epoch(found, pool)
    take_over(at, found, problem)
    return True


@dataclass
class Alternating(Solver):
    """Half-sweeps over items and users in turn; subclasses define the half-sweep."""

    problem: Quadratic

    @property
    def _sums(self) -> type | None:
        """The type in which Grams of the factors are multiplied out; None: that of the factors."""
        return None

    def begin(self, at: Factors, pool: Pool) -> None:
        """Start on a sample of the users, if there is one."""
        self._starts_on_sample(at, pool)

    def _starts_on_sample(self, at: Factors, pool: Pool) -> bool:
        """Fit items to a sample of users and all users to them; return whether there is one."""
        started = start_on_sample(self.problem, at, pool)
        if started:
            improve_by_cg(self.problem.user_rows(at), at.P, at.beta, pool, STEPS)
        return started

    def epoch(self, at: Factors, pool: Pool) -> float:
        """Balance, sweep over items, then users; return the loss before the users moved.

        The sweep sums the loss on the way, so that it needs no pass of its own.
        """
        problem = self.problem
        balance(problem, at, pool)
        problem.items.solve(*at.of_items, problem.learns_bias, pool)
        self._half(problem.item_rows(at), at.Q, at.gamma, pool)
        problem.users.solve(*at.of_users, problem.learns_bias, pool)
        around = problem.constant + problem.penalty(at)
        if problem.w0:
            around += problem.w0 * problem.whole_square(at, pool, self._sums)
        return around + self._half(problem.user_rows(at), at.P, at.beta, pool)

    def finish(self, at: Factors, pool: Pool) -> None:
        """Solve all users exactly, so that folding in a training row gives its factors."""
        solve_exactly(self.problem.user_rows(at), at.P, at.beta, pool, many=True)

    def _half(self, systems: RowSystems, X: np.ndarray, bias: np.ndarray, pool: Pool) -> float:
        """Improve one side in place; return Σ_Ω (a s² − 2 b s) of the values before."""
        raise NotImplementedError


@dataclass
class ALS(Alternating):
    """Alternating least squares on one problem: see `mfcore.solvers.loop.Solver`.

    Parameters
    ----------
    problem : Quadratic
    exact : bool
        Cholesky, else conjugate gradient.
    cg_steps : int
        Conjugate gradient steps per row and half-sweep.
    width : int
        Factors that kernels of conjugate gradient are built for, if more than there are.
    """

    exact: bool
    cg_steps: int = 2
    width: int = 0
    _users_are_exact: bool = False

    @property
    def _sums(self) -> type | None:
        return SUMS if self.exact else None

    def begin(self, at: Factors, pool: Pool) -> None:
        """Start on a sample, or, in an exact fit without one, with conjugate gradient."""
        if not self._starts_on_sample(at, pool) and self.exact:
            steps = replace(self, exact=False, cg_steps=1)
            run_up(at, lambda: super(ALS, steps).epoch(at, pool))

    def epoch(self, at: Factors, pool: Pool) -> float:
        """Sweep as `Alternating` does; after an exact sweep there is nothing to finish."""
        loss = super().epoch(at, pool)
        self._users_are_exact = self.exact
        return loss

    def finish(self, at: Factors, pool: Pool) -> None:
        """Solve all users exactly, unless they already are."""
        if not self._users_are_exact:
            super().finish(at, pool)

    def _half(self, systems: RowSystems, X: np.ndarray, bias: np.ndarray, pool: Pool) -> float:
        if self.exact:
            return solve_exactly(systems, X, bias, pool, many=True)
        return improve_by_cg(systems, X, bias, pool, self.cg_steps, self.width)
