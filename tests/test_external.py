"""`evaluate_lists`: the same figures as `evaluate`, whatever frame the lists come in."""

from __future__ import annotations

import math

import numpy as np
import pytest
import samples
import strategies
from hypothesis import given
from hypothesis import strategies as st
from test_evaluate import Stub, matrix

from mfcore import Ratings, evaluate, evaluate_lists
from mfcore.metrics.table import METRICS

TEST = Ratings(matrix(["5.2.", "...3", "1...", "...."]), user_ids=list("abcd"),
               item_ids=list("wxyz"))
LISTS = {"user": list("aaabbd"), "item": list("xwzyzw")}


def frames():
    yield "dict", dict
    for name, made in (("pandas", "DataFrame"), ("polars", "DataFrame"), ("pyarrow", "table")):
        yield name, lambda columns, name=name, made=made: getattr(
            pytest.importorskip(name), made)(columns)
    yield "structured", lambda columns: np.rec.fromarrays(
        [np.array(column) for column in columns.values()], names=list(columns))


# ------------------------------------------------------------------------------- by hand

@pytest.mark.kernel
def test_lists_by_hand():
    got = evaluate_lists(LISTS, TEST, k=[1, 3], metrics=["recall", "mrr", "ndcg_graded@3"])
    # a: x w z, of which w is relevant (y is not listed); b: y z, of which z; c has no list.
    graded = (5 / math.log2(3)) / (5 + 2 / math.log2(3))
    assert got == pytest.approx({
        "recall@1": 0, "recall@3": (1 / 2 + 1 + 0) / 3, "mrr": (1 / 2 + 1 / 2 + 0) / 3,
        "ndcg_graded@3": (graded + 1 / math.log2(3) + 0) / 3})
    each = evaluate_lists(LISTS, TEST, metrics="recall", per_user=True)
    np.testing.assert_allclose(each["recall@3"], [1 / 2, 1, 0, np.nan])


@pytest.mark.kernel
@pytest.mark.parametrize(("column", "values"), [
    ("rank", [2, 1, 3, 2, 1, 1]), ("score", [0.5, 0.9, 0.1, -2, -1, 0]),
    ("place", [20, 10, 30, 7, 6, 0])])
def test_lines_are_ordered_by_rank_or_score(column, values):
    named = {"rank": column} if column == "place" else {}
    got = evaluate_lists({**LISTS, column: values}, TEST, metrics="mrr", **named)
    assert got["mrr"] == pytest.approx((1 + 1 + 0) / 3)


@pytest.mark.kernel
def test_equal_scores_are_means_over_their_orders():
    got = evaluate_lists({**LISTS, "score": [1, 1, 1, 2, 2, 0]}, TEST, k=1,
                         metrics=["recall", "mrr"])
    assert got["recall@1"] == pytest.approx((1 / 2 * 1 / 3 + 1 / 2 + 0) / 3)
    assert got["mrr"] == pytest.approx(((1 + 1 / 2 + 1 / 3) / 3 + 3 / 4 + 0) / 3)


@pytest.mark.parametrize(("name", "made"), list(frames()))
def test_frames_of_any_kind_are_read(name, made):
    columns = {"score": [0.5, 0.9, 0.1, -2.0, -1.0, 0.0], "who": LISTS["user"],
               "what": LISTS["item"]}
    got = evaluate_lists(made(columns), TEST, user="who", item="what", metrics="mrr")
    assert got["mrr"] == pytest.approx(2 / 3)


@given(strategies.seeds, st.integers(1, 7))
def test_the_lists_of_a_model_measure_as_the_model(seed, k):
    rng = np.random.default_rng(seed)
    train, test = (Ratings(samples.random_array((9, 7), density=0.4, format="csr", rng=rng),
                           user_ids=np.arange(9) * 3, item_ids=np.arange(7) + 50)
                   for _ in range(2))
    model = Stub(3, seed).fit(train)
    model.Q = model.Q + np.arange(7, dtype=np.float32)[:, None] / 64
    model.P = np.abs(model.P) + 1                   # no ties
    S = model.P @ model.Q.T
    order = np.argsort(-S, axis=1, kind="stable")[:, :k]
    frame = {"user": np.repeat(train.user_ids, k), "item": train.item_ids[order.ravel()],
             "score": np.take_along_axis(S, order, axis=1).ravel()}
    names = [name for name, kind in METRICS.items() if kind.reads in ("ranks", "lists", "catalogue")
             and "seen" not in kind.needs]
    names = [f"{name}@{k}" if METRICS[name].cut != "none" else name for name in names]
    given = {"metrics": names, "groups": (np.arange(9) % 2, np.arange(7) % 2),
             "item_features": rng.random((7, 3))}
    got = evaluate_lists(frame, test, train=train, **given)
    wanted = evaluate(model, test, exclude_seen=False, **given)
    assert got == pytest.approx(wanted, abs=1e-9, nan_ok=True)


# ---------------------------------------------------------------------------- ids, unknown ones

@pytest.mark.kernel
def test_unknown_items_take_a_place_and_unknown_users_are_left_out():
    lists = {"user": list("aaQ"), "item": ["new", "w", "w"]}
    got = evaluate_lists(lists, TEST, metrics=["mrr", "recall@2"], unknown="ignore")
    assert got == pytest.approx({"mrr": (1 / 2) / 3, "recall@2": (1 / 2) / 3})


