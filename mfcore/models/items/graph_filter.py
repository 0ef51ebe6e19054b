"""The graph filter: what is near in the graph of users and items, and what is smooth on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from mfcore.data.features import choices
from mfcore.data.ratings import Ratings
from mfcore.metrics.fitted import Asked, Folded, NewRows, Query, Scorer
from mfcore.models.fitted import cosine_scorer
from mfcore.models.items.inputs import (
    FEWEST_VECTORS,
    check_choices,
    check_vectors,
    leading,
    n_vectors,
    row_of_each,
)
from mfcore.models.recommender import Recommender
from mfcore.models.settings import fitted, setting, settings
from mfcore.models.sides import Side, Sides
from mfcore.models.training import Start
from mfcore.nn.sparse import times
from mfcore.objectives.graph import Graph, GraphScorer, degrees
from mfcore.parallel import Pool
from mfcore.solvers.singular import Basis, SubspaceIteration, drawn

# Rows of the smaller side of the ratings per vector, and the share of what chance alone makes of
# singular values that a vector's must exceed.
PER_VECTOR, OF_CHANCE = 16, 0.9


@settings("dtype", "random_state", "n_threads", "verbose")
class GraphFilter(Recommender):
    """Rank items by two filters on the graph of users and items, in closed form.

    With R = D_u^-1/2 X D_i^-1/2, D_u and D_i the sums of rows and columns of X, and V its leading
    right singular vectors,

        s_u = x_u ( RᵀR + share · D_i^-1/2 V Vᵀ D_i^1/2 )

    The first part is what users with items in common have taken, the second what all users say
    about the slow directions of the graph.  Nothing is learned but V.

    Parameters
    ----------
    n_factors : int, >= 1, or "auto"
        Columns of V.  "auto": as many as have singular values above 0.9 of those that choices made
        at random would have (objectives/graph.py), from 16 on, but at most one per 16 rows of the
        smaller side of the ratings, and 512.  Beyond that side there are none, and columns are
        zeros.
    share : float, >= 0
        Weight of the second part; 0 leaves the walk alone.
    values : {"binary", "raw"}
        X holds 1 for each rating above 0, or the ratings as they are, which must then be >= 0.
    n_epochs : int, >= 1
        Steps of the subspace iteration that finds V.
    memory : float, > 0
        Gigabytes that the fit may take besides the ratings.
    dtype : {"float32", "float64"}
    random_state, n_threads, verbose
        As in `MatrixFactorization`; the seed draws the start of the iteration.

    Notes
    -----
    `item_factors_` holds q_i = d_i^1/2 V_i, so that the second part is p_u·q_i with
    p_u = share Σ_j x_uj q_j / d_j: `user_factors_`, made when asked for.  The cosines of
    `recommend` and `similar_items` compare these vectors.
    New users are served as those of the fit: nothing is learned for either.
    A list costs Σ_j n_j over the user's items, the ratings of all who took one of them, and
    n_items n_factors multiplications; items × items is never made.
    The graph is the model: a file saved with seen=False still holds who has taken what, user by
    user, though neither the ratings nor the names.
    `history_["loss"]` is ‖R − R V Vᵀ‖², before the step.

    References
    ----------
    Shen, Wu, Zhang, Shan, Zhang, Letaief, Li 2021 (GF-CF); Halko, Martinsson, Tropp 2011.

    See Also
    --------
    PureSVD : the second part alone, on ratings that are not normalised.
    EASE : item weights that are learned, for up to some 40,000 items.

    Examples
    --------
    >>> from mfcore import GraphFilter, fetch
    >>> hobbies = fetch("planted-audiences")            # what people with one of four hobbies buy
    >>> model = GraphFilter(random_state=0).fit(hobbies.ratings)
    >>> items, scores = model.recommend([0], k=5)       # a gardener
    >>> sorted({hobbies.item_titles[item].split()[0] for item in items[0]})
    ['Gardening']
    """

    n_factors: int | str = setting(default="auto", low=1, among=("auto",), kw_only=False)
    share: float = setting(default=0.3, low=0)
    values: str = setting(default="binary", among=("binary", "raw"))
    n_epochs: int = setting(default=6, low=1)
    memory: float = setting(default=8.0, above=0)

    graph_: Ratings = fitted()
    singular_values_: np.ndarray = fitted(doc="Leading singular values of R, shape (n_factors,).")
    user_degrees_: np.ndarray = fitted(doc="Sums of the rows of X, shape (n_users,).")
    item_degrees_: np.ndarray = fitted(doc="Sums of its columns, shape (n_items,).")

    predicts_ratings = False

    def widths(self) -> dict[str, int]:
        """Return the length of vectors, if it is given."""
        return {} if isinstance(self.n_factors, str) else {"factor": self.n_factors}

    def check(self, ratings: Ratings) -> None:
        """Raise for ratings without choices, too many vectors, or more than the memory holds."""
        check_choices(ratings, self.values, self.dtype)
        check_vectors(ratings, n_vectors(self.n_factors, ratings.shape, PER_VECTOR), self.memory,
                      self.dtype)

    def begin(self, ratings: Ratings, sides: Sides, random: np.random.Generator) -> Start:
        """Return where a fit begins, and what improves it."""
        self.global_mean_, self.graph_ = 0.0, choices(ratings, self.values)
        weighted = self.values == "raw"
        self.user_degrees_, self.item_degrees_ = (
            degrees(each, weighted) for each in (self.graph_.by_user, self.graph_.by_item))
        k, real = n_vectors(self.n_factors, ratings.shape, PER_VECTOR), np.dtype(self.dtype)
        solver = SubspaceIteration(*self._graph().normalised(real), k)
        scale = np.sqrt(self.item_degrees_).astype(real)

        least = (OF_CHANCE * self._graph().of_chance) ** 2

        def publish(at: Basis) -> None:
            kept = k if self.n_factors != "auto" else \
                min(max(int((at.theta > least).sum()), FEWEST_VECTORS), k)
            self.singular_values_, sides.items.factors = leading(at, kept, scale)

        return Start(solver, drawn(k, ratings.shape, real, random), publish)

    def _graph(self) -> Graph:
        return Graph(self.graph_.by_user, self.graph_.by_item, self.values == "raw",
                     self.user_degrees_, self.item_degrees_)

    def answers(self) -> Filtered:
        """Return what is asked of the fitted model."""
        return Filtered(self._graph(), self.items_, self.share,
                        row_of_each(self, self.values, self.dtype))

    @property
    def user_factors_(self) -> np.ndarray:
        """Vectors of the users, p_u, shape (n_users, n_factors)."""
        self.check_seen()
        with Pool(self.n_threads) as pool:
            factors: np.ndarray = self.answers().vectors(np.arange(self.n_users_), pool).factors
        return factors


@dataclass(frozen=True)
class Filtered:
    """The answers of a graph filter.

    graph : Graph
    items : Side, whose vectors are q
    share : α
    rows_of : rows_of(asked) returns x of users
    """

    graph: Graph
    items: Side
    share: float
    rows_of: Callable[[Asked], sp.csr_array]

    def vectors(self, asked: Asked, pool: Pool) -> Folded:
        """Return p of users."""
        return self._vectors(self.rows_of(asked), pool)

    def _vectors(self, rows: sp.csr_array, pool: Pool) -> Folded:
        Q = self.items.factors
        return Folded(times(self.graph.vectors(rows, Q, self.share), Q, pool), None)

    def fold_in(self, new: NewRows, pool: Pool) -> Folded:
        """Return p of new users."""
        return self.vectors(new, pool)

    def _scorer(self, asked: Asked, pool: Pool) -> GraphScorer:
        rows = self.rows_of(asked)
        return GraphScorer(rows, self.graph, self._vectors(rows, pool).factors,
                           self.items.factors, self.items.longest)

    def scorer(self, asked: Asked, query: Query, pool: Pool) -> Scorer:
        """Return what scores users against all items."""
        if query.similarity == "cosine":
            return cosine_scorer(self.vectors(asked, pool), self.items)
        return self._scorer(asked, pool)

    def pairs(self, rows: np.ndarray, columns: np.ndarray, new: NewRows | None, pool: Pool
              ) -> np.ndarray:
        """Return the scores of pairs; an unknown user or item scores 0."""
        asked, place = np.unique(rows[rows >= 0], return_inverse=True)
        scorer = self._scorer(asked if new is None else new.select(asked), pool)
        places = np.full(len(rows), -1)
        places[rows >= 0] = place
        order = np.argsort(places, kind="stable")            # (a row at a time)
        scores = np.empty(len(rows))
        scores[order] = scorer.exact(places[order], columns[order])
        return scores

    def explain(self, ratings: Ratings, row: int, column: int, k: int
                ) -> tuple[float, np.ndarray, np.ndarray]:
        """Return a user's score of an item, and the k items of its row that add most to it."""
        x = self.rows_of(np.array([row]))
        parts = self.graph.contributions(x.indices, x.data, column, self.items.factors, self.share)
        best = np.argsort(-parts, kind="stable")[:k]
        return float(parts.sum()), x.indices[best], parts[best]
