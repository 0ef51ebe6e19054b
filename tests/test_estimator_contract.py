"""What holds for every estimator: parameters, clones, watching a fit, and the same bits."""

from __future__ import annotations

import inspect
import threading
from typing import Any

import numpy as np
import pytest
import samples
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.exceptions import NotFittedError as SklearnNotFittedError
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.utils.validation import check_is_fitted

from mfcore import (
    EASE,
    BiasOnly,
    ImplicitMF,
    MatrixFactorization,
    MultDAE,
    MultVAE,
    NeuralMF,
    Popularity,
    RatingAutoencoder,
    Ratings,
    RecVAE,
    evaluate,
)
from mfcore.metrics import rating
from mfcore.validation import NotFittedError

AUTOENCODERS = [RatingAutoencoder, MultDAE, MultVAE, RecVAE]
EVERY = [MatrixFactorization, ImplicitMF, NeuralMF, EASE, *AUTOENCODERS, BiasOnly, Popularity]
FACTORIZED = [MatrixFactorization, ImplicitMF]


def cells_of(matrix: sp.csr_array) -> tuple[np.ndarray, np.ndarray]:
    """X (nnz, 2) and y of the stored cells, as scikit-learn splits them."""
    users, items = samples.stored(matrix).nonzero()
    return np.column_stack([users, items]), samples.dense(matrix)[users, items]


# ------------------------------------------------------------------------- parameters

@pytest.mark.parametrize("made", EVERY)
def test_parameters_are_stored_untouched(made):
    parameters = inspect.signature(made).parameters.values()
    given = {each.name: object() if each.kind is each.KEYWORD_ONLY else each.default
             for each in parameters}
    model = made(**{name: value for name, value in given.items() if type(value) is object})
    assert vars(model) == given
    assert all(model.get_params()[name] is value for name, value in given.items())


@pytest.mark.parametrize("made", EVERY)
def test_parameters_are_keywords_but_for_the_sizes(made):
    kinds = {name: parameter.kind for name, parameter in inspect.signature(made).parameters.items()}
    positional = [name for name, kind in kinds.items() if kind != inspect.Parameter.KEYWORD_ONLY]
    sizes = {RatingAutoencoder: ["hidden"], MultDAE: ["hidden", "n_latent"],
             MultVAE: ["hidden", "n_latent"], RecVAE: ["n_hidden", "n_latent"]}
    assert positional == sizes.get(made, ["n_factors"] if "n_factors" in kinds else [])


# Others are chosen by measurement.
DEFAULTS = {"n_factors": 64, "solver": "cg", "tol": None, "dtype": "float32", "patience": None,
            "eval_metric": None, "random_state": None, "n_threads": None, "verbose": 0}
RATED_DEFAULTS = {**DEFAULTS, "bias_share": 0.5, "unknown_weight": 0.0, "unknown_value": 0.0}
COUNTED_DEFAULTS = {**DEFAULTS, "alpha": 1.0, "confidence": "linear", "unknown_weight": 1.0}


@pytest.mark.parametrize(("made", "defaults"), [(MatrixFactorization, RATED_DEFAULTS),
                                                (ImplicitMF, COUNTED_DEFAULTS)])
def test_the_defaults_are_those_of_the_interface(made, defaults):
    params = made().get_params()
    assert {name: params[name] for name in defaults} == defaults


@pytest.mark.parametrize("made", EVERY)
def test_parameters_can_be_set_by_name_and_unknown_ones_are_refused(made):
    model = made()
    assert model.set_params(n_threads=3) is model
    assert model.n_threads == model.get_params(deep=False)["n_threads"] == 3
    with pytest.raises(ValueError, match=f"{made.__name__} has no parameter 'colour'"):
        model.set_params(verbose=1, colour="red")
    assert model.verbose == 0


def test_a_model_shows_what_differs_from_the_defaults():
    assert repr(MatrixFactorization(8, reg=0.3)) == "MatrixFactorization(n_factors=8, reg=0.3)"
    assert repr(Popularity()) == "Popularity()"


@pytest.mark.parametrize("made", EVERY)
def test_clones_have_the_parameters_and_nothing_learned(made):
    model = samples.small(made).fit(samples.counts())
    copied = clone(model)
    assert copied is not model
    assert copied.get_params() == model.get_params()
    assert not [name for name in vars(copied) if name.endswith("_")]
    assert not hasattr(copied, "n_epochs_")


