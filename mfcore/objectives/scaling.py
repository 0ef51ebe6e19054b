"""How the penalty of a row grows with its ratings, how far rounding may move its scores, what an
item without a rating counts as, and powers of degrees.

All are plain arithmetic, so that a saved model can be served with NumPy alone (serving/).
"""

from __future__ import annotations

import numpy as np


def penalty_weights(counts: np.ndarray, reg: float, scaling: str | float, w0: float,
                    n_others: int) -> np.ndarray:
    """Return λ of each row, float64, shape (n_rows,).

    `counts` are the stored cells of positive weight of each row.  Scaling "count" gives
    reg·max(n, 1), "none" gives reg, and a number ν gives reg·max(n + w0·n_others, 1)^ν.
    """
    weights = np.full(len(counts), float(reg))
    if scaling == "count":
        weights *= np.maximum(counts, 1.0)
    elif scaling != "none":
        weights *= np.maximum(counts + w0 * n_others, 1.0) ** float(scaling)
    return weights


def score_rounding(size: np.ndarray | float, n_factors: int, dtype: np.dtype) -> np.ndarray:
    """Return how far a score out of a product of blocks may be from that of its cell alone.

    A sum of k products errs by less than k u ‖p‖ ‖q‖, u = eps / 2, in whatever order it is
    added (Higham 2002, section 3.1); biases and conversions round a few times more.  `size` is
    the largest ‖p‖ ‖q‖ of a row, plus the sizes of what is added to it.
    """
    real, terms = np.finfo(dtype), n_factors + 6
    units = (real.eps + np.finfo(float).eps) / 2            # of the block, and of the cells
    rounding: np.ndarray = terms * (units * np.asarray(size) + real.tiny)
    return rounding


def implied_rating(name: str, bounds: tuple[float, float] | None) -> float:
    """Return the rating that a mere id stands for: 1, but for models of ratings that differ.

    name : of the class, for the error
    bounds : the least and the greatest rating of the fit, for a model that predicts ratings
    """
    low, high = bounds or (1.0, 1.0)
    if low < high:
        raise ValueError(f"{name} learned ratings from {low:g} to {high:g}: give them with the "
                         f"ids, {{item: rating}}")
    return float(high)


PER_DEGREE, ROOT = -1.0, -0.5          # of the graph of objectives/graph.py


def power(degrees: np.ndarray, exponent: float, dtype: np.dtype) -> np.ndarray:
    """Return d^exponent, 0 where d is 0."""
    known = np.asarray(degrees, np.float64) > 0
    found = np.power(degrees, exponent, where=known, out=np.zeros(len(degrees)))
    return np.asarray(found, dtype)
