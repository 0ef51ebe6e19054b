"""Figures of this library between those of others, protocol by protocol."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness import RESULTS
from benchmarks.tables import Table, read


class Figure(NamedTuple):
    """A model's figure under a protocol: its spread over seeds or folds, where it is from."""

    protocol: str
    model: str
    value: float
    spread: str
    source: str


def by_folds(folder: Path) -> Iterator[tuple[str, list[float]]]:
    """Yield each model's test RMSE on the five folds of ML-100K."""
    for name in "ml100k_rmse", "ml100k_bayesian":
        for row in read(name, folder).get("rows", ()):
            if row["name"] not in ("ALS", "SGD"):       # the defaults, which come twice
                yield row["name"], row["folds"]
    for name, arm in read("autoencoder_ratings", folder).get("arms", {}).items():
        if name != "matrix factorization":
            yield f"autoencoder: {name}", [arm["folds"][f"u{n}"]["test"] for n in range(1, 6)]
    neural = read("ml100k_neural", folder)
    for name in "joint", "two-stage":
        if name in neural:
            yield f"NeuralMF, {name}", [fold["rmse"] for fold in neural[name]["folds"]]


def ours(folder: Path = RESULTS) -> Iterator[Figure]:
    """Yield the figures of this library."""
    for name, folds in by_folds(folder):
        yield Figure("ml-100k, RMSE, mean of u1 to u5", name, float(np.mean(folds)),
                     f"folds {min(folds):.4f} to {max(folds):.4f}", "here")
        yield Figure("ml-100k, RMSE, u1", name, folds[0], "", "here")
    for data, part in read("strong_generalisation", folder).get("data", {}).items():
        for name, row in part["models"].items():
            tried = f"{row['settings']} setting" + "s" * (row["settings"] > 1)
            yield Figure(f"{data}, NDCG@100, held-out users", f"{name}, best of {tried}",
                         row["ndcg@100"]["mean"], f"± {row['ndcg@100']['sd']:.4f}, "
                         f"{len(row['seeds'])} seeds", "here")
    yield from seeded(read("accuracy", folder).get("rows", []))


def seeded(rows: Sequence[dict[str, Any]]) -> Iterator[Figure]:
    """Yield means over seeds of what `benchmarks accuracy` measured."""
    labels = {"rmse": "", "recall@20": ", Recall@20", "ndcg@20": ", NDCG@20"}
    for protocol, model in dict.fromkeys((row["protocol"], row["model"]) for row in rows):
        same = [row for row in rows if (row["protocol"], row["model"]) == (protocol, model)]
        for metric in labels.keys() & same[0].keys():
            values = [row[metric] for row in same]
            yield Figure(protocol + labels[metric], model, float(np.mean(values)),
                         f"± {np.std(values, ddof=1):.4f}, {len(values)} seeds"
                         if len(values) > 1 else "1 seed", "here")


def published() -> Iterator[Figure]:
    """Yield the figures of others."""
    for row in json.loads(Path(__file__).with_name("published.json").read_text())[1:]:
        yield Figure(row["protocol"], row["model"], row["value"], "",
                     f"{row['source']} [{row['tag']}]")


def figures(folder: Path = RESULTS) -> list[Figure]:
    """Return figures of all protocols under which something is measured here, the best first."""
    mine = list(dict.fromkeys(ours(folder)))
    known = dict.fromkeys(each.protocol for each in mine)
    found = [*mine, *(each for each in published() if each.protocol in known)]
    return [each for protocol in known for each in sorted(
        (each for each in found if each.protocol == protocol),
        key=lambda each: each.value if "RMSE" in protocol else -each.value)]


def accuracy(folder: Path = RESULTS) -> Table:
    """Return figures of this library between those of others."""
    return Table(["data and protocol", "model", "figure", "spread", "source"],
                 [[each.protocol, each.model, f"{each.value:.4f}", each.spread, each.source]
                  for each in figures(folder)])


def unmeasured(folder: Path = RESULTS) -> Table:
    """Return published figures whose data is not here."""
    known = {each.protocol for each in ours(folder)}
    return Table(["data and protocol", "model", "figure", "source"],
                 [[each.protocol, each.model, f"{each.value:.4f}", each.source]
                  for each in published() if each.protocol not in known])
