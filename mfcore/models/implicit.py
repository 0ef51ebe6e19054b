"""Matrix factorization of counts: every cell is a preference, with its confidence."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from mfcore import validation
from mfcore.data.canonical import read_only
from mfcore.data.chunks import filled_beside, summed
from mfcore.data.ratings import Ratings
from mfcore.models.quadratic import QuadraticModel
from mfcore.objectives.quadratic import Cells

Self = TypeVar("Self", bound="ImplicitMF")


class ImplicitMF(QuadraticModel):
    """Factorize implicit feedback: p_ui = 1 where something was counted, else 0.

    Minimises, by alternating least squares, with s_ui = P_u·Q_i,

        Σ_stored w (p − s)² + w0 Σ_others s² + Σ_u λ_u ‖P_u‖² + Σ_i λ_i ‖Q_i‖²

    Parameters
    ----------
    n_factors : int, >= 1
        Length k of the vectors.
    alpha : float, > 0
        Weight of the counts in the confidence.
    confidence : {"linear", "log", "raw", "constant"}
        w = 1 + alpha·count; 1 + alpha·ln(1 + count); alpha·count; alpha.
    unknown_weight : float, >= 0
        w0, the weight of every cell that is not stored.
    whole_matrix : bool
        True: the unknown term covers stored cells too, on top of theirs:
        Σ_stored w (1 − s)² + w0 Σ_all s², as iALS and irspack write it (`objective()` counts
        the stored cells' share of the second sum as known).
    negatives : {"error", "zero"}
        What a negative count means: an error, or p = 0 with the confidence of its size.
    reg : float, >= 0
        Penalty weight of the vectors.
    reg_scaling : "none", "count", or float
        λ_u = reg; reg·max(n_u, 1); or reg·max(n_u + w0·n_items, 1)^ν.  Items alike.
    feature_reg, history_reg, features
        As in `MatrixFactorization`.
    solver : {"cg", "cholesky", "subspace"}
        Conjugate gradient, exact rows, or blocks of factors (iALS++).
    n_epochs : int, >= 1
        One epoch is a half-sweep over items and one over users.
    tol, cg_steps, block_size, init_scale
        As in `MatrixFactorization`.
    patience, eval_metric, dtype, random_state, n_threads, verbose
        As in `MatrixFactorization`; eval_metric defaults to "ndcg@10".

    References
    ----------
    Hu, Koren, Volinsky 2008; Rendle, Krichene, Zhang, Koren 2021 (whole_matrix,
    reg_scaling by ν).
    """

    _rates = False

    def __init__(self, n_factors: int = 64, *, alpha: float = 1.0, confidence: str = "linear",
                 unknown_weight: float = 1.0, whole_matrix: bool = False,
                 negatives: str = "error", reg: float = 5.0,
                 reg_scaling: str | float = 0.25, feature_reg: float = 10000.0,
                 history_reg: float = 100.0,
                 features: str = "learned", solver: str = "cg", n_epochs: int = 15,
                 tol: float | None = None, cg_steps: int = 1, block_size: int = 32,
                 init_scale: float = 0.1,
                 patience: int | None = None, eval_metric: str | None = None,
                 dtype: str = "float32", random_state: Any = None,
                 n_threads: int | None = None, verbose: int = 0) -> None:
        self.n_factors = n_factors
        self.alpha = alpha
        self.confidence = confidence
        self.unknown_weight = unknown_weight
        self.whole_matrix = whole_matrix
        self.negatives = negatives
        self.reg = reg
        self.reg_scaling = reg_scaling
        self.feature_reg = feature_reg
        self.history_reg = history_reg
        self.features = features
        self.solver = solver
        self.n_epochs = n_epochs
        self.tol = tol
        self.cg_steps = cg_steps
        self.block_size = block_size
        self.init_scale = init_scale
        self.patience = patience
        self.eval_metric = eval_metric
        self.dtype = dtype
        self.random_state = random_state
        self.n_threads = n_threads
        self.verbose = verbose

    # ------------------------------------------------- the losses of other libraries

    @classmethod
    def like_implicit(cls: type[Self], n_factors: int = 64, *, alpha: float = 1.0,
                      reg: float = 0.01, **params: Any) -> Self:
        """Return the model that minimises the loss of `implicit`'s AlternatingLeastSquares.

        c = alpha·|r| on stored cells (no + 1), 1 elsewhere; a negative r means p = 0.

        Parameters
        ----------
        n_factors, alpha, reg, **params
            As in `ImplicitMF`; reg is its `regularization`, paid alike by every row.
        """
        return cls(n_factors, alpha=alpha, confidence="raw", negatives="zero", reg=reg,
                   reg_scaling="none", **params)

    @classmethod
    def like_spark(cls: type[Self], n_factors: int = 10, *, alpha: float = 1.0,
                   reg: float = 0.1, **params: Any) -> Self:
        """Return the model that minimises the loss of Spark's implicit ALS.

        c = 1 + alpha·r on stored cells, 1 elsewhere; the penalty grows with the number of
        stored cells (for counts above 0, as Spark counts no others).

        Parameters
        ----------
        n_factors, alpha, reg, **params
            As in `ImplicitMF`; n_factors is Spark's `rank`, reg its `regParam`.
        """
        return cls(n_factors, alpha=alpha, confidence="linear", reg=reg, reg_scaling="count",
                   **params)

    @classmethod
    def like_ials(cls: type[Self], n_factors: int = 64, *, unknown_weight: float = 0.1,
                  reg: float = 0.003, nu: float = 1.0, **params: Any) -> Self:
        """Return the model that minimises the loss of iALS (Rendle et al. 2021).

        Σ_stored (s − 1)² + α₀ Σ_all s² + λ Σ_u (n_u + α₀ n_items)^ν ‖P_u‖² + items alike,
        whatever the counts; α₀ is `unknown_weight`, λ is `reg`.

        Parameters
        ----------
        n_factors, unknown_weight, reg
            As in `ImplicitMF`.
        nu : float in [0, 1]
            ν, how much of a row's weight its penalty follows.
        **params
            As in `ImplicitMF`.
        """
        return cls(n_factors, confidence="constant", whole_matrix=True,
                   unknown_weight=unknown_weight, reg=reg, reg_scaling=nu, **params)

    # ---------------------------------------------------------------------- checks

    def _validate(self) -> None:
        super()._validate()
        validation.real("alpha", self.alpha, above=0)
        validation.choice("confidence", self.confidence, ("linear", "log", "raw", "constant"))
        validation.real("unknown_weight", self.unknown_weight, low=0)
        validation.boolean("whole_matrix", self.whole_matrix)
        validation.choice("negatives", self.negatives, ("error", "zero"))

    def _check_training(self, ratings: Ratings) -> None:
        self._check_counts(ratings)
        if not (ratings.by_user.data > 0).any():
            raise ValueError("ratings must hold at least one count above 0, got none")

    def _check_counts(self, ratings: Ratings) -> None:
        if ratings.nnz and self.negatives == "error" and ratings.by_user.data.min() < 0:
            raise ValueError(f"counts must be >= 0, got {ratings.by_user.data.min()}; ratings "
                             f"with dislikes want MatrixFactorization, or negatives='zero'")

    def _resolve(self, ratings: Ratings) -> None:
        self.unknown_weight_ = float(self.unknown_weight)
        self.origin_ = self.global_mean_ = 0.0
        self.user_bias_ = self.item_bias_ = None

    # ----------------------------------------------------------- what a cell means

    def _cells(self, ratings: Ratings, beta: np.ndarray, gamma: np.ndarray) -> Cells:
        self._check_counts(ratings)
        matrix = ratings.by_user
        x, slope, start = self._confidence_line(ratings)
        from_w = 0.0 if self.whole_matrix else self.unknown_weight_
        line = np.array([slope, start - from_w, slope, start])
        y = x
        if ratings.nnz and matrix.data.min() <= 0:            # p = 0: b = w p is no line in x
            y = filled_beside(x, lambda chunk: (slope * x[chunk] + start)
                              * (matrix.data[chunk] > 0), ratings.nnz, x.dtype)
            line[2:] = 1.0, 0.0
        return Cells(matrix.indptr, matrix.indices, read_only(x), read_only(y), line)

    def _confidence_line(self, ratings: Ratings) -> tuple[np.ndarray, float, float]:
        """Return x, slope and start of w = slope·x + start."""
        count = ratings.by_user.data
        signed = bool(ratings.nnz) and count.min() < 0
        slope, start = {"raw": (self.alpha, 0.0), "constant": (0.0, self.alpha)}.get(
            self.confidence, (self.alpha, 1.0))
        if ratings.weights is not None:
            slope, start, outer, origin = 1.0, 0.0, float(slope), float(start)

        def values(chunk: slice) -> np.ndarray:
            x = count[chunk].astype(real, copy=False)
            x = np.abs(x) if signed else x
            x = np.log1p(x) if self.confidence == "log" else x
            x = x if ratings.weights is None else ratings.weights[chunk] * (outer * x + origin)
            return np.asarray(x)

        real = np.result_type(count, self._real)
        if ratings.weights is not None:
            real = np.result_type(real, ratings.weights)
        if real == count.dtype and not signed and self.confidence != "log" \
                and ratings.weights is None:
            return count, float(slope), float(start)
        return filled_beside(count, values, ratings.nnz, real), float(slope), float(start)

    def _constant(self, ratings: Ratings) -> float:
        x, slope, start = self._confidence_line(ratings)
        data = ratings.by_user.data
        return slope * summed(lambda chunk: float(x[chunk].sum(
            dtype=np.float64, where=data[chunk] > 0)), ratings.nnz) \
            + start * summed(lambda chunk: int(np.count_nonzero(data[chunk] > 0)), ratings.nnz)
