"""What holds for every estimator, whatever it learns.

Parameters and scikit-learn's tools; rows, columns and names; lists and their order; new rows;
copies, files, threads and processes; forms of input; the order of rows; changed parameters.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import multiprocessing
import pickle
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import samples
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.exceptions import NotFittedError as SklearnNotFittedError
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.utils.validation import check_is_fitted

import mfcore
from mfcore import (
    EASE,
    BayesianMF,
    BiasOnly,
    ImplicitMF,
    MatrixFactorization,
    MultDAE,
    MultVAE,
    NeuralMF,
    Popularity,
    PureSVD,
    RatingAutoencoder,
    Ratings,
    RecVAE,
    Segmented,
    evaluate,
)
from mfcore.metrics import rating
from mfcore.metrics.fitted import Query
from mfcore.parallel import Pool
from mfcore.testing import check_recommender
from mfcore.validation import NotFittedError

FACTORIZED = [MatrixFactorization, ImplicitMF]


@functools.cache
def fitted(made: Any) -> Any:
    """A model of each class that no test changes."""
    return samples.small(made).fit(samples.counts())


@functools.cache
def answered(made: Any) -> dict[str, Any]:
    """What it answers."""
    return samples.answers(fitted(made))


def cells_of(matrix: sp.csr_array) -> tuple[np.ndarray, np.ndarray]:
    """X (nnz, 2) and y of the stored cells, as scikit-learn splits them."""
    users, items = samples.stored(matrix).nonzero()
    return np.column_stack([users, items]), samples.dense(matrix)[users, items]


# ------------------------------------------------------------------------- parameters

@pytest.mark.parametrize("made", samples.EVERY)
def test_parameters_are_stored_untouched(made):
    parameters = inspect.signature(made).parameters.values()
    given = {each.name: object() if each.kind is each.KEYWORD_ONLY or each.default is each.empty
             else each.default for each in parameters}
    model = made(**{name: value for name, value in given.items() if type(value) is object})
    assert vars(model) == given
    assert all(model.get_params()[name] is value for name, value in given.items())


@pytest.mark.parametrize("made", samples.EVERY)
def test_parameters_are_keywords_but_for_the_sizes(made):
    kinds = {name: parameter.kind for name, parameter in inspect.signature(made).parameters.items()}
    positional = [name for name, kind in kinds.items() if kind != inspect.Parameter.KEYWORD_ONLY]
    sizes = {RatingAutoencoder: ["hidden"], MultDAE: ["hidden", "n_latent"],
             MultVAE: ["hidden", "n_latent"], RecVAE: ["n_hidden", "n_latent"],
             Segmented: ["estimator", "by"]}
    assert positional == sizes.get(made, ["n_factors"] if "n_factors" in kinds else [])


# Others are chosen by measurement (benchmarks/defaults.py).
DEFAULTS = {"reg": "auto", "rating_scale": None, "solver": "cg", "tol": None, "dtype": "float32",
            "patience": None, "eval_metric": None, "random_state": None, "n_threads": None,
            "verbose": None}
RATED_DEFAULTS = {**DEFAULTS, "n_factors": 64, "bias_reg": "auto", "bias_share": 0.5,
                  "unknown_weight": 0.0, "unknown_value": 0.0}
COUNTED_DEFAULTS = {**DEFAULTS, "n_factors": 128, "alpha": 4.0, "confidence": "linear",
                    "unknown_weight": 1.0}


@pytest.mark.parametrize(("made", "defaults"), [(MatrixFactorization, RATED_DEFAULTS),
                                                (ImplicitMF, COUNTED_DEFAULTS)])
def test_the_defaults_are_those_of_the_interface(made, defaults):
    params = made().get_params()
    assert {name: params[name] for name in defaults} == defaults


@pytest.mark.parametrize("made", [made for made, _ in samples.definers("set_params")])
def test_parameters_can_be_set_by_name_and_unknown_ones_are_refused(made):
    """The base class and `Segmented` have one each."""
    model = samples.default(made)
    name = "min_ratings" if made is Segmented else "n_threads"
    assert model.set_params(**{name: 3}) is model
    assert getattr(model, name) == model.get_params(deep=False)[name] == 3
    with pytest.raises(ValueError, match=f"{made.__name__} has no parameter 'colour'"):
        model.set_params(**{name: 4, "colour": "red"})
    assert getattr(model, name) == 3


def test_a_model_shows_what_differs_from_the_defaults():
    assert repr(MatrixFactorization(8, reg=0.3)) == "MatrixFactorization(n_factors=8, reg=0.3)"
    assert repr(Popularity()) == "Popularity()"


@pytest.mark.parametrize("made", [made for made, _ in samples.definers("get_params")])
def test_clones_have_the_parameters_and_nothing_learned(made):
    """A clone is made of `get_params`; every constructor is tried above."""
    model = samples.small(made).fit(samples.counts())
    copied = clone(model)
    assert copied is not model
    assert repr(copied) == repr(model)
    assert repr(copied.get_params()) == repr(model.get_params())
    assert not [name for name in vars(copied) if name.endswith("_")]
    assert not hasattr(copied, "n_epochs_")


@pytest.mark.parametrize("made", samples.EVERY)
def test_fit_returns_the_model_and_its_learned_names_end_in_an_underscore(made):
    model = samples.small(made)
    before = set(vars(model))
    assert model.fit(samples.counts()) is model
    assert all(name.endswith("_") for name in set(vars(model)) - before)
    assert {"ratings_", "history_", "user_ids_", "item_ids_", "n_users_", "n_items_",
            "n_epochs_"} <= set(dir(model))
    assert made is Segmented or {"user_factors_", "item_factors_", "user_bias_", "item_bias_",
                                 "global_mean_"} <= set(dir(model))


@pytest.mark.parametrize("made", samples.EVERY)
def test_a_model_keeps_the_promises_that_others_can_be_held_to(made):
    check_recommender(samples.small(made))


UNFITTED = {
    "predict": lambda m: m.predict(0, 0), "recommend": lambda m: m.recommend(),
    "similar_items": lambda m: m.similar_items([0]),
    "similar_users": lambda m: m.similar_users([0]), "explain": lambda m: m.explain(0, 0),
    "fold_in_users": lambda m: m.fold_in_users(samples.matrix()),
    "fold_in_items": lambda m: m.fold_in_items(samples.matrix()),
    "partial_fit": lambda m: m.partial_fit(samples.matrix()),
    "update": lambda m: m.update(samples.matrix()), "forget": lambda m: m.forget([0]),
    "partial_fit_items": lambda m: m.partial_fit_items(samples.matrix()),
    "objective": lambda m: m.objective(), "score": lambda m: m.score(samples.matrix()),
    "save": lambda m: m.save("nowhere/model"),
}


@pytest.mark.parametrize(("made", "ask"), samples.definers(*UNFITTED))
def test_a_model_that_is_not_fitted_says_so(made, ask):
    """Each method once, and once more for each class that overrides it."""
    with pytest.raises(NotFittedError, match=rf"{made.__name__} is not fitted yet: call fit"):
        UNFITTED[ask](samples.default(made))


def test_scikit_learn_sees_whether_a_model_is_fitted():
    with pytest.raises(SklearnNotFittedError):
        check_is_fitted(samples.default(MatrixFactorization))
    check_is_fitted(fitted(MatrixFactorization))


def test_what_is_tried_once_is_one_function():
    """Where this fails, some model has its own, and the tests that try one must try that too."""
    for method in ("save", "score", "fold_in_users"):
        assert samples.definers(method) == [(MatrixFactorization, method)]


# ------------------------------------------------------------ cells, as scikit-learn has it

@pytest.mark.parametrize("made", [made for made, _ in samples.definers("fit")])
def test_fitting_pairs_is_fitting_their_matrix(made):
    """Pairs become Ratings in `fit`, before a model sees them."""
    matrix = samples.counts()
    users, items = np.unique(matrix.nonzero()[0]), np.unique(samples.stored(matrix).nonzero()[1])
    X, y = cells_of(matrix)
    model = samples.small(made).fit(X, y)
    dense = Ratings(matrix[users][:, items], user_ids=users, item_ids=items)
    apart = samples.small(made).fit(dense)
    assert model.user_ids_.tolist() == users.tolist()
    assert model.item_ids_.tolist() == items.tolist()
    for name in ("item_factors_", "item_bias_") if made is not Segmented else ():
        np.testing.assert_array_equal(getattr(model, name), getattr(apart, name))
    np.testing.assert_array_equal(model.recommend(k=3)[1], apart.recommend(k=3)[1])


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


@pytest.mark.parametrize("made", samples.SHARED)
def test_scoring_a_matrix_of_other_rows_is_refused(made):
    """scikit-learn's splitters cut a matrix by users: the rows would mean others.

    `score` is final in the base class.
    """
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



@pytest.mark.parametrize("made", samples.SHARED)
def test_a_grid_search_fits_and_scores_copies_of_any_estimator(made):
    """Copying, fitting pairs and `score` are the base class's."""
    X, y = cells_of(samples.counts(30, 20))
    known = samples.small(made).get_params()
    name = next(name for name in ("n_epochs", "reg", "estimator__n_epochs", "n_threads")
                if name in known)
    held = np.random.default_rng(0).random(len(y)) < 0.3
    search = GridSearchCV(samples.small(made), {name: [3, 4]},
                          cv=KFold(2, shuffle=True, random_state=0), error_score="raise")
    search.fit(X[~held], y[~held])
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.score(X[held], y[held]) == search.score(X[held], y[held])


