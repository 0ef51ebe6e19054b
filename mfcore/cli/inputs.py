"""Read what a command line names: ratings, ids and titles."""

from __future__ import annotations

import csv
import io
from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import mfcore
from mfcore import validation
from mfcore.cli.output import shows_progress

if TYPE_CHECKING:
    from mfcore.data.dataset import Dataset
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
                                f"by name are {', '.join(NAMES)}{validation.meant(name, NAMES)}")
    return Dataset(read_file(name, arguments))


def read_file(path: str, arguments: Namespace) -> Ratings:
    """Read a ratings file as the file options say, or open a folder of `mfcore convert`."""
    from mfcore.data.parquet import is_parquet

    if Path(path).is_dir() and not is_parquet(Path(path)):
        return mfcore.Ratings.open(path)
    return mfcore.read_ratings(path, duplicates=arguments.duplicates,
                               verbose=int(shows_progress(arguments.quiet)),
                               time_column=column_of(arguments.time_column),
                               **columns_of(arguments))


def column_of(text: str | None) -> int | str | None:
    """Return a column as it is named on the command line: a number, or a name."""
    return int(text) if text is not None and text.isdecimal() else text


def columns_of(arguments: Namespace) -> dict[str, Any]:
    """Return what the file options say about columns, as `read_ratings` takes it."""
    columns = {"user": arguments.user_column, "item": arguments.item_column,
               "rating": arguments.rating_column}
    found: dict[str, Any] = {name: column_of(text) for name, text in columns.items()}
    if found["rating"] == "none":
        found["rating"] = None
    if arguments.missing is not None:
        found["missing"] = tuple(word for word in arguments.missing.split(",") if word)
    return {**found, "separator": arguments.separator, "text_ids": arguments.text_ids,
            "header": arguments.header, "encoding": arguments.encoding,
            "quoting": not arguments.no_quotes, "comment": arguments.comment,
            "skip_lines": arguments.skip_lines}


# ------------------------------------------------------------------------- ids and titles


def ids_of(name: str, texts: Sequence[str], known: np.ndarray | None) -> np.ndarray:
    """Return words of the command line as ids: integers where Python prints them so, else text.

    Raises ValueError for a word that is not a number where there are only row numbers.
    """
    from mfcore.data.ids import as_objects, as_vector, integer_of

    if known is not None and known.dtype == object:
        return as_objects(texts)
    numbers = [integer_of(text) for text in texts]
    if known is None and None in numbers:
        raise ValueError(f"{name} are row numbers in this model, which has no ids, got "
                         f"{texts[numbers.index(None)]!r}")
    return as_vector([text if number is None else number
                      for text, number in zip(texts, numbers, strict=True)])


def given_ids(name: str, words: Sequence[str] | None, path: str | None,
              known: np.ndarray | None, encoding: str = "utf-8") -> np.ndarray | None:
    """Return ids from words or from the lines of a file; None if neither is given."""
    if path is not None:
        words = [line.strip() for line in _lines(Path(path), encoding) if line.strip()]
        if not words:
            raise ValueError(f"{path} holds no ids")
    return None if words is None else ids_of(name, words, known)


def ids_or_rows(ids: np.ndarray | None, n_rows: int) -> np.ndarray:
    """Return the ids of rows; their numbers if they have none."""
    return np.arange(n_rows) if ids is None else ids


def load_titles(name: str | None, arguments: Namespace) -> Titles:
    """Return titles by item id: of a data set, or of a file with an id and a title per line."""
    from mfcore.data.datasets import NAMES
    from mfcore.data.ids import integer_of

    if name is None:
        return {}
    if name in NAMES:
        if not (found := titles_of(load_data(name, arguments))):
            raise ValueError(f"{name} has no titles")
        return found
    rows = (map(str.strip, row[:2]) for row in read_rows(Path(name), arguments.encoding)
            if len(row) > 1)
    titles: Titles = {word: title for word, title in rows if title}
    titles |= {number: title for word, title in titles.items()
               if (number := integer_of(word)) is not None}
    if not titles:
        raise ValueError(f"{name} must hold an id and a title on each line, and holds none")
    return titles


def titles_of(data: Dataset) -> Titles:
    """Return the titles that a data set has, by item id."""
    if data.item_titles is None:
        return {}
    ids = ids_or_rows(data.ratings.item_ids, len(data.item_titles)).tolist()
    return {item: title for item, title in zip(ids, data.item_titles, strict=True) if title}


def read_rows(path: Path, encoding: str = "utf-8") -> Iterable[list[str]]:
    """Return the cells of each line of a table, whatever separates them."""
    lines = _lines(path, encoding)
    first = next((line for line in lines if line.strip()), "")
    separator = next((each for each in SEPARATORS if each in first), ",")
    if len(separator) > 1:
        return [line.rstrip("\r\n").split(separator) for line in lines]
    return csv.reader(lines, delimiter=separator)


def _lines(path: Path, encoding: str) -> list[str]:
    """Return the lines of a text file or pipe with their ends; Latin-1 if it is no UTF-8."""
    from mfcore.data.textfile import load_text

    raw = b"".join(load_text(path, encoding).pieces())
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return list(io.StringIO(text, newline=""))
