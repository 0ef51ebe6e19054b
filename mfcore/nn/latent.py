"""Latent normal variables: draw them so that gradients pass, and what they cost.

Reparameterisation.  z ~ N(μ, e^ℓ) is drawn as a function of its parameters:

    z = μ + e^(ℓ/2) ε,   ε ~ N(0, 1)                  ℓ the logarithm of the variance
    dμ = dz              dℓ = dz ∘ ½ e^(ℓ/2) ε

Divergence from the standard normal, for one number:

    KL(N(μ, e^ℓ) ‖ N(0, 1)) = E [ln q(z) − ln p(z)]
        = E [−½ ℓ − ½ (z − μ)² e^−ℓ + ½ z²]           the ln 2π cancel
        = ½ (e^ℓ + μ² − 1 − ℓ)                        E (z − μ)² = e^ℓ,  E z² = μ² + e^ℓ
    ∂/∂μ = μ             ∂/∂ℓ = ½ (e^ℓ − 1)

Source: Kingma, Welling 2014 (appendix B).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mfcore.nn.layers import Layer, Run

Pair = tuple[np.ndarray, np.ndarray]


class Reparameterise(Layer):
    """z = μ + e^(ℓ/2) ε in training, z = μ when serving; x = (μ, ℓ), each (n, k)."""

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

    β is `weight`, a number or one a row, shape (n, 1).
    """
    beta, variance = np.asarray(weight, mean.dtype), np.exp(log_variance)
    each = variance + mean * mean - 1 - log_variance
    return float((beta * each).sum(dtype=np.float64)) / 2, \
        (beta * mean, beta / 2 * (variance - 1))
