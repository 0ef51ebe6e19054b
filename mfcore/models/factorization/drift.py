"""Effects of periods in a fitted factorization: see mfcore/objectives/drift.py."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from mfcore.data.periods import Periods, moments_of
from mfcore.data.ratings import Ratings
from mfcore.data.times import Times, counting, times_of
from mfcore.metrics.fitted import Asked, NewRows
from mfcore.models.training import Start
from mfcore.objectives.drift import (
    Context,
    Drifted,
    Shifting,
    context_of,
    first_effects,
    residuals_of_biases,
)
from mfcore.objectives.factors import LinearScorer
from mfcore.objectives.quadratic import Cells, Quadratic
from mfcore.solvers.drifting import Drifting, LatentDrift, SampledDrift

SIDES = ("user", "item")


@dataclass(frozen=True)
class Effects:
    """The effects of one side.

    periods : Periods
    keys : ndarray of int64, shape (m,), row · n_periods + period, ascending
    values : ndarray, shape (m,)
    draws : ndarray, shape (S, m), the effects in each sample of a chain
    """

    periods: Periods
    keys: np.ndarray
    values: np.ndarray
    draws: np.ndarray

    @classmethod
    def of(cls, periods: Periods, table: np.ndarray) -> Effects:
        """Return the effects in a table of rows, periods, effects, and these in each sample."""
        keys = table[:, 0].astype(np.int64) * periods.count + table[:, 1].astype(np.int64)
        order = np.argsort(keys, kind="stable")
        return cls(periods, keys[order], table[order, 2], table[order, 3:].T)

    def at(self, rows: np.ndarray, moments: np.ndarray, draws: bool = False) -> np.ndarray:
        """Return the effect of each row at its moment, or its draws; 0 where there is none."""
        return self.in_periods(rows, self.periods.of(moments), draws)

    def in_periods(self, rows: np.ndarray, periods: np.ndarray, draws: bool = False
                   ) -> np.ndarray:
        """Return the effect of each row in a period, or its draws; 0 where there is none."""
        values = self.draws if draws else self.values
        if not len(self.keys):
            return np.zeros((*values.shape[:-1], len(rows)))
        keys = np.where((rows < 0) | (periods < 0), -1,
                        rows.astype(np.int64) * self.periods.count + periods)
        places = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        return np.where(self.keys[places] == keys, values[..., places], 0.0)


@dataclass(frozen=True)
class Drift:
    """What a model knows of time: effects of users and of items, None where there are none."""

    users: Effects | None
    items: Effects | None

    @property
    def times(self) -> Times:
        """Some times of the fit, which tell their unit and zone."""
        side = self.users or self.items
        return Times(np.empty(0, np.int64), "s") if side is None else side.periods.times

    def of_pairs(self, rows: np.ndarray, columns: np.ndarray, new: NewRows | None, times: Any,
                 draws: bool = False) -> np.ndarray:
        """Return what times add to the scores of pairs; new users have no effects.

        draws : in each sample, shape (S, n_pairs), or (n_pairs,) where nothing is added
        """
        moments = moments_of(self.times, times, len(rows))
        total = np.zeros(len(rows))
        if self.users is not None and new is None:
            total = total + self.users.at(rows, moments, draws)
        if self.items is not None:
            total = total + self.items.at(columns, moments, draws)
        return total

    def on(self, scorer: Any, asked: Asked, times: Any) -> Any:
        """Return the scorer of users at their moments: linear ones have the effects inside."""
        return scorer.moved(partial(self._on_linear, asked=asked, times=times))

    def _on_linear(self, scorer: Any, asked: Asked, times: Any) -> LinearScorer:
        """Return the scorer with one more coordinate per period asked."""
        n_rows = asked.n_rows if isinstance(asked, NewRows) else len(asked)
        moments, linear = moments_of(self.times, times, n_rows), scorer.linear()
        P, Q, beta = linear.P, linear.Q, linear.beta
        if self.users is not None and not isinstance(asked, NewRows):
            effects = self.users.at(asked, moments)
            beta = effects if beta is None else beta + effects
        if self.items is not None:
            periods, place = np.unique(self.items.periods.of(moments), return_inverse=True)
            n_items = len(Q)
            effects = np.column_stack([
                self.items.in_periods(np.arange(n_items), np.full(n_items, period))
                for period in periods]) if len(periods) else np.zeros((n_items, 0))
            P = np.hstack([P, np.eye(len(periods), dtype=P.dtype)[place]])
            Q = np.hstack([Q, effects.astype(Q.dtype)])
        return LinearScorer(P, Q, beta, linear.gamma, linear.mean)

    def of_cells(self, ratings: Ratings, side: str, numbers: np.ndarray | None = None
                 ) -> np.ndarray | None:
        """Return what columns of new rows of a side add to their cells, shape (nnz,).

        numbers : rows of the model whose ratings they are, with effects of their own; None: new

        None where there is nothing to add.
        """
        own, others = (self.users, self.items) if side == "user" else (self.items, self.users)
        if ratings.moments is None or (others is None and (own is None or numbers is None)):
            return None
        moments, total = moments_of(self.times, ratings.moments, ratings.nnz), np.zeros(ratings.nnz)
        if others is not None:
            total += others.at(ratings.by_user.indices, moments)
        if own is not None and numbers is not None:
            total += own.at(numbers[ratings.users_of_cells], moments)
        return total

    def shifted(self, cells: Cells, ratings: Ratings, side: str, w0: float,
                numbers: np.ndarray | None = None) -> Cells:
        """Return the cells of new rows of a side, without the effects that are known of them.

        Ratings without times stay as they are.  For `numbers` see `of_cells`.
        """
        effects = self.of_cells(ratings, side, numbers)
        if effects is None:
            return cells
        pull = cells.b - (cells.a + w0) * effects
        return cells._replace(y=pull.astype(cells.y.dtype),
                              line=np.array([*cells.line[:2], 1.0, 0.0]))


def check_effects(model: Any) -> None:
    """Raise TypeError or ValueError for periods and effects that no fit leaves."""
    given, shape = model.periods_ or {}, model.ratings_.shape
    for side, table, n_rows in zip(SIDES, (model.user_drift_, model.item_drift_), shape,
                                   strict=True):
        if (side in given) != (table is not None):
            raise ValueError(f"{side}_drift_ and the periods of {side}s must both be there, or not")
        if table is not None:
            periods = Periods(**given[side])
            periods.check()
            if model.ratings_.moments and model.ratings_.moments.kind != periods.kind:
                raise ValueError(f"periods of {side}s are not of the times of the ratings")
            for column, size in zip(table[:, :2].T, (n_rows, periods.count), strict=True):
                if not ((column >= 0) & (column < size) & (column % 1 == 0)).all():
                    raise ValueError(f"{side}_drift_ must hold numbers of {size:,} rows or periods")


def drift_of(model: Any) -> Drift | None:
    """Return the effects of a fitted model; None for a model without."""
    if model.periods_ is None:
        return None
    found = [Effects.of(Periods(**model.periods_[side]), table) if table is not None else None
             for side, table in zip(SIDES, (model.user_drift_, model.item_drift_), strict=True)]
    return Drift(*found)


@dataclass(frozen=True)
class Learning:
    """Effects of periods that a fit is to learn.

    cuts : dict of Periods, by side
    contexts : tuple of Context, one for each of them
    """

    cuts: dict[str, Periods]
    contexts: tuple[Context, ...]
    first: np.ndarray

    @classmethod
    def of(cls, model: Any, ratings: Ratings, in_noise: bool = False) -> Learning:
        """Return the effects that a model asks for, as the residuals of biases show them.

        in_noise : whether scores are measured in the standard deviations of their noise, for which
            that of the residuals is taken; else they are on the scale of the ratings

        Raises ValueError for ratings without times.
        """
        times, given = times_of(ratings), (model.user_periods, model.item_periods)
        cuts = {side: Periods.cut(cut, times, counting(ratings))
                for side, cut in zip(SIDES, given, strict=True) if cut is not None}
        rows = {"user": ratings.users_of_cells, "item": ratings.by_user.indices}
        residuals = residuals_of_biases(ratings)
        if in_noise:
            residuals /= residuals.std() or 1.0
        w = np.ones(ratings.nnz) if ratings.weights is None else ratings.weights.astype(float)
        contexts = tuple(context_of(rows[side], periods.of(times.numbers), periods.count, residuals,
                                    w) for side, periods in cuts.items())
        return cls(cuts, contexts, first_effects(contexts, residuals, w))

    def shifted(self, problem: Quadratic) -> Quadratic:
        """Return a problem without these effects."""
        return Shifting(problem, self.contexts).at(self.first)

    def start(self, model: Any, start: Start) -> Start:
        """Return a start of the same solver, with the effects."""
        inner: Any = start.solver
        shifting = Shifting(inner.problem, self.contexts)
        kind = Drifting if not hasattr(inner, "kept_sweeps") else \
            LatentDrift if hasattr(inner.likelihood, "drawn") else SampledDrift
        solver = kind(inner, shifting)
        model.periods_ = {side: asdict(periods) for side, periods in self.cuts.items()}

        def publish(at: Any) -> None:
            start.publish(at)
            effects, draws = solver.effects(at), solver.draws(at)
            tables = {side: _table(context, periods.count, effects[part], draws[:, part])
                      for (side, periods), context, part in
                      zip(self.cuts.items(), self.contexts, shifting.parts, strict=True)}
            model.user_drift_, model.item_drift_ = tables.get("user"), tables.get("item")

        return Start(solver, Drifted(**vars(start.at), drift=self.first.copy()), publish)


def _table(context: Context, n_periods: int, effects: np.ndarray, draws: np.ndarray
           ) -> np.ndarray:
    return np.column_stack([*np.divmod(context.keys, n_periods), effects, draws.T])
