"""What scikit-learn's tools ask of an estimator: pairs in `predict`, weights, folds of cells."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
import samples
import scipy.sparse as sp

from mfcore import BayesianMF, MatrixFactorization, Ratings
from mfcore.data.synthetic import planted
from mfcore.models.factorization.implicit import ImplicitMF

sklearn = pytest.importorskip("sklearn")
from sklearn.base import clone  # noqa: E402
from sklearn.model_selection import (  # noqa: E402
    GridSearchCV,
    KFold,
    cross_val_predict,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline  # noqa: E402

RATINGS = planted(60, 40, random_state=0).ratings
X, y = RATINGS.pairs()
FOLDS = KFold(3, shuffle=True, random_state=0)


def model(**settings):
    return MatrixFactorization(2, n_epochs=2, random_state=0, n_threads=1, **settings)


def test_pairs_are_ids_and_ratings_in_the_order_of_the_cells():
    assert X.dtype == np.int64
    fitted = Ratings.from_arrays(*X.T, y)
    np.testing.assert_array_equal(fitted.by_user.data, RATINGS.by_user.data)
    named = Ratings.from_arrays(["b", "a"], [7, 8], [1.0, 2.0]).pairs()
    assert named[0].tolist() == [["a", 8], ["b", 7]]
    assert named[1].tolist() == [2, 1]
    assert Ratings(sp.csr_array([[0, 3]])).pairs()[0].tolist() == [[0, 1]]


@pytest.mark.parametrize("made", [MatrixFactorization, BayesianMF])
def test_predict_takes_pairs_in_every_form(made):
    fitted = samples.small(made).fit(X, y)
    wanted = fitted.predict(*X.T)
    for given in (X, X.tolist(), [tuple(row) for row in X.tolist()], X.astype(object),
                  {"item": X[:, 1], "user": X[:, 0]}, {"a": X[:, 0], "b": X[:, 1]}):
        np.testing.assert_array_equal(fitted.predict(given), wanted)
    if made is BayesianMF:
        np.testing.assert_array_equal(fitted.predict(X, return_std=True)[0], wanted)


@pytest.mark.parametrize("given", [[1, 2, 3], 4, X[:, :1], {"a": [1], "b": [2], "c": [3]}],
                         ids=["a vector", "a user", "a column", "three columns"])
def test_what_is_no_pairs_is_refused(given):
    with pytest.raises(ValueError, match=r"items are not given, must have shape \(n, 2\)"):
        model().fit(X, y).predict(given)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_frame_of_pairs_goes_by_the_names_of_its_columns(library):
    made = pytest.importorskip(library).DataFrame
    frame = made({"movieId": [f"m{item}" for item in X[:, 1]], "userId": X[:, 0]})
    fitted = model().fit(frame, y)
    assert fitted.user_ids_.tolist() == np.unique(X[:, 0]).tolist()
    predicted = fitted.predict(frame)
    np.testing.assert_array_equal(predicted, fitted.predict(
        X[:, 0], [f"m{item}" for item in X[:, 1]]))
    assert np.isfinite(cross_val_predict(model(), frame, y, cv=FOLDS)).all()


def test_scorers_of_scikit_learn_measure_what_predict_says():
    found = cross_val_score(model(), X, y, cv=FOLDS, scoring="neg_root_mean_squared_error")
    predicted = cross_val_predict(model(), X, y, cv=FOLDS)
    for score, (_, test) in zip(found, FOLDS.split(X), strict=True):
        assert score == pytest.approx(-np.sqrt(np.mean((predicted[test] - y[test]) ** 2)))


def test_a_pipeline_and_a_search_predict_pairs():
    wanted = model(reg=2.0).fit(X, y).predict(X)
    piped = make_pipeline("passthrough", model(reg=2.0)).fit(X, y)
    np.testing.assert_array_equal(piped.predict(X), wanted)
    search = GridSearchCV(model(), {"reg": [2.0]}, cv=FOLDS, scoring="r2").fit(X, y)
    np.testing.assert_array_equal(search.predict(X), wanted)


# -------------------------------------------------------------------------------- weights

WEIGHTS = np.linspace(0.5, 2, len(y))


def test_sample_weights_are_the_weights_of_ratings():
    weighted = Ratings.from_arrays(*X.T, y, WEIGHTS)
    fitted, twin = model().fit(X, y, sample_weight=WEIGHTS), model().fit(weighted)
    np.testing.assert_array_equal(fitted.item_factors_, twin.item_factors_)
    assert (model().fit(X, y).item_factors_ != twin.item_factors_).any()


@pytest.mark.parametrize(("weights", "said"), [
    (-WEIGHTS, "sample_weight must be >= 0"), (WEIGHTS[1:], "weights must have shape"),
    (["a"] * len(y), "sample_weight must be numbers, got 'a'"),
    (np.where(WEIGHTS > 1, np.nan, 1), "weights must not be missing")],
    ids=["negative", "too few", "words", "missing"])
def test_bad_sample_weights_are_refused(weights, said):
    with pytest.raises((ValueError, TypeError), match=said):
        model().fit(X, y, sample_weight=weights)


def test_sample_weights_without_pairs_are_refused():
    with pytest.raises(ValueError, match=r"sample_weight goes with pairs .* Ratings\(matrix, wei"):
        model().fit(RATINGS, sample_weight=WEIGHTS)


def test_searches_cut_weights_with_their_pairs():
    search = GridSearchCV(model(), {"reg": [1.0]}, cv=FOLDS, error_score="raise")
    found = search.fit(X, y, sample_weight=WEIGHTS).cv_results_["mean_test_score"][0]
    assert found == pytest.approx(np.mean([
        model(reg=1.0).fit(X[train], y[train], sample_weight=WEIGHTS[train]).score(X[test], y[test])
        for train, test in FOLDS.split(X)]))


def test_weights_are_routed_where_they_are_asked_for():
    with sklearn.config_context(enable_metadata_routing=True):
        with pytest.raises(ValueError, match="sample_weight"):
            GridSearchCV(model(), {"reg": [1.0]}, cv=FOLDS).fit(X, y, sample_weight=WEIGHTS)
        asking = clone(model().set_fit_request(sample_weight="confidence"))
        search = GridSearchCV(asking, {"reg": [1.0]}, cv=FOLDS).fit(X, y, confidence=WEIGHTS)
        piped = make_pipeline("passthrough", asking).fit(X, y, confidence=WEIGHTS)
    for fitted in (search.best_estimator_, piped[-1]):
        np.testing.assert_allclose(fitted.ratings_.weights, WEIGHTS, rtol=1e-6)
    assert pickle.loads(pickle.dumps(asking)).get_params() == asking.get_params()


# ---------------------------------------------------------------------------- what is cut

def test_ratings_are_not_cut_and_a_matrix_of_other_users_is_not_scored():
    with pytest.raises(TypeError, match=r"scikit-learn's tools take X, y = ratings.pairs\(\)"):
        GridSearchCV(model(), {"reg": [1.0]}).fit(RATINGS)
    matrix = sp.csr_matrix(RATINGS.by_user)
    with pytest.raises(ValueError, match=r"cut a matrix by users, X, y = Ratings\(matrix\)"):
        GridSearchCV(model(), {"reg": [1.0]}, error_score="raise").fit(matrix)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        cross_val_score(ImplicitMF(2, n_epochs=1), matrix, cv=3)
    assert any("X, y = Ratings(matrix).pairs()" in str(each.message) for each in seen)


def test_the_score_of_strangers_is_told_to_whoever_asked():
    fitted = model().fit(X, y)
    with pytest.warns(UserWarning, match="knows 0 of the 40 items of the test set") as seen:
        fitted.score(X + [0, 1000], y)
    assert [each.filename for each in seen] == [__file__]