@pytest.mark.kernel
def test_training_ratings_say_which_items_and_users_there_are():
    train = Ratings.from_arrays(list("aabq"), ["w", "new", "new", "x"])
    lists = {"user": list("aaq"), "item": ["new", "w", "x"]}
    got = evaluate_lists(lists, TEST, train=train, metrics=["mrr", "novelty@2", "item_coverage@2"])
    # Ratings: new 2, w 1, x 1, y 0 and z 0, of three users.
    assert got["mrr"] == pytest.approx((1 / 2) / 3)
    assert got["novelty@2"] == pytest.approx((math.log2(3 / 2) + math.log2(3)) / 2)
    assert got["item_coverage@2"] == pytest.approx(2 / 5)


@pytest.mark.kernel
def test_without_ids_numbers_are_rows_and_columns():
    test = matrix(["5.2.", "...3"])
    lists = {"user": [0, 0, 1], "item": [2, 1, 3]}
    assert evaluate_lists(lists, test, metrics="recall@1") == {"recall@1": 3 / 4}
    with pytest.raises(KeyError, match="items of the lists must be among those of test.*got 4"):
        evaluate_lists({"user": [0], "item": [4]}, test)
    with pytest.raises(KeyError, match="users of the lists .*got 2, 3"):
        evaluate_lists({"user": [2, 3], "item": [0, 0]}, test)


# ------------------------------------------------------------------------------ refusals

@pytest.mark.kernel
@pytest.mark.parametrize(("changes", "options", "error", "message"), [
    ({"item": list("xwxyzw")}, {}, ValueError, "each list must hold an item once, got item 'x' "
                                               r"twice for user 'a' \(1 such lines in all\)"),
    ({"item": list("xwzyzQ")}, {}, KeyError, "items of the lists must be among those of test, or "
                                             "of train=, got .*Q.*; unknown="),
    ({"user": list("aaabbQ")}, {}, KeyError, "users of the lists must be among .* got .*Q"),
    ({"score": [1, 2, np.nan, 0, 0, 0]}, {}, ValueError,
     "'score' must not be missing, got nan in row 2"),
    ({"rank": [1, 2, np.inf, 0, 0, 0]}, {}, ValueError, "'rank' must be finite, got inf"),
    ({"score": list("abcdef")}, {}, TypeError, "'score' must be numbers, got 'a' in row 0"),
    ({"score": [1, 2]}, {}, ValueError, "arrays must have the same length"),
    ({"item": list("xw")}, {}, ValueError, "arrays must have the same length"),
    ({"item": [None] * 6}, {}, ValueError, "items must not be missing, got None"),
    ({"user": [], "item": []}, {}, ValueError, "frame must hold at least one line"),
    ({}, {"user": "who"}, KeyError, "no column 'who' in the frame"),
    ({}, {"user": 3}, KeyError, "no column 3 in the frame"),
    ({}, {"user": 1.5}, TypeError, "user must be an integer, got 1.5"),
    ({}, {"score": "stars"}, KeyError, "no column 'stars'"),
    ({"score": [1] * 6}, {"rank": "score", "score": "score"}, ValueError, "not both be given"),
    ({}, {"k": 4}, ValueError, "k must be <= the length of the longest list, 3, got 4; ask for"),
    ({}, {"metrics": "ndcg@10"}, ValueError, "longest list, 3, got 10"),
    ({}, {"k": 0}, ValueError, "k must be >= 1"),
    ({}, {"metrics": "rmse"}, ValueError, "rmse needs predicted ratings, which lists do not"),
    ({}, {"metrics": "auc"}, ValueError, "auc needs the scores of all items"),
    ({}, {"metrics": "mcc"}, ValueError, "mcc needs the scores of all items"),
    ({}, {"metrics": "novelty"}, ValueError, "novelty needs the training ratings: give them as t"),
    ({}, {"metrics": "calibration", "item_features": np.ones((4, 1))}, ValueError,
     "calibration needs the training ratings"),
    ({}, {"metrics": "gini", "per_user": True}, ValueError, "gini is a number of all lists"),
    ({}, {"unknown": "miss"}, ValueError, "unknown must be one of 'raise', 'ignore'"),
    ({}, {"per_user": 1}, TypeError, "per_user must be True or False"),
    ({}, {"train": matrix(["5.2."])}, ValueError, "train and test must both have ids of users"),
    ({}, {"threshold": 9}, ValueError, "threshold must leave a relevant test cell"),
])
def test_lists_that_make_no_sense_are_refused(changes, options, error, message):
    with pytest.raises(error, match=message):
        evaluate_lists({**LISTS, **changes}, TEST, **options)


@pytest.mark.kernel
@pytest.mark.parametrize("frame", [3, "lists", None, [1, 2], np.ones((2, 2)), TEST])
def test_what_is_no_frame_is_refused(frame):
    with pytest.raises(TypeError, match="frame must have columns by name, as a dict"):
        evaluate_lists(frame, TEST)


@pytest.mark.kernel
def test_masked_scores_are_refused():
    score = np.ma.array([1.0] * 6, mask=[0, 0, 0, 0, 0, 1])
    with pytest.raises(ValueError, match="column 'score' must not be missing, got masked in row 5"):
        evaluate_lists({**LISTS, "score": score}, TEST)
