"""A row has the same list, the same scores and the same ranks in any company, to the last bit."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import numpy as np
import pytest
import samples
import scipy.sparse as sp
import strategies
from hypothesis import given
from hypothesis import strategies as st

import mfcore
from mfcore.metrics import midranks
from mfcore.metrics.topk import top_k
from mfcore.objectives.factors import LinearScorer, pair_scores, unit_rows
from mfcore.parallel import Pool

RANKED = ["ndcg@3", "map@3", "mrr", "recall@1", "auc", "auc_top@2", "mcc@2", "item_coverage@2",
          "gini@3", "popularity@2"]


class Rough(LinearScorer):
    """The scores of the worst BLAS: as far from those of single cells as it may be, at random."""

    random = np.random.default_rng(0)

    def block(self, start, stop):
        every = np.indices((stop - start, self.n_items))
        exact = self.cells(start + every[0].ravel(), every[1].ravel())
        away = self.rounding(start, stop)[:, None] * self.random.uniform(-0.9, 0.9, every[0].shape)
        return (exact.reshape(every[0].shape) + away).astype(exact.dtype)


class Exact(LinearScorer):
    """The scores of single cells."""

    def block(self, start, stop):
        every = np.indices((stop - start, self.n_items))
        return self.cells(start + every[0].ravel(), every[1].ravel()).reshape(every[0].shape)

    def rounding(self, start, stop):
        return None


@st.composite
def sides(draw):
    """Vectors and biases of both sides: few whole numbers, so that ties are many, or normal."""
    n, m, k = draw(st.integers(1, 6)), draw(st.integers(1, 40)), draw(st.integers(0, 5))
    rng, whole = np.random.default_rng(draw(strategies.seeds)), draw(st.booleans())
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    drawn = [rng.integers(-1, 2, shape) if whole else rng.normal(size=shape)
             for shape in ((n, k), (m, k), n, m)]
    P, Q, beta, gamma = (each.astype(dtype) for each in drawn)
    if draw(st.booleans()):
        P, Q = unit_rows(P), unit_rows(Q)
    return (P, Q, beta, gamma) if draw(st.booleans()) else (P, Q, None, None)


def best(scorer, k, **masks):
    with Pool(1) as pool:
        return top_k(scorer, k, pool=pool, **masks)


def rows_of(sides, rows):
    P, Q, beta, gamma = sides
    return P[rows], Q, None if beta is None else beta[rows], gamma


def same(got, wanted):
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


# ---------------------------------------------------------------------------- scorers


@given(sides(), st.integers(1, 20), st.sampled_from([0.0, 3.7]))
def test_the_list_of_a_row_does_not_depend_on_rounding(sides, k, mean):
    wanted = best(Exact(*sides, mean), k)
    same(best(Rough(*sides, mean), k), wanted)
    same(best(LinearScorer(*sides, mean), k), wanted)
    rows = np.random.default_rng(k).permutation(len(sides[0]))
    same(best(Rough(*rows_of(sides, rows), mean), k), [each[rows] for each in wanted])
    alone = [best(Rough(*rows_of(sides, [row]), mean), k) for row in range(len(rows))]
    same([np.concatenate(each) for each in zip(*alone, strict=True)], wanted)


@given(sides(), st.integers(1, 20), strategies.seeds)
def test_nor_does_it_with_masks(sides, k, seed):
    shape = len(sides[0]), len(sides[1])
    rng = np.random.default_rng(seed)
    seen, allowed = (sp.csr_array(rng.random(shape) < share) for share in (0.2, 0.8))
    masks = {"seen": seen, "allowed": allowed, "excluded": rng.random(shape[1]) < 0.2}
    same(best(Rough(*sides), k, **masks), best(Exact(*sides), k, **masks))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_thousands_of_equal_scores_are_in_the_order_of_the_items(dtype):
    P, Q = np.full((130, 3), 0.1, dtype), np.full((9000, 3), 0.1, dtype)
    items, scores = best(Rough(P, Q), 4)
    assert (items == np.arange(4)).all()
    assert len(np.unique(scores)) == 1


@given(sides())
def test_a_block_is_no_further_from_its_cells_than_its_rounding(sides):
    scorer, exact = LinearScorer(*sides, 1.3), Exact(*sides, 1.3)
    n = scorer.n_rows
    away = np.abs(scorer.block(0, n).astype(float) - exact.block(0, n))
    assert (away <= scorer.rounding(0, n)[:, None]).all()


@given(sides())
def test_a_cell_has_the_rounded_score_of_its_pair(sides):
    P, Q, beta, gamma = sides
    rows, columns = (each.ravel() for each in np.indices((len(P), len(Q))))
    with Pool(1) as pool:
        pairs = pair_scores(rows, columns, P, Q, np.zeros(len(P)) if beta is None else beta,
                            np.zeros(len(Q)) if gamma is None else gamma, pool)
    np.testing.assert_array_equal(LinearScorer(*sides).cells(rows, columns), pairs.astype(P.dtype))


# --------------------------------------------------------------------------- metrics


@given(sides(), strategies.seeds)
def test_metrics_do_not_depend_on_rounding(sides, seed):
    shape = len(sides[0]), len(sides[1])
    test = sp.csr_array(np.random.default_rng(seed).random(shape) < 0.4, dtype=float)
    if not test.nnz:
        return
    measured = [metrics_of(made(*sides), test, RANKED) for made in (Rough, Exact)]
    assert str(measured[0]) == str(measured[1])            # (with NaN)


@pytest.mark.parametrize("at_a_time", [1, 7, 50])
def test_nor_do_they_on_how_many_cells_are_settled_at_a_time(monkeypatch, at_a_time):
    rng = np.random.default_rng(0)
    sides = rng.integers(-1, 2, (5, 3)) / 3, rng.integers(-1, 2, (40, 3)) / 3, None, None
    test = sp.csr_array(rng.random((5, 40)) < 0.4, dtype=float)
    monkeypatch.setattr(midranks, "CELLS_AT_A_TIME", at_a_time)
    assert metrics_of(Rough(*sides), test, "auc") == metrics_of(Exact(*sides), test, "auc")


def test_a_tie_of_all_items_is_settled_once_per_row():
    scorer = Noting(np.zeros((3, 2)), np.ones((500, 2)))
    test = sp.csr_array(np.random.default_rng(0).random((3, 500)) < 0.2, dtype=float)
    assert metrics_of(scorer, test, "auc") == {"auc": 0.5}
    assert sum(Noting.asked) == test.nnz + 3 * 500


def metrics_of(scorer, test, metrics):
    return mfcore.evaluate(Held(scorer, test.shape), test, metrics=metrics, n_threads=1,
                           exclude_seen=False)


class Noting(LinearScorer):
    """Notes how many cells are scored alone."""

    asked = []

    def cells(self, rows, columns):
        self.asked.append(len(rows))
        return super().cells(rows, columns)


class Held:
    """A fitted model of one scorer."""

    predicts_ratings = False

    def __init__(self, scorer, shape):
        self.found, (self.n_users_, self.n_items_) = scorer, shape
        self.item_counts_ = np.arange(shape[1])
        self.user_ids_ = self.item_ids_ = None

    def new_rows(self, ratings, user_features, n_rows=None):
        return None

    def answers(self):
        return self

    def scorer(self, asked, query, pool):
        assert query.similarity == "dot"
        found = self.found
        beta = None if found.beta is None else found.beta[asked]
        return type(found)(found.P[asked], found.Q, beta, found.gamma)


# ---------------------------------------------------------------------------- models


BOARD = sp.csr_array(((np.add.outer(np.arange(50), np.arange(50)) % 2 == 0)
                      & ~np.eye(50, dtype=bool)).astype(float))


def differing(model, n, **options):
    """Return how many of n users get another list or other scores alone than in a batch."""
    batch = model.recommend(np.arange(n), k=5, exclude_seen=False, **options)
    alone = [model.recommend([user], k=5, exclude_seen=False, **options) for user in range(n)]
    return sum(any((one[0] != other).any() for one, other in zip(each, own, strict=True))
               for each, own in zip(alone, zip(*batch, strict=True), strict=True))


@pytest.mark.parametrize("model", [
    mfcore.ImplicitMF(32, random_state=23), mfcore.MatrixFactorization(5, n_epochs=2),
    mfcore.BPR(9, n_epochs=2)], ids=lambda model: type(model).__name__)
def test_predict_gives_the_scores_of_recommend(model):
    model.fit(samples.counts(40, 60))
    items, scores = model.recommend(k=7)
    predicted = model.predict(np.repeat(np.arange(40), 7), items.ravel())
    np.testing.assert_array_equal(predicted.astype(scores.dtype), scores.ravel())


def test_neighbours_are_the_same_alone_and_together():
    model = mfcore.ImplicitMF(32, random_state=23).fit(BOARD)
    for find in (model.similar_items, model.similar_users):
        for similarity in ("cosine", "dot"):
            together = find(np.arange(50), 4, similarity=similarity)
            alone = [find([row], 4, similarity=similarity) for row in range(50)]
            same([np.concatenate(each) for each in zip(*alone, strict=True)], together)


NETWORKS = [{"fusion": "product", "hidden": (24, 8)}, {"fusion": "concat", "hidden": (33, 17)},
            {"fusion": "concat", "hidden": (20,), "activation": "tanh"},
            {"fusion": "gmf+mlp", "hidden": (16,)}]


@pytest.mark.parametrize("params", NETWORKS, ids=repr)
def test_a_new_user_has_the_same_vector_and_scores_alone_and_in_a_batch(params):
    """Steps of a network are products of all rows of a batch, which BLAS rounds by its size."""
    cells = samples.counts(60, 80)
    model = mfcore.NeuralMF(20, n_epochs=2, random_state=0, **params).fit(cells)
    together = model.fold_in_users(cells).factors, *model.recommend(ratings=cells, k=20)
    for user in range(0, 60, 5):
        alone = model.fold_in_users(cells[[user]]).factors, \
            *model.recommend(ratings=cells[[user]], k=20)
        same([each[0] for each in alone], [each[user] for each in together])


@pytest.mark.parametrize("made", samples.EVERY)
def test_a_pair_is_predicted_the_same_alone_and_with_others(made):
    cells = samples.counts(40, 30)
    users, items = (each.ravel() for each in np.indices(cells.shape))
    model = samples.small(made).fit(cells)
    for new in ({}, {"ratings": cells}):
        together = model.predict(users, items, **new)
        alone = [model.predict(users[[t]], items[[t]], **new)[0] for t in range(0, 1200, 41)]
        np.testing.assert_array_equal(alone, together[::41])


def print_differing():
    """Print how many users get something else alone than in a batch."""
    model = mfcore.ImplicitMF(32, random_state=23).fit(BOARD)
    print(differing(model, 50), differing(model, 50, similarity="cosine"))


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="kernels of x86")
@pytest.mark.parametrize("core", ["Prescott", "Haswell", "SkylakeX"])
def test_a_list_is_the_same_alone_and_in_a_batch_with_any_kernel_of_blas(core):
    """(Another BLAS than OpenBLAS does not read the variable.)"""
    env = os.environ | {"OPENBLAS_CORETYPE": core}
    done = subprocess.run([sys.executable, "-c", "import test_alone as t; t.print_differing()"],
                          env=env | {"PYTHONPATH": os.pathsep.join(sys.path)}, text=True,
                          capture_output=True, cwd=os.path.dirname(__file__), check=False)
    assert done.stdout.split() == ["0", "0"], done.stderr
