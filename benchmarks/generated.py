"""Ratings and choices of the shape of public data sets: activity, popularity and taste are drawn.

Users' activity is log-normal, items' popularity a power law.  A rating is the product of hidden
vectors plus an item's bias and noise, in half stars; which items are rated says nothing of
taste.  A choice is what a user takes of a few favourite genres, or of all items.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp


def generated(n_users: int, n_items: int, nnz: int, seed: int = 0) -> sp.csr_array:
    """Return about nnz ratings, 0.5 to 5, shape (n_users, n_items)."""
    random = np.random.default_rng(seed)
    activity, popularity = _activity(n_users, nnz, 1.08, random), _popularity(n_items)
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


def chosen(n_users: int, n_items: int, nnz: int, seed: int = 0, genres: int = 20
           ) -> sp.csr_array:
    """Return about nnz choices, counts of 1 to 5, shape (n_users, n_items).

    An item has one genre, a user four favourites with shares of 0.35, 0.2, 0.15 and 0.1; a
    fifth of the choices is of any genre.
    """
    random = np.random.default_rng(seed)
    users = np.repeat(np.arange(n_users), _activity(n_users, nnz, 1.6, random))
    shares = np.cumsum([0.35, 0.2, 0.15, 0.1])
    favourites = random.integers(0, genres, (n_users, len(shares) + 1))
    pick = np.searchsorted(shares, random.random(len(users)))
    genre = favourites[users, pick]
    anywhere = pick == len(shares)
    genre[anywhere] = random.integers(0, genres, int(anywhere.sum()))
    items = _of_genres(genre, random.integers(0, genres, n_items), _popularity(n_items), random)
    cells = np.unique(users.astype(np.int64) * n_items + items)
    if len(cells) > nnz:
        cells = np.sort(random.choice(cells, nnz, replace=False))
    users, items = np.divmod(cells, n_items)
    counts = np.minimum(1 + random.poisson(1.0, len(cells)), 5).astype(np.float32)
    return sp.csr_array((counts, (users.astype(np.int32), items.astype(np.int32))),
                        shape=(n_users, n_items))


def _activity(n_users: int, nnz: int, surplus: float, random: np.random.Generator) -> np.ndarray:
    """Draw how much each user does; the surplus is for what is drawn twice."""
    drawn = random.lognormal(0, 1.2, n_users)
    return np.maximum((drawn / drawn.sum() * nnz * surplus).astype(int), 5)


def _popularity(n_items: int) -> np.ndarray:
    return 1 / (np.arange(1, n_items + 1) + 50.0) ** 0.9


def _of_genres(genre: np.ndarray, of_item: np.ndarray, popularity: np.ndarray,
               random: np.random.Generator) -> np.ndarray:
    """Draw an item of each given genre, by popularity."""
    order = np.argsort(of_item, kind="stable")
    ends = np.concatenate([[0.0], np.cumsum(popularity[order])])
    first = np.searchsorted(of_item[order], np.arange(of_item.max() + 2))
    low, high = ends[first[genre]], ends[first[genre + 1]]
    place = np.searchsorted(ends, low + (high - low) * random.random(len(genre)), side="right") - 1
    return order[np.minimum(place, len(order) - 1)]
