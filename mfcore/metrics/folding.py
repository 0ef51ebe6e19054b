"""Folding: unrelated parts of a catalogue that fall on top of each other.

A model that never saw two groups together may still recommend items of one to users of the
other.  If the groups are known, `cross_group_rate` is the share of such recommendations.  If
they are not, a recommendation can be compared with how related its user and item are: r of
`mfcore.metrics.relatedness`.

    F = 1/(mn) Σ_ui max(0, s_ui − r_ui)            (Xin et al., RecSys 2017, scores s in [0, 1])

compares numbers on different scales: shrink s, and F falls although the recommendations stay
the same.  So both are first replaced by their quantiles among the items that may be
recommended to the user, and only recommended items count:

    q_s(i) = (#{j : s_j < s_i} + ½ #{j : s_j = s_i}) / n          n candidates j, i among them
    F@k    = mean over users and their k best items i of max(0, q_s(i) − q_r(i))

in [0, 1).  It is 0 if the most related items are recommended, and about ½ if recommendations
have nothing to do with relatedness.  No monotone change of a user's scores, or of r, changes
F@k.  Some items are more related than others within an audience too, so F@k never quite
reaches 0.  `spurious_rate`, the share of recommendations with q_s − q_r > ½ (half of all
candidates), leaves that out.  A user without known ratings has no r and does not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mfcore import validation
from mfcore.metrics.fitted import Query
from mfcore.metrics.ranking import mean_over_users
from mfcore.metrics.relatedness import Relatedness
from mfcore.metrics.topk import ROWS_AT_A_TIME, Masks, best_of_block, masked_block, score_blocks
from mfcore.parallel import Pool, row_chunks

FAR = 0.5       # q_s − q_r of a spurious recommendation is larger


class SpuriousPair(NamedTuple):
    """A recommendation whose user and item are less related than its score suggests."""

    user: Any
    item: Any
    title: str
    score_quantile: float
    relatedness_quantile: float


def cross_group_rate(items: Any, user_groups: Any, item_groups: Any) -> float:
    """Return the share of recommended items whose group is not the user's, in [0, 1].

    Parameters
    ----------
    items : array-like of int, shape (n_users, k)
        Recommended item numbers; -1 marks a missing place, which does not count.
    user_groups : array-like, shape (n_users,)
        Group of each user: numbers or names, comparable with those of the items.
    item_groups : array-like, shape (n_items,)
        Group of each item.

    Returns
    -------
    rate : float
        NaN when nothing is recommended to anyone.

    Raises
    ------
    ValueError
        For groups that do not fit the users.
    IndexError
        For item numbers outside the groups.
    """
    items, user_groups, item_groups = map(np.asarray, (items, user_groups, item_groups))
    if items.ndim != 2 or user_groups.shape != items.shape[:1]:
        raise ValueError(f"items must have shape (n_users, k) and user_groups (n_users,), got "
                         f"{items.shape} and {user_groups.shape}")
    users, places = np.nonzero(items != -1)
    chosen = validation.positions("items", items[users, places], item_groups.size)
    if not chosen.size:
        return float("nan")
    return float(np.mean(user_groups[users] != item_groups[chosen]))


def folding(model: Any, k: int = 10, *, users: Any = None,
            relatedness: Relatedness | None = None, n_threads: int | None = None) -> float:
    """Return F@k of a model's recommendations, in [0, 1): see the head of this file.

    Parameters
    ----------
    model : fitted model
        With its training ratings: items that a user rated are not recommended.
    k : int >= 1
    users : ids (row numbers where the ratings had none), or None
        None: all users of the fit.
    relatedness : Relatedness or None
        Made from ratings with the same items; None: made from the training ratings.
    n_threads : int >= 1 or None
        The result does not depend on it.

    Returns
    -------
    folding : float
        NaN if no user has both a rating and a recommendation.
    """
    found = _recommended(model, k, users, relatedness, n_threads)
    return mean_gap(found.score - found.related)


def spurious_pairs(model: Any, n: int = 20, *, k: int = 10, users: Any = None,
                   titles: Mapping[Any, str] | Sequence[str] | None = None,
                   relatedness: Relatedness | None = None,
                   n_threads: int | None = None) -> list[SpuriousPair]:
    """List the recommendations that relatedness supports least, worst first.

    Parameters
    ----------
    model, k, users, relatedness, n_threads
        As for `folding`: the pairs are among the k best items of each user.
    n : int >= 1
        Number of pairs; fewer are listed if fewer have q_s > q_r.
    titles : mapping from item to title, sequence in the order of the items, or None

    Returns
    -------
    pairs : list of SpuriousPair
        By decreasing q_s − q_r; ties in the order of the users, then of their lists.
    """
    n = validation.count("n", n)
    found = _recommended(model, k, users, relatedness, n_threads)
    gaps = np.nan_to_num(found.score - found.related)
    worst = np.argsort(-gaps, axis=None, kind="stable")[:n]
    return [_pair(model, found, int(row), int(place), titles)
            for row, place in zip(*np.unravel_index(worst, gaps.shape), strict=True)
            if gaps[row, place] > 0]


def mean_gap(gaps: np.ndarray) -> float:
    """Return the mean of max(0, q_s − q_r), without NaN; NaN if nothing is left."""
    return mean_over_users(np.maximum(gaps, 0.0))


def spurious_rate(gaps: np.ndarray) -> float:
    """Return the share of recommendations with q_s − q_r > ½; NaN does not count."""
    return mean_over_users(np.where(np.isnan(gaps), gaps, gaps > FAR))


class _Found(NamedTuple):
    """Recommendations and their quantiles, NaN where there is none."""

    rows: np.ndarray  # (n,)
    items: np.ndarray  # (n, k)
    score: np.ndarray  # (n, k)
    related: np.ndarray  # (n, k)


def _recommended(model: Any, k: int, users: Any, relatedness: Relatedness | None,
                 n_threads: int | None) -> _Found:
    k = validation.count("k", k)
    model.check_fitted()
    model.check_seen()
    rows = np.arange(model.n_users_) if users is None else model.ratings_.known_users(users)
    if relatedness is None:
        relatedness = Relatedness(model.ratings_, n_threads=n_threads)
    parts: list[_Found] = []
    with Pool(n_threads) as pool:
        for start, stop in row_chunks(len(rows), ROWS_AT_A_TIME) or [(0, 0)]:
            parts += _of_rows(model, rows[start:stop], k, relatedness, pool)
    return _Found(*map(np.concatenate, zip(*parts, strict=True)))


def _of_rows(model: Any, rows: np.ndarray, k: int, relatedness: Relatedness,
             pool: Pool) -> list[_Found]:
    scorer = model.answers().scorer(rows, Query(), pool)
    seen = model.ratings_.cells_of(rows)
    masks, related = Masks((len(rows), scorer.n_items), seen=seen), relatedness.scorer(seen)

    def work(start: int, stop: int) -> _Found:
        scores = masked_block(scorer, masks, start, stop)
        items = best_of_block(scores, k, start)[0]
        return _Found(rows[start:stop], items,
                      *related.quantiles(scores, items, masks, start))

    return pool.map(work, score_blocks(scorer))


def _pair(model: Any, found: _Found, row: int, place: int, titles: Any) -> SpuriousPair:
    user, item = found.rows[row].item(), found.items[row, place].item()
    names = (user if model.user_ids_ is None else model.user_ids_[user:user + 1].tolist()[0],
             item if model.item_ids_ is None else model.item_ids_[item:item + 1].tolist()[0])
    title = "" if titles is None else titles.get(names[1], "") \
        if isinstance(titles, Mapping) else titles[item]
    return SpuriousPair(*names, title, float(found.score[row, place]),
                        float(found.related[row, place]))
