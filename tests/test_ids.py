"""Ids that are integers compare exactly, whatever type or container they come in.

float64 holds 53 bits: NumPy compares uint64 with int64 by it, and makes it of a list of both.
"""

from __future__ import annotations

import dataclasses
import itertools
import pickle
import tempfile
import tracemalloc
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfcore import MatrixFactorization, Ratings, evaluate
from mfcore.cli.inputs import ids_of
from mfcore.data.ids import Coded, Ids, as_int64, as_vector, factorize, text_of
from mfcore.data.ids_in_pieces import CollectedIds
from mfcore.data.positions import known_positions, named_or_none, positions_of

FIRST = 76561197960265728           # where the account numbers of a large shop begin
USERS = np.array([FIRST + 1, FIRST + 2, 2**53 + 1, 2**63 - 1, 3, -2, -2**63, 2**31 + 5])
ITEMS = np.array([-1, 2**53, 2**53 + 1, 2**62 + 1, 7])
STRANGERS = [FIRST, FIRST + 3, 2**53, 2**53 + 2, 2**63, 2**64 - 1, 2**64 + 3, -3, 2**70]


def frame_column(values, dtype):
    return pytest.importorskip("pandas").Series(values, dtype=dtype)


def arrow_column(values, kind):
    arrow = pytest.importorskip("pyarrow")
    return arrow.array(values, getattr(arrow, kind)())


FORMS = {
    "uint64": lambda ids: np.array(ids, np.uint64), "int64": lambda ids: np.array(ids, np.int64),
    "big-endian": lambda ids: np.array(ids, ">u8"), "objects": lambda ids: np.array(ids, object),
    "list": list, "tuple": tuple, "generator of int": lambda ids: list(map(int, ids)),
    "scalars": lambda ids: [np.uint64(one) if one >= 0 else int(one) for one in ids],
    "mixed": lambda ids: [(int, np.uint64)[place % 2 and one >= 0](one)
                          for place, one in enumerate(ids)],
    "pandas": lambda ids: frame_column(ids, "uint64"),
    "nullable": lambda ids: frame_column(ids, "UInt64"),
    "arrow": lambda ids: arrow_column(ids, "uint64"),
    "polars": lambda ids: pytest.importorskip("polars").Series(ids),
}


def fitting(form, ids):
    """Return those of the ids that a form can hold, as the form."""
    signed = form in ("int64", "objects", "list", "tuple", "generator of int", "scalars", "mixed",
                      "polars")
    kept = [int(one) for one in ids if (one >= 0 or signed) and
            (one < 2**63 or form not in ("int64", "polars")) and
            (one < 2**64 or form in ("objects", "list", "tuple", "generator of int"))]
    return FORMS[form](kept), kept


@pytest.fixture(scope="module")
def model():
    cells = [(u, i) for u in range(len(USERS)) for i in range(len(ITEMS)) if (u + i) % 3]
    users, items = np.array(cells).T
    ratings = Ratings.from_arrays(USERS[users], ITEMS[items], (users * items) % 5 + 1.0)
    return MatrixFactorization(2, n_epochs=2, random_state=0).fit(ratings)


@pytest.mark.parametrize("form", FORMS)
def test_known_ids_are_found_and_strangers_are_not(model, form):
    ratings = model.ratings_
    asked, plain = fitting(form, USERS)
    wanted = [ratings.user_ids.tolist().index(one) for one in plain]
    assert ratings.user_positions(asked).tolist() == wanted
    assert ratings.known_users(asked).tolist() == wanted
    strange, plain = fitting(form, STRANGERS)
    assert ratings.user_positions(strange).tolist() == [-1] * len(plain)
    with pytest.raises(KeyError, match="users not seen in training"):
        ratings.known_users(strange)


@pytest.mark.parametrize("form", FORMS)
def test_ratings_of_any_form_of_ids_are_the_same(form):
    users, plain = fitting(form, np.sort(USERS))
    ratings = Ratings.from_arrays(users, np.arange(len(plain)))
    assert ratings.user_ids.tolist() == plain
    assert ratings.user_positions(np.array(plain, object)).tolist() == list(range(len(plain)))


