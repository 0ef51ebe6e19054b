"""Two models to measure the others against, whose scores are means and counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.ratings import Ratings
from mfcore.metrics.fitted import Folded, NewRows
from mfcore.models.fitted import Linear
from mfcore.models.recommender import Recommender
from mfcore.models.settings import setting, settings
from mfcore.models.sides import FeaturedSide, Side, Sides, n_of_history
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


@dataclass(frozen=True)
class Means(Linear):
    """The answers of a baseline; `of_items` gives those of items, the rows of ratings.

    With `shared`, a new rating changes all of them.
    """

    of_items: Any = None
    shared: bool = False

    def fold_columns(self, new: NewRows, pool: Pool) -> Folded:
        """Return what is known of items, rows whose columns are the users."""
        folded: Folded = self.of_items(new.ratings)
        return folded


def answers(model: Any, of_users: Callable[[NewRows], Folded],
            of_items: Callable[[Ratings], Folded], shared: bool = False) -> Means:
    """Return the answers of a baseline, given what it says of new users and of new items."""
    return Means(model.users_, model.items_, model.global_mean_, lambda new, pool: of_users(new),
                 of_items=of_items, shared=shared)


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
        Alternations between users and items.
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
        def biases(ratings: Ratings, others: Any, reg: float) -> Folded:
            return _without_vectors(shrunken(ratings, self.global_mean_, np.asarray(others), reg))

        return answers(
            self, lambda new: biases(new.known(self.n_items_), self.item_bias_, self.reg_users),
            lambda ratings: biases(ratings, self.user_bias_, self.reg_items))


def _check_half_life(name: str, given: Any) -> None:
    """Raise for anything but a length of time."""
    if not isinstance(given, str):
        validation.real(name, given, above=0)
        return
    from mfcore.data.times import seconds_of

    seconds_of(name, given)


def tastes(counts: np.ndarray, weights: Any, cells: sp.csr_array, S: np.ndarray, shrink: float
           ) -> np.ndarray:
    """Return N (p_gi − p_i) of items and groups, shape (n_items, n_groups), see `Popularity`.

    counts : ndarray, shape (n_items,), N_i
    weights : of the cells, None: 1
    cells : csr_array, shape (n_items, n_users)
    S : ndarray, shape (n_users, n_groups), the share of a user that is in a group
    """
    data = np.ones(cells.nnz) if weights is None else weights
    n = sp.csr_array((data, cells.indices, cells.indptr), cells.shape) @ S             # N_gi
    of_group, total = n.sum(axis=0), counts.sum()                                      # N_g, N
    expected = np.outer(counts / total if total else counts, of_group)                 # N_g p_i
    scale = np.divide(total, of_group + shrink, out=np.zeros(len(of_group)),
                      where=of_group > 0)
    return np.asarray((n - expected) * scale, np.float32)


@settings("n_threads", "verbose")
class Popularity(Recommender):
    """Recommend what most users have rated or, with groups of users, what theirs have.

    The score is N_i, the (weighted) number of ratings of an item.  With `user_features` it is

        s_ui = N p_gi        p_gi = (N_gi + κ p_i) / (N_g + κ)        p_i = N_i / N

    for a user of group g, whose members have given N_gi of the N_g ratings of the group to the
    item: as many as if all N ratings were the group's, whose shares are shrunk to those of
    everybody, as by a Dirichlet prior.  A user of several groups counts in each by its share of
    them, and has the mean of their scores; one of none has N_i.

    Parameters
    ----------
    half_life : str such as "30D" or "12h", number > 0 in the units of numeric times, or None
        After which a rating counts half, from the last rating of the fit backwards: what is popular
        lately.  The ratings need times.  None: all count the same.
    shrink : float, >= 0
        κ, how many ratings of a group weigh as much as what everybody has rated.  3,000 was never
        worse than no groups on validation parts of ML-100K (by age, gender and occupation) and of
        five generated sets with tastes; where groups differ much, 100 is as good or better.
    n_threads, verbose
        As in `MatrixFactorization`.

    Notes
    -----
    Counting minimises nothing: the loss in `history_` is 0.
    fit(user_features=...) takes groups as in `MatrixFactorization`; a new user is served by its
    groups, given as `user_features`, alone or with ratings.  `user_factors_` holds the shares of
    groups and `item_factors_` N (p_gi − p_i), so that groups are few: one number per user for each.

    See Also
    --------
    BiasOnly : The baseline where ratings are predicted.
    Segmented : A model of its own for each group, nothing shared between them.

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
    shrink: float = setting(default=3000.0, low=0)

    predicts_ratings = False
    side_type = FeaturedSide
    features = "average"                                    # (a user is shared between its groups)

    def check(self, ratings: Ratings) -> None:
        """Raise ValueError for a half-life of ratings without times."""
        self._counted(ratings)

    def begin(self, ratings: Ratings, sides: Sides, random: np.random.Generator) -> Start:
        """Return where counting begins, and what counts."""
        self.global_mean_ = 0.0
        if n_of_history(sides.users.feature_names):
            raise ValueError('user_features of Popularity must be groups, not "history": ItemKNN '
                             'and RP3Beta rank by what users have rated')

        def improve(at: Biases) -> float:
            at.item[:] = counted.bias
            return 0.0

        start = begin(sides, improve)
        if sides.users.features is not None:
            sides.users.factors = _dense(sides.users.shares(sides.users.features.matrix))
        counted = self._of_items(ratings.transposed, sides.users)
        sides.items.factors = counted.factors
        return start

    def answers(self) -> Means:
        """Return what is asked of the fitted model."""
        from mfcore.data.times import counting

        users: FeaturedSide = self.users_
        k = users.factors.shape[1]

        def of_users(new: NewRows) -> Folded:
            F = users.completed(new.features, new.ratings)
            P = np.zeros((new.n_rows, k), np.float32) if F is None else _dense(F)
            return Folded(P, np.zeros(new.n_rows))

        def of_items(ratings: Ratings) -> Folded:
            times = self.ratings_.times
            now = None if times is None or not len(times) else \
                times[counting(self.ratings_)].max()
            return self._of_items(ratings, users, now)

        return answers(self, of_users, of_items, k > 0 or self.half_life is not None)

    def _of_items(self, ratings: Ratings, users: Side, now: Any = None) -> Folded:
        """Return what is known of items, the rows of ratings."""
        weights = self._counted(ratings, now).weights
        counts = np.bincount(ratings.users_of_cells, weights, minlength=ratings.shape[0])
        return Folded(tastes(counts, weights, ratings.by_user, users.factors, self.shrink), counts)

    def _counted(self, ratings: Ratings, now: Any = None) -> Ratings:
        return ratings if self.half_life is None else ratings.decayed(self.half_life, now)


def _dense(F: sp.csr_array) -> np.ndarray:
    return np.asarray(F.toarray(), np.float32)
