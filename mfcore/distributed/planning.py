"""Predict what a fit on a cluster will take.

Symbols: n users, m items, N ratings, k factors, W workers, s conjugate gradient steps, b bytes
per number.  One epoch, both half-sweeps:

    flops        cg         8 (s + 1) N k + 4 (n + m) k²              (residual, steps; turning)
                 cholesky   4 N k² + (n + m)(k³/3 + 3k²)             (two sides, 2 N k² each)
                 gram       2 (n + m) k²                              (w0 > 0)
    shipped      a block of N/B ratings wants, out of r rows, those that occur in it:
                 D(r) = r (1 − (1 − 1/r)^(N/B)) <= r rows if all are equally likely; a worker
                 has 1/W of them already:    (B D(m) + B D(n)) k b (1 − 1/W), B blocks per side
    memory       of a worker:  2 N/W (cells) + 2 (n + m)/W k b, plus D k b (2 + B/W): what a
                 block wants, as it arrives and joined, and what B/W other blocks want of this
                 worker's rows
    tasks        2 B (B + 5)
    time         flops / (rate · processors) + shipped / (W bandwidth) + what one process does
                 alone:  tasks · overhead + 2 (n + m) k b / disk

Workers of one machine share its processors, min(W, processors), and map one copy of the factors:

    shipped      0
    memory       of a worker:  2 N/W (cells) + max(n, m) k b, the frozen side, shared with the
                 others, + 2 max(n, m) k b / B, the rows of a block
    tasks        2 (B + 1), and 4 W for Grams and turning (w0 > 0)

Popularity is uneven in real data, which therefore ship less: D is an upper bound.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mfcore import validation
from mfcore.data.ratings import Ratings

# Measured by `python -m benchmarks.cluster rates` in CPU seconds, the best of three, 20.0 million
# ratings, 64 factors, one thread of a busy machine with two Zen 4 cores: flops per second and core
# of an epoch by the row solvers, everything else in it included; seconds of client and scheduler
# per task of Dask; bytes per second at which the client writes and reads an epoch's files while
# the system caches them (a shared disk is slower).
CG_RATE, CHOLESKY_RATE, TASK_SECONDS, FILE_BYTES = 13.4e9, 41e9, 0.81e-3, 8.7e9
CELL_BYTES = 8      # an index and a rating
# Blocks per thread and side if factors are shared: more end more evenly, but each is a task.
SHARES = 4


class Plan(NamedTuple):
    """What one epoch takes.

    `seconds` is the sum of `computing`, `shipping` and `coordinating`, and `bottleneck` names
    the largest of them; bytes and flops are those of all workers, except for `worker_bytes`.
    """

    flops: float
    shipped_bytes: float
    worker_bytes: float
    tasks: int
    computing: float
    shipping: float
    coordinating: float

    @property
    def seconds(self) -> float:
        """Predicted wall time of an epoch."""
        return self.computing + self.shipping + self.coordinating

    @property
    def bottleneck(self) -> str:
        """Where most of the time goes."""
        parts = {name: getattr(self, name) for name in ("computing", "shipping", "coordinating")}
        return max(parts, key=lambda name: parts[name])


def plan(n_users: int, n_items: int, nnz: int, n_factors: int, workers: int,
         bandwidth: float = 1.25e9, *, solver: str = "cg", cg_steps: int = 2,
         unknown_weight: float = 1.0, itemsize: int = 4, block_cells: int | None = None,
         rate: float | None = None, processors: float | None = None, shared: bool = False) -> Plan:
    """Predict what one epoch takes on a cluster.

    Parameters
    ----------
    n_users, n_items, nnz, n_factors, workers : int, >= 1
        A worker is one thread.
    bandwidth : float, > 0
        Bytes per second into a worker.
    solver : {"cg", "cholesky"}
    cg_steps : int, >= 1
    unknown_weight : float, >= 0
        With 0, no Grams and no turning.
    itemsize : int
        Bytes per number: 4 or 8.
    block_cells : int or None
        Ratings per block; None: one block per worker and side, or as many as `fit` makes if
        factors are shared.
    rate : float or None
        Flops per second of a processor; None: as measured.
    processors : float or None, > 0
        Processors of all workers together; None: one each.
    shared : bool
        Whether the workers are on one machine and map one copy of the factors.
    """
    n, m, N, k, W = (float(validation.integer(name, value, low=1)) for name, value in (
        ("n_users", n_users), ("n_items", n_items), ("nnz", nnz), ("n_factors", n_factors),
        ("workers", workers)))
    validation.real("bandwidth", bandwidth, above=0)
    validation.choice("solver", solver, ("cg", "cholesky"))
    busy = W if processors is None else min(W, validation.real("processors", processors, above=0))
    turns = 4 * (n + m) * k**2 if unknown_weight and solver == "cg" else 0.0
    grams = 2 * (n + m) * k**2 if unknown_weight else 0.0
    flops = turns + grams + (8 * (cg_steps + 1) * N * k if solver == "cg" else
                             4 * N * k**2 + (n + m) * (k**3 / 3 + 3 * k**2))
    blocks = max(SHARES * W if shared else 0.0 if block_cells else W,
                 np.ceil(N / block_cells) if block_cells else 1.0)
    row = k * itemsize
    if shared:
        shipped, held = 0.0, max(n, m) * row * (1 + 2 / blocks)
        tasks = 2 * (blocks + 1) + (4 * W if unknown_weight else 0)
    else:
        wanted = [_distinct(rows, N / blocks) for rows in (m, n)]
        shipped = blocks * sum(wanted) * row * (1 - 1 / W)
        held = 2 * (n + m) / W * row + max(wanted) * row * (2 + blocks / W)
        tasks = 2 * blocks * (blocks + 5)
    rounds = np.ceil(blocks / W) * W / blocks           # some workers have a block more
    own_rate = rate or (CG_RATE if solver == "cg" else CHOLESKY_RATE)
    return Plan(flops, shipped, rounds * 2 * N / W * CELL_BYTES + held, int(tasks),
                float(rounds * flops / (busy * own_rate)), shipped / (W * bandwidth),
                int(tasks) * TASK_SECONDS + 2 * (n + m) * row / FILE_BYTES)


def _distinct(rows: float, drawn: float) -> float:
    """Return how many rows are drawn at least once, at most, in `drawn` draws."""
    return float(-rows * np.expm1(drawn * np.log1p(-1 / rows))) if rows > 1 else rows


def block_bytes(ratings: Ratings, bounds: dict[str, list[int]], k: int, itemsize: int
                ) -> dict[str, int]:
    """Return the bytes that the largest block of each side takes while it is solved."""
    most = {}
    for side, matrix in (("user", ratings.by_user), ("item", ratings.by_item)):
        cuts = np.asarray(bounds[side])
        cells = np.diff(np.asarray(matrix.indptr)[cuts].astype(np.int64))
        cell = 2 * (matrix.indices.itemsize + matrix.data.itemsize) + 8 \
            + (0 if ratings.weights is None else 3 * 8)
        rows = 3 * np.diff(cuts) + 2 * np.minimum(cells, matrix.shape[1])
        most[side] = int(np.max(cells * cell + rows * k * itemsize))
    return most
