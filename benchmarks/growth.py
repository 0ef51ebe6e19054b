"""How cost grows: seconds of a sweep and memory, by ratings and by factors, and against the limit.

    python -m benchmarks growth [--most 30] [--what als ...] [--curves fixed ...]

Each point is a process of its own: a fit of five sweeps, of which the last four are timed, or
the best ten for the first 10,000 users.  Then SGEMM and a copy are timed on as many threads, and,
for conjugate gradient, touching the vectors that it reads (benchmarks/floor.py).
Curves: "fixed", ratings grow while users and items stay those of MovieLens 20M; "growing", all
grow; "factors", 16 to 256 at 10M ratings.  Points on file are not measured again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import stored
from benchmarks.floor import floor
from benchmarks.generated import generated
from benchmarks.harness import RESULTS, THREADS, write
from benchmarks.machine import environment, peak_gigabytes, same
from mfcore import ImplicitMF, MatrixFactorization
from mfcore.parallel import Pool
from mfcore.solvers.als import sides_as_large

USERS, ITEMS, ASKED, SWEEPS = 138_493, 26_744, 10_000, 5
MILLIONS, FACTORS, K = (1, 3, 10, 30, 100), (16, 32, 64, 128, 256), 64
KINDS, CURVES = ("als", "exact", "sgd", "top ten"), ("fixed", "growing", "factors")


def points(most: int, kinds: Sequence[str] = KINDS) -> Iterator[dict[str, Any]]:
    """Yield the points up to a number of millions of ratings, those of few first."""
    for millions in (each for each in MILLIONS if each <= most):
        share = millions / 20
        for curve, n, m in (("fixed", USERS, ITEMS), ("growing", round(USERS * share),
                                                     round(ITEMS * share))):
            for kind in kinds:
                yield {"curve": curve, "kind": kind, "users": n, "items": m,
                       "millions": millions, "k": K}
        if millions == 10:
            for k in FACTORS:
                for kind in kinds:
                    yield {"curve": "factors", "kind": kind, "users": USERS, "items": ITEMS,
                           "millions": millions, "k": k}


def ratings(point: dict[str, Any]) -> Any:
    """Return the ratings of a point."""
    shape = point["users"], point["items"], point["millions"] * 10**6
    return stored("growth-{}-{}-{}".format(*shape), lambda: {"R": generated(*shape)})["R"]


# --------------------------------------------------------------------------- one point


def clock() -> np.ndarray:
    """Return wall and CPU seconds."""
    return np.array([time.perf_counter(), time.process_time()])


def per_sweep(model: Any, R: Any) -> np.ndarray:
    """Return the seconds of a sweep, the first left out."""
    times: list[np.ndarray] = []
    model.fit(R, callbacks=[lambda *_: times.append(clock())])
    found: np.ndarray = (times[-1] - times[0]) / (len(times) - 1)
    return found


def fit(kind: str, R: Any, k: int, n_threads: int) -> np.ndarray:
    """Return the seconds of a sweep of ALS or SGD."""
    more = {"n_epochs": SWEEPS, "random_state": 0, "n_threads": n_threads}
    if kind == "sgd":
        return per_sweep(MatrixFactorization(k, reg=1.1, bias_reg=2.0, solver="sgd", **more), R)
    solver = {"als": "cg", "exact": "cholesky"}[kind]
    return per_sweep(ImplicitMF(k, reg=5.0, solver=solver, **more), R)


def top_ten(R: Any, k: int, n_threads: int) -> np.ndarray:
    """Return the seconds of the best ten for the first users."""
    model = ImplicitMF(k, reg=5.0, n_epochs=1, random_state=0, n_threads=n_threads).fit(R)
    start = clock()
    model.recommend(np.arange(min(ASKED, R.shape[0])), k=10)
    return clock() - start


def limits(n_threads: int) -> dict[str, float]:
    """Return GF/s of SGEMM and GB/s of a copy, by CPU second, on all threads."""
    X, big = np.ones((1024, 1024), np.float32), np.ones((2, 8, 2**21), np.float32)
    rates = {}
    for name, work, amount in (
            ("GF/s", lambda _: X @ X, 2 * 1024**3),
            ("GB/s", lambda n: np.copyto(big[1, n], big[0, n]), 2 * big[0, 0].nbytes)):
        with Pool(n_threads) as pool:
            start = time.process_time()
            pool.map(work, [(n,) for n in range(8)] * 3)
            rates[name] = round(24 * amount / 1e9 / (time.process_time() - start), 1)
    return rates


def measured(point: dict[str, Any], n_threads: int) -> dict[str, Any]:
    """Return the point with its figures."""
    R = ratings(point)
    run: Callable[[Any], np.ndarray] = (
        (lambda X: top_ten(X, point["k"], n_threads)) if point["kind"] == "top ten"
        else (lambda X: fit(point["kind"], X, point["k"], n_threads)))
    for kernels in (sides_as_large(), nullcontext()):
        with kernels:
            run(R[:200])                               # compiles
    wall, cpu = run(R).tolist()
    peak = peak_gigabytes()
    least = {"floor": round(floor(R, point["k"], n_threads), 4)} if point["kind"] == "als" else {}
    return point | {"nnz": R.nnz, "wall": round(wall, 4), "cpu": round(cpu, 4),
                    "gigabytes": round(peak, 3), **least, **limits(n_threads)}


# --------------------------------------------------------------------------- all points


def key(point: dict[str, Any]) -> tuple[Any, ...]:
    """Return what tells points apart."""
    return tuple(point[name] for name in ("curve", "kind", "millions", "k"))


def main(arguments: list[str]) -> None:
    """Measure what is not on file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks growth", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=30, help="millions of ratings")
    parser.add_argument("--what", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--curves", nargs="+", choices=CURVES, default=CURVES)
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    path = given.out / "growth.json"
    fresh = {"command": f"python -m benchmarks growth --most {given.most}",
             "environment": environment(given.threads), "points": []}
    old = json.loads(path.read_text()) if path.exists() else fresh
    found = old if same(old["environment"], fresh["environment"]) else fresh
    known = set(map(key, found["points"]))
    for point in points(given.most, given.what):
        if key(point) not in known and point["curve"] in given.curves:
            ratings(point)
            text = subprocess.run([sys.executable, "-m", "benchmarks.growth", json.dumps(point),
                                   str(given.threads)], stdout=subprocess.PIPE, text=True,
                                  check=True).stdout
            found["points"].append(json.loads(text.splitlines()[-1]))
            write(path, found | {"command": fresh["command"]})


if __name__ == "__main__":
    print(json.dumps(measured(json.loads(sys.argv[1]), int(sys.argv[2]))))
