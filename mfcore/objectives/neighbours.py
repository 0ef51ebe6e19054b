"""Similarities of items that co-occur: cosines with shrinkage, and the walk RP3β.

Both are one formula on X (n_users, n_items), of values >= 0, with other L, R, a, b and shrink:

    T_ij = (L R)_ij / (a_i b_j + h)        L (n_items, n_users), R (n_users, n_items); T_ii = 0

Cosine.  L = Xᵀ, R = X, a = b = ‖x_i‖, and h > 0 pulls pairs of few common users to 0:

    T_ij = x_i·x_j / (‖x_i‖ ‖x_j‖ + h)

RP3β.  Three steps of a random walk from a user: to an item j of its row, to a user v of that item,
to an item i of v.  Steps have probabilities x_uj / d_u, x_vj / d_j, x_vi / d_v; each to the power
α, and a popular end is divided by d_i^β:

    s_ui = Σ_j (x_uj / d_u)^α Σ_v (x_vj / d_j)^α (x_vi / d_v)^α / d_i^β

    S_ji = Σ_v (x_vj / d_j)^α (x_vi / d_v)^α / d_i^β                           s_u = x_u S

(d_u^α scales all scores of a user, so that it leaves the order; it is left out, as in Ferrari
Dacrema et al.)  α = 1, β = 0 is the walk itself.

Weights of cells, before the cosine (w multiplies x_ui; N users, n_i of them with item i):

    "tf-idf"   ln(N / n_i) √x                      an item that all have says nothing
    "bm25"     ln((N − n_i + ½) / (n_i + ½) + 1) x (K + 1) / (x + K (1 − B + B d_u / mean d))
               users with long rows count less; K = 1.2, B = 0.75

Sources: Aiolli 2013 (cosines of binary rows, shrinkage: Bell, Koren 2007); Paudel, Christoffel,
Newell, Bernstein 2017 (RP3β, after Cooper et al. 2014, P3α); Robertson, Walker 1994 (BM25).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

K, B = 1.2, 0.75


@dataclass(frozen=True)
class Similarity:
    """T: L and R as CSR, a and b, and h, in float64: rounding must not decide who is nearest."""

    L: sp.csr_array
    R: sp.csr_array
    a: np.ndarray
    b: np.ndarray
    shrink: float = 0.0


def _powered(d: np.ndarray, exponent: float) -> np.ndarray:
    return np.asarray(np.power(d, exponent, where=d > 0, out=np.zeros(len(d))))


def _made(X: sp.csr_array, data: np.ndarray) -> sp.csr_array:
    return sp.csr_array((data.astype(np.float64), X.indices, X.indptr), shape=X.shape)


def by_item(X: sp.csr_array) -> sp.csr_array:
    """Return Xᵀ as CSR."""
    return sp.csr_array(X.T.tocsr())


def cosine(X: sp.csr_array, shrink: float) -> Similarity:
    """Return cosines of the columns of X, shrunken."""
    squares = np.bincount(X.indices, X.data.astype(float) ** 2, minlength=X.shape[1])
    norms, X = np.sqrt(squares), _made(X, X.data)
    return Similarity(by_item(X), X, norms, norms, shrink)


def walk(X: sp.csr_array, alpha: float, beta: float) -> Similarity:
    """Return RP3β, rows as the items j that the walk starts from."""
    of_user = np.asarray(X.sum(axis=1, dtype=np.float64)).ravel()
    of_item = np.bincount(X.indices, X.data.astype(float), minlength=X.shape[1])
    rows = np.repeat(_powered(of_user, -1.0), np.diff(X.indptr))
    to_item = _made(X, (X.data * rows) ** alpha)
    to_user = by_item(_made(X, (X.data * _powered(of_item, -1.0)[X.indices]) ** alpha))
    return Similarity(to_user, to_item, np.ones(X.shape[1]), _powered(of_item, beta))


def weighted(X: sp.csr_array, weighting: str) -> sp.csr_array:
    """Return X with weights of cells: "none", "tf-idf" or "bm25"."""
    if weighting == "none":
        return X
    n = np.bincount(X.indices, X.data > 0, minlength=X.shape[1])
    if weighting == "tf-idf":
        idf = np.log(np.maximum(X.shape[0], 1) / np.maximum(n, 1))
        return _made(X, np.sqrt(X.data) * idf[X.indices])
    idf = np.log((X.shape[0] - n + 0.5) / (n + 0.5) + 1)
    length = np.asarray(X.sum(axis=1, dtype=np.float64)).ravel()
    norm = K * (1 - B + B * length / max(length.mean(), 1e-300))
    rows = np.repeat(norm, np.diff(X.indptr))
    return _made(X, idf[X.indices] * X.data * (K + 1) / np.maximum(X.data + rows, 1e-300))
