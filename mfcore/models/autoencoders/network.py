"""The network of an autoencoder of ratings: offsets and rows, layers, solver, and its settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.features import weighed
from mfcore.data.ratings import Ratings
from mfcore.models.autoencoders.corrupted import CorruptedRows, Refeeding, on_blocks
from mfcore.models.sides import Sides
from mfcore.nn.activations import Activation
from mfcore.nn.autoencoder import Plain, identity_loss
from mfcore.nn.contractive import Contractive
from mfcore.nn.heads import EverySquared, Head, KnownSquared
from mfcore.nn.joins import Sequential
from mfcore.nn.layers import Dropout, Layer, Linear, SparseLinear, Transposed
from mfcore.nn.network import Trainer
from mfcore.nn.optimizers import Optimizer, inverse_decay, optimizer
from mfcore.nn.parameters import Parameter
from mfcore.objectives.biases import REG_USERS, fitted_biases, mean_biases, row_bias, shrunken
from mfcore.solvers.loop import Solver
from mfcore.solvers.rows import RowLBFGS, RowSGD, Stage, Vector

Random = np.random.Generator | None


# ----------------------------------------------------------------------- rows of ratings

@dataclass(frozen=True)
class Offsets:
    """What ratings are measured from and in: t = (r − B) / scale, B_ui = mean + b_u + b̃_i.

    mean_rating, bias, share : of fixed biases; bias None where there are none
    """

    mean: float
    scale: float
    mean_rating: float
    bias: str | None
    share: float
    item_bias: np.ndarray | None
    dtype: str

    def row_bias(self, ratings: Ratings) -> np.ndarray | None:
        """Return b_u of new users."""
        if self.bias is None:
            return None
        found = row_bias(ratings, self.mean_rating, self.share) if self.bias == "mean" else \
            shrunken(ratings, self.mean_rating, np.asarray(self.item_bias), REG_USERS)
        return found.astype(self.dtype)

    def scaled(self, ratings: Ratings, bias: np.ndarray | None) -> sp.csr_array:
        """Return t of users' rows, with their b_u."""
        cells = ratings.by_user
        t = cells.data - self.mean
        if bias is not None and self.item_bias is not None:
            t = t - bias[ratings.users_of_cells] - self.item_bias[cells.indices]
        with np.errstate(over="ignore"):
            t = (t / self.scale).astype(self.dtype)
        if not np.isfinite(t).all():
            raise ValueError(f"ratings are too large for {self.dtype}; rescale them, or take "
                             f"dtype='float64'")
        return sp.csr_array((t, cells.indices, cells.indptr), shape=cells.shape)

def offset(model: Any, ratings: Ratings, sides: Sides) -> None:
    """Set what ratings are measured from and in, at the start of a fit."""
    low, high = model.rating_range_
    model.scale_ = {"deviation": model.rating_scale_, "range": (high - low) / 2 or 1.0,
                    "none": 1.0}[model.scale]
    model.global_mean_ = (high + low) / 2 if model.scale == "range" else 0.0
    if model.bias is not None:
        mean = model.global_mean_ = model.mean_rating_
        found = mean_biases(ratings, mean, model.bias_share) if model.bias == "mean" else \
            fitted_biases(ratings, mean)
        sides.users.bias, sides.items.bias = (b.astype(model.dtype) for b in found)


def offsets(model: Any) -> Offsets:
    """Return the offsets of a model."""
    return Offsets(model.global_mean_, model.scale_, model.mean_rating_, model.bias,
                   model.bias_share, model.items_.bias, model.dtype)


def told(model: Any, ratings: Ratings) -> Ratings:
    """Return the ratings of positive weight; where unknown cells count, all of them."""
    return ratings if model.unknown_weight else weighed(ratings)


def inputs(model: Any, ratings: Ratings) -> sp.csr_array:
    """Return t of users' rows."""
    found = offsets(model)
    return found.scaled(ratings, found.row_bias(ratings))


def row_bias_of(model: Any, ratings: Ratings) -> np.ndarray | None:
    """Return b_u of new users."""
    return offsets(model).row_bias(ratings)


def no_check(model: Any, ratings: Ratings) -> None:
    """Accept all ratings."""


def corrupted(model: Any, ratings: Ratings) -> CorruptedRows:
    """Return what makes the network's inputs, rows of users or of items."""
    t, weights = inputs(model, ratings), ratings.weights
    if model.orientation == "item":
        t = t.T.tocsr()
        weights = ratings.weights_by_item
    w = None if weights is None else np.asarray(weights, model.dtype)
    return CorruptedRows(t, w, model.mask, model.mask_weights, model.noise, model.noise_scale)


# ------------------------------------------------------------------------------ layers

def network(model: Any, shape: tuple[int, int], random: Random) -> Plain:
    """Return the network for ratings of a shape; random None: its numbers are to be replaced."""
    n = shape[1] if model.orientation == "user" else shape[0]
    widths = [n, *model.hidden]
    options: dict[str, Any] = {"random": random, "dtype": model.dtype}
    layers: list[Linear] = [_first(model, n, options)]
    for number, (n_in, n_out) in enumerate(zip(widths[1:], model.hidden[1:], strict=False), 1):
        layers.append(Linear(n_in, n_out, model.activation, name=f"encoder_{number}", **options))
    encoder = Sequential(Dropout(model.input_dropout), *layers, Dropout(model.dropout))
    return Plain(encoder, _decoder(model, layers[1:], options),
                 _head(model, layers[0].W, n, options))


