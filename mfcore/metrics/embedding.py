"""What vectors hold: similar neighbours, directions in use, independent columns.

For vectors X (n, k) with rows x_i, each with a label (or a set of labels):

    neighbour purity   mean over i and its K nearest j by cosine of [i and j share a label]
    effective rank     e^H, H = −Σ_f p_f ln p_f, p_f = σ_f / Σ σ, σ singular values of X − mean
                       from 1 (a line) to k (all directions equally long)
    mean cosine        mean of cos(x_i, x_j) over pairs i ≠ j: 1 if all point the same way
                       = (‖Σ_i x̂_i‖² − m) / (m (m − 1)),  x̂ of length 1, m rows that are not 0
    independence       1 − mean over f ≠ g of |corr(X_f, X_g)|; constant columns are left out
    MIG                mean over labels v of (I(v; X_f) − I(v; X_g)) / H(v), f and g the columns
                       that tell most and second most of v: 1 if one column alone tells it
                       I of X cut into `BINS` quantile bins

A number means little unless one knows what chance gives.  `permutation_null` measures the same
with rows permuted against labels, or (without labels) with each column permuted by itself.

Sources: Roy, Vetterli 2007 (effective rank); Chen, Li, Grosse, Duvenaud 2018 (MIG).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.parallel import row_chunks

BINS = 20
ROWS = 512      # whose cosines with all others are in memory together


class Measured(NamedTuple):
    """A measure compared with chance.

    Attributes
    ----------
    value : float
    null_mean, null_sd : float
        Mean and standard deviation of the measure after permutations.
    p : float
        (1 + number of permutations with at least this value) / (1 + permutations).
    """

    value: float
    null_mean: float
    null_sd: float
    p: float


def neighbour_purity(X: Any, labels: Any, k: int = 10) -> float:
    """Return the share of the k nearest rows, by cosine, that share a label, in [0, 1].

    Parameters
    ----------
    X : array-like, shape (n, dim)
    labels : array-like, shape (n,), or sparse, shape (n, n_labels)
        Rows without a label, and vectors of 0, are left out.
    k : int, >= 1

    Raises
    ------
    ValueError
        For other shapes, or if fewer than two rows are left.
    """
    X, L = _vectors(X), _label_matrix(labels, len(X))
    k = validation.count("k", k)
    kept = (np.diff(L.indptr) > 0) & (np.einsum("nf,nf->n", X, X) > 0)
    X, L = X[kept], L[kept]
    if len(X) < 2:
        raise ValueError(f"X must hold at least two rows with labels, got {len(X)}")
    U, k, shared = _unit(X), min(k, len(X) - 1), 0
    for start, stop in row_chunks(len(U), ROWS):
        S = U[start:stop] @ U.T
        S[np.arange(stop - start), np.arange(start, stop)] = -np.inf
        near = np.argpartition(-S, k - 1, axis=1)[:, :k]
        meets = (L[start:stop] @ L.T).toarray() > 0
        shared += int(np.take_along_axis(meets, near, axis=1).sum())
    return shared / (len(U) * k)


def effective_rank(X: Any) -> float:
    """Return the number of directions that the rows of X use, from 1 to min(n, k), or 0."""
    X = _vectors(X)
    s = np.linalg.svd(X - X.mean(axis=0), compute_uv=False)
    s = s[s > s.max(initial=0.0) * np.finfo(np.float64).eps * max(X.shape)]
    p = s / s.sum()
    return float(np.exp(-(p * np.log(p)).sum())) if len(s) else 0.0


def mean_cosine(X: Any) -> float:
    """Return the mean cosine of two different rows that are not 0, in [−1, 1]."""
    X = _vectors(X)
    U = _unit(X[np.einsum("nf,nf->n", X, X) > 0])
    m, total = len(U), U.sum(axis=0)
    if m < 2:
        raise ValueError(f"X must hold at least two rows that are not 0, got {m}")
    return float((total @ total - m) / (m * (m - 1)))


def independence(X: Any) -> float:
    """Return 1 − mean |correlation| of two different columns, in [0, 1]."""
    X = _vectors(X)
    X = X[:, np.ptp(X, axis=0) > 0]
    n = X.shape[1]
    if n < 2:
        raise ValueError(f"X must hold at least two columns that vary, got {n}")
    C = np.abs(np.corrcoef(X, rowvar=False))
    return float(1 - (C.sum() - n) / (n * (n - 1)))


def mutual_information_gap(X: Any, labels: Any) -> float:
    """Return MIG: how much one column alone tells of each label, in [0, 1].

    Parameters
    ----------
    X : array-like, shape (n, k >= 2)
    labels : array-like, shape (n,), or sparse, shape (n, n_labels)
        One label with several values, or labels that a row has or not.  Labels that do not
        vary are left out.
    """
    X = _vectors(X)
    if X.shape[1] < 2:
        raise ValueError(f"X must hold at least two columns, got {X.shape[1]}")
    ranks = np.argsort(np.argsort(X, axis=0, kind="stable"), axis=0, kind="stable")
    bins, gaps = ranks * min(BINS, len(X)) // len(X), []
    columns = _label_matrix(labels, len(X)).toarray().T.astype(np.int64) \
        if sp.issparse(labels) else [_coded(labels, len(X))[1]]
    for label in columns:
        joint = [_entropies(column, label) for column in bins.T]
        entropy = joint[0][1]
        if entropy > 0:
            known = sorted(a + b - both for a, b, both in joint)
            gaps.append((known[-1] - known[-2]) / entropy)
    if not gaps:
        raise ValueError("labels must hold at least one that varies, got none")
    return float(np.mean(gaps))


def permutation_null(measure: Callable[..., float], X: Any, labels: Any = None, *,
                     n_permutations: int = 100, random_state: Any = 0, **options: Any
                     ) -> Measured:
    """Return a measure of X, compared with its values where there is nothing to find.

    Parameters
    ----------
    measure : function of this module
    X : array-like, shape (n, k)
    labels : as `measure` takes, or None
        With labels, rows of X are permuted; without, each column by itself.
    n_permutations : int, >= 1
    random_state : int, Generator or None
    **options
        Passed on to `measure`.
    """
    n_permutations = validation.integer("n_permutations", n_permutations, low=1)
    random = validation.random_generator("random_state", random_state)
    X = _vectors(X)
    rest = () if labels is None else (labels,)
    value = measure(X, *rest, **options)
    null = np.array([measure(random.permutation(X) if rest else random.permuted(X, axis=0),
                             *rest, **options) for _ in range(n_permutations)])
    p = (1 + np.count_nonzero(null >= value)) / (1 + n_permutations)
    return Measured(value, float(null.mean()), float(null.std()), float(p))


# ----------------------------------------------------------------------------------- parts

def _vectors(X: Any) -> np.ndarray:
    array = validation.numeric("X", X)
    if array.ndim != 2 or not array.size:
        raise ValueError(f"X must have shape (n, k), neither 0, got {array.shape}")
    return validation.finite("X", array.astype(np.float64))


def _unit(X: np.ndarray) -> np.ndarray:
    unit: np.ndarray = X / np.sqrt(np.einsum("nf,nf->n", X, X))[:, None]
    return unit


def _label_matrix(labels: Any, n: int) -> sp.csr_array:
    """Return labels as a pattern, shape (n, n_labels)."""
    if not sp.issparse(labels):
        values, codes = _coded(labels, n)
        labels = sp.csr_array((np.ones(n), (np.arange(n), codes)), shape=(n, len(values)))
    _check_rows(labels.shape[0], n)
    return sp.csr_array(labels != 0).astype(np.float64)


def _check_rows(n_labels: int, n: int) -> None:
    if n_labels != n:
        raise ValueError(f"labels must have a row for each of the {n} rows of X, got {n_labels}")


def _coded(labels: Any, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels that occur, and each row's as a number from 0, shape (n,)."""
    array = validation.rectangular("labels", labels)
    if array.ndim != 1:
        raise ValueError(f"labels must have shape (n,) or be sparse, got {array.shape}")
    try:
        values, codes = np.unique(array, return_inverse=True)
    except TypeError:
        raise TypeError("labels must be of one kind, all numbers or all strings") from None
    _check_rows(len(codes), n)
    return values, codes


def _entropies(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """Return H(a), H(b) and H(a, b), in nats."""
    counts = np.bincount(a * (b.max() + 1) + b, minlength=(a.max() + 1) * (b.max() + 1))
    joint = counts.reshape(-1, b.max() + 1) / len(a)

    def entropy(p: np.ndarray) -> float:
        p = p[p > 0]
        return float(-(p * np.log(p)).sum())

    return entropy(joint.sum(axis=1)), entropy(joint.sum(axis=0)), entropy(joint.ravel())
