"""How many epochs a fit takes: as many as are asked for, or as a held-out share finds.

Networks learn by steps of a batch, and a data set of a hundred times the size has a hundred times
the steps in an epoch.  So what is enough is counted in steps, where `n_epochs` is "auto":

    most, enough, patience = steps / steps of an epoch            each within its least and most

The search ends after `most` epochs, or after `patience` epochs without a better one.  `enough` are
run where nothing can be held out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from mfcore.data.features import choices
from mfcore.data.ratings import Ratings

AUTO = "auto"
PATIENCE = 5                # epochs without a better one, where a share is to find the best
SHARE = 0.1                 # that is held out where nobody says how much,
LEAST_HELD = 100            # and the cells that it must hold to say something
# A simple model stays unless an epoch is better by this share / √cells of the eval_set: about a
# standard error of the difference of two such models.
MARGIN = 0.3
SPLIT = 0x5EED              # draws of the held-out share are not those of the start


Callback = Callable[[Any, dict[str, Any]], Any]


class NothingToWatchError(ValueError):
    """An eval_set, or a held-out share, by which no epoch could be told from another."""


class Epochs(NamedTuple):
    """Epochs of a fit: most of a search, its patience, and those of a fit without a search."""

    most: int
    patience: int
    enough: int


class Budget(NamedTuple):
    """Steps of a network where `n_epochs` is "auto".

    enough, patience : int
        Steps that do without a search; steps without a better epoch that end a search.
    epochs : (int, int)
        Least and most epochs of a fit without a search.
    most : int
        Most epochs of a search; for small data as many as `enough` and `patience` take, if more.
    """

    enough: int
    patience: int
    epochs: tuple[int, int]
    most: int

    def of(self, n_steps: int) -> Epochs:
        """Return the epochs of data, given the steps of one."""
        low, high = self.epochs
        enough = min(max(-(-self.enough // n_steps), low), high)
        patience = max(PATIENCE, -(-self.patience // n_steps))
        return Epochs(max(self.most, 4 * enough), patience, enough)


class Plan(NamedTuple):
    """How many epochs a fit may take, and what is done between them.

    `checkpoint` is as in `fit`; `stays`: its file outlives the fit.  `start`: a fitted model of the
    same shape, from whose vectors a solver goes on that can.
    """

    n_epochs: int
    patience: int | None
    eval_set: Any = None
    callbacks: tuple[Callback, ...] = ()
    checkpoint: Any = None
    stays: bool = False
    start: Any = None


def epochs_of(model: Any, ratings: Ratings) -> Epochs:
    """Return the epochs of a model's fit to ratings."""
    if model.n_epochs == AUTO:
        return model.budget.of(model.n_steps(ratings))        # type: ignore[no-any-return]
    return Epochs(model.n_epochs, PATIENCE, model.n_epochs)


def plan_of(model: Any, ratings: Ratings, eval_set: Any) -> Plan:
    """Return the plan of a fit that holds nothing out."""
    epochs = epochs_of(model, ratings)
    if eval_set is None or model.n_epochs != AUTO:
        return Plan(epochs.enough, model.patience, eval_set)
    return Plan(epochs.most, model.patience or epochs.patience, eval_set)


def searches(model: Any) -> bool:
    """Return whether a model finds the number of its epochs by ratings that it holds out."""
    return model.validation is not None or model.n_epochs == AUTO


def parts(model: Any, training: Ratings) -> tuple[Ratings, Ratings] | None:
    """Return ratings to learn from and ratings to find the epochs by; None: do without.

    Raises NothingToWatchError where a share is asked for, and nothing can be held out.
    """
    if model.validation is not None:
        return _chosen(model, *held_out(training, model.validation, model.random_state))
    if model.n_epochs != AUTO or SHARE * training.nnz < LEAST_HELD:
        return None
    try:
        known, held = _chosen(model, *held_out(training, SHARE, model.random_state))
    except NothingToWatchError:
        return None
    return (known, held) if held.nnz >= LEAST_HELD else None


def _chosen(model: Any, known: Ratings, held: Ratings) -> tuple[Ratings, Ratings]:
    """Return the parts, the held one of choices alone for a model of these: those above 0."""
    if model.predicts_ratings:
        return known, held
    chosen = choices(held, "binary")
    if not chosen.nnz:
        raise NothingToWatchError("validation holds out no value above 0, which alone are choices; "
                                  "raise it, or set validation=None")
    return known, chosen


def held_out(ratings: Ratings, size: float, random_state: Any,
             cure: str = "set validation=None, or give an eval_set") -> tuple[Ratings, Ratings]:
    """Return ratings without, and only with, a share of the cells; all users keep one.

    An integer `random_state` draws the share; with any other it is always the same.

    Raises ValueError where nothing can be held out, with what the caller can do instead.
    """
    from mfcore.data.split import random_split

    seed = random_state if isinstance(random_state, int) else 0
    try:
        return random_split(ratings, size, np.random.default_rng([seed, SPLIT]), keep=1)
    except ValueError as error:
        raise NothingToWatchError(f"validation={size} leaves a side empty ({error}); {cure}"
                                  ) from None
