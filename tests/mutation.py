"""Mutation testing: would the tests notice a small mistake in the library?

    pip install '.[test,mutation]'
    python tests/mutation.py [PART ...] [--sample N | --all] [--after N] [--seconds S]
                             [--survivors | --equivalent | --report] [--record]

For each part (default: all five) it draws mutants in a seeded order, runs the tests that execute a
mutated line, quickest first, until one fails, and keeps each verdict in .mutation/: a run goes on
where the last one stopped, up to N per part (400) or to the last.  `--after 400 --sample 100` takes
the next hundred of the order, for which no test was written.  `--survivors` tries those that
survived once more; `--report` only prints the score and the survivors; `--record` also keeps the
score in benchmarks/results/mutation.json.  Mutants in equivalent_mutants.json have a reason there
why no test can tell them.  They are tried by `--equivalent` alone, which prints what a test tells.

A mutant takes a fork and no import: the process that has collected the tests puts the code of the
mutated function into the function.  Changes outside functions are imported in the child.  Kernels
run as plain Python (NUMBA_DISABLE_JIT=1).  A mutant that makes a test take ten times as long counts
as killed.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import gc
import hashlib
import json
import math
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.abc import Loader, MetaPathFinder
from importlib.util import spec_from_loader
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple

from mutants import ROOT, Mutant, changed_inside, codes, compiled, drawn, equivalent

STATE = ROOT / ".mutation"
RESULTS = ROOT / "benchmarks" / "results" / "mutation.json"
SECONDS = 15.0              # of a processor for one mutant: what has not failed by then survives
SLOWEST = 1.5               # tests that take longer are left out
Z = 1.959963984540054       # of a 95 % interval


class Part(NamedTuple):
    """Files of the library, and the group of tests that are known to execute some of them."""

    sources: str
    tests: str
    plain: bool = False

    @property
    def files(self) -> list[str]:
        return [str(path.relative_to(ROOT)) for path in sorted(ROOT.glob(f"mfcore/{self.sources}"))]


TESTS = {
    "plain": ("*",),
    "training": ("als", "autoencoders", "automatic", "balance", "bayesian", "bpr", "checkpoints",
                 "drift", "features", "filters", "fixed_items", "gradient_solver", "grouped",
                 "groups", "history", "implicit", "kernels", "line_search", "linear", "logistic",
                 "loop", "matrix_factorization", "minibatch", "near", "neighbours", "neural",
                 "neural_groups", "numerics", "objectives", "ordinal", "overflow", "pairwise",
                 "pointwise", "quadratic", "sample", "sampled", "scale", "sgd", "short", "softmax",
                 "stopping", "subspace", "updating", "validation", "validation_share", "watching"),
    "reading": ("features", "folder", "id_kinds", "ids", "persistence", "ratings", "readers",
                "storage", "text", "unusual_input", "validation"),
}
PARTS = {
    "kernels": Part("kernels/*.py", "plain", plain=True),
    "objectives": Part("objectives/*.py", "training"),
    "solvers": Part("solvers/*.py", "training"),
    "ids": Part("data/ids*.py", "reading"),
    "parsing": Part("data/parsing*.py", "reading"),
}


# --------------------------------------------------------------------- verdicts, kept and counted

class Verdicts:
    """What became of each mutant of a part: a line of JSON each, the last one counts."""

    def __init__(self, part: str) -> None:
        self.path = STATE / f"{part}.jsonl"
        lines = self.path.read_text("utf-8").splitlines() if self.path.exists() else []
        self.found = {each["key"]: each for each in map(json.loads, lines)}

    def add(self, mutant: Mutant, outcome: str, by: str, seconds: float) -> None:
        self.found[mutant.key] = {"key": mutant.key, "outcome": outcome, "by": by,
                                  "seconds": round(seconds, 2), **mutant._asdict()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(self.found[mutant.key], ensure_ascii=False) + "\n")

    def outcome(self, mutant: Mutant) -> str | None:
        found = self.found.get(mutant.key)
        return found["outcome"] if found else None


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927)."""
    if n == 0:
        return 0.0, 1.0
    share, z = hits / n, Z * Z / n
    middle, half = share + z / 2, Z * math.sqrt(share * (1 - share) / n + z / (4 * n))
    return (middle - half) / (1 + z), min((middle + half) / (1 + z), 1.0)


