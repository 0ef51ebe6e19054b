"""Variational autoencoders: MultVAE, and RecVAE with its composite prior."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np

from mfcore import validation
from mfcore.data.ratings import Ratings
from mfcore.metrics.fitted import Query
from mfcore.models.autoencoders import choices
from mfcore.models.autoencoders.core import Autoencoder
from mfcore.models.fitted import best_items
from mfcore.models.settings import TRAINED, setting, settings
from mfcore.models.stopping import AUTO, Budget
from mfcore.nn.activations import FORMULAS
from mfcore.nn.autoencoder import CompositePrior, Halves, Variational, identity_loss
from mfcore.nn.heads import Target
from mfcore.nn.joins import Dense, Sequential
from mfcore.nn.layers import Dropout, Layer
from mfcore.nn.network import Trainer
from mfcore.nn.normalise import Activate, LayerNorm
from mfcore.nn.optimizers import Adam
from mfcore.nn.parameters import packed
from mfcore.parallel import Pool
from mfcore.solvers.rows import RowSGD, Stage


class Posterior(NamedTuple):
    """What a model holds possible of users: means and variances of codes, (n, k)."""

    mean: np.ndarray
    variance: np.ndarray


def posterior(self: Any, users: Any = None, *, ratings: Any = None) -> Posterior:
    """Return mean and variance of the codes of users.

    Parameters
    ----------
    users : ids, or None
        None: all users of the fit.
    ratings : Ratings or scipy sparse, shape (n, n_items), or None
        New users' rows; `users` must then be None, else ValueError.

    Notes
    -----
    The variance of code z_uf is the model's own, e^ℓ_uf: what the row leaves open of the
    user's taste under the likelihood and the weight β that it was trained with.  With
    β < 1 it is smaller than a Bayesian's.
    """
    self.check_fitted()
    if users is not None and ratings is not None:
        raise ValueError("users must be None where ratings are given: all their rows are "
                         "answered")
    new = self.new_rows(ratings, None)
    rows = np.arange(self.n_users_) if users is None else self.ratings_.known_users(users)
    with Pool(self.n_threads) as pool:
        return Posterior(*self.answers().posterior(rows if new is None else new, pool))


def recommend(self: Any, users: Any = None, k: int = 10, *, sample: Any = None, **options: Any
              ) -> Any:
    """Return the k best items of each user: see `MatrixFactorization.recommend`.

    Parameters
    ----------
    sample : int, Generator, or None
        None ranks by the score at the mean code.  A seed ranks by the score at one draw
        from each user's posterior: other seeds give other lists, the more so the less a
        row says (Thompson sampling).  The draw depends on the seed and the row alone, so that
        users of equal rows have equal lists; a Generator draws for one user after the other.
    """
    if sample is not None:
        validation.random_generator("sample", sample)
    query = Query(options.pop("similarity", "dot"), sample=sample)
    return best_items(self, query, users, k, **options)


def network(model: Any, shape: tuple[int, int], random: np.random.Generator | None
            ) -> Variational:
    """Return MultVAE's network; random None: its numbers are to be replaced."""
    *layers, last = choices.encoder(model, shape[1], 2 * model.n_latent, "identity", random)
    encoder = Sequential(Dropout(model.dropout), *layers, Halves(last))
    return Variational(encoder, choices.decoder(model, random),
                       choices.head(model, shape[1], random))


def solver(model: Any, network: Variational, ratings: Ratings, random: np.random.Generator
           ) -> RowSGD:
    """Return what trains MultVAE's network."""
    n, x = ratings.shape[0], choices.targets(model, ratings)
    rows = choices.unit_rows(x)
    trainer = Trainer(network, identity_loss, choices.optimizer_of(model, n),
                      seed=int(random.integers(2**63)))

    def make(chosen: np.ndarray, drawn: np.random.Generator, pool: Pool) -> tuple[Any, ...]:
        beta = model.beta * min(1.0, trainer.optimizer.t / model.anneal)
        return rows[chosen], Target(x[chosen]), beta

    return RowSGD([Stage(trainer, make)], n, model.batch_size, int(random.integers(2**63)))


