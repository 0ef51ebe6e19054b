"""`MatrixFactorization` minimises the formula of its docstring, in every configuration."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import samples
import scipy.sparse as sp

from mfcore import BPR, ImplicitMF, MatrixFactorization, Ratings
from mfcore.objectives.biases import mean_biases

CASES = sorted(samples.CONFIGURATIONS)


# ------------------------------------------------------- the formula, written out densely

def penalty_weights(counts: np.ndarray, reg: float, scaling: Any, w0: float, n_others: int
                    ) -> np.ndarray:
    if scaling == "none":
        return np.full(len(counts), reg)
    if scaling == "count":
        return np.array([reg * max(n, 1) for n in counts])
    return np.array([reg * max(n + w0 * n_others, 1) ** scaling for n in counts])


def naive_biases(ratings: Ratings, share: float) -> tuple[float, np.ndarray, np.ndarray]:
    """μ, c·b_u and c·b̃_i from weighted means, cell by cell."""
    R, known = samples.dense(ratings.by_user), samples.stored(ratings.by_user)
    W = known if ratings.weights is None else samples.dense(ratings.by_user, ratings.weights)
    mean = (W * R).sum() / W.sum()

    def deviations(R: np.ndarray, W: np.ndarray) -> np.ndarray:
        return np.array([share * (w @ r / w.sum() - mean) if w.sum() else 0.0
                         for r, w in zip(R, W.astype(float), strict=True)])

    return mean, deviations(R, W), deviations(R.T, W.T)


class Naive:
    """The docstring's terms of one model on one data set, in dense float64."""

    def __init__(self, model: MatrixFactorization, ratings: Ratings,
                 unit: float | None = None) -> None:
        self.model = model
        self.R, self.known = samples.dense(ratings.by_user), samples.stored(ratings.by_user)
        self.W = self.known.astype(float) if ratings.weights is None else \
            samples.dense(ratings.by_user, ratings.weights)
        self.mean, *self.fixed = naive_biases(ratings, model.bias_share)
        self.unit = unit or np.sqrt((self.W * (self.R - self.mean) ** 2).sum() / self.W.sum())
        self.w0 = model.unknown_weight
        if self.w0 == "balanced":
            self.w0 = self.W[self.known].sum() / np.count_nonzero(~self.known)
        rated = self.known & (self.W > 0)
        sides = list(zip((rated.sum(1), rated.sum(0)), self.R.shape[::-1], strict=True))
        bias_reg = model.reg if model.bias_reg is None else model.bias_reg
        bias_scaling = model.bias_reg_scaling or model.reg_scaling
        self.reg, self.bias_reg = (
            [penalty_weights(n, reg, scaling, self.w0, others) for n, others in sides]
            for reg, scaling in ((self.unit * model.reg, model.reg_scaling),
                                 (bias_reg, bias_scaling)))

    def point(self) -> dict[str, np.ndarray]:
        """Where the model is: P, Q and, where they are learned, b and b̃."""
        model = self.model
        at = {"P": model.user_factors_, "Q": model.item_factors_}
        if model.bias == "learned":
            at.update(b=model.user_bias_, c=model.item_bias_)
        return {name: value.astype(np.float64) for name, value in at.items()}

    def terms(self, P: np.ndarray, Q: np.ndarray, b: np.ndarray | None = None,
              c: np.ndarray | None = None) -> dict[str, float]:
        model, B, assumed = self.model, self.B(b, c), self.assumed(b, c)
        S = B + P @ Q.T
        known = (self.W * (self.R - S) ** 2)[self.known].sum()
        unknown = self.w0 * ((assumed - S) ** 2)[~self.known].sum()
        penalty = self.reg[0] @ (P ** 2).sum(1) + self.reg[1] @ (Q ** 2).sum(1)
        if model.bias == "learned":
            penalty += self.bias_reg[0] @ b ** 2 + self.bias_reg[1] @ c ** 2
        return {"total": known + unknown + penalty, "known": known, "unknown": unknown,
                "penalty": penalty}

    def B(self, b: Any, c: Any) -> np.ndarray:
        if self.model.bias is None:
            return np.zeros(self.R.shape)
        user, item = (b, c) if self.model.bias == "learned" else self.fixed
        return self.mean + user[:, None] + item

    def assumed(self, b: Any, c: Any) -> np.ndarray:
        r0 = self.model.unknown_value
        return self.B(b, c) if r0 == "bias" else np.full(self.R.shape, r0)

    def slope_by(self, name: str) -> np.ndarray:
        at = self.point()
        return samples.slope(lambda x: self.terms(**{**at, name: x})["total"], at[name])


