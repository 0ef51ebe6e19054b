"""Drift: what a user's, or an item's, ratings have in common within a period of time.

Statement.  A cell (u, i) rated at time t has, besides the score of the factorization, the effects
of its user's and of its item's period:

    s_ui(t) = P_u·Q_i + β_u + γ_i + d_{u,φ(t)} + e_{i,ψ(t)}
    penalty += λ_d Σ d² + λ_e Σ e²                              φ, ψ number the periods

An effect belongs to a cell, not to a row, so that it is no feature of a user; but it is a constant
for everything else.  With o = d + e of the cell, the rest of the formula is the old one for t − o:

    w (t − o − s)² = w s² − 2 w (t − o) s + ...            a = w − w0,  b = w (t − o)

and, given the factors, all d have a closed form, for they share no cell (C_c the cells of c):

    0 = ∂L/∂d_c = −2 Σ_{C_c} w (t − s − e − d_c) + 2 λ_d d_c
    d_c = Σ_{C_c} w (t − s − e) / ( Σ_{C_c} w + λ_d )                       then e, given d

Nothing is known of unknown cells' times: the sum over all cells has no effects in it.

Targets that are drawn (objectives/ordinal.py) come first: z about s + o, then d and e given z,
then rows given z − o.

Posterior.  Gibbs sampling draws d_c about this mean, with λ_d = Λ_d/τ and Λ_d drawn:

    d_c ~ N( ..., 1 / (τ (Σ w + λ_d)) )        Λ_d ~ Gamma( (m + ν)/2, rate (Σ d² + ν v_d)/2 )

Size.  How much there is to find is told by analysis of variance of the residuals y of biases
alone, in which the periods c of a row u are nested (Searle 1971, unbalanced, two levels):

    W = Σ_c Σ_{C_c} (y − ȳ_c)²,     E W = σ² (N − C)                           N cells, C periods
    B = Σ_u Σ_c n_c (ȳ_c − ȳ_u)²,   E B = σ² (C − R) + v_d Σ_u (n_u − Σ_c n_c²/n_u)     R rows
    v_d = max(0, (B − σ² (C − R)) / Σ_u (n_u − Σ_c n_c²/n_u)),       λ_d = σ²/v_d

With weights, the variance of a rating is σ²/w, sums and means are weighted, n are sums of weights,
and N, C and R count what has any.  What is left to the factors counts in σ² here, so that effects
are shrunk rather too much.

Sources: Koren 2010, Collaborative filtering with temporal dynamics (biases by day and by bin);
Rendle, Zhang, Koren 2019 (time in a Bayesian factorization).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from mfcore.data.canonical import index_type, numbered, read_only
from mfcore.data.ratings import Ratings
from mfcore.objectives.biases import REG_ITEMS, REG_USERS, mean_rating, shrunken
from mfcore.objectives.factors import Factors, cell_scores
from mfcore.objectives.quadratic import Cells, Quadratic
from mfcore.parallel import Pool

LEAST, MOST = 1e-6, 1e9         # bounds of v_d, as a share of σ², and of λ_d


@dataclass
class Drifted(Factors):
    """A point with effects: those of users' periods and then those of items', float64."""

    drift: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @property
    def factors(self) -> Factors:
        """The same arrays without effects."""
        return Factors(**{name: block for name, block in vars(self).items() if name != "drift"})


class Context(NamedTuple):
    """One kind of effects.

    codes : ndarray of int, shape (nnz,), the number of its effect for each cell, in `by_user` order
    keys : ndarray of int64, shape (m,), row · n_periods + period of each effect, ascending
    noise, variance : float, σ² and v_d
    """

    codes: np.ndarray
    keys: np.ndarray
    noise: float
    variance: float

    @property
    def reg(self) -> float:
        """λ_d."""
        return min(self.noise / self.variance, MOST)


def context_of(rows: np.ndarray, periods: np.ndarray, n_periods: int, residuals: np.ndarray,
               w: np.ndarray) -> Context:
    """Return the effects that cells of weight w have, given their rows and periods."""
    keys, codes = np.unique(rows.astype(np.int64) * n_periods + periods, return_inverse=True)
    noise, variance = components(residuals, keys // n_periods, codes, w)
    return Context(codes.astype(index_type(len(keys))), keys, noise, variance)


def components(residuals: np.ndarray, owners: np.ndarray, codes: np.ndarray, w: np.ndarray
               ) -> tuple[float, float]:
    """Return σ² and v_d > 0 of residuals of weight w.

    owners : ndarray of int, shape (m,), the row that each effect belongs to
    """
    n, total = (np.bincount(codes, each, len(owners)) for each in (w, w * residuals))
    n_rows, total_rows = np.bincount(owners, n), np.bincount(owners, total)
    told, rows = n > 0, n_rows > 0
    between = np.sum(total[told] ** 2 / n[told])
    shared = np.sum(total_rows[rows] ** 2 / n_rows[rows])
    left = max(int(np.count_nonzero(w)) - int(told.sum()), 0)
    noise = max(float((w * residuals) @ residuals - between), 0.0) / max(left, 1)
    spread = float(n.sum() - np.sum(np.bincount(owners, n ** 2)[rows] / n_rows[rows]))
    if not (left and spread > 0 and noise > 0):
        return 1.0, LEAST
    found = (between - shared - noise * (int(told.sum()) - int(rows.sum()))) / spread
    return noise, max(float(found), LEAST * noise)


def first_effects(contexts: Sequence[Context], residuals: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return the effects that residuals of biases alone show, kind by kind."""
    left, found = residuals.copy(), []
    for each in contexts:
        n = np.bincount(each.codes, w, len(each.keys))
        found.append(np.bincount(each.codes, w * left, len(n)) / (n + each.reg))
        left -= found[-1][each.codes]
    return np.concatenate(found)


