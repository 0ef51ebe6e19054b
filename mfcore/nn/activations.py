"""Activations: a table of φ(z), φ'(z) and φ''(z).

Once y = φ(z) is known, most derivatives need nothing else (σ is the logistic function):

    identity     z                          1                   0
    relu         max(z, 0)                  [y > 0]             0
    leaky_relu   z, or κ z for z < 0        1, or κ             0
    sigmoid      1 / (1 + e^−z)             y (1 − y)           y (1 − y) (1 − 2y)
    tanh         tanh z                     1 − y²              −2 y (1 − y²)
    elu          z, or e^z − 1              1, or y + 1         0, or y + 1
    selu         λ z, or λ α (e^z − 1)      λ, or y + λ α       0, or y + λ α
    swish        z σ(z)                     σ + y (1 − σ)       σ (1 − σ) (2 + z − 2y)
    softplus     ln(1 + e^z)                σ = 1 − e^−y        σ (1 − σ)

swish: y' = σ + z σ (1 − σ) = σ + y (1 − σ), and y'' = σ (1 − σ) (2 + z (1 − 2σ)).
elu, selu: (α e^z)' = α e^z = y + α.
selu's λ and α make mean 0 and variance 1 a fixed point of a layer of LeCun weights.

At the kink of relu (and leaky_relu, selu) the derivative is that of the left side.
Second derivatives are for the contractive penalty of autoencoders.

The piecewise linear ones share a kernel that adds the offset in the same pass; the others are
NumPy's vectorised functions.

Sources: Clevert, Unterthiner, Hochreiter 2016 (elu); Klambauer et al. 2017 (selu);
Ramachandran, Zoph, Le 2017 (swish).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mfcore import validation
from mfcore.kernels import nn_leaky

KAPPA = 0.01                                              # of leaky_relu
LAMBDA, ALPHA = 1.0507009873554805, 1.6732632423543772    # of selu
OF_TWO = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Formula(NamedTuple):
    """One line of the table; slope and curvature are functions of (z, y)."""

    value: Callable[[np.ndarray], np.ndarray]
    slope: OF_TWO
    curvature: OF_TWO


def sigmoid(z: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + e^−z), from the exponential that cannot overflow."""
    e = np.exp(-np.abs(z))
    y: np.ndarray = np.where(z >= 0, 1, e) / (1 + e)
    return y


def _negative(z: np.ndarray) -> np.ndarray:
    """Return e^z − 1 for negative z, and 0 or −0 elsewhere."""
    e: np.ndarray = np.expm1(np.minimum(z, 0))
    return e


def _leaky(kappa: float) -> Formula:
    return Formula(lambda z: np.where(z > 0, z, z.dtype.type(kappa) * z),
                   lambda z, y: np.where(y > 0, y.dtype.type(1), y.dtype.type(kappa)),
                   lambda z, y: np.zeros_like(y))


def _swish_slope(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    s = sigmoid(z)
    slope: np.ndarray = s + y * (1 - s)
    return slope


def _swish_curvature(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    s = sigmoid(z)
    curvature: np.ndarray = s * (1 - s) * (2 + z - 2 * y)
    return curvature


def _softplus_curvature(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    s = sigmoid(z)
    curvature: np.ndarray = s * (1 - s)
    return curvature


FORMULAS: dict[str, Formula] = {
    "identity": _leaky(1.0),
    "relu": _leaky(0.0),
    "leaky_relu": _leaky(KAPPA),
    "sigmoid": Formula(sigmoid, lambda z, y: y * (1 - y), lambda z, y: y * (1 - y) * (1 - 2 * y)),
    "tanh": Formula(np.tanh, lambda z, y: 1 - y * y, lambda z, y: -2 * y * (1 - y * y)),
    "elu": Formula(lambda z: np.where(z > 0, z, _negative(z)),
                   lambda z, y: np.where(z > 0, 1, y + 1).astype(y.dtype),
                   lambda z, y: np.where(z > 0, 0, y + 1).astype(y.dtype)),
    "selu": Formula(lambda z: LAMBDA * np.where(z > 0, z, ALPHA * _negative(z)),
                    lambda z, y: np.where(z > 0, LAMBDA, y + LAMBDA * ALPHA).astype(y.dtype),
                    lambda z, y: np.where(z > 0, 0, y + LAMBDA * ALPHA).astype(y.dtype)),
    "swish": Formula(lambda z: z * sigmoid(z), _swish_slope, _swish_curvature),
    "softplus": Formula(lambda z: np.logaddexp(0, z, dtype=z.dtype),
                        lambda z, y: sigmoid(z), _softplus_curvature),
}
# κ of those that a kernel computes together with the offset.
KINKS = {"identity": 1.0, "relu": 0.0, "leaky_relu": KAPPA}


class Activation:
    """An activation by name, together with the offset before it: y = φ(a + b).

    Raises ValueError for an unknown name, and lists the known ones.
    """

    def __init__(self, name: str) -> None:
        self.name = validation.choice("activation", name, FORMULAS)
        self.formula = FORMULAS[name]

    def forward(self, A: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return y and z, shape (n, k), for A (n, k) (overwritten) and b (k,).

        Piecewise linear ones return y in place of z: their derivatives need only y.
        """
        if self.name in KINKS:
            nn_leaky.leaky_forward(A, b, KINKS[self.name])
            return A, A
        A += b
        return self.formula.value(A), A

    def backward(self, dY: np.ndarray, Y: np.ndarray, Z: np.ndarray
                 ) -> tuple[np.ndarray, np.ndarray]:
        """Return dz = dy φ'(z), shape (n, k), and db = Σ_rows dz, shape (k,)."""
        db = np.empty(Y.shape[1], Y.dtype)
        if self.name in KINKS:
            dZ = np.array(dY, Y.dtype, order="C")
            nn_leaky.leaky_backward(dZ, Y, KINKS[self.name], db)
            return dZ, db
        dZ = dY * self.formula.slope(Z, Y)
        np.sum(dZ, axis=0, out=db)
        return dZ, db
