"""An autoencoder of items' rows, seen from the users: linear in the last hidden layer.

Item i has h_i = decoder(encoder(row_i)), and output u its weights W_u and offset c_u:

    s_ui = B_ui + scale (h_i·W_u + c_u) = B_ui + [scale W_u | scale c_u]·[h_i | 1]

so that users and items have vectors, as in a factorization.  A new user's are the minimum of
what it adds to the training formula, with all h_i as they are:

    Σ_known w (t − h_i·W_u − c_u)² + λ ‖W_u‖²
    (HᵀwH + Λ) [W_u | c_u] = Hᵀ w t         H rows [h_i | 1]; Λ = λ, and 0 for the offset
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore.data.ratings import Ratings
from mfcore.metrics.fitted import Folded, NewRows
from mfcore.models.autoencoders.core import codes
from mfcore.models.autoencoders.network import corrupted, offsets, told
from mfcore.models.fitted import Linear, answered_unless
from mfcore.nn.autoencoder import Plain
from mfcore.parallel import Pool, row_chunks

# Items decoded together; what keeps the offset's equation solvable for few ratings.
ROWS, LEAST = 2048, 1e-6


def vectors(model: Any, network: Plain, ratings: Ratings
            ) -> Callable[[Pool], tuple[np.ndarray, np.ndarray]]:
    """Return a function that returns the vectors of users and of items."""
    X = corrupted(model, ratings).t
    return lambda pool: factors(network, X, model.scale_, pool)


def answers(model: Any) -> Linear:
    """Return the answers of the fitted model: linear in the vectors of users."""
    known, reg, H = offsets(model), model.reg, model.item_factors_

    def fold(new: NewRows, pool: Pool) -> Folded:
        ratings = new.known(len(H))
        bias = known.row_bias(ratings)
        t = known.scaled(ratings, bias)
        return Folded(solved_rows(t, ratings.weights, H, reg, known.scale, pool), bias)

    return Linear(model.users_, model.items_, model.global_mean_, fold,
                  unanswered=answered_unless(model))


def item_codes(model: Any) -> np.ndarray:
    """Return the codes of the items' rows, shape (n_items, k)."""
    with Pool(model.n_threads) as pool:
        return codes(model.learned(), corrupted(model, told(model, model.ratings_)).t, pool)


def factors(network: Plain, X: sp.csr_array, scale: float, pool: Pool
            ) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors of users (n_users, h + 1) and items (n_items, h + 1) for items' rows X."""
    H = np.concatenate([network.decode(network.encode(X[start:stop], pool), pool)
                        for start, stop in row_chunks(X.shape[0], ROWS)])
    W, c = network.head.W.value, network.head.b.value
    return np.column_stack([W, c]) * W.dtype.type(scale), \
        np.column_stack([H, np.ones(len(H), H.dtype)])


def solved_rows(t: sp.csr_array, weights: np.ndarray | None, H: np.ndarray, reg: float,
                scale: float, pool: Pool) -> np.ndarray:
    """Return vectors of new users, shape (n, h + 1), for their rows t (n, n_items)."""
    out = np.zeros((t.shape[0], H.shape[1]))
    penalty = np.diag(np.append(np.full(H.shape[1] - 1, reg + LEAST), LEAST))

    def some(lo: int, hi: int) -> None:
        for u in range(lo, hi):
            part = slice(t.indptr[u], t.indptr[u + 1])
            h = H[t.indices[part]].astype(np.float64)
            w = np.ones(len(h)) if weights is None else weights[part].astype(np.float64)
            if w.any():
                out[u] = np.linalg.solve((h.T * w) @ h + penalty, (h.T * w) @ t.data[part])

    pool.map(some, row_chunks(t.shape[0], 16))
    return (scale * out).astype(H.dtype)
