"""Answers of models with vectors: rows of a side, scores linear in them, rows left unanswered.

    s_ui = μ + b_u + b̃_i + P_u·Q_i

Models with a score of their own (networks, codes, rows) take from here what they share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mfcore import validation
from mfcore.data.chunks import Columns, columns_of_rows
from mfcore.data.ids import factorize
from mfcore.data.positions import named
from mfcore.data.ratings import Ratings
from mfcore.metrics.fitted import Asked, Folded, NewRows, Query, Scorer
from mfcore.metrics.topk import top_k
from mfcore.models.inputs import (
    NO_FILTERS,
    Filters,
    asked_rows,
    item_filters,
    pairs,
)
from mfcore.models.sides import Row, Side, group_positions
from mfcore.objectives.factors import LinearScorer, pair_scores, unit_rows
from mfcore.parallel import Pool

Default = Callable[[Any], Row | None]
UNIT = 1 + 1e-5         # no vector of length 1 is longer, whatever it was rounded to


def rows_of(side: Side, rows: np.ndarray, default: Row | None) -> Folded:
    """Return vectors and biases of rows of a side, those of `default` (None: zeros) for -1."""
    unknown = np.flatnonzero(np.asarray(rows) < 0)
    factors, bias = side.factors[rows], None if side.bias is None else side.bias[rows]
    if unknown.size:
        factors[unknown] = 0 if default is None else default.vector
        if bias is not None:
            bias[unknown] = 0 if default is None else default.bias
    return Folded(factors, bias)


def with_default(vectors: Folded, rows: np.ndarray, default: Row | None
                 ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return vectors, biases and rows, with the default row in place of -1."""
    X, bias = vectors
    bias = np.zeros(len(X)) if bias is None else bias
    if default is None or not (rows < 0).any():
        return X, bias, rows
    return (np.vstack([X, default.vector.astype(X.dtype)]), np.append(bias, default.bias),
            np.where(rows < 0, len(X), rows))


def units_of(side: Side) -> np.ndarray:
    """Return the vectors of a side divided by their lengths; kept."""
    return np.asarray(side.once("units", lambda: unit_rows(side.factors)))


def cosine_scorer(users: Folded, items: Side) -> LinearScorer:
    """Return the scorer by the angle of vectors; a zero vector scores 0."""
    return LinearScorer(unit_rows(users.factors), units_of(items), longest=UNIT)


@dataclass(frozen=True)
class Unanswered:
    """What a model without biases says of pairs one of whose vectors says nothing.

    value : the mean rating, or None, for models that have an answer always
    w0 : weight of unknown cells; above 0 also rows without ratings have vectors
    """

    value: float | None = None
    w0: float = 0.0

    def fill(self, scores: np.ndarray, *parts: tuple[np.ndarray, np.ndarray, Row | None]
             ) -> np.ndarray:
        """Put the value where a part says nothing: (rows, counts of all, default row) of each."""
        if self.value is not None:
            for rows, counts, default in parts:
                if default is None:
                    scores[self._silent(rows, counts)] = self.value
        return scores

    def _silent(self, rows: np.ndarray, counts: np.ndarray) -> np.ndarray:
        silent: np.ndarray = rows < 0
        if self.w0 == 0:
            silent[~silent] = counts[rows[~silent]] == 0
        return silent


def answered_unless(model: Any, w0: float = 0.0) -> Unanswered:
    """Return what a model answers without biases: the mean rating, if it predicts ratings."""
    alone = model.predicts_ratings and model.users_.bias is None
    return Unanswered(model.mean_rating_ if alone else None, w0)


