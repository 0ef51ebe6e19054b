"""Does a heavier divergence take the parts of a code apart?  A sweep of β over MultVAE.

    python -m benchmarks.disentanglement

ML-100K, all its ratings, codes of 16 numbers, `SEEDS` fits for each β.  Of the users' codes:
independence (1 − mean |correlation|), and the mutual information gap against gender and against
age band; of the items' codes, one-hot: the gap against genres.  Each next to its mean over
permutations, where there is nothing to find.  A unit counts as used where the variance of its
mean over users is above 0.01.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from mfcore import MultVAE, fetch
from mfcore.metrics.embedding import independence, mutual_information_gap, permutation_null

RESULT = Path(__file__).parent / "results" / "disentanglement.json"
SEEDS, BETAS, USED = 3, (0.05, 0.2, 0.5, 1.0, 2.0, 4.0), 0.01


def labels(features: Any, prefix: str) -> Any:
    """Return the columns of features whose names start so, CSR."""
    return features.matrix[:, [n for n, name in enumerate(features.names)
                               if name.startswith(prefix)]]


def measured(beta: float, seed: int, data: Any) -> dict[str, Any]:
    """Return the figures of one fit, each with its mean under permutation."""
    model = MultVAE((), 16, beta=beta, anneal=200, learning_rate=0.003, batch_size=100,
                    n_epochs=60, random_state=seed, n_threads=1).fit(data.ratings)
    P, Q = model.user_embedding(), model.item_embedding()
    asked = {"independence": (independence, P, None),
             "gap, gender": (mutual_information_gap, P, labels(data.user_features, "gender=")),
             "gap, age": (mutual_information_gap, P, labels(data.user_features, "age=")),
             "gap, genre": (mutual_information_gap, Q, labels(data.item_features, "genre="))}
    found: dict[str, Any] = {"units": int((P.var(axis=0) > USED).sum())}
    for name, (measure, X, label) in asked.items():
        value = permutation_null(measure, X, label, n_permutations=20, random_state=seed)
        found[name] = [round(float(value.value), 4), round(float(value.null_mean), 4)]
    return found


def main() -> None:
    """Measure all values of β and write the result file."""
    data, rows = fetch("ml-100k"), []
    for beta in BETAS:
        runs = [measured(beta, seed, data) for seed in range(SEEDS)]
        rows.append({"beta": beta, "mean": {name: np.round(np.mean(
            [run[name] for run in runs], axis=0), 4).tolist() for name in runs[0]}, "runs": runs})
        print(rows[-1]["beta"], rows[-1]["mean"], flush=True)
    RESULT.write_text(json.dumps({"data": "ml-100k", "rows": rows,
                                  "command": "python -m benchmarks.disentanglement"},
                                 indent=1) + "\n")


if __name__ == "__main__":
    main()
