"""Implicit ALS by conjugate gradient: time to the loss of the peer's sweep 4."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp

from benchmarks.generated import generated
from mfcore import ImplicitMF

NAME = "implicit_als_cg"
OBJECTIVE = "sum over all cells of c (p - P_u.Q_i)^2 + 5 (|P|^2 + |Q|^2); c = r, p = 1 if " \
            "stored, else c = 1, p = 0; k = 64; mfcore 1 CG step a row, implicit its default 3"
CONTESTANTS = {"mfcore": "mfcore", "implicit": "implicit"}      # and what each has to import
SIZES = {"small": [7000, 1400, 500_000], "medium": [69_000, 13_000, 5_000_000],
         "large": [138_493, 26_744, 20_000_263]}
K, REG, SWEEPS, THREADS = 64, 5.0, 10, 2
Keep = Callable[[np.ndarray, np.ndarray], Any]


def data(size: str) -> sp.csr_array:
    """Return the ratings, as counts."""
    return generated(*SIZES[size])


def _model() -> ImplicitMF:
    return ImplicitMF.like_implicit(K, reg=REG, n_epochs=SWEEPS, n_threads=THREADS,
                                    random_state=0)


def mfcore(R: sp.csr_array, clock: Any, keep: Keep) -> None:
    """Fit, from the matrix on."""
    _model().fit(R, callbacks=[lambda model, _: keep(model.user_factors_, model.item_factors_)])


def implicit(R: sp.csr_array, clock: Any, keep: Keep) -> None:
    """Fit the peer, from the matrix on."""
    from implicit.cpu.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(K, REG, iterations=SWEEPS, num_threads=THREADS, random_state=0)
    model.fit(sp.csr_matrix(R), show_progress=False,
              callback=lambda *_: keep(model.user_factors, model.item_factors))


def loss(R: sp.csr_array, P: np.ndarray, Q: np.ndarray) -> float:
    """Return the objective of any factors, in this library's float64."""
    model = _model().set_params(n_epochs=1, dtype="float64").fit(R[:, :])
    model.user_factors_, model.item_factors_ = P.astype(np.float64), Q.astype(np.float64)
    return model.objective()["total"]
