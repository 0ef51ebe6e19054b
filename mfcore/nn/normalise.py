"""Layers between linear ones: normalisation of each row, and an activation alone.

LayerNorm.  Each row is shifted and scaled to mean 0 and variance 1, then by learned c and a:

    μ = mean_j x_j        v = mean_j (x_j − μ)²        r = 1 / √(v + ε)
    n_j = (x_j − μ) r     y_j = a_j n_j + c_j

    da_j = Σ_u dy_uj n_uj                dc_j = Σ_u dy_uj             linear in a and c
    Let g = dy ∘ a, the gradient by n.  With ∂r/∂v = −½ r³ and ∂v/∂x_i = (2/k)(x_i − μ):
    ∂n_j/∂x_i = r ([i = j] − 1/k) − (x_j − μ) r³ (x_i − μ) / k        product rule
              = r ([i = j] − 1/k − n_j n_i / k)                       n put in
    dx_i = r (g_i − mean_j g_j − n_i mean_j (g_j n_j))                sum over j with g

The gradient is g without its mean and without its component along n: moving x along either
does not change n.  Cached: n and r.

Source: Ba, Kiros, Hinton 2016.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mfcore.nn.activations import Activation
from mfcore.nn.layers import Layer, Run, expect
from mfcore.nn.parameters import Parameter


class LayerNorm(Layer):
    """Normalise each row of x (n, k); ε keeps the result finite for constant rows."""

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
    """y = φ(x), φ given by name.        dx = dy φ'(x)"""

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
