"""Ids that come in pieces, as those of a file that is larger than memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mfcore import persistence
from mfcore.data.ids import Coded, as_id_array, factorize, factorize_for_fit


class CollectedIds:
    """Distinct ids, collected in pieces.

    Each id has a key at once, and a row number once all are known.  The key of an integer is
    the integer; of any other id, its place among those seen.  Rows are numbered by sorted id,
    as in `Ratings.from_arrays`.
    """

    def __init__(self, name: str, known: np.ndarray | None = None) -> None:
        self.name = name
        self._known = None if known is None or not known.size else known    # of no kind if empty
        self._codes: dict[Any, int] = {}
        if known is not None and known.dtype == object:
            self._codes = {value: code for code, value in enumerate(known.tolist())}
        self._places: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self._codes) or (0 if self._known is None else len(self._known))

    def keys(self, values: Any) -> np.ndarray:
        """Return the key of each id, int64, and remember new ids.

        Raises ValueError if some pieces hold integers and others do not.
        """
        array = values if isinstance(values, Coded) else as_id_array(self.name, values)
        if not len(array):
            return np.empty(0, np.int64)
        distinct, rows = factorize(self.name, array)
        if self._known is not None and (distinct.dtype == object) != (self._known.dtype == object):
            raise ValueError(f"{self.name} are whole numbers in some parts and text in others; "
                             f"read them all as they are written (text_ids=True)")
        self._places = None
        if distinct.dtype != object:
            self._known = distinct if self._known is None else _united(self._known, distinct)
            return np.take(distinct, rows) if array.dtype == object else np.asarray(array)
        codes = np.array([self._codes.setdefault(value, len(self._codes)) for value in distinct],
                         np.int64)
        self._known = self._known if self._known is not None else np.empty(0, object)
        return np.asarray(codes[rows])

    @property
    def sorted_ids(self) -> np.ndarray:
        """All ids, in the order of the rows."""
        if not self._codes:
            return np.empty(0, np.int64) if self._known is None else self._known
        return factorize_for_fit(self.name, list(self._codes))[0]

    def numbers(self, keys: np.ndarray) -> np.ndarray:
        """Return the row number of each key, once all ids are known."""
        if self._codes:
            if self._places is None:
                self._places = factorize(self.name, list(self._codes))[1]
            return np.asarray(self._places[keys])
        ids = self.sorted_ids
        if not ids.size or int(ids[-1]) - int(ids[0]) > 4 * ids.size + 1_000_000:
            return np.searchsorted(ids, keys)
        if self._places is None:            # a table is faster where ids lie close together
            self._places = np.zeros(ids[-1] - ids[0] + 1, np.int64)
            self._places[ids - ids[0]] = np.arange(ids.size)
        return np.asarray(self._places[keys - ids[0]])

    def save(self, path: Path) -> None:
        """Write the ids to a file."""
        ids = as_id_array(self.name, list(self._codes)) if self._codes else self.sorted_ids
        persistence.write(path, {"ids": ids}, {})

    @classmethod
    def load(cls, path: Path, name: str) -> CollectedIds:
        """Read what `save` wrote; there are no ids if there is no file."""
        return cls(name, persistence.read(path)[0]["ids"] if path.exists() else None)


def _united(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the union of two sorted arrays, sorted.

    A stable sort merges runs; np.union1d hashes every entry again, which takes 200 times as long.
    """
    both = np.sort(np.concatenate([a, b]), kind="stable")
    fresh = np.ones(both.size, bool)
    fresh[1:] = both[1:] != both[:-1]
    return both[fresh]
