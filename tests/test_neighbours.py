"""ItemKNN, RP3Beta and SparseEASE: the nearest of each item, and what is made of them."""

from __future__ import annotations

import numpy as np
import pytest
import samples
import scipy.sparse as sp
import strategies
from hypothesis import given
from hypothesis import strategies as st

import mfcore
from mfcore import EASE, GraphFilter, ItemKNN, PureSVD, RP3Beta, SparseEASE
from mfcore.objectives.neighbours import B, K, Similarity, weighted
from mfcore.parallel import Pool
from mfcore.solvers import neighbours as solver
from mfcore.solvers.neighbours import bytes_needed, empty, keep_nearest, times_sparse
from mfcore.validation import DivergenceError

CELLS = samples.counts(40, 17)
WIDE = samples.random_array((400, 1100), density=0.03, rng=np.random.default_rng(4), format="csr")
EVERY = [ItemKNN, RP3Beta, SparseEASE]


def binary(cells=CELLS):
    return (cells.toarray() > 0).astype(float)


def fitted(made, cells=CELLS, **params):
    return made(**{"n_neighbors": 4, "dtype": "float64", "n_threads": 1, **params}).fit(cells)


def largest(T, k):
    """T with the k largest positive entries of each row, ties to lower columns."""
    kept = np.zeros_like(T)
    for i, row in enumerate(T):
        best = [j for j in np.argsort(-row, kind="stable") if row[j] > 0 and j != i][:k]
        kept[i, best] = row[best]
    return kept


# ---------------------------------------------------------------------- the largest of a row

@pytest.mark.kernel
@given(strategies.seeds, st.integers(1, 9), st.booleans())
def test_the_largest_of_each_row_are_kept_and_ties_go_to_the_lower_item(seed, k, whole):
    rng = np.random.default_rng(seed)
    n, m = rng.integers(1, 7), rng.integers(2, 9)
    L, R = ((rng.integers(-1, 3, shape) if whole else rng.random(shape) * (rng.random(shape) < 0.6))
            .astype(float) for shape in ((m, n), (n, m)))
    a, b, h = rng.integers(1, 3, m).astype(float), rng.integers(1, 3, m).astype(float), 0.5
    at = empty(m, k, "float64")
    keep_nearest(Similarity(sp.csr_array(L), sp.csr_array(R), a, b, h), at, Pool(1))
    dense = at.matrix().toarray()
    np.testing.assert_allclose(dense, largest((L @ R) / (np.outer(a, b) + h), k), rtol=1e-12)
    assert at.matrix().has_canonical_format


@pytest.mark.kernel
def test_rows_times_a_sparse_matrix_are_dense_rows():
    X, S = samples.counts(5, 8), samples.matrix(8, 8, seed=3)
    np.testing.assert_allclose(times_sparse(X, S), (X @ S).toarray())


# ----------------------------------------------------------------------------- similarities

@pytest.mark.parametrize("values", ["binary", "raw"])
@pytest.mark.parametrize("shrink", [0.0, 7.0])
def test_cosines_are_shrunken_and_the_largest_of_each_scored_item_kept(values, shrink):
    X = binary() if values == "binary" else CELLS.toarray().astype(float)
    norms = np.linalg.norm(X, axis=0)
    with np.errstate(invalid="ignore"):
        T = np.nan_to_num(X.T @ X / (np.outer(norms, norms) + shrink))
    model = fitted(ItemKNN, shrink=shrink, values=values)
    S = model.weights_.toarray()
    assert model.history_[0]["loss"] == 0                   # (it minimises nothing)
    np.testing.assert_allclose(S, largest(T, 4).T, rtol=1e-12)


