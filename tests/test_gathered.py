"""Products with gathered rows against NumPy, packed and not."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from mfcore.kernels import gathered
from mfcore.kernels.gathered import GROUP, aligned, gathers, packed, unpacked
from mfcore.kernels.options import KERNEL

pytestmark = pytest.mark.kernel

N_ROWS = 30
WIDTHS = (16, 48, 64, 160)
KINDS = ("packed", "float32", "float64")


def rows_of(kind: str, K: int) -> np.ndarray:
    """Random rows."""
    X = np.random.default_rng(K).normal(size=(N_ROWS, K))
    if kind != "packed":
        return X.astype(kind)
    words = aligned((N_ROWS, K // 2), np.uint32)
    packed(X.astype(np.float32), words)
    return words


def compiled(K: int):
    """The three products in a kernel."""
    dots, add, add_both = gathers(K)

    @njit(**KERNEL)
    def run(Q, indices, start, stop, p, e, a, s, r, both, diagonal):
        dots(Q, indices, start, stop, indices.size, p, s)
        add(Q, indices, start, stop, e, r)
        add_both(Q, indices, start, stop, e, both, a, diagonal)

    return run


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("K", WIDTHS)
def test_products_with_gathered_rows_are_those_of_numpy(K, kind):
    Q, run = rows_of(kind, K), compiled(K)
    X, real = unpacked(Q), unpacked(Q).dtype
    random = np.random.default_rng(1)
    for n, index in ((1, np.int32), (7, np.int64), (8, np.int32), (9, np.int32), (40, np.int32)):
        start = 3
        indices = random.integers(0, N_ROWS, start + n + 2).astype(index)
        p, r, both, diagonal = (random.normal(size=K).astype(real) for _ in range(4))
        e, a, s = (np.zeros(n + GROUP, real) for _ in range(3))
        e[:n], a[:n] = random.normal(size=(2, n))
        chosen = X[indices[start:start + n]].astype(float)
        expected = (chosen @ p, r + e[:n] @ chosen, both + e[:n] @ chosen,
                    diagonal + a[:n] @ chosen**2)
        run(Q, indices, start, start + n, p, e, a, s, r, both, diagonal)
        for found, right in zip((s[:n], r, both, diagonal), expected, strict=True):
            np.testing.assert_allclose(found, right, atol=1e-13 if real == np.float64 else 2e-5)


def test_packed_numbers_are_rounded_to_the_nearest_of_eight_bits():
    X = np.random.default_rng(0).normal(size=(50, 32)).astype(np.float32)
    X[0, :6] = 1 + 2.0**-8, 1 + 3 * 2.0**-8, -1 - 2.0**-8, 1e-38, np.inf, np.nan
    words = np.empty((50, 16), np.uint32)
    packed(X, words)
    found = unpacked(words)
    np.testing.assert_array_equal(found[0, :3], [1, 1 + 2.0**-6, -1])      # of two, to the even one
    assert np.isposinf(found[0, 4])
    assert np.isnan(found[0, 5])
    np.testing.assert_allclose(found[1:], X[1:], rtol=2.0**-8)
    assert abs((found[1:] - X[1:]).mean()) < 1e-4                          # no bias


def test_a_row_begins_at_a_cache_line():
    for shape in ((3, 16), (1, 8)):
        assert aligned(shape, np.uint32).ctypes.data % gathered.CACHE_LINE == 0
        assert aligned(shape, np.uint32).shape == shape


