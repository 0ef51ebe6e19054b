"""Data of the claims, and folds of them: an inner part to choose settings by, an outer to test.

Generated data are another draw in every fold.  Of real data, folds are the published ones where
there are any (ML-100K), else random; the inner part is cut from the outer's training ratings.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
import scipy.sparse as sp

from benchmarks.claims.study import CORE, Fold
from mfcore import Ratings, fetch
from mfcore.data.canonical import core as core_of
from mfcore.data.dataset import Dataset
from mfcore.data.glue import glue
from mfcore.data.split import file_folds, per_user_split, random_split, user_split
from mfcore.data.synthetic import planted, planted_audiences

SPARSE = {"density": 0.12}      # ratings a user: 36 of 300, about what ML-100K has of its share
FEWEST = 14                     # the least that a user of glued catalogues has


@dataclass(frozen=True, eq=False)
class Split:
    """Ratings to fit and to measure on; `fold_in` where the users of `test` are new."""

    train: Ratings
    test: Ratings
    data: Dataset
    fold_in: Ratings | None = None
    more: dict[str, Any] = field(default_factory=dict)


@lru_cache(maxsize=2)
def dataset(name: str, seed: int = 0, quick: bool = False) -> Dataset:
    """Return a data set by name; "a+b" glues two, 500 users of each; "a/core" is cut down."""
    if "+" in name:
        return glue(*(some_users(fetch(each, progress=False).ratings, 500, seed)
                      for each in name.split("+")))
    sizes = (150, 80) if quick else (600, 300)
    if name == "planted":
        return planted(*sizes, **SPARSE, random_state=seed)
    if name == "planted-audiences":
        return planted_audiences(200 if quick else 800, 100 if quick else 400, random_state=seed)
    if name.endswith(CORE):
        return core(fetch(name.removesuffix(CORE), progress=False))
    return fetch(name, progress=False)


def core(data: Dataset, least: int = 10) -> Dataset:
    """Return the users and items with enough ratings of each other that are not 0."""
    rows, columns = core_of(sp.csr_array(data.ratings.by_user != 0), least, least)
    return Dataset(Ratings(data.ratings.by_user[rows][:, columns]),
                   user_features=data.user_features and data.user_features.select(rows),
                   item_features=data.item_features and data.item_features.select(columns),
                   licence=data.licence)


def some_users(ratings: Ratings, n: int, seed: int) -> Ratings:
    """Return n users, drawn from those with enough ratings; all where there are fewer."""
    enough = np.flatnonzero(np.diff(ratings.by_user.indptr) >= FEWEST)
    return ratings.select_users(np.sort(np.random.default_rng(seed).permutation(enough)[:n]))


def data_of(name: str, number: int, quick: bool) -> Dataset:
    """Return the data of a fold: another draw for each where they are generated."""
    return dataset(name, number if name.startswith("planted") else 0, quick)


def cells(name: str, number: int, quick: bool) -> Fold:
    """Return a fold that holds out ratings: a fifth to test, and a tenth of the rest to choose."""
    data = data_of(name, number, quick)
    if data.file_order is not None and name == "ml-100k":
        train, test = next(islice(file_folds(data.ratings, data.file_order), number, None))
    else:
        train, test = random_split(data.ratings, 0.2, random_state=number)
    part, valid = random_split(train, 0.1, random_state=number)
    return Fold(Split(part, valid, data), Split(train, test, data))


def lists(name: str, number: int, quick: bool) -> Fold:
    """Return a fold that holds out a fifth of each user's items, twice over."""
    data = data_of(name, number, quick)
    train, test = per_user_split(data.ratings, 0.2, random_state=number)
    part, valid = per_user_split(train, 0.2, random_state=number + 100)
    return Fold(Split(part, valid, data), Split(train, test, data))


def users(name: str, number: int, quick: bool) -> Fold:
    """Return a fold that holds out a fifth of the users, four fifths of their items folded in."""
    data = data_of(name, number, quick)
    kept = data.ratings.select_users(np.flatnonzero(np.diff(data.ratings.by_user.indptr) >= 5))
    rest, known, test = user_split(kept, 0.2, random_state=number)
    train, given, valid = user_split(rest, 0.2, random_state=number + 100)
    return Fold(Split(train, valid, data, given), Split(rest, test, data, known))

