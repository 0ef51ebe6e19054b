"""Bayesian personalized ranking: grouping a row's cells by stratum, drawing, stepping.

Draws are counter-based (draws.py): a hash of (key of the epoch, position of the cell, attempt).

The negatives of a row are drawn before its steps.  The steps neither take views of arrays nor
pass arrays on: each view counts references, which made the steps half as slow again.
"""

from __future__ import annotations

import math

import numpy as np

from mfcore.compiled import njit
from mfcore.kernels.draws import WORD, mix
from mfcore.kernels.options import INLINE, KERNEL

ATTEMPTS = 16                   # draws before the next unrated item is taken
RANK_SHARE = 0.3                # mean rank of an adaptive draw, as a share of the items
LARGEST_MARGIN = 500.0          # exp of it is still finite
SMALLEST_PRODUCT = 1e-80        # times σ(−500) it is still above 0


@njit(**KERNEL)
def group_cells(indptr: np.ndarray, indices: np.ndarray, stratum: np.ndarray,
                starts: np.ndarray, out: np.ndarray, lo: int, hi: int) -> None:
    """Sort the items of rows lo..hi by their stratum, stably, into `out`.

    `starts`, shape (n_rows, g + 1), is where in `out` each stratum of a row begins.
    """
    g = starts.shape[1] - 1
    place = np.empty(g, np.int64)
    for u in range(lo, hi):
        place[:] = 0
        for t in range(indptr[u], indptr[u + 1]):
            place[stratum[indices[t]]] += 1
        starts[u, 0] = indptr[u]
        for s in range(g):
            starts[u, s + 1] = starts[u, s] + place[s]
            place[s] = starts[u, s]
        for t in range(indptr[u], indptr[u + 1]):
            s = stratum[indices[t]]
            out[place[s]] = indices[t]
            place[s] += 1


@njit(**INLINE)
def _unrated(members: np.ndarray, rated: np.ndarray) -> np.ndarray:
    """Return the places of the unrated items, in order."""
    places, n = np.empty(members.size, np.int64), 0
    for place in range(members.size):
        if not rated[members[place]]:
            places[n] = place
            n += 1
    return places[:n]


@njit(**KERNEL)
def _favour(P: np.ndarray, u: int, sd: np.ndarray, shares: np.ndarray) -> None:
    """Write the running sums of |p_f| sd_f: a factor is drawn in proportion to its term."""
    total = 0.0
    for f in range(shares.size):
        total += abs(P[u, f]) * sd[f]
        shares[f] = total


@njit(**INLINE)
def _favoured(P: np.ndarray, u: int, shares: np.ndarray, orders: np.ndarray, x: int, key: int
              ) -> int:
    """Return a place among the members: draw a factor by its share, then a rank along it."""
    f, last, m = 0, shares.size - 1, orders.shape[1]
    aim = shares[last] * x / (WORD + 1.0)
    while f < last and shares[f] <= aim:
        f += 1
    uniform = (mix(x, key) + 1.0) / (WORD + 1.0)
    rank = int(-math.log(uniform) * RANK_SHARE * m) % m
    return int(orders[f, m - 1 - rank if P[u, f] > 0 else rank])


@njit(**KERNEL)
def draw_row(P: np.ndarray, u: int, items: np.ndarray, lo: int, hi: int, first: int,
             members: np.ndarray, sd: np.ndarray, orders: np.ndarray, key: int,
             rated: np.ndarray, out: np.ndarray) -> int:
    """Write a negative for each of the cells lo..hi of row u to `out`; return their number.

    A negative is a member that is not among these cells.  It is drawn uniformly, or adaptively
    if `orders` (k, n_members) holds the places of the members by factor.  Without any, returns 0.
    `first` is the number of the first draw; `rated` (n_items,) is all False before and after.
    """
    m, n = members.size, hi - lo
    shares = np.empty(orders.shape[0], np.float64)
    _favour(P, u, sd, shares)
    for t in range(lo, hi):
        rated[items[t]] = True
    free = np.empty(0, np.int64)
    for t in range(n):
        x = mix(first + t, key)
        place = 0
        for _ in range(ATTEMPTS):
            place = (x * m) >> 32
            if orders.size:
                place = _favoured(P, u, shares, orders, x, key)
            if not rated[members[place]]:
                break
            x = mix(x, key)
        if rated[members[place]]:
            if not free.size:
                free = _unrated(members, rated)
            if not free.size:
                n = 0
                break
            place = free[np.searchsorted(free, place) % free.size]
        out[t] = members[place]
    for t in range(lo, hi):
        rated[items[t]] = False
    return n


