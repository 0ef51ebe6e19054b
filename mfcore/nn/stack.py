"""Linear layers one after another, as one: what they compute, with one kernel each way.

    h_l = φ_l(h_{l−1} W_l + b_l),   l = 1 … L                        x = h_0, y = h_L

Every line, and the way back, is that of `layers.Linear`, where it is derived.  In a small
network, a part of a batch takes a tenth of a millisecond a layer, of which the interpreter
would take a good share, and threads would wait for it in turns.  So layers of piecewise
linear activations go together: see the kernel.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mfcore.kernels import nn_leaky as kernels
from mfcore.nn.activations import KINKS
from mfcore.nn.joins import Sequential
from mfcore.nn.layers import Layer, Linear, Run, expect
from mfcore.nn.parameters import Parameter

Caches = tuple[np.ndarray, ...]


def stacked(layers: Sequence[Linear]) -> Layer:
    """Return layers one after another, as a `Stack` where one can compute them."""
    fits = layers and all(each.activation.name in KINKS for each in layers)
    return Stack(layers) if fits else Sequential(*layers)


class Stack(Layer):
    """y = φ_L(… φ_1(x W_1 + b_1) … W_L + b_L), on one thread.

    Parameters
    ----------
    layers : sequence of Linear, with activations named in `activations.KINKS`
    """

    def __init__(self, layers: Sequence[Linear]) -> None:
        self.layers = layers
        dtype = layers[0].W.value.dtype
        self.kappa = np.array([KINKS[each.activation.name] for each in layers], dtype)

    def __repr__(self) -> str:
        return f"Stack({', '.join(map(repr, self.layers))})"

    def parameters(self) -> list[Parameter]:
        """Return each W and b."""
        return [p for each in self.layers for p in each.parameters()]

    def forward(self, x: np.ndarray, run: Run) -> tuple[np.ndarray, Caches]:
        """Return y, shape (n, k_L), for x (n, k_0)."""
        W = self._weights()
        expect(self.layers[0], x, len(W[0]))
        x = np.require(x, W[0].dtype, ["C", "W"])
        h = (x, *(np.empty((len(x), each.shape[1]), x.dtype) for each in W))
        kernels.layers_forward(W, tuple(each.b.value for each in self.layers), self.kappa, h)
        return h[-1], h

    def backward(self, dy: np.ndarray, h: Caches, run: Run) -> np.ndarray:
        """Return dx, shape (n, k_0); add each dW and db."""
        W = self._weights()
        d = (*map(np.empty_like, h[:-1]), np.array(dy, h[0].dtype, order="C"))
        dW = tuple(np.empty_like(each.W.value[:0] if each.W.frozen else each.W.value)
                   for each in self.layers)
        db = tuple(np.empty_like(each.b.value) for each in self.layers)
        kernels.layers_backward(W, self.kappa, h, d, dW, db)
        for each, *blocks in zip(self.layers, dW, db, strict=True):
            for parameter, gradient in zip(each.parameters(), blocks, strict=True):
                if not parameter.frozen:
                    run.gradients.add(parameter, gradient)
        return d[0]

    def _weights(self) -> Caches:
        return tuple(each.W.value for each in self.layers)
