"""Penalties that the data choose: found before a fit, in its units, and near the best."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from mfcore import BiasOnly, ImplicitMF, MatrixFactorization, Ratings, evaluate, load
from mfcore.data.split import random_split
from mfcore.objectives.factors import Factors
from mfcore.objectives.quadratic import Cells
from mfcore.parallel import Pool
from mfcore.solvers.automatic import Trial, ranked

AUTO = {"reg": "auto", "bias_reg": "auto", "random_state": 0}
COUNTED = {"reg": "auto", "alpha": 4.0, "rating_scale": None, "random_state": 0}


def rated(noise, seed=0, n_users=300, n_items=120, share=0.2, rank=3):
    """Return ratings of biases, a few factors, and normal noise."""
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal((n_users, rank)) @ rng.standard_normal((rank, n_items)) \
        + rng.standard_normal((n_users, 1)) + rng.standard_normal(n_items)
    users, items = np.nonzero(rng.random((n_users, n_items)) < share)
    return Ratings.from_arrays(users, items,
                               truth[users, items] + noise * rng.standard_normal(len(users)))


def groups_that_buy_apart(seed=0, n_groups=20, size=100, share=0.05):
    """Return purchases of groups of users, each among items of its own, none a best-seller."""
    rng = np.random.default_rng(seed)
    n = n_groups * size
    users = np.repeat(np.arange(n), round(share * size))
    items = users // size * size + rng.integers(0, size, len(users))
    return Ratings.from_arrays(users, items, duplicates="sum")


def error(model, train, test):
    return evaluate(model.fit(train), test, metrics="rmse")["rmse"]


@pytest.mark.parametrize("noise", [0.3, 1.0, 4.0])
def test_what_is_found_is_near_the_best_of_a_grid(noise):
    train, test = random_split(rated(noise), 0.2, 0, keep=1)
    found = error(MatrixFactorization(**AUTO), train, test)
    grid = [error(MatrixFactorization(reg=reg, bias_reg=2.0, random_state=0), train, test)
            for reg in 10.0 ** np.arange(-2, 2.1, 0.5)]
    assert found <= 1.03 * min(grid)
    assert found <= 1.01 * error(BiasOnly(), train, test)


def test_noise_asks_for_more():
    found = [MatrixFactorization(**AUTO).fit(rated(noise)).reg_ for noise in (0.3, 1.0, 4.0)]
    assert found == sorted(found)


@pytest.mark.parametrize(("c", "d"), [(10.0, 3.0), (0.01, -7.0)])
def test_it_does_not_depend_on_scale_and_shift(c, d):
    ratings = rated(1.0)
    moved = Ratings.from_arrays(ratings.users_of_cells, ratings.by_user.indices,
                                c * ratings.by_user.data + d)
    one, other = (MatrixFactorization(**AUTO, dtype="float64").fit(each)
                  for each in (ratings, moved))
    assert other.reg_ == pytest.approx(one.reg_, rel=1e-4)
    np.testing.assert_allclose(other.bias_reg_, one.bias_reg_, rtol=1e-4)


@pytest.mark.parametrize("bias", ["learned", "mean"])
@pytest.mark.parametrize("size", [1e-6, 1e4])
def test_it_goes_with_the_size_of_weights(bias, size):
    ratings = rated(1.0)
    w = np.random.default_rng(1).uniform(0, 2, ratings.nnz)
    users, items = ratings.users_of_cells, ratings.by_user.indices
    one, other = (MatrixFactorization(**AUTO, bias=bias, dtype="float64").fit(
        Ratings.from_arrays(users, items, ratings.by_user.data, c * w)) for c in (1.0, size))
    assert other.reg_ == pytest.approx(size * one.reg_, rel=1e-6)
    np.testing.assert_allclose(other.predict(users, items), one.predict(users, items), atol=1e-6)


@pytest.mark.parametrize("model", [MatrixFactorization(**AUTO), ImplicitMF(**COUNTED)], ids=str)
def test_it_is_the_same_for_any_number_of_threads_and_goes_with_the_file(model, tmp_path):
    ratings = groups_that_buy_apart()
    found = [type(model)(**{**model.get_params(), "n_threads": n}).fit(ratings).reg_
             for n in (1, 2, 8)]
    assert len(set(found)) == 1
    fitted = model.fit(ratings)
    fitted.save(tmp_path / "model")
    assert load(tmp_path / "model").reg_ == fitted.reg_ == found[0]
    assert model.reg == "auto"


def test_purchases_without_best_sellers_leave_vectors_that_say_something():
    ratings = groups_that_buy_apart()
    train, test = random_split(ratings, 0.2, 0, keep=1)
    model = ImplicitMF(**COUNTED).fit(train)
    assert np.abs(model.user_factors_).max() > 0.01
    assert evaluate(model, test, metrics="recall@20")["recall@20"] > 0.12     # (by chance .01)


@pytest.mark.parametrize("given", [
    Ratings.from_arrays([0, 0, 0], [0, 1, 2], [1.0, 2.0, 5.0]),                     # one user
    Ratings.from_arrays([0, 0, 1], [0, 1, 1], [3.0, 3.0, 3.0]),                     # constant
    Ratings.from_arrays(np.repeat(range(5), 4), np.tile(range(4), 5),
                        np.arange(20.0) % 5 + 1),                                   # all known
    Ratings.from_arrays([0], [0], [2.0])], ids=["one user", "constant", "all known", "one"])
@pytest.mark.parametrize("model", [MatrixFactorization(**AUTO), ImplicitMF(**COUNTED),
                                   MatrixFactorization(**AUTO, unknown_weight=0.1)], ids=str)
def test_there_is_always_a_penalty(model, given):
    model.fit(given)
    assert 0 < model.reg_ < np.inf
    assert np.isfinite(model.predict([0], [0])).all()


def test_a_place_that_no_item_takes_is_no_hit():
    """The user before holds out the last item, whose number is that of no item here."""
    def cells(indptr, indices):
        ones = np.ones(len(indices))
        return Cells(np.array(indptr), np.array(indices), ones, ones, np.array([1.0, 0, 1, 0]))

    at = Factors(np.ones((2, 1)), np.ones((3, 1)), np.zeros(2), np.array([0.0, 1.0, 2.0]))
    known = SimpleNamespace(by_user=cells([0, 1, 3], [0, 1, 2]))
    with Pool(1) as pool:
        values = ranked(Trial(known, cells([0, 1, 2], [2, 0]), at), np.arange(2), pool)
    np.testing.assert_allclose(values, 1)


@pytest.mark.parametrize(("r", "w"), [(0.0, None), (3.0, np.zeros(20))], ids=["zeros", "no weight"])
def test_there_is_one_where_known_cells_ask_for_nothing(r, w):
    given = Ratings.from_arrays(np.repeat(range(5), 4), np.arange(20) % 7, np.full(20, r), w)
    model = MatrixFactorization(**AUTO, unknown_weight=0.1).fit(given)
    assert 0.01 < model.reg_ < 100