# ------------------------------------------------------------- rows, columns and names

@pytest.mark.parametrize("made", samples.SHARED)
def test_users_are_rows_and_items_are_columns(made):
    """The base class brings new rows into the model's columns."""
    model = fitted(made)
    assert (model.n_users_, model.n_items_) == model.ratings_.shape == (11, 8)
    assert model.recommend(k=3)[0].shape == (11, 3)
    assert model.recommend(ratings=samples.counts(2, 8), k=3)[0].max() < 8
    for ask in (lambda given: model.recommend(ratings=given), model.fold_in_users,
                lambda given: model.predict(0, 0, ratings=given)):
        with pytest.raises(ValueError, match="it looks transposed: users are rows"):
            ask(samples.counts(8, 11))


@pytest.mark.parametrize("made", samples.SHARED)
def test_names_change_names_and_nothing_else(made):
    """The base class finds rows and columns by name, and names the items of a list."""
    plain, named = fitted(made), samples.small(made).fit(samples.named(samples.counts()))
    users, items = samples.names(11, "u"), samples.names(8, "i")
    np.testing.assert_array_equal(named.predict(users, "i3"), plain.predict(range(11), 3))
    for got, wanted in zip(named.recommend(users[::-1], k=12), plain.recommend(k=12), strict=True):
        wanted = wanted[::-1]
        if got.dtype == object:
            wanted = [[items[place] if place >= 0 else None for place in row] for row in wanted]
            wanted = np.array(wanted, object)
        np.testing.assert_array_equal(got, wanted)
    numbers = samples.small(made).fit(Ratings(samples.counts(), item_ids=range(100, 108)))
    np.testing.assert_array_equal(
        numbers.recommend(k=12)[0],
        np.where(plain.recommend(k=12)[0] < 0, -1, plain.recommend(k=12)[0] + 100))


