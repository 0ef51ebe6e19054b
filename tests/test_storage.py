"""`save` and `load`: the same model again, or the old file, or a clear refusal."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import samples

import mfcore
from mfcore import BiasOnly, ImplicitMF, MatrixFactorization, Popularity, Ratings, persistence
from mfcore.data.features import Features
from mfcore.models.sides import Side
from mfcore.persistence import ModelFileError

CASES = [*samples.CONFIGURATIONS, *samples.IMPLICIT]


def named(kind: str, cells: Any = None) -> Ratings:
    cells = samples.matrix() if cells is None else cells
    ids = {"none": (None, None), "int": (np.arange(11) * 7 - 20, np.arange(8) + 2**40),
           "str": (samples.names(11, "ü"), samples.names(8, "i")),
           "mixed": ([*samples.names(10, "u"), 11], [1, 2, *samples.names(6, "i")])}[kind]
    return Ratings(cells, user_ids=ids[0], item_ids=ids[1], weights=samples.weights(cells))


def assert_same(one: Any, other: Any) -> None:
    """The same class, parameters and fitted attributes, bit for bit and type for type."""
    assert type(one) is type(other)
    assert one.get_params() == other.get_params()
    assert sorted(vars(one)) == sorted(vars(other))
    for name, value in vars(other).items():
        got = getattr(one, name)
        if isinstance(value, Ratings):
            assert_same_ratings(got, value)
        elif isinstance(value, Side):
            assert_same_parts(got.named(), value.named())
        elif isinstance(value, np.ndarray):
            assert got.dtype == value.dtype
            assert got.tobytes() == value.tobytes()
        else:
            assert (type(got), got) == (type(value), value)


def assert_same_parts(one: Any, other: Any) -> None:
    """The parts of two sides, bit for bit."""
    assert list(one) == list(other)
    for name, value in other.items():
        got = one[name]
        if isinstance(value, Features):
            assert got.names == value.names
            got, value = got.matrix.toarray(), value.matrix.toarray()
        if isinstance(value, np.ndarray):
            assert (got.dtype, got.tobytes()) == (value.dtype, value.tobytes())
        else:
            assert (type(got), got) == (type(value), value)


def assert_same_ratings(one: Ratings, other: Ratings) -> None:
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(one.by_user, name), getattr(other.by_user, name))
    for name in ("weights", "user_ids", "item_ids"):
        got, wanted = getattr(one, name), getattr(other, name)
        assert (got is None) == (wanted is None)
        assert got is None or (got.dtype == wanted.dtype and got.tolist() == wanted.tolist())


# ----------------------------------------------------------------------- round trips

# Ids are written with the ratings, whatever the model.
@pytest.mark.parametrize(("name", "kind"), [
    *[(name, "mixed") for name in CASES],
    *[("learned", kind) for kind in ("none", "int", "str")]])
def test_a_model_comes_back_bit_for_bit(name, kind, tmp_path):
    cells = samples.counts() if name in samples.IMPLICIT else samples.matrix()
    model = samples.fitted(name, named(kind, cells))
    model.save(tmp_path / "model")
    assert_same(mfcore.load(tmp_path / "model"), model)


@pytest.mark.parametrize("model", [
    MatrixFactorization(3, bias="learned", dtype="float64", tol=0.1, n_epochs=7),
    ImplicitMF.like_ials(3, n_epochs=2, random_state=3), BiasOnly(reg_users=3), Popularity()],
    ids=lambda model: type(model).__name__)
def test_every_class_and_parameter_comes_back(model, tmp_path):
    model.fit(samples.counts())
    model.save(str(tmp_path / "model"))
    assert_same(mfcore.load(str(tmp_path / "model")), model)


@pytest.mark.parametrize("name", ["learned", "bias as unknown", "linear"])
def test_a_loaded_model_answers_as_the_saved_one(name, tmp_path):
    """Of every class: `test_contract.py`; all of its numbers, in every configuration: above."""
    fresh = samples.counts if name in samples.IMPLICIT else samples.matrix
    model = samples.fitted(name)
    model.save(tmp_path / "model")
    read = mfcore.load(tmp_path / "model")
    users, items = (grid.ravel() for grid in np.indices((12, 9)))
    answers = [
        lambda m: m.predict(users, items), lambda m: m.recommend(k=9),
        lambda m: m.recommend(k=3, ratings=fresh(3, 8, seed=9)),
        lambda m: m.similar_items([1, 5], k=3), lambda m: m.explain(2, 5),
        lambda m: m.fold_in_users(fresh(3, 8, seed=9)).factors,
        lambda m: m.fold_in_items(fresh(11, 3, seed=9)).factors,
        lambda m: list(m.objective().values()), lambda m: m.score(fresh(seed=9)),
        lambda m: m.partial_fit(fresh(2, 8, seed=9), users=[3, 11]).user_factors_]
    for ask in answers:
        got, wanted = ask(read), ask(model)
        for one, other in zip(got, wanted, strict=True) if isinstance(got, tuple) else [
                (got, wanted)]:
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["plain", "mean", "learned", "linear"])
def test_without_what_was_seen_a_model_still_predicts_the_same(name, tmp_path):
    cells = samples.counts() if name in samples.IMPLICIT else samples.matrix()
    model = samples.fitted(name, named("str", cells))
    model.save(tmp_path / "whole")
    model.save(tmp_path / "model", seen=False)
    read = mfcore.load(tmp_path / "model")
    assert read.ratings_.nnz == 0
    assert read.ratings_.shape == (11, 8)
    users, items = np.repeat(model.user_ids_, 8), np.tile(model.item_ids_, 11)
    np.testing.assert_array_equal(read.predict(users, items), model.predict(users, items))
    got, wanted = (m.recommend(k=8, exclude_seen=False) for m in (read, model))
    np.testing.assert_array_equal(got[0], wanted[0])
    assert (read.recommend(k=8)[1] > -np.inf).all()           # nothing is known as seen
    np.testing.assert_array_equal(read.fold_in_users(cells[[2]]).factors,
                                  model.fold_in_users(cells[[2]]).factors)


def test_a_model_can_be_read_by_another_process(tmp_path):
    samples.fitted("mean", named("str")).save(tmp_path / "model")
    script = ("import sys, mfcore\n"
              "model = mfcore.load(sys.argv[1])\n"
              "print(type(model).__name__, model.n_users_, model.user_ids_[3])\n")
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "model")],
                          capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONUTF8": "1"}, encoding="utf-8")
    assert done.stdout.split() == ["MatrixFactorization", "11", "ü3"]


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))],
                         ids=["deepcopy", "pickle"])
def test_models_can_be_copied_and_pickled(again):
    model = samples.fitted("learned", named("str"))
    copied = again(model)
    assert_same(copied, model)
    copied.fit(samples.matrix(5, 6))
    assert model.n_users_ == 11


def test_a_loaded_model_can_be_fitted_anew(tmp_path):
    model = samples.fitted("learned")
    model.save(tmp_path / "model")
    read = mfcore.load(tmp_path / "model").fit(samples.matrix(9, 6))
    np.testing.assert_array_equal(
        read.user_factors_, samples.fitted("learned", samples.matrix(9, 6)).user_factors_)


# --------------------------------------------------------------------------- refusals

@pytest.mark.parametrize("user_ids", [[("u", n) for n in range(11)], [("u", 0), *"abcdefghij"]],
                         ids=["tuples", "mixed with a tuple"])
def test_ids_that_are_neither_integers_nor_strings_are_not_saved(user_ids, tmp_path):
    model = samples.fitted("mean", Ratings(samples.matrix(), user_ids=user_ids))
    (tmp_path / "model").write_bytes(b"old")
    with pytest.raises(TypeError, match=r"ratings.user_ids holds .* integers and strings only"):
        model.save(tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model"]


def test_a_generator_is_no_seed_that_could_be_saved(tmp_path):
    model = samples.fitted("mean", random_state=np.random.default_rng(0))
    with pytest.raises(TypeError, match="random_state.*got Generator"):
        model.save(tmp_path / "model")
    assert os.listdir(tmp_path) == []


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    samples.fitted("learned", named("mixed")).save(tmp_path / "model")
    return tmp_path / "model"


def test_truncated_files_are_refused(saved):
    whole = saved.read_bytes()
    for length in [*range(0, len(whole), 211), len(whole) - 1]:
        saved.write_bytes(whole[:length])
        with pytest.raises(ModelFileError, match="truncated, altered or no model file"):
            mfcore.load(saved)


def test_an_altered_number_is_refused(saved):
    whole = saved.read_bytes()
    factors = samples.fitted("learned", named("mixed")).user_factors_.tobytes()
    place = whole.index(factors)
    saved.write_bytes(whole[:place + 5] + bytes([whole[place + 5] ^ 1]) + whole[place + 6:])
    with pytest.raises(ModelFileError, match="altered|checksum"):
        mfcore.load(saved)


def rewritten(path: Path, *, arrays: Any = None, meta: Any = None) -> None:
    """Write the file anew, checksums and all, with some things changed (None: left out)."""
    old, header = persistence.read(path)
    arrays, header = {**old, **(arrays or {})}, {**header, **(meta or {})}
    persistence.write(path, {name: value for name, value in arrays.items() if value is not None},
                      {name: value for name, value in header.items() if value is not None})


def test_a_class_of_another_library_is_never_imported(saved):
    rewritten(saved, meta={"class": "subprocess.Popen"})
    with pytest.raises(ModelFileError, match="unknown class 'subprocess.Popen'"):
        mfcore.load(saved)


@pytest.mark.parametrize("change", [
    {"meta": {"params": None}}, {"meta": {"shape": None}}, {"meta": {"params": {"k": 3}}},
    {"meta": {"shape": [11, 3]}}, {"arrays": {"ratings.indptr": None}},
    {"arrays": {"user_factors_": np.zeros((2, 3), np.float32)}},
    {"arrays": {"item_factors_": None}}],
    ids=["no params", "no shape", "other params", "other shape", "no indptr", "few users",
         "no items"])
def test_parts_that_do_not_fit_together_are_refused(saved, change):
    rewritten(saved, **change)
    with pytest.raises(ModelFileError):
        mfcore.load(saved)


def test_files_of_another_kind_are_refused(tmp_path):
    (tmp_path / "ratings.csv").write_text("user,item,rating\n1,2,3\n")
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("readme", "hello")
    for name in ("ratings.csv", "archive.zip"):
        with pytest.raises(ModelFileError, match=name):
            mfcore.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        mfcore.load(tmp_path / "nowhere")


# ----------------------------------------------------------------------------- atomic

@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=repr)
def test_a_save_that_dies_midway_leaves_the_old_model_whole(saved, monkeypatch, step, error):
    before = saved.read_bytes()

    def die(*_: object) -> None:
        raise error

    monkeypatch.setattr(persistence.os, step, die)
    with pytest.raises(type(error)):
        samples.fitted("mean").save(saved)
    monkeypatch.undo()
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]
    assert isinstance(mfcore.load(saved), MatrixFactorization)


def test_a_new_model_takes_the_place_of_the_old_one(saved):
    samples.fitted("linear").save(saved)
    assert isinstance(mfcore.load(saved), ImplicitMF)
    assert os.listdir(saved.parent) == [saved.name]


# What fuzzing found: each loaded, or raised something else, and failed in use.
@pytest.mark.parametrize("change", [
    lambda arrays, meta: meta.update({"class": {}}),
    lambda arrays, meta: meta.update(shape=[float("inf"), 8]),
    lambda arrays, meta: meta["fitted"].pop("global_mean_"),
    lambda arrays, meta: arrays.update(item_factors_=arrays["item_factors_"].astype(int)),
    lambda arrays, meta: arrays.update(item_factors_=arrays["item_factors_"].astype(">f4")),
    lambda arrays, meta: arrays.update(user_bias_=arrays["user_bias_"][:-1]),
    lambda arrays, meta: arrays.update(user_bias_=arrays["user_bias_"][None]),
    lambda arrays, meta: arrays.update(more_=arrays["user_bias_"]),
    lambda arrays, meta: (arrays.pop("user_bias_"), meta["fitted"].update(user_bias_="x")),
    lambda arrays, meta: meta["fitted"].update(item_feature_names_=[3])],
    ids=["class", "shape", "missing", "dtype", "bytes", "length", "axes", "unknown", "text",
         "names"])
def test_a_forged_description_is_refused_as_a_model_file(change, tmp_path):
    path = tmp_path / "model"
    samples.fitted("mean").save(path)
    arrays, meta = persistence.read(path)
    change(arrays, meta)
    persistence.write(path, arrays, meta)
    with pytest.raises(persistence.ModelFileError):
        mfcore.load(path)


def test_a_model_of_segments_without_its_range_is_refused(tmp_path):
    path = tmp_path / "model"
    samples.small(mfcore.Segmented).fit(samples.counts()).save(path)
    arrays, meta = persistence.read(path)
    del meta["fitted"]["rating_range_"]
    persistence.write(path, arrays, meta)
    with pytest.raises(persistence.ModelFileError, match="rating_range_ is missing"):
        mfcore.load(path)


@pytest.mark.parametrize("change", [
    {"segment_of_user_": lambda codes: codes.astype(np.uint8)},
    {"segment_of_user_": lambda codes: codes - 5},
    {"place_of_user_": lambda places: places + 100}], ids=["dtype", "codes", "places"])
def test_segments_that_are_none_are_refused_as_a_model_file(change, tmp_path):
    path = tmp_path / "model"
    samples.small(mfcore.Segmented).fit(samples.counts()).save(path)
    arrays, meta = persistence.read(path)
    for name, altered in change.items():
        arrays[name] = altered(arrays[name])
    persistence.write(path, arrays, meta)
    with pytest.raises(persistence.ModelFileError):
        mfcore.load(path)


@pytest.mark.parametrize("shape", [[11, 2**40], [2**40, 8], [11, 9], [12, 8], [11], 8, "no"])
@pytest.mark.parametrize("seen", [True, False])
def test_a_shape_other_than_that_of_the_arrays_is_refused_before_it_is_made(tmp_path, shape, seen):
    path = tmp_path / "model"
    samples.small(Popularity).fit(samples.counts()).save(path, seen=seen)
    arrays, meta = persistence.read(path)
    persistence.write(path, arrays, {**meta, "shape": shape})
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError):
            mfcore.load(path)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
