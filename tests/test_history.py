"""What a row has rated as its features: SVD++ of the same formula, completed for new rows."""

from __future__ import annotations

import numpy as np
import pytest
import samples
import scipy.sparse as sp

import mfcore
from mfcore import BayesianMF, MatrixFactorization, Ratings
from mfcore.data.features import concatenate, history, one_hot
from mfcore.kernels.features import row_sums
from mfcore.parallel import Pool

GROUPS = one_hot(["uk", "fr", "uk", "de", "fr", "uk", "de", "uk", "fr", "uk", "de"], "country")


def fitted(user_features=(GROUPS, "history"), item_features=None, **params):
    """A model of the samples, in float64."""
    model = MatrixFactorization(**{"n_factors": 3, "feature_reg": 0.7, "history_reg": 0.9,
                                   "dtype": "float64", "random_state": 0, "n_threads": 1,
                                   **params})
    return model.fit(samples.matrix(), user_features=user_features, item_features=item_features)


def test_a_row_is_drawn_to_the_sum_of_the_items_it_has_rated_over_the_root_of_their_number():
    model = fitted("history")
    rows = samples.matrix()[[2]]
    vectors = model.user_feature_factors_[rows.indices].sum(axis=0) / np.sqrt(rows.nnz)
    systems, *_ = model.answers().core.row_systems(
        Ratings(rows), model.users_, model.items_, Pool(1))
    np.testing.assert_allclose(systems.penalty.means[0], vectors, rtol=1e-12)


@pytest.mark.parametrize("features", ["learned", "average"])
@pytest.mark.parametrize("given", ["history", (GROUPS, "history"), ("history", GROUPS)])
def test_folding_in_a_training_row_gives_its_vector(given, features):
    model = fitted(given, features=features)
    others = None if given == "history" else GROUPS
    folded = model.fold_in_users(samples.matrix(), user_features=others)
    np.testing.assert_allclose(folded.factors, model.user_factors_, rtol=1e-10)


@pytest.mark.parametrize("features", ["learned", "average"])
def test_where_all_rows_are_of_one_kind_an_average_row_is_of_that_kind(features):
    four = Ratings.from_arrays(np.repeat(np.arange(6), 4),
                               (np.arange(24) + np.repeat(np.arange(6), 4)) % 7,
                               np.random.default_rng(0).integers(1, 6, 24))
    same = sp.csr_array(np.ones((6, 1)))
    model = MatrixFactorization(2, features=features, dtype="float64", feature_reg=0.7,
                                random_state=0).fit(four, user_features=(same, "history"))
    np.testing.assert_allclose(model.fold_in_users(four).factors,
                               model.fold_in_users(four, user_features=same).factors, rtol=1e-9)


def test_the_penalty_of_history_is_its_own():
    loose, tight = (fitted(history_reg=reg) for reg in (0.9, 1e9))
    assert np.abs(tight.user_feature_factors_[3:]).max() < 1e-6
    assert np.abs(tight.user_feature_factors_[:3]).max() > 1e-3
    assert np.abs(loose.user_feature_factors_[3:]).max() > 1e-3


def test_partial_fit_takes_the_history_of_new_rows_and_of_changed_ones():
    model = fitted()
    rows = samples.matrix()[[2, 5]]
    model.partial_fit(rows, users=[0, 11], how="replace",
                      user_features=GROUPS.matrix[[2, 5]])
    np.testing.assert_allclose(model.user_features_.matrix[[0, 11]].toarray(),
                               model.user_features_.matrix[[2, 5]].toarray())
    np.testing.assert_allclose(model.predict([0, 11], [1, 1]), model.predict(
        [0, 1], [1, 1], ratings=rows, user_features=GROUPS.matrix[[2, 5]]), rtol=1e-10)
    assert np.isfinite(model.objective()["total"])


@pytest.mark.parametrize("features", ["learned", "average"])
def test_items_can_be_folded_in_after_users_came_that_the_fit_did_not_know(features):
    model = fitted(GROUPS, "history", features=features)
    column = samples.matrix()[:, [2]]
    before = model.fold_in_items(column)
    model.partial_fit(samples.matrix()[[0]], users=[11], user_features=GROUPS.matrix[[0]])
    after = model.fold_in_items(sp.vstack([column, sp.csr_array((1, 1))], format="csr"))
    np.testing.assert_allclose(after.factors, before.factors, rtol=1e-10)


def test_a_model_saved_without_ratings_completes_the_history_of_new_rows(tmp_path):
    model = fitted()
    model.save(tmp_path / "model", seen=False)
    asked = {"ratings": samples.matrix(), "user_features": GROUPS}
    np.testing.assert_array_equal(mfcore.load(tmp_path / "model").recommend(k=3, **asked)[1],
                                  model.recommend(k=3, **asked)[1])


@pytest.mark.parametrize("model", [MatrixFactorization(2), BayesianMF(2, n_epochs=3, burn_in=0,
                                                                      keep=2)])
def test_columns_called_like_history_are_refused_with_the_cure(model):
    bag = history(Ratings(samples.matrix()))
    for given in (bag, concatenate(bag, GROUPS), (bag, "history")):
        with pytest.raises(ValueError, match='rated=.*pass "history" itself'):
            model.fit(samples.matrix(), user_features=given)


@pytest.mark.kernel
def test_sums_over_what_rows_have_are_a_dense_product():
    random = np.random.default_rng(3)
    F = sp.csr_array(random.normal(size=(13, 21)) * (random.random((13, 21)) < 0.5))
    X, out = random.normal(size=(21, 5)), np.full((13, 5), 7.0)
    row_sums(F.indptr, F.indices, F.data, X, out, 0, 13)
    assert np.allclose(out, F @ X, rtol=0, atol=1e-14)
