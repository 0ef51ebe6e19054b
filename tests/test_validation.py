"""Every complaint names the value, says what is demanded and shows what came."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from mfcore import validation as v


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_any_kind_of_integer_comes_back_as_int(value):
    checked = v.integer("n", value, low=1)
    assert checked == 3
    assert type(checked) is int


@pytest.mark.parametrize("value", [True, np.bool_(True), 3.0, "3", None, [3], np.array([3])])
def test_what_is_no_integer_is_refused(value):
    with pytest.raises(TypeError, match="n must be an integer, got"):
        v.integer("n", value)


def test_integers_out_of_range_are_refused():
    assert v.integer("n", 0) == 0
    assert v.integer("n", 5, low=1, high=5) == 5
    with pytest.raises(ValueError, match="n must be >= 0, got -1"):
        v.integer("n", -1)
    with pytest.raises(ValueError, match=r"n must be in \[1, 5\], got 6"):
        v.integer("n", 6, low=1, high=5)
    with pytest.raises(ValueError, match=r"n must be in \[1, 5\], got 0"):
        v.integer("n", 0, low=1, high=5)


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), Fraction(1, 2)])
def test_any_kind_of_real_comes_back_as_float(value):
    checked = v.real("reg", value)
    assert checked == 0.5
    assert type(checked) is float
    assert type(v.real("reg", 2)) is float


@pytest.mark.parametrize("value", [True, np.bool_(False), "0.5", None, 1j, Decimal("0.5")])
def test_what_is_no_real_is_refused(value):
    with pytest.raises(TypeError, match="reg must be a real number, got"):
        v.real("reg", value)


@pytest.mark.parametrize(("value", "limits", "message"), [
    (-0.1, {"low": 0}, "regularization must be finite and >= 0, got -0.1"),
    (2, {"high": 1}, "regularization must be finite and <= 1, got 2"),
    (2, {"low": 0, "high": 1}, "regularization must be finite and in [0, 1], got 2"),
    (0, {"above": 0}, "regularization must be finite and > 0, got 0"),
    (2, {"above": 0, "high": 1}, "regularization must be finite and > 0 and <= 1, got 2"),
    (np.nan, {}, "regularization must be finite, got nan"),
    (np.inf, {"low": 0}, "regularization must be finite and >= 0, got inf"),
    (-np.inf, {}, "regularization must be finite, got -inf"),
])
def test_reals_out_of_range_are_refused_with_the_range(value, limits, message):
    with pytest.raises(ValueError, match=re.escape(message) + "$"):
        v.real("regularization", value, **limits)


def test_the_ends_of_a_closed_range_belong_to_it():
    assert v.real("x", 0, low=0, high=1) == 0
    assert v.real("x", 1, low=0, high=1) == 1
    assert v.real("x", 1, above=0, high=1) == 1


def test_a_choice_is_one_of_the_known_or_an_error_that_lists_them():
    assert v.choice("solver", "cg", ("cg", "cholesky")) == "cg"
    assert v.choice("bias", None, ("mean", None)) is None
    for wrong in ("CG", None, 1, ["cg"]):
        with pytest.raises(ValueError, match="solver must be one of 'cg', 'cholesky', got"):
            v.choice("solver", wrong, ("cg", "cholesky"))


def test_a_number_or_a_name_is_taken():
    assert v.real_or_choice("w", "balanced", ("balanced",)) == "balanced"
    assert v.real_or_choice("w", 0.5, ("balanced",), low=0) == 0.5
    with pytest.raises(ValueError, match="w must be a number or one of 'balanced', got 'even'"):
        v.real_or_choice("w", "even", ("balanced",))
    with pytest.raises(ValueError, match="w must be a number or one of 'balanced', got None"):
        v.real_or_choice("w", None, ("balanced",))
    with pytest.raises(ValueError, match="w must be finite and >= 0, got -1"):
        v.real_or_choice("w", -1, ("balanced",), low=0)
    with pytest.raises(TypeError, match="w must be a real number"):
        v.real_or_choice("w", [1], ("balanced",))


def test_only_true_and_false_are_booleans():
    assert v.boolean("flag", np.bool_(True)) is True
    assert v.boolean("flag", False) is False
    for wrong in (1, 0, "yes", None):
        with pytest.raises(TypeError, match="flag must be True or False, got"):
            v.boolean("flag", wrong)


@pytest.mark.parametrize("values", [[1, 2], [0.5], [True], np.zeros((2, 2), np.uint8), []])
def test_arrays_of_numbers_are_taken(values):
    np.testing.assert_array_equal(v.numeric("x", values), np.asarray(values))


@pytest.mark.parametrize("values", [
    ["a"], [None], [1j], np.array([1, 2], object), np.array(["2020"], "M8[D]")])
def test_arrays_of_something_else_are_refused(values):
    with pytest.raises(TypeError, match="x must be numbers, got dtype"):
        v.numeric("x", values)


def test_a_ragged_nesting_is_refused():
    with pytest.raises(TypeError, match="x must be a rectangular array: "):
        v.numeric("x", [[1, 2], [3]])


def test_a_vector_has_one_dimension_and_the_asked_length():
    assert v.vector("x", [1, 2], 2).tolist() == [1, 2]
    assert v.vector("x", []).size == 0
    with pytest.raises(ValueError, match=r"x must have shape \(n,\), got \(1, 2\)"):
        v.vector("x", [[1, 2]])
    with pytest.raises(ValueError, match=r"x must have shape \(3,\), got \(2,\)"):
        v.vector("x", [1, 2], 3)
    with pytest.raises(ValueError, match=r"x must have shape \(n,\), got \(\)"):
        v.vector("x", 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_first_nan_or_infinity_is_named(dtype):
    good = np.array([1, -2, np.finfo(dtype).max, np.finfo(dtype).max], dtype)
    with np.errstate(over="ignore"):
        assert v.finite("x", good) is good
    with pytest.raises(ValueError, match=r"x must be finite, got inf at position 1 \(2 in all\)"):
        v.finite("x", np.array([0, np.inf, np.nan], dtype))
    with pytest.raises(ValueError, match="got nan at position 3"):
        v.finite("x", np.array([[0, 1], [2, np.nan]], dtype))


def test_infinities_that_cancel_are_found():
    with pytest.raises(ValueError, match="got inf at position 0"), np.errstate(invalid="ignore"):
        v.finite("x", np.array([np.inf, -np.inf]))


def test_integers_are_always_finite():
    assert v.finite("x", np.array([2**63 - 1])).size == 1


def test_the_first_negative_is_named():
    assert v.nonnegative("w", np.array([0.0, 1.0])).size == 2
    assert v.nonnegative("w", np.empty(0)).size == 0
    with pytest.raises(ValueError, match=r"w must be >= 0, got -2.0 at position 1"):
        v.nonnegative("w", np.array([0.0, -2.0, -3.0]))


def test_positions_come_back_as_int64():
    for values in ([0, 2], np.array([0, 2], np.uint8), (0, 2)):
        found = v.positions("rows", values, 3)
        assert found.dtype == np.int64
        assert found.tolist() == [0, 2]
    assert v.positions("rows", 1, 3).tolist() == [1]
    assert v.positions("rows", [], 3).dtype == np.int64


def test_positions_outside_are_refused_and_shown():
    with pytest.raises(IndexError, match=r"rows must be in \[0, 2\], got 3, -1"):
        v.positions("rows", [0, 3, -1], 3)
    with pytest.raises(IndexError, match="got 10, 11, 12, 13, 14$"):
        v.positions("rows", np.arange(10, 20), 3)


@pytest.mark.parametrize("values", [[0.0], [True], 1.5])
def test_positions_that_are_not_whole_numbers_are_refused(values):
    with pytest.raises(TypeError, match=r"rows must be row numbers \(integers\), got dtype"):
        v.positions("rows", values, 3)


def test_lengths_that_differ_are_shown():
    v.same_length(users=[1, 2], items=np.zeros(2))
    with pytest.raises(ValueError, match="must have the same length, got users 2, items 3"):
        v.same_length(users=[1, 2], items=[1, 2, 3])


def test_unknown_ids_are_named_and_no_more_than_five_of_them():
    v.known_ids("users", ["a", "b"], np.array([0, 1]))
    with pytest.raises(KeyError, match="users not seen in training: 'b'"):
        v.known_ids("users", ["a", "b"], np.array([0, -1]))
    with pytest.raises(KeyError, match=r"0, 1, 2, 3, 4, \.\.\."):
        v.known_ids("users", list(range(9)), np.full(9, -1))


@pytest.mark.parametrize("value", [1e-9, 0.5, np.float32(0.25)])
def test_a_share_lies_strictly_between_0_and_1(value):
    assert v.share("test_size", value) == value


@pytest.mark.parametrize("value", [0, 1, -0.2, 1.2])
def test_no_share_and_all_of_it_are_refused(value):
    with pytest.raises(ValueError, match=f"share between 0 and 1, both excluded, got {value}"):
        v.share("test_size", value)


def test_a_generator_is_made_from_a_seed_and_passed_through():
    rng = np.random.default_rng(3)
    assert v.random_generator("random_state", rng) is rng
    same = v.random_generator("random_state", np.int64(3))
    assert same.integers(2**60) == np.random.default_rng(3).integers(2**60)
    fresh = [v.random_generator("random_state", None).integers(2**60) for _ in range(2)]
    assert fresh[0] != fresh[1]


@pytest.mark.parametrize("value", [True, 1.0, "1", np.random.RandomState(0), [1]])
def test_another_kind_of_seed_is_refused(value):
    with pytest.raises(TypeError, match="random_state must be an integer, a numpy Generator"):
        v.random_generator("random_state", value)
    with pytest.raises(ValueError, match="random_state must be >= 0, got -1"):
        v.random_generator("random_state", -1)


def test_long_values_are_shown_in_short():
    with pytest.raises(TypeError) as caught:
        v.integer("n", "x" * 500)
    assert len(str(caught.value)) < 100
    assert str(caught.value).endswith("...")


def test_an_unfitted_model_is_both_kinds_of_error_that_scikit_learn_knows():
    assert issubclass(v.NotFittedError, ValueError)
    assert issubclass(v.NotFittedError, AttributeError)
    assert issubclass(v.DivergenceError, ArithmeticError)
