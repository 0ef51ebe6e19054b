"""What ratings are made of, out of columns: one id of a user and one of an item per rating."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data import canonical
from mfcore.data.ids import Ids, factorize_for_fit


class Assembled(NamedTuple):
    """A canonical matrix, weights, ids and times by name, and all columns in `by_user` order."""

    matrix: sp.csr_array
    parts: dict[str, Any]
    columns: dict[str, np.ndarray]


def assembled(users: Any, items: Any, duplicates: canonical.Duplicates, *, values: Any,
              **others: Any) -> Assembled:
    """Return what `Ratings.from_arrays` makes ratings of, and the other columns.

    Of the `others`, "weights" and "times" become those of the ratings; None is left out.
    """
    user_ids, rows = factorize_for_fit("users", users)
    item_ids, columns = factorize_for_fit("items", items)
    validation.same_length(users=rows, items=columns)
    given = {"values": np.ones(len(rows), np.float32) if values is None else values, **others}
    times = canonical.moments(given.get("times"), len(rows))
    given["times"] = None if times is None else times.numbers
    arrays = {name: validation.vector(name, array, len(rows))
              for name, array in given.items() if array is not None}
    for name, array in arrays.items():
        validation.refuse_missing(name, array)
    shape = (len(user_ids), len(item_ids))
    indptr, columns, merged = canonical.merge(rows, columns, shape, arrays, duplicates)
    matrix = sp.csr_array((merged["values"], columns, indptr), shape=shape)
    if times is not None:
        times = replace(times, numbers=merged["times"])
    return Assembled(matrix, {"weights": merged.get("weights"), "times": times,
                              "user_ids": Ids.of_distinct(user_ids),
                              "item_ids": Ids.of_distinct(item_ids)}, merged)
