"""Features: categories and numbers become named sparse columns, row by row."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from mfcore.data.features import Features, concatenate, multi_hot, numeric, one_hot


def dense(features: Features) -> list[list[float]]:
    return features.matrix.toarray().tolist()


def test_one_hot_has_a_sorted_column_for_each_category() -> None:
    job = one_hot(["writer", "other", "writer"], "job")
    assert job.names == ("job=other", "job=writer")
    assert dense(job) == [[0, 1], [1, 0], [0, 1]]


def test_numbers_may_be_categories() -> None:
    assert one_hot(np.array([3, 1, 3]), "group").names == ("group=1", "group=3")


@given(st.lists(st.sampled_from("abcde"), max_size=12))
def test_each_row_of_one_hot_holds_its_category_alone(values) -> None:
    features = one_hot(values, "v")
    assert features.shape == (len(values), len(set(values)))
    for row, value in zip(dense(features), values, strict=True):
        assert row == [float(name == f"v={value}") for name in features.names]


def test_multi_hot_takes_strings_and_lists_alike() -> None:
    genres = multi_hot(["Comedy|Drama", "", "Drama"], "genre")
    assert genres.names == ("genre=Comedy", "genre=Drama")
    assert dense(genres) == [[1, 1], [0, 0], [0, 1]]
    listed = multi_hot([["Drama", "Comedy"], [], ("Drama",)], "genre")
    assert dense(listed) == dense(genres)


def test_multi_hot_counts_a_repeated_category_once() -> None:
    assert dense(multi_hot(["a,a, a"], "g", separator=",")) == [[1]]


def test_without_a_prefix_names_are_the_categories() -> None:
    assert multi_hot(["x|y"]).names == ("x", "y")


def test_given_categories_fix_the_columns() -> None:
    later = one_hot(["b"], "v", categories=["c", "b", "a"])
    assert later.names == ("v=c", "v=b", "v=a")
    assert dense(later) == [[0, 1, 0]]


def test_an_unknown_category_is_named() -> None:
    with pytest.raises(ValueError, match="genre: row 1 has the unknown category 'Akshun'; "
                                         "known: 'Action', 'Drama'"):
        multi_hot(["Action", "Akshun"], "genre", categories=["Action", "Drama"])
    with pytest.raises(ValueError, match="unknown category 'z'"):
        one_hot(["z"], categories=["a"])


@pytest.mark.parametrize("missing", [None, math.nan, np.float64("nan")])
def test_a_missing_value_is_refused(missing) -> None:
    with pytest.raises(ValueError, match="job: row 1 is missing"):
        one_hot(["writer", missing], "job")
    with pytest.raises(ValueError, match="row 1 is missing"):
        multi_hot(["a|b", missing], "g")
    with pytest.raises(ValueError, match="g: row 0 is missing"):
        multi_hot([["a", missing]], "g")


def test_a_row_of_multi_hot_must_be_a_string_or_a_list() -> None:
    with pytest.raises(TypeError, match="row 0 must be a string or a list of categories, got 3"):
        multi_hot([3], "g")  # type: ignore[list-item]


def test_categories_that_do_not_compare_are_ordered_all_the_same() -> None:
    assert set(one_hot([1, "a", 1], "v").names) == {"v=1", "v=a"}


def test_numeric_is_one_column() -> None:
    age = numeric([24, 0, 53], "age")
    assert age.names == ("age",)
    assert dense(age) == [[24], [0], [53]]


@pytest.mark.parametrize(("values", "error", "message"), [
    ([1.0, math.nan], ValueError, "age must be finite, got nan at position 1"),
    ([1.0, math.inf], ValueError, "age must be finite"),
    (["old"], TypeError, "age must be numbers"),
    ([[1.0]], ValueError, r"age must have shape \(n,\)")])
def test_numeric_refuses_what_is_no_number(values, error, message) -> None:
    with pytest.raises(error, match=message):
        numeric(values, "age")


def test_concatenate_puts_blocks_side_by_side() -> None:
    both = concatenate(numeric([24, 53], "age"), one_hot(["b", "a"], "v"))
    assert both.names == ("age", "v=a", "v=b")
    assert dense(both) == [[24, 0, 1], [53, 1, 0]]


def test_concatenate_refuses_other_rows_and_repeated_names() -> None:
    with pytest.raises(ValueError, match=r"must have the same rows, got \[1, 2\]"):
        concatenate(numeric([1], "a"), numeric([1, 2], "b"))
    with pytest.raises(ValueError, match=r"must have the same rows, got \[\]"):
        concatenate()
    with pytest.raises(ValueError, match="must be distinct, got more than once: a"):
        concatenate(numeric([1], "a"), numeric([2], "a"))


def test_select_takes_rows_in_the_order_asked() -> None:
    features = one_hot(["a", "b", "c"], "v")
    assert dense(features.select([2, 0])) == [[0, 0, 1], [1, 0, 0]]
    with pytest.raises(IndexError):
        features.select([3])


def test_features_are_frozen_and_own_their_memory() -> None:
    matrix = sp.csr_array(np.eye(2))
    features = Features(matrix, ("a", "b"))
    matrix.data[:] = 7
    assert dense(features) == [[1, 0], [0, 1]]
    with pytest.raises(ValueError, match="read-only"):
        features.matrix.data[:] = 7
    with pytest.raises(AttributeError):
        features.names = ("c", "d")  # type: ignore[misc]


@pytest.mark.parametrize(("matrix", "names", "error", "message"), [
    (np.eye(2), ("a", "b"), TypeError, "must be a scipy sparse matrix, got ndarray"),
    (sp.csr_array(np.eye(2)), ("a",), ValueError, "names must have 2 entries, got 1"),
    (sp.csr_array(np.eye(2)), ("a", "a"), ValueError, "must be distinct"),
    (sp.csr_array([[math.nan]]), ("a",), ValueError, "features must be finite"),
    (sp.csr_array([[1j]]), ("a",), TypeError, "features must be numbers")])
def test_features_refuse_what_they_cannot_hold(matrix, names, error, message) -> None:
    with pytest.raises(error, match=message):
        Features(matrix, names)


def test_the_representation_names_the_first_columns() -> None:
    assert repr(one_hot(list("abcdef"), "v")) == \
        "Features(6 rows × 6: v=a, v=b, v=c, v=d, ...)"
