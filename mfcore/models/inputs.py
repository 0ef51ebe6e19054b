"""What a model is given, brought into its own rows and columns, or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.ids import as_vector
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
    if isinstance(X, (list, tuple)) and X and all(np.shape(row) == (2,) for row in X):
        users, items = zip(*X, strict=True)            # (an array would turn 10 into "10")
        return as_vector(list(users)), as_vector(list(items))
    array = np.asarray(X)
    if sp.issparse(X) or array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(f"with y, {name} must have shape (n, 2), a user and an item a row, "
                         f"got {getattr(X, 'shape', array.shape)}")
    return array[:, 0], array[:, 1]


def aligned_ratings(given: Any, model: Any) -> Ratings:
    """Return ratings whose columns are the model's items.

    Raises ValueError for a matrix of another width (and says when it looks transposed), or
    with named items where the model has none; KeyError for items that the model does not
    know.
    """
    return _aligned("items", as_ratings("ratings", given), model.item_ids_,
                    model._item_positions, (model.n_users_, model.n_items_))


def aligned_to_users(given: Any, model: Any) -> Ratings:
    """Return ratings, transposed, whose columns are the model's users; raises alike."""
    return _aligned("users", as_ratings("ratings", given).transposed, model.user_ids_,
                    model._user_positions, (model.n_items_, model.n_users_))


def _aligned(name: str, ratings: Ratings, known: np.ndarray | None,
             positions: Callable[[Any], np.ndarray], shape: tuple[int, int]) -> Ratings:
    """Return ratings with their columns in the order of the fit, shape (n_rows, shape[1])."""
    ids = ratings.item_ids
    if ids is None or ids is known or (known is not None and np.array_equal(ids, known)):
        return _same_width(name, ratings, shape)
    if known is None and ids.dtype == object:
        raise ValueError(f"{name} of the ratings have names and those of the fit had none: "
                         f"give a matrix of {shape[1]} {name}, or fit with names")
    place = positions(ids)
    used = np.zeros(len(place), bool)
    used[ratings.by_user.indices] = True
    validation.known_ids(name, ids[used].tolist(), place[used])
    old = ratings.by_user
    moved = sp.csr_array((np.arange(old.nnz), place[old.indices], old.indptr),
                         shape=(ratings.shape[0], shape[1]))
    moved.sort_indices()
    order = moved.data
    matrix = sp.csr_array((old.data[order], moved.indices, moved.indptr), shape=moved.shape)
    weights = None if ratings.weights is None else ratings.weights[order]
    return Ratings(matrix, weights=weights, user_ids=ratings.user_ids, item_ids=known,
                   copy=False)


def _same_width(name: str, ratings: Ratings, shape: tuple[int, int]) -> Ratings:
    if ratings.shape[1] == shape[1]:
        return ratings
    hint = ""
    if ratings.shape[0] == shape[1]:
        hint = "; it looks transposed: users are rows, items are columns"
    kind = "columns" if name == "items" else "rows"
    raise ValueError(f"ratings must have {shape[1]} {kind}, the {name} of the fit, got "
                     f"{ratings.shape if name == 'items' else ratings.shape[::-1]}{hint}")


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
