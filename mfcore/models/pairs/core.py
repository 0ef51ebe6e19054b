"""How a network of pairs answers: blocks of scores, pairs, and vectors of new users."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mfcore.data.ratings import Ratings
from mfcore.metrics.fitted import Asked, Folded, NewRows, Query, Scorer
from mfcore.models.fitted import Unanswered, cosine_scorer, rows_of, with_default
from mfcore.models.pairs.fusion import Architecture, FixedItems, Tables, fixed_items, unflatten
from mfcore.models.sides import Row, Side
from mfcore.nn.layers import Layer, Linear
from mfcore.nn.losses import Loss
from mfcore.nn.network import NetworkScorer, network_scores
from mfcore.nn.parameters import Parameter
from mfcore.objectives.biases import row_bias
from mfcore.parallel import Pool
from mfcore.solvers.neural import TrainingCells, fold_in_by_adam


@dataclass(frozen=True)
class Network:
    """The answers of a network of pairs.

    shape, weights : the architecture, and all numbers of its head
    mean, scale : μ and σ; mean_rating : what fixed biases are measured from
        Biases of sides are in the unit of ratings, those of the network's tables in units of σ.
    bias : "learned", "mean" or None; reg, bias_reg : λ, λᵇ of new users
    loss, cells : the loss, and what makes cells of ratings, for new users
    """

    shape: Architecture
    users: Side
    items: Side
    weights: np.ndarray
    mean: float
    mean_rating: float
    scale: float
    bias: str | None
    reg: float
    bias_reg: float
    loss: Loss
    cells: Callable[[Ratings], TrainingCells]
    unanswered: Unanswered

    def vectors(self, asked: Asked, pool: Pool) -> Folded:
        """Return the vectors of users: see `mfcore.metrics.fitted.Fitted`."""
        if isinstance(asked, NewRows):
            return self.fold_in(asked, pool)
        return rows_of(self.users, asked, self._default(self.users))

    def scorer(self, asked: Asked, query: Query, pool: Pool) -> Scorer:
        """Return what scores users against all items."""
        users = self.vectors(asked, pool)
        if query.similarity == "cosine":
            return cosine_scorer(users, self.items)
        network = self._fixed_items.network(self.shape.side("user", *users, self.scale))
        return NetworkScorer(network, len(users.factors), len(self.items.factors), self.mean,
                             self.scale)

    def pairs(self, rows: np.ndarray, columns: np.ndarray, new: NewRows | None, pool: Pool
              ) -> np.ndarray:
        """Return what `predict` says of pairs; an unknown row has its bias alone."""
        users, counts = Folded(self.users.factors, self.users.bias), self.users.counts
        if new is not None:
            users, counts = self.fold_in(new, pool), new.counts
        user, item = self._default(self.users), self._default(self.items)
        P, beta, places = with_default(users, rows, user)
        Q, gamma, item_places = with_default(Folded(self.items.factors, self.items.bias),
                                             columns, item)
        network = self.shape.network(self.shape.side("user", P, beta, self.scale),
                                     self.shape.side("item", Q, gamma, self.scale), self._head())
        scores, known = np.full(len(rows), self.mean), (places >= 0) & (item_places >= 0)
        numbers = np.column_stack([places, item_places])
        scores[known] += self.scale * network_scores(network, numbers[known], pool, apart=True)
        for each, bias in ((places, beta), (item_places, gamma)):
            alone = ~known & (each >= 0)
            scores[alone] += bias[each[alone]]
        return self.unanswered.fill(scores, (rows, counts, user),
                                    (columns, self.items.counts, item))

    # ------------------------------------------------------------------------ new rows

    def fold_in(self, new: NewRows, pool: Pool) -> Folded:
        """Return the vectors of new users: their start, and steps on their ratings from there."""
        F = self.users.completed(new.features, new.ratings)
        factors, bias = self._means(self.users, F)
        if new.ratings is None:
            return self.users.from_features(factors, bias, self.items.factors.dtype)
        n = new.ratings.shape[0]
        if self.bias == "mean":
            bias = row_bias(new.ratings, self.mean_rating, 0.5)
        return self._stepped(new.ratings, np.broadcast_to(factors, (n, self.shape.width)),
                             np.broadcast_to(bias, n), pool)

    def _stepped(self, ratings: Ratings, factors: np.ndarray, bias: np.ndarray, pool: Pool
                 ) -> Folded:
        items = self._fixed_items

        def make(lo: int, hi: int) -> tuple[Layer, list[Parameter]]:
            users = self.shape.side("user", factors[lo:hi], bias[lo:hi], self.scale)
            if self.bias == "mean":
                users.tables[-1].frozen = True
            return items.network(users, self.reg, self.bias_reg), users.tables

        known = self.shape.side("user", self.users.factors, self.users.bias, self.scale)
        spreads = [float(table.value.std(axis=0).mean()) or 0.1 for table in known.tables]
        blocks = fold_in_by_adam(make, spreads, self.cells(ratings), self.loss, pool)
        users = Tables([Parameter("", block) for block in blocks])
        return Folded(*self.shape.published(users, self.scale))

    def _means(self, side: Side, F: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return mean(P) + (F − F̄) G and mean(b) + (F − F̄) g: an average row, but for its groups.

        What a network makes of a vector of zeros is nothing that it has learned.
        """
        mean = side.factors.mean(axis=0, dtype=np.float64)[None]
        bias_mean = np.zeros(1) if self.bias != "learned" else side.bias.mean(keepdims=True)
        if F is None or side.feature_factors is None:
            return mean, bias_mean
        means, bias_means = side.means(F, 0)
        average, bias_average = side.means(None, 0)
        return mean + means - average, bias_mean + bias_means - bias_average

    def _default(self, side: Side) -> Row | None:
        """Return the vector of an unknown row: an average one where there are groups."""
        if side.feature_factors is None:
            return None
        means, bias_means = self._means(side, None)
        return Row(means[0], float(bias_means[0]))

    # -------------------------------------------------------------------- the network

    @cached_property
    def _fixed_items(self) -> FixedItems:
        head = self._head()
        items = self.shape.side("item", self.items.factors, self.items.bias, self.scale)
        return fixed_items(self.shape, items, head)

    def _head(self) -> list[Linear]:
        return unflatten(self.weights, self.shape.head(np.random.default_rng(0)))
