"""Compare models on the same users and folds: paired differences that can be believed.

What is measured is in `mfcore.metrics.evaluate`, how sure one may be of it in
`mfcore.metrics.paired`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from mfcore import validation
from mfcore.data.ids import factorize
from mfcore.data.ratings import Ratings, as_ratings
from mfcore.metrics.alignment import Alignment
from mfcore.metrics.comparison import Comparison, Difference
from mfcore.metrics.evaluate import check_options, folds_of, fresh, measured
from mfcore.metrics.external import Listed
from mfcore.metrics.measure import Values
from mfcore.metrics.paired import METHODS, Paired, additions, estimate, holm
from mfcore.metrics.table import Metric, main_metric, reading, requested

MOST_REFITS = 1000
N_RELEVANT = Metric("n_relevant", "n_relevant", None)
Found = dict[str, dict[str, Values]]      # of each model, of each metric


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
    """
    names = _names(models, baseline)
    if "per_user" in options:
        raise TypeError("compare takes no per_user: it always compares values of users")
    validation.share("confidence", confidence)
    validation.choice("method", method, METHODS)
    validation.count("n_resamples", n_resamples)
    validation.integer("refits", refits, high=MOST_REFITS)
    random = validation.random_generator("random_state", random_state)
    crossed = _crosses(models, n_folds is not None or folds is not None)
    wanted = _wanted(models, metrics, k)
    check_options(models[names[0]], ratings, {
        **options, "metrics": [metric.key for metric in wanted], "per_user": True})
    if crossed:
        cut = folds_of(ratings, 5 if n_folds is None else n_folds, folds, random_state)
        parts = list(_validated(models, cut, wanted, options, refits))
    else:
        parts = list(_tested(models, ratings, wanted, options, refits))
    if not parts:
        raise ValueError("folds must hold at least one (train, test) pair, got none")
    pairs = list(combinations(names, 2)) if baseline is None else \
        [(name, baseline) for name in names if name != baseline]
    numbers = _numbered(parts)
    paired = {(metric.key, *pair): _paired(parts, metric.key, *pair, *numbers)
              for metric in wanted for pair in pairs}
    found = [estimate(each, confidence, method, n_resamples, random) for each in paired.values()]
    corrected = holm([each.p for each in found]).tolist()
    differences = [Difference(*what, *each, each.p, "").judged(p, confidence)
                   for what, each, p in zip(paired, found, corrected, strict=True)]
    values = {name: {metric.key: float(np.mean([part.found[name][metric.key].total
                                                for part in parts])) for metric in wanted}
              for name in names}
    return Comparison(values, differences, confidence,
                      max(len(each.of_users) for each in paired.values()),
                      1 if _is_one(parts) else len(parts), len(parts))


class _Part(NamedTuple):
    """What is found on a test set."""

    found: Found
    test: Ratings
    share: float        # test ratings over training ratings


# ------------------------------------------------------------------------- measuring

def _tested(models: Mapping[str, Any], test: Any, wanted: list[Metric], options: dict[str, Any],
            refits: int) -> Iterator[_Part]:
    """Measure fitted models, and lists, on a test set."""
    test = as_ratings("ratings", test)
    _check_users(test)
    known = [model.ratings_ for model in models.values() if getattr(model, "has_seen_", False)]
    contestants = {name: model if hasattr(model, "answers") else
                   _listed(name, model, test, known[0] if known else None)
                   for name, model in models.items()}
    fitted = {name: model for name, model in contestants.items() if not isinstance(model, Listed)}
    _check_alike(fitted, test)
    for model in contestants.values():
        _check_cuts(wanted, model.n_items_)
        if isinstance(model, Listed):
            model.check(wanted)
    seeded = _seeded(fitted) if refits else {}
    part = _Part(_measured(contestants, test, wanted, options), test, 0.0)
    yield part
    yield from _refitted(seeded, part, wanted, options, refits)


def _validated(models: Mapping[str, Any], folds: Iterable[tuple[Any, Any]], wanted: list[Metric],
               options: dict[str, Any], refits: int) -> Iterator[_Part]:
    """Fit and measure a new copy of each model on each fold; again if there is only one."""
    number = -1
    for number, (train, test) in enumerate(folds):
        train, test = as_ratings("train", train), as_ratings("test", test)
        _check_users(test)
        _check_cuts(wanted, train.shape[1])
        fitted = {name: reseeded(model, number).fit(train) for name, model in models.items()}
        part = _Part(_measured(fitted, test, wanted, options), test, test.nnz / train.nnz)
        yield part
    if number == 0:
        yield from _refitted(_seeded(fitted), part, wanted, options, refits)


def _refitted(seeded: Mapping[str, Any], part: _Part, wanted: list[Metric],
              options: dict[str, Any], refits: int) -> Iterator[_Part]:
    """Measure models with other seeds on the test set of a part."""
    for number in range(1, refits + 1) if seeded else ():
        again = {name: reseeded(model, number).fit(model.ratings_)
                 for name, model in seeded.items()}
        yield part._replace(found={**part.found, **_measured(again, part.test, wanted, options)})


def _seeded(models: Mapping[str, Any]) -> dict[str, Any]:
    """Return the models that another seed would change, or raise where one cannot be fitted."""
    seeded = {name: model for name, model in models.items() if is_seeded(model)}
    for name, model in seeded.items():
        names = "user_feature_names_", "item_feature_names_"
        if not getattr(model, "has_seen_", True) or any(
                getattr(model, each, None) is not None for each in names):
            raise ValueError(f"refits must be 0 for {name}, which was fitted with features, or "
                             f"saved without its training ratings; or compare models that are "
                             f"not fitted")
    return seeded


