"""How samples of a factorization answer together: means, spreads, and new rows.

With S samples of vectors P_s, Q_s the mean score is itself a factorization, of width S k:

    (1/S) Σ_s P_s·Q_s = [P_1 | ... | P_S]/√S · [Q_1 | ... | Q_S]/√S

so that what serves one factorization serves many.  Only the spread needs them one by one, and
ordinal ratings: what is averaged there is not the score but the rating expected at it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mfcore import validation
from mfcore.data.ratings import Ratings
from mfcore.metrics.fitted import Asked, Folded, NewRows, Query, Scorer
from mfcore.models.factorization.core import Core, Penalties, drift_of, periods_to_learn
from mfcore.models.factorization.observations import ExplicitRatings
from mfcore.models.fitted import Linear
from mfcore.models.sides import FeaturedSide, Row, Sides
from mfcore.models.training import Start
from mfcore.objectives.bayesian import (
    Hyper,
    OptimisticScorer,
    RowPrior,
    fields_of,
    guessed_variances,
    mean_and_std,
    one_of,
    side_by_side,
)
from mfcore.objectives.factors import LinearScorer, pair_scores
from mfcore.objectives.penalty import Penalty, counted_cells
from mfcore.objectives.quadratic import RowSystems
from mfcore.parallel import Pool
from mfcore.solvers.als import solve_exactly
from mfcore.solvers.gibbs import Gaussian, Gibbs, Likelihood, row_noise, sampled_rows

INIT_SCALE = 1.0


@dataclass(eq=False)
class SampledSide(FeaturedSide):
    """A side of a sampled factorization.

    bias_samples : ndarray, shape (S, n_rows), or None
    feature_bias_samples : the same of features
    prior_mean, prior_precision : ndarray, shape (S, d)
        Of a row without features, d = k, or k + 1 where biases are learned.
    """

    bias_samples: np.ndarray | None = None
    feature_bias_samples: np.ndarray | None = None
    prior_mean: Any = None
    prior_precision: Any = None

    parts = (*FeaturedSide.parts, "bias_samples", "feature_bias_samples", "prior_mean",
             "prior_precision")

    def sample(self, number: int, S: int, real: np.dtype) -> tuple[np.ndarray, np.ndarray]:
        """Return vectors and biases in one of S samples (biases fixed or zero: as held)."""
        X = one_of(self.factors, number, S)
        if self.bias_samples is not None:
            return X, self.bias_samples[number]
        return X, np.zeros(len(X), real) if self.bias is None else self.bias

    def sampled_means(self, F: Any, number: int, S: int, k: int
                      ) -> tuple[np.ndarray, np.ndarray]:
        """Return F G and F g of one sample; of the mean row where F is None."""
        if self.feature_factors is None:
            return np.zeros((1, k)), np.zeros(1)
        F = np.asarray(self.feature_mean)[None] if F is None else F
        means = F @ one_of(self.feature_factors, number, S).astype(np.float64)
        g = self.feature_bias_samples
        return means, np.zeros(F.shape[0]) if g is None else F @ g[number].astype(np.float64)

    def publish(self, blocks: Sequence[tuple[Any, ...]], priors: Sequence[RowPrior],
                learns_bias: bool, start: float) -> None:
        """Put samples of X, bias, G and g in place, and their priors."""
        X, biases, G, gs = zip(*blocks, strict=True)
        bias, g, real = np.stack(biases), np.stack(gs), X[0].dtype
        self.factors = side_by_side(X)
        self.prior_mean = np.stack([prior.mean for prior in priors])
        self.prior_precision = np.stack([prior.precision for prior in priors])
        if learns_bias:
            self.bias_samples = bias - real.type(start)
            self.bias = bias.mean(axis=0, dtype=np.float64).astype(real) - real.type(start)
        if len(G[0]):
            self.feature_factors = side_by_side(G)
            self.feature_bias = g.mean(axis=0) if learns_bias else None
            self.feature_bias_samples = g if learns_bias else None


def check_sweeps(model: Any) -> None:
    """Raise for sweeps that leave nothing to keep."""
    validation.integer("burn_in", model.burn_in, low=0, high=model.n_epochs - 1)
    validation.integer("keep", model.keep, low=1, high=model.n_epochs - model.burn_in)


def begin(model: Any, observed: ExplicitRatings, ratings: Ratings, sides: Sides,
          random: np.random.Generator, kept: frozenset[int], levels: Any = None) -> Start:
    """Return where a chain begins, and what draws it; levels (K,) of ratings, or None."""
    core = Core(observed, Penalties(), model.n_factors)
    at = core.drawn(sides, random, INIT_SCALE, None)
    gibbs = _sampler(core, ratings, sides, kept, int(random.integers(2**62)), levels)

    def publish(at: Any) -> None:
        samples = gibbs.samples or [gibbs.sample(at)]
        model.noise_precision_ = np.array([sample.noise.tau for sample in samples])
        model.cut_points_ = None if levels is None else np.array([sample.noise.cuts
                                                                  for sample in samples])
        learns, start = observed.learns_bias, observed.start
        sides.users.publish([sample.at.of_users for sample in samples],
                            [sample.users for sample in samples], learns, start)
        sides.items.publish([sample.at.of_items for sample in samples],
                            [sample.items for sample in samples], learns, 0.0)

    start = Start(gibbs, at, publish)
    drift = periods_to_learn(model, ratings, in_noise=levels is not None)
    return start if drift is None else drift.start(model, start)


def _sampler(core: Core, ratings: Ratings, sides: Sides, kept: frozenset[int], seed: int,
             levels: Any) -> Gibbs:
    w0 = core.observed.w0
    variance = core.observed.unit ** 2
    guesses = guessed_variances(variance, core.n_factors, core.observed.learns_bias)
    users, items = (Hyper(guesses, None if side.features is None else side.features.matrix,
                          fields_of(side.feature_names or ()), core.observed.real)
                    for side in sides)
    n_cells = float(np.prod(ratings.shape)) if w0 > 0 else float(counted_cells(ratings).sum())
    problem = core.problem(ratings, sides)
    likelihood: Likelihood = Gaussian(n_cells, variance)
    if levels is not None:
        from mfcore.solvers.ordinal import Ordinal

        likelihood = Ordinal.of(problem.by_user, ratings.shape[1], levels)
    return Gibbs(problem, users, items, likelihood, kept, seed)


def answers_of(model: Any, observed: ExplicitRatings) -> Sampled:
    """Return the answers of a fitted model."""
    levels = None
    if model.cut_points_ is not None:
        from mfcore.objectives.ordinal import Levels

        levels = Levels(model.levels_, model.cut_points_)
    drift = None if model.periods_ is None else drift_of(model)
    return Sampled(Core(observed, Penalties(), model.n_factors, drift), model.users_, model.items_,
                   model.noise_precision_, levels)


@dataclass(frozen=True)
class Sampled:
    """The answers of samples side by side; see the head of the file.

    tau : ndarray, shape (S,), the noise precision of each sample
    levels : Levels of ordinal ratings, or None
    """

    core: Core
    users: SampledSide
    items: SampledSide
    tau: np.ndarray
    levels: Any = None

    @property
    def drift(self) -> Any:
        """Effects of periods, or None."""
        return self.core.drift

    @property
    def mean(self) -> Linear:
        """The factorization whose scores are the mean scores."""
        return Linear(self.users, self.items, self.core.observed.mean, self.fold_in,
                      self.default_row)

    def vectors(self, asked: Asked, pool: Pool) -> Folded:
        """Return the vectors of users, samples side by side."""
        return self.mean.vectors(asked, pool)

    def pairs(self, rows: np.ndarray, columns: np.ndarray, new: NewRows | None, pool: Pool
              ) -> np.ndarray:
        """Return the mean scores of pairs, or the ratings expected."""
        if self.levels is None:
            return self.mean.pairs(rows, columns, new, pool)
        return mean_and_std(self._of_samples(rows, columns, new, pool))[0]

    def pairs_in_time(self, rows: np.ndarray, columns: np.ndarray, new: NewRows | None,
                      effects: np.ndarray, pool: Pool) -> np.ndarray:
        """Return the same with effects of periods in the scores."""
        if self.levels is None:
            scores: np.ndarray = self.mean.pairs(rows, columns, new, pool) + effects
            return scores
        return mean_and_std(self._of_samples(rows, columns, new, pool, effects))[0]

    def probabilities(self, rows: np.ndarray, columns: np.ndarray, new: NewRows | None,
                      effects: np.ndarray | float, pool: Pool) -> np.ndarray:
        """Return the probability of each level, shape (n_pairs, K), with effects of periods."""
        return mean_and_std(
            self.levels.probabilities(number, effects + self._pair_scores_of(
                number, rows, columns, *sample, pool))
            for number, sample in enumerate(self._each(new, pool)))[0]

    def scorer(self, asked: Asked, query: Query, pool: Pool) -> Scorer:
        """Return what scores users against all items: by the mean, or with optimism."""
        if query.similarity != "dot" or (query.optimism == 0 and self.levels is None):
            return self.mean.scorer(asked, query, pool)
        mean = self.core.observed.real.type(self.core.observed.mean)
        scorers: list[Any] = [LinearScorer(P, Q, beta + mean, gamma) for P, beta, Q, gamma
                              in self._each(asked, pool)]
        if self.levels is not None:
            scorers = [self.levels.scorer(number, scorer, query.at_least)
                       for number, scorer in enumerate(scorers)]
        return OptimisticScorer(scorers, query.optimism)

    # ------------------------------------------------------------------------ new rows

    def fold_in(self, new: NewRows, pool: Pool) -> Folded:
        """Return the vectors of new users, drawn under each sample."""
        drawn, observed = self._drawn(new, pool), self.core.observed
        X = side_by_side([P for P, _ in drawn])
        if observed.learns_bias:
            bias = np.mean([bias for _, bias in drawn], axis=0, dtype=np.float64)
            return Folded(X, bias.astype(observed.real))
        return Folded(X, None if self.users.bias is None else drawn[0][1])

    def _drawn(self, new: NewRows, pool: Pool) -> list[tuple[np.ndarray, np.ndarray]]:
        """Draw new users under each sample; return their vectors and biases.

        The noise of a sample is the same for every row, so that a row does not depend on the
        others, and changes its sign in the next sample.
        """
        ratings, observed = new.known(len(self.items.factors)), self.core.observed
        F = self.users.completed(new.features, ratings)
        self.core.check_width(one_of(self.items.factors, 0, len(self.tau)))
        penalty = self.core.penalty(ratings, len(self.items.factors), "user")
        fixed = observed.row_bias(ratings)
        return [self._drawn_once(ratings, fixed, penalty, F, number, pool)
                for number in range(len(self.tau))]

    def _drawn_once(self, ratings: Ratings, fixed: np.ndarray | None, penalty: Penalty, F: Any,
                    number: int, pool: Pool) -> tuple[np.ndarray, np.ndarray]:
        observed, tau, n = self.core.observed, float(self.tau[number]), ratings.shape[0]
        own = np.zeros(n, observed.real) if fixed is None else fixed.astype(observed.real)
        Q, gamma = self._sample(self.items, number)
        cells, drift = observed.cells(ratings, own, gamma), self.core.drift
        if drift is not None:
            cells = drift.shifted(cells, ratings, "user", observed.w0)
        rows = RowSystems(cells, penalty, Q,
                          observed.held(gamma, 0.0, len(Q)), observed.w0, observed.learns_bias)
        held = observed.held(fixed, observed.start, n)
        prior = RowPrior(self.users.prior_mean[number], self.users.prior_precision[number])
        systems = sampled_rows(rows, prior, tau, *self._means(self.users, F, number))
        noise = self._noise(self.users, number, systems.n_free, pool) \
            / observed.real.type(np.sqrt(tau))
        P = np.zeros((n, Q.shape[1]), observed.real)
        if self.levels is not None:
            from mfcore.solvers.ordinal import latent_rows

            levels = self.levels.numbers_of(ratings)
            known = None if drift is None else drift.of_columns(ratings, "user")
            systems = latent_rows(systems, levels, self.levels.cuts[number], number, P, held, pool,
                                  0.0 if known is None else known)
        solve_exactly(systems, P, held, pool, np.repeat(noise, n, axis=0))
        return P, held - observed.real.type(observed.start) if observed.learns_bias else own

    def _noise(self, side: SampledSide, number: int, d: int, pool: Pool) -> np.ndarray:
        """Return normal numbers (1, d) for one sample, which change their sign in the next."""
        S, real = len(self.tau), self.core.observed.real
        noise = row_noise((1, d), (int(side.name == "item"), number // 2), real, pool)
        noise *= real.type((number < S - S % 2) * (-1) ** number)
        return noise

    def default_row(self, side: SampledSide) -> Row:
        """Return vector and bias of a row that nobody knows: the mean of its prior."""
        parts, biases, k = [], [], self.core.n_factors
        for number, mean in enumerate(side.prior_mean):
            means, bias_means = self._means(side, None, number)
            parts.append(means + mean[:k])
            biases.append(bias_means[0] + (mean[-1] if self.core.observed.learns_bias else 0.0))
        vector = side_by_side(parts)[0].astype(self.core.observed.real)
        return Row(vector, float(np.mean(biases)))

    # ------------------------------------------------------------------------ spreads

    def spread(self, rows: np.ndarray, columns: np.ndarray, new: NewRows | None, pool: Pool
               ) -> np.ndarray:
        """Return the standard deviation of the scores of pairs over the samples."""
        return mean_and_std(self._of_samples(rows, columns, new, pool))[1]

    def _of_samples(self, rows: np.ndarray, columns: np.ndarray, new: NewRows | None, pool: Pool,
                    effects: np.ndarray | float = 0.0) -> Iterator[np.ndarray]:
        """Yield the scores of pairs in each sample, or the ratings expected in it."""
        for number, sample in enumerate(self._each(new, pool)):
            s = self._pair_scores_of(number, rows, columns, *sample, pool) + effects
            yield s if self.levels is None else self.levels.expected(number, s)

    def draws(self, rows: np.ndarray, columns: np.ndarray, pool: Pool) -> np.ndarray:
        """Return the scores of pairs of the fit in each sample, shape (S, n_pairs)."""
        return self.core.observed.mean + np.array(list(self._of_samples(rows, columns, None, pool)))

    def _pair_scores_of(self, number: int, rows: np.ndarray, columns: np.ndarray,
                        P: np.ndarray, beta: np.ndarray, Q: np.ndarray, gamma: np.ndarray,
                        pool: Pool) -> np.ndarray:
        """Return the scores of pairs in one sample, the mean left out; -1 is nobody's row."""
        P, beta = self._with_nobody(self.users, number, P, beta, pool)
        Q, gamma = self._with_nobody(self.items, number, Q, gamma, pool)
        return pair_scores(np.where(rows < 0, len(P) - 1, rows),
                           np.where(columns < 0, len(Q) - 1, columns), P, Q, beta, gamma, pool)

    def _with_nobody(self, side: SampledSide, number: int, X: np.ndarray, bias: np.ndarray,
                     pool: Pool) -> tuple[np.ndarray, np.ndarray]:
        """Return rows of one sample, and below them a draw of a row that nobody knows."""
        means, bias_means = self._means(side, None, number)
        mean, precision = side.prior_mean[number], side.prior_precision[number]
        z = mean + self._noise(side, number, len(mean), pool)[0] / np.sqrt(precision)
        k = self.core.n_factors
        beta = bias_means[0] + z[k] if self.core.observed.learns_bias else 0.0
        return (np.vstack([X, (means + z[:k]).astype(X.dtype)]),
                np.append(bias, bias.dtype.type(beta)))

    def _each(self, asked: Any, pool: Pool
              ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """Yield P, β, Q, γ of each sample; P of some rows, of all (None), or of new ones."""
        drawn = self._drawn(asked, pool) if isinstance(asked, NewRows) else None
        for number in range(len(self.tau)):
            P, beta = self._sample(self.users, number) if drawn is None else drawn[number]
            if asked is not None and drawn is None:
                P, beta = self._with_nobody(self.users, number, P, beta, pool)
                P, beta = P[asked], beta[asked]                 # (-1: nobody, the last)
            yield P, beta, *self._sample(self.items, number)

    def _sample(self, side: SampledSide, number: int) -> tuple[np.ndarray, np.ndarray]:
        return side.sample(number, len(self.tau), self.core.observed.real)

    def _means(self, side: SampledSide, F: Any, number: int) -> tuple[np.ndarray, np.ndarray]:
        return side.sampled_means(F, number, len(self.tau), self.core.n_factors)
