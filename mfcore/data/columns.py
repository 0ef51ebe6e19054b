"""What is read of a ratings file, whatever its format."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mfcore.data.ids import Coded


class Columns(NamedTuple):
    """Columns of a ratings file in the order of its lines; None if not asked for.

    Ids are int64, objects or `Coded`; values and weights float64, timestamps int64 (out of frames
    and parquet also datetime64).
    """

    users: np.ndarray | Coded
    items: np.ndarray | Coded
    values: np.ndarray | None = None
    weights: np.ndarray | None = None
    timestamps: np.ndarray | None = None

    @classmethod
    def of(cls, name: str, found: Mapping[str, Any]) -> Columns:
        """Return columns by what they are; ValueError if there is not one rating."""
        return cls(found["user"], found["item"], found.get("rating"), found.get("weight"),
                   found.get("timestamp")).some(name)

    def some(self, name: str) -> Columns:
        """Return the columns; ValueError if there is not one rating."""
        if not len(self.users):
            raise ValueError(f"{name} holds no ratings")
        return self


def files_in(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Return the files of a folder, in order of names, that hold a part of its data.

    Those whose names begin with a point or an underscore do not.  Of the folders inside, those are
    entered that hold the rows of one value, as in `year=2020`.
    """
    found: list[Path] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "_")):
            continue
        if not path.is_dir() and path.suffix in suffixes:
            found.append(path)
        elif path.is_dir() and "=" in path.name:
            found += files_in(path, suffixes)
    return found
