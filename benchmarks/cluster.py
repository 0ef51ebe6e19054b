"""What Dask costs, and the rates from which `mfcore.distributed.plan` predicts.

    python -m benchmarks.cluster epochs FOLDER --workers 1 2 4 --out benchmarks/results/cluster.json
    python -m benchmarks.cluster rates FOLDER
    python -m benchmarks.cluster folder FOLDER
    python -m benchmarks.cluster tables

`folder` writes the large ratings of the other benchmarks.  `epochs` times threads of one process
against worker processes of one thread that share factors and against those that ship them, in
turns, a line of JSON each, with what the plan says of the same epoch.  CPU seconds are those of
all processes together; bytes are those that workers sent to workers; memory is by how much the
resident set of the largest worker grew over what it was before the fit, at its highest.  `rates`
measures in CPU seconds: the best of three.  `tables` prints those of docs/distributed.md.
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
import scipy.sparse as sp
from distributed import Client, LocalCluster

from benchmarks.data import all_of
from benchmarks.machine import environment
from mfcore import ImplicitMF, MatrixFactorization, Ratings
from mfcore.atomic import replaceable
from mfcore.distributed import Plan, fit, plan
from mfcore.distributed.blocks import constant
from mfcore.distributed.fitting import BLOCK_CELLS
from mfcore.distributed.planning import CG_RATE
from mfcore.parallel import thread_count

PROCESSORS = thread_count(None)
TASKS, FILE_FLOATS = 2000, 50_000_000


def told(**found: Any) -> dict[str, Any]:
    """Write a line of JSON; return what is in it."""
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    return found


def folder(arguments: argparse.Namespace) -> None:
    """Write ratings."""
    Ratings(all_of("ratings", "large")["R"]).write(arguments.folder)


def epochs(arguments: argparse.Namespace) -> None:
    """Time a fit with threads, with workers that share and with workers that ship."""
    ratings = Ratings.open(arguments.folder, verify=False)
    rows = []
    for number in arguments.workers * arguments.rounds:
        if number <= PROCESSORS:
            rows.append(told(how="threads", number=number, **timed(number, ratings, arguments)))
        for how in arguments.how:
            with LocalCluster(n_workers=number, threads_per_worker=1, memory_limit=0,
                              dashboard_address=":0") as local, Client(local) as client:
                rows.append(told(how=how, number=number, **timed(1, ratings, arguments, client,
                                                                  how == "shared")))
    if arguments.out:
        kept(arguments.out, arguments, ratings, rows)


def kept(path: Path, arguments: argparse.Namespace, ratings: Ratings, rows: list[dict[str, Any]]
         ) -> None:
    """Add rows to a result file, and what the plan says of each."""
    found = json.loads(path.read_text()) if path.exists() else {"rows": []}
    found |= {"command": "python -m benchmarks.cluster epochs FOLDER --workers 1 2 4 --out FILE",
              "machine": environment(1), "ratings": ratings.nnz, "shape": ratings.shape,
              "factors": arguments.factors, "rows": found["rows"] + rows}
    path.write_text(json.dumps(found, indent=1) + "\n")


def planned(how: str, number: int, found: dict[str, Any]) -> Plan:
    """Return what the plan says of an epoch that a result file holds."""
    return plan(*found["shape"], found["ratings"], found["factors"], number, unknown_weight=0.0,
                block_cells=BLOCK_CELLS, shared=how == "shared", processors=granted(found, number))


def granted(found: dict[str, Any], number: int) -> float:
    """Return how many processors a busy machine gave to this many threads, or to as many as it has.

    In CPU seconds a second of their epochs, median of the runs.
    """
    number = min(number, found["machine"]["cpus"])
    return float(np.median([min(row["cpu"]) / min(row["wall"]) for row in found["rows"]
                            if (row["how"], row["number"]) == ("threads", number)]))


def timed(n_threads: int, ratings: Ratings, arguments: argparse.Namespace,
          client: Client | None = None, shared: bool = False) -> dict[str, Any]:
    """Return what the epochs of a fit took but for the first, the least first."""
    model = MatrixFactorization(arguments.factors, n_epochs=arguments.epochs, random_state=0,
                                n_threads=n_threads)
    cpu, sent = [], []

    def used(*_: Any) -> None:
        there = client.run(worker_counters).values() if client else ()
        cpu.append(time.process_time() + sum(each[0] for each in there))
        sent.append(sum(each[1] for each in there))

    grown = 0
    if client is None:
        model.fit(ratings, callbacks=[used])
    else:
        fit(MatrixFactorization(arguments.factors, n_epochs=1), few(), client=client, shared=shared)
        before = client.run(reset_memory)
        fit(model, ratings, client=client, shared=shared, callbacks=[used])
        grown = max(most - before[worker] for worker, most in client.run(most_memory).items())
    wall = sorted(record["seconds"] for record in model.history_[1:])
    return {"wall": [round(each, 2) for each in wall],
            "cpu": [round(each, 2) for each in sorted(np.diff(cpu))],
            "sent": int(np.median(np.diff(sent))), "memory": grown,
            "sum": float(np.abs(model.user_factors_).sum(dtype=float)),
            "load": round(os.getloadavg()[0], 1)}


def few() -> sp.csr_array:
    """Return ratings with which workers load what they need."""
    return sp.random_array((9000, 9000), density=0.01, format="csr", dtype=np.float32,
                           rng=np.random.default_rng(0))


def worker_counters(dask_worker: Any) -> tuple[float, int]:
    """Return CPU seconds of a worker, and bytes that it sent to others."""
    return time.process_time(), dask_worker.transfer_outgoing_bytes_total


def reset_memory() -> int:
    """Have a process count its most resident memory from now on; return the present one."""
    Path("/proc/self/clear_refs").write_text("5")
    return most_memory()


def most_memory() -> int:
    """Return the most bytes of memory that were resident, those of mapped files included."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if "VmHWM" in line).split()[1])


