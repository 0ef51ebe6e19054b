"""Singular vectors of the ratings, unknown cells taken as 0."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from mfcore.data.features import choices
from mfcore.data.ratings import Ratings
from mfcore.metrics.fitted import Folded, NewRows
from mfcore.models.fitted import Linear
from mfcore.models.items.inputs import (
    check_vectors,
    inputs,
    leading,
    n_vectors,
)
from mfcore.models.recommender import Recommender
from mfcore.models.settings import fitted, setting, settings
from mfcore.models.sides import Sides
from mfcore.models.training import Start
from mfcore.nn.sparse import times
from mfcore.objectives.neighbours import by_item
from mfcore.parallel import Pool
from mfcore.solvers.singular import Basis, SubspaceIteration, best_width, drawn

# Rows of the smaller side of the ratings per vector.
PER_VECTOR = 64


@settings("dtype", "random_state", "n_threads", "verbose")
class PureSVD(Recommender):
    """Rank items by the leading singular vectors of the ratings: s_u = x_u V Vᵀ.

    V, VᵀV = I, minimises ‖X − X V Vᵀ‖², in which unknown cells count as 0 like known ones.

    Parameters
    ----------
    n_factors : int, >= 1, or "auto"
        Columns of V.  "auto": at most one per 64 rows of the smaller side of the ratings, from 16
        to 512 (but no more than half of it); of these as many as rank a held-out tenth best, a
        power of two or all.  Beyond that side there are none, and columns are zeros.
    values : {"binary", "raw"}
        X holds 1 for each rating above 0, or the ratings as they are: "raw" where a larger number
        is a stronger choice, and no count is huge.
    n_epochs : int, >= 1
        Steps of the subspace iteration that finds V.
    memory : float, > 0
        Gigabytes that the fit may take besides the ratings.
    dtype : {"float32", "float64"}
    random_state, n_threads, verbose
        As in `MatrixFactorization`; the seed draws the start of the iteration.

    Notes
    -----
    `item_factors_` is V and `user_factors_` X V, so that a new user is served like one of the fit.
    `history_["loss"]` is ‖X − X V Vᵀ‖², before the step.

    References
    ----------
    Cremonesi, Koren, Turrin 2010; Halko, Martinsson, Tropp 2011.

    See Also
    --------
    GraphFilter : the same of ratings that are normalised, with the walk of two steps.
    ImplicitMF : unknown cells with a weight of their own.

    Examples
    --------
    >>> from mfcore import PureSVD, fetch
    >>> hobbies = fetch("planted-audiences")            # what people with one of four hobbies buy
    >>> model = PureSVD(16, random_state=0).fit(hobbies.ratings)
    >>> items, scores = model.recommend([0], k=5)       # a gardener
    >>> sorted({hobbies.item_titles[item].split()[0] for item in items[0]})
    ['Gardening']
    """

    n_factors: int | str = setting(default="auto", low=1, among=("auto",), kw_only=False)
    values: str = setting(default="binary", among=("binary", "raw"))
    n_epochs: int = setting(default=6, low=1)
    memory: float = setting(default=8.0, above=0)

    singular_values_: np.ndarray = fitted(doc="Leading singular values of X, shape (n_factors,).")

    predicts_ratings = False

    def widths(self) -> dict[str, int]:
        """Return the length of vectors, if it is given."""
        return {} if isinstance(self.n_factors, str) else {"factor": self.n_factors}

    def check(self, ratings: Ratings) -> None:
        """Raise for ratings without choices, too many vectors, or more than the memory holds."""
        data = ratings.by_user.data
        if not (data > 0 if self.values == "binary" else data != 0).any():
            raise ValueError("ratings must hold at least one choice, got none: with "
                             "values='binary' these are those above 0")
        check_vectors(ratings, n_vectors(self.n_factors, ratings.shape, PER_VECTOR), self.memory,
                      self.dtype)

    def begin(self, ratings: Ratings, sides: Sides, random: np.random.Generator) -> Start:
        """Return where a fit begins, and what improves it."""
        self.global_mean_ = 0.0
        X = self._inputs(choices(ratings, self.values))
        k = kept = n_vectors(self.n_factors, ratings.shape, PER_VECTOR)
        if self.n_factors == "auto":
            with Pool(self.n_threads) as pool:
                kept = best_width(X, k, self.n_epochs, random.spawn(1)[0], pool)

        def publish(at: Basis) -> None:
            self.singular_values_, sides.items.factors = leading(at, kept)
            with Pool(self.n_threads) as pool:
                sides.users.factors = times(X, sides.items.factors, pool)

        return Start(SubspaceIteration(X, by_item(X), k),
                     drawn(k, ratings.shape, np.dtype(self.dtype), random), publish)

    def _inputs(self, ratings: Ratings) -> sp.csr_array:
        return inputs(ratings, self.values, self.dtype)

    def answers(self) -> Linear:
        """Return what is asked of the fitted model."""
        def fold(new: NewRows, pool: Pool) -> Folded:
            V = np.asarray(self.items_.factors)
            return Folded(times(self._inputs(new.known(len(V))), V, pool), None)

        return Linear(self.users_, self.items_, 0.0, fold)
