"""`Segmented`: each user is answered by the model of the own segment, the rest by that of all."""

from __future__ import annotations

import math

import numpy as np
import pytest
import samples
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold

from mfcore import (
    BiasOnly,
    ImplicitMF,
    MatrixFactorization,
    Popularity,
    Ratings,
    Segmented,
    cross_validate,
    evaluate,
    load,
)
from mfcore.data.features import concatenate, multi_hot, numeric, one_hot
from mfcore.metrics.folding import folding
from mfcore.persistence import ModelFileError
from mfcore.validation import FitWarning

N_USERS, N_ITEMS = 30, 14
LABELS = [("east", "west", "north")[row % 3] for row in range(N_USERS)]
LABELS[4] = "lonely"                    # no label of row 4's kind comes again
LOST = 5                                # a user whom the mapping leaves out


def cells(seed: int = 1) -> sp.csr_array:
    return samples.matrix(N_USERS, N_ITEMS, seed=seed)


def named() -> Ratings:
    return samples.named(cells())


def by_id() -> dict[str, str]:
    return {f"u{row}": label for row, label in enumerate(LABELS) if row != LOST}


def small(**changes) -> MatrixFactorization:
    return samples.small(MatrixFactorization, **{"dtype": "float64", **changes})


def alone(label: str, ratings=None) -> MatrixFactorization:
    """The same model, fitted by hand to the users of one segment."""
    ratings = Ratings(cells()) if ratings is None else ratings
    return small().fit(ratings.select_users(rows_of(label)))


def rows_of(label: str) -> np.ndarray:
    return np.flatnonzero(np.array(LABELS) == label)


@pytest.fixture
def model() -> Segmented:
    return Segmented(small(), LABELS).fit(cells())


# ---------------------------------------------------------------------------- routing

def test_users_get_what_a_model_of_their_segment_alone_gives(model):
    for label in ("east", "west", "north", "lonely"):
        rows = rows_of(label)
        items, scores = alone(label).recommend(k=5)
        got_items, got_scores = model.recommend(rows, k=5)
        np.testing.assert_array_equal(got_items, items)
        np.testing.assert_allclose(got_scores, scores, rtol=1e-12)
    everyone, _ = model.recommend(k=5)
    np.testing.assert_array_equal(everyone[rows_of("west")], model.recommend(rows_of("west"), 5)[0])


def test_users_without_a_segment_get_what_the_model_of_all_gives():
    model = Segmented(small(), by_id()).fit(named())
    whole = small().fit(named())
    lost = f"u{LOST}"
    np.testing.assert_array_equal(model.recommend([lost])[0], whole.recommend([lost])[0])
    np.testing.assert_array_equal(model.predict(["nobody", lost], "i3"),
                                  whole.predict(["nobody", lost], "i3"))
    assert model.segment_of_user_[LOST] == -1
    assert "west" in model.segments_


def test_moments_are_asked_of_the_model_of_the_users_segment():
    timed = Ratings(cells(), times=np.arange(cells().nnz) * 1000)
    model = Segmented(small(user_periods=3, item_periods=2), LABELS).fit(timed)
    users, items = np.arange(N_USERS), np.arange(N_USERS) % N_ITEMS
    times = np.linspace(0, timed.times.max(), N_USERS).astype(int)
    scores, lists = model.predict(users, items, times=times), model.recommend(times=times)[0]
    assert np.abs(scores - model.predict(users, items)).max() > 0.01
    for label in dict.fromkeys(LABELS):
        rows, own = rows_of(label), model.segment(label)
        places = np.arange(len(rows))
        np.testing.assert_array_equal(scores[rows], own.predict(places, items[rows],
                                                                times=times[rows]))
        np.testing.assert_array_equal(lists[rows], own.recommend(times=times[rows])[0])
    np.testing.assert_array_equal(model.predict(users, items, times=times[7])[7], scores[7])
    with pytest.raises(ValueError, match=r"times must have shape \(30,\)"):
        model.predict(users, items, times=times[:2])


