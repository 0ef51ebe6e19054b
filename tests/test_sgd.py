"""Stochastic gradient descent on the grid: the formula's own gradient, and the same bits."""

from __future__ import annotations

import os
from dataclasses import replace

import naive
import numpy as np
import pytest
import samples
import scipy.sparse as sp
from naive import problem, random_problem
from test_als import CASES
from test_pointwise import CASES as LABELS
from test_pointwise import logistic

import mfcore
from mfcore import MatrixFactorization, Ratings
from mfcore.kernels.draws import mix
from mfcore.kernels.logistic import DRAWS
from mfcore.parallel import Pool
from mfcore.solvers.checkpoint import Checkpoint
from mfcore.solvers.loop import Monitor, run
from mfcore.solvers.sgd import SGD, LogisticSGD, dealt_out, stratified
from mfcore.validation import DivergenceError

BLOCKS = ("P", "Q", "beta", "gamma")


def sgd(objective, rate: float, schedule: str = "constant", decay: float = 0.0) -> SGD:
    return SGD(objective, rate, rate, schedule, decay, seed=3)


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


@pytest.mark.kernel
def test_to_first_order_an_epoch_is_a_step_along_the_whole_gradient(case):
    dense, at = case
    gradient, rate = dense.gradient(at), 1e-8
    moved = at.copy()
    with Pool(1) as pool:
        sgd(problem(dense), rate).epoch(moved, pool)
    for name in BLOCKS:
        step = (getattr(moved, name) - getattr(at, name)) / -rate
        wanted = getattr(gradient, name)
        np.testing.assert_allclose(step, wanted, rtol=1e-4, atol=1e-4 * abs(wanted).max(initial=1))


@pytest.mark.kernel
def test_the_loss_of_a_tiny_step_is_the_value_of_the_formula(case):
    dense, at = case
    with Pool(1) as pool:
        assert sgd(problem(dense), 1e-12).epoch(at.copy(), pool) == pytest.approx(
            dense.value(at), rel=1e-6)


@pytest.mark.kernel
def test_adagrad_divides_a_rate_by_the_root_of_its_rows_squares():
    dense, at = random_problem(3, learns_bias=True)
    plain, scaled = at.copy(), at.copy()
    with Pool(1) as pool:
        one, other = sgd(problem(dense), 1e-9), sgd(problem(dense), 1e-9, "adagrad")
        one.epoch(plain, pool)
        other.epoch(scaled, pool)
    assert all((squares >= 1).all() for squares in other.state().values()
               if squares.dtype.kind == "f")
    rated = dense.stored.any(axis=1)
    moved = [np.linalg.norm((X.P - at.P)[rated], axis=1) for X in (scaled, plain)]
    assert (moved[0] < moved[1]).all()
    np.testing.assert_allclose(scaled.beta, plain.beta, rtol=1e-6)     # biases keep their rate


def squared(s, a, b):
    """Value of a cell, e, and what the step multiplies e by."""
    return a * s * s - 2 * b * s, b - a * s, 2


def logistic_loss(s, a, b):
    return a * np.log1p(np.exp(s)) - b * s, b - a / (1 + np.exp(-s)), 1


def cells_in_turn(dense, grid, keys):
    """Cells (user, item, a, b, whether it pays) block by block; draws follow each stored one."""
    for shift in range(grid.n_strata):
        for c in range(grid.n_strata):
            members = grid.members[(c + shift) % grid.n_strata]
            for u in range(grid.bounds[c], grid.bounds[c + 1]):
                yield from cells_of_user(dense, u, members, keys and keys[shift])


def cells_of_user(dense, u: int, members: np.ndarray, key: int | None):
    stored = members[dense.stored[u, members]]
    draw, rounds, m = mix(u, key or 0), max(len(stored), 1), len(members)
    for n in range(rounds):
        for i in stored[n:n + 1]:
            yield u, i, dense.w[u, i] - dense.w0, dense.w[u, i] * dense.T[u, i], 1
        for c in range(DRAWS if key is not None and dense.w0 else 0):
            i = members[(mix(draw + DRAWS * n + c, key) * m) >> 32]
            yield u, i, dense.w0 * m / (DRAWS * rounds), 0.0, 0


