"""What one asks of a fitted model: scores, lists, neighbours, reasons.

Functions whose first argument is the model.  `Recommender` has them as methods, under the same
names; a model that answers otherwise overrides them.
"""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mfcore import validation
from mfcore.data.positions import named
from mfcore.metrics.fitted import Query
from mfcore.models import fitted, registry
from mfcore.models.estimator import Estimator
from mfcore.models.inputs import asked_pairs, item_filters, user_filters
from mfcore.parallel import Pool

if TYPE_CHECKING:
    from mfcore.models.answering.index import IndexVectors


def predict(self: Estimator, users: Any, items: Any = None, *, ratings: Any = None,
            user_features: Any = None, times: Any = None, unknown: str | None = None
            ) -> np.ndarray:
    """Return the scores of pairs, float64, shape (n_pairs,), not clipped to a range.

    Parameters
    ----------
    users, items : ids (row numbers where the ratings had none), or sequences of them
        One user goes with all items, and one item with all users.  Without items, `users`
        are pairs, shape (n_pairs, 2), as for `fit` with y.
    ratings : Ratings, scipy sparse, ids of items, {item: rating}, or None
        New users' rows, or one new user's items, folded in; `users` then number these rows.
    user_features : Features, scipy sparse or lists of names, or None
        Features of new users, alone or row by row with `ratings`.
    times : moment, or one per pair, or None
        Adds the effects of periods that a model has learned with user_periods or item_periods.
    unknown : {"raise", "ignore"} or None
        What to do with an id that the fit did not have: raise KeyError (IndexError for a
        row number), or fall back.  "ignore" also leaves unknown items out of `ratings`,
        where None raises.

    Notes
    -----
    An unknown user or item falls back on what is known: the mean and the other side's
    bias, and with features the vector of an average row.  A model without biases falls
    back on the mean rating where a side without features has no vector: unknown ids,
    and users and items without ratings unless unknown cells have a weight.
    """
    self.check_fitted()
    drift = None if times is None else fitted.drift_for(self)
    asked = asked_pairs(self, users, items, ratings, user_features, unknown)
    with Pool(self.n_threads) as pool:
        if drift is None:
            return self.answers().pairs(*asked, pool)
        effects, answers = drift.of_pairs(*asked, times), cast(Any, self.answers())
        scores: np.ndarray = answers.pairs_in_time(*asked, effects, pool)
    return scores


def recommend(self: Estimator, users: Any = None, k: int = 10, *, similarity: str = "dot",
              exclude_seen: bool = True, items: Any = None, exclude_items: Any = None,
              ratings: Any = None, user_features: Any = None, times: Any = None,
              unknown: str = "raise", as_frame: bool | str | None = None, titles: Any = None
              ) -> Any:
    """Return the k best items of each user, best first.

    Parameters
    ----------
    users : ids (row numbers where the ratings had none), one id, or None
        None: all users of the fit, or all rows of `ratings`.
    k : int, >= 1
        Beyond the number of items, only places without an item are added: a gibibyte at most.
    similarity : {"dot", "cosine"}
        "dot" ranks by the model's score, biases included; "cosine" by the angle of
        the factors alone (a zero vector scores 0).
    exclude_seen : bool
        Leave out what a user has rated.
    items, exclude_items : ids, or CSR (n_users, n_items), or None
        Only these; none of these.  The CSR holds one row per asked user.
    ratings : Ratings, scipy sparse, ids of items, {item: rating}, or None
        New users' rows, or one new user's items, folded in; `users` must then be None.
    user_features : Features, scipy sparse or lists of names, or None
        Features of new users: alone, where no rating of theirs is known, or row by row
        with `ratings`; `users` must be None.
    times : moment, or one per user, or None
        When the lists are for: see `predict`.
    unknown : {"raise", "ignore"}
        What to do with an id that the fit did not have.  "ignore" answers an unknown user
        like one without ratings or features, and leaves unknown items out of `ratings` and
        filters: one stale id then does not fail a batch.
    as_frame : bool, {"pandas", "polars", "pyarrow"} or None
        Return a frame of that library (True: of the first that is installed) with a row per
        recommendation and columns user, item, score and rank, from 1.
    titles : mapping or Series from item id to title, or one title per item, or None
        Makes a column title of the frame, None for items without one.

    Returns
    -------
    item_ids, scores : ndarray, shape (n_users, k)
        The same bits alone and in a batch (new users of `NeuralMF`: to rounding).  Ties go to
        the item that comes first in the ratings.  Where fewer than k items are left: id -1
        (None where ids are no integers) and score -inf.

    Raises
    ------
    KeyError, IndexError
        For unknown ids, or row numbers out of range.
    ValueError
        For ratings of another width (it says when they look transposed).
    ImportError
        For a frame of a library that is not installed.
    """
    return fitted.best_items(self, Query(similarity), users, k, exclude_seen, items, exclude_items,
                             ratings, user_features, unknown, as_frame, titles, times)


