"""What effects of periods are worth, and what they cost: planted drift, and MovieTweetings.

    python -m benchmarks.times

Planted ratings have a bias of each user and item in each tenth of the time (or none, or vectors
that drift), and errors are against the planted scores.  On MovieTweetings every ingredient is added
alone, in the same folds; differences are paired.  Settings are those of the docstrings but
for what is said; a day for users and thirty for items were chosen on other folds.
"""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import environment
from mfcore import BayesianMF, MatrixFactorization, Ratings, fetch
from mfcore.data.features import one_hot
from mfcore.data.split import k_fold

RESULT = Path(__file__).parent / "results" / "times.json"
PERIODS = {"user_periods": 10, "item_periods": 10}
MODELS = {"MatrixFactorization": lambda **o: MatrixFactorization(16, **o),
          "BayesianMF": lambda **o: BayesianMF(16, n_epochs=120, burn_in=40, keep=40, **o)}
DENSE = 600, 300        # users and items where users have seventeen ratings in a tenth, not five
# Where users have six ratings each: models, and in how many of the folds.
SMALLER = {"MatrixFactorization": (MODELS["MatrixFactorization"], 5),
           "BayesianMF": (lambda **o: BayesianMF(8, n_epochs=80, burn_in=20, keep=30, **o), 2)}


def planted(kind: str, seed: int, shape: tuple[int, int], nnz: int) -> tuple[Any, ...]:
    """Return users, items, times, ratings and true scores; the drift is a random walk."""
    rng = np.random.default_rng(seed)
    cells = rng.choice(shape[0] * shape[1], nnz, replace=False)
    users, items = np.divmod(cells, shape[1])
    times = rng.integers(0, 10_000_000, nnz)
    tenth, k = times // 1_000_000, 6
    P, Q = (0.5 * rng.normal(size=(n, k)) for n in shape)
    user, item = 0.4 * rng.normal(size=shape[0]), 0.5 * rng.normal(size=shape[1])
    score = user[users] + item[items]
    if kind == "vectors":
        P = P[:, None] + np.cumsum(0.25 * rng.normal(size=(shape[0], 10, k)), axis=1)
        score += np.einsum("nk,nk->n", P[users, tenth], Q[items])
    else:
        score += np.einsum("nk,nk->n", P[users], Q[items])
    if kind == "biases":
        for rows in (users, items):
            score += np.cumsum(0.2 * rng.normal(size=(rows.max() + 1, 10)), axis=1)[rows, tenth]
    return users, items, times, score + 0.7 * rng.normal(size=nnz), score


def on_planted(kind: str, shape: tuple[int, int], nnz: int, models: Any, seeds: range
               ) -> list[dict[str, Any]]:
    """Return the errors and CPU-seconds of models with and without periods."""
    rows = []
    for seed in seeds:
        users, items, times, values, score = planted(kind, seed, shape, nnz)
        held = np.random.default_rng(seed + 100).random(nnz) < 0.1
        train = Ratings.from_arrays(users[~held], items[~held], values[~held], times=times[~held])
        for name in models:
            for periods in ({}, PERIODS):
                model = MODELS[name](**periods, random_state=seed, n_threads=1)
                began = time.process_time()
                model.fit(train)
                seconds = time.process_time() - began
                timed = {"times": times[held]} if periods else {}
                error = model.predict(users[held], items[held], **timed) - score[held]
                rows.append({"data": kind, "ratings": nnz, "users": shape[0], "model": name,
                             "seed": seed,
                             "periods": bool(periods), "seconds": round(seconds, 3),
                             "rmse": round(float(np.sqrt(np.mean(error ** 2))), 5)})
                print(rows[-1], flush=True)
    return rows


def rows_of_days(seeds: range, shape: tuple[int, int] = (2000, 1000),
                 kinds: tuple[str, ...] = ("none", "biases", "vectors")) -> list[dict[str, Any]]:
    """Return errors of the other way: a row for each user and tenth, with the user as feature."""
    rows, nnz = [], 100_000
    for kind in kinds:
        for seed in seeds:
            users, items, times, values, score = planted(kind, seed, shape, nnz)
            held = np.random.default_rng(seed + 100).random(nnz) < 0.1
            split = 10 * users + times // 1_000_000
            train = Ratings.from_arrays(split[~held], items[~held], values[~held])
            names = [str(row // 10) for row in np.asarray(train.user_ids).tolist()]
            model = MODELS["BayesianMF"](random_state=seed, n_threads=1)
            began = time.process_time()
            model.fit(train, user_features=one_hot(names, "user"))
            seconds = time.process_time() - began
            known = np.isin(split, train.user_ids) & held
            error = model.predict(split[known], items[known]) - score[known]
            rows.append({"data": kind, "ratings": nnz, "users": shape[0],
                         "model": "BayesianMF, rows of tenths",
                         "seed": seed, "periods": True, "seconds": round(seconds, 3),
                         "rmse": round(float(np.sqrt(np.mean(error ** 2))), 5)})
            print(rows[-1], flush=True)
    return rows


def on_tweets() -> list[dict[str, Any]]:
    """Return the errors of each ingredient alone and of all, by fold."""
    data = fetch("movietweetings-100k", progress=False)
    arms: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "nothing": ({}, {}), "genres": ({}, {"item_features": data.item_features}),
        "users' days": ({"user_periods": "1D"}, {}), "items' months": ({"item_periods": "30D"}, {}),
        "days and months": ({"user_periods": "1D", "item_periods": "30D"}, {}),
        "all": ({"user_periods": "1D", "item_periods": "30D"},
                {"item_features": data.item_features})}
    rows = []
    for fold, (train, test) in enumerate(k_fold(data.ratings, 5, 0)):
        pairs = test.user_ids[test.users_of_cells], test.item_ids[test.by_user.indices]
        for name, (make, folds) in SMALLER.items():
            for arm, (settings, given) in arms.items() if fold < folds else ():
                model = make(**settings, random_state=fold, n_threads=1)
                began = time.process_time()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    model.fit(train, **given)
                seconds = time.process_time() - began
                timed = {"times": test.times} if settings else {}
                error = np.clip(model.predict(*pairs, **timed), *model.rating_range_) \
                    - test.by_user.data
                rows.append({"model": name, "arm": arm, "fold": fold, "seconds": round(seconds, 3),
                             "rmse": round(float(np.sqrt(np.mean(error ** 2))), 5)})
                print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Measure, and write the result file."""
    rows = [row for kind in ("none", "biases", "vectors") for row in
            on_planted(kind, (2000, 1000), 100_000, MODELS, range(3))]
    rows += on_planted("biases", (6000, 3700), 1_000_000, ["MatrixFactorization"], range(1))
    rows += rows_of_days(range(1))
    rows += on_planted("vectors", DENSE, 100_000, ["BayesianMF"], range(3))
    rows += rows_of_days(range(3), DENSE, ("vectors",))
    result = {"command": "python -m benchmarks.times", "machine": environment(1), "planted": rows,
              "movietweetings-100k": on_tweets()}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
