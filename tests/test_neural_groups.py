"""NeuralMF with features: vectors of groups beside those of rows, in training and for new rows."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import samples
import scipy.sparse as sp

from mfcore import MatrixFactorization, NeuralMF, Ratings, evaluate, load
from mfcore.data.features import concatenate, multi_hot, numeric, one_hot
from mfcore.data.synthetic import planted
from mfcore.gradcheck import gradcheck
from mfcore.models.pairs.fusion import Architecture, Known
from mfcore.nn.losses import squared
from mfcore.nn.network import value_and_gradients
from mfcore.parallel import Pool

COUNTRY = ["uk", "fr", "uk", "de", "fr", "uk", "de", "uk", "fr", "uk", "de"]
USERS = concatenate(one_hot(COUNTRY, "country"), numeric(np.linspace(0.2, 1.2, 11), "age"))
GENRES = multi_hot(["a|b", "b", "", "c", "a|c", "b", "a", "c|b"], "genre")
BOTH = {"user_features": USERS, "item_features": GENRES}
LOSSES = ["squared", "logistic"]
every_loss = pytest.mark.parametrize("loss", LOSSES)


def made(loss="squared", fusion="gmf+mlp", hidden=(5, 4), **changes):
    return NeuralMF(3, **{"loss": loss, "fusion": fusion, "hidden": hidden, "n_epochs": 4,
                          "batch_size": 16, "random_state": 0, "n_threads": 1,
                          "learning_rate": 0.01, "feature_reg": 0.7, **changes})


def fitted(*given, features=BOTH, ratings=None, **changes):
    return made(*given, **changes).fit(samples.matrix() if ratings is None else ratings,
                                       **features)


def numbers(model):
    return [model.user_factors_, model.item_factors_, model.user_bias_, model.weights_,
            model.user_feature_factors_, model.item_feature_factors_, model.user_feature_bias_]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(numbers(one), numbers(other), strict=True))


# ------------------------------------------------------------------------ the formula

@pytest.mark.parametrize(("fusion", "hidden"), [
    ("concat", (5,)), ("product", (4,)), ("product", ()), ("gmf+mlp", (5,))])
@pytest.mark.parametrize("learns_bias", [True, False])
def test_the_formula_has_the_penalty_of_groups_once_an_epoch_and_its_gradient(
        fusion, hidden, learns_bias):
    random, cells = np.random.default_rng(0), np.array(list(product(range(5), range(4))))
    shape = Architecture(fusion, 3, hidden, "tanh", 0.0, True, np.dtype(np.float64))
    sides = []
    for name, n, F in (("user", 5, USERS.matrix[:5]), ("item", 4, GENRES.matrix[:4])):
        known = Known(F, random.uniform(0.3, 2, F.shape[1]))
        sides.append(shape.grouped(name, shape.drawn(name, n, 1.0, random), known, learns_bias))
    head = shape.head(random)
    network = shape.network(*sides, head, 0.7, 0.3, n_visited=len(cells))
    for each in network.parameters():
        each.value += 0.3 * random.normal(size=each.value.shape)
    # (The same network without groups, at the vectors that they make.)
    alone = [shape.side(name, shape.factors(side), shape.bias(side))
             for name, side in zip(("user", "item"), sides, strict=True)]
    y = random.normal(size=(len(cells), 1))
    named = {p.name: p for p in network.parameters()}
    assert ("user_group_bias" in named) == learns_bias
    with Pool(1) as pool:
        def value_of(which):
            return value_and_gradients(which, squared, [(cells, (y, 1.0))], pool)

        def function(at):
            for name, parameter in named.items():
                parameter.value[...] = at[name]
            value, gradients = value_of(network)
            return value, {name: gradients.dense(p) for name, p in named.items()}

        own = sum(reg * n_uses * (side.tables[t].value ** 2).sum()
                  for side, n_uses in zip(sides, (4, 5), strict=True)
                  for t, reg in enumerate([0.7] * shape.n_tables + [0.3]))
        theirs = sum(side.group_reg @ (each.value ** 2).sum(axis=1)
                     for side in sides for each in side.groups)
        assert value_of(network)[0] == pytest.approx(
            value_of(shape.network(*alone, head))[0] + own + theirs)
        assert gradcheck(function, {name: p.value.copy() for name, p in named.items()}).ok


# ------------------------------------------------------------------------- training

@every_loss
def test_vectors_of_features_of_both_sides_are_learned(loss):
    model = fitted(loss)
    assert model.user_feature_factors_.shape == (4, 6)
    assert model.item_feature_factors_.shape == (3, 6)
    assert model.user_feature_bias_.shape == (4,)
    assert all(np.abs(block).max() > 0 for block in numbers(model))
    items, scores = model.recommend(user_features=[["country=uk"], []], k=3)
    assert items.shape == (2, 3)
    assert np.isfinite(scores).all()


@every_loss
@pytest.mark.parametrize("fusion", ["concat", "product", "gmf+mlp"])
def test_features_of_zeros_change_nothing(loss, fusion):
    nothing = {name: sp.csr_array((n, 2)) for name, n in (("user_features", 11),
                                                          ("item_features", 8))}
    one, other = fitted(loss, fusion, features=nothing), fitted(loss, fusion, features={})
    for a, b in zip(numbers(one)[:4], numbers(other), strict=False):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(one.user_feature_factors_, 0)


def test_a_strong_penalty_keeps_groups_at_zero():
    strong, weak = fitted(feature_reg=1e6), fitted(feature_reg=0.7)
    assert np.abs(strong.user_feature_factors_).max() < \
        0.1 * np.abs(weak.user_feature_factors_).max()


@pytest.mark.parametrize("fusion", ["concat", "gmf+mlp"])
def test_a_user_without_ratings_gets_exactly_its_prior(fusion):
    model, u = fitted("squared", fusion), samples.SILENT_USER
    prior = model.fold_in_users(user_features=USERS)
    np.testing.assert_allclose(model.user_factors_[u], prior.factors[u], rtol=1e-5, atol=1e-7)
    assert model.user_bias_[u] == pytest.approx(prior.bias[u], rel=1e-5)
    folded = model.fold_in_users(sp.csr_array((11, 8)), user_features=USERS)
    np.testing.assert_allclose(folded.factors, prior.factors, rtol=1e-6)
    others = np.arange(11) != u
    own = model.user_factors_ - USERS.matrix @ model.user_feature_factors_
    np.testing.assert_allclose(own[others].mean(axis=0), own[u], rtol=1e-4, atol=1e-6)


def test_an_average_is_the_mean_of_vectors_that_know_nothing_of_it():
    model = made(features="average").fit(samples.matrix(),
                                         user_features=one_hot(COUNTRY, "country"))
    plain = made().fit(samples.matrix())
    np.testing.assert_array_equal(model.user_factors_, plain.user_factors_)
    members = np.array(COUNTRY) == "fr"
    np.testing.assert_allclose(model.user_feature_factors_[1],
                               plain.user_factors_[members].mean(axis=0), rtol=1e-5)


def test_what_a_user_has_rated_can_be_its_features():
    model = fitted(features={"user_features": (USERS, "history")}, history_reg=2.0)
    assert model.user_feature_factors_.shape == (4 + 8, 6)
    folded = model.fold_in_users(samples.matrix(3, 8, seed=4), user_features=[["age"], [], []])
    assert np.isfinite(folded.factors).all()


@every_loss
@pytest.mark.parametrize("lazy", [True, False])
def test_the_bits_do_not_depend_on_the_number_of_threads(loss, lazy):
    cells = samples.counts(300, 90)
    random = np.random.default_rng(0)
    features = {"user_features": one_hot(random.integers(0, 5, 300)),
                "item_features": one_hot(random.integers(0, 4, 90))}
    one, *more = [fitted(loss, ratings=cells, features=features, n_threads=n, lazy=lazy,
                         batch_size=2000, n_epochs=2) for n in (1, 2, 8)]
    assert all(same(one, other) for other in more)


# ------------------------------------------------------------------- from a fitted model

@pytest.mark.parametrize("learned", [True, False])
def test_training_starts_at_the_scores_and_groups_of_the_factorization(learned):
    features = BOTH if learned else {}
    first = MatrixFactorization(3, random_state=0, n_epochs=3).fit(samples.matrix(), **features)
    model = made(learning_rate=1e-12, n_epochs=1)
    model.fit(samples.matrix(), pretrained=first, **BOTH)
    users, items = np.divmod(np.arange(88), 8)
    rated = (model.user_counts_[users] > 0) & (model.item_counts_[items] > 0)
    np.testing.assert_allclose(model.predict(users, items)[rated],
                               first.predict(users, items)[rated], rtol=1e-4)
    wanted = np.hstack([first.user_feature_factors_] * 2) / first.rating_scale_ ** 0.5 \
        if learned else 0
    np.testing.assert_allclose(model.user_feature_factors_, wanted, atol=1e-6)


def test_frozen_groups_stay_and_must_have_been_learned():
    first = MatrixFactorization(3, random_state=0, n_epochs=3).fit(samples.matrix(), **BOTH)
    model = made(freeze=True).fit(samples.matrix(), pretrained=first, **BOTH)
    both = np.hstack([first.user_feature_factors_] * 2)
    np.testing.assert_allclose(model.user_feature_factors_, both / first.rating_scale_ ** 0.5,
                               rtol=1e-6)
    assert model.history_[-1]["loss"] < model.history_[0]["loss"]
    plain = MatrixFactorization(3, n_epochs=1).fit(samples.matrix())
    with pytest.raises(ValueError, match="must have learned those of the same user_features"):
        made(freeze=True).fit(samples.matrix(), pretrained=plain, **BOTH)


# ------------------------------------------------------------------------- cold start

def parted():
    """Generated ratings of groups that say much, a part of the users hidden."""
    data = planted(n_users=400, n_items=80, n_factors=3, n_groups=4, group_share=0.9,
                   random_state=5)
    cells, F = data.ratings.by_user, data.user_features.matrix
    return cells[:300], cells[300:], F[:300], F[300:]


def test_known_groups_serve_new_users_better_than_permuted_ones():
    train, new, F, F_new = parted()
    errors = []
    for rows in (np.arange(300), np.random.default_rng(0).permutation(300)):
        model = NeuralMF(4, n_epochs=15, batch_size=256, learning_rate=0.01, feature_reg=5.0,
                         random_state=0, n_threads=1).fit(train, user_features=F[rows])
        few = sp.csr_array(new.shape)
        errors.append([evaluate(model, Ratings(new), fold_in=given, user_features=F_new,
                                metrics="rmse")["rmse"] for given in (None, few)])
    assert errors[0][0] < 0.97 * errors[1][0]
    assert errors[0][0] == pytest.approx(errors[0][1], rel=1e-5)


@every_loss
def test_ratings_refine_what_the_features_say(loss):
    model, rows = fitted(loss), samples.matrix(2, 8, seed=7)
    both = [model.fold_in_users(rows, user_features=[[country]] * 2).factors
            for country in ("country=uk", "country=fr")]
    alone = model.fold_in_users(user_features=[["country=uk"]] * 2).factors
    assert not np.allclose(both[0], both[1], atol=1e-4)
    assert not np.allclose(both[0], alone, atol=1e-4)


def test_without_features_a_new_row_is_taken_for_an_average_one():
    model = fitted()
    mean = model.user_factors_.mean(axis=0)
    folded = model.fold_in_users(sp.csr_array((1, 8)))
    np.testing.assert_allclose(folded.factors[0], mean, rtol=1e-5, atol=1e-7)
    users, items = ["nobody"], ["i2"]
    named = fitted(ratings=samples.named())
    assert named.predict(users, items)[0] == pytest.approx(
        named.predict([0], ["i2"], ratings=sp.csr_array((1, 8)))[0], rel=1e-5)


# --------------------------------------------------------------------- saving, resuming

@every_loss
def test_a_saved_model_answers_for_features_as_before(tmp_path, loss):
    model = fitted(loss)
    model.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert same(again, model)
    given = [["country=uk", "age"]]
    for ask in (lambda m: m.recommend(user_features=given, k=4),
                lambda m: m.fold_in_users(samples.matrix(1, 8), user_features=given),
                lambda m: m.similar_groups(["country=uk"], k=2)):
        for one, other in zip(ask(model), ask(again), strict=True):
            np.testing.assert_array_equal(one, other)


@every_loss
def test_an_interrupted_fit_goes_on_from_its_checkpoint_to_the_same_bits(tmp_path, loss):
    def interrupt(model, record):
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    path = tmp_path / "checkpoint"
    with pytest.raises(KeyboardInterrupt):
        made(loss).fit(samples.matrix(), checkpoint=path, callbacks=[interrupt], **BOTH)
    with pytest.raises(ValueError, match="checksums of the features"):
        made(loss).fit(samples.matrix(), checkpoint=path)
    again = made(loss).fit(samples.matrix(), checkpoint=path, **BOTH)
    assert same(again, fitted(loss))


# -------------------------------------------------------------------------- bad input

@pytest.mark.parametrize(("changes", "error", "message"), [
    ({"features": "sum"}, ValueError, "features must be one of 'learned', 'average'"),
    ({"feature_reg": 0.0}, ValueError, "feature_reg must be finite and > 0"),
    ({"history_reg": -1.0}, ValueError, "history_reg must be finite and > 0")])
def test_parameters_out_of_range_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        made(**changes).fit(samples.matrix(), **BOTH)


def test_features_of_other_rows_are_refused():
    with pytest.raises(ValueError, match="user_features"):
        made().fit(samples.matrix(), user_features=GENRES)
