"""The least time of a sweep: touching the vectors that it reads, in the order of the ratings.

A sweep reads for each rating the vector of its item, and that of its user.  `floor` reads one word
of every cache line of these vectors, in float32, and does nothing with them, so that it takes the
time in which the memory gives them.  A sweep whose vectors take half of the bytes may take less.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import scipy.sparse as sp
from numba import njit

from mfcore.parallel import Pool

LINE = 64           # bytes of a cache line


@njit(nogil=True)
def touched(indices: np.ndarray, X: np.ndarray, step: int, lo: int, hi: int) -> float:
    """Return the sum of every `step`-th number of the rows of X that indices lo..hi name."""
    total = X.dtype.type(0)
    for t in range(lo, hi):
        x = X[indices[t]]
        for f in range(0, x.size, step):
            total += x[f]
    return float(total)


def floor(R: Any, k: int, n_threads: int) -> float:
    """Return the CPU seconds of touching the vectors of both sides once for each rating."""
    by_user = sp.csr_array(R)
    sides = [(by_user, R.shape[1]), (by_user.T.tocsr(), R.shape[0])]
    given = [(rows.indices, np.ones((n, k), np.float32), LINE // 4) for rows, n in sides]
    bounds = np.linspace(0, R.nnz, 65).astype(int)
    with Pool(n_threads) as pool:
        for each in given:
            touched(*each, 0, 1)                                    # compiles
        start = time.process_time()
        for each in given:
            pool.over_chunks(lambda lo, hi, each=each: touched(*each, lo, hi), bounds)
        return time.process_time() - start
