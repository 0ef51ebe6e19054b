"""Fuzzing guided by coverage: inputs that reach new lines are kept and changed further.

    pip install atheris
    python tests/guided.py {read,load,archive,folder} SECONDS FOLDER

The targets are those of fuzzing.py.  "read" runs its kernels in plain Python, so that the
branches of the parser guide too; then every input that was kept is read once more by compiled
kernels with bounds checked.  FOLDER gets the inputs kept, those that failed, and figures.json:
executions, inputs kept and defects.  An input that ends the process is a defect as well.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).parents[1] / "mfcore"
# What a random change seldom writes by itself.
WORDS = ["user", "item", "rating", "::", "\\x09", "nan", "inf", "1e999", "0x1p3", "\\xef\\xbb\\xbf",
         "\\x1f\\x8b\\x08", "PAR1", "\\x0d\\x0a", "-9223372036854775808", "9223372036854775808",
         "PK\\x03\\x04", "PK\\x01\\x02", "PK\\x05\\x06", "header.json", "<f4", "fortran_order"]
LONGEST, SLOWEST = 4096, 200    # bytes of an input; seconds for one, which may compile kernels


def guided(name: str, seconds: float, folder: Path) -> dict[str, Any]:
    """Fuzz one target in processes of its own until the time is over; return the figures."""
    kept, figures = folder / "kept", folder / "figures.json"
    kept.mkdir(parents=True, exist_ok=True)
    stop, total = time.monotonic() + seconds, Counter(executions=0, defects=0)
    while (left := stop - time.monotonic()) > 0:
        figures.unlink(missing_ok=True)
        ran = _python(_fuzz_here, name, left, folder, NUMBA_DISABLE_JIT=str(int(name == "read")))
        if figures.exists():
            total.update(json.loads(figures.read_text()))
        if ran.returncode != 0:
            total["defects"] += 1         # it crashed, hung or took too much memory
            sys.stderr.write(ran.stderr[-2000:])
            break
    again = _python(_read_again, name, 0, folder, NUMBA_BOUNDSCHECK="1", NUMBA_DISABLE_JIT="0",
                    NUMBA_CACHE_DIR=str(folder / "compiled"))
    if again.returncode != 0:
        total["defects"] += 1
        sys.stderr.write(again.stderr[-2000:])
    result = {"target": name, **total, "kept": len(list(kept.iterdir()))}
    figures.write_text(json.dumps(result) + "\n")
    return result


def _python(work: Callable[..., None], *arguments: Any, **environment: str) -> Any:
    """Run one of the functions below in a new process."""
    return subprocess.run([sys.executable, __file__, work.__name__, *map(str, arguments)],
                          env={**os.environ, **environment}, capture_output=True, text=True,
                          errors="replace", check=False)


def _fuzz_here(name: str, seconds: float, folder: Path) -> None:
    """Let libFuzzer call the target, which it ends for good; note the figures before that."""
    import atheris

    kernels = [] if name == "read" else [      # (numba compiles no code with counters in it)
        f"mfcore.kernels.{path.stem}" for path in (SOURCES / "kernels").glob("*.py")]
    with atheris.instrument_imports(include=["mfcore"], exclude=kernels):
        import fuzzing  # (all modules: functions import others when called)
        for module in _modules():
            importlib.import_module(module)
    for module in (__import__("zipfile"), __import__("json").decoder):
        for each in vars(module).values():
            if isinstance(each, type(_python)) and each.__module__ == module.__name__:
                atheris.instrument_func(each)
    seeds = fuzzing.seeds(name) + fuzzing.corpus(name)      # (which may compile; then the clock)
    stop, found = time.monotonic() + seconds, Counter(executions=0, defects=0)
    failed: set[str] = set()

    def target(data: bytes) -> None:
        found["executions"] += 1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                fuzzing.TARGETS[name](data)
        except Exception as error:        # noqa: BLE001  (whatever it is, it is the finding)
            where = fuzzing.deepest(error)
            if where not in failed:
                failed.add(where)
                found["defects"] += 1
                path = folder / f"{name}-{len(failed)}.bin"
                path.write_bytes(data)
                (folder / f"{path.stem}.txt").write_text(f"{type(error).__name__}: {error} "
                                                         f"[{where}]\n")
        if time.monotonic() > stop:
            (folder / "figures.json").write_text(json.dumps(found))
            os._exit(0)

    for number, data in enumerate(seeds):
        (folder / "kept" / f"seed-{number}").write_bytes(data)
    words = folder / "words.txt"
    words.write_text("".join(f'"{word}"\n' for word in WORDS))
    atheris.Setup([sys.argv[0], f"-max_len={LONGEST}", f"-timeout={SLOWEST}", "-rss_limit_mb=3000",
                   f"-dict={words}", f"-artifact_prefix={folder}/", str(folder / "kept")], target)
    atheris.Fuzz()


def _modules() -> list[str]:
    """The modules of the library that a file from a stranger may come to."""
    return [f"mfcore.{path.relative_to(SOURCES).with_suffix('').as_posix().replace('/', '.')}"
            for part in ("data", "kernels", "metrics", "models", "objectives", "solvers", "nn")
            for path in sorted((SOURCES / part).glob("*.py")) if path.stem != "__init__"]


def _read_again(name: str, seconds: float, folder: Path) -> None:
    """Give every input that was kept to compiled kernels with bounds checked."""
    import fuzzing

    warnings.simplefilter("ignore")
    for path in sorted((folder / "kept").iterdir()):
        fuzzing.TARGETS[name](path.read_bytes())


if __name__ == "__main__":
    called, target_name, time_given, *place = sys.argv[1:] if sys.argv[1].startswith("_") else \
        ["guided", *sys.argv[1:]]
    where = Path(place[0]) if place else Path(tempfile.mkdtemp())
    outcome = globals()[called](target_name, float(time_given), where)
    if outcome is not None:
        sys.stdout.write(json.dumps(outcome) + "\n")
