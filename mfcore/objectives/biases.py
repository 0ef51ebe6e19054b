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
    return share * shrunken_means(ratings, np.full(ratings.nnz, mean), 0.0)


def shrunken_means(ratings: Ratings, offset: np.ndarray, reg: float) -> np.ndarray:
    """Return Σ w (r − offset) / (Σ w + reg) of each row, 0 where there is nothing.

    offset : ndarray, shape (nnz,), of each stored cell in `by_user` order.
    """
    n_rows, rows = ratings.shape[0], ratings.users_of_cells
    weights = np.ones(ratings.nnz) if ratings.weights is None else ratings.weights
    total = np.bincount(rows, weights * (ratings.by_user.data - offset), minlength=n_rows)
    weight = np.bincount(rows, weights, minlength=n_rows) + reg
    bias: np.ndarray = np.divide(total, weight, out=np.zeros(n_rows), where=weight > 0)
    return bias
