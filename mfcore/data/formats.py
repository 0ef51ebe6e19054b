"""The published formats of open data sets, each read into a `Dataset`."""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Mapping
from itertools import compress, islice
from typing import Any, NamedTuple

import numpy as np

from mfcore.data.archive import Archive
from mfcore.data.dataset import Dataset
from mfcore.data.dialect import Dialect, records
from mfcore.data.features import concatenate, multi_hot, one_hot
from mfcore.data.ids import Coded, as_objects
from mfcore.data.layout import Reading
from mfcore.data.readers import dataset_of, read_columns
from mfcore.data.textfile import text_of

AGES = ("under 18", "18-24", "25-34", "35-44", "45-49", "50-55", "56+")
_AGE_STARTS = (18, 25, 35, 45, 50, 56)
GENRES_100K = ("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime",
               "Documentary", "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery",
               "Romance", "Sci-Fi", "Thriller", "War", "Western")
OCCUPATIONS_1M = (
    "other", "academic/educator", "artist", "clerical/admin", "college/grad student",
    "customer service", "doctor/health care", "executive/managerial", "farmer", "homemaker",
    "K-12 student", "lawyer", "programmer", "retired", "sales/marketing", "scientist",
    "self-employed", "technician/engineer", "tradesman/craftsman", "unemployed", "writer")
_NO_GENRE = ("unknown", "(no genres listed)")
_WHOLE = re.compile(r"[0-9]+(\.0)?", re.ASCII)      # 12346.0 is how pandas writes 12346


class Film(NamedTuple):
    """What a catalogue says about one film."""

    title: str = ""
    genres: tuple[str, ...] = ()


def movielens_100k(archive: Archive) -> Dataset:
    """Read ml-100k: `u.data`, `u.user`, `u.item` as GroupLens publishes them."""
    data = _ratings(archive, "u.data", "\t", header=False)
    users = _table(archive, "u.user", "|", 4, encoding="latin-1", whole=(0, 1))
    films = _table(archive, "u.item", "|", 24, encoding="latin-1")
    flags = {item: [flag.strip() == "1" for flag in row[5:24]] for item, row in films.items()}
    return _of_films(_of_people(data, users),
                     {item: Film(row[1], tuple(compress(GENRES_100K, flags[item])))
                      for item, row in films.items()})


def recbole_100k(archive: Archive) -> Dataset:
    """Read ml-100k as the `recbole` package ships it: the same ratings, in the same order."""
    data = _ratings(archive, "ml-100k.inter", "\t", header=True)
    users = _table(archive, "ml-100k.user", "\t", 4, header=True, whole=(0, 1))
    films = _table(archive, "ml-100k.item", "\t", 4, header=True)
    return _of_films(_of_people(data, users),
                     {item: Film(_dated(row[1], row[2]), tuple(row[3].split()))
                      for item, row in films.items()})


def movielens_1m(archive: Archive) -> Dataset:
    """Read ml-1m: `ratings.dat`, `users.dat`, `movies.dat`, in Latin-1."""
    users = _table(archive, "users.dat", "::", 4, whole=(0, 2))
    jobs = {str(code): name for code, name in enumerate(OCCUPATIONS_1M)}
    return _of_people(films_dat(archive, "latin-1"), {
        user: [row[0], row[2], row[1], jobs.get(row[3], row[3])] for user, row in users.items()})


def films_dat(archive: Archive, encoding: str = "utf-8") -> Dataset:
    """Read ml-10m and MovieTweetings: `ratings.dat` and `movies.dat`."""
    films = _table(archive, "movies.dat", "::", 3, encoding=encoding)
    return _of_films(_ratings(archive, "ratings.dat", "::", header=False), _catalogue(films))


def films_csv(archive: Archive) -> Dataset:
    """Read ml-20m, ml-25m and ml-latest-small: `ratings.csv` and `movies.csv`."""
    films = _table(archive, "movies.csv", ",", 3, header=True)
    return _of_films(_ratings(archive, "ratings.csv", ",", header=True), _catalogue(films))