def test_predictions_come_from_the_segment_of_the_user(model):
    users, items = np.divmod(np.random.default_rng(0).permutation(N_USERS * N_ITEMS), N_ITEMS)
    got = model.predict(users, items)
    for label in set(LABELS):
        own = np.isin(users, rows_of(label))
        wanted = alone(label).predict(np.searchsorted(rows_of(label), users[own]), items[own])
        np.testing.assert_allclose(got[own], wanted, rtol=1e-12)
    assert np.isfinite(model.predict([N_USERS + 5, 0], [0, N_ITEMS + 5])).all()


@pytest.mark.parametrize("ratings", [cells(), named()], ids=["numbers", "names"])
def test_similar_users_are_of_the_same_segment(ratings):
    model = Segmented(small(), LABELS).fit(ratings)
    names = np.arange(N_USERS) if model.user_ids_ is None else model.user_ids_
    found, scores = model.similar_users(names[[3, 4, 7]], 4)
    assert np.isin(found[0], names[rows_of(LABELS[3])]).all()
    assert found[1].tolist() == ([-1] * 4 if model.user_ids_ is None else [None] * 4)
    assert np.isin(found[2], names[rows_of(LABELS[7])]).all()
    assert names[3] not in found[0]
    assert np.isneginf(scores[1]).all()


def test_similar_items_are_those_of_the_segment_asked(model):
    for segment, other in ((None, small().fit(cells())), ("east", alone("east"))):
        got = model.similar_items([2, 5], 3, segment=segment)
        for one, two in zip(got, other.similar_items([2, 5], 3), strict=True):
            np.testing.assert_array_equal(one, two)
    with pytest.raises(KeyError, match="no model of a segment 'south'; there are 'east', 'west'"):
        model.similar_items([2], segment="south")


@pytest.mark.parametrize("ratings", [cells(), named()], ids=["numbers", "names"])
def test_a_score_is_explained_by_the_model_of_the_segment(ratings):
    model = Segmented(small(solver="cholesky"), LABELS).fit(ratings)
    user, item = (7, 2) if model.user_ids_ is None else ("u7", "i2")
    score, _, contributions = model.explain(user, item)
    assert score == model.predict([user], [item])[0]
    assert len(contributions)


def test_new_rows_are_folded_into_the_segment_that_a_mapping_names():
    model = Segmented(small(solver="cholesky"), {**by_id(), "new": "west"}).fit(named())
    row = cells(seed=8)[[6]]
    both = Ratings(sp.csr_array(sp.vstack([row, row])), user_ids=["new", "stranger"],
                   item_ids=samples.names(N_ITEMS, "i"))
    west, whole = model.segment("west"), model.fallback_
    folded = model.fold_in_users(both)
    for place, one in enumerate((west, whole)):
        np.testing.assert_array_equal(folded.factors[place], one.fold_in_users(row).factors[0])
        assert folded.bias[place] == one.fold_in_users(row).bias[0]
        np.testing.assert_array_equal(model.recommend(ratings=both)[0][place],
                                      one.recommend(ratings=row)[0][0])
        assert model.predict(place, "i1", ratings=both) == one.predict(0, "i1", ratings=row)


@pytest.mark.parametrize(("users", "keys"), [(int, str), (str, int)], ids=["int", "text"])
def test_a_mapping_finds_an_integer_by_its_text_and_text_by_its_integer(users, keys):
    pairs = [users(each) for each in (1, 1, 2, 2)], ["a", "b", "a", "b"]
    by = {keys(1): "east", keys(2): "west", keys(3): "west"}
    model = Segmented(small(), by).fit(Ratings.from_arrays(*pairs, [1.0, 2, 3, 4]))
    assert {label: each.user_ids_.tolist() for label, each in model.segments_.items()} == {
        "east": [users(1)], "west": [users(2)]}
    new = Ratings.from_arrays([users(3)], ["a"], [5.0])
    np.testing.assert_array_equal(model.recommend(ratings=new, k=1)[1],
                                  model.segments_["west"].recommend(ratings=new, k=1)[1])


def test_a_mapping_without_any_user_of_the_ratings_warns():
    with pytest.warns(FitWarning, match="none of the users of the ratings, but for '01', for one"):
        Segmented(small(), {"01": "east"}).fit(Ratings.from_arrays([1, 1], ["a", "b"], [1.0, 2]))


def test_each_segments_model_can_be_asked_for_new_users(model):
    row = cells(seed=8)[[6]]
    np.testing.assert_array_equal(model.segment("west").recommend(ratings=row)[0],
                                  alone("west").recommend(ratings=row)[0])


