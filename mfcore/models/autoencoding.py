"""How a model answers whose score is a function of a user's row: encode, decode, score.

    code_u = encoder(row_u)        s_ui = μ + b_u + b̃_i + scale · φ(decoder(code_u)·W_i + c_i)

A user's vector is its code, of old and new users alike: nothing is trained for a new one.
An item's vector is the code of a user who gave it, and it alone, the top rating.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.ratings import Ratings
from mfcore.metrics.topk import Scorer
from mfcore.models.base import Folded, Recommender
from mfcore.models.monitoring import Watched, monitor_of
from mfcore.models.rows import NewRows
from mfcore.models.serving import named
from mfcore.nn.autoencoder import Plain
from mfcore.nn.parameters import packed, unpack
from mfcore.nn.sparse import times
from mfcore.objectives.scores import pair_scores
from mfcore.parallel import Pool, row_chunks
from mfcore.solvers.loop import Solver, run
from mfcore.solvers.rows import Vector

EMBEDDINGS = ("one_hot", "average", "centred_average")
# Rows encoded together, and pairs decoded together.
ROWS, PAIRS = 2048, 16_384


class Autoencoder(Recommender):
    """Base of models that encode rows; `weights_` holds all numbers of the network."""

    weights_: np.ndarray
    scale_: float
    memory: float
    dtype: str
    batch_size: Any
    n_epochs: int
    random_state: Any

    def _network(self, shape: tuple[int, int], random: np.random.Generator | None) -> Plain:
        """Return the network for ratings of a shape; None: its numbers are to be replaced."""
        raise NotImplementedError

    def _solver(self, network: Plain, ratings: Ratings, random: np.random.Generator) -> Solver:
        """Return what trains the network."""
        raise NotImplementedError

    def _inputs(self, ratings: Ratings) -> sp.csr_array:
        """Return the rows that the encoder takes, of users whose columns are the model's."""
        raise NotImplementedError

    def _row_bias(self, ratings: Ratings) -> np.ndarray | None:
        """Return b_u of new users; None where the model has none."""
        return None

    # --------------------------------------------------------------------- training

    def _check_training(self, ratings: Ratings) -> None:
        """Refuse a network that the memory cannot hold, before any of it is made."""
        size = np.dtype(self.dtype).itemsize
        numbers = sum(p.value.size for p in self._network(ratings.shape, None).parameters())
        # Weights, gradients, two moments, and the last and the best epoch.
        needed = size * 6 * numbers / 1e9
        if needed > self.memory:
            raise ValueError(f"memory must be at least {needed:.2f} gigabytes for {numbers} "
                             f"numbers of the network in {self.dtype}, got {self.memory:g}; "
                             f"take fewer hidden units, or raise memory")

    def _train(self, ratings: Ratings, watched: Watched) -> None:
        random = np.random.default_rng(self.random_state)
        self._start(ratings)
        network = self._network(ratings.shape, random)
        at = Vector(packed(network.parameters()))
        solver = self._solver(network, ratings, random)
        self._publish(at)
        monitor = monitor_of(self, watched)
        try:
            with Pool(self.n_threads) as pool:
                run(solver, at, pool, self.n_epochs, monitor)
        finally:
            self._publish(at)

    def _start(self, ratings: Ratings) -> None:
        """Set offsets and scale."""
        self.user_bias_ = self.item_bias_ = None
        self.global_mean_, self.scale_ = 0.0, 1.0

    def _publish(self, at: Vector) -> None:
        self.weights_ = at.weights
        with Pool(self.n_threads) as pool:
            self.user_factors_ = self._codes(self._inputs(self.ratings_), pool)
            self.item_factors_ = self._codes(self._inputs(self._one_hot_users()), pool)

    # -------------------------------------------------------------------- embeddings

    def user_embedding(self, ratings: Any = None) -> np.ndarray:
        """Return the codes of users, shape (n, k): of the fit, or of the rows given.

        ratings : Ratings or scipy sparse, shape (n, n_items), or None
        """
        self._check_fitted()
        return self.user_factors_ if ratings is None else self.fold_in_users(ratings).factors

    def item_embedding(self, method: str = "one_hot") -> np.ndarray:
        """Return vectors of the items in the space of the users' codes, shape (n_items, k).

        Parameters
        ----------
        method : {"one_hot", "average", "centred_average"}
            The code of a user whose one rating, the highest there is, is on the item; the
            mean of the codes of those who rated it, weighted by their ratings; the same, less
            the mean code of all users, which all items would share.
        """
        self._check_fitted()
        validation.choice("method", method, EMBEDDINGS)
        if method == "one_hot":
            return self.item_factors_
        self._check_seen()
        P = self.user_factors_
        if method == "centred_average":
            P = P - P.mean(axis=0, dtype=np.float64).astype(P.dtype)
        cells = self.ratings_.by_item
        R = sp.csr_array((cells.data.astype(P.dtype), cells.indices, cells.indptr),
                         shape=cells.shape)
        with Pool(self.n_threads) as pool:
            total = times(R, P, pool)
        weight = np.asarray(abs(R).sum(axis=1), P.dtype).reshape(-1, 1)
        return total / np.where(weight > 0, weight, 1)

    def similar_items(self, items: Any, k: int = 10, *, similarity: str = "cosine",
                      embedding: str = "one_hot") -> tuple[np.ndarray, np.ndarray]:
        """Return the k items nearest to each of `items`, without itself, shape (n, k).

        `embedding` is the method of `item_embedding`.
        """
        self._check_fitted()
        columns = self._known_items(items)
        best, scores = self._nearest(self.item_embedding(embedding), columns, k, similarity)
        return named(best, self.item_ids_), scores

    def _one_hot_users(self) -> Ratings:
        n = self.n_items_
        return Ratings(sp.csr_array((np.full(n, self.rating_range_[1]), np.arange(n),
                                     np.arange(n + 1)), shape=(n, n)), copy=False)

    # ----------------------------------------------------------------------- serving

    def _learned(self) -> Plain:
        """Return the network of the learned numbers, which it shares."""
        network = self._network(self.ratings_.shape, None)
        unpack(self.weights_, network.parameters())
        return network

    def _codes(self, X: sp.csr_array, pool: Pool) -> np.ndarray:
        """Return the codes of input rows, shape (n, k)."""
        network = self._learned()
        return np.concatenate([network.encode(X[start:stop], pool) for start, stop
                               in row_chunks(X.shape[0], ROWS) or [(0, 0)]])

    def _fold_in_rows(self, ratings: Ratings, pool: Pool, features: Any = None) -> Folded:
        return Folded(self._codes(self._inputs(ratings), pool), self._row_bias(ratings))

    def _default_code(self) -> np.ndarray:
        """Return the code of a row without ratings, shape (1, k)."""
        nobody = sp.csr_array((1, self.n_items_), dtype=self.dtype)
        return self._codes(nobody, Pool(1))

    def _vectors(self, rows: np.ndarray | None, new: NewRows | None, pool: Pool) -> Folded:
        found = super()._vectors(rows, new, pool)
        if new is None and rows is not None and (np.asarray(rows) < 0).any():
            found.factors[np.asarray(rows) < 0] = self._default_code()
        return found

    def _score_blocks(self, users: Folded) -> Scorer:
        beta = np.full(len(users.factors), self.global_mean_)
        if users.bias is not None:
            beta += users.bias
        return DecodedScorer(self._learned(), users.factors, self.scale_, beta, self.item_bias_)

    def _score_pairs(self, rows: np.ndarray, columns: np.ndarray, users: Folded, pool: Pool
                     ) -> np.ndarray:
        codes = np.vstack([users.factors, self._default_code()])
        rows = np.where(rows < 0, len(users.factors), rows)
        scores = self.global_mean_ + self._decoded(rows, columns, codes, pool)
        for places, bias in ((rows, users.bias), (columns, self.item_bias_)):
            if bias is not None:
                scores += np.append(bias, 0)[np.where(places < 0, len(bias), places)]
        return scores

    def _decoded(self, rows: np.ndarray, columns: np.ndarray, codes: np.ndarray, pool: Pool
                 ) -> np.ndarray:
        """Return scale · φ(h_u·W_i + c_i) of pairs; 0 for items of -1."""
        network, out = self._learned(), np.zeros(len(rows))
        W, c = network.head.W.value, network.head.b.value
        for start, stop in row_chunks(len(rows), PAIRS):
            known = start + np.flatnonzero(columns[start:stop] >= 0)
            asked, place = np.unique(rows[known], return_inverse=True)
            h = network.decode(codes[asked], pool)
            z = pair_scores(place, columns[known], h, W, np.zeros(len(h), h.dtype), c, pool)
            out[known] = self.scale_ * network.head.layer.activation.formula.value(z)
        return out


class DecodedScorer:
    """Scores of blocks of rows against all items, from their codes.

    beta, gamma : ndarray, shapes (n_rows,), (n_items,), or None, added to the scores
    """

    def __init__(self, network: Plain, codes: np.ndarray, scale: float = 1.0,
                 beta: np.ndarray | None = None, gamma: np.ndarray | None = None) -> None:
        self.network, self.codes, self.scale = network, codes, scale
        self.beta, self.gamma = beta, gamma
        self.n_rows, self.n_items = len(codes), len(network.head.b.value)

    def block(self, start: int, stop: int) -> np.ndarray:
        """Return the scores of rows start..stop, shape (stop - start, n_items)."""
        h = self.network.decode(self.codes[start:stop], Pool(1))
        z = h @ self.network.head.W.value.T + self.network.head.b.value
        scores = self.network.head.layer.activation.formula.value(z)
        scores *= scores.dtype.type(self.scale)
        if self.gamma is not None:
            scores += self.gamma.astype(scores.dtype)
        if self.beta is not None:
            scores += self.beta[start:stop, None].astype(scores.dtype)
        return scores