class Score(NamedTuple):
    """What became of a span of the mutants of a part in the drawn order."""

    mutants: int
    drawn: int
    tried: int
    equivalent: int
    killed: int
    by_time: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """Killed mutants among those tried that are not equivalent."""
        return self.killed / max(self.tried - self.equivalent, 1)


def score(part: str, span: slice) -> tuple[Score, list[Mutant]]:
    """Return the score of a span of the mutants of a part, and those that survived."""
    verdicts, mutants, reasons = Verdicts(part), drawn(PARTS[part].files), equivalent()
    sample = mutants[span]
    others = [each for each in sample if each[:4] not in reasons]
    counts = Counter(verdicts.outcome(each) for each in others)
    killed, same = counts["killed"] + counts["timeout"], len(sample) - len(others)
    n = killed + counts["survived"]
    return (Score(len(mutants), len(sample), n + same, same, killed, counts["timeout"],
                  *wilson(killed, n)),
            [each for each in others if verdicts.outcome(each) == "survived"])


def report(part: str, span: slice) -> None:
    """Print the score of a part, and the mutants that survived."""
    found, survivors = score(part, span)
    print(f"{part}: {found.mutants} mutants, {found.drawn} drawn, {found.tried} tried; "
          f"{found.equivalent} equivalent, {found.killed} of {found.tried - found.equivalent} "
          f"others killed ({found.by_time} by time): {found.share:.1%}, "
          f"95 % interval {found.low:.1%} to {found.high:.1%}")
    for each in survivors:
        print(f"  {each.key} {each.file}:{each.lines[0]} {each.function}\n"
              f"    - {each.before}\n    + {each.after}")


def record(part: str, span: slice) -> None:
    """Put the score of a part into the results; a later sample stands there as the next one."""
    results = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    found = score(part, span)[0]
    kept = {**found._asdict(), "share": found.share}
    results.setdefault(part, {}).update({"next": kept} if span.start else kept)
    results = {each: results[each] for each in PARTS if each in results}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", "utf-8")


# --------------------------------------------------------------------- which test executes what

