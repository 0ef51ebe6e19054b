"""Warnings of a fit: each told once, with its cure, and never where the model is sound."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.sparse as sp

from mfcore import (
    BPR,
    EASE,
    BiasOnly,
    ImplicitMF,
    MatrixFactorization,
    MultVAE,
    NeuralMF,
    Popularity,
    Ratings,
    Segmented,
    fetch,
)
from mfcore.models.advice import _is_above
from mfcore.validation import FitWarning
from tests.test_stopping import noise


def told(model, ratings, **given):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        model.fit(ratings, **given)
    return [str(each.message) for each in seen if each.category is FitWarning]


def even_groups(n=400, per=5, groups=40):
    """Users in groups, each taking a few of its group's items: no item is popular."""
    random = np.random.default_rng(0)
    users = np.repeat(np.arange(n), per)
    items = (users % groups) * (n // groups) + random.integers(0, n // groups, len(users))
    return sp.csr_array((np.ones(len(users)), (users, items)), shape=(n, n))


@pytest.mark.parametrize(("model", "cure"), [
    (ImplicitMF(4, reg=1e3, random_state=0), "lower reg or raise alpha"),
    (MatrixFactorization(4, reg=1e3, random_state=0), "lower reg"),
], ids=["counts", "ratings"])
def test_vectors_that_shrank_to_nothing_are_told(model, cure):
    ratings = even_groups()
    ratings.data[:] = np.arange(ratings.nnz) % 2
    (sentence,) = told(model, ratings)
    assert "all vectors shrank to nothing" in sentence
    assert sentence.endswith(cure)


def test_training_errors_far_below_those_of_the_share_are_told():
    model = MatrixFactorization(30, reg=0.01, bias_reg=1.0, n_epochs=40, random_state=0,
                                validation=0.1, patience=40)
    (sentence,) = told(model, fetch("planted").ratings.select_cells(
        np.random.default_rng(0).random(fetch("planted").ratings.nnz) < 0.3))
    assert "of training ratings" in sentence or "above" in sentence
    assert "raise reg" in sentence


def test_models_worse_than_biases_are_told():
    (sentence,) = told(MatrixFactorization(30, reg=0.01, n_epochs=5, validation=0.1,
                                           random_state=0), noise())
    assert "that of biases alone: raise reg" in sentence


def of_popularity():
    """Choices by popularity alone."""
    random = np.random.default_rng(0)
    shares = np.arange(300, 0, -1.0) ** 4
    items = random.choice(300, 3000, p=shares / shares.sum())
    return sp.csr_array((np.ones(3000), (np.repeat(np.arange(300), 10), items)), shape=(300, 300))


def test_lists_worse_than_popularity_are_told():
    (sentence,) = told(ImplicitMF(30, reg=0.01, n_epochs=8, validation=0.2, random_state=0),
                       of_popularity())
    assert "below" in sentence
    assert "that of Popularity: raise reg" in sentence


def test_models_that_lack_epochs_are_told_to_take_more():
    short = MultVAE(hidden=(32,), n_latent=8, n_epochs=1, validation=0.1, random_state=0)
    (sentence,) = told(short, fetch("planted").ratings)
    assert "that of Popularity: raise n_epochs" in sentence
    assert told(short.set_params(n_epochs=60), fetch("planted").ratings) == []
    (sentence,) = told(NeuralMF(4, n_epochs=1, learning_rate=1e-3, bias=None, validation=0.1,
                                random_state=0), fetch("planted").ratings)
    assert "that of biases alone: raise n_epochs" in sentence


@pytest.mark.parametrize("model", [
    MatrixFactorization(8, validation=0.1, random_state=0),
    NeuralMF(8, n_epochs=5, validation=0.1, random_state=0),
    MultVAE(hidden=(32,), n_latent=8, n_epochs=60, validation=0.1, random_state=0),
    ImplicitMF(8, validation=0.1),
    BPR(8, validation=0.1, random_state=0), BiasOnly(), Popularity(), EASE()], ids=repr)
def test_sound_models_are_told_nothing(model):
    assert told(model, fetch("planted").ratings) == []


def test_lists_that_cannot_be_told_from_those_of_popularity_are_not_worse():
    """All users know all but a few items, which are held out: every list is right, to rounding."""
    every = sp.csr_array(np.ones((40, 30)))
    assert told(ImplicitMF(8, validation=0.2, random_state=0), every) == []
    assert not _is_above(np.ones(50), np.full(50, 1 - 1e-15))


def test_ratings_without_noise_are_learned_to_the_last_digit_by_a_sound_model():
    random = np.random.default_rng(0)
    P, Q = random.standard_normal((300, 2)), random.standard_normal((100, 2))
    users, items = np.nonzero(random.random((300, 100)) < 0.4)
    exact = Ratings.from_arrays(users, items, np.einsum("cf,cf->c", P[users], Q[items]))
    model = MatrixFactorization(8, n_epochs=40, validation=0.1, patience=40, random_state=0)
    assert told(model, exact) == []


def test_the_warning_points_at_the_call_of_fit():
    with pytest.warns(FitWarning) as seen:
        ImplicitMF(4, reg=1e3).fit(even_groups())
    assert seen[0].filename == __file__


def test_segments_say_it_once():
    model = Segmented(ImplicitMF(4, reg=1e3, random_state=0), by=np.arange(400) % 2)
    assert len(told(model, even_groups())) == 1


def test_a_model_of_no_taste_is_as_good_as_biases_and_told_nothing():
    ratings = Ratings(noise().by_user)
    assert told(NeuralMF(4, random_state=0), ratings) == []
