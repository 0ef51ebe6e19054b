"""Ids that come a piece at a time: a key for each at once, a row number once all are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mfcore import persistence
from mfcore.data.ids import as_id_array, factorize


class Names:
    """The distinct ids seen so far.

    The key of an integer id is the id; of any other its place among those seen.  Row numbers
    go by sorted id, as `Ratings.from_arrays` numbers them.
    """

    def __init__(self, name: str, known: np.ndarray | None = None) -> None:
        self.name = name
        self._known = known
        self._codes: dict[Any, int] = {}
        if known is not None and known.dtype == object:
            self._codes = {value: code for code, value in enumerate(known.tolist())}
        self._order: tuple[np.ndarray, np.ndarray] | None = None
        self._places: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self._codes) or (0 if self._known is None else len(self._known))

    def keys(self, values: Any) -> np.ndarray:
        """Return the key of each id, int64, and remember new ones.

        Raises ValueError where some pieces hold integers and others do not.
        """
        array = as_id_array(self.name, values)
        if self._known is not None and (array.dtype == object) != (self._known.dtype == object):
            raise ValueError(f"{self.name} are whole numbers in some parts and text in others; "
                             f"read them all as they are written (text_ids=True, --text-ids)")
        distinct, rows = factorize(self.name, array)
        if array.dtype != object:
            self._known = distinct if self._known is None else _united(self._known, distinct)
            self._places = None
            return array
        codes = np.array([self._codes.setdefault(value, len(self._codes)) for value in distinct],
                         np.int64)
        self._known = self._known if self._known is not None else np.empty(0, object)
        keys: np.ndarray = codes[rows]
        return keys

    @property
    def sorted_ids(self) -> np.ndarray:
        """All ids, in the order of the rows."""
        if not self._codes:
            return np.empty(0, np.int64) if self._known is None else self._known
        return factorize(self.name, list(self._codes))[0]

    def numbers(self, keys: np.ndarray) -> np.ndarray:
        """Return the row number of each key, once all ids are known."""
        if not self._codes:
            return self._places_of(keys)
        if self._order is None:
            self._order = factorize(self.name, list(self._codes))
        numbers: np.ndarray = self._order[1][keys]
        return numbers

    def _places_of(self, keys: np.ndarray) -> np.ndarray:
        """Return the places of integer ids: out of a table where they lie close together."""
        ids = self.sorted_ids
        if not ids.size or int(ids[-1]) - int(ids[0]) > 4 * ids.size + 1_000_000:
            return np.searchsorted(ids, keys)
        if self._places is None:
            self._places = np.zeros(ids[-1] - ids[0] + 1, np.int64)
            self._places[ids - ids[0]] = np.arange(ids.size)
        places: np.ndarray = self._places[keys - ids[0]]
        return places

    def save(self, path: Path) -> None:
        """Write the ids to a file."""
        ids = as_id_array(self.name, list(self._codes)) if self._codes else self.sorted_ids
        persistence.write(path, {"ids": ids}, {})

    @classmethod
    def load(cls, path: Path, name: str) -> Names:
        """Read what `save` wrote; no ids where there is no file."""
        if not path.exists():
            return cls(name)
        return cls(name, persistence.read(path)[0]["ids"])


def _united(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the union of two sorted arrays, sorted.

    A stable sort merges runs; np.union1d hashes every entry anew, which takes 200 times as long.
    """
    both = np.sort(np.concatenate([a, b]), kind="stable")
    fresh = np.ones(both.size, bool)
    fresh[1:] = both[1:] != both[:-1]
    return both[fresh]
