"""What sampling, groups and the history of users and items are worth on ML-100K, u1 to u5.

    python -m benchmarks.bayesian [arm ...]

Every arm runs with the library's defaults on all folds; they were chosen on random tenths of
training ratings.  "groups" are age band, gender, occupation and genre; "history" is the bag of
what a user (an item) has rated in training, which makes SVD++ of a factorization; "periods" are
effects of users' days and items' months; "levels" is the ordinal likelihood.

Differences are paired over folds, with intervals of 95 % for folds that share training ratings
(benchmarks/claims/statistics.py).  With names of arms, only these are measured again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.claims.statistics import OVERLAP, effect
from mfcore import BayesianMF, MatrixFactorization, Ratings, fetch
from mfcore.data.split import file_folds

RESULT = Path(__file__).parent / "results" / "ml100k_bayesian.json"
PERIODS = {"user_periods": "1D", "item_periods": "30D"}

ARMS: list[tuple[str, Any, str]] = [
    ("ALS", lambda: MatrixFactorization(random_state=0), ""),
    ("ALS, history", lambda: MatrixFactorization(random_state=0), "history"),
    ("ALS, groups and history", lambda: MatrixFactorization(random_state=0), "groups history"),
    ("SGD", lambda: MatrixFactorization(solver="sgd", random_state=0), ""),
    ("SGD, history", lambda: MatrixFactorization(solver="sgd", random_state=0), "history"),
    ("Gibbs", lambda: BayesianMF(random_state=0), ""),
    ("Gibbs, groups", lambda: BayesianMF(random_state=0), "groups"),
    ("Gibbs, history", lambda: BayesianMF(random_state=0), "history"),
    ("Gibbs, groups and history", lambda: BayesianMF(random_state=0), "groups history"),
    ("Gibbs, groups, history and periods", lambda: BayesianMF(random_state=0, **PERIODS),
     "groups history"),
    ("Gibbs, levels, groups and history",
     lambda: BayesianMF(random_state=0, likelihood="ordinal"), "groups history"),
    ("Gibbs, levels, groups, history and periods",
     lambda: BayesianMF(random_state=0, likelihood="ordinal", **PERIODS), "groups history"),
]


def features_of(data: Any, kind: str) -> dict[str, Any]:
    """Return the features of a kind as keywords of `fit`."""
    parts = {"groups": (data.user_features, data.item_features), "history": ("history",) * 2}
    chosen = [parts[word] for word in kind.split()]
    return {name: tuple(part[side] for part in chosen)
            for side, name in enumerate(("user_features", "item_features")) if chosen}


GIVEN = "Gibbs, groups and history"
PAIRS = [("levels", "Gibbs, levels, groups and history", GIVEN),
         ("periods", "Gibbs, groups, history and periods", GIVEN),
         ("levels and periods", "Gibbs, levels, groups, history and periods", GIVEN),
         ("groups and history", GIVEN, "Gibbs")]


def paired(folds: dict[str, Sequence[float]]) -> list[dict[str, Any]]:
    """Return what each ingredient takes from the RMSE, and the interval of 95 %."""
    rows = []
    for what, name, base in PAIRS:
        found = effect(np.subtract(folds[name], folds[base]), OVERLAP)
        rows.append({"ingredient": what, "added to": base, "difference": round(found.mean, 5),
                     "low": round(found.low, 5), "high": round(found.high, 5)})
    return rows


def shares(model: Any, test: Ratings) -> np.ndarray:
    """Return the expected and the observed share of each level, shape (2, K)."""
    pairs = test.user_ids[test.users_of_cells], test.item_ids[test.by_user.indices]
    times = {} if model.periods_ is None else {"times": test.times}
    given = test.by_user.data[:, None] == model.levels_
    return np.array([model.predict_proba(*pairs, **times).mean(axis=0), given.mean(axis=0)])


def measured(model: Any, test: Ratings) -> tuple[float, float]:
    """Return RMSE, clipped to the scale, and the coverage of the 80 % interval (or NaN)."""
    pairs = test.user_ids[test.users_of_cells], test.item_ids[test.by_user.indices]
    truth, covered = test.by_user.data, np.nan
    times = {} if model.periods_ is None else {"times": test.times}
    scores = model.predict(*pairs, **times)
    if isinstance(model, BayesianMF) and (model.is_ordinal or not times):
        low, high = model.predict_interval(*pairs, **times)         # of 80 %
        covered = float(np.mean((low <= truth) & (truth <= high)))
    error = np.clip(scores, *model.rating_range_) - truth
    return float(np.sqrt(np.mean(error ** 2))), covered


def main(chosen: Sequence[str] = ()) -> None:
    """Measure arms on all folds and write the result file."""
    data = fetch("ml-100k")
    before = {row["name"]: row for row in json.loads(RESULT.read_text())["rows"]} if chosen else {}
    rows: list[dict[str, Any]] = []
    folds = list(file_folds(data.ratings, data.file_order, 5))
    for name, make, kind in ARMS:
        if chosen and name not in chosen:
            rows.append(before[name])
            continue
        known, figures, of_levels = features_of(data, kind), [], []
        for train, test in folds:
            model = make().fit(train, **known)
            figures.append(measured(model, test))
            if getattr(model, "is_ordinal", False):
                of_levels.append(shares(model, test))
        found = np.array(figures)
        row = {"name": name, "mean": round(found[:, 0].mean(), 5),
               "folds": found[:, 0].round(5).tolist()}
        if not np.isnan(found[0, 1]):
            row["covered by the 80 % interval"] = round(found[:, 1].mean(), 4)
        if of_levels:
            expected, observed = np.mean(of_levels, axis=0).round(5).tolist()
            row["share of each level"] = {"expected": expected, "observed": observed}
        rows.append(row)
        print(row, flush=True)
    RESULT.write_text(json.dumps({
        "data": "ml-100k, folds u1 to u5", "command": "python -m benchmarks.bayesian",
        "metric": "rmse, clipped to the range of the training ratings", "rows": rows,
        "paired": paired({row["name"]: row["folds"] for row in rows})},
        indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
