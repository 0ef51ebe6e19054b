"""The frame of a fit, and what comes with every estimator: score, save, load.

Subclasses say how vectors and biases come about (`_train`) and how a new row gets its own
(`_fold_in_rows`); `serving.py` answers from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any, TypeVar

import numpy as np

from mfcore import validation
from mfcore.data.chunks import column_counts, summed
from mfcore.data.features import Features
from mfcore.data.ratings import Ratings
from mfcore.metrics.evaluate import evaluate
from mfcore.metrics.rating import rmse
from mfcore.models.inputs import pairs, training_ratings
from mfcore.models.monitoring import Callback, Watched, callbacks_of, checkpoint_of
from mfcore.models.rows import Folded, NewRows
from mfcore.models.serving import Serving
from mfcore.models.storage import load, save
from mfcore.parallel import Pool, thread_count

__all__ = ["Folded", "NewRows", "Recommender", "load"]

Self = TypeVar("Self", bound="Recommender")


class Recommender(Serving):
    """Base of all recommenders.

    Fitted attributes: `user_factors_`, `item_factors_` (n, k); `user_bias_`, `item_bias_`
    (n,) or None; `global_mean_`; `history_`, a list of one dict per epoch; `ratings_`, the
    training ratings; `n_users_`, `n_items_`, `user_ids_`, `item_ids_`.
    """

    verbose: int
    tol: float | None
    patience: int | None
    eval_metric: str | None
    history_: list[dict[str, Any]]

    # Hyper-parameters with which a fit may go on from the checkpoint of others.
    _may_change: tuple[str, ...] = ("n_epochs", "n_threads", "verbose")

    # ------------------------------------------------------------------------ fit

    def fit(self: Self, ratings: Any, y: Any = None, *, user_features: Any = None,
            item_features: Any = None, eval_set: Any = None,
            callbacks: Sequence[Callback] = (), checkpoint: Any = None) -> Self:
        """Learn from ratings and return self.

        Parameters
        ----------
        ratings : Ratings, scipy sparse (n_users, n_items), or array-like (nnz, 2)
            Users are rows.  With `y`, user and item of each rating.
        y : array-like, shape (nnz,), or None
            Ratings, where the first argument holds pairs.
        user_features, item_features : Features, scipy sparse or lists of names, or None
            A row a user (item) of the ratings: what is known of it besides.  For models
            that have group vectors.  With `y`, rows go by `user_ids_` (`item_ids_`): sorted.
        eval_set : Ratings, scipy sparse, (fold_in, test), or None
            Measured after every epoch; the figures go into `history_`.
        callbacks : sequence of callable
            `callback(model, record)` after every epoch; a true result stops the fit.
        checkpoint : path, (path, every), or None
            File to write after every epoch (every so many), and to go on from if it is
            there: to the same bits as a fit that was never interrupted.  Removed at the end.

        Raises
        ------
        ValueError, TypeError
            For a parameter out of range or ratings that are none, before any work.
        DivergenceError
            When the numbers become infinite; the last finite epoch is kept.

        Notes
        -----
        Ctrl-C leaves the last finished epoch in the model, ready for use, and goes on as
        KeyboardInterrupt.
        """
        thread_count(self.n_threads)
        self._validate()
        training = training_ratings(ratings, y)
        self._check_training(training)
        features = self._given_features(training, user_features, item_features)
        watched = Watched(eval_set, callbacks_of(callbacks),
                          checkpoint_of(self, training, features, checkpoint))
        before = dict(vars(self))
        self._forget()
        self._remember(training)
        self._remember_features(features)
        self.history_ = []
        try:
            self._train(training, watched)
        except BaseException:
            if not self.history_:           # no epoch finished: what was there before stays
                vars(self).clear()
                vars(self).update(before)
            raise
        return self

    def _check_training(self, ratings: Ratings) -> None:
        """Raise for ratings that this model cannot learn from."""

    def _given_features(self, ratings: Ratings, user_features: Any, item_features: Any
                        ) -> tuple[Features | None, Features | None]:
        """Return features of users and items, checked; raise where the model has no use."""
        for name, given in (("user_features", user_features), ("item_features", item_features)):
            if given is not None:
                raise NotImplementedError(f"{type(self).__name__} takes no {name}; "
                                          f"MatrixFactorization and ImplicitMF do")
        return None, None

    def _remember_features(self, given: tuple[Features | None, Features | None]) -> None:
        """Keep the features of the fit."""

    def _train(self, ratings: Ratings, watched: Watched) -> None:
        """Set the fitted attributes."""
        raise NotImplementedError

    def _publish(self, at: Any) -> None:
        """Make a solver's state the model's."""
        raise NotImplementedError

    def _remember(self, ratings: Ratings) -> None:
        self._remember_shape()
        self.ratings_, self.has_seen_ = ratings, True
        data = ratings.by_user.data
        self.rating_range_ = (float(data.min()), float(data.max()))
        self.mean_rating_ = _mean(data, ratings.weights)
        self.user_counts_ = np.diff(ratings.by_user.indptr)
        self.item_counts_ = column_counts(ratings.by_user.indices, ratings.shape[1])

    @property
    def n_epochs_(self) -> int:
        """Number of epochs that ran."""
        return len(self.history_)


    # ----------------------------------------------------------------- what follows

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
        self._check_fitted()
        if y is not None:
            if not self._rates:
                return self.score(Ratings.from_arrays(*pairs("X", ratings), y))
            truth = validation.finite("y", validation.vector("y", y))
            predicted = self.predict(*pairs("X", ratings))
            return -float(rmse(truth, np.clip(predicted, *self.rating_range_)))
        name = "rmse" if self._rates else "ndcg@10"
        value = evaluate(self, ratings, metrics=[name.split("@")[0]], k=10)[name]
        return -value if self._rates else value

    def fold_in_users(self, ratings: Any = None, *, user_features: Any = None) -> Folded:
        """Return the vectors of new users, with all item vectors as they are.

        Parameters
        ----------
        ratings : Ratings or scipy sparse, shape (n_new, n_items), or None
            A row a new user; None: of whom only features are known.
        user_features : Features, scipy sparse or lists of names, or None
            Row by row as the ratings; their vectors are the prior of the row.  None: those of
            an average row of the fit.

        Returns
        -------
        Folded(factors (n_new, k), bias (n_new,) or None)
        """
        self._check_fitted()
        new = self._new_rows(ratings, user_features)
        if new is None:
            raise ValueError("fold_in_users needs ratings or user_features, got neither")
        with Pool(self.n_threads) as pool:
            return self._vectors_of_new(new, pool)

    def explain(self, user: Any, item: Any, k: int = 10
                ) -> tuple[float, np.ndarray, np.ndarray]:
        """Raise NotImplementedError: only models fitted by least squares can explain."""
        self._check_fitted()
        raise NotImplementedError(f"{type(self).__name__} cannot explain its scores by ratings")

    def fold_in_items(self, ratings: Any = None, *, item_features: Any = None) -> Folded:
        """Raise NotImplementedError: only models fitted by least squares fold items in."""
        self._check_fitted()
        raise NotImplementedError(f"{type(self).__name__} cannot fold in items: a new item is "
                                  f"learned by a fit")

    def partial_fit(self: Self, ratings: Any, *, users: Any = None, user_features: Any = None
                    ) -> Self:
        """Raise NotImplementedError: only models fitted by least squares refit in part."""
        self._check_fitted()
        raise NotImplementedError(f"{type(self).__name__} cannot be refitted in part: "
                                  f"recommend(ratings=...) serves new rows, fit learns them")

    def objective(self, ratings: Any = None) -> dict[str, float]:
        """Raise NotImplementedError: only models of the quadratic formula report it."""
        self._check_fitted()
        raise NotImplementedError(f"{type(self).__name__} does not minimise the quadratic formula")

    def save(self, path: str | PathLike[str], *, seen: bool = True) -> None:
        """Write the model to one file, atomically; `mfcore.load` reads it.

        `seen=False` leaves the training ratings out: smaller, but then nothing is known
        of what users have rated.

        Raises TypeError for ids that are neither integers nor strings.
        """
        self._check_fitted()
        save(self, path, seen=seen)


def _mean(values: np.ndarray, weights: np.ndarray | None) -> float:
    if weights is None or not weights.any():
        return float(values.mean(dtype=np.float64))
    total = summed(lambda chunk: float(values[chunk].astype(np.float64) @ weights[chunk]),
                   len(values))
    return total / float(weights.sum(dtype=np.float64))
