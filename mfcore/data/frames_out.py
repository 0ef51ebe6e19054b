"""Frames out of columns: of pandas by itself, of other libraries through narwhals."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np

from mfcore import validation

LIBRARIES = ("pandas", "polars", "pyarrow")


def library_of(name: str, value: Any) -> str | None:
    """Return the library of the frame that is asked for: True for the first there is; None: none.

    Raises ImportError where it is not installed, with what installs it.
    """
    if value is None or value is False:
        return None
    if value is not True:
        validation.choice(name, value, LIBRARIES)
    found = next((each for each in LIBRARIES if _is_there(each)), None) if value is True else value
    if found is None or not _is_there(found):
        wanted = "a library of frames" if found is None else found
        raise ImportError(f"{name}={value!r} needs {wanted}: pip install 'mfcore[frames]' "
                          f"{found or 'pandas'}")
    if found != "pandas" and not _is_there("narwhals"):
        raise ImportError(f"{name}={value!r} needs narwhals: pip install 'mfcore[frames]'")
    return str(found)


def _is_there(library: str) -> bool:
    try:
        return find_spec(library) is not None
    except ValueError:                  # (a module without a spec, or None in its place)
        return False


def frame_of(columns: Mapping[str, np.ndarray], library: str) -> Any:
    """Return columns as a frame of a library.

    Raises TypeError for ids of several types in a column, where it takes one, and for text that
    it cannot hold.
    """
    if library == "pandas":
        import pandas

        try:
            return pandas.DataFrame(dict(columns))
        except UnicodeError as error:
            raise TypeError(f"pandas cannot hold these columns ({error})") from None
    import narwhals as nw

    plain = {name: values.tolist() if values.dtype == object else values
             for name, values in columns.items()}
    try:
        frame = nw.from_dict(plain, backend=library)
        untyped = [name for name, values in columns.items()     # (of nothing, or nothing but None)
                   if name == "title" or (values.dtype == object and not len(values))]
        return frame.with_columns(nw.col(*untyped).cast(nw.String())).to_native() if untyped \
            else frame.to_native()
    except Exception as error:          # (of the library)
        raise TypeError(f"{library} cannot hold these columns ({' '.join(str(error).split())}); "
                        f"pandas holds ids of several types") from None
