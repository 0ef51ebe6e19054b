"""RMSE of NeuralMF on ML-100K, folds u1 to u5, each fold tuned on a part of its training.

    python neural_accuracy.py {joint,two-stage,defaults} [--settings 16]

In each fold a tenth of the training ratings is set aside; of the drawn settings the one
with the least error there, at its best epoch, is fitted to all training ratings and measured
on the test fold.  "two-stage" starts from `MatrixFactorization` with its defaults and the same
length of vectors, which is measured too.  "defaults" draws nothing.  Writes
results/ml100k_neural.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from mfcore import MatrixFactorization, NeuralMF, evaluate, fetch
from mfcore.data import split

RESULTS = Path(__file__).parent / "results" / "ml100k_neural.json"
NETWORKS = [("concat", (32,)), ("concat", (64, 32)), ("product", ()), ("product", (32,)),
            ("gmf+mlp", (32,)), ("gmf+mlp", (64, 32))]


def drawn(random, two_stage):
    """Return one setting."""
    fusion, hidden = NETWORKS[random.integers(len(NETWORKS))]
    choices = {"n_factors": [16, 32, 64], "reg": [.01, .02, .04, .08],
               "bias_reg": [.005, .01, .02], "dropout": [0., .2, .5],
               "activation": ["relu", "tanh"], "batch_size": [256, 1024],
               "weight_decay": [0., 1e-4, 1e-3],
               "learning_rate": [1e-4, 3e-4, 1e-3] if two_stage else [1e-3, 2e-3, 4e-3],
               "decay": [0., .2]}
    setting = {name: random.choice(values).item() for name, values in choices.items()}
    more = {"freeze": bool(random.integers(2))} if two_stage else \
        {"init_scale": random.choice([.1, .3, 1.]).item()}
    return {"fusion": fusion, "hidden": hidden, **setting, **more}


def rmse(model, test):
    return float(evaluate(model, test, metrics="rmse")["rmse"])


def one_fold(number, train, test, two_stage, n_settings):
    """Return what a fold came to."""
    part, validation = split.random_split(train, 0.1, random_state=number)
    random, found = np.random.default_rng(100 + number), []

    def start(n_factors, ratings):
        return MatrixFactorization(n_factors, random_state=0).fit(ratings)

    for _ in range(n_settings):
        setting = drawn(random, two_stage)
        first = {"pretrained": start(setting["n_factors"], part)} if two_stage else {}
        model = NeuralMF(**setting, n_epochs=40, patience=2, random_state=0)
        model.fit(part, eval_set=validation, **first)
        errors = [record["rmse"] for record in model.history_]
        found.append((min(errors), int(np.argmin(errors)) + 1, setting))
    error, n_epochs, setting = min(found, key=lambda each: each[0])
    factorization = start(setting["n_factors"], train)
    model = NeuralMF(**setting, n_epochs=n_epochs, random_state=0)
    model.fit(train, **({"pretrained": factorization} if two_stage else {}))
    return {"fold": number + 1, "validation": error, "epochs": n_epochs,
            "rmse": rmse(model, test), "factorization": rmse(factorization, test),
            "setting": setting}


def by_default(number, train, test):
    """Return what a fold came to with defaults."""
    factorization = MatrixFactorization(64, random_state=0).fit(train)
    at_once = NeuralMF(random_state=0).fit(train)
    return {"fold": number + 1, "rmse": rmse(at_once, test), "epochs": at_once.n_epochs_,
            "factorization": rmse(factorization, test)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("joint", "two-stage", "defaults"))
    parser.add_argument("--settings", type=int, default=16)
    given = parser.parse_args()
    data, folds = fetch("ml-100k"), []
    for number, (train, test) in enumerate(split.file_folds(data.ratings, data.file_order)):
        folds.append(by_default(number, train, test) if given.kind == "defaults" else one_fold(
            number, train, test, given.kind == "two-stage", given.settings))
        print(folds[-1], flush=True)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results[given.kind] = {
        "command": f"python neural_accuracy.py {given.kind} --settings {given.settings}",
        "mean": float(np.mean([fold["rmse"] for fold in folds])),
        "mean of the factorizations": float(np.mean([fold["factorization"] for fold in folds])),
        "folds": folds}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
