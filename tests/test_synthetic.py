"""Generated data: shaped as promised, and with something in it to be found."""

from __future__ import annotations

import numpy as np
import pytest

from mfcore.data import split, synthetic
from mfcore.data.synthetic import PlantedDataset


@pytest.fixture(scope="module")
def default() -> PlantedDataset:
    return synthetic.planted()


@pytest.fixture(scope="module")
def audiences() -> PlantedDataset:
    return synthetic.planted_audiences()


def pairs(dataset: PlantedDataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Users, items and ratings of all cells."""
    ratings = dataset.ratings
    return ratings.users_of_cells, ratings.by_user.indices, ratings.by_user.data


GENERATORS = [synthetic.planted, synthetic.planted_audiences]
SMALL = {"n_users": 40, "n_items": 24}


@pytest.mark.parametrize("generate", GENERATORS)
def test_the_seed_decides_everything(generate):
    one, same, other = (generate(**SMALL, random_state=seed) for seed in (3, 3, 4))
    for part in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(one.ratings.by_user, part),
                                      getattr(same.ratings.by_user, part))
    for part in ("timestamps", "file_order", "user_groups", "item_titles"):
        np.testing.assert_array_equal(getattr(one, part), getattr(same, part))
    np.testing.assert_array_equal(one.truth.user_factors, same.truth.user_factors)
    assert not np.array_equal(one.truth.user_factors, other.truth.user_factors)
    assert not np.array_equal(one.timestamps[:100], other.timestamps[:100])
    generator = generate(**SMALL, random_state=np.random.default_rng(3))
    np.testing.assert_array_equal(one.ratings.by_user.data, generator.ratings.by_user.data)


@pytest.mark.parametrize("generate", GENERATORS)
def test_the_number_of_rows_at_a_time_does_not_show(generate, monkeypatch):
    whole = generate(**SMALL)
    monkeypatch.setattr(synthetic, "BLOCK_ROWS", 7)
    pieces = generate(**SMALL)
    np.testing.assert_array_equal(whole.ratings.by_user.indices, pieces.ratings.by_user.indices)
    np.testing.assert_array_equal(whole.ratings.by_user.data, pieces.ratings.by_user.data)


def test_the_defaults_are_of_the_promised_size(default, audiences):
    assert default.ratings.shape == (600, 300)
    assert 55_000 < default.ratings.nnz < 70_000
    assert audiences.ratings.shape == (2000, 1000)
    assert 80_000 < audiences.ratings.nnz < 100_000


def test_ratings_are_half_stars_from_1_to_5(default):
    values = default.ratings.by_user.data
    assert set(np.unique(values)) == set(np.arange(1, 5.5, 0.5))
    assert values.dtype == np.float32
    # Neither end of the scale holds so many that clipping would rule.
    assert (values == 1).mean() < 0.05
    assert (values == 5).mean() < 0.25


def test_another_step_rounds_otherwise_and_none_not_at_all():
    whole = synthetic.planted(**SMALL, step=1).ratings.by_user.data
    assert set(np.unique(whole)) <= {1, 2, 3, 4, 5}
    free = synthetic.planted(**SMALL, step=None).ratings.by_user.data
    assert free.dtype == np.float32
    assert np.unique(free).size > free.size / 2
    assert free.min() >= 1
    assert free.max() <= 5


def test_ratings_are_the_truth_plus_noise_where_nothing_is_clipped(default):
    users, items, values = pairs(default)
    expected = default.truth.scores(users, items)
    inside = (expected > 2) & (expected < 4)
    error = (values - expected)[inside]
    # Noise .4 and rounding to halves: variance .16 + .25 / 12.
    assert abs(error.mean()) < 0.01
    assert error.std() == pytest.approx((0.4**2 + 0.5**2 / 12) ** 0.5, rel=0.02)


def test_without_noise_and_steps_the_ratings_are_the_truth():
    dataset = synthetic.planted(**SMALL, noise=0, step=None)
    users, items, values = pairs(dataset)
    expected = dataset.truth.scores(users, items).clip(1, 5)
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_scores_are_the_formula(planted):
    truth = planted.truth
    assert truth.scores([3, 3], [4, 0])[0] == pytest.approx(
        truth.mean + truth.user_bias[3] + truth.item_bias[4]
        + truth.user_factors[3] @ truth.item_factors[4])
    with pytest.raises(IndexError, match=r"items must be in \[0, 79\], got 80"):
        truth.scores([0], [80])
    with pytest.raises(ValueError, match="same length, got users 2, items 1"):
        truth.scores([0, 1], [0])


def test_factors_explain_much_that_biases_do_not(default):
    users, items, values = pairs(default)
    left = values - values.mean()
    for _ in range(5):
        for rows in (users, items):
            left -= (np.bincount(rows, left) / np.bincount(rows))[rows]
    by_truth = values - default.truth.scores(users, items).clip(1, 5)
    assert left.std() > 1.6 * by_truth.std()


def test_held_out_ratings_are_found_by_a_factorization(default):
    train, test = split.random_split(default.ratings, 0.2, 0)
    truth = default.truth
    # One exact least-squares step from the true item side: does the data hold the user side?
    Q = np.column_stack([truth.item_factors, np.ones(len(truth.item_bias))])
    offset = truth.mean + truth.item_bias
    row = train.by_user
    P = np.zeros((row.shape[0], Q.shape[1]))
    for u in range(row.shape[0]):
        cells = row.indices[row.indptr[u]:row.indptr[u + 1]]
        rated = row.data[row.indptr[u]:row.indptr[u + 1]] - offset[cells]
        P[u] = np.linalg.solve(Q[cells].T @ Q[cells] + np.eye(5), Q[cells].T @ rated)
    users, items = test.users_of_cells, test.by_user.indices
    error = test.by_user.data - (offset[items] + (P[users] * Q[items]).sum(1)).clip(1, 5)
    assert np.sqrt(np.mean(error**2)) < 0.5
    assert test.by_user.data.std() > 0.9


def test_groups_shift_their_members(default):
    truth, groups = default.truth, default.user_groups
    for g in range(6):
        members = truth.user_factors[groups == g]
        error = members.mean(0) - truth.user_group_factors[g]
        # Half the variance is the group's, half the member's own.
        assert np.abs(error).max() < 5 * members.std(0).max() / len(members) ** 0.5
    between = truth.user_group_factors[groups].var(0).sum()
    own = (truth.user_factors - truth.user_group_factors[groups]).var(0).sum()
    assert 0.3 < between / own < 3


@pytest.mark.parametrize(("share", "own"), [(0.0, True), (1.0, False)])
def test_the_group_share_reaches_from_none_to_all(share, own):
    truth = synthetic.planted(**SMALL, group_share=share).truth
    assert np.any(truth.user_group_factors) != own
    distinct = np.unique(truth.user_factors, axis=0).shape[0]
    assert (distinct == 40) == own


def test_few_items_collect_most_ratings(default):
    popularity = np.sort(np.diff(default.ratings.by_item.indptr))[::-1]
    assert popularity[:30].sum() > 0.17 * popularity.sum()
    even = synthetic.planted(skew=0, selection=0)
    flat = np.sort(np.diff(even.ratings.by_item.indptr))[::-1]
    assert flat[:30].sum() < 0.125 * flat.sum()


def test_users_rate_what_they_like(default):
    def liked(dataset: PlantedDataset) -> float:
        users, items, _ = pairs(dataset)
        n_users, n_items = dataset.ratings.shape
        everywhere = dataset.truth.scores(np.repeat(np.arange(n_users), n_items),
                                          np.tile(np.arange(n_items), n_users))
        return dataset.truth.scores(users, items).mean() - everywhere.mean()

    assert liked(default) > 0.3
    assert abs(liked(synthetic.planted(selection=0))) < 0.05


def test_activity_is_unequal_but_never_nothing_and_never_everything(default):
    counts = np.diff(default.ratings.by_user.indptr)
    assert counts.min() >= 5
    assert counts.max() <= 240
    assert np.percentile(counts, 90) > 2.5 * np.percentile(counts, 10)
    assert counts.mean() == pytest.approx(0.35 * 300, rel=0.05)


# ---------------------------------------------------------------------------- audiences


def test_audiences_share_no_item(audiences):
    users, items, _ = pairs(audiences)
    np.testing.assert_array_equal(audiences.user_groups[users], audiences.item_groups[items])
    assert np.bincount(audiences.user_groups).tolist() == [500] * 4
    assert np.bincount(audiences.item_groups).tolist() == [250] * 4


def test_the_true_taste_between_audiences_is_zero(audiences):
    taste = audiences.truth.user_factors @ audiences.truth.item_factors.T
    foreign = audiences.user_groups[:, None] != audiences.item_groups
    assert not taste[foreign].any()
    own = [taste[np.ix_(audiences.user_groups == g, audiences.item_groups == g)].std()
           for g in range(4)]
    np.testing.assert_allclose(own, 0.9, rtol=0.15)


def test_activity_falls_tenfold_in_equal_ratios(audiences):
    counts = np.diff(audiences.ratings.by_user.indptr)
    means = np.array([counts[audiences.user_groups == g].mean() for g in range(4)])
    assert means[0] / means[3] == pytest.approx(10, rel=0.1)
    np.testing.assert_allclose(means[:-1] / means[1:], 10 ** (1 / 3), rtol=0.1)
    assert means[0] == pytest.approx(0.4 * 250, rel=0.05)


def test_the_activity_ratio_is_a_choice():
    even = synthetic.planted_audiences(activity_ratio=1)
    counts = np.diff(even.ratings.by_user.indptr)
    means = [counts[even.user_groups == g].mean() for g in range(4)]
    assert max(means) / min(means) < 1.1


def test_uneven_shares_are_dealt_out():
    dataset = synthetic.planted_audiences(n_users=11, n_items=14, n_audiences=3, n_factors=4)
    assert sorted(np.bincount(dataset.user_groups)) == [3, 4, 4]
    assert sorted(np.bincount(dataset.item_groups)) == [4, 5, 5]
    assert np.diff(dataset.ratings.by_user.indptr).min() >= 1


# --------------------------------------------------------------------------- description


@pytest.mark.parametrize("generate", GENERATORS)
def test_features_name_the_groups(generate):
    dataset = generate(**SMALL)
    for features, groups in ((dataset.user_features, dataset.user_groups),
                             (dataset.item_features, dataset.item_groups)):
        dense = features.matrix.toarray()
        np.testing.assert_array_equal(dense.argmax(1), groups)
        np.testing.assert_array_equal(dense.sum(1), 1)
        assert dense.shape[1] == len(features.names) == len(set(features.names))


@pytest.mark.parametrize("generate", GENERATORS)
def test_titles_are_distinct_and_tell_the_group(generate):
    dataset = generate(**SMALL)
    assert len(set(dataset.item_titles)) == 24
    words = [title.rsplit(" ", 1)[0] for title in dataset.item_titles]
    groups = dict(zip(words, dataset.item_groups, strict=True))
    assert len(groups) == len(set(dataset.item_groups))
    assert [groups[word] for word in words] == dataset.item_groups.tolist()
    assert {title.rsplit(" ", 1)[1] for title in dataset.item_titles} >= {"1", "2"}


def test_more_groups_than_words_stay_distinct():
    dataset = synthetic.planted(n_users=30, n_items=200, n_groups=30)
    assert len(set(dataset.item_titles)) == 200
    assert any("-3 " in title for title in dataset.item_titles)


def test_lines_are_in_the_order_of_time(planted):
    in_file = np.argsort(planted.file_order)
    assert sorted(planted.file_order) == list(range(planted.ratings.nnz))
    assert (np.diff(planted.timestamps[in_file]) >= 0).all()
    assert planted.timestamps.dtype == np.int64


def test_generated_data_can_be_split_by_time_and_by_line(planted):
    train, test = split.leave_last_out(planted.ratings, planted.timestamps)
    assert test.nnz == 120
    assert train.nnz + test.nnz == planted.ratings.nnz
    assert len(list(split.file_folds(planted.ratings, planted.file_order))) == 5


def test_the_smallest_data_there_is():
    dataset = synthetic.planted(1, 1, 1, n_groups=1)
    assert dataset.ratings.shape == (1, 1)
    assert dataset.ratings.nnz == 1


@pytest.mark.parametrize(("wrong", "message"), [
    ({"n_users": 0}, "n_users must be >= 1, got 0"),
    ({"n_items": 0}, "n_items must be >= 1, got 0"),
    ({"n_factors": 0}, "n_factors must be >= 1, got 0"),
    ({"n_groups": 0}, "n_groups must be >= 1, got 0"),
    ({"group_share": 1.1}, r"group_share must be finite and in \[0, 1\], got 1.1"),
    ({"density": 0}, "density must be a share between 0 and 1"),
    ({"density": 1}, "density must be a share between 0 and 1"),
    ({"skew": -1}, "skew must be finite and >= 0, got -1"),
    ({"selection": np.nan}, "selection must be finite"),
    ({"noise": -0.1}, "noise must be finite and >= 0, got -0.1"),
    ({"step": 0}, "step must be finite and > 0, got 0"),
    ({"random_state": -1}, "random_state must be >= 0, got -1"),
])
def test_arguments_out_of_range_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        synthetic.planted(**{**SMALL, **wrong})


@pytest.mark.parametrize(("wrong", "message"), [
    ({"n_audiences": 1}, "n_audiences must be >= 2, got 1"),
    ({"n_factors": 3}, "n_factors must be >= 4, got 3"),
    ({"n_users": 3}, "n_users must be >= 4, got 3"),
    ({"n_items": 3}, "n_items must be >= 4, got 3"),
    ({"activity_ratio": 0.5}, "activity_ratio must be finite and >= 1, got 0.5"),
    ({"density": 1.5}, "density must be a share"),
])
def test_arguments_out_of_range_for_audiences_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        synthetic.planted_audiences(**{**SMALL, **wrong})
