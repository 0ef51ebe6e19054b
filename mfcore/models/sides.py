"""What a fitted model knows of its users, or of its items: vectors, biases and features.

A model has two sides.  A row's prior is the sum of the vectors of its features
(objectives/penalty.py), so a row of which nothing else is known has a vector all the same.
Users, items and groups lie in one space, and any two of them can be compared.

    F   features of the rows, (n_rows, n_features)         G, g   vectors and biases of features

With "history", the last columns of F are what a row has rated (SVD++).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.chunks import column_counts
from mfcore.data.features import Features, concatenate, history, multi_hot
from mfcore.data.ids import HISTORY
from mfcore.data.ratings import Ratings
from mfcore.metrics.fitted import Folded
from mfcore.objectives.factors import augmented_gram, lengths
from mfcore.objectives.penalty import Penalty, Prior, averages
from mfcore.parallel import Pool

NOTHING = 1e-4              # of the unit of scores


@dataclass(eq=False)
class Side:
    """One side of a fitted model.

    Parameters
    ----------
    name : "user" or "item"
    averaged : bool
        Whether vectors of features are means of their members', found after the fit.
    counts : ndarray, shape (n_rows,)
        Ratings of each row.
    factors, bias : ndarray, shapes (n_rows, k), (n_rows,), or None
    features : Features or None
        F of the fit.
    feature_names, feature_mean : list of str, ndarray (n_features,), or None
        Names of the columns of F, and its mean row.
    feature_factors, feature_bias : ndarray, shapes (n_features, k), (n_features,), or None
        G and g.
    stale : ndarray of int64, shape (n_rows,), or None
        Ratings that came or went since each row was last solved; None: no row has any.
    """

    name: str
    averaged: bool = False
    counts: Any = None
    factors: Any = None
    bias: Any = None
    features: Features | None = None
    feature_names: list[str] | None = None
    feature_mean: np.ndarray | None = None
    feature_factors: np.ndarray | None = None
    feature_bias: np.ndarray | None = None
    stale: np.ndarray | None = None

    # Whether the fit is over: arrays are then shown read-only, and sums over them are kept.
    sealed: bool = False
    _kept: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    # Which of these a model of this kind has, and puts into its file.
    parts: ClassVar[tuple[str, ...]] = ("counts", "factors", "bias")

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_kept": {}}              # (what is kept can be made again)

    def gram(self, bias: np.ndarray, pool: Pool) -> np.ndarray:
        """Return the Gram of [X | 1 | bias] in float64."""
        def made() -> tuple[np.ndarray, np.ndarray]:
            return bias, augmented_gram(self.factors, bias, pool, np.float64)

        kept, gram = self.once("gram", made)
        return gram if kept is bias or np.array_equal(kept, bias) else made()[1]

    @property
    def longest(self) -> float:
        """The length of the longest vector."""
        return float(self.once("longest", lambda: lengths(self.factors).max(initial=0)))

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """Return what is made of the vectors, kept once the fit is over."""
        if not self.sealed:
            return make()
        factors, found = self._kept.get(name, (None, None))
        if factors is not self.factors:
            found = make()
            self._kept[name] = self.factors, found
        return found

    def named(self) -> dict[str, Any]:
        """Return the parts by the names that they have in a model: user_factors_, ..."""
        return {f"{self.name}_{part}_": getattr(self, part) for part in self.parts}

    # ------------------------------------------------------------------ at the fit

    def take(self, features: Features | None) -> None:
        """Keep the features of the fit; raise for negative ones where they are averaged."""
        if features is not None:
            if self.averaged and features.matrix.nnz:
                validation.nonnegative(f"{self.name}_features that are averaged",
                                       features.matrix.data)
            self.features, self.feature_names = features, list(features.names)
            self.feature_mean = np.asarray(self.shares(features.matrix).mean(axis=0)).ravel()

    def shares(self, F: sp.csr_array) -> sp.csr_array:
        """Return F as it enters the means: an average divides a row by its sum."""
        if not self.averaged:
            return F
        total = np.asarray(F.sum(axis=1)).ravel()
        share = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
        return sp.csr_array(F * share[:, None])

    def prior(self, penalty: Penalty, reg: float, history_reg: float, unit: float) -> Prior:
        """Return the prior of all rows, as the solver sees it; λᵇ_g of features, of history.

        unit : λ_g / λᵇ_g
        """
        if self.features is None:
            return Prior(penalty)
        F = self.shares(self.features.matrix)
        if self.averaged:                      # means are found once, after the fit
            return Prior(self.shifted(penalty, F))
        regs = self.feature_regs(reg, history_reg)
        return Prior(penalty, F, unit * regs, regs)

    def feature_regs(self, reg: float, history_reg: float) -> np.ndarray:
        """Return λ_g of each feature."""
        names = self.feature_names or ()
        regs = np.full(len(names), float(reg))
        regs[len(regs) - n_of_history(names):] = history_reg
        return regs

    def groups(self, k: int, real: np.dtype) -> tuple[np.ndarray, np.ndarray]:
        """Return G and g as a solver holds them; zeros at the start, empty without groups."""
        n = 0 if self.features is None or self.averaged else len(self.features.names)
        G, g = self.feature_factors, self.feature_bias
        return (np.zeros((n, k), real) if G is None or not n else G,
                np.zeros(n, real) if g is None or not n else g)

    def average(self, learns_bias: bool) -> bool:
        """Set group vectors to the means of their members', if that is asked for."""
        if not self.averaged or self.features is None:
            return False
        F, real = self.shares(self.features.matrix), self.factors.dtype
        self.feature_factors = averages(F, self.factors).astype(real)
        self.feature_bias = averages(F, self.bias).astype(real) if learns_bias else None
        return True

    # ------------------------------------------------------------------- new rows

    def aligned(self, given: Any, n_rows: int | None) -> sp.csr_array:
        """Return features of new rows with the columns of the fit, history left out."""
        names = self.feature_names
        if names is not None:
            names = names[:len(names) - n_of_history(names)] or None
        return aligned_features(f"{self.name}_features", given, names, n_rows)

    def completed(self, F: Any, ratings: Ratings | None) -> Any:
        """Return all features of new rows: those given, or of an average row, and the history.

        None stands for an average row.
        """
        names = self.feature_names or []
        bag = n_of_history(names)
        if not bag or (F is None and ratings is None):
            return None if F is None else self.shares(F)
        n_rows = F.shape[0] if ratings is None else ratings.shape[0]
        # (Columns that came after the fit have no vector.)
        rated = sp.csr_array((n_rows, bag)) if ratings is None else \
            history(ratings).matrix[:, :bag]
        if F is None:
            mean = np.asarray(self.feature_mean)[:len(names) - bag]
            F = sp.csr_array(np.tile(mean, (n_rows, 1)))
            if self.averaged:                   # the mean is one of shares: the rest is left
                rated = self.shares(rated) * (1 - mean.sum())
        return self.shares(sp.csr_array(sp.hstack([F, rated])))

    def means(self, F: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return F G and F g in float64; of the mean row, (1, k) and (1,), where F is None.

        A row without features counts as an average row of the fit.
        """
        G, g = self.feature_factors, self.feature_bias
        if G is None:
            return np.zeros((1, k)), np.zeros(1)
        F = np.asarray(self.feature_mean)[None] if F is None else F
        return F @ G.astype(np.float64), np.zeros(F.shape[0]) if g is None else F @ g

    def shifted(self, penalty: Penalty, F: Any) -> Penalty:
        """Return a penalty about the means of features; of the mean row where F is None."""
        means, bias_means = self.means(F, penalty.means.shape[1])
        return replace(penalty, means=(penalty.means + means).astype(penalty.means.dtype),
                       bias_means=penalty.bias_means + bias_means)

    def default_row(self) -> Row | None:
        """Return vector and bias of an unknown row; None: zeros."""
        if self.feature_factors is None:
            return None
        means, bias_means = self.means(None, 0)
        return Row(means[0], float(bias_means[0]))

    def from_features(self, means: np.ndarray, bias_means: np.ndarray, real: np.dtype) -> Folded:
        """Return the vectors of rows known by their features alone: their means."""
        return Folded(means.astype(real), None if self.bias is None else bias_means.astype(real))

    # --------------------------------------------------------------- rows that come later

    def grown(self, given: Any, rows: np.ndarray, n_rows: int) -> Features | None:
        """Return the features without history, those of `rows` replaced where given."""
        names = self.feature_names or []
        n_known = len(names) - n_of_history(names)
        if self.features is None or not n_known:
            if given is not None:
                self.aligned(given, len(rows))                            # says why not
            return None
        known = Features(self.features.matrix[:, :n_known], names[:n_known])
        matrix = sp.csr_array((known.matrix.data, known.matrix.indices, np.pad(
            known.matrix.indptr, (0, n_rows - known.shape[0]), "edge")),
            shape=(n_rows, known.shape[1]))
        if given is not None:
            fresh = aligned_features(f"{self.name}_features", given, known.names, len(rows))
            source = np.arange(n_rows)
            source[rows[rows >= 0]] = n_rows + np.flatnonzero(rows >= 0)
            matrix = sp.vstack([matrix, fresh], format="csr")[source]
        return Features(matrix, known.names)

    def with_history_of(self, ratings: Ratings, known: Features | None) -> Features | None:
        """Return features with the history that the fit asked for, in the columns it has."""
        names, bag = self.feature_names or [], n_of_history(self.feature_names)
        if not bag:
            return known
        rated = Features(history(ratings).matrix[:, :bag], names[len(names) - bag:])
        return rated if known is None else concatenate(known, rated)


class FeaturedSide(Side):
    """A side of a model whose rows have priors from features."""

    parts = (*Side.parts, "features", "feature_names", "feature_mean", "feature_factors",
             "feature_bias")


class Row(NamedTuple):
    """Vector and bias of one row."""

    vector: np.ndarray
    bias: float


class Sides(NamedTuple):
    """Both sides of a model."""

    users: Any
    items: Any


def shrunk(sides: Sides, unit: float) -> bool:
    """Return whether all products of vectors are far below the unit of the scores."""
    P, Q = (side.factors for side in sides)
    if any(X is None or X.ndim != 2 or not X.size for X in (P, Q)):
        return False
    return bool(sides.users.longest * sides.items.longest < NOTHING * unit)


def sides_of(model: Any, ratings: Ratings, user_features: Any, item_features: Any) -> Sides:
    """Return both sides of a model as they are before the first epoch."""
    averaged = getattr(model, "features", "learned") == "average"
    users, items = model.side_type("user", averaged), model.side_type("item", averaged)
    for number, (side, given) in enumerate(((users, user_features), (items, item_features))):
        side.take(with_history(f"{side.name}_features", given, ratings, number))
    users.counts = np.diff(ratings.by_user.indptr)
    items.counts = column_counts(ratings.by_user.indices, ratings.shape[1])
    return Sides(users, items)


# --------------------------------------------------------------- features that are given

def training_features(name: str, given: Any, shape: tuple[int, int], side: int
                      ) -> Features | None:
    """Return the features of a fit, one row per user (side 0) or per item (side 1).

    given : Features, scipy sparse (its column numbers are names), a list of lists of names, or None
    shape : (n_users, n_items), of the ratings

    Raises TypeError for anything else, ValueError for another number of rows or no column.
    """
    if given is None:
        return None
    features = _named(name, given)
    if features.shape[0] != shape[side]:
        raise ValueError(f"{name} must have a row for each of the {shape[side]:,} "
                         f"{('users', 'items')[side]} of the ratings, got features of shape "
                         f"{features.shape} for ratings of shape {shape}")
    if features.shape[1] == 0:
        raise ValueError(f"{name} must have at least one column, got shape {features.shape}")
    return features


def with_history(name: str, given: Any, ratings: Ratings, side: int) -> Features | None:
    """Return the features of a fit: one of the forms of `training_features`, or a tuple.

    In a tuple features stand side by side; "history" in it, or alone, puts what rows have rated
    behind them.  Other columns called as those of "history" are refused: the model would take
    them for its own, and complete them for new rows.
    """
    parts = given if isinstance(given, tuple) else (given,)
    asked = [isinstance(part, str) and part == "history" for part in parts]
    known = [training_features(name, part, ratings.shape, side)
             for part, is_history in zip(parts, asked, strict=True) if not is_history]
    found = [part for part in known if part is not None]
    if any(n_of_history(part.names) for part in found):
        raise ValueError(f'{name} must not have columns called {HISTORY}=..., as "history" has '
                         f'them: pass "history" itself, alone or in a tuple with other features')
    if any(asked):
        found.append(history(ratings if side == 0 else ratings.transposed))
    return concatenate(*found) if found else None


def n_of_history(names: Sequence[str] | None) -> int:
    """Return how many of the features, the last ones, are what a row has rated."""
    return sum(name.startswith(f"{HISTORY}=") for name in names or ())


def aligned_features(name: str, given: Any, known: Sequence[str] | None, n_rows: int | None
                     ) -> sp.csr_array:
    """Return features of new rows, with the columns of the fit, as CSR.

    Named columns are looked up; names of the fit that are not given are 0.  Raises ValueError for
    names that the fit did not have, another width or number of rows, or a fit without features.
    """
    if isinstance(given, tuple):                    # "history" is completed from the ratings
        parts = [aligned_features(name, part, known, n_rows) for part in given
                 if not (isinstance(part, str) and part == "history")]
        if parts:
            return sum(parts[1:], start=parts[0])
    if known is None:
        raise ValueError(f"{name} cannot be used: this model was fitted without them; "
                         f"fit(..., {name}=...) learns what they say")
    if sp.issparse(given) and given.shape[1] != len(known):
        raise ValueError(f"{name} must have {len(known)} columns, those of the fit, got shape "
                         f"{given.shape}")
    features = Features(given, known) if sp.issparse(given) else _named(name, given)
    if n_rows is not None and features.shape[0] != n_rows:
        raise ValueError(f"{name} must have a row for each of the {n_rows} rows of the ratings, "
                         f"got shape {features.shape}")
    return features.matrix if features.names == tuple(known) else \
        sp.csr_array(features.matrix @ _moved(name, features, known))


def group_positions(name: str, groups: Any, known: Sequence[str] | None) -> np.ndarray:
    """Return the numbers of features by name (one, or a sequence); KeyError for unknown ones."""
    if known is None:
        raise ValueError(f"{name} have no vectors: this model was fitted without features")
    names = [groups] if isinstance(groups, str) else list(groups)
    place = {feature: number for number, feature in enumerate(known)}
    unknown = [group for group in names if group not in place]
    if unknown:
        raise KeyError(f"unknown {name}: {_listed(unknown)}; known: {_listed(known)}")
    return np.array([place[group] for group in names], np.int64)


def _named(name: str, given: Any) -> Features:
    if isinstance(given, Features):
        return given
    if sp.issparse(given):
        return Features(given, tuple(map(str, range(given.shape[1]))))
    if isinstance(given, list) and not any(isinstance(row, str) for row in given):
        return multi_hot(given)
    got = f"{given!r:.50}" if isinstance(given, list) else type(given).__name__
    raise TypeError(f"{name} must be Features, a scipy sparse matrix or a list with a list of "
                    f"names per row, such as [['a', 'b'], ['c']], got {got}; "
                    f"mfcore.data.features makes them of columns")


def _moved(name: str, features: Features, known: Sequence[str]) -> sp.csr_array:
    """Return the 0-1 matrix that takes given columns to those of the fit."""
    place = {feature: number for number, feature in enumerate(known)}
    unknown = [feature for feature in features.names if feature not in place]
    if unknown:
        raise ValueError(f"{name} has names that the fit did not have: {_listed(unknown)}; "
                         f"known: {_listed(known)}")
    columns = [place[feature] for feature in features.names]
    return sp.csr_array((np.ones(len(columns)), (np.arange(len(columns)), columns)),
                        shape=(len(columns), len(known)))


def _listed(names: Sequence[Any]) -> str:
    return ", ".join(map(repr, names[:20])) + (", ..." if len(names) > 20 else "")
