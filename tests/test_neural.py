"""NeuralMF: what it minimises, where it starts, and that it keeps every model's promises."""

from __future__ import annotations

import threading
from itertools import product

import numpy as np
import pytest
import samples
import scipy.sparse as sp

from mfcore import BPR, MatrixFactorization, NeuralMF, Ratings, evaluate, load
from mfcore.gradcheck import gradcheck
from mfcore.models.pairs.fusion import Architecture, flat
from mfcore.nn.losses import logistic, squared
from mfcore.nn.network import Blocks, Trainer, value_and_gradients
from mfcore.nn.optimizers import optimizer
from mfcore.parallel import Pool
from mfcore.solvers.neural import NeuralSGD, TrainingCells, _row_cells
from mfcore.validation import DivergenceError

FUSIONS = [("concat", (5, 4)), ("product", (4,)), ("product", ()), ("gmf+mlp", (5, 4))]
every_fusion = pytest.mark.parametrize(("fusion", "hidden"), FUSIONS)
LOSSES = ["squared", "logistic"]


def made(loss="squared", fusion="gmf+mlp", hidden=(5, 4), **changes):
    return NeuralMF(3, **{"loss": loss, "fusion": fusion, "hidden": hidden, "n_epochs": 4,
                          "batch_size": 16, "random_state": 0, "n_threads": 1,
                          "learning_rate": 0.01, **changes})


def fitted(*given, ratings=None, **changes):
    return made(*given, **changes).fit(samples.matrix() if ratings is None else ratings)


def architecture(fusion, hidden, **changes):
    return Architecture(**{"fusion": fusion, "n_factors": 3, "hidden": hidden, "activation": "tanh",
                           "dropout": 0.0, "biased": True, "dtype": np.dtype(np.float64),
                           **changes})


def score(shape, users, items, head, u, i):
    """The formula of one cell, from the text of models/pairs/fusion.py."""
    def mlp(x):
        for layer in head[:-1]:
            x = np.tanh(x @ layer.W.value + layer.b.value)
        return x

    p, q = users.tables[0].value[u], items.tables[0].value[i]
    last = {"concat": lambda: mlp(np.append(p, q)), "product": lambda: mlp(p * q),
            "gmf+mlp": lambda: np.append(p * q, mlp(np.append(users.tables[1].value[u],
                                                              items.tables[1].value[i])))}
    f = last[shape.fusion]() @ head[-1].W.value + head[-1].b.value
    return (f + users.tables[-1].value[u] + items.tables[-1].value[i])[0]


# ------------------------------------------------------------------------ the formula

@every_fusion
def test_the_network_is_the_formula_and_its_gradient_is_right(fusion, hidden):
    random, shape = np.random.default_rng(0), architecture(fusion, hidden)
    users, items = shape.drawn("user", 5, 1.0, random), shape.drawn("item", 4, 1.0, random)
    head = shape.head(random)
    for each in (*users.tables, *items.tables, *(p for layer in head for p in layer.parameters())):
        each.value += 0.3 * random.normal(size=each.value.shape)
    network = shape.network(users, items, head, 0.7, 0.3)
    pairs = np.array(list(product(range(5), range(4))))[:13]
    y, w = random.normal(size=(13, 1)), random.uniform(0.3, 2, (13, 1))
    named = {p.name: p for p in network.parameters()}
    with Pool(1) as pool:
        def function(at):
            for name, parameter in named.items():
                parameter.value[...] = at[name]
            value, gradients = value_and_gradients(network, squared, [(pairs, (y, w))], pool,
                                                   share=0.4)
            return value, {name: gradients.dense(p) for name, p in named.items()}

        at = {name: p.value.copy() for name, p in named.items()}
        s = np.array([score(shape, users, items, head, u, i) for u, i in pairs])
        u, i = pairs.T
        paid = sum((side.tables[t].value[rows] ** 2).sum() for t in range(shape.n_tables)
                   for side, rows in ((users, u), (items, i)))
        bias = (users.tables[-1].value[u] ** 2).sum() + (items.tables[-1].value[i] ** 2).sum()
        assert function(at)[0] == pytest.approx(
            (w[:, 0] * (y[:, 0] - s) ** 2).sum() + 0.4 * (0.7 * paid + 0.3 * bias))
        assert gradcheck(function, at).ok


def weighted(m=3, w0=0.37):
    cells = samples.matrix()
    y = (cells.data > 2).astype(np.float64)
    return TrainingCells(cells, y, np.random.default_rng(1).uniform(0.5, 2, cells.nnz), m, w0)


