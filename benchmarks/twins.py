"""Data on which defaults are chosen: public ones, and generated ones of other shapes.

Ratings are a mean, biases of users and items, a few factors, and noise, in the words of the data;
choices are drawn by popularity among an item's group and anywhere.  What each is like is said in
its `says`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from benchmarks.generated import chosen, generated
from mfcore import Ratings, fetch


class Twin(NamedTuple):
    """Data by what they are like.

    held_users : whole users are held out, not cells of each
    """

    says: str
    make: Callable[[], Ratings]
    held_users: bool = False


def rated(shape: tuple[int, int], share: float, ends: tuple[float, float], step: float,
          signal: float, noise: float, skew: float = 0.0, rank: int = 5, seed: int = 0) -> Ratings:
    """Return ratings between two ends, in steps (0: as they are).

    signal, noise : standard deviations of factors and of errors where that of biases is 1 in all
    skew : power of the items' popularity by their rank
    """
    random = np.random.default_rng(seed)
    users, items = _cells(shape, share, skew, random)
    P, Q = (random.standard_normal((n, rank)) for n in shape)
    b, c = (np.sqrt(0.5) * random.standard_normal(n) for n in shape)
    s = b[users] + c[items] + signal / np.sqrt(rank) * np.einsum("cf,cf->c", P[users], Q[items]) \
        + noise * random.standard_normal(len(users))
    low, high = ends
    r = (low + high) / 2 + (high - low) / 5 * s / np.sqrt(1 + signal**2 + noise**2)
    if step:
        r = step * np.round(r / step)
    return Ratings.from_arrays(users, items, np.clip(r, low, high))


def _cells(shape: tuple[int, int], share: float, skew: float, random: np.random.Generator
           ) -> tuple[np.ndarray, np.ndarray]:
    """Draw cells, each user's share of the items with odds by popularity."""
    odds = -skew * np.log(np.arange(1, shape[1] + 1) + 10.0)
    n = np.maximum(random.binomial(shape[1], share, shape[0]), 1)
    drawn = [np.argpartition(-(odds + random.gumbel(size=shape[1])), each - 1)[:each] for each in n]
    return np.repeat(np.arange(shape[0]), n), np.concatenate(drawn)


def bought(shape: tuple[int, int], per_user: float, n_groups: int, own: float = 0.8,
           skew: float = 0.0, spread: float = 0.0, seed: int = 0) -> Ratings:
    """Return what users take, a share `own` of it among the items of their own group.

    spread : standard deviation of the logarithm of counts; 0: every count is 1
    """
    random = np.random.default_rng(seed)
    n = np.maximum(random.poisson(per_user, shape[0]), 1)
    users = np.repeat(np.arange(shape[0]), n)
    size = shape[1] // n_groups
    odds = (np.arange(1, size + 1) + 5.0) ** -skew
    of_group = np.searchsorted(np.cumsum(odds) / odds.sum(), random.random(len(users)))
    group = np.where(random.random(len(users)) < own, users % n_groups,
                     random.integers(0, n_groups, len(users)))
    cells, first = np.unique(users * shape[1] + of_group * n_groups + group, return_index=True)
    counts = np.ceil(np.exp(spread * random.standard_normal(len(cells)))) if spread else \
        np.ones(len(cells))
    return Ratings.from_arrays(*np.divmod(cells, shape[1]), counts)


def ones(ratings: Ratings) -> Ratings:
    """Return the same cells, all 1."""
    return Ratings.from_arrays(ratings.users_of_cells, ratings.by_user.indices,
                               np.ones(ratings.nnz))


def _likes() -> Ratings:
    return ones(Ratings(chosen(4000, 1500, 120_000)))


def _busy(name: str, least: int) -> Ratings:
    ratings = ones(fetch(name).ratings)
    return ratings.select_users(np.flatnonzero(np.diff(ratings.by_user.indptr) >= least))


