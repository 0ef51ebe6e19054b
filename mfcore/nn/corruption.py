"""What training does to the stored cells of an input, so that a copy of it is not the answer.

    dropout   x → 0 or x / (1 − rate)                      `layers.Dropout`, on stored cells
    gaussian  x → x + σ ε,  ε ~ N(0, 1)
    salt      x → the least or the largest value, each with probability rate / 2
    hide      each cell is left out with probability `share`, and the loss knows which

All draw from the generator they are given, in the order of the cells.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from mfcore.nn.sparse import with_values


def gaussian(x: sp.csr_array, scale: float, random: np.random.Generator) -> sp.csr_array:
    """Return x with normal noise of standard deviation `scale` on its stored cells."""
    noise = random.standard_normal(x.nnz).astype(x.dtype)
    return with_values(x, x.data + x.dtype.type(scale) * noise)


def salt(x: sp.csr_array, rate: float, bounds: tuple[float, float],
         random: np.random.Generator) -> sp.csr_array:
    """Return x with cells set to one of two bounds, at random."""
    drawn = random.random(x.nnz)
    low, high = (x.dtype.type(bound) for bound in bounds)
    return with_values(x, np.where(drawn < rate / 2, low, np.where(drawn < rate, high, x.data)))


def hide(x: sp.csr_array, share: float, random: np.random.Generator
         ) -> tuple[sp.csr_array, np.ndarray]:
    """Return x without the hidden cells, and which of its cells are hidden, bool (nnz,)."""
    hidden = random.random(x.nnz) < share
    kept = ~hidden
    indptr = np.concatenate([[0], np.cumsum(kept)])[x.indptr].astype(x.indptr.dtype)
    return sp.csr_array((x.data[kept], x.indices[kept], indptr), shape=x.shape), hidden
