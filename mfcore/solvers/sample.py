"""Items from a sample of the users: most of what the first sweeps find, at a part of their cost.

Let S be a random sample of users, with a share ρ of the stored cells.  The objective of S alone,
with the penalty of items weighted by ρ,

    L_S(P_S, Q) = Σ_{u∈S} (terms of user u) + ρ Σ_i λ_i ‖Q_i − m_i‖²        E min_P L_S ≈ ρ min_P L

has items near those of L, since few users suffice to find a k-dimensional space that fits the
ratings well, and finding it is all that the first sweeps do.  A sweep over S costs ρ of a full
one.  So a fit begins with `SWEEPS` of conjugate gradient over S, with items starting from zero,
and then `STEPS` for each user, starting from the prior.

Items that S says nothing about keep their random start: those that it has not rated, or only with
weight 0, or as its biases predict.  At zero, they and users who have rated only them would keep
each other there.  And S needs more users than there are factors, or all later
sweeps would stay in the few directions that it spans.

Randomised linear algebra samples rows to find a subspace (Frieze, Kannan, Vempala 2004); starting
with a part of the data and ending with all of it is folklore.  benchmarks/README.md has losses with
and without a sample.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from mfcore.data.chunks import CELLS, rows_of_cells
from mfcore.objectives.factors import Factors
from mfcore.objectives.penalty import Penalty, Prior
from mfcore.objectives.quadratic import Cells, Quadratic
from mfcore.parallel import row_chunks

SHARE, SWEEPS, STEPS = 0.1, 3, 2
# Fewest and most cells of a useful sample, and the largest share that is worth its sweeps.
LEAST_CELLS, MOST_CELLS, MOST_SHARE = 100_000, 4_000_000, 0.25
USERS_A_FACTOR = 4      # fewest users of a sample per factor
# Vectors this much shorter than a random start say nothing: they are rounding about zero.
SHORT = 1e-3


def sample_of(problem: Quadratic, k: int) -> np.ndarray | None:
    """Return a random sample of users, ascending; None if it is too small for k factors."""
    counts = np.diff(problem.by_user.indptr)
    nnz = max(1, int(counts.sum()))
    share = float(np.clip(SHARE, LEAST_CELLS / nnz, MOST_CELLS / nnz))
    if share > MOST_SHARE:
        return None
    random = np.random.default_rng(0)
    rows = np.sort(random.permutation(len(counts))[:int(np.ceil(share * len(counts)))])
    enough = np.count_nonzero(counts[rows]) >= USERS_A_FACTOR * k
    return rows if enough and counts[rows].sum() >= LEAST_CELLS / 2 else None


def of_users(problem: Quadratic, rows: np.ndarray) -> Quadratic:
    """Return L_S, for S the given rows."""
    by_user = _rows(problem.by_user, rows)
    share = len(by_user.indices) / max(1, len(problem.by_user.indices))
    users, items = problem.users, problem.items
    means, bias_means = users.penalty.means_of(rows)
    chosen = Penalty(users.penalty.reg[rows], users.penalty.bias_reg[rows], means, bias_means)
    return replace(
        problem, by_user=by_user, constant=0.0,
        by_item=_turned(by_user, len(problem.by_item.indptr) - 1),
        users=Prior(chosen, None if users.features is None else users.features[rows],
                    share * users.feature_reg, share * users.feature_bias_reg),
        items=items.scaled(share))


def of_cells(problem: Quadratic, kept: np.ndarray) -> Quadratic:
    """Return a problem with some of its cells; kept : bool, in `by_user` order."""
    cells, n_columns = problem.by_user, len(problem.by_item.indptr) - 1
    places = np.flatnonzero(kept)
    indptr = np.concatenate([[0], np.cumsum(kept)])[cells.indptr]
    by_user = _placed(cells, indptr, cells.indices[places], places)
    return replace(problem, by_user=by_user, by_item=_turned(by_user, n_columns), constant=0.0)


def is_blank(cells: Cells) -> np.ndarray:
    """Return whether each cell is as good as absent, a = b = 0: of weight 0, where w0 = 0."""
    return np.asarray((cells.a == 0) & (cells.b == 0))


def counts_told(cells: Cells, w0: float) -> np.ndarray:
    """Return how many cells of each row have a weight and are not blank, int64, (n_rows,).

    Where no cell does, all count.
    """
    n_rows, n_cells = len(cells.indptr) - 1, len(cells.indices)
    counts = np.zeros(n_rows, np.int64)
    for start, stop in row_chunks(n_cells, CELLS):
        chunk = slice(start, stop)
        part = cells._replace(x=cells.x[chunk], y=cells.y[chunk])
        told = (part.a + w0 != 0) & ~is_blank(part)
        counts += np.bincount(rows_of_cells(cells.indptr, chunk)[told], minlength=n_rows)
    return counts if counts.any() else np.diff(cells.indptr).astype(np.int64)


def point_of_users(at: Factors, rows: np.ndarray) -> Factors:
    """Return a copy of a point with the given users only and with vectors of items zero."""
    groups = (block.copy() for block in (at.G, at.H, at.g, at.h))
    return Factors(np.array(at.P[rows]), np.zeros(at.Q.shape, at.Q.dtype), at.beta[rows],
                   at.gamma.copy(), *groups)


def take_over(at: Factors, found: Factors, problem: Quadratic) -> None:
    """Write all but the users of a sample's point to `at`, and the prior to its users.

    Vectors of items that the sample says nothing about stay.
    """
    lengths, start = (np.sqrt(np.einsum("if,if->i", Q, Q, dtype=np.float64))
                      for Q in (found.Q, at.Q))
    learned = lengths > SHORT * start.mean()
    at.Q[learned] = found.Q[learned]
    for name in ("gamma", "G", "H", "g", "h"):
        getattr(at, name)[...] = getattr(found, name)
    prior = problem.users.at(at.G, at.g)
    at.P[...] = prior.means
    if problem.learns_bias:
        at.beta[...] = prior.bias_means


def _rows(cells: Cells, rows: np.ndarray) -> Cells:
    """Return the cells of some rows."""
    counts = np.diff(cells.indptr)[rows]
    indptr = np.concatenate([[0], np.cumsum(counts)])
    places = np.arange(indptr[-1]) + np.repeat(cells.indptr[rows] - indptr[:-1], counts)
    return _placed(cells, indptr, cells.indices[places], places)


def _turned(cells: Cells, n_columns: int) -> Cells:
    """Return the same cells by column."""
    turned = sp.csr_array((np.arange(len(cells.x)), cells.indices, cells.indptr),
                          (len(cells.indptr) - 1, n_columns)).T.tocsr()
    return _placed(cells, turned.indptr, turned.indices, turned.data)


def _placed(cells: Cells, indptr: np.ndarray, indices: np.ndarray, places: np.ndarray) -> Cells:
    """Return cells with the values at some places, in arrays of the same types.

    Kernels are compiled for these types, which include whether arrays are writeable.
    """
    x = cells.x[places]
    found = Cells(indptr.astype(cells.indptr.dtype), indices.astype(cells.indices.dtype), x,
                  x if cells.y is cells.x else cells.y[places], cells.line)
    for array, like in zip(found, cells, strict=True):
        array.flags.writeable = like.flags.writeable
    return found
