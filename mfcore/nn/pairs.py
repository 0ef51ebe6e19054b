"""A linear layer on concatenated rows of tables, computed once for each row that occurs.

    y_t = φ(z_t),   z_t = [T_1[x_t1] | … | T_n[x_tn]] W + b

A batch of cells names popular rows again and again.  Cut W into the parts W_j that meet
table j; let r be the distinct rows of column j, and p_t the place of x_tj among them:

    z_t = Σ_j T_j[x_tj] W_j + b = Σ_j A_j[p_t] + b             A_j = T_j[r] W_j

    dA_j[p] = Σ_{t: p_t = p} dz_t                              z_t is linear in A_j
    dW_j = T_j[r]ᵀ dA_j        dT_j[r] = dA_j W_jᵀ             A_j = T_j[r] W_j
    db = Σ_t dz_t

Three products with as many lines as there are distinct rows, not cells; and rows are distinct
in the gradient already.  Values and gradients are those of Fork, Concatenate and Linear.
A table takes its rows and gives them their gradient as `Embedding` says, with the number of
their uses: a penalty λ a use is λ n_p ‖T_j[r_p]‖² for a row that is used n_p times.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mfcore.kernels import nn_rows as kernels
from mfcore.nn.layers import Embedding, Layer, Linear, Run
from mfcore.nn.parameters import Parameter, sorting
from mfcore.nn.products import product


class _Used(NamedTuple):
    """What a batch takes of one table: lines of distinct rows, their cache, and places (n,)."""

    lines: np.ndarray
    cache: Any
    place: np.ndarray


class RowsLinear(Layer):
    """y = φ([T_1[x_1] | … | T_n[x_n]] W + b), for x of row numbers.

    Parameters
    ----------
    embeddings : sequence of Embedding
        Tables, their columns in x, and their penalties.
    linear : Linear
        W, shape (Σ k_j, n_out), b and φ.
    """

    def __init__(self, embeddings: tuple[Embedding, ...], linear: Linear) -> None:
        self.embeddings, self.linear = embeddings, linear
        self.cuts = np.cumsum([each.table.value.shape[1] for each in embeddings])

    def __repr__(self) -> str:
        return f"RowsLinear({self.embeddings}, {self.linear!r})"

    def parameters(self) -> list[Parameter]:
        """Return the tables, W and b."""
        tables = [p for each in self.embeddings for p in each.parameters()]
        return [*tables, *self.linear.parameters()]

    def forward(self, x: np.ndarray, run: Run) -> tuple[np.ndarray, Any]:
        """Return y, shape (n, n_out)."""
        W = self.linear.W.value
        z, used = np.zeros((len(x), W.shape[1]), W.dtype), []
        for each, part in zip(self.embeddings, np.split(W, self.cuts[:-1]), strict=True):
            taken = _use(each, x, run)
            kernels.gather_add(product(taken.lines, part, run.pool), taken.place, z)
            used.append(taken)
        y, z = self.linear.activation.forward(z, self.linear.b.value)
        return y, (used, y, z)

    def backward(self, dy: np.ndarray, cache: Any, run: Run) -> None:
        """Add the gradients of the rows used, of W and of b."""
        used, y, z = cache
        dz, db = self.linear.activation.backward(dy, y, z)
        W, dW = self.linear.W.value, []
        for each, taken, part in zip(self.embeddings, used, np.split(W, self.cuts[:-1]),
                                     strict=True):
            dA = np.zeros((len(taken.lines), W.shape[1]), W.dtype)
            kernels.scatter_add(taken.place, dz, dA)
            dW.append(product(taken.lines.T, dA, run.pool))
            if not all(table.frozen for table in each.parameters()):
                each.give(product(dA, part.T, run.pool), taken.cache, run)
        if not self.linear.W.frozen:
            run.gradients.add(self.linear.W, np.concatenate(dW))
            run.gradients.add(self.linear.b, db)


def _use(each: Embedding, x: np.ndarray, run: Run) -> _Used:
    """Return the distinct rows that x takes of a table, each as often used as x has it."""
    rows, real = each.rows_of(x), each.table.value.dtype
    order = sorting(rows)
    place, distinct = np.full(len(rows), -1), np.empty(len(order), rows.dtype)
    n = kernels.number_rows(rows, order, distinct, place)
    counts = np.bincount(place[order], minlength=n).astype(real)
    return _Used(*each.take(distinct[:n], run, counts), place)
