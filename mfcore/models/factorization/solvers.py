"""Which solver a factorization's name for it means; each is read when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from mfcore.objectives.quadratic import Quadratic
from mfcore.solvers.als import ALS
from mfcore.solvers.loop import Solver

ALTERNATING = ("cg", "cholesky", "subspace")
SCHEDULES = ("inverse", "constant", "adagrad")


class Pace(NamedTuple):
    """How long the steps along gradients are."""

    learning_rate: float
    schedule: str


PACES = {"squared": Pace(0.035, "inverse"), "logistic": Pace(0.1, "adagrad")}


def pace_of(model: Any) -> Pace:
    """Return the pace that a model names, and that of its loss where it names none."""
    usual = PACES[model.loss]
    return Pace(model.learning_rate or usual.learning_rate, model.schedule or usual.schedule)


def _subspace(model: Any, problem: Quadratic, seed: int) -> Solver:
    from mfcore.solvers.subspace import Subspace

    return Subspace(problem, model.block_size)


def _sgd(model: Any, problem: Quadratic, seed: int) -> Solver:
    from mfcore.solvers.sgd import SGD, LogisticSGD

    bias_rate, (rate, schedule) = model.bias_learning_rate, pace_of(model)
    kind = LogisticSGD if model.loss == "logistic" else SGD
    return kind(problem, rate, rate if bias_rate is None else bias_rate, schedule, model.decay,
                seed)


def _adam(model: Any, problem: Quadratic, seed: int) -> Solver:
    from mfcore.solvers.minibatch import Adam

    rate, schedule = pace_of(model)
    slowing = model.decay if schedule == "inverse" else 0.0
    return Adam(problem, rate, model.batch_size, model.weight_decay, slowing,
                random_state=seed)


def _lbfgs(model: Any, problem: Quadratic, seed: int) -> Solver:
    from mfcore.solvers.gradient import LBFGS

    return LBFGS(problem)


SOLVERS: dict[str, Callable[[Any, Quadratic, int], Solver]] = {
    "cg": lambda model, problem, seed: ALS(problem, False, model.cg_steps),
    "cholesky": lambda model, problem, seed: ALS(problem, True),
    "subspace": _subspace, "sgd": _sgd, "adam": _adam, "lbfgs": _lbfgs,
}


def solver_of(model: Any, problem: Quadratic, seed: int) -> Solver:
    """Return the solver that `model.solver` names, for a problem; `seed` for what it draws."""
    return SOLVERS[model.solver](model, problem, seed)
