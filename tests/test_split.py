"""Splits: nothing lost, nothing leaked, the same cells for the same seed."""

from __future__ import annotations

import datetime
import hashlib

import numpy as np
import pytest
import scipy.sparse as sp
import strategies
from hypothesis import assume, given
from hypothesis import strategies as st

from mfcore.data import split
from mfcore.data.ratings import Ratings


def cells(ratings: Ratings) -> dict[tuple[int, int], float]:
    """{(row, column): rating} of all stored cells."""
    users, items = ratings.users_of_cells.tolist(), ratings.by_user.indices.tolist()
    return dict(zip(zip(users, items, strict=True), ratings.by_user.data.tolist(), strict=True))


def counts(ratings: Ratings) -> np.ndarray:
    return np.diff(ratings.by_user.indptr)


def same(one: Ratings, other: Ratings) -> bool:
    return one.shape == other.shape and cells(one) == cells(other)


def full(n_users: int, n_items: int, **named: object) -> Ratings:
    values = np.arange(1.0, 1 + n_users * n_items).reshape(n_users, n_items)
    return Ratings(sp.csr_array(values), **named)


@pytest.fixture(scope="module")
def ratings() -> Ratings:
    """300 users, 80 items, of unequal activity; weighted and named."""
    rng = np.random.default_rng(3)
    chosen = rng.random((300, 80)) < rng.random((300, 1)) ** 2
    chosen[:5] = False
    chosen[5:10] = np.arange(80) < np.arange(1, 6)[:, None]
    matrix = sp.csr_array(np.where(chosen, rng.integers(1, 11, chosen.shape) / 2, 0))
    return Ratings(matrix, weights=rng.random(matrix.nnz), item_ids=np.arange(80) * 7,
                   user_ids=[f"user {u}" for u in range(300)])


@pytest.fixture(scope="module")
def timestamps(ratings: Ratings) -> np.ndarray:
    return np.random.default_rng(4).integers(10**9, 10**9 + 500, ratings.nnz)


def cell_splits(timestamps: np.ndarray) -> dict:
    """Every split that cuts cells, with a seed where it takes one."""
    order = np.random.default_rng(5).permutation(timestamps.size)
    return {"random": lambda r, seed: split.random_split(r, 0.3, seed),
            "per_user": lambda r, seed: split.per_user_split(r, 0.3, seed),
            "last": lambda r, seed: split.leave_last_out(r, timestamps, 2),
            "time": lambda r, seed: split.time_split(r, timestamps, 0.3),
            "fold": lambda r, seed: list(split.k_fold(r, 4, seed))[2],
            "file": lambda r, seed: list(split.file_folds(r, order, 4))[2]}


CELL_SPLITS = list(cell_splits(np.zeros(0)))
SEEDED = ["random", "per_user", "fold"]


@pytest.mark.parametrize("name", CELL_SPLITS)
def test_a_split_of_cells_loses_and_repeats_none(ratings, timestamps, name):
    train, test = cell_splits(timestamps)[name](ratings, 0)
    kept, held = cells(train), cells(test)
    assert kept
    assert held
    assert not kept.keys() & held.keys()
    assert kept | held == cells(ratings)


@pytest.mark.parametrize("name", CELL_SPLITS)
def test_a_split_of_cells_keeps_shape_and_ids(ratings, timestamps, name):
    for part in cell_splits(timestamps)[name](ratings, 0):
        assert part.shape == ratings.shape
        assert list(part.user_ids) == list(ratings.user_ids)
        assert list(part.item_ids) == list(ratings.item_ids)


@pytest.mark.parametrize("name", CELL_SPLITS)
def test_weights_go_with_their_cells(ratings, timestamps, name):
    weight_of = dict(zip(cells(ratings), ratings.weights.tolist(), strict=True))
    for part in cell_splits(timestamps)[name](ratings, 0):
        assert dict(zip(cells(part), part.weights.tolist(), strict=True)).items() \
            <= weight_of.items()