@dataclass(frozen=True)
class Linear:
    """The answers of a model whose score is linear in a user's vector.

    Parameters
    ----------
    users, items : Side
    mean : float
        μ.
    fold : callable
        fold(new, pool) returns the vectors of new users.
    default : callable
        default(side) returns the row of which nothing is known; None: zeros.
    link : callable or None
        What `predict` makes of scores.
    unanswered : Unanswered
    """

    users: Side
    items: Side
    mean: float
    fold: Callable[[NewRows, Pool], Folded]
    default: Default = Side.default_row
    link: Callable[[np.ndarray], np.ndarray] | None = None
    unanswered: Unanswered = Unanswered()

    # Whether known items wait, in an update, until their history has grown.
    waits: ClassVar[bool] = False

    def vectors(self, asked: Asked, pool: Pool) -> Folded:
        """Return the vectors of users: see `mfcore.metrics.fitted.Fitted`."""
        if isinstance(asked, NewRows):
            return self.fold(asked, pool)
        return rows_of(self.users, asked, self.default(self.users))

    def fold_in(self, new: NewRows, pool: Pool) -> Folded:
        """Return the vectors of new users."""
        return self.fold(new, pool)

    def scorer(self, asked: Asked, query: Query, pool: Pool) -> Scorer:
        """Return what scores users against all items."""
        users = self.vectors(asked, pool)
        if query.similarity == "cosine":
            return cosine_scorer(users, self.items)
        return LinearScorer(users.factors, self.items.factors, users.bias, self.items.bias,
                            self.mean, self.items.longest)

    def pairs(self, rows: np.ndarray, columns: np.ndarray, new: NewRows | None, pool: Pool
              ) -> np.ndarray:
        """Return what `predict` says of pairs."""
        users, counts = Folded(self.users.factors, self.users.bias), self.users.counts
        if new is not None:
            users, counts = self.fold(new, pool), new.counts
        user, item = self.default(self.users), self.default(self.items)
        P, beta, places = with_default(users, rows, user)
        Q, gamma, item_places = with_default(Folded(self.items.factors, self.items.bias),
                                             columns, item)
        scores: np.ndarray = self.mean + pair_scores(places, item_places, P, Q, beta, gamma, pool)
        return self.unanswered.fill(scores if self.link is None else self.link(scores),
                                    (rows, counts, user), (columns, self.items.counts, item))


def score_of(model: Any, ratings: Any, y: Any) -> float:
    """Return what `Recommender.score` does."""
    from mfcore.metrics.evaluate import evaluate
    from mfcore.metrics.rating import rmse
    from mfcore.metrics.table import main_metric, sign

    if y is not None and model.predicts_ratings:
        truth = validation.finite("y", validation.vector("y", y))
        users, items = pairs("X", ratings)
        predicted = model.predict(users, items)
        _warn_of_strangers(model.ratings_, users, items)
        return -float(rmse(truth, np.clip(predicted, *model.rating_range_)))
    test = ratings if y is None else Ratings.from_arrays(*pairs("X", ratings), y)
    metric = main_metric(model.predicts_ratings)
    return sign(metric) * float(*evaluate(model, test, metrics=metric, k=10).values())


def _warn_of_strangers(known: Ratings, users: np.ndarray, items: np.ndarray) -> None:
    from mfcore.metrics.alignment import warn_of_strangers

    for name, ids, positions in (("users", users, known.user_positions),
                                 ("items", items, known.item_positions)):
        distinct = factorize(name, ids)[0]
        warn_of_strangers(name, distinct, positions(distinct), np.arange(len(distinct)))


# --------------------------------------------------------------- the best of many

def best_items(model: Any, query: Query, users: Any = None, k: int = 10,
               exclude_seen: bool = True, items: Any = None, exclude_items: Any = None,
               ratings: Any = None, user_features: Any = None, unknown: str = "raise",
               as_frame: Any = None, titles: Any = None, times: Any = None) -> Any:
    """Return the k best items of each user under a query: see `Recommender.recommend`."""
    model.check_fitted()
    table = framing(model, as_frame, titles)
    k = length_of_lists(k, model.n_items_, table)
    validation.choice("similarity", query.similarity, ("dot", "cosine"))
    validation.boolean("exclude_seen", exclude_seen)
    drift = None if times is None else drift_for(model, query.similarity)
    asked, known = asked_rows(model, users, ratings, user_features, unknown), model.ratings_
    n_rows = asked.n_rows if isinstance(asked, NewRows) else len(asked)
    allowed, excluded = item_filters(known, n_rows, items, exclude_items, unknown)
    seen: Any = None
    if isinstance(asked, NewRows):
        seen = None if asked.ratings is None or not exclude_seen else asked.ratings.by_user
    elif exclude_seen:
        seen = known.by_user if users is None else columns_of_rows(
            known.by_user.indptr, known.by_user.indices, asked)
    with Pool(model.n_threads) as pool:
        scorer = model.answers().scorer(asked, query, pool)
        scorer = scorer if drift is None else drift.on(scorer, asked, times)
        best, scores = top_k(scorer, k, seen=seen, allowed=allowed, excluded=excluded, pool=pool)
    lists = named(best, known.item_ids), scores
    return lists if table is None else table.of_users(asked, users, *lists)