QUESTIONS = {
    "predict": lambda model, users, items: model.predict(users, [7] * len(users)),
    "predict items": lambda model, users, items: model.predict(FIRST + 1, items),
    "recommend": lambda model, users, items: model.recommend(users, 3)[0],
    "items=": lambda model, users, items: model.recommend(FIRST + 1, 3, items=items)[0],
    "exclude_items=": lambda model, users, items: model.recommend(3, 3, exclude_items=items)[0],
    "similar_users": lambda model, users, items: model.similar_users(users, 2)[0],
    "similar_items": lambda model, users, items: model.similar_items(items, 2)[0],
    "fold_in_users": lambda model, users, items: model.fold_in_users(
        Ratings.from_arrays([0] * len(items), items)).factors,
    "evaluate": lambda model, users, items: [*evaluate(model, Ratings.from_arrays(
        users, [2**53 + 1] * len(users), np.arange(1.0, 1 + len(users))),
        exclude_seen=False, metrics=["rmse", "auc"]).values()],
    "candidates=": lambda model, users, items: [*evaluate(model, Ratings.from_arrays(
        [FIRST + 1] * len(items), items), exclude_seen=False, candidates=items,
        metrics=["ndcg"]).values()],
    "partial_fit": lambda model, users, items: MatrixFactorization(
        2, n_epochs=1, random_state=0).fit(model.ratings_).partial_fit(
            model.ratings_.select_users(model.ratings_.known_users(users)), users=users
        ).user_factors_,
    "score": lambda model, users, items: model.score(list(zip(users, [7] * len(users),
                                                              strict=True)), [1.0] * len(users)),
}


@pytest.mark.parametrize("form", ["uint64", "objects", "mixed", "nullable"])
@pytest.mark.parametrize("ask", QUESTIONS.values(), ids=QUESTIONS)
def test_every_question_has_one_answer_in_every_form(model, ask, form):
    known = [np.sort([one for one in ids if one >= 0]).tolist() for ids in (USERS, ITEMS)]
    wanted = ask(model, *(np.array(ids, np.int64) for ids in known))
    np.testing.assert_array_equal(ask(model, *map(FORMS[form], known)), wanted)


def test_new_users_keep_their_exact_ids_or_are_refused(model):
    fresh = MatrixFactorization(2, n_epochs=1, random_state=0).fit(model.ratings_)
    row = model.ratings_.by_user[[0]]
    fresh.partial_fit(row, users=np.array([2**53 + 3], np.uint64))
    assert fresh.user_ids_[-1] == 2**53 + 3
    for users in (np.array([2**64 - 2], np.uint64), [2**64 - 2], ["ann"]):
        with pytest.raises(TypeError, match="users of the fit are integers"):
            fresh.partial_fit(row, users=users)
    assert fresh.n_users_ == len(USERS) + 1


@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "u8", "i1", "i2", ">i4", ">u8"])
def test_row_numbers_of_any_type_are_found_or_unknown(kind):
    ratings = Ratings.from_arrays(range(100), range(100))
    bare = Ratings(ratings.by_user)
    asked = np.array([3, 99, 100, 120], kind)
    assert bare.user_positions(asked).tolist() == [3, 99, -1, -1]
    with pytest.raises(IndexError, match=r"in \[0, 99\], got 100, 120"):
        bare.known_users(asked)


def test_words_of_the_command_line_are_exact(model):
    words = [str(one) for one in (*USERS.tolist(), *STRANGERS)]
    found = model.ratings_.user_positions(ids_of("users", words, model.user_ids_))
    assert (found >= 0).tolist() == [True] * len(USERS) + [False] * len(STRANGERS)


@given(st.lists(st.integers(-2**65, 2**65)))
def test_integers_stay_exact_or_do_not_fit(values):
    whole, fits = as_int64(as_vector(values))
    assert fits.tolist() == [-2**63 <= one < 2**63 for one in values]
    assert whole.tolist() == [one if fit else 0 for one, fit in zip(values, fits, strict=True)]


def test_an_unsigned_integer_that_does_not_fit_becomes_0():
    whole, fits = as_int64(np.array([2**63, 5], np.uint64))
    assert (whole.tolist(), fits.tolist()) == ([0, 5], [False, True])


