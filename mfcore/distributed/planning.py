"""What a fit on a cluster will take, before there is one.

Symbols: n users, m items, N ratings, k factors, W workers, s conjugate gradient steps, b bytes
of a number.  One epoch, both half-sweeps:

    flops        cg         8 (s + 1) N k + 4 (n + m) k²              (residual, steps; turning)
                 cholesky   4 N k² + (n + m)(k³/3 + 3k²)             (two sides, 2 N k² each)
                 gram       2 (n + m) k²                              (w0 > 0)
    shipped      a block of N/B ratings wants of r rows the share that it has:
                 D(r) = r (1 − (1 − 1/r)^(N/B)) <= r rows, drawn alike; a worker has 1/W of
                 them already:    (B D(m) + B D(n)) k b (1 − 1/W)     with B blocks a side
    memory       of a worker:  2 N/W (cells) + 2 (n + m)/W k b + D k b, what a block wants, as it
                 comes and joined, and what B/W other blocks want of this worker's rows
    tasks        2 B (B + 5)
    time         flops / (rate · processors) + shipped / (W bandwidth) + what one process does
                 alone:  tasks · overhead + 2 (n + m) k b / disk

Workers of one machine share its processors, min(W, processors), and map one copy of the factors:

    shipped      0
    memory       of a worker:  2 N/W (cells) + max(n, m) k b, the frozen side, which is the others'
                 too + 2 max(n, m) k b / B, the rows of a block
    tasks        2 (B + 1), and 4 W for Grams and turning (w0 > 0)

Popularity is no even draw: D is an upper bound, and real data ship less.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mfcore import validation
from mfcore.data.ratings import Ratings

# Measured by `python -m benchmarks.cluster rates` in CPU seconds, the best of three, 20.0 million
# ratings, 64 factors, one thread of a busy machine of two Zen 4 cores: flops a second and core of
# an epoch by the row solvers, all that it does besides included; seconds of client and scheduler
# for a task of Dask; bytes a second with which the client writes and reads an epoch's files
# while the system caches them (a shared disk is slower).
CG_RATE, CHOLESKY_RATE, TASK_SECONDS, FILE_BYTES = 13.4e9, 41e9, 0.81e-3, 8.7e9
CELL_BYTES = 8      # an index and a rating
# Blocks a thread and side where factors are shared: more end more evenly, and each is a task.
SHARES = 4


class Plan(NamedTuple):
    """What one epoch takes.

    `seconds` is the sum of `computing`, `shipping` and `coordinating`, of which `bottleneck`
    names the largest; bytes and flops are of all workers together but for `worker_bytes`.
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
        Bytes a second into a worker.
    solver : {"cg", "cholesky"}
    cg_steps : int, >= 1
    unknown_weight : float, >= 0
        0 spares Grams and turning.
    itemsize : int
        Bytes of a number: 4 or 8.
    block_cells : int or None
        Ratings of a block; None: a block a worker and side, or, where factors are shared, as
        many as `fit` makes.
    rate : float or None
        Flops a second of a processor; None: as measured.
    processors : float or None, > 0
        Processors that all workers have together; None: one each.
    shared : bool
        Whether workers of one machine map one copy of the factors, as `fit` has them do there.

    Returns
    -------
    Plan
    """
    sizes = [validation.integer(name, value, low=1) for name, value in (
        ("n_users", n_users), ("n_items", n_items), ("nnz", nnz), ("n_factors", n_factors),
        ("workers", workers))]
    n, m, N, k, W = (float(size) for size in sizes)
    validation.real("bandwidth", bandwidth, above=0)
    validation.choice("solver", solver, ("cg", "cholesky"))
    busy = W if processors is None else min(W, validation.real("processors", processors, above=0))
    turns = 4 * (n + m) * k**2 if unknown_weight and solver == "cg" else 0.0
    grams = 2 * (n + m) * k**2 if unknown_weight else 0.0
    flops = turns + grams + (8 * (cg_steps + 1) * N * k if solver == "cg" else
                             4 * N * k**2 + (n + m) * (k**3 / 3 + 3 * k**2))
    blocks = max(SHARES * W if shared else 0.0 if block_cells else W,
                 np.ceil(N / block_cells) if block_cells else 1.0)
    moved = _shared if shared else _shipped
    shipped, held, tasks = moved(n, m, N, k * itemsize, W, blocks, bool(unknown_weight))
    rounds = np.ceil(blocks / W) * W / blocks           # some workers have a block more
    own_rate = rate or (CG_RATE if solver == "cg" else CHOLESKY_RATE)
    return Plan(flops, shipped, rounds * 2 * N / W * CELL_BYTES + held, int(tasks),
                float(rounds * flops / (busy * own_rate)), shipped / (W * bandwidth),
                int(tasks) * TASK_SECONDS + 2 * (n + m) * k * itemsize / FILE_BYTES)


def _shipped(n: float, m: float, N: float, row: float, W: float, blocks: float, _: bool
             ) -> tuple[float, float, float]:
    """Return bytes shipped, bytes of factors of a worker, and tasks; `row` in bytes."""
    wanted = [_distinct(rows, N / blocks) for rows in (m, n)]
    return (blocks * sum(wanted) * row * (1 - 1 / W),
            2 * (n + m) / W * row + max(wanted) * row * (2 + blocks / W),
            2 * blocks * (blocks + 5))


def _shared(n: float, m: float, N: float, row: float, W: float, blocks: float, turns: bool
            ) -> tuple[float, float, float]:
    """Return the same where factors are shared."""
    return 0.0, max(n, m) * row * (1 + 2 / blocks), 2 * (blocks + 1) + (4 * W if turns else 0)


def _distinct(rows: float, drawn: float) -> float:
    """Return how many of some rows are met, at most, in so many draws."""
    return float(-rows * np.expm1(drawn * np.log1p(-1 / rows))) if rows > 1 else rows


def block_bytes(ratings: Ratings, bounds: dict[str, list[int]], k: int, itemsize: int
                ) -> dict[str, int]:
    """Return the bytes that the dearest block of each side takes while it is solved."""
    most = {}
    for side, matrix in (("user", ratings.by_user), ("item", ratings.by_item)):
        cuts = np.asarray(bounds[side])
        cells = np.diff(np.asarray(matrix.indptr)[cuts].astype(np.int64))
        cell = 2 * (matrix.indices.itemsize + matrix.data.itemsize) + 8 \
            + (0 if ratings.weights is None else 3 * 8)
        rows = 3 * np.diff(cuts) + 2 * np.minimum(cells, matrix.shape[1])
        most[side] = int(np.max(cells * cell + rows * k * itemsize))
    return most
