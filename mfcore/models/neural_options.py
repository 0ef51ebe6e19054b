"""What the parameters of `NeuralMF` may be, alone and together."""

from __future__ import annotations

from typing import Any

from mfcore import validation
from mfcore.models.fusion import FUSIONS
from mfcore.models.solving import check_training, check_widths
from mfcore.nn.activations import FORMULAS
from mfcore.nn.layers import Dropout
from mfcore.nn.optimizers import OPTIMIZERS


def check(model: Any) -> None:
    """Raise for a parameter out of range, or for some that do not go together."""
    check_training(model)
    validation.choice("loss", model.loss, ("squared", "logistic"))
    validation.choice("fusion", model.fusion, FUSIONS)
    check_widths(model.hidden)
    validation.choice("activation", model.activation, FORMULAS)
    Dropout(model.dropout)
    validation.choice("bias", model.bias, ("learned", "mean", None))
    if model.bias == "mean" and model.loss == "logistic":
        raise ValueError("bias='mean' has no meaning with loss='logistic': use 'learned'")
    validation.integer("n_negatives", model.n_negatives, low=1)
    validation.real_or_choice("unknown_weight", model.unknown_weight, ("drawn", "balanced"),
                              low=0)
    validation.boolean("freeze", model.freeze)
    for name in ("reg", "weight_decay", "decay"):
        validation.real(name, getattr(model, name), low=0)
    if model.bias_reg is not None:
        validation.real("bias_reg", model.bias_reg, low=0)
    validation.choice("optimizer", model.optimizer, [n for n in OPTIMIZERS if n != "rprop"])
    validation.boolean("lazy", model.lazy)
    validation.real("learning_rate", model.learning_rate, above=0, high=1e3)
    validation.integer("batch_size", model.batch_size, low=1)
    if model.clip is not None:
        validation.real("clip", model.clip, above=0)
