"""Ordered probit: ratings are levels, between which a normal number has crossed cut points.

Statement.  The levels are v_1 < ... < v_K, whatever their distances, and c_1 < ... < c_{K−1}:

    z_ui ~ N(s_ui, 1),      r_ui = v_l   where   c_{l−1} < z_ui ≤ c_l           c_0 = −∞, c_K = ∞
    P(r = v_l | s) = Φ(c_l − s) − Φ(c_{l−1} − s)
    E(r | s)       = v_1 + Σ_l (v_{l+1} − v_l) Φ(s − c_l)

s is measured in the standard deviations of z, and c_1 stays where it is: a shift of all scores
could undo its move.  The gaps between cut points are exponential with mean `GAP`.

Sampling (Albert, Chib 1993).  Given z, s has the conditionals of objectives/bayesian.py with z in
the place of r and τ = 1.  Given s and c, each z is a normal number in an interval.  Given s alone,
z integrated out (Cowles 1996: c given z would hardly move), the cut points have the density

    ln p(c | s) = Σ_cells ln[ Φ(c_l − s) − Φ(c_{l−1} − s) ] − (c_{K−1} − c_1) / GAP + constant

which is concave.  With f = φ(a) / p and g = φ(b) / p, a = c_{l−1} − s and b = c_l − s,

    ∂ ln p / ∂c_l = g       ∂ / ∂c_{l−1} = −f             φ' (x) = −x φ(x)
    −∂² / ∂c_l² = g (g + b),   −∂² / ∂c_{l−1}² = f (f − a),   −∂² / ∂c_{l−1} ∂c_l = −f g

A move is proposed from N(c + H⁻¹ ∇, H⁻¹), H minus the second derivatives (and `RIDGE`), and taken
with the probability of Metropolis and Hastings: with many ratings nearly always.  So (c, z), then
rows, leave the joint density as it is.  In the first half of the sweeps before the first kept one
the move is taken whatever its probability: a Newton step with noise.

Sources: Albert, Chib 1993; Cowles 1996; Qi, Minka 2002 (Hessian-based proposals).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.linalg
from scipy.special import ndtr, ndtri

from mfcore.data.ratings import Ratings
from mfcore.kernels import ordinal as kernels
from mfcore.parallel import Pool, row_chunks

GAP = 1.0
RIDGE = 1e-3
SHOWN = 12
FLOAT32 = float(np.finfo(np.float32).eps)
FAR = 1e30              # stands for infinity, with which 0 can be multiplied
CELLS = 65_536          # cells of a chunk
GRID, REACH = 4096, 9.0     # points of a table, and how far it reaches beyond the cut points


def first_cuts(counts: np.ndarray) -> np.ndarray:
    """Return cut points, shape (K − 1,), that give each level its share where all s are 0.

    A level without ratings gets the share of half a one.
    """
    counts = np.maximum(counts, 0.5)
    share = np.cumsum(counts)[:-1] / counts.sum()
    cuts: np.ndarray = ndtri(share)
    return cuts


def edges_of(cuts: np.ndarray) -> np.ndarray:
    """Return c_0 .. c_K."""
    return np.concatenate([[-FAR], cuts, [FAR]])


@dataclass(frozen=True)
class CutPoints:
    """ln p(c | s) for the levels of some cells.

    levels : ndarray of int, shape (nnz,), from 0
    """

    levels: np.ndarray

    def value(self, cuts: np.ndarray, s: np.ndarray, pool: Pool
              ) -> tuple[float, np.ndarray, np.ndarray]:
        """Return ln p, its gradient and minus its second derivatives, of c_2 and those above."""
        edges = edges_of(cuts)
        parts = pool.map(lambda lo, hi: kernels.edge_sums(self.levels, s, edges, lo, hi),
                         row_chunks(len(s), CELLS))
        log_p, slope, curve, across = sum(parts, np.zeros((4, len(edges))))
        H = np.diag(curve[2:-1] + RIDGE)
        H += np.diag(across[2:-2], 1) + np.diag(across[2:-2], -1)
        slope = slope[2:-1].copy()
        slope[-1:] -= 1 / GAP
        return float(log_p[0] - (cuts[-1] - cuts[0]) / GAP), slope, H

    def draw(self, cuts: np.ndarray, s: np.ndarray, random: np.random.Generator, pool: Pool,
             is_exact: bool) -> tuple[np.ndarray, float]:
        """Return the next cut points, and ln p of the present ones.

        is_exact : whether a move may be turned down; else it is taken, shortened until it is
            ascending
        """
        here, slope, H = self.value(cuts, s, pool)
        if len(cuts) < 2:
            return cuts, here
        L = np.linalg.cholesky(H)
        step = scipy.linalg.cho_solve((L, True), slope)
        step += scipy.linalg.solve_triangular(L, random.standard_normal(len(step)), lower=True,
                                              trans="T")
        threshold = np.log(random.random())
        if not is_exact:
            return _ascending(cuts, step), here
        moved = cuts + np.append(0.0, step)
        if not (np.diff(moved) > 0).all():
            return cuts, here
        there, back, K = self.value(moved, s, pool)
        odds = there - here + _log_normal(-step, back, K) - _log_normal(step, slope, H)
        return (moved if threshold < odds else cuts), here


def _log_normal(step: np.ndarray, slope: np.ndarray, H: np.ndarray) -> float:
    """Return ln N(step; H⁻¹ slope, H⁻¹), but for a constant."""
    away = step - np.linalg.solve(H, slope)
    return float(np.linalg.slogdet(H)[1] - away @ H @ away) / 2


def _ascending(cuts: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Return the cut points after as much of a step as leaves them in order."""
    for _ in range(50):
        moved: np.ndarray = cuts + np.append(0.0, step)
        if (np.diff(moved) > 0).all():
            return moved
        step = step / 2
    return cuts


