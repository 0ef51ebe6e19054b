"""Hiding part of the input is the key to autoencoders.

Rated cells hidden from the input of an autoencoder of items' rows, the loss on hidden and visible
cells weighted by (α, β); and whole choices dropped out in the closed form of a linear autoencoder,
EASE, whose dropout is EDLAE.  The mean diagonal of the Jacobian, ∂f_i/∂t_i over known cells, says
how much of a cell's completion is the cell itself.
"""

from __future__ import annotations

from benchmarks.autoencoder_ablations import diagonal
from benchmarks.claims.space import Between, Space, one_of
from benchmarks.claims.splits import cells, users
from benchmarks.claims.study import Arm, Claim, Comparison, Fold, Task
from mfcore import EASE, RatingAutoencoder, evaluate

BASE = {"hidden": (50,), "orientation": "item", "bias": one_of("mean", None),
        "n_epochs": one_of(10, 20, 40), "batch_size": 32, "decay": 0.2,
        "learning_rate": Between(0.002, 0.02), "reg": Between(5, 80)}
SHARE = Between(0.05, 0.7, log=False, always=True)
NONE, FULL, PART, HIDDEN, LINEAR, DROPPED = (
    "nothing hidden", "hidden and visible alike", "visible weigh less", "hidden alone count",
    "linear", "linear, dropout")
SPACES: dict[str, Space] = {
    NONE: BASE, FULL: BASE | {"mask": SHARE},
    PART: BASE | {"mask": SHARE, "mask_weights": one_of((1.0, 0.3), (1.0, 0.6), always=True)},
    HIDDEN: BASE | {"mask": SHARE, "mask_weights": (1.0, 0.0)},
    LINEAR: {"reg": Between(5, 1000)}, DROPPED: {"reg": Between(5, 1000), "dropout": SHARE},
}


def fold(name: str, number: int, quick: bool) -> Fold:
    """Return a fold of ratings, and one of users."""
    rated, chosen = cells(name, number, quick), users(name, number, quick)
    for one, other in zip(rated, chosen, strict=True):
        one.more["users"] = other
    return rated


def measure(task: Task) -> dict[str, float]:
    """Return RMSE and the diagonal, or for linear models NDCG@100 of new users."""
    if task.arm in (LINEAR, DROPPED):
        split = task.split.more["users"]
        model = EASE(**task.settings, n_threads=1).fit(split.train)
        return evaluate(model, split.test, fold_in=split.fold_in, metrics="ndcg@100", n_threads=1)
    network = RatingAutoencoder(**task.settings, random_state=task.seed, n_threads=1)
    network.fit(task.split.train)
    found = evaluate(network, task.split.test, metrics="rmse", n_threads=1)
    return found | ({"diagonal": diagonal(network)} if task.final else {})


CLAIM = Claim(
    name="masking", says="Hiding part of the input is the key to autoencoders.",
    hypothesis="It helps a little where visible cells keep their weight, and harms where hidden "
               "cells alone count; it always makes a network copy less.",
    data=("planted", "ml-100k"), also=("movietweetings-100k/core",),
    fold=fold, measure=measure,
    arms={name: Arm(space, "ndcg@100" if name in (LINEAR, DROPPED) else "rmse")
          for name, space in SPACES.items()},
    comparisons=[
        Comparison("hiding helps, hidden and visible weighing alike", FULL, NONE, "rmse"),
        Comparison("hiding helps, visible cells weighing less", PART, NONE, "rmse"),
        Comparison("hiding helps, hidden cells alone counting", HIDDEN, NONE, "rmse"),
        Comparison("dropout helps a linear autoencoder rank", DROPPED, LINEAR, "ndcg@100"),
        *(Comparison(f"a network copies less: {name}", name, NONE, "diagonal", decides=False,
                     lower=True) for name in (FULL, PART, HIDDEN))],
    units={"rmse": "stars", "ndcg@100": "0 to 1", "diagonal": "∂f/∂t"},
    answer="No: counting hidden cells alone is worse, shown on generated data, and nothing else "
           "is shown to help; in a linear autoencoder leaving cells out changes nothing.",
    found="On generated data and on ML-100K most searches ended at the highest number of "
          "epochs. With visible cells counting too, hiding makes little difference there on "
          "ML-100K and is behind on generated data, though a network then copies less. On "
          "MovieTweetings networks keep nearly the biases alone, whatever is hidden.")
