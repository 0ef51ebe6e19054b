"""A fit of EASE beside the Cholesky inverse of its matrix by SciPy alone, interleaved.

    python -m benchmarks.ease_speed

The fit includes the Gram matrix.  BLAS uses all cores for SciPy; the fit runs tiles on as many
threads.  CPU seconds, as other work may share the machine.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from scipy.linalg import lapack

from benchmarks.generated import generated
from mfcore import EASE

RESULT = Path(__file__).parent / "results" / "ease_speed.json"
ROUNDS = 3


def clock(work: Callable[[], object]) -> tuple[float, float]:
    """Return seconds on the wall and of the processors."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """Measure and write the result file."""
    X = generated(40_000, 10_000, 4_000_000)
    ones = sp.csr_array((np.ones_like(X.data), X.indices, X.indptr), shape=X.shape)
    G = np.asfortranarray((ones.T @ ones).toarray() + 200 * np.eye(10_000, dtype=np.float32))

    def scipy_inverse() -> object:
        factor, _ = lapack.spotrf(G, lower=0)
        return lapack.spotri(factor, lower=0, overwrite_c=1)

    EASE().fit(X[:100])                                    # compiles
    rows = [{"scipy": clock(scipy_inverse), "fit": clock(lambda: EASE().fit(X))}
            for _ in range(ROUNDS)]
    ratios = [row["fit"][1] / row["scipy"][1] for row in rows]
    print(rows, np.median(ratios))
    RESULT.write_text(json.dumps({
        "data": f"generated, {X.shape[0]} x {X.shape[1]}, {X.nnz} ratings",
        "command": "python -m benchmarks.ease_speed", "rounds": [
            {name: {"wall": round(wall, 2), "cpu": round(cpu, 2)}
             for name, (wall, cpu) in row.items()} for row in rows],
        "median ratio of CPU seconds, fit to SciPy": round(float(np.median(ratios)), 3)},
        indent=1) + "\n")


if __name__ == "__main__":
    main()
