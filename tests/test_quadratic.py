"""The value is the formula, the gradient is its derivative, and equal problems are equal."""

from __future__ import annotations

from dataclasses import replace

import naive
import numpy as np
import pytest
import scipy.sparse as sp
import strategies
from hypothesis import given
from hypothesis import strategies as st
from naive import Dense, as_type, problem, random_problem

from mfcore import gradcheck, parallel
from mfcore.data.ratings import Ratings
from mfcore.gradcheck import GradientError
from mfcore.objectives import biases, factors
from mfcore.objectives.factors import Factors, augmented_gram
from mfcore.objectives.quadratic import Cells, Loss, Quadratic
from mfcore.objectives.scaling import penalty_weights
from mfcore.parallel import Pool

BLOCKS = ("P", "Q", "beta", "gamma", "G", "H", "g", "h")

# Every row of the table of cases, and shapes at the edge of what there is.
CASES = {
    "minimal": random_problem(1),
    "fixed bias": random_problem(2, r0=2.3),
    "learned bias": random_problem(3, r0=2.3, learns_bias=True),
    "weighted unknown": random_problem(4, w0=0.45, r0=1.7),
    "weighted unknown, learned bias": random_problem(5, w0=0.45, r0=1.7, learns_bias=True),
    "weights below w0": random_problem(6, w0=2.9, weighted=True),
    "weights of 0": random_problem(7, weighted=True),
    "priors": random_problem(8, w0=0.45, learns_bias=True, means="rows", weighted=True),
    "groups": random_problem(15, w0=0.45, r0=1.7, learns_bias=True, n_features=(3, 2)),
    "groups, fixed bias": random_problem(16, r0=2.3, weighted=True, n_features=(1, 4)),
    "a shared prior": random_problem(9, means="shared"),
    "1 x 1": random_problem(10, 1, 1, 1, density=1.0, w0=0.45, learns_bias=True),
    "one factor": random_problem(11, k=1, w0=1.3),
    "more factors than users": random_problem(12, 3, 4, 9, learns_bias=True),
    "no rating": random_problem(13, density=0.0, w0=0.45, r0=1.7, learns_bias=True),
    "every cell rated": random_problem(14, 1, 5, 2, density=1.0, w0=0.45),
}


@pytest.fixture(params=CASES)
def case(request) -> tuple[Dense, Factors]:
    """Each of the cases: the dense problem, and a point."""
    return CASES[request.param]


@pytest.fixture(scope="module")
def pool():
    with Pool(1) as pool:
        yield pool


def assert_close(got: Factors, expected: Factors, tolerance: float = 1e-10) -> None:
    """All four blocks agree, relative to the largest number of each."""
    for name in BLOCKS:
        left, right = getattr(got, name), getattr(expected, name)
        assert left.shape == right.shape, name
        np.testing.assert_allclose(left, right, rtol=0, err_msg=name,
                                   atol=tolerance * max(1.0, np.abs(right).max(initial=0)))


# ------------------------------------------------------------------------------- value

@given(naive.problems())
def test_the_value_equals_the_dense_formula_term_by_term(drawn):
    dense, at = drawn
    loss = problem(dense).value(at, Pool(1))
    expected = dense.parts(at)
    # Unknown is a difference of two sums: its error is relative to them, not to itself.
    scale = max(1.0, *expected, dense.w0 * np.sum(naive.scores(at) ** 2))
    np.testing.assert_allclose(loss, expected, rtol=0, atol=1e-12 * scale)
    assert loss.total == pytest.approx(sum(expected), abs=1e-12 * scale)


def test_the_value_of_each_case_is_the_dense_formula(case, pool):
    dense, at = case
    loss = problem(dense).value(at, pool)
    np.testing.assert_allclose(loss, dense.parts(at), rtol=1e-11, atol=1e-11)


@pytest.mark.kernel
def test_the_value_of_one_rating_is_what_a_pencil_gives(pool):
    # r = 5, w = 2, r0 = 1, w0 = 0.5; p q = 3, β = 0.25, γ = 0.5: s = 3.75 against t = 4;
    # beside it an unknown cell with s = 0 + 0.25 + 2 against 0.
    dense = Dense(np.array([[5.0, 0.0]]), np.full((1, 2), 2.0), np.array([[True, False]]), 0.5,
                  1.0, True, naive.Side(np.array([0.3]), np.array([0.7]), np.array([[1.0]]), 0.75),
                  naive.Side(np.array([0.2, 0.4]), np.array([0.6, 0.9]), np.zeros((1, 1))))
    at = Factors(np.array([[2.0]]), np.array([[1.5], [0.0]]), np.array([0.25]),
                 np.array([0.5, 2.0]))
    loss = problem(dense).value(at, pool)
    assert loss.known == pytest.approx(2 * 0.25 ** 2, abs=1e-12)
    assert loss.unknown == pytest.approx(0.5 * 2.25 ** 2, abs=1e-12)
    assert loss.penalty == pytest.approx(0.3 * 1 + 0.7 * 0.25 + 0.2 * 2.25 + 0.6 * 0.25
                                         + 0.9 * 4, abs=1e-12)