def test_without_weight_no_unknown_cells_are_drawn():
    assert TrainingCells(samples.matrix(), samples.matrix().data, n_drawn=3).n_drawn == 0


@pytest.mark.parametrize("m", [1, 4])
def test_drawn_unknown_cells_give_the_formula_and_its_gradient_in_expectation(m):
    cells, random = weighted(m), np.random.default_rng(0)
    n_users, n_items = cells.pattern.shape
    shape = architecture("gmf+mlp", (4,))
    users, items = (shape.drawn(*side, 2.0, random)
                    for side in (("user", n_users), ("item", n_items)))
    network = shape.network(users, items, shape.head(random))
    every = np.array(list(product(range(n_users), range(n_items))), np.int32)
    known = samples.stored(cells.pattern).ravel()
    y, w = np.zeros(len(every)), np.full(len(every), 0.37)
    y[known], w[known] = cells.y, cells.w
    with Pool(1) as pool:
        def of(pairs, y, w):
            value, gradients = value_and_gradients(network, logistic, [(pairs, (y, w))], pool)
            return np.concatenate([[value], *(gradients.dense(p).ravel()
                                              for p in network.parameters())])

        wanted = of(every, y[:, None], w[:, None])
        draws = np.array([of(*cells.batch(np.arange(len(cells.y)), np.random.default_rng(n)))
                          for n in range(600)])
    error = draws.std(axis=0) / np.sqrt(len(draws)) + 1e-12
    z = (draws.mean(axis=0) - wanted) / error
    assert np.abs(z).max() < 4.5
    assert np.sqrt((z ** 2).mean()) < 1.4
    wrong = draws.mean(axis=0) * 1.2 - wanted
    assert np.abs(wrong / error).max() > 10


@pytest.mark.kernel
def test_drawn_cells_are_unknown_and_equally_likely():
    cells = weighted()
    drawn = cells.draw(20000, np.random.default_rng(0))
    stored = samples.stored(cells.pattern)
    counts = np.zeros(stored.shape)
    np.add.at(counts, tuple(drawn.T), 1)
    assert not counts[stored].any()
    expected = 20000 / (~stored).sum()
    assert (np.abs(counts[~stored] - expected) < 5 * np.sqrt(expected)).all()


def test_every_known_cell_is_visited_once_an_epoch():
    cells = weighted()
    solver = NeuralSGD(cells, None, 10, seed=3)
    known, seen = sorted(map(tuple, cells.pairs.tolist())), []
    for parts, n in solver.batches():
        found = [pair for x, _ in parts for pair in map(tuple, x.x.tolist()) if pair in known]
        assert len(found) == n                           # (what is drawn beside is unknown)
        seen += found
    assert sorted(seen) == known


def test_every_epoch_has_an_order_and_draws_of_its_own_and_is_counted():
    shape, random = architecture("product", ()), np.random.default_rng(0)
    cells = weighted()
    sides = [shape.drawn(*side, 2.0, random) for side in zip(("user", "item"), cells.pattern.shape,
                                                             strict=True)]
    solver = NeuralSGD(cells, Trainer(shape.network(*sides, shape.head(random)), logistic,
                                      optimizer("sgd", 1e-3)), 10, seed=3)
    orders = []
    with Pool(1) as pool:
        for n in range(3):
            assert solver.state()["done"] == n
            orders.append(np.concatenate([x.x for parts, _ in solver.batches() for x, _ in parts]))
            loss = solver.epoch(Blocks(W=np.zeros(2)), pool)
            assert 0 < loss < 10
    assert not np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[1], orders[2])


@pytest.mark.parametrize("n_drawn", [0, 3])
def test_a_new_rows_cells_are_its_own_and_all_unknown_ones_weigh_as_much_as_there_are(n_drawn):
    cells = weighted(n_drawn)
    lo, hi, dense = 3, 7, samples.stored(cells.pattern)
    items = np.array([0, 2, 5, 6]) if n_drawn else np.empty(0, int)
    rows, (y, w) = _row_cells(cells, lo, hi, items)
    pairs = list(map(tuple, (rows.x + [lo, 0]).tolist()))
    known = [(u, i) for u in range(lo, hi) for i in np.flatnonzero(dense[u])]
    unknown = [(u, i) for u in range(lo, hi) for i in items if not dense[u, i]]
    assert pairs == known + unknown
    of = slice(*cells.pattern.indptr[[lo, hi]])
    np.testing.assert_array_equal(y[:, 0], [*cells.y[of], *[0] * len(unknown)])
    np.testing.assert_array_equal(w[:len(known), 0], cells.w[of])
    for u in range(lo, hi) if n_drawn else ():
        weights = [each for (row, _), each in zip(pairs[len(known):], w[len(known):, 0],
                                                  strict=True) if row == u]
        if weights:
            assert sum(weights) == pytest.approx(0.37 * (~dense[u]).sum())
            assert len(set(weights)) == 1


