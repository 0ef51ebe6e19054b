"""Items × items, sparse: the largest entries of each row, and products with rows of users.

A row of a product of two sparse matrices is summed in an array as long as the items, of which
only the places that were reached are looked at, and the largest are kept.  Nothing of the size of
all items is made but these few arrays per thread.
"""

from __future__ import annotations

import numpy as np

from mfcore.compiled import njit
from mfcore.kernels.lapack import FLAGS, INFO, solve_spd
from mfcore.kernels.options import EXACT, KERNEL, MELT
from mfcore.kernels.topk import _rise, _sink


@njit(**KERNEL)
def nearest_rows(starts: np.ndarray, users: np.ndarray, left: np.ndarray, ends: np.ndarray,
                 items: np.ndarray, right: np.ndarray, a: np.ndarray, b: np.ndarray,
                 shrink: float, columns: np.ndarray, values: np.ndarray, counts: np.ndarray,
                 lo: int, hi: int) -> None:
    """Write the k largest positive (L R)_ij / (a_i b_j + shrink), j ≠ i, of rows lo..hi.

    starts, users, left : L, rows of items;  ends, items, right : R, rows of users
    columns, values : shape (n_items, k), a row's columns ascending; counts : shape (n_items,)
    Of equal ones, the lower columns are kept.  Sums are in the precision of L and R.
    """
    k, sums = columns.shape[1], np.zeros(b.size, right.dtype)
    reached, last = np.empty(b.size, columns.dtype), np.full(b.size, -1, np.int64)
    best, place = np.empty(k, right.dtype), np.empty(k, np.int64)
    for i in range(lo, hi):
        n, size = 0, 0
        for c in range(starts[i], starts[i + 1]):
            u, x = users[c], left[c]
            for t in range(ends[u], ends[u + 1]):
                j = items[t]
                if last[j] != i:
                    last[j], sums[j], reached[n] = i, 0, j
                    n += 1
                sums[j] += x * right[t]
        for t in range(n):
            j = reached[t]
            if j != i and sums[j] > 0:
                value = sums[j] / (a[i] * b[j] + shrink)
                if size < k:
                    _rise(best, place, size, value, j)
                    size += 1
                elif value > best[0] or (value == best[0] and j < place[0]):
                    _sink(best, place, k, value, j)
        counts[i] = size
        order = np.argsort(place[:size])
        for t in range(size):
            columns[i, t], values[i, t] = place[order[t]], best[order[t]]


@njit(**EXACT)
def times_sparse(indptr: np.ndarray, indices: np.ndarray, data: np.ndarray, ends: np.ndarray,
                 columns: np.ndarray, values: np.ndarray, out: np.ndarray) -> None:
    """Write X S to `out`, shape (n_rows, n_items), for CSR X and S, each row cell by cell."""
    for row in range(out.shape[0]):
        line = out[row]
        line[:] = 0
        for t in range(indptr[row], indptr[row + 1]):
            x, j = data[t], indices[t]
            for c in range(ends[j], ends[j + 1]):
                line[columns[c]] += x * values[c]


# ------------------------------------------------------------------- a ridge in each neighbourhood

@njit(**MELT)
def _gather(near: np.ndarray, j: int, starts: np.ndarray, users: np.ndarray, data: np.ndarray,
            squares: np.ndarray, counts: np.ndarray, first: np.ndarray, reached: np.ndarray,
            places: np.ndarray, kept: np.ndarray, G: np.ndarray) -> None:
    """Write the upper triangle of XᵀX of the items `near` and, last, j, to G.

    A user's items among them are listed, and each pair of a list is added.
    """
    m, n = near.size, 0
    for f in range(m + 1):
        i = near[f] if f < m else j
        for c in range(starts[i], starts[i + 1]):
            u = users[c]
            if counts[u] == 0:
                reached[n] = u
                n += 1
            counts[u] += 1
    total = 0
    for t in range(n):
        first[reached[t]] = total
        total += counts[reached[t]]
    for f in range(m + 1):
        i = near[f] if f < m else j
        G[f, f:] = 0
        G[f, f] = squares[i]
        for c in range(starts[i], starts[i + 1]):
            u = users[c]
            places[first[u]], kept[first[u]] = f, data[c]
            first[u] += 1
    for t in range(n):
        u = reached[t]
        stop, start = first[u], first[u] - counts[u]
        counts[u] = 0
        for p in range(start, stop):
            line, x = G[places[p]], kept[p]
            for q in range(p + 1, stop):
                line[places[q]] += x * kept[q]


@njit(**KERNEL)
def local_ridges(starts: np.ndarray, users: np.ndarray, data: np.ndarray, squares: np.ndarray,
                 penalties: np.ndarray, n_users: int, columns: np.ndarray, sizes: np.ndarray,
                 values: np.ndarray, losses: np.ndarray, lo: int, hi: int) -> int:
    """Write the ridge of items lo..hi on their neighbours; return the first that fails, or -1.

    starts, users, data : X by item; squares, penalties : ‖x_i‖² and Λ_i, shape (n_items,)
    columns, sizes : the neighbours, ascending, shapes (n_items, k), (n_items,)
    values : their weights, shape (n_items, k); losses : the minimum of each item
    """
    k, most = columns.shape[1], 0
    for j in range(lo, hi):
        length = starts[j + 1] - starts[j]
        for f in range(sizes[j]):
            length += starts[columns[j, f] + 1] - starts[columns[j, f]]
        most = max(most, length)
    counts, first = np.zeros(n_users, np.int32), np.empty(n_users, np.int64)
    reached, places = np.empty(min(most, n_users), np.int32), np.empty(most, np.int32)
    kept, flags = np.empty(most, data.dtype), np.array(FLAGS, np.int32)
    whole, system = np.empty((k + 1) ** 2, data.dtype), np.empty(k * k, data.dtype)
    for j in range(lo, hi):
        m = sizes[j]
        near, c = columns[j, :m], values[j, :m]
        G, A = whole[:(m + 1) ** 2].reshape((m + 1, m + 1)), system[:m * m].reshape((m, m))
        _gather(near, j, starts, users, data, squares, counts, first, reached, places, kept, G)
        target = np.empty(m, np.float64)
        for f in range(m):
            A[f, f:] = G[f, f:m]
            A[f, f] += penalties[near[f]]
            c[f] = target[f] = G[f, m]
        if m > 0:
            flags[0] = m
            solve_spd(A, c, flags)
            if flags[INFO] != 0:
                return j
        loss = np.float64(squares[j])
        for f in range(m):
            loss -= target[f] * c[f]
        losses[j] = loss
    return -1