# ------------------------------------------------------------------------------ tables

def tables(_: argparse.Namespace) -> None:
    """Print the tables of the documentation."""
    found = json.loads((Path(__file__).parent / "results" / "cluster.json").read_text())
    sys.stdout.write("\n".join([*measured_table(found), "", *plan_table(), ""]))


def measured_table(found: dict[str, Any]) -> list[str]:
    """Return the rows of what was measured, against what was planned."""
    lines = []
    for how, number in dict.fromkeys((row["how"], row["number"]) for row in found["rows"]):
        same = [row for row in found["rows"] if (row["how"], row["number"]) == (how, number)]
        wall, cpu = (min(min(row[name]) for row in same) for name in ("wall", "cpu"))
        if how == "threads":
            lines.append(f"| {number} | threads | {wall:.2f} s | | {cpu:.2f} s | | | | | |")
            continue
        said = planned(how, number, found)
        sent, memory = (max(row[name] for row in same) for name in ("sent", "memory"))
        work = said.flops / CG_RATE + said.coordinating
        lines.append(f"| {number} | {how} | {wall:.2f} s | {said.seconds:.2f} s | "
                     f"{cpu:.2f} s | {work:.2f} s | "
                     f"{sent / 1e6:.0f} MB | {said.shipped_bytes / 1e6:.0f} MB | "
                     f"{memory / 1e6:.0f} MB | {said.worker_bytes / 1e6:.0f} MB |")
    return lines


def foretold(found: dict[str, Any]) -> list[str]:
    """Return how far the plan was off, as least and most of planned over measured."""
    lines = []
    for how, name, measure, said in (
            ("shared", "wall time", lambda rows: min(min(row["wall"]) for row in rows), "seconds"),
            ("shared", "memory", lambda rows: max(row["memory"] for row in rows), "worker_bytes"),
            ("shipped", "memory", lambda rows: max(row["memory"] for row in rows),
             "worker_bytes"),
            ("shipped", "bytes", lambda rows: max(row["sent"] for row in rows), "shipped_bytes")):
        ratios = [getattr(planned(how, number, found), said) / measure(
            [row for row in found["rows"] if (row["how"], row["number"]) == (how, number)])
            for number in ((2, 4) if name == "bytes" else (1, 2, 4))]
        lines.append(f"* {name}, {how}: {min(ratios):.2f} to {max(ratios):.2f} of what was "
                     f"measured")
    return lines


def plan_table() -> list[str]:
    """Return the rows of 10^8 users, 10^7 items, 10^11 ratings."""
    lines = []
    for factors, solver in ((64, "cg"), (128, "cholesky")):
        for workers in (10, 100, 1000):
            said = plan(10**8, 10**7, 10**11, factors, workers, solver=solver)
            lines.append(
                f"| {factors}, {solver} | {workers:,} | {said.flops:.1e} | "
                f"{said.shipped_bytes / 1e12:.2f} TB | {said.worker_bytes / 1e9:.0f} GB | "
                f"{said.tasks:,} | {said.computing:.0f} s | {said.shipping:.0f} s | "
                f"{said.coordinating:.0f} s | {said.seconds / 60:.0f} min | "
                f"{said.bottleneck} |".replace("e+", "e"))
    return lines


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
        client.gather(client.map(constant, range(10), pure=False))
        start = time.process_time()
        made = client.map(constant, range(TASKS // 2), pure=False)
        client.gather(client.map(constant, made, pure=False))
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
    parser.add_argument("command", choices=list(COMMANDS))
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--factors", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--how", nargs="+", default=["shared", "shipped"])
    parser.add_argument("--out", type=replaceable)
    arguments = parser.parse_args()
    COMMANDS[arguments.command](arguments)


COMMANDS = {"epochs": epochs, "rates": rates, "folder": folder, "tables": tables}

if __name__ == "__main__":
    main()
