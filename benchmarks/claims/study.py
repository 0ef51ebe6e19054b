"""The engine of the claims study: arms × folds, tuned in the same way, compared in pairs.

For every arm and fold `trials` settings are drawn from the arm's space, and the library's defaults
are one more; each is fitted on a part of the fold's training data and judged on the rest of it by
the arm's metric; the best is fitted on all of the training data and tested once.  Arms cannot have
budgets of their own: the number of trials is the study's.  (By default networks find their epochs
themselves, by a tenth of what they are fitted on.)  Finished trials are written every `PAUSE`
seconds, finished arms at once, whole or not at all, so that a study that was stopped goes on where
it was.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from benchmarks.claims.edges import opened, pressed
from benchmarks.claims.space import Space, by_default, drawn, is_free, written
from benchmarks.claims.statistics import (
    OVERLAP,
    TOO_FEW,
    TOO_SMALL,
    effect,
    holm,
    least_of,
    together,
    verdict,
)
from benchmarks.harness import write
from benchmarks.machine import environment, same
from mfcore.data.datasets import is_here
from mfcore.parallel import Pool

RESULTS = Path(__file__).parents[1] / "results" / "claims"
PAUSE = 5.0
CORE = "/core"                  # behind the name of data: of their users and items the 10-core
LOWER = ("rmse", "gap", "cross", "spurious", "folding", "loss")    # fall as things improve


class Fold(NamedTuple):
    """What an arm sees: `inner` to choose settings by, `outer` to be tested on, of one form."""

    inner: Any
    outer: Any


class Task(NamedTuple):
    """One fit: settings of an arm on one part of a fold."""

    arm: str
    settings: dict[str, Any]
    split: Any
    seed: int
    final: bool             # on the outer part: time for more than the metric to choose by


@dataclass(frozen=True)
class Arm:
    """A contestant: its search space, and the metric by which its settings are chosen."""

    space: Space
    metric: str


class Comparison(NamedTuple):
    """"First is better than second by metric", a sentence that data can show or refute.

    `other` is the second's metric where it is not the same; `decides` whether the claim's verdict
    takes it in; `lower` whether less is better (None: as the metric's name says).
    """

    says: str
    first: str
    second: str
    metric: str
    other: str | None = None
    decides: bool = True
    lower: bool | None = None


@dataclass(frozen=True)
class Claim:
    """A claim and how it is put to the test, on `data`, and on what else there is.

    `also` are data that are run where this machine has them, `asked` only by name.
    """

    name: str
    says: str
    hypothesis: str
    data: tuple[str, ...]
    arms: dict[str, Arm]
    fold: Callable[[str, int, bool], Fold]         # data, number, quick
    measure: Callable[[Task], dict[str, float]]
    comparisons: Sequence[Comparison]
    folds: int = 5
    trials: int = 20
    units: dict[str, str] = field(default_factory=dict)
    answer: str = ""                                # what was found, in one sentence
    found: str = ""                                 # and at length
    also: tuple[str, ...] = ()
    asked: tuple[str, ...] = ("ml-1m",)


def run(claim: Claim, *, quick: bool = False, out: Path = RESULTS, data: Sequence[str] = ()
        ) -> dict[str, Any]:
    """Run what is not in the result file yet, of all data or of some, and return the whole."""
    path, result = out / f"{claim.name}.json", start(claim, quick)
    here = take_over(result, path)
    fold = lru_cache(maxsize=1)(lambda *which: claim.fold(*which, quick))
    chosen = data or (quick_data(claim) if quick else usual_data(claim))
    left = [each for each in cells_of(result, chosen) if not is_finished(claim, result, *each)]
    bar = tqdm(left, desc=claim.name, disable=None, unit="arm")
    with Pool(1):       # held throughout: looking for a BLAS takes a third of a small fit
        for arm, where, number in bar:
            bar.set_postfix_str(f"{where} {number}, {arm}")
            finish(claim, arm, fold(where, number), number, result["trials"],
                   cell(result, arm, where, number), lambda: write(path, result))
            cell(result, arm, where, number)["environment"] = here
            write(path, judged(claim, result))
    return judged(claim, result)


def cells_of(result: dict[str, Any], data: Sequence[str]) -> list[tuple[str, str, int]]:
    """Return arm, data and fold of all that is to be run, arms in turn."""
    return [(arm, where, number) for where in data
            for number in range(result["folds"]) for arm in result["arms"]]


def is_finished(claim: Claim, result: dict[str, Any], arm: str, data: str, number: int) -> bool:
    """Whether an arm was tested on a fold, after all of its trials."""
    found = result["arms"][arm]["folds"].get(f"{data} {number}", {"trials": []})
    tried = len(list(searched(claim.arms[arm].space, result["trials"], number)))
    return "test" in found and len(found["trials"]) == tried


def cell(result: dict[str, Any], arm: str, data: str, number: int) -> dict[str, Any]:
    """Return what the result holds of an arm on a fold."""
    found: dict[str, Any] = result["arms"][arm]["folds"].setdefault(f"{data} {number}",
                                                                    {"trials": []})
    return found


def quick_data(claim: Claim) -> tuple[str, ...]:
    """Return the data of a claim that are generated."""
    return tuple(name for name in claim.data if name.startswith("planted"))


def all_data(claim: Claim) -> tuple[str, ...]:
    """Return all that a claim can be tried on."""
    return claim.data + claim.also + claim.asked


def usual_data(claim: Claim) -> tuple[str, ...]:
    """Return what a claim is tried on where nothing is asked for."""
    return (*claim.data, *filter(is_at_hand, claim.also))


def is_at_hand(name: str) -> bool:
    """Tell whether data are on this machine, glued or cut down as they may be."""
    return all(is_here(each) for each in name.removesuffix(CORE).split("+"))


def finish(claim: Claim, arm: str, fold: Fold, seed: int, trials: int, cell: dict[str, Any],
           save: Callable[[], None]) -> None:
    """Choose an arm's settings on a fold, and test it once.

    Settings that diverge on the whole training data give way to the next best by validation; the
    test ratings do not count there.
    """
    start, metric, space = time.process_time(), claim.arms[arm].metric, claim.arms[arm].space
    settings, saved = list(searched(space, trials, seed)), time.monotonic()
    for each in settings[len(cell["trials"]):]:
        value = measured(claim, Task(arm, each, fold.inner, seed, False))[metric]
        cell["trials"].append(rounded(value))
        if "test" not in cell and time.monotonic() > saved + PAUSE:
            save()
            saved = time.monotonic()
    for place in ranked(cell["trials"], is_lower(metric)):
        if "test" in cell and cell["settings"] == settings[place]:
            return
        cell["settings"] = settings[place]
        values = measured(claim, Task(arm, cell["settings"], fold.outer, seed, True))
        if math.isfinite(values[metric]):
            break
        cell.setdefault("diverged", []).append(place)
    cell["cpu_seconds"] = round(time.process_time() - start, 1)
    cell["test"] = {name: rounded(value) for name, value in values.items()}


def searched(space: Space, trials: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield the settings to try: as many for each arm and the defaults, one where none is free."""
    random = np.random.default_rng([seed, 7])
    if is_free(space):
        for _ in range(trials):
            yield drawn(space, random)
    yield by_default(space, random)


def measured(claim: Claim, task: Task) -> dict[str, float]:
    """Return the figures of a fit; a fit that diverges has none that could be chosen."""
    try:
        return claim.measure(task)
    except FloatingPointError:
        return {claim.arms[task.arm].metric: math.nan}


def rounded(value: float) -> float | None:
    """Return five digits, which is more than is certain; None for no number."""
    return float(f"{value:.5g}") if math.isfinite(value) else None


def ranked(values: Sequence[float | None], lower: bool) -> list[int]:
    """Return the numbers of the trials, the best first, those that diverged last."""
    known = [math.inf if value is None else value if lower else -value for value in values]
    return sorted(range(len(known)), key=known.__getitem__)


def is_lower(metric: str) -> bool:
    """Whether less of it is better."""
    return metric.startswith(LOWER)


# ------------------------------------------------------------------------- verdicts


def judged(claim: Claim, result: dict[str, Any]) -> dict[str, Any]:
    """Add to the result the claim's texts and what its finished arms say, and return it."""
    ends = lru_cache(maxsize=None)(lambda arm, data: ends_of(claim, result, arm, data))
    found = [row for comparison in claim.comparisons
             for row in compared(comparison, result, ends)]
    for decides in True, False:
        some = [row for row in found if row["decides"] is decides]
        for row, p in zip(some, holm([row["p"] for row in some]), strict=True):
            row["holm"] = rounded(p)
    decisive = [row["verdict"] for row in found if row["decides"]]
    result |= {"says": claim.says, "hypothesis": claim.hypothesis, "answer": claim.answer,
               "found": claim.found,
               "verdict": together(decisive) if decisive else "not run",
               "units": claim.units, "comparisons": found}
    return result


def ends_of(claim: Claim, result: dict[str, Any], arm: str, data: str) -> list[str]:
    """Return the ends of its space that an arm presses against on some data."""
    space, metric = claim.arms[arm].space, claim.arms[arm].metric
    folds = [(list(searched(space, result["trials"], int(key.rpartition(" ")[2]))), cell)
             for key, cell in result["arms"][arm]["folds"].items()
             if key.rpartition(" ")[0] == data and "test" in cell]
    return pressed(space, folds, least_of(metric), is_lower(metric))


def compared(comparison: Comparison, result: dict[str, Any],
             ends: Callable[[str, str], list[str]]) -> Iterator[dict[str, Any]]:
    """Yield, for each data set, the effect of one comparison over the folds that both have."""
    one, other = (result["arms"].get(arm, {"folds": {}})["folds"]
                  for arm in (comparison.first, comparison.second))
    metrics = comparison.metric, comparison.other or comparison.metric
    lower = is_lower(metrics[0]) if comparison.lower is None else comparison.lower
    for data in result["data"]:
        pairs = [(one[key]["test"].get(metrics[0]), other[key]["test"].get(metrics[1]))
                 for key in one if key.rpartition(" ")[0] == data
                 and "test" in one[key] and "test" in other.get(key, {})]
        pairs = [pair for pair in pairs if None not in pair]
        if len(pairs) > 1:
            sign = -1 if lower else 1
            differences = [sign * (a - b) for a, b in pairs]
            seen = effect(differences)
            of_splits = None if data.startswith("planted") else effect(differences, OVERLAP)
            said = verdict(seen, len(pairs), result["trials"], least_of(metrics[0]))
            cut = [] if said == TOO_FEW else opened(said, ends(comparison.first, data),
                                                    ends(comparison.second, data))
            means = [float(np.mean(each)) for each in zip(*pairs, strict=True)]
            yield {"says": comparison.says, "data": data, "metric": comparison.metric,
                   "first": [comparison.first, *map(rounded, means[:1])],
                   "second": [comparison.second, *map(rounded, means[1:])],
                   "differences": list(map(rounded, differences)),
                   **{name: rounded(value) for name, value in seen._asdict().items()},
                   "of_splits": of_splits and [rounded(of_splits.low), rounded(of_splits.high)],
                   "verdict": TOO_SMALL if cut else said, "ends": cut,
                   "decides": comparison.decides}


# -------------------------------------------------------------------- what is kept


def start(claim: Claim, quick: bool) -> dict[str, Any]:
    """Return a result without figures."""
    folds, trials = (2, 2) if quick else (claim.folds, claim.trials)
    return {"claim": claim.name, "says": claim.says, "hypothesis": claim.hypothesis,
           "command": f"python -m benchmarks claims {claim.name}{' --quick' if quick else ''}",
           "data": list(quick_data(claim) if quick else all_data(claim)),
           "folds": folds, "trials": trials,
           "units": claim.units, "environments": [environment(1)],
           "arms": {name: {"metric": arm.metric, "space": written(arm.space), "folds": {}}
                    for name, arm in claim.arms.items()}}


def take_over(result: dict[str, Any], path: Path) -> int:
    """Put in what a file holds of arms with the same search; return the environment's number."""
    old = json.loads(path.read_text()) if path.exists() else {"trials": None}
    if old["trials"] != result["trials"]:
        return 0
    here = result["environments"][0]
    known = [number for number, each in enumerate(old["environments"]) if same(each, here)]
    result["environments"] = old["environments"] + ([] if known else [here])
    for name, arm in result["arms"].items():
        before = old["arms"].get(name)
        if before and {**before, "folds": {}} == arm:
            arm["folds"] = {key: found for key, found in before["folds"].items()
                            if key.rpartition(" ")[0] in result["data"]}
    return (known or [len(result["environments"]) - 1])[0]
