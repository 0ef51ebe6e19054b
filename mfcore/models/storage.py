"""Which parts of a model go into its file: hyper-parameters, fitted arrays, ratings."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore import persistence, validation
from mfcore.atomic import name_of
from mfcore.data.canonical import canonical_csr, moments
from mfcore.data.features import Features
from mfcore.data.ratings import Ratings
from mfcore.models import registry
from mfcore.models.estimator import APART
from mfcore.models.sides import Sides

FEATURES = ("user_features_", "item_features_")
# How a class declares a fitted attribute that is a sparse matrix, on users and items or on the axes
# of `weights_`.
GRAPH, MATRIX = "Ratings", "sp.csr_array"
CSR = ("data", "indices", "indptr")

# The axes of fitted arrays: within a model, those of one name have one length.
AXES = {f"{side}_{name}_": axes.replace("row", side) for side in ("user", "item")
        for name, axes in {
            "factors": "row factor", "bias": "row", "counts": "row",
            "feature_factors": "row_feature factor", "feature_bias": "row_feature",
            "feature_mean": "row_feature", "bias_samples": "sample row",
            "feature_bias_samples": "sample row_feature", "prior_mean": "sample unknown",
            "prior_precision": "sample unknown", "stale": "row"}.items()}
AXES.update(noise_precision_="sample", segment_of_user_="user", place_of_user_="user",
            user_degrees_="user", item_degrees_="item", singular_values_="factor", levels_="level",
            user_drift_="user_effect entry", item_drift_="item_effect entry",
            cut_points_="sample cut")
# What every fit leaves, also one that leaves the rest to models inside.
COMMON = {"mean_rating_", "rating_range_", "has_seen_", "history_"}
# What older files have not, and what it was then.
ADDED: dict[str, Callable[[Any], Any]] = {
    "rating_scale_": lambda model: 1.0, "reg_": lambda model: float(model.reg),
    "bias_reg_": lambda model: [float(_bias_reg(model))] * 2, **dict.fromkeys(
        ("periods_", "user_drift_", "item_drift_", "levels_", "cut_points_"), lambda _: None)}
PAIRS = {"rating_range_", "bias_reg_"}
BOUNDS: dict[str, dict[str, float]] = {"rating_scale_": {"above": 0}, "scale_": {"above": 0},
                                       "reg_": {"low": 0}, "unknown_weight_": {"low": 0}}
WHOLE_NUMBERS = {*(f"{side}_{name}_" for side in ("user", "item") for name in ("counts", "stale")),
                 "segment_of_user_", "place_of_user_"}


def save(model: Any, path: persistence.Place, *, seen: bool = True) -> None:
    """Write a fitted model to `path`, atomically, or to an open stream."""
    (arrays, meta), times = _parts(model, seen), model.ratings_.moments
    arrays.update(_ratings_arrays(model.ratings_, seen))
    meta |= {"shape": list(model.ratings_.shape), **({"times": times.kind} if times else {})}
    persistence.write(path, arrays, meta)


def digest_of(model: Any) -> str:
    """Return a checksum of what a model has learned and of its ratings; not of how it runs."""
    arrays, meta = _parts(model, True)
    arrays.update(_ratings_arrays(model.ratings_, True))
    meta["fitted"].pop("history_", None)
    params = {name: value for name, value in meta.pop("params").items()
              if name not in ("n_threads", "verbose")}
    total = hashlib.sha256(repr((params, meta)).encode("utf-8", "surrogatepass"))
    for name, array in sorted(arrays.items()):
        total.update(f"{name} {array.dtype.str} {array.shape}".encode())
        total.update(repr(array.tolist()).encode("utf-8", "surrogatepass")
                     if array.dtype == object else np.ascontiguousarray(array).data)
    return total.hexdigest()


def _parts(model: Any, seen: bool) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays and the description of a model without its training ratings.

    Models inside it (`models_`) come with it; their ratings are rows of its own.
    """
    fitted = model.fitted_attributes()
    features = {name: fitted.pop(name, None) for name in FEATURES}
    matrices = _matrix_arrays(model, fitted, seen)
    arrays = {name: value for name, value in fitted.items() if isinstance(value, np.ndarray)}
    plain = {name: value for name, value in fitted.items() if name not in arrays}
    plain["has_seen_"] = seen and model.has_seen_
    meta: dict[str, Any] = {"class": type(model).__name__, "fitted": plain,
                            "params": _written(model.get_params(deep=False))}
    arrays.update(matrices)
    if seen:
        arrays.update(_feature_arrays(features))
    for number, inner in enumerate(getattr(model, "models_", ())):
        parts, description = _parts(inner, seen)
        arrays.update({f"model{number}.{name}": value for name, value in parts.items()})
        meta.setdefault("models", []).append(description)
    return arrays, meta


