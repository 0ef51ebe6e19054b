"""Everything that a recommender offers: one surface for all models.

What varies between models is handed over: see `Estimator` for what a class supplies.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from os import PathLike
from typing import Any, TypeVar

import numpy as np

from mfcore import validation
from mfcore.metrics.fitted import Folded, Query
from mfcore.models import registry
from mfcore.models.estimator import Estimator
from mfcore.models.fitted import best_items, nearest, nearest_to_groups, score_of
from mfcore.models.inputs import (
    aligned_ratings,
    asked_pairs,
    merged_rows,
    named,
    placed,
)
from mfcore.models.stopping import Callback
from mfcore.models.storage import save
from mfcore.models.training import train
from mfcore.parallel import Pool

Self = TypeVar("Self", bound="Recommender")


class Recommender(Estimator):
    """Base of all recommenders.

    Fitted attributes: `user_factors_`, `item_factors_` (n, k); `user_bias_`, `item_bias_`
    (n,) or None; `global_mean_`; `history_`, a list of one dict per epoch; `ratings_`, the
    training ratings; `n_users_`, `n_items_`, `user_ids_`, `item_ids_`.
    """

    # ------------------------------------------------------------------------ fit

    def fit(self: Self, ratings: Any, y: Any = None, *, sample_weight: Any = None,
            user_features: Any = None, item_features: Any = None, eval_set: Any = None,
            callbacks: Sequence[Callback] = (), checkpoint: Any = None) -> Self:
        """Learn from ratings and return self.

        Parameters
        ----------
        ratings : Ratings, scipy sparse (n_users, n_items), frame, or array-like (nnz, 2)
            Users are rows.  A frame: see `Ratings.from_frame`.  With `y`, user and item of each.
        y, sample_weight : array-like, shape (nnz,), or None
            Ratings and their weights, where the first argument holds pairs.
        user_features, item_features : Features, scipy sparse or lists of names, or None
            What is known of each user (item) besides ratings, one row each, for models that
            have group vectors.  With `y`, rows go by `user_ids_` (`item_ids_`): sorted.
        eval_set : Ratings, scipy sparse, (fold_in, test), or None
            Measured after every epoch; the figures go into `history_`.
        callbacks : sequence of callable
            `callback(model, record)` after every epoch; a true result stops the fit.
        checkpoint : path, (path, every), or None
            File to write after every epoch (or every `every` epochs), and to go on from if it
            is there: to the same bits as a fit that was never interrupted.  Removed at the end.

        Raises
        ------
        ValueError, TypeError
            For a parameter out of range or unusable ratings, before any work.
        DivergenceError
            When the numbers become infinite; the last finite epoch is kept.

        Notes
        -----
        Ctrl-C, or an error (too little memory), leaves the last finished epoch in the model, ready
        for use.  If there is none, or no memory to make it ready, the model is what it was before.
        """
        train(self, ratings, y, sample_weight=sample_weight, user_features=user_features,
              item_features=item_features, eval_set=eval_set, callbacks=callbacks,
              checkpoint=checkpoint)
        return self

    # ------------------------------------------------------------------------ scores

    def predict(self, users: Any, items: Any = None, *, ratings: Any = None,
                user_features: Any = None, unknown: str | None = None) -> np.ndarray:
        """Return the scores of pairs, float64, shape (n_pairs,), not clipped to a range.

        Parameters
        ----------
        users, items : ids (row numbers where the ratings had none), or sequences of them
            One user goes with all items, and one item with all users.  Without items, `users`
            are pairs, shape (n_pairs, 2), as for `fit` with y.
        ratings : Ratings or scipy sparse, or None
            New users' rows, folded in; `users` then number these rows.
        user_features : Features, scipy sparse or lists of names, or None
            Features of new users, alone or row by row with `ratings`.
        unknown : {"raise", "ignore"} or None
            What to do with an id that the fit did not have: raise KeyError (IndexError for a
            row number), or fall back.  "ignore" also leaves unknown items out of `ratings`,
            where None raises.

        Notes
        -----
        An unknown user or item falls back on what is known: the mean and the other side's
        bias, and with features the vector of an average row.  A model without biases falls
        back on the mean rating where a side without features has no vector: unknown ids,
        and users and items without ratings unless unknown cells have a weight.
        """
        self.check_fitted()
        asked = asked_pairs(self, users, items, ratings, user_features, unknown)
        with Pool(self.n_threads) as pool:
            return self.answers().pairs(*asked, pool)

    def recommend(self, users: Any = None, k: int = 10, *, similarity: str = "dot",
                  exclude_seen: bool = True, items: Any = None, exclude_items: Any = None,
                  ratings: Any = None, user_features: Any = None, unknown: str = "raise"
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
        unknown : {"raise", "ignore"}
            What to do with an id that the fit did not have.  "ignore" answers an unknown user
            like one of whom nothing is known, and leaves unknown items out of `ratings` and
            filters: one stale id then does not fail a batch.

        Returns
        -------
        item_ids, scores : ndarray, shape (n_users, k)
            The same bits alone and in a batch (new users of `NeuralMF`: to rounding).  Ties go to
            the item that comes first in the ratings.  Where fewer than k items are left: id -1
            (None where ids are no integers) and score -inf.

        Raises
        ------
        KeyError, IndexError
            For unknown ids, or row numbers out of range.
        ValueError
            For ratings of another width (it says when they look transposed).
        """
        return best_items(self, Query(similarity), users, k, exclude_seen, items, exclude_items,
                          ratings, user_features, unknown)

    def similar_items(self, items: Any, k: int = 10, *, similarity: str = "cosine"
                      ) -> tuple[np.ndarray, np.ndarray]:
        """Return the k items nearest to each of `items`, without itself, shape (n, k)."""
        self.check_fitted()
        self.require("similar_items")
        columns = self.ratings_.known_items(items)
        best, scores = nearest(self, self.item_factors_, columns, k, similarity)
        return named(best, self.item_ids_), scores

    def similar_users(self, users: Any, k: int = 10, *, similarity: str = "cosine"
                      ) -> tuple[np.ndarray, np.ndarray]:
        """Return the k users nearest to each of `users`, without itself, shape (n, k)."""
        self.check_fitted()
        self.require("similar_users")
        rows = self.ratings_.known_users(users)
        best, scores = nearest(self, self.user_factors_, rows, k, similarity)
        return named(best, self.user_ids_), scores

    def similar_groups(self, groups: Any, k: int = 10, *, to: str = "groups",
                       side: str = "user", similarity: str = "cosine"
                       ) -> tuple[np.ndarray, np.ndarray]:
        """Return what lies nearest to groups, best first, by vectors alone.

        Parameters
        ----------
        groups : str or sequence of str
            Names of features, as in `user_feature_names_`.
        k : int, >= 1
        to : {"groups", "items", "users"}
            What to compare with: the other groups of the same side, items or users.
        side : {"user", "item"}
            Whose features the groups are.
        similarity : {"cosine", "dot"}

        Returns
        -------
        names, scores : ndarray, shape (n_groups, k)
            Names of groups, or ids; None (or -1) and -inf where fewer than k are left.

        Raises
        ------
        KeyError
            For names that the fit did not have; it lists the known ones.
        ValueError
            Where the model was fitted without features of that side.
        """
        self.check_fitted()
        if self.lacks("user_features"):
            raise NotImplementedError(registry.sentence(type(self), "similar_groups"))
        return nearest_to_groups(self, groups, k, to, side, similarity)

    def score(self, ratings: Any, y: Any = None) -> float:
        """Return −RMSE for models of ratings, NDCG@10 for models of rankings.

        Parameters
        ----------
        ratings : Ratings or scipy sparse (n_users, n_items), or array-like (nnz, 2)
            Held-out ratings of the users of the fit; with `y`, user and item of each.
        y : array-like, shape (nnz,), or None

        Notes
        -----
        Predictions are clipped to the range of the training ratings.
        """
        self.check_fitted()
        return score_of(self, ratings, y)

    # ------------------------------------------------------------------- new rows

    def fold_in_users(self, ratings: Any = None, *, user_features: Any = None,
                      unknown: str = "raise") -> Folded:
        """Return the vectors of new users, with all item vectors as they are.

        Parameters
        ----------
        ratings : Ratings or scipy sparse, shape (n_new, n_items), or None
            One row per new user; None: only features are known.
        user_features : Features, scipy sparse or lists of names, or None
            Row by row as the ratings; their vectors are the prior of the row.  None: those of
            an average row of the fit.
        unknown : {"raise", "ignore"}
            Whether ratings of items that the fit did not have raise KeyError or are left out.

        Returns
        -------
        Folded(factors (n_new, k), bias (n_new,) or None)

        Notes
        -----
        With ratings, also an empty row of them, a user gets the vector of a training row: where
        unknown cells have a weight, "has rated nothing" is something known, and pulls scores to
        the value of unknown cells.  With features alone nothing is known of the user's ratings,
        and the vector is the prior.
        """
        self.check_fitted()
        new = self.new_rows(ratings, user_features, unknown=unknown)
        if new is None:
            raise ValueError("fold_in_users needs ratings or user_features, got neither")
        with Pool(self.n_threads) as pool:
            return self.answers().fold_in(new, pool)

    def fold_in_items(self, ratings: Any = None, *, item_features: Any = None,
                      unknown: str = "raise") -> Folded:
        """Return the vectors of new items, with all user vectors as they are.

        Parameters
        ----------
        ratings : Ratings or scipy sparse, shape (n_users, n_new), or None
            Users are rows here too: one column per new item.  None: only features are known.
        item_features : Features, scipy sparse or lists of names, or None
            One row per new item; None: those of an average item of the fit.
        unknown : {"raise", "ignore"}
            Whether ratings of users that the fit did not have raise KeyError or are left out.

        Returns
        -------
        Folded(factors (n_new, k), bias (n_new,) or None)

        Raises
        ------
        NotImplementedError
            For models that are not fitted by least squares.
        """
        self.check_fitted()
        self.require("fold_in_items")
        answers: Any = self.answers()
        folded: Folded = answers.fold_in_items(self, ratings, item_features, unknown)
        return folded

    def partial_fit(self: Self, ratings: Any, *, users: Any = None, user_features: Any = None,
                    unknown: str = "raise") -> Self:
        """Refit the given users, append new ones, leave items as they are, and return self.

        Parameters
        ----------
        ratings : Ratings or scipy sparse, shape (n_given, n_items)
            Complete histories: a row replaces what the model knew of its user.
        users : ids of the rows, or None
            None: those of the ratings, or all users of the fit.  Row numbers from `n_users_`
            on, or unknown ids, are new users.
        user_features : Features, scipy sparse or lists of names, or None
            Of the given rows.  None: known users keep theirs, new ones have none.
        unknown : {"raise", "ignore"}
            Whether ratings of items that the fit did not have raise KeyError or are left out.

        Raises
        ------
        NotImplementedError
            For models that are not fitted by least squares.
        """
        self.check_fitted()
        self.require("partial_fit")
        self.check_seen()
        given = aligned_ratings(ratings, self, unknown)
        merged, rows = merged_rows(self.ratings_, given, users)
        side, items, n_users = copy(self.users_), copy(self.items_), merged.shape[0]
        features = side.grown(user_features, rows, n_users)
        folded = self.fold_in_users(given, user_features=features and features.matrix[rows])
        side.features = side.with_history_of(merged, features)
        if side.bias is not None and folded.bias is not None:
            side.bias = placed(side.bias, rows, folded.bias, n_users)
        side.factors = placed(side.factors, rows, folded.factors, n_users)
        side.counts = np.diff(merged.by_user.indptr)
        items.counts = np.bincount(merged.by_user.indices, minlength=merged.shape[1])
        vars(self).update(ratings_=merged, users_=side, items_=items)
        return self

    # ------------------------------------------------------------------ looking in

    def explain(self, user: Any, item: Any, k: int = 10
                ) -> tuple[float, np.ndarray, np.ndarray]:
        """Return the score of a pair, and the rated items that contribute most to it.

        The score is a sum over rated items, plus what does not come from ratings (biases,
        mean, prior, unknown cells).

        Parameters
        ----------
        user, item : id, or row number
        k : int, >= 1
            Contributions to return, largest in size first.

        Returns
        -------
        score : float
        item_ids, contributions : ndarray, shape (at most k,)

        Raises
        ------
        NotImplementedError
            For models whose score is no sum over ratings.

        References
        ----------
        Hu, Koren, Volinsky 2008, section 5.
        """
        self.check_fitted()
        self.require("explain")
        self.check_seen()
        k = validation.count("k", k)
        (row,), (column,) = self.ratings_.known_users([user]), self.ratings_.known_items([item])
        answers: Any = self.answers()
        score, columns, contributions = answers.explain(self.ratings_, int(row), int(column), k)
        return score, named(columns, self.item_ids_), contributions

    def objective(self, ratings: Any = None) -> dict[str, float]:
        """Return the terms of the fitted formula: total, known, unknown, penalty; float64.

        `ratings` must have the users and items of the fit; None: the training ratings.
        Raises NotImplementedError for models that do not minimise the quadratic formula.
        """
        self.check_fitted()
        self.require("objective")
        self.check_seen()
        answers: Any = self.answers()
        with Pool(self.n_threads) as pool:
            loss = answers.objective(self, ratings, pool)
        return {"total": loss.total, **loss._asdict()}

    def save(self, path: str | PathLike[str], *, seen: bool = True) -> None:
        """Write the model to one file, atomically; `mfcore.load` reads it.

        `seen=False` leaves the training ratings out: smaller, but then nothing is known
        of what users have rated.

        Raises TypeError for ids that are neither integers nor strings.
        """
        self.check_fitted()
        save(self, path, seen=seen)
