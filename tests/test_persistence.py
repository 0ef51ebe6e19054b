"""Model files: exact, atomic, and refused when a byte is wrong."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from mfcore import persistence
from mfcore.persistence import ModelFileError

META = {"class": "ImplicitMF", "parameters": {"n_factors": 3, "reg": 0.1, "tol": None},
        "history": [{"epoch": 1, "loss": 12.25}], "verbose": False}


def arrays():
    rng = np.random.default_rng(1)
    ids = np.array(["a", "élan", "", "日本", "nul\0", "\ud800"], object)
    return {"user_factors": rng.normal(size=(5, 3)).astype(np.float32), "user_ids": ids,
            "item_ids": np.array([3, 1, 2**70, "mixed"], object), "indptr": np.arange(6)}


def saved(tmp_path, **changes):
    path = tmp_path / "model.mf"
    persistence.write(path, {**arrays(), **changes}, META)
    return path


def rewritten(path, change):
    """Write the archive anew, with valid checksums of its own, after `change(members)`."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def edited_header(path, change):
    def edit(members):
        header = json.loads(members["header.json"])
        change(header)
        members["header.json"] = json.dumps(header).encode()

    return rewritten(path, edit)


def forged(path, **changes):
    """Give `indptr` another dtype or shape, in the header and in its part alike."""
    def change(members):
        header = json.loads(members["header.json"])
        spec = header["arrays"]["indptr"]
        old = persistence._npy_header(spec, False)
        spec.update(changes)
        data = members["indptr.npy"].removeprefix(old)
        members["indptr.npy"] = persistence._npy_header(spec, False) + data
        members["header.json"] = json.dumps(header).encode()

    return rewritten(path, change)


def assert_same(got, wanted):
    assert got.dtype == wanted.dtype
    assert got.shape == wanted.shape
    assert got.flags.f_contiguous == wanted.flags.f_contiguous
    if wanted.dtype == object:
        assert got.tolist() == wanted.tolist()
        assert [*map(type, got)] == [*map(type, wanted)]
    else:
        assert got.tobytes() == wanted.tobytes()


# -------------------------------------------------------------------- round trip

def test_what_is_written_is_read(tmp_path):
    path = saved(tmp_path)
    got, meta = persistence.read(path)
    assert meta == META
    assert sorted(got) == sorted(arrays())
    for name, array in arrays().items():
        assert_same(got[name], array)
        assert got[name].flags.writeable


DTYPES = st.one_of(npst.boolean_dtypes(), npst.integer_dtypes(endianness="?"),
                   npst.floating_dtypes(endianness="?"), npst.complex_number_dtypes(),
                   npst.unicode_string_dtypes(max_len=5), npst.byte_string_dtypes(max_len=5))


@settings(deadline=None, max_examples=60)
@given(array=npst.arrays(DTYPES, npst.array_shapes(min_dims=0, min_side=0, max_side=4)),
       turned=st.booleans())
def test_arrays_come_back_bit_for_bit(tmp_path_factory, array, turned):
    path = tmp_path_factory.mktemp("model") / "any"
    array = array.T if turned else array
    persistence.write(path, {"array": array}, {})
    got = persistence.read(path)[0]["array"]
    assert_same(got, array)


@settings(deadline=None, max_examples=60)
@given(ids=st.lists(st.one_of(st.text(st.characters()), st.integers())))
def test_ids_come_back_exactly(tmp_path_factory, ids):
    path = tmp_path_factory.mktemp("model") / "any"
    array = np.empty(len(ids), object)
    array[:] = ids
    persistence.write(path, {"ids": array}, {})
    assert_same(persistence.read(path)[0]["ids"], array)


def test_neighbouring_surrogates_stay_two_characters(tmp_path):
    ids = np.array(["\ud83d\ude00", "\U0001f600"], object)
    path = saved(tmp_path, user_ids=ids)
    assert persistence.read(path)[0]["user_ids"].tolist() == ids.tolist()


