"""Vectors for an index of nearest neighbours that finds what `recommend` finds.

Scores are s_ui = q_i·p_u + γ_i + what does not depend on the item, so that with one coordinate more
inner products are enough:

    x_i = [q_i | γ_i]        y_u = [p_u | 1]                        x_i·y_u = s_ui − offset_u

An index of angles or distances ranks the same with another one, where M is the greatest ‖x_i‖
(Bachrach et al. 2014):

    x'_i = [x_i | √(M² − ‖x_i‖²)]        y'_u = [y_u | 0]           ‖x'_i‖ = M for all items
    cos(x'_i, y'_u) = x_i·y_u / (M ‖y_u‖)
    ‖x'_i − y'_u‖² = M² + ‖y_u‖² − 2 x_i·y_u
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mfcore import validation
from mfcore.metrics.fitted import Query
from mfcore.models import registry
from mfcore.models.answering.table import names_of_users
from mfcore.models.inputs import asked_rows
from mfcore.objectives.factors import lengths
from mfcore.parallel import Pool

METRICS = ("dot", "cosine", "euclidean")


class IndexVectors(NamedTuple):
    """Vectors of items, to be found, and of users, to find them with.

    items, users : ndarray, shapes (n_items, d), (n_users, d), in the precision of the model
    item_ids, user_ids : ndarray, shapes (n_items,), (n_users,)
        Row numbers where the ratings had no ids.
    offsets : ndarray of float64, shape (n_users,)
        With `metric="dot"`, a score of the model is the inner product plus the user's offset.
    """

    items: np.ndarray
    users: np.ndarray
    item_ids: np.ndarray
    user_ids: np.ndarray
    offsets: np.ndarray


def vectors_of(model: Any, users: Any, metric: str, ratings: Any, user_features: Any,
               unknown: str) -> IndexVectors:
    """Return the vectors of a model: see `Recommender.index_vectors`."""
    model.check_fitted()
    model.require("index_vectors")
    validation.choice("metric", metric, METRICS)
    asked, known = asked_rows(model, users, ratings, user_features, unknown), model.ratings_
    with Pool(model.n_threads) as pool:
        scorer = model.answers().scorer(asked, Query(), pool)
    if not hasattr(scorer, "linear"):
        raise NotImplementedError(registry.sentence(type(model), "index_vectors"))
    linear = scorer.linear()
    X, Y, real = linear.Q, linear.P, linear.P.dtype
    if linear.gamma is not None:
        X, Y = _beside(X, linear.gamma), _beside(Y, np.ones(len(Y)))
    if metric != "dot":
        X, Y = _of_one_length(X, Y, metric == "cosine")
    offsets = np.full(len(Y), float(linear.mean))
    if linear.beta is not None:
        offsets += linear.beta
    return IndexVectors(X.astype(real), Y.astype(real), _names(known.item_ids, len(X)),
                        names_of_users(asked, known, users), offsets)


def _beside(X: np.ndarray, column: np.ndarray) -> np.ndarray:
    return np.column_stack([X, column])


def _of_one_length(X: np.ndarray, Y: np.ndarray, units: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the vectors with another coordinate, all of one length: 1, or M.

    A user's length changes no order, and squares lose least where both are of one size.
    """
    length = lengths(X)
    most = length.max(initial=0)
    X, Y = _beside(X, np.sqrt(np.maximum(most**2 - length**2, 0))), _beside(Y, np.zeros(len(Y)))
    own, scale = lengths(Y)[:, None], 1.0 if units else most
    return X * (scale / (most or 1.0)), Y * (scale / np.where(own > 0, own, 1.0))


def _names(ids: np.ndarray | None, n_rows: int) -> np.ndarray:
    return np.arange(n_rows) if ids is None else ids
