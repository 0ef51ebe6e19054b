"""Lists longer than the catalogue cost what the catalogue costs, in every call that takes k."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import samples

import mfcore.serving
from mfcore import EASE, ImplicitMF, MatrixFactorization, Popularity, Segmented, evaluate
from mfcore.data.split import per_user_split
from mfcore.metrics.folding import folding, spurious_pairs
from mfcore.metrics.table import METRICS

HUGE = 2_000_000_000
GROUPS = [["a"] if row % 2 else ["b"] for row in range(samples.counts().shape[0])]


def fitted(made, **features):
    return samples.small(made).fit(samples.counts(), **features)


def segmented():
    ratings = samples.counts()
    return Segmented(Popularity(), by=np.arange(ratings.shape[0]) % 2).fit(ratings)


def served(tmp_path):
    fitted(ImplicitMF).save(tmp_path / "m")
    return mfcore.serving.load(tmp_path / "m")


ASKED = {
    "recommend": lambda k, place: fitted(ImplicitMF).recommend(k=k),
    "recommend by EASE": lambda k, place: fitted(EASE).recommend(k=k),
    "recommend by segments": lambda k, place: segmented().recommend(k=k),
    "new users": lambda k, place: fitted(ImplicitMF).recommend(k=k, ratings=[0, 1]),
    "recommend_users": lambda k, place: fitted(ImplicitMF).recommend_users([0], k=k),
    "similar_items": lambda k, place: fitted(ImplicitMF).similar_items([0], k=k),
    "similar_items of EASE": lambda k, place: fitted(EASE).similar_items([0], k=k),
    "similar_users": lambda k, place: fitted(ImplicitMF).similar_users([0], k=k),
    "similar_groups": lambda k, place: fitted(
        MatrixFactorization, user_features=GROUPS).similar_groups(["a"], k=k, to="items"),
    "serving": lambda k, place: served(place).recommend(k=k),
}


@pytest.mark.parametrize("name", ASKED)
def test_empty_places_beyond_a_gibibyte_are_refused_with_the_most_that_there_are(name, tmp_path):
    most = samples.counts().shape[0 if "users" in name and name != "new users" else 1]
    with pytest.raises(ValueError, match=f"k must be <= {most}, as many as there are to list, "
                                         f"got {HUGE}: the empty places of"):
        ASKED[name](HUGE, tmp_path)


@pytest.mark.parametrize("name", ASKED)
def test_places_beyond_the_catalogue_change_no_entry(name, tmp_path):
    ids, scores = ASKED[name](60, tmp_path)
    long_ids, long_scores = ASKED[name](1000, tmp_path)
    assert long_ids.shape == long_scores.shape == (len(ids), 1000)
    assert (long_ids.dtype, long_scores.dtype) == (ids.dtype, scores.dtype)
    np.testing.assert_array_equal(long_ids[:, :60], ids)
    np.testing.assert_array_equal(long_scores[:, :60], scores)
    assert set(long_ids[:, 60:].ravel()) <= {-1, None}
    assert np.isneginf(long_scores[:, 60:]).all()


def peak(call):
    call()
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("made", [ImplicitMF, EASE])
def test_frames_and_files_have_no_empty_places(made, tmp_path):
    model = fitted(made)
    every, n_users = samples.counts().shape[1], samples.counts().shape[0]
    for ask, entries in ((lambda k: model.recommend(k=k, as_frame=True), every),
                         (lambda k: model.similar_items([0], k=k, as_frame=True), every),
                         (lambda k: model.recommend_users([0], k=k, as_frame=True), n_users)):
        assert ask(HUGE).equals(ask(entries))
    assert model.recommend_to(tmp_path / "a.csv", k=HUGE) == \
        model.recommend_to(tmp_path / "b.csv", k=every)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


@pytest.mark.parametrize("name", [name for name, kind in METRICS.items()
                                  if kind.reads in ("ranks", "lists", "catalogue")])
def test_a_cut_beyond_the_catalogue_costs_what_the_catalogue_costs(name):
    train, test = per_user_split(samples.counts(), test_size=0.3, random_state=0)
    model = samples.small(ImplicitMF).fit(train)
    n_users, n_items = train.shape
    features = [["x"] if column % 2 else ["y"] for column in range(n_items)]
    groups = np.arange(n_users) % 2, np.arange(n_items) % 2

    def measured(k):
        found, = evaluate(model, test, k=k, metrics=[name], item_features=features,
                          groups=groups).values()
        return found

    assert peak(lambda: measured(HUGE)) < 2 * peak(lambda: measured(n_items)) + 1e6
    share = n_items / HUGE if name in ("precision", "f1", "serendipity") else 1
    assert measured(HUGE) == pytest.approx(share * measured(n_items), rel=0.3, nan_ok=True) \
        if share < 1 else measured(HUGE) == pytest.approx(measured(n_items), nan_ok=True)


def test_folding_of_lists_beyond_the_catalogue_is_that_of_the_whole_catalogue():
    model = fitted(ImplicitMF)
    n_items = samples.counts().shape[1]
    assert folding(model, HUGE) == folding(model, n_items)
    assert spurious_pairs(model, k=HUGE) == spurious_pairs(model, k=n_items)
