"""The part of `mfcore demo` on audiences: what a weight on unknown cells does to folding."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import mfcore
from mfcore.cli.ladder import CROSS, FIXED, RANKING, RATING, Climb
from mfcore.cli.output import number, progress, table

if TYPE_CHECKING:
    from mfcore.data.dataset import Dataset
    from mfcore.data.ratings import Ratings
    from mfcore.models.recommender import Recommender

# Of the weight at which all unknown cells together weigh as much as the ratings.
SHARES = (0.0, 1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
FOLDING, SPURIOUS, WITHIN = "folding@10", "spurious_rate@10", "ndcg@10 within audiences"
PICTURE = "mfcore-folding.png"
COLUMNS = {"cross-audience@10": CROSS, "folding@10": FOLDING, "spurious@10": SPURIOUS,
           "NDCG@10": RANKING, "within": WITHIN, "RMSE": RATING}


class Effect(NamedTuple):
    """What came of it: a row a weight, the models at 0 and at the chosen one, the picture."""

    rows: list[dict[str, Any]]
    models: dict[str, Recommender]
    picture: str | None


def effect(data: Dataset, groups: tuple[np.ndarray, np.ndarray], found: Climb,
           arguments: Namespace) -> Effect:
    """Fit and measure from no weight to balance; choose by the ranking of validation ratings."""
    from mfcore.data import split

    parts = split.random_split(found.train, 0.2, random_state=arguments.seed + 1)
    n_users, n_items = found.train.shape
    balance = found.train.nnz / max(1, n_users * n_items - found.train.nnz)
    rows, models = [], []
    for share in progress(SHARES, arguments.quiet, desc="folding", unit="weight"):
        weight = share * balance
        valid = _ranked(_fitted(weight, parts[0], arguments), parts[1], arguments)
        models.append(_fitted(weight, found.train, arguments))
        rows.append({"weight": weight, "validation": valid, "chosen": False,
                     **_measured(models[-1], found.test, groups, arguments)})
    best = max(range(len(rows)), key=lambda place: rows[place]["validation"])
    rows[best]["chosen"] = True
    shown = {f"unknown_weight = {rows[place]['weight']:.3g}": models[place]
             for place in (0, best)}
    return Effect(rows, shown, _drawn(shown, data, groups[1], arguments.picture))


def _fitted(weight: float, train: Ratings, arguments: Namespace) -> Recommender:
    return mfcore.MatrixFactorization(**FIXED, unknown_weight=weight,
                                      random_state=arguments.seed,
                                      n_threads=arguments.threads).fit(train)


def _ranked(model: Recommender, test: Ratings, arguments: Namespace, **options: Any) -> float:
    return mfcore.evaluate(model, test, metrics=[RANKING], n_threads=arguments.threads,
                           **options)[RANKING]


def _measured(model: Recommender, test: Ratings, groups: tuple[np.ndarray, np.ndarray],
              arguments: Namespace) -> dict[str, float]:
    figures = mfcore.evaluate(model, test, metrics=[CROSS, FOLDING, SPURIOUS, RANKING, RATING],
                              groups=groups, n_threads=arguments.threads)
    return {**figures, WITHIN: within_audiences(model, test, groups, arguments)}


def within_audiences(model: Recommender, test: Ratings, groups: tuple[np.ndarray, np.ndarray],
                     arguments: Namespace) -> float:
    """Return the mean NDCG@10 over users who are offered their own audience's items only."""
    values, counts = [], []
    for group in np.unique(groups[0][np.diff(test.by_user.indptr) > 0]):
        part = test.select_cells(groups[0][test.users_of_cells] == group)
        columns = np.flatnonzero(groups[1] == group)
        ids = columns if test.item_ids is None else test.item_ids[columns]
        values.append(_ranked(model, part, arguments, candidates=ids))
        counts.append(np.count_nonzero(np.diff(part.by_user.indptr)))
    return float(np.average(values, weights=counts))


def _drawn(models: dict[str, Recommender], data: Dataset, items: np.ndarray,
           path: str) -> str | None:
    """Draw the items at both weights, coloured by audience; None without matplotlib."""
    from mfcore.plots import compare_embeddings

    if path == "none":
        return None
    try:
        figure = compare_embeddings(models, audience_names(data, items), data.item_titles)
    except ModuleNotFoundError:
        return None
    figure.savefig(path, dpi=120)
    return str(Path(path).resolve())


def audience_names(data: Dataset, items: np.ndarray) -> list[str]:
    """Name the audience of each item: by the feature that is one to one with it, or number."""
    features = data.item_features
    if features is not None and (np.diff(features.matrix.indptr) == 1).all():
        named = features.matrix.indices
        if len(set(zip(named.tolist(), items.tolist(), strict=True))) == len(np.unique(items)):
            return [features.names[place].rpartition("=")[2] for place in named]
    return [f"audience {group}" for group in items]


def text(found: Effect) -> str:
    """Lay the effect out: a table, how to read it, and where the picture is."""
    cells = [[f"{row['weight']:.5f}", *(number(row[key], 3) for key in COLUMNS.values()),
              "chosen on validation" if row["chosen"] else ""] for row in found.rows]
    picture = f"Picture: {found.picture}" if found.picture else \
        "No picture: mfcore[plots] draws one, --picture FILE says where."
    return "\n".join([
        "What the weight of unknown cells does, from none to that of all ratings together:", "",
        table(["weight", *COLUMNS, ""], cells, left=(len(COLUMNS) + 1,)), "",
        "cross-audience: share of recommendations from a foreign catalogue; folding: how much "
        "less related\nthan their scores say, without looking at audiences; spurious: share "
        "that is so by more than half of the\ncatalogue; within: NDCG@10 where only the own "
        f"audience's items are ranked.\n{picture}"])
