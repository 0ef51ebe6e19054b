"""A fitted model lets users and items go: vectors, ratings, ids, and columns of their history."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np

from mfcore import validation
from mfcore.data.chunks import column_counts
from mfcore.data.ids import as_vector
from mfcore.data.merging import without
from mfcore.data.ratings import Ratings
from mfcore.models.inputs import UNKNOWN
from mfcore.models.training import become
from mfcore.models.updates.sides import selected, without_history_of
from mfcore.models.updates.solving import Part, solve


def forget(model: Any, users: Any, items: Any, unknown: str) -> None:
    """Take users and items out of a fitted model: see `Recommender.forget`."""
    model.check_fitted()
    validation.choice("unknown", unknown, UNKNOWN)
    if users is None and items is None:
        raise ValueError("forget needs users or items, got neither")
    for ability, given in (("forget", users), ("forget_items", items)):
        if given is not None:
            model.require(ability)
    model.check_seen()
    old: Ratings = model.ratings_
    gone = (_mask(users, old.known_users if unknown == "raise" else old.user_positions,
                  old.shape[0]),
            _mask(items, old.known_items if unknown == "raise" else old.item_positions,
                  old.shape[1]))
    left = without(old, *gone)
    if left.nnz == 0:
        raise ValueError("forget must leave at least one rating in the model, and would leave none")
    become(model, vars(_without(model, left, *gone)))


def _mask(asked: Any, positions: Any, size: int) -> np.ndarray:
    """Return which rows are asked for."""
    found = np.zeros(size, bool)
    if asked is not None:
        places = positions(as_vector(asked))
        found[places[places >= 0]] = True
    return found


def _without(model: Any, left: Ratings, users: np.ndarray, items: np.ndarray) -> Any:
    """Return a copy of a model that has ratings `left` alone."""
    draft = copy(model)
    draft.ratings_ = left
    draft.users_ = without_history_of(selected(model.users_, np.flatnonzero(~users)), items)
    draft.items_ = without_history_of(selected(model.items_, np.flatnonzero(~items)), users)
    for table, gone in (("user_drift_", users), ("item_drift_", items)):
        if getattr(model, table, None) is not None:
            setattr(draft, table, _renumbered(getattr(model, table), gone))
    lost = draft.users_.counts - np.diff(left.by_user.indptr), \
        draft.items_.counts - column_counts(left.by_user.indices, left.shape[1])
    of_users, of_items = (Part(side.grown(None, np.arange(0), len(went)), went,
                               np.zeros(len(went), bool), not model.lacks("new_items"))
                          for side, went in zip((draft.users_, draft.items_), lost, strict=True))
    solve(draft, of_users, of_items)
    return draft


def _renumbered(effects: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """Return effects of the rows that stay, whose number is in the first column."""
    rows = effects[:, 0].astype(np.int64)
    left: np.ndarray = effects[~gone[rows]]
    left[:, 0] = (np.cumsum(~gone) - 1)[rows[~gone[rows]]]
    return left