@pytest.mark.parametrize("name", SEEDED)
def test_the_seed_decides_the_split(ratings, timestamps, name):
    cut = cell_splits(timestamps)[name]
    assert same(cut(ratings, 7)[1], cut(ratings, 7)[1])
    assert same(cut(ratings, 7)[1], cut(ratings, np.random.default_rng(7))[1])
    assert not same(cut(ratings, 7)[1], cut(ratings, 8)[1])
    assert not same(cut(ratings, None)[1], cut(ratings, None)[1])


@pytest.mark.parametrize("name", SEEDED)
def test_a_seed_of_another_type_is_refused(ratings, timestamps, name):
    cut = cell_splits(timestamps)[name]
    for seed in ("0", 1.0, True, np.random.RandomState(0)):
        with pytest.raises(TypeError, match="random_state must be an integer, a numpy Gen"):
            cut(ratings, seed)
    with pytest.raises(ValueError, match="random_state must be >= 0, got -1"):
        cut(ratings, -1)


@pytest.mark.parametrize("size", [0, 1, -0.1, 1.5, np.nan])
def test_a_share_outside_0_and_1_is_refused(ratings, timestamps, size):
    for cut in (lambda: split.random_split(ratings, size),
                lambda: split.per_user_split(ratings, size),
                lambda: split.user_split(ratings, size),
                lambda: split.time_split(ratings, timestamps, size)):
        with pytest.raises(ValueError, match="test_size must be"):
            cut()
    with pytest.raises(ValueError, match="fold_in_size must be"):
        split.user_split(ratings, 0.2, size)


def test_a_split_that_leaves_a_part_empty_is_refused():
    small = full(2, 2)
    with pytest.raises(ValueError, match="the test part would be empty: 0 of 4 cells"):
        split.random_split(small, 0.1)
    with pytest.raises(ValueError, match="the training part would be empty: 4 of 4 cells"):
        split.random_split(small, 0.9)
    with pytest.raises(ValueError, match="the test part would be empty"):
        split.per_user_split(small, 0.2)
    with pytest.raises(ValueError, match="the test part would be empty"):
        split.leave_last_out(small, np.arange(4), 2)
    with pytest.raises(ValueError, match="the training part would be empty"):
        split.time_split(small, np.zeros(4), 0.5)
    with pytest.raises(ValueError, match="the test part would be empty"):
        split.time_split(small, np.arange(4), 0.1)


def test_ratings_without_cells_cannot_be_split():
    empty = Ratings(sp.csr_array((3, 4)))
    for cut in (lambda: split.random_split(empty), lambda: split.per_user_split(empty),
                lambda: split.leave_last_out(empty, []), lambda: split.time_split(empty, []),
                lambda: split.user_split(empty), lambda: split.k_fold(empty),
                lambda: split.file_folds(empty, [])):
        with pytest.raises(ValueError, match="empty|hold out|number of cells"):
            cut()


def test_a_sparse_matrix_is_taken_as_it_is(ratings):
    of_matrix = split.random_split(sp.coo_matrix(ratings.by_user), 0.3, 7)
    assert same(of_matrix[1], split.random_split(ratings, 0.3, 7)[1])


def test_stored_zeros_are_cells_like_others():
    zeros = Ratings(sp.csr_array((np.zeros(10), np.arange(10), [0, 10])))
    train, test = split.random_split(zeros, 0.3, 0)
    assert (train.nnz, test.nnz) == (7, 3)


# ------------------------------------------------------------------ one claim per split


@given(strategies.ratings(min_nnz=2), strategies.seeds,
       st.sampled_from([0.1, 0.25, 0.5, 0.8]))
def test_a_random_split_holds_out_the_share_to_the_nearest_cell(ratings, seed, size):
    wanted = round(size * ratings.nnz)
    assume(0 < wanted < ratings.nnz)
    train, test = split.random_split(ratings, size, seed)
    assert test.nnz == wanted
    assert train.nnz == ratings.nnz - wanted


def test_a_random_split_draws_each_cell_equally_often():
    small = full(3, 4)
    often = sum(split.random_split(small, 0.25, seed)[1].by_user.toarray() > 0
                for seed in range(400))
    # 100 expected each, standard deviation 8.7.
    assert often.min() > 60
    assert often.max() < 140


