"""`Ratings` and ids: what they promise, and what they refuse before any harm is done."""

from __future__ import annotations

import copy
import pickle
from collections import Counter

import numpy as np
import pytest
import scipy.sparse as sp
import strategies
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from mfcore.data.canonical import index_type
from mfcore.data.ids import Ids, as_id_array, factorize
from mfcore.data.ratings import Ratings, as_ratings


def cells(matrix: sp.csr_array) -> dict[tuple[int, int], float]:
    """{(row, column): value} of the stored cells, read without SciPy's help."""
    return {(u, int(matrix.indices[t])): float(matrix.data[t])
            for u in range(matrix.shape[0])
            for t in range(matrix.indptr[u], matrix.indptr[u + 1])}


def arrays(matrix: sp.csr_array) -> list[np.ndarray]:
    return [matrix.data, matrix.indices, matrix.indptr]


def small(**more: object) -> Ratings:
    """5 5 .
       . 0 3   with a stored zero."""
    return Ratings(sp.csr_array(([5.0, 5.0, 0.0, 3.0], [0, 1, 1, 2], [0, 2, 4])), **more)


# --------------------------------------------------- what the other tests are fed with

UNSHRUNK = settings(max_examples=2000, phases=[Phase.generate], database=None,
                    suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("surprise", [
    lambda m: m.shape == (1, 1), lambda m: (np.diff(m.indptr) == 0).any(),
    lambda m: (np.bincount(m.indices, minlength=m.shape[1]) == 0).any(),
    lambda m: (m.data == 0).any(), lambda m: m.indices.dtype == np.int64,
    lambda m: m.indices.dtype == np.int32, lambda m: not m.data.flags.writeable,
    lambda m: m.nnz > 1 and not m.data.flags.c_contiguous,
    lambda m: not m.has_sorted_indices, lambda m: m.nnz == m.shape[0] * m.shape[1] > 1,
    lambda m: (m.data != m.data.astype(np.float32)).any()])
def test_matrices_come_with_every_surprise(surprise):
    assert surprise(find(strategies.csr_matrices(), surprise, settings=UNSHRUNK))


@pytest.mark.parametrize("surprise", [
    lambda r: r.weights is None, lambda r: r.weights is not None and (r.weights == 0).any(),
    lambda r: r.user_ids is None, lambda r: r.user_ids is not None and r.user_ids.dtype == object,
    lambda r: r.user_ids is not None and r.user_ids.dtype == np.int64])
def test_ratings_come_with_every_surprise(surprise):
    assert surprise(find(strategies.ratings(), surprise, settings=UNSHRUNK))


# ------------------------------------------------------------------- both orientations


@given(strategies.csr_matrices(min_nnz=0))
def test_both_orientations_hold_the_cells_given_and_no_other(matrix):
    ratings = Ratings(matrix)
    assert cells(ratings.by_user) == cells(matrix)
    assert {(u, i): value for (i, u), value in cells(ratings.by_item).items()} == cells(matrix)
    assert ratings.by_user.shape == ratings.by_item.shape[::-1] == ratings.shape == matrix.shape
    assert ratings.nnz == len(cells(matrix))
    assert ratings.density == pytest.approx(ratings.nnz / (matrix.shape[0] * matrix.shape[1]))


@given(strategies.ratings())
def test_both_orientations_are_canonical_contiguous_and_read_only(ratings):
    for matrix in (ratings.by_user, ratings.by_item):
        columns = [matrix.indices[a:b] for a, b in
                   zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True)]
        assert all((np.diff(row) > 0).all() for row in columns)
        for array in arrays(matrix):
            assert not array.flags.writeable
            assert array.flags.c_contiguous
        assert matrix.indices.dtype == matrix.indptr.dtype == np.int32


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "lil", "dok", "bsr", "dia"])
@pytest.mark.parametrize("kind", ["array", "matrix"])
def test_every_sparse_format_is_taken(form, kind):
    dense = np.array([[1.0, 0, 2.5], [0, 3, 0]])
    matrix = (sp.csr_array if kind == "array" else sp.csr_matrix)(dense).asformat(form)
    assert cells(Ratings(matrix).by_user) == {(0, 0): 1, (0, 2): 2.5, (1, 1): 3}


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "dok"])
def test_a_stored_zero_is_a_rating(form):
    matrix = sp.coo_array(([0.0, 2.0], ([0, 1], [1, 0])), shape=(2, 2)).asformat(form)
    assert cells(Ratings(matrix).by_user) == {(0, 1): 0, (1, 0): 2}


