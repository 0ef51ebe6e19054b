"""Paths that are no regular files: what writes refuses them, what reads takes pipes or says why."""

from __future__ import annotations

import gzip
import io
import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import samples

import mfcore
from mfcore import (
    MatrixFactorization,
    Popularity,
    Ratings,
    Segmented,
    load,
    persistence,
    read_ratings,
)
from mfcore.atomic import new_folder, replaceable, replacing
from mfcore.cli import main
from mfcore.data import download
from mfcore.data.convert import convert

pytest.importorskip("fcntl")                    # pipes and devices with names in folders
TEXT = "user,item,rating\n1,2,3\n4,5,6\n1,5,2\n"


def fifo(path):
    os.mkfifo(path)


def unix_socket(path):
    made = socket.socket(socket.AF_UNIX)
    before = os.getcwd()
    os.chdir(path.parent)                       # (the name of a socket must be short)
    try:
        made.bind(path.name)
    finally:
        os.chdir(before)
        made.close()


def device(path):
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes devices")


def link_to_fifo(path):
    os.mkfifo(path.with_name("behind"))
    path.symlink_to(path.with_name("behind"))


KINDS = {"a pipe": fifo, "a socket": unix_socket, "a device": device, "linked": link_to_fifo}


@pytest.fixture(params=KINDS)
def strange(request, tmp_path):
    """A path of each kind that is no regular file; it must be there unchanged at the end."""
    path = tmp_path / "strange"
    KINDS[request.param](path)
    before = os.lstat(path)
    yield path
    after = os.lstat(path)
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert {each.name for each in tmp_path.iterdir()} <= {"strange", "behind", "ratings.csv"}


def _written(path):
    with replacing(path) as stream:
        stream.write(b"x")


def _made(path):
    with new_folder(path) as part:
        (part / "x").touch()


def _command(*words):
    def run(path):
        code = main([str(path) if word == "PATH" else word for word in words])
        if code == 1:
            raise OSError("refused")
    return run


WRITERS = {
    "replacing": _written,
    "a new folder": _made,
    "persistence.write": lambda path: persistence.write(path, {}, {}),
    "save": lambda path: samples.small(MatrixFactorization).fit(samples.counts()).save(path),
    "save of segments": lambda path: Segmented(Popularity(), by=[0, 1] * 5 + [0]).fit(
        samples.counts()).save(path),
    "a checkpoint": lambda path: samples.small(MatrixFactorization).fit(
        samples.counts(), checkpoint=path),
    "Ratings.write": lambda path: Ratings(samples.counts()).write(path),
    "convert": lambda path: convert([lambda: {"user": [1], "item": [2], "rating": [3]}], path),
    "download": lambda path: download.download("http://127.0.0.1:9/", path, "md5:"),
    "from_wheel": lambda path: download.from_wheel("x==1", {}, path),
    "fit --out": _command("fit", "nothing.csv", "--out", "PATH"),
    "fetch --csv": _command("fetch", "planted", "--csv", "PATH"),
    "convert --out": _command("convert", "nothing.csv", "--out", "PATH"),
    "demo --picture": _command("demo", "--data", "planted-audiences", "--picture", "PATH"),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_what_writes_refuses_a_path_that_is_no_regular_file(strange, writer, monkeypatch, capsys):
    monkeypatch.setattr(download, "_pip_download", None)
    with pytest.raises(OSError, match="cannot write to|exists; name a new|refused"):
        WRITERS[writer](strange)
    said = capsys.readouterr().err
    assert not said or "cannot write to" in said or "exists; name a new folder" in said


@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/dev/null",
                                  "/dev/nothing-of-that-name", "/proc/self/nothing"])
