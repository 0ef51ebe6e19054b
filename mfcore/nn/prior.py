"""A composite prior, and what a posterior costs beside it.

For one number of z, a mixture of the standard normal, the posterior that an older encoder gave
the same row, and a wide normal (m = 1, 2, 3, weights a_m):

    p(z) = Σ_m a_m N(z; μ_m, e^ℓ_m)

Its divergence has no closed form; the z drawn for the decoder stands for the expectation:

    D = Σ β [ln q(z) − ln p(z)],      z = μ + e^(ℓ/2) ε
    ln q(z) = −½ (ℓ + ε² + ln 2π)                             (z − μ)² e^−ℓ = ε²
    ∂/∂ℓ = −½                         by μ and z nothing: ε is given

    ln p = ln Σ_m e^(t_m),   t_m = ln a_m − ½ (ℓ_m + (z − μ_m)² e^−ℓ_m + ln 2π)
    ∂ ln p/∂z = −Σ_m π_m (z − μ_m) e^−ℓ_m,                    π = softmax(t)
    dz = β Σ_m π_m (z − μ_m) e^−ℓ_m                           joins dz of the decoder

The older posterior is data: nothing goes back to it.  The ln 2π cancel.

Source: Shenbin, Alekseev, Tutubalina, Malykh, Nikolenko 2020 (RecVAE).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mfcore.nn.latent import Pair


class Prior(NamedTuple):
    """Weights of the three parts, which add up to 1, and the variance of the wide one."""

    standard: float = 3 / 20
    old: float = 3 / 4
    wide: float = 1 / 10
    log_variance: float = 10.0


def divergence(pair: Pair, z: np.ndarray, noise: np.ndarray, prior: Prior, old: Pair,
               weight: float | np.ndarray) -> tuple[float, np.ndarray, Pair]:
    """Return D, dz, and (dμ, dℓ) beside what goes through z.

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
