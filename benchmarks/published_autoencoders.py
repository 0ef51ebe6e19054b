"""Autoencoders with the settings of the papers and fixed epochs: RMSE on fold u1 of ML-100K.

    python -m benchmarks.published_autoencoders

The papers chose them for data ten and a thousand times as large.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from mfcore import RatingAutoencoder, evaluate, fetch
from mfcore.data.split import file_folds

RESULT = Path(__file__).parent / "results" / "published_autoencoders.json"
EPOCHS = {"autorec_item": 200, "autorec_user": 200, "cfn": 100, "deep_recommender": 100}


def measured(name: str, train: Any, test: Any) -> dict[str, Any]:
    """Return error, epochs and time of one fit."""
    start = time.process_time()
    make = getattr(RatingAutoencoder, name)
    model = make(n_epochs=EPOCHS[name], random_state=0, n_threads=1).fit(train)
    return {"rmse": round(evaluate(model, test, metrics="rmse")["rmse"], 4),
            "epochs": len(model.history_), "cpu_seconds": round(time.process_time() - start)}


def main() -> None:
    """Measure all and write the result file."""
    data = fetch("ml-100k")
    train, test = next(iter(file_folds(data.ratings, data.file_order)))
    RESULT.write_text(json.dumps({
        "data": "ml-100k, fold u1", "command": "python -m benchmarks.published_autoencoders",
        "rows": {name: measured(name, train, test) for name in EPOCHS}}, indent=1) + "\n")


if __name__ == "__main__":
    main()
