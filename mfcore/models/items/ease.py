"""The linear autoencoder: every item is predicted by all others, in closed form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.ratings import Ratings
from mfcore.metrics.fitted import Asked, Folded, NewRows, Query, Scorer
from mfcore.models.recommender import Recommender
from mfcore.models.settings import fitted, setting, settings
from mfcore.models.sides import Side, Sides
from mfcore.models.training import Start
from mfcore.nn.sparse import times
from mfcore.objectives.linear import LinearAutoencoder
from mfcore.parallel import Pool, row_chunks
from mfcore.solvers.linear import TILE, ClosedForm, Weights

# Rows scored together for `predict`.
ROWS = 128


class RowsSide(Side):
    """A side without vectors of its own: they are rows of the ratings, or columns of B."""

    parts = ("counts", "bias")


@settings("dtype", "n_threads", "verbose")
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

    reg: float = setting(default=400.0, above=0)
    dropout: float = setting(default=0.0, check=validation.rate)
    values: str = setting(default="binary", among=("binary", "raw"))
    memory: float = setting(default=8.0, above=0)

    weights_: np.ndarray = fitted(doc="B, shape (n_items, n_items).")

    predicts_ratings = False
    side_type = RowsSide
    weights_axes = "item item"

    def check(self, ratings: Ratings) -> None:
        """Raise for more items than the memory holds."""
        n, size = ratings.shape[1], np.dtype(self.dtype).itemsize
        needed = size * n * (n + 4 * TILE) / 1e9
        if needed > self.memory:
            raise ValueError(f"memory must be at least {needed:.2f} gigabytes for {n} items in "
                             f"{self.dtype}, got {self.memory:g}; leave out rare items, or "
                             f"raise memory")

    def begin(self, ratings: Ratings, sides: Sides, random: np.random.Generator) -> Start:
        """Return room for B, and what fills it."""
        n = ratings.shape[1]
        self.global_mean_ = 0.0

        def publish(at: Weights) -> None:
            self.weights_ = at.B

        problem = LinearAutoencoder(self._inputs(ratings), self.reg, self.dropout)
        return Start(ClosedForm(problem), Weights(np.empty((n, n), self.dtype)), publish)

    def answers(self) -> Rows:
        """Return what is asked of the fitted model."""
        return Rows(self.weights_, self._inputs, self._known)

    def _known(self) -> Ratings:
        """Return the training ratings; raise where they are not known."""
        self.check_seen()
        return self.ratings_

    def _inputs(self, ratings: Ratings) -> sp.csr_array:
        """Return X of some rows."""
        cells = ratings.by_user
        data = (cells.data > 0).astype(self.dtype) if self.values == "binary" else \
            cells.data.astype(self.dtype)
        return sp.csr_array((data, cells.indices, cells.indptr), shape=cells.shape)

    @property
    def user_factors_(self) -> Any:
        """The rows of the fit, CSR, shape (n_users, n_items)."""
        return self._inputs(self.ratings_)

    @property
    def item_factors_(self) -> np.ndarray:
        """The columns of B, shape (n_items, n_items), a view."""
        return self.weights_.T


@dataclass(frozen=True)
class Rows:
    """The answers of B: a user's vector is its row, and s_u = x_u B.

    B : ndarray, shape (n_items, n_items)
    inputs : inputs(ratings) returns X of rows
    known : known() returns the ratings of the fit
    """

    B: np.ndarray
    inputs: Callable[[Ratings], sp.csr_array]
    known: Callable[[], Ratings]

    def vectors(self, asked: Asked, pool: Pool) -> Folded:
        """Return the rows of users."""
        if isinstance(asked, NewRows):
            return self.fold_in(asked, pool)
        return Folded(self.inputs(Ratings(self.known().cells_of(asked), copy=False)), None)

    def fold_in(self, new: NewRows, pool: Pool) -> Folded:
        """Return the rows of new users: nothing is learned for them."""
        return Folded(self.inputs(new.known(len(self.B))), None)

    def scorer(self, asked: Asked, query: Query, pool: Pool) -> Scorer:
        """Return what scores users against all items."""
        lengths = np.sqrt(np.einsum("ij,ij->j", self.B, self.B))
        return RowScorer(self.vectors(asked, pool).factors, self.B,
                         lengths if query.similarity == "cosine" else None)

    def pairs(self, rows: np.ndarray, columns: np.ndarray, new: NewRows | None, pool: Pool
              ) -> np.ndarray:
        """Return the scores of pairs, in blocks of users; an unknown user or item scores 0."""
        X = self.inputs(self.known() if new is None else new.known(len(self.B)))
        scores = np.zeros(len(rows))
        known = np.flatnonzero((rows >= 0) & (columns >= 0))
        asked, place = np.unique(rows[known], return_inverse=True)
        order = np.argsort(place, kind="stable")

        def some(start: int, stop: int) -> None:
            block = times(X[asked[start:stop]], self.B, Pool(1))
            cells = order[np.searchsorted(place, start, sorter=order):
                          np.searchsorted(place, stop, sorter=order)]
            scores[known[cells]] = block[place[cells] - start, columns[known[cells]]]

        pool.map(some, row_chunks(len(asked), ROWS))
        return scores

    def explain(self, ratings: Ratings, row: int, column: int, k: int
                ) -> tuple[float, np.ndarray, np.ndarray]:
        """Return a user's score of an item, and the k items of its row that add most to it."""
        x = self.inputs(ratings)[[row]]
        parts = x.data * self.B[x.indices, column]
        best = np.argsort(-parts, kind="stable")[:k]
        return float(parts.sum(dtype=np.float64)), x.indices[best], parts[best]


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

    def rounding(self, start: int, stop: int) -> None:
        """Return None: each row is added up alone, cell by cell."""
