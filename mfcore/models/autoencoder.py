"""Autoencoders of ratings: a row of ratings, from a user or of an item, predicts itself."""

from __future__ import annotations

from typing import Any, TypeVar

from mfcore.models.autoencoder_options import check
from mfcore.models.rating_network import RatingNetwork

Self = TypeVar("Self", bound="RatingAutoencoder")


class RatingAutoencoder(RatingNetwork):
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

    def __init__(self, hidden: tuple[int, ...] = (300,), *, orientation: str = "user",
                 activation: str = "sigmoid", output: str = "identity", tied: bool = False,
                 bias: str | None = "mean", bias_share: float = 0.5, scale: str = "none",
                 unknown_weight: float = 0.0, unknown_value: float | str = "bias",
                 mask: float = 0.0, mask_weights: tuple[float, float] = (1.0, 1.0),
                 noise: str | None = None, noise_scale: float = 0.1,
                 input_dropout: float = 0.0, dropout: float = 0.0, refeed: int = 0,
                 refeed_rate: float | None = None, contractive: float = 0.0,
                 contractive_inputs: str = "all", reg: float = 40.0, optimizer: str = "adam",
                 learning_rate: float = 3e-3, decay: float = 0.2,
                 batch_size: int | None = 128, memory: float = 8.0, n_epochs: int = 100,
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

    def _validate(self) -> None:
        check(self)
