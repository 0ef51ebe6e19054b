"""Optimizers: how far each number x moves for a gradient g at rate η.

    sgd         x ← x − η g
    momentum    m ← μ m + g                       x ← x − η m
    nesterov    m ← μ m + g                       x ← x − η (g + μ m)
    adagrad     h ← h + g²                        x ← x − η g / (√h + ε)
    rmsprop     v ← ρ v + (1 − ρ) g²              x ← x − η g / (√v + ε)
    adam        m ← β1 m + (1 − β1) g             v ← β2 v + (1 − β2) g²
                x ← x − η (m / (1 − β1ᵗ)) / (√(v / (1 − β2ᵗ)) + ε)
    adamw       adam, and also x ← x − η λ x: the decay does not enter m and v
    rprop       each number has its own step, which grows while the sign of g stays

Adam's corrections: m starts at 0, so that after t equal gradients m = (1 − β1ᵗ) g and
v = (1 − β2ᵗ) g²; dividing gives g and g².

`decay` λ' adds λ' x, the gradient of ½ λ' ‖x‖², to the gradient of penalised parameters: for
a penalty λ ‖x‖², pass 2λ.  That of adamw is λ above.

Lazy.  A gradient that is `Rows` of a table can move only these rows (`lazy=True`, known as
"sparse" Adam elsewhere; t still counts all steps).  Otherwise it is zero for all other rows:
their m and v fade, and m still moves them.  Without memory both are the same, up to decay.
rprop is for whole batches, where lazy has no meaning.

State is one table per parameter, (n_rows, n_states, k), so that all states of a row lie
together.  Each row is moved in one pass, with chunks of rows on the pool.

Sources: Polyak 1964; Nesterov 1983, in the form of Sutskever et al. 2013; Duchi, Hazan, Singer
2011; Tieleman, Hinton 2012; Kingma, Ba 2015; Loshchilov, Hutter 2019; Riedmiller, Braun 1993.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from mfcore import validation
from mfcore.kernels import nn_update as kernels
from mfcore.nn.parameters import Gradient, Gradients, Parameter, Rows
from mfcore.parallel import Pool, row_chunks

# The factor of a rate after t = 0, 1, … steps.
Schedule = Callable[[int], float]

# Numbers that a thread moves at a time.  It takes as long as waking a thread: 0.1 ms.
CHUNK_NUMBERS = 1 << 18


class Optimizer:
    """Base class: a rate, a decay, and a table of memory per parameter.

    Parameters
    ----------
    rate : float, > 0
        η.
    decay : float, >= 0
        λ', added as λ' x to the gradient of penalised parameters.
    lazy : bool
        Whether rows without a gradient stay as they are.
    schedule : Schedule or None
        Factor of the rate as a function of the steps taken; None for 1.
    """

    kernel: Any = staticmethod(kernels.sgd)
    n_states = 0

    def __init__(self, rate: float, *, decay: float = 0.0, lazy: bool = False,
                 schedule: Schedule | None = None) -> None:
        self.rate = validation.real("rate", rate, above=0)
        self.decay = validation.real("decay", decay, low=0)
        self.lazy = validation.boolean("lazy", lazy)
        self.schedule = schedule or (lambda t: 1.0)
        self.t = 0
        self._records: dict[Parameter, _Record] = {}

    def constants(self, rate: float, penalised: bool) -> list[float]:
        """Return what the kernel needs after rate and decay, in step t = 1, 2, …"""
        return []

    def start(self, state: np.ndarray) -> None:
        """Fill the memory of a parameter, zeros so far, before its first step."""

    def step(self, gradients: Gradients, pool: Pool) -> None:
        """Move every parameter that has a gradient and is not frozen."""
        self.t += 1
        rate = self.rate * self.schedule(self.t - 1)
        c = {penalised: np.array([rate, self.decay * penalised,
                                  *self.constants(rate, penalised)])
             for penalised in (False, True)}
        moves = [(*move, c[parameter.penalised]) for parameter in gradients
                 if not parameter.frozen
                 for move in self._record(parameter).moves(gradients[parameter], self.lazy)]

        def run(*some: tuple[Any, ...]) -> None:
            for move in some:
                self.kernel(*move)

        pool.map(run, _grouped(moves))

    def memory(self, parameter: Parameter) -> np.ndarray:
        """Return the memory of a parameter, shape (n_rows, n_states, k)."""
        return self._record(parameter).S

    def memories(self) -> list[np.ndarray]:
        """Return the memory of all parameters that have moved."""
        return [record.S for record in self._records.values()]

    def _record(self, parameter: Parameter) -> _Record:
        if parameter not in self._records:
            X = _table(parameter.value)
            S = np.zeros((len(X), self.n_states, X.shape[1]), X.dtype)
            self.start(S)
            self._records[parameter] = _Record(X, S)
        return self._records[parameter]

    # ---------------------------------------------------------------- checkpoints

    def state(self, parameters: list[Parameter]) -> dict[str, np.ndarray]:
        """Return all that the next step continues from, by names that follow the list's order."""
        memory = {f"memory_{number}": self.memory(parameter)
                  for number, parameter in enumerate(parameters)}
        return {"t": np.array(self.t), **memory}

    def resume(self, parameters: list[Parameter], state: dict[str, np.ndarray]) -> None:
        """Continue from the result of `state`, to the same bits."""
        self.t = int(state["t"])
        for number, parameter in enumerate(parameters):
            self.memory(parameter)[...] = state[f"memory_{number}"]


