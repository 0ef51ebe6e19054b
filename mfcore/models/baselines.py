"""Two models without vectors, to measure the others against: the score is mean and biases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mfcore import validation
from mfcore.data.ratings import Ratings
from mfcore.metrics.fitted import Folded, NewRows
from mfcore.models.fitted import Linear
from mfcore.models.recommender import Recommender
from mfcore.models.settings import setting, settings
from mfcore.models.sides import Sides
from mfcore.models.training import Start
from mfcore.objectives.biases import REG_ITEMS, REG_USERS, SWEEPS, shrunken
from mfcore.parallel import Pool
from mfcore.solvers.loop import Solver


@dataclass
class Biases:
    """What a baseline learns: b_u (n_users,) and b̃_i (n_items,)."""

    user: np.ndarray
    item: np.ndarray

    def copy(self) -> Biases:
        """Return a copy that shares no memory."""
        return Biases(self.user.copy(), self.item.copy())


@dataclass(frozen=True)
class Improving(Solver):
    """Improve biases in place by a function that returns the loss, for the loop of all models."""

    improve: Callable[[Biases], float]

    def epoch(self, at: Biases, pool: Pool) -> float:
        """Run the function once."""
        return self.improve(at)


def begin(sides: Sides, improve: Callable[[Biases], float]) -> Start:
    """Return where a baseline begins: vectors of length 0, biases of 0."""
    for side in sides:
        side.factors = np.zeros((len(side.counts), 0), np.float32)

    def publish(at: Biases) -> None:
        sides.users.bias, sides.items.bias = at.user, at.item

    at = Biases(*(np.zeros(len(side.counts)) for side in sides))
    return Start(Improving(improve), at, publish)


Biased = Callable[[Ratings], np.ndarray]


@dataclass(frozen=True)
class Means(Linear):
    """The answers of biases alone; `of_items` gives those of items, the rows of ratings.

    With `ages`, a new rating changes all of them, for all others are older then.
    """

    of_items: Any = None
    ages: bool = False

    def fold_columns(self, new: NewRows, pool: Pool) -> Folded:
        """Return the biases of items, rows whose columns are the users."""
        return _without_vectors(self.of_items(new.ratings))


def answers(model: Any, of_users: Biased, of_items: Biased, ages: bool = False) -> Means:
    """Return the answers of a baseline, given the biases of new users and of new items."""
    def fold(new: NewRows, pool: Pool) -> Folded:
        return _without_vectors(of_users(new.known(model.n_items_)))

    return Means(model.users_, model.items_, model.global_mean_, fold, of_items=of_items,
                 ages=ages)


def _without_vectors(bias: np.ndarray) -> Folded:
    return Folded(np.zeros((len(bias), 0), np.float32), bias)


@settings("n_threads", "verbose")
class BiasOnly(Recommender):
    """Predict ratings by shrunken means: s_ui = μ + b_u + b̃_i.

    Minimises Σ w (r − s)² + reg_users Σ b_u² + reg_items Σ b̃_i² by alternating between the
    two sides, each of which has a closed form (Koren 2010, section 2.1).

    Parameters
    ----------
    reg_users, reg_items : float, >= 0
        Ratings' worth of shrinkage towards the mean: a row of as many ratings keeps half of its
        deviation.
    n_epochs : int, >= 1
        Alternations between users and items; ten are as good as any.
    n_threads, verbose
        As in `MatrixFactorization`.

    See Also
    --------
    MatrixFactorization : The same biases, with vectors.

    Examples
    --------
    >>> from mfcore import BiasOnly, evaluate, fetch
    >>> from mfcore.data.split import per_user_split
    >>> stars = fetch("planted-stars").ratings
    >>> train, test = per_user_split(stars, test_size=0.2, random_state=0)
    >>> model = BiasOnly().fit(train)
    >>> round(evaluate(model, test, metrics=["rmse"])["rmse"], 2)
    0.86
    >>> score = model.global_mean_ + model.user_bias_[3] + model.item_bias_[7]
    >>> bool(abs(score - model.predict([3], [7])[0]) < 1e-5)
    True
    """

    reg_users: float = setting(default=REG_USERS, low=0)
    reg_items: float = setting(default=REG_ITEMS, low=0)
    n_epochs: int = setting(default=SWEEPS, low=1)

    def begin(self, ratings: Ratings, sides: Sides, random: np.random.Generator) -> Start:
        """Return where a fit begins, and what improves it."""
        mean = self.global_mean_ = self.mean_rating_

        def improve(at: Biases) -> float:
            at.item[:] = shrunken(ratings.transposed, mean, at.user, self.reg_items)
            at.user[:] = shrunken(ratings, mean, at.item, self.reg_users)
            cells = ratings.by_user
            errors = cells.data - mean - at.user[ratings.users_of_cells] - at.item[cells.indices]
            weights = 1.0 if ratings.weights is None else ratings.weights
            return float(np.sum(weights * errors ** 2) + self.reg_users * at.user @ at.user
                         + self.reg_items * at.item @ at.item)

        return begin(sides, improve)

    def answers(self) -> Means:
        """Return what is asked of the fitted model."""
        def biases(others: Any, reg: float) -> Biased:
            return lambda ratings: shrunken(ratings, self.global_mean_, np.asarray(others), reg)

        return answers(self, biases(self.item_bias_, self.reg_users),
                       biases(self.user_bias_, self.reg_items))


def _check_half_life(name: str, given: Any) -> None:
    """Raise for what is no length of time."""
    if not isinstance(given, str):
        validation.real(name, given, above=0)
        return
    from mfcore.data.times import seconds_of

    seconds_of(name, given)


@settings("n_threads", "verbose")
class Popularity(Recommender):
    """Recommend what most users have rated; the score is the (weighted) number of ratings.

    Counting minimises nothing: the loss in `history_` is 0.

    Parameters
    ----------
    half_life : str such as "30D" or "12h", number > 0 in the units of numeric times, or None
        After which a rating counts half, from the last rating of the fit backwards: what is popular
        lately.  The ratings need times.  None: all count the same.
    n_threads, verbose
        As in `MatrixFactorization`.

    See Also
    --------
    BiasOnly : The baseline where ratings are predicted.

    Examples
    --------
    >>> from mfcore import Popularity, Ratings
    >>> model = Popularity().fit(Ratings.from_arrays(
    ...     ["ann", "bob", "cid", "cid"], ["Bach", "Bach", "Bach", "Ravel"]))
    >>> items, scores = model.recommend(["ann"], k=1)   # what ann does not know yet
    >>> str(items[0, 0])
    'Ravel'
    """

    half_life: float | str | None = setting(default=None, check=_check_half_life)

    predicts_ratings = False

    def check(self, ratings: Ratings) -> None:
        """Raise ValueError for a half-life of ratings without times."""
        self._counted(ratings)

    def begin(self, ratings: Ratings, sides: Sides, random: np.random.Generator) -> Start:
        """Return where counting begins, and what counts."""
        self.global_mean_ = 0.0

        counted = self._counted(ratings)

        def improve(at: Biases) -> float:
            at.item[:] = np.bincount(ratings.by_user.indices, counted.weights,
                                     minlength=ratings.shape[1])
            return 0.0

        return begin(sides, improve)

    def answers(self) -> Means:
        """Return what is asked of the fitted model."""
        from mfcore.data.times import counting

        def counts(ratings: Ratings) -> np.ndarray:
            times = self.ratings_.times
            now = None if times is None or not len(times) else \
                times[counting(self.ratings_)].max()
            return np.bincount(ratings.users_of_cells, self._counted(ratings, now).weights,
                               minlength=ratings.shape[0])

        return answers(self, lambda ratings: np.zeros(ratings.shape[0]), counts,
                       self.half_life is not None)

    def _counted(self, ratings: Ratings, now: Any = None) -> Ratings:
        return ratings if self.half_life is None else ratings.decayed(self.half_life, now)
