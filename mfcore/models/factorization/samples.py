"""How samples of a factorization answer together: means, spreads, and new rows.

With S samples of vectors P_s, Q_s the mean score is itself a factorization, of width S k:

    (1/S) Σ_s P_s·Q_s = [P_1 | ... | P_S]/√S · [Q_1 | ... | Q_S]/√S

so that what serves one factorization serves many.  Only the spread needs them one by one, and
ordinal ratings: what is averaged there is not the score but the rating expected at it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from mfcore.data.ratings import Ratings
from mfcore.metrics.fitted import Asked, Folded, NewRows, Query, Scorer
from mfcore.models.factorization.core import Core, Penalties, periods_to_learn, strongest
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


def begin(model: Any, observed: ExplicitRatings, ratings: Ratings, sides: Sides,
          random: np.random.Generator, kept: frozenset[int], levels: Any = None) -> Start:
    """Return where a chain begins, and what draws it; levels (K,) of ratings, or None."""
    core = Core(observed, Penalties(), model.n_factors)
    at = core.drawn(sides, random, INIT_SCALE, None)
    gibbs = _sampler(core, ratings, sides, kept, int(random.integers(2**62)), levels)
    gibbs.block_size = None if model.solver == "cholesky" else model.block_size

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


class Drawn(Folded):
    """Vectors of rows under all samples, side by side, and the means of their biases.

    bias_samples : ndarray, shape (S, n), or None where biases are not drawn
    """

    bias_samples: np.ndarray | None = None


class _Given(NamedTuple):
    """Rows of a side that are to be drawn: what is known of them, and what draws lean on."""

    side: SampledSide
    other: SampledSide
    ratings: Ratings
    features: Any
    fixed: np.ndarray | None
    penalty: Penalty
    starts: tuple[float, float]
    numbers: np.ndarray | None

    @classmethod
    def of(cls, sampled: Sampled, side: SampledSide, new: NewRows) -> _Given:
        """Return what is given of new rows."""
        core = sampled.core
        other = sampled.items if side is sampled.users else sampled.users
        ratings = new.known(len(other.factors))
        F = side.completed(new.features, ratings)
        core.check_width(one_of(other.factors, 0, len(sampled.tau)))
        penalty = core.penalty(ratings, len(other.factors), side.name)
        starts = core.start_of(side.name), core.start_of(other.name)
        return cls(side, other, ratings, F, core.observed.row_bias(ratings), penalty, starts,
                   new.numbers)


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

    waits: ClassVar[bool] = True

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

    def fold_in(self, new: NewRows, pool: Pool) -> Drawn:
        """Return the vectors of new users, drawn under each sample."""
        return self._folded(self.users, new, pool)

    def fold_columns(self, new: NewRows, pool: Pool) -> Drawn:
        """Return those of items, rows whose columns are the users."""
        return self._folded(self.items, new, pool)

    def _folded(self, side: SampledSide, new: NewRows, pool: Pool) -> Drawn:
        vectors, biases = zip(*self._drawn(side, new, pool), strict=True)
        X, real = side_by_side(vectors), self.core.observed.real
        if not self.core.observed.learns_bias:
            return Drawn(X, None if side.bias is None else biases[0])
        drawn = Drawn(X, np.mean(biases, axis=0, dtype=np.float64).astype(real))
        drawn.bias_samples = np.stack(biases)
        return drawn

    def _drawn(self, side: SampledSide, new: NewRows, pool: Pool
               ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Draw rows of a side under each sample; return their vectors and biases.

        Rows that only ask share the noise of a sample, so that none depends on the others; rows
        that stay have their own, as in the chain.  It changes its sign in the next sample.
        """
        given = _Given.of(self, side, new)
        return [self._drawn_once(given, number, pool) for number in range(len(self.tau))]

    def _drawn_once(self, given: _Given, number: int, pool: Pool) -> tuple[np.ndarray, np.ndarray]:
        systems, held = self._systems(given, number)
        observed, n, side = self.core.observed, len(held), given.side
        noise = self._noise(side, number, (1 if given.numbers is None else n, systems.n_free), pool)
        noise = np.broadcast_to(noise / observed.real.type(np.sqrt(self.tau[number])),
                                (n, systems.n_free))
        P = np.zeros((n, systems.Q.shape[1]), observed.real)
        if self.levels is not None:
            from mfcore.solvers.ordinal import latent_rows

            drift, ratings = self.core.drift, given.ratings
            known = None if drift is None else drift.of_cells(ratings, side.name, given.numbers)
            systems = latent_rows(systems, self.levels.numbers_of(ratings),
                                  self.levels.cuts[number], number, P, held, pool,
                                  0.0 if known is None else known)
        solve_exactly(systems, P, held, pool, np.ascontiguousarray(noise))
        if observed.learns_bias:
            return P, held - observed.real.type(given.starts[0])
        return P, self._own_bias(given)

    def _systems(self, given: _Given, number: int) -> tuple[RowSystems, np.ndarray]:
        """Return the row systems of rows under one sample, and their bias column as held."""
        observed, drift, side = self.core.observed, self.core.drift, given.side
        Q, gamma = self._sample(given.other, number)
        cells = observed.cells(given.ratings, self._own_bias(given), gamma)
        held = observed.held(given.fixed, given.starts[0], given.ratings.shape[0])
        frozen = observed.held(gamma, given.starts[1], len(Q))
        if drift is not None:
            cells = drift.shifted(cells, given.ratings, side.name, observed.w0, given.numbers)
        rows = RowSystems(cells, given.penalty, Q, frozen, observed.w0, observed.learns_bias)
        prior = RowPrior(side.prior_mean[number], side.prior_precision[number])
        return sampled_rows(rows, prior, float(self.tau[number]),
                            *self._means(side, given.features, number)), held

    def _own_bias(self, given: _Given) -> np.ndarray:
        n, real = given.ratings.shape[0], self.core.observed.real
        return np.zeros(n, real) if given.fixed is None else given.fixed.astype(real)

    def explain(self, ratings: Ratings, row: int, column: int, k: int
                ) -> tuple[float, np.ndarray, np.ndarray]:
        """Return the score of a pair, and the rated columns that contribute most, with shares.

        They are means over the samples, in each of which the mean of the user's vector given the
        items is linear in the user's ratings.
        """
        pool, parts = Pool(1), []
        new = NewRows(ratings.select_users([row]), None, np.array([row]))
        given = _Given.of(self, self.users, new)
        for number in range(len(self.tau)):
            systems, held = self._systems(given, number)
            columns, found = systems.contributions(0, held[0], column, pool)
            parts.append(found)
        score = self.pairs(np.array([row]), np.array([column]), None, pool)[0]
        return float(score), *strongest(columns, np.mean(parts, axis=0), k)

    def _noise(self, side: SampledSide, number: int, shape: tuple[int, int], pool: Pool
               ) -> np.ndarray:
        """Return normal numbers for one sample, which change their sign in the next."""
        S, real = len(self.tau), self.core.observed.real
        noise = row_noise(shape, (int(side.name == "item"), number // 2), real, pool)
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

    def spread(self, rows: np.ndarray, columns: np.ndarray, new: NewRows | None,
               effects: np.ndarray | float, pool: Pool) -> np.ndarray:
        """Return the standard deviation of the scores of pairs over the samples.

        effects : of periods in each sample, shape (S, n_pairs), or of all samples
        """
        return mean_and_std(self._of_samples(rows, columns, new, pool, effects))[1]

    def _of_samples(self, rows: np.ndarray, columns: np.ndarray, new: NewRows | None, pool: Pool,
                    effects: np.ndarray | float = 0.0) -> Iterator[np.ndarray]:
        """Yield the scores of pairs in each sample, or the ratings expected in it."""
        effects = np.broadcast_to(effects, (len(self.tau), len(rows)))
        for number, sample in enumerate(self._each(new, pool)):
            s = self._pair_scores_of(number, rows, columns, *sample, pool) + effects[number]
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
        z = mean + self._noise(side, number, (1, len(mean)), pool)[0] / np.sqrt(precision)
        k = self.core.n_factors
        beta = bias_means[0] + z[k] if self.core.observed.learns_bias else 0.0
        return (np.vstack([X, (means + z[:k]).astype(X.dtype)]),
                np.append(bias, bias.dtype.type(beta)))

    def _each(self, asked: Any, pool: Pool
              ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """Yield P, β, Q, γ of each sample; P of some rows, of all (None), or of new ones."""
        drawn = self._drawn(self.users, asked, pool) if isinstance(asked, NewRows) else None
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
