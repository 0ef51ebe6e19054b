"""BPR: its draws, its steps against the objective's gradient, its strata, the estimator."""

from __future__ import annotations

import math

import numpy as np
import pytest
import samples
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

import mfcore
from mfcore import BPR, Popularity, Ratings, evaluate
from mfcore.data.split import per_user_split
from mfcore.kernels import bpr as kernels
from mfcore.objectives.pairwise import Pairwise, Ranking
from mfcore.parallel import Pool
from mfcore.solvers import bpr as solver
from mfcore.solvers.bpr import PairwiseSGD, Steps, item_orders, n_strata
from mfcore.validation import DivergenceError

UNIFORM = np.zeros((0, 0), np.int32)
STEPS = Steps(learning_rate=0.3, reg=0.07, bias_reg=0.13, decay=0.0, learns_bias=True)


def pattern(n_users: int, n_items: int, density: float, seed: int = 0) -> sp.csr_array:
    """A random pattern of ones, no row full, int32 and sorted, as Ratings hold it."""
    stored = np.random.default_rng(seed).random((n_users, n_items)) < density
    stored[np.arange(n_users), np.arange(n_users) % n_items] = False
    return Ratings(sp.csr_array(stored.astype(np.float32))).by_user


def point(n_users: int, n_items: int, k: int = 3, seed: int = 0, dtype: type = np.float64
          ) -> Ranking:
    random = np.random.default_rng(seed)
    return Ranking(*(random.normal(size=shape).astype(dtype)
                     for shape in ((n_users, k), (n_items, k), n_items)))


def small(**changes) -> BPR:
    return BPR(**{"n_factors": 3, "n_epochs": 3, "random_state": 0, "n_threads": 1, **changes})


def bits(model: BPR) -> list[bytes]:
    return [array.tobytes() for array in (model.user_factors_, model.item_factors_,
                                          model.item_bias_) if array is not None]


# ------------------------------------------------------------------------------ draws

def numbers(size: int, key: int, start: int = 0) -> np.ndarray:
    return np.array([kernels.mix(start + t, key) for t in range(size)]) / 2**32


def draws(rated: list[int], members: list[int], n: int, orders: np.ndarray = UNIFORM,
          p: tuple[float, ...] = (1.0, 1.0), n_items: int = 30,
          sd: tuple[float, ...] = (1.0, 1.0)) -> list[int]:
    """One negative for each of n rows that rated the same items."""
    out, flags = np.zeros(len(rated), np.int32), np.zeros(n_items, bool)
    P = np.array([p])
    items, members = np.array(rated, np.int32), np.array(members, np.int32)
    found = []
    for first in range(n):
        count = kernels.draw_row(P, 0, items, 0, len(rated), first * len(rated), members,
                                 np.array(sd), orders, 12345, flags, out)
        found += out[:count].tolist()
        assert not flags.any()
    return found


@pytest.mark.kernel
def test_the_hash_is_that_of_plain_integers():
    def plain(x, key):
        x = (x + key) % 2**32
        x = (x ^ x >> 16) * 0x7FEB352D % 2**32
        x = (x ^ x >> 15 ^ key >> 32) * 0x45D9F3B5 % 2**32
        x = (x ^ x >> 16) * 0x31848BAB % 2**32
        return x ^ x >> 15

    for x, key in [(0, 0), (1, 2**63 - 1), (2**40 + 7, 2**62 + 12345), (2**32 - 1, 2**32 - 1)]:
        assert kernels.mix(x, key) == plain(x, key)


@pytest.mark.kernel
@pytest.mark.parametrize("key", [1, 2**40 + 17, 2**62 - 2])
def test_hashes_of_a_sequence_are_uniform_and_not_correlated(key):
    x = numbers(4000, key)
    counts = np.histogram(x, 20, (0, 1))[0]
    assert np.sum((counts - 200) ** 2 / 200) < 43.8             # 99.9 % of χ² with 19
    for lag in (1, 2, 16):
        assert abs(np.corrcoef(x[:-lag], x[lag:])[0, 1]) < 0.06
    assert abs(np.corrcoef(x, numbers(4000, key ^ 2**40))[0, 1]) < 0.06