def recommend_to(self: Estimator, path: str | PathLike[str], k: int = 10, *, users: Any = None,
                 ratings: Any = None, user_features: Any = None, titles: Any = None,
                 memory: int | str = "256MB", verbose: int | None = None, **options: Any) -> int:
    """Write the k best items of each user to a file, a chunk of users at a time.

    Parameters
    ----------
    path : str or PathLike
        The suffix says what is written: .csv, .csv.gz, .parquet or .npy (a structured array).
        It has a row per recommendation, with columns user, item, score and rank, from 1.
    k : int, >= 1
    users : ids (row numbers where the ratings had none), one id, or None
        None: all users of the fit, or all rows of `ratings`.
    ratings, user_features
        New users, as in `recommend`; `users` must then be None.
    titles : mapping or Series from item id to title, or one title per item, or None
        Makes a column title.
    memory : int (bytes), or str such as "2GB"
        What lists, their text and blocks of scores may take besides the model.
    verbose : int or None
        1 shows a progress bar, 0 none; None: at a terminal and in a notebook, after half a second.
    **options
        As in `recommend`, without a frame: similarity, exclude_seen, items,
        exclude_items, unknown, and what the model takes besides.

    Returns
    -------
    n_rows : int
        Rows of the file; lists of fewer than k items have fewer.

    Raises
    ------
    ValueError
        For another suffix, or too little memory for one user.
    ImportError
        For parquet without pyarrow.
    BlockingIOError
        While another process or thread writes lists to this file.

    Notes
    -----
    The file is whole or absent.  The folder `.NAME.lists` next to it holds the work meanwhile: an
    interrupted call, even a killed one, goes on from there when it is called again with the same
    model and arguments (memory and threads may differ), and starts again with others.
    """
    from mfcore.models.answering.lists_out import write_lists

    return write_lists(self, path, k, (users, ratings, user_features), titles, memory, verbose,
                       options)


def recommend_users(self: Estimator, items: Any, k: int = 10, *, similarity: str = "dot",
                    exclude_seen: bool = True, users: Any = None, exclude_users: Any = None,
                    unknown: str = "raise", as_frame: bool | str | None = None,
                    titles: Any = None) -> Any:
    """Return the k users with the highest scores of each item, best first.

    Parameters
    ----------
    items : ids (column numbers where the ratings had none), or one id
    k : int, >= 1
    similarity : {"dot", "cosine"}
        As in `recommend`.
    exclude_seen : bool
        Leave out users who have rated the item.
    users, exclude_users : ids, or CSR (n_items, n_users), or None
        Only these; none of these.  The CSR holds one row per asked item.
    unknown : {"raise", "ignore"}
        What to do with an id that the fit did not have.  "ignore" gives an unknown item an empty
        list, and leaves unknown users out of filters.
    as_frame, titles
        As in `recommend`; the columns are item, user, score, rank, and the title of the item.

    Returns
    -------
    user_ids, scores : ndarray, shape (n_items, k)
        The scores of `recommend`, alone and in a batch.  Ties go to the user who comes first in
        the ratings.  Where fewer than k users are left: id -1 (None where ids are no integers)
        and score -inf.

    Raises
    ------
    KeyError, IndexError
        For unknown ids, or column numbers out of range.
    ImportError
        For a frame of a library that is not installed.

    Notes
    -----
    Scores of several users can be compared where they are on one scale: predicted ratings, or
    with `similarity="cosine"`.  A model of choices ranks the items of each user, and a user's
    bias, or activity, moves all scores of that user.
    """
    from mfcore.models.answering.users import best_users

    return best_users(self, Query(similarity), items, k, exclude_seen, users, exclude_users,
                      unknown, as_frame, titles)


def index_vectors(self: Estimator, users: Any = None, *, metric: str = "dot", ratings: Any = None,
                  user_features: Any = None, unknown: str = "raise") -> IndexVectors:
    """Return vectors for an index of nearest neighbours, which then finds what `recommend` finds.

    Parameters
    ----------
    users : ids (row numbers where the ratings had none), one id, or None
        Whose query vectors to return; None: of all users of the fit, or of new ones.
    metric : {"dot", "cosine", "euclidean"}
        What the index ranks by: the largest inner product, or angle, or the smallest distance.
        The latter two take one more coordinate, in which items differ in length.
    ratings, user_features, unknown
        New users: as in `recommend`.  Vectors of items are the same for all of them.

    Returns
    -------
    IndexVectors(items (n_items, d), users (n_users, d), item_ids, user_ids, offsets (n_users,))
        Biases are coordinates.  With "dot" a score is the inner product plus the user's offset.

    Raises
    ------
    NotImplementedError
        For models whose scores are no inner products.
    KeyError, IndexError
        For unknown ids, or row numbers out of range.

    Notes
    -----
    An index knows nothing of what users have seen: ask for more, and leave it out.  Where scores
    differ by less than the rounding of the index, its order may be another one, first of all with
    "euclidean", where large squares meet.

    References
    ----------
    Bachrach et al. 2014, Speeding up the Xbox recommender system using a Euclidean transformation.
    """
    from mfcore.models.answering.index import vectors_of

    return vectors_of(self, users, metric, ratings, user_features, unknown)


