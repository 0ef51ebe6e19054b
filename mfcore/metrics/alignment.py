"""The rows and columns of a test set, as a fitted model numbers them."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.periods import Periods, moments_of
from mfcore.data.ratings import Ratings, as_ratings, names_of
from mfcore.data.renumber import renumber_items
from mfcore.metrics.fitted import NewRows, Query, Scorer
from mfcore.parallel import Pool


class Alignment:
    """The rows and columns of a test set, as a fitted model numbers them.

    Parameters
    ----------
    model : fitted model
    test : Ratings or scipy sparse, shape (n_test_users, n_test_items)
        Its ids are looked up in the model; without ids its rows (columns) must be those of
        training.
    fold_in, user_features : or None
        Known ratings and features of the test users, who then count as new to the model.

    Raises
    ------
    TypeError
        If `model` is not a fitted model.
    ValueError
        For an empty test set, a shape other than that of training (without ids), or a fold_in
        with other users than test.
    """

    def __init__(self, model: Any, test: Any, fold_in: Any = None,
                 user_features: Any = None) -> None:
        if not hasattr(model, "answers"):
            raise TypeError(f"model must be a fitted model, got {type(model).__name__}")
        self.model = model
        self.test = as_ratings("test", test)
        if not self.test.nnz:
            raise ValueError("test must hold at least one rating, got none")
        self._check_times()
        self.columns = _positions(model, "test", self.test, axis=1)
        rated = np.unique(self.test.by_user.indices)
        warn_of_strangers("items", self.test.item_ids, self.columns, rated)
        self.fold_in: Any = None if fold_in is None else self._known_of(fold_in)
        self.new: NewRows | None = model.new_rows(self.fold_in, user_features, self.test.shape[0])
        self.rows = np.empty(0, np.int64) if self.new is not None else \
            _positions(model, "test", self.test, axis=0)
        if self.new is None:
            warn_of_strangers("users", self.test.user_ids, self.rows,
                              np.flatnonzero(np.diff(self.test.by_user.indptr)))

    @property
    def _periods(self) -> Any:
        """Periods of the model, by side; None where it asks no times of the test set."""
        return None if self.test.moments is None else getattr(self.model, "periods_", None)

    def _check_times(self) -> None:
        """Raise for times of another kind than those of the fit."""
        for cut in (self._periods or {}).values():
            moments_of(Periods(**cut).times, self.test.moments, self.test.nnz)

    def _known_of(self, fold_in: Any) -> Ratings:
        """Return the fold-in ratings on the model's items."""
        fold_in = as_ratings("fold_in", fold_in)
        ours, theirs = self.test.user_ids, fold_in.user_ids
        if fold_in.shape[0] != self.test.shape[0] or (
                ours is not None and theirs is not None and not np.array_equal(ours, theirs)):
            raise ValueError(f"fold_in must have the users of test, row by row, got "
                             f"{fold_in.shape[0]} rows for {self.test.shape[0]}"
                             f"{'' if fold_in.shape[0] != self.test.shape[0] else ' by other ids'}")
        columns = _positions(self.model, "fold_in", fold_in, axis=1)
        return renumber_items(fold_in, columns, self.model.n_items_,
                              names_of(self.model.ratings_)[1])

    def scorer(self, rows: np.ndarray, pool: Pool) -> Scorer:
        """Return the scorer of the given test rows."""
        asked = self.rows[rows] if self.new is None else self.new.select(rows)
        scorer: Scorer = self.model.answers().scorer(asked, Query(), pool)
        return scorer

    def seen(self, rows: np.ndarray) -> sp.csr_array:
        """Return the cells that the model knew of the given test rows, as CSR."""
        if self.new is None:
            return self.model.ratings_.cells_of(self.rows[rows])
        return self.new.select(rows).known(self.model.n_items_).by_user

    def predictions(self) -> np.ndarray:
        """Return the predicted rating of each stored test cell, shape (nnz,), unclipped."""
        test, model = self.test, self.model
        users, columns = test.users_of_cells, test.by_user.indices
        items = _names(test.item_ids, model.item_ids_, columns)
        timed = {} if self._periods is None else {"times": test.moments}
        if self.new is None:
            return np.asarray(model.predict(_names(test.user_ids, model.user_ids_, users),
                                            items, **timed))
        rated, place = np.unique(users, return_inverse=True)
        known = self.new.select(rated)
        features = {} if known.features is None else {"user_features": known.features}
        return np.asarray(model.predict(place, items, ratings=known.ratings, **features, **timed))


def warn_of_strangers(name: str, ids: np.ndarray | None, found: np.ndarray, used: np.ndarray
                      ) -> None:
    """Warn where the model knows under half of the users or items that a test set uses.

    ids : names of the rows or columns
    found : their numbers in the model, -1 for unknown ones
    used : the rows or columns with a rating
    """
    strangers = used[found[used] < 0]
    if ids is not None and 2 * len(strangers) > len(used):
        known, (one,) = len(used) - len(strangers), ids[strangers[:1]].tolist()
        validation.warn(f"the model knows {known:,} of the {len(used):,} {name} of the test set, "
                        f"and not {one!r}, for one: are these the ids of training?")


def stored_in(cells: sp.csr_array, pattern: sp.csr_array) -> np.ndarray:
    """Return which stored cells of one CSR are stored in another, bool, shape (nnz,)."""
    numbered = sp.csr_array((np.arange(1, cells.nnz + 1), cells.indices, cells.indptr),
                            shape=cells.shape)
    ones = sp.csr_array((np.ones(pattern.nnz, np.int64), pattern.indices, pattern.indptr),
                        shape=pattern.shape)
    found = np.zeros(cells.nnz, bool)
    found[numbered.multiply(ones).tocsr().data - 1] = True
    return found


def _positions(model: Any, name: str, ratings: Ratings, axis: int) -> np.ndarray:
    """Return the model's number of each row (axis 0) or column (axis 1), -1 if unknown."""
    ids, trained = (ratings.user_ids, ratings.item_ids)[axis], (model.n_users_, model.n_items_)
    if ids is not None:
        find = model.ratings_.item_positions if axis else model.ratings_.user_positions
        return np.asarray(find(ids))
    if ratings.shape[axis] != trained[axis]:
        cure = "it looks transposed: users are rows" if ratings.shape[::-1] == trained else \
            "give it ids if its users or items differ from those of training, and scikit-learn's " \
            "tools, which cut a matrix by users, X, y = Ratings(matrix).pairs()"
        raise ValueError(f"{name} must have the shape of the training ratings, {trained}, got "
                         f"{ratings.shape}; {cure}")
    return np.arange(trained[axis])


def _names(given: np.ndarray | None, trained: np.ndarray | None,
           numbers: np.ndarray) -> np.ndarray:
    """Return the names by which `predict` knows these numbers: ids, or the numbers."""
    ids = given if given is not None else trained
    return numbers if ids is None else ids[numbers]
