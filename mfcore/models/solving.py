"""Which solver a model's name for it means, and the checks of what solvers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mfcore import validation
from mfcore.objectives.quadratic import Quadratic
from mfcore.solvers.als import ALS
from mfcore.solvers.gradient import LBFGS
from mfcore.solvers.logistic import LogisticSGD
from mfcore.solvers.loop import Solver
from mfcore.solvers.minibatch import Adam
from mfcore.solvers.sgd import SGD
from mfcore.solvers.subspace import Subspace

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


def check_training(model: Any) -> None:
    """Raise for a number of factors or epochs, a stop, a start or a type out of range."""
    validation.integer("n_factors", model.n_factors, low=1)
    validation.real("init_scale", model.init_scale, low=0, high=1e3, above=0)
    check_epochs(model)


def check_epochs(model: Any) -> None:
    """Raise for a number of epochs, a stop, a type or a seed out of range."""
    validation.integer("n_epochs", model.n_epochs, low=1)
    if model.tol is not None:
        validation.real("tol", model.tol, low=0)
    if model.patience is not None:
        validation.integer("patience", model.patience, low=1)
    validation.choice("dtype", model.dtype, ("float32", "float64"))
    validation.random_generator("random_state", model.random_state)
    if not isinstance(model.verbose, bool):
        validation.integer("verbose", model.verbose)


def check_widths(hidden: Any) -> None:
    """Raise unless `hidden` is a tuple of widths."""
    if not isinstance(hidden, (tuple, list)):
        raise TypeError(f"hidden must be a tuple of widths, got {hidden!r}")
    for width in hidden:
        validation.integer("hidden", width, low=1)


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
