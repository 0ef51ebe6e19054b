"""How a model fills in the quadratic formula: cells, penalties and priors of its ratings."""

from __future__ import annotations

import numpy as np

from mfcore.data.ratings import Ratings
from mfcore.models.grouped import GroupedModel
from mfcore.objectives.penalty import Penalty, counted_cells, penalty_weights
from mfcore.objectives.quadratic import Cells, Quadratic


class ProblemModel(GroupedModel):
    """Base of `QuadraticModel`; a subclass says what a stored cell means.

    Fitted besides the names of `GroupedModel`: `unknown_weight_`, the resolved w0, and
    `origin_`, the rating r0 from which the objective measures.
    """

    reg: float
    reg_scaling: str | float
    dtype: str
    unknown_weight_: float
    origin_: float

    @property
    def _learns_bias(self) -> bool:
        return False

    @property
    def _formula(self) -> type[Quadratic]:
        return Quadratic

    def _cells(self, ratings: Ratings, beta: np.ndarray, gamma: np.ndarray) -> Cells:
        """Return a and b of the stored cells of one orientation.

        `beta`, `gamma` are the biases of its rows and columns, for models that subtract them.
        """
        raise NotImplementedError

    def _constant(self, ratings: Ratings) -> float:
        """Return Σ_Ω w t²."""
        raise NotImplementedError

    def _row_bias(self, ratings: Ratings) -> np.ndarray | None:
        """Return the fixed biases of the rows, or None where there are none."""
        return None

    def _bias_penalty(self) -> tuple[float, str | float]:
        """Return λᵇ and how it grows with the ratings."""
        return self.reg, self.reg_scaling

    def _frozen_user_bias(self) -> np.ndarray:
        """Return β of the users, measured from r0, as the solver holds it."""
        return np.zeros(len(self.user_factors_), self.user_factors_.dtype)

    def _frozen_item_bias(self) -> np.ndarray:
        """Return γ of the items, as the solver holds it."""
        return np.zeros(len(self.item_factors_), self.item_factors_.dtype)

    def _solver_bias(self, fixed: np.ndarray | None, start: float, n_rows: int) -> np.ndarray:
        """Return the bias column of rows as the solver holds it."""
        bias = np.full(n_rows, start, self._real)
        return bias if fixed is None else bias + fixed.astype(self._real)

    def _bias_start(self) -> float:
        """Return β⁰: what every user's β starts from, measured from r0."""
        return 0.0

    def _penalty(self, ratings: Ratings, n_others: int, bias_mean: float) -> Penalty:
        counts = counted_cells(ratings)
        reg, bias_reg = (penalty_weights(counts, *how, self.unknown_weight_, n_others)
                         for how in ((self.reg, self.reg_scaling), self._bias_penalty()))
        return Penalty(reg, bias_reg, np.zeros((1, self.n_factors), self._real),
                       np.array([bias_mean]))

    def _check_width(self, Q: np.ndarray) -> None:
        """Raise ValueError where n_factors was changed after the fit; kernels would not see it."""
        if Q.shape[1] != self.n_factors:
            raise ValueError(f"n_factors is {self.n_factors}, and the fitted vectors have "
                             f"{Q.shape[1]}: set it back, or fit again")

    @property
    def _real(self) -> np.dtype:
        return np.dtype(self.dtype)

    def _problem(self, ratings: Ratings) -> Quadratic:
        turned = ratings.transposed
        beta, gamma = (np.zeros(n) if bias is None else bias for n, bias in
                       zip(ratings.shape, (self.user_bias_, self.item_bias_), strict=True))
        return self._formula(
            self._cells(ratings, beta, gamma), self._cells(turned, gamma, beta),
            self._prior(self._penalty(ratings, ratings.shape[1], self._bias_start()), "user"),
            self._prior(self._penalty(turned, ratings.shape[0], 0.0), "item"),
            self.unknown_weight_, self._learns_bias, self._constant(ratings))
