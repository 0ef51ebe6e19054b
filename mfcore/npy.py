"""Write .npy files, and map them from several threads at once.

NumPy reads the header of a .npy file with `ast.literal_eval`.  In CPython 3.10, 3.11 and 3.12
two threads that parse at once may each get "SystemError: AST constructor recursion depth
mismatch" (gh-106905), which leaves nothing behind: to parse once more is enough.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from mfcore.atomic import named

TRIES = 20


def save(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """Write an array as `numpy.save` does; an OSError says why it cannot be, and where."""
    whole = np.ascontiguousarray(array)
    header = np.lib.format.header_data_from_array_1_0(whole)
    with named(path), open(path, "wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        stream.write(whole.data)


def mapped(path: str | os.PathLike[str], mode: Any = "r") -> np.ndarray:
    """Map the array of a .npy file; read it where it is empty, for that cannot be mapped.

    Parameters
    ----------
    path : str or path-like
        The file.
    mode : str
        As for `numpy.memmap`: "r", "r+" or "c".

    Returns
    -------
    ndarray
        A `numpy.memmap`, or an ordinary array without elements.

    Raises
    ------
    OSError, ValueError
        The file cannot be read, or is no .npy file.
    """
    for _ in range(TRIES - 1):
        try:
            return _mapped(path, mode)
        except SystemError:
            continue
    return _mapped(path, mode)


def _mapped(path: str | os.PathLike[str], mode: Any) -> np.ndarray:
    with open(path, "rb") as stream:
        np.lib.format.read_magic(stream)
        empty = 0 in np.lib.format.read_array_header_1_0(stream)[0]
    array: np.ndarray = np.load(path) if empty else np.lib.format.open_memmap(path, mode)
    return array
