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
one drown in its noise, as n_u n_i sets their scale.  What rank k leaves of no walk at all
is small and of either sign; so what is below a thousandth of the user's largest r is 0.

V comes from iteration with a filter (Zhou, Saad 2006): of a block of vectors, slightly more
than k, those outside the wanted space are damped by a Chebyshev polynomial of YᵀY.

Sources: Xin, Mayoraz, Pham, Lakshmanan, Anderson (RecSys 2017) ask for a model of whether
there is any interaction at all; Qin and Rohe (2013) for the means in C and D.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.ratings import Ratings
from mfcore.parallel import Pool

FACTORS, BEYOND = 32, 8
ROUNDS, DEGREE = 3, 8
LEAST = 1e-3                # eigenvalues of YᵀY lie in [0, 1]
# Of a user's largest r: what is smaller counts as no relation.
NOTHING = 1e-3

Times = Callable[[np.ndarray], np.ndarray]


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
            values, V = _leading_vectors(Y, _weighted(ratings.by_item, items, users), k, pool)
        self.A, self.B = V * values * items[:, None], V / items[:, None]

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
        related[related < NOTHING * related.max(axis=1, initial=0.0, keepdims=True)] = 0.0
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
    """Return the k first eigenvectors of YᵀY, shape (n_items, k), and its eigenvalues, (k,)."""
    def times(X: np.ndarray) -> np.ndarray:
        return _product(Yt, _product(Y, X, pool), pool)

    random = np.random.default_rng(0)
    V = random.normal(size=(Y.shape[1], min(k + BEYOND, *Y.shape)))
    values, V = _within(times, times(V))
    for _ in range(ROUNDS):
        values, V = _within(times, _filtered(times, V, max(values[-1], LEAST)))
    return values[:k], V[:, :k]


def _within(times: Times, V: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return eigenvalues, falling, and vectors of YᵀY within the span of V."""
    V = np.linalg.qr(V)[0]
    values, Z = np.linalg.eigh(V.T @ times(V))
    return values[::-1].clip(0), V @ Z[:, ::-1]


def _filtered(times: Times, V: np.ndarray, edge: float) -> np.ndarray:
    """Return T(2 YᵀY / edge − 1) V: Chebyshev's T stays in [−1, 1] for eigenvalues in
    [0, edge] and grows fast beyond."""
    def step(X: np.ndarray) -> np.ndarray:
        moved: np.ndarray = (2 / edge) * times(X) - X
        return moved

    before, now = V, step(V)
    for _ in range(DEGREE - 1):
        before, now = now, 2 * step(now) - before
    return now


def _product(Y: sp.csr_array, X: np.ndarray, pool: Pool) -> np.ndarray:
    """Return Y @ X, rows in chunks on the pool."""
    out = np.empty((Y.shape[0], X.shape[1]))

    def rows(start: int, stop: int) -> None:
        out[start:stop] = Y[start:stop] @ X

    pool.over_rows(rows, Y.indptr)
    return out
