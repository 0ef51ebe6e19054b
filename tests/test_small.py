"""The study guide's models of a few lines against the fast ones: docs/small/*.py."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from mfcore import EASE, BayesianMF, MatrixFactorization, Ratings
from mfcore.data.synthetic import planted
from mfcore.gradcheck import gradcheck
from mfcore.nn.autoencoder import CompositePrior, Halves, Variational
from mfcore.nn.contractive import Contractive
from mfcore.nn.heads import Multinomial, Target
from mfcore.nn.joins import Sequential
from mfcore.nn.layers import Linear, Run, SparseLinear
from mfcore.objectives.pairwise import Pairwise, Ranking
from mfcore.objectives.softmax import Batch, Ranked, Softmax, Vectors
from mfcore.parallel import Pool

SMALL = Path(__file__).parents[1] / "docs" / "small"
NAMES = sorted(path.stem for path in SMALL.glob("*.py"))
EXACT = 1e-10


def small(name):
    """Return what a file of docs/small defines."""
    return runpy.run_path(str(SMALL / f"{name}.py"))


@pytest.fixture(scope="module")
def ratings():
    """Return few ratings, as the library and as the small models take them."""
    data = planted(40, 25, n_groups=3, random_state=0)
    dense = data.ratings.by_user.toarray()
    return data, np.where(dense != 0, dense, 0.0), dense != 0


@pytest.mark.parametrize("name", NAMES)
def test_a_small_model_is_short_and_stands_alone(name, capsys):
    lines = (SMALL / f"{name}.py").read_text(encoding="utf-8").splitlines()
    assert 20 <= len(lines) <= 60
    assert [line for line in lines if line.startswith(("import", "from"))] == ["import numpy as np"]
    runpy.run_path(str(SMALL / f"{name}.py"), run_name="__main__")
    assert "user" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["gradient", "mlp", "autoencoder", "vae", "svdpp", "bpr",
                                  "softmax"])
def test_a_small_model_learns(name, ratings):
    _, R, known = ratings
    given = {"bpr": R > 3, "softmax": known, "vae": known * 1.0}
    centred = np.where(known, R - R[known].mean(), 0)
    rows = (given[name],) if name in given else (centred, known)
    rates = {"gradient": 0.003, "mlp": 0.0005, "autoencoder": 0.002, "vae": 0.002, "svdpp": 0.001,
             "bpr": 0.05, "softmax": 0.005}
    *_, history = small(name)["fit"](*rows, 3, rate=rates[name], steps=60)
    assert np.mean(history[-5:]) < 0.9 * history[0]


def exact(**more):
    """Return settings with which the library's penalties are plain numbers."""
    return {"reg": 0.8, "bias_reg": 1.7, "reg_scaling": "none", "rating_scale": 1.0,
            "solver": "cholesky", "dtype": "float64", "random_state": 0, "n_threads": 1, **more}


def test_the_gradient_is_that_of_a_converged_fit_and_the_loss_its_objective(ratings):
    data, R, known = ratings
    model = MatrixFactorization(3, bias=None, n_epochs=400, **exact()).fit(data.ratings)
    loss, dP, dQ = small("gradient")["loss_and_gradient"](
        R, known, model.user_factors_, model.item_factors_, 0.8)
    assert loss == pytest.approx(model.objective()["total"], rel=EXACT)
    assert abs(dP).max() < 1e-8                            # the last half-sweep is the users'
    assert abs(dQ).max() < 1e-3 * loss
    at = {"P": np.random.default_rng(0).normal(size=(40, 3)), "Q": model.item_factors_}
    assert gradcheck(lambda point: (lambda value, P, Q: (float(value), {"P": P, "Q": Q}))(
        *small("gradient")["loss_and_gradient"](R, known, point["P"], point["Q"], 0.8)), at).ok


@pytest.mark.parametrize(("library", "mine"), [
    ({"bias": None}, {"bias": False}), ({}, {}),
    ({"unknown_weight": 0.2, "unknown_value": 1.5}, {"w0": 0.2, "r0": 1.5}),
    ({"bias": None, "unknown_weight": 0.2}, {"bias": False, "w0": 0.2}), ("groups", "groups")],
    ids=["minimal", "biases", "unknown", "implicit", "groups"])
def test_als_ends_where_the_library_ends(library, mine, ratings):
    data, R, known = ratings
    groups = library == "groups"
    features = data.user_features if groups else None
    F = data.user_features.matrix.toarray() if groups else None
    library, mine = ({"feature_reg": 10.0}, {"F": F}) if groups else (library, mine)
    model = MatrixFactorization(1, n_epochs=300, **exact(**library)).fit(
        data.ratings, user_features=features)
    mu, P, Q, G, history = small("als")["fit"](R, known, 1, reg=0.8, bias_reg=1.7, epochs=300,
                                               **mine)
    assert max(np.diff(history)) < EXACT * history[0]      # no half-sweep raises L
    assert history[-1] == pytest.approx(model.objective()["total"], rel=1e-8)
    users, items = np.indices(R.shape).reshape(2, -1)
    np.testing.assert_allclose((mu + P @ Q.T).ravel(), model.predict(users, items), atol=1e-4)
    if groups:
        np.testing.assert_allclose(abs(G[:, 1:]), abs(model.user_feature_factors_), atol=1e-4)


