"""The network of neural matrix factorization: s_ui = μ + σ (B_ui + f(P_u, Q_i)).

    concat      f = MLP([p | q])
    product     f = MLP(p ∘ q)                          no hidden layer: p·diag(a)·q + c
    gmf+mlp     f = a·[p ∘ q | MLP([p' | q'])] + c      vectors of their own for each branch

MLP ends in a linear layer with one output.  B_ui = b_u + b̃_i, tables of one column.

A side (users or items) has tables: [p], or [p, p'], and [b] where there are biases; `factors`
has p and p' side by side.  With features F each table holds what rows have of their own, U, and
there are vectors G of the groups (nn/pairs.py): p = U_u + F_u G.  A side may be replaced without
the rest: new users are tables of their own before the same head.

Source: He, Liao, Zhang, Nie, Hu, Chua 2017 (gmf+mlp).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from mfcore.nn.joins import Concatenate, Fork, Product, Sequential, Sum, stacked
from mfcore.nn.layers import Dropout, Embedding, Layer, Linear
from mfcore.nn.pairs import GroupedEmbedding, RowsDot, RowsLinear
from mfcore.nn.parameters import Parameter, initial_table

FUSIONS = ("concat", "product", "gmf+mlp")


@dataclass
class Tables:
    """What a network knows of users, or of items.

    Parameters
    ----------
    tables : list of Parameter, shapes (n_rows, k), and (n_rows, 1) for biases
    groups : list of Parameter, shapes (n_groups, k), and (n_groups, 1)
        Of the first tables, in their order; none without features.
    features : csr_array, shape (n_rows, n_groups), or None
        F.
    group_reg : ndarray, shape (n_groups,), or None
        λ_g, paid once an epoch.
    """

    tables: list[Parameter]
    groups: list[Parameter] = field(default_factory=list)
    features: sp.csr_array | None = None
    group_reg: np.ndarray | None = None

    def embedding(self, number: int, column: int, reg: float, n_visited: int) -> Embedding:
        """Return the layer of a table; its groups pay their penalty over n_visited uses."""
        table = self.tables[number]
        if self.group_reg is None or number >= len(self.groups):
            return Embedding(table, column, reg=reg)
        return GroupedEmbedding(table, self.features, self.groups[number], column, reg=reg,
                                group_reg=self.group_reg / n_visited)

    def whole(self, number: int) -> np.ndarray:
        """Return U + F G of a table; U itself, no copy, without groups."""
        own = self.tables[number].value
        if self.features is None or number >= len(self.groups):
            return own
        together: np.ndarray = own + self.features @ self.groups[number].value
        return together

    def settle(self, silent: np.ndarray) -> None:
        """Give rows without ratings the mean of the others, which a new row has too.

        silent : ndarray of bool, shape (n_rows,)
        """
        if silent.any() and not silent.all():
            for table in self.tables:
                if not table.frozen:
                    table.value[silent] = table.value[~silent].mean(axis=0, dtype=np.float64)

    def parameters(self) -> list[Parameter]:
        """Return all tables."""
        return [*self.tables, *self.groups]


class Known(NamedTuple):
    """What is known of the rows of a side besides their ratings.

    features : F, shape (n_rows, n_groups); reg : λ_g, shape (n_groups,)
    vectors, biases : G, shape (n_groups, width), and g, shape (n_groups,), to start from; None: 0
    """

    features: sp.csr_array
    reg: np.ndarray
    vectors: np.ndarray | None = None
    biases: np.ndarray | None = None


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

    def side(self, name: str, factors: np.ndarray, bias: np.ndarray | None, unit: float = 1.0
             ) -> Tables:
        """Return the tables of one side: copies of its vectors (n, width) and biases (n,) / unit.
        """
        vectors = np.split(factors, self.n_tables, axis=1)
        tables = [Parameter(f"{name}_factors_{number}", self._copied(block))
                  for number, block in enumerate(vectors)]
        if self.biased:
            b = np.zeros(len(factors)) if bias is None else bias
            tables.append(Parameter(f"{name}_bias", self._copied(b[:, None] / unit)))
        return Tables(tables)

    def grouped(self, name: str, side: Tables, known: Known, learns_bias: bool) -> Tables:
        """Return tables of the same sums, with the vectors of known groups split off."""
        n_groups = known.features.shape[1]
        G = np.zeros((n_groups, self.width)) if known.vectors is None else known.vectors
        groups = self.side(f"{name}_group", G, known.biases).tables
        groups = groups[:self.n_tables + (self.biased and learns_bias)]
        for own, group in zip(side.tables, groups, strict=False):
            own.value -= known.features @ group.value
        return Tables(side.tables, groups, known.features.astype(self.dtype), known.reg)

    def drawn(self, name: str, n_rows: int, scale: float, random: np.random.Generator) -> Tables:
        """Return the tables of one side at the start of training."""
        factors = initial_table(n_rows, self.width, scale / np.sqrt(self.n_factors), random,
                                self.dtype)
        return self.side(name, factors, None)

    def start(self, sides: Any, scale: float, random: np.random.Generator
              ) -> tuple[Tables, Tables, list[Linear]]:
        """Return the tables of both sides and the head at the start of training."""
        users, items = sides
        return (self.drawn(users.name, len(users.counts), scale, random),
                self.drawn(items.name, len(items.counts), scale, random), self.head(random))

    def factors(self, side: Tables) -> np.ndarray:
        """Return the vectors of a side, (n, width): a view where it is one table."""
        blocks = [side.whole(number) for number in range(self.n_tables)]
        return blocks[0] if len(blocks) == 1 else np.hstack(blocks)

    def bias(self, side: Tables) -> np.ndarray | None:
        """Return the biases of a side, (n,), a view where it has no groups."""
        return side.whole(self.n_tables)[:, 0] if self.biased else None

    def published(self, side: Tables, unit: float) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the vectors of a side, and its biases in the unit of ratings."""
        bias = self.bias(side)
        return self.factors(side), None if bias is None else bias * bias.dtype.type(unit)

    def publish(self, sides: Any, both: tuple[Tables, Tables], head: list[Linear], unit: float,
                settles: bool) -> np.ndarray:
        """Put vectors and biases into the sides of a model; return all numbers of the head.

        unit : σ
        settles : whether rows without ratings get the mean of the others: see `Tables.settle`
        """
        for side, tables in zip(sides, both, strict=True):
            if settles:
                tables.settle(side.counts == 0)
            side.factors, side.bias = self.published(tables, unit)
            if tables.groups:
                side.feature_factors, g = self.group_vectors(tables)
                side.feature_bias = None if g is None else g * g.dtype.type(unit)
        return flat(head)

    def group_vectors(self, side: Tables) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the vectors of groups (n_groups, width), and their biases where they learn any."""
        blocks = [each.value for each in side.groups]
        biases = blocks[self.n_tables][:, 0] if len(blocks) > self.n_tables else None
        return np.hstack(blocks[:self.n_tables]), biases

    def _copied(self, block: np.ndarray) -> np.ndarray:
        return np.array(block, self.dtype, order="C")

    # -------------------------------------------------------------------- the network

    def network(self, users: Tables, items: Tables, head: list[Linear], reg: float = 0.0,
                bias_reg: float = 0.0, n_visited: int = 1) -> Layer:
        """Return the network from pairs (n, 2) to scores (n, 1); rows pay reg a use.

        n_visited : cells of an epoch, over which groups pay their penalty once.
        """
        *hidden, output = head
        pairs = [self._embeddings(users, items, number, reg, n_visited)
                 for number in range(self.n_tables)]
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
        biases = self._embeddings(users, items, self.n_tables, bias_reg, n_visited)
        return Sequential(Fork(f, *biases), Sum())

    def _embeddings(self, users: Tables, items: Tables, number: int, reg: float, n_visited: int
                    ) -> tuple[Embedding, Embedding]:
        return (users.embedding(number, 0, reg, n_visited),
                items.embedding(number, 1, reg, n_visited))

    def _on_both(self, pair: tuple[Embedding, Embedding], layers: list[Linear]) -> Layer:
        """Return layers on [p | q]; nothing dropped, the first works on distinct rows."""
        if self.dropout or not layers:
            return Sequential(Fork(*pair), Concatenate(), *self._thinned(layers))
        return Sequential(RowsLinear(pair, layers[0]), stacked(layers[1:]))

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


# ------------------------------------------------------------- while items stay as they are

class FixedItems(NamedTuple):
    """The network of pairs while items stay as they are: what they contribute is computed once.

        a·(p ∘ q) = p·(a ∘ q)                       a table of lines a ∘ q
        [p | q] W + b = p W_p + (q W_q + b)          a table of lines q W_q + b
        b_u + b̃_i + c = b_u + (b̃_i + c)             a table of one column

    New users are learned, and items ranked, against all items again and again.  A product
    under hidden layers, MLP(p ∘ q), has no such parts, and stays the network that it is.


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
