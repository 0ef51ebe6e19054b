"""Losses: a value, and with it the gradient by the scores.

Each is a sum, with neither a mean nor a ½: to divide by the size of a batch, use `weight`.  s are
the scores, and x is what they should be, of the same shape.  The value is summed in float64.

    squared     Σ w (x − s)²                                        ds = 2 w (s − x)
    logistic    −Σ w [x ln σ(s) + (1 − x) ln(1 − σ(s))]
                = Σ w [ln(1 + e^s) − x s]                           ln σ(s) = s − ln(1 + e^s)
                                                                    ds = w (σ(s) − x)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mfcore.nn.activations import sigmoid

Weight = float | np.ndarray
Loss = Callable[..., tuple[float, Any]]


def squared(s: np.ndarray, x: np.ndarray, weight: Weight = 1.0) -> tuple[float, np.ndarray]:
    """Return Σ w (x − s)² and ds."""
    e, w = _minus(s, x), _weight(weight, s)
    return _total(w * e * e), 2 * w * e


def logistic(s: np.ndarray, x: np.ndarray, weight: Weight = 1.0) -> tuple[float, np.ndarray]:
    """Return Σ w [ln(1 + e^s) − x s] and ds, for x in [0, 1]."""
    ds, w = _minus(sigmoid(s), x), _weight(weight, s)
    return _total(w * (np.maximum(s, 0) + np.log1p(np.exp(-np.abs(s))) - s * x)), w * ds


def _minus(s: np.ndarray, x: np.ndarray) -> np.ndarray:
    if s.shape != x.shape:
        raise ValueError(f"target must have the shape of the scores, {s.shape}, got {x.shape}")
    difference: np.ndarray = s - x.astype(s.dtype, copy=False)
    return difference


def _weight(weight: Weight, s: np.ndarray) -> Any:
    """Return the weight in the type of the scores."""
    return np.asarray(weight, s.dtype) if isinstance(weight, np.ndarray) \
        else s.dtype.type(weight)


def _total(values: np.ndarray) -> float:
    return float(values.sum(dtype=np.float64))