@pytest.mark.parametrize("linked", [False, True])
def test_open_files_and_the_folder_of_devices_are_refused(path, linked, tmp_path):
    if not os.path.isdir(os.path.dirname(path)):
        pytest.skip("no such folder here")
    if linked:
        (tmp_path / "first").symlink_to(path)
        (tmp_path / "second").symlink_to("first")
        path = tmp_path / "second"
    with pytest.raises(FileExistsError, match="cannot write to .*; name a file on a disk"):
        replaceable(path)


def test_the_standard_output_is_refused_where_it_is_a_file(tmp_path):
    code = "import mfcore.atomic as a; a.replaceable('/dev/stdout')"
    with (tmp_path / "out").open("wb") as out:
        ran = subprocess.run([sys.executable, "-c", code], stdout=out, stderr=subprocess.PIPE)
    assert b"cannot write to /dev/stdout: it is in a folder of devices" in ran.stderr


def test_nobody_is_told_to_remove_a_device(strange):
    with pytest.raises(FileExistsError, match=r"exists; name a new folder: it is a \w+$"):
        Ratings(samples.counts()).write(strange)


def test_links_to_files_and_to_nothing_are_written_through(tmp_path):
    for name in ("there", "absent"):
        (tmp_path / f"to-{name}").symlink_to(tmp_path / name)
    (tmp_path / "there").write_text("old")
    for name in ("there", "absent"):
        with replacing(tmp_path / f"to-{name}") as stream:
            stream.write(b"new")
        assert (tmp_path / name).read_text() == "new"
        assert (tmp_path / f"to-{name}").is_symlink()


