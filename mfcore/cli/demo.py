"""`mfcore demo`: a ladder of models, what folding is, and recommendations for a few users.

Each of the six models has one idea that the one before it lacks.  Its settings are those that do
best on a validation part of the training ratings; the test part is looked at once, at the end.
Where no rating crosses from one audience to another, a second table shows how a weight on
unknown cells affects folding.
"""

from __future__ import annotations

import time
import warnings
from argparse import Namespace
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import mfcore
from mfcore import validation
from mfcore.atomic import replaceable
from mfcore.cli.inputs import Titles, ids_or_rows, load_data, load_titles, titles_of
from mfcore.cli.output import Answer, number, progress, shown, table

if TYPE_CHECKING:
    from mfcore.data.dataset import Dataset
    from mfcore.data.ratings import Ratings
    from mfcore.models.recommender import Recommender

TEST_SHARE = 0.2
# Settings are chosen on at most this many ratings: whole users, drawn at random.
ENOUGH = 200_000
# For every factorization; the penalty of a row grows with the square root of its ratings.
FIXED: dict[str, Any] = {"n_factors": 16, "reg_scaling": 0.5, "n_epochs": 15}
REGS = (0.15, 0.3, 0.6, 1.2, 2.4)
WEIGHTED_REGS = (0.6, 1.2)
WEIGHTS = (0.01, 0.03, 0.1, 0.3)
BIAS_SHARES = (0.5, 0.75, 1.0)
# For every weight, so that weights alone differ.
PENALTIES = {"reg": 1.1, "bias_reg": 2.0}
# Shares of the weight at which all unknown cells together weigh as much as the ratings.
SHARES = (0.0, 1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
RATING, RANKING, CROSS = "rmse", "ndcg@10", "cross_group_rate@10"
FOLDING, SPURIOUS, WITHIN = "folding@10", "spurious_rate@10", "ndcg@10 within audiences"
COLUMNS = {"cross-audience@10": CROSS, "folding@10": FOLDING, "spurious@10": SPURIOUS,
           "NDCG@10": RANKING, "within": WITHIN, "RMSE": RATING}
PICTURE = "mfcore-folding.png"
USERS, RATED, RECOMMENDED = 3, 3, 5
ENOUGH_RATED = 5            # ratings that a user must have to be shown
SHORT = {"unknown_weight": "w0", "unknown_value": "r0", "bias_share": "share"}
IDEAS = {"Popularity": "what everybody rates", "BiasOnly": "offsets of users and items",
         "minimal MF": "vectors alone", "mean bias": "vectors, and a share of mean offsets",
         "learned bias": "offsets learned with the vectors",
         "weighted unknown": "cells without a rating count a little"}
Groups = tuple[np.ndarray, np.ndarray]


class Rung(NamedTuple):
    """A model of the ladder: the settings to choose from, and the metric that decides."""

    name: str
    kind: str
    grid: list[dict[str, Any]]
    metric: str


class Step(NamedTuple):
    """A fitted rung: its model, the chosen settings and the measured figures."""

    name: str
    model: Recommender
    settings: dict[str, Any]
    figures: dict[str, float]
    seconds: float


class Climb(NamedTuple):
    """The fitted ladder, and the ratings on which it was fitted and measured."""

    train: Ratings
    test: Ratings
    steps: list[Step]


def demo(arguments: Namespace) -> Answer:
    """Fit the ladder, measure it, and recommend items to a few users."""
    from mfcore.plots import format_of_picture

    start = time.perf_counter()
    data = load_data(arguments.data, arguments)
    titles = load_titles(arguments.titles, arguments) or titles_of(data)
    groups = audiences(data)
    if groups is not None and arguments.picture != "none":
        replaceable(arguments.picture)
        with suppress(ModuleNotFoundError):         # (then there will be no picture)
            format_of_picture("picture", arguments.picture)
    found = climb(data, arguments)
    weights, picture = (None, None) if groups is None else \
        _by_weight(data, groups, found, arguments)
    n_users, n_items = data.ratings.shape
    result = {"data": arguments.data, "users": n_users, "items": n_items,
              "ratings": data.ratings.nnz, "held_out": found.test.nnz,
              "rows": [{"model": step.name, "settings": step.settings, **step.figures,
                        "seconds": step.seconds} for step in found.steps],
              "folding": weights, "picture": picture,
              "recommendations": _recommendations(found, titles, arguments.seed),
              "seconds": time.perf_counter() - start}
    return Answer(result, _text(result))


# ----------------------------------------------------------------------------- the ladder


def rungs(lowest: float) -> list[Rung]:
    """Return the ladder; `lowest` is the lowest rating."""
    values = sorted({0.0, lowest})
    weighted = [{"bias": "mean", "reg": reg, "unknown_weight": weight, "unknown_value": value}
                for reg, weight, value in product(WEIGHTED_REGS, WEIGHTS, values)]
    plain: list[str | None] = [None, "mean", "learned"]
    minimal, mean, learned = ([{"bias": bias, "reg": reg} for reg in REGS] for bias in plain)
    mean = [{**each, "bias_share": share} for each, share in product(mean, BIAS_SHARES)]
    return [Rung("Popularity", "Popularity", [{}], RANKING),
            Rung("BiasOnly", "BiasOnly", [{}], RATING),
            Rung("minimal MF", "MatrixFactorization", minimal, RATING),
            Rung("mean bias", "MatrixFactorization", mean, RATING),
            Rung("learned bias", "MatrixFactorization", learned, RATING),
            Rung("weighted unknown", "MatrixFactorization", weighted, RANKING)]


def climb(data: Dataset, arguments: Namespace) -> Climb:
    """Choose the settings of every rung, fit it and measure it."""
    from mfcore.data import split

    seed, groups = arguments.seed, audiences(data)
    train, test = split.per_user_split(data.ratings, TEST_SHARE, random_state=seed)
    parts = split.random_split(_enough(train, seed), TEST_SHARE, random_state=seed + 1)
    ladder = rungs(float(train.by_user.data.min()))
    steps = []
    for rung in progress(ladder, arguments.quiet, desc="demo", unit="model"):
        settings = _chosen(rung, *parts, arguments)
        start = time.perf_counter()
        model = _fitted(rung.kind, settings, train, arguments)
        seconds = time.perf_counter() - start
        metrics = [RATING] * (rung.kind != "Popularity") + [RANKING] + [CROSS] * bool(groups)
        figures = _measured(model, test, metrics, arguments, groups=groups)
        steps.append(Step(rung.name, model, settings, figures, seconds))
    return Climb(train, test, steps)


def audiences(data: Dataset) -> Groups | None:
    """Return the groups of users and items if no rating crosses from one to another."""
    users, items = data.user_groups, data.item_groups
    if users is None or items is None:
        return None
    ratings = data.ratings
    crosses = users[ratings.users_of_cells] != items[ratings.by_user.indices]
    return None if crosses.any() else (users, items)


def _enough(ratings: Ratings, seed: int) -> Ratings:
    if ratings.nnz <= ENOUGH:
        return ratings
    order = validation.random_generator("seed", seed).permutation(ratings.shape[0])
    counts = np.diff(ratings.by_user.indptr)[order]
    return ratings.select_users(np.sort(order[:np.searchsorted(counts.cumsum(), ENOUGH) + 1]))


def _chosen(rung: Rung, train: Ratings, valid: Ratings, arguments: Namespace
            ) -> dict[str, Any]:
    """Return the settings of the grid that do best on `valid` by the metric of the rung."""
    if len(rung.grid) == 1:
        return rung.grid[0]
    sign = -1 if rung.metric == RATING else 1

    def score(settings: dict[str, Any]) -> float:
        model = _fitted(rung.kind, settings, train, arguments)
        return sign * _measured(model, valid, [rung.metric], arguments)[rung.metric]

    return max(rung.grid, key=score)


def _fitted(kind: str, settings: dict[str, Any], train: Ratings, arguments: Namespace
            ) -> Recommender:
    model: Recommender = getattr(mfcore, kind)(n_threads=arguments.threads, **settings)
    if "n_factors" in model.get_params():
        model.set_params(**FIXED, random_state=arguments.seed)
    with warnings.catch_warnings():                 # (models that say little are measured, too)
        warnings.simplefilter("ignore", validation.FitWarning)
        return model.fit(train)


def _measured(model: Recommender, test: Ratings, metrics: list[str], arguments: Namespace,
              **options: Any) -> dict[str, float]:
    return mfcore.evaluate(model, test, metrics=metrics, n_threads=arguments.threads, **options)


# -------------------------------------------------------------------------------- folding


def _by_weight(data: Dataset, groups: Groups, found: Climb, arguments: Namespace
               ) -> tuple[list[dict[str, Any]], str | None]:
    """Fit and measure from no weight to balance; return the rows and the path of the picture.

    The chosen weight is the one that ranks validation ratings best.
    """
    from mfcore.data import split

    train, test = found.train, found.test
    part, valid = split.random_split(train, 0.2, random_state=arguments.seed + 1)
    n_users, n_items = train.shape
    balance = train.nnz / max(1, n_users * n_items - train.nnz)
    rows, models = [], []
    for share in progress(SHARES, arguments.quiet, desc="folding", unit="weight"):
        weight = share * balance
        settings = {**PENALTIES, "unknown_weight": weight}
        trial, model = (_fitted("MatrixFactorization", settings, ratings, arguments)
                        for ratings in (part, train))
        figures = _measured(model, test, [CROSS, FOLDING, SPURIOUS, RANKING, RATING], arguments,
                            groups=groups)
        models.append(model)
        rows.append({"weight": weight,
                     "validation": _measured(trial, valid, [RANKING], arguments)[RANKING],
                     "chosen": False, **figures,
                     WITHIN: within_audiences(model, test, groups, arguments)})
    best = max(range(len(rows)), key=lambda place: rows[place]["validation"])
    rows[best]["chosen"] = True
    shown = {f"unknown_weight = {rows[place]['weight']:.3g}": models[place]
             for place in (0, best)}
    return rows, _drawn(shown, data, groups[1], arguments.picture)


def within_audiences(model: Recommender, test: Ratings, groups: Groups, arguments: Namespace
                     ) -> float:
    """Return the mean NDCG@10 over users, each offered only the items of their own audience."""
    values, counts = [], []
    for group in np.unique(groups[0][np.diff(test.by_user.indptr) > 0]):
        part = test.select_cells(groups[0][test.users_of_cells] == group)
        ids = ids_or_rows(test.item_ids, test.shape[1])[groups[1] == group]
        values.append(_measured(model, part, [RANKING], arguments, candidates=ids)[RANKING])
        counts.append(np.count_nonzero(np.diff(part.by_user.indptr)))
    return float(np.average(values, weights=counts))


def _drawn(models: dict[str, Recommender], data: Dataset, items: np.ndarray,
           path: str) -> str | None:
    """Draw the items of each model, coloured by audience; None without matplotlib."""
    from mfcore.plots import compare_embeddings, save_picture

    if path == "none":
        return None
    try:
        figure = compare_embeddings(models, audience_names(data, items), data.item_titles)
    except ModuleNotFoundError:
        return None
    save_picture(figure, path)
    return str(Path(path).resolve())


def audience_names(data: Dataset, items: np.ndarray) -> list[str]:
    """Name the audience of each item: by the feature that matches it one to one, or by number."""
    features = data.item_features
    if features is not None and (np.diff(features.matrix.indptr) == 1).all():
        named = features.matrix.indices
        if len(set(zip(named.tolist(), items.tolist(), strict=True))) == len(np.unique(items)):
            return [features.names[place].rpartition("=")[2] for place in named]
    return [f"audience {group}" for group in items]


# ------------------------------------------------------------------------ recommendations


def _recommendations(found: Climb, titles: Titles, seed: int) -> list[dict[str, Any]]:
    """Ask the last model for a few users, drawn among those with some ratings."""
    train, model = found.train, found.steps[-1].model
    counts = np.diff(train.by_user.indptr)
    able = np.flatnonzero(counts >= min(ENOUGH_RATED, counts.max()))
    random = validation.random_generator("seed", seed)
    rows = np.sort(random.choice(able, min(USERS, able.size), replace=False))
    users = ids_or_rows(train.user_ids, train.shape[0])[rows]
    items, _ = model.recommend(users, RECOMMENDED)
    return [{"user": user, "rated": _best_rated(train, row, titles),
             "items": [{"item": item, "title": titles.get(item)} for item in best
                       if item not in (-1, None)]}
            for row, user, best in zip(rows, users.tolist(), items.tolist(), strict=True)]


def _best_rated(train: Ratings, row: int, titles: Titles) -> list[dict[str, Any]]:
    cells = train.by_user
    place = slice(cells.indptr[row], cells.indptr[row + 1])
    items, values = cells.indices[place], cells.data[place]
    best = np.argsort(-values, kind="stable")[:RATED]
    ids = ids_or_rows(train.item_ids, train.shape[1])[items[best]].tolist()
    return [{"item": item, "title": titles.get(item), "rating": float(value)}
            for item, value in zip(ids, values[best], strict=True)]


# ----------------------------------------------------------------------------------- text


def _text(result: dict[str, Any]) -> str:
    """Lay the result out: what was done, the tables, how to read them, recommendations."""
    blocks = [f"{result['data']}: {result['users']:,} users × {result['items']:,} items, "
              f"{result['ratings']:,} ratings, {result['held_out']:,} of them held out",
              _ladder_text(result["rows"])]
    if result["folding"] is not None:
        blocks.append(_folding_text(result["folding"], result["picture"]))
    for found in result["recommendations"]:
        rated = ", ".join(f"{shown(each['title'] or each['item'])} ({each['rating']:g})"
                          for each in found["rated"])
        best = ", ".join(shown(each["title"] or each["item"]) for each in found["items"])
        blocks.append(f"user {shown(found['user'])} rated highest: {rated}\n  recommended: {best}")
    return "\n\n".join(blocks) + (f"\n\n{result['seconds']:.0f} s in all, with compilation and "
                                  f"the choice of settings")


def _ladder_text(rows: list[dict[str, Any]]) -> str:
    columns, cross = {"RMSE": RATING, "NDCG@10": RANKING}, ""
    if any(CROSS in row for row in rows):
        columns["cross-audience@10"] = CROSS
        cross = "; cross-audience: share of recommendations from a foreign catalogue, lower is " \
                "better"
    cells = [[row["model"], *(number(row.get(key)) for key in columns.values()),
              number(row["seconds"], 2), IDEAS[row["model"]],
              ", ".join(f"{SHORT.get(name, name)}={value}" for name, value
                        in row["settings"].items() if name != "bias")] for row in rows]
    head = ["model", *columns, "seconds", "what it adds", "settings"]
    return (f"{table(head, cells, left=(0, len(columns) + 2, len(columns) + 3))}\n\n"
            f"RMSE: error of predicted ratings, lower is better; NDCG@10: held-out items among "
            f"ten recommended, higher is better{cross}.\n\n{_advice(rows)}")


def _advice(rows: list[dict[str, Any]]) -> str:
    """Say which model predicts and which recommends best here, and what a user would take."""
    rated = [row for row in rows if RATING in row]
    predicts, base = min(rated, key=lambda row: row[RATING]), rated[0]
    ranks, popular = max(rows, key=lambda row: row[RANKING]), rows[0]
    return (f"To predict ratings: {predicts['model']}, RMSE {predicts[RATING]:.4f} against "
            f"{base[RATING]:.4f} of {base['model']}; "
            f"MatrixFactorization() has learned biases by default.\n"
            f"To recommend: {ranks['model']}, NDCG@10 {ranks[RANKING]:.4f} against "
            f"{popular[RANKING]:.4f} of {popular['model']}; ImplicitMF() weights unknown cells by "
            f"default.")


def _folding_text(rows: list[dict[str, Any]], path: str | None) -> str:
    cells = [[f"{row['weight']:.5f}", *(number(row[key], 3) for key in COLUMNS.values()),
              "chosen on validation" if row["chosen"] else ""] for row in rows]
    picture = f"Picture: {path}" if path else \
        "No picture: mfcore[plots] draws one, --picture FILE says where."
    return "\n".join([
        "What the weight of unknown cells does, from none to that of all ratings together:", "",
        table(["weight", *COLUMNS, ""], cells, left=(len(COLUMNS) + 1,)), "",
        "cross-audience: share of recommendations from a foreign catalogue; folding: how much "
        "less related\nitems are than their scores say, judged without the audiences; spurious: "
        "share for which that is more than half\nof the catalogue; within: NDCG@10 where only "
        f"items of the user's own audience are ranked.\n{picture}"])
