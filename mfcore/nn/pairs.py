"""Layers on rows of tables, computed once for each row that occurs.

GroupedEmbedding, rows of a table plus vectors of what is known about them:

    y_t = T[x_t] + F[x_t] G

    F (n_rows, n_groups) sparse and given, such as the groups a row is in; G (n_groups, k)

    L gets + λ Σ_t ‖T[x_t]‖² + n Σ_g λ_g ‖G_g‖²         n uses; each pays for its row and all of G
    dT[r] = Σ_{t: x_t = r} (dy_t + 2 λ T[r])            G does not depend on T
    dG = Σ_t F[x_t]ᵀ dy_t + 2 n diag(λ_g) G             y_t is linear in G

The penalty moves all of G, so its gradient is dense.  In an epoch of N uses, λ_g = λ'/N gives a
penalty of λ' ‖G‖² once.  Row −1 is unknown: zeros without a gradient, in no group.

RowsLinear, a linear layer on concatenated rows:

    y_t = φ(z_t),   z_t = [T_1[x_t1] | … | T_n[x_tn]] W + b

A batch of cells names popular rows again and again.  Cut W into the parts W_j that meet
table j; let r be the distinct rows of column j, and p_t the place of x_tj among them:

    z_t = Σ_j T_j[x_tj] W_j + b = Σ_j A_j[p_t] + b             A_j = T_j[r] W_j

    dA_j[p] = Σ_{t: p_t = p} dz_t                              z_t is linear in A_j
    dW_j = T_j[r]ᵀ dA_j        dT_j[r] = dA_j W_jᵀ             A_j = T_j[r] W_j
    db = Σ_t dz_t

That is three products with one line per distinct row instead of one per cell, and the rows of
the gradient are distinct already.  Values and gradients are those of Fork, Concatenate and
Linear.  A table that does not change can be given as the lines A_j of all its rows.

RowsDot, a table against lines that do not change:

    y_t = T[x_t1] · C[x_t2]         dT[r] = Σ_{t: x_t1 = r} dy_t C[x_t2]

All of them take rows of a table, and pass back their gradients, through `Embedding` with the
number of uses of each row: a penalty λ per use is λ n_p ‖T_j[r_p]‖² for a row used n_p times.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore.kernels import nn_rows as kernels
from mfcore.nn.layers import Embedding, Layer, Linear, Run
from mfcore.nn.parameters import Parameter
from mfcore.nn.sparse import RowNumbers, numbered, times, transposed_times


class GroupedEmbedding(Embedding):
    """y_t = T[x_t, column] + F[x_t, column] G.

    Parameters
    ----------
    table, column, reg : as in `Embedding`
    features : csr_array, shape (n_rows, n_groups)
        F.
    groups : Parameter, shape (n_groups, k)
        G.
    group_reg : ndarray, shape (n_groups,), >= 0
        λ_g, paid per use.
    """

    def __init__(self, table: Parameter, features: sp.csr_array, groups: Parameter,
                 column: int = 0, *, reg: float = 0.0, group_reg: np.ndarray) -> None:
        super().__init__(table, column, reg=reg)
        self.features, self.groups, self.group_reg = features, groups, group_reg

    def parameters(self) -> list[Parameter]:
        """Return the table and the vectors of groups."""
        return [self.table, self.groups]

    def take(self, rows: np.ndarray, run: Run, counts: np.ndarray) -> tuple[np.ndarray, Any]:
        """Return the lines (n, k) of distinct rows, each used `counts` times."""
        y, cache = super().take(rows, run, counts)
        F, G, n = self.features[rows], self.groups.value, float(counts.sum())
        if not self.groups.frozen:
            squares = np.einsum("gf,gf->g", G, G, dtype=np.float64)
            run.penalty += n * run.share * float(self.group_reg @ squares)
        return y + times(F, G, run.pool), (cache, F, n)

    def give(self, dy: np.ndarray, cache: Any, run: Run) -> None:
        """Add the gradients of the rows and of all groups."""
        inner, F, n = cache
        super().give(dy, inner, run)
        if not self.groups.frozen:
            pull = (2 * n * run.share * self.group_reg).astype(dy.dtype)
            dG = pull[:, None] * self.groups.value
            transposed_times(F, dy, run.pool).add_to(dG)
            run.gradients.add(self.groups, dG)


class RowsLinear(Layer):
    """y = φ([T_1[x_1] | … | T_n[x_n]] W + b), for row numbers x.

    Parameters
    ----------
    embeddings : sequence of Embedding
        The tables, their columns in x, and their penalties.
    linear : Linear
        W, shape (Σ k_j, n_out), b and φ.
    fixed : (A, column), or None
        Lines (n_rows, n_out) of one more table, which are added to z, and its column in x.
    """

    def __init__(self, embeddings: tuple[Embedding, ...], linear: Linear,
                 fixed: tuple[np.ndarray, int] | None = None) -> None:
        self.embeddings, self.linear, self.fixed = embeddings, linear, fixed
        cuts = np.cumsum([0, *(each.table.value.shape[1] for each in embeddings)])
        self.spans = [slice(*span) for span in zip(cuts[:-1], cuts[1:], strict=True)]

    def __repr__(self) -> str:
        return f"RowsLinear({self.embeddings}, {self.linear!r})"

    def parameters(self) -> list[Parameter]:
        """Return the tables, W and b."""
        tables = [p for each in self.embeddings for p in each.parameters()]
        return [*tables, *self.linear.parameters()]

    def forward(self, x: np.ndarray | RowNumbers, run: Run) -> tuple[np.ndarray, Any]:
        """Return y, shape (n, n_out)."""
        x = numbered(x)
        W, z, used = self.linear.W.value, self._start(x), []
        for each, part in zip(self.embeddings, self._parts(W), strict=True):
            lines, cache, place = each.used(x, run)
            _add_products(lines, part, place, z, run)
            used.append((lines, cache, place))
        y, z = self.linear.activation.forward(z, self.linear.b.value)
        return y, (used, y, z)

    def backward(self, dy: np.ndarray, cache: Any, run: Run) -> None:
        """Add the gradients of the rows used, of W and of b."""
        used, y, z = cache
        dz, db = self.linear.activation.backward(dy, y, z)
        W, dW = self.linear.W, np.empty_like(self.linear.W.value)
        for each, (lines, inner, place), part, rows in zip(
                self.embeddings, used, self._parts(W.value), self._parts(dW), strict=True):
            dlines = np.empty_like(lines)
            _product_gradients(lines, part, place, dz, dlines, rows, run)
            if not all(table.frozen for table in each.parameters()):
                each.give(dlines, inner, run)
        if not W.frozen:
            run.gradients.add(W, dW)
            run.gradients.add(self.linear.b, db)

    def _start(self, x: RowNumbers) -> np.ndarray:
        """Return the lines of the fixed table, or zeros."""
        W = self.linear.W.value
        if self.fixed is None:
            return np.zeros((len(x), W.shape[1]), W.dtype)
        lines, column = self.fixed
        z = np.empty((len(x), W.shape[1]), W.dtype)
        kernels.gather(lines, x.column(column), z)
        return z

    def _parts(self, W: np.ndarray) -> list[np.ndarray]:
        return [W[span] for span in self.spans]


def _add_products(X: np.ndarray, W: np.ndarray, place: np.ndarray, out: np.ndarray, run: Run
                  ) -> None:
    """Do what the kernel does, if necessary with rows of the product apart."""
    if not run.apart:
        kernels.add_products(X, W, place, out)
        return
    more = np.empty_like(out)
    kernels.gather(run.product(X, W), place, more)
    out += more


def _product_gradients(X: np.ndarray, W: np.ndarray, place: np.ndarray, dout: np.ndarray,
                       dX: np.ndarray, dW: np.ndarray, run: Run) -> None:
    """Do the same for its gradients."""
    if not run.apart:
        kernels.product_gradients(X, W, place, dout, dX, dW)
        return
    dA = np.zeros((len(X), W.shape[1]), X.dtype)
    kernels.scatter_add(place, dout, dA)
    dX[...], dW[...] = run.product(dA, W.T), X.T @ dA


class RowsDot(Layer):
    """y = T[x_1] · C[x_2], shape (n, 1), for row numbers x and lines C without a gradient.

    Parameters
    ----------
    embedding : Embedding
        T, its column in x, and its penalty.
    fixed : (C, column)
        Lines (n_rows, k), and their column in x.
    """

    def __init__(self, embedding: Embedding, fixed: tuple[np.ndarray, int]) -> None:
        self.embedding, self.fixed = embedding, fixed

    def parameters(self) -> list[Parameter]:
        """Return the table."""
        return self.embedding.parameters()

    def forward(self, x: np.ndarray | RowNumbers, run: Run) -> tuple[np.ndarray, Any]:
        """Return y, shape (n, 1)."""
        x, (C, column) = numbered(x), self.fixed
        lines, cache, place = self.embedding.used(x, run)
        others, y = x.column(column), np.empty((len(x), 1), C.dtype)
        kernels.dots(lines, place, C, others, y[:, 0])
        return y, (cache, place, others, lines.shape)

    def backward(self, dy: np.ndarray, cache: Any, run: Run) -> None:
        """Add the gradient of the rows used."""
        inner, place, others, shape = cache
        dT = np.zeros(shape, dy.dtype)
        kernels.scatter_add_scaled(place, np.ascontiguousarray(dy[:, 0]), self.fixed[0], others,
                                   dT)
        self.embedding.give(dT, inner, run)
