"""A test set put beside a model: test rows and columns found among those of training."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore.data.ratings import Ratings, as_ratings
from mfcore.metrics.topk import Scorer


class Alignment:
    """The rows and columns of a test set, as a fitted model numbers them.

    Parameters
    ----------
    model : fitted model
    test : Ratings or scipy sparse, shape (n_test_users, n_test_items)
        Its ids are looked up in the model; without ids its rows (columns) must be those of
        training.
    fold_in : Ratings or scipy sparse, shape (n_test_users, ...), or None
        Known ratings of the test users, who are then new to the model.
    user_features : features of the test users, or None
        They are then new to the model too.

    Raises
    ------
    TypeError
        What is no fitted model.
    ValueError
        An empty test set; a shape other than that of training, without ids; fold_in with
        other users than test.
    """

    def __init__(self, model: Any, test: Any, fold_in: Any = None,
                 user_features: Any = None) -> None:
        if not hasattr(model, "_scorer"):
            raise TypeError(f"model must be a fitted model, got {type(model).__name__}")
        self.model = model
        self.test = as_ratings("test", test)
        if not self.test.nnz:
            raise ValueError("test must hold at least one rating, got none")
        self.columns = _item_columns(model, "test", self.test)
        self.fold_in: Any = None if fold_in is None else self._known_of(fold_in)
        self.features: Any = None if user_features is None else \
            model._aligned_features(user_features, "user", self.test.shape[0])
        self.are_new = fold_in is not None or user_features is not None
        self.rows = None if self.are_new else _user_rows(model, self.test)

    def _known_of(self, fold_in: Any) -> Ratings:
        """Return the fold-in ratings on the model's items."""
        fold_in = as_ratings("fold_in", fold_in)
        ours, theirs = self.test.user_ids, fold_in.user_ids
        if fold_in.shape[0] != self.test.shape[0] or (
                ours is not None and theirs is not None and not np.array_equal(ours, theirs)):
            raise ValueError(f"fold_in must have the users of test, row by row, got "
                             f"{fold_in.shape[0]} rows beside {self.test.shape[0]}"
                             f"{'' if fold_in.shape[0] != self.test.shape[0] else ' by other ids'}")
        columns = _item_columns(self.model, "fold_in", fold_in)
        return moved(fold_in, columns, self.model.n_items_, self.model.item_ids_)

    def scorer(self, rows: np.ndarray) -> Scorer:
        """Return the scorer of the given test rows."""
        if self.rows is not None:
            scorer: Scorer = self.model._scorer(self.rows[rows])
        else:
            new = self.model._new_rows(self._folded(rows), self._features_of(rows))
            scorer = self.model._scorer(None, new=new)
        return scorer

    def seen(self, rows: np.ndarray) -> sp.csr_array:
        """Return the cells that the model knew of the given test rows, as CSR."""
        if self.rows is not None:
            return self.model.ratings_.cells_of(self.rows[rows])
        folded = self._folded(rows)
        return sp.csr_array((rows.size, self.model.n_items_)) if folded is None \
            else folded.by_user

    def predictions(self) -> np.ndarray:
        """Return the predicted rating of each stored test cell, shape (nnz,), unclipped."""
        test, model = self.test, self.model
        users, columns = test.users_of_cells, test.by_user.indices
        items = _names(test.item_ids, model.item_ids_, columns)
        if self.rows is not None:
            return np.asarray(model.predict(_names(test.user_ids, model.user_ids_, users),
                                            items))
        rated, place = np.unique(users, return_inverse=True)
        return np.asarray(model.predict(place, items, **self._given(rated)))

    def _given(self, rows: np.ndarray) -> dict[str, Any]:
        """Return what is known of some test users, as keywords of `predict`; no None."""
        folded, features = self._folded(rows), self._features_of(rows)
        return {name: part for name, part in (("ratings", folded), ("user_features", features))
                if part is not None}

    def _folded(self, rows: np.ndarray) -> Ratings | None:
        known: Ratings | None = self.fold_in
        return known if known is None or rows.size == known.shape[0] \
            else known.select_users(rows)

    def _features_of(self, rows: np.ndarray) -> Any:
        return None if self.features is None else self.features[rows]


def moved(ratings: Ratings, columns: np.ndarray, n_items: int, item_ids: Any = None) -> Ratings:
    """Renumber columns: j becomes columns[j]; cells of columns that become -1 are dropped."""
    if np.array_equal(columns, np.arange(n_items)):
        return ratings
    cells = columns[ratings.by_user.indices]
    kept = np.flatnonzero(cells >= 0)
    rows = ratings.users_of_cells[kept]
    order = kept[np.lexsort((cells[kept], rows))]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=ratings.shape[0]))])
    matrix = sp.csr_array((ratings.by_user.data[order], cells[order], indptr),
                          shape=(ratings.shape[0], n_items))
    weights = None if ratings.weights is None else ratings.weights[order]
    return Ratings(matrix, weights=weights, user_ids=ratings.user_ids, item_ids=item_ids,
                   copy=False)


def stored_in(cells: sp.csr_array, pattern: sp.csr_array) -> np.ndarray:
    """Return which stored cells of one CSR are stored in another, bool, shape (nnz,)."""
    numbered = sp.csr_array((np.arange(1, cells.nnz + 1), cells.indices, cells.indptr),
                            shape=cells.shape)
    ones = sp.csr_array((np.ones(pattern.nnz, np.int64), pattern.indices, pattern.indptr),
                        shape=pattern.shape)
    found = np.zeros(cells.nnz, bool)
    found[numbered.multiply(ones).tocsr().data - 1] = True
    return found


def _item_columns(model: Any, name: str, ratings: Ratings) -> np.ndarray:
    """Return the model's number of each column, -1 where it knows none."""
    if ratings.item_ids is not None:
        return np.asarray(model.ratings_.item_positions(ratings.item_ids))
    if ratings.shape[1] != model.n_items_:
        raise ValueError(_wrong_shape(model, name, ratings.shape))
    return np.arange(model.n_items_)


def _user_rows(model: Any, test: Ratings) -> np.ndarray:
    """Return the model's number of each row, -1 where it knows none."""
    if test.user_ids is not None:
        return np.asarray(model.ratings_.user_positions(test.user_ids))
    if test.shape[0] != model.n_users_:
        raise ValueError(_wrong_shape(model, "test", test.shape))
    return np.arange(model.n_users_)


def _wrong_shape(model: Any, name: str, shape: tuple[int, int]) -> str:
    trained = (model.n_users_, model.n_items_)
    turned = shape[::-1] == trained
    cure = "it looks transposed: users are rows" if turned else \
        "give it ids if its users or items differ from those of training"
    return f"{name} must have the shape of the training ratings, {trained}, got {shape}; {cure}"


def _names(given: np.ndarray | None, trained: np.ndarray | None,
           numbers: np.ndarray) -> np.ndarray:
    """Return what `predict` calls the rows of these numbers: ids, or the numbers."""
    ids = given if given is not None else trained
    return numbers if ids is None else ids[numbers]
