"""What the scores of a saved model are made of, and where rounding could move them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from mfcore.objectives.scaling import PER_DEGREE, ROOT, power, score_rounding
from mfcore.persistence import NOT_SEEN
from mfcore.validation import DivergenceError


class Row(NamedTuple):
    """A user as scores see it: a vector p with a bias, or its rated items with their values."""

    p: np.ndarray
    bias: Any


Solve = Callable[[np.ndarray, np.ndarray], Row]


class Answers(Protocol):
    """What differs between models."""

    @property
    def n_items(self) -> int:
        """The number of items."""

    @property
    def dtype(self) -> np.dtype:
        """The type of scores."""

    def known(self, row: int) -> Row:
        """Return a user of the fit; -1 is an unknown one."""

    def new(self, columns: np.ndarray, values: np.ndarray) -> Row:
        """Return a new user who has rated some items."""

    def scores(self, user: Row) -> np.ndarray:
        """Return the scores of all items, as one product."""

    def rounding(self, user: Row) -> float:
        """Return how far these may be from `settled`."""

    def settled(self, user: Row, columns: np.ndarray) -> np.ndarray:
        """Return the scores of some items, each computed alone."""


@dataclass(frozen=True, eq=False)
class Vectors:
    """s = μ + b_u + b̃_i + P_u·Q_i.

    average : an unknown user
    solve : solve(columns, values) returns the row of a new user; None: it takes more than NumPy
    predicts : whether `predict` of the model is the score
    """

    P: np.ndarray
    Q: np.ndarray
    beta: np.ndarray
    gamma: np.ndarray
    mean: float
    average: Row
    solve: Solve | None
    predicts: bool = True

    @property
    def n_items(self) -> int:
        return len(self.Q)

    @property
    def dtype(self) -> np.dtype:
        return self.P.dtype

    def known(self, row: int) -> Row:
        return Row(self.P[row], self.beta[row]) if row >= 0 else self._rounded(self.average)

    def new(self, columns: np.ndarray, values: np.ndarray) -> Row:
        if self.solve is None:
            raise NotImplementedError("the row of a new user is more than one linear system "
                                      "here: mfcore.load learns it")
        return self._rounded(self.solve(columns, values))

    def _rounded(self, row: Row) -> Row:
        with np.errstate(over="ignore"):
            found = Row(row.p.astype(self.P.dtype), self.beta.dtype.type(row.bias))
        if not (np.isfinite(found.p).all() and np.isfinite(found.bias)):
            raise DivergenceError(f"the row of a new user has no finite solution: its ratings are "
                                  f"too large for {self.dtype}")
        return found

    def scores(self, user: Row) -> np.ndarray:
        scores: np.ndarray = self.Q @ user.p
        scores += self.gamma
        scores += scores.dtype.type(user.bias + self.mean)
        return scores

    def rounding(self, user: Row) -> float:
        size = np.linalg.norm(user.p.astype(float)) * self._longest + abs(self.mean) \
            + abs(user.bias) + np.abs(self.gamma).max(initial=0)
        return float(score_rounding(size, self.P.shape[1], self.P.dtype))

    @property
    def _longest(self) -> float:
        found = self.__dict__.get("_length")
        if found is None:
            squares = np.einsum("if,if->i", self.Q, self.Q, dtype=np.float64)
            found = self.__dict__["_length"] = float(np.sqrt(squares.max(initial=0)))
        return float(found)

    def settled(self, user: Row, columns: np.ndarray) -> np.ndarray:
        products = np.einsum("if,f->i", self.Q[columns].astype(float), user.p.astype(float))
        scores: np.ndarray = products + user.bias + self.gamma[columns] + self.mean
        return scores.astype(self.P.dtype)


@dataclass(frozen=True, eq=False)
class Rated:
    """Users by what they have rated, x_u.

    n_items, dtype : of the scores
    indptr, indices, data : the ratings of the fit
    has_seen : whether they are in the file
    """

    n_items: int
    dtype: np.dtype
    binary: bool
    indptr: np.ndarray
    indices: np.ndarray
    data: np.ndarray
    has_seen: bool

    def known(self, row: int) -> Row:
        if not self.has_seen:
            raise ValueError(NOT_SEEN)
        cells = slice(self.indptr[row], self.indptr[row + 1]) if row >= 0 else slice(0)
        return self.new(self.indices[cells], self.data[cells])

    def new(self, columns: np.ndarray, values: np.ndarray) -> Row:
        return Row(columns, ((values > 0) if self.binary else values).astype(self.dtype))


@dataclass(frozen=True, eq=False)
class Items(Rated):
    """s_u = x_u B: each score is added up item by item.

    row : row(column) returns places in a row of B, and the weights there
    """

    row: Callable[[int], tuple[Any, np.ndarray]]

    def scores(self, user: Row) -> np.ndarray:
        scores: np.ndarray = np.zeros(self.n_items, self.dtype)
        for column, value in zip(user.p, user.bias, strict=True):
            places, weights = self.row(column)
            scores[places] += value * weights
        return scores

    def rounding(self, user: Row) -> float:
        return 0.0

    def settled(self, user: Row, columns: np.ndarray) -> np.ndarray:
        scores: np.ndarray = self.scores(user)[columns]
        return scores


@dataclass(frozen=True, eq=False)
class Walks(Rated):
    """The graph filter of objectives/graph.py; a row is p, with near of all items and ‖x‖.

    Cells are added up in the order of kernels/graph.py, so that near has the same bits.

    starts, items, values : X by user
    user_degrees, item_degrees : ndarray, shapes (n_users,), (n_items,)
    Q, share : q of all items, and α
    """

    starts: np.ndarray
    items: np.ndarray
    values: np.ndarray
    user_degrees: np.ndarray
    item_degrees: np.ndarray
    Q: np.ndarray
    share: float

    def new(self, columns: np.ndarray, values: np.ndarray) -> Row:
        x = super().new(columns, values).bias
        per = self.share * power(self.item_degrees, PER_DEGREE, np.dtype(float))[columns]
        p = (x * per).astype(self.dtype) @ self.Q[columns]
        return Row(p, (self._near(columns, x), float(np.linalg.norm(x.astype(float)))))

    def _near(self, columns: np.ndarray, x: np.ndarray) -> np.ndarray:
        roots, shares = (power(d, exponent, self.dtype) for d, exponent in
                         ((self.item_degrees, ROOT), (self.user_degrees, PER_DEGREE)))
        steps, taken = np.zeros(self.n_items, self.dtype), np.zeros(self.n_items, bool)
        steps[columns], taken[columns] = x * roots[columns], True
        users = np.repeat(np.arange(len(shares)), np.diff(self.starts))
        cells = np.flatnonzero(taken[self.items])
        y = self._added(users[cells], steps[self.items[cells]] * shares[users[cells]], cells,
                        len(shares))
        cells = np.flatnonzero(y[users])
        near = self._added(self.items[cells], y[users[cells]], cells, self.n_items)
        near *= roots
        return near

    def _added(self, places: np.ndarray, steps: np.ndarray, cells: np.ndarray, n: int
               ) -> np.ndarray:
        """Return the sums of steps times cells of X at each place, shape (n,)."""
        found = np.zeros(n, self.dtype)
        np.add.at(found, places, steps if self.binary else steps * self.values[cells])
        return found

    def scores(self, user: Row) -> np.ndarray:
        scores: np.ndarray = user.bias[0] + self.Q @ user.p
        return scores

    def rounding(self, user: Row) -> float:
        longest = np.sqrt(np.einsum("if,if->i", self.Q, self.Q, dtype=float).max(initial=0))
        size = np.linalg.norm(user.p.astype(float)) * longest + user.bias[1]
        return float(score_rounding(size, self.Q.shape[1], self.dtype))

    def settled(self, user: Row, columns: np.ndarray) -> np.ndarray:
        products = np.einsum("if,f->i", self.Q[columns].astype(float), user.p.astype(float))
        scores: np.ndarray = (products + user.bias[0][columns]).astype(self.dtype)
        return scores
