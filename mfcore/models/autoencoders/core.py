"""How a model answers whose score is a function of a user's row: encode, decode, score.

    code_u = encoder(row_u)        s_ui = μ + b_u + b̃_i + scale · φ(decoder(code_u)·W_i + c_i)

A user's vector is its code, of old and new users alike: nothing is trained for a new one.
An item's vector is the code of a user who gave it, and it alone, the top rating.

What differs between autoencoders is a recipe of functions: rows, network and solver.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.ratings import Ratings
from mfcore.metrics.fitted import Asked, Folded, NewRows, Query, Scorer
from mfcore.models.fitted import Unanswered, answered_unless, cosine_scorer, nearest, rows_of
from mfcore.models.inputs import named
from mfcore.models.recommender import Recommender
from mfcore.models.sides import Side, Sides
from mfcore.models.training import Start
from mfcore.nn.autoencoder import Plain, Variational
from mfcore.nn.parameters import packed, unpack
from mfcore.nn.sparse import times
from mfcore.objectives.factors import pair_scores
from mfcore.parallel import Pool, row_chunks
from mfcore.solvers.loop import Solver
from mfcore.solvers.rows import Vector

EMBEDDINGS = ("one_hot", "average", "centred_average")
# Rows encoded together, and pairs decoded together.
ROWS, PAIRS = 2048, 16_384

Random = np.random.Generator


def _no_bias(_: Ratings) -> None:
    """Return None: the model has no biases."""


@dataclass(frozen=True)
class Recipe:
    """What an autoencoder makes of ratings.

    network : network(shape, random) for ratings of a shape; random None: its numbers are to
        be replaced
    inputs : inputs(ratings), the rows that the encoder takes, columns those of the model
    solver : solver(network, ratings, random), what trains the network
    row_bias : row_bias(ratings), b_u of new users, or None
    """

    network: Callable[[tuple[int, int], Random | None], Any]
    inputs: Callable[[Ratings], sp.csr_array]
    solver: Callable[[Any, Ratings, Random], Solver]
    row_bias: Callable[[Ratings], np.ndarray | None] = _no_bias


class Autoencoder(Recommender):
    """Base of models that encode rows; `weights_` holds all numbers of the network."""

    weights_: np.ndarray
    scale_: float

    def recipe(self) -> Recipe:
        """Return what the model makes of ratings."""
        raise NotImplementedError

    def user_embedding(self, ratings: Any = None) -> np.ndarray:
        """Return the codes of users, shape (n, k): of the fit, or of the rows given.

        ratings : Ratings or scipy sparse, shape (n, n_items), or None
        """
        self.check_fitted()
        codes: np.ndarray = self.user_factors_ if ratings is None else \
            self.fold_in_users(ratings).factors
        return codes

    def item_embedding(self, method: str = "one_hot") -> np.ndarray:
        """Return vectors of the items in the space of the users' codes, shape (n_items, k).

        Parameters
        ----------
        method : {"one_hot", "average", "centred_average"}
            The code of a user whose one rating, the highest there is, is on the item; the
            mean of the codes of those who rated it, weighted by their ratings; the same, less
            the mean code of all users, which all items would share.
        """
        self.check_fitted()
        validation.choice("method", method, EMBEDDINGS)
        if method == "one_hot":
            codes: np.ndarray = self.item_factors_
            return codes
        self.check_seen()
        P = self.user_factors_
        if method == "centred_average":
            P = P - P.mean(axis=0, dtype=np.float64).astype(P.dtype)
        cells = self.ratings_.by_item
        R = sp.csr_array((cells.data.astype(P.dtype), cells.indices, cells.indptr),
                         shape=cells.shape)
        with Pool(self.n_threads) as pool:
            total = times(R, P, pool)
        weight = np.asarray(abs(R).sum(axis=1), P.dtype).reshape(-1, 1)
        return total / np.where(weight > 0, weight, 1)

    def similar_items(self, items: Any, k: int = 10, *, similarity: str = "cosine",
                      embedding: str = "one_hot") -> tuple[np.ndarray, np.ndarray]:
        """Return the k items nearest to each of `items`, without itself, shape (n, k).

        `embedding` is the method of `item_embedding`.
        """
        self.check_fitted()
        columns = self.ratings_.known_items(items)
        best, scores = nearest(self, self.item_embedding(embedding), columns, k, similarity)
        return named(best, self.item_ids_), scores


# --------------------------------------------------------------------------- training

def check_memory(model: Any, ratings: Ratings, recipe: Recipe) -> None:
    """Refuse a network that the memory cannot hold, before any of it is made."""
    size = np.dtype(model.dtype).itemsize
    numbers = sum(p.value.size for p in recipe.network(ratings.shape, None).parameters())
    # Weights, gradients, two moments, and the last and the best epoch.
    needed = size * 6 * numbers / 1e9
    if needed > model.memory:
        raise ValueError(f"memory must be at least {needed:.2f} gigabytes for {numbers} "
                         f"numbers of the network in {model.dtype}, got {model.memory:g}; "
                         f"take fewer hidden units, or raise memory")


def begin(model: Any, ratings: Ratings, sides: Sides, random: Random) -> Start:
    """Return where a fit begins, for a model whose offsets and scale are set."""
    recipe = model.recipe()
    network = recipe.network(ratings.shape, random)
    at = Vector(packed(network.parameters()))
    solver = recipe.solver(network, ratings, random)

    def publish(at: Vector) -> None:
        model.weights_ = at.weights
        with Pool(model.n_threads) as pool:
            codes = _codes(learned(model), recipe.inputs(ratings), pool)
            one_hot = _codes(learned(model), recipe.inputs(_one_hot_users(model)), pool)
        sides.users.factors, sides.items.factors = codes, one_hot

    return Start(solver, at, publish)


def learned(model: Any) -> Any:
    """Return the network of the learned numbers, which it shares."""
    network = model.recipe().network(model.ratings_.shape, None)
    unpack(model.weights_, network.parameters())
    return network


def _codes(network: Plain, X: sp.csr_array, pool: Pool) -> np.ndarray:
    """Return the codes of input rows, shape (n, k)."""
    return np.concatenate([network.encode(X[start:stop], pool) for start, stop
                           in row_chunks(X.shape[0], ROWS) or [(0, 0)]])


def _one_hot_users(model: Any) -> Ratings:
    n = model.n_items_
    return Ratings(sp.csr_array((np.full(n, model.rating_range_[1]), np.arange(n),
                                 np.arange(n + 1)), shape=(n, n)), copy=False)


# ---------------------------------------------------------------------------- answers

@dataclass(frozen=True)
class Coded:
    """The answers of codes of users' rows.

    known : known() returns the ratings of the fit; it raises where they were not saved
    """

    recipe: Recipe
    network: Any
    users: Side
    items: Side
    mean: float
    scale: float
    known: Callable[[], Ratings]
    unanswered: Unanswered = field(default_factory=Unanswered)

    def vectors(self, asked: Asked, pool: Pool) -> Folded:
        """Return the codes of users; of a row without ratings for -1."""
        if isinstance(asked, NewRows):
            return self.fold_in(asked, pool)
        found = rows_of(self.users, asked, None)
        if (asked < 0).any():
            found.factors[asked < 0] = self._default_code()
        return found

    def fold_in(self, new: NewRows, pool: Pool) -> Folded:
        """Return the codes of new users: nothing is learned for them."""
        ratings = new.known(len(self.items.factors))
        return Folded(_codes(self.network, self.recipe.inputs(ratings), pool),
                      self.recipe.row_bias(ratings))

    def scorer(self, asked: Asked, query: Query, pool: Pool) -> Scorer:
        """Return what scores users against all items, by their codes or by a draw of them."""
        users = self.vectors(asked, pool) if query.sample is None else \
            self._drawn(asked, query.sample, pool)
        if query.similarity == "cosine":
            return cosine_scorer(users, self.items)
        beta = np.full(len(users.factors), self.mean)
        if users.bias is not None:
            beta += users.bias
        return DecodedScorer(self.network, users.factors, self.scale, beta, self.items.bias)

    def pairs(self, rows: np.ndarray, columns: np.ndarray, new: NewRows | None, pool: Pool
              ) -> np.ndarray:
        """Return what `predict` says of pairs."""
        users, counts = Folded(self.users.factors, self.users.bias), self.users.counts
        if new is not None:
            users, counts = self.fold_in(new, pool), new.counts
        codes = np.vstack([users.factors, self._default_code()])
        places = np.where(rows < 0, len(users.factors), rows)
        scores = self.mean + self._decoded(places, columns, codes, pool)
        for each, bias in ((places, users.bias), (columns, self.items.bias)):
            if bias is not None:
                scores += np.append(bias, 0)[np.where(each < 0, len(bias), each)]
        return self.unanswered.fill(scores, (rows, counts, None),
                                    (columns, self.items.counts, None))

    def posterior(self, asked: Asked, pool: Pool) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance of the codes of users, for a network that has both."""
        network: Variational = self.network
        ratings = asked.known(len(self.items.factors)) if isinstance(asked, NewRows) else \
            Ratings(self.known().cells_of(asked), copy=False)
        X = self.recipe.inputs(ratings)
        parts = [network.posterior(X[start:stop], pool) for start, stop
                 in row_chunks(X.shape[0], ROWS) or [(0, 0)]]
        mean, log_variance = (np.concatenate(each) for each in zip(*parts, strict=True))
        return mean, np.exp(log_variance)

    def _drawn(self, asked: Asked, random: Random, pool: Pool) -> Folded:
        """Return a draw from each user's posterior."""
        mean, variance = self.posterior(asked, pool)
        draw = random.standard_normal(mean.shape).astype(mean.dtype)
        return Folded(mean + np.sqrt(variance) * draw, None)

    def _default_code(self) -> np.ndarray:
        """Return the code of a row without ratings, shape (1, k)."""
        nobody = sp.csr_array((1, len(self.items.factors)), dtype=self.users.factors.dtype)
        return _codes(self.network, nobody, Pool(1))

    def _decoded(self, rows: np.ndarray, columns: np.ndarray, codes: np.ndarray, pool: Pool
                 ) -> np.ndarray:
        """Return scale · φ(h_u·W_i + c_i) of pairs; 0 for items of -1."""
        head, out = self.network.head, np.zeros(len(rows))
        W, c = head.W.value, head.b.value
        for start, stop in row_chunks(len(rows), PAIRS):
            known = start + np.flatnonzero(columns[start:stop] >= 0)
            asked, place = np.unique(rows[known], return_inverse=True)
            h = self.network.decode(codes[asked], pool)
            z = pair_scores(place, columns[known], h, W, np.zeros(len(h), h.dtype), c, pool)
            out[known] = self.scale * head.activation.formula.value(z)
        return out


