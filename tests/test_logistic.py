"""MatrixFactorization(loss="logistic"): its solver against the dense gradient, the estimator."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from test_pointwise import BLOCKS, CASES, labelled, logistic, parts

import mfcore
from mfcore import MatrixFactorization, Popularity, Ratings, evaluate
from mfcore.data.split import per_user_split
from mfcore.parallel import Pool
from mfcore.solvers.sgd import LogisticSGD
from mfcore.validation import DivergenceError

REAL = {"dtype": "float64"}


def solver(dense, rate: float, schedule: str = "constant", seed: int = 3) -> LogisticSGD:
    return LogisticSGD(logistic(dense), rate, rate, schedule, 0.0, seed)


def labels(n_users: int = 300, n_items: int = 80, seed: int = 4, density: float = 0.3) -> Ratings:
    """Likes and dislikes of three hidden tastes."""
    random = np.random.default_rng(seed)
    s = 2 * random.normal(size=(n_users, 3)) @ random.normal(size=(3, n_items)) + 0.5
    stored = random.random(s.shape) < density
    rows, columns = np.nonzero(stored)
    likes = random.random(len(rows)) < 1 / (1 + np.exp(-s[rows, columns]))
    return Ratings.from_arrays(rows, columns, likes.astype(float))


def only_likes() -> Ratings:
    whole = labels()
    return whole.select_cells(whole.by_user.data > 0)


def model(**params) -> MatrixFactorization:
    return MatrixFactorization(**{"n_factors": 4, "loss": "logistic", "solver": "sgd", "reg": 0.1,
                                  "learning_rate": 0.1, "schedule": "inverse", "n_epochs": 6,
                                  "random_state": 0,
                                  **params})


# -------------------------------------------------------------------------------- the steps

@pytest.mark.kernel
@pytest.mark.parametrize("case", ["likes and dislikes", "learned bias and weights"])
def test_to_first_order_an_epoch_is_a_step_along_the_gradient(case):
    dense, at = CASES[case]
    rate, moved = 1e-8, at.copy()
    with Pool(1) as pool:
        gradient = logistic(dense).gradient(at, pool)
        loss = solver(dense, rate).epoch(moved, pool)
    assert loss == pytest.approx(sum(parts(dense, at)), rel=1e-6)
    for name in BLOCKS:
        wanted = getattr(gradient, name)
        np.testing.assert_allclose((getattr(moved, name) - getattr(at, name)) / -rate, wanted,
                                   rtol=1e-4, atol=1e-4 * abs(wanted).max(initial=1))


@pytest.mark.parametrize("case", ["weighted unknown", "unknown above known", "a shared prior"])
def test_the_mean_of_many_sampled_gradients_is_the_dense_gradient(case):
    dense, at = CASES[case]
    rate, n = 1e-9, 4000
    total, squares, losses = dict.fromkeys(BLOCKS, 0.0), dict.fromkeys(BLOCKS, 0.0), []
    with Pool(1) as pool:
        gradient = logistic(dense).gradient(at, pool)
        one = solver(dense, rate)
        for _ in range(n):                      # one grid, as in a fit
            moved = at.copy()
            losses.append(one.epoch(moved, pool))
            for name in BLOCKS:
                step = (getattr(moved, name) - getattr(at, name)) / -rate
                total[name] = total[name] + step
                squares[name] = squares[name] + step ** 2
    for name in BLOCKS:
        mean = total[name] / n
        error = np.sqrt(np.maximum(squares[name] / n - mean ** 2, 0) / n)
        wanted = getattr(gradient, name)
        assert (np.abs(mean - wanted) < 5 * error + 1e-5 * np.abs(wanted).max(initial=1)).all()
        assert error.max() < 0.05 * np.abs(wanted).max(initial=1)
    assert np.mean(losses) == pytest.approx(sum(parts(dense, at)), rel=0.01)


@pytest.mark.kernel
def test_two_epochs_and_two_seeds_draw_other_cells():
    dense, at = labelled(3, w0=0.45)
    ends = []
    with Pool(1) as pool:
        for seed, epochs_done in ((3, 0), (3, 1), (4, 0)):
            one, moved = solver(dense, 1e-3, seed=seed), at.copy()
            one.resume(at, {**one.state(), "counters": np.array([seed, epochs_done])})
            one.epoch(moved, pool)
            ends.append(moved.Q)
    assert not np.array_equal(ends[0], ends[1])
    assert not np.array_equal(ends[0], ends[2])


@pytest.mark.kernel
def test_an_item_stratum_without_items_is_no_trouble():
    dense, at = labelled(7, n_users=5, n_items=1, w0=0.3, density=1.0)
    with Pool(1) as pool:
        assert np.isfinite(solver(dense, 0.01).epoch(at.copy(), pool))


@pytest.mark.parametrize("params", [{}, {"schedule": "adagrad"}, {"unknown_weight": 0.2},
                                    {"unknown_weight": "balanced", "bias": None}], ids=repr)
def test_one_two_and_eight_threads_give_the_same_bits(params):
    fits = [model(n_threads=n, **params).fit(labels()) for n in (1, 2, 8)]
    for other in fits[1:]:
        assert np.array_equal(fits[0].user_factors_, other.user_factors_)
        assert np.array_equal(fits[0].item_factors_, other.item_factors_)


@pytest.mark.parametrize("w0", [0.0, 0.3])
def test_where_the_factors_exceed_the_rank_a_fit_ends_near_what_exact_rows_find(w0):
    ratings = labels(40, 30, density=0.5)
    fitted = model(n_factors=8, n_epochs=200, learning_rate=0.2, decay=0.05, reg=1.0, bias_reg=1.0,
                   reg_scaling="none", unknown_weight=w0, **REAL).fit(ratings)
    near = fitted.objective()["total"]
    for _ in range(40):
        fitted.user_factors_, fitted.user_bias_ = fitted.fold_in_users(ratings)
        fitted.item_factors_, fitted.item_bias_ = fitted.fold_in_items(ratings)
    assert np.linalg.norm(fitted.user_factors_) > 5             # not the trivial minimum
    assert 0 <= near / fitted.objective()["total"] - 1 < 2e-3


# ------------------------------------------------------------------------------ the estimator

def test_the_objective_is_the_formula_and_the_history_meets_it():
    fitted = model(n_epochs=60, **REAL).fit(labels())
    s = np.log(1 / (1 / fitted.predict(labels().users_of_cells, labels().by_user.indices) - 1))
    y = labels().by_user.data
    terms = fitted.objective()
    assert terms["known"] == pytest.approx((np.log1p(np.exp(s)) - y * s).sum(), rel=1e-6)
    assert terms["unknown"] == 0
    assert terms["total"] == pytest.approx(fitted.history_[-1]["loss"], rel=0.02)


def test_predict_gives_probabilities_and_recommend_ranks_by_their_log_odds():
    fitted = model(unknown_weight=0.1).fit(labels())
    items, scores = fitted.recommend([5], k=80, exclude_seen=False)
    p = fitted.predict(5, items[0])
    assert ((p > 0) & (p < 1)).all()
    assert (np.diff(p) <= 0).all()
    np.testing.assert_allclose(np.log(p / (1 - p)), scores[0], rtol=1e-4, atol=1e-5)


def test_probabilities_are_those_of_the_likes_and_better_than_the_mean():
    train, test = per_user_split(labels(), test_size=0.2, random_state=0)
    fitted = model(n_epochs=40).fit(train)
    p, y = fitted.predict(test.users_of_cells, test.by_user.indices), test.by_user.data
    assert p.mean() == pytest.approx(y.mean(), abs=0.03)
    assert -fitted.score(test) < 0.85 * np.std(y)
    assert fitted.score(test) == pytest.approx(-np.sqrt(np.mean((p - y) ** 2)), rel=1e-5)
    assert evaluate(fitted, test, metrics=["rmse"])["rmse"] == pytest.approx(-fitted.score(test))


def test_likes_alone_with_weight_on_the_unknown_beat_popularity():
    train, test = per_user_split(only_likes(), test_size=0.2, random_state=0)
    fitted = model(unknown_weight=0.2, n_epochs=40).fit(train)
    ours, popular = (evaluate(m, test, metrics=["ndcg"], k=10)["ndcg@10"]
                     for m in (fitted, Popularity().fit(train)))
    assert ours > 1.5 * popular


@pytest.mark.parametrize("bias", ["learned", None])
@pytest.mark.parametrize("w0", [0.0, 0.2])
def test_who_is_unknown_gets_the_mean_share_of_likes(bias, w0):
    ratings = labels()
    fitted = model(bias=bias, unknown_weight=w0).fit(ratings)
    share = ratings.by_user.data.sum() / (
        ratings.nnz + w0 * (np.prod(ratings.shape) - ratings.nnz))
    assert fitted.predict(10**6, 10**6)[0] == pytest.approx(share, rel=1e-5)


def test_folding_in_finds_the_minimum_of_the_row_and_serves_it():
    fitted = model(unknown_weight=0.1, n_epochs=20, **REAL).fit(labels())
    before = fitted.objective()["total"]
    folded = fitted.fold_in_users(labels())
    fitted.user_factors_, fitted.user_bias_ = folded
    after = fitted.objective()["total"]
    assert after < before
    again = fitted.fold_in_users(labels().select_users([7]))
    np.testing.assert_array_equal(again.factors[0], folded.factors[7])
    p = fitted.predict(0, np.arange(80), ratings=labels().select_users([7]))
    np.testing.assert_allclose(p, fitted.predict(7, np.arange(80)), rtol=1e-9)


def test_partial_fit_appends_new_users():
    fitted = model().fit(labels())
    rows = labels(seed=9).select_users([0, 1])
    fitted.partial_fit(rows, users=[300, 301])
    assert fitted.n_users_ == 302
    np.testing.assert_allclose(fitted.predict(301, np.arange(80)),
                               fitted.predict(1, np.arange(80), ratings=rows), rtol=1e-5)


def test_after_an_average_of_groups_users_are_at_their_minimum_about_it():
    halves = sp.csr_array(np.repeat(np.eye(2), 150, axis=0))
    fitted = model(features="average", n_epochs=20, **REAL).fit(labels(), user_features=halves)
    folded = fitted.fold_in_users(labels(), user_features=halves)
    np.testing.assert_array_equal(folded.factors, fitted.user_factors_)
    np.testing.assert_array_equal(folded.bias, fitted.user_bias_)


def test_explain_says_that_it_cannot():
    with pytest.raises(NotImplementedError, match="loss='logistic'"):
        model().fit(labels()).explain(0, 0)


def test_a_saved_model_answers_alike(tmp_path):
    fitted = model(unknown_weight=0.1).fit(labels())
    fitted.save(tmp_path / "model")
    again = mfcore.load(tmp_path / "model")
    assert again.loss == "logistic"
    assert np.array_equal(again.predict(3, np.arange(80)), fitted.predict(3, np.arange(80)))


@pytest.mark.parametrize("w0", [0.0, 0.2])
def test_an_interrupted_fit_goes_on_to_the_same_bits(w0, tmp_path):
    def stop(_, record):
        if record["epoch"] == 3:
            raise KeyboardInterrupt
    whole = model(unknown_weight=w0).fit(labels())
    with pytest.raises(KeyboardInterrupt):
        model(unknown_weight=w0).fit(labels(), checkpoint=tmp_path / "fit", callbacks=[stop])
    with pytest.raises(ValueError, match="loss is"):
        model(loss="squared", unknown_weight=w0).fit(labels(), checkpoint=tmp_path / "fit")
    resumed = model(unknown_weight=w0).fit(labels(), checkpoint=tmp_path / "fit")
    assert np.array_equal(resumed.item_factors_, whole.item_factors_)


# ---------------------------------------------------------------------------------- bad input

@pytest.mark.parametrize(("params", "message"), [
    ({"solver": "cg"}, "needs solver='sgd', got solver='cg'"),
    ({"solver": "adam"}, "needs solver='sgd'"),
    ({"bias": "mean"}, "needs bias='learned' or None"),
    ({"unknown_value": 0.5}, "needs unknown_value=0"),
    ({"loss": "hinge"}, "loss must be .*'logistic'")])
def test_what_has_no_meaning_with_this_loss_is_refused(params, message):
    with pytest.raises(ValueError, match=message):
        model(**params).fit(labels())


def test_values_that_are_no_labels_are_refused_with_the_cure():
    stars = Ratings.from_arrays([0, 0, 1], [0, 1, 1], [1.0, 4.0, 0.0])
    with pytest.raises(ValueError, match="from 0 .disliked. to 1 .liked., got 4; .*values >= 4"):
        model().fit(stars)


def test_values_of_new_rows_that_are_no_labels_are_refused_and_nothing_changes():
    fitted = model().fit(labels())
    stars = sp.csr_array(([1.0, 4.0], [0, 1], [0, 2]), shape=(1, 80))
    for ask in (lambda: fitted.fold_in_users(stars), lambda: fitted.recommend(ratings=stars),
                lambda: fitted.partial_fit(stars, users=[300])):
        with pytest.raises(ValueError, match="from 0 .disliked. to 1 .liked., got 4"):
            ask()
    assert fitted.n_users_ == 300


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_labels_that_any_score_can_satisfy_are_refused_with_the_cure(value):
    same = Ratings.from_arrays([0, 0, 1], [0, 1, 1], np.full(3, value))
    with pytest.raises(ValueError, match="likes and dislikes.*unknown_weight > 0"):
        model().fit(same)


@pytest.mark.parametrize("w0", [0.0, 0.5])
def test_without_weight_on_any_like_there_is_nothing_to_learn(w0):
    ratings = Ratings.from_arrays([0, 0, 1], [0, 1, 1], [1.0, 0.0, 0.0], weights=[0.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="weight on likes"):
        model(unknown_weight=w0).fit(ratings)


def test_a_rate_that_diverges_names_the_epoch_and_the_remedy_and_keeps_the_model():
    fitted = model().fit(labels())
    before = fitted.user_factors_.copy()
    with pytest.raises(DivergenceError, match="epoch .*learning_rate"):
        fitted.set_params(learning_rate=900.0).fit(labels())
    assert np.array_equal(fitted.user_factors_, before)
