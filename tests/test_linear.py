"""EASE: its matrix is the minimum of the formula, in tiles, and its answers follow from it."""

from __future__ import annotations

import numpy as np
import pytest
import samples
import scipy.sparse as sp

import mfcore
from mfcore import EASE, Ratings, evaluate, gradcheck
from mfcore.kernels import cooccurrence
from mfcore.objectives.linear import LinearAutoencoder
from mfcore.parallel import Pool
from mfcore.solvers.linear import invert
from mfcore.validation import DivergenceError

CELLS = samples.counts(40, 17)
WIDE = samples.random_array((90, 1100), density=0.03, rng=np.random.default_rng(4), format="csr")


def positive_definite(n, seed=0, dtype=np.float64):
    X = np.random.default_rng(seed).normal(size=(2 * n, n))
    return (X.T @ X + np.eye(n)).astype(dtype)


def fitted(cells=CELLS, **params):
    return EASE(**{"reg": 3.0, "dtype": "float64", "n_threads": 1, **params}).fit(cells)


def binary(cells):
    return sp.csr_array(((cells.data > 0).astype(float), cells.indices, cells.indptr),
                        shape=cells.shape)


# --------------------------------------------------------------------------- the inverse

@pytest.mark.parametrize("tile", [1, 3, 8, 16, 17, 40])
def test_the_inverse_in_tiles_is_the_inverse(tile):
    A = positive_definite(17)
    B = np.tril(A)                                     # the upper triangle is not read
    invert(B, Pool(1), tile)
    np.testing.assert_allclose(B, np.linalg.inv(A), rtol=1e-11, atol=1e-13)


def test_the_inverse_in_single_precision_loses_no_more_than_its_condition():
    A = positive_definite(300)
    B = A.astype(np.float32)
    invert(B, Pool(1), 64)
    exact = np.linalg.inv(A)
    error = np.linalg.norm(B - exact, 2) / np.linalg.norm(exact, 2)
    assert error < np.linalg.cond(A) * np.finfo(np.float32).eps / 2


@pytest.mark.parametrize("place", [0, 5, 16])
def test_a_matrix_that_is_not_positive_definite_is_refused_with_its_row(place):
    A = np.eye(17)
    A[place, place] = -1
    with pytest.raises(DivergenceError, match=rf"not positive definite at row {place}.*raise reg"):
        invert(A, Pool(1), 4)


@pytest.mark.kernel
def test_the_kernel_of_the_gram_fills_the_lower_triangle():
    X = samples.matrix(9, 7)
    columns, out = X.tocsc(), np.zeros((7, 7))
    for lo, hi in ((0, 3), (3, 7)):
        cooccurrence.sparse_gram(columns.indptr, columns.indices, columns.data, X.indptr,
                                 X.indices, X.data, out, lo, hi)
    np.testing.assert_allclose(out, np.tril((X.T @ X).toarray()))


# --------------------------------------------------------------------------- the minimum

@pytest.mark.parametrize("dropout", [0.0, 0.35])
def test_no_matrix_without_a_diagonal_is_better(dropout):
    model = fitted(dropout=dropout)
    problem = LinearAutoencoder(binary(CELLS), 3.0, dropout)
    B = model.weights_
    assert (np.diag(B) == 0).all()
    assert model.history_[0]["loss"] == pytest.approx(problem.value(B), rel=1e-12)
    gradient = samples.slope(problem.value, B, 1e-4)
    np.fill_diagonal(gradient, 0)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_the_gradient_of_the_formula_has_slope_two():
    X, Lambda = binary(CELLS).toarray(), LinearAutoencoder(binary(CELLS), 3.0, 0.2).penalties(
        binary(CELLS).toarray().sum(0))[:, None]

    def function(B):
        value = LinearAutoencoder(binary(CELLS), 3.0, 0.2).value(B)
        return value, 2 * (X.T @ (X @ B - X) + Lambda * B)

    B = np.random.default_rng(1).normal(size=(17, 17))
    assert gradcheck(function, B).slopes["x"] == pytest.approx(2, abs=0.05)


def test_dropout_is_the_mean_of_the_loss_over_left_out_cells():
    X, p = binary(CELLS).toarray(), 0.4
    B = fitted(dropout=p).weights_
    random, losses = np.random.default_rng(0), []
    for _ in range(4000):
        kept = X * (random.random(X.shape) >= p) / (1 - p)
        losses.append(((X - kept @ B) ** 2).sum() + 3.0 * (B ** 2).sum())
    wanted = LinearAutoencoder(binary(CELLS), 3.0, p).value(B)
    assert abs(np.mean(losses) - wanted) < 4 * np.std(losses) / 4000 ** 0.5


@pytest.mark.parametrize("values", ["binary", "raw"])
def test_each_column_is_a_ridge_regression_on_all_others(values):
    B = fitted(values=values).weights_
    X = binary(CELLS).toarray() if values == "binary" else CELLS.toarray()
    for j in range(17):
        others = np.arange(17) != j
        A = X[:, others]
        wanted = np.linalg.solve(A.T @ A + 3.0 * np.eye(16), A.T @ X[:, j])
        np.testing.assert_allclose(B[others, j], wanted, rtol=1e-9, atol=1e-11)


def test_an_item_that_nobody_rated_is_never_said_to_follow():
    B = fitted().weights_
    assert (B[samples.SILENT_ITEM] == 0).all()
    assert (B[:, samples.SILENT_ITEM] == 0).all()


