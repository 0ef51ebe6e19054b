"""Rows that are near their solutions: by steps to a tolerance, or left to Cholesky."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from naive import as_type, problem, random_problem

from mfcore.objectives.factors import WholeMatrix
from mfcore.parallel import Pool
from mfcore.solvers import near, short
from mfcore.solvers.als import (
    LARGE,
    Eigenbasis,
    exact_parts,
    finished_parts,
    row_bounds,
    solve_exactly,
)

CASES = {
    "no unknown cells": random_problem(1, 40, 30, 4),
    "learned bias": random_problem(2, 40, 30, 4, learns_bias=True, means="rows"),
    "weighted unknown": random_problem(3, 40, 30, 4, w0=0.3, r0=1.0),
    "weighted unknown, learned bias": random_problem(4, 40, 30, 4, w0=0.3, learns_bias=True),
}


def solved(dense, at):
    """The rows by steps, which of them are done, and all rows by Cholesky."""
    systems, P, beta = problem(dense, real=np.float32).user_rows(at), at.P.copy(), at.beta.copy()
    with Pool(2) as pool:
        basis = Eigenbasis(systems.whole_matrix(pool), systems.w0, systems.Q.shape, P.dtype)
        bounds = row_bounds(systems, P.shape[1])
        done = near.near_rows(basis, systems, P, beta, pool, bounds)
        solve_exactly(systems, at.P, at.beta, pool)
    return P, beta, done


@pytest.mark.kernel
@pytest.mark.parametrize("name", CASES)
def test_rows_that_are_done_are_those_of_cholesky(name):
    dense, at = CASES[name]
    at = as_type(at, np.float32)
    P, beta, done = solved(dense, at)
    assert done.mean() > 0.9
    scale = max(1.0, np.abs(at.P).max())
    np.testing.assert_allclose(P[done], at.P[done], rtol=0, atol=1e-5 * scale)
    np.testing.assert_allclose(beta[done], at.beta[done], rtol=0, atol=1e-5 * scale)


@pytest.mark.kernel
@pytest.mark.parametrize("change", [
    {"w0": 1.3},                                   # cells of weight below w0: a bound is missing
    {"reg": 0.0},                                  # nothing bounds the system from below
])
def test_rows_whose_error_cannot_be_bounded_are_left(change):
    dense, at = random_problem(5, 40, 30, 4, weighted=True, **change)
    *_, done = solved(dense, as_type(at, np.float32))
    cells = dense.stored.any(axis=1)
    assert not done[cells].any()


@pytest.mark.kernel
def test_rows_that_do_not_come_near_in_a_few_steps_are_left(monkeypatch):
    dense, at = CASES["no unknown cells"]
    monkeypatch.setattr(near, "STEPS", 1)
    *_, done = solved(dense, as_type(replace(at, P=at.P + 1), np.float32))
    assert not done[dense.stored.sum(axis=1) > 4].any()


@pytest.mark.kernel
@pytest.mark.parametrize("far", [0, 0.5, 1])
def test_the_last_half_sweep_solves_every_row_whichever_come_near(far, monkeypatch):
    dense, at = random_problem(6, 40, 50, 32, w0=0.3)
    dense.stored[:, 12:] = False                     # short enough for a system of their cells
    at = as_type(at, np.float32)
    systems = problem(dense, real=np.float32).user_rows(at)
    exact, steps = at.P.copy(), near.near_rows
    near_ones = np.arange(40) >= 40 * far

    def some_come_near(basis, systems, P, beta, pool, bounds):
        done = steps(basis, systems, P, beta, pool, bounds) & near_ones
        assert near_ones.sum() * 0.9 <= done.sum() <= near_ones.sum()
        return done

    monkeypatch.setattr(near, "near_rows", some_come_near)
    monkeypatch.setattr(near, "STEPS", 100)
    monkeypatch.setattr(short, "LEAST", 32)
    with Pool(2) as pool:
        solve_exactly(systems, exact, at.beta.copy(), pool)
        finished_parts(systems, at.P, at.beta, pool)
    np.testing.assert_allclose(at.P, exact, rtol=0, atol=1e-5 * np.abs(exact).max())


@pytest.mark.parametrize(("bytes_", "real", "row"), [
    (LARGE, np.float32, (8, np.uint32)), (LARGE - 64, np.float32, (16, np.float32)),
    (2 * LARGE, np.float64, (16, np.float64))])
def test_a_frozen_side_is_packed_from_a_mebibyte_of_float32(bytes_, real, row):
    nothing = WholeMatrix(np.zeros((16, 16)), np.zeros(16), np.zeros(16))
    basis = Eigenbasis(nothing, 0.0, (bytes_ // (16 * np.dtype(real).itemsize), 16), np.dtype(real))
    assert basis.row == row
    assert basis.changes_nothing == (row[1] != np.uint32)


def test_chunks_without_a_row_to_solve_add_nothing_each():
    dense, at = CASES["weighted unknown"]
    with Pool(1) as pool:
        parts = exact_parts(problem(dense).user_rows(at), at.P, at.beta, pool,
                            np.array([0, 15, 40]), done=np.ones(40, bool))
    assert parts == [0.0, 0.0]
