"""Whole users held out: ranking for people the models were not trained on.

    python -m benchmarks.strong_generalisation [DATA ...]

Users with at least five items; a fifth of them is for testing and a fifth of the rest for
validation, five times over (seeds).  Of a held-out user 80 % of the items are folded in, the
others ranked among all that were not.  Of each model (but Popularity) four settings are tried in
every seed, stopped and compared by NDCG@100 on the validation users; the best is tested as it
is.  The settings come from a look at the validation users of the first seed of ML-100K, where
rates, annealing, dropout and widths were tried one after the other.  What the result file holds
of as many settings is not measured again.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mfcore import EASE, ImplicitMF, MultDAE, MultVAE, Popularity, Ratings, RecVAE, evaluate, fetch
from mfcore.data.split import user_split

RESULT = Path(__file__).parent / "results" / "strong_generalisation.json"
SEEDS, METRICS = 5, ("recall_capped@20", "recall_capped@50", "ndcg@100")
BATCH = {"ml-100k": 100, "movietweetings-100k": 250}
# What were the defaults when this was measured.
FORMER = {"alpha": 1.0, "rating_scale": 1.0, "reg": 5.0, "n_epochs": 15}
WATCHED = {"patience": 10, "eval_metric": "ndcg@100", "n_epochs": 200}


def each(shared: dict[str, Any], *settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the settings, each with what they share."""
    return [shared | own for own in settings]


SETTINGS: dict[str, tuple[type, list[dict[str, Any]]]] = {
    "Popularity": (Popularity, [{}]),
    "ImplicitMF": (ImplicitMF, [FORMER | {"n_factors": k, "unknown_weight": w0}
                                for k in (32, 64) for w0 in (0.3, 0.1)]),
    "EASE": (EASE, [{"reg": reg} for reg in (40.0, 150.0, 300.0, 600.0)]),
    "EDLAE": (EASE, each({"reg": 30.0}, {"dropout": 0.3}, {"dropout": 0.6}, {"dropout": 0.75},
                         {"dropout": 0.6, "reg": 100.0})),
    "MultDAE": (MultDAE, each(WATCHED | {"n_latent": 200}, {"learning_rate": 0.001},
                              {"learning_rate": 0.003}, {"learning_rate": 0.003, "dropout": 0.7},
                              {"learning_rate": 0.003, "n_latent": 100})),
    "MultVAE": (MultVAE, [WATCHED | {"learning_rate": 0.003, "hidden": (), "n_latent": k,
                                     "anneal": anneal} for k in (100, 200)
                          for anneal in (1000, 3000)]),
    "RecVAE": (RecVAE, [WATCHED | {"n_hidden": 200, "n_latent": 100, "learning_rate": rate,
                                   "gamma": gamma} for rate in (0.0005, 0.001)
                        for gamma in (0.002, 0.005)]),
}


def people(name: str) -> Ratings:
    """Return the ratings of users with at least five."""
    ratings = fetch(name).ratings
    return ratings.select_users(np.flatnonzero(np.diff(ratings.by_user.indptr) >= 5))


def measured(name: str, data: str, ratings: Ratings, seed: int) -> dict[str, Any]:
    """Return the test figures of the setting that is best on validation users."""
    rest, fold_in, test = user_split(ratings, 0.2, random_state=seed)
    train, known, held = user_split(rest, 0.2, random_state=seed + 100)
    start, found = time.process_time(), []
    for number, model in enumerate(models(name, data, seed)):
        watched = {"eval_set": (known, held)} if getattr(model, "patience", None) else {}
        model.fit(train, **watched)
        score = evaluate(model, held, fold_in=known, metrics="ndcg@100")["ndcg@100"]
        found.append((score, number, model))
    _, number, model = max(found, key=lambda each: each[0])
    return {"setting": number, "cpu_seconds": round(time.process_time() - start, 1),
            **evaluate(model, test, fold_in=fold_in, metrics=METRICS)}


def models(name: str, data: str, seed: int) -> Iterator[Any]:
    """Yield a model of each setting, not fitted."""
    made, settings = SETTINGS[name]
    for params in settings:
        model = made(**params)
        more = {"random_state": seed, "n_threads": 1, "batch_size": BATCH.get(data, 500)}
        yield model.set_params(**{key: more[key] for key in more if key in model.get_params()})


def main() -> None:
    """Measure all models on the asked data, seed by seed, and add them to the result file."""
    for data in sys.argv[1:] or BATCH:
        ratings = people(data)
        for seed in range(SEEDS):
            for name in SETTINGS:
                row = kept(data, ratings)["data"][data]["models"].get(name, {})
                same = row.get("settings") == len(SETTINGS[name][1])
                runs = row["seeds"] if same else []
                if len(runs) == seed:
                    found = measured(name, data, ratings, seed)
                    print(data, seed, name, found, flush=True)
                    keep(data, ratings, name, [*runs, found])


def kept(data: str, ratings: Ratings) -> dict[str, Any]:
    """Return what the result file holds, with a place for the data."""
    result: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {
        "command": "python -m benchmarks.strong_generalisation", "data": {}}
    result["data"].setdefault(data, {"shape": list(ratings.shape), "nnz": ratings.nnz,
                                     "models": {}})
    return result


def keep(data: str, ratings: Ratings, name: str, runs: list[dict[str, Any]]) -> None:
    """Write a model's runs, with means and standard deviations, into the result file."""
    result = kept(data, ratings)
    row: dict[str, Any] = {"settings": len(SETTINGS[name][1])}
    for metric in METRICS:
        values = [run[metric] for run in runs]
        row[metric] = {"mean": round(float(np.mean(values)), 4),
                       "sd": round(float(np.std(values, ddof=1)), 4) if len(runs) > 1 else None}
    result["data"][data]["models"][name] = row | {"seeds": runs}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
