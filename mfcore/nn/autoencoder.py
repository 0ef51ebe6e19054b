"""Networks from a row to a loss: an encoder, a decoder, and a head.

    Plain         L = ℓ(decoder(encoder(x)))
    Variational   L = ℓ(decoder(z)) + Σ_u β_u KL(N(μ_u, e^ℓ_u) ‖ prior),  (μ, ℓ) = encoder(x),
                  z ~ N(μ, e^ℓ)

Each returns the loss, so that training is `Trainer(network, identity_loss, optimizer)`.
A row is encoded as μ.

Sources: Kingma, Welling 2014 (appendix B); Shenbin, Alekseev, Tutubalina, Malykh, Nikolenko
2020 (RecVAE).
"""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from mfcore.nn.heads import Head, Target
from mfcore.nn.layers import Layer, Linear, Run
from mfcore.nn.parameters import Parameter
from mfcore.parallel import Pool

Pair = tuple[np.ndarray, np.ndarray]


def identity_loss(value: float) -> tuple[float, float]:
    """Return a loss that the network has already computed, and its derivative by itself."""
    return value, 1.0


class Plain(Layer):
    """An encoder, a decoder and a head."""

    def __init__(self, encoder: Layer, decoder: Layer, head: Head) -> None:
        self.encoder, self.decoder, self.head = encoder, decoder, head

    def parameters(self) -> list[Parameter]:
        """Return the parameters of all parts, each once."""
        return list(dict.fromkeys(p for part in (self.encoder, self.decoder, self.head)
                                  for p in part.parameters()))

    def encode(self, x: Any, pool: Pool, apart: bool = False) -> np.ndarray:
        """Return the codes of rows, shape (n, k); `apart` as in `Run`."""
        code: np.ndarray = self.encoder.forward(x, Run(pool, apart=apart))[0]
        return code

    def decode(self, code: np.ndarray, pool: Pool, apart: bool = False) -> np.ndarray:
        """Return what the head scores, shape (n, h); `apart` as in `Run`."""
        h: np.ndarray = self.decoder.forward(code, Run(pool, apart=apart))[0]
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


class Reparameterise(Layer):
    """Draw z ~ N(μ, e^ℓ) so that gradients pass, in training; z = μ when serving.

        z = μ + e^(ℓ/2) ε,   ε ~ N(0, 1)              ℓ the logarithm of the variance
        dμ = dz              dℓ = dz ∘ ½ e^(ℓ/2) ε

    x = (μ, ℓ), each (n, k).
    """

    def forward(self, x: Pair, run: Run) -> tuple[np.ndarray, Any]:
        """Return z, shape (n, k)."""
        mean, log_variance = x
        if run.random is None:
            return mean, np.zeros_like(mean)
        draw = run.random.standard_normal(mean.shape).astype(mean.dtype)
        noise = np.exp(log_variance / 2) * draw
        return mean + noise, noise

    def backward(self, dz: np.ndarray, noise: np.ndarray, run: Run) -> Pair:
        """Return (dμ, dℓ)."""
        return dz, dz * noise / 2


def kl_divergence(mean: np.ndarray, log_variance: np.ndarray, weight: float | np.ndarray = 1.0
                  ) -> tuple[float, Pair]:
    """Return Σ β KL(N(μ, e^ℓ) ‖ N(0, 1)), float64, and (dμ, dℓ).

    For a single number,

        KL(N(μ, e^ℓ) ‖ N(0, 1)) = E [ln q(z) − ln p(z)]
            = E [−½ ℓ − ½ (z − μ)² e^−ℓ + ½ z²]       the ln 2π cancel
            = ½ (e^ℓ + μ² − 1 − ℓ)                    E (z − μ)² = e^ℓ,  E z² = μ² + e^ℓ
        ∂/∂μ = μ             ∂/∂ℓ = ½ (e^ℓ − 1)

    β is `weight`, a number, or one per row, shape (n, 1).
    """
    beta, variance = np.asarray(weight, mean.dtype), np.exp(log_variance)
    each = variance + mean * mean - 1 - log_variance
    return float((beta * each).sum(dtype=np.float64)) / 2, \
        (beta * mean, beta / 2 * (variance - 1))


