"""Contractive and denoising autoencoders give better codes.

Codes of items: hidden units of an autoencoder of their rows.  Purity and its control as in
`onehot`: chosen by one half of the items, tested on the other, next to permuted genres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.claims.onehot import figures, fold
from benchmarks.claims.space import Between, Space, one_of
from benchmarks.claims.splits import Split
from benchmarks.claims.study import Arm, Claim, Comparison, Task
from mfcore import RatingAutoencoder, evaluate

BASE: Space = {"hidden": (32,), "orientation": "item", "bias": one_of("mean", None),
               "batch_size": 32,
               "n_epochs": one_of(15), "reg": Between(1, 60), "learning_rate": Between(0.002, 0.02)}


@dataclass(frozen=True)
class Noise:
    """One of three kinds of noise, and how much of it."""

    always = True

    def draw(self, random: np.random.Generator) -> tuple[str, float]:
        """Return a kind and its amount."""
        kind = ("gaussian", "salt", "input_dropout")[random.integers(3)]
        return kind, (Between(0.2, 2) if kind == "gaussian" else Between(0.05, 0.6)).draw(random)

    def __str__(self) -> str:
        return "gaussian, 0.2 to 2 stars, log | salt, 0.05 to 0.6, log | dropout, 0.05 to 0.6, log"


SPACES = {"plain": {}, "contractive": {"contractive": Between(0.003, 1, always=True)},
          "denoising": {"corruption": Noise()}}


def settings_of(task: Task) -> dict[str, object]:
    """Return the model's parameters."""
    settings = dict(task.settings)
    kind, amount = settings.pop("corruption", (None, 0.0))
    if kind == "input_dropout":
        return settings | {"input_dropout": amount}
    return settings | ({"noise": kind, "noise_scale": amount} if kind else {})


def measure(task: Task) -> dict[str, float]:
    """Return what the codes say; in the end the RMSE too."""
    split: Split = task.split
    model = RatingAutoencoder(**settings_of(task), random_state=task.seed, n_threads=1)
    model.fit(split.train)
    found = figures(model.item_factors_[:, :-1], task)      # the last is the offset's 1
    return found | (evaluate(model, split.test, metrics="rmse", n_threads=1) if task.final else {})


CLAIM = Claim(
    name="codes", says="Contractive and denoising autoencoders give better codes.",
    hypothesis="No more than the penalty on weights that is tuned anyway.",
    data=("planted", "ml-100k"), also=("movietweetings-100k/core",),
    fold=fold, measure=measure,
    arms={name: Arm(BASE | space, "purity") for name, space in SPACES.items()},
    comparisons=[
        *(Comparison(f"{name} codes are purer", name, "plain", "purity")
          for name in ("contractive", "denoising")),
        *(Comparison(f"{name} codes use more directions", name, "plain", "rank", decides=False)
          for name in ("contractive", "denoising")),
        *(Comparison(f"{name} codes predict better", name, "plain", "rmse", decides=False)
          for name in ("contractive", "denoising")),
        *(Comparison(f"the purity of {name} codes is above chance (control)", name, name,
                     "purity", "purity, permuted", decides=False) for name in SPACES)],
    units={"purity": "share of ten neighbours", "rank": "directions", "rmse": "stars"},
    answer="No difference is shown, and denoising ones are the same on ML-100K; the other "
           "intervals are too wide to say so.",
    found="Neither is purer than a plain autoencoder that was tuned in the same way, predicts "
          "better or uses more directions, on any data. All are far above permuted genres.")
