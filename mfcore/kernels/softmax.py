"""Softmax over rows of scores, and which negatives of a batch its users have chosen themselves."""

from __future__ import annotations

import numpy as np

from mfcore.compiled import njit
from mfcore.kernels.options import KERNEL

SEARCH = 16             # cells that are read in the time of one search among them
LEAST = 1e-30           # smaller shares are 0: products of denormal numbers take ten times as long


@njit(**KERNEL)
def find_chosen(indptr: np.ndarray, indices: np.ndarray, users: np.ndarray, items: np.ndarray,
                place: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> int:
    """Write the (row, column) of negatives that the row's user has chosen; return their number.

    users : the user of each row; items : the negatives, ascending; place (n_items,) : the column
    of each item, −1 for no negative
    Where there is no room for all, only their number is right.
    """
    n = 0
    for row in range(users.size):
        u = users[row]
        start, stop = indptr[u], indptr[u + 1]
        if stop - start > SEARCH * items.size:              # (a long row: look each negative up)
            known = indices[start:stop]
            for item in items:
                t = np.searchsorted(known, item)
                if t < known.size and known[t] == item:
                    if n < rows.size:
                        rows[n], columns[n] = row, place[item]
                    n += 1
            continue
        for t in range(start, stop):
            column = place[indices[t]]
            if column >= 0:
                if n < rows.size:
                    rows[n], columns[n] = row, column
                n += 1
    return n


@njit(**KERNEL)
def begin_softmax(S: np.ndarray, scale: float, offset: np.ndarray, top: np.ndarray) -> None:
    """Write scale · S + offset − top of the row, in place of S."""
    real = S.dtype.type
    c = real(scale)
    for row in range(S.shape[0]):
        line, most = S[row], top[row]
        for j in range(line.size):
            line[j] = c * line[j] + (offset[j] - most)


@njit(**KERNEL)
def end_softmax(S: np.ndarray, scale: float, own: np.ndarray, value: np.ndarray, a: np.ndarray
                ) -> None:
    """Write scale · S / (e^own + Σ S), in place of S; and ln(e^own + Σ S) − own, by rows."""
    real = S.dtype.type
    for row in range(S.shape[0]):
        line, total = S[row], real(0)
        for j in range(line.size):
            total += line[j]
        whole = np.exp(own[row]) + total
        value[row] = np.log(whole) - own[row]
        share = real(scale / whole)
        least = share * real(LEAST)
        a[row] = -share * total
        for j in range(line.size):
            d = share * line[j]
            line[j] = d if d > least else real(0)
