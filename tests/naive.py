"""Dense twins: every cell written out, from the formula and not from the way around it.

`Dense` is a quadratic problem in which unknown cells are cells like any other.  Its value,
its gradient and its row solutions (least squares on the cells themselves, never on normal
equations) are what objectives/quadratic.py and solvers/als.py must reproduce.  `problem`
brings it into the library's form; `problems` draws small ones.

    L = Σ W (T − S)² + Σ λ_u ‖P_u − m_u‖² + Σ λ_i ‖Q_i − m_i‖² + bias penalties
    W = w on stored cells, else w0      T = r − r0 on stored cells, else 0
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import strategies
from hypothesis import strategies as st

from mfcore.objectives.factors import Factors
from mfcore.objectives.penalty import Penalty, Prior
from mfcore.objectives.quadratic import Cells, Quadratic


@dataclass(frozen=True)
class Side:
    """Penalties of users or of items: λ, λᵇ (n,), prior means (n, k) or (1, k), and β⁰.

    `features` (n, n_features) add F G to the means and F g to β⁰, and λ_g ‖G‖² + λᵇ_g ‖g‖².
    """

    reg: np.ndarray
    bias_reg: np.ndarray
    means: np.ndarray
    bias_mean: Any = 0.0
    features: np.ndarray | None = None
    feature_reg: float = 0.9
    feature_bias_reg: float = 0.6

    def at(self, G: np.ndarray, g: np.ndarray) -> Side:
        """The same with the means that G and g give, and no features."""
        if self.features is None:
            return self
        return replace(self, means=self.means + self.features @ G,
                       bias_mean=self.bias_mean + self.features @ g, features=None)

    def value(self, X: np.ndarray, bias: np.ndarray, G: np.ndarray, g: np.ndarray,
              learns_bias: bool) -> float:
        """Σ λ ‖X − M‖² + Σ λᵇ (bias − β⁰)² + λ_g ‖G‖² + λᵇ_g ‖g‖²."""
        side = self.at(G, g)
        total = np.sum(side.reg * np.sum((X - side.means) ** 2, axis=1)) \
            + self.feature_reg * np.sum(G ** 2)
        return total + learns_bias * (np.sum(side.bias_reg * (bias - side.bias_mean) ** 2)
                                      + self.feature_bias_reg * np.sum(g ** 2))

    def group_gradient(self, X: np.ndarray, bias: np.ndarray, G: np.ndarray, g: np.ndarray,
                       learns_bias: bool) -> tuple[np.ndarray, np.ndarray]:
        """The derivatives of that by G and g."""
        if self.features is None:
            return np.zeros_like(G), np.zeros_like(g)
        side, pull = self.at(G, g), self.features.T
        return (2 * (self.feature_reg * G - pull @ (side.reg[:, None] * (X - side.means))),
                2 * learns_bias * (self.feature_bias_reg * g
                                   - pull @ (side.bias_reg * (bias - side.bias_mean))))

    def take(self, rows: np.ndarray) -> Side:
        """The penalties of some rows, in that order."""
        means = self.means if len(self.means) == 1 else self.means[rows]
        features = None if self.features is None else self.features[rows]
        return Side(self.reg[rows], self.bias_reg[rows], means, self.bias_mean, features,
                    self.feature_reg, self.feature_bias_reg)


@dataclass(frozen=True)
class Dense:
    """A quadratic problem: ratings R and weights w (read where `stored`), w0, r0."""

    R: np.ndarray
    w: np.ndarray
    stored: np.ndarray
    w0: float
    r0: float
    learns_bias: bool
    users: Side
    items: Side

    @property
    def W(self) -> np.ndarray:
        """The weight of every cell."""
        return np.where(self.stored, self.w, self.w0)

    @property
    def T(self) -> np.ndarray:
        """The target of every cell, measured from r0."""
        return np.where(self.stored, self.R, self.r0) - self.r0

    def parts(self, at: Factors) -> tuple[float, float, float]:
        """The formula's three sums: known, unknown, penalty."""
        squares = self.W * (self.T - scores(at)) ** 2
        penalty = self.users.value(*at.of_users, self.learns_bias) \
            + self.items.value(*at.of_items, self.learns_bias)
        return squares[self.stored].sum(), squares[~self.stored].sum(), penalty

    def value(self, at: Factors) -> float:
        """The formula."""
        return float(sum(self.parts(at)))

    def gradient(self, at: Factors) -> Factors:
        """Its derivatives by all blocks."""
        E = self.W * (scores(at) - self.T)
        users, items = self.users.at(at.G, at.g), self.items.at(at.H, at.h)
        learns = float(self.learns_bias)
        dG, dg = self.users.group_gradient(*at.of_users, self.learns_bias)
        dH, dh = self.items.group_gradient(*at.of_items, self.learns_bias)
        return Factors(
            2 * (E @ at.Q + users.reg[:, None] * (at.P - users.means)),
            2 * (E.T @ at.P + items.reg[:, None] * (at.Q - items.means)),
            2 * learns * (E.sum(1) + users.bias_reg * (at.beta - users.bias_mean)),
            2 * learns * (E.sum(0) + items.bias_reg * (at.gamma - items.bias_mean)),
            dG, dH, dg, dh)

    def solved_users(self, at: Factors) -> tuple[np.ndarray, np.ndarray]:
        """P and β that minimise L with the items as they are, row by row."""
        rows = [self._solved_user(u, at) for u in range(len(self.R))]
        P = np.array([row[:at.P.shape[1]] for row in rows])
        beta = np.array([row[-1] for row in rows]) if self.learns_bias else at.beta.copy()
        return P, beta

    def _solved_user(self, u: int, at: Factors) -> np.ndarray:
        """Least squares on all cells of a row and on its penalties.

        Solved for the distance from the prior, so that what nothing decides stays there.
        """
        side, root = self.users.at(at.G, at.g), np.sqrt(self.W[u])
        X, mean = at.Q, side.means[0 if len(side.means) == 1 else u]
        ridge, frozen = np.full(X.shape[1], side.reg[u]), at.gamma + at.beta[u]
        if self.learns_bias:
            X, mean = np.column_stack([X, np.ones(len(X))]), np.append(mean, np.broadcast_to(
                side.bias_mean, len(self.R))[u])
            ridge, frozen = np.append(ridge, side.bias_reg[u]), at.gamma
        left = np.vstack([root[:, None] * X, np.diag(np.sqrt(ridge))])
        right = np.append(root * (self.T[u] - frozen - X @ mean), np.zeros(len(ridge)))
        return mean + np.linalg.lstsq(left, right, rcond=None)[0]

    @property
    def transposed(self) -> Dense:
        """Users and items exchanged."""
        return replace(self, R=self.R.T, w=self.w.T, stored=self.stored.T,
                       users=self.items, items=self.users)

    def permuted(self, rows: np.ndarray, columns: np.ndarray) -> Dense:
        """Users and items in another order."""
        R, w, stored = (X[np.ix_(rows, columns)] for X in (self.R, self.w, self.stored))
        return replace(self, R=R, w=w, stored=stored, users=self.users.take(rows),
                       items=self.items.take(columns))


