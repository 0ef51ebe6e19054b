"""`predict`, `recommend` and `similar_*` against dense scores, for every kind of id."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import samples
import scipy.sparse as sp
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st

from mfcore import ImplicitMF, MatrixFactorization, Popularity, Ratings

CASES = [*samples.CONFIGURATIONS, *samples.IMPLICIT]
# Answers differ by what biases there are, and by whether unknown cells have a weight.
ANSWERS = ["plain", "plain, unknown", "mean", "learned", "linear"]


def all_scores(model: Any) -> np.ndarray:
    """The model's formula in float64: μ + b + b̃ + P Qᵀ."""
    scores = model.user_factors_.astype(float) @ model.item_factors_.astype(float).T
    if model.user_bias_ is not None:
        scores += model.user_bias_[:, None].astype(float) + model.item_bias_
    return scores + model.global_mean_


def best_of(scores: np.ndarray, k: int) -> list[list[int]]:
    """The k best columns of each row by sorting: -inf is left out, ties by lower column."""
    return [[i for i in sorted(range(len(row)), key=lambda i: (-row[i], i))
             if row[i] > -np.inf][:k] for row in scores]


def angles(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    norms = np.outer(np.linalg.norm(X, axis=1), np.linalg.norm(Y, axis=1))
    return np.divide(X @ Y.T, norms, out=np.zeros(norms.shape), where=norms > 0)


def unpadded(items: np.ndarray) -> list[list[Any]]:
    return [[item for item in row if item is not None and item != -1] for row in items.tolist()]


# -------------------------------------------------------------------------- predict

@pytest.mark.kernel
@pytest.mark.parametrize("name", CASES)
def test_predictions_are_the_scores_of_the_formula(name):
    model = samples.fitted(name)
    users, items = (grid.ravel() for grid in np.indices((11, 8)))
    got = model.predict(users, items)
    wanted = all_scores(model).ravel()
    if name == "plain":                                  # where nothing is known, the mean
        silent = (users == samples.SILENT_USER) | (items == samples.SILENT_ITEM)
        wanted[silent] = model.mean_rating_
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def test_one_user_goes_with_all_items_and_one_item_with_all_users():
    model = samples.fitted("learned")
    wanted = all_scores(model)
    np.testing.assert_allclose(model.predict(2, np.arange(8)), wanted[2], rtol=1e-5)
    np.testing.assert_allclose(model.predict(range(11), [5]), wanted[:, 5], rtol=1e-5)
    np.testing.assert_allclose(model.predict([2, 0], [5, 1]), wanted[[2, 0], [5, 1]], rtol=1e-5)
    assert model.predict(2, 5).shape == (1,)
    assert model.predict([], []).shape == model.predict(2, []).shape == (0,)


def test_lists_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="same length, got users 2, items 3"):
        samples.fitted("mean").predict([0, 1], [0, 1, 2])


def expected_fallback(model: Any, user: int, item: int) -> float:
    """What is known of a pair of which the model lacks a side (-1)."""
    if not isinstance(model, MatrixFactorization):
        return 0.0
    if model.bias is None:
        return model.mean_rating_
    return model.global_mean_ + (model.user_bias_[user] if user >= 0 else 0.0) \
        + (model.item_bias_[item] if item >= 0 else 0.0)


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize(("user", "item"), [("who", "i2"), ("u2", "what"), ("who", "what")])
def test_an_unknown_id_falls_back_on_the_other_side(name, user, item):
    cells = samples.counts() if name in samples.IMPLICIT else samples.matrix()
    model = samples.fitted(name, samples.named(cells))
    wanted = expected_fallback(model, 2 if user == "u2" else -1, 2 if item == "i2" else -1)
    assert model.predict(user, item)[0] == pytest.approx(wanted, rel=1e-6)
    numbered = samples.fitted(name, cells)
    rows = [2 if user == "u2" else 11], [2 if item == "i2" else 8]
    assert numbered.predict(*rows)[0] == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("name", ANSWERS)
def test_predictions_are_never_nan(name):
    model = samples.fitted(name)
    users, items = (grid.ravel() for grid in np.indices((13, 10)))
    assert np.isfinite(model.predict(users, items)).all()


