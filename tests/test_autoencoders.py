"""Autoencoders as models: what every one of them promises, and what each option does."""

from __future__ import annotations

import numpy as np
import pytest
import samples
import scipy.sparse as sp

import mfcore
from mfcore import MultDAE, MultVAE, RatingAutoencoder, Ratings, RecVAE, evaluate
from mfcore.data.split import random_split
from mfcore.models.autoencoders.corrupted import CorruptedRows
from mfcore.models.autoencoders.network import corrupted, offsets
from mfcore.nn.layers import Run
from mfcore.parallel import Pool
from mfcore.solvers.rows import RowSGD, Vector
from mfcore.validation import DivergenceError

EVERY = [RatingAutoencoder, MultDAE, MultVAE, RecVAE]
CHOICE = [MultDAE, MultVAE, RecVAE]
CELLS = samples.counts(40, 17)
CLOSE = {"rtol": 1e-5, "atol": 1e-6}
# Each way to train ratings that has code of its own.
OPTIONS = {
    "plain": {}, "item": {"orientation": "item"}, "deep": {"hidden": (6, 4)},
    "tied": {"hidden": (6, 4), "tied": True}, "unknown": {"unknown_weight": 0.2},
    "no bias": {"bias": None, "unknown_weight": 0.2, "unknown_value": 2.0},
    "range": {"scale": "range", "output": "tanh"},
    "masked": {"mask": 0.3, "mask_weights": (1.2, 0.4)},
    "gaussian": {"noise": "gaussian"}, "salt": {"noise": "salt", "noise_scale": 0.2},
    "dropout": {"input_dropout": 0.2, "dropout": 0.3},
    "refed": {"refeed": 2, "refeed_rate": 1e-3}, "contractive": {"contractive": 0.3},
    "observed": {"contractive": 0.3, "contractive_inputs": "observed"},
    "lbfgs": {"optimizer": "lbfgs"}, "rprop": {"optimizer": "rprop", "batch_size": None},
}
options = pytest.mark.parametrize("name", OPTIONS)
every = pytest.mark.parametrize("made", EVERY)


def rated(name, cells=CELLS, **changes):
    return samples.small(RatingAutoencoder, **{**OPTIONS[name], **changes}).fit(cells)


def fitted(made, cells=CELLS, **changes):
    return samples.small(made, **changes).fit(cells)


def pairs(shape):
    users, items = np.indices(shape)
    return users.ravel(), items.ravel()


def weighted(cells=CELLS):
    return Ratings(cells, weights=samples.weights(cells))


# ------------------------------------------------------------------------ every model

@every
def test_a_new_user_is_encoded_to_the_vector_of_a_known_one(made):
    model = fitted(made)
    folded = model.fold_in_users(CELLS)
    np.testing.assert_allclose(folded.factors, model.user_factors_, **CLOSE)
    np.testing.assert_allclose(model.recommend(ratings=CELLS, k=3)[1],
                               model.recommend(k=3)[1], **CLOSE)
    users, items = pairs(CELLS.shape)
    np.testing.assert_allclose(model.predict(users, items, ratings=CELLS),
                               model.predict(users, items), **CLOSE)


@every
def test_scores_of_pairs_are_those_of_blocks(made):
    model = fitted(made)
    best, scores = model.recommend(k=17, exclude_seen=False)
    for user in (0, 5, samples.SILENT_USER):
        if made is RatingAutoencoder and user == samples.SILENT_USER:
            continue                                  # (predict falls back on the mean there)
        np.testing.assert_allclose(model.predict(user, best[user]), scores[user], **CLOSE)


