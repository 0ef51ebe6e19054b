"""Heads, penalties and whole autoencoders: values by the formula, gradients by Taylor slope."""

from __future__ import annotations

import numpy as np
import pytest
import samples
import scipy.sparse as sp

from mfcore import gradcheck
from mfcore.gradcheck import GradientError
from mfcore.nn import heads
from mfcore.nn.autoencoder import CompositePrior, Halves, Plain, Variational, identity_loss
from mfcore.nn.contractive import Contractive
from mfcore.nn.heads import EveryLogistic, EverySquared, KnownSquared, Multinomial, Target
from mfcore.nn.joins import Sequential
from mfcore.nn.layers import Linear, Run, SparseLinear
from mfcore.nn.network import value_and_gradients
from mfcore.nn.parameters import Parameter
from mfcore.parallel import Pool

N, M, K = 6, 9, 4


def rng(seed=0):
    return np.random.default_rng(seed)


def rows(seed=1):
    """Counts with a row and a column of nothing."""
    drawn = rng(seed).integers(1, 5, (N, M)) * (rng(seed + 1).random((N, M)) < 0.5)
    drawn[2], drawn[:, 5] = 0, 0
    return sp.csr_array(drawn * 0.7)


def parameter(*shape, seed=3, name="W"):
    return Parameter(name, 0.6 * rng(seed).normal(size=shape))


def linear(made, *args, **options):
    layer = made(*args, random=rng(len(options)), dtype=np.float64, **options)
    layer.b.value[:] = 0.3 * rng(7).normal(size=layer.b.value.shape)
    return layer


def head(made, **options):
    found = made(parameter(M, K), **options)
    found.b.value[:] = rng(4).normal(size=M)
    return found


X = rows()
W = rng(5).uniform(0.2, 2, X.nnz)


def dense(x):
    return x.toarray()


def softplus(z):
    return np.log1p(np.exp(z))


NAIVE = {
    "known": (lambda: head(KnownSquared, activation="tanh"), Target(X, W),
              lambda z: (W * (X.data - np.tanh(z)[samples.stored(X)]) ** 2).sum()),
    "every": (lambda: head(EverySquared, activation="sigmoid", w0=0.3, r0=0.4), Target(X, W),
              lambda z: (W * (X.data - (1 / (1 + np.exp(-z)))[samples.stored(X)]) ** 2).sum()
              + 0.3 * ((0.4 - 1 / (1 + np.exp(-z)))[~samples.stored(X)] ** 2).sum()),
    "logistic": (lambda: head(EveryLogistic), Target(X), lambda z: (softplus(z)
                                                                    - dense(X) * z).sum()),
    "multinomial": (lambda: head(Multinomial), Target(X), lambda z: -(dense(X) * (
        z - np.log(np.exp(z).sum(1, keepdims=True)))).sum()),
}


@pytest.mark.kernel
@pytest.mark.parametrize("block", [2, 4, 100])
@pytest.mark.parametrize("name", NAIVE)
def test_a_head_has_the_value_of_its_formula(name, block, monkeypatch):
    monkeypatch.setattr(heads, "BLOCK", block)
    make, target, naive = NAIVE[name]
    made, h = make(), rng(6).normal(size=(N, K))
    value, _ = made.loss(h, target, Run(share=0.37))
    z = h @ made.W.value.T + made.b.value
    assert value == pytest.approx(0.37 * naive(z), rel=1e-12)


def check(network, x, seed=None):
    """Taylor slopes of all parameters of a network that returns its loss."""
    blocks = {f"{number} {p.name}": p for number, p in enumerate(network.parameters())}

    def function(point):
        for name, p in blocks.items():
            p.value[...] = point[name]
        value, gradients = value_and_gradients(network, identity_loss, [(x, ())], Pool(1), seed,
                                               share=0.37)
        return value, {name: gradients.dense(p) for name, p in blocks.items()}

    return gradcheck(function, {name: p.value.copy() for name, p in blocks.items()})


def plain(made, first=SparseLinear, tied=False, **options):
    encoder = Sequential(linear(first, M, 5, "tanh", **options), linear(Linear, 5, K, "swish"))
    decoder = Sequential(linear(Linear, K, 5, "sigmoid"))
    W = encoder.layers[0].W if tied else parameter(M, 5)
    return Plain(encoder, decoder, made(W))


@pytest.mark.parametrize("block", [4, 100])
@pytest.mark.parametrize("name", NAIVE)
def test_the_gradient_of_a_whole_autoencoder_has_slope_two(name, block, monkeypatch):
    monkeypatch.setattr(heads, "BLOCK", block)
    make, target, _ = NAIVE[name]
    options = {"activation": make().activation.name}
    if name == "every":
        options |= {"w0": 0.3, "r0": 0.4}
    made = plain(lambda W: type(make())(W, **options))
    assert check(made, (X, target)).ok


def test_tied_weights_add_the_gradients_of_both_uses():
    assert check(plain(KnownSquared, tied=True), (X, Target(X, W))).ok
    assert check(plain(Multinomial, tied=True), (X, Target(X))).ok


def test_a_dense_target_is_compared_with_every_score():
    network = plain(EverySquared)
    first = network.encoder.layers[0]
    network.encoder = Sequential(first.on_blocks(), *network.encoder.layers[1:])
    x, y = rng(8).normal(size=(N, M)), rng(9).normal(size=(N, M))
    assert check(network, (x, y)).ok