@pytest.mark.kernel
def test_negatives_are_uniform_over_the_members_not_rated():
    found = draws([3, 7, 8], [1, 3, 4, 7, 8, 11, 20], 700)
    assert set(found) == {1, 4, 11, 20}
    counts = np.bincount(found)[[1, 4, 11, 20]]
    assert np.sum((counts - 525) ** 2 / 525) < 16.3             # 99.9 % of χ² with 3


@pytest.mark.kernel
def test_the_one_negative_that_is_left_is_found_and_none_is_told():
    rated = list(range(29))
    assert set(draws(rated, list(range(30)), 3)) == {29}
    assert draws(rated, rated, 3) == []


@pytest.mark.kernel
def test_adaptive_negatives_score_high_along_the_factor_that_matters():
    orders = np.array([np.arange(20), np.arange(20)[::-1]], np.int32)
    members = list(range(10, 30))
    upper = np.mean(draws([0], members, 300, orders, p=(2.0, 0.0)))
    lower = np.mean(draws([0], members, 300, orders, p=(-2.0, 0.0)))
    other = np.mean(draws([0], members, 300, orders, p=(0.0, 2.0)))
    assert upper > 22.5                                 # 19.5 if uniform
    assert lower < 16.5
    assert other < 16.5


@pytest.mark.kernel
def test_the_weight_of_a_factor_is_its_size_times_its_spread():
    shares = np.empty(3)
    kernels._favour(np.array([[9.0, 9.0, 9.0], [-3.0, 0.5, 2.0]]), 1, np.array([2.0, 4.0, 0.5]),
                    shares)
    np.testing.assert_allclose(shares, [6.0, 8.0, 9.0])


@pytest.mark.kernel
def test_adaptive_factors_are_drawn_in_proportion_to_their_weight():
    orders = np.array([np.arange(20), np.arange(20)[::-1]], np.int32)
    sure, mixed, spread = (
        np.mean(np.array(draws([0], list(range(10, 30)), 2000, orders, p=p, sd=sd)) > 19)
        for p, sd in (((1.0, 0.0), (1.0, 1.0)), ((3.0, 1.0), (1.0, 1.0)),
                      ((-0.5, 2.0), (6.0, 0.5))))
    assert sure > 0.75
    assert mixed == pytest.approx(0.75 * sure + 0.25 * (1 - sure), abs=0.04)
    assert spread == pytest.approx(1 - sure, abs=0.03)      # both factors draw low places


# ------------------------------------------------------------------------------ steps

def one_by_one(positives, at, key, members, starts, items, users, s, steps=STEPS):
    """The steps of a block by the gradient of the objective, one triple at a time."""
    loss, eta = 0.0, steps.learning_rate
    for u in users:
        lo, hi = starts[u, s], starts[u, s + 1]
        left, flags = np.zeros(hi - lo, np.int32), np.zeros(positives.shape[1], bool)
        n = kernels.draw_row(at.P, u, items, lo, hi, lo, members, np.zeros(3), UNIFORM, key,
                             flags, left)
        for i, j in zip(items[lo:lo + n], left, strict=False):
            triple = Pairwise(*(np.array([x]) for x in (u, i, j)), steps.reg, steps.bias_reg,
                              steps.learns_bias)
            loss += np.logaddexp(0, -triple.margins(at)[0])
            gradient = triple.gradient(at)
            for name in vars(at):
                getattr(at, name)[...] -= eta * getattr(gradient, name)
    return loss


