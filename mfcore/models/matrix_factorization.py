"""Matrix factorization of ratings: biases, and a weight for what is not known."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit

from mfcore import validation
from mfcore.data.canonical import read_only
from mfcore.data.ratings import Ratings
from mfcore.models.logistic import check_labels, check_parameters, log_odds
from mfcore.models.quadratic import QuadraticModel
from mfcore.models.solving import check_rates
from mfcore.objectives.biases import mean_biases, row_bias
from mfcore.objectives.pointwise import Logistic
from mfcore.objectives.quadratic import Cells, Factors, Quadratic, RowSystems
from mfcore.parallel import Pool
from mfcore.solvers.newton import solve_logistic


class MatrixFactorization(QuadraticModel):
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
    schedule : {"inverse", "constant", "adagrad"}
        η / (1 + decay·(epoch − 1)); η; or η over the root of a row's squared gradients.
    decay : float, >= 0
        Of the schedule "inverse".
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
    n_threads : int >= 1, or None
        None: all CPUs.  The result does not depend on it.
    verbose : int
        1 shows a progress bar.

    References
    ----------
    Koren, Bell, Volinsky 2009 (learned biases); Steck 2010 (w0, r0); Zhou et al. 2008
    (penalty by count).
    """

    def __init__(self, n_factors: int = 64, *, loss: str = "squared", bias: str | None = "learned",
                 bias_share: float = 0.5, unknown_weight: float | str = 0.0,
                 unknown_value: float | str = 0.0, reg: float = 1.2,
                 bias_reg: float | None = 0.5, reg_scaling: str | float = 0.5,
                 solver: str = "cg", n_epochs: int = 15, tol: float | None = None,
                 cg_steps: int = 2, block_size: int = 32, learning_rate: float = 0.03,
                 bias_learning_rate: float | None = None, decay: float = 0.2,
                 schedule: str = "inverse", batch_size: int | None = None,
                 weight_decay: str = "lazy", init_scale: float = 1.0, patience: int | None = None,
                 eval_metric: str | None = None, dtype: str = "float32",
                 random_state: Any = None, n_threads: int | None = None,
                 verbose: int = 0) -> None:
        self.n_factors = n_factors
        self.loss = loss
        self.bias = bias
        self.bias_share = bias_share
        self.unknown_weight = unknown_weight
        self.unknown_value = unknown_value
        self.reg = reg
        self.bias_reg = bias_reg
        self.reg_scaling = reg_scaling
        self.solver = solver
        self.n_epochs = n_epochs
        self.tol = tol
        self.cg_steps = cg_steps
        self.block_size = block_size
        self.learning_rate = learning_rate
        self.bias_learning_rate = bias_learning_rate
        self.decay = decay
        self.schedule = schedule
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.init_scale = init_scale
        self.patience = patience
        self.eval_metric = eval_metric
        self.dtype = dtype
        self.random_state = random_state
        self.n_threads = n_threads
        self.verbose = verbose

    _solvers = ("cg", "cholesky", "subspace", "sgd", "adam", "lbfgs")

    def _validate(self) -> None:
        super()._validate()
        check_rates(self)
        validation.choice("loss", self.loss, ("squared", "logistic"))
        validation.choice("bias", self.bias, ("mean", "learned", None))
        validation.real("bias_share", self.bias_share, low=0, high=1)
        validation.real_or_choice("unknown_weight", self.unknown_weight, ("balanced",), low=0)
        validation.real_or_choice("unknown_value", self.unknown_value, ("bias",))
        if self.bias_reg is not None:
            validation.real("bias_reg", self.bias_reg, low=0)
        if self.unknown_value == "bias" and self.bias != "mean":
            raise ValueError(f"unknown_value='bias' needs bias='mean', got bias={self.bias!r}: "
                             f"a bias that is learned cannot be its own target")

        if self._is_logistic:
            check_parameters(self)

    def _check_training(self, ratings: Ratings) -> None:
        super()._check_training(ratings)
        if self._is_logistic:
            check_labels(ratings, self.unknown_weight)

    # --------------------------------------------------------- what the loss decides

    @property
    def _is_logistic(self) -> bool:
        return self.loss == "logistic"

    @property
    def _formula(self) -> type[Quadratic]:
        return Logistic if self._is_logistic else Quadratic

    def _solve(self, systems: RowSystems, P: np.ndarray, bias: np.ndarray, pool: Pool) -> None:
        if self._is_logistic:
            solve_logistic(systems, P, bias, pool)
        else:
            super()._solve(systems, P, bias, pool)

    def _answers(self, scores: np.ndarray) -> np.ndarray:
        answers: np.ndarray = expit(scores) if self._is_logistic else scores
        return answers

    def explain(self, user: Any, item: Any, k: int = 10
                ) -> tuple[float, np.ndarray, np.ndarray]:
        """As `QuadraticModel.explain`; NotImplementedError with the logistic loss."""
        self._check_fitted()
        if self._is_logistic:
            raise NotImplementedError("with loss='logistic' a score is no sum over ratings, so "
                                      "that explain has nothing to show")
        return super().explain(user, item, k)

    # ------------------------------------------------------ what the data decides

    @property
    def _learns_bias(self) -> bool:
        return self.bias == "learned"

    @property
    def _subtracts_bias(self) -> bool:
        return self.unknown_value == "bias" and self.bias == "mean"

    def _bias_reg(self) -> float:
        return self.reg if self.bias_reg is None else self.bias_reg

    def _resolve(self, ratings: Ratings) -> None:
        self.unknown_weight_ = _unknown_weight(self.unknown_weight, ratings)
        self.global_mean_ = self.mean_rating_ if self.bias else 0.0
        if self._is_logistic:
            odds = log_odds(ratings, self.unknown_weight_)
            self.global_mean_ = odds if self.bias else 0.0
            self.mean_rating_, self.rating_range_ = float(expit(odds)), (0.0, 1.0)
        # Without unknown cells r0 is free: measuring from the mean keeps float32 accurate.
        self.origin_ = self.global_mean_
        if self._is_logistic or (self.unknown_weight_ > 0 and not self._subtracts_bias):
            self.origin_ = float(self.unknown_value)
        self.user_bias_ = self.item_bias_ = None
        if self.bias == "mean":
            user, item = mean_biases(ratings, self.mean_rating_, self.bias_share)
            self.user_bias_, self.item_bias_ = user.astype(self._real), item.astype(self._real)
        elif self.bias == "learned":
            self.user_bias_, self.item_bias_ = (np.zeros(n, self._real) for n in ratings.shape)

    def _bias_start(self) -> float:
        return 0.0 if self._subtracts_bias else self.global_mean_ - self.origin_

    def _frozen_user_bias(self) -> np.ndarray:
        return self._solver_bias(self.user_bias_, self._bias_start(), len(self.user_factors_))

    def _frozen_item_bias(self) -> np.ndarray:
        return self._solver_bias(self.item_bias_, 0.0, len(self.item_factors_))

    def _solver_bias(self, fixed: np.ndarray | None, start: float, n_rows: int) -> np.ndarray:
        # Where B is subtracted from the ratings, the solver holds no bias at all.
        return super()._solver_bias(None if self._subtracts_bias else fixed, start, n_rows)

    def _row_bias(self, ratings: Ratings) -> np.ndarray | None:
        if self.bias != "mean":
            return None
        return row_bias(ratings, self.mean_rating_, self.bias_share)

    def _publish(self, at: Factors) -> None:
        super()._publish(at)
        if self._learns_bias:
            self.user_bias_ = at.beta - self._real.type(self._bias_start())
            self.item_bias_ = at.gamma

    # ----------------------------------------------------------- what a cell means

    def _cells(self, ratings: Ratings, beta: np.ndarray, gamma: np.ndarray) -> Cells:
        matrix, w0 = ratings.by_user, self.unknown_weight_
        if ratings.weights is None and not self._subtracts_bias:
            line = np.array([0.0, 1.0 - w0, 1.0, -self.origin_])
            return Cells(matrix.indptr, matrix.indices, matrix.data, matrix.data, line)
        w = np.ones(ratings.nnz, self._real) if ratings.weights is None else ratings.weights
        pull = (w * self._targets(ratings, beta, gamma)).astype(self._real)
        line = np.array([1.0, -w0, 1.0, 0.0])
        return Cells(matrix.indptr, matrix.indices, read_only(w), read_only(pull), line)

    def _targets(self, ratings: Ratings, beta: np.ndarray | None, gamma: np.ndarray | None
                 ) -> np.ndarray:
        """Return t of every stored cell, measured from r0 or from B."""
        target: np.ndarray = ratings.by_user.data.astype(np.float64) - self.origin_
        if self._subtracts_bias and beta is not None and gamma is not None:
            target -= beta[ratings.users_of_cells]
            target -= gamma[ratings.by_user.indices]
        return target

    def _constant(self, ratings: Ratings) -> float:
        if self._is_logistic:
            return 0.0
        squares = self._targets(ratings, self.user_bias_, self.item_bias_) ** 2
        return float(squares.sum() if ratings.weights is None else ratings.weights @ squares)


def _unknown_weight(weight: float | str, ratings: Ratings) -> float:
    if weight != "balanced":
        return float(weight)
    unknown = ratings.shape[0] * ratings.shape[1] - ratings.nnz
    if unknown == 0:
        raise ValueError("unknown_weight='balanced' needs cells without a rating, got a full "
                         "matrix")
    known = ratings.nnz if ratings.weights is None else ratings.weights.sum(dtype=np.float64)
    return float(known) / unknown
