"""What a command line names, brought into Python: data, ids, titles."""

from __future__ import annotations

import csv
from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import mfcore
from mfcore.cli.output import shows_progress

if TYPE_CHECKING:
    from mfcore.data.dataset import Dataset
    from mfcore.data.layout import Reading
    from mfcore.data.ratings import Ratings

SEPARATORS = ("::", "\t", "|", ";", ",")
Titles = dict[Any, str]


# -------------------------------------------------------------------------------- ratings


def load_data(name: str, arguments: Namespace) -> Dataset:
    """Return a data set by name, or the ratings of a file.

    Raises FileNotFoundError where there is neither.
    """
    from mfcore.data.dataset import Dataset
    from mfcore.data.datasets import NAMES

    if name in NAMES:
        return mfcore.fetch(name, progress=shows_progress(arguments.quiet))
    if not Path(name).exists():
        raise FileNotFoundError(f"there is no file {name}, and no data set of that name; known "
                                f"by name are {', '.join(NAMES)}")
    return Dataset(read_file(name, arguments))


def read_file(path: str, arguments: Namespace) -> Ratings:
    """Read a ratings file as the file options say, or open a folder of `mfcore convert`."""
    if Path(path).is_dir():
        return mfcore.Ratings.open(path)
    return mfcore.read_ratings(
        path, user=_column(arguments.user_column), item=_column(arguments.item_column),
        rating=None if arguments.rating_column == "none" else _column(arguments.rating_column),
        separator=arguments.separator, duplicates=arguments.duplicates,
        text_ids=arguments.text_ids)


def reading_of(arguments: Namespace) -> Reading:
    """Return what the file options say of columns and form."""
    from mfcore.data.layout import Reading

    none = arguments.rating_column == "none"
    return Reading(_column(arguments.user_column), _column(arguments.item_column),
                   None if none else _column(arguments.rating_column),
                   separator=arguments.separator, text_ids=arguments.text_ids)


def _column(text: str) -> str | int:
    return int(text) if text.isdecimal() else text


# ------------------------------------------------------------------------- ids and titles


def ids_of(name: str, texts: Sequence[str], known: np.ndarray | None) -> np.ndarray:
    """Return ids as the model knows them, from words of the command line.

    Raises ValueError for a word where ids (or row numbers) are whole numbers.
    """
    if known is not None and known.dtype == object:
        return np.array([_object_id(text, known) for text in texts], object)
    try:
        return np.array([int(text) for text in texts], np.int64)
    except ValueError:
        bad = next(text for text in texts if not text.lstrip("+-").isdecimal())
        raise ValueError(f"{name} are whole numbers in this model, got {bad!r}") from None


def _object_id(text: str, known: np.ndarray) -> Any:
    """Return the number that a word spells where only that is known, else the word."""
    if text not in known and text.lstrip("-").isdecimal() and int(text) in known:
        return int(text)
    return text


def given_ids(name: str, words: Sequence[str] | None, path: str | None,
              known: np.ndarray | None) -> np.ndarray | None:
    """Return ids from words or from a file with one a line; None where neither is given."""
    if path is not None:
        lines = Path(path).read_text("utf-8").splitlines()
        words = [line.strip() for line in lines if line.strip()]
        if not words:
            raise ValueError(f"{path} holds no ids")
    return None if words is None else ids_of(name, words, known)


def load_titles(name: str | None, arguments: Namespace) -> Titles:
    """Return titles by item id: of a data set, or of a file with an id and a title a line."""
    from mfcore.data.datasets import NAMES

    if name is None:
        return {}
    if name in NAMES:
        return titles_of(load_data(name, arguments))
    rows = read_rows(Path(name))
    titles = {key: row[1].strip() for row in rows if len(row) > 1 and row[1].strip()
              for key in _spellings(row[0].strip())}
    if not titles:
        raise ValueError(f"{name} must hold an id and a title a line, and holds none")
    return titles


def titles_of(data: Dataset) -> Titles:
    """Return the titles that a data set has, by item id."""
    if data.item_titles is None:
        return {}
    ids = data.ratings.item_ids
    keys = range(len(data.item_titles)) if ids is None else ids.tolist()
    return {key: title for key, title in zip(keys, data.item_titles, strict=True) if title}


def read_rows(path: Path) -> Iterable[list[str]]:
    """Return the cells of each line of a table, whatever stands between them."""
    raw = path.read_bytes()
    try:
        lines = raw.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        lines = raw.decode("latin-1").splitlines()
    first = next((line for line in lines if line.strip()), "")
    separator = next((each for each in SEPARATORS if each in first), ",")
    if len(separator) > 1:
        return [line.split(separator) for line in lines]
    return csv.reader(lines, delimiter=separator)


def _spellings(text: str) -> tuple[Any, ...]:
    return (text, int(text)) if text.isdecimal() else (text,)


# ---------------------------------------------------------------------------------- output


def writable(path: str) -> Path:
    """Return where to write, or raise before any work is done: a folder, or in none.

    Raises IsADirectoryError, FileNotFoundError.
    """
    target = Path(path)
    if target.is_dir():
        raise IsADirectoryError(f"cannot write to {path}: it is a folder")
    if not target.absolute().parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {target.parent}")
    return target
