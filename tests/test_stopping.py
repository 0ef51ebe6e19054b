"""`n_epochs="auto"`: budgets in steps, searches where something can be held out, and the start."""

from __future__ import annotations

import numpy as np
import pytest

from mfcore import MatrixFactorization, MultDAE, NeuralMF, RatingAutoencoder, Ratings, load
from mfcore.data.synthetic import planted
from mfcore.models.pairs.pretrained import without
from mfcore.models.stopping import PATIENCE, SHARE, Budget, held_out
from mfcore.objectives.biases import fitted_biases

SMALL = {"n_factors": 4, "hidden": (4,), "random_state": 0, "n_threads": 1}


def noise(n_users=60, n_items=60, share=0.4, seed=0):
    """Ratings without any structure."""
    random = np.random.default_rng(seed)
    users, items = np.nonzero(random.random((n_users, n_items)) < share)
    return Ratings.from_arrays(users, items, random.integers(1, 6, len(users)).astype(float))


@pytest.mark.parametrize(("n_steps", "most", "patience", "enough"), [
    (1, 800, 50, 200), (2, 400, 25, 100), (20, 100, PATIENCE, 10), (1000, 100, PATIENCE, 4)])
def test_budgets_are_in_steps_within_limits_in_epochs(n_steps, most, patience, enough):
    budget = Budget(enough=200, patience=50, epochs=(4, 200), most=100)
    assert budget.of(n_steps) == (most, patience, enough)


@pytest.mark.parametrize(("model", "n_steps"), [
    (MultDAE(batch_size=25), 3), (RatingAutoencoder(batch_size=25), 3),
    (RatingAutoencoder(batch_size=25, orientation="item"), 2),
    (RatingAutoencoder.autorec_item(), 1), (RatingAutoencoder.autorec_user(), 1),
    (NeuralMF(batch_size=100), 15)], ids=repr)
def test_a_step_is_one_batch(model, n_steps):
    ratings = noise(60, 50, 0.5)
    assert model.n_steps(ratings.select_cells(np.arange(ratings.nnz) < 1450)) == n_steps


def test_where_nothing_can_be_held_out_enough_steps_are_taken():
    ratings = noise(20, 20)
    model = NeuralMF(**SMALL, batch_size=100).fit(ratings)
    assert SHARE * ratings.nnz < 100
    assert model.n_epochs_ == model.budget.of(model.n_steps(ratings)).enough
    assert not hasattr(model, "validation_history_")


def test_where_something_can_a_tenth_finds_the_epochs_and_all_is_learned(tmp_path):
    ratings = planted(120, 80).ratings
    quick = {"bias": None, "learning_rate": 0.1, "random_state": 0}
    model = RatingAutoencoder((4,), **quick).fit(ratings)
    errors = [record["rmse"] for record in model.validation_history_]
    assert model.n_epochs_ == 1 + int(np.argmin(errors)) < len(errors)
    plain = RatingAutoencoder((4,), **quick, n_epochs=model.n_epochs_).fit(ratings)
    np.testing.assert_array_equal(model.weights_, plain.weights_)
    assert model.n_epochs == "auto"
    model.save(tmp_path / "model")
    assert load(tmp_path / "model").n_epochs == "auto"


def test_an_eval_set_takes_the_place_of_the_tenth():
    train, test = held_out(planted(120, 80).ratings, 0.2, 0)
    model = RatingAutoencoder((4,), bias=None, learning_rate=0.1, random_state=0).fit(
        train, eval_set=test)
    errors = [record["rmse"] for record in model.history_]
    assert len(errors) == 1 + int(np.argmin(errors)) + model.budget.of(1).patience
    assert model.ratings_.nnz == train.nnz


def test_the_number_of_threads_does_not_matter():
    one, two = (NeuralMF(**{**SMALL, "n_threads": n}, learning_rate=0.03).fit(noise())
                for n in (1, 2))
    assert one.n_epochs_ == two.n_epochs_
    np.testing.assert_array_equal(one.user_factors_, two.user_factors_)


@pytest.mark.parametrize(("value", "error"), [("all", ValueError), (0, ValueError),
                                              (2.5, TypeError), (None, TypeError)])
def test_what_is_no_number_of_epochs_is_refused(value, error):
    with pytest.raises(error, match="n_epochs"):
        NeuralMF(n_epochs=value).fit(noise())


# ------------------------------------------------------------------------ the start counts

def test_biases_are_where_ratings_start_and_stay_where_nothing_is_better():
    ratings = noise()
    model = NeuralMF(**SMALL, learning_rate=1.0).fit(ratings)
    assert model.n_epochs_ == 0
    for found, wanted in zip((model.user_bias_, model.item_bias_),
                             fitted_biases(ratings, model.mean_rating_), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)
    np.testing.assert_allclose(model.predict(users := np.arange(60), users), model.mean_rating_
                               + model.user_bias_ + model.item_bias_, atol=1e-5)
    assert model.validation_history_


@pytest.mark.parametrize("fusion", ["gmf+mlp", "product"])
def test_a_second_stage_that_gains_nothing_is_the_first(fusion):
    ratings = planted(120, 80).ratings
    first = MatrixFactorization(4, random_state=0).fit(ratings)
    hidden = () if fusion == "product" else (4,)
    model = NeuralMF(**{**SMALL, "hidden": hidden}, fusion=fusion, reg=100.0,
                     learning_rate=0.1).fit(ratings, pretrained=first)
    assert model.n_epochs_ == 0
    users, items = np.arange(80), np.arange(80)
    np.testing.assert_allclose(model.predict(users, items), first.predict(users, items),
                               rtol=1e-4)


def test_the_first_stage_has_not_seen_what_the_second_is_stopped_by():
    ratings = noise()
    first = MatrixFactorization(4, random_state=0).fit(ratings)
    known, held = held_out(ratings, 0.1, 0)
    again = without(first, held)
    np.testing.assert_array_equal(again.ratings_.by_user.toarray(), known.by_user.toarray())
    alone = MatrixFactorization(4, random_state=0).fit(known)
    np.testing.assert_array_equal(again.user_factors_, alone.user_factors_)


def test_a_first_stage_that_cannot_be_fitted_again_is_trained_on_for_enough_steps(tmp_path):
    ratings = noise()
    MatrixFactorization(4, random_state=0).fit(ratings).save(tmp_path / "first", seen=False)
    model = NeuralMF(**SMALL).fit(ratings, pretrained=load(tmp_path / "first"))
    assert model.n_epochs_ == model.budget.of(model.n_steps(ratings)).enough
    with pytest.raises(ValueError, match="cannot fit the pretrained model again"):
        NeuralMF(**SMALL, validation=0.1).fit(ratings, pretrained=load(tmp_path / "first"))


def test_the_start_is_kept_by_an_eval_set_too():
    train, test = held_out(noise(), 0.2, 0)
    model = NeuralMF(**SMALL, learning_rate=1.0, n_epochs=9, patience=2)
    model.fit(train, eval_set=test)
    assert [record["epoch"] for record in model.history_] == [1, 2]
    np.testing.assert_allclose(model.user_bias_, fitted_biases(train, model.mean_rating_)[0],
                               atol=1e-6)
