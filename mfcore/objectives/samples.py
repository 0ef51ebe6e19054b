"""Scores of many factorizations together: side by side, their mean, and their spread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mfcore.objectives.scores import LinearScorer


class OptimisticScorer:
    """Scores of blocks of rows: the mean over samples plus `optimism` standard deviations."""

    def __init__(self, samples: Sequence[LinearScorer], optimism: float) -> None:
        self.samples, self.optimism = samples, optimism
        self.n_rows, self.n_items = samples[0].n_rows, samples[0].n_items

    def block(self, start: int, stop: int) -> np.ndarray:
        """Return the scores of rows start..stop, shape (stop - start, n_items)."""
        mean, std = mean_and_std(scorer.block(start, stop) for scorer in self.samples)
        return mean + self.optimism * std


def side_by_side(X: np.ndarray) -> np.ndarray:
    """Return samples (S, n, k) as [X_1 | ... | X_S] / √S, shape (n, S k)."""
    S, n, k = X.shape
    joined: np.ndarray = X.transpose(1, 0, 2).reshape(n, S * k) / X.dtype.type(np.sqrt(S))
    return joined


def one_of(joined: np.ndarray, number: int, n_samples: int) -> np.ndarray:
    """Return X_s of what `side_by_side` made, shape (n, k)."""
    k = joined.shape[1] // n_samples
    root = joined.dtype.type(np.sqrt(n_samples))
    part: np.ndarray = joined[:, number * k:(number + 1) * k] * root
    return part


def mean_and_std(parts: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation over arrays of one shape (Welford 1962)."""
    mean, squares, n = np.zeros(1), np.zeros(1), 0
    for part in parts:
        n += 1
        away = part - mean
        mean = mean + away / n
        squares = squares + away * (part - mean)
    return mean, np.sqrt(squares / max(n - 1, 1))