def is_seeded(model: Any) -> bool:
    """Return whether a model, or a part of it, has a `random_state`."""
    params = model.get_params(deep=False) if hasattr(model, "get_params") else {}
    return "random_state" in params or any(map(is_seeded, params.values()))


def reseeded(model: Any, number: int) -> Any:
    """Return a copy of an estimator, not fitted, with a seed of its own for each number.

    The same seed and number give the same seed; 0 leaves it as it is, and so does any other
    `random_state` than an integer.
    """
    params = {name: reseeded(value, number) if hasattr(value, "get_params") else value
              for name, value in model.get_params(deep=False).items()}
    seed = params.get("random_state")
    if number and isinstance(seed, (int, np.integer)):
        random = np.random.default_rng([int(seed), number])
        params["random_state"] = int(random.integers(1 << 31))
    return type(model)(**params)


def _measured(models: Mapping[str, Any], test: Ratings, wanted: list[Metric],
              options: dict[str, Any]) -> Found:
    """Return the values of each metric of each model, of the same users."""
    own = {name: options[name] for name in ("fold_in", "user_features") if name in options}
    rest = {name: value for name, value in options.items() if name not in own}
    counted = wanted + [N_RELEVANT] * bool(reading(wanted, "ranks", "scores", "lists"))
    found: Found = {}
    for name, model in models.items():
        lists = {"exclude_seen": False} if isinstance(model, Listed) else {}
        values = measured(Alignment(model, test, **own), counted, **{**rest, **lists})
        found[name] = {key: each for key, each in values.items() if isinstance(each, Values)}
    _check_asked(found)
    return found


# ------------------------------------------------------------------------- comparing

def _numbered(parts: list[_Part]) -> tuple[list[np.ndarray], list[np.ndarray]]:
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


def _paired(parts: list[_Part], key: str, first: str, second: str, users: list[np.ndarray],
            items: list[np.ndarray]) -> Paired:
    """Return the differences of two models in a metric, and what each value adds to their mean."""
    both = [_common(part.found[first][key], part.found[second][key]) for part in parts]
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


def _is_one(parts: list[_Part]) -> bool:
    """Return whether all parts are of one test set."""
    return all(part.test is parts[0].test for part in parts)


def _common(one: Values, other: Values) -> tuple[Values, Values]:
    """Return the values that both have."""
    kept = ~np.isnan(one.values) & ~np.isnan(other.values)
    return one.select(kept), other.select(kept)


def _joined(labels: list[np.ndarray]) -> np.ndarray:
    """Return labels of all parts as numbers from 0 without gaps."""
    return np.unique(np.concatenate(labels), return_inverse=True)[1]


# -------------------------------------------------------------------------- refusals

def _names(models: Any, baseline: str | None) -> list[str]:
    if not isinstance(models, Mapping):
        raise TypeError(f"models must be a mapping from name to model, got "
                        f"{type(models).__name__}")
    names = list(models)
    if len(names) < 2 or not all(isinstance(name, str) for name in names):
        raise ValueError(f"models must be at least two, named by strings, got {names}")
    if baseline is not None:
        validation.choice("baseline", baseline, names)
    return names


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


def _listed(name: str, given: Any, test: Ratings, train: Ratings | None) -> Listed:
    if not hasattr(given, "__getitem__"):
        raise TypeError(f"models[{name!r}] must be a model, or lists of recommended items as "
                        f"evaluate_lists takes them, got {type(given).__name__}")
    return Listed(given, test, train=train)


def _check_alike(models: Mapping[str, Any], test: Ratings) -> None:
    """Raise a ValueError unless models know the same items, and users where these have no ids."""
    for name, model in models.items():
        first = next(iter(models))
        for kind in ("item", "user") if test.user_ids is None else ("item",):
            ours, theirs = _ids(models[first], kind), _ids(model, kind)
            if not np.array_equal(ours, theirs):
                raise ValueError(
                    f"models must be fitted on the same {kind}s, in the same order, got "
                    f"{len(ours)} of {first} and {len(theirs)} of {name}, of which "
                    f"{len(set(ours.tolist()) & set(theirs.tolist()))} are the same")


def _ids(model: Any, kind: str) -> np.ndarray:
    ids, size = {"item": (model.item_ids_, model.n_items_),
                 "user": (model.user_ids_, model.n_users_)}[kind]
    return np.arange(size) if ids is None else np.asarray(ids)


def _check_users(test: Ratings) -> None:
    n_users = np.count_nonzero(np.diff(test.by_user.indptr))
    if n_users < 2:
        raise ValueError(f"a comparison needs test ratings of at least two users, got {n_users}")


def _check_cuts(wanted: list[Metric], n_items: int) -> None:
    for metric in wanted:
        if metric.cut > n_items:
            raise ValueError(f"k must be <= the number of items, {n_items}, got {metric.cut}")


def _check_asked(found: Found) -> None:
    """Raise a ValueError unless all models were asked for the same items of the same users."""
    counts = {name: values[N_RELEVANT.key] for name, values in found.items()
              if N_RELEVANT.key in values}
    for name, each in counts.items():
        first = next(iter(counts))
        if not np.array_equal(each.rows, counts[first].rows) or \
                not np.array_equal(each.values, counts[first].values):
            raise ValueError(f"models must be asked for the same items, but {first} and {name} "
                             f"were fitted on different ratings, or lists hold what was seen in "
                             f"training; exclude_seen=False asks for all test ratings")
