"""The checker is itself checked: right gradients pass, slightly wrong ones do not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfcore import gradcheck
from mfcore.gradcheck import GradientCheck, GradientError

SIZE = 6


def scalar_functions():
    """Functions of a vector: name -> (value, gradient), with a point inside the domain."""
    t = np.random.default_rng(7).normal(size=SIZE)
    slope = np.linspace(1.3, 2.9, SIZE)
    H = np.diag(slope) + 0.3
    return {
        "linear": (lambda x: (float(slope @ x) + 11.0, slope.copy()), t),
        "quadratic": (lambda x: (float(x @ H @ x), 2 * H @ x), t),
        "cubic": (lambda x: (float(slope @ x**3), 3 * slope * x**2), t),
        "exponential": (lambda x: (float(np.exp(x).sum()), np.exp(x)), t),
        "logarithm": (lambda x: (float(np.log(x).sum()), 1 / x), 0.01 + np.abs(t)),
        "logistic": (lambda x: (float(np.logaddexp(0, x).sum()), 1 / (1 + np.exp(-x))), t),
        "wave": (lambda x: (float(np.sin(20 * x).sum()), 20 * np.cos(20 * x)), t),
        "quadratic far out": (lambda x: (float(x @ x), 2 * x), 1e8 * t),
        "quadratic close by": (lambda x: (float(x @ x), 2 * x), 1e-8 * t),
        "quadratic less a large constant": (lambda x: (float((x @ x + 1e9) - 1e9), 2 * x), t),
        "quadratic on a large constant": (lambda x: (float(x @ x) + 1e6, 2 * x), t),
    }


FUNCTIONS = scalar_functions()


class Factorization:
    """A weighted factorization with biases in dense form, and one factor to get wrong."""

    def __init__(self, seed=0, n_users=5, n_items=4, k=3, scale=1.0):
        rng = np.random.default_rng(seed)
        self.R = rng.normal(size=(n_users, n_items))
        self.W = rng.uniform(0.0, 2.0, (n_users, n_items))
        self.x = {"P": scale * rng.normal(size=(n_users, k)),
                  "Q": scale * rng.normal(size=(n_items, k)),
                  "bias": scale * rng.normal(size=n_users),
                  "mean": np.array(3.7 * scale)}

    def __call__(self, x, wrong=None, factor=1.0):
        P, Q = x["P"], x["Q"]
        E = self.W * (P @ Q.T + x["bias"][:, None] + x["mean"] - self.R)
        value = np.sum(E * E / np.maximum(self.W, 1e-300)) + 0.37 * np.sum(P * P)
        gradient = {"P": 2 * (E @ Q + 0.37 * P), "Q": 2 * E.T @ P, "bias": 2 * E.sum(1),
                    "mean": np.asarray(2 * E.sum())}
        if wrong is not None:
            gradient[wrong] = factor * gradient[wrong]
        return value, gradient


# ------------------------------------------------------------- what is accepted

@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_right_gradient_passes(name):
    function, x = FUNCTIONS[name]
    result = gradcheck(function, x)
    assert result.ok
    assert result.relative_errors["x"] < 1e-6
    assert result.slopes["x"] > 1.9


def test_the_slope_of_a_quadratic_is_two_and_of_a_linear_function_unbounded():
    assert gradcheck(*FUNCTIONS["quadratic"]).slopes["x"] == pytest.approx(2, abs=1e-3)
    assert gradcheck(*FUNCTIONS["linear"]).slopes["x"] == np.inf


def test_every_block_of_a_dict_is_reported():
    function = Factorization()
    result = gradcheck(function, function.x)
    assert list(result.slopes) == list(result.relative_errors) == ["P", "Q", "bias", "mean"]
    assert all(abs(slope - 2) < 1e-3 for slope in result.slopes.values())


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), shape=st.tuples(*[st.integers(1, 4)] * 3),
       scale=st.sampled_from([1e-3, 1.0, 30.0]))
def test_a_right_factorization_gradient_passes_at_any_scale(seed, shape, scale):
    function = Factorization(seed, *shape, scale=scale)
    assert gradcheck(function, function.x, directions=1, random_state=seed).ok


def test_a_stationary_point_and_a_block_without_effect_pass():
    x = {"used": np.zeros(3), "unused": np.ones(2)}
    result = gradcheck(lambda x: (float(x["used"] @ x["used"]) + 5.0,
                                  {"used": 2 * x["used"], "unused": np.zeros(2)}), x)
    assert result.relative_errors == {"used": 0.0, "unused": 0.0}


def test_an_empty_block_is_left_out():
    x = {"full": np.ones(2), "empty": np.ones((0, 3))}
    result = gradcheck(lambda x: (float(x["full"] @ x["full"]),
                                  {"full": 2 * x["full"], "empty": np.ones((0, 3))}), x)
    assert list(result.slopes) == ["full"]


def test_the_point_is_not_written_to_and_the_seed_decides():
    function, x = FUNCTIONS["exponential"]
    x = x.copy()
    x.flags.writeable = False
    first = gradcheck(function, x, random_state=3)
    assert first == gradcheck(function, x, random_state=3)
    assert first != gradcheck(function, x, random_state=4)
    np.testing.assert_array_equal(x, FUNCTIONS["exponential"][1])


def test_steps_that_leave_the_domain_are_skipped():
    x = np.array([0.01, 0.02])                         # the first steps make x negative
    assert gradcheck(lambda x: (float(np.sqrt(x).sum()), 0.5 / np.sqrt(x)), x).ok


# ------------------------------------------------------------- what is rejected

@pytest.mark.parametrize("factor", [1.001, 0.999, 1.0005, 2.0, 0.5, -1.0, 0.0])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_gradient_off_by_a_factor_is_rejected(name, factor):
    function, x = FUNCTIONS[name]
    with pytest.raises(GradientError, match="gradient of block 'x' is wrong"):
        gradcheck(lambda x: (function(x)[0], factor * function(x)[1]), x)


@pytest.mark.parametrize("factor", [1.001, 0.999, -1.0, 0.5])
@pytest.mark.parametrize("wrong", ["P", "Q", "bias", "mean"])
def test_the_wrong_block_among_right_ones_is_named(wrong, factor):
    function = Factorization()
    with pytest.raises(GradientError) as caught:
        gradcheck(lambda x: function(x, wrong, factor), function.x)
    assert f"block {wrong!r} is wrong" in str(caught.value)
    assert str(caught.value).count("block") == 1


def test_every_wrong_block_is_named():
    def function(x):
        return float(x["a"] @ x["a"] + x["b"] @ x["b"]), {"a": x["a"], "b": -2 * x["b"]}

    with pytest.raises(GradientError, match="block 'a' is wrong.*; .*block 'b' is wrong"):
        gradcheck(function, {"a": np.ones(2), "b": np.ones(3)})


def test_the_coefficient_two_point_zero_zero_one_is_not_two():
    x = np.array([1.7, -0.4])
    assert gradcheck(lambda x: (float(x @ x), 2.0 * x), x).ok
    with pytest.raises(GradientError, match=r"relative error 5\.0e-04"):
        gradcheck(lambda x: (float(x @ x), 2.001 * x), x)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), place=st.integers(0, 99))
def test_one_coefficient_of_a_hundred_off_by_a_tenth_of_a_percent_is_rejected(seed, place):
    off = np.ones(100)
    off[place] = 1.001
    x = np.random.default_rng(seed).uniform(0.8, 1.5, 100)
    with pytest.raises(GradientError):
        gradcheck(lambda x: (float(np.sum(x**3)), 3 * x**2 * off), x, random_state=seed)


def test_a_gradient_in_the_wrong_order_is_rejected():
    function, x = FUNCTIONS["exponential"]
    with pytest.raises(GradientError):
        gradcheck(lambda x: (function(x)[0], function(x)[1][::-1]), x)


def test_a_kink_is_seen_by_the_slope_alone():
    with pytest.raises(GradientError, match=r"relative error 0\.0e\+00.*slope 1\.00"):
        gradcheck(lambda x: (float(np.abs(x).sum()), 0 * x), np.zeros(3))


def test_the_error_carries_what_was_measured():
    function = Factorization()
    with pytest.raises(GradientError) as caught:
        gradcheck(lambda x: function(x, "Q", 1.001), function.x)
    result = caught.value.result
    assert isinstance(result, GradientCheck)
    assert not result.ok
    assert result.slopes["Q"] == pytest.approx(1, abs=0.1)
    assert result.relative_errors["Q"] == pytest.approx(1e-3, rel=0.01)
    assert result.relative_errors["P"] < 1e-6


@pytest.mark.parametrize("function", [
    lambda x: (1e15 + float(x @ x), 2 * x),                # rounding above the change
    lambda x: (1e11 + float(x @ x), 2 * x),                # rounding below it, but too near
    lambda x: (float(x @ x) + 0.1 * float(np.random.default_rng().normal()), 2 * x),
])
def test_a_function_hidden_by_its_rounding_is_refused(function):
    with pytest.raises(GradientError, match="cannot be checked: the function changes by"):
        gradcheck(function, np.array([0.3, -0.2, 0.25]))


def test_a_function_in_single_precision_is_refused():
    with pytest.raises(GradientError):
        gradcheck(lambda x: (float(np.float32(1e4) + np.float32(x @ x)), 2 * x), np.ones(3))


def test_a_point_on_the_edge_of_the_domain_is_refused():
    with pytest.raises(GradientError, match="not finite around x"):
        gradcheck(lambda x: (float(np.sqrt(x).sum()), np.ones_like(x)), np.zeros(2))


@pytest.mark.parametrize(("value", "slope"), [(np.nan, 1.0), (np.inf, 1.0), (1.0, np.nan)])
def test_values_and_gradients_must_be_finite(value, slope):
    with pytest.raises(GradientError, match="must be finite.*block 'x'"):
        gradcheck(lambda x: (value, np.full(2, slope)), np.ones(2))


@pytest.mark.parametrize(("x", "value", "gradient"), [
    (np.ones(2, np.float32), 1.0, np.ones(2)),
    (np.ones(2, int), 1.0, np.ones(2)),
    (np.ones(2), 1.0, np.ones(2, np.float32)),
    (np.ones(2), np.float32(1), np.ones(2)),
    (np.ones(2), 1, np.ones(2)),
])
def test_anything_but_float64_is_refused(x, value, gradient):
    with pytest.raises(TypeError, match="must be float64"):
        gradcheck(lambda x: (value, gradient), x)


@pytest.mark.parametrize("gradient", [{"a": np.ones(2)}, {"a": np.ones(2), "b": np.ones(2)},
                                      {"a": np.ones(2), "b": np.ones(3), "c": np.ones(1)}])
def test_a_gradient_of_other_blocks_or_shapes_is_refused(gradient):
    with pytest.raises(ValueError, match=r"blocks of x, \{a: \(2,\), b: \(3,\)\}, got"):
        gradcheck(lambda x: (1.0, gradient), {"a": np.ones(2), "b": np.ones(3)})


@pytest.mark.parametrize(("directions", "error"), [(0, ValueError), (1.5, TypeError)])
def test_directions_must_be_a_positive_integer(directions, error):
    with pytest.raises(error, match="directions"):
        gradcheck(*FUNCTIONS["linear"], directions=directions)


def test_a_function_that_returns_no_pair_is_refused():
    with pytest.raises(TypeError, match=r"must return \(value, gradient\), got float"):
        gradcheck(lambda x: float(x @ x), np.array([0.3, 0.7]))
    assert gradcheck(lambda x: [float(x @ x), 2 * x], np.array([0.3, 0.7])).slopes["x"] > 1.9
