"""Two models without vectors, to measure the others against."""

from __future__ import annotations

from typing import Any

import numpy as np

from mfcore import validation
from mfcore.data.ratings import Ratings
from mfcore.models.base import Callback, Folded, Recommender
from mfcore.parallel import Pool


class _WithoutFactors(Recommender):
    """Vectors of length 0: the score is the mean and the biases."""

    def _empty_factors(self, ratings: Ratings) -> None:
        self.user_factors_, self.item_factors_ = (np.zeros((n, 0)) for n in ratings.shape)


class BiasOnly(_WithoutFactors):
    """Predict ratings by shrunken means: s_ui = μ + b_u + b̃_i.

    Minimises Σ (r − s)² + reg_users Σ b_u² + reg_items Σ b̃_i² by alternating between the
    two sides, each of which has a closed form (Koren 2010, section 2.1).

    Parameters
    ----------
    reg_users, reg_items : float, >= 0
        Ratings' worth of shrinkage towards the mean.
    n_epochs : int, >= 1
        Alternations.
    n_threads : int >= 1, or None
    verbose : int
    """

    def __init__(self, *, reg_users: float = 10.0, reg_items: float = 5.0, n_epochs: int = 10,
                 n_threads: int | None = None, verbose: int = 0) -> None:
        self.reg_users = reg_users
        self.reg_items = reg_items
        self.n_epochs = n_epochs
        self.n_threads = n_threads
        self.verbose = verbose

    def _validate(self) -> None:
        validation.real("reg_users", self.reg_users, low=0)
        validation.real("reg_items", self.reg_items, low=0)
        validation.integer("n_epochs", self.n_epochs, low=1)

    def _train(self, ratings: Ratings, eval_set: Any, callbacks: tuple[Callback, ...]) -> None:
        self._empty_factors(ratings)
        self.global_mean_ = self.mean_rating_
        self.user_bias_, self.item_bias_ = (np.zeros(n) for n in ratings.shape)
        for epoch in range(1, self.n_epochs + 1):
            self.item_bias_ = _shrunken(ratings.transposed, self.global_mean_, self.user_bias_,
                                        self.reg_items)
            self.user_bias_ = _shrunken(ratings, self.global_mean_, self.item_bias_,
                                        self.reg_users)
            self.history_.append({"epoch": epoch})

    def _fold_in_rows(self, ratings: Ratings, pool: Pool) -> Folded:
        bias = _shrunken(ratings, self.global_mean_, self.item_bias_, self.reg_users)
        return Folded(np.zeros((ratings.shape[0], 0)), bias)


class Popularity(_WithoutFactors):
    """Recommend what most users have rated; the score is the (weighted) number of ratings.

    Parameters
    ----------
    n_threads : int >= 1, or None
    verbose : int
    """

    _rates = False

    def __init__(self, *, n_threads: int | None = None, verbose: int = 0) -> None:
        self.n_threads = n_threads
        self.verbose = verbose

    def _validate(self) -> None:
        """There is nothing to check."""

    def _train(self, ratings: Ratings, eval_set: Any, callbacks: tuple[Callback, ...]) -> None:
        self._empty_factors(ratings)
        self.global_mean_, self.user_bias_ = 0.0, np.zeros(ratings.shape[0])
        self.item_bias_ = np.bincount(ratings.by_user.indices, ratings.weights,
                                      minlength=ratings.shape[1]).astype(np.float64)

    def _fold_in_rows(self, ratings: Ratings, pool: Pool) -> Folded:
        n = ratings.shape[0]
        return Folded(np.zeros((n, 0)), np.zeros(n))


def _shrunken(ratings: Ratings, mean: float, other: np.ndarray | None, reg: float
              ) -> np.ndarray:
    """Return Σ w (r − mean − other) / (Σ w + reg) of each row, 0 where there is nothing."""
    cells, n_rows = ratings.by_user, ratings.shape[0]
    left = cells.data.astype(np.float64) - mean - (0.0 if other is None else other[cells.indices])
    weights = np.ones(ratings.nnz) if ratings.weights is None else ratings.weights
    total = np.bincount(ratings.users_of_cells, weights * left, minlength=n_rows)
    weight = np.bincount(ratings.users_of_cells, weights, minlength=n_rows) + reg
    bias: np.ndarray = np.divide(total, weight, out=np.zeros(n_rows), where=weight > 0)
    return bias
