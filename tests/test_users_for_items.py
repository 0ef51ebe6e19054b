"""`recommend_users` reads the scores of `recommend` by columns, and neighbours take filters."""

from __future__ import annotations

import numpy as np
import pytest
import samples
import scipy.sparse as sp

import mfcore
from mfcore import EASE, ImplicitMF, MatrixFactorization, NeuralMF, Popularity, Ratings, Segmented

CELLS = samples.matrix(40, 25, seed=7)
# One of each way to score: by vectors, by rows, by a network, by codes, by several models.
MAKERS = [MatrixFactorization, EASE, NeuralMF, mfcore.MultVAE, Popularity, Segmented,
          mfcore.BayesianMF]


def fitted(made, **params):
    model = samples.small(made, **params)
    if made is Segmented:
        model.set_params(by=np.arange(40) % 2)
    return model.fit(CELLS)


def by_columns(model, k, drop):
    """The best users of every item by the scores of `recommend`; dropped cells are -inf."""
    items, scores = model.recommend(k=CELLS.shape[1], exclude_seen=False)
    full = np.empty(CELLS.shape, scores.dtype)
    np.put_along_axis(full, items, scores, axis=1)
    full[drop] = -np.inf
    order = np.argsort(-full, axis=0, kind="stable")[:k].T
    best = np.take_along_axis(full.T, order, axis=1)
    return np.where(best > -np.inf, order, -1), best


def seen():
    stored = np.zeros(CELLS.shape, bool)
    stored[CELLS.nonzero()] = True
    pattern = sp.csr_array((np.ones(CELLS.nnz), CELLS.indices, CELLS.indptr), CELLS.shape)
    return stored | (pattern.toarray() > 0)                     # a stored zero was seen, too


def assert_equal(got, wanted):
    for one, two in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("made", MAKERS, ids=lambda made: made.__name__)
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_the_best_users_have_the_scores_that_recommend_gives_them(made, exclude_seen):
    model = fitted(made)
    wanted = by_columns(model, 45, seen() if exclude_seen else np.zeros(CELLS.shape, bool))
    got = model.recommend_users(range(CELLS.shape[1]), 45, exclude_seen=exclude_seen)
    assert got[0].shape == (CELLS.shape[1], 45)                 # more than there are users
    assert_equal([part[:, :40] for part in got], wanted)
    assert (got[0][:, 40:] == -1).all()


@pytest.mark.parametrize("made", MAKERS, ids=lambda made: made.__name__)
def test_an_item_has_the_same_users_alone_and_in_a_batch(made):
    model = fitted(made)
    together = model.recommend_users(range(CELLS.shape[1]), 7)
    for item in (0, 11, samples.SILENT_ITEM):
        assert_equal(model.recommend_users([item], 7), [part[[item]] for part in together])


def test_lists_do_not_depend_on_threads_or_on_pieces(monkeypatch):
    model = fitted(ImplicitMF)
    wanted = model.recommend_users(range(25), 5)
    monkeypatch.setattr("mfcore.models.answering.users.BLOCK_SCORES", 90)       # two items each
    assert_equal(model.set_params(n_threads=3).recommend_users(range(25), 5), wanted)


def test_users_are_filtered_by_ids_and_by_item():
    names = [f"u{row}" for row in range(40)]
    model = samples.small(MatrixFactorization).fit(
        Ratings(CELLS, user_ids=names, item_ids=[f"i{column}" for column in range(25)]))
    few = names[5:30:2]
    drop = seen()
    drop[[row for row in range(40) if names[row] not in few or row == 9]] = True
    rows, best = by_columns(fitted(MatrixFactorization), 10, drop)
    got = model.recommend_users(["i3", "i0"], users=few, exclude_users=["u9"])
    assert got[0].tolist() == [[names[row] if row >= 0 else None for row in rows[item]]
                               for item in (3, 0)]
    np.testing.assert_array_equal(got[1], best[[3, 0]])
    one_each = sp.csr_array(([1.0, 0.0], ([0, 1], [7, 31])), shape=(2, 40))
    got = model.recommend_users(["i3", "i0"], 2, users=one_each, exclude_seen=False)
    assert got[0].tolist() == [["u7", None], ["u31", None]]     # (a stored zero is a cell)
    got = model.recommend_users(["i3", "i0"], 40, exclude_users=one_each, exclude_seen=False)
    assert "u7" not in got[0][0]
    assert "u7" in got[0][1]
    both = model.recommend_users(["i3", "i0"], 2, users=one_each, exclude_users=["u7"],
                                 exclude_seen=False)[0]
    assert both.tolist() == [[None, None], ["u31", None]]


