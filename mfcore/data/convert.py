"""Ratings files larger than memory, sorted on disk into a folder that `Ratings.open` maps.

A distribution sort in four stages.  N cells, memory for M of them at a time:

    read      parse the parts; append (user id, item id, value, ...) to one file; collect the ids
    spread    number users and items by sorted id; append each cell to the file of its range
              of users, ranges of at most M cells
    by user   read a range, sort it, settle repeated pairs, append it to the arrays by user;
              append its cells, in this order, to the files of ranges of items
    by item   read a range, sort it by item (stable: users stay in order), append it

so that every cell is written four times and read four times, whatever N / M.  Memory holds
one range, and the ids.  After each part and each range a journal records the length of every
file: what came later is undone when a killed run is called again.  Last, the arrays get their
heads in a folder of their own, which takes the final name when all of it was checked.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mfcore import validation
from mfcore.atomic import absent, named, owned, place_folder, place_of
from mfcore.data.canonical import Duplicates, index_type, merge, sorted_order
from mfcore.data.chunks import CELLS
from mfcore.data.folder import seal
from mfcore.data.identity import identities, of_file
from mfcore.data.ids_in_pieces import CollectedIds
from mfcore.data.journal import Journal, append, discard, is_over
from mfcore.data.layout import Reading
from mfcore.data.ratings import Ratings
from mfcore.data.readers import Part, check_parts, parts_of, pieces
from mfcore.data.times import Times
from mfcore.npy import save
from mfcore.parallel import row_chunks
from mfcore.progress import progress_bar

# Bytes in memory per cell of a range while it is sorted, and the least memory.  Measured, as
# anonymous memory by user, the most expensive stage: 158 for 20M cells within 1 GB, 165 for 5M
# within 256 MB.  The rest is for what the allocator keeps of other stages, 20 MB at least memory.
CELL_BYTES, LEAST = 240, 1 << 26
TIME_BYTES = 60             # more where there are times, by their share of a record
RAW = np.dtype([("user", "<i8"), ("item", "<i8"), ("value", "<f8"), ("weight", "<f8")])
TIMED = np.dtype([*RAW.descr, ("times", "<i8")])
VERSION = 3             # of the work folder: another mfcore starts again
WHOLE, DOING = "whole", "converts to it"
SIDES = ("user", "item")
STAGES = ("read", "spread", "by user", "by item")


def convert(sources: Any, out: str | os.PathLike[str], *, memory: int = 2 << 30,
            duplicates: Duplicates = "error", reading: Reading | None = None,
            verbose: int | None = None) -> Ratings:
    """Sort ratings into a new folder, within a stated memory, and open it.

    Parameters
    ----------
    sources : path, folder of parts, or sequence of paths and functions
        A function returns one part: a dict of columns.
    out : path
        The folder to make.  The folder `.NAME.converting` next to it holds the work until it is
        done; an interrupted run, even a killed one, goes on from there when it is called with
        the same arguments, and starts again with others.  Files are the same if path, size and
        times are; functions, if their code and the values that they use are, or their attribute
        `identity`, a string.
    memory : int, bytes, >= 64 MB
        For arrays, not counting the ids of users and items, what the reading library
        takes for itself, and what a function returns.  A single user or item with more than
        memory / 240 ratings is sorted at once, and takes more.
    duplicates : {"error", "last", "mean", "sum"}
        What to do with a repeated (user, item) pair; the time of the last stays with "last",
        else the latest.
    reading : Reading or None
        Columns and format of the files; with a `timestamp`, the folder has times.
    verbose : int or None
        1 shows a progress bar, 0 none; None: at a terminal and in a notebook, after half a second.

    Raises
    ------
    FileExistsError, FileNotFoundError
        Before any work, for `out` and for the sources.
    BlockingIOError
        Another process or thread converts to this folder.
    ValueError
        A part whose columns are not those of the first, that is a pipe, or a function that
        cannot be known again; no ratings at all; and what `read_ratings` refuses.
    """
    validation.choice("duplicates", duplicates, ("error", "last", "mean", "sum"))
    validation.integer("memory", memory, low=LEAST)
    place = place_of(validation.path("out", out))
    work = place.with_name(f".{place.name}.converting")
    _tidy_up(place, work)
    target, reading = absent(out), reading or Reading()
    cells = int(memory) // (CELL_BYTES + (TIME_BYTES if reading.timestamp is not None else 0))
    parts = parts_of(sources)
    check_parts(parts, reading)
    known = identities(parts)
    identity = {"version": VERSION, "parts": known, "reading": reading._asdict(), "cells": cells,
                "duplicates": duplicates}
    with owned(target, DOING):
        absent(out)                     # (whoever had the lock before may have made it)
        sort = _Sort(work, parts, reading, cells, duplicates, Journal(work, identity))
        with progress_bar(verbose, total=len(STAGES) * 100, unit="%", desc="convert") as bar:
            for number, stage in enumerate((sort.read, sort.spread, sort.by_user, sort.by_item)):
                bar.set_postfix_str(STAGES[number])
                for share in stage():
                    bar.update(number * 100 + round(100 * share) - bar.n)
        whole = sort.finish()
        Ratings.open(whole)             # which checks all of it
        place_folder(whole, target)
        discard(work)
    return Ratings.open(target, verify=False)


def _tidy_up(target: Path, work: Path) -> None:
    """Remove what a conversion has left that was killed after its folder had taken its name."""
    if target.exists() and work.exists():
        with suppress(BlockingIOError), owned(target, DOING):
            if is_over(work, WHOLE):
                discard(work)


@dataclass
class _Sort:
    work: Path
    parts: Sequence[Part]
    reading: Reading
    cells: int                      # M
    duplicates: Duplicates
    journal: Journal
    users: CollectedIds = field(init=False)
    items: CollectedIds = field(init=False)
    weighted: bool = field(init=False)
    kind: Any = field(init=False)   # unit and zone of the times, once they are known
    moment: list[int] = field(init=False)           # the first of them
    raw: np.dtype = field(init=False)

    def __post_init__(self) -> None:
        self.weighted = bool(self.journal.state.get("weighted"))
        self.kind, self.moment = self.journal.state.get("times") or (None, [])
        self.raw = RAW if self.reading.timestamp is None else TIMED

    def read(self) -> Iterator[float]:
        """Append the cells of each part to cells.raw and collect its ids."""
        done, known = self.journal.done("read"), self.journal.state["identity"]["parts"]
        self.users, self.items = (CollectedIds.load(self._ids(side, done), side)
                                  for side in ("users", "items"))
        for number in range(done, len(self.parts)):
            part = self.parts[number]
            self._read_part(part)
            if isinstance(part, Path) and of_file(part) != known[number]:
                raise ValueError(f"{part} was changed while it was read; call again when it is "
                                 f"complete")
            self.users.save(self._ids("users", number + 1))
            self.items.save(self._ids("items", number + 1))
            self.journal.note(read=number + 1, weighted=self.weighted,
                              times=[self.kind, self.moment], drop=[
                                  self._ids(side, number) for side in ("users", "items")])
            yield (number + 1) / len(self.parts)

    def _ids(self, side: str, n_parts: int) -> Path:
        return self.work / f"{side}.{n_parts}.ids"

    def _read_part(self, part: Part) -> None:
        for columns in pieces(part, self.reading, self.cells * CELL_BYTES):
            if len(columns.users) == 0:         # whose ids have no type
                continue
            times = {} if columns.timestamps is None else {"times": self._times(columns.timestamps)}
            _append(self.work / "cells.raw", self._records(
                self.users.keys(columns.users), self.items.keys(columns.items),
                value=1.0 if columns.values is None else columns.values,
                weight=1.0 if columns.weights is None else columns.weights, **times))
            self.weighted |= columns.weights is not None

    def _times(self, given: np.ndarray) -> np.ndarray:
        """Return moments as whole numbers of the unit of the first; raise for another kind."""
        found = Times.of("times", given)
        self.kind = self.kind or found.kind
        first = Times.stated(np.array(self.moment, np.int64), self.kind)
        numbers = first.numbers_of("times", found)
        self.moment = self.moment or numbers[:1].tolist()
        if numbers.dtype != np.int64:
            raise ValueError("times must be whole numbers, or dates and times, in a folder")
        return numbers

    def spread(self) -> Iterator[float]:
        """Append each cell, with its ids numbered, to the file of its range of users."""
        self.user_bounds, self.item_bounds = self._bounds()
        raw, size = self.work / "cells.raw", int(self.journal.state["size"])
        chunks = row_chunks(size, self.cells // 2)
        for number in range(self.journal.done("spread"), len(chunks)):
            self._deal(self._numbered(*chunks[number]), "user", self.user_bounds)
            self.journal.note(spread=number + 1, drop=[raw] if number == len(chunks) - 1 else [])
            yield (number + 1) / len(chunks)

    def _numbered(self, start: int, stop: int) -> np.ndarray:
        cells = np.fromfile(self.work / "cells.raw", self.raw, stop - start,
                            offset=start * self.raw.itemsize)
        cells["user"] = self.users.numbers(cells["user"])
        cells["item"] = self.items.numbers(cells["item"])
        return cells

    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the first row of each range, from the counts of the cells read."""
        kept = self.work / "bounds.npz"
        if not kept.exists():
            raw = self.work / "cells.raw"
            size = raw.stat().st_size // self.raw.itemsize if raw.exists() else 0
            if size == 0:
                raise ValueError("sources must hold at least one rating, got none")
            counts = [np.zeros(len(names), np.int64) for names in (self.users, self.items)]
            for start, stop in row_chunks(size, self.cells // 2):
                cells = self._numbered(start, stop)
                for count, side in zip(counts, ("user", "item"), strict=True):
                    count += np.bincount(cells[side], minlength=len(count))
            np.savez(kept, *(_ranges(each, self.cells) for each in counts))
            self.journal.note(size=size)
        with np.load(kept) as found:
            return found["arr_0"], found["arr_1"]

    def _deal(self, cells: np.ndarray, side: str, bounds: np.ndarray) -> None:
        """Append cells to the files of their ranges, in their order."""
        place = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))[cells[side]]
        order, starts = sorted_order(place, np.arange(len(cells)), len(bounds) - 1)
        for number in np.flatnonzero(np.diff(starts)).tolist():
            chosen = order[starts[number]:starts[number + 1]]
            _append(self._file(side, number), cells.take(chosen))   # 8 times as fast as brackets

    def _file(self, side: str, number: int) -> Path:
        return self.work / f"{side}.{number}.raw"

    def by_user(self) -> Iterator[float]:
        """Sort each range of users, append it, and append its cells to ranges of items."""
        for number in range(self.journal.done("by_user"), len(self.user_bounds) - 1):
            cells, rows, lo, hi = self._range("user", number, self.user_bounds)
            arrays = {name: cells[name] for name in self.raw.names or () if name not in SIDES}
            indptr, columns, arrays = merge(rows, cells["item"], (hi - lo, len(self.items)),
                                            arrays, self.duplicates)
            merged = self._records(np.repeat(np.arange(lo, hi), np.diff(indptr)), columns, **arrays)
            self._write("user", merged, "item", indptr)
            self._deal(merged, "item", self.item_bounds)
            self.journal.note(by_user=number + 1, drop=[self._file("user", number)])
            yield (number + 1) / (len(self.user_bounds) - 1)

    def by_item(self) -> Iterator[float]:
        """Sort each range of items, and append it."""
        for number in range(self.journal.done("by_item"), len(self.item_bounds) - 1):
            cells, rows, lo, hi = self._range("item", number, self.item_bounds)
            order, indptr = sorted_order(rows, np.arange(len(rows)), hi - lo)
            self._write("item", cells.take(order), "user", indptr)
            self.journal.note(by_item=number + 1, drop=[self._file("item", number)])
            yield (number + 1) / (len(self.item_bounds) - 1)

    def _range(self, side: str, number: int, bounds: np.ndarray
               ) -> tuple[np.ndarray, np.ndarray, int, int]:
        lo, hi = int(bounds[number]), int(bounds[number + 1])
        path = self._file(side, number)
        cells = np.fromfile(path, self.raw) if path.exists() else np.empty(0, self.raw)
        return cells, cells[side] - lo, lo, hi

    def _index_type(self, n_cells: int = 0) -> type:
        """Return the type of indices that fits users and items, and positions of cells."""
        return index_type(max(n_cells, len(self.users), len(self.items)))

    def _write(self, side: str, cells: np.ndarray, column: str, indptr: np.ndarray) -> None:
        _append(self.work / f"{side}.counts.npy", np.diff(indptr).astype(np.int64))
        _append(self.work / f"{side}.indices.npy", cells[column].astype(self._index_type()))
        _append(self.work / f"{side}.data.npy", cells["value"])
        if self.weighted:
            _append(self.work / f"{side}.weights.npy", cells["weight"])
        if self.raw == TIMED:
            _append(self.work / f"{side}.times.npy", cells["times"])

    def finish(self) -> Path:
        """Put heads on the arrays, in a folder of their own; return the folder, sealed."""
        whole = self.work / WHOLE
        whole.mkdir(exist_ok=True)
        for side in ("user", "item"):
            raw = [self.work / f"{side}.{name}.npy"
                   for name in ("counts", "indices", "data", "weights", "times")]
            if raw[0].exists():             # else this side was done before an interruption
                self._headed(side, whole, *raw)
                self.journal.note(drop=raw)
        seal(whole, (len(self.users), len(self.items)), self.users.sorted_ids,
             self.items.sorted_ids, self.kind)
        return whole

    def _headed(self, side: str, whole: Path, counts: Path, indices: Path, *values: Path) -> None:
        """Make the arrays of a side out of raw numbers."""
        indptr = np.concatenate([[0], np.cumsum(np.fromfile(counts, np.int64))])
        wanted = self._index_type(int(indptr[-1]))
        save(whole / f"{side}.indptr.npy", indptr.astype(wanted))
        _with_head(indices, whole, self._index_type(), wanted)
        for path in values:
            if path.name.endswith(".times.npy") and path.exists():
                _with_head(path, whole, np.int64, np.int64)
            elif path.exists():
                _with_head(path, whole, np.float64, _narrowest(path))

    def _records(self, user: Any, item: Any, **values: Any) -> np.ndarray:
        records = np.empty(len(user), self.raw)
        for name, array in {"user": user, "item": item, **values}.items():
            records[name] = array
        return records


