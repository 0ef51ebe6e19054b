"""Measure a fitted model on ratings that it has not seen.

Users are scored and measured in blocks of rows, so that no users × items matrix exists: see
metrics/measure.py.  Sums run in float64 in the order of the users, so that the bits do not
depend on the number of threads.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mfcore import validation
from mfcore.data.ratings import as_ratings
from mfcore.metrics import ranking, rating
from mfcore.metrics.measure import LISTED, Alignment, Metric, Over, measure, plan_ranking

RATING = {"rmse": rating.rmse, "mae": rating.mae}
METRICS = (*RATING, *ranking.PER_USER, "auc", *LISTED)
DEFAULT = ("precision", "recall", "ndcg", "map", "mrr", "hit_rate")


def evaluate(model: Any, test: Any, *, fold_in: Any = None, user_features: Any = None,
             candidates: Any = None, groups: tuple[Any, Any] | None = None,
             k: int | Sequence[int] = (5, 10, 20),
             metrics: str | Sequence[str] | None = None, threshold: float | None = None,
             exclude_seen: bool = True, n_threads: int | None = None,
             over: Over | None = None) -> dict[str, float]:
    """Measure a fitted model on a test set.

    Parameters
    ----------
    model : fitted model
        Any of the library's, or a `Segmented` one.
    test : Ratings or scipy sparse, shape (n_test_users, n_test_items)
        Ids are looked up among those of training.  Unknown users are scored as the model
        scores such users; an unknown item is a miss.
    fold_in : Ratings or scipy sparse, n_test_users rows, or None
        Known ratings of the test users, row by row as in `test`: the users count as new,
        whether or not the model was trained on them, and these cells as seen.
    user_features : Features, scipy sparse or lists of names, n_test_users rows, or None
        Features of the test users, who then count as new; without `fold_in` they have no
        ratings.
    candidates : ids (row numbers without ids), sparse or Ratings of test's shape, or None
        Rank only these items, or for each user only their stored cells.
    groups : (user_groups, item_groups) or None
        Shapes (n_test_users,) and (n_items,), the items as the model numbers them; needed
        by "cross_group_rate".
    k : int or sequence of int >= 1
        Cut-offs of the metrics that are named without one.
    metrics : str, sequence of str or None
        Names, with a cut-off of their own ("ndcg@100") or without.  "rmse", "mae";
        "precision", "recall" (over all relevant items), "recall_capped" (over at most k),
        "hit_rate", "ndcg", "map", "mrr" (uncut unless "mrr@k"); "auc"; "item_coverage",
        "popularity_rank", "cross_group_rate"; "folding" and "spurious_rate", which ask how
        related the recommended items are to those that a user rated (see
        `mfcore.metrics.folding`) and need the training ratings.  None: rmse and mae if the
        model predicts ratings, and precision, recall, ndcg, map, mrr and hit_rate.
    threshold : float or None
        A test cell is relevant if its rating is at least this; None: every stored cell.
    exclude_seen : bool
        Leave the items a user rated in training (or in `fold_in`) out of the ranking.
    n_threads : int >= 1 or None
        None: all CPUs.  The result does not depend on it.
    over : callable or None
        Ranks blocks of users elsewhere: over(function, shared, parts) returns
        [function(shared, part), ...]; None: they are ranked here.

    Returns
    -------
    values : dict of str to float
        Keys like "rmse" and "ndcg@10", in the order asked for.

    Raises
    ------
    ValueError
        For unknown metrics, k < 1, an empty test set, another shape than that of training
        (without ids), no relevant cell left, groups that are missing or do not fit, and
        "folding" or "spurious_rate" of a model without its training ratings.
    KeyError
        For candidates that neither the model nor the test set knows.

    Notes
    -----
    rmse and mae run over all stored test cells, weighted by the weights of `test` if it has
    any; predictions are clipped to the range of the training ratings.  The other metrics are
    means over the users with at least one relevant item (formulas: `mfcore.metrics.ranking`);
    where items share a score, their expectation over all orders of the ties.  Coverage and
    popularity use the lists of the same users.  A test cell that `exclude_seen` or
    `candidates` leaves out of the ranking does not count.  "auc" reads the whole row once more
    for each relevant cell and is therefore computed only if named.
    """
    wanted = requested(metrics, k, rates=getattr(model, "predicts_ratings", False))
    validation.boolean("exclude_seen", exclude_seen)
    if threshold is not None:
        validation.real("threshold", threshold)
    task = Alignment(model, test, fold_in, user_features)
    ranked = [metric for metric in wanted if metric.name not in RATING]
    values = {}
    if ranked:
        plan = plan_ranking(task, ranked, threshold=threshold, candidates=candidates,
                            groups=groups, exclude_seen=exclude_seen)
        values = measure(plan, ranked, n_threads, over)
    if len(ranked) < len(wanted):
        truth, weights = task.test.by_user.data, task.test.weights
        predicted = np.clip(task.predictions(), *model.rating_range_)
        values |= {name: error(truth, predicted, weights) for name, error in RATING.items()}
    return {metric.key: values[metric.key] for metric in wanted}


def cross_validate(model: Any, ratings: Any, n_folds: int = 5, *,
                   folds: Iterable[tuple[Any, Any]] | None = None, random_state: Any = 0,
                   **options: Any) -> dict[str, np.ndarray]:
    """Fit a new copy of a model on each training part and measure it on the rest.

    Parameters
    ----------
    model : estimator
        Copied by `type(model)(**model.get_params(deep=False))`; stays as it is.
    ratings : Ratings or scipy sparse, shape (n_users, n_items)
        Cut into folds.
    n_folds : int >= 2
        Folds of `mfcore.data.split.k_fold`: each cell is tested once.
    folds : iterable of (train, test), or None
        Other folds, used instead.
    random_state : int, numpy Generator or None
        Seed of the folds.
    **options
        Passed on to `evaluate`.

    Returns
    -------
    values : dict of str to ndarray, shape (n_folds,)
        The keys of `evaluate`.

    Raises
    ------
    TypeError, ValueError
        As `evaluate` and `k_fold`; for unknown options and metrics before any fit.
    """
    inspect.signature(evaluate).bind(model, ratings, **options)
    requested(options.get("metrics"), options.get("k", 5), rates=False)
    if not hasattr(model, "fit") or not hasattr(model, "get_params"):
        raise TypeError(f"model must be an estimator, got {type(model).__name__}")
    if folds is None:
        from mfcore.data.split import k_fold

        folds = k_fold(as_ratings("ratings", ratings), n_folds, random_state=random_state)
    results = [evaluate(type(model)(**model.get_params(deep=False)).fit(train), test, **options)
               for train, test in folds]
    if not results:
        raise ValueError("folds must hold at least one (train, test) pair, got none")
    return {key: np.array([result[key] for result in results]) for key in results[0]}


# ----------------------------------------------------------------------------- requests


def requested(metrics: str | Sequence[str] | None, k: int | Sequence[int], *,
              rates: bool) -> list[Metric]:
    """Return the metrics asked for, one per cut-off; raise a ValueError for unknown ones."""
    cuts = [validation.count("k", cut) for cut in (k if isinstance(k, Iterable) else [k])]
    if metrics is None:
        metrics = (*RATING, *DEFAULT) if rates else DEFAULT
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    if not cuts or not names:
        raise ValueError("k and metrics must name at least one cut-off and one metric")
    found = [metric for name in names for metric in _cut(name, cuts)]
    return list(dict.fromkeys(found))


def _cut(name: str, cuts: list[int]) -> list[Metric]:
    base, at, own = name.partition("@") if isinstance(name, str) else (name, "", "")
    validation.choice("metrics", base, METRICS)
    uncut = base in RATING or base == "auc"
    if at and (uncut or not own.isdecimal() or int(own) < 1):
        raise ValueError(f"metrics must look like 'ndcg' or 'ndcg@10'"
                         f"{f', and {base} takes no cut-off' if uncut else ''}, got {name!r}")
    if at:
        return [Metric(f"{base}@{int(own)}", base, int(own))]
    if uncut or base == "mrr":
        return [Metric(base, base, None)]
    return [Metric(f"{base}@{cut}", base, cut) for cut in cuts]
