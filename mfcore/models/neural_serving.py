"""How a network of pairs answers: blocks of scores, pairs, and vectors of new users."""

from __future__ import annotations

from typing import Any

import numpy as np

from mfcore.data.ratings import Ratings
from mfcore.metrics.topk import Scorer
from mfcore.models.base import Folded
from mfcore.models.fusion import Architecture, Side, unflatten
from mfcore.models.grouped import GroupedModel
from mfcore.nn.layers import Layer, Linear
from mfcore.nn.losses import Loss
from mfcore.nn.parameters import Parameter
from mfcore.nn.scoring import NetworkScorer, network_scores
from mfcore.objectives.biases import row_bias
from mfcore.parallel import Pool
from mfcore.solvers.neural import Cells, fold_in


class NeuralServing(GroupedModel):
    """Answers from the vectors, biases and `weights_` of a network of pairs."""

    bias: str | None
    weights_: np.ndarray

    def _architecture(self) -> Architecture:
        raise NotImplementedError

    def _network(self, users: Side, items: Side, head: list[Linear]) -> Layer:
        raise NotImplementedError

    def _cells(self, ratings: Ratings) -> Cells:
        raise NotImplementedError

    @property
    def _loss(self) -> Loss:
        raise NotImplementedError

    def _served(self, users: Folded, items: Folded | None = None) -> Layer:
        """Return the network of users with these vectors, and items (None: all of the fit)."""
        shape, head = self._architecture(), self._learned_head()
        return shape.network(shape.side("user", *users), shape.side(
            "item", *(items or Folded(self.item_factors_, self.item_bias_))), head)

    def _score_blocks(self, users: Folded) -> Scorer:
        return NetworkScorer(self._served(users), len(users.factors), self.n_items_,
                             self.global_mean_)

    def _score_pairs(self, rows: np.ndarray, columns: np.ndarray, users: Folded, pool: Pool
                     ) -> np.ndarray:
        P, beta, rows = self._with_default("user", users, rows)
        Q, gamma, columns = self._with_default(
            "item", Folded(self.item_factors_, self.item_bias_), columns)
        scores, network = np.full(len(rows), self.global_mean_), \
            self._served(Folded(P, beta), Folded(Q, gamma))
        known = (rows >= 0) & (columns >= 0)
        scores[known] += network_scores(network, np.column_stack([rows, columns])[known], pool)
        for places, bias in ((rows, beta), (columns, gamma)):
            alone = ~known & (places >= 0)
            scores[alone] += bias[places[alone]]
        return scores

    # ------------------------------------------------------------------------ new rows

    def _group_means(self, side: str, F: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return mean(P) + (F − F̄) G and mean(b) + (F − F̄) g: an average row, but for its groups.

        What a network makes of a vector of zeros is nothing that it has learned.
        """
        P, bias = (getattr(self, f"{side}_{name}_") for name in ("factors", "bias"))
        mean = P.mean(axis=0, dtype=np.float64)[None]
        bias_mean = np.zeros(1) if self.bias != "learned" else bias.mean(keepdims=True)
        if F is None or getattr(self, f"{side}_feature_factors_") is None:
            return mean, bias_mean
        means, bias_means = super()._group_means(side, F)
        average, bias_average = super()._group_means(side, None)
        return mean + means - average, bias_mean + bias_means - bias_average

    def _fold_in_rows(self, ratings: Ratings, pool: Pool, features: Any = None) -> Folded:
        shape, head, n = self._architecture(), self._learned_head(), ratings.shape[0]
        items = shape.side("item", self.item_factors_, self.item_bias_)
        for each in (*items.parameters(), *(p for layer in head for p in layer.parameters())):
            each.frozen = True
        factors, bias = self._group_means("user", self._completed("user", features, ratings))
        if self.bias == "mean":
            bias = row_bias(ratings, self.mean_rating_, 0.5)
        factors, bias = np.broadcast_to(factors, (n, shape.width)), np.broadcast_to(bias, n)

        def make(lo: int, hi: int) -> tuple[Layer, list[Parameter]]:
            users = shape.side("user", factors[lo:hi], bias[lo:hi])
            if self.bias == "mean":
                users.tables[-1].frozen = True
            return self._network(users, items, head), users.tables

        users = Side([Parameter("", block) for block in fold_in(
            make, self._cells(ratings), self._loss, pool)])
        return Folded(shape.factors(users), shape.bias(users))

    def _learned_head(self) -> list[Linear]:
        return unflatten(self.weights_, self._architecture().head(np.random.default_rng(0)))