# ------------------------------------------------------------------------------- answers

def test_scores_are_the_row_times_the_matrix():
    model = fitted()
    S = binary(CELLS).toarray() @ model.weights_
    users, items = np.indices(S.shape)
    np.testing.assert_allclose(model.predict(users.ravel(), items.ravel()), S.ravel(),
                               rtol=1e-12, atol=1e-14)
    best, scores = model.recommend([5], 3, exclude_seen=False)
    assert best[0].tolist() == np.argsort(-S[5])[:3].tolist()
    np.testing.assert_allclose(scores[0], np.sort(S[5])[::-1][:3])


def test_a_new_user_is_its_row():
    model = fitted()
    np.testing.assert_array_equal(model.fold_in_users(CELLS).factors.toarray(),
                                  model.user_factors_.toarray())
    for k in (1, 4):
        for got, wanted in zip(model.recommend(ratings=CELLS[3:9], k=k),
                               model.recommend(range(3, 9), k), strict=True):
            np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(model.predict([0, 2], [1, 1], ratings=CELLS[6:9]),
                                  model.predict([6, 8], [1, 1]))


def test_cosines_are_angles_between_the_row_and_the_columns():
    model = fitted()
    x, B = binary(CELLS).toarray()[5], model.weights_
    angles = x @ B / np.maximum(np.linalg.norm(x) * np.linalg.norm(B, axis=0), 1e-12)
    _, scores = model.recommend([5], 17, similarity="cosine", exclude_seen=False)
    np.testing.assert_allclose(scores[0], np.sort(angles)[::-1], rtol=1e-9, atol=1e-12)


def test_an_explanation_adds_up_to_the_score():
    model = EASE(reg=3.0, dtype="float64").fit(samples.named(CELLS))
    score, items, parts = model.explain("u5", "i2", k=99)
    assert score == pytest.approx(parts.sum()) == pytest.approx(model.predict("u5", "i2")[0])
    assert len(items) == binary(CELLS)[[5]].nnz + (CELLS[[5]].data == 0).sum()
    assert (np.diff(parts) <= 0).all()


def test_unknown_users_and_items_score_zero_and_empty_rows_too():
    model = fitted(samples.named(CELLS))
    assert model.predict("nobody", ["i1", "nothing"]).tolist() == [0, 0]
    assert (model.predict(f"u{samples.SILENT_USER}", ["i1", "i2"]) == 0).all()
    ids, scores = model.recommend([f"u{samples.SILENT_USER}"], 3)
    assert ids[0].tolist() == ["i0", "i1", "i2"]
    assert (scores == 0).all()


def test_a_saved_model_answers_alike_and_without_its_rows_for_new_ones_alone(tmp_path):
    model = fitted()
    model.save(tmp_path / "m")
    model.save(tmp_path / "n", seen=False)
    again, rowless = mfcore.load(tmp_path / "m"), mfcore.load(tmp_path / "n")
    np.testing.assert_array_equal(again.recommend(k=3)[1], model.recommend(k=3)[1])
    np.testing.assert_array_equal(rowless.recommend(ratings=CELLS, k=3)[0],
                                  model.recommend(k=3)[0])
    for ask in (lambda: rowless.recommend([0]), lambda: rowless.predict(0, 0),
                lambda: rowless.explain(0, 0)):
        with pytest.raises(ValueError, match="saved with seen=False"):
            ask()


def test_the_bits_do_not_depend_on_the_number_of_threads():
    models = [EASE(n_threads=n).fit(WIDE) for n in (1, 2, 8)]
    assert len({model.weights_.tobytes() for model in models}) == 1
    assert len({model.recommend(k=5)[1].tobytes() for model in models}) == 1


def test_an_evaluation_set_is_measured_and_a_checkpoint_removed(tmp_path):
    test = samples.counts(40, 17, seed=9)
    model = EASE(reg=3.0).fit(CELLS, eval_set=test, checkpoint=tmp_path / "c")
    assert model.history_[0]["ndcg@10"] == evaluate(model, test, metrics="ndcg@10")["ndcg@10"]
    assert not (tmp_path / "c").exists()


# ------------------------------------------------------------------------------- refusals

@pytest.mark.parametrize(("params", "message"), [
    ({"reg": 0.0}, "reg must be finite and > 0, got 0"),
    ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1"),
    ({"dropout": -0.1}, "dropout must be finite and >= 0, got -0.1"),
    ({"values": "counts"}, "values must be one of 'binary', 'raw', got 'counts'"),
    ({"memory": 0}, "memory must be finite and > 0"),
    ({"dtype": "int8"}, "dtype must be one of")])
def test_parameters_out_of_range_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        fitted(**params)


def test_a_matrix_too_large_for_the_memory_is_refused_with_the_figure():
    many = sp.csr_array((np.ones(1), ([0], [99_999])), shape=(2, 100_000))
    with pytest.raises(ValueError, match=r"at least 40\.82 gigabytes for 100000 items in float32,"
                                         r" got 8; leave out rare items, raise memory, or take "
                                         r"SparseEASE"):
        EASE().fit(many)


def test_weights_and_questions_it_cannot_answer_are_refused():
    weighted = Ratings(CELLS, weights=samples.weights(CELLS))
    with pytest.raises(ValueError, match="EASE takes no weights"):
        fitted(weighted)
    with pytest.raises(NotImplementedError, match="EASE learns nothing of users"):
        fitted().similar_users([0])
