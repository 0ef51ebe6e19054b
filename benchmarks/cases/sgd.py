"""Ratings: seconds to a test RMSE that both sides reach.

Libraries differ in what they minimise (biases or none, penalties); what a user wants of them is
the error on ratings they have not seen.  Settings of all sides were chosen on a tenth of the
training ratings.  The figure to reach is the worse of the two best errors, and 0.2 % above it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp

from benchmarks.case import Case, Contestant, Data, Task, both_reach
from benchmarks.data import first_rows, halves
from mfcore import MatrixFactorization
from mfcore.metrics.rating import rmse
from mfcore.objectives.factors import pair_scores
from mfcore.parallel import Pool

# Penalties by count, as LIBMF has them: paid once at each rating, and in no unit of the ratings.
BY_COUNT = {"reg_scaling": "count", "bias_reg": None, "bias_reg_scaling": None,
            "rating_scale": 1.0}
BIASED = {"solver": "sgd", "reg": 0.03, "learning_rate": 0.06, "decay": 1.0, "init_scale": 0.03}
PLAIN = {"solver": "sgd", "bias": None, "reg": 0.04, "learning_rate": 0.03, "decay": 0.2,
         "init_scale": 0.3}
ALTERNATING = {"solver": "cg", "reg": 0.04}


def judge(data: Data) -> Callable[..., float]:
    """Return the RMSE on the test ratings, clipped to the scale."""
    test, scale = data["test"].tocoo(), (data["R"].data.min(), data["R"].data.max())

    def error(P: np.ndarray, Q: np.ndarray, mean: float = 0.0, beta: np.ndarray | None = None,
              gamma: np.ndarray | None = None) -> float:
        beta, gamma = (np.zeros(n) if b is None else b.astype(np.float64)
                       for b, n in ((beta, len(P)), (gamma, len(Q))))
        with Pool(None) as pool:
            s = mean + pair_scores(test.row, test.col, P.astype(np.float64), Q.astype(np.float64),
                                   beta, gamma, pool)
        return rmse(test.data, np.clip(s, *scale))

    return error


def ours(k: int, n_epochs: int, settings: dict[str, Any], task: Task) -> None:
    """Fit, from the matrix on."""
    MatrixFactorization(k, **settings, **BY_COUNT, n_epochs=n_epochs, random_state=0,
                        n_threads=task.n_threads).fit(task.data["R"], callbacks=[
                            lambda model, _: task.keep(
                                model.user_factors_, model.item_factors_, model.global_mean_,
                                model.user_bias_, model.item_bias_)])


def libmf(k: int, counts: Sequence[int], settings: dict[str, Any], task: Task) -> None:
    """Fit the peer, from its own form of the data on: a fit for each number of passes."""
    from libmf import mf

    R = task.data["R"].tocoo()
    cells = np.column_stack([R.row, R.col, R.data]).astype(np.float32)
    shapes = [(n, k) for n in R.shape]
    for n in counts:
        task.restart()
        model = mf.MF(k=k, nr_threads=task.n_threads, nr_iters=n, quiet=True, **settings)
        model.fit(cells)
        task.keep(*(padded(X, shape) for X, shape in zip(
            (model.p_factors(), model.q_factors()), shapes, strict=True)))


def padded(X: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return factors of all rows; LIBMF knows none behind the last rating, and NaN for others."""
    whole = np.zeros(shape)
    whole[:len(X)] = np.nan_to_num(X)
    return whole


def surprise(k: int, counts: Sequence[int], task: Task) -> None:
    """Fit the peer, which uses one thread, from its own form of the data on."""
    import pandas
    from surprise import SVD, Dataset, Reader

    R = task.data["R"].tocoo()
    frame = pandas.DataFrame({"user": R.row, "item": R.col, "rating": R.data.astype(float)})
    train = Dataset.load_from_df(frame, Reader(rating_scale=(0.5, 5))).build_full_trainset()
    users, items = (np.array([ids(n) for n in range(m)]) for ids, m in (
        (train.to_raw_uid, train.n_users), (train.to_raw_iid, train.n_items)))
    for n in counts:
        task.restart()
        model = SVD(k, n_epochs=n, random_state=0).fit(train)
        task.keep(placed(model.pu, users, R.shape[0]), placed(model.qi, items, R.shape[1]),
                  train.global_mean, placed(model.bu, users, R.shape[0]),
                  placed(model.bi, items, R.shape[1]))


def placed(X: np.ndarray, ids: np.ndarray, n: int) -> np.ndarray:
    """Return rows in the order of ids, zeros where there is none."""
    whole = np.zeros((n, *X.shape[1:]))
    whole[ids] = X
    return whole


def cmfrec(k: int, counts: Sequence[int], task: Task) -> None:
    """Fit the peer: it cannot be watched, so that there is one fit for each number of sweeps."""
    from cmfrec import CMF

    X = sp.coo_matrix(task.data["R"])
    for n in counts:
        task.restart()
        model = CMF(k, 0.04, scale_lam=True, scale_bias_const=False, niter=n,
                    nthreads=task.n_threads, precompute_for_predictions=False,
                    random_state=0).fit(X)
        task.keep(model.A_, model.B_, float(model.glob_mean_), model.user_bias_,
                  model.item_bias_)


def cases(widths: Sequence[int], widest: int) -> list[Case]:
    """Return the cases of this file."""
    k, parts = widths[0], (partial(halves, "ratings"), first_rows)
    says = "Σ (r − s)² over ratings + penalties, each library's own"
    sgd = {
        "mfcore": Contestant(partial(ours, k, 20, BIASED), "mfcore", f"learned biases, {BIASED}"),
        "mfcore, LIBMF's objective": Contestant(partial(ours, k, 25, PLAIN), "mfcore",
                                                f"{PLAIN}"),
        "libmf": Contestant(
            partial(libmf, k, (6, 8, 10, 12), {
                "lambda_p1": 0.0, "lambda_q1": 0.0, "lambda_p2": 0.04, "lambda_q2": 0.04}),
            "libmf", "L2 penalty 0.04, eta 0.1; fits of 6 to 12 passes"),
        "libmf, its defaults": Contestant(partial(libmf, k, (10,), {}), "libmf",
                                          "L1 penalty 0.04, no L2, eta 0.1; a fit of 10 passes"),
        "surprise": Contestant(partial(surprise, k, (10, 20)), "surprise",
                               "SVD, its defaults; fits of 10 and 20 passes; one thread",
                               sizes=("small",))}
    als = {
        "mfcore": Contestant(partial(ours, k, 12, ALTERNATING), "mfcore",
                             f"learned biases, {ALTERNATING}, 2 steps a row"),
        "cmfrec": Contestant(partial(cmfrec, k, (2, 4, 6, 8, 10)), "cmfrec",
                             "learned biases, lambda 0.04 by count, CG, 3 steps a row; fits of 2 "
                             "to 10 sweeps")}
    return [Case(name, f"{title}, k = {k}", says, *parts, contestants, judge, "test RMSE",
                 target=both_reach(0.002), goal=goal)
            for name, title, contestants, goal in (
                (f"sgd_{k}", "ratings by SGD", sgd, 8.0),
                (f"als_ratings_{k}", "ratings by ALS", als, None))]