def _table(block: np.ndarray) -> np.ndarray:
    return block if block.ndim == 2 else block.reshape(1, -1)


class _Record:
    """A parameter as a table X, its memory S, and the size of chunks of its rows."""

    def __init__(self, X: np.ndarray, S: np.ndarray) -> None:
        self.X, self.S = X, S
        self.every = np.arange(len(X))
        self.size = max(1, CHUNK_NUMBERS // max(1, X.shape[1]))

    def moves(self, gradient: Gradient, lazy: bool) -> list[tuple[np.ndarray, ...]]:
        """Return (rows, lines, G, X, S) of chunks of the rows that move."""
        rows, lines, G = self._listed(gradient, lazy)
        return [(rows[lo:hi], lines[lo:hi], G, self.X, self.S)
                for lo, hi in row_chunks(len(rows), self.size)]

    def _listed(self, gradient: Gradient, lazy: bool
                ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the rows that move, which line of G is the gradient of each, and G."""
        if not isinstance(gradient, Rows):
            return self.every, self.every, _table(gradient)
        n = len(gradient.rows)
        if lazy:
            return gradient.rows, np.arange(n), gradient.values
        zero = np.zeros((1, self.X.shape[1]), self.X.dtype)
        lines = np.full(len(self.X), n)
        lines[gradient.rows] = np.arange(n)
        return self.every, lines, np.concatenate([gradient.values, zero])


def _grouped(moves: list[tuple[Any, ...]]) -> list[tuple[tuple[Any, ...], ...]]:
    """Return moves in groups that are worth waking a thread: many parameters are small."""
    groups: list[list[tuple[Any, ...]]] = []
    room = 0
    for move in moves:
        if room <= 0:
            groups.append([])
            room = CHUNK_NUMBERS
        groups[-1].append(move)
        room -= len(move[0]) * move[3].shape[1]
    return [tuple(group) for group in groups]


class SGD(Optimizer):
    """x ← x − η g."""


class Momentum(Optimizer):
    """m ← μ m + g, x ← x − η m; μ in [0, 1)."""

    kernel, n_states = staticmethod(kernels.momentum), 1

    def __init__(self, rate: float, *, mu: float = 0.9, **options: Any) -> None:
        super().__init__(rate, **options)
        self.mu = validation.real("mu", mu, low=0, high=1)

    def constants(self, rate: float, penalised: bool) -> list[float]:
        """Return [μ]."""
        return [self.mu]


class Nesterov(Momentum):
    """m ← μ m + g, x ← x − η (g + μ m): momentum with a look ahead."""

    kernel = staticmethod(kernels.nesterov)


class AdaGrad(Optimizer):
    """x ← x − η g / (√Σ g² + ε)."""

    kernel, n_states = staticmethod(kernels.adagrad), 1

    def __init__(self, rate: float, *, epsilon: float = 1e-10, **options: Any) -> None:
        super().__init__(rate, **options)
        self.epsilon = validation.real("epsilon", epsilon, low=0)

    def constants(self, rate: float, penalised: bool) -> list[float]:
        """Return [ε]."""
        return [self.epsilon]


class RMSprop(Optimizer):
    """x ← x − η g / (√v + ε), v a running mean of g²."""

    kernel, n_states = staticmethod(kernels.rmsprop), 1

    def __init__(self, rate: float, *, rho: float = 0.99, epsilon: float = 1e-8,
                 **options: Any) -> None:
        super().__init__(rate, **options)
        self.rho = validation.real("rho", rho, low=0, high=1)
        self.epsilon = validation.real("epsilon", epsilon, low=0)

    def constants(self, rate: float, penalised: bool) -> list[float]:
        """Return [ρ, ε]."""
        return [self.rho, self.epsilon]


class Adam(Optimizer):
    """x ← x − η m̂ / (√v̂ + ε), where m̂ and v̂ are corrected running means of g and g²."""

    kernel, n_states = staticmethod(kernels.adam), 2
    decoupled = 0.0

    def __init__(self, rate: float, *, betas: tuple[float, float] = (0.9, 0.999),
                 epsilon: float = 1e-8, **options: Any) -> None:
        super().__init__(rate, **options)
        self.betas = tuple(validation.real("betas", beta, low=0, high=1) for beta in betas)
        self.epsilon = validation.real("epsilon", epsilon, low=0)

    def constants(self, rate: float, penalised: bool) -> list[float]:
        """Return [β1, β2, ε, η / (1 − β1ᵗ), √(1 − β2ᵗ), η λ]."""
        b1, b2 = self.betas
        return [b1, b2, self.epsilon, rate / (1 - b1 ** self.t), (1 - b2 ** self.t) ** 0.5,
                rate * self.decoupled * penalised]


class AdamW(Adam):
    """Adam with a decoupled decay λ, outside of the gradient: x ← (1 − η λ) x first."""

    def __init__(self, rate: float, *, decay: float = 0.01, **options: Any) -> None:
        super().__init__(rate, **options)
        self.decoupled = validation.real("decay", decay, low=0)


class Rprop(Optimizer):
    """Steps of their own length per number; the rate is the first length.

    A step is multiplied by `longer` while the gradient keeps its sign, and by `shorter` when the
    sign turns (that gradient is skipped), within `bounds`.  Only signs count: batches must be the
    whole data, or the signs are noise.
    """

    kernel, n_states = staticmethod(kernels.rprop), 2

    def __init__(self, rate: float, *, factors: tuple[float, float] = (0.5, 1.2),
                 bounds: tuple[float, float] = (1e-6, 50.0), **options: Any) -> None:
        super().__init__(rate, **options)
        if self.lazy:
            raise ValueError("lazy=True has no meaning for rprop: it needs whole batches")
        self.factors, self.bounds = factors, bounds

    def constants(self, rate: float, penalised: bool) -> list[float]:
        """Return [shorter, longer, least, most]."""
        return [*self.factors, *self.bounds]

    def start(self, state: np.ndarray) -> None:
        """Set all steps to the rate."""
        state[:, 1] = self.rate


OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": SGD, "momentum": Momentum, "nesterov": Nesterov, "adagrad": AdaGrad,
    "rmsprop": RMSprop, "adam": Adam, "adamw": AdamW, "rprop": Rprop}


def optimizer(name: str, rate: float, **options: Any) -> Optimizer:
    """Return an optimizer by name; ValueError for an unknown name lists the known ones."""
    validation.choice("optimizer", name, OPTIMIZERS)
    return OPTIMIZERS[name](rate, **options)


def inverse_decay(decay: float) -> Schedule:
    """1 / (1 + decay t): the sum of the rates diverges, that of their squares converges."""
    validation.real("decay", decay, low=0)
    return lambda t: 1 / (1 + decay * t)


def cosine_decay(n_steps: int, least: float = 0.0) -> Schedule:
    """From 1 down to `least` along half a cosine in n_steps, then `least`."""
    validation.integer("n_steps", n_steps, low=1)
    validation.real("least", least, low=0, high=1)
    return lambda t: least + (1 - least) / 2 * (1 + math.cos(math.pi * min(t / n_steps, 1)))
