"""What a fit watches between epochs: an evaluation set, callbacks, patience."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.features import Features
from mfcore.data.ratings import Ratings
from mfcore.metrics.alignment import Alignment
from mfcore.metrics.evaluate import evaluate, requested
from mfcore.solvers.checkpoint import Checkpoint
from mfcore.solvers.loop import Monitor

if TYPE_CHECKING:
    from mfcore.models.base import Recommender

LOWER_IS_BETTER = ("rmse", "mae", "loss")


Callback = Callable[[Any, dict[str, Any]], Any]


class Watched(NamedTuple):
    """What a caller of `fit` wants done between epochs."""

    eval_set: Any
    callbacks: tuple[Callback, ...]
    checkpoint: Checkpoint | None


def callbacks_of(given: Any) -> tuple[Callback, ...]:
    """Return the callbacks of a fit; raise a TypeError for what cannot be called."""
    callbacks = tuple(validation.iterable("callbacks", given))
    for callback in callbacks:
        if not callable(callback):
            raise TypeError(f"callbacks must be functions of (model, record), got {callback!r}")
    return callbacks


def checkpoint_of(model: Recommender, ratings: Ratings,
                  features: tuple[Features | None, Features | None], given: Any
                  ) -> Checkpoint | None:
    """Return the Checkpoint of `fit(checkpoint=given)`, a path or (path, every).

    Raises TypeError for anything else, FileNotFoundError where no file can be, ValueError for
    `every` < 1, for the file of another
    fit, and for hyper-parameters that cannot be written down (a Generator as a seed).
    """
    if given is None:
        return None
    path, every = given if isinstance(given, tuple) and len(given) == 2 else (given, 1)
    params = {name: list(value) if isinstance(value, tuple) else value
              for name, value in model.get_params().items()
              if name not in model._may_change}
    if not all(isinstance(value, (str, int, float, list, type(None)))
               for value in params.values()):
        raise ValueError(f"checkpoint needs hyper-parameters that can be written down, and an "
                         f"integer as random_state, got {params}")
    path = validation.path("checkpoint", path)
    if not path.absolute().parent.is_dir() or path.is_dir():
        raise FileNotFoundError(f"checkpoint must be a file in a folder that is there, got {path}")
    found = Checkpoint(path, validation.integer("every", every, low=1),
                       {"model": type(model).__name__, **params, **_fingerprint(ratings, features)})
    found.read()
    return found


def _fingerprint(ratings: Ratings, features: tuple[Features | None, Features | None]
                 ) -> dict[str, Any]:
    known = [0 if part is None else zlib.crc32("\n".join(part.names).encode(),
                                               _checksum(part.matrix)) for part in features]
    return {"shape of the ratings": list(ratings.shape),
            "checksum of the ratings": _checksum(ratings.by_user, ratings.weights),
            "checksums of the features": known}


def _checksum(matrix: sp.csr_array, weights: np.ndarray | None = None) -> int:
    checksum = 0
    for array in (matrix.indptr, matrix.indices, matrix.data, weights):
        if array is not None:
            checksum = zlib.crc32(np.ascontiguousarray(array).data, checksum)
    return checksum


def monitor_of(model: Recommender, watched: Watched) -> Monitor:
    """Return the Monitor of a model's fit.

    Raises ValueError where `patience` has nothing to watch, or the set does not fit.
    """
    eval_set, callbacks, checkpoint = watched
    asked = model.eval_metric or ("rmse" if model._rates else "ndcg")
    metric = requested([asked], 10, rates=model._rates)[0].key
    if eval_set is None and model.patience is not None:
        raise ValueError("patience needs an eval_set to watch: fit(..., eval_set=validation)")
    evaluate_at = None
    if eval_set is not None:
        fold_in, test = eval_set if isinstance(eval_set, tuple) else (None, eval_set)
        task = Alignment(model, test, fold_in)

        def evaluate_at(at: Any) -> dict[str, float]:
            model._publish(at)
            return evaluate(model, task.test, fold_in=task.fold_in, metrics=[metric],
                            n_threads=model.n_threads)

    def told(callback: Callback) -> Any:
        def call(at: Any, record: dict[str, Any]) -> Any:
            model._publish(at)
            return callback(model, record)
        return call

    return Monitor(evaluate_at, metric if eval_set is not None else None,
                   metric not in LOWER_IS_BETTER, model.patience,
                   tuple(told(callback) for callback in callbacks), model.tol, model.verbose,
                   model.history_, checkpoint)
