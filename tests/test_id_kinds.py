"""An id means the same in every container, and as an integer or as its text.

Ids of a fit and ids of a question come from a database, a frame, or a file of text.
"""

from __future__ import annotations

import datetime
import warnings

import numpy as np
import pytest

from mfcore import EASE, ImplicitMF, MatrixFactorization, Ratings, evaluate
from mfcore.data import ids as ids_module
from mfcore.data.ids import Ids, as_vector
from mfcore.data.merging import merged
from mfcore.models import sides

pandas = pytest.importorskip("pandas")
arrow = pytest.importorskip("pyarrow")
polars = pytest.importorskip("polars")

NUMBERS = [3, 10, 2, 41]
INTEGERS = {
    "list": list, "int8": lambda ids: np.array(ids, np.int8),
    "objects": lambda ids: np.array(ids, object), "series": pandas.Series,
    "nullable": lambda ids: pandas.array(ids, "Int64"), "categories": pandas.Categorical,
    "arrow": arrow.array, "chunks": lambda ids: arrow.chunked_array([ids[:1], ids[1:]]),
    "arrow scalars": lambda ids: list(arrow.array(ids)),
    "one column": lambda ids: pandas.DataFrame({"id": ids}),
    "one column of Arrow": lambda ids: arrow.table({"id": ids}),
    "keys": lambda ids: dict.fromkeys(ids).keys(),
}
TEXTS = {
    "list": lambda ids: list(map(str, ids)), "str": lambda ids: np.array(list(map(str, ids))),
    "bytes": lambda ids: np.array([str(each).encode() for each in ids]),
    "series": lambda ids: pandas.Series(list(map(str, ids))),
    "categories": lambda ids: pandas.Categorical(list(map(str, ids))),
    "arrow": lambda ids: arrow.array(list(map(str, ids))),
    "dictionary": lambda ids: arrow.array(list(map(str, ids))).dictionary_encode(),
}
FORMS = [(f"{kind} {name}", form) for kind, forms in (("integers", INTEGERS), ("texts", TEXTS))
         for name, form in forms.items()]
IDS = {"argvalues": [form for _, form in FORMS], "ids": [name for name, _ in FORMS]}


@pytest.mark.parametrize("fitted", **IDS)
@pytest.mark.parametrize("asked", **IDS)
def test_an_id_is_found_whatever_holds_it(fitted, asked):
    ids = Ids("users", fitted(NUMBERS))
    assert ids.positions(asked([41, 3, 7, 10, 2])).tolist() == [3, 0, -1, 1, 2]


@pytest.mark.parametrize(("ids", "asked", "found"), [
    ([1, 2], ["01", "+1", "1.0", "1_0", "１", " 1", "", "-0", "1"], [-1] * 8 + [0]),
    ([-5, 0], ["-5", "0", "-05", "−5"], [0, 1, -1, -1]),
    (["1", 1, "2"], [1, "1", 2, b"1"], [1, 0, 2, -1]),       # 1 and "1" share a text
    (["007", "7"], [7, "007"], [1, 0]),
    (["", "a"], [("b",), "", frozenset("a")], [-1, 0, -1]),
    ([b"a\xff", "b"], ["a\udcff", b"b"], [0, 1]),
    ([2**63 - 1], [str(2**63 - 1), str(2**63), 2**63, "9" * 5000], [0, -1, -1, -1]),
    ([("a", 1), ("b", 2)], [("b", 2), ("b", "2")], [1, -1])])
def test_only_the_text_that_an_integer_prints_names_it(ids, asked, found):
    assert Ids("users", ids).positions(asked).tolist() == found


