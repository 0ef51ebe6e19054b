"""Titles of items by id, from whatever holds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mfcore import validation
from mfcore.data.ratings import Ratings

Titles = Mapping[Any, Any]


def titles_of(titles: Any, ratings: Ratings) -> Titles | None:
    """Return titles by item id, from a mapping, a Series, or one title per item of the ratings.

    Raises ValueError for another number of titles, and for a mapping that has none of the items;
    TypeError for what holds no titles.
    """
    if titles is None:
        return None
    if hasattr(titles, "columns"):
        raise TypeError("titles must be a mapping from item id to title, or one title per item, "
                        "got a frame: dict(zip(frame[\"id\"], frame[\"title\"])) is a mapping")
    if hasattr(titles, "to_dict") and hasattr(titles, "index"):         # a Series of pandas
        titles = titles.to_dict()
    if isinstance(titles, Mapping):
        return _by_id(titles, ratings)
    if isinstance(titles, str) or not hasattr(titles, "__len__"):
        raise TypeError(f"titles must be a mapping from item id to title, or one title per item, "
                        f"got {type(titles).__name__}")
    if len(titles) != ratings.shape[1]:
        raise ValueError(f"titles must be {ratings.shape[1]}, one per item of the fit, or a "
                         f"mapping from item id to title, got {len(titles)}")
    return dict(zip(_ids(ratings), validation.iterable("titles", titles), strict=True))


def title_of(titles: Titles, item: Any, default: Any = None) -> Any:
    """Return the title of an item; `default` where there is none, or it is missing (NaN, NA)."""
    title = titles.get(item)
    return default if validation.is_missing(title) else title


def _ids(ratings: Ratings) -> Any:
    return range(ratings.shape[1]) if ratings.item_ids is None else ratings.item_ids.tolist()


def _by_id(titles: Titles, ratings: Ratings) -> Titles:
    """Return titles whose keys are the ids of the ratings: 7 and "7" are one item.

    Of titles that fit as they are, no more is looked at than the first one.
    """
    ids = range(ratings.shape[1]) if ratings.item_ids is None else ratings.item_ids
    if not titles or any(each in titles for each in ids):
        return titles
    keys = list(titles)
    places = None if ratings.item_ids is None else ratings.item_positions(keys)
    if places is None or not (places >= 0).any():
        raise ValueError(f"titles must have ids of the fit, and none of its {len(ids):,} items is "
                         f"among their {len(keys):,}: the fit has {_ids(ratings)[0]!r}, the titles "
                         f"have {keys[0]!r}")
    named = _ids(ratings)
    return {named[place]: titles[key] for place, key in zip(places.tolist(), keys, strict=True)
            if place >= 0}
