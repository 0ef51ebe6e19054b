"""Every derivative of mfcore/nn, held against the function it belongs to."""

from __future__ import annotations

import doctest
from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp
import strategies
from hypothesis import given
from hypothesis import strategies as st

from mfcore.gradcheck import GradientError, gradcheck
from mfcore.nn import layers as layers_module
from mfcore.nn import losses
from mfcore.nn.activations import FORMULAS, KINKS, Activation
from mfcore.nn.autoencoder import Reparameterise, kl_divergence
from mfcore.nn.check import check_layer
from mfcore.nn.joins import (
    Concatenate,
    Dense,
    Fork,
    Product,
    Sequential,
    Stack,
    Sum,
    stacked,
)
from mfcore.nn.layers import Dropout, Embedding, Linear, Run, SparseLinear, Transposed
from mfcore.nn.network import value_and_gradients
from mfcore.nn.normalise import Activate, LayerNorm
from mfcore.nn.pairs import GroupedEmbedding, RowsLinear
from mfcore.nn.parameters import Parameter
from mfcore.parallel import Pool

pytestmark = pytest.mark.kernel

every_activation = pytest.mark.parametrize("name", FORMULAS)


def rng(seed=0):
    return np.random.default_rng(seed)


def block(*shape, seed=1):
    return rng(seed).normal(size=shape)


def away_from_kinks(*shape, seed=1):
    x = block(*shape, seed=seed)
    return x + 0.7 * np.sign(x)


def linear(n_in, n_out, activation="tanh", seed=0, made=Linear):
    layer = made(n_in, n_out, activation, random=rng(seed), dtype=np.float64)
    layer.b.value[...] = rng(seed + 1).normal(size=n_out)
    return layer


def sparse(n, m, seed=2, density=0.4):
    values = block(n, m, seed=seed)
    return sp.csr_array(np.where(rng(seed).random((n, m)) < density, values, 0))


def table(n_rows, k, seed=3):
    return Parameter("table", block(n_rows, k, seed=seed))


# -------------------------------------------------------------------- activations

@every_activation
def test_the_slope_of_an_activation_is_its_derivative(name):
    formula = FORMULAS[name]

    def function(z):
        y = formula.value(z)
        return float(y.sum()), formula.slope(z, y)

    assert gradcheck(function, away_from_kinks(4, 5)).ok


@every_activation
def test_the_curvature_of_an_activation_is_the_derivative_of_its_slope(name):
    formula = FORMULAS[name]

    def function(z):
        y = formula.value(z)
        return float(formula.slope(z, y).sum()), formula.curvature(z, y)

    assert gradcheck(function, away_from_kinks(4, 5)).ok


@every_activation
def test_an_activation_with_its_offset_is_the_table_at_the_sum(name):
    A, b, dY = block(6, 5), block(5, seed=2), block(6, 5, seed=3)
    z = A + b
    y = FORMULAS[name].value(z)
    Y, Z = Activation(name).forward(A.copy(), b)
    dZ, db = Activation(name).backward(dY, Y, Z)
    np.testing.assert_allclose(Y, y, rtol=1e-14)
    np.testing.assert_allclose(dZ, dY * FORMULAS[name].slope(z, y), rtol=1e-14)
    np.testing.assert_allclose(db, dZ.sum(axis=0), rtol=1e-12)


@every_activation
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_keep_the_type_and_stay_finite_where_exponentials_overflow(name, dtype):
    z = np.array([[-1e4, -90.0, -1.0, 0.0, 1.0, 90.0, 1e4]], dtype)
    y = FORMULAS[name].value(z)
    for each in (y, FORMULAS[name].slope(z, y), FORMULAS[name].curvature(z, y)):
        assert each.dtype == dtype
        assert np.isfinite(each).all()


def test_the_kernel_serves_those_that_it_is_for():
    assert set(KINKS) == {"identity", "relu", "leaky_relu"}


# ------------------------------------------------------------------------- layers

