"""Row numbers of ids, and ids of row numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mfcore import validation
from mfcore.data.ids import Ids, as_int64, as_vector, is_integer

MOST_EMPTY = 1 << 30        # bytes of places that nothing can take
ENTRY = 16                  # bytes of a place: an id and a score


def named_or_none(name: str, ids: Any, size: int) -> Ids | None:
    """Return the checked ids of `size` rows, or None if rows have only numbers."""
    if ids is None:
        return None
    named = ids if isinstance(ids, Ids) else Ids(name, ids)
    if named.values.size != size:
        raise ValueError(f"{name} must have {size} entries, got {named.values.size}")
    return named


def positions_of(name: str, values: Any, ids: Ids | None, size: int) -> np.ndarray:
    """Return row numbers, -1 if unknown; without `ids`, `values` are row numbers themselves."""
    if ids is not None:
        return ids.positions(values, name)
    array = as_vector(values)
    if array.dtype != object or not all(map(is_integer, array)):       # (of more than 64 bits)
        array = validation.numeric(name, array)
        if array.size and array.dtype.kind not in "iu":
            raise TypeError(f"{name} must be row numbers (the ratings have no ids), got dtype "
                            f"{array.dtype}")
    rows, fits = as_int64(array)
    return np.where(fits & (rows >= 0) & (rows < size), rows, -1)


def known_positions(name: str, values: Any, ids: Ids | None, size: int) -> np.ndarray:
    """Return row numbers; KeyError for an unknown id, IndexError for a number out of range."""
    values = as_vector(values)
    if ids is None:
        return validation.positions(name, values, size)
    rows = ids.positions(values, name)
    validation.known_ids(name, values.tolist(), rows)
    return rows


def named(positions: np.ndarray, ids: np.ndarray | None) -> np.ndarray:
    """Return ids of positions; -1 becomes -1, or None where ids are no integers."""
    if ids is None:
        return positions
    names: np.ndarray = ids[positions]
    names[positions < 0] = None if ids.dtype == object else -1
    return names


def filled(k: int, n_lists: int, n_entries: int) -> int:
    """Return how many of the k places of a list can be taken; the others are to be empty.

    Raises ValueError where these alone would take more than a gibibyte.
    """
    empty = n_lists * (k - n_entries) * ENTRY
    if empty > MOST_EMPTY:
        raise ValueError(f"k must be <= {n_entries}, as many as there are to list, got {k}: the "
                         f"empty places of {n_lists:,} lists would take {empty / 1e6:,.0f} MB")
    return min(k, n_entries)


def lengthened(places: np.ndarray, scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return lists with k places each; those that are new hold -1 and -inf."""
    n, held = places.shape
    if held == k:
        return places, scores
    longer = np.full((n, k), -1, places.dtype), np.full((n, k), -np.inf, scores.dtype)
    longer[0][:, :held], longer[1][:, :held] = places, scores
    return longer


def is_one_row(given: Any) -> bool:
    """Tell whether something is a sequence of ids, or a mapping from ids to ratings."""
    if isinstance(given, Mapping):
        return not any(hasattr(value, "__len__") for value in given.values())
    return (isinstance(given, (list, tuple)) and not any(
        hasattr(each, "__len__") and not isinstance(each, str) for each in given)
        ) or (isinstance(given, np.ndarray) and given.ndim == 1 and given.dtype.names is None)
