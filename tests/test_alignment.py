"""Ratings given later are matched by name, and what cannot be matched is refused."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import samples
import scipy.sparse as sp

import mfcore
from mfcore import BiasOnly, ImplicitMF, MatrixFactorization, Popularity, Ratings, evaluate
from mfcore.parallel import Pool


def named() -> Ratings:
    matrix = samples.matrix()
    return Ratings(matrix, user_ids=[f"u{n}" for n in range(matrix.shape[0])],
                   item_ids=[f"i{n}" for n in range(matrix.shape[1])])


def reordered(ratings: Ratings, rows, columns) -> Ratings:
    return Ratings(ratings.by_user[rows][:, columns], user_ids=ratings.user_ids[rows],
                   item_ids=ratings.item_ids[columns])


def test_the_objective_matches_users_and_items_by_name():
    ratings = named()
    model = MatrixFactorization(3, n_epochs=2, random_state=0).fit(ratings)
    random = np.random.default_rng(1)
    other = reordered(ratings, *(random.permutation(n) for n in ratings.shape))
    assert model.objective(other)["total"] == pytest.approx(model.objective()["total"], rel=1e-9)


def test_new_items_match_users_by_name():
    ratings = named()
    model = MatrixFactorization(3, n_epochs=2, random_state=0).fit(ratings)
    whole = model.fold_in_items(ratings)
    rows = np.random.default_rng(2).permutation(ratings.shape[0])
    np.testing.assert_allclose(
        model.fold_in_items(reordered(ratings, rows, np.arange(ratings.shape[1]))).factors,
        whole.factors, rtol=1e-5)
    few = Ratings.from_arrays(["u3", "u1"], ["new", "new"], [4.0, 2.0])
    assert model.fold_in_items(few).factors.shape == (1, 3)
    with pytest.raises(KeyError, match="nobody"):
        model.fold_in_items(Ratings.from_arrays(["nobody"], ["new"], [4.0]))


def test_items_are_numbers_where_the_fit_had_no_names():
    model = MatrixFactorization(3, n_epochs=2, random_state=0).fit(samples.matrix())
    n_items = model.n_items_
    values = np.linspace(1, 5, n_items)
    down = Ratings(sp.csr_array(values[None, ::-1]), item_ids=np.arange(n_items)[::-1])
    np.testing.assert_array_equal(model.fold_in_users(down).factors,
                                  model.fold_in_users(sp.csr_array(values[None])).factors)
    with pytest.raises(ValueError, match="names"):
        model.recommend(ratings=Ratings(sp.csr_array(values[None]),
                                        item_ids=[f"s{n}" for n in range(n_items)]))


@pytest.mark.parametrize("users", [["zed"], [7.9]])
def test_partial_fit_wants_whole_numbers_where_the_fit_had_them(users):
    model = MatrixFactorization(3, n_epochs=2, random_state=0).fit(samples.matrix())
    with pytest.raises(TypeError, match="integers"):
        model.partial_fit(samples.matrix()[:1], users=users)


def test_an_appended_user_is_predicted_from_the_new_ratings():
    model = MatrixFactorization(3, bias=None, n_epochs=3, random_state=0).fit(samples.matrix())
    grown = samples.matrix()[1:2]
    model.partial_fit(grown, users=[model.n_users_])
    item = int(grown.indices[0])
    wanted = model.user_factors_[-1] @ model.item_factors_[item]
    assert model.predict([model.n_users_ - 1], [item])[0] == pytest.approx(wanted, rel=1e-5)


def test_a_model_saved_without_its_ratings_refuses_what_needs_them(tmp_path):
    MatrixFactorization(3, n_epochs=2, random_state=0).fit(samples.matrix()).save(
        tmp_path / "m", seen=False)
    model = mfcore.load(tmp_path / "m")
    for call in (model.objective, lambda: model.explain(0, 0),
                 lambda: model.partial_fit(samples.matrix())):
        with pytest.raises(ValueError, match="seen=False"):
            call()
    model.save(tmp_path / "again")
    with pytest.raises(ValueError, match="seen=False"):
        mfcore.load(tmp_path / "again").objective()


def test_seen_zeros_stay_seen_beside_an_unknown_user():
    train = Ratings.from_arrays(list("aabbccdd"), list("xyxzxyyz"), [0.0, 3, 5, 1, 5, 3, 3, 1])
    model = MatrixFactorization(2, n_epochs=3, random_state=0).fit(train)
    alone = evaluate(model, Ratings.from_arrays(["a"], ["z"], [1.0]), metrics="mrr")["mrr"]
    both = evaluate(model, Ratings.from_arrays(["a", "q"], ["z", "nothing"], [1.0, 1.0]),
                    metrics="mrr")["mrr"]
    assert alone == 1.0
    assert both == alone / 2


def test_a_list_of_pairs_keeps_the_type_of_each_id():
    model = MatrixFactorization(2, n_epochs=2, random_state=0).fit(
        [["ann", 10], ["bob", 20], ["ann", 20]], [1.0, 2.0, 3.0])
    assert model.item_ids_.tolist() == [10, 20]
    assert model.user_ids_.tolist() == ["ann", "bob"]


def test_floats_are_no_integer_ids():
    model = MatrixFactorization(2, n_epochs=2).fit(
        Ratings.from_arrays([100, 101], [5, 6], [1.0, 2.0]))
    with pytest.raises(TypeError, match="integers"):
        model.predict([100.0], [5])
    with pytest.raises(ValueError, match="one-dimensional"):
        model.predict(np.ones((2, 2), int), np.ones((2, 2), int))


def test_with_a_weight_on_the_unknown_a_silent_user_is_predicted_as_recommended():
    matrix = sp.csr_array(np.array([[5.0, 3, 0], [0, 0, 0], [4, 0, 2]]))
    model = MatrixFactorization(2, bias=None, unknown_weight=0.5, unknown_value=2.0,
                                random_state=0).fit(sp.csr_array(matrix))
    items, scores = model.recommend([1], k=3)
    np.testing.assert_allclose(model.predict(1, items[0]), scores[0], rtol=1e-5)


def test_like_ials_does_not_look_at_the_counts():
    counts = samples.matrix()
    ones = counts.copy()
    ones.data = np.ones_like(ones.data)
    counts.data = np.abs(counts.data) + 1
    fits = [ImplicitMF.like_ials(3, random_state=0, n_epochs=2).fit(each)
            for each in (counts, ones)]
    np.testing.assert_array_equal(fits[0].item_factors_, fits[1].item_factors_)


@pytest.mark.parametrize("model", [BiasOnly(), Popularity(), mfcore.BPR(2, n_epochs=1)], ids=repr)
def test_what_a_model_cannot_do_it_says(model):
    model.fit(abs(samples.matrix()))
    for call in (model.objective, lambda: model.fold_in_items(samples.matrix()),
                 lambda: model.explain(0, 0)):
        with pytest.raises(NotImplementedError, match=type(model).__name__):
            call()


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals between threads")
def test_an_interrupt_while_threads_start_leaves_none_waiting(monkeypatch):
    submit, calls = ThreadPoolExecutor.submit, []

    def interrupted(self, *arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return submit(self, *arguments)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", interrupted)
    with pytest.raises(KeyboardInterrupt), Pool(4) as pool:
        pool.map(abs, [(1,), (2,)])
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mfcore")]