def cell_by_cell(dense, at, solver, loss_of, keys=None):
    """An epoch from the formulas, one cell after the other, in place."""
    first = solver._spread ** 3
    sides = [(at.P, at.beta, dense.users, np.full(len(at.P), first)),
             (at.Q, at.gamma, dense.items, np.full(len(at.Q), first))]
    counts, total = [np.maximum(dense.stored.sum(axis=axis), 1) for axis in (1, 0)], 0.0
    rate, adagrad = solver.learning_rate, solver.schedule == "adagrad"
    for u, i, a, b, pays in cells_in_turn(dense, solver._grid, keys):
        value, e, two = loss_of(at.P[u] @ at.Q[i] + at.beta[u] + at.gamma[i], a, b)
        total += value
        old = at.P[u].copy(), at.Q[i].copy()
        for n, (X, bias, side, h) in enumerate(sides):
            row, x, y = (u, i)[n], old[n], old[1 - n]
            lam, lam_b = (2 / two * pays * reg[row] / counts[n][row]
                          for reg in (side.reg, side.bias_reg))
            mean = side.means[0 if len(side.means) == 1 else row]
            eta = two * rate / (np.sqrt(h[row]) if adagrad else 1)
            X[row] += eta * (e * y - lam * (x - mean))
            h[row] += np.sum((e * y - lam * x) ** 2) / 16       # the width of the kernel
            bias[row] += dense.learns_bias * two * rate * (
                e - lam_b * (bias[row] - side.bias_mean))
    return total


def assert_an_epoch_is_that_of_the_twin(dense, at, solver, loss_of, keys=None):
    moved, twin, objective = at.copy(), at.copy(), solver.problem
    with Pool(1) as pool:
        loss = solver.epoch(moved, pool)
    known = cell_by_cell(dense, twin, solver, loss_of, keys)
    assert loss == pytest.approx(objective.constant + known + objective.penalty(moved), rel=1e-12)
    for axis, names in ((1, ("P", "beta")), (0, ("Q", "gamma"))):
        rated = dense.stored.any(axis=axis)             # the others are pulled afterwards
        for name in names:
            np.testing.assert_allclose(getattr(moved, name)[rated], getattr(twin, name)[rated],
                                       rtol=1e-11, atol=1e-11, err_msg=name)


@pytest.mark.kernel
@pytest.mark.parametrize("schedule", ["constant", "adagrad"])
@pytest.mark.parametrize("name", [name for name, (dense, _) in CASES.items() if dense.w0 == 0])
def test_an_epoch_takes_the_steps_of_the_formula_one_cell_after_the_other(name, schedule):
    dense, at = CASES[name]
    assert_an_epoch_is_that_of_the_twin(dense, at, sgd(problem(dense), 0.03, schedule), squared)


@pytest.mark.kernel
@pytest.mark.parametrize("schedule", ["constant", "adagrad"])
@pytest.mark.parametrize("name", LABELS)
def test_an_epoch_of_labels_takes_the_steps_of_the_formula_and_of_its_draws(name, schedule):
    dense, at = LABELS[name]
    solver = LogisticSGD(logistic(dense), 0.03, 0.03, schedule, 0.0, seed=3)
    keys = [int(np.random.default_rng([3, 0, shift]).integers(2**63)) for shift in (0, 1)]
    assert_an_epoch_is_that_of_the_twin(dense, at, solver, logistic_loss, keys)


@pytest.mark.kernel
@pytest.mark.parametrize("w0", [0.0, 0.45])
def test_rows_without_cells_end_at_their_prior_unless_unknown_cells_count(w0):
    dense, at = random_problem(9, w0=w0, means="rows", learns_bias=True, r0=2.3)
    empty = ~dense.stored.any(axis=1)
    assert empty.any()
    moved = at.copy()
    with Pool(1) as pool:
        sgd(problem(dense), 0.01).finish(moved, pool)
    expected = (dense.users.means[empty], dense.users.bias_mean) if w0 == 0 else \
        (at.P[empty], at.beta[empty])
    np.testing.assert_allclose(moved.P[empty], expected[0], rtol=1e-12)
    np.testing.assert_allclose(moved.beta[empty], expected[1], rtol=1e-12)
    np.testing.assert_array_equal(moved.P[~empty], at.P[~empty])


