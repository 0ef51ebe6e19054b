"""Files of every model whose parts no fit leaves are refused by name, and nothing is loaded.

Fuzzing (fuzzing.py) tries bytes; here every array and number is of a sound file but one.
"""

from __future__ import annotations

import numpy as np
import pytest
import samples
import scipy.sparse as sp

import mfcore
from mfcore import BayesianMF, MatrixFactorization, Ratings, persistence
from mfcore.models.registry import MODELS
from mfcore.persistence import ModelFileError

WHERE = r"/model: its parts do not fit together: .*"


@pytest.fixture(scope="module", params=MODELS)
def parts(request, tmp_path_factory):
    """Arrays and description of a fitted model's file."""
    path = tmp_path_factory.mktemp("file") / "model"
    model = samples.small(getattr(mfcore, request.param))
    features = {} if request.param == "Segmented" or model.lacks("user_features") else \
        {"user_features": [["a"], ["b"]] * 5 + [["a", "c"]]}
    model.fit(samples.counts(), **features).save(path)
    arrays, meta = persistence.read(path)
    return path, arrays, meta


def refused(parts, match, arrays=None, fitted=None):
    path, known, meta = parts
    persistence.write(path, {**known, **(arrays or {})},
                      {**meta, "fitted": {**meta["fitted"], **(fitted or {})}})
    with pytest.raises(ModelFileError, match=WHERE + match):
        mfcore.load(path)


def of_a_fit(name):
    return not name.removeprefix("model0.").startswith("ratings.")


