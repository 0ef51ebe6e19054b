"""Folding: the measure against a dense twin, what it is blind to, and whom it lists."""

from __future__ import annotations

import math

import numpy as np
import pytest
import samples
import scipy.sparse as sp
from scipy.stats import rankdata, spearmanr

from mfcore import BiasOnly, ImplicitMF, MatrixFactorization, Popularity, Ratings, evaluate, load
from mfcore.data import split, synthetic
from mfcore.metrics import folding, measure
from mfcore.metrics.folding import Relatedness, RelatednessScorer, spurious_pairs
from mfcore.metrics.folding import folding as folding_of

# ------------------------------------------------------------------ the dense twin


def dense_relatedness(X: np.ndarray, k: int) -> np.ndarray:
    """D^½ Y (YᵀY)_k C^½ from the eigenvectors of a dense YᵀY; a thousandth is nothing."""
    d, c = (X.sum(axis=axis) + X.sum(axis=axis).mean() for axis in (1, 0))
    Y = X / np.sqrt(np.outer(d, c))
    values, V = np.linalg.eigh(Y.T @ Y)
    values[:-k] = 0.0
    r = np.sqrt(d)[:, None] * (Y @ (V * values) @ V.T) * np.sqrt(c)
    return np.where(r < 1e-3 * r.max(axis=1, keepdims=True), 0.0, r)


