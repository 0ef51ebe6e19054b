"""Measure folding without and with a weight on unknown cells, and the measure against truth.

    python benchmarks/folding.py planted-audiences 5
    python benchmarks/folding.py ml-100k+online-retail 3

writes one JSON line a split.  The weight and `reg` are those of best NDCG@10 on a
validation part of the training ratings; the test part and the groups decide nothing.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from itertools import product
from typing import Any

from scipy.stats import spearmanr

from mfcore import MatrixFactorization, evaluate, fetch
from mfcore.cli.demo import WITHIN, within_audiences
from mfcore.data import split
from mfcore.data.dataset import Dataset
from mfcore.data.glue import glue

WEIGHTS = (0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1)
REGS = (0.3, 0.6, 1.2)
TRUTH, MEASURES = "cross_group_rate@10", ("folding@10", "spurious_rate@10")
METRICS = ["rmse", "ndcg@10", TRUTH, *MEASURES]


def measured(data: Dataset, seed: int, n_factors: int) -> dict[str, Any]:
    """Choose, fit and measure on one split."""
    groups = data.user_groups, data.item_groups
    train, test = split.per_user_split(data.ratings, 0.2, random_state=seed)
    part, valid = split.random_split(train, 0.2, random_state=seed + 1)

    def model(weight: float, reg: float) -> MatrixFactorization:
        return MatrixFactorization(n_factors, reg=reg, unknown_weight=weight, random_state=seed)

    def validation(setting: tuple[float, float]) -> float:
        return evaluate(model(*setting).fit(part), valid, metrics="ndcg@10")["ndcg@10"]

    best, reg = max(product(WEIGHTS, REGS), key=validation)
    rows = {}
    for weight in WEIGHTS:
        fitted = model(weight, reg).fit(train)
        rows[weight] = {**evaluate(fitted, test, metrics=METRICS, groups=groups),
                        WITHIN: within_audiences(fitted, test, groups, Namespace(threads=None))}
    truth = [row[TRUTH] for row in rows.values()]
    agreement = {name: float(spearmanr(truth, [row[name] for row in rows.values()]).statistic)
                 for name in MEASURES}
    return {"seed": seed, "weight": best, "reg": reg, "none": rows[0], "chosen": rows[best],
            "rank correlation": agreement}


if __name__ == "__main__":
    name, splits = sys.argv[1], int(sys.argv[2])
    found = fetch(name) if "+" not in name else glue(*map(fetch, name.split("+")))
    for number in range(splits):
        sys.stdout.write(json.dumps(measured(found, number, 32 if "+" in name else 16)) + "\n")
