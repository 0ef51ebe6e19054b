"""The table of public models: every entry is found, and every model can do what it says."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import samples
import scipy.sparse as sp

import mfcore
from mfcore import EASE, MatrixFactorization, NeuralMF, RatingAutoencoder, Ratings, Segmented
from mfcore.models.recommender import Recommender
from mfcore.models.registry import ABILITIES, MODELS, ROWS, SENTENCES, sentence

REFUSALS = (NotImplementedError, ValueError)
SIDES = {"user": 0, "item": 1}


def likes(cells: sp.csr_array) -> sp.csr_array:
    return sp.csr_array(((cells.data > 3).astype(float), cells.indices, cells.indptr), cells.shape)


def features(side: str) -> sp.csr_array:
    n_rows = samples.counts().shape[SIDES[side]]
    return sp.csr_array(np.random.default_rng(0).random((n_rows, 2)))


def ask(model: Any, ability: str, path: Any, cells: Any = samples.counts) -> None:
    """Try an ability on an unfitted model; raise what it raises."""
    ratings = cells()
    if ability == "weights":
        model.fit(Ratings(ratings, weights=samples.weights(ratings)))
    elif ability in ("user_features", "item_features"):
        model.fit(ratings, **{ability: features(ability[:4])})
    elif ability == "checkpoint":
        model.fit(ratings, checkpoint=path / "checkpoint")
    else:
        n_users, n_items = ratings.shape
        new = {"fold_in_users": lambda m: m.fold_in_users(cells(4, n_items)),
               "fold_in_items": lambda m: m.fold_in_items(cells(n_users, 3)),
               "partial_fit": lambda m: m.partial_fit(cells(2, n_items), users=[0, 1]),
               "new_items": lambda m: m.partial_fit_items(cells(n_users, 1), items=[n_items]),
               "forget": lambda m: m.forget([1]), "forget_items": lambda m: m.forget(items=[1])}
        asked = {"explain": lambda m: m.explain(0, 0), "objective": lambda m: m.objective(),
                 "similar_items": lambda m: m.similar_items([0], 2),
                 "similar_users": lambda m: m.similar_users([0], 2),
                 "index_vectors": lambda m: m.index_vectors([0])}
        (new | asked)[ability](model.fit(ratings))


PAIRS = [(name, ability) for name in MODELS for ability in ABILITIES]


# ----------------------------------------------------------------------------- the entries

def test_the_table_holds_every_public_model():
    public = {name for name in mfcore.__all__ if inspect.isclass(getattr(mfcore, name))
              and issubclass(getattr(mfcore, name), Recommender)}
    assert set(MODELS) == public


@pytest.mark.parametrize("name", MODELS)
def test_an_entry_is_found_where_it_says(name):
    entry = MODELS[name]
    made = getattr(import_module(entry.module), entry.name)
    assert made is getattr(mfcore, name)
    assert made.__module__ == entry.module
    assert entry.name == name


def test_names_on_the_command_line_are_short_and_differ():
    commands = [entry.command for entry in MODELS.values()]
    assert len(set(commands)) == len(commands)
    assert all(re.fullmatch("[a-z]{2,12}", command) for command in commands)


@pytest.mark.parametrize("entry", MODELS.values(), ids=lambda entry: entry.name)
def test_an_entry_names_abilities_that_there_are(entry):
    assert entry.can | set(entry.limits) <= set(ABILITIES)
    assert entry.summary[0].islower()
    assert not entry.summary.endswith(".")


def test_every_ability_has_a_sentence():
    assert set(ABILITIES) - {"fold_in_users"} <= set(SENTENCES)      # (all can)
    with pytest.raises(KeyError, match="cooking"):
        MODELS["BPR"].answer("cooking")
    with pytest.raises(KeyError, match="cooking"):
        sentence(mfcore.BPR, "cooking")


# --------------------------------------------------------------------------- the abilities

@pytest.mark.parametrize(("name", "ability"),
                         [pair for pair in PAIRS if MODELS[pair[0]].answer(pair[1]) == "yes"])
def test_a_model_can_do_what_the_table_says(name, ability, tmp_path):
    ask(samples.small(getattr(mfcore, name)), ability, tmp_path)


@pytest.mark.parametrize(("name", "ability"),
                         [pair for pair in PAIRS if MODELS[pair[0]].answer(pair[1]) == "no"])
def test_what_a_model_cannot_do_it_refuses_in_the_sentence_of_the_table(name, ability, tmp_path):
    with pytest.raises(REFUSALS) as refusal:
        ask(samples.small(getattr(mfcore, name)), ability, tmp_path)
    assert str(refusal.value) == sentence(getattr(mfcore, name), ability)


@pytest.mark.parametrize("name", [name for name, entry in MODELS.items()
                                  if entry.answer("user_features") == "no" or name == "Segmented"])
def test_new_users_by_their_features_are_refused_in_the_sentence_of_the_table(name):
    model = samples.small(getattr(mfcore, name)).fit(samples.counts())
    with pytest.raises(NotImplementedError) as refusal:
        model.recommend(user_features=[["a"]])
    assert str(refusal.value) == sentence(getattr(mfcore, name), "new_user_features")


def segmented(estimator: Any) -> Segmented:
    return Segmented(estimator, dict(samples.SEGMENTS))


# Abilities on a condition: a model that meets it, one that does not, and the latter's sentence.
EITHER = {
    ("MatrixFactorization", "explain"): (
        MatrixFactorization(2, n_epochs=1), MatrixFactorization(2, n_epochs=1, loss="logistic",
                                                                solver="sgd"),
        sentence(mfcore.MatrixFactorization, "explain")),
    **{("BayesianMF", ability): (
        samples.small(mfcore.BayesianMF), samples.small(mfcore.BayesianMF, likelihood="ordinal"),
        sentence(mfcore.BayesianMF, ability))
       for ability in ("index_vectors", "weights", "explain")},
    ("RatingAutoencoder", "index_vectors"): (
        samples.small(RatingAutoencoder), samples.small(RatingAutoencoder, output="tanh"),
        sentence(RatingAutoencoder, "index_vectors")),
    **{("RatingAutoencoder", ability): (
        samples.small(RatingAutoencoder), samples.small(RatingAutoencoder).set_params(
            orientation="item"), sentence(RatingAutoencoder, ability)) for ability in sorted(ROWS)},
    ("Segmented", "user_features"): (
        None, segmented(EASE()), "user_features must be None: they are there to find the field "
                                 "that `by` names, and by is a dict"),
    ("Segmented", "weights"): (
        segmented(mfcore.BiasOnly()), segmented(EASE()),
        "all users: " + sentence(mfcore.EASE, "weights")),
    ("Segmented", "item_features"): (
        segmented(MatrixFactorization(2, n_epochs=1)), segmented(EASE()),
        sentence(mfcore.EASE, "item_features")),
    ("Segmented", "explain"): (segmented(EASE()), segmented(mfcore.BiasOnly()),
                               sentence(mfcore.BiasOnly, "explain")),
    ("Segmented", "similar_items"): (segmented(EASE()), segmented(mfcore.BiasOnly()),
                                     sentence(mfcore.BiasOnly, "similar_items")),
    ("Segmented", "similar_users"): (segmented(MatrixFactorization(2, n_epochs=1)),
                                     segmented(EASE()), sentence(mfcore.EASE, "similar_users")),
}


def test_every_condition_is_tried():
    assert set(EITHER) == {(name, ability) for name, ability in PAIRS
                           if MODELS[name].answer(ability) not in ("yes", "no")}


@pytest.mark.parametrize("pair", EITHER, ids=" ".join)
def test_an_ability_on_a_condition_is_there_and_not_there(pair, tmp_path):
    def cells(*shape):
        return likes(samples.counts(*shape))

    able, unable, says = EITHER[pair]
    if able is not None:
        ask(able, pair[1], tmp_path, cells)
    with pytest.raises(REFUSALS) as refusal:
        ask(unable, pair[1], tmp_path, cells)
    assert str(refusal.value) == says


def test_a_field_of_the_user_features_makes_segments():
    ratings = samples.counts()
    known = mfcore.data.features.one_hot(["a", "b"] * 5 + ["a"], "kind")
    model = Segmented(EASE(), "kind").fit(ratings, user_features=known)
    assert set(model.segments_) == {"a", "b"}


# ------------------------------------------------------------------------------ the scale

def rates(model: Any) -> bool:
    """Whether a model is measured by the errors of its predictions."""
    return "rmse" in mfcore.evaluate(model.fit(samples.counts()), samples.counts(seed=9))


@pytest.mark.parametrize("name", [name for name, entry in MODELS.items()
                                  if entry.predicts in ("ratings", "scores")])
def test_predictions_are_on_the_scale_that_the_table_says(name):
    assert rates(samples.small(getattr(mfcore, name))) == (MODELS[name].predicts == "ratings")


def test_the_scale_of_two_models_depends_on_their_parameters():
    kinds = [name for name, entry in MODELS.items() if entry.predicts not in ("ratings", "scores")]
    assert kinds == ["NeuralMF", "Segmented"]
    assert MODELS["NeuralMF"].predicts == "ratings with loss='squared', scores with loss='logistic'"
    assert rates(NeuralMF(2, n_epochs=1, loss="squared"))
    assert not rates(NeuralMF(2, n_epochs=1, loss="logistic"))
    assert [rates(segmented(model)) for model in (EASE(), mfcore.BiasOnly())] == [False, True]
