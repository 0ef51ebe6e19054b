"""The k best items: the kernels against sorting, masks, ties, NaN, threads and memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import samples
import scipy.sparse as sp
import strategies
from hypothesis import given
from hypothesis import strategies as st

from mfcore.kernels import topk as kernels
from mfcore.metrics import topk
from mfcore.parallel import Pool

LEVELS = st.sampled_from([-np.inf, -2.0, -1e-40, 0.0, 0.25, 0.5, 3.0])
DTYPES = st.sampled_from([np.float32, np.float64])


class Held:
    """A scorer over a matrix that is held whole; remembers the blocks asked for."""

    def __init__(self, scores):
        self.scores = np.asarray(scores)
        self.n_rows, self.n_items = self.scores.shape
        self.asked = []

    def block(self, start, stop):
        self.asked.append((start, stop))
        return self.scores[start:stop].copy()

    def rounding(self, start, stop):
        return None


def naive(scores, k):
    """Sort each row; ties by lower column; -inf is never taken."""
    columns = np.full((len(scores), k), -1)
    best = np.full((len(scores), k), -np.inf, scores.dtype)
    for row, values in enumerate(scores):
        order = [j for j in np.lexsort((np.arange(values.size), -values))
                 if values[j] > -np.inf][:k]
        columns[row, :len(order)] = order
        best[row, :len(order)] = values[order]
    return columns, best


def select_top(scores, n_groups, columns, best):
    """Call the kernel on exact scores."""
    exact, close = np.zeros(len(scores)), np.empty(len(scores), bool)
    return kernels.selector(n_groups > 0)(scores, n_groups, exact, columns, best, close)


def run(scores, k, **masks):
    with Pool(1) as pool:
        return topk.top_k(Held(scores), k, pool=pool, **masks)


def same(got, wanted):
    np.testing.assert_array_equal(got[0], wanted[0])
    np.testing.assert_array_equal(got[1], wanted[1])
    assert got[0].dtype == np.int64
    assert got[1].dtype == wanted[1].dtype


@st.composite
def tied_scores(draw, max_items=150):
    n_rows, n_items = draw(st.integers(1, 3)), draw(st.integers(1, max_items))
    if draw(st.booleans()):
        values = draw(st.lists(LEVELS, min_size=n_items, max_size=n_items))
        rows = [np.roll(values, shift) for shift in range(n_rows)]
    else:
        rows = np.random.default_rng(draw(strategies.seeds)).normal(size=(n_rows, n_items))
    return np.array(rows).astype(draw(DTYPES))


# ------------------------------------------------------------------------------ kernels


@pytest.mark.kernel
@given(tied_scores(), st.integers(1, 20), st.sampled_from([0, 1, 4, 32]))
def test_the_selection_equals_a_full_sort(scores, k, n_groups):
    columns = np.full((len(scores), k), -1, np.int64)
    best = np.full((len(scores), k), -np.inf, scores.dtype)
    assert select_top(scores, n_groups, columns, best) == -1
    same((columns, best), naive(scores, k))


@pytest.mark.parametrize(("n_items", "k", "looks"), [
    (600, 10, False), (600, 16, True), (500, 16, False), (600, 33, False), (1200, 33, True)])
def test_only_long_lists_of_many_items_need_the_kernel_that_looks_first(monkeypatch, n_items, k,
                                                                        looks):
    built = []
    monkeypatch.setattr(kernels, "selector",
                        lambda looks, of=kernels.selector: built.append(looks) or of(looks))
    scores = np.random.default_rng(0).normal(size=(2, n_items)).astype(np.float32)
    same(topk.best_of_block(scores, k), naive(scores, k))
    assert built == [looks]


@pytest.mark.kernel
@pytest.mark.parametrize("order", ["ascending", "descending", "constant"])
def test_the_selection_equals_a_full_sort_for_ordered_rows(order):
    values = np.arange(160.0) if order != "constant" else np.zeros(160)
    scores = values[None, ::-1 if order == "descending" else 1].copy()
    for n_groups in (0, 16):
        columns, best = np.full((1, 9), -1, np.int64), np.full((1, 9), -np.inf)
        select_top(scores, n_groups, columns, best)
        same((columns, best), naive(scores, 9))


@pytest.mark.kernel
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
@pytest.mark.parametrize("k", [2, 6])
def test_infinite_and_tiny_scores_are_ordered_too(scale, k):
    values = np.r_[np.linspace(-1, 1, 90) * scale, np.inf, np.inf].astype(np.float32)
    for n_groups in (0, 8):
        columns = np.full((1, k), -1, np.int64)
        best = np.full((1, k), -np.inf, np.float32)
        select_top(values[None], n_groups, columns, best)
        same((columns, best), naive(values[None], k))


@pytest.mark.kernel
@pytest.mark.parametrize("place", [0, 3, 63, 64, 99])
@pytest.mark.parametrize("n_groups", [0, 16])
def test_the_selection_names_the_row_with_a_nan(place, n_groups):
    scores = np.zeros((3, 100))
    scores[1, place] = np.nan
    columns, best = np.full((3, 2), -1, np.int64), np.full((3, 2), -np.inf)
    assert select_top(scores, n_groups, columns, best) == 1


@pytest.mark.kernel
@given(strategies.csr_matrices(max_items=9, min_nnz=0), st.booleans())
def test_masked_cells_are_those_of_a_dense_mask(mask, keep):
    stored = np.zeros(mask.shape, bool)
    for row in range(mask.shape[0]):
        stored[row, mask.indices[mask.indptr[row]:mask.indptr[row + 1]]] = True
    scores = np.random.default_rng(0).normal(size=mask.shape)
    wanted = np.where(stored if keep else ~stored, scores, -np.inf)
    masks = topk.Masks(mask.shape, **{"allowed" if keep else "excluded": mask})
    masks.apply(scores, 0)
    np.testing.assert_array_equal(scores, wanted)


# -------------------------------------------------------------------------------- top_k


@pytest.mark.kernel
@given(tied_scores(max_items=20), st.integers(1, 25), strategies.seeds)
def test_the_best_are_those_of_the_masked_matrix(scores, k, seed):
    rng = np.random.default_rng(seed)
    seen, allowed, excluded = rng.random((3, *scores.shape)) < [[[0.2]], [[0.8]], [[0.2]]]
    items = rng.random(scores.shape[1]) < 0.7
    left = np.where(allowed & ~seen & ~excluded, scores, -np.inf)
    same(run(scores, k, seen=sp.csr_array(seen), allowed=sp.csr_array(allowed),
             excluded=sp.csr_array(excluded)), naive(left, k))
    same(run(scores, k, seen=sp.csr_array(seen), allowed=items),
         naive(np.where(items & ~seen, scores, -np.inf), k))
    same(run(scores, k, allowed=items, excluded=items), naive(np.full_like(scores, -np.inf), k))
    same(run(scores, k, excluded=items), naive(np.where(items, -np.inf, scores), k))


@pytest.mark.parametrize("k", [1, 15, 16, 40])
def test_long_lists_of_large_catalogues_equal_a_full_sort(k):
    scores = np.random.default_rng(1).integers(0, 400, (150, 1500)).astype(np.float32)
    seen = samples.random_array(scores.shape, density=0.3, format="csr", rng=2)
    same(run(scores, k, seen=seen), naive(np.where(seen.toarray() != 0, -np.inf, scores), k))


@pytest.mark.kernel
def test_missing_places_are_minus_one_with_minus_infinity():
    columns, scores = run(np.array([[1.0, 2.0, 3.0], [1.0, -np.inf, 0.0]]), 4)
    assert columns.tolist() == [[2, 1, 0, -1], [0, 2, -1, -1]]
    assert scores.tolist() == [[3, 2, 1, -np.inf], [1, 0, -np.inf, -np.inf]]


@pytest.mark.kernel
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_rows_give_an_empty_list_of_the_scorers_dtype(dtype):
    columns, scores = run(np.empty((0, 4), dtype), 3)
    assert columns.shape == scores.shape == (0, 3)
    assert scores.dtype == dtype


@pytest.mark.kernel
def test_a_catalogue_without_items_gives_missing_places():
    assert run(np.empty((2, 0)), 2)[0].tolist() == [[-1, -1], [-1, -1]]


@pytest.mark.kernel
@pytest.mark.parametrize("layout", ["read-only", "strided"])
@pytest.mark.parametrize("index_type", [np.int32, np.int64])
def test_masks_of_any_layout_give_the_same(layout, index_type):
    mask = sp.csr_array((2, 4))
    mask.data = strategies.awkward(np.ones(3), layout)
    mask.indices = strategies.awkward(np.array([3, 1, 2], index_type), layout)
    mask.indptr = strategies.awkward(np.array([0, 2, 3], index_type), layout)
    scores = np.array([[1.0, 2.0, 3.0, 4.0]] * 2)
    assert run(scores, 2, allowed=mask)[0].tolist() == [[3, 1], [2, -1]]
    assert run(scores, 2, seen=mask)[0].tolist() == [[2, 0], [3, 1]]


@pytest.mark.kernel
def test_a_fortran_ordered_block_gives_the_same():
    scorer = Held(np.array([[1.0, 3.0, 2.0], [3.0, 1.0, 2.0]]))
    scorer.block = lambda start, stop: np.asfortranarray(scorer.scores[start:stop])
    with Pool(1) as pool:
        assert topk.top_k(scorer, 2, pool=pool)[0].tolist() == [[1, 2], [0, 2]]


def test_the_same_bits_and_blocks_for_any_number_of_threads():
    rng = np.random.default_rng(0)
    P, Q = rng.normal(size=(700, 8)), rng.normal(size=(300, 8))
    scores = (P @ Q.T).astype(np.float32)
    results, blocks = [], []
    for n_threads in (1, 2, 8):
        scorer = Held(scores)
        with Pool(n_threads) as pool:
            results.append(topk.top_k(scorer, 20, pool=pool))
        blocks.append(sorted(scorer.asked))
    assert blocks[0] == blocks[1] == blocks[2]
    assert len(blocks[0]) > 2
    for columns, best in results[1:]:
        np.testing.assert_array_equal(columns, results[0][0])
        np.testing.assert_array_equal(best, results[0][1])


@pytest.mark.parametrize("n_items", [1, 1000, 500_000, 40_000_000])
def test_a_block_keeps_to_its_budget(n_items):
    scorer = Held(np.empty((0, 1)))
    scorer.n_rows, scorer.n_items = 1000, n_items
    rows = max(stop - start for start, stop in topk.score_blocks(scorer))
    assert rows <= topk.BLOCK_ROWS
    assert rows * n_items <= topk.BLOCK_SCORES or rows == 1


def test_memory_is_that_of_a_few_blocks(monkeypatch):
    monkeypatch.setattr(topk, "BLOCK_SCORES", 1 << 16)

    class Fresh(Held):
        def block(self, start, stop):
            return np.full((stop - start, self.n_items), 1.0, np.float32)

    scorer = Fresh(np.empty((0, 0)))
    scorer.n_rows, scorer.n_items = 2000, 4096
    with Pool(1) as pool:
        topk.top_k(scorer, 3, pool=pool)
        tracemalloc.start()
        topk.top_k(scorer, 3, pool=pool)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 3 * 4 * (1 << 16) + 2000 * 3 * 12 * 3  # the whole matrix would be 32 MB


# ------------------------------------------------------------------------------- refusals


@pytest.mark.kernel
def test_a_nan_raises_and_names_its_row():
    scores = np.ones((200, 4))
    scores[150, 2] = np.nan
    with pytest.raises(ValueError, match="NaN in row 150"):
        run(scores, 2)


@pytest.mark.kernel
def test_a_nan_that_is_left_out_does_no_harm():
    scores = np.array([[1.0, np.nan, 3.0]])
    seen = sp.csr_array(np.array([[0, 1, 0]]))
    assert run(scores, 3, seen=seen)[0].tolist() == [[2, 0, -1]]


@pytest.mark.parametrize(("masks", "error", "message"), [
    ({"seen": sp.csr_array((3, 4))}, ValueError, r"seen must have shape \(2, 4\)"),
    ({"excluded": sp.csr_array((2, 5))}, ValueError, r"excluded must have shape \(2, 4\)"),
    ({"allowed": sp.csr_array((4, 2))}, ValueError, r"allowed must have shape \(2, 4\)"),
    ({"allowed": np.ones(3, bool)}, ValueError, r"allowed must have shape \(4,\)"),
    ({"excluded": np.array([0, 1, 2, 3])}, TypeError, "excluded must be a bool mask"),
    ({"seen": np.ones((2, 4), bool)}, TypeError, "seen must be a scipy sparse"),
])
def test_masks_that_do_not_fit_are_refused(masks, error, message):
    with pytest.raises(error, match=message):
        run(np.ones((2, 4)), 1, **masks)


@pytest.mark.parametrize("column", [4, -1])
def test_a_column_outside_the_matrix_is_refused(column):
    mask = sp.csr_array((2, 4))
    mask.data, mask.indices = np.ones(1), np.array([column], np.int32)
    mask.indptr = np.array([0, 0, 1], np.int32)
    with pytest.raises(ValueError, match="seen must be a sound CSR"):
        run(np.ones((2, 4)), 1, seen=mask)


@pytest.mark.parametrize(("k", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError),
                                          (True, TypeError)])
def test_a_k_that_is_no_positive_integer_is_refused(k, error):
    with pytest.raises(error, match="k must be"):
        run(np.ones((2, 4)), k)
