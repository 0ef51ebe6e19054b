"""Offset and piecewise linear activation in one pass over a block, and whole layers of them.

    y = z where z > 0, else κ z,    z = a + b        κ = 0: relu; κ = 1: identity
    dz = dy where y > 0, else κ dy                   y and z have the same sign where κ > 0,
    db = Σ_rows dz                                   and y = 0 for z <= 0 where κ = 0

Layers one after another, h_j = φ_j(h_{j−1} W_j + b_j) for a given h_0, take one call each way.
Products are those of BLAS.  A block of some hundred rows stays in the cache of a core from layer
to layer, and never waits for the interpreter on its way.

h, d : tuples of n_layers + 1 blocks (n, k_j): values, and the gradients by them
W, b, dW, db : tuples of n_layers arrays, (k_{j−1}, k_j) and (k_j,)
kappa : ndarray, shape (n_layers,)
"""

from __future__ import annotations

import numpy as np

from mfcore.compiled import njit
from mfcore.kernels.options import KERNEL

Arrays = tuple[np.ndarray, ...]


@njit(**KERNEL)
def leaky_forward(A: np.ndarray, b: np.ndarray, kappa: float) -> None:
    """Replace A (n, k) by y, in place; b has shape (k,), and kappa is in [0, 1]."""
    slope = A.dtype.type(kappa)
    for u in range(A.shape[0]):
        a = A[u]
        for f in range(b.size):
            z = a[f] + b[f]
            a[f] = max(z, slope * z)


@njit(**KERNEL)
def leaky_backward(dY: np.ndarray, Y: np.ndarray, kappa: float, db: np.ndarray) -> None:
    """Replace dY (n, k) by dz, in place, and write its sum over rows to `db`, shape (k,)."""
    slope = dY.dtype.type(kappa)
    one, zero = dY.dtype.type(1), dY.dtype.type(0)
    db[:] = 0
    for u in range(Y.shape[0]):
        for f in range(Y.shape[1]):
            dz = dY[u, f] * (one if Y[u, f] > zero else slope)
            dY[u, f] = dz
            db[f] += dz


@njit(**KERNEL)
def layers_forward(W: Arrays, b: Arrays, kappa: np.ndarray, h: Arrays) -> None:
    """Fill h[1:] from h[0]."""
    for j in range(len(W)):
        np.dot(h[j], W[j], h[j + 1])
        leaky_forward(h[j + 1], b[j], kappa[j])


@njit(**KERNEL)
def layers_backward(W: Arrays, kappa: np.ndarray, h: Arrays, d: Arrays, dW: Arrays, db: Arrays
                    ) -> None:
    """Fill d[0], dW and db from d[-1], which is overwritten; an empty dW is skipped."""
    for j in range(len(W) - 1, -1, -1):
        leaky_backward(d[j + 1], h[j + 1], kappa[j], db[j])
        if dW[j].size > 0:
            np.dot(h[j].T, d[j + 1], dW[j])
        np.dot(d[j + 1], W[j].T, d[j])
