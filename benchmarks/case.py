"""What a benchmark is: data, contestants, a judge of the result, and the figure to reach.

A contestant is a function of a `Task`; it calls `task.keep(state)` whenever it has something to
be judged, and `task.restart()` when what it did so far does not count.  Judging is this library's
own float64 arithmetic, after the clock has stopped, for every contestant.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Data = dict[str, Any]
# What a process reports: "first call", "gigabytes", and lists "wall", "cpu", "figure".
Run = dict[str, Any]
Target = Callable[["Case", Run, Run], "float | None"]
CLOCKS = ("wall", "cpu")


class Task:
    """The data, the number of threads and the clock of one run, with processes it starts."""

    def __init__(self, data: Data, n_threads: int) -> None:
        self.data, self.n_threads = data, n_threads
        self.times: list[list[float]] = []
        self.states: list[Any] = []
        self.restart()

    @staticmethod
    def _now() -> np.ndarray:
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return np.array([time.perf_counter(),
                         time.process_time() + ended.ru_utime + ended.ru_stime])

    def restart(self) -> None:
        """Count from here."""
        self._start = self._now()

    def keep(self, *state: Any) -> None:
        """Note wall and CPU seconds, and copy arrays to be judged; copying does not count."""
        now = self._now()
        self.times.append((now - self._start).tolist())
        self.states.append(tuple(np.array(each) if isinstance(each, np.ndarray) else each
                                 for each in state))
        self._start += self._now() - now


@dataclass(frozen=True)
class Contestant:
    """Who takes part: `run(task)`, what it imports, its settings, environment and sizes."""

    run: Callable[[Task], None]
    needs: str
    settings: str = ""
    environ: Mapping[str, str] = field(default_factory=dict)
    sizes: tuple[str, ...] = ("small", "medium", "large")


@dataclass(frozen=True)
class Case:
    """A benchmark.

    Parameters
    ----------
    name, title : str
    says : str
        What is minimised, or answered, by all contestants.
    data : callable
        data(size) returns what a task holds.
    few : callable
        few(data) returns a part of it, on which everything is compiled before the run.
    contestants : mapping of str to Contestant
        "mfcore" is held against each of the others.
    judge : callable
        judge(data) returns the figure of a state.
    figure : str
        What the judge measures, such as "loss".
    target : callable, or None
        target(case, ours, theirs) is the figure to reach in a round; None: the end of the run.
    higher : bool
        Whether a higher figure is better.
    goal : float, or None
        The ratio to be reached at size "large".
    sizes : tuple of str
    """

    name: str
    title: str
    says: str
    data: Callable[[str], Data]
    few: Callable[[Data], Data]
    contestants: Mapping[str, Contestant]
    judge: Callable[[Data], Callable[..., float]]
    figure: str
    target: Target | None = None
    higher: bool = False
    goal: float | None = None
    sizes: tuple[str, ...] = ("small", "medium", "large")

    def reached(self, run: Run, target: float | None, clock: str) -> float | None:
        """Return the seconds until a run is as good as the target; None: never."""
        if target is None:
            return float(run[clock][-1])
        good = np.greater_equal if self.higher else np.less_equal
        there = np.flatnonzero(good(run["figure"], target))
        return float(run[clock][there[0]]) if there.size else None


def figure_after(n_sweeps: int) -> Target:
    """Return the rule: as good as the peer after its n-th sweep."""
    return lambda case, ours, theirs: float(theirs["figure"][n_sweeps - 1])


def both_reach(slack: float) -> Target:
    """Return the rule: the worse of the two bests, and a share `slack` short of it."""
    def target(case: Case, ours: Run, theirs: Run) -> float:
        if case.higher:
            return float(min(max(ours["figure"]), max(theirs["figure"])) * (1 - slack))
        return float(max(min(ours["figure"]), min(theirs["figure"])) * (1 + slack))

    return target


def as_said(data: Data) -> Callable[..., float]:
    """Return what the contestant says, by its own definition."""
    return float
