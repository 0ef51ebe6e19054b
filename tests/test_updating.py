"""`update`, `partial_fit`, `partial_fit_items` and `forget`: a model that goes on after its fit."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
import pytest
import samples
import scipy.sparse as sp

import mfcore
from mfcore import BPR, EASE, ImplicitMF, MatrixFactorization, MultVAE, Popularity, Ratings, load
from mfcore.data.features import one_hot
from mfcore.data.merging import columns_of, merged, without
from mfcore.models.registry import MODELS
from mfcore.models.updates import solving
from mfcore.validation import DivergenceError

FRESH = {"learned": samples.matrix, "mean, unknown": samples.matrix, "linear": samples.counts,
         "whole matrix": samples.counts}
DAY = {"users": ["u1", "u2", "new", "new"], "items": ["i0", "i7", "i2", "added"],
       "values": [4.0, 1.0, 2.0, 5.0]}


def day(**changes: Any) -> Ratings:
    return Ratings.from_arrays(**DAY | changes)


def model(name: str, ratings: Any = None, **changes: Any) -> Any:
    """A fitted model in float64, of named users and items."""
    cells = samples.named(FRESH[name]()) if ratings is None else ratings
    return samples.fitted(name, cells, dtype="float64", solver="cholesky", **changes)


def table(ratings: Ratings) -> dict[tuple[Any, Any], float]:
    X, y = ratings.pairs()
    return dict(zip(map(tuple, X.tolist()), y.tolist(), strict=True))


def state(model: Any) -> list[Any]:
    arrays = [getattr(side, part) for side in (model.users_, model.items_)
              for part in ("factors", "bias", "counts", "stale")]
    return [table(model.ratings_), *[None if each is None else each.tobytes() for each in arrays]]


# ------------------------------------------------------------------ ratings that grow

def random_ratings(n_users: int, n_items: int, seed: int, weighted: bool = False) -> Ratings:
    cells = samples.matrix(n_users, n_items, seed=seed, density=0.3)
    return Ratings(cells, weights=samples.weights(cells, seed) if weighted else None,
                   user_ids=[3 * u + seed % 3 for u in range(n_users)],
                   item_ids=[2 * i + seed % 2 for i in range(n_items)])


@pytest.mark.parametrize("weighted", [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("duplicates", ["last", "sum", "mean"])
def test_old_and_new_ratings_are_those_of_one_table_of_both(duplicates, weighted):
    old, new = random_ratings(9, 7, 2, weighted[0]), random_ratings(6, 9, 5, weighted[1])
    found = merged(old, new, "add", duplicates)
    X, y = (np.concatenate(parts) for parts in zip(old.pairs(), new.pairs(), strict=True))
    w = np.concatenate([np.ones(each.nnz) if each.weights is None else each.weights
                        for each in (old, new)])
    wanted = Ratings.from_arrays(X[:, 0], X[:, 1], y, w, duplicates=duplicates)
    assert table(found.ratings) == pytest.approx(table(wanted))
    weights = wanted.select_cells(np.ones(wanted.nnz, bool)).weights
    if any(weighted):
        got = Ratings(sp.csr_array((found.ratings.weights, found.ratings.by_user.indices,
                                    found.ratings.by_user.indptr), found.ratings.shape),
                      user_ids=found.ratings.user_ids, item_ids=found.ratings.item_ids)
        assert table(got) == pytest.approx(table(Ratings(sp.csr_array(
            (weights, wanted.by_user.indices, wanted.by_user.indptr), wanted.shape),
            user_ids=wanted.user_ids, item_ids=wanted.item_ids)), rel=1e-6)
    else:
        assert found.ratings.weights is None
    np.testing.assert_array_equal(found.ratings.user_ids[:9], old.user_ids)
    np.testing.assert_array_equal(found.ratings.user_ids[found.users[found.users >= 0]],
                                  new.user_ids[found.users >= 0])
    assert found.user_changes.sum() == found.item_changes.sum() == new.nnz


def test_replaced_rows_hold_what_is_given_and_the_changes_count_both():
    old, new = random_ratings(9, 7, 2), random_ratings(6, 7, 5)
    found = merged(old, new, "replace", "last")
    given = set(new.user_ids.tolist())
    assert table(found.ratings) == {
        **{pair: r for pair, r in table(old).items() if pair[0] not in given}, **table(new)}
    went = sum(pair[0] in given for pair in table(old))
    assert found.user_changes.sum() == found.item_changes.sum() == new.nnz + went


def test_a_pair_that_comes_again_can_be_an_error():
    old = random_ratings(9, 7, 2)
    with pytest.raises(ValueError, match="1 of 1 new ratings are of pairs that have one"):
        merged(old, old.select_cells(np.arange(old.nnz) == 3), "add", "error")


def test_users_and_items_without_ratings_stay_out_unless_they_are_named():
    wide = Ratings(sp.csr_array(([5.0], ([0], [1])), shape=(2, 3)), user_ids=["u0", "nobody"],
                   item_ids=["nothing", "i1", "i2"])
    old = samples.named()
    assert merged(old, wide, "add", "last").ratings.shape == (11, 8)
    named = merged(old, Ratings(wide.by_user), "add", "last", users=["u0", "nobody"],
                   items=["nothing", "i1", "i2"])
    assert named.ratings.shape == (12, 9)
    assert named.users.tolist() == [0, 11]
    assert named.items.tolist() == [8, 1, 2]


@pytest.mark.parametrize("weighted", [False, True])
def test_columns_of_ratings_are_rows_of_their_transpose(weighted):
    ratings = random_ratings(9, 7, 4, weighted)
    got, wanted = columns_of(ratings, np.array([5, 0, 2])), ratings.transposed.select_users(
        [5, 0, 2])
    np.testing.assert_array_equal(got.by_user.toarray(), wanted.by_user.toarray())
    np.testing.assert_array_equal(got.by_user.indices, wanted.by_user.indices)
    if weighted:
        np.testing.assert_array_equal(got.weights, wanted.weights)


def test_without_leaves_the_other_rows_and_columns():
    ratings = random_ratings(9, 7, 4, True)
    users, items = np.arange(9) % 4 == 1, np.arange(7) == 3
    left = without(ratings, users, items)
    assert table(left) == {
        (u, i): r for (u, i), r in table(ratings).items()
        if u in ratings.user_ids[~users] and i in ratings.item_ids[~items]}
    assert left.weights.size == left.nnz


# ------------------------------------------------------------------------ what update does

@pytest.mark.parametrize("name", FRESH)
def test_rows_that_are_solved_get_the_vectors_of_folding_in(name):
    grown = model(name).update(day(), rows="changed")
    rows = grown.ratings_.known_users(["u1", "u2", "new"])
    alone = grown.fold_in_users(grown.ratings_.select_users(rows))
    np.testing.assert_allclose(grown.user_factors_[rows], alone.factors, atol=1e-10)
    if alone.bias is not None:
        np.testing.assert_allclose(grown.user_bias_[rows], alone.bias, atol=1e-10)
    column = columns_of(grown.ratings_, grown.ratings_.known_items(["added"])).transposed
    again = grown.partial_fit_items(Ratings(column.by_user), items=["added"], how="replace")
    np.testing.assert_allclose(again.item_factors_[-1], again.fold_in_items(column).factors[0],
                               atol=1e-10)


def test_single_precision_folds_in_to_single_precision():
    grown = samples.fitted("learned", samples.named()).update(day())
    rows = grown.ratings_.known_users(["u1", "new"])
    np.testing.assert_allclose(grown.user_factors_[rows], grown.fold_in_users(
        grown.ratings_.select_users(rows)).factors, atol=1e-5)


@pytest.mark.parametrize("name", FRESH)
def test_rows_that_nobody_touched_stay_as_they_are(name):
    before = model(name)
    grown = copy(before).update(day(), rows="changed")
    users, items = [0, *range(3, 11)], [1, 3, 4, 5, 6]
    np.testing.assert_array_equal(grown.user_factors_[users], before.user_factors_[users])
    np.testing.assert_array_equal(grown.item_factors_[items], before.item_factors_[items])
    assert before.n_users_ == len(before.user_factors_) == 11


@pytest.mark.parametrize("name", FRESH)
def test_passes_over_all_rows_come_to_the_objective_of_a_fit_to_all_ratings(name):
    grown = model(name, n_factors=8, n_epochs=30).update(day())
    stale = grown.objective()["total"]
    grown.update(rows="all", n_passes=200)
    other = model(name, grown.ratings_, n_factors=8, n_epochs=30, random_state=1)
    for part in ("origin_", "global_mean_", "rating_scale_", "unknown_weight_", "reg_",
                 "bias_reg_", "mean_rating_"):          # (what an update leaves as it was)
        setattr(other, part, getattr(grown, part))
    least = other.update(rows="all", n_passes=200).objective()["total"]
    assert grown.objective()["total"] <= stale
    assert grown.objective()["total"] == pytest.approx(least, rel=1e-3)


def test_each_pass_lowers_the_objective():
    totals = [model("linear").update(day(), rows="all", n_passes=n).objective()["total"]
              for n in (1, 2, 4, 8)]
    assert totals == sorted(totals, reverse=True)
    assert totals[0] > totals[-1]


def test_a_new_item_is_recommended_to_those_who_like_what_its_buyers_like():
    even = (np.add.outer(np.arange(50), np.arange(50)) % 2 == 0) & ~np.eye(50, dtype=bool)
    fitted = ImplicitMF.like_implicit(2, reg=0, random_state=23).fit(
        sp.csr_array(even.astype(float)))
    buyers = np.flatnonzero(even[1])
    new = Ratings.from_arrays(buyers, np.full(len(buyers), 50))
    for take in (lambda m: m.update(new), lambda m: m.partial_fit_items(
            sp.csr_array(even[1].astype(float)[:, None]), items=[50])):
        grown = take(copy(fitted))
        assert set(grown.recommend([1], k=2)[0][0].tolist()) == {1, 50}
        assert (grown.similar_items([50], k=9)[0] % 2 == 1).all()


def test_a_new_user_and_a_new_item_that_meet_only_each_other_have_vectors():
    grown = model("linear").update(Ratings.from_arrays(["a"], ["b"]))
    assert np.isfinite(grown.recommend(["a"], k=9)[1][0, :8]).all()
    assert np.isfinite(grown.objective()["total"])


def test_counts_add_up_and_ratings_take_the_place_of_older_ones():
    for name, wanted in (("linear", 6.0), ("learned", 4.0)):
        fitted = model(name)
        user, item = next(iter(table(fitted.ratings_)))
        old = table(fitted.ratings_)[user, item]
        fitted.update(Ratings.from_arrays([user], [item], [4.0]))
        assert table(fitted.ratings_)[user, item] == (old + 4.0 if name == "linear" else wanted)
    with pytest.raises(ValueError, match="pairs that have one"):
        fitted.update(Ratings.from_arrays([user], [item], [4.0]), duplicates="error")


def test_what_a_user_has_rated_today_is_not_recommended_tomorrow():
    grown = model("learned").update(day())
    for user in ("u1", "new"):
        seen = {item for known, item in table(grown.ratings_) if known == user}
        lists = grown.recommend([user], k=9)[0][0]
        assert not seen & set(lists.tolist())
        assert len(seen) + (lists != None).sum() == 9                       # noqa: E711


def test_repeated_pairs_of_a_frame_are_merged_as_with_older_ones():
    frame = {"user": ["u1", "u1"], "item": ["i0", "i0"], "rating": [1.0, 2.0]}
    before = table(model("linear").ratings_).get(("u1", "i0"), 0.0)
    assert table(model("linear").update(frame).ratings_)["u1", "i0"] == before + 3.0
    X = [["u1", "i0"], ["u1", "i0"]]
    assert table(model("linear").update(X, [1.0, 2.0]).ratings_)["u1", "i0"] == before + 3.0


# ------------------------------------------------------------------------- who waits

def test_a_row_waits_until_about_a_fifth_of_its_ratings_is_new():
    n, share = 1000, solving.shares(1000)
    assert 0.1 <= share.min() < 0.101
    assert 0.299 < share.max() < 0.3
    assert np.diff(np.sort(share)).max() < 2 * 0.2 / n              # (not all at once)
    counts = np.full(n, 1000)
    least = np.ceil(share * 1000).astype(int)
    assert solving.enough(least, counts).all()
    assert not solving.enough(least - 1, counts).any()
    assert solving.enough(np.ones(11, int), np.arange(11)).all()    # few ratings never wait
    assert not solving.enough(np.zeros(n, int), np.zeros(n, int)).any()


def long_histories() -> Any:
    random = np.random.default_rng(0)
    cells = sp.csr_array((random.random((40, 60)) < 0.8).astype(float))
    return ImplicitMF(3, reg=0.1, n_epochs=2, random_state=0).fit(cells)


def test_small_updates_add_up_until_a_row_is_solved():
    fitted = long_histories()
    user = 13
    before = fitted.user_factors_[user].copy()
    seen = set(fitted.ratings_.by_user[[user]].indices.tolist())
    new = [item for item in range(60) if item not in seen]
    moved = []
    for item in new[:8]:
        fitted.update(Ratings.from_arrays([user], [item]))
        moved.append(not np.array_equal(fitted.user_factors_[user], before))
    n = len(seen)
    least = next(t for t in range(1, 99) if t >= solving.shares(40)[user] * (n + t))
    assert 1 < least <= 8
    assert moved == [t >= least for t in range(1, 9)]


def test_what_waits_goes_into_the_file_and_can_be_solved_on_request(tmp_path):
    fitted = long_histories()
    item = int(np.flatnonzero(~np.isin(np.arange(60), fitted.ratings_.by_user[[7]].indices))[0])
    fitted.update(Ratings.from_arrays([7], [item]))
    fitted.save(tmp_path / "model")
    read = load(tmp_path / "model")
    assert read.users_.stale[7] == read.items_.stale[item] == 1
    read.update(rows="changed")
    assert read.users_.stale is read.items_.stale is None
    wanted = read.fold_in_users(read.ratings_.select_users([7])).factors[0]
    np.testing.assert_allclose(read.user_factors_[7], wanted, atol=1e-5)


def test_items_that_partial_fit_leaves_are_solved_by_the_next_update():
    fitted = model("learned")
    before = fitted.item_factors_.copy()
    fitted.partial_fit(Ratings.from_arrays(["u0"], ["i5"], [5.0]))
    np.testing.assert_array_equal(fitted.item_factors_, before)
    fitted.update(Ratings.from_arrays(["u0"], ["i6"], [5.0]))
    assert not np.array_equal(fitted.item_factors_[5], before[5])


def test_popularity_is_exact_after_every_update():
    fitted = Popularity().fit(sp.csr_array(np.ones((40, 3))))
    fitted.update(Ratings.from_arrays([40], [1]))
    assert fitted.predict(0, [0, 1, 2]).tolist() == [40, 41, 40]


# ------------------------------------------------------------- features, history, weights

GROUPS = one_hot(["a", "b"] * 5 + ["a"], "g")


def featured(**changes: Any) -> Any:
    params = {"dtype": "float64", "n_epochs": 4, "random_state": 0, "reg": 0.4} | changes
    return MatrixFactorization(3, **params).fit(
        samples.named(), user_features=(GROUPS, "history"),
        item_features=one_hot(list("xxyyxxyy"), "h"))


def test_features_and_history_grow_with_the_rows(tmp_path):
    given = Ratings(sp.csr_array(([4.0, 5.0, 3.0], ([0, 1, 1], [0, 0, 1])), shape=(2, 2)))
    grown = featured().update(given, users=["u3", "new"], items=["added", "i1"],
                              user_features=[["g=a"], ["g=b"]],
                              item_features=[["h=y"], ["h=x"]])
    F = grown.user_features_.matrix.toarray()
    assert F.shape == (12, 10)                          # (an item that came later has no column)
    assert F[11, :2].tolist() == [0, 1]
    assert F[3, :2].tolist() == [1, 0]
    np.testing.assert_allclose(F[11, 2:][1], 1 / np.sqrt(2))
    assert F[11, 2:].sum() == pytest.approx(1 / np.sqrt(2))
    assert grown.item_features_.matrix.toarray()[8].tolist() == [0, 1]
    row = grown.ratings_.select_users([11])
    np.testing.assert_allclose(grown.user_factors_[11], grown.fold_in_users(
        row, user_features=[["g=b"]]).factors[0], atol=1e-10)
    grown.save(tmp_path / "model")
    assert load(tmp_path / "model").objective() == grown.objective()


@pytest.mark.parametrize("unknown", ["ignore", "raise"])
def test_features_go_by_the_given_columns_where_new_items_stay_out(unknown):
    cells = samples.named(samples.matrix())
    groups = [["a"], ["b"]] * 4
    fitted = samples.model("learned", dtype="float64").fit(cells, item_features=groups)
    fresh = ["i5", *["added"] * (unknown == "ignore"), "i2"]
    given = Ratings.from_arrays(["u1"] * len(fresh), fresh)
    names = {"i5": ["a", "b"], "added": ["a"], "i2": []}
    fitted.update(given, unknown=unknown, item_features=[names[each] for each in given.item_ids])
    groups[5], groups[2] = ["a", "b"], []
    wanted = [[name in row for name in "ab"] for row in groups]
    np.testing.assert_array_equal(fitted.item_features_.matrix.toarray(), wanted)


def test_forgotten_items_leave_the_history(tmp_path):
    left = featured().forget(["u10"], ["i2", "i4"])
    assert left.user_features_.names == ("g=a", "g=b", *(f"rated=i{n}" for n in (0, 1, 3, 5, 6, 7)))
    assert left.user_feature_factors_.shape == (8, 3)
    alone = left.fold_in_users(left.ratings_, user_features=GROUPS.matrix[:10])
    changed = np.flatnonzero(np.isin(np.arange(10), featured().ratings_.by_item[[2, 4]].indices))
    np.testing.assert_allclose(left.user_factors_[changed], alone.factors[changed], atol=1e-10)
    left.save(tmp_path / "model")
    assert load(tmp_path / "model").objective() == left.objective()


def test_weights_of_old_and_new_ratings_are_kept():
    cells = samples.matrix()
    fitted = model("learned", Ratings(cells, weights=samples.weights(cells),
                                      user_ids=samples.names(11, "u"),
                                      item_ids=samples.names(8, "i")))
    fitted.update(day(weights=[0.5] * 4))
    place = fitted.ratings_.known_users(["new"])
    assert fitted.ratings_.select_users(place).weights.tolist() == [0.5, 0.5]
    rows = fitted.ratings_.select_users(place)
    np.testing.assert_allclose(fitted.user_factors_[place], fitted.fold_in_users(rows).factors,
                               atol=1e-10)


def test_negative_counts_that_come_later_are_dislikes():
    fitted = ImplicitMF.like_implicit(3, random_state=0).fit(samples.named(samples.counts()))
    fitted.update(day(values=[-2.0, 1.0, 1.0, 1.0]), duplicates="last", rows="changed")
    assert fitted.rating_range_[0] == -2.0
    rows = fitted.ratings_.known_users(["u1"])
    np.testing.assert_allclose(fitted.user_factors_[rows], fitted.fold_in_users(
        fitted.ratings_.select_users(rows)).factors, atol=1e-5)


# ------------------------------------------------------------------------------------ ids

KINDS = {"numbers": (None, None), "integers": (np.arange(11) + 7, np.arange(8) * 3),
         "text": ([str(n + 7) for n in range(11)], [str(3 * n) for n in range(8)])}


@pytest.mark.parametrize("kind", KINDS)
def test_an_id_is_the_same_as_an_integer_and_as_its_text(kind):
    users, items = KINDS[kind]
    fitted = model("learned", Ratings(samples.matrix(), user_ids=users, item_ids=items))
    known = (2, 5) if kind == "numbers" else (9, 15)
    new = (11, 8) if kind == "numbers" else (99, 98)
    given = [known[0], new[0]], [new[1], known[1]], [3.0, 4.0]
    as_text = [list(map(str, ids)) for ids in given[:2]]
    one = copy(fitted).update(Ratings.from_arrays(*given))
    assert one.ratings_.shape == (12, 9)
    if kind == "numbers":
        return
    other = copy(fitted).update(Ratings.from_arrays(*as_text, given[2]))
    assert state(one) == state(other)
    kept = str if kind == "text" else int
    assert one.item_ids_[-1] == kept(98)
    assert one.user_ids_.dtype == fitted.user_ids_.dtype


@pytest.mark.parametrize(("given", "error", "message"), [
    ({"users": ["x", 7]}, TypeError, r"users of the fit are integers, got \['x'\]"),
    ({"items": ["y", 3]}, TypeError, r"items of the fit are integers, got \['y'\]"),
    ({"users": [7, 7]}, ValueError, "users must be distinct"),
    ({"items": [99, "99"]}, ValueError, "items must be distinct"),
    ({"users": [7]}, ValueError, "same length"),
    ({"users": None}, ValueError, "users must name the 2 rows"),
    ({"items": None}, ValueError, "items must name the 2 columns")])
def test_ids_that_do_not_fit_are_refused_and_nothing_changes(given, error, message):
    users, items = KINDS["integers"]
    fitted = model("learned", Ratings(samples.matrix(), user_ids=users, item_ids=items))
    before = state(fitted)
    with pytest.raises(error, match=message):
        fitted.update(samples.matrix(2, 2), **{"users": [7, 99], "items": [3, 99]} | given)
    assert state(fitted) == before


def test_numbers_of_new_rows_and_columns_follow_on():
    fitted = model("learned", samples.matrix())
    grown = copy(fitted).update(samples.matrix(13, 9, seed=9))
    assert grown.ratings_.shape == (13, 9)
    with pytest.raises(ValueError, match="items must be distinct, and new numbers .* from 8"):
        copy(fitted).update(Ratings.from_arrays([0], [9]))
    with pytest.raises(ValueError, match="it looks transposed"):
        fitted.update(sp.csr_array(samples.matrix().T))


# ------------------------------------------------------------------------- other models

@pytest.mark.parametrize("name", [name for name, entry in MODELS.items()
                                  if entry.answer("partial_fit") != "no"])
def test_an_updated_model_answers_saves_and_loads_as_one_fitted_to_all_ratings(name, tmp_path):
    fitted = samples.small(getattr(mfcore, name)).fit(samples.named(samples.counts()))
    known = day(users=["u1", "u3", "new", "new"], items=["i0", "i7", "i2", "i3"])
    before = table(fitted.ratings_)
    fitted.update(known)
    assert set(table(fitted.ratings_)) == {*before, *table(known)}
    assert fitted.n_users_ == len(fitted.user_counts_) == 12
    np.testing.assert_array_equal(fitted.user_counts_, np.diff(fitted.ratings_.by_user.indptr))
    np.testing.assert_array_equal(fitted.item_counts_, np.diff(fitted.ratings_.by_item.indptr))
    got = fitted.recommend(["new"], k=3)
    wanted = fitted.recommend(ratings=fitted.ratings_.select_users([11]), k=3)
    # (One starts from a mean of all users, the other draws: requests share their noise.)
    if name not in ("NeuralMF", "BayesianMF"):
        np.testing.assert_array_equal(got[0], wanted[0])
        np.testing.assert_allclose(got[1], wanted[1], atol=1e-5)
    fitted.save(tmp_path / "model")
    assert samples.answers(load(tmp_path / "model")) == samples.answers(fitted)


@pytest.mark.parametrize(("name", "size"), [("learned", 1e38), ("learned", -1e38),
                                            ("linear", 1e38)])
def test_what_no_fit_takes_no_update_takes(name, size):
    fitted = model(name)
    before = state(fitted)
    with pytest.raises(DivergenceError, match="rescale the ratings"):
        fitted.update(day(values=[4.0, 1.0, 2.0, size]))
    assert state(fitted) == before


@pytest.mark.parametrize("rows", [[11, 13], [13, 13]])
def test_an_empty_new_row_comes_in_with_those_behind_it(rows):
    fitted = model("learned", samples.matrix())
    new = sp.csr_array(([4.0, 2.0], (rows, [0, 3])), shape=(15, 8))
    fitted.update(new)
    assert fitted.ratings_.shape == (14, 8)
    assert np.isfinite(fitted.user_factors_).all()
    named = model("learned", samples.matrix())
    named.update(Ratings(new[11:14], user_ids=[11, 12, 13], item_ids=range(8)))
    assert named.ratings_.shape == (14, 8)


def test_users_of_whom_no_rating_is_left_come_in_where_they_are_named():
    fitted, only_new = model("learned"), Ratings.from_arrays(["new"], ["added"])
    assert copy(fitted).update(only_new, unknown="ignore").n_users_ == 11
    named = copy(fitted).update(only_new.by_user, users=["new"], items=["added"], unknown="ignore")
    assert named.user_ids_[11] == "new"
    assert named.user_counts_[11] == 0


def test_a_model_that_solves_no_items_says_so_of_items():
    fitted = samples.small(BPR).fit(samples.counts())
    with pytest.raises(NotImplementedError, match="BPR cannot take .* or solve them again"):
        fitted.partial_fit_items(samples.counts())


@pytest.mark.parametrize("made", [EASE, MultVAE])
def test_a_model_with_a_size_for_each_item_says_refit(made):
    fitted = samples.small(made).fit(samples.named(samples.counts()))
    with pytest.raises(NotImplementedError, match=f"{made.__name__} cannot take new items in or "
                                                  "solve them again: refit it"):
        fitted.update(day())
    assert fitted.ratings_.shape == (11, 8)
    fitted.update(day(), unknown="ignore")
    assert fitted.ratings_.shape == (12, 8)


# ---------------------------------------------------------------------------------- forget

@pytest.mark.parametrize("name", [name for name, entry in MODELS.items()
                                  if entry.answer("forget") != "no"])
def test_who_is_forgotten_leaves_model_ratings_lists_and_file(name, tmp_path):
    made = samples.small(getattr(mfcore, name))
    fitted = made.fit(samples.named(samples.counts()))
    items = MODELS[name].answer("forget_items") == "yes"
    fitted.forget(["u1", "u10"], ["i2"] if items else None)
    fitted.save(tmp_path / "model")
    assert b"u10" not in (tmp_path / "model").read_bytes()
    for left in (fitted, load(tmp_path / "model")):
        assert left.ratings_.shape == (9, 7 if items else 8)
        assert "u1" not in left.user_ids_
        with pytest.raises(KeyError, match="u1"):
            left.recommend(["u1"])
        lists = left.recommend(k=8, exclude_seen=False)[0]
        assert ("i2" in lists) is not items


def test_users_who_lost_a_rating_are_solved_without_it():
    fitted = model("learned")
    left = copy(fitted).forget(items=["i0"])
    alone = left.fold_in_users(left.ratings_)
    changed = left.ratings_.known_users([user for user, item in table(fitted.ratings_)
                                         if item == "i0"])
    np.testing.assert_allclose(left.user_factors_[changed], alone.factors[changed], atol=1e-10)
    assert "i0" in fitted.item_ids_


def test_what_cannot_be_forgotten_is_refused_and_nothing_changes():
    fitted = model("learned")
    before = state(fitted)
    for ask, error, message in (
            (lambda: fitted.forget(["u1", "nobody"]), KeyError, "nobody"),
            (lambda: fitted.forget(), ValueError, "needs users or items"),
            (lambda: fitted.forget(samples.names(11, "u")), ValueError, "at least one rating")):
        with pytest.raises(error, match=message):
            ask()
        assert state(fitted) == before
    assert fitted.forget(["u1", "nobody"], unknown="ignore").n_users_ == 10


# --------------------------------------------------------------------------- bad input

BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "how": ({"how": "ad"}, ValueError, "how must be one of 'add', 'replace', got 'ad'"),
    "rows": ({"rows": "some"}, ValueError, "rows must be one of"),
    "passes": ({"n_passes": 0}, ValueError, "n_passes must be"),
    "duplicates": ({"duplicates": "first"}, ValueError, "duplicates must be one of"),
    "unknown": ({"unknown": "raise"}, KeyError, "added"),
    "features": ({"item_features": [["a"]]}, ValueError, "fitted without them"),
    "NaN": ({"ratings": sp.csr_array([[np.nan]]), "users": ["a"], "items": ["b"]}, ValueError,
            "finite"),
    "nothing": ({"ratings": None}, ValueError, "update needs ratings"),
    "nothing left": ({"ratings": sp.csr_array((11, 8)), "how": "replace"}, ValueError,
                     "must leave at least one rating in the model"),
    "too large": ({"ratings": Ratings.from_arrays(["u0"], ["i0"], [1e200])},
                  FloatingPointError, "rescale"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_and_nothing_changes(name):
    given, error, message = BAD[name]
    fitted = samples.fitted("learned", samples.named())
    before = state(fitted)
    with np.errstate(all="ignore"), pytest.raises(error, match=message):
        fitted.update(**{"ratings": day()} | given)
    assert state(fitted) == before


def test_a_model_that_was_saved_without_its_ratings_says_what_to_do(tmp_path):
    model("learned").save(tmp_path / "model", seen=False)
    for ask in (lambda m: m.update(day()), lambda m: m.forget(["u1"])):
        with pytest.raises(ValueError, match="seen=False.*save it with seen=True, or fit it again"):
            ask(load(tmp_path / "model"))


@pytest.mark.parametrize("place", ["_solve_items", "_solve_users", "settled"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_update_that_is_cut_short_leaves_the_old_model(monkeypatch, place, error):
    fitted = model("learned")
    before, attributes = state(fitted), set(vars(fitted))

    def cut(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(solving, place, cut)
    for ask in (lambda: fitted.update(day()), lambda: fitted.forget(["u1"], ["i1"])):
        with pytest.raises(error):
            ask()
        assert (state(fitted), set(vars(fitted))) == (before, attributes)
    monkeypatch.undo()
    assert fitted.update(day()).n_items_ == 9
