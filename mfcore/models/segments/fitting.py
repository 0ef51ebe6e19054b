"""Fit one model per segment, once every segment has passed every check.

What holds for the ratings of all users need not hold for those of a segment: a matrix without
unknown cells, nothing to hold out, an eval_set that holds nothing of its users.  So each fit is
rehearsed up to its first epoch before any of them begins.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import numpy as np

from mfcore.data.ratings import Ratings
from mfcore.models.stopping import NothingToWatchError
from mfcore.models.training import rehearse
from mfcore.parallel import CHUNK_CELLS
from mfcore.validation import DivergenceError, FitWarning, warn

UNWATCHED = ("patience", "validation")      # hyper-parameters that need something to watch
SHOWN = 5                                   # labels in a message


class Segment(NamedTuple):
    """The ratings of some users; the label is None for all of them."""

    label: Hashable
    ratings: Ratings
    eval_set: Ratings | None


class Way(NamedTuple):
    """How a segment is fitted: what is watched, and hyper-parameters that differ."""

    label: Hashable
    eval_set: Ratings | None
    changes: dict[str, Any]


def segments_of(training: Ratings, eval_set: Ratings | None, labels: Sequence[Hashable],
                codes: np.ndarray) -> Iterator[Segment]:
    """Yield all users, and then those of each label, with their part of the evaluation set."""
    yield Segment(None, training, eval_set)
    for code, label in enumerate(labels):
        rows = np.flatnonzero(codes == code)
        yield Segment(label, training.select_users(rows), _of_users(eval_set, training, rows))


def _of_users(eval_set: Ratings | None, training: Ratings, rows: np.ndarray) -> Ratings | None:
    """Return what an evaluation set holds of some users, by their ids or places; or None."""
    if eval_set is None:
        return None
    known = np.arange(eval_set.shape[0]) if eval_set.user_ids is None else \
        training.user_positions(eval_set.user_ids)
    places = np.searchsorted(rows, known).clip(max=len(rows) - 1)
    own = np.flatnonzero(rows[places] == known)
    own = own[np.argsort(places[own], kind="stable")]
    part = eval_set.select_users(own)
    ids = places[own] if training.user_ids is None else training.user_ids[rows][places[own]]
    return None if not part.nnz else Ratings(
        part.by_user, weights=part.weights, user_ids=ids, item_ids=part.item_ids,
        times=part.moments, copy=False)


def fit_segments(estimator: Any, segments: Callable[[], Iterator[Segment]], **given: Any
                 ) -> list[Any]:
    """Return a fitted copy of an estimator for each segment, all users first.

    Parameters
    ----------
    estimator : Recommender
    segments : callable
        Returns the same segments at each call, so that they need not all be in memory.
    **given
        What else `fit` takes.

    Raises
    ------
    ValueError, TypeError, DivergenceError
        As a fit, with the name of the segment.
    """
    ways = [_way_of(estimator, segment, given) for segment in segments()]
    _tell_of_unwatched(ways, estimator.get_params(deep=False).get("validation"))
    return [_fitted(estimator, segment, way, given)
            for segment, way in zip(segments(), ways, strict=True)]


def _way_of(estimator: Any, segment: Segment, given: dict[str, Any]) -> Way:
    """Return the first way in which a segment can be fitted; raise where there is none."""
    *first, last = _ways(estimator, segment)
    for way in first:
        with suppress(NothingToWatchError):
            return _rehearsed(estimator, segment, way, given)
    return _rehearsed(estimator, segment, last, given)


def _ways(estimator: Any, segment: Segment) -> list[Way]:
    """Return the ways to fit a segment, best first; all users are fitted as asked."""
    label, known = segment.label, estimator.get_params(deep=False)
    unwatched = {name: None for name in UNWATCHED if name in known}
    others = [] if label is None else [Way(label, None, {}), Way(label, None, unwatched)]
    return [Way(label, segment.eval_set, {}), *others]


def _rehearsed(estimator: Any, segment: Segment, way: Way, given: dict[str, Any]) -> Way:
    with _named(segment.label):
        rehearse(_copy(estimator, way), segment.ratings, eval_set=way.eval_set, **given)
    return way


def _fitted(estimator: Any, segment: Segment, way: Way, given: dict[str, Any]) -> Any:
    model = _copy(estimator, way)
    # Less than two chunks: a second thread would only wait (and the bits are the same).
    if segment.ratings.nnz < 2 * CHUNK_CELLS:
        model.n_threads = 1
    with _named(segment.label), warnings.catch_warnings():
        if segment.label is not None:                       # (that of all users says it once)
            warnings.simplefilter("ignore", FitWarning)
        model.fit(segment.ratings, eval_set=way.eval_set, **given)
    return model.set_params(**estimator.get_params(deep=False))


def _copy(estimator: Any, way: Way) -> Any:
    return type(estimator)(**{**estimator.get_params(deep=False), **way.changes})


@contextmanager
def _named(label: Hashable) -> Iterator[None]:
    """Put the name of a segment before what its fit complains of."""
    try:
        yield
    except (ValueError, TypeError, DivergenceError) as error:
        where = "all users" if label is None else f"segment {label!r}"
        raise type(error)(f"{where}: {error}") from error


def _tell_of_unwatched(ways: list[Way], validation: float | None) -> None:
    """Warn of segments that cannot be watched as the fit of all users is."""
    whole, *parts = ways
    missing = [way.label for way in parts if way.changes or (
        whole.eval_set is not None and way.eval_set is None and validation is None)]
    if missing:
        shown = ", ".join(map(repr, missing[:SHOWN])) + (", ..." if len(missing) > SHOWN else "")
        source = "share to hold out" if whole.eval_set is None else "part of eval_set to watch"
        warn(f"{len(missing)} of {len(parts)} segments have no {source}: {shown}; their models "
             f"run all epochs")
