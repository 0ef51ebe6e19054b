"""Answers of models that hold a weight of each item for each other: s_u = x_u B."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp

from mfcore.data.ratings import Ratings
from mfcore.metrics.fitted import Asked, Folded, NewRows, Query, Scorer
from mfcore.models.sides import Side
from mfcore.nn.sparse import times
from mfcore.parallel import Pool, row_chunks
from mfcore.solvers.neighbours import times_sparse

# Rows scored together for `predict`.
ROWS = 128


class RowsSide(Side):
    """A side without vectors of its own: they are rows of the ratings, or columns of B."""

    parts = ("counts", "bias")


class Weights(Protocol):
    """B, shape (n_items, n_items)."""

    @property
    def n_items(self) -> int:
        """The number of items."""

    def times(self, X: sp.csr_array) -> np.ndarray:
        """Return X B of some rows, dense, each row as it is alone."""

    def column(self, rows: np.ndarray, column: int) -> np.ndarray:
        """Return some weights of a column."""

    def lengths(self) -> np.ndarray:
        """Return the lengths of the columns."""


@dataclass(frozen=True)
class DenseWeights:
    """B as an array."""

    B: np.ndarray

    @property
    def n_items(self) -> int:
        return len(self.B)

    def times(self, X: sp.csr_array) -> np.ndarray:
        return times(X, self.B, Pool(1))

    def column(self, rows: np.ndarray, column: int) -> np.ndarray:
        found: np.ndarray = self.B[rows, column]
        return found

    def lengths(self) -> np.ndarray:
        found: np.ndarray = np.sqrt(np.einsum("ij,ij->j", self.B, self.B))
        return found


@dataclass(frozen=True)
class SparseWeights:
    """B as CSR."""

    B: sp.csr_array

    @property
    def n_items(self) -> int:
        return int(self.B.shape[0])

    def times(self, X: sp.csr_array) -> np.ndarray:
        return times_sparse(X, self.B)

    def column(self, rows: np.ndarray, column: int) -> np.ndarray:
        found: np.ndarray = self.B[rows][:, [column]].toarray()[:, 0]
        return found

    def lengths(self) -> np.ndarray:
        squares = np.bincount(self.B.indices, np.square(self.B.data, dtype=np.float64),
                              minlength=self.n_items)
        return np.sqrt(squares).astype(self.B.dtype)


def whole(model: Any) -> Any:
    """Return B of a fitted model; raise ValueError if somebody has put another one there."""
    B, n = model.weights_, model.n_items_
    if B.shape != (n, n):
        raise ValueError(f"weights_ must have shape {(n, n)}, as the fit left it, got {B.shape}")
    return B


@dataclass(frozen=True)
class Rows:
    """The answers of B: a user's vector is its row, and s_u = x_u B.

    weights : B, dense or sparse
    inputs : inputs(ratings) returns X of rows
    known : known() returns the ratings of the fit
    """

    weights: Weights
    inputs: Callable[[Ratings], sp.csr_array]
    known: Callable[[], Ratings]

    def vectors(self, asked: Asked, pool: Pool) -> Folded:
        """Return the rows of users."""
        if isinstance(asked, NewRows):
            return self.fold_in(asked, pool)
        return Folded(self.inputs(Ratings(self.known().cells_of(asked), copy=False)), None)

    def fold_in(self, new: NewRows, pool: Pool) -> Folded:
        """Return the rows of new users: nothing is learned for them."""
        return Folded(self.inputs(new.known(self.weights.n_items)), None)

    def scorer(self, asked: Asked, query: Query, pool: Pool) -> Scorer:
        """Return what scores users against all items."""
        return RowScorer(self.vectors(asked, pool).factors, self.weights,
                         query.similarity == "cosine")

    def pairs(self, rows: np.ndarray, columns: np.ndarray, new: NewRows | None, pool: Pool
              ) -> np.ndarray:
        """Return the scores of pairs, in blocks of users; an unknown user or item scores 0."""
        X = self.inputs(self.known() if new is None else new.known(self.weights.n_items))
        scores = np.zeros(len(rows))
        known = np.flatnonzero((rows >= 0) & (columns >= 0))
        asked, place = np.unique(rows[known], return_inverse=True)
        order = np.argsort(place, kind="stable")

        def some(start: int, stop: int) -> None:
            block = self.weights.times(X[asked[start:stop]])
            cells = order[np.searchsorted(place, start, sorter=order):
                          np.searchsorted(place, stop, sorter=order)]
            scores[known[cells]] = block[place[cells] - start, columns[known[cells]]]

        pool.map(some, row_chunks(len(asked), ROWS))
        return scores

    def explain(self, ratings: Ratings, row: int, column: int, k: int
                ) -> tuple[float, np.ndarray, np.ndarray]:
        """Return a user's score of an item, and the k items of its row that add most to it."""
        x = self.inputs(ratings)[[row]]
        parts = x.data * self.weights.column(x.indices, column)
        best = np.argsort(-parts, kind="stable")[:k]
        return float(parts.sum(dtype=np.float64)), x.indices[best], parts[best]


class RowScorer:
    """Scores of sparse rows against all items: x_u B, divided by ‖x_u‖ ‖B_i‖ for cosines."""

    def __init__(self, X: sp.csr_array, weights: Weights, is_cosine: bool) -> None:
        self.X, self.weights = X, weights
        self.lengths = weights.lengths() if is_cosine else None
        self.n_rows, self.n_items = X.shape

    def block(self, start: int, stop: int) -> np.ndarray:
        """Return the scores of rows start..stop, shape (stop - start, n_items)."""
        X = self.X[start:stop]
        scores = self.weights.times(X)
        if self.lengths is not None:
            row = np.sqrt(np.asarray(X.multiply(X).sum(axis=1))).reshape(-1, 1)
            scores /= np.where(row > 0, row, 1).astype(scores.dtype)
            scores /= np.where(self.lengths > 0, self.lengths, 1)
        return scores

    def rounding(self, start: int, stop: int) -> None:
        """Return None: each row is added up alone, cell by cell."""
