"""Everything that a recommender offers: one surface for all models.

What varies between models is handed over: see `Estimator` for what a class supplies.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any, TypeVar

import numpy as np

from mfcore.metrics.fitted import Folded
from mfcore.models.answering import questions
from mfcore.models.estimator import Estimator
from mfcore.models.fitted import score_of
from mfcore.models.inputs import aligned_ratings, merged_rows, placed
from mfcore.models.stopping import Callback
from mfcore.models.training import train
from mfcore.parallel import Pool
from mfcore.persistence import Place

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

    # ------------------------------------------------------------ questions (questions.py)

    predict = questions.predict
    recommend = questions.recommend
    recommend_users = questions.recommend_users
    similar_items = questions.similar_items
    similar_users = questions.similar_users
    similar_groups = questions.similar_groups
    index_vectors = questions.index_vectors
    explain = questions.explain

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
        ratings : Ratings or scipy sparse (n_new, n_items), ids of items, {item: rating}, or None
            One row per new user, or the items of one; None: only features are known.
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
        ratings : Ratings or scipy sparse (n_users, n_new), ids of users, {user: rating}, or None
            Users are rows here too: one column per new item.  Or the users of one new item.
            None: only features are known.
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

    def save(self, path: Place, *, seen: bool = True) -> None:
        """Write the model to one file, atomically; `mfcore.load` reads it.

        Parameters
        ----------
        path : str, PathLike, or binary stream
            File to write or replace.  A stream gets the model from where it is, once it is whole,
            and stays open; the model is the last in it.
        seen : bool
            False leaves the training ratings out: smaller, but then nothing is known of what
            users have rated.

        Raises
        ------
        TypeError
            For ids that are neither integers nor strings, and for a stream of text.
        ValueError
            For a stream that is closed, or open for reading alone.
        """
        from mfcore.models.storage import save

        self.check_fitted()
        save(self, path, seen=seen)
