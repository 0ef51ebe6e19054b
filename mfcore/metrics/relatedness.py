"""Relatedness: how likely it is that a user has anything to do with an item.

Walk from a user to an item that the user rated, from there to any user who rated it, and
on to an item of theirs; r_ui measures how many such walks end at item i:

    r = X C⁻¹ Xᵀ D⁻¹ X           x_ui = 1 where a rating is stored, else 0; its value is ignored
    D = diag(n_u + mean n_u),  C = diag(n_i + mean n_i)            n: numbers of ratings

With X 1 = D 1 and Xᵀ 1 = C 1, hence without the means, r 1 = X 1: then r_ui / n_u is a
probability over items.  The means let a walk end early, so that a lone user with a lone
item is not as certain of it as an audience is of its catalogue.

    r = D^½ Y YᵀY C^½,  Y = D^−½ X C^−½                                    (put Y in)
      ≈ D^½ Y V S² Vᵀ C^½          (YᵀY ≈ V S² Vᵀ, best of rank k: Eckart and Young 1936)
      = X C^−½ V S² Vᵀ C^½                                                 (take Y out)
    r_u = x_u A Bᵀ,  A = C^−½ V S²,  B = C^½ V

with V the first k right singular vectors of Y and S the singular values.  r_u depends on the
user through x_u alone, so a new row needs no fold-in.  Audiences without a common item have
singular vectors of their own and r = 0 between them.

The plain singular vectors of X would describe the busiest audience only: those of a quiet one
drown in its noise, as n_u n_i sets their scale.  Items that no walk reaches get small r of
either sign from the truncation to rank k, so r below a thousandth of the user's largest is 0.

V comes from filtered subspace iteration (Zhou, Saad 2006): a Chebyshev polynomial of YᵀY damps
the part of slightly more than k vectors that lies outside the wanted space.

Sources: Xin, Mayoraz, Pham, Lakshmanan, Anderson (RecSys 2017), a model of whether there is any
interaction; Qin and Rohe (2013), the means in C and D.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.ratings import Ratings
from mfcore.kernels import ranks as kernels
from mfcore.metrics.topk import Masks, masked_block
from mfcore.parallel import Pool

FACTORS, BEYOND = 32, 8     # k, and the vectors iterated in addition
ROUNDS, DEGREE = 3, 8
LEAST = 1e-3                # eigenvalues of YᵀY lie in [0, 1]
NOTHING = 1e-3              # share of a user's largest r below which there is no relation

Times = Callable[[np.ndarray], np.ndarray]


class Relatedness:
    """Hold the vectors A and B of all items, learned from which cells are stored.

    Parameters
    ----------
    ratings : Ratings, shape (n_users, n_items)
        Their values do not matter.
    n_factors : int >= 1
        k; at most the number of users and the number of items are used.
    n_threads : int >= 1 or None
        The result does not depend on it.
    """

    def __init__(self, ratings: Ratings, n_factors: int = FACTORS, *,
                 n_threads: int | None = None) -> None:
        k = min(validation.integer("n_factors", n_factors, low=1), *ratings.shape)
        users, items = (_scaled(np.diff(cells.indptr))
                        for cells in (ratings.by_user, ratings.by_item))
        Y = _weighted(ratings.by_user, users, items)
        with Pool(n_threads) as pool:
            values, V = _leading_vectors(Y, _weighted(ratings.by_item, items, users), k, pool)
        self.A, self.B = V * values * items[:, None], V / items[:, None]

    def scorer(self, cells: sp.csr_array) -> RelatednessScorer:
        """Return the scorer of users with these known cells, shape (n, n_items)."""
        X = sp.csr_array((np.ones(cells.nnz), cells.indices, cells.indptr), shape=cells.shape)
        return RelatednessScorer(X @ self.A, self.B, np.diff(cells.indptr) > 0)


class RelatednessScorer:
    """r of blocks of rows for all items: a `Scorer`; `known` marks rows with a rating."""

    def __init__(self, P: np.ndarray, B: np.ndarray, known: np.ndarray) -> None:
        self.P, self.B, self.known = P, B, known
        self.n_rows, self.n_items = len(P), len(B)

    def block(self, start: int, stop: int) -> np.ndarray:
        """Return r of rows start..stop, float64, shape (stop - start, n_items)."""
        related: np.ndarray = self.P[start:stop] @ self.B.T
        related[related < NOTHING * related.max(axis=1, initial=0.0, keepdims=True)] = 0.0
        return related

    def quantiles(self, scores: np.ndarray, items: np.ndarray, masks: Masks, start: int
                  ) -> tuple[np.ndarray, np.ndarray]:
        """Return q_s and q_r of recommended items, shape (n, k) each: see metrics/folding.py.

        Parameters
        ----------
        scores : ndarray, shape (n, n_items)
            Of rows from `start` on; -inf for items that may not be recommended.
        items : ndarray of int, shape (n, k)
            -1 marks a missing place: NaN in the result, as is q_r of a user without ratings.
        masks : Masks
            Those of the scores.
        """
        stop = start + len(scores)
        q_r = _quantiles(masked_block(self, masks, start, stop), items)
        q_r[~self.known[start:stop]] = np.nan
        return _quantiles(scores, items), q_r


def _quantiles(values: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Return the quantiles of the items' values in their rows; ties count one half."""
    out = np.empty(items.shape)
    rows = np.arange(len(values))
    for place, columns in enumerate(items.T):
        midrank, found, candidates = np.zeros((3, len(values)))
        kernels.midrank_sums(values, rows, rows + 1, np.maximum(columns, 0), midrank, found,
                             candidates)
        out[:, place] = 1 - (midrank - 0.5) / np.maximum(candidates, 1)
    out[items < 0] = np.nan
    return out


def _scaled(counts: np.ndarray) -> np.ndarray:
    """Return d^−½ with d = n + mean n, kept above 0 where there are no ratings at all."""
    scaled: np.ndarray = (counts + max(counts.mean(), np.finfo(float).tiny)) ** -0.5
    return scaled


def _weighted(cells: sp.csr_array, rows: np.ndarray, columns: np.ndarray) -> sp.csr_array:
    """Return 1 at the stored cells, times the weights of their rows and columns."""
    values = np.repeat(rows, np.diff(cells.indptr)) * columns[cells.indices]
    return sp.csr_array((values, cells.indices, cells.indptr), shape=cells.shape)


def _leading_vectors(Y: sp.csr_array, Yt: sp.csr_array, k: int,
                     pool: Pool) -> tuple[np.ndarray, np.ndarray]:
    """Return the k largest eigenvalues of YᵀY, (k,), and their vectors, (n_items, k)."""
    def times(X: np.ndarray) -> np.ndarray:
        return _product(Yt, _product(Y, X, pool), pool)

    random = np.random.default_rng(0)
    V = random.normal(size=(Y.shape[1], min(k + BEYOND, *Y.shape)))
    values, V = _within(times, times(V))
    for _ in range(ROUNDS):
        values, V = _within(times, _filtered(times, V, max(values[-1], LEAST)))
    return values[:k], V[:, :k]


def _within(times: Times, V: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return eigenvalues, in decreasing order, and vectors of YᵀY within the span of V."""
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
    """Return Y @ X, computed in chunks of rows on the pool."""
    out = np.empty((Y.shape[0], X.shape[1]))

    def rows(start: int, stop: int) -> None:
        out[start:stop] = Y[start:stop] @ X

    pool.over_rows(rows, Y.indptr)
    return out
