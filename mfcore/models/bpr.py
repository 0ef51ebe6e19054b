"""Bayesian personalized ranking: learn the order of items from pairs of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.ratings import Ratings
from mfcore.models.base import Folded, Recommender
from mfcore.models.monitoring import Watched, monitor_of
from mfcore.models.solving import check_training
from mfcore.objectives.pairwise import Ranking
from mfcore.parallel import Pool
from mfcore.solvers.bpr import PairwiseSGD, Steps, fold_in_by_pairs
from mfcore.solvers.loop import run


class BPR(Recommender):
    """Rank items by pairs: what a user has rated should score above what is left.

    Minimises, over sampled triples (user u, item i that u prefers, item j that is left),
    by stochastic gradient,

        Σ [ −ln σ(s_ui − s_uj) + λ (‖P_u‖² + ‖Q_i‖² + ‖Q_j‖²) + λᵇ (b_i² + b_j²) ]

    with s_ui = P_u·Q_i + b_i.  Cells above 0 are preferred; stored cells of 0 or less are
    left, like cells that are not stored (but `exclude_seen` leaves them out).

    Parameters
    ----------
    n_factors : int, >= 1
        Length k of the vectors.
    sampling : {"uniform", "adaptive"}
        Negatives are any item not preferred; or those that score high along a factor that
        matters to the user, which are more to learn from where items are many.
    item_bias : bool
        Whether items have a bias b_i.
    reg : float, >= 0
        λ, penalty weight of the vectors, paid at each draw.
    bias_reg : float >= 0, or None
        λᵇ, penalty weight of the biases; None: `reg`.
    learning_rate : float, > 0
        η, length of a step.
    schedule : {"inverse", "constant"}
        η / (1 + decay·t) in epoch t = 0, 1, ...; or η throughout.
    decay : float, >= 0
        Of the inverse schedule.
    n_epochs : int, >= 1
        One epoch draws a negative for each preferred cell.
    tol : float >= 0, or None
        Stop when the mean of −ln σ falls by less than this share in an epoch.
    init_scale : float, > 0
        Vectors start normal with standard deviation init_scale / √k.
    patience : int >= 1, or None
        Stop after so many epochs without a better `eval_metric` on the eval_set, and
        restore the best epoch.
    eval_metric : str or None
        "ndcg@10" by default.
    dtype : {"float32", "float64"}
        Precision of the vectors.
    random_state : int, numpy Generator, or None
        What draws the start and the order; the same integer gives the same bits.
    n_threads : int >= 1, or None
        None: all CPUs.  The result does not depend on it.
    verbose : int
        1 shows a progress bar.

    Notes
    -----
    `history_` holds the mean of −ln σ(x) over an epoch's draws, each before its step.
    A new user's vector takes the same steps as in training, for as many epochs as ran, from
    0 and with items frozen; its draws have a fixed seed, so the same ratings always give
    the same vector.

    References
    ----------
    Rendle, Freudenthaler, Gantner, Schmidt-Thieme 2009; Rendle, Freudenthaler 2014
    (adaptive sampling).
    """

    _rates = False

    def __init__(self, n_factors: int = 64, *, sampling: str = "uniform",
                 item_bias: bool = True, reg: float = 0.01, bias_reg: float | None = None,
                 learning_rate: float = 0.1, schedule: str = "inverse", decay: float = 0.2,
                 n_epochs: int = 40, tol: float | None = None, init_scale: float = 1.0,
                 patience: int | None = None, eval_metric: str | None = None,
                 dtype: str = "float32", random_state: Any = None,
                 n_threads: int | None = None, verbose: int = 0) -> None:
        self.n_factors = n_factors
        self.sampling = sampling
        self.item_bias = item_bias
        self.reg = reg
        self.bias_reg = bias_reg
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.decay = decay
        self.n_epochs = n_epochs
        self.tol = tol
        self.init_scale = init_scale
        self.patience = patience
        self.eval_metric = eval_metric
        self.dtype = dtype
        self.random_state = random_state
        self.n_threads = n_threads
        self.verbose = verbose

    # ---------------------------------------------------------------------- checks

    def _validate(self) -> None:
        check_training(self)
        validation.choice("sampling", self.sampling, ("uniform", "adaptive"))
        validation.boolean("item_bias", self.item_bias)
        validation.real("reg", self.reg, low=0)
        if self.bias_reg is not None:
            validation.real("bias_reg", self.bias_reg, low=0)
        validation.real("learning_rate", self.learning_rate, low=0, above=0)
        validation.choice("schedule", self.schedule, ("constant", "inverse"))
        validation.real("decay", self.decay, low=0)

    def _check_training(self, ratings: Ratings) -> None:
        if ratings.weights is not None:
            raise ValueError("BPR has no use for weights: leave them out, and leave out the "
                             "cells that should not count")
        positives = _positives(ratings)
        if positives.nnz == 0:
            raise ValueError("ratings must hold at least one value above 0, got none: BPR "
                             "takes these cells as preferred")
        full = np.flatnonzero(np.diff(positives.indptr) == positives.shape[1])
        if full.size:
            names = full if ratings.user_ids is None else ratings.user_ids[full]
            shown = ", ".join(map(repr, names[:5].tolist()))
            raise ValueError(f"every user must leave an item to compare with, but all "
                             f"{positives.shape[1]} are rated by {shown}; leave out these "
                             f"{full.size} users, or add the items that nobody rated")

    # -------------------------------------------------------------------- training

    def _train(self, ratings: Ratings, watched: Watched) -> None:
        random = np.random.default_rng(self.random_state)
        at = self._start(ratings.shape, random)
        solver = PairwiseSGD(_positives(ratings), self._steps(), self.sampling == "adaptive",
                             seed=int(random.integers(2**63)))
        self._publish(at)
        monitor = monitor_of(self, watched)
        try:
            with Pool(self.n_threads) as pool:
                run(solver, at, pool, self.n_epochs, monitor)
        finally:
            self._publish(at)

    def _start(self, shape: tuple[int, int], random: np.random.Generator) -> Ranking:
        dtype = np.dtype(self.dtype)
        scale = dtype.type(self.init_scale / np.sqrt(self.n_factors))
        P, Q = (scale * random.standard_normal((n, self.n_factors), dtype=dtype)
                for n in shape)
        return Ranking(P, Q, np.zeros(shape[1], dtype))

    def _publish(self, at: Ranking) -> None:
        self.global_mean_ = 0.0
        self.user_factors_, self.item_factors_ = at.P, at.Q
        self.user_bias_ = None
        self.item_bias_ = at.gamma if self.item_bias else None

    def _steps(self) -> Steps:
        decay = self.decay if self.schedule == "inverse" else 0.0
        bias_reg = self.reg if self.bias_reg is None else self.bias_reg
        return Steps(self.learning_rate, self.reg, bias_reg, decay, self.item_bias)

    # --------------------------------------------------------------------- fold-in

    def _fold_in_rows(self, ratings: Ratings, pool: Pool, features: Any = None) -> Folded:
        Q = self.item_factors_
        gamma = np.zeros(len(Q), Q.dtype) if self.item_bias_ is None else self.item_bias_
        P = fold_in_by_pairs(_positives(ratings), Q, gamma, self._steps(), max(self.n_epochs_, 1),
                             self.sampling == "adaptive", pool)
        return Folded(P, None)


def _positives(ratings: Ratings) -> sp.csr_array:
    """Return the cells above 0."""
    liked = ratings.by_user.data > 0
    return ratings.by_user if liked.all() else ratings.select_cells(liked).by_user
