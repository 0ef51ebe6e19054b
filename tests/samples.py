"""Small ratings with what real ones surprise with, and the configurations of the models.

    model = samples.fitted("learned, unknown", solver="cholesky")
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import scipy.sparse as sp

import mfcore
from mfcore import ImplicitMF, MatrixFactorization, MultVAE, Ratings, Segmented
from mfcore.models.registry import MODELS
from mfcore.parallel import Pool

# Every estimator.
EVERY: list[Any] = [getattr(mfcore, name) for name in MODELS]
# What all models have from the base class is tried on these: one of plain vectors, one with a
# scorer and a `recommend` of its own, and one that asks others and has a `fit` of its own.
SHARED: list[Any] = [MatrixFactorization, MultVAE, Segmented]


def definers(*methods: str) -> list[tuple[Any, str]]:
    """Each function of these names once: the first class that has it, and the name.

    A method that is final is tried on one class, and one that is overridden on all that do so.
    """
    found: dict[Any, tuple[Any, str]] = {}
    for method in methods:
        for made in EVERY:
            found.setdefault(getattr(made, method), (made, method))
    return list(found.values())


# One of each way to fill in the formula of `MatrixFactorization`.
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "plain": {"bias": None},
    "mean": {"bias": "mean", "bias_share": 0.7},
    "learned": {"bias": "learned", "bias_reg": 0.9, "bias_reg_scaling": None},
    "plain, unknown": {"bias": None, "unknown_weight": 0.3, "unknown_value": 1.7},
    "mean, unknown": {"bias": "mean", "unknown_weight": 0.3, "unknown_value": 1.7},
    "learned, unknown": {"bias": "learned", "unknown_weight": 0.3, "unknown_value": 1.7},
    "bias as unknown": {"bias": "mean", "unknown_weight": 0.3, "unknown_value": "bias"},
    "balanced": {"bias": "learned", "unknown_weight": "balanced", "reg_scaling": 0.6},
    "heavy unknown": {"bias": "mean", "unknown_weight": 1.6, "unknown_value": "bias",
                      "reg_scaling": "none"},
}

# The same of `ImplicitMF`.
IMPLICIT: dict[str, dict[str, Any]] = {
    "linear": {"confidence": "linear", "alpha": 2.3},
    "log": {"confidence": "log", "alpha": 2.3, "unknown_weight": 0.4},
    "raw": {"confidence": "raw", "alpha": 0.6, "negatives": "zero"},
    "whole matrix": {"confidence": "raw", "alpha": 1.4, "whole_matrix": True,
                     "unknown_weight": 0.3, "reg_scaling": 0.7},
}

SILENT_USER, SILENT_ITEM = 3, 4        # without ratings in every sample of matrix()


def matrix(n_users: int = 11, n_items: int = 8, *, seed: int = 1, density: float = 0.55
           ) -> sp.csr_array:
    """Half stars from 0.5 to 5; one stored zero; a user and an item without ratings."""
    random = np.random.default_rng(seed)
    stored = random.random((n_users, n_items)) < density
    stored[0, :2] = True
    stored[SILENT_USER:SILENT_USER + 1] = stored[:, SILENT_ITEM:SILENT_ITEM + 1] = False
    users, items = np.nonzero(stored)
    values = random.integers(1, 11, len(users)) / 2
    values[1] = 0.0
    return sp.csr_array((values, items, np.searchsorted(users, np.arange(n_users + 1))),
                        shape=(n_users, n_items))


def counts(n_users: int = 11, n_items: int = 8, *, seed: int = 2) -> sp.csr_array:
    """Counts 1..6, otherwise as above, the stored zero too."""
    cells = matrix(n_users, n_items, seed=seed)
    cells.data = np.ceil(cells.data * 1.2)
    return cells


def random_array(shape: tuple[int, int], *, density: float, rng: Any, **form: Any) -> Any:
    """`scipy.sparse.random_array`, whose older versions call `rng` by another name."""
    name = "rng" if "rng" in inspect.signature(sp.random_array).parameters else "random_state"
    return sp.random_array(shape, density=density, **{name: rng}, **form)


def weights(cells: sp.csr_array, seed: int = 3) -> np.ndarray:
    """One weight a cell, between 0.2 and 2; the last is 0."""
    drawn = np.random.default_rng(seed).uniform(0.2, 2.0, cells.nnz)
    drawn[-1] = 0.0
    return drawn


def names(n: int, prefix: str) -> list[str]:
    """prefix0, prefix1, ..."""
    return [f"{prefix}{number}" for number in range(n)]


def named(cells: sp.csr_array | None = None) -> Ratings:
    """Ratings of users u0, u1, ... and items i0, i1, ..."""
    cells = matrix() if cells is None else cells
    return Ratings(cells, user_ids=names(cells.shape[0], "u"),
                   item_ids=names(cells.shape[1], "i"))


def model(name: str, **changes: Any) -> MatrixFactorization | ImplicitMF:
    """An unfitted model of three factors in the named configuration."""
    params = {"n_factors": 3, "reg": 0.4, "n_epochs": 3, "init_scale": 1.0,
              "random_state": 0, "n_threads": 1}
    if name in IMPLICIT:
        return ImplicitMF(**{**params, "reg_scaling": "none", **IMPLICIT[name], **changes})
    params.update(reg_scaling="count", bias_reg=None)
    return MatrixFactorization(**{**params, **CONFIGURATIONS[name], **changes})


def fitted(name: str, ratings: Any = None, **changes: Any) -> MatrixFactorization | ImplicitMF:
    """The same, fitted to `ratings` (None: a sample that suits it)."""
    if ratings is None:
        ratings = counts() if name in IMPLICIT else matrix()
    return model(name, **changes).fit(ratings)


# What makes a fit of each class a matter of milliseconds; other classes have no sizes.
SIZES: dict[str, dict[str, Any]] = {
    "MatrixFactorization": {"n_factors": 3, "n_epochs": 2},
    "ImplicitMF": {"n_factors": 3, "n_epochs": 2},
    "BPR": {"n_factors": 3, "n_epochs": 2},
    "SoftmaxMF": {"n_factors": 3, "n_epochs": 2, "batch_size": 16, "temperature": 0.3},
    "BayesianMF": {"n_factors": 3, "n_epochs": 4, "burn_in": 1, "keep": 2},
    "NeuralMF": {"n_factors": 3, "n_epochs": 2, "hidden": (4,), "batch_size": 16},
    "GraphFilter": {"n_factors": 3, "n_epochs": 2},
    "PureSVD": {"n_factors": 3, "n_epochs": 2},
    **{name: {"n_neighbors": 5} for name in ("ItemKNN", "RP3Beta", "SparseEASE")},
    "RatingAutoencoder": {"n_epochs": 2, "batch_size": 4, "hidden": (6,), "reg": 10.0,
                          "decay": 0.0},
    "MultDAE": {"n_epochs": 2, "batch_size": 4, "hidden": (6,), "n_latent": 3},
    "MultVAE": {"n_epochs": 2, "batch_size": 4, "hidden": (6,), "n_latent": 3},
    "RecVAE": {"n_epochs": 2, "batch_size": 4, "n_hidden": 6, "n_latent": 3, "n_layers": 2},
}


# Segments of some users, by number and by name.
SEGMENTS = {0: "a", 1: "b", 2: "a", 5: "b", 7: "a"}
SEGMENTS.update({f"u{user}": label for user, label in SEGMENTS.items()})


def default(made: Any) -> Any:
    """An unfitted model with the defaults, where a class has one for all it takes."""
    return made(MatrixFactorization(), {}) if made is mfcore.Segmented else made()


def small(made: Any, **changes: Any) -> Any:
    """An unfitted model of any class, quick to fit."""
    if made is mfcore.Segmented:
        return made(small(MatrixFactorization, **changes), dict(SEGMENTS))
    known = set(made._parameter_names())
    quick = {"n_threads": 1, "random_state": 0, **SIZES.get(made.__name__, {}), **changes}
    return made(**{name: value for name, value in quick.items()
                   if name in known or name in changes})


def questions(model: Any, n_asked: int | None = None) -> dict[str, Any]:
    """All that can be asked of a fitted model with the columns of a sample, by name."""
    users, items = (list(range(size) if ids is None else ids)[:n_asked] for size, ids in (
        (model.n_users_, model.user_ids_), (model.n_items_, model.item_ids_)))
    rows, columns = counts(4, model.n_items_, seed=7), counts(model.n_users_, 3, seed=7)
    return {
        "predict": lambda: model.predict(np.repeat(users, len(items)), items * len(users)),
        "predict unknown": lambda: model.predict(["?"], ["?"]),
        "predict new": lambda: model.predict([0, 1, 3], items[:3], ratings=rows),
        "recommend": lambda: model.recommend(users, 12),
        "recommend by cosine": lambda: model.recommend(users, 3, similarity="cosine"),
        "recommend some": lambda: model.recommend(users, 3, items=items[1:5], exclude_seen=False),
        "recommend to new": lambda: model.recommend(ratings=rows, k=3),
        "recommend by features": lambda: model.recommend(user_features=[["a"]]),
        "similar items": lambda: model.similar_items(items, 2),
        "similar users": lambda: model.similar_users(users, 2),
        "explain": lambda: model.explain(users[0], items[0]),
        "fold in users": lambda: model.fold_in_users(rows),
        "fold in items": lambda: model.fold_in_items(columns),
        "objective": lambda: model.objective(),
        "score": lambda: model.score(counts(*model.ratings_.shape, seed=9)),
        "repr": lambda: repr(model)}


def answers(model: Any) -> dict[str, Any]:
    """What a model says to all questions, to the last bit, or why it refuses."""
    found: dict[str, Any] = {}
    with Pool(1):                               # (BLAS is held once, not for each question)
        for name, ask in questions(model).items():
            try:
                found[name] = _bits(ask())
            except (NotImplementedError, ValueError, TypeError) as error:
                found[name] = error.__class__, str(error)
    return found


def _bits(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_bits(each) for each in value]
    value = value.toarray() if sp.issparse(value) else value
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.dtype.str, value.shape, value.tobytes()
    return value.tolist() if isinstance(value, np.ndarray) else value


def stored(cells: sp.csr_array) -> np.ndarray:
    """Which cells are stored, bool, dense; a stored zero is."""
    pattern = sp.csr_array((np.ones(cells.nnz), cells.indices, cells.indptr), cells.shape)
    return pattern.toarray() > 0


def dense(cells: sp.csr_array, values: np.ndarray | None = None) -> np.ndarray:
    """The stored values (or others in their place) in a dense float64 matrix of zeros."""
    values = cells.data if values is None else values
    return sp.csr_array((values, cells.indices, cells.indptr), cells.shape).toarray().astype(
        np.float64)


def slope(function: Any, at: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """The gradient of a scalar function of an array, by central differences."""
    gradient = np.empty(at.shape)
    for place in np.ndindex(at.shape):
        moved = at.astype(np.float64)
        moved[place] += step
        above = function(moved)
        moved[place] -= 2 * step
        gradient[place] = (above - function(moved)) / (2 * step)
    return gradient
