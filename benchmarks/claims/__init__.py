"""The claims study: thirteen claims, one file each, answered on equal terms.

    python -m benchmarks claims [NAME ...] [--quick] [--data NAME ...] [--out FOLDER] [--list]
    python -m benchmarks claims --report [HTML]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from benchmarks.claims import report
from benchmarks.claims.study import RESULTS, Claim, all_data, run
from mfcore.atomic import replaceable

NAMES = ("bias", "unknown", "groups", "autoencoders", "masking", "refeeding", "onehot",
         "similarity", "cold", "segments", "codes", "joint", "variational")
GENERATED = ("planted", "planted-audiences")        # what every machine can make


def claim(name: str) -> Claim:
    """Return a claim by name."""
    found: Claim = import_module(f"benchmarks.claims.{name}").CLAIM
    return found


def parsed(given: Sequence[str]) -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks claims", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", default=list(NAMES),
                        help=f"of {', '.join(NAMES)}; all where none is given")
    parser.add_argument("--quick", action="store_true",
                        help="two folds of little generated data, two trials: no verdicts")
    parser.add_argument("--data", nargs="+", default=[], metavar="NAME",
                        help="of each claim's data those alone")
    parser.add_argument("--out", type=Path, help="folder of the results")
    parser.add_argument("--list", action="store_true", help="say the claims and stop")
    parser.add_argument("--report", nargs="?", const="", metavar="HTML",
                        help="make CLAIMS.md and figures of the results, and a page if asked")
    found = parser.parse_args(given)
    if unknown := [name for name in found.names if name not in NAMES]:
        parser.error(f"NAME must be one of {', '.join(NAMES)}, got {unknown[0]}")
    return found


def main(given: Sequence[str]) -> None:
    """Run the claims asked for; Ctrl-C keeps what is finished."""
    asked = parsed(given)
    if asked.report is not None:
        report.publish(replaceable(asked.report) if asked.report else None)
        return
    known = {name for each in map(claim, asked.names) for name in all_data(each)}
    if unknown := [name for name in asked.data if name not in known]:
        sys.exit(f"--data must name data of these claims, {', '.join(sorted(known))}; "
                 f"got {unknown[0]}")
    out = asked.out or (Path(tempfile.mkdtemp(prefix="claims-")) if asked.quick else RESULTS)
    for each in map(claim, asked.names):
        if asked.list:
            print(f"{each.name:12} {each.says}")
            continue
        data = [name for name in asked.data if name in all_data(each)]
        if asked.data and not data:
            continue
        try:
            result = run(each, quick=asked.quick, out=out, data=data)
        except (FileNotFoundError, ConnectionError) as error:
            sys.exit(missing(each, error))
        except KeyboardInterrupt:
            sys.exit(f"stopped; finished arms are in {out}, the same command goes on from there")
        print(f"{each.name:12} {result['verdict']}")


def missing(lacking: Claim, error: Exception) -> str:
    """Return what data a claim lacks, where they are, and what can run without."""
    return (f"claim {lacking.name!r} needs {' and '.join(lacking.data)}: {error}\n"
            f"Without: `--data {' '.join(GENERATED)}` runs the generated part of any claim, "
            f"and --quick is generated altogether")
