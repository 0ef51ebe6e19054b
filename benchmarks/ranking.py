"""Lists of ranking losses, filters and baselines, tuned at the same cost, with paired intervals.

    python -m benchmarks.ranking [--models MODEL ...] [DATA ...]

A fifth of each user's choices is for testing, five times over.  Each time every model is tuned by
NDCG@20 of a tenth of the rest, where search and last fit may cost BUDGET fits with its defaults.
Differences are those of `mfcore.compare`, over all five.  Where implicit is installed, its
alternating least squares take part, with the best of OF_PEER settings.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

from benchmarks.twins import ones
from mfcore import (
    BPR,
    EASE,
    GraphFilter,
    ImplicitMF,
    ItemKNN,
    Popularity,
    Ratings,
    RP3Beta,
    SoftmaxMF,
    SparseEASE,
    compare,
    evaluate,
    fetch,
    tune,
)
from mfcore.data.split import per_user_split
from mfcore.models.stopping import held_out
from mfcore.tuning.spaces import LogRange, at_points, drawn

RESULT = Path(__file__).parent / "results" / "ranking.json"
BUDGET, OF_PEER, SEEDS, METRICS = 3, 8, (1, 2, 3, 4, 5), ("ndcg@20", "recall@20")
# Penalties of implicit do not grow with the ratings of a row: a few tens are right.
OF_IMPLICIT = {"reg": LogRange(1.0, 200.0), "alpha": LogRange(0.5, 20.0)}
SEEDED: dict[str, Any] = {"random_state": 0, "n_threads": 1}
DATA: dict[str, tuple[str, Callable[[Ratings], Ratings]]] = {
    "MovieTweetings, 10-core": ("movietweetings-100k", lambda ratings: ratings.filter(
        min_per_user=10, min_per_item=10)),
    "ML-100K": ("ml-100k", lambda ratings: ratings),
    "Online Retail": ("online-retail", lambda ratings: ratings)}


class Tuned:
    """A model of which `fit` tunes a copy, and returns that."""

    def __init__(self, model: Any, features: Any = None, spent: Any = None) -> None:
        self.model, self.features, self.spent = model, features, spent

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return what it was made with."""
        return {"model": self.model, "features": self.features, "spent": self.spent}

    def fit(self, train: Ratings) -> Any:
        """Return the fitted model, and add to what was spent."""
        start = time.process_time()
        found = self.fitted(train)
        self.spent.append(time.process_time() - start)
        return found

    def fitted(self, train: Ratings) -> Any:
        """Return the fitted model."""
        return tune(self.model, train, metric=METRICS[0], budget=BUDGET,
                    user_features=self.features, verbose=0).model


class OfImplicit(Tuned):
    """ALS of implicit, whose vectors an ImplicitMF then serves."""

    def fitted(self, train: Ratings) -> Any:
        """Return an ImplicitMF with the vectors of the best setting, fitted to all."""
        known, held = held_out(train, 0.1, 0)
        random = np.random.default_rng(self.model.random_state)
        settings = [{"reg": 0.01, "alpha": 1.0}, *at_points(
            self.model, OF_IMPLICIT, drawn(OF_IMPLICIT, OF_PEER - 1, random))]
        best = max(settings, key=lambda setting: float(evaluate(
            self._with(setting, known), held, metrics=METRICS[0])[METRICS[0]]))
        return self._with(best, train)

    def _with(self, setting: dict[str, Any], train: Ratings) -> Any:
        from implicit.cpu.als import AlternatingLeastSquares

        with threadpool_limits(1, "blas"):
            peer = AlternatingLeastSquares(
                64, regularization=setting["reg"], alpha=setting["alpha"], num_threads=1,
                random_state=self.model.random_state)
            peer.fit(sp.csr_matrix(train.by_user, dtype=np.float32, copy=True),
                     show_progress=False)
        served = ImplicitMF(64, n_epochs=1, **SEEDED).fit(train)
        served.users_.factors, served.items_.factors = peer.user_factors, peer.item_factors
        return served


def models() -> dict[str, Any]:
    """Return what is compared, by name."""
    found: dict[str, Any] = {
        "SoftmaxMF": Tuned(SoftmaxMF(**SEEDED)),
        "SoftmaxMF, history": Tuned(SoftmaxMF(**SEEDED), "history"),
        "GraphFilter": Tuned(GraphFilter(**SEEDED)),
        "SparseEASE": Tuned(SparseEASE(n_threads=1)),
        "EASE": Tuned(EASE(n_threads=1)),
        "ImplicitMF": Tuned(ImplicitMF(**SEEDED)),
        "BPR": Tuned(BPR(**SEEDED)),
        "RP3Beta": Tuned(RP3Beta(n_threads=1)),
        "ItemKNN": Tuned(ItemKNN(n_threads=1)),
        "Popularity": Popularity(n_threads=1)}
    if importlib.util.find_spec("implicit"):
        found["implicit, ALS"] = OfImplicit(ImplicitMF(**SEEDED))
    for each in found.values():
        if isinstance(each, Tuned):
            each.spent = []
    return found


def rows(ratings: Ratings, contestants: Mapping[str, Any]) -> dict[str, Any]:
    """Return means of each model, its CPU-seconds of tuning, and differences from SoftmaxMF."""
    folds = (per_user_split(ratings, 0.2, random_state=seed) for seed in SEEDS)
    found = compare(contestants, ratings, folds=folds, baseline="SoftmaxMF", metrics=METRICS)
    return {"shape": list(ratings.shape), "nnz": ratings.nnz, "n_users": found.n_users,
            "values": {name: {key: round(each, 4) for key, each in values.items()}
                       for name, values in found.values.items()},
            "cpu_seconds": {name: round(float(np.mean(each.spent)), 2)
                            for name, each in contestants.items() if isinstance(each, Tuned)},
            "differences": [{**each._asdict(), "first": each.first} for each in found.differences]}


def main() -> None:
    """Measure, and write what was found after each data set."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", metavar="DATA")
    parser.add_argument("--models", nargs="+", metavar="MODEL", help="SoftmaxMF, and these alone")
    given = parser.parse_args()
    for name in given.data or DATA:
        fetched, part = DATA[name]
        start, contestants = os.getloadavg()[0], models()
        asked = {"SoftmaxMF", *(given.models or contestants)}
        found = rows(part(ones(fetch(fetched).ratings)),
                     {name: each for name, each in contestants.items() if name in asked})
        found["load"] = [round(start, 1), round(os.getloadavg()[0], 1)]
        print(name, json.dumps(found["values"], indent=1), flush=True)
        result = json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else {
            "command": "python -m benchmarks.ranking", "seeds": SEEDS, "budget": BUDGET,
            "data": {}}
        result["data"][name] = found
        RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
