"""Scores of a network of pairs: of given pairs, and of users with all items."""

from __future__ import annotations

import numpy as np

from mfcore.nn.layers import Layer, Run
from mfcore.parallel import Pool, row_chunks

PAIRS = 8192      # pairs that go through the network together


def network_scores(network: Layer, pairs: np.ndarray, pool: Pool) -> np.ndarray:
    """Return the scores of pairs (n, 2), shape (n,)."""
    def some(start: int, stop: int) -> np.ndarray:
        scores: np.ndarray = network.forward(pairs[start:stop], Run())[0][:, 0]
        return scores

    return np.concatenate(pool.map(some, row_chunks(len(pairs), PAIRS) or [(0, 0)]))


class NetworkScorer:
    """Scores of blocks of users against all items, for `top_k`.

    Parameters
    ----------
    network : Layer
        From pairs (n, 2) of user and item to scores (n, 1).
    n_rows, n_items : int
    mean : float
        Added to all scores.

    Notes
    -----
    A user's scores are computed alone: they do not depend on the block it is in.
    """

    def __init__(self, network: Layer, n_rows: int, n_items: int, mean: float = 0.0) -> None:
        self.network, self.n_rows, self.n_items, self.mean = network, n_rows, n_items, mean

    def block(self, start: int, stop: int) -> np.ndarray:
        """Return the scores of rows start..stop, shape (stop - start, n_items)."""
        pairs, serial = np.empty((self.n_items, 2), np.int64), Pool(1)
        pairs[:, 1] = np.arange(self.n_items)
        rows = []
        for row in range(start, stop):
            pairs[:, 0] = row
            rows.append(network_scores(self.network, pairs, serial) + self.mean)
        dtype = self.network.parameters()[0].value.dtype
        return np.array(rows, dtype).reshape(stop - start, self.n_items)
