"""How a rate (or a weight such as β) changes with the steps taken, t = 0, 1, …

Each returns a function of t, with values relative to the rate it multiplies.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from mfcore import validation

Schedule = Callable[[int], float]


def constant() -> Schedule:
    """1."""
    return lambda t: 1.0


def inverse(decay: float) -> Schedule:
    """1 / (1 + decay t): falls slowly enough to reach anywhere, and to settle."""
    validation.real("decay", decay, low=0)
    return lambda t: 1 / (1 + decay * t)


def steps(every: int, factor: float) -> Schedule:
    """factor^⌊t / every⌋: falls by a factor every so many steps."""
    validation.integer("every", every, low=1)
    validation.real("factor", factor, low=0, high=1, above=0)
    return lambda t: float(factor ** (t // every))


def exponential(half_life: float) -> Schedule:
    """2^(−t / half_life)."""
    validation.real("half_life", half_life, above=0)
    return lambda t: float(0.5 ** (t / half_life))


def cosine(n_steps: int, least: float = 0.0) -> Schedule:
    """From 1 down to `least` along half a cosine, and `least` after n_steps."""
    validation.integer("n_steps", n_steps, low=1)
    validation.real("least", least, low=0, high=1)
    return lambda t: least + (1 - least) / 2 * (1 + math.cos(math.pi * min(t / n_steps, 1)))


def ramp(n_steps: int) -> Schedule:
    """From 0 up to 1 in n_steps, and 1 after: warming up a rate, annealing a β."""
    validation.integer("n_steps", n_steps, low=1)
    return lambda t: min(t / n_steps, 1.0)