@settings(*TRAINED)
class MultVAE(Autoencoder):
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
        Length k of the code; those that do not pay fall back to the prior, so that too many do
        little harm.
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
        λ, penalty weight of the weights; β usually does without it.
    optimizer, learning_rate, batch_size, memory
        As in `MultDAE`.
    n_epochs
        As in `MultDAE`.
    tol, patience, validation, refit, eval_metric, dtype, random_state, n_threads, verbose
        As in `MatrixFactorization`; eval_metric defaults to "ndcg@10".

    Notes
    -----
    `history_` holds the mean loss of a row, each batch before its step, penalty left out.
    `posterior` returns mean and variance of codes; `recommend(sample=seed)` ranks by a draw.

    References
    ----------
    Liang, Krishnan, Hoffman, Jebara 2018; Higgins et al. 2017 (β > 1).

    See Also
    --------
    RecVAE : A prior that holds codes near their own past.
    MultDAE : The same network without the draw.
    EASE : One linear layer, in closed form.

    Examples
    --------
    >>> from mfcore import MultVAE, fetch
    >>> hobbies = fetch("planted-audiences")            # what people with one of four hobbies buy
    >>> model = MultVAE((32,), 8, n_epochs=20, random_state=0).fit(hobbies.ratings)
    >>> items, scores = model.recommend([0], k=5)       # a gardener
    >>> sorted({hobbies.item_titles[item].split()[0] for item in items[0]})
    ['Gardening']
    """

    hidden: tuple[int, ...] = setting(default=(600,), check=validation.widths, kw_only=False)
    n_latent: int = setting(default=200, low=1, kw_only=False)
    likelihood: str = setting(default="multinomial", among=choices.HEADS)
    values: str = setting(default="binary", among=("binary", "raw"))
    beta: float = setting(default=0.2, low=0, high=1e6)
    anneal: int = setting(default=1000, low=1)
    activation: str = setting(default="tanh", among=FORMULAS)
    dropout: float = setting(default=0.5, check=validation.rate)
    reg: float = setting(default=0.0, low=0)
    optimizer: str = setting(default="adam", among=choices.NAMED)
    learning_rate: float = setting(default=1e-3, above=0, high=1e3)
    batch_size: int = setting(default=500, low=1)
    memory: float = setting(default=8.0, above=0)
    n_epochs: int | str = setting(default="auto", low=1, among=(AUTO,))

    predicts_ratings = False
    initial = "glorot"
    budget = choices.BUDGET
    posterior = posterior
    recommend = recommend
    recipe = choices.recipe(network, solver)


def composite_network(model: Any, shape: tuple[int, int], random: np.random.Generator | None
                      ) -> Variational:
    """Return RecVAE's network; random None: its numbers are to be replaced."""
    stages: list[tuple[Layer, Layer]] = []
    width = model.n_hidden
    for number in range(model.n_layers):
        first = choices.linear(model, f"encoder_{number}", width, width, "identity", random) \
            if number else choices.first(model, shape[1], width, "identity", random)
        norm = LayerNorm(width, epsilon=0.1, dtype=model.dtype, name=f"norm_{number}")
        stages.append((first, Sequential(Activate("swish"), norm)))
    last = Halves(choices.linear(model, "code", width, 2 * model.n_latent, "identity", random))
    network = Variational(Sequential(Dropout(model.dropout), Dense(*stages), last),
                          Sequential(), choices.head(model, shape[1], random))
    network.prior = CompositePrior(*model.prior)
    return network


