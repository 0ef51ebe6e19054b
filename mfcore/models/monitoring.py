"""What a fit watches between epochs: an evaluation set, callbacks, patience."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mfcore.metrics.alignment import Alignment
from mfcore.metrics.evaluate import evaluate, requested
from mfcore.solvers.loop import Monitor

if TYPE_CHECKING:
    from mfcore.models.base import Callback, Recommender

LOWER_IS_BETTER = ("rmse", "mae", "loss")


def monitor_of(model: Recommender, eval_set: Any, callbacks: tuple[Callback, ...]) -> Monitor:
    """Return the Monitor of a model's fit.

    Raises ValueError where `patience` has nothing to watch, or the set does not fit.
    """
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
                   model.history_)
