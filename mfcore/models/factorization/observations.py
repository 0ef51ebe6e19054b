"""What a stored cell means: observation models of explicit ratings, of labels, and of counts.

An observation model is resolved once from the whole ratings of a fit and is frozen: it turns
ratings, those of the fit or of new rows, into the cells a and b of the formula
(objectives/quadratic.py), and says what biases are.

    explicit ratings   r with weight w; B_ui none, fixed (mean biases) or learned
    binary labels      from 0 (disliked) to 1 (liked), by the logistic loss
    implicit counts    p = 1 where something was counted, with confidence w

It holds a few numbers and no array, so that a worker of a cluster gets the decisions of the
whole and none of a block's own.  All of them have

    real, w0, origin, mean     dtype of factors; weight and rating r0 of unknown cells; μ
    unit                       σ, the unit of ratings: λ = σ times the number that a model names
    learns_bias, start         whether β and γ are free; β⁰, what every user's β starts from
    held(fixed, start, n)      the bias column of n rows, as the solver holds it
    row_bias(ratings)          fixed biases of rows, or None
    cells(ratings, β, γ)       a and b of the stored cells, given the biases of rows and columns
    constant(ratings, β, γ)    Σ_Ω w t²
    of_new(ratings)            the model of new rows
    formula, found, solve      the objective; what finds its penalties; what solves its rows
    link                       what `predict` makes of scores
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from scipy.special import expit

from mfcore.data.canonical import read_only
from mfcore.data.chunks import filled_beside, rows_of_cells, summed
from mfcore.data.ratings import Ratings
from mfcore.models.sides import Sides
from mfcore.objectives.biases import mean_biases, mean_size, row_bias
from mfcore.objectives.pointwise import Logistic
from mfcore.objectives.quadratic import Cells, Quadratic
from mfcore.solvers.als import solve_exactly
from mfcore.solvers.automatic import Found, found_for_labels, found_penalties

Bias = np.ndarray | None


# ------------------------------------------------------------------- explicit ratings

@dataclass(frozen=True)
class ExplicitRatings:
    """Ratings: s_ui = B_ui + P_u·Q_i is near r_ui, at the weight of the cell.

    bias : "learned", "mean" or None; share : c of the fixed bias
    mean_rating : of the ratings, from which mean biases are measured
    subtracts : whether B is the value of unknown cells, and subtracted from known ones too
    """

    real: np.dtype
    w0: float
    origin: float
    mean: float
    unit: float
    start: float
    learns_bias: bool
    bias: str | None
    share: float
    mean_rating: float
    subtracts: bool

    formula = Quadratic
    found: ClassVar[Callable[..., Found]] = staticmethod(found_penalties)
    solve: ClassVar[Callable[..., Any]] = staticmethod(solve_exactly)
    link: ClassVar[Callable[..., Any] | None] = None

    def held(self, fixed: Bias, start: float, n_rows: int) -> np.ndarray:
        """Return the bias column of rows as the solver holds it; none where B is subtracted."""
        bias = np.full(n_rows, start, self.real)
        return bias if fixed is None or self.subtracts else bias + fixed.astype(self.real)

    def fixed_biases(self, ratings: Ratings) -> tuple[Bias, Bias]:
        """Return the biases of users and items with which a fit starts."""
        if self.bias == "mean":
            user, item = mean_biases(ratings, self.mean_rating, self.share)
            return user.astype(self.real), item.astype(self.real)
        if self.bias is None:
            return None, None
        n_users, n_items = ratings.shape
        return np.zeros(n_users, self.real), np.zeros(n_items, self.real)

    def row_bias(self, ratings: Ratings) -> Bias:
        """Return the fixed biases of the rows, or None where there are none."""
        return None if self.bias != "mean" else row_bias(ratings, self.mean_rating, self.share)

    def of_new(self, ratings: Ratings) -> ExplicitRatings:
        """Return the model of new rows: the same."""
        return self

    def cells(self, ratings: Ratings, beta: np.ndarray, gamma: np.ndarray) -> Cells:
        """Return a = w − w0 and b = w t, as lines in arrays that exist where that can be."""
        matrix, w0 = ratings.by_user, self.w0
        if ratings.weights is None and not self.subtracts:
            line = np.array([0.0, 1.0 - w0, 1.0, -self.origin])
            return Cells(matrix.indptr, matrix.indices, matrix.data, matrix.data, line)
        if ratings.weights is None:
            w, line = matrix.data, np.array([0.0, 1.0 - w0, 1.0, 0.0])
        else:
            w, line = ratings.weights, np.array([1.0, -w0, 1.0, 0.0])

        def pulls(chunk: slice) -> np.ndarray:
            target = self._targets(ratings, beta, gamma, chunk)
            return target if ratings.weights is None else w[chunk] * target

        pull = filled_beside(matrix.data, pulls, ratings.nnz, self.real)
        return Cells(matrix.indptr, matrix.indices, read_only(w), read_only(pull), line)

    def _targets(self, ratings: Ratings, beta: Bias, gamma: Bias, chunk: slice) -> np.ndarray:
        """Return t of a chunk of the stored cells, measured from r0 or from B."""
        matrix = ratings.by_user
        target: np.ndarray = matrix.data[chunk].astype(np.float64) - self.origin
        if self.subtracts and beta is not None and gamma is not None:
            target -= beta[rows_of_cells(matrix.indptr, chunk)]
            target -= gamma[matrix.indices[chunk]]
        return target

    def constant(self, ratings: Ratings, beta: Bias, gamma: Bias) -> float:
        """Return Σ_Ω w t²."""
        def squares(chunk: slice) -> float:
            square = self._targets(ratings, beta, gamma, chunk) ** 2
            return float(square.sum() if ratings.weights is None
                         else ratings.weights[chunk] @ square)

        return summed(squares, ratings.nnz)


def check_target(model: Any) -> None:
    """Raise for a bias as the value of unknown cells that is not fixed."""
    if model.unknown_value == "bias" and model.bias != "mean":
        raise ValueError(f"unknown_value='bias' needs bias='mean', got bias={model.bias!r}: "
                         f"a bias that is learned cannot be its own target")


def observe(model: Any, ratings: Ratings, sides: Sides) -> ExplicitRatings:
    """Set what ratings, or labels, decide for a model: w0, μ, r0, the first biases."""
    w0 = model.unknown_weight_ = unknown_weight(model.unknown_weight, ratings)
    mean = model.mean_rating_
    model.rating_scale_ = getattr(model, "rating_scale", None) or model.rating_scale_
    if is_logistic(model):
        mean = log_odds(ratings, w0)
        model.mean_rating_, model.rating_range_ = float(expit(mean)), (0.0, 1.0)
        model.rating_scale_ = 1.0
    model.global_mean_ = mean if model.bias else 0.0
    # Without unknown cells r0 is free: measuring from the mean keeps float32 accurate.
    model.origin_ = 0.0 if is_logistic(model) else model.global_mean_
    if w0 > 0 and model.unknown_value != "bias":
        model.origin_ = float(model.unknown_value)
    observed = observed_by(model)
    sides.users.bias, sides.items.bias = observed.fixed_biases(ratings)
    return observed


def observed_by(model: Any) -> ExplicitRatings:
    """Return the observation model of a model whose ratings are observed."""
    kind = BinaryLabels if is_logistic(model) else ExplicitRatings
    subtracts = model.unknown_value == "bias" and model.bias == "mean"
    start = 0.0 if subtracts else model.global_mean_ - model.origin_
    return kind(np.dtype(model.dtype), model.unknown_weight_, model.origin_, model.global_mean_,
                model.rating_scale_, start, model.bias == "learned", model.bias,
                model.bias_share, model.mean_rating_, subtracts)


def is_logistic(model: Any) -> bool:
    """Return whether a model's ratings are labels."""
    return getattr(model, "loss", "squared") == "logistic"