UNKNOWN = [(0.0, 0.0), (0.3, 0.0), (0.3, 1.7), (1.6, -0.4), ("balanced", 2.2), (0.3, "bias"),
           ("balanced", "bias")]
COMBINATIONS = [(bias, w0, r0) for bias in (None, "mean", "learned") for w0, r0 in UNKNOWN
                if r0 != "bias" or bias == "mean"]


@pytest.mark.kernel
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("scaling", ["count", "none", 0.6])
@pytest.mark.parametrize(("bias", "w0", "r0"), COMBINATIONS)
def test_the_objective_is_the_formula_of_the_docstring(bias, w0, r0, scaling, weighted):
    cells = samples.matrix(7, 6)
    ratings = Ratings(cells, weights=samples.weights(cells) if weighted else None)
    model = MatrixFactorization(2, bias=bias, bias_share=0.7, unknown_weight=w0,
                                unknown_value=r0, reg=0.4, bias_reg=0.9, reg_scaling=scaling,
                                n_epochs=2, init_scale=1.0, solver="cholesky",
                                dtype="float64", random_state=0, n_threads=1).fit(ratings)
    naive = Naive(model, ratings)
    assert model.objective(ratings) == pytest.approx(naive.terms(**naive.point()), rel=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_the_objective_is_the_formula_in_single_precision_too(name):
    model = samples.fitted(name)
    naive = Naive(model, model.ratings_)
    assert model.user_factors_.dtype == model.item_factors_.dtype == np.float32
    assert model.objective() == pytest.approx(naive.terms(**naive.point()), rel=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_a_converged_fit_is_a_stationary_point_of_the_formula(name):
    cells = samples.matrix()
    ratings = Ratings(cells, weights=samples.weights(cells))
    model = samples.fitted(name, ratings, solver="cholesky", n_epochs=4000, tol=1e-15,
                           dtype="float64")
    naive = Naive(model, ratings)
    assert np.abs(model.user_factors_).max() > 0.1          # else 0 would be stationary
    for block in naive.point():
        np.testing.assert_allclose(naive.slope_by(block), 0, atol=2e-5)


@pytest.mark.parametrize("name", CASES)
def test_conjugate_gradient_converges_to_a_stationary_point_too(name):
    model = samples.fitted(name, solver="cg", n_epochs=4000, tol=1e-15, dtype="float64")
    naive = Naive(model, model.ratings_)
    for block in naive.point():
        np.testing.assert_allclose(naive.slope_by(block), 0, atol=2e-5)


@pytest.mark.parametrize("solver", ["cg", "cholesky"])
@pytest.mark.parametrize("name", CASES)
def test_the_loss_falls_in_every_epoch(name, solver):
    model = samples.fitted(name, solver=solver, n_epochs=12, dtype="float64")
    losses = [record["loss"] for record in model.history_]
    assert (np.diff(losses) < 0).all()


@pytest.mark.parametrize("name", CASES)
def test_the_loss_of_an_epoch_is_the_objective_as_the_users_begin_to_move(name):
    values = []
    model = samples.model(name, solver="cholesky", n_epochs=8, dtype="float64")
    model.fit(samples.matrix(), callbacks=[lambda m, _: values.append(m.objective()["total"])])
    losses = [record["loss"] for record in model.history_]
    for before, loss, after in zip(values, losses[1:], values[1:], strict=False):
        assert before > loss > after
    long = samples.fitted(name, solver="cholesky", n_epochs=4000, tol=1e-13, dtype="float64")
    assert long.history_[-1]["loss"] == pytest.approx(long.objective()["total"], rel=1e-9)


def test_the_objective_of_other_ratings_takes_the_biases_of_the_model():
    model = samples.fitted("bias as unknown", dtype="float64")
    other = samples.matrix(seed=7)
    fit = Naive(model, model.ratings_)
    naive = Naive(model, Ratings(other), fit.unit)
    naive.mean, naive.fixed = fit.mean, fit.fixed
    assert model.objective(other) == pytest.approx(naive.terms(**naive.point()), rel=1e-9)


def test_the_objective_refuses_ratings_of_another_shape():
    with pytest.raises(ValueError, match=r"11 rows, the users of the fit, got \(5, 8\)"):
        samples.fitted("mean").objective(samples.matrix(5, 8))


# ------------------------------------------------------------------ biases and weights

@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
def test_fixed_biases_are_shares_of_the_deviations_of_weighted_means(share, weighted):
    cells = samples.matrix()
    ratings = Ratings(cells, weights=samples.weights(cells) if weighted else None)
    model = samples.fitted("mean", ratings, bias_share=share)
    mean, user, item = naive_biases(ratings, share)
    assert model.global_mean_ == pytest.approx(mean)
    np.testing.assert_allclose(model.user_bias_, user, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.item_bias_, item, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mean_biases(ratings, mean, share)[0], user, atol=1e-12)


@pytest.mark.parametrize(("bias", "present"), [("mean", True), ("learned", True), (None, False)])
def test_biases_are_there_where_the_model_has_them(bias, present):
    model = MatrixFactorization(2, bias=bias, n_epochs=1).fit(samples.matrix())
    assert (model.user_bias_ is not None) == (model.item_bias_ is not None) == present
    assert (model.global_mean_ != 0) == present


@pytest.mark.parametrize("name", ["plain", "mean", "learned"])
def test_a_cell_of_weight_zero_is_as_good_as_absent(name):
    cells = samples.matrix()
    weights = samples.weights(cells)
    weights[::4] = 0.0
    kept = weights > 0
    ratings = Ratings(cells, weights=weights)
    model = samples.fitted(name, ratings, reg_scaling="count")
    apart = samples.fitted(name, ratings.select_cells(kept), reg_scaling="count")
    np.testing.assert_allclose(model.user_factors_, apart.user_factors_, atol=1e-5)
    np.testing.assert_allclose(model.item_factors_, apart.item_factors_, atol=1e-5)


def test_a_stored_zero_is_a_rating_of_zero():
    cells = samples.matrix()
    without = Ratings(cells).select_cells(cells.data != 0)
    assert without.nnz == cells.nnz - 1
    kept, dropped = samples.fitted("plain", cells), samples.fitted("plain", without)
    assert kept.predict(0, 1)[0] < dropped.predict(0, 1)[0] - 0.1


def test_balanced_shares_the_total_weight_evenly_between_known_and_unknown():
    cells = samples.matrix()
    weights = samples.weights(cells)
    model = samples.fitted("balanced", Ratings(cells, weights=weights))
    unknown = cells.shape[0] * cells.shape[1] - cells.nnz
    assert model.unknown_weight_ * unknown == pytest.approx(weights.sum())


def test_unknown_cells_pull_the_scores_towards_the_value_assumed_for_them():
    cells = samples.matrix()
    free = ~samples.stored(cells)
    gaps = [np.abs(scores(samples.fitted("plain, unknown", unknown_weight=w0, reg=0.01,
                                         n_epochs=20))[free] - 1.7).mean()
            for w0 in (0.01, 1.0, 100.0)]
    assert gaps[0] > 1.2 * gaps[1] > 1.2 * 1.2 * gaps[2]


def scores(model: Any) -> np.ndarray:
    users, items = np.indices((model.n_users_, model.n_items_))
    return model.predict(users.ravel(), items.ravel()).reshape(users.shape)


# Where nothing but ratings pulls at a user's vector.
@pytest.mark.parametrize("name", ["plain", "mean", "learned", "bias as unknown"])
@pytest.mark.parametrize("solver", ["cg", "cholesky"])
def test_a_user_without_ratings_gets_its_prior(name, solver):
    model = samples.fitted(name, solver=solver)
    u = samples.SILENT_USER
    np.testing.assert_array_equal(model.user_factors_[u], 0)
    np.testing.assert_allclose(model.item_factors_[samples.SILENT_ITEM], 0, atol=1e-12)
    if model.user_bias_ is not None:
        assert model.user_bias_[u] == 0
        wanted = model.global_mean_ + model.item_bias_.astype(float)
        np.testing.assert_allclose(model.predict(u, np.arange(8)), wanted, rtol=1e-6)


# ---------------------------------------------------------------------------- fold-in

def stop_after_two(model: Any, record: dict[str, Any]) -> bool:
    return record["epoch"] == 2


def interrupt_in_two(model: Any, record: dict[str, Any]) -> None:
    if record["epoch"] == 2:
        raise KeyboardInterrupt


# How a fit may end, by what is passed to the model and to fit.
ENDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "cg": ({"solver": "cg"}, {}),
    "cholesky": ({"solver": "cholesky"}, {}),
    "one step": ({"solver": "cg", "cg_steps": 1, "n_epochs": 1}, {}),
    "tol": ({"solver": "cg", "tol": 0.5, "n_epochs": 50}, {}),
    "stopped": ({"solver": "cg"}, {"callbacks": [stop_after_two]}),
    "restored": ({"solver": "cg", "n_epochs": 40, "patience": 1},
                 {"eval_set": samples.matrix(seed=9)}),
    "restored, exact": ({"solver": "cholesky", "n_epochs": 40, "patience": 1},
                        {"eval_set": samples.matrix(seed=9)}),
    "interrupted": ({"solver": "cg"}, {"callbacks": [interrupt_in_two]}),
    "interrupted, exact": ({"solver": "cholesky"}, {"callbacks": [interrupt_in_two]}),
}


# How a fit ends is the loop's, which all models share; how a row is solved is the configuration's.
ENDED = [*[(name, end) for name in (*CASES, *samples.IMPLICIT)
           for end in ("cg", "cholesky", "restored")],
         *[(name, end) for name in ("learned", "bias as unknown", "linear") for end in ENDS
           if end not in ("cg", "cholesky", "restored")]]


@pytest.mark.kernel
@pytest.mark.parametrize(("name", "end"), ENDED)
def test_folding_a_training_row_in_gives_that_row(name, end):
    params, watched = ENDS[end]
    ratings = samples.counts() if name in samples.IMPLICIT else samples.matrix()
    ratings = Ratings(ratings, weights=samples.weights(ratings))
    model = samples.model(name, **params)
    if name in samples.IMPLICIT and "eval_set" in watched:
        watched = {"eval_set": (ratings, Ratings(samples.counts(seed=9)))}
        params = model.set_params(eval_metric="rmse")
    try:
        model.fit(ratings, **watched)
    except KeyboardInterrupt:
        assert end.startswith("interrupted")
    folded = model.fold_in_users(ratings)
    np.testing.assert_allclose(folded.factors, model.user_factors_, atol=1e-5)
    assert folded.factors.dtype == np.float32
    if model.user_bias_ is None:
        assert folded.bias is None
    else:
        np.testing.assert_allclose(folded.bias, model.user_bias_, atol=1e-5)


@pytest.mark.parametrize("name", [*CASES, *samples.IMPLICIT])
def test_folding_a_training_column_in_gives_that_item_at_convergence(name):
    model = samples.fitted(name, solver="cholesky", n_epochs=4000, tol=1e-15, dtype="float64")
    folded = model.fold_in_items(model.ratings_)
    np.testing.assert_allclose(folded.factors, model.item_factors_, atol=1e-5)
    if model.item_bias_ is not None:
        np.testing.assert_allclose(folded.bias, model.item_bias_, atol=1e-5)


def test_new_items_are_folded_in_a_column_each():
    model = samples.fitted("learned", solver="cholesky", n_epochs=4000, tol=1e-15,
                           dtype="float64")
    folded = model.fold_in_items(samples.matrix()[:, [6, 0]])
    np.testing.assert_allclose(folded.factors, model.item_factors_[[6, 0]], atol=1e-5)
    with pytest.raises(ValueError, match=r"must have 11 rows, the users of the fit"):
        model.fold_in_items(samples.matrix()[:5])


def test_folding_in_leaves_the_model_as_it_is():
    model = samples.fitted("learned")
    before = model.user_factors_.tobytes(), model.item_factors_.tobytes()
    model.fold_in_users(samples.matrix(seed=8))
    model.fold_in_items(samples.matrix(seed=8))
    model.recommend(ratings=samples.matrix(seed=8))
    assert before == (model.user_factors_.tobytes(), model.item_factors_.tobytes())


# ------------------------------------------------------------------------ partial_fit

@pytest.mark.parametrize("name", [*CASES, *samples.IMPLICIT])
def test_partial_fit_refits_the_named_users_and_appends_new_ones(name):
    fresh = samples.counts if name in samples.IMPLICIT else samples.matrix
    model, before = samples.fitted(name), samples.fitted(name)
    rows = fresh(4, 8, seed=9)
    folded = before.fold_in_users(rows)
    users = [5, 11, 2, 12]                                  # 11 and 12 are new
    assert model.partial_fit(rows, users=users, how="replace") is model
    np.testing.assert_array_equal(model.user_factors_[users], folded.factors)
    rest = np.setdiff1d(np.arange(11), users)
    np.testing.assert_array_equal(model.user_factors_[rest], before.user_factors_[rest])
    np.testing.assert_array_equal(model.item_factors_, before.item_factors_)
    if folded.bias is not None:
        np.testing.assert_array_equal(model.user_bias_[users], folded.bias)
        np.testing.assert_array_equal(model.user_bias_[rest], before.user_bias_[rest])
        np.testing.assert_array_equal(model.item_bias_, before.item_bias_)
    assert model.n_users_ == len(model.user_factors_) == 13


def test_partial_fit_replaces_what_was_known_of_a_user_if_asked():
    model = samples.fitted("mean")
    rows = samples.matrix(2, 8, seed=9)
    model.partial_fit(rows, users=[5, 11], how="replace")
    merged = samples.dense(model.ratings_.by_user)
    np.testing.assert_array_equal(merged[[5, 11]], rows.toarray())
    np.testing.assert_array_equal(merged[6], samples.matrix().toarray()[6])
    seen = set(np.flatnonzero(samples.stored(model.ratings_.by_user)[5]))
    assert not seen & set(model.recommend([5], k=8 - len(seen))[0][0].tolist())
    counted = np.bincount(model.ratings_.by_user.indices, minlength=8)
    np.testing.assert_array_equal(model.item_counts_, counted)


@pytest.mark.parametrize("name", ["plain", "mean", "learned"])
def test_predictions_after_partial_fit_are_those_of_folding_in(name):
    """Where a user had no rating before, nothing falls back on the mean any more."""
    model = samples.fitted(name)
    rows = samples.matrix(2, 8, seed=9)
    wanted = [model.predict(row, [0, 1, 5], ratings=rows) for row in (0, 1)]
    model.partial_fit(rows, users=[samples.SILENT_USER, 11], how="replace")
    np.testing.assert_allclose(model.predict(samples.SILENT_USER, [0, 1, 5]), wanted[0], rtol=1e-6)
    np.testing.assert_allclose(model.predict(11, [0, 1, 5]), wanted[1], rtol=1e-6)


def test_partial_fit_goes_by_ids():
    model = samples.fitted("learned", samples.named())
    rows = samples.matrix(2, 8, seed=9)
    new = Ratings(rows, user_ids=["new", "u4"], item_ids=samples.names(8, "i"))
    model.partial_fit(new, how="replace")
    assert model.user_ids_.tolist() == [*samples.names(11, "u"), "new"]
    np.testing.assert_array_equal(model.user_factors_[[11, 4]], model.fold_in_users(new).factors)
    assert model.predict("new", "i0") == model.predict([0], ["i0"], ratings=new)
    model.partial_fit(rows, users=["other", "new"], how="replace")
    assert model.user_ids_.tolist()[-2:] == ["new", "other"]


def test_partial_fit_without_names_takes_all_users_in_their_order():
    model = samples.fitted("mean")
    again = samples.matrix(seed=9)
    model.partial_fit(again, how="replace")
    np.testing.assert_array_equal(model.user_factors_, model.fold_in_users(again).factors)


def test_partial_fit_keeps_weights_of_old_and_new_rows():
    cells = samples.matrix()
    model = samples.fitted("mean", Ratings(cells, weights=samples.weights(cells)))
    rows = samples.matrix(1, 8, seed=9)
    model.partial_fit(rows, users=[2], how="replace")
    expected = samples.dense(cells, samples.weights(cells))
    expected[2] = samples.stored(rows)[0]
    got = samples.dense(model.ratings_.by_user, model.ratings_.weights)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize(("users", "message"), [
    ([1, 1], "must be distinct"), ([1], "same length"), ([1, 13], "follow on from 11"),
    ([-1, 2], "follow on from 11"), (None, "must name the 2 rows")])
def test_partial_fit_refuses_names_that_do_not_fit_and_changes_nothing(users, message):
    model, before = samples.fitted("learned"), samples.fitted("learned")
    with pytest.raises(ValueError, match=message):
        model.partial_fit(samples.matrix(2, 8), users=users)
    assert model.ratings_.shape == (11, 8)
    np.testing.assert_array_equal(model.user_factors_, before.user_factors_)


# ---------------------------------------------------------------------------- explain

@pytest.mark.parametrize("name", CASES)
def test_contributions_and_what_no_rating_contributes_sum_to_the_score(name):
    model = samples.fitted(name, dtype="float64")
    user, item = 2, 5
    score, items, contributions = model.explain(user, item, k=99)
    assert score == model.predict(user, item)[0]
    rated = np.flatnonzero(samples.stored(model.ratings_.by_user)[user])
    assert sorted(items) == rated.tolist()
    assert contributions.sum() + remainder(model, user, item) == pytest.approx(score, rel=1e-9)


def remainder(model: MatrixFactorization, user: int, item: int) -> float:
    """What no rating contributes to a score: biases, the prior, the cells assumed.

    The user's system A z = c without the targets of the stored cells, in dense matrices.
    """
    naive, Q = Naive(model, model.ratings_), model.item_factors_
    learned = model.bias == "learned"
    X = np.column_stack([Q, np.ones(len(Q))]) if learned else Q
    biases = (model.user_bias_, model.item_bias_) if learned else (None, None)
    assumed = naive.assumed(*biases)[user]
    frozen = model.item_bias_ + model.origin_ if learned else naive.B(*biases)[user]
    ridge, pull = np.full(3, naive.reg[0][user]), np.zeros(3)
    if learned:
        ridge = np.append(ridge, naive.bias_reg[0][user])
        pull = np.append(pull, ridge[-1] * (model.global_mean_ - model.origin_))
    weight = np.where(naive.known[user], naive.W[user], naive.w0)
    A = (X.T * weight) @ X + np.diag(ridge)
    c = naive.w0 * (assumed - frozen) @ X + pull
    return float(frozen[item] + X[item] @ np.linalg.solve(A, c))


def test_explain_names_the_largest_contributions_first():
    model = samples.fitted("learned", samples.named(), dtype="float64")
    _, items, contributions = model.explain("u2", "i5", k=99)
    assert (np.diff(np.abs(contributions)) <= 0).all()
    assert all(item.startswith("i") for item in items)
    _, few, largest = model.explain("u2", "i5", k=2)
    np.testing.assert_array_equal(few, items[:2])
    np.testing.assert_array_equal(largest, contributions[:2])


def test_a_rating_explains_what_its_absence_would_change():
    """Linear in the ratings: raising one by 1 adds its contribution's slope."""
    cells = samples.matrix()
    model = samples.fitted("plain", cells, dtype="float64")
    _, items, contributions = model.explain(0, 5, k=99)
    raised = cells[[0]].copy()
    place = int(np.flatnonzero(raised.indices == items[0])[0])
    rating = raised.data[place]
    raised.data[place] += 1
    moved = model.predict([0], [5], ratings=raised)[0] - model.predict(0, 5)[0]
    assert moved == pytest.approx(contributions[0] / rating, rel=1e-6)


def test_nothing_explains_a_user_without_ratings():
    score, items, contributions = samples.fitted("mean").explain(samples.SILENT_USER, 0)
    assert items.size == contributions.size == 0
    assert np.isfinite(score)


# --------------------------------------------------------------------- learning at all

@pytest.mark.parametrize("bias", [None, "mean", "learned"])
def test_planted_factors_are_found(planted, bias):
    ratings = planted.ratings
    held = np.random.default_rng(0).random(ratings.nnz) < 0.1
    train, test = ratings.select_cells(~held), ratings.select_cells(held)
    model = MatrixFactorization(3, bias=bias, random_state=0, n_epochs=15).fit(train)
    mean = float(np.std(test.by_user.data))
    assert -model.score(test) < 0.9 * mean


def test_the_transposed_problem_has_the_transposed_solution():
    """Both sides alike at convergence, though an epoch treats them in order."""
    cells = samples.matrix()
    options = {"solver": "cholesky", "n_epochs": 3000, "tol": 1e-14, "dtype": "float64",
               "n_factors": 8, "reg": 2.0, "reg_scaling": "none"}
    model = samples.fitted("mean", cells, **options)
    turned = samples.fitted("mean", sp.csr_array(cells.T), **options)
    np.testing.assert_allclose(scores(model), scores(turned).T, atol=1e-4)


@pytest.mark.parametrize("made", [MatrixFactorization, ImplicitMF])
def test_another_n_factors_than_the_fit_had_is_refused_where_rows_are_solved(made):
    model = samples.small(made).fit(samples.counts()).set_params(n_factors=64)
    for ask in (lambda: model.recommend(ratings=samples.counts(2, 8)),
                lambda: model.fold_in_items(samples.counts(11, 2)),
                lambda: model.partial_fit(samples.counts())):
        with pytest.raises(ValueError, match="n_factors is 64, and the model was fitted with 3"):
            ask()


# ------------------------------------------------------------------------------ copies

@pytest.mark.parametrize("change", [
    lambda model: model.partial_fit(samples.matrix()[:2], users=[0, 11]),
    lambda model: setattr(model, "item_factors_", np.zeros_like(model.item_factors_)),
    lambda model: model.fit(samples.matrix()[:5])], ids=["partial_fit", "a part", "fit"])
def test_what_happens_to_a_copy_leaves_the_original(change):
    model = samples.fitted("learned")
    before, users = model.predict([3], [4]), model.user_factors_.copy()
    change(copy.copy(model))
    np.testing.assert_array_equal(model.predict([3], [4]), before)
    np.testing.assert_array_equal(model.user_factors_, users)
    assert model.n_users_ == len(model.user_counts_) == len(users)


def test_a_part_that_a_class_does_not_have_is_named_as_asked():
    name = "user_feature_factors_"
    assert not hasattr(BPR(4), name)
    assert not hasattr(MatrixFactorization(4), name)
    with pytest.raises(AttributeError, match=f"no attribute '{name}'"):
        getattr(BPR(4), name)