@pytest.mark.kernel
@pytest.mark.parametrize("schedule", ["constant", "inverse", "adagrad"])
def test_ratings_in_another_unit_take_the_same_steps(schedule):
    dense, at = random_problem(3, r0=1.3, learns_bias=True)
    c, losses = 9.0, []
    users, items = (replace(side, reg=c * side.reg, bias_mean=c * side.bias_mean)
                    for side in (dense.users, dense.items))
    scaled = replace(dense, R=c * dense.R, r0=c * dense.r0, users=users, items=items)
    there = replace(at, P=c ** 0.5 * at.P, Q=c ** 0.5 * at.Q, beta=c * at.beta, gamma=c * at.gamma)
    for objective, point in ((problem(dense), at), (replace(problem(scaled), unit=c), there)):
        monitor, point = Monitor(), point.copy()
        with Pool(1) as pool:
            run(sgd(objective, 0.01, schedule, 0.5), point, pool, 4, monitor)
        losses.append([record["loss"] for record in monitor.history])
    np.testing.assert_allclose(losses[1], np.multiply(c ** 2, losses[0]), rtol=1e-9)


@pytest.mark.parametrize("schedule", ["constant", "adagrad"])
def test_of_a_large_penalty_a_first_step_takes_a_row_half_of_the_way(schedule):
    dense, at = random_problem(3, reg=1e9, learns_bias=True)
    solver = sgd(replace(problem(dense), unit=5.0), 0.01, schedule)
    with Pool(1) as pool:
        solver._prepare(at, pool)
    for (reg, bias_reg), squares in zip(solver._shares, solver._squares, strict=True):
        rate = solver._rate / (np.sqrt(squares) if schedule == "adagrad" else 1)
        np.testing.assert_allclose(2 * rate * reg, 0.5)
        np.testing.assert_allclose(2 * 0.01 * bias_reg, 0.5)


def test_with_the_inverse_schedule_a_third_epoch_steps_half_as_far():
    dense, at = random_problem(3)
    steps = []
    for epochs_done in (0, 2):
        solver, moved = sgd(problem(dense), 1e-8, "inverse", 0.5), at.copy()
        solver.resume(at, {**solver.state(), "counters": np.array([3, epochs_done])})
        with Pool(1) as pool:
            solver.epoch(moved, pool)
        steps.append(moved.Q - at.Q)
    np.testing.assert_allclose(steps[0], 2 * steps[1], rtol=1e-5, atol=1e-14)


@pytest.mark.kernel
@pytest.mark.parametrize("weighted", [False, True])
def test_a_grid_holds_every_cell_once_in_the_block_of_its_row_and_column(weighted):
    dense, _ = random_problem(5, 23, 17, weighted=weighted)
    objective = problem(dense)
    with Pool(1) as pool:
        grid = stratified(objective, np.dtype(np.float64), np.random.default_rng(0), pool)
    met, where = [], {}
    for c, starts in enumerate(grid.starts):
        for stratum in range(grid.n_strata):
            for v in range(starts.shape[1] - 1):
                for t in range(starts[stratum, v], starts[stratum, v + 1]):
                    item = int(grid.items[t])
                    met.append((grid.bounds[c] + v, item))
                    assert where.setdefault(item, stratum) == stratum
    rows, columns = np.nonzero(dense.stored)
    assert sorted(met) == sorted(zip(rows.tolist(), columns.tolist(), strict=True))


@pytest.mark.parametrize("g", [2, 5])
def test_strata_hold_about_equal_counts(g):
    counts = np.sort(np.random.default_rng(1).zipf(1.6, 400).clip(max=50))
    stratum = dealt_out(counts, g, np.random.default_rng(0))
    totals = np.bincount(stratum, counts, minlength=g)
    assert totals.max() - totals.min() <= 60


