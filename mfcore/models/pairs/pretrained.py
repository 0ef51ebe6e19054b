"""Where the tables and the head of a network start: from fitted models of the same ratings.

From a factorization, s = μ + b_u + b̃_i + P_u·Q_i, every table gets its vectors (both, with
fusion="gmf+mlp"), and B its biases, in units of the ratings' σ: P / √σ, Q / √σ and b / σ.  Where
the fusion holds a product, the last layer starts as the factorization itself,

    a = 1 on p ∘ q, 0 on the rest, c = 0     so that     a·[p ∘ q | …] + c = p·q

and training starts at its scores; "concat" has to learn a function of the vectors.

From a pair of networks, with a σ' of their own, a product p ∘ q without hidden layer and a
concatenation, their tables and layers are put side by side, and the score starts at the mean of
theirs:

    a = ½ [a_1 | a_2] σ'/σ,  c = ½ (c_1 + c_2) σ'/σ,  b = ½ (b_1 + b_2)

Where it has vectors G of the same features, groups start there in each table, and U = P − F G;
otherwise they start at 0, and U = P.

Source: He et al. 2017, section 3.4.1 (the halves).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mfcore.data.features import Features
from mfcore.data.ratings import Ratings
from mfcore.metrics.alignment import stored_in
from mfcore.models.pairs.fusion import Architecture, Tables, unflatten
from mfcore.models.recommender import Recommender
from mfcore.models.sides import Side, Sides
from mfcore.models.stopping import NothingToWatchError
from mfcore.nn.layers import Linear

Start = tuple[Tables, Tables, list[Linear], float]


def check_pretrained(given: Any, shape: Architecture, ratings: Ratings) -> None:
    """Raise unless `given` is a fitted model, or a pair of networks, that `shape` can use.

    Raises TypeError for anything else, NotFittedError, or ValueError for other users, items
    or lengths of vectors.
    """
    models = given if isinstance(given, tuple) else (given,)
    if not all(isinstance(model, Recommender) for model in models):
        raise TypeError(f"pretrained must be a fitted factorization or a pair of NeuralMF, got "
                        f"{given!r}")
    for model in models:
        model.check_fitted()
        if model.ratings_.shape != ratings.shape or \
                not _same(model.user_ids_, ratings.user_ids) or \
                not _same(model.item_ids_, ratings.item_ids):
            raise ValueError(f"pretrained must be fitted to the users and items of the ratings, "
                             f"shape {ratings.shape}, got {model.ratings_.shape} (or other ids)")
        if model.user_factors_.shape[1] != shape.n_factors:
            raise ValueError(f"n_factors must be that of the pretrained model, "
                             f"{model.user_factors_.shape[1]}, got {shape.n_factors}")
    if isinstance(given, tuple):
        _check_pair(given, shape)
    elif hasattr(given, "weights_"):
        raise TypeError(f"pretrained must be a factorization, or a pair of networks for "
                        f"fusion='gmf+mlp', got one {type(given).__name__}")


def _check_pair(given: tuple[Any, ...], shape: Architecture) -> None:
    wanted = [("product", ()), ("concat", shape.hidden)]
    found = [(getattr(model, "fusion", None), tuple(getattr(model, "hidden", ())))
             for model in given]
    if shape.fusion != "gmf+mlp" or found != wanted:
        raise ValueError(f"a pair of pretrained models goes with fusion='gmf+mlp', as NeuralMF "
                         f"of (fusion, hidden) {wanted}, got {found} for {shape.fusion!r}")


def _same(ids: np.ndarray | None, others: np.ndarray | None) -> bool:
    return ids is others or (ids is not None and others is not None
                             and np.array_equal(ids, others))


def without(given: Any, held: Ratings) -> Any:
    """Return a model, or a pair, fitted again to its ratings without held-out cells.

    What had seen them would seem better than it is.  Raises NothingToWatchError for a model without
    its ratings, or with features.
    """
    if isinstance(given, tuple):
        return tuple(without(model, held) for model in given)
    if not given.has_seen_ or any(side.features is not None for side in (given.users_,
                                                                         given.items_)):
        raise NothingToWatchError("validation cannot fit the pretrained model again, which has "
                                  "features or was saved with seen=False: set validation=None")
    known = given.ratings_.select_cells(~stored_in(given.ratings_.by_user, held.by_user))
    seed = given.random_state if isinstance(given.random_state, int) else 0
    params = {**given.get_params(deep=False), "n_epochs": max(given.n_epochs_, 1),
              "validation": None, "patience": None, "random_state": seed}
    return type(given)(**params).fit(known)


def start_from(given: Any, shape: Architecture, unit: float, random: np.random.Generator) -> Start:
    """Return users, items, head and μ at the start of training, for ratings in a unit σ."""
    if isinstance(given, tuple):
        return _from_pair(given, shape, unit, random)
    root = np.sqrt(unit)
    users, items = (shape.side(side.name, np.hstack([side.factors / root] * shape.n_tables),
                               None if side.bias is None else side.bias / unit)
                    for side in (given.users_, given.items_))
    head = shape.head(random)
    if shape.fusion == "gmf+mlp" or (shape.fusion == "product" and not shape.hidden):
        head[-1].W.value[...] = 0
        head[-1].W.value[:shape.n_factors] = 1
    return users, items, head, given.global_mean_


def groups_of(given: Any, name: str, features: Features, n_tables: int, unit: float = 1.0
              ) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return G and g of a fitted model that learned these features, for ratings in a unit σ.

    None where it did not.
    """
    models = [model for model in (given if isinstance(given, tuple) else (given,))
              if isinstance(model, Recommender)]
    sides = [_side(model, name) for model in models]
    if not sides or not all(_has_groups(side, features) for side in sides):
        return None, None
    root = 1.0 if isinstance(given, tuple) else np.sqrt(unit)       # (a network's have no unit)
    vectors = [np.asarray(side.feature_factors) / root for side in sides] * (
        n_tables // len(sides))
    known = [side.feature_bias / unit for side in sides if side.feature_bias is not None]
    return np.hstack(vectors), np.sum(known, axis=0) / len(sides) if known else None


def check_groups(given: Any, sides: Sides) -> None:
    """Raise ValueError unless `given` learned vectors of all the features of both sides."""
    for side in sides:
        if side.features is not None and groups_of(given, side.name, side.features, 2)[0] is None:
            raise ValueError(f"freeze=True keeps vectors of features too: the pretrained model "
                             f"must have learned those of the same {side.name}_features")


def _side(model: Any, name: str) -> Side:
    side: Side = model.users_ if name == "user" else model.items_
    return side


def _has_groups(side: Side, features: Features) -> bool:
    return side.feature_factors is not None and not side.averaged \
        and list(side.feature_names or ()) == list(features.names)


def _from_pair(pair: tuple[Any, Any], shape: Architecture, unit: float,
               random: np.random.Generator) -> Start:
    gmf, mlp = pair
    tables = []
    for name in ("user", "item"):
        sides = [_side(model, name) for model in pair]
        known = [side.bias / unit for side in sides if side.bias is not None]
        tables.append(shape.side(name, np.hstack([side.factors for side in sides]),
                                 np.sum(known, axis=0) / 2 if known else None))
    heads = [unflatten(model.weights_, model.architecture().head(random)) for model in pair]
    (first,), (*hidden, last) = heads
    output = shape.head(random)[-1]
    shares = [model.rating_scale_ / unit / 2 for model in pair]
    output.W.value[...] = np.vstack([shares[0] * first.W.value, shares[1] * last.W.value])
    output.b.value[...] = shares[0] * first.b.value + shares[1] * last.b.value
    return tables[0], tables[1], [*hidden, output], (gmf.global_mean_ + mlp.global_mean_) / 2
