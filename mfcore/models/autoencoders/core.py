"""How a model answers whose score is a function of a user's row: encode, decode, score.

    code_u = encoder(row_u)        s_ui = μ + b_u + b̃_i + scale · φ(decoder(code_u)·W_i + c_i)

A user's vector is its code, for old and new users: nothing is trained for a new one.
An item's vector is the code of a user who gave it, and it alone, the top rating.

What differs between autoencoders is a recipe of functions: rows, network and solver.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.positions import named
from mfcore.data.ratings import Ratings
from mfcore.metrics.fitted import Asked, Fitted, Folded, NewRows, Query, Scorer
from mfcore.models.fitted import (
    Unanswered,
    answered_unless,
    cosine_scorer,
    framed,
    framing,
    nearest,
    rows_of,
)
from mfcore.models.inputs import item_filters, stated
from mfcore.models.recommender import Recommender
from mfcore.models.sides import Side, Sides
from mfcore.models.training import Start
from mfcore.nn.autoencoder import Plain, Variational, normal_by_row
from mfcore.nn.parameters import packed, unpack
from mfcore.nn.sparse import times
from mfcore.objectives.factors import LinearScorer, lengths, pair_scores
from mfcore.parallel import Pool, row_chunks
from mfcore.solvers.loop import Solver
from mfcore.solvers.rows import Vector

EMBEDDINGS = ("one_hot", "average", "centred_average")
# Rows encoded together, and pairs decoded together.
ROWS, PAIRS = 2048, 16_384

Random = np.random.Generator


@dataclass(frozen=True)
class Recipe:
    """What an autoencoder makes of ratings: functions whose first argument is the model.

    network : network(model, shape, random) for ratings of a shape; random None: its numbers
        are to be replaced
    told : told(model, ratings), those that say something: others are as good as absent
    inputs : inputs(model, ratings), the rows that the encoder takes, columns those of the model
    solver : solver(model, network, ratings, random), what trains the network
    check : check(model, ratings) raises for values that it cannot learn from
    offset : offset(model, ratings, sides) sets offsets and scale at the start of a fit
    row_bias : row_bias(model, ratings), b_u of new users, or None
    vectors : vectors(model, network, ratings) returns a function of a pool, that returns the
        vectors of users and items under the present numbers
    answers : answers(model), what is asked of the fitted model
    simple : simple(model, network, at) returns a function that returns the numbers of a network
        that answers without having learned, or None; None: there are none
    """

    network: Callable[[Any, tuple[int, int], Random | None], Any]
    told: Callable[[Any, Ratings], Ratings]
    inputs: Callable[[Any, Ratings], sp.csr_array]
    solver: Callable[[Any, Any, Ratings, Random], Solver]
    check: Callable[[Any, Ratings], None]
    offset: Callable[[Any, Ratings, Sides], None]
    row_bias: Callable[[Any, Ratings], np.ndarray | None]
    vectors: Callable[[Any, Any, Ratings], Callable[[Pool], tuple[np.ndarray, np.ndarray]]]
    answers: Callable[[Any], Fitted]
    simple: Callable[[Any, Any, Vector], Callable[[], Vector] | None] | None = None


class Autoencoder(Recommender):
    """Base of models that encode rows; `weights_` holds all numbers of the network."""

    weights_: np.ndarray
    scale_: float

    memory: float
    batch_size: int | None
    recipe: Recipe

    def check(self, ratings: Ratings) -> None:
        """Raise for values it cannot learn from, and a network that the memory cannot hold."""
        recipe, size = self.recipe, np.dtype(self.dtype).itemsize
        recipe.check(self, ratings)
        numbers = _n_numbers(recipe.network(self, ratings.shape, None))
        # Weights, gradients, two moments, and the last and the best epoch.
        needed = size * 6 * numbers / 1e9
        if needed > self.memory:
            raise ValueError(f"memory must be at least {stated(needed)} gigabytes for {numbers} "
                             f"numbers of the network in {self.dtype}, got {self.memory:g}; "
                             f"take fewer hidden units, or raise memory")

    def widths(self) -> dict[str, int]:
        """Return the lengths that hyper-parameters give to axes of fitted arrays, by name."""
        return {"weight": _n_numbers(self.recipe.network(self, self.ratings_.shape, None))}

    def begin(self, ratings: Ratings, sides: Sides, random: Random) -> Start:
        """Return where a fit begins, and what improves it."""
        recipe = self.recipe
        recipe.offset(self, ratings, sides)
        network = recipe.network(self, ratings.shape, random)
        told = recipe.told(self, ratings)
        ratings = told if told.nnz else ratings
        at = Vector(packed(network.parameters()))          # (which the network shares)
        solver = recipe.solver(self, network, ratings, random)
        vectors = recipe.vectors(self, network, ratings)

        def publish(at: Vector) -> None:
            self.weights_ = at.weights
            with Pool(self.n_threads) as pool:
                sides.users.factors, sides.items.factors = vectors(pool)

        return Start(solver, at, publish, simple=recipe.simple and recipe.simple(self, network, at))

    def n_steps(self, ratings: Ratings) -> int:
        """Return the steps of an epoch."""
        n_rows = ratings.shape[0]
        return 1 if self.batch_size is None else -(-n_rows // self.batch_size)

    def answers(self) -> Fitted:
        """Return what is asked of the fitted model."""
        return self.recipe.answers(self)

    def learned(self) -> Any:
        """Return the network of the learned numbers, which it shares."""
        network = self.recipe.network(self, self.ratings_.shape, None)
        unpack(self.weights_, network.parameters())
        return network

    def user_embedding(self, ratings: Any = None) -> np.ndarray:
        """Return the codes of users, shape (n, k): of the fit, or of the rows given.

        ratings : Ratings or scipy sparse, shape (n, n_items), or None
        """
        self.check_fitted()
        found: np.ndarray = self.user_factors_ if ratings is None else \
            self.fold_in_users(ratings).factors
        return found

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
            found: np.ndarray = self.item_factors_
            return found
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

    def similar_items(self, of: Any, k: int = 10, *, similarity: str = "cosine",
                      items: Any = None, exclude_items: Any = None, embedding: str = "one_hot",
                      as_frame: bool | str | None = None, titles: Any = None) -> Any:
        """Return the k items nearest to each given one: see `MatrixFactorization.similar_items`.

        `embedding` is the method of `item_embedding`.
        """
        self.check_fitted()
        table, columns = framing(self, as_frame, titles), self.ratings_.known_items(of)
        filters = item_filters(self.ratings_, len(columns), items, exclude_items, row="item")
        best, scores = nearest(self, self.item_embedding(embedding), columns, k, similarity,
                               filters)
        return framed(table, "item", columns, named(best, self.item_ids_), scores)


def _n_numbers(network: Any) -> int:
    return sum(parameter.value.size for parameter in network.parameters())


# --------------------------------------------------------------------- codes of rows

def coded(model: Any, network: Plain, ratings: Ratings
          ) -> Callable[[Pool], tuple[np.ndarray, np.ndarray]]:
    """Return a function that returns the codes of users, and of users of one item each."""
    inputs, users_of_one = model.recipe.inputs, _one_hot_users(ratings, model.rating_range_[1])
    X, one_hot = inputs(model, ratings), inputs(model, users_of_one)
    return lambda pool: (codes(network, X, pool), codes(network, one_hot, pool))


def codes(network: Plain, X: sp.csr_array, pool: Pool) -> np.ndarray:
    """Return the codes of input rows, shape (n, k)."""
    return np.concatenate([network.encode(X[start:stop], pool, apart=True) for start, stop
                           in row_chunks(X.shape[0], ROWS) or [(0, 0)]])


def _one_hot_users(ratings: Ratings, rating: float) -> Ratings:
    n = ratings.shape[1]
    return Ratings(sp.csr_array((np.full(n, rating), np.arange(n), np.arange(n + 1)),
                                shape=(n, n)), copy=False)


def no_offset(model: Any, ratings: Ratings, sides: Sides) -> None:
    """Set offsets of 0 and a scale of 1."""
    model.global_mean_, model.scale_ = 0.0, 1.0


def no_bias(model: Any, ratings: Ratings) -> None:
    """Return None: the model has no biases."""


# ---------------------------------------------------------------------------- answers

@dataclass(frozen=True)
class Coded:
    """The answers of codes of users' rows, by the network of a fitted model."""

    model: Any
    network: Any
    users: Side
    items: Side
    unanswered: Unanswered

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
        recipe = self.model.recipe
        X = recipe.inputs(self.model, recipe.told(self.model, ratings))
        return Folded(codes(self.network, X, pool),
                      recipe.row_bias(self.model, ratings))

    def scorer(self, asked: Asked, query: Query, pool: Pool) -> Scorer:
        """Return what scores users against all items, by their codes or by a draw of them."""
        users = self.vectors(asked, pool) if query.sample is None else \
            self.drawn(asked, query.sample, pool)
        if query.similarity == "cosine":
            return cosine_scorer(users, self.items)
        return DecodedScorer(self.network, users.factors, self.model.scale_, users.bias,
                             self.items.bias, self.model.global_mean_)

    def pairs(self, rows: np.ndarray, columns: np.ndarray, new: NewRows | None, pool: Pool
              ) -> np.ndarray:
        """Return what `predict` says of pairs."""
        users, counts = Folded(self.users.factors, self.users.bias), self.users.counts
        if new is not None:
            users, counts = self.fold_in(new, pool), new.counts
        codes = np.vstack([users.factors, self._default_code()])
        places = np.where(rows < 0, len(users.factors), rows)
        scores = self.model.global_mean_ + self._decoded(places, columns, codes, pool)
        for each, bias in ((places, users.bias), (columns, self.items.bias)):
            if bias is not None:
                scores += np.append(bias, 0)[np.where(each < 0, len(bias), each)]
        return self.unanswered.fill(scores, (rows, counts, None),
                                    (columns, self.items.counts, None))

    def posterior(self, asked: Asked, pool: Pool) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance of the codes of users, for a network that has both."""
        return self._posterior_of(self._inputs(asked), pool)

    def _inputs(self, asked: Asked) -> sp.csr_array:
        if isinstance(asked, NewRows):
            ratings = asked.known(len(self.items.factors))
        else:
            self.model.check_seen()
            ratings = Ratings(self.model.ratings_.cells_of(asked), copy=False)
        recipe = self.model.recipe
        X: sp.csr_array = recipe.inputs(self.model, recipe.told(self.model, ratings))
        return X

    def _posterior_of(self, X: sp.csr_array, pool: Pool) -> tuple[np.ndarray, np.ndarray]:
        network: Variational = self.network
        parts = [network.posterior(X[start:stop], pool, apart=True) for start, stop
                 in row_chunks(X.shape[0], ROWS) or [(0, 0)]]
        mean, log_variance = (np.concatenate(each) for each in zip(*parts, strict=True))
        return mean, np.exp(log_variance)

    def drawn(self, asked: Asked, random: int | Random, pool: Pool) -> Folded:
        """Return a draw from each user's posterior, by a seed and what the user has rated."""
        X = self._inputs(asked)
        mean, variance = self._posterior_of(X, pool)
        draw = random.standard_normal(mean.shape) if isinstance(random, Random) else \
            normal_by_row(X, mean.shape[1], random)
        return Folded(mean + np.sqrt(variance) * draw.astype(mean.dtype), None)

    def _default_code(self) -> np.ndarray:
        """Return the code of a row without ratings, shape (1, k)."""
        nobody = sp.csr_array((1, len(self.items.factors)), dtype=self.users.factors.dtype)
        return codes(self.network, nobody, Pool(1))

    def _decoded(self, rows: np.ndarray, columns: np.ndarray, codes: np.ndarray, pool: Pool
                 ) -> np.ndarray:
        """Return scale · φ(h_u·W_i + c_i) of pairs; 0 for items of -1."""
        head, out = self.network.head, np.zeros(len(rows))
        W, c = head.W.value, head.b.value
        for start, stop in row_chunks(len(rows), PAIRS):
            known = start + np.flatnonzero(columns[start:stop] >= 0)
            asked, place = np.unique(rows[known], return_inverse=True)
            h = self.network.decode(codes[asked], pool, apart=True)
            z = pair_scores(place, columns[known], h, W, np.zeros(len(h), h.dtype), c, pool)
            out[known] = self.model.scale_ * head.activation.formula.value(z)
        return out


