"""Models with features: priors in training and fold-in, cold start, the space, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import samples
import scipy.sparse as sp

import mfcore
from mfcore import BPR, BiasOnly, ImplicitMF, MatrixFactorization, Ratings, evaluate
from mfcore.data.features import Features, concatenate, multi_hot, numeric, one_hot

COUNTRY = ["uk", "fr", "uk", "de", "fr", "uk", "de", "uk", "fr", "uk", "de"]
USERS = concatenate(one_hot(COUNTRY, "country"), numeric(np.linspace(0.2, 1.2, 11), "age"))
GENRES = multi_hot(["a|b", "b", "", "c", "a|c", "b", "a", "c|b"], "genre")
MODELS = {
    "learned": MatrixFactorization(4, reg=0.4, feature_reg=0.7),
    "mean, unknown": MatrixFactorization(4, bias="mean", unknown_weight=0.3, unknown_value=1.7,
                                         feature_reg=0.7),
    "no bias": MatrixFactorization(4, bias=None, reg=0.4, feature_reg=0.7),
    "average": MatrixFactorization(4, reg=0.4, features="average"),
    "implicit": ImplicitMF(4, alpha=2.0, reg=0.4, feature_reg=0.7),
}
SOLVERS = ("cg", "cholesky", "subspace")


def fitted(name: str = "learned", ratings=None, user_features=USERS, item_features=GENRES,
           **params):
    """A model of the samples, with features of both sides, in float64."""
    base = MODELS[name]
    model = type(base)(**{**base.get_params(), "dtype": "float64", "random_state": 0,
                          "n_threads": 1, **params})
    given = samples.matrix() if ratings is None else ratings
    return model.fit(given, user_features=user_features, item_features=item_features)


@pytest.fixture(params=MODELS)
def model(request):
    return fitted(request.param)


# ---------------------------------------------------------------------------- training

@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs", *SOLVERS])
def test_every_solver_learns_vectors_of_features_of_both_sides(solver):
    model = fitted(solver=solver)
    assert model.user_feature_factors_.shape == (4, 4)
    assert model.item_feature_factors_.shape == (3, 4)
    assert model.user_feature_bias_.shape == (4,)
    assert model.user_feature_names_ == ["country=de", "country=fr", "country=uk", "age"]
    assert np.abs(model.user_feature_factors_).max() > 0


def test_features_lower_what_the_formula_can_reach():
    with_features = fitted(solver="cholesky", n_epochs=300).objective()["total"]
    without = fitted(solver="cholesky", n_epochs=300, user_features=None,
                     item_features=None).objective()["total"]
    assert with_features < without


def test_the_objective_counts_the_penalty_of_the_features():
    model = fitted()
    P, Q = model.user_factors_, model.item_factors_
    F, E = USERS.matrix.toarray(), GENRES.matrix.toarray()
    cells = samples.matrix()
    n_u, n_i = np.diff(cells.indptr), np.bincount(cells.indices, minlength=8)
    unit = np.std(cells.data)
    reg = [0.4 * unit * np.maximum(n, 1) ** 0.5 for n in (n_u, n_i)]
    expected = reg[0] @ ((P - F @ model.user_feature_factors_) ** 2).sum(1) \
        + reg[1] @ ((Q - E @ model.item_feature_factors_) ** 2).sum(1) \
        + model.bias_reg_[0] * ((model.user_bias_ - F @ model.user_feature_bias_) ** 2).sum() \
        + model.bias_reg_[1] * ((model.item_bias_ - E @ model.item_feature_bias_) ** 2).sum() \
        + 0.7 * unit * sum((block ** 2).sum() for block in (
            model.user_feature_factors_, model.item_feature_factors_)) \
        + 0.7 * sum((block ** 2).sum() for block in (
            model.user_feature_bias_, model.item_feature_bias_))
    assert model.objective()["penalty"] == pytest.approx(expected, rel=1e-12)


def test_a_user_without_ratings_gets_exactly_its_prior():
    model = fitted()
    prior = model.fold_in_users(user_features=USERS)
    u = samples.SILENT_USER
    np.testing.assert_allclose(model.user_factors_[u], prior.factors[u], rtol=1e-12)
    assert model.user_bias_[u] == pytest.approx(prior.bias[u], rel=1e-12)


@pytest.mark.parametrize("threads", [2, 8])
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs", *SOLVERS])
def test_any_number_of_threads_gives_the_same_bits(solver, threads):
    one, more = fitted(solver=solver), fitted(solver=solver, n_threads=threads)
    np.testing.assert_array_equal(one.user_feature_factors_, more.user_feature_factors_)
    np.testing.assert_array_equal(one.item_factors_, more.item_factors_)


def test_an_average_is_the_mean_of_vectors_that_know_nothing_of_it():
    plain = fitted("average", user_features=None, item_features=None)
    users = one_hot(COUNTRY, "country")
    model = fitted("average", user_features=users, item_features=None)
    for number, country in enumerate(("de", "fr", "uk")):
        members = np.array(COUNTRY) == country
        np.testing.assert_allclose(model.user_feature_factors_[number],
                                   plain.user_factors_[members].mean(0), atol=1e-12)
        assert model.user_feature_bias_[number] == pytest.approx(
            plain.user_bias_[members].mean(), abs=1e-12)
    np.testing.assert_array_equal(model.item_factors_, plain.item_factors_)


def test_a_user_of_two_groups_lies_between_their_averages():
    users = multi_hot([[c, "all"] for c in COUNTRY])
    model = fitted("average", user_features=users, item_features=None)
    new = model.fold_in_users(user_features=[["uk", "all"]]).factors[0]
    G = dict(zip(model.user_feature_names_, model.user_feature_factors_, strict=True))
    np.testing.assert_allclose(new, (G["uk"] + G["all"]) / 2)


# ----------------------------------------------------------------------------- fold-in

@pytest.mark.parametrize("solver", SOLVERS)
def test_folding_in_a_training_row_with_its_features_gives_its_vector(solver):
    for name in MODELS:
        model = fitted(name, solver=solver)
        folded = model.fold_in_users(samples.matrix(), user_features=USERS)
        np.testing.assert_allclose(folded.factors, model.user_factors_, atol=1e-10)
        if folded.bias is not None:
            np.testing.assert_allclose(folded.bias, model.user_bias_, atol=1e-10)


def test_without_features_a_new_row_is_taken_for_an_average_one(model):
    mean = sp.csr_array(np.tile(model.user_feature_mean_, (11, 1)))
    without = model.fold_in_users(samples.matrix())
    with_mean = model.fold_in_users(samples.matrix(), user_features=mean)
    np.testing.assert_allclose(without.factors, with_mean.factors, atol=1e-10)


def test_a_row_of_zeros_is_in_no_group_and_its_prior_is_zero():
    model = fitted()
    prior = model.fold_in_users(user_features=sp.csr_array((2, 4)))
    assert not prior.factors.any()
    assert not prior.bias.any()


def test_new_items_are_folded_in_about_the_vectors_of_their_features():
    model = fitted(solver="cholesky", n_epochs=500)
    folded = model.fold_in_items(samples.matrix(), item_features=GENRES)
    np.testing.assert_allclose(folded.factors, model.item_factors_, atol=1e-5)
    alone = model.fold_in_items(item_features=GENRES)
    np.testing.assert_allclose(alone.factors, GENRES.matrix @ model.item_feature_factors_)
    assert alone.bias is not None


def test_partial_fit_refits_rows_with_their_own_features_and_appends_new_ones():
    model = fitted()
    before, fresh = model.user_factors_.copy(), samples.matrix(seed=5)[:2]
    model.partial_fit(fresh, users=[1, 11], how="replace",
                      user_features=[["country=uk"], ["country=de"]])
    assert model.user_features_.shape == (12, 4)
    np.testing.assert_array_equal(model.user_features_.matrix.toarray()[[1, 11]],
                                  [[0, 0, 1, 0], [1, 0, 0, 0]])
    np.testing.assert_array_equal(model.user_factors_[[0, 2, 10]], before[[0, 2, 10]])
    alone = fitted().fold_in_users(fresh, user_features=[["country=uk"], ["country=de"]])
    np.testing.assert_allclose(model.user_factors_[[1, 11]], alone.factors)
    assert np.isfinite(model.objective()["total"])


def test_partial_fit_without_features_leaves_those_of_known_users_as_they_are():
    model = fitted()
    before = model.user_factors_.copy()
    model.partial_fit(samples.matrix()[[4]], users=[4])
    np.testing.assert_allclose(model.user_factors_, before, atol=1e-10)


# --------------------------------------------------------------------------- cold start

def test_a_user_of_whom_only_the_features_are_known_is_served(model):
    given = [["country=uk"], ["country=fr"], []]
    items, scores = model.recommend(user_features=given, k=3)
    assert items.shape == (3, 3)
    vectors = model.fold_in_users(user_features=given)
    bias = 0 if vectors.bias is None else vectors.bias[0]
    item_bias = 0 if model.item_bias_ is None else model.item_bias_[items[0]]
    np.testing.assert_allclose(
        scores[0], model.global_mean_ + bias + item_bias
        + model.item_factors_[items[0]] @ vectors.factors[0])
    predicted = model.predict([0, 0, 0], items[0], user_features=given)
    np.testing.assert_allclose(predicted, scores[0])


def test_the_same_features_in_any_form_and_order_give_the_same():
    model = fitted()
    wanted = model.recommend(user_features=USERS, k=4)
    turned = Features(USERS.matrix[:, [3, 1, 0, 2]],
                      [USERS.names[c] for c in (3, 1, 0, 2)])
    for given in (USERS.matrix, turned):
        for got, expected in zip(model.recommend(user_features=given, k=4), wanted, strict=True):
            np.testing.assert_array_equal(got, expected)


def test_a_tuple_of_features_is_taken_for_new_rows_as_it_was_at_the_fit():
    rows, country, age = samples.matrix(), one_hot(COUNTRY, "country"), USERS.matrix[:, [3]]
    ages = Features(age, ["age"])
    model = fitted(user_features=(country, ages, "history"))
    both = model.fold_in_users(rows, user_features=(country, ages, "history"))
    np.testing.assert_allclose(both.factors, model.user_factors_, atol=1e-9)


def test_renamed_features_are_not_those_of_a_checkpoint(tmp_path):
    def stop(*_):
        raise KeyboardInterrupt

    model = MatrixFactorization(4, random_state=0)
    with pytest.raises(KeyboardInterrupt):
        model.fit(samples.matrix(), user_features=USERS, checkpoint=tmp_path / "c",
                  callbacks=[lambda m, record: record["epoch"] == 3 and stop()])
    renamed = Features(USERS.matrix, [f"x{name}" for name in USERS.names])
    with pytest.raises(ValueError, match="checksums of the features"):
        model.fit(samples.matrix(), user_features=renamed, checkpoint=tmp_path / "c")


def test_a_split_model_refuses_features_that_it_has_no_use_for():
    split = mfcore.Segmented(MatrixFactorization(2), COUNTRY)
    with pytest.raises(ValueError, match="user_features must be None"):
        split.fit(samples.matrix(), user_features=USERS)


def test_ratings_and_features_together_exclude_what_was_rated():
    model = fitted()
    rows = samples.matrix()[:3]
    items, scores = model.recommend(ratings=rows, user_features=USERS.matrix[:3], k=8)
    for user in range(3):
        left = items[user][scores[user] > -np.inf]
        assert not set(left) & set(rows[[user]].indices)


def test_an_unknown_user_is_predicted_as_an_average_one(model):
    mean_row = sp.csr_array(model.user_feature_mean_[None])
    expected = model.predict([0] * 8, range(8), user_features=mean_row)
    np.testing.assert_allclose(model.predict([99] * 8, range(8)), expected)
    assert np.isfinite(model.predict([99, 0], [0, 99])).all()


def test_batches_and_single_rows_agree():
    model = fitted()
    batch, _ = model.recommend(user_features=USERS, k=4)
    for row in range(4):
        one, _ = model.recommend(user_features=USERS.select([row]), k=4)
        np.testing.assert_array_equal(one[0], batch[row])


@pytest.mark.parametrize("metric", ["rmse", "ndcg@3"])
def test_evaluate_takes_features_alone_and_beside_fold_in_ratings(metric):
    ratings = Ratings(samples.matrix())
    model = fitted(ratings=ratings)
    alone = evaluate(model, ratings, user_features=USERS, metrics=[metric])[metric]
    both = evaluate(model, ratings, user_features=USERS, fold_in=ratings, metrics=[metric],
                    exclude_seen=False)[metric]
    trained = evaluate(model, ratings, metrics=[metric], exclude_seen=False)[metric]
    assert both == pytest.approx(trained)
    assert np.isfinite(alone)
    if metric == "rmse":
        predicted = model.predict(ratings.users_of_cells, ratings.by_user.indices,
                                  user_features=USERS)
        error = np.clip(predicted, 0, 5) - ratings.by_user.data
        assert alone == pytest.approx(np.sqrt(np.mean(error ** 2)))


# ---------------------------------------------------------------------------- the space

def test_similar_groups_are_those_of_largest_cosine():
    model = fitted()
    names, scores = model.similar_groups(["country=uk"], 5)
    G = model.user_feature_factors_ / np.linalg.norm(model.user_feature_factors_, axis=1,
                                                     keepdims=True)
    cosines = dict(zip(model.user_feature_names_, G @ G[2], strict=True))
    del cosines["country=uk"]
    assert names[0, :3].tolist() == sorted(cosines, key=lambda name: -cosines[name])
    np.testing.assert_allclose(scores[0, :3], sorted(cosines.values())[::-1])
    assert names[0, 3:].tolist() == [None, None]


@pytest.mark.parametrize("to", ["items", "users"])
def test_groups_and_rows_lie_in_one_space(to):
    ratings = samples.named()
    model = fitted(ratings=ratings)
    names, scores = model.similar_groups("genre=b", 2, side="item", to=to, similarity="dot")
    rows = model.item_factors_ if to == "items" else model.user_factors_
    ids = model.item_ids_ if to == "items" else model.user_ids_
    products = rows @ model.item_feature_factors_[1]
    best = np.argsort(-products)[:2]
    assert names[0].tolist() == ids[best].tolist()
    np.testing.assert_allclose(scores[0], products[best])


# --------------------------------------------------------------------- saving, resuming

@pytest.mark.parametrize("seen", [True, False])
def test_a_saved_model_answers_for_features_as_before(tmp_path, seen, model):
    model.save(tmp_path / "model", seen=seen)
    loaded = mfcore.load(tmp_path / "model")
    given = [["country=uk", "age"]]
    for got, expected in zip(loaded.recommend(user_features=given),
                             model.recommend(user_features=given), strict=True):
        np.testing.assert_array_equal(got, expected)
    assert loaded.user_feature_names_ == model.user_feature_names_
    if seen:
        assert loaded.objective() == model.objective()
        np.testing.assert_array_equal(loaded.user_features_.matrix.toarray(),
                                      USERS.matrix.toarray())
    else:
        assert loaded.user_features_ is None


@pytest.mark.parametrize("make", [
    lambda: ImplicitMF(4, random_state=0),
    lambda: MatrixFactorization(4, unknown_weight=0.1, random_state=0),
    lambda: MatrixFactorization(4, random_state=0)])
def test_an_empty_row_is_a_training_row_and_features_alone_are_the_prior(make):
    cells = samples.matrix().tolil()
    cells[3] = 0
    model = make().fit(sp.csr_array(cells), user_features=USERS)
    features = Features(USERS.matrix[[3]], USERS.names)
    row = model.fold_in_users(sp.csr_array((1, cells.shape[1])), user_features=features)
    np.testing.assert_allclose(row.factors[0], model.user_factors_[3], rtol=1e-5, atol=1e-7)
    alone = model.fold_in_users(user_features=features)
    prior = USERS.matrix[[3]] @ model.user_feature_factors_
    np.testing.assert_allclose(alone.factors, prior, rtol=1e-5, atol=1e-7)


def test_a_checkpoint_of_other_features_is_refused(tmp_path):
    path = tmp_path / "checkpoint"

    def stop(*_):
        raise KeyboardInterrupt

    model = MatrixFactorization(4, random_state=0)
    with pytest.raises(KeyboardInterrupt):
        model.fit(samples.matrix(), user_features=USERS, checkpoint=path,
                  callbacks=[lambda m, record: record["epoch"] == 3 and stop()])
    with pytest.raises(ValueError, match="checksums of the features"):
        model.fit(samples.matrix(), checkpoint=path)
    went_on = model.fit(samples.matrix(), user_features=USERS, checkpoint=path)
    straight = MatrixFactorization(4, random_state=0).fit(samples.matrix(), user_features=USERS)
    np.testing.assert_array_equal(went_on.user_feature_factors_, straight.user_feature_factors_)


# -------------------------------------------------------------------------- bad input

def test_features_of_other_rows_are_refused_with_both_shapes():
    with pytest.raises(ValueError, match=r"shape \(10, 4\) for ratings of shape \(11, 8\)"):
        fitted(user_features=USERS.select(range(10)))
    with pytest.raises(ValueError, match=r"item_features must have a row for each of the 8 item"):
        fitted(item_features=USERS)


@pytest.mark.parametrize(("given", "error", "message"), [
    (sp.csr_array(np.full((11, 2), np.nan)), ValueError, "finite"),
    (np.ones((11, 2)), TypeError, "user_features must be Features, a scipy sparse matrix or"),
    (COUNTRY, TypeError, "a list with a list of names per row"),
    (sp.csr_array((11, 0)), ValueError, "at least one column"),
    ("country", TypeError, "must be Features"),
])
def test_features_that_are_none_are_refused_before_any_work(given, error, message):
    model = fitted()
    before = model.user_factors_.copy()
    with pytest.raises(error, match=message):
        model.fit(samples.matrix(), user_features=given)
    np.testing.assert_array_equal(model.user_factors_, before)


@pytest.mark.parametrize(("params", "message"), [
    ({"feature_reg": 0.0}, "feature_reg"), ({"feature_reg": np.nan}, "feature_reg"),
    ({"features": "mean"}, "features must be"),
])
def test_parameters_out_of_range_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        fitted(**params)


def test_negative_features_have_no_average():
    users = concatenate(one_hot(COUNTRY), numeric(np.linspace(-1, 1, 11), "age"))
    with pytest.raises(ValueError, match="that are averaged must be >= 0"):
        fitted("average", user_features=users)


def test_an_unknown_group_is_refused_and_the_known_ones_are_listed():
    model = fitted()
    with pytest.raises(ValueError, match="did not have: 'country=xx'; known: 'country=de', "):
        model.recommend(user_features=[["country=xx"]])
    with pytest.raises(KeyError, match="unknown groups: 'xx'; known: 'country=de'"):
        model.similar_groups("xx")


def test_features_that_the_model_was_not_fitted_with_are_refused():
    model = fitted(user_features=None, item_features=None)
    for ask in (model.recommend, model.fold_in_users,
                lambda **given: model.predict([0], [0], **given),
                lambda **given: evaluate(model, samples.matrix(), **given)):
        with pytest.raises(ValueError, match="fitted without them"):
            ask(user_features=USERS)
    with pytest.raises(ValueError, match="fitted without features"):
        model.similar_groups("country=uk")


def test_a_group_without_members_is_zero_and_changes_nothing():
    users = one_hot(COUNTRY, "country", categories=["de", "fr", "uk", "us"])
    model = fitted(user_features=users)
    assert not model.user_feature_factors_[3].any()
    same = fitted(user_features=one_hot(COUNTRY, "country"))
    np.testing.assert_allclose(model.user_factors_, same.user_factors_, atol=1e-12)


def test_collinear_fields_keep_the_fit_finite():
    users = concatenate(one_hot(COUNTRY, "country"), one_hot(COUNTRY, "again"),
                        numeric(np.ones(11), "all"))
    model = fitted(user_features=users)
    assert np.isfinite(model.user_factors_).all()
    np.testing.assert_allclose(model.user_feature_factors_[:3], model.user_feature_factors_[3:6])


def test_more_features_than_rows_are_taken():
    model = fitted(user_features=sp.eye_array(11, format="csr"))
    assert model.user_feature_factors_.shape == (11, 4)


@pytest.mark.parametrize("other", [BPR(), BiasOnly()])
def test_models_without_groups_refuse_features_and_say_who_takes_them(other):
    with pytest.raises(NotImplementedError, match=r"takes no user_features; MatrixFact"):
        other.fit(samples.matrix(), user_features=USERS)


def test_another_number_of_rows_than_the_ratings_is_refused():
    model = fitted()
    with pytest.raises(ValueError, match="a row for each of the 2 rows of the ratings"):
        model.recommend(ratings=samples.matrix()[:2], user_features=USERS)
    with pytest.raises(ValueError, match="must have 4 columns, those of the fit"):
        model.recommend(user_features=sp.csr_array((2, 3)))
    with pytest.raises(ValueError, match="users must be None"):
        model.recommend([0], user_features=USERS)


# ------------------------------------------------------------------------------ real data

@pytest.fixture(scope="module")
def retail():
    """Online Retail from `MFCORE_DATA`; skips where it is not there."""
    try:
        return mfcore.fetch("online-retail")
    except OSError as error:
        pytest.skip(f"online-retail is not at hand: {error}")


def test_a_country_of_online_retail_gets_items_and_lies_near_its_neighbours(retail):
    model = ImplicitMF(confidence="log", random_state=0).fit(
        retail.ratings, user_features=retail.user_features)
    assert len(model.user_feature_names_) == 37
    items, scores = model.recommend(user_features=[["country=Germany"], ["country=EIRE"]], k=10)
    assert np.isfinite(scores).all()
    assert len(set(items[0]) & set(items[1])) < 8
    near, cosines = model.similar_groups("country=Germany", 4)
    assert set(near[0]) & {"country=Austria", "country=Switzerland", "country=Belgium"}
    assert (np.diff(cosines[0]) <= 0).all()
