"""What a model is given, brought into its own rows and columns, or refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.ids import Ids, as_vector, refuse_set
from mfcore.data.positions import is_one_row, known_positions, positions_of
from mfcore.data.ratings import Ratings, as_ratings, names_of
from mfcore.metrics.fitted import Asked, NewRows
from mfcore.objectives.scaling import implied_rating

UNKNOWN = ("raise", "ignore")           # what may become of an unknown id


def check_chosen(ratings: Ratings) -> None:
    """Raise for ratings of which none is above 0."""
    if ratings.by_user.data.max(initial=0) <= 0:
        raise ValueError("ratings must hold at least one value above 0, got none: these are taken "
                         "as chosen")


def stated(gigabytes: float) -> str:
    """Return a need of memory as messages name it: rounded up, so that what is named suffices."""
    step = 10.0 ** (np.floor(np.log10(gigabytes)) - 3)
    enough = np.ceil(gigabytes / step) * step
    return f"{enough:.4g}" if enough < 10_000 else f"{enough:.0f}"


def pairs(name: str, X: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the two columns of X, shape (n, 2): user and item of each cell.

    A frame has columns with their usual names, or the user first and then the item.
    """
    from mfcore.data.frames import is_frame

    if is_frame(X):
        return _pairs_of_frame(name, X)
    if isinstance(X, (list, tuple)) and X and all(np.shape(row) == (2,) for row in X):
        users, items = zip(*X, strict=True)            # (an array would turn 10 into "10")
        return as_vector(list(users)), as_vector(list(items))
    array = np.asarray(X)
    if sp.issparse(X) or array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(f"{name} must have shape (n, 2), a user and an item per row, got "
                         f"{getattr(X, 'shape', array.shape)}")
    return array[:, 0], array[:, 1]


def _pairs_of_frame(name: str, X: Any) -> tuple[np.ndarray, np.ndarray]:
    from mfcore.data.frames import table_of

    table = table_of(X)
    asked: dict[str, Any] = {"user": "user", "item": "item"}
    if not table.has(asked):
        if len(table.names) != 2:
            raise ValueError(f"{name} must have shape (n, 2), a user and an item per row, or "
                             f"columns with their usual names, got {table.names[:50]}")
        asked = {"user": table.names[0], "item": table.names[1]}
    found = table.columns(asked)
    return as_vector(found["user"][1]), as_vector(found["item"][1])


def aligned_ratings(given: Any, model: Any, unknown: str = "raise") -> Ratings:
    """Return ratings whose columns are the model's items; `unknown` ones raise, or are left out.

    One user may be given by item ids, or as {item: rating}.

    Raises ValueError for a matrix of another width (and says when it looks transposed), or
    with named items where the model has none; KeyError for items that the model does not
    know.
    """
    if is_one_row(given):
        return _one_row("items", given, model, unknown)
    return _aligned("items", as_ratings("ratings", given), names_of(model.ratings_)[1],
                    model.ratings_.shape, unknown)


def aligned_to_users(given: Any, model: Any, unknown: str = "raise") -> Ratings:
    """Return ratings, transposed, whose columns are the model's users; raises the same."""
    if is_one_row(given):
        return _one_row("users", given, model, unknown)
    return _aligned("users", as_ratings("ratings", given).transposed, names_of(model.ratings_)[0],
                    model.ratings_.shape[::-1], unknown)


def given_items(model: Any, ratings: Any, item_features: Any, unknown: str
                ) -> NewRows:
    """Return what is given of new items: rows on the model's users, and features.

    Raises ValueError where neither is given.
    """
    if ratings is None and item_features is None:
        raise ValueError("fold_in_items needs ratings or item_features, got neither")
    turned = None if ratings is None else aligned_to_users(ratings, model, unknown)
    F = None if item_features is None else model.items_.aligned(
        item_features, None if turned is None else turned.shape[0])
    return NewRows(turned, F)


def _one_row(name: str, given: Any, model: Any, unknown: str) -> Ratings:
    """Return the ratings of one new user (item), who has no id, on the columns of the fit."""
    known = model.ratings_ if name == "items" else model.ratings_.transposed
    validation.choice("unknown", unknown, UNKNOWN)
    ids = as_vector(list(given), name)
    values = validation.finite("ratings", validation.vector(
        "ratings", list(given.values()) or np.empty(0))) if isinstance(given, Mapping) else \
        np.full(len(ids), _implied(model))
    find = known_positions if unknown == "raise" else positions_of
    columns = find(name, ids, names_of(known)[1], known.shape[1])
    left = np.flatnonzero(columns >= 0)
    order = left[np.argsort(columns[left])]
    if (np.diff(columns[order]) == 0).any():
        raise ValueError(f"ratings of one row must name each of the {name} once")
    row = sp.csr_array((values[order], columns[order], [0, len(order)]),
                       shape=(1, known.shape[1]))
    return Ratings(row, item_ids=names_of(known)[1], copy=False)


def _implied(model: Any) -> float:
    """Return the rating that a mere id stands for."""
    rates = model.predicts_ratings and getattr(model, "loss", None) != "logistic"
    return implied_rating(type(model).__name__, model.rating_range_ if rates else None)