def test_the_walk_is_three_steps_with_powers():
    X, alpha, beta = binary(), 0.7, 0.4
    of_item, of_user = X.sum(0), X.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        to_user = np.nan_to_num((X / of_item).T ** alpha)
        to_item = np.nan_to_num((X / of_user[:, None]) ** alpha)
        S = np.nan_to_num(to_user @ to_item / of_item ** beta)
    model = fitted(RP3Beta, alpha=alpha, beta=beta)
    np.testing.assert_allclose(model.weights_.toarray(), largest(S, 4), rtol=1e-10)


def test_without_powers_a_walk_ends_somewhere():
    model = fitted(RP3Beta, alpha=1.0, beta=0.0, n_neighbors=99)
    X = binary()
    of_item, of_user = np.maximum(X.sum(0), 1), np.maximum(X.sum(1), 1)
    stays = (X / of_item / of_user[:, None]).sum(0)
    wanted = (X.sum(0) > 0).astype(float)
    np.testing.assert_allclose(model.weights_.toarray().sum(1) + stays, wanted, atol=1e-12)


@pytest.mark.parametrize("weighting", ["tf-idf", "bm25"])
def test_weights_of_cells_are_the_formula(weighting):
    assert (K, B) == (1.2, 0.75)                        # (as published for BM25)
    X = samples.counts(9, 7).astype(float)
    X.eliminate_zeros()
    D, N = X.toarray(), 9
    n, d = (D > 0).sum(0), D.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        wanted = np.log(N / n) * np.sqrt(D) if weighting == "tf-idf" else \
            np.log((N - n + 0.5) / (n + 0.5) + 1) * D * (K + 1) / (
                D + K * (1 - B + B * d / d.mean())[:, None])
    np.testing.assert_allclose(weighted(X, weighting).toarray(), np.where(D > 0, wanted, 0),
                               rtol=1e-12)


# ------------------------------------------------------------------------------ sparse EASE

@pytest.mark.kernel
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 2e-5)])
@pytest.mark.parametrize(("dropout", "cells"), [
    (0.0, CELLS), (0.35, CELLS), (0.0, samples.random_array((30, 17), density=0.1, format="csr",
                                                            rng=np.random.default_rng(2)))],
    ids=["plain", "dropout", "few together"])
def test_with_all_items_as_neighbours_it_is_ease(dropout, cells, dtype, tolerance):
    params = {"reg": 3.0, "dropout": dropout, "dtype": dtype}
    dense = EASE(**params).fit(cells)
    sparse = fitted(SparseEASE, cells, n_neighbors=16, user_power=0.0, **params)
    np.testing.assert_allclose(sparse.weights_.toarray(), dense.weights_, atol=tolerance)
    assert sparse.history_[0]["loss"] == pytest.approx(dense.history_[0]["loss"], rel=tolerance)
    np.testing.assert_allclose(sparse.recommend(k=17)[1], dense.recommend(k=17)[1],
                               atol=10 * tolerance)


@pytest.mark.kernel
@pytest.mark.parametrize("user_power", [0.0, 0.8])
@pytest.mark.parametrize("values", ["binary", "raw"])
def test_each_column_is_a_ridge_on_its_nearest_items(values, user_power):
    X = binary() if values == "binary" else CELLS.toarray().astype(float)
    norms = np.maximum(np.linalg.norm(X, axis=0), 1e-9)
    near = largest(X.T @ X / np.outer(norms, norms), 4) > 0
    with np.errstate(divide="ignore"):
        W = np.where(X.sum(1) > 0, X.sum(1) ** -user_power, 1)
    W *= X.sum() / (X.sum(1) @ W)
    G = X.T @ (W[:, None] * X)
    model = fitted(SparseEASE, reg=3.0, dropout=0.2, values=values, user_power=user_power)
    penalty, loss = 3.0 + 0.25 * G.diagonal(), 0.0
    for j in range(17):
        N = np.flatnonzero(near[j])
        b = np.linalg.solve(G[np.ix_(N, N)] + np.diag(penalty[N]), G[N, j])
        np.testing.assert_allclose(model.weights_[N][:, [j]].toarray()[:, 0], b, rtol=1e-9)
        assert model.weights_[:, [j]].nnz == len(N)
        loss += W @ (X[:, j] - X[:, N] @ b) ** 2 + penalty[N] @ b ** 2
    assert model.history_[0]["loss"] == pytest.approx(loss, rel=1e-10)


