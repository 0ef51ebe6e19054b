"""The Bayesian factorization: how each block of parameters is distributed, given the rest.

Statement.  The quadratic objective is the negative logarithm of a density:

    r_ui ~ N(s_ui, 1 / (τ w_ui))                 s = P_u·Q_i + β_u + γ_i; unknown cells: w0, r0
    z_u = [P_u | β_u] ~ N(μ + F_u G, Λ⁻¹)        items too, with their own μ, Λ and features
    μ ~ N(0, Λ⁻¹),   G_g ~ N(0, (κ_φ Λ)⁻¹)       φ the field of feature g (age, gender, ...)

Λ is diagonal: one precision λ_f per factor, and one for the bias.  (A full Λ with a Wishart
prior, as in Salakhutdinov and Mnih 2008, measured no better on ratings.)  Each conditional below
is exact, and drawing them in turn (Gibbs) leaves the posterior invariant.

Rows.  With the row system A z = c of objectives/quadratic.py, in which Λ/τ is the penalty,

    −2 ln p(z | rest) = τ (zᵀ A z − 2 zᵀ c) + ...       so       z ~ N(A⁻¹ c, (τ A)⁻¹)

Noise precision.  With N cells of positive weight and S = Σ w (r − s)² (both over all cells
if w0 > 0):

    p(τ | rest) ∝ τ^(N/2) e^(−τ S / 2) Gamma(τ; ν/2, ν v/2)
    τ ~ Gamma( (N + ν)/2, rate (S + ν v)/2 )

v is the error of held-out cells by a fit of few factors (solvers/automatic.py), worth a tenth of
the cells: ν = N / 10.  A weak prior lets many factors of short rows find the mode in which they
explain everything and noise is nothing.  Where nothing can be held out, and with w0 > 0, v is the
variance of the ratings, and ν = 1.

Precisions and mean of a side.  D = Z − F G has n rows, t is their sum, K the diagonal of the κ
of the m features.  With the mean integrated out, column by column,

    −2 ln p = λ_f T_f − (n + m) ln λ_f + ...,    T_f = Σ D_f² − t_f²/(n + 1) + Σ K G_f²
    λ_f ~ Gamma( (n + m + ν)/2, rate (T_f + ν v_f)/2 )
    μ_f ~ N( t_f/(n + 1), 1/((n + 1) λ_f) )                                  given λ_f

Groups.  Ridge regression on F, all columns at once, for some fields at a time: F and Z are then
theirs and what the others leave.  E and E' hold rows of N(0, Λ⁻¹), so that what they add gives
the solution the covariance of the conditional (objectives/ridge.py solves it):

    −2 ln p(G | rest) = Σ_f λ_f [ ‖Z_f − μ_f − F G_f‖² + Σ K G_f² ] + ...
    G = (FᵀF + K)⁻¹ ( Fᵀ(Z − μ + E) + √K E' )
      = N + (FᵀF + K)⁻¹ Fᵀ(Z − μ + E − F N)                                  N = K^−½ E'
    κ_φ ~ Gamma( (d m_φ + ν)/2, rate (Σ_{g∈φ} G_g Λ G_gᵀ + ν)/2 )            m_φ features in φ

The v_f are weak guesses from the variance v of the ratings: a score is a sum of k products of
two factors, so that the variance of a factor is about √(v/k), and that of a bias about v.  With
ν = 1 each of them counts as one row.

Sources: Salakhutdinov, Mnih 2008; Rendle 2013 (precisions by factor and by field);
Simm et al. 2017 (features, and the draw of G); Rendle, Zhang, Koren 2019 (settings).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore.objectives.factors import LinearScorer
from mfcore.objectives.ridge import Design, Shifted
from mfcore.parallel import Pool

NU = 1.0


@dataclass(frozen=True)
class RowPrior:
    """The prior of the rows z of one side: μ and λ (d,), and κ (n_fields,)."""

    mean: np.ndarray
    precision: np.ndarray
    field_precision: np.ndarray = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True)
class Hyper:
    """The distribution that the prior of one side is drawn from.

    Parameters
    ----------
    variances : ndarray, shape (d,)
        v_f, the guessed variances of the columns of z.
    features : csr_array (n_rows, n_features), or None
    fields : ndarray of int, shape (n_features,)
        Field φ of each feature.
    real : dtype
        Precision of G, and of products with F.
    """

    variances: np.ndarray
    features: sp.csr_array | None
    fields: np.ndarray
    real: np.dtype = np.dtype(np.float64)

    def start(self) -> RowPrior:
        """Return the prior that the guesses give."""
        n_fields = int(self.fields.max(initial=-1)) + 1
        return RowPrior(np.zeros(len(self.variances)), 1 / self.variances, np.ones(n_fields))

    def draw(self, prior: RowPrior, Z: np.ndarray, G: np.ndarray, random: np.random.Generator,
             pool: Pool) -> tuple[RowPrior, np.ndarray, np.ndarray]:
        """Draw Λ, μ, G and κ in turn; return the prior, G (n_features, d) and F G."""
        K = prior.field_precision[self.fields]
        parts = self._parts(G, pool)
        D = Z - sum(parts) if parts else Z
        precision = self.draw_precision(D, G, K, random)
        mean = draw_mean(D, precision, random)
        prior = replace(prior, mean=mean, precision=precision)
        if not parts:
            return prior, G, np.zeros((1, len(mean)))
        G = G.copy()
        for number, (chosen, block) in enumerate(self._blocks):
            others = sum(parts[:number] + parts[number + 1:])
            drawn = draw_groups(block, Z - mean - others, precision, K[chosen], G[chosen], random,
                                pool)
            G[chosen] = drawn.astype(self.real)
            parts[number] = block.design.times(G[chosen], pool).astype(np.float64)
        self._kept["parts"] = G, parts
        kappa = draw_field_precisions(G, precision, self.fields, random)
        return replace(prior, field_precision=kappa), G, np.asarray(sum(parts))

    def _parts(self, G: np.ndarray, pool: Pool) -> list[np.ndarray]:
        """Return F G of each block, those of the G that was drawn last without a product."""
        drawn, parts = self._kept.get("parts", (None, []))
        if drawn is not None and np.array_equal(drawn, G):
            return list(parts)
        return [block.design.times(G[chosen], pool).astype(np.float64)
                for chosen, block in self._blocks]

    @cached_property
    def _kept(self) -> dict[str, Any]:
        return {}

    @cached_property
    def _blocks(self) -> list[tuple[np.ndarray, Shifted]]:
        """The features that are drawn together, and what solves for them.

        Small fields share a block, whose matrix is factored in each sweep; a large one has its own.
        """
        if self.features is None:
            return []
        packs: list[list[int]] = []
        room = 0
        for number, size in enumerate(np.bincount(self.fields)):
            if size > room:
                packs.append([])
                room = Shifted.most_dense
            packs[-1].append(number)
            room -= size
        columns = [np.flatnonzero(np.isin(self.fields, pack)) for pack in packs]
        return [(chosen, Shifted(Design.of(self.features[:, chosen], self.real).fine))
                for chosen in columns]

    def draw_precision(self, D: np.ndarray, G: np.ndarray, K: np.ndarray,
                       random: np.random.Generator) -> np.ndarray:
        """Draw λ, with μ integrated out."""
        n, d = D.shape
        T = np.einsum("uf,uf->f", D, D) - D.sum(axis=0) ** 2 / (n + 1) + K @ G ** 2
        rate = (T + NU * self.variances) / 2
        lam: np.ndarray = random.gamma((n + len(G) + NU) / 2, size=d) / rate
        return lam


def draw_noise_precision(n_cells: float, squares: float, variance: float, worth: float,
                         random: np.random.Generator) -> float:
    """Draw τ given N, S, v and ν."""
    return float(random.gamma((n_cells + worth) / 2) / ((squares + worth * variance) / 2))


def draw_mean(D: np.ndarray, precision: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draw μ given λ and the rows D = Z − F G."""
    n = len(D)
    mean: np.ndarray = D.sum(axis=0) / (n + 1) \
        + normal_rows(1, precision, random)[0] / np.sqrt(n + 1)
    return mean


