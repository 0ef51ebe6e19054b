"""Whole users held out: ranking for people the models were not trained on.

    python -m benchmarks.strong_generalisation [DATA ...]

Users with at least five items; a fifth of them is for testing and a fifth of the rest for
validation, five times over (seeds).  Of a held-out user 80 % of the items are folded in, the
others ranked among all that were not.  Of each model the same number of settings is tried in
every seed, stopped and compared by NDCG@100 on the validation users; the best is tested as it
is.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from mfcore import EASE, ImplicitMF, MultDAE, MultVAE, Popularity, Ratings, RecVAE, evaluate, fetch
from mfcore.data.split import user_split

RESULT = Path(__file__).parent / "results" / "strong_generalisation.json"
SEEDS, METRICS = 5, ("recall_capped@20", "recall_capped@50", "ndcg@100")
WATCHED = {"patience": 5, "eval_metric": "ndcg@100", "batch_size": 100}
SETTINGS: dict[str, list[Any]] = {
    "Popularity": [lambda seed: Popularity()],
    "ImplicitMF": [lambda seed, k=k, w=w: ImplicitMF(
        k, unknown_weight=w, random_state=seed) for k, w in ((32, 0.3), (64, 0.1), (64, 0.03))],
    "EASE": [lambda seed, reg=reg: EASE(reg=reg) for reg in (30.0, 100.0, 300.0)],
    "EDLAE": [lambda seed, p=p: EASE(reg=30.0, dropout=p) for p in (0.2, 0.4, 0.6)],
    "MultDAE": [lambda seed, k=k, p=p: MultDAE(
        (), k, dropout=p, n_epochs=100, random_state=seed, **WATCHED)
        for k, p in ((100, 0.5), (200, 0.5), (200, 0.7))],
    "MultVAE": [lambda seed, beta=beta, h=h: MultVAE(
        (h,), 100, beta=beta, anneal=500, n_epochs=100, random_state=seed, **WATCHED)
        for beta, h in ((0.2, 200), (0.5, 200), (0.2, 400))],
    "RecVAE": [lambda seed, gamma=gamma: RecVAE(
        200, 100, gamma=gamma, n_epochs=40, random_state=seed, **WATCHED)
        for gamma in (0.0025, 0.005, 0.01)],
}


def people(name: str) -> Ratings:
    """Return the ratings of users with at least five."""
    ratings = fetch(name).ratings
    return ratings.select_users(np.flatnonzero(np.diff(ratings.by_user.indptr) >= 5))


def measured(name: str, ratings: Ratings, seed: int) -> dict[str, Any]:
    """Return the test figures of the setting that is best on validation users."""
    rest, fold_in, test = user_split(ratings, 0.2, random_state=seed)
    train, known, held = user_split(rest, 0.2, random_state=seed + 100)
    start, found = time.process_time(), []
    for number, make in enumerate(SETTINGS[name]):
        model = make(seed)
        watched = {"eval_set": (known, held)} if getattr(model, "patience", None) else {}
        model.fit(train, **watched)
        score = evaluate(model, held, fold_in=known, metrics="ndcg@100")["ndcg@100"]
        found.append((score, number, model))
    _, number, model = max(found, key=lambda each: each[0])
    return {"setting": number, "cpu_seconds": round(time.process_time() - start, 1),
            **evaluate(model, test, fold_in=fold_in, metrics=METRICS)}


def main() -> None:
    """Measure all models on the asked data and add them to the result file."""
    for data in sys.argv[1:] or ("ml-100k", "movietweetings-100k"):
        ratings = people(data)
        for name in SETTINGS:
            runs = [measured(name, ratings, seed) for seed in range(SEEDS)]
            row = {metric: {"mean": round(float(np.mean([run[metric] for run in runs])), 4),
                            "sd": round(float(np.std([run[metric] for run in runs], ddof=1)), 4)}
                   for metric in METRICS}
            print(data, name, row, flush=True)
            keep(data, ratings, name, row | {"seeds": runs})


def keep(data: str, ratings: Ratings, name: str, row: dict[str, Any]) -> None:
    """Add a row to the result file."""
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {
        "command": "python -m benchmarks.strong_generalisation", "data": {}}
    part = result["data"].setdefault(data, {"shape": list(ratings.shape), "nnz": ratings.nnz,
                                            "models": {}})
    part["models"][name] = row
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
