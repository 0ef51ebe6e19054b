"""A conversion knows what it belongs to: each keyword is part of that, or an exception to it.

An interrupted run goes on only with the same arguments; with others it starts again.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from mfcore import Ratings
from mfcore.data import convert as converting
from mfcore.data.convert import convert
from mfcore.data.identity import identities
from mfcore.data.layout import Reading

# What of the journal differs when a keyword does; what is no part of the identity, and why.
NAMED = {"sources": "parts", "memory": "cells", "duplicates": "duplicates", "reading": "reading"}
EXCEPTIONS = {
    "out": "it names the folder in which the journal is",
    "verbose": "it shows a bar and changes nothing",
}
OTHERS = {
    "sources": lambda place: [place / "a.csv", place / "c.csv"],
    "memory": lambda place: 2 * converting.LEAST,
    "duplicates": lambda place: "sum",
    "reading": lambda place: Reading(text_ids=True),
}


def test_every_keyword_of_convert_is_part_of_the_identity_or_an_exception():
    taken = set(inspect.signature(convert).parameters)
    assert taken == set(NAMED) | set(EXCEPTIONS)
    assert not set(NAMED) & set(EXCEPTIONS)
    assert set(OTHERS) == set(NAMED)


def written(place):
    for name, lines in (("a", "1,2,3\n4,2,5\n"), ("b", "1,5,3\n7,7,1\n"), ("c", "9,9,4\n")):
        (place / f"{name}.csv").write_text(f"user,item,rating\n{lines}")
    return [place / "a.csv", place / "b.csv"]


def stopped(sources, out, stage="by_user", **keywords):
    """Stop a conversion between two stages; return what its journal says."""
    with pytest.MonkeyPatch.context() as patch:
        def stop(self):
            raise KeyboardInterrupt
        patch.setattr(converting._Sort, stage, stop)
        with pytest.raises(KeyboardInterrupt):
            convert(sources, out, **keywords)
    return json.loads((out.with_name(f".{out.name}.converting") / "journal.json").read_text())


def is_taken_up(sources, out, **keywords):
    """Call a conversion again; return whether it went on, rather than read the parts again."""
    read = []
    with pytest.MonkeyPatch.context() as patch:
        whole = converting._Sort._read_part
        patch.setattr(converting._Sort, "_read_part",
                      lambda self, part: (read.append(part), whole(self, part)))
        convert(sources, out, **keywords)
    return not read


@pytest.mark.parametrize("name", NAMED)
def test_a_conversion_with_another_keyword_starts_again_and_is_right(name, tmp_path):
    sources = written(tmp_path)
    out = tmp_path / "r"
    first = {"sources": sources}
    other = {**first, name: OTHERS[name](tmp_path)}
    wanted = convert(**other, out=tmp_path / "wanted")
    before = stopped(**first, out=out)
    after = stopped(**other, out=out, stage="read")
    assert {each for each in before["identity"] if
            before["identity"][each] != after["identity"][each]} == {NAMED[name]}
    assert after["files"] == {}
    assert not is_taken_up(**other, out=out)
    found = Ratings.open(out)
    assert (found.by_user != wanted.by_user).nnz == 0
    assert found.user_ids.tolist() == wanted.user_ids.tolist()


@pytest.mark.parametrize("field", Reading._fields)
def test_every_field_of_reading_is_part_of_the_identity(field, tmp_path):
    given = {"user": 1, "item": 0, "rating": None, "weight": "w", "separator": ";",
             "header": False, "encoding": "latin-1", "text_ids": True, "timestamp": 3,
             "quoting": False, "comment": "#", "skip_lines": 1, "missing": ("x",)}
    assert set(given) == set(Reading._fields)
    sources = [lambda: {"user": [1], "item": [2], "rating": [3.0]}]
    first, second = (stopped(sources, tmp_path / "r", stage="read", reading=reading)
                     for reading in (Reading(), Reading(**{field: given[field]})))
    assert first["identity"] != second["identity"]


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_what_is_no_part_of_the_identity_does_not_stop_a_conversion_from_going_on(name, tmp_path):
    sources, out = written(tmp_path), tmp_path / "r"
    stopped(sources, out)
    if name == "out":
        os.rename(tmp_path / ".r.converting", tmp_path / ".s.converting")
        assert is_taken_up(sources, tmp_path / "s")
    else:
        assert is_taken_up(sources, out, verbose=1)


# --------------------------------------------------------------------------------- files

def rewritten(path):
    path.write_text(path.read_text() + "8,8,2\n")


def rewritten_to_the_same_size(path):
    path.write_text(path.read_text().replace("5,3", "5,4"))


def rewritten_with_its_times_put_back(path):
    found = path.stat()
    rewritten_to_the_same_size(path)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def exchanged_for_another(path):
    found = path.stat()
    other = path.with_name("other")
    other.write_text(path.read_text().replace("5,3", "5,4"))
    os.utime(other, ns=(found.st_atime_ns, found.st_mtime_ns))
    os.replace(other, path)


CHANGES = (rewritten, rewritten_to_the_same_size, rewritten_with_its_times_put_back,
           exchanged_for_another)


@pytest.mark.parametrize("change", CHANGES)
def test_a_part_that_changed_is_read_again(change, tmp_path):
    sources, out = written(tmp_path), tmp_path / "r"
    stopped(sources, out)
    change(sources[1])
    wanted = convert(sources, tmp_path / "wanted")
    assert not is_taken_up(sources, out)
    assert (Ratings.open(out).by_user != wanted.by_user).nnz == 0


def test_a_folder_with_a_new_part_is_read_again(tmp_path):
    (tmp_path / "parts").mkdir()
    written(tmp_path / "parts")
    stopped(tmp_path / "parts", tmp_path / "r")
    (tmp_path / "parts" / "d.csv").write_text("user,item,rating\n5,5,5\n")
    assert not is_taken_up(tmp_path / "parts", tmp_path / "r")
    assert Ratings.open(tmp_path / "r").nnz == 6


def test_a_part_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    sources = written(tmp_path)
    whole = converting._append

    def appended(path, array):
        whole(path, array)
        rewritten(sources[1])

    monkeypatch.setattr(converting, "_append", appended)
    with pytest.raises(ValueError, match=r"b\.csv was changed while it was read"):
        convert(sources[1:], tmp_path / "r")
    monkeypatch.setattr(converting, "_append", whole)
    assert convert(sources[1:], tmp_path / "r").nnz == 3


# ----------------------------------------------------------------------------- functions

ONE = 1.0


def _part(value):
    return {"user": [1, 2], "item": [1, 2], "rating": [value, value]}


class Source:
    def __init__(self, value):
        self.value = value

    def __call__(self):
        return _part(self.value)

    def method(self):
        return _part(-self.value)


def _counted(n):
    def part():
        return _part(float(n))
    return part


def _nested(n):
    def part():
        return (lambda: _part([n][0]))()
    return part


def _using(value):
    return lambda: _part(value)


def _default(n):
    return lambda n=n: _part(n)


def _keyword(n):
    def part(*, n=n):
        return _part(n)
    return part


def _of_a_module(tmp_path, n):
    name = f"parts_{n}"
    (tmp_path / f"{name}.py").write_text(f"def load():\n    return {n}\n")
    sys.path.insert(0, str(tmp_path))
    try:
        module = importlib.import_module(name)
    finally:
        sys.path.pop(0)
    module.__name__ = "parts"
    return lambda: module.load()


# Each makes a function out of a number: the same number is the same part, another is another.
MAKERS = {
    "closure": _counted,
    "nested": _nested,
    "default": _default,
    "keyword": _keyword,
    "partial": lambda n: functools.partial(_part, n),
    "partial with a keyword": lambda n: functools.partial(_part, value=n),
    "object": Source,
    "method": lambda n: Source(n).method,
    "array": lambda n: _using(np.full(3, n)),
    "array of objects": lambda n: _using(np.array([n, "x"], object)),
    "number of NumPy": lambda n: _using(np.float32(n)),
    "sparse": lambda n: _using(sp.csr_array(np.full((2, 2), n))),
    "set": lambda n: _using(frozenset(["a", "b", n])),
    "dict": lambda n: _using({"a": [n]}),
    "pattern": lambda n: _using(re.compile(str(n))),
    "path": lambda n: _using(Path(str(n))),
    "ratings": lambda n: _using(Ratings(sp.csr_array(np.full((2, 2), n)))),
    "function of NumPy": lambda n: _using([np.add, np.add, np.exp][n]),
    "function of a library": lambda n: _using([None, np.linalg.norm, np.linalg.det][n]),
    "built-in": lambda n: _using([None, len, max][n]),
    "code": lambda n: [lambda: _part(0), lambda: _part(1), lambda: _part(0 + 2)][n],
}


@pytest.mark.parametrize("how", MAKERS)
def test_functions_are_known_by_their_code_and_by_what_they_use(how):
    make = MAKERS[how]
    (one,), (same,), (other,) = (identities([make(n)]) for n in (1, 1, 2))
    assert one == same
    assert one != other


def test_values_and_functions_of_the_module_that_a_function_names_belong_to_it(monkeypatch):
    def part():
        return _part(ONE)

    before = identities([part])
    assert identities([part]) == before
    monkeypatch.setitem(globals(), "ONE", 2.0)
    assert identities([part]) != before
    monkeypatch.setitem(globals(), "ONE", 1.0)
    assert identities([part]) == before
    monkeypatch.setitem(globals(), "_part", lambda value: {"user": [], "item": []})
    assert identities([part]) != before


def test_a_module_of_the_user_is_known_by_its_file(tmp_path):
    one, other = (identities([_of_a_module(tmp_path, n)]) for n in (1, 2))
    assert one != other


def test_a_class_is_known_by_its_methods():
    def made(value):
        class Part:
            def __call__(self):
                return _part(value)
        return Part()

    assert identities([made(1)]) == identities([made(1)]) != identities([made(2)])


def test_what_several_parts_share_is_looked_at_once(monkeypatch):
    shared, looked = np.zeros(1000), []
    from mfcore.data import identity

    whole = identity._Digest._array
    monkeypatch.setattr(identity._Digest, "_VISITS", tuple(
        (kind, (lambda self, value: (looked.append(1), whole(self, value)))
         if visit is whole else visit) for kind, visit in identity._Digest._VISITS))
    found = identities([lambda n=n: _part(shared[n]) for n in range(5)])
    assert len(set(map(str, found))) == 5
    assert looked == [1]


def test_a_mapped_array_is_known_by_its_file_and_place(tmp_path):
    def known(array):
        return identities([lambda array=array: _part(array[0])])

    path = tmp_path / "a.npy"
    np.save(path, np.arange(1000))
    first, again = (np.load(path, mmap_mode="r") for _ in range(2))
    assert known(first) == known(again)
    assert known(np.asarray(first)) == known(np.asarray(again)) != known(np.asarray(again)[1:])
    assert known(first[10:20]) == known(again[10:20]) != known(again[11:21])
    assert known(first[::2]) != known(first[:500])
    np.save(path, np.arange(1000) + 1)
    assert known(np.load(path, mmap_mode="r")) != known(first[:0])
    changed = np.load(path, mmap_mode="c")
    before = known(changed)
    changed[3] = 7
    assert known(changed) != before


def test_a_function_that_refers_to_itself_has_an_end():
    found = []

    def part():
        return found

    found.append(part)
    assert identities([part]) == identities([part])


UNKNOWN = {
    "an open file": lambda place: (place / "x").open("w"),
    "a lock": lambda place: threading.Lock(),
    "a generator": lambda place: (each for each in ()),
    "a connection": lambda place: importlib.import_module("sqlite3").connect(":memory:"),
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_what_cannot_be_known_again_is_refused_with_the_cure(what, tmp_path):
    held = UNKNOWN[what](tmp_path)

    def part():
        return _part(3.0) if held else None

    with pytest.raises(ValueError, match=r"part 2, .*cannot be known again.*function\.identity ="):
        convert([lambda: _part(1.0), part], tmp_path / "r")
    assert not list(tmp_path.glob(".*"))
    part.identity = "the plays of 2019"
    assert convert([part], tmp_path / "r").nnz == 2
    if hasattr(held, "close"):
        held.close()


def test_a_function_that_says_what_it_is_is_known_by_that_alone(tmp_path):
    def made(value, name):
        def part():
            return _part(value)
        part.identity = name
        return part

    out = tmp_path / "r"
    stopped([made(1.0, "2019")], out)
    assert is_taken_up([made(2.0, "2019")], out)
    stopped([made(1.0, "2019")], tmp_path / "s")
    assert not is_taken_up([made(1.0, "2020")], tmp_path / "s")


def test_two_functions_of_one_name_are_two(tmp_path):
    stopped([_counted(1)], tmp_path / "r")
    assert not is_taken_up([_counted(2)], tmp_path / "r")
    assert Ratings.open(tmp_path / "r").by_user.data.tolist() == [2, 2]


SCRIPT = """
import sys
from functools import partial
import numpy as np
from mfcore.data.identity import identities

