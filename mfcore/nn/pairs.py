"""Layers on rows of tables, computed once for each row that occurs.

RowsLinear, a linear layer on concatenated rows:

    y_t = φ(z_t),   z_t = [T_1[x_t1] | … | T_n[x_tn]] W + b

A batch of cells names popular rows again and again.  Cut W into the parts W_j that meet
table j; let r be the distinct rows of column j, and p_t the place of x_tj among them:

    z_t = Σ_j T_j[x_tj] W_j + b = Σ_j A_j[p_t] + b             A_j = T_j[r] W_j

    dA_j[p] = Σ_{t: p_t = p} dz_t                              z_t is linear in A_j
    dW_j = T_j[r]ᵀ dA_j        dT_j[r] = dA_j W_jᵀ             A_j = T_j[r] W_j
    db = Σ_t dz_t

Three products with as many lines as there are distinct rows, not cells; and rows are distinct
in the gradient already.  Values and gradients are those of Fork, Concatenate and Linear.
A table that does not change can be given as the lines A_j of all its rows.

RowsDot, a table against lines that do not change:

    y_t = T[x_t1] · C[x_t2]         dT[r] = Σ_{t: x_t1 = r} dy_t C[x_t2]

A table takes its rows and gives them their gradient as `Embedding` says, with the number of
their uses: a penalty λ per use is λ n_p ‖T_j[r_p]‖² for a row that is used n_p times.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mfcore.kernels import nn_rows as kernels
from mfcore.nn.layers import Embedding, Layer, Linear, Run
from mfcore.nn.parameters import Parameter
from mfcore.nn.sparse import RowNumbers, numbered


class RowsLinear(Layer):
    """y = φ([T_1[x_1] | … | T_n[x_n]] W + b), for x of row numbers.

    Parameters
    ----------
    embeddings : sequence of Embedding
        Tables, their columns in x, and their penalties.
    linear : Linear
        W, shape (Σ k_j, n_out), b and φ.
    fixed : (A, column), or None
        Lines (n_rows, n_out) of a table more that are added to z, and its column in x.
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
            kernels.add_products(lines, part, place, z)
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
            kernels.product_gradients(lines, part, place, dz, dlines, rows)
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


class RowsDot(Layer):
    """y = T[x_1] · C[x_2], shape (n, 1), for x of row numbers and lines C without gradient.

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