def unknown_weight(weight: float | str, ratings: Ratings) -> float:
    """Return w0; for "balanced" the weight of the ratings over the number of unknown cells."""
    if weight != "balanced":
        return float(weight)
    unknown = ratings.shape[0] * ratings.shape[1] - ratings.nnz
    if unknown == 0:
        raise ValueError("unknown_weight='balanced' needs cells without a rating, got a full "
                         "matrix")
    known = ratings.nnz if ratings.weights is None else ratings.weights.sum(dtype=np.float64)
    return float(known) / unknown


# --------------------------------------------------------------------- binary labels

@dataclass(frozen=True)
class BinaryLabels(ExplicitRatings):
    """Labels y by the logistic loss: the same cells, a = w − w0 and b = w y, with r0 = 0."""

    formula = Logistic
    found = staticmethod(found_for_labels)
    link = staticmethod(expit)

    @staticmethod
    def solve(systems: Any, P: np.ndarray, beta: np.ndarray, pool: Any) -> None:
        """Bring new rows to their minimum by Newton's method."""
        from mfcore.solvers.newton import solve_logistic

        solve_logistic(systems, P, beta, pool)

    def cells(self, ratings: Ratings, beta: np.ndarray, gamma: np.ndarray) -> Cells:
        """Return a and b; raise ValueError for values that are not labels, of new rows too."""
        check_values(ratings)
        return super().cells(ratings, beta, gamma)

    def constant(self, ratings: Ratings, beta: Bias, gamma: Bias) -> float:
        """Return 0: the logistic formula has no such term."""
        return 0.0


