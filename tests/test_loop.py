"""However a fit ends, it ends in the state that was promised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from mfcore.parallel import Pool
from mfcore.solvers.loop import Monitor, Solver, run
from mfcore.validation import DivergenceError


@dataclass
class State:
    """Epochs so far (in the parameters), and how often they were finished."""

    x: np.ndarray
    finished: np.ndarray

    def copy(self) -> State:
        return State(self.x.copy(), self.finished.copy())


class Scripted(Solver):
    """A solver whose n-th epoch returns, or raises, the n-th entry of a script.

    An epoch adds 1 to x, and spoils it for good where it fails.
    """

    def __init__(self, *script, finish=None):
        self.script = list(script)
        self.finish_raises = finish
        self.finishes = 0

    def epoch(self, at, pool):
        outcome = self.script.pop(0)
        at.x += 1
        if isinstance(outcome, BaseException) or not np.isfinite(outcome):
            at.x[:] = np.nan
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def finish(self, at, pool):
        self.finishes += 1
        if self.finish_raises is not None:
            raise self.finish_raises
        at.finished += 1


def start() -> State:
    return State(np.zeros(2), np.zeros(1))


def fit(solver, monitor=None, n_epochs=None):
    """Run a script to its end; return the state and the monitor."""
    at, monitor = start(), monitor or Monitor()
    n_epochs = len(solver.script) if n_epochs is None else n_epochs
    with Pool(1) as pool:
        assert run(solver, at, pool, n_epochs, monitor) is at
    return at, monitor


def failed_fit(solver, error, monitor=None, **match):
    """Run a script that must raise; return the state and the monitor."""
    at, monitor = start(), monitor or Monitor()
    with Pool(1) as pool, pytest.raises(error, **match):
        run(solver, at, pool, len(solver.script), monitor)
    return at, monitor


def scoring(values, name="quality"):
    """An evaluation that returns one value after the other."""
    remaining = iter(values)
    return lambda at: {name: next(remaining)}


# ------------------------------------------------------------------------------ history

def test_a_fit_begins_once_and_before_the_first_epoch():
    at, seen = State(np.zeros(1), np.zeros(1)), []
    solver = Scripted(3.0, 2.0)
    solver.begin = lambda at, pool: seen.append(at.x[0])
    with Pool(1) as pool:
        run(solver, at, pool, 2, Monitor())
    assert seen == [0]


def test_all_epochs_run_and_the_state_is_finished_once():
    solver = Scripted(9.0, 8.0, 7.0)
    at, _ = fit(solver)
    assert at.x.tolist() == [3, 3]
    assert at.finished == 1
    assert solver.finishes == 1


def test_no_epoch_runs_beyond_the_number_asked_for():
    at, monitor = fit(Scripted(9.0, 8.0, 7.0), n_epochs=2)
    assert at.x.tolist() == [2, 2]
    assert len(monitor.history) == 2


def test_history_holds_a_record_of_each_epoch_with_its_metrics():
    _, monitor = fit(Scripted(9.0, 8.0), Monitor(evaluate=scoring([0.5, 0.6])))
    assert [record["epoch"] for record in monitor.history] == [1, 2]
    assert [record["loss"] for record in monitor.history] == [9.0, 8.0]
    assert [record["quality"] for record in monitor.history] == [0.5, 0.6]
    assert all(record["seconds"] >= 0 for record in monitor.history)


def test_what_is_evaluated_is_the_state_after_the_epoch():
    seen = []
    fit(Scripted(9.0, 8.0), Monitor(evaluate=lambda at: seen.append(at.x[0]) or {}))
    assert seen == [1, 2]


# ------------------------------------------------------------------------------ stopping

@pytest.mark.parametrize(("losses", "epochs"), [
    ([100.0, 90.0, 89.5, 89.0], 3),           # falls by 10 %, then by 0.6 %
    ([100.0, 98.9, 97.8, 96.7], 4),           # by a little more than 1 % each time
    ([100.0, 101.0, 50.0], 2),                # rises
    ([-100.0, -110.0, -110.5, -120.0], 3),    # below zero
    ([0.0, 0.0, 0.0], 3),                     # nothing to fall by, and no division by it
])
def test_tol_stops_after_an_epoch_whose_relative_fall_is_below_it(losses, epochs):
    at, monitor = fit(Scripted(*losses), Monitor(tol=0.01))
    assert len(monitor.history) == epochs
    assert at.x[0] == epochs
    assert at.finished == 1


def test_without_tol_nothing_stops_a_loss_that_rises():
    assert fit(Scripted(1.0, 2.0, 3.0))[0].x[0] == 3


def test_a_callback_sees_state_and_record_and_stops_with_a_true_result():
    calls = []

    def callback(at, record):
        calls.append((at.x[0], record["epoch"], record["quality"]))
        return record["epoch"] == 2

    at, _ = fit(Scripted(9.0, 8.0, 7.0), Monitor(evaluate=scoring([0.1, 0.2, 0.3]),
                                                 callbacks=(callback,)))
    assert calls == [(1, 1, 0.1), (2, 2, 0.2)]
    assert at.x[0] == 2
    assert at.finished == 1


def test_every_callback_is_called_also_in_the_epoch_where_one_stops():
    calls = []
    fit(Scripted(9.0, 8.0), Monitor(callbacks=(lambda *_: True, lambda *_: calls.append(1))))
    assert calls == [1]


# ------------------------------------------------------------------------------ patience

@pytest.mark.parametrize(("higher", "values", "best", "ran"), [
    (True, [0.1, 0.3, 0.2, 0.2, 0.9], 2, 4),
    (False, [0.9, 0.3, 0.4, 0.3, 0.1], 2, 4),     # as good as the best is not better
    (True, [0.1, 0.2, 0.1, 0.3, 0.2], 4, 5),      # one epoch without a better one is borne
    (True, [0.5, float("nan"), 0.4, 0.9], 1, 3),  # what is not a number is never best
    (True, [float("nan"), 0.4, 0.3, 0.2], 2, 4),
])
def test_patience_stops_after_so_many_worse_epochs_and_restores_the_best(higher, values, best,
                                                                         ran):
    solver = Scripted(*np.arange(len(values), 0.0, -1.0))
    at, monitor = fit(solver, Monitor(scoring(values), "quality", higher, patience=2))
    assert at.x[0] == best
    assert at.finished == 1
    assert len(monitor.history) == ran


def test_the_best_epoch_is_restored_also_where_the_epochs_run_out():
    at, _ = fit(Scripted(3.0, 2.0, 1.0), Monitor(scoring([0.1, 0.9, 0.5]), "quality",
                                                 patience=5))
    assert at.x[0] == 2


@pytest.mark.parametrize(("higher", "values", "best"), [
    (True, [0.5, 0.52, 0.54], 0), (True, [0.5, 0.52, 0.56], 2), (False, [0.5, 0.48, 0.46], 0),
    (False, [0.5, 0.48, 0.44], 2), (True, [-0.5, -0.48, -0.46], 0),
    (True, [-0.5, -0.48, -0.44], 2)])
def test_an_epoch_must_be_better_than_a_model_without_any_by_a_margin(higher, values, best):
    simple = State(np.full(2, 9.0), np.zeros(1))
    monitor = Monitor(evaluate=scoring(values), metric="quality", higher_is_better=higher,
                      patience=5, simple=lambda: simple, margin=0.1)
    at, monitor = fit(Scripted(1.0, 1.0), monitor)
    assert monitor.best_epoch == best
    assert at.x[0] == (best or 9.0)
    assert len(monitor.history) == 2


def test_without_epochs_the_model_without_any_is_left():
    simple = State(np.full(2, 9.0), np.zeros(1))
    assert fit(Scripted(), Monitor(simple=lambda: simple))[0].x[0] == 9.0


def test_patience_without_a_metric_watches_the_loss():
    at, monitor = fit(Scripted(3.0, 1.0, 2.0, 2.0, 0.5), Monitor(patience=2))
    assert at.x[0] == 2
    assert len(monitor.history) == 4


def test_without_patience_the_last_epoch_stays():
    assert fit(Scripted(3.0, 2.0, 1.0), Monitor(scoring([0.9, 0.5, 0.1]), "quality"))[0].x[0] == 3


# ---------------------------------------------------------------------- divergence, Ctrl-C

@pytest.mark.parametrize("loss", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_not_finite_names_the_epoch_and_restores_the_one_before(loss):
    solver = Scripted(9.0, 8.0, loss, 7.0)
    at, monitor = failed_fit(solver, DivergenceError, match=r"epoch 3 .*raise reg")
    assert at.x.tolist() == [2, 2]
    assert at.finished == 1
    assert len(monitor.history) == 2


def test_divergence_inside_an_epoch_names_it_too():
    solver = Scripted(9.0, DivergenceError("row 7 has no finite solution"))
    at, _ = failed_fit(solver, DivergenceError, match="epoch 2: row 7 has no finite solution")
    assert at.x.tolist() == [1, 1]
    assert at.finished == 1


def test_divergence_in_the_first_epoch_restores_the_start():
    at, _ = failed_fit(Scripted(np.nan), DivergenceError, match="epoch 1 ")
    assert at.x.tolist() == [0, 0]
    assert at.finished == 1


def test_a_finish_that_diverges_too_does_not_hide_what_happened_first():
    solver = Scripted(9.0, np.inf, finish=DivergenceError("row 0"))
    at, _ = failed_fit(solver, DivergenceError, match="epoch 2")
    assert at.x.tolist() == [1, 1]
    solver = Scripted(9.0, KeyboardInterrupt(), finish=DivergenceError("row 0"))
    failed_fit(solver, KeyboardInterrupt)


def test_ctrl_c_inside_an_epoch_restores_the_last_finished_one_and_goes_on():
    solver = Scripted(9.0, 8.0, KeyboardInterrupt(), 7.0)
    at, monitor = failed_fit(solver, KeyboardInterrupt)
    assert at.x.tolist() == [2, 2]
    assert at.finished == 1
    assert solver.finishes == 1
    assert len(monitor.history) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("place", ["evaluate", "callback"])
def test_an_error_between_epochs_keeps_the_epoch_that_was_finished(error, place):
    def fail(at, record=None):
        if at.x[0] == 2:
            at.x[:] = np.nan
            raise error("between")
        return {}

    monitor = Monitor(evaluate=fail) if place == "evaluate" else Monitor(callbacks=(fail,))
    at, _ = failed_fit(Scripted(9.0, 8.0, 7.0), error, monitor)
    assert at.x.tolist() == [2, 2]
    assert at.finished == 1


def test_the_arrays_stay_the_same_objects_through_a_restore():
    at = start()
    x = at.x
    with Pool(1) as pool:
        run(Scripted(3.0, 1.0, 2.0), at, pool, 3, Monitor(patience=1))
    assert at.x is x
    assert x.tolist() == [2, 2]


# ------------------------------------------------------------------------------ progress

def test_progress_is_shown_only_when_asked_for(capsys):
    fit(Scripted(9.0, 8.0))
    assert capsys.readouterr() == ("", "")
    fit(Scripted(9.0, 8.125), Monitor(verbose=1))
    out, err = capsys.readouterr()
    assert out == ""
    assert "2/2" in err
    assert "8.125" in err