@given(strategies.ratings(min_nnz=2), strategies.seeds, st.integers(2, 5))
def test_folds_test_each_cell_once_and_are_of_equal_size(ratings, seed, n_folds):
    assume(ratings.nnz >= n_folds)
    tests = [test for _, test in split.k_fold(ratings, n_folds, seed)]
    sizes = [test.nnz for test in tests]
    assert max(sizes) - min(sizes) <= 1
    assert sum(sizes) == ratings.nnz
    assert {cell for test in tests for cell in cells(test)} == cells(ratings).keys()


def test_folds_are_checked_before_the_first_is_asked_for():
    with pytest.raises(ValueError, match="n_folds must be >= 2, got 1"):
        split.k_fold(full(2, 2), 1)
    with pytest.raises(ValueError, match="n_folds must be <= the number of cells, 4, got 5"):
        split.k_fold(full(2, 2), 5)
    with pytest.raises(TypeError, match="n_folds must be an integer"):
        split.k_fold(full(2, 2), 2.0)


@given(strategies.ratings(), strategies.seeds, st.sampled_from([0.1, 0.2, 0.5, 0.9]))
def test_each_user_gives_a_share_and_keeps_a_cell(ratings, seed, size):
    had = counts(ratings)
    wanted = np.maximum(0, np.minimum(np.floor(size * had + 0.5), had - 1))
    assume(wanted.sum() > 0)
    train, test = split.per_user_split(ratings, size, seed)
    np.testing.assert_array_equal(counts(test), wanted)
    assert (counts(train)[had > 0] > 0).all()


def test_a_users_cells_are_drawn_equally_often():
    small = full(2, 5)
    often = sum(split.per_user_split(small, 0.4, seed)[1].by_user.toarray() > 0
                for seed in range(400))
    # 160 expected each, standard deviation 9.8.
    assert often.min() > 115
    assert often.max() < 205


def test_users_draw_independently_of_each_other():
    test = split.per_user_split(full(200, 2), 0.5, 1)[1]
    first = (test.by_user.toarray()[:, 0] > 0).mean()
    assert 0.35 < first < 0.65


@given(strategies.ratings(), st.integers(1, 3), st.data())
def test_the_last_cells_of_each_user_are_left_out(ratings, n, data):
    moments = data.draw(st.lists(st.integers(-3, 3), min_size=ratings.nnz,
                                 max_size=ratings.nnz))
    assume((counts(ratings) > n).any())
    expected = set()
    for u in range(ratings.shape[0]):
        row = slice(*ratings.by_user.indptr[u:u + 2])
        dated = sorted(zip(moments[row], ratings.by_user.indices[row].tolist(), strict=True))
        if len(dated) > n:
            expected |= {(u, item) for _, item in dated[-n:]}
    assert cells(split.leave_last_out(ratings, moments, n)[1]).keys() == expected


@pytest.mark.parametrize("convert", [
    lambda t: t.astype(np.float64) / 3, lambda t: t.astype("datetime64[s]"),
    lambda t: (t % 100).astype(np.int8), lambda t: (t - 10**9).astype(np.uint64) + 2**63,
    lambda t: np.where(t % 2 == 0, t, -t) * 2**33, lambda t: t.tolist()],
    ids=["float", "datetime", "int8", "uint64", "wide", "list"])
def test_any_type_of_timestamp_orders_alike(ratings, timestamps, convert):
    moments = convert(timestamps)
    test = split.leave_last_out(ratings, moments, 1)[1]
    exact = np.asarray(moments)
    exact = (exact.astype(np.int64) if exact.dtype.kind == "M" else exact).tolist()
    bounds = ratings.by_user.indptr.tolist()
    last = {max(range(a, b), key=lambda t: (exact[t], t))
            for a, b in zip(bounds[:-1], bounds[1:], strict=True) if b - a > 1}
    every = list(cells(ratings))
    assert cells(test).keys() == {every[t] for t in last}


def test_users_of_few_cells_are_only_trained_on(ratings, timestamps):
    train, test = split.leave_last_out(ratings, timestamps, 3)
    few = counts(ratings) <= 3
    assert few.sum() >= 8
    np.testing.assert_array_equal(counts(test), np.where(few, 0, 3))
    np.testing.assert_array_equal(counts(train)[few], counts(ratings)[few])


