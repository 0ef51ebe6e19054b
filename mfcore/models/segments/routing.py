"""Who answers for whom: labels of users, and answers of several models, one per segment.

A row of the fit has a code, its segment's number, or FALLBACK, and a place among the rows
of that segment's model.  Whatever is asked of many rows is asked of each model once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
import scipy.sparse as sp

from mfcore.data.features import Features
from mfcore.data.ids import integer_of
from mfcore.data.periods import moments_of
from mfcore.data.ratings import Ratings
from mfcore.data.times import Times
from mfcore.metrics.fitted import (
    Asked,
    Fitted,
    Folded,
    NewRows,
    Query,
    Scorer,
    Settling,
    of_items,
)
from mfcore.parallel import Pool
from mfcore.validation import FitWarning

FALLBACK = -1       # the code of users without a model of their own

def rows_by_code(codes: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Return (code, rows that have it, ascending) for each code that occurs."""
    return [(int(code), np.flatnonzero(codes == code)) for code in np.unique(codes)]


class Part(NamedTuple):
    """Rows of a scorer that another one scores, in their order."""

    rows: np.ndarray
    scorer: Scorer


class SegmentScorer:
    """Scores of rows that belong to the scorers of several segments."""

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

    def rounding(self, start: int, stop: int) -> np.ndarray | None:
        """Return how far each row of a block may be from `cells`; None if no scorer rounds."""
        found = [(rows[low:high], scorer.rounding(low, high)) for rows, scorer in self.parts
                 for low, high in [np.searchsorted(rows, (start, stop)).tolist()]]
        if all(own is None for _, own in found):
            return None
        rounding = np.zeros(stop - start)
        for rows, own in found:
            if own is not None:
                rounding[rows - start] = own
        return rounding

    def cells(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return the scores of cells, each computed alone."""
        scores = np.empty(len(rows), self._dtype)
        for own, scorer in self.parts:
            ours = np.flatnonzero(np.isin(rows, own))
            if ours.size and scorer.rounding(0, 0) is not None:
                scores[ours] = cast(Settling, scorer).cells(
                    np.searchsorted(own, rows[ours]), columns[ours])
        return scores

    def of_items(self, columns: np.ndarray) -> SegmentScorer:
        """Return a scorer of some items."""
        return SegmentScorer(self.n_rows, len(columns), [
            Part(rows, of_items(scorer, columns)) for rows, scorer in self.parts])

    @property
    def _dtype(self) -> np.dtype:
        return np.result_type(np.float32, *(part.scorer.block(0, 0) for part in self.parts))


@dataclass(frozen=True)
class Routed:
    """The answers of the models of all segments, each for its users.

    models : the fallback, then one per label
    codes, places : ndarray, shape (n_users,); by : as in `Segmented`; labels : of the models
    """

    models: Sequence[Any]
    codes: np.ndarray
    places: np.ndarray
    by: Any
    labels: Sequence[Hashable]
    n_items: int

    def answers(self, code: int) -> Fitted:
        """Return the answers of a segment's model."""
        fitted: Fitted = self.models[code + 1].answers()
        return fitted

    def codes_of_rows(self, rows: np.ndarray) -> np.ndarray:
        """Return the segment of rows of the fit; -1 is nobody's row."""
        return np.where(rows >= 0, self.codes[rows], FALLBACK)

    def codes_of_new(self, new: NewRows) -> np.ndarray:
        """Return the segment of new rows: known only by a mapping from their ids."""
        ids = None if new.ratings is None else new.ratings.user_ids
        if not isinstance(self.by, Mapping) or ids is None:
            return np.full(new.n_rows, FALLBACK)
        return codes_of([_label(self.by, user) for user in ids.tolist()], self.labels)

    def places_in(self, code: int, rows: np.ndarray) -> np.ndarray:
        """Return the rows, within a segment's model, of rows of the fit."""
        return rows if code == FALLBACK else self.places[rows]

    def rows_of(self, code: int, places: np.ndarray) -> np.ndarray:
        """Return the rows of the fit of rows within a segment's model; -1 stays."""
        return np.where(places >= 0, self.members(code)[places], -1)

    def members(self, code: int) -> np.ndarray:
        """Return the rows of the fit that a segment's model has, in its order."""
        return np.arange(len(self.codes)) if code == FALLBACK else \
            np.flatnonzero(self.codes == code)

    # ------------------------------------------------------------------------- answers

    def vectors(self, asked: Asked, pool: Pool) -> Folded:
        """Return the vectors of users, each in the space of its segment."""
        parts = [(own, self.answers(code).vectors(some, pool))
                 for code, own, some in self.routed(asked)]
        order = np.argsort(np.concatenate([own for own, _ in parts]), kind="stable")
        factors, bias = zip(*(folded for _, folded in parts), strict=True)
        joined = sp.vstack(factors, format="csr") if sp.issparse(factors[0]) else \
            np.concatenate(factors)
        return Folded(joined[order], None if bias[0] is None else np.concatenate(bias)[order])

    def fold_in(self, new: NewRows, pool: Pool) -> Folded:
        """Return the vectors of new users, each in the space of its segment."""
        return self.vectors(new, pool)

    def scorer(self, asked: Asked, query: Query, pool: Pool) -> Scorer:
        """Return what scores users against all items."""
        parts = [Part(own, self.answers(code).scorer(some, query, pool))
                 for code, own, some in self.routed(asked)]
        return SegmentScorer(sum(len(part.rows) for part in parts), self.n_items, parts)

    def pairs(self, rows: np.ndarray, columns: np.ndarray, new: NewRows | None, pool: Pool
              ) -> np.ndarray:
        """Return what `predict` of the model of each user says of pairs."""
        scores = np.empty(len(rows))
        for code, own, places, some in self.routed_pairs(rows, new):
            scores[own] = self.answers(code).pairs(places, columns[own], some, pool)
        return scores

    @property
    def drift(self) -> RoutedDrift | None:
        """Effects of periods, or None."""
        has_any = getattr(self.answers(FALLBACK), "drift", None) is not None
        return RoutedDrift(self) if has_any else None

    def pairs_in_time(self, rows: np.ndarray, columns: np.ndarray, new: NewRows | None,
                      effects: np.ndarray, pool: Pool) -> np.ndarray:
        """Return the same with effects of periods."""
        scores = np.empty(len(rows))
        for code, own, places, some in self.routed_pairs(rows, new):
            answers = cast(Any, self.answers(code))
            scores[own] = answers.pairs_in_time(places, columns[own], some, effects[own], pool)
        return scores

    def routed_pairs(self, rows: np.ndarray, new: NewRows | None
                     ) -> Iterator[tuple[int, np.ndarray, np.ndarray, NewRows | None]]:
        """Yield each code, the pairs that have it, and their rows as its model is asked for them.
        """
        codes = self.codes_of_rows(rows) if new is None else self.codes_of_new(new)[rows]
        for code, own in rows_by_code(codes):
            if new is None:
                yield code, own, self.places_in(code, rows[own]), None
            else:
                asked, places = np.unique(rows[own], return_inverse=True)
                yield code, own, places, new.select(asked)

    def routed(self, asked: Asked) -> Iterator[tuple[int, np.ndarray, Asked]]:
        """Yield each code, the places among those asked that have it, and what to ask there."""
        if isinstance(asked, NewRows):
            for code, own in rows_by_code(self.codes_of_new(asked)):
                yield code, own, asked.select(own)
        else:
            for code, own in rows_by_code(self.codes_of_rows(asked)):
                yield code, own, self.places_in(code, asked[own])


@dataclass(frozen=True)
class RoutedDrift:
    """Effects of periods, each user's in the model of their segment: as `Drift` of one model."""

    answers: Routed

    def of_pairs(self, rows: np.ndarray, columns: np.ndarray, new: NewRows | None, times: Any
                 ) -> np.ndarray:
        """Return what times add to the scores of pairs."""
        total, moments = np.zeros(len(rows)), self._moments(times, len(rows))
        for code, own, places, some in self.answers.routed_pairs(rows, new):
            total[own] = self._in(code).of_pairs(places, columns[own], some, moments(own))
        return total

    def on(self, scorer: SegmentScorer, asked: Asked, times: Any) -> SegmentScorer:
        """Return the scorer of users at their moments."""
        moments = self._moments(times, scorer.n_rows)
        parts = [Part(own, self._in(code).on(part.scorer, some, moments(own))) for part, (
            code, own, some) in zip(scorer.parts, self.answers.routed(asked), strict=True)]
        return SegmentScorer(scorer.n_rows, scorer.n_items, parts)

    def _in(self, code: int) -> Any:
        return cast(Any, self.answers.answers(code)).drift

    def _moments(self, times: Any, n: int) -> Callable[[np.ndarray], Times]:
        """Return what gives the moments of some of n."""
        known: Times = self._in(FALLBACK).times
        numbers = moments_of(known, times, n)
        return lambda own: Times.stated(numbers[own], known.kind)


# -------------------------------------------------------------------------- who is where

By = str | Mapping[Any, Hashable] | Sequence[Hashable] | np.ndarray


def check_by(name: str, by: Any) -> None:
    """Raise a TypeError unless `by` is a name, a mapping, or a sequence of labels."""
    if not isinstance(by, (str, Mapping, Sequence, np.ndarray)):
        raise TypeError(f"by must be the name of a field of user_features, a mapping from user "
                        f"to label, or one label per user, got {type(by).__name__}")


def labels_of(by: By, ratings: Ratings, user_features: Any) -> list[Hashable]:
    """Return the label of each row, None for users without one.

    Raises
    ------
    ValueError
        Labels that are not as many as users, or missing among labels given by row; a field
        that the features do not have, or with several values in a row.
    TypeError
        Labels that a model file could not keep, of any user of a mapping.
    """
    if isinstance(by, str):
        labels = _of_field(by, ratings, user_features)
    elif isinstance(by, Mapping):
        kept = {user: plain_label(label) for user, label in by.items()}
        labels = [_label(kept, user) for user in _names(ratings)]
        _warn_of_strangers(kept, labels)
    else:
        labels = [plain_label(label) for label in _of_rows(by, ratings)]
    return labels


def _label(by: Mapping[Any, Hashable], user: Any) -> Hashable:
    """Return the label of a user; an integer and the text that Python prints for it are one id."""
    if user in by:
        return by[user]
    other = str(user) if isinstance(user, int) else \
        integer_of(user) if isinstance(user, str) else None
    return by.get(other)


def _warn_of_strangers(by: Mapping[Any, Hashable], labels: Sequence[Hashable]) -> None:
    if by and all(label is None for label in labels):
        warnings.warn(f"by has a label for none of the users of the ratings, but for "
                      f"{next(iter(by))!r}, for one: are these their ids?", FitWarning,
                      stacklevel=2)


def plain_label(label: Any) -> Hashable:
    """Return a label as a model file keeps it: a string, number, boolean, tuple of them, or None.

    Raises TypeError for other labels, and for NaN, which is not equal to itself.
    """
    if isinstance(label, tuple):
        return tuple(map(plain_label, label))
    label = label.item() if isinstance(label, np.generic) else label
    for kind in (bool, int, float, str):
        if isinstance(label, kind) and kind(label) == label:
            return kind(label)
    if label is not None:
        raise TypeError(f"by must give labels that a model file can keep, strings, numbers, "
                        f"booleans or tuples of them, got {label!r}")
    return None


def _names(ratings: Ratings) -> Sequence[Any]:
    return range(ratings.shape[0]) if ratings.user_ids is None else ratings.user_ids.tolist()


def _of_rows(by: Any, ratings: Ratings) -> list[Hashable]:
    labels = by.tolist() if isinstance(by, np.ndarray) else list(by)
    if len(labels) != ratings.shape[0]:
        raise ValueError(f"by must hold one label per user, {ratings.shape[0]}, got {len(labels)}")
    missing = [row for row, label in enumerate(labels)
               if label is None or (isinstance(label, float) and label != label)]
    if missing:
        raise ValueError(f"by has no label for row {missing[0]} ({len(missing)} in all); name a "
                         f"segment for them, or give a mapping, which may leave users out")
    return labels


def _of_field(by: str, ratings: Ratings, user_features: Any) -> list[Hashable]:
    if not isinstance(user_features, Features):
        raise ValueError(f"by={by!r} names a field: fit needs user_features with its names (see "
                         f"mfcore.data.features), got {type(user_features).__name__}")
    if user_features.shape[0] != ratings.shape[0]:
        raise ValueError(f"user_features must have {ratings.shape[0]} rows, one a user, got "
                         f"{user_features.shape[0]}")
    columns = [place for place, name in enumerate(user_features.names)
               if name.startswith(f"{by}=")]
    if not columns:
        fields = sorted({name.split("=")[0] for name in user_features.names})
        raise ValueError(f"user_features must have a field {by!r}, got {', '.join(fields)}")
    return _of_columns(by, user_features, columns)


def _of_columns(by: str, features: Features, columns: list[int]) -> list[Hashable]:
    block = features.matrix[:, columns]
    block.eliminate_zeros()
    counts = np.diff(block.indptr)
    if counts.max(initial=0) > 1:
        raise ValueError(f"by={by!r} must have one value per user, got {counts.max()} in row "
                         f"{counts.argmax()}")
    values = np.array([features.names[place].partition("=")[2] for place in columns], object)
    labels = np.full(len(counts), None, object)
    labels[counts == 1] = values[block.indices]
    found: list[Hashable] = labels.tolist()
    return found


def codes_of(labels: Sequence[Hashable], known: Sequence[Hashable]) -> np.ndarray:
    """Return the number of each label among those known, -1 for others."""
    number = {label: code for code, label in enumerate(known)}
    return np.array([number.get(label, -1) for label in labels], np.int64)
