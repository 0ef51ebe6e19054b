"""One frame for every fit: check, remember, train, and what is watched between epochs."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.features import Features
from mfcore.data.ratings import Ratings, as_ratings
from mfcore.models import registry
from mfcore.models.inputs import pairs
from mfcore.models.sides import Sides, sides_of
from mfcore.models.storage import fitted_of
from mfcore.objectives.biases import mean_rating
from mfcore.parallel import Pool, thread_count
from mfcore.solvers.checkpoint import Checkpoint
from mfcore.solvers.loop import Monitor, Solver, run

LOWER_IS_BETTER = ("rmse", "mae", "loss")

Callback = Callable[[Any, dict[str, Any]], Any]


class Start(NamedTuple):
    """Where a fit begins.

    solver : what improves `at`, epoch by epoch
    at : the parameters, changed in place
    publish : publish(at) makes them the model's
    finish : finish(at) completes a fit that has ended, however it did; None: nothing is left
    """

    solver: Solver
    at: Any
    publish: Callable[[Any], None]
    finish: Callable[[Any], None] | None = None


class Watched(NamedTuple):
    """What a caller of `fit` wants done between epochs."""

    eval_set: Any
    callbacks: tuple[Callback, ...]
    checkpoint: Checkpoint | None


def train(model: Any, ratings: Any, y: Any = None, *, user_features: Any = None,
          item_features: Any = None, eval_set: Any = None, callbacks: Any = (),
          checkpoint: Any = None, backend: Any = None, **own: Any) -> Any:
    """Fit a model and return it: see `Recommender.fit` for what is given.

    Parameters
    ----------
    backend : object, or None
        Solves on other machines: see `models/factorization/core.py`.
    **own
        What the model's own `fit` takes besides; handed to its `check` and `begin`.
    """
    thread_count(model.n_threads)
    model.validate()
    training = training_ratings(ratings, y)
    if training.weights is not None and model.lacks("weights"):
        raise ValueError(registry.sentence(type(model), "weights"))
    model.check(training, **own)
    for name, given in (("user_features", user_features), ("item_features", item_features)):
        if given is not None:
            model.require(name)
    sides = sides_of(model, training, user_features, item_features)
    watched = Watched(eval_set, callbacks_of(callbacks),
                      checkpoint_of(model, training, sides, checkpoint,
                                    {"eval_set": eval_set, **own}))
    before = dict(vars(model))
    try:
        model.remember(training, sides, mean_rating(training))
        if backend is not None:
            own["backend"] = backend
        start = model.begin(training, sides, np.random.default_rng(model.random_state), **own)
        start.publish(start.at)
        _run(model, start, watched)
    except BaseException:
        if not vars(model).get("history_") or model.history_ is before.get("history_"):
            vars(model).clear()                # no epoch ended: what was there before stays
            vars(model).update(before)
        raise
    return model


def _run(model: Any, start: Start, watched: Watched) -> None:
    """Run the epochs of a fit, and make what they reached the model's, however they end."""
    monitor = monitor_of(model, watched, start.publish)
    try:
        with Pool(model.n_threads) as pool:
            run(start.solver, start.at, pool, model.n_epochs, monitor)
    finally:
        start.publish(start.at)
        if start.finish is not None:
            start.finish(start.at)


def training_ratings(given: Any, y: Any) -> Ratings:
    """Return the Ratings of `fit(ratings)`, or of `fit(X, y)` with X (nnz, 2) ids.

    Raises TypeError for what is neither, ValueError where there is no rating at all.
    """
    ratings = as_ratings("ratings", given) if y is None else \
        Ratings.from_arrays(*pairs("X", given), y)
    if ratings.nnz == 0:
        raise ValueError(f"ratings must hold at least one rating, got {ratings}")
    return ratings


# --------------------------------------------------------------------- between epochs

def callbacks_of(given: Any) -> tuple[Callback, ...]:
    """Return the callbacks of a fit; raise a TypeError for what cannot be called."""
    callbacks = tuple(validation.iterable("callbacks", given))
    for callback in callbacks:
        if not callable(callback):
            raise TypeError(f"callbacks must be functions of (model, record), got {callback!r}")
    return callbacks


