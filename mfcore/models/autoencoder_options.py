"""What the parameters of `RatingAutoencoder` may be, alone and together."""

from __future__ import annotations

from typing import Any

from mfcore import validation
from mfcore.models.corrupted import NOISES
from mfcore.models.solving import check_epochs, check_widths
from mfcore.nn.activations import FORMULAS
from mfcore.nn.contractive import INPUTS
from mfcore.nn.layers import Dropout
from mfcore.nn.optimizers import OPTIMIZERS


def check(model: Any) -> None:
    """Raise for a parameter out of range, or for some that do not go together."""
    check_epochs(model)
    _check_network(model)
    _check_corruption(model)
    _check_optimizer(model)
    if model.unknown_weight and model.bias == "mean" and model.unknown_value != "bias":
        raise ValueError(f"unknown_value must be 'bias' with bias='mean', got "
                         f"{model.unknown_value!r}: a rating as target needs bias=None")


def _check_network(model: Any) -> None:
    check_widths(model.hidden)
    if not model.hidden:
        raise ValueError("hidden must hold at least one width, got ()")
    validation.choice("orientation", model.orientation, ("user", "item"))
    for name in ("activation", "output"):
        validation.choice(name, getattr(model, name), FORMULAS)
    if model.orientation == "item" and model.output != "identity":
        raise ValueError(f"output must be 'identity' with orientation='item', where new users "
                         f"are solved for, got {model.output!r}")
    validation.boolean("tied", model.tied)
    validation.choice("bias", model.bias, ("mean", None))
    validation.real("bias_share", model.bias_share, low=0, high=1)
    validation.choice("scale", model.scale, ("none", "range"))
    validation.real("unknown_weight", model.unknown_weight, low=0)
    validation.real_or_choice("unknown_value", model.unknown_value, ("bias",))
    for name in ("reg", "contractive"):
        validation.real(name, getattr(model, name), low=0)
    validation.choice("contractive_inputs", model.contractive_inputs, INPUTS)


def _check_corruption(model: Any) -> None:
    if validation.real("mask", model.mask, low=0) >= 1:
        raise ValueError(f"mask must be in [0, 1), got {model.mask}: 1 hides everything")
    weights = model.mask_weights
    if not isinstance(weights, (tuple, list)) or len(weights) != 2:
        raise ValueError(f"mask_weights must be two numbers, of hidden and of visible cells, got "
                         f"{weights!r}")
    for weight in weights:
        validation.real("mask_weights", weight, low=0)
    validation.choice("noise", model.noise, (None, *NOISES))
    validation.real("noise_scale", model.noise_scale, low=0,
                    high=1 if model.noise == "salt" else 1e6)
    Dropout(model.input_dropout)
    Dropout(model.dropout)
    validation.integer("refeed", model.refeed)
    if model.refeed_rate is not None:
        validation.real("refeed_rate", model.refeed_rate, above=0, high=1e3)


def _check_optimizer(model: Any) -> None:
    validation.choice("optimizer", model.optimizer, [*OPTIMIZERS, "lbfgs"])
    validation.real("learning_rate", model.learning_rate, above=0, high=1e3)
    validation.real("decay", model.decay, low=0, high=1e6)
    if model.batch_size is not None:
        validation.integer("batch_size", model.batch_size, low=1)
    validation.real("memory", model.memory, above=0)
    drawn = [name for name in ("mask", "noise", "input_dropout", "dropout", "refeed")
             if getattr(model, name)]
    if model.optimizer == "lbfgs" and drawn:
        raise ValueError(f"optimizer='lbfgs' needs the same function in every step: it does not "
                         f"go with {', '.join(drawn)}; take 'adam'")
    if model.optimizer == "rprop" and model.batch_size is not None:
        raise ValueError(f"batch_size must be None with optimizer='rprop', which needs all rows "
                         f"at once, got {model.batch_size}")