# ------------------------------------------------------------------------- who belongs where

def test_a_field_of_features_a_mapping_and_labels_by_row_mean_the_same():
    features = concatenate(numeric(range(N_USERS), "age"), one_hot(LABELS, "region"))
    models = [Segmented(small(), LABELS).fit(cells()),
              Segmented(small(), np.array(LABELS)).fit(cells()),
              Segmented(small(), dict(enumerate(LABELS))).fit(cells()),
              Segmented(small(), "region").fit(cells(), user_features=features)]
    for each in models[1:]:
        np.testing.assert_array_equal(each.recommend()[1], models[0].recommend()[1])
        assert set(each.segments_) == set(LABELS)


def test_small_segments_and_those_without_ratings_are_served_by_the_model_of_all():
    labels = list(LABELS)
    labels[samples.SILENT_USER] = "silent"
    model = Segmented(small(), labels, min_ratings=1).fit(cells())
    assert set(model.segments_) == set(LABELS)              # but not "silent"
    assert model.segment_of_user_[samples.SILENT_USER] == -1
    most = max(alone(label).ratings_.nnz for label in set(LABELS))
    few = Segmented(small(), LABELS, min_ratings=most).fit(cells())
    assert len(few.segments_) < 4
    assert few.ratings_.nnz == few.fallback_.ratings_.nnz
    none = Segmented(small(), LABELS, min_ratings=10**6).fit(cells())
    np.testing.assert_array_equal(none.recommend()[0], small().fit(cells()).recommend()[0])


FEATURES = concatenate(one_hot(LABELS, "region"), multi_hot(["a|b"] * N_USERS, "tag"))


@pytest.mark.parametrize(("by", "options", "error", "message"), [
    (LABELS[:-1], {}, ValueError, "by must hold one label per user, 30, got 29"),
    ([None, *LABELS[1:]], {}, ValueError, "no label for row 0 .1 in all.; name a segment"),
    ([*LABELS[:-1], math.nan], {}, ValueError, "no label for row 29"),
    ([[1], *LABELS[1:]], {}, TypeError, r"labels that a model file can keep, .*got \[1\]"),
    (7, {}, TypeError, "by must be the name of a field"),
    ("region", {}, ValueError, "by='region' names a field: fit needs user_features"),
    ("town", {"user_features": FEATURES}, ValueError, "a field 'town', got region, tag"),
    ("tag", {"user_features": FEATURES}, ValueError, "one value per user, got 2 in row 0"),
    ("region", {"user_features": FEATURES.select([0])}, ValueError, "must have 30 rows"),
    (LABELS, {"checkpoint": "x"}, ValueError, "checkpoint must be None"),
])
def test_labels_that_do_not_fit_are_refused(by, options, error, message):
    with pytest.raises(error, match=message):
        Segmented(small(), by).fit(cells(), **options)


@pytest.mark.parametrize(("params", "error", "message"), [
    ({"estimator": "mf"}, TypeError, "estimator must be a model to fit to each segment, got str"),
    ({"estimator": small(reg=-1.0)}, ValueError, "reg must be"),
    ({"min_ratings": 0}, ValueError, "min_ratings must be >= 1"),
])
def test_parameters_out_of_range_are_refused(params, error, message):
    with pytest.raises(error, match=message):
        Segmented(**{"estimator": small(), "by": LABELS, **params}).fit(cells())


def test_a_segment_that_cannot_be_learned_is_named_and_the_model_stays(model):
    ratings = sp.csr_array(np.array([[1.0, 2.0, 0.0], [3.0, 4.0, 5.0]]))
    before = model.recommend()[0]
    model.set_params(by=["half", "full"], estimator__unknown_weight="balanced")
    with pytest.raises(ValueError, match="segment 'full': unknown_weight='balanced' needs"):
        model.fit(ratings)
    np.testing.assert_array_equal(model.recommend()[0], before)


# ------------------------------------------------------------------------ one interface

@pytest.mark.parametrize("inner", [small(), ImplicitMF(3, n_epochs=2, random_state=0), BiasOnly(),
                                   Popularity()], ids=lambda each: type(each).__name__)