class Map:
    """Which tests of a group execute which lines of its parts, and how long they take."""

    def __init__(self, group: str) -> None:
        self.path = STATE / f"{group}.map.json"
        self.files = [file for part in PARTS.values() if part.tests == group
                      for file in part.files]
        self.sources = {file: (ROOT / file).read_text("utf-8") for file in self.files}
        kept = json.loads(self.path.read_text("utf-8")) if self.path.exists() else {}
        self.stamps: dict[str, str] = kept.get("stamps", {})
        self.seconds: dict[str, float] = kept.get("seconds", {})
        self.lines: dict[str, dict[str, list[int]]] = kept.get("lines", {})
        for file, text in kept.get("sources", {}).items():
            if text != self.sources.get(file):
                self._move(file, moved_lines(text, self.sources.get(file, "")))

    def update(self, items: dict[str, Any]) -> None:
        """Measure new tests, and those of files that have changed since they were measured."""
        files: dict[str, list[Any]] = {}
        for item in items.values():
            files.setdefault(str(item.path.relative_to(ROOT)), []).append(item)
        self._forget([test for test in self.seconds if test not in items])
        for path, within in files.items():
            stamp = hashlib.sha256(within[0].path.read_bytes()).hexdigest()
            if self.stamps.get(path) != stamp:
                self._forget([item.nodeid for item in within])
            self._measure([item for item in within if item.nodeid not in self.seconds])
            if self.stamps.get(path) != stamp:
                self.stamps[path] = stamp
                self._save()

    def _move(self, file: str, places: dict[int, list[int]]) -> None:
        """Follow the lines of a file that has changed since it was measured."""
        for files in self.lines.values():
            if file in files:
                files[file] = [new for old in files[file] for new in places.get(old, [])]

    def _forget(self, tests: list[str]) -> None:
        for test in tests:
            self.seconds.pop(test, None)
            self.lines.pop(test, None)

    def _save(self) -> None:
        self.path.write_text(json.dumps(
            {"sources": self.sources, "stamps": self.stamps, "seconds": self.seconds,
             "lines": self.lines}), "utf-8")
        print(f"{self.path.stem}: {len(self.seconds)} tests measured", flush=True,
              file=sys.__stdout__)

    def _measure(self, items: list[Any]) -> None:
        """Run tests, each under its name as the context of what it executes."""
        import coverage

        watched = coverage.Coverage(data_file=None, config_file=False, concurrency=["thread"],
                                    include=[str(ROOT / file) for file in self.files])
        watched.set_option("run:disable_warnings", ["no-data-collected"])
        for item in items:
            with watched.collect():
                watched.switch_context(item.nodeid)
                seconds = seconds_of(item)
            if seconds > SLOWEST:               # the first run compiles
                seconds = min(seconds, seconds_of(item))
            self.seconds[item.nodeid] = seconds
            if seconds > SLOWEST:
                print("too slow, or fails without a mutant:", item.nodeid, file=sys.__stdout__)
        data = watched.get_data()
        for path in data.measured_files():
            file = str(Path(path).relative_to(ROOT))
            for line, tests in data.contexts_by_lineno(path).items():
                for test in self.seconds.keys() & tests:
                    self.lines.setdefault(test, {}).setdefault(file, []).append(line)

    def tests(self, mutant: Mutant) -> list[str]:
        """Return the tests that execute a mutated line, quickest first."""
        return self.of_lines(mutant.file, range(mutant.lines[0], mutant.lines[1] + 1))

    def of_lines(self, file: str, lines: Iterable[int]) -> list[str]:
        """Return the tests that execute one of some lines, quickest first."""
        return self._quickest(test for test, files in self.lines.items()
                              if not set(files.get(file, ())).isdisjoint(lines))

    def near(self, mutant: Mutant, most: float) -> list[str]:
        """Return the quickest tests that execute anything in the file, for so many seconds."""
        found = self._quickest(test for test, files in self.lines.items() if mutant.file in files)
        while sum(map(self.seconds.__getitem__, found)) > most:
            found.pop()
        return found

    def _quickest(self, tests: Iterable[str]) -> list[str]:
        return sorted((test for test in tests if self.seconds[test] < SLOWEST),
                      key=self.seconds.__getitem__)


def moved_lines(old: str, new: str) -> dict[int, list[int]]:
    """Return where each line of a text is in another; new lines are with the lines around them."""
    a, b = old.splitlines(), new.splitlines()
    found: dict[int, list[int]] = {}
    for kind, i, i_end, j, j_end in difflib.SequenceMatcher(None, a, b, False).get_opcodes():
        if kind == "equal":
            for n in range(i_end - i):
                found.setdefault(i + n + 1, []).append(j + n + 1)
        else:
            for line in range(max(i, 1), i_end + 2):
                found.setdefault(line, []).extend(range(j + 1, j_end + 1))
    return found


# --------------------------------------------------------------------- one mutant, one fork

def failure_of(item: Any, following: Any = None) -> bool:
    """Run a test; tell whether it failed.  Fixtures that the following one shares are kept."""
    from _pytest.runner import runtestprotocol

    return any(each.failed for each in runtestprotocol(item, log=False, nextitem=following))


def seconds_of(item: Any) -> float:
    """Return how long a test takes, in seconds of a processor; infinity if it fails."""
    start = time.process_time()
    with at_most(20 * SLOWEST):
        failed = failure_of(item)
    return math.inf if failed else time.process_time() - start


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in what takes longer, in seconds of a processor."""
    def stop(*_: Any) -> None:
        raise TimeoutError

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds, seconds)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)


def limit(seconds: float) -> None:
    """End this process once it has used that much more of a processor."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, seconds)


class Child:
    """A forked process that says in the end which test failed."""

    def __init__(self, work: Any) -> None:
        self.read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.read)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            with contextlib.suppress(BaseException):
                os.write(write, (work() or "").encode() + b".")
            os._exit(0)
        os.close(write)

    def verdict(self) -> tuple[str, str]:
        """Wait; return the outcome and the test that told."""
        _, status = os.waitpid(self.pid, 0) if self._ends() else (0, int(signal.SIGPROF))
        with open(self.read, "rb") as pipe:
            said = pipe.read().decode()
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGPROF, signal.SIGXCPU):
            return "timeout", ""
        if not said.endswith("."):
            return "killed", "the process ended"
        return ("killed", said[:-1]) if said[:-1] else ("survived", "")

    def _ends(self) -> bool:
        """Wait until the process ends; end it if it has used no processor for a minute."""
        used, since = -1.0, time.monotonic()
        while os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            time.sleep(0.01)
            now = sum(map(int, Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1]
                          .split()[11:13]))
            if now != used:
                used, since = now, time.monotonic()
            elif time.monotonic() - since > 60:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                return False
        return True


