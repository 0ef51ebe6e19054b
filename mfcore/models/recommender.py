"""Everything that a recommender offers: one surface for all models.

What varies between models is handed over: see `Estimator` for what a class supplies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from mfcore.metrics.fitted import Folded
from mfcore.models.answering import questions
from mfcore.models.estimator import Estimator
from mfcore.models.fitted import score_of
from mfcore.models.inputs import given_items
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
    recommend_to = questions.recommend_to
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
        given = given_items(self, ratings, item_features, unknown)
        with Pool(self.n_threads) as pool:
            folded: Folded = answers.fold_columns(given, pool)
        return folded

    # ----------------------------------------------------- what comes and goes after a fit

    def update(self: Self, ratings: Any = None, y: Any = None, *, how: str = "add",
               sample_weight: Any = None, users: Any = None, items: Any = None,
               user_features: Any = None, item_features: Any = None,
               duplicates: str | None = None, unknown: str = "add", rows: str = "grown",
               n_passes: int = 1) -> Self:
        """Take new ratings into the fitted model, with new users and new items; return self.

        Parameters
        ----------
        ratings : Ratings, scipy sparse, frame, or array-like (n_new, 2), or None
            New ratings, in any of the forms of `fit`; they need not name all users and items.
            None: solve rows again with the ratings there are, where `rows` is "all".
        y, sample_weight : array-like, shape (n_new,), or None
            As in `fit`, where the first argument holds pairs.
        how : {"add", "replace"}
            "add": to what is known of each user; "replace": a given row is all that its user has
            rated, and what was known of it before is dropped.
        users, items : ids of the rows and columns of `ratings`, or None
            None: its own ids; without any, all users (items) of the fit in their order, and new
            ones behind them.  Row numbers from `n_users_` on, or unknown ids, are new.
        user_features, item_features : Features, scipy sparse or lists of names, or None
            Of the rows (columns) of `ratings`, for a model that was fitted with features.  None:
            known ones keep theirs, new ones have none.
        duplicates : {"last", "sum", "mean", "error"} or None
            What becomes of a cell that is rated again.  None: counts of `ImplicitMF` add up,
            elsewhere the new rating holds.
        unknown : {"add", "ignore", "raise"}
            Whether items that the model does not know come in, are left out with their ratings,
            or raise KeyError.  Users that are new come in with the ratings that are not left out,
            and without any where `users` names them.
        rows : {"grown", "changed", "all"}
            Vectors to solve.  "grown": of users and items that are new, that have few ratings, or
            of whose ratings about a fifth has come since they were last solved; "changed": of all
            users and items with new ratings; "all": of everybody.
        n_passes : int from 1 to 1000
            Each solves these items with all users as they are, and then these users.

        Raises
        ------
        NotImplementedError
            For models that cannot be refitted in part; for new items where a model has a size
            for each item (autoencoders, EASE) or learns them by steps (BPR, SoftmaxMF, NeuralMF).
        ValueError, TypeError
            For what `fit` refuses in ratings; for ids that repeat, or text where ids are integers;
            for a model that was saved with seen=False.
        DivergenceError
            For vectors that would not be finite.

        See Also
        --------
        partial_fit : users alone, with the items as they are.
        forget : users and items that leave.

        Notes
        -----
        After any error, and after Ctrl-C, the model is what it was before.

        The rows that are solved get the vectors that `fold_in_users` and `fold_in_items` return:
        those of a fit in which all other rows are as they are.  Those rows, vectors of features,
        effects of periods, penalties and the mean stay those of the fit.  How far this is from
        a fit to all ratings is how much `objective()` falls when all rows are solved again, which
        `update(rows="all")` does.

        New users get vectors first, so that new items can lean on them.  A vector takes all
        ratings of its row: a day of 1 % of the ratings costs a few percent of a fit, since rows
        that know much wait until there is something to learn.
        """
        from mfcore.models.updates.updating import Plan, update

        plan = Plan(how, duplicates, unknown, rows, n_passes)
        update(self, ratings, y, plan, sample_weight=sample_weight, users=users, items=items,
               user_features=user_features, item_features=item_features)
        return self

    def partial_fit(self: Self, ratings: Any, y: Any = None, *, how: str = "add",
                    sample_weight: Any = None, users: Any = None, user_features: Any = None,
                    unknown: str = "raise") -> Self:
        """Take new ratings of users in, refit these users, leave items as they are; return self.

        Parameters
        ----------
        ratings, y, how, sample_weight, users, user_features
            As in `update`; the columns of a matrix are the items of the fit.
        unknown : {"raise", "ignore"}
            Whether ratings of items that the fit did not have raise KeyError or are left out.

        Raises
        ------
        NotImplementedError, ValueError, TypeError
            As `update`.

        See Also
        --------
        update : new items too, and vectors of items that have changed.
        """
        from mfcore.models.updates.updating import Plan, update

        plan = Plan(how, unknown=unknown, rows="changed", items=False)
        update(self, ratings, y, plan, sample_weight=sample_weight, users=users,
               user_features=user_features)
        return self

    def partial_fit_items(self: Self, ratings: Any, y: Any = None, *, how: str = "add",
                          sample_weight: Any = None, items: Any = None,
                          item_features: Any = None, unknown: str = "raise") -> Self:
        """Take new ratings of items in, refit these items, leave users as they are; return self.

        Parameters
        ----------
        ratings, y, how, sample_weight, items, item_features
            As in `update`; the rows of a matrix are the users of the fit, and with how="replace"
            a given column is all that is known of its item.
        unknown : {"raise", "ignore"}
            Whether ratings of users that the fit did not have raise KeyError or are left out.

        Raises
        ------
        NotImplementedError, ValueError, TypeError
            As `update`.

        See Also
        --------
        update : new users too, and vectors of users that have changed.
        """
        from mfcore.models.updates.updating import Plan, update

        plan = Plan(how, unknown=unknown, rows="changed", users=False)
        update(self, ratings, y, plan, sample_weight=sample_weight, items=items,
               item_features=item_features)
        return self

    def forget(self: Self, users: Any = None, items: Any = None, *, unknown: str = "raise"
               ) -> Self:
        """Drop users and items: their vectors, ratings and ids, also from files saved later.

        Parameters
        ----------
        users, items : ids (row numbers where the ratings had none), or None
            Users who withdraw, items that are retired.  Numbers of those behind them move up.
        unknown : {"raise", "ignore"}
            Whether ids that the model does not know raise KeyError or are passed over.

        Returns
        -------
        self

        Raises
        ------
        NotImplementedError
            For items of a model with a size for each item: `recommend(exclude_items=...)` leaves
            them out of lists, a fit without them leaves them out of the model.
        KeyError, IndexError
            For unknown ids, or row numbers out of range.
        ValueError
            Where no rating would be left; for a model that was saved with seen=False.

        Notes
        -----
        Models that `update` can give new items solve the users who had rated a dropped item again,
        and items that lost about a fifth of their ratings.  What the other vectors learned from the
        dropped ratings stays until these are solved, by `update(rows="all")`, or the model is
        fitted again.  What a retired item says of taste is lost with it: where only the lists
        matter, keep it and leave it out of them by `exclude_items`.
        """
        from mfcore.models.updates.forgetting import forget

        forget(self, users, items, unknown)
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