def test_what_is_no_integer_is_no_integer():
    odd = np.array([True, 1.0, "1", None, np.timedelta64(1), (1,)], object)
    assert not as_int64(odd)[1].any()


# ------------------------------------------------------------------------ ids, put in order

near, far = st.integers(-30, 30), st.sampled_from([-2**63, -2**40, -1, 0, 5, 2**53 + 1, 2**63 - 1])
words = st.text("abé", max_size=3).filter(bool)
KINDS = st.sampled_from([near, far, words, st.one_of(near, far)])


def number_in(distinct):
    """The row of each id, numbered as they are sorted."""
    return {value: row for row, value in enumerate(sorted(distinct))}


@given(KINDS.flatmap(lambda kind: st.lists(kind, max_size=12)))
def test_ids_are_numbered_as_sorted(values):
    distinct, rows = factorize("users", values)
    numbers = number_in(set(values))
    assert distinct.tolist() == list(numbers)
    assert rows.tolist() == [numbers[value] for value in values]


@pytest.mark.parametrize("gap", [999_980, 1_000_000, 1_000_007, 1_000_008, 1_000_009, 10**7])
@pytest.mark.parametrize("low", [0, -5, 2**62])
def test_ids_are_numbered_alike_on_both_sides_of_the_limit_of_a_table(gap, low):
    values = [low + gap, low, low + gap]
    distinct, rows = factorize("users", values)
    assert (distinct.tolist(), rows.tolist()) == ([low, low + gap], [1, 0, 1])
    collected = CollectedIds("users")
    keys = collected.keys(np.array(values))
    assert collected.numbers(keys).tolist() == [1, 0, 1]
    assert collected.numbers(keys[:1]).tolist() == [1]


