"""The commands of `mfcore`, without `demo` and `info`: each function returns an answer."""

from __future__ import annotations

import csv
import io
import os
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import numpy as np

import mfcore
from mfcore import validation
from mfcore.atomic import replaceable, replacing
from mfcore.cli import inputs
from mfcore.cli.lists import Kind, listing
from mfcore.cli.models import new_model, segment, set_running, space_of
from mfcore.cli.output import Answer, Listing, number, progress, shown, shows_progress, table

if TYPE_CHECKING:
    from mfcore.data.dataset import Dataset
    from mfcore.data.ratings import Ratings
    from mfcore.models.recommender import Recommender

LINES_AT_A_TIME = 100_000


# ---------------------------------------------------------------------------------- fetch


def fetch(arguments: Namespace) -> Answer:
    """Get a data set and describe it, or list the known ones."""
    from mfcore.data.datasets import NAMES

    if arguments.name is None:
        if arguments.csv is not None:
            raise ValueError("--csv needs the name of a data set")
        return _known()
    target = None if arguments.csv is None else replaceable(arguments.csv)
    if arguments.name not in NAMES:
        raise ValueError(f"there is no data set {arguments.name!r}; known are {', '.join(NAMES)}"
                         f"{validation.meant(arguments.name, NAMES)}")
    data = inputs.load_data(arguments.name, arguments)
    if target is not None:
        _write_csv(data, target, arguments.quiet)
    found = {"name": arguments.name, **_described(data), "csv": arguments.csv}
    lines = [f"{name:14s} {shown(_shown(value))}"
             for name, value in found.items() if value is not None]
    return Answer(found, "\n".join(lines))