def _aligned(name: str, ratings: Ratings, known: Ids | None, shape: tuple[int, int],
             unknown: str) -> Ratings:
    """Return ratings with their columns in the order of the fit, shape (n_rows, shape[1])."""
    from mfcore.data.renumber import renumber_items

    validation.choice("unknown", unknown, UNKNOWN)
    ids = names_of(ratings)[1]
    if ids is None or ids is known or (known is not None
                                       and np.array_equal(ids.values, known.values)):
        return _same_width(name, ratings, shape)
    if known is None and ids.values.dtype == object:
        raise ValueError(f"{name} of the ratings have names and those of the fit had none: "
                         f"give a matrix of {shape[1]} {name}, or fit with names")
    place = positions_of(name, ids.values, known, shape[1])
    if unknown == "raise":
        used = np.zeros(len(place), bool)
        used[ratings.by_user.indices] = True
        validation.known_ids(name, ids.values[used].tolist(), place[used])
    return renumber_items(ratings, place, shape[1], known)


def _same_width(name: str, ratings: Ratings, shape: tuple[int, int]) -> Ratings:
    if ratings.shape[1] == shape[1]:
        return ratings
    hint = ""
    if ratings.shape[0] == shape[1]:
        hint = "; it looks transposed: users are rows, items are columns"
    kind = "columns" if name == "items" else "rows"
    raise ValueError(f"ratings must have {shape[1]} {kind}, the {name} of the fit, got "
                     f"{ratings.shape if name == 'items' else ratings.shape[::-1]}{hint}")


def asked_rows(model: Any, users: Any, ratings: Any, user_features: Any, unknown: str) -> Asked:
    """Return the rows of users, of all for None, or new users if anything is given of such.

    Raises ValueError for both; for unknown ids as `asked_users`.
    """
    validation.choice("unknown", unknown, UNKNOWN)
    new: NewRows | None = model.new_rows(ratings, user_features, unknown=unknown)
    if new is not None and users is not None:
        raise ValueError("users must be None where ratings or user_features are given: all "
                         "their rows are answered; pass only the rows you want")
    if new is not None:
        return new
    return np.arange(model.n_users_) if users is None else asked_users(users, model, unknown)


def asked_users(users: Any, model: Any, unknown: str) -> np.ndarray:
    """Return the rows of users; unknown ones raise KeyError or IndexError, or are -1."""
    known: Ratings = model.ratings_
    return known.known_users(users) if validation.choice("unknown", unknown, UNKNOWN) == "raise" \
        else known.user_positions(users)


class Filters(NamedTuple):
    """What lists may hold: bool masks over all entries, or CSR with one row per list, or None."""

    allowed: np.ndarray | sp.csr_array | None
    excluded: np.ndarray | sp.csr_array | None


NO_FILTERS = Filters(None, None)


def item_filters(ratings: Ratings, n_rows: int, items: Any, exclude_items: Any,
                 unknown: str = "raise", row: str = "user") -> Filters:
    """Return filters of items by ids, or by CSR of shape (n_rows, n_items).

    `row` says whose row it is, `unknown` what becomes of ids that the ratings do not have.
    """
    place = ratings.known_items if unknown == "raise" else ratings.item_positions
    return Filters(*(_filter(name, given, (n_rows, ratings.shape[1]), place, row)
                     for name, given in (("items", items), ("exclude_items", exclude_items))))


def user_filters(ratings: Ratings, n_rows: int, users: Any, exclude_users: Any,
                 unknown: str = "raise", row: str = "item") -> Filters:
    """Return filters of users: see `item_filters`."""
    place = ratings.known_users if unknown == "raise" else ratings.user_positions
    return Filters(*(_filter(name, given, (n_rows, ratings.shape[0]), place, row)
                     for name, given in (("users", users), ("exclude_users", exclude_users))))


def _filter(name: str, given: Any, shape: tuple[int, int], place: Callable[[Any, str], np.ndarray],
            row: str) -> np.ndarray | sp.csr_array | None:
    if given is None:
        return None
    if sp.issparse(given):
        matrix = sp.csr_array(given)
        if matrix.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, one row per {row}, got "
                             f"{matrix.shape}")
        return matrix                           # (sorting it here would sort the caller's)
    mask, places = np.zeros(shape[1], bool), place(given, name)
    mask[places[places >= 0]] = True
    return mask


def pair_positions(name: str, values: np.ndarray, ids: np.ndarray | None,
                   positions: Callable[[Any], np.ndarray]) -> np.ndarray:
    """Return the numbers of the users (items) of pairs, -1 for unknown ids."""
    if ids is None and values.dtype.kind in "iu" and values.size and values.min() < 0:
        raise IndexError(f"{name} must be row numbers >= 0, got {values.min()}")
    return positions(values)


def paired(users: Any, items: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return two vectors of equal length; a single user or item goes with all of the other.

    Without items, the users are pairs.
    """
    if items is None:
        return pairs("users, where items are not given,", users)
    refuse_set("users", users)
    refuse_set("items", items)
    left, right = as_vector(users, "users"), as_vector(items, "items")
    if len(left) == 1 or len(right) == 1:
        size = max(len(left), len(right)) if min(len(left), len(right)) else 0
        left, right = (np.repeat(v, size) if len(v) == 1 else v for v in (left, right))
    validation.same_length(users=left, items=right)
    return left, right


def asked_pairs(model: Any, users: Any, items: Any, ratings: Any, user_features: Any,
                unknown: str | None) -> tuple[np.ndarray, np.ndarray, NewRows | None]:
    """Return the rows and columns of pairs, -1 for unknown ids, and new users: see `predict`."""
    known: Ratings = model.ratings_
    users, items = paired(users, items)
    columns = pair_positions("items", items, known.item_ids, known.item_positions)
    new = model.new_rows(ratings, user_features, unknown=unknown or "raise")
    rows = pair_positions("users", users, known.user_ids, known.user_positions) \
        if new is None else validation.positions("users", users, new.n_rows)
    if validation.choice("unknown", unknown, (*UNKNOWN, None)) == "raise":
        known.known_items(items)
        known.known_users(users if new is None else [])
    return rows, columns, new
