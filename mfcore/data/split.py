"""Split ratings into a part to learn from and a part to test on.

Both parts, `train` and `test`, have the shape and ids of the whole, so that row 7 is the same
user and column 3 the same item everywhere; only `user_split` divides rows.  `ratings` may be
Ratings or a scipy sparse matrix, shape (n_users, n_items).  A split is a function of its
arguments alone: the same `random_state`, an int or numpy Generator, gives the same cells, and
None draws another split each time.  All raise ValueError for a share outside (0, 1), missing
timestamps, and if a part would be empty.

| split            | held out                                | asks                              |
|------------------|-----------------------------------------|-----------------------------------|
| `random_split`   | cells anywhere                          | how well are gaps filled?         |
| `k_fold`         | cells anywhere, each in one fold        | the same, less subject to luck    |
| `per_user_split` | a share of each user's cells            | the same, for every user          |
| `leave_last_out` | the last cells of each user             | what comes next for this user?    |
| `time_split`     | all cells from a moment on              | what would today's model be worth?|
| `user_split`     | whole users, with some cells to fold in | how well are new users served?    |
| `file_folds`     | contiguous lines of the source file     | published folds (ML-100K u1...u5) |
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mfcore import validation
from mfcore.data.ratings import Ratings, as_ratings
from mfcore.data.times import times_of

Seed = int | np.random.Generator | None


def random_split(ratings: Any, test_size: float = 0.2, random_state: Seed = None, *,
                 keep: int = 0) -> tuple[Ratings, Ratings]:
    """Hold out a share of the stored cells, drawn without regard to user or item.

    Parameters
    ----------
    test_size : float in (0, 1)
        Share of the cells to hold out, to the nearest cell; fewer where `keep` forbids more.
    random_state : int, numpy Generator or None
    keep : int, >= 0
        Cells that each user keeps for training, drawn at random; users with no more are
        only trained on.
    """
    ratings = as_ratings("ratings", ratings)
    size = round(validation.share("test_size", test_size) * ratings.nnz)
    rng = validation.random_generator("random_state", random_state)
    chosen = np.zeros(ratings.nnz, bool)
    free: Any = ratings.nnz
    if validation.integer("keep", keep, low=0):
        free = np.flatnonzero(_places(ratings, rng.integers(0, 2**32, ratings.nnz)) >= keep)
        size = min(size, len(free))
    chosen[rng.choice(free, size, replace=False, shuffle=False)] = True
    return _cut(ratings, chosen)


def k_fold(ratings: Any, n_folds: int = 5,
           random_state: Seed = None) -> Iterator[tuple[Ratings, Ratings]]:
    """Yield `n_folds` pairs (train, test) in which each cell is tested once.

    Parameters
    ----------
    n_folds : int in [2, nnz]
        Folds whose sizes differ by at most one cell.
    random_state : int, numpy Generator or None

    Returns
    -------
    iterator over (train, test)
        Arguments are checked at the call; folds are made one at a time.
    """
    ratings = as_ratings("ratings", ratings)
    folds = _fold_numbers(ratings, n_folds)
    validation.random_generator("random_state", random_state).shuffle(folds)
    return (_cut(ratings, folds == fold) for fold in range(n_folds))


def file_folds(ratings: Any, file_order: Any,
               n_folds: int = 5) -> Iterator[tuple[Ratings, Ratings]]:
    """Yield pairs (train, test) whose test parts are contiguous lines of the source.

    With the `file_order` of ML-100K these are its published folds u1 to u5: test fold i
    is lines 20,000 (i - 1) + 1 to 20,000 i of `u.data`.

    Parameters
    ----------
    file_order : array-like of int, shape (nnz,)
        Line number of each cell, each from 0 to nnz - 1 once, in `by_user` order:
        `Dataset.file_order`.
    n_folds : int in [2, nnz]
        Folds whose sizes differ by at most one line.
    """
    ratings = as_ratings("ratings", ratings)
    folds = np.sort(_fold_numbers(ratings, n_folds))
    lines = validation.vector("file_order", file_order, ratings.nnz)
    if lines.dtype.kind not in "iu":
        raise TypeError(f"file_order must be line numbers (integers), got dtype {lines.dtype}")
    if not np.array_equal(np.sort(lines), np.arange(ratings.nnz)):
        raise ValueError(f"file_order must name each line from 0 to {ratings.nnz - 1} once")
    folds = folds[lines]
    return (_cut(ratings, folds == fold) for fold in range(n_folds))


def per_user_split(ratings: Any, test_size: float = 0.2,
                   random_state: Seed = None) -> tuple[Ratings, Ratings]:
    """Hold out a share of each user's cells; every user keeps at least one.

    Parameters
    ----------
    test_size : float in (0, 1)
        Share of each user's cells, rounded to the nearest cell (half upwards): with 0.2,
        users with one or two cells are only trained on.
    random_state : int, numpy Generator or None
    """
    ratings = as_ratings("ratings", ratings)
    test_size = validation.share("test_size", test_size)
    rng = validation.random_generator("random_state", random_state)
    sizes = _rounded_share(test_size, np.diff(ratings.by_user.indptr))
    return _cut(ratings, _drawn_of_each_user(ratings, sizes, rng))


def leave_last_out(ratings: Any, timestamps: Any = None, n: int = 1
                   ) -> tuple[Ratings, Ratings]:
    """Hold out the `n` latest cells of each user who has more than `n`.

    Parameters
    ----------
    timestamps : array-like of numbers, or of dates and times, shape (nnz,), or None
        Moment of each cell, in `by_user` order; None: `ratings.times`.  Of two cells at the same
        moment, the one in the higher column is the later.
    n : int >= 1
        Cells to hold out per user.  Users with `n` or fewer cells are only trained on.
    """
    ratings = as_ratings("ratings", ratings)
    n = validation.count("n", n)
    moments = times_of(ratings, timestamps).numbers
    counts = np.diff(ratings.by_user.indptr)
    first_held = np.where(counts > n, counts - n, counts)
    return _cut(ratings, _places(ratings, moments) >= first_held[ratings.users_of_cells])


def time_split(ratings: Any, timestamps: Any = None, test_size: float = 0.2, *, at: Any = None
               ) -> tuple[Ratings, Ratings]:
    """Hold out all cells from a moment on, so that training never sees the future.

    Parameters
    ----------
    timestamps : array-like of numbers, or of dates and times, shape (nnz,), or None
        Moment of each cell, in `by_user` order; None: `ratings.times`.
    test_size : float in (0, 1)
        Share of the cells to hold out; more if several cells share the moment of the
        cut, which all go to the test part.
    at : number, date or time, like the timestamps, or text such as "2020-01-31", or None
        Hold out the cells from this moment on, in place of a share.
    """
    ratings = as_ratings("ratings", ratings)
    times = times_of(ratings, timestamps)
    moments = times.numbers
    if at is not None:
        return _cut(ratings, moments >= times.moment("at", at))
    size = round(validation.share("test_size", test_size) * ratings.nnz)
    cut = np.partition(moments, -size)[-size] if size > 0 else np.inf
    return _cut(ratings, moments >= cut)


def user_split(ratings: Any, test_size: float = 0.2, fold_in_size: float = 0.8,
               random_state: Seed = None) -> tuple[Ratings, Ratings, Ratings]:
    """Hold out whole users: strong generalisation.

    A model is trained without the held-out users, is shown a share of their cells (to fold
    them in) and tested on the rest.  For a validation part too, split `train` again.  The
    protocol is that of Liang, Krishnan, Hoffman, Jebara (WWW 2018), section 4.2.

    Parameters
    ----------
    test_size : float in (0, 1)
        Share of the users to hold out, among those with at least two cells.
    fold_in_size : float in (0, 1)
        Share of a held-out user's cells to fold in, to the nearest cell; at least one
        cell is folded in and at least one tested.
    random_state : int, numpy Generator or None

    Returns
    -------
    train : Ratings, shape (n_users - n_held, n_items)
        All cells of the other users.
    fold_in, test : Ratings, shape (n_held, n_items)
        The cells of the held-out users; row h is the same user in both.
    """
    ratings = as_ratings("ratings", ratings)
    size = round(validation.share("test_size", test_size) * ratings.shape[0])
    fold_in_size = validation.share("fold_in_size", fold_in_size)
    rng = validation.random_generator("random_state", random_state)
    chosen = np.zeros(ratings.shape[0], bool)
    chosen[_drawn_users(ratings, size, rng)] = True
    held = ratings.select_users(np.flatnonzero(chosen))
    counts = np.diff(held.by_user.indptr)
    shown = _rounded_share(fold_in_size, counts).clip(1)
    fold_in, test = _cut(held, _drawn_of_each_user(held, counts - shown, rng))
    return ratings.select_users(np.flatnonzero(~chosen)), fold_in, test


def _cut(ratings: Ratings, held_out: np.ndarray) -> tuple[Ratings, Ratings]:
    size = int(held_out.sum())
    if not 0 < size < ratings.nnz:
        part = "test" if size == 0 else "training"
        raise ValueError(f"the {part} part would be empty: {size} of {ratings.nnz} cells would "
                         f"be held out")
    return ratings.select_cells(~held_out), ratings.select_cells(held_out)


def _fold_numbers(ratings: Ratings, n_folds: int) -> np.ndarray:
    """Return a fold number per cell; the sizes of folds differ by at most one cell."""
    n_folds = validation.integer("n_folds", n_folds, low=2)
    if n_folds > ratings.nnz:
        raise ValueError(f"n_folds must be <= the number of cells, {ratings.nnz}, got {n_folds}")
    return (np.arange(ratings.nnz) % n_folds).astype(np.min_scalar_type(n_folds))


def _rounded_share(size: float, counts: np.ndarray) -> np.ndarray:
    """Return that share of each user's cells in whole cells, but never all of them."""
    return np.asarray(np.floor(size * counts + 0.5).astype(np.int64).clip(max=counts - 1))


