"""Conversions, writes, saves and fits that die at any file operation: nothing is lost or broken."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import faults
import kills
import numpy as np
import pytest
import samples
from reliability import record
from test_datasets import Server, serving

from mfcore import MatrixFactorization, Ratings, load
from mfcore.atomic import PREFIX
from mfcore.data import convert as converting
from mfcore.data import download
from mfcore.data.convert import convert
from mfcore.data.layout import Reading
from mfcore.models.answering import lists_out
from mfcore.models.updates import solving

pytest.importorskip("fcntl")
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

# Functions that run while files change, and what the kill matrix calls them.  ("" is the lock.)
STAGES = {"": "lock", "__init__": "journal", "read": "read", "spread": "spread",
          "by_user": "by user", "by_item": "by item", "finish": "finish", "seal": "seal",
          "place_folder": "place", "replacing": "replace", "discard": "tidy up"}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A kill loses nothing that was written: only a machine that fails needs the disk."""
    monkeypatch.setattr(os, "fsync", lambda opened: None)


@pytest.fixture
def place():
    """A folder in memory where the system has one: hundreds of runs are then seconds."""
    name = tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    yield Path(name)
    shutil.rmtree(name)


def contents(folder):
    """Return the bytes of each file in a folder, None if there is no folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else None


def stage_of(point):
    return STAGES[point.stage]


def points_of(work, folder, stages):
    return kills.points_of(work, folder, tuple(filter(None, stages)))


# ----------------------------------------------------------------------------- convert

CONVERSION = ("__init__", "read", "spread", "by_user", "by_item", "finish", "place_folder",
              "discard")


@pytest.fixture
def conversion(place, monkeypatch):
    """A conversion of two parts, one gzipped, with weights, times and ids of text, in two ranges.

    Returns the call, the folder that it makes and what is to be in it.
    """
    monkeypatch.setattr(converting, "CELL_BYTES", converting.LEAST // 24)
    random_state = np.random.default_rng(0)
    cells = random_state.permutation(12 * 10)[:40]
    lines = [f"u{cell // 10},i{cell % 10},{cell % 5},{1 + cell % 3},{900 - cell}\n"
             for cell in cells.tolist()]
    (place / "a.csv").write_text("user,item,rating,weight,when\n" + "".join(lines[::2]))
    (place / "b.csv.gz").write_bytes(gzip.compress(
        ("user,item,rating,weight,when\n" + "".join(lines[1::2])).encode()))
    out = place / "made" / "ratings"
    out.parent.mkdir()

    read = []
    whole = converting._Sort._read_part
    monkeypatch.setattr(converting._Sort, "_read_part",
                        lambda self, part: (read.append(part), whole(self, part)))

    def work():
        read.clear()
        expected = unread(out)
        convert([place / "a.csv", place / "b.csv.gz"], out, memory=converting.LEAST,
                reading=Reading(weight="weight", timestamp="when"))
        assert len(read) == expected                # it goes on, and does not start again

    work()
    wanted = contents(out)
    assert {"user.times.npy", "item.weights.npy"} <= set(wanted)
    shutil.rmtree(out)
    assert not list(out.parent.iterdir())
    return work, out, wanted


def unread(out):
    """Return how many of two parts an interrupted conversion to `out` has still to read."""
    work = out.with_name(f".{out.name}.converting")
    if not (work / "journal.json").exists():
        return 2
    found = json.loads((work / "journal.json").read_text())
    is_placed = "whole" in found["files"] and not (work / "whole").exists()
    return 2 if is_placed else 2 - found.get("read", 0)


def parts_left(out):
    """Return how many pieces and locks are next to a folder, which is the only other thing."""
    others = [path.name for path in out.parent.iterdir() if path != out]
    assert all(name.startswith(PREFIX) for name in others), others
    return len(others)


def goes_on(work, out, wanted):
    """Call again what was killed; the folder is the wanted one and nothing else is left."""
    assert contents(out) in (None, wanted)          # never half of it under the final name
    if out.exists():
        with pytest.raises(FileExistsError):
            work()
        assert contents(out) == wanted
        assert parts_left(out) <= 1
        shutil.rmtree(out)
    work()
    assert contents(out) == wanted
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    shutil.rmtree(out)


def killed_everywhere(work, out, wanted, stages):
    """Kill a call before each of its file operations; return the number of points per stage."""
    points = points_of(work, out.parent, stages)
    shutil.rmtree(out)
    for number in range(len(points)):
        assert kills.dies_at(number, work, out.parent)
        goes_on(work, out, wanted)
    assert not kills.dies_at(len(points), work, out.parent)       # there are no more
    return Counter(map(stage_of, points))


def test_a_conversion_killed_at_any_file_operation_goes_on_to_the_same_bytes(conversion):
    found = killed_everywhere(*conversion, CONVERSION)
    assert set(found) == {STAGES[name] for name in ("", *CONVERSION)}


@pytest.mark.soak
def test_the_kill_matrix_of_a_conversion(conversion):
    found = killed_everywhere(*conversion, CONVERSION)
    record("file operations of a conversion, killed before each, that go on to the same bytes",
           found.total(), "test_kills.py::test_the_kill_matrix_of_a_conversion", **found)


def test_a_conversion_killed_amid_any_append_goes_on_to_the_same_bytes(conversion, monkeypatch):
    work, out, wanted = conversion
    whole, appended = converting._append, []
    monkeypatch.setattr(converting, "_append",
                        lambda path, array: (appended.append(path.name), whole(path, array)))
    work()
    shutil.rmtree(out)
    assert {"cells.raw", "user.0.raw", "item.1.raw", "user.counts.npy", "user.indices.npy",
            "user.data.npy", "user.weights.npy", "item.weights.npy"} <= set(appended)
    for number in range(len(appended)):
        left = [number]

        def half(path, array, left=left):
            if left[0] == 0:
                with path.open("ab") as stream:
                    stream.write(array.tobytes()[:array.nbytes // 2])
                kills.die()
            left[0] -= 1
            whole(path, array)

        monkeypatch.setattr(converting, "_append", half)
        assert kills.dies(work)
        monkeypatch.setattr(converting, "_append", whole)
        goes_on(work, out, wanted)


def killed_again_and_again(work, out, wanted, seed):
    """Kill each run after a few operations until one ends; return the number of kills."""
    draw, count = random.Random(seed), 0
    while kills.dies_at(draw.randrange(3, 60), work, out.parent):
        assert contents(out) in (None, wanted)
        count += 1
        if out.exists():
            break
    goes_on(work, out, wanted)
    return count


@pytest.mark.parametrize("seed", range(3))
def test_a_conversion_killed_again_and_again_comes_to_its_end(conversion, seed):
    assert killed_again_and_again(*conversion, seed) > 1


@pytest.mark.soak
def test_hundreds_of_chains_of_kills_come_to_the_same_bytes(conversion):
    count = sum(killed_again_and_again(*conversion, seed) for seed in range(100, 200))
    record("conversions killed, some of them many times, that go on to the same bytes", count,
           "test_kills.py::test_hundreds_of_chains_of_kills_come_to_the_same_bytes")


# ------------------------------------------------------------- what is written in one go

def test_a_write_killed_at_any_file_operation_leaves_all_or_nothing(place):
    given, out = samples.named(), place / "made" / "ratings"
    out.parent.mkdir()

    def work():
        given.write(out)

    work()
    wanted = contents(out)
    shutil.rmtree(out)
    found = killed_everywhere(work, out, wanted, ("seal", "place_folder"))
    assert found["seal"] > 2
    assert found["place"] > 5


def test_a_save_killed_at_any_file_operation_leaves_the_old_model_or_the_new(place):
    old, new = (samples.small(MatrixFactorization, n_factors=k).fit(samples.counts())
                for k in (2, 3))
    path = place / "model"
    old.save(path)
    whole = [path.read_bytes()]
    points = points_of(lambda: new.save(path), place, ("replacing",))
    whole.append(path.read_bytes())
    old.save(path)
    assert {"replace"} <= set(map(stage_of, points))
    for number in range(len(points)):
        assert kills.dies_at(number, lambda: new.save(path), place)
        assert path.read_bytes() in whole
        assert load(path).n_factors in (2, 3)
        old.save(path)
        assert [each.name for each in place.iterdir()] == ["model"]


DAYS = {"update": lambda model: model.update(Ratings.from_arrays(["u1", "x"], ["y", "i2"],
                                                                 [3.0, 4.0])),
        "partial_fit": lambda model: model.partial_fit(
            Ratings.from_arrays(["u1", "x"], ["i1", "i2"], [3.0, 4.0]), users=["u1", "x"]),
        "forget": lambda model: model.forget(["u1"], ["i2"])}


@pytest.mark.parametrize("name", DAYS)
def test_a_change_that_is_killed_leaves_the_file_of_the_old_model_or_of_the_new(
        place, name, monkeypatch):
    path = place / "model"
    samples.small(MatrixFactorization).fit(samples.named(samples.counts())).save(path)
    old = path.read_bytes()

    def work():
        DAYS[name](load(path)).save(path)

    points = points_of(work, place, ("replacing",))
    new = path.read_bytes()
    assert new != old
    path.write_bytes(old)
    for number in range(len(points)):
        assert kills.dies_at(number, work, place)
        assert path.read_bytes() in (old, new)
        assert load(path).recommend(["u2"], k=3)[0].shape == (1, 3)
        path.write_bytes(old)
    for step in ("_solve_items", "_solve_users", "settled"):        # amid the work
        with monkeypatch.context() as patch:
            patch.setattr(solving, step, lambda *_, **__: kills.die())
            if kills.dies(work):
                assert path.read_bytes() == old
    work()
    assert path.read_bytes() == new
    assert [each.name for each in place.iterdir()] == ["model"]


def test_an_update_killed_at_any_moment_leaves_the_old_model(place):
    given, path = place / "given", place / "model"
    samples.small(MatrixFactorization).fit(samples.named(samples.counts())).save(given)

    def work():
        DAYS["update"](load(given)).save(path)

    work()
    whole = [path.read_bytes(), given.read_bytes()]
    path.write_bytes(whole[1])
    for _ in faults.moments(work, 20, seed=0):
        assert path.read_bytes() in whole
        assert load(path).n_users_ in (11, 12)
        path.write_bytes(whole[1])


def test_a_fit_killed_at_any_file_operation_goes_on_to_the_same_bits(place):
    path = place / "checkpoint"

    def work():
        model = samples.small(MatrixFactorization, n_epochs=3)
        return samples.answers(model.fit(samples.counts(), checkpoint=path))

    wanted = work()
    points = points_of(work, place, ())
    assert len(points) > 15
    for number in range(len(points)):
        assert kills.dies_at(number, work, place)
        assert work() == wanted
        assert not list(place.iterdir())


def test_a_download_killed_at_any_file_operation_is_whole_or_not_there(place):
    path = place / "made" / "data"
    with serving(Server()) as server:
        server.block_on_close = False            # (a connection may outlive who was killed)
        server.content = random.Random(0).randbytes(300_000)
        digest = f"sha256:{hashlib.sha256(server.content).hexdigest()}"

        def work():
            download.download(f"http://127.0.0.1:{server.server_port}/", path, digest,
                              progress=False)

        points = points_of(work, place, ("replacing",))
        shutil.rmtree(path.parent)
        assert {"replace", "lock"} <= set(map(stage_of, points))
        for number in range(len(points)):
            assert kills.dies_at(number, work, place)
            assert not path.exists() or path.read_bytes() == server.content
            work()
            assert contents(path.parent) == {"data": server.content}
            shutil.rmtree(path.parent)


@pytest.mark.parametrize("name", ["lists.csv", "lists.csv.gz", "lists.parquet"])
def test_lists_killed_at_any_file_operation_go_on_to_the_same_bytes(place, name, monkeypatch):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    monkeypatch.setattr(lists_out, "MOST_ROWS", 5)
    path = place / name
    model = samples.small(MatrixFactorization).fit(samples.counts())

    def work():
        model.recommend_to(path, k=3)

    points = points_of(work, place, ("replacing", "discard"))
    wanted = path.read_bytes()
    path.unlink()
    assert len(points) > 20
    for number in range(len(points)):
        assert kills.dies_at(number, work, place)
        assert not path.exists() or path.read_bytes() == wanted
        work()
        assert contents(place) == {name: wanted}
        path.unlink()
