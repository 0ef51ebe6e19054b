"""The best users of each item: the scores of `recommend`, read by columns."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.positions import filled, named
from mfcore.metrics.fitted import Query, Scorer, Settling, of_items
from mfcore.metrics.topk import BLOCK_SCORES, score_blocks, top_k
from mfcore.models.fitted import framing, length_of_lists
from mfcore.models.inputs import UNKNOWN, user_filters
from mfcore.parallel import Pool, row_chunks


def best_users(model: Any, query: Query, items: Any, k: int, exclude_seen: bool, users: Any,
               exclude_users: Any, unknown: str, as_frame: Any = None, titles: Any = None) -> Any:
    """Return the k best users of each item: see `Recommender.recommend_users`."""
    model.check_fitted()
    table = framing(model, as_frame, titles)
    k = length_of_lists(k, model.n_users_, table)
    validation.choice("similarity", query.similarity, ("dot", "cosine"))
    validation.boolean("exclude_seen", exclude_seen)
    raises = validation.choice("unknown", unknown, UNKNOWN) == "raise"
    known = model.ratings_
    asked = known.known_items(items) if raises else known.item_positions(items)
    filters = user_filters(known, len(asked), users, exclude_users, unknown)
    filled(k, len(asked), known.shape[0])                      # (too many are refused)
    rows, places = _rows_left(known.shape[0], *filters), np.flatnonzero(asked >= 0)
    step = max(1, BLOCK_SCORES // max(1, len(rows)))

    def found(some: np.ndarray, scorer: Scorer, pool: Pool) -> tuple[np.ndarray, np.ndarray]:
        seen = known.by_item if exclude_seen else None
        masks = (_cells(mask, chosen, rows) for mask, chosen in
                 ((seen, asked[some]), *((mask, some) for mask in filters)))
        return top_k(_scored(scorer, asked[some], pool), k, pool=pool,
                     **dict(zip(("seen", "allowed", "excluded"), masks, strict=True)))

    with Pool(model.n_threads) as pool:
        scorer = model.answers().scorer(rows, query, pool)
        parts = [found(places[start:stop], scorer, pool)
                 for start, stop in row_chunks(len(places), step) or [(0, 0)]]
    columns, values = map(np.concatenate, zip(*parts, strict=True))
    best = np.full((len(asked), k), -1, np.int64)
    best[places] = np.append(rows, -1)[columns]                     # (-1 is the last)
    scores = np.full((len(asked), k), -np.inf, values.dtype)
    scores[places] = values
    lists = named(best, known.user_ids), scores
    return lists if table is None else table.of_items(asked, items, *lists)


def _rows_left(n_rows: int, only: Any, without: Any) -> np.ndarray:
    """Return the rows that masks leave; those that differ by item are left to `top_k`."""
    left = np.ones(n_rows, bool)
    if isinstance(only, np.ndarray):
        left &= only
    if isinstance(without, np.ndarray):
        left &= ~without
    return np.flatnonzero(left)


def _cells(mask: Any, items: np.ndarray, rows: np.ndarray) -> Any:
    """Return what a sparse mask says of some items and users, None for others."""
    if not sp.issparse(mask):
        return None
    return mask[items] if len(rows) == mask.shape[1] else mask[items][:, rows]


class ItemScorer:
    """The scores of some items for all users of a scorer, which are held in memory.

    scores : ndarray, shape (n_items, n_users)
    rounding : as far as a score may be from what `cells` says, or None
    """

    def __init__(self, scorer: Scorer, columns: np.ndarray, scores: np.ndarray,
                 error: float | None) -> None:
        self.scorer, self.columns, self.scores, self.error = scorer, columns, scores, error
        self.n_rows, self.n_items = scores.shape

    def block(self, start: int, stop: int) -> np.ndarray:
        """Return the scores of items start..stop."""
        return self.scores[start:stop].copy()

    def rounding(self, start: int, stop: int) -> np.ndarray | None:
        """Return how far scores may be from those of their cells, shape (stop - start,)."""
        return None if self.error is None else np.full(stop - start, self.error)

    def cells(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return the scores of items rows[t] for users columns[t], each computed alone."""
        return cast(Settling, self.scorer).cells(columns, self.columns[rows])


def _scored(scorer: Scorer, columns: np.ndarray, pool: Pool) -> ItemScorer:
    """Score some items for all users, blocks of users at a time."""
    some = of_items(scorer, columns)

    def block(start: int, stop: int) -> tuple[np.ndarray, float | None]:
        error = some.rounding(start, stop)
        return some.block(start, stop).T, None if error is None else error.max(initial=0)

    parts, errors = zip(*pool.map(block, score_blocks(scorer)), strict=True)
    known = [error for error in errors if error is not None]
    return ItemScorer(scorer, columns, np.ascontiguousarray(np.concatenate(parts, axis=1)),
                      max(known) if known else None)
