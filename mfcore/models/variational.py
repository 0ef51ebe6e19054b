"""Variational autoencoders: MultVAE, and RecVAE with its composite prior."""

from __future__ import annotations

from typing import Any

import numpy as np

from mfcore import validation
from mfcore.data.ratings import Ratings
from mfcore.models.posterior import VariationalAutoencoder
from mfcore.nn.autoencoder import CompositePrior, Halves, Plain, Variational, identity_loss
from mfcore.nn.joins import Dense, Sequential
from mfcore.nn.layers import Dropout, Layer
from mfcore.nn.network import Trainer
from mfcore.nn.normalise import Activate, LayerNorm
from mfcore.nn.optimizers import Adam
from mfcore.nn.parameters import packed, unpack
from mfcore.parallel import Pool
from mfcore.solvers.rows import RowSGD, Stage


class MultVAE(VariationalAutoencoder):
    """Rank items by a variational autoencoder with a distribution over all items for each row.

    Minimises, by mini-batches, over rows x with a share of their cells left out of the input,

        Σ_u [ −E ln p(x_u | z_u) + β KL(N(μ_u, e^ℓ_u) ‖ N(0, 1)) ] + λ ‖W‖²

    with (μ, ℓ) = encoder(x / ‖x‖), z ~ N(μ, e^ℓ) and, for the multinomial likelihood,
    ln p = Σ_i x_i ln π_i, π = softmax(decoder(z)).  Predictions are at z = μ.

    Parameters
    ----------
    hidden : tuple of int
        Widths from the row to the code, and back from it; () for none.
    n_latent : int, >= 1
        Length k of the code.
    likelihood : {"multinomial", "gaussian", "bernoulli"}
        Of a row: one draw of all its cells; N(x_i; s_i, 1) for each item; σ(s_i) for each.
    values : {"binary", "raw"}
        x holds 1 for each rating above 0, or the ratings as they are.
    beta : float, >= 0
        β at the end; more than 1 presses the parts of a code towards independence (β-VAE).
    anneal : int, >= 1
        Steps in which β grows from 0, linearly.
    activation, dropout
        As in `MultDAE`.
    reg : float, >= 0
        λ.
    optimizer, learning_rate, batch_size, memory
        As in `MultDAE`.
    n_epochs, tol, patience, eval_metric, dtype, random_state, n_threads, verbose
        As in `MatrixFactorization`; eval_metric defaults to "ndcg@10".

    Notes
    -----
    `history_` holds the mean loss of a row, each batch before its step, penalty left out.
    `posterior` returns mean and variance of codes; `recommend(sample=seed)` ranks by a draw.

    References
    ----------
    Liang, Krishnan, Hoffman, Jebara 2018; Higgins et al. 2017 (β > 1).
    """

    def __init__(self, hidden: tuple[int, ...] = (600,), n_latent: int = 200, *,
                 likelihood: str = "multinomial", values: str = "binary", beta: float = 0.2,
                 anneal: int = 1000, activation: str = "tanh", dropout: float = 0.5,
                 reg: float = 0.0, optimizer: str = "adam", learning_rate: float = 1e-3,
                 batch_size: int = 500, memory: float = 8.0, n_epochs: int = 100,
                 tol: float | None = None, patience: int | None = None,
                 eval_metric: str | None = None, dtype: str = "float32",
                 random_state: Any = None, n_threads: int | None = None,
                 verbose: int = 0) -> None:
        self.hidden = hidden
        self.n_latent = n_latent
        self.likelihood = likelihood
        self.values = values
        self.beta = beta
        self.anneal = anneal
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
        validation.real("beta", self.beta, low=0, high=1e6)
        validation.integer("anneal", self.anneal, low=1)

    def _network(self, shape: tuple[int, int], random: np.random.Generator | None
                 ) -> Variational:
        *layers, last = self._coder(shape[1], 2 * self.n_latent, "identity", random)
        encoder = Sequential(Dropout(self.dropout), *layers, Halves(last))
        return Variational(encoder, self._decoder(random), self._head(shape[1], random))

    def _solver(self, network: Plain, ratings: Ratings, random: np.random.Generator) -> RowSGD:
        n, batches = ratings.shape[0], self._batches(ratings)
        trainer = Trainer(network, identity_loss, self._optimizer(n),
                          seed=int(random.integers(2**63)))

        def make(*request: Any) -> tuple[Any, ...]:
            return *batches(*request), self.beta * min(1.0, trainer.optimizer.t / self.anneal)

        return RowSGD([Stage(trainer, make)], n, self.batch_size, int(random.integers(2**63)))