@every
def test_a_killed_fit_goes_on_to_the_same_bits(made, tmp_path):
    straight = fitted(made, n_epochs=5)
    again = samples.small(made, n_epochs=5)

    def stop(model, record):
        if record["epoch"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        again.fit(CELLS, callbacks=[stop], checkpoint=tmp_path / "c")
    assert len(again.history_) == 3
    assert np.isfinite(again.recommend(k=2)[1]).all()          # Ctrl-C leaves a model
    resumed = samples.small(made, n_epochs=5).fit(CELLS, checkpoint=tmp_path / "c")
    assert resumed.weights_.tobytes() == straight.weights_.tobytes()
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("name", ["refed", "lbfgs", "rprop", "masked"])
def test_a_killed_fit_of_ratings_goes_on_to_the_same_bits(name, tmp_path):
    straight = rated(name, n_epochs=5)

    def stop(model, record):
        if record["epoch"] == 3:
            raise KeyboardInterrupt

    params = {**OPTIONS[name], "n_epochs": 5}
    with pytest.raises(KeyboardInterrupt):
        samples.small(RatingAutoencoder, **params).fit(CELLS, callbacks=[stop],
                                                       checkpoint=tmp_path / "c")
    resumed = samples.small(RatingAutoencoder, **params).fit(CELLS, checkpoint=tmp_path / "c")
    assert resumed.weights_.tobytes() == straight.weights_.tobytes()


@every
def test_patience_restores_the_best_epoch(made):
    test = samples.counts(40, 17, seed=9)
    own = {"bias": None} if made is RatingAutoencoder else {}   # (biases alone could be the best)
    model = samples.small(made, n_epochs=60, patience=2, learning_rate=0.05, **own).fit(
        CELLS, eval_set=test)
    key = "rmse" if made is RatingAutoencoder else "ndcg@10"
    values = np.array([record[key] for record in model.history_])
    best = values.min() if key == "rmse" else values.max()
    assert model.n_epochs_ < 60
    assert evaluate(model, test, metrics=key)[key] == pytest.approx(best, rel=1e-6)


@every
def test_training_lowers_the_loss(made):
    own = {"bias": None} if made is RatingAutoencoder else {}
    model = fitted(made, n_epochs=40, learning_rate=0.01, **own)
    losses = [record["loss"] for record in model.history_]
    assert np.mean(losses[-5:]) < 0.99 * np.mean(losses[:5])


@every
def test_weights_of_another_length_do_not_load(made, tmp_path):
    model = fitted(made)
    model.weights_ = model.weights_[:-1]
    model.save(tmp_path / "m")
    with pytest.raises(ValueError, match="weights_ must have the axes"):
        mfcore.load(tmp_path / "m")


@every
def test_users_without_ratings_and_unknown_ones_get_numbers(made):
    model = fitted(made, samples.named(CELLS), n_epochs=3)
    unknown = model.predict(["nobody", "u1", "nobody"], ["i1", "nothing", "nothing"])
    assert np.isfinite(unknown).all()
    assert np.isfinite(model.predict(f"u{samples.SILENT_USER}", ["i1"])).all()
    assert np.isfinite(model.recommend([f"u{samples.SILENT_USER}"], k=3)[1]).all()
    nobody = sp.csr_array((1, 17))
    assert np.isfinite(model.recommend(ratings=nobody, k=3)[1]).all()


@every
def test_an_item_never_seen_has_a_score_and_a_vector(made):
    model = fitted(made)
    assert np.isfinite(model.predict(0, samples.SILENT_ITEM)).all()
    assert np.isfinite(model.item_factors_[samples.SILENT_ITEM]).all()


@every
def test_a_network_that_the_memory_cannot_hold_is_refused_with_the_figure(made):
    huge = {"n_hidden": 10**7} if made is RecVAE else {"hidden": (10**7,)}
    with pytest.raises(ValueError, match=r"memory must be at least [\d.]+ gigabytes for \d+ numb"
                                         r".*take fewer hidden units, or raise memory"):
        fitted(made, **huge)


def test_a_rate_that_is_too_high_is_named_and_the_last_state_kept():
    model = samples.small(RatingAutoencoder, n_epochs=50, optimizer="sgd", learning_rate=1e3,
                          activation="relu")
    with pytest.raises(DivergenceError, match="epoch 1: step .* lower the learning rate"):
        model.fit(CELLS)
    assert not hasattr(model, "weights_")


# ------------------------------------------------------------------------- embeddings

@every
def test_embeddings_of_items_follow_their_definitions(made):
    model = fitted(made, n_epochs=3)
    P, R = model.user_embedding(), CELLS.toarray()
    top = sp.csr_array(([CELLS.data.max()], ([0], [6])), shape=(1, 17))
    np.testing.assert_allclose(model.item_embedding()[6], model.user_embedding(top)[0], **CLOSE)
    weight = R.sum(axis=0)[6]
    np.testing.assert_allclose(model.item_embedding("average")[6], R[:, 6] @ P / weight, **CLOSE)
    np.testing.assert_allclose(model.item_embedding("centred_average")[6],
                               R[:, 6] @ (P - P.mean(0)) / weight, rtol=1e-3, atol=1e-5)
    assert (model.item_embedding("average")[samples.SILENT_ITEM] == 0).all()


@every
@pytest.mark.parametrize("embedding", ["one_hot", "average", "centred_average"])
def test_similar_items_are_the_nearest_of_an_embedding(made, embedding):
    model = fitted(made, n_epochs=3)
    E = model.item_embedding(embedding).astype(float)
    U = E / np.maximum(np.linalg.norm(E, axis=1, keepdims=True), 1e-30)
    cosines = np.delete(U @ U[2], 2)
    _, scores = model.similar_items([2], 3, embedding=embedding)
    np.testing.assert_allclose(scores[0], np.sort(cosines)[::-1][:3], rtol=1e-4, atol=1e-5)


def test_an_unknown_embedding_is_refused():
    with pytest.raises(ValueError, match="method must be one of 'one_hot', 'average'"):
        fitted(MultDAE).item_embedding("mean")


# --------------------------------------------------------------------- choices and VAEs

@pytest.mark.parametrize("made", CHOICE)
def test_negative_values_have_no_multinomial_likelihood(made):
    cells = samples.counts(40, 17)
    cells.data[3] = -1
    with pytest.raises(ValueError, match=r"ratings \(for likelihood='multinomial'\) must be >= 0"):
        fitted(made, cells, values="raw")
    fitted(made, cells)                                        # below 0 is not chosen
    with pytest.raises(ValueError, match="must be >= 0"):
        fitted(made, values="raw").recommend(ratings=cells)


@pytest.mark.parametrize("made", CHOICE)
def test_weights_of_cells_are_refused(made):
    with pytest.raises(ValueError, match="takes no weights"):
        fitted(made, weighted())


def test_values_that_are_no_probabilities_are_refused_for_bernoulli():
    with pytest.raises(ValueError, match=r"must be in \[0, 1\] for likelihood='bernoulli'"):
        fitted(MultVAE, likelihood="bernoulli", values="raw")


@pytest.mark.parametrize("likelihood", ["multinomial", "gaussian", "bernoulli"])
@pytest.mark.parametrize("hidden", [(), (6,)])
@pytest.mark.parametrize("made", [MultDAE, MultVAE])
def test_every_likelihood_learns_what_goes_together(made, likelihood, hidden):
    """Two kinds of users, who choose among two kinds of items."""
    random = np.random.default_rng(0)
    likes = (np.arange(80)[:, None] % 2) == (np.arange(20) % 2)
    chosen = sp.csr_array((likes & (random.random((80, 20)) < 0.5)).astype(float))
    model = fitted(made, chosen, likelihood=likelihood, hidden=hidden, n_epochs=60,
                   learning_rate=0.01, batch_size=20)
    best, _ = model.recommend(k=3)
    assert (best % 2 == np.arange(80)[:, None] % 2).mean() > 0.95


@pytest.mark.parametrize(("made", "params"), [(MultVAE, {}), (MultVAE, {"hidden": ()}),
                                              (RecVAE, {})])
def test_the_posterior_is_that_of_the_encoder(made, params):
    model = fitted(made, **params)
    mean, variance = model.posterior()
    np.testing.assert_array_equal(mean, model.user_factors_)
    assert (variance > 0).all()
    np.testing.assert_allclose(model.posterior(ratings=CELLS).variance, variance, **CLOSE)
    np.testing.assert_allclose(model.posterior([5, 2]).variance, variance[[5, 2]], **CLOSE)
    with pytest.raises(ValueError, match="users must be None where ratings are given"):
        model.posterior([1], ratings=CELLS)


@pytest.mark.parametrize("made", [MultVAE, RecVAE])
def test_draws_have_the_moments_of_the_posterior(made):
    model = fitted(made)
    drawn = samples_of_codes(model, 3000)
    mean, variance = model.posterior([5])
    assert (abs(drawn.mean(0) - mean[0]) < 5 * np.sqrt(variance[0] / 3000)).all()
    np.testing.assert_allclose(drawn.var(0), variance[0], rtol=0.15)


def samples_of_codes(model, n):
    return model.answers().drawn(np.full(n, 5), np.random.default_rng(0), Pool(1)).factors


@pytest.mark.parametrize("made", [MultVAE, RecVAE])
def test_a_seed_decides_a_draw_and_leaves_the_model_alone(made):
    model = fitted(made)
    plain = model.recommend(k=3)
    first, again, other = (model.recommend(k=3, sample=seed)[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    np.testing.assert_array_equal(model.recommend(k=3)[1], plain[1])
    fresh = model.recommend(ratings=CELLS, k=3, sample=1)[1]
    np.testing.assert_allclose(fresh, first, **CLOSE)
    with pytest.raises(TypeError, match="sample must be an integer"):
        model.recommend(sample="yes")


def test_beta_presses_the_posterior_towards_the_prior():
    def distance(beta):
        mean, variance = fitted(MultVAE, beta=beta, anneal=1, n_epochs=40,
                                learning_rate=0.01).posterior()
        return float((variance + mean ** 2 - 1 - np.log(variance)).mean())

    free, held = distance(0.01), distance(5.0)
    assert held < 0.2 * free


def test_beta_grows_to_its_value_and_stays():
    model = samples.small(MultVAE, beta=0.4, anneal=8)
    random = np.random.default_rng(0)
    network = model.recipe.network(model, CELLS.shape, random)
    (stage,) = model.recipe.solver(model, network, Ratings(CELLS), random).stages
    found = []
    for stage.trainer.optimizer.t in (0, 2, 8, 50):
        found.append(stage.make(np.arange(3), random, None)[2])
    assert found == [0, 0.1, 0.4, 0.4]


def test_recvae_starts_its_weights_as_its_reference_does():
    network = RecVAE.recipe.network(RecVAE(8, 4), CELLS.shape, np.random.default_rng(0))
    for parameter in network.parameters():
        if parameter.penalised and parameter.name.endswith("W"):
            n_in = parameter.value.shape[parameter.name == "head.W"]       # (stored transposed)
            assert 0.9 < np.abs(parameter.value).max() * np.sqrt(n_in) <= 1, parameter.name


def test_recvae_moves_the_encoder_then_the_decoder_and_remembers_between():
    model = samples.small(RecVAE, n_epochs=1)
    random = np.random.default_rng(0)
    network = model.recipe.network(model, CELLS.shape, random)
    solver = model.recipe.solver(model, network, Ratings(CELLS), random)
    encoder, decoder = solver.stages
    (past,) = solver.memory

    def numbers(stage):
        return [p.value.copy() for p in stage.moved]


    before = numbers(decoder)
    encoder.enter()
    start = numbers(encoder)
    for stage, still in ((encoder, decoder), (decoder, encoder)):
        stage.enter()
        rest = numbers(still)
        solver._pass(stage, random, Pool(1))
        for got, wanted in zip(numbers(still), rest, strict=True):
            np.testing.assert_array_equal(got, wanted)
    assert any((a != b).any() for a, b in zip(numbers(encoder), start, strict=True))
    assert any((a != b).any() for a, b in zip(numbers(decoder), before, strict=True))
    np.testing.assert_array_equal(past, np.concatenate([v.ravel() for v in numbers(encoder)]))


@pytest.mark.parametrize("made", [RatingAutoencoder, MultDAE])
def test_the_loss_of_an_epoch_is_the_mean_over_rows_however_they_are_cut(made):
    losses = [fitted(made, n_epochs=1, learning_rate=1e-12, batch_size=size, dropout=0.0,
                     dtype="float64").history_[0]["loss"] for size in (40, 16)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)


# ----------------------------------------------------------------- options of ratings

@options
def test_every_option_gives_a_model_that_predicts_and_recommends(name):
    model = rated(name, n_epochs=3)
    users, items = pairs(CELLS.shape)
    assert np.isfinite(model.predict(users, items)).all()
    assert model.recommend(k=3)[0].shape == (40, 3)
    assert evaluate(model, CELLS, metrics=["rmse"])["rmse"] < 4


@options
def test_weights_of_ratings_count(name):
    model = rated(name, weighted(), n_epochs=2)
    assert np.isfinite(model.weights_).all()
    assert (model.weights_ != rated(name, n_epochs=2).weights_).any()


@pytest.mark.parametrize("name", ["plain", "item", "unknown", "no bias", "range"])
def test_the_score_is_the_formula(name):
    model = rated(name, dtype="float64")
    network, x = model.learned(), corrupted(model, model.ratings_).t
    s = model.scale_ * network.head.forward(network.encode(x, Run().pool), Run())[0]
    s = (s.T if name == "item" else s) + model.global_mean_
    if model.user_bias_ is not None:
        s += model.user_bias_[:, None] + model.item_bias_
    known = np.delete(np.arange(40), samples.SILENT_USER)
    users, items = np.meshgrid(known, np.delete(np.arange(17), samples.SILENT_ITEM),
                               indexing="ij")
    np.testing.assert_allclose(model.predict(users.ravel(), items.ravel()),
                               s[users.ravel(), items.ravel()], rtol=1e-9)


def test_a_new_users_part_of_the_formula_is_at_its_minimum_for_items_rows():
    model = rated("item", dtype="float64", reg=0.8)
    new = model.fold_in_users(CELLS[5:6])
    H, t = model.item_factors_, offsets(model).scaled(Ratings(CELLS[5:6]), new.bias)

    def part(v):
        return ((H[t.indices] @ v - t.data) ** 2).sum() + 0.8 * (v[:-1] ** 2).sum()

    own = new.factors[0] / model.scale_                       # in the unit of t
    np.testing.assert_allclose(samples.slope(part, own), 0, atol=1e-4)


def test_full_batches_reach_a_stationary_point_by_l_bfgs():
    model = samples.small(RatingAutoencoder, optimizer="lbfgs", n_epochs=400, reg=3.0,
                          dtype="float64", hidden=(3,)).fit(CELLS)
    losses = np.array([record["loss"] for record in model.history_])
    assert (np.diff(losses) <= 0).all()
    network, rows = model.learned(), corrupted(model, model.ratings_)
    from mfcore.solvers.rows import RowLBFGS

    solver = RowLBFGS(network, rows.whole(), CELLS.nnz, 3.0)
    _, gradient = solver.value_and_gradient(Run().pool)
    assert np.abs(gradient).max() < 1e-5


def test_sixty_steps_that_remember_the_last_ones_are_enough_for_a_few_weights():
    from mfcore.solvers.rows import RowLBFGS

    model = samples.small(RatingAutoencoder, optimizer="lbfgs", n_epochs=60, reg=3.0,
                          dtype="float64", hidden=(1,)).fit(CELLS)
    rows = corrupted(model, model.ratings_).whole()
    _, gradient = RowLBFGS(model.learned(), rows, CELLS.nnz, 3.0).value_and_gradient(Run().pool)
    assert np.abs(gradient).max() < 1e-6


def test_the_gradient_of_full_batches_is_that_of_their_value_with_the_penalty():
    from mfcore.solvers.rows import RowLBFGS

    model = samples.small(RatingAutoencoder, optimizer="lbfgs", n_epochs=1, reg=3.0,
                          dtype="float64", hidden=(3,)).fit(CELLS)
    network, rows = model.learned(), corrupted(model, model.ratings_)
    solver = RowLBFGS(network, rows.whole(), CELLS.nnz, 3.0)
    _, g = solver.value_and_gradient(Run().pool)
    weights = [parameter.value for parameter in network.parameters()]
    steps = np.split(g, np.cumsum([W.size for W in weights])[:-1])

    def value(t):
        for W, step in zip(weights, steps, strict=True):
            W += t * step.reshape(W.shape)
        return solver.value_and_gradient(Run().pool)[0]

    h = 1e-4
    assert (value(h) - value(-2 * h)) / (2 * h) == pytest.approx(g @ g, rel=1e-5)


def test_tied_weights_are_one_matrix():
    tied, apart = rated("tied"), rated("deep")
    assert tied.weights_.size == apart.weights_.size - 17 * 6 - 6 * 4


def test_masks_hide_their_share_and_weigh_both_sides():
    t = sp.csr_array(np.random.default_rng(0).normal(size=(200, 100)))
    x, target = CorruptedRows(t, None, mask=0.3, mask_weights=(1.5, 0.25)).make(
        np.arange(200), np.random.default_rng(1), None)
    hidden = np.asarray(target.weights == 1.5)
    assert hidden.mean() == pytest.approx(0.3, abs=0.01)
    assert (target.weights[~hidden] == 0.25).all()
    np.testing.assert_array_equal(samples.stored(x), ~hidden.reshape(200, 100))
    np.testing.assert_array_equal(target.x.toarray(), t.toarray())


@pytest.mark.parametrize(("noise", "scale"), [("gaussian", 0.4), ("salt", 0.4)])
def test_noise_is_on_the_input_alone_and_of_its_size(noise, scale):
    t = sp.csr_array(np.random.default_rng(0).uniform(-1, 1, size=(200, 100)))
    x, target = CorruptedRows(t, None, noise=noise, noise_scale=scale).make(
        np.arange(200), np.random.default_rng(1), None)
    np.testing.assert_array_equal(target.x.toarray(), t.toarray())
    moved = x.data - t.data
    if noise == "gaussian":
        assert moved.std() == pytest.approx(0.4, rel=0.02)
        assert abs(moved.mean()) < 0.02
    else:
        assert (moved != 0).mean() == pytest.approx(0.4, abs=0.02)
        assert set(x.data[moved != 0]) == {t.data.min(), t.data.max()}


def test_refeeding_makes_completions_complete_themselves():
    def gap(refeed):
        model = samples.small(RatingAutoencoder, refeed=refeed, n_epochs=60, reg=0.0,
                              learning_rate=0.01).fit(CELLS)
        from mfcore.models.autoencoders.corrupted import completed, on_blocks

        network = model.learned()
        y = completed(network, corrupted(model, model.ratings_).t, Run().pool)
        again = completed(on_blocks(network), y, Run().pool)
        return float(((again - y) ** 2).mean() / y.var())

    assert gap(1) < 0.5 * gap(0)


def test_the_contractive_penalty_makes_codes_move_less():
    def jacobian(contractive):
        model = samples.small(RatingAutoencoder, contractive=contractive, n_epochs=60, reg=0.0,
                              learning_rate=0.01).fit(CELLS)
        first = model.learned().encoder.layers[1]
        h = model.user_factors_
        slope = h * (1 - h)
        return float((slope ** 2 @ (first.W.value ** 2).sum(axis=0)).mean())

    assert jacobian(3.0) < 0.5 * jacobian(0.0)


def test_the_published_settings_are_models_of_their_own():
    item, user = RatingAutoencoder.autorec_item(), RatingAutoencoder.autorec_user(reg=3.0)
    assert (item.orientation, item.optimizer, item.activation, item.reg) == \
        ("item", "lbfgs", "sigmoid", 50.0)
    assert (user.orientation, user.optimizer, user.reg) == ("user", "rprop", 3.0)
    assert RatingAutoencoder.cfn().mask_weights == (1.108, 0.720)
    assert RatingAutoencoder.deep_recommender().refeed == 1
    for model in (item, user, RatingAutoencoder.cfn(), RatingAutoencoder.deep_recommender()):
        model.set_params(hidden=(5, 3) if len(model.hidden) > 1 else (5,), n_epochs=2,
                         random_state=0, n_threads=1)
        assert np.isfinite(model.fit(CELLS).recommend(k=2)[1]).all()


@pytest.mark.parametrize(("name", "params"), [
    ("autorec_item", {"n_epochs": 40}), ("autorec_user", {"n_epochs": 40}),
    ("cfn", {"n_epochs": 20}),
    ("deep_recommender", {"n_epochs": 150, "hidden": (64, 32), "batch_size": 32})])
def test_the_published_settings_beat_the_mean_rating_where_the_truth_is_known(name, params,
                                                                              planted):
    train, test = random_split(planted.ratings, 0.1, random_state=0)
    model = getattr(RatingAutoencoder, name)(**params, random_state=0, n_threads=1).fit(train)
    spread = np.sqrt(np.mean((test.by_user.data - train.by_user.data.mean()) ** 2))
    assert evaluate(model, test, metrics="rmse")["rmse"] < 0.95 * spread


# --------------------------------------------------------------------------- refusals

@pytest.mark.parametrize(("params", "message"), [
    ({"mask": 1.0}, r"mask must be in \[0, 1\), got 1.0: 1 hides everything"),
    ({"mask": -0.1}, "mask must be finite and >= 0"),
    ({"mask_weights": (1.0,)}, "mask_weights must be two numbers"),
    ({"mask_weights": (-1.0, 0.0)}, "mask_weights must be finite and >= 0"),
    ({"noise": "pink"}, "noise must be one of None, 'gaussian', 'salt'"),
    ({"noise": "salt", "noise_scale": 1.2}, r"noise_scale must be finite and in \[0, 1\]"),
    ({"hidden": ()}, "hidden must hold at least one width"),
    ({"hidden": (0,)}, "hidden must be >= 1"),
    ({"refeed": -1}, "refeed must be >= 0"),
    ({"refeed_rate": 0.0}, "refeed_rate must be finite and > 0"),
    ({"contractive": -1.0}, "contractive must be finite and >= 0"),
    ({"contractive_inputs": "some"}, "contractive_inputs must be one of 'all', 'observed'"),
    ({"dropout": 1.0}, r"dropout must be in \[0, 1\)"),
    ({"orientation": "both"}, "orientation must be one of 'user', 'item'"),
    ({"orientation": "item", "output": "tanh"}, "output must be 'identity' with orientation='it"),
    ({"unknown_weight": 0.1, "unknown_value": 2.0}, "unknown_value must be 'bias' with bias='sh"),
    ({"optimizer": "lbfgs", "mask": 0.1}, "'lbfgs' needs the same function .* mask"),
    ({"optimizer": "lbfgs", "noise": "gaussian"}, "'lbfgs' needs the same function .* noise"),
    ({"optimizer": "lbfgs", "dropout": 0.1}, "'lbfgs' needs the same function .* dropout"),
    ({"optimizer": "lbfgs", "refeed": 1}, "'lbfgs' needs the same function .* refeed"),
    ({"optimizer": "rprop"}, "batch_size must be None with optimizer='rprop'"),
    ({"optimizer": "newton"}, "optimizer must be one of"),
    ({"memory": 0.0}, "memory must be finite and > 0")])
def test_options_out_of_range_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        rated("plain", **params)


@pytest.mark.parametrize(("made", "params", "message"), [
    (MultVAE, {"beta": -0.1}, r"beta must be finite and in \[0, 1e\+06\], got -0.1"),
    (MultVAE, {"beta": np.inf}, "beta must be finite"),
    (MultVAE, {"anneal": 0}, "anneal must be >= 1"),
    (MultVAE, {"hidden": (0,)}, "hidden must be >= 1"),
    (MultVAE, {"likelihood": "poisson"}, "likelihood must be one of"),
    (MultDAE, {"dropout": 1.0}, r"dropout must be in \[0, 1\)"),
    (MultDAE, {"optimizer": "rprop"}, "optimizer must be one of"),
    (MultDAE, {"n_latent": 0}, "n_latent must be >= 1"),
    (RecVAE, {"gamma": -1.0}, "gamma must be finite"),
    (RecVAE, {"prior": (0.5, 0.4, 0.2)}, "prior must be three shares that add up to 1"),
    (RecVAE, {"prior": (1.0, 0.0, 0.0)}, "prior must be finite and > 0"),
    (RecVAE, {"encoder_passes": 0}, "encoder_passes must be >= 1")])
def test_parameters_of_choices_out_of_range_are_refused(made, params, message):
    with pytest.raises(ValueError, match=message):
        fitted(made, **params)


def test_epochs_are_counted_from_none():
    solver = RowSGD([], n_rows=3, batch_size=2, seed=5)
    counted = [int(solver.state()["done"])]
    for _ in range(2):
        solver.epoch(Vector(np.zeros(1)), Pool(1))
        counted.append(int(solver.state()["done"]))
    assert counted == [0, 1, 2]
