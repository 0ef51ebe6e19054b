"""Ratings in a folder: both orientations as arrays that are mapped, not read.

    header.json          {"header": {...}, "sha256": of the header as it is written}
    user.indptr.npy, user.indices.npy, user.data.npy          CSR by user
    item.indptr.npy, item.indices.npy, item.data.npy          CSR by item
    user.weights.npy, item.weights.npy                        if there are weights
    ids.mfcore                                                if rows have names

The header gives the shape, and the size and checksum of every file, and is written last;
the folder takes its name when all of it is on disk.  Opening it maps the arrays into memory:
the system reads what is used and drops it again when memory is needed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore import persistence, validation
from mfcore.atomic import new_folder
from mfcore.data.canonical import check_layout
from mfcore.data.chunks import CELLS
from mfcore.data.ids import named_or_none
from mfcore.npy import mapped
from mfcore.parallel import row_chunks

FORMAT, VERSION = "mfcore ratings", 1
HEADER, IDS = "header.json", "ids.mfcore"


class RatingsFolderError(ValueError):
    """A folder of ratings is incomplete, altered, of another kind or of a newer version."""


def write(ratings: Any, folder: str | os.PathLike[str]) -> None:
    """Write Ratings to a new folder; see `Ratings.write`."""
    with new_folder(folder) as part:
        for side, given in (("user", ratings), ("item", ratings.transposed)):
            arrays = {name: getattr(given.by_user, name) for name in ("indptr", "indices", "data")}
            for name, array in {**arrays, "weights": given.weights}.items():
                if array is not None:
                    np.save(part / f"{side}.{name}.npy", array)
        seal(part, ratings.shape, ratings.user_ids, ratings.item_ids)


def seal(part: Path, shape: tuple[int, int], user_ids: np.ndarray | None,
         item_ids: np.ndarray | None) -> None:
    """Write ids and header for the arrays that are in a folder."""
    named = {"user_ids": user_ids, "item_ids": item_ids}
    arrays = {name: ids for name, ids in named.items() if ids is not None}
    if arrays:
        persistence.write(part / IDS, arrays, {})
    files = {path.name: {"bytes": path.stat().st_size, "sha256": persistence.digest_of_file(path)}
             for path in sorted(part.iterdir()) if path.name != HEADER}
    header = {"format": FORMAT, "version": VERSION, "shape": list(shape), "files": files}
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
        raise RatingsFolderError(f"{place} holds no ratings that were written here ({error})"
                                 ) from error


def _state(place: Path, header: dict[str, Any], verify: bool) -> dict[str, Any]:
    for name, entry in header["files"].items():
        if os.path.basename(name) != name:
            raise RatingsFolderError(f"{place} names a file elsewhere, {name!r}")
        _check_file(place / name, entry, verify)
    state: dict[str, Any] = {"folder": str(place.resolve())}
    shape = tuple(header["shape"])
    for side, oriented, weights in (("user", shape, "weights"),
                                    ("item", shape[::-1], "weights_by_item")):
        data, indices, indptr = (np.asarray(mapped(place / f"{side}.{name}.npy"))
                                 for name in ("data", "indices", "indptr"))
        state[f"by_{side}"] = matrix = sp.csr_array((data, indices, indptr), shape=oriented)
        if verify:
            _check_cells(place / side, matrix)
        weighted = f"{side}.weights.npy" in header["files"]
        state[weights] = np.asarray(mapped(place / f"{side}.weights.npy")) if weighted else None
        if weighted and state[weights].shape != (matrix.nnz,):
            raise RatingsFolderError(f"{place} has another number of weights than of cells")
    ids = persistence.read(place / IDS)[0] if IDS in header["files"] else {}
    for side, size in zip(("user", "item"), shape, strict=True):
        name = f"{side}_ids"
        state[f"_{side}s"] = named_or_none(name, ids.get(name), size)
    return state


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


def _check_cells(name: Path, matrix: sp.csr_array) -> None:
    """Raise RatingsFolderError for cells that Ratings cannot have, for kernels trust them.

    A folder made up by somebody has matching checksums too.
    """
    indptr, indices = matrix.indptr, matrix.indices
    if {indptr.dtype.kind, indices.dtype.kind} != {"i"} or matrix.data.dtype.kind not in "iufb":
        raise RatingsFolderError(f"{name} has arrays of other types than ratings have")
    try:
        check_layout(str(name), matrix)
    except ValueError as error:
        raise RatingsFolderError(f"{error}; write the folder again") from None
    for start, stop in row_chunks(matrix.nnz, CELLS):
        after = np.arange(start + 1, min(stop + 1, matrix.nnz))
        falls = after[np.diff(indices[start:stop + 1]) <= 0]
        if not np.isin(falls, indptr).all() or not np.isfinite(matrix.data[start:stop]).all():
            raise RatingsFolderError(f"{name} has cells out of order, or values that are not "
                                     f"finite; write the folder again")
