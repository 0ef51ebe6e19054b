"""Features that a model is given, brought into its own rows and columns, or refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore.data.features import HISTORY, Features, concatenate, history, multi_hot
from mfcore.data.ratings import Ratings


def training_features(name: str, given: Any, shape: tuple[int, int], side: int
                      ) -> Features | None:
    """Return the features of a fit, one row a user (side 0) or an item (side 1).

    Parameters
    ----------
    given : Features, scipy sparse, or a list of lists of names, or None
        A sparse matrix has its column numbers for names.
    shape : (n_users, n_items), of the ratings

    Raises
    ------
    TypeError
        For anything else.
    ValueError
        Another number of rows, or no column at all; NaN and infinity.
    """
    if given is None:
        return None
    features = _named(name, given)
    if features.shape[0] != shape[side]:
        raise ValueError(f"{name} must have a row for each of the {shape[side]:,} "
                         f"{('users', 'items')[side]} of the ratings, got features of shape "
                         f"{features.shape} beside ratings of shape {shape}")
    if features.shape[1] == 0:
        raise ValueError(f"{name} must have at least one column, got shape {features.shape}")
    return features


def with_history(name: str, given: Any, ratings: Ratings, side: int) -> Features | None:
    """Return the features of a fit: one of the forms of `training_features`, or a tuple.

    In a tuple features stand side by side; "history" in it, or alone, puts what rows have rated
    behind them.  Raises as `training_features`, and ValueError for other columns called as
    those of "history": the model would take them for its own, and complete them for new rows.
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

    Named columns are looked up; names of the fit that are not given are 0.

    Raises
    ------
    ValueError
        Names that the fit did not have, another width without names, another number of rows
        than `n_rows`, or a model that was fitted without features.
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
    raise TypeError(f"{name} must be Features, a scipy sparse matrix or a list with a list of "
                    f"names a row, got {type(given).__name__}; mfcore.data.features makes "
                    f"them of columns")


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
