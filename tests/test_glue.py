"""Two data sets side by side: nothing between them, nothing lost, every name distinct."""

from __future__ import annotations

import numpy as np
import pytest
import samples
import scipy.sparse as sp

from mfcore import MatrixFactorization, Ratings, evaluate
from mfcore.cli.demo import audiences
from mfcore.data import split, synthetic
from mfcore.data.dataset import Dataset
from mfcore.data.datasets import fetch
from mfcore.data.glue import glue


def test_no_cell_lies_between_the_parts_and_none_is_lost():
    one, two = samples.matrix(), samples.counts(6, 9)
    data = glue(one, two, ranked=False)
    assert data.ratings.shape == (17, 17)
    whole = samples.stored(data.ratings.by_user)
    np.testing.assert_array_equal(whole[:11, :8], samples.stored(one))      # stored zeros too
    np.testing.assert_array_equal(whole[11:, 8:], samples.stored(two))
    assert data.ratings.nnz == one.nnz + two.nnz
    np.testing.assert_array_equal(data.ratings.by_user.data, [*one.data, *two.data])
    assert data.user_groups.tolist() == [0] * 11 + [1] * 6
    assert data.item_groups.tolist() == [0] * 8 + [1] * 9
    assert audiences(data) is not None


def test_equal_ids_become_distinct_ones():
    one = Ratings(samples.matrix(2, 2), user_ids=[7, 8], item_ids=["x", "y"])
    data = glue(one, one, names=("films", "goods"))
    assert data.ratings.user_ids.tolist() == ["films:7", "films:8", "goods:7", "goods:8"]
    assert data.ratings.item_ids.tolist() == ["films:x", "films:y", "goods:x", "goods:y"]
    numbered = glue(samples.matrix(2, 2), one)
    assert numbered.ratings.user_ids.tolist() == ["a:0", "a:1", "b:7", "b:8"]


def test_ranked_values_are_shares_of_lower_ratings_in_their_own_part():
    one = sp.csr_array(np.array([[1.0, 5.0], [5.0, 2.0]]))
    two = sp.csr_array(np.array([[10.0, 700.0]]))
    values = glue(one, two).ratings.by_user.data
    np.testing.assert_allclose(values, 1 + 4 * np.array([1 / 8, 3 / 4, 3 / 4, 3 / 8, 1 / 4, 3 / 4]))
    same = glue(one, sp.csr_array(two * 9.0)).ratings.by_user.data
    np.testing.assert_array_equal(values, same)


def test_weights_titles_and_licences_come_along():
    cells = samples.matrix()
    weighted = Ratings(cells, weights=samples.weights(cells))
    titled = Dataset(Ratings(samples.matrix(2, 2)), licence="free",
                     item_titles=np.array(["Tea", "Pot"], object))
    data = glue(weighted, titled)
    np.testing.assert_allclose(data.ratings.weights,
                               [*samples.weights(cells), *np.ones(titled.ratings.nnz)])
    assert data.item_titles.tolist() == [""] * 8 + ["Tea", "Pot"]
    assert data.licence == "free"
    assert glue(cells, cells).item_titles is None
    assert glue(cells, cells).ratings.weights is None


@pytest.mark.parametrize(("arguments", "options", "error", "message"), [
    ((samples.matrix(), [[1.0]]), {}, TypeError, "second"),
    ((sp.csr_array((2, 2)), samples.matrix()), {}, ValueError, "first must hold at least one"),
    ((samples.matrix(),) * 2, {"names": ("a", "a")}, ValueError, "names must be distinct"),
    ((samples.matrix(),) * 2, {"names": ("a", 1)}, TypeError, "names must be two strings"),
    ((samples.matrix(),) * 2, {"ranked": 1}, TypeError, "ranked must be True or False"),
])
def test_what_cannot_be_glued_is_refused(arguments, options, error, message):
    with pytest.raises(error, match=message):
        glue(*arguments, **options)


def folding_and_ranking(data, k, weights):
    """Cross-group rate, NDCG and what the chosen weight is, over weights of unknown cells."""
    groups = data.user_groups, data.item_groups
    train, test = split.per_user_split(data.ratings, 0.2, random_state=0)
    part, valid = split.random_split(train, 0.2, random_state=1)

    def model(weight):
        return MatrixFactorization(k, unknown_weight=weight, random_state=0)

    best = max(weights, key=lambda w: evaluate(model(w).fit(part), valid,
                                               metrics="ndcg@10")["ndcg@10"])
    return [evaluate(model(w).fit(train), test, groups=groups,
                     metrics=["cross_group_rate@10", "ndcg@10", "spurious_rate@10"])
            for w in (0, best)]


def test_a_weight_chosen_on_validation_unfolds_planted_audiences():
    none, chosen = folding_and_ranking(synthetic.planted_audiences(), 16, (0, 0.003, 0.03, 0.3))
    assert none["cross_group_rate@10"] > 0.3
    assert chosen["cross_group_rate@10"] < 0.02
    assert chosen["ndcg@10"] > none["ndcg@10"]
    assert chosen["spurious_rate@10"] < none["spurious_rate@10"] / 10


def test_a_weight_chosen_on_validation_unfolds_two_real_catalogues(ml100k):
    try:
        goods = fetch("online-retail")
    except OSError as error:
        pytest.skip(f"online-retail is not at hand: {error}")
    none, chosen = folding_and_ranking(glue(ml100k, goods), 32, (0, 0.003, 0.03, 0.1))
    assert none["cross_group_rate@10"] > 0.3
    assert chosen["cross_group_rate@10"] < 0.02
    assert chosen["ndcg@10"] > none["ndcg@10"]
    assert chosen["spurious_rate@10"] < none["spurious_rate@10"] / 10
