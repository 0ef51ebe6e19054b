"""Autoencoders of what users have chosen: what MultDAE, MultVAE and RecVAE share.

Rows of length 1, with cells left out; a distribution over all items for each; Adam.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.ratings import Ratings
from mfcore.models.autoencoders.core import Recipe, check_memory
from mfcore.models.autoencoders.core import begin as begin_coding
from mfcore.models.estimator import check_epochs, check_widths
from mfcore.models.sides import Sides
from mfcore.models.training import Start
from mfcore.nn.activations import FORMULAS
from mfcore.nn.heads import EveryLogistic, Gaussian, Head, Multinomial, Target
from mfcore.nn.joins import Sequential
from mfcore.nn.layers import Dropout, Linear, SparseLinear
from mfcore.nn.optimizers import OPTIMIZERS, optimizer
from mfcore.nn.parameters import Parameter
from mfcore.parallel import Pool
from mfcore.solvers.rows import Make

HEADS: dict[str, Callable[..., Head]] = {
    "multinomial": Multinomial, "gaussian": Gaussian, "bernoulli": EveryLogistic}

Random = np.random.Generator | None


# ------------------------------------------------------------------------------ checks

def check_choices(model: Any) -> None:
    """Raise for a setting of all these models that is out of range."""
    check_epochs(model)
    validation.integer("n_latent", model.n_latent, low=1)
    validation.choice("values", model.values, ("binary", "raw"))
    Dropout(model.dropout)
    validation.real("reg", model.reg, low=0)
    validation.real("learning_rate", model.learning_rate, above=0, high=1e3)
    validation.integer("batch_size", model.batch_size, low=1)
    validation.real("memory", model.memory, above=0)


def check_layers(model: Any) -> None:
    """Raise for layers, a likelihood or an optimizer out of range."""
    validation.choice("likelihood", model.likelihood, HEADS)
    validation.choice("activation", model.activation, FORMULAS)
    validation.choice("optimizer", model.optimizer, [n for n in OPTIMIZERS if n != "rprop"])
    check_widths(model.hidden)


def check_training(model: Any, ratings: Ratings) -> None:
    """Raise for values without a likelihood, and for a network too large for the memory."""
    if model.values == "raw":
        check_counts(model.likelihood, ratings.by_user.data)
    check_memory(model, ratings, model.recipe())


# ----------------------------------------------------------------------- rows, training

def begin(model: Any, ratings: Ratings, sides: Sides, random: np.random.Generator) -> Start:
    """Return where a fit begins: no offsets, no scale."""
    model.global_mean_, model.scale_ = 0.0, 1.0
    return begin_coding(model, ratings, sides, random)


def targets(model: Any, ratings: Ratings) -> sp.csr_array:
    """Return x of rows: 1 for each rating above 0, or the ratings."""
    cells = ratings.by_user
    if model.values == "raw":
        check_counts(model.likelihood, cells.data)
    data = (cells.data > 0).astype(model.dtype) if model.values == "binary" else \
        cells.data.astype(model.dtype)
    return sp.csr_array((data, cells.indices, cells.indptr), shape=cells.shape)


def recipe(model: Any, network: Callable[..., Any], solver: Callable[..., Any]) -> Recipe:
    """Return the recipe of functions whose first argument is the model."""
    return Recipe(lambda shape, random: network(model, shape, random),
                  lambda ratings: unit_rows(targets(model, ratings)),
                  lambda net, ratings, random: solver(model, net, ratings, random))


def batches(model: Any, ratings: Ratings) -> Make:
    """Return what makes batches: rows of length 1, and their targets."""
    x = targets(model, ratings)
    rows = unit_rows(x)

    def make(chosen: np.ndarray, random: np.random.Generator, pool: Pool) -> tuple[Any, ...]:
        return rows[chosen], Target(x[chosen])

    return make


def optimizer_of(model: Any, n_rows: int) -> Any:
    """Return the optimizer that a model names, with its penalty for so many rows."""
    return optimizer(model.optimizer, model.learning_rate, decay=2 * model.reg / n_rows)


# ------------------------------------------------------------------------------ layers

def first(model: Any, n_items: int, n_out: int, activation: str, random: Random) -> SparseLinear:
    """Return the layer that takes rows."""
    return SparseLinear(n_items, n_out, activation, random=random, dtype=model.dtype,
                        initial="glorot", name="encoder_0")


def linear(model: Any, name: str, n_in: int, n_out: int, activation: str, random: Random
           ) -> Linear:
    """Return a layer between others."""
    return Linear(n_in, n_out, activation, random=random, dtype=model.dtype,
                  initial="glorot", name=name)


def encoder(model: Any, n_items: int, n_out: int, activation: str, random: Random
            ) -> list[Linear]:
    """Return the layers from a row to a code, the last with a φ of its own."""
    layers: list[Linear] = []
    widths = [n_items, *model.hidden]
    for number, (n_in, width) in enumerate(zip(widths, model.hidden, strict=False)):
        layers.append(linear(model, f"encoder_{number}", n_in, width, model.activation, random)
                      if number else first(model, n_in, width, model.activation, random))
    last = linear(model, "code", model.hidden[-1], n_out, activation, random) if layers else \
        first(model, n_items, n_out, activation, random)
    return [*layers, last]


def decoder(model: Any, random: Random) -> Sequential:
    """Return the layers from a code to the last hidden one."""
    widths = [model.n_latent, *model.hidden[::-1]]
    return Sequential(*(linear(model, f"decoder_{number}", n_in, n_out, model.activation, random)
                        for number, (n_in, n_out) in enumerate(
                            zip(widths, widths[1:], strict=False))))


def head(model: Any, n_items: int, random: Random) -> Head:
    """Return the layer of all items, with the likelihood that the model names."""
    width = model.hidden[0] if model.hidden else model.n_latent
    transposed = linear(model, "head", width, n_items, "identity", random).W.value.T
    return HEADS[model.likelihood](Parameter("head.W", transposed))


# ------------------------------------------------------------------------------ values

def unit_rows(x: sp.csr_array) -> sp.csr_array:
    """Return x with rows of length 1; rows of nothing stay."""
    counts = np.diff(x.indptr)
    length = np.sqrt(np.asarray(x.multiply(x).sum(axis=1)).ravel())
    scale = np.divide(1, length, out=np.zeros_like(length), where=length > 0)
    return sp.csr_array((x.data * np.repeat(scale, counts).astype(x.dtype), x.indices, x.indptr),
                        shape=x.shape)


def check_counts(likelihood: str, values: np.ndarray) -> None:
    """Raise for values that a likelihood gives no probability to."""
    if likelihood == "multinomial":
        validation.nonnegative("ratings (for likelihood='multinomial')", values)
    if likelihood == "bernoulli" and values.size and not 0 <= values.min() <= values.max() <= 1:
        raise ValueError(f"ratings must be in [0, 1] for likelihood='bernoulli', got values from "
                         f"{values.min():g} to {values.max():g}; values='binary' makes them so")
