"""The linear autoencoder: every item is predicted by all others, in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.ratings import Ratings
from mfcore.models.inputs import check_chosen, stated
from mfcore.models.items.inputs import inputs
from mfcore.models.items.rows import DenseWeights, Rows, RowsSide, whole
from mfcore.models.recommender import Recommender
from mfcore.models.settings import fitted, setting, settings
from mfcore.models.sides import Sides
from mfcore.models.training import Start
from mfcore.objectives.linear import LinearAutoencoder
from mfcore.solvers.linear import TILE, ClosedForm, Weights


@settings("dtype", "n_threads", "verbose")
class EASE(Recommender):
    """Rank items by a linear function of a user's row: s_u = x_u B, diag B = 0.

    Minimises ‖X − X B‖² + Σ_ij Λ_i B_ij², Λ_i = λ + p/(1−p) (XᵀX)_ii, in closed form.

    Parameters
    ----------
    reg : float, > 0
        λ, penalty weight of B.  The one parameter that matters: larger where ratings are few or
        noisy.
    dropout : float in [0, 1)
        p, the share of cells that training leaves out at random: 0 is EASE, more is EDLAE.
    values : {"binary", "raw"}
        X holds 1 for each rating above 0, or the ratings as they are: "raw" where a larger number
        is a stronger choice, and no count is huge.
    memory : float, > 0
        Gigabytes that the n_items × n_items matrix and its tiles may take.
    dtype : {"float32", "float64"}
        Precision of B; float32 does for recommending.
    n_threads, verbose
        As in `MatrixFactorization`.

    Notes
    -----
    A user's vector is its row, an item's the column of B: `user_factors_` is CSR, of shape
    (n_users, n_items), `item_factors_` a view of `weights_`.  A new user needs no solve.
    Saved with seen=False, the model answers for new rows alone.
    `history_` has one epoch, whose loss is the minimum.

    References
    ----------
    Steck 2019 (EASE); Steck 2020 (EDLAE).

    See Also
    --------
    SparseEASE : The same with a few items for each, for large catalogues.
    MultVAE : A network from the same row.

    Examples
    --------
    >>> from mfcore import EASE, fetch
    >>> hobbies = fetch("planted-audiences")            # what people with one of four hobbies buy
    >>> model = EASE().fit(hobbies.ratings)
    >>> items, scores = model.recommend([0], k=5)       # a gardener
    >>> sorted({hobbies.item_titles[item].split()[0] for item in items[0]})
    ['Gardening']
    >>> score, because, parts = model.explain(0, items[0, 0], k=3)    # by what was bought
    >>> sorted({hobbies.item_titles[item].split()[0] for item in because})
    ['Gardening']
    """

    reg: float = setting(default=400.0, above=0)
    dropout: float = setting(default=0.0, check=validation.rate)
    values: str = setting(default="binary", among=("binary", "raw"))
    memory: float = setting(default=8.0, above=0)

    weights_: np.ndarray = fitted(doc="B, shape (n_items, n_items).")

    predicts_ratings = False
    side_type = RowsSide
    weights_axes = "item item"

    def check(self, ratings: Ratings) -> None:
        """Raise for more items than the memory holds, and where nobody has chosen anything."""
        if self.values == "binary":
            check_chosen(ratings)
        n, size = ratings.shape[1], np.dtype(self.dtype).itemsize
        needed = size * n * (n + 4 * TILE) / 1e9
        if needed > self.memory:
            raise ValueError(f"memory must be at least {stated(needed)} gigabytes for {n} items in "
                             f"{self.dtype}, got {self.memory:g}; leave out rare items, raise "
                             f"memory, or take SparseEASE")

    def begin(self, ratings: Ratings, sides: Sides, random: np.random.Generator) -> Start:
        """Return room for B, and what fills it."""
        n = ratings.shape[1]
        self.global_mean_ = 0.0

        def publish(at: Weights) -> None:
            self.weights_ = at.B

        problem = LinearAutoencoder(self._inputs(ratings), self.reg, self.dropout)
        return Start(ClosedForm(problem), Weights(np.empty((n, n), self.dtype)), publish)

    def answers(self) -> Rows:
        """Return what is asked of the fitted model."""
        return Rows(DenseWeights(whole(self)), self._inputs, self._known)

    def _known(self) -> Ratings:
        """Return the training ratings; raise where they are not known."""
        self.check_seen()
        return self.ratings_

    def _inputs(self, ratings: Ratings) -> sp.csr_array:
        return inputs(ratings, self.values, self.dtype)

    @property
    def user_factors_(self) -> Any:
        """The rows of the fit, CSR, shape (n_users, n_items)."""
        return self._inputs(self.ratings_)

    @property
    def item_factors_(self) -> np.ndarray:
        """The columns of B, shape (n_items, n_items), a view."""
        return self.weights_.T
