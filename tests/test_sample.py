"""A start from a sample of the users: it is their objective, and it is a start."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from naive import problem, random_problem
from numba import typeof

from mfcore import ImplicitMF, MatrixFactorization, Ratings
from mfcore.data.synthetic import planted
from mfcore.models.sides import Sides
from mfcore.parallel import Pool
from mfcore.solvers import sample
from mfcore.solvers.als import ALS, start_on_sample
from mfcore.solvers.sample import of_users, point_of_users, sample_of, take_over

CASES = {
    "plain": random_problem(1, 20, 9),
    "learned bias, weighted unknown": random_problem(2, 20, 9, learns_bias=True, w0=0.4),
    "weights and means of rows": random_problem(5, 20, 9, weighted=True, means="rows"),
    "groups on both sides": random_problem(3, 20, 9, n_features=(2, 3), learns_bias=True),
}
ROWS = np.array([1, 4, 5, 11, 18])


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture
def pool():
    with Pool(1) as pool:
        yield pool


@pytest.fixture
def sampled(monkeypatch):
    """Small data are sampled too."""
    monkeypatch.setattr(sample, "LEAST_CELLS", 100)


@pytest.fixture(scope="module")
def ratings():
    return planted(4000, 500, density=0.2, random_state=0).ratings


def lighter(side, share):
    return replace(side, reg=share * side.reg, bias_reg=share * side.bias_reg,
                   feature_reg=share * side.feature_reg,
                   feature_bias_reg=share * side.feature_bias_reg)


def test_the_problem_of_some_users_is_theirs_with_items_pulled_by_their_share(case, pool):
    dense, at = case
    share = dense.stored[ROWS].sum() / dense.stored.sum()
    part = replace(dense, R=dense.R[ROWS], w=dense.w[ROWS], stored=dense.stored[ROWS],
                   users=replace(dense.users.take(ROWS),
                                 feature_reg=share * dense.users.feature_reg,
                                 feature_bias_reg=share * dense.users.feature_bias_reg),
                   items=lighter(dense.items, share))
    here = replace(at, P=at.P[ROWS], beta=at.beta[ROWS])
    found = of_users(problem(dense), ROWS)
    constant = np.sum((part.w * part.T ** 2)[part.stored])
    assert found.value(here, pool).total + constant == pytest.approx(part.value(here))
    for name, block in vars(part.gradient(here)).items():
        np.testing.assert_allclose(getattr(found.gradient(here, pool), name), block, atol=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
def test_no_kernel_is_compiled_for_the_arrays_of_a_sample(weighted):
    R = planted(60, 40, density=0.5, random_state=0).ratings
    R = Ratings(R.by_user, weights=np.full(R.nnz, 0.5)) if weighted else R
    model = MatrixFactorization(2, n_epochs=1).fit(R)
    whole = model.answers().core.problem(R, Sides(model.users_, model.items_))
    part = of_users(whole, ROWS)
    for one, other in ((whole.by_user, part.by_user), (whole.by_item, part.by_item),
                       *((vars(getattr(whole, side).penalty).values(),
                          vars(getattr(part, side).penalty).values())
                         for side in ("users", "items"))):
        assert [typeof(each) for each in one] == [typeof(each) for each in other]


def test_a_point_of_some_users_is_a_copy_with_items_of_nothing(case):
    _, at = case
    before = at.copy()
    found = point_of_users(at, ROWS)
    np.testing.assert_array_equal(found.P, at.P[ROWS])
    np.testing.assert_array_equal(found.gamma, at.gamma)
    assert not found.Q.any()
    for block in vars(found).values():
        block[...] = 7.0
    for name, block in vars(at).items():
        np.testing.assert_array_equal(block, getattr(before, name))


def test_users_start_where_they_are_pulled(case):
    dense, at = case
    here, found = at.copy(), point_of_users(at, ROWS)
    found.Q[:] = at.Q[::-1]
    take_over(here, found, problem(dense))
    np.testing.assert_array_equal(here.Q, found.Q)
    users = dense.users.at(here.G, here.g)
    np.testing.assert_allclose(here.P, np.broadcast_to(users.means, here.P.shape))
    if dense.learns_bias:
        np.testing.assert_allclose(here.beta, np.broadcast_to(users.bias_mean, here.beta.shape))
    else:
        np.testing.assert_array_equal(here.beta, at.beta)


@pytest.mark.parametrize("rest", [0.0, 1e-6])
def test_items_of_which_the_sample_says_nothing_keep_their_start(case, rest):
    dense, at = case
    here, found = at.copy(), point_of_users(at, ROWS)
    found.Q[:7] = at.Q[:7] + 1
    found.Q[7:] = rest * at.Q[7:]
    take_over(here, found, problem(dense))
    np.testing.assert_array_equal(here.Q[:7], found.Q[:7])
    np.testing.assert_array_equal(here.Q[7:], at.Q[7:])


@pytest.mark.parametrize("blank", ["weight 0", "rating 0"])
def test_a_sample_without_a_signal_does_not_hold_items_at_zero(sampled, blank):
    """Half of the items are rated in earnest only by users outside the sample, and only they."""
    drawn = sample_of(counted(np.full(400, 30)), 2)
    rest = np.setdiff1d(np.arange(400), drawn)[:100]
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 2)) @ rng.normal(size=(2, 60))
    X[rest, :30] = 0
    others = np.setdiff1d(np.arange(400), rest)
    X[others, 30:] = 0
    R = sp.lil_array(X)
    R[drawn, 30:] = 7.0
    R = sp.csr_array(R)
    silent = sp.csr_array(R)
    silent.data = np.where(R.data == 7.0, 0.0, 1.0)
    if blank == "rating 0":
        R.data[R.data == 7.0] = 0.0
    model = MatrixFactorization(n_factors=2, bias=None, reg=0.01, random_state=0)
    model.fit(Ratings(R, weights=silent if blank == "weight 0" else None))
    missed = (X - model.user_factors_ @ model.item_factors_.T)[rest, 30:]
    assert np.abs(missed).mean() < 0.1 * np.abs(X[rest, 30:]).mean()


# ------------------------------------------------------------------------- who is drawn

def counted(counts):
    """A problem whose users have so many cells."""
    cells = problem(CASES["plain"][0])
    indptr = np.concatenate([[0], np.cumsum(counts)])
    return replace(cells, by_user=cells.by_user._replace(indptr=indptr))


def test_a_tenth_of_the_users_is_drawn_ascending_and_always_the_same():
    rows = sample_of(counted(np.full(50_000, 40)), 3)
    assert len(rows) == 5_000
    assert (np.diff(rows) > 0).all()
    assert rows.max() > 45_000
    np.testing.assert_array_equal(rows, sample_of(counted(np.full(50_000, 40)), 3))


def test_few_ratings_need_a_larger_share_and_too_few_have_no_sample():
    assert len(sample_of(counted(np.full(10_000, 50)), 3)) == 2_000
    assert sample_of(counted(np.full(10_000, 39)), 3) is None
    assert sample_of(counted(np.zeros(10, int)), 3) is None


def test_fewer_users_than_could_span_the_factors_are_no_sample():
    whole = counted(np.full(1_000, 1_000))
    assert len(sample_of(whole, 25)) == 100
    assert sample_of(whole, 26) is None


def test_more_than_enough_ratings_need_a_smaller_share():
    rows = sample_of(counted(np.full(100_000, 400)), 3)
    assert 400 * len(rows) == sample.MOST_CELLS


def test_a_sample_without_those_who_have_the_ratings_is_none():
    counts = np.ones(20_000, int)
    drawn = sample_of(counted(np.full(20_000, 100)), 3)
    missed = np.setdiff1d(np.arange(20_000), drawn)[0]
    counts[missed] = 10**6
    assert sample_of(counted(counts), 3) is None
    for each, enough in ((24, False), (26, True)):          # (of 2000 users; 50,000 cells do)
        counts[:] = each
        counts[missed] = 10**6
        assert (sample_of(counted(counts), 3) is not None) == enough


# ------------------------------------------------------------------------ what it is worth

@pytest.mark.parametrize("solver", ["cg", "cholesky", "subspace"])
@pytest.mark.parametrize("kind", [ImplicitMF, MatrixFactorization])
def test_an_epoch_goes_further_and_one_by_gradients_further_than_two(solver, kind, ratings,
                                                                      monkeypatch):
    def losses(n_epochs):
        model = kind(16, solver=solver, n_epochs=n_epochs, random_state=0, n_threads=1)
        return model.fit(ratings).objective()["total"]

    with_sample = losses(1)
    monkeypatch.setattr(sample, "MOST_SHARE", 0.0)
    assert with_sample < losses(1)
    if solver == "cg":
        assert with_sample < losses(2)


@pytest.mark.parametrize("solver", ["cg", "cholesky", "subspace"])
def test_groups_that_the_sample_has_not_seen_are_not_lost(solver, ratings):
    apart = sp.block_diag([ratings.by_user, *[np.full((3, 4), 4.0)] * 30], format="csr")
    apart.data[-360:] = np.random.default_rng(0).integers(1, 11, 360) / 2
    model = MatrixFactorization(8, solver=solver, n_epochs=8, reg=0.3, random_state=0,
                                n_threads=1).fit(Ratings(sp.csr_array(apart)))
    lengths = np.linalg.norm(model.user_factors_[-90:], axis=1).reshape(30, 3).max(axis=1)
    assert (lengths > 1e-3).mean() > 0.9


@pytest.mark.parametrize("k", [8, 64])
def test_few_users_still_span_as_many_directions_as_there_are_factors(k):
    R = planted(200, 4000, density=0.7, random_state=0).ratings
    model = ImplicitMF(k, reg=5.0, n_epochs=4, random_state=0, n_threads=1).fit(R)
    sizes = np.linalg.svd(model.user_factors_, compute_uv=False)
    assert sizes[-1] > 1e-3 * sizes[0]


def test_the_minimum_is_where_it_was(ratings, monkeypatch):
    def fitted():
        return ImplicitMF(4, n_epochs=60, solver="cholesky", reg=5.0, random_state=0,
                          n_threads=1).fit(ratings).objective()["total"]

    with_sample = fitted()
    monkeypatch.setattr(sample, "MOST_SHARE", 0.0)
    assert with_sample == pytest.approx(fitted(), rel=1e-3)


def test_threads_do_not_change_bits(ratings):
    one, two = (ImplicitMF(8, n_epochs=1, random_state=0, n_threads=n).fit(ratings)
                for n in (1, 2))
    np.testing.assert_array_equal(one.user_factors_, two.user_factors_)


def test_items_in_another_order_give_the_same_model_in_that_order(ratings):
    order = np.random.default_rng(1).permutation(ratings.shape[1])
    turned = sp.csr_array(ratings.by_user[:, order])
    one, other = (ImplicitMF(4, n_epochs=2, dtype="float64", random_state=0, n_threads=1).fit(R)
                  for R in (ratings.by_user, turned))
    np.testing.assert_allclose(other.item_factors_, one.item_factors_[order], atol=1e-7)


@pytest.mark.usefixtures("sampled")
def test_a_start_on_a_sample_lowers_the_loss_of_all(pool):
    dense, at = random_problem(7, 300, 12, 3, density=0.9)
    whole = problem(dense)
    solver, here = ALS(whole, exact=False), at.copy()
    assert start_on_sample(whole, at.copy(), pool)
    solver.begin(here, pool)
    assert whole.value(here, pool).total < 0.5 * whole.value(at, pool).total
