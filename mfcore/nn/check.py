"""Check a layer: its `backward` against its `forward`, by Taylor slopes.

With a fixed random block C of the shape of y, L(x, θ) = Σ C ∘ f(x; θ) + penalties depends on
all outputs, and ∂L/∂y = C: one backward pass gives the gradient by x and by every parameter.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mfcore.gradcheck import GradientCheck, gradcheck
from mfcore.nn.layers import Layer, Run


def check_layer(layer: Layer, x: Any, *, seed: int = 0, directions: int = 2) -> GradientCheck:
    """Check `layer.backward` at the input x in float64; a layer that draws gets the same seed.

    Parameters
    ----------
    layer : Layer
        With float64 parameters.
    x : ndarray, tuple of ndarrays, or anything else the layer takes
        Its gradient is checked too if it consists of real numbers.

    Raises
    ------
    GradientError
        For a wrong gradient; it names the block: "x", "x0", … or a parameter.
    """
    reals = {} if not _is_real(x) else {"x": x} if isinstance(x, np.ndarray) else \
        {f"x{place}": block for place, block in enumerate(x)}
    blocks = {f"{number} {p.name}": p for number, p in enumerate(layer.parameters())}
    random = np.random.default_rng(seed)
    weights: list[np.ndarray] = []

    def function(point: dict[str, np.ndarray]) -> tuple[float, dict[str, np.ndarray]]:
        for name, parameter in blocks.items():
            parameter.value[...] = point[name]
        given = x if not reals else point["x"] if "x" in reals else \
            tuple(point[name] for name in reals)
        run = Run(seed=[seed])
        y, cache = layer.forward(given, run)
        outputs = y if isinstance(y, tuple) else (y,)
        weights.extend(random.normal(size=each.shape) for each in outputs[len(weights):])
        dx = layer.backward(tuple(weights) if isinstance(y, tuple) else weights[0], cache, run)
        value = run.penalty + sum(float(np.vdot(C, each)) for C, each
                                  in zip(weights, outputs, strict=True))
        gradient = dict(zip(reals, dx if isinstance(dx, tuple) else (dx,), strict=True)) \
            if reals else {}
        return value, gradient | {name: run.gradients.dense(p) for name, p in blocks.items()}

    start = {name: p.value.copy() for name, p in blocks.items()}
    try:
        return gradcheck(function, {**reals, **start}, directions=directions)
    finally:
        for name, parameter in blocks.items():
            parameter.value[...] = start[name]


def _is_real(x: Any) -> bool:
    parts = x if isinstance(x, tuple) else (x,)
    return all(isinstance(part, np.ndarray) and part.dtype.kind == "f" for part in parts)
