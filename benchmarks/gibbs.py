"""What a sweep of Gibbs sampling costs: whole vectors against blocks of factors.

    python -m benchmarks.gibbs

Ratings are generated, with popular and rare items; seconds are CPU-seconds of a sweep, one thread,
after a first one that compiles, the less of two.  Slopes are those of log seconds in log ratings
(users and items grow with them) and in log factors.  The last rows say what the sweeps are worth:
RMSE on ML-100K (u1) after as many of either.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import environment
from mfcore import BayesianMF, Ratings, fetch
from mfcore.data.split import file_folds

RESULT = Path(__file__).parent / "results" / "gibbs.json"
SOLVERS: dict[str, dict[str, Any]] = {
    "whole": {}, "blocks of 32": {"solver": "subspace", "block_size": 32},
    "blocks of 64": {"solver": "subspace", "block_size": 64}}
LARGEST = 10_000_000, 256
SWEEPS = 100
SIZES = [(250_000, 256), (1_000_000, 256), (1_000_000, 64), (1_000_000, 128), LARGEST]


def generated(nnz: int) -> Ratings:
    """Return about `nnz` ratings, 140 per user, of items whose popularity falls as 1/rank."""
    rng = np.random.default_rng(0)
    n_users, n_items = nnz // 140, max(nnz // 500, 400)
    users = rng.integers(0, n_users, nnz)
    items = (n_items ** rng.random(nnz)).astype(int) % n_items
    items = np.where(rng.random(nnz) < 0.5, items, rng.integers(0, n_items, nnz))
    cells = np.unique(users * n_items + items)
    users, items = np.divmod(cells, n_items)
    P, Q = (rng.normal(size=(n, 8)).astype(np.float32) for n in (n_users, n_items))
    values = np.concatenate([
        np.einsum("nk,nk->n", P[users[lo:lo + 10**6]], Q[items[lo:lo + 10**6]])
        for lo in range(0, len(cells), 10**6)])
    return Ratings.from_arrays(users, items, values + rng.normal(size=len(cells)))


def seconds_of(ratings: Ratings, k: int, settings: dict[str, Any]) -> float:
    """Return the CPU-seconds of a sweep."""
    ends: list[float] = []
    model = BayesianMF(k, n_epochs=3, burn_in=1, keep=1, n_threads=1, random_state=0, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(ratings, callbacks=[lambda *_: ends.append(time.process_time())])
    return float(min(np.diff(ends)))


def slope(rows: list[dict[str, Any]], name: str, axis: str, fixed: dict[str, int]) -> float:
    """Return d log seconds / d log of an axis, by least squares."""
    chosen = [row for row in rows if all(row[key] == value for key, value in fixed.items())]
    x = np.log([row[axis] for row in chosen])
    return float(np.polyfit(x, np.log([row[name] for row in chosen]), 1)[0])


def accuracy() -> list[dict[str, Any]]:
    """Return the RMSE on u1 of ML-100K after some sweeps of either."""
    data, rows = fetch("ml-100k", progress=False), []
    train, test = next(iter(file_folds(data.ratings, data.file_order, 5)))
    pairs = test.user_ids[test.users_of_cells], test.item_ids[test.by_user.indices]
    for name in ("whole", "blocks of 32"):
        model = BayesianMF(128, n_epochs=SWEEPS, burn_in=SWEEPS // 6, keep=50, n_threads=1,
                           random_state=0, **SOLVERS[name])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(train)
        error = np.clip(model.predict(*pairs), *model.rating_range_) - test.by_user.data
        rows.append({"solver": name, "factors": 128, "sweeps": SWEEPS,
                     "rmse": round(float(np.sqrt(np.mean(error ** 2))), 5)})
        print(rows[-1], flush=True)
    return rows


def main(most: int = LARGEST[0]) -> None:
    """Measure all sizes up to `most` ratings, and write the result file."""
    rows = []
    for nnz, k in SIZES:
        if nnz > most:
            continue
        ratings = generated(nnz)
        row: dict[str, Any] = {"asked": nnz, "ratings": ratings.nnz, "factors": k,
                               "users": ratings.shape[0], "items": ratings.shape[1]}
        for name, settings in SOLVERS.items():
            row[name] = round(seconds_of(ratings, k, settings), 3)
        rows.append(row)
        print(row, flush=True)
    slopes = [{"solver": name,
               "in ratings, 256 factors": round(slope(rows, name, "ratings", {"factors": 256}), 2),
               "in factors, 1M ratings": round(
                   slope(rows, name, "factors", {"asked": 1_000_000}), 2)}
              for name in SOLVERS]
    result = {"command": "python -m benchmarks.gibbs", "unit": "CPU-seconds of a sweep, one thread",
              "machine": environment(1), "sweeps": rows, "slopes": slopes, "accuracy": accuracy()}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
