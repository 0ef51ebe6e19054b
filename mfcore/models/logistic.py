"""What loss="logistic" asks of a model and its ratings: labels, not ratings."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mfcore.data.ratings import Ratings


def check_parameters(model: Any) -> None:
    """Raise ValueError for parameters that have no meaning with the logistic loss."""
    if model.solver != "sgd":
        raise ValueError(f"loss='logistic' needs solver='sgd', got solver={model.solver!r}: the "
                         f"others solve or step by the quadratic formula")
    if model.bias == "mean":
        raise ValueError("loss='logistic' needs bias='learned' or None, got bias='mean': means of "
                         "labels are no log-odds")
    if model.unknown_value != 0:
        raise ValueError(f"loss='logistic' needs unknown_value=0, got {model.unknown_value!r}: "
                         f"cells without a label count as disliked, by unknown_weight")


def check_values(ratings: Ratings) -> None:
    """Raise ValueError for values that are no labels."""
    y = ratings.by_user.data
    bad = y[(y < 0) | (y > 1)]
    if bad.size:
        raise ValueError(f"loss='logistic' needs values from 0 (disliked) to 1 (liked), got "
                         f"{float(bad[0]):g}; make labels first, such as Ratings.from_arrays("
                         f"users, items, values >= 4)")


def check_labels(ratings: Ratings, unknown_weight: float | str) -> None:
    """Raise ValueError for values that are no labels, or that any score can satisfy."""
    check_values(ratings)
    y = ratings.by_user.data
    if unknown_weight == 0 and (y == y[0]).all() and y[0] in (0, 1):
        raise ValueError(f"loss='logistic' needs likes and dislikes, but every value is "
                         f"{float(y[0]):g}; set unknown_weight > 0, so that cells without a "
                         f"label count as disliked")


def log_odds(ratings: Ratings, w0: float) -> float:
    """Return ln(Σ w y / (W − Σ w y)), W the weight of all cells: the best constant score.

    Raises ValueError where it is infinite: no weight on likes, or none on dislikes.
    """
    y = ratings.by_user.data.astype(np.float64)
    w = np.ones(len(y)) if ratings.weights is None else ratings.weights.astype(np.float64)
    likes = float(w @ y)
    rest = float(w @ (1 - y)) + w0 * (ratings.shape[0] * ratings.shape[1] - ratings.nnz)
    if not (likes > 0 and rest > 0):
        raise ValueError(f"loss='logistic' needs weight on likes and on dislikes or unknown "
                         f"cells, got {likes:g} and {rest:g}")
    return math.log(likes / rest)
