"""Which solver a factorization's name for it means, and the checks of what solvers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mfcore import validation
from mfcore.models.estimator import check_factors
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


def check_solver(model: Any, solvers: tuple[str, ...]) -> None:
    """Raise for a penalty, or a setting of alternating least squares, out of range."""
    check_factors(model)
    validation.real("reg", model.reg, low=0)
    validation.real_or_choice("reg_scaling", model.reg_scaling, ("count", "none"), low=0, high=10)
    validation.choice("solver", model.solver, solvers)
    validation.integer("cg_steps", model.cg_steps, low=1, high=1000)
    validation.integer("block_size", model.block_size, low=1)


def check_rates(model: Any) -> None:
    """Raise for a learning rate, schedule or decay out of range."""
    validation.real("learning_rate", model.learning_rate, above=0, high=1e3)
    if model.bias_learning_rate is not None:
        validation.real("bias_learning_rate", model.bias_learning_rate, low=0, high=1e3)
    validation.choice("schedule", model.schedule, SCHEDULES)
    validation.real("decay", model.decay, low=0, high=1e6)
    validation.choice("weight_decay", model.weight_decay, ("lazy", "decoupled"))
    if model.batch_size is not None:
        validation.integer("batch_size", model.batch_size, low=1)
    if model.solver == "adam" and model.schedule == "adagrad":
        raise ValueError("schedule='adagrad' goes with solver='sgd'; 'adam' has rates of its own")
