"""How far the loss curves of NeuralMF and of the same network in PyTorch lie apart, and why.

    python -m benchmarks.neural_curves [--epochs 7] [--out FILE]

The networks, start and batches of `cases/neural.py`, on ML-100K.  In double precision both
curves are one, if both compute the same: with SparseAdam they are not, for it has its ε at
another place than Adam, and are with "one epsilon".  In single precision each rounds in an
order of its own, and training amplifies that: as a yardstick, PyTorch runs once more from a
start whose numbers are each moved to a neighbour, by one rounding.  Writes
results/neural_curves.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp

from benchmarks.cases.neural import Start, epochs_of_torch, solver_of, started
from benchmarks.harness import RESULTS, THREADS, write
from benchmarks.machine import environment
from mfcore import fetch
from mfcore.atomic import replaceable
from mfcore.parallel import Pool

FACTORS = 64


def ours(R: sp.csr_array, dtype: type, lazy: bool, n_epochs: int) -> list[float]:
    """Return the mean loss of each epoch, by this library."""
    solver, at = solver_of(started(R, FACTORS, dtype), lazy)
    with Pool(THREADS) as pool:
        return [solver.epoch(at, pool) for _ in range(n_epochs)]


def nudged(start: Start) -> Start:
    """Move each number of a start to its neighbour, up or down, in place; return it."""
    random = np.random.default_rng(0)
    for parameter in (p for each in (*start.sides, *start.head) for p in each.parameters()):
        x = parameter.value
        x[...] = np.nextafter(x, np.where(random.random(x.shape) < 0.5, -np.inf, np.inf)
                              .astype(x.dtype))
    return start


def theirs(R: sp.csr_array, dtype: type, lazy: bool, n_epochs: int, *, one_epsilon: bool = False,
           begin: Callable[[Start], Start] = lambda start: start) -> list[float]:
    """Return the mean loss of each epoch, by PyTorch, on one thread."""
    import torch

    torch.set_num_threads(1)
    epoch = epochs_of_torch(begin(started(R, FACTORS, dtype)), lazy, one_epsilon)
    return [epoch(np.random.default_rng([0, number]).permutation(R.nnz))
            for number in range(n_epochs)]


def apart(one: list[float], other: list[float]) -> list[float]:
    """Return how far two curves lie apart, epoch by epoch."""
    return [float(f"{abs(a - b):.2g}") for a, b in zip(one, other, strict=True)]


def curves(R: sp.csr_array, lazy: bool, n_epochs: int) -> dict[str, Any]:
    """Return the curves of one kind of Adam, and how far they lie apart."""
    double, single = ((R, dtype, lazy, n_epochs) for dtype in (np.float64, np.float32))
    found = {"double, mfcore": ours(*double), "double, torch": theirs(*double),
             "single, mfcore": ours(*single), "single, torch": theirs(*single),
             "single, torch, start one rounding away": theirs(*single, begin=nudged)}
    pairs = {"double, mfcore and torch": ("double, mfcore", "double, torch"),
             "single, mfcore and torch": ("single, mfcore", "single, torch"),
             "single, torch and torch, start one rounding away":
                 ("single, torch", "single, torch, start one rounding away")}
    if lazy:
        found["double, torch, one epsilon"] = theirs(*double, one_epsilon=True)
        pairs["double, mfcore and torch, one epsilon"] = \
            ("double, mfcore", "double, torch, one epsilon")
    return {"loss": found, "apart": {name: apart(found[one], found[other])
                                     for name, (one, other) in pairs.items()}}


def main() -> None:
    """Draw the curves of both kinds of Adam."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--out", type=replaceable, default=RESULTS / "neural_curves.json")
    given = parser.parse_args()
    R, result = fetch("ml-100k").ratings.by_user, {
        "command": "python -m benchmarks.neural_curves", "environment": environment(THREADS)}
    for kind, lazy in (("lazy", True), ("dense", False)):
        result[kind] = curves(R, lazy, given.epochs)
        print(kind, *result[kind]["apart"].items(), sep="\n  ", flush=True)
        write(given.out, result)


if __name__ == "__main__":
    main()
