"""The factor model s_ui = P_u·Q_i + β_u + γ_i: its parameters, its scores, and their sums.

Σ_all s² needs no scores, only the Grams of both sides.  With P̂ = [P | 1 | β] and
Q̂ = [Q | 1 | γ], the 1 of one side meeting the bias of the other (objectives/quadratic.py):

    Σ_all s² = tr( (P̂ᵀP̂)(Q̂ᵀQ̂) )
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from mfcore.data.chunks import empty_beside
from mfcore.kernels import cells as kernels
from mfcore.objectives.scaling import score_rounding
from mfcore.parallel import Pool, gram, row_chunks

PAIRS = 65_536      # pairs scored in one task

# The blocks of one side: the vectors and biases of its rows, and those of its features.
Side = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass
class Factors:
    """A point of the parameter space: P (n_users, k), Q (n_items, k), β and γ.

    G, g and H, h are the vectors and biases of the features of users and of items, shapes
    (n_features, k) and (n_features,).  They are empty without features.
    """

    P: np.ndarray
    Q: np.ndarray
    beta: np.ndarray
    gamma: np.ndarray
    G: np.ndarray = field(default_factory=lambda: np.zeros((0, 1)))
    H: np.ndarray = field(default_factory=lambda: np.zeros((0, 1)))
    g: np.ndarray = field(default_factory=lambda: np.zeros(0))
    h: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def copy(self) -> Factors:
        """Return a copy that shares no memory; blocks mapped to a file are copied to a file."""
        made = {name: empty_beside(block, block.shape, block.dtype)
                for name, block in vars(self).items()}
        for name, block in vars(self).items():
            made[name][...] = block
        return type(self)(**made)

    @property
    def of_users(self) -> Side:
        """P, β, G, g."""
        return self.P, self.beta, self.G, self.g

    @property
    def of_items(self) -> Side:
        """Q, γ, H, h."""
        return self.Q, self.gamma, self.H, self.h


# ---------------------------------------------------------------------- scores

def cell_scores(indptr: np.ndarray, indices: np.ndarray, P: np.ndarray, Q: np.ndarray,
                beta: np.ndarray, gamma: np.ndarray, pool: Pool) -> np.ndarray:
    """Return s of every stored cell of a CSR pattern, shape (nnz,), in P's precision."""
    out = np.empty(len(indices), P.dtype)
    pool.over_rows(lambda lo, hi: kernels.cell_scores(indptr, indices, P, Q, beta, gamma, out,
                                                      lo, hi), indptr)
    return out


def pair_scores(rows: np.ndarray, columns: np.ndarray, P: np.ndarray, Q: np.ndarray,
                beta: np.ndarray, gamma: np.ndarray, pool: Pool) -> np.ndarray:
    """Return s of pairs (rows[t], columns[t]), float64, shape (n_pairs,).

    A row or column of -1 is unknown, and its side adds nothing.
    """
    out = np.empty(len(rows), np.float64)
    pool.map(lambda lo, hi: kernels.pair_scores(rows, columns, P, Q, beta, gamma, out, lo, hi),
             row_chunks(len(rows), PAIRS))
    return out


