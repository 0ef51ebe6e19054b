"""A saved model, read to answer from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from typing import Any

import numpy as np

from mfcore import persistence, validation
from mfcore.calls import in_its_name
from mfcore.data.ids import Ids, as_vector
from mfcore.data.positions import (
    filled,
    is_one_row,
    known_positions,
    lengthened,
    named,
    named_or_none,
    positions_of,
)
from mfcore.models import registry
from mfcore.objectives.scaling import implied_rating
from mfcore.serving.answers import Answers, Items, Row, Vectors, Walks
from mfcore.serving.new_rows import average_row, row_system

LINEAR = ("MatrixFactorization", "ImplicitMF", "BPR", "SoftmaxMF", "BayesianMF", "PureSVD",
          "BiasOnly", "Popularity")
RATES = ("MatrixFactorization", "BayesianMF", "BiasOnly")      # by `predicts_ratings`
UNKNOWN = ("raise", "ignore")
PARTS = ("indptr", "indices", "data")


def load(path: str | PathLike[str], *, mmap: bool = False, check: bool = True) -> Served:
    """Read a saved model to answer from.

    Parameters
    ----------
    path : str or PathLike
        A file that `save` wrote.
    mmap : bool
        Map arrays into memory instead of reading them, so that the processes of a service share
        one copy.  The file must not be changed in place; `save` never does.
    check : bool
        Compare all arrays with their checksums.  False starts at once, whatever the size.

    Returns
    -------
    model : Served

    Raises
    ------
    FileNotFoundError
        No file of that name.
    ModelFileError
        A file that is truncated, altered or no model.
    NotImplementedError
        A model whose answers need more than NumPy: `mfcore.load` serves all of them.
    """
    arrays, meta = persistence.read(path, mmap=validation.boolean("mmap", mmap),
                                    check=validation.boolean("check", check))
    name = meta.get("class")
    if name not in registry.MODELS:
        raise persistence.ModelFileError(f"{path} holds a model of unknown class {name!r}")
    answers = _answers(str(name), meta, arrays)
    n_users, n_items = meta["shape"]
    seen = [arrays[part] for part in ("ratings.indptr", "ratings.indices")]
    users, items = (named_or_none(part, arrays.get(f"ratings.{part}"), size) for part, size in
                    (("user_ids", n_users), ("item_ids", n_items)))
    rates = name in RATES and meta["params"].get("loss") != "logistic"
    return Served(str(name), answers, n_users, users, items, seen[0], seen[1],
                  meta["fitted"]["rating_range_"] if rates else None)


def _answers(name: str, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> Answers:
    if name in registry.OF_ITEMS:
        row, n_items, dtype = _weights(arrays)
        return Items(n_items, dtype, row=row, **_rated(meta, arrays))
    if name == "GraphFilter":
        Q, graph = arrays["item_factors_"], "graph_" if "graph_.data" in arrays else "ratings"
        starts, items, values = (arrays[f"{graph}.{part}"] for part in PARTS)
        return Walks(len(Q), Q.dtype, starts=starts, items=items, values=values,
                     user_degrees=arrays["user_degrees_"], item_degrees=arrays["item_degrees_"],
                     Q=Q, share=meta["params"]["share"], **_rated(meta, arrays))
    if name not in LINEAR:
        served = ", ".join((*LINEAR, *registry.OF_ITEMS, "GraphFilter"))
        raise NotImplementedError(f"mfcore.serving answers for {served}; mfcore.load serves {name}")
    if meta["params"].get("likelihood") == "ordinal":
        raise NotImplementedError("mfcore.serving answers by one score per pair, and "
                                  "likelihood='ordinal' by an average over samples; mfcore.load "
                                  "serves it")
    P, Q = arrays["user_factors_"], arrays["item_factors_"]
    beta, gamma = (arrays.get(f"{side}_bias_", np.zeros(len(X), X.dtype))
                   for side, X in (("user", P), ("item", Q)))
    mean, params = float(meta["fitted"]["global_mean_"]), meta["params"]
    average = average_row(arrays, params, P.shape[1])
    solve = row_system(name, meta, Q, gamma, mean, average)
    is_score = params.get("loss") != "logistic" and params.get("bias", "") is not None
    return Vectors(P, Q, beta, gamma, mean, average, solve, is_score)


def _rated(meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return what `Rated` holds of the ratings of a fit."""
    return {"binary": meta["params"]["values"] == "binary", "has_seen": meta["fitted"]["has_seen_"],
            **{part: arrays[f"ratings.{part}"] for part in PARTS}}