def _written(params: dict[str, Any]) -> dict[str, Any]:
    """Return hyper-parameters as JSON holds them: a model and a mapping as dicts of one key."""
    def plain(value: Any) -> Any:
        if hasattr(value, "get_params"):
            return {"model": [type(value).__name__, _written(value.get_params(deep=False))]}
        if isinstance(value, Mapping):
            return {"pairs": [list(pair) for pair in value.items()]}
        if isinstance(value, tuple):
            return {"tuple": list(value)}
        if isinstance(value, np.ndarray):
            return value.tolist()
        return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value

    return {name: plain(value) for name, value in params.items()}


def _read(params: dict[str, Any]) -> dict[str, Any]:
    """Return hyper-parameters as they were before `_written`."""
    def restored(value: Any) -> Any:
        if isinstance(value, list):
            return list(as_tuples(value))
        if not isinstance(value, dict):
            return value
        if "pairs" in value:
            return dict(as_tuples(value["pairs"]))
        if "tuple" in value:
            return as_tuples(value["tuple"])
        name, inner = value["model"]
        return _made(name, inner)

    return {name: restored(value) for name, value in params.items()}


def as_tuples(value: Any) -> Any:
    """Return what was a tuple, also inside of one, before JSON made lists of tuples."""
    return tuple(map(as_tuples, value)) if isinstance(value, list) else value


def _made(name: str, params: dict[str, Any]) -> Any:
    return getattr(import_module(registry.MODELS[name].module), name)(**_read(params))


def load(path: persistence.Place) -> Any:
    """Read a model that `save` wrote.

    Parameters
    ----------
    path : str, PathLike, or binary stream
        The file.  A stream is read from where it is to its end, and stays open; it need not be
        able to go back.

    Returns
    -------
    model : Recommender
        The estimator that was saved, fitted.

    Raises
    ------
    FileNotFoundError
        No file of that name.
    ModelFileError
        A file that is truncated, altered or no model.
    TypeError, ValueError
        For a stream of text; for one that is closed, open for writing alone, or at its end.
    """
    arrays, meta = persistence.read(path)
    name = meta.get("class")
    if not isinstance(name, str) or name not in registry.MODELS:
        raise persistence.ModelFileError(f"{name_of(path)} holds a model of unknown "
                                         f"class {name!r}")
    try:
        model = _model_of(arrays, meta, _ratings_of(arrays, meta["shape"], meta.get("times")))
        model.validate()
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError,
            RecursionError) as error:
        raise persistence.ModelFileError(f"{name_of(path)}: its parts do not fit "
                                         f"together: {error}") from error
    return model


def _model_of(arrays: dict[str, np.ndarray], meta: dict[str, Any],
              ratings: Ratings) -> Any:
    model = _made(meta["class"], meta["params"])
    model.ratings_ = ratings
    model.remember_shape()
    own = {key: value for key, value in arrays.items() if not key.startswith("model")}
    features = _restored_features(own, meta["fitted"], ratings.shape)
    matrices = _restored_matrices(model, own)
    fitted = {**_added(model, meta["fitted"]), **meta["fitted"], **own, **features, **matrices}
    model.users_, model.items_ = _restored_sides(model, fitted)
    for key, value in fitted.items():
        if not key.endswith("_") or key in APART or hasattr(type(model), key):
            raise ValueError(f"{key!r} is no fitted attribute")
        setattr(model, key, tuple(value) if key in PAIRS else value)
    declared = _declared(type(model))
    _check_arrays(model, COMMON if "models" in meta else set(declared))
    _check_numbers(model, declared)
    model.check_parts()
    if "models" in meta:
        model._take_models([partial(_inner_model, arrays, number, description)
                            for number, description in enumerate(meta["models"])])
    model.seal()
    return model


def _inner_model(arrays: dict[str, np.ndarray], number: int, meta: dict[str, Any],
                 ratings: Ratings) -> Any:
    prefix = f"model{number}."
    own = {name.removeprefix(prefix): value for name, value in arrays.items()
           if name.startswith(prefix)}
    try:
        return _model_of(own, meta, ratings)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{prefix[:-1]}: {error}") from error


