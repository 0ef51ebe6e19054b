"""How warm a softmax over cosines should be: of several temperatures, that of the best short fit.

Where a fit begins says little: a warmer start knows more of popularity, and may fall behind within
an epoch of training.  After some STEPS of it the order is that of the end (on ten of eleven data
sets with temperatures of 0.2 and 0.4; on the other both are even).  So each temperature is
trained that long, but an epoch at least, on all but a tenth of the choices of up to CELLS of them,
and ranks that tenth; with few users, several times.  Of wide batches fewer steps do, so that a
search costs no more than WIDEST cells per step.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore.objectives.factors import LinearScorer, unit_rows
from mfcore.objectives.softmax import Vectors
from mfcore.parallel import Pool
from mfcore.solvers.ranked import MOST_USERS, ndcg_of, parted

STEPS, WIDEST, CELLS = 300, 1024, 500_000
MOST_DRAWS = 3                  # tenths that are tried, where users are few


def warmest(solver: Any, at: Vectors, pool: Pool) -> float:
    """Return the best of a `RankingAdam`'s temperatures; its start and `at` stay as they are."""
    total, n_users = np.zeros(len(solver.taus)), 0
    for seed in range(MOST_DRAWS):
        random = np.random.default_rng([solver.seed, seed])
        values = np.array(_ranked(solver, at, random, pool))
        total += values.sum(axis=1)
        n_users += values.shape[1]
        if n_users >= MOST_USERS:
            break
    return float(solver.taus[int(np.argmax(total))])


def _ranked(solver: Any, at: Vectors, random: np.random.Generator, pool: Pool) -> list[np.ndarray]:
    """Return NDCG@10 of some users by a held-out tenth, of each temperature."""
    order = random.permutation(solver.cells.shape[0])
    sizes = np.cumsum(np.diff(solver.cells.indptr)[order])
    users = np.sort(order[:max(1, int(np.searchsorted(sizes, CELLS, side="right")))])
    known, held, rows = parted(solver.cells[users], random)
    if not rows.size:
        return [np.zeros(0)] * len(solver.taus)
    return [_trained(solver, tau, at, users, known, (held, rows), pool) for tau in solver.taus]


def _trained(solver: Any, tau: float, at: Vectors, users: np.ndarray, known: sp.csr_array,
             tenth: tuple[sp.csr_array, np.ndarray], pool: Pool) -> np.ndarray:
    """Return NDCG@10 after a short fit, by the held-out cells and the rows that have some."""
    held, rows = tenth
    moved = Vectors(at.P[users], at.Q.copy())
    short = replace(solver, cells=known, features=(None, None), taus=(tau,),
                    optimizer=deepcopy(solver.optimizer), start=replace(solver.start, cells=known))
    short.begin(moved, pool)
    cells = min(short.batch_size, WIDEST)
    for _ in range(-(-STEPS * cells // max(known.nnz, cells))):
        short.epoch(moved, pool)
    del short                                          # (its moments are as large as the vectors)
    scorer = LinearScorer(unit_rows(moved.P[rows]), unit_rows(moved.Q))
    return ndcg_of(scorer, known[rows], held[rows], pool)
