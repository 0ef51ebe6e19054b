"""`mfcore demo`: the ladder as a table, and recommendations for a few users."""

from __future__ import annotations

import time
from argparse import Namespace
from typing import Any

import numpy as np

from mfcore import validation
from mfcore.cli import folding, ladder
from mfcore.cli.inputs import Titles, load_data, load_titles, titles_of, writable
from mfcore.cli.ladder import CROSS, RANKING, RATING, Climb, Step
from mfcore.cli.output import Answer, number, table

USERS, RATED, RECOMMENDED = 3, 3, 5
# Users shown have rated at least so many items.
ENOUGH_RATED = 5
SHORT = {"unknown_weight": "w0", "unknown_value": "r0"}


def demo(arguments: Namespace) -> Answer:
    """Train the ladder and show what came of it."""
    start = time.perf_counter()
    data = load_data(arguments.data, arguments)
    titles = load_titles(arguments.titles, arguments) or titles_of(data)
    groups = ladder.audiences(data)
    if groups is not None and arguments.picture != "none":
        writable(arguments.picture)
    found = ladder.climb(data, arguments)
    folds = None if groups is None else folding.effect(data, groups, found, arguments)
    shown = _recommendations(found, titles, arguments.seed)
    n_users, n_items = data.ratings.shape
    result = {"data": arguments.data, "users": n_users, "items": n_items,
              "ratings": data.ratings.nnz, "held_out": found.test.nnz,
              "rows": [_row(step) for step in found.steps],
              "folding": None if folds is None else folds.rows,
              "picture": None if folds is None else folds.picture,
              "recommendations": shown, "seconds": time.perf_counter() - start}
    return Answer(result, _text(result, folds))


def _row(step: Step) -> dict[str, Any]:
    return {"model": step.name, "settings": step.settings, **step.figures,
            "seconds": step.seconds}


# ------------------------------------------------------------------------ recommendations


def _recommendations(found: Climb, titles: Titles, seed: int) -> list[dict[str, Any]]:
    """Ask the last rung for a few users, drawn among those with some ratings."""
    train, model = found.train, found.steps[-1].model
    counts = np.diff(train.by_user.indptr)
    able = np.flatnonzero(counts >= min(ENOUGH_RATED, counts.max()))
    random = validation.random_generator("seed", seed)
    rows = np.sort(random.choice(able, min(USERS, able.size), replace=False))
    users = rows if train.user_ids is None else train.user_ids[rows]
    items, _ = model.recommend(users, RECOMMENDED)
    return [{"user": user, "rated": _best_rated(found, row, titles),
             "items": [_item(item, titles) for item in best if item not in (-1, None)]}
            for row, user, best in zip(rows, users.tolist(), items.tolist(), strict=True)]


def _best_rated(found: Climb, row: int, titles: Titles) -> list[dict[str, Any]]:
    cells, ids = found.train.by_user, found.train.item_ids
    place = slice(cells.indptr[row], cells.indptr[row + 1])
    columns, values = cells.indices[place], cells.data[place]
    best = np.argsort(-values, kind="stable")[:RATED]
    names = columns[best] if ids is None else ids[columns[best]]
    return [{**_item(item, titles), "rating": float(value)}
            for item, value in zip(names.tolist(), values[best], strict=True)]


def _item(item: Any, titles: Titles) -> dict[str, Any]:
    return {"item": item, "title": titles.get(item)}


# ----------------------------------------------------------------------------------- text


def _text(result: dict[str, Any], folds: folding.Effect | None) -> str:
    """Lay the result out: what was done, the tables, how to read them, recommendations."""
    head = (f"{result['data']}: {result['users']:,} users × {result['items']:,} items, "
            f"{result['ratings']:,} ratings, {result['held_out']:,} of them held out")
    effect = [] if folds is None else [folding.text(folds), ""]
    return "\n".join([head, "", _table(result["rows"]), "", _reading(result["rows"]), "",
                      *effect, *map(_lines, result["recommendations"]),
                      f"{result['seconds']:.0f} s in all, with compilation and the choice of "
                      f"settings"])


def _table(rows: list[dict[str, Any]]) -> str:
    columns = {"RMSE": RATING, "NDCG@10": RANKING}
    if any(CROSS in row for row in rows):
        columns["cross-audience@10"] = CROSS
    cells = [[row["model"], *(number(row.get(key)) for key in columns.values()),
              number(row["seconds"], 2), _settings(row["settings"])] for row in rows]
    return table(["model", *columns, "seconds", "settings"], cells, left=(0, len(columns) + 2))


def _settings(settings: dict[str, Any]) -> str:
    return ", ".join(f"{SHORT.get(name, name)}={value}" for name, value in settings.items()
                     if name != "bias")


def _reading(rows: list[dict[str, Any]]) -> str:
    cross = "; cross-audience: share of recommendations from a foreign catalogue, lower is better" \
        if any(CROSS in row for row in rows) else ""
    return (f"RMSE: error of predicted ratings, lower is better; NDCG@10: held-out items among "
            f"ten recommended, higher is better{cross}.")


def _lines(found: dict[str, Any]) -> str:
    rated = ", ".join(f"{_name(each)} ({each['rating']:g})" for each in found["rated"])
    best = ", ".join(map(_name, found["items"]))
    return f"user {found['user']} rated highest: {rated}\n  recommended: {best}\n"


def _name(each: dict[str, Any]) -> str:
    return str(each["title"] or each["item"])
