"""A million users, a million items, 20 million choices: fits and lists of 10,000 users.

    python -m benchmarks.million [MODEL ...]

Choices are generated (`benchmarks/generated.py`).  Each model is fitted in a process of its own, on
one thread, and lists 20 items for 10,000 users; peak memory is that of the process, the ratings
included.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from benchmarks.defaults import SHARED
from benchmarks.generated import chosen
from mfcore import GraphFilter, ImplicitMF, Ratings, SparseEASE

RESULT = Path(__file__).parent / "results" / "million.json"
SIZE, NNZ, ASKED, PARTS = 1_000_000, 20_000_000, 10_000, ("data", "indices", "indptr")
MODELS: dict[str, Any] = {
    "GraphFilter, 64": GraphFilter(64, **SHARED),
    "SparseEASE": SparseEASE(n_threads=1),
    "ImplicitMF, 64": ImplicitMF(64, reg=5.0, **SHARED)}


def ratings_of(folder: Path) -> Ratings:
    """Return the choices that `write` wrote."""
    parts = (np.load(folder / f"{name}.npy") for name in PARTS)
    return Ratings(sp.csr_array(tuple(parts), shape=(SIZE, SIZE)), copy=False)


def write(folder: Path) -> None:
    """Generate the choices, all 1, and write their parts."""
    cells = chosen(SIZE, SIZE, NNZ, genres=500)
    cells.data[:] = 1
    for name in PARTS:
        np.save(folder / f"{name}.npy", getattr(cells, name))


def measure(name: str, folder: Path) -> None:
    """Fit a model, list, and print what it took."""
    model, ratings = MODELS[name], ratings_of(folder)
    small = ratings.select_users(np.arange(50))
    type(model)(**{**model.get_params(), **({"n_factors": 4} if "n_factors" in model.get_params()
                                            else {})}).fit(small).recommend(k=20)  # compiles
    start = time.process_time()
    model.fit(ratings)
    fitted = time.process_time()
    items, _ = model.recommend(np.arange(0, SIZE, SIZE // ASKED), k=20)
    print(json.dumps({
        "fit": round(fitted - start, 1), "lists": round(time.process_time() - fitted, 1),
        "gigabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "nnz": ratings.nnz, "full_lists": int((items >= 0).all(axis=1).sum())}))


def main() -> None:
    """Measure, and write what was found after each model."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--measure", metavar="FOLDER", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(given.models[0], given.measure)
        return
    with tempfile.TemporaryDirectory() as place:
        subprocess.run([sys.executable, "-c", "import sys; from pathlib import Path; from "
                        "benchmarks.million import write; write(Path(sys.argv[1]))", place],
                       check=True)
        for name in given.models or MODELS:
            load = os.getloadavg()[0]
            done = subprocess.run([sys.executable, "-m", "benchmarks.million", name, "--measure",
                                   place], check=True, stdout=subprocess.PIPE, text=True)
            found = {**json.loads(done.stdout.splitlines()[-1]), "load": round(load, 1)}
            print(name, found, flush=True)
            result = json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else {
                "command": "python -m benchmarks.million", "shape": [SIZE, SIZE], "models": {}}
            result["models"][name] = found
            RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
