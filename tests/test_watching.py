"""Watching the fit of a factorization, and the same bits, in its configurations."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import samples

from mfcore import Ratings, evaluate

# -------------------------------------------------------------------- watching a fit

SOLVERS = ["cg", "cholesky"]


@pytest.mark.parametrize("name", ["mean", "linear"])
def test_the_history_has_one_record_an_epoch(name):
    model = samples.fitted(name, n_epochs=4)
    assert [record["epoch"] for record in model.history_] == [1, 2, 3, 4]
    assert model.n_epochs_ == 4
    for record in model.history_:
        assert set(record) == {"epoch", "loss", "seconds"}
        assert record["loss"] > 0
        assert record["seconds"] > 0


@pytest.mark.parametrize(("name", "metric"), [("mean", "rmse"), ("linear", "ndcg@10")])
def test_the_evaluation_set_is_measured_in_every_epoch(name, metric):
    test = samples.counts(seed=9)
    for given in (test, Ratings(test)):
        model = samples.model(name, solver="cholesky").fit(samples.counts(), eval_set=given)
        assert all(set(record) == {"epoch", "loss", "seconds", metric}
                   for record in model.history_)
        assert model.history_[-1][metric] == pytest.approx(
            evaluate(model, test, metrics=metric)[metric], rel=1e-6)


@pytest.mark.parametrize(("name", "metric"), [("mean", "rmse"), ("linear", "ndcg@10")])
def test_new_users_are_measured_by_folding_them_in(name, metric):
    known, test = samples.counts(6, 8, seed=9), samples.counts(6, 8, seed=10)
    model = samples.model(name, solver="cholesky").fit(samples.counts(), eval_set=(known, test))
    wanted = evaluate(model, test, fold_in=known, metrics=metric)[metric]
    assert model.history_[-1][metric] == pytest.approx(wanted, rel=1e-6)


def test_the_evaluation_set_may_hold_users_and_items_that_training_lacks():
    test = Ratings.from_arrays(["u1", "new", "u2"], ["i1", "i2", "newer"], [3.0, 2.0, 1.0])
    for name in ("mean", "linear"):
        model = samples.fitted(name, samples.named())
        assert len(model.fit(samples.named(), eval_set=test).history_) == 3


@pytest.mark.parametrize(("metric", "key"), [
    ("mae", "mae"), ("ndcg", "ndcg@10"), ("recall@3", "recall@3"), ("mrr", "mrr"),
    ("mrr@5", "mrr@5"), ("auc", "auc")])
def test_any_metric_can_be_watched(metric, key):
    for name in ("mean", "linear"):
        model = samples.model(name, eval_metric=metric, patience=2, n_epochs=5)
        model.fit(samples.counts(), eval_set=samples.counts(seed=9))
        assert key in model.history_[0]


def test_callbacks_see_the_model_and_the_record_of_every_epoch():
    calls = []

    def watch(model: Any, record: dict[str, Any]) -> None:
        assert model.history_[-1] is record
        calls.append((record["epoch"], model.recommend([2], k=3)[0].tolist(),
                      model.user_factors_.copy()))

    model = samples.model("mean", solver="cholesky")
    model.fit(samples.matrix(), callbacks=[watch, watch])
    assert [epoch for epoch, *_ in calls] == [1, 1, 2, 2, 3, 3]
    for epoch in (1, 2, 3):
        apart = samples.fitted("mean", solver="cholesky", n_epochs=epoch)
        np.testing.assert_array_equal(calls[2 * epoch - 1][2], apart.user_factors_)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", ["learned", "linear"])
def test_a_callback_that_answers_true_stops_the_fit(name, solver):
    ratings = samples.counts()
    model = samples.model(name, solver=solver, n_epochs=50)
    model.fit(ratings, callbacks=[lambda m, record: None, lambda m, record: record["epoch"] == 2])
    apart = samples.fitted(name, ratings, solver=solver, n_epochs=2)
    assert model.n_epochs_ == 2
    np.testing.assert_array_equal(model.user_factors_, apart.user_factors_)
    np.testing.assert_array_equal(model.item_factors_, apart.item_factors_)


@pytest.mark.parametrize("name", ["learned", "linear", "bias as unknown"])
def test_tol_stops_when_the_loss_falls_by_less_in_an_epoch(name):
    tol = 0.02
    model = samples.fitted(name, n_epochs=500, tol=tol)
    losses = np.array([record["loss"] for record in model.history_])
    falls = (losses[:-1] - losses[1:]) / losses[:-1]
    assert 2 < model.n_epochs_ < 500
    assert falls[-1] < tol
    assert (falls[:-1] >= tol).all()
    assert samples.fitted(name, n_epochs=model.n_epochs_ + 3).n_epochs_ == model.n_epochs_ + 3


def overfitted(patience: int | None, **params: Any) -> tuple[Any, list[float]]:
    """A fit that gets worse on its evaluation set after some epochs, and its errors."""
    options = {"n_epochs": 25, "reg": 0.002, "n_factors": 8, **params}
    model = samples.model("mean", patience=patience, **options)
    model.fit(samples.matrix(30, 20), eval_set=samples.matrix(30, 20, seed=9))
    return model, [record["rmse"] for record in model.history_]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("patience", [1, 3])
def test_patience_stops_after_so_many_worse_epochs_and_restores_the_best(solver, patience):
    model, errors = overfitted(patience, solver=solver)
    best = int(np.argmin(errors)) + 1
    assert model.n_epochs_ == len(errors) == best + patience < 25
    apart, _ = overfitted(None, solver=solver, n_epochs=best)
    np.testing.assert_array_equal(model.user_factors_, apart.user_factors_)
    np.testing.assert_array_equal(model.item_factors_, apart.item_factors_)


def test_the_best_epoch_is_restored_where_epochs_run_out_first():
    model, errors = overfitted(24, n_epochs=8)
    best = int(np.argmin(errors)) + 1
    assert best < model.n_epochs_ == 8
    np.testing.assert_array_equal(model.item_factors_,
                                  overfitted(None, n_epochs=best)[0].item_factors_)


def test_without_patience_the_last_epoch_stays():
    model, errors = overfitted(None, n_epochs=8)
    assert int(np.argmin(errors)) + 1 < model.n_epochs_ == 8
    np.testing.assert_array_equal(
        model.item_factors_,
        samples.fitted("mean", samples.matrix(30, 20), n_epochs=8, reg=0.002,
                       n_factors=8).item_factors_)


def test_patience_waits_for_larger_values_of_a_ranking_metric():
    model = samples.model("linear", patience=2, n_epochs=40, eval_metric="ndcg@3")
    model.fit(samples.counts(30, 20), eval_set=samples.counts(30, 20, seed=9))
    values = [record["ndcg@3"] for record in model.history_]
    assert model.n_epochs_ == min(40, int(np.argmax(values)) + 3)


def test_watching_changes_nothing():
    plain = samples.fitted("learned")
    watched = samples.model("learned").fit(samples.matrix(), eval_set=samples.matrix(seed=9),
                                           callbacks=[lambda m, record: False])
    np.testing.assert_array_equal(plain.user_factors_, watched.user_factors_)
    np.testing.assert_array_equal(plain.item_bias_, watched.item_bias_)


def test_the_progress_bar_goes_to_the_error_stream_and_only_if_asked_for(capsys):
    samples.fitted("mean")
    assert capsys.readouterr() == ("", "")
    samples.fitted("mean", verbose=1)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "fit" in shown.err
    assert "loss" in shown.err


# --------------------------------------------------------------------- the same bits

# More than one chunk of cells, of rows and of scores.
WIDE = samples.counts(1500, 40)
TALL = samples.counts(8500, 6)


def bits(model: Any) -> list[bytes]:
    parts = [model.user_factors_, model.item_factors_, model.user_bias_, model.item_bias_,
             *model.recommend(k=20), *model.recommend(k=3, similarity="cosine"),
             *model.similar_users(range(200), k=4), model.predict(np.arange(model.n_users_), 1)]
    losses = np.array([record["loss"] for record in model.history_])
    return [np.asarray(part).tobytes() for part in (*parts, losses)
            if part is not None] + [repr(model.objective()).encode()]


@pytest.mark.parametrize("cells", [WIDE, TALL], ids=["wide", "tall"])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", ["learned, unknown", "bias as unknown", "log"])
def test_the_bits_do_not_depend_on_the_number_of_threads(name, solver, cells):
    one, two, eight = (bits(samples.fitted(name, cells, solver=solver, n_threads=n, n_epochs=2,
                                           n_factors=5)) for n in (1, 2, 8))
    assert one == two == eight


@pytest.mark.parametrize("name", ["learned", "linear"])
def test_the_seed_decides_the_bits(name):
    first, again = (samples.fitted(name, random_state=7) for _ in range(2))
    assert bits_of_factors(first) == bits_of_factors(again)
    assert bits_of_factors(first) != bits_of_factors(samples.fitted(name, random_state=8))
    assert bits_of_factors(first) == bits_of_factors(first.fit(first.ratings_))
    drawn = [samples.fitted(name, random_state=np.random.default_rng(7)) for _ in range(2)]
    assert bits_of_factors(drawn[0]) == bits_of_factors(drawn[1]) == bits_of_factors(first)


def test_without_a_seed_every_fit_is_another():
    first, second = (samples.fitted("mean", random_state=None) for _ in range(2))
    assert bits_of_factors(first) != bits_of_factors(second)


def bits_of_factors(model: Any) -> tuple[bytes, bytes]:
    return model.user_factors_.tobytes(), model.item_factors_.tobytes()


def test_two_threads_that_fit_at_once_get_what_each_gets_alone():
    jobs = [("learned, unknown", WIDE), ("log", TALL)]
    options = {"n_epochs": 3, "n_threads": 2, "n_factors": 5}
    alone = [bits(samples.fitted(name, cells, **options)) for name, cells in jobs]
    together: dict[int, list[bytes]] = {}
    start = threading.Barrier(len(jobs))

    def work(number: int) -> None:
        name, cells = jobs[number]
        start.wait()
        together[number] = bits(samples.fitted(name, cells, **options))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[number] for number in range(len(jobs))] == alone


def test_a_fitted_model_can_be_asked_by_several_threads_at_once():
    model = samples.fitted("learned", WIDE, n_threads=2)
    wanted, got = bits(model), []
    threads = [threading.Thread(target=lambda: got.append(bits(model))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [wanted] * 3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_decides_the_factors_and_not_the_input(dtype):
    for values in (np.float32, np.float64, np.int16):
        cells = samples.counts().astype(values)
        for name in ("learned", "linear"):
            model = samples.fitted(name, cells, dtype=dtype)
            assert model.user_factors_.dtype == model.item_factors_.dtype == dtype
            assert model.fold_in_users(cells).factors.dtype == dtype
        assert samples.fitted("mean", cells, dtype=dtype).user_bias_.dtype == dtype
