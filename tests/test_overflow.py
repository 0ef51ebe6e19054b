"""An overflow that would only stop the steps of a solver is told as a divergence, with the cure.

Weights and penalty times c have the same minimum, for any c that the numbers can hold.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import samples
from naive import as_type, problem, random_problem

from mfcore import ImplicitMF, MatrixFactorization, NeuralMF, RatingAutoencoder, Ratings
from mfcore.parallel import Pool
from mfcore.solvers.als import improve_by_cg
from mfcore.solvers.loop import Monitor, Solver, run
from mfcore.solvers.rows import RowLBFGS
from mfcore.validation import DivergenceError

CELLS = samples.matrix(30, 20)
WEIGHTS = samples.weights(CELLS)
POWERS = (4, 8, 12, 16, 20, 24, 28, 32, 36)
SCALED = {
    **{solver: (MatrixFactorization, {"solver": solver, "reg": 0.3, "bias_reg": 0.5})
       for solver in ("cg", "cholesky", "subspace", "lbfgs", "adam")},
    **{f"{solver}, unknown cells": (MatrixFactorization, {
        "solver": solver, "reg": 0.3, "bias_reg": 0.5, "unknown_weight": 0.01,
        "reg_scaling": "count"}) for solver in ("cg", "cholesky", "adam")},
    "implicit": (ImplicitMF, {"reg": 0.3, "unknown_weight": 1.0, "reg_scaling": "none"}),
    "neural": (NeuralMF, {"reg": 1e-3, "bias_reg": 1e-3})}
MOVES = ("reg", "bias_reg", "unknown_weight")


def outcome(fit: Any) -> tuple[Any, DivergenceError | None]:
    """Return what a fit returns, or the divergence that it tells of."""
    try:
        return fit(), None
    except DivergenceError as error:
        return None, error


def scores(name: str, factor: float) -> np.ndarray:
    made, params = SCALED[name]
    params = {key: value * factor if key in MOVES else value for key, value in params.items()}
    model = samples.small(made, dtype="float32", n_epochs=4, **params)
    model.fit(Ratings(abs(CELLS), weights=WEIGHTS.astype(np.float64) * factor))
    pairs = Ratings(CELLS).users_of_cells, CELLS.indices
    return model.predict(*pairs)


@pytest.mark.parametrize("name", SCALED)
def test_weights_of_any_size_are_learned_alike_or_diverge_with_the_cure(name):
    plain, told = scores(name, 1.0), 0
    for power in POWERS:
        found, error = outcome(lambda power=power: scores(name, 10.0 ** power))
        told += error is not None
        assert error is None or any(cure in str(error) for cure in ("rescale", "raise", "lower"))
        np.testing.assert_allclose(plain if error else found, plain, atol=0.02 * np.ptp(plain))
    assert told <= len(POWERS) - 3          # (up to 10¹² it holds for all)


@pytest.mark.parametrize("schedule", ["adagrad"])
def test_sums_of_squared_gradients_that_overflow_are_told(schedule):
    given = Ratings(CELLS, weights=WEIGHTS.astype(np.float64) * 1e24)
    model = samples.small(MatrixFactorization, solver="sgd", schedule=schedule, reg=1e20,
                          bias_reg=None)
    with pytest.raises(DivergenceError, match=r"epoch 1.*rescale"):
        model.fit(given)


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "adagrad"])
def test_networks_tell_of_squared_gradients_that_overflow(optimizer):
    given = Ratings(CELLS, weights=WEIGHTS.astype(np.float64) * 1e24)
    for made in (NeuralMF, RatingAutoencoder):
        model = samples.small(made, optimizer=optimizer)
        if not model.lacks("weights"):
            with pytest.raises(DivergenceError, match="squared gradients of epoch 1 overflow"):
                model.fit(given)


def test_the_loop_looks_at_sums_after_every_epoch():
    class Summing(Solver):
        total = np.zeros(3, np.float32)

        def epoch(self, at: Any, pool: Pool) -> float:
            self.total = self.total + np.float32(2e38)
            return 1.0

        def sums(self) -> list[np.ndarray]:
            return [np.zeros(2, np.int64), self.total]

    class Point:
        def copy(self) -> Point:
            return self

    with np.errstate(over="ignore"), Pool(1) as pool, \
            pytest.raises(DivergenceError, match="squared gradients of epoch 2 overflow"):
        run(Summing(), Point(), pool, 5, Monitor())


@pytest.mark.parametrize("size", [1e9, 1e15, 1e18, 1e20, 1e30])
@pytest.mark.parametrize("items", [False, True])
def test_a_step_of_conjugate_gradient_that_overflows_is_told_in_both_half_sweeps(size, items):
    dense, start = random_problem(4, 12, 9, 3, learns_bias=True)
    (start.P if items else start.Q)[...] *= size

    def improved(real: Any) -> np.ndarray:
        at, objective = as_type(start, real), problem(dense, real=real)
        systems, X, bias = (objective.item_rows(at), at.Q, at.gamma) if items else \
            (objective.user_rows(at), at.P, at.beta)
        with np.errstate(all="ignore"), Pool(1) as pool:
            improve_by_cg(systems, X, bias, pool, 2)
        return X

    wanted, (found, error) = improved(np.float64), outcome(lambda: improved(np.float32))
    assert error is None or "rescale" in str(error)
    assert error is not None or abs(found - wanted).max() < 1e-3 * abs(wanted).max()


def test_a_gradient_of_a_network_that_overflows_is_told():
    class Overflowing(RowLBFGS):
        def value_and_gradient(self, pool: Pool) -> tuple[float, np.ndarray]:
            return 1.0, np.array([1.0, np.inf])

    class Weights:
        weights = np.zeros(2)

    with pytest.raises(DivergenceError, match="gradient overflows; rescale"), \
            np.errstate(all="ignore"):
        Overflowing(None, None, 1.0, 0.0).epoch(Weights(), Pool(1))  # type: ignore[arg-type]
