"""The neural library beside PyTorch: values, gradients, and twenty steps of each optimizer."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from benchmarks.cases import neural
from mfcore.nn import losses
from mfcore.nn.activations import FORMULAS
from mfcore.nn.autoencoder import Reparameterise, kl_divergence
from mfcore.nn.joins import Concatenate, Dense, Fork, Product, Sequential
from mfcore.nn.layers import Embedding, Linear, Run, SparseLinear, Transposed
from mfcore.nn.network import Trainer
from mfcore.nn.normalise import Activate, LayerNorm
from mfcore.nn.optimizers import optimizer
from mfcore.nn.parameters import Parameter
from mfcore.parallel import Pool

torch = pytest.importorskip("torch", reason="PyTorch is installed for Python 3.11 alone")
F = torch.nn.functional

N, M, K = 24, 30, 8
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def rng(seed=0):
    return np.random.default_rng(seed)


def block(*shape, seed=1):
    return rng(seed).normal(size=shape).astype(np.float32)


def tensor(x, grad=False):
    x = x.toarray() if sp.issparse(x) else x
    return torch.tensor(x, requires_grad=grad)


def counts(n=N, m=M, seed=4):
    drawn = rng(seed).integers(1, 5, (n, m)) * (rng(seed + 1).random((n, m)) < 0.2)
    return sp.csr_array(drawn.astype(np.float32))


def same(got, expected):
    np.testing.assert_allclose(got, expected.detach().numpy(), **CLOSE)


ACTIVATIONS = {
    "identity": lambda z: z * 1, "relu": torch.relu, "leaky_relu": F.leaky_relu,
    "sigmoid": torch.sigmoid, "tanh": torch.tanh, "elu": F.elu, "selu": F.selu,
    "swish": F.silu, "softplus": F.softplus}


@pytest.mark.parametrize("name", FORMULAS)
def test_layers_agree_in_values_and_gradients(name):
    layer = Linear(M, K, name, random=rng())
    x, dy = block(N, M), block(N, K, seed=2)
    run = Run()
    y, cache = layer.forward(x, run)
    dx = layer.backward(dy, cache, run)
    X, W, b = tensor(x, True), tensor(layer.W.value, True), tensor(layer.b.value, True)
    Y = ACTIVATIONS[name](X @ W + b)
    Y.backward(tensor(dy))
    for got, expected in ((y, Y), (dx, X.grad), (run.gradients[layer.W], W.grad),
                          (run.gradients[layer.b], b.grad)):
        same(got, expected)


def test_layer_norm_agrees():
    layer, x, dy = LayerNorm(M), block(N, M), block(N, M, seed=2)
    layer.a.value[...], layer.c.value[...] = block(M, seed=3), block(M, seed=4)
    run = Run()
    y, cache = layer.forward(x, run)
    dx = layer.backward(dy, cache, run)
    X, a, c = tensor(x, True), tensor(layer.a.value, True), tensor(layer.c.value, True)
    Y = F.layer_norm(X, (M,), a, c, 1e-5)
    Y.backward(tensor(dy))
    for got, expected in ((y, Y), (dx, X.grad), (run.gradients[layer.a], a.grad),
                          (run.gradients[layer.c], c.grad)):
        same(got, expected)


def multinomial(s, x, weight=1.0):
    """Return −Σ w x ln softmax(s) and its gradient by s; x is dense."""
    s = s - s.max(axis=1, keepdims=True)
    log_pi = s - np.log(np.exp(s).sum(axis=1, keepdims=True))
    ds = weight * (x.sum(axis=1, keepdims=True) * np.exp(log_pi) - x)
    return float(-(weight * x * log_pi).sum(dtype=np.float64)), ds


LOSSES = {"squared": losses.squared, "logistic": losses.logistic, "multinomial": multinomial}
TORCH_LOSSES = {
    "squared": lambda s, x: ((x - s)**2).sum(),
    "logistic": lambda s, x: F.binary_cross_entropy_with_logits(s, x, reduction="sum"),
    "multinomial": lambda s, x: -(x * F.log_softmax(s, 1)).sum()}


@pytest.mark.parametrize("name", TORCH_LOSSES)
def test_losses_agree_in_values_and_gradients(name):
    s, x = block(N, M), counts().toarray()
    x = np.minimum(x, 1) if name == "logistic" else x
    value, ds = LOSSES[name](s, x)
    S = tensor(s, True)
    expected = TORCH_LOSSES[name](S, tensor(x))
    expected.backward()
    assert value == pytest.approx(expected.item(), rel=1e-5)
    same(ds, S.grad)


def test_the_divergence_agrees():
    s, ell = block(N, M), 0.3 * block(N, M, seed=2)
    S, L = tensor(s, True), tensor(ell, True)
    value, (ds, dl) = kl_divergence(s, ell)
    standard = torch.distributions.Normal(torch.zeros(()), torch.ones(()))
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(S, (L / 2).exp()), standard).sum()
    expected.backward()
    assert value == pytest.approx(expected.item(), rel=1e-5)
    same(ds, S.grad)
    same(dl, L.grad)


# ------------------------------------------------------------------- whole networks

def neural_mf(seed=0):
    """GMF beside an MLP on tables of their own, 30 users and 30 items."""
    random, tables = rng(seed), [Parameter(f"T{j}", 0.3 * block(M, K, seed=j)) for j in range(4)]
    mlp = [Linear(2 * K, 6, "relu", random=random), Linear(6, 4, "relu", random=random)]
    network = Sequential(Fork(
        Sequential(Fork(Embedding(tables[0], 0), Embedding(tables[1], 1)), Product()),
        Sequential(Fork(Embedding(tables[2], 0), Embedding(tables[3], 1)), Concatenate(), *mlp)),
        Concatenate(), Linear(K + 4, 1, random=random))

    def twin(T, x, step=0):
        P, Q, U, V, W1, b1, W2, b2, W3, b3 = T
        h = torch.relu(torch.cat([F.embedding(x[:, 0], U), F.embedding(x[:, 1], V)], 1) @ W1 + b1)
        gmf = F.embedding(x[:, 0], P) * F.embedding(x[:, 1], Q)
        return torch.cat([gmf, torch.relu(h @ W2 + b2)], 1) @ W3 + b3

    return network, twin, rng(seed).integers(0, M, (N, 2)), block(N, 1, seed=9)


def autoencoder(seed=0):
    """A sparse encoder with tied decoder, on counts."""
    encoder = SparseLinear(M, K, "tanh", random=rng(seed))
    network = Sequential(encoder, Transposed(encoder.W))

    def twin(T, x, step=0):
        W, b, c = T
        return torch.tanh(x @ W + b) @ W.T + c

    return network, twin, counts(), counts().toarray()


def densely_connected(seed=0):
    """The densely connected encoder of RecVAE in small, to (μ, ℓ), and a linear decoder."""
    random, stages = rng(seed), []
    for n_in in (M, K, K):
        f = Linear(n_in, K, random=random)
        stages.append((f, Sequential(Activate("swish"), LayerNorm(K))))
    network = Sequential(Dense(*stages), Fork(Linear(K, 3, random=random),
                                              Linear(K, 3, random=random)),
                         Reparameterise(), Linear(3, M, random=random))

    def twin(T, x, step=0):
        hs = []
        for j in range(3):
            W, b, a, c = T[4 * j:4 * j + 4]
            h = (hs[-1] if hs else x) @ W + b + sum(hs)
            hs.append(F.layer_norm(F.silu(h), (K,), a, c, 1e-5))
        Wm, bm, Wl, bl, Wo, bo = T[12:]
        draw = torch.tensor(rng([0, step, 0]).standard_normal((len(x), 3)))
        return (hs[-1] @ Wm + bm + ((hs[-1] @ Wl + bl) / 2).exp() * draw) @ Wo + bo

    return network, twin, counts().toarray(), counts().toarray()


NETWORKS = {"neural mf": (neural_mf, "squared"), "autoencoder": (autoencoder, "multinomial"),
            "densely connected": (densely_connected, "multinomial")}
T = torch.optim
OPTIMIZERS = {
    "sgd": ({}, lambda p: T.SGD(p, 0.02)),
    "momentum": ({"mu": 0.8}, lambda p: T.SGD(p, 0.02, momentum=0.8)),
    "nesterov": ({"mu": 0.8}, lambda p: T.SGD(p, 0.02, momentum=0.8, nesterov=True)),
    "adagrad": ({}, lambda p: T.Adagrad(p, 0.02)),
    "rmsprop": ({"rho": 0.9}, lambda p: T.RMSprop(p, 0.02, alpha=0.9)),
    "adam": ({}, lambda p: T.Adam(p, 0.02)),
    "adamw": ({"decay": 0.1}, lambda p: T.AdamW(p, 0.02, weight_decay=0.1)),
    "rprop": ({}, lambda p: T.Rprop(p, 0.02)),
    "adam, decay": ({"decay": 0.1}, lambda p: T.Adam(p, 0.02, weight_decay=0.1)),
    "momentum, decay": ({"decay": 0.1}, lambda p: T.SGD(p, 0.02, momentum=0.9, weight_decay=0.1)),
}


def steps_beside(make, loss, ours, theirs, n_steps=20):
    """Return losses and parameters of both after steps on the same batches, in float64.

    (In float32 an Adam step of a number whose gradient rounds to either sign of 0 may go
    either way.)
    """
    network, twin, x, target = make()
    parameters = network.parameters()
    for parameter in parameters:
        parameter.value, parameter.penalised = parameter.value.astype(np.float64), True
    tensors = [tensor(p.value, True) for p in parameters]
    trainer, stepper = Trainer(network, LOSSES[loss], ours), theirs(tensors)
    both = []
    with Pool(1) as pool:
        for step in range(n_steps):
            rows = rng(step).permutation(N)[:16] if loss == "squared" else np.arange(N)
            batch = x[rows].astype(x.dtype if x.dtype.kind == "i" else np.float64)
            wanted = target[rows].astype(np.float64)
            mine = trainer.step([(batch, (wanted, 1 / N))], pool)
            stepper.zero_grad()
            value = TORCH_LOSSES[loss](twin(tensors, tensor(batch), step), tensor(wanted)) / N
            value.backward()
            stepper.step()
            both.append((mine, value.item()))
    return np.array(both), parameters, tensors


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("kind", NETWORKS)
def test_twenty_steps_of_each_optimizer_agree(kind, name):
    make, loss = NETWORKS[kind]
    options, theirs = OPTIMIZERS[name]
    ours = optimizer(name.split(",")[0], 0.02, **options)
    both, parameters, tensors = steps_beside(make, loss, ours, theirs)
    np.testing.assert_allclose(both[:, 0], both[:, 1], rtol=1e-7)
    for parameter, expected in zip(parameters, tensors, strict=True):
        np.testing.assert_allclose(parameter.value, expected.detach().numpy(), rtol=1e-5,
                                   atol=1e-7)


def test_twenty_lazy_steps_agree_with_sparse_adam():
    table, x = Parameter("T", 0.3 * block(M, K).astype(np.float64)), rng(3).integers(0, M, (20, 9))
    weights = torch.tensor(table.value, requires_grad=True)
    ours = Trainer(Embedding(table), losses.squared, optimizer("adam", 0.02, lazy=True))
    theirs = T.SparseAdam([weights], 0.02)
    target = block(9, K, seed=7).astype(np.float64)
    with Pool(1) as pool:
        for rows in x:
            ours.step([(rows[:, None], (target,))], pool)
            theirs.zero_grad()
            ((F.embedding(torch.tensor(rows), weights, sparse=True)
              - torch.tensor(target))**2).sum().backward()
            theirs.step()
    np.testing.assert_allclose(table.value, weights.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_a_network_in_single_precision_agrees_in_its_gradients():
    network, twin, x, target = neural_mf()
    run = Run()
    y, cache = network.forward(x, run)
    value, dy = losses.squared(y, target)
    network.backward(dy, cache, run)
    tensors = [tensor(p.value, True) for p in network.parameters()]
    expected = TORCH_LOSSES["squared"](twin(tensors, torch.tensor(x)), tensor(target))
    expected.backward()
    assert value == pytest.approx(expected.item(), rel=1e-5)
    for parameter, each in zip(network.parameters(), tensors, strict=True):
        same(run.gradients.dense(parameter), each.grad)


# ---------------------------------------------------------------------- loss curves

def curves(lazy, dtype, n_epochs=4, **options):
    """Return the loss after each epoch of the benchmark's network, by both."""
    R = sp.random_array((60, 50), density=0.9, rng=rng(), dtype=np.float64).tocsr()
    solver, at = neural.solver_of(neural.started(R, K, dtype), lazy)
    epoch = neural.epochs_of_torch(neural.started(R, K, dtype), lazy, **options)
    torch.set_num_threads(1)                    # (its threads spin while they wait for others)
    with Pool(2) as pool:
        return np.array([(solver.epoch(at, pool), epoch(rng([0, number]).permutation(R.nnz)))
                         for number in range(n_epochs)]).T


@pytest.mark.parametrize("kind", ["dense", "lazy"])
def test_loss_curves_are_one_in_double_precision(kind):
    mine, expected = curves(kind == "lazy", np.float64, one_epsilon=True)
    np.testing.assert_allclose(mine, expected, rtol=1e-10)
    assert mine[-1] < 0.99 * mine[0]


@pytest.mark.parametrize("kind", ["dense", "lazy"])
def test_loss_curves_are_close_in_single_precision(kind):
    mine, expected = curves(kind == "lazy", np.float32)
    np.testing.assert_allclose(mine, expected, rtol=1e-4)
