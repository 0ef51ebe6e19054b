"""Matrix factorization of counts: every cell is a preference, with its confidence."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from mfcore.data.ratings import Ratings
from mfcore.models.factorization.core import Backend, Factorized, answers_of, begin
from mfcore.models.factorization.observations import check_counts, counted_by, observe_counts
from mfcore.models.factorization.solvers import ALTERNATING
from mfcore.models.recommender import Recommender
from mfcore.models.settings import TRAINED, fitted, setting, settings
from mfcore.models.sides import FeaturedSide, Sides
from mfcore.models.training import Start
from mfcore.objectives.biases import check_scale

Self = TypeVar("Self", bound="ImplicitMF")

SWEEPS: dict[str, Any] = {"n_epochs": 15}      # of what is like other libraries, as they have them


@settings(*TRAINED)
class ImplicitMF(Recommender):
    """Factorize implicit feedback: p_ui = 1 where something was counted, else 0.

    Minimises, by alternating least squares, with s_ui = P_u·Q_i,

        Σ_stored w (p − s)² + w0 Σ_others s² + Σ_u λ_u ‖P_u‖² + Σ_i λ_i ‖Q_i‖²

    Parameters
    ----------
    n_factors : int, >= 1
        Length k of the vectors.  More helps the more ratings there are, and costs time and memory
        in proportion: begin with 64, and double while held-out ratings gain.
    alpha : float, > 0
        Weight of the counts in the confidence: 1 + alpha is that of a mean count.
    confidence : {"linear", "log", "raw", "constant"}
        w = 1 + alpha·c; 1 + alpha·ln(1 + c); alpha·c; alpha, with c = count / rating_scale.
    rating_scale : float > 0, or None
        What counts are measured in; None: their mean in training (of sizes, if some are negative),
        so that one alpha serves plays, seconds and purchases.  1 leaves them as they are.
    unknown_weight : float, >= 0
        w0, the weight of every cell that is not stored.  Near 0 the model folds: unrelated items
        are recommended (docs/folding.md).
    whole_matrix : bool
        True: the unknown term covers stored cells too, on top of theirs:
        Σ_stored w (1 − s)² + w0 Σ_all s², as iALS and irspack write it (`objective()` counts
        the stored cells' share of the second sum as known).
    negatives : {"error", "zero"}
        What a negative count means: an error, or p = 0 with the confidence of its size.
    reg : float >= 0, or "auto"
        Penalty weight of the vectors; "auto" finds it (`reg_`): see `MatrixFactorization`.  0: no
        penalty.  A row of fewer ratings than factors then has many solutions, and gets the one
        nearest to its prior; scores are those of an exact factorization, but vectors, and so
        `similar_items`, depend on the start.  Where that matters take a small one, such as 1e-3.
    reg_scaling : "none", "count", or float
        λ_u = reg; reg·max(n_u, 1); or reg·max(n_u + w0·n_items, 1)^ν; the same for items.
    feature_reg, history_reg, features
        As in `MatrixFactorization`.
    solver : {"cg", "cholesky", "subspace"}
        Conjugate gradient, the fastest; exact rows, whose time grows with k³; or blocks
        of factors (iALS++), for 256 factors and more.
    n_epochs : int, >= 1
        One epoch is a half-sweep over items and one over users.  Where most users have one or two
        items, more help.
    tol, cg_steps, block_size, init_scale
        As in `MatrixFactorization`.
    patience, validation, refit, eval_metric, dtype, random_state, n_threads, verbose
        As in `MatrixFactorization`; eval_metric defaults to "ndcg@10".

    References
    ----------
    Hu, Koren, Volinsky 2008; Rendle, Krichene, Zhang, Koren 2021 (whole_matrix,
    reg_scaling by ν).

    See Also
    --------
    SoftmaxMF : The same vectors by a ranking loss.
    EASE : Items by items, in closed form.
    MatrixFactorization : Ratings, to predict them.

    Examples
    --------
    >>> from mfcore import ImplicitMF, fetch
    >>> hobbies = fetch("planted-audiences")            # what people with one of four hobbies buy
    >>> model = ImplicitMF(16, random_state=0).fit(hobbies.ratings)
    >>> items, scores = model.recommend([0], k=5)       # a gardener
    >>> sorted({hobbies.item_titles[item].split()[0] for item in items[0]})
    ['Gardening']
    >>> newcomer, _ = model.recommend(ratings=list(items[0]), k=5)
    >>> sorted({hobbies.item_titles[item].split()[0] for item in newcomer[0]})
    ['Gardening']
    """

    n_factors: int = setting(default=128, low=1, kw_only=False)
    alpha: float = setting(default=4.0, above=0)
    confidence: str = setting(default="linear", among=("linear", "log", "raw", "constant"))
    rating_scale: float | None = setting(default=None, above=0)
    unknown_weight: float = setting(default=1.0, low=0)
    whole_matrix: bool = False
    negatives: str = setting(default="error", among=("error", "zero"))
    reg: float | str = setting(default="auto", low=0, among=("auto",))
    reg_scaling: str | float = setting(default=0.25, low=0, high=10, among=("count", "none"))
    feature_reg: float = setting(default=10000.0, above=0)
    history_reg: float = setting(default=100.0, above=0)
    features: str = setting(default="learned", among=("learned", "average"))
    solver: str = setting(default="cg", among=ALTERNATING)
    n_epochs: int = setting(default=6, low=1)
    tol: float | None = setting(default=None, low=0)
    cg_steps: int = setting(default=1, low=1, high=1000)
    block_size: int = setting(default=32, low=1)
    init_scale: float = setting(default=0.1, low=0, high=1e3, above=0)

    unknown_weight_: float = fitted(doc="w0, the weight of unknown cells.")
    reg_: float = fitted(doc="Penalty weight of the vectors.")
    bias_reg_: tuple[float, float] = fitted()
    origin_: float = fitted(doc="The rating at which the objective puts 0: r0, or μ where w0 is 0.")

    predicts_ratings = False
    repeated = "sum"
    side_type = FeaturedSide

    # ------------------------------------------------- the losses of other libraries

    @classmethod
    def like_implicit(cls: type[Self], n_factors: int = 64, *, alpha: float = 1.0,
                      reg: float = 0.01, **params: Any) -> Self:
        """Return the model that minimises the loss of `implicit`'s AlternatingLeastSquares.

        c = alpha·|r| on stored cells (no + 1), 1 elsewhere; a negative r means p = 0.

        Parameters
        ----------
        n_factors, alpha, reg, **params
            As in `ImplicitMF`; reg is its `regularization`, the same for every row, and counts
            are taken as they are.
        """
        return cls(n_factors, alpha=alpha, confidence="raw", rating_scale=1.0, negatives="zero",
                   reg=reg, reg_scaling="none", **SWEEPS | params)

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
        return cls(n_factors, alpha=alpha, confidence="linear", rating_scale=1.0, reg=reg,
                   reg_scaling="count", **SWEEPS | params)

    @classmethod
    def like_ials(cls: type[Self], n_factors: int = 64, *, unknown_weight: float = 0.1,
                  reg: float = 0.003, nu: float = 1.0, **params: Any) -> Self:
        """Return the model that minimises the loss of iALS (Rendle et al. 2021).

        Σ_stored (s − 1)² + α₀ Σ_all s² + λ Σ_u (n_u + α₀ n_items)^ν ‖P_u‖² + items,
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
        return cls(n_factors, alpha=1.0, confidence="constant", whole_matrix=True,
                   unknown_weight=unknown_weight, reg=reg, reg_scaling=nu, **SWEEPS | params)

    # ------------------------------------------------------------------- what it supplies

    def check(self, ratings: Ratings) -> None:
        """Raise for negative counts, unless they are asked for, and where none is above 0."""
        check_counts(ratings, self.negatives)
        if not (ratings.by_user.data > 0).any():
            raise ValueError("ratings must hold at least one count above 0, got none")

    def check_size(self, ratings: Ratings) -> None:
        """Raise DivergenceError for counts, old and new, that vectors of the fit cannot hold."""
        check_scale(1.0, abs(ratings.by_user.data).max() / self.rating_scale_)

    def begin(self, ratings: Ratings, sides: Sides, random: np.random.Generator,
              backend: Backend | None = None) -> Start:
        """Return where a fit begins, and what improves it."""
        observed = observe_counts(self, ratings)
        return begin(self, observed, ratings, sides, random, backend)

    def answers(self) -> Factorized:
        """Return what is asked of the fitted model."""
        return answers_of(self, counted_by(self))