def test_a_loss_is_the_sum_of_its_parts():
    assert Loss(1.25, 0.5, 3.0).total == 4.75


def test_the_cells_hold_the_formulas_a_and_b(case):
    dense, _ = case
    objective = problem(dense)
    for side, turned in ((objective.by_user, dense), (objective.by_item, dense.transposed)):
        rows, columns = np.nonzero(turned.stored)
        np.testing.assert_array_equal(side.indices, columns)
        np.testing.assert_allclose(side.a, (turned.w - turned.w0)[rows, columns])
        np.testing.assert_allclose(side.b, (turned.w * turned.T)[rows, columns])


@pytest.mark.parametrize("types", [
    {"index": np.int64, "layout": "read-only"},
    {"data": np.float32, "layout": "read-only"},
    {"layout": "strided"},
], ids=["int64 indices, read-only", "float32 ratings, read-only", "non-contiguous"])
def test_the_value_does_not_depend_on_how_arrays_are_stored(types, pool):
    dense, at = CASES["priors"]
    dense = replace(dense, w=np.round(dense.w * 4) / 4)         # exact in float32
    given = as_type(at, np.float64, types["layout"])
    np.testing.assert_allclose(problem(dense, **types).value(given, pool), dense.parts(at),
                               rtol=1e-12)


def test_float32_factors_cost_no_more_than_their_rounding(case, pool):
    dense, at = case
    dense = replace(dense, w=np.round(dense.w * 4) / 4)
    loss = problem(dense, real=np.float32).value(as_type(at, np.float32), pool)
    expected = dense.parts(at)
    scale = max(1.0, *expected, dense.w0 * np.sum(naive.scores(at) ** 2))
    np.testing.assert_allclose(loss, expected, rtol=0, atol=3e-6 * scale)
    assert isinstance(loss.total, float)


def test_the_sum_over_all_cells_needs_no_dense_matrix_and_no_single_chunk(case, monkeypatch):
    dense, at = case
    monkeypatch.setattr(parallel, "GRAM_ROWS", 2)
    monkeypatch.setattr(parallel, "CHUNK_CELLS", 3)
    with Pool(2) as pool:
        objective = problem(dense)
        assert objective.whole_square(at, pool) == pytest.approx(np.sum(naive.scores(at) ** 2))
        np.testing.assert_allclose(objective.value(at, pool), dense.parts(at), atol=1e-10)


def test_a_float32_gram_can_be_asked_for_in_float64():
    random = np.random.default_rng(0)
    X, bias = (1e4 + random.normal(size=n).astype(np.float32) for n in ((500, 3), 500))
    rows = np.column_stack([X, np.ones(500), bias]).astype(np.float64)
    with Pool(1) as pool:
        np.testing.assert_allclose(augmented_gram(X, bias, pool, np.float64), rows.T @ rows,
                                   rtol=1e-13)


# ---------------------------------------------------------------------------- penalties

def test_count_scaling_multiplies_by_the_ratings_of_a_row_and_at_least_by_one():
    weights = penalty_weights(np.array([0.0, 1.0, 4.0]), 0.3, "count", 2.0, 50)
    np.testing.assert_allclose(weights, [0.3, 0.3, 1.2], rtol=1e-15)


def test_no_scaling_gives_all_rows_the_same_penalty():
    weights = penalty_weights(np.array([0.0, 1.0, 4.0]), 0.3, "none", 2.0, 50)
    np.testing.assert_array_equal(weights, [0.3, 0.3, 0.3])
    assert weights.dtype == np.float64


def test_a_power_counts_unknown_cells_by_their_weight():
    weights = penalty_weights(np.array([0.0, 1.0, 4.0]), 0.3, 0.5, 0.2, 60)
    np.testing.assert_allclose(weights, [0.3 * n ** 0.5 for n in (12, 13, 16)], rtol=1e-15)


def test_a_power_without_unknown_cells_counts_no_row_below_one():
    weights = penalty_weights(np.array([0.0, 1.0, 4.0]), 0.3, 2, 0.0, 60)
    np.testing.assert_allclose(weights, [0.3, 0.3, 4.8], rtol=1e-15)


# ----------------------------------------------------------------------------- gradient

