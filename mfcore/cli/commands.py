"""`mfcore fetch`, `fit` and `evaluate`."""

from __future__ import annotations

import csv
import io
import os
import time
from argparse import Namespace
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import numpy as np

import mfcore
from mfcore import validation
from mfcore.atomic import replacing
from mfcore.cli.inputs import load_data, read_file, writable
from mfcore.cli.models import new_model, segment, set_running
from mfcore.cli.output import Answer, number, progress, table

if TYPE_CHECKING:
    from mfcore.data.dataset import Dataset
    from mfcore.data.ratings import Ratings
    from mfcore.models.recommender import Recommender

LINES_AT_A_TIME = 100_000


# ---------------------------------------------------------------------------------- fetch


def fetch(arguments: Namespace) -> Answer:
    """Get a data set and describe it, or list those known by name."""
    if arguments.name is None:
        if arguments.csv:
            raise ValueError("--csv needs the name of a data set")
        return _known()
    target = writable(arguments.csv) if arguments.csv else None
    if arguments.name not in _names():
        raise ValueError(f"there is no data set {arguments.name!r}; known are "
                         f"{', '.join(_names())}")
    data = load_data(arguments.name, arguments)
    if target is not None:
        _write_csv(data, target, arguments.quiet)
    found = {"name": arguments.name, **_described(data), "csv": arguments.csv}
    lines = [f"{name:14s} {_shown(value)}" for name, value in found.items() if value is not None]
    return Answer(found, "\n".join(lines))


def _names() -> tuple[str, ...]:
    from mfcore.data.datasets import NAMES

    return NAMES


def _known() -> Answer:
    from mfcore.data.datasets import SOURCES

    rows = [{"name": name, "place": _place(name) if name in SOURCES else "generated",
             "licence": SOURCES[name].licence if name in SOURCES else "free for any use"}
            for name in _names()]
    return Answer({"datasets": rows}, table(
        ["name", "where it is", "licence"],
        [[row["name"], row["place"], shorten(row["licence"], 60, placeholder=" ...")]
         for row in rows], left=(0, 1, 2)))


def _place(name: str) -> str:
    from mfcore.data.datasets import SOURCES, cache_dir

    source = SOURCES[name]
    forms = [form for each in (name, *source.folders) for form in (each, f"{each}.zip")]
    folders = [Path(folder) for folder in (os.environ.get("MFCORE_DATA"), cache_dir()) if folder]
    for path in (folder / form for folder in folders for form in forms):
        if path.exists():
            return str(path)
    return "to be downloaded" if source.digest else "not here, and not for download"


def _described(data: Dataset) -> dict[str, Any]:
    ratings = data.ratings
    n_users, n_items = ratings.shape
    values = ratings.by_user.data
    features = {side: None if table is None else table.shape[1] for side, table in
                (("user_features", data.user_features), ("item_features", data.item_features))}
    return {"users": n_users, "items": n_items, "ratings": ratings.nnz,
            "density": ratings.density, "lowest": float(values.min()),
            "highest": float(values.max()), "mean": float(values.mean(dtype=np.float64)),
            "timestamps": data.timestamps is not None, "titles": data.item_titles is not None,
            **features, "licence": data.licence}


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else \
        f"{value:.4g}" if isinstance(value, float) else str(value)


def _write_csv(data: Dataset, target: Path, quiet: bool) -> None:
    """Write user, item, rating and timestamp, one rating a line; the file is whole or absent."""
    ratings = data.ratings
    ids = [np.arange(size) if names is None else names for names, size in
           zip((ratings.user_ids, ratings.item_ids), ratings.shape, strict=True)]
    columns = [ids[0][ratings.users_of_cells], ids[1][ratings.by_user.indices],
               ratings.by_user.data]
    head = ["user", "item", "rating"]
    if data.timestamps is not None:
        columns.append(data.timestamps)
        head.append("timestamp")
    with replacing(target) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(head)
        starts = range(0, ratings.nnz, LINES_AT_A_TIME)
        for start in progress(starts, quiet, desc=target.name, unit="block"):
            block = [column[start:start + LINES_AT_A_TIME].tolist() for column in columns]
            writer.writerows(zip(*block, strict=True))
        text.detach()                          # (flushes, and leaves the file open)


# ------------------------------------------------------------------------------------ fit