@njit(**INLINE)
def _bounded(x: float) -> float:
    """Return a margin clipped to what exp can take; NaN stays NaN."""
    if x > LARGEST_MARGIN:
        return LARGEST_MARGIN
    if x < -LARGEST_MARGIN:
        return -LARGEST_MARGIN
    return x


@njit(**KERNEL)
def train_block(users: np.ndarray, starts: np.ndarray, items: np.ndarray, s: int,
                members: np.ndarray, sd: np.ndarray, orders: np.ndarray, key: int,
                rates: np.ndarray, P: np.ndarray, Q: np.ndarray, bias: np.ndarray) -> float:
    """Take a step for each cell of these users in stratum s; return Σ −ln σ(x).

    `rates` is [η, 2ηλ, η of biases, 2ηλᵇ]; x is the margin before its step.
    """
    real, k = P.dtype.type, P.shape[1]
    rated = np.zeros(Q.shape[0], np.bool_)
    left = np.empty(members.size, np.int32)
    shrink, bias_shrink = real(1 - rates[1]), real(1 - rates[3])
    loss, product = 0.0, 1.0
    for n in range(users.size):
        u = users[n]
        lo = starts[u, s]
        found = draw_row(P, u, items, lo, starts[u, s + 1], lo, members, sd, orders, key,
                         rated, left)
        for t in range(found):
            i, j = items[lo + t], left[t]
            dot = real(0)
            for f in range(k):
                dot += P[u, f] * (Q[i, f] - Q[j, f])
            growth = math.exp(_bounded(np.float64(dot) + bias[i] - bias[j]))
            pull = 1 / (1 + growth)                     # σ(−x)
            product *= growth * pull                    # σ(x)
            if product < SMALLEST_PRODUCT:
                loss -= math.log(product)
                product = 1.0
            c = real(rates[0] * pull)
            for f in range(k):
                p, qi, qj = P[u, f], Q[i, f], Q[j, f]
                P[u, f] = shrink * p + c * (qi - qj)
                Q[i, f] = shrink * qi + c * p
                Q[j, f] = shrink * qj - c * p
            c = real(rates[2] * pull)
            bias[i] = bias_shrink * bias[i] + c
            bias[j] = bias_shrink * bias[j] - c
    return loss - math.log(product)


@njit(**KERNEL)
def fold_in_rows(indptr: np.ndarray, indices: np.ndarray, members: np.ndarray,
                 sd: np.ndarray, orders: np.ndarray, key: int, rates: np.ndarray,
                 P: np.ndarray, Q: np.ndarray, bias: np.ndarray, lo: int, hi: int) -> None:
    """Take the same steps for rows lo..hi of P, items frozen, once with each of `rates`.

    `rates` has shape (n_passes, 4).  Draws are counted from the start of the row, so that the
    result of a row does not depend on other rows.
    """
    real, k = P.dtype.type, P.shape[1]
    rated = np.zeros(Q.shape[0], np.bool_)
    left = np.empty(members.size, np.int32)
    for u in range(lo, hi):
        start, end = np.int64(indptr[u]), np.int64(indptr[u + 1])
        for n in range(rates.shape[0]):
            found = draw_row(P, u, indices, start, end, n * (end - start), members, sd, orders,
                             key, rated, left)
            shrink = real(1 - rates[n, 1])
            for t in range(found):
                i, j = indices[start + t], left[t]
                dot = real(0)
                for f in range(k):
                    dot += P[u, f] * (Q[i, f] - Q[j, f])
                x = _bounded(np.float64(dot) + bias[i] - bias[j])
                c = real(rates[n, 0] / (1 + math.exp(x)))
                for f in range(k):
                    P[u, f] = shrink * P[u, f] + c * (Q[i, f] - Q[j, f])
