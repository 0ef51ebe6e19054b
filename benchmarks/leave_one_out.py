"""The latest item of each user held out: networks, least squares and pairs at equal budgets.

    python -m benchmarks.leave_one_out

ML-100K, every rating a choice.  Of each user the latest cell is for testing and the one before it
for validation.  Of each model but `Popularity`, 12 settings are drawn from the ranges below,
stopped and compared by NDCG@10 on the validation cells among all items that the user has not
chosen before; the best is trained on all but the test cells, as many epochs as it had then, from
five seeds, and tested in the same way.  What the result file holds is not measured again.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore import BPR, ImplicitMF, NeuralMF, Popularity, Ratings, evaluate, fetch
from mfcore.data.split import leave_last_out

RESULT = Path(__file__).parent / "results" / "leave_one_out.json"
SETTINGS, SEEDS, METRIC = 12, 5, "ndcg@10"
WATCHED = {"patience": 5, "n_epochs": 80, "eval_metric": METRIC, "n_threads": 1}
# A list is drawn from evenly, a pair of bounds evenly in logarithms.
RANGES: dict[str, tuple[type, dict[str, list[Any] | tuple[float, float]]]] = {
    "Popularity": (Popularity, {}),
    "BPR": (BPR, {
        "n_factors": [16, 32, 64, 128], "reg": (1e-3, 1e-1), "bias_reg": (1e-4, 1e-1),
        "learning_rate": (0.02, 0.3), "decay": [0.0, 0.05, 0.2], "init_scale": [0.1, 1.0],
        "sampling": ["uniform", "adaptive"]}),
    "ImplicitMF": (ImplicitMF, {
        "n_factors": [16, 32, 64, 128], "reg": (1.0, 100.0), "reg_scaling": [0.0, 0.25, 0.5],
        "unknown_weight": (0.03, 1.0), "init_scale": [0.1, 1.0]}),
    "NeuralMF": (NeuralMF, {
        "fusion": ["gmf+mlp", "concat", "product"], "hidden": [(32,), (64, 32)],
        "n_factors": [16, 32, 64], "reg": (1e-4, 3e-2), "bias_reg": (1e-4, 3e-2),
        "learning_rate": (5e-4, 5e-3), "dropout": [0.0, 0.2, 0.5], "n_negatives": [4, 8],
        "init_scale": [0.1, 0.3, 1.0]}),
}
FIXED = {"NeuralMF": {"loss": "logistic"}}


def choices() -> list[Ratings]:
    """Return all but the test cells, the test cells, and the first parted again."""
    data = fetch("ml-100k")
    cells = data.ratings.by_user
    moments = sp.csr_array((data.timestamps, cells.indices, cells.indptr), shape=cells.shape)
    known, test = leave_last_out(moments, moments.data)
    train, validation = leave_last_out(known, known.by_user.data)
    return [Ratings(part.by_user > 0) for part in (known, test, train, validation)]


def drawn(name: str, number: int) -> dict[str, Any]:
    """Return one setting."""
    random = np.random.default_rng([number, len(name)])
    setting: dict[str, Any] = {}
    for key, values in RANGES[name][1].items():
        setting[key] = values[random.integers(len(values))] if isinstance(values, list) else \
            float(f"{np.exp(random.uniform(*np.log(values))):.3g}")
    return setting


def made(name: str, **params: Any) -> Any:
    """Return a model, not fitted; parameters that it does not have are left out."""
    model = RANGES[name][0](**FIXED.get(name, {}))
    return model.set_params(**{key: params[key] for key in params if key in model.get_params()})


def tried(name: str, number: int, train: Ratings, validation: Ratings) -> dict[str, Any]:
    """Return a setting, its best figure on the validation cells, and after how many epochs."""
    start, setting = time.process_time(), drawn(name, number)
    model = made(name, random_state=0, **WATCHED, **setting)
    model.fit(train, eval_set=validation)
    figures = [record[METRIC] for record in model.history_]
    return {"setting": setting, "validation": max(figures),
            "epochs": int(np.argmax(figures)) + 1,
            "cpu_seconds": round(time.process_time() - start, 1)}


def tested(name: str, best: dict[str, Any], known: Ratings, test: Ratings) -> dict[str, Any]:
    """Return the test figures of the best setting, one a seed."""
    found = []
    for seed in range(SEEDS if RANGES[name][1] else 1):
        model = made(name, random_state=seed, n_threads=1, n_epochs=best.get("epochs"),
                     **best.get("setting", {}))
        found.append(evaluate(model.fit(known), test, metrics=METRIC)[METRIC])
    return {"mean": round(float(np.mean(found)), 4), "seeds": found,
            "sd": round(float(np.std(found, ddof=1)), 4) if len(found) > 1 else None}


def kept() -> dict[str, Any]:
    """Return what the result file holds."""
    result: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {
        "command": "python -m benchmarks.leave_one_out", "models": {}}
    return result


def keep(name: str, row: dict[str, Any]) -> None:
    """Write what is known of a model into the result file."""
    result = kept()
    result["models"][name] = row
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(name, json.dumps(row)[-300:], flush=True)


def main() -> None:
    """Try all settings of all models, one of each in turn, and test the best."""
    known, test, train, validation = choices()
    for number in range(SETTINGS):
        for name in [name for name, (_, ranges) in RANGES.items() if ranges]:
            row = kept()["models"].get(name, {"tried": []})
            if len(row["tried"]) == number:
                keep(name, {"tried": [*row["tried"], tried(name, number, train, validation)]})
    for name in RANGES:
        row = kept()["models"].get(name, {"tried": []})
        if "mean" not in row:
            best = max(row["tried"], key=lambda each: each["validation"], default={})
            keep(name, {**tested(name, best, known, test), "best": best, **row})


if __name__ == "__main__":
    main()
