"""Fixed biases from means: B_ui = μ + c (b_u + b̃_i).

μ is the (weighted) mean rating; b_u the mean of user u's ratings less μ, and b̃_i alike; 0
without ratings.  With c = ½ the two together count a rating about once.
"""

from __future__ import annotations

import numpy as np

from mfcore.data.ratings import Ratings


def mean_biases(ratings: Ratings, mean: float, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Return c·b_u and c·b̃_i, float64, shapes (n_users,), (n_items,)."""
    return row_bias(ratings, mean, share), row_bias(ratings.transposed, mean, share)


def row_bias(ratings: Ratings, mean: float, share: float) -> np.ndarray:
    """Return share · (weighted mean of the row − mean), 0 for rows without ratings."""
    n_rows, rows = ratings.shape[0], ratings.users_of_cells
    values = ratings.by_user.data.astype(np.float64)
    weights = np.ones(len(values)) if ratings.weights is None else ratings.weights
    total = np.bincount(rows, weights * (values - mean), minlength=n_rows)
    weight = np.bincount(rows, weights, minlength=n_rows)
    return share * np.divide(total, weight, out=np.zeros(n_rows), where=weight > 0)