@pytest.mark.parametrize("array", [
    np.arange(24.0).reshape(4, 6)[::2, 1::2],
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.frombuffer(b"\x00" * 16, np.float64),
    np.array([np.nan, -0.0, np.inf]),
], ids=["strided", "fortran", "read-only", "special values"])
def test_any_layout_is_taken(tmp_path, array):
    got = persistence.read(saved(tmp_path, array=array))[0]["array"]
    assert got.tobytes("A") == array.tobytes("A") or got.tobytes() == array.tobytes()
    assert got.flags.writeable


def test_numpy_scalars_and_tuples_in_the_description_become_plain(tmp_path):
    path = tmp_path / "model"
    persistence.write(path, {}, {"mean": np.float32(0.1), "n": np.int64(3), "yes": np.bool_(1),
                                 "range": (1.0, 5.0), "bad": [float("nan")]})
    meta = persistence.read(path)[1]
    assert meta["mean"] == float(np.float32(0.1))
    assert meta["n"] == 3
    assert meta["yes"] is True
    assert meta["range"] == [1.0, 5.0]
    assert np.isnan(meta["bad"][0])


def test_single_arrays_can_be_read(tmp_path):
    path = saved(tmp_path)
    assert persistence.read(path, only=()) == ({}, META)
    assert list(persistence.read(path, only=["indptr"])[0]) == ["indptr"]


def test_numpy_opens_the_file_too(tmp_path):
    with np.load(saved(tmp_path), allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["user_factors"], arrays()["user_factors"])


def test_the_same_content_gives_the_same_bytes(tmp_path):
    first = saved(tmp_path).read_bytes()
    turned = dict(reversed(arrays().items()))
    persistence.write(tmp_path / "other", turned, dict(reversed(META.items())))
    assert (tmp_path / "other").read_bytes() == first
    with zipfile.ZipFile(tmp_path / "other") as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize("name", ["model", "model.npz", "model.mf", "two words.v1.2"])
def test_the_path_is_taken_as_given(tmp_path, name):
    persistence.write(str(tmp_path / name), arrays(), META)
    assert os.listdir(tmp_path) == [name]
    assert persistence.read(str(tmp_path / name))[1] == META


# --------------------------------------------------------------- what is refused

@pytest.mark.parametrize("value", [("a", 1), 1.5, None, True, b"bytes", frozenset()])
def test_ids_other_than_strings_and_integers_are_refused_before_writing(tmp_path, value):
    ids = np.empty(2, object)
    ids[:] = ["fine", value]
    with pytest.raises(TypeError, match="user_ids holds .* at position 1; .* integers and"):
        persistence.write(tmp_path / "model", {"user_ids": ids}, {})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("array", "message"), [
    ([1, 2], "must be an ndarray, got list"),
    (np.zeros(2, [("a", "f4")]), "which a model file does not store"),
    (np.zeros(2, "M8[s]"), "which a model file does not store"),
    (np.full((1, 1), "a", object), "must be one-dimensional"),
])
def test_other_arrays_are_refused_before_writing(tmp_path, array, message):
    with pytest.raises(TypeError, match=f"array .*{message}|array {message}"):
        persistence.write(tmp_path / "model", {"array": array}, {})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["", "../evil", "a/b", "C:x", "1st", "a b", ".hidden"])
def test_names_that_could_lead_elsewhere_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="array names must be letters"):
        persistence.write(tmp_path / "model", {name: np.ones(1)}, {})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("meta", "where"), [
    ({"parameters": {"callback": print}}, r"meta\['parameters'\]\['callback'\]"),
    ({"history": [{1: 2}]}, r"meta\['history'\]\[0\]"),
    ({"array": np.ones(2)}, r"meta\['array'\]"),
])
def test_descriptions_that_are_not_plain_are_refused_by_place(tmp_path, meta, where):
    with pytest.raises(TypeError, match=where):
        persistence.write(tmp_path / "model", {}, meta)
    assert os.listdir(tmp_path) == []


def test_a_missing_folder_and_a_folder_in_the_place_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere"):
        persistence.write(tmp_path / "nowhere" / "model", {}, {})
    with pytest.raises(IsADirectoryError, match="it is a folder"):
        persistence.write(tmp_path, {}, {})
    with pytest.raises(FileNotFoundError):
        persistence.read(tmp_path / "nowhere")


# ------------------------------------------------------------------------ atomic

