"""Checkpoints: what an interrupted fit needs to go on to the same bits.

A file holds the parameters, the solver's own state, the history, the best epoch so far, and which
model and ratings it belongs to.  It is written atomically and removed when the fit succeeds.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from mfcore import persistence
from mfcore.data.features import Features
from mfcore.data.ratings import Ratings


class Snapshot(NamedTuple):
    """The state between two epochs: arrays by name, in three groups, and the history."""

    epoch: int
    history: list[dict[str, Any]]
    parameters: dict[str, np.ndarray]
    solver: dict[str, np.ndarray]
    best: tuple[float, int, dict[str, np.ndarray]] | None
    is_stopped: bool = False            # by a callback


@dataclass(frozen=True)
class Checkpoint:
    """A file that a fit writes every few epochs.

    Parameters
    ----------
    path : path-like
    every : int, >= 1
    identity : dict of JSON values
        What must be the same for a fit to go on: class, hyper-parameters, ratings.
    stays : bool
        Whether the file outlives the fit, because another fit is to follow.
    """

    path: str | os.PathLike[str]
    every: int
    identity: dict[str, Any]
    stays: bool = False

    def read(self) -> Snapshot | None:
        """Return what the file holds, or None if there is no file.

        Raises ValueError for the checkpoint of another model or other ratings (it names the
        difference), ModelFileError for a file that is not a checkpoint; both leave the file.
        """
        if not Path(self.path).exists():
            return None
        arrays, meta = persistence.read(self.path)
        if "epoch" not in meta:
            raise persistence.ModelFileError(f"{self.path} is no checkpoint")
        for name, wanted in self.identity.items():
            found = meta["identity"].get(name)
            if found != wanted:
                raise ValueError(f"{self.path} is the checkpoint of another fit: {name} is "
                                 f"{found!r} there and {wanted!r} here; remove the file to "
                                 f"start anew")
        best = None if meta["best"] is None else (*meta["best"], group(arrays, "best"))
        return Snapshot(meta["epoch"], meta["history"], group(arrays, "parameters"),
                        group(arrays, "solver"), best, meta.get("is_stopped", False))

    def resumed(self, like: Mapping[str, np.ndarray]) -> Snapshot | None:
        """Return what the file holds for parameters of the given shapes; None: no file.

        Raises as `read`, and ModelFileError for parameters that are not finite, or others.
        """
        found = self.read()
        if found is not None:
            self._check(found.parameters, like)
            if found.best is not None:
                self._check(found.best[2], like)
        return found

    def _check(self, parameters: Mapping[str, np.ndarray], like: Mapping[str, np.ndarray]) -> None:
        for name, wanted in like.items():
            array = parameters.get(name)
            if array is None or (array.shape, array.dtype) != (wanted.shape, wanted.dtype) \
                    or not np.isfinite(array).all():
                raise persistence.ModelFileError(
                    f"{self.path} is no checkpoint of this fit: its {name} must be finite, of "
                    f"shape {wanted.shape} and {wanted.dtype}; remove the file to start anew")

    def write(self, snapshot: Snapshot) -> None:
        """Write a state, atomically, if its epoch is a multiple of `every`, or the last."""
        if snapshot.epoch % self.every and not snapshot.is_stopped:
            return
        groups = {"parameters": snapshot.parameters, "solver": snapshot.solver,
                  "best": snapshot.best[2] if snapshot.best else {}}
        arrays = {f"{group}.{name}": array for group, members in groups.items()
                  for name, array in members.items()}
        persistence.write(self.path, arrays, {
            "identity": self.identity, "epoch": snapshot.epoch, "history": snapshot.history,
            "best": snapshot.best[:2] if snapshot.best else None,
            "is_stopped": snapshot.is_stopped})

    def remove(self) -> None:
        """Delete the file, if there is one."""
        Path(self.path).unlink(missing_ok=True)


def group(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Return the arrays whose names begin with "prefix.", by the rest of their names."""
    return {name[len(prefix) + 1:]: array for name, array in arrays.items()
            if name.startswith(f"{prefix}.")}


def checksum_of_features(features: Features | None) -> int:
    """Return the checksum of names and numbers; 0 for none."""
    return 0 if features is None else zlib.crc32("\n".join(features.names).encode(),
                                                 _checksum(features.matrix))


def checksum_of_ratings(ratings: Ratings) -> int:
    """Return the checksum of cells, weights and times; not of ids."""
    moments = ratings.moments
    if moments is None:
        return _checksum(ratings.by_user, ratings.weights)
    return zlib.crc32(str(moments.kind).encode(),
                      _checksum(ratings.by_user, ratings.weights, moments.numbers))


def _checksum(matrix: sp.csr_array, *others: np.ndarray | None) -> int:
    checksum = 0
    for array in (matrix.indptr, matrix.indices, matrix.data, *others):
        if array is not None:
            checksum = zlib.crc32(np.ascontiguousarray(array).data, checksum)
    return checksum
