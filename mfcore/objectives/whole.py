"""Sums over all cells of a matrix of scores, from the Grams of its two sides.

With P̂ = [P | 1 | β] and Q̂ = [Q | 1 | γ], 1 of one side meeting the bias of the other:

    Σ_all s² = tr( (P̂ᵀP̂)(Q̂ᵀQ̂) )                          (objectives/quadratic.py)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mfcore.parallel import Pool, gram


class WholeMatrix(NamedTuple):
    """w0-weighted sums over all columns: A0 (d, d), c0 (d,), and c1 (d,) times a fixed β."""

    A0: np.ndarray
    c0: np.ndarray
    c1: np.ndarray


def whole_matrix(G: np.ndarray, d: int, common: np.ndarray | float = 0.0) -> WholeMatrix:
    """Return the sums of a row system from w0 times the Gram of [Q | 1 | γ]."""
    k = len(G) - 2
    return WholeMatrix(G[:d, :d] + common, -G[:d, k + 1], -G[:d, k])


def met(left: np.ndarray, right: np.ndarray) -> float:
    """Return tr((P̂ᵀP̂)(Q̂ᵀQ̂)) from the Grams of [P | 1 | β] and [Q | 1 | γ]."""
    k = len(left) - 2
    swap = np.r_[:k, k + 1, k]          # β meets the 1 of the items, the users' 1 meets γ
    return float(np.sum(left * right[np.ix_(swap, swap)]))


def augmented_gram(X: np.ndarray, bias: np.ndarray, pool: Pool,
                   dtype: type | None = None) -> np.ndarray:
    """Return the Gram of [X | 1 | bias], float64, shape (k + 2, k + 2)."""
    return gram(X, pool, beside=(np.broadcast_to(X.dtype.type(1), len(X)), bias), dtype=dtype)
