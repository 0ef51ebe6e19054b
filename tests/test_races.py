"""Two processes at one name: one has it, the other waits or gets a sentence, and all is whole."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import samples
from reliability import record
from test_datasets import Server, serving
from test_kills import contents

from mfcore import MatrixFactorization, Ratings
from mfcore.atomic import owned
from mfcore.data import download
from mfcore.data.convert import convert

pytest.importorskip("fcntl")
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def raced(*works, seed):
    """Run functions in processes of their own at once; return what each said, or its error."""
    told, tell = os.pipe()
    go, start = os.pipe()
    draw = random.Random(seed)
    children = [_started(number, work, go, tell, draw.choice([0, 0, 0.002, 0.01, 0.03]))
                for number, work in enumerate(works)]
    os.close(tell)
    os.write(start, b"!" * len(works))
    with os.fdopen(told) as stream:
        found = dict(json.loads(line) for line in stream)
    for child in children:
        os.waitpid(child, 0)
    os.close(go)
    os.close(start)
    return [found[number] for number in range(len(works))]


def _started(number, work, go, tell, delay):
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            os.read(go, 1)
            time.sleep(delay)
            try:
                answer = work()
            except Exception as error:
                answer = f"{type(error).__name__}: {error}"
            os.write(tell, (json.dumps([number, answer]) + "\n").encode())
        os._exit(0)
    return child


def names(place):
    return sorted(path.name for path in place.iterdir())


# Each race takes a folder and a seed, and raises an AssertionError for what is not as it should be.

def _part(shift):
    return {"user": np.arange(200) % 40, "item": np.arange(200) // 40 + shift,
            "rating": np.arange(200) % 5}


def conversions(place, seed):
    def work(shift):
        ratings = convert([lambda: _part(shift), lambda: _part(shift + 5)], place / "ratings")
        return int(ratings.nnz)

    wanted = []
    for shift in (0, 100):
        work(shift)
        wanted.append(contents(place / "ratings"))
        shutil.rmtree(place / "ratings")
    shifts = [0, 0] if seed % 2 else [0, 100]
    said = raced(*[lambda shift=shift: work(shift) for shift in shifts], seed=seed)
    assert said.count(400) == 1, said
    [other] = [each for each in said if each != 400]
    assert "is in use: process" in other or "exists; name a new folder" in other, said
    assert contents(place / "ratings") == wanted[shifts[said.index(400)] > 0]
    assert names(place) == ["ratings"]


def checkpoints(place, seed):
    def work(n_epochs=5):
        model = samples.small(MatrixFactorization, n_epochs=n_epochs)
        model.fit(samples.counts(), checkpoint=place / "checkpoint")
        return hashlib.sha256(repr(samples.answers(model)).encode()).hexdigest()

    wanted = work(), work(4)
    said = raced(work, lambda: work(4 + seed % 2), seed=seed)
    used = [each for each in said if "is in use: process" in str(each)]
    assert len(used) < 2, said
    assert said[0] in (wanted[0], *used), said
    assert said[1] in (wanted[1 - seed % 2], *used), said
    assert names(place) == []


def saves(place, seed):
    path = place / "model"
    models = [samples.small(MatrixFactorization, n_factors=k).fit(samples.counts())
              for k in (2, 3)]
    whole = []
    for model in models:
        model.save(path)
        whole.append(path.read_bytes())
    said = raced(*[lambda model=model: model.save(path) for model in models], seed=seed)
    assert said == [None, None]
    assert path.read_bytes() in whole
    assert names(place) == ["model"]


def writes(place, seed):
    given = [samples.named(), Ratings(samples.counts())]
    for number, ratings in enumerate(given):
        ratings.write(place / str(number))
    said = raced(*[lambda ratings=ratings: ratings.write(place / "ratings") for ratings in given],
                 seed=seed)
    assert said.count(None) == 1, said
    [refused] = [each for each in said if each is not None]
    assert "exists; name a new folder" in refused
    assert contents(place / "ratings") == contents(place / str(said.index(None)))
    assert names(place) == ["0", "1", "ratings"]


def downloads(place, seed):
    with serving(Server()) as server:
        server.block_on_close = False
        server.content = random.Random(seed).randbytes(300_000)
        digest = f"sha256:{hashlib.sha256(server.content).hexdigest()}"

        def work():
            download.download(f"http://127.0.0.1:{server.server_port}/", place / "data", digest,
                              progress=False)

        assert raced(work, work, seed=seed) == [None, None]
        assert len(server.asked) == 1               # the second takes what the first brought
        assert (place / "data").read_bytes() == server.content
        assert names(place) == ["data"]


def lists(place, seed):
    path = place / ("lists.csv", "lists.csv.gz", "lists.parquet")[seed % 3]
    models = [samples.small(MatrixFactorization, random_state=number).fit(samples.counts())
              for number in (0, seed % 2)]
    whole = []
    for model in models:
        model.recommend_to(path, k=3)
        whole.append(path.read_bytes())
        path.unlink()
    said = raced(*[lambda model=model: model.recommend_to(path, k=3) for model in models],
                 seed=seed)
    used = [each for each in said if "is in use: process" in str(each)]
    assert len(used) < 2, said
    assert all(isinstance(each, int) for each in said if each not in used), said
    assert path.read_bytes() in whole
    assert names(place) == [path.name]


RACES = {"conversions to one folder": conversions, "fits with one checkpoint": checkpoints,
         "saves of one file": saves, "writes of one folder": writes,
         "downloads of one file": downloads, "lists for one file": lists}


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda opened: None)          # (no machine fails here)

    def run_all(race, seeds):
        for seed in seeds:
            place = tmp_path / str(seed)
            place.mkdir()
            race(place, seed)
        return len(seeds)
    return run_all


@pytest.mark.parametrize("what", RACES)
def test_two_processes_at_one_name_break_nothing(what, run):
    run(RACES[what], range(4))


@pytest.mark.soak
@pytest.mark.parametrize("what", RACES)
def test_fifty_pairs_of_processes_break_nothing(what, run):
    count = run(RACES[what], range(50))
    record(f"pairs of processes at once, {what}: all whole, one waits or gets a sentence", count,
           "test_races.py::test_fifty_pairs_of_processes_break_nothing")


# --------------------------------------------------------------------------- the lock itself

def test_a_folder_that_cannot_be_written_to_is_named_before_any_work():
    model = samples.small(MatrixFactorization).fit(samples.counts())
    place = Path(tempfile.mkdtemp())            # (which others may enter)
    folder, ratings = place / "folder", Ratings(samples.counts())
    folder.mkdir()
    model.save(folder / "model")
    before = contents(folder)
    place.chmod(0o755)
    folder.chmod(0o555)
    file = folder / "file.csv"
    writes = [lambda: model.save(folder / "model"), lambda: model.recommend_to(file),
              lambda: ratings.write(file), lambda: convert([lambda: _part(0)], file),
              lambda: samples.small(MatrixFactorization).fit(ratings, checkpoint=file)]

    def as_anybody(write):
        def work():
            if os.geteuid() == 0:
                os.setuid(65534)
            write()
        return work

    try:
        for said in raced(*map(as_anybody, writes), seed=0):
            assert "PermissionError: cannot write " in said, said
            assert said.endswith(f"the folder {folder} cannot be written to"), said
        assert contents(folder) == before
    finally:
        folder.chmod(0o755)
        shutil.rmtree(place)


def test_the_second_is_told_who_has_the_name(tmp_path):
    with owned(tmp_path / "a", "bakes it"), \
            pytest.raises(BlockingIOError, match=f"a is in use: process {os.getpid()} bakes it"), \
            owned(tmp_path / "a", "eats it"):
        pass
    assert names(tmp_path) == []


def test_two_names_are_two_locks_and_two_paths_of_one_file_are_one(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with owned(tmp_path / "a", "bakes it"), owned(tmp_path / "b", "bakes it"), \
            pytest.raises(BlockingIOError), owned(tmp_path / "link", "eats it"):
        pass
    assert names(tmp_path) == ["link"]


def test_who_waits_goes_on_when_the_first_has_ended(tmp_path):
    order = []

    def second():
        with owned(tmp_path / "a", "eats it", wait=True):
            order.append("eaten")

    thread = threading.Thread(target=second)
    with owned(tmp_path / "a", "bakes it"):
        thread.start()
        time.sleep(0.05)
        order.append("baked")
    thread.join()
    assert order == ["baked", "eaten"]
    assert names(tmp_path) == []


def test_a_lock_ends_with_its_process_and_not_with_the_forks_of_it(tmp_path):
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        with owned(tmp_path / "a", "bakes it"):
            grandchild = os.fork()
            if grandchild == 0:
                time.sleep(5)
                os._exit(0)
            os.write(tell, str(grandchild).encode())
            os._exit(9)                         # as if killed: nothing is tidied up
    grandchild = int(os.read(told, 20))
    os.waitpid(child, 0)
    start = time.monotonic()
    with owned(tmp_path / "a", "eats it"):
        assert time.monotonic() - start < 2
    os.kill(grandchild, 9)
    assert names(tmp_path) == []


def test_a_fork_that_ends_in_an_error_takes_nothing_from_its_parent(tmp_path):
    with owned(tmp_path / "a", "bakes it"):
        child = os.fork()
        if child == 0:
            with suppress(KeyError), owned(tmp_path / "b", "eats it"):
                raise KeyError
            os._exit(0)
        os.waitpid(child, 0)
        assert len(names(tmp_path)) == 1


def test_many_threads_at_one_name_have_it_one_after_the_other(tmp_path):
    inside, most = [], []

    def work():
        for _ in range(20):
            with owned(tmp_path / "a", "bakes it", wait=True):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 160
    assert names(tmp_path) == []


def test_a_name_that_its_owner_has_left_is_had_although_others_tidy_up(tmp_path):
    done = threading.Event()

    def tidy():
        while not done.is_set():
            Path(tmp_path / "other").write_bytes(b"")
            with suppress(OSError):
                Ratings(samples.counts()).write(tmp_path / "ratings")
            shutil.rmtree(tmp_path / "ratings", ignore_errors=True)

    thread = threading.Thread(target=tidy)
    thread.start()
    try:
        for _ in range(100):
            with owned(tmp_path / "a", "bakes it"):
                pass
    finally:
        done.set()
        thread.join()
