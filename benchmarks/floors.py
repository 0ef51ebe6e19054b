"""Every model with its defaults next to the simplest one: biases, or popularity.

    python -m benchmarks.floors [--models MODEL ...] [DATA ...]

Data are those of `benchmarks/twins.py`: public ones, those that defaults were chosen on, and those
of kinds that they were not.  A fifth of the ratings is for testing.  A difference is in units of
the standard deviation of the training ratings, or NDCG@10, and has the standard error of
`mfcore.metrics.paired`; a model is behind if it is worse by more than two of them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.defaults import SHARED, cut
from benchmarks.twins import CHOSEN, OTHER_CHOSEN, OTHER_RATED, RATED
from mfcore import (
    BPR,
    EASE,
    BayesianMF,
    BiasOnly,
    GraphFilter,
    ImplicitMF,
    ItemKNN,
    MatrixFactorization,
    MultDAE,
    MultVAE,
    NeuralMF,
    Popularity,
    PureSVD,
    RatingAutoencoder,
    Ratings,
    RecVAE,
    RP3Beta,
    SoftmaxMF,
    SparseEASE,
)
from mfcore.metrics.alignment import Alignment
from mfcore.metrics.evaluate import measured
from mfcore.metrics.measure import Values
from mfcore.metrics.paired import standard_error
from mfcore.metrics.table import watchable

RESULT = Path(__file__).parent / "results" / "floors.json"
LIMIT, ROUNDING = 2.0, 1e-6             # standard errors, and what is no difference
HISTORY = {"user_features": "history"}
MODELS: dict[str, dict[str, tuple[Any, dict[str, Any]]]] = {
    "rmse": {
        "BiasOnly": (BiasOnly(), {}),
        "MatrixFactorization": (MatrixFactorization(**SHARED), {}),
        "MatrixFactorization, history": (MatrixFactorization(**SHARED), HISTORY),
        "MatrixFactorization, sgd": (MatrixFactorization(solver="sgd", **SHARED), {}),
        "MatrixFactorization, adam": (MatrixFactorization(solver="adam", **SHARED), {}),
        "BayesianMF": (BayesianMF(**SHARED), {}),
        "NeuralMF": (NeuralMF(**SHARED), {}),
        "RatingAutoencoder": (RatingAutoencoder(**SHARED), {}),
        "RatingAutoencoder.autorec_item": (RatingAutoencoder.autorec_item(**SHARED), {})},
    "ndcg@10": {
        "Popularity": (Popularity(), {}),
        "ImplicitMF": (ImplicitMF(**SHARED), {}),
        "BPR": (BPR(**SHARED), {}),
        "SoftmaxMF": (SoftmaxMF(**SHARED), {}),
        "SoftmaxMF, history": (SoftmaxMF(**SHARED), HISTORY),
        "GraphFilter": (GraphFilter(**SHARED), {}),
        "PureSVD": (PureSVD(**SHARED), {}),
        "EASE": (EASE(n_threads=1), {}),
        "SparseEASE": (SparseEASE(n_threads=1), {}),
        "ItemKNN": (ItemKNN(n_threads=1), {}),
        "RP3Beta": (RP3Beta(n_threads=1), {}),
        "MultDAE": (MultDAE(**SHARED), {}),
        "MultVAE": (MultVAE(**SHARED), {}),
        "RecVAE": (RecVAE(**SHARED), {}),
        "NeuralMF, logistic": (NeuralMF(loss="logistic", **SHARED), {})}}

DATA = {"rmse": {**OTHER_RATED, **RATED}, "ndcg@10": {**OTHER_CHOSEN, **CHOSEN}}


def values(model: Any, test: Ratings, metric: str) -> Values:
    """Return the values whose mean the metric is."""
    found = measured(Alignment(model, test), [watchable("metric", metric)])[metric]
    assert isinstance(found, Values)
    return found


def rows(ratings: Ratings, metric: str, asked: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what each model adds to the simplest one, by its name."""
    train, test = cut(ratings, metric, 0)
    unit, floor = 1.0, None
    if metric == "rmse":
        unit = -float(np.std(train.by_user.data)) or -1.0
    for name, (model, features) in MODELS[metric].items():
        if floor is not None and asked and name not in asked:
            continue
        start = time.process_time()
        found = values(model.fit(train, **features), test, metric)
        row = {"figure": round(found.total / abs(unit), 4),
               "cpu_seconds": round(time.process_time() - start, 1)}
        floor = found if floor is None else floor
        if found is not floor:
            gain = (found.total - floor.total) / unit
            error = standard_error(found, floor) / abs(unit)
            row |= {"gain": round(gain, 4), "error": round(error, 4),
                    "behind": bool(gain < -LIMIT * error - ROUNDING)}
        yield name, row


def main() -> None:
    """Measure, and add to the result file."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", metavar="DATA")
    parser.add_argument("--models", nargs="+", metavar="MODEL", default=[])
    given = parser.parse_args()
    for metric, twins in DATA.items():
        for name, twin in twins.items():
            if not twin.held_users and (not given.data or name in given.data):
                ratings = twin.make()
                about = {"says": twin.says, "shape": list(ratings.shape), "nnz": ratings.nnz}
                for model, row in rows(ratings, metric, given.models):
                    keep(metric, name, about, model, row)


def keep(metric: str, name: str, about: dict[str, Any], model: str, row: dict[str, Any]) -> None:
    """Print a row, and write it into the result file."""
    print(metric, name, model, row, flush=True)
    result: dict[str, Any] = json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else {
        "command": "python -m benchmarks.floors", "data": {}}
    place = result["data"].setdefault(metric, {}).setdefault(name, {**about, "models": {}})
    place |= about
    place["models"][model] = row
    RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
