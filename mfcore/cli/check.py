"""`mfcore info --check`: whether this machine computes what it should, in a few seconds.

Small planted ratings are fitted, and held against what is known without any of our kernels:

    rows         every user's vector solves its normal equations, put together by NumPy here
    score        P_u·Q_i + μ + b_u + b̃_i, which `predict` must return
    threads      one thread and two give the same bits
    file         a model that is saved and loaded gives the same bits
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

TOLERANCE = 1e-8
REG, UNKNOWN = 2.0, 0.3            # λ of a row, and w0


def self_test() -> dict[str, Any]:
    """Return the seconds that it took, and the result of each part.

    Raises
    ------
    ArithmeticError
        Where a part fails: it names all that do.
    """
    from mfcore import MatrixFactorization, load
    from mfcore.data.synthetic import planted

    start, ratings = time.perf_counter(), planted(80, 50, random_state=0).ratings
    one, two = (MatrixFactorization(6, n_epochs=3, bias=None, reg=REG, reg_scaling="none",
                                    unknown_weight=UNKNOWN, dtype="float64", solver="cholesky",
                                    random_state=0, n_threads=n).fit(ratings) for n in (1, 2))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.mfcore"
        one.save(path)
        again = load(path)
    found = {"rows": _worst_row(one, ratings) < TOLERANCE, "score": _scores_agree(ratings),
             "threads": np.array_equal(one.item_factors_, two.item_factors_),
             "file": np.array_equal(one.user_factors_, again.user_factors_)}
    if not all(found.values()):
        wrong = ", ".join(name for name, right in found.items() if not right)
        raise ArithmeticError(f"the self-test failed: {wrong}; results of this machine are not "
                              f"to be trusted. `mfcore info` names the jit cache, to be emptied, "
                              f"and the versions")
    return {"seconds": round(time.perf_counter() - start, 1), "passed": list(found)}


def _worst_row(model: Any, ratings: Any) -> float:
    """Return the largest |A P_u − c| of all users, over the largest |c|."""
    R, Q = ratings.by_user.toarray().astype(float), model.item_factors_
    known = np.zeros(R.shape, bool)
    known[ratings.users_of_cells, ratings.by_user.indices] = True
    worst = []
    for r, here, p in zip(R, known, model.user_factors_, strict=True):
        A = (Q.T * np.where(here, 1.0, UNKNOWN)) @ Q + REG * np.eye(Q.shape[1])
        c = Q[here].T @ r[here]
        worst.append(abs(A @ p - c).max() / max(abs(c).max(), 1.0))
    return float(max(worst))


def _scores_agree(ratings: Any) -> bool:
    from mfcore import MatrixFactorization

    model: Any = MatrixFactorization(6, n_epochs=2, dtype="float64", random_state=0).fit(ratings)
    users, items = ratings.users_of_cells, ratings.by_user.indices
    s = np.einsum("tf,tf->t", model.user_factors_[users], model.item_factors_[items]) \
        + model.global_mean_ + model.user_bias_[users] + model.item_bias_[items]
    return bool(np.allclose(model.predict(users, items), s, atol=TOLERANCE))
