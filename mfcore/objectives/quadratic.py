"""The one quadratic objective behind every linear model of the library.

Statement.  R is (n_users, n_items), Ω its stored cells, w the weight of a stored cell,
w0 and r0 the weight and the rating assumed for every other cell:

    L = Σ_Ω w (r − s)² + w0 Σ_{not Ω} (r0 − s)²                           known, unknown
        + Σ_u λ_u ‖P_u − m_u‖² + Σ_i λ_i ‖Q_i − m_i‖²                     penalty
        + Σ_u λᵇ_u (β_u − β⁰_u)² + Σ_i λᵇ_i (γ_i − γ⁰_i)²
    s = P_u·Q_i + β_u + γ_i                                               both measured from r0

With features, the prior means m, β⁰ and γ⁰ rest on group vectors: their part of the formula
and its derivatives are in objectives/penalty.py.

No ½ anywhere: the value is this formula, and the gradient carries the 2.

Canonical form.  Let t = r − r0, and measure s from r0 too (r0 goes into β⁰).  Then

    L = Σ_Ω w (t − s)² + w0 (Σ_all s² − Σ_Ω s²) + penalty          the sum over not Ω, split
      = Σ_Ω (w − w0) s² − 2 Σ_Ω w t s + Σ_Ω w t² + w0 Σ_all s² + penalty
      = Σ_Ω (a s² − 2 b s) + w0 Σ_all s² + constant + penalty      a = w − w0, b = w t

a may be negative (w < w0); the whole stays positive semi-definite.

The sum over all cells is never dense.  With P̂_u = [β_u | P_u | 1], Q̂_i = [1 | Q_i | γ_i]:

    s = P̂_u·Q̂_i     so     Σ_all s² = Σ_ui P̂_uᵀ Q̂_i Q̂_iᵀ P̂_u = tr( (P̂ᵀP̂)(Q̂ᵀQ̂) )

Gradient.  With E = a s − b on Ω, S = QᵀQ, c = Qᵀ1, d = Qᵀγ and n items:

    ∂L/∂P = 2 [ E Q + w0 (P S + β cᵀ + 1 dᵀ) + Λ (P − M) ]
    ∂L/∂β = 2 [ E 1 + w0 (P c + n β + 1ᵀγ)   + Λᵇ (β − β⁰) ]       items: transpose

Row system.  Setting it to zero for one user, x_i = [q_i | 1], z = [p | β], o_i = γ_i:

    ( Σ_Ω a x xᵀ + w0 Σ_all x xᵀ + Λ_u ) z = Σ_Ω (b − a o) x − w0 Σ_all o x + Λ_u m_u

A fixed bias is not an unknown: it drops out of z and x and joins o.

Sources: Hu, Koren, Volinsky 2008 (w0 = 1, r0 = 0); Steck 2010 (w0, r0); Koren, Bell,
Volinsky 2009 (biases); Rendle, Krichene, Zhang, Koren 2021 (λ_u by frequency).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from mfcore.kernels import cells as kernels
from mfcore.objectives.factors import Factors, WholeMatrix, augmented_gram, met, whole_matrix
from mfcore.objectives.penalty import Penalty, Prior
from mfcore.parallel import Pool


class Cells(NamedTuple):
    """The stored cells of one orientation: a = a1·x + a0 and b = b1·y + b0.

    Both are linear in arrays that exist already (ratings, weights), so that neither has to be
    stored: `line` is [a1, a0, b1, b0] in float64.
    """

    indptr: np.ndarray
    indices: np.ndarray
    x: np.ndarray
    y: np.ndarray
    line: np.ndarray

    @property
    def a(self) -> np.ndarray:
        """a = w − w0 of every stored cell, float64."""
        return _on_line(self.line[:2], self.x)

    @property
    def b(self) -> np.ndarray:
        """b = w t of every stored cell, float64."""
        return _on_line(self.line[2:], self.y)

    def row(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the columns of a row's cells, and their a and b in float64."""
        chosen = slice(self.indptr[number], self.indptr[number + 1])
        return (self.indices[chosen], _on_line(self.line[:2], self.x[chosen]),
                _on_line(self.line[2:], self.y[chosen]))


