"""Ratings of the shape of public data sets: activity, popularity and taste are drawn.

Users' activity is log-normal, items' popularity a power law, a rating the product of hidden
vectors plus an item's bias and noise, in half stars.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp


def generated(n_users: int, n_items: int, nnz: int, seed: int = 0) -> sp.csr_array:
    """Return about nnz ratings, 0.5 to 5, shape (n_users, n_items)."""
    random = np.random.default_rng(seed)
    activity = random.lognormal(0, 1.2, n_users)
    activity = np.maximum((activity / activity.sum() * nnz * 1.08).astype(int), 5)
    popularity = 1 / (np.arange(1, n_items + 1) + 50.0) ** 0.9
    P, Q = (random.normal(size=(n, 16)).astype(np.float32) / 2 for n in (n_users, n_items))
    bias = random.normal(0, 0.5, n_items).astype(np.float32)
    users = np.repeat(np.arange(n_users), activity)
    items = np.searchsorted(np.cumsum(popularity) / popularity.sum(), random.random(len(users)))
    users, items = np.divmod(np.unique(users.astype(np.int64) * n_items + items), n_items)
    scores = np.concatenate([(P[users[start:start + 10**6]] * Q[items[start:start + 10**6]]).sum(1)
                             for start in range(0, len(users), 10**6)])
    noise = random.normal(0, 0.6, len(users)).astype(np.float32)
    stars = np.clip(np.round((3.5 + 0.6 * scores + bias[items] + noise) * 2) / 2, 0.5, 5)
    return sp.csr_array((stars.astype(np.float32), (users.astype(np.int32),
                                                    items.astype(np.int32))),
                        shape=(n_users, n_items))
