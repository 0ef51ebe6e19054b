"""Autoencoders of ratings and matrix factorization, RMSE on the five folds of ML-100K.

    python -m benchmarks.autoencoder_ratings [FOLD ...]

Every arm has the same budget, fold by fold: `DRAWS` settings drawn from its own ranges, each
trained on nine tenths of the fold's training ratings and stopped on the last tenth; the best is
trained again on all of them for as many epochs, and tested once.  The ranges come from a look at
held-out tenths of the training ratings of u1.  What the result file holds is not measured again.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mfcore import MatrixFactorization, RatingAutoencoder, Ratings, evaluate, fetch
from mfcore.data.split import file_folds, random_split

RESULT = Path(__file__).parent / "results" / "autoencoder_ratings.json"
DRAWS, EPOCHS, PATIENCE = 4, 120, 6
Draw = Callable[[np.random.Generator], dict[str, Any]]


def log_uniform(random: np.random.Generator, low: float, high: float) -> float:
    """Return a number between two, its logarithm uniform."""
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def autoencoder(**more: Any) -> Draw:
    """Return what draws settings of items' rows; `more` are values, or functions that draw."""
    def draw(random: np.random.Generator) -> dict[str, Any]:
        found = {"orientation": "item", "bias": None, "hidden": (300,), "batch_size": 128,
                 "learning_rate": log_uniform(random, 0.002, 0.006),
                 "reg": log_uniform(random, 25, 120), "decay": log_uniform(random, 0.05, 0.4)}
        for name, value in more.items():
            found[name] = value(random) if callable(value) else value
        return found

    return draw


def noisy(random: np.random.Generator) -> dict[str, Any]:
    """Return settings with one of the three kinds of noise."""
    kinds = [{"noise": "gaussian", "noise_scale": log_uniform(random, 0.2, 2)},
             {"noise": "salt", "noise_scale": float(random.uniform(0.05, 0.4))},
             {"input_dropout": float(random.uniform(0.1, 0.6))}]
    return autoencoder()(random) | kinds[random.integers(3)]


def factorization(random: np.random.Generator) -> dict[str, Any]:
    """Return settings of MatrixFactorization."""
    return {"n_factors": int(random.choice([16, 32, 64, 128])), "solver": "cg",
            "reg": 1.1 * log_uniform(random, 0.4, 2.5)}


ARMS: dict[str, tuple[type, Draw]] = {
    "matrix factorization": (MatrixFactorization, factorization),
    "item AutoRec": (RatingAutoencoder, autoencoder()),
    "user AutoRec": (RatingAutoencoder, autoencoder(
        orientation="user", bias="mean", reg=lambda random: log_uniform(random, 10, 100))),
    "masked": (RatingAutoencoder, autoencoder(
        mask=lambda random: float(random.uniform(0.1, 0.6)),
        mask_weights=lambda random: (1.0, float(random.choice([0.3, 1.0]))))),
    "denoising": (RatingAutoencoder, noisy),
    "re-fed": (RatingAutoencoder, autoencoder(
        refeed=1, refeed_rate=lambda random: log_uniform(random, 1e-5, 1e-3))),
    "contractive": (RatingAutoencoder, autoencoder(
        contractive=lambda random: log_uniform(random, 0.003, 0.3))),
}


def tuned(made: type, draw: Draw, train: Ratings, seed: int) -> dict[str, Any]:
    """Return the best of the drawn settings, with its number of epochs."""
    part, held = random_split(train, 0.1, random_state=seed)
    random, found = np.random.default_rng([seed, 1]), []
    for _ in range(DRAWS):
        params = draw(random)
        model = made(**params, n_epochs=EPOCHS, patience=PATIENCE, random_state=seed,
                     n_threads=1).fit(part, eval_set=held)
        errors = [record["rmse"] for record in model.history_]
        found.append((min(errors), int(np.argmin(errors)) + 1, params))
    error, n_epochs, params = min(found, key=lambda each: each[0])
    return {"validation": round(error, 4), "params": params | {"n_epochs": n_epochs}}


def main() -> None:
    """Measure the asked folds (1 to 5) and add them to the result file."""
    data = fetch("ml-100k")
    asked = [int(each) for each in sys.argv[1:]] or [1, 2, 3, 4, 5]
    for fold, (train, test) in enumerate(file_folds(data.ratings, data.file_order), 1):
        for name in ARMS if fold in asked else ():
            if f"u{fold}" not in kept()["arms"].get(name, {"folds": {}})["folds"]:
                found = measured(name, fold, train, test)
                print(fold, name, found, flush=True)
                keep(name, f"u{fold}", found)


def measured(name: str, fold: int, train: Ratings, test: Ratings) -> dict[str, Any]:
    """Return the figures of an arm on a fold, and the settings chosen."""
    (made, draw), start = ARMS[name], time.process_time()
    best = tuned(made, draw, train, fold)
    model = made(**best["params"], random_state=fold, n_threads=1).fit(train)
    return best | {"test": round(evaluate(model, test, metrics="rmse")["rmse"], 4),
                   "train": round(evaluate(model, train, metrics="rmse")["rmse"], 4),
                   "cpu_seconds": round(time.process_time() - start)}


def kept() -> dict[str, Any]:
    """Return what the result file holds."""
    return json.loads(RESULT.read_text()) if RESULT.exists() else {
        "data": "ml-100k, folds u1 to u5", "command": "python -m benchmarks.autoencoder_ratings",
        "budget": f"{DRAWS} settings an arm and fold, at most {EPOCHS} epochs", "arms": {}}


def keep(name: str, fold: str, found: dict[str, Any]) -> None:
    """Add a fold to the result file, and the means of arms that have all."""
    result = kept()
    arm = result["arms"].setdefault(name, {"mean": None, "folds": {}})
    arm["folds"][fold] = found
    if len(arm["folds"]) == 5:
        arm["mean"] = round(float(np.mean([each["test"] for each in arm["folds"].values()])), 4)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
