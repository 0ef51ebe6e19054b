"""Rows of tables: read them, and sum the gradients of the same row."""

from __future__ import annotations

import numpy as np

from mfcore.compiled import njit
from mfcore.kernels.options import KERNEL


@njit(**KERNEL)
def gather(X: np.ndarray, rows: np.ndarray, out: np.ndarray) -> None:
    """Copy rows of X: out[t] = X[rows[t]]; rows of −1 become zeros."""
    for t in range(rows.size):
        line = out[t]
        if rows[t] < 0:
            line[:] = 0
        else:
            x = X[rows[t]]
            for f in range(x.size):
                line[f] = x[f]


@njit(**KERNEL)
def scatter_add(rows: np.ndarray, G: np.ndarray, out: np.ndarray) -> None:
    """Add lines to rows of a table, in order: out[rows[t]] += G[t]; −1 adds nothing."""
    for t in range(rows.size):
        if rows[t] >= 0:
            for f in range(G.shape[1]):
                out[rows[t], f] += G[t, f]


@njit(**KERNEL)
def add_products(X: np.ndarray, W: np.ndarray, place: np.ndarray, out: np.ndarray) -> None:
    """Add lines of a product: out[t] += A[place[t]] for A = X W; −1 adds nothing."""
    A = np.empty((X.shape[0], W.shape[1]), X.dtype)
    np.dot(X, W, A)
    for t in range(place.size):
        if place[t] >= 0:
            a, line = A[place[t]], out[t]
            for f in range(line.size):
                line[f] += a[f]


@njit(**KERNEL)
def product_gradients(X: np.ndarray, W: np.ndarray, place: np.ndarray, dout: np.ndarray,
                      dX: np.ndarray, dW: np.ndarray) -> None:
    """Write the gradients by X and W of `add_products`, given that by `out`.

        dA[p] = Σ_{t: place_t = p} dout_t        dW = Xᵀ dA        dX = dA Wᵀ
    """
    dA = np.zeros((X.shape[0], W.shape[1]), X.dtype)
    for t in range(place.size):
        if place[t] >= 0:
            for f in range(dout.shape[1]):
                dA[place[t], f] += dout[t, f]
    np.dot(X.T, dA, dW)
    np.dot(dA, W.T, dX)


@njit(**KERNEL)
def number_rows(rows: np.ndarray, order: np.ndarray, distinct: np.ndarray, counts: np.ndarray,
                place: np.ndarray) -> int:
    """Write the distinct rows, ascending, to `distinct`, and the place of each to `place`.

    order : positions that sort `rows`; `place` is not changed elsewhere
    Writes how often each row is named to `counts`; returns the number of distinct rows.
    """
    n = 0
    for t in order:
        if n == 0 or rows[t] != distinct[n - 1]:
            distinct[n] = rows[t]
            counts[n] = 0
            n += 1
        counts[n - 1] += 1
        place[t] = n - 1
    return n


@njit(**KERNEL)
def sum_by_row(rows: np.ndarray, order: np.ndarray, G: np.ndarray, distinct: np.ndarray,
               out: np.ndarray) -> int:
    """Sum the lines of G that belong to the same row.

    order : positions that sort `rows`, stably, so that sums run in the order of the lines
    Writes the rows, ascending, to `distinct` and their sums to `out`; returns their number.
    """
    n = 0
    for t in order:
        g = G[t]
        if n == 0 or rows[t] != distinct[n - 1]:
            distinct[n] = rows[t]
            line = out[n]
            for f in range(g.size):
                line[f] = g[f]
            n += 1
        else:
            line = out[n - 1]
            for f in range(g.size):
                line[f] += g[f]
    return n


@njit(**KERNEL)
def merge_rows(rows: np.ndarray, G: np.ndarray, others: np.ndarray, H: np.ndarray,
               out_rows: np.ndarray, out: np.ndarray) -> int:
    """Merge two sets of ascending rows, and add the lines of common rows; return their number."""
    a = b = n = 0
    while a < rows.size or b < others.size:
        left = b == others.size or (a < rows.size and rows[a] <= others[b])
        both = left and b < others.size and rows[a] == others[b]
        out_rows[n] = rows[a] if left else others[b]
        first, line = G[a] if left else H[b], out[n]
        for f in range(line.size):
            line[f] = first[f]
        if both:
            second = H[b]
            for f in range(line.size):
                line[f] += second[f]
        a += left
        b += both or not left
        n += 1
    return n


@njit(**KERNEL)
def dots(X: np.ndarray, rows: np.ndarray, Y: np.ndarray, others: np.ndarray, out: np.ndarray
         ) -> None:
    """Multiply rows of two tables: out[t] = X[rows[t]] · Y[others[t]]; 0 where either is −1."""
    for t in range(rows.size):
        total = out.dtype.type(0)
        if rows[t] >= 0 and others[t] >= 0:
            x, y = X[rows[t]], Y[others[t]]
            for f in range(x.size):
                total += x[f] * y[f]
        out[t] = total


@njit(**KERNEL)
def scatter_add_scaled(rows: np.ndarray, scale: np.ndarray, Y: np.ndarray, others: np.ndarray,
                       out: np.ndarray) -> None:
    """Add scaled rows of Y to rows of a table: out[rows[t]] += scale[t] Y[others[t]]."""
    for t in range(rows.size):
        if rows[t] >= 0 and others[t] >= 0:
            line, y = out[rows[t]], Y[others[t]]
            for f in range(y.size):
                line[f] += scale[t] * y[f]
