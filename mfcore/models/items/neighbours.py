"""Models of neighbours: an item is scored by what a user has of the items most like it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.features import choices
from mfcore.data.positions import named
from mfcore.data.ratings import Ratings
from mfcore.metrics.topk import top_k
from mfcore.models.fitted import framed, framing, length_of_lists
from mfcore.models.inputs import item_filters, stated
from mfcore.models.items.inputs import check_choices, inputs
from mfcore.models.items.rows import Rows, RowScorer, RowsSide, SparseWeights, whole
from mfcore.models.recommender import Recommender
from mfcore.models.settings import fitted, setting, settings
from mfcore.models.sides import Sides
from mfcore.models.training import Start
from mfcore.objectives.neighbours import Similarity, cosine, walk, weighted
from mfcore.parallel import Pool
from mfcore.solvers.loop import Solver
from mfcore.solvers.neighbours import Lists, Nearest, bytes_needed, empty


class Neighbours(Recommender):
    """What models share whose weights are a sparse matrix: s_u = x_u S.

    A class has the settings n_neighbors, values, memory and dtype, and `_solver(X)`.
    """

    n_neighbors: int
    values: str
    memory: float
    weights_: sp.csr_array

    predicts_ratings = False
    side_type = RowsSide
    weights_axes = "item item"
    # Whether rows of the lists are columns of S.
    lists_columns = True

    def _solver(self, X: sp.csr_array) -> Solver:
        """Return what fills the lists of neighbours."""
        raise NotImplementedError

    def check(self, ratings: Ratings) -> None:
        """Raise for ratings that are not choices, and for more than the memory holds."""
        check_choices(ratings, self.values, self.dtype)
        size, n = np.dtype(self.dtype).itemsize, ratings.shape[1]
        needed, least = (bytes_needed(n, k, ratings.nnz, size) / 1e9 for k in (self.n_neighbors, 1))
        if needed > self.memory:
            raise ValueError(f"memory must be at least {stated(needed)} gigabytes for {n:,} items "
                             f"with {self.n_neighbors} neighbours in {self.dtype} ({stated(least)} "
                             f"for one), got {self.memory:g}; lower n_neighbors, or raise memory")

    def begin(self, ratings: Ratings, sides: Sides, random: np.random.Generator) -> Start:
        """Return room for the neighbours, and what finds them."""
        self.global_mean_ = 0.0

        def publish(at: Lists) -> None:
            matrix = at.matrix()
            self.weights_ = sp.csr_array(matrix.T.tocsr()) if self.lists_columns else matrix

        X = self._inputs(choices(ratings, self.values))
        room = empty(ratings.shape[1], self.n_neighbors, self.dtype)
        return Start(self._solver(X), room, publish)

    def answers(self) -> Rows:
        """Return what is asked of the fitted model."""
        return Rows(SparseWeights(whole(self)), self._inputs, self._known)

    def _known(self) -> Ratings:
        self.check_seen()
        return self.ratings_

    def _inputs(self, ratings: Ratings) -> sp.csr_array:
        return inputs(ratings, self.values, self.dtype)

    def similar_items(self, of: Any, k: int = 10, *, similarity: str = "cosine",
                      items: Any = None, exclude_items: Any = None,
                      as_frame: bool | str | None = None, titles: Any = None) -> Any:
        """Return the k items nearest to each given one: see `MatrixFactorization.similar_items`.

        An item's vector is its column of `weights_`: how much each other item speaks for it.
        """
        self.check_fitted()
        table, columns = framing(self, as_frame, titles), self.ratings_.known_items(of)
        k = length_of_lists(k, self.n_items_, table)
        validation.choice("similarity", similarity, ("cosine", "dot"))
        filters = item_filters(self.ratings_, len(columns), items, exclude_items, row="item")
        vectors = sp.csr_array(self.item_factors_[columns])
        itself = sp.csr_array((np.ones(len(columns)), columns, np.arange(len(columns) + 1)),
                              shape=vectors.shape)
        scorer = RowScorer(vectors, SparseWeights(whole(self)), similarity == "cosine")
        with Pool(self.n_threads) as pool:
            best, scores = top_k(scorer, k, seen=itself, allowed=filters.allowed,
                                 excluded=filters.excluded, pool=pool)
        return framed(table, "item", columns, named(best, self.item_ids_), scores)

    @property
    def user_factors_(self) -> Any:
        """The rows of the fit, CSR, shape (n_users, n_items)."""
        return self._inputs(self.ratings_)

    @property
    def item_factors_(self) -> sp.csr_array:
        """The columns of S, CSR, shape (n_items, n_items)."""
        return sp.csr_array(self.weights_.T.tocsr())


@settings("dtype", "n_threads", "verbose")
class ItemKNN(Neighbours):
    """Rank items by their cosines with the items of a user: s_ui = Σ_j x_uj c_ij.

    c_ij = x_i·x_j / (‖x_i‖ ‖x_j‖ + shrink), for the n_neighbors largest of each item i.

    Parameters
    ----------
    n_neighbors : int, >= 1
        Neighbours of each item: 50 to 400.  Time and memory grow with their number.
    shrink : float, >= 0
        Pulls the cosines of items with few users towards 0: x_i·x_j users in common count in full
        where ‖x_i‖ ‖x_j‖ is far above it.
    weighting : {"none", "tf-idf", "bm25"}
        Weights of cells in the cosines; scores add x itself.
    values : {"binary", "raw"}
        X holds 1 for each rating above 0, or the ratings as they are, which must then be >= 0.
    memory : float, > 0
        Gigabytes that the fit may take besides the ratings.
    dtype : {"float32", "float64"}
    n_threads, verbose
        As in `MatrixFactorization`.

    Notes
    -----
    `weights_` is S, CSR, c_ij in row j and column i; `user_factors_` are the rows of the fit,
    `item_factors_` the columns of S.  New users need no solve, and saved with seen=False the model
    answers for them alone.  The fit costs Σ_u n_u² multiplications: leave out users of
    hundreds of thousands of ratings, who are robots.
    Counting minimises nothing: the loss in `history_` is 0.

    References
    ----------
    Sarwar, Karypis, Konstan, Riedl 2001; Bell, Koren 2007 (shrinkage); Aiolli 2013 (binary rows).

    See Also
    --------
    RP3Beta : the same at the same cost, popularity taken out by a power.
    SparseEASE : weights that know of each other.

    Examples
    --------
    >>> from mfcore import ItemKNN, fetch
    >>> hobbies = fetch("planted-audiences")            # what people with one of four hobbies buy
    >>> model = ItemKNN().fit(hobbies.ratings)
    >>> near, cosines = model.similar_items([0], k=3)
    >>> [hobbies.item_titles[item].split()[0] for item in near[0]]
    ['Gardening', 'Gardening', 'Gardening']
    """

    n_neighbors: int = setting(default=100, low=1)
    shrink: float = setting(default=30.0, low=0)
    weighting: str = setting(default="none", among=("none", "tf-idf", "bm25"))
    values: str = setting(default="binary", among=("binary", "raw"))
    memory: float = setting(default=8.0, above=0)

    weights_: sp.csr_array = fitted(doc="S, CSR, shape (n_items, n_items).")

    def _solver(self, X: sp.csr_array) -> Solver:
        """Return what keeps the largest cosines."""
        return Nearest(lambda: cosine(weighted(X, self.weighting), self.shrink))


@settings("dtype", "n_threads", "verbose")
class RP3Beta(Neighbours):
    """Rank items by a random walk of three steps that is drawn away from popular items.

    s_u = x_u S,   S_ji = Σ_v (x_vj / d_j)^alpha (x_vi / d_v)^alpha / d_i^beta

    d are sums of rows and columns of X; of each row j of S the n_neighbors largest are kept.

    Parameters
    ----------
    n_neighbors : int, >= 1
        Items that a walk from an item may end at.
    alpha : float, > 0
        Power of the probability of a step: below 1 the popular and the rare are nearer to each
        other.
    beta : float, >= 0
        Power of the popularity that scores are divided by: 0 is the walk itself; more lists less
        known items.
    values : {"binary", "raw"}
        X holds 1 for each rating above 0, or the ratings as they are, which must then be >= 0.
    memory : float, > 0
        Gigabytes that the fit may take besides the ratings.
    dtype : {"float32", "float64"}
    n_threads, verbose
        As in `MatrixFactorization`.

    Notes
    -----
    All notes of `ItemKNN` hold.

    References
    ----------
    Paudel, Christoffel, Newell, Bernstein 2017; Cooper, Lee, Radzik, Siantos 2014 (P3).

    See Also
    --------
    ItemKNN : Neighbours by cosine.
    GraphFilter : A walk on the same graph, and a low-rank part.

    Examples
    --------
    >>> from mfcore import RP3Beta, fetch
    >>> hobbies = fetch("planted-audiences")            # what people with one of four hobbies buy
    >>> model = RP3Beta().fit(hobbies.ratings)
    >>> items, scores = model.recommend([0], k=5)       # a gardener
    >>> sorted({hobbies.item_titles[item].split()[0] for item in items[0]})
    ['Gardening']
    """

    n_neighbors: int = setting(default=100, low=1)
    alpha: float = setting(default=0.6, above=0)
    beta: float = setting(default=0.4, low=0)
    values: str = setting(default="binary", among=("binary", "raw"))
    memory: float = setting(default=8.0, above=0)

    weights_: sp.csr_array = fitted(doc="S, CSR, shape (n_items, n_items).")

    lists_columns = False

    def _solver(self, X: sp.csr_array) -> Solver:
        """Return what keeps the likeliest ends of walks."""
        make: Callable[[], Similarity] = lambda: walk(X, self.alpha, self.beta)  # noqa: E731
        return Nearest(make)
