"""Folding: unrelated parts of a catalogue that fall on top of each other.

A model that never saw two groups together may still recommend items of the one to users
of the other.  Where the groups are known, the share of such recommendations says so.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mfcore import validation


def cross_group_rate(items: Any, user_groups: Any, item_groups: Any) -> float:
    """Return the share of recommended items whose group is not the user's, in [0, 1].

    Parameters
    ----------
    items : array-like of int, shape (n_users, k)
        Recommended item numbers; -1 marks a missing place, which does not count.
    user_groups : array-like, shape (n_users,)
        Group of each user: numbers or names, comparable with those of the items.
    item_groups : array-like, shape (n_items,)
        Group of each item.

    Returns
    -------
    rate : float
        NaN when nothing is recommended to anyone.

    Raises
    ------
    ValueError
        Groups that do not fit the users; IndexError for item numbers outside the groups.
    """
    items, user_groups, item_groups = map(np.asarray, (items, user_groups, item_groups))
    if items.ndim != 2 or user_groups.shape != items.shape[:1]:
        raise ValueError(f"items must have shape (n_users, k) and user_groups (n_users,), got "
                         f"{items.shape} and {user_groups.shape}")
    users, places = np.nonzero(items != -1)
    chosen = validation.positions("items", items[users, places], item_groups.size)
    if not chosen.size:
        return float("nan")
    return float(np.mean(user_groups[users] != item_groups[chosen]))