@pytest.mark.parametrize(("timestamps", "at"), [
    (range(100), 70), (range(100), 69.5), (np.arange(100).astype("M8[D]"), "1970-03-12"),
    (np.arange(100).astype("M8[D]"), np.datetime64("1970-03-11T01")),
    (np.arange(100).astype("M8[D]").astype("M8[ns]"), datetime.datetime(1970, 3, 12))])
def test_a_moment_cuts_as_well_as_a_share(timestamps, at):
    ratings = Ratings(sp.csr_array(np.arange(1.0, 101).reshape(10, 10)))
    train, test = split.time_split(ratings, timestamps, at=at)
    assert sorted(test.by_user.data) == list(range(71, 101))
    assert sorted(train.by_user.data) == list(range(1, 71))


def test_a_moment_is_of_the_kind_of_the_timestamps():
    ratings = Ratings(sp.csr_array(np.ones((2, 2))))
    for timestamps, at, message in (
            (np.arange(4).astype("M8[s]"), 2.5, "at must be a date or time, as the timestamps are"),
            (range(4), "1970", "at must be a real number")):
        with pytest.raises(TypeError, match=message):
            split.time_split(ratings, timestamps, at=at)


@pytest.mark.parametrize("cut", [split.leave_last_out, split.time_split])
def test_unusable_timestamps_are_refused(cut):
    small = full(2, 2)
    with pytest.raises(ValueError, match=r"timestamps must have shape \(4,\), got \(3,\)"):
        cut(small, np.arange(3))
    with pytest.raises(ValueError, match="timestamps must be finite, got nan at position 1"):
        cut(small, [0, np.nan, 1, 2])
    with pytest.raises(ValueError, match="timestamps must not hold NaT"):
        cut(small, np.array(["2020-01-01", "NaT", "2020-01-02", "2020-01-03"], "M8[D]"))
    with pytest.raises(TypeError, match="timestamps must be numbers"):
        cut(small, ["a", "b", "c", "d"])
    with pytest.raises(ValueError, match="n must be >= 1, got 0"):
        split.leave_last_out(small, np.arange(4), 0)


@given(strategies.ratings(min_nnz=2), st.data(), st.sampled_from([0.2, 0.5, 0.7]))
def test_training_ends_before_testing_begins(ratings, data, size):
    moments = np.array(data.draw(st.lists(st.integers(-3, 3), min_size=ratings.nnz,
                                          max_size=ratings.nnz)))
    wanted = round(size * ratings.nnz)
    cut = np.sort(moments)[-wanted] if wanted else None
    assume(wanted and (moments < cut).any())
    train, test = split.time_split(ratings, moments, size)
    assert test.nnz >= wanted
    assert test.nnz == (moments >= cut).sum()
    time_of = dict(zip(cells(ratings), moments.tolist(), strict=True))
    assert max(time_of[cell] for cell in cells(train)) < min(time_of[cell] for cell in cells(test))


# -------------------------------------------------------------------------- whole users


@pytest.fixture(scope="module")
def held_out(ratings: Ratings) -> tuple[Ratings, Ratings, Ratings]:
    return split.user_split(ratings, 0.25, 0.6, random_state=2)


def test_held_out_users_are_unknown_to_training(ratings, held_out):
    train, fold_in, test = held_out
    assert fold_in.shape[0] == test.shape[0] == round(0.25 * ratings.shape[0])
    assert train.shape[0] + test.shape[0] == ratings.shape[0]
    assert train.shape[1] == fold_in.shape[1] == test.shape[1] == ratings.shape[1]
    assert list(fold_in.user_ids) == list(test.user_ids)
    assert {*train.user_ids, *test.user_ids} == {*ratings.user_ids}
    assert list(train.item_ids) == list(test.item_ids) == list(ratings.item_ids)


def test_a_held_out_user_is_split_into_fold_in_and_test(ratings, held_out):
    _, fold_in, test = held_out
    rows = ratings.user_positions(test.user_ids)
    whole = cells(ratings.select_users(rows))
    assert cells(fold_in) | cells(test) == whole
    assert not cells(fold_in).keys() & cells(test).keys()
    shown = np.floor(0.6 * counts(ratings)[rows] + 0.5)
    np.testing.assert_array_equal(counts(fold_in), np.clip(shown, 1, counts(ratings)[rows] - 1))


