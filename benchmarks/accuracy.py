"""Accuracy next to published figures, of the data that are on this machine.

    python -m benchmarks accuracy [--data NAME ...] [--seeds 1 2 3 4 5] [--out FOLDER]

Ratings: nine tenths train, a tenth tests; Gowalla: its published split, as LightGCN has it
(gowalla/train.txt and test.txt in MFCORE_DATA).  In every seed all settings of a model are
compared on a tenth of the training part, and the best is fitted again to all of it; the test
part decides nothing.  Rows on file are not measured again.  Seed 0 is left out: the grid of
settings was widened once after its test figures on MovieTweetings had been seen.

Folds u1 to u5 of ML-100K and held-out users have commands of their own, `benchmarks.bayesian`,
`.autoencoder_ratings`, `.neural_accuracy` and `.strong_generalisation`, whose files the table
reads.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from benchmarks.harness import RESULTS, write
from mfcore import BayesianMF, BiasOnly, ImplicitMF, MatrixFactorization, Ratings, evaluate, fetch
from mfcore.data.datasets import is_here
from mfcore.data.split import random_split

SEEDS = (1, 2, 3, 4, 5)
RATED = ("movietweetings-100k", "ml-1m", "ml-10m")
Settings = Sequence[dict[str, Any]]


class Protocol(NamedTuple):
    """What is split how, the metrics (the first one chooses), and models with settings."""

    split: Callable[[int], tuple[Ratings, Ratings]]
    metrics: tuple[str, ...]
    models: dict[str, tuple[type, Settings]]


FACTORIZED = [{"n_factors": k, "reg": reg} for k in (16, 64) for reg in (0.04, 0.1, 0.25, 0.6)]
RATERS: dict[str, tuple[type, Settings]] = {
    "BiasOnly": (BiasOnly, [{}]),
    "MatrixFactorization": (MatrixFactorization, FACTORIZED),
    "MatrixFactorization, SGD": (MatrixFactorization,
                                 [{"solver": "sgd", **each} for each in FACTORIZED]),
    "BayesianMF, its defaults": (BayesianMF, [{}])}
RANKERS: dict[str, tuple[type, Settings]] = {
    "ImplicitMF": (ImplicitMF, [{"n_factors": k, "unknown_weight": w0, "reg": reg}
                                for k in (64, 128) for w0 in (0.03, 0.1, 0.3)
                                for reg in (0.003, 0.01)])}


def gowalla(seed: int) -> tuple[Ratings, Ratings]:
    """Return the published split."""
    folder = Path(os.environ["MFCORE_DATA"]) / "gowalla"
    parts = []
    for name in "train", "test":
        lines = [np.array(line.split(), int) for line in
                 (folder / f"{name}.txt").read_text().splitlines()]
        users = np.concatenate([np.full(len(line) - 1, line[0]) for line in lines if len(line)])
        items = np.concatenate([line[1:] for line in lines if len(line)])
        parts.append((users, items))
    shape = tuple(max(int(part[side].max()) for part in parts) + 1 for side in (0, 1))
    train, test = (Ratings(sp.csr_array((np.ones(len(u), np.float32), (u, i)), shape=shape))
                   for u, i in parts)
    return train, test


def there() -> dict[str, Protocol]:
    """Return the protocols of the data that is here."""
    found = {}
    for name in RATED:
        if is_here(name):
            found[f"{name}, RMSE, 90/10"] = Protocol(
                lambda seed, name=name: random_split(  # type: ignore[misc]
                    fetch(name).ratings, 0.1, random_state=seed), ("rmse",), RATERS)
    if (Path(os.environ.get("MFCORE_DATA", ".")) / "gowalla" / "train.txt").exists():
        found["gowalla"] = Protocol(gowalla, ("recall@20", "ndcg@20"), RANKERS)
    return found


def measured(protocol: Protocol, name: str, seed: int) -> dict[str, Any]:
    """Return the test figures of a model whose settings were chosen on validation."""
    kind, settings = protocol.models[name]
    train, test = protocol.split(seed)
    part, validation = random_split(train, 0.1, random_state=seed + 1000)
    first, sign = protocol.metrics[0], 1 if protocol.metrics[0] == "rmse" else -1

    def figure(setting: dict[str, Any]) -> float:
        model = made(kind, setting, seed).fit(part)
        return sign * float(evaluate(model, validation, metrics=first)[first])

    best = min(settings, key=figure) if len(settings) > 1 else settings[0]
    found = evaluate(made(kind, best, seed).fit(train), test, metrics=list(protocol.metrics))
    return {"seed": seed, "setting": best,
            **{metric: round(float(found[metric]), 5) for metric in protocol.metrics}}


def made(kind: type, setting: dict[str, Any], seed: int) -> Any:
    """Return a model that is not fitted."""
    return kind(**setting, **({} if kind is BiasOnly else {"random_state": seed}))


def rows(names: Sequence[str], seeds: Sequence[int], known: list[dict[str, Any]]
         ) -> Iterator[dict[str, Any]]:
    """Yield what is not known yet."""
    on_file = {(row["protocol"], row["model"], row["seed"]) for row in known}
    for title, protocol in there().items():
        if names and title.partition(",")[0] not in names:
            continue
        for name in protocol.models:
            for seed in seeds:
                if (title, name, seed) not in on_file:
                    yield {"protocol": title, "model": name, **measured(protocol, name, seed)}


def main(arguments: list[str]) -> None:
    """Measure what is not on file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks accuracy", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    path = given.out / "accuracy.json"
    found = json.loads(path.read_text())["rows"] if path.exists() else []
    for row in rows(given.data, given.seeds, found):
        found.append(row)
        write(path, {"command": "python -m benchmarks accuracy", "rows": found})
