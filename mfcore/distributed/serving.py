"""`recommend` and `evaluate` on a cluster, users in blocks."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any
from uuid import uuid4

import numpy as np

from mfcore import validation
from mfcore.distributed.blocks import constant
from mfcore.distributed.cluster import check_versions, connected
from mfcore.metrics.evaluate import evaluate as evaluate_here
from mfcore.parallel import row_chunks


def recommend(model: Any, users: Any = None, k: int = 10, *, client: Any = None,
              block_users: int = 8192, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return what `model.recommend(users, k, **options)` does, users in blocks on a cluster.

    `options` must be the same for all users: similarity, exclude_seen, and items and
    exclude_items as ids.
    """
    model.check_fitted()
    validation.integer("block_users", block_users, low=1)
    rows = np.arange(model.n_users_) if users is None else model.ratings_.known_users(users)
    names = rows if model.user_ids_ is None else model.user_ids_[rows]
    blocks = (names[lo:hi] for lo, hi in row_chunks(len(names), block_users))

    def recommended(there: Any, users: np.ndarray) -> Any:
        return there.set_params(n_threads=1).recommend(users, k, **options)

    with connected(client) as cluster:
        check_versions(cluster)
        parts = _over(cluster, "recommend", recommended, model, blocks)
    ids, scores = zip(*parts, strict=True)
    return np.concatenate(ids), np.concatenate(scores)


def evaluate(model: Any, test: Any, *, client: Any = None, **options: Any) -> dict[str, float]:
    """Return what `mfcore.evaluate(model, test, **options)` does, on a cluster."""
    with connected(client) as cluster:
        check_versions(cluster)
        return evaluate_here(model, test, over=partial(_over, cluster, "evaluate"), **options)


def _over(cluster: Any, name: str, function: Any, shared: Any, parts: Iterable[Any]
          ) -> list[Any]:
    """Return function(shared, part) for each part; no two calls use the same keys."""
    call = uuid4().hex
    held = cluster.submit(constant, shared, pure=False, key=f"model-{call}")
    return list(cluster.gather([
        cluster.submit(function, held, part, pure=False, key=f"{name}-{number}-{call}")
        for number, part in enumerate(parts)]))
