"""Matrix factorization of ratings: biases, and a weight for what is not known."""

from __future__ import annotations

from typing import Any

import numpy as np

from mfcore.data.ratings import Ratings
from mfcore.models.factorization.core import (
    WITHOUT_TIMES,
    Backend,
    Factorized,
    answers_of,
    begin,
    check_effects,
    check_periods,
    has_periods,
)
from mfcore.models.factorization.observations import (
    check_label_parameters,
    check_labels,
    check_target,
    observe,
    observed_by,
)
from mfcore.models.factorization.solvers import ALTERNATING, SCHEDULES, SOLVERS
from mfcore.models.recommender import Recommender
from mfcore.models.settings import TRAINED, fitted, setting, settings
from mfcore.models.sides import FeaturedSide, Sides
from mfcore.models.training import Start


def check_solver(model: Any) -> None:
    """Raise for a schedule, or for periods, that do not go with the solver, loss or features."""
    if model.user_periods is not None or model.item_periods is not None:
        wanted = {"loss": ("squared",), "features": ("learned",), "solver": ALTERNATING}
        for name, values in wanted.items():
            if getattr(model, name) not in values:
                raise ValueError(f"user_periods and item_periods need {name} "
                                 f"{' or '.join(map(repr, values))}, got {getattr(model, name)!r}")
    if model.solver == "adam" and model.schedule == "adagrad":
        raise ValueError("schedule='adagrad' goes with solver='sgd'; 'adam' has rates of its own")