def _weights(arrays: dict[str, np.ndarray]) -> tuple[Callable[[int], Any], int, np.dtype]:
    """Return what gives a row of B, dense or CSR, the number of rows, and the type of weights."""
    if "weights_" in arrays:
        B = arrays["weights_"]
        return lambda column: (slice(None), B[column]), len(B), B.dtype
    indptr, indices, data = (arrays[f"weights_.{part}"] for part in PARTS)

    def row(column: int) -> tuple[np.ndarray, np.ndarray]:
        cells = slice(indptr[column], indptr[column + 1])
        return indices[cells], data[cells]

    return row, len(indptr) - 1, data.dtype


class Served:
    """A saved model that answers with NumPy alone.

    Attributes
    ----------
    name : str
        The class that was saved.
    n_users_, n_items_ : int
    user_ids_, item_ids_ : ndarray or None
    """

    def __init__(self, name: str, answers: Answers, n_users: int, users: Ids | None,
                 items: Ids | None, indptr: np.ndarray, indices: np.ndarray,
                 bounds: tuple[float, float] | None) -> None:
        self._bounds = bounds                       # (of ratings, where these are predicted)
        self.name, self._answers, self._indptr, self._indices = name, answers, indptr, indices
        self._users, self._items = users, items
        self.n_users_, self.n_items_ = n_users, answers.n_items

    def __repr__(self) -> str:
        return f"<{self.name} served: {self.n_users_:,} users × {self.n_items_:,} items>"

    @property
    def user_ids_(self) -> np.ndarray | None:
        """Ids of the users of the fit; None where these had row numbers."""
        return None if self._users is None else self._users.values

    @property
    def item_ids_(self) -> np.ndarray | None:
        """Ids of the items of the fit; None where these had column numbers."""
        return None if self._items is None else self._items.values

    @in_its_name
    def recommend(self, users: Any = None, k: int = 10, *, exclude_seen: bool = True,
                  items: Any = None, exclude_items: Any = None, ratings: Any = None,
                  unknown: str = "raise") -> tuple[np.ndarray, np.ndarray]:
        """Return the k best items of each user, best first.

        Parameters
        ----------
        users : ids (row numbers where the ratings had none), one id, or None
            None: all users of the fit, or the new user of `ratings`.
        k : int, >= 1
        exclude_seen : bool
            Leave out what a user has rated.
        items, exclude_items : ids, or None
            Only these; none of these.
        ratings : sequence of item ids, {item: rating}, or None
            What one new user has rated; `users` must be None.  In a sequence each is 1, or the one
            rating of the fit; a model that learned several ratings wants them all.
        unknown : {"raise", "ignore"}
            What to do with ids that the fit did not have: see `MatrixFactorization.recommend`.

        Returns
        -------
        item_ids, scores : ndarray, shape (n_users, k)
            As `recommend` of the model itself: the same lists; scores to the last bits.

        Raises
        ------
        KeyError, IndexError
            For unknown ids, or row numbers out of range.
        ValueError
            For ids without ratings, of a model that learned several ratings.
        NotImplementedError
            For new users of a model that cannot learn their rows with NumPy alone.
        DivergenceError
            For ratings that are too large for the vectors of the model.
        """
        k = validation.count("k", k)
        validation.boolean("exclude_seen", exclude_seen)
        find = known_positions if validation.choice("unknown", unknown, UNKNOWN) == "raise" \
            else positions_of
        hidden = np.zeros(self.n_items_, bool)
        if items is not None:
            hidden[:] = True
            hidden[self._columns(find("items", items, self._items, self.n_items_))] = False
        if exclude_items is not None:
            hidden[self._columns(find("items", exclude_items, self._items, self.n_items_))] = True
        if ratings is not None:
            if users is not None:
                raise ValueError("users must be None where ratings are given: they are those of "
                                 "one new user")
            columns, values = self._rated(ratings, unknown)
            rows = [(self._answers.new(columns, values), columns)]
        else:
            asked = np.arange(self.n_users_) if users is None else \
                find("users", users, self._users, self.n_users_)
            rows = [(self._answers.known(int(row)), self._seen(int(row))) for row in asked]
        held = filled(k, len(rows), self.n_items_)
        best = np.full((len(rows), held), -1, np.int64)
        scores = np.full(best.shape, -np.inf, self._answers.dtype)
        for place, (user, seen) in enumerate(rows):
            found, values = self._best(user, held, hidden, seen if exclude_seen else None)
            best[place, :len(found)], scores[place, :len(found)] = found, values
        best, scores = lengthened(best, scores, k)
        return named(best, self.item_ids_), scores

    @in_its_name
    def predict(self, users: Any, items: Any) -> np.ndarray:
        """Return the scores of known pairs, float64; one user goes with all items.

        Raises KeyError or IndexError for unknown ids; NotImplementedError where `predict` of the
        model is more than the score.
        """
        if not getattr(self._answers, "predicts", True):
            raise NotImplementedError("predict is more than the score with the logistic loss, and "
                                      "without biases, where nothing is known: mfcore.load "
                                      "predicts")
        rows = known_positions("users", users, self._users, self.n_users_)
        columns = known_positions("items", items, self._items, self.n_items_)
        if len(rows) == 1:
            rows = np.repeat(rows, len(columns))
        validation.same_length(users=rows, items=columns)
        return np.array([self._answers.settled(self._answers.known(int(row)), column[None])[0]
                         for row, column in zip(rows, columns, strict=True)], np.float64)

    def _columns(self, found: np.ndarray) -> np.ndarray:
        return found[found >= 0]

    def _seen(self, row: int) -> np.ndarray:
        cells: np.ndarray = self._indices[self._indptr[row]:self._indptr[row + 1]] if row >= 0 \
            else self._indices[:0]
        return cells

    def _rated(self, ratings: Any, unknown: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the columns and values of a new user's ratings, by ascending column."""
        if not is_one_row(ratings):
            raise TypeError(f"ratings must be a sequence of item ids, or {{item: rating}}, got "
                            f"{type(ratings).__name__}")
        ids = as_vector(list(ratings))
        values = validation.finite("ratings", validation.vector(
            "ratings", list(ratings.values()) or np.empty(0))) if isinstance(ratings, Mapping) \
            else np.full(len(ids), implied_rating(self.name, self._bounds))
        find = known_positions if unknown == "raise" else positions_of
        columns = find("items", ids, self._items, self.n_items_)
        columns, values = columns[columns >= 0], values[columns >= 0]
        if len(np.unique(columns)) < len(columns):
            raise ValueError("ratings must name each item once")
        order = np.argsort(columns)
        return columns[order], values[order]

    def _best(self, user: Row, k: int, hidden: np.ndarray, seen: np.ndarray | None
              ) -> tuple[np.ndarray, np.ndarray]:
        """Return the k best items of a user: scores decide, but where rounding could, each is
        scored again alone (see metrics/topk.py)."""
        scores = self._answers.scores(user)
        scores[hidden] = -np.inf
        if seen is not None:
            scores[seen] = -np.inf
        n = min(k, int(np.count_nonzero(scores > -np.inf)))
        if n == 0:
            return np.empty(0, np.int64), scores[:0]
        last = np.partition(scores, -n)[-n]
        if np.isnan(scores).any():
            raise ValueError("scores must not be NaN; did the training diverge?")
        slack = scores.dtype.type(2 * self._answers.rounding(user))
        near = np.flatnonzero((scores >= last - slack) & (scores > -np.inf))
        settled = self._answers.settled(user, near)
        order = np.lexsort((near, -settled))[:n]
        return near[order], settled[order]