def test_a_folder_is_not_made_in_place_of_a_link_to_nothing(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    with pytest.raises(FileExistsError, match="link exists; name a new folder"), \
            new_folder(tmp_path / "link"):
        pass


def test_a_pipe_that_appears_while_one_writes_is_not_replaced(tmp_path):
    with pytest.raises(FileExistsError, match="it is a pipe"), \
            replacing(tmp_path / "a") as stream:  # noqa: PT012
        stream.write(b"x")
        os.mkfifo(tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


# ------------------------------------------------------------------------------ reading

@pytest.fixture
def piped(tmp_path):
    """Return a named pipe through which bytes come."""
    threads = []

    def make(data, name="pipe"):
        path = tmp_path / name
        os.mkfifo(path)
        threads.append(threading.Thread(target=path.write_bytes, args=(data,), daemon=True))
        threads[-1].start()
        return path

    yield make
    for thread in threads:
        thread.join(5)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("size", [1, 20_000])
def test_ratings_are_read_from_a_pipe(piped, tmp_path, pack, size):
    lines = "".join(f"{row},{row % 7},{row % 5}\n" for row in range(size))
    data = pack(("user,item,rating\n" + lines).encode())
    (tmp_path / "file").write_bytes(data)
    found, wanted = read_ratings(piped(data)), read_ratings(tmp_path / "file")
    np.testing.assert_array_equal(found.by_user.toarray(), wanted.by_user.toarray())


def test_a_parquet_file_through_a_pipe_is_refused_with_the_cure(piped, tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    out = io.BytesIO()
    pq.write_table(pa.table({"user": [1], "item": [2], "rating": [3.0]}), out)
    with pytest.raises(ValueError, match="parquet file, which is read from its end: write it to"):
        read_ratings(piped(out.getvalue()))
    os.mkfifo(tmp_path / "a.parquet")               # which nobody opens
    with pytest.raises(ValueError, match=r"a\.parquet is a pipe, .* read from its end: write"):
        read_ratings(tmp_path / "a.parquet")


@pytest.mark.parametrize(("data", "message"), [(b"", "pipe is empty"),
                                               (b"\0\1", "pipe is a binary file"),
                                               (b"\x1f\x8b...", "pipe is a damaged")])
def test_what_a_pipe_must_not_bring_is_named(piped, data, message):
    with pytest.raises(ValueError, match=message):
        read_ratings(piped(data))


READERS = {
    "load": (load, "read from its end"),
    "convert": (lambda path: convert([path], path.with_name("out")), "read several times"),
    "convert of a folder": (lambda path: convert(path.parent, path.with_name("out")),
                            "read several times"),
}


@pytest.mark.parametrize("reader", READERS)
def test_what_reads_twice_refuses_a_pipe_at_once(reader, tmp_path):
    os.mkfifo(tmp_path / "part.csv")
    call, why = READERS[reader]
    with pytest.raises(ValueError, match=f"part.csv is a pipe, .* is {why}: write it to a file"):
        call(tmp_path / "part.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["part.csv"]


def test_a_part_that_is_a_link_to_nothing_is_named(tmp_path):
    (tmp_path / "a.csv").write_text(TEXT)
    (tmp_path / "b.csv").symlink_to(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match=r"there is no file .*b\.csv"):
        convert(tmp_path, tmp_path / "out")


@pytest.mark.parametrize("kind", ["a socket", "a device"])
def test_sockets_and_devices_are_not_read(tmp_path, kind):
    KINDS[kind](tmp_path / "strange")
    with pytest.raises(ValueError, match=f"strange is {kind}"):
        read_ratings(tmp_path / "strange")
    with pytest.raises(ValueError, match=f"strange is {kind}"):
        load(tmp_path / "strange")


def test_the_command_takes_ratings_from_its_standard_input(tmp_path):
    ran = subprocess.run([sys.executable, "-m", "mfcore", "fit", "/dev/stdin", "--epochs", "1",
                          "--out", str(tmp_path / "m")], input=TEXT, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert load(tmp_path / "m").ratings_.nnz == 3


def test_commands_take_pipes_where_one_pass_is_enough(piped, tmp_path, capsys):
    samples.small(MatrixFactorization).fit(Ratings.from_arrays([1, 4], [2, 5])).save(tmp_path / "m")
    model = str(tmp_path / "m")
    assert main(["recommend", model, "--users-file", str(piped(b"1\n4\n")), "--k", "1",
                 "--titles", str(piped(b"2,Two\n5,Five\n", "titles"))]) == 0
    assert "user 4\n   1" in (said := capsys.readouterr().out)
    assert "Two" in said
    assert main(["evaluate", model, str(piped(TEXT.encode(), "test"))]) == 0
    assert main(["fit", str(piped(b"", "empty")), "--out", model]) == 1
    assert main(["recommend", str(tmp_path / "pipe"), "--user", "1"]) == 1
    assert main(["convert", str(tmp_path / "pipe"), "--out", str(tmp_path / "r")]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0].endswith("/empty is empty")
    assert all("pipe is a pipe, and what it holds is read" in line for line in said[1:])


def test_gzip_is_known_by_its_content_in_parts_too(tmp_path):
    (tmp_path / "a.csv").write_bytes(gzip.compress(TEXT.encode()))
    (tmp_path / "b.gz").write_text(TEXT)
    found = [convert(tmp_path / name, tmp_path / f"out-{name}") for name in ("a.csv", "b.gz")]
    assert [ratings.nnz for ratings in found] == [3, 3]


@pytest.mark.parametrize(("name", "data", "message"), [
    ("a.csv.gz", gzip.compress(os.urandom(9000))[:5000], "a.csv.gz is a damaged or truncated"),
    ("a.parquet", b"PAR1 and nothing more", r"a\.parquet is a damaged parquet file"),
    ("a.parquet", b"", r"a\.parquet is a damaged parquet file")])
def test_a_damaged_part_is_named(tmp_path, name, data, message):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=message):
        convert(tmp_path / name, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_paths_of_other_kinds_are_told_apart(tmp_path):
    assert mfcore.validation.kind_of(tmp_path) == "a folder"
    assert mfcore.validation.kind_of(Path(__file__)) == "a file"
    assert mfcore.validation.kind_of(tmp_path / "nothing") is None
    assert mfcore.validation.kind_of(Path(__file__) / "below") is None
