"""Linear layers with piecewise linear activations, one after another, in one pass each way.

    h_l = φ_l(h_{l−1} W_l + b_l)       φ_l(z) = z where z > 0, else κ_l z;  h_0 is given

Products are BLAS's.  A block of some hundred rows stays in a core's cache from layer to layer,
and other threads run on while it goes through: nothing of this waits for the interpreter.

h, d : tuples of ndarray, L + 1 blocks (n, k_l): values, and the gradients by them
W, b, dW, db : tuples of L arrays, (k_{l−1}, k_l) and (k_l,)
kappa : ndarray, shape (L,)
"""

from __future__ import annotations

import numpy as np
import scipy.linalg  # noqa: F401  Numba's products load its BLAS: before a pool holds threads
from numba import njit

from mfcore.kernels.options import INLINE, KERNEL


@njit(**INLINE)
def _activate(A: np.ndarray, b: np.ndarray, slope: float) -> None:
    """Replace A by φ(A + b)."""
    for u in range(A.shape[0]):
        for f in range(A.shape[1]):
            z = A[u, f] + b[f]
            A[u, f] = max(z, slope * z) if slope <= 1 else min(z, slope * z)


@njit(**INLINE)
def _slope(dY: np.ndarray, Y: np.ndarray, slope: float, db: np.ndarray) -> None:
    """Replace dY by dz = dy φ'(z), and write Σ_rows dz to db."""
    one, zero = dY.dtype.type(1), dY.dtype.type(0)
    db[:] = 0
    for u in range(dY.shape[0]):
        for f in range(dY.shape[1]):
            dz = dY[u, f] * (one if Y[u, f] > zero else slope)
            dY[u, f] = dz
            db[f] += dz


@njit(**KERNEL)
def stack_forward(W: tuple[np.ndarray, ...], b: tuple[np.ndarray, ...], kappa: np.ndarray,
                  h: tuple[np.ndarray, ...]) -> None:
    """Fill h[1:] from h[0]."""
    for l in range(len(W)):
        np.dot(h[l], W[l], h[l + 1])
        _activate(h[l + 1], b[l], kappa[l])


@njit(**KERNEL)
def stack_backward(W: tuple[np.ndarray, ...], kappa: np.ndarray, h: tuple[np.ndarray, ...],
                   d: tuple[np.ndarray, ...], dW: tuple[np.ndarray, ...],
                   db: tuple[np.ndarray, ...]) -> None:
    """Fill d[0], dW and db from d[-1], which is overwritten; dW without rows stay so."""
    for l in range(len(W) - 1, -1, -1):
        _slope(d[l + 1], h[l + 1], kappa[l], db[l])
        if dW[l].size > 0:
            np.dot(h[l].T, d[l + 1], dW[l])
        np.dot(d[l + 1], W[l].T, d[l])