def test_cosine_lists_are_those_of_the_library(ratings):
    data, _, known = ratings
    model = MatrixFactorization(4, **exact(bias=None)).fit(data.ratings)
    P, Q = model.user_factors_, model.item_factors_
    for kind in "dot", "cosine":
        items, scores = small("cosine")["recommend"](P, Q, known, 3, cosine=kind == "cosine")
        theirs, their_scores = model.recommend(k=3, similarity=kind)
        np.testing.assert_array_equal(items, theirs)
        np.testing.assert_allclose(scores, their_scores, rtol=EXACT)
    np.testing.assert_array_equal(small("cosine")["similar"](Q, 3)[0],
                                  model.similar_items(np.arange(25), 3)[0])


def test_bpr_has_the_loss_and_gradient_of_the_library():
    random = np.random.default_rng(0)
    triples = [random.integers(0, n, 50) for n in (6, 8, 8)]
    P, Q = random.normal(size=(6, 3)), random.normal(size=(8, 3))
    loss, dP, dQ = small("bpr")["loss_and_gradient"](*triples, P, Q, 0.3)
    fast, at = Pairwise(*triples, 0.3, 0.0), Ranking(P, Q, np.zeros(8))
    assert loss == pytest.approx(fast.value(at), rel=EXACT)
    np.testing.assert_allclose(dP, fast.gradient(at).P, rtol=EXACT)
    np.testing.assert_allclose(dQ, fast.gradient(at).Q, rtol=EXACT, atol=1e-12)


def test_softmax_has_the_loss_and_gradient_of_the_library():
    random = np.random.default_rng(0)
    chosen = random.random((6, 8)) < 0.4
    P, Q = random.normal(size=(6, 3)), random.normal(size=(8, 3))
    loss, dP, dQ = small("softmax")["loss_and_gradient"](chosen, P, Q, 0.3)
    users, items = np.nonzero(chosen)
    own = np.arange(len(users)), items                     # a cell's own item is no negative of it
    batch = Batch(users, items, np.arange(8), np.ones(8), own)
    fast, at = Ranked(Softmax(0.3), cosine=True), Vectors(P, Q)
    with Pool(1) as pool:
        assert loss == pytest.approx(fast.value(at, batch, pool), rel=EXACT)
        d = fast.gradient(at, batch, pool)
    np.testing.assert_allclose(dP, d.P, rtol=1e-8)
    np.testing.assert_allclose(dQ, d.Q, rtol=1e-8, atol=1e-12)


