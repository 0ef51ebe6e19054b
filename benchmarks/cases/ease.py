"""EASE: the inverse of the items' Gram matrix, by Cholesky."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import scipy.sparse as sp

from benchmarks.case import Case, Contestant, Data, Task
from benchmarks.data import all_of, first_rows
from mfcore import EASE

REG, JUDGED = 200.0, 20


def ones(data: Data) -> sp.csr_matrix:
    """Return what was chosen, as ones."""
    X = sp.csr_matrix(data["R"])
    X.data[:] = 1
    return X


def ours(task: Task) -> None:
    """Fit, from the matrix on."""
    X = ones(task.data)
    task.restart()
    task.keep(EASE(reg=REG, n_threads=task.n_threads).fit(X).weights_[:, :JUDGED])


def irspack(task: Task) -> None:
    """Fit the peer, from the matrix on."""
    from irspack import DenseSLIMRecommender

    X = ones(task.data)
    task.restart()
    model = DenseSLIMRecommender(X, reg=REG)
    model.learn()
    task.keep(np.asarray(model.W)[:, :JUDGED])


def by_scipy(task: Task) -> None:
    """Fit with SciPy's Cholesky inverse alone: a triangle, mirrored."""
    from scipy.linalg import lapack

    X = ones(task.data)
    task.restart()
    G = np.asfortranarray((X.T @ X).toarray())
    G[np.diag_indices_from(G)] += REG
    factor, _ = lapack.spotrf(G, lower=0, overwrite_a=1)
    inverse, _ = lapack.spotri(factor, lower=0, overwrite_c=1)
    B = np.triu(inverse) + np.triu(inverse, 1).T
    B /= -np.diag(B)
    np.fill_diagonal(B, 0)
    task.keep(B[:, :JUDGED])


def residual(data: Data) -> Callable[..., float]:
    """Return the largest error in the equations of the first columns, by definition."""
    X = ones(data).astype(np.float64)
    G = (X.T @ X[:, :JUDGED]).toarray()

    def worst(B: np.ndarray) -> float:
        n = B.shape[1]
        error = X.T @ (X @ B.astype(np.float64)) + REG * B - G[:, :n]
        error[np.arange(n), np.arange(n)] = 0           # the diagonal is held at 0
        return float(np.abs(error).max() / np.abs(G).max())

    return worst


def cases(widths: Sequence[int], widest: int) -> list[Case]:
    """Return the case of this file."""
    return [Case("ease", "EASE", f"‖X − XB‖² + {REG:g} ‖B‖², diag B = 0, exactly",
                 partial(all_of, "choices"), first_rows, {
                     "mfcore": Contestant(ours, "mfcore"),
                     "irspack": Contestant(irspack, "irspack", "inverse by LU"),
                     "scipy": Contestant(by_scipy, "scipy", "spotrf and spotri")},
                 residual, "residual", sizes=("small", "medium"))]
