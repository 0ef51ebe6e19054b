"""Which solver a factorization's name for it means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mfcore.objectives.quadratic import Quadratic
from mfcore.solvers.als import ALS
from mfcore.solvers.gradient import LBFGS
from mfcore.solvers.logistic import LogisticSGD
from mfcore.solvers.loop import Solver
from mfcore.solvers.minibatch import Adam
from mfcore.solvers.sgd import SGD
from mfcore.solvers.subspace import Subspace

ALTERNATING = ("cg", "cholesky", "subspace")
SCHEDULES = ("inverse", "constant", "adagrad")


def _sgd(model: Any, problem: Quadratic, seed: int) -> Solver:
    bias_rate = model.bias_learning_rate
    kind = LogisticSGD if model.loss == "logistic" else SGD
    return kind(problem, model.learning_rate,
                model.learning_rate if bias_rate is None else bias_rate,
                model.schedule, model.decay, seed)


def _adam(model: Any, problem: Quadratic, seed: int) -> Solver:
    slowing = model.decay if model.schedule == "inverse" else 0.0
    return Adam(problem, model.learning_rate, model.batch_size, model.weight_decay, slowing,
                random_state=seed)


SOLVERS: dict[str, Callable[[Any, Quadratic, int], Solver]] = {
    "cg": lambda model, problem, seed: ALS(problem, False, model.cg_steps),
    "cholesky": lambda model, problem, seed: ALS(problem, True),
    "subspace": lambda model, problem, seed: Subspace(problem, model.block_size),
    "sgd": _sgd,
    "adam": _adam,
    "lbfgs": lambda model, problem, seed: LBFGS(problem),
}


def solver_of(model: Any, problem: Quadratic, seed: int) -> Solver:
    """Return the solver that `model.solver` names, for a problem; `seed` for what it draws."""
    return SOLVERS[model.solver](model, problem, seed)