def fit(arguments: Namespace) -> Answer:
    """Learn a model and save it."""
    target, model = writable(arguments.out), new_model(arguments)
    data = load_data(arguments.data, arguments)
    ratings, known = data.ratings, segment(model, data)
    start = time.perf_counter()
    model.fit(ratings, **known)
    seconds = time.perf_counter() - start
    set_running(model, verbose=0)
    model.save(target)
    size = target.stat().st_size
    loss = _last_loss(model)
    found = {"model": type(model).__name__, "parameters": model.get_params(),
             "users": ratings.shape[0], "items": ratings.shape[1], "ratings": ratings.nnz,
             "epochs": model.n_epochs_, "loss": loss, "seconds": seconds,
             "file": str(target), "bytes": size}
    return Answer(found, f"{_named(model)}\n{_counted(ratings)}\n{_course(model, seconds, loss)}\n"
                        f"saved to {target} ({size / 1e6:.1f} MB)")


def _counted(ratings: Ratings) -> str:
    n_users, n_items = ratings.shape
    return f"{n_users:,} users × {n_items:,} items, {ratings.nnz:,} ratings"


def _named(model: Recommender) -> str:
    """Return the class and the parameters; of labels only how many there are."""
    if isinstance(model, mfcore.Segmented) and not isinstance(model.by, str):
        params = {**model.get_params(deep=False), "by": f"{len(model.by)} labels"}
        return repr(mfcore.Segmented(**params))
    return repr(model)


def _last_loss(model: Recommender) -> float | None:
    """Return the loss of the last epoch; of several models there is none."""
    last = model.history_[-1] if model.history_ else {}
    return None if "segment" in last else last.get("loss")


def _course(model: Recommender, seconds: float, loss: float | None) -> str:
    ended = "" if loss is None else f", loss {loss:.6g}"
    return f"{model.n_epochs_} epochs in {seconds:.1f} s{ended}"


# ------------------------------------------------------------------------------- evaluate


def evaluate(arguments: Namespace) -> Answer:
    """Measure a model file on a test set, or a model on the folds of a data set."""
    if (arguments.model is None) == (arguments.test is None):
        arguments.usage_error("give a model file and test ratings, or data and --model")
    if arguments.model is not None:
        return _cross_validated(arguments)
    model = mfcore.load(arguments.subject)
    test = load_data(arguments.test, arguments).ratings
    fold_in = None
    if arguments.fold_in is not None:
        fold_in = rows_of(read_file(arguments.fold_in, arguments), test)
    values = mfcore.evaluate(model, test, fold_in=fold_in, n_threads=arguments.threads,
                             **_options(arguments))
    rows = [[name, number(value)] for name, value in values.items()]
    return Answer({"model": _named(model), "test_ratings": test.nnz, "metrics": values},
                  f"{_named(model)} on {_counted(test)}\n\n{table(['metric', 'value'], rows)}")


def rows_of(ratings: Ratings, test: Ratings) -> Ratings:
    """Return the rows of `ratings` for the users of `test`, in their order.

    Raises KeyError for a test user without a row.
    """
    users = np.arange(test.shape[0]) if test.user_ids is None else test.user_ids
    rows = ratings.user_positions(users)
    validation.known_ids("users of the fold-in file", users, rows)
    return ratings.select_users(rows)


def _options(arguments: Namespace) -> dict[str, Any]:
    return {"metrics": arguments.metrics, "k": arguments.k, "threshold": arguments.threshold,
            "exclude_seen": not arguments.include_seen}


def _cross_validated(arguments: Namespace) -> Answer:
    from mfcore.data import split

    model = new_model(arguments)
    set_running(model, verbose=0)   # the bar counts folds
    data = load_data(arguments.subject, arguments)
    segment(model, data, by_user=True)
    if arguments.file_folds:
        if data.file_order is None:
            raise ValueError("--file-folds needs a data set by name: of this file the order of "
                             "the lines is not kept")
        folds = split.file_folds(data.ratings, data.file_order, arguments.folds)
    else:
        folds = split.k_fold(data.ratings, arguments.folds, random_state=arguments.seed)
    shown = progress(folds, arguments.quiet, total=arguments.folds, desc="folds", unit="fold")
    values = mfcore.cross_validate(model, data.ratings, folds=shown, **_options(arguments))
    summary = {name: {"mean": each.mean(), "sd": each.std(ddof=1), "folds": each.tolist()}
               for name, each in values.items()}
    rows = [[name, number(part["mean"]), number(part["sd"])] for name, part in summary.items()]
    return Answer(
        {"model": _named(model), "ratings": data.ratings.nnz, "metrics": summary},
        f"{_named(model)} on {_counted(data.ratings)}\n{arguments.folds} folds\n\n"
        f"{table(['metric', 'mean', 'sd'], rows)}")