def _ranges(counts: np.ndarray, most: int) -> np.ndarray:
    """Divide rows into ranges of at most `most` cells (a longer row is a range of its own)."""
    total = np.concatenate([[0], np.cumsum(counts)])
    bounds = [0]
    while bounds[-1] < len(counts):
        stop = int(np.searchsorted(total, total[bounds[-1]] + most, "right")) - 1
        bounds.append(max(stop, bounds[-1] + 1))
    return np.array(bounds)


def _append(path: Path, array: np.ndarray) -> None:
    append(path, np.ascontiguousarray(array).data)


def _narrowest(path: Path) -> type:
    values = np.memmap(path, np.float64, "r") if path.stat().st_size else np.empty(0)
    lossless = all(np.array_equal(values[start:stop].astype(np.float32), values[start:stop])
                   for start, stop in row_chunks(len(values), CELLS))
    return np.float32 if lossless else np.float64


def _with_head(raw: Path, whole: Path, stored: type, wanted: type) -> None:
    """Turn raw numbers into a .npy file of the wanted type in a folder, a chunk at a time."""
    size = raw.stat().st_size // np.dtype(stored).itemsize
    target = whole / raw.name
    with named(target), target.open("wb") as stream, raw.open("rb") as numbers:
        np.lib.format.write_array_header_1_0(stream, {
            "descr": np.dtype(wanted).str, "fortran_order": False, "shape": (size,)})
        for start, stop in row_chunks(size, CELLS):
            stream.write(np.fromfile(numbers, stored, stop - start).astype(wanted).data)