def test_predictions_are_not_clipped():
    cells = sp.csr_array(np.array([[5.0, 5.0, 1.0], [5.0, 0.0, 5.0], [1.0, 5.0, 0.0]]))
    model = MatrixFactorization(2, bias="mean", bias_share=1.0, reg=1e-3, n_epochs=1,
                                random_state=0).fit(cells)
    users, items = (grid.ravel() for grid in np.indices((3, 3)))
    assert model.predict(users, items).max() > 5.2


@pytest.mark.parametrize("name", ANSWERS)
def test_predictions_for_new_rows_are_those_of_folding_in(name):
    fresh = samples.counts if name in samples.IMPLICIT else samples.matrix
    model = samples.fitted(name)
    rows = fresh(4, 8, seed=9)
    folded = model.fold_in_users(rows)
    scores = folded.factors.astype(float) @ model.item_factors_.T.astype(float)
    if folded.bias is not None:
        scores += model.global_mean_ + folded.bias[:, None] + model.item_bias_
    items = [0, 5, 6]
    for user in (0, 2):
        np.testing.assert_allclose(model.predict(user, items, ratings=rows),
                                   scores[user, items], rtol=1e-5, atol=1e-6)
    silent = model.predict(samples.SILENT_USER, items, ratings=rows)
    assert np.isfinite(silent).all()


def test_users_of_new_rows_are_numbered_by_them():
    model = samples.fitted("mean", samples.named())
    rows = samples.named(samples.matrix(2, 8, seed=9))
    with pytest.raises(IndexError, match=r"users must be in \[0, 1\], got 2"):
        model.predict([2], ["i0"], ratings=rows)
    assert model.predict([1], ["i0"], ratings=rows) == \
        samples.fitted("mean").predict([1], [0], ratings=samples.matrix(2, 8, seed=9))


def test_new_rows_go_by_their_item_ids():
    model = samples.fitted("learned", samples.named())
    row = samples.matrix(1, 8, seed=9)
    turned = Ratings(row[:, ::-1], item_ids=samples.names(8, "i")[::-1])
    straight = Ratings(row, item_ids=samples.names(8, "i"))
    np.testing.assert_array_equal(model.fold_in_users(turned).factors,
                                  model.fold_in_users(straight).factors)
    narrow = Ratings(row[:, [6, 0]], item_ids=["i6", "i0"])
    wide = straight.select_cells(np.isin(row.indices, [0, 6]))
    np.testing.assert_array_equal(model.fold_in_users(narrow).factors,
                                  model.fold_in_users(wide).factors)


def test_weights_of_new_rows_follow_their_cells():
    model = samples.fitted("mean", samples.named())
    row = samples.matrix(1, 8, seed=9)
    weights = samples.weights(row) + 0.1
    straight = Ratings(row, weights=weights, item_ids=samples.names(8, "i"))
    turned = straight.by_user[:, ::-1], sp.csr_array(
        (weights, row.indices, row.indptr), row.shape)[:, ::-1]
    turned = Ratings(turned[0], weights=turned[1], item_ids=samples.names(8, "i")[::-1])
    np.testing.assert_array_equal(model.fold_in_users(turned).factors,
                                  model.fold_in_users(straight).factors)


# ------------------------------------------------------------------------ recommend

FILTERS: dict[str, tuple[dict[str, Any], np.ndarray]] = {
    "all": ({}, np.ones(8, bool)),
    "these": ({"items": [6, 1, 2]}, np.isin(np.arange(8), [1, 2, 6])),
    "not these": ({"exclude_items": [6, 1, 2]}, ~np.isin(np.arange(8), [1, 2, 6])),
    "both": ({"items": [6, 1, 2], "exclude_items": [2, 0]}, np.isin(np.arange(8), [1, 6])),
    "none": ({"items": []}, np.zeros(8, bool)),
    "not none": ({"exclude_items": []}, np.ones(8, bool)),
}