def draw_groups(block: Shifted, Y: np.ndarray, precision: np.ndarray, K: np.ndarray,
                G: np.ndarray, random: np.random.Generator, pool: Pool) -> np.ndarray:
    """Draw G (n_features, d) given Y = Z − μ; a search for it starts at `G`."""
    F = block.design
    n_rows, n_features = F.shape
    noise = normal_rows(n_features, precision, random) / np.sqrt(K)[:, None]
    target = Y + normal_rows(n_rows, precision, random)
    drawn: np.ndarray = block.solve(target - F.times(noise, pool), G - noise, K, pool) + noise
    return drawn


def draw_field_precisions(G: np.ndarray, precision: np.ndarray, fields: np.ndarray,
                          random: np.random.Generator) -> np.ndarray:
    """Draw κ of every field, shape (n_fields,)."""
    sizes = np.bincount(fields)
    squares = np.bincount(fields, G ** 2 @ precision)
    kappa: np.ndarray = random.gamma((G.shape[1] * sizes + NU) / 2) / ((squares + NU) / 2)
    return kappa


def normal_rows(n: int, precision: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draw n rows of N(0, Λ⁻¹), shape (n, d)."""
    rows: np.ndarray = random.standard_normal((n, len(precision))) / np.sqrt(precision)
    return rows


def guessed_variances(variance: float, k: int, learns_bias: bool) -> np.ndarray:
    """Return v_f of k factors and, at the end, of a learned bias."""
    factors = np.full(k, np.sqrt(variance / k))
    return np.append(factors, variance) if learns_bias else factors


def fields_of(names: Sequence[str]) -> np.ndarray:
    """Return the field of each feature, numbered: the part of its name before "="."""
    fields = [name.partition("=")[0] for name in names]
    numbers = {field: number for number, field in enumerate(dict.fromkeys(fields))}
    return np.array([numbers[field] for field in fields], np.int64)


# -------------------------------------------------------------------- samples

class OptimisticScorer:
    """Scores of blocks of rows: the mean over samples plus `optimism` standard deviations."""

    def __init__(self, samples: Sequence[Any], optimism: float) -> None:
        self.samples, self.optimism = samples, optimism
        self.n_rows, self.n_items = samples[0].n_rows, samples[0].n_items

    def moved(self, change: Callable[[LinearScorer], LinearScorer]) -> OptimisticScorer:
        """Return the same of samples whose linear scores a change moves."""
        return OptimisticScorer([each.moved(change) for each in self.samples], self.optimism)

    def block(self, start: int, stop: int) -> np.ndarray:
        """Return the scores of rows start..stop, shape (stop - start, n_items)."""
        return self._of(scorer.block(start, stop) for scorer in self.samples)

    def rounding(self, start: int, stop: int) -> np.ndarray:
        """Return how far scores of a block may be from those of its cells.

        A mean moves by no more than the largest of what it is of, and a standard deviation by no
        more than √2 times as much.
        """
        each = [scorer.rounding(start, stop) for scorer in self.samples]
        rounding: np.ndarray = np.max(each, axis=0) * (2 + 2 * abs(self.optimism))
        return rounding

    def cells(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return the scores of cells, each computed alone."""
        return self._of(scorer.cells(rows, columns) for scorer in self.samples)

    def _of(self, scores: Iterable[np.ndarray]) -> np.ndarray:
        mean, std = mean_and_std(scores)
        return mean + self.optimism * std


def side_by_side(X: Sequence[np.ndarray]) -> np.ndarray:
    """Return S samples (n, k) as [X_1 | ... | X_S] / √S, shape (n, S k), and copy them once."""
    (n, k), real = X[0].shape, X[0].dtype
    joined = np.empty((n, len(X) * k), real)
    for number, part in enumerate(X):
        np.divide(part, real.type(np.sqrt(len(X))), out=joined[:, number * k:(number + 1) * k])
    return joined


def one_of(joined: np.ndarray, number: int, n_samples: int) -> np.ndarray:
    """Return X_s out of the result of `side_by_side`, shape (n, k)."""
    k = joined.shape[1] // n_samples
    root = joined.dtype.type(np.sqrt(n_samples))
    part: np.ndarray = joined[:, number * k:(number + 1) * k] * root
    return part


def mean_and_std(parts: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation over arrays of one shape (Welford 1962)."""
    mean, squares, n = np.zeros(1), np.zeros(1), 0
    for part in parts:
        n += 1
        away = part - mean
        mean = mean + away / n
        squares = squares + away * (part - mean)
    return mean, np.sqrt(squares / max(n - 1, 1))
