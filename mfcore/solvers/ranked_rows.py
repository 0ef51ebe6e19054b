"""New rows of a ranking loss, each brought to a minimum by BFGS.

With items frozen, a row with chosen items C and negatives N has the objective

    L(u) = Σ_{i∈C} [ ℓ(x·y_i, x·y_N) + λ ‖u‖² ]        x = u/‖u‖ for cosines, u for products

in k numbers.  A step goes along d = −H g, as far as the strong Wolfe conditions say; then, with
s = u⁺ − u and y = g⁺ − g, H is the nearest to the last that maps y to s:

    H⁺ = (I − s yᵀ/sᵀy) H (I − y sᵀ/sᵀy) + s sᵀ/sᵀy
       = H − (s vᵀ + v sᵀ)/sᵀy + (1 + yᵀv/sᵀy) s sᵀ/sᵀy                            v = H y

Computed in float64, row by row: the same row always gets the same vector, whatever comes with it.
Where a loss has kinks ("ccl", "warp"), it ends where no step along d leads down.

Source: Nocedal, Wright 2006, section 6.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from mfcore.objectives.softmax import Ranked, through_unit, unit
from mfcore.parallel import Pool
from mfcore.solvers.line_search import Point, strong_wolfe

MAX_STEPS = 40
PRECISION = 1e-10       # fall that a step promises, relative to the value, below which it stops


@dataclass(frozen=True)
class RankedRow:
    """The objective of one row.

    Parameters
    ----------
    y, z : ndarray of float64, shapes (n_chosen, k), (n_negatives, k)
        What scores are products with.
    w : ndarray, shape (n_negatives,)
    hidden : ndarray of bool, shape (n_negatives,)
        Negatives that are chosen.
    problem : Ranked
    """

    y: np.ndarray
    z: np.ndarray
    w: np.ndarray
    hidden: np.ndarray
    problem: Ranked

    def value_and_gradient(self, u: np.ndarray) -> tuple[float, np.ndarray]:
        """Return L and ∂L/∂u at u, shape (k,)."""
        x, inverse = unit(u[None]) if self.problem.cosine else (u[None], np.ones(1))
        scores = self.z @ x[0]
        scores[self.hidden] = -np.inf
        value, a, D = self.problem.loss.pull(self.y @ x[0], np.tile(scores, (len(self.y), 1)),
                                             self.w)
        g = (a @ self.y + D.sum(axis=0) @ self.z)[None]
        if self.problem.cosine:
            g = through_unit(x, inverse, g)
        reg = len(self.y) * self.problem.reg
        return float(value.sum() + reg * (u @ u)), g[0] + 2 * reg * u


def fold_in_by_ranking(cells: sp.csr_array, P: np.ndarray, Q: np.ndarray, negatives: np.ndarray,
                       w: np.ndarray, problem: Ranked, pool: Pool) -> None:
    """Bring new rows to a minimum, in place of P, which is where they start; Q is frozen.

    A row of `cells` (n_rows, n_items) holds what it has chosen; without any it stays.
    """
    y = Q.astype(np.float64)
    y = unit(y)[0] if problem.cosine else y
    z, place = y[negatives], np.full(len(Q), -1, np.int64)
    place[negatives] = np.arange(len(negatives))

    def some(lo: int, hi: int) -> None:
        for row in range(lo, hi):
            items = cells.indices[cells.indptr[row]:cells.indptr[row + 1]]
            if len(items):
                hidden, mine = np.zeros(len(z), bool), place[items]
                hidden[mine[mine >= 0]] = True
                P[row] = minimiser(RankedRow(y[items], z, w, hidden, problem),
                                   P[row].astype(np.float64))

    pool.over_rows(some, cells.indptr)


def minimiser(row: RankedRow, u: np.ndarray) -> np.ndarray:
    """Return a minimiser of one row, shape (k,), from a start u."""
    value, g = row.value_and_gradient(u)
    H = np.eye(len(u))
    for step in range(MAX_STEPS):
        d = -H @ g
        slope = float(g @ d)
        if not -slope > PRECISION * max(1.0, abs(value)):
            break
        found = strong_wolfe(_along(row, u, d), Point(0.0, value, slope),
                             1.0 if step else _first(u, g))
        if found is None:
            break
        s, y = found.t * d, found.found - g
        u, value, g = u + s, found.value, found.found
        if s @ y > 0:
            H = _updated(H if step else np.eye(len(u)) * (s @ y) / (y @ y), s, y)
    return u


def _first(u: np.ndarray, g: np.ndarray) -> float:
    """Return the length of a step along −g, before anything is known of curvature."""
    length = float(np.linalg.norm(u)) or 1.0
    return min(1.0, length / (4 * float(np.linalg.norm(g))))


def _along(row: RankedRow, u: np.ndarray, d: np.ndarray) -> Callable[[float], Point]:
    """Return what goes a step t along d, and returns the point with its gradient."""
    def point(t: float) -> Point:
        value, g = row.value_and_gradient(u + t * d)
        return Point(t, value, float(g @ d), g)

    return point


def _updated(H: np.ndarray, s: np.ndarray, y: np.ndarray) -> np.ndarray:
    sy, v = s @ y, H @ y
    both = np.outer(s, v)
    found: np.ndarray = H - (both + both.T) / sy + (1 + y @ v / sy) / sy * np.outer(s, s)
    return found