def test_the_untouched_file_is_read(parts):
    path, arrays, meta = parts
    persistence.write(path, arrays, meta)
    assert type(mfcore.load(path)).__name__ == meta["class"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(parts, value):
    for name, array in parts[1].items():
        if array.dtype.kind == "f" and array.size:
            forged = array.copy()
            forged.flat[array.size // 2] = value
            refused(parts, rf"{plain(name)}.*(finite|{value})", {name: forged})


def test_arrays_of_other_lengths_are_refused(parts):
    for name, array in parts[1].items():
        for axis in range(array.ndim if of_a_fit(name) and array.size else 0):
            for forged in (np.delete(array, 0, axis),
                           np.concatenate([array, array.take([0], axis)], axis)):
                refused(parts, "", {name: forged})


def test_vectors_of_another_width_than_the_parameters_say_are_refused(parts):
    path, arrays, meta = parts
    narrow = {name: array[:, 1:] for name, array in arrays.items()
              if name.endswith("_factors_") and array.shape[1]}
    persistence.write(path, arrays, meta)
    model = mfcore.load(path)
    if narrow and "factor" in getattr(model, "fallback_", model).widths():
        refused(parts, "must have the axes", narrow)


def test_arrays_of_other_types_are_refused(parts):
    for name, array in parts[1].items():
        if array.dtype.kind == "f" and of_a_fit(name) and "features_." not in name:
            for kind in (np.float16, np.complex64, ">f4", np.int64):
                refused(parts, f"{plain(name)} is of dtype", {name: array.astype(kind)})


@pytest.mark.parametrize("value", [np.nan, np.inf, "3", None, [1.0], True])
def test_single_numbers_that_no_fit_leaves_are_refused(parts, value):
    for name, number in parts[2]["fitted"].items():
        if isinstance(number, float):
            refused(parts, rf"{name} must be (a real number|finite)", fitted={name: value})


@pytest.mark.parametrize(("name", "values"), [
    ("unknown_weight_", [-1.0]), ("reg_", [-1.0]), ("scale_", [0.0]), ("rating_scale_", [0.0]),
    ("bias_reg_", [[], [1.0], [1.0, -1.0], [1.0] * 3])], ids=lambda value: str(value))
def test_numbers_out_of_bounds_are_refused(parts, name, values):
    for value in values if name in parts[2]["fitted"] else ():
        refused(parts, "", fitted={name: value})


def test_columns_that_are_no_whole_numbers_are_refused(parts):
    for name, array in parts[1].items():
        if name.endswith((".indices", ".indptr")):
            refused(parts, "of dtype complex128", {name: array.astype(complex)})


@pytest.mark.parametrize("bounds", [[np.nan, 5], [1, np.inf], [5, 1], [1], [1, 2, 3], "ab", None])
def test_a_range_of_ratings_that_is_none_is_refused(parts, bounds):
    refused(parts, "", fitted={"rating_range_": bounds})


@pytest.mark.parametrize("history", [None, 3, ["epoch"], {"epoch": 1}])
def test_a_history_that_is_none_is_refused(parts, history):
    refused(parts, "history_ must be", fitted={"history_": history})


@pytest.mark.parametrize("side", ["user", "item"])
def test_counts_that_are_not_those_of_the_ratings_are_refused(parts, side):
    name = f"{side}_counts_"
    for forged in (parts[1][name][::-1].copy(), parts[1][name] - 99, parts[1][name] + 1):
        if not np.array_equal(forged, parts[1][name]):
            refused(parts, f"{name} are not the numbers of ratings", {name: forged})


def plain(name):
    """Return what a message calls an array; parts of ratings are told by the ratings."""
    return name.split(".")[-1] if of_a_fit(name) and "features_." not in name else ""


# ------------------------------------------------------------------------- time, and levels

@pytest.fixture(scope="module", params=["effects", "levels"])
def timed(request, tmp_path_factory):
    """The same of models of ratings with times."""
    path, cells = tmp_path_factory.mktemp("timed") / "model", Ratings(samples.counts()).by_user
    values = sp.csr_array((1.0 + np.arange(cells.nnz) % 3, cells.indices, cells.indptr),
                          shape=cells.shape)
    ratings = Ratings(values, times=(86400 * (np.arange(cells.nnz) % 40)).astype("M8[s]"))
    model = MatrixFactorization(2, n_epochs=2, user_periods=3, item_periods="5D", random_state=0) \
        if request.param == "effects" else BayesianMF(
            2, n_epochs=4, burn_in=2, keep=2, likelihood="ordinal", user_periods=2, random_state=0)
    model.fit(ratings).save(path)
    return path, *persistence.read(path)


@pytest.mark.parametrize(("part", "value", "match"), [
    ("count", None, "count"), ("count", 9, "edges must ascend"), ("first", "x", "first"),
    ("edges", [3, 2], "edges must ascend"), ("edges", None, "edges"), ("width", {}, "width"),
    ("width", -1.0, "width"), ("kind", ["h", False], "unit"), ("kind", ["s", 0], "zone"),
    ("kind", ["ms", False], "not of the times of the ratings"), ("kind", [], "unpack")])
def test_periods_that_no_cut_leaves_are_refused(timed, part, value, match):
    periods = timed[2]["fitted"]["periods_"]
    refused(timed, ".*" + match, fitted={"periods_": {
        **periods, "user": {**periods["user"], part: value}}})


@pytest.mark.parametrize(("column", "value"), [(0, -1), (0, 99), (1, 50), (1, 0.5)])
def test_effects_of_rows_and_periods_that_are_none_are_refused(timed, column, value):
    table = timed[1]["user_drift_"].copy()
    table[1, column] = value
    refused(timed, "user_drift_ must hold numbers of", {"user_drift_": table})


def test_effects_without_periods_are_refused(timed):
    refused(timed, "user_drift_ and the periods of users", fitted={"periods_": {}})
    path, arrays, meta = timed
    persistence.write(path, {name: array for name, array in arrays.items()
                             if name != "user_drift_"}, meta)
    with pytest.raises(ModelFileError, match="user_drift_"):
        mfcore.load(path)


@pytest.mark.parametrize("timed", ["levels"], indirect=True)
def test_levels_that_no_fit_leaves_are_refused(timed):
    levels, cuts = timed[1]["levels_"], timed[1]["cut_points_"]
    for forged in ({"levels_": levels[::-1]}, {"cut_points_": cuts[:, ::-1]}):
        refused(timed, "levels, and the cut points between them, must ascend", forged)
    refused(timed, "ratings must be levels of the fit", {"levels_": levels + 0.5})
    refused(timed, "noise_precision_ must be above 0",
            {"noise_precision_": -timed[1]["noise_precision_"]})