def ratings(seed: int = 4) -> Ratings:
    return Ratings(sp.csr_array(
        samples.random_array((300, 80), density=0.3, rng=seed, format="csr") * 5))


@pytest.mark.parametrize("params", [{}, {"schedule": "adagrad", "learning_rate": 0.02},
                                    {"unknown_weight": 0.05, "learning_rate": 0.005}], ids=repr)
def test_one_two_and_eight_threads_give_the_same_bits(params):
    fits = [MatrixFactorization(5, solver="sgd", n_epochs=3, random_state=1, n_threads=n,
                                **params).fit(ratings()) for n in (1, 2, 8)]
    for other in fits[1:]:
        assert np.array_equal(fits[0].user_factors_, other.user_factors_)
        assert np.array_equal(fits[0].item_bias_, other.item_bias_)


@pytest.mark.parametrize("bias", ["learned", "mean", None])
def test_where_the_rank_suffices_sgd_ends_within_a_hundredth_of_als(bias):
    random = np.random.default_rng(0)
    R = 3.5 + random.normal(size=(60, 3)) @ random.normal(size=(3, 40))
    stored = random.random(R.shape) < 0.5
    matrix = sp.csr_array(np.where(stored, R, 0))
    known = {"bias": bias, "reg": 5.0, "reg_scaling": "none", "bias_reg": 5.0,
             "random_state": 0, "dtype": "float64"}
    best = MatrixFactorization(16, solver="cholesky", n_epochs=300, **known).fit(matrix)
    near = MatrixFactorization(16, solver="sgd", n_epochs=400, learning_rate=0.01, decay=0.02,
                               **known).fit(matrix)
    gap = near.objective()["total"] / best.objective()["total"] - 1
    assert abs(gap) < 1e-2


def test_with_weight_on_the_unknown_small_blocks_keep_sgd_near_the_optimum():
    cells = sp.csr_array(samples.random_array((700, 150), density=0.35, rng=4, format="csr") * 5)
    known = {"unknown_weight": 0.1, "reg": 2.0, "random_state": 0}
    best = MatrixFactorization(4, solver="cholesky", n_epochs=60, **known).fit(cells)
    near = MatrixFactorization(4, solver="sgd", n_epochs=60, learning_rate=0.003,
                               schedule="constant", **known).fit(cells)
    gap = near.objective()["total"] / best.objective()["total"] - 1
    assert 0 <= gap < 0.025                             # 0.048 with blocks of 20,000 cells


def test_a_rate_that_diverges_names_the_epoch_and_the_remedy_and_keeps_the_model():
    model = MatrixFactorization(4, solver="sgd", n_epochs=2, random_state=0).fit(ratings())
    before = model.user_factors_.copy()
    with pytest.raises(DivergenceError, match="epoch 1.*learning_rate"):
        model.set_params(learning_rate=900.0).fit(ratings())
    assert np.array_equal(model.user_factors_, before)


@pytest.mark.parametrize(("params", "message"), [
    ({"learning_rate": 0.0}, "learning_rate"), ({"learning_rate": np.nan}, "learning_rate"),
    ({"bias_learning_rate": -1.0}, "bias_learning_rate"), ({"decay": -0.1}, "decay"),
    ({"schedule": "cosine"}, "'inverse'")])
def test_rates_out_of_range_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        MatrixFactorization(solver="sgd", **params).fit(ratings())


# --------------------------------------------------------------------------- checkpoints

SOLVERS = [{"solver": "cg"}, {"solver": "cholesky"}, {"solver": "sgd"}, {"solver": "adam"},
           {"solver": "lbfgs"}, {"solver": "subspace"},
           {"solver": "sgd", "schedule": "adagrad", "learning_rate": 0.02}]


def model(**params) -> MatrixFactorization:
    return MatrixFactorization(4, n_epochs=6, random_state=0, **params)


def interrupted(path, at_epoch: int = 4, **params) -> None:
    def stop(_, record):
        if record["epoch"] == at_epoch:
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        model(**params).fit(ratings(), checkpoint=path, callbacks=[stop])


