"""Folders whose arrays are sound one by one, and do not belong together, are refused by name."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import samples
import strategies
from hypothesis import given
from hypothesis import strategies as st

from mfcore import Ratings, persistence
from mfcore.data import folder as files
from mfcore.data import orientations
from mfcore.data.folder import RatingsFolderError

CELLS = samples.counts(9, 7)


def written(folder, weighted=True, cells=CELLS, ids=False):
    weights = np.random.default_rng(0).random(cells.nnz) + 0.1 if weighted else None
    names = {"user_ids": samples.names(9, "u"), "item_ids": samples.names(7, "i")} if ids else {}
    Ratings(cells, weights=weights, **names).write(folder)
    return folder


def seal(folder, **changes):
    """Give the files that are there a header whose sizes and checksums agree with them."""
    header = json.loads((folder / files.HEADER).read_text())["header"]
    header["files"] = {path.name: {"bytes": path.stat().st_size,
                                   "sha256": persistence.digest_of_file(path)}
                       for path in folder.iterdir() if path.name != files.HEADER}
    header.update(changes)
    (folder / files.HEADER).write_text(json.dumps(
        {"header": header, "sha256": files.digest_of_header(header)}))


def refused(folder, match, **changes):
    seal(folder, **changes)
    with pytest.raises(RatingsFolderError, match=f"{folder.name}.*{match}.*write"):
        Ratings.open(folder)


def change(folder, name, function):
    path = folder / name
    np.save(path, function(np.load(path)))


def at(place, value):
    def put(array):
        array[place] = value
        return array
    return put


def swapped(array):
    array[:2] = array[1::-1]
    assert array[0] != array[1]
    return array


@pytest.mark.parametrize("name", ["user.data", "item.data", "user.weights", "item.weights"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(tmp_path, name, value):
    folder = written(tmp_path / "r")
    change(folder, f"{name}.npy", at(3, value))
    refused(folder, rf"{name}\.npy must be finite.*between cells 0 and {CELLS.nnz}")


@pytest.mark.parametrize("side", ["user", "item"])
def test_negative_weights_are_refused(tmp_path, side):
    folder = written(tmp_path / "r")
    change(folder, f"{side}.weights.npy", at(0, -0.5))
    refused(folder, rf"{side}\.weights\.npy must be finite and >= 0")


@pytest.mark.parametrize("name", ["data", "weights"])
@pytest.mark.parametrize("side", ["user", "item"])
def test_sides_with_other_values_are_refused(tmp_path, side, name):
    for number, edit in enumerate((swapped, lambda array: array[::-1], at(-1, 9.5),
                                   lambda array: np.nextafter(array, np.float32(99)))):
        folder = written(tmp_path / f"r{number}")
        change(folder, f"{side}.{name}.npy", edit)
        refused(folder, rf"item\.{name}\.npy is not the transpose of user\.{name}\.npy")


def test_sides_with_other_cells_are_refused(tmp_path):
    for number, other in enumerate((CELLS[::-1], CELLS[:, ::-1], CELLS[[1, 0, *range(2, 9)]])):
        folder, stranger = written(tmp_path / f"r{number}"), tmp_path / f"s{number}"
        written(stranger, cells=other)
        for name in ("indptr", "indices", "data", "weights"):
            (stranger / f"item.{name}.npy").rename(folder / f"item.{name}.npy")
        refused(folder, r"item\.indices\.npy is not the transpose")


def test_a_side_of_fewer_cells_is_refused(tmp_path):
    folder, stranger = written(tmp_path / "r"), tmp_path / "s"
    fewer = Ratings(CELLS).select_cells(np.arange(CELLS.nnz) > 0)
    written(stranger, cells=fewer.by_user)
    for name in ("indptr", "indices", "data", "weights"):
        (stranger / f"item.{name}.npy").rename(folder / f"item.{name}.npy")
    refused(folder, r"item\.indptr\.npy is not the transpose")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return written(tmp_path_factory.mktemp("sound") / "r")


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("name", ["indptr", "indices", "data", "weights"])
@pytest.mark.parametrize("side", ["user", "item"])
@pytest.mark.parametrize("wrong", [
    lambda array: array[:-1], lambda array: np.append(array, array[-1:]),
    lambda array: array[:0], lambda array: array[None], lambda array: array.astype(">f8"),
    lambda array: array.astype(np.float16), lambda array: array.astype(complex)],
    ids=["shorter", "longer", "empty", "2-D", "big-endian", "half", "complex"])
def test_arrays_of_other_lengths_or_types_are_refused(tmp_path, sound, side, name, wrong, verify):
    folder = shutil.copytree(sound, tmp_path / "r")
    change(folder, f"{side}.{name}.npy", wrong)
    seal(folder)
    with pytest.raises(RatingsFolderError, match=rf"{side}\.(indptr|{name})\.npy"):
        Ratings.open(folder, verify=verify)


def test_index_arrays_of_two_types_are_refused(tmp_path):
    folder = written(tmp_path / "r")
    change(folder, "item.indices.npy", lambda array: array.astype(np.int64))
    refused(folder, r"item\.indptr\.npy has 8 entries of int32, and must have 8 of int64")


@pytest.mark.parametrize("name", ["user.weights.npy", "item.weights.npy", "user.data.npy",
                                  "item.indptr.npy"])
def test_an_array_of_one_side_alone_is_refused(tmp_path, name):
    folder = written(tmp_path / "r")
    (folder / name).unlink()
    refused(folder, rf"has no {name}")


@pytest.mark.parametrize("shape", [[9], [9, 7, 1], [9.0, 7], [-9, 7], [7, 9], [9, 8], "97", None])
def test_a_shape_that_is_not_that_of_the_arrays_is_refused(tmp_path, shape):
    refused(written(tmp_path / "r"), "", shape=shape)


def test_ids_of_another_number_are_refused(tmp_path):
    folder, stranger = written(tmp_path / "r", ids=True), tmp_path / "s"
    Ratings(CELLS[:8], user_ids=samples.names(8, "u"),
            item_ids=samples.names(7, "i")).write(stranger)
    (stranger / files.IDS).rename(folder / files.IDS)
    refused(folder, "user_ids must have 9 entries, got 8")


def with_weights(weights):
    return {} if weights is None else {"weights": weights}


@given(strategies.ratings(), st.integers(1, 9))
def test_both_orientations_have_one_fingerprint(ratings, piece):
    """Whatever the pieces in which it is taken."""
    def check():
        orientations.check_same_cells(ratings.by_user, with_weights(ratings.weights),
                                      ratings.by_item, with_weights(ratings.weights_by_item))
    usual = orientations.PIECE
    check()
    orientations.PIECE = piece
    try:
        check()
    finally:
        orientations.PIECE = usual


@given(strategies.ratings(weighted=True), st.data())
def test_one_other_value_gives_another_fingerprint(ratings, data):
    if not ratings.nnz:
        return
    which, place = data.draw(st.sampled_from(["data", "weights"])), data.draw(
        st.integers(0, ratings.nnz - 1))
    by_item, weights = ratings.by_item.copy(), ratings.weights_by_item.copy()
    changed = by_item.data if which == "data" else weights
    changed[place] = np.nextafter(changed[place], changed.dtype.type(np.inf))
    if changed[place] == 0:
        return
    with pytest.raises(ValueError, match=f"item.{which}.npy"):
        orientations.check_same_cells(ratings.by_user, with_weights(ratings.weights), by_item,
                                      with_weights(weights))
