"""Intervals of a normal number: draws inside them, their probabilities and derivatives.

Cell t has a score s_t and a level l_t; its z ~ N(s, 1) lies in (e_l, e_{l+1}].  Below 0 the
distribution function keeps its digits, so that an interval above s is mirrored.  Where an interval
is so far away that its probability is 0 in float64, z is the end nearer to s.

Source of the inverse: P. J. Acklam's rational approximation (relative error 1.2e-9).
"""

from __future__ import annotations

import math

import numpy as np

from mfcore.compiled import njit
from mfcore.kernels.draws import WORD, mix
from mfcore.kernels.options import EXACT, INLINE

ROOT2, ROOT2PI = math.sqrt(2.0), math.sqrt(2 * math.pi)
TAIL = 0.02425
LEAST = 1e-300


@njit(**INLINE)
def _below(x: float) -> float:
    """Return Φ(x)."""
    return 0.5 * math.erfc(-x / ROOT2)


@njit(**INLINE)
def _density(x: float) -> float:
    """Return φ(x)."""
    return math.exp(-0.5 * x * x) / ROOT2PI


@njit(**INLINE)
def _inverse_tail(p: float) -> float:
    """Return Φ⁻¹(p) for small p."""
    q = math.sqrt(-2 * math.log(p))
    above = ((((-7.784894002430293e-03 * q - 3.223964580411365e-01) * q
               - 2.400758277161838e+00) * q - 2.549732539343734e+00) * q
             + 4.374664141464968e+00) * q + 2.938163982698783e+00
    below = (((7.784695709041462e-03 * q + 3.224671290700398e-01) * q
              + 2.445134137142996e+00) * q + 3.754408661907416e+00) * q + 1
    return float(above / below)


@njit(**INLINE)
def _inverse(p: float) -> float:
    """Return Φ⁻¹(p), 0 < p < 1."""
    if p < TAIL:
        return float(_inverse_tail(p))
    if p > 1 - TAIL:
        return -float(_inverse_tail(1 - p))
    q = p - 0.5
    r = q * q
    above = (((((-3.969683028665376e+01 * r + 2.209460984245205e+02) * r
                - 2.759285104469687e+02) * r + 1.383577518672690e+02) * r
              - 3.066479806614716e+01) * r + 2.506628277459239e+00) * q
    below = ((((-5.447609879822406e+01 * r + 1.615858368580409e+02) * r
               - 1.556989798598866e+02) * r + 6.680131188771972e+01) * r
             - 1.328068155288572e+01) * r + 1
    return above / below


@njit(**INLINE)
def _inside(a: float, b: float, uniform: float) -> float:
    """Return a standard normal number in (a, b), the one whose share of the interval is given."""
    if a + b > 0:                               # the mirror image
        low, high = _below(-b), _below(-a)
        z = -_inverse(max(high - uniform * (high - low), LEAST))
    else:
        low, high = _below(a), _below(b)
        z = _inverse(max(low + uniform * (high - low), LEAST))
    return float(min(max(z, a), b))


@njit(**EXACT)
def latent_draws(levels: np.ndarray, s: np.ndarray, edges: np.ndarray, places: np.ndarray,
                 key: int, out: np.ndarray, lo: int, hi: int) -> None:
    """Write z of cells lo..hi to `out`; the number of a cell's draw is its place.

    levels : ndarray of int, from 0; edges : float64, shape (n_levels + 1,), large at both ends
    """
    for t in range(lo, hi):
        uniform = (mix(places[t], key) + 0.5) / (WORD + 1.0)
        score, level = np.float64(s[t]), levels[t]
        out[t] = score + _inside(edges[level] - score, edges[level + 1] - score, uniform)


@njit(**EXACT)
def latent_means(levels: np.ndarray, s: np.ndarray, edges: np.ndarray, out: np.ndarray, lo: int,
                 hi: int) -> None:
    """Write E z of cells lo..hi to `out`: s + (φ(a) − φ(b)) / (Φ(b) − Φ(a))."""
    for t in range(lo, hi):
        score, level = np.float64(s[t]), levels[t]
        a, b = edges[level] - score, edges[level + 1] - score
        p = _below(-a) - _below(-b) if a + b > 0 else _below(b) - _below(a)
        away = (_density(a) - _density(b)) / p if p > LEAST else (a if a + b > 0 else b)
        out[t] = score + min(max(away, a), b)


@njit(**EXACT)
def edge_sums(levels: np.ndarray, s: np.ndarray, edges: np.ndarray, lo: int, hi: int
              ) -> np.ndarray:
    """Return sums over cells lo..hi, one row each, shape (4, n_levels + 1).

    Σ ln p (in its first place); ∂/∂e; −∂²/∂e²; and −∂²/∂e_l ∂e_{l+1}, at l.
    """
    sums = np.zeros((4, edges.size))
    for t in range(lo, hi):
        score, level = np.float64(s[t]), levels[t]
        a, b = edges[level] - score, edges[level + 1] - score
        p = _below(-a) - _below(-b) if a + b > 0 else _below(b) - _below(a)
        p = max(p, LEAST)
        f, g = _density(a) / p, _density(b) / p
        sums[0, 0] += math.log(p)
        sums[1, level] -= f
        sums[1, level + 1] += g
        sums[2, level] += f * (f - a)
        sums[2, level + 1] += g * (g + b)
        sums[3, level] -= f * g
    return sums


@njit(**EXACT)
def on_grid(table: np.ndarray, start: float, step: float, s: np.ndarray, out: np.ndarray) -> None:
    """Write a function of s to `out`, 1-D, from its values on an even grid; flat beyond it."""
    last = table.size - 1
    for t in range(s.size):
        x = min(max((np.float64(s[t]) - start) / step, 0.0), np.float64(last))
        left = min(int(x), last - 1)
        out[t] = table[left] + (x - left) * (table[left + 1] - table[left])
