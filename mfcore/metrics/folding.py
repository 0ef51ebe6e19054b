"""Folding: unrelated parts of a catalogue that fall on top of each other.

A model that never saw two groups together may still recommend items of the one to users
of the other.  Where the groups are known, the share of such recommendations says so:
`cross_group_rate`.  Where they are not, a recommendation can be held against how related
user and item are, r of `mfcore.metrics.relatedness`.

    F = 1/(mn) Σ_ui max(0, s_ui − r_ui)            (Xin et al., RecSys 2017, scores s in [0, 1])

compares numbers of different scales: shrink s, and F falls though nothing is recommended
otherwise.  So both are first replaced by their quantiles among the items that may be
recommended to the user, and only what is recommended counts:

    q_s(i) = (#{j : s_j < s_i} + ½ #{j : s_j = s_i}) / n          n candidates j, i among them
    F@k    = mean over users and their k best items i of max(0, q_s(i) − q_r(i))

in [0, 1).  0: what is recommended is what is most related; about ½: it has nothing to do
with it.  No monotone change of a user's scores, or of r, changes F@k.  Within an audience
too some items are more related than others, and F@k never quite reaches 0.  The share of
recommendations with q_s − q_r > ½, half of all candidates, leaves that out: spurious_rate.
A user of whom no rating is known has no r and does not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mfcore import validation
from mfcore.kernels import ranks as kernels
from mfcore.metrics.relatedness import Relatedness, RelatednessScorer
from mfcore.metrics.topk import Masks, best_of_block, masked_block, score_blocks
from mfcore.parallel import Pool, row_chunks

# So much less related than its score says is a spurious recommendation.
FAR = 0.5
# Rows whose seen cells are gathered at a time.
ROWS_AT_A_TIME = 8192


class SpuriousPair(NamedTuple):
    """A recommendation whose user and item are less related than its score says."""

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
        Groups that do not fit the users; IndexError for item numbers outside the groups.
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
    """Return F@k of what a model recommends, in [0, 1): see the head of this file.

    Parameters
    ----------
    model : fitted model
        With its training ratings: what a user rated is not recommended.
    k : int >= 1
    users : ids (row numbers where the ratings had none), or None
        None: all users of the fit.
    relatedness : Relatedness or None
        One made before, of ratings with the same items; None: of the training ratings.
    n_threads : int >= 1 or None
        The result does not depend on it.

    Returns
    -------
    folding : float
        NaN where nobody has both a rating and a recommendation.
    """
    found = _recommended(model, k, users, relatedness, n_threads)
    return mean_gap(found.score - found.related)


def spurious_pairs(model: Any, n: int = 20, *, k: int = 10, users: Any = None,
                   titles: Mapping[Any, str] | Sequence[str] | None = None,
                   relatedness: Relatedness | None = None,
                   n_threads: int | None = None) -> list[SpuriousPair]:
    """List the recommendations that are least backed by relatedness, worst first.

    Parameters
    ----------
    model, k, users, relatedness, n_threads
        As for `folding`: pairs are sought among the k best items of each user.
    n : int >= 1
        Pairs to list; fewer where fewer have q_s > q_r.
    titles : mapping from item to title, sequence in the order of the items, or None

    Returns
    -------
    pairs : list of SpuriousPair
        By falling q_s − q_r; ties in the order of the users, then of their lists.
    """
    n = validation.count("n", n)
    found = _recommended(model, k, users, relatedness, n_threads)
    gaps = np.nan_to_num(found.score - found.related)
    worst = np.argsort(-gaps, axis=None, kind="stable")[:n]
    return [_pair(model, found, int(row), int(place), titles)
            for row, place in zip(*np.unravel_index(worst, gaps.shape), strict=True)
            if gaps[row, place] > 0]


def quantiles_of_best(scores: np.ndarray, items: np.ndarray, related: RelatednessScorer,
                      masks: Masks, start: int) -> tuple[np.ndarray, np.ndarray]:
    """Return q_s and q_r of the items recommended to a block of users, shape (n, k) each.

    Parameters
    ----------
    scores : ndarray, shape (n, n_items)
        Of rows from `start` on; what may not be recommended is -inf.
    items : ndarray of int, shape (n, k)
        -1 marks a missing place: NaN in the result.
    related : RelatednessScorer
        q_r of a user without a known rating is NaN.
    masks : Masks
        Those of the scores.
    """
    stop = start + len(scores)
    q_s = _quantiles(scores, items)
    q_r = _quantiles(masked_block(related, masks, start, stop), items)
    q_r[~related.known[start:stop]] = np.nan
    return q_s, q_r


def _quantiles(values: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Return the quantile of the given items' values in their rows, ties by halves."""
    out = np.empty(items.shape)
    rows = np.arange(len(values))
    for place, columns in enumerate(items.T):
        midrank, found, candidates = np.zeros((3, len(values)))
        kernels.midrank_sums(values, rows, rows + 1, np.maximum(columns, 0), midrank, found,
                             candidates)
        out[:, place] = 1 - (midrank - 0.5) / np.maximum(candidates, 1)
    out[items < 0] = np.nan
    return out


def mean_gap(gaps: np.ndarray) -> float:
    """Return the mean of max(0, q_s − q_r) where there is one, else NaN."""
    return _mean_where_known(np.maximum(gaps, 0.0))


def spurious_rate(gaps: np.ndarray) -> float:
    """Return the share of the places, where there is one, with q_s − q_r > ½."""
    return _mean_where_known(np.where(np.isnan(gaps), gaps, gaps > FAR))


def _mean_where_known(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


class _Found(NamedTuple):
    """What is recommended to users, and its quantiles, NaN where there is none."""

    rows: np.ndarray  # (n,)
    items: np.ndarray  # (n, k)
    score: np.ndarray  # (n, k)
    related: np.ndarray  # (n, k)


def _recommended(model: Any, k: int, users: Any, relatedness: Relatedness | None,
                 n_threads: int | None) -> _Found:
    k = validation.count("k", k)
    model._check_fitted()
    model._check_seen()
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
    scorer, seen = model._scorer(rows), model.ratings_.cells_of(rows)
    masks, related = Masks((len(rows), scorer.n_items), seen=seen), relatedness.scorer(seen)

    def work(start: int, stop: int) -> _Found:
        scores = masked_block(scorer, masks, start, stop)
        items = best_of_block(scores, k, start)[0]
        return _Found(rows[start:stop], items,
                      *quantiles_of_best(scores, items, related, masks, start))

    return pool.map(work, score_blocks(scorer))


def _pair(model: Any, found: _Found, row: int, place: int, titles: Any) -> SpuriousPair:
    user, item = found.rows[row].item(), found.items[row, place].item()
    names = (user if model.user_ids_ is None else model.user_ids_[user:user + 1].tolist()[0],
             item if model.item_ids_ is None else model.item_ids_[item:item + 1].tolist()[0])
    title = "" if titles is None else titles.get(names[1], "") \
        if isinstance(titles, Mapping) else titles[item]
    return SpuriousPair(*names, title, float(found.score[row, place]),
                        float(found.related[row, place]))