def check_label_parameters(model: Any) -> None:
    """Raise ValueError for parameters that have no meaning with the logistic loss."""
    if not is_logistic(model):
        return
    if model.solver != "sgd":
        raise ValueError(f"loss='logistic' needs solver='sgd', got solver={model.solver!r}: the "
                         f"others solve or step by the quadratic formula")
    if model.bias == "mean":
        raise ValueError("loss='logistic' needs bias='learned' or None, got bias='mean': means of "
                         "labels are no log-odds")
    if model.unknown_value != 0:
        raise ValueError(f"loss='logistic' needs unknown_value=0, got {model.unknown_value!r}: "
                         f"cells without a label count as disliked, by unknown_weight")


def check_values(ratings: Ratings) -> None:
    """Raise ValueError for values that are not labels."""
    y = ratings.by_user.data
    bad = y[(y < 0) | (y > 1)]
    if bad.size:
        raise ValueError(f"loss='logistic' needs values from 0 (disliked) to 1 (liked), got "
                         f"{float(bad[0]):g}; make labels first, such as Ratings.from_arrays("
                         f"users, items, values >= 4)")


def check_labels(ratings: Ratings, weight: float | str) -> None:
    """Raise ValueError for values that are not labels, or that any score would satisfy."""
    check_values(ratings)
    y = ratings.by_user.data
    if weight == 0 and (y == y[0]).all() and y[0] in (0, 1):
        raise ValueError(f"loss='logistic' needs likes and dislikes, but every value is "
                         f"{float(y[0]):g}; set unknown_weight > 0, so that cells without a "
                         f"label count as disliked")


def log_odds(ratings: Ratings, w0: float) -> float:
    """Return ln(Σ w y / (W − Σ w y)), W the weight of all cells: the best constant score.

    Raises ValueError where it is infinite: no weight on likes, or none on dislikes.
    """
    y = ratings.by_user.data.astype(np.float64)
    w = np.ones(len(y)) if ratings.weights is None else ratings.weights.astype(np.float64)
    likes = float(w @ y)
    rest = float(w @ (1 - y)) + w0 * (ratings.shape[0] * ratings.shape[1] - ratings.nnz)
    if not (likes > 0 and rest > 0):
        raise ValueError(f"loss='logistic' needs weight on likes and on dislikes or unknown "
                         f"cells, got {likes:g} and {rest:g}")
    return math.log(likes / rest)


# ------------------------------------------------------------------- implicit counts