def _drawn_of_each_user(ratings: Ratings, sizes: np.ndarray,
                        rng: np.random.Generator) -> np.ndarray:
    """Mark `sizes[u]` cells of each user u, each of them equally likely."""
    places = _places(ratings, rng.integers(0, 2**32, ratings.nnz))
    return np.asarray(places < sizes[ratings.users_of_cells])


def _drawn_users(ratings: Ratings, size: int, rng: np.random.Generator) -> np.ndarray:
    able = np.flatnonzero(np.diff(ratings.by_user.indptr) >= 2)
    if not 0 < size <= able.size or size == ratings.shape[0]:
        raise ValueError(f"test_size must hold out and leave at least one user, got {size} of "
                         f"{ratings.shape[0]} to hold out, {able.size} of which have two cells")
    return rng.choice(able, size, replace=False, shuffle=False)


def _places(ratings: Ratings, key: np.ndarray) -> np.ndarray:
    """Return the place of each cell among its user's cells in the order of `key`, from 0."""
    places = np.empty(ratings.nnz, np.int64)
    places[_order_by_user(ratings.users_of_cells, key)] = np.arange(ratings.nnz)
    places -= ratings.by_user.indptr[ratings.users_of_cells]
    return places


def _order_by_user(users: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Order cells by user, then key, then place, in one sort if both fit in 63 bits."""
    if key.dtype.kind in "iu" and key.size:
        low, high = int(key.min()), int(key.max())
        if high < 2**63 and (high - low + 1) * (int(users[-1]) + 1) < 2**63:
            key = users.astype(np.int64) * (high - low + 1) + (key.astype(np.int64) - low)
            return np.argsort(key, kind="stable")
    return np.lexsort((key, users))