def _first(model: Any, n: int, options: dict[str, Any]) -> SparseLinear:
    options = {**options, "name": "encoder_0"}
    if model.contractive:
        return Contractive(n, model.hidden[0], model.activation, reg=model.contractive,
                           inputs=model.contractive_inputs, **options)
    return SparseLinear(n, model.hidden[0], model.activation, **options)


def _decoder(model: Any, inner: list[Linear], options: dict[str, Any]) -> Sequential:
    """Return the mirror of the encoder's inner layers, of the same weights if tied."""
    layers: list[Layer] = []
    for number, layer in enumerate(reversed(inner)):
        name, (n_out, n_in) = f"decoder_{number}", layer.W.value.shape
        layers.append(Transposed(layer.W, model.activation, name=name) if model.tied else
                      Linear(n_in, n_out, model.activation, name=name, **options))
    return Sequential(*layers)


def _head(model: Any, first: Parameter, n: int, options: dict[str, Any]) -> Head:
    W = first if model.tied else Parameter(
        "head.W", Linear(model.hidden[0], n, model.output, **options).W.value.T)
    if model.unknown_weight == 0:
        return KnownSquared(W, model.output)
    t0 = 0.0                                     # (serving does not use it)
    if options["random"] is not None and not isinstance(model.unknown_value, str):
        t0 = (model.unknown_value - model.global_mean_) / model.scale_
    return EverySquared(W, model.output, w0=model.unknown_weight, r0=t0)


# ---------------------------------------------------------------------------- training

def solver(model: Any, network: Plain, ratings: Ratings, random: np.random.Generator) -> Solver:
    """Return what trains the network."""
    rows = corrupted(model, ratings)
    n = rows.t.shape[0]
    if model.optimizer == "lbfgs":
        return RowLBFGS(network, rows.whole(), ratings.nnz, model.reg)
    seeds = random.integers(2**63, size=3).tolist()
    batch_size = n if model.batch_size is None else min(model.batch_size, n)
    n_steps = -(-n // batch_size)
    trainer = Trainer(network, identity_loss, _optimizer(model, ratings.nnz, n_steps, None),
                      seed=seeds[0])
    stages = [Stage(trainer, rows.make, size=ratings.nnz / n)]
    if model.refeed:
        again = trainer.optimizer if model.refeed_rate is None else \
            _optimizer(model, ratings.nnz, n_steps, model.refeed_rate)
        feeding = Trainer(on_blocks(network), identity_loss, again, seed=seeds[1])
        stages[0].after = Refeeding(network, feeding, model.refeed)
        stages.append(Stage(feeding, rows.make, n_passes=0))         # (its memory is kept)
    return RowSGD(stages, n, batch_size, seeds[2])


def _optimizer(model: Any, nnz: int, n_steps: int, rate: float | None) -> Optimizer:
    return optimizer(model.optimizer, model.learning_rate if rate is None else rate,
                     decay=2 * model.reg / nnz, schedule=inverse_decay(model.decay / n_steps))


# ------------------------------------------------------------------------------ checks

def some_widths(name: str, value: Any) -> None:
    """Raise unless a value is a tuple of at least one width."""
    validation.widths(name, value)
    if not value:
        raise ValueError(f"{name} must hold at least one width, got ()")


def mask(name: str, value: Any) -> None:
    """Raise unless a value is in [0, 1)."""
    if validation.real(name, value, low=0) >= 1:
        raise ValueError(f"{name} must be in [0, 1), got {value}: 1 hides everything")


def mask_weights(name: str, value: Any) -> None:
    """Raise unless a value is two weights."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"{name} must be two numbers, of hidden and of visible cells, got "
                         f"{value!r}")
    for weight in value:
        validation.real(name, weight, low=0)


def _check_target(model: Any) -> None:
    if model.unknown_weight and model.bias is not None and model.unknown_value != "bias":
        raise ValueError(f"unknown_value must be 'bias' with bias={model.bias!r}, got "
                         f"{model.unknown_value!r}: a rating as target needs bias=None")
    if model.orientation == "item" and model.output != "identity":
        raise ValueError(f"output must be 'identity' with orientation='item', where new users "
                         f"are solved for, got {model.output!r}")


def _check_noise(model: Any) -> None:
    validation.real("noise_scale", model.noise_scale, low=0,
                    high=1 if model.noise == "salt" else 1e6)


def _check_optimizer(model: Any) -> None:
    drawn = [name for name in ("mask", "noise", "input_dropout", "dropout", "refeed")
             if getattr(model, name)]
    if model.optimizer == "lbfgs" and drawn:
        raise ValueError(f"optimizer='lbfgs' needs the same function in every step: it does not "
                         f"go with {', '.join(drawn)}; take 'adam'")
    if model.optimizer == "rprop" and model.batch_size is not None:
        raise ValueError(f"batch_size must be None with optimizer='rprop', which needs all rows "
                         f"at once, got {model.batch_size}")


TOGETHER = (_check_target, _check_noise, _check_optimizer)


def simple(model: Any, network: Plain, at: Vector) -> Callable[[], Vector] | None:
    """Return what returns the numbers with which f = 0 and scores are biases alone."""
    W, (at_zero, _) = network.head.W.value, Activation(model.output).forward(
        np.zeros((1, 1)), np.zeros(1))
    if model.bias is None or at_zero.any():
        return None

    def numbers() -> Vector:
        start = W.copy()
        W[...] = 0
        found = at.copy()
        W[...] = start
        return found

    return numbers
