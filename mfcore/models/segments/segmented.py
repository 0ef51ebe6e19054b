"""One model per segment of the users: the matrix of ratings cut by what is known of them.

Each segment's model sees the rows of its users alone, over all items, so that items keep
their numbers.  Cutting loses what segments could tell each other: `report` says how much.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import numpy as np
import scipy.sparse as sp

from mfcore.data.positions import filled
from mfcore.data.ratings import Ratings, as_ratings
from mfcore.metrics.alignment import Alignment
from mfcore.metrics.evaluate import evaluate
from mfcore.metrics.table import requested
from mfcore.models.fitted import framed, framing, length_of_lists
from mfcore.models.inputs import user_filters
from mfcore.models.recommender import Recommender
from mfcore.models.segments.fitting import fit_segments, segments_of
from mfcore.models.segments.routing import (
    FALLBACK,
    By,
    Routed,
    check_by,
    codes_of,
    labels_of,
    rows_by_code,
)
from mfcore.models.settings import fitted, setting, settings
from mfcore.models.sides import Side, sides_of
from mfcore.models.stopping import Callback
from mfcore.models.storage import as_tuples
from mfcore.models.training import as_before, training_ratings
from mfcore.objectives.biases import mean_rating
from mfcore.parallel import thread_count

Self = TypeVar("Self", bound="Segmented")


class CountedSide(Side):
    """A side without vectors: those of segments live in spaces of their own."""

    parts = ("counts",)


def check_estimator(name: str, value: Any) -> None:
    """Raise unless a value is a model of this library whose parameters are valid."""
    if not isinstance(value, Recommender) or isinstance(value, Segmented):
        raise TypeError(f"estimator must be a model to fit to each segment, got "
                        f"{type(value).__name__}")
    value.validate()


@settings()
class Segmented(Recommender):
    """Fit a copy of a model to each segment of the users, and one to all of them.

    Parameters
    ----------
    estimator : a model of this library
        Stays as it is; its copies run on its `n_threads`.
    by : str, mapping, or sequence
        The segment of each user: the name of a field of the `user_features` given to
        `fit`, with one value per user ("country" for the columns country=...); a mapping from
        user id (row number where there are none) to label, which may leave users out; or
        one label per user, in the order of the rows.  Labels are strings, numbers, booleans
        or tuples of them, as a model file keeps them.
    min_ratings : int, >= 1
        Segments with fewer ratings have no model of their own.

    Attributes
    ----------
    segments_ : dict of label to fitted model
    fallback_ : the model of all users
        Serves those without a segment, those of a segment without a model, unknown users,
        and new rows unless `by` is a mapping that knows their ids.
    history_ : list of dict
        Epochs of all the models, each with its "segment" (None: the fallback).

    Notes
    -----
    Vectors of different segments live in different spaces, so there are no `user_factors_`
    of all: see `segment(label)`.  `similar_users` compares users of one segment.

    Examples
    --------
    >>> from mfcore import ImplicitMF, Segmented, fetch
    >>> hobbies = fetch("planted-audiences")
    >>> model = Segmented(ImplicitMF(8, random_state=0), by="group")
    >>> model = model.fit(hobbies.ratings, user_features=hobbies.user_features)
    >>> sorted(model.segments_)
    ['Chess', 'Cooking', 'Gardening', 'Sailing']
    >>> model.segment("Chess")
    ImplicitMF(n_factors=8, random_state=0)
    """

    estimator: Any = setting(kw_only=False, check=check_estimator)
    by: By = setting(kw_only=False, check=check_by)
    min_ratings: int = setting(default=1, low=1)

    segment_labels_: list[Hashable] = fitted()
    segment_of_user_: np.ndarray = fitted()
    place_of_user_: np.ndarray = fitted()
    models_: list[Recommender] = fitted()

    side_type = CountedSide

    # ----------------------------------------------------------- what the copies decide

    @property  # type: ignore[misc]
    def n_threads(self) -> int | None:  # type: ignore[override]
        """Number of threads, that of the estimator."""
        threads: int | None = self.estimator.n_threads
        return threads

    @property
    def predicts_ratings(self) -> bool:
        """Whether `predict` is on the scale of the ratings, as that of the estimator."""
        return bool(self.estimator.predicts_ratings)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the hyper-parameters by name.

        Parameters
        ----------
        deep : bool
            Whether those of the estimator come too, as "estimator__reg".
        """
        params = super().get_params()
        inner = self.estimator.get_params() if deep and isinstance(self.estimator, Recommender) \
            else {}
        return {**params, **{f"estimator__{name}": value for name, value in inner.items()}}

    def set_params(self: Self, **params: Any) -> Self:
        """Set hyper-parameters, and return self.

        Parameters
        ----------
        **params
            Values by name; "estimator__reg" is the estimator's reg.
        """
        prefix = "estimator__"
        own = {name: value for name, value in params.items() if not name.startswith(prefix)}
        super().set_params(**own)
        inner = {name.removeprefix(prefix): params[name] for name in params if name not in own}
        if inner:
            self.estimator.set_params(**inner)
        return self

    # ------------------------------------------------------------------------ fit

    def fit(self: Self, ratings: Any, y: Any = None, *, sample_weight: Any = None,
            user_features: Any = None, item_features: Any = None, eval_set: Any = None,
            callbacks: Sequence[Callback] = (), checkpoint: Any = None) -> Self:
        """Learn each segment from the ratings of its users, and return self.

        Parameters
        ----------
        ratings, y, sample_weight
            As in `MatrixFactorization.fit`, or the `fit` of the estimator.
        user_features : Features, shape (n_users, n_features), or None
            Needed where `by` is the name of a field.
        item_features : Features, shape (n_items, n_features), or None
            Passed on to each model.
        eval_set : Ratings or scipy sparse, or None
            Of the users of the fit: each segment's model watches its own users.  A segment for
            which it holds nothing is fitted without, with a warning.
        callbacks
            As in `MatrixFactorization.fit`; they see the model of a segment.
        checkpoint : None
            Several models have no common checkpoint.

        Raises
        ------
        ValueError, TypeError
            Labels that do not fit the users (see `by`), a checkpoint; what the estimator
            refuses, with the segment's name.  All segments are checked before the first fit.
        """
        self.validate()
        thread_count(self.n_threads)
        if checkpoint is not None:
            raise ValueError("checkpoint must be None: a Segmented fits several models")
        if user_features is not None and not isinstance(self.by, str):
            raise ValueError(f"user_features must be None: they are there to find the field that "
                             f"`by` names, and by is a {type(self.by).__name__}")
        training = training_ratings(ratings, y, sample_weight)
        labels = labels_of(self.by, training, user_features)
        known, codes = self._segments_of(training, labels)
        watched = None if eval_set is None else as_ratings("eval_set", eval_set)
        models = fit_segments(self.estimator, lambda: segments_of(training, watched, known, codes),
                              callbacks=callbacks, item_features=item_features)
        with as_before(self) as undo:
            self.remember(training, sides_of(self, training, None, None), mean_rating(training))
            self.models_, self.segment_labels_, self.segment_of_user_ = models, known, codes
            self.place_of_user_ = _places(codes)
            self.history_ = [{"segment": label, **record} for label, model in
                             zip([None, *known], models, strict=True) for record in model.history_]
            undo.pop_all()
        return self

    def _segments_of(self, ratings: Ratings, labels: list[Hashable]
                     ) -> tuple[list[Hashable], np.ndarray]:
        """Return the labels that get a model, as they first come, and the code of each row."""
        labels_there = [label for label in dict.fromkeys(labels) if label is not None]
        codes = codes_of(labels, labels_there)
        cells = codes[ratings.users_of_cells]
        counts = np.bincount(cells[cells >= 0], minlength=len(labels_there))
        known = [label for label, count in zip(labels_there, counts, strict=True)
                 if count >= self.min_ratings]
        return known, codes_of(labels, known)

    def _take_models(self, makers: Sequence[Callable[[Ratings], Recommender]]) -> None:
        """Put the models of a file in place, each made from the rows it was fitted to.

        Raises ValueError where the parts of the file do not fit together.
        """
        self.segment_labels_ = list(map(as_tuples, self.segment_labels_))
        self.history_ = [{**record, "segment": as_tuples(record["segment"])}
                         for record in self.history_]
        codes, places = self.segment_of_user_, self.place_of_user_
        sizes = {len(codes), len(places), self.n_users_}
        if len(makers) != len(set(self.segment_labels_)) + 1 or len(sizes) > 1 or (
                codes.dtype != np.int64 or codes.min(initial=FALLBACK) < FALLBACK
                or codes.max(initial=FALLBACK) >= len(self.segment_labels_)
                or not np.array_equal(places, _places(codes))):
            raise ValueError(f"{len(makers)} models of {len(self.segment_labels_)} segments")
        parts = [self.ratings_.select_users(np.flatnonzero(codes == code))
                 for code in range(len(self.segment_labels_))]
        self.models_ = [made(part) for made, part in
                        zip(makers, [self.ratings_, *parts], strict=True)]

    # ------------------------------------------------------------------- the segments

    @property
    def fallback_(self) -> Recommender:
        """The model of all users."""
        model: Recommender = self.models_[0]
        return model

    @property
    def segments_(self) -> dict[Hashable, Recommender]:
        """The models by label."""
        return dict(zip(self.segment_labels_, self.models_[1:], strict=True))

    def segment(self, label: Hashable) -> Recommender:
        """Return the model of a segment, for its vectors and for new users of it.

        Parameters
        ----------
        label : hashable
            One of those of `by`.

        Raises
        ------
        KeyError
            For a label without a model of its own.
        """
        self.check_fitted()
        if label not in self.segments_:
            known = ", ".join(map(repr, self.segment_labels_[:20]))
            raise KeyError(f"there is no model of a segment {label!r}; there are {known}")
        model: Recommender = self.segments_[label]
        return model

    def answers(self) -> Routed:
        """Return what is asked of the models of all segments."""
        return Routed(self.models_, self.segment_of_user_, self.place_of_user_, self.by,
                      self.segment_labels_, self.n_items_)

    def similar_items(self, of: Any, k: int = 10, *, similarity: str = "cosine",
                      items: Any = None, exclude_items: Any = None, segment: Hashable = None,
                      as_frame: bool | str | None = None, titles: Any = None) -> Any:
        """Return the k items nearest to each given one: see `MatrixFactorization.similar_items`.

        Parameters
        ----------
        segment : hashable, or None
            Label of the segment whose model is asked; None: that of all users.

        Raises
        ------
        KeyError
            For a segment without a model of its own.
        """
        self.check_fitted()
        model = self.fallback_ if segment is None else self.segment(segment)
        return model.similar_items(of, k, similarity=similarity, items=items,
                                   exclude_items=exclude_items, as_frame=as_frame, titles=titles)

    def similar_users(self, of: Any, k: int = 10, *, similarity: str = "cosine",
                      users: Any = None, exclude_users: Any = None,
                      as_frame: bool | str | None = None) -> Any:
        """Return the k nearest users of a user's segment: see `MatrixFactorization.similar_users`.
        """
        self.check_fitted()
        table = framing(self, as_frame)
        rows, routed = self.ratings_.known_users(of), self.answers()
        k = length_of_lists(k, self.n_users_, table)
        filled(k, len(rows), self.n_users_)                     # (too many are refused)
        only, without = user_filters(self.ratings_, len(rows), users, exclude_users, row="user")
        kind = np.int64 if self.user_ids_ is None else self.user_ids_.dtype
        found, scores = np.empty((len(rows), k), kind), np.empty((len(rows), k))
        for code, own in rows_by_code(routed.codes_of_rows(rows)):
            near, scores[own] = self.models_[code + 1].similar_users(
                self._names_in(code, rows[own]), k, similarity=similarity,
                users=self._filter_in(code, own, only),
                exclude_users=self._filter_in(code, own, without))
            found[own] = near if self.user_ids_ is not None else routed.rows_of(code, near)
        return framed(table, "user", rows, found, scores)

    def _filter_in(self, code: int, own: np.ndarray, mask: Any) -> Any:
        """Return a filter of users as a segment's model takes it, for some of the asked rows."""
        rows = self.answers().members(code)
        if mask is None:
            return None
        return mask[own][:, rows] if sp.issparse(mask) else \
            self._names_in(code, rows[mask[rows]])

    def explain(self, user: Any, item: Any, k: int = 10
                ) -> tuple[float, np.ndarray, np.ndarray]:
        """Return what the model of the user's segment says: see `MatrixFactorization.explain`."""
        self.check_fitted()
        rows = self.ratings_.known_users([user])
        code = int(self.answers().codes_of_rows(rows)[0])
        return self.models_[code + 1].explain(self._names_in(code, rows)[0], item, k)

    def _names_in(self, code: int, rows: np.ndarray) -> np.ndarray:
        """Return what a segment's model calls users: their ids, or its own row numbers."""
        return self.answers().places_in(code, rows) if self.user_ids_ is None else \
            self.user_ids_[rows]

    def report(self, test: Any, *, metrics: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Say per segment what is lost (or won) by splitting, against one model of all.

        Parameters
        ----------
        test : Ratings or scipy sparse
            Held-out ratings of the users of the fit.
        metrics : sequence of str, or None
            As in `evaluate`; None: RMSE where the model predicts ratings, and NDCG@10.

        Returns
        -------
        rows : list of dict
            One a segment, the last, "segment" None, for users without one, if there are
            any: "users", "ratings", "unseen_items" (rated by nobody in the segment),
            "test_ratings", and each metric as "rmse" of the segment's model and
            "rmse of one model"; NaN where `test` holds nothing of the segment.
        """
        self.check_fitted()
        self.check_seen()
        test = as_ratings("test", test)
        asked = metrics or (["rmse"] if self.predicts_ratings else []) + ["ndcg@10"]
        names = [metric.key for metric in
                 requested(asked, (5, 10, 20), rates=self.predicts_ratings)]
        rows = Alignment(self, test).rows
        home = self.answers().codes_of_rows(np.asarray(rows))[test.users_of_cells]
        codes = [code for code, _ in rows_by_code(self.segment_of_user_)]
        return [self._reported(code, test.select_cells(home == code), names)
                for code in sorted(codes, key=lambda code: (code == FALLBACK, code))]

    def _reported(self, code: int, test: Ratings, metrics: list[str]) -> dict[str, Any]:
        rows = np.flatnonzero(self.segment_of_user_ == code)
        part = self.ratings_.select_users(rows).by_user
        row = {"segment": None if code == FALLBACK else self.segment_labels_[code],
               "users": len(rows), "ratings": part.nnz, "test_ratings": test.nnz,
               "unseen_items": self.n_items_ - len(np.unique(part.indices))}
        for suffix, model in (("", self), (" of one model", self.fallback_)):
            values = evaluate(model, test, metrics=metrics, n_threads=self.n_threads) \
                if test.nnz else dict.fromkeys(metrics, float("nan"))
            row.update({f"{name}{suffix}": value for name, value in values.items()})
        return row


def _places(codes: np.ndarray) -> np.ndarray:
    """Return the place of each row among those of the same code."""
    places = np.empty(len(codes), np.int64)
    for _, rows in rows_by_code(codes):
        places[rows] = np.arange(len(rows))
    return places
