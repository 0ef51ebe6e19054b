"""Ratings that grow: rows replaced by newer histories, and rows appended."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.ids import as_vector
from mfcore.data.ratings import Ratings


def merged_rows(old: Ratings, new: Ratings, users: Any) -> tuple[Ratings, np.ndarray]:
    """Return `old` with the rows of `new` put in, and the row number of each.

    Parameters
    ----------
    old : Ratings, shape (n_users, n_items)
    new : Ratings, shape (n_given, n_items)
    users : ids of the rows of `new`, row numbers where `old` has no ids, or None
        None: `new`'s own ids, or all users of `old` in their order.

    Raises
    ------
    ValueError
        For repeated users, or a number of ids that is not that of the rows.
    """
    names = _names_of(old, new, users)
    validation.same_length(users=names, rows=range(new.shape[0]))
    known = old.user_positions(names)
    appended = np.flatnonzero(known < 0)
    rows = known.copy()
    rows[appended] = old.shape[0] + np.arange(len(appended))
    if len(np.unique(rows)) < len(rows) or (old.user_ids is None and len(appended)
                                            and not _follow_on(names[appended], old.shape[0])):
        raise ValueError(f"users must be distinct, and new row numbers must follow on from "
                         f"{old.shape[0]}, got {names[:8].tolist()}")
    total = old.shape[0] + len(appended)
    source = np.arange(total)
    source[rows] = old.shape[0] + np.arange(len(rows))
    stacked = sp.vstack([old.by_user, new.by_user], format="csr")[source]
    weights = _stacked_weights(old, new, source)
    ids = None
    if old.user_ids is not None:
        ids = np.concatenate([old.user_ids, names[appended].astype(old.user_ids.dtype)])
    return Ratings(stacked, weights=weights, user_ids=ids, item_ids=old.item_ids,
                   copy=False), rows


def placed(old: np.ndarray, rows: np.ndarray, new: np.ndarray, n_rows: int) -> np.ndarray:
    """Return `old`, grown to `n_rows`, with `new` at the given rows."""
    out = np.zeros((n_rows, *old.shape[1:]), old.dtype)
    out[:len(old)] = old
    out[rows] = new
    return out


def _names_of(old: Ratings, new: Ratings, users: Any) -> np.ndarray:
    names = new.user_ids if users is None else as_vector(users)
    if names is not None:
        if (old.user_ids is None or old.user_ids.dtype != object) and \
                names.dtype.kind not in "iu" and names.size:
            raise TypeError(f"users of the fit are integers, got {names[:3].tolist()}")
        return names
    if new.shape[0] != old.shape[0]:
        raise ValueError(f"users must name the {new.shape[0]} rows of the ratings (the fit had "
                         f"{old.shape[0]} users)")
    return np.arange(old.shape[0]) if old.user_ids is None else old.user_ids


def _follow_on(rows: np.ndarray, start: int) -> bool:
    return np.array_equal(rows, start + np.arange(len(rows)))


def _stacked_weights(old: Ratings, new: Ratings, source: np.ndarray) -> np.ndarray | None:
    if old.weights is None and new.weights is None:
        return None
    parts = []
    for part in (old, new):
        own = np.ones(part.nnz, np.float32) if part.weights is None else part.weights
        parts.append(sp.csr_array((own, part.by_user.indices, part.by_user.indptr),
                                  part.shape))
    weights: np.ndarray = sp.vstack(parts, format="csr")[source].data
    return weights
