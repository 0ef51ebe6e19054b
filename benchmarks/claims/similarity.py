"""For ranking, the cosine of user and item is better than their dot product.

The cosine forgets how long an item's vector is, and its bias: what a model says of popularity and
of how sure it is.  Models with and without a weight on unknown cells, with and without biases.
"""

from __future__ import annotations

from copy import copy
from functools import lru_cache
from typing import Any

from benchmarks.claims.space import Between, Space, one_of
from benchmarks.claims.splits import Split, lists
from benchmarks.claims.study import Arm, Claim, Comparison, Task
from mfcore import BPR, ImplicitMF, MatrixFactorization, evaluate
from mfcore.metrics.fitted import Query

REG = {"n_factors": 16, "reg": Between(0.3, 10), "n_epochs": 10}
WEIGHT = {"unknown_weight": Between(0.01, 1, always=True)}
MODELS: dict[str, tuple[type, Space]] = {
    "ratings": (MatrixFactorization, REG | {"bias": "learned"}),
    "ratings, no bias": (MatrixFactorization, REG | {"bias": None}),
    "weighted": (MatrixFactorization, REG | WEIGHT | {"bias": "learned"}),
    "weighted, no bias": (MatrixFactorization, REG | WEIGHT | {"bias": None}),
    "ImplicitMF": (ImplicitMF, REG | WEIGHT),
    "BPR": (BPR, {"n_factors": 16, "n_epochs": one_of(20, 40), "reg": Between(0.001, 0.1),
                  "learning_rate": Between(0.02, 0.2)}),
}
MODELS["BPR, no bias"] = BPR, MODELS["BPR"][1] | {"item_bias": False}


@lru_cache(maxsize=64)          # both ways of ranking try the same settings
def fitted(model: str, settings: tuple[tuple[str, Any], ...], split: Split, seed: int) -> Any:
    """Return a fitted model."""
    return MODELS[model][0](**dict(settings), random_state=seed, n_threads=1).fit(split.train)


class ByCosine:
    """The answers of a model, ranked by the cosine of vectors alone."""

    def __init__(self, known: Any) -> None:
        self.known = known

    def scorer(self, asked: Any, query: Query, pool: Any) -> Any:
        """Return what scores users against all items."""
        return self.known.scorer(asked, query._replace(similarity="cosine"), pool)


def by_cosine(model: Any) -> Any:
    """Return the model as it is under recommend(similarity="cosine")."""
    other, known = copy(model), model.answers()
    other.answers = lambda: ByCosine(known)
    return other


def measure(task: Task) -> dict[str, float]:
    """Return NDCG@10 of a way to rank."""
    name, way = task.arm.rsplit(", ", 1)
    model = fitted(name, tuple(task.settings.items()), task.split, task.seed)
    return evaluate(by_cosine(model) if way == "cosine" else model, task.split.test,
                    metrics="ndcg@10", n_threads=1)


CLAIM = Claim(
    name="similarity", says="For ranking, cosine is better than dot product.",
    hypothesis="Only where nothing was learned of unknown cells, so that lengths and biases speak "
               "of ratings and not of choices; worse where unknown cells have a weight.",
    data=("planted", "ml-100k"), also=("movietweetings-100k", "online-retail"),
    fold=lists, measure=measure,
    arms={f"{name}, {way}": Arm(space, "ndcg@10") for name, (_, space) in MODELS.items()
          for way in ("dot", "cosine")},
    comparisons=[Comparison(f"{name}: cosine ranks better than dot", f"{name}, cosine",
                            f"{name}, dot", "ndcg@10") for name in MODELS],
    units={"ndcg@10": "0 to 1"},
    answer="No: the dot product ranks better with every model on all data. (On "
           "generated data and ML-100K BPR wanted more epochs than it got.)")