def peak_of(work):
    """Bytes of all arrays at the worst moment of some work."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("last", "has_table"), [
    (900_000, True), (1_000_400, True), (1_000_401, False), (10**7, False)])
def test_a_table_of_ids_has_a_million_entries_and_four_for_each_id_or_is_not_made(last, has_table):
    ids = np.append(np.arange(99), last)
    assert (peak_of(lambda: factorize("users", ids)) > 900_000) == has_table
    collected = CollectedIds("users")
    keys = collected.keys(ids)
    assert (peak_of(lambda: collected.numbers(keys)) > 7_000_000) == has_table


def test_a_column_by_numbers_of_its_ids_cannot_be_changed():
    column = Coded(np.array(["a"], object), np.zeros(2, np.int64))
    with pytest.raises(dataclasses.FrozenInstanceError):
        column.codes = np.ones(2, np.int64)


@pytest.mark.parametrize(("values", "error", "message"), [
    (["a", None, "b", None], ValueError, "None in row 1 "),
    (["a", "b", 1.5, "a"], TypeError, "got 1.5 in row 2$"),
    ([Decimal(4), Decimal("1.5")], TypeError, r"got Decimal\('1.5'\) in row 1$"),
    ([Decimal(4), Decimal("2.5")], TypeError, r"got Decimal\('2.5'\) in row 1$")])
def test_the_first_row_of_what_is_no_id_is_named(values, error, message):
    with pytest.raises(error, match=message):
        factorize("users", values)


def test_one_missing_id_is_one_in_all():
    with pytest.raises(ValueError, match=r"got None in row 3 \(1 in all\)"):
        text_of("users", None, 3)


def test_whole_decimals_have_the_keys_of_integers():
    keys = CollectedIds("users").keys([Decimal(3), Decimal(-1), Decimal(3)])
    assert (keys.tolist(), keys.dtype) == ([3, -1, 3], np.int64)


def test_three_of_those_that_are_no_integers_among_integers_are_named():
    with pytest.raises(TypeError, match=r"^users of the fit are integers, got \['a', 'b', 'c'\]$"):
        Ids("users", [1, 2]).in_kind("users", np.array([1, "a", "b", "c", "d"], object))


def test_ids_that_do_not_compare_are_numbered_as_they_come():
    distinct, rows = factorize("users", ["b", (1, 2), "a", "b"])
    assert (distinct.tolist(), rows.tolist()) == (["b", (1, 2), "a"], [0, 1, 2, 0])


@given(KINDS.flatmap(lambda kind: st.lists(st.lists(kind, min_size=1, max_size=6), max_size=4)),
       st.integers(0, 4))
def test_ids_collected_in_pieces_are_numbered_as_if_they_came_at_once(pieces, kept_after):
    collected, keys = CollectedIds("users"), []
    with tempfile.TemporaryDirectory() as folder:
        for number, piece in enumerate(pieces):
            if number == kept_after:
                collected.save(Path(folder, "ids"))
                collected = CollectedIds.load(Path(folder, "ids"), "users")
            before = {*itertools.chain(*pieces[:number])}
            assert len(collected) == len(before)
            assert collected.sorted_ids.tolist() == sorted(before)
            if number:                                  # numbered so far, and then once more
                assert collected.numbers(keys[0]).tolist() == [
                    number_in(before)[value] for value in pieces[0]]
            keys.append(collected.keys(piece))
            assert keys[-1].dtype == np.int64
    numbers = number_in({*itertools.chain(*pieces)})
    assert collected.sorted_ids.tolist() == list(numbers)
    for piece, key in zip(pieces, keys, strict=True):
        assert collected.numbers(key).tolist() == [numbers[value] for value in piece]


@pytest.mark.parametrize("pieces", [([], ["a"]), (["a"], []), ([], [3]), ([3], [])])
def test_no_ids_are_of_no_kind(pieces, tmp_path):
    collected = CollectedIds("users")
    for piece in pieces:
        for empty in (np.empty(0, object), np.empty(0, np.int64)):
            keys = collected.keys(piece or empty)
            assert (keys.dtype, len(keys)) == (np.int64, len(piece))
            collected.save(tmp_path / "ids")
            collected = CollectedIds.load(tmp_path / "ids", "users")
    assert collected.sorted_ids.tolist() == pieces[0] + pieces[1]


def test_without_a_file_no_ids_are_collected(tmp_path):
    collected = CollectedIds.load(tmp_path / "ids", "users")
    assert (len(collected), collected.name, collected.sorted_ids.tolist()) == (0, "users", [])
    assert collected.numbers(np.empty(0, np.int64)).tolist() == []


@pytest.mark.parametrize("pieces", [([1, 2], ["1"]), (["1"], [1, 2])])
def test_numbers_in_one_piece_and_text_in_another_are_refused(pieces):
    collected = CollectedIds("items")
    collected.keys(pieces[0])
    with pytest.raises(ValueError, match="items are whole numbers in some parts and text in oth"):
        collected.keys(pieces[1])
    assert len(collected) == len(pieces[0])


def test_repeated_ids_are_counted_and_ids_cannot_be_written():
    with pytest.raises(ValueError, match="users must be distinct, got 4 ids of which 3 differ"):
        Ids("users", [5, 1, 5, 2])
    given_array = np.array([7, 3])
    ids = Ids("users", given_array)
    given_array[0] = 8
    for each in (ids, pickle.loads(pickle.dumps(ids))):
        assert each.values.tolist() == [7, 3]
        assert not each.values.flags.writeable
        assert each.positions([3, 7, 8, 2, 9]).tolist() == [1, 0, -1, -1, -1]
    assert Ids("users", []).positions([1, 2]).tolist() == [-1, -1]
    assert Ids("users", []).positions([]).tolist() == []
    with pytest.raises(TypeError, match="ids must be integers, strings .* got dtype float64"):
        ids.positions(np.array([7.0]))


def test_names_of_rows_are_as_many_as_the_rows():
    ids = Ids("users", ["a", "b"])
    assert named_or_none("users", None, 3) is None
    assert named_or_none("users", ids, 2) is ids
    assert named_or_none("users", [4, 2, 6], 3).values.tolist() == [4, 2, 6]
    for size in (1, 3):
        with pytest.raises(ValueError, match=f"users must have {size} entries, got 2"):
            named_or_none("users", ids, size)


@pytest.mark.parametrize(("asked", "vector"), [
    (5, [5]), ("ab", ["ab"]), (b"ab", [b"ab"]), ((1, 2), [1, 2]), ([(1, 2)], [(1, 2)]),
    ([(1, 2), "a", 3], [(1, 2), "a", 3]), (range(3), [0, 1, 2]), ([], []), (np.int64(4), [4]),
    (np.array(7), [7]), (np.array(["a", "b"]), ["a", "b"]), ({"a": 1}, ["a"]), (None, [None])])
def test_what_is_asked_for_is_a_vector_of_ids(asked, vector):
    assert as_vector(asked).tolist() == vector


@pytest.mark.parametrize("asked", [[[1, 2], [3, 4]], np.zeros((2, 2), int)])
def test_a_table_is_no_vector_of_ids(asked):
    with pytest.raises(ValueError, match=r"ids must be one-dimensional, got shape \(2, 2\)"):
        as_vector(asked)


@pytest.mark.parametrize(("values", "error", "message"), [
    (np.zeros((2, 1), int), ValueError, r"users must be one-dimensional, got shape \(2, 1\)"),
    (np.ma.masked_array([1, 2, 3], [0, 1, 1]), ValueError,
     "not be missing, got masked in row 1 .2 in all"),
    (np.array([2**63, 1], np.uint64), ValueError, r"users must be < 2\*\*63, got 922337203685477580"
                                                   "8; strings can hold them"),
    ([1.5], TypeError, "got 1.5"), (np.array([1.5]), TypeError, "got dtype float64"),
    (np.array([True]), TypeError, "got dtype bool"), (["a", None], ValueError, "missing, got None"),
    (np.array([1j]), TypeError, "got dtype complex128"), ([[1], "a"], TypeError, "hashable"),
    (["a", float("nan")], ValueError, "missing, got nan"), (["a", True], TypeError, "got True")])
def test_what_is_no_id_is_refused_and_named(values, error, message):
    with pytest.raises(error, match=message):
        factorize("users", values)


def test_row_numbers_without_ids_are_those_below_the_size():
    assert positions_of("users", [0, 4, 5, -1, 2**40], None, 5).tolist() == [0, 4, -1, -1, -1]
    for wide in (np.uint64(2**63 + 1), 2**70, [2**63], np.array([2**63], np.uint64)):
        assert positions_of("users", wide, None, 5).tolist() == [-1]
        with pytest.raises(IndexError, match=r"users must be in \[0, 4\], got [0-9]+$"):
            known_positions("users", wide, None, 5)
    assert positions_of("users", [2**70, 3, -2**70], None, 5).tolist() == [-1, 3, -1]
    assert positions_of("users", [], None, 5).tolist() == []
    assert positions_of("users", ["b", "c"], Ids("users", ["a", "b"]), 2).tolist() == [1, -1]
    with pytest.raises(TypeError, match="users must be row numbers .*, got dtype float64"):
        positions_of("users", [1.0], None, 5)


def test_the_ends_of_int64_are_ids_and_what_lies_beyond_is_unknown():
    assert as_int64(np.array([2**63 - 1, 2**63], np.uint64))[1].tolist() == [True, False]
    ids = Ids("users", [-2**63, 2**63 - 1])
    assert ids.positions(np.array([2**63 - 1, 2**63], np.uint64)).tolist() == [1, -1]
    assert ids.positions(as_vector([-2**63, -2**63 - 1])).tolist() == [0, -1]


@pytest.mark.parametrize("made", ["pandas", "polars"])
def test_a_frame_of_two_columns_or_none_is_no_column_of_ids(made):
    frames = pytest.importorskip(made)
    for columns in {"id": [1, 2], "rating": [3, 4]}, {}:
        with pytest.raises(ValueError, match="users must be one-dimensional, got shape"):
            factorize("users", frames.DataFrame(columns))
    assert factorize("users", frames.DataFrame({"id": [5, 7]}))[0].tolist() == [5, 7]


def test_one_number_is_no_column_of_ids():
    with pytest.raises(ValueError, match=r"users must be one-dimensional, got shape \(\)"):
        factorize("users", np.array(5))


def test_fractions_are_refused_with_the_first_of_them():
    with pytest.raises(TypeError, match=r"got dtype float64, such as 1\.5; astype"):
        factorize("users", np.array([1.5, 2.5]))
    with pytest.raises(TypeError, match="got dtype float64; astype"):
        factorize("users", np.zeros(0))


def test_coded_ids_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Coded(np.array([1]), np.array([0])).rows = np.array([1])
