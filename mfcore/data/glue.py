"""Two data sets glued into one, whose parts share nothing: folding with a known truth.

    films, goods = fetch("movietweetings-100k"), fetch("online-retail")
    both = glue(films, goods)
    both.user_groups, both.item_groups            # 0 for the first data set, 1 for the second

No user of one has rated an item of the other, so every recommendation across them is a
mistake, and `cross_group_rate` says how many there are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.dataset import Dataset
from mfcore.data.ratings import Ratings, as_ratings

LOW, HIGH = 1.0, 5.0        # range of ranked values


def glue(first: Any, second: Any, *, names: tuple[str, str] = ("a", "b"),
         ranked: bool = True) -> Dataset:
    """Put two data sets into one matrix, without a cell between them.

    Parameters
    ----------
    first, second : Dataset, Ratings or scipy sparse
        Of what describes their users and items, only the titles are kept.
    names : (str, str)
        Distinct.  User 7 of the first becomes "a:7", and so does its item 7.
    ranked : bool
        Ratings become 1 + 4·(share of lower ratings in their own data set, ties by
        halves), so that stars and counts can share a matrix.  False keeps them.

    Returns
    -------
    data : Dataset
        Users and items of the first come first; with titles if either has some.

    Raises
    ------
    TypeError, ValueError
        Names that are not two distinct strings; what `Ratings` refuses.
    """
    names = _two_names(names)
    validation.boolean("ranked", ranked)
    parts = [_ratings_of("first", first), _ratings_of("second", second)]
    matrix = sp.block_diag([_values(part, ranked) for part in parts], format="csr")
    weights = None if all(part.weights is None for part in parts) else \
        np.concatenate([np.ones(part.nnz) if part.weights is None else part.weights
                        for part in parts])
    users, items = (np.repeat([0, 1], [part.shape[side] for part in parts]) for side in (0, 1))
    ratings = Ratings(sp.csr_array(matrix), weights=weights, copy=False,
                      user_ids=_ids(names, [part.user_ids for part in parts], users),
                      item_ids=_ids(names, [part.item_ids for part in parts], items))
    licences = " / ".join(filter(None, (getattr(part, "licence", "") for part in (first, second))))
    return Dataset(ratings, item_titles=_titles((first, second), parts), user_groups=users,
                   item_groups=items, licence=licences)


def _two_names(names: Any) -> tuple[str, str]:
    given = tuple(names)
    if len(given) != 2 or not all(isinstance(name, str) for name in given):
        raise TypeError(f"names must be two strings, got {names!r}")
    if given[0] == given[1]:
        raise ValueError(f"names must be distinct, got {given[0]!r} twice")
    return given


def _ratings_of(name: str, part: Any) -> Ratings:
    ratings = as_ratings(name, part.ratings if isinstance(part, Dataset) else part)
    if ratings.nnz == 0:
        raise ValueError(f"{name} must hold at least one rating, got {ratings}")
    return ratings


def _values(part: Ratings, ranked: bool) -> sp.csr_array:
    """Return the cells; if `ranked`, each value depends only on the share of lower ones."""
    cells = part.by_user
    if not ranked:
        return cells
    _, place, counts = np.unique(cells.data, return_inverse=True, return_counts=True)
    quantile = (np.cumsum(counts) - counts / 2) / cells.nnz
    values = (LOW + (HIGH - LOW) * quantile[place]).astype(np.float32)
    return sp.csr_array((values, cells.indices, cells.indptr), shape=cells.shape)


def _ids(names: tuple[str, str], ids: list[np.ndarray | None], groups: np.ndarray) -> list[str]:
    sizes = np.bincount(groups, minlength=2)
    return [f"{name}:{each}" for name, own, size in zip(names, ids, sizes, strict=True)
            for each in (range(size) if own is None else own.tolist())]


def _titles(given: tuple[Any, Any], parts: list[Ratings]) -> np.ndarray | None:
    found = [getattr(part, "item_titles", None) for part in given]
    if all(titles is None for titles in found):
        return None
    return np.concatenate([np.full(part.shape[1], "", object) if titles is None else titles
                           for titles, part in zip(found, parts, strict=True)])
