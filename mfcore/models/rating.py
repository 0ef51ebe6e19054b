"""Models of ratings: what a stored cell, the unknown and a bias mean in the formula."""

from __future__ import annotations

import numpy as np

from mfcore import validation
from mfcore.data.canonical import read_only
from mfcore.data.chunks import filled_beside, rows_of_cells, summed
from mfcore.data.ratings import Ratings
from mfcore.models.quadratic import QuadraticModel
from mfcore.objectives.biases import mean_biases, row_bias
from mfcore.objectives.factors import Factors
from mfcore.objectives.quadratic import Cells


class RatingModel(QuadraticModel):
    """Base of MatrixFactorization and BayesianMF: s_ui = B_ui + P_u·Q_i."""

    bias: str | None
    bias_share: float
    unknown_weight: float | str
    unknown_value: float | str

    def _validate(self) -> None:
        super()._validate()
        validation.choice("bias", self.bias, ("mean", "learned", None))
        validation.real("bias_share", self.bias_share, low=0, high=1)
        validation.real_or_choice("unknown_weight", self.unknown_weight, ("balanced",), low=0)
        validation.real_or_choice("unknown_value", self.unknown_value, ("bias",))
        if self.unknown_value == "bias" and self.bias != "mean":
            raise ValueError(f"unknown_value='bias' needs bias='mean', got bias={self.bias!r}: "
                             f"a bias that is learned cannot be its own target")

    # ------------------------------------------------------ what the data decides

    @property
    def _learns_bias(self) -> bool:
        return self.bias == "learned"

    @property
    def _subtracts_bias(self) -> bool:
        return self.unknown_value == "bias" and self.bias == "mean"

    def _resolve(self, ratings: Ratings) -> None:
        self.unknown_weight_ = _unknown_weight(self.unknown_weight, ratings)
        self.global_mean_ = self.mean_rating_ if self.bias else 0.0
        # Without unknown cells r0 is free: measuring from the mean keeps float32 accurate.
        self.origin_ = self.global_mean_
        if self.unknown_weight_ > 0 and not self._subtracts_bias:
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
        if ratings.weights is None:
            w, line = matrix.data, np.array([0.0, 1.0 - w0, 1.0, 0.0])
        else:
            w, line = ratings.weights, np.array([1.0, -w0, 1.0, 0.0])

        def pulls(chunk: slice) -> np.ndarray:
            target = self._targets(ratings, beta, gamma, chunk)
            return target if ratings.weights is None else w[chunk] * target

        pull = filled_beside(matrix.data, pulls, ratings.nnz, self._real)
        return Cells(matrix.indptr, matrix.indices, read_only(w), read_only(pull), line)

    def _targets(self, ratings: Ratings, beta: np.ndarray | None, gamma: np.ndarray | None,
                 chunk: slice) -> np.ndarray:
        """Return t of a chunk of the stored cells, measured from r0 or from B."""
        matrix = ratings.by_user
        target: np.ndarray = matrix.data[chunk].astype(np.float64) - self.origin_
        if self._subtracts_bias and beta is not None and gamma is not None:
            target -= beta[rows_of_cells(matrix.indptr, chunk)]
            target -= gamma[matrix.indices[chunk]]
        return target

    def _constant(self, ratings: Ratings) -> float:
        def squares(chunk: slice) -> float:
            square = self._targets(ratings, self.user_bias_, self.item_bias_, chunk) ** 2
            return float(square.sum() if ratings.weights is None
                         else ratings.weights[chunk] @ square)

        return summed(squares, ratings.nnz)


def _unknown_weight(weight: float | str, ratings: Ratings) -> float:
    if weight != "balanced":
        return float(weight)
    unknown = ratings.shape[0] * ratings.shape[1] - ratings.nnz
    if unknown == 0:
        raise ValueError("unknown_weight='balanced' needs cells without a rating, got a full "
                         "matrix")
    known = ratings.nnz if ratings.weights is None else ratings.weights.sum(dtype=np.float64)
    return float(known) / unknown
