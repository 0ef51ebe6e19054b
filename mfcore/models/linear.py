"""The linear autoencoder: every item is predicted by all others, in closed form."""

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
from mfcore.nn.sparse import times
from mfcore.objectives.linear import LinearAutoencoder
from mfcore.parallel import Pool, row_chunks
from mfcore.solvers.inverse import TILE
from mfcore.solvers.linear import ClosedForm, Weights
from mfcore.solvers.loop import run

# Rows scored together for `predict`.
ROWS = 128


class EASE(Recommender):
    """Rank items by a linear function of a user's row: s_u = x_u B, diag B = 0.

    Minimises ‖X − X B‖² + Σ_ij Λ_i B_ij², Λ_i = λ + p/(1−p) (XᵀX)_ii, in closed form.

    Parameters
    ----------
    reg : float, > 0
        λ, penalty weight of B.
    dropout : float in [0, 1)
        p, the share of cells that training leaves out at random: 0 is EASE, more is EDLAE.
    values : {"binary", "raw"}
        X holds 1 for each rating above 0, or the ratings as they are.
    memory : float, > 0
        Gigabytes that the n_items × n_items matrix and its tiles may take.
    dtype : {"float32", "float64"}
    n_threads, verbose
        As in `MatrixFactorization`.

    Notes
    -----
    A user's vector is its row, an item's the column of B: `user_factors_` is CSR, of shape
    (n_users, n_items), `item_factors_` a view of `weights_`.  A new user needs no solve.
    Saved with seen=False, the model answers for new rows alone.
    `history_` has one epoch, whose loss is the minimum.

    References
    ----------
    Steck 2019 (EASE); Steck 2020 (EDLAE).
    """

    _rates = False
    _weights_axes = "item item"
    tol = None
    patience = None
    eval_metric = None

    def __init__(self, *, reg: float = 200.0, dropout: float = 0.0, values: str = "binary",
                 memory: float = 8.0, dtype: str = "float32", n_threads: int | None = None,
                 verbose: int = 0) -> None:
        self.reg = reg
        self.dropout = dropout
        self.values = values
        self.memory = memory
        self.dtype = dtype
        self.n_threads = n_threads
        self.verbose = verbose

    def _validate(self) -> None:
        validation.real("reg", self.reg, above=0)
        if validation.real("dropout", self.dropout, low=0) >= 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}: 1 leaves nothing")
        validation.choice("values", self.values, ("binary", "raw"))
        validation.real("memory", self.memory, above=0)
        validation.choice("dtype", self.dtype, ("float32", "float64"))

    def _check_training(self, ratings: Ratings) -> None:
        if ratings.weights is not None:
            raise ValueError("EASE has no use for weights of single cells: leave them out")
        n, size = ratings.shape[1], np.dtype(self.dtype).itemsize
        needed = size * n * (n + 4 * TILE) / 1e9
        if needed > self.memory:
            raise ValueError(f"memory must be at least {needed:.2f} gigabytes for {n} items in "
                             f"{self.dtype}, got {self.memory:g}; leave out rare items, or "
                             f"raise memory")

    def _train(self, ratings: Ratings, watched: Watched) -> None:
        n = ratings.shape[1]
        self.user_bias_ = self.item_bias_ = None
        self.global_mean_ = 0.0
        at = Weights(np.empty((n, n), self.dtype))
        self._publish(at)
        solver = ClosedForm(LinearAutoencoder(self._inputs(ratings), self.reg, self.dropout))
        with Pool(self.n_threads) as pool:
            run(solver, at, pool, 1, monitor_of(self, watched))

    def _publish(self, at: Weights) -> None:
        self.weights_ = at.B

    def _inputs(self, ratings: Ratings) -> sp.csr_array:
        """Return X of some rows."""
        cells = ratings.by_user
        data = (cells.data > 0).astype(self.dtype) if self.values == "binary" else \
            cells.data.astype(self.dtype)
        return sp.csr_array((data, cells.indices, cells.indptr), shape=cells.shape)

    # ---------------------------------------------------------------------- serving

    @property
    def user_factors_(self) -> Any:                            # type: ignore[override]
        """The rows of the fit, CSR, shape (n_users, n_items)."""
        return self._inputs(self.ratings_)

    @property
    def item_factors_(self) -> np.ndarray:                     # type: ignore[override]
        """The columns of B, shape (n_items, n_items), a view."""
        return self.weights_.T

    def _vectors(self, rows: np.ndarray | None, new: NewRows | None, pool: Pool) -> Folded:
        if new is not None:
            return self._vectors_of_new(new, pool)
        self._check_seen()
        cells = self._seen_rows(np.asarray(rows))
        return Folded(self._inputs(Ratings(cells, copy=False)), None)

    def _fold_in_rows(self, ratings: Ratings, pool: Pool, features: Any = None) -> Folded:
        return Folded(self._inputs(ratings), None)

    def _scorer(self, rows: np.ndarray | None, *, new: NewRows | None = None,
                similarity: str = "dot") -> Scorer:
        with Pool(self.n_threads) as pool:
            X = self._vectors(rows, new, pool).factors
        lengths = np.sqrt(np.einsum("ij,ij->j", self.weights_, self.weights_))
        return RowScorer(X, self.weights_, lengths if similarity == "cosine" else None)

    def _score_pairs(self, rows: np.ndarray, columns: np.ndarray, users: Folded, pool: Pool
                     ) -> np.ndarray:
        scores = np.zeros(len(rows))
        known = np.flatnonzero((rows >= 0) & (columns >= 0))
        asked, place = np.unique(rows[known], return_inverse=True)
        order = np.argsort(place, kind="stable")

        def some(start: int, stop: int) -> None:
            block = times(users.factors[asked[start:stop]], self.weights_, Pool(1))
            cells = order[np.searchsorted(place, start, sorter=order):
                          np.searchsorted(place, stop, sorter=order)]
            scores[known[cells]] = block[place[cells] - start, columns[known[cells]]]

        pool.map(some, row_chunks(len(asked), ROWS))
        return scores

    def predict(self, users: Any, items: Any, *, ratings: Any = None,
                user_features: Any = None) -> np.ndarray:
        """Return the scores of pairs, float64: see `MatrixFactorization.predict`.

        An unknown user or item scores 0.
        """
        if hasattr(self, "has_seen_") and ratings is None:
            self._check_seen()
        return super().predict(users, items, ratings=ratings, user_features=user_features)

    def similar_users(self, users: Any, k: int = 10, *, similarity: str = "cosine"
                      ) -> tuple[np.ndarray, np.ndarray]:
        """Raise NotImplementedError: a user's vector is its row, and nothing is learned of it."""
        self._check_fitted()
        raise NotImplementedError("EASE learns nothing of users; compare their rows")

    def explain(self, user: Any, item: Any, k: int = 10
                ) -> tuple[float, np.ndarray, np.ndarray]:
        """Return a user's score of an item, and the k items of its row that add most to it.

        Parameters
        ----------
        user, item : int or str
            Ids, or numbers where there are no ids.
        k : int, >= 1
            Length of the list.

        Returns
        -------
        score : float
            x_u B_i.
        items, contributions : ndarray, shape (min(k, n_u),)
            x_ut B_ti of items t, largest first; over all t they add up to the score.
        """
        self._check_fitted()
        self._check_seen()
        k = validation.count("k", k)
        (row,), (column,) = self._known_users([user]), self._known_items([item])
        x = self.user_factors_[[row]]
        parts = x.data * self.weights_[x.indices, column]
        best = np.argsort(-parts, kind="stable")[:k]
        return float(parts.sum(dtype=np.float64)), named(x.indices[best], self.item_ids_), \
            parts[best]


class RowScorer:
    """Scores of sparse rows against all items: x_u B, divided by ‖x_u‖ ‖B_i‖ for cosines."""

    def __init__(self, X: sp.csr_array, B: np.ndarray, lengths: np.ndarray | None) -> None:
        self.X, self.B, self.lengths = X, B, lengths
        self.n_rows, self.n_items = X.shape

    def block(self, start: int, stop: int) -> np.ndarray:
        """Return the scores of rows start..stop, shape (stop - start, n_items)."""
        X = self.X[start:stop]
        scores = times(X, self.B, Pool(1))
        if self.lengths is not None:
            row = np.sqrt(np.asarray(X.multiply(X).sum(axis=1))).reshape(-1, 1)
            scores /= np.where(row > 0, row, 1).astype(scores.dtype)
            scores /= np.where(self.lengths > 0, self.lengths, 1)
        return scores
