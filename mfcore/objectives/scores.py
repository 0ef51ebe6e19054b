"""The score of a factor model, s_ui = P_u·Q_i + β_u + γ_i: of cells, of pairs, of blocks."""

from __future__ import annotations

import numpy as np

from mfcore.kernels import cells as kernels
from mfcore.parallel import Pool, row_chunks

PAIRS = 65_536      # pairs scored in one task


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

    A row or column of -1 is unknown: its side adds nothing.
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
    """

    def __init__(self, P: np.ndarray, Q: np.ndarray, beta: np.ndarray | None = None,
                 gamma: np.ndarray | None = None) -> None:
        self.P, self.Q, self.beta, self.gamma = P, Q, beta, gamma
        self.n_rows, self.n_items = len(P), len(Q)

    def block(self, start: int, stop: int) -> np.ndarray:
        """Return s of rows start..stop, shape (stop - start, n_items)."""
        scores: np.ndarray = self.P[start:stop] @ self.Q.T
        if self.gamma is not None:
            scores += self.gamma
        if self.beta is not None:
            scores += self.beta[start:stop, None]
        return scores


def unit_rows(X: np.ndarray) -> np.ndarray:
    """Return the rows of X divided by their lengths; zero rows stay zero."""
    length = np.sqrt(np.einsum("nf,nf->n", X, X, dtype=np.float64))
    return (X / np.where(length > 0, length, 1.0)[:, None]).astype(X.dtype, copy=False)
