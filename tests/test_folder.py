"""Ratings on disk: what is written comes back mapped, what is damaged is refused, and a sort
within little memory gives what a sort in memory gives."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mfcore import ImplicitMF, MatrixFactorization, Ratings, evaluate, persistence
from mfcore.data import convert as converting
from mfcore.data import folder as files
from mfcore.data.chunks import is_mapped, rows_of_cells
from mfcore.data.convert import convert
from mfcore.data.folder import RatingsFolderError
from mfcore.data.layout import Reading

ARRAYS = ("indptr", "indices", "data")


def drawn(seed=0, n=3000, weighted=False, ids="integers"):
    random = np.random.default_rng(seed)
    cells = random.choice(90 * 70, n, replace=False)
    users, items = cells // 70 * 3 + 7, cells % 70
    if ids == "text":
        users, items = (np.array([f"{name}é{i}" for i in part], object)
                        for name, part in (("u", users), ("i", items)))
    weights = random.integers(1, 5, n) / 4 if weighted else None
    return users, items, random.integers(1, 11, n) / 2, weights


def same(a, b):
    for one, other in ((a.by_user, b.by_user), (a.by_item, b.by_item)):
        assert one.shape == other.shape
        for name in ARRAYS:
            assert getattr(one, name).dtype == getattr(other, name).dtype
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for name in ("weights", "weights_by_item", "user_ids", "item_ids"):
        one, other = getattr(a, name), getattr(b, name)
        assert (one is None) == (other is None)
        if one is not None:
            assert one.tolist() == other.tolist()


@pytest.mark.parametrize("ids", ["integers", "text"])
@pytest.mark.parametrize("weighted", [False, True])
def test_ratings_come_back_as_they_were_written(tmp_path, ids, weighted):
    given = Ratings.from_arrays(*drawn(weighted=weighted, ids=ids))
    given.write(tmp_path / "r")
    opened = Ratings.open(tmp_path / "r")
    same(given, opened)
    same(given, pickle.loads(pickle.dumps(opened)))
    assert all(is_mapped(getattr(opened.by_item, name)) for name in ARRAYS)
    assert len(pickle.dumps(opened)) < 1000


def test_an_existing_folder_is_not_overwritten(tmp_path):
    given = Ratings.from_arrays(*drawn())
    given.write(tmp_path / "r")
    with pytest.raises(FileExistsError, match="remove it first"):
        given.write(tmp_path / "r")
    with pytest.raises(FileNotFoundError, match="no folder"):
        given.write(tmp_path / "none" / "r")


def test_a_write_that_fails_leaves_nothing(tmp_path):
    given = Ratings.from_arrays([(1, 2), (3, 4)], ["a", "b"])      # ids that no file holds
    with pytest.raises(TypeError, match="integers and strings"):
        given.write(tmp_path / "r")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_written_halfway_is_refused(tmp_path):
    Ratings.from_arrays(*drawn()).write(tmp_path / "r")
    (tmp_path / "r" / "header.json").unlink()
    with pytest.raises(RatingsFolderError, match="not written to the end"):
        Ratings.open(tmp_path / "r")


def test_a_short_or_missing_array_is_refused_by_name(tmp_path):
    Ratings.from_arrays(*drawn()).write(tmp_path / "r")
    path = tmp_path / "r" / "item.data.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(RatingsFolderError, match=r"item.data.npy has .* bytes"):
        Ratings.open(tmp_path / "r", verify=False)
    path.unlink()
    with pytest.raises(RatingsFolderError, match=r"item.data.npy is missing"):
        Ratings.open(tmp_path / "r", verify=False)


@pytest.mark.parametrize("name", ["user.data.npy", "header.json"])
def test_a_checksum_that_fails_is_refused_by_name(tmp_path, name):
    Ratings.from_arrays(*drawn()).write(tmp_path / "r")
    path = tmp_path / "r" / name
    text = bytearray(path.read_bytes())
    if name == "header.json":
        text = path.read_bytes().replace(b'"version": 1', b'"version": 2')
        json.loads(text)
    else:
        text[-1] ^= 1
    path.write_bytes(bytes(text))
    with pytest.raises(RatingsFolderError, match=f"{name} does not match its checksum"):
        Ratings.open(tmp_path / "r")


# Folders that somebody made up, with checksums that agree.

def _changed(name, place, value):
    def change(folder):
        array = np.load(folder / name)
        array[place] = value
        np.save(folder / name, array)
    return change


FORGERIES = {
    "a column too large": _changed("user.indices.npy", 3, 2**30),
    "a negative column": _changed("item.indices.npy", 0, -5),
    "cells out of order": _changed("user.indices.npy", slice(None), 0),
    "a row pointer backwards": _changed("user.indptr.npy", 2, 10**6),
    "a value that is none": _changed("item.data.npy", 1, np.nan),
    "a missing array": lambda folder: (folder / "item.indptr.npy").unlink(),
    "no array": lambda folder: (folder / "user.data.npy").write_bytes(b"nothing"),
    "a pickle": lambda folder: np.save(folder / "user.data.npy", np.array([{}, 1], object)),
    "text": lambda folder: np.save(folder / "user.data.npy", np.full(60, "x")),
    "a larger shape than size": lambda folder: (folder / "user.data.npy").write_bytes(
        (folder / "user.data.npy").read_bytes().replace(b"(3000,), }   ", b"(3000000,), }")),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_made_up_folder_is_refused_before_a_kernel_sees_it(tmp_path, forgery):
    Ratings.from_arrays(*drawn()).write(tmp_path / "r")
    FORGERIES[forgery](tmp_path / "r")
    _sealed(tmp_path / "r")
    with pytest.raises(RatingsFolderError):
        Ratings.open(tmp_path / "r")


@pytest.mark.parametrize("change", [
    {"shape": [2**60, 3]}, {"shape": None}, {"shape": "x"}, {"files": 3},
    {"files": {"../other": {"bytes": 1, "sha256": ""}}}, {"format": 1}])
def test_a_made_up_header_is_refused(tmp_path, change):
    Ratings.from_arrays(*drawn()).write(tmp_path / "r")
    (tmp_path / "other").write_bytes(b"x")
    _sealed(tmp_path / "r", **change)
    with pytest.raises(RatingsFolderError):
        Ratings.open(tmp_path / "r")


def _sealed(folder, **changes):
    """Write the header of a folder anew, for the files that are there."""
    path = folder / "header.json"
    header = json.loads(path.read_text())["header"]
    header["files"] = {name: {"bytes": (folder / name).stat().st_size,
                              "sha256": persistence.digest_of_file(folder / name)}
                       for name in header["files"] if (folder / name).exists()}
    header.update(changes)
    path.write_text(json.dumps({"header": header, "sha256": files.digest_of_header(header)}))


# --------------------------------------------------------------------------- the sort

@pytest.fixture
def narrow(monkeypatch):
    """Few cells of memory, so that a small sort has many ranges."""
    monkeypatch.setattr(converting, "CELL_BYTES", converting.LEAST // 150)


def csv(path, users, items, values, weights=None):
    path.write_text("user,item,rating\n" + "".join(
        f"{u},{i},{r}\n" for u, i, r in zip(users, items, values, strict=True)))


@pytest.mark.parametrize("ids", ["integers", "text"])
def test_a_sort_in_little_memory_equals_one_in_memory(tmp_path, narrow, ids):
    cells = drawn(ids=ids)
    for part in range(3):
        csv(tmp_path / f"{part}.csv", *(column[part::3] for column in cells[:3]))
    order = np.concatenate([np.arange(3000)[part::3] for part in range(3)])
    found = convert(tmp_path, tmp_path / "r", memory=converting.LEAST)
    same(found, Ratings.from_arrays(*(column[order] for column in cells[:3])))
    same(found, Ratings.open(tmp_path / "r"))
    assert not list(tmp_path.glob(".r*"))


WATCHED = """
import sys, threading
from pathlib import Path
from mfcore.data.convert import LEAST, convert