def checked(dense, at, wrong=None):
    """Run gradcheck on the free blocks; one gradient a thousandth too long if asked."""
    objective = problem(dense)
    free = free_blocks(dense, at)

    def value_and_gradient(blocks):
        here = replace(at, **blocks)
        gradient = vars(objective.gradient(here, Pool(1)))
        return objective.value(here, Pool(1)).total, \
            {name: gradient[name] * (1.001 if name == wrong else 1) for name in free}

    return gradcheck(value_and_gradient, {name: getattr(at, name) for name in free})


def free_blocks(dense: Dense, at: Factors) -> list[str]:
    """The blocks that are free and not empty."""
    return [name for name in (BLOCKS if dense.learns_bias else "PQGH") if getattr(at, name).size]


def test_the_remainder_of_the_gradient_falls_with_slope_two_in_every_block(case):
    result = checked(*case)
    assert set(result.slopes) == set(free_blocks(*case))
    for name, slope in result.slopes.items():
        assert slope == pytest.approx(2, abs=0.01), name


@pytest.mark.parametrize("wrong", BLOCKS)
def test_a_gradient_wrong_by_a_thousandth_in_one_block_is_refused(wrong):
    with pytest.raises(GradientError, match=f"gradient of block '{wrong}' is wrong"):
        checked(*CASES["groups"], wrong=wrong)


@given(naive.problems())
def test_the_gradient_equals_that_of_the_dense_formula(drawn):
    dense, at = drawn
    assert_close(problem(dense).gradient(at, Pool(1)), dense.gradient(at), 1e-11)


def test_a_fixed_bias_has_no_gradient(pool):
    dense, at = CASES["fixed bias"]
    gradient = problem(dense).gradient(at, pool)
    assert not gradient.beta.any()
    assert not gradient.gamma.any()
    assert gradient.P.any()


# ------------------------------------------------------------------- equal problems

@given(naive.problems(w0=(0.45, 1.3, 2.9)), strategies.seeds)
def test_storing_a_cell_with_the_unknown_weight_and_rating_changes_nothing(drawn, seed):
    dense, at = drawn
    more = ~dense.stored & (np.random.default_rng(seed).random(dense.R.shape) < 0.5)
    padded = replace(dense, stored=dense.stored | more, w=np.where(more, dense.w0, dense.w),
                     R=np.where(more, dense.r0, dense.R))
    assert_same_problem(problem(padded), problem(dense), at)


@given(naive.problems(w0=(0.0,)), strategies.seeds)
def test_without_unknown_weight_a_weight_of_zero_is_an_absent_cell(drawn, seed):
    dense, at = drawn
    masked = dense.stored & (np.random.default_rng(seed).random(dense.R.shape) < 0.5)
    weightless = replace(dense, w=np.where(masked, 0.0, dense.w))
    absent = replace(dense, stored=dense.stored & ~masked)
    assert_same_problem(problem(weightless), problem(absent), at)


@given(naive.problems(w0=(0.0,)))
def test_without_unknown_weight_a_weight_of_two_is_a_repeated_cell(drawn):
    dense, at = drawn
    single = problem(dense)
    doubled = problem(replace(dense, w=2 * dense.w))
    repeated = replace(single, by_user=_repeated(single.by_user),
                       by_item=_repeated(single.by_item), constant=2 * single.constant)
    assert_same_problem(repeated, doubled, at)


def _repeated(cells: Cells) -> Cells:
    """Every stored cell twice."""
    return Cells(2 * cells.indptr, *(np.repeat(X, 2) for X in cells[1:4]), cells.line)


def assert_same_problem(left: Quadratic, right: Quadratic, at: Factors) -> None:
    """Two objectives have the same value and gradient at a point."""
    value = right.value(at, Pool(1)).total
    scale = max(1.0, right.constant + right.w0 * np.sum(naive.scores(at) ** 2))
    assert left.value(at, Pool(1)).total == pytest.approx(value, abs=1e-11 * scale)
    assert_close(left.gradient(at, Pool(1)), right.gradient(at, Pool(1)))


@given(naive.problems())
def test_transposing_the_ratings_swaps_users_and_items(drawn):
    dense, at = drawn
    turned = problem(dense.transposed)
    there = naive.transposed_factors(at)
    np.testing.assert_allclose(turned.value(there, Pool(1)), problem(dense).value(at, Pool(1)),
                               rtol=1e-9, atol=1e-9)
    assert_close(naive.transposed_factors(turned.gradient(there, Pool(1))),
                 problem(dense).gradient(at, Pool(1)))


