"""How layers are combined: one after another, side by side, with skips, into one value.

If a value is used twice, its gradients add up: y = g(x, h(x)) gives
dx = (∂g/∂x)ᵀ dy + (∂h/∂x)ᵀ dh.  This is where the sums below come from.

Linear layers one after another,

    h_l = φ_l(h_{l−1} W_l + b_l),   l = 1 … L                        x = h_0, y = h_L

can be computed by one kernel each way; the lines are those of `layers.Linear`, where they are
derived.  In a small network, part of a batch takes a tenth of a millisecond per layer.  A good
share of it would go to the interpreter, for which threads would have to queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mfcore.kernels import nn_leaky as kernels
from mfcore.nn.activations import KINKS
from mfcore.nn.layers import Layer, Linear, Run, expect
from mfcore.nn.parameters import Parameter

Caches = tuple[np.ndarray, ...]


class _Group(Layer):
    """Several layers as one."""

    def __init__(self, *layers: Layer) -> None:
        self.layers = layers

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.layers))})"

    def parameters(self) -> list[Parameter]:
        """Return the parameters of all layers, each once (layers may share them)."""
        return list(dict.fromkeys(p for layer in self.layers for p in layer.parameters()))


class Sequential(_Group):
    """y = f_n( … f_2(f_1(x)) ).        dx = back_1(back_2( … back_n(dy)))"""

    def forward(self, x: Any, run: Run) -> tuple[Any, list[Any]]:
        """Return y and the caches of all layers."""
        caches = []
        for layer in self.layers:
            x, cache = layer.forward(x, run)
            caches.append(cache)
        return x, caches

    def backward(self, dy: Any, caches: list[Any], run: Run) -> Any:
        """Return dx."""
        for layer, cache in zip(reversed(self.layers), reversed(caches), strict=True):
            dy = layer.backward(dy, cache, run)
        return dy


class Fork(_Group):
    """y = (f_1(x), …, f_n(x)): the same input to all.        dx = Σ_j back_j(dy_j)"""

    def forward(self, x: Any, run: Run) -> tuple[tuple[Any, ...], list[Any]]:
        """Return the outputs of all layers as a tuple."""
        pairs = [layer.forward(x, run) for layer in self.layers]
        return tuple(y for y, _ in pairs), [cache for _, cache in pairs]

    def backward(self, dy: Any, caches: list[Any], run: Run) -> Any:
        """Return the sum of what the layers return; None if x is not an array of reals."""
        parts = [layer.backward(each, cache, run) for layer, each, cache
                 in zip(self.layers, dy, caches, strict=True)]
        return None if any(part is None for part in parts) else sum(parts[1:], parts[0])


class Concatenate(Layer):
    """y = [x_1 | … | x_n].        [dx_1 | … | dx_n] = dy"""

    def forward(self, x: tuple[np.ndarray, ...], run: Run) -> tuple[np.ndarray, list[int]]:
        """Return the blocks side by side, for a tuple of blocks (n, k_j)."""
        shapes = [block.shape for block in x]
        if any(len(shape) != 2 or shape[0] != shapes[0][0] for shape in shapes):
            raise ValueError(f"Concatenate must be given blocks of the same rows, got shapes "
                             f"{shapes}")
        return np.concatenate(x, axis=1), [width for _, width in shapes]

    def backward(self, dy: np.ndarray, widths: list[int], run: Run) -> tuple[np.ndarray, ...]:
        """Return the blocks of dy."""
        return tuple(np.split(dy, np.cumsum(widths[:-1]), axis=1))


class Sum(Layer):
    """y = x_1 + … + x_n.        dx_j = dy"""

    def forward(self, x: tuple[np.ndarray, ...], run: Run) -> tuple[np.ndarray, int]:
        """Return the sum of blocks of one shape."""
        if len({block.shape for block in x}) > 1:
            raise ValueError(f"Sum must be given blocks of one shape, got "
                             f"{[block.shape for block in x]}")
        return sum(x[1:], x[0]), len(x)

    def backward(self, dy: np.ndarray, n: int, run: Run) -> tuple[np.ndarray, ...]:
        """Return dy for each."""
        return (dy,) * n


class Product(Layer):
    """y = x_1 ∘ x_2.        dx_1 = dy ∘ x_2,  dx_2 = dy ∘ x_1"""

    def forward(self, x: tuple[np.ndarray, np.ndarray], run: Run
                ) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """Return the elementwise product of two blocks of the same shape."""
        a, b = x
        if a.shape != b.shape:
            raise ValueError(f"Product must be given two blocks of one shape, got {a.shape} "
                             f"and {b.shape}")
        return a * b, (a, b)

    def backward(self, dy: np.ndarray, cache: tuple[np.ndarray, np.ndarray], run: Run
                 ) -> tuple[np.ndarray, np.ndarray]:
        """Return (dx_1, dx_2)."""
        a, b = cache
        return dy * b, dy * a


class Dense(_Group):
    """Stages that each see the sum of all stages before (the encoder of RecVAE).

        a_1 = f_1(x)                     h_1 = g_1(a_1)
        a_t = f_t(h_{t−1}) + Σ_{s<t} h_s        h_t = g_t(a_t)        y = h_n

    h_s enters stage s + 1 through f, and every later stage through the sum:

        da_t = back_g_t(dh_t)
        dh_s = back_f_{s+1}(da_{s+1}) + Σ_{t>s} da_t         dx = back_f_1(da_1)

    Parameters
    ----------
    stages : pairs (f_t, g_t) of layers; all h_t have the same shape
    """

    def __init__(self, *stages: tuple[Layer, Layer]) -> None:
        super().__init__(*(layer for stage in stages for layer in stage))
        self.stages = stages

    def forward(self, x: Any, run: Run) -> tuple[np.ndarray, list[tuple[Any, Any]]]:
        """Return h_n."""
        caches, total = [], None
        for f, g in self.stages:
            a, inner = f.forward(x, run)
            x, outer = g.forward(a if total is None else a + total, run)
            total = x if total is None else total + x
            caches.append((inner, outer))
        return x, caches

    def backward(self, dy: np.ndarray, caches: list[tuple[Any, Any]], run: Run) -> Any:
        """Return dx."""
        later: Any = 0                                     # Σ_{t>s} da_t
        for (f, g), (inner, outer) in zip(reversed(self.stages), reversed(caches), strict=True):
            da = g.backward(dy + later, outer, run)
            later = later + da
            dy = f.backward(da, inner, run)
        return dy


# --------------------------------------------------- linear layers in one kernel

def stacked(layers: Sequence[Linear]) -> Layer:
    """Return layers one after another, as a `Stack` if all are piecewise linear."""
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

    def forward(self, x: np.ndarray, run: Run) -> tuple[np.ndarray, Any]:
        """Return y, shape (n, k_L), for x (n, k_0)."""
        if run.apart:
            return Sequential(*self.layers).forward(x, run)
        W = self._weights()
        expect(self.layers[0], x, len(W[0]))
        x = np.require(x, W[0].dtype, ["C", "W"])
        h = (x, *(np.empty((len(x), each.shape[1]), x.dtype) for each in W))
        kernels.layers_forward(W, tuple(each.b.value for each in self.layers), self.kappa, h)
        return h[-1], h

    def backward(self, dy: np.ndarray, h: Any, run: Run) -> Any:
        """Return dx, shape (n, k_0); add each dW and db."""
        if run.apart:
            return Sequential(*self.layers).backward(dy, h, run)
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
