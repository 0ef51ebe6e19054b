"""GraphFilter and PureSVD: the vectors are singular vectors, the scores are the formula."""

from __future__ import annotations

import numpy as np
import pytest
import samples
import scipy.sparse as sp

import mfcore
from mfcore import GraphFilter, PureSVD, Ratings
from mfcore.kernels import graph as kernels
from mfcore.objectives.graph import Graph, degrees
from mfcore.parallel import Pool
from mfcore.solvers import singular
from mfcore.solvers.singular import (
    Basis,
    SubspaceIteration,
    best_width,
    bytes_needed,
    drawn,
    orthonormal,
)

CELLS = samples.counts(40, 17)
PARTS = samples.random_array((300, 200), density=0.05, rng=np.random.default_rng(4), format="csr")


def binary(cells=CELLS):
    return (cells.toarray() > 0).astype(float)


def fitted(cells=CELLS, k=5, **params):
    return GraphFilter(k, **{"dtype": "float64", "n_epochs": 60, "n_threads": 1,
                             "random_state": 0, **params}).fit(cells)


def power(d, exponent):
    return np.where(d > 0, np.maximum(d, 1e-300) ** exponent, 0)


def naive(X, k, share):
    """All scores, densely, from the formula."""
    u, i = X.sum(1), X.sum(0)
    R = power(u, -0.5)[:, None] * X * power(i, -0.5)
    V = np.linalg.svd(R)[2][:k].T
    return X @ (R.T @ R + share * power(i, -0.5)[:, None] * (V @ V.T) * power(i, 0.5))


def all_scores(model):
    users, items = np.indices(model.ratings_.shape)
    return model.predict(users.ravel(), items.ravel()).reshape(users.shape)


# ----------------------------------------------------------------------- singular vectors

@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_iteration_finds_the_leading_singular_vectors(dtype):
    R, k = sp.csr_array(PARTS.astype(dtype)), 6
    solver = SubspaceIteration(R, sp.csr_array(R.T.tocsr()), k)
    at = drawn(k, R.shape, np.dtype(dtype), np.random.default_rng(0))
    solver.begin(at, Pool(1))
    losses = [solver.epoch(at, Pool(1)) for _ in range(60)]
    solver.finish(at, Pool(1))
    _, sigma, Vt = np.linalg.svd(R.toarray().astype(float))
    tolerance = 30 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(np.sqrt(at.theta[:k]), sigma[:k], rtol=tolerance)
    assert losses[-1] == pytest.approx((sigma[k:] ** 2).sum(), rel=tolerance)
    assert (np.diff(losses) < tolerance * losses[0]).all()
    overlap = np.linalg.svd(at.Q[:, :k].T @ Vt[:k].T)[1]
    np.testing.assert_allclose(overlap, 1, atol=max(tolerance, 1e-5))
    assert (at.Q.max(axis=0) >= -at.Q.min(axis=0)).all()        # (whatever the start)


def test_the_nearest_orthonormal_matrix_has_orthonormal_columns_and_keeps_columns_of_zeros():
    Y = np.random.default_rng(0).normal(size=(50, 4)) @ np.diag([1, 2, 0, 3])
    Q = orthonormal(Y, np.eye(4), Pool(1))
    np.testing.assert_allclose(Q.T @ Q, np.diag([1, 1, 0, 1]), atol=1e-12)
    left = np.delete(Y, 2, 1)
    U, _, Vt = np.linalg.svd(left, full_matrices=False)            # (the polar factor)
    np.testing.assert_allclose(np.delete(Q, 2, 1), U @ Vt, atol=1e-12)


def test_directions_that_ratings_do_not_have_are_zeros():
    cells = sp.csr_array(np.outer(np.arange(1, 9), np.ones(6)))          # of rank 1
    model = PureSVD(4, values="raw", random_state=0).fit(cells)
    assert model.singular_values_[0] == pytest.approx(np.sqrt(6 * 204), rel=1e-6)
    assert (model.singular_values_[1:] < 1e-3 * model.singular_values_[0]).all()
    np.testing.assert_allclose(all_scores(model), cells.toarray(), rtol=1e-5)


