"""Products and sums of long vectors of two precisions, without temporaries."""

from __future__ import annotations

import numpy as np

from mfcore.compiled import njit
from mfcore.kernels.options import KERNEL


@njit(**KERNEL)
def dot(x: np.ndarray, y: np.ndarray, lo: int, hi: int) -> float:
    """Return Σ x_t y_t over lo..hi, added in float64."""
    left, right = x[lo:hi], y[lo:hi]
    total = 0.0
    for t in range(left.size):
        total += np.float64(left[t]) * np.float64(right[t])
    return total


@njit(**KERNEL)
def add(q: np.ndarray, scale: float, x: np.ndarray, lo: int, hi: int) -> None:
    """Add scale · x to q, in place, over lo..hi."""
    left, right = q[lo:hi], x[lo:hi]
    for t in range(left.size):
        left[t] += scale * right[t]
