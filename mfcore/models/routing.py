"""Answers of several models, each for the users of one segment.

A row of the fit has a code, its segment's number, or FALLBACK, and a place among the rows
of that segment's model.  Whatever is asked of many rows is asked of each model once.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mfcore import validation
from mfcore.data.ratings import Ratings
from mfcore.metrics.topk import Scorer
from mfcore.models.base import Folded, NewRows, Recommender
from mfcore.models.inputs import aligned_ratings, paired
from mfcore.models.segments import By, codes_of
from mfcore.parallel import Pool

FALLBACK = -1       # the code of users without a model of their own


def rows_by_code(codes: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Return (code, rows that have it, ascending) for each code that occurs."""
    return [(int(code), np.flatnonzero(codes == code)) for code in np.unique(codes)]


class Part(NamedTuple):
    """Rows of a scorer that another one scores, in their order."""

    rows: np.ndarray
    scorer: Scorer


class SegmentScorer:
    """Scores of rows each of which belongs to the scorer of one segment."""

    def __init__(self, n_rows: int, n_items: int, parts: Sequence[Part]) -> None:
        self.n_rows, self.n_items, self.parts = n_rows, n_items, parts

    def block(self, start: int, stop: int) -> np.ndarray:
        """Return the scores of rows start..stop, shape (stop - start, n_items)."""
        scores = np.empty((stop - start, self.n_items), self._dtype)
        for rows, scorer in self.parts:
            low, high = np.searchsorted(rows, (start, stop)).tolist()
            if low < high:
                scores[rows[low:high] - start] = scorer.block(low, high)
        return scores

    @property
    def _dtype(self) -> np.dtype:
        return np.result_type(np.float32, *(part.scorer.block(0, 0) for part in self.parts))