def _on_line(line: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return line[0]·x + line[1] in float64 (NumPy 1 takes float32 for a float32 x)."""
    y: np.ndarray = np.multiply(line[0], x, dtype=np.float64) + line[1]
    return y


class Loss(NamedTuple):
    """The three sums of the formula, float64."""

    known: float
    unknown: float
    penalty: float

    @property
    def total(self) -> float:
        """The value of the formula."""
        return self.known + self.unknown + self.penalty


@dataclass(frozen=True)
class RowSystems:
    """The problem of one side with the other frozen: a small linear system per row.

    `Q` (n_columns, k) and `gamma` (n_columns,) are the frozen side.  `common` (d, d), if given,
    is added to every row's A.  `whole`, if given, holds the sums over all columns when `Q` has
    only some of them.  Training, folding in a new row and sampling a row all start here.
    """

    cells: Cells
    penalty: Penalty
    Q: np.ndarray
    gamma: np.ndarray
    w0: float
    learns_bias: bool
    common: np.ndarray | None = None
    whole: WholeMatrix | None = None

    @property
    def n_free(self) -> int:
        """d, the number of unknowns per row."""
        return int(self.Q.shape[1]) + self.learns_bias

    def whole_matrix(self, pool: Pool, dtype: type | None = None) -> WholeMatrix:
        """Return the row system's sums over all columns, in float64.

        `dtype` is that of the products inside chunks; None: that of Q.
        d is k + 1 if the bias is learned (it comes last), else k:
        A0 = w0 Σ x xᵀ + common,  c0 = −w0 Σ γ x,  c1 = −w0 Σ x (to be multiplied by a fixed β).
        """
        if self.whole is not None:
            return self.whole
        d = self.n_free
        common = np.zeros((d, d)) if self.common is None else self.common
        if self.w0 == 0:
            return WholeMatrix(common, np.zeros(d), np.zeros(d))
        G = self.w0 * augmented_gram(self.Q, self.gamma, pool, dtype)
        return whole_matrix(G, d, common)

    def with_gram(self, G: np.ndarray) -> RowSystems:
        """Return the same systems, with the Gram of [Q | 1 | γ] known."""
        return replace(self, whole=whole_matrix(self.w0 * G, self.n_free))

    def system(self, row: int, bias: float, pool: Pool) -> tuple[np.ndarray, np.ndarray]:
        """Return A and c of one row in float64; `bias` is its β, used if biases are fixed."""
        whole = self.whole_matrix(pool)
        columns, a, b = self.cells.row(row)
        X = self.design(columns)
        fixed = 0.0 if self.learns_bias else float(bias)
        ridge, pull = self.ridge(row)
        A = whole.A0 + (X.T * a) @ X + np.diag(ridge)
        c = whole.c0 + fixed * whole.c1 + X.T @ (b - a * (self.gamma[columns] + fixed)) + pull
        return A, c

    def contributions(self, row: int, bias: float, column: int, pool: Pool
                      ) -> tuple[np.ndarray, np.ndarray]:
        """Return the columns of a row's cells, and what each adds to the row's score of `column`.

        z = A⁻¹ c is linear in the cells, so that x_iᵀ z is the sum over j ∈ Ω of
        x_iᵀ A⁻¹ x_j (b_j − a_j o_j), plus what does not come from cells.
        """
        A, _ = self.system(row, bias, pool)
        columns, a, b = self.cells.row(row)
        frozen = self.gamma[columns] + (0.0 if self.learns_bias else bias)
        x = self.design(np.array([column]))[0]
        pull = np.linalg.solve(A, x) if self.ridge(row)[0].all() else \
            np.linalg.lstsq(A, x, rcond=None)[0]
        return columns, (self.design(columns) @ pull) * (b - a * frozen)

    def design(self, columns: np.ndarray) -> np.ndarray:
        """Return x = [q | 1] of the given columns ([q] if the bias is fixed), float64."""
        X = self.Q[columns].astype(np.float64)
        return np.column_stack([X, np.ones(len(X))]) if self.learns_bias else X

    def ridge(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the diagonal of Λ_u and Λ_u m_u."""
        penalty = self.penalty
        mean, bias_mean = (part.ravel() for part in penalty.means_of([row]))
        ridge = np.full(self.Q.shape[1], penalty.reg[row])
        if self.learns_bias:
            ridge = np.append(ridge, penalty.bias_reg[row])
            mean = np.append(mean, bias_mean)
        return ridge, ridge * mean

    def put_gradient(self, P: np.ndarray, beta: np.ndarray, dP: np.ndarray, dbeta: np.ndarray,
                     pool: Pool) -> None:
        """Write ∂L/∂P and ∂L/∂β, of the shapes of P and beta (zeros if the bias is fixed)."""
        Q, penalty = self.Q, self.penalty
        whole = (Q.T @ Q, Q.sum(axis=0), self.gamma @ Q) if self.w0 else None

        @np.errstate(over="ignore", invalid="ignore")   # (a thread does not inherit its caller's)
        def some(lo: int, hi: int) -> None:
            kernels.cell_pulls(*self.cells, P, Q, beta, self.gamma, dP, dbeta, lo, hi)  # E Q, E 1
            rows = slice(lo, hi)
            means, bias_means = penalty.means_of(rows)
            dP[rows] += penalty.reg[rows, None] * (P[rows] - means)
            dbeta[rows] += penalty.bias_reg[rows] * (beta[rows] - bias_means)
            if whole is not None:
                S, c, d = whole
                dP[rows] += self.w0 * (P[rows] @ S + np.outer(beta[rows], c) + d)
                dbeta[rows] += self.w0 * (P[rows] @ c + len(Q) * beta[rows] + self.gamma.sum())
            dP[rows] *= 2
            dbeta[rows] *= 2 * self.learns_bias

        pool.over_rows(some, self.cells.indptr)


@dataclass(frozen=True)
class Quadratic:
    """The objective of one data set: cells and penalties of both sides.

    Parameters
    ----------
    by_user, by_item : Cells
        The same stored cells in both orientations.
    users, items : Prior
    w0 : float, >= 0
        Weight of every cell that is not stored.
    learns_bias : bool
        Whether β and γ are free; if not, they keep their values.
    constant : float
        Σ_Ω w t².
    unit : float, > 0
        σ, what ratings are measured in: biases are of the size of σ and vectors of √σ.  Solvers
        that step along gradients take their steps in β / σ and P / √σ, so that they go the same
        way whatever the unit.
    """

    by_user: Cells
    by_item: Cells
    users: Prior
    items: Prior
    w0: float
    learns_bias: bool
    constant: float
    unit: float = 1.0

    def user_rows(self, at: Factors) -> RowSystems:
        """Return the systems of all users, items frozen."""
        return RowSystems(self.by_user, self.users.at(at.G, at.g), at.Q, at.gamma, self.w0,
                          self.learns_bias)

    def item_rows(self, at: Factors) -> RowSystems:
        """Return the systems of all items, users frozen."""
        return RowSystems(self.by_item, self.items.at(at.H, at.h), at.P, at.beta, self.w0,
                          self.learns_bias)

    def penalty(self, at: Factors) -> float:
        """Return the penalty terms of the formula, float64."""
        return self.users.value(*at.of_users, self.learns_bias) \
            + self.items.value(*at.of_items, self.learns_bias)

    def whole_square(self, at: Factors, pool: Pool, dtype: type | None = None) -> float:
        """Return Σ_all s²; `dtype` is that of the products inside chunks."""
        return met(augmented_gram(at.P, at.beta, pool, dtype),
                   augmented_gram(at.Q, at.gamma, pool, dtype))

    def value(self, at: Factors, pool: Pool) -> Loss:
        """Return the formula's three sums at a point, in float64."""
        known, squares = _cell_sums(self.by_user, at, pool)
        known += self.constant
        if self.w0 == 0:
            return Loss(known, 0.0, self.penalty(at))
        whole = self.whole_square(at, pool, np.float64)
        return Loss(known + self.w0 * squares, self.w0 * (whole - squares), self.penalty(at))

    def scaled(self, reg: float, bias_reg: tuple[float, float]) -> Quadratic:
        """Return the problem with λ of rows times `reg`, λᵇ of users and of items times theirs."""
        users, items = (prior.with_penalty(prior.penalty.scaled(reg, own))
                        for prior, own in zip((self.users, self.items), bias_reg, strict=True))
        return replace(self, users=users, items=items)

    @property
    def without_groups(self) -> Quadratic:
        """The same objective with prior means that do not move."""
        return replace(self, users=Prior(self.users.penalty), items=Prior(self.items.penalty))

    def penalties(self, at: Factors) -> tuple[Penalty, Penalty]:
        """Return the penalties of users and of items, with the means that `at` gives."""
        return self.users.at(at.G, at.g), self.items.at(at.H, at.h)

    def solve_groups(self, at: Factors, pool: Pool) -> None:
        """Overwrite the group vectors and biases with their closed form."""
        self.users.solve(*at.of_users, self.learns_bias, pool)
        self.items.solve(*at.of_items, self.learns_bias, pool)

    def gradient(self, at: Factors, pool: Pool) -> Factors:
        """Return the derivatives by every block of `at` (zeros if biases are fixed)."""
        out = Factors(**{name: np.empty_like(block) for name, block in vars(at).items()})
        self.put_gradient(at, out, pool)
        return out

    def put_gradient(self, at: Factors, out: Factors, pool: Pool) -> None:
        """Write the gradient to the blocks of `out`."""
        self.user_rows(at).put_gradient(at.P, at.beta, out.P, out.beta, pool)
        self.item_rows(at).put_gradient(at.Q, at.gamma, out.Q, out.gamma, pool)
        for name, block in self.group_gradient(at).items():
            getattr(out, name)[...] = block

    def group_gradient(self, at: Factors) -> dict[str, np.ndarray]:
        """Return ∂L/∂G, ∂L/∂H, ∂L/∂g and ∂L/∂h by name."""
        dG, dg = self.users.gradient(*at.of_users, self.learns_bias)
        dH, dh = self.items.gradient(*at.of_items, self.learns_bias)
        return {"G": dG, "H": dH, "g": dg, "h": dh}


def _cell_sums(cells: Cells, at: Factors, pool: Pool) -> tuple[float, float]:
    parts = pool.over_rows(lambda lo, hi: kernels.cell_sums(
        *cells, at.P, at.Q, at.beta, at.gamma, lo, hi), cells.indptr)
    return sum(part[0] for part in parts), sum(part[1] for part in parts)
