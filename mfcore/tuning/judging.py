"""How good a setting is by held-out ratings, and whether it is better than another beyond noise."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mfcore.metrics.alignment import Alignment
from mfcore.metrics.evaluate import measured
from mfcore.metrics.measure import Values
from mfcore.metrics.paired import standard_error
from mfcore.metrics.table import Metric, of_ratings, sign

LEAST_USERS = 1000          # whose rankings say how good a setting is
SURE = 0.5                  # standard errors by which a setting must be better than the given one


class Judge(NamedTuple):
    """A metric of held-out ratings, of users of training or of new ones that are folded in."""

    metric: Metric
    fold_in: Any
    test: Any

    def watched(self, rows: np.ndarray | None) -> Any:
        """Return what a fit to a sample of users is watched by."""
        if self.fold_in is not None:
            return self.fold_in, self.test
        return self.test if rows is None else self.test.select_users(rows)

    def values(self, model: Any, rows: np.ndarray | None, n_users: int) -> Values | float:
        """Return the values whose mean the metric is; for rankings those of so many users."""
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


def total(values: Values | float) -> float:
    """Return a metric of which the values may be known."""
    return values.total if isinstance(values, Values) else values