# ----------------------------------------------------------------- what scores are levels of

@dataclass(frozen=True)
class Levels:
    """The levels v (K,), and the cut points of each sample, shape (S, K − 1)."""

    values: np.ndarray
    cuts: np.ndarray
    _tables: dict[tuple[int, float | None], np.ndarray] = field(default_factory=dict)

    def check(self, ratings: Ratings) -> None:
        """Raise ValueError for levels that no fit leaves, and for ratings of none of them."""
        ascend = all((np.diff(each) > 0).all() for each in (self.values, self.cuts))
        if len(self.values) < 2 or self.cuts.shape[1:] != (len(self.values) - 1,) or not ascend:
            raise ValueError("levels, and the cut points between them, must ascend")
        self.numbers_of(ratings)

    def probabilities(self, number: int, s: np.ndarray) -> np.ndarray:
        """Return P(r = v_l | s) in one sample, shape (n, K)."""
        edges = edges_of(self.cuts[number])
        above = ndtr(s[:, None] - edges)
        below = ndtr(edges - s[:, None])
        p = np.where(s[:, None] > edges[1:], np.diff(below), -np.diff(above))
        probabilities: np.ndarray = np.maximum(p, 0.0)
        return probabilities

    def expected(self, number: int, s: np.ndarray, at_least: float | None = None) -> np.ndarray:
        """Return E(r | s) in one sample, or P(r >= at_least | s), in the shape of s."""
        steps = np.diff(self.values) if at_least is None else \
            np.diff((self.values >= at_least).astype(float))
        first = self.values[0] if at_least is None else float(self.values[0] >= at_least)
        cuts = self.cuts[number]
        start, stop = cuts[0] - REACH, cuts[-1] + REACH
        if (number, at_least) not in self._tables:
            grid = np.linspace(start, stop, GRID)
            self._tables[number, at_least] = first + ndtr(grid[:, None] - cuts) @ steps
        out = np.empty(s.shape)
        kernels.on_grid(self._tables[number, at_least], start, (stop - start) / (GRID - 1),
                        s.reshape(-1), out.reshape(-1))
        return out.astype(s.dtype, copy=False)

    def scorer(self, number: int, scorer: Any, at_least: float | None) -> LevelScorer:
        """Return what the scores of one sample are levels of."""
        return LevelScorer(scorer, self, number, at_least)

    def numbers_of(self, ratings: Ratings) -> np.ndarray:
        """Return the number of each rating's level, compared in float32.

        Raises ValueError for values of no level, and for weights.
        """
        without_weights(ratings)
        values = ratings.by_user.data
        with np.errstate(over="ignore"):
            known, near = self.values.astype(np.float32), values.astype(np.float32)
        places = np.minimum(np.searchsorted(known, near), len(known) - 1)
        strange = values[known[places] != near]
        if strange.size:
            raise ValueError(f"ratings must be levels of the fit, {listed(known)}, got "
                             f"{float(strange[0]):g}")
        numbers: np.ndarray = places.astype(np.uint8)
        return numbers

    def reached(self, at_least: float) -> float:
        """Return the lowest level from a number on, with the error of float32.

        Raises ValueError where all levels are, or none is.
        """
        found = self.values[self.values >= at_least - FLOAT32 * abs(at_least)]
        if not 0 < len(found) < len(self.values):
            raise ValueError(f"at_least must be above the lowest level, {self.values[0]:g}, and "
                             f"not above the highest, {self.values[-1]:g}, got {at_least:g}: all "
                             f"items would be equally probable")
        return float(found[0])

    def steepest(self, at_least: float | None = None) -> float:
        """Return a bound of the slope of `expected`."""
        width = self.values[-1] - self.values[0] if at_least is None else 1.0
        return float(width / np.sqrt(2 * np.pi))


def without_weights(ratings: Ratings) -> None:
    """Raise ValueError for ratings with weights."""
    if ratings.weights is not None:
        raise ValueError("likelihood='ordinal' takes no weights: a rating is a level, or is not "
                         "there")


def listed(values: Any) -> str:
    """Return numbers as text, the first dozen of many."""
    more = ", ..." if len(values) > SHOWN else ""
    return ", ".join(f"{float(value):g}" for value in values[:SHOWN]) + more


class LevelScorer:
    """What the scores of one sample are levels of; see `mfcore.metrics.fitted.Scorer`."""

    def __init__(self, scorer: Any, levels: Levels, number: int, at_least: float | None
                 ) -> None:
        self.scorer, self.levels, self.number, self.at_least = scorer, levels, number, at_least
        self.n_rows, self.n_items = scorer.n_rows, scorer.n_items

    def moved(self, change: Callable[[Any], Any]) -> LevelScorer:
        """Return the same of scores that a change moves."""
        return LevelScorer(self.scorer.moved(change), self.levels, self.number, self.at_least)

    def block(self, start: int, stop: int) -> np.ndarray:
        """Return those of rows start..stop, shape (stop - start, n_items)."""
        return self.levels.expected(self.number, self.scorer.block(start, stop), self.at_least)

    def cells(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return those of cells, each computed alone."""
        return self.levels.expected(self.number, self.scorer.cells(rows, columns), self.at_least)

    def rounding(self, start: int, stop: int) -> np.ndarray:
        """Return how far those of a block may be from those of its cells."""
        around: np.ndarray = self.scorer.rounding(start, stop) \
            * self.levels.steepest(self.at_least)
        around += 4 * np.finfo(np.float32).eps * np.abs(self.levels.values).max()
        return around
