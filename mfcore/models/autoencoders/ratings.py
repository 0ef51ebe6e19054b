"""Autoencoders of ratings: a row of ratings, from a user or of an item, predicts itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from mfcore import validation
from mfcore.data.ratings import Ratings
from mfcore.models import registry
from mfcore.models.autoencoders import by_item, core, network
from mfcore.models.autoencoders.core import Autoencoder, Recipe
from mfcore.models.autoencoders.corrupted import NOISES
from mfcore.models.settings import TRAINED, setting, settings
from mfcore.models.stopping import AUTO, Budget
from mfcore.nn.activations import FORMULAS
from mfcore.nn.contractive import INPUTS
from mfcore.nn.optimizers import OPTIMIZERS

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
    bias : {"shrunken", "mean", None}
        B: the biases of `BiasOnly`; the halved mean biases of `MatrixFactorization`,
        μ + c (b_u + b̃_i), which are too large where users have few ratings; or 0, which
        orientation="item" may like better (ML-100K: held-out RMSE .906 against .928 with
        "mean"; on generated ratings it is the other way round).
    bias_share : float in [0, 1]
        c; with 0, B is the mean rating.
    scale : {"deviation", "range", "none"}
        The standard deviation of the training ratings; half their range (and with bias=None B is
        its middle): t in [−1, 1]; or 1.  All parameters below are for t in this unit.
    unknown_weight : float, >= 0
        w0.
    unknown_value : "bias" or float
        t0 = 0, the offset B; or a rating, with bias=None.
    mask : float in [0, 1)
        Share of a row's cells that training hides from the input, so that it learns to fill
        them in.  It has nowhere been shown to help (benchmarks/CLAIMS.md).
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
        λ, of weights, not of offsets: the first to tune.  Raise it where the error of training is
        far below that of held-out cells.
    optimizer : str
        One of the library's ("adam", "momentum", "rprop", …), or "lbfgs" on all rows at once,
        without mask, noise, dropout or re-feeding.
    learning_rate, decay : float
        The rate of step t is learning_rate / (1 + decay·t / steps of an epoch).
    batch_size : int >= 1, or None
        Rows of a batch; None: all ("rprop").
    memory : float, > 0
        Gigabytes that weights, gradients and moments may take.
    n_epochs : int >= 1, or "auto"
        Passes over the rows.  "auto": as many as a held-out tenth finds to be best, within a
        budget of steps (`budget`); where that is fewer than 100 ratings, the steps that do
        without.  An integer holds nothing out, unless `validation` is given.
    tol, patience, validation, refit, eval_metric, dtype, random_state, n_threads, verbose
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

    See Also
    --------
    MatrixFactorization : One vector per user, found by least squares.
    MultVAE : Choices, to recommend.

    Examples
    --------
    >>> from mfcore import RatingAutoencoder, evaluate, fetch
    >>> from mfcore.data.split import per_user_split
    >>> stars = fetch("planted-stars").ratings
    >>> train, test = per_user_split(stars, test_size=0.2, random_state=0)
    >>> model = RatingAutoencoder.autorec_item(n_epochs=10, random_state=0).fit(train)
    >>> round(evaluate(model, test, metrics=["rmse"])["rmse"], 1)
    0.9
    """

    hidden: tuple[int, ...] = setting(default=(300,), check=network.some_widths, kw_only=False)
    orientation: str = setting(default="user", among=("user", "item"))
    activation: str = setting(default="sigmoid", among=FORMULAS)
    output: str = setting(default="identity", among=FORMULAS)
    tied: bool = False
    bias: str | None = setting(default="shrunken", among=("shrunken", "mean", None))
    bias_share: float = setting(default=0.5, low=0, high=1)
    scale: str = setting(default="deviation", among=("deviation", "range", "none"))
    unknown_weight: float = setting(default=0.0, low=0)
    unknown_value: float | str = setting(default="bias", among=("bias",))
    mask: float = setting(default=0.0, check=network.mask)
    mask_weights: tuple[float, float] = setting(default=(1.0, 1.0), check=network.mask_weights)
    noise: str | None = setting(default=None, among=(None, *NOISES))
    noise_scale: float = 0.1
    input_dropout: float = setting(default=0.0, check=validation.rate)
    dropout: float = setting(default=0.0, check=validation.rate)
    refeed: int = setting(default=0, low=0)
    refeed_rate: float | None = setting(default=None, above=0, high=1e3)
    contractive: float = setting(default=0.0, low=0)
    contractive_inputs: str = setting(default="all", among=INPUTS)
    reg: float = setting(default=40.0, low=0)
    optimizer: str = setting(default="adam", among=[*OPTIMIZERS, "lbfgs"])
    learning_rate: float = setting(default=3e-3, above=0, high=1e3)
    decay: float = setting(default=0.2, low=0, high=1e6)
    batch_size: int | None = setting(default=128, low=1)
    memory: float = setting(default=8.0, above=0)
    n_epochs: int | str = setting(default="auto", low=1, among=(AUTO,))

    together = network.TOGETHER

    # ------------------------------------------------------------ published settings

    def lacks(self, ability: str) -> bool:
        """Return whether the model cannot do something.

        With an output φ, vectors for an index; with rows of items, to take users in or forget them.
        """
        fixed = {"index_vectors": self.output != "identity",
                 **dict.fromkeys(registry.ROWS, self.orientation == "item")}
        return fixed.get(ability, False) or super().lacks(ability)

    @classmethod
    def autorec_item(cls: type[Self], **params: Any) -> Self:
        """Return I-AutoRec (Sedhain et al. 2015): 500 sigmoids over items' rows, L-BFGS.

        Its λ is 100 with a ½ before the penalty, 50 here.

        Parameters
        ----------
        **params
            As in `RatingAutoencoder`; they replace these settings or add to them.
        """
        return cls(**{"hidden": (500,), "orientation": "item", "bias": None, "scale": "none",
                      "reg": 50.0, "optimizer": "lbfgs", **params})

    @classmethod
    def autorec_user(cls: type[Self], **params: Any) -> Self:
        """Return U-AutoRec (Sedhain et al. 2015): 500 sigmoids over users' rows, Rprop.

        Parameters
        ----------
        **params
            As in `RatingAutoencoder`; they replace these settings or add to them.
        """
        return cls(**{"hidden": (500,), "orientation": "user", "bias": None, "scale": "none",
                      "reg": 50.0, "optimizer": "rprop", "learning_rate": 1e-3, "decay": 0.0,
                      "batch_size": None, **params})

    @classmethod
    def cfn(cls: type[Self], **params: Any) -> Self:
        """Return CFN for items (Strub et al. 2016), with its masks for ML-1M.

        λ is ours: with ratings between −1 and 1 it counts four times what it does on stars.

        Parameters
        ----------
        **params
            As in `RatingAutoencoder`; they replace these settings or add to them.
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
            As in `RatingAutoencoder`; they replace these settings or add to them.
        """
        return cls(**{"hidden": (512, 512, 1024), "activation": "selu", "output": "selu",
                      "bias": None, "scale": "none", "dropout": 0.8, "refeed": 1, "reg": 0.0,
                      "optimizer": "momentum", "learning_rate": 0.005, "decay": 0.0,
                      "batch_size": 128, **params})

    @property
    def budget(self) -> Budget:
        """Steps where `n_epochs` is "auto"."""
        return WHOLE if self._takes_all else BATCHES

    @property
    def _takes_all(self) -> bool:
        return self.optimizer == "lbfgs" or self.batch_size is None

    def n_steps(self, ratings: Ratings) -> int:
        """Return the steps of an epoch."""
        n_rows = ratings.shape[self.orientation == "item"]
        return 1 if self._takes_all else -(-n_rows // (self.batch_size or n_rows))

    @property
    def recipe(self) -> Recipe:                                # type: ignore[override]
        """What the model makes of ratings, rows of users or of items."""
        return OF_USERS if self.orientation == "user" else OF_ITEMS

    def item_embedding(self, method: str = "one_hot") -> np.ndarray:
        """Return vectors of the items: see `MultVAE.item_embedding`.

        With orientation="item" an item has a code of its own, whatever the method.
        """
        if self.orientation == "user":
            return super().item_embedding(method)
        self.check_fitted()
        self.check_seen()
        return by_item.item_codes(self)


# Chosen on validation parts: see benchmarks/epochs.py.  Steps of batches, and of all rows at once.
BATCHES = Budget(enough=250, patience=100, epochs=(10, 100), most=100)
WHOLE = Budget(enough=60, patience=10, epochs=(1, 200), most=200)
OF_USERS = Recipe(network.network, network.told, network.inputs, network.solver, network.no_check,
                  network.offset, network.row_bias_of, core.coded, core.answers,
                  network.simple)
OF_ITEMS = replace(OF_USERS, vectors=by_item.vectors, answers=by_item.answers)
