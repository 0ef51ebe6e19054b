"""Vectors of some rows of a fitted model, solved again; the others stay as they are.

A row with many ratings moves little by one more, and costs as much as all its ratings.
So a row of more than ten ratings waits until about a fifth of them is news to it.  The cost of an
update then goes with what is new, some five old ratings for each, and not with the histories of
all who were there.  Rows have shares of their own, from a tenth to three tenths: where all had one,
all that a fit leaves would come due in the same week.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mfcore.data.chunks import column_counts
from mfcore.data.features import Features
from mfcore.data.merging import columns_of
from mfcore.data.ratings import Ratings
from mfcore.metrics.fitted import NewRows
from mfcore.models.sides import Side
from mfcore.models.updates.sides import settled, with_rows
from mfcore.parallel import Pool

FEW, NEWS = 10, 0.2


class Part(NamedTuple):
    """What an update does to one side of a model.

    features : Features of all rows, history left out; None: there are none
    changes : ndarray of int, shape (n_rows,), ratings that came or went
    asked : ndarray of bool, shape (n_rows,), whether a row is solved whatever is new of it
    solved : whether rows of this side are solved at all
    """

    features: Features | None
    changes: np.ndarray
    asked: np.ndarray
    solved: bool


def solve(draft: Any, users: Part, items: Part, rows: str = "grown", n_passes: int = 1) -> None:
    """Solve rows of a draft of a model, and give its sides what else follows from its ratings.

    Users that are new get vectors first, so that items can lean on them; then, in each pass, items
    are solved against all users, and users against all items.
    """
    ratings: Ratings = draft.ratings_
    both, parts = (draft.users_, draft.items_), (users, items)
    counts = np.diff(ratings.by_user.indptr), column_counts(ratings.by_user.indices,
                                                            ratings.shape[1])
    waits = rows == "grown" and getattr(draft.answers(), "waits", False)
    every = getattr(draft.answers(), "shared", False)
    news = [news_of(side, part) for side, part in zip(both, parts, strict=True)]
    chosen = [np.flatnonzero(part.solved & (every | part.asked
                                            | enough(new, n if waits else 0 * n)))
              for part, new, n in zip(parts, news, counts, strict=True)]
    with Pool(draft.n_threads) as pool:
        if len(chosen[1]):
            fresh = chosen[0] if every else chosen[0][chosen[0] >= len(draft.users_.counts)]
            _solve_users(draft, fresh, users.features, pool)
        for _ in range(n_passes if len(chosen[1]) else 1):
            _solve_items(draft, chosen[1], items.features, pool)
            _solve_users(draft, chosen[0], users.features, pool)
    for new, rows_now in zip(news, chosen, strict=True):
        new[rows_now] = 0
    draft.users_ = settled(draft.users_, lambda: ratings, users.features, counts[0], news[0])
    draft.items_ = settled(draft.items_, lambda: ratings.transposed, items.features, counts[1],
                           news[1])


def news_of(side: Side, part: Part) -> np.ndarray:
    """Return how many ratings each row has not been solved with, or still is."""
    news = part.changes.astype(np.int64)
    if side.stale is not None:
        news[:len(side.stale)] += side.stale
    return news


def enough(news: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return which rows have enough news, given how many ratings they have in all."""
    found: np.ndarray = (news > 0) & ((counts <= FEW) | (news >= shares(len(counts)) * counts))
    return found


def shares(n_rows: int) -> np.ndarray:
    """Return the share of news for which each row waits, between NEWS / 2 and 3 NEWS / 2."""
    golden = (5 ** 0.5 - 1) / 2                     # (whose multiples, modulo 1, keep apart)
    return NEWS * (0.5 + golden * np.arange(n_rows) % 1)


def _solve_users(draft: Any, rows: np.ndarray, features: Features | None, pool: Pool) -> None:
    ratings: Ratings = draft.ratings_
    if len(rows):
        part = ratings if len(rows) == ratings.shape[0] else ratings.select_users(rows)
        new = NewRows(part, None if features is None else features.matrix[rows], rows)
        draft.users_ = with_rows(draft.users_, rows, draft.answers().fold_in(new, pool),
                                 ratings.shape[0])


def _solve_items(draft: Any, columns: np.ndarray, features: Features | None, pool: Pool) -> None:
    ratings: Ratings = draft.ratings_
    if len(columns):
        part = ratings.transposed if len(columns) == ratings.shape[1] else \
            columns_of(ratings, columns)
        new = NewRows(part, None if features is None else features.matrix[columns], columns)
        draft.items_ = with_rows(draft.items_, columns, draft.answers().fold_columns(new, pool),
                                 ratings.shape[1])
