"""The loop over epochs that every solver shares: history, stopping, restoring.

A solver has `epoch(at, pool) -> loss`, which improves the parameters in place; `begin(at, pool)`,
run before the first epoch, and `finish(at, pool)`, run once at the end, also after an error; and
`state` and `resume` for a checkpoint.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mfcore.parallel import Pool
from mfcore.progress import progress_bar
from mfcore.solvers.checkpoint import Checkpoint, Snapshot
from mfcore.validation import DivergenceError

Record = dict[str, Any]


class Solver:
    """A way to fit a problem; the parameters `at` are arrays by name, with a method `copy`."""

    def begin(self, at: Any, pool: Pool) -> None:
        """Prepare `at` for the first epoch, as part of it."""

    def epoch(self, at: Any, pool: Pool) -> float:
        """Improve `at` in place by one epoch; return a loss of that epoch."""
        raise NotImplementedError

    def finish(self, at: Any, pool: Pool) -> None:
        """Bring `at` into the state that the model promises."""

    def state(self) -> dict[str, np.ndarray]:
        """Return what the next epoch needs besides `at`, by name."""
        return {}

    def resume(self, at: Any, state: dict[str, np.ndarray]) -> None:
        """Go on at the parameters `at` from what `state` returned."""

    def go_back(self, n_epochs: int) -> None:
        """Forget what came after the first `n_epochs` epochs, one at most and maybe in part."""

    def sums(self) -> Iterable[np.ndarray]:
        """Return sums of past gradients: steps divided by an infinite one would stop unnoticed."""
        return ()


@dataclass
class Monitor:
    """What to watch between epochs.

    Parameters
    ----------
    evaluate : callable or None
        `evaluate(at) -> dict` of validation metrics, added to the epoch's record.
    metric, higher_is_better
        The metric that decides which epoch is best.
    patience : int or None
        Stop after this many epochs without a better one, and restore the best; None: run all
        epochs, and restore nothing.
    callbacks : tuple of callable
        `callback(at, record)`; a true result stops the fit.
    tol : float or None
        Stop when the loss falls by less than this share of itself in an epoch.
    verbose : int or None
        As in `progress.progress_bar`.
    checkpoint : Checkpoint or None
        File to write, and to go on from.
    history : list of dict
        A record of each complete epoch.
    is_whole : bool
        Whether `run` has left the parameters of a complete epoch, also where it raises.
    simple : callable, or None
        simple() returns the parameters of a model without any epoch, which an epoch must be
        better than to be the best; a run of no epochs ends there.
    margin : float, >= 0
        By how much, as a share of its score.
    is_begun : bool
        Whether the parameters are those of an earlier fit, from which the solver goes on.
    best_epoch : int
        The epoch whose state was kept, 0 for `simple`; set at the end.
    """

    evaluate: Callable[[Any], Record] | None = None
    metric: str | None = None
    higher_is_better: bool = True
    patience: int | None = None
    callbacks: tuple[Callable[[Any, Record], Any], ...] = ()
    tol: float | None = None
    verbose: int | None = 0
    history: list[Record] = field(default_factory=list)
    checkpoint: Checkpoint | None = None
    is_whole: bool = False
    simple: Callable[[], Any] | None = None
    margin: float = 0.0
    is_begun: bool = False
    best_epoch: int = 0

    def is_done(self) -> bool:
        """Whether the loss has stopped falling."""
        if self.tol is None or len(self.history) < 2:
            return False
        before, now = (record["loss"] for record in self.history[-2:])
        return bool(before - now < self.tol * abs(before))

    def score(self, record: Record) -> float:
        """The deciding metric, larger is better."""
        value = record[self.metric] if self.metric else -record["loss"]
        score = float(value if self.higher_is_better or not self.metric else -value)
        return -math.inf if math.isnan(score) else score


def run(solver: Solver, at: Any, pool: Pool, n_epochs: int, monitor: Monitor) -> Any:
    """Run up to `n_epochs` epochs; return the parameters, finished.

    On Ctrl-C, on divergence and on any other error the last complete epoch is restored and
    finished in `at` before the exception is raised, so that it can still be used:
    `monitor.is_whole` says whether there was one, and memory enough.  With a checkpoint the fit
    goes on from the state in the file, which stays.

    Raises
    ------
    DivergenceError
        If the loss of an epoch is not finite.
    ValueError
        For the checkpoint of another fit, or of more epochs.
    """
    checkpoint = monitor.checkpoint
    done, best, stop = _resumed(solver, at, monitor, n_epochs)
    if done == 0 and monitor.simple is not None and (monitor.patience or n_epochs == 0):
        best = _without_epochs(at, monitor.simple(), monitor, n_epochs)
    last = at.copy()
    bar = progress_bar(monitor.verbose, total=n_epochs, initial=done, desc="fit",
                       unit="epoch")
    try:
        for epoch in range(done + 1, n_epochs + 1):     # what a checkpoint ends stays ended
            if stop or monitor.is_done() or _is_stale(best, monitor, epoch - 1):
                break
            record = _one_epoch(solver, at, pool, epoch, begins=epoch == 1 and not monitor.is_begun)
            copied = at.copy()
            monitor.history.append(record)
            last = copied               # (no step between: history and parameters agree)
            stop = _watch(monitor, at, record, bar)
            best = _better(best, monitor, record, epoch, last)
            if checkpoint is not None:
                checkpoint.write(_snapshot(solver, last, monitor, best, stop))
        last = last if best is None else best[2]
        _restore(at, last)
        solver.finish(at, pool)
    except BaseException:
        _recover(solver, at, last, monitor, pool)
        raise
    finally:
        bar.close()
    monitor.best_epoch = len(monitor.history) if best is None else best[1]
    monitor.is_whole = True
    return at


# Of the computation or of memory; NumPy has also been seen to raise a SystemError there.
FAILURES = (ArithmeticError, MemoryError, RuntimeError, SystemError, ValueError)


def _recover(solver: Solver, at: Any, last: Any, monitor: Monitor, pool: Pool) -> None:
    """Go back to the last complete epoch after an error, which is the one to tell, and finish it.

    Where that fails in its turn, nothing whole is left; one that diverges is left unfinished.
    """
    with suppress(*FAILURES):
        _restore(at, last)
        solver.go_back(len(monitor.history))
        try:
            solver.finish(at, pool)
        except DivergenceError:
            _restore(at, last)
        monitor.is_whole = bool(monitor.history)


def _resumed(solver: Solver, at: Any, monitor: Monitor, n_epochs: int
             ) -> tuple[int, tuple[float, int, Any] | None, bool]:
    """Go back to a checkpoint, if there is one, of `n_epochs` epochs at most.

    Returns the epochs done, the best, and whether a callback had stopped the fit.
    """
    checkpoint = monitor.checkpoint
    saved = None if checkpoint is None else checkpoint.resumed(vars(at))
    if checkpoint is None or saved is None:
        return 0, None, False
    if saved.epoch > n_epochs:
        raise ValueError(f"{checkpoint.path} is the checkpoint of a longer fit: it has "
                         f"{saved.epoch} epochs, and {n_epochs} are to be run; remove the file to "
                         f"start anew")
    _fill(at, saved.parameters)
    solver.resume(at, saved.solver)
    monitor.history.extend(saved.history)
    if saved.best is None:
        return saved.epoch, None, saved.is_stopped
    best = at.copy()
    _fill(best, saved.best[2])
    return saved.epoch, (*saved.best[:2], best), saved.is_stopped


def _without_epochs(at: Any, simple: Any, monitor: Monitor, n_epochs: int
                    ) -> tuple[float, int, Any] | None:
    """Return a simple model as the best so far, if it is watched; without epochs, go there."""
    start, best = at.copy(), None
    _restore(at, simple)
    if monitor.evaluate is not None:
        score = monitor.score(monitor.evaluate(at))
        best = score + monitor.margin * abs(score), 0, simple
    if n_epochs > 0:
        _restore(at, start)
    return best


def _snapshot(solver: Solver, at: Any, monitor: Monitor, best: tuple[float, int, Any] | None,
              is_stopped: bool) -> Snapshot:
    kept = None if best is None else (*best[:2], vars(best[2]))
    return Snapshot(len(monitor.history), monitor.history, vars(at), solver.state(), kept,
                    is_stopped)


def _one_epoch(solver: Solver, at: Any, pool: Pool, epoch: int, *, begins: bool) -> Record:
    start = time.perf_counter()
    try:
        with np.errstate(over="ignore", invalid="ignore"):      # the loss tells of it
            if begins:
                solver.begin(at, pool)
            loss = solver.epoch(at, pool)
    except DivergenceError as error:
        raise DivergenceError(f"epoch {epoch}: {error}") from None
    if not math.isfinite(loss):
        raise DivergenceError(f"the loss of epoch {epoch} is {loss}; the state before it is "
                              f"kept; rescale the ratings, raise reg or lower "
                              f"learning_rate")
    if not all(np.isfinite(np.sum(block, dtype=np.float64)) for block in solver.sums()):
        raise DivergenceError(f"squared gradients of epoch {epoch} overflow; the state before it "
                              f"is kept; rescale the ratings and weights, or take "
                              f"dtype='float64'")
    return {"epoch": epoch, "loss": loss, "seconds": time.perf_counter() - start}


def _watch(monitor: Monitor, at: Any, record: Record, bar: Any) -> bool:
    """Complete the record; return whether a callback wants to stop."""
    if monitor.evaluate is not None:
        record.update(monitor.evaluate(at))
    bar.set_postfix({name: f"{value:.5g}" for name, value in record.items()
                          if name not in ("epoch", "seconds")})
    bar.update()
    wishes = [callback(at, record) for callback in monitor.callbacks]
    return any(wishes)


def _better(best: tuple[float, int, Any] | None, monitor: Monitor, record: Record, epoch: int,
            state: Any) -> tuple[float, int, Any] | None:
    if monitor.patience is None:
        return None
    score = monitor.score(record)
    return best if best is not None and score <= best[0] else (score, epoch, state)


def _is_stale(best: tuple[float, int, Any] | None, monitor: Monitor, epoch: int) -> bool:
    return best is not None and monitor.patience is not None \
        and epoch - best[1] >= monitor.patience


def _restore(at: Any, state: Any) -> None:
    _fill(at, vars(state))


def _fill(at: Any, blocks: dict[str, np.ndarray]) -> None:
    for name, block in blocks.items():
        getattr(at, name)[...] = block