@given(strategies.ratings())
def test_users_of_cells_run_along_the_cells(ratings):
    expected = [u for u, _ in cells(ratings.by_user)]
    assert ratings.users_of_cells.tolist() == expected
    assert ratings.users_of_cells.dtype == ratings.by_user.indices.dtype


# ----------------------------------------------------------------------------- types


@pytest.mark.parametrize(("values", "dtype"), [
    (np.array([0.5, 5.0]), np.float32), (np.array([1, 2**24]), np.float32),
    (np.array([True, True]), np.float32), (np.array([0.1, 1.0], np.float32), np.float32),
    (np.array([1, 255], np.uint8), np.float32), (np.array([0.1, 1.0]), np.float64),
    (np.array([1, 2**24 + 1]), np.float64), (np.array([1.0, 1e300]), np.float64)])
def test_values_are_float32_where_that_loses_nothing(values, dtype):
    data = Ratings(sp.csr_array((values, [0, 1], [0, 2]))).by_user.data
    assert data.dtype == dtype
    np.testing.assert_array_equal(data, values)


def test_indices_are_int64_only_where_int32_is_too_small():
    assert [index_type(most) for most in (0, 2**31 - 1, 2**31)] == [np.int32, np.int32, np.int64]
    far = 2**31 + 1
    wide = Ratings(sp.csr_array(([4.0], np.array([far]), [0, 1]), shape=(1, far + 1)))
    assert wide.by_user.indices.dtype == wide.by_user.indptr.dtype == np.int64
    assert wide.by_user.indices.tolist() == [far]
    narrow = sp.csr_array((np.ones(1), np.array([1], np.int64), np.array([0, 1], np.int64)))
    assert Ratings(narrow).by_user.indices.dtype == np.int32


# -------------------------------------------------------------------------- frozenness


def test_ratings_cannot_be_changed():
    ratings = small(weights=[1, 2, 3, 4], user_ids=["a", "b"])
    for name in ("by_user", "weights", "shape", "anything"):
        with pytest.raises(AttributeError, match=f"frozen: cannot set '{name}'"):
            setattr(ratings, name, None)
    with pytest.raises(AttributeError, match="frozen: cannot delete 'by_user'"):
        del ratings.by_user
    for array in (*arrays(ratings.by_user), *arrays(ratings.by_item), ratings.weights,
                  ratings.weights_by_item, ratings.user_ids):
        with pytest.raises(ValueError, match="read-only"):
            array[:1] = array[1:2]


def test_what_they_were_made_from_stays_free():
    matrix = sp.csr_array(np.array([[1, 2], [3, 0]], np.float32))
    weights, users = np.ones(3, np.float32), np.array([7, 9])
    ratings = Ratings(matrix, weights=weights, user_ids=users)
    for array in (*arrays(matrix), weights, users):
        assert array.flags.writeable
    matrix.data[:], weights[:], users[:] = 9, 9, 1
    assert ratings.by_user.data.tolist() == [1, 2, 3]
    assert ratings.weights.tolist() == [1, 1, 1]
    assert ratings.user_ids.tolist() == [7, 9]


def test_unsorted_rows_are_sorted_in_a_copy():
    matrix = sp.csr_array((np.array([1, 2], np.float32), np.array([2, 0], np.int32),
                           np.array([0, 2], np.int32)), shape=(1, 3))
    for share in (True, False):
        ratings = Ratings(matrix, copy=share)
        assert ratings.by_user.indices.tolist() == [0, 2]
        assert ratings.by_user.data.tolist() == [2, 1]
    assert matrix.indices.tolist() == [2, 0]


