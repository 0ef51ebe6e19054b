"""Checks of the hyper-parameters that several models share."""

from __future__ import annotations

from typing import Any

from mfcore import validation

SCHEDULES = ("inverse", "constant", "adagrad")


def check_training(model: Any) -> None:
    """Raise for a number of factors or epochs, a stop, a start or a type out of range."""
    validation.integer("n_factors", model.n_factors, low=1)
    validation.integer("n_epochs", model.n_epochs, low=1)
    if model.tol is not None:
        validation.real("tol", model.tol, low=0)
    if model.patience is not None:
        validation.integer("patience", model.patience, low=1)
    validation.real("init_scale", model.init_scale, low=0, high=1e3, above=0)
    validation.choice("dtype", model.dtype, ("float32", "float64"))
    validation.random_generator("random_state", model.random_state)
    if not isinstance(model.verbose, bool):
        validation.integer("verbose", model.verbose)


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
