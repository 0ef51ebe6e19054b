"""The ranking losses against their formulas, and the model that learns by them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import samples
import scipy.sparse as sp

import mfcore
from mfcore import Popularity, Ratings, SoftmaxMF, evaluate, gradcheck
from mfcore.data.split import per_user_split
from mfcore.gradcheck import GradientError
from mfcore.models.ranking.softmax import temperature_of
from mfcore.nn.optimizers import Adam
from mfcore.objectives.pairwise import Pairwise, Ranking
from mfcore.objectives.softmax import (
    Batch,
    Contrastive,
    Pairs,
    Ranked,
    Softmax,
    Surrogate,
    TopK,
    Vectors,
    Warp,
    unit,
)
from mfcore.parallel import Pool
from mfcore.solvers.ranked_rows import _first, fold_in_by_ranking
from mfcore.solvers.softmax import Negatives, RankingAdam, chosen
from mfcore.solvers.spectral import MOST, SpectralStart
from mfcore.solvers.warmth import MOST_DRAWS, STEPS, warmest

LOSSES = {"softmax": Softmax(0.37), "tanh": Surrogate(0.23), "relu": Surrogate(0.31, "relu"),
          "sl@k": TopK(0.41, 0.7, 3), "bpr": Pairs(0.83), "ccl": Contrastive(1.7, 0.13),
          "warp": Warp(0.57)}


def naive(loss, s: float, S: list[float], w: list[float]) -> float:
    """The formulas of the statement, for one cell."""
    pairs, total = [(weight, each - s) for weight, each in zip(w, S, strict=True)], sum(w)
    if isinstance(loss, Softmax):
        positive = math.exp(s / loss.tau)
        return -math.log(positive / (positive + sum(
            weight * math.exp(each / loss.tau) for weight, each in zip(w, S, strict=True))))
    if isinstance(loss, Surrogate):
        sigma = (lambda x: 1 + math.tanh(x)) if loss.surrogate == "tanh" else \
            (lambda x: max(0.0, 1 + x))
        return math.log(1 + sum(weight * sigma(d / 2) ** (1 / loss.tau) for weight, d in pairs))
    if isinstance(loss, TopK):
        beta = sorted(S)[-max(1, min(len(S), round(loss.k * len(S) / total)))]
        return naive(Softmax(loss.tau), s, S, w) / (1 + math.exp((beta - s) / loss.tau_weight))
    if isinstance(loss, Pairs):
        return sum(weight * math.log(1 + math.exp(d / loss.tau)) for weight, d in pairs) / total
    if isinstance(loss, Contrastive):
        beyond = sum(weight * max(0.0, s + d - loss.margin) for weight, d in pairs)
        return 1 - s + loss.weight * beyond / total
    beaten = [(weight, loss.margin + d) for weight, d in pairs if loss.margin + d > 0]
    return math.log(1 + sum(weight for weight, _ in beaten)) * sum(
        by for _, by in beaten) / max(1, len(beaten))


class Drawn(NamedTuple):
    """An objective, its batch, and a point away from all kinks."""

    problem: Ranked
    batch: Batch
    at: Vectors

    def value(self) -> float:
        return self.problem.value(self.at, self.batch, Pool(1))

    def gradient(self) -> Vectors:
        return self.problem.gradient(self.at, self.batch, Pool(1))


def drawn(seed: int, loss, cosine: bool = True, n_cells: int = 8) -> Drawn:
    random = np.random.default_rng(seed)
    at = Vectors(*(random.normal(size=(n, 3)) for n in (4, 9, 5, 2)))
    users, items, negatives = random.integers(4, size=n_cells), random.integers(9, size=n_cells), \
        random.choice(9, 5, replace=False)
    F, E = (sp.csr_array(random.normal(size=(n, m)) * (random.random((n, m)) < 0.5))
            for n, m in ((n_cells, 5), (n_cells + 5, 2)))
    hidden = np.nonzero(items[:, None] == negatives[None])
    batch = Batch(users, items, negatives, random.uniform(0.5, 2, 5), hidden, F, E)
    return Drawn(Ranked(loss, cosine, 0.19), batch, at)


def beta_held(given: Drawn) -> Drawn:
    """Give a loss that holds thresholds those of this point."""
    (problem, batch, at), loss = given, given.problem.loss
    if not isinstance(loss, TopK):
        return given
    x, z = at.P[batch.users] + batch.F @ at.G, at.Q[batch.negatives] + (batch.E @ at.H)[-5:]
    if problem.cosine:
        x, z = (X / np.linalg.norm(X, axis=1)[:, None] for X in (x, z))
    S = x @ z.T
    S[batch.hidden] = -np.inf
    return given._replace(problem=replace(problem, loss=loss.held(S, batch.w)))


def check(given: Drawn, wrong: str = ""):
    def function(x):
        here = given._replace(at=Vectors(**x))
        gradient = vars(here.gradient())
        if wrong:
            gradient[wrong] = 1.001 * gradient[wrong]
        return here.value(), gradient

    return gradcheck(function, vars(given.at))


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_loss_is_its_formula(loss):
    random = np.random.default_rng(0)
    s, S, w = random.normal(size=6), random.normal(size=(6, 7)), random.uniform(0.5, 2, 7)
    expected = [naive(loss, *cell, w.tolist()) for cell in zip(s.tolist(), S.tolist(), strict=True)]
    np.testing.assert_allclose(loss.pull(s, S, w).value, expected, rtol=1e-12)


@pytest.mark.parametrize("cosine", [True, False], ids=["cosine", "dot"])
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_the_taylor_remainder_falls_with_slope_two(loss, cosine):
    result = check(beta_held(drawn(1, loss, cosine)))
    assert list(result.slopes) == ["P", "Q", "G", "H"]
    assert all(slope > 1.9 for slope in result.slopes.values())


@pytest.mark.parametrize("block", ["P", "Q", "G", "H"])
def test_a_gradient_wrong_by_a_thousandth_is_rejected(block):
    with pytest.raises(GradientError, match=f"block '{block}' is wrong"):
        check(drawn(1, LOSSES["softmax"]), wrong=block)


@pytest.mark.parametrize("loss", [Softmax(1.0), Pairs(1.0)], ids=["softmax", "bpr"])
def test_one_negative_at_temperature_one_is_the_pairwise_objective(loss):
    random = np.random.default_rng(3)
    at = Vectors(random.normal(size=(4, 3)), random.normal(size=(6, 3)))
    users, items = np.array([0, 1, 3, 0]), np.array([0, 1, 2, 3])
    none = np.array([], int), np.array([], int)
    given = Drawn(Ranked(loss, False), Batch(users, items, np.array([5]), np.ones(1), none), at)
    pairwise = Pairwise(users, items, np.full(4, 5), 0.0, 0.0, learns_bias=False)
    there = Ranking(at.P, at.Q, np.zeros(6))
    assert given.value() == pytest.approx(pairwise.value(there), rel=1e-14)
    np.testing.assert_allclose(given.gradient().P, pairwise.gradient(there).P, atol=1e-15)
    np.testing.assert_allclose(given.gradient().Q, pairwise.gradient(there).Q, atol=1e-15)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_hidden_negative_has_no_say(loss):
    """But in shares of all negatives, and in β, whose rank counts it as a low score."""
    random = np.random.default_rng(4)
    s, S, w = random.normal(size=3), random.normal(size=(3, 4)), np.ones(4)
    S[:, 2] = -np.inf
    value, a, D = loss.pull(s, S.copy(), w)
    assert np.isfinite([value, a]).all()
    assert not D[:, 2].any()


def test_weighted_negatives_add_up_to_all_items_in_expectation():
    """Whatever their probability: Σ over all negatives that could be drawn, of q times it."""
    random = np.random.default_rng(5)
    s, S, q = np.zeros(1), random.normal(size=(1, 6)), random.dirichlet(np.ones(6))
    drawn = sum(share * np.expm1(Softmax(0.5).pull(s, S[:, [j]], np.array([1 / share])).value[0])
                for j, share in enumerate(q))
    whole = np.expm1(Softmax(0.5).pull(s, S.copy(), np.ones(6)).value[0])
    assert drawn == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize(("far", "others"), [(-4000, 0), (4000, 0), (0, 4000)])
def test_far_scores_overflow_nothing(loss, far, others):
    with np.errstate(over="raise", invalid="raise"):
        value, a, D = loss.pull(np.array([far], np.float32), np.full((1, 3), others, np.float32),
                                np.ones(3))
    assert np.isfinite([value, a]).all()
    assert np.isfinite(D).all()


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("w", [1e-37, 1e37])
def test_weights_of_any_size_overflow_nothing(loss, w):
    """In float32, with which e^(s/τ) w would be out of range."""
    random = np.random.default_rng(6)
    s, S = random.normal(size=5), random.normal(size=(5, 3))
    with np.errstate(over="raise", invalid="raise"):
        found = loss.pull(s.astype(np.float32), S.astype(np.float32), np.full(3, w))
    wanted = loss.pull(s, S, np.full(3, w))
    assert np.isfinite([wanted.value, wanted.a]).all()
    np.testing.assert_allclose(found.value, wanted.value, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(found.a, wanted.a, rtol=1e-4, atol=1e-6)


def test_a_row_of_zeros_has_no_direction():
    rows, inverse = unit(np.array([[0.0, 0], [3, 4]]))
    np.testing.assert_allclose(rows, [[0, 0], [0.6, 0.8]])
    assert inverse.tolist() == [0, 0.2]


def test_the_length_of_a_vector_changes_no_cosine_and_has_no_gradient():
    given = drawn(6, LOSSES["softmax"])
    given = given._replace(problem=replace(given.problem, reg=0.0),
                           batch=given.batch._replace(F=None, E=None))
    at, d = given.at, given.gradient()
    longer = given._replace(at=Vectors(3.7 * at.P, at.Q * np.arange(1, 10)[:, None]))
    assert longer.value() == pytest.approx(given.value(), rel=1e-12)
    np.testing.assert_allclose(np.einsum("nf,nf->n", d.P, at.P), 0, atol=1e-13)
    np.testing.assert_allclose(np.einsum("nf,nf->n", d.Q, at.Q), 0, atol=1e-13)


# -------------------------------------------------------------------------------- the solver

def small(**changes) -> SoftmaxMF:
    return SoftmaxMF(**{"n_factors": 3, "n_epochs": 3, "batch_size": 16, "random_state": 0,
                        "n_threads": 1, **changes})


def audiences() -> sp.csr_array:
    """Choices of 90 users in three groups, nine of ten among the 20 items of their own."""
    random, group = np.random.default_rng(0), np.arange(90) % 3
    odds = np.where(group[:, None] == np.arange(60) // 20, 0.4, 0.02)
    return sp.csr_array((random.random((90, 60)) < odds).astype(float))


def solver(number=None, popular=False, reg=0.0, features=(None, None)) -> RankingAdam:
    cells = samples.counts(30, 20)
    cells.eliminate_zeros()
    return RankingAdam(cells, Ranked(Softmax(0.3), True, reg), Negatives(number, popular), features,
                       Adam(0.1, lazy=True), 16, seed=3)


def started(tau=0.5, length=2.0, k=8) -> tuple[sp.csr_array, Vectors]:
    """Return choices, one item without any, and the start of cosines."""
    cells, random = audiences(), np.random.default_rng(1)
    cells = sp.csr_array(cells * (np.arange(60) > 0))
    cells.eliminate_zeros()
    at = Vectors(*(1e-9 * random.standard_normal((n, k)) for n in cells.shape))
    at.Q[7] = 0
    SpectralStart(cells, length).begin(at, tau, Pool(1))
    return cells, at


@pytest.mark.parametrize("tau", [0.5, 0.3])
def test_cosines_begin_at_the_popularity_of_items(tau):
    cells, at = started(tau)
    counts = np.bincount(cells.indices, minlength=60)
    some = np.flatnonzero((counts > 0) & (np.arange(60) != 7))
    common = at.P[0, 0] * at.Q[some, 0] / 2.0**2 / tau
    np.testing.assert_allclose(common - common[0], np.log(counts[some] / counts[some[0]]),
                               atol=1e-6)


def test_cosines_begin_at_the_length_and_in_the_directions_of_the_groups():
    cells, at = started()
    np.testing.assert_allclose(np.linalg.norm(at.P, axis=1), 2, rtol=1e-6)
    groups = (np.arange(90) % 3)[:, None] == np.arange(60) // 20
    rest = at.P[:, 1:] @ at.Q[:, 1:].T
    known = (np.bincount(cells.indices, minlength=60) > 0) & (np.arange(60) != 7)
    assert rest[:, known][groups[:, known]].mean() > rest[:, known][~groups[:, known]].mean() + 0.5


def test_rows_of_zeros_stay_and_rows_without_choices_lie_where_they_are_least_popular():
    _, at = started()
    assert not at.Q[7].any()
    assert np.argmin(np.delete(at.Q[:, 0], 7)) == 0
    assert abs(at.Q[0, 1:]).max() < 1e-6


@pytest.mark.parametrize("k", [1, 2, 5])
def test_vectors_of_popularity_alone_are_the_logarithm_of_counts_about_its_middle(k):
    cells = sp.csr_array(np.arange(5)[:, None] < np.array([1, 2, 4, 5]))
    at = Vectors(np.ones((5, k)), np.ones((4, k)))
    found = SpectralStart(cells, 3.0).popular(at)
    if k == 1:
        assert not found.P.any()
        assert not found.Q.any()
        return
    wanted = np.log([1, 2, 4, 5]) - np.log(5) / 2
    np.testing.assert_allclose(found.P @ found.Q.T, np.tile(
        9 * MOST * wanted / wanted[-1], (5, 1)))
    for X in (found.P, found.Q):
        np.testing.assert_allclose(np.linalg.norm(X, axis=1), 3)


def test_popularity_alone_is_what_choices_without_taste_leave():
    random = np.random.default_rng(0)
    odds = np.linspace(0.02, 0.4, 80)
    cells = sp.csr_array((random.random((400, 80)) < odds).astype(float))
    model = SoftmaxMF(16, random_state=0).fit(cells)
    assert model.n_epochs_ == 0
    wanted = Popularity().fit(cells).predict(0, np.arange(80))
    scores = model.predict(0, np.arange(80))
    assert (np.diff(scores[np.argsort(wanted)]) >= -1e-6).all()
    new = model.recommend(ratings=[3, 5], k=78)              # of few that are unpopular
    np.testing.assert_allclose(new[1][0], np.sort(np.delete(scores, [3, 5]))[::-1], rtol=1e-6)


def test_the_temperature_of_the_better_short_fit_is_taken_and_kept(tmp_path):
    random, hits = np.random.default_rng(0), np.linspace(0.02, 0.6, 60)
    popular = sp.csr_array((random.random((90, 60)) < hits).astype(float))
    at = Vectors(*(np.random.default_rng(1).standard_normal((n, 8)) for n in popular.shape))
    before = at.copy()
    for taus in ((0.02, 0.5), (0.5, 0.02)):
        made = RankingAdam(
            popular, Ranked(Softmax(0.1), True, 0.0), Negatives(None, False), (None, None),
            Adam(0.01, lazy=True), 64, seed=0, start=SpectralStart(popular, 1.0), taus=taus)
        assert warmest(made, at, Pool(1)) == 0.5
        assert (made.done, made.optimizer.t) == (0, 0)
    np.testing.assert_array_equal(at.Q, before.Q)
    cells = audiences()
    model = SoftmaxMF(8, n_epochs=1, random_state=0).fit(cells)
    assert model.temperature_ in (0.2, 0.4)
    model.save(tmp_path / "model")
    assert mfcore.load(tmp_path / "model").temperature_ == model.temperature_
    assert SoftmaxMF(8, temperature=0.3, n_epochs=1).fit(cells).temperature_ == 0.3


def test_a_loss_without_a_temperature_has_one_of_1():
    model = SoftmaxMF(8, loss="warp", n_epochs=1).fit(samples.counts())
    assert model.temperature_ == 1


def cells_of_a_search(shape, density, batch_size, monkeypatch):
    """How many cells each epoch of a search for a temperature visits."""
    cells = sp.csr_array((np.random.default_rng(0).random(shape) < density).astype(float))
    seen = []
    monkeypatch.setattr(RankingAdam, "epoch", lambda made, at, pool: seen.append(made.cells.nnz))
    at = Vectors(*(np.random.default_rng(1).standard_normal((n, 4)) for n in shape))
    warmest(RankingAdam(
        cells, Ranked(Softmax(0.1), True, 0.0), Negatives(None, False), (None, None),
        Adam(0.01, lazy=True), batch_size, seed=0, start=SpectralStart(cells, 1.0),
        taus=(0.1, 0.2)), at, Pool(1))
    return seen


@pytest.mark.parametrize(("batch_size", "epochs"), [(256, 2), (50_000, 8)])
def test_a_search_for_a_temperature_costs_little_more_with_wide_batches(
        batch_size, epochs, monkeypatch):
    assert len(cells_of_a_search((1500, 60), 0.5, batch_size, monkeypatch)) == 2 * epochs


def test_a_search_for_a_temperature_takes_no_more_steps_on_fewer_choices_than_a_batch(monkeypatch):
    seen = cells_of_a_search((20, 10), 0.4, 256, monkeypatch)
    assert max(seen) < 256                          # (so that an epoch is a step)
    assert len(seen) == 2 * MOST_DRAWS * STEPS


def test_an_epoch_visits_every_chosen_cell_once_in_an_order_of_its_own():
    made = solver(5)
    orders = []
    for made.done in (0, 1):
        batches = list(made.batches())
        visited = np.concatenate([batch.users * 20 + batch.items for batch in batches])
        assert sorted(visited) == sorted(made._users * 20 + made.cells.indices)
        orders.append(visited.tolist())
    assert orders[0] != orders[1]


@pytest.mark.kernel
def test_what_a_user_has_chosen_is_hidden_and_nothing_else():
    made, stored = solver(9), solver().cells.toarray() > 0
    for batch in made.batches():
        hidden = np.zeros((len(batch.users), len(batch.negatives)), bool)
        hidden[batch.hidden] = True
        np.testing.assert_array_equal(hidden, stored[batch.users][:, batch.negatives])


@pytest.mark.kernel
@pytest.mark.parametrize("negatives", [[7], [0, 11, 150, 399], list(range(0, 400, 9)),
                                       list(range(3, 400))])
def test_what_is_hidden_is_found_in_long_rows_and_in_short_ones(negatives):
    random = np.random.default_rng(5)
    dense = random.random((3, 400)) < np.array([[0.9], [0.02], [0.0]])
    users, place = np.array([0, 1, 2, 0]), np.full(400, -1)
    place[negatives] = random.permutation(len(negatives))
    hidden = np.zeros((4, len(negatives)), bool)
    hidden[chosen(sp.csr_array(dense), users, place)] = True
    expected = np.zeros_like(hidden)
    expected[:, place[negatives]] = dense[users][:, negatives]
    np.testing.assert_array_equal(hidden, expected)


@pytest.mark.kernel
@pytest.mark.parametrize("popular", [False, True])
def test_the_weights_of_drawn_negatives_add_up_to_the_items_that_can_be_drawn(popular):
    made, random = solver(), np.random.default_rng(0)
    can = made._counts > 0 if popular else np.ones(20, bool)
    total = np.zeros(20)
    for _ in range(3000):
        drawn, w = Negatives(7, popular).draw(made.cells, made._counts, random)
        assert len(np.unique(drawn)) == len(drawn)
        total[drawn] += w / 3000
    np.testing.assert_allclose(total[can], 1, atol=0.15)
    assert not total[~can].any()


@pytest.mark.kernel
def test_a_step_has_the_gradient_of_the_objective():
    F, E = (sp.csr_array(np.random.default_rng(n).normal(size=(n, 4))) for n in (30, 20))
    made = solver(8, reg=0.07, features=(F, E))
    at = Vectors(*(np.random.default_rng(1).normal(size=(n, 3)) for n in (30, 20, 4, 4)))
    batch = next(made.batches())
    wanted = made.problem.gradient(at, batch, Pool(1))
    found = made.problem.slopes(at, batch, Pool(1), 1 / 16)
    got = made._gradients(batch, found, made._of(at), Pool(1))
    for name, parameter in made._of(at).items():
        np.testing.assert_allclose(16 * got.dense(parameter), getattr(wanted, name), atol=1e-12)


@pytest.mark.kernel
def test_the_loss_of_an_epoch_is_the_mean_over_cells():
    made, random = solver(), np.random.default_rng(0)
    made.optimizer = Adam(1e-12, lazy=True)
    at = Vectors(*(random.standard_normal((n, 4)) for n in (30, 20)))
    with Pool(1) as pool:
        wanted = sum(made.problem.slopes(at, batch, pool).value for batch in made.batches())
        assert made.epoch(at, pool) == pytest.approx(wanted / made.cells.nnz)


@pytest.mark.kernel
def test_rows_outside_of_a_batch_stay():
    made = solver(2)
    at = Vectors(np.ones((30, 3)), np.random.default_rng(0).normal(size=(20, 3)))
    before, batch = at.copy(), next(made.batches())
    made.optimizer.step(made._gradients(batch, made.problem.slopes(at, batch, Pool(1)),
                                        made._of(at), Pool(1)), Pool(1))
    assert set(np.flatnonzero((at.Q != before.Q).any(1))) <= set(batch.columns)
    assert set(np.flatnonzero((at.P != before.P).any(1))) <= set(batch.users)


# ------------------------------------------------------------------------------- new rows

@pytest.mark.kernel
@pytest.mark.parametrize("cosine", [True, False], ids=["cosine", "dot"])
@pytest.mark.parametrize("loss", [LOSSES["softmax"], LOSSES["tanh"], LOSSES["bpr"]],
                         ids=["softmax", "psl", "bpr"])
def test_a_new_row_is_brought_to_a_minimum_of_its_objective(loss, cosine):
    random = np.random.default_rng(0)
    Q, cells = random.normal(size=(9, 3)), sp.csr_array(np.eye(2, 9) + np.eye(2, 9, 4))
    problem, P = Ranked(loss, cosine, 0.0 if cosine else 0.1), random.normal(size=(2, 3))
    fold_in_by_ranking(cells, P, Q, np.arange(9), np.ones(9), problem, Pool(1))
    users, items = cells.nonzero()
    batch = Batch(users, items, np.arange(9), np.ones(9), np.nonzero(cells.toarray()[users]))
    assert np.abs(problem.gradient(Vectors(P, Q), batch, Pool(1)).P).max() < 1e-4
    other = P + 0.1 * random.normal(size=(2, 3))
    assert problem.value(Vectors(other, Q), batch, Pool(1)) > problem.value(Vectors(P, Q), batch,
                                                                            Pool(1))


def test_a_new_user_of_like_taste_gets_a_list_like_that_of_a_known_one():
    model = small(n_factors=8, n_epochs=20).fit(audiences())
    folded = model.fold_in_users(audiences()[:60]).factors
    cosines = np.einsum("nf,nf->n", folded, model.user_factors_[:60])
    assert np.median(cosines) > 0.8


# ------------------------------------------------------------------------------ the model

@pytest.mark.parametrize(("given", "features"), [
    ({}, {}), ({"temperature": 0.3}, {"user_features": "history"})],
    ids=["temperature found", "history"])
def test_the_bits_do_not_depend_on_the_threads(given, features):
    cells = samples.counts(200, 90)
    fits = [small(n_factors=16, n_epochs=2, batch_size=300, n_negatives=70, n_threads=n, **given
                  ).fit(cells, **features) for n in (1, 2, 8)]
    for other in fits[1:]:
        assert other.user_factors_.tobytes() == fits[0].user_factors_.tobytes()
        assert other.item_factors_.tobytes() == fits[0].item_factors_.tobytes()


def test_a_resumed_fit_ends_with_the_same_bits(tmp_path):
    cells, path = samples.counts(), tmp_path / "checkpoint"
    whole = small(n_epochs=4).fit(cells, user_features="history")
    with pytest.raises(KeyboardInterrupt):
        small(n_epochs=4).fit(cells, user_features="history", checkpoint=path,
                              callbacks=[interrupted_after(2)])
    went_on = small(n_epochs=4).fit(cells, user_features="history", checkpoint=path)
    assert went_on.n_epochs_ == 4
    assert went_on.user_factors_.tobytes() == whole.user_factors_.tobytes()


def interrupted_after(n_epochs: int):
    def callback(model, record):
        if record["epoch"] > n_epochs:
            raise KeyboardInterrupt
    return callback


def test_vectors_of_cosines_have_length_one_and_their_products_are_the_scores():
    model = small().fit(samples.named())
    for X in (model.user_factors_, model.item_factors_):
        np.testing.assert_allclose(np.linalg.norm(X, axis=1), 1, rtol=1e-5)
    items, scores = model.recommend(["u0"], 3)
    np.testing.assert_allclose(model.predict(["u0"] * 3, items[0]), scores[0], atol=1e-6)
    _, cosines = model.recommend(["u0"], 3, similarity="cosine")
    np.testing.assert_allclose(cosines, scores, atol=1e-6)


def test_cells_above_zero_are_chosen_and_count_the_same():
    cells = samples.counts()
    more, without = cells.copy(), cells.copy()
    more.data = np.where(cells.data > 0, 3 * cells.data + 1, -2.0)
    without.eliminate_zeros()
    wanted = small().fit(cells)
    for other in (more, without):
        assert small().fit(other).item_factors_.tobytes() == wanted.item_factors_.tobytes()


def test_users_and_items_take_part_by_their_features():
    """Two groups of users choose two halves of the items; a new user is known by its group."""
    random = np.random.default_rng(0)
    group, half = np.arange(60) % 2, np.arange(20) // 10
    likes = (random.random((60, 20)) < 0.4) & (group[:, None] == half[None])
    cells = sp.csr_array(likes.astype(float))
    model = small(n_epochs=30, n_factors=4, learning_rate=0.1).fit(
        cells, user_features=[[f"g{each}"] for each in group],
        item_features=[[f"h{each}"] for each in half])
    assert model.user_feature_factors_.shape == (2, 4)
    best, _ = model.recommend(user_features=[["g0"], ["g1"]], k=5)
    np.testing.assert_array_equal(half[best], [[0] * 5, [1] * 5])
    both = model.recommend(user_features=[["g1"]], ratings=cells[[0]], k=10)[0]
    assert (half[both] == 1).sum() < 10             # (what it has chosen has a say)


@pytest.mark.parametrize("loss", ["softmax", "psl", "sl@k", "bpr", "ccl", "warp"])
def test_every_loss_finds_the_audiences_that_popularity_cannot(loss):
    train, test = per_user_split(Ratings(audiences()), 0.2, random_state=0)
    model = small(n_factors=8, loss=loss, n_epochs=15).fit(train)
    found, popular = (evaluate(each, test, metrics="ndcg@10")["ndcg@10"]
                      for each in (model, Popularity().fit(train)))
    assert found > 1.5 * popular


def test_the_temperature_falls_from_a_fifth_to_a_tenth_with_the_number_of_items():
    found = [temperature_of(n) for n in (1, 2000, 9000, 40_000, 10**7)]
    np.testing.assert_allclose(found, [0.2, 0.2, 0.1498, 0.1, 0.1], atol=1e-4)
    auto = small(temperature="auto").fit(samples.counts())
    given = small(temperature=auto.temperature_).fit(samples.counts())
    assert given.item_factors_.tobytes() == auto.item_factors_.tobytes()


def test_an_item_that_nobody_has_chosen_has_no_vector_where_it_is_never_drawn():
    cells = samples.counts()
    model = small(sampling="popularity", n_negatives=5).fit(cells)
    assert not model.item_factors_[samples.SILENT_ITEM].any()
    assert small().fit(cells).item_factors_[samples.SILENT_ITEM].any()


def test_a_user_who_has_chosen_everything_is_let_be():
    cells = sp.csr_array(np.vstack([np.ones(8), np.eye(3, 8)]))
    assert np.isfinite(small().fit(cells).recommend(k=2)[1][1:]).all()


@pytest.mark.parametrize(("changes", "message"), [
    ({"temperature": 0.0}, "temperature must be"), ({"temperature": -1.0}, "temperature must be"),
    ({"n_negatives": 9}, "n_negatives must be at most the number of items, 8, got 9; None takes"),
    ({"n_negatives": 0}, "n_negatives must be"), ({"loss": "hinge"}, "loss must be one of")])
def test_what_cannot_be_learned_by_is_refused_before_any_work(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes).fit(samples.counts())


def test_ratings_without_a_chosen_cell_are_refused():
    with pytest.raises(ValueError, match="at least one value above 0, got none: SoftmaxMF"):
        small().fit(sp.csr_array(-np.eye(3)))


def test_a_new_row_first_steps_a_quarter_of_its_length_and_at_most_its_gradient():
    u, g = np.array([3.0, 4.0]), np.array([0.0, 10.0])
    assert _first(u, g) * np.linalg.norm(g) == pytest.approx(np.linalg.norm(u) / 4)
    assert _first(u, 0.01 * g) == 1.0
    assert _first(0 * u, g) * np.linalg.norm(g) == 0.25