def drift_for(model: Any, similarity: str = "dot") -> Any:
    """Return the effects of periods of a model that is asked with times.

    Raises ValueError for a model without, and for angles, which have no effects in them.
    """
    found = getattr(model.answers(), "drift", None)
    if found is None:
        raise ValueError(f"times must be None: this {type(model).__name__} has learned nothing of "
                         f"time; MatrixFactorization and BayesianMF do, with user_periods=... or "
                         f"item_periods=...")
    if similarity != "dot":
        raise ValueError("times must be None with similarity='cosine': angles know none")
    return found


def framing(model: Any, as_frame: Any, titles: Any = None) -> Any:
    """Return what makes frames of lists, None where arrays are asked for."""
    if (as_frame is None or as_frame is False) and titles is None:
        return None
    from mfcore.models.answering.table import Framing

    return Framing(model, as_frame, titles)


def length_of_lists(k: Any, n_entries: int, table: Any = None) -> int:
    """Return the checked k; a frame has no rows for empty places."""
    length = validation.count("k", k)
    return length if table is None else min(length, n_entries)


def framed(table: Any, side: str, asked: np.ndarray, ids: np.ndarray, scores: np.ndarray) -> Any:
    """Return the neighbours of rows of a side, as a frame where one is asked for."""
    return (ids, scores) if table is None else table.of_similar(side, asked, ids, scores)


def nearest(model: Any, X: np.ndarray, rows: np.ndarray | None, k: int, similarity: str,
            filters: Filters = NO_FILTERS, vectors: np.ndarray | None = None,
            side: Side | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the k rows of X nearest to `vectors`, or to the given rows without itself.

    `side` is the one whose vectors X holds, if it is one's.
    """
    k = validation.count("k", k)
    validation.choice("similarity", similarity, ("cosine", "dot"))
    vectors = X[rows] if vectors is None else vectors
    known = side if side is not None and side.factors is not None else None
    longest = None if known is None else known.longest
    if similarity == "cosine":
        X, vectors = unit_rows(X) if known is None else units_of(known), unit_rows(vectors)
        longest = UNIT
    itself = None if rows is None else Columns(np.arange(len(rows) + 1), rows)
    with Pool(model.n_threads) as pool:
        return top_k(LinearScorer(vectors, X, longest=longest), k, seen=itself,
                     allowed=filters.allowed, excluded=filters.excluded, pool=pool)


def nearest_to_groups(model: Any, groups: Any, k: int, to: str, side: str, similarity: str
                      ) -> tuple[np.ndarray, np.ndarray]:
    """Return what lies nearest to groups: see `Recommender.similar_groups`."""
    validation.choice("side", side, ("user", "item"))
    validation.choice("to", to, ("groups", "items", "users"))
    grouped: Side = model.users_ if side == "user" else model.items_
    rows, vectors = group_positions("groups", groups, grouped.feature_names), \
        np.asarray(grouped.feature_factors)
    if to == "groups":
        best, scores = nearest(model, vectors, rows, k, similarity)
        return named(best, np.array(grouped.feature_names, object)), scores
    others, ids, known = (model.item_factors_, model.item_ids_, model.items_) if to == "items" \
        else (model.user_factors_, model.user_ids_, model.users_)
    best, scores = nearest(model, others, None, k, similarity, vectors=vectors[rows], side=known)
    return named(best, ids), scores
