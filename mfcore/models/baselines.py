"""Two models without vectors, to measure the others against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mfcore import validation
from mfcore.data.ratings import Ratings
from mfcore.models.base import Folded, Recommender
from mfcore.models.monitoring import Watched, monitor_of
from mfcore.objectives.biases import shrunken_means
from mfcore.parallel import Pool
from mfcore.solvers.loop import Solver, run


@dataclass
class Biases:
    """What a baseline learns: b_u (n_users,) and b̃_i (n_items,)."""

    user: np.ndarray
    item: np.ndarray

    def copy(self) -> Biases:
        """Return a copy that shares no memory."""
        return Biases(self.user.copy(), self.item.copy())


class _WithoutFactors(Recommender):
    """Vectors of length 0: the score is the mean and the biases."""

    tol = None
    patience = None
    eval_metric = None
    n_epochs = 1

    def _epoch(self, ratings: Ratings, at: Biases) -> float:
        """Improve the biases in place; return the loss afterwards."""
        raise NotImplementedError

    def _train(self, ratings: Ratings, watched: Watched) -> None:
        self.user_factors_, self.item_factors_ = (np.zeros((n, 0), np.float32)
                                                  for n in ratings.shape)
        self.global_mean_ = self.mean_rating_ if self._rates else 0.0
        at = Biases(*(np.zeros(n) for n in ratings.shape))
        self._publish(at)
        with Pool(self.n_threads) as pool:
            run(_Baseline(self, ratings), at, pool, self.n_epochs,
                monitor_of(self, watched))

    def _publish(self, at: Biases) -> None:
        self.user_bias_, self.item_bias_ = at.user, at.item

    def _fold_in_rows(self, ratings: Ratings, pool: Pool, features: Any = None) -> Folded:
        return Folded(np.zeros((ratings.shape[0], 0), np.float32), self._new_bias(ratings))

    def _new_bias(self, ratings: Ratings) -> np.ndarray:
        """Return the biases of new users."""
        return np.zeros(ratings.shape[0])


@dataclass(frozen=True)
class _Baseline(Solver):
    """The solver of a baseline, for the loop that all models share."""

    model: _WithoutFactors
    ratings: Ratings

    def epoch(self, at: Biases, pool: Pool) -> float:
        return self.model._epoch(self.ratings, at)


class BiasOnly(_WithoutFactors):
    """Predict ratings by shrunken means: s_ui = μ + b_u + b̃_i.

    Minimises Σ w (r − s)² + reg_users Σ b_u² + reg_items Σ b̃_i² by alternating between the
    two sides, each of which has a closed form (Koren 2010, section 2.1).

    Parameters
    ----------
    reg_users, reg_items : float, >= 0
        Ratings' worth of shrinkage towards the mean.
    n_epochs : int, >= 1
        Alternations.
    n_threads, verbose
        As in `MatrixFactorization`.
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

    def _epoch(self, ratings: Ratings, at: Biases) -> float:
        at.item[:] = _shrunken(ratings.transposed, self.global_mean_, at.user, self.reg_items)
        at.user[:] = _shrunken(ratings, self.global_mean_, at.item, self.reg_users)
        cells = ratings.by_user
        errors = cells.data - self.global_mean_ - at.user[ratings.users_of_cells] \
            - at.item[cells.indices]
        weights = 1.0 if ratings.weights is None else ratings.weights
        return float(np.sum(weights * errors ** 2) + self.reg_users * at.user @ at.user
                     + self.reg_items * at.item @ at.item)

    def _new_bias(self, ratings: Ratings) -> np.ndarray:
        return _shrunken(ratings, self.global_mean_, np.asarray(self.item_bias_), self.reg_users)


class Popularity(_WithoutFactors):
    """Recommend what most users have rated; the score is the (weighted) number of ratings.

    Counting minimises nothing: the loss in `history_` is 0.

    Parameters
    ----------
    n_threads, verbose
        As in `MatrixFactorization`.
    """

    _rates = False

    def __init__(self, *, n_threads: int | None = None, verbose: int = 0) -> None:
        self.n_threads = n_threads
        self.verbose = verbose

    def _validate(self) -> None:
        """There is nothing to check."""

    def _epoch(self, ratings: Ratings, at: Biases) -> float:
        at.item[:] = np.bincount(ratings.by_user.indices, ratings.weights,
                                 minlength=ratings.shape[1])
        return 0.0


def _shrunken(ratings: Ratings, mean: float, other: np.ndarray, reg: float) -> np.ndarray:
    return shrunken_means(ratings, lambda chunk: mean + other[ratings.by_user.indices[chunk]],
                          reg)
