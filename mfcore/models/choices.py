"""Autoencoders of what users have chosen: what MultDAE, MultVAE and RecVAE share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.ratings import Ratings
from mfcore.models.autoencoding import Autoencoder
from mfcore.models.solving import check_epochs, check_widths
from mfcore.nn.activations import FORMULAS
from mfcore.nn.heads import EveryLogistic, Gaussian, Head, Target
from mfcore.nn.joins import Sequential
from mfcore.nn.layers import Dropout, Linear, SparseLinear
from mfcore.nn.multinomial import Multinomial
from mfcore.nn.optimizers import OPTIMIZERS, optimizer
from mfcore.nn.parameters import Parameter
from mfcore.parallel import Pool
from mfcore.solvers.rows import Make

HEADS: dict[str, Callable[..., Head]] = {
    "multinomial": Multinomial, "gaussian": Gaussian, "bernoulli": EveryLogistic}


class ChoiceAutoencoder(Autoencoder):
    """What the models here share: rows of length 1, dropped out; Adam; a head of all items."""

    _rates = False
    values: str
    likelihood: str
    reg: float
    dropout: float
    optimizer: str
    learning_rate: float
    hidden: tuple[int, ...]
    n_latent: int
    activation: str

    # ------------------------------------------------------------------------ checks

    def _validate(self) -> None:
        check_epochs(self)
        validation.integer("n_latent", self.n_latent, low=1)
        validation.choice("values", self.values, ("binary", "raw"))
        Dropout(self.dropout)
        validation.real("reg", self.reg, low=0)
        validation.real("learning_rate", self.learning_rate, above=0, high=1e3)
        validation.integer("batch_size", self.batch_size, low=1)
        validation.real("memory", self.memory, above=0)

    def _validate_layers(self) -> None:
        validation.choice("likelihood", self.likelihood, HEADS)
        validation.choice("activation", self.activation, FORMULAS)
        validation.choice("optimizer", self.optimizer, [n for n in OPTIMIZERS if n != "rprop"])
        check_widths(self.hidden)

    def _check_training(self, ratings: Ratings) -> None:
        if ratings.weights is not None:
            raise ValueError(f"{type(self).__name__} has no use for weights of single cells: "
                             f"leave them out")
        if self.values == "raw":
            check_counts(self.likelihood, ratings.by_user.data)
        super()._check_training(ratings)

    # ---------------------------------------------------------------------- training

    def _targets(self, ratings: Ratings) -> sp.csr_array:
        """Return x of rows: 1 for each rating above 0, or the ratings."""
        cells = ratings.by_user
        if self.values == "raw":
            check_counts(self.likelihood, cells.data)
        data = (cells.data > 0).astype(self.dtype) if self.values == "binary" else \
            cells.data.astype(self.dtype)
        return sp.csr_array((data, cells.indices, cells.indptr), shape=cells.shape)

    def _inputs(self, ratings: Ratings) -> sp.csr_array:
        return unit_rows(self._targets(ratings))

    def _first(self, n_items: int, n_out: int, activation: str,
               random: np.random.Generator | None) -> SparseLinear:
        return SparseLinear(n_items, n_out, activation, random=random, dtype=self.dtype,
                            initial="glorot", name="encoder_0")

    def _linear(self, name: str, n_in: int, n_out: int, activation: str,
                random: np.random.Generator | None) -> Linear:
        return Linear(n_in, n_out, activation, random=random, dtype=self.dtype,
                      initial="glorot", name=name)

    def _encoder(self, n_items: int, random: np.random.Generator | None) -> list[Linear]:
        """Return the layers from a row to the last hidden one."""
        layers: list[Linear] = []
        widths = [n_items, *self.hidden]
        for number, (n_in, n_out) in enumerate(zip(widths, self.hidden, strict=False)):
            layers.append(self._linear(f"encoder_{number}", n_in, n_out, self.activation, random)
                          if number else self._first(n_in, n_out, self.activation, random))
        return layers

    def _coder(self, n_items: int, n_out: int, activation: str,
               random: np.random.Generator | None) -> list[Linear]:
        """Return the layers from a row to a code, the last with a φ of its own."""
        layers = self._encoder(n_items, random)
        last = self._linear("code", self.hidden[-1], n_out, activation, random) if layers else \
            self._first(n_items, n_out, activation, random)
        return [*layers, last]

    def _decoder(self, random: np.random.Generator | None) -> Sequential:
        widths = [self.n_latent, *self.hidden[::-1]]
        return Sequential(*(self._linear(f"decoder_{number}", n_in, n_out, self.activation, random)
                            for number, (n_in, n_out) in enumerate(
                                zip(widths, widths[1:], strict=False))))

    def _head(self, n_items: int, random: np.random.Generator | None) -> Head:
        width = self.hidden[0] if self.hidden else self.n_latent
        transposed = self._linear("head", width, n_items, "identity", random).W.value.T
        return HEADS[self.likelihood](Parameter("head.W", transposed))

    def _batches(self, ratings: Ratings) -> Make:
        """Return what makes batches: rows of length 1, and their targets."""
        x = self._targets(ratings)
        rows = unit_rows(x)

        def make(chosen: np.ndarray, random: np.random.Generator, pool: Pool) -> tuple[Any, ...]:
            return rows[chosen], Target(x[chosen])

        return make

    def _optimizer(self, n_rows: int) -> Any:
        return optimizer(self.optimizer, self.learning_rate, decay=2 * self.reg / n_rows)


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
