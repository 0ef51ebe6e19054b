"""Checks of the two orientations of ratings that lie in a folder: alone, and against each other.

Somebody may have made the folder up, or copied half of another, and kernels trust what they
read.  Each side is read once, in chunks.  Whether both hold the same cells is told by sums of
hashes over the cells (user u, item i) of a side, with rating, weight or time x:

    h(u, i) = mix(u n_items + i + 1)            h(u, i, x) = mix(h(u, i) ^ bits of x)

A sum does not depend on the order of its terms, so that nothing is sorted or copied.  Other cells
have other sums but in one case of 2^64.

Source: `mix` is variant 13 of Stafford, in SplitMix64 (Steele, Lea, Flood 2014).
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from mfcore.data.canonical import check_layout
from mfcore.data.chunks import CELLS, rows_of_cells
from mfcore.parallel import row_chunks

PIECE = 1 << 14         # cells hashed at a time: they stay in the cache
REALS = np.float32, np.float64
INTEGERS = np.int32, np.int64
TYPES = {"indptr": INTEGERS, "indices": INTEGERS, "data": REALS, "weights": REALS,
         "times": (np.int64, np.float64)}

Arrays = dict[str, np.ndarray]      # indptr, indices, data; weights and times, if there are any


def check_arrays(side: str, arrays: Arrays, n_rows: int) -> None:
    """Raise ValueError for arrays of types that ratings do not have, or of unequal lengths.

    Parameters
    ----------
    side : "user" or "item"
        Messages name the file, such as user.data.npy.
    arrays : dict of str to ndarray
    n_rows : int
    """
    for name, array in arrays.items():
        if array.dtype not in TYPES[name] or array.ndim != 1:
            raise ValueError(f"{side}.{name}.npy is of dtype {array.dtype} and shape {array.shape}")
    indptr, indices = arrays["indptr"], arrays["indices"]
    if len(indptr) != n_rows + 1 or indptr.dtype != indices.dtype:
        raise ValueError(f"{side}.indptr.npy has {len(indptr)} entries of {indptr.dtype}, and must "
                         f"have {n_rows + 1} of {indices.dtype}")
    for name, array in arrays.items():
        if name != "indptr" and len(array) != indptr[-1]:
            raise ValueError(f"{side}.{name}.npy has {len(array)} entries, and {side}.indptr.npy "
                             f"ends at {indptr[-1]}")


def check_cells(side: str, matrix: sp.csr_array, values: Arrays) -> None:
    """Raise ValueError for cells out of order, or ratings, weights and times that none may have."""
    check_layout(side, matrix)
    for start, stop in row_chunks(matrix.nnz, CELLS):
        after = np.arange(start + 1, min(stop + 1, matrix.nnz))
        falls = after[np.diff(matrix.indices[start:stop + 1]) <= 0]
        if not np.isin(falls, matrix.indptr).all():
            raise ValueError(f"{side}.indices.npy has cells out of order")
        for name, array in (("data", matrix.data), *values.items()):
            part = array[start:stop]
            if not np.isfinite(part).all() or (name == "weights" and part.min(initial=0) < 0):
                wanted = "finite and >= 0" if name == "weights" else "finite"
                raise ValueError(f"{side}.{name}.npy must be {wanted}, and is not between cells "
                                 f"{start} and {stop}")


def check_same_cells(by_user: sp.csr_array, values: Arrays, by_item: sp.csr_array,
                     values_by_item: Arrays) -> None:
    """Raise ValueError, naming the array, if one orientation is not the transpose of the other."""
    one = _fingerprint(by_user, values, by_user.shape[1], True)
    other = _fingerprint(by_item, values_by_item, by_user.shape[1], False)
    for name in one:
        if one[name] != other[name]:
            raise ValueError(f"item.{name}.npy is not the transpose of user.{name}.npy: the two "
                             f"orientations hold different ratings")


def _fingerprint(matrix: sp.csr_array, values: Arrays, n_items: int, by_user: bool
                 ) -> dict[str, int]:
    """Return the number of cells and the sums of their hashes, by array."""
    sums = dict.fromkeys(("indices", "data", *values), 0)
    for start, stop in row_chunks(matrix.nnz, PIECE):
        part = slice(start, stop)
        rows, columns = rows_of_cells(matrix.indptr, part), matrix.indices[part].astype(np.int64)
        users, items = (rows, columns) if by_user else (columns, rows)
        cells = _mix((users * n_items + items + 1).view(np.uint64))
        sums["indices"] += _total(cells)
        sums["data"] += _total(_mix(cells ^ _bits(matrix.data[part])))
        for name, array in values.items():
            sums[name] += _total(_mix(cells ^ _bits(array[part])))
    return {"indptr": matrix.nnz, **{name: total % 2**64 for name, total in sums.items()}}


def _mix(x: np.ndarray) -> np.ndarray:
    """Return the hashes of 64 bits each, in place."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x ^= x >> np.uint64(shift)
        x *= np.uint64(factor)
    x ^= x >> np.uint64(31)
    return x


def _bits(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.int64:
        return values.view(np.uint64)
    return (values.astype(np.float64) + 0.0).view(np.uint64)        # (0.0 makes 0 of -0)


def _total(hashes: np.ndarray) -> int:
    return int(hashes.sum())
