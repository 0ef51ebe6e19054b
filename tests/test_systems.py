"""Small systems in vector registers against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from mfcore.kernels import systems
from mfcore.kernels.options import KERNEL
from mfcore.kernels.systems import add_products, factorise, solve_factored, square, widened

pytestmark = pytest.mark.kernel

REALS = (np.float32, np.float64)
SIZES = (1, 3, 16, 17, 40, 64, 130)
TOLERANCE = {np.float32: 2e-4, np.float64: 1e-11}


@njit(**KERNEL)
def gathered(B, Q, indices, start, stop, last, root, target, c, has_one):
    systems.gathered(B, Q, indices, start, stop, last, root, target, c, has_one)


@njit(**KERNEL)
def added(out, A, B, n, sign):
    add_products(out, A, B, n, sign)


@njit(**KERNEL)
def solved(A, inverse, c):
    is_positive = factorise(A, inverse)
    if is_positive:
        solve_factored(A, inverse, c)
    return is_positive


@njit(**KERNEL)
def squared(A, base, z):
    return square(A, base, z)


def panels(rows: np.ndarray, room: int) -> np.ndarray:
    """Rows, and others without meaning, as kernels keep them."""
    lanes = systems.BYTES // rows.itemsize
    B = np.full((rows.shape[1] // lanes, room, lanes), np.nan, rows.dtype)
    B[:, :len(rows)] = rows.reshape(len(rows), len(B), lanes).transpose(1, 0, 2)
    return B


def definite(d: int, real: type) -> np.ndarray:
    """A random positive definite matrix."""
    X = np.random.default_rng(d).normal(size=(2 * d + 4, d))
    return (X.T @ X / len(X) + 0.1 * np.eye(d)).astype(real)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("d", SIZES)
def test_a_widened_system_has_the_solution_of_the_one_it_was_made_of(d, real):
    A, c = definite(d, real), np.random.default_rng(0).normal(size=d).astype(real)
    wide = widened(A)
    given, inverse = np.zeros(len(wide), real), np.empty(len(wide), real)
    given[:d] = c
    assert solved(wide, inverse, given)
    exact = A.astype(float)
    tolerance = {"rtol": 0, "atol": TOLERANCE[real]}
    np.testing.assert_allclose(given[:d], np.linalg.solve(exact, c), **tolerance)
    np.testing.assert_array_equal(given[d:], 0)
    U = np.linalg.cholesky(exact).T
    np.testing.assert_allclose(np.triu(wide)[:d, :d], U, **tolerance)
    np.testing.assert_allclose(inverse[:d] * np.diag(U), 1, **tolerance)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("place", [0, 20, 39])
def test_what_is_not_positive_definite_is_told(place, real):
    A = widened(definite(40, real))
    A[place, place] = -0.5
    assert not solved(A, np.empty(len(A), real), np.zeros(len(A), real))
    A[place, place] = np.nan
    assert not solved(A, np.empty(len(A), real), np.zeros(len(A), real))


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("d", SIZES)
@pytest.mark.parametrize("n", [0, 1, 37])
def test_products_of_rows_are_added_to_the_upper_triangle(n, d, real):
    A = widened(definite(d, real))
    rows = np.random.default_rng(n).normal(size=(n, len(A))).astype(real)
    B, out = panels(rows, n + 2), np.empty_like(A)
    for sign in (1.0, -1.0):
        added(out, A, B, n, sign)
        np.testing.assert_allclose(np.triu(out), np.triu(A + sign * rows.T @ rows),
                                   atol=TOLERANCE[real])
    before = A.copy()
    added(A, A, B, n, 1.0)
    np.testing.assert_allclose(np.triu(A), np.triu(before + rows.T @ rows), atol=TOLERANCE[real])


@pytest.mark.parametrize(("own", "real"), [(np.float32, np.float32), (np.float64, np.float64),
                                           (np.float32, np.float64)])
@pytest.mark.parametrize("has_one", [False, True])
@pytest.mark.parametrize("k", [3, 16, 40])
def test_rows_are_gathered_and_scaled_and_their_targets_added(k, has_one, own, real):
    random = np.random.default_rng(k)
    Q = random.normal(size=(20, k)).astype(own)
    K = len(widened(np.eye(k + has_one, dtype=real)))
    for n, index in ((0, np.int32), (1, np.int64), (30, np.int32)):
        indices = random.integers(0, 20, n + 5).astype(index)
        root, target = random.normal(size=(2, 40)).astype(real)
        c = random.normal(size=K).astype(real)
        rows = np.zeros((n, K))
        rows[:, :k] = Q[indices[2:n + 2]]
        rows[:, k:k + has_one] = 1
        expected, B = c + target[:n] @ rows, panels(np.zeros((0, K), real), 40)
        gathered(B, Q, indices, 2, n + 2, n + 5, root, target, c, has_one)
        np.testing.assert_allclose(c, expected, atol=10 * TOLERANCE[real])
        np.testing.assert_allclose(B[:, :n], panels((root[:n, None] * rows).astype(real), n),
                                   atol=TOLERANCE[real])
        assert np.isnan(B[:, n:]).all()


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("d", SIZES)
def test_squares_are_of_the_upper_triangle_of_the_difference(d, real):
    A, base = widened(definite(d, real)), widened(definite(d + 1, real)[:d, :d])
    z = np.random.default_rng(1).normal(size=len(A)).astype(real)
    expected = z.astype(float) @ (A.astype(float) - base) @ z
    lanes = systems.BYTES // A.itemsize
    block = np.arange(len(A)) // lanes
    A[block[:, None] > block] = np.nan                    # what does not count
    assert squared(A, base, z) == pytest.approx(expected, rel=10 * TOLERANCE[real],
                                                abs=10 * TOLERANCE[real])
