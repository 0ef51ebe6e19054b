"""Autoencoders of ratings: a row of ratings, from a user or of an item, predicts itself."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import scipy.sparse as sp

from mfcore.data.ratings import Ratings
from mfcore.metrics.topk import Scorer
from mfcore.models import by_item
from mfcore.models.autoencoder_options import check
from mfcore.models.autoencoding import Autoencoder
from mfcore.models.base import Folded, Recommender
from mfcore.models.corrupted import Refeeding, Rows, on_blocks
from mfcore.models.rows import NewRows
from mfcore.nn.autoencoder import Plain, itself
from mfcore.nn.contractive import Contractive
from mfcore.nn.heads import EverySquared, Head, KnownSquared
from mfcore.nn.joins import Sequential
from mfcore.nn.layers import Dropout, Layer, Linear, Transposed
from mfcore.nn.network import Trainer
from mfcore.nn.optimizers import Optimizer, optimizer
from mfcore.nn.parameters import Parameter
from mfcore.nn.schedules import inverse
from mfcore.nn.sparse import SparseLinear
from mfcore.objectives.biases import mean_biases, row_bias
from mfcore.parallel import Pool
from mfcore.solvers.loop import Solver
from mfcore.solvers.rows import RowLBFGS, RowSGD, Stage, Vector

Self = TypeVar("Self", bound="RatingAutoencoder")


class RatingAutoencoder(Autoencoder):
    """Predict ratings by a network from a row of ratings to all of the row.

    With t = (r − B) / scale of a row of ratings x (of a user, or of an item), minimises

        Σ_known w (t − f(t)_i)² + w0 Σ_unknown (t0 − f(t)_i)² + λ ‖W‖² + λc Σ_rows ‖∂h/∂t‖²

    f = φ_out(decoder(encoder(t))), and s = B + scale · f.

    Parameters
    ----------
    hidden : tuple of int
        Widths of the encoder's layers; the last is the code, and the decoder mirrors the rest.
    orientation : {"user", "item"}
        What a row is.  "item": a new user's output weights are a ridge regression of its
        ratings on the items' last hidden layer, the minimum of its part of the formula.
    activation, output : str
        φ of the hidden layers, and of the last; orientation="item" needs "identity" there.
    tied : bool
        Whether the decoder's weights are the encoder's, transposed.
    bias : {"mean", None}
        B: the halved mean biases of `MatrixFactorization`, μ + c (b_u + b̃_i); or 0.
    bias_share : float in [0, 1]
        c; with 0, B is the mean rating.
    scale : {"none", "range"}
        1; or half the range of the ratings (and with bias=None B is its middle): t in [−1, 1].
    unknown_weight : float, >= 0
        w0.
    unknown_value : "bias" or float
        t0 = 0, the offset B; or a rating, with bias=None.
    mask : float in [0, 1)
        Share of a row's cells that training hides from the input.
    mask_weights : (float, float), >= 0
        Factors of the loss on hidden and on visible cells; they count with mask > 0.
    noise : {None, "gaussian", "salt"}
        On the input's cells: normal; or set to the least or largest t.
    noise_scale : float, >= 0
        Standard deviation; or share of cells in [0, 1].
    input_dropout, dropout : float in [0, 1)
        Share of the input's cells, and of the code, that is left out in training.
    refeed : int, >= 0
        Steps on the network's own dense output after each step (see `corrupted.py`); they
        hold batch_size × n dense values.
    refeed_rate : float > 0, or None
        Their learning rate, with a memory of their own; None: they are steps like others.
    contractive : float, >= 0
        λc; h is the first hidden layer, also where there are several.
    contractive_inputs : {"all", "observed"}
        Inputs t_i that the derivative is by: all, or those of the row.
    reg : float, >= 0
        λ, of weights, not of offsets.
    optimizer : str
        One of the library's ("adam", "momentum", "rprop", …), or "lbfgs" on all rows at once,
        without mask, noise, dropout or re-feeding.
    learning_rate, decay : float
        The rate of step t is learning_rate / (1 + decay·t / steps of an epoch).
    batch_size : int >= 1, or None
        Rows of a batch; None: all ("rprop").
    memory : float, > 0
        Gigabytes that weights, gradients and moments may take.
    n_epochs, tol, patience, eval_metric, dtype, random_state, n_threads, verbose
        As in `MatrixFactorization`.

    Notes
    -----
    A step takes the formula divided by the number of known cells, estimated from a batch; one
    of re-feeding the mean over all cells of its rows.  `history_` holds that mean loss of a
    cell, each batch before its step, without λ ‖W‖² (with it for "lbfgs").
    A user without ratings, and an item, gets the offset B; with bias=None the mean rating.

    References
    ----------
    Sedhain, Menon, Sanner, Xie 2015; Strub, Gaudel, Mary 2016; Kuchaiev, Ginsburg 2017; Rifai et
    al. 2011.
    """

    def __init__(self, hidden: tuple[int, ...] = (500,), *, orientation: str = "user",
                 activation: str = "sigmoid", output: str = "identity", tied: bool = False,
                 bias: str | None = "mean", bias_share: float = 0.5, scale: str = "none",
                 unknown_weight: float = 0.0, unknown_value: float | str = "bias",
                 mask: float = 0.0, mask_weights: tuple[float, float] = (1.0, 1.0),
                 noise: str | None = None, noise_scale: float = 0.1,
                 input_dropout: float = 0.0, dropout: float = 0.0, refeed: int = 0,
                 refeed_rate: float | None = None, contractive: float = 0.0,
                 contractive_inputs: str = "all", reg: float = 10.0, optimizer: str = "adam",
                 learning_rate: float = 1e-3, decay: float = 0.0,
                 batch_size: int | None = 64, memory: float = 8.0, n_epochs: int = 100,
                 tol: float | None = None, patience: int | None = None,
                 eval_metric: str | None = None, dtype: str = "float32",
                 random_state: Any = None, n_threads: int | None = None,
                 verbose: int = 0) -> None:
        self.hidden = hidden
        self.orientation = orientation
        self.activation = activation
        self.output = output
        self.tied = tied
        self.bias = bias
        self.bias_share = bias_share
        self.scale = scale
        self.unknown_weight = unknown_weight
        self.unknown_value = unknown_value
        self.mask = mask
        self.mask_weights = mask_weights
        self.noise = noise
        self.noise_scale = noise_scale
        self.input_dropout = input_dropout
        self.dropout = dropout
        self.refeed = refeed
        self.refeed_rate = refeed_rate
        self.contractive = contractive
        self.contractive_inputs = contractive_inputs
        self.reg = reg
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.decay = decay
        self.batch_size = batch_size
        self.memory = memory
        self.n_epochs = n_epochs
        self.tol = tol
        self.patience = patience
        self.eval_metric = eval_metric
        self.dtype = dtype
        self.random_state = random_state
        self.n_threads = n_threads
        self.verbose = verbose

    # ------------------------------------------------------------ published settings

    @classmethod
    def autorec_item(cls: type[Self], **params: Any) -> Self:
        """Return I-AutoRec (Sedhain et al. 2015): 500 sigmoids over items' rows, L-BFGS.

        Its λ is 100 with a ½ before the penalty, 50 here.
        """
        return cls(**{"hidden": (500,), "orientation": "item", "bias": None, "reg": 50.0,
                      "optimizer": "lbfgs", "n_epochs": 200, **params})

    @classmethod
    def autorec_user(cls: type[Self], **params: Any) -> Self:
        """Return U-AutoRec (Sedhain et al. 2015): 500 sigmoids over users' rows, Rprop."""
        return cls(**{"hidden": (500,), "orientation": "user", "bias": None, "reg": 50.0,
                      "optimizer": "rprop", "learning_rate": 1e-3, "batch_size": None,
                      "n_epochs": 200, **params})

    @classmethod
    def cfn(cls: type[Self], **params: Any) -> Self:
        """Return CFN for items (Strub et al. 2016), with its settings for ML-1M."""
        return cls(**{"hidden": (700,), "orientation": "item", "activation": "tanh", "bias": None,
                      "scale": "range", "mask": 0.138, "mask_weights": (1.108, 0.720), **params})

    @classmethod
    def deep_recommender(cls: type[Self], **params: Any) -> Self:
        """Return the deep autoencoder of Kuchaiev and Ginsburg 2017 with one re-feeding step."""
        return cls(**{"hidden": (512, 512, 1024), "activation": "selu", "output": "selu",
                      "bias": None, "dropout": 0.8, "refeed": 1, "reg": 0.0,
                      "optimizer": "momentum", "learning_rate": 0.005, "batch_size": 128,
                      **params})

    def _validate(self) -> None:
        check(self)

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
        data = ratings.by_user.data
        self.rating_range_ = (float(data.min()), float(data.max()))
        self.mean_rating_ = float(data.mean())
        super()._check_training(ratings)

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
        return sp.csr_array(((t / self.scale_).astype(self.dtype), cells.indices, cells.indptr),
                            shape=cells.shape)

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
        trainer = Trainer(network, itself, self._optimizer(ratings.nnz, n_steps, None),
                          seed=seeds[0])
        stages = [Stage(trainer, rows.make, size=ratings.nnz / n)]
        if self.refeed:
            again = trainer.optimizer if self.refeed_rate is None else \
                self._optimizer(ratings.nnz, n_steps, self.refeed_rate)
            feeding = Trainer(on_blocks(network), itself, again, seed=seeds[1])
            stages[0].after = Refeeding(network, feeding, self.refeed)
            stages.append(Stage(feeding, rows.make, n_passes=0))     # (its memory is kept)
        return RowSGD(stages, n, batch_size, seeds[2])

    def _optimizer(self, nnz: int, n_steps: int, rate: float | None) -> Optimizer:
        return optimizer(self.optimizer, self.learning_rate if rate is None else rate,
                         decay=2 * self.reg / nnz, schedule=inverse(self.decay / n_steps))

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
        return Folded(by_item.fold_in(t, ratings.weights, self.item_factors_, self.reg,
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
