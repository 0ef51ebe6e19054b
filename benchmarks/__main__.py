"""Speed compared with every peer, in one command.

    python -m benchmarks [--case NAME ...] [--size small|medium|large] [--peers NAME ...]
                         [--rounds N] [--threads N] [--out FOLDER] [--list]
    python -m benchmarks accuracy|claims|gate|growth|report|thirty_days [--help]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import accuracy, claims, gate, growth, report, thirty_days
from benchmarks.cases import CASES
from benchmarks.harness import RESULTS, THREADS, compare
from mfcore.progress import progress_bar


def parsed() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, nargs="+", default=list(CASES), metavar="NAME")
    parser.add_argument("--size", choices=("small", "medium", "large"), default="small")
    parser.add_argument("--peers", nargs="+", metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--list", action="store_true", help="name the cases and stop")
    return parser.parse_args()


def compare_cases(given: argparse.Namespace) -> None:
    """Run the cases asked for; Ctrl-C leaves the rounds that are measured."""
    asked = [CASES[name] for name in given.case]
    if given.list:
        for case in asked:
            print(f"{case.name:24} {case.title}")
        return
    cases = [case for case in asked if given.size in case.sizes]
    with progress_bar(None, total=len(cases) * given.rounds, desc="rounds") as bar:
        for number, case in enumerate(cases):
            result = compare(case, given.size, given.rounds, peers=given.peers,
                             n_threads=given.threads, out=given.out, bar=bar)
            bar.update((number + 1) * given.rounds - bar.n)         # (some were on file)
            print(case.name, json.dumps({key: result[key] for key in (
                "skipped", "peer's seconds to ours")}), flush=True)


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "accuracy": accuracy.main, "claims": claims.main, "gate": gate.main, "growth": growth.main,
    "report": report.main, "thirty_days": thirty_days.main}


def main() -> None:
    """Run what is asked for."""
    if sys.argv[1:2] and sys.argv[1] in COMMANDS:
        COMMANDS[sys.argv[1]](sys.argv[2:])
    else:
        try:
            compare_cases(parsed())
        except KeyboardInterrupt:
            sys.exit("stopped; what is measured is kept, and the same command goes on from it")


if __name__ == "__main__":
    main()