def _known() -> Answer:
    from mfcore.data.datasets import NAMES, SOURCES

    rows = [{"name": name, "place": _place(name) if name in SOURCES else "generated",
             "licence": SOURCES[name].licence if name in SOURCES else "free for any use"}
            for name in NAMES]
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
    ratings, values = data.ratings, data.ratings.by_user.data
    features = {side: None if F is None else F.shape[1] for side, F in
                (("user_features", data.user_features), ("item_features", data.item_features))}
    return {"users": ratings.shape[0], "items": ratings.shape[1], "ratings": ratings.nnz,
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
    """Write a line of user, item, rating and timestamp per rating; the file is whole or absent."""
    ratings = data.ratings
    users, items = (inputs.ids_or_rows(ids, n_rows) for ids, n_rows in
                    zip((ratings.user_ids, ratings.item_ids), ratings.shape, strict=True))
    cells = ratings.by_user
    columns = {"user": lambda part: users[ratings.users_of_cells[part]],
               "item": lambda part: items[cells.indices[part]], "rating": cells.data.__getitem__}
    if data.timestamps is not None:
        columns["timestamp"] = data.timestamps.__getitem__
    with replacing(target) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        starts = range(0, ratings.nnz, LINES_AT_A_TIME)
        for start in progress(starts, quiet, desc=shown(target.name), unit="block"):
            part = slice(start, start + LINES_AT_A_TIME)
            block = [column(part).tolist() for column in columns.values()]
            writer.writerows(zip(*block, strict=True))
        text.detach()                          # (flushes, and leaves the file open)


# -------------------------------------------------------------------------------- convert


def convert(arguments: Namespace) -> Answer:
    """Sort ratings files, which may be larger than memory, into a folder."""
    from mfcore.data.chunks import byte_count
    from mfcore.data.convert import convert as sort
    from mfcore.data.layout import Reading

    reading = Reading(timestamp=inputs.column_of(arguments.time_column),
                      **inputs.columns_of(arguments))
    ratings = sort(arguments.files, arguments.out, memory=byte_count("memory", arguments.memory),
                   duplicates=arguments.duplicates, reading=reading,
                   verbose=int(shows_progress(arguments.quiet)))
    return Answer({"out": arguments.out, "users": ratings.shape[0], "items": ratings.shape[1],
                   "ratings": ratings.nnz}, f"{shown(arguments.out)}: {ratings}")


# ------------------------------------------------------------------------------------ fit


def fit(arguments: Namespace) -> Answer:
    """Learn a model and save it."""
    target, model = replaceable(arguments.out), new_model(arguments)
    data = inputs.load_data(arguments.data, arguments)
    ratings, known = data.ratings, segment(model, data, arguments.encoding)
    start = time.perf_counter()
    model.fit(ratings, **known)
    seconds = time.perf_counter() - start
    set_running(model, verbose=0)
    model.save(target)
    size, last = target.stat().st_size, model.history_[-1] if model.history_ else {}
    loss = None if "segment" in last else last.get("loss")      # (of one model, not of several)
    found = {"model": type(model).__name__, "parameters": model.get_params(),
             "users": ratings.shape[0], "items": ratings.shape[1], "ratings": ratings.nnz,
             "epochs": model.n_epochs_, "loss": loss, "seconds": seconds,
             "file": str(target), "bytes": size}
    ended = "" if loss is None else f", loss {loss:.6g}"
    return Answer(found, f"{_named(model)}\n{_counted(ratings)}\n"
                         f"{model.n_epochs_} epochs in {seconds:.1f} s{ended}\n"
                         f"saved to {shown(target)} ({size / 1e6:.1f} MB)")


def _counted(ratings: Ratings) -> str:
    n_users, n_items = ratings.shape
    return f"{n_users:,} users × {n_items:,} items, {ratings.nnz:,} ratings"


def _named(model: Recommender) -> str:
    """Return the class and the parameters; labels of users are only counted."""
    if isinstance(model, mfcore.Segmented) and not isinstance(model.by, str):
        params = {**model.get_params(deep=False), "by": f"{len(model.by)} labels"}
        return repr(mfcore.Segmented(**params))
    return repr(model)


# ----------------------------------------------------------------------------------- tune


def tune(arguments: Namespace) -> Answer:
    """Choose the parameters of a model on held-out ratings, and save it fitted with them."""
    target = None if arguments.out is None else replaceable(arguments.out)
    model = new_model(arguments)
    set_running(model, verbose=0)
    data = inputs.load_data(arguments.data, arguments)
    found = mfcore.tune(model, data.ratings, space_of(model, arguments.space),
                        metric=arguments.metric, budget=arguments.budget,
                        validation=arguments.validation, random_state=arguments.seed,
                        verbose=int(shows_progress(arguments.quiet)))
    lines = found.table if isinstance(found.table, list) else found.table.to_dict("records")
    if target is not None:
        found.model.save(target)
    metric = list(lines[-1])[-1]
    answer = {"model": type(model).__name__, "parameters": found.model.get_params(),
              "fits": len(lines), "cost": sum(line["cost"] for line in lines),
              "metric": metric, "search": lines, "file": arguments.out}
    best = [[number(line[name]) if isinstance(line[name], float) else str(line[name])
             for name in line] for line in lines[-8:]]
    return Answer(answer, f"{table(list(lines[-1]), best)}\n\n{_named(found.model)}\n"
                          f"{_counted(data.ratings)}"
                          + (f"\nsaved to {shown(target)}" if target else ""))


# ------------------------------------------------------------------ recommend and similar


def recommend(arguments: Namespace) -> Answer | Listing:
    """List the best items of each user, or write them to a file."""
    model = _loaded(arguments)
    kind = Kind("recommendations", "user", "item", _titles(model, arguments))
    users, asked = _asked(model, arguments)
    options: dict[str, Any] = {
        "similarity": "cosine" if arguments.cosine else "dot",
        "exclude_seen": not arguments.include_seen,
        "items": inputs.given_ids("items", arguments.items, arguments.items_file, model.item_ids_,
                                  arguments.encoding),
        "exclude_items": inputs.given_ids("items", arguments.exclude, arguments.exclude_file,
                                          model.item_ids_, arguments.encoding),
        "unknown": arguments.unknown}
    if arguments.out is not None:
        rows = model.recommend_to(
            arguments.out, arguments.k, **asked(0, len(users)), titles=kind.titles or None,
            memory=arguments.memory, verbose=shows_progress(arguments.quiet), **options)
        return Answer({"file": arguments.out, "users": len(users), "rows": rows},
                      f"{shown(arguments.out)}: {rows:,} rows of {len(users):,} users")
    return listing(kind, users, arguments.k, model.n_items_, lambda start, stop, k:
                   model.recommend(k=k, **asked(start, stop), **options))


def _asked(model: Recommender, arguments: Namespace
           ) -> tuple[np.ndarray, Callable[[int, int], dict[str, Any]]]:
    """Return the ids of the users, and what to call `recommend` with for some of them.

    Raises KeyError or IndexError for users, and items of new users, that the model does not know,
    unless they are to be ignored.
    """
    from mfcore.models.inputs import asked_users

    if arguments.ratings is not None:
        ratings = inputs.read_file(arguments.ratings, arguments)
        known: Any = model.new_rows(ratings, None, unknown=arguments.unknown)
        return inputs.ids_or_rows(ratings.user_ids, ratings.shape[0]), \
            lambda start, stop: {"ratings": known.ratings.select_users(range(start, stop))}
    if arguments.all:
        users = inputs.ids_or_rows(model.user_ids_, model.n_users_)
    else:
        users = np.asarray(inputs.given_ids("users", arguments.user, arguments.users_file,
                                            model.user_ids_, arguments.encoding))
        rows = asked_users(users, model, arguments.unknown)
        if model.user_ids_ is not None:         # as the model has them: 7, and not the word
            users[rows >= 0] = model.user_ids_[rows[rows >= 0]]
    return users, lambda start, stop: {"users": users[start:stop]}


def similar(arguments: Namespace) -> Listing:
    """List the nearest neighbours of items or users."""
    model = _loaded(arguments)
    titles = _titles(model, arguments)
    similarity = "dot" if arguments.dot else "cosine"
    if arguments.item is not None:
        ids = inputs.ids_of("items", arguments.item, model.item_ids_)
        return listing(Kind("similar", "item", "item", titles), ids, arguments.k, model.n_items_,
                       lambda start, stop, k: model.similar_items(ids[start:stop], k,
                                                                  similarity=similarity))
    ids = inputs.ids_of("users", arguments.user, model.user_ids_)
    return listing(Kind("similar", "user", "user", {}), ids, arguments.k, model.n_users_,
                   lambda start, stop, k: model.similar_users(ids[start:stop], k,
                                                              similarity=similarity))


def _titles(model: Recommender, arguments: Namespace) -> inputs.Titles:
    """Return titles by the ids of a model; raise ValueError where none of its items has one."""
    from mfcore.data.titles import titles_of

    return {**(titles_of(inputs.load_titles(arguments.titles, arguments), model.ratings_) or {})}


def _loaded(arguments: Namespace) -> Recommender:
    model: Recommender = mfcore.load(arguments.model)
    set_running(model, n_threads=arguments.threads)
    return model


# ------------------------------------------------------------------------------- evaluate


def evaluate(arguments: Namespace) -> Answer:
    """Measure a model file on a test set, or a model on the folds of a data set."""
    if (arguments.model is None) == (arguments.test is None):
        arguments.usage_error("give a model file and test ratings, or data and --model")
    options = {"metrics": arguments.metrics, "k": arguments.k, "threshold": arguments.threshold,
               "exclude_seen": not arguments.include_seen}
    if arguments.model is not None:
        return _cross_validated(arguments, options)
    model = mfcore.load(arguments.subject)
    test = inputs.load_data(arguments.test, arguments).ratings
    fold_in = None
    if arguments.fold_in is not None:
        fold_in = _rows_of(inputs.read_file(arguments.fold_in, arguments), test)
    values = mfcore.evaluate(model, test, fold_in=fold_in, n_threads=arguments.threads, **options)
    rows = [[name, number(value)] for name, value in values.items()]
    return Answer({"model": _named(model), "test_ratings": test.nnz, "metrics": values},
                  f"{_named(model)} on {_counted(test)}\n\n{table(['metric', 'value'], rows)}")


def _rows_of(ratings: Ratings, test: Ratings) -> Ratings:
    """Return the rows of the users of `test`, in their order; KeyError if one is missing."""
    users = inputs.ids_or_rows(test.user_ids, test.shape[0])
    rows = ratings.user_positions(users)
    validation.known_ids("users of the fold-in file", users, rows)
    return ratings.select_users(rows)


def cut_folds(arguments: Namespace, data: Dataset) -> Iterator[tuple[Ratings, Ratings]]:
    """Return the folds that --folds, --file-folds and --seed ask for.

    Raises ValueError for --file-folds of a file.
    """
    from mfcore.data import split

    if not arguments.file_folds:
        return split.k_fold(data.ratings, arguments.folds, random_state=arguments.seed)
    if data.file_order is None:
        raise ValueError("--file-folds needs a data set by name: of this file the order of "
                         "the lines is not kept")
    return split.file_folds(data.ratings, data.file_order, arguments.folds)


def _cross_validated(arguments: Namespace, options: dict[str, Any]) -> Answer:
    model = new_model(arguments)
    set_running(model, verbose=0)   # the bar counts folds
    data = inputs.load_data(arguments.subject, arguments)
    segment(model, data, arguments.encoding, by_user=True)
    shown = progress(cut_folds(arguments, data), arguments.quiet, total=arguments.folds,
                     desc="folds", unit="fold")
    values = mfcore.cross_validate(model, data.ratings, folds=shown, **options)
    summary = {name: {"mean": each.mean(), "sd": each.std(ddof=1), "folds": each.tolist()}
               for name, each in values.items()}
    rows = [[name, number(part["mean"]), number(part["sd"])] for name, part in summary.items()]
    return Answer(
        {"model": _named(model), "ratings": data.ratings.nnz, "metrics": summary},
        f"{_named(model)} on {_counted(data.ratings)}\n{arguments.folds} folds\n\n"
        f"{table(['metric', 'mean', 'sd'], rows)}")
