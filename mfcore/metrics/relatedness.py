"""Relatedness: how likely it is that a user has anything to do with an item.

From a user go to an item that the user rated, on to anyone who rated that, and on to
anything they rated; r_ui measures how many such walks end at item i:

    r = X C⁻¹ Xᵀ D⁻¹ X           x_ui = 1 where a rating is stored, else 0: values do not count
    D = diag(n_u + mean n_u),  C = diag(n_i + mean n_i)            n: numbers of ratings

With X 1 = D 1 and Xᵀ 1 = C 1, hence without the means, r 1 = X 1: then r_ui / n_u is a
probability over items.  The means let a walk end early, so that a lone user with a lone
item is not as sure of it as an audience is of its catalogue.

    r = D^½ Y YᵀY C^½,  Y = D^−½ X C^−½                                    (put Y in)
      ≈ D^½ Y V S² Vᵀ C^½          (YᵀY ≈ V S² Vᵀ, best of rank k: Eckart and Young 1936)
      = X C^−½ V S² Vᵀ C^½                                                 (take Y out)
    r_u = x_u A Bᵀ,  A = C^−½ V S²,  B = C^½ V

with V the first k right singular vectors of Y and S the singular values.  What a user
rated is all that r_u takes from the user, so a new row needs no fold-in.  Audiences
without a common item have singular vectors of their own and r = 0 between them.

The plain singular vectors of X would serve the busiest audience alone: those of a quiet
one drown in its noise, as n_u n_i sets their scale.  And V Vᵀ in the place of V S² Vᵀ, the
whole-matrix factorization of Y, dips below 0 between users and items that have much in
common.

V comes from orthogonal iteration on a few vectors more than k: V ← orth(YᵀY V).

Sources: Xin, Mayoraz, Pham, Lakshmanan, Anderson (RecSys 2017) ask for a model of whether
there is any interaction at all; Qin and Rohe (2013) for the means in C and D.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.ratings import Ratings
from mfcore.parallel import Pool

FACTORS, BEYOND, ITERATIONS = 32, 8, 12


class Relatedness:
    """Hold the vectors A and B of all items, learned from which cells are stored.

    Parameters
    ----------
    ratings : Ratings, shape (n_users, n_items)
        Their values do not matter.
    n_factors : int >= 1
        k; no more than there are users or items are used.
    n_threads : int >= 1 or None
        The result does not depend on it.
    """

    def __init__(self, ratings: Ratings, n_factors: int = FACTORS, *,
                 n_threads: int | None = None) -> None:
        k = min(validation.integer("n_factors", n_factors, low=1), *ratings.shape)
        users, items = (_scaled(n) for n in _counts(ratings))
        Y = _weighted(ratings.by_user, users, items)
        with Pool(n_threads) as pool:
            V, S = _leading_vectors(Y, _weighted(ratings.by_item, items, users), k, pool)
        self.A, self.B = V * S ** 2 * items[:, None], V / items[:, None]

    def scorer(self, cells: sp.csr_array) -> RelatednessScorer:
        """Return the scorer of users of whom these cells are known, shape (n, n_items)."""
        return RelatednessScorer(_pattern(cells) @ self.A, self.B, np.diff(cells.indptr) > 0)


class RelatednessScorer:
    """r of blocks of rows against all items: a `Scorer`; `known`: rows with a rating."""

    def __init__(self, P: np.ndarray, B: np.ndarray, known: np.ndarray) -> None:
        self.P, self.B, self.known = P, B, known
        self.n_rows, self.n_items = len(P), len(B)

    def block(self, start: int, stop: int) -> np.ndarray:
        """Return r of rows start..stop, float64, shape (stop - start, n_items)."""
        related: np.ndarray = self.P[start:stop] @ self.B.T
        return related


def _counts(ratings: Ratings) -> tuple[np.ndarray, np.ndarray]:
    return np.diff(ratings.by_user.indptr), np.diff(ratings.by_item.indptr)


def _scaled(counts: np.ndarray) -> np.ndarray:
    """Return d^−½; the mean is positive as long as there is a rating at all."""
    scaled: np.ndarray = (counts + max(counts.mean(), np.finfo(float).tiny)) ** -0.5
    return scaled


def _pattern(cells: sp.csr_array) -> sp.csr_array:
    return sp.csr_array((np.ones(cells.nnz), cells.indices, cells.indptr), shape=cells.shape)


def _weighted(cells: sp.csr_array, rows: np.ndarray, columns: np.ndarray) -> sp.csr_array:
    """Return 1 at the stored cells, times the weights of their rows and columns."""
    values = np.repeat(rows, np.diff(cells.indptr)) * columns[cells.indices]
    return sp.csr_array((values, cells.indices, cells.indptr), shape=cells.shape)


def _leading_vectors(Y: sp.csr_array, Yt: sp.csr_array, k: int,
                     pool: Pool) -> tuple[np.ndarray, np.ndarray]:
    """Return the k first right singular vectors of Y, (n_items, k), and values, (k,)."""
    width = min(k + BEYOND, *Y.shape)
    V = np.random.default_rng(0).normal(size=(Y.shape[1], width))
    for _ in range(ITERATIONS):
        V = np.linalg.qr(_product(Yt, _product(Y, V, pool), pool))[0]
    # Within the span of V, the singular vectors of Y are those of the small Y V.
    _, S, Z = np.linalg.svd(_product(Y, V, pool), full_matrices=False)
    return V @ Z[:k].T, S[:k]


def _product(Y: sp.csr_array, X: np.ndarray, pool: Pool) -> np.ndarray:
    """Return Y @ X, rows in chunks on the pool."""
    out = np.empty((Y.shape[0], X.shape[1]))

    def rows(start: int, stop: int) -> None:
        out[start:stop] = Y[start:stop] @ X

    pool.over_rows(rows, Y.indptr)
    return out