@pytest.mark.kernel
@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_the_best_items_are_those_of_a_full_sort(similarity, exclude_seen, filters):
    model = samples.fitted("learned", dtype="float64")
    asked, allowed = FILTERS[filters]
    scores = all_scores(model) if similarity == "dot" else \
        angles(model.user_factors_, model.item_factors_)
    masked = np.where(allowed, scores, -np.inf)
    if exclude_seen:
        masked[samples.stored(samples.matrix())] = -np.inf
    items, values = model.recommend(k=3, similarity=similarity, exclude_seen=exclude_seen,
                                    **asked)
    assert items.shape == values.shape == (11, 3)
    assert unpadded(items) == best_of(masked, 3)
    taken = items >= 0
    np.testing.assert_allclose(values[taken], scores[np.nonzero(taken)[0], items[taken]],
                               rtol=1e-9, atol=1e-12)
    assert (values[~taken] == -np.inf).all()


@pytest.mark.parametrize("name", ANSWERS)
def test_scores_of_recommendations_are_predictions(name):
    model = samples.fitted(name)
    items, scores = model.recommend([0, 5], k=4, exclude_seen=False)
    for row, user in enumerate([0, 5]):
        silent = items[row] == samples.SILENT_ITEM             # there, predict falls back
        predicted = model.predict(user, items[row])
        np.testing.assert_allclose(scores[row][~silent], predicted[~silent], rtol=1e-5,
                                   atol=1e-6)


def test_users_are_asked_for_in_any_order_alone_or_twice():
    model = samples.fitted("mean")
    everyone, scores = model.recommend(k=5)
    for users in (4, [4], np.array([7, 0, 7]), range(2, 5), np.array([1], np.int32)):
        items, values = model.recommend(users, k=5)
        np.testing.assert_array_equal(items, everyone[np.atleast_1d(users)])
        np.testing.assert_allclose(values, scores[np.atleast_1d(users)], rtol=1e-5)
    assert [part.shape for part in model.recommend([], k=5)] == [(0, 5), (0, 5)]


def per_user(rows: list[list[int]]) -> sp.csr_array:
    """Column lists as CSR with unsorted columns; what is stored counts, a zero too."""
    indptr = np.cumsum([0, *map(len, rows)])
    indices = np.array([i for row in rows for i in row], np.int32)
    matrix = sp.csr_array((np.zeros(len(indices)), indices, indptr), shape=(len(rows), 8))
    matrix.indices.flags.writeable = False
    return matrix


def test_each_user_may_have_lists_of_its_own():
    model = samples.fitted("mean")
    lists = [[7, 2, 5], [], [1, 0]]
    allowed, excluded = per_user(lists), per_user([[5], [0], []])
    before = allowed.indices.copy()
    items, _ = model.recommend([4, 0, 9], k=8, items=allowed, exclude_seen=False)
    assert [sorted(row) for row in unpadded(items)] == [sorted(row) for row in lists]
    items, _ = model.recommend([4, 0, 9], k=8, items=allowed, exclude_items=excluded,
                               exclude_seen=False)
    assert [sorted(row) for row in unpadded(items)] == [[2, 7], [], [0, 1]]
    np.testing.assert_array_equal(allowed.indices, before)


@pytest.mark.parametrize("form", [sp.csr_array, sp.csr_matrix, sp.coo_array, sp.csc_array])
def test_lists_of_each_user_come_in_any_sparse_form(form):
    model = samples.fitted("mean")
    items, _ = model.recommend([4, 0], k=8, items=form(np.eye(2, 8)), exclude_seen=False)
    assert unpadded(items) == [[0], [1]]


@pytest.mark.parametrize("which", ["items", "exclude_items"])
def test_lists_need_one_row_for_each_asked_user(which):
    with pytest.raises(ValueError, match=rf"{which} must have shape \(3, 8\).*got \(2, 8\)"):
        samples.fitted("mean").recommend([0, 1, 2], **{which: sp.csr_array((2, 8))})


def test_new_users_are_recommended_what_their_rows_lack():
    model = samples.fitted("learned", dtype="float64")
    rows = samples.matrix(4, 8, seed=9)
    folded = model.fold_in_users(rows)
    scores = folded.factors @ model.item_factors_.T + folded.bias[:, None] + model.item_bias_
    masked = np.where(samples.stored(rows), -np.inf, scores)
    assert unpadded(model.recommend(ratings=rows, k=4)[0]) == best_of(masked, 4)
    everything, _ = model.recommend(ratings=rows, k=4, exclude_seen=False)
    assert unpadded(everything) == best_of(scores, 4)
    allowed = per_user([[0, 1]] * 4)
    few, _ = model.recommend(ratings=rows, k=4, items=allowed)
    assert unpadded(few) == best_of(np.where(samples.stored(allowed), masked, -np.inf), 4)