def similar_items(self: Estimator, of: Any, k: int = 10, *, similarity: str = "cosine",
                  items: Any = None, exclude_items: Any = None,
                  as_frame: bool | str | None = None, titles: Any = None) -> Any:
    """Return the k items nearest to each given one, without itself, by their vectors.

    Parameters
    ----------
    of : ids (column numbers where the ratings had none), or one id
        Items whose neighbours are wanted.
    k : int, >= 1
    similarity : {"cosine", "dot"}
        The angle between vectors, or their inner product, which favours long vectors.
    items, exclude_items : ids, or CSR (n, n_items), or None
        Only these neighbours; none of these.  The CSR holds one row per given item.
    as_frame, titles
        As in `recommend`; the columns are item, similar, score, rank, and the title of the
        similar item.

    Returns
    -------
    item_ids, scores : ndarray, shape (n, k)
        Where fewer than k are left: id -1 (None where ids are no integers) and score -inf.

    Raises
    ------
    KeyError, IndexError
        For unknown ids, or column numbers out of range.
    NotImplementedError
        For models without vectors of items.
    """
    self.check_fitted()
    self.require("similar_items")
    table = fitted.framing(self, as_frame, titles)
    columns, k = self.ratings_.known_items(of), fitted.length_of_lists(k, self.n_items_, table)
    filters = item_filters(self.ratings_, len(columns), items, exclude_items, row="item")
    best, scores = fitted.nearest(self, self.item_factors_, columns, k, similarity, filters,
                                  side=self.items_)
    return fitted.framed(table, "item", columns, named(best, self.item_ids_), scores)


def similar_users(self: Estimator, of: Any, k: int = 10, *, similarity: str = "cosine",
                  users: Any = None, exclude_users: Any = None,
                  as_frame: bool | str | None = None) -> Any:
    """Return the k users nearest to each given one, without itself: see `similar_items`.

    Parameters
    ----------
    of : ids (row numbers where the ratings had none), or one id
        Users whose neighbours are wanted.
    k : int, >= 1
    similarity : {"cosine", "dot"}
    users, exclude_users : ids, or CSR (n, n_users), or None
        Only these neighbours; none of these.  The CSR holds one row per given user.
    as_frame : bool, {"pandas", "polars", "pyarrow"} or None
        As in `recommend`; the columns are user, similar, score and rank.

    Returns
    -------
    user_ids, scores : ndarray, shape (n, k)
    """
    self.check_fitted()
    self.require("similar_users")
    table = fitted.framing(self, as_frame)
    rows, k = self.ratings_.known_users(of), fitted.length_of_lists(k, self.n_users_, table)
    filters = user_filters(self.ratings_, len(rows), users, exclude_users, row="user")
    best, scores = fitted.nearest(self, self.user_factors_, rows, k, similarity, filters,
                                  side=self.users_)
    return fitted.framed(table, "user", rows, named(best, self.user_ids_), scores)


def similar_groups(self: Estimator, groups: Any, k: int = 10, *, to: str = "groups",
                   side: str = "user", similarity: str = "cosine"
                   ) -> tuple[np.ndarray, np.ndarray]:
    """Return what lies nearest to groups, best first, by vectors alone.

    Parameters
    ----------
    groups : str or sequence of str
        Names of features, as in `user_feature_names_`.
    k : int, >= 1
    to : {"groups", "items", "users"}
        What to compare with: the other groups of the same side, items or users.
    side : {"user", "item"}
        Whose features the groups are.
    similarity : {"cosine", "dot"}

    Returns
    -------
    names, scores : ndarray, shape (n_groups, k)
        Names of groups, or ids; None (or -1) and -inf where fewer than k are left.

    Raises
    ------
    KeyError
        For names that the fit did not have; it lists the known ones.
    ValueError
        Where the model was fitted without features of that side.
    """
    self.check_fitted()
    if self.lacks("user_features") or self.lacks("similar_users"):       # (no vectors to compare)
        raise NotImplementedError(registry.sentence(type(self), "similar_groups"))
    return fitted.nearest_to_groups(self, groups, k, to, side, similarity)


def explain(self: Estimator, user: Any, item: Any, k: int = 10
            ) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the score of a pair, and the rated items that contribute most to it.

    The score is a sum over rated items, plus what does not come from ratings (biases,
    mean, prior, unknown cells).

    Parameters
    ----------
    user, item : id, or row number
    k : int, >= 1
        Contributions to return, largest in size first.

    Returns
    -------
    score : float
    item_ids, contributions : ndarray, shape (at most k,)

    Raises
    ------
    NotImplementedError
        For models whose score is no sum over ratings.

    References
    ----------
    Hu, Koren, Volinsky 2008, section 5.
    """
    self.check_fitted()
    self.require("explain")
    self.check_seen()
    k = validation.count("k", k)
    (row,), (column,) = self.ratings_.known_users([user]), self.ratings_.known_items([item])
    answers: Any = self.answers()
    score, columns, contributions = answers.explain(self.ratings_, int(row), int(column), k)
    return score, named(columns, self.item_ids_), contributions
