"""How good a setting is by held-out ratings, and whether it is better than another beyond noise."""

from __future__ import annotations

from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from mfcore import validation as checks
from mfcore.data.ratings import Ratings, as_ratings
from mfcore.metrics.alignment import Alignment
from mfcore.metrics.evaluate import measured
from mfcore.metrics.measure import Values
from mfcore.metrics.paired import standard_error
from mfcore.metrics.table import Metric, of_ratings, sign
from mfcore.models.stopping import held_out

LEAST_USERS = 1000          # whose rankings say how good a setting is
SURE = 0.5                  # standard errors by which a setting must be better than the given one


class Judge(NamedTuple):
    """A metric of held-out ratings, of users of training or of new ones that are folded in."""

    metric: Metric
    fold_in: Any
    test: Any
    rows: Any = None            # of the users of the test set, among those of training

    def watched(self, rows: np.ndarray | None) -> Any:
        """Return what a fit to a sample of users is watched by."""
        if self.fold_in is not None:
            return self.fold_in, self.test
        return self.test if rows is None \
            else self.test.select_users(np.flatnonzero(np.isin(self.rows, rows)))

    def values(self, model: Any, rows: np.ndarray | None, n_users: int) -> Values | float:
        """Return the values whose mean the metric is; for rankings those of `n_users` users."""
        held = self.watched(rows)
        fold_in, test = held if isinstance(held, tuple) else (None, held)
        if not of_ratings(self.metric.key):
            asked = np.flatnonzero(np.diff(test.by_user.indptr))
            if len(asked) > (most := max(LEAST_USERS, n_users)):
                chosen = asked[np.linspace(0, len(asked) - 1, most).astype(int)]
                test = test.select_cells(np.isin(test.users_of_cells, chosen))
        return measured(Alignment(model, test, fold_in), [self.metric])[self.metric.key]

    def prefers(self, one: Values | float, other: Values | float) -> bool:
        """Return whether one setting is better than another by more than noise."""
        gain = sign(self.metric.key) * (total(one) - total(other))
        if not (isinstance(one, Values) and isinstance(other, Values)):
            return bool(gain > 0)
        return bool(gain > SURE * standard_error(one, other))


def parted(metric: Metric, ratings: Ratings, validation: Any, random_state: int
           ) -> tuple[Ratings, Ratings | None, Judge]:
    """Return what to learn from, what to fit to at the end (None: the same), and the judge.

    Raises ValueError for a share that leaves a side empty, TypeError for anything but a share,
    ratings, or a pair of them.
    """
    if isinstance(validation, Real) and not isinstance(validation, bool):
        share = checks.share("validation", validation)
        known, test = held_out(ratings, share, random_state, "pass ratings as validation")
        return known, ratings, Judge(metric, None, test, np.arange(test.shape[0]))
    pair = validation if isinstance(validation, tuple) else (None, validation)
    if len(pair) != 2 or pair[1] is None or isinstance(pair[1], (bool, str)):
        raise TypeError(f"validation must be a share, ratings, or a pair (fold_in, test), got "
                        f"{validation!r:.60}")
    fold_in = None if pair[0] is None else as_ratings("validation", pair[0])
    test = as_ratings("validation", pair[1])
    named = fold_in is None and test.user_ids is not None and ratings.user_ids is not None
    rows = ratings.user_positions(test.user_ids) if named else np.arange(test.shape[0])
    return ratings, None, Judge(metric, fold_in, test, rows)


def total(values: Values | float) -> float:
    """Return a metric of which the values may be known."""
    return values.total if isinstance(values, Values) else values
