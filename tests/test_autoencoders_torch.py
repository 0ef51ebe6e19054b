"""Whole autoencoders beside PyTorch, step for step, with the same numbers drawn."""

from __future__ import annotations

import numpy as np
import pytest
import samples

from mfcore import MultVAE, RatingAutoencoder, Ratings, RecVAE
from mfcore.models.sides import Sides, sides_of
from mfcore.nn.parameters import packed
from mfcore.objectives.biases import mean_rating
from mfcore.parallel import Pool

torch = pytest.importorskip("torch", reason="PyTorch is installed for Python 3.11 alone")
F = torch.nn.functional

CELLS, STEPS = samples.counts(24, 17), 15
CLOSE = {"rtol": 2e-4, "atol": 2e-5}
ROWS = np.arange(24)


def begun(made, **params):
    """Return network, first stage, and copies of all parameters as tensors."""
    model = samples.small(made, **params)
    ratings = Ratings(CELLS)
    model.remember(ratings, sides_of(model, ratings, None, None), mean_rating(ratings))
    model.check(ratings)
    model.recipe.offset(model, ratings, Sides(model.users_, model.items_))
    random = np.random.default_rng(0)
    network = model.recipe.network(model, CELLS.shape, random)
    for number, p in enumerate(network.parameters()):          # offsets that are not 0
        p.value = p.value + 0.1 * np.random.default_rng(number).normal(
            size=p.value.shape).astype(np.float32)
    packed(network.parameters())
    stages = model.recipe.solver(model, network, ratings, random).stages
    tensors = [torch.tensor(p.value.copy(), requires_grad=True) for p in network.parameters()]
    return network, stages, tensors


def steps(stage, tensors, loss, n=STEPS):
    """Take steps with both; yield the two losses."""
    adam = torch.optim.Adam(tensors, lr=stage.trainer.optimizer.rate)
    for number in range(n):
        batch = stage.make(ROWS, np.random.default_rng(number), Pool(1))
        noise = np.random.default_rng((stage.trainer.seed, number, 0))
        ours = stage.trainer.step([(batch, ())], Pool(1), 1 / (len(ROWS) * stage.size))
        adam.zero_grad()
        theirs = loss(tensors, batch, noise) / (len(ROWS) * stage.size)
        theirs.backward()
        adam.step()
        yield ours, theirs.item()


def agree(network, stage, tensors, loss):
    for ours, theirs in steps(stage, tensors, loss):
        assert ours == pytest.approx(theirs, rel=1e-4)
    for p, tensor in zip(network.parameters(), tensors, strict=True):
        np.testing.assert_allclose(p.value, tensor.detach().numpy(), **CLOSE)


def dense(x):
    return torch.tensor(x.toarray())


def draw(noise, shape):
    return torch.tensor(noise.standard_normal(shape).astype(np.float32))


LIKELIHOODS = {
    "multinomial": lambda s, x: -(torch.log_softmax(s, 1) * x).sum(),
    "gaussian": lambda s, x: ((s - x) ** 2).sum() / 2,
    "bernoulli": lambda s, x: F.binary_cross_entropy_with_logits(s, x, reduction="sum")}


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_multvae_takes_the_same_steps(likelihood):
    network, (stage,), tensors = begun(MultVAE, likelihood=likelihood, dropout=0.0, beta=0.3,
                                       anneal=5, learning_rate=0.01)

    def loss(tensors, batch, noise):
        (W1, b1, W2, b2, W3, b3, W4, b4), (x, target, beta) = tensors, batch
        mean, log_variance = (torch.tanh(dense(x) @ W1 + b1) @ W2 + b2).chunk(2, 1)
        z = mean + torch.exp(log_variance / 2) * draw(noise, mean.shape)
        s = torch.tanh(z @ W3 + b3) @ W4.T + b4
        kl = (log_variance.exp() + mean ** 2 - 1 - log_variance).sum() / 2
        return LIKELIHOODS[likelihood](s, dense(target.x)) + beta * kl

    agree(network, stage, tensors, loss)


def test_recvae_takes_the_same_steps():
    network, (stage, _), tensors = begun(RecVAE, dropout=0.0, learning_rate=0.01)

    def normal(z, mean, log_variance):
        return -(log_variance + (z - mean) ** 2 / log_variance.exp()) / 2

    def loss(tensors, batch, noise):
        (W1, b1, a1, c1, W2, b2, a2, c2, W3, b3, W4, b4) = tensors
        x, target, beta, old = batch
        h1 = F.layer_norm(F.silu(dense(x) @ W1 + b1), (6,), a1, c1, eps=0.1)
        h2 = F.layer_norm(F.silu(h1 @ W2 + b2 + h1), (6,), a2, c2, eps=0.1)
        mean, log_variance = (h2 @ W3 + b3).chunk(2, 1)
        z = mean + torch.exp(log_variance / 2) * draw(noise, mean.shape)
        before = [torch.tensor(block) for block in old]
        wide = torch.full_like(mean, 10.0)
        prior = torch.logsumexp(torch.stack([
            np.log(0.15) + normal(z, 0 * mean, 0 * mean), np.log(0.75) + normal(z, *before),
            np.log(0.1) + normal(z, 0 * mean, wide)]), 0)
        cost = (torch.tensor(beta) * (normal(z, mean, log_variance) - prior)).sum()
        s = z @ W4.T + b4
        return LIKELIHOODS["multinomial"](s, dense(target.x)) + cost

    stage.moved = network.parameters()
    stage.enter()
    for parameter in network.parameters():
        parameter.frozen = False
    agree(network, stage, tensors, loss)


@pytest.mark.parametrize("inputs", ["all", "observed"])
def test_masked_contractive_autoencoders_take_the_same_steps(inputs):
    network, (stage,), tensors = begun(
        RatingAutoencoder, hidden=(5, 4), mask=0.3, mask_weights=(1.2, 0.4), contractive=0.7,
        contractive_inputs=inputs, activation="tanh", reg=0.0, learning_rate=0.01)

    def loss(tensors, batch, noise):
        (W1, b1, W2, b2, W3, b3, W4, b4), (x, target) = tensors, batch
        h = torch.tanh(dense(x) @ W1 + b1)
        s = torch.tanh(torch.tanh(h @ W2 + b2) @ W3 + b3) @ W4.T + b4
        known = torch.tensor(samples.stored(target.x))
        errors = (s[known] - dense(target.x)[known]) ** 2
        stored = torch.tensor(samples.stored(x)).float() if inputs == "observed" else \
            torch.ones_like(s)
        penalty = ((1 - h ** 2) ** 2 * (stored @ W1 ** 2)).sum()
        return (torch.tensor(target.weights) * errors).sum() + 0.7 * penalty

    agree(network, stage, tensors, loss)
