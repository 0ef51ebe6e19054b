"""Users and items of a fitted model: their numbers, their vectors, and those of new rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.ids import as_vector
from mfcore.data.ratings import Ratings
from mfcore.models.estimator import Estimator
from mfcore.models.inputs import aligned_ratings
from mfcore.parallel import Pool


class Folded(NamedTuple):
    """Vectors of new rows: `factors` (n, k) and `bias` (n,), None where the model has none."""

    factors: np.ndarray
    bias: np.ndarray | None


class NewRows(NamedTuple):
    """Users that are new to a model: their ratings, their features, or both, row by row."""

    ratings: Ratings | None
    features: sp.csr_array | None

    @property
    def n_rows(self) -> int:
        """Number of new users."""
        given = self.features if self.ratings is None else self.ratings
        return 0 if given is None else int(given.shape[0])


class Rows(Estimator):
    """Finds rows and columns by name, and gives each a vector and a bias."""

    n_threads: int | None
    ratings_: Ratings
    user_factors_: np.ndarray
    item_factors_: np.ndarray
    user_bias_: np.ndarray | None
    item_bias_: np.ndarray | None
    global_mean_: float
    mean_rating_: float
    user_counts_: np.ndarray
    item_counts_: np.ndarray
    has_seen_: bool
    rating_range_: tuple[float, float]

    # Whether `predict` is on the scale of the ratings.
    _rates = True
    # The axes of `weights_`, if it has any.
    _weights_axes = "weight"

    # ------------------------------------------------------------- rows and columns

    @property
    def n_users_(self) -> int:
        """Number of users of the fit."""
        return self.ratings_.shape[0]

    @property
    def n_items_(self) -> int:
        """Number of items of the fit."""
        return self.ratings_.shape[1]

    @property
    def user_ids_(self) -> np.ndarray | None:
        """Names of the users, or None where they are row numbers."""
        return self.ratings_.user_ids

    @property
    def item_ids_(self) -> np.ndarray | None:
        """Names of the items, or None where they are column numbers."""
        return self.ratings_.item_ids

    def _user_positions(self, users: Any) -> np.ndarray:
        return self.ratings_.user_positions(users)

    def _item_positions(self, items: Any) -> np.ndarray:
        return self.ratings_.item_positions(items)

    def _known_users(self, users: Any) -> np.ndarray:
        if self.user_ids_ is None:
            return validation.positions("users", users, self.n_users_)
        rows = self._user_positions(users := as_vector(users))
        validation.known_ids("users", users.tolist(), rows)
        return rows

    def _known_items(self, items: Any) -> np.ndarray:
        if self.item_ids_ is None:
            return validation.positions("items", items, self.n_items_)
        columns = self._item_positions(items := as_vector(items))
        validation.known_ids("items", items.tolist(), columns)
        return columns

    def _seen_rows(self, rows: np.ndarray) -> sp.csr_array:
        """Return the training cells of the given rows; none for -1."""
        known = np.asarray(rows) >= 0
        seen = self.ratings_.by_user[np.asarray(rows)[known]]
        indptr = np.zeros(len(known) + 1, seen.indptr.dtype)
        indptr[1:][known] = np.diff(seen.indptr)
        return sp.csr_array((seen.data, seen.indices, np.cumsum(indptr, dtype=indptr.dtype)),
                            shape=(len(known), self.n_items_))

    def _pair_positions(self, name: str, values: np.ndarray, ids: np.ndarray | None,
                        positions: Callable[[Any], np.ndarray]) -> np.ndarray:
        if ids is None and values.dtype.kind in "iu" and values.size and values.min() < 0:
            raise IndexError(f"{name} must be row numbers >= 0, got {values.min()}")
        return positions(values)

    # --------------------------------------------------------------------- vectors

    def _vectors(self, rows: np.ndarray | None, new: NewRows | None, pool: Pool) -> Folded:
        """Return vectors of training rows (those of nobody for -1), or of new rows."""
        if new is not None:
            return self._vectors_of_new(new, pool)
        known = np.asarray(rows) >= 0
        factors = self.user_factors_[rows] * known[:, None].astype(self.user_factors_.dtype)
        bias = None if self.user_bias_ is None else self.user_bias_[rows] * known
        default = self._default_row("user")
        if default is not None and not known.all():
            factors[~known] = default[0]
            if bias is not None:
                bias[~known] = default[1]
        return Folded(factors, bias)

    def _with_default(self, side: str, vectors: Folded, rows: np.ndarray
                      ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return vectors, biases and rows, with the row of nobody in place of -1."""
        X, bias = vectors
        bias = np.zeros(len(X)) if bias is None else bias
        default = self._default_row(side)
        if default is None or not (rows < 0).any():
            return X, bias, rows
        return (np.vstack([X, default[0].astype(X.dtype)]), np.append(bias, default[1]),
                np.where(rows < 0, len(X), rows))

    def _counts_of(self, new: NewRows | None) -> np.ndarray:
        if new is None:
            return self.user_counts_
        return np.zeros(new.n_rows, int) if new.ratings is None else \
            np.diff(new.ratings.by_user.indptr)

    def _is_silent(self, side: str, rows: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Return which rows of a model without biases have a vector that says nothing."""
        if self._default_row(side) is not None:
            return np.zeros(len(rows), bool)
        silent: np.ndarray = rows < 0
        if getattr(self, "unknown_weight_", 0) == 0:         # else their vectors are solved
            silent[~silent] = counts[rows[~silent]] == 0
        return silent

    # -------------------------------------------------------------------- new rows

    def _fold_in_rows(self, ratings: Ratings, pool: Pool, features: Any = None) -> Folded:
        """Return the vectors of new rows whose columns are the model's items.

        `features` are None, or a CSR with the columns of the fit.
        """
        raise NotImplementedError(f"{type(self).__name__} has no vectors for new rows")

    def _aligned_features(self, given: Any, side: str, n_rows: int | None) -> sp.csr_array:
        """Return features of new rows with the columns of the fit."""
        raise NotImplementedError(f"{type(self).__name__} takes no {side}_features")

    def _default_row(self, side: str) -> tuple[np.ndarray, float] | None:
        """Return vector and bias of a user or item of whom nothing is known; None: zeros."""
        return None

    def _vectors_of_new(self, new: NewRows, pool: Pool) -> Folded:
        """Return the vectors of new users."""
        if new.ratings is None:
            raise NotImplementedError(f"{type(self).__name__} needs ratings of new users")
        return self._fold_in_rows(new.ratings, pool, new.features)

    def _new_rows(self, ratings: Any, user_features: Any) -> NewRows | None:
        """Return what is given of new users, in the model's columns; None for nothing."""
        if ratings is None and user_features is None:
            return None
        aligned = None if ratings is None else aligned_ratings(ratings, self)
        n_rows = None if aligned is None else aligned.shape[0]
        features = None if user_features is None else \
            self._aligned_features(user_features, "user", n_rows)
        return NewRows(aligned, features)