@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, step, error):
    path = saved(tmp_path)
    before = path.read_bytes()

    def fail(*_):
        raise error

    monkeypatch.setattr(persistence.os, step, fail)
    with pytest.raises(type(error)):
        persistence.write(path, {"other": np.ones(3)}, {})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_a_process_killed_while_writing_leaves_the_old_file_whole(tmp_path):
    path = saved(tmp_path)
    before = path.read_bytes()
    script = ("import os, sys, signal, numpy as np\n"
              "from mfcore import persistence\n"
              "persistence.os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
              "persistence.write(sys.argv[1], {'other': np.ones(100_000)}, {})\n")
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert done.returncode < 0
    assert path.read_bytes() == before
    assert persistence.read(path)[1] == META
    persistence.write(path, {"other": np.ones(3)}, {})
    assert list(persistence.read(path)[0]) == ["other"]


def test_a_new_file_appears_under_its_name_only_when_whole(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(persistence.os, "fsync",
                        lambda _: seen.append((tmp_path / "model").exists()))
    persistence.write(tmp_path / "model", arrays(), META)
    assert seen == [False]


@pytest.mark.skipif(os.name == "nt", reason="file modes and links are POSIX's")
def test_the_mode_of_the_old_file_and_a_link_to_it_are_kept(tmp_path):
    path = saved(tmp_path)
    path.chmod(0o640)
    link = tmp_path / "link"
    link.symlink_to(path)
    persistence.write(link, {"other": np.ones(3)}, {})
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(persistence.read(path)[0]) == ["other"]


@pytest.mark.skipif(os.name == "nt", reason="the umask is POSIX's")
def test_a_new_file_has_the_mode_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    assert saved(tmp_path).stat().st_mode == (tmp_path / "plain").stat().st_mode


# ----------------------------------------------------------------- damaged files

def assert_damaged(path, cause):
    with pytest.raises(ModelFileError, match=cause) as caught:
        persistence.read(path)
    assert str(path) in str(caught.value)


def test_every_truncation_is_noticed(tmp_path):
    path = saved(tmp_path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 3):
        path.write_bytes(whole[:length])
        assert_damaged(path, "truncated, altered or no model file")


def test_no_altered_byte_changes_what_is_read(tmp_path):
    path = saved(tmp_path)
    whole = path.read_bytes()
    noticed = 0
    for place in range(len(whole)):
        altered = bytearray(whole)
        altered[place] ^= 1 << place % 8
        path.write_bytes(altered)
        try:
            got, meta = persistence.read(path)
        except ModelFileError:
            noticed += 1
            continue
        assert meta == META
        for name, array in arrays().items():
            assert_same(got[name], array)
    with zipfile.ZipFile(saved(tmp_path)) as archive:
        padding = sum(struct.unpack("<H", whole[info.header_offset + 28:][:2])[0]
                      for info in archive.infolist())
    assert noticed > 0.8 * (len(whole) - padding)   # the rest are dates and modes in the zip


def test_a_file_cut_in_the_middle_and_glued_is_noticed(tmp_path):
    path = saved(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:600] + whole[640:])
    assert_damaged(path, "cannot read")


@pytest.mark.parametrize("content", [b"", b"user,item,rating\n1,2,3\n", b"PK\x03\x04", bytes(99)])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    path = tmp_path / "ratings.csv"
    path.write_bytes(content)
    assert_damaged(path, "no model file")