@pytest.mark.kernel
@pytest.mark.parametrize("inputs", ["all", "observed"])
@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "selu", "swish"])
def test_the_contractive_penalty_is_the_squared_norm_of_the_jacobian(activation, inputs):
    layer = linear(Contractive, M, K, activation, reg=1.7, inputs=inputs)
    run = Run(share=0.37)
    layer.forward(X, run)
    x, step, total = dense(X), 1e-6, 0.0
    for i in range(M):
        moved = [layer.activation.formula.value((x + sign * step * np.eye(M)[i])
                                                @ layer.W.value + layer.b.value)
                 for sign in (1, -1)]
        slope = (moved[0] - moved[1]) / (2 * step)
        total += (slope ** 2)[samples.stored(X)[:, i] | (inputs == "all")].sum()
    assert run.penalty == pytest.approx(1.7 * 0.37 * total, rel=1e-7)


@pytest.mark.parametrize("inputs", ["all", "observed"])
@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "swish"])
def test_the_gradient_through_the_contractive_penalty_has_slope_two(activation, inputs):
    layer = linear(Contractive, M, K, activation, reg=1.7, inputs=inputs)
    network = Plain(layer, Sequential(), head(KnownSquared))
    assert check(network, (X, Target(X, W))).ok


def variational(made, prior=None):
    network = Variational(Sequential(linear(SparseLinear, M, 5, "tanh"),
                                     Halves(linear(Linear, 5, 2 * K))),
                          Sequential(linear(Linear, K, 5, "tanh")), made(parameter(M, 5)))
    network.prior = prior
    return network


@pytest.mark.parametrize("made", [Multinomial, EverySquared, EveryLogistic])
@pytest.mark.parametrize("beta", [0.8, rng(2).uniform(0.2, 1, (N, 1))], ids=["one", "by row"])
def test_the_gradient_of_a_whole_variational_autoencoder_has_slope_two(made, beta):
    assert check(variational(made), (X, Target(X), beta), seed=[3]).ok


def test_the_gradient_through_the_composite_prior_has_slope_two():
    old = rng(1).normal(size=(N, K)), rng(2).normal(size=(N, K))
    assert check(variational(Multinomial, CompositePrior()), (X, Target(X), 0.8, old), seed=[3]).ok


def test_the_composite_divergence_is_the_kl_divergence_where_only_the_normal_counts():
    """In the mean over many draws; the other parts have next to no weight."""
    network = variational(Multinomial, CompositePrior(1 - 2e-12, 1e-12, 1e-12))
    closed = variational(Multinomial)
    old = np.zeros((N, K)), np.zeros((N, K))
    drawn = [network.forward((X, Target(X), 1.0, old), Run(seed=[n]))[0]
             - network.forward((X, Target(X), 0.0, old), Run(seed=[n]))[0] for n in range(4000)]
    wanted = closed.forward((X, Target(X), 1.0), Run())[0] - closed.forward(
        (X, Target(X), 0.0), Run())[0]
    assert abs(np.mean(drawn) - wanted) < 4 * np.std(drawn) / 4000 ** 0.5


def test_a_gradient_that_is_wrong_in_a_thousandth_is_found():
    class Wrong(Multinomial):
        def loss(self, h, target, run):
            value, dh = super().loss(h, target, run)
            return value, 1.001 * dh

    with pytest.raises(GradientError, match="is wrong"):
        check(plain(Wrong), (X, Target(X)))


@pytest.mark.kernel
def test_scores_that_are_not_kept_between_the_passes_give_the_same_bits(monkeypatch):
    monkeypatch.setattr(heads, "BLOCK", 4)
    made, h = head(Multinomial), rng(6).normal(size=(N, K))
    found = []
    for most in (0, heads.KEPT):
        monkeypatch.setattr(heads, "KEPT", most)
        run = Run()
        value, dh = made.loss(h, Target(X), run)
        found.append((value, dh.tobytes(), run.gradients.dense(made.W).tobytes()))
    assert found[0] == found[1]


def test_the_bits_of_a_head_do_not_depend_on_the_threads(monkeypatch):
    monkeypatch.setattr(heads, "BLOCK", 2)
    for make, target, _ in NAIVE.values():
        found = set()
        for n in (1, 2, 8):
            made, h = make(), rng(6).normal(size=(N, K))
            with Pool(n) as pool:
                run = Run(pool)
                value, dh = made.loss(h, target, run)
            found.add((value, dh.tobytes(), run.gradients.dense(made.W).tobytes()))
        assert len(found) == 1


@pytest.mark.kernel
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_is_finite_at_scores_that_overflow_and_for_silent_users(dtype):
    scores = np.array([[1e4, 0.0, -1e4], [-1e4, -1e4, -1e4], [3.0, 2.0, 1.0]], dtype)
    x = sp.csr_array(np.array([[0.0, 2.0, 0], [1, 0, 0], [0, 0, 0]], dtype))
    value, dh = Multinomial(Parameter("W", np.eye(3, dtype=dtype))).loss(scores, Target(x), Run())
    assert value == pytest.approx(2e4 + np.log(3), rel=1e-6)
    assert np.isfinite(dh).all()
    assert dh.dtype == dtype
    assert not dh[2].any()


@pytest.mark.kernel
def test_an_empty_row_costs_nothing_and_pulls_at_nothing():
    for name in ("known", "multinomial"):
        make, target, _ = NAIVE[name]
        dh = make().loss(rng(6).normal(size=(N, K)), target, Run())[1]
        assert (dh[2] == 0).all()
        assert np.isfinite(dh).all()