def test_a_memory_mapped_matrix_is_shared_not_read(tmp_path):
    matrix = sp.csr_array(np.array([[1, 0, 2], [0, 3, 0]], np.float32))
    for name in ("data", "indices", "indptr"):
        np.save(tmp_path / name, getattr(matrix, name))
    mapped = {name: np.load(tmp_path / f"{name}.npy", mmap_mode="r")
              for name in ("data", "indices", "indptr")}
    ratings = Ratings(sp.csr_array(tuple(mapped.values()), shape=(2, 3)), copy=False)
    assert np.shares_memory(ratings.by_user.data, mapped["data"])
    assert np.shares_memory(ratings.by_user.indices, mapped["indices"])
    assert cells(ratings.by_user) == cells(matrix)
    assert cells(ratings.by_item) == cells(matrix.T.tocsr())
    apart = Ratings(sp.csr_array(tuple(mapped.values()), shape=(2, 3)))
    assert not np.shares_memory(apart.by_user.data, mapped["data"])


@given(strategies.csr_matrices())
def test_sharing_memory_changes_nothing_else(matrix):
    for array in arrays(matrix):
        array.flags.writeable = False
    shared = Ratings(matrix, copy=False)
    assert cells(shared.by_user) == cells(matrix)
    assert all(array.flags.c_contiguous for array in arrays(shared.by_user))


@given(strategies.ratings(), st.booleans())
def test_pickling_keeps_everything_and_frozen(ratings, deep):
    if deep:
        assert ratings.by_item.nnz == ratings.nnz       # is built, and goes along
    twin = copy.deepcopy(ratings) if deep else pickle.loads(pickle.dumps(ratings))
    assert cells(twin.by_user) == cells(ratings.by_user)
    assert cells(twin.by_item) == cells(ratings.by_item)
    for name in ("weights", "user_ids", "item_ids"):
        one, other = getattr(twin, name), getattr(ratings, name)
        assert (one is None) == (other is None)
        if one is not None:
            assert one.tolist() == other.tolist()
            assert not one.flags.writeable
    assert not any(array.flags.writeable for array in
                   [*arrays(twin.by_user), *arrays(twin.by_item)])
    with pytest.raises(AttributeError, match="frozen"):
        twin.weights = None


def test_the_text_form_tells_the_size():
    assert repr(small()) == "Ratings(2 users × 3 items, 4 stored)"
    assert repr(small(weights=np.ones(4))) == "Ratings(2 users × 3 items, 4 stored, weighted)"


def test_ratings_pass_and_matrices_become_ratings():
    ratings = small()
    assert as_ratings("ratings", ratings) is ratings
    assert cells(as_ratings("ratings", ratings.by_item.T).by_user) == cells(ratings.by_user)


# ------------------------------------------------------------------------------ weights


@given(strategies.ratings(weighted=True))
def test_weights_follow_their_cells_into_both_orientations(ratings):
    by_user = dict(zip(cells(ratings.by_user), ratings.weights.tolist(), strict=True))
    by_item = dict(zip(cells(ratings.by_item), ratings.weights_by_item.tolist(), strict=True))
    assert by_user == {(u, i): weight for (i, u), weight in by_item.items()}


@pytest.mark.parametrize("form", ["csr", "csc", "coo"])
def test_weights_may_be_sparse_in_any_format(form):
    pattern = small().by_user
    weights = sp.csr_array(([1.0, 2.0, 0.0, 4.0], pattern.indices, pattern.indptr), (2, 3))
    assert small(weights=weights.asformat(form)).weights.tolist() == [1, 2, 0, 4]


def test_weights_in_one_dimension_are_in_the_order_of_sorted_rows():
    unsorted = sp.csr_array(([5.0, 3.0], [2, 0], [0, 2]), shape=(1, 3))
    ratings = Ratings(unsorted, weights=[0.25, 0.75])
    assert ratings.by_user.indices.tolist() == [0, 2]
    assert ratings.weights.tolist() == [0.25, 0.75]


def test_no_weights_are_no_weights():
    assert small().weights is None
    assert small().weights_by_item is None


def test_weights_of_another_pattern_are_refused():
    shifted = sp.csr_array((np.ones(4), [0, 2, 1, 2], [0, 2, 4]), shape=(2, 3))
    for other in (shifted, sp.csr_array(np.ones((2, 3))), sp.csr_array(np.eye(2, 4))):
        with pytest.raises(ValueError, match="weights must have the pattern of the ratings"):
            small(weights=other)
    with pytest.raises(ValueError, match=r"weights must have shape \(4,\), got \(3,\)"):
        small(weights=np.ones(3))
    with pytest.raises(ValueError, match=r"weights must have shape \(4,\), got \(2, 3\)"):
        small(weights=np.ones((2, 3)))


