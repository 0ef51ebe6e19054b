"""Which solver a factorization's name for it means; each is read when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mfcore.objectives.quadratic import Quadratic
from mfcore.solvers.als import ALS
from mfcore.solvers.loop import Solver

ALTERNATING = ("cg", "cholesky", "subspace")
SCHEDULES = ("inverse", "constant", "adagrad")


def _subspace(model: Any, problem: Quadratic, seed: int) -> Solver:
    from mfcore.solvers.subspace import Subspace

    return Subspace(problem, model.block_size)


def _sgd(model: Any, problem: Quadratic, seed: int) -> Solver:
    from mfcore.solvers.sgd import SGD, LogisticSGD

    bias_rate = model.bias_learning_rate
    kind = LogisticSGD if model.loss == "logistic" else SGD
    return kind(problem, model.learning_rate,
                model.learning_rate if bias_rate is None else bias_rate,
                model.schedule, model.decay, seed)


def _adam(model: Any, problem: Quadratic, seed: int) -> Solver:
    from mfcore.solvers.minibatch import Adam

    slowing = model.decay if model.schedule == "inverse" else 0.0
    return Adam(problem, model.learning_rate, model.batch_size, model.weight_decay, slowing,
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
