"""Which parts of a model go into its file: hyper-parameters, fitted arrays, ratings."""

from __future__ import annotations

from importlib import import_module
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from mfcore import persistence
from mfcore.data.canonical import canonical_csr
from mfcore.data.features import Features
from mfcore.data.ratings import Ratings

if TYPE_CHECKING:
    from mfcore.models.base import Recommender

# Where the classes live that a model file may name: nothing else is ever imported by it.
CLASSES = {
    "MatrixFactorization": "mfcore.models.matrix_factorization",
    "ImplicitMF": "mfcore.models.implicit",
    "BPR": "mfcore.models.bpr",
    "NeuralMF": "mfcore.models.neural",
    "EASE": "mfcore.models.linear",
    "RatingAutoencoder": "mfcore.models.autoencoder",
    "MultDAE": "mfcore.models.denoising",
    "MultVAE": "mfcore.models.variational",
    "RecVAE": "mfcore.models.variational",
    "BiasOnly": "mfcore.models.baselines",
    "Popularity": "mfcore.models.baselines",
}


FEATURES = ("user_features_", "item_features_")


def save(model: Recommender, path: str | PathLike[str], *, seen: bool = True) -> None:
    """Write a fitted model to `path`, atomically."""
    fitted = {name: value for name, value in vars(model).items() if name.endswith("_")}
    ratings = fitted.pop("ratings_")
    features = {name: fitted.pop(name, None) for name in FEATURES}
    arrays = {name: value for name, value in fitted.items() if isinstance(value, np.ndarray)}
    plain = {name: value for name, value in fitted.items() if name not in arrays}
    plain["has_seen_"] = seen and model.has_seen_
    arrays.update(_ratings_arrays(ratings, seen))
    if seen:
        arrays.update(_feature_arrays(features))
    persistence.write(path, arrays, {
        "class": type(model).__name__, "params": model.get_params(), "fitted": plain,
        "shape": list(ratings.shape)})


def load(path: str | PathLike[str]) -> Recommender:
    """Read a model that `save` wrote.

    Raises FileNotFoundError, or ModelFileError for a file that is truncated, altered or
    no model.
    """
    arrays, meta = persistence.read(path)
    name = meta.get("class")
    if name not in CLASSES:
        raise persistence.ModelFileError(f"{path} holds a model of unknown class {name!r}")
    try:
        model = _model_of(name, arrays, meta)
        model._validate()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise persistence.ModelFileError(f"{path}: its parts do not fit together: {error}"
                                         ) from error
    return model


def _model_of(name: str, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> Recommender:
    params = {key: tuple(value) if isinstance(value, list) else value
              for key, value in meta["params"].items()}
    model: Recommender = getattr(import_module(CLASSES[name]), name)(**params)
    model.ratings_ = _ratings_of(arrays, meta["shape"])
    _restore_features(model, arrays, meta)
    for key, value in {**meta["fitted"], **arrays}.items():
        if not key.endswith("_") or hasattr(type(model), key):
            raise ValueError(f"{key!r} is no fitted attribute")
        setattr(model, key, tuple(value) if key == "rating_range_" else value)
    n_users, n_items = model.ratings_.shape
    k = model.user_factors_.shape[-1]
    for array, shape in ((model.user_factors_, (n_users, k)), (model.item_factors_, (n_items, k)),
                         (model.user_bias_, (n_users,)), (model.item_bias_, (n_items,)),
                         (model.item_counts_, (n_items,))):
        if array is not None and (array.shape != shape or array.dtype.kind not in "iuf"):
            raise ValueError(f"an array of shape {shape} has shape {array.shape}")
    return model


def _ratings_arrays(ratings: Ratings, seen: bool) -> dict[str, np.ndarray]:
    kept = ratings if seen else ratings.select_cells(np.zeros(ratings.nnz, bool))
    matrix = kept.by_user
    arrays = {"ratings.data": matrix.data, "ratings.indices": matrix.indices,
              "ratings.indptr": matrix.indptr, "ratings.weights": kept.weights,
              "ratings.user_ids": kept.user_ids, "ratings.item_ids": kept.item_ids}
    return {name: array for name, array in arrays.items() if array is not None}


def _feature_arrays(features: dict[str, Features | None]) -> dict[str, np.ndarray]:
    return {f"{name}.{part}": getattr(found.matrix, part) for name, found in features.items()
            if found is not None for part in ("data", "indices", "indptr")}


def _restore_features(model: Recommender, arrays: dict[str, np.ndarray], meta: dict[str, Any]
                      ) -> None:
    """Take the parts of features out of `arrays`; None where the model has or kept none."""
    for name, n_rows in zip(FEATURES, meta["shape"], strict=True):
        if not hasattr(model, "feature_reg"):
            continue
        parts = [arrays.pop(f"{name}.{part}", None) for part in ("data", "indices", "indptr")]
        names = meta["fitted"].get(name.replace("features_", "feature_names_"))
        matrix = None if parts[0] is None else \
            canonical_csr(sp.csr_array(tuple(parts), shape=(n_rows, len(names))), False, name)
        setattr(model, name, None if matrix is None else Features(matrix, names))


def _ratings_of(arrays: dict[str, np.ndarray], shape: Any) -> Ratings:
    """Take the parts of the ratings out of `arrays` and return them as Ratings."""
    part = {name: arrays.pop(f"ratings.{name}", None)
            for name in ("data", "indices", "indptr", "weights", "user_ids", "item_ids")}
    matrix = sp.csr_array((part["data"], part["indices"], part["indptr"]), shape=tuple(shape))
    return Ratings(matrix, weights=part["weights"], user_ids=part["user_ids"],
                   item_ids=part["item_ids"], copy=False)