def test_parts_of_a_batch_share_no_row_of_the_shorter_side_but_one():
    R = sp.random_array((400, 30), density=0.5, rng=np.random.default_rng(0)).tocsr()
    solver = NeuralSGD(TrainingCells(R, R.data, R.data), None, 1024, seed=3)
    (first, (y, w)), (second, _) = next(solver.batches())[0]
    assert first.x[-1, 1] <= second.x[0, 1]
    np.testing.assert_array_equal(y[:, 0], R.toarray()[first.x[:, 0], first.x[:, 1]])
    np.testing.assert_allclose(w, y / 1024)


def test_the_weights_of_unknown_cells_are_what_their_names_say():
    ratings = Ratings(samples.matrix(), weights=samples.weights(samples.matrix()))
    total, n_unknown = ratings.weights.sum(), 11 * 8 - ratings.nnz
    for name, wanted in (("balanced", total / n_unknown), (0.25, 0.25),
                         ("drawn", 3 * total / n_unknown)):
        model = fitted("logistic", n_negatives=3, unknown_weight=name, ratings=ratings)
        assert model.unknown_weight_ == pytest.approx(wanted, rel=1e-6)
    plain = fitted("logistic", n_negatives=3)
    assert plain.answers().cells(plain.ratings_).drawn_weight == pytest.approx(1)


# ------------------------------------------------------------------------- learning

@every_fusion
@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_falls(fusion, hidden, loss, planted):
    model = fitted(loss, fusion, hidden, ratings=planted.ratings, n_epochs=12, batch_size=128,
                   reg=0.001)
    losses = [record["loss"] for record in model.history_]
    assert losses[-1] < 0.9 * losses[0]


def test_ratings_are_predicted_better_than_by_means(planted):
    from mfcore import BiasOnly
    from mfcore.data.split import random_split

    train, test = random_split(planted.ratings, 0.2, random_state=0)
    model = fitted("squared", "product", (), ratings=train, n_epochs=60, batch_size=256,
                   reg=0.01, learning_rate=0.01)
    assert evaluate(model, test, metrics="rmse")["rmse"] < \
        0.9 * evaluate(BiasOnly().fit(train), test, metrics="rmse")["rmse"]


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "momentum", "nesterov", "adagrad",
                                       "rmsprop"])
@pytest.mark.parametrize("lazy", [True, False])
def test_every_optimizer_learns(optimizer, lazy):
    model = fitted(optimizer=optimizer, lazy=lazy, clip=5.0, decay=0.1)
    assert model.history_[-1]["loss"] < model.history_[0]["loss"]


def test_a_bias_that_is_a_mean_stays_as_it_is():
    model = fitted(bias="mean")
    apart = MatrixFactorization(3, bias="mean", n_epochs=1).fit(samples.matrix())
    np.testing.assert_allclose(model.user_bias_, apart.user_bias_, rtol=1e-6)
    np.testing.assert_allclose(model.item_bias_, apart.item_bias_, rtol=1e-6)
    folded = model.fold_in_users(samples.matrix())
    np.testing.assert_allclose(folded.bias, model.user_bias_, rtol=1e-6)


# ------------------------------------------------------------------- from a fitted model

@pytest.mark.parametrize(("fusion", "hidden"), [("product", ()), ("gmf+mlp", (5, 4))])
@pytest.mark.parametrize("bias", ["learned", "mean", None])
def test_a_product_starts_at_the_scores_of_the_factorization(fusion, hidden, bias):
    first = samples.fitted("plain", bias=bias)
    model = made("squared", fusion, hidden, learning_rate=1e-12, n_epochs=1,
                 bias="learned" if bias else None)
    model.fit(samples.matrix(), pretrained=first)
    users, items = np.divmod(np.arange(88), 8)
    rated = (model.user_counts_[users] > 0) & (model.item_counts_[items] > 0)
    np.testing.assert_allclose(model.predict(users, items)[rated],
                               first.predict(users, items)[rated], rtol=1e-4)