def test_an_item_whose_system_has_no_solution_is_named(monkeypatch):
    monkeypatch.setattr(solver.kernels, "local_ridges", lambda *given: 3)
    with pytest.raises(DivergenceError, match="item 3 is not positive definite; raise reg"):
        fitted(SparseEASE)


@pytest.mark.kernel
def test_room_is_kept_for_lists_for_their_matrix_twice_and_for_the_ratings_in_three_forms():
    at, numbers, values = empty(17, 4, "float32"), np.zeros(90, np.int32), np.zeros(90)
    lists = at.columns.nbytes + at.values.nbytes
    ratings = 3 * numbers.nbytes + 2 * values.nbytes + values.astype(np.float32).nbytes
    assert bytes_needed(17, 4, 90, 4) == 3 * lists + ratings
    assert bytes_needed(17, 99, 0, 4) == bytes_needed(17, 16, 0, 4)


# ------------------------------------------------------------------------------- answers

@pytest.mark.parametrize("made", EVERY)
def test_scores_are_the_row_times_the_weights_and_explained_by_them(made):
    model = fitted(made, samples.named(CELLS))
    S = binary() @ model.weights_.toarray()
    best, scores = model.recommend(["u5"], 3, exclude_seen=False)
    np.testing.assert_allclose(scores[0], np.sort(S[5])[::-1][:3])
    np.testing.assert_allclose(model.predict("u5", best[0]), scores[0])
    score, items, parts = model.explain("u5", "i2", k=99)
    assert score == pytest.approx(parts.sum()) == pytest.approx(S[5, 2])
    assert (np.diff(parts) <= 0).all()
    assert model.predict("nobody", ["i1", "nothing"]).tolist() == [0, 0]


@pytest.mark.parametrize("made", EVERY)
def test_neighbours_of_items_go_by_the_columns_of_the_weights(made):
    model = fitted(made)
    columns = model.weights_.toarray().T
    unit = columns / np.maximum(np.linalg.norm(columns, axis=1, keepdims=True), 1e-300)
    for similarity, T in (("cosine", unit @ unit.T), ("dot", columns @ columns.T)):
        np.fill_diagonal(T, -np.inf)
        _, scores = model.similar_items([3, 0], 5, similarity=similarity)
        np.testing.assert_allclose(scores, -np.sort(-T[[3, 0]], axis=1)[:, :5], rtol=1e-9,
                                   atol=1e-12)


@pytest.mark.parametrize("made", EVERY)
def test_a_user_who_took_all_gets_no_list_and_an_item_that_nobody_took_scores_zero(made):
    cells = CELLS.toarray()
    cells[7] = 1
    cells[:, samples.SILENT_ITEM] = 0
    model = fitted(made, sp.csr_array(cells))
    assert (model.predict(range(40), samples.SILENT_ITEM) == 0).all()
    ids, _ = model.recommend([7], 3)
    assert ids.tolist() == [[samples.SILENT_ITEM, -1, -1]]


@pytest.mark.parametrize("made", EVERY)
def test_one_item_has_no_neighbours(made):
    model = fitted(made, sp.csr_array(np.ones((3, 1))))
    assert model.weights_.nnz == 0
    assert (model.predict([0, 1], 0) == 0).all()


# ---------------------------------------------------------------------- files and threads

@pytest.mark.parametrize("made", EVERY)
def test_a_saved_model_answers_alike_and_without_its_rows_for_new_ones_alone(made, tmp_path):
    model = fitted(made)
    model.save(tmp_path / "m", seen=False)
    again = mfcore.load(tmp_path / "m")
    for got, wanted in zip(again.recommend(ratings=CELLS, k=3), model.recommend(k=3), strict=True):
        np.testing.assert_array_equal(got, wanted)
    with pytest.raises(ValueError, match="saved with seen=False"):
        again.recommend([0])