LAYERS = {
    **{f"linear {name}": (lambda name=name: linear(4, 3, name), block(5, 4))
       for name in FORMULAS},
    "transposed": (lambda: Transposed(Parameter("W", block(3, 4, seed=5)), "tanh"), block(5, 4)),
    "sparse": (lambda: linear(7, 3, made=SparseLinear), sparse(5, 7)),
    "sparse with silent rows": (lambda: linear(7, 3, made=SparseLinear), sparse(5, 7, density=.1)),
    "embedding": (lambda: Embedding(table(4, 3), 1), np.array([[0, 3], [9, 0], [9, 3], [9, -1]])),
    "embedding with a penalty": (lambda: Embedding(table(4, 3), reg=0.7),
                                 np.array([[3], [0], [3], [-1]])),
    "rows": (lambda: RowsLinear((Embedding(table(4, 3), 1, reg=0.7), Embedding(table(5, 2), 0)),
                                linear(5, 4)),
             np.array([[0, 3], [4, 0], [4, 3], [-1, 3], [2, -1]])),
    "sum": (Sum, (block(4, 3), block(4, 3, seed=2), block(4, 3, seed=3))),
    "dropout": (lambda: Dropout(0.4), block(6, 5)),
    "norm": (lambda: LayerNorm(5, dtype=np.float64), block(6, 5)),
    "activate": (lambda: Activate("swish"), block(6, 5)),
    "concatenate": (Concatenate, (block(4, 3), block(4, 2, seed=2), block(4, 1, seed=3))),
    "product": (Product, (block(4, 3), block(4, 3, seed=2))),
    "fork": (lambda: Fork(linear(4, 3), linear(4, 2, seed=7)), block(5, 4)),
    "sequential": (lambda: Sequential(linear(4, 3), LayerNorm(3, dtype=np.float64),
                                      linear(3, 2, "swish", 5)), block(5, 4)),
    "dense": (lambda: Dense(*((linear(n, 3, "identity", n), Sequential(
        Activate("swish"), LayerNorm(3, dtype=np.float64))) for n in (4, 3, 3, 3))), block(5, 4)),
    "latent": (Reparameterise, (block(5, 3), block(5, 3, seed=2))),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_goes_back_as_it_went_forward(name):
    make, x = LAYERS[name]
    layer = make()
    for number, parameter in enumerate(layer.parameters()):
        parameter.value += 0.3 * block(*parameter.value.shape, seed=number + 20)
    assert check_layer(layer, x).ok


def test_tied_weights_get_the_gradients_of_both_uses():
    encoder = linear(6, 3)
    layer = Sequential(encoder, Transposed(encoder.W, "sigmoid"))
    assert len(layer.parameters()) == 3
    assert check_layer(layer, block(5, 6)).ok


def test_tied_weights_of_a_sparse_encoder_get_the_gradients_of_both_uses():
    encoder = linear(6, 3, made=SparseLinear)
    assert check_layer(Sequential(encoder, Transposed(encoder.W)), sparse(5, 6)).ok


def grouped(n_rows, k, column=0):
    groups = Parameter("groups", block(3, k, seed=6))
    return GroupedEmbedding(table(n_rows, k), sparse(n_rows, 3, seed=n_rows), groups, column,
                            reg=0.7, group_reg=np.array([0.2, 0.5, 1.1]))


PAIRS = {"plain": lambda: (Embedding(table(4, 3), 1, reg=0.7), Embedding(table(5, 2), 0)),
         "grouped": lambda: (grouped(4, 3, 1), grouped(5, 2))}
every_pair = pytest.mark.parametrize("kind", PAIRS)


@every_pair
def test_a_layer_on_distinct_rows_is_a_layer_on_concatenated_rows(kind):
    pair, layer = PAIRS[kind](), linear(5, 4)
    x, dy = rng(3).integers(-1, 4, (30, 2)), block(30, 4)
    found = []
    for each in (RowsLinear(pair, layer), Sequential(Fork(*pair), Concatenate(), layer)):
        run = Run(share=0.3)
        y, cache = each.forward(x, run)
        assert each.backward(dy, cache, run) is None
        found.append([y, run.penalty, *(run.gradients.dense(p) for p in each.parameters())])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


@every_pair
def test_networks_on_rows_of_tables_have_the_gradients_of_their_value(kind):
    x = rng(3).integers(-1, 4, (30, 2))
    assert check_layer(Sequential(RowsLinear(PAIRS[kind](), linear(5, 4)), linear(4, 2)), x).ok
    assert check_layer(Sequential(Fork(*PAIRS[kind]()), Concatenate(), linear(5, 2)), x).ok


def test_a_row_with_groups_is_its_own_vector_beside_theirs_and_nobody_is_zeros():
    layer, rows = grouped(4, 3), np.array([[2], [-1], [0], [2]])
    T, G, F = layer.table.value, layer.groups.value, layer.features.toarray()
    run = Run(share=0.5)
    y, _ = layer.forward(rows, run)
    np.testing.assert_allclose(y, np.vstack([T + F @ G, 0 * T[:1]])[rows[:, 0]])
    np.testing.assert_array_equal(y[1], 0)
    assert run.penalty == pytest.approx(0.5 * (
        0.7 * (T[[2, 0, 2]] ** 2).sum() + 3 * ([0.2, 0.5, 1.1] @ (G ** 2).sum(axis=1))))


@pytest.mark.parametrize("spoil", [
    lambda layer: setattr(layer, "input_gradient",
                          lambda dz, run: 1.001 * (dz @ layer.W.value.T)),
    lambda layer: setattr(layer, "weight_gradient",
                          lambda x, dz, pool: (x.T @ dz) * (1 + 1e-3 * np.eye(4, 3)))])
def test_a_layer_that_is_wrong_by_a_thousandth_is_rejected(spoil):
    layer = linear(4, 3)
    spoil(layer)
    with pytest.raises(GradientError, match="gradient of block"):
        check_layer(layer, block(5, 4))


def test_the_layer_in_the_text_of_the_module_passes_its_check():
    found = doctest.testmod(layers_module, extraglobs=dict(vars(layers_module)))
    assert found.attempted >= 3
    assert found.failed == 0


def test_the_layer_in_the_text_of_the_module_takes_twenty_lines():
    lines = [line for line in layers_module.__doc__.splitlines()
             if line.strip().startswith((">>>", "..."))]
    assert len(lines) <= 20


# ------------------------------------------------------------------------- losses

S = block(4, 6, seed=8)
W = rng(9).uniform(0.3, 2, (4, 6))
LOSSES = {"squared": losses.squared, "logistic": losses.logistic}


@pytest.mark.parametrize("weight", [0.7, W], ids=["one weight", "weights"])
@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_of_a_loss_is_its_derivative(name, weight):
    x = rng(1).random((4, 6))
    assert gradcheck(lambda s: LOSSES[name](s, x, weight), S).ok


def test_losses_are_what_their_formulas_say():
    x, sigma = rng(1).random((4, 6)), 1 / (1 + np.exp(-S))
    assert losses.squared(S, x, W)[0] == pytest.approx((W * (x - S)**2).sum())
    assert losses.logistic(S, x, W)[0] == pytest.approx(
        -(W * (x * np.log(sigma) + (1 - x) * np.log(1 - sigma))).sum())


def test_the_gradients_of_the_divergence_are_its_derivatives():
    def function(at):
        value, (dm, dl) = kl_divergence(at["m"], at["l"], 0.7)
        return value, {"m": dm, "l": dl}

    assert gradcheck(function, {"m": S, "l": 0.4 * S[::-1]}).ok


def test_the_divergence_is_the_mean_of_the_difference_of_log_densities():
    mean, log_variance = np.array([[0.4]]), np.array([[-0.7]])
    z = np.linspace(-9, 9, 20001)
    v = np.exp(-0.7)
    q = np.exp(-(z - 0.4)**2 / (2 * v)) / np.sqrt(2 * np.pi * v)
    p = np.exp(-z**2 / 2) / np.sqrt(2 * np.pi)
    kl = np.trapezoid(q * (np.log(q + 1e-300) - np.log(p)), z) if hasattr(np, "trapezoid") \
        else np.trapz(q * (np.log(q + 1e-300) - np.log(p)), z)  # noqa: NPY201
    assert kl_divergence(mean, log_variance)[0] == pytest.approx(kl, rel=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_target_of_another_shape_is_refused(loss):
    with pytest.raises(ValueError, match=r"shape of the scores, \(4, 6\), got \(4, 5\)"):
        LOSSES[loss](S, W[:, :5])


# --------------------------------------------------------------- whole random networks

@st.composite
def networks(draw):
    """A network over a sparse, dense or row-number batch, its input and its loss."""
    seed, n = draw(strategies.seeds), draw(st.integers(1, 6))
    kind = draw(st.sampled_from(["dense", "sparse", "rows"]))
    smooth = st.sampled_from(["identity", "sigmoid", "tanh", "swish", "softplus"])
    widths = draw(st.lists(st.integers(1, 5), min_size=2, max_size=5))
    m = draw(st.integers(1, 7))
    if kind == "rows":
        x = rng(seed).integers(-1, m, (n, 2))
        first = Sequential(Fork(Embedding(table(m, widths[0]), 0),
                                Embedding(table(m, widths[0], seed=4), 1)), Product())
    elif kind == "sparse":
        x = sparse(n, m, seed, draw(st.sampled_from([0.0, 0.3, 1.0])))
        first = linear(m, widths[0], draw(smooth), seed, SparseLinear)
    else:
        x, first = block(n, m, seed=seed), linear(m, widths[0], draw(smooth), seed)
    stack = [first]
    for number, (n_in, n_out) in enumerate(pairwise(widths)):
        layer = linear(n_in, n_out, draw(smooth), seed + number)
        extra = draw(st.sampled_from(["", "norm", "dropout", "both"]))
        if extra == "norm" and n_out > 2:      # of two numbers little but the order is left
            layer = Sequential(layer, LayerNorm(n_out, epsilon=0.1, dtype=np.float64))
        elif extra == "dropout":
            layer = Sequential(Dropout(0.3), layer)
        elif extra == "both":
            layer = Sequential(Fork(layer, linear(n_in, n_out, "tanh", seed + 60)), Product())
        stack.append(layer)
    name = draw(st.sampled_from(list(LOSSES)))
    target = np.abs(block(n, widths[-1], seed=seed + 9))
    target = target / (1 + target) if name == "logistic" else target
    return Sequential(*stack), LOSSES[name], x, target


@given(networks(), st.integers(0, 3))
def test_random_networks_go_back_as_they_went_forward(drawn, n_cuts):
    network, loss, x, target = drawn
    parameters = {f"{number} {p.name}": p for number, p in enumerate(network.parameters())}
    cuts = np.linspace(0, len(target), n_cuts + 2).astype(int)
    parts = [(x[lo:hi], (target[lo:hi], 0.7)) for lo, hi in pairwise(cuts)]

    def function(point):
        for name, parameter in parameters.items():
            parameter.value[...] = point[name]
        value, gradients = value_and_gradients(network, loss, parts, Pool(1), (1,))
        return value, {name: gradients.dense(p) for name, p in parameters.items()}

    assert gradcheck(function, {name: p.value.copy() for name, p in parameters.items()},
                     directions=1).ok


# ----------------------------------------------------------------- layers in one kernel

def kinked(dtype=np.float64):
    random = rng(5)
    layers = [Linear(n_in, n_out, name, random=random, dtype=dtype) for n_in, n_out, name in
              ((5, 4, "relu"), (4, 3, "identity"), (3, 2, "leaky_relu"))]
    for each in layers:
        each.b.value[:] = random.normal(size=each.b.value.shape)
    return layers


def test_layers_in_one_kernel_have_the_gradients_of_their_value():
    assert isinstance(stacked(kinked()), Stack)
    assert check_layer(stacked(kinked()), block(7, 5)).ok


@pytest.mark.parametrize("held", [(), (0,), (1, 2), (0, 1, 2)])
def test_layers_in_one_kernel_are_layers_one_after_another(held):
    layers, x, dy = kinked(), block(7, 5), block(7, 2)
    for number in held:
        layers[number].W.frozen = layers[number].b.frozen = True
    found = []
    for each in (stacked(layers), Sequential(*layers)):
        run, given = Run(), dy.copy()
        y, cache = each.forward(x, run)
        dx = each.backward(given, cache, run)
        np.testing.assert_array_equal(given, dy)
        assert {p in run.gradients for n in held for p in layers[n].parameters()} <= {False}
        found.append([y, dx, *(run.gradients.dense(p) for p in each.parameters())])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


def test_layers_of_other_activations_stay_apart():
    assert not isinstance(stacked([*kinked(), Linear(2, 2, "tanh", random=rng())]), Stack)
    assert not isinstance(stacked([]), Stack)


def test_layers_in_one_kernel_take_rows_that_cannot_be_written():
    x = block(7, 5)
    x.flags.writeable = False
    y, _ = stacked(kinked()).forward(x, Run())
    expected, _ = Sequential(*kinked()).forward(x, Run())
    np.testing.assert_allclose(y, expected, atol=1e-12)
