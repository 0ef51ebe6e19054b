"""Contestants that take turns, each run in a process of its own; ratios round by round.

`python -m benchmarks.harness CASE CONTESTANT SIZE THREADS` is one run: it compiles on a few rows
(the first call, reported apart), runs, and prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.case import CLOCKS, Case, Run, Task
from benchmarks.cases import CASES
from benchmarks.machine import environment, missing, peak_gigabytes, same

RESULTS = Path(__file__).parent / "results"
THREADS = 2
Runner = Callable[[str, str, str, int], Run]


def one(case: Case, name: str, size: str, n_threads: int) -> Run:
    """Run one contestant in this process."""
    data, run = case.data(size), case.contestants[name].run
    start = time.perf_counter()
    run(Task(case.few(data), n_threads))
    first_call = time.perf_counter() - start
    task = Task(data, n_threads)
    run(task)
    gigabytes = peak_gigabytes()
    judge = case.judge(data)
    wall, cpu = np.round(task.times, 4).T.tolist()
    return {"first call": round(first_call, 2), "gigabytes": round(gigabytes, 3),
            "wall": wall, "cpu": cpu,
            "figure": [float(f"{judge(*state):.8g}") for state in task.states]}


def apart(case: str, name: str, size: str, n_threads: int) -> Run:
    """Run one contestant in a process of its own."""
    found = subprocess.run(
        [sys.executable, "-m", "benchmarks.harness", case, name, size, str(n_threads)],
        env=os.environ | CASES[case].contestants[name].environ, stdout=subprocess.PIPE,
        text=True, check=True)
    run: Run = json.loads(found.stdout.splitlines()[-1])
    return run


def quartiles(values: Sequence[float]) -> list[float] | None:
    """Return the lower quartile, the median and the upper quartile."""
    return np.percentile(values, [25, 50, 75]).round(3).tolist() if len(values) else None


def middle(times: Sequence[float | None]) -> float | None:
    """Return the median of the seconds that there are."""
    there = [each for each in times if each is not None]
    return float(f"{np.median(there):.4g}") if there else None


def summary(case: Case, rounds: Sequence[dict[str, Any]], peer: str) -> dict[str, Any]:
    """Return quartiles of the peer's seconds over ours, and who reached the figure how often.

    Of the rounds in which both ran; a ratio needs both to reach the figure.
    """
    pairs = [(turn["mfcore"], turn[peer]) for turn in rounds if {"mfcore", peer} <= set(turn)]
    targets = [case.target(case, *pair) if case.target else None for pair in pairs]
    found: dict[str, Any] = {"rounds": len(pairs)}
    for clock in CLOCKS:
        times = [tuple(case.reached(run, target, clock) for run in pair)
                 for pair, target in zip(pairs, targets, strict=True)]
        found[clock] = quartiles([theirs / ours for ours, theirs in times if ours and theirs])
        found[f"{clock} seconds"] = [middle(each) for each in zip(*times, strict=True)]
    found["reached it"] = {name: sum(each[side] is not None for each in times)
                           for side, name in enumerate(("mfcore", peer))} if pairs else {}
    if case.target and pairs:
        found[case.figure] = float(f"{np.median(np.array(targets, float)):.6g}")
    return found


def kept(path: Path, fresh: dict[str, Any]) -> dict[str, Any]:
    """Return the result to go on with: the file's, if it was measured in this environment."""
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text())
        if same(found["environment"], fresh["environment"]):
            return fresh | {"rounds": found["rounds"]}
    return fresh


def compare(case: Case, size: str, n_rounds: int, *, peers: Collection[str] | None = None,
            n_threads: int = THREADS, out: Path = RESULTS, run: Runner = apart) -> dict[str, Any]:
    """Let the contestants take turns; write after each round, and go on from what is there."""
    asked = {name: each for name, each in case.contestants.items()
             if size in each.sizes and (peers is None or each.needs in {"mfcore", *peers})}
    skipped = {name: why for name, each in asked.items() if (why := missing(each.needs))}
    names = [name for name in asked if name not in skipped]
    path = out / f"{case.name}_{size}.json"
    result = kept(path, {
        "case": case.name, "size": size, "skipped": skipped,
        "command": f"python -m benchmarks --case {case.name} --size {size}",
        "settings": {name: each.settings for name, each in asked.items()},
        "environment": environment(n_threads), "rounds": []})
    while sum(set(names) <= set(turn) for turn in result["rounds"]) < n_rounds:
        load = os.getloadavg()[0]
        turn = {name: run(case.name, name, size, n_threads) for name in names}
        result["rounds"].append({"load": [round(each, 1) for each in (load, os.getloadavg()[0])],
                                 **turn})
        write(path, summarised(case, result))
    return summarised(case, result)


def summarised(case: Case, result: dict[str, Any]) -> dict[str, Any]:
    """Return the result with the ratios of its rounds."""
    ran = {name: None for turn in result["rounds"] for name in turn if name in case.contestants}
    return result | {"peer's seconds to ours": {
        name: summary(case, result["rounds"], name) for name in ran if name != "mfcore"}}


def write(path: Path, result: dict[str, Any]) -> None:
    """Write a result whole or not at all, lists of numbers on one line."""
    text = re.sub(r"\[([^\[\]{}]*)\]", lambda match: f"[{' '.join(match[1].split())}]",
                  json.dumps(result, indent=1))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_text(text + "\n")
    partial.replace(path)


if __name__ == "__main__":
    print(json.dumps(one(CASES[sys.argv[1]], *sys.argv[2:4], int(sys.argv[4]))))