@pytest.mark.parametrize("params", SOLVERS, ids=repr)
@pytest.mark.parametrize("every", [1, 2])
def test_an_interrupted_fit_goes_on_to_the_same_bits(params, every, tmp_path):
    whole = model(**params).fit(ratings())
    path = tmp_path / "fit.checkpoint"
    interrupted((path, every), **params)
    resumed = model(**params).fit(ratings(), checkpoint=(path, every))
    for name in ("user_factors_", "item_factors_", "user_bias_", "item_bias_"):
        assert np.array_equal(getattr(resumed, name), getattr(whole, name))
    assert [record["loss"] for record in resumed.history_] == \
        [record["loss"] for record in whole.history_]
    assert os.listdir(tmp_path) == []


def test_the_best_epoch_survives_an_interruption(tmp_path):
    def fit(**watched):
        return model(patience=1).fit(ratings(), eval_set=ratings(), **watched)
    whole = fit()
    interrupted_at = []

    def stop(_, record):
        interrupted_at.append(record["epoch"])
        if len(interrupted_at) == 2:
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        fit(checkpoint=tmp_path / "fit", callbacks=[stop])
    assert np.array_equal(fit(checkpoint=tmp_path / "fit").user_factors_, whole.user_factors_)


@pytest.mark.parametrize("params", [{"patience": 1}, {"tol": 0.5}], ids=repr)
def test_a_fit_killed_after_it_stopped_goes_no_further(params, tmp_path, monkeypatch):
    def fit():
        return model(solver="cg", **params).fit(
            ratings(), eval_set=ratings(5) if "patience" in params else None,
            checkpoint=tmp_path / "fit")
    with monkeypatch.context() as killed:
        killed.setattr(Checkpoint, "remove", lambda self: None)
        whole = fit()
    again = fit()
    assert len(whole.history_) < 6
    assert again.history_ == whole.history_
    assert np.array_equal(again.user_factors_, whole.user_factors_)


@pytest.mark.parametrize("change", [{"reg": 0.3}, {"bias": "mean"}, {"solver": "cholesky"}],
                         ids=repr)
def test_the_checkpoint_of_another_model_is_refused_and_kept(change, tmp_path):
    path = tmp_path / "fit"
    interrupted(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"{next(iter(change))} is .* there and .* here"):
        model(**change).fit(ratings(), checkpoint=path)
    assert path.read_bytes() == before


def test_the_checkpoint_of_other_ratings_is_refused(tmp_path):
    interrupted(tmp_path / "fit")
    with pytest.raises(ValueError, match="checksum of the ratings"):
        model().fit(ratings().select_cells(np.arange(ratings().nnz) > 0),
                    checkpoint=tmp_path / "fit")


def test_a_model_is_no_checkpoint_and_a_checkpoint_no_model(tmp_path):
    model().fit(ratings()).save(tmp_path / "model")
    with pytest.raises(ValueError, match="no checkpoint"):
        model().fit(ratings(), checkpoint=tmp_path / "model")
    interrupted(tmp_path / "fit")
    with pytest.raises(ValueError, match="unknown class"):
        mfcore.load(tmp_path / "fit")


@pytest.mark.parametrize(("given", "error"), [(3, TypeError), (("a", 0), ValueError),
                                              (("a", 1, 2), TypeError)])
def test_checkpoints_of_another_kind_are_refused(given, error):
    with pytest.raises(error):
        model().fit(ratings(), checkpoint=given)


def test_a_generator_cannot_be_written_down(tmp_path):
    with pytest.raises(ValueError, match="integer as random_state"):
        model().set_params(random_state=np.random.default_rng(0)).fit(
            ratings(), checkpoint=tmp_path / "fit")


def test_a_run_keeps_what_the_callers_loop_promises():
    dense, at = random_problem(3)
    monitor = Monitor()
    with Pool(1) as pool:
        run(sgd(problem(dense), 1e-3), naive.as_type(at, np.float64), pool, 3, monitor)
    losses = [record["loss"] for record in monitor.history]
    assert losses == sorted(losses, reverse=True)
