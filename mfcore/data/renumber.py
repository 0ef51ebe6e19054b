"""Ratings with their columns in the places that another set of ratings gives them."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore.data.canonical import part_of
from mfcore.data.ratings import Ratings, names_of


def renumber_items(ratings: Ratings, columns: np.ndarray, n_items: int, item_ids: Any = None
                   ) -> Ratings:
    """Return the cells with item j in column `columns[j]`, without those of column -1.

    Parameters
    ----------
    columns : ndarray of int, shape (n_items of the ratings,)
        Distinct, but for -1; below `n_items`, the width of the result.
    item_ids : sequence of n_items distinct ids, or None
        None: those there are if all columns stay in place, else none.
    """
    old, (user_ids, known) = ratings.by_user, names_of(ratings)
    stay = item_ids is None or item_ids is known
    if stay and np.array_equal(columns, np.arange(n_items)):
        return ratings
    cells = columns[old.indices]
    kept = np.flatnonzero(cells >= 0)
    indptr = np.concatenate([[0], np.cumsum(cells >= 0)])[old.indptr]
    moved = sp.csr_array((kept, cells[kept], indptr), shape=(old.shape[0], n_items))
    moved.sort_indices()
    return part_of(ratings, moved, user_ids, item_ids)
