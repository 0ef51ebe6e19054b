"""What `fetch` returns: ratings and what is known about their users and items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mfcore.data.features import Features
    from mfcore.data.ratings import Ratings


@dataclass(frozen=True, eq=False)
class Dataset:
    """Ratings together with what describes their cells, users and items.

    Parameters
    ----------
    ratings : Ratings, shape (n_users, n_items)
    timestamps : ndarray of int64, shape (nnz,), or None
        Seconds since 1970, in `ratings.by_user` order: what `ratings.times` holds too.
    user_features, item_features : Features or None
        Rows aligned with the rows (columns) of the ratings.
    item_titles : ndarray of str objects, shape (n_items,), or None
        Empty strings where the source gives no title.
    user_groups, item_groups : ndarray of int64, shape (n_users,) and (n_items,), or None
        The true audience of each row, only for generated data and the result of `glue`.
    licence : str
        What the source allows, in a sentence.
    file_order : ndarray of int64, shape (nnz,), or None
        Line number, from 0, of each cell in its source, in `by_user` order.

    Raises
    ------
    ValueError
        A part that is not as long as the ratings' cells, rows or columns.
    """

    ratings: Ratings
    timestamps: np.ndarray | None = None
    user_features: Features | None = None
    item_features: Features | None = None
    item_titles: np.ndarray | None = None
    user_groups: np.ndarray | None = None
    item_groups: np.ndarray | None = None
    licence: str = ""
    file_order: np.ndarray | None = None

    def __repr__(self) -> str:
        known = [name for name in ("timestamps", "user_features", "item_features", "item_titles",
                                   "user_groups", "item_groups", "file_order")
                 if getattr(self, name) is not None]
        return f"{type(self).__name__}({self.ratings!r}{', '.join(['', *known])})"

    def __post_init__(self) -> None:
        n_users, n_items = self.ratings.shape
        lengths = {"timestamps": self.ratings.nnz, "file_order": self.ratings.nnz,
                   "user_groups": n_users, "item_groups": n_items, "item_titles": n_items}
        for name, length in lengths.items():
            part = getattr(self, name)
            if part is not None and np.shape(part) != (length,):
                raise ValueError(f"{name} must have shape ({length},), got {np.shape(part)}")
        for name, length in (("user_features", n_users), ("item_features", n_items)):
            part = getattr(self, name)
            if part is not None and part.shape[0] != length:
                raise ValueError(f"{name} must have {length} rows, got {part.shape[0]}")
