"""Alternating least squares: seconds to the loss that the peer has after its fourth sweep.

Libraries do not minimise the same function.  Each peer keeps its own, and `ImplicitMF` or
`MatrixFactorization` is told to minimise that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp

from benchmarks.case import Case, Contestant, Data, Task, figure_after
from benchmarks.data import all_of, first_rows
from mfcore import ImplicitMF

# implicit asks for this: its threads and those of BLAS get in each other's way.
ONE = {"OPENBLAS_NUM_THREADS": "1"}

# ------------------------------------------------------------------- whose objective

# sum over cells of c (p - s)^2 + 5 (|P|^2 + |Q|^2); c = r, p = 1 where stored, else c = 1, p = 0
IMPLICIT = partial(ImplicitMF.like_implicit, reg=5.0)
# sum over stored cells of r (1 - s)^2 + 0.1 sum over all of s^2 + penalties; irspack: half of it
IALS = {"alpha0": 0.1, "reg": 0.003, "nu": 1.0}
IRSPACK = partial(ImplicitMF, alpha=1.0, rating_scale=1.0, confidence="raw", whole_matrix=True,
                  unknown_weight=0.1, reg=0.003, reg_scaling=1.0)
# as implicit's, with c = 1 + r
CMFREC = partial(ImplicitMF, alpha=1.0, rating_scale=1.0, reg=5.0, reg_scaling="none")
SAYS = {
    "implicit": "Σ c (p − s)² over all cells + 5 (‖P‖² + ‖Q‖²); c = r, p = 1 where there is a "
                "rating, else c = 1, p = 0",
    "irspack": "Σ r (1 − s)² over ratings + 0.1 Σ s² over all cells + 0.003 Σ (n_u + 0.1 n_items) "
               "‖P_u‖² + the same of items",
    "cmfrec": "Σ c (p − s)² over all cells + 5 (‖P‖² + ‖Q‖²); c = 1 + r, p = 1 where there is a "
              "rating, else c = 1, p = 0"}


def judge(make: Callable[..., ImplicitMF], k: int, data: Data) -> Callable[..., float]:
    """Return the objective of any factors, in float64."""
    model = make(k, n_epochs=1, dtype="float64").fit(data["R"])

    def loss(P: np.ndarray, Q: np.ndarray) -> float:
        model.user_factors_, model.item_factors_ = P.astype(np.float64), Q.astype(np.float64)
        return model.objective()["total"]

    return loss


# ------------------------------------------------------------------------ contestants


def ours(make: Callable[..., ImplicitMF], k: int, n_sweeps: int, solver: str, task: Task,
         **settings: Any) -> None:
    """Fit, from the matrix on."""
    make(k, n_epochs=n_sweeps, solver=solver, n_threads=task.n_threads, random_state=0,
         **settings).fit(task.data["R"], callbacks=[
             lambda model, _: task.keep(model.user_factors_, model.item_factors_)])


def implicit(k: int, n_sweeps: int, use_cg: bool, task: Task) -> None:
    """Fit the peer, from the matrix on."""
    from implicit.cpu.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(k, 5.0, use_cg=use_cg, iterations=n_sweeps,
                                    num_threads=task.n_threads, random_state=0)
    model.fit(sp.csr_matrix(task.data["R"]), show_progress=False,
              callback=lambda *_: task.keep(model.user_factors, model.item_factors))


def irspack_trainer(k: int, solver: str, task: Task, width: int = 64) -> Any:
    """Return the peer, ready to start."""
    from irspack.recommenders.ials import IALSTrainer, LossType, SolverType

    return IALSTrainer(
        sp.csr_matrix(task.data["R"]), k, **IALS, init_std=0.1, random_seed=0,
        solver_type=SolverType[solver], max_cg_steps=3, ialspp_subspace_dimension=width,
        loss_type=LossType.IALSPP, n_threads=task.n_threads, prediction_time_max_cg_steps=5,
        prediction_time_ialspp_iteration=7)


def irspack(k: int, n_sweeps: int, solver: str, task: Task, width: int = 64) -> None:
    """Fit the peer, from the matrix on."""
    trainer = irspack_trainer(k, solver, task, width)
    for _ in range(n_sweeps):
        trainer.run_epoch()
        task.keep(trainer.core_trainer.user, trainer.core_trainer.item)


def cmfrec(k: int, n_sweeps: int, task: Task) -> None:
    """Fit the peer: it cannot be watched, so that there is one fit for each number of sweeps."""
    from cmfrec import CMF_implicit

    X = sp.coo_matrix(task.data["R"])
    for n in range(1, n_sweeps + 1):
        task.restart()
        model = CMF_implicit(k, 5.0, use_cg=False, niter=n, nthreads=task.n_threads,
                             precompute_for_predictions=False).fit(X)
        task.keep(model.A_, model.B_)


# ------------------------------------------------------------------------------ cases


def case(name: str, title: str, peer: str, make: Callable[..., ImplicitMF], k: int,
         mine: Contestant, theirs: Contestant, **more: Any) -> Case:
    """Return a case of two."""
    return Case(f"{name}_{k}", f"{title}, k = {k}", SAYS[peer],
                partial(all_of, "choices"), first_rows,
                {"mfcore": mine, peer: theirs}, partial(judge, make, k), "loss",
                target=figure_after(4), **more)


def gradient(k: int, peer: str) -> Case:
    """Return ALS by conjugate gradient."""
    make, steps = {"implicit": (IMPLICIT, partial(implicit, k, 6, True)),
                   "irspack": (IRSPACK, partial(irspack, k, 6, "CG"))}[peer]
    return case(f"als_cg_{peer}", f"implicit ALS by CG, as {peer}", peer, make, k,
                Contestant(partial(ours, make, k, 5, "cg"), "mfcore",
                            "1 step a row, after a start on a sample that counts"),
                Contestant(steps, peer, "3 steps a row, its default", ONE), goal=4.0)


def exact(k: int, peer: str) -> Case:
    """Return ALS with exact rows."""
    make, run, goal = {
        "implicit": (IMPLICIT, partial(implicit, k, 4, False), 4.0),
        "irspack": (IRSPACK, partial(irspack, k, 4, "CHOLESKY"), 1.3),
        "cmfrec": (CMFREC, partial(cmfrec, k, 4), None)}[peer]
    return case(f"als_exact_{peer}", f"exact implicit ALS, as {peer}", peer, make, k,
                Contestant(partial(ours, make, k, 3, "cholesky"), "mfcore",
                           "Cholesky, after a start on a sample that counts"),
                Contestant(run, peer, "Cholesky", ONE), goal=goal)


def subspace(k: int, width: int) -> Case:
    """Return iALS++."""
    blocks = partial(ours, IRSPACK, k, 8, "subspace", block_size=width)
    return case("ials_pp", "iALS++ by blocks of factors", "irspack", IRSPACK, k,
                Contestant(blocks, "mfcore", f"blocks of {width}"),
                Contestant(partial(irspack, k, 6, "IALSPP", width=width), "irspack",
                           f"blocks of {width}", ONE))


def cases(widths: Sequence[int], widest: int) -> list[Case]:
    """Return the cases of this file."""
    return [*(gradient(k, peer) for peer in ("implicit", "irspack") for k in widths),
            *(exact(k, peer) for peer in ("implicit", "irspack") for k in widths),
            exact(widths[0], "cmfrec"), subspace(widest, min(widest, 64))]