def test_the_mlp_goes_forward_and_back_as_layers_do():
    random, mlp = np.random.default_rng(0), small("mlp")
    at = mlp["start"](5, 6, 3, 4, random)
    at |= {name: random.normal(size=at[name].shape) for name in "ac"}
    users, items, r = random.integers(0, 5, 20), random.integers(0, 6, 20), random.normal(size=20)
    loss, d = mlp["loss_and_gradient"](at, users, items, r, 0.0)
    how = {"random": random, "dtype": np.float64}
    net = Sequential(Linear(6, 4, "relu", **how), Linear(4, 1, **how))
    values = at["V"], at["a"], at["w"][:, None], at["c"]
    for parameter, value in zip(net.parameters(), values, strict=True):
        parameter.value[...] = value
    run, x = Run(), np.hstack([at["P"][users], at["Q"][items]])
    s, cache = net.forward(x, run)
    assert loss == pytest.approx(((s[:, 0] - r) ** 2).sum(), rel=EXACT)
    dx = net.backward(2 * (s - r[:, None]), cache, run)
    for parameter, name in zip(net.parameters(), "Vawc", strict=True):
        found = run.gradients.dense(parameter).reshape(d[name].shape)
        np.testing.assert_allclose(d[name], found, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(d["P"][2], dx[users == 2, :3].sum(axis=0), rtol=1e-9)


def test_the_autoencoder_has_the_loss_and_gradient_of_a_contractive_layer(ratings):
    _, R, known = ratings
    random = np.random.default_rng(0)
    at = {"V": random.normal(size=(25, 4)), "a": random.normal(size=4),
          "W": random.normal(size=(4, 25)), "c": random.normal(size=25)}
    loss, d, _ = small("autoencoder")["loss_and_gradient"](at, R / 5, R / 5, known, 0.7)
    layer = Contractive(25, 4, "sigmoid", reg=0.7, random=random, dtype=np.float64)
    layer.W.value[...], layer.b.value[...] = at["V"], at["a"]
    run = Run()
    h, cache = layer.forward(sp.csr_array(R / 5), run)
    E = known * (h @ at["W"] + at["c"] - R / 5)
    assert loss == pytest.approx((E**2).sum() + run.penalty, rel=EXACT)
    layer.backward(2 * E @ at["W"].T, cache, run)
    np.testing.assert_allclose(d["V"], run.gradients.dense(layer.W), rtol=1e-8)
    np.testing.assert_allclose(d["a"], run.gradients.dense(layer.b), rtol=1e-8)
    np.testing.assert_allclose(d["W"], 2 * h.T @ E, rtol=EXACT)


@pytest.mark.parametrize("name", ["vae", "recvae"])
def test_a_variational_autoencoder_has_the_loss_and_gradient_of_the_library(name, ratings):
    _, R, _ = ratings
    random, x = np.random.default_rng(0), (R[R.max(axis=1) > 3] > 3) * 1.0
    at = {"V": random.normal(size=(25, 6)), "a": random.normal(size=6),
          "W": random.normal(size=(3, 25)), "c": random.normal(size=25)}
    old = [random.normal(size=(len(x), 3)) for _ in range(2)]
    epsilon = np.random.default_rng([0]).standard_normal((len(x), 3))       # what the seed draws
    n = x.sum(axis=1, keepdims=True)
    more = (0.4,) if name == "vae" else (0.4, old)
    loss, d, *_ = small(name)["loss_and_gradient"](at, x, epsilon, *more)
    how = {"random": random, "dtype": np.float64}
    first = SparseLinear(25, 6, **how)
    head = Multinomial(Linear(25, 3, **how).W)
    net = Variational(Halves(first), Sequential(), head)
    for parameter, value in zip(net.parameters(), (at["V"], at["a"], at["W"].T, at["c"]),
                                strict=True):
        parameter.value[...] = value
    run, rows = Run(seed=[0]), sp.csr_array(x / n**0.5)
    given = (rows, Target(sp.csr_array(x)), 0.4 if name == "vae" else 0.4 * n)
    if name == "recvae":
        net.prior, given = CompositePrior(), (*given, old)
    value, cache = net.forward(given, run)
    assert loss == pytest.approx(value, rel=1e-9)
    net.backward(1.0, cache, run)
    dV, da, dW, dc = (run.gradients.dense(parameter) for parameter in net.parameters())
    for mine, theirs in ((d["V"], dV), (d["a"], da), (d["W"], dW.T), (d["c"], dc)):
        np.testing.assert_allclose(mine, theirs, rtol=1e-7, atol=1e-10)


def test_gibbs_agrees_with_the_library_on_every_score(ratings):
    data, R, known = ratings
    centred = np.where(known, R - R[known].mean(), 0)
    rows = sp.csr_array((centred[known], np.nonzero(known)), shape=R.shape)
    mean, spread, _ = small("gibbs")["fit"](centred, known, 3, sweeps=400, burn_in=100)
    model = BayesianMF(3, bias=None, n_epochs=400, burn_in=100, keep=300, dtype="float64",
                       random_state=0, n_threads=1).fit(Ratings(rows))
    users, items = np.indices(R.shape).reshape(2, -1)
    theirs, their_spread = model.predict(users, items, return_std=True)
    assert np.abs(mean.ravel() - theirs).mean() < 0.1 * R[known].std()
    assert spread.mean() == pytest.approx(their_spread.mean(), rel=0.1)


def test_svdpp_has_the_loss_of_the_library_and_its_gradient_is_right(ratings):
    data, R, known = ratings
    svdpp = small("svdpp")
    model = MatrixFactorization(3, **exact(bias=None, history_reg=5.0, n_epochs=5)).fit(
        data.ratings, user_features="history")
    F, G = svdpp["history_of"](known), model.user_feature_factors_
    at = {"U": model.user_factors_ - F @ G, "G": G, "Q": model.item_factors_,
          "b": np.zeros(40), "c": np.zeros(25)}
    reg = {"U": 0.8, "Q": 0.8, "G": 5.0, "b": 1.7, "c": 1.7}
    loss, _ = svdpp["loss_and_gradient"](at, R, known, F, reg)
    assert loss == pytest.approx(model.objective()["total"], rel=EXACT)
    random = np.random.default_rng(0)
    at = {name: random.normal(size=value.shape) for name, value in at.items()}
    assert gradcheck(lambda point: (lambda value, d: (float(value), d))(
        *svdpp["loss_and_gradient"](point, R, known, F, reg)), at).ok


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_ease_has_the_weights_of_the_library(dropout, ratings):
    data, _, known = ratings
    model = EASE(reg=7.0, dropout=dropout, dtype="float64", n_threads=1).fit(data.ratings)
    np.testing.assert_allclose(small("ease")["fit"](known * 1.0, 7.0, dropout), model.weights_,
                               atol=EXACT)
