"""Compare models on the same users and folds: paired differences that can be believed.

What is measured is in `mfcore.metrics.evaluate`, how sure one may be of it in
`mfcore.metrics.paired`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from mfcore import validation
from mfcore.data.ids import factorize
from mfcore.metrics.comparison import Comparison, Difference
from mfcore.metrics.contest import Part, tested, validated
from mfcore.metrics.evaluate import check_options, folds_of, fresh, no_features
from mfcore.metrics.paired import METHODS, Paired, additions, common, estimate, holm
from mfcore.metrics.table import Metric, main_metric, requested
from mfcore.progress import only_bar

MOST_REFITS = 1000


def compare(models: Mapping[str, Any], ratings: Any, n_folds: int | None = None, *,
            folds: Iterable[tuple[Any, Any]] | None = None, baseline: str | None = None,
            metrics: str | Sequence[str] | None = None, k: int | Sequence[int] = 10,
            confidence: float = 0.99, refits: int = 4, method: str = "t",
            n_resamples: int = 9999, random_state: Any = 0, **options: Any) -> Comparison:
    """Compare models, each with each or all with one, on the same users or folds.

    Parameters
    ----------
    models : mapping from name to model, at least two
        Estimators that are not fitted: they are cross-validated.  Or fitted models, on the same
        items, and lists of recommended items as `evaluate_lists` takes them: they are measured.
    ratings : Ratings or scipy sparse, shape (n_users, n_items)
        The ratings to cut into folds; of fitted models the test set, unless `n_folds` or `folds`
        is given.
    n_folds : int >= 2 or None
        Folds of `mfcore.data.split.k_fold`, the same as those of `cross_validate`; None: 5.
    folds : iterable of (train, test), or None
        Other folds, used instead.
    baseline : str or None
        Name of the model that all others are compared with; None: each pair is compared.
    metrics : str, sequence of str or None
        As in `evaluate`, without those of all lists together; None: "rmse" if all models predict
        ratings, and "ndcg".
    k : int or sequence of int >= 1
        Cut-offs of the metrics that are named without one, at most the number of items.
    confidence : float in (0, 1)
        Of the intervals; a verdict is wrong with probability 1 − confidence at most, if no model
        is better, for all differences of the call together.
    refits : int in [0, 1000]
        With a single test set, how often each model that has a `random_state` is fitted again,
        with another seed and the ratings that it knows: what differs between two fits of one
        model is no difference of models.  0: verdicts are of the fits at hand alone.
    method : {"t", "bootstrap", "permutation"}
        How intervals and p-values are found: see `mfcore.metrics.paired`.  "t" needs no draws and
        suits 30 users or more; the others do not suppose that means are normal.
    n_resamples : int >= 1
        Draws of "bootstrap" and "permutation".
    random_state : int, numpy Generator or None
        Seed of the folds, and of the draws.
    **options
        Passed on to `evaluate`.

    Returns
    -------
    comparison : Comparison
        Its `differences` say which models are better, by how much and how surely.

    Raises
    ------
    TypeError
        For models that are neither estimators nor lists, and unknown options.
    ValueError
        For fewer than two models, some fitted and some not, models fitted on other items, users
        or ratings than each other, refits of models that were fitted with features or have no
        training ratings any more, fewer than two users to measure, unknown metrics or ones that
        have no value for each user, k above the number of items, and what `evaluate` refuses.

    Notes
    -----
    Each fold, and each refit, has seeds of its own, found from the `random_state` of the model:
    models of the same `random_state` start the same way, others do not.  `mfcore.metrics.paired`
    says how users, items, folds and fits go into the interval.  RMSE is compared by what each
    rating adds to it.  The time is that of `n_folds` fits of each model, or of `refits`.

    Examples
    --------
    >>> from mfcore import BiasOnly, MatrixFactorization, compare, fetch
    >>> found = compare({"vectors": MatrixFactorization(8, random_state=0), "biases": BiasOnly()},
    ...                 fetch("planted").ratings, metrics="rmse")
    >>> found.differences[0].verdict
    'better'
    """
    pairs = _pairs(models, baseline)
    how = _How(confidence, method, n_resamples, refits, random_state)
    how.check()
    wanted = _wanted(models, metrics, k)
    crossed = _crosses(models, n_folds is not None or folds is not None)
    if "per_user" in options:
        raise TypeError("compare takes no per_user: it always compares values of users")
    check_options(next(iter(models.values())), ratings, {
        **options, "metrics": [metric.key for metric in wanted], "per_user": True})
    if crossed:
        no_features(options)
        cut = folds_of(ratings, 5 if n_folds is None else n_folds, folds, random_state)
        found = validated(models, cut, wanted, options, refits)
    else:
        found = tested(models, ratings, wanted, options, refits)
    parts = []
    with only_bar("compare", folds or n_folds or 5 if crossed else 1 + refits) as bar:
        for part in found:
            parts.append(part)
            bar.update()
    if not parts:
        raise ValueError("folds must hold at least one (train, test) pair, got none")
    return _compared(parts, wanted, pairs, how)


class _How(NamedTuple):
    """How differences are judged: see `compare`."""

    confidence: float
    method: str
    n_resamples: int
    refits: int
    random_state: Any

    def check(self) -> None:
        """Raise for settings out of range."""
        validation.share("confidence", self.confidence)
        validation.choice("method", self.method, METHODS)
        validation.count("n_resamples", self.n_resamples)
        validation.integer("refits", self.refits, high=MOST_REFITS)
        validation.random_generator("random_state", self.random_state)


# ------------------------------------------------------------------------- comparing

def _compared(parts: list[Part], wanted: list[Metric], pairs: list[tuple[str, str]], how: _How
              ) -> Comparison:
    """Return the differences of pairs in each metric, judged together."""
    numbers = _numbered(parts)
    random = validation.random_generator("random_state", how.random_state)
    paired = {(metric.key, *pair): _paired(parts, metric.key, *pair, *numbers)
              for metric in wanted for pair in pairs}
    found = [estimate(each, how.confidence, how.method, how.n_resamples, random)
             for each in paired.values()]
    corrected = holm([each.p for each in found]).tolist()
    differences = [Difference(*what, *each, each.p, "").judged(p, how.confidence)
                   for what, each, p in zip(paired, found, corrected, strict=True)]
    values = {name: {metric.key: float(np.mean([part.found[name][metric.key].total
                                                for part in parts])) for metric in wanted}
              for name in parts[0].found}
    return Comparison(values, differences, how.confidence,
                      max(len(each.of_users) for each in paired.values()),
                      1 if _is_one(parts) else len(parts), len(parts))


def _numbered(parts: list[Part]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return numbers of the users and of the items of each test set, the same for the same id."""
    sides = []
    for axis in (0, 1):
        given = [(part.test.user_ids, part.test.item_ids)[axis] for part in parts]
        ids = [each for each in given if each is not None]
        if len(ids) < len(parts):
            sides.append([np.arange(part.test.shape[axis]) for part in parts])
        else:
            codes = factorize("ids", np.concatenate(ids))[1]
            sides.append(np.split(codes, np.cumsum([len(each) for each in ids])[:-1]))
    return sides[0], sides[1]