def test_the_other_users_are_trained_on_in_full(ratings, held_out):
    train = held_out[0]
    assert same(train, ratings.select_users(ratings.user_positions(train.user_ids)))
    assert train.weights is not None


@given(strategies.ratings(min_nnz=4), strategies.seeds, st.floats(0, 1, exclude_min=True),
       st.sampled_from([0.1, 0.5, 0.95]))
def test_every_held_out_user_has_both_parts(ratings, seed, part, fold_in_size):
    n_users = ratings.shape[0]
    most = min((counts(ratings) >= 2).sum(), n_users - 1)
    assume(most >= 1)
    n_held = int(np.ceil(part * most))
    _, fold_in, test = split.user_split(ratings, n_held / n_users, fold_in_size, seed)
    assert fold_in.shape[0] == test.shape[0] == n_held
    assert counts(fold_in).min() >= 1
    assert counts(test).min() >= 1


def test_the_seed_decides_the_held_out_users(ratings):
    parts = [split.user_split(ratings, 0.2, random_state=seed) for seed in (1, 1, 2)]
    assert all(same(a, b) for a, b in zip(parts[0], parts[1], strict=True))
    assert list(parts[0][2].user_ids) == list(parts[1][2].user_ids)
    assert list(parts[0][2].user_ids) != list(parts[2][2].user_ids)


def test_more_held_out_users_than_can_be_folded_in_are_refused():
    lonely = Ratings(sp.csr_array(np.eye(6)))
    with pytest.raises(ValueError, match="got 3 of 6 to hold out, 0 of which have two cells"):
        split.user_split(lonely, 0.5)
    with pytest.raises(ValueError, match="got 0 of 2 to hold out"):
        split.user_split(full(2, 3), 0.1)
    with pytest.raises(ValueError, match="got 2 of 2 to hold out"):
        split.user_split(full(2, 3), 0.9)


# ------------------------------------------------------------------------- file folds


def test_file_folds_are_contiguous_lines():
    small = full(4, 5)
    order = np.random.default_rng(1).permutation(20)
    for fold, (train, test) in enumerate(split.file_folds(small, order, 5)):
        lines = [order[t] for t, cell in enumerate(cells(small)) if cell in cells(test)]
        assert sorted(lines) == list(range(4 * fold, 4 * fold + 4))
        assert train.nnz == 16


@pytest.mark.parametrize("order", [[0, 1, 2, 2], [0, 1, 2, 4], [-1, 0, 1, 2]])
def test_an_order_that_does_not_name_each_line_once_is_refused(order):
    with pytest.raises(ValueError, match="file_order must name each line from 0 to 3 once"):
        split.file_folds(full(2, 2), order, 2)


def test_an_order_of_another_type_or_length_is_refused():
    with pytest.raises(TypeError, match="file_order must be line numbers"):
        split.file_folds(full(2, 2), np.arange(4.0), 2)
    with pytest.raises(ValueError, match=r"file_order must have shape \(4,\)"):
        split.file_folds(full(2, 2), np.arange(5), 2)


def test_the_folds_of_ml100k_are_the_published_ones(ml100k):
    folds = list(split.file_folds(ml100k.ratings, ml100k.file_order))
    assert [test.nnz for _, test in folds] == [20_000] * 5
    # u1 to u5 test 459, 653, 869, 923 and 927 users.
    assert [(counts(test) > 0).sum() for _, test in folds] == [459, 653, 869, 923, 927]
    assert hashlib.md5(_as_u1_test(ml100k, folds[0][1])).hexdigest() == \
        "62d5d837e7c8e36550cc956b09c2ecc8"


def _as_u1_test(dataset, test: Ratings) -> bytes:
    """Write a test part as u1.test is written: user, item, rating, time, by user and item."""
    moment_of = dict(zip(cells(dataset.ratings), dataset.timestamps.tolist(), strict=True))
    users, items = dataset.ratings.user_ids, dataset.ratings.item_ids
    lines = sorted((int(users[u]), int(items[i]), int(value), moment_of[u, i])
                   for (u, i), value in cells(test).items())
    return "".join("\t".join(map(str, line)) + "\n" for line in lines).encode()
