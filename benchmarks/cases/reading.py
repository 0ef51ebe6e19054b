"""Reading a file of ratings: from text to a sparse matrix and the ids of its rows and columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.case import Case, Contestant, Data, Task, as_said
from benchmarks.data import kept, stored
from benchmarks.generated import generated
from mfcore import Ratings, read_ratings

SIZES = {"small": (7_000, 1_400, 500_000), "medium": (40_000, 8_000, 2_000_000),
         "large": (100_000, 20_000, 5_000_000)}            # users, items, lines
KINDS = {"integer": ("{}", "{}"), "text": ("user-{:07d}", "sku-{:07d}")}
SOME = 2000
NAMES = ["user", "item", "rating"]


def data(kind: str, size: str) -> Data:
    """Return the path of a file, and of its first lines, written at the first call."""
    path = kept(f"reading-{kind}-{size}.csv")
    if not path.exists():
        made = stored(f"reading-{size}", lambda: {"R": generated(*SIZES[size])})["R"].tocoo()
        order = np.random.default_rng(0).permutation(made.nnz)          # (as they come in time)
        users, items = (np.array([form.format(n) for n in range(count)], object)[numbers[order]]
                        for form, count, numbers in zip(KINDS[kind], made.shape,
                                                        (made.row, made.col), strict=True))
        lines = [f"{user},{item},{rating:g}\n" for user, item, rating in
                 zip(users.tolist(), items.tolist(), made.data[order].tolist(), strict=True)]
        for name, some in ((path.with_suffix(".few"), lines[:SOME]), (path, lines)):
            partial = name.with_suffix(".part")
            partial.write_text("user,item,rating\n" + "".join(some))
            partial.replace(name)
    return {"path": path, "few": path.with_suffix(".few")}


def few(data: Data) -> Data:
    """Return the same of the first lines."""
    return data | {"path": data["few"]}


# -------------------------------------------------------------------------- contestants

def ours(task: Task) -> None:
    """Read with this library alone."""
    _read(task, lambda path: read_ratings(path, n_threads=task.n_threads))


def by_pandas(task: Task) -> None:
    """Read with pandas."""
    import pandas

    _read(task, lambda path: Ratings.from_frame(pandas.read_csv(path)))


def by_polars(task: Task) -> None:
    """Read with polars."""
    import polars

    _read(task, lambda path: Ratings.from_frame(polars.read_csv(path)))


def by_pyarrow(task: Task) -> None:
    """Read with pyarrow."""
    import pyarrow
    from pyarrow import csv

    pyarrow.set_cpu_count(task.n_threads)
    _read(task, lambda path: Ratings.from_frame(csv.read_csv(path)))


def by_loadtxt(task: Task) -> None:
    """Read with NumPy."""
    with Path(task.data["path"]).open() as stream:
        first = stream.readlines(100)[1].split(",")
    kind = np.int64 if first[0].isdecimal() else "U12"

    def read(path: Path) -> Ratings:
        rows = np.loadtxt(path, [("user", kind), ("item", kind), ("rating", float)],
                          delimiter=",", skiprows=1)
        return Ratings.from_arrays(*(rows[name] for name in NAMES))

    _read(task, read)


def _read(task: Task, read: Callable[[Path], Ratings]) -> None:
    """Read, and keep a sum over all ratings that the order of ids does not change."""
    task.restart()
    found = read(task.data["path"])
    task.keep(found.nnz, *found.shape, float(found.by_user.data.sum(dtype=np.float64)))


def judged(data: Data) -> Callable[..., float]:
    """Return the sum of all ratings, checked to be of as many cells and rows as there are."""
    def sum_of(nnz: int, n_users: int, n_items: int, total: float) -> float:
        return as_said(data)(total) if min(nnz, n_users, n_items) > 0 else float("nan")

    return sum_of


def cases(widths: Sequence[int], widest: int) -> list[Case]:
    """Return the cases of this file."""
    readers: dict[str, Any] = {
        "mfcore": Contestant(ours, "mfcore", "read_ratings"),
        "pandas": Contestant(by_pandas, "pandas", "read_csv, then Ratings.from_frame"),
        "polars": Contestant(by_polars, "polars", "read_csv, then Ratings.from_frame",
                             {"POLARS_MAX_THREADS": "2"}),
        "pyarrow": Contestant(by_pyarrow, "pyarrow", "csv.read_csv, then Ratings.from_frame"),
        "np.loadtxt": Contestant(by_loadtxt, "numpy", "loadtxt, then Ratings.from_arrays")}
    return [Case(f"reading_{kind}", f"reading a file with {kind} ids",
                 "a file of users, items and ratings as a sparse matrix, with the ids",
                 lambda size, kind=kind: data(kind, size), few, readers, judged,
                 "sum of all ratings", goal=1) for kind in KINDS]
