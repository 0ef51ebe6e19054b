"""One frame for every fit: check, remember, train, and what is watched between epochs."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mfcore import validation
from mfcore.atomic import owned, replaceable
from mfcore.data.ratings import Ratings, as_ratings
from mfcore.models import registry
from mfcore.models.inputs import pairs
from mfcore.models.sides import Sides, shrunk, sides_of
from mfcore.models.stopping import (
    AUTO,
    MARGIN,
    Callback,
    NothingToWatchError,
    Plan,
    epochs_of,
    parts,
    plan_of,
    searches,
)
from mfcore.objectives.biases import mean_rating
from mfcore.parallel import Pool, thread_count
from mfcore.persistence import plain
from mfcore.solvers.checkpoint import Checkpoint, checksum_of_features, checksum_of_ratings
from mfcore.solvers.loop import Monitor, Solver, run
from mfcore.validation import FitWarning


class Start(NamedTuple):
    """Where a fit begins.

    solver : what improves `at`, epoch by epoch
    at : the parameters, changed in place
    publish : publish(at) makes them the model's
    finish : finish(at) completes a fit that has ended, however it did; None: nothing is left
    simple : simple() returns the parameters of a model without any epoch, which the best must be
        better than; None: there is none
    go_on : go_on(other) puts the parameters of a fitted model of the same shape into `at`, from
        which the solver goes on as from its own; None: it starts from scratch
    """

    solver: Solver
    at: Any
    publish: Callable[[Any], None]
    finish: Callable[[Any], None] | None = None
    simple: Callable[[], Any] | None = None
    go_on: Callable[[Any], None] | None = None


def train(model: Any, ratings: Any, y: Any = None, *, sample_weight: Any = None,
          user_features: Any = None, item_features: Any = None, eval_set: Any = None,
          callbacks: Any = (), checkpoint: Any = None, backend: Any = None, **own: Any) -> Any:
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
    training = training_ratings(ratings, y, sample_weight)
    callbacks = callbacks_of(callbacks)
    if backend is not None and eval_set is None and searches(model):
        raise ValueError("validation cannot hold out ratings of a folder for a cluster: set "
                         "validation=None, and give an eval_set")
    fit: Callable[..., int] = partial(fit_as_planned, user_features=user_features,
                                      item_features=item_features, backend=backend)
    with _held(checkpoint):
        said = _fit(model, training, eval_set, callbacks, checkpoint, fit, own)
    if not hasattr(model, "weights_") and shrunk(
            Sides(model.users_, model.items_),
            model.rating_scale_ if model.predicts_ratings else 1.0):
        from mfcore.models import advice

        said.extend(advice.of_vectors(model))
    for sentence in said:
        validation.warn(sentence, FitWarning)
    return model


def _fit(model: Any, training: Ratings, eval_set: Any, callbacks: tuple[Callback, ...],
         checkpoint: Any, fit: Callable[..., int], own: dict[str, Any]) -> list[str]:
    """Fit by a held-out share where one is to be, else as planned; return what to warn of."""
    if model.n_epochs != AUTO and model.validation is None:
        fit(model, training, Plan(model.n_epochs, model.patience, eval_set, callbacks, checkpoint),
            **own)
        return []
    found = parts(model, training) if eval_set is None else None
    if found is not None:
        try:
            return _fit_by_validation(model, training, found, callbacks, checkpoint, fit, own)
        except NothingToWatchError:
            if model.validation is not None:
                raise
    plan = plan_of(model, training, eval_set)
    fit(model, training, plan._replace(callbacks=callbacks, checkpoint=checkpoint), **own)
    return []


def _fit_by_validation(model: Any, training: Ratings, found: tuple[Ratings, Ratings],
                       callbacks: tuple[Callback, ...], checkpoint: Any,
                       fit: Callable[..., int], own: dict[str, Any]) -> list[str]:
    """Fit to a part, stopped by the rest; then, with `refit`, to all for the epochs found.

    Returns what the rest says of the fit to the part.
    """
    from mfcore.models import advice

    (known, held), searched = found, copy(model)
    epochs = epochs_of(model, known)
    first = None if checkpoint is None else _file_of_search(checkpoint)
    searching = Plan(epochs.most, model.patience or epochs.patience, held,
                     () if model.refit else callbacks, first, stays=model.refit)
    try:
        best = fit(searched, known, searching, **model.unaware(held, **own))
    except BaseException:
        _take_over(model, searched)
        raise
    said = list(advice.of_share(searched, known, held, best == epochs.most))
    if not model.refit:
        _take_over(model, searched)
        return said
    fit(model, training, Plan(best, None, None, callbacks, checkpoint), **own)
    model.validation_history_ = searched.history_
    if first is not None:
        Path(first[0]).unlink(missing_ok=True)
    return said


def _file_of_search(checkpoint: Any) -> tuple[Path, Any]:
    """Return the checkpoint of the fit to a part: a file next to that of the whole fit."""
    path, every = _path_and_every(checkpoint)
    return path.with_name(f"{path.name}.validation"), every


def _take_over(model: Any, other: Any) -> None:
    """Give a model what a copy of it has learned since, if that has finished an epoch."""
    learned = vars(other).get("history_")
    if learned and learned is not vars(model).get("history_"):
        own = {name: value for name, value in vars(model).items() if not name.endswith("_")}
        become(model, {**own, **{name: value for name, value in vars(other).items()
                                 if name.endswith("_")}})


def rehearse(model: Any, training: Ratings, *, user_features: Any = None,
             item_features: Any = None, eval_set: Any = None, callbacks: Any = ()) -> None:
    """Raise what a fit would raise before its first epoch; the model stays as it is."""
    model.validate()
    fits = [(training, plan_of(model, training, eval_set))]
    if eval_set is None and (found := parts(model, training)) is not None:
        fits = [(found[0], Plan(1, 1, found[1])), (training, Plan(1, None))]
    for ratings, plan in fits:
        sides = _checked_sides(model, ratings, user_features, item_features)
        _begun(copy(model), ratings, sides, plan._replace(callbacks=callbacks_of(callbacks)), None,
               np.random.default_rng(0))


def fit_as_planned(model: Any, training: Ratings, plan: Plan, *, user_features: Any = None,
                   item_features: Any = None, backend: Any = None, **own: Any) -> int:
    """Fit a model whose parameters are checked; return the epoch whose state it has.

    `plan` holds for `n_epochs` and `patience`.
    """
    sides = _checked_sides(model, training, user_features, item_features, **own)
    checkpoint = checkpoint_of(model, training, sides, plan.checkpoint,
                               {"eval_set": plan.eval_set, **own}, plan.stays)
    own |= {} if backend is None else {"backend": backend}
    with as_before(model) as undo:
        start, monitor = _begun(model, training, sides, plan, checkpoint,
                                np.random.default_rng(model.random_state), **own)
        _run(model, start, monitor, plan.n_epochs, undo.pop_all)
    model.seal()
    if checkpoint is not None and not checkpoint.stays:
        checkpoint.remove()
    return monitor.best_epoch


def _checked_sides(model: Any, training: Ratings, user_features: Any, item_features: Any,
                   **own: Any) -> Sides:
    """Return both sides of a model; raise for ratings and features that it cannot learn from."""
    if training.weights is not None and model.lacks("weights"):
        raise ValueError(registry.sentence(type(model), "weights"))
    model.check(training, **own)
    for name, given in (("user_features", user_features), ("item_features", item_features)):
        if given is not None:
            model.require(name)
    return sides_of(model, training, user_features, item_features)


def _begun(model: Any, training: Ratings, sides: Sides, plan: Plan,
           checkpoint: Checkpoint | None, random: np.random.Generator, **own: Any
           ) -> tuple[Start, Monitor]:
    """Return where a fit begins, and what is watched; the model forgets an earlier fit."""
    model.remember(training, sides, mean_rating(training))
    start = model.begin(training, sides, random, **own)
    monitor = monitor_of(model, plan, checkpoint, start)
    if plan.start is not None and start.go_on is not None:
        start.go_on(plan.start)
        monitor.is_begun = True
    return start, monitor


def _run(model: Any, start: Start, monitor: Monitor, n_epochs: int, keep: Callable[[], Any]
         ) -> None:
    """Run the epochs of a fit; make what they reached the model's, if it is whole, and `keep` it.
    """
    start.publish(start.at)
    try:
        with Pool(model.n_threads) as pool:
            run(start.solver, start.at, pool, n_epochs, monitor)
    finally:
        if monitor.is_whole:
            start.publish(start.at)
            if start.finish is not None:
                start.finish(start.at)
            keep()


def as_before(model: Any) -> ExitStack:
    """Return a context that leaves a model as it was, unless `pop_all` of it is called inside."""
    undo = ExitStack()
    undo.callback(become, model, vars(model).copy())
    return undo


def become(model: Any, attributes: dict[str, Any]) -> None:
    """Give a model all its attributes in one step, which nothing can interrupt."""
    model.__dict__ = attributes


def training_ratings(given: Any, y: Any, sample_weight: Any = None) -> Ratings:
    """Return the Ratings of `fit(ratings)`, or of `fit(X, y, sample_weight)` with X (nnz, 2) ids.

    Raises TypeError for what is neither, ValueError where there is no rating at all, and for
    weights without y.
    """
    if y is None and sample_weight is not None:
        raise ValueError("sample_weight goes with pairs and their y; a matrix gets its weights by "
                         "Ratings(matrix, weights=...)")
    if sample_weight is not None:
        sample_weight = validation.nonnegative(
            "sample_weight", validation.vector("sample_weight", sample_weight))
    ratings = as_ratings("ratings", given) if y is None else \
        Ratings.from_arrays(*pairs("X", given), y, sample_weight)
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


def monitor_of(model: Any, plan: Plan, checkpoint: Checkpoint | None, start: Start) -> Monitor:
    """Return the Monitor of a model's fit.

    Raises ValueError where `patience` has nothing to watch, or the set does not fit.
    """
    from mfcore.metrics.alignment import Alignment
    from mfcore.metrics.evaluate import measured, told
    from mfcore.metrics.measure import NOTHING_LEFT, is_measurable, plan_ranking
    from mfcore.metrics.table import main_metric, of_ratings, sign, watchable

    eval_set = plan.eval_set
    wanted = watchable("eval_metric", model.eval_metric or main_metric(model.predicts_ratings))
    metric = wanted.key
    if eval_set is None and plan.patience is not None:
        raise NothingToWatchError("patience needs an eval_set to watch: fit(..., "
                                  "eval_set=validation), or a share of the ratings, "
                                  "validation=0.1")
    evaluate_at, margin = None, 0.0
    if eval_set is not None:
        fold_in, test = eval_set if isinstance(eval_set, tuple) else (None, eval_set)
        task = Alignment(model, test, fold_in)
        if not of_ratings(metric) and not is_measurable(plan_ranking(task, [wanted])):
            raise NothingToWatchError(f"eval_set {NOTHING_LEFT}")

        margin = MARGIN / task.test.nnz ** 0.5

        def evaluate_at(at: Any) -> dict[str, float]:
            start.publish(at)
            return told(task, measured(task, [wanted], n_threads=model.n_threads), False)

    def heard(callback: Callback) -> Any:
        def call(at: Any, record: dict[str, Any]) -> Any:
            start.publish(at)
            return callback(model, record)
        return call

    return Monitor(evaluate_at, metric if eval_set is not None else None,
                   sign(metric) > 0, plan.patience,
                   tuple(map(heard, plan.callbacks)), model.tol, model.verbose,
                   model.history_, checkpoint, simple=start.simple, margin=margin)


# ------------------------------------------------------------------------ checkpoints

def _held(given: Any) -> AbstractContextManager[None]:
    """Return the lock of a checkpoint, from before it is read until it is removed.

    Raises IsADirectoryError, FileExistsError, FileNotFoundError or PermissionError where no file
    can be; the lock raises BlockingIOError while another fit holds it.
    """
    if given is None:
        return nullcontext()
    path = _path_and_every(given)[0]
    return owned(path, "fits with it as checkpoint")


def _path_and_every(given: Any) -> tuple[Path, Any]:
    path, every = given if isinstance(given, tuple) and len(given) == 2 else (given, 1)
    return replaceable(validation.path("checkpoint", path)), every


def checkpoint_of(model: Any, ratings: Ratings, sides: Sides, given: Any,
                  others: dict[str, Any], stays: bool = False) -> Checkpoint | None:
    """Return the Checkpoint of `fit(checkpoint=given)`, a path or (path, every).

    What the bits of a fit depend on identifies it: parameters, ratings, features, and `others`,
    the rest that `fit` takes.  Callbacks do not: they look on, and a resumed fit may have its own.

    Raises TypeError for anything else, ValueError for `every` < 1, for the file of another fit,
    and for hyper-parameters that cannot be written down (a Generator as a seed).
    """
    if given is None:
        return None
    path, every = _path_and_every(given)
    try:
        params = plain("parameter", {name: value for name, value in model.get_params().items()
                                     if name not in model.may_change})
    except TypeError as error:
        raise ValueError(f"checkpoint needs hyper-parameters that can be written down, and an "
                         f"integer as random_state: {error}") from None
    found = Checkpoint(path, validation.integer("every", every, low=1), {
        "model": type(model).__name__, **params, "shape of the ratings": list(ratings.shape),
        "checksum of the ratings": checksum_of_ratings(ratings),
        "checksums of the features": [checksum_of_features(side.features) for side in sides],
        **{f"checksum of {name}": checksum(value, ratings) for name, value in others.items()}},
        stays)
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
                      .encode(), checksum_of_ratings(other))


def _checksum_of_model(model: Any) -> int:
    """Return the checksum of what a model has learned: its arrays and numbers."""
    found = zlib.crc32(type(model).__name__.encode())
    for _, value in sorted(model.fitted_attributes().items()):
        if isinstance(value, (np.ndarray, float)):
            found = zlib.crc32(np.ascontiguousarray(value).data, found)
    return found