@pytest.mark.parametrize("made", EVERY)
def test_fit_returns_the_model_and_its_learned_names_end_in_an_underscore(made):
    model = samples.small(made)
    before = set(vars(model))
    assert model.fit(samples.counts()) is model
    assert all(name.endswith("_") for name in set(vars(model)) - before)
    assert {"user_factors_", "item_factors_", "user_bias_", "item_bias_", "global_mean_",
            "history_"} <= set(dir(model))


@pytest.mark.parametrize("made", EVERY)
def test_fit_changes_no_parameter(made):
    model = samples.small(made)
    before = model.get_params()
    model.fit(samples.counts())
    assert model.get_params() == before


UNFITTED = {
    "predict": lambda m: m.predict(0, 0), "recommend": lambda m: m.recommend(),
    "similar_items": lambda m: m.similar_items([0]),
    "similar_users": lambda m: m.similar_users([0]), "explain": lambda m: m.explain(0, 0),
    "fold_in_users": lambda m: m.fold_in_users(samples.matrix()),
    "fold_in_items": lambda m: m.fold_in_items(samples.matrix()),
    "partial_fit": lambda m: m.partial_fit(samples.matrix()),
    "objective": lambda m: m.objective(), "score": lambda m: m.score(samples.matrix()),
    "save": lambda m: m.save("nowhere/model"),
}


@pytest.mark.parametrize("ask", UNFITTED)
@pytest.mark.parametrize("made", EVERY)
def test_a_model_that_is_not_fitted_says_so(made, ask):
    if not hasattr(made, ask) or (ask == "explain" and made not in FACTORIZED):
        return
    with pytest.raises(NotFittedError, match=rf"{made.__name__} is not fitted yet: call fit"):
        UNFITTED[ask](made())


@pytest.mark.parametrize("made", EVERY)
def test_scikit_learn_sees_whether_a_model_is_fitted(made):
    with pytest.raises(SklearnNotFittedError):
        check_is_fitted(made())
    check_is_fitted(samples.small(made).fit(samples.counts()))


# ------------------------------------------------------------ cells, as scikit-learn has it

@pytest.mark.parametrize("made", EVERY)
def test_fitting_pairs_is_fitting_their_matrix(made):
    matrix = samples.counts()
    users, items = np.unique(matrix.nonzero()[0]), np.unique(samples.stored(matrix).nonzero()[1])
    X, y = cells_of(matrix)
    model = samples.small(made).fit(X, y)
    dense = Ratings(matrix[users][:, items])
    apart = samples.small(made).fit(dense)
    assert model.user_ids_.tolist() == users.tolist()
    assert model.item_ids_.tolist() == items.tolist()
    np.testing.assert_array_equal(model.item_factors_, apart.item_factors_)
    np.testing.assert_array_equal(model.item_bias_, apart.item_bias_)


@pytest.mark.parametrize("X", [
    [("u1", "i1"), ("u2", "i1"), ("u2", "i2")],
    np.array([["u1", "i1"], ["u2", "i1"], ["u2", "i2"]]),
    np.array([["u1", 1], ["u2", 1], ["u2", 2]], object)], ids=["list", "str", "object"])
def test_pairs_are_of_any_kind_of_id(X):
    model = MatrixFactorization(2, n_epochs=1).fit(X, [1.0, 2.0, 3.0])
    assert model.user_ids_.tolist() == ["u1", "u2"]
    assert model.predict("u1", list(model.item_ids_)).shape == (2,)
    assert model.score(X, [1.0, 2.0, 3.0]) < 0


@pytest.mark.parametrize("made", FACTORIZED)
def test_a_grid_search_over_cells_finds_the_best_setting(made, planted):
    X, y = cells_of(planted.ratings.by_user)
    held = np.random.default_rng(0).random(len(y)) < 0.2
    X, y, X_new, y_new = X[~held], y[~held], X[held], y[held]
    search = GridSearchCV(made(3, n_epochs=3, random_state=0, n_threads=1),
                          {"reg": [1.0, 1e9], "reg_scaling": [0.5, "none"]},
                          cv=KFold(2, shuffle=True, random_state=0), error_score="raise")
    search.fit(X, y)
    assert search.best_params_["reg"] == 1.0
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    best = search.best_estimator_
    assert best.score(X_new, y_new) == search.score(X_new, y_new)
    np.testing.assert_array_equal(best.predict(*X_new.T), clone(best).fit(X, y).predict(*X_new.T))


def test_the_cross_validated_score_is_that_of_folds_by_hand():
    X, y = cells_of(samples.matrix(30, 20))
    folds = list(KFold(3, shuffle=True, random_state=0).split(X))
    model = MatrixFactorization(2, n_epochs=2, random_state=0, n_threads=1)
    got = cross_val_score(model, X, y, cv=folds)
    for score, (train, test) in zip(got, folds, strict=True):
        fitted = clone(model).fit(X[train], y[train])
        predicted = np.clip(fitted.predict(*X[test].T), y[train].min(), y[train].max())
        assert score == pytest.approx(-rating.rmse(y[test], predicted), rel=1e-9)