def test_frozen_vectors_stay_and_others_move():
    first = samples.fitted("learned")
    frozen = made(freeze=True).fit(samples.matrix(), pretrained=first)
    tuned = made().fit(samples.matrix(), pretrained=first)
    for name in ("user_factors_", "item_factors_"):        # (in units of the ratings' deviation)
        both = np.hstack([getattr(first, name)] * 2) / np.sqrt(first.rating_scale_)
        np.testing.assert_allclose(getattr(frozen, name), both, rtol=1e-6)
        assert not np.allclose(getattr(tuned, name), both, rtol=1e-6)
    np.testing.assert_allclose(frozen.user_bias_, first.user_bias_, rtol=1e-6)
    assert frozen.history_[-1]["loss"] < frozen.history_[0]["loss"]


def test_a_pair_of_networks_starts_at_the_mean_of_their_scores():
    gmf, mlp = fitted("logistic", "product", ()), fitted("logistic", "concat", (5, 4))
    model = made("logistic", learning_rate=1e-12, n_epochs=1, optimizer="sgd")
    model.fit(samples.matrix(), pretrained=(gmf, mlp))
    users, items = np.divmod(np.arange(88), 8)
    mean = (gmf.predict(users, items) + mlp.predict(users, items)) / 2
    np.testing.assert_allclose(model.predict(users, items), mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("given", "error", "message"), [
    (lambda: "model", TypeError, "pretrained must be a fitted factorization"),
    (lambda: MatrixFactorization(3), ValueError, "not fitted yet"),
    (lambda: samples.fitted("plain", samples.matrix(9, 8)), ValueError, "users and items of the"),
    (lambda: samples.fitted("plain", samples.named()), ValueError, "or other ids"),
    (lambda: samples.fitted("plain", n_factors=2), ValueError, "n_factors must be .* 2, got 3"),
    (lambda: fitted(fusion="concat"), TypeError, "pair of networks"),
    (lambda: (fitted(fusion="concat"), fitted(fusion="concat")), ValueError,
     "pair of pretrained models goes with")])
def test_models_that_cannot_be_started_from_are_refused(given, error, message):
    with pytest.raises(error, match=message):
        made().fit(samples.matrix(), pretrained=given())


def test_freezing_needs_something_to_keep():
    with pytest.raises(ValueError, match="freeze=True keeps the vectors of a pretrained model"):
        made(freeze=True).fit(samples.matrix())


# --------------------------------------------------------------------------- serving

@every_fusion
@pytest.mark.parametrize("loss", LOSSES)
def test_recommendations_are_the_best_of_the_predictions(fusion, hidden, loss):
    model = fitted(loss, fusion, hidden)
    items, scores = model.recommend(k=8, exclude_seen=False)
    for user in range(11):
        predicted = model.predict(user, np.arange(8))
        if user == samples.SILENT_USER:
            continue
        np.testing.assert_allclose(scores[user], np.sort(predicted)[::-1], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(predicted[items[user]], scores[user], rtol=1e-5, atol=1e-6)


def test_an_unknown_user_or_item_falls_back_on_what_is_known():
    model = fitted(ratings=samples.named())
    mean = model.global_mean_
    assert model.predict("nobody", "nothing")[0] == pytest.approx(mean)
    assert model.predict("nobody", "i2")[0] == pytest.approx(mean + model.item_bias_[2])
    assert model.predict("u1", "nothing")[0] == pytest.approx(mean + model.user_bias_[1])


@pytest.mark.parametrize("loss", LOSSES)
def test_a_new_user_gets_the_same_vector_in_any_company(loss):
    model, rows = fitted(loss), samples.matrix(6, 8, seed=7)
    together = model.fold_in_users(rows)
    for row in range(6):
        alone = model.fold_in_users(rows[[row]])
        np.testing.assert_allclose(alone.factors[0], together.factors[row], rtol=1e-3, atol=1e-4)
    again = model.fold_in_users(rows)
    np.testing.assert_array_equal(again.factors, together.factors)


def test_folding_in_fits_the_ratings_given(planted):
    model = fitted("squared", "product", (), ratings=planted.ratings, n_epochs=40, reg=0.01,
                   batch_size=128)
    rows = planted.ratings.by_user[:20]
    users, items = rows.nonzero()
    known = np.asarray(rows[users, items]).ravel()
    folded = model.predict(users, items, ratings=rows)
    learned = model.predict(users, items)
    start = model.predict(users, items, ratings=sp.csr_array(rows.shape))
    errors = [np.sqrt(np.mean((each - known) ** 2)) for each in (start, folded, learned)]
    assert errors[1] < 0.6 * errors[0]
    assert errors[1] < 1.2 * errors[2]


@pytest.mark.parametrize("loss", LOSSES)
def test_new_users_without_ratings_are_served(loss):
    model = fitted(loss)
    items, scores = model.recommend(ratings=sp.csr_array((2, 8)), k=3)
    assert (items >= 0).all()
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_a_saved_model_answers_the_same(loss, tmp_path):
    model = fitted(loss, ratings=samples.named(), activation="swish", dropout=0.1)
    model.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.get_params() == model.get_params()
    for ask in (lambda m: m.recommend(k=4), lambda m: (m.predict(["u1"] * 2, ["i1", "i2"]),),
                lambda m: m.similar_items(["i1"], k=3), lambda m: m.similar_users(["u1"], k=3),
                lambda m: m.recommend(k=3, ratings=samples.matrix(2, 8)),
                lambda m: m.recommend(k=3, similarity="cosine")):
        for first, second in zip(ask(model), ask(again), strict=True):
            np.testing.assert_array_equal(first, second)


# -------------------------------------------------------------------- watching a fit

def numbers(model):
    return [model.user_factors_, model.item_factors_, model.weights_,
            np.array([record["loss"] for record in model.history_])]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(numbers(one), numbers(other), strict=True))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("lazy", [True, False])
