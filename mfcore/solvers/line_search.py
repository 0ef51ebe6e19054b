"""How far to go along a direction: a step that satisfies the strong Wolfe conditions.

φ(t) = L(x + t d), with slope φ'(t) = ∇L(x + t d)·d and φ'(0) < 0.  A step t is long enough, and
not too long, if

    φ(t) < φ(0) + c1 t φ'(0)                    the value falls as the slope at 0 lets expect
    |φ'(t)| <= c2 |φ'(0)|                       the slope has flattened             0 < c1 < c2 < 1

The second gives L-BFGS pairs that keep H positive definite, with s = t d and y = ∇L(x⁺) − ∇L(x):

    sᵀy = t (φ'(t) − φ'(0)) >= t (1 − c2) |φ'(0)| > 0

Search.  `low` is the best point so far that satisfies the first condition.  Steps grow until some
point `high` shows that a minimum lies between it and `low`: it is not below `low`, or φ has turned
upwards.  Then the interval shrinks around the minimum of the cubic through both values and slopes.
With h = t₁ − t₀ and u = (t − t₀) / h,

    φ(u) = φ₀ + h φ'₀ u + (3 δ − 2 h φ'₀ − h φ'₁) u² + (h φ'₀ + h φ'₁ − 2 δ) u³      δ = φ₁ − φ₀
    φ'(u) / h = φ'₀ − 2 (φ'₀ + m) u + (φ'₀ + φ'₁ + 2 m) u²                m = φ'₀ + φ'₁ − 3 δ / h
    φ'(u) = 0  at  u = (φ'₀ + m + r) / (φ'₀ + φ'₁ + 2 m)                r = ±√(m² − φ'₀ φ'₁)
                     = φ'₀ / (φ'₀ + m − r)

a minimum where r has the sign of h.  A point too near to an end would say little: then the middle
is taken.

Sources: Wolfe 1969; Nocedal and Wright 2006, algorithms 3.5 and 3.6.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

# c1 and c2 of quasi-Newton steps; the growth of steps; the part of an interval that must lie on
# each side of a new point; the most points that are tried.
DECREASE, FLAT, GROWTH, MARGIN, MOST = 1e-4, 0.9, 4.0, 0.1, 20


class Point(NamedTuple):
    """A step t, φ(t), φ'(t), and what else was found there."""

    t: float
    value: float
    slope: float
    found: Any = None


def strong_wolfe(at: Callable[[float], Point], start: Point, t: float, *,
                 decrease: float = DECREASE, flat: float = FLAT, most: int = MOST
                 ) -> Point | None:
    """Return a point that satisfies both conditions.

    Parameters
    ----------
    at : callable
        at(t) returns the point of a step; a value that is not finite counts as too high.
    start : Point
        At t = 0, with a slope < 0.
    t : float, > 0
        The first step to try.
    decrease, flat : float
        c1 and c2.
    most : int, >= 1
        Points to try.  After them the best with enough decrease is returned, None if there is
        none: where rounding hides what a step gains.
    """
    low, high = start, None
    for _ in range(most):
        now = at(t)
        if not now.value < start.value + decrease * t * start.slope or now.value >= low.value:
            high = now
        elif abs(now.slope) <= flat * abs(start.slope):
            return now
        else:
            if now.slope * (1 if high is None else high.t - low.t) >= 0:
                high = low
            low = now
        t = GROWTH * low.t if high is None else between(low, high)
    return low if low.t > 0 else None


def between(low: Point, high: Point) -> float:
    """Return where the cubic through two points is least, or their middle if that is at an end."""
    h = high.t - low.t
    m = low.slope + high.slope - 3 * (high.value - low.value) / h
    square = m * m - low.slope * high.slope
    below = low.slope + m - math.copysign(math.sqrt(square), h) if square >= 0 else math.nan
    u = low.slope / below if below else math.nan
    return low.t + h * (u if MARGIN <= u <= 1 - MARGIN else 0.5)