def anonymous():
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if "RssAnon" in x)
    return int(line.split()[1]) * 1024

place = Path(sys.argv[1])
convert(place / "few", place / "compiled", memory=LEAST)
before, most, done = anonymous(), [0], threading.Event()

def watch():
    while not done.wait(0.002):
        most.append(anonymous() - before)

watcher = threading.Thread(target=watch)
watcher.start()
convert(place / "many", place / "r", memory=LEAST)
done.set()
watcher.join()
print(max(most) / LEAST)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="too slow in Python")
def test_a_sort_stays_within_the_stated_memory(tmp_path):
    for name, size in (("few", 100), ("many", 1_500_000)):
        (tmp_path / name).mkdir()
        cells = np.arange(size) * 7919 % 30_000_001
        lines = [f"{u},{i},3" for u, i in zip((cells % 3000).tolist(), (cells // 3000).tolist(),
                                              strict=True)]
        (tmp_path / name / "a.csv").write_text("\n".join(["user,item,rating", *lines, ""]))
    found = subprocess.run([sys.executable, "-c", WATCHED, str(tmp_path)], check=True,
                           capture_output=True, text=True)
    assert 0.3 < float(found.stdout) < 1.0


@pytest.mark.parametrize("duplicates", ["last", "mean", "sum"])
def test_repeated_pairs_are_settled_as_in_memory(tmp_path, narrow, duplicates):
    users, items, values, weights = drawn(weighted=True)
    columns = {"user": users % 20, "item": items % 15, "rating": values, "weight": weights}
    parts = [lambda part=part: {name: each[part::2] for name, each in columns.items()}
             for part in range(2)]
    found = convert(parts, tmp_path / "r", duplicates=duplicates, memory=converting.LEAST,
                    reading=Reading(weight="weight"))
    whole = {name: np.concatenate([each[0::2], each[1::2]]) for name, each in columns.items()}
    same(found, Ratings.from_arrays(*whole.values(), duplicates=duplicates))
    with pytest.raises(ValueError, match="must come once"):
        convert(parts, tmp_path / "s", memory=converting.LEAST)


@pytest.mark.parametrize("at", range(1, 40, 4))
def test_an_interrupted_sort_goes_on_to_the_same_bytes(tmp_path, narrow, monkeypatch, at):
    users, items, values, _ = drawn()
    for part in range(3):
        csv(tmp_path / f"{part}.csv", users[part::3], items[part::3], values[part::3])
    expected = convert(tmp_path, tmp_path / "whole", memory=converting.LEAST)
    true_append, calls = converting._append, []

    def failing(path, array):
        calls.append(path)
        if len(calls) == 5 * at:
            true_append(path, array[:len(array) // 2])
            raise KeyboardInterrupt
        true_append(path, array)

    monkeypatch.setattr(converting, "_append", failing)
    with pytest.raises(KeyboardInterrupt):
        convert(tmp_path, tmp_path / "r", memory=converting.LEAST)
    monkeypatch.setattr(converting, "_append", true_append)
    assert not (tmp_path / "r").exists()
    same(convert(tmp_path, tmp_path / "r", memory=converting.LEAST), expected)
    assert (tmp_path / "r" / "header.json").read_bytes() == \
        (tmp_path / "whole" / "header.json").read_bytes()


@pytest.mark.parametrize("name", ["user.data.npy", "item.data.npy", "item.0.raw"])
def test_a_sort_interrupted_in_its_first_range_writes_no_cell_twice(tmp_path, narrow, monkeypatch,
                                                                     name):
    users, items, values, _ = drawn()
    csv(tmp_path / "a.csv", users, items, values)
    true_append = converting._append

    def failing(path, array):
        true_append(path, array)
        if path.name == name:
            raise KeyboardInterrupt

    monkeypatch.setattr(converting, "_append", failing)
    with pytest.raises(KeyboardInterrupt):
        convert(tmp_path, tmp_path / "r", memory=converting.LEAST)
    monkeypatch.setattr(converting, "_append", true_append)
    same(convert(tmp_path, tmp_path / "r", memory=converting.LEAST),
         Ratings.from_arrays(users, items, values))


def test_a_part_with_another_schema_is_named_before_any_work(tmp_path):
    (tmp_path / "a.csv").write_text("user,item,rating\n1,2,3\n")
    (tmp_path / "b.csv").write_text("user,rating,item\n1,3,2\n")
    with pytest.raises(ValueError, match=r"b\.csv has header"):
        convert(tmp_path, tmp_path / "r")
    assert not list(tmp_path.glob(".r*"))


def test_parquet_parts_of_other_types_are_named(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"user": [1, 2], "item": [1, 2], "rating": [3.0, 4.0]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    found = convert(tmp_path, tmp_path / "r")
    same(found, Ratings.from_arrays(*columns.values()))
    pq.write_table(pa.table({**columns, "item": ["x", "y"]}), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"b\.parquet has .*string"):
        convert(tmp_path, tmp_path / "s")


def test_ids_that_are_numbers_here_and_text_there_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("1,2,3\n")
    (tmp_path / "b.csv").write_text("x,2,3\n")
    with pytest.raises(ValueError, match="users are whole numbers in some parts"):
        convert(tmp_path, tmp_path / "r")
    found = convert(tmp_path, tmp_path / "r", reading=Reading(text_ids=True))
    assert found.user_ids.tolist() == ["1", "x"]


def test_a_large_text_file_is_cut_at_ends_of_lines(tmp_path, monkeypatch):
    users, items, values, _ = drawn()
    csv(tmp_path / "a.csv", users, items, values)
    monkeypatch.setattr("mfcore.data.readers.TEXT_BYTES", 1000)
    same(convert(tmp_path / "a.csv", tmp_path / "r"), Ratings.from_arrays(users, items, values))


# ------------------------------------------------------------------------- what uses it

@pytest.mark.parametrize("model", [
    MatrixFactorization(4, n_epochs=2, random_state=0),
    MatrixFactorization(4, n_epochs=2, random_state=0, bias="mean", unknown_weight=0.1,
                        unknown_value="bias"),
    MatrixFactorization(4, n_epochs=2, random_state=0, solver="sgd"),
    ImplicitMF(4, n_epochs=2, random_state=0, confidence="log"),
], ids=["als", "bias", "sgd", "log"])
@pytest.mark.parametrize("weighted", [False, True])
def test_opened_ratings_train_to_the_same_bits(tmp_path, model, weighted):
    given = Ratings.from_arrays(*drawn(weighted=weighted))
    given.write(tmp_path / "r")
    opened = Ratings.open(tmp_path / "r")
    kind, params = type(model), model.get_params()
    a, b = (kind(**params).fit(ratings) for ratings in (given, opened))
    np.testing.assert_array_equal(a.user_factors_, b.user_factors_)
    np.testing.assert_array_equal(a.item_factors_, b.item_factors_)
    assert evaluate(a, given, exclude_seen=False) == evaluate(b, opened, exclude_seen=False)
    np.testing.assert_array_equal(a.recommend()[1], b.recommend()[1])


@pytest.mark.kernel
def test_rows_of_a_chunk_of_cells_are_those_of_all():
    indptr = np.array([0, 0, 3, 3, 4, 9, 9])
    rows = np.repeat(np.arange(6), np.diff(indptr))
    for start in range(9):
        for stop in range(start + 1, 10):
            assert rows_of_cells(indptr, slice(start, stop)).tolist() == rows[start:stop].tolist()


def test_the_command_converts_and_fits_a_folder(tmp_path, capsys):
    from mfcore.cli import main
    users, items, values, _ = drawn()
    csv(tmp_path / "a.csv", users, items, values)
    folder, model = str(tmp_path / "r"), str(tmp_path / "m")
    assert main(["convert", str(tmp_path / "a.csv"), "--out", folder, "--memory", "64.2MiB"]) == 1
    assert "--memory must be a size" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "a.csv"), "--out", folder, "--memory", "0.1GB"]) == 0
    assert main(["fit", folder, "--out", model, "--epochs", "1"]) == 0
    assert "3,000 stored" in capsys.readouterr().out
