"""Files are put in place whole, and pieces of writers that were killed do not stay."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress

import pytest
import samples

from mfcore import Ratings, atomic, persistence
from mfcore.atomic import PREFIX, SUFFIX, new_folder, replacing
from mfcore.data.convert import convert

pytest.importorskip("fcntl")                   # elsewhere pieces stay
FORK = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@FORK
def test_the_next_write_removes_the_piece_of_a_writer_that_was_killed(tmp_path):
    child = os.fork()
    if child == 0:
        with replacing(tmp_path / "model") as stream:
            stream.write(b"half")
            stream.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    [part] = names(tmp_path)
    assert part.startswith(PREFIX)
    persistence.write(tmp_path / "another", {}, {})
    assert names(tmp_path) == ["another"]


@FORK
def test_the_next_write_removes_the_folder_of_a_writer_that_was_killed(tmp_path):
    child = os.fork()
    if child == 0:
        with new_folder(tmp_path / "ratings") as part:
            (part / "half").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert len(names(tmp_path)) == 1
    with new_folder(tmp_path / "ratings") as part, new_folder(tmp_path / "others") as other:
        (part / "whole").write_text("whole")
        assert len(names(tmp_path)) == 2           # the other one is still being written
        (other / "whole").write_text("whole")
    assert names(tmp_path) == ["others", "ratings"]
    assert names(tmp_path / "ratings") == ["whole"]


def test_a_folder_that_fails_leaves_nothing_and_replaces_nothing(tmp_path):
    with suppress(KeyError), new_folder(tmp_path / "a") as part:
        (part / "half").write_text("half")
        raise KeyError
    assert names(tmp_path) == []
    with pytest.raises(OSError, match="a"), new_folder(tmp_path / "a"):       # noqa: PT012
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "first").touch()
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["first"]


@FORK
def test_a_folder_above_a_link_is_that_of_the_system(tmp_path):
    """The folder above what a link leads to, and not that in which the link is."""
    (tmp_path / "far" / "off").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "off")
    above = tmp_path / "link" / ".."
    Ratings(samples.counts()).write(above / "written")
    converted = convert([lambda: {"user": [1], "item": [2], "rating": [3]}], above / "converted")
    assert names(tmp_path / "far") == ["converted", "off", "written"]
    assert Ratings.open(above / "written").nnz == samples.counts().nnz
    assert converted.nnz == 1


def test_a_file_that_somebody_else_writes_meanwhile_is_left(tmp_path):
    told, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with replacing(tmp_path / "slow") as stream:
                stream.write(b"first ")
                os.write(told[1], b"!")
                os.read(go[0], 1)
                stream.write(b"second")
        finally:
            os._exit(0)
    os.read(told[0], 1)
    with replacing(tmp_path / "own") as stream:
        persistence.write(tmp_path / "quick", {}, {})
        assert len(names(tmp_path)) == 3
        stream.write(b"own")
    os.write(go[1], b"!")
    os.waitpid(child, 0)
    assert names(tmp_path) == ["own", "quick", "slow"]
    assert (tmp_path / "slow").read_bytes() == b"first second"
    assert (tmp_path / "own").read_bytes() == b"own"


def test_many_writers_of_one_folder_lose_nothing(tmp_path):
    failed = []

    def write(number):
        try:
            for turn in range(25):
                persistence.write(tmp_path / f"model{number}", {}, {"turn": turn})
                assert persistence.read(tmp_path / f"model{number}")[1] == {"turn": turn}
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert names(tmp_path) == [f"model{number}" for number in range(8)]


def test_files_of_other_names_are_not_touched(tmp_path):
    for name in (f"{PREFIX}notes.txt", f"mine{SUFFIX}", ".hidden"):
        (tmp_path / name).write_text("mine")
    persistence.write(tmp_path / "model", {}, {})
    assert len(names(tmp_path)) == 4


def test_a_piece_is_removed_when_it_is_closed_as_systems_without_locks_want_it(
        tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "fcntl", None)
    opened, was_closed = [], []

    def unlink(part, missing_ok=False):
        was_closed.append(opened[0].closed)
        os.unlink(part)

    monkeypatch.setattr(atomic.Path, "unlink", unlink)
    with suppress(KeyError), replacing(tmp_path / "model") as stream:
        opened.append(stream)
        raise KeyError
    assert was_closed == [True]
    assert names(tmp_path) == []