@pytest.mark.parametrize(("bad", "message"), [
    (-0.5, "weights must be >= 0, got -0.5 at position 2"),
    (np.nan, "weights must be finite, got nan for user row 1, item column 1"),
    (np.inf, "weights must be finite, got inf for user row 1, item column 1")])
@pytest.mark.parametrize("sparse", [False, True])
def test_negative_and_infinite_weights_are_refused(bad, message, sparse):
    weights = np.array([1.0, 1.0, bad, 1.0])
    if sparse:
        weights = sp.csr_array((weights, [0, 1, 1, 2], [0, 2, 4]), shape=(2, 3))
    with pytest.raises(ValueError, match=message):
        small(weights=weights)


def test_weights_that_are_no_numbers_are_refused():
    for weights in (["a"] * 4, np.array([1, "a", 1, 1], object), np.ones(4) * 1j):
        with pytest.raises(TypeError, match="weights must be numbers, got ('a' in row|dtype comp)"):
            small(weights=weights)


# ------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("given", [np.ones((2, 2)), [[1, 2]], None, "ratings", {"a": 1}])
def test_what_is_not_sparse_is_refused_with_the_cure(given):
    with pytest.raises(TypeError, match=r"must be Ratings or a scipy sparse matrix, got .*"
                                        r"scipy\.sparse\.csr_array\(dense\) makes one out"):
        Ratings(given)


@pytest.mark.skipif(sp.coo_array(np.ones(3)).ndim == 2, reason="SciPy that has none")
def test_an_array_of_one_dimension_is_refused():
    with pytest.raises(ValueError, match=r"ratings must have two dimensions, got shape \(3,\)"):
        Ratings(sp.coo_array(np.ones(3)))


def test_complex_and_object_ratings_are_refused():
    with pytest.raises(TypeError, match="ratings must be numbers, got dtype complex128"):
        Ratings(sp.csr_array([[1j]]))
    objects = sp.csr_array(np.eye(2))
    objects.data = objects.data.astype(object)
    with pytest.raises((TypeError, ValueError), match="object"):
        Ratings(objects)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ratings_that_are_not_finite_are_refused_with_their_place(bad, dtype):
    values = np.array([1, 2, bad], dtype)
    with pytest.raises(ValueError, match=f"ratings must be finite, got {bad} for user row 2, "
                                         "item column 1; drop or fill"):
        Ratings(sp.csr_array((values, [0, 1, 1], [0, 2, 2, 3])))


@pytest.mark.parametrize("form", ["csr", "csc", "coo"])
def test_repeated_cells_are_refused(form):
    def repeated() -> sp.sparray:
        three, pointer = np.array([1.0, 2.0, 3.0]), [0, 2, 3]
        if form == "coo":
            return sp.coo_array((three, ([0, 0, 1], [0, 0, 1])))
        return (sp.csr_array if form == "csr" else sp.csc_array)((three, [0, 0, 1], pointer))

    with pytest.raises(ValueError, match=r"each \(user, item\) once, got 3 cells of which 2"):
        Ratings(repeated())


@pytest.mark.parametrize("bad", [-1, 3, 2**31 - 1])
def test_item_indices_outside_of_a_hand_made_matrix_are_refused(bad):
    by_user = sp.csr_array(np.ones((2, 3)))
    by_user.indices[1] = bad
    in_pairs = sp.coo_array(np.ones((2, 3)))
    in_pairs.col[4] = bad
    for matrix in (by_user, in_pairs):
        with pytest.raises(ValueError, match=r"item indices must be in \[0, 2\], got "):
            Ratings(matrix)


@pytest.mark.parametrize("bad", [-1, 2, 2**31 - 1])
def test_user_indices_outside_of_a_hand_made_matrix_are_refused(bad):
    by_item = sp.csc_array(np.ones((2, 3)))
    by_item.indices[1] = bad
    in_pairs = sp.coo_array(np.ones((2, 3)))
    in_pairs.row[4] = bad
    for matrix in (by_item, in_pairs):
        with pytest.raises(ValueError, match=r"user indices must be in \[0, 1\], got "):
            Ratings(matrix)