class CompositePrior(NamedTuple):
    """The prior of RecVAE: three normal parts with weights a_m, which add up to 1.

        p(z) = Σ_m a_m N(z; μ_m, e^ℓ_m)

    They are the standard normal, the posterior of the same row by an older encoder, and a wide
    normal with the log-variance given here.
    """

    standard: float = 3 / 20
    old: float = 3 / 4
    wide: float = 1 / 10
    log_variance: float = 10.0


def composite_divergence(pair: Pair, z: np.ndarray, noise: np.ndarray, prior: CompositePrior,
                         old: Pair, weight: float | np.ndarray
                         ) -> tuple[float, np.ndarray, Pair]:
    """Return D, dz, and the part of (dμ, dℓ) that does not come through z.

    D has no closed form; the z drawn for the decoder replaces the expectation:

        D = Σ β [ln q(z) − ln p(z)],      z = μ + e^(ℓ/2) ε
        ln q(z) = −½ (ℓ + ε² + ln 2π)                 (z − μ)² e^−ℓ = ε²
        ∂/∂ℓ = −½                         none by μ and z, as ε is given

        ln p = ln Σ_m e^(t_m),   t_m = ln a_m − ½ (ℓ_m + (z − μ_m)² e^−ℓ_m + ln 2π)
        ∂ ln p/∂z = −Σ_m π_m (z − μ_m) e^−ℓ_m,        π = softmax(t)
        dz = β Σ_m π_m (z − μ_m) e^−ℓ_m               is added to dz of the decoder

    The older posterior is data: no gradient goes back to it.  The ln 2π cancel.

    noise : ndarray, shape (n, k), z − μ
    old : the older posterior of the same rows
    weight : β, a number or (n, 1)
    """
    mean, log_variance = pair
    real = z.dtype.type
    zero = np.zeros_like(z)
    parts = [(prior.standard, zero, zero), (prior.old, *old),
             (prior.wide, zero, zero + real(prior.log_variance))]
    pulls = [(z - m) * np.exp(-v) for _, m, v in parts]
    t = np.stack([real(np.log(a)) - (v + (z - m) * pull) / 2
                  for (a, m, v), pull in zip(parts, pulls, strict=True)])
    top = t.max(axis=0)
    e = np.exp(t - top)
    total = e.sum(axis=0)
    log_p = top + np.log(total)
    log_q = -(log_variance + noise * noise * np.exp(-log_variance)) / 2
    beta = np.asarray(weight, z.dtype)
    dz = beta * sum(part * pull for part, pull in zip(e, pulls, strict=True)) / total
    value = float((beta * (log_q - log_p)).sum(dtype=np.float64))
    return value, dz, (zero, zero - beta / 2)


class Halves(Layer):
    """(μ, ℓ), the two halves of y = x W + b."""

    def __init__(self, linear: Linear) -> None:
        self.linear = linear

    def parameters(self) -> list[Parameter]:
        """Return the parameters of the linear layer."""
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
    """A network whose encoder returns (μ, ℓ), with a penalty for leaving the prior.

    x of `forward` is (rows, target, β), where β is a number, or one per row, shape (n, 1); with
    a composite prior it is (rows, target, β, the older posterior).
    """

    prior: CompositePrior | None = None

    def posterior(self, x: sp.csr_array, pool: Pool, apart: bool = False) -> Pair:
        """Return (μ, ℓ) of rows; `apart` as in `Run`."""
        pair: Pair = self.encoder.forward(x, Run(pool, apart=apart))[0]
        return pair

    def encode(self, x: sp.csr_array, pool: Pool, apart: bool = False) -> np.ndarray:
        """Return μ, shape (n, k)."""
        return self.posterior(x, pool, apart)[0]

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
            cost, dz, d_pair = composite_divergence(pair, z, noise, self.prior, old[0], weight)
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


def normal_by_row(X: sp.csr_array, width: int, seed: int) -> np.ndarray:
    """Return draws from N(0, 1), shape (n_rows, width), each by a seed and what its row holds.

    So a row has the same draw in any company, and in any place.
    """
    columns, out = X.indices.astype(np.int64), np.empty((X.shape[0], width))
    for row, (start, stop) in enumerate(zip(X.indptr[:-1], X.indptr[1:], strict=True)):
        parts = (zlib.crc32(np.ascontiguousarray(each[start:stop]).data)
                 for each in (columns, X.data))
        random = np.random.default_rng([seed, *parts])
        random.standard_normal(width, out=out[row])
    return out
