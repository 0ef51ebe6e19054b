"""Measure models on the same test sets, for `compare`: fitted ones, or new ones on each fold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from mfcore.data.ids import Ids
from mfcore.data.ratings import Ratings, as_ratings
from mfcore.metrics.alignment import Alignment
from mfcore.metrics.evaluate import measured
from mfcore.metrics.external import Listed
from mfcore.metrics.measure import Values
from mfcore.metrics.table import Metric, reading

N_RELEVANT = Metric("n_relevant", "n_relevant", None)
Found = dict[str, dict[str, Values]]      # of each model, of each metric


class Part(NamedTuple):
    """What is found on a test set."""

    found: Found
    test: Ratings
    share: float        # test ratings over training ratings


def tested(models: Mapping[str, Any], test: Any, wanted: list[Metric], options: dict[str, Any],
           refits: int) -> Iterator[Part]:
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
    part = Part(_measured(contestants, test, wanted, options), test, 0.0)
    yield part
    yield from _refitted(seeded, part, wanted, options, refits)


def validated(models: Mapping[str, Any], folds: Iterable[tuple[Any, Any]], wanted: list[Metric],
              options: dict[str, Any], refits: int) -> Iterator[Part]:
    """Fit and measure a new copy of each model on each fold; again if there is only one."""
    number = -1
    for number, (train, test) in enumerate(folds):
        train, test = as_ratings("train", train), as_ratings("test", test)
        _check_users(test)
        _check_cuts(wanted, train.shape[1])
        fitted = {name: reseeded(model, number).fit(train) for name, model in models.items()}
        part = Part(_measured(fitted, test, wanted, options), test, test.nnz / train.nnz)
        yield part
    if number == 0:
        yield from _refitted(_seeded(fitted), part, wanted, options, refits)


def _refitted(seeded: Mapping[str, Any], part: Part, wanted: list[Metric],
              options: dict[str, Any], refits: int) -> Iterator[Part]:
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


# -------------------------------------------------------------------------- refusals

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
            rows = Ids(f"{kind}s", theirs).positions(ours)
            if not np.array_equal(rows, np.arange(len(theirs))):
                raise ValueError(
                    f"models must be fitted on the same {kind}s, in the same order, got "
                    f"{len(ours)} of {first} and {len(theirs)} of {name}, of which "
                    f"{np.count_nonzero(rows >= 0)} are the same")


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
