"""How samples of a factorization answer together: means, spreads, and new rows.

With S samples of vectors P_s, Q_s the mean score is itself a factorization, of width S k:

    (1/S) Σ_s P_s·Q_s = [P_1 | ... | P_S]/√S · [Q_1 | ... | Q_S]/√S

so that what serves one factorization serves many.  Only the spread needs them one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.ratings import Ratings
from mfcore.metrics.topk import Scorer
from mfcore.models.inputs import paired
from mfcore.models.problem import ProblemModel
from mfcore.models.rows import Folded, NewRows
from mfcore.objectives.bayesian import RowPrior
from mfcore.objectives.quadratic import RowSystems
from mfcore.objectives.samples import OptimisticScorer, mean_and_std, one_of, side_by_side
from mfcore.objectives.scores import LinearScorer, pair_scores
from mfcore.parallel import Pool
from mfcore.solvers.als import solve_exactly
from mfcore.solvers.gibbs import Sample, row_noise, sampled_rows


class SampledServing(ProblemModel):
    """Answers from samples side by side; see the head of the file.

    Fitted: `noise_precision_` (S,); `user_bias_samples_` (S, n_users) and, for items, alike;
    `user_prior_mean_` (S, d), `user_prior_precision_` (S, d) of a row of users, and so on.
    """

    noise_precision_: np.ndarray
    user_bias_samples_: np.ndarray | None
    item_bias_samples_: np.ndarray | None
    user_feature_bias_samples_: np.ndarray | None
    item_feature_bias_samples_: np.ndarray | None
    user_prior_mean_: np.ndarray
    user_prior_precision_: np.ndarray
    item_prior_mean_: np.ndarray
    item_prior_precision_: np.ndarray
    bias: str | None
    _optimism = 0.0

    def _publish_samples(self, samples: Sequence[Sample]) -> None:
        real, start = self._real, self._bias_start()
        self.noise_precision_ = np.array([sample.tau for sample in samples])
        for side, names, offset in (("user", ("P", "beta", "G", "g"), start),
                                    ("item", ("Q", "gamma", "H", "h"), 0.0)):
            X, bias, G, g = (np.stack([getattr(sample.at, name) for sample in samples])
                             for name in names)
            priors: list[RowPrior] = [getattr(sample, f"{side}s") for sample in samples]
            self._set(side, "factors", side_by_side(X))
            self._set(side, "prior_mean", np.stack([prior.mean for prior in priors]))
            self._set(side, "prior_precision", np.stack([prior.precision for prior in priors]))
            self._set(side, "bias_samples", bias - real.type(offset) if self._learns_bias else None)
            if self._learns_bias:
                self._set(side, "bias", bias.mean(axis=0, dtype=np.float64).astype(real)
                          - real.type(offset))
            self._set(side, "feature_bias_samples",
                      g if G.shape[1] and self._learns_bias else None)
            if G.shape[1]:
                self._set(side, "feature_factors", side_by_side(G))
                self._set(side, "feature_bias", g.mean(axis=0) if self._learns_bias else None)

    def _set(self, side: str, name: str, value: Any) -> None:
        setattr(self, f"{side}_{name}_", value)

    @property
    def n_samples_(self) -> int:
        """Number of samples kept, S."""
        return len(self.noise_precision_)

    def _sampled(self, side: str, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return vectors and biases of a side in one sample (biases fixed or zero: as held)."""
        X = one_of(getattr(self, f"{side}_factors_"), number, self.n_samples_)
        return X, self._biases(side, number, len(X))

    def _biases(self, side: str, number: int, n_rows: int) -> np.ndarray:
        samples, fixed = (getattr(self, f"{side}_{name}_") for name in ("bias_samples", "bias"))
        if samples is not None:
            bias: np.ndarray = samples[number]
            return bias
        return np.zeros(n_rows, self._real) if fixed is None else fixed

    # ------------------------------------------------------------------------ new rows

    def _fold_in_rows(self, ratings: Ratings, pool: Pool, features: Any = None) -> Folded:
        drawn = self._drawn(ratings, features, pool)
        X = side_by_side(np.stack([P for P, _ in drawn]))
        if self._learns_bias:
            bias = np.mean([bias for _, bias in drawn], axis=0, dtype=np.float64)
            return Folded(X, bias.astype(self._real))
        return Folded(X, None if self.bias is None else drawn[0][1])

    def _vectors_of_new(self, new: NewRows, pool: Pool) -> Folded:
        return self._fold_in_rows(self._ratings_of(new), pool, new.features)

    def _ratings_of(self, new: NewRows) -> Ratings:
        """Return the ratings of new users, empty ones where only features are known."""
        if new.ratings is not None:
            return new.ratings
        return Ratings(sp.csr_array((new.n_rows, self.n_items_), dtype=np.float32))

    def _drawn(self, ratings: Ratings, features: Any, pool: Pool
               ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Draw new users under each sample; return their vectors and biases.

        The noise of a sample is the same for every row, so that a row does not depend on
        those beside it, and turns its sign in the next sample.
        """
        F = self._completed("user", features, ratings)
        return [self._drawn_once(ratings, F, number, pool) for number in range(self.n_samples_)]

    def _drawn_once(self, ratings: Ratings, F: Any, number: int, pool: Pool
                    ) -> tuple[np.ndarray, np.ndarray]:
        Q, gamma = self._sampled("item", number)
        self._check_width(Q)
        start, fixed = self._bias_start(), self._row_bias(ratings)
        own = np.zeros(ratings.shape[0], self._real) if fixed is None else \
            fixed.astype(self._real)
        rows = RowSystems(self._cells(ratings, own, gamma), self._penalty(ratings, len(Q), start),
                          Q, self._solver_bias(gamma, 0.0, len(Q)), self.unknown_weight_,
                          self._learns_bias)
        prior = RowPrior(self.user_prior_mean_[number], self.user_prior_precision_[number])
        tau = float(self.noise_precision_[number])
        systems = sampled_rows(rows, prior, tau, *self._sampled_means("user", F, number))
        noise = self._noise("user", number, systems.n_free, pool) / self._real.type(np.sqrt(tau))
        P = np.zeros((len(own), Q.shape[1]), self._real)
        held = self._solver_bias(fixed, start, len(own))
        solve_exactly(systems, P, held, pool, np.repeat(noise, len(own), axis=0))
        return P, held - self._real.type(start) if self._learns_bias else own

    def _noise(self, side: str, number: int, d: int, pool: Pool) -> np.ndarray:
        """Return normal numbers (1, d) for one sample, which turn their sign in the next."""
        noise = row_noise((1, d), (("user", "item").index(side), number // 2), self._real, pool)
        is_paired = number < self.n_samples_ - self.n_samples_ % 2
        noise *= self._real.type(is_paired * (-1) ** number)
        return noise

    def _with_nobody(self, side: str, number: int, X: np.ndarray, bias: np.ndarray, pool: Pool
                     ) -> tuple[np.ndarray, np.ndarray]:
        """Return rows of one sample, and below them a draw of a row that nobody knows."""
        means, bias_means = self._sampled_means(side, None, number)
        mean, precision = (getattr(self, f"{side}_prior_{name}_")[number]
                           for name in ("mean", "precision"))
        z = mean + self._noise(side, number, len(mean), pool)[0] / np.sqrt(precision)
        k = self.n_factors
        beta = bias_means[0] + z[k] if self._learns_bias else 0.0
        return (np.vstack([X, (means + z[:k]).astype(X.dtype)]),
                np.append(bias, bias.dtype.type(beta)))

    def _sampled_means(self, side: str, F: Any, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return F G and F g of one sample; of the mean row where F is None."""
        G = getattr(self, f"{side}_feature_factors_")
        if G is None:
            return np.zeros((1, self.n_factors)), np.zeros(1)
        F = getattr(self, f"{side}_feature_mean_")[None] if F is None else F
        g = getattr(self, f"{side}_feature_bias_samples_")
        means = F @ one_of(G, number, self.n_samples_).astype(np.float64)
        return means, np.zeros(F.shape[0]) if g is None else F @ g[number].astype(np.float64)

    def _default_row(self, side: str) -> tuple[np.ndarray, float]:
        parts, biases = [], []
        for number in range(self.n_samples_):
            means, bias_means = self._sampled_means(side, None, number)
            mean = getattr(self, f"{side}_prior_mean_")[number]
            parts.append(means + mean[:self.n_factors])
            biases.append(bias_means[0] + (mean[-1] if self._learns_bias else 0.0))
        return side_by_side(np.stack(parts))[0].astype(self._real), float(np.mean(biases))

    # ------------------------------------------------------------------------ spreads

    def predict(self, users: Any, items: Any, *, ratings: Any = None, user_features: Any = None,
                return_std: bool = False) -> Any:
        """Return the mean scores of pairs, as in `MatrixFactorization`.

        Parameters
        ----------
        return_std : bool
            Return (scores, std): the standard deviation of the score over the samples.  A
            rating spreads by sqrt(std² + 1/τ), τ the mean of `noise_precision_`.
        """
        scores = super().predict(users, items, ratings=ratings, user_features=user_features)
        if not validation.boolean("return_std", return_std):
            return scores
        new = self._new_rows(ratings, user_features)
        rows, columns = paired(users, items)
        rows = self._user_positions(rows) if new is None else rows
        columns = self._item_positions(columns)
        with Pool(self.n_threads) as pool:
            parts = (self._pair_scores_of(number, rows, columns, *sample, pool)
                     for number, sample in enumerate(self._each(None, new, pool)))
            return scores, mean_and_std(parts)[1]

    def _pair_scores_of(self, number: int, rows: np.ndarray, columns: np.ndarray,
                        P: np.ndarray, beta: np.ndarray, Q: np.ndarray, gamma: np.ndarray,
                        pool: Pool) -> np.ndarray:
        """Return the scores of pairs in one sample, the mean left out; -1 is nobody's row."""
        P, beta = self._with_nobody("user", number, P, beta, pool)
        Q, gamma = self._with_nobody("item", number, Q, gamma, pool)
        return pair_scores(np.where(rows < 0, len(P) - 1, rows),
                           np.where(columns < 0, len(Q) - 1, columns), P, Q, beta, gamma, pool)

    def _each(self, rows: np.ndarray | None, new: NewRows | None, pool: Pool
              ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """Yield P, β, Q, γ of each sample; P of some rows, of all (None), or of new ones."""
        drawn = None if new is None else self._drawn(self._ratings_of(new), new.features, pool)
        for number in range(self.n_samples_):
            P, beta = self._sampled("user", number) if drawn is None else drawn[number]
            if rows is not None and drawn is None:
                P, beta = P[rows], beta[rows]
            yield P, beta, *self._sampled("item", number)

    def score_draws(self, users: Any, items: Any) -> np.ndarray:
        """Return the score of pairs of the fit in each sample, shape (n_samples, n_pairs).

        What `effective_sample_size`, `r_hat` (mfcore.metrics.convergence) and `plot_trace`
        look at.  Raises KeyError or IndexError for users or items that the fit did not know.
        """
        self._check_fitted()
        rows, columns = self._known_users(users), self._known_items(items)
        with Pool(self.n_threads) as pool:
            scores: np.ndarray = self.global_mean_ + np.array([
                pair_scores(rows, columns, P, Q, beta, gamma, pool)
                for P, beta, Q, gamma in self._each(None, None, pool)])
        return scores

    def recommend(self, users: Any = None, k: int = 10, *, optimism: float = 0.0,
                  **options: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the k best items of each user, as in `MatrixFactorization`.

        Parameters
        ----------
        optimism : float
            Rank by mean + optimism · standard deviation of the score: above 0 to explore
            what is uncertain, below 0 to be cautious.
        """
        validation.real("optimism", optimism)
        asked = copy(self)                     # (others may be asking at the same time)
        asked._optimism = float(optimism)
        return super(SampledServing, asked).recommend(users, k, **options)

    def _scorer(self, rows: np.ndarray | None, *, new: NewRows | None = None,
                similarity: str = "dot") -> Scorer:
        if self._optimism == 0 or similarity != "dot":
            return super()._scorer(rows, new=new, similarity=similarity)
        mean = self._real.type(self.global_mean_)
        with Pool(self.n_threads) as pool:
            samples = [LinearScorer(P, Q, beta + mean, gamma)
                       for P, beta, Q, gamma in self._each(rows, new, pool)]
        return OptimisticScorer(samples, self._optimism)

    # ------------------------------------------------------------- what has no answer

    def fold_in_items(self, ratings: Any = None, *, item_features: Any = None) -> Folded:
        """Raise NotImplementedError: only users are drawn anew."""
        self._check_fitted()
        raise NotImplementedError(f"{type(self).__name__} cannot fold in items: a new item is "
                                  f"learned by a fit")

    def partial_fit(self, ratings: Any, *, users: Any = None, user_features: Any = None) -> Any:
        """Raise NotImplementedError: a chain goes on with all its rows or not at all."""
        self._check_fitted()
        raise NotImplementedError(f"{type(self).__name__} cannot be refitted in part: "
                                  f"recommend(ratings=...) serves new rows, fit learns them")

    def explain(self, user: Any, item: Any, k: int = 10
                ) -> tuple[float, np.ndarray, np.ndarray]:
        """Raise NotImplementedError: a mean over samples is no sum over ratings."""
        self._check_fitted()
        raise NotImplementedError(f"{type(self).__name__} cannot explain its scores by ratings")

    def objective(self, ratings: Any = None) -> dict[str, float]:
        """Raise NotImplementedError: sampling minimises nothing."""
        self._check_fitted()
        raise NotImplementedError(f"{type(self).__name__} does not minimise the quadratic formula")
