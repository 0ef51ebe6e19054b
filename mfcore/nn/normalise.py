"""Layers that work on one row, or one number, at a time.

LayerNorm.  Each row is shifted and scaled to mean 0 and variance 1, then by learned a, c:

    μ = mean_j x_j        v = mean_j (x_j − μ)²        r = 1 / √(v + ε)
    n_j = (x_j − μ) r     y_j = a_j n_j + c_j

    da_j = Σ_u dy_uj n_uj                dc_j = Σ_u dy_uj             linear in a and c
    let g = dy ∘ a, the gradient by n.  With ∂r/∂v = −½ r³ and ∂v/∂x_i = (2/k)(x_i − μ):
    ∂n_j/∂x_i = r ([i = j] − 1/k) − (x_j − μ) r³ (x_i − μ) / k        product rule
              = r ([i = j] − 1/k − n_j n_i / k)                       put in n
    dx_i = r (g_i − mean_j g_j − n_i mean_j (g_j n_j))                sum over j with g

The gradient is what is left of g without its mean and without its share along n: moving x
along either leaves n as it is.  Cached: n and r.

Source: Ba, Kiros, Hinton 2016.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mfcore.nn.activations import Activation
from mfcore.nn.layers import Layer, Run, expect
from mfcore.nn.parameters import Parameter


class LayerNorm(Layer):
    """Normalise each row of x (n, k); ε keeps constant rows finite."""

    def __init__(self, k: int, *, epsilon: float = 1e-5, dtype: Any = np.float32,
                 name: str = "norm") -> None:
        self.epsilon = epsilon
        self.a = Parameter(f"{name}.a", np.ones(k, dtype), penalised=False)
        self.c = Parameter(f"{name}.c", np.zeros(k, dtype), penalised=False)

    def __repr__(self) -> str:
        return f"LayerNorm({len(self.a.value)})"

    def parameters(self) -> list[Parameter]:
        """Return a and c."""
        return [self.a, self.c]

    def forward(self, x: np.ndarray, run: Run) -> tuple[np.ndarray, Any]:
        """Return y, shape (n, k)."""
        expect(self, x, len(self.a.value))
        D = x - x.mean(axis=1, keepdims=True)
        r = 1 / np.sqrt((D * D).mean(axis=1, keepdims=True) + x.dtype.type(self.epsilon))
        n = D * r
        return n * self.a.value + self.c.value, (n, r)

    def backward(self, dy: np.ndarray, cache: Any, run: Run) -> np.ndarray:
        """Return dx; add da and dc."""
        n, r = cache
        run.gradients.add(self.a, (dy * n).sum(axis=0))
        run.gradients.add(self.c, dy.sum(axis=0))
        g = dy * self.a.value
        dx: np.ndarray = r * (g - g.mean(axis=1, keepdims=True)
                              - n * (g * n).mean(axis=1, keepdims=True))
        return dx


class Activate(Layer):
    """y = φ(x), by the name of φ.        dx = dy φ'(x)"""

    def __init__(self, activation: str) -> None:
        self.activation = Activation(activation)

    def __repr__(self) -> str:
        return f"Activate({self.activation.name!r})"

    def forward(self, x: np.ndarray, run: Run) -> tuple[np.ndarray, Any]:
        """Return y, of the shape of x."""
        y = self.activation.formula.value(x)
        return y, (x, y)

    def backward(self, dy: np.ndarray, cache: Any, run: Run) -> np.ndarray:
        """Return dx."""
        dx: np.ndarray = dy * self.activation.formula.slope(*cache)
        return dx


class Unit(Layer):
    """y = x / ‖x‖ of each row; a zero row stays zero.

        ∂y/∂x = (I − y yᵀ) / ‖x‖        dx = (dy − y (y·dy)) / ‖x‖
    """

    def forward(self, x: np.ndarray, run: Run) -> tuple[np.ndarray, Any]:
        """Return y, of the shape of x."""
        length = np.sqrt(np.einsum("uj,uj->u", x, x))[:, None]
        inverse = np.divide(1, length, out=np.zeros_like(length), where=length > 0)
        return x * inverse, (x * inverse, inverse)

    def backward(self, dy: np.ndarray, cache: Any, run: Run) -> np.ndarray:
        """Return dx."""
        y, inverse = cache
        dx: np.ndarray = inverse * (dy - y * np.einsum("uj,uj->u", y, dy)[:, None])
        return dx