def test_any_model_is_split_measured_and_scored(inner):
    train, test = samples.counts(N_USERS, N_ITEMS), samples.counts(N_USERS, N_ITEMS, seed=7)
    model = Segmented(inner, LABELS)
    assert model.fit(train) is model
    values = evaluate(model, test, metrics=["ndcg@3", "folding@3", "auc"], exclude_seen=False)
    assert all(np.isfinite(list(values.values())))
    assert 0 <= folding(model) < 1
    measured = "rmse" if inner.predicts_ratings else "ndcg@10"
    value = evaluate(model, test, metrics=measured)[measured]
    assert model.score(test) == (-value if inner.predicts_ratings else value)
    fold_in = evaluate(model, test, fold_in=train, metrics="ndcg@3", exclude_seen=False)
    assert fold_in == evaluate(model.fallback_, test, fold_in=train, metrics="ndcg@3",
                               exclude_seen=False)


def test_the_estimator_is_left_as_it_is():
    inner = small()
    Segmented(inner, LABELS).fit(cells())
    assert not [name for name in vars(inner) if name.endswith("_")]


def test_a_model_is_shown_whatever_holds_its_labels():
    pd = pytest.importorskip("pandas")
    for by in (np.arange(3), [0, 1, 2], (0, 1), pd.Series([0, 1, 2])):
        assert repr(Segmented(Popularity(), by=by)) == \
            f"Segmented(estimator=Popularity(), by={by!r})"


def test_clones_and_inner_parameters_are_those_of_scikit_learn():
    model = Segmented(small(), by_id(), min_ratings=2).fit(named())
    copied = clone(model)
    assert copied.estimator is not model.estimator
    assert copied.by == model.by
    assert copied.get_params()["estimator__n_factors"] == 3
    assert not [name for name in vars(copied) if name.endswith("_")]
    copied.set_params(estimator__reg=7.5, min_ratings=3)
    assert (copied.estimator.reg, copied.min_ratings, model.estimator.reg) == (7.5, 3, small().reg)
    with pytest.raises(ValueError, match="has no parameter 'colour'"):
        copied.set_params(estimator__colour=1)
    assert repr(Segmented(Popularity(), "age", min_ratings=5)) == \
        "Segmented(estimator=Popularity(), by='age', min_ratings=5)"


@pytest.mark.filterwarnings("ignore:all vectors shrank to nothing")
def test_a_grid_search_chooses_a_parameter_of_the_estimator(planted):
    ratings = planted.ratings
    X = np.column_stack([ratings.users_of_cells, ratings.by_user.indices])
    by = dict(enumerate(planted.user_groups.tolist()))
    search = GridSearchCV(Segmented(small(), by), {"estimator__reg": [1.0, 1e9]},
                          cv=KFold(2, shuffle=True, random_state=0), error_score="raise")
    search.fit(X, ratings.by_user.data)
    assert search.best_params_ == {"estimator__reg": 1.0}


def test_folds_keep_the_labels_of_the_rows(planted):
    model = Segmented(small(), planted.user_groups)
    values = cross_validate(model, planted.ratings, 3, metrics=["rmse"])["rmse"]
    assert values.shape == (3,)
    assert np.isfinite(values).all()


def test_the_same_bits_for_any_number_of_threads(planted):
    found = [Segmented(MatrixFactorization(4, n_epochs=2, random_state=0, n_threads=n),
                       planted.user_groups).fit(planted.ratings).recommend() for n in (1, 2, 8)]
    for items, scores in found[1:]:
        np.testing.assert_array_equal(items, found[0][0])
        np.testing.assert_array_equal(scores, found[0][1])
    assert Segmented(small(n_threads=2), LABELS).fit(cells()).segment("east").n_threads == 2


@pytest.mark.parametrize("ratings", [cells(), named()], ids=["numbers", "names"])
def test_the_evaluation_set_is_cut_as_the_ratings_are(ratings):
    test = cells(seed=7)
    test = test if isinstance(ratings, sp.csr_array) else samples.named(test)
    seen = []
    model = Segmented(small(), LABELS).fit(
        ratings, eval_set=test, callbacks=[lambda model, record: seen.append(record["rmse"])])
    assert model.n_epochs_ == len(seen) == 5 * 2
    ratings = ratings if isinstance(ratings, Ratings) else Ratings(ratings)
    for label in (None, *model.segment_labels_):
        rows = np.arange(N_USERS) if label is None else rows_of(label)
        held = test.select_users(rows) if isinstance(test, Ratings) else test[rows]
        one = small().fit(ratings.select_users(rows), eval_set=held)
        assert [record["rmse"] for record in model.history_ if record["segment"] == label] == \
            [record["rmse"] for record in one.history_]


