"""What ratings are measured from and in: mean, biases from means, and standard deviation.

    B_ui = μ + c (b_u + b̃_i)

μ is the (weighted) mean rating, b_u the mean of user u's ratings less μ, and b̃_i that of item
i's; both are 0 without ratings.  The mean of few ratings is mostly noise, and c = ½ shrinks it, for
vectors to explain the rest; without vectors c = 1 is better.  A learned bias is shrunk by its
penalty, according to how much is known of a row.

The standard deviation σ of the ratings is the unit of penalties, starts and learning rates.  Where
a rating r becomes c r + d, μ becomes c μ + d, and σ becomes c σ: so do scores that rest on them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mfcore.data.chunks import CELLS, rows_of_cells, summed
from mfcore.data.ratings import Ratings
from mfcore.parallel import row_chunks
from mfcore.validation import DivergenceError

# Least σ, largest σ and largest |r|: what solvers cube, square and add up stays a number.
LEAST, MOST, LARGEST, LEAST_SIZE = 1e-10, 1e10, 1e13, 1e-30
REG_USERS, REG_ITEMS, SWEEPS = 10.0, 5.0, 10     # of biases alone: ratings' worth of shrinkage
MEAN_ROUNDING = 1e-12       # ratings that differ from their mean by less, relatively, are equal

Offset = Callable[[slice], "np.ndarray | float"]


def mean_rating(ratings: Ratings) -> float:
    """Return the (weighted) mean rating μ; without any weight, the plain mean."""
    values, weights = ratings.by_user.data, ratings.weights
    if weights is None or not weights.any():
        return float(values.mean(dtype=np.float64))
    total = summed(lambda chunk: float(values[chunk].astype(np.float64) @ weights[chunk]),
                   len(values))
    return total / float(weights.sum(dtype=np.float64))


def mean_size(ratings: Ratings) -> float:
    """Return the (weighted) mean of |r| of those that are not 0; 1 where there is none, or where
    single precision could not divide by it."""
    values, weights = ratings.by_user.data, ratings.weights

    def sum_of(f: Callable[[np.ndarray], np.ndarray]) -> float:
        return summed(lambda chunk: float(f(values[chunk]).sum() if weights is None
                                          else f(values[chunk]) @ weights[chunk]), ratings.nnz)

    total = sum_of(lambda rated: np.abs(rated, dtype=np.float64))
    weight = float(np.count_nonzero(values)) if weights is None else \
        sum_of(lambda rated: (rated != 0).astype(np.float64))
    mean = total / weight if weight > 0 else 0.0
    return mean if LEAST_SIZE < mean < 1 / LEAST_SIZE else 1.0


def rating_scale(ratings: Ratings, mean: float) -> float:
    """Return σ, the (weighted) standard deviation of the ratings; 1 where all are equal."""
    values, weights = ratings.by_user.data, ratings.weights
    if weights is not None and not weights.any():
        weights = None

    def away(chunk: slice) -> np.ndarray:
        far: np.ndarray = np.abs(values[chunk].astype(np.float64) - mean)
        return far if weights is None else far * (weights[chunk] > 0)

    most = max(float(away(slice(*chunk)).max()) for chunk in row_chunks(ratings.nnz, CELLS))
    if not MEAN_ROUNDING * abs(mean) < most < np.inf:
        return 1.0

    def squares(chunk: slice) -> float:
        shares = (away(chunk) / most) ** 2         # (the square of a rating may overflow)
        return float(shares.sum() if weights is None else weights[chunk] @ shares)

    weight = ratings.nnz if weights is None else float(weights.sum(dtype=np.float64))
    return float(most * np.sqrt(summed(squares, ratings.nnz) / weight))


def check_scale(scale: float, largest: float) -> None:
    """Raise DivergenceError for σ, or a largest |r|, whose products overflow or vanish in a fit.

    It would end with vectors that say nothing, or not at all.
    """
    if not LEAST <= scale <= MOST:
        raise DivergenceError(f"products would overflow or vanish: ratings must have a standard "
                              f"deviation between {LEAST:g} and {MOST:g}, got {scale:.3g}; rescale "
                              f"the ratings, dividing them by about {scale:.0e}")
    if not largest <= LARGEST:
        raise DivergenceError(f"products would overflow: ratings must be at most {LARGEST:g} in "
                              f"size, got {largest:.3g}; rescale the ratings, or subtract a "
                              f"constant")


def mean_biases(ratings: Ratings, mean: float, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Return c·b_u and c·b̃_i, float64, shapes (n_users,), (n_items,)."""
    return row_bias(ratings, mean, share), row_bias(ratings.transposed, mean, share)


def row_bias(ratings: Ratings, mean: float, share: float) -> np.ndarray:
    """Return share · (weighted mean of the row − mean), or 0 for rows without ratings."""
    return share * shrunken_means(ratings, lambda chunk: mean, 0.0)


def fitted_biases(ratings: Ratings, mean: float, n_sweeps: int = SWEEPS
                  ) -> tuple[np.ndarray, np.ndarray]:
    """Return the b_u and b̃_i of `BiasOnly` after some alternations."""
    users = np.zeros(ratings.shape[0])
    for _ in range(n_sweeps):
        items = shrunken(ratings.transposed, mean, users, REG_ITEMS)
        users = shrunken(ratings, mean, items, REG_USERS)
    return users, items


def log_odds(ratings: Ratings, w0: float) -> np.ndarray:
    """Return b̃_i = ln( (Σ w [r > 0] + ½) / (Σ w [r ≤ 0] + w0 n + ½) ), n users not having rated i.

    But for the halves (Haldane 1956), it is the minimum of the logistic loss with biases of items
    alone, unknown cells taken for zeros of weight w0.
    """
    matrix, n_items = ratings.by_user, ratings.shape[1]
    liked = matrix.data > 0
    w = np.ones(ratings.nnz) if ratings.weights is None else ratings.weights
    above, below = (np.bincount(matrix.indices, w * which, n_items) for which in (liked, ~liked))
    unknown = ratings.shape[0] - np.bincount(matrix.indices, minlength=n_items)
    return np.asarray(np.log(above + 0.5) - np.log(below + w0 * unknown + 0.5))


def shrunken(ratings: Ratings, mean: float, other: np.ndarray, reg: float) -> np.ndarray:
    """Return b of the rows, given those of the columns: Σ w (r − μ − b̃) / (Σ w + reg)."""
    return shrunken_means(ratings, lambda chunk: mean + other[ratings.by_user.indices[chunk]],
                          reg)


def shrunken_means(ratings: Ratings, offset: Offset, reg: float) -> np.ndarray:
    """Return Σ w (r − offset) / (Σ w + reg) of each row, or 0 without ratings.

    offset : callable
        offset(chunk) returns the offsets of a chunk of cells, a slice in `by_user` order.
    """
    n_rows, matrix = ratings.shape[0], ratings.by_user
    total, weight = np.zeros(n_rows), np.full(n_rows, float(reg))
    for start, stop in row_chunks(ratings.nnz, CELLS):
        chunk = slice(start, stop)
        rows = rows_of_cells(matrix.indptr, chunk)
        w = np.ones(len(rows)) if ratings.weights is None else ratings.weights[chunk]
        lo, hi = rows[0], rows[-1] + 1
        total[lo:hi] += np.bincount(rows - lo, w * (
            matrix.data[chunk].astype(np.float64) - offset(chunk)))
        weight[lo:hi] += np.bincount(rows - lo, w)
    bias: np.ndarray = np.divide(total, weight, out=np.zeros(n_rows), where=weight > 0)
    return bias
