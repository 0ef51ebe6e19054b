"""Folding: unrelated parts of a catalogue that fall on top of each other.

A model that never saw two groups together may still recommend items of one to users of the
other.  If the groups are known, `cross_group_rate` is the share of such recommendations.  If
they are not, a recommendation can be compared with how related its user and item are, r below.

    F = 1/(mn) Σ_ui max(0, s_ui − r_ui)            (Xin et al., RecSys 2017, scores s in [0, 1])

compares numbers on different scales: shrink s, and F falls although the recommendations stay
the same.  So both are first replaced by their quantiles among the items that may be
recommended to the user, and only recommended items count:

    q_s(i) = (#{j : s_j < s_i} + ½ #{j : s_j = s_i}) / n          n candidates j, i among them
    F@k    = mean over users and their k best items i of max(0, q_s(i) − q_r(i)), ties by chance

in [0, 1).  It is 0 if the most related items are recommended, and about ½ if recommendations
have nothing to do with relatedness.  No monotone change of a user's scores, or of r, changes
F@k.  Some items are more related than others within an audience too, so F@k never quite
reaches 0.  `spurious_rate`, the share of recommendations with q_s − q_r > ½ (half of all
candidates), leaves that out.  A user without known ratings has no r and does not count.

Relatedness says how likely it is that a user has anything to do with an item.  Walk from a user
to an item that the user rated, from there to any user who rated it, and on to an item of theirs;
r_ui measures how many such walks end at item i:

    r = X C⁻¹ Xᵀ D⁻¹ X           x_ui = 1 where a rating is stored, else 0; its value is ignored
    D = diag(n_u + mean n_u),  C = diag(n_i + mean n_i)            n: numbers of ratings

With X 1 = D 1 and Xᵀ 1 = C 1, hence without the means, r 1 = X 1: then r_ui / n_u is a
probability over items.  The means let a walk end early, so that a lone user with a lone
item is not as certain of it as an audience is of its catalogue.

    r = D^½ Y YᵀY C^½,  Y = D^−½ X C^−½                                    (put Y in)
      ≈ D^½ Y V S² Vᵀ C^½          (YᵀY ≈ V S² Vᵀ, best of rank k: Eckart and Young 1936)
      = X C^−½ V S² Vᵀ C^½                                                 (take Y out)
    r_u = x_u A Bᵀ,  A = C^−½ V S²,  B = C^½ V

with V the first k right singular vectors of Y and S the singular values.  r_u depends on the
user through x_u alone, so a new row needs no fold-in.  Audiences without a common item have
singular vectors of their own and r = 0 between them.

The plain singular vectors of X would describe the busiest audience only: those of a quiet one
drown in its noise, as n_u n_i sets their scale.  Items that no walk reaches get small r of
either sign from the truncation to rank k, so r below a thousandth of the user's largest is 0.

V comes from filtered subspace iteration (Zhou, Saad 2006): a Chebyshev polynomial of YᵀY damps
the part of slightly more than k vectors that lies outside the wanted space.

Sources: Xin, Mayoraz, Pham, Lakshmanan, Anderson (RecSys 2017), a model of whether there is any
interaction; Qin and Rohe (2013), the means in C and D.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.ratings import Ratings
from mfcore.data.titles import title_of, titles_of
from mfcore.kernels import ranks as kernels
from mfcore.metrics.fitted import Query
from mfcore.metrics.lists import Lists, best_lists
from mfcore.metrics.topk import ROWS_AT_A_TIME, Masks, ScoredRows, masked_block, score_blocks
from mfcore.parallel import Pool, row_chunks

FAR = 0.5                   # q_s − q_r of a spurious recommendation is larger
FACTORS, BEYOND = 32, 8     # k, and the vectors iterated in addition
ROUNDS, DEGREE = 3, 8
LEAST = 1e-3                # eigenvalues of YᵀY lie in [0, 1]
NOTHING = 1e-3              # share of a user's largest r below which there is no relation

Times = Callable[[np.ndarray], np.ndarray]


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
    model.check_fitted()
    k = min(validation.count("k", k), model.n_items_)

    def gaps(scored: ScoredRows, masks: Masks, related: RelatednessScorer
             ) -> tuple[np.ndarray, ...]:
        return related.gaps(scored, best_lists(scored.scores, *scored.best(k + 1), k), masks)

    _, chances, found = _over_blocks(model, users, relatedness, n_threads, gaps)
    total = float(chances.sum())
    return float(chances @ np.maximum(found, 0.0)) / total if total else float("nan")


def spurious_pairs(model: Any, n: int = 20, *, k: int = 10, users: Any = None,
                   titles: Any = None,
                   relatedness: Relatedness | None = None,
                   n_threads: int | None = None) -> list[SpuriousPair]:
    """List the recommendations that relatedness supports least, worst first.

    Parameters
    ----------
    model, k, users, relatedness, n_threads
        As for `folding`: the pairs are among the k best items of each user.
    n : int >= 1
        Number of pairs; fewer are listed if fewer have q_s > q_r.
    titles : mapping or Series from item id to title, or one title per item, or None

    Returns
    -------
    pairs : list of SpuriousPair
        By decreasing q_s − q_r; ties in the order of the users, then of their lists.
    """
    model.check_fitted()
    n, k = validation.count("n", n), min(validation.count("k", k), model.n_items_)
    known = titles_of(titles, model.ratings_)

    def listed(scored: ScoredRows, masks: Masks, related: RelatednessScorer
               ) -> tuple[np.ndarray, ...]:
        items = scored.best(k)[0]
        rows, places = np.nonzero(items >= 0)
        columns = items[rows, places]
        return rows, columns, *related.quantiles(scored, (rows, columns), masks)

    rows, items, score, r = _over_blocks(model, users, relatedness, n_threads, listed)
    if users is not None:
        rows = model.ratings_.known_users(users)[rows]
    gaps = np.nan_to_num(score - r)
    worst = np.argsort(-gaps, kind="stable")[:n]
    return [_pair(model, known, *(each[t].item() for each in (rows, items, score, r)))
            for t in worst if gaps[t] > 0]


def spurious(gaps: np.ndarray) -> np.ndarray:
    """Return 1 where q_s − q_r > ½, else 0."""
    return np.asarray(gaps > FAR, float)


Work = Callable[[ScoredRows, Masks, "RelatednessScorer"], tuple[np.ndarray, ...]]


def _over_blocks(model: Any, users: Any, relatedness: Relatedness | None,
                 n_threads: int | None, work: Work) -> list[np.ndarray]:
    """Return what `work` makes of the scores of users, block by block; rows of it are of `users`.

    The first of its arrays are rows of the block, and are counted from the first user here.
    """
    model.check_seen()
    rows = np.arange(model.n_users_) if users is None else model.ratings_.known_users(users)
    if relatedness is None:
        relatedness = Relatedness(model.ratings_, n_threads=n_threads)
    parts: list[tuple[np.ndarray, ...]] = []
    with Pool(n_threads) as pool:
        for start, stop in row_chunks(len(rows), ROWS_AT_A_TIME) or [(0, 0)]:
            found = _of_rows(model, rows[start:stop], relatedness, work, pool)
            parts += [(start + first, *rest) for first, *rest in found]
    return [np.concatenate(each) for each in zip(*parts, strict=True)]


def _of_rows(model: Any, rows: np.ndarray, relatedness: Relatedness, work: Work,
             pool: Pool) -> list[tuple[np.ndarray, ...]]:
    scorer = model.answers().scorer(rows, Query(), pool)
    seen = model.ratings_.cells_of(rows)
    masks, related = Masks((len(rows), scorer.n_items), seen=seen), relatedness.scorer(seen)

    def block(start: int, stop: int) -> tuple[np.ndarray, ...]:
        first, *rest = work(masked_block(scorer, masks, start, stop), masks, related)
        return start + first, *rest

    return pool.map(block, score_blocks(scorer))


def _pair(model: Any, titles: Any, user: int, item: int, score: float, related: float
          ) -> SpuriousPair:
    names = (user if model.user_ids_ is None else model.user_ids_[user:user + 1].tolist()[0],
             item if model.item_ids_ is None else model.item_ids_[item:item + 1].tolist()[0])
    title = "" if titles is None else title_of(titles, names[1], "")
    return SpuriousPair(*names, title, score, related)


# --------------------------------------------------------------------- relatedness

class Relatedness:
    """Hold the vectors A and B of all items, learned from which cells are stored.

    Parameters
    ----------
    ratings : Ratings, shape (n_users, n_items)
        Their values do not matter.
    n_factors : int >= 1
        k; at most the number of users and the number of items are used.
    n_threads : int >= 1 or None
        The result does not depend on it.
    """

    def __init__(self, ratings: Ratings, n_factors: int = FACTORS, *,
                 n_threads: int | None = None) -> None:
        k = min(validation.integer("n_factors", n_factors, low=1), *ratings.shape)
        counts = np.diff(ratings.by_user.indptr), np.diff(ratings.by_item.indptr)
        users, items = ((n + max(n.mean(), np.finfo(float).tiny)) ** -0.5 for n in counts)
        Y = _weighted(ratings.by_user, users, items)
        with Pool(n_threads) as pool:
            values, V = _leading_vectors(Y, _weighted(ratings.by_item, items, users), k, pool)
        self.A, self.B = V * values * items[:, None], V / items[:, None]

    def scorer(self, cells: sp.csr_array) -> RelatednessScorer:
        """Return the scorer of users with these known cells, shape (n, n_items)."""
        X = sp.csr_array((np.ones(cells.nnz), cells.indices, cells.indptr), shape=cells.shape)
        return RelatednessScorer(X @ self.A, self.B, np.diff(cells.indptr) > 0)


class RelatednessScorer:
    """r of blocks of rows for all items: a `Scorer`; `known` marks rows with a rating."""

    def __init__(self, P: np.ndarray, B: np.ndarray, known: np.ndarray) -> None:
        self.P, self.B, self.known = P, B, known
        self.n_rows, self.n_items = len(P), len(B)

    def block(self, start: int, stop: int) -> np.ndarray:
        """Return r of rows start..stop, float64, shape (stop - start, n_items)."""
        related: np.ndarray = self.P[start:stop] @ self.B.T
        related[related < NOTHING * related.max(axis=1, initial=0.0, keepdims=True)] = 0.0
        return related

    def rounding(self, start: int, stop: int) -> None:
        """Return None: scores of relatedness are not settled."""

    def gaps(self, scored: ScoredRows, lists: Lists, masks: Masks
             ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return of each item that may be in a list: whose, its chance, q_s − q_r.

        Lists of users without ratings are left out.
        """
        found = lists.chances.tocoo()
        kept = self.known[scored.start + found.row]
        rows, chances = found.row[kept], found.data[kept]
        score, related = self.quantiles(scored, (rows, found.col[kept]), masks)
        return rows, chances, score - related

    def quantiles(self, scored: ScoredRows, cells: tuple[np.ndarray, np.ndarray], masks: Masks
                  ) -> tuple[np.ndarray, np.ndarray]:
        """Return q_s and q_r of cells, rows and columns of scores; q_r is NaN without ratings.

        Items of the same users are equally related, up to float32.
        """
        start, stop = scored.start, scored.start + len(scored.scores)
        r = masked_block(self, masks, start, stop).scores.astype(np.float32)
        q_r = _quantiles(r, *cells)
        q_r[~self.known[start + cells[0]]] = np.nan
        return _quantiles(scored.scores, *cells), q_r


