"""Ratings files larger than memory, sorted on disk into a folder that `Ratings.open` maps.

A distribution sort in four stages.  N cells, memory for M of them at a time:

    read      parse the parts; append (user id, item id, value) to one file; collect the ids
    spread    number users and items by sorted id; append each cell to the file of its range
              of users, ranges of at most M cells
    by user   read a range, sort it, settle repeated pairs, append it to the arrays by user;
              append its cells, in this order, to the files of ranges of items
    by item   read a range, sort it by item (stable: users stay in order), append it

so that every cell is written four times and read four times, whatever N / M.  Memory holds
one range, and the ids.  After each part and each range a journal records the length of every
file: an interrupted run truncates the files to that and continues.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mfcore import validation
from mfcore.atomic import absent, place_folder, replacing
from mfcore.data.canonical import Duplicates, merge, sorted_order
from mfcore.data.chunks import CELLS
from mfcore.data.folder import seal
from mfcore.data.ids import CollectedIds
from mfcore.data.layout import Reading
from mfcore.data.ratings import Ratings
from mfcore.data.readers import Part, check_parts, parts_of, pieces
from mfcore.parallel import row_chunks

# Bytes in memory per cell of a range while it is sorted, and the least memory.  Measured, as
# anonymous memory by user, the most expensive stage: 158 for 20M cells within 1 GB, 165 for 5M
# within 256 MB.  The rest is for what the allocator keeps of other stages, 20 MB at least memory.
CELL_BYTES, LEAST = 240, 1 << 26
RAW = np.dtype([("user", "<i8"), ("item", "<i8"), ("value", "<f8"), ("weight", "<f8")])
STAGES = ("read", "spread", "by user", "by item")


def convert(sources: Any, out: str | os.PathLike[str], *, memory: int = 2 << 30,
            duplicates: Duplicates = "error", reading: Reading | None = None,
            verbose: int = 0) -> Ratings:
    """Sort ratings into a new folder, within a stated memory, and open it.

    Parameters
    ----------
    sources : path, folder of parts, or sequence of paths and functions
        A function returns one part: a dict of columns.
    out : path
        The folder to make.  The folder `.NAME.converting` next to it holds the work until it is
        done; an interrupted run with the same arguments continues from there.
    memory : int, bytes, >= 64 MB
        For arrays, not counting the ids of users and items, what the reading library
        takes for itself, and what a function returns.  A single user or item with more than
        memory / 240 ratings is sorted at once, and takes more.
    duplicates : {"error", "last", "mean", "sum"}
        What to do with a repeated (user, item) pair.
    reading : Reading or None
        Columns and format of the files.
    verbose : int
        1 shows a progress bar.

    Raises
    ------
    FileExistsError, FileNotFoundError
        Before any work, for `out` and for the sources.
    ValueError
        A part whose columns are not those of the first; and what `read_ratings` refuses.
    """
    validation.choice("duplicates", duplicates, ("error", "last", "mean", "sum"))
    validation.integer("memory", memory, low=LEAST)
    target, reading = absent(out), reading or Reading()
    parts = parts_of(sources)
    check_parts(parts, reading)
    work = target.with_name(f".{target.name}.converting")
    sort = _Sort(work, parts, reading, int(memory) // CELL_BYTES, duplicates,
                 _Journal(work, _identity(parts, reading, memory, duplicates)))
    with tqdm(total=len(STAGES) * 100, unit="%", desc="convert", disable=not verbose) as bar:
        for number, stage in enumerate((sort.read, sort.spread, sort.by_user, sort.by_item)):
            bar.set_postfix_str(STAGES[number])
            for share in stage():
                bar.update(number * 100 + round(100 * share) - bar.n)
    sort.finish()
    place_folder(work, target)
    return Ratings.open(target, verify=False)


def _identity(parts: Sequence[Part], reading: Reading, memory: int,
              duplicates: str) -> list[Any]:
    named = [[str(part.resolve()), part.stat().st_size, part.stat().st_mtime_ns]
             if isinstance(part, Path) else getattr(part, "__name__", "part") for part in parts]
    return [named, list(reading), int(memory), duplicates]


class _Journal:
    """What is done, and how long each file was then; empty if the last run had other arguments."""

    def __init__(self, work: Path, identity: list[Any]) -> None:
        self.path = work / "journal.json"
        self.state: dict[str, Any] = {"identity": identity, "sizes": {}}
        if self.path.exists():
            found = json.loads(self.path.read_text())
            same = found["identity"] == json.loads(json.dumps(identity))
            if same and not found.get("finishing"):
                self.state = found
                self._truncate(work)
                return
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()

    def _truncate(self, work: Path) -> None:
        for path in work.iterdir():
            size = self.state["sizes"].get(path.name)
            if size is not None and path.stat().st_size > size:
                os.truncate(path, size)
            elif size is None and path.suffix in (".raw", ".npy"):
                path.unlink()

    def note(self, **done: Any) -> None:
        """Write down what is done, with the sizes of the files that grow."""
        sizes = {path.name: path.stat().st_size for path in self.path.parent.iterdir()
                 if path.suffix in (".raw", ".npy")}
        self.state.update(done, sizes=sizes)
        with replacing(self.path) as stream:
            stream.write(json.dumps(self.state).encode())

    def done(self, stage: str) -> int:
        """Return how many pieces of a stage are done."""
        return int(self.state.get(stage, 0))


@dataclass
class _Sort:
    work: Path
    parts: Sequence[Part]
    reading: Reading
    cells: int                      # M
    duplicates: Duplicates
    journal: _Journal
    users: CollectedIds = field(init=False)
    items: CollectedIds = field(init=False)

    def read(self) -> Iterator[float]:
        """Append the cells of each part to cells.raw and collect its ids."""
        self.users, self.items = (CollectedIds.load(self.work / f"{side}.ids", side)
                                  for side in ("users", "items"))
        for number in range(self.journal.done("read"), len(self.parts)):
            weighted = bool(self.journal.state.get("weighted"))
            for columns in pieces(self.parts[number], self.reading, self.work,
                                  self.cells * CELL_BYTES):
                _append(self.work / "cells.raw", _records(
                    self.users.keys(columns.users), self.items.keys(columns.items),
                    1.0 if columns.values is None else columns.values,
                    1.0 if columns.weights is None else columns.weights))
                weighted |= columns.weights is not None
            self.users.save(self.work / "users.ids")
            self.items.save(self.work / "items.ids")
            self.journal.note(read=number + 1, weighted=weighted)
            yield (number + 1) / len(self.parts)

    def spread(self) -> Iterator[float]:
        """Append each cell, with its ids numbered, to the file of its range of users."""
        self.user_bounds, self.item_bounds = self._bounds()
        chunks = self._chunks() if self.journal.done("by_user") == 0 else []
        for number in range(self.journal.done("spread"), len(chunks)):
            self._deal(self._numbered(*chunks[number]), "user", self.user_bounds)
            self.journal.note(spread=number + 1)
            yield (number + 1) / len(chunks)

    def _chunks(self) -> list[tuple[int, int]]:
        size = (self.work / "cells.raw").stat().st_size // RAW.itemsize
        return row_chunks(size, self.cells // 2)

    def _numbered(self, start: int, stop: int) -> np.ndarray:
        cells = np.fromfile(self.work / "cells.raw", RAW, stop - start,
                            offset=start * RAW.itemsize)
        cells["user"] = self.users.numbers(cells["user"])
        cells["item"] = self.items.numbers(cells["item"])
        return cells

    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the first row of each range, from the counts of the cells read."""
        kept = self.work / "bounds.npz"
        if not kept.exists():
            counts = [np.zeros(len(names), np.int64) for names in (self.users, self.items)]
            for start, stop in self._chunks():
                cells = self._numbered(start, stop)
                for count, side in zip(counts, ("user", "item"), strict=True):
                    count += np.bincount(cells[side], minlength=len(count))
            with replacing(kept) as stream:
                np.savez(stream, *(_ranges(each, self.cells) for each in counts))
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
            arrays = {"value": cells["value"], "weight": cells["weight"]}
            indptr, columns, arrays = merge(rows, cells["item"], (hi - lo, len(self.items)),
                                            arrays, self.duplicates)
            merged = _records(np.repeat(np.arange(lo, hi), np.diff(indptr)), columns, **arrays)
            self._write("user", merged, "item", indptr)
            self._deal(merged, "item", self.item_bounds)
            self.journal.note(by_user=number + 1)
            (self.work / "cells.raw").unlink(missing_ok=True)       # (it is read until then)
            self._file("user", number).unlink(missing_ok=True)
            yield (number + 1) / (len(self.user_bounds) - 1)

    def by_item(self) -> Iterator[float]:
        """Sort each range of items, and append it."""
        for number in range(self.journal.done("by_item"), len(self.item_bounds) - 1):
            cells, rows, lo, hi = self._range("item", number, self.item_bounds)
            order, indptr = sorted_order(rows, np.arange(len(rows)), hi - lo)
            self._write("item", cells.take(order), "user", indptr)
            self.journal.note(by_item=number + 1)
            self._file("item", number).unlink(missing_ok=True)
            yield (number + 1) / (len(self.item_bounds) - 1)

    def _range(self, side: str, number: int, bounds: np.ndarray
               ) -> tuple[np.ndarray, np.ndarray, int, int]:
        lo, hi = int(bounds[number]), int(bounds[number + 1])
        path = self._file(side, number)
        cells = np.fromfile(path, RAW) if path.exists() else np.empty(0, RAW)
        return cells, cells[side] - lo, lo, hi

    def _index_type(self) -> type:
        """Return the type of indices that fits users and items."""
        return np.int32 if max(len(self.users), len(self.items)) < 2**31 else np.int64

    def _write(self, side: str, cells: np.ndarray, column: str, indptr: np.ndarray) -> None:
        _append(self.work / f"{side}.counts.npy", np.diff(indptr).astype(np.int64))
        _append(self.work / f"{side}.indices.npy", cells[column].astype(self._index_type()))
        _append(self.work / f"{side}.data.npy", cells["value"])
        if self.journal.state.get("weighted"):
            _append(self.work / f"{side}.weights.npy", cells["weight"])

    def finish(self) -> None:
        """Put heads on the arrays and write the header of the folder."""
        self.journal.note(finishing=True)
        for side in ("user", "item"):
            counts = np.fromfile(self.work / f"{side}.counts.npy", np.int64)
            indptr = np.concatenate([[0], np.cumsum(counts)])
            wanted = self._index_type() if indptr[-1] < 2**31 else np.int64
            np.save(self.work / f"{side}.indptr.npy", indptr.astype(wanted))
            _with_head(self.work / f"{side}.indices.npy", self._index_type(), wanted)
            for name in ("data", "weights"):
                path = self.work / f"{side}.{name}.npy"
                if path.exists():
                    _with_head(path, np.float64, _narrowest(path))
            (self.work / f"{side}.counts.npy").unlink()
        for path in self.work.iterdir():
            if path.suffix != ".npy":
                path.unlink()
        seal(self.work, (len(self.users), len(self.items)), self.users.sorted_ids,
             self.items.sorted_ids)


def _records(user: Any, item: Any, value: Any, weight: Any) -> np.ndarray:
    records = np.empty(len(user), RAW)
    records["user"], records["item"] = user, item
    records["value"], records["weight"] = value, weight
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
    with path.open("ab") as stream:
        np.ascontiguousarray(array).tofile(stream)


def _narrowest(path: Path) -> type:
    values = np.memmap(path, np.float64, "r") if path.stat().st_size else np.empty(0)
    lossless = all(np.array_equal(values[start:stop].astype(np.float32), values[start:stop])
                   for start, stop in row_chunks(len(values), CELLS))
    return np.float32 if lossless else np.float64


def _with_head(path: Path, stored: type, wanted: type) -> None:
    """Turn raw numbers into a .npy file of the wanted type, a chunk at a time."""
    size = path.stat().st_size // np.dtype(stored).itemsize
    with replacing(path) as stream, path.open("rb") as raw:
        np.lib.format.write_array_header_1_0(stream, {
            "descr": np.dtype(wanted).str, "fortran_order": False, "shape": (size,)})
        for start, stop in row_chunks(size, CELLS):
            np.fromfile(raw, stored, stop - start).astype(wanted).tofile(stream)
