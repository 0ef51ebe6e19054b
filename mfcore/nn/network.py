"""A step of training: parts of a batch go forward and back, and their gradients move parameters.

A layer of a small network does too little work to divide among threads.  So a batch is cut into
fixed parts, each part goes through the whole network on one thread, and the gradients of the
parts are added in order: the same bits for any number of threads.  A large network takes its
batch as one part, and its layers divide their products among threads.

Each part draws from its own generator, seeded by (seed, step, part).

A trained network of pairs serves scores, computed in fixed groups of pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore.nn.layers import Layer, Run
from mfcore.nn.losses import Loss
from mfcore.nn.optimizers import Optimizer
from mfcore.nn.parameters import Gradients, Parameter, clip
from mfcore.parallel import Pool, row_chunks
from mfcore.validation import DivergenceError

PAIRS = 8192      # pairs that go through the network together when serving

# One part of a batch: the network's input, and the arguments of the loss after the scores.
Part = tuple[Any, tuple[Any, ...]]


def value_and_gradients(network: Layer, loss: Loss, parts: Sequence[Part], pool: Pool,
                        seed: Sequence[int] | None = None, share: float = 1.0,
                        apart: bool = False) -> tuple[float, Gradients]:
    """Return Σ loss(network(x), *target) + penalties over the parts, and its gradients.

    Parameters
    ----------
    network : Layer
    loss : callable
        loss(y, *target) returns (value, ∂value/∂y).
    parts : sequence of (x, target)
    seed : sequence of int, or None
        With None nothing is drawn, as when serving.
    share : float
        What penalties of single rows are multiplied by.
    apart : bool
        As in `Run`.
    """
    def one(number: int, x: Any, target: tuple[Any, ...]) -> tuple[float, Gradients]:
        run = Run(pool if len(parts) == 1 else Pool(1), share=share, apart=apart,
                  seed=None if seed is None else (*seed, number))
        with np.errstate(over="ignore", invalid="ignore"):    # (the value shows it)
            y, cache = network.forward(x, run)
            value, dy = loss(y, *target)
            value += run.penalty
            if math.isfinite(value):                          # (else no gradient will be used)
                network.backward(dy, cache, run)
        return value, run.gradients

    (value, gradients), *rest = pool.map(one, [(number, *part) for number, part
                                               in enumerate(parts)])
    for more, others in rest:
        value += more
        gradients.merge(others)
    return value, gradients


@dataclass
class Trainer:
    """A network, what it minimises, and how.

    Parameters
    ----------
    network : Layer
    loss : callable
        loss(y, *target) returns (value, ∂value/∂y).
    optimizer : Optimizer
    seed : int, >= 0
        Determines, with the number of the step, all that is drawn.
    most : float, > 0
        Longer gradients are scaled down to this length.
    """

    network: Layer
    loss: Loss
    optimizer: Optimizer
    seed: int = 0
    most: float = math.inf

    def step(self, parts: Sequence[Part], pool: Pool, share: float = 1.0,
             fed_back: bool = False) -> float:
        """Take one step on a batch, cut into parts; return its loss before the step.

        Penalties of single rows are multiplied by `share`: 1 / n if the loss is a mean.
        `fed_back` says that the batch is the output of a network, and not data.

        Raises
        ------
        ValueError
            For NaN or infinity in the batch.
        DivergenceError
            If the loss is not finite although the batch is; it names step and rate, and the
            parameters stay as they were.
        """
        number = self.optimizer.t
        value, gradients = value_and_gradients(self.network, self.loss, parts, pool,
                                               (self.seed, number), share)
        if not math.isfinite(value):
            self._explain(value, number, () if fed_back else parts)
        if self.most < math.inf:
            clip(gradients, self.most)
        self.optimizer.step(gradients, pool)
        return value

    def state(self, parameters: list[Parameter]) -> dict[str, np.ndarray]:
        """Return the seed and what the optimizer continues from."""
        return {"seed_of_steps": np.array(self.seed), **self.optimizer.state(parameters)}

    def resume(self, parameters: list[Parameter], state: dict[str, np.ndarray]) -> None:
        """Continue from the result of `state`, to the same bits."""
        self.seed = int(state.get("seed_of_steps", self.seed))      # (older files have none)
        self.optimizer.resume(parameters, state)

    def _explain(self, value: float, number: int, parts: Sequence[Part]) -> None:
        """Raise for a loss that is not finite, and blame the batch or the learning rate."""
        for x, target in parts:
            for name, block in (("the batch", x), *(("the target", each) for each in target)):
                if not _is_finite(block):
                    raise ValueError(f"{name} of step {number + 1} must be finite, got NaN or "
                                     f"infinity; drop or fill these cells first")
        rate = self.optimizer.rate * self.optimizer.schedule(number)
        raise DivergenceError(f"step {number + 1}: the loss is {value} at rate {rate:g}; "
                              f"lower the learning rate, or clip gradients")


def _is_finite(block: Any) -> bool:
    if isinstance(block, tuple):
        return all(map(_is_finite, block))
    numbers = np.asarray(block.data if sp.issparse(block) else block)
    return numbers.dtype.kind != "f" or bool(np.isfinite(numbers).all())


class Blocks:
    """The parameters of a network as one point of a space, blocks by name: see `loop.run`."""

    def __init__(self, **blocks: np.ndarray) -> None:
        vars(self).update(blocks)

    def copy(self) -> Blocks:
        """Return a copy that shares no memory."""
        return Blocks(**{name: block.copy() for name, block in vars(self).items()})


def blocks_of(parameters: Sequence[Parameter]) -> Blocks:
    """Return the values of parameters (views) by name; names must be distinct."""
    return Blocks(**{parameter.name: parameter.value for parameter in parameters})


def network_scores(network: Layer, pairs: np.ndarray, pool: Pool, apart: bool = False
                   ) -> np.ndarray:
    """Return the scores of pairs (n, 2), shape (n,); `apart` as in `Run`."""
    def some(start: int, stop: int) -> np.ndarray:
        scores: np.ndarray = network.forward(pairs[start:stop], Run(apart=apart))[0][:, 0]
        return scores

    return np.concatenate(pool.map(some, row_chunks(len(pairs), PAIRS) or [(0, 0)]))


class NetworkScorer:
    """Scores of blocks of users against all items, for `top_k`.

    Parameters
    ----------
    network : Layer
        From pairs (n, 2) of user and item to scores (n, 1).
    n_rows, n_items : int
    mean, scale : float
        Scores are mean + scale times what the network says.

    Notes
    -----
    A user's scores are computed alone, so they do not depend on the block.
    """

    def __init__(self, network: Layer, n_rows: int, n_items: int, mean: float = 0.0,
                 scale: float = 1.0) -> None:
        self.network, self.n_rows, self.n_items = network, n_rows, n_items
        self.mean, self.scale = mean, scale

    def block(self, start: int, stop: int) -> np.ndarray:
        """Return the scores of rows start..stop, shape (stop - start, n_items)."""
        pairs, serial = np.empty((self.n_items, 2), np.int64), Pool(1)
        pairs[:, 1] = np.arange(self.n_items)
        rows = []
        for row in range(start, stop):
            pairs[:, 0] = row
            rows.append(self.mean + self.scale * network_scores(self.network, pairs, serial))
        dtype = self.network.parameters()[0].value.dtype
        return np.array(rows, dtype).reshape(stop - start, self.n_items)

    def rounding(self, start: int, stop: int) -> None:
        """Return None: a user's scores are computed alone."""