@pytest.mark.parametrize("made", FACTORIZED)
def test_the_score_of_pairs_is_the_score_of_their_matrix(made):
    model = made(3, n_epochs=2, random_state=0).fit(samples.counts())
    test = samples.counts(seed=9)
    X, y = cells_of(test)
    assert model.score(X, y) == pytest.approx(model.score(test), rel=1e-6)


def test_the_score_is_minus_the_rmse_or_the_ndcg():
    cells, test = samples.counts(30, 40), samples.counts(30, 40, seed=9)
    rated, ranked = samples.fitted("mean", cells), samples.fitted("linear", cells)
    assert rated.score(test) == -evaluate(rated, test, metrics="rmse")["rmse"] < 0
    assert ranked.score(test) == evaluate(ranked, test, metrics="ndcg@10")["ndcg@10"] > 0


def test_what_is_scored_is_clipped_to_the_range_of_training():
    cells = sp.csr_array(np.array([[5.0, 5.0, 1.0], [5.0, 0.0, 5.0], [1.0, 5.0, 0.0]]))
    model = samples.small(MatrixFactorization, bias="mean", bias_share=1.0, reg=1e6).fit(cells)
    test = sp.csr_array(np.full((3, 3), 4.0))
    X, y = cells_of(test)
    predicted = model.predict(*X.T)
    wanted = -rating.rmse(y, np.clip(predicted, 1, 5))
    assert wanted > -rating.rmse(y, predicted) + 0.01
    assert model.score(X, y) == pytest.approx(wanted, rel=1e-6)
    assert model.score(test) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("made", EVERY)
def test_scoring_a_matrix_of_other_rows_is_refused(made):
    """scikit-learn's splitters cut a matrix by users: the rows would mean others."""
    model = samples.small(made).fit(samples.counts())
    for shape in ((5, 8), (12, 8), (11, 7), (8, 11)):
        with pytest.raises(ValueError, match=r"shape of the training ratings, \(11, 8\)"):
            model.score(samples.counts(*shape))
    with pytest.raises(ValueError, match="shape of the training ratings"):
        cross_val_score(samples.small(made), sp.csr_matrix(samples.counts()), cv=2,
                        error_score="raise")


def test_scores_refuse_lengths_that_differ_and_values_that_are_none():
    model = samples.fitted("mean")
    with pytest.raises(ValueError, match=r"shape \(3,\)|same length|shape \(2,\)"):
        model.score([[0, 1], [1, 2]], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="y must be finite"):
        model.score([[0, 1], [1, 2]], [1.0, np.nan])
    with pytest.raises(ValueError, match=r"X must have shape \(n, 2\)"):
        model.score([[0, 1, 2]], [1.0])


# -------------------------------------------------------------------- watching a fit

SOLVERS = ["cg", "cholesky"]


@pytest.mark.parametrize("name", ["mean", "linear"])
def test_the_history_has_one_record_an_epoch(name):
    model = samples.fitted(name, n_epochs=4)
    assert [record["epoch"] for record in model.history_] == [1, 2, 3, 4]
    assert model.n_epochs_ == 4
    for record in model.history_:
        assert set(record) == {"epoch", "loss", "seconds"}
        assert record["loss"] > 0
        assert record["seconds"] > 0


@pytest.mark.parametrize(("name", "metric"), [("mean", "rmse"), ("linear", "ndcg@10")])
def test_the_evaluation_set_is_measured_in_every_epoch(name, metric):
    test = samples.counts(seed=9)
    for given in (test, Ratings(test)):
        model = samples.model(name, solver="cholesky").fit(samples.counts(), eval_set=given)
        assert all(set(record) == {"epoch", "loss", "seconds", metric}
                   for record in model.history_)
        assert model.history_[-1][metric] == pytest.approx(
            evaluate(model, test, metrics=metric)[metric], rel=1e-6)


@pytest.mark.parametrize(("name", "metric"), [("mean", "rmse"), ("linear", "ndcg@10")])
def test_new_users_are_measured_by_folding_them_in(name, metric):
    known, test = samples.counts(6, 8, seed=9), samples.counts(6, 8, seed=10)
    model = samples.model(name, solver="cholesky").fit(samples.counts(), eval_set=(known, test))
    wanted = evaluate(model, test, fold_in=known, metrics=metric)[metric]
    assert model.history_[-1][metric] == pytest.approx(wanted, rel=1e-6)