def test_no_user_left_and_no_item_asked_are_answered():
    model = fitted(MatrixFactorization)
    ids, scores = model.recommend_users([3], 2, users=[])
    assert ids.tolist() == [[-1, -1]]
    assert (scores == -np.inf).all()
    assert model.recommend_users([], 2)[0].shape == (0, 2)


def test_an_unknown_item_is_refused_or_has_an_empty_list():
    model = fitted(MatrixFactorization)
    with pytest.raises(IndexError, match="items"):
        model.recommend_users([1, 99])
    ids, scores = model.recommend_users([1, 99], 3, users=[2, 77], unknown="ignore")
    assert ids[1].tolist() == [-1] * 3
    assert_equal((ids[:1], scores[:1]), model.recommend_users([1], 3, users=[2]))


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"k": 0}, ValueError, "k must be >= 1"), ({"k": 2.5}, TypeError, "k must be an integer"),
    ({"similarity": "dots"}, ValueError, "did you mean 'dot'"),
    ({"users": [99]}, IndexError, "users"),
    ({"exclude_users": sp.csr_array((3, 40))}, ValueError, "one row per item"),
    ({"exclude_seen": 1}, TypeError, "exclude_seen"),
    ({"unknown": "skip"}, ValueError, "unknown must be one of")])
def test_what_cannot_be_asked_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        fitted(MatrixFactorization).recommend_users([0, 1], **options)


# -------------------------------------------------------------------------- neighbours

NEIGHBOURS = [(MatrixFactorization, "items"), (MatrixFactorization, "users"),
              (mfcore.MultVAE, "items"), (Segmented, "items"), (Segmented, "users")]


def ask(model, side):
    return getattr(model, f"similar_{side}")


@pytest.mark.parametrize(("made", "side"), NEIGHBOURS)
def test_neighbours_are_those_that_a_filter_leaves_in_their_order(made, side):
    model, of = fitted(made), [2, 5]
    whole, scores = ask(model, side)(of, k=40)
    only = [1, 2, 8, 9, 11, 13, 20]
    got = ask(model, side)(of, k=9, **{side: only, f"exclude_{side}": [11]})
    for row in range(2):
        left = np.isin(whole[row], only) & (whole[row] != 11)
        n = int(left.sum())
        assert n > 0
        assert got[0][row].tolist() == [*whole[row][left], *[-1] * (9 - n)]
        np.testing.assert_array_equal(got[1][row][:n], scores[row][left])


@pytest.mark.parametrize(("made", "side"), NEIGHBOURS)
def test_a_filter_of_neighbours_may_differ_by_row(made, side):
    model = fitted(made)
    n = CELLS.shape[side == "items"]
    best = ask(model, side)([2, 5], k=1)[0][:, 0]
    without = sp.csr_array((np.ones(2), ([0, 1], best)), shape=(2, n))
    second = ask(model, side)([2, 5], k=2)[0][:, 1]
    assert ask(model, side)([2, 5], k=1, **{f"exclude_{side}": without})[0][:, 0].tolist() \
        == second.tolist()
    assert ask(model, side)([2, 5], k=2, **{side: without})[0].tolist() == [
        [best[0], -1], [best[1], -1]]
