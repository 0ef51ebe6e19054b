"""Whether a chain has run long enough: effective sample size, and R-hat over several chains.

Draws of a chain resemble the ones before them.  With ρ_t the autocorrelation at lag t, the mean
of n draws is as uncertain as that of

    n_eff = n / (1 + 2 Σ_{t>=1} ρ_t)

independent ones.  Sums of neighbours ρ_2t + ρ_{2t+1} are positive and decrease for a reversible
chain; the sum stops where they no longer do, since the rest is noise (Geyer 1992).

R-hat compares chains, each cut into halves: with W the mean of their variances and B/n the
variance of their means, of n draws each,

    R-hat = sqrt( ((n − 1)/n W + B/n) / W )         1 if all chains agree

For m chains of independent normal draws B / W has an F distribution with m − 1 and m (n − 1)
degrees of freedom, which says what short chains reach by chance.

Sources: Geyer 1992 (initial positive sequence); Gelman et al. 2013, sections 11.4 and 11.5 (R-hat
below 1.1, and n_eff of at least 5 for each half chain); Vehtari et al. 2021 (ranks).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import fdtri, ndtri

from mfcore import validation

MOST_R, LEAST_EFFECTIVE, CHANCE = 1.1, 10, 0.05      # of a chain that has settled


def effective_sample_size(draws: Any) -> float:
    """Return n_eff of one chain's draws of a number.

    Parameters
    ----------
    draws : array-like of float, shape (n,), n >= 4

    Returns
    -------
    n_eff : float in (0, n]
        NaN if all draws are the same.

    Raises
    ------
    TypeError, ValueError
        For anything but a vector of at least four finite numbers.
    """
    x = _chain("draws", draws)
    n, x = len(x), x - x.mean()
    power = np.abs(np.fft.rfft(x, 2 * n)) ** 2
    covariance = np.fft.irfft(power)[:n] / n
    if covariance[0] <= 0:
        return float("nan")
    rho = covariance / covariance[0]
    pairs = rho[:n - n % 2].reshape(-1, 2).sum(axis=1)
    positive = np.append(pairs > 0, False).argmin()
    falling = np.minimum.accumulate(pairs[:positive])
    return float(min(n, n / max(2 * falling.sum() - 1, 1 / n)))


def r_hat(chains: Any) -> float:
    """Return R-hat of a number that several chains draw.

    Parameters
    ----------
    chains : sequence of array-like, shape (n,) each, n >= 8
        At least one; each is split into halves.

    Returns
    -------
    r : float
        Near 1 (below 1.01 or so) if the chains agree; NaN if all draws are the same.

    Raises
    ------
    TypeError, ValueError
        For chains that are too short or of different lengths.
    """
    rows = [_chain("chains", chain) for chain in chains]
    if not rows or len({len(row) for row in rows}) != 1 or len(rows[0]) < 8:
        raise ValueError(f"chains must be of one length, at least 8, got lengths "
                         f"{[len(row) for row in rows]}")
    n = len(rows[0]) // 2
    halves = np.array([part for row in rows for part in (row[:n], row[-n:])])
    within = halves.var(axis=1, ddof=1).mean()
    if within <= 0:
        return float("nan")
    between = halves.mean(axis=1).var(ddof=1)
    return float(np.sqrt((n - 1) / n + between / within))


def unsettled(summaries: Sequence[np.ndarray]) -> tuple[float, float] | None:
    """Return R-hat and n_eff of the worst of some numbers that a chain draws; None: all are good.

    Both are of draws replaced by normal scores of their ranks.  A number is bad where R-hat is
    above `MOST_R` and above what `CHANCE` of independent chains of this length would reach in any
    of the numbers, or where n_eff is below `LEAST_EFFECTIVE`, of at least three times as many
    draws.

    Parameters
    ----------
    summaries : sequence of ndarray, shape (n,) each, n >= 8
    """
    from scipy.stats import rankdata  # (slow to import, and only fits ask)

    n, found = len(summaries[0]) // 2, []
    share = float(fdtri(1, 2 * n - 2, 1 - CHANCE / len(summaries)))
    limit = max(MOST_R, np.sqrt((n - 1 + share) / n))
    for draws in summaries:
        z = ndtri((rankdata(draws) - 3 / 8) / (len(draws) + 1 / 4))
        r, effective = r_hat([z]), effective_sample_size(z)
        if r > limit or effective < LEAST_EFFECTIVE <= len(draws) / 3:
            found.append((r, effective))
    return max(found, default=None)


def _chain(name: str, draws: Any) -> np.ndarray:
    x = validation.finite(name, validation.vector(name, draws)).astype(np.float64)
    if len(x) < 4:
        raise ValueError(f"{name} must hold at least 4 draws, got {len(x)}")
    return x
