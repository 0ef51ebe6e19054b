"""Lists of many users written to a file, a chunk of users at a time, resumable.

    ask for some users → append their rows to the folder of the work → note it in the journal
    ... → copy the rows into the file, which takes its name at the end

What is in memory at a time: the scores of a block of users on each thread, and the lists of a
chunk, as ids and as text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.atomic import owned, replaceable, replacing
from mfcore.data.chunks import byte_count
from mfcore.data.journal import Journal, discard
from mfcore.data.rows_out import Format, format_of
from mfcore.data.titles import titles_of
from mfcore.metrics.fitted import NewRows
from mfcore.metrics.topk import rows_within
from mfcore.models.answering.table import columns_of, names_of_users
from mfcore.models.inputs import asked_rows
from mfcore.models.storage import digest_of
from mfcore.parallel import thread_count
from mfcore.progress import progress_bar

VERSION, DOING = 1, "writes lists to it"
MOST_ROWS = 1 << 16         # users in a chunk
ENTRY = 400                 # bytes of an entry of a list besides its row; measured: 70 to 250


def write_lists(model: Any, path: Any, k: int, given: tuple[Any, Any, Any], titles: Any,
                memory: int | str, verbose: Any, options: dict[str, Any]) -> int:
    """Write lists to a file and return the number of its rows: see `Recommender.recommend_to`.

    given : (users, ratings, user_features)
    """
    model.check_fitted()
    if "as_frame" in options:
        raise TypeError("recommend_to takes no as_frame")
    if isinstance(options.get("sample"), np.random.Generator):
        raise TypeError("sample must be an integer or None in recommend_to, which may have to go "
                        "on in another process, got a Generator")
    target = replaceable(path)
    form, k = format_of(target), min(validation.count("k", k), model.n_items_)
    known = titles_of(titles, model.ratings_)
    asked: Any = asked_rows(model, *given, options.get("unknown", "raise"))
    names = names_of_users(asked, model.ratings_, given[0])
    bytes_held = byte_count("memory", memory)

    def is_by_user(name: str, value: Any) -> bool:
        return sp.issparse(value) or (name == "times" and np.ndim(value) == 1)

    def ask(start: int, stop: int, k: int) -> tuple[np.ndarray, np.ndarray]:
        some = {name: value[start:stop] if is_by_user(name, value) else value
                for name, value in options.items()}
        who = {"users": names[start:stop]} if isinstance(asked, np.ndarray) else \
            _new_users(asked.select(np.arange(start, stop)))
        found: tuple[np.ndarray, np.ndarray] = model.recommend(k=k, **who, **some)
        return found

    for name, value in options.items():
        if is_by_user(name, value) and np.shape(value)[0] != len(names):
            raise ValueError(f"{name} must have a row per user, {len(names)}, got "
                             f"{np.shape(value)[0]}")
    scores = ask(0, 0, 1)[1]                    # (what cannot be asked is refused before any work)
    kinds = _kinds(form, model, names, known, scores.dtype)
    step = _chunk(model, k, sum(kind.itemsize for kind in kinds.values()), bytes_held)
    identity = {"version": VERSION, "model": digest_of(model), "k": k, "name": target.name,
                "asked": _digest([names, *sorted(options.items()), known, asked])}
    with owned(target, DOING):
        work = target.with_name(f".{target.name}.lists")
        journal = Journal(work, identity)
        with progress_bar(verbose, total=len(names), initial=journal.done("users"),
                          desc="recommend", unit="user") as bar:
            _append_all(form, journal, kinds, names, known, k, step, ask, bar)
        with replacing(target) as stream:
            form.finish(work, stream, kinds)
        discard(work)
    return journal.done("rows")


def _new_users(asked: NewRows) -> dict[str, Any]:
    """Return some new users as `recommend` takes them."""
    return {name: part for name, part in
            (("ratings", asked.ratings), ("user_features", asked.features)) if part is not None}


def _append_all(form: Format, journal: Journal, kinds: Mapping[str, np.dtype], names: np.ndarray,
                titles: Any, k: int, step: int,
                ask: Callable[[int, int, int], tuple[np.ndarray, np.ndarray]], bar: Any) -> None:
    """Append the rows of all users from where the journal has them."""
    start = journal.done("users")
    while start < len(names) or not journal.done("begun"):      # (of no users, a head at least)
        stop = min(start + step, len(names))
        columns = columns_of(("user", "item"), names[start:stop], *ask(start, stop, k), titles)
        form.append(journal.folder, start, columns, kinds)
        journal.note(begun=1, users=stop, rows=journal.done("rows") + len(columns["rank"]))
        bar.update(stop - start)
        start = stop


def _chunk(model: Any, k: int, row: int, memory: int) -> int:
    """Return how many users fit into memory at a time; raise where none does."""
    per_user, n_items = k * (ENTRY + row), model.n_items_
    rows = rows_within(memory, n_items, per_user, thread_count(model.n_threads))
    if rows < 1:
        raise ValueError(f"memory must be at least {(8 * n_items + per_user) / 1e6:.2g}MB for "
                         f"lists of {k} of {n_items:,} items, got {memory / 1e6:.2g}MB")
    return min(MOST_ROWS, rows)


def _kinds(form: Format, model: Any, users: np.ndarray, titles: Any, score: np.dtype
           ) -> dict[str, np.dtype]:
    """Return the types of the columns: text of the greatest length that there is.

    Raises TypeError for ids that are neither integers nor text where a column has one type,
    ValueError for text that the file would not give back.
    """
    items = np.arange(1) if model.item_ids_ is None else model.item_ids_
    kinds = {"user": _kind("users", users, form), "item": _kind("items", items, form),
             "score": score, "rank": np.dtype(np.int32)}
    if titles is not None:
        kinds["title"] = _text("titles", [each for each in titles.values()
                                          if not validation.is_missing(each)], form)
    return kinds


def _kind(name: str, ids: np.ndarray, form: Format) -> np.dtype:
    if ids.dtype != object:
        return np.dtype(np.int64)
    plain = ids.tolist()
    if form.typed and not all(isinstance(each, str) for each in plain):
        raise TypeError(f"ids of {name} must be all integers or all text in a file of this kind; "
                        f"csv holds any")
    return _text(f"ids of {name}", plain, form)


def _text(name: str, values: list[Any], form: Format) -> np.dtype:
    """Return the type of a column of text; raise for what the file would not give back."""
    texts = [str(each) for each in values]
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} must be text that UTF-8 can hold, got "
                         f"{error.object[error.start]!r} in it") from None
    if not form.keeps_zeros and (lost := [text for text in texts if text.endswith("\0")]):
        raise ValueError(f"{name} must not end in a zero character, which a file of this kind "
                         f"drops, got {lost[0]!r}")
    return np.dtype(f"U{max(map(len, texts), default=1) or 1}")


def _digest(parts: Any) -> str:
    """Return a checksum of what lists depend on: ids, options, titles, new rows."""
    total = hashlib.sha256()

    def add(part: Any) -> None:
        if sp.issparse(part):
            part = sp.csr_array(part)
            add([part.shape, part.indptr, part.indices, part.data])
        elif isinstance(part, np.ndarray) and part.dtype != object:
            total.update(f"{part.dtype.str}{part.shape}".encode())
            total.update(part.tobytes())
        elif isinstance(part, Mapping):
            add(list(part.items()))
        elif hasattr(part, "by_user"):
            add([part.by_user, part.weights, part.times])
        elif isinstance(part, (list, tuple, np.ndarray)):
            total.update(f"{len(part)} parts".encode())     # (so that no two groupings are one)
            for each in part:
                add(each)
        elif np.ndim(part):                     # (a Series, whose text leaves out its middle)
            add(np.asarray(part))
        else:
            total.update(json.dumps([type(part).__name__, str(part)]).encode())

    add(parts)
    return total.hexdigest()

