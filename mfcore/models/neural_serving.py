"""How a network of pairs answers: blocks of scores, pairs, and vectors of new users."""

from __future__ import annotations

from typing import Any

import numpy as np

from mfcore.data.ratings import Ratings
from mfcore.metrics.topk import Scorer
from mfcore.models.base import Folded
from mfcore.models.fixed_items import FixedItems, fixed_items
from mfcore.models.fusion import Architecture, Side, unflatten
from mfcore.models.grouped import GroupedModel
from mfcore.nn.layers import Layer, Linear
from mfcore.nn.losses import Loss
from mfcore.nn.network import NetworkScorer, network_scores
from mfcore.nn.parameters import Parameter
from mfcore.objectives.biases import row_bias
from mfcore.parallel import Pool
from mfcore.solvers.neural import TrainingCells, fold_in_by_adam


class NeuralServing(GroupedModel):
    """Answers from the vectors, biases and `weights_` of a network of pairs."""

    bias: str | None
    reg: float
    bias_reg: float | None
    weights_: np.ndarray

    def _architecture(self) -> Architecture:
        raise NotImplementedError

    def _cells(self, ratings: Ratings) -> TrainingCells:
        raise NotImplementedError

    @property
    def _loss(self) -> Loss:
        raise NotImplementedError

    def _fixed_items(self) -> FixedItems:
        shape = self._architecture()
        items = shape.side("item", self.item_factors_, self.item_bias_)
        return fixed_items(shape, items, self._learned_head())

    def _score_blocks(self, users: Folded) -> Scorer:
        network = self._fixed_items().network(self._architecture().side("user", *users))
        return NetworkScorer(network, len(users.factors), self.n_items_, self.global_mean_)

    def _score_pairs(self, rows: np.ndarray, columns: np.ndarray, users: Folded, pool: Pool
                     ) -> np.ndarray:
        P, beta, rows = self._with_default("user", users, rows)
        Q, gamma, columns = self._with_default(
            "item", Folded(self.item_factors_, self.item_bias_), columns)
        shape, scores = self._architecture(), np.full(len(rows), self.global_mean_)
        network = shape.network(shape.side("user", P, beta), shape.side("item", Q, gamma),
                                self._learned_head())
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
        shape, items, n = self._architecture(), self._fixed_items(), ratings.shape[0]
        factors, bias = self._group_means("user", self._completed("user", features, ratings))
        if self.bias == "mean":
            bias = row_bias(ratings, self.mean_rating_, 0.5)
        factors, bias = np.broadcast_to(factors, (n, shape.width)), np.broadcast_to(bias, n)
        bias_reg = self.reg if self.bias_reg is None else self.bias_reg

        def make(lo: int, hi: int) -> tuple[Layer, list[Parameter]]:
            users = shape.side("user", factors[lo:hi], bias[lo:hi])
            if self.bias == "mean":
                users.tables[-1].frozen = True
            return items.network(users, self.reg, bias_reg), users.tables

        known = shape.side("user", self.user_factors_, self.user_bias_)
        spreads = [float(table.value.std(axis=0).mean()) or 0.1 for table in known.tables]
        users = Side([Parameter("", block) for block in fold_in_by_adam(
            make, spreads, self._cells(ratings), self._loss, pool)])
        return Folded(shape.factors(users), shape.bias(users))

    def _learned_head(self) -> list[Linear]:
        return unflatten(self.weights_, self._architecture().head(np.random.default_rng(0)))