def monitor_of(model: Any, watched: Watched, publish: Callable[[Any], None]) -> Monitor:
    """Return the Monitor of a model's fit.

    Raises ValueError where `patience` has nothing to watch, or the set does not fit.
    """
    from mfcore.metrics.evaluate import evaluate, requested
    from mfcore.metrics.measure import Alignment

    eval_set, callbacks, checkpoint = watched
    asked = model.eval_metric or ("rmse" if model.predicts_ratings else "ndcg")
    metric = requested([asked], 10, rates=model.predicts_ratings)[0].key
    if eval_set is None and model.patience is not None:
        raise ValueError("patience needs an eval_set to watch: fit(..., eval_set=validation)")
    evaluate_at = None
    if eval_set is not None:
        fold_in, test = eval_set if isinstance(eval_set, tuple) else (None, eval_set)
        task = Alignment(model, test, fold_in)

        def evaluate_at(at: Any) -> dict[str, float]:
            publish(at)
            return evaluate(model, task.test, fold_in=task.fold_in, metrics=[metric],
                            n_threads=model.n_threads)

    def told(callback: Callback) -> Any:
        def call(at: Any, record: dict[str, Any]) -> Any:
            publish(at)
            return callback(model, record)
        return call

    return Monitor(evaluate_at, metric if eval_set is not None else None,
                   metric not in LOWER_IS_BETTER, model.patience,
                   tuple(map(told, callbacks)), model.tol, model.verbose,
                   model.history_, checkpoint)


# ------------------------------------------------------------------------ checkpoints

def checkpoint_of(model: Any, ratings: Ratings, sides: Sides, given: Any,
                  others: dict[str, Any]) -> Checkpoint | None:
    """Return the Checkpoint of `fit(checkpoint=given)`, a path or (path, every).

    What the bits of a fit depend on identifies it: parameters, ratings, features, and `others`,
    the rest that `fit` takes.  Callbacks do not: they look on, and a resumed fit may have its own.

    Raises TypeError for anything else, FileNotFoundError where no file can be, ValueError for
    `every` < 1, for the file of another fit, and for hyper-parameters that cannot be written
    down (a Generator as a seed).
    """
    if given is None:
        return None
    path, every = given if isinstance(given, tuple) and len(given) == 2 else (given, 1)
    params = {name: list(value) if isinstance(value, tuple) else value
              for name, value in model.get_params().items()
              if name not in model.may_change}
    if not all(isinstance(value, (str, int, float, list, type(None)))
               for value in params.values()):
        raise ValueError(f"checkpoint needs hyper-parameters that can be written down, and an "
                         f"integer as random_state, got {params}")
    path = validation.path("checkpoint", path)
    if not path.absolute().parent.is_dir() or path.is_dir():
        raise FileNotFoundError(f"checkpoint must be a file in a folder that is there, got {path}")
    found = Checkpoint(path, validation.integer("every", every, low=1), {
        "model": type(model).__name__, **params, "shape of the ratings": list(ratings.shape),
        "checksum of the ratings": _checksum(ratings.by_user, ratings.weights),
        "checksums of the features": [_checksum_of_features(side.features) for side in sides],
        **{f"checksum of {name}": checksum(value, ratings) for name, value in others.items()}})
    found.read()
    return found


def checksum(given: Any, ratings: Ratings) -> int | list[int | None] | None:
    """Return the checksum of Ratings, of a fitted model, or a list of those of a tuple.

    ratings : what is trained on; the ids of other Ratings are looked up there.
    """
    if given is None:
        return None
    if isinstance(given, tuple):
        return [checksum(member, ratings) for member in given]  # type: ignore[misc]
    if hasattr(given, "get_params"):
        return _checksum_of_model(given)
    other = as_ratings("eval_set", given)
    ids = [(known, found) for known, found in ((ratings.user_ids, other.user_ids),
                                               (ratings.item_ids, other.item_ids))
           if known is not None and found is not None]
    return zlib.crc32("\n".join(str(one) for pair in ids for each in pair for one in each)
                      .encode(), _checksum(other.by_user, other.weights))


def _checksum_of_model(model: Any) -> int:
    """Return the checksum of what a model has learned: its arrays and numbers."""
    found = zlib.crc32(type(model).__name__.encode())
    for _, value in sorted(fitted_of(model).items()):
        if isinstance(value, (np.ndarray, float)):
            found = zlib.crc32(np.ascontiguousarray(value).data, found)
    return found


def _checksum_of_features(features: Features | None) -> int:
    return 0 if features is None else zlib.crc32("\n".join(features.names).encode(),
                                                 _checksum(features.matrix))


def _checksum(matrix: sp.csr_array, weights: np.ndarray | None = None) -> int:
    checksum = 0
    for array in (matrix.indptr, matrix.indices, matrix.data, weights):
        if array is not None:
            checksum = zlib.crc32(np.ascontiguousarray(array).data, checksum)
    return checksum
