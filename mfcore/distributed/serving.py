"""`recommend` and `evaluate` on a cluster, users in blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import numpy as np

from mfcore import validation
from mfcore.distributed.blocks import itself
from mfcore.distributed.cluster import check_versions, connected
from mfcore.metrics.evaluate import evaluate as evaluate_here
from mfcore.parallel import row_chunks

BLOCK_USERS = 8192


def recommend(model: Any, users: Any = None, k: int = 10, *, client: Any = None,
              block_users: int = BLOCK_USERS, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return what `model.recommend(users, k, **options)` does, users in blocks on a cluster.

    `options` are those that hold for all users alike: similarity, exclude_seen, and ids as
    items and exclude_items.
    """
    model._check_fitted()
    validation.integer("block_users", block_users, low=1)
    rows = np.arange(model.n_users_) if users is None else model.ratings_.known_users(users)
    names = rows if model.user_ids_ is None else model.user_ids_[rows]
    with connected(client) as cluster:
        check_versions(cluster)
        call = uuid4().hex
        held = cluster.submit(itself, model, pure=False, key=f"model-{call}")
        parts = cluster.gather([
            cluster.submit(_recommended, held, names[lo:hi], k, options, pure=False,
                           key=f"recommend-{lo}-{call}")
            for lo, hi in row_chunks(len(names), block_users)])
    ids, scores = zip(*parts, strict=True)
    return np.concatenate(ids), np.concatenate(scores)


def _recommended(model: Any, users: np.ndarray, k: int, options: dict[str, Any]
                 ) -> tuple[np.ndarray, np.ndarray]:
    found: tuple[np.ndarray, np.ndarray] = model.set_params(n_threads=1).recommend(
        users, k, **options)
    return found


def evaluate(model: Any, test: Any, *, client: Any = None, **options: Any) -> dict[str, float]:
    """Return what `mfcore.evaluate(model, test, **options)` does, on a cluster."""
    with connected(client) as cluster:
        check_versions(cluster)

        def over(function: Any, shared: Any, parts: Sequence[Any]) -> list[Any]:
            call = uuid4().hex
            held = cluster.submit(itself, shared, pure=False, key=f"model-{call}")
            found: list[Any] = cluster.gather([
                cluster.submit(function, held, part, pure=False,
                               key=f"evaluate-{number}-{call}")
                for number, part in enumerate(parts)])
            return found

        return evaluate_here(model, test, over=over, **options)
