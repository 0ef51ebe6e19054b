"""Which negatives of a batch its users have chosen themselves."""

from __future__ import annotations

import numpy as np

from mfcore.compiled import njit
from mfcore.kernels.options import KERNEL


@njit(**KERNEL)
def find_chosen(indptr: np.ndarray, indices: np.ndarray, users: np.ndarray, place: np.ndarray,
                rows: np.ndarray, columns: np.ndarray) -> int:
    """Write the (row, column) of negatives that the row's user has chosen; return their number.

    users : the user of each row; place (n_items,) : the column of each item, −1 for no negative
    Where there is no room for all, only their number is right.
    """
    n = 0
    for row in range(users.size):
        u = users[row]
        for t in range(indptr[u], indptr[u + 1]):
            column = place[indices[t]]
            if column >= 0:
                if n < rows.size:
                    rows[n], columns[n] = row, column
                n += 1
    return n
