"""Counting sort: the stable order of small integer keys in two passes."""

from __future__ import annotations

import numpy as np

from mfcore.compiled import njit
from mfcore.kernels.options import KERNEL


@njit(**KERNEL)
def counting_order(keys: np.ndarray, order: np.ndarray, starts: np.ndarray,
                   out: np.ndarray) -> None:
    """Write to `out` the entries of `order`, stably sorted by their keys.

    `starts`, shape (n_keys + 1,), must be zeros, and becomes the first place of each key: the
    row pointer of a CSR matrix whose rows are the keys.
    """
    for t in range(keys.size):
        starts[keys[t] + 1] += 1
    for key in range(1, starts.size):
        starts[key] += starts[key - 1]
    for t in range(order.size):
        key = keys[order[t]]
        out[starts[key]] = order[t]
        starts[key] += 1
    for key in range(starts.size - 1, 0, -1):
        starts[key] = starts[key - 1]
    starts[0] = 0
