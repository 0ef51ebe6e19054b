"""Matrix factorization of ratings: biases, and a weight for what is not known."""

from __future__ import annotations

from dataclasses import field

import numpy as np

from mfcore import validation
from mfcore.data.ratings import Ratings
from mfcore.models.estimator import TRAINED, settings
from mfcore.models.factorization.core import Backend, Core, Factorized, Penalties, answers_of, begin
from mfcore.models.factorization.observations import (
    BinaryLabels,
    ExplicitRatings,
    check_bias,
    check_label_parameters,
    check_labels,
    explicit,
    resolve,
    resolve_labels,
)
from mfcore.models.factorization.solvers import SOLVERS, check_rates, check_solver
from mfcore.models.recommender import Recommender
from mfcore.models.sides import FeaturedSide, Sides, check_grouping
from mfcore.models.training import Start


@settings(*TRAINED)
class MatrixFactorization(Recommender):
    """Factorize a matrix of ratings: s_ui = B_ui + P_u·Q_i.

    Minimises, by alternating least squares,

        Σ_known w (r − s)² + w0 Σ_unknown (r0 − s)² + Σ_u λ_u ‖P_u‖² + Σ_i λ_i ‖Q_i‖²
        (+ λᵇ (b_u² + b̃_i²) where biases are learned)

    With loss="logistic" the ratings are labels, from 0 (disliked) to 1 (liked), and

        ℓ(s, r) = −r ln σ(s) − (1 − r) ln σ(−s),    σ(s) = 1 / (1 + e^(−s)),

    takes the place of (r − s)², with r0 = 0.  `predict` then returns σ(s), the probability of
    a like; `recommend` ranks by s, as before, and returns it.

    Parameters
    ----------
    n_factors : int, >= 1
        Length k of the vectors.
    loss : {"squared", "logistic"}
        "logistic" needs solver="sgd" and bias "learned" or None.  With likes alone it needs
        an unknown_weight > 0; unknown cells are then sampled, anew in each epoch.  Labels
        want smaller penalties and longer steps than ratings: reg=0.1, learning_rate=0.1.
    bias : {"learned", "mean", None}
        B_ui: learned b_u and b̃_i about the mean μ; or fixed, μ + c (b_u + b̃_i), from the
        (weighted) mean of each user and item; or nothing.
    bias_share : float in [0, 1]
        c of the fixed bias.
    unknown_weight : float >= 0, or "balanced"
        w0, the weight of every cell without a rating; "balanced" gives all of them
        together the total weight of the ratings.
    unknown_value : float, or "bias"
        r0, the rating assumed there; "bias" assumes B_ui and needs bias="mean".
    reg : float, >= 0
        Penalty weight of the vectors.
    bias_reg : float >= 0, or None
        Penalty weight of learned biases; None: `reg`.
    reg_scaling : "count", "none", or float
        λ_u = reg·max(n_u, 1); reg; or reg·max(n_u + w0·n_items, 1)^ν.  Items alike.
    bias_reg_scaling : as `reg_scaling`, or None
        λᵇ likewise, of `bias_reg`; None: as `reg_scaling`.  With "none" few ratings count
        little: a user with n of them gets n / (n + λᵇ) of their mean.
    feature_reg : float, > 0
        λ_g, penalty weight of the vectors and biases of features (`fit(user_features=...,
        item_features=...)`).
    history_reg : float, > 0
        λ_g of the features that "history" builds: user_features="history" (or a tuple with
        other features) gives a user a vector for each rated item, SVD++; items alike.
    features : {"learned", "average"}
        Vectors of features are learned with the rest, as prior means of the rows that have
        them; or are the mean of their members' vectors, found after a fit without them.
    solver : {"cg", "cholesky", "subspace", "sgd", "adam", "lbfgs"}
        Alternating least squares by conjugate gradient, with exact rows, or by blocks of
        factors (iALS++); stochastic
        gradient descent cell by cell, or in mini-batches with Adam; the full gradient with
        L-BFGS.
    n_epochs : int, >= 1
        One epoch is a half-sweep over items and one over users; for "sgd" and "adam" one
        pass over the stored cells; for "lbfgs" one iteration.
    tol : float >= 0, or None
        Stop when the objective's relative fall in an epoch is below it.
    cg_steps : int, >= 1
        Conjugate gradient steps a row and half-sweep.
    block_size : int, >= 1
        Factors in a block of "subspace", rounded up to a multiple of 16.
    learning_rate : float, > 0
        η of "sgd" and "adam".  For "sgd" a step is −η times the gradient of the formula
        (which has no ½, so η is half of what the same step is called where a ½ hides).
    bias_learning_rate : float >= 0, or None
        η of learned biases; None: `learning_rate`.
    decay : float, >= 0
        Of the schedule "inverse".
    schedule : {"inverse", "constant", "adagrad"}
        η / (1 + decay·(epoch − 1)); η; or η over the root of a row's squared gradients.
    batch_size : int >= 1, or None
        Cells in a batch of "adam"; None: 8192, less for small data.
    weight_decay : {"lazy", "decoupled"}
        Penalty of "adam": in the gradient of the rows that a batch touches, or as a step
        of its own beside Adam's, which minimises another function (Loshchilov and Hutter
        2019).
    init_scale : float, > 0
        Vectors start normal with standard deviation init_scale / √k.
    patience : int >= 1, or None
        Stop after so many epochs without a better `eval_metric` on the eval_set, and
        restore the best epoch.
    eval_metric : str or None
        Such as "rmse" (the default) or "ndcg@10".
    dtype : {"float32", "float64"}
        Precision of the vectors.
    random_state : int, numpy Generator, or None
        What draws the start and the order; the same integer gives the same bits.
    n_threads : int >= 1, or None
        None: all CPUs.  The result does not depend on it.
    verbose : int
        1 shows a progress bar.

    References
    ----------
    Koren, Bell, Volinsky 2009 (learned biases); Steck 2010 (w0, r0); Zhou et al. 2008
    (penalty by count).
    """

    n_factors: int = field(default=64, kw_only=False)
    loss: str = "squared"
    bias: str | None = "learned"
    bias_share: float = 0.5
    unknown_weight: float | str = 0.0
    unknown_value: float | str = 0.0
    reg: float = 1.2
    bias_reg: float | None = 2.0
    reg_scaling: str | float = 0.5
    bias_reg_scaling: str | float | None = "none"
    feature_reg: float = 1000.0
    history_reg: float = 100.0
    features: str = "learned"
    solver: str = "cg"
    n_epochs: int = 15
    tol: float | None = None
    cg_steps: int = 2
    block_size: int = 32
    learning_rate: float = 0.03
    bias_learning_rate: float | None = None
    decay: float = 0.2
    schedule: str = "inverse"
    batch_size: int | None = None
    weight_decay: str = "lazy"
    init_scale: float = 1.0

    unknown_weight_: float = field(init=False)
    origin_: float = field(init=False)

    side_type = FeaturedSide

    def validate(self) -> None:
        """Raise for a hyper-parameter that is out of range."""
        check_grouping(self)
        check_solver(self, tuple(SOLVERS))
        check_bias(self)
        check_rates(self)
        validation.choice("loss", self.loss, ("squared", "logistic"))
        if self.bias_reg is not None:
            validation.real("bias_reg", self.bias_reg, low=0)
        if self.bias_reg_scaling is not None:
            validation.real_or_choice("bias_reg_scaling", self.bias_reg_scaling,
                                      ("count", "none"), low=0, high=10)
        if self.loss == "logistic":
            check_label_parameters(self)

    def check(self, ratings: Ratings) -> None:
        """Raise for labels that the logistic loss cannot take."""
        if self.loss == "logistic":
            check_labels(ratings, self.unknown_weight)

    def begin(self, ratings: Ratings, sides: Sides, random: np.random.Generator,
              backend: Backend | None = None) -> Start:
        """Return where a fit begins, and what improves it."""
        if self.loss == "logistic":
            resolve_labels(self, ratings)
        else:
            resolve(self, ratings)
        sides.users.bias, sides.items.bias = self._observed().fixed_biases(ratings)
        return begin(self, self._core(), ratings, sides, random, backend)

    def answers(self) -> Factorized:
        """Return what is asked of the fitted model."""
        return answers_of(self, self._core())

    def lacks(self, ability: str) -> bool:
        """Return whether the model cannot do something: with the logistic loss, explain."""
        return ability == "explain" and self.loss == "logistic"

    def _observed(self) -> ExplicitRatings:
        return (BinaryLabels if self.loss == "logistic" else ExplicitRatings)(**explicit(self))

    def _core(self) -> Core:
        penalties = Penalties(self.reg, self.reg_scaling, self.bias_reg, self.bias_reg_scaling,
                              self.feature_reg, self.history_reg)
        return Core(self._observed(), penalties, self.n_factors)
