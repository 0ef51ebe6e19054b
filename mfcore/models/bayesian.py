"""Bayesian matrix factorization: not one factorization of the ratings but many, averaged."""

from __future__ import annotations

from typing import Any

import numpy as np

from mfcore import validation
from mfcore.data.ratings import Ratings
from mfcore.models.monitoring import Watched, monitor_of
from mfcore.models.rating import RatingModel
from mfcore.models.sampled import SampledServing
from mfcore.objectives.bayesian import Hyper, fields_of, guessed_variances
from mfcore.objectives.factors import Factors
from mfcore.objectives.penalty import counted_cells
from mfcore.parallel import Pool
from mfcore.solvers.gibbs import Gibbs
from mfcore.solvers.loop import run


class BayesianMF(SampledServing, RatingModel):
    """Sample factorizations from their posterior, and predict with the mean of their scores.

        r_ui ~ N(s_ui, 1/(τ w_ui)),   s_ui = B_ui + P_u·Q_i,   rows normal about their groups

    All precisions are drawn too, so that there is no penalty to choose.  Of `n_epochs` sweeps
    of a Gibbs sampler, `keep` after the first `burn_in` are kept, evenly spread.

    Parameters
    ----------
    n_factors : int, >= 1
        Length k of the vectors of one sample.
    bias : {"learned", "mean", None}
        As in `MatrixFactorization`.
    bias_share, unknown_weight, unknown_value
        As in `MatrixFactorization`.
    n_epochs : int, >= 1
        Sweeps.
    burn_in : int in [0, n_epochs)
        Sweeps before the first that is kept.
    keep : int in [1, n_epochs - burn_in]
        Samples to keep: they take keep · (n_users + n_items) · (k + 1) numbers of memory.
    eval_metric : str or None
        "rmse" by default; `history_` holds it of the mean of the samples so far.
    dtype : {"float32", "float64"}
    random_state : int, numpy Generator, or None
        What draws the samples; the same integer gives the same bits.
    n_threads : int >= 1, or None
        None: all CPUs.  The result does not depend on it.
    verbose : int
        1 shows a progress bar.

    Notes
    -----
    The mean of the scores is a factorization of width keep · k: `user_factors_` and
    `item_factors_` hold the samples' vectors side by side, divided by √keep, and biases are
    means.  `noise_precision_` holds the τ of each sample.  A new user's vector is drawn under
    each sample, with noise that is the same for every row and cancels in pairs of samples.
    Times of ratings are features of cells, not of users: there is no place for them here.

    References
    ----------
    Salakhutdinov, Mnih 2008; Rendle 2013; Rendle, Zhang, Koren 2019.  The conditionals are
    derived in objectives/bayesian.py.
    """

    # What the frame asks of a model, and sampling has no use for.
    reg, reg_scaling, solver, tol, patience = 1.0, "none", "cholesky", None, None
    cg_steps, block_size, init_scale = 1, 16, 1.0
    features, feature_reg, history_reg = "learned", 1.0, 1.0
    _may_change = ("n_threads", "verbose")      # the sweeps to keep rest on n_epochs

    def __init__(self, n_factors: int = 32, *, bias: str | None = "learned",
                 bias_share: float = 0.5, unknown_weight: float | str = 0.0,
                 unknown_value: float | str = 0.0, n_epochs: int = 300, burn_in: int = 50,
                 keep: int = 125, eval_metric: str | None = None, dtype: str = "float32",
                 random_state: Any = None, n_threads: int | None = None,
                 verbose: int = 0) -> None:
        self.n_factors = n_factors
        self.bias = bias
        self.bias_share = bias_share
        self.unknown_weight = unknown_weight
        self.unknown_value = unknown_value
        self.n_epochs = n_epochs
        self.burn_in = burn_in
        self.keep = keep
        self.eval_metric = eval_metric
        self.dtype = dtype
        self.random_state = random_state
        self.n_threads = n_threads
        self.verbose = verbose

    def _validate(self) -> None:
        super()._validate()
        validation.integer("burn_in", self.burn_in, low=0, high=self.n_epochs - 1)
        validation.integer("keep", self.keep, low=1, high=self.n_epochs - self.burn_in)

    def _train(self, ratings: Ratings, watched: Watched) -> None:
        self._resolve(ratings)
        random = np.random.default_rng(self.random_state)
        at = self._start(ratings, random)
        self._gibbs = self._sampler(ratings, int(random.integers(2**62)))
        self._publish(at)
        monitor = monitor_of(self, watched)
        try:
            with Pool(self.n_threads) as pool:
                run(self._gibbs, at, pool, self.n_epochs, monitor)
        finally:
            self._publish(at)
            del self._gibbs

    def _sampler(self, ratings: Ratings, seed: int) -> Gibbs:
        values = ratings.by_user.data.astype(np.float64)
        largest = min(float(np.abs(values).max()), 1e150)      # (whose square is a number)
        smallest = (1e-3 * max(1.0, largest)) ** 2
        variance = max(float(np.var(values)), smallest)
        guesses = guessed_variances(variance, self.n_factors, self._learns_bias)
        users, items = (
            Hyper(guesses, None if part is None else part.matrix,
                  fields_of(() if part is None else part.names))
            for part in (self.user_features_, self.item_features_))
        n_cells = float(np.prod(ratings.shape)) if self.unknown_weight_ > 0 else \
            float(counted_cells(ratings).sum())
        first = self.burn_in + 1
        kept = np.linspace(self.n_epochs, first, self.keep).round().astype(int)
        return Gibbs(self._problem(ratings), users, items, n_cells, variance,
                     frozenset(kept.tolist()), seed)

    def _publish(self, at: Factors) -> None:
        samples = self._gibbs.samples or [self._gibbs.sample(at)]
        self._publish_samples(samples)