def answers(model: Any) -> Coded:
    """Return the answers of a fitted autoencoder of users' rows."""
    return Coded(model, model.learned(), model.users_, model.items_, answered_unless(model))


class DecodedScorer:
    """Scores of blocks of rows against all items, from their codes.

    beta, gamma : ndarray, shapes (n_rows,), (n_items,), or None, added to the scores
    mean : float, added to the scores
    """

    def __init__(self, network: Plain, codes: np.ndarray, scale: float = 1.0,
                 beta: np.ndarray | None = None, gamma: np.ndarray | None = None,
                 mean: float = 0.0) -> None:
        self.network, self.codes, self.scale, self.mean = network, codes, scale, mean
        self.W, self.c = network.head.W.value, network.head.b.value
        self.n_rows, self.n_items = len(codes), len(self.c)
        self.beta = np.zeros(self.n_rows) if beta is None else beta
        self.gamma = np.zeros(self.n_items) if gamma is None else gamma

    def block(self, start: int, stop: int) -> np.ndarray:
        """Return the scores of rows start..stop, shape (stop - start, n_items)."""
        scores = self._activated(self._hidden(np.arange(start, stop)) @ self.W.T + self.c)
        real = scores.dtype
        scores *= real.type(self.scale)
        scores += self.gamma.astype(real)
        scores += (self.beta[start:stop, None] + self.mean).astype(real)
        return scores

    def cells(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return the scores of cells, each computed alone."""
        asked, place = np.unique(rows, return_inverse=True)
        h = self._hidden(asked)
        z = pair_scores(place, columns, h, self.W, np.zeros(len(h), h.dtype), self.c, Pool(1))
        scores: np.ndarray = self.mean + self.scale * self._activated(z)
        scores += self.beta[rows]
        scores += self.gamma[columns]
        return scores.astype(self.codes.dtype)

    def rounding(self, start: int, stop: int) -> np.ndarray:
        """Return how far scores of a block may be from those of its cells: see `LinearScorer`.

        No activation has a slope of more than 2, or a value of more than 1 + 2 |z|.
        """
        h = self._hidden(np.arange(start, stop))
        z = lengths(h) * self._longest + np.abs(self.c).max(initial=0)
        size = abs(self.scale) * (1 + 2 * z) + abs(self.mean) \
            + np.abs(self.beta[start:stop]) + np.abs(self.gamma).max(initial=0)
        rounding: np.ndarray = (h.shape[1] + 16) * np.finfo(h.dtype).eps * size
        return rounding

    def linear(self) -> LinearScorer:
        """Return the same scores as products of vectors: those of an output without a φ."""
        h = self._hidden(np.arange(self.n_rows))
        return LinearScorer(h * h.dtype.type(self.scale), self.W, self.beta,
                            self.scale * self.c + self.gamma, self.mean)

    def _hidden(self, rows: np.ndarray) -> np.ndarray:
        return self.network.decode(self.codes[rows], Pool(1), apart=True)

    @cached_property
    def _longest(self) -> float:
        return float(lengths(self.W).max(initial=0))

    def _activated(self, z: np.ndarray) -> np.ndarray:
        y: np.ndarray = self.network.head.activation.formula.value(z)
        return y