@pytest.mark.parametrize("indptr", [[0, 4, 3], [0, 2, 5], [1, 2, 4], [0, 2, 3, 4], [0, 4]])
@pytest.mark.parametrize("kind", [sp.csr_array, sp.csc_array])
def test_a_broken_row_pointer_is_refused(indptr, kind):
    matrix = kind(np.array([[1.0, 1.0], [1.0, 1.0]]))
    matrix.indptr = np.array(indptr, np.int32)
    with pytest.raises(ValueError, match="pointer"):
        Ratings(matrix)


def test_nothing_is_built_of_refused_ratings():
    matrix = sp.csr_array(np.array([[1, 2], [3, 4]], np.float32))
    with pytest.raises(ValueError, match="weights"):
        Ratings(matrix, weights=-np.ones(4), copy=False)
    with pytest.raises(ValueError, match="user_ids"):
        Ratings(matrix, user_ids=[1])
    assert matrix.data.flags.writeable


# --------------------------------------------------------------------------- from_arrays


def test_distinct_ids_become_sorted_rows_and_columns():
    ratings = Ratings.from_arrays([30, 10, 30], ["b", "b", "a"], [1.0, 2.0, 3.0])
    assert ratings.user_ids.tolist() == [10, 30]
    assert ratings.item_ids.tolist() == ["a", "b"]
    assert cells(ratings.by_user) == {(0, 1): 2, (1, 0): 3, (1, 1): 1}


@pytest.mark.kernel
@given(st.data(), st.sampled_from(["int", "wide", "text", "tuple", "mixed"]))
def test_arrays_of_any_ids_give_back_their_cells(data, kind):
    value = {"int": st.integers(-5, 5), "wide": st.integers(-2**62, 2**62),
             "text": st.text(max_size=2), "tuple": st.tuples(st.integers(0, 2), st.text("ab")),
             "mixed": st.one_of(st.integers(0, 3), st.sampled_from("ab"))}[kind]
    pairs = data.draw(st.lists(st.tuples(value, value), unique=True, min_size=1, max_size=8))
    users, items = zip(*pairs, strict=True)
    values = np.arange(1.0, len(pairs) + 1)
    ratings = Ratings.from_arrays(users, items, values)
    rows, columns = ratings.user_positions(users), ratings.item_positions(items)
    assert cells(ratings.by_user) == {
        (int(u), int(i)): x for u, i, x in zip(rows, columns, values, strict=True)}
    assert [ratings.user_ids[row] for row in rows] == list(users)
    assert ratings.shape == (len(set(users)), len(set(items)))


def test_without_values_each_pair_counts_one():
    assert Ratings.from_arrays([1, 2], [1, 1]).by_user.data.tolist() == [1, 1]


@pytest.mark.kernel
@pytest.mark.parametrize(("duplicates", "value", "weight"), [
    ("last", 5, 0.5), ("mean", 3, 0.75), ("sum", 9, 2.25)])
def test_repeated_pairs_are_merged_as_told(duplicates, value, weight):
    ratings = Ratings.from_arrays([1, 2, 1, 1], [7, 7, 7, 7], [1, 8, 3, 5], [1, 2, 0.75, 0.5],
                                  duplicates=duplicates)
    assert cells(ratings.by_user) == {(0, 0): value, (1, 0): 8}
    assert ratings.weights.tolist() == [weight, 2]


def test_repeated_pairs_are_refused_unless_told():
    with pytest.raises(ValueError, match=r"3 pairs of which 1 repeats another; dup"):
        Ratings.from_arrays([1, 1, 2], [1, 1, 1])
    with pytest.raises(ValueError, match="duplicates must be one of 'error', 'last', 'mean'"):
        Ratings.from_arrays([1], [1], duplicates="first")


