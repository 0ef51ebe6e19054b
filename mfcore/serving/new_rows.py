"""Rows of new users: the row system of objectives/quadratic.py, where it is derived, in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mfcore.data.ids import HISTORY
from mfcore.objectives.scaling import penalty_weights
from mfcore.serving.answers import Row, Solve

SHIFT, STEPS = 2.0**-40, 3          # of rows that are hardly determined, as kernels/exact.py has it


def average_row(arrays: dict[str, np.ndarray], params: dict[str, Any], k: int) -> Row:
    """Return the row of an unknown user: that of the mean features about the prior, or zeros."""
    mean, G, g = (arrays.get(f"user_feature_{part}_") for part in ("mean", "factors", "bias"))
    p, bias = np.zeros(k), 0.0
    if mean is not None and G is not None:
        p, bias = mean @ G.astype(np.float64), 0.0 if g is None else float(mean @ g)
    if params.get("similarity") == "cosine" and (length := np.linalg.norm(p)) > 0:
        p = p / length                                          # (of SoftmaxMF)
    if "user_prior_mean_" in arrays:                            # (of samples, side by side)
        priors = arrays["user_prior_mean_"]
        width = k // len(priors)
        p = p + priors[:, :width].ravel() / np.sqrt(len(priors))
        bias += float(priors[:, width:].sum(axis=1).mean())     # (a column, or none)
    return Row(p, bias)


def row_system(name: str, meta: dict[str, Any], Q: np.ndarray, gamma: np.ndarray, mean: float,
                average: Row) -> Solve | None:
    """Return what finds rows of new users, or None where they need more than one system."""
    params, fitted = meta["params"], meta["fitted"]
    if name == "Popularity":
        return lambda columns, values: average
    if name == "PureSVD":
        binary = params["values"] == "binary"
        return lambda columns, values: Row((values > 0 if binary else values) @ Q[columns], 0.0)
    if name == "BiasOnly":
        return lambda columns, values: Row(average.p, np.sum(values - mean - gamma[columns])
                                           / max(len(values) + params["reg_users"], 1e-30))
    names = fitted.get("user_feature_names_") or ()
    history = any(each.startswith(f"{HISTORY}=") for each in names)
    if name not in ("MatrixFactorization", "ImplicitMF") or history \
            or params.get("bias") == "mean" or params.get("loss") == "logistic":
        return None
    return RowSystem(params, fitted, Q, gamma, average)


def _solved(A: np.ndarray, c: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return the solution of A z = c; what A does not determine stays at the prior mean.

    By the steps of weak rows in kernels/exact.py, which cost other rows no accuracy.
    """
    trace = np.trace(A)
    if trace == 0 or not np.isfinite(trace):
        return mean if trace == 0 else np.full(len(c), np.inf)
    near, z = np.linalg.inv(A + SHIFT * trace * np.eye(len(c))), mean
    for _ in range(STEPS):
        z = z + near @ (c - A @ z)
    return z


@dataclass(frozen=True, eq=False)
class RowSystem:
    """( Σ_Ω a x xᵀ + w0 Σ_all x xᵀ + Λ ) z = Σ_Ω (b − a γ) x − w0 Σ_all γ x + Λ m,  x = [q | 1].

    params, fitted : as in the file
    prior : m, the row of an unknown user
    """

    params: dict[str, Any]
    fitted: dict[str, Any]
    Q: np.ndarray
    gamma: np.ndarray
    prior: Row

    def __call__(self, columns: np.ndarray, values: np.ndarray) -> Row:
        """Return the vector and bias of a row."""
        learns, fitted = self.params.get("bias") == "learned", self.fitted
        w0, start = float(fitted["unknown_weight_"]), fitted["global_mean_"] - fitted["origin_"]
        a, b = self._counts(values, w0) if "alpha" in self.params else \
            (np.full(len(values), 1 - w0), values - fitted["origin_"])
        X = self._columns(learns)
        offset = self.gamma.astype(float) + (0.0 if learns else start)     # o of every item
        reg = self._penalties(len(values), w0, learns)
        mean = np.append(self.prior.p, start + self.prior.bias)[:len(reg)]
        x, o = X[columns], offset[columns]
        A, c = (x.T * a) @ x + np.diag(reg), x.T @ (b - a * o) + reg * mean
        if w0:
            A, c = A + w0 * self._gram(learns), c - w0 * (offset @ X)
        z = _solved(A, c, mean)
        return Row(z[:self.Q.shape[1]], z[-1] - start if learns else 0.0)

    def _counts(self, values: np.ndarray, w0: float) -> tuple[np.ndarray, np.ndarray]:
        """Return a and b of counts: see `ImplicitMF`."""
        alpha, scale = float(self.params["alpha"]), float(self.fitted["rating_scale_"])
        if self.params["negatives"] == "error" and (values < 0).any():
            raise ValueError(f"counts must be >= 0, got {values.min()}; ratings with dislikes want "
                             f"MatrixFactorization, or negatives='zero'")
        size = np.abs(values) / scale
        w = {"linear": 1 + alpha * size, "log": 1 + alpha * np.log1p(size), "raw": alpha * size,
             "constant": np.full(len(size), alpha)}[self.params["confidence"]]
        return w - (0.0 if self.params["whole_matrix"] else w0), w * (values > 0)

    def _penalties(self, n: int, w0: float, learns: bool) -> np.ndarray:
        """Return the diagonal Λ."""
        params, count = self.params, np.array([float(n)])
        scaling, unit = params["reg_scaling"], self.fitted["rating_scale_"]
        unit = 1.0 if "alpha" in params else unit
        reg = unit * penalty_weights(count, self.fitted["reg_"], scaling, w0, len(self.Q))
        own = params.get("bias_reg_scaling")
        bias_reg = penalty_weights(count, self.fitted["bias_reg_"][0],
                                   scaling if own is None else own, w0, len(self.Q))
        return np.append(np.full(self.Q.shape[1], reg), bias_reg if learns else [])

    def _columns(self, learns: bool) -> np.ndarray:
        """Return x of all items, float64; kept."""
        return self._once("x", lambda: np.column_stack(
            [self.Q.astype(float), *([np.ones(len(self.Q))] if learns else [])]))

    def _gram(self, learns: bool) -> np.ndarray:
        """Return Σ x xᵀ over all items; kept."""
        X = self._columns(learns)
        return self._once("gram", lambda: X.T @ X)

    def _once(self, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        kept: dict[str, np.ndarray] = self.__dict__.setdefault("_kept", {})
        if name not in kept:
            kept[name] = make()
        return kept[name]
