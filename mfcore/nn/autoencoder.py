"""Networks from a row to a loss: an encoder, a decoder, and a head.

    Plain         L = ℓ(decoder(encoder(x)))
    Variational   L = ℓ(decoder(z)) + Σ_u β_u KL(N(μ_u, e^ℓ_u) ‖ prior),  (μ, ℓ) = encoder(x),
                  z ~ N(μ, e^ℓ)

Each returns the loss itself, so that training is `Trainer(network, itself, optimizer)`.
Where a row is encoded, z is μ.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore.nn.heads import Head, Target
from mfcore.nn.latent import Pair, Reparameterise, kl_divergence
from mfcore.nn.layers import Layer, Linear, Run
from mfcore.nn.parameters import Parameter
from mfcore.nn.prior import Prior, divergence
from mfcore.parallel import Pool


def itself(value: float) -> tuple[float, float]:
    """Return a loss that a network has computed, and its derivative by itself."""
    return value, 1.0


class Plain(Layer):
    """Encoder, decoder and head, each a layer."""

    def __init__(self, encoder: Layer, decoder: Layer, head: Head) -> None:
        self.encoder, self.decoder, self.head = encoder, decoder, head

    def parameters(self) -> list[Parameter]:
        """Return the parameters of all parts, each once."""
        return list(dict.fromkeys(p for part in (self.encoder, self.decoder, self.head)
                                  for p in part.parameters()))

    def encode(self, x: Any, pool: Pool) -> np.ndarray:
        """Return the codes of rows, shape (n, k)."""
        code: np.ndarray = self.encoder.forward(x, Run(pool))[0]
        return code

    def decode(self, code: np.ndarray, pool: Pool) -> np.ndarray:
        """Return what the head scores, shape (n, h)."""
        h: np.ndarray = self.decoder.forward(code, Run(pool))[0]
        return h

    def forward(self, x: tuple[Any, Any], run: Run) -> tuple[float, Any]:
        """Return the loss of rows and targets: a `Target`, or a dense block."""
        rows, target = x
        code, inner = self.encoder.forward(rows, run)
        h, outer = self.decoder.forward(code, run)
        loss = self.head.loss if isinstance(target, Target) else self.head.dense_loss
        value, dh = loss(h, target, run)
        return value, (inner, outer, dh)

    def backward(self, dy: float, cache: Any, run: Run) -> None:
        """Add all gradients (the head has added its own)."""
        inner, outer, dh = cache
        self.encoder.backward(self.decoder.backward(dh, outer, run), inner, run)


class Halves(Layer):
    """(μ, ℓ), the halves of y = x W + b."""

    def __init__(self, linear: Linear) -> None:
        self.linear = linear

    def parameters(self) -> list[Parameter]:
        """Return those of the linear layer."""
        return self.linear.parameters()

    def forward(self, x: np.ndarray, run: Run) -> tuple[Pair, Any]:
        """Return (μ, ℓ), each (n, k)."""
        y, cache = self.linear.forward(x, run)
        mean, log_variance = np.split(y, 2, axis=1)
        return (np.ascontiguousarray(mean), np.ascontiguousarray(log_variance)), cache

    def backward(self, dy: Pair, cache: Any, run: Run) -> Any:
        """Return dx."""
        return self.linear.backward(np.hstack(dy), cache, run)


class Variational(Plain):
    """The encoder returns (μ, ℓ); rows pay for being away from the prior.

    x of `forward` is (rows, target, β), β a number or one a row, shape (n, 1).
    """

    prior: Prior | None = None

    def posterior(self, x: sp.csr_array, pool: Pool) -> Pair:
        """Return (μ, ℓ) of rows."""
        pair: Pair = self.encoder.forward(x, Run(pool))[0]
        return pair

    def encode(self, x: sp.csr_array, pool: Pool) -> np.ndarray:
        """Return μ, shape (n, k)."""
        return self.posterior(x, pool)[0]

    def forward(self, x: tuple[Any, ...], run: Run) -> tuple[float, Any]:
        """Return the loss."""
        rows, target, beta, *old = x
        pair, inner = self.encoder.forward(rows, run)
        z, noise = Reparameterise().forward(pair, run)
        weight = beta * run.share
        if self.prior is None:
            cost, d_pair = kl_divergence(pair[0], pair[1], weight)
            dz: Any = 0.0
        else:
            cost, dz, d_pair = divergence(pair, z, noise, self.prior, old[0], weight)
        h, outer = self.decoder.forward(z, run)
        value, dh = self.head.loss(h, target, run)
        return value + cost, (inner, outer, dh, noise, dz, d_pair)

    def backward(self, dy: float, cache: Any, run: Run) -> None:
        """Add all gradients."""
        inner, outer, dh, noise, dz, d_pair = cache
        dz = self.decoder.backward(dh, outer, run) + dz
        through = Reparameterise().backward(dz, noise, run)
        self.encoder.backward(tuple(a + b for a, b in zip(through, d_pair, strict=True)),
                              inner, run)
