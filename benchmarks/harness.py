"""Contestants that take turns, each run in a process of its own; ratios pair by pair.

A run is `python -m benchmarks.harness CASE CONTESTANT SIZE`: it compiles on a few rows, times
`SWEEPS` sweeps (copies for the judge are not timed) and prints one line of JSON.  Losses are this
library's, in float64, of the factors that came out.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import als

RESULTS = Path(__file__).parent / "results"
CASES = {case.NAME: case for case in (als,)}
THREADS = 2
PACKAGES = ("mfcore", "numpy", "scipy", "numba", "implicit")


class Clock:
    """Wall and CPU seconds since the start, without what `stopped` runs."""

    def __init__(self) -> None:
        self.lost, self.start = np.zeros(2), self._now()

    @staticmethod
    def _now() -> np.ndarray:
        return np.array([time.perf_counter(), time.process_time()])

    def read(self) -> list[float]:
        """Return [wall, cpu]."""
        return (self._now() - self.start - self.lost).tolist()

    def stopped(self, work: Callable[[], Any]) -> None:
        """Run something that does not count."""
        before = self._now()
        work()
        self.lost += self._now() - before


def missing(needs: str) -> str | None:
    """Return why a contestant cannot run, or None."""
    try:
        importlib.import_module(needs)
    except Exception as error:              # a broken peer is a missing one, with its reason
        return f"{type(error).__name__}: {error}"
    return None


def environment() -> dict[str, Any]:
    """Return what the figures depend on."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    name = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=RESULTS, capture_output=True, text=True)
    versions = {each: metadata.version(each) for each in PACKAGES if missing(each) is None}
    return {"cpu": name, "cpus": os.cpu_count(), "threads": THREADS, "load": os.getloadavg(),
            "python": platform.python_version(), "commit": git.stdout.strip(), **versions}


def seconds_to(points: list[dict[str, float]], target: float, clock: str) -> float | None:
    """Return the time of the first point whose loss is at most the target; None: never."""
    return next((point[clock] for point in points if point["loss"] <= target), None)


def quartiles(values: list[float]) -> list[float]:
    """Return the lower quartile, the median and the upper quartile."""
    return np.percentile(values, [25, 50, 75]).round(4).tolist()


def summary(rounds: list[dict[str, Any]], peer: str) -> dict[str, Any]:
    """Return quartiles of peer's time over ours to the loss of the peer's sweep 4, by round."""
    found: dict[str, Any] = {}
    for clock in ("wall", "cpu"):
        pairs = []
        for turn in rounds:
            target = turn[peer]["points"][3]["loss"]
            ours = seconds_to(turn["mfcore"]["points"], target, clock)
            if ours is not None:
                pairs.append(turn[peer]["points"][3][clock] / ours)
        found[clock] = quartiles(pairs) if pairs else None
        found[f"{clock}: rounds that reached it"] = len(pairs)
    return found


def one(case: str, contestant: str, size: str) -> dict[str, Any]:
    """Run one contestant in this process."""
    module = CASES[case]
    R = module.data(size)
    start = time.perf_counter()
    getattr(module, contestant)(R[:200], Clock(), lambda P, Q: None)
    compiled = time.perf_counter() - start
    points, states, clock = [], [], Clock()

    def keep(P: np.ndarray, Q: np.ndarray) -> None:
        points.append(dict(zip(("wall", "cpu"), clock.read(), strict=True)))
        clock.stopped(lambda: states.append((P.copy(), Q.copy())))

    getattr(module, contestant)(R, clock, keep)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    for point, state in zip(points, states, strict=True):
        point["loss"] = module.loss(R, *state)
    return {"first call": compiled, "peak gigabytes, with copies": peak, "points": points}


def apart(case: str, contestant: str, size: str) -> dict[str, Any]:
    """Run one contestant in a process of its own."""
    blas = {} if contestant == "mfcore" else {"OPENBLAS_NUM_THREADS": "1"}
    found = subprocess.run([sys.executable, "-m", "benchmarks.harness", case, contestant, size],
                           env=os.environ | blas, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(found.stdout.splitlines()[-1])


def compare(case: str, size: str, n_rounds: int, out: Path = RESULTS,
            run: Callable[[str, str, str], dict[str, Any]] = apart) -> dict[str, Any]:
    """Let the contestants take turns; write after each round, and go on from what is there."""
    module, path = CASES[case], out / f"{case}_{size}.json"
    skipped = {name: why for name, needs in module.CONTESTANTS.items() if (why := missing(needs))}
    names = [name for name in module.CONTESTANTS if name not in skipped]
    result = json.loads(path.read_text()) if path.exists() else {
        "case": case, "objective": module.OBJECTIVE, "data": module.SIZES[size],
        "command": f"python -m benchmarks --case {case} --size {size}", "rounds": []}
    result |= {"skipped": skipped, "environment": environment()}
    while len(result["rounds"]) < n_rounds:
        result["rounds"].append({name: run(case, name, size) for name in names})
        result["peer's time to ours, quartiles"] = {
            name: summary(result["rounds"], name) for name in names if name != "mfcore"}
        partial = path.with_suffix(".part")
        partial.write_text(json.dumps(result, indent=1) + "\n")
        partial.replace(path)
    return result


if __name__ == "__main__":
    print(json.dumps(one(*sys.argv[1:])))
