"""Ids that are integers compare exactly, whatever type or container they come in.

float64 holds 53 bits: NumPy compares uint64 with int64 by it, and makes it of a list of both.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfcore import MatrixFactorization, Ratings, evaluate
from mfcore.cli.inputs import ids_of
from mfcore.data.ids import as_int64, as_vector

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


def test_what_is_no_integer_is_no_integer():
    odd = np.array([True, 1.0, "1", None, np.timedelta64(1), (1,)], object)
    assert not as_int64(odd)[1].any()
