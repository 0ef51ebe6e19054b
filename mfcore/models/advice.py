"""What a fit that says little is told, in a sentence each, with a cure.

    vectors     max |P_u| · max |Q_i| < 10⁻⁴ σ: no score P_u·Q_i changes anything (sides.py)
    overfitted  RMSE of training cells below half of that of held-out cells, which is not itself
                below half of that of biases alone
    no better   on held-out cells errors are larger than those of biases alone, or lists worse than
                popularity: d̄ > 2 s / √n for paired differences d of n cells, or of n users, and
                a difference that can be seen in four digits

The last two need a held-out share, and read a sample of it.  A model behind biases lacks
epochs where the last one was the best, and training errors are not below those of biases.  One
that is as good as biases is not told so: where there is no taste to learn, that is the answer.
Nor is one that was left with biases by the penalty that it found.  And ratings without
noise are learned to the last digit by a sound model, whose held-out errors are then far below
those of biases.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np

from mfcore.data.ratings import Ratings
from mfcore.models import registry
from mfcore.objectives.biases import fitted_biases

GAP, ERRORS, SEEN = 0.5, 2.0, 1e-3
CELLS, USERS, LEAST = 4000, 300, 30          # of a sample, and below which it says nothing
SWEEPS = 2                                   # for biases alone


def of_vectors(model: Any) -> Iterator[str]:
    """Yield what is to be said of a model whose vectors shrank to nothing."""
    if getattr(model, "reg", None) == "auto" and model.user_bias_ is not None:
        return                                  # biases are all that was found in the ratings
    largest = model.users_.longest * model.items_.longest
    cures = [cure for name, cure in (("reg", "lower reg"), ("alpha", "raise alpha"))
             if hasattr(model, name)] or ["rescale the ratings"]
    yield (f"all vectors shrank to nothing (no score P·Q is above {largest:.1e}), so that every "
           f"user gets the same list but for biases: {' or '.join(cures)}")


def of_share(model: Any, known: Ratings, held: Ratings, gaining: bool) -> Iterator[str]:
    """Yield what is to be said of a model fitted to `known`, by ratings that it has not seen.

    gaining : whether its last epoch was the best one, and no more were allowed
    """
    with np.errstate(all="ignore"):
        yield from (_of_errors if model.predicts_ratings else _of_lists)(
            model, known, held, gaining)


def _of_errors(model: Any, known: Ratings, held: Ratings, gaining: bool) -> Iterator[str]:
    seen, unseen = _sampled_cells(known), _sampled_cells(held)
    if unseen.nnz < LEAST:
        return
    inside, outside = (_squares(model, part) for part in (seen, unseen))
    users, items = fitted_biases(known, model.mean_rating_, SWEEPS)
    cells = unseen.by_user
    biased = np.clip(model.mean_rating_ + users[unseen.users_of_cells] + items[cells.indices],
                     *model.rating_range_)
    alone = (cells.data - biased) ** 2
    trained, rmse, simple = (float(np.sqrt(each.mean())) for each in (inside, outside, alone))
    if _is_above(outside, alone):
        yield (f"on the held-out share the RMSE {rmse:.4g} is above {simple:.4g}, that of biases "
               f"alone: {_cure(gaining and trained > simple)}")
    elif trained < GAP * rmse and rmse > GAP * simple:
        yield (f"the RMSE of training ratings, {trained:.4g}, is far below {rmse:.4g}, that of the "
               f"held-out share: {_cure()}")


def _of_lists(model: Any, known: Ratings, held: Ratings, gaining: bool) -> Iterator[str]:
    from mfcore.metrics.evaluate import evaluate

    asked = np.flatnonzero(np.diff(held.by_user.indptr))
    rows = asked[np.linspace(0, len(asked) - 1, min(USERS, len(asked))).astype(int)]
    test = held.select_cells(np.isin(held.users_of_cells, rows))
    popularity = _popularity(model.n_threads).fit(known)
    found, simple = (evaluate(each, test, metrics="ndcg@10", per_user=True,
                              n_threads=model.n_threads)["ndcg@10"]
                     for each in (model, popularity))
    both = np.isfinite(found) & np.isfinite(simple)
    if both.sum() >= LEAST and _is_above(simple[both], found[both]):
        yield (f"on the held-out share NDCG@10 is {found[both].mean():.4g}, below "
               f"{simple[both].mean():.4g}, that of Popularity: {_cure(gaining)}")


def _popularity(n_threads: int | None) -> Any:
    # (its module imports, in the end, this one)
    return import_module(registry.MODELS["Popularity"].module).Popularity(n_threads=n_threads)


def _squares(model: Any, ratings: Ratings) -> np.ndarray:
    """Return squared errors of the stored cells; the ratings have the rows of the fit."""
    cells = ratings.by_user
    users, items = ratings.users_of_cells, cells.indices
    if model.user_ids_ is not None:
        users = model.user_ids_[users]
    if model.item_ids_ is not None:
        items = model.item_ids_[items]
    predicted = np.clip(model.predict(users, items), *model.rating_range_)
    squares: np.ndarray = (cells.data - predicted) ** 2
    return squares


def _sampled_cells(ratings: Ratings) -> Ratings:
    if ratings.nnz <= CELLS:
        return ratings
    chosen = np.zeros(ratings.nnz, bool)
    chosen[np.linspace(0, ratings.nnz - 1, CELLS).astype(int)] = True
    return ratings.select_cells(chosen)


def _is_above(one: np.ndarray, other: np.ndarray) -> bool:
    """Return whether the mean of `one` is larger, by more than chance and rounding explain."""
    d = one - other
    return bool(d.mean() > ERRORS * d.std() / np.sqrt(len(d)) + SEEN * one.mean())


def _cure(lacks_epochs: bool = False) -> str:
    return (f"raise {'n_epochs' if lacks_epochs else 'reg'}, or choose the hyper-parameters with "
            f"mfcore.tune")