class LinearScorer:
    """Scores of blocks of rows against all items.

    Parameters
    ----------
    P, Q : ndarray, shapes (n_rows, k), (n_items, k)
    beta, gamma : ndarray, shapes (n_rows,), (n_items,), or None
    mean : float
        Added to all scores.
    longest : float or None
        The greatest length of a row of Q; None: it is computed.
    """

    def __init__(self, P: np.ndarray, Q: np.ndarray, beta: np.ndarray | None = None,
                 gamma: np.ndarray | None = None, mean: float = 0.0,
                 longest: float | None = None) -> None:
        self.P, self.Q, self.beta, self.gamma, self.mean = P, Q, beta, gamma, mean
        self.longest = float(lengths(Q).max(initial=0)) if longest is None else longest
        self.n_rows, self.n_items = len(P), len(Q)

    def block(self, start: int, stop: int) -> np.ndarray:
        """Return s of rows start..stop, shape (stop - start, n_items)."""
        scores: np.ndarray = self.P[start:stop] @ self.Q.T
        if self.gamma is not None:
            scores += self.gamma
        if self.beta is not None:
            scores += (self.beta[start:stop, None] + self.mean).astype(scores.dtype)
        elif self.mean:
            scores += scores.dtype.type(self.mean)
        return scores

    def cells(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return s of cells, each computed alone: the rounded scores of `pair_scores`."""
        out = np.empty(len(rows))
        kernels.pair_scores(rows, columns, self.P, self.Q, *self._biases, out, 0, len(rows))
        return (out + self.mean).astype(self._real)

    def linear(self) -> LinearScorer:
        """Return the scorer itself."""
        return self

    def moved(self, change: Callable[[LinearScorer], LinearScorer]) -> LinearScorer:
        """Return what a change makes of it."""
        return change(self)

    def of_items(self, columns: np.ndarray) -> LinearScorer:
        """Return a scorer of some items."""
        gamma = None if self.gamma is None else self.gamma[columns]
        return LinearScorer(self.P, self.Q[columns], self.beta, gamma, self.mean, self.longest)

    def rounding(self, start: int, stop: int) -> np.ndarray:
        """Return how far s of a block may be from s of its cells, shape (stop - start,)."""
        return self._rounding[start:stop]

    @cached_property
    def _rounding(self) -> np.ndarray:
        size = lengths(self.P) * self.longest + abs(self.mean)
        if self.beta is not None:
            size += np.abs(self.beta)
        if self.gamma is not None:
            size += np.abs(self.gamma).max(initial=0)
        return score_rounding(size, self.P.shape[1], self._real)

    @cached_property
    def _real(self) -> np.dtype:
        return np.result_type(self.P, self.Q)

    @cached_property
    def _biases(self) -> tuple[np.ndarray, np.ndarray]:
        return (np.zeros(self.n_rows, self._real) if self.beta is None else self.beta,
                _no_bias(self.n_items, self._real) if self.gamma is None else self.gamma)


@lru_cache(2)
def _no_bias(n: int, dtype: np.dtype) -> np.ndarray:
    """Return zeros, made once: for one request they would cost as much as its list."""
    return np.zeros(n, dtype)


def lengths(X: np.ndarray) -> np.ndarray:
    """Return ‖x‖ of each row, float64, shape (n,); it does not depend on the other rows."""
    found: np.ndarray = kernels.row_lengths(X)
    return found


def unit_rows(X: np.ndarray) -> np.ndarray:
    """Return the rows of X divided by their lengths; zero rows stay zero."""
    length = lengths(X)
    return (X / np.where(length > 0, length, 1.0)[:, None]).astype(X.dtype, copy=False)


# -------------------------------------------------------------- sums over all cells

class WholeMatrix(NamedTuple):
    """Sums over all columns, times w0: A0 (d, d), c0 (d,), and c1 (d,) for a fixed β."""

    A0: np.ndarray
    c0: np.ndarray
    c1: np.ndarray


def whole_matrix(G: np.ndarray, d: int, common: np.ndarray | float = 0.0) -> WholeMatrix:
    """Return the sums of a row system from w0 times the Gram of [Q | 1 | γ]."""
    k = len(G) - 2
    return WholeMatrix(G[:d, :d] + common, -G[:d, k + 1], -G[:d, k])


def met(left: np.ndarray, right: np.ndarray) -> float:
    """Return Σ_all s² = tr((P̂ᵀP̂)(Q̂ᵀQ̂)) from the Grams of [P | 1 | β] and [Q | 1 | γ]."""
    k = len(left) - 2
    swap = np.r_[:k, k + 1, k]          # β meets the 1 of the items, the users' 1 meets γ
    return float(np.sum(left * right[np.ix_(swap, swap)]))


def augmented_gram(X: np.ndarray, bias: np.ndarray, pool: Pool,
                   dtype: type | None = None) -> np.ndarray:
    """Return the Gram of [X | 1 | bias], float64, shape (k + 2, k + 2)."""
    return gram(X, pool, beside=(np.broadcast_to(X.dtype.type(1), len(X)), bias), dtype=dtype)
