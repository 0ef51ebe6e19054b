"""Autoencoders of ratings: a row of ratings, from a user or of an item, predicts itself."""

from __future__ import annotations

from dataclasses import field
from typing import Any, TypeVar

import numpy as np

from mfcore.data.ratings import Ratings
from mfcore.metrics.fitted import Fitted
from mfcore.models.autoencoders import by_item, core, network
from mfcore.models.autoencoders.core import Autoencoder, Recipe
from mfcore.models.estimator import TRAINED, settings
from mfcore.models.sides import Sides
from mfcore.models.training import Start

Self = TypeVar("Self", bound="RatingAutoencoder")


@settings(*TRAINED)
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
        B: the halved mean biases of `MatrixFactorization`, μ + c (b_u + b̃_i); or 0, which
        orientation="item" may like better (ML-100K: held-out RMSE .906 against .928; on
        generated ratings it is the other way round).
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

    hidden: tuple[int, ...] = field(default=(300,), kw_only=False)
    orientation: str = "user"
    activation: str = "sigmoid"
    output: str = "identity"
    tied: bool = False
    bias: str | None = "mean"
    bias_share: float = 0.5
    scale: str = "none"
    unknown_weight: float = 0.0
    unknown_value: float | str = "bias"
    mask: float = 0.0
    mask_weights: tuple[float, float] = (1.0, 1.0)
    noise: str | None = None
    noise_scale: float = 0.1
    input_dropout: float = 0.0
    dropout: float = 0.0
    refeed: int = 0
    refeed_rate: float | None = None
    contractive: float = 0.0
    contractive_inputs: str = "all"
    reg: float = 40.0
    optimizer: str = "adam"
    learning_rate: float = 3e-3
    decay: float = 0.2
    batch_size: int | None = 128
    memory: float = 8.0
    n_epochs: int = 100
    tol: float | None = None

    # ------------------------------------------------------------ published settings

    @classmethod
    def autorec_item(cls: type[Self], **params: Any) -> Self:
        """Return I-AutoRec (Sedhain et al. 2015): 500 sigmoids over items' rows, L-BFGS.

        Its λ is 100 with a ½ before the penalty, 50 here.

        Parameters
        ----------
        **params
            As in `RatingAutoencoder`, in place of these settings or beside them.
        """
        return cls(**{"hidden": (500,), "orientation": "item", "bias": None, "reg": 50.0,
                      "optimizer": "lbfgs", "n_epochs": 200, **params})

    @classmethod
    def autorec_user(cls: type[Self], **params: Any) -> Self:
        """Return U-AutoRec (Sedhain et al. 2015): 500 sigmoids over users' rows, Rprop.

        Parameters
        ----------
        **params
            As in `RatingAutoencoder`, in place of these settings or beside them.
        """
        return cls(**{"hidden": (500,), "orientation": "user", "bias": None, "reg": 50.0,
                      "optimizer": "rprop", "learning_rate": 1e-3, "decay": 0.0,
                      "batch_size": None, "n_epochs": 200, **params})

    @classmethod
    def cfn(cls: type[Self], **params: Any) -> Self:
        """Return CFN for items (Strub et al. 2016), with its masks for ML-1M.

        λ is ours: with ratings between −1 and 1 it counts four times what it does on stars.

        Parameters
        ----------
        **params
            As in `RatingAutoencoder`, in place of these settings or beside them.
        """
        return cls(**{"hidden": (700,), "orientation": "item", "activation": "tanh", "bias": None,
                      "scale": "range", "mask": 0.138, "mask_weights": (1.108, 0.720),
                      "reg": 10.0, **params})

    @classmethod
    def deep_recommender(cls: type[Self], **params: Any) -> Self:
        """Return the deep autoencoder of Kuchaiev and Ginsburg 2017 with one re-feeding step.

        Its rate wants many steps: an epoch of Netflix has thousands, one of ML-100K has eight.

        Parameters
        ----------
        **params
            As in `RatingAutoencoder`, in place of these settings or beside them.
        """
        return cls(**{"hidden": (512, 512, 1024), "activation": "selu", "output": "selu",
                      "bias": None, "dropout": 0.8, "refeed": 1, "reg": 0.0,
                      "optimizer": "momentum", "learning_rate": 0.005, "decay": 0.0,
                      "batch_size": 128, **params})

    # ------------------------------------------------------------------- what it supplies

    def validate(self) -> None:
        """Raise for a hyper-parameter that is out of range, or for some that do not go together."""
        network.check(self)

    def check(self, ratings: Ratings) -> None:
        """Raise for a network that the memory cannot hold."""
        network.check_memory(self, ratings)

    def recipe(self) -> Recipe:
        """Return what the model makes of ratings."""
        return network.recipe(self, network.known_offsets(self))

    def begin(self, ratings: Ratings, sides: Sides, random: np.random.Generator) -> Start:
        """Return where a fit begins, and what improves it."""
        found = network.offsets(self, ratings)
        self.global_mean_, self.scale_ = found.mean, found.scale
        sides.users.bias, sides.items.bias = found.user_bias, found.item_bias
        begin = core.begin if self.orientation == "user" else by_item.begin
        return begin(self, ratings, sides, random)

    def answers(self) -> Fitted:
        """Return what is asked of the fitted model."""
        return core.answers(self) if self.orientation == "user" else by_item.answers(self)

    def item_embedding(self, method: str = "one_hot") -> np.ndarray:
        """Return vectors of the items: see `MultVAE.item_embedding`.

        With orientation="item" an item has a code of its own, whatever the method.
        """
        if self.orientation == "user":
            return super().item_embedding(method)
        self.check_fitted()
        self.check_seen()
        return by_item.item_codes(self)