@given(naive.problems(), strategies.seeds)
def test_permuting_users_and_items_permutes_the_gradient_and_keeps_the_value(drawn, seed):
    dense, at = drawn
    random = np.random.default_rng(seed)
    rows, columns = (random.permutation(n) for n in dense.R.shape)

    def moved(point):
        return Factors(point.P[rows], point.Q[columns], point.beta[rows], point.gamma[columns])

    there = problem(dense.permuted(rows, columns))
    np.testing.assert_allclose(there.value(moved(at), Pool(1)),
                               problem(dense).value(at, Pool(1)), rtol=1e-9, atol=1e-9)
    assert_close(there.gradient(moved(at), Pool(1)), moved(problem(dense).gradient(at, Pool(1))))


@given(naive.problems(), strategies.seeds)
def test_rotating_users_and_items_together_leaves_the_data_terms(drawn, seed):
    dense, at = drawn
    k = at.P.shape[1]
    V = np.linalg.qr(np.random.default_rng(seed).normal(size=(k, k)))[0]
    turned = replace(at, P=at.P @ V, Q=at.Q @ V)
    before, after = (problem(dense).value(each, Pool(1)) for each in (at, turned))
    scale = max(1.0, *before)
    np.testing.assert_allclose(after[:2], before[:2], rtol=0, atol=1e-11 * scale)
    sides = [replace(side, means=side.means @ V) for side in (dense.users, dense.items)]
    priors_too = replace(dense, users=sides[0], items=sides[1])
    assert problem(priors_too).value(turned, Pool(1)).total == \
        pytest.approx(before.total, abs=1e-11 * scale)


def test_a_copy_shares_no_memory():
    at = CASES["minimal"][1]
    copy = at.copy()
    for name in BLOCKS:
        np.testing.assert_array_equal(getattr(copy, name), getattr(at, name))
        assert not np.shares_memory(getattr(copy, name), getattr(at, name))


# ------------------------------------------------------------------------------- scores

def test_the_scores_of_stored_cells_are_entries_of_the_dense_product(case, pool):
    dense, at = case
    cells = problem(dense).by_user
    s = factors.cell_scores(cells.indptr, cells.indices, at.P, at.Q, at.beta, at.gamma, pool)
    np.testing.assert_allclose(s, naive.scores(at)[dense.stored], rtol=1e-13, atol=1e-13)


def test_the_score_of_an_unknown_user_or_item_leaves_out_its_side(pool, monkeypatch):
    monkeypatch.setattr(factors, "PAIRS", 2)
    _, at = CASES["learned bias"]
    rows, columns = np.array([0, 2, -1, 1, -1]), np.array([1, -1, 0, 3, -1])
    S = naive.scores(at)
    expected = [S[0, 1], at.beta[2], at.gamma[0], S[1, 3], 0.0]
    got = factors.pair_scores(rows, columns, at.P, at.Q, at.beta, at.gamma, pool)
    np.testing.assert_allclose(got, expected, rtol=1e-13)


@pytest.mark.parametrize("biased", [True, False])
def test_a_block_of_scores_is_a_block_of_the_dense_product(biased):
    _, at = CASES["learned bias"]
    if biased:
        scorer = factors.LinearScorer(at.P, at.Q, at.beta, at.gamma)
        expected = naive.scores(at)
    else:
        scorer, expected = factors.LinearScorer(at.P, at.Q), at.P @ at.Q.T
    assert (scorer.n_rows, scorer.n_items) == expected.shape
    np.testing.assert_allclose(scorer.block(2, 5), expected[2:5], rtol=1e-13)
    assert scorer.block(0, 3).flags.writeable


def test_rows_divided_by_their_length_have_length_one_and_zero_rows_stay():
    X = np.array([[3.0, 4.0], [0.0, 0.0], [0.0, -2.0]], np.float32)
    unit = factors.unit_rows(X)
    np.testing.assert_allclose(unit, [[0.6, 0.8], [0, 0], [0, -1]], rtol=1e-6)
    assert unit.dtype == np.float32


# ------------------------------------------------------------------------------- biases

@given(strategies.ratings(named=False), st.sampled_from([0.5, 0.3]))
def test_mean_biases_are_weighted_means_less_the_mean_row_by_row(ratings, share):
    rows, columns = ratings.users_of_cells, ratings.by_user.indices
    values = ratings.by_user.data.astype(np.float64)
    users, items = biases.mean_biases(ratings, 1.7, share)
    for got, place, n in ((users, rows, ratings.shape[0]), (items, columns, ratings.shape[1])):
        expected = naive.row_bias(place, values, ratings.weights, n, 1.7, share)
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
        assert got.dtype == np.float64


def test_a_row_without_rating_or_weight_has_no_bias():
    matrix = sp.csr_array((np.array([4.0, 5.0, 1.0]), ([0, 0, 2], [0, 1, 1])), shape=(3, 2))
    ratings = Ratings(matrix, weights=np.array([1.0, 3.0, 0.0]))
    np.testing.assert_allclose(biases.row_bias(ratings, 3.0, 0.5), [0.5 * 1.75, 0, 0])
