"""Kills, full disks, folders that cannot be written, too little memory: nothing is lost."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import faults
import numpy as np
import pytest
import samples
from reliability import record
from test_datasets import Server, serving

import mfcore
from mfcore import MatrixFactorization, Ratings, fetch
from mfcore.data import download
from mfcore.data.convert import convert

resource = pytest.importorskip("resource")          # systems without it have other limits
FORK = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


KILLED = {"fit": "fits killed (kill −9) that go on from their checkpoint to the same bits",
          "save": "saves killed that leave the old file or the new one, whole",
          "fetch": "downloads killed that leave nothing or all of it"}


@FORK
@pytest.mark.parametrize("kind", faults.KINDS)
def test_five_killed_processes_lose_nothing(kind, tmp_path):
    assert faults.KINDS[kind](tmp_path, 5) == 5


@FORK
@pytest.mark.soak
@pytest.mark.parametrize("kind", faults.KINDS)
def test_a_hundred_killed_processes_lose_nothing(kind, tmp_path):
    count = faults.KINDS[kind](tmp_path, 100, seed=1)
    assert count == 100
    record(KILLED[kind], count, "test_faults.py::test_a_hundred_killed_processes_lose_nothing")


# ---------------------------------------------------------------------------- full disk

@contextmanager
def room_for(n_bytes):
    """Let no file grow beyond so many bytes: what a full disk answers, a write does here."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("n_bytes", [0, 100, 2000, 4000])
def test_a_full_disk_leaves_the_old_model_whole(tmp_path, n_bytes):
    model = samples.small(MatrixFactorization).fit(samples.counts())
    model.save(tmp_path / "model")
    before = (tmp_path / "model").read_bytes()
    assert len(before) > n_bytes
    with room_for(n_bytes), pytest.raises(OSError, match="large|space"):
        model.save(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model").read_bytes() == before


def test_a_disk_that_fills_during_a_fit_leaves_the_last_checkpoint_to_go_on_from(tmp_path):
    path, small = tmp_path / "checkpoint", samples.small(MatrixFactorization, n_epochs=6)
    wanted = samples.answers(samples.small(MatrixFactorization, n_epochs=6).fit(samples.counts()))
    filling = []

    def fill(model, record):
        if record["epoch"] == 3:
            filling.append(room_for(100))
            filling[0].__enter__()

    try:
        with pytest.raises(OSError, match="large|space"):
            small.fit(samples.counts(), callbacks=[fill], checkpoint=path)
    finally:
        filling[0].__exit__(None, None, None)
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoint"]
    assert small.recommend(k=1)[0].shape == (11, 1)
    assert samples.answers(small.fit(samples.counts(), checkpoint=path)) == wanted
    assert not path.exists()


def test_a_full_disk_leaves_no_half_folder_and_no_half_download(tmp_path):
    with room_for(200), pytest.raises(OSError, match="large|space"):
        Ratings(samples.counts()).write(tmp_path / "folder")
    with serving(Server()) as server:
        server.content = os.urandom(5000)
        with room_for(200), pytest.raises(OSError, match="large|space"):
            download.download(f"http://127.0.0.1:{server.server_port}/", tmp_path / "data", "md5:",
                              progress=False)
    assert list(tmp_path.iterdir()) == []


WRITERS = {"save": lambda path, model: model.save(path),
           "write": lambda path, model: model.ratings_.write(path),
           "lists.csv": lambda path, model: model.recommend_to(path, k=5),
           "lists.csv.gz": lambda path, model: model.recommend_to(path, k=5),
           "lists.npy": lambda path, model: model.recommend_to(path, k=5),
           "lists.parquet": lambda path, model: model.recommend_to(path, k=5),
           "convert": lambda path, model: convert([lambda: pairs(1000)], path),
           "checkpoint": lambda path, model: model.fit(samples.counts(), checkpoint=path)}


def pairs(n):
    return {"user": np.arange(n) // 8, "item": np.arange(n) % 8, "rating": np.ones(n)}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_told_with_what_could_not_be_written(tmp_path, name):
    if name == "lists.parquet":
        pytest.importorskip("pyarrow")
    model = samples.small(MatrixFactorization, n_epochs=1).fit(samples.counts())
    with room_for(60 if name == "lists.csv.gz" else 300), \
            pytest.raises(OSError, match=rf"^\[Errno \d+\] [\w ]+: '.*{name}") as found:
        WRITERS[name](tmp_path / name, model)
    assert found.value.errno in (errno.EFBIG, errno.ENOSPC)


# ------------------------------------------------------------- folders that are read-only

def test_a_cache_that_cannot_be_written_is_named_with_its_cure(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "access", lambda path, mode: False)     # (root may write anywhere)
    with pytest.raises(PermissionError, match=r"cannot write to .*data_dir or by MFCORE_CACHE"):
        fetch("ml-20m", data_dir=tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="no folder that nobody can write to")
def test_a_cache_that_cannot_be_made_is_named_with_its_cure():
    with pytest.raises(PermissionError, match="cannot write to /proc/none"):
        fetch("ml-20m", data_dir="/proc/none/data", progress=False)


# ------------------------------------------------------------------------ little memory

def print_answers_in_little_memory():
    """Ask for long lists within 60 MB, then as the message says, in batches; print both."""
    cells = samples.random_array((3000, 2000), density=0.002, format="csr",
                                 rng=np.random.default_rng(0))
    model = samples.small(MatrixFactorization).fit(cells)
    model.recommend([0], k=2000)                       # compiled before the limit
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 60_000_000, -1))
    try:
        model.recommend(k=2000)
        answer = "no error"
    except MemoryError as error:
        answer = str(error)
    batches = [model.recommend(range(start, start + 100), k=2000)[0].shape
               for start in range(0, 1000, 100)]
    sys.stdout.write(f"{answer}|{set(batches)}")


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="no figure of memory")
def test_recommending_in_too_little_memory_says_what_it_needs_and_batches_do_it():
    """(In a process of its own: what others have freed would count as well.)"""
    done = subprocess.run(
        [sys.executable, "-c", "import test_faults as t; t.print_answers_in_little_memory()"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, text=True, capture_output=True,
        cwd=os.path.dirname(__file__), check=False)
    assert done.stdout == ("the 2000 best of 2,000 items for 3,000 users need 146 MB besides the "
                           "model; ask for fewer users at a time, a smaller k or fewer threads"
                           "|{(100, 2000)}"), done.stderr


def test_a_count_that_no_memory_holds_is_refused():
    model = samples.small(mfcore.Popularity).fit(samples.counts())
    with pytest.raises(ValueError, match=r"k must be <= 2147483647"):
        model.recommend(k=2**40)
