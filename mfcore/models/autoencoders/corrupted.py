"""What a rating autoencoder trains on: batches of rows, masked, noisy, or fed back.

Masked training.  A share of a row's cells is hidden from the input, and both count,

    α Σ_hidden w (t − s)² + β Σ_visible w (t − s)²

so that a network is asked for what it cannot copy.  (α, β) times w are weights of cells.

Dense re-feeding.  A good completion y = f(x) should be its own completion: y = f(y).  After a
step on the known cells of x, y is a constant, and

    mean_i (y_i − f(y)_i)²

is another step's loss; this may be repeated, y ← f(y).  A constant f would satisfy it too: the
known cells prevent that.

Sources: Strub, Gaudel, Mary 2016 (masks); Kuchaiev, Ginsburg 2017 (re-feeding).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore.nn import corruption
from mfcore.nn.autoencoder import Plain
from mfcore.nn.heads import Target
from mfcore.nn.joins import Sequential
from mfcore.nn.layers import Run
from mfcore.nn.network import Trainer
from mfcore.parallel import Pool

NOISES = ("gaussian", "salt")


@dataclass
class CorruptedRows:
    """Makes the network's inputs out of rows t (n, m), with weights of cells or None.

    mask, mask_weights : share hidden, and (α, β)
    noise, noise_scale : None, "gaussian" with its standard deviation, or "salt" with its share
    """

    t: sp.csr_array
    weights: np.ndarray | None
    mask: float = 0.0
    mask_weights: tuple[float, float] = (1.0, 1.0)
    noise: str | None = None
    noise_scale: float = 0.0

    def __post_init__(self) -> None:
        self.bounds = (float(self.t.data.min()), float(self.t.data.max()))

    def make(self, rows: np.ndarray, random: np.random.Generator, pool: Pool
             ) -> tuple[sp.csr_array, Target]:
        """Return inputs and targets of some rows."""
        t = self.t[rows]
        w = None
        if self.weights is not None:
            w = sp.csr_array((self.weights, self.t.indices, self.t.indptr),
                             shape=self.t.shape)[rows].data
        return self._given(t, w, random)

    def whole(self) -> tuple[sp.csr_array, Target]:
        """Return all rows as they are."""
        return self.t, Target(self.t, self.weights)

    def _given(self, t: sp.csr_array, w: np.ndarray | None, random: np.random.Generator
               ) -> tuple[sp.csr_array, Target]:
        x = t
        if self.noise == "gaussian":
            x = corruption.gaussian(x, self.noise_scale, random)
        elif self.noise == "salt":
            x = corruption.salt(x, self.noise_scale, self.bounds, random)
        if self.mask:
            x, hidden = corruption.hide(x, self.mask, random)
            each = np.where(hidden, *self.mask_weights).astype(t.dtype)
            w = each if w is None else w * each
        return x, Target(t, w)


@dataclass
class Refeeding:
    """Steps on what the network says, after a step on what is known.

    network : Plain; trainer : Trainer
        Of the same parameters; the trainer's network takes dense rows.
    n_steps : int
    """

    network: Plain
    trainer: Trainer
    n_steps: int

    def __call__(self, x: tuple[sp.csr_array, Target], pool: Pool
                 ) -> Iterator[tuple[Trainer, Any, float]]:
        """Yield a trainer, its input and 1 / the cells of it, as often as there are steps."""
        y = completed(self.network, x[1].x, pool)
        for _ in range(self.n_steps):
            yield self.trainer, (y, y), 1 / y.size
            y = completed(self.trainer.network, y, pool)               # type: ignore[arg-type]


def completed(network: Plain, x: Any, pool: Pool) -> np.ndarray:
    """Return f(x), dense, with nothing left out."""
    y: np.ndarray = network.head.forward(network.decode(network.encode(x, pool), pool),
                                         Run(pool))[0]
    return y


def on_blocks(network: Plain) -> Plain:
    """Return the network of the same parameters that takes dense rows; no penalty of inputs."""
    dropped, first, *rest = network.encoder.layers             # type: ignore[attr-defined]
    return Plain(Sequential(first.on_blocks(), *rest), network.decoder, network.head)
