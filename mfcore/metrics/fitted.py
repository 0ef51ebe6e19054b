"""What one can ask of a fitted model: protocols that models implement and metrics use.

    asked   rows of the fit (-1: an unknown user), or new users
    query   how their scores are formed

Every fitted model has four functions: vectors of rows, vectors of new rows, scores of blocks,
and scores of pairs.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import scipy.sparse as sp

from mfcore.data.ratings import Ratings
from mfcore.parallel import Pool


class Folded(NamedTuple):
    """Vectors of new rows: `factors` (n, k) and `bias` (n,), None if the model has none."""

    factors: Any
    bias: np.ndarray | None


class NewRows(NamedTuple):
    """Ratings or features, or both, of users that are new to a model, on its columns.

    numbers : rows of the model that they are to take, (n_rows,); None: they only ask
    """

    ratings: Ratings | None
    features: sp.csr_array | None
    numbers: np.ndarray | None = None

    @property
    def n_rows(self) -> int:
        """Number of new users."""
        given = self.features if self.ratings is None else self.ratings
        return 0 if given is None else int(given.shape[0])

    @property
    def counts(self) -> np.ndarray:
        """Number of ratings of each new user, shape (n_rows,)."""
        return np.zeros(self.n_rows, int) if self.ratings is None else \
            np.diff(self.ratings.by_user.indptr)

    def known(self, n_items: int) -> Ratings:
        """Return their ratings, empty ones if only features are known."""
        if self.ratings is not None:
            return self.ratings
        return Ratings(sp.csr_array((self.n_rows, n_items), dtype=np.float32))

    def select(self, rows: np.ndarray) -> NewRows:
        """Return some of the new users."""
        if len(rows) == self.n_rows:
            return self
        return NewRows(None if self.ratings is None else self.ratings.select_users(rows),
                       None if self.features is None else self.features[rows],
                       None if self.numbers is None else self.numbers[rows])


Asked = np.ndarray | NewRows


class Query(NamedTuple):
    """How scores are formed.

    similarity : "dot", the model's score; "cosine", the angle between the vectors alone
    optimism : standard deviations to add to the score, for models with a posterior
    sample : seed, or Generator, to draw each user's vector from its posterior; None: its mean
    at_least : level whose probability, or that of more, is the score; None: the expected rating
    """

    similarity: str = "dot"
    optimism: float = 0.0
    sample: Any = None
    at_least: float | None = None


class Scorer(Protocol):
    """Scores of `n_rows` users for all `n_items` items, a block of rows at a time."""

    n_rows: int
    n_items: int

    def block(self, start: int, stop: int) -> np.ndarray:
        """Return fresh scores, shape (stop - start, n_items), float32 or float64.

        A product of BLAS rounds by the shapes and places of its blocks.
        """

    def rounding(self, start: int, stop: int) -> np.ndarray | None:
        """Return how far the scores of each row of a block may be from those of `cells`.

        Shape (stop - start,); None: a block has the scores of its rows alone, bit for bit, and
        the scorer needs no `cells`.
        """


class SomeItems:
    """The scores of some items, out of those of a scorer that knows all of them only."""

    def __init__(self, scorer: Scorer, columns: np.ndarray) -> None:
        self.scorer, self.columns = scorer, columns
        self.n_rows, self.n_items = scorer.n_rows, len(columns)

    def block(self, start: int, stop: int) -> np.ndarray:
        """Return the scores of rows start..stop, shape (stop - start, n_items)."""
        scores: np.ndarray = self.scorer.block(start, stop)[:, self.columns]
        return scores

    def rounding(self, start: int, stop: int) -> np.ndarray | None:
        """Return that of the scorer."""
        return self.scorer.rounding(start, stop)


def of_items(scorer: Any, columns: np.ndarray) -> Scorer:
    """Return a scorer of some items; one that can do without the others has `of_items`."""
    made: Scorer = scorer.of_items(columns) if hasattr(scorer, "of_items") else \
        SomeItems(scorer, columns)
    return made


class Settling(Scorer, Protocol):
    """A scorer whose blocks are rounded by the company of a row, and whose cells are not."""

    def cells(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return the scores of cells (rows[t], columns[t]), each computed alone.

        In the precision of the blocks; of any value in columns of -1.
        """


class Fitted(Protocol):
    """What a fitted model answers."""

    def vectors(self, asked: Asked, pool: Pool) -> Folded:
        """Return the vectors of users."""

    def fold_in(self, new: NewRows, pool: Pool) -> Folded:
        """Return the vectors of new users; all else stays as it is."""

    def scorer(self, asked: Asked, query: Query, pool: Pool) -> Scorer:
        """Return what scores users for all items."""

    def pairs(self, rows: np.ndarray, columns: np.ndarray, new: NewRows | None, pool: Pool
              ) -> np.ndarray:
        """Return what `predict` returns for pairs, float64, shape (n_pairs,).

        `rows` are numbers of users of the fit, or of new ones; -1 is unknown.
        """
