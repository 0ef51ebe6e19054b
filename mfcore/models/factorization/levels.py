"""What ordinal ratings ask of a model: levels that are levels, and scores measured in noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mfcore import validation
from mfcore.data.ratings import Ratings
from mfcore.models.factorization.observations import ExplicitRatings
from mfcore.models.sides import Sides
from mfcore.objectives.ordinal import listed, without_weights

MOST_LEVELS = 64


def check_ordinal(model: Any) -> None:
    """Raise ValueError for parameters that have no meaning with ordinal ratings."""
    if model.levels is not None:
        levels = validation.finite("levels", validation.vector("levels", model.levels))
        if len(levels) < 2 or len(levels) > MOST_LEVELS or not _ascend(levels):
            raise ValueError(f"levels must be 2 to {MOST_LEVELS} numbers that ascend in float32, "
                             f"got {listed(levels)}")
    if model.bias != "learned":
        raise ValueError(f"likelihood='ordinal' needs bias='learned', got {model.bias!r}: scores "
                         f"are no ratings, and only a learned bias finds their place between the "
                         f"cut points")
    if model.unknown_weight != 0:
        raise ValueError(f"likelihood='ordinal' needs unknown_weight=0, got "
                         f"{model.unknown_weight!r}: a cell without a rating has no level")


def _ascend(levels: np.ndarray) -> bool:
    return bool((np.diff(levels.astype(np.float32)) > 0).all())


def check_levels(ratings: Ratings, levels: Sequence[float] | None) -> np.ndarray:
    """Return the levels (K,) of ratings, float64.

    Raises ValueError for weights, for values that are none of the levels that are given, and for
    too many or too few different values.  A level that is stated may have no rating.
    """
    without_weights(ratings)
    data = ratings.by_user.data
    found = np.unique(data)
    if levels is None:
        if not 2 <= len(found) <= MOST_LEVELS or not _ascend(found):
            raise ValueError(f"likelihood='ordinal' needs 2 to {MOST_LEVELS} levels that differ in "
                             f"float32, and the ratings have {len(found):,} different values: "
                             f"{listed(found)}; round them to levels, or use likelihood='gaussian'")
        return found.astype(np.float64)
    wanted = np.asarray(levels, np.float64).astype(data.dtype)
    if not np.isin(found, wanted).all():
        raise ValueError(f"ratings must be among levels={listed(wanted)}; the levels found are "
                         f"{listed(found)}")
    if len(found) < 2:
        raise ValueError(f"ratings must have at least 2 of levels={listed(wanted)}, got "
                         f"{listed(found)} alone")
    return wanted.astype(np.float64)


def observe_levels(model: Any, ratings: Ratings, sides: Sides) -> ExplicitRatings:
    """Set what ordinal ratings decide for a model, and return how their scores are observed."""
    model.levels_ = check_levels(ratings, model.levels)
    model.unknown_weight_ = model.origin_ = model.global_mean_ = 0.0
    model.rating_scale_ = 1.0                       # of the scores, whatever the levels
    observed = scores_of_levels(model)
    sides.users.bias, sides.items.bias = observed.fixed_biases(ratings)
    return observed


def scores_of_levels(model: Any) -> ExplicitRatings:
    """Return the observation model of z: a number around the score, with variance 1."""
    return ExplicitRatings(np.dtype(model.dtype), 0.0, 0.0, 0.0, 1.0, 0.0, True, "learned",
                           model.bias_share, 0.0, False)
