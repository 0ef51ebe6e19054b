"""How a network of pairs answers: blocks of scores, pairs, and vectors of new users."""

from __future__ import annotations

from typing import Any

import numpy as np

from mfcore.data.ratings import Ratings
from mfcore.metrics.topk import Scorer
from mfcore.models.base import Folded, Recommender
from mfcore.models.fusion import Architecture, Side, unflatten
from mfcore.nn.layers import Layer, Linear
from mfcore.nn.losses import Loss
from mfcore.nn.parameters import Parameter
from mfcore.nn.scoring import NetworkScorer, network_scores
from mfcore.objectives.biases import row_bias
from mfcore.parallel import Pool
from mfcore.solvers.neural import Cells, fold_in


class NeuralServing(Recommender):
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

    def _served(self, users: Folded) -> Layer:
        """Return the network of users with these vectors, and all items."""
        shape, head = self._architecture(), self._learned_head()
        return shape.network(shape.side("user", users.factors, users.bias),
                             shape.side("item", self.item_factors_, self.item_bias_), head)

    def _score_blocks(self, users: Folded) -> Scorer:
        return NetworkScorer(self._served(users), len(users.factors), self.n_items_,
                             self.global_mean_)

    def _score_pairs(self, rows: np.ndarray, columns: np.ndarray, users: Folded, pool: Pool
                     ) -> np.ndarray:
        scores = np.full(len(rows), self.global_mean_)
        known = (rows >= 0) & (columns >= 0)
        pairs = np.column_stack([rows, columns])
        scores[known] += network_scores(self._served(users), pairs[known], pool)
        for places, bias in ((rows, users.bias), (columns, self.item_bias_)):
            alone = ~known & (places >= 0)
            scores[alone] += 0.0 if bias is None else bias[places[alone]]
        return scores

    def _fold_in_rows(self, ratings: Ratings, pool: Pool, features: Any = None) -> Folded:
        shape, head = self._architecture(), self._learned_head()
        items = shape.side("item", self.item_factors_, self.item_bias_)
        for each in (*items, *(p for layer in head for p in layer.parameters())):
            each.frozen = True
        factors = np.tile(self.user_factors_.mean(axis=0, dtype=np.float64),
                          (ratings.shape[0], 1))
        bias = np.zeros(len(factors))
        if self.bias == "mean":
            bias = row_bias(ratings, self.mean_rating_, 0.5)

        def make(lo: int, hi: int) -> tuple[Layer, list[Parameter]]:
            users = shape.side("user", factors[lo:hi], bias[lo:hi])
            users[-1].frozen = self.bias == "mean"
            return self._network(users, items, head), users

        tables = [Parameter("", block) for block in fold_in(make, self._cells(ratings),
                                                            self._loss, pool)]
        return Folded(shape.factors(tables), shape.bias(tables))

    def _learned_head(self) -> list[Linear]:
        return unflatten(self.weights_, self._architecture().head(np.random.default_rng(0)))