def answers(model: Any) -> Coded:
    """Return the answers of a fitted autoencoder of users' rows."""
    def known() -> Ratings:
        model.check_seen()
        ratings: Ratings = model.ratings_
        return ratings

    return Coded(model.recipe(), learned(model), model.users_, model.items_, model.global_mean_,
                 model.scale_, known, answered_unless(model))


class DecodedScorer:
    """Scores of blocks of rows against all items, from their codes.

    beta, gamma : ndarray, shapes (n_rows,), (n_items,), or None, added to the scores
    """

    def __init__(self, network: Plain, codes: np.ndarray, scale: float = 1.0,
                 beta: np.ndarray | None = None, gamma: np.ndarray | None = None) -> None:
        self.network, self.codes, self.scale = network, codes, scale
        self.beta, self.gamma = beta, gamma
        self.n_rows, self.n_items = len(codes), len(network.head.b.value)

    def block(self, start: int, stop: int) -> np.ndarray:
        """Return the scores of rows start..stop, shape (stop - start, n_items)."""
        h = self.network.decode(self.codes[start:stop], Pool(1))
        z = h @ self.network.head.W.value.T + self.network.head.b.value
        scores = self.network.head.activation.formula.value(z)
        scores *= scores.dtype.type(self.scale)
        if self.gamma is not None:
            scores += self.gamma.astype(scores.dtype)
        if self.beta is not None:
            scores += self.beta[start:stop, None].astype(scores.dtype)
        return scores