def _added(model: Any, stored: dict[str, Any]) -> dict[str, Any]:
    """Return what a file of 0.1.0 lacks."""
    lacking = {*_declared(type(model)), "rating_scale_"} - set(stored)
    return {name: made(model) for name, made in ADDED.items() if name in lacking}


def _bias_reg(model: Any) -> float:
    own = getattr(model, "bias_reg", None)
    return float(model.reg if own is None else own)


def _restored_sides(model: Any, fitted: dict[str, Any]) -> Sides:
    """Take the parts of both sides out of `fitted`."""
    averaged = getattr(model, "features", "learned") == "average"
    sides = Sides(*(model.side_type(name, averaged) for name in ("user", "item")))
    for side in sides:
        older = f"{side.name}_features_" not in fitted         # (of a class that took none then)
        for part, name in zip(side.parts, side.named(), strict=True):
            if name not in fitted and not (older and part.startswith("feature")):
                raise ValueError(f"{name} is missing")
            setattr(side, part, fitted.pop(name, None))
        side.stale = fitted.pop(f"{side.name}_stale_", None)
    return sides


def _check_arrays(model: Any, wanted: set[str]) -> None:
    fitted = model.fitted_attributes()
    for name in sorted(wanted - set(fitted)):
        raise ValueError(f"{name} is missing")
    lengths = {**dict(zip(("user", "item"), model.ratings_.shape, strict=True)), **model.widths()}
    for side in (model.users_, model.items_):
        if side.feature_names is not None:
            if not all(isinstance(name, str) for name in side.feature_names):
                raise ValueError(f"{side.name}_feature_names_ must be strings")
            lengths[f"{side.name}_feature"] = len(side.feature_names)
    for name, value in fitted.items():
        axes = model.weights_axes if name == "weights_" else AXES.get(name)
        if sp.issparse(value):                          # (its shape is that of the axes)
            continue
        if isinstance(value, np.ndarray) and axes is not None:
            _check_array(name, value, axes.split(), lengths)
        elif isinstance(value, np.ndarray) or (axes is not None and value is not None):
            raise ValueError(f"{name} holds {type(value).__name__}, which no fit leaves there")


def _check_array(name: str, array: np.ndarray, axes: list[str], lengths: dict[str, int]) -> None:
    """Raise ValueError for an array that no fit leaves; `lengths` are those known so far."""
    kinds = (np.int32, np.int64) if name in WHOLE_NUMBERS else (np.float32, np.float64)
    if array.dtype not in kinds:
        raise ValueError(f"{name} is of dtype {array.dtype}")
    if array.ndim != len(axes) or any(lengths.setdefault(axis, length) != length
                                      for axis, length in zip(axes, array.shape, strict=True)):
        wanted = ", ".join(f"{axis} {lengths.get(axis, '')}".rstrip() for axis in axes)
        raise ValueError(f"{name} must have the axes ({wanted}), its shape is {array.shape}")
    validation.finite(name, array, "no fit leaves it so")


def _check_numbers(model: Any, declared: dict[str, str]) -> None:
    """Raise for a number that no fit leaves."""
    for name, kind in declared.items():
        if kind == "float" and name in vars(model):
            setattr(model, name, validation.real(name, getattr(model, name),
                                                 **BOUNDS.get(name, {})))
    low, high = (validation.real("rating_range_", bound) for bound in model.rating_range_)
    if low > high:
        raise ValueError(f"rating_range_ must be the least and the largest rating: {low}, {high}")
    user, item = getattr(model, "bias_reg_", (0.0, 0.0))
    for number in (user, item):
        validation.real("bias_reg_", number, low=0)
    validation.boolean("has_seen_", model.has_seen_)
    if not isinstance(model.history_, list) or not all(isinstance(record, dict)
                                                       for record in model.history_):
        raise TypeError("history_ must be a list of dicts")


def _declared(made: type) -> dict[str, str]:
    """Return the fitted attributes that a class and its bases declare, with their types."""
    return {name: kind for base in made.__mro__
            for name, kind in inspect.get_annotations(base).items()
            if name.endswith("_") and name not in APART}