def test_the_evaluation_set_may_hold_users_and_items_that_training_lacks():
    test = Ratings.from_arrays(["u1", "new", "u2"], ["i1", "i2", "newer"], [3.0, 2.0, 1.0])
    for name in ("mean", "linear"):
        model = samples.fitted(name, samples.named())
        assert len(model.fit(samples.named(), eval_set=test).history_) == 3


@pytest.mark.parametrize(("metric", "key"), [
    ("mae", "mae"), ("ndcg", "ndcg@10"), ("recall@3", "recall@3"), ("mrr", "mrr"),
    ("mrr@5", "mrr@5"), ("auc", "auc")])
def test_any_metric_can_be_watched(metric, key):
    for name in ("mean", "linear"):
        model = samples.model(name, eval_metric=metric, patience=2, n_epochs=5)
        model.fit(samples.counts(), eval_set=samples.counts(seed=9))
        assert key in model.history_[0]


def test_callbacks_see_the_model_and_the_record_of_every_epoch():
    calls = []

    def watch(model: Any, record: dict[str, Any]) -> None:
        assert model.history_[-1] is record
        calls.append((record["epoch"], model.recommend([2], k=3)[0].tolist(),
                      model.user_factors_.copy()))

    model = samples.model("mean", solver="cholesky")
    model.fit(samples.matrix(), callbacks=[watch, watch])
    assert [epoch for epoch, *_ in calls] == [1, 1, 2, 2, 3, 3]
    for epoch in (1, 2, 3):
        apart = samples.fitted("mean", solver="cholesky", n_epochs=epoch)
        np.testing.assert_array_equal(calls[2 * epoch - 1][2], apart.user_factors_)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", ["learned", "linear"])
def test_a_callback_that_answers_true_stops_the_fit(name, solver):
    ratings = samples.counts()
    model = samples.model(name, solver=solver, n_epochs=50)
    model.fit(ratings, callbacks=[lambda m, record: None, lambda m, record: record["epoch"] == 2])
    apart = samples.fitted(name, ratings, solver=solver, n_epochs=2)
    assert model.n_epochs_ == 2
    np.testing.assert_array_equal(model.user_factors_, apart.user_factors_)
    np.testing.assert_array_equal(model.item_factors_, apart.item_factors_)


@pytest.mark.parametrize("name", ["learned", "linear", "bias as unknown"])
def test_tol_stops_when_the_loss_falls_by_less_in_an_epoch(name):
    tol = 0.02
    model = samples.fitted(name, n_epochs=500, tol=tol)
    losses = np.array([record["loss"] for record in model.history_])
    falls = (losses[:-1] - losses[1:]) / losses[:-1]
    assert 2 < model.n_epochs_ < 500
    assert falls[-1] < tol
    assert (falls[:-1] >= tol).all()
    assert samples.fitted(name, n_epochs=model.n_epochs_ + 3).n_epochs_ == model.n_epochs_ + 3


def overfitted(patience: int | None, **params: Any) -> tuple[Any, list[float]]:
    """A fit that gets worse on its evaluation set after some epochs, and its errors."""
    options = {"n_epochs": 25, "reg": 0.002, "n_factors": 8, **params}
    model = samples.model("mean", patience=patience, **options)
    model.fit(samples.matrix(30, 20), eval_set=samples.matrix(30, 20, seed=9))
    return model, [record["rmse"] for record in model.history_]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("patience", [1, 3])
def test_patience_stops_after_so_many_worse_epochs_and_restores_the_best(solver, patience):
    model, errors = overfitted(patience, solver=solver)
    best = int(np.argmin(errors)) + 1
    assert model.n_epochs_ == len(errors) == best + patience < 25
    apart, _ = overfitted(None, solver=solver, n_epochs=best)
    np.testing.assert_array_equal(model.user_factors_, apart.user_factors_)
    np.testing.assert_array_equal(model.item_factors_, apart.item_factors_)


def test_the_best_epoch_is_restored_where_epochs_run_out_first():
    model, errors = overfitted(24, n_epochs=8)
    best = int(np.argmin(errors)) + 1
    assert best < model.n_epochs_ == 8
    np.testing.assert_array_equal(model.item_factors_,
                                  overfitted(None, n_epochs=best)[0].item_factors_)


def test_without_patience_the_last_epoch_stays():
    model, errors = overfitted(None, n_epochs=8)
    assert int(np.argmin(errors)) + 1 < model.n_epochs_ == 8
    np.testing.assert_array_equal(
        model.item_factors_,
        samples.fitted("mean", samples.matrix(30, 20), n_epochs=8, reg=0.002,
                       n_factors=8).item_factors_)


