"""Alternating least squares: with one side frozen, every row of the other is linear.

An epoch balances the two sides (balance.py), then takes a half-sweep over items and one over
users, each after computing its group vectors, which have a closed form (objectives/penalty.py).
A half-sweep solves the row systems of objectives/quadratic.py

* "cholesky": exactly (normal equations, kernels/exact.py, or a system of the row's cells where
  they are fewer than the factors, kernels/dual.py), or
* "cg": by a few conjugate gradient steps that start from the current row (kernels/cg.py),
  in the eigenbasis of the frozen side's Gram, where the sum over all cells is diagonal
  (Hu, Koren, Volinsky 2008; Takács, Pilászy, Tikk 2011 for the warm start).  They wait for the
  memory: a large frozen side is read rounded to bfloat16, which moves the loss by 1e-5 of itself.

A fit begins with items from a sample of the users (sample.py), as part of its first epoch.  With
too few ratings for that, an exact fit begins with two sweeps of conjugate gradient: next to
random factors an exact solution is worth no more than one such step, which takes a tenth to a
third of its time.

The fit ends with one exact half-sweep over users (`finish`), so that folding in a training row
gives that row's factors.  It begins near the solution, so that most rows take a few more steps to a
tolerance (near.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from mfcore.kernels.cg import padded, padded_width, row_solver
from mfcore.kernels.gathered import aligned, packed
from mfcore.objectives.factors import Factors, WholeMatrix
from mfcore.objectives.quadratic import Quadratic, RowSystems
from mfcore.parallel import GRAM_ROWS, Pool, equal_cost_chunks, row_chunks, tiled_product
from mfcore.solvers.balance import balance
from mfcore.solvers.loop import Solver
from mfcore.solvers.sample import STEPS, SWEEPS, of_users, point_of_users, sample_of, take_over
from mfcore.validation import DivergenceError

RUN_UP = 2        # sweeps of conjugate gradient before the first exact one
LARGE = 2**20     # bytes of a frozen side in float32 that sweeps read rounded and packed
SUMS = np.float64  # type of the products over all columns that exact rows are made of


@contextmanager
def sides_as_large() -> Iterator[None]:
    """Read sides of every size as large ones are read, so that a few ratings need their kernels."""
    global LARGE
    before, LARGE = LARGE, 0
    try:
        yield
    finally:
        LARGE = before


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
                many: bool = False, done: np.ndarray | None = None) -> list[float]:
    """Solve as above; return the part of each chunk of rows in the sum.

    bounds : the chunks, of all rows or of some; None: those of `row_bounds`
    done : bool, shape (n_rows,); rows that stay as they are, and do not count; None: none
    """
    from mfcore.kernels.exact import solve_rows, solve_weak_rows
    from mfcore.kernels.systems import widened
    from mfcore.solvers.short import short_parts

    weak, done = np.zeros(len(P), bool), np.zeros(len(P), bool) if done is None else done
    bounds = row_bounds(systems, P.shape[1]) if bounds is None else bounds
    if done[bounds[0]:bounds[-1]].all():
        return [0.0] * (len(bounds) - 1)
    whole, penalty, dtype = systems.whole_matrix(pool, SUMS), systems.penalty, P.dtype
    before = [0.0] * (len(bounds) - 1) if noise is not None else \
        short_parts(systems, whole, P, beta, pool, bounds, done, many=many)
    rest = (penalty.reg, penalty.bias_reg, penalty.means.astype(dtype, copy=False),
            penalty.bias_means, np.empty((0, len(whole.c0)), dtype) if noise is None else noise,
            P, beta, weak)
    frozen = (*systems.cells, systems.Q, systems.gamma)
    A0, *sums = [part.astype(systems.Q.dtype) for part in whole]
    A0 = widened(A0)
    parts = pool.over_chunks(lambda lo, hi: solve_rows(*frozen, A0, *sums, *rest, done, lo, hi),
                             bounds)
    failed = [row for _, row in parts]
    if weak.any():
        A0 = widened(whole.A0)
        failed += pool.over_chunks(lambda lo, hi: solve_weak_rows(
            *frozen, A0, *whole[1:], *rest, lo, hi), bounds)
    failed = [row for row in failed if row >= 0]
    if failed:
        raise DivergenceError(f"the system of row {failed[0]} has no finite solution: its "
                              f"ratings, weights or factors are too large for {dtype}; "
                              f"raise reg, rescale the ratings or use dtype='float64'")
    return [float(known) + more for (known, _), more in zip(parts, before, strict=True)]


def finished_parts(systems: RowSystems, P: np.ndarray, beta: np.ndarray, pool: Pool,
                   bounds: np.ndarray | None = None) -> list[float]:
    """Solve rows that are near their solutions: by steps to a tolerance, others as above."""
    from mfcore.solvers.near import near_rows

    whole, done = systems.whole_matrix(pool, SUMS), None
    bounds = row_bounds(systems, P.shape[1]) if bounds is None else bounds
    if P.dtype == np.float32 and np.isfinite(whole.A0).all():
        basis = Eigenbasis(whole, systems.w0, systems.Q.shape, P.dtype)
        done = near_rows(basis, systems, P, beta, pool, bounds)
    return exact_parts(systems, P, beta, pool, bounds, many=True, done=done)


def improve_by_cg(systems: RowSystems, P: np.ndarray, beta: np.ndarray, pool: Pool,
                  steps: int, width: int = 0) -> float:
    """Take `steps` conjugate gradient steps in every row, in place; otherwise as above.

    `width` factors, if those are more, are what the kernel is built for.
    """
    basis = Eigenbasis(systems.whole_matrix(pool), systems.w0, systems.Q.shape, P.dtype, width)
    turned = replace(systems, Q=basis.frozen(systems.Q, pool))
    return float(sum(improved_parts(basis, turned, P, beta, pool, steps)))


def improved_parts(basis: Eigenbasis, systems: RowSystems, P: np.ndarray, beta: np.ndarray,
                   pool: Pool, steps: int, bounds: np.ndarray | None = None) -> list[float]:
    """Improve rows with the frozen side's Q as `basis.frozen` gives it; parts as above."""
    rotated = basis.turn(P, pool, out=None if basis.is_wider else P)      # in place: no second P
    kernel, rest = basis.kernel(systems, pool), (rotated, beta, steps, 0.0, np.empty(0, bool))
    parts = pool.over_chunks(lambda lo, hi: kernel(*rest, lo, hi),
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
    """The eigenbasis of the Gram of a frozen side, shape `frozen`, padded to the kernel's width K.

    With VᵀGV = D for w0 G = w0 QᵀQ, scores are unchanged when both sides turn by V:
    p·q = (Vᵀp)·(Vᵀq).  If w0 = 0 there is nothing to make diagonal, and V is the identity.
    `row` is the length and the type of a row of the frozen side as sweeps read it.
    """

    def __init__(self, whole: WholeMatrix, w0: float, frozen: tuple[int, ...], dtype: np.dtype,
                 width: int = 0) -> None:
        (n, k), K = frozen, padded_width(max(frozen[1], width))
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
        learned = (1.0, A0[k, k], -c0[k]) if len(c0) > k else (0.0, 0.0, 0.0)
        self.whole = np.array([*learned, self.D.sum(), np.finfo(dtype).eps])
        packs = dtype == np.float32 and n * K * dtype.itemsize >= LARGE
        self.row = (K // 2, np.dtype(np.uint32)) if packs else (K, dtype)

    @property
    def is_wider(self) -> bool:
        """Whether turned rows have columns of zeros."""
        return len(self.V) < self.D.size

    @property
    def changes_nothing(self) -> bool:
        """Whether the frozen side is read as it is."""
        return self._is_identity and self.row == (len(self.V), self.V.dtype)

    def kernel(self, systems: RowSystems, pool: Pool) -> Callable[..., float]:
        """Return kernels/cg.py with the frozen side given; its Q is that of `systems`, turned."""
        penalty, gamma, real = systems.penalty, systems.gamma, self.V.dtype
        return partial(row_solver(self.V.shape[1]), *systems.cells, systems.Q,
                       gamma if gamma.any() else gamma[:0], self.D, self.v, self.g, self.whole,
                       penalty.reg, penalty.bias_reg,
                       self.turn(penalty.means.astype(real, copy=False), pool),
                       penalty.bias_means)

    def frozen(self, Q: np.ndarray, pool: Pool) -> np.ndarray:
        """Return Q V as sweeps read it: packed as in kernels/gathered.py where it is large."""
        width, dtype = self.row
        if dtype == Q.dtype:
            return self.turn(Q, pool)
        out = aligned((len(Q), width), dtype)

        def tile(lo: int, hi: int) -> None:
            rows = Q[lo:hi]
            packed(padded(rows, self.V.shape[1]) if self._is_identity else rows @ self.V,
                   out[lo:hi])

        pool.map(tile, row_chunks(len(Q), GRAM_ROWS))
        return out

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
        finished_parts(self.problem.user_rows(at), at.P, at.beta, pool)

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