def _drawn(shape: tuple[int, int], share: float, seed: int
           ) -> tuple[np.random.Generator, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random, *_cells(shape, share, 0.5, random)


def _effects(shape: tuple[int, int], share: float, user: float, item: float, noise: float,
             seed: int) -> Ratings:
    """Return ratings of biases alone."""
    random, users, items = _drawn(shape, share, seed)
    b, c = user * random.standard_normal(shape[0]), item * random.standard_normal(shape[1])
    return Ratings.from_arrays(users, items, b[users] + c[items]
                               + noise * random.standard_normal(len(users)))


def _taste(shape: tuple[int, int], share: float, seed: int) -> Ratings:
    """Return 1 or 10: whether a user's side of five questions is the item's."""
    random, users, items = _drawn(shape, share, seed)
    P, Q = (random.standard_normal((n, 5)) for n in shape)
    return Ratings.from_arrays(users, items, np.where(
        (P[users] * Q[items]).sum(1) + random.standard_normal(len(users)) > 0, 10.0, 1.0))


def _seconds(shape: tuple[int, int], share: float, seed: int) -> Ratings:
    """Return log-normal times: what is additive in their logarithm is not in themselves."""
    random, users, items = _drawn(shape, share, seed)
    b, c = (0.7 * random.standard_normal(n) for n in shape)
    return Ratings.from_arrays(users, items, np.exp(
        4 + b[users] + c[items] + 0.5 * random.standard_normal(len(users))))


def _clicks(shape: tuple[int, int], share: float, rate: float, seed: int) -> Ratings:
    """Return 0 or 1, few of them 1, by biases and two factors in the log-odds."""
    random, users, items = _drawn(shape, share, seed)
    P, Q = (random.standard_normal((n, 3)) for n in shape)
    s = np.log(rate / (1 - rate)) + P[users, 0] + Q[items, 0] \
        + (P[users, 1:] * Q[items, 1:]).sum(1)
    return Ratings.from_arrays(users, items,
                               (random.random(len(users)) < 1 / (1 + np.exp(-s))).astype(float))


RATED = {
    "MovieTweetings 100K": Twin("16,554 × 10,506, 0 to 10, six ratings per user, public",
                                lambda: fetch("movietweetings-100k").ratings),
    "MovieTweetings 10K": Twin("3,794 × 3,096, 0 to 10, three per user, public",
                               lambda: fetch("movietweetings-10k").ratings),
    "skewed stars": Twin("943 × 1,682, half stars, 100,000 ratings, activity and popularity of "
                         "the shape of MovieLens 100K", lambda: Ratings(
                             generated(943, 1682, 100_000))),
    "−10 to 10": Twin("3,000 × 100, 60 % rated, in hundredths; much noise, few factors",
                      lambda: rated((3000, 100), 0.6, (-10, 10), 0.01, 0.9, 1.8)),
    "noisy stars": Twin("4,000 × 800, 4 % rated, 1 to 5; factors explain 6 %, biases 15 %",
                        lambda: rated((4000, 800), 0.04, (1, 5), 1, 0.6, 2.2, 0.7)),
    "0 to 100": Twin("2,000 × 500, 8 % rated, with decimals; little noise",
                     lambda: rated((2000, 500), 0.08, (0, 100), 0, 1.5, 0.4)),
    "0 or 1": Twin("2,000 × 500, 8 % rated, 0 or 1",
                   lambda: rated((2000, 500), 0.08, (0, 1), 1, 1.2, 0.7, 0.5)),
    "half of all": Twin("600 × 300, 50 % rated, 1 to 5, even popularity",
                        lambda: rated((600, 300), 0.5, (1, 5), 1, 1.0, 1.0)),
    "one in a thousand": Twin("9,000 × 6,000, 0.1 % rated, 1 to 5, skewed popularity",
                              lambda: rated((9000, 6000), 0.001, (1, 5), 1, 1.0, 1.0, 0.9)),
    "a panel": Twin("200 × 80, 50 % rated, 0 to 100 in whole numbers",
                    lambda: rated((200, 80), 0.5, (0, 100), 1, 0.8, 0.6, seed=11)),
    "no noise": Twin("1,500 × 400, 6 % rated, −10 to 10 with decimals, next to no noise",
                     lambda: rated((1500, 400), 0.06, (-10, 10), 0, 1.2, 0.02, seed=12)),
}

CHOSEN = {
    "Online Retail": Twin("4,339 × 3,665, bought or not, public",
                          lambda: ones(fetch("online-retail").ratings)),
    "Online Retail, pieces": Twin("the same with the number of pieces, up to thousands",
                                  lambda: fetch("online-retail").ratings),
    "MovieTweetings 100K": Twin("4,692 users with five or more films, rated or not, public",
                                lambda: _busy("movietweetings-100k", 5)),
    "likes": Twin("4,000 × 1,500, 120,000, four favourite genres of twenty, best-sellers",
                  _likes),
    "likes, new users": Twin("the same, a fifth of the users held out and folded in", _likes,
                             True),
    "plays": Twin("3,000 × 1,500, 20 per user in 30 groups, counts log-normal from 1 to 10⁴",
                  lambda: bought((3000, 1500), 20, 30, 0.6, 1.0, 2.0)),
    "marketplace": Twin("4,000 × 2,000, 8 per user in 20 groups, no best-sellers",
                        lambda: bought((4000, 2000), 8, 20)),
    "even groups": Twin("1,575 × 1,571, 3.3 per user in 40 groups, no best-sellers: the shape of "
                        "LIBMF's one-class demo", lambda: bought((1575, 1571), 3.3, 40, 0.95)),
    "one purchase": Twin("30,000 × 1,000, a median of 1 per user in 25 groups, best-sellers",
                         lambda: bought((30_000, 1000), 1.0, 25, 0.8, 0.8)),
    "half of all": Twin("5,000 × 200, 40 to 50 % taken, 10 groups",
                        lambda: bought((5000, 200), 140, 10, 0.6, 0.4, seed=22)),
    "hits alone": Twin("4,000 × 1,500, 12 per user by popularity, no taste",
                       lambda: bought((4000, 1500), 12, 1, 0.5, 1.2, seed=24)),
    "few users": Twin("250 × 3,000, 40 per user in 8 groups",
                      lambda: bought((250, 3000), 40, 8, 0.8, 0.8, seed=26)),
}

# Kinds of data that no default was chosen on.
OTHER_RATED = {
    "tiny": Twin("40 × 25, 300 ratings, 1 to 5", lambda: rated((40, 25), 0.3, (1, 5), 1, 1.0, 1.0,
                                                              seed=31)),
    "biases alone": Twin("1,500 × 300, 5 % rated; biases and noise, no factor",
                         lambda: _effects((1500, 300), 0.05, 1.0, 1.0, 1.0, 32)),
    "noise alone": Twin("1,500 × 300, 5 % rated; noise, nothing else",
                        lambda: _effects((1500, 300), 0.05, 0.0, 0.0, 1.0, 33)),
    "items alone": Twin("1,500 × 300, 3 % rated; biases of items, little noise",
                        lambda: _effects((1500, 300), 0.03, 0.0, 1.0, 0.1, 34)),
    "taste alone": Twin("1,200 × 400, 10 % rated, 1 or 10; five factors, no bias",
                        lambda: _taste((1200, 400), 0.1, 35)),
    "seconds": Twin("1,500 × 400, 6 % rated, log-normal with biases in the logarithm",
                    lambda: _seconds((1500, 400), 0.06, 36)),
    "clicks": Twin("2,000 × 300, 10 % shown, 8 % of that clicked, 0 or 1",
                   lambda: _clicks((2000, 300), 0.1, 0.03, 37)),
    "prices": Twin("800 × 300, 8 % rated, 100,000 to 900,000",
                   lambda: rated((800, 300), 0.08, (1e5, 9e5), 1, 1.0, 0.6, seed=38)),
    "survey": Twin("3,000 × 8, all but a tenth answered, 1 to 7, two factors",
                   lambda: rated((3000, 8), 0.9, (1, 7), 1, 1.0, 0.8, rank=2, seed=39)),
    "few users": Twin("25 × 4,000, a tenth rated, 1 to 5",
                      lambda: rated((25, 4000), 0.1, (1, 5), 1, 1.0, 0.8, seed=40)),
    "one rating per user": Twin("8,000 × 200, one or two per user, 1 to 5",
                                lambda: rated((8000, 200), 0.006, (1, 5), 1, 1.0, 1.0, 0.6,
                                              seed=41)),
}
OTHER_CHOSEN = {
    "tiny": Twin("40 × 30, 6 per user in three groups", lambda: bought((40, 30), 6, 3, 0.7, 0.8,
                                                                      seed=51)),
    "no taste, even": Twin("1,500 × 400, 10 per user, anything alike",
                           lambda: bought((1500, 400), 10, 1, seed=52)),
    "one hit": Twin("3,000 × 800, 6 per user, a steep power law, no taste",
                    lambda: bought((3000, 800), 6, 1, 0.5, 2.0, seed=53)),
    "hits and taste": Twin("2,000 × 1,000, 10 per user, steep popularity in ten groups",
                           lambda: bought((2000, 1000), 10, 10, 0.5, 1.5, seed=54)),
    "sharp taste": Twin("2,000 × 1,200, 10 per user in 60 groups, no best-sellers",
                        lambda: bought((2000, 1200), 10, 60, 0.95, seed=55)),
    "few items": Twin("4,000 × 15, 4 per user in three groups",
                      lambda: bought((4000, 15), 4, 3, 0.7, 0.5, seed=56)),
    "wide": Twin("1,000 × 12,000, 15 per user in 50 groups, best-sellers",
                 lambda: bought((1000, 12_000), 15, 50, 0.7, 1.0, seed=57)),
    "heavy counts": Twin("1,500 × 600, 20 per user in 15 groups, counts log-normal to 10⁶",
                         lambda: bought((1500, 600), 20, 15, 0.7, 0.8, 3.0, seed=58)),
    "long lists": Twin("400 × 1,000, 200 per user in 10 groups, best-sellers",
                       lambda: bought((400, 1000), 200, 10, 0.5, 1.0, seed=59)),
    "one purchase, even": Twin("6,000 × 500, one or two per user in 25 groups, no best-sellers",
                               lambda: bought((6000, 500), 1.2, 25, 0.9, seed=60)),
}
