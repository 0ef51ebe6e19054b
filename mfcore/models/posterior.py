"""Models with a posterior of each user's code: its variance, and draws from it."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import numpy as np

from mfcore import validation
from mfcore.data.ratings import Ratings
from mfcore.models.autoencoding import ROWS
from mfcore.models.base import Folded
from mfcore.models.choices import ChoiceAutoencoder
from mfcore.models.rows import NewRows
from mfcore.nn.autoencoder import Variational
from mfcore.parallel import Pool, row_chunks


class Posterior(NamedTuple):
    """What a model holds possible of users: means and variances of codes, (n, k)."""

    mean: np.ndarray
    variance: np.ndarray


class VariationalAutoencoder(ChoiceAutoencoder):
    """Models with a posterior: N(μ_u, e^ℓ_u) for the code of each row."""

    _sample: Any = None

    def _network(self, shape: tuple[int, int], random: np.random.Generator | None
                 ) -> Variational:
        """Return the network for ratings of a shape; None: its numbers are to be replaced."""
        raise NotImplementedError

    def _learned(self) -> Variational:
        network = super()._learned()
        if not isinstance(network, Variational):
            raise TypeError(f"{type(self).__name__} needs a variational network")
        return network

    def posterior(self, users: Any = None, *, ratings: Any = None) -> Posterior:
        """Return mean and variance of the codes of users.

        Parameters
        ----------
        users : ids, or None for all users of the fit
        ratings : Ratings or scipy sparse, shape (n, n_items), or None
            New users' rows; `users` must then be None.

        Notes
        -----
        The variance of code z_uf is the model's own, e^ℓ_uf: what the row leaves open of the
        user's taste under the likelihood and the weight β that it was trained with.  With
        β < 1 it is smaller than a Bayesian's.
        """
        self._check_fitted()
        if users is not None and ratings is not None:
            raise ValueError("users must be None where ratings are given: all their rows are "
                             "answered")
        new = self._new_rows(ratings, None)
        rows = None if new is not None else \
            np.arange(self.n_users_) if users is None else self._known_users(users)
        with Pool(self.n_threads) as pool:
            return self._posterior(self._rows_of(rows, new), pool)

    def recommend(self, users: Any = None, k: int = 10, *, sample: Any = None, **options: Any
                  ) -> tuple[np.ndarray, np.ndarray]:
        """Return the k best items of each user, best first.

        Parameters
        ----------
        sample : int, Generator, or None
            None ranks by the score at the mean code.  A seed ranks by the score at one draw
            from each user's posterior: other seeds give other lists, the more so the less a
            row says (Thompson sampling).

        The rest as in every model: see `MatrixFactorization.recommend`.
        """
        model = self
        if sample is not None:
            model = copy.copy(self)
            model._sample = validation.random_generator("sample", sample)
        return super(VariationalAutoencoder, model).recommend(users, k, **options)

    def _rows_of(self, rows: np.ndarray | None, new: NewRows | None) -> Ratings:
        if new is not None and new.ratings is not None:
            return new.ratings
        self._check_seen()
        return Ratings(self._seen_rows(np.asarray(rows)), copy=False)

    def _posterior(self, ratings: Ratings, pool: Pool) -> Posterior:
        network, X = self._learned(), self._inputs(ratings)
        parts = [network.posterior(X[start:stop], pool) for start, stop
                 in row_chunks(X.shape[0], ROWS) or [(0, 0)]]
        mean, log_variance = (np.concatenate(each) for each in zip(*parts, strict=True))
        return Posterior(mean, np.exp(log_variance))

    def _vectors(self, rows: np.ndarray | None, new: NewRows | None, pool: Pool) -> Folded:
        if self._sample is None:
            return super()._vectors(rows, new, pool)
        mean, variance = self._posterior(self._rows_of(rows, new), pool)
        draw = self._sample.standard_normal(mean.shape).astype(mean.dtype)
        return Folded(mean + np.sqrt(variance) * draw, None)