@pytest.mark.parametrize("made", samples.EVERY)
def test_an_unknown_name_is_answered_by_predict_with_a_number_and_by_nothing_else(made):
    model = samples.small(made).fit(samples.named(samples.counts()))
    assert np.isfinite(model.predict(["u1", "?", "?"], ["?", "i1", "?"])).all()
    assert np.isfinite(fitted(made).predict([1, 99, 99], [99, 1, 99])).all()
    for ask in (model.recommend, model.similar_items, model.similar_users):
        with pytest.raises((KeyError, NotImplementedError), match="\\?|compare"):
            ask(["?"])
    with pytest.raises(IndexError, match="99"):
        fitted(made).recommend([99])


# -------------------------------------------------------------------- lists and their order

@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("made", samples.SHARED)
def test_lists_hold_what_a_user_has_not_seen_once_and_are_padded(made, similarity):
    """Lists are made by the base class; `test_sequences.py` looks at those of every model."""
    model, seen = fitted(made), samples.stored(samples.counts())
    items, scores = model.recommend(k=12, similarity=similarity)
    assert items.shape == scores.shape == (11, 12)
    for row, values, known in zip(items, scores, seen, strict=True):
        left = 8 - known.sum()
        assert sorted(row[:left]) == np.flatnonzero(~known).tolist()
        assert (row[left:] == -1).all()
        assert (values[left:] == -np.inf).all()
        assert np.isfinite(values[:left]).all()
        assert (np.diff(values[:left]) <= 0).all()
    everything, _ = model.recommend(k=8, similarity=similarity, exclude_seen=False)
    assert (np.sort(everything, axis=1) == np.arange(8)).all()