@dataclass(frozen=True)
class ImplicitCounts:
    """Counts: p = 1 for counts above 0, else 0, at the confidence w of the count.

    alpha, confidence, whole, negatives : as in `ImplicitMF`
    scale : what counts are measured in
    signed, has_zeros : whether some counts are negative, or not above 0
    """

    real: np.dtype
    w0: float
    alpha: float
    confidence: str
    whole: bool
    negatives: str
    scale: float = 1.0
    signed: bool = False
    has_zeros: bool = False

    origin: ClassVar[float] = 0.0
    mean: ClassVar[float] = 0.0
    unit: ClassVar[float] = 1.0
    start: ClassVar[float] = 0.0
    learns_bias: ClassVar[bool] = False
    formula = Quadratic
    found = staticmethod(found_penalties)
    solve = staticmethod(solve_exactly)
    link = None

    def held(self, fixed: Bias, start: float, n_rows: int) -> np.ndarray:
        """Return the bias column of rows: zeros."""
        return np.zeros(n_rows, self.real)

    def row_bias(self, ratings: Ratings) -> Bias:
        """Return None: there are no biases."""
        return None

    def of_new(self, ratings: Ratings) -> ImplicitCounts:
        """Return the model of other ratings, whose counts may have other signs."""
        least = float(ratings.by_user.data.min()) if ratings.nnz else 1.0
        return replace(self, signed=self.signed or least < 0,
                       has_zeros=self.has_zeros or least <= 0)

    def cells(self, ratings: Ratings, beta: np.ndarray, gamma: np.ndarray) -> Cells:
        """Return a = w − w0 (w alone, where the unknown term covers all cells) and b = w p."""
        check_counts(ratings, self.negatives)
        matrix = ratings.by_user
        x, slope, start = self._confidence_line(ratings)
        from_w = 0.0 if self.whole else self.w0
        line = np.array([slope, start - from_w, slope, start])
        y = x
        if self.has_zeros:                                    # p = 0: b = w p is not a line in x
            y = filled_beside(x, lambda chunk: (slope * x[chunk] + start)
                              * (matrix.data[chunk] > 0), ratings.nnz, x.dtype)
            line[2:] = 1.0, 0.0
        return Cells(matrix.indptr, matrix.indices, read_only(x), read_only(y), line)

    def _confidence_line(self, ratings: Ratings) -> tuple[np.ndarray, float, float]:
        """Return x, slope and start of w = slope·x + start."""
        count, weights, signed = ratings.by_user.data, ratings.weights, self.signed
        slope = self.alpha / (1.0 if self.confidence == "log" else self.scale)
        slope, start = {"raw": (slope, 0.0), "constant": (0.0, self.alpha)}.get(
            self.confidence, (slope, 1.0))
        if weights is not None:
            slope, start, outer, origin = 1.0, 0.0, float(slope), float(start)

        def values(chunk: slice) -> np.ndarray:
            x = count[chunk].astype(real, copy=False)
            x = np.abs(x) if signed else x
            x = np.log1p(x / self.scale).astype(real) if self.confidence == "log" else x
            return np.asarray(x if weights is None else weights[chunk] * (outer * x + origin))

        real = np.result_type(count, self.real)
        if weights is not None:
            real = np.result_type(real, weights)
        elif real == count.dtype and not signed and self.confidence != "log":
            return count, float(slope), float(start)
        return filled_beside(count, values, ratings.nnz, real), float(slope), float(start)

    def constant(self, ratings: Ratings, beta: Bias, gamma: Bias) -> float:
        """Return Σ_Ω w p."""
        x, slope, start = self._confidence_line(ratings)
        data = ratings.by_user.data
        return slope * summed(lambda chunk: float(x[chunk].sum(
            dtype=np.float64, where=data[chunk] > 0)), ratings.nnz) \
            + start * summed(lambda chunk: int(np.count_nonzero(data[chunk] > 0)), ratings.nnz)


def observe_counts(model: Any, ratings: Ratings) -> ImplicitCounts:
    """Set what counts decide for a model, and return their observation model."""
    model.unknown_weight_ = float(model.unknown_weight)
    model.origin_ = model.global_mean_ = 0.0
    model.rating_scale_ = float(model.rating_scale or mean_size(ratings))
    return counted_by(model).of_new(ratings)


def counted_by(model: Any) -> ImplicitCounts:
    """Return the observation model of a model whose ratings are counts.

    Signs are those of training, so that a new row does not depend on the rows next to it.
    """
    least = model.rating_range_[0]
    return ImplicitCounts(np.dtype(model.dtype), model.unknown_weight_, model.alpha,
                          model.confidence, model.whole_matrix, model.negatives,
                          model.rating_scale_, least < 0, least <= 0)


def check_counts(ratings: Ratings, negatives: str) -> None:
    """Raise ValueError for negative counts, unless they mean p = 0."""
    if ratings.nnz and negatives == "error" and ratings.by_user.data.min() < 0:
        raise ValueError(f"counts must be >= 0, got {ratings.by_user.data.min()}; ratings "
                         f"with dislikes want MatrixFactorization, or negatives='zero'")


Observation = ExplicitRatings | ImplicitCounts
