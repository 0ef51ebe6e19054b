"""Offset and piecewise linear activation in one pass over a block.

    y = z where z > 0, else κ z,    z = a + b        κ = 0: relu; κ = 1: identity
    dz = dy where y > 0, else κ dy                   y and z have the same sign where κ > 0,
    db = Σ_rows dz                                   and y = 0 for z <= 0 where κ = 0
"""

from __future__ import annotations

import numpy as np
from numba import njit

from mfcore.kernels.options import KERNEL


@njit(**KERNEL)
def leaky_forward(A: np.ndarray, b: np.ndarray, kappa: float) -> None:
    """Replace A (n, k) by y, in place; b has shape (k,)."""
    slope = A.dtype.type(kappa)
    for u in range(A.shape[0]):
        a = A[u]
        for f in range(b.size):
            z = a[f] + b[f]
            a[f] = max(z, slope * z) if slope <= 1 else min(z, slope * z)


@njit(**KERNEL)
def leaky_backward(dY: np.ndarray, Y: np.ndarray, kappa: float, out: np.ndarray,
                   db: np.ndarray) -> None:
    """Write dz to `out`, shape (n, k), and its sum over rows to `db`, shape (k,)."""
    slope = out.dtype.type(kappa)
    one, zero = out.dtype.type(1), out.dtype.type(0)
    db[:] = 0
    for u in range(Y.shape[0]):
        dy, y, dz = dY[u], Y[u], out[u]
        for f in range(db.size):
            g = dy[f] * (one if y[f] > zero else slope)
            dz[f] = g
            db[f] += g
