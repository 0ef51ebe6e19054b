"""An index of nearest neighbours finds, in the vectors of a model, what the model recommends."""

from __future__ import annotations

import numpy as np
import pytest
import samples

import mfcore
from mfcore import BayesianMF, ImplicitMF, MatrixFactorization, MultVAE, RatingAutoencoder, Ratings
from mfcore.models.registry import MODELS

CELLS = samples.matrix(60, 45, seed=3)
LINEAR = [getattr(mfcore, name) for name, entry in MODELS.items()
          if entry.answer("index_vectors") != "no"]
METRICS = ("dot", "cosine", "euclidean")
NAMES = {"user_ids": [f"u{row}" for row in range(60)], "item_ids": [f"i{row}" for row in range(45)]}


def fitted(made, **params):
    return samples.small(made, **params).fit(CELLS)


@pytest.mark.parametrize("asked", [["1", "zz"], [1, "zz"], np.array(["1", "zz"])])
def test_unknown_users_do_not_turn_integers_into_text(asked):
    model = samples.small(ImplicitMF).fit(Ratings(CELLS, user_ids=np.arange(60)))
    index = model.index_vectors(asked, unknown="ignore")
    assert index.user_ids.tolist() == [1, "zz"]
    wide = model.index_vectors(np.array([1, 99], np.uint64), unknown="ignore")
    assert wide.user_ids.dtype == np.int64


def values(index, metric):
    """How near each item is to each user, the more the nearer, as an exact index computes it."""
    X, Y = index.items.astype(float), index.users.astype(float)
    products = Y @ X.T
    if metric == "cosine":
        lengths = np.outer(*(np.linalg.norm(each, axis=1) for each in (Y, X)))
        return products / np.where(lengths > 0, lengths, 1)
    return products if metric == "dot" else \
        -((Y[:, None] - X[None]) ** 2).sum(axis=2)


def assert_ranks(found, scores, slack=1e-5):
    """Scores fall along the order of an index, up to what rounding explains."""
    order = np.argsort(-found, axis=1, kind="stable")
    falling = np.take_along_axis(scores, order, axis=1)
    assert (np.diff(falling, axis=1) < slack * np.ptp(scores) + 1e-12).all()


def scores_of(model, **asked):
    items, best = model.recommend(k=model.n_items_, exclude_seen=False, **asked)
    full = np.empty(best.shape)
    np.put_along_axis(full, items, best, axis=1)
    return full


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("made", LINEAR, ids=lambda made: made.__name__)
def test_what_is_nearest_is_what_the_model_recommends(made, metric):
    model = fitted(made)
    index = model.index_vectors(metric=metric)
    assert index.items.shape[1] == index.users.shape[1]
    assert_ranks(values(index, metric), scores_of(model))


@pytest.mark.parametrize("made", LINEAR, ids=lambda made: made.__name__)
def test_a_score_is_the_product_and_the_offset_of_the_user(made):
    model = fitted(made)
    index = model.index_vectors()
    np.testing.assert_allclose(values(index, "dot") + index.offsets[:, None], scores_of(model),
                               rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("bias", [None, "mean", "learned"])
def test_items_differ_in_length_by_one_coordinate(bias):
    model = fitted(MatrixFactorization, bias=bias)
    index = model.index_vectors(metric="euclidean")
    width = model.item_factors_.shape[1] + (bias is not None) + 1
    assert index.items.shape == (45, width)
    assert index.users.shape == (60, width)
    longest = np.linalg.norm(model.index_vectors().items.astype(float), axis=1).max()
    units = model.index_vectors(metric="cosine")
    for vectors, length in ((index.items, longest), (index.users, longest), (units.items, 1),
                            (units.users, 1)):
        found = np.linalg.norm(vectors.astype(float), axis=1)
        np.testing.assert_allclose(found[found > 0], length, rtol=1e-6)     # (one is silent)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_vectors_have_the_precision_of_the_model(dtype):
    index = fitted(MatrixFactorization, dtype=dtype).index_vectors()
    assert index.items.dtype == index.users.dtype == dtype


@pytest.mark.parametrize("made", [MatrixFactorization, BayesianMF, MultVAE, RatingAutoencoder])
def test_new_users_have_query_vectors_on_the_same_items(made):
    model, new = fitted(made), samples.matrix(5, 45, seed=9)
    index = model.index_vectors(ratings=new)
    np.testing.assert_array_equal(index.items, model.index_vectors().items)
    assert index.user_ids.tolist() == list(range(5))
    assert_ranks(values(index, "dot"), scores_of(model, ratings=new))


def test_ids_come_with_the_vectors():
    model = samples.small(ImplicitMF).fit(Ratings(CELLS, **NAMES))
    index = model.index_vectors(["u7", "u2"])
    assert index.user_ids.tolist() == ["u7", "u2"]
    assert index.item_ids.tolist() == NAMES["item_ids"]
    np.testing.assert_array_equal(index.users, model.index_vectors().users[[7, 2]])


@pytest.mark.parametrize(("asked", "error", "message"), [
    ({"metric": "cosines"}, ValueError, "did you mean 'cosine'"),
    ({"users": [99]}, IndexError, "users"),
    ({"users": [1], "ratings": CELLS[:1]}, ValueError, "users must be None")])
def test_what_cannot_be_asked_is_refused(asked, error, message):
    with pytest.raises(error, match=message):
        fitted(MatrixFactorization).index_vectors(**asked)


@pytest.mark.parametrize("made", [MatrixFactorization, ImplicitMF])
@pytest.mark.parametrize("metric", METRICS)
def test_faiss_finds_what_the_model_recommends(made, metric):
    faiss = pytest.importorskip("faiss")
    model = fitted(made)
    vectors = model.index_vectors(metric=metric)
    kind = faiss.IndexFlatL2 if metric == "euclidean" else faiss.IndexFlatIP
    index = kind(vectors.items.shape[1])
    index.add(vectors.items)
    found = index.search(vectors.users, 10)[1]
    assert recall(vectors.item_ids[found], model) == 1.0


@pytest.mark.parametrize("metric", METRICS)
def test_hnswlib_finds_what_the_model_recommends(metric):
    hnswlib = pytest.importorskip("hnswlib")
    model = fitted(MatrixFactorization)
    vectors = model.index_vectors(metric=metric)
    space = {"dot": "ip", "cosine": "cosine", "euclidean": "l2"}[metric]
    index = hnswlib.BFIndex(space=space, dim=vectors.items.shape[1])
    index.init_index(max_elements=len(vectors.items))
    index.add_items(vectors.items)
    found = index.knn_query(vectors.users, k=10)[0].astype(int)
    assert recall(vectors.item_ids[found], model) == 1.0


def recall(found, model):
    """The share of lists that is found, of users whose scores are not all equal."""
    wanted, scores = model.recommend(k=10, exclude_seen=False)
    return np.mean([len(set(one) & set(two)) / 10 for one, two, own in
                    zip(found.tolist(), wanted.tolist(), scores, strict=True) if np.ptp(own) > 0])


def test_users_that_the_fit_did_not_have_keep_the_ids_they_were_asked_by():
    model = samples.small(MatrixFactorization).fit(Ratings(CELLS, **NAMES))
    found = model.index_vectors(["u3", "nobody"], unknown="ignore")
    assert found.user_ids.tolist() == ["u3", "nobody"]