def test_the_bits_do_not_depend_on_the_number_of_threads(loss, lazy):
    cells = samples.counts(600, 90)
    models = [fitted(loss, ratings=cells, n_threads=n, lazy=lazy, batch_size=2000, dropout=0.2)
              for n in (1, 2, 8)]
    assert same(models[0], models[1])
    assert same(models[0], models[2])
    for each in models[1:]:
        for ask in (lambda m: m.recommend(k=5), lambda m: m.fold_in_users(samples.counts(300, 90)),
                    lambda m: (m.predict(np.arange(600), 3),)):
            assert all(np.array_equal(a, b) for a, b in zip(ask(models[0]), ask(each),
                                                            strict=True) if a is not None)


def test_the_seed_decides_the_bits():
    assert same(fitted(), fitted())
    assert not same(fitted(), fitted(random_state=1))


@pytest.mark.parametrize("optimizer", ["adam", "momentum"])
def test_an_interrupted_fit_goes_on_from_its_checkpoint_to_the_same_bits(optimizer, tmp_path):
    path, changes = tmp_path / "checkpoint", {"dropout": 0.2, "optimizer": optimizer, "clip": 3.0}

    def interrupt(model, record):
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    for loss in LOSSES:
        model = made(loss, **changes)
        with pytest.raises(KeyboardInterrupt):
            model.fit(samples.matrix(), checkpoint=path, callbacks=[interrupt])
        assert path.exists() or model.n_epochs_ == 2
        again = made(loss, **changes).fit(samples.matrix(), checkpoint=path)
        assert same(again, fitted(loss, **changes))
        assert not path.exists()


def test_a_fit_with_patience_goes_on_from_its_checkpoint_to_the_same_bits(tmp_path):
    train, test = samples.matrix(30, 20), samples.matrix(30, 20, seed=9)
    changes = {"n_epochs": 60, "patience": 2, "reg": 0.0, "learning_rate": 0.05}
    whole = made(**changes).fit(train, eval_set=test)

    def interrupt(model, record):
        if record["epoch"] == whole.n_epochs_ - 1:           # the best epoch has passed
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(**changes).fit(train, eval_set=test, checkpoint=tmp_path / "checkpoint",
                            callbacks=[interrupt])
    again = made(**changes).fit(train, eval_set=test, checkpoint=tmp_path / "checkpoint")
    assert same(again, whole)