def test_patience_waits_for_larger_values_of_a_ranking_metric():
    model = samples.model("linear", patience=2, n_epochs=40, eval_metric="ndcg@3")
    model.fit(samples.counts(30, 20), eval_set=samples.counts(30, 20, seed=9))
    values = [record["ndcg@3"] for record in model.history_]
    assert model.n_epochs_ == min(40, int(np.argmax(values)) + 3)


def test_watching_changes_nothing():
    plain = samples.fitted("learned")
    watched = samples.model("learned").fit(samples.matrix(), eval_set=samples.matrix(seed=9),
                                           callbacks=[lambda m, record: False])
    np.testing.assert_array_equal(plain.user_factors_, watched.user_factors_)
    np.testing.assert_array_equal(plain.item_bias_, watched.item_bias_)


def test_the_progress_bar_goes_to_the_error_stream_and_only_if_asked_for(capsys):
    samples.fitted("mean")
    assert capsys.readouterr() == ("", "")
    samples.fitted("mean", verbose=1)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "fit" in shown.err
    assert "loss" in shown.err


# --------------------------------------------------------------------- the same bits

# More than one chunk of cells, of rows and of scores.
WIDE = samples.counts(1500, 40)
TALL = samples.counts(8500, 6)


def bits(model: Any) -> list[bytes]:
    parts = [model.user_factors_, model.item_factors_, model.user_bias_, model.item_bias_,
             *model.recommend(k=20), *model.recommend(k=3, similarity="cosine"),
             *model.similar_users(range(200), k=4), model.predict(np.arange(model.n_users_), 1)]
    losses = np.array([record["loss"] for record in model.history_])
    return [np.asarray(part).tobytes() for part in (*parts, losses)
            if part is not None] + [repr(model.objective()).encode()]


@pytest.mark.parametrize("cells", [WIDE, TALL], ids=["wide", "tall"])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", ["learned, unknown", "bias as unknown", "log"])
def test_the_bits_do_not_depend_on_the_number_of_threads(name, solver, cells):
    one, two, eight = (bits(samples.fitted(name, cells, solver=solver, n_threads=n, n_epochs=2,
                                           n_factors=5)) for n in (1, 2, 8))
    assert one == two == eight


@pytest.mark.parametrize("name", ["learned", "linear"])
def test_the_seed_decides_the_bits(name):
    first, again = (samples.fitted(name, random_state=7) for _ in range(2))
    assert bits_of_factors(first) == bits_of_factors(again)
    assert bits_of_factors(first) != bits_of_factors(samples.fitted(name, random_state=8))
    assert bits_of_factors(first) == bits_of_factors(first.fit(first.ratings_))
    drawn = [samples.fitted(name, random_state=np.random.default_rng(7)) for _ in range(2)]
    assert bits_of_factors(drawn[0]) == bits_of_factors(drawn[1]) == bits_of_factors(first)


def test_without_a_seed_every_fit_is_another():
    first, second = (samples.fitted("mean", random_state=None) for _ in range(2))
    assert bits_of_factors(first) != bits_of_factors(second)


def bits_of_factors(model: Any) -> tuple[bytes, bytes]:
    return model.user_factors_.tobytes(), model.item_factors_.tobytes()


def test_two_threads_that_fit_at_once_get_what_each_gets_alone():
    jobs = [("learned, unknown", WIDE), ("log", TALL)]
    options = {"n_epochs": 3, "n_threads": 2, "n_factors": 5}
    alone = [bits(samples.fitted(name, cells, **options)) for name, cells in jobs]
    together: dict[int, list[bytes]] = {}
    start = threading.Barrier(len(jobs))

    def work(number: int) -> None:
        name, cells = jobs[number]
        start.wait()
        together[number] = bits(samples.fitted(name, cells, **options))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[number] for number in range(len(jobs))] == alone


def test_a_fitted_model_can_be_asked_by_several_threads_at_once():
    model = samples.fitted("learned", WIDE, n_threads=2)
    wanted, got = bits(model), []
    threads = [threading.Thread(target=lambda: got.append(bits(model))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [wanted] * 3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_decides_the_factors_and_not_the_input(dtype):
    for values in (np.float32, np.float64, np.int16):
        cells = samples.counts().astype(values)
        for name in ("learned", "linear"):
            model = samples.fitted(name, cells, dtype=dtype)
            assert model.user_factors_.dtype == model.item_factors_.dtype == dtype
            assert model.fold_in_users(cells).factors.dtype == dtype
        assert samples.fitted("mean", cells, dtype=dtype).user_bias_.dtype == dtype
