"""A group's vector should be learned, not averaged over its members.

Users whom the fit has not seen, known by their groups and 0 to 10 ratings; ratings are
predicted and items ranked.  The control are groups permuted among users: what a model gains by
them is no knowledge.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.claims.space import Between
from benchmarks.claims.splits import Split, data_of
from benchmarks.claims.study import Arm, Claim, Comparison, Fold, Task
from benchmarks.cold_start import folds, hidden_users
from mfcore import ImplicitMF, MatrixFactorization, evaluate
from mfcore.data.dataset import Dataset

TRIED = (0, 1, 5)           # ratings folded in where settings are chosen; all of FOLDED in the end
MODELS: dict[str, tuple[type, str, dict[str, Any]]] = {
    "ratings": (MatrixFactorization, "rmse", {"n_factors": 16, "n_epochs": 10}),
    "choices": (ImplicitMF, "ndcg@10", {"n_factors": 16, "n_epochs": 10,
                                        "unknown_weight": Between(0.05, 1)}),
}
SPACES = {"none": {}, "learned": {"feature_reg": Between(10, 30_000)},
          "average": {"features": "average", "feature_reg": Between(10, 30_000)},
          "permuted": {"feature_reg": Between(10, 30_000)}}


def fold(name: str, number: int, quick: bool) -> Fold:
    """Hide a fifth of the users, and to choose settings a fifth of the others."""
    data = data_of(name, number, quick)
    train, test = hidden_users(data.ratings.shape[0], number)
    part, valid = (train[rows] for rows in hidden_users(len(train), number + 100))
    return Fold(split_of(data, part, valid), split_of(data, train, test))


def split_of(data: Dataset, train: np.ndarray, test: np.ndarray) -> Split:
    """Return the split of those users, their features and permuted ones."""
    features = data.user_features
    order = np.random.default_rng(len(train)).permutation(features.shape[0])
    return Split(data.ratings.select_users(train), data.ratings.select_users(test), data, more={
        name: (chosen.select(train), chosen.select(test)) for name, chosen in
        (("true", features), ("permuted", features.select(order)))})


def measure(task: Task) -> dict[str, float]:
    """Return the figure by ratings folded in, and its mean."""
    kind, groups = task.arm.split(", ")
    made, metric, _ = MODELS[kind]
    features = task.split.more["permuted" if groups == "permuted" else "true"]
    known, given = ({}, {}) if groups == "none" else ({"user_features": each} for each in features)
    model = made(**task.settings, random_state=task.seed, n_threads=1)
    model.fit(task.split.train, **known)
    found = {}
    for n, rows, rest in folds(task.split.test, task.seed):
        if task.final or n in TRIED:
            shown = {"fold_in": rows} if n or not given else {}
            found[f"{metric}, {n} known"] = evaluate(model, rest, metrics=metric, n_threads=1,
                                                     **given, **shown)[metric]
    return found | {metric: float(np.mean(list(found.values())))}


CLAIM = Claim(
    name="groups", says="Learned group vectors are better than averaged ones.",
    hypothesis="The same up to shrinkage: at a stationary point a group's vector is the shrunken "
               "mean of its members' vectors. Learned, members are drawn to it in turn.",
    data=("planted", "ml-100k"), fold=fold, measure=measure,
    arms={f"{kind}, {name}": Arm(base | {"reg": Between(0.5, 10)} | space, metric)
          for kind, (_, metric, base) in MODELS.items() for name, space in SPACES.items()},
    comparisons=[
        *(Comparison(f"{kind}: learned groups beat averaged ones", f"{kind}, learned",
                     f"{kind}, average", metric) for kind, (_, metric, _) in MODELS.items()),
        *(Comparison(f"{kind}: learned groups beat averaged ones, {n} ratings known",
                     f"{kind}, learned", f"{kind}, average", f"{metric}, {n} known", decides=False)
          for kind, (_, metric, _) in MODELS.items() for n in (0, 1, 10)),
        *(Comparison(f"{kind}: groups help", f"{kind}, learned", f"{kind}, none", metric,
                     decides=False) for kind, (_, metric, _) in MODELS.items()),
        *(Comparison(f"{kind}: {says} (control)", f"{kind}, {first}", f"{kind}, {second}", metric,
                     decides=False) for kind, (_, metric, _) in MODELS.items()
          for says, first, second in (("permuted groups help", "permuted", "none"),
                                      ("true groups beat permuted ones", "learned", "permuted")))],
    units={"rmse": "stars", "ndcg@10": "0 to 1"},
    answer="No: no difference is shown for ratings, and for choices on ML-100K the average is "
           "ahead: a learned group vector is the shrunken average of its members.",
    found="On generated data learned groups are better for ratings where none is known. For "
          "choices on ML-100K the average is ahead where one item is known. Permuted groups "
          "seem to help rank new users, since without any group such a user has no vector: true "
          "groups must be held against permuted ones, which they beat on all data.")
