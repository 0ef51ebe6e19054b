"""python -m benchmarks [--case NAME] [--size small|medium|large] [--rounds N] [--out FOLDER]"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.harness import CASES, RESULTS, compare


def main() -> None:
    """Run the cases asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--size", choices=("small", "medium", "large"), default="small")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    for case in given.case or CASES:
        result = compare(case, given.size, given.rounds, given.out)
        print(case, json.dumps({key: result.get(key) for key in (
            "skipped", "peer's time to ours, quartiles")}, indent=1))


if __name__ == "__main__":
    main()
