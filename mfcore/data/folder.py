"""Ratings in a folder: both orientations as arrays that are mapped, not read.

    header.json          {"header": {...}, "sha256": of the header as it is written}
    user.indptr.npy, user.indices.npy, user.data.npy          CSR by user
    item.indptr.npy, item.indices.npy, item.data.npy          CSR by item
    user.weights.npy, item.weights.npy                        if there are weights
    user.times.npy, item.times.npy                            if there are times
    ids.mfcore                                                if rows have names

The header gives the shape, the unit and zone of times, and the size and checksum of every file,
and is written last; the folder takes its name when all of it is on disk.  Opening it maps the
arrays into memory: the system reads what is used and drops it again when memory is needed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore import persistence, validation
from mfcore.atomic import new_folder
from mfcore.data.canonical import moments
from mfcore.data.orientations import check_arrays, check_cells, check_same_cells
from mfcore.data.positions import named_or_none
from mfcore.npy import mapped, save

FORMAT, VERSION = "mfcore ratings", 1
HEADER, IDS = "header.json", "ids.mfcore"


class RatingsFolderError(ValueError):
    """A folder of ratings is incomplete, altered, of another kind or of a newer version."""


def write(ratings: Any, folder: str | os.PathLike[str]) -> None:
    """Write Ratings to a new folder; see `Ratings.write`."""
    with new_folder(folder) as part:
        for side, given in (("user", ratings), ("item", ratings.transposed)):
            arrays = {name: getattr(given.by_user, name) for name in ("indptr", "indices", "data")}
            times = given.moments and given.moments.numbers
            for name, array in {**arrays, "weights": given.weights, "times": times}.items():
                if array is not None:
                    save(part / f"{side}.{name}.npy", array)
        seal(part, ratings.shape, ratings.user_ids, ratings.item_ids,
             ratings.moments and ratings.moments.kind)


def seal(part: Path, shape: tuple[int, int], user_ids: np.ndarray | None,
         item_ids: np.ndarray | None, times: list[Any] | None = None) -> None:
    """Write ids and header for the arrays that are in a folder.

    times : unit and zone of the times, if there are any
    """
    named = {"user_ids": user_ids, "item_ids": item_ids}
    arrays = {name: ids for name, ids in named.items() if ids is not None}
    if arrays:
        persistence.write(part / IDS, arrays, {})
    files = {path.name: {"bytes": path.stat().st_size, "sha256": persistence.digest_of_file(path)}
             for path in sorted(part.iterdir()) if path.name != HEADER}
    header = {"format": FORMAT, "version": VERSION, "shape": list(shape), "files": files,
              **({} if times is None else {"times": times})}
    text = {"header": header, "sha256": digest_of_header(header)}
    (part / HEADER).write_text(json.dumps(text, sort_keys=True, indent=1))


def digest_of_header(header: dict[str, Any]) -> str:
    """Return the checksum that stands next to the header."""
    return persistence.digest(json.dumps(header, sort_keys=True).encode())


def read(folder: str | os.PathLike[str], verify: bool) -> dict[str, Any]:
    """Map what `write` wrote; return the state of Ratings.  See `Ratings.open`."""
    place = validation.path("folder", folder)
    if not place.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    try:
        return _state(place, _header(place), verify)
    except RatingsFolderError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, OSError) as error:
        raise RatingsFolderError(f"{place} holds no ratings that were written here ({error}); "
                                 f"write the folder again") from error


def _state(place: Path, header: dict[str, Any], verify: bool) -> dict[str, Any]:
    found = header["files"]
    for name, entry in found.items():
        if os.path.basename(name) != name:
            raise RatingsFolderError(f"{place} names a file elsewhere, {name!r}")
        _check_file(place / name, entry, verify)
    n_users, n_items = (validation.integer("shape", size) for size in header["shape"])
    by_user, values = _side(place, "user", found, (n_users, n_items), verify)
    by_item, values_by_item = _side(place, "item", found, (n_items, n_users), verify)
    if verify:
        check_same_cells(by_user, values, by_item, values_by_item)
    ids = persistence.read(place / IDS)[0] if IDS in found else {}
    state = {"folder": str(place.resolve()), "by_user": by_user, "by_item": by_item,
             "weights": values.get("weights"), "weights_by_item": values_by_item.get("weights"),
             "_users": named_or_none("user_ids", ids.get("user_ids"), n_users),
             "_items": named_or_none("item_ids", ids.get("item_ids"), n_items)}
    if "times" in values:
        for name, own in (("moments", values), ("moments_by_item", values_by_item)):
            state[name] = moments(own["times"], by_user.nnz, header["times"])
    return state


def _side(place: Path, side: str, found: Collection[str], shape: tuple[int, int], verify: bool
          ) -> tuple[sp.csr_array, dict[str, np.ndarray]]:
    """Map the matrix, and the weights and times, of one orientation."""
    files = {name: f"{side}.{name}.npy" for name in ("indptr", "indices", "data")}
    for name in ("weights", "times"):
        if {f"user.{name}.npy", f"item.{name}.npy"} & set(found):
            files[name] = f"{side}.{name}.npy"
    for name in files.values():
        if name not in found:
            raise RatingsFolderError(f"{place} has no {name}; write the folder again")
    arrays = {name: np.asarray(mapped(place / file)) for name, file in files.items()}
    check_arrays(side, arrays, shape[0])
    values: dict[str, np.ndarray] = {name: arrays[name] for name in ("weights", "times")
                                     if name in arrays}
    matrix = sp.csr_array((arrays["data"], arrays["indices"], arrays["indptr"]), shape=shape)
    if verify:
        check_cells(side, matrix, values)
    return matrix, values


def _header(place: Path) -> dict[str, Any]:
    path = place / HEADER
    if not path.exists():
        raise RatingsFolderError(f"{place} has no {HEADER}: it was not written to the end, or "
                                 f"holds no ratings; write it again")
    try:
        text = json.loads(path.read_text())
        header: dict[str, Any] = text["header"]
        altered = text["sha256"] != digest_of_header(header)
    except (ValueError, KeyError, TypeError) as error:
        raise RatingsFolderError(f"{path} is damaged ({error}); write the folder again") from None
    if altered:
        raise RatingsFolderError(f"{path} does not match its checksum; write the folder again")
    if header["format"] != FORMAT or header["version"] != VERSION:
        raise RatingsFolderError(f"{path} is of {header['format']!r}, version "
                                 f"{header['version']!r}; this mfcore reads {FORMAT!r}, version "
                                 f"{VERSION}")
    return header


def _check_file(path: Path, entry: dict[str, Any], verify: bool) -> None:
    size = path.stat().st_size if path.exists() else -1
    if size != entry["bytes"]:
        found = "is missing" if size < 0 else f"has {size} bytes"
        raise RatingsFolderError(f"{path} {found}, and the header says {entry['bytes']} bytes: "
                                 f"the folder was not copied to the end; copy or write it again")
    if verify and persistence.digest_of_file(path) != entry["sha256"]:
        raise RatingsFolderError(f"{path} does not match its checksum; write the folder again")