def scores(at: Factors) -> np.ndarray:
    """S = PQᵀ + β1ᵀ + 1γᵀ."""
    P, Q, beta, gamma = (np.asarray(X, np.float64) for X in (at.P, at.Q, at.beta, at.gamma))
    return P @ Q.T + beta[:, None] + gamma


def transposed_factors(at: Factors) -> Factors:
    """The same point for the transposed problem."""
    return Factors(at.Q, at.P, at.gamma, at.beta, at.H, at.G, at.h, at.g)


# ------------------------------------------------------------------- the library's form

def problem(dense: Dense, *, real: Any = np.float64, data: Any = None,
            index: Any = np.int32, layout: str = "plain") -> Quadratic:
    """Return the library's objective: factors of type `real`, cells of type `data`."""
    data = real if data is None else data
    constant = np.sum((dense.w * (dense.R - dense.r0) ** 2)[dense.stored])
    return Quadratic(cells(dense, data, index, layout),
                     cells(dense.transposed, data, index, layout),
                     prior(dense.users, real, layout), prior(dense.items, real, layout),
                     dense.w0, dense.learns_bias, float(constant))


def cells(dense: Dense, data: Any, index: Any, layout: str) -> Cells:
    """Cells by row: a and b as lines in the ratings, or in weights and products."""
    rows, columns = np.nonzero(dense.stored)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(dense.R)))])
    w, t = dense.w[rows, columns], dense.T[rows, columns]
    x, y, line = w, w * t, [1.0, -dense.w0, 1.0, 0.0]
    if (w == 1).all():
        x = y = dense.R[rows, columns]
        line = [0.0, 1.0 - dense.w0, 1.0, -dense.r0]
    return Cells(strategies.awkward(indptr.astype(index), layout),
                 strategies.awkward(columns.astype(index), layout),
                 strategies.awkward(x.astype(data), layout),
                 strategies.awkward(y.astype(data), layout), np.array(line))


def prior(side: Side, real: Any, layout: str) -> Prior:
    """The library's prior of one side."""
    F = None if side.features is None else sp.csr_array(side.features)
    return Prior(penalty(side, real, layout), F, side.feature_reg, side.feature_bias_reg)


def penalty(side: Side, real: Any, layout: str) -> Penalty:
    """The library's penalty of one side."""
    return Penalty(strategies.awkward(side.reg, layout),
                   strategies.awkward(side.bias_reg, layout),
                   strategies.awkward(side.means.astype(real), layout),
                   np.array([side.bias_mean]))


def as_type(at: Factors, real: Any, layout: str = "plain") -> Factors:
    """The same point in another precision and layout."""
    return Factors(*(strategies.awkward(np.asarray(X, real), layout)
                     for X in vars(at).values()))


# ---------------------------------------------------------------------- problems to solve

