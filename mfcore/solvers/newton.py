"""New rows of the logistic objective, brought to their minimum by Newton's method.

With the other side frozen a row's problem is smooth and convex (objectives/pointwise.py):

    z ← z − t H⁻¹ g,    t = 1, ½, ¼, ... until the value falls by t gᵀH⁻¹g / 10    (Armijo)

The half steps make it converge from anywhere; near the minimum t = 1 and the number of correct
digits doubles with each of the five to eight steps.  So a new row is the exact minimiser, without
a rate, a seed or a number of passes to choose, and the same row always gets the same vector.
If w0 > 0 a step costs O(n_items k²), as every cell of the row counts.
"""

from __future__ import annotations

import numpy as np

from mfcore.objectives.pointwise import LogisticRow
from mfcore.objectives.quadratic import RowSystems
from mfcore.parallel import Pool

MAX_STEPS = 50
PRECISION = 1e-13       # relative fall of the quadratic model's value below which it stops


def solve_logistic(systems: RowSystems, P: np.ndarray, beta: np.ndarray, pool: Pool) -> None:
    """Bring every row of one side to its minimum, in place; beta only if it is learned.

    P, beta : ndarray, shapes (n_rows, k), (n_rows,)
    """
    k = P.shape[1]

    def solve(lo: int, hi: int) -> None:
        for row in range(lo, hi):
            z = minimiser(LogisticRow.of(systems, row, float(beta[row])))
            P[row] = z[:k]
            if systems.learns_bias:
                beta[row] = z[k]

    pool.over_rows(solve, systems.cells.indptr)


def minimiser(problem: LogisticRow) -> np.ndarray:
    """Return the minimiser of one row, starting from its prior mean, shape (d,)."""
    z, value = problem.mean, problem.value(problem.mean)
    for _ in range(MAX_STEPS):
        g, H = problem.derivatives(z)
        step = np.linalg.lstsq(H, g, rcond=None)[0] if not problem.ridge.all() else \
            np.linalg.solve(H, g)
        fall, t = float(g @ step), 1.0
        if not fall > PRECISION * max(1.0, abs(value)):
            break
        while (new := problem.value(z - t * step)) > value - t * fall / 10 and t > PRECISION:
            t /= 2
        z, value = z - t * step, new
    return z
