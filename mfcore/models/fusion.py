"""The network of neural matrix factorization: s_ui = B_ui + f(P_u, Q_i).

    concat      f = MLP([p | q])
    product     f = MLP(p ∘ q)                          no hidden layer: p·diag(a)·q + c
    gmf+mlp     f = a·[p ∘ q | MLP([p' | q'])] + c      vectors of their own for each branch

MLP ends in a linear layer with one output.  B_ui = b_u + b̃_i, tables of one column.

A side (users or items) is a list of tables: [p], or [p, p'], and [b] where there are biases;
`factors` has p and p' side by side.  A side may be replaced without the rest: new users are
tables of their own before the same head.

Source: He, Liao, Zhang, Nie, Hu, Chua 2017 (gmf+mlp).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mfcore.nn.initialisers import table
from mfcore.nn.joins import Concatenate, Fork, Product, Sequential, Sum
from mfcore.nn.layers import Dropout, Embedding, Layer, Linear
from mfcore.nn.pairs import RowsLinear
from mfcore.nn.parameters import Parameter

FUSIONS = ("concat", "product", "gmf+mlp")
Side = list[Parameter]


@dataclass(frozen=True)
class Architecture:
    """What decides the shapes of a network.

    n_factors : k, the length of each vector; hidden : widths of the MLP's hidden layers
    biased : whether there are tables b; dropout : rate before each hidden layer
    """

    fusion: str
    n_factors: int
    hidden: tuple[int, ...]
    activation: str
    dropout: float
    biased: bool
    dtype: np.dtype

    @property
    def n_tables(self) -> int:
        """Number of vectors of a user, or of an item."""
        return 2 if self.fusion == "gmf+mlp" else 1

    @property
    def width(self) -> int:
        """Length of all vectors of a user together."""
        return self.n_tables * self.n_factors

    # ------------------------------------------------------------------------ parts

    def head(self, random: np.random.Generator) -> list[Linear]:
        """Return the linear layers, the one to the score last."""
        k = self.n_factors
        widths = [k if self.fusion == "product" else 2 * k, *self.hidden]
        layers = [Linear(n_in, n_out, self.activation, random=random, dtype=self.dtype,
                         name=f"hidden_{number}")
                  for number, (n_in, n_out) in enumerate(zip(widths, self.hidden, strict=False))]
        last = widths[-1] + (k if self.fusion == "gmf+mlp" else 0)
        return [*layers, Linear(last, 1, random=random, dtype=self.dtype, name="output")]

    def side(self, name: str, factors: np.ndarray, bias: np.ndarray | None) -> Side:
        """Return the tables of one side: copies of its vectors (n, width) and biases (n,)."""
        vectors = np.split(factors, self.n_tables, axis=1)
        tables = [Parameter(f"{name}_factors_{number}", self._copied(block))
                  for number, block in enumerate(vectors)]
        if self.biased:
            b = np.zeros(len(factors)) if bias is None else bias
            tables.append(Parameter(f"{name}_bias", self._copied(b[:, None])))
        return tables

    def drawn(self, name: str, n_rows: int, scale: float, random: np.random.Generator) -> Side:
        """Return the tables of one side at the start of training."""
        factors = table(n_rows, self.width, scale / np.sqrt(self.n_factors), random, self.dtype)
        return self.side(name, factors, None)

    def factors(self, side: Side) -> np.ndarray:
        """Return the vectors of a side, (n, width): a view where it is one table."""
        blocks = [each.value for each in side[:self.n_tables]]
        return blocks[0] if len(blocks) == 1 else np.hstack(blocks)

    def bias(self, side: Side) -> np.ndarray | None:
        """Return the biases of a side, (n,), a view."""
        return side[-1].value[:, 0] if self.biased else None

    def _copied(self, block: np.ndarray) -> np.ndarray:
        return np.array(block, self.dtype, order="C")

    # -------------------------------------------------------------------- the network

    def network(self, users: Side, items: Side, head: list[Linear], reg: float = 0.0,
                bias_reg: float = 0.0) -> Layer:
        """Return the network from pairs (n, 2) to scores (n, 1); rows pay reg a use."""
        *hidden, output = head
        pairs = [(Embedding(u, 0, reg=reg), Embedding(i, 1, reg=reg))
                 for u, i in zip(users[:self.n_tables], items[:self.n_tables], strict=True)]
        product = Sequential(Fork(*pairs[0]), Product())
        f: Layer
        if self.fusion == "product":
            f = Sequential(product, *self._thinned(hidden), output)
        elif self.fusion == "concat":
            f = self._on_both(pairs[0], [*hidden, output])
        else:
            f = Sequential(Fork(product, self._on_both(pairs[1], hidden)), Concatenate(), output)
        if not self.biased:
            return f
        return Sequential(Fork(f, Embedding(users[-1], 0, reg=bias_reg),
                               Embedding(items[-1], 1, reg=bias_reg)), Sum())

    def _on_both(self, pair: tuple[Embedding, Embedding], layers: list[Linear]) -> Layer:
        """Return layers on [p | q]; nothing dropped, the first works on distinct rows."""
        if self.dropout or not layers:
            return Sequential(Fork(*pair), Concatenate(), *self._thinned(layers))
        return Sequential(RowsLinear(pair, layers[0]), *layers[1:])

    def _thinned(self, layers: list[Linear]) -> list[Layer]:
        return [each for layer in layers for each in (Dropout(self.dropout), layer)]


def flat(head: list[Linear]) -> np.ndarray:
    """Return all numbers of the head in one vector."""
    return np.concatenate([p.value.ravel() for layer in head for p in layer.parameters()])


def unflatten(numbers: np.ndarray, head: list[Linear]) -> list[Linear]:
    """Fill a head from such a vector; raises ValueError for another length."""
    blocks = [p.value for layer in head for p in layer.parameters()]
    if numbers.shape != (sum(block.size for block in blocks),):
        raise ValueError(f"weights must have shape ({sum(block.size for block in blocks)},), "
                         f"got {numbers.shape}")
    for block, part in zip(blocks, np.split(numbers, np.cumsum([b.size for b in blocks])[:-1]),
                           strict=True):
        block[...] = part.reshape(block.shape)
    return head
