"""`mfcore recommend` and `similar`: lists out of a model file."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

import numpy as np

import mfcore
from mfcore.cli.inputs import Titles, given_ids, ids_of, load_titles, read_file
from mfcore.cli.models import set_running
from mfcore.cli.output import Answer

if TYPE_CHECKING:
    from mfcore.models.recommender import Recommender


def recommend(arguments: Namespace) -> Answer:
    """List the best items of each user."""
    model = _loaded(arguments)
    titles = load_titles(arguments.titles, arguments)
    users, asked = _asked(model, arguments)
    limits = {"items": given_ids("items", arguments.items, arguments.items_file,
                                 model.item_ids_),
              "exclude_items": given_ids("items", arguments.exclude, arguments.exclude_file,
                                         model.item_ids_)}
    items, scores = model.recommend(
        k=arguments.k, similarity="cosine" if arguments.cosine else "dot",
        exclude_seen=not arguments.include_seen, **asked, **limits)
    return lists("recommendations", "user", users, "item", items, scores, titles)


def _asked(model: Recommender, arguments: Namespace) -> tuple[Any, dict[str, Any]]:
    """Return the names of the users, and what `recommend` is called with for them."""
    if arguments.ratings is not None:
        ratings = read_file(arguments.ratings, arguments)
        return ratings.user_ids, {"ratings": ratings}
    if arguments.all:
        ids = model.user_ids_
        return np.arange(model.n_users_) if ids is None else ids, {}
    users = given_ids("users", arguments.user, arguments.users_file, model.user_ids_)
    return users, {"users": users}


def similar(arguments: Namespace) -> Answer:
    """List the nearest neighbours of items or users."""
    model = _loaded(arguments)
    titles = load_titles(arguments.titles, arguments)
    similarity = "dot" if arguments.dot else "cosine"
    if arguments.item is not None:
        ids = ids_of("items", arguments.item, model.item_ids_)
        found = model.similar_items(ids, arguments.k, similarity=similarity)
        return lists("similar", "item", ids, "item", *found, titles)
    ids = ids_of("users", arguments.user, model.user_ids_)
    found = model.similar_users(ids, arguments.k, similarity=similarity)
    return lists("similar", "user", ids, "user", *found, {})


def _loaded(arguments: Namespace) -> Recommender:
    model: Recommender = mfcore.load(arguments.model)
    set_running(model, n_threads=arguments.threads)
    return model


def lists(title: str, kind: str, owners: Any, entry: str, ids: np.ndarray, scores: np.ndarray,
          titles: Titles) -> Answer:
    """Return one list for each owner: what stands in it, best first, with titles if known."""
    named = titles if kind == "item" else {}
    data = [{kind: owner, **_titled(owner, named),
             "items" if entry == "item" else "users": _entries(entry, row, values, titles)}
            for owner, row, values in zip(_listed(owners), ids, scores, strict=True)]
    blocks = [_block(kind, entry, each) for each in data]
    return Answer({title: data}, "\n\n".join(blocks))


def _entries(entry: str, ids: np.ndarray, scores: np.ndarray, titles: Titles
             ) -> list[dict[str, Any]]:
    """Leave out what pads a list that is too short: its score is -inf."""
    return [{entry: each, "score": float(score), **_titled(each, titles)}
            for each, score in zip(_listed(ids), scores, strict=True) if np.isfinite(score)]


def _titled(each: Any, titles: Titles) -> dict[str, str]:
    return {"title": titles[each]} if each in titles else {}


def _listed(ids: Any) -> list[Any]:
    values: list[Any] = np.asarray(ids).tolist()
    return values


def _block(kind: str, entry: str, found: dict[str, Any]) -> str:
    lines = [f"{kind} {_name(found[kind], found)}"]
    entries = found["items" if entry == "item" else "users"]
    lines += [f"{place:4d}  {each['score']:8.4f}  {_name(each[entry], each)}"
              for place, each in enumerate(entries, 1)]
    return "\n".join(lines if entries else [*lines, "      nothing left to list"])


def _name(each: Any, found: dict[str, Any]) -> str:
    return f"{found['title']} ({each})" if "title" in found else str(each)