def test_a_training_row_as_a_new_row_is_recommended_the_same():
    model = samples.fitted("mean, unknown")
    rows = samples.matrix()[[2, 6]]
    items, scores = model.recommend(ratings=rows, k=4)
    known, wanted = model.recommend([2, 6], k=4)
    np.testing.assert_array_equal(items, known)
    np.testing.assert_allclose(scores, wanted, atol=1e-5)


def test_rows_and_users_together_are_refused():
    with pytest.raises(ValueError, match="users must be None where ratings or user_feat"):
        samples.fitted("mean").recommend([0], ratings=samples.matrix())


@pytest.mark.parametrize("ask", [
    lambda model, rows: model.recommend(ratings=rows),
    lambda model, rows: model.predict([0], [0], ratings=rows),
    lambda model, rows: model.fold_in_users(rows),
    lambda model, rows: model.partial_fit(rows, users=range(len(rows.indptr) - 1))],
    ids=["recommend", "predict", "fold_in_users", "partial_fit"])
def test_a_transposed_matrix_is_told_so(ask):
    model = samples.fitted("mean")
    with pytest.raises(ValueError, match=r"\(8, 11\); it looks transposed: users are rows"):
        ask(model, sp.csr_array(samples.matrix().T))
    with pytest.raises(ValueError, match=r"must have 8 columns.*got \(11, 7\)$"):
        ask(model, samples.matrix(11, 7))


# -------------------------------------------------------------------- ties and padding

def test_ties_go_to_the_lower_item():
    cells = sp.csr_array(np.ones((3, 70)))
    model = Popularity().fit(cells)
    for k in (5, 20, 70):                                   # short and long selections
        items, scores = model.recommend([0, 2], k=k, exclude_seen=False)
        np.testing.assert_array_equal(items, [np.arange(k)] * 2)
        assert (scores == 3).all()


def test_a_user_without_ratings_gets_cosines_of_zero_in_the_order_of_the_items():
    model = samples.fitted("mean")
    items, scores = model.recommend([samples.SILENT_USER], k=8, similarity="cosine")
    assert items[0].tolist() == list(range(8))
    assert (scores == 0).all()


IDS: dict[str, tuple[Any, Any]] = {
    "none": (None, None),
    "int": (np.arange(11) * 10 - 30, np.arange(8)[::-1] + 100),
    "int32": (np.arange(11, dtype=np.int32) + 5, np.arange(8, dtype=np.uint8)),
    "str": (samples.names(11, "u"), samples.names(8, "i")),
    "numpy str": (np.array(samples.names(11, "u")), np.array(samples.names(8, "i"))),
    "tuple": ([("u", n) for n in range(11)], [("i", n) for n in range(8)]),
    "mixed": ([("u", 0), "u1", 2, *range(3, 11)], ["i0", 1, ("i", 2), frozenset([3]), *"4567"]),
}


@pytest.mark.parametrize("kind", IDS)
def test_ids_of_any_kind_name_the_same_rows(kind):
    user_ids, item_ids = IDS[kind]
    plain = samples.fitted("learned")
    model = samples.fitted("learned", Ratings(samples.matrix(), user_ids=user_ids,
                                              item_ids=item_ids))
    users = list(range(11)) if user_ids is None else list(user_ids)
    items = list(range(8)) if item_ids is None else list(item_ids)
    np.testing.assert_array_equal(model.predict([users[2], users[0]], [items[5], items[1]]),
                                  plain.predict([2, 0], [5, 1]))
    got, scores = model.recommend([users[9], users[2]], k=4, items=items[1:], exclude_items=[
        items[2]])
    wanted, _ = plain.recommend([9, 2], k=4, items=range(1, 8), exclude_items=[2])
    assert got.tolist() == [[items[i] if i >= 0 else got_missing(got) for i in row]
                            for row in wanted]
    near, _ = model.similar_items([items[5]], k=3)
    assert near[0].tolist() == [items[i] for i in plain.similar_items([5], k=3)[0][0]]
    alike, _ = model.similar_users([users[5]], k=3)
    assert alike[0].tolist() == [users[u] for u in plain.similar_users([5], k=3)[0][0]]
    _, names, _ = model.explain(users[2], items[5], k=2)
    assert list(names) == [items[i] for i in plain.explain(2, 5, k=2)[1]]


