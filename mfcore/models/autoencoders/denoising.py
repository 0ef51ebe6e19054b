"""MultDAE: rows with cells left out, and a distribution over all items."""

from __future__ import annotations

from typing import Any

import numpy as np

from mfcore import validation
from mfcore.data.ratings import Ratings
from mfcore.models.autoencoders import choices
from mfcore.models.autoencoders.core import Autoencoder
from mfcore.models.settings import TRAINED, setting, settings
from mfcore.models.stopping import AUTO
from mfcore.nn.activations import FORMULAS
from mfcore.nn.autoencoder import Plain, identity_loss
from mfcore.nn.joins import Sequential
from mfcore.nn.layers import Dropout
from mfcore.nn.network import Trainer
from mfcore.solvers.rows import RowSGD, Stage


def network(model: Any, shape: tuple[int, int], random: np.random.Generator | None) -> Plain:
    """Return the network for ratings of a shape; random None: its numbers are to be replaced."""
    layers = choices.encoder(model, shape[1], model.n_latent, model.activation, random)
    return Plain(Sequential(Dropout(model.dropout), *layers), choices.decoder(model, random),
                 choices.head(model, shape[1], random))


def solver(model: Any, network: Plain, ratings: Ratings, random: np.random.Generator) -> RowSGD:
    """Return what trains the network."""
    n = ratings.shape[0]
    trainer = Trainer(network, identity_loss, choices.optimizer_of(model, n),
                      seed=int(random.integers(2**63)))
    return RowSGD([Stage(trainer, choices.batches(model, ratings))], n, model.batch_size,
                  int(random.integers(2**63)))


@settings(*TRAINED)
class MultDAE(Autoencoder):
    """Rank items by a denoising autoencoder with a distribution over all items for each row.

    Minimises, over rows x with a share of their cells left out, by mini-batches,

        −Σ_u Σ_i x_ui ln π_ui + λ ‖W‖²,      π_u = softmax(decoder(encoder(x_u / ‖x_u‖)))

    Parameters
    ----------
    hidden : tuple of int
        Widths from the row to the code, and back from it; () for none.
    n_latent : int, >= 1
        Length k of the code: 200 as published, for a hundred thousand users; fewer for fewer.
    likelihood : {"multinomial", "gaussian", "bernoulli"}
        −x·ln π; ½ Σ_i (x − s)²; −Σ_i [x ln σ(s) + (1 − x) ln(1 − σ(s))].
    values : {"binary", "raw"}
        x holds 1 for each rating above 0, or the ratings as they are.
    activation : str
        Of the hidden layers, such as "tanh" or "relu".
    dropout : float in [0, 1)
        Share of the cells of a row that training leaves out of the input.  Half, as published.
    reg : float, >= 0
        λ, penalty weight of the weights; dropout usually does without it.
    optimizer : str
        "adam", "sgd", "momentum" or another of the library's.
    learning_rate : float, > 0
        η, length of a step; larger batches bear larger ones.
    batch_size : int, >= 1
        Rows of a batch; where there are few users, smaller ones, for the sake of more steps.
    memory : float, > 0
        Gigabytes that weights, gradients and moments may take.
    n_epochs : int >= 1, or "auto"
        Passes over the users.  "auto": as many as a held-out tenth finds to be best, within a
        budget of steps (`budget`); where that is fewer than 100 ratings, the steps that do
        without.  An integer holds nothing out, unless `validation` is given.
    tol, patience, validation, refit, eval_metric, dtype, random_state, n_threads, verbose
        As in `MatrixFactorization`; eval_metric defaults to "ndcg@10".

    Notes
    -----
    `history_` holds the mean loss of a row, each batch before its step, penalty left out.

    References
    ----------
    Liang, Krishnan, Hoffman, Jebara 2018.

    See Also
    --------
    MultVAE : The code is drawn.
    EASE : One linear layer, in closed form.

    Examples
    --------
    >>> from mfcore import MultDAE, fetch
    >>> hobbies = fetch("planted-audiences")            # what people with one of four hobbies buy
    >>> model = MultDAE((32,), n_epochs=60, random_state=0).fit(hobbies.ratings)
    >>> items, scores = model.recommend([0], k=5)       # a gardener
    >>> sorted({hobbies.item_titles[item].split()[0] for item in items[0]})
    ['Gardening']
    """

    hidden: tuple[int, ...] = setting(default=(), check=validation.widths, kw_only=False)
    n_latent: int = setting(default=200, low=1, kw_only=False)
    likelihood: str = setting(default="multinomial", among=choices.HEADS)
    values: str = setting(default="binary", among=("binary", "raw"))
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
    recipe = choices.recipe(network, solver)