def online_retail(archive: Archive) -> Dataset:
    """Read UCI Online Retail, aggregated to pairs: the rating is the number of invoices."""
    data = dataset_of(read_columns(
        text_of("online_retail_pairs.csv", archive.read("online_retail_pairs.csv")),
        Reading("CustomerID", "StockCode", "invoices", separator=",")))
    countries = _table(archive, "customer_country.csv", ",", 2, header=True)
    goods = _table(archive, "item_description.csv", ",", 2, header=True, whole=())
    country = [row[1] for row in _looked_up("customer_country.csv", data, countries)]
    titles = [goods.get(str(item), ["", ""])[1] for item in _ids(data.ratings.item_ids)]
    return dataclasses.replace(data, user_features=one_hot(country, "country"),
                               item_titles=as_objects(titles))


def _ratings(archive: Archive, name: str, separator: str, *, header: bool) -> Dataset:
    reading = Reading(0, 1, 2, timestamp=3, separator=separator, header=header)
    columns = read_columns(text_of(name, archive.read(name)), reading)
    return dataset_of(columns._replace(items=_numbers(columns.items)))


def _numbers(ids: np.ndarray | Coded) -> np.ndarray:
    """Return ids as integers; MovieTweetings writes 0068646 for 68646."""
    if isinstance(ids, Coded):
        return np.take(np.array([int(text) for text in ids.ids], np.int64), ids.codes)
    return ids


def _table(archive: Archive, name: str, separator: str, n_columns: int, *,
           encoding: str = "utf-8", header: bool = False,
           whole: tuple[int, ...] = (0,)) -> dict[Any, list[str]]:
    """Return the fields of each line by its first field; `whole` columns hold integers."""
    text = io.StringIO(archive.read(name).decode(encoding, "replace").removeprefix("\ufeff"),
                       newline="")
    rows: dict[Any, list[str]] = {}
    found = records(text, Dialect(separator, quoting=separator == ","))
    for number, fields in islice(found, int(header), None):
        if len(fields) < n_columns or not all(_WHOLE.fullmatch(fields[c]) for c in whole):
            raise ValueError(f"{archive.path.name}/{name}, line {number} is not as "
                             f"published: {separator.join(fields)[:60]!r}")
        rows[int(float(fields[0])) if whole else fields[0]] = fields
    return rows


def _catalogue(films: Mapping[Any, list[str]]) -> dict[int, Film]:
    return {item: Film(row[1], tuple(row[2].split("|"))) for item, row in films.items()}


def _of_people(data: Dataset, people: Mapping[int, list[str]]) -> Dataset:
    """Add features of each user, out of fields that begin with id, age, gender, occupation."""
    rows = _looked_up("the table of users", data, people)
    ages, genders, occupations = ([row[column] for row in rows] for column in (1, 2, 3))
    bands = [AGES[np.searchsorted(_AGE_STARTS, int(age), side="right")] for age in ages]
    features = concatenate(one_hot(bands, "age", categories=AGES), one_hot(genders, "gender"),
                           one_hot(occupations, "occupation"))
    return dataclasses.replace(data, user_features=features)


def _of_films(data: Dataset, films: Mapping[int, Film]) -> Dataset:
    """Add titles and genres; a film that the catalogue lacks has neither."""
    rated = [films.get(item, Film()) for item in _ids(data.ratings.item_ids)]
    genres = [[genre for genre in film.genres if genre and genre not in _NO_GENRE]
              for film in rated]
    return dataclasses.replace(data, item_titles=as_objects(film.title for film in rated),
                               item_features=multi_hot(genres, "genre"))


def _dated(title: str, year: str) -> str:
    """Write `Toy Story`, `1995` as GroupLens does."""
    if year.isdigit():
        return f"{title} ({year})"
    return "unknown" if title == "unkonwn" else title


def _looked_up(name: str, data: Dataset, table: Mapping[int, Any]) -> list[Any]:
    users = _ids(data.ratings.user_ids)
    missing = [user for user in users if user not in table]
    if missing:
        raise ValueError(f"{name} lacks {len(missing)} of the users who rate, such as "
                         f"{missing[0]}")
    return [table[user] for user in users]


def _ids(ids: np.ndarray | None) -> list[Any]:
    return [] if ids is None else ids.tolist()