class Session:
    """A pytest session that runs mutants in place of tests."""

    def __init__(self, part: str, wanted: list[Mutant], most: float) -> None:
        self.part, self.wanted, self.most = part, wanted, most
        self.map, self.verdicts = Map(PARTS[part].tests), Verdicts(part)
        self.plain = {file: compiled(text, file) for file, text in self.map.sources.items()}

    def pytest_configure(self) -> None:
        from hypothesis import Phase, settings

        settings.register_profile("mutation", settings.get_profile("mfcore"), database=None,
                                  derandomize=True, phases=[Phase.explicit, Phase.generate])
        settings.load_profile("mutation")

    def pytest_runtestloop(self, session: Any) -> bool:
        self.items = {item.nodeid: item for item in session.items}
        self.map.update(self.items)
        self.functions = self._functions()
        gc.collect()
        gc.freeze()
        for number, mutant in enumerate(self.wanted):
            start = time.monotonic()
            outcome, by = self.tried(mutant)
            self.verdicts.add(mutant, outcome, by, time.monotonic() - start)
            print(f"{number + 1}/{len(self.wanted)} {outcome} {mutant.file}:{mutant.lines[0]} "
                  f"{mutant.after[:60]!r} {by}", file=sys.__stdout__, flush=True)
        return True

    def _functions(self) -> list[FunctionType]:
        files = {code.co_filename for code in self.plain.values()}
        return [each for each in gc.get_objects()
                if isinstance(each, FunctionType) and each.__code__.co_filename in files]

    def tried(self, mutant: Mutant) -> tuple[str, str]:
        """Run the tests of a mutant; return the outcome and the test that told."""
        changed = changed_inside(self.plain[mutant.file], compiled(mutant.source(), mutant.file))
        tests = self.map.tests(mutant)
        if changed and not tests:           # (of a signature: no test runs it, but the function)
            old = codes(self.plain[mutant.file])
            tests = self.map.of_lines(mutant.file, {
                line for path in changed for *_, line in old[path].co_lines() if line})
        if changed and not tests:
            return "survived", "no test executes it"
        functions = self._patches(mutant, changed) if changed else []
        if not functions:
            return self.outside(mutant)

        def work() -> str:
            for function, code in functions:
                function.__code__ = code
            return self.first_failure(tests)

        return Child(work).verdict()

    def _patches(self, mutant: Mutant, changed: dict[Any, Any]) -> list[tuple[FunctionType, Any]]:
        old = codes(self.plain[mutant.file])
        found = [(function, code) for path, code in changed.items() for function in self.functions
                 if function.__code__ == old[path]]
        fits = all(function.__code__.co_freevars == code.co_freevars for function, code in found)
        return found if fits else []

    def first_failure(self, tests: list[str]) -> str:
        """Run tests in turn; return the first that fails, or nothing."""
        start = time.process_time()
        for test, following in zip(tests, [*tests[1:], None], strict=True):
            if time.process_time() - start > self.most:
                break
            limit(20 + 10 * self.map.seconds[test])      # (it may have to compile)
            if failure_of(self.items[test], following and self.items[following]):
                return test
        return ""

    def outside(self, mutant: Mutant) -> tuple[str, str]:
        """Import everything once more, with the mutant in it, and run the tests of its file."""
        near = self.map.near(mutant, self.most / 4)     # (and all imports)
        return Child(lambda: fresh_failure(mutant, near, STATE / f"{self.part}.new")).verdict()


# --------------------------------------------------------------------- changes outside functions

