"""Lists as a table: a row for each user and place, with ids, score, rank and title."""

from __future__ import annotations

from typing import Any

import numpy as np

from mfcore.data.frames_out import frame_of, library_of
from mfcore.data.ids import as_id_array, as_vector
from mfcore.data.ratings import Ratings
from mfcore.data.titles import Titles, title_of, titles_of
from mfcore.metrics.fitted import NewRows


def columns_of(heads: tuple[str, str], owners: np.ndarray, ids: np.ndarray, scores: np.ndarray,
               titles: Titles | None = None) -> dict[str, np.ndarray]:
    """Return lists as columns of equal length; places that are empty are left out.

    Parameters
    ----------
    heads : (str, str)
        What owners are called, and what entries: ("user", "item").
    owners : ndarray, shape (n,)
    ids, scores : ndarray, shape (n, k)
    titles : mapping from id of an entry, or None
    """
    listed = scores > -np.inf
    rows, places = np.nonzero(listed)
    columns = {heads[0]: owners[rows], heads[1]: ids[listed], "score": scores[listed],
               "rank": (places + 1).astype(np.int32)}
    if titles is not None:
        columns["title"] = _titled(columns[heads[1]], titles)
    return columns


def _titled(ids: np.ndarray, titles: Titles) -> np.ndarray:
    return np.array([*(title_of(titles, each) for each in ids.tolist()), None], object)[:-1]


class Framing:
    """Make frames of lists.

    Raises before any work: for a library that is not installed, and for titles without a frame.
    """

    def __init__(self, model: Any, as_frame: Any, titles: Any) -> None:
        self.library, self.ratings = library_of("as_frame", as_frame), model.ratings_
        if self.library is None:
            raise ValueError("titles go into a frame: ask with as_frame=True")
        self.titles = titles_of(titles, model.ratings_)

    def of_users(self, asked: Any, given: Any, items: np.ndarray, scores: np.ndarray) -> Any:
        """Return lists of items as a frame: user, item, score, rank, and title."""
        users = names_of_users(asked, self.ratings, given)
        return frame_of(columns_of(("user", "item"), users, items, scores, self.titles),
                        str(self.library))

    def of_items(self, asked: np.ndarray, given: Any, users: np.ndarray, scores: np.ndarray
                 ) -> Any:
        """Return lists of users as a frame: item, user, score, rank, and the title of the item."""
        items = _names(asked, self.ratings.item_ids, given)
        columns = columns_of(("item", "user"), items, users, scores)
        if self.titles is not None:
            columns["title"] = _titled(columns["item"], self.titles)
        return frame_of(columns, str(self.library))


    def of_similar(self, side: str, asked: np.ndarray, ids: np.ndarray, scores: np.ndarray) -> Any:
        """Return neighbours as a frame: user (or item), similar, score, rank, and its title."""
        known = self.ratings.user_ids if side == "user" else self.ratings.item_ids
        return frame_of(columns_of((side, "similar"), asked if known is None else known[asked],
                                   ids, scores, self.titles), str(self.library))


def names_of_users(asked: Any, ratings: Ratings, given: Any = None) -> np.ndarray:
    """Return the ids of rows of the fit, or of new users; of rows of -1 what was asked for."""
    if isinstance(asked, NewRows):
        ids = None if asked.ratings is None else asked.ratings.user_ids
        return np.arange(asked.n_rows) if ids is None else ids
    return _names(asked, ratings.user_ids, given)


def _names(places: np.ndarray, ids: np.ndarray | None, given: Any) -> np.ndarray:
    names: np.ndarray = places if ids is None else ids[places]
    unknown = places < 0
    if unknown.any():
        asked = as_id_array("users", as_vector(given))
        names = names.astype(np.result_type(names, asked))
        names[unknown] = asked[unknown]
    return names
