"""What the pages share: a small problem with everything in it, and the look of their plots."""

from __future__ import annotations

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
from scipy import stats

from mfcore.gradcheck import GradientCheck, gradcheck
from mfcore.objectives.factors import Factors
from mfcore.objectives.penalty import Penalty, Prior
from mfcore.objectives.quadratic import Cells, Quadratic
from mfcore.parallel import Pool

plt.rcParams.update({"figure.figsize": (7, 3.4), "figure.dpi": 110, "figure.autolayout": True,
                     "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "none",
                     "axes.prop_cycle": plt.cycler(color=["#1f4e79", "#c55a11", "#3a7d44",
                                                          "#7b3f98"])
                     + plt.cycler(linestyle=["-", "--", "-.", ":"])})


def small(n: int = 7, m: int = 5, k: int = 3, *, w0: float = 0.0, learns_bias: bool = False,
          seed: int = 0) -> tuple[Quadratic, Factors, np.ndarray]:
    """Return a problem of random ratings, a random point, and which cells are known.

    All numbers are drawn, so that no wrong factor can hide behind a 0 or a 1.
    """
    random = np.random.default_rng(seed)
    R, W = random.uniform(1, 5, (n, m)), random.uniform(0.5, 2, (n, m))
    known = random.random((n, m)) < 0.6
    sides = [Prior(Penalty(random.uniform(0.1, 1, rows), random.uniform(0.1, 1, rows),
                           np.zeros((1, k)), np.zeros(1))) for rows in (n, m)]
    cells = [stored(R, W, known, w0), stored(R.T, W.T, known.T, w0)]
    problem = Quadratic(*cells, *sides, w0, learns_bias, float((W * R**2)[known].sum()))
    bias = [0.3 * random.normal(size=rows) if learns_bias else np.zeros(rows) for rows in (n, m)]
    at = Factors(random.normal(size=(n, k)), random.normal(size=(m, k)), *bias,
                 np.zeros((0, k)), np.zeros((0, k)))
    return problem, at, known


def stored(R: np.ndarray, W: np.ndarray, known: np.ndarray, w0: float) -> Cells:
    """Return the cells of one orientation: a = w − w0 and b = w r, as lines in w and w r."""
    indptr = np.append(0, np.cumsum(known.sum(axis=1)))
    return Cells(indptr, np.nonzero(known)[1].astype(np.int32), W[known], (W * R)[known],
                 np.array([1.0, -w0, 1.0, 0.0]))


def paid(idea: list[float], without: list[float], unit: str, *, more: bool = False) -> str:
    """Return whether an idea pays, from figures of the same draws with it and without.

    more : whether more is better
    """
    d = (np.subtract(idea, without) if more else np.subtract(without, idea))
    half = stats.t.ppf(0.975, len(d) - 1) * d.std(ddof=1) / len(d) ** 0.5
    low, high = d.mean() - half, d.mean() + half
    says = "pays" if low > 0 else "costs" if high < 0 else "no difference shown"
    return f"{says}: {d.mean():+.3f} ({low:+.3f} to {high:+.3f}) {unit}, {len(d)} draws"


def checked(problem: Quadratic, at: Factors, blocks: str = "P Q") -> GradientCheck:
    """Hold the gradient of these blocks against the value, along Taylor's series."""
    def value_and_gradient(point: dict[str, np.ndarray]) -> tuple[float, dict[str, np.ndarray]]:
        here = replace(at, **point)
        gradient = vars(problem.gradient(here, Pool(1)))
        return problem.value(here, Pool(1)).total, {name: gradient[name] for name in point}

    return gradcheck(value_and_gradient, {name: getattr(at, name) for name in blocks.split()})