def random_problem(seed: int = 0, n_users: int = 7, n_items: int = 6, k: int = 3, *,
                   density: float = 0.5, w0: float = 0.0, r0: float = 0.0,
                   learns_bias: bool = False, weighted: bool = False, means: str = "none",
                   reg: float | None = None, n_features: tuple[int, int] | None = None
                   ) -> tuple[Dense, Factors]:
    """A problem with normal numbers and a point.

    `n_features` of users and of items: some in no group, some in several, all weights.

    Below a density of 1, the last of several users, and of several items, has no rating.
    `means` is "none", "shared" or "rows"; `reg` None draws one for each row.
    """
    random = np.random.default_rng(seed)
    shape = (n_users, n_items)
    stored = random.random(shape) < density
    if density < 1:
        stored[1:][-1:] = False
        stored[:, 1:][:, -1:] = False
    w = random.choice([0.0, 0.25, 0.7, 2.0, 3.5], shape) if weighted else np.ones(shape)
    sides = [_random_side(random, n, k, means, reg) for n in shape]
    if learns_bias:
        sides[0] = replace(sides[0], bias_mean=1.7 - r0)
    R = random.integers(0, 11, shape) / 2
    at = random_point(random, shape, k, n_features or (0, 0))
    if n_features is not None:
        sides = [replace(side, features=random.normal(size=(n, m)) * (random.random((n, m)) < 0.6))
                 for side, n, m in zip(sides, shape, n_features, strict=True)]
    return Dense(R, w, stored, w0, r0, learns_bias, *sides), at


def _random_side(random: np.random.Generator, n: int, k: int, means: str,
                 reg: float | None) -> Side:
    draw = random.uniform(0.2, 2.9, (2, n)) if reg is None else np.full((2, n), reg)
    rows = {"none": 0, "shared": 1, "rows": n}[means]
    return Side(*draw, random.normal(size=(rows, k)) if rows else np.zeros((1, k)))


def random_point(random: np.random.Generator, shape: tuple[int, int], k: int,
                 n_features: tuple[int, int] = (0, 0)) -> Factors:
    """Factors, biases and group vectors of normal numbers."""
    sizes = [(shape[0], k), (shape[1], k), (shape[0],), (shape[1],),
             *((n, k) for n in n_features), *((n,) for n in n_features)]
    return Factors(*(random.normal(size=size) for size in sizes))


@st.composite
def problems(draw: Any, *, w0: Any = (0.0, 0.45, 1.3, 2.9), min_nnz: int = 0,
             learns_bias: bool | None = None) -> tuple[Dense, Factors]:
    """Draw a problem up to 6 x 6 with up to 9 factors, and a point.

    With and without weights (also 0, also below w0), empty rows and columns, no cell at
    all, stored zeros, fixed and learned biases, priors without, with one and with many
    means.
    """
    given = draw(strategies.ratings(named=False, min_nnz=min_nnz))
    w0, r0 = draw(st.sampled_from(w0)), draw(st.sampled_from([0.0, 1.7, -0.6]))
    learns = draw(st.booleans()) if learns_bias is None else learns_bias
    k, random = draw(strategies.n_factors), np.random.default_rng(draw(strategies.seeds))
    stored, w = np.zeros(given.shape, bool), np.ones(given.shape)
    rows, columns = given.users_of_cells, given.by_user.indices
    stored[rows, columns] = True
    if given.weights is not None:
        w[rows, columns] = given.weights
    means = draw(st.sampled_from(["none", "shared", "rows"]))
    sides = [_random_side(random, n, k, means, draw(st.none() | strategies.coefficients))
             for n in given.shape]
    sides[0] = replace(sides[0], bias_mean=draw(st.sampled_from([0.0, 2.3])))
    dense = Dense(given.by_user.toarray().astype(np.float64), w, stored, w0, r0, learns, *sides)
    return dense, random_point(random, given.shape, k)


# ------------------------------------------------------------------------ small algorithms

def conjugate_gradient(A: np.ndarray, c: np.ndarray, z: np.ndarray, diagonal: np.ndarray,
                       steps: int) -> np.ndarray:
    """Solve A z = c from z by `steps` preconditioned steps, as in the textbooks."""
    z = z.copy()
    r = c - A @ z
    d = h = r / diagonal
    for _ in range(steps):
        if not r @ h > 0:
            break
        length = (r @ h) / (d @ A @ d)
        z += length * d
        new = r - length * A @ d
        h_new = new / diagonal
        d = h_new + (new @ h_new) / (r @ h) * d
        r, h = new, h_new
    return z


def row_bias(rows: np.ndarray, values: np.ndarray, weights: np.ndarray | None, n_rows: int,
             mean: float, share: float) -> np.ndarray:
    """share · (weighted mean of each row − mean), row by row; 0 without weight."""
    weights = np.ones(len(values)) if weights is None else weights
    out = np.zeros(n_rows)
    for u in range(n_rows):
        w, r = weights[rows == u], values[rows == u]
        if w.sum() > 0:
            out[u] = share * ((w * r).sum() / w.sum() - mean)
    return out