@settings(*TRAINED)
class MatrixFactorization(Recommender):
    """Factorize a matrix of ratings: s_ui = B_ui + P_u·Q_i.

    Minimises, by alternating least squares,

        Σ_known w (r − s)² + w0 Σ_unknown (r0 − s)² + Σ_u λ_u ‖P_u‖² + Σ_i λ_i ‖Q_i‖²
        (+ λᵇ (b_u² + b̃_i²) where biases are learned)

    Penalties of vectors, starts and learning rates are in units of σ, the standard deviation of
    the training ratings, so that ratings c r + d give predictions c s + d with the same settings.

    With loss="logistic" the ratings are labels, from 0 (disliked) to 1 (liked), and

        ℓ(s, r) = −r ln σ(s) − (1 − r) ln σ(−s),    σ(s) = 1 / (1 + e^(−s)),

    takes the place of (r − s)², with r0 = 0.  `predict` then returns σ(s), the probability of
    a like; `recommend` ranks by s, as before, and returns it.

    Parameters
    ----------
    n_factors : int, >= 1
        Length k of the vectors.  More helps the more ratings there are, and costs time and memory
        in proportion: begin with 64, and double while held-out ratings gain.
    loss : {"squared", "logistic"}
        "logistic" needs solver="sgd" and bias "learned" or None.  With likes alone it needs
        an unknown_weight > 0; unknown cells are then sampled afresh in each epoch.
    bias : {"learned", "mean", None}
        B_ui: learned b_u and b̃_i about the mean μ; or fixed, μ + c (b_u + b̃_i), from the
        (weighted) mean of each user and item; or nothing.
    bias_share : float in [0, 1]
        c of the fixed bias: 1/2 leaves room for the vectors, 1 is best without them.
    unknown_weight : float >= 0, or "balanced"
        w0, the weight of every cell without a rating; "balanced" gives all of them
        together the total weight of the ratings.
    unknown_value : float, or "bias"
        r0, the rating assumed there; "bias" assumes B_ui and needs bias="mean".
    reg : float >= 0, or "auto"
        Penalty weight of the vectors, in units of σ: λ grows with the ratings, as the vectors
        grow with their root and the loss with their square.  "auto": found (`reg_`) by the size of
        the errors on held-out cells of a sample of the users or, with an unknown_weight, by how
        these cells are ranked; it costs a fraction of a fit, and random_state decides it
        (`mfcore/solvers/automatic.py`).  0: no penalty.  A row of fewer ratings than factors then
        has many solutions, and gets the one nearest to its prior; scores are those of an exact
        factorization, but vectors, and so `similar_items`, depend on the start.  Where that
        matters take a small one, such as 1e-3.
    bias_reg : float >= 0, "auto", or None
        Penalty weight of learned biases, a number of ratings; "auto": found for users and for
        items (`bias_reg_`) by how much biases vary, next to errors; None: `reg`.
    reg_scaling : "count", "none", or float
        λ_u = σ·reg·max(n_u, 1); σ·reg; or σ·reg·max(n_u + w0·n_items, 1)^ν; the same for items.
    bias_reg_scaling : as `reg_scaling`, or None
        λᵇ likewise, of `bias_reg` and without σ; None: as `reg_scaling`.  With "none" few
        ratings count little: a user with n of them gets n / (n + λᵇ) of their mean.
    rating_scale : float > 0, or None
        σ; None: the standard deviation of the training ratings (1 where all are equal).  With 1,
        λ is a number by itself, as other libraries have it.
    feature_reg : float, > 0
        λ_g, penalty weight of the vectors (times σ) and biases of features
        (`fit(user_features=..., item_features=...)`).
    history_reg : float, > 0
        λ_g of the features that "history" builds: user_features="history" (or a tuple with
        other features) gives a user a vector for each rated item, SVD++; likewise for items.
    features : {"learned", "average"}
        Vectors of features are learned with the rest, as prior means of the rows that have
        them; or are the mean of their members' vectors, found after a fit without them.
    user_periods, item_periods : int >= 1, str such as "1D", or None
        Periods of time in which each user, each item, has an effect of its own, learned with the
        rest from `ratings.times`: that many with equal numbers of ratings, or of that length
        (s, min, h, D, W, Y).  `predict(times=...)` and `recommend(times=...)` add the effects of
        their moments; without times, or in a period that the row had no ratings in, the row alone
        answers.  New rows have the effects of the other side, none of their own.  They need an
        alternating solver.  How large effects are, is found from the ratings
        (`mfcore/objectives/drift.py`).  See docs/path/16_time.md.
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
    learning_rate : float > 0, or None
        η of "sgd" and "adam", for ratings in units of σ; None: 0.035, and 0.1 for labels.  For
        "sgd" a step of a vector is −η/σ times the gradient of the formula (which has no ½, so η
        is half of what the same step is called where a ½ hides), and one of a bias −η times it.
    bias_learning_rate : float >= 0, or None
        η of learned biases; None: `learning_rate`.
    decay : float, >= 0
        Of the schedule "inverse".
    schedule : {"inverse", "constant", "adagrad"}, or None
        η / (1 + decay·(epoch − 1)); η; or η over the root of a row's squared gradients.  None:
        "inverse", and "adagrad" for labels.
    batch_size : int >= 1, or None
        Cells in a batch of "adam"; None: 8192, less for small data.
    weight_decay : {"lazy", "decoupled"}
        Penalty of "adam": in the gradient of the rows that a batch touches, or as a step
        of its own beside Adam's, which minimises another function (Loshchilov and Hutter
        2019).
    init_scale : float, > 0
        Vectors start normal with standard deviation init_scale √(σ / k).
    patience : int >= 1, or None
        Stop after this many epochs without a better `eval_metric` on the eval_set (or on the
        share that `validation` holds out, where None is 5, and for networks at least some
        steps), and restore the best epoch.
    validation : float in (0, 1), or None
        Share of the ratings to hold out, of users with more than one, where `fit` gets no
        eval_set: the model is fitted to the rest, stopped by the held-out share, and then
        fitted to all ratings for the epochs found; `validation_history_` holds the search.
        A tenth is usual.  Costs one more fit, and saves choosing `n_epochs`.
    refit : bool
        False: keep the model that the held-out share stopped, without what it says: the model
        does not know that users have rated these items, and may recommend them.
    eval_metric : str or None
        Such as "rmse" (the default) or "ndcg@10".
    dtype : {"float32", "float64"}
        Precision of the vectors: "float64" takes twice the time and memory, and is for comparing
        with formulas; accuracy does not need it.
    random_state : int, numpy Generator, or None
        What draws the start and the order; the same integer gives the same bits.
    n_threads : int >= 1, or None
        None: all CPUs.  The result does not depend on it.
    verbose : int or None
        1 shows a progress bar, 0 none; None: at a terminal and in a notebook, after half a second.

    References
    ----------
    Koren, Bell, Volinsky 2009 (learned biases); Steck 2010 (w0, r0); Zhou et al. 2008
    (penalty by count).

    See Also
    --------
    ImplicitMF : Counts and choices, to recommend.
    BayesianMF : The mean of many such factorizations: slower, and better.
    NeuralMF : A network in place of the inner product.

    Examples
    --------
    >>> from mfcore import MatrixFactorization, evaluate, fetch
    >>> from mfcore.data.split import per_user_split
    >>> stars = fetch("planted-stars").ratings
    >>> train, test = per_user_split(stars, test_size=0.2, random_state=0)
    >>> model = MatrixFactorization(8, random_state=0).fit(train)
    >>> round(evaluate(model, test, metrics=["rmse"])["rmse"], 2)          # biases alone: 0.86
    0.83
    >>> items, scores = model.recommend([3, 5], k=4)    # of two users
    >>> items.shape
    (2, 4)
    >>> bool(abs(model.predict([3], items[:1, 0])[0] - scores[0, 0]) < 1e-5)
    True
    """

    n_factors: int = setting(default=64, low=1, kw_only=False)
    loss: str = setting(default="squared", among=("squared", "logistic"))
    bias: str | None = setting(default="learned", among=("mean", "learned", None))
    bias_share: float = setting(default=0.5, low=0, high=1)
    unknown_weight: float | str = setting(default=0.0, low=0, among=("balanced",))
    unknown_value: float | str = setting(default=0.0, among=("bias",))
    reg: float | str = setting(default="auto", low=0, among=("auto",))
    bias_reg: float | str | None = setting(default="auto", low=0, among=("auto",))
    reg_scaling: str | float = setting(default=0.5, low=0, high=10, among=("count", "none"))
    bias_reg_scaling: str | float | None = setting(
        default="none", low=0, high=10, among=("count", "none"))
    rating_scale: float | None = setting(default=None, above=0)
    feature_reg: float = setting(default=1000.0, above=0)
    history_reg: float = setting(default=100.0, above=0)
    features: str = setting(default="learned", among=("learned", "average"))
    user_periods: int | str | None = setting(default=None, check=check_periods)
    item_periods: int | str | None = setting(default=None, check=check_periods)
    solver: str = setting(default="cg", among=tuple(SOLVERS))
    n_epochs: int = setting(default=15, low=1)
    tol: float | None = setting(default=None, low=0)
    cg_steps: int = setting(default=2, low=1, high=1000)
    block_size: int = setting(default=32, low=1)
    learning_rate: float | None = setting(default=None, above=0, high=1e3)
    bias_learning_rate: float | None = setting(default=None, low=0, high=1e3)
    decay: float = setting(default=0.2, low=0, high=1e6)
    schedule: str | None = setting(default=None, among=SCHEDULES)
    batch_size: int | None = setting(default=None, low=1)
    weight_decay: str = setting(default="lazy", among=("lazy", "decoupled"))
    init_scale: float = setting(default=1.0, low=0, high=1e3, above=0)

    unknown_weight_: float = fitted(doc="w0, the weight of unknown cells.")
    reg_: float = fitted(doc="Penalty weight of the vectors.")
    bias_reg_: tuple[float, float] = fitted(doc="Penalty weights of users' and items' biases.")
    origin_: float = fitted(doc="The rating at which the objective puts 0: r0, or μ where w0 is 0.")
    periods_: dict[str, Any] | None = fitted(doc="Periods of users and of items, or None.")
    user_drift_: np.ndarray | None = fitted(
        doc="Row, period and effect of users' periods, shape (n_effects, 3), or None.")
    item_drift_: np.ndarray | None = fitted(doc="The same of items.")

    side_type = FeaturedSide
    together = (check_solver, check_target, check_label_parameters)

    def check(self, ratings: Ratings) -> None:
        """Raise for labels that the logistic loss cannot take."""
        if self.loss == "logistic":
            check_labels(ratings, self.unknown_weight)

    def check_parts(self) -> None:
        """Raise ValueError for parts of a file that no fit leaves."""
        super().check_parts()
        check_effects(self)

    def begin(self, ratings: Ratings, sides: Sides, random: np.random.Generator,
              backend: Backend | None = None) -> Start:
        """Return where a fit begins, and what improves it."""
        return begin(self, observe(self, ratings, sides), ratings, sides, random, backend)

    def answers(self) -> Factorized:
        """Return what is asked of the fitted model."""
        return answers_of(self, observed_by(self))

    def lacks(self, ability: str) -> bool:
        """Return whether the model cannot do something: with the logistic loss, explain."""
        return (ability == "explain" and self.loss == "logistic") or \
            (ability in WITHOUT_TIMES and has_periods(self))
