"""Rows of few cells, solved by a system of their cells, are those of the whole system."""

from __future__ import annotations

from dataclasses import replace

import naive
import numpy as np
import pytest
from naive import as_type, problem, random_problem

from mfcore import ImplicitMF, MatrixFactorization
from mfcore.data.synthetic import planted
from mfcore.kernels import lapack
from mfcore.parallel import Pool
from mfcore.solvers import short
from mfcore.solvers.als import row_bounds, solve_exactly

K = 40
CASES = {
    "fixed bias": random_problem(1, 9, 8, K, r0=2.3),
    "learned bias": random_problem(2, 9, 8, K, r0=2.3, learns_bias=True, means="rows"),
    "unknown cells": random_problem(3, 9, 8, K, w0=0.45, r0=1.7, means="shared"),
    "unknown cells as heavy as the lightest": random_problem(4, 9, 8, K, w0=0.2, weighted=True),
}


@pytest.fixture(autouse=True)
def few_factors_are_enough(monkeypatch):
    monkeypatch.setattr(short, "LEAST", 32)


def solved(dense, at, *, many=True, real=np.float64):
    """Solve users by cells where that is possible; return P, β, what was solved, and Σ_Ω."""
    at = as_type(at, real)
    systems, done = problem(dense, real=real).user_rows(at), np.zeros(len(at.P), bool)
    P, beta = at.P.copy(), at.beta.copy()
    with Pool(1) as pool:
        known = short.short_parts(systems, systems.whole_matrix(pool, np.float64), P, beta, pool,
                                  row_bounds(systems, K), done, many=many)
    return P, beta, done, sum(known)


@pytest.mark.kernel
@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize("name", CASES)
def test_rows_of_few_cells_are_dense_least_squares_on_all_cells(name, real):
    dense, at = CASES[name]
    P, beta, done, known = solved(dense, at, real=real)
    expected, tolerance = dense.solved_users(at), 1e-4 if real is np.float32 else 1e-9
    assert done.any()
    np.testing.assert_allclose(P[done], expected[0][done], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(beta[done], expected[1][done], rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(P[~done], at.P[~done].astype(real))
    s, stored = naive.scores(at), dense.stored & done[:, None]
    terms = (dense.w - dense.w0) * s * s - 2 * dense.w * dense.T * s
    assert known == pytest.approx(terms[stored].sum(), rel=1e-9 if real is np.float64 else 1e-5)


@pytest.mark.kernel
def test_cells_that_weigh_as_much_as_unknown_ones_have_their_target_only():
    dense, at = CASES["unknown cells"]
    dense = replace(dense, w=np.full_like(dense.w, dense.w0))
    P, _, done, _ = solved(dense, at)
    assert done.all()
    np.testing.assert_allclose(P, dense.solved_users(at)[0], rtol=1e-9, atol=1e-9)


@pytest.mark.kernel
def test_rows_with_negative_a_and_weak_ones_are_left_to_the_whole_system():
    dense, at = CASES["unknown cells"]
    lighter = replace(dense, w=dense.w * np.where(np.arange(9) % 2, 0.1, 1.0)[:, None])
    assert not solved(lighter, at)[2][1::2].any()
    weak = replace(dense, users=replace(dense.users, reg=np.zeros_like(dense.users.reg)))
    assert not solved(weak, at)[2].any()


@pytest.mark.parametrize("w0", [0.0, 1.0])
def test_a_row_has_the_same_bits_alone_and_in_company(w0):
    dense, at = random_problem(5, 9, 8, K, w0=w0)
    P = solved(dense, at, real=np.float32)[0]
    for u in range(9):
        alone = replace(dense, R=dense.R[[u]], w=dense.w[[u]], stored=dense.stored[[u]],
                        users=dense.users.take(np.array([u])))
        one = replace(at, P=at.P[[u]], beta=at.beta[[u]])
        np.testing.assert_array_equal(solved(alone, one, real=np.float32)[0][0], P[u])


def test_with_few_factors_all_rows_are_solved_by_the_whole_system(monkeypatch):
    dense, at = CASES["unknown cells"]
    monkeypatch.setattr(short, "LEAST", K + 1)
    assert not solved(dense, at)[2].any()


def test_new_rows_need_no_eigenbasis():
    dense, at = CASES["unknown cells"]
    assert not solved(dense, at, many=False)[2].any()


@pytest.mark.parametrize("model", [
    ImplicitMF(64, n_epochs=2, random_state=0, n_threads=1, dtype="float64"),
    MatrixFactorization(64, n_epochs=2, random_state=0, n_threads=1, dtype="float64"),
    MatrixFactorization(64, n_epochs=2, random_state=0, solver="cholesky", dtype="float64"),
], ids=str)
def test_a_fit_is_that_of_whole_systems(model, monkeypatch):
    ratings = planted(80, 60).ratings
    by_cells, called = model.fit(ratings).user_factors_, []

    def none(*_):
        called.append(True)
        return 0.0

    monkeypatch.setattr(short, "solve_short_rows", none)
    np.testing.assert_allclose(model.fit(ratings).user_factors_, by_cells, rtol=1e-5, atol=1e-5)
    assert called


def test_a_row_folds_in_to_its_own_factors_by_the_other_system():
    dense, at = CASES["unknown cells"]
    P, beta = np.zeros_like(at.P), at.beta.copy()
    with Pool(1) as pool:
        solve_exactly(problem(dense).user_rows(at), P, beta, pool)
    np.testing.assert_allclose(solved(dense, at)[0], P, rtol=1e-9, atol=1e-11)


@pytest.mark.kernel
@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_a_product_of_gathered_rows_is_added_to_the_upper_triangle(real):
    B = np.random.default_rng(0).normal(size=(5, 6)).astype(real)
    A, flags = np.full((3, 3), 0.7, real), np.array(lapack.FLAGS, np.int32)
    flags[0], flags[lapack.GATHERED] = 3, 6
    lapack.add_outer(A, B, np.array([2, 0.5], real), flags)
    np.testing.assert_allclose(np.triu(A), np.triu(0.35 + 2 * B[:3] @ B[:3].T), rtol=1e-5)
    np.testing.assert_array_equal(np.tril(A, -1), np.tril(np.full((3, 3), 0.7, real), -1))