def dense_quantiles(model, k: int, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """q_s and q_r of each user's k best, by ranking every row of dense matrices."""
    beta, gamma = (0.0 if bias is None else bias for bias in (model.user_bias_, model.item_bias_))
    s = model.user_factors_ @ model.item_factors_.T + gamma + np.reshape(beta, (-1, 1))
    seen = samples.stored(model.ratings_.by_user)
    out = np.full((2, len(r), k), np.nan)
    for user, scores in enumerate(s):
        items = np.flatnonzero(~seen[user])
        best = items[np.argsort(-scores[items], kind="stable")][:k]
        places = np.searchsorted(items, best)
        for side, values in ((0, scores), (1, r[user])):
            out[side, user, :len(best)] = ((rankdata(values[items]) - 0.5) / len(items))[places]
        if not seen[user].any():
            out[1, user] = np.nan
    return out[0], out[1]


def gaps_of(model, k: int, n_factors: int) -> np.ndarray:
    r = dense_relatedness(samples.stored(model.ratings_.by_user).astype(float), n_factors)
    return np.subtract(*dense_quantiles(model, k, r))


@pytest.mark.parametrize("name", ["plain", "learned, unknown", "linear"])
@pytest.mark.parametrize("n_factors", [2, 5, 50])
def test_the_measure_is_that_of_dense_matrices(name, n_factors, monkeypatch):
    monkeypatch.setattr(folding, "ROUNDS", 60)     # noise has no gap in its spectrum
    cells = samples.matrix(30, 22, seed=4)      # (sparser ones have items that tie in theory)
    model = samples.fitted(name, cells, dtype="float64")
    related = Relatedness(model.ratings_, n_factors)
    gaps = gaps_of(model, 4, min(n_factors, 22))
    assert folding_of(model, 4, relatedness=related) == pytest.approx(
        np.nanmean(np.maximum(gaps, 0)), abs=1e-12)


def test_relatedness_of_full_rank_counts_walks(monkeypatch):
    """X C⁻¹ Xᵀ D⁻¹ X, written out; from any row of cells, new ones too."""
    monkeypatch.setattr(folding, "NOTHING", 0.0)
    cells = samples.matrix(20, 12, density=0.3)
    X = samples.stored(cells).astype(float)
    D, C = (np.diag(X.sum(axis=axis) + X.sum(axis=axis).mean()) for axis in (1, 0))
    walk = np.linalg.inv(C) @ X.T @ np.linalg.inv(D) @ X
    related = Relatedness(Ratings(cells), 12)
    np.testing.assert_allclose(related.scorer(cells).block(0, 20), X @ walk, atol=1e-12)
    new = samples.matrix(7, 12, seed=9)
    np.testing.assert_allclose(related.scorer(new).block(2, 6),
                               samples.stored(new)[2:6] @ walk, atol=1e-12)


def test_a_few_rounds_are_enough_for_the_measure(audiences, monkeypatch):
    model = fitted(audiences[0])
    few = folding_of(model)
    monkeypatch.setattr(folding, "ROUNDS", 60)
    assert folding_of(model) == pytest.approx(few, abs=2e-3)


def test_relatedness_does_not_look_at_the_values_of_ratings():
    cells, other = samples.matrix(), samples.matrix()
    other.data = np.random.default_rng(0).permutation(other.data)
    one, two = (Relatedness(Ratings(each), 3) for each in (cells, other))
    np.testing.assert_array_equal(one.A, two.A)


def test_audiences_without_a_common_item_are_unrelated():
    block = samples.matrix(12, 9, seed=3)
    both = sp.csr_array(sp.block_diag([block, samples.matrix(30, 20, seed=5)], format="csr"))
    r = Relatedness(Ratings(both), 6).scorer(both).block(0, 42)
    assert np.count_nonzero(r[:12, 9:]) == np.count_nonzero(r[12:, :9]) == 0
    assert (r[:12, :9] > 0).mean() > 0.8


# ----------------------------------------------------------------- what it is blind to

@pytest.fixture(scope="module")
def audiences():
    """Ratings of three audiences, cut in two, with the groups."""
    data = synthetic.planted_audiences(300, 150, 3, 6, 6, random_state=2)
    train, test = split.per_user_split(data.ratings, 0.2, random_state=0)
    return train, test, (data.user_groups, data.item_groups), data


def fitted(train, weight=0.0, **params):
    return MatrixFactorization(8, unknown_weight=weight, rating_scale=1.0, reg=1.1, bias_reg=2.0,
                               random_state=0, **params).fit(train)


def test_the_scale_of_the_scores_does_not_matter(audiences):
    train, test, *_ = audiences
    model = fitted(train)
    before = evaluate(model, test, metrics=["folding", "spurious_rate"])
    model.user_factors_ = 8 * model.user_factors_
    model.item_bias_ = 8 * model.item_bias_
    model.user_bias_ = model.user_bias_ - 3
    assert evaluate(model, test, metrics=["folding", "spurious_rate"]) == before


def test_recommending_what_is_most_related_does_not_fold():
    class Scorer(RelatednessScorer):
        def block(self, start, stop):
            return super().block(start, stop).astype(np.float32)    # (in which they are compared)

    class Related(Popularity):
        def answers(self):
            return self

        def scorer(self, rows, query, pool):
            found = Relatedness(self.ratings_).scorer(self.ratings_.cells_of(rows))
            return Scorer(found.P, found.B, found.known)

    model = Related().fit(samples.matrix(40, 30, seed=6, density=0.2))
    assert folding_of(model) == 0
    assert spurious_pairs(model) == []


def test_scores_that_have_nothing_to_do_with_relatedness_fold_by_half(audiences):
    train, *_ = audiences
    random = np.random.default_rng(0)
    model = fitted(train)
    for name in ("user_factors_", "item_factors_", "item_bias_"):
        setattr(model, name, random.normal(size=getattr(model, name).shape).astype(np.float32))
    assert folding_of(model) == pytest.approx(0.5, abs=0.05)


def test_more_than_half_of_the_candidates_apart_is_spurious():
    np.testing.assert_array_equal(folding.spurious(np.array([0.9, 0.5, -0.7, 0.51])), [1, 0, 0, 1])


@pytest.mark.parametrize("k", [1, 3])
def test_items_of_equal_score_are_measured_in_all_their_orders(k):
    cells = samples.matrix(20, 12, seed=1, density=0.3)
    cells = sp.csr_array(sp.hstack([cells, cells]))          # (each item has a twin)
    order = np.random.default_rng(0).permutation(24)
    test, found = samples.matrix(20, 24, seed=2, density=0.7), []
    for train, test_too in ((cells, test), (cells[:, order], test[:, order])):
        model = Popularity().fit(train)
        found.append([folding_of(model, k), *evaluate(
            model, test_too, k=k, metrics=["folding", "spurious_rate"]).values()])
    assert found[0] == pytest.approx(found[1], rel=1e-9)
    gaps, weights = [], []
    model, r = Popularity().fit(cells), Relatedness(Ratings(cells)).scorer(cells).block(0, 20)
    for user, seen in enumerate(samples.stored(cells)):
        items = np.flatnonzero(~seen)
        s, near = model.item_counts_[items], r[user, items].astype(np.float32)
        q = (rankdata(s) - rankdata(near)) / len(items)
        last = np.sort(s)[-k]
        above, tied = s > last, s == last
        gaps += q.tolist() if seen.any() else []
        chance = above + tied * (k - above.sum()) / tied.sum()
        weights += chance.tolist() if seen.any() else []
    assert found[0][0] == pytest.approx(np.average(np.maximum(gaps, 0), weights=weights))


# ------------------------------------------------------------- held against the truth

def test_settings_are_ranked_as_the_truth_ranks_them(audiences):
    train, test, groups, _ = audiences
    names = ["cross_group_rate@10", "folding@10", "spurious_rate@10"]
    found = np.array([list(evaluate(fitted(train, w), test, metrics=names, groups=groups).values())
                      for w in (0, 0.001, 0.002, 0.004, 0.008, 0.016, 0.1)])
    truth, mean, share = found.T
    assert truth[0] > 0.3
    assert truth[-1] < 0.02
    assert spearmanr(truth, mean).statistic > 0.9
    assert spearmanr(truth, share).statistic > 0.95
    np.testing.assert_allclose(share, truth, atol=0.1)


def test_the_pairs_listed_are_mostly_across_audiences(audiences):
    train, _, (users, items), data = audiences
    model = fitted(train)
    pairs = spurious_pairs(model, 100, titles=data.item_titles)
    assert len(pairs) == 100
    assert np.mean([users[pair.user] != items[pair.item] for pair in pairs]) > 0.9
    assert all(pair.title == data.item_titles[pair.item] for pair in pairs)


# ------------------------------------------------------------------------ the list

def test_pairs_are_listed_by_name_worst_first(monkeypatch):
    monkeypatch.setattr(folding, "ROUNDS", 60)
    cells = samples.matrix(30, 22, seed=4, density=0.3)
    named = samples.named(cells)
    model = samples.fitted("plain", named, dtype="float64")
    titles = {f"i{item}": f"Item {item}" for item in range(0, 22, 2)}
    pairs = spurious_pairs(model, 7, k=4, titles=titles, relatedness=Relatedness(named, 5))
    score, related = (np.array(each) for each in zip(*(pair[3:] for pair in pairs), strict=True))
    wanted = np.sort(gaps_of(samples.fitted("plain", cells, dtype="float64"), 4, 5), axis=None)
    wanted = wanted[~np.isnan(wanted)][::-1][:7]
    np.testing.assert_allclose(score - related, wanted, atol=1e-12)
    recommended = dict(zip(named.user_ids.tolist(), model.recommend(k=4)[0].tolist(), strict=True))
    for pair in pairs:
        left = 22 - np.diff(named.by_user.indptr)[named.user_positions([pair.user])[0]]
        place = recommended[pair.user].index(pair.item)
        assert pair.score_quantile == pytest.approx(1 - (place + 0.5) / left)
        assert pair.title == titles.get(pair.item, "")


def test_pairs_are_sought_among_the_users_named():
    model = samples.fitted("plain", samples.named(samples.matrix(30, 22, density=0.3)))
    pairs = spurious_pairs(model, 50, users=["u7", "u2"])
    assert {pair.user for pair in pairs} == {"u2", "u7"}
    with pytest.raises(KeyError, match="nobody"):
        spurious_pairs(model, users=["nobody"])
    with pytest.raises(ValueError, match="n must be >= 1"):
        spurious_pairs(model, 0)


def test_a_user_without_a_known_rating_does_not_count():
    model = samples.fitted("mean", samples.matrix())
    assert math.isnan(folding_of(model, users=[samples.SILENT_USER]))
    assert spurious_pairs(model, users=[samples.SILENT_USER]) == []
    everyone, others = (folding_of(model, users=rows) for rows in
                        (None, np.delete(np.arange(11), samples.SILENT_USER)))
    assert everyone == others


# ------------------------------------------------------------------------ any model

@pytest.mark.parametrize("model", [BiasOnly(), Popularity(), MatrixFactorization(3, random_state=0),
                                   ImplicitMF(3, random_state=0)], ids=lambda m: type(m).__name__)
def test_every_model_is_measured_with_the_other_metrics(model, audiences):
    train, test, groups, _ = audiences
    model = type(model)(**model.get_params()).fit(train)
    values = evaluate(model, test, k=(5, 10), groups=groups,
                      metrics=["folding", "cross_group_rate", "spurious_rate@3"])
    assert list(values) == ["folding@5", "folding@10", "cross_group_rate@5",
                            "cross_group_rate@10", "spurious_rate@3"]
    assert all(0 <= value < 1 for value in values.values())


def test_folded_in_users_are_measured_by_what_is_known_of_them(audiences):
    train, test, *_ = audiences
    model = fitted(train, solver="cholesky", dtype="float64")
    known, new = (evaluate(model, test, metrics="folding@10", fold_in=fold_in)["folding@10"]
                  for fold_in in (None, train))
    assert new == pytest.approx(known, abs=1e-3)
    tenth = train.select_cells(np.arange(train.nnz) % 10 == 0)
    assert abs(evaluate(model, test, metrics="folding@10", fold_in=tenth)["folding@10"]
               - known) > 1e-2


def test_the_measure_has_the_same_bits_for_any_number_of_threads(audiences, monkeypatch):
    train, test, *_ = audiences
    model = fitted(train)
    for module in (folding, measure):
        monkeypatch.setattr(module, "ROWS_AT_A_TIME", 70)
    found = [(folding_of(model, n_threads=n), spurious_pairs(model, n_threads=n),
              evaluate(model, test, metrics="folding", n_threads=n)) for n in (1, 2, 8)]
    assert found[0] == found[1] == found[2]


def test_a_model_without_its_training_ratings_is_refused(tmp_path, audiences):
    train, test, *_ = audiences
    fitted(train).save(tmp_path / "model", seen=False)
    model = load(tmp_path / "model")
    for ask in (lambda: folding_of(model), lambda: spurious_pairs(model),
                lambda: evaluate(model, test, metrics="folding")):
        with pytest.raises(ValueError, match="saved with seen=False"):
            ask()