def got_missing(got: np.ndarray) -> Any:
    return None if got.dtype == object else -1


@pytest.mark.parametrize("kind", IDS)
def test_lists_longer_than_the_catalogue_are_padded(kind):
    user_ids, item_ids = IDS[kind]
    model = samples.fitted("mean", Ratings(samples.matrix(), user_ids=user_ids,
                                           item_ids=item_ids))
    items, scores = model.recommend(k=12)
    assert items.shape == scores.shape == (11, 12)
    filled = 8 - np.diff(samples.matrix().indptr)
    missing = np.arange(12) >= filled[:, None]
    assert all(item is None or item == -1 for item in items[missing].tolist())
    assert items.dtype == (object if kind in ("str", "numpy str", "tuple", "mixed") else np.int64)
    assert (got_missing(items) is None) == (items.dtype == object)
    assert all(item == got_missing(items) for item in items[missing].tolist())
    np.testing.assert_array_equal(np.isneginf(scores), missing)
    near, values = model.similar_items([model.recommend([0 if user_ids is None else user_ids[0]],
                                                        k=1)[0][0, 0]], k=12)
    assert near[0, -1] == got_missing(near)
    assert np.isneginf(values[0]).sum() == 12 - 7


# ---------------------------------------------------------------------- unknown names

@pytest.mark.parametrize(("ask", "named_by"), [
    (lambda m, a, b: m.recommend([a, b]), "users"),
    (lambda m, a, b: m.recommend(items=[a, b]), "items"),
    (lambda m, a, b: m.recommend(exclude_items=[a, b]), "items"),
    (lambda m, a, b: m.similar_items([a, b]), "items"),
    (lambda m, a, b: m.similar_users([a, b]), "users"),
    (lambda m, a, b: m.explain(b, 0 if isinstance(a, int) else "i0"), "users"),
    (lambda m, a, b: m.explain(0 if isinstance(a, int) else "u0", b), "items")],
    ids=["recommend", "items", "exclude_items", "similar_items", "similar_users",
         "explain user", "explain item"])
def test_unknown_names_are_told(ask, named_by):
    named = samples.fitted("mean", samples.named())
    with pytest.raises(KeyError, match=f"{named_by} not seen in training: 'nobody'"):
        ask(named, "u0" if named_by == "users" else "i0", "nobody")
    numbered = samples.fitted("mean")
    for wrong in (99, -1):
        with pytest.raises(IndexError, match=rf"{named_by} must be in \[0, \d+\], got {wrong}"):
            ask(numbered, 0, wrong)


def test_names_of_another_type_are_found_by_their_text_or_refused():
    with pytest.raises(KeyError, match="users not seen in training: 3"):
        samples.fitted("mean", samples.named()).recommend([3])
    model = samples.fitted("mean", Ratings(samples.matrix(), user_ids=range(11)))
    assert np.array_equal(model.recommend(["3"])[0], model.recommend([3])[0])
    with pytest.raises(KeyError, match="users not seen in training: '03'"):
        model.recommend(["03"])
    for wrong in ("3", [1.5], [True], [None]):
        with pytest.raises((TypeError, ValueError), match="users must (not )?be"):
            samples.fitted("mean").recommend(wrong)


def test_negative_row_numbers_are_no_python_indices():
    model = samples.fitted("mean")
    with pytest.raises(IndexError, match="users must be row numbers >= 0, got -1"):
        model.predict([-1], [0])
    with pytest.raises(IndexError, match="items must be row numbers >= 0, got -2"):
        model.predict([0], [-2])


@pytest.mark.parametrize(("options", "error", "named"), [
    ({"k": 0}, ValueError, "k"), ({"k": -1}, ValueError, "k"), ({"k": 2.0}, TypeError, "k"),
    ({"similarity": "euclid"}, ValueError, "similarity"),
    ({"exclude_seen": "yes"}, TypeError, "exclude_seen")])