def test_arrays_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="same length, got users 2, items 1"):
        Ratings.from_arrays([1, 2], [1])
    with pytest.raises(ValueError, match=r"values must have shape \(2,\), got \(3,\)"):
        Ratings.from_arrays([1, 2], [1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match=r"weights must have shape \(2,\), got \(1,\)"):
        Ratings.from_arrays([1, 2], [1, 2], [1, 2], [1])


def test_values_that_are_no_finite_numbers_are_refused():
    with pytest.raises(TypeError, match="values must be numbers, got '5' in row 0"):
        Ratings.from_arrays([1, 2], [1, 2], ["5", "4"])
    with pytest.raises(ValueError, match=r"values must not be missing, got None in row 1 \(1 in"):
        Ratings.from_arrays([1, 2], [1, 2], [5, None])
    with pytest.raises(ValueError, match="values must not be missing, got nan in row 1"):
        Ratings.from_arrays([1, 2], [1, 2], [1, np.nan])
    with pytest.raises(ValueError, match="weights must be >= 0"):
        Ratings.from_arrays([1, 2], [1, 2], [1, 2], [1, -1])


def test_no_pairs_make_empty_ratings():
    ratings = Ratings.from_arrays([], [], [])
    assert ratings.shape == (0, 0)
    assert ratings.density == 0


# ------------------------------------------------------------------------------- k-core

def naive_core(cells, least_user, least_item):
    """Leave one row or column out at a time."""
    cells = dict(cells)
    while True:
        users, items = (Counter(pair[axis] for pair in cells) for axis in (0, 1))
        bad = next((pair for pair in cells if users[pair[0]] < least_user
                    or items[pair[1]] < least_item), None)
        if bad is None:
            return cells
        axis = 0 if users[bad[0]] < least_user else 1
        cells = {pair: value for pair, value in cells.items() if pair[axis] != bad[axis]}


@pytest.mark.parametrize(("least_user", "least_item"), [(1, 1), (2, 3), (4, 4), (5, 1), (9, 9)])
def test_a_core_is_what_is_left_when_rows_go_one_by_one(least_user, least_item):
    random = np.random.default_rng(0)
    matrix = sp.random_array((30, 20), density=0.15, rng=random, format="csr")
    matrix.data[::5] = 0                                    # a stored 0 is a rating
    ratings = Ratings(matrix, weights=np.arange(matrix.nnz))
    found = ratings.filter(min_per_user=least_user, min_per_item=least_item)
    named = {(int(found.user_ids[u]), int(found.item_ids[i])): value
             for (u, i), value in cells(found.by_user).items()}
    assert named == naive_core(cells(ratings.by_user), least_user, least_item)
    whole = dict(zip(cells(ratings.by_user), ratings.weights, strict=True))
    assert found.weights.tolist() == [whole[pair] for pair in named]
    again = found.filter(min_per_user=least_user, min_per_item=least_item)
    assert again.shape == found.shape


def test_a_core_keeps_ids_and_zero_keeps_rows_without_ratings():
    matrix = sp.csr_array([[1, 0, 2], [0, 0, 0], [0, 0, 3]])
    ratings = Ratings(matrix, user_ids=["a", "b", "c"], item_ids=[5, 6, 7])
    assert ratings.filter(min_per_user=2, min_per_item=0).user_ids.tolist() == ["a"]
    assert ratings.filter(min_per_user=2, min_per_item=0).item_ids.tolist() == [5, 6, 7]
    assert ratings.filter(min_per_user=0).shape == (3, 2)
    assert ratings.filter(min_per_user=3).shape == (0, 0)
    with pytest.raises(ValueError, match="min_per_user must be >= 0, got -1"):
        ratings.filter(min_per_user=-1)


# ------------------------------------------------------------------------------ positions


@given(strategies.ratings(named=True))
def test_each_id_finds_its_row(ratings):
    for ids, find_rows in ((ratings.user_ids, ratings.user_positions),
                           (ratings.item_ids, ratings.item_positions)):
        found = find_rows(ids[::-1])
        assert found.dtype == np.int64
        assert found.tolist() == list(range(len(ids)))[::-1]
        unknown = [2**50] if ids.dtype == np.int64 else ["long unknown"]
        assert find_rows(unknown).tolist() == [-1]


def test_integers_and_their_texts_name_the_same_rows_and_floats_are_refused():
    ratings = small(user_ids=[5, 6], item_ids=["5", "6", "7"])
    assert ratings.user_positions(["5", "6", "05", "x"]).tolist() == [0, 1, -1, -1]
    with pytest.raises(TypeError, match="users must be integers, strings .* got dtype float64"):
        ratings.user_positions([5.0])
    assert ratings.item_positions([5, "5", b"6"]).tolist() == [0, 0, 1]
    assert ratings.user_positions(np.array([6, 5, 4], np.uint8)).tolist() == [1, 0, -1]
    assert ratings.item_positions(np.array(["7", "8"])).tolist() == [2, -1]
    assert ratings.user_positions([]).size == ratings.item_positions([]).size == 0


def test_without_ids_row_numbers_find_themselves():
    ratings = small()
    assert ratings.user_ids is None
    assert ratings.item_positions([2, 0, 3, -1, 2**40]).tolist() == [2, 0, -1, -1, -1]
    assert ratings.user_positions([]).dtype == np.int64
    for wrong in ([0.0], ["a"], [True]):
        with pytest.raises(TypeError, match="users must be"):
            ratings.user_positions(wrong)


def test_unknown_ids_and_numbers_are_refused_where_rows_must_be_known():
    named = small(user_ids=[5, 6], item_ids=["5", ("a", 1), "7"])
    assert named.known_users(6).tolist() == [1]
    assert named.known_items(["7", ("a", 1)]).tolist() == [2, 1]
    with pytest.raises(KeyError, match="users not seen in training: 7"):
        named.known_users([5, 7])
    assert small().known_items([2, 0]).tolist() == [2, 0]
    for wrong in ([3], [-1]):
        with pytest.raises(IndexError, match=r"items must be in \[0, 2\]"):
            small().known_items(wrong)


# ---------------------------------------------------------------------------------- parts


@given(strategies.ratings(), st.data())
def test_rows_in_any_order_have_their_cells_and_nobody_has_none(ratings, data):
    rows = data.draw(st.lists(st.integers(-1, ratings.shape[0] - 1), max_size=6))
    found = ratings.cells_of(rows)
    assert found.shape == (len(rows), ratings.shape[1])
    for place, row in enumerate(rows):
        wanted = ratings.by_user[[row]] if row >= 0 else ratings.by_user[[]]
        assert arrays(found[[place]])[0].tolist() == wanted.data.tolist()
        assert arrays(found[[place]])[1].tolist() == wanted.indices.tolist()


@given(strategies.ratings(), st.data())
def test_chosen_cells_stay_where_they_were(ratings, data):
    chosen = np.array(data.draw(st.lists(st.booleans(), min_size=ratings.nnz,
                                         max_size=ratings.nnz)), bool)
    part = ratings.select_cells(chosen)
    kept = [cell for cell, stays in zip(cells(ratings.by_user), chosen, strict=True) if stays]
    assert cells(part.by_user) == {cell: cells(ratings.by_user)[cell] for cell in kept}
    assert part.shape == ratings.shape
    if ratings.weights is not None:
        assert part.weights.tolist() == ratings.weights[chosen].tolist()
    if ratings.item_ids is not None:
        assert part.item_ids.tolist() == ratings.item_ids.tolist()


def test_cells_are_chosen_by_one_boolean_each():
    with pytest.raises(ValueError, match=r"chosen must have shape \(4,\), got \(2,\)"):
        small().select_cells(np.ones(2, bool))
    with pytest.raises(TypeError, match="chosen must be booleans, got dtype int64"):
        small().select_cells(np.arange(4))


@given(strategies.ratings(), st.data())
def test_chosen_users_come_in_the_order_asked(ratings, data):
    rows = data.draw(st.permutations(range(ratings.shape[0])))[:3]
    part = ratings.select_users(rows)
    assert part.shape == (len(rows), ratings.shape[1])
    for place, row in enumerate(rows):
        expected = {i: x for (u, i), x in cells(ratings.by_user).items() if u == row}
        assert {i: x for (u, i), x in cells(part.by_user).items() if u == place} == expected
    if ratings.weights is not None:
        weight = dict(zip(cells(ratings.by_user), ratings.weights, strict=True))
        assert part.weights.tolist() == [weight[rows[u], i] for u, i in cells(part.by_user)]
    if ratings.user_ids is not None:
        assert part.user_ids.tolist() == [ratings.user_ids[row] for row in rows]


def test_users_outside_are_refused():
    with pytest.raises(IndexError, match=r"rows must be in \[0, 1\], got 2"):
        small().select_users([0, 2])


@given(strategies.ratings())
def test_transposing_exchanges_the_sides_and_copies_nothing(ratings):
    turned = ratings.transposed
    assert turned.shape == ratings.shape[::-1]
    assert turned.by_user is ratings.by_item
    assert turned.by_item is ratings.by_user
    assert turned.weights is ratings.weights_by_item
    assert turned.weights_by_item is ratings.weights
    assert turned.user_ids is ratings.item_ids
    assert turned.item_ids is ratings.user_ids
    assert turned.transposed.by_user is ratings.by_user
    assert len(turned.users_of_cells) == ratings.nnz


# ------------------------------------------------------------------------------------ ids


@pytest.mark.parametrize(("ids", "dtype"), [
    ([3, 1], np.int64), (np.array([3, 1], np.uint8), np.int64), ([np.int32(3), 1], np.int64),
    (["b", "a"], object), (np.array(["b", "a"]), object), ([("a", 1), ("b", 2)], object),
    ([1, "1"], object), (range(2), np.int64), ([2**70, 1], object)])
def test_ids_are_integers_strings_or_any_hashables(ids, dtype):
    array = as_id_array("ids", ids)
    assert array.dtype == dtype
    assert array.tolist() == list(ids)


@pytest.mark.parametrize("ids", [
    [1.5, 2.0], np.array([1.0]), [True, False], np.array([True]), [1j], ["a", 1.5],
    np.array([1.5, "a"], object)])
def test_floats_and_booleans_are_no_ids(ids):
    with pytest.raises(TypeError, match="users must be integers, strings or other hashables"):
        factorize("users", ids)


@pytest.mark.parametrize("ids", [
    ["a", None], np.array(["a", np.nan], object), [float("nan"), "a"], [None, None],
    np.ma.masked_array([1, 2], [False, True])])
def test_missing_ids_are_refused(ids):
    with pytest.raises(ValueError, match="users must not be missing, got"):
        factorize("users", ids)
    with pytest.raises(ValueError, match="users must not be missing, got"):
        Ids("users", ids)


def test_ids_that_pandas_misses_are_refused():
    pandas = pytest.importorskip("pandas")
    for missing in (pandas.NA, pandas.NaT):
        with pytest.raises(ValueError, match="users must not be missing, got (<NA>|NaT)"):
            factorize("users", np.array(["a", missing], object))


def test_unhashable_ids_are_refused():
    with pytest.raises(TypeError, match="users must be hashable.*'?list"):
        factorize("users", [[1], [2, 3]])


def test_integers_that_would_wrap_are_refused():
    with pytest.raises(ValueError, match=r"users must be < 2\*\*63, got 18446744073709551615"):
        as_id_array("users", np.array([1, 2**64 - 1], np.uint64))
    assert as_id_array("users", np.array([2**63 - 1], np.uint64)).tolist() == [2**63 - 1]


def test_ids_in_two_dimensions_are_refused():
    with pytest.raises(ValueError, match=r"users must be one-dimensional, got shape \(2, 2\)"):
        Ratings.from_arrays(np.ones((2, 2), int), [1, 2])


@pytest.mark.parametrize(("values", "distinct"), [
    ([5, -3, 5, 2], [-3, 2, 5]), ([2**60, -2**60, 2**60], [-2**60, 2**60]),
    (["b", "a", "b"], ["a", "b"]), ([], []), ([(2, "x"), (1, "y")], [(1, "y"), (2, "x")]),
    # What does not compare stays in the order it came.
    (["b", 1, "a", 1], ["b", 1, "a"])])
def test_factorizing_finds_distinct_ids_and_the_row_of_each(values, distinct):
    ids, rows = factorize("ids", values)
    assert ids.tolist() == distinct
    assert [ids[row] for row in rows] == values


def test_repeated_and_miscounted_ids_are_refused():
    for ids in ([1, 1], ["a", "a"], [(1,), (1,)]):
        with pytest.raises(ValueError, match="user_ids must be distinct, got 2 ids of which 1"):
            small(user_ids=ids)
    with pytest.raises(ValueError, match="item_ids must have 3 entries, got 2"):
        small(item_ids=[1, 2])
    with pytest.raises(TypeError, match="item_ids must be integers, strings or other"):
        small(item_ids=[1.0, 2.0, 3.0])
