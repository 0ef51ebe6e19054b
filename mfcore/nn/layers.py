"""Layers: the forward pass, and right below it the backward pass.

A layer maps x to y = f(x; θ).  For a number L that depends on y, and dy = ∂L/∂y (of the
shape of y), the chain rule gives what its `backward` returns and adds:

    dx = ∂L/∂x = (∂y/∂x)ᵀ dy            returned
    dθ = ∂L/∂θ = (∂y/∂θ)ᵀ dy            added to run.gradients

`forward` returns y and a cache: whatever `backward` will need.  Nothing is kept in the
layer, so that several passes can run at once, on several threads.  A `Run` holds what
belongs to a pass: the pool, the randomness (none when serving) and the gradients.

A layer of your own takes twenty lines, with its check.  A scale for each column:

    y_uj = x_uj a_j        dx_uj = dy_uj a_j        da_j = Σ_u dy_uj x_uj

    >>> class Scale(Layer):
    ...     def __init__(self, k):
    ...         self.a = Parameter("a", np.full(k, 1.3))
    ...
    ...     def parameters(self):
    ...         return [self.a]
    ...
    ...     def forward(self, x, run):
    ...         return x * self.a.value, x
    ...
    ...     def backward(self, dy, x, run):
    ...         run.gradients.add(self.a, (dy * x).sum(axis=0))
    ...         return dy * self.a.value
    >>> from mfcore.nn.check import check_layer
    >>> check_layer(Scale(3), np.random.default_rng(0).normal(size=(5, 3))).ok
    True

Shapes: a batch has n rows; W is (n_in, n_out).  Computation is in the type of the
parameters: float32 for work, float64 for checks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.kernels import nn_rows
from mfcore.nn.activations import Activation
from mfcore.nn.parameters import SUITS, VARIANCES, Gradients, Parameter, Rows, initial_weights
from mfcore.nn.sparse import (
    RowNumbers,
    numbered,
    product,
    product_apart,
    times,
    transposed_times,
    with_values,
)
from mfcore.parallel import Pool


@dataclass
class Run:
    """One pass through a network.

    Parameters
    ----------
    pool : Pool
        Threads for large products.
    apart : bool
        Whether the bits of a row must not depend on the other rows: see `product_apart`.
    seed : sequence of int, or None
        Of what training draws (dropout, latent noise); None when serving: nothing is drawn.
    gradients : Gradients
        Where `backward` adds the gradients of parameters.
    share : float
        What penalties of single rows are multiplied by: 1 / n if the loss is a mean.
    penalty : float
        Sum of the penalties added in the forward pass; part of L.
    """

    pool: Pool = field(default_factory=lambda: Pool(1))
    seed: Sequence[int] | None = None
    gradients: Gradients = field(default_factory=Gradients)
    share: float = 1.0
    penalty: float = 0.0
    apart: bool = False

    @cached_property
    def random(self) -> np.random.Generator | None:
        """The generator of this pass, made on first use."""
        return None if self.seed is None else np.random.default_rng(self.seed)

    def product(self, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
        """Return X Y."""
        return (product_apart if self.apart else product)(X, Y, self.pool)


class Layer:
    """The interface of every layer."""

    def parameters(self) -> list[Parameter]:
        """Return the parameters, in a fixed order."""
        return []

    def forward(self, x: Any, run: Run) -> tuple[Any, Any]:
        """Return y = f(x), and what `backward` needs."""
        raise NotImplementedError

    def backward(self, dy: Any, cache: Any, run: Run) -> Any:
        """Return ∂L/∂x (None if x is not an array of reals); add ∂L/∂θ to the run."""
        raise NotImplementedError


def expect(layer: Layer, x: Any, n_columns: int) -> None:
    """Raise a ValueError that names the layer unless x has shape (n, n_columns)."""
    shape = getattr(x, "shape", None)
    if shape is None or len(shape) != 2 or shape[1] != n_columns:
        raise ValueError(f"{layer!r} must be given shape (n, {n_columns}), got {shape}")


class Linear(Layer):
    """y = φ(x W + b).

        z = x W + b          y = φ(z)
        dz = dy φ'(z)                                  elementwise chain rule
        dx = dz Wᵀ           dW = xᵀ dz                z_uj = Σ_i x_ui W_ij + b_j
        db_j = Σ_u dz_uj

    Parameters
    ----------
    n_in, n_out : int
    activation : str
        φ, a name in `activations.FORMULAS`.
    random : Generator or None
        With None, W is zeros, to be replaced.
    initial : {"glorot", "he", "lecun", "narrow"} or None
        With None, what suits φ.
    """

    def __init__(self, n_in: int, n_out: int, activation: str = "identity", *,
                 random: np.random.Generator | None, initial: str | None = None,
                 dtype: Any = np.float32, name: str = "linear") -> None:
        self.activation = Activation(activation)
        kind = initial or SUITS.get(activation, "glorot")
        validation.choice("initial", kind, VARIANCES)
        dtype = np.dtype(dtype)
        self.W = Parameter(f"{name}.W", initial_weights(n_in, n_out, kind, random, dtype))
        self.b = Parameter(f"{name}.b", np.zeros(n_out, dtype), penalised=False)

    def __repr__(self) -> str:
        n_in, n_out = self.M.shape
        return f"{type(self).__name__}({n_in}, {n_out}, {self.activation.name!r})"

    @property
    def M(self) -> np.ndarray:
        """The matrix that x is multiplied by, shape (n_in, n_out)."""
        return self.W.value

    def parameters(self) -> list[Parameter]:
        """Return W and b."""
        return [self.W, self.b]

    def forward(self, x: np.ndarray, run: Run) -> tuple[np.ndarray, Any]:
        """Return y, shape (n, n_out), for x (n, n_in)."""
        expect(self, x, self.M.shape[0])
        y, z = self.activation.forward(run.product(x, self.M), self.b.value)
        return y, (x, y, z)

    def backward(self, dy: np.ndarray, cache: Any, run: Run) -> Any:
        """Return dx, shape (n, n_in); add dW and db."""
        x, y, z = cache
        dz, db = self.activation.backward(dy, y, z)
        if not self.W.frozen:
            run.gradients.add(self.W, self.weight_gradient(x, dz, run.pool))
        if not self.b.frozen:
            run.gradients.add(self.b, db)
        return self.input_gradient(dz, run)

    def weight_gradient(self, x: Any, dz: np.ndarray, pool: Pool) -> Any:
        """Return dW."""
        return product(x.T, dz, pool)

    def input_gradient(self, dz: np.ndarray, run: Run) -> Any:
        """Return dx."""
        return run.product(dz, self.M.T)


class Transposed(Linear):
    """y = φ(x Wᵀ + b), where W (n_out, n_in) is a parameter that exists already.

        dW = dzᵀ x                                     the transpose of Linear's

    Tied weights: give the encoder's W; the gradients of its two uses add up.
    """

    def __init__(self, W: Parameter, activation: str = "identity", *,
                 name: str = "transposed") -> None:
        self.activation, self.W = Activation(activation), W
        self.b = Parameter(f"{name}.b", np.zeros(len(W.value), W.value.dtype), penalised=False)

    @property
    def M(self) -> np.ndarray:
        """Wᵀ, shape (n_in, n_out)."""
        return self.W.value.T

    def weight_gradient(self, x: np.ndarray, dz: np.ndarray, pool: Pool) -> np.ndarray:
        """Return dW."""
        return product(dz.T, x, pool)


class SparseLinear(Linear):
    """y = φ(X W + b) for a scipy CSR batch X, shape (n, n_in).

        z_u = Σ_{i stored in row u} x_ui W_i + b
        dW_i = Σ_{u: i stored} x_ui dz_u              zero, and unwritten, for other rows i

    X is data, so there is no dX.
    """

    def forward(self, x: sp.csr_array, run: Run) -> tuple[np.ndarray, Any]:
        """Return y, shape (n, n_out)."""
        W = self.W.value
        expect(self, x, W.shape[0])
        if not sp.issparse(x) or x.format != "csr":
            raise TypeError(f"{self!r} must be given a CSR batch, got {type(x).__name__}")
        x = x if x.dtype == W.dtype else x.astype(W.dtype)
        y, z = self.activation.forward(times(x, W, run.pool), self.b.value)
        return y, (x, y, z)

    def weight_gradient(self, x: sp.csr_array, dz: np.ndarray, pool: Pool) -> Rows:
        """Return dW of the rows that the batch names."""
        return transposed_times(x, dz, pool)

    def input_gradient(self, dz: np.ndarray, run: Run) -> None:
        """Return None: the batch is data."""

    def on_blocks(self) -> Linear:
        """Return a layer with the same parameters for dense batches."""
        layer = Linear.__new__(Linear)
        layer.activation, layer.W, layer.b = self.activation, self.W, self.b
        return layer


class Embedding(Layer):
    """Rows of a table by number, with a penalty per use:  y_t = T[x_t, column].

        L gets + λ Σ_t ‖y_t‖²                          a row pays each time it is used
        dT[r] = Σ_{t: x_t = r} (dy_t + 2 λ y_t)        only rows that occur have a gradient

    x is `RowNumbers`, or an array of int, (n, n_columns); this layer reads one column of it.
    Row −1 is unknown: zeros without a gradient.  λ is `reg` times the run's share.
    """

    def __init__(self, table: Parameter, column: int = 0, *, reg: float = 0.0) -> None:
        self.table, self.column = table, column
        self.reg = validation.real("reg", reg, low=0)

    def __repr__(self) -> str:
        return f"Embedding{self.table.value.shape}"

    def parameters(self) -> list[Parameter]:
        """Return the table."""
        return [self.table]

    def used(self, x: np.ndarray | RowNumbers, run: Run) -> tuple[np.ndarray, Any, np.ndarray]:
        """Return the distinct rows that x uses, their cache, and the place of each use.

        Raises IndexError for a number outside the table.
        """
        found, n_rows = numbered(x).distinct(self.column), len(self.table.value)
        if found.least < -1 or (found.rows.size and found.rows[-1] >= n_rows):
            raise IndexError(f"{self!r} must be given rows in [-1, {n_rows - 1}], got "
                             f"{found.least} to {max([found.least, *found.rows[-1:]])}")
        return *self.take(found.rows, run, found.counts), found.place

    def forward(self, x: np.ndarray | RowNumbers, run: Run) -> tuple[np.ndarray, Any]:
        """Return the rows, shape (n, k)."""
        lines, cache, place = self.used(x, run)
        y = np.empty((len(place), lines.shape[1]), lines.dtype)
        nn_rows.gather(lines, place, y)
        return y, (cache, place, len(lines))

    def backward(self, dy: np.ndarray, cache: Any, run: Run) -> None:
        """Add the gradient of the rows used."""
        inner, place, n = cache
        if not all(table.frozen for table in self.parameters()):
            lines = np.zeros((n, dy.shape[1]), dy.dtype)
            nn_rows.scatter_add(place, dy, lines)
            self.give(lines, inner, run)

    def take(self, rows: np.ndarray, run: Run, counts: np.ndarray) -> tuple[np.ndarray, Any]:
        """Return the lines (n, k) of distinct rows, each used `counts` times."""
        T = self.table.value
        y = np.empty((len(rows), T.shape[1]), T.dtype)
        nn_rows.gather(T, rows, y)
        if self.reg and not self.table.frozen:
            squares = np.einsum("tf,tf->t", y, y, dtype=T.dtype)
            run.penalty += self.reg * run.share * float(counts @ squares)
        return y, (rows, y, counts)

    def give(self, dy: np.ndarray, cache: Any, run: Run) -> None:
        """Add the gradient of what `take` returned, summed over the uses of each row."""
        rows, y, counts = cache
        if self.table.frozen:
            return
        if self.reg:
            pull = (2 * self.reg * run.share * counts).astype(y.dtype)
            dy = dy + pull[:, None] * y
        run.gradients.add(self.table, Rows(rows, dy, distinct=True))


class Dropout(Layer):
    """Set inputs to zero with probability `rate` and scale up the rest, in training only.

        y = x ∘ m / (1 − rate),  m_uj ~ Bernoulli(1 − rate),  so that E y = x
        dx = dy ∘ m / (1 − rate)

    In sparse input only stored cells are drawn.
    Raises ValueError unless 0 <= rate < 1.
    """

    def __init__(self, rate: float) -> None:
        self.rate = validation.real("dropout", rate, low=0)
        if self.rate >= 1:
            raise ValueError(f"dropout must be in [0, 1), got {rate}: 1 leaves nothing")

    def forward(self, x: Any, run: Run) -> tuple[Any, np.ndarray | None]:
        """Return x with drawn zeros, or x itself when serving."""
        if run.random is None or self.rate == 0:
            return x, None
        data = x.data if sp.issparse(x) else x
        kept = run.random.random(data.shape, dtype=np.float32) >= np.float32(self.rate)
        scale = kept * data.dtype.type(1 / (1 - self.rate))
        if not sp.issparse(x):
            return x * scale, scale
        return with_values(x, data * scale), None

    def backward(self, dy: Any, scale: np.ndarray | None, run: Run) -> Any:
        """Return dx."""
        return dy if scale is None or dy is None else dy * scale