def test_options_out_of_range_are_refused_by_name(options, error, named):
    model = samples.fitted("mean")
    with pytest.raises(error, match=f"^{named} must be"):
        model.recommend([0], **options)
    if named != "exclude_seen":
        with pytest.raises(error, match=f"^{named} must be"):
            model.similar_items([0], **options)


# ------------------------------------------------------------------------- neighbours

@pytest.mark.kernel
@pytest.mark.parametrize("side", ["items", "users"])
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_neighbours_are_those_of_a_full_sort_without_the_row_itself(side, similarity):
    model = samples.fitted("learned", dtype="float64")
    X = getattr(model, f"{side[:-1]}_factors_")
    scores = angles(X, X) if similarity == "cosine" else X @ X.T
    np.fill_diagonal(scores, -np.inf)
    ask = getattr(model, f"similar_{side}")
    rows = [1, 6, 1]
    found, values = ask(rows, k=3, similarity=similarity)
    assert found.tolist() == best_of(scores[rows], 3)
    np.testing.assert_allclose(values, np.take_along_axis(scores[rows], found, 1), rtol=1e-9)
    everyone, _ = ask(range(len(X)), k=len(X) - 1, similarity=similarity)
    assert (everyone >= 0).all()
    assert not (everyone == np.arange(len(X))[:, None]).any()


def test_neighbours_are_by_cosine_unless_told():
    model = samples.fitted("plain")
    for ask in (model.similar_items, model.similar_users):
        np.testing.assert_array_equal(ask([1])[1], ask([1], similarity="cosine")[1])
        assert (ask([1], k=3)[1] <= 1 + 1e-6).all()
    assert not np.array_equal(model.similar_items([1])[1],
                              model.similar_items([1], similarity="dot")[1])


def test_an_item_without_ratings_is_near_nothing():
    model = samples.fitted("mean")
    found, scores = model.similar_items([samples.SILENT_ITEM], k=7)
    assert (scores == 0).all()
    assert found[0].tolist() == [i for i in range(8) if i != samples.SILENT_ITEM]


# ------------------------------------------------------------------ whatever the ratings

@settings(max_examples=40)
@given(st.data(), st.sampled_from(["plain", "learned", "mean, unknown", "bias as unknown"]),
       st.sampled_from(["cg", "cholesky"]))
def test_whatever_was_rated_the_answers_are_finite_and_new(data, name, solver):
    ratings = data.draw(strategies.ratings())
    model = samples.fitted(name, ratings, solver=solver, n_epochs=2)
    users = np.arange(ratings.shape[0]) if ratings.user_ids is None else ratings.user_ids
    items, scores = model.recommend(k=7)
    seen = samples.stored(ratings.by_user)
    for row, user in enumerate(users):
        taken = scores[row] > -np.inf
        columns = ratings.item_positions(items[row][taken])
        assert sorted(columns) == np.flatnonzero(~seen[row]).tolist()
        assert (np.diff(scores[row][taken]) <= 0).all()
        assert np.isfinite(model.predict([user] * len(items[row][taken]),
                                         items[row][taken])).all()


@settings(max_examples=30)
@given(st.data(), st.sampled_from(["linear", "log", "raw"]), st.sampled_from(["cg", "cholesky"]))
def test_whatever_was_counted_the_answers_are_finite_and_new(data, confidence, solver):
    ratings = data.draw(strategies.ratings(values=st.integers(1, 40).map(float)))
    model = ImplicitMF(3, confidence=confidence, solver=solver, n_epochs=2, random_state=0,
                       n_threads=1).fit(ratings)
    items, scores = model.recommend(k=7)
    filled = ratings.shape[1] - np.diff(ratings.by_user.indptr)
    np.testing.assert_array_equal((scores > -np.inf).sum(1), filled)
    assert np.isfinite(scores[scores > -np.inf]).all()


def test_a_parameter_changed_after_a_request_is_checked_at_the_next():
    model = samples.fitted("plain")
    model.recommend([0])
    model.reg = -1.0
    with pytest.raises(ValueError, match="reg"):
        model.recommend([0])