@pytest.mark.parametrize("ids", [[1, 2], ["1", "2"], [(1,), (2,)]], ids=["int", "str", "tuple"])
@pytest.mark.parametrize(("asked", "error", "message"), [
    ([1.0], TypeError, "users must be integers, strings"), (["a", 1.5], TypeError, "got 1.5"),
    (np.array([True]), TypeError, "got dtype bool"), (["a", True], TypeError, "got True"),
    ([None, "a"], ValueError, "users must not be missing, got None"),
    (pandas.array([1, None], "Int64"), ValueError, "users must not be missing, got .* in row 1"),
    (np.array(["NaT"], "M8[ns]"), ValueError, "must not be missing, got None"),
    (np.array(["2020-01-01"], "M8[D]"), TypeError, "makes names of them"),
    (pandas.date_range("2020", periods=2, tz="UTC"), TypeError, "got Timestamp.*makes names"),
    (["a", datetime.date(2020, 1, 1)], TypeError, "in row 1; .*makes names"),
    (arrow.array([1, None]), ValueError, "users must not be missing, got None in row 1"),
    (np.ma.array([1, 2], mask=[0, 1]), ValueError, "got masked in row 1"),
    (np.eye(2, dtype=int), ValueError, "one-dimensional, got shape")])
def test_what_no_fit_takes_no_question_takes(ids, asked, error, message):
    with pytest.raises(error, match=message):
        Ids("users", ids).positions(asked, "users")


@pytest.mark.parametrize("times", [
    pandas.Series(pandas.date_range("2020", periods=2, tz="UTC")),
    pandas.date_range("2020", periods=2),
    [datetime.date(2020, 1, 1), datetime.time(3)], [np.timedelta64(3, "s"), "a"]],
    ids=["with a zone", "without", "date and time", "time that passes"])
def test_times_are_no_ids_whatever_holds_them(times):
    with pytest.raises(TypeError, match="users must be integers, strings or other hashables, got"):
        Ratings.from_arrays(times, [1, 2])


def test_integers_of_128_bits_are_found():
    wide = polars.Series("id", [2, 1], polars.Int128)
    for asked in (wide, wide.to_frame()):
        assert Ids("users", [1, 2]).positions(asked).tolist() == [1, 0]


def test_what_has_no_order_or_is_not_yet_computed_is_refused(numbered):
    with pytest.raises(TypeError, match=r"users must have an order, got a set; sorted\(\)"):
        Ratings.from_arrays({1, 2}, [1, 2])
    model = EASE().fit(Ratings.from_arrays(*numbered))
    with pytest.raises(TypeError, match="items must have an order, got a frozenset"):
        model.predict([1, 2], frozenset([1, 2]))
    with pytest.raises(TypeError, match="users must be a column, got a LazyFrame; collect it"):
        model.predict(polars.LazyFrame({"user": [1]}), [1])


def test_a_column_of_an_integer_and_its_text_is_refused():
    with pytest.raises(ValueError, match="users must not be integers and their text .* 7 and '7'"):
        Ratings.from_arrays([7, "a", "7"], [1, 2, 3])
    assert Ratings.from_arrays([7, "a", "07"], [1, 2, 3]).shape == (3, 3)


def test_single_ids_are_vectors_of_one():
    for one in (5, "5", b"5", np.int64(5), arrow.scalar(5), np.array(5)):
        assert len(as_vector(one)) == 1
    assert as_vector(np.array([])).dtype == as_vector([]).dtype == np.int64


def test_selected_rows_keep_their_names_and_repeated_ones_are_refused():
    ids = Ids("users", list("abc"))
    assert ids.select(np.array([2, 0])).positions(["a", "c", "b"]).tolist() == [1, 0, -1]
    with pytest.raises(ValueError, match="must be distinct"):
        ids.select(np.array([1, 1]))


@pytest.mark.parametrize(("known", "given", "named"), [
    (["1", "2"], [2, 3], ["1", "2", "3"]), ([1, 2], ["2", "3"], [1, 2, 3]),
    (["1", "2"], np.array([b"2", b"x"]), ["1", "2", "x"])])
def test_new_users_get_names_of_the_kind_that_the_fit_has(known, given, named):
    old = Ratings(np_cells(2), user_ids=known)
    found = merged(old, Ratings(np_cells(2)), "replace", "last", users=given)
    assert found.ratings.user_ids.tolist() == named
    assert found.users.tolist() == [1, 2]


