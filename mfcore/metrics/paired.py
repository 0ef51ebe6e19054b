"""How sure one may be of a difference between two models measured on the same users.

A metric is T = f(Σ w x / Σ w), f the identity or the root, x a value per user or per rating.  To
first order, a value adds to it

    c = f'(m) w (x − m) / Σ w,    m = Σ w x / Σ w          (Σ c = 0; for a mean, (x − m) / n)

and to the difference d = T_1 − T_2 the difference of both.  Values of one user are not
independent, nor are errors of one item.  With C_g the sum of c over the values of user (item) g,

    V(users) = G / (G − 1) Σ_g C_g²        G users         (for a mean, the variance s² / n of d)
    V = V(users)                                                             of values per user
    V = max(V(users), V(items), V(users) + V(items) − Σ c²)                  of values per rating

With k folds d is the mean of their d_f, which also differ by the fits: each fold has seeds of its
own.  Their variance is added, and as folds share training ratings, that part of it which users do
not explain is taken times 1 + k n_test / n_train; k fits to the same ratings are folds that share
none.

    V(folds) = max(S² / k, (S² / k − V within folds) (1 + k n_test / n_train))
    S² = Σ (d_f − d)² / (k − 1)

V(folds) holds a part of V once more, so that verdicts err on the safe side.

"t": d ± t √(V + V(folds)), t of Student with Satterthwaite's degrees of freedom.  "bootstrap" and
"permutation" take the shape of the distribution from users drawn with replacement, or from
differences of random sign, and the scale from √(V + V(folds)).  No test of n differences is surer
than the one of their signs: p >= 2^(1 − n).

Sources: Owen 2007; Cameron, Gelbach, Miller 2011 (two ways of clustering); Nadeau, Bengio 2003
(folds); Satterthwaite 1946; Holm 1979.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mfcore.metrics.measure import Values

METHODS = ("t", "bootstrap", "permutation")
CELLS = 1 << 23             # of a resampled matrix in memory at a time


class Paired(NamedTuple):
    """Differences between two models: of each fold, and what each value adds to their mean.

    differences : ndarray, shape (k,)
        One of each fold, or of each fit to the same ratings.
    added : ndarray, shape (n,)
        What a value adds to the mean of the differences.
    folds, users, items : ndarray of int, shape (n,); items None for values per user
        Where it belongs.
    test_share : float
        Test ratings over training ratings of folds; 0 for fits to the same ratings.
    """

    differences: np.ndarray
    added: np.ndarray
    folds: np.ndarray
    users: np.ndarray
    items: np.ndarray | None
    test_share: float = 0.0

    @property
    def mean(self) -> float:
        """The mean of the differences."""
        return float(self.differences.mean())

    @property
    def of_users(self) -> np.ndarray:
        """What each user adds, shape (n_users,)."""
        return _sums(self.added, self.users)


class Estimate(NamedTuple):
    """A difference, its interval, and the probability of one as large if there were none."""

    difference: float
    low: float
    high: float
    p: float


def additions(values: Values) -> np.ndarray:
    """Return what each value adds to the metric, to first order, shape (n,); NaN stays NaN."""
    weights = np.ones(len(values.values)) if values.weights is None else values.weights
    weights = np.where(np.isnan(values.values), 0, weights).astype(float)
    mean = np.nansum(weights * values.values) / weights.sum()
    slope = 1.0 if not values.root else 0.0 if mean == 0 else 0.5 / np.sqrt(mean)
    return np.asarray(slope * weights * (values.values - mean) / weights.sum())


def estimate(paired: Paired, confidence: float, method: str = "t", n_resamples: int = 9999,
             random: np.random.Generator | None = None) -> Estimate:
    """Return the difference with its interval and p-value.

    Parameters
    ----------
    confidence : float in (0, 1)
    method : {"t", "bootstrap", "permutation"}
    n_resamples : int >= 1
        Draws of the last two.
    random : numpy Generator or None
    """
    d, (variance, freedom) = paired.mean, variance_of(paired)
    own = paired.of_users
    if not variance > 0:
        return Estimate(d, d, d, _floor(d, own, float(d == 0)))
    scale = np.sqrt(variance)
    if method == "t":
        from scipy import stats

        reach = float(stats.t.ppf((1 + confidence) / 2, freedom) * scale)
        return Estimate(d, d - reach, d + reach,
                        _floor(d, own, float(2 * stats.t.sf(abs(d) / scale, freedom))))
    resampled = _bootstrap if method == "bootstrap" else _permutation
    found = resampled(d, own, scale / np.sqrt(own @ own), confidence, n_resamples, random)
    low, high, p = map(float, found)
    return Estimate(d, low, high, _floor(d, own, p))


def common(one: Values, other: Values) -> tuple[Values, Values]:
    """Return the values that both have."""
    kept = ~np.isnan(one.values) & ~np.isnan(other.values)
    return one.select(kept), other.select(kept)


def standard_error(one: Values, other: Values) -> float:
    """Return the standard error of a difference on one test set; 0 for a single user."""
    one, other = common(one, other)
    rows = _codes(one.rows)
    if not len(rows) or not rows.max():
        return 0.0
    columns = None if one.columns is None else _codes(one.columns)
    added = additions(one) - additions(other)
    paired = Paired(np.array([one.total - other.total]), added, np.zeros_like(rows), rows, columns)
    return float(np.sqrt(variance_of(paired)[0]))


def variance_of(paired: Paired) -> tuple[float, float]:
    """Return the variance of the mean difference, and its degrees of freedom."""
    ways = [paired.users] if paired.items is None else [paired.users, paired.items]
    values, freedom = _clustered(paired.added, ways), min(way.max() for way in ways)
    k = len(paired.differences)
    if k == 1:
        return values, float(freedom)
    within = _clustered(paired.added, [_codes(way * k + paired.folds) for way in ways])
    between = float(paired.differences.var(ddof=1)) / k
    folds = max(between, (between - within) * (1 + k * paired.test_share))
    parts = values**2 / freedom + folds**2 / (k - 1)
    return values + folds, (values + folds) ** 2 / parts if parts > 0 else float(freedom)


def holm(p: Sequence[float]) -> np.ndarray:
    """Return p-values of m tests, corrected so that all of them together err no more often.

    The i-th smallest becomes (m − i + 1) p, but not less than the one before, nor above 1.
    """
    given = np.asarray(p, float)
    order = np.argsort(given, kind="stable")
    out = np.empty_like(given)
    out[order] = np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1))
    return np.asarray(np.minimum(out, 1))


def _clustered(added: np.ndarray, ways: Sequence[np.ndarray]) -> float:
    """Return the variance of Σ added where values of one code, in any way, are dependent."""
    each = []
    for codes in ways:
        sums = _sums(added, codes)
        each.append(float(sums @ sums) * len(sums) / max(1, len(sums) - 1))
    return each[0] if len(each) == 1 else max(*each, sum(each) - float(added @ added))


def _sums(added: np.ndarray, codes: np.ndarray) -> np.ndarray:
    return np.asarray(np.bincount(codes, added))


def _codes(labels: np.ndarray) -> np.ndarray:
    return np.asarray(np.unique(labels, return_inverse=True)[1])


def _floor(d: float, own: np.ndarray, p: float) -> float:
    """Return p, but not less than a test of the signs of the differences could give."""
    differences = d + len(own) * own
    n = np.count_nonzero(np.abs(differences) > 1e-12 * np.abs(differences).max(initial=0))
    return max(p, 2.0 ** (1 - n)) if n else 1.0


def _bootstrap(d: float, own: np.ndarray, scale: float, confidence: float, n_resamples: int,
               random: Any) -> tuple[float, float, float]:
    from scipy import stats

    drawn = stats.bootstrap((len(own) * own,), np.mean, n_resamples=n_resamples,
                            batch=max(1, CELLS // len(own)), method="percentile",
                            random_state=random).bootstrap_distribution * scale
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    beyond = min(np.count_nonzero(d + drawn <= 0), np.count_nonzero(d + drawn >= 0))
    return d + low, d + high, min(1.0, 2 * (1 + beyond) / (1 + len(drawn)))


def _permutation(d: float, own: np.ndarray, scale: float, confidence: float, n_resamples: int,
                 random: Any) -> tuple[float, float, float]:
    from scipy import stats

    null = np.abs(stats.permutation_test(
        (d + len(own) * own,), np.mean, permutation_type="samples", vectorized=True,
        n_resamples=n_resamples, batch=max(1, CELLS // len(own)), random_state=random
    ).null_distribution) * scale
    beyond, drawn = np.count_nonzero(null >= abs(d) * (1 - 1e-12)), len(null) < 2 ** len(own)
    reach = np.quantile(null, confidence)
    return d - reach, d + reach, float((beyond + drawn) / (len(null) + drawn))
