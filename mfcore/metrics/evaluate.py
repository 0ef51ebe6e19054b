"""Measure a fitted model on ratings that it has not seen.

Users are scored and measured in blocks of rows, so that no users × items matrix exists: see
metrics/measure.py.  Sums run in float64 in the order of the users, so that the bits do not
depend on the number of threads.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from mfcore import validation
from mfcore.data.ratings import as_ratings
from mfcore.metrics import rating
from mfcore.metrics.alignment import Alignment
from mfcore.metrics.measure import Over, Values, measure, plan_ranking
from mfcore.metrics.table import Metric, check_given, reading, requested
from mfcore.progress import only_bar


def evaluate(model: Any, test: Any, *, fold_in: Any = None, user_features: Any = None,
             candidates: Any = None, groups: tuple[Any, Any] | None = None,
             item_features: Any = None, k: int | Sequence[int] = (5, 10, 20),
             metrics: str | Sequence[str] | None = None, threshold: float | None = None,
             exclude_seen: bool = True, per_user: bool = False, n_threads: int | None = None,
             over: Over | None = None) -> dict[str, Any]:
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
    item_features : Features, scipy sparse, 2-D array or lists of names, n_items rows, or None
        What is known of the items, as the model numbers them; needed by
        "intra_list_similarity", "entropy", "entropy_ranked" and "calibration".
    k : int or sequence of int >= 1
        Cut-offs of the metrics that are named without one.
    metrics : str, sequence of str or None
        Names, with a cut-off of their own ("ndcg@100") or without; formulas and sources are in
        `mfcore.metrics.table`.  Of predicted ratings: "rmse", "mae".  Of the first k places:
        "precision", "recall" (over all relevant items), "recall_capped" (over at most k), "f1",
        "hit_rate", "dcg", "ndcg", "rbp", "map", "mrr" (uncut unless "mrr@k"); by the ratings of
        the relevant items, which must be >= 0, "ndcg_graded", "ndcg_exponential", "rbp_graded";
        "n_relevant", the number of these.
        Of all scores: "auc", "auc_partial", "auc_top", "accuracy", "mcc".  Of the list of each
        user: "user_coverage", "list_length", "popularity", "popularity_rank", "novelty",
        "serendipity", "intra_list_similarity", "entropy", "entropy_ranked", "calibration",
        "cross_group_rate"; "folding" and "spurious_rate", which ask how related the recommended
        items are to those that a user rated (see `mfcore.metrics.folding`).  Of all lists:
        "item_coverage", "gini", "gini_exposure".  None: rmse and mae if the model predicts
        ratings, and precision, recall, ndcg, map, mrr and hit_rate.
    threshold : float or None
        A test cell is relevant if its rating is at least this; None: every stored cell.
    exclude_seen : bool
        Leave the items a user rated in training (or in `fold_in`) out of the ranking.
    per_user : bool
        Whether to return the values whose mean the metric is.
    n_threads : int >= 1 or None
        None: all CPUs.  The result does not depend on it.
    over : callable or None
        Ranks blocks of users elsewhere: over(function, shared, parts) returns
        [function(shared, part), ...]; None: they are ranked here.

    Returns
    -------
    values : dict of str to float, or to ndarray with `per_user`
        Keys like "rmse" and "ndcg@10", in the order asked for.  Arrays have shape
        (n_test_users,), NaN for users without a relevant item; those of "rmse" and "mae" hold the
        squared and absolute error of each stored test cell, in `by_user` order.

    Raises
    ------
    ValueError
        For unknown metrics, k < 1, an empty test set, another shape than that of training
        (without ids), no relevant cell left, groups or item_features that are missing or do not
        fit, negative ratings for a graded metric, a metric of all lists with `per_user`, and
        "folding", "spurious_rate" or "calibration" of a model without its training ratings.
    KeyError
        For candidates that neither the model nor the test set knows.

    Notes
    -----
    rmse and mae run over all stored test cells, weighted by the weights of `test` if it has
    any; predictions are clipped to the range of the training ratings, and those of a model with
    effects of periods are for the times of `test`; lists are for no moment.  The other metrics are
    means over the users with at least one relevant item (formulas: `mfcore.metrics.ranking`);
    where items share a score, their expectation over all orders of the ties.  Metrics of lists
    use the lists of the same users.  A test cell that `exclude_seen` or
    `candidates` leaves out of the ranking does not count.  Metrics of all scores read the
    whole row once more for each relevant cell and are therefore computed only if named.

    Examples
    --------
    >>> from mfcore import Popularity, evaluate, fetch
    >>> from mfcore.data.split import per_user_split
    >>> train, test = per_user_split(fetch("planted").ratings, test_size=0.2, random_state=0)
    >>> figures = evaluate(Popularity().fit(train), test, metrics=["ndcg@10", "recall@10"])
    >>> sorted(figures)
    ['ndcg@10', 'recall@10']
    """
    wanted = requested(metrics, k, rates=getattr(model, "predicts_ratings", False))
    if validation.boolean("per_user", per_user):
        check_per_user(wanted)
    task = Alignment(model, test, fold_in, user_features)
    found = measured(task, wanted, candidates=candidates, groups=groups, threshold=threshold,
                     item_features=item_features, exclude_seen=exclude_seen,
                     n_threads=n_threads, over=over)
    return told(task, found, per_user)


