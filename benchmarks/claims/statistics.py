"""Paired differences, and how sure one may be of their mean.

    d_f = ± (first_f − second_f), the sign such that d > 0 where the first is better, f a fold
    mean d ± t_{n−1}(0.975) · sd · √(1/n)                Student's t, for n folds
    mean d ± t_{n−1}(0.975) · sd · √(1/n + n₂/n₁)        splits of the same ratings, n₁ trained on
                                                         and n₂ tested (Nadeau, Bengio 2003)
    effect size = mean d / sd d                          (Cohen's d_z)

Splits of one data set share ratings, so that their differences vary less than those of new data
would: the second interval allows for that.  Generated data are drawn anew for each fold, and need
no allowance.

Many sentences are tried.  Holm's p of the j-th smallest of m is max_{i ≤ j} (m − i + 1) p_(i):
below 0.05 where a sentence stands among all m of its claim (Holm 1979).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.95
OVERLAP = 0.25                 # tested over trained on: a fifth of the ratings over the rest
TOO_FEW, TOO_SMALL, SAME = "too few to tell", "space too small", "the same"
FOLDS, TRIALS = 5, 20          # the least with which a verdict counts
# The smallest effect of interest, by how a metric begins; others have none.
LEAST = {"rmse": 0.002, "gap": 0.002, "ndcg": 0.005, "auc": 0.005, "kept": 0.01, "purity": 0.01,
         "cross": 0.01, "spurious": 0.01, "folding": 0.01}


class Effect(NamedTuple):
    """The mean of paired differences, its interval, the mean in their standard deviations, and the
    two-sided p of no difference."""

    mean: float
    low: float
    high: float
    size: float
    p: float


def effect(differences: Sequence[float], overlap: float = 0.0) -> Effect:
    """Return the mean of at least two paired differences with its interval by Student's t."""
    d = np.asarray(differences, float)
    n = len(d)
    if n < 2:
        raise ValueError(f"differences must be at least two, got {n}")
    mean, sd = float(d.mean()), float(d.std(ddof=1))
    error = sd * np.sqrt(1 / n + overlap)
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1) * error)
    if sd == 0:
        return Effect(mean, mean, mean, float(np.sign(mean) * np.inf) if mean else 0.0,
                      0.0 if mean else 1.0)
    return Effect(mean, mean - half, mean + half, mean / sd,
                  float(2 * stats.t.sf(abs(mean) / error, n - 1)))


def least_of(metric: str) -> float:
    """Return the smallest effect of interest; 0 where there is none."""
    return next((least for start, least in LEAST.items() if metric.startswith(start)), 0.0)


def verdict(found: Effect, n_folds: int, n_trials: int, least: float = 0.0) -> str:
    """Return what an effect says of "the first is better"."""
    if n_folds < FOLDS or n_trials < TRIALS:
        return TOO_FEW
    if -least < found.low and found.high < least:
        return SAME
    return "shown" if found.low > 0 else "refuted" if found.high < 0 else "not shown"


def holm(p: Sequence[float]) -> list[float]:
    """Return Holm's p of each of several tests."""
    order = np.argsort(p, kind="stable")
    raised = np.maximum.accumulate((len(p) - np.arange(len(p))) * np.asarray(p, float)[order])
    found = np.empty(len(p))
    found[order] = np.minimum(raised, 1)
    return found.tolist()


def together(verdicts: Sequence[str]) -> str:
    """Return the verdict of a claim whose comparisons were judged one by one.

    What cannot be told yet does not count, unless nothing can.
    """
    open_ = {TOO_FEW, TOO_SMALL}
    kinds = set(verdicts) - open_ or set(verdicts)
    return kinds.pop() if len(kinds) == 1 else "it depends"
