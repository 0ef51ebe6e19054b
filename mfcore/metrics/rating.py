"""How far predicted ratings are from the true ones.

    rmse = √( Σ w (r̂ − r)² / Σ w )        mae = Σ w |r̂ − r| / Σ w

over all cells at once, not averaged by user.  w = 1 where no weights are given.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mfcore import validation


def rmse(truth: Any, predicted: Any, weights: Any = None) -> float:
    """Return the root mean squared error, in units of the rating.

    Parameters
    ----------
    truth, predicted : array-like, shape (n,)
        True and predicted ratings, finite.
    weights : array-like, shape (n,), or None
        Weight of each cell, finite and >= 0, not all 0; None: all 1.

    Raises
    ------
    ValueError
        For no cells, NaN or infinity, negative weights, weights that sum to 0, and lengths
        that differ.
    """
    return float(np.sqrt(weighted_mean(errors(truth, predicted) ** 2, weights)))


def mae(truth: Any, predicted: Any, weights: Any = None) -> float:
    """Return the mean absolute error, in units of the rating; arguments as in `rmse`."""
    return weighted_mean(np.abs(errors(truth, predicted)), weights)


def errors(truth: Any, predicted: Any) -> np.ndarray:
    """Return predicted − true ratings, float64; raises as `rmse` does."""
    truth = validation.finite("truth", validation.vector("truth", truth))
    predicted = validation.vector("predicted", predicted, truth.size)
    if not truth.size:
        raise ValueError("truth must hold at least one rating, got none")
    return np.asarray(np.subtract(validation.finite("predicted", predicted), truth,
                                  dtype=np.float64))


def weighted_mean(values: np.ndarray, weights: Any = None) -> float:
    """Return Σ w x / Σ w; raises as `rmse` does."""
    if weights is None:
        return float(values.mean())
    weights = validation.finite("weights", validation.vector("weights", weights, values.size))
    total = validation.nonnegative("weights", weights).sum(dtype=np.float64)
    if total == 0:
        raise ValueError("weights must not all be 0")
    return float(values @ weights / total)