def test_ctrl_c_leaves_the_last_finished_epoch():
    model = made(n_epochs=50)

    def interrupt(model, record):
        if record["epoch"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.fit(samples.matrix(), callbacks=[interrupt])
    assert model.n_epochs_ == 3
    np.testing.assert_array_equal(model.user_factors_, fitted(n_epochs=3).user_factors_)
    np.testing.assert_array_equal(model.weights_, fitted(n_epochs=3).weights_)
    assert not [name for name in vars(model) if name in ("_parts", "_pretrained")]


def test_patience_restores_the_best_epoch():
    train, test = samples.matrix(30, 20), samples.matrix(30, 20, seed=9)
    model = made(n_epochs=60, patience=2, reg=0.0, learning_rate=0.05, bias="mean")
    model.fit(train, eval_set=test)
    errors = [record["rmse"] for record in model.history_]
    best = int(np.argmin(errors)) + 1
    assert model.n_epochs_ == best + 2 < 60
    apart = made(n_epochs=best, reg=0.0, learning_rate=0.05, bias="mean").fit(train)
    np.testing.assert_array_equal(model.weights_, apart.weights_)
    np.testing.assert_array_equal(model.user_factors_, apart.user_factors_)


def test_an_exploding_loss_names_epoch_step_and_rate_and_keeps_the_last_finite_state():
    model = made("squared", "product", (4,), activation="identity", optimizer="sgd", n_epochs=99,
                 learning_rate=2.0, reg=0.0)
    with pytest.raises(DivergenceError, match=r"epoch \d+: step \d+: the loss is .* at rate 2"):
        model.fit(samples.matrix())
    if model.history_:
        assert np.isfinite(model.weights_).all()
        assert np.isfinite(model.predict(0, np.arange(8))).all()


def test_two_threads_that_fit_at_once_get_what_each_gets_alone():
    alone, together = [fitted(loss, n_threads=2) for loss in LOSSES], {}

    def work(loss):
        together[loss] = fitted(loss, n_threads=2)

    threads = [threading.Thread(target=work, args=(loss,)) for loss in LOSSES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(one, together[loss]) for one, loss in zip(alone, LOSSES, strict=True))


# -------------------------------------------------------------------------- bad input

@pytest.mark.parametrize(("changes", "error", "message"), [
    ({"loss": "hinge"}, ValueError, "loss must be one of 'squared', 'logistic'"),
    ({"fusion": "sum"}, ValueError, "fusion must be one of 'concat', 'product', 'gmf.mlp'"),
    ({"hidden": 64}, TypeError, "hidden must be a tuple of widths, got 64"),
    ({"hidden": (64, 0)}, ValueError, "hidden must be >= 1, got 0"),
    ({"activation": "gelu"}, ValueError, "activation must be one of 'identity', 'relu'"),
    ({"optimizer": "lion"}, ValueError, "optimizer must be one of 'sgd', 'momentum'"),
    ({"optimizer": "rprop"}, ValueError, "optimizer must be one of"),
    ({"dropout": 1.0}, ValueError, r"dropout must be in \[0, 1\)"),
    ({"dropout": -0.1}, ValueError, "dropout must be finite and >= 0"),
    ({"bias": "fixed"}, ValueError, "bias must be one of"),
    ({"bias": "mean", "loss": "logistic"}, ValueError, "no meaning with loss='logistic'"),
    ({"n_negatives": 0}, ValueError, "n_negatives must be >= 1"),
    ({"unknown_weight": -1}, ValueError, "unknown_weight must be finite and >= 0"),
    ({"unknown_weight": "all"}, ValueError, "unknown_weight must be a number or one of"),
    ({"reg": -1.0}, ValueError, "reg must be finite and >= 0"),
    ({"learning_rate": 0}, ValueError, "learning_rate must be finite and > 0"),
    ({"batch_size": 0}, ValueError, "batch_size must be >= 1"),
    ({"clip": 0.0}, ValueError, "clip must be finite and > 0"),
    ({"lazy": 1}, TypeError, "lazy must be True or False")])
def test_parameters_out_of_range_are_refused_before_any_work(changes, error, message):
    model = made(**changes)
    with pytest.raises(error, match=message):
        model.fit(samples.matrix())
    assert not hasattr(model, "user_factors_")


def test_full_matrices_and_single_cells_can_be_learned():
    for cells in (sp.csr_array(np.ones((3, 2))), sp.csr_array(np.array([[4.0]]))):
        for loss in LOSSES:
            model = fitted(loss, ratings=cells)
            assert np.isfinite(model.predict(0, 0)).all()


def test_pairs_that_a_factorization_of_another_kind_learned_can_be_started_from():
    first = BPR(3, n_epochs=1, random_state=0).fit(samples.matrix())
    model = made("logistic").fit(samples.matrix(), pretrained=first)
    assert np.isfinite(model.weights_).all()


def test_the_head_is_one_vector_and_comes_back():
    shape = architecture("gmf+mlp", (5, 4))
    head = shape.head(np.random.default_rng(0))
    assert flat(head).shape == (6 * 5 + 5 + 5 * 4 + 4 + 7 + 1,)