# -------------------------------------------------------------------- what is lost by it

def test_the_report_holds_each_segment_against_one_model_of_all(model):
    test = cells(seed=7)
    rows = {row["segment"]: row for row in model.report(test)}
    assert list(rows) == ["east", "west", "north", "lonely"]
    assert sum(row["users"] for row in rows.values()) == N_USERS
    assert sum(row["ratings"] for row in rows.values()) == cells().nnz
    own = samples.stored(cells())[rows_of("lonely")]
    assert rows["lonely"]["unseen_items"] == N_ITEMS - own.any(axis=0).sum()
    part = test[rows_of("east")]
    assert rows["east"]["rmse"] == pytest.approx(
        evaluate(alone("east"), part, metrics="rmse")["rmse"], rel=1e-9)
    whole = small().fit(cells())
    held = Ratings(test).select_cells(np.isin(Ratings(test).users_of_cells, rows_of("east")))
    assert rows["east"]["rmse of one model"] == pytest.approx(
        np.sqrt(np.mean((held.by_user.data - np.clip(whole.predict(
            held.users_of_cells, held.by_user.indices), 0, 5)) ** 2)), rel=1e-9)


def test_the_report_names_users_without_a_segment_last_and_empty_parts_nan():
    model = Segmented(small(), by_id()).fit(named())
    test = samples.named(cells(seed=7))
    test = test.select_cells(np.isin(test.users_of_cells, [*rows_of("east"), LOST]))
    rows = model.report(test, metrics=["mae"])
    assert rows[-1]["segment"] is None
    assert rows[-1]["mae"] == rows[-1]["mae of one model"]
    assert math.isnan(rows[1]["mae"])
    assert rows[0]["mae"] > 0


# ---------------------------------------------------------------------------- its file

@pytest.mark.parametrize("by", [LABELS, np.array(LABELS), by_id(), "region",
                                {f"u{row}": row % 2 for row in range(N_USERS)}],
                         ids=["list", "array", "mapping", "field", "integers"])
def test_a_saved_model_is_the_same_model_again(by, tmp_path):
    model = Segmented(small(), by, min_ratings=2).fit(
        named(), user_features=FEATURES if isinstance(by, str) else None)
    model.save(tmp_path / "model")
    again = load(tmp_path / "model")
    for one, two in zip(model.recommend(), again.recommend(), strict=True):
        np.testing.assert_array_equal(one, two)
    assert again.segment_labels_ == model.segment_labels_
    assert again.history_ == model.history_
    assert again.get_params(deep=False).keys() == model.get_params(deep=False).keys()
    assert again.estimator.get_params() == model.estimator.get_params()
    assert list(again.by) == list(by) if isinstance(by, np.ndarray) else again.by == by
    assert again.explain("u7", "i2")[0] == model.explain("u7", "i2")[0]
    test = samples.named(cells(seed=7))
    assert str(again.report(test)) == str(model.report(test))


def test_a_model_saved_without_ratings_still_knows_whom_it_serves(tmp_path):
    model = Segmented(small(), LABELS).fit(cells())
    model.save(tmp_path / "model", seen=False)
    again = load(tmp_path / "model")
    np.testing.assert_array_equal(again.recommend(exclude_seen=False)[0],
                                  model.recommend(exclude_seen=False)[0])
    with pytest.raises(ValueError, match="saved with seen=False"):
        again.report(cells(seed=7))


def test_a_file_whose_models_do_not_fit_is_refused(tmp_path):
    model = Segmented(small(), LABELS).fit(cells())
    for name, wrong in (("segment_of_user_", model.segment_of_user_[:-1]),
                        ("segment_of_user_", model.segment_of_user_ + 7),
                        ("segment_labels_", ["east"])):
        broken = Segmented(small(), LABELS).fit(cells())
        setattr(broken, name, wrong)
        broken.save(tmp_path / "model")
        with pytest.raises(ModelFileError, match="its parts do not fit together"):
            load(tmp_path / "model")