def composite_solver(model: Any, network: Variational, ratings: Ratings,
                     random: np.random.Generator) -> RowSGD:
    """Return what trains RecVAE's network: its encoder near its own past, then its decoder."""
    n, x = ratings.shape[0], choices.targets(model, ratings)
    rows = choices.unit_rows(x)
    _, *layers = network.encoder.layers                        # type: ignore[attr-defined]
    whole = Variational(Sequential(*layers), network.decoder, network.head)
    whole.prior = CompositePrior(*model.prior)
    old = deepcopy(network)
    parts = network.encoder.parameters(), network.head.parameters()
    past = packed(old.encoder.parameters())

    def make(chosen: np.ndarray, drawn: np.random.Generator, pool: Pool) -> tuple[Any, ...]:
        given, target = rows[chosen], Target(x[chosen])
        beta = np.asarray(model.gamma * target.x.sum(axis=1), model.dtype).reshape(-1, 1)
        return given, target, beta, old.posterior(given, pool)

    def remember() -> None:
        past[...] = np.concatenate([p.value.ravel() for p in parts[0]])

    def trainer(net: Layer) -> Trainer:
        return Trainer(net, identity_loss, Adam(model.learning_rate, decay=2 * model.reg / n),
                       seed=int(random.integers(2**63)))

    encoder = Stage(trainer(network), make, model.encoder_passes, 1.0, *parts)
    decoder = Stage(trainer(whole), make, 1, 1.0, *parts[::-1], begin=remember)
    return RowSGD([encoder, decoder], n, model.batch_size, int(random.integers(2**63)), [past])


@settings(*TRAINED)
class RecVAE(Autoencoder):
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
        Width of the encoder's layers; each sees the sum of all before it.
    n_latent : int, >= 1
        Length k of the code; the decoder is linear.
    n_layers : int, >= 1
        Number of the encoder's layers.
    gamma : float, >= 0
        γ, the weight of the divergence for each rating of a row: the first to tune.
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
    n_epochs
        As in `MultDAE`.
    tol, patience, validation, refit, eval_metric, dtype, random_state, n_threads, verbose
        As in `MatrixFactorization`; eval_metric defaults to "ndcg@10".

    Notes
    -----
    `history_` holds the mean loss of a row in the decoder's pass.

    References
    ----------
    Shenbin, Alekseev, Tutubalina, Malykh, Nikolenko 2020.

    See Also
    --------
    MultVAE : A standard normal prior, and a simpler network.

    Examples
    --------
    >>> from mfcore import RecVAE, fetch
    >>> hobbies = fetch("planted-audiences")            # what people with one of four hobbies buy
    >>> model = RecVAE(32, 16, batch_size=100, n_epochs=20, random_state=0).fit(hobbies.ratings)
    >>> items, scores = model.recommend([0], k=5)       # a gardener
    >>> sorted({hobbies.item_titles[item].split()[0] for item in items[0]})
    ['Gardening']
    """

    n_hidden: int = setting(default=600, low=1, kw_only=False)
    n_latent: int = setting(default=200, low=1, kw_only=False)
    n_layers: int = setting(default=5, low=1)
    gamma: float = setting(default=0.005, low=0, high=1e6)
    prior: tuple[float, float, float] = setting(default=(0.15, 0.75, 0.1), check=validation.shares)
    encoder_passes: int = setting(default=3, low=1)
    values: str = setting(default="binary", among=("binary", "raw"))
    dropout: float = setting(default=0.5, check=validation.rate)
    reg: float = setting(default=0.0, low=0)
    learning_rate: float = setting(default=5e-4, above=0, high=1e3)
    batch_size: int = setting(default=500, low=1)
    memory: float = setting(default=8.0, above=0)
    n_epochs: int | str = setting(default="auto", low=1, among=(AUTO,))

    predicts_ratings = False
    initial = "narrow"
    budget = Budget(enough=100, patience=20, epochs=(2, 100), most=50)
    likelihood = "multinomial"
    hidden = ()
    posterior = posterior
    recommend = recommend
    recipe = choices.recipe(composite_network, composite_solver)
