"""Paired differences, and how sure one may be of their mean.

    d_f = ± (first_f − second_f), the sign such that d > 0 where the first is better, f a fold
    interval of the mean: quantiles of the means of resampled d; the level is widened so that for
    few folds it is that of Student's t, not of the normal, with the unbiased variance:
        a = Φ(−√(n / (n − 1)) · t_{n−1}(0.975))          (Hesterberg 2015, section 3.4)
    effect size = mean d / sd d                           (Cohen's d_z)

With five folds a is 0.001, so that "shown" needs nearly every fold to agree.  Folds of one data
set share training ratings: an interval speaks of that data set, not of all data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

DRAWS, LEVEL = 20_000, 0.95
TOO_FEW = "too few to tell"
FOLDS, TRIALS = 5, 20          # the least with which a verdict counts


class Effect(NamedTuple):
    """The mean of paired differences, its interval, and the mean in their standard deviations."""

    mean: float
    low: float
    high: float
    size: float


def effect(differences: Sequence[float], seed: int = 0) -> Effect:
    """Return the mean of at least two paired differences with its bootstrap interval."""
    d = np.asarray(differences, float)
    n = len(d)
    if n < 2:
        raise ValueError(f"differences must be at least two, got {n}")
    picks = np.random.default_rng(seed).integers(0, n, (DRAWS, n))
    tail = stats.norm.cdf(np.sqrt(n / (n - 1)) * stats.t.ppf((1 - LEVEL) / 2, n - 1))
    low, high = np.quantile(d[picks].mean(axis=1), [tail, 1 - tail])
    sd = d.std(ddof=1)
    size = d.mean() / sd if sd > 0 else np.sign(d.mean()) * np.inf if d.any() else 0.0
    return Effect(float(d.mean()), float(low), float(high), float(size))


def verdict(found: Effect, n_folds: int, n_trials: int) -> str:
    """Return what an effect says of "the first is better"."""
    if n_folds < FOLDS or n_trials < TRIALS:
        return TOO_FEW
    return "shown" if found.low > 0 else "refuted" if found.high < 0 else "not shown"


def together(verdicts: Sequence[str]) -> str:
    """Return the verdict of a claim whose comparisons were judged one by one.

    What has too few folds yet does not count, unless nothing has enough.
    """
    kinds = set(verdicts) - {TOO_FEW} or {TOO_FEW}
    return kinds.pop() if len(kinds) == 1 else "it depends"
