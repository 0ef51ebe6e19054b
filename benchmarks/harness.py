"""Contestants that take turns, each run in a process of its own; ratios round by round.

`python -m benchmarks.harness CASE CONTESTANT SIZE THREADS` is one run: it compiles on a few rows
(the first call, reported apart), runs, and prints one line of JSON.

A contestant may hang, or die.  Each has a limit of time, several times what it took before, and at
least a minute.  One that fails is tried once more, and then left out with its reason.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.case import CLOCKS, Case, Contestant, Run, Task
from benchmarks.cases import CASES
from benchmarks.machine import environment, missing, peak_gigabytes, same
from mfcore.solvers.als import sides_as_large

RESULTS = Path(__file__).parent / "results"
THREADS = 2
Runner = Callable[[str, str, str, int, float], Run]
LEAST, FIRST, TIMES = 60.0, 1800.0, 5       # seconds: the least limit, that of a first run; and how
#                                             many times the longest run so far may take
TRIES = 2


class FailedError(Exception):
    """A contestant came to no result; the text says why."""


def one(case: Case, name: str, size: str, n_threads: int) -> Run:
    """Run one contestant in this process."""
    data, run = case.data(size), case.contestants[name].run
    start = time.perf_counter()
    run(Task(case.few(data), n_threads))
    first_call = time.perf_counter() - start
    with sides_as_large():                      # the kernels of large data, too
        run(Task(case.few(data), n_threads))
    task = Task(data, n_threads)
    run(task)
    gigabytes = peak_gigabytes()
    judge = case.judge(data)
    wall, cpu = np.round(task.times, 4).T.tolist()
    return {"first call": round(first_call, 2), "gigabytes": round(gigabytes, 3),
            "wall": wall, "cpu": cpu,
            "figure": [float(f"{judge(*state):.8g}") for state in task.states]}


def apart(case: str, name: str, size: str, n_threads: int, limit: float) -> Run:
    """Run one contestant in a process of its own; raise FailedError after `limit` seconds."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.harness", case, name, size, str(n_threads)],
        env=os.environ | CASES[case].contestants[name].environ, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        out, errors = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        raise FailedError(f"stopped after {limit:.0f} s") from None
    finally:
        with suppress(ProcessLookupError):         # with all that it has started
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode:
        raise FailedError(ended(process.returncode, errors))
    run: Run = json.loads(out.splitlines()[-1])
    return run | {"process": round(time.perf_counter() - start, 2)}


def ended(status: int, errors: str) -> str:
    """Return in words how a process ended that failed."""
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return (errors.strip().splitlines() or [f"exit status {status}"])[-1]


def limit_of(name: str, rounds: Sequence[dict[str, Any]]) -> float:
    """Return the seconds that a contestant may take, from what it took in other rounds."""
    took = [turn[name]["process"] for turn in rounds if "process" in turn.get(name, ())]
    return max(LEAST, TIMES * max(took)) if took else FIRST


def tried(run: Runner, case: Case, name: str, size: str, n_threads: int, limit: float
          ) -> Run | str:
    """Run a contestant, once more if it fails; return why it failed if it does so again."""
    why = ""
    for _ in range(TRIES):
        try:
            return run(case.name, name, size, n_threads, limit)
        except FailedError as error:
            why = str(error)
    return f"{why}, {TRIES} times"


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
            n_threads: int = THREADS, out: Path = RESULTS, run: Runner = apart,
            bar: Any = None) -> dict[str, Any]:
    """Let the contestants take turns; write after each round, and go on from what is there.

    One that fails twice takes no further turn, and `skipped` says why.
    """
    asked = taking_part(case, size, peers)
    skipped = {name: why for name, each in asked.items() if (why := missing(each.needs))}
    path = out / f"{case.name}_{size}.json"
    result = kept(path, {
        "case": case.name, "size": size, "skipped": skipped,
        "command": f"python -m benchmarks --case {case.name} --size {size}",
        "settings": {name: each.settings for name, each in asked.items()},
        "environment": environment(n_threads), "rounds": []})
    rounds = result["rounds"]
    while "mfcore" in (names := [name for name in asked if name not in skipped]) \
            and sum(set(names) <= set(turn) for turn in rounds) < n_rounds:
        load, turn = os.getloadavg()[0], {}
        for name in names:
            if bar is not None:
                bar.set_postfix_str(f"{case.name}, {name}, round {len(rounds) + 1}")
            found = tried(run, case, name, size, n_threads, limit_of(name, rounds))
            if isinstance(found, str):
                skipped[name] = found
            else:
                turn[name] = found
        if turn:
            rounds.append({"load": [round(each, 1) for each in (load, os.getloadavg()[0])],
                           **turn})
        write(path, summarised(case, result))
        if bar is not None:
            bar.update(1)
    return summarised(case, result)


def taking_part(case: Case, size: str, peers: Collection[str] | None = None
                ) -> dict[str, Contestant]:
    """Return the contestants of a size: all, or ours and the peers that are asked for."""
    return {name: each for name, each in case.contestants.items()
            if size in each.sizes and (peers is None or each.needs in {"mfcore", *peers})}


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
