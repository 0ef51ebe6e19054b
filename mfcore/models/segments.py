"""Which segment a user belongs to: labels by field, by user id, or by row."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from mfcore.data.features import Features
from mfcore.data.ratings import Ratings

By = str | Mapping[Any, Hashable] | Sequence[Hashable] | np.ndarray


def check_by(by: Any) -> None:
    """Raise a TypeError for what is no `by`: a name, a mapping, or a sequence of labels."""
    if not isinstance(by, (str, Mapping, Sequence, np.ndarray)):
        raise TypeError(f"by must be the name of a field of user_features, a mapping from user "
                        f"to label, or one label a user, got {type(by).__name__}")


def labels_of(by: By, ratings: Ratings, user_features: Any) -> list[Hashable]:
    """Return the label of each row, None for users without one.

    Raises
    ------
    ValueError
        Labels that are not as many as users, or missing among labels given by row; a field
        that the features do not have, or with several values in a row.
    TypeError
        Labels that cannot be hashed.
    """
    if isinstance(by, str):
        labels = _of_field(by, ratings, user_features)
    elif isinstance(by, Mapping):
        labels = [by.get(user) for user in _names(ratings)]
    else:
        labels = _of_rows(by, ratings)
    for label in labels:
        if not isinstance(label, Hashable):
            raise TypeError(f"by must give labels that can be hashed, got {label!r}")
    return labels


def _names(ratings: Ratings) -> Sequence[Any]:
    return range(ratings.shape[0]) if ratings.user_ids is None else ratings.user_ids.tolist()


def _of_rows(by: Any, ratings: Ratings) -> list[Hashable]:
    labels = by.tolist() if isinstance(by, np.ndarray) else list(by)
    if len(labels) != ratings.shape[0]:
        raise ValueError(f"by must hold one label a user, {ratings.shape[0]}, got {len(labels)}")
    missing = [row for row, label in enumerate(labels) if label is None or label != label]
    if missing:
        raise ValueError(f"by has no label for row {missing[0]} ({len(missing)} in all); name a "
                         f"segment for them, or give a mapping, which may leave users out")
    return labels


def _of_field(by: str, ratings: Ratings, user_features: Any) -> list[Hashable]:
    if not isinstance(user_features, Features):
        raise ValueError(f"by={by!r} names a field: fit needs user_features with its names (see "
                         f"mfcore.data.features), got {type(user_features).__name__}")
    if user_features.shape[0] != ratings.shape[0]:
        raise ValueError(f"user_features must have {ratings.shape[0]} rows, one a user, got "
                         f"{user_features.shape[0]}")
    columns = [place for place, name in enumerate(user_features.names)
               if name.startswith(f"{by}=")]
    if not columns:
        fields = sorted({name.split("=")[0] for name in user_features.names})
        raise ValueError(f"user_features must have a field {by!r}, got {', '.join(fields)}")
    return _of_columns(by, user_features, columns)


def _of_columns(by: str, features: Features, columns: list[int]) -> list[Hashable]:
    block = features.matrix[:, columns]
    block.eliminate_zeros()
    counts = np.diff(block.indptr)
    if counts.max(initial=0) > 1:
        raise ValueError(f"by={by!r} must have one value a user, got {counts.max()} in row "
                         f"{counts.argmax()}")
    values = np.array([features.names[place].partition("=")[2] for place in columns], object)
    labels = np.full(len(counts), None, object)
    labels[counts == 1] = values[block.indices]
    found: list[Hashable] = labels.tolist()
    return found


def codes_of(labels: Sequence[Hashable], known: Sequence[Hashable]) -> np.ndarray:
    """Return the number of each label among those known, -1 for others."""
    number = {label: code for code, label in enumerate(known)}
    return np.array([number.get(label, -1) for label in labels], np.int64)
