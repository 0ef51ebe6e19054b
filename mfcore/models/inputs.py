"""What a model is given, brought into its own rows and columns, or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.ratings import Ratings, as_ratings


def training_ratings(given: Any, y: Any) -> Ratings:
    """Return the Ratings of `fit(ratings)`, or of `fit(X, y)` with X (nnz, 2) ids.

    Raises TypeError for what is neither, ValueError where there is no rating at all.
    """
    if y is not None:
        users, items = pairs("X", given)
        ratings = Ratings.from_arrays(users, items, y)
    else:
        ratings = as_ratings("ratings", given)
    if ratings.nnz == 0:
        raise ValueError(f"ratings must hold at least one rating, got {ratings}")
    return ratings


def pairs(name: str, X: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the two columns of X, shape (n, 2): user and item of each cell."""
    array = np.asarray(X)
    if sp.issparse(X) or array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(f"with y, {name} must have shape (n, 2), a user and an item a row, "
                         f"got {getattr(X, 'shape', array.shape)}")
    return array[:, 0], array[:, 1]


def aligned_ratings(given: Any, model: Any) -> Ratings:
    """Return ratings whose columns are the model's items.

    Raises ValueError for a matrix of another width (and says when it looks transposed),
    KeyError for items that the model does not know.
    """
    ratings = as_ratings("ratings", given)
    known = model.item_ids_
    if ratings.item_ids is None or known is None:
        return _same_width(ratings, model)
    if ratings.item_ids is known or np.array_equal(ratings.item_ids, known):
        return ratings
    place = model._item_positions(ratings.item_ids)
    used = np.zeros(len(place), bool)
    used[ratings.by_user.indices] = True
    validation.known_ids("items", ratings.item_ids[used].tolist(), place[used])
    old = ratings.by_user
    moved = sp.csr_array((np.arange(old.nnz), place[old.indices], old.indptr),
                         shape=(ratings.shape[0], model.n_items_))
    moved.sort_indices()
    order = moved.data
    matrix = sp.csr_array((old.data[order], moved.indices, moved.indptr), shape=moved.shape)
    weights = None if ratings.weights is None else ratings.weights[order]
    return Ratings(matrix, weights=weights, user_ids=ratings.user_ids, item_ids=known,
                   copy=False)


def _same_width(ratings: Ratings, model: Any) -> Ratings:
    n_users, n_items = model.n_users_, model.n_items_
    if ratings.shape[1] == n_items:
        return ratings
    hint = ""
    if ratings.shape[0] == n_items:
        hint = "; it looks transposed: users are rows, items are columns"
    raise ValueError(f"ratings must have {n_items} columns, the items of the fit "
                     f"({n_users} × {n_items}), got {ratings.shape}{hint}")


def item_filter(name: str, items: Any, model: Any, n_rows: int) -> np.ndarray | sp.csr_array:
    """Return a bool mask (n_items,) of ids, or a CSR with one row per user as it is."""
    if sp.issparse(items):
        matrix = sp.csr_array(items)
        if matrix.shape != (n_rows, model.n_items_):
            raise ValueError(f"{name} must have shape ({n_rows}, {model.n_items_}), one row a "
                             f"user, got {matrix.shape}")
        return matrix                           # (sorting it here would sort the caller's)
    mask = np.zeros(model.n_items_, bool)
    mask[model._known_items(items)] = True
    return mask


def paired(users: Any, items: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return two vectors of equal length; a single user or item goes with all of the other."""
    left, right = as_vector(users), as_vector(items)
    if len(left) == 1 or len(right) == 1:
        size = max(len(left), len(right)) if min(len(left), len(right)) else 0
        left, right = (np.repeat(v, size) if len(v) == 1 else v for v in (left, right))
    validation.same_length(users=left, items=right)
    return left, right


def as_vector(ids: Any) -> np.ndarray:
    """Return ids (one, or a sequence) as a vector; tuples in a list stay one id each."""
    if isinstance(ids, np.ndarray):
        return ids.reshape(1) if ids.ndim == 0 else ids
    if isinstance(ids, (str, bytes)) or not hasattr(ids, "__iter__"):
        ids = [ids]
    ids = list(ids)
    if any(isinstance(value, (str, bytes, tuple)) for value in ids):
        array = np.empty(len(ids), object)
        array[:] = ids
        return array
    return np.asarray(ids) if ids else np.empty(0, np.int64)
