"""Bayesian matrix factorization: not one factorization of the ratings but many, averaged."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import ndtri

from mfcore import validation
from mfcore.data.ratings import Ratings
from mfcore.metrics.fitted import Query
from mfcore.models.factorization.core import (
    WITHOUT_TIMES,
    Core,
    Penalties,
    check_effects,
    check_periods,
    drift_of,
    has_periods,
)
from mfcore.models.factorization.levels import (
    check_levels,
    check_ordinal,
    observe_levels,
    scores_of_levels,
)
from mfcore.models.factorization.observations import check_target, observe, observed_by
from mfcore.models.factorization.samples import Sampled, SampledSide, begin
from mfcore.models.fitted import best_items, drift_for
from mfcore.models.inputs import asked_pairs
from mfcore.models.recommender import Recommender
from mfcore.models.settings import fitted, part_of, setting, settings
from mfcore.models.sides import Sides
from mfcore.models.training import Start
from mfcore.parallel import Pool


def check_likelihood(model: Any) -> None:
    """Raise ValueError for levels that are not asked for, or that do not go with the rest."""
    if model.is_ordinal:
        check_ordinal(model)
    elif model.levels is not None:
        raise ValueError("levels go with likelihood='ordinal'")


def check_blocks(model: Any) -> None:
    """Raise for blocks of factors with weights of unknown cells."""
    if model.solver == "subspace" and model.unknown_weight != 0:
        raise ValueError(f"solver='subspace' needs unknown_weight=0, got "
                         f"{model.unknown_weight!r}; solver='cholesky' draws whole vectors")


def check_sweeps(model: Any) -> None:
    """Raise for sweeps that leave nothing to keep."""
    validation.integer("burn_in", model.burn_in, low=0, high=model.n_epochs - 1)
    validation.integer("keep", model.keep, low=1, high=model.n_epochs - model.burn_in)


@settings("eval_metric", "dtype", "random_state", "n_threads", "verbose")
class BayesianMF(Recommender):
    """Sample factorizations from their posterior, and predict with the mean of their scores.

        r_ui ~ N(s_ui, 1/(τ w_ui)),   s_ui = B_ui + P_u·Q_i,   rows normal about their groups

    All precisions are drawn too, so that there is no penalty to choose.  Of `n_epochs` sweeps
    of a Gibbs sampler, `keep` after the first `burn_in` are kept, evenly spread.

    Parameters
    ----------
    n_factors : int, >= 1
        Length k of the vectors of one sample.  Time grows with k².
        Their penalties are drawn.
    likelihood : {"gaussian", "ordinal"}
        "ordinal" takes ratings for levels, whatever their distances: ordered probit, z ~ N(s, 1)
        between cut points that are drawn too.  `predict` is then the expected rating, and
        `predict_proba` says how probable each level is.  It needs learned biases, and no weights.
        Take it where probabilities count, or levels are uneven.
    levels : sequence of float, or None
        The levels, ascending; some may have no rating, as a rare one in a fold, and their place
        between cut points then rests on the prior.  None: the values of the ratings, of which
        there may be 64.
    bias : {"learned", "mean", None}
        As in `MatrixFactorization`.
    bias_share, unknown_weight, unknown_value, user_periods, item_periods
        As in `MatrixFactorization`; how large effects of periods are, is drawn too.
    solver : {"cholesky", "subspace"}
        How vectors are drawn: whole, or in blocks of factors, each given the others ("subspace";
        unknown_weight must be 0).  With k factors a sweep takes about k² operations per rating, in
        blocks of B about k B.  Neighbouring sweeps are then more correlated, so that a chain needs
        more of them: take it from some 128 factors on.
    block_size : int, >= 1
        Factors of a block, B, rounded up to a multiple of 16.
    n_epochs : int, >= 1
        Sweeps.
    burn_in : int in [0, n_epochs)
        Sweeps before the first that is kept.
    keep : int in [1, n_epochs - burn_in]
        Samples to keep: they take keep · (n_users + n_items) · (k + 1) numbers of memory, and
        in a fit twice as many.
    eval_metric : str or None
        "rmse" by default; `history_` holds it of the mean of the samples so far.
    dtype : {"float32", "float64"}
    random_state : int, numpy Generator, or None
        What draws the samples; the same integer gives the same bits.
    n_threads : int >= 1, or None
        None: all CPUs.  The result does not depend on it.
    verbose : int or None
        1 shows a progress bar, 0 none; None: at a terminal and in a notebook, after half a second.

    Notes
    -----
    The mean of the scores is a factorization of width keep · k: `user_factors_` and
    `item_factors_` hold the samples' vectors side by side, divided by √keep, and biases are
    means.  `noise_precision_` holds the τ of each sample.  A new user's vector is drawn under
    each sample, with noise that is the same for every row and cancels in pairs of samples.
    Scores with `times` add the mean of the effects of periods over the kept sweeps.

    A FitWarning says that a chain has not settled: that the mean or the mean square of scores
    differs between the halves of the samples (rank-normalised R-hat above 1.1 and above chance),
    or that the samples are worth fewer than ten independent ones.  Longer chains settle.

    `update` draws the rows that it solves again under each sample, given the other side in that
    sample, with noise of their own; precisions, means of priors, vectors of features and cut
    points stay those of the fit.  `fold_in_items` draws as new users are drawn.

    References
    ----------
    Salakhutdinov, Mnih 2008; Rendle 2013; Rendle, Zhang, Koren 2019; Albert, Chib 1993.  The
    conditionals are derived in objectives/bayesian.py and objectives/ordinal.py.

    See Also
    --------
    MatrixFactorization : One factorization: the mode in place of the mean.

    Examples
    --------
    >>> from mfcore import BayesianMF, evaluate, fetch
    >>> from mfcore.data.split import per_user_split
    >>> stars = fetch("planted-stars").ratings
    >>> train, test = per_user_split(stars, test_size=0.2, random_state=0)
    >>> model = BayesianMF(8, random_state=0).fit(train)
    >>> round(evaluate(model, test, metrics=["rmse"])["rmse"], 2)          # biases alone: 0.86
    0.8
    >>> rating, deviation = model.predict([3], [7], return_std=True)
    >>> bool(deviation[0] > 0)
    True
    """

    n_factors: int = setting(default=32, low=1, kw_only=False)
    likelihood: str = setting(default="gaussian", among=("gaussian", "ordinal"))
    levels: Any = None
    bias: str | None = setting(default="learned", among=("mean", "learned", None))
    bias_share: float = setting(default=0.5, low=0, high=1)
    unknown_weight: float | str = setting(default=0.0, low=0, among=("balanced",))
    unknown_value: float | str = setting(default=0.0, among=("bias",))
    user_periods: int | str | None = setting(default=None, check=check_periods)
    item_periods: int | str | None = setting(default=None, check=check_periods)
    solver: str = setting(default="cholesky", among=("cholesky", "subspace"))
    block_size: int = setting(default=32, low=1)
    n_epochs: int = setting(default=300, low=1)
    burn_in: int = 50
    keep: int = 125

    unknown_weight_: float = fitted(doc="w0, the weight of unknown cells.")
    origin_: float = fitted(doc="The rating at which the objective puts 0: r0, or μ where w0 is 0.")
    periods_: dict[str, Any] | None = fitted(doc="Periods of users and of items, or None.")
    user_drift_: np.ndarray | None = fitted(
        doc="Row, period, mean effect of users' periods and the effect in each sample, shape "
            "(n_effects, 3 + S), or None.")
    item_drift_: np.ndarray | None = fitted(doc="The same of items.")
    noise_precision_: np.ndarray = fitted(doc="τ of each sample, shape (S,).")
    levels_: Any = fitted(doc="Levels of ordinal ratings, shape (K,), or None.")
    cut_points_: Any = fitted(doc="Cut points between them by sample, shape (S, K - 1), or None.")

    side_type = SampledSide
    together = (check_target, check_sweeps, check_blocks, check_likelihood)
    may_change = ("n_threads", "verbose")       # the sweeps to keep rest on n_epochs

    user_bias_samples_ = part_of("users_", "bias_samples", "Biases of users by sample, or None.")
    item_bias_samples_ = part_of("items_", "bias_samples", "Biases of items by sample, or None.")
    user_feature_bias_samples_ = part_of(
        "users_", "feature_bias_samples", "Biases of users' features by sample, or None.")
    item_feature_bias_samples_ = part_of(
        "items_", "feature_bias_samples", "Biases of items' features by sample, or None.")
    user_prior_mean_ = part_of("users_", "prior_mean", "μ of users by sample, shape (S, d).")
    item_prior_mean_ = part_of("items_", "prior_mean", "μ of items by sample, shape (S, d).")
    user_prior_precision_ = part_of("users_", "prior_precision", "Λ of users by sample.")
    item_prior_precision_ = part_of("items_", "prior_precision", "Λ of items by sample.")

    @property
    def is_ordinal(self) -> bool:
        """Whether ratings are levels."""
        return bool(self.likelihood == "ordinal")

    def check(self, ratings: Ratings) -> None:
        """Raise for ratings outside the levels, where they have to be among them."""
        if self.is_ordinal:
            check_levels(ratings, self.levels)

    def check_grown(self, ratings: Ratings) -> None:
        """Raise for ratings, old and new together, outside the levels of the fit."""
        if self.is_ordinal:
            self.answers().levels.numbers_of(ratings)

    def check_parts(self) -> None:
        """Raise ValueError for parts of a file that no fit leaves."""
        super().check_parts()
        check_effects(self)
        if not (self.noise_precision_ > 0).all():
            raise ValueError("noise_precision_ must be above 0")
        there = [each is not None for each in (self.levels_, self.cut_points_)]
        if there != [self.is_ordinal] * 2:
            raise ValueError("levels_ and cut_points_ belong to likelihood='ordinal', both")
        if self.is_ordinal:
            self.answers().levels.check(self.ratings_)

    def begin(self, ratings: Ratings, sides: Sides, random: np.random.Generator) -> Start:
        """Return where a chain begins, and what draws it."""
        kept = np.linspace(self.n_epochs, self.burn_in + 1, self.keep).round().astype(int)
        self.levels_ = None
        look = observe_levels if self.is_ordinal else observe
        observed = look(self, ratings, sides)
        return begin(self, observed, ratings, sides, random, frozenset(kept.tolist()),
                     self.levels_)

    def answers(self) -> Sampled:
        """Return what is asked of the fitted model."""
        levels, observed = None, scores_of_levels(self) if self.is_ordinal else observed_by(self)
        if self.cut_points_ is not None:
            from mfcore.objectives.ordinal import Levels

            levels = Levels(self.levels_, self.cut_points_)
        core = Core(observed, Penalties(), self.n_factors, drift_of(self))
        return Sampled(core, self.users_, self.items_, self.noise_precision_, levels)

    def lacks(self, ability: str) -> bool:
        """Return whether the model cannot do something: by levels, or with periods."""
        by_levels = ability in ("index_vectors", "weights", "explain") and self.is_ordinal
        with_periods = ability in WITHOUT_TIMES and has_periods(self)
        return by_levels or with_periods or super().lacks(ability)

    def widths(self) -> dict[str, int]:
        """Return the lengths that hyper-parameters give to axes of fitted arrays, by name."""
        return {"factor": self.n_samples_ * self.n_factors}

    @property
    def n_samples_(self) -> int:
        """Number of samples kept, S."""
        return len(self.noise_precision_)

    # ------------------------------------------------------------- what samples tell

    def predict(self, users: Any, items: Any = None, *, return_std: bool = False, **options: Any
                ) -> Any:
        """Return the mean scores of pairs: see `MatrixFactorization.predict`.

        Parameters
        ----------
        return_std : bool
            Return (scores, std): the standard deviation of the score over the samples, or of
            the expected rating where ratings are ordinal.  A rating spreads by
            sqrt(std² + 1/τ), τ the mean of `noise_precision_`; see `predict_interval`.

        Raises
        ------
        ValueError
            As `MatrixFactorization.predict`.
        """
        scores = super().predict(users, items, **options)
        if not validation.boolean("return_std", return_std):
            return scores
        asked = asked_pairs(self, users, items, *map(options.get, ("ratings", "user_features",
                                                                   "unknown")))
        times = options.get("times")
        effects = 0.0 if times is None else drift_for(self).of_pairs(*asked, times, draws=True)
        with Pool(self.n_threads) as pool:
            return scores, self.answers().spread(*asked, effects, pool)

    def predict_proba(self, users: Any, items: Any = None, *, ratings: Any = None,
                      user_features: Any = None, times: Any = None, unknown: str | None = None
                      ) -> np.ndarray:
        """Return the probability of each level, shape (n_pairs, K), in the order of `levels_`.

        It is the mean over the samples.  For the arguments see `predict`.  Raises
        NotImplementedError for likelihood="gaussian".
        """
        self.check_fitted()
        if not self.is_ordinal:
            raise NotImplementedError("predict_proba needs likelihood='ordinal'; with 'gaussian' "
                                      "a rating is any number: see predict_interval")
        drift = None if times is None else drift_for(self)
        asked = asked_pairs(self, users, items, ratings, user_features, unknown)
        effects = 0.0 if drift is None else drift.of_pairs(*asked, times)
        with Pool(self.n_threads) as pool:
            return self.answers().probabilities(*asked, effects, pool)

    def predict_interval(self, users: Any, items: Any = None, *, coverage: float = 0.8,
                         **options: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the lower and upper ends of intervals that hold ratings with a probability.

        Parameters
        ----------
        users, items : ids, or row numbers, shape (n_pairs,)
            As `predict` takes them.
        coverage : float in (0, 1)
            An interval leaves out at most half of the rest on either side.  Those of levels hold
            more than that: their ends are levels.
        **options : ratings, user_features, times, unknown
            As `predict` takes them.
        """
        coverage = validation.share("coverage", coverage)
        outside = (1 - coverage) / 2
        if not self.is_ordinal:
            scores, std = self.predict(users, items, return_std=True, **options)
            reach = -ndtri(outside) * np.sqrt(std ** 2 + np.mean(1 / self.noise_precision_))
            return scores - reach, scores + reach
        up_to = np.cumsum(self.predict_proba(users, items, **options), axis=1)
        ends = ((up_to < end).sum(axis=1) for end in (outside, 1 - outside))
        low, high = (self.levels_[np.minimum(end, len(self.levels_) - 1)] for end in ends)
        return low, high

    def score_draws(self, users: Any, items: Any) -> np.ndarray:
        """Return the score of pairs of the fit in each sample, shape (n_samples, n_pairs).

        Parameters
        ----------
        users, items : ids, or row numbers, shape (n_pairs,)
            Both known to the fit.

        Notes
        -----
        What `effective_sample_size`, `r_hat` (mfcore.metrics.convergence) and `plot_trace`
        look at.  Raises KeyError or IndexError for users or items that the fit did not know.
        """
        self.check_fitted()
        rows, columns = self.ratings_.known_users(users), self.ratings_.known_items(items)
        with Pool(self.n_threads) as pool:
            return self.answers().draws(rows, columns, pool)

    def recommend(self, users: Any = None, k: int = 10, *, optimism: float = 0.0,
                  at_least: float | None = None, **options: Any) -> Any:
        """Return the k best items of each user: see `MatrixFactorization.recommend`.

        Parameters
        ----------
        optimism : float
            Rank by mean + optimism · standard deviation of the score: above 0 to explore
            what is uncertain, below 0 to be cautious.
        at_least : float, or None
            Rank by the probability of this level or more, which is then the score; for ordinal
            ratings.  None: by the expected rating.

        Raises
        ------
        ValueError
            For optimism with times, for an at_least that every level reaches or none, and as
            `MatrixFactorization.recommend`.
        """
        if validation.real("optimism", optimism) and options.get("times") is not None:
            raise ValueError("optimism must be 0 with times: lists at a moment go by mean scores; "
                             "predict(times=..., return_std=True) tells spreads")
        if at_least is not None and not self.is_ordinal:
            raise ValueError("at_least needs likelihood='ordinal'")
        level = None
        if at_least is not None:
            self.check_fitted()
            level = self.answers().levels.reached(validation.real("at_least", at_least))
        query = Query(options.pop("similarity", "dot"), float(optimism), at_least=level)
        return best_items(self, query, users, k, **options)
