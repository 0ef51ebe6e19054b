"""What masking does to an autoencoder of ratings, and what dense re-feeding does.

    python -m benchmarks.autoencoder_ablations

ML-100K, a tenth of the ratings held out, `SEEDS` times over; the best of `EPOCHS` epochs by the
held-out RMSE, which compares arms and is no test figure.

Masking: share hidden × weights (α of hidden, β of visible cells), items' rows, one layer of 300.
The mean diagonal of the Jacobian, ∂f_i/∂t_i over known cells, says how much of a cell's
completion is the cell itself.

Re-feeding: with and without, × learning rate × depth, users' rows, at equal numbers of steps
(an epoch with re-feeding takes two steps a batch, so there are half as many).  Beside the RMSE:
the effective rank of the codes, and the root mean square of f(f(x)) − f(x) relative to that of
f(x) around its mean.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from mfcore import RatingAutoencoder, Ratings, evaluate, fetch
from mfcore.data.split import random_split
from mfcore.metrics.embedding import effective_rank
from mfcore.models.autoencoders.corrupted import completed, on_blocks
from mfcore.models.autoencoders.network import corrupted
from mfcore.parallel import Pool

RESULT = Path(__file__).parent / "results" / "autoencoder_ablations.json"
SEEDS, EPOCHS = 5, 60
MASKS = [(0.0, 1.0, 1.0), *((share, 1.0, beta) for share in (0.2, 0.5)
                            for beta in (1.0, 0.3, 0.0))]
FED = [(refeed, rate, hidden) for hidden in ((128,), (128, 64, 32))
       for rate in (1e-3, 5e-3) for refeed in (0, 1)]


def masked(share: float, alpha: float, beta: float) -> dict[str, Any]:
    """Return settings of the arm of a mask."""
    return {"hidden": (300,), "orientation": "item", "bias": None, "reg": 40.0, "decay": 0.2,
            "learning_rate": 0.003, "batch_size": 128, "mask": share,
            "mask_weights": (alpha, beta), "n_epochs": EPOCHS}


def fed(refeed: int, rate: float, hidden: tuple[int, ...]) -> dict[str, Any]:
    """Return settings of the arm of a re-feeding."""
    return {"hidden": hidden, "bias": None, "activation": "selu", "optimizer": "momentum",
            "learning_rate": rate, "reg": 10.0, "batch_size": 64, "decay": 0.0,
            "refeed": refeed, "n_epochs": EPOCHS // (1 + refeed)}


def best_of(params: dict[str, Any], seed: int, train: Ratings, held: Ratings
            ) -> RatingAutoencoder:
    """Return the model of the best epoch."""
    return RatingAutoencoder(**params, patience=params["n_epochs"], random_state=seed,
                             n_threads=1).fit(train, eval_set=held)


def diagonal(model: RatingAutoencoder) -> float:
    """Return the mean of ∂f_i/∂t_i over known cells, of one hidden layer of sigmoids."""
    network, t = model.learned(), corrupted(model, model.ratings_).t
    h, first = network.encode(t, Pool(1)), network.encoder.layers[1]
    J = (h * (1 - h)) @ (network.head.W.value * first.W.value).T
    known = t.copy()
    known.data[:] = 1
    return float((known.multiply(J)).sum() / t.nnz)


def fixed_point(model: RatingAutoencoder) -> tuple[float, float]:
    """Return the relative distance of f(f(x)) from f(x), and the effective rank of codes."""
    network, pool = model.learned(), Pool(1)
    y = completed(network, corrupted(model, model.ratings_).t, pool)
    again = completed(on_blocks(network), y, pool)
    gap = np.sqrt(np.mean((again - y) ** 2) / np.mean((y - y.mean(axis=0)) ** 2))
    return float(gap), effective_rank(model.user_factors_)


def measured(params: dict[str, Any], ratings: Ratings) -> dict[str, Any]:
    """Return figures of an arm, a list over seeds each."""
    found: dict[str, list[float]] = {}
    for seed in range(SEEDS):
        train, held = random_split(ratings, 0.1, random_state=seed)
        try:
            model = best_of(params, seed, train, held)
        except FloatingPointError as error:
            return {"diverged": str(error)}
        row = {"held_out_rmse": evaluate(model, held, metrics="rmse")["rmse"],
               "train_rmse": evaluate(model, train, metrics="rmse")["rmse"],
               "best_epoch": float(np.argmin([r["rmse"] for r in model.history_]) + 1)}
        if params.get("orientation") == "item":
            row["jacobian_diagonal"] = diagonal(model)
        else:
            row["fixed_point_gap"], row["code_rank"] = fixed_point(model)
        for name, value in row.items():
            found.setdefault(name, []).append(round(value, 4))
    return found


def main() -> None:
    """Measure all arms and write the result file."""
    ratings, result = fetch("ml-100k").ratings, {
        "data": "ml-100k, a tenth held out",
        "command": "python -m benchmarks.autoencoder_ablations",
        "masking": [], "refeeding": []}
    for kind, arms, settings in (("masking", MASKS, masked), ("refeeding", FED, fed)):
        for arm in arms:
            row = {"arm": arm, **measured(settings(*arm), ratings)}
            print(kind, row, flush=True)
            result[kind].append(row)
            RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