def told(task: Alignment, found: dict[str, Values | float], per_user: bool) -> dict[str, Any]:
    """Return what `evaluate` does of the values found."""
    if per_user:
        return {key: value.by_row(task.test.shape[0]) for key, value in found.items()
                if isinstance(value, Values)}
    return {key: value.total if isinstance(value, Values) else value
            for key, value in found.items()}


def check_per_user(wanted: Iterable[Metric]) -> None:
    """Raise a ValueError for a metric that has no value for each user."""
    for metric in reading(wanted, "catalogue"):
        raise ValueError(f"{metric.name} is a number of all lists together and has no value for "
                         f"each user: leave it out")


def measured(task: Alignment, wanted: Sequence[Metric], *, candidates: Any = None,
             groups: Any = None, item_features: Any = None, threshold: float | None = None,
             exclude_seen: bool = True, n_threads: int | None = None, over: Over | None = None
             ) -> dict[str, Values | float]:
    """Return the values of metrics by their keys, in the order asked for; see `evaluate`."""
    validation.boolean("exclude_seen", exclude_seen)
    if threshold is not None:
        validation.real("threshold", threshold)
    rated, found = reading(wanted, "ratings"), {}
    ranked = [metric for metric in wanted if metric not in rated]
    if ranked:
        plan = plan_ranking(task, ranked, threshold=threshold, candidates=candidates,
                            groups=groups, item_features=item_features,
                            exclude_seen=exclude_seen)
        found = measure(plan, n_threads, over)
    if rated:
        found |= _of_ratings(task)
    return {metric.key: found[metric.key] for metric in wanted}


def _of_ratings(task: Alignment) -> dict[str, Values | float]:
    """Return the errors of the predicted ratings of all test cells."""
    test = task.test
    predicted = np.clip(task.predictions(), *task.model.rating_range_)
    errors = rating.errors(test.by_user.data, predicted)
    where = test.weights, test.users_of_cells, test.by_user.indices
    return {"rmse": Values(errors**2, *where, root=True), "mae": Values(np.abs(errors), *where)}


def cross_validate(model: Any, ratings: Any, n_folds: int = 5, *,
                   folds: Iterable[tuple[Any, Any]] | None = None, random_state: Any = 0,
                   **options: Any) -> dict[str, Any]:
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
        The keys of `evaluate`; with `per_user`, a list with its array for each fold.

    Raises
    ------
    TypeError, ValueError
        As `evaluate` and `k_fold`; for unknown options and metrics, and user_features, before any
        fit.

    Examples
    --------
    >>> from mfcore import BiasOnly, cross_validate, fetch
    >>> cross_validate(BiasOnly(), fetch("planted").ratings, n_folds=3)["rmse"].shape
    (3,)
    """
    check_options(model, ratings, options)
    fresh("model", model)
    no_features(options)
    parts = folds_of(ratings, n_folds, folds, random_state)
    results = []
    with only_bar("cross-validate", n_folds if folds is None else folds) as bar:
        for train, test in parts:
            results.append(evaluate(fresh("model", model).fit(train), test, **options))
            bar.update()
    if not results:
        raise ValueError("folds must hold at least one (train, test) pair, got none")
    columns = {key: [result[key] for result in results] for key in results[0]}
    return columns if options.get("per_user") else \
        {key: np.array(column) for key, column in columns.items()}


def check_options(model: Any, ratings: Any, options: dict[str, Any]) -> None:
    """Raise for options that `evaluate` does not take, or metrics that cannot be measured."""
    inspect.signature(evaluate).bind(model, ratings, **options)
    wanted = requested(options.get("metrics"), options.get("k", 5), rates=False)
    check_given(wanted, **{name: options.get(name) for name in ("groups", "item_features")})
    if validation.boolean("per_user", options.get("per_user", False)):
        check_per_user(wanted)


def no_features(options: dict[str, Any]) -> None:
    """Raise ValueError for features of users, which no fit of a fold would know."""
    if options.get("user_features") is not None:
        raise ValueError("user_features cannot be given where folds are fitted: fit each fold of "
                         "mfcore.data.split.k_fold with them and evaluate it, or give fitted "
                         "models to compare(..., refits=0)")


def fresh(name: str, model: Any) -> Any:
    """Return a new copy of an estimator, not fitted; TypeError for anything else."""
    if not hasattr(model, "fit") or not hasattr(model, "get_params"):
        raise TypeError(f"{name} must be an estimator, got {type(model).__name__}")
    return type(model)(**model.get_params(deep=False))


def folds_of(ratings: Any, n_folds: int, folds: Iterable[tuple[Any, Any]] | None,
             random_state: Any) -> Iterator[tuple[Any, Any]]:
    """Return the folds given, or those of `k_fold`; raises as it does, at the call.

    Raises TypeError for folds other than pairs: at the call for a list of them, else in their turn.
    """
    if folds is not None:
        if not isinstance(folds, Iterable):
            raise TypeError(f"folds must be pairs (train, test), got {folds!r}; n_folds says how "
                            f"many are cut")
        pairs = map(_pair, folds)
        return iter(list(pairs)) if isinstance(folds, Sequence) else pairs
    from mfcore.data.split import k_fold

    return k_fold(as_ratings("ratings", ratings), n_folds, random_state=random_state)


def _pair(fold: Any) -> tuple[Any, Any]:
    if not isinstance(fold, (tuple, list)) or len(fold) != 2:
        raise TypeError(f"folds must be pairs (train, test), got {type(fold).__name__}")
    return fold[0], fold[1]
