"""Autoencoders with the settings of the papers, as they are: RMSE on the first fold of ML-100K.

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
NAMES = ("autorec_item", "autorec_user", "cfn", "deep_recommender")


def measured(name: str, train: Any, test: Any) -> dict[str, Any]:
    """Return error, epochs and time of one fit."""
    start = time.process_time()
    model = getattr(RatingAutoencoder, name)(random_state=0, n_threads=1).fit(train)
    return {"rmse": round(evaluate(model, test, metrics="rmse")["rmse"], 4),
            "epochs": len(model.history_), "cpu_seconds": round(time.process_time() - start)}


def main() -> None:
    """Measure all and write the result file."""
    data = fetch("ml-100k")
    train, test = next(iter(file_folds(data.ratings, data.file_order)))
    RESULT.write_text(json.dumps({
        "data": "ml-100k, fold u1", "command": "python -m benchmarks.published_autoencoders",
        "rows": {name: measured(name, train, test) for name in NAMES}}, indent=1) + "\n")


if __name__ == "__main__":
    main()
