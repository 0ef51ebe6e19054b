"""Measure recommendations of any library: lists of items, told apart by user.

A frame has a line per recommended item.  Its lists are ranked as the scores of a model would be:
an item that is not in a user's list has the score −∞, and can be no hit.  Lines of one user with
the same score or rank share their places, as ties do everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.canonical import merge
from mfcore.data.frames import numbers_of, table_of
from mfcore.data.ids import Ids, as_vector, factorize
from mfcore.data.ratings import Ratings, as_ratings, names_of
from mfcore.data.renumber import renumber_items
from mfcore.metrics.alignment import Alignment
from mfcore.metrics.evaluate import check_per_user, measured, told
from mfcore.metrics.fitted import Query
from mfcore.metrics.table import Metric, needing, reading, requested
from mfcore.parallel import Pool


def evaluate_lists(frame: Any, test: Any, *, user: str = "user", item: str = "item",
                   rank: str | None = None, score: str | None = None, train: Any = None,
                   groups: tuple[Any, Any] | None = None, item_features: Any = None,
                   k: int | Sequence[int] | None = None,
                   metrics: str | Sequence[str] | None = None, threshold: float | None = None,
                   unknown: str = "raise", per_user: bool = False,
                   n_threads: int | None = None) -> dict[str, Any]:
    """Measure lists of recommended items, of any library, on a test set.

    Parameters
    ----------
    frame : mapping of columns
        A line per recommended item: a pandas or polars frame, a pyarrow table, a dict of arrays,
        or anything else that answers `frame[name]`.
    test : Ratings or scipy sparse, shape (n_users, n_items)
        What the users turned out to rate; by ids, or by row and column numbers if it has none.
    user, item : str
        Names of the columns of ids.
    rank, score : str or None
        Column by which the lines of a user are ordered: by ascending rank, or by descending
        score.  None: "rank" or "score" if there is such a column, else the order of the lines.
    train : Ratings or scipy sparse, or None
        Training ratings, by the same ids: they say which items there are, and how often they were
        rated.  None: the items are those of `test`.
    groups, item_features
        As in `evaluate`; items in the order of `train`, or of `test` without it.
    k : int, sequence of int >= 1, or None
        Cut-offs, at most the length of the longest list; None: this length.
    metrics : str, sequence of str or None
        As in `evaluate`, without those of predicted ratings and of all scores.
    threshold : float or None
        As in `evaluate`.
    unknown : {"raise", "ignore"}
        What to do with items and users that neither `test` nor `train` knows: "ignore" takes the
        items as misses and leaves lines of the users out.
    per_user : bool
        As in `evaluate`.
    n_threads : int >= 1 or None
        The result does not depend on it.

    Returns
    -------
    values : dict of str to float, or to ndarray, shape (n_users,), with `per_user`
        A user of `test` with relevant items and no list scores 0.

    Raises
    ------
    KeyError
        For a missing column, and for unknown ids unless they are ignored.
    TypeError, ValueError
        For columns of different lengths, an item that is twice in a list, ranks or scores that
        are not finite numbers, both a rank and a score named, k above the longest list, and
        what `evaluate` refuses.

    Notes
    -----
    Lists are taken as they are: an item of the list that the user has rated in training and not
    in the test set is a miss, and test cells that are also in `train` count.

    Examples
    --------
    >>> from mfcore import Ratings, evaluate_lists
    >>> test = Ratings.from_arrays(["ann", "bob"], ["Alien", "Brazil"])
    >>> lists = {"user": ["ann", "ann", "bob", "bob"], "item": ["Alien", "Clue", "Clue", "Brazil"]}
    >>> evaluate_lists(lists, test, metrics="mrr", unknown="ignore")
    {'mrr': 0.75}
    """
    validation.boolean("per_user", per_user)
    listed = Listed(frame, test, user=user, item=item, rank=rank, score=score, train=train,
                    unknown=unknown)
    wanted = requested(metrics, listed.longest if k is None else k, rates=False)
    listed.check(wanted)
    if per_user:
        check_per_user(wanted)
    task = Alignment(listed, listed.test)
    return told(task, measured(task, wanted, groups=groups, item_features=item_features,
                               threshold=threshold, exclude_seen=False, n_threads=n_threads),
                per_user)


class Listed:
    """Lists of items, in the place of a fitted model; arguments as in `evaluate_lists`.

    Its users and items are those of the training ratings, then of the test set, then (ignored)
    items of the lists.
    """

    predicts_ratings = False

    def __init__(self, frame: Any, test: Any, *, user: str = "user", item: str = "item",
                 rank: str | None = None, score: str | None = None, train: Any = None,
                 unknown: str = "raise") -> None:
        validation.choice("unknown", unknown, ("raise", "ignore"))
        self.test = as_ratings("test", test)
        self.trained = train is not None
        known = as_ratings("train", train) if self.trained else self.test
        check_same_kind(known, self.test)
        users, items, order = _lines(frame, user, item, rank, score)
        self.ratings_ = _of_all(known, self.test, self.trained, _distinct("items", items)
                                if unknown == "ignore" else [])
        self.user_ids_, self.item_ids_ = self.ratings_.user_ids, self.ratings_.item_ids
        self.n_users_, self.n_items_ = known.shape[0], self.ratings_.shape[1]
        self.scores = self._scores(users, items, order, unknown)
        self.longest = max(1, int(np.diff(self.scores.indptr).max(initial=0)))

    @property
    def item_counts_(self) -> np.ndarray:
        """Number of training ratings of each item."""
        return np.diff(self.ratings_.by_item.indptr)

    def _scores(self, users: Any, items: Any, order: np.ndarray, unknown: str) -> sp.csr_array:
        rows = self.ratings_.user_positions(users)
        columns = self.ratings_.item_positions(items)
        if unknown == "raise":
            for name, given, found in (("users", users, rows), ("items", items, columns)):
                _check_known(name, given, found, self.trained)
        kept = (rows >= 0) & (columns >= 0)
        rows, columns, order = rows[kept], columns[kept], order[kept]
        _check_once(users, items, kept, rows * self.n_items_ + columns)
        shape = self.ratings_.shape
        indptr, columns, arrays = merge(rows, columns, shape, {"order": order}, "error")
        return sp.csr_array((arrays["order"], columns, indptr), shape=shape)

    def check(self, wanted: Sequence[Metric]) -> None:
        """Raise a ValueError for metrics that lists do not have, or cut-offs beyond them."""
        for metric in reading(wanted, "ratings", "scores"):
            lack = {"ratings": "predicted ratings", "scores": "the scores of all items"}
            raise ValueError(f"{metric.name} needs {lack[metric.kind.reads]}, which lists do not "
                             f"have: leave it out")
        for metric in wanted:
            if metric.cut > self.longest:
                raise ValueError(f"k must be <= the length of the longest list, {self.longest}, "
                                 f"got {metric.cut}; ask for longer lists")
        for metric in [] if self.trained else needing(wanted, "counts", "seen"):
            raise ValueError(f"{metric.name} needs the training ratings: give them as train=")

    # ------------------------------------------------- what a fitted model answers

    def check_seen(self) -> None:
        """Do nothing: `check` has seen that training ratings are there."""

    def new_rows(self, ratings: Any, user_features: Any, n_rows: int) -> None:
        """Return None: lists know no new users."""

    def answers(self) -> Listed:
        """Return itself."""
        return self

    def scorer(self, asked: Any, query: Query, pool: Pool) -> ListScorer:
        """Return the scorer of some rows."""
        return ListScorer(self.scores[asked])


class ListScorer:
    """The scores of listed items, −∞ for all others: a `Scorer`."""

    def __init__(self, scores: sp.csr_array) -> None:
        self.scores = scores
        self.n_rows, self.n_items = scores.shape

    def block(self, start: int, stop: int) -> np.ndarray:
        """Return the scores of rows start..stop, float64, shape (stop - start, n_items)."""
        part = self.scores[start:stop].tocoo()
        out = np.full(part.shape, -np.inf)
        out[part.row, part.col] = part.data
        return out

    def rounding(self, start: int, stop: int) -> None:
        """Return None: scores stay as they are given."""


def check_same_kind(first: Ratings, second: Ratings) -> None:
    """Raise a ValueError if one has ids and the other has none, or other numbers of rows."""
    for axis, name in enumerate(("users", "items")):
        ids = [(each.user_ids, each.item_ids)[axis] for each in (first, second)]
        if (ids[0] is None) != (ids[1] is None) or (
                ids[0] is None and first.shape[axis] != second.shape[axis]):
            raise ValueError(f"train and test must both have ids of {name}, or be matrices of the "
                             f"same shape, got {first} and {second}")


def _lines(frame: Any, user: str, item: str, rank: str | None, score: str | None
           ) -> tuple[Any, Any, np.ndarray]:
    """Return the users, the items and the scores of the lines of a frame."""
    if rank is not None and score is not None:
        raise ValueError(f"rank and score must not both be given, got {rank!r} and {score!r}")
    table = table_of(frame)
    if rank is None and score is None:
        rank = "rank" if "rank" in table.names else None
        score = "score" if rank is None and "score" in table.names else None
    name = rank if rank is not None else score
    found = table.columns({"user": user, "item": item, **({} if name is None else {"order": name})})
    users, items = found["user"][1], found["item"][1]
    order = -np.arange(len(items), dtype=float)
    if name is not None:
        order = (1 if rank is None else -1) * numbers_of(*found["order"]).astype(float)
    validation.same_length(**{user: users, item: items, name or "lines": order})
    if not len(order):
        raise ValueError("frame must hold at least one line, got none")
    return users, items, order


def _distinct(name: str, values: Any) -> list[Any]:
    found: list[Any] = factorize(name, values)[0].tolist()
    return found


def _of_all(known: Ratings, test: Ratings, trained: bool, items: list[Any]) -> Ratings:
    """Return the training ratings on all users and items; none where they are not known."""
    users, columns = names_of(known)
    user_ids = _united(users, test.user_ids)
    item_ids = _united(columns, test.item_ids, as_vector(items))
    n_users = known.shape[0] if user_ids is None else len(user_ids)
    n_items = known.shape[1] if item_ids is None else len(item_ids)
    if not trained:
        cells = sp.csr_array((n_users, n_items), dtype=np.float32)
    else:
        wide = renumber_items(known, np.arange(known.shape[1]), n_items).by_user
        indptr = np.append(wide.indptr, np.full(n_users - known.shape[0], wide.indptr[-1]))
        cells = sp.csr_array((wide.data, wide.indices, indptr), shape=(n_users, n_items))
    return Ratings(cells, user_ids=user_ids, item_ids=item_ids, copy=False)


def _united(known: Ids | None, *others: Any) -> np.ndarray | None:
    """Return all ids, each once, in the order in which they come; None without ids."""
    if known is None:
        return None
    for given in others:
        fresh = known.in_kind("ids", given[known.positions(given) < 0])
        known = Ids("ids", np.concatenate([known.values, fresh]))
    return known.values
def _check_known(name: str, given: Any, found: np.ndarray, trained: bool) -> None:
    missing = [_shown(given, line) for line in np.flatnonzero(found < 0).tolist()]
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise KeyError(f"{name} of the lists must be among those of "
                       f"{'train and test' if trained else 'test, or of train='}, got {shown}; "
                       f'unknown="ignore" takes unknown items as misses')


def _check_once(users: Any, items: Any, kept: np.ndarray, cells: np.ndarray) -> None:
    """Raise a ValueError that names an item that is twice in a list."""
    order = np.argsort(cells, kind="stable")
    twice = np.flatnonzero(cells[order][1:] == cells[order][:-1])
    if twice.size:
        line = int(np.flatnonzero(kept)[order[twice[0]]])
        raise ValueError(f"each list must hold an item once, got item {_shown(items, line)} twice "
                         f"for user {_shown(users, line)} ({twice.size} such lines in all)")


def _shown(values: Any, line: int) -> str:
    value = values[line]
    return repr(getattr(value, "item", lambda: value)())
