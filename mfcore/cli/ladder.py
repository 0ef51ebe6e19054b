"""The ladder of `mfcore demo`: six models, each with one idea more than the one before.

Settings of a rung are those of its grid that do best on a validation part of the training
ratings; the test part is looked at once, at the end.
"""

from __future__ import annotations

import time
from argparse import Namespace
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import mfcore
from mfcore import validation
from mfcore.cli.output import progress

if TYPE_CHECKING:
    from mfcore.data.dataset import Dataset
    from mfcore.data.ratings import Ratings
    from mfcore.models.recommender import Recommender

TEST_SHARE = 0.2
# Of every factorization; the penalty of a row grows with the root of its ratings.
FIXED: dict[str, Any] = {"n_factors": 16, "reg_scaling": 0.5}
REGS = (0.15, 0.3, 0.6, 1.2, 2.4)
WEIGHTED_REGS = (0.6, 1.2)
WEIGHTS = (0.01, 0.03, 0.1, 0.3)
# Settings are chosen on no more ratings than this: whole users, drawn at random.
ENOUGH = 200_000
RATING, RANKING, CROSS = "rmse", "ndcg@10", "cross_group_rate@10"


class Rung(NamedTuple):
    """A model of the ladder: its settings to choose from, and the metric that decides."""

    name: str
    kind: str
    grid: list[dict[str, Any]]
    metric: str


class Step(NamedTuple):
    """What came of a rung: the fitted model, its settings and figures."""

    name: str
    model: Recommender
    settings: dict[str, Any]
    figures: dict[str, float]
    seconds: float


class Climb(NamedTuple):
    """What came of the ladder."""

    train: Ratings
    test: Ratings
    steps: list[Step]


def rungs(lowest: float) -> list[Rung]:
    """Return the ladder for ratings of which `lowest` is the least."""
    values = sorted({0.0, lowest})
    weighted = [{"bias": "mean", "reg": reg, "unknown_weight": weight, "unknown_value": value}
                for reg, weight, value in product(WEIGHTED_REGS, WEIGHTS, values)]
    plain: list[str | None] = [None, "mean", "learned"]
    minimal, mean, learned = ([{"bias": bias, "reg": reg} for reg in REGS] for bias in plain)
    return [Rung("Popularity", "Popularity", [{}], RANKING),
            Rung("BiasOnly", "BiasOnly", [{}], RATING),
            Rung("minimal MF", "MatrixFactorization", minimal, RATING),
            Rung("mean bias", "MatrixFactorization", mean, RATING),
            Rung("learned bias", "MatrixFactorization", learned, RATING),
            Rung("weighted unknown", "MatrixFactorization", weighted, RANKING)]


def climb(data: Dataset, arguments: Namespace) -> Climb:
    """Choose, fit and measure every rung."""
    from mfcore.data import split

    seed = arguments.seed
    train, test = split.per_user_split(data.ratings, TEST_SHARE, random_state=seed)
    parts = split.random_split(_enough(train, seed), TEST_SHARE, random_state=seed + 1)
    ladder = rungs(float(train.by_user.data.min()))
    steps = []
    for rung in progress(ladder, arguments.quiet, desc="demo", unit="model"):
        settings = _chosen(rung, *parts, arguments)
        steps.append(_step(rung, settings, train, test, audiences(data), arguments))
    return Climb(train, test, steps)


def audiences(data: Dataset) -> tuple[np.ndarray, np.ndarray] | None:
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


def _fitted(rung: Rung, settings: dict[str, Any], train: Ratings, arguments: Namespace
            ) -> Recommender:
    model: Recommender = getattr(mfcore, rung.kind)(n_threads=arguments.threads, **settings)
    if "n_factors" in model.get_params():
        model.set_params(**FIXED, random_state=arguments.seed)
    return model.fit(train)


def _chosen(rung: Rung, train: Ratings, valid: Ratings, arguments: Namespace
            ) -> dict[str, Any]:
    """Return the settings of the grid with the best deciding metric on `valid`."""
    if len(rung.grid) == 1:
        return rung.grid[0]
    sign = -1 if rung.metric == RATING else 1

    def score(settings: dict[str, Any]) -> float:
        model = _fitted(rung, settings, train, arguments)
        return sign * mfcore.evaluate(model, valid, metrics=[rung.metric],
                                      n_threads=arguments.threads)[rung.metric]

    return max(rung.grid, key=score)


def _step(rung: Rung, settings: dict[str, Any], train: Ratings, test: Ratings,
          groups: tuple[np.ndarray, np.ndarray] | None, arguments: Namespace) -> Step:
    start = time.perf_counter()
    model = _fitted(rung, settings, train, arguments)
    seconds = time.perf_counter() - start
    metrics = [RATING] * (rung.kind != "Popularity") + [RANKING] + [CROSS] * (groups is not None)
    figures = mfcore.evaluate(model, test, metrics=metrics, groups=groups,
                              n_threads=arguments.threads)
    return Step(rung.name, model, settings, figures, seconds)