def residuals_of_biases(ratings: Ratings) -> np.ndarray:
    """Return r − μ − b_u − b̃_i of each cell for shrunken biases, float64."""
    mean = mean_rating(ratings)
    item = shrunken(ratings.transposed, mean, np.zeros(ratings.shape[0]), REG_ITEMS)
    user = shrunken(ratings, mean, item, REG_USERS)
    residuals: np.ndarray = ratings.by_user.data.astype(np.float64) - mean \
        - user[ratings.users_of_cells] - item[ratings.by_user.indices]
    return residuals


class Shifting:
    """A problem whose targets move with the effects of its cells.

    Parameters
    ----------
    problem : Quadratic
        Without effects.
    contexts : sequence of Context
    """

    def __init__(self, problem: Quadratic, contexts: Sequence[Context]) -> None:
        self.problem, self.contexts = problem, contexts
        cells = problem.by_user
        self.w, self.pull = cells.a + problem.w0, cells.b
        self.weights = [np.bincount(each.codes, self.w, len(each.keys)) for each in contexts]
        ends = np.cumsum([0, *(len(each.keys) for each in contexts)]).tolist()
        self.parts = [slice(*pair) for pair in zip(ends, ends[1:], strict=False)]
        self.size = ends[-1]
        turned = problem.by_item
        self.order = numbered(_matrix(cells, len(turned.indptr) - 1)).T.tocsr().data
        self.by_user, self.by_item = (np.empty(len(self.pull), each.y.dtype)
                                      for each in (cells, turned))

    def offsets(self, drift: np.ndarray) -> np.ndarray:
        """Return o of each cell, float64."""
        total = np.zeros(len(self.pull))
        for part, context in zip(self.parts, self.contexts, strict=True):
            total += drift[part][context.codes]
        return total

    def at(self, drift: np.ndarray) -> Quadratic:
        """Return the problem for given effects; it shares arrays with the one before."""
        o = self.offsets(drift)
        shift = self.w * o
        self.by_user[:] = self.pull - shift
        self.by_item[:] = self.by_user[self.order]
        constant = self.problem.constant - 2 * float(self.pull @ o) + float(shift @ o)
        return replace(self.problem, constant=constant,
                       by_user=_pulled(self.problem.by_user, self.by_user),
                       by_item=_pulled(self.problem.by_item, self.by_item))

    def scores(self, at: Factors, pool: Pool) -> np.ndarray:
        """Return the score of each cell by user, without effects."""
        cells = self.problem.by_user
        return cell_scores(cells.indptr, cells.indices, at.P, at.Q, at.beta, at.gamma, pool)

    def move(self, drift: np.ndarray, s: np.ndarray, regs: Sequence[float],
             noise: Sequence[np.ndarray]) -> None:
        """Overwrite the effects with their closed form, kind by kind; s are the `scores`.

        noise : standard normal numbers over √τ, one per effect of each kind; empty for none
        """
        left = self.pull - self.w * (s + self.offsets(drift))           # w (t − s − o)
        for part, context, weight, reg, z in zip(self.parts, self.contexts, self.weights, regs,
                                                 noise, strict=True):
            old = drift[part].copy()
            sums = np.bincount(context.codes, left, len(old)) + weight * old
            drift[part] = sums / (weight + reg)
            if len(z):
                drift[part] += z / np.sqrt(weight + reg)
            left -= self.w * (drift[part] - old)[context.codes]


def _matrix(cells: Cells, n_columns: int) -> object:
    import scipy.sparse as sp

    return sp.csr_array((cells.x, cells.indices, cells.indptr),
                        shape=(len(cells.indptr) - 1, n_columns))


def _pulled(cells: Cells, pull: np.ndarray) -> Cells:
    """Return cells with b = `pull`, of the types that kernels are compiled for."""
    return cells._replace(y=read_only(pull.view()), line=np.array([*cells.line[:2], 1.0, 0.0]))
