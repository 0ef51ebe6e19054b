"""Closed forms on choices next to models that are trained: lists on validation parts, and seconds.

    python -m benchmarks.closed_forms [--large] [DATA ...]

Data are those of `benchmarks/twins.py`, cut as in `benchmarks/defaults.py`; test parts are not
looked at.  --large takes generated choices of 30,000 × 41,000 instead, 810,000 of them known, and
measures fits and lists of 20 for all users; figures are of the first 3,000.  Each model has its
defaults.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.defaults import SHARED, Parts, parts
from benchmarks.generated import chosen
from benchmarks.twins import CHOSEN, ones
from mfcore import (
    EASE,
    GraphFilter,
    ImplicitMF,
    ItemKNN,
    Popularity,
    PureSVD,
    Ratings,
    RP3Beta,
    SparseEASE,
    evaluate,
)
from mfcore.data.split import per_user_split

RESULT = Path(__file__).parent / "results" / "closed_forms.json"
METRICS = ("ndcg", "recall")
MEASURED = 3000
LARGE = {"GraphFilter, 512": GraphFilter(512, **SHARED), "SparseEASE": SparseEASE(n_threads=1),
         "RP3Beta": RP3Beta(n_threads=1), "ItemKNN": ItemKNN(n_threads=1),
         "PureSVD": PureSVD(**SHARED), "Popularity": Popularity(n_threads=1)}
MODELS = {"Popularity": Popularity(n_threads=1), "ImplicitMF": ImplicitMF(**SHARED),
          "EASE": EASE(n_threads=1), "GraphFilter": GraphFilter(**SHARED),
          "PureSVD": PureSVD(**SHARED), "ItemKNN": ItemKNN(n_threads=1),
          "RP3Beta": RP3Beta(n_threads=1), "SparseEASE": SparseEASE(n_threads=1)}


def large() -> Parts:
    """Return a split of the size of a public one, of which some users are measured."""
    train, held = per_user_split(ones(Ratings(chosen(30_000, 41_000, 1_012_000, genres=60))), 0.2,
                                 random_state=100)
    return Parts(train, held.select_cells(held.users_of_cells < MEASURED), None)


def rows(given: Parts, models: dict[str, Any]) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield what each model reaches, and the CPU-seconds of its fit and of lists of 20."""
    few = given.train.select_users(np.arange(50))
    for name, model in models.items():
        small = {"n_factors": 4} if "n_factors" in model.get_params() else {}
        type(model)(**{**model.get_params(), **small}).fit(few).recommend(k=20)     # compiles
        start = time.process_time()
        model.fit(given.train)
        fitted = time.process_time()
        model.recommend(k=20)
        ranked = time.process_time()
        more = {} if given.known is None else {"fold_in": given.known}
        found = evaluate(model, given.held, metrics=METRICS, k=20, n_threads=1, **more)
        yield name, {**{key: round(float(each), 4) for key, each in found.items()},
                     "fit": round(fitted - start, 2), "lists": round(ranked - fitted, 2)}


def main() -> None:
    """Measure, and write what was found after each data set."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*")
    parser.add_argument("--large", action="store_true")
    given = parser.parse_args()
    names = ["30,000 × 41,000"] if given.large else given.data or list(CHOSEN)
    for name in names:
        found = dict(rows(large(), LARGE) if given.large else
                     rows(parts(CHOSEN[name], "ndcg@10", test=False), MODELS))
        print(name, json.dumps(found, indent=1), flush=True)
        result = json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else {
            "command": "python -m benchmarks.closed_forms, then with --large", "data": {}}
        result["data"][name] = found
        RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
