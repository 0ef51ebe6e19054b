"""One new user may be given by the items that it has rated, without making a matrix of them."""

from __future__ import annotations

import numpy as np
import pytest
import samples
import scipy.sparse as sp

from mfcore import EASE, ImplicitMF, MatrixFactorization, Ratings

CELLS = samples.counts(40, 12)
IDS = [f"i{column}" for column in range(12)]


def fitted(made, cells=CELLS, **params):
    return samples.small(made, **params).fit(Ratings(cells, item_ids=IDS))


def row(**ratings):
    columns = [IDS.index(item) for item in ratings]
    return sp.csr_array((np.array(list(ratings.values()), float), ([0] * len(columns), columns)),
                        shape=(1, 12))


def assert_equal(got, wanted):
    for one, two in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("ids", [["i7", "i2"], ("i7", "i2"), np.array(["i7", "i2"], object)])
@pytest.mark.parametrize("made", [ImplicitMF, EASE])
def test_items_alone_are_rated_once(made, ids):
    model = fitted(made)
    assert_equal(model.recommend(ratings=ids), model.recommend(ratings=row(i2=1, i7=1)))


def test_items_with_ratings_are_a_row():
    model, given, rows = fitted(MatrixFactorization), {"i7": 4, "i2": 0.5}, row(i2=0.5, i7=4)
    assert_equal(model.recommend(ratings=given), model.recommend(ratings=rows))
    assert_equal(model.fold_in_users(given), model.fold_in_users(rows))
    assert_equal(model.predict([0], IDS, ratings=given), model.predict([0], IDS, ratings=rows))


def test_users_of_a_new_item_are_a_column():
    model = fitted(MatrixFactorization)
    column = sp.csr_array((np.array([4.0, 2.0]), ([3, 8], [0, 0])), shape=(40, 1))
    assert_equal(model.fold_in_items({8: 2.0, 3: 4.0}), model.fold_in_items(column))


def test_no_items_are_a_user_without_ratings():
    model = fitted(ImplicitMF)
    empty = sp.csr_array((1, 12))
    for nothing in ([], {}):
        assert_equal(model.recommend(ratings=nothing), model.recommend(ratings=empty))


def test_items_without_ratings_stand_for_the_only_rating_there_is():
    ones = CELLS.copy()
    ones.data[:] = 3.0
    model = fitted(MatrixFactorization, ones)
    assert_equal(model.recommend(ratings=["i7"]), model.recommend(ratings={"i7": 3.0}))
    likes = CELLS.copy()
    likes.data = (likes.data > 3).astype(float)
    model = fitted(MatrixFactorization, likes, loss="logistic", solver="sgd")
    assert_equal(model.recommend(ratings=["i7"]), model.recommend(ratings={"i7": 1.0}))


def test_columns_are_ids_where_the_ratings_had_none():
    model = samples.small(ImplicitMF).fit(CELLS)
    assert_equal(model.recommend(ratings=[7, 2]), model.recommend(ratings=row(i2=1, i7=1)))


def test_unknown_items_are_refused_or_left_out():
    model = fitted(ImplicitMF)
    with pytest.raises(KeyError, match="items not seen in training: 'new'"):
        model.recommend(ratings=["i7", "new"])
    assert_equal(model.recommend(ratings=["new", "i7"], unknown="ignore"),
                 model.recommend(ratings=["i7"]))


@pytest.mark.parametrize(("made", "given", "error", "message"), [
    (MatrixFactorization, ["i7"], ValueError, r"give them with the ids, \{item: rating\}"),
    (ImplicitMF, ["i7", "i2", "i7"], ValueError, "name each of the items once"),
    (ImplicitMF, {"i7": np.nan}, ValueError, "ratings must"),
    (ImplicitMF, {"i7": 1.0, "i2": None}, ValueError, "ratings must not be missing"),
    (ImplicitMF, [1.5], TypeError, "items"), (ImplicitMF, [None], ValueError, "items"),
    (ImplicitMF, [["i7"]], TypeError, "must be Ratings"),
    (ImplicitMF, {"user": [1], "item": ["i7"], "rating": ["x"]}, TypeError, "numbers")])
def test_what_is_no_row_is_refused(made, given, error, message):
    with pytest.raises(error, match=message):
        fitted(made).recommend(ratings=given)


def test_a_dict_of_columns_is_a_frame_still():
    model = fitted(ImplicitMF)
    frame = {"user": [5, 5], "item": ["i7", "i2"], "rating": [1.0, 1.0]}
    assert_equal(model.recommend(ratings=frame), model.recommend(ratings=["i2", "i7"]))