@pytest.mark.parametrize(("part", "changed"), [
    ("indices", lambda each: each + 1000), ("indptr", lambda each: each[:-1]),
    ("data", lambda each: each * np.nan), ("indices", lambda each: each + 0.5)])
def test_a_file_with_unsound_weights_is_refused(part, changed, tmp_path):
    fitted(ItemKNN).save(tmp_path / "m")
    arrays, meta = mfcore.persistence.read(tmp_path / "m")
    arrays[f"weights_.{part}"] = changed(arrays[f"weights_.{part}"])
    mfcore.persistence.write(tmp_path / "m", arrays, meta)
    with pytest.raises(mfcore.persistence.ModelFileError):
        mfcore.load(tmp_path / "m")


@pytest.mark.parametrize("made", EVERY)
def test_the_bits_do_not_depend_on_the_number_of_threads(made):
    models = [made(n_threads=n, n_neighbors=20).fit(WIDE) for n in (1, 2, 8)]
    assert len({model.weights_.data.tobytes() for model in models}) == 1
    assert len({model.weights_.indices.tobytes() for model in models}) == 1
    assert len({model.recommend(k=5)[1].tobytes() for model in models}) == 1


# ------------------------------------------------------------------------------- refusals

@pytest.mark.parametrize("made", EVERY)
def test_more_neighbours_than_the_memory_holds_are_refused_with_the_least(made):
    with pytest.raises(ValueError, match=r"memory must be at least .* gigabytes for 17 items with "
                                         r"4 neighbours in float64 \(.* for one\), got 1e-06; "
                                         r"lower n_neighbors, or raise memory"):
        fitted(made, memory=1e-6)
    with pytest.raises(ValueError, match="n_neighbors must be"):
        fitted(made, n_neighbors=0)


@pytest.mark.parametrize("made", [EASE, SparseEASE, ItemKNN, RP3Beta, GraphFilter, PureSVD,
                                  mfcore.MultVAE, mfcore.RatingAutoencoder])
def test_the_memory_that_a_refusal_names_is_enough(made):
    for n in range(100, 110):
        ratings = mfcore.Ratings(sp.csr_array(np.ones((40, n))))
        with pytest.raises(ValueError, match="memory must be at least") as refused:
            made(memory=1e-9).fit(ratings)
        model = made(memory=float(str(refused.value).split()[5]))
        model.check(ratings)                                # (which raises for what is not enough)


@pytest.mark.parametrize("made", EVERY)
def test_ratings_that_are_no_choices_are_refused(made):
    cells = CELLS.copy()
    cells.data = cells.data - 3
    with pytest.raises(ValueError, match="ratings must be >= 0 with values='raw', got -3"):
        fitted(made, cells, values="raw")
    cells.data[:] = -1
    with pytest.raises(ValueError, match="at least one value above 0, got none"):
        fitted(made, cells)


@pytest.mark.parametrize(("made", "params", "message"), [
    (ItemKNN, {"shrink": -1.0}, "shrink must be finite and >= 0"),
    (ItemKNN, {"weighting": "log"}, "weighting must be one of 'none', 'tf-idf', 'bm25'"),
    (RP3Beta, {"alpha": 0.0}, "alpha must be finite and > 0"),
    (RP3Beta, {"beta": -0.1}, "beta must be finite and >= 0"),
    (SparseEASE, {"reg": 0.0}, "reg must be finite and > 0"),
    (SparseEASE, {"dropout": 1.0}, r"dropout must be in \[0, 1\)"),
    (SparseEASE, {"user_power": 3.0}, "user_power must be")])
def test_parameters_out_of_range_are_refused(made, params, message):
    with pytest.raises(ValueError, match=message):
        fitted(made, **params)
