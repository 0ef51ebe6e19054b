"""Steps by the strong Wolfe conditions: they hold, and SciPy's search finds the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import line_search, rosen, rosen_der

from mfcore.solvers.line_search import DECREASE, FLAT, Point, between, strong_wolfe

# φ and φ' with φ'(0) < 0.
CURVES = {
    "parabola": (lambda t: (t - 2) ** 2, lambda t: 2 * (t - 2)),
    "far away": (lambda t: -t / (t * t + 2), lambda t: (t * t - 2) / (t * t + 2) ** 2),
    "steep wall": (lambda t: math.exp(min(5 * t, 700)) - 20 * t,
                   lambda t: 5 * math.exp(min(5 * t, 700)) - 20),
    "waves": (lambda t: 0.1 * t * t - math.sin(4 * t), lambda t: 0.2 * t - 4 * math.cos(4 * t)),
    "flat": (lambda t: -math.log1p(t) + 0.01 * t, lambda t: 0.01 - 1 / (1 + t)),
}


def on(name, tried=None):
    value, slope = CURVES[name]

    def at(t):
        if tried is not None:
            tried.append(t)
        return Point(t, value(t), slope(t))
    return at


@pytest.mark.parametrize("first", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("flat", [0.1, FLAT])
@pytest.mark.parametrize("name", CURVES)
def test_both_conditions_hold(name, flat, first):
    at = on(name)
    start = at(0.0)
    found = strong_wolfe(at, start, first, flat=flat, most=40)
    assert found.value <= start.value + DECREASE * found.t * start.slope
    assert abs(found.slope) <= flat * abs(start.slope)


@pytest.mark.parametrize("name", ["parabola", "far away", "flat"])
def test_scipy_finds_the_same_step_where_only_one_is_flat_enough(name):
    value, slope = CURVES[name]
    twin = line_search(lambda x: value(x[0]), lambda x: np.array([slope(x[0])]), np.zeros(1),
                       np.ones(1), c1=1e-5, c2=1e-4, maxiter=60, amax=1e4)[0]
    found = strong_wolfe(on(name), on(name)(0.0), 1.0, decrease=1e-5, flat=1e-4,
                         most=60)
    assert found.t == pytest.approx(twin, rel=2e-2)


def test_along_directions_of_a_function_of_many_variables_scipys_conditions_hold_too():
    random = np.random.default_rng(0)
    for _ in range(20):
        x = random.normal(size=6)
        d = -rosen_der(x) / np.linalg.norm(rosen_der(x))
        slope = float(d @ rosen_der(x))
        found = strong_wolfe(lambda t, x=x, d=d: Point(t, rosen(x + t * d),
                                                       rosen_der(x + t * d) @ d),
                             Point(0.0, rosen(x), slope), 1.0, flat=0.1)
        twin = line_search(rosen, rosen_der, x, d, c1=DECREASE, c2=0.1)
        assert twin[0] is not None
        assert found.value <= rosen(x) + DECREASE * found.t * slope
        assert abs(found.slope) <= 0.1 * abs(slope)


def test_between_two_points_of_a_cubic_lies_its_minimum():
    cubic = np.poly1d([1.0, -4.0, 1.0, 2.0])                     # least at t = 2.54
    slope = cubic.deriv()
    ends = [Point(t, cubic(t), slope(t)) for t in (1.0, 4.0)]
    for low, high in (ends, ends[::-1]):
        assert between(low, high) == pytest.approx(max(slope.r), rel=1e-12)
    assert between(ends[0]._replace(slope=math.nan), ends[1]) == 2.5


def test_values_that_are_not_finite_are_too_high():
    def at(t):
        return Point(t, math.inf, math.nan) if t > 0.3 else Point(t, (t - 1) ** 2, 2 * (t - 1))

    assert 0 < strong_wolfe(at, at(0.0), 1.0).t <= 0.3


def test_where_nothing_falls_there_is_no_step():
    assert strong_wolfe(lambda t: Point(t, 1.0 + t, 1.0), Point(0.0, 1.0, -1.0), 1.0) is None


def test_the_best_with_enough_decrease_is_kept_when_no_point_is_flat():
    tried = []
    found = strong_wolfe(on("parabola", tried), on("parabola")(0.0), 1e-3, most=3)
    assert len(tried) == 3
    assert found.t == max(tried)
