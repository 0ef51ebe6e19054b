"""How an autoencoder of ratings is built, trained and asked; its settings are elsewhere."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore.data.ratings import Ratings
from mfcore.metrics.topk import Scorer
from mfcore.models import by_item
from mfcore.models.autoencoding import Autoencoder
from mfcore.models.base import Folded, Recommender
from mfcore.models.corrupted import Refeeding, Rows, on_blocks
from mfcore.models.rows import NewRows
from mfcore.nn.autoencoder import Plain, identity_loss
from mfcore.nn.contractive import Contractive
from mfcore.nn.heads import EverySquared, Head, KnownSquared
from mfcore.nn.joins import Sequential
from mfcore.nn.layers import Dropout, Layer, Linear, SparseLinear, Transposed
from mfcore.nn.network import Trainer
from mfcore.nn.optimizers import Optimizer, inverse_decay, optimizer
from mfcore.nn.parameters import Parameter
from mfcore.objectives.biases import mean_biases, row_bias
from mfcore.parallel import Pool
from mfcore.solvers.loop import Solver
from mfcore.solvers.rows import RowLBFGS, RowSGD, Stage, Vector


class RatingNetwork(Autoencoder):
    """Base of `RatingAutoencoder`: what its hyper-parameters mean."""

    hidden: tuple[int, ...]
    orientation: str
    activation: str
    output: str
    tied: bool
    bias: str | None
    bias_share: float
    scale: str
    unknown_weight: float
    unknown_value: float | str
    mask: float
    mask_weights: tuple[float, float]
    noise: str | None
    noise_scale: float
    input_dropout: float
    dropout: float
    refeed: int
    refeed_rate: float | None
    contractive: float
    contractive_inputs: str
    reg: float
    optimizer: str
    learning_rate: float
    decay: float
    batch_size: int | None

    # ------------------------------------------------------------------- the network

    def _network(self, shape: tuple[int, int], random: np.random.Generator | None) -> Plain:
        n = shape[1] if self.orientation == "user" else shape[0]
        widths = [n, *self.hidden]
        options: dict[str, Any] = {"random": random, "dtype": self.dtype}
        layers: list[Linear] = [self._first(n, options)]
        for number, (n_in, n_out) in enumerate(zip(widths[1:], self.hidden[1:], strict=False), 1):
            layers.append(Linear(n_in, n_out, self.activation, name=f"encoder_{number}",
                                 **options))
        encoder = Sequential(Dropout(self.input_dropout), *layers, Dropout(self.dropout))
        return Plain(encoder, self._decoder(layers[1:], options),
                     self._head(layers[0].W, n, options))

    def _first(self, n: int, options: dict[str, Any]) -> SparseLinear:
        options = {**options, "name": "encoder_0"}
        if self.contractive:
            return Contractive(n, self.hidden[0], self.activation, reg=self.contractive,
                               inputs=self.contractive_inputs, **options)
        return SparseLinear(n, self.hidden[0], self.activation, **options)

    def _decoder(self, inner: list[Linear], options: dict[str, Any]) -> Sequential:
        """Return the mirror of the encoder's inner layers, of the same weights if tied."""
        layers: list[Layer] = []
        for number, layer in enumerate(reversed(inner)):
            name, (n_out, n_in) = f"decoder_{number}", layer.W.value.shape
            layers.append(Transposed(layer.W, self.activation, name=name) if self.tied else
                          Linear(n_in, n_out, self.activation, name=name, **options))
        return Sequential(*layers)

    def _head(self, first: Parameter, n: int, options: dict[str, Any]) -> Head:
        W = first if self.tied else Parameter(
            "head.W", Linear(self.hidden[0], n, self.output, **options).W.value.T)
        if self.unknown_weight == 0:
            return KnownSquared(W, self.output)
        centre, scale = self._centre_and_scale()
        t0 = 0.0 if isinstance(self.unknown_value, str) else (self.unknown_value - centre) / scale
        return EverySquared(W, self.output, w0=self.unknown_weight, r0=t0)

    # ---------------------------------------------------------------------- training

    def _centre_and_scale(self) -> tuple[float, float]:
        low, high = self.rating_range_
        half = (high - low) / 2 if self.scale == "range" and high > low else 1.0
        middle = (high + low) / 2 if self.scale == "range" else 0.0
        return (self.mean_rating_ if self.bias == "mean" else middle), half

    def _check_training(self, ratings: Ratings) -> None:
        data, tried = ratings.by_user.data, copy.copy(self)      # (self may be fitted already)
        tried.rating_range_ = (float(data.min()), float(data.max()))
        tried.mean_rating_ = float(data.mean())
        super(RatingNetwork, tried)._check_training(ratings)

    def _start(self, ratings: Ratings) -> None:
        self.global_mean_, self.scale_ = self._centre_and_scale()
        self.user_bias_ = self.item_bias_ = None
        if self.bias == "mean":
            self.user_bias_, self.item_bias_ = (b.astype(self.dtype) for b in mean_biases(
                ratings, self.mean_rating_, self.bias_share))

    def _row_bias(self, ratings: Ratings) -> np.ndarray | None:
        return None if self.bias is None else row_bias(
            ratings, self.mean_rating_, self.bias_share).astype(self.dtype)

    def _scaled(self, ratings: Ratings, bias: np.ndarray | None) -> sp.csr_array:
        """Return t of users' rows, with their b_u."""
        cells = ratings.by_user
        t = cells.data - self.global_mean_
        if bias is not None and self.item_bias_ is not None:
            t = t - bias[ratings.users_of_cells] - self.item_bias_[cells.indices]
        with np.errstate(over="ignore"):
            t = (t / self.scale_).astype(self.dtype)
        if not np.isfinite(t).all():
            raise ValueError(f"ratings are too large for {self.dtype}; rescale them, or take "
                             f"dtype='float64'")
        return sp.csr_array((t, cells.indices, cells.indptr), shape=cells.shape)

    def _inputs(self, ratings: Ratings) -> sp.csr_array:
        return self._scaled(ratings, self._row_bias(ratings))

    def _rows(self, ratings: Ratings) -> Rows:
        t, weights = self._inputs(ratings), ratings.weights
        if self.orientation == "item":
            t = t.T.tocsr()
            weights = ratings.weights_by_item
        w = None if weights is None else np.asarray(weights, self.dtype)
        return Rows(t, w, self.mask, self.mask_weights, self.noise, self.noise_scale)

    def _solver(self, network: Plain, ratings: Ratings, random: np.random.Generator) -> Solver:
        rows = self._rows(ratings)
        n = rows.t.shape[0]
        if self.optimizer == "lbfgs":
            return RowLBFGS(network, rows.whole(), ratings.nnz, self.reg)
        seeds = random.integers(2**63, size=3).tolist()
        batch_size = n if self.batch_size is None else min(self.batch_size, n)
        n_steps = -(-n // batch_size)
        trainer = Trainer(network, identity_loss, self._optimizer(ratings.nnz, n_steps, None),
                          seed=seeds[0])
        stages = [Stage(trainer, rows.make, size=ratings.nnz / n)]
        if self.refeed:
            again = trainer.optimizer if self.refeed_rate is None else \
                self._optimizer(ratings.nnz, n_steps, self.refeed_rate)
            feeding = Trainer(on_blocks(network), identity_loss, again, seed=seeds[1])
            stages[0].after = Refeeding(network, feeding, self.refeed)
            stages.append(Stage(feeding, rows.make, n_passes=0))     # (its memory is kept)
        return RowSGD(stages, n, batch_size, seeds[2])

    def _optimizer(self, nnz: int, n_steps: int, rate: float | None) -> Optimizer:
        return optimizer(self.optimizer, self.learning_rate if rate is None else rate,
                         decay=2 * self.reg / nnz, schedule=inverse_decay(self.decay / n_steps))

    def _publish(self, at: Vector) -> None:
        if self.orientation == "user":
            super()._publish(at)
            return
        self.weights_ = at.weights
        with Pool(self.n_threads) as pool:
            self.user_factors_, self.item_factors_ = by_item.factors(
                self._learned(), self._rows(self.ratings_).t, self.scale_, pool)

    # ----------------------------------------------------------------------- serving

    def _fold_in_rows(self, ratings: Ratings, pool: Pool, features: Any = None) -> Folded:
        if self.orientation == "user":
            return super()._fold_in_rows(ratings, pool)
        bias = self._row_bias(ratings)
        t = self._scaled(ratings, bias)
        return Folded(by_item.fold_in_by_ridge(t, ratings.weights, self.item_factors_, self.reg,
                                               self.scale_, pool), bias)

    def _vectors(self, rows: np.ndarray | None, new: NewRows | None, pool: Pool) -> Folded:
        if self.orientation == "user":
            return super()._vectors(rows, new, pool)
        return Recommender._vectors(self, rows, new, pool)

    def _score_blocks(self, users: Folded) -> Scorer:
        if self.orientation == "user":
            return super()._score_blocks(users)
        return Recommender._score_blocks(self, users)

    def _score_pairs(self, rows: np.ndarray, columns: np.ndarray, users: Folded, pool: Pool
                     ) -> np.ndarray:
        if self.orientation == "user":
            return super()._score_pairs(rows, columns, users, pool)
        return Recommender._score_pairs(self, rows, columns, users, pool)

    def item_embedding(self, method: str = "one_hot") -> np.ndarray:
        """Return vectors of the items: see `Autoencoder.item_embedding`.

        With orientation="item" an item has a code of its own, whatever the method.
        """
        if self.orientation == "user":
            return super().item_embedding(method)
        self._check_fitted()
        self._check_seen()
        with Pool(self.n_threads) as pool:
            return self._codes(self._rows(self.ratings_).t, pool)