class Coarse:
    """A scorer whose scores are rounded until most are equal."""

    def __init__(self, scorer: Any) -> None:
        self.n_rows, self.n_items, self.scorer = scorer.n_rows, scorer.n_items, scorer

    def block(self, start: int, stop: int) -> np.ndarray:
        scores = self.scorer.block(start, stop)
        low, high = scores.min(), scores.max()
        return np.round(2 * (scores - low) / (high - low)).astype(scores.dtype)

    def rounding(self, start: int, stop: int) -> None:
        return None


def settled(scorer: Any) -> np.ndarray:
    """Return all scores, each as it is alone."""
    block = scorer.block(0, 11)
    if scorer.rounding(0, 11) is None:
        return block
    rows, columns = np.indices(block.shape)
    return scorer.cells(rows.ravel(), columns.ravel()).reshape(block.shape)


@pytest.mark.parametrize("made", samples.SHARED)
def test_lists_are_a_full_sort_with_ties_in_the_order_of_the_items(made, monkeypatch):
    """Lists are made by the base class from the scores of a model."""
    model = fitted(made)
    known = model.answers()
    exact = known.scorer(np.arange(11), Query(), Pool(1))
    for wrap in (lambda scorer: scorer, Coarse):
        answers = SimpleNamespace(scorer=lambda *asked, wrap=wrap: wrap(known.scorer(*asked)))
        monkeypatch.setattr(model, "answers", lambda answers=answers: answers)
        scores = settled(wrap(exact))
        wanted = np.argsort(-scores, axis=1, kind="stable")[:, :5]
        items, got = model.recommend(k=5, exclude_seen=False)
        np.testing.assert_array_equal(items, wanted)
        np.testing.assert_array_equal(got, np.take_along_axis(scores, wanted, 1))
    assert len(np.unique(scores)) <= 3


@pytest.mark.parametrize("made", samples.EVERY)
def test_a_batch_answers_as_each_of_its_rows_alone(made):
    model, rows = fitted(made), samples.counts(9, 8, seed=7)
    same_lists([model.recommend([user], 4) for user in range(11)], model.recommend(k=4))
    together = model.recommend(ratings=rows, k=4)
    alone = [model.recommend(ratings=rows[[row]], k=4) for row in range(9)]
    users, items = (grid.ravel() for grid in np.indices((11, 8)))
    pairs = [model.predict(user, item)[0] for user, item in zip(users, items, strict=True)]
    if made is mfcore.NeuralMF:                 # (its products go through BLAS together)
        np.testing.assert_allclose(np.vstack([scores for _, scores in alone]), together[1],
                                   rtol=1e-5)
        np.testing.assert_allclose(pairs, model.predict(users, items), rtol=1e-5)
    else:
        same_lists(alone, together)
        np.testing.assert_array_equal(pairs, model.predict(users, items))


def same_lists(alone, together):
    for each, wanted in zip(zip(*alone, strict=True), together, strict=True):
        np.testing.assert_array_equal(np.concatenate(each), wanted)


# ------------------------------------------------------------------------------ new rows