class Routed(Recommender):
    """Base of `Segmented`: who answers for whom."""

    by: By
    segment_labels_: list[Hashable]
    segment_of_user_: np.ndarray
    place_of_user_: np.ndarray
    models_: list[Recommender]

    @property
    def fallback_(self) -> Recommender:
        """The model of all users."""
        return self.models_[0]

    @property
    def segments_(self) -> dict[Hashable, Recommender]:
        """The models by label."""
        return dict(zip(self.segment_labels_, self.models_[1:], strict=True))

    def segment(self, label: Hashable) -> Recommender:
        """Return the model of a segment, for its vectors and for new users of it.

        Raises KeyError for a label without a model of its own.
        """
        self._check_fitted()
        if label not in self.segments_:
            known = ", ".join(map(repr, self.segment_labels_[:20]))
            raise KeyError(f"there is no model of a segment {label!r}; there are {known}")
        return self.segments_[label]

    def _model(self, code: int) -> Recommender:
        return self.models_[code + 1]

    def _codes_of_rows(self, rows: np.ndarray) -> np.ndarray:
        """Return the segment of rows of the fit; -1 is nobody's row."""
        return np.where(rows >= 0, self.segment_of_user_[rows], FALLBACK)

    def _codes_of_new(self, ratings: Ratings) -> np.ndarray:
        """Return the segment of new rows: known only by a mapping from their ids."""
        if not isinstance(self.by, Mapping) or ratings.user_ids is None:
            return np.full(ratings.shape[0], FALLBACK)
        return codes_of([self.by.get(user) for user in ratings.user_ids.tolist()],
                        self.segment_labels_)

    def _places_in(self, code: int, rows: np.ndarray) -> np.ndarray:
        """Return the rows, within a segment's model, of rows of the fit."""
        return rows if code == FALLBACK else self.place_of_user_[rows]

    def _names_in(self, code: int, rows: np.ndarray, names: np.ndarray) -> np.ndarray:
        """Return what a segment's model calls users: their ids, or its own row numbers."""
        return names if self.user_ids_ is not None else \
            np.where(rows >= 0, self._places_in(code, rows), names)

    # ------------------------------------------------------------------------- answers

    def _scorer(self, rows: np.ndarray | None, *, new: NewRows | None = None,
                similarity: str = "dot") -> Any:
        if new is not None and new.ratings is not None:
            codes = self._codes_of_new(new.ratings)
            parts = [Part(own, self._model(code)._scorer(
                None, new=NewRows(new.ratings.select_users(own), None), similarity=similarity))
                for code, own in rows_by_code(codes)]
        else:
            asked = np.asarray(rows)
            codes = self._codes_of_rows(asked)
            parts = [Part(own, self._model(code)._scorer(
                self._places_in(code, asked[own]), similarity=similarity))
                for code, own in rows_by_code(codes)]
        return SegmentScorer(len(codes), self.n_items_, parts)

    def predict(self, users: Any, items: Any, *, ratings: Any = None,
                user_features: Any = None) -> np.ndarray:
        """Return the scores of pairs, each from the model of its user; see `Recommender`."""
        self._check_fitted()
        self._new_rows(None, user_features)                          # says why not
        names, items = paired(users, items)
        if ratings is not None:
            return self._predicted_new(names, items, aligned_ratings(ratings, self))
        rows = self._pair_positions("users", names, self.user_ids_, self._user_positions)
        scores = np.empty(len(names))
        for code, own in rows_by_code(self._codes_of_rows(rows)):
            scores[own] = self._model(code).predict(
                self._names_in(code, rows[own], names[own]), items[own])
        return scores

    def _predicted_new(self, rows: np.ndarray, items: np.ndarray, folded: Ratings) -> np.ndarray:
        rows = validation.positions("users", rows, folded.shape[0])
        codes, scores = self._codes_of_new(folded), np.empty(len(rows))
        for code, own in rows_by_code(codes[rows]):
            asked, place = np.unique(rows[own], return_inverse=True)
            scores[own] = self._model(code).predict(place, items[own],
                                                    ratings=folded.select_users(asked))
        return scores

    def similar_items(self, items: Any, k: int = 10, *, similarity: str = "cosine",
                      segment: Hashable = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the k items nearest to each, as a segment sees them; None: as all users do.

        Raises KeyError for a segment without a model of its own.
        """
        self._check_fitted()
        model = self.fallback_ if segment is None else self.segment(segment)
        return model.similar_items(items, k, similarity=similarity)

    def similar_users(self, users: Any, k: int = 10, *, similarity: str = "cosine"
                      ) -> tuple[np.ndarray, np.ndarray]:
        """Return the k nearest users of the same segment, shape (n, k), as `Recommender`."""
        self._check_fitted()
        rows = self._known_users(users)
        k = validation.count("k", k)
        found, scores = np.empty((len(rows), k), self._id_type), np.empty((len(rows), k))
        for code, own in rows_by_code(self._codes_of_rows(rows)):
            names = rows[own] if self.user_ids_ is None else self.user_ids_[rows[own]]
            near, scores[own] = self._model(code).similar_users(
                self._names_in(code, rows[own], names), k, similarity=similarity)
            found[own] = near if self.user_ids_ is not None else self._rows_of(code, near)
        return found, scores

    @property
    def _id_type(self) -> Any:
        return np.int64 if self.user_ids_ is None else self.user_ids_.dtype

    def _rows_of(self, code: int, places: np.ndarray) -> np.ndarray:
        """Return the rows of the fit of rows within a segment's model; -1 stays."""
        if code == FALLBACK:
            return places
        rows = np.flatnonzero(self.segment_of_user_ == code)
        return np.where(places >= 0, rows[places], -1)

    def explain(self, user: Any, item: Any, k: int = 10
                ) -> tuple[float, np.ndarray, np.ndarray]:
        """Return what the model of the user's segment says, see there."""
        self._check_fitted()
        rows = self._known_users([user])
        code = int(self._codes_of_rows(rows)[0])
        name = user if self.user_ids_ is not None else int(self._places_in(code, rows)[0])
        return self._model(code).explain(name, item, k)

    def _fold_in_rows(self, ratings: Ratings, pool: Pool, features: Any = None) -> Folded:
        codes = self._codes_of_new(ratings)
        parts = [(own, self._model(code)._fold_in_rows(ratings.select_users(own), pool))
                 for code, own in rows_by_code(codes)]
        order = np.argsort(np.concatenate([own for own, _ in parts]), kind="stable")
        factors, bias = zip(*(folded for _, folded in parts), strict=True)
        joined = None if bias[0] is None else np.concatenate(bias)[order]
        return Folded(np.concatenate(factors)[order], joined)
