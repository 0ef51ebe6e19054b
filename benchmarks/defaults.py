"""Default settings next to those of 0.1.0, biases or popularity, and the best of a scan.

    python -m benchmarks.defaults [--test] [DATA ...]

Data are those of `benchmarks/twins.py`.  A fifth of the ratings is for testing, a fifth of the
rest for validation (whole users where they are held out).  Defaults were chosen, and a scan's best
setting is, by validation; --test then fits to all but the test part, and measures that.  RMSE is in
units of the standard deviation of the training ratings.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.twins import CHOSEN, RATED, Twin
from mfcore import (
    BPR,
    EASE,
    BiasOnly,
    ImplicitMF,
    MatrixFactorization,
    Popularity,
    Ratings,
    SoftmaxMF,
    evaluate,
)
from mfcore.data.split import per_user_split, random_split, user_split

RESULT = Path(__file__).parent / "results" / "defaults.json"
SHARED = {"random_state": 0, "n_threads": 1}
RUNS = {"MatrixFactorization": 2, "ImplicitMF": 2}      # of which the least seconds count
MOST_ITEMS = 5000                       # for a scan of EASE

MODELS: dict[str, dict[str, Any]] = {
    "rmse": {
        "BiasOnly": BiasOnly(),
        "MatrixFactorization, 0.1.0": MatrixFactorization(
            reg=1.2, bias_reg=2.0, rating_scale=1.0, **SHARED),
        "MatrixFactorization": MatrixFactorization(**SHARED)},
    "ndcg@10": {
        "Popularity": Popularity(),
        "ImplicitMF, 0.1.0": ImplicitMF(64, alpha=1.0, rating_scale=1.0, reg=5.0, n_epochs=15,
                                        **SHARED),
        "ImplicitMF": ImplicitMF(**SHARED),
        "EASE, 0.1.0": EASE(reg=200.0, n_threads=1),
        "EASE": EASE(n_threads=1),
        "BPR": BPR(**SHARED),
        "SoftmaxMF": SoftmaxMF(**SHARED)}}
SCANS = {
    "MatrixFactorization": [{"reg": reg, "bias_reg": bias_reg} for reg, bias_reg in product(
        (0.25, 0.5, 1.0, 1.5, 2.0, 3.0), (2.0, 8.0))],
    "ImplicitMF": [{"reg": reg, "alpha": alpha} for reg, alpha in product(
        (1.0, 3.0, 6.0, 12.0), (1.0, 4.0, 16.0))],
    "EASE": [{"reg": reg} for reg in (50.0, 100.0, 200.0, 400.0, 800.0, 1600.0)]}


class Parts(NamedTuple):
    """What is fitted, what is measured, and what is known of users that are held out."""

    train: Ratings
    held: Ratings
    known: Ratings | None


def parts(twin: Twin, metric: str, *, test: bool) -> Parts:
    """Return training and validation parts; with `test` all but the test part, and that."""
    ratings = twin.make()
    if twin.held_users:
        rest, known, held = user_split(ratings, 0.2, random_state=0)
        if not test:
            rest, known, held = user_split(rest, 0.2, random_state=100)
        return Parts(rest, held, known)
    rest, held = cut(ratings, metric, 0)
    return Parts(rest, held, None) if test else Parts(*cut(rest, metric, 100), None)


def cut(ratings: Ratings, metric: str, seed: int) -> tuple[Ratings, Ratings]:
    """Hold out a fifth: of the ratings where they are predicted, of each user's for lists."""
    if metric == "rmse":
        return random_split(ratings, 0.2, seed, keep=1)
    return per_user_split(ratings, 0.2, random_state=seed)


def measured(model: Any, given: Parts, metric: str, runs: int = 1) -> dict[str, float]:
    """Return a model's figure, and the CPU-seconds of its fit."""
    seconds = []
    for _ in range(runs):
        start = time.process_time()
        model.fit(given.train)
        seconds.append(time.process_time() - start)
    more = {} if given.known is None else {"fold_in": given.known}
    value = float(evaluate(model, given.held, metrics=metric, **more)[metric])
    if metric == "rmse":
        value /= float(np.std(given.train.by_user.data))
    return {"figure": round(value, 4), "cpu_seconds": round(min(seconds), 3)}


def scanned(name: str, given: Parts, metric: str) -> dict[str, Any] | None:
    """Return the setting of a scan that is best on validation; None where it takes too long."""
    if name == "EASE" and given.train.shape[1] > MOST_ITEMS:
        return None
    made = type(MODELS[metric][name])
    sign = 1 if metric == "rmse" else -1
    shared = {key: each for key, each in SHARED.items() if key in MODELS[metric][name].get_params()}
    return min(SCANS[name], key=lambda setting: sign * measured(
        made(**setting, **shared), given, metric)["figure"])


def rows(twin: Twin, metric: str, before: dict[str, Any], *, test: bool
         ) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield figures by model; `before` holds those of validation, with settings of scans."""
    given = parts(twin, metric, test=test)
    for name, model in MODELS[metric].items():
        yield name, measured(model, given, metric, RUNS.get(name.partition(",")[0], 1))
    for name in SCANS.keys() & MODELS[metric].keys():
        label = f"{name}, best of {len(SCANS[name])}"
        setting = before[label]["setting"] if test and label in before else \
            None if test else scanned(name, given, metric)
        if setting is not None:
            made = type(MODELS[metric][name])
            model = made(**MODELS[metric][name].get_params() | setting)
            yield label, {**measured(model, given, metric), "setting": setting}


def main() -> None:
    """Measure, data set by data set, and add to the result file."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*")
    parser.add_argument("--test", action="store_true")
    given = parser.parse_args()
    part = "test" if given.test else "validation"
    for metric, twins in ("rmse", RATED), ("ndcg@10", CHOSEN):
        for name, twin in twins.items():
            if not given.data or name in given.data:
                keep(metric, name, twin, part)


def keep(metric: str, name: str, twin: Twin, part: str) -> None:
    """Measure one data set, and write its figures into the result file."""
    result: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {
        "command": "python -m benchmarks.defaults, then with --test", "data": {}}
    place = result["data"].setdefault(metric, {}).setdefault(name, {})
    ratings = twin.make()
    place |= {"says": twin.says, "shape": list(ratings.shape), "nnz": ratings.nnz}
    place[part] = dict(rows(twin, metric, place.get("validation", {}), test=part == "test"))
    print(metric, name, part, {key: each["figure"] for key, each in place[part].items()},
          flush=True)
    written: dict[str, Any] = json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else result
    written["data"].setdefault(metric, {})[name] = place
    RESULT.write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