TABLE = {"b": np.arange(5), "a": {"x", "y", "zz"}}

def load(year):
    return {"user": TABLE["b"], "item": TABLE["b"], "rating": TABLE["b"] + year}

class Part:
    def __init__(self, year): self.year = year
    def __call__(self): return load(self.year)

print(identities([partial(load, 1), lambda: load(2), Part(3), lambda y=[4]: load(y[0])]))
"""


def test_the_same_functions_are_the_same_in_another_process():
    found = {subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True,
                            check=True, env={**os.environ, "PYTHONHASHSEED": seed}).stdout
             for seed in "12"}
    assert len(found) == 1
    assert len(set(re.findall("[0-9a-f]{64}", found.pop()))) == 4


# ----------------------------------------------------------------------- the work folder

def test_a_folder_of_others_is_not_taken_for_the_work_folder(tmp_path):
    sources = written(tmp_path)
    (tmp_path / ".r.converting").mkdir()
    (tmp_path / ".r.converting" / "diary.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds other files, such as diary.txt"):
        convert(sources, tmp_path / "r")
    assert (tmp_path / ".r.converting" / "diary.txt").read_text() == "mine"


@pytest.mark.parametrize("harm", ["missing", "short", "no journal", "torn journal", "version"])
def test_a_work_folder_that_was_harmed_is_not_gone_on_from(harm, tmp_path, monkeypatch):
    sources, out = written(tmp_path), tmp_path / "r"
    wanted = convert(sources, tmp_path / "wanted")
    stopped(sources, out)
    work = tmp_path / ".r.converting"
    if harm == "missing":
        (work / "user.0.raw").unlink()
    elif harm == "short":
        os.truncate(work / "user.0.raw", 32)
    elif harm == "torn journal":
        (work / "journal.json").write_text('{"identity": ')
    elif harm == "version":
        monkeypatch.setattr(converting, "VERSION", converting.VERSION + 1)
    else:
        (work / "journal.json").unlink()
        with pytest.raises(FileExistsError, match="holds other files"):
            convert(sources, out)
        return
    assert not is_taken_up(sources, out)
    assert (Ratings.open(out).by_user != wanted.by_user).nnz == 0


def test_no_ratings_at_all_are_refused(tmp_path):
    with pytest.raises(ValueError, match="sources must hold at least one rating"):
        convert([lambda: {"user": [], "item": [], "rating": []}], tmp_path / "r")
    assert not (tmp_path / "r").exists()
    found = convert([lambda: {"user": [], "item": [], "rating": []}, _counted(1)], tmp_path / "r")
    assert found.nnz == 2


def test_the_final_name_is_taken_after_the_check(tmp_path, monkeypatch):
    sources, out = written(tmp_path), tmp_path / "r"
    whole = converting._with_head

    def harmed(raw, folder, stored, wanted):
        whole(raw, folder, stored, wanted)
        if raw.name == "item.indices.npy":
            array = np.load(folder / raw.name)
            array[0] = 77
            np.save(folder / raw.name, array)

    monkeypatch.setattr(converting, "_with_head", harmed)
    with pytest.raises(ValueError, match=r"item"):
        convert(sources, out)
    assert not out.exists()


def test_a_name_that_is_taken_meanwhile_is_left_and_the_work_kept(tmp_path, monkeypatch):
    sources, out = written(tmp_path), tmp_path / "r"
    whole = converting.place_folder

    def late(part, target):
        target.mkdir()
        (target / "diary.txt").write_text("mine")
        whole(part, target)

    monkeypatch.setattr(converting, "place_folder", late)
    with pytest.raises(FileExistsError, match="r exists; name a new folder"):
        convert(sources, out)
    assert (out / "diary.txt").read_text() == "mine"
    monkeypatch.undo()
    (out / "diary.txt").unlink()
    out.rmdir()
    assert is_taken_up(sources, out)