def _quantiles(values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the quantiles of the values of cells in their rows; ties count one half."""
    above, near, first = np.empty((3, len(rows)), np.int64)
    kernels.count_around(values, rows, columns, np.zeros(len(values)), above, near, first)
    out: np.ndarray = 1 - (above + near / 2) / kernels.count_candidates(values)[rows]
    return out


def _weighted(cells: sp.csr_array, rows: np.ndarray, columns: np.ndarray) -> sp.csr_array:
    """Return 1 at the stored cells, times the weights of their rows and columns."""
    values = np.repeat(rows, np.diff(cells.indptr)) * columns[cells.indices]
    return sp.csr_array((values, cells.indices, cells.indptr), shape=cells.shape)


def _leading_vectors(Y: sp.csr_array, Yt: sp.csr_array, k: int,
                     pool: Pool) -> tuple[np.ndarray, np.ndarray]:
    """Return the k largest eigenvalues of YᵀY, (k,), and their vectors, (n_items, k)."""
    def times(X: np.ndarray) -> np.ndarray:
        return _product(Yt, _product(Y, X, pool), pool)

    random = np.random.default_rng(0)
    V = random.normal(size=(Y.shape[1], min(k + BEYOND, *Y.shape)))
    values, V = _within(times, times(V))
    for _ in range(ROUNDS):
        values, V = _within(times, _filtered(times, V, max(values[-1], LEAST)))
    return values[:k], V[:, :k]


def _within(times: Times, V: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return eigenvalues, in decreasing order, and vectors of YᵀY within the span of V."""
    V = np.linalg.qr(V)[0]
    values, Z = np.linalg.eigh(V.T @ times(V))
    return values[::-1].clip(0), V @ Z[:, ::-1]


def _filtered(times: Times, V: np.ndarray, edge: float) -> np.ndarray:
    """Return T(2 YᵀY / edge − 1) V: Chebyshev's T stays in [−1, 1] for eigenvalues in
    [0, edge] and grows fast beyond."""
    before, now = V, np.asarray((2 / edge) * times(V) - V)
    for _ in range(DEGREE - 1):
        before, now = now, 2 * ((2 / edge) * times(now) - now) - before
    return now


def _product(Y: sp.csr_array, X: np.ndarray, pool: Pool) -> np.ndarray:
    """Return Y @ X, computed in chunks of rows on the pool."""
    out = np.empty((Y.shape[0], X.shape[1]))

    def rows(start: int, stop: int) -> None:
        out[start:stop] = Y[start:stop] @ X

    pool.over_rows(rows, Y.indptr)
    return out
