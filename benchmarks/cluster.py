"""What Dask costs, and the rates from which `mfcore.distributed.plan` predicts.

    python -m benchmarks.cluster epochs FOLDER --factors 64 --workers 1 2
    python -m benchmarks.cluster rates FOLDER

FOLDER holds ratings that `mfcore convert` or benchmarks.larger_than_memory wrote.  `epochs` times
worker processes of one thread against threads of one process, in turns, a line of JSON each, with
the plan's prediction for the same epoch; CPU seconds are those of all processes together, and
matter where the machine is busy.  `rates` measures in CPU seconds: the best of three.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client, LocalCluster

from mfcore import ImplicitMF, MatrixFactorization, Ratings
from mfcore.distributed import fit, plan
from mfcore.distributed.blocks import itself

TASKS, FILE_FLOATS = 2000, 50_000_000


def told(**found: Any) -> None:
    """Write a line of JSON."""
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


def epochs(arguments: argparse.Namespace) -> None:
    """Time a fit with threads, then with workers, as often as asked."""
    ratings = Ratings.open(arguments.folder, verify=False)
    for number in arguments.workers * arguments.rounds:
        told(threads=number, **timed(number, ratings, arguments, None))
        with LocalCluster(n_workers=number, threads_per_worker=1, memory_limit=0,
                          dashboard_address=":0") as local, Client(local) as client:
            told(workers=number, **timed(1, ratings, arguments, client))
        predicted = plan(*ratings.shape, ratings.nnz, arguments.factors, number,
                         unknown_weight=0.0, block_cells=arguments.block_cells)
        told(plan=number, wall=round(predicted.seconds, 2),
             cpu=round(number * predicted.computing + predicted.coordinating, 2))


def timed(n_threads: int, ratings: Ratings, arguments: argparse.Namespace,
          client: Client | None) -> dict[str, Any]:
    """Return wall and CPU seconds of the epochs of a fit, workers' included; the least first."""
    model = MatrixFactorization(arguments.factors, n_epochs=arguments.epochs, random_state=0,
                                n_threads=n_threads)
    moments = []

    def used(*_: Any) -> None:
        there = client.run(time.process_time).values() if client else ()
        moments.append(time.process_time() + sum(there))

    if client is None:
        model.fit(ratings, callbacks=[used])
    else:
        fit(model, ratings, client=client, block_cells=arguments.block_cells, callbacks=[used],
            shared=not arguments.ship)
    wall = sorted(record["seconds"] for record in model.history_[1:])
    return {"wall": [round(each, 2) for each in wall],
            "cpu": [round(each, 2) for each in sorted(np.diff(moments))],
            "sum": float(np.abs(model.user_factors_).sum(dtype=float)),
            "load": round(os.getloadavg()[0], 1)}


def rates(arguments: argparse.Namespace) -> None:
    """Measure what the plan multiplies."""
    ratings = Ratings.open(arguments.folder, verify=False)
    told(load=round(os.getloadavg()[0], 1), FILE_BYTES=max(map(file_bytes, range(3))))
    told(TASK_SECONDS=min(map(task_seconds, range(3))))
    for solver, factors in (("cg", arguments.factors), ("cholesky", arguments.factors)):
        told(solver=solver, factors=factors, rate=max(solver_rates(ratings, solver, factors)))


def solver_rates(ratings: Ratings, solver: str, factors: int) -> Iterator[float]:
    """Yield the flops of an epoch by its CPU seconds, one thread, the first epoch left out."""
    flops, moments = plan(*ratings.shape, ratings.nnz, factors, 1, solver=solver).flops, []
    ImplicitMF(factors, solver=solver, n_epochs=4, random_state=0, n_threads=1).fit(
        ratings, callbacks=[lambda model, record: moments.append(time.process_time())])
    yield from flops / np.diff(moments)


def task_seconds(_: int) -> float:
    """Return CPU seconds of client and scheduler for a task, which are what tasks wait for."""
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as local, \
            Client(local) as client:
        client.gather(client.map(itself, range(10), pure=False))
        start = time.process_time()
        made = client.map(itself, range(TASKS // 2), pure=False)
        client.gather(client.map(itself, made, pure=False))
        return (time.process_time() - start) / TASKS


def file_bytes(_: int) -> float:
    """Return bytes a CPU second of writing factors to a file and copying them out of it."""
    values = np.ones(FILE_FLOATS, np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path, start = Path(folder) / "rows.npy", time.process_time()
        np.save(path, values)
        values[...] = np.load(path, mmap_mode="r")
        return 2 * values.nbytes / (time.process_time() - start)


def main() -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("epochs", "rates"))
    parser.add_argument("folder")
    parser.add_argument("--factors", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--ship", action="store_true")
    parser.add_argument("--block-cells", type=int, default=5_000_000)
    arguments = parser.parse_args()
    {"epochs": epochs, "rates": rates}[arguments.command](arguments)


if __name__ == "__main__":
    main()