def test_another_npz_and_another_program_are_refused(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    assert_damaged(tmp_path / "other.npz", "it has no header.json")
    path = edited_header(saved(tmp_path), lambda header: header.update(format="other"))
    assert_damaged(path, "of another program")


def test_a_newer_version_asks_for_a_newer_mfcore(tmp_path):
    path = edited_header(saved(tmp_path), lambda header: header.update(version=2))
    assert_damaged(path, "format version 2.* install a newer mfcore")


@pytest.mark.parametrize("part", ["user_factors.npy", "user_ids.list"])
def test_altered_values_with_a_valid_zip_fail_the_checksum(tmp_path, part):
    def change(members):
        data = bytearray(members[part])
        data[-2] ^= 1
        members[part] = bytes(data)

    assert_damaged(rewritten(saved(tmp_path), change), f"{part} does not match its checksum")


@pytest.mark.parametrize("change", [
    lambda members: members.pop("indptr.npy"),
    lambda members: members.update({"more.npy": b""}),
    lambda members: members.update({"../more.npy": b""}),
])
def test_missing_and_foreign_parts_are_refused(tmp_path, change):
    assert_damaged(rewritten(saved(tmp_path), change), "list of arrays does not agree")


@pytest.mark.parametrize("change", [
    {"shape": [10**12]}, {"shape": [-6]}, {"shape": [True]}, {"shape": [6.0]}, {"shape": 6},
    {"shape": [5]}, {"shape": [2, 3]}, {"dtype": "<f8"}, {"dtype": "|O"}, {"dtype": "O"},
    {"dtype": "<i4,<i4"}, {"dtype": "<U999999999"}, {"dtype": None}, {"sha256": None},
    {"shape": [0] * 99},
])
def test_an_array_other_than_the_header_says_is_refused(tmp_path, change):
    path = edited_header(saved(tmp_path),
                         lambda header: header["arrays"]["indptr"].update(change))
    assert_damaged(path, "cannot read")


@pytest.mark.parametrize("dtype", ["|O", "<i4,<i4", "<M8[s]", "|V8", "float64"])
def test_a_forged_dtype_is_refused(tmp_path, dtype):
    assert_damaged(forged(saved(tmp_path), dtype=dtype), "a dtype that is never stored")


@pytest.mark.parametrize("shape", [[5], [7], [10**12], [-6], []])
def test_a_forged_shape_is_refused(tmp_path, shape):
    assert_damaged(forged(saved(tmp_path), shape=shape), "does not have the dtype and shape")


@pytest.mark.parametrize("shape", [[-2, -3], [3, 2.0], [6, True], [1] * 99])
def test_an_impossible_shape_of_the_right_size_is_refused(tmp_path, shape):
    assert_damaged(forged(saved(tmp_path), shape=shape), "cannot read")


@pytest.mark.parametrize("header", [[], {"format": "mfcore", "version": 1},
                                    {"format": "mfcore", "version": 1, "arrays": 3, "meta": {}},
                                    {"format": "mfcore", "version": 1, "arrays": {"a": 3}}])
def test_a_malformed_header_is_refused(tmp_path, header):
    def change(members):
        members["header.json"] = json.dumps(header).encode()

    assert_damaged(rewritten(saved(tmp_path), change), "cannot read")


def test_a_list_of_ids_of_another_length_is_refused(tmp_path):
    path = edited_header(saved(tmp_path),
                         lambda header: header["arrays"]["user_ids"].update(shape=[10**12]))
    assert_damaged(path, "list of ids is not of the length")


def test_object_arrays_are_never_unpickled(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.array([print], object), allow_pickle=True)

    def change(members):
        members["indptr.npy"] = buffer.getvalue()

    assert_damaged(rewritten(saved(tmp_path), change), "does not have the dtype and shape")


def test_repeated_and_compressed_parts_are_refused(tmp_path):
    path = saved(tmp_path)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("indptr.npy", b"twice")
    assert_damaged(path, "two parts have the same name")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", bytes(10**6))
    assert_damaged(path, "a part is compressed")


def test_declared_sizes_beyond_the_file_allocate_nothing(tmp_path):
    """Two directory entries over the same bytes, as in an overlapping zip bomb."""
    path = tmp_path / "model"
    persistence.write(path, {"big": np.zeros(250_000), "bit": np.zeros(250_000)}, {})
    header = path.read_bytes()
    directory = header.index(b"PK\x01\x02")
    size = (250_000 * 8 + 128).to_bytes(4, "little")
    altered = header.replace(size * 2, (2**30).to_bytes(4, "little") * 2)
    assert altered[directory:] != header[directory:]
    path.write_bytes(altered)
    tracemalloc.start()
    try:
        assert_damaged(path, "larger than the file")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_reading_needs_little_more_than_the_arrays(tmp_path):
    path = tmp_path / "model"
    persistence.write(path, {"big": np.zeros(10_000_000)}, {})
    tracemalloc.start()
    try:
        persistence.read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 80e6 + 4 * persistence._PIECE


def test_the_module_reads_no_pickle():
    assert "allow_pickle" not in Path(persistence.__file__).read_text("utf-8")