# Whose vector of a user is a function of the row, so that a known row gets its own again.
SOLVED = [MatrixFactorization, ImplicitMF, EASE, RatingAutoencoder, MultDAE, MultVAE, RecVAE,
          BiasOnly, Popularity, mfcore.GraphFilter, mfcore.PureSVD, mfcore.ItemKNN,
          mfcore.RP3Beta, mfcore.SparseEASE]


@pytest.mark.parametrize("made", samples.EVERY)
def test_a_known_row_folded_in_is_served_what_it_lacks(made):
    model, cells = fitted(made), samples.counts()
    items, scores = model.recommend(ratings=cells, k=12)
    for row, known in zip(items, samples.stored(cells), strict=True):
        assert sorted(row[row >= 0]) == np.flatnonzero(~known).tolist()
    folded = model.fold_in_users(cells)
    assert folded.factors.shape[0] == 11
    assert folded.bias is None or folded.bias.shape == (11,)
    if made in SOLVED:
        np.testing.assert_allclose(scores, model.recommend(k=12)[1], rtol=1e-4, atol=1e-5)
        pairs = [0, 1, 10], [2, 3, 4]
        np.testing.assert_allclose(model.predict(*pairs, ratings=cells), model.predict(*pairs),
                                   rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("made", samples.EVERY)
def test_folding_in_teaches_the_model_nothing(made):
    model = samples.small(made).fit(samples.counts())
    model.fold_in_users(samples.counts(9, 8, seed=7))
    model.recommend(ratings=samples.counts(9, 8, seed=7))
    assert samples.answers(model) == answered(made)


@pytest.mark.parametrize("made", samples.SHARED)
def test_columns_of_new_rows_go_by_name_in_any_order(made):
    """The base class brings new rows into the model's columns."""
    model = samples.small(made).fit(samples.named(samples.counts()))
    rows, order = samples.counts(4, 8, seed=7), np.random.default_rng(1).permutation(8)
    given = Ratings(rows, item_ids=samples.names(8, "i"))
    mixed = Ratings(sp.csr_array(rows[:, order]), item_ids=np.array(samples.names(8, "i"))[order])
    for wanted, got in zip(model.recommend(ratings=given, k=9), model.recommend(ratings=mixed, k=9),
                           strict=True):
        np.testing.assert_array_equal(got, wanted)


# --------------------------------------------------------- copies, files, threads, processes

COPIES = {"copy": copy.copy, "deep copy": copy.deepcopy,
          **{f"pickle {protocol}": lambda model, protocol=protocol: pickle.loads(
              pickle.dumps(model, protocol)) for protocol in (2, pickle.HIGHEST_PROTOCOL)}}


# What is answered alike where it is not known what users have rated.
WITHOUT_RATINGS = ["predict new", "recommend to new", "similar items", "fold in users"]


@pytest.mark.parametrize("kind", COPIES)
@pytest.mark.parametrize("made", samples.SHARED)
def test_a_copy_answers_to_the_same_bits(made, kind):
    """No model says how it is copied; below, all go by pickle to another process."""
    assert samples.answers(COPIES[kind](fitted(made))) == answered(made)


@pytest.mark.parametrize("seen", [True, False], ids=["whole", "without ratings"])
@pytest.mark.parametrize("made", samples.EVERY)
def test_a_model_comes_back_from_its_file_to_the_same_bits(made, seen, tmp_path):
    model = fitted(made)
    model.save(tmp_path / "model", seen=seen)
    again = mfcore.load(tmp_path / "model")
    got = samples.answers(again)
    kept = [name for name in got if seen or name in WITHOUT_RATINGS]
    assert [name for name in kept if got[name] != answered(made)[name]] == []
    again.save(tmp_path / "again", seen=seen)
    assert (tmp_path / "again").read_bytes() == (tmp_path / "model").read_bytes()


@pytest.mark.parametrize("made", samples.EVERY)
def test_eight_threads_that_ask_at_once_get_what_one_gets(made):
    model = copy.deepcopy(fitted(made)) if made is Segmented else fitted(made)
    got: list[Any] = []
    threads = [threading.Thread(target=lambda: got.append(samples.answers(model)))
               for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [answered(made)] * 8


def _answers_of(models: list[Any], results: Any) -> None:
    results.put([samples.answers(model) for model in models])


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_other_processes_answer_to_the_same_bits(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    wanted = [answered(made) for made in samples.EVERY]
    context = multiprocessing.get_context(method)
    results = context.Queue()
    child = context.Process(target=_answers_of, args=([*map(fitted, samples.EVERY)], results))
    child.start()
    try:
        assert results.get(timeout=120) == wanted
    finally:
        child.kill()
        child.join()


MANY = samples.counts(700, 40)                          # more than one chunk of cells and of rows


@pytest.mark.parametrize("made", samples.EVERY)
def test_one_two_and_eight_threads_learn_and_answer_the_same_bits(made):
    names = samples.small(made).get_params()
    changes = {"batch_size": 256} if "batch_size" in names else {}
    one, two, eight = (samples.answers(samples.small(made, n_threads=n, **changes).fit(MANY))
                       for n in (1, 2, 8))
    for found in (one, two, eight):
        del found["repr"]
    assert one == two == eight


@pytest.mark.parametrize("made", samples.EVERY)
def test_the_seed_decides_the_bits_and_fitting_again_starts_anew(made):
    model = samples.small(made).fit(samples.counts())
    assert samples.answers(model.fit(samples.counts())) == answered(made)
    assert samples.answers(model.fit(samples.counts(12, 9))) == samples.answers(
        samples.small(made).fit(samples.counts(12, 9)))


# --------------------------------------------------------------------------- the numbers

PRECISE = [made for made in samples.EVERY if "dtype" in samples.small(made).get_params()]


@pytest.mark.parametrize("made", PRECISE)
def test_the_precision_is_that_of_the_parameter(made):
    for dtype in ("float32", "float64"):
        model = samples.small(made, dtype=dtype).fit(samples.counts())
        assert model.item_factors_.dtype == dtype
        assert model.recommend(k=3)[1].dtype == dtype
        assert model.fold_in_users(samples.counts(2, 8)).factors.dtype == dtype


@pytest.mark.parametrize("made", PRECISE)
def test_answers_in_single_precision_are_those_in_double_precision_rounded(made):
    single = fitted(made)
    double = copy.deepcopy(single).set_params(dtype="float64")
    for name, value in vars(double).items():
        if isinstance(value, np.ndarray) and value.dtype == np.float32:
            setattr(double, name, value.astype(np.float64))
    double.remember_shape()
    rows, pairs = samples.counts(3, 8, seed=7), [grid.ravel() for grid in np.indices((3, 8))]
    for ratings in (None,) if made is BayesianMF else (None, rows):   # (which draws new rows)
        wanted = double.predict(*pairs, ratings=ratings)
        np.testing.assert_allclose(single.predict(*pairs, ratings=ratings), wanted,
                                   atol=1e-5 * np.abs(wanted).max())


# Whose fit draws nothing that depends on the place of an item: without vectors at random, or
# with users first and items solved from them.
EQUIVARIANT = {EASE: {}, BiasOnly: {}, Popularity: {},
               **{made: {"n_neighbors": 7} for made in (mfcore.ItemKNN, mfcore.RP3Beta,
                                                        mfcore.SparseEASE)},
               MatrixFactorization: {"solver": "cholesky", "dtype": "float64"},
               ImplicitMF: {"solver": "cholesky", "dtype": "float64"}}


@pytest.mark.parametrize("made", EQUIVARIANT)
def test_items_in_another_order_give_the_same_model_in_that_order(made):
    order = np.random.default_rng(0).permutation(8)
    model, mixed = (samples.small(made, **EQUIVARIANT[made]).fit(cells)
                    for cells in (samples.counts(), sp.csr_array(samples.counts()[:, order])))
    users, items = (grid.ravel() for grid in np.indices((11, 8)))
    np.testing.assert_allclose(mixed.predict(users, items), model.predict(users, order[items]),
                               rtol=1e-5, atol=1e-6)


# ------------------------------------------------------- parameters changed after the fit

OTHERS = [None, 0, 1, 7, -1, 0.5, 1e9, float("nan"), (2,), (), True, False, "learned", "mean",
          "count", "none", "balanced", "bias", "logistic", "squared", "average", "float64",
          "cholesky", "sgd", "adam", "lbfgs", "subspace", "log", "raw", "zero", "binary", "selu",
          "sigmoid", "multinomial", "gaussian", "bernoulli", "adaptive", "inverse", "constant",
          "rmse", "ndcg@3", "item", "user", "product", "concat", "rprop"]
REFUSALS = (ValueError, TypeError, LookupError, NotImplementedError, FloatingPointError)


@pytest.mark.parametrize("made", samples.EVERY)
@pytest.mark.filterwarnings("ignore")
def test_a_parameter_changed_after_the_fit_is_obeyed_or_refused_and_never_crashes(made):
    model = copy.deepcopy(fitted(made))
    questions = [samples.questions(model, 3)[name] for name in (
        "predict new", "explain", "fold in items", "objective")]
    with Pool(1):                           # (BLAS is held once, not for each question)
        for name, right in model.get_params(deep=False).items():
            for value in OTHERS:
                setattr(model, name, value)
                for ask in questions:
                    with contextlib.suppress(*REFUSALS):
                        ask()
            setattr(model, name, right)
    assert samples.answers(model) == answered(made)


@pytest.mark.parametrize("made", samples.EVERY)
def test_a_parameter_put_out_of_range_or_out_of_shape_after_the_fit_is_named(made):
    model = copy.deepcopy(fitted(made))
    for name, value in {"n_factors": 64, "hidden": (9,), "n_latent": 9, "dtype": "float64",
                        "n_epochs": 0, "reg": -1.0, "min_ratings": 0}.items():
        if name in model.get_params(deep=False):
            right = getattr(model, name)
            setattr(model, name, value)
            with pytest.raises(ValueError, match=f"^{name} "):
                model.recommend([1])
            setattr(model, name, right)
    assert samples.answers(model) == answered(made)


# --------------------------------------------------------------------- ratings that say nothing

SILENT = {"weight": {"penalties": MatrixFactorization(3, random_state=0),
                     "scaled by a power": MatrixFactorization(3, reg_scaling="none",
                                                              random_state=0),
                     "ratings of rows": RatingAutoencoder((4,), n_epochs=2, random_state=0),
                     "rows of items": RatingAutoencoder((4,), orientation="item", n_epochs=2,
                                                        random_state=0),
                     "pairs": NeuralMF(2, n_epochs=2, random_state=0)},
          "zero": {"choices of rows": MultDAE(hidden=(), n_latent=3, n_epochs=2, random_state=0),
                   "composite": RecVAE(n_hidden=5, n_latent=3, n_epochs=2, random_state=0),
                   "products": PureSVD(2, random_state=0)}}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in SILENT
                                            for name in SILENT[kind]])
def test_a_rating_that_says_nothing_is_as_good_as_absent(kind, name):
    """Of weight 0; or a zero, for models of choices."""
    random, shape = np.random.default_rng(5), (60, 30)
    told, silent = np.zeros(shape, bool), np.zeros(shape, bool)
    told[random.random(shape) < 0.4] = True
    silent[(random.random(shape) < 0.3) & ~told] = True
    values = random.integers(1, 6, shape).astype(float)
    values[silent] = 2.0 if kind == "weight" else 0.0
    weights = np.where(told, random.uniform(0.5, 2, shape), 0)

    def ratings(stored):
        cells = sp.csr_array((values[stored], np.nonzero(stored)), shape=shape)
        return Ratings(cells, weights=weights[stored] if kind == "weight" else None)

    models = [copy.deepcopy(SILENT[kind][name]).fit(ratings(stored))
              for stored in (told | silent, told)]
    users, items = map(np.ravel, np.indices(shape))
    found, wanted = (model.predict(users, items) for model in models)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    folded, alone = (model.fold_in_users(ratings(stored)).factors
                     for model, stored in zip(models, (told | silent, told), strict=True))
    np.testing.assert_allclose(folded, alone, rtol=1e-3, atol=1e-3)