@pytest.mark.kernel
@pytest.mark.parametrize("learns_bias", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_block_steps_down_the_gradient_of_each_triple(dtype, learns_bias):
    steps = Steps(0.3, 0.07, 0.13, 0.0, learns_bias)
    positives = pattern(6, 9, 0.4)
    starts = np.column_stack([positives.indptr[:-1], positives.indptr[1:]]).astype(np.int64)
    users, members = np.array([4, 0, 3, 1, 5, 2]), np.arange(9, dtype=np.int32)
    at, twin = point(6, 9, dtype=dtype), point(6, 9, dtype=dtype)
    twin = Ranking(*(part.astype(np.float64) for part in vars(twin).values()))
    loss = kernels.train_block(users, starts, positives.indices, 0, members, np.zeros(3, dtype),
                               UNIFORM, 99, steps.rates(0), at.P, at.Q, at.gamma)
    wanted = one_by_one(positives, twin, 99, members, starts, positives.indices, users, 0, steps)
    tolerance = 1e-12 if dtype == np.float64 else 2e-5
    assert loss == pytest.approx(wanted, rel=tolerance)
    for name in vars(at):
        np.testing.assert_allclose(getattr(at, name), getattr(twin, name), rtol=tolerance,
                                   atol=tolerance)


@pytest.mark.kernel
@pytest.mark.parametrize("sampling", ["uniform", "adaptive"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_folded_row_takes_the_steps_of_training_with_the_items_frozen(dtype, sampling):
    positives, members = pattern(6, 9, 0.4), np.arange(9, dtype=np.int32)
    at, rates = point(6, 9, dtype=dtype), np.stack([STEPS.rates(0), STEPS.rates(3) / 2])
    sd, orders = item_orders(at.Q, members, sampling == "adaptive")
    before, wanted = at.copy(), at.P.astype(np.float64)
    kernels.fold_in_rows(positives.indptr, positives.indices, members, sd, orders, 99, rates, at.P,
                         at.Q, at.gamma, 1, 5)
    for u in range(1, 5):
        lo, hi = positives.indptr[u:u + 2]
        items, left = positives.indices[lo:hi], np.zeros(hi - lo, np.int32)
        for n, (eta, shrink, _, _) in enumerate(rates):
            count = kernels.draw_row(wanted.astype(dtype), u, positives.indices, int(lo), int(hi),
                                     n * int(hi - lo), members, sd, orders, 99,
                                     np.zeros(9, bool), left)
            for i, j in zip(items, left[:count], strict=True):
                D = before.Q[i].astype(np.float64) - before.Q[j]
                x = wanted[u] @ D + before.gamma[i] - before.gamma[j]
                wanted[u] = (1 - shrink) * wanted[u] + eta / (1 + np.exp(x)) * D
    np.testing.assert_allclose(at.P, wanted, rtol=1e-12 if dtype == np.float64 else 1e-5, atol=1e-6)
    np.testing.assert_array_equal(at.Q, before.Q)
    np.testing.assert_array_equal(at.gamma, before.gamma)


@pytest.mark.kernel
@pytest.mark.parametrize("x", [-1e4, -20.0, 1e4])
def test_margins_of_any_size_give_a_finite_loss(x):
    at = Ranking(np.zeros((1, 1)), np.zeros((2, 1)), np.array([x, 0.0]))
    loss = kernels.train_block(
        np.array([0]), np.array([[0, 1]]), np.array([0], np.int32), 0, np.arange(2, dtype=np.int32),
        np.zeros(1), UNIFORM, 1, STEPS.rates(0), at.P, at.Q, at.gamma)
    assert loss == pytest.approx(min(max(-x, 0), 500), rel=1e-8, abs=1e-8)


def test_the_inverse_schedule_divides_the_rate():
    steps = Steps(0.3, 0.07, 0.13, 0.5, True)
    np.testing.assert_allclose(steps.rates(4), [0.1, 0.014, 0.1, 0.026])


# ----------------------------------------------------------------------------- strata

@given(n_users=st.integers(1, 12), n_items=st.integers(1, 12), g=st.integers(1, 4),
       seed=st.integers(0, 99))
@pytest.mark.kernel
def test_grouping_keeps_every_cell_in_its_row_and_its_stratum(n_users, n_items, g, seed):
    positives = pattern(n_users, n_items, 0.5, seed)
    stratum = np.random.default_rng(seed).integers(g, size=n_items).astype(np.int32)
    starts, out = np.zeros((n_users, g + 1), np.int64), np.zeros(positives.nnz, np.int32)
    for u in range(n_users):
        kernels.group_cells(positives.indptr, positives.indices, stratum, starts, out, u, u + 1)
    for u in range(n_users):
        row = positives.indices[positives.indptr[u]:positives.indptr[u + 1]]
        for s in range(g):
            assert out[starts[u, s]:starts[u, s + 1]].tolist() == row[stratum[row] == s].tolist()


@pytest.fixture
def cut(monkeypatch):
    """Cut even small data into strata."""
    monkeypatch.setattr(solver, "BLOCK_CELLS", 20)
    monkeypatch.setattr(solver, "STRATUM_ITEMS", 8)


def test_epochs_draw_by_keys_from_the_whole_of_63_bits():
    positives = pattern(6, 4, 0.5)
    with Pool(1) as pool:
        keys = [solver._Plan(positives, np.random.default_rng(seed), pool).key
                for seed in range(20)]
    assert len(set(keys)) == 20
    assert max(keys) >= 2**62


@pytest.mark.usefixtures("cut")
def test_blocks_of_a_diagonal_share_no_user_and_no_item_and_an_epoch_meets_every_cell():
    positives = pattern(60, 40, 0.3)
    with Pool(1) as pool:
        plan = solver._Plan(positives, np.random.default_rng(3), pool)
    assert plan.g == 5
    assert sorted(np.concatenate(plan.members).tolist()) == list(range(40))
    assert sorted(np.concatenate(plan.users).tolist()) == list(range(60))
    met = {(u, i) for users in plan.users for s in range(plan.g) for u in users
           for i in plan.items[plan.starts[u, s]:plan.starts[u, s + 1]]}
    assert met == set(zip(*positives.nonzero(), strict=True))
    cells = [np.diff(positives.indptr)[users].sum() for users in plan.users]
    assert max(cells) < 1.3 * min(cells)
    draws = plan.starts[plan.users[0], 1].sum() - plan.starts[plan.users[0], 0].sum()
    assert len(plan.portions(0, 0)) == np.ceil(draws / (8 * np.log(8 + 1)))


@pytest.mark.usefixtures("cut")
def test_negatives_over_many_epochs_are_uniform_over_what_a_user_has_left():
    positives = pattern(12, 40, 0.4, seed=4)
    counts, n_epochs = np.zeros(40), 400
    row = set(positives.indices[positives.indptr[5]:positives.indptr[6]].tolist())
    with Pool(1) as pool:
        for epoch in range(n_epochs):
            plan = solver._Plan(positives, np.random.default_rng([1, epoch]), pool)
            for s in range(plan.g):
                lo, hi = plan.starts[5, s:s + 2]
                left, flags = np.zeros(hi - lo, np.int32), np.zeros(40, bool)
                n = kernels.draw_row(np.zeros((12, 2)), 5, plan.items, lo, hi, lo,
                                     plan.members[s], np.zeros(2), UNIFORM, plan.key, flags, left)
                np.add.at(counts, left[:n], 1)
    assert plan.g > 1
    free = np.array(sorted(set(range(40)) - row))
    assert counts[sorted(row)].sum() == 0
    expected = n_epochs * len(row) / len(free)
    assert np.sum((counts[free] - expected) ** 2 / expected) < 54.1     # 99.9 % of χ² with 26
    assert len(free) == 27


def test_the_number_of_strata_is_a_function_of_the_data_and_bounded():
    assert n_strata((10, 10), 50) == 1
    assert n_strata((100_000, 20_000), 20_000_000) == 16
    assert n_strata((100_000, 64), 2_000_000) == 2
    assert n_strata((3, 20_000), 50_000) == 2


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("sampling", ["uniform", "adaptive"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_any_number_of_threads_gives_the_same_bits(sampling, dtype):
    positives = pattern(60, 40, 0.3)
    models = [small(sampling=sampling, dtype=dtype, n_threads=n).fit(positives)
              for n in (1, 2, 8)]
    assert n_strata(positives.shape, positives.nnz) > 1
    assert bits(models[0]) == bits(models[1]) == bits(models[2])
    assert models[0].history_[-1]["loss"] == models[2].history_[-1]["loss"]
    folded = [model.fold_in_users(positives).factors for model in models]
    assert folded[0].tobytes() == folded[2].tobytes()


@pytest.mark.usefixtures("cut")
def test_an_adaptive_block_is_cut_into_portions_that_hold_every_user_once():
    positives = pattern(60, 40, 0.3)
    with Pool(1) as pool:
        plan = solver._Plan(positives, np.random.default_rng(3), pool)
    portions = plan.portions(1, 2)
    assert len(portions) > 1
    np.testing.assert_array_equal(np.concatenate(portions), plan.users[1])
    m = len(plan.members[2])
    for users in portions[:-1]:
        draws_of = (plan.starts[users, 3] - plan.starts[users, 2]).sum()
        assert draws_of <= m * math.log(m + 1) + m


def test_a_solver_resumed_from_its_state_goes_on_to_the_same_bits():
    positives = pattern(20, 15, 0.3)
    at, again = point(20, 15), point(20, 15)
    first, second = (PairwiseSGD(positives, STEPS, False, seed) for seed in (7, 8))
    with Pool(1) as pool:
        first.epoch(at, pool)
        again = at.copy()
        second.resume(at, first.state())
        first.epoch(at, pool)
        second.epoch(again, pool)
    assert at.P.tobytes() == again.P.tobytes()


# -------------------------------------------------------------------------- the model

def test_a_seed_decides_the_model_and_another_seed_changes_it():
    cells = samples.counts()
    assert bits(small().fit(cells)) == bits(small().fit(cells))
    assert bits(small().fit(cells)) != bits(small(random_state=1).fit(cells))


def test_the_planted_order_is_found_and_beats_popularity(planted):
    train, test = per_user_split(planted.ratings, 0.2, 0)
    model = BPR(8, reg=0.03, n_epochs=20, random_state=0).fit(train)
    assert model.history_[-1]["loss"] < 0.9 * model.history_[0]["loss"]
    ours, popular = (evaluate(each, test, metrics="ndcg", k=10)["ndcg@10"]
                     for each in (model, Popularity().fit(train)))
    assert ours > popular + 0.05
    assert model.score(test) == pytest.approx(ours)


def test_scores_are_vectors_and_bias_of_the_item():
    model = small().fit(samples.named(samples.counts()))
    wanted = model.item_factors_ @ model.user_factors_[2] + model.item_bias_
    items = samples.names(8, "i")
    np.testing.assert_allclose(model.predict("u2", items), wanted, rtol=1e-5)
    assert model.user_bias_ is None
    assert np.isfinite(model.predict("nobody", ["i1", "unknown"])).all()
    best, scores = model.recommend("u2", k=3, exclude_seen=False)
    assert best[0].tolist() == [items[i] for i in np.argsort(-wanted)[:3]]
    assert scores.shape == (1, 3)


def test_without_item_bias_there_is_none():
    model = small(item_bias=False).fit(samples.counts())
    assert model.item_bias_ is None
    wanted = model.item_factors_ @ model.user_factors_[1]
    np.testing.assert_allclose(model.predict(1, np.arange(8)), wanted, rtol=1e-5)


def test_cells_of_zero_and_below_are_not_preferred_but_seen():
    cells = samples.counts()
    cells.data[::3] = np.where(np.arange(len(cells.data[::3])) % 2, 0.0, -2.0)
    liked = cells.copy()
    liked.data = np.maximum(liked.data, 0)
    liked.eliminate_zeros()
    assert bits(small().fit(cells)) == bits(small().fit(liked))
    seen = cells.indices[:cells.indptr[1]]
    assert not np.isin(small().fit(cells).recommend(0, k=8)[0][0], seen).any()


def test_a_new_user_with_a_known_row_is_recommended_much_the_same(planted):
    model = BPR(8, random_state=0).fit(planted.ratings)
    folded = model.fold_in_users(planted.ratings)
    assert folded.bias is None
    trained = model.user_factors_ @ model.item_factors_.T
    again = folded.factors @ model.item_factors_.T
    alike = [np.corrcoef(left, right)[0, 1] for left, right in zip(trained, again, strict=True)]
    assert np.median(alike) > 0.8


def test_a_folded_row_does_not_depend_on_the_rows_beside_it():
    cells = samples.counts()
    model = small().fit(cells)
    together = model.fold_in_users(cells).factors
    alone = np.vstack([model.fold_in_users(cells[[u]]).factors for u in range(11)])
    np.testing.assert_array_equal(together, alone)
    assert not together[samples.SILENT_USER].any()
    items, _ = model.recommend(ratings=cells[[0]], k=8)
    assert not np.isin(items[0], cells.indices[:cells.indptr[1]]).any()


def test_a_new_user_who_rated_everything_has_the_zero_vector():
    model = small().fit(samples.counts())
    assert not model.fold_in_users(sp.csr_array(np.ones((1, 8)))).factors.any()
    assert np.isfinite(model.predict(0, np.arange(8), ratings=sp.csr_array(np.ones((1, 8))))).all()


def test_a_saved_model_answers_alike(tmp_path):
    model = small().fit(samples.named(samples.counts()))
    model.save(tmp_path / "model")
    loaded = mfcore.load(tmp_path / "model")
    assert bits(loaded) == bits(model)
    assert loaded.get_params() == model.get_params()
    for answer in (lambda m: m.recommend(k=3), lambda m: m.similar_items(["i2"], k=3),
                   lambda m: m.recommend(ratings=samples.counts()[:2], k=3)):
        for left, right in zip(answer(model), answer(loaded), strict=True):
            np.testing.assert_array_equal(left, right)


def test_patience_restores_the_best_epoch(planted):
    train, test = per_user_split(planted.ratings, 0.2, 0)
    model = BPR(8, learning_rate=0.3, reg=0.0, n_epochs=60, patience=4, random_state=0)
    model.fit(train, eval_set=test)
    curve = [record["ndcg@10"] for record in model.history_]
    assert len(curve) < 60
    assert model.score(test) == pytest.approx(max(curve))


def test_a_callback_ends_a_fit_and_tol_too():
    cells = samples.counts()
    assert small(n_epochs=9).fit(cells, callbacks=[lambda m, r: r["epoch"] == 2]).n_epochs_ == 2
    assert small(n_epochs=9, tol=0.9).fit(cells).n_epochs_ == 2


@pytest.mark.parametrize("ask", ["explain", "fold_in_items"])
def test_what_it_cannot_do_is_said(ask):
    model = small().fit(samples.counts())
    arguments = (0, 0) if ask == "explain" else (samples.counts(),)
    with pytest.raises(NotImplementedError, match="BPR cannot"):
        getattr(model, ask)(*arguments)


# -------------------------------------------------------------------------- bad input

def test_a_user_who_leaves_nothing_is_named():
    cells = np.ones((3, 4))
    cells[0, 1] = 0
    with pytest.raises(ValueError, match="all 4 are rated by 1, 2; leave out these 2 users"):
        small().fit(sp.csr_array(cells))
    named = Ratings(sp.csr_array(cells), user_ids=["ann", "ben", "cy"])
    with pytest.raises(ValueError, match="all 4 are rated by 'ben', 'cy'"):
        small().fit(named)


def test_ratings_without_a_preferred_cell_are_refused():
    zeros = samples.counts()
    zeros.data[:] = 0
    with pytest.raises(ValueError, match="at least one value above 0, got none"):
        small().fit(zeros)
    with pytest.raises(ValueError, match="at least one rating"):
        small().fit(sp.csr_array((3, 4)))


def test_weights_are_refused():
    cells = samples.counts()
    with pytest.raises(ValueError, match="BPR takes no weights"):
        small().fit(Ratings(cells, weights=samples.weights(cells)))


@pytest.mark.parametrize(("name", "value"), [
    ("n_factors", 0), ("sampling", "warp"), ("reg", -0.1), ("reg", math.nan), ("bias_reg", -1.0),
    ("learning_rate", 0.0), ("learning_rate", math.inf), ("schedule", "cosine"),
    ("decay", -0.5), ("n_epochs", 0), ("tol", -1.0), ("init_scale", 0.0), ("patience", 0),
    ("dtype", "float16"), ("random_state", -1)])
def test_a_parameter_out_of_range_is_named_before_any_work(name, value):
    with pytest.raises(ValueError, match=name):
        small(**{name: value}).fit(samples.counts())


def test_item_bias_must_be_a_truth_value():
    with pytest.raises(TypeError, match="item_bias must be True or False"):
        small(item_bias=1).fit(samples.counts())


def test_a_rate_that_diverges_names_epoch_and_remedy_and_keeps_the_last_state():
    model = small(learning_rate=1e6, reg=1.0, n_epochs=60)
    with np.errstate(all="ignore"), pytest.raises(
            DivergenceError, match=r"epoch \d+: .*lower learning_rate \(now 1e\+06\)"):
        model.fit(samples.counts())
    if model.__sklearn_is_fitted__():
        assert np.isfinite(model.item_factors_).all()
