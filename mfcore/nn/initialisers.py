"""How weights start: so that signals neither fade nor grow from layer to layer.

For z_j = Σ_i x_i W_ij over n_in inputs, with x and W independent and W of mean 0:

    Var z = n_in · Var W · E x²                            forwards
    Var dx = n_out · Var W · Var dz                        backwards, the transpose

LeCun keeps Var z = E x² (right where φ is the identity around 0, and for selu):

    Var W = 1 / n_in
Glorot wants both directions, and takes the harmonic mean of the two answers (tanh, sigmoid):

    Var W = 2 / (n_in + n_out)
He corrects for relu, which makes E y² = ½ Var z of a symmetric z:

    Var W = 2 / n_in

Numbers are uniform on ±√(3 Var W), which has that variance, and have no outliers.

Sources: LeCun, Bottou, Orr, Müller 1998; Glorot, Bengio 2010 (eq. 16); He, Zhang, Ren, Sun
2015 (eq. 10).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

VARIANCES: dict[str, Callable[[int, int], float]] = {
    "lecun": lambda n_in, n_out: 1 / n_in,
    "glorot": lambda n_in, n_out: 2 / (n_in + n_out),
    "he": lambda n_in, n_out: 2 / n_in,
}
# What suits an activation; "glorot" where nothing is said.
SUITS = {"relu": "he", "leaky_relu": "he", "elu": "he", "selu": "lecun", "swish": "he"}


def weights(n_in: int, n_out: int, kind: str, random: np.random.Generator | None,
            dtype: np.dtype) -> np.ndarray:
    """Return W, shape (n_in, n_out), uniform with the variance of `kind`.

    `random` is None: zeros that take no memory, for weights that are about to be replaced.
    """
    if random is None:
        return np.broadcast_to(np.zeros((), dtype), (n_in, n_out))
    bound = math.sqrt(3 * VARIANCES[kind](max(n_in, 1), max(n_out, 1)))
    return random.uniform(-bound, bound, (n_in, n_out)).astype(dtype)


def table(n_rows: int, k: int, scale: float, random: np.random.Generator, dtype: np.dtype
          ) -> np.ndarray:
    """Return rows of normal numbers with standard deviation `scale`, shape (n_rows, k)."""
    return (scale * random.standard_normal((n_rows, k))).astype(dtype)
