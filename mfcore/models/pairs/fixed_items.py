"""The network of pairs while items stay as they are: what they contribute is computed once.

    a·(p ∘ q) = p·(a ∘ q)                       a table of lines a ∘ q
    [p | q] W + b = p W_p + (q W_q + b)          a table of lines q W_q + b
    b_u + b̃_i + c = b_u + (b̃_i + c)             a table of one column

New users are learned, and items ranked, against all items again and again.  A product under
hidden layers, MLP(p ∘ q), has no such parts, and stays the network that it is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from mfcore.models.pairs.fusion import Architecture, Tables
from mfcore.nn.joins import Fork, Sequential, Sum
from mfcore.nn.layers import Embedding, Layer, Linear
from mfcore.nn.pairs import RowsDot, RowsLinear
from mfcore.nn.parameters import Parameter


class FixedItems(NamedTuple):
    """The lines of all items under a network; see the head of the file.

    products : (n_items, k), or None; first : (n_items, width), or None
    layers : those after the vectors, all frozen; offsets : (n_items, 1)
    """

    shape: Architecture
    items: Tables
    head: list[Linear]
    products: np.ndarray | None
    first: np.ndarray | None
    layers: list[Linear]
    offsets: np.ndarray

    def network(self, users: Tables, reg: float = 0.0, bias_reg: float = 0.0) -> Layer:
        """Return the network from pairs (n, 2) to scores (n, 1), for any users."""
        if self.products is None and self.first is None:
            return self.shape.network(users, self.items, self.head, reg, bias_reg)
        terms: list[Layer] = [Embedding(Parameter("offsets", self.offsets, frozen=True), 1)]
        if self.products is not None:
            terms.append(RowsDot(users.embedding(0, 0, reg, 1), (self.products, 1)))
        if self.first is not None:
            table = users.embedding(self.shape.n_tables - 1, 0, reg, 1)
            first, *rest = self.layers
            terms.append(Sequential(RowsLinear((table,), first, (self.first, 1)), *rest))
        if self.shape.biased:
            terms.append(users.embedding(self.shape.n_tables, 0, bias_reg, 1))
        return Sequential(Fork(*terms), Sum())


def fixed_items(shape: Architecture, items: Tables, head: list[Linear]) -> FixedItems:
    """Return the lines of all items; the network stays as it is, and drops nothing."""
    for each in (*items.parameters(), *(p for layer in head for p in layer.parameters())):
        each.frozen = True
    k, (*hidden, output) = shape.n_factors, head
    bias = shape.bias(items)
    offsets = output.b.value + (np.zeros(len(items.tables[0].value)) if bias is None else bias)
    products, first, layers = None, None, []
    if shape.fusion == "gmf+mlp" or (shape.fusion == "product" and not hidden):
        products = items.whole(0) * output.W.value[:k, 0]
    if shape.fusion != "product":
        last = _frozen(output.W.value[k if shape.fusion == "gmf+mlp" else 0:])
        below, *above = [*hidden, last]
        layers = [_frozen(below.W.value[:k], below.activation.name), *above]
        first = items.whole(shape.n_tables - 1) @ below.W.value[k:] + below.b.value
    return FixedItems(replace(shape, dropout=0.0), items, head, products, first, layers,
                      offsets[:, None].astype(shape.dtype))


def _frozen(W: np.ndarray, activation: str = "identity") -> Linear:
    """Return a layer without offsets that stays as it is."""
    n_in, n_out = W.shape
    layer = Linear(n_in, n_out, activation, random=None, dtype=W.dtype)
    layer.W = Parameter("fixed.W", W, frozen=True)
    layer.b.frozen = True
    return layer