class Mutated(MetaPathFinder, Loader):
    """Finds one module, with the text of a mutant."""

    def __init__(self, mutant: Mutant) -> None:
        self.name = mutant.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        self.path, self.source = str(ROOT / mutant.file), mutant.source()

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        package = self.path.endswith("__init__.py")
        return spec_from_loader(fullname, self, origin=self.path, is_package=package) \
            if fullname == self.name else None

    def exec_module(self, module: Any) -> None:
        module.__file__ = self.path
        exec(compile(self.source, self.path, "exec", dont_inherit=True), module.__dict__)


class Fresh:
    """Notes the first failure of a session."""

    first = ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and not self.first:
            self.first = report.nodeid

    def pytest_runtest_setup(self) -> None:
        limit(20 + 10 * SLOWEST)


def fresh_failure(mutant: Mutant, tests: list[str], folder: Path) -> str:
    """Import the library and the tests anew, mutated; return the first test that fails."""
    import pytest

    here = str(ROOT / "tests")
    for name, module in [*sys.modules.items()]:
        if name.split(".")[0] == "mfcore" or (getattr(module, "__file__", None) or "") \
                .startswith(here) and name not in ("mutants", "mutation", "__main__"):
            del sys.modules[name]
    sys.meta_path.insert(0, Mutated(mutant))
    limit(60)
    noted = Fresh()
    code = pytest.main(["-q", "-x", "--rootdir", str(ROOT), "-p", "no:cacheprovider",
                        "--basetemp", str(folder), *tests], plugins=[noted])
    return noted.first or ("the import" if code not in (0, 5) else "")


# --------------------------------------------------------------------- the command

def work_on(part: str, wanted: list[Mutant], most: float) -> None:
    """Collect the tests of a part, and try mutants on them."""
    import pytest

    os.chdir(ROOT)
    tests = [str(path.relative_to(ROOT)) for name in TESTS[PARTS[part].tests]
             for path in sorted((ROOT / "tests").glob(f"test_{name}.py"))]
    marks = ["-m", "kernel and not soak"] if PARTS[part].plain else []
    with contextlib.suppress(KeyboardInterrupt):
        pytest.main(["-qq", "-p", "no:cacheprovider", "--basetemp", str(STATE / f"{part}.tmp"),
                     *marks, *tests], plugins=[Session(part, wanted, most)])


def try_in_a_process(part: str, wanted: list[Mutant], most: float) -> None:
    """Try mutants in a process of its own, in which Numba compiles or, for kernels, does not."""
    os.environ["NUMBA_DISABLE_JIT"] = str(int(PARTS[part].plain))
    process = multiprocessing.get_context("spawn").Process(target=work_on,
                                                           args=(part, wanted, most))
    process.start()
    process.join()


def chosen(part: str, span: slice, asked: str) -> list[Mutant]:
    """Return the mutants of a sample that were asked for: by default, those without a verdict."""
    verdicts, same = Verdicts(part), equivalent()
    sample = drawn(PARTS[part].files)[span]
    if asked == "equivalent":
        return [each for each in sample if each[:4] in same]
    outcome = "survived" if asked == "survivors" else None
    return [each for each in sample
            if verdicts.outcome(each) == outcome and each[:4] not in same]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--sample", type=int, default=400, help="mutants per part (400)")
    parser.add_argument("--after", type=int, default=0, help="leave out the first of the order (0)")
    parser.add_argument("--all", action="store_true", help="all mutants")
    parser.add_argument("--seconds", type=float, default=SECONDS,
                        help="of a processor that the tests of a mutant may take (15)")
    asked = parser.add_mutually_exclusive_group()
    for name, what in (("new", "try mutants without a verdict (default)"),
                       ("survivors", "try survivors again"),
                       ("equivalent", "try those that are said to be equivalent"),
                       ("report", "print what is known, try nothing")):
        asked.add_argument(f"--{name}", dest="asked", action="store_const", const=name, help=what)
    parser.add_argument("--record", action="store_true", help="keep the score in the results")
    parser.set_defaults(asked="new")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    STATE.mkdir(exist_ok=True)
    span = slice(given.after, None if given.all else given.after + given.sample)
    for part in given.parts or PARTS:
        if given.asked != "report":
            try_in_a_process(part, chosen(part, span, given.asked), given.seconds)
        report(part, span)
        if given.record:
            record(part, span)


if __name__ == "__main__":
    main()
