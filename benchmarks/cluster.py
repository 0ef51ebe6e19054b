"""What Dask costs: an epoch on worker processes of one thread against threads of one process.

    python -m benchmarks.cluster FOLDER --factors 64 --workers 1 2

FOLDER holds ratings that `mfcore convert` or benchmarks.larger_than_memory wrote.  One line of
JSON a run, with the plan's prediction for the same epoch.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import numpy as np
from distributed import Client, LocalCluster

from mfcore import MatrixFactorization, Ratings
from mfcore.distributed import fit, plan


def main() -> None:
    """Run and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--factors", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--block-cells", type=int, default=5_000_000)
    arguments = parser.parse_args()
    ratings = Ratings.open(arguments.folder, verify=False)

    def model(threads: int) -> MatrixFactorization:
        return MatrixFactorization(arguments.factors, n_epochs=arguments.epochs, random_state=0,
                                   n_threads=threads)

    def told(kind: str, number: int, fitted: MatrixFactorization, start: float) -> None:
        seconds = [record["seconds"] for record in fitted.history_]
        predicted = plan(*ratings.shape, ratings.nnz, arguments.factors, number,
                         unknown_weight=0.0, block_cells=arguments.block_cells)
        sys.stdout.write(json.dumps({
            kind: number, "epochs": [round(each, 2) for each in seconds],
            "least": round(min(seconds), 2), "fit": round(time.perf_counter() - start, 1),
            "predicted": None if kind == "threads" else round(predicted.seconds, 2),
            "sum": float(np.abs(fitted.user_factors_).sum(dtype=float))}) + "\n")
        sys.stdout.flush()

    for number in arguments.workers:
        start = time.perf_counter()
        told("threads", number, model(number).fit(ratings), start)
        with LocalCluster(n_workers=number, threads_per_worker=1,
                          dashboard_address=":0") as cluster, Client(cluster) as client:
            start = time.perf_counter()
            told("workers", number, fit(model(1), ratings, client=client,
                                        block_cells=arguments.block_cells), start)


if __name__ == "__main__":
    main()