def _ratings_arrays(ratings: Ratings, seen: bool) -> dict[str, np.ndarray]:
    kept = ratings if seen else ratings.select_cells(np.zeros(ratings.nnz, bool))
    matrix = kept.by_user
    arrays = {"ratings.data": matrix.data, "ratings.indices": matrix.indices,
              "ratings.indptr": matrix.indptr, "ratings.weights": kept.weights,
              "ratings.user_ids": kept.user_ids, "ratings.item_ids": kept.item_ids,
              "ratings.times": kept.moments and kept.moments.numbers}
    return {name: array for name, array in arrays.items() if array is not None}


def _matrix_arrays(model: Any, fitted: dict[str, Any], seen: bool) -> dict[str, np.ndarray]:
    """Take sparse matrices out of `fitted`; return their arrays.

    A graph that is the ratings themselves is not written twice.
    """
    found: dict[str, sp.csr_array] = {}
    for name, kind in _declared(type(model)).items():
        if kind == GRAPH:
            graph = fitted.pop(name)
            if not (seen and graph is model.ratings_):
                found[name] = graph.by_user
        elif kind == MATRIX:
            found[name] = fitted.pop(name)
    return {f"{name}.{part}": getattr(matrix, part) for name, matrix in found.items()
            for part in CSR}


def _restored_matrices(model: Any, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Take the parts of sparse matrices out of `arrays`; a graph without is the ratings."""
    found: dict[str, Any] = {}
    lengths = dict(zip(("user", "item"), model.ratings_.shape, strict=True))
    for name, kind in _declared(type(model)).items():
        if kind not in (GRAPH, MATRIX):
            continue
        if kind == GRAPH and f"{name}.indptr" not in arrays:
            if not model.ratings_.nnz:
                raise ValueError(f"{name} is missing")
            found[name] = model.ratings_
            continue
        parts = [arrays.pop(f"{name}.{part}") for part in CSR]
        _check_array(f"{name}.{CSR[0]}", parts[0], ["cell"], {})
        _check_pointers(*parts[1:])
        shape = model.ratings_.shape if kind == GRAPH else \
            tuple(lengths[axis] for axis in model.weights_axes.split())
        matrix = canonical_csr(sp.csr_array(tuple(parts), shape=shape), False, name)
        found[name] = Ratings(matrix, copy=False) if kind == GRAPH else matrix
    return found


def _feature_arrays(features: dict[str, Features | None]) -> dict[str, np.ndarray]:
    return {f"{name}.{part}": getattr(found.matrix, part) for name, found in features.items()
            if found is not None for part in CSR}


def _restored_features(arrays: dict[str, np.ndarray], fitted: dict[str, Any],
                       shape: tuple[int, int]) -> dict[str, Features | None]:
    """Take the parts of features out of `arrays`; None where the model has or kept none."""
    found: dict[str, Features | None] = {}
    for name, n_rows in zip(FEATURES, shape, strict=True):
        known = name.replace("features_", "feature_names_")
        if known not in fitted:
            continue
        parts = [arrays.pop(f"{name}.{part}", None) for part in CSR]
        names = fitted[known]
        _check_pointers(*parts[1:])
        matrix = None if parts[0] is None else \
            canonical_csr(sp.csr_array(tuple(parts), shape=(n_rows, len(names))), False, name)
        found[name] = None if matrix is None else Features(matrix, names)
    return found


def _ratings_of(arrays: dict[str, np.ndarray], shape: Any, kind: Any) -> Ratings:
    """Take the parts of the ratings out of `arrays` and return them as Ratings."""
    counted = [len(arrays[f"{side}_counts_"]) for side in ("user", "item")]
    if list(shape) != counted:              # before anything as large as the shape is made
        raise ValueError(f"the shape {shape} is not that of the counts, {counted}")
    part = {name: arrays.pop(f"ratings.{name}", None)
            for name in ("data", "indices", "indptr", "weights", "times", "user_ids", "item_ids")}
    _check_pointers(part["indices"], part["indptr"])
    matrix = sp.csr_array((part["data"], part["indices"], part["indptr"]), shape=tuple(shape))
    times = moments(part["times"], matrix.nnz, kind)
    return Ratings(matrix, weights=part["weights"], user_ids=part["user_ids"],
                   item_ids=part["item_ids"], times=times, copy=False)


def _check_pointers(*arrays: np.ndarray | None) -> None:
    """Raise for the columns, and the ends of rows, of a matrix that are not whole numbers."""
    for array in arrays:
        if array is not None and array.dtype.kind not in "iu":
            raise TypeError(f"the columns and rows of a matrix are of dtype {array.dtype}")
