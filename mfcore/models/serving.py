"""What a fitted recommender answers: predict, recommend, similar_items, similar_users.

A model's score is linear in a user's vector:

    s_ui = mean + b_u + b̃_i + P_u·Q_i
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.ratings import Ratings
from mfcore.metrics.topk import top_k
from mfcore.models.estimator import Estimator
from mfcore.models.inputs import aligned_ratings, as_vector, item_filter, paired
from mfcore.objectives.scores import LinearScorer, pair_scores, unit_rows
from mfcore.parallel import Pool


class Folded(NamedTuple):
    """Vectors of new rows: `factors` (n, k) and `bias` (n,), None where the model has none."""

    factors: np.ndarray
    bias: np.ndarray | None


class Serving(Estimator):
    """Answers from vectors and biases; how they came about is the subclasses' matter."""

    n_threads: int | None
    ratings_: Ratings
    user_factors_: np.ndarray
    item_factors_: np.ndarray
    user_bias_: np.ndarray | None
    item_bias_: np.ndarray | None
    global_mean_: float
    mean_rating_: float
    user_counts_: np.ndarray
    item_counts_: np.ndarray
    has_seen_: bool

    # Whether `predict` is on the scale of the ratings.
    _rates = True

    def _fold_in_rows(self, ratings: Ratings, pool: Pool) -> Folded:
        """Return the vectors of new rows whose columns are the model's items."""
        raise NotImplementedError(f"{type(self).__name__} has no vectors for new rows")

    # ------------------------------------------------------------- rows and columns

    @property
    def n_users_(self) -> int:
        """Number of users of the fit."""
        return self.ratings_.shape[0]

    @property
    def n_items_(self) -> int:
        """Number of items of the fit."""
        return self.ratings_.shape[1]

    @property
    def user_ids_(self) -> np.ndarray | None:
        """Names of the users, or None where they are row numbers."""
        return self.ratings_.user_ids

    @property
    def item_ids_(self) -> np.ndarray | None:
        """Names of the items, or None where they are column numbers."""
        return self.ratings_.item_ids

    def _user_positions(self, users: Any) -> np.ndarray:
        return self.ratings_.user_positions(users)

    def _item_positions(self, items: Any) -> np.ndarray:
        return self.ratings_.item_positions(items)

    def _known_users(self, users: Any) -> np.ndarray:
        if self.user_ids_ is None:
            return validation.positions("users", users, self.n_users_)
        rows = self._user_positions(users := as_vector(users))
        validation.known_ids("users", users.tolist(), rows)
        return rows

    def _known_items(self, items: Any) -> np.ndarray:
        if self.item_ids_ is None:
            return validation.positions("items", items, self.n_items_)
        columns = self._item_positions(items := as_vector(items))
        validation.known_ids("items", items.tolist(), columns)
        return columns

    def _seen_rows(self, rows: np.ndarray) -> sp.csr_array:
        """Return the training cells of the given rows; none for -1."""
        known = np.asarray(rows) >= 0
        seen = self.ratings_.by_user[np.asarray(rows)[known]]
        indptr = np.zeros(len(known) + 1, seen.indptr.dtype)
        indptr[1:][known] = np.diff(seen.indptr)
        return sp.csr_array((seen.data, seen.indices, np.cumsum(indptr, dtype=indptr.dtype)),
                            shape=(len(known), self.n_items_))

    # ---------------------------------------------------------------------- scores

    def _vectors(self, rows: np.ndarray | None, ratings: Ratings | None, pool: Pool
                 ) -> Folded:
        """Return vectors of training rows (zero for -1), or of new rows."""
        if ratings is not None:
            return self._fold_in_rows(ratings, pool)
        known = np.asarray(rows) >= 0
        factors = self.user_factors_[rows] * known[:, None].astype(self.user_factors_.dtype)
        bias = None if self.user_bias_ is None else self.user_bias_[rows] * known
        return Folded(factors, bias)

    def _scorer(self, rows: np.ndarray | None, *, ratings: Ratings | None = None,
                similarity: str = "dot") -> LinearScorer:
        with Pool(self.n_threads) as pool:
            factors, bias = self._vectors(rows, ratings, pool)
        if similarity == "cosine":
            return LinearScorer(unit_rows(factors), unit_rows(self.item_factors_))
        dtype = self.item_factors_.dtype
        beta = None if bias is None else (bias + self.global_mean_).astype(dtype)
        return LinearScorer(factors, self.item_factors_, beta, self.item_bias_)

    def predict(self, users: Any, items: Any, *, ratings: Any = None) -> np.ndarray:
        """Return the scores of pairs, float64, shape (n_pairs,), not clipped to a range.

        Parameters
        ----------
        users, items : ids (row numbers where the ratings had none), or sequences of them
            One user goes with all items, and one item with all users.
        ratings : Ratings or scipy sparse, or None
            New users' rows, folded in; `users` then number these rows.

        Notes
        -----
        An unknown user or item falls back on what is known: the mean and the other side's
        bias.  A model without biases falls back on the mean rating, also for users and items
        of the fit without ratings unless unknown cells have a weight.
        """
        self._check_fitted()
        users, items = paired(users, items)
        columns = self._pair_positions("items", items, self.item_ids_, self._item_positions)
        folded = None if ratings is None else aligned_ratings(ratings, self)
        if folded is None:
            rows = self._pair_positions("users", users, self.user_ids_, self._user_positions)
        else:
            rows = validation.positions("users", users, folded.shape[0])
        with Pool(self.n_threads) as pool:
            factors, bias = (self.user_factors_, self.user_bias_) if folded is None else \
                self._fold_in_rows(folded, pool)
            beta = np.zeros(len(factors)) if bias is None else bias
            gamma = np.zeros(self.n_items_) if self.item_bias_ is None else self.item_bias_
            scores = self._answers(self.global_mean_ + pair_scores(
                rows, columns, factors, self.item_factors_, beta, gamma, pool))
        if self._rates and self.user_bias_ is None:
            counts = self.user_counts_ if folded is None else np.diff(folded.by_user.indptr)
            unrated = (rows < 0) | (columns < 0)
            if getattr(self, "unknown_weight_", 0) == 0:     # else their vectors are solved
                unrated[~unrated] = (counts[rows[~unrated]] == 0) | \
                    (self.item_counts_[columns[~unrated]] == 0)
            scores[unrated] = self.mean_rating_
        return scores

    def _answers(self, scores: np.ndarray) -> np.ndarray:
        """Return what `predict` says of scores."""
        return scores

    def _pair_positions(self, name: str, values: np.ndarray, ids: np.ndarray | None,
                        positions: Callable[[Any], np.ndarray]) -> np.ndarray:
        if ids is None and values.dtype.kind in "iu" and values.size and values.min() < 0:
            raise IndexError(f"{name} must be row numbers >= 0, got {values.min()}")
        return positions(values)

    # ------------------------------------------------------------------- best items

    def recommend(self, users: Any = None, k: int = 10, *, similarity: str = "dot",
                  exclude_seen: bool = True, items: Any = None, exclude_items: Any = None,
                  ratings: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the k best items of each user, best first.

        Parameters
        ----------
        users : ids (row numbers where the ratings had none), one id, or None
            None: all users of the fit, or all rows of `ratings`.
        k : int, >= 1
        similarity : {"dot", "cosine"}
            "dot" ranks by the model's score, biases included; "cosine" by the angle of
            the factors alone (a zero vector scores 0).
        exclude_seen : bool
            Leave out what a user has rated.
        items, exclude_items : ids, or CSR (n_users, n_items), or None
            Only these; none of these.  The CSR holds one row per asked user.
        ratings : Ratings or scipy sparse, or None
            New users' rows, folded in; `users` must then be None.

        Returns
        -------
        item_ids, scores : ndarray, shape (n_users, k)
            Ties go to the item that comes first in the ratings.  Where fewer than k items
            are left: id -1 (None where ids are no integers) and score -inf.

        Raises
        ------
        KeyError, IndexError
            For unknown ids, or row numbers out of range.
        ValueError
            For ratings of another width (it says when they look transposed).
        """
        self._check_fitted()
        k = validation.integer("k", k, low=1)
        validation.choice("similarity", similarity, ("dot", "cosine"))
        validation.boolean("exclude_seen", exclude_seen)
        if ratings is not None and users is not None:
            raise ValueError("users must be None where ratings are given: all their rows are "
                             "answered; pass only the rows you want")
        rows, folded = None, None
        if ratings is not None:
            folded = aligned_ratings(ratings, self)
            n_rows, seen = folded.shape[0], folded.by_user
        else:
            rows = np.arange(self.n_users_) if users is None else self._known_users(users)
            n_rows, seen = len(rows), self.ratings_.by_user if users is None else None
        filters = {name: None if given is None else item_filter(name, given, self, n_rows)
                   for name, given in (("items", items), ("exclude_items", exclude_items))}
        if exclude_seen and seen is None and rows is not None:
            seen = self._seen_rows(rows)
        scorer = self._scorer(rows, ratings=folded, similarity=similarity)
        with Pool(self.n_threads) as pool:
            best, scores = top_k(scorer, k, seen=seen if exclude_seen else None,
                                 allowed=filters["items"], excluded=filters["exclude_items"],
                                 pool=pool)
        return _names(best, self.item_ids_), scores

    def similar_items(self, items: Any, k: int = 10, *, similarity: str = "cosine"
                      ) -> tuple[np.ndarray, np.ndarray]:
        """Return the k items nearest to each of `items`, without itself, shape (n, k)."""
        self._check_fitted()
        columns = self._known_items(items)
        best, scores = self._nearest(self.item_factors_, columns, k, similarity)
        return _names(best, self.item_ids_), scores

    def similar_users(self, users: Any, k: int = 10, *, similarity: str = "cosine"
                      ) -> tuple[np.ndarray, np.ndarray]:
        """Return the k users nearest to each of `users`, without itself, shape (n, k)."""
        self._check_fitted()
        rows = self._known_users(users)
        best, scores = self._nearest(self.user_factors_, rows, k, similarity)
        return _names(best, self.user_ids_), scores

    def _nearest(self, X: np.ndarray, rows: np.ndarray, k: int, similarity: str
                 ) -> tuple[np.ndarray, np.ndarray]:
        k = validation.integer("k", k, low=1)
        validation.choice("similarity", similarity, ("cosine", "dot"))
        if X.shape[1] == 0:
            raise NotImplementedError(f"{type(self).__name__} has no factors to compare")
        X = unit_rows(X) if similarity == "cosine" else X
        itself = sp.csr_array((np.ones(len(rows)), rows, np.arange(len(rows) + 1)),
                              shape=(len(rows), len(X)))
        with Pool(self.n_threads) as pool:
            return top_k(LinearScorer(X[rows], X), k, excluded=itself, pool=pool)


def _names(positions: np.ndarray, ids: np.ndarray | None) -> np.ndarray:
    """Return ids of positions; -1 becomes -1, or None where ids are no integers."""
    if ids is None:
        return positions
    names: np.ndarray = ids[positions]
    names[positions < 0] = None if ids.dtype == object else -1
    return names
