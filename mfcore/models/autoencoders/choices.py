"""Autoencoders of what users have chosen: what MultDAE, MultVAE and RecVAE share.

Rows of length 1, with cells left out; a distribution over all items for each; Adam.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.features import choices
from mfcore.data.ratings import Ratings
from mfcore.models.autoencoders.core import Recipe, answers, coded, no_bias, no_offset
from mfcore.models.inputs import check_chosen
from mfcore.models.stopping import Budget
from mfcore.nn.heads import EveryLogistic, Gaussian, Head, Multinomial, Target
from mfcore.nn.joins import Sequential
from mfcore.nn.layers import Linear, SparseLinear
from mfcore.nn.optimizers import OPTIMIZERS, optimizer
from mfcore.nn.parameters import Parameter
from mfcore.parallel import Pool
from mfcore.solvers.rows import Make

HEADS: dict[str, Callable[..., Head]] = {
    "multinomial": Multinomial, "gaussian": Gaussian, "bernoulli": EveryLogistic}

# Chosen on validation parts: see benchmarks/epochs.py.
BUDGET = Budget(enough=200, patience=50, epochs=(4, 200), most=100)
NAMED = [name for name in OPTIMIZERS if name != "rprop"]

Random = np.random.Generator | None


# --------------------------------------------------------------------------------- rows

def check_values(model: Any, ratings: Ratings) -> None:
    """Raise for values without a likelihood."""
    if model.values == "raw":
        check_counts(model.likelihood, ratings.by_user.data)


def check_training(model: Any, ratings: Ratings) -> None:
    """Raise for values without a likelihood, and where nobody has chosen anything."""
    check_values(model, ratings)
    check_chosen(ratings)


def told(model: Any, ratings: Ratings) -> Ratings:
    """Return the ratings that are chosen: a zero says what a missing cell says."""
    return choices(ratings, model.values)


def targets(model: Any, ratings: Ratings) -> sp.csr_array:
    """Return x of rows: 1 for each rating above 0, or the ratings."""
    check_values(model, ratings)
    cells = ratings.by_user
    data = (cells.data > 0).astype(model.dtype) if model.values == "binary" else \
        cells.data.astype(model.dtype)
    return sp.csr_array((data, cells.indices, cells.indptr), shape=cells.shape)


def inputs(model: Any, ratings: Ratings) -> sp.csr_array:
    """Return x of rows, divided by their lengths."""
    return unit_rows(targets(model, ratings))


def recipe(network: Callable[..., Any], solver: Callable[..., Any]) -> Recipe:
    """Return the recipe of a network of choices and what trains it."""
    return Recipe(network, told, inputs, solver, check_training, no_offset, no_bias, coded, answers)


def batches(model: Any, ratings: Ratings) -> Make:
    """Return what makes batches: rows of length 1, and their targets."""
    x = targets(model, ratings)
    rows = unit_rows(x)

    def make(chosen: np.ndarray, random: np.random.Generator, pool: Pool) -> tuple[Any, ...]:
        return rows[chosen], Target(x[chosen])

    return make


def optimizer_of(model: Any, n_rows: int) -> Any:
    """Return the optimizer that a model names, with its penalty for n_rows rows."""
    return optimizer(model.optimizer, model.learning_rate, decay=2 * model.reg / n_rows)


# ------------------------------------------------------------------------------ layers

def first(model: Any, n_items: int, n_out: int, activation: str, random: Random) -> SparseLinear:
    """Return the layer that takes rows."""
    return SparseLinear(n_items, n_out, activation, random=random, dtype=model.dtype,
                        initial=model.initial, name="encoder_0")


def linear(model: Any, name: str, n_in: int, n_out: int, activation: str, random: Random
           ) -> Linear:
    """Return a layer between others."""
    return Linear(n_in, n_out, activation, random=random, dtype=model.dtype,
                  initial=model.initial, name=name)


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