class RecVAE(VariationalAutoencoder):
    """Rank items by a variational autoencoder that is held near its own past.

    As `MultVAE` with the multinomial likelihood, but
    the prior of a row's code is a mixture of N(0, 1), the posterior that the encoder gave the
    row at the end of the last epoch, and a wide normal (see `nn/autoencoder.py`);
    β_u = gamma · |x_u|, more for rows that say more;
    in an epoch the encoder learns for `encoder_passes` passes, from rows with cells left out,
    then the decoder for one, from whole rows.

    Parameters
    ----------
    n_hidden : int, >= 1
        Width of the encoder's layers, of which each sees the sum of all before it.
    n_latent : int, >= 1
        Length k of the code; the decoder is linear.
    n_layers : int, >= 1
        Number of the encoder's layers.
    gamma : float, >= 0
        γ, the weight of the divergence for each rating of a row.
    prior : (float, float, float)
        Shares of the three parts, > 0; they add up to 1.
    encoder_passes : int, >= 1
        Passes of the encoder for one of the decoder, in each epoch.
    values : {"binary", "raw"}
    dropout : float in [0, 1)
        As in `MultDAE`, for the encoder's passes.
    reg : float, >= 0
        λ, as in `MultVAE`.
    learning_rate, batch_size, memory
        As in `MultDAE`; the optimizers are Adam's.
    n_epochs, tol, patience, eval_metric, dtype, random_state, n_threads, verbose
        As in `MatrixFactorization`; eval_metric defaults to "ndcg@10".

    Notes
    -----
    `history_` holds the mean loss of a row in the decoder's pass.

    References
    ----------
    Shenbin, Alekseev, Tutubalina, Malykh, Nikolenko 2020.
    """

    likelihood = "multinomial"
    hidden = ()

    def __init__(self, n_hidden: int = 600, n_latent: int = 200, *, n_layers: int = 5,
                 gamma: float = 0.005, prior: tuple[float, float, float] = (0.15, 0.75, 0.1),
                 encoder_passes: int = 3, values: str = "binary", dropout: float = 0.5,
                 reg: float = 0.0, learning_rate: float = 5e-4, batch_size: int = 500,
                 memory: float = 8.0, n_epochs: int = 50, tol: float | None = None,
                 patience: int | None = None, eval_metric: str | None = None,
                 dtype: str = "float32", random_state: Any = None,
                 n_threads: int | None = None, verbose: int = 0) -> None:
        self.n_hidden = n_hidden
        self.n_latent = n_latent
        self.n_layers = n_layers
        self.gamma = gamma
        self.prior = prior
        self.encoder_passes = encoder_passes
        self.values = values
        self.dropout = dropout
        self.reg = reg
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
        for name in ("n_hidden", "n_layers", "encoder_passes"):
            validation.integer(name, getattr(self, name), low=1)
        validation.real("gamma", self.gamma, low=0, high=1e6)
        shares = [validation.real("prior", share, above=0) for share in self.prior]
        if len(shares) != 3 or abs(sum(shares) - 1) > 1e-6:
            raise ValueError(f"prior must be three shares that add up to 1, got {self.prior}")

    def _network(self, shape: tuple[int, int], random: np.random.Generator | None
                 ) -> Variational:
        stages: list[tuple[Layer, Layer]] = []
        for number in range(self.n_layers):
            first = self._linear(f"encoder_{number}", self.n_hidden, self.n_hidden, "identity",
                                 random) if number else \
                self._first(shape[1], self.n_hidden, "identity", random)
            norm = LayerNorm(self.n_hidden, epsilon=0.1, dtype=self.dtype, name=f"norm_{number}")
            stages.append((first, Sequential(Activate("swish"), norm)))
        last = Halves(self._linear("code", self.n_hidden, 2 * self.n_latent, "identity", random))
        network = Variational(Sequential(Dropout(self.dropout), Dense(*stages), last),
                              Sequential(), self._head(shape[1], random))
        network.prior = CompositePrior(*self.prior)
        return network

    def _solver(self, network: Plain, ratings: Ratings, random: np.random.Generator) -> RowSGD:
        n, batches = ratings.shape[0], self._batches(ratings)
        dropout, *layers = network.encoder.layers              # type: ignore[attr-defined]
        whole = Variational(Sequential(*layers), network.decoder, network.head)
        whole.prior = CompositePrior(*self.prior)
        old = self._network(ratings.shape, None)
        parts = network.encoder.parameters(), network.head.parameters()
        past = packed(old.encoder.parameters())
        past[...] = np.concatenate([p.value.ravel() for p in parts[0]])
        unpack(past, old.encoder.parameters())

        def make(chosen: np.ndarray, drawn: np.random.Generator, pool: Pool) -> tuple[Any, ...]:
            rows, target = batches(chosen, drawn, pool)
            beta = np.asarray(self.gamma * target.x.sum(axis=1), self.dtype).reshape(-1, 1)
            return rows, target, beta, old.posterior(rows, pool)

        def remember() -> None:
            past[...] = np.concatenate([p.value.ravel() for p in parts[0]])

        def trainer(net: Layer) -> Trainer:
            return Trainer(net, identity_loss, Adam(self.learning_rate, decay=2 * self.reg / n),
                           seed=int(random.integers(2**63)))

        encoder = Stage(trainer(network), make, self.encoder_passes, 1.0, *parts)
        decoder = Stage(trainer(whole), make, 1, 1.0, *parts[::-1], begin=remember)
        return RowSGD([encoder, decoder], n, self.batch_size, int(random.integers(2**63)), [past])
