"""Losses: a value, and right with it the gradient by the scores.

Every loss is a sum (no mean, no ½ but where a density has one): divide by the size of a
batch with `weight`.  s are scores, shape (n, m) or (n,); x is what they should say: of the
same shape, or CSR with its other cells 0 (or unknown: `known_squared`).  The value is
summed in float64.

    squared        Σ w (x − s)²                             ds = 2 w (s − x)
    known_squared  Σ_known w (x − s)² + w0 Σ_unknown (r0 − s)²              cell by cell
    logistic       −Σ w [x ln σ(s) + (1 − x) ln(1 − σ(s))]
                   = Σ w [ln(1 + e^s) − x s]                ln σ(s) = s − ln(1 + e^s)
                                                            ds = w (σ(s) − x)
    multinomial    −Σ_u w Σ_i x_ui ln π_ui,   π_u = softmax(s_u) = e^s / Σ_j e^s_j
                   = Σ_u w [|x_u| ln Σ_j e^(s_uj) − Σ_i x_ui s_ui]          |x_u| = Σ_i x_ui
                                                            ds = w (|x_u| π_u − x_u)
    gaussian       −Σ w ln N(x; s, e^ℓ) = ½ Σ w [ℓ + (x − s)² e^−ℓ + ln 2π]
                                                            ds = w (s − x) e^−ℓ
                                                            dℓ = ½ w (1 − (x − s)² e^−ℓ)

Softmax and loss are one function: the gradient needs no derivative of a logarithm of
something that may round to 0.  The largest score of a row is subtracted first, which
changes nothing but keeps e^s finite.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore.kernels import nn_sparse as kernels
from mfcore.nn.activations import sigmoid

Matrix = Any                      # ndarray, or csr_array
Weight = float | np.ndarray
Loss = Callable[..., tuple[float, Any]]


def squared(s: np.ndarray, x: Matrix, weight: Weight = 1.0) -> tuple[float, np.ndarray]:
    """Return Σ w (x − s)² over all cells, and ds."""
    e = _minus(s, x)
    w = _weight(weight, s)
    return _total(w * e * e), 2 * w * e


def known_squared(s: np.ndarray, x: sp.csr_array, weight: Weight = 1.0,
                  unknown_weight: float = 0.0, unknown_value: float = 0.0
                  ) -> tuple[float, np.ndarray]:
    """Return Σ_known w (x − s)² + w0 Σ_unknown (r0 − s)², and ds; w a number or one per cell."""
    _check_shape(s, x)
    w, e = _weight(weight, s), _at(s, x) - x.data.astype(s.dtype, copy=False)
    if unknown_weight == 0:
        value, ds = 0.0, np.zeros_like(s)
    else:
        rest = s - s.dtype.type(unknown_value)
        kernels.put_cells(x.indptr, x.indices, np.zeros(x.nnz, s.dtype), rest)
        value = unknown_weight * float(np.vdot(rest, rest))
        ds = s.dtype.type(2 * unknown_weight) * rest
    kernels.put_cells(x.indptr, x.indices, 2 * w * e, ds)
    return value + _total(w * e * e), ds


def logistic(s: np.ndarray, x: Matrix, weight: Weight = 1.0) -> tuple[float, np.ndarray]:
    """Return Σ w [ln(1 + e^s) − x s] over all cells, x in [0, 1], and ds."""
    _check_shape(s, x)
    w = _weight(weight, s)
    likely = s * x if isinstance(x, np.ndarray) else _product(s, x)
    return _total(w * (np.maximum(s, 0) + np.log1p(np.exp(-np.abs(s))) - likely)), \
        w * _minus(sigmoid(s), x)


def multinomial(s: np.ndarray, x: Matrix, weight: Weight = 1.0) -> tuple[float, np.ndarray]:
    """Return Σ_u w [|x_u| ln Σ_j e^s − x_u·s_u], x >= 0, and ds; w a number or (n, 1)."""
    _check_shape(s, x)
    w = _weight(weight, s)
    size = np.asarray(x.sum(axis=1), s.dtype).reshape(-1, 1)
    top = s.max(axis=1, keepdims=True)
    ds = np.exp(s - top)
    Z = ds.sum(axis=1, keepdims=True)
    value = _total(w * (size * (top + np.log(Z)) - _dots(s, x)))
    ds *= w * size / Z
    if isinstance(x, np.ndarray):
        ds -= w * x
    else:
        _subtract(ds, x, np.broadcast_to(w, (s.shape[0], 1)))
    return value, ds


def gaussian(s: tuple[np.ndarray, np.ndarray], x: Matrix, weight: Weight = 1.0
             ) -> tuple[float, tuple[np.ndarray, np.ndarray]]:
    """Return −Σ w ln N(x; mean, e^ℓ) for s = (mean, ℓ), and (ds, dℓ)."""
    mean, log_variance = s
    w, e, precision = _weight(weight, mean), _minus(mean, x), np.exp(-log_variance)
    spread = e * e * precision
    value = _total(w * (log_variance + spread + mean.dtype.type(math.log(2 * math.pi))))
    return value / 2, (w * e * precision, w / 2 * (1 - spread))


LOSSES: dict[str, Loss] = {"squared": squared, "known_squared": known_squared,
                           "logistic": logistic, "multinomial": multinomial,
                           "gaussian": gaussian}


# ------------------------------------------------------- scores against sparse targets

def _check_shape(s: np.ndarray, x: Matrix) -> None:
    if s.shape != x.shape:
        raise ValueError(f"target must have the shape of the scores, {s.shape}, got {x.shape}")


def _weight(weight: Weight, s: np.ndarray) -> Any:
    """Return the weight in the type of the scores."""
    return np.asarray(weight, s.dtype) if isinstance(weight, np.ndarray) \
        else s.dtype.type(weight)


def _total(values: np.ndarray) -> float:
    return float(values.sum(dtype=np.float64))


def _at(s: np.ndarray, x: sp.csr_array) -> np.ndarray:
    """Return the scores of the stored cells of x, shape (nnz,)."""
    cells = np.empty(x.nnz, s.dtype)
    kernels.take_cells(x.indptr, x.indices, s, cells)
    return cells


def _minus(s: np.ndarray, x: Matrix) -> np.ndarray:
    """Return s − x, dense."""
    _check_shape(s, x)
    difference = s.copy()
    if isinstance(x, np.ndarray):
        difference -= x.astype(s.dtype, copy=False)
    else:
        _subtract(difference, x, np.ones((s.shape[0], 1), s.dtype))
    return difference


def _subtract(s: np.ndarray, x: sp.csr_array, scale: np.ndarray) -> None:
    """Subtract scale_u x_ui from the stored cells, in place."""
    rows = np.repeat(scale[:, 0], np.diff(x.indptr))
    values = _at(s, x) - rows * x.data.astype(s.dtype, copy=False)
    kernels.put_cells(x.indptr, x.indices, values, s)


def _product(s: np.ndarray, x: sp.csr_array) -> np.ndarray:
    """Return s ∘ x, dense."""
    dense = np.zeros_like(s)
    kernels.put_cells(x.indptr, x.indices, _at(s, x) * x.data.astype(s.dtype, copy=False), dense)
    return dense


def _dots(s: np.ndarray, x: Matrix) -> np.ndarray:
    """Return x_u·s_u of each row, shape (n, 1)."""
    if isinstance(x, np.ndarray):
        dots = (s * x).sum(axis=1)
    else:
        cells = _at(s, x) * x.data.astype(s.dtype, copy=False)
        dots = sp.csr_array((cells, x.indices, x.indptr), shape=x.shape).sum(axis=1)
    return np.asarray(dots, s.dtype).reshape(-1, 1)
