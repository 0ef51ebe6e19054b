"""How long networks are trained: defaults, the stopped state, and the epochs of before.

    MFCORE_DATA=folder python -m benchmarks.epochs [--data NAME ...] [--models NAME ...]

A tenth of the cells is the test part, looked at once for each line.  In each line: the figure of
`BiasOnly` (RMSE, of stars) or `Popularity` (NDCG@10, of likes); of the network with its defaults,
which finds its epochs on a tenth of the rest and is fitted to all of it (`refit=True`); of the
stopped state (`refit=False`); and with the number of epochs that was the default before.  CPU
seconds are those of each fit, on one thread.  Steps are those of the epochs found.

Data: MovieTweetings (0 to 10, sparse; its 10K part also as likes), Online Retail (binary, a fifth
of the customers) and generated stars and likes (`benchmarks/generated.py`) of different size and
density.  Writes results/epochs.json, a line at a time.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp

from benchmarks.generated import chosen, generated
from benchmarks.harness import RESULTS
from benchmarks.tables import read
from mfcore import (
    BiasOnly,
    MultDAE,
    MultVAE,
    NeuralMF,
    Popularity,
    RatingAutoencoder,
    Ratings,
    RecVAE,
    fetch,
)
from mfcore.data.split import random_split
from mfcore.data.synthetic import planted

RESULT = RESULTS / "epochs.json"


def likes(ratings: Any) -> Ratings:
    """Return 1 for each stored cell."""
    X = sp.csr_array(getattr(ratings, "by_user", ratings))
    return Ratings(sp.csr_array((np.ones(X.nnz), X.indices, X.indptr), shape=X.shape))


def retail() -> Ratings:
    """Return a fifth of the customers, drawn, and the items that they bought."""
    whole = fetch("online-retail").ratings
    rows = np.sort(np.random.default_rng(0).permutation(whole.shape[0])[:whole.shape[0] // 5])
    X = likes(whole.select_users(rows)).by_user
    return likes(sp.csr_array(X[:, np.diff(X.tocsc().indptr) > 0]))


STARS: dict[str, Callable[[], Ratings]] = {
    "MovieTweetings 10K": lambda: fetch("movietweetings-10k").ratings,
    "MovieTweetings 100K": lambda: fetch("movietweetings-100k").ratings,
    "planted, 600 × 300, a third": lambda: planted().ratings,
    "stars, 1000 × 500, 15 %": lambda: Ratings(generated(1000, 500, 100_000)),
    "stars, 20000 × 1000, 1 %": lambda: Ratings(generated(20_000, 1000, 200_000, 2)),
}
LIKES: dict[str, Callable[[], Ratings]] = {
    "MovieTweetings 10K": lambda: likes(fetch("movietweetings-10k").ratings),
    "Online Retail, a fifth": retail,
    "likes, 1000 × 800, 4 %": lambda: likes(chosen(1000, 800, 30_000, 3)),
    "likes, 12000 × 600, 3 %": lambda: likes(chosen(12_000, 600, 200_000, 4)),
}
MODELS: dict[str, tuple[Callable[..., Any], int]] = {
    "NeuralMF": (NeuralMF, 8),
    "RatingAutoencoder": (RatingAutoencoder, 100),
    "autorec_item": (RatingAutoencoder.autorec_item, 200),
    "MultDAE": (MultDAE, 100),
    "MultVAE": (MultVAE, 100),
    "RecVAE": (RecVAE, 50),
    "NeuralMF, logistic": (lambda **params: NeuralMF(loss="logistic", **params), 8),
}


def fitted(make: Callable[..., Any], train: Ratings, test: Ratings, **params: Any
           ) -> tuple[Any, dict[str, float]]:
    """Return a fitted model, and its figure on test data, epochs and CPU seconds."""
    model, start = make(random_state=0, n_threads=1, **params), time.process_time()
    model.fit(train)
    seconds = time.process_time() - start
    return model, {"figure": round(-model.score(test) if model.predicts_ratings else
                                   model.score(test), 4),
                   "epochs": model.n_epochs_, "seconds": round(seconds, 1)}


def line(name: str, ratings: Ratings) -> dict[str, Any]:
    """Return what is measured of a model on data."""
    make, before = MODELS[name]
    train, test = random_split(ratings, 0.1, 1, keep=1)
    model, found = fitted(make, train, test)
    simple = (BiasOnly() if model.predicts_ratings else Popularity()).fit(train)
    return {"users": ratings.shape[0], "items": ratings.shape[1], "cells": ratings.nnz,
            "simple": round(abs(simple.score(test)), 4),
            "default": {**found, "steps": model.n_epochs_ * model.n_steps(train)},
            "stopped": fitted(make, train, test, refit=False)[1],
            "before": fitted(make, train, test, n_epochs=before)[1]}


def epochs() -> str:
    """Return the results as a table in Markdown."""
    head = ["network, data", "users × items, cells", "biases or popularity", "default",
            "epochs (steps)", "CPU s", "stopped", "CPU s", "epochs before", "figure", "CPU s"]
    lines = [head, ["---"] * len(head)]
    for name, row in read("epochs").items():
        found, stopped, before = row["default"], row["stopped"], row["before"]
        lines.append([name, f"{row['users']:,} × {row['items']:,}, {row['cells']:,}",
                      f"{row['simple']:.4f}", f"{found['figure']:.4f}",
                      f"{found['epochs']} ({found['steps']})", f"{found['seconds']:.1f}",
                      f"{stopped['figure']:.4f}", f"{stopped['seconds']:.1f}",
                      str(before["epochs"]), f"{before['figure']:.4f}",
                      f"{before['seconds']:.1f}"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Measure the lines that are asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", nargs="*", default=[*STARS, *LIKES])
    parser.add_argument("--models", nargs="*", default=[*MODELS])
    given = parser.parse_args()
    for name in given.models:
        rated = name in ("NeuralMF", "RatingAutoencoder", "autorec_item")
        for data, make in (STARS if rated else LIKES).items():
            if data in given.data:
                rows = json.loads(RESULT.read_text()) if RESULT.exists() else {}
                rows[f"{name}: {data}"] = line(name, make())
                RESULT.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
                print(name, data, rows[f"{name}: {data}"], flush=True)


if __name__ == "__main__":
    main()