def test_a_new_user_without_a_number_is_refused_among_numbers():
    old = Ratings(np_cells(2), user_ids=[1, 2])
    with pytest.raises(TypeError, match=r"users of the fit are integers, got \['x'\]"):
        merged(old, Ratings(np_cells(2)), "add", "last", users=[2, "x"])


# ----------------------------------------------------------------------- in a model


def np_cells(n_users, n_items=3):
    from scipy import sparse
    return sparse.csr_array(np.arange(1.0, n_users * n_items + 1).reshape(n_users, n_items))


@pytest.fixture(scope="module")
def numbered():
    rng = np.random.default_rng(0)
    users, items = np.nonzero(rng.random((30, 20)) < 0.5)
    return users + 100, items + 500, rng.integers(1, 6, len(users)).astype(float)


@pytest.fixture(scope="module")
def by_text(numbered):
    users, items, values = numbered
    ratings = Ratings.from_arrays(users.astype(str), items.astype(str), values)
    return MatrixFactorization(4, n_epochs=3, random_state=0).fit(ratings)


def test_a_model_with_ids_of_text_answers_to_integers(by_text, numbered):
    users, items, values = numbered
    texts = users.astype(str), items.astype(str)
    assert np.array_equal(by_text.predict(users, items), by_text.predict(*texts))
    ours, theirs = Ratings.from_arrays(users, items, values), Ratings.from_arrays(*texts, values)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measured, expected = (evaluate(by_text, test, exclude_seen=False)
                              for test in (ours, theirs))
        assert measured == pytest.approx(expected, rel=1e-12)
        assert by_text.score(ours) == by_text.score(theirs)
    for one, other in zip(by_text.recommend(ratings=ours), by_text.recommend(ratings=theirs),
                          strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize(("shift", "said"), [
    ((0, 100), "the model knows 0 of the 20 items of the test set, and not 600, for one"),
    ((100, 0), "the model knows 0 of the 30 users of the test set"),
    ((16, 0), "the model knows 14 of the 30 users"), ((14, 9), None)])
def test_ratings_of_strangers_are_measured_with_a_warning(by_text, numbered, shift, said):
    users, items, values = numbered
    test = Ratings.from_arrays(users + shift[0], items + shift[1], values)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        evaluate(by_text, test, metrics="rmse")
    assert [said in str(each.message) for each in seen] == ([True] if said else [])


def test_a_watched_set_of_strangers_is_told_of_once(numbered):
    users, items, values = numbered
    strange = Ratings.from_arrays(users, items + 100, values)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        MatrixFactorization(2, n_epochs=3).fit(Ratings.from_arrays(*numbered), eval_set=strange)
    assert len([each for each in seen if "items of the test set" in str(each.message)]) == 1


@pytest.mark.parametrize("model", [ImplicitMF(4, n_epochs=2, random_state=0), EASE(reg=5.0),
                                   MatrixFactorization(4, n_epochs=2, random_state=0)],
                         ids=lambda model: type(model).__name__)
def test_unknown_ids_fail_a_request_unless_they_are_ignored(model, numbered):
    model = model.fit(Ratings.from_arrays(*numbered))
    known = model.recommend([101, 102], 3)
    with pytest.raises(KeyError, match="users not seen in training: 7"):
        model.recommend([101, 7, 102], 3)
    ids, scores = model.recommend([101, 7, 102], 3, unknown="ignore")
    assert np.array_equal(ids[[0, 2]], known[0])
    nobody = model.recommend(ratings=Ratings(np_cells(1, 1)[:, :0], item_ids=[]), k=3)
    assert np.isfinite(scores[1]).all()
    assert nobody[0].shape == (1, 3)
    new, more = (Ratings.from_arrays([0] * len(items), items) for items in ([505, 509],
                                                                             [505, 77, 509]))
    with pytest.raises(KeyError, match="items not seen in training: 77"):
        model.recommend(ratings=more)
    for ask in (lambda given, **options: model.recommend(ratings=given, **options),
                lambda given, **options: [model.predict(0, 503, ratings=given, **options)],
                model.fold_in_users if hasattr(model, "solver") else lambda *_, **__: [0]):
        for one, other in zip(ask(new), ask(more, unknown="ignore"), strict=True):
            assert np.array_equal(one, other)
    for name in ("items", "exclude_items"):
        with pytest.raises(KeyError, match="items not seen in training: 77"):
            model.recommend([101], **{name: [505, 77]})
        one, other = model.recommend([101], **{name: [505]}), \
            model.recommend([101], unknown="ignore", **{name: [505, 77]})
        assert np.array_equal(one[0], other[0])
    for ask in (lambda: model.recommend([101], unknown="skip"),
                lambda: model.recommend(unknown="skip"),
                lambda: model.recommend(ratings=model.ratings_, unknown="skip"),
                lambda: model.fold_in_users(model.ratings_, unknown="skip"),
                lambda: model.predict(101, 505, unknown="skip")):
        with pytest.raises(ValueError, match="unknown must be one of 'raise', 'ignore'"):
            ask()


def test_pairs_of_unknown_ids_are_answered_unless_they_shall_raise(by_text):
    answered = by_text.predict(["100", "x"], ["500", "501"])
    assert np.array_equal(answered, by_text.predict(["100", "x"], ["500", "501"],
                                                    unknown="ignore"))
    for users, items in (("x", "500"), ("100", "x")):
        with pytest.raises(KeyError, match="not seen in training: 'x'"):
            by_text.predict(users, items, unknown="raise")


def test_a_request_looks_at_no_id_that_it_does_not_name(numbered, monkeypatch):
    users, items, values = numbered
    model = ImplicitMF(4, n_epochs=2, random_state=0).fit(
        Ratings.from_arrays(users.astype(str), items.astype(str), values))
    new, factorize, sizes = Ratings.from_arrays(["a"], ["505"]), ids_module.factorize, []
    model.recommend(ratings=new)
    monkeypatch.setattr(ids_module, "factorize", lambda name, values: sizes.append(len(values))
                        or factorize(name, values))
    monkeypatch.setattr(sides, "augmented_gram", None)
    model.recommend(ratings=new, items=["501", "502"])
    model.explain(str(users[0]), "505")
    assert max(sizes, default=0) < 2


def test_vectors_are_read_only_and_sums_follow_when_they_are_replaced(numbered):
    model = ImplicitMF(4, n_epochs=2, random_state=0).fit(Ratings.from_arrays(*numbered))
    new = Ratings.from_arrays([0, 0], [505, 509])
    with pytest.raises(ValueError, match="read-only"):
        model.item_factors_[0] = 9
    before = model.fold_in_users(new).factors
    model.item_factors_ = 2 * model.item_factors_
    after = model.fold_in_users(new).factors
    fresh = ImplicitMF(4, n_epochs=2, random_state=0).fit(Ratings.from_arrays(*numbered))
    fresh.item_factors_ = 2 * fresh.item_factors_
    assert np.array_equal(after, fresh.fold_in_users(new).factors)
    assert not np.array_equal(after, before)


def test_a_callback_may_change_vectors_in_place_and_what_is_asked_follows(numbered):
    new, found = Ratings.from_arrays([0, 0], [505, 509]), []

    def halve(model, record):
        before = model.fold_in_users(new).factors
        model.item_factors_ /= 2
        found.append((before, model.fold_in_users(new).factors))

    ImplicitMF(4, n_epochs=2, random_state=0).fit(Ratings.from_arrays(*numbered),
                                                  callbacks=[halve])
    assert len(found) == 2
    assert not any(np.array_equal(*pair) for pair in found)


def test_an_array_that_is_assigned_is_copied(numbered):
    model = ImplicitMF(4, n_epochs=2, random_state=0).fit(Ratings.from_arrays(*numbered))
    given = 2 * model.item_factors_
    model.item_factors_ = given
    before = model.item_factors_.copy()
    given[0] = 9
    assert np.array_equal(model.item_factors_, before)
