"""A fitted model takes new ratings, new users and new items in.

All of it happens in a draft, a copy of the model, which the model becomes in one step at the end.
So an update that fails, or is interrupted, leaves the model as it was.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from mfcore import validation
from mfcore.data.merging import Merged, merged
from mfcore.data.ratings import DUPLICATES, Ratings, as_ratings, names_of
from mfcore.models import registry
from mfcore.models.inputs import UNKNOWN, aligned_ratings, aligned_to_users, pairs
from mfcore.models.sides import Side
from mfcore.models.training import become
from mfcore.models.updates.sides import extended
from mfcore.models.updates.solving import Part, solve

HOW = ("add", "replace")
ROWS = ("grown", "changed", "all")


@dataclass(frozen=True)
class Plan:
    """How ratings are merged, and which vectors are solved: see `Recommender.update`.

    users, items : bool
        Whether vectors of users, of items are solved.
    """

    how: str = "add"
    duplicates: Any = None
    unknown: str = "add"
    rows: str = "grown"
    n_passes: int = 1
    users: bool = True
    items: bool = True

    def check(self) -> None:
        """Raise ValueError or TypeError for what cannot be chosen."""
        validation.choice("how", self.how, HOW)
        validation.choice("rows", self.rows, ROWS)
        validation.choice("unknown", self.unknown,
                          ("add", *UNKNOWN) if self.users and self.items else UNKNOWN)
        validation.choice("duplicates", self.duplicates, (*DUPLICATES, None))
        validation.integer("n_passes", self.n_passes, low=1, high=1000)


@dataclass(frozen=True)
class Given:
    """What is new: ratings, ids of their rows and columns, and features of these."""

    ratings: Ratings | None
    users: Any = None
    items: Any = None
    user_features: Any = None
    item_features: Any = None


def update(model: Any, ratings: Any, y: Any, plan: Plan, *, sample_weight: Any = None,
           users: Any = None, items: Any = None, user_features: Any = None,
           item_features: Any = None) -> None:
    """Take new ratings into a fitted model: see `Recommender.update`."""
    model.check_fitted()
    plan.check()
    model.require("partial_fit" if plan.users else "new_items")
    model.check_seen()
    for name, features in (("user_features", user_features), ("item_features", item_features)):
        if features is not None:
            model.require(name)
    given = Given(_given(model, ratings, y, sample_weight, plan), users, items, user_features,
                  item_features)
    found = _merged(model, given, plan)
    if found.ratings.nnz == 0:
        raise ValueError("how='replace' must leave at least one rating in the model, and would "
                         "leave none")
    if found.ratings.shape[1] > model.n_items_:
        model.require("new_items")
    model.check_grown(found.ratings)
    model.check_size(found.ratings)
    become(model, vars(_updated(model, given, found, plan)))


def _given(model: Any, ratings: Any, y: Any, sample_weight: Any, plan: Plan) -> Ratings | None:
    """Return the new ratings, in which repeated pairs are merged as with the old ones."""
    duplicates = plan.duplicates or model.repeated
    if ratings is None and y is None and plan.users and plan.items:
        if plan.rows == "grown":
            raise ValueError("update needs ratings; without any, rows='changed' solves the rows "
                             "that wait, and rows='all' everybody's")
        return None
    if y is None and sample_weight is not None:
        raise ValueError("sample_weight goes with pairs and their y; a matrix gets its weights by "
                         "Ratings(matrix, weights=...)")
    found = as_ratings("ratings", ratings, duplicates) if y is None else \
        Ratings.from_arrays(*pairs("X", ratings), y, sample_weight, duplicates=duplicates)
    if found.weights is not None and model.lacks("weights"):
        raise ValueError(registry.sentence(type(model), "weights"))
    return found


def _merged(model: Any, given: Given, plan: Plan) -> Merged:
    """Return old and new ratings together."""
    old, new, duplicates = model.ratings_, given.ratings, plan.duplicates or model.repeated
    if new is not None and old.moments is not None and new.moments is None:
        if getattr(model, "periods_", None) is not None:
            raise ValueError(f"the new ratings have no times, and this {type(model).__name__} has "
                             f"learned effects of periods: Ratings(..., times=...)")
        validation.warn("the new ratings have no times, so that those of the fit are forgotten, "
                        "too: Ratings(..., times=...) keeps them")
    enter = given.user_features is not None, given.item_features is not None
    if new is None:
        return Merged(old, *(np.arange(size) for size in old.shape),
                      *(np.zeros(size, np.int64) for size in old.shape))
    if not plan.users:
        turned = aligned_to_users(new, model, plan.unknown)
        return merged(old.transposed, turned, plan.how, duplicates, users=given.items,
                      enter=enter[::-1], names=("items", "users")).transposed
    if plan.unknown == "add":
        return merged(old, new, plan.how, duplicates, users=given.users, items=given.items,
                      enter=enter)
    if given.items is not None:
        new = Ratings(new.by_user, weights=new.weights, user_ids=names_of(new)[0],
                      item_ids=given.items, times=new.moments, copy=False)
    found = merged(old, aligned_ratings(new, model, plan.unknown), plan.how, duplicates,
                   users=given.users, enter=enter)
    ids = names_of(new)[1]
    return found if ids is None else found._replace(items=old.item_positions(ids.values))


def _updated(model: Any, given: Given, found: Merged, plan: Plan) -> Any:
    """Return a copy of a model that has taken in what is new."""
    draft, data = copy(model), found.ratings.by_user.data
    low, high = model.rating_range_
    users = _part(model.users_, given.user_features, found.users, found.user_changes, plan,
                  plan.users)
    items = _part(model.items_, given.item_features, found.items, found.item_changes, plan,
                  plan.items and not model.lacks("new_items"))
    draft.ratings_ = found.ratings
    draft.rating_range_ = min(low, float(data.min())), max(high, float(data.max()))
    draft.items_ = extended(model.items_, found.ratings.shape[1])
    solve(draft, users, items, plan.rows, plan.n_passes)
    return draft


def _part(side: Side, features: Any, numbers: np.ndarray, changes: np.ndarray, plan: Plan,
          solved: bool) -> Part:
    """Return what happens to a side, given features and numbers of the new ratings' rows."""
    asked = np.full(len(changes), plan.rows == "all")
    asked[len(side.counts):] = True
    by_rows = side.name == ("user" if plan.users else "item")
    if features is not None or (plan.how == "replace" and by_rows):
        asked[numbers[numbers >= 0]] = True
    return Part(side.grown(features, numbers, len(changes)), changes, asked, solved)
