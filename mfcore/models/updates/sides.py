"""Sides of a model with more rows, with fewer, and with other vectors in some of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from mfcore.data.features import Features
from mfcore.data.ratings import Ratings
from mfcore.metrics.fitted import Folded
from mfcore.models.sides import Side, n_of_history
from mfcore.models.storage import AXES
from mfcore.validation import DivergenceError


def with_rows(side: Side, rows: np.ndarray, vectors: Folded, n_rows: int) -> Side:
    """Return a side of `n_rows` rows that has new vectors and biases in some of them.

    Raises DivergenceError for vectors that are not finite.
    """
    if side.factors is None:                        # (rows are their own vectors)
        return side
    grown: dict[str, Any] = {}
    for name in ("factors", "bias", "bias_samples"):        # (the last of models that draw)
        old, new = (getattr(each, name, None) for each in (side, vectors))
        if old is None or new is None:
            continue
        if not np.isfinite(new).all():
            raise DivergenceError(f"vectors of {side.name}s would not be finite: are the ratings "
                                  f"on the scale of the fit?")
        grown[name] = placed(old.T, rows, new.T, n_rows).T if name == "bias_samples" else \
            placed(old, rows, new, n_rows)
    return replace(side, **grown)


def extended(side: Side, n_rows: int) -> Side:
    """Return a side with rows of zeros behind its own."""
    def longer(array: np.ndarray, axis: int) -> np.ndarray:
        widths = [(0, 0)] * array.ndim
        widths[axis] = (0, n_rows - array.shape[axis])
        return np.pad(array, widths)

    return _along(side, side.name, longer)


def selected(side: Side, rows: np.ndarray) -> Side:
    """Return a side with some of its rows."""
    made = _along(side, side.name, lambda array, axis: np.take(array, rows, axis))
    if made.features is None:
        return made
    return replace(made, features=Features(made.features.matrix[rows], made.features.names))


def without_history_of(side: Side, gone: np.ndarray) -> Side:
    """Return a side whose history has no columns of rows of the other side that are gone."""
    names = side.feature_names or []
    bag = n_of_history(names)
    if not bag:
        return side
    kept = np.ones(len(names), bool)
    kept[len(names) - bag:] = ~gone[:bag]           # (later rows have no column)
    made = _along(side, f"{side.name}_feature",
                  lambda array, axis: np.compress(kept, array, axis))
    left = [name for name, stays in zip(names, kept, strict=True) if stays]
    matrix = None if side.features is None else Features(side.features.matrix[:, kept], left)
    return replace(made, feature_names=left, features=matrix)


def _along(side: Side, axis: str, change: Any) -> Side:
    """Return a side whose arrays with an axis of that name are changed: change(array, number)."""
    axes = {part: AXES.get(f"{side.name}_{part}_", "").split() for part in (*side.parts, "stale")}
    return replace(side, **{part: change(value, names.index(axis)) for part, names in axes.items()
                            if axis in names and (value := getattr(side, part)) is not None})


def settled(side: Side, ratings: Callable[[], Ratings], features: Features | None,
            counts: np.ndarray, news: np.ndarray) -> Side:
    """Return a side with what follows from the ratings of its rows, ratings().

    features : those of all rows, to which history comes where the fit had it
    news : ratings that each row has not been solved with
    """
    if n_of_history(side.feature_names):
        features = side.with_history_of(ratings(), features)
    return replace(side, features=features, counts=counts, stale=news if news.any() else None)


def placed(old: np.ndarray, rows: np.ndarray, new: np.ndarray, n_rows: int) -> np.ndarray:
    """Return `old`, grown to `n_rows`, with `new` at the given rows."""
    out = np.zeros((n_rows, *old.shape[1:]), old.dtype)
    out[:len(old)] = old
    out[rows] = new
    return out