def _paired(parts: list[Part], key: str, first: str, second: str, users: list[np.ndarray],
            items: list[np.ndarray]) -> Paired:
    """Return the differences of two models in a metric, and what each value adds to their mean."""
    both = [common(part.found[first][key], part.found[second][key]) for part in parts]
    rows = _joined([users[number][one.rows] for number, (one, _) in enumerate(both)])
    columns = None if both[0][0].columns is None else \
        _joined([items[number][one.columns] for number, (one, _) in enumerate(both)])
    if not len(rows) or rows.max() < 1:
        raise ValueError(f"paired differences need at least two users with a value of {key}, got "
                         f"{len(np.unique(rows))}")
    return Paired(np.array([one.total - other.total for one, other in both]),
                  np.concatenate([(additions(one) - additions(other)) / len(parts)
                                  for one, other in both]),
                  np.repeat(np.arange(len(parts)), [len(one.values) for one, _ in both]),
                  rows, columns,
                  0.0 if _is_one(parts) else float(np.mean([part.share for part in parts])))


def _is_one(parts: list[Part]) -> bool:
    """Return whether all parts are of one test set."""
    return all(part.test is parts[0].test for part in parts)


def _joined(labels: list[np.ndarray]) -> np.ndarray:
    """Return labels of all parts as numbers from 0 without gaps."""
    return np.unique(np.concatenate(labels), return_inverse=True)[1]


# -------------------------------------------------------------------------- refusals

def _pairs(models: Any, baseline: str | None) -> list[tuple[str, str]]:
    """Return the pairs of names to compare; raise for anything but a mapping of two or more."""
    if not isinstance(models, Mapping):
        raise TypeError(f"models must be a mapping from name to model, got "
                        f"{type(models).__name__}")
    names = list(models)
    if len(names) < 2 or not all(isinstance(name, str) for name in names):
        raise ValueError(f"models must be at least two, named by strings, got {names}")
    if baseline is None:
        return list(combinations(names, 2))
    validation.choice("baseline", baseline, names)
    return [(name, baseline) for name in names if name != baseline]


def _crosses(models: Mapping[str, Any], asked: bool) -> bool:
    """Return whether models are to be fitted; raise where some are fitted and others are not."""
    if asked:
        for name, model in models.items():
            fresh(f"models[{name!r}]", model)
        return True
    left = [name for name, model in models.items()
            if hasattr(model, "fit") and not hasattr(model, "ratings_")]
    if left and len(left) < len(models):
        raise ValueError(f"models must all be fitted, or none of them, got {', '.join(left)} not "
                         f"fitted; n_folds=5 fits all of them")
    return bool(left)


def _wanted(models: Mapping[str, Any], metrics: Any, k: Any) -> list[Metric]:
    rate = all(getattr(model, "predicts_ratings", False) for model in models.values())
    default = [main_metric(rates) for rates in (True, False)[not rate:]]
    return requested(default if metrics is None else metrics, k, rates=False)
