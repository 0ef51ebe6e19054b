"""The unit of ratings does not matter: r → c r + d moves every prediction to c s + d."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import samples
import scipy.sparse as sp

import mfcore
from mfcore import BayesianMF, MatrixFactorization, NeuralMF, RatingAutoencoder, Ratings
from mfcore.objectives.biases import mean_rating, rating_scale
from mfcore.validation import DivergenceError

SOLVERS = ("cg", "cholesky", "subspace", "lbfgs", "sgd", "adam")
EXACT = ("cg", "cholesky", "subspace", "lbfgs")
FEATURES = [["a"], ["b"], ["a", "b"], []]
# What a fit takes, for each of its rows: nothing, features, and what is rated.
KNOWN: dict[str, dict[str, Any]] = {
    "ratings alone": {},
    "features": {"user_features": [FEATURES[row % 4] for row in range(40)]},
    "history": {"user_features": "history", "item_features": "history"}}


def ratings(c: float, d: float, weighted: bool = False) -> Ratings:
    """The sample with its ratings times c, plus d."""
    cells = samples.matrix(40, 25)
    moved = sp.csr_array((c * cells.data + d, cells.indices, cells.indptr), cells.shape)
    return Ratings(moved, weights=samples.weights(cells) if weighted else None)


def moved_by(make: Any, c: float = 10.0, d: float = 3.0, *, weighted: bool = False,
             new: sp.csr_array | None = None, **given: Any) -> float:
    """How far predictions are from those for ratings in another unit, in ranges of the ratings.

    new : rows of new users to predict for, or None
    """
    pairs = [grid.ravel() for grid in np.indices((40 if new is None else new.shape[0], 25))]
    scores = []
    for unit, start in ((1.0, 0.0), (c, d)):
        rows = None if new is None else sp.csr_array(
            (unit * new.data + start, new.indices, new.indptr), new.shape)
        model = make(unit, start).fit(ratings(unit, start, weighted), **given)
        scores.append(model.predict(*pairs, ratings=rows))
    plain, moved = scores
    return float(np.abs(moved - (c * plain + d)).max() / (c * np.ptp(samples.matrix(40, 25).data)))


def factorization(**params: Any) -> Any:
    return lambda c, d: MatrixFactorization(4, random_state=0, **params)


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("known", KNOWN)
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_factorization_moves_with_its_ratings(solver, known, weighted):
    error = moved_by(factorization(solver=solver, dtype="float64"), weighted=weighted,
                     **KNOWN[known])
    assert error <= (1e-6 if solver in EXACT else 1e-3)


@pytest.mark.parametrize("params", [
    {"bias": "mean"}, {"features": "average"}, {"bias_reg": None, "bias_reg_scaling": None},
    {"solver": "sgd", "schedule": "adagrad"}, {"solver": "adam", "weight_decay": "decoupled"},
    {"bias": "mean", "unknown_weight": 0.1, "unknown_value": "bias"}], ids=str)
@pytest.mark.parametrize(("c", "d"), [(10.0, 3.0), (1e-5, -2.0), (1e4, 0.0)])
def test_so_does_every_kind_of_factorization(params, c, d):
    error = moved_by(factorization(**params, dtype="float64"), c, d, **KNOWN["features"])
    assert error <= 1e-6


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_rating_assumed_for_unknown_cells_moves_too(solver):
    assert moved_by(lambda c, d: MatrixFactorization(
        4, unknown_weight=0.2, unknown_value=2.0 * c + d, solver=solver, dtype="float64",
        random_state=0)) <= 1e-6


@pytest.mark.parametrize("solver", SOLVERS)
def test_without_biases_the_scale_alone_does_not_matter(solver):
    make = factorization(bias=None, solver=solver, dtype="float64")
    assert moved_by(make, 10.0, 0.0) <= 1e-6


def test_predictions_for_new_rows_move_too():
    new = samples.matrix(6, 25, seed=9)
    assert moved_by(factorization(dtype="float64"), new=new) <= 1e-6
    for made in (NeuralMF(4, random_state=0), RatingAutoencoder((8,), random_state=0)):
        assert moved_by(lambda c, d, made=made: type(made)(**made.get_params()), new=new) <= 1e-3


@pytest.mark.parametrize("made", [
    lambda: NeuralMF(4, random_state=0),
    lambda: NeuralMF(4, fusion="concat", bias="mean", random_state=0),
    lambda: NeuralMF(4, fusion="product", hidden=(), optimizer="sgd", random_state=0),
    lambda: RatingAutoencoder((8,), random_state=0),
    lambda: RatingAutoencoder((8,), orientation="item", random_state=0),
    lambda: RatingAutoencoder((8,), scale="range", optimizer="lbfgs", random_state=0)],
    ids=["gmf+mlp", "concat", "product", "users", "items", "range"])
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
def test_networks_move_with_their_ratings(made, weighted):
    assert moved_by(lambda c, d: made(), weighted=weighted) <= 1e-3


class Tuned:
    """A network that starts from a factorization of the same ratings."""

    def __init__(self, **params: Any) -> None:
        self.network = NeuralMF(4, random_state=0, **params)

    def fit(self, given: Ratings, **known: Any) -> NeuralMF:
        first = MatrixFactorization(4, dtype="float64", random_state=0).fit(given, **known)
        return self.network.fit(given, pretrained=first, **known)


@pytest.mark.parametrize("known", KNOWN)
@pytest.mark.parametrize("freeze", [False, True])
def test_networks_that_start_from_a_factorization_do_too(freeze, known):
    assert moved_by(lambda c, d: Tuned(freeze=freeze), **KNOWN[known]) <= 1e-3


@pytest.mark.parametrize("known", KNOWN)
def test_a_posterior_moves_with_its_ratings(known):
    def make(c, d):
        return BayesianMF(4, n_epochs=60, burn_in=20, keep=20, dtype="float64", random_state=0)

    assert moved_by(make, **KNOWN[known]) <= 1e-6          # (the same draws)


def test_a_pair_of_networks_starts_at_the_mean_of_scores_of_another_unit():
    pair = [NeuralMF(4, fusion=fusion, hidden=hidden, n_epochs=2, random_state=0).fit(
        ratings(10.0, 3.0)) for fusion, hidden in (("product", ()), ("concat", (5,)))]
    model = NeuralMF(4, hidden=(5,), dropout=0.0, n_epochs=1, learning_rate=1e-12, optimizer="sgd")
    model.fit(ratings(10.0, 3.0, weighted=True), pretrained=tuple(pair))
    assert model.rating_scale_ != pair[0].rating_scale_
    users, items = (grid.ravel() for grid in np.indices((40, 25)))
    known = (model.user_counts_[users] > 0) & (model.item_counts_[items] > 0)
    wanted = sum(each.predict(users, items) for each in pair) / 2
    np.testing.assert_allclose(model.predict(users, items)[known], wanted[known], rtol=1e-4)


# ------------------------------------------------------------------------- the unit itself

def test_the_unit_is_the_weighted_deviation_of_all_ratings():
    cells = samples.matrix(40, 25)
    for w in (np.ones(cells.nnz), samples.weights(cells)):
        mean = np.average(cells.data, weights=w)
        wanted = np.sqrt(np.average((cells.data - mean) ** 2, weights=w))
        given = Ratings(cells, weights=w)
        assert rating_scale(given, mean_rating(given)) == pytest.approx(wanted, rel=1e-12)
        for made in (MatrixFactorization, NeuralMF, BayesianMF, RatingAutoencoder):
            model = samples.small(made).fit(given)
            assert model.rating_scale_ == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, 3.3, -7e5, 1e300, 1e-300])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_is_one_where_all_ratings_are_equal(value, dtype):
    cells = samples.matrix(40, 25)
    cells.data = np.full(cells.nnz, min(value, 1e38), dtype)
    for weights in (None, samples.weights(cells), np.zeros(cells.nnz)):
        given = Ratings(cells, weights=weights)
        assert rating_scale(given, mean_rating(given)) == 1.0


def test_ratings_without_weight_do_not_count():
    cells = samples.matrix(40, 25)
    cells.data[:] = 2.5
    cells.data[-1] = 4.0                                        # (whose weight is 0)
    given = Ratings(cells, weights=samples.weights(cells))
    assert rating_scale(given, mean_rating(given)) == 1.0


@pytest.mark.parametrize("size", [1e200, 1e150, 1e30, 1.0, 1e-30, 1e-40, 1e-200])
def test_it_is_found_whatever_the_size_of_ratings(size):
    plain, cells = samples.matrix(40, 25), samples.matrix(40, 25)
    cells.data = cells.data * size
    found = rating_scale(Ratings(cells), mean_rating(Ratings(cells)))
    assert found == pytest.approx(size * np.std(plain.data), rel=1e-6)


# Every fit in the unit of its ratings, and, at the end, one that needs no unit.
IN_UNITS = {
    **{f"{solver}, {bias}": (MatrixFactorization, {"solver": solver, "bias": bias})
       for solver in SOLVERS for bias in ("learned", "mean", None)},
    **{f"{solver}, unknown cells": (MatrixFactorization, {"solver": solver, "unknown_weight": 0.1})
       for solver in EXACT},
    "adagrad": (MatrixFactorization, {"solver": "sgd", "schedule": "adagrad"}),
    "BayesianMF": (BayesianMF, {}), "NeuralMF": (NeuralMF, {}),
    "RatingAutoencoder": (RatingAutoencoder, {"scale": "deviation"}),
    "of items": (RatingAutoencoder, {"orientation": "item"}),
    "RatingAutoencoder, lbfgs": (RatingAutoencoder, {"optimizer": "lbfgs"}),
    "BiasOnly": (mfcore.BiasOnly, {})}


def sized(power: int) -> Ratings:
    """The sample plus 1, times 10^power."""
    cells = samples.matrix(40, 25)
    cells.data = (1.0 + cells.data) * 10.0 ** power
    return Ratings(cells)


def relative_errors(model: Any, power: int) -> np.ndarray:
    """Errors of a fit to ratings of a size, divided by that size."""
    given = sized(power)
    pairs = given.users_of_cells, given.by_user.indices
    return (model.fit(given).predict(*pairs) - given.by_user.data) / 10.0 ** power


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", IN_UNITS)
def test_ratings_of_any_size_are_learned_alike_or_refused_with_the_cure(name, dtype):
    """Numbers that overflow or vanish within a fit would leave vectors that say nothing."""
    made, params = IN_UNITS[name]
    if made is not mfcore.BiasOnly:
        params = {**params, "dtype": dtype}
    plain = relative_errors(samples.small(made, **params), 0)
    for power in (5, -5, 9, -9, 12, -12, 20, -20, 37, -37, 150, -150, 300, -300):
        if power <= (150 if made is mfcore.BiasOnly else 9) and (
                power >= -9 or made is mfcore.BiasOnly):
            errors = relative_errors(samples.small(made, **params), power)
            np.testing.assert_allclose(errors, plain, atol=0.02 if dtype == "float32" else 1e-4)
        else:
            with pytest.raises(DivergenceError, match="rescale"):
                samples.small(made, **params).fit(sized(power))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ratings_far_from_zero_are_refused_with_the_cure(dtype):
    cells = samples.matrix(40, 25)
    cells.data = cells.data + 1e14
    with pytest.raises(DivergenceError, match="at most .* in size.*subtract a constant"):
        samples.small(MatrixFactorization, dtype=dtype).fit(cells)


def test_rankings_and_labels_have_no_unit():
    labels = samples.matrix()
    labels.data = (labels.data > 2).astype(float)
    logistic = samples.small(MatrixFactorization, loss="logistic", solver="sgd").fit(labels)
    choices = samples.small(NeuralMF, loss="logistic").fit(samples.counts())
    for model in (logistic, choices, samples.small(mfcore.EASE).fit(samples.counts())):
        assert model.rating_scale_ == 1.0


@pytest.mark.parametrize("confidence", ["linear", "log", "raw", "constant"])
def test_counts_are_measured_in_their_mean(confidence):
    plays = samples.counts(40, 25)
    seconds = sp.csr_array((210.5 * plays.data, plays.indices, plays.indptr), plays.shape)
    found = [mfcore.ImplicitMF(4, reg=5.0, confidence=confidence, solver="cholesky",
                               dtype="float64", random_state=0).fit(each)
             for each in (plays, seconds)]
    assert found[0].rating_scale_ == pytest.approx(plays.data[plays.data > 0].mean())
    np.testing.assert_allclose(found[0].user_factors_, found[1].user_factors_, rtol=1e-6,
                               atol=1e-8)
    rows = found[1].fold_in_users(seconds[:5]).factors
    np.testing.assert_allclose(rows, found[1].user_factors_[:5], rtol=1e-6, atol=1e-8)


def test_a_unit_of_one_leaves_penalties_as_other_libraries_have_them():
    cells = samples.matrix(40, 25)
    params = {"bias": None, "solver": "cholesky", "dtype": "float64", "random_state": 0}
    own = MatrixFactorization(4, reg=0.4, rating_scale=1.0, **params).fit(cells)
    wanted = MatrixFactorization(4, reg=0.4 / np.std(cells.data), init_scale=np.std(cells.data)
                                 ** -0.5, **params).fit(cells)
    assert own.rating_scale_ == 1.0
    assert own.objective()["total"] == pytest.approx(wanted.objective()["total"], rel=1e-9)
    with pytest.raises(ValueError, match="rating_scale must be finite and > 0"):
        MatrixFactorization(rating_scale=0.0).fit(cells)


def test_the_unit_is_kept_for_new_rows_and_in_the_file(tmp_path):
    model = MatrixFactorization(4, solver="cholesky", dtype="float64", random_state=0).fit(
        ratings(10.0, 3.0))
    rows = model.ratings_.by_user[[5]]                        # whose own deviation is another
    np.testing.assert_allclose(model.fold_in_users(rows).factors[0], model.user_factors_[5],
                               rtol=1e-9)
    model.save(tmp_path / "model")
    loaded = mfcore.load(tmp_path / "model")
    assert loaded.rating_scale_ == model.rating_scale_
    assert loaded.objective() == model.objective()
    refitted = loaded.partial_fit(rows, users=[5])
    np.testing.assert_allclose(refitted.user_factors_[5], model.user_factors_[5], rtol=1e-9)
