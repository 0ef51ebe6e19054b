"""Which solver a model's name for it means, and the checks of its hyper-parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mfcore import validation
from mfcore.objectives.quadratic import Quadratic
from mfcore.solvers.als import ALS
from mfcore.solvers.loop import Solver
from mfcore.solvers.sgd import SGD

SCHEDULES = ("constant", "inverse", "adagrad")


def _sgd(model: Any, problem: Quadratic, seed: int) -> Solver:
    bias_rate = model.bias_learning_rate
    return SGD(problem, model.learning_rate,
               model.learning_rate if bias_rate is None else bias_rate,
               model.schedule, model.decay, seed)


SOLVERS: dict[str, Callable[[Any, Quadratic, int], Solver]] = {
    "cg": lambda model, problem, seed: ALS(problem, False, model.cg_steps),
    "cholesky": lambda model, problem, seed: ALS(problem, True),
    "sgd": _sgd,
}


def solver_of(model: Any, problem: Quadratic, seed: int) -> Solver:
    """Return the solver that `model.solver` names, for a problem; `seed` for what it draws."""
    return SOLVERS[model.solver](model, problem, seed)


def check_rates(model: Any) -> None:
    """Raise for a learning rate, schedule or decay out of range."""
    validation.real("learning_rate", model.learning_rate, above=0, high=1e3)
    if model.bias_learning_rate is not None:
        validation.real("bias_learning_rate", model.bias_learning_rate, low=0, high=1e3)
    validation.choice("schedule", model.schedule, SCHEDULES)
    validation.real("decay", model.decay, low=0, high=1e6)