def test_a_step_leaves_the_basis_before_it_alone():
    R = sp.csr_array(PARTS)
    solver = SubspaceIteration(R, sp.csr_array(R.T.tocsr()), 3)
    at = drawn(3, R.shape, R.dtype, np.random.default_rng(0))
    solver.begin(at, Pool(1))
    before = Basis(at.Q.copy(), at.theta.copy())
    kept = at.copy()
    solver.epoch(at, Pool(1))
    np.testing.assert_array_equal(kept.Q, before.Q)
    np.testing.assert_array_equal(kept.theta, before.theta)


# --------------------------------------------------------------------------- the formula

@pytest.mark.parametrize("share", [0.0, 0.3, 2.0])
def test_scores_are_the_formula(share):
    np.testing.assert_allclose(all_scores(fitted(share=share)), naive(binary(), 5, share),
                               rtol=1e-7, atol=1e-9)


def test_raw_values_are_the_weights_of_edges():
    np.testing.assert_allclose(all_scores(fitted(values="raw")),
                               naive(CELLS.toarray().astype(float), 5, 0.3), rtol=1e-7, atol=1e-9)


def test_pure_svd_projects_rows_on_the_leading_vectors():
    for values, X in (("binary", binary()), ("raw", CELLS.toarray().astype(float))):
        model = PureSVD(5, values=values, dtype="float64", n_epochs=60, random_state=0).fit(CELLS)
        V = np.linalg.svd(X)[2][:5].T
        np.testing.assert_allclose(all_scores(model), X @ V @ V.T, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(model.fold_in_users(CELLS).factors, model.user_factors_)


@pytest.mark.kernel
@pytest.mark.parametrize("weighted", [False, True])
def test_the_walk_in_rows_and_in_cells_has_the_same_bits_and_is_the_product(weighted):
    X = samples.counts(9, 7).astype(np.float32)
    X.eliminate_zeros()
    by_item, rows = sp.csr_array(X.T.tocsr()), samples.counts(4, 7, seed=7).astype(np.float32)
    d, e = (degrees(each, weighted) for each in (X, by_item))
    roots, shares = power(e, -0.5).astype(np.float32), power(d, -1.0).astype(np.float32)
    walk = (by_item.indptr, by_item.indices, by_item.data)
    out = np.empty((4, 7), np.float32)
    kernels.near_rows(rows.indptr, rows.indices, rows.data, *walk, X.indptr, X.indices, X.data,
                      weighted, roots, shares, out)
    dense = X.toarray() if weighted else (X.toarray() != 0).astype(float)
    R = power(d, -0.5)[:, None] * dense * power(e, -0.5)
    np.testing.assert_allclose(out, rows.toarray() @ R.T @ R, rtol=1e-5, atol=1e-6)
    places, columns = (each.ravel() for each in np.indices((4, 7)))
    order, cells = np.random.default_rng(0).permutation(28), np.empty(28, np.float32)
    kernels.near_cells(rows.indptr, rows.indices, rows.data, *walk, weighted, roots, shares,
                       places[order], columns[order], cells)
    np.testing.assert_array_equal(cells, out.ravel()[order])


def test_a_block_is_no_further_from_its_cells_than_its_rounding():
    model = GraphFilter(20, random_state=0).fit(PARTS)
    scorer = model.answers().scorer(np.arange(300), mfcore.metrics.fitted.Query(), Pool(1))
    rows, columns = (each.ravel() for each in np.indices((300, 200)))
    away = np.abs(scorer.block(0, 300).astype(float).ravel() - scorer.exact(rows, columns))
    assert (away <= np.repeat(scorer.rounding(0, 300), 200)).all()


def test_an_explanation_adds_up_to_the_score():
    for values in ("binary", "raw"):
        model = fitted(samples.named(CELLS), values=values)
        score, _, parts = model.explain("u5", "i2", k=99)
        assert score == pytest.approx(parts.sum()) == pytest.approx(model.predict("u5", "i2")[0])
        assert (np.diff(parts) <= 0).all()


def test_an_item_that_nobody_took_scores_zero_and_a_user_who_took_all_gets_no_list():
    cells = CELLS.toarray()
    cells[7] = 1
    cells[:, samples.SILENT_ITEM] = 0
    full = sp.csr_array(cells)
    model = fitted(full)
    assert (all_scores(model)[:, samples.SILENT_ITEM] == 0).all()
    everything = sp.csr_array(np.ones((40, 17)))
    ids, scores = fitted(everything).recommend([7], 3)
    assert (ids == -1).all()
    assert (scores == -np.inf).all()


# ---------------------------------------------------------------------- files and threads

def test_a_file_holds_the_graph_once_and_without_the_ratings_still(tmp_path):
    likes = sp.csr_array((np.ones(CELLS.nnz), CELLS.indices, CELLS.indptr), shape=CELLS.shape)
    model = fitted(samples.named(likes))
    assert model.graph_ is model.ratings_
    for seen in (True, False):
        model.save(tmp_path / str(seen), seen=seen)
        arrays, _ = mfcore.persistence.read(tmp_path / str(seen))
        assert ("graph_.indptr" in arrays) != seen
        again = mfcore.load(tmp_path / str(seen))
        for got, wanted in zip(again.recommend(ratings=likes, k=3),
                               model.recommend(ratings=likes, k=3), strict=True):
            np.testing.assert_array_equal(got, wanted)
    with pytest.raises(ValueError, match="saved with seen=False"):
        again.recommend(["u1"])


def test_a_file_whose_graph_is_missing_is_refused(tmp_path):
    model = fitted()
    model.save(tmp_path / "m", seen=False)
    arrays, meta = mfcore.persistence.read(tmp_path / "m")
    kept = {name: array for name, array in arrays.items() if not name.startswith("graph_")}
    mfcore.persistence.write(tmp_path / "m", kept, meta)
    with pytest.raises(mfcore.persistence.ModelFileError, match="graph_ is missing"):
        mfcore.load(tmp_path / "m")


@pytest.mark.parametrize("made", [GraphFilter, PureSVD])
def test_the_bits_do_not_depend_on_the_number_of_threads(made):
    wide = samples.random_array((5000, 3000), density=0.004, rng=np.random.default_rng(4),
                                format="csr")
    models = [made(24, n_threads=n, n_epochs=2, random_state=0).fit(wide) for n in (1, 2, 8)]
    assert len({model.item_factors_.tobytes() for model in models}) == 1
    assert len({model.recommend(range(200), k=5)[1].tobytes() for model in models}) == 1


@pytest.mark.parametrize("made", [GraphFilter, PureSVD])
def test_an_interrupted_fit_goes_on_to_the_same_bits(made, tmp_path):
    def stop(model, record):
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    model = made(5, n_epochs=4, random_state=0)
    with pytest.raises(KeyboardInterrupt):
        made(5, n_epochs=4, random_state=0).fit(CELLS, callbacks=[stop], checkpoint=tmp_path / "c")
    model.fit(CELLS, checkpoint=tmp_path / "c")
    np.testing.assert_array_equal(model.item_factors_, made(5, n_epochs=4, random_state=0).fit(
        CELLS).item_factors_)


# ------------------------------------------------------------------------------- refusals

@pytest.mark.parametrize("made", [GraphFilter, PureSVD])
def test_vectors_that_there_are_not_are_zeros_and_those_beyond_the_memory_refused(made):
    most, more = (made(k, random_state=0).fit(CELLS) for k in (17, 20))
    assert (more.item_factors_[:, 17:] == 0).all()
    assert (more.singular_values_[17:] == 0).all()
    np.testing.assert_array_equal(more.item_factors_[:, :17], most.item_factors_)
    with pytest.raises(ValueError, match=r"memory must be at least .* \(.* for one\), got 1e-06; "
                                         r"lower n_factors"):
        made(4, memory=1e-6).fit(CELLS)
    with pytest.raises(ValueError, match="n_factors must be"):
        made("all").fit(CELLS)
    most = made(random_state=0).fit(CELLS).item_factors_.shape[1]
    assert most == 8 if made is GraphFilter else most in (1, 2, 4, 8)


def test_ratings_that_are_no_choices_are_refused():
    cells = CELLS.copy()
    cells.data = cells.data - 3
    with pytest.raises(ValueError, match="ratings must be >= 0 with values='raw', got -3; "
                                         "values='binary' takes those above 0 as chosen"):
        fitted(cells, values="raw")
    assert (fitted(cells).graph_.by_user.data > 0).all()
    with pytest.raises(ValueError, match="too large for float32 with values='raw', up to 2e[+]38"):
        fitted(sp.csr_array(np.full((2, 2), 2e38)), values="raw", dtype="float32")
    cells.data[:] = 0
    with pytest.raises(ValueError, match="at least one value above 0, got none"):
        fitted(cells)
    for values in ("binary", "raw"):
        with pytest.raises(ValueError, match="at least one choice, got none"):
            PureSVD(2, values=values).fit(cells)
    with pytest.raises(ValueError, match="GraphFilter takes no weights"):
        fitted(Ratings(CELLS, weights=samples.weights(CELLS)))


def test_a_graph_is_what_it_says():
    X = sp.csr_array(binary())
    graph = Graph(X, sp.csr_array(X.T.tocsr()), False, degrees(X, False),
                  degrees(sp.csr_array(X.T.tocsr()), False))
    R, transposed = graph.normalised(np.dtype(float))
    np.testing.assert_array_equal(R.toarray(), transposed.toarray().T)
    assert np.linalg.svd(R.toarray())[1][0] == pytest.approx(1)


# ------------------------------------------------------------------------ how many vectors

def chosen(own, n_groups=24):
    """Return choices of 900 users among 600 items, counts of 1 to 5, more of the own group."""
    random, same = np.random.default_rng(0), np.arange(900)[:, None] % n_groups \
        == np.arange(600) % n_groups
    cells = random.random(same.shape) < np.where(same, own, 0.02)
    return Ratings(sp.csr_array(cells * random.integers(1, 6, same.shape)))


@pytest.mark.parametrize("values", ["binary", "raw"])
def test_singular_values_of_choices_without_taste_are_those_of_chance(values):
    model = GraphFilter(9, values=values, n_epochs=30, random_state=0, n_threads=1).fit(
        chosen(0.02))
    assert model.singular_values_[1] == pytest.approx(model._graph().of_chance, rel=0.08)


def test_as_many_vectors_are_kept_as_there_are_groups_to_tell_apart():
    model = GraphFilter(random_state=0, n_threads=1).fit(chosen(0.6))
    assert model.item_factors_.shape == (600, 24)


def test_the_memory_of_a_fit_is_that_of_its_blocks_and_of_the_ratings_in_both_orders():
    w, parts = 64 + 32, 1                   # columns, and chunks whose Grams are added
    users, items, nnz = 300, 200, 5000
    blocks = users + 3 * items + parts * w
    for size in (4, 8):
        assert bytes_needed(64, (users, items), nnz, size) == \
            size * w * blocks + 2 * (size + 4) * nnz


def test_where_nothing_but_popularity_can_be_learned_one_vector_is_enough():
    random = np.random.default_rng(0)
    odds = 1 / (np.arange(60) + 1.0)
    popular = sp.csr_array((random.random((400, 60)) < 0.6 * odds).astype(float))
    assert PureSVD(random_state=0).fit(popular).item_factors_.shape[1] == 1
    half = np.arange(60) % 2 == np.arange(400)[:, None] % 2             # (two audiences)
    split = sp.csr_array((half & (random.random(half.shape) < 0.3)).astype(float))
    assert PureSVD(random_state=0).fit(split).item_factors_.shape[1] == 2


@pytest.mark.parametrize(("k", "widths"), [(5, [1, 2, 4, 5]), (8, [1, 2, 4, 8]), (1, [1])])
def test_the_widths_that_are_ranked_are_powers_of_two_and_the_largest(k, widths, monkeypatch):
    tried = []
    monkeypatch.setattr(singular, "LEAST_USERS", 1)
    monkeypatch.setattr(singular, "ndcg_of", lambda scorer, *_: (
        tried.append(scorer.Q.shape[1]), np.zeros(1))[1])
    with Pool(1) as pool:
        assert best_width(PARTS, k, 2, np.random.default_rng(0), pool) == 1
    assert tried == widths


def test_the_longest_part_of_a_vector_of_items_is_positive():
    V = PureSVD(6, random_state=0).fit(PARTS).item_factors_
    assert (V.max(axis=0) >= -V.min(axis=0)).all()
