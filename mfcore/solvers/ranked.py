"""How a held-out tenth of the cells is ranked, for settings that a fit chooses by itself."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from mfcore.kernels.ranks import NEVER
from mfcore.metrics.ranking import Ranks, ndcg
from mfcore.metrics.topk import top_k
from mfcore.objectives.factors import LinearScorer
from mfcore.parallel import Pool

PLACES = 10
HELD, MOST_USERS = 0.1, 1000        # the share held out, and the most users that are ranked for


def parted(cells: sp.csr_array, random: np.random.Generator
           ) -> tuple[sp.csr_array, sp.csr_array, np.ndarray]:
    """Return cells without a tenth, that tenth, and the rows to rank for, which have both."""
    is_held = random.random(cells.nnz) < HELD

    def part(mask: np.ndarray) -> sp.csr_array:
        indptr = np.append(0, np.cumsum(mask))[cells.indptr]
        return sp.csr_array((cells.data[mask], cells.indices[mask], indptr), shape=cells.shape)

    known, held = part(~is_held), part(is_held)
    rows = np.flatnonzero((np.diff(known.indptr) > 0) & (np.diff(held.indptr) > 0))
    return known, held, np.sort(random.permutation(rows)[:MOST_USERS])


def ndcg_of(scorer: LinearScorer, seen: sp.csr_array, held: sp.csr_array, pool: Pool) -> np.ndarray:
    """Return NDCG@10 of each row, its held-out cells among all that are not seen."""
    n_rows, n_items = held.shape
    best, _ = top_k(scorer, min(PLACES, n_items), seen=seen, pool=pool)
    first = np.arange(n_rows)[:, None] * n_items
    hits = np.isin(best + first, held.indices + np.repeat(first, np.diff(held.indptr)))
    hits &= best >= 0                     # (-1, no item, is the last one of the user before)
    users, places = np.nonzero(hits)
    ranks, counts = np.full(held.nnz, NEVER), hits.sum(axis=1)
    ranks[held.indptr[users] + np.arange(len(users)) - (np.cumsum(counts) - counts)[users]] = \
        places + 1
    values: np.ndarray = ndcg(Ranks(ranks, held.indptr), PLACES)
    return values
