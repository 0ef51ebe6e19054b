"""What a fitted recommender answers: predict, recommend, similar_items, similar_users.

A model's score is linear in a user's vector, unless it brings a scorer of its own:

    s_ui = mean + b_u + b̃_i + P_u·Q_i
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.metrics.topk import Scorer, top_k
from mfcore.models.inputs import item_filter, paired
from mfcore.models.rows import Folded, NewRows, Rows
from mfcore.objectives.scores import LinearScorer, pair_scores, unit_rows
from mfcore.parallel import Pool


class Serving(Rows):
    """Answers from vectors and biases; how they came about is the subclasses' matter."""

    # ---------------------------------------------------------------------- scores

    def _scorer(self, rows: np.ndarray | None, *, new: NewRows | None = None,
                similarity: str = "dot") -> Scorer:
        with Pool(self.n_threads) as pool:
            factors, bias = self._vectors(rows, new, pool)
        if similarity == "cosine":
            return LinearScorer(unit_rows(factors), unit_rows(self.item_factors_))
        return self._score_blocks(Folded(factors, bias))

    def _score_blocks(self, users: Folded) -> Scorer:
        """Return the scorer of users with these vectors: linear, unless a model has its own."""
        dtype = self.item_factors_.dtype
        beta = None if users.bias is None else (users.bias + self.global_mean_).astype(dtype)
        return LinearScorer(users.factors, self.item_factors_, beta, self.item_bias_)

    def _score_pairs(self, rows: np.ndarray, columns: np.ndarray, users: Folded, pool: Pool
                     ) -> np.ndarray:
        """Return the scores of pairs of these users and the items, float64; -1 is unknown."""
        P, beta, rows = self._with_default("user", users, rows)
        Q, gamma, columns = self._with_default(
            "item", Folded(self.item_factors_, self.item_bias_), columns)
        return self.global_mean_ + pair_scores(rows, columns, P, Q, beta, gamma, pool)

    def predict(self, users: Any, items: Any, *, ratings: Any = None,
                user_features: Any = None) -> np.ndarray:
        """Return the scores of pairs, float64, shape (n_pairs,), not clipped to a range.

        Parameters
        ----------
        users, items : ids (row numbers where the ratings had none), or sequences of them
            One user goes with all items, and one item with all users.
        ratings : Ratings or scipy sparse, or None
            New users' rows, folded in; `users` then number these rows.
        user_features : Features, scipy sparse or lists of names, or None
            Features of new users, alone or row by row with `ratings`.

        Notes
        -----
        An unknown user or item falls back on what is known: the mean and the other side's
        bias, and with features the vector of an average row.  A model without biases falls
        back on the mean rating where a side without features has no vector: unknown ids,
        and users and items without ratings unless unknown cells have a weight.
        """
        self._check_fitted()
        users, items = paired(users, items)
        columns = self._pair_positions("items", items, self.item_ids_, self._item_positions)
        new = self._new_rows(ratings, user_features)
        if new is None:
            rows = self._pair_positions("users", users, self.user_ids_, self._user_positions)
        else:
            rows = validation.positions("users", users, new.n_rows)
        with Pool(self.n_threads) as pool:
            vectors = Folded(self.user_factors_, self.user_bias_) if new is None else \
                self._vectors_of_new(new, pool)
            scores = self._answers(self._score_pairs(rows, columns, vectors, pool))
        if self._rates and self.user_bias_ is None:
            silent = self._is_silent("user", rows, self._counts_of(new)) \
                | self._is_silent("item", columns, self.item_counts_)
            scores[silent] = self.mean_rating_
        return scores

    def _answers(self, scores: np.ndarray) -> np.ndarray:
        """Return what `predict` says of scores."""
        return scores

    # ------------------------------------------------------------------- best items

    def recommend(self, users: Any = None, k: int = 10, *, similarity: str = "dot",
                  exclude_seen: bool = True, items: Any = None, exclude_items: Any = None,
                  ratings: Any = None, user_features: Any = None
                  ) -> tuple[np.ndarray, np.ndarray]:
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
        user_features : Features, scipy sparse or lists of names, or None
            Features of new users: alone, where no rating of theirs is known, or row by row
            with `ratings`; `users` must be None.

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
        k = validation.count("k", k)
        validation.choice("similarity", similarity, ("dot", "cosine"))
        validation.boolean("exclude_seen", exclude_seen)
        new = self._new_rows(ratings, user_features)
        if new is not None and users is not None:
            raise ValueError("users must be None where ratings or user_features are given: all "
                             "their rows are answered; pass only the rows you want")
        rows, seen = None, None
        if new is not None:
            n_rows = new.n_rows
            seen = None if new.ratings is None else new.ratings.by_user
        else:
            rows = np.arange(self.n_users_) if users is None else self._known_users(users)
            n_rows, seen = len(rows), self.ratings_.by_user if users is None else None
        filters = {name: None if given is None else item_filter(name, given, self, n_rows)
                   for name, given in (("items", items), ("exclude_items", exclude_items))}
        if exclude_seen and seen is None and rows is not None:
            seen = self._seen_rows(rows)
        scorer = self._scorer(rows, new=new, similarity=similarity)
        with Pool(self.n_threads) as pool:
            best, scores = top_k(scorer, k, seen=seen if exclude_seen else None,
                                 allowed=filters["items"], excluded=filters["exclude_items"],
                                 pool=pool)
        return named(best, self.item_ids_), scores

    def similar_items(self, items: Any, k: int = 10, *, similarity: str = "cosine"
                      ) -> tuple[np.ndarray, np.ndarray]:
        """Return the k items nearest to each of `items`, without itself, shape (n, k)."""
        self._check_fitted()
        columns = self._known_items(items)
        best, scores = self._nearest(self.item_factors_, columns, k, similarity)
        return named(best, self.item_ids_), scores

    def similar_users(self, users: Any, k: int = 10, *, similarity: str = "cosine"
                      ) -> tuple[np.ndarray, np.ndarray]:
        """Return the k users nearest to each of `users`, without itself, shape (n, k)."""
        self._check_fitted()
        rows = self._known_users(users)
        best, scores = self._nearest(self.user_factors_, rows, k, similarity)
        return named(best, self.user_ids_), scores

    def _nearest(self, X: np.ndarray, rows: np.ndarray | None, k: int, similarity: str,
                 vectors: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the k rows of X nearest to `vectors`, or to the given rows without itself."""
        k = validation.count("k", k)
        validation.choice("similarity", similarity, ("cosine", "dot"))
        if X.shape[1] == 0:
            raise NotImplementedError(f"{type(self).__name__} has no factors to compare")
        vectors = X[rows] if vectors is None else vectors
        if similarity == "cosine":
            X, vectors = unit_rows(X), unit_rows(vectors)
        itself = None if rows is None else sp.csr_array(
            (np.ones(len(rows)), rows, np.arange(len(rows) + 1)), shape=(len(rows), len(X)))
        with Pool(self.n_threads) as pool:
            return top_k(LinearScorer(vectors, X), k, excluded=itself, pool=pool)


def named(positions: np.ndarray, ids: np.ndarray | None) -> np.ndarray:
    """Return ids of positions; -1 becomes -1, or None where ids are no integers."""
    if ids is None:
        return positions
    names: np.ndarray = ids[positions]
    names[positions < 0] = None if ids.dtype == object else -1
    return names
