"""The neural library: sparse parts, rows, optimizers, initial weights, errors, same bits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.sparse as sp
import strategies
from hypothesis import given
from hypothesis import strategies as st

from mfcore.nn import losses
from mfcore.nn.activations import Activation
from mfcore.nn.autoencoder import Reparameterise
from mfcore.nn.joins import Concatenate, Fork, Product, Sequential
from mfcore.nn.layers import Dropout, Embedding, Linear, Run, SparseLinear
from mfcore.nn.network import Trainer, value_and_gradients
from mfcore.nn.normalise import LayerNorm
from mfcore.nn.optimizers import OPTIMIZERS, cosine_decay, inverse_decay, optimizer
from mfcore.nn.parameters import VARIANCES, Gradients, Parameter, Rows, clip, initial_weights
from mfcore.nn.sparse import product, times, transposed_times
from mfcore.parallel import Pool
from mfcore.validation import DivergenceError


def rng(seed=0):
    return np.random.default_rng(seed)


def block(*shape, seed=1, dtype=np.float64):
    return rng(seed).normal(size=shape).astype(dtype)


# ----------------------------------------------------------------- rows and sparse parts

@pytest.mark.kernel
@given(st.lists(st.integers(-1, 5), max_size=12), strategies.seeds)
def test_rows_that_occur_several_times_mean_their_sum(rows, seed):
    given_rows = Rows(np.array(rows, np.int64), block(len(rows), 3, seed=seed))
    expected = np.zeros((6, 3))
    for row, line in zip(rows, given_rows.values, strict=True):
        if row >= 0:
            expected[row] += line
    summed, dense = given_rows.summed(), np.zeros((6, 3))
    given_rows.add_to(dense)
    assert summed.rows.tolist() == sorted(set(rows) - {-1})
    np.testing.assert_allclose(dense, expected, atol=1e-14)
    np.testing.assert_allclose(summed.values, expected[summed.rows], atol=1e-14)


@pytest.mark.parametrize("given", [([], [2]), ([1, 4], []), ([0, 3, 5], [0, 1, 5, 6]),
                                   ([7], [2, 7])])
def test_merged_gradients_of_distinct_rows_are_their_sum(given):
    one, other = (Rows(np.array(rows, np.int64), block(len(rows), 3, seed=seed), distinct=True)
                  for seed, rows in enumerate(given))
    merged, whole = one.merged(other), np.zeros((8, 3))
    one.add_to(whole)
    other.add_to(whole)
    assert merged.rows.tolist() == sorted({*given[0], *given[1]})
    np.testing.assert_allclose(merged.values, whole[merged.rows], atol=1e-15)


@pytest.mark.kernel
@given(strategies.csr_matrices(min_nnz=0), st.integers(1, 3))
def test_sparse_products_are_the_dense_ones(X, n_threads):
    X = sp.csr_array(X)
    W, G = block(X.shape[1], 4), block(X.shape[0], 4, seed=2)
    with Pool(n_threads) as pool:
        found = transposed_times(X, G, pool)
        np.testing.assert_allclose(times(X, W, pool), X.toarray() @ W, atol=1e-12)
    dense = np.zeros_like(W)
    found.add_to(dense)
    np.testing.assert_allclose(dense, X.toarray().T @ G, atol=1e-12)
    assert found.rows.tolist() == sorted(set(X.indices.tolist()))


def test_products_are_the_same_bits_for_any_number_of_threads_whatever_their_tiles():
    for n, m, k in ((3000, 200, 70), (70, 200, 3000), (500, 600, 600), (3, 2, 1), (0, 2, 3)):
        X, Y = block(n, m, dtype=np.float32), block(m, k, seed=2, dtype=np.float32)
        found = []
        for n_threads in (1, 2, 8):
            with Pool(n_threads) as pool:
                found.append(product(X, Y, pool))
        np.testing.assert_allclose(found[0], X @ Y, rtol=1e-4, atol=1e-3)
        assert all(np.array_equal(found[0], each) for each in found)


def test_sums_of_dense_and_sparse_parts_are_the_sum():
    table = Parameter("T", np.zeros((4, 2)))
    gradients = Gradients()
    gradients.add(table, Rows(np.array([2, 0, 2]), block(3, 2)))
    gradients.add(table, np.ones((4, 2)))
    gradients.add(table, Rows(np.array([3]), block(1, 2, seed=5)))
    expected = np.ones((4, 2))
    np.add.at(expected, [2, 0, 2], block(3, 2))
    expected[3] += block(1, 2, seed=5)[0]
    np.testing.assert_allclose(gradients[table], expected)
    np.testing.assert_array_equal(gradients.dense(Parameter("other", np.zeros(3))), np.zeros(3))


def test_clipping_keeps_the_direction_and_bounds_the_length():
    a, b = Parameter("a", np.zeros((4, 2))), Parameter("b", np.zeros(3))
    for most in (0.5, 1e9):
        gradients = Gradients()
        gradients.add(a, Rows(np.array([1, 1]), block(2, 2)))
        gradients.add(b, block(3, seed=2))
        before = np.concatenate([block(2, 2).sum(axis=0), block(3, seed=2)])
        length = clip(gradients, most)
        after = np.concatenate([gradients.dense(a)[1], gradients.dense(b)])
        assert length == pytest.approx(np.linalg.norm(before))
        np.testing.assert_allclose(after, before * min(1, most / length))


# ------------------------------------------------------------------------- optimizers

WITH_MEMORY = ["momentum", "nesterov", "rmsprop", "adam", "adamw"]
LAZY = [name for name in OPTIMIZERS if name != "rprop"]


def moved(name, n_steps=3, *, lazy=False, rows=(1, 3), **options):
    """Rows of a table after steps with gradients in some rows only."""
    table, ours = Parameter("T", block(5, 3)), optimizer(name, 0.05, lazy=lazy, **options)
    with Pool(1) as pool:
        for step in range(n_steps):
            gradients = Gradients()
            gradients.add(table, Rows(np.array(rows), block(len(rows), 3, seed=step)))
            ours.step(gradients, pool)
    return table.value


@pytest.mark.kernel
@pytest.mark.parametrize("name", LAZY)
def test_lazy_steps_leave_rows_without_a_gradient_as_they_are(name):
    start, end = block(5, 3), moved(name, lazy=True)
    assert np.array_equal(start[[0, 2, 4]], end[[0, 2, 4]])
    assert not np.isclose(start[[1, 3]], end[[1, 3]]).any()


@pytest.mark.kernel
@pytest.mark.parametrize("name", LAZY)
def test_rows_that_always_have_a_gradient_move_alike_lazily_or_not(name):
    np.testing.assert_array_equal(moved(name, lazy=True)[[1, 3]], moved(name)[[1, 3]])


@pytest.mark.kernel
@pytest.mark.parametrize("name", WITH_MEMORY)
def test_dense_steps_move_rows_by_what_they_remember(name):
    def last_row(lazy):
        table, ours = Parameter("T", block(5, 3)), optimizer(name, 0.05, lazy=lazy, decay=0.0)
        with Pool(1) as pool:
            for rows in ([4], [0], [0]):
                gradients = Gradients()
                gradients.add(table, Rows(np.array(rows), block(1, 3)))
                ours.step(gradients, pool)
        return table.value[4]

    assert np.array_equal(last_row(True), last_row(False)) == (name == "rmsprop")


def steps_by_the_formulas(name, x, gradients, rate, decay):
    """The steps of one number by the formulas at the head of optimizers.py."""
    m = v = 0.0
    length, last = rate, 0.0
    for t, g in enumerate(gradients, 1):
        g += (name != "adamw") * decay * x
        if name in ("momentum", "nesterov"):
            m = 0.8 * m + g
            g = m if name == "momentum" else g + 0.8 * m
        elif name == "adagrad":
            v += g * g
            g /= math.sqrt(v) + 1e-3
        elif name == "rmsprop":
            v = 0.7 * v + 0.3 * g * g
            g /= math.sqrt(v) + 1e-3
        elif name in ("adam", "adamw"):
            x -= (name == "adamw") * rate * decay * x
            m, v = 0.6 * m + 0.4 * g, 0.7 * v + 0.3 * g * g
            g = m / (1 - 0.6 ** t) / (math.sqrt(v / (1 - 0.7 ** t)) + 1e-3)
        elif name == "rprop":
            length = min(length * 1.7, 0.3) if g * last > 0 else \
                max(length * 0.4, 0.02) if g * last < 0 else length
            g = last = 0.0 if g * last < 0 else g
            g = np.sign(g) * length / rate
        x -= rate * g
        yield x


FORMULA_OPTIONS = {
    "sgd": {}, "momentum": {"mu": 0.8}, "nesterov": {"mu": 0.8}, "adagrad": {"epsilon": 1e-3},
    "rmsprop": {"rho": 0.7, "epsilon": 1e-3}, "adam": {"betas": (0.6, 0.7), "epsilon": 1e-3},
    "adamw": {"betas": (0.6, 0.7), "epsilon": 1e-3},
    "rprop": {"factors": (0.4, 1.7), "bounds": (0.02, 0.3)}}


@pytest.mark.kernel
@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_step_of_an_optimizer_is_the_formulas(name, decay):
    start, gradients = block(2, 3), block(9, 2, 3, seed=2)
    gradients[3:6] = np.abs(gradients[3:6])             # the same sign for some steps
    gradients[7, 0] = 0.0
    x, ours = Parameter("x", start.copy()), optimizer(name, 0.1, decay=decay,
                                                      **FORMULA_OPTIONS[name])
    expected = np.array([[list(steps_by_the_formulas(name, start[row, f], gradients[:, row, f],
                                                     0.1, decay)) for f in range(3)]
                         for row in range(2)])
    with Pool(1) as pool:
        for t, G in enumerate(gradients):
            given = Gradients()
            given.add(x, G)
            ours.step(given, pool)
            np.testing.assert_allclose(x.value, expected[:, :, t], rtol=1e-11, atol=1e-12)


@pytest.mark.kernel
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_finds_the_bottom_of_a_bowl(name):
    target, x = block(2, 3), Parameter("x", np.zeros((2, 3)))
    ours = optimizer(name, 0.05, schedule=inverse_decay(0.002),
                     **({"decay": 0.0} if name == "adamw" else {}))
    with Pool(1) as pool:
        for _ in range(1500):
            gradients = Gradients()
            gradients.add(x, 2 * (x.value - target))
            ours.step(gradients, pool)
    np.testing.assert_allclose(x.value, target, atol=0.3 if name == "adagrad" else 1e-2)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_resumes_to_the_same_bits(name):
    def run(n_steps, ours, x, first=0):
        with Pool(1) as pool:
            for step in range(first, n_steps):
                gradients = Gradients()
                gradients.add(x, np.sin(5 * x.value) + step)
                ours.step(gradients, pool)

    whole, x = optimizer(name, 0.01), Parameter("x", block(4, 3))
    run(6, whole, x)
    half, y = optimizer(name, 0.01), Parameter("y", block(4, 3))
    run(3, half, y)
    rest = optimizer(name, 0.01)
    rest.resume([y], {key: value.copy() for key, value in half.state([y]).items()})
    run(6, rest, y, 3)
    np.testing.assert_array_equal(x.value, y.value)


def test_frozen_parameters_stay_and_offsets_pay_no_penalty():
    layer = Linear(3, 2, random=rng(), dtype=np.float64)
    layer.b.value[...] = 1.0
    trainer = Trainer(layer, losses.squared, optimizer("sgd", 0.1, decay=0.5))
    zero = np.zeros((4, 3)), (np.ones((4, 2)),)
    with Pool(1) as pool:
        before = layer.W.value.copy()
        trainer.step([zero], pool)
        np.testing.assert_allclose(layer.W.value, before * (1 - 0.1 * 0.5))
        assert layer.b.value.tolist() == [1.0, 1.0]
        layer.W.frozen = True
        trainer.step([zero], pool)
        np.testing.assert_allclose(layer.W.value, before * (1 - 0.1 * 0.5))


def test_schedules_are_what_they_say():
    t = [0, 1, 5, 10, 99]
    assert [inverse_decay(0.5)(each) for each in t] == [1, 1 / 1.5, 1 / 3.5, 1 / 6, 1 / 50.5]
    assert [cosine_decay(10, 0.2)(each) for each in t[2:]] == pytest.approx([.6, .2, .2])


# ----------------------------------------------------------------------- initial weights

@pytest.mark.parametrize("kind", VARIANCES)
def test_weights_have_the_variance_of_their_kind(kind):
    W = initial_weights(400, 300, kind, rng(), np.dtype(np.float32))
    wanted = {"lecun": 1 / 400, "glorot": 2 / 700, "he": 2 / 400, "narrow": 1 / 1200}[kind]
    assert W.dtype == np.float32
    assert W.var() == pytest.approx(wanted, rel=0.02)


@pytest.mark.parametrize(("activation", "kind"), [("relu", "he"), ("selu", "lecun"),
                                                  ("identity", "lecun")])
def test_signals_neither_fade_nor_grow_through_twenty_layers(activation, kind):
    y = block(300, 256)
    for seed in range(20):
        y, _ = Linear(256, 256, activation, random=rng(seed), initial=kind,
                      dtype=np.float64).forward(y, Run())
    assert 0.3 < (y * y).mean() / (0.5 if activation == "relu" else 1) < 3.5


# ------------------------------------------------------------------- drawing, and not

def test_dropout_keeps_the_mean_draws_in_training_alone_and_sparse_cells_alone():
    x = np.ones((400, 300), np.float32)
    layer = Dropout(0.3)
    served, _ = layer.forward(x, Run())
    drawn, scale = layer.forward(x, Run(seed=[0]))
    assert served is x
    assert set(np.unique(drawn)) == {np.float32(0), np.float32(1 / 0.7)}
    assert drawn.mean() == pytest.approx(1, abs=0.01)
    np.testing.assert_array_equal(layer.backward(x, scale, Run()), drawn)
    cells, _ = layer.forward(sp.csr_array(np.eye(1000, dtype=np.float32)), Run(seed=[0]))
    assert cells.nnz == 1000
    assert cells.sum() == pytest.approx(1000, rel=0.1)
    assert cells.dtype == np.float32


def test_a_latent_variable_has_its_mean_and_variance_and_is_its_mean_when_serving():
    mean, log_variance = np.full((20000, 1), 0.7), np.full((20000, 1), -0.9)
    z, _ = Reparameterise().forward((mean, log_variance), Run(seed=[0]))
    assert z.mean() == pytest.approx(0.7, abs=0.02)
    assert z.var() == pytest.approx(math.exp(-0.9), rel=0.03)
    assert Reparameterise().forward((mean, log_variance), Run())[0] is mean


# ---------------------------------------------------------------------- the same bits

def made(seed=0):
    random, tables = rng(seed), [Parameter(f"T{j}", block(n, 16, seed=j, dtype=np.float32))
                                 for j, n in enumerate((300, 200))]
    return Sequential(Fork(Embedding(tables[0], 0), Embedding(tables[1], 1)), Concatenate(),
                      Dropout(0.2), Linear(32, 24, "relu", random=random), LayerNorm(24),
                      Linear(24, 1, random=random))


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("n_parts", [1, 3])
def test_training_gives_the_same_bits_for_any_number_of_threads(n_parts, lazy):
    ends = []
    for n_threads in (1, 2, 8):
        network = made()
        trainer = Trainer(network, losses.squared, optimizer("adam", 0.01, lazy=lazy), most=5.0)
        with Pool(n_threads) as pool:
            history = []
            for step in range(5):
                x = rng(step).integers(0, 200, (900, 2))
                y = np.sin(x.sum(axis=1, keepdims=True)).astype(np.float32)
                parts = [(part, (target, 0.01)) for part, target in zip(
                    np.array_split(x, n_parts), np.array_split(y, n_parts), strict=True)]
                history.append(trainer.step(parts, pool))
        ends.append((history, [p.value for p in network.parameters()]))
    assert ends[0][0] == ends[1][0] == ends[2][0]
    for other in ends[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(ends[0][1], other[1], strict=True))


def test_a_sparse_encoder_trains_to_the_same_bits_for_any_number_of_threads():
    X = sp.random(700, 3000, 0.02, format="csr", random_state=1, dtype=np.float32)
    X = sp.csr_array(X)
    ends = []
    for n_threads in (1, 2, 8):
        random = rng(0)
        network = Sequential(Dropout(0.5), SparseLinear(3000, 100, "tanh", random=random),
                             Linear(100, 3000, random=random))
        trainer = Trainer(network, losses.logistic, optimizer("adam", 0.01))
        with Pool(n_threads) as pool:
            history = [trainer.step([(X, (X.toarray(), 1 / 700))], pool) for _ in range(3)]
        ends.append([*history, *(p.value for p in network.parameters())])
    assert all(np.array_equal(a, b) for other in ends[1:]
               for a, b in zip(ends[0], other, strict=True))


def test_the_sum_over_parts_is_the_whole_batch():
    network = Sequential(made().layers[0], Concatenate(), Linear(32, 1, random=rng()))
    x, y = rng().integers(0, 200, (60, 2)), block(60, 1, dtype=np.float32)
    with Pool(2) as pool:
        value, gradients = value_and_gradients(network, losses.squared, [(x, (y,))], pool)
        parts = [(x[:7], (y[:7],)), (x[7:7], (y[7:7],)), (x[7:], (y[7:],))]
        total, others = value_and_gradients(network, losses.squared, parts, pool)
    assert total == pytest.approx(value, rel=1e-6)
    for parameter in network.parameters():
        np.testing.assert_allclose(others.dense(parameter), gradients.dense(parameter),
                                   rtol=1e-3, atol=1e-4)


# -------------------------------------------------------------------------- bad input

def linear():
    return Linear(4, 3, "relu", random=rng())


@pytest.mark.parametrize(("layer", "x", "message"), [
    (linear(), block(5, 3), r"Linear\(4, 3, 'relu'\) must be given shape \(n, 4\), got \(5, 3\)"),
    (linear(), block(4), r"Linear\(4, 3, 'relu'\) must be given shape \(n, 4\), got \(4,\)"),
    (LayerNorm(6), block(5, 3), r"LayerNorm\(6\) must be given shape \(n, 6\), got \(5, 3\)"),
    (SparseLinear(4, 3, random=rng()), sp.csr_array(block(2, 5)),
     r"SparseLinear\(4, 3, 'identity'\) must be given shape \(n, 4\), got \(2, 5\)"),
    (Product(), (block(5, 3), block(5, 2)), r"one shape, got \(5, 3\) and \(5, 2\)"),
    (Concatenate(), (block(5, 3), block(4, 3)), r"same rows, got shapes \[\(5, 3\), \(4, 3\)\]"),
])
def test_shapes_that_do_not_fit_name_the_layer_and_both_shapes(layer, x, message):
    with pytest.raises(ValueError, match=message):
        layer.forward(x, Run())


def test_a_dense_batch_for_a_sparse_layer_is_refused():
    with pytest.raises(TypeError, match="must be given a CSR batch, got ndarray"):
        SparseLinear(4, 3, random=rng()).forward(block(5, 4), Run())


@pytest.mark.parametrize("row", [-2, 4])
def test_rows_outside_a_table_are_refused(row):
    with pytest.raises(IndexError, match=r"Embedding\(4, 2\) must be given rows in \[-1, 3\]"):
        Embedding(Parameter("T", block(4, 2))).forward(np.array([[row]]), Run())


@pytest.mark.parametrize("rate", [-0.1, 1, 1.5, math.nan])
def test_dropout_outside_zero_and_one_is_refused(rate):
    with pytest.raises(ValueError, match="dropout must be"):
        Dropout(rate)


def test_unknown_names_list_the_known():
    with pytest.raises(ValueError, match="activation must be one of 'identity', 'relu', .*gelu"):
        Activation("gelu")
    with pytest.raises(ValueError, match="optimizer must be one of 'sgd', 'momentum', .*lion"):
        optimizer("lion", 0.1)
    with pytest.raises(ValueError, match="initial must be one of 'lecun', 'glorot', 'he', 'na"):
        Linear(2, 2, random=rng(), initial="xavier")


@pytest.mark.parametrize("options", [{"rate": 0}, {"rate": math.nan}, {"decay": -1},
                                     {"betas": (0.9, 2)}, {"epsilon": -1}])
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be finite and"):
        optimizer("adam", **{"rate": 0.1, **options})


def test_lazy_rprop_is_refused():
    with pytest.raises(ValueError, match="lazy=True has no meaning for rprop"):
        optimizer("rprop", 0.1, lazy=True)


@pytest.mark.parametrize(("x", "y", "name"), [(math.nan, 1.0, "the batch"),
                                              (1.0, math.nan, "the target"),
                                              (math.inf, 1.0, "the batch")])
def test_numbers_that_are_none_in_a_batch_are_told_from_a_rate_too_high(x, y, name):
    layer, batch = Linear(2, 1, "relu", random=rng()), np.full((3, 2), 1.0, np.float32)
    batch[1, 1] = x
    trainer = Trainer(layer, losses.squared, optimizer("sgd", 0.1))
    before = [p.value.copy() for p in layer.parameters()]
    with Pool(1) as pool, pytest.raises(ValueError, match=f"{name} of step 1 must be finite"):
        trainer.step([(batch, (np.full((3, 1), y, np.float32),))], pool)
    assert all(np.array_equal(a, p.value)
               for a, p in zip(before, layer.parameters(), strict=True))


def test_a_batch_that_a_network_put_out_is_the_rates_fault_and_not_the_datas():
    layer = Linear(2, 1, random=np.random.default_rng(0))
    trainer = Trainer(layer, losses.squared, optimizer("sgd", 0.1))
    batch = [(np.array([[1.0, np.inf]]), (np.zeros((1, 1)),))]
    with Pool(1) as pool, pytest.raises(DivergenceError, match=r"step 1: the loss is .* at rate"):
        trainer.step(batch, pool, fed_back=True)


def test_a_loss_that_explodes_names_step_and_rate_and_keeps_the_state_before_it():
    layer = Linear(2, 1, random=rng())
    trainer = Trainer(layer, losses.squared, optimizer("sgd", 1e4))
    batch = [(block(3, 2, dtype=np.float32), (np.ones((3, 1), np.float32),))]
    with Pool(1) as pool:
        while abs(layer.W.value).max() < 1e19:          # its square is beyond float32
            trainer.step(batch, pool)
        before = layer.W.value.copy()
        with pytest.raises(DivergenceError, match=r"step \d+: the loss is inf at rate 10000"):
            trainer.step(batch, pool)
    np.testing.assert_array_equal(layer.W.value, before)
