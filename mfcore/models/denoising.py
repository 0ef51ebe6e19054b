"""MultDAE: rows with cells left out, and a distribution over all items."""

from __future__ import annotations

from typing import Any

import numpy as np

from mfcore.data.ratings import Ratings
from mfcore.models.choices import ChoiceAutoencoder
from mfcore.nn.autoencoder import Plain, identity_loss
from mfcore.nn.joins import Sequential
from mfcore.nn.layers import Dropout
from mfcore.nn.network import Trainer
from mfcore.solvers.rows import RowSGD, Stage


class MultDAE(ChoiceAutoencoder):
    """Rank items by a denoising autoencoder with a distribution over all items for each row.

    Minimises, over rows x with a share of their cells left out, by mini-batches,

        −Σ_u Σ_i x_ui ln π_ui + λ ‖W‖²,      π_u = softmax(decoder(encoder(x_u / ‖x_u‖)))

    Parameters
    ----------
    hidden : tuple of int
        Widths from the row to the code, and back from it; () for none.
    n_latent : int, >= 1
        Length k of the code.
    likelihood : {"multinomial", "gaussian", "bernoulli"}
        −x·ln π; ½ Σ_i (x − s)²; −Σ_i [x ln σ(s) + (1 − x) ln(1 − σ(s))].
    values : {"binary", "raw"}
        x holds 1 for each rating above 0, or the ratings as they are.
    activation : str
        Of the hidden layers, such as "tanh" or "relu".
    dropout : float in [0, 1)
        Share of the cells of a row that training leaves out of the input.
    reg : float, >= 0
        λ.
    optimizer : str
        "adam", "sgd", "momentum" or another of the library's.
    learning_rate : float, > 0
        η, length of a step.
    batch_size : int, >= 1
        Rows of a batch.
    memory : float, > 0
        Gigabytes that weights, gradients and moments may take.
    n_epochs, tol, patience, eval_metric, dtype, random_state, n_threads, verbose
        As in `MatrixFactorization`; eval_metric defaults to "ndcg@10".

    Notes
    -----
    `history_` holds the mean loss of a row, each batch before its step, penalty left out.

    References
    ----------
    Liang, Krishnan, Hoffman, Jebara 2018.
    """

    def __init__(self, hidden: tuple[int, ...] = (), n_latent: int = 200, *,
                 likelihood: str = "multinomial", values: str = "binary",
                 activation: str = "tanh", dropout: float = 0.5, reg: float = 0.0,
                 optimizer: str = "adam", learning_rate: float = 1e-3, batch_size: int = 500,
                 memory: float = 8.0, n_epochs: int = 100, tol: float | None = None,
                 patience: int | None = None, eval_metric: str | None = None,
                 dtype: str = "float32", random_state: Any = None,
                 n_threads: int | None = None, verbose: int = 0) -> None:
        self.hidden = hidden
        self.n_latent = n_latent
        self.likelihood = likelihood
        self.values = values
        self.activation = activation
        self.dropout = dropout
        self.reg = reg
        self.optimizer = optimizer
        self.learning_rate = learning_rate
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

    def _validate(self) -> None:
        super()._validate()
        self._validate_layers()

    def _network(self, shape: tuple[int, int], random: np.random.Generator | None) -> Plain:
        layers = self._coder(shape[1], self.n_latent, self.activation, random)
        return Plain(Sequential(Dropout(self.dropout), *layers), self._decoder(random),
                     self._head(shape[1], random))

    def _solver(self, network: Plain, ratings: Ratings, random: np.random.Generator) -> RowSGD:
        n = ratings.shape[0]
        trainer = Trainer(network, identity_loss, self._optimizer(n),
                          seed=int(random.integers(2**63)))
        return RowSGD([Stage(trainer, self._batches(ratings))], n, self.batch_size,
                      int(random.integers(2**63)))
