"""The places of the relevant items in a user's ranking.

Item j of a row of scores s shares the places rank(j), ..., rank(j) + ties(j) − 1 with those of
its score, where

    rank(j) = 1 + #{i : s_i > s_j}        ties(j) = #{i : s_i = s_j}

two counts at the speed of a vector comparison, without sorting the row.

Where scores are known up to a rounding ρ, and that of item j exactly, the counts of s_i > s_j + ρ
and of s_i >= s_j − ρ are the same but for item j itself, or j is *unsure*: what lies between has
to be known exactly first.
"""

from __future__ import annotations

import math

import numpy as np

from mfcore.compiled import njit
from mfcore.kernels.options import INLINE, KERNEL

NEVER = 1 << 62  # the rank of an item that is not among the candidates
CHUNK = 256      # scores counted at a time; twice and half as many are slower


@njit(**KERNEL)
def leading_ranks(scores: np.ndarray, rows: np.ndarray, starts: np.ndarray, stops: np.ndarray,
                  columns: np.ndarray, depth: int, rounding: np.ndarray, places: np.ndarray,
                  ranks: np.ndarray, ties: np.ndarray, which: np.ndarray,
                  unsure: np.ndarray) -> int:
    """Write the ranks and ties of the relevant items of `rows`, ascending, up to `depth`.

    scores is (m, n), with -inf in masked cells.  The relevant items of a row are
    columns[starts[row]:stops[row]]; what belongs to them goes to ranks[places[row]:], NEVER
    where it is not known, and ties[places[row]:]; which[places[row]:] says where in `columns`
    each of them is.  The first ranks, of one score, are always exact, later ones up to the first
    beyond `depth`; a relevant item with score -inf stays NEVER.  Scores err by rounding[row],
    those of relevant items not at all; unsure[t] is set where columns[t] is unsure.  Returns the
    first row with a NaN, or -1.
    """
    for row in rows:
        values, relevant = scores[row], columns[starts[row]:stops[row]]
        if _has_nan(values):
            return int(row)
        left, at = values[relevant], places[row]
        rank, from_here, last = 0, 0, values.dtype.type(np.inf)
        slack = values.dtype.type(rounding[row])
        ranks[at:at + relevant.size] = NEVER
        ties[at:at + relevant.size] = 1
        n_found, found = 0, np.zeros(relevant.size, np.bool_)
        for t in range(relevant.size):
            first = np.argmax(left)
            value = left[first]
            if value == -np.inf or (value != last and rank > depth):
                break
            if value != last or t == 0:
                rank = 1 + _count_above(values, value + slack)
                from_here = _count_from(values, value - slack)
                unsure[starts[row] + first] = slack > 0 and from_here > rank
            left[first] = -np.inf
            last = value
            ranks[at + t], ties[at + t] = rank, from_here - rank + 1
            which[at + t], found[first], n_found = starts[row] + first, True, t + 1
        for t in range(relevant.size):
            if not found[t]:
                which[at + n_found] = starts[row] + t
                n_found += 1
    return -1


@njit(**KERNEL)
def first_hits(ranks: np.ndarray, ties: np.ndarray, relevant: np.ndarray,
               last: int) -> np.ndarray:
    """Return what to expect of the first hit of each user in a random order of ties, (2, n).

    The best relevant items of user u are relevant[u] of the ties[u] at ranks[u].  Row 0: the
    probability that one of them is at place `last` or before; row 1: the expectation of
    1 / place of the first, 0 beyond `last`.
    """
    out = np.zeros((2, ranks.size))
    for u in range(ranks.size):
        n, c = ties[u], relevant[u]
        chance = c / n                      # that place r + j holds the first of them
        for j in range(min(n - c + 1, last - ranks[u] + 1)):
            out[0, u] += chance
            out[1, u] += chance / (ranks[u] + j)
            if j < n - c:
                chance *= (n - c - j) / (n - j - 1)
    return out


@njit(**KERNEL)
def top_wins(others: np.ndarray, relevant: np.ndarray, taken: np.ndarray,
             limits: np.ndarray) -> np.ndarray:
    """Return what the first relevant items of tied ones win in a random order, shape (n,).

    Of relevant[u] + others[u] items in random order, the t-th relevant one stands behind x
    others with probability C(x + t − 1, x) C(b − x + c − t, b − x) / C(b + c, b), with c and b
    for relevant and others (negative hypergeometric).  The result is the expectation of
    Σ_{t <= taken} max(0, limit − x).
    """
    out = np.zeros(others.size)
    for u in range(others.size):
        b, c = others[u], relevant[u]
        for t in range(1, taken[u] + 1):
            log_chance = math.lgamma(b + c - t + 1) - math.lgamma(c - t + 1) \
                - math.lgamma(b + c + 1) + math.lgamma(c + 1)
            for x in range(min(b + 1, limits[u])):
                out[u] += math.exp(log_chance) * (limits[u] - x)
                if x < b:
                    log_chance += math.log((x + t) / (x + 1) * (b - x) / (b - x + c - t))
    return out


@njit(**KERNEL)
def count_around(scores: np.ndarray, rows: np.ndarray, columns: np.ndarray, rounding: np.ndarray,
                 above: np.ndarray, near: np.ndarray, first: np.ndarray) -> None:
    """Count, in one look at its row, the scores above and near that of each cell.

    above[t] is the number of scores more than rounding[row] above that of cell (rows[t],
    columns[t]), near[t] the number of those within it, the cell's own included; they stand in
    column first[t] or after it.  A cell of -inf has nothing near it.  Cells of a row that stand
    together and have equal scores are counted once.
    """
    start_of_row = 0
    for t in range(rows.size):
        values = scores[rows[t]]
        value, slack = values[columns[t]], values.dtype.type(rounding[rows[t]])
        above[t] = near[t] = first[t] = 0
        if t and rows[t] != rows[t - 1]:
            start_of_row = t
        same = start_of_row
        while same < t and values[columns[same]] != value:
            same += 1
        if same < t:
            above[t], near[t], first[t] = above[same], near[same], first[same]
        elif value > -np.inf:
            high, low = value + slack, value - slack
            for start in range(0, values.size, CHUNK):
                part = values[start:start + CHUNK]
                beyond, reached = np.int32(0), np.int32(0)
                for c in range(part.size):
                    beyond += np.int32(part[c] > high)
                    reached += np.int32(part[c] >= low)
                if near[t] == 0:
                    first[t] = start
                above[t] += beyond
                near[t] += reached - beyond


@njit(**KERNEL)
def count_candidates(scores: np.ndarray) -> np.ndarray:
    """Return the number of scores above -inf in each row, -1 where one is NaN; shape (m,)."""
    out = np.empty(scores.shape[0], np.int64)
    for row in range(out.size):
        out[row] = -1
        if not _has_nan(scores[row]):
            out[row] = _count_above(scores[row], scores.dtype.type(-np.inf))
    return out


@njit(**INLINE)
def _count_above(values: np.ndarray, bound: float) -> np.int64:
    count = np.int32(0)
    for t in range(values.size):
        count += np.int32(values[t] > bound)
    return np.int64(count)


@njit(**INLINE)
def _count_from(values: np.ndarray, bound: float) -> np.int64:
    count = np.int32(0)
    for t in range(values.size):
        count += np.int32(values[t] >= bound)
    return np.int64(count)


@njit(**INLINE)
def _has_nan(values: np.ndarray) -> np.int32:
    found = np.int32(0)
    for t in range(values.size):
        found += np.int32(values[t] != values[t])
    return found
