"""Generated ratings whose truth is known, to see whether a method finds it.

    r_ui = μ + b_u + b̃_i + P_u·Q_i + ε,      ε ~ N(0, noise²),

rounded to half stars and clipped to 1..5.  Rows of P and Q are a group's vector plus a
deviation of their own.  Who rates what follows a model too: user u rates the n_u items with
the largest

    ln(popularity_i) + selection·(b̃_i + P_u·Q_i) + γ_ui,      γ ~ Gumbel,

which draws n_u items without replacement with odds popularity_i·exp(selection·…).  So a few
items collect most ratings, and people rate what they like more often than what they do not:
what is missing carries information, as in real data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.dataset import Dataset
from mfcore.data.features import one_hot
from mfcore.data.ratings import Ratings

LOW, HIGH, MEAN = 1.0, 5.0, 3.0
USER_BIAS, ITEM_BIAS, TASTE = 0.35, 0.35, 0.9    # standard deviations, in stars
# Offsets matter as much as taste, and there are few ratings per user, as in real data.
STARS: dict[str, Any] = {
    "n_users": 1600, "n_items": 500, "n_factors": 2, "group_share": 0.8, "density": 0.045,
    "skew": 0.2, "selection": 0.9, "noise": 0.8, "user_bias": 0.65, "item_bias": 0.65, "taste": 0.6}
ACTIVITY = 0.5                                   # standard deviation of ln n_u
FEWEST, MOST = 5, 0.8                            # least n_u; greatest share of a catalogue
YEAR = 31_536_000
BLOCK_ROWS = 512
GENRES = ("Comedy", "Drama", "Western", "Mystery", "Romance", "Thriller", "Musical", "Fantasy",
          "Documentary", "Adventure", "Horror", "Animation")
AUDIENCES = ("Cooking", "Chess", "Gardening", "Sailing", "Astronomy", "Knitting", "Climbing",
             "Trains", "Poetry", "Cycling", "Jazz", "Pottery")


@dataclass(frozen=True, eq=False)
class Planted:
    """The truth behind generated ratings.

    Parameters
    ----------
    mean : float
        μ, in stars.
    user_bias, item_bias : ndarray, shape (n_users,) and (n_items,)
        b and b̃.
    user_factors, item_factors : ndarray, shape (n_users, k) and (n_items, k)
        P and Q, group vectors included.
    user_group_factors, item_group_factors : ndarray, shape (n_groups, k)
        The groups' vectors; zeros for audiences.
    noise : float
        Standard deviation of ε: what no model can predict.
    """

    mean: float
    user_bias: np.ndarray
    item_bias: np.ndarray
    user_factors: np.ndarray
    item_factors: np.ndarray
    user_group_factors: np.ndarray
    item_group_factors: np.ndarray
    noise: float

    def scores(self, users: Any, items: Any) -> np.ndarray:
        """Return the expected rating of each (user, item) pair before rounding, 1-D."""
        users = validation.positions("users", users, len(self.user_bias))
        items = validation.positions("items", items, len(self.item_bias))
        validation.same_length(users=users, items=items)
        products = np.einsum("tf,tf->t", self.user_factors[users], self.item_factors[items])
        return np.asarray(self.mean + self.user_bias[users] + self.item_bias[items] + products)


@dataclass(frozen=True, eq=False, repr=False)
class PlantedDataset(Dataset):
    """A `Dataset` with its `truth`: the factors, biases and noise behind the ratings."""

    truth: Planted = field(kw_only=True, repr=False)


def planted(n_users: int = 600, n_items: int = 300, n_factors: int = 4, *, n_groups: int = 6,
            group_share: float = 0.5, density: float = 0.35, skew: float = 0.6,
            selection: float = 1.5, noise: float = 0.4, step: float | None = 0.5,
            user_bias: float = USER_BIAS, item_bias: float = ITEM_BIAS, taste: float = TASTE,
            random_state: int | np.random.Generator | None = 0) -> PlantedDataset:
    """Generate ratings from known factors, biases and groups.

    Parameters
    ----------
    n_users, n_items, n_factors : int >= 1
    n_groups : int >= 1
        Groups of users, and as many genres of items, given as features too.
    group_share : float in [0, 1]
        Share of the factors' variance that lies between groups.
    density : float in (0, 1)
        Share of the items that a user rates, on average (about).
    skew : float >= 0
        Exponent of Zipf's law: popularity falls as rank**-skew.
    selection : float >= 0
        How strongly users prefer to rate what they like.
    noise : float >= 0
        Standard deviation of what no model can predict, in stars.
    step : float > 0 or None
        Ratings are rounded to multiples of it; None keeps them as float32.
    user_bias, item_bias, taste : float >= 0
        Standard deviations of b, b̃ and P·Q, in stars.
    random_state : int, numpy Generator or None

    Returns
    -------
    PlantedDataset
        Ratings in 1..5 with timestamps, features, titles, groups and `truth`.
    """
    n_groups = validation.integer("n_groups", n_groups, low=1)
    share = validation.real("group_share", group_share, low=0, high=1)
    shape = _checked_shape(n_users, n_items, n_factors)
    habits = _Habits(density, skew, selection, noise, step)
    spreads = [validation.real(name, value, low=0) for name, value in (
        ("user_bias", user_bias), ("item_bias", item_bias), ("taste", taste))]
    rng = validation.random_generator("random_state", random_state)
    groups = [rng.integers(0, n_groups, n_rows) for n_rows in shape]
    centres = [rng.normal(size=(n_groups, n_factors)) * share**0.5 for _ in shape]
    X = [centre[group] + rng.normal(size=(n_rows, n_factors)) * (1 - share)**0.5
         for centre, group, n_rows in zip(centres, groups, shape, strict=True)]
    scale = (spreads[2]**2 / n_factors) ** 0.25
    truth = _truth(rng, [scale * x for x in X], [scale * centre for centre in centres], noise,
                   spreads[:2])
    counts = _activity(rng, np.full(n_users, density * n_items), n_items)
    matrix = _rated(rng, truth, habits, counts, None)
    names = [str(group) for group in range(n_groups)], _words(GENRES, n_groups)
    return _described(rng, matrix, truth, groups, names)


def planted_audiences(n_users: int = 2000, n_items: int = 1000, n_audiences: int = 4,
                      activity_ratio: float = 10, n_factors: int = 8, *, density: float = 0.4,
                      skew: float = 0.6, selection: float = 1.5, noise: float = 0.4,
                      step: float | None = 0.5,
                      random_state: int | np.random.Generator | None = 0) -> PlantedDataset:
    """Generate audiences that share no item, with unequal activity, to measure folding.

    Each audience has its own users, catalogue and factors, so the true P_u·Q_i between
    audiences is 0: a recommendation from another audience's catalogue is a mistake.

    Parameters
    ----------
    n_users, n_items, n_factors : int >= n_audiences
        Divided evenly among the audiences.
    n_audiences : int >= 2
    activity_ratio : float >= 1
        Mean number of ratings in the most active audience (number 0) over that in the
        least active one; the others lie between in equal ratios.
    density : float in (0, 1)
        Share of its catalogue that a user of the most active audience rates, on average (about).
    skew, selection, noise, step, random_state
        As in `planted`.

    Returns
    -------
    PlantedDataset
        `user_groups` and `item_groups` number the audience of each row.
    """
    n_audiences = validation.integer("n_audiences", n_audiences, low=2)
    ratio = validation.real("activity_ratio", activity_ratio, low=1)
    shape = _checked_shape(n_users, n_items, n_factors, low=n_audiences)
    habits = _Habits(density, skew, selection, noise, step)
    rng = validation.random_generator("random_state", random_state)
    groups = [rng.permutation(np.arange(n_rows) % n_audiences) for n_rows in shape]
    own = np.arange(n_factors) % n_audiences == np.arange(n_audiences)[:, None]
    scale = (TASTE**2 / own.sum(axis=1)) ** 0.25
    X = [rng.normal(size=(n_rows, n_factors)) * (own * scale[:, None])[group]
         for group, n_rows in zip(groups, shape, strict=True)]
    truth = _truth(rng, X, [np.zeros((n_audiences, n_factors))] * 2, noise)
    catalogue = np.bincount(groups[1], minlength=n_audiences)[groups[0]]
    typical = density * catalogue * ratio ** (-groups[0] / (n_audiences - 1))
    matrix = _rated(rng, truth, habits, _activity(rng, typical, catalogue), groups)
    names = _words(AUDIENCES, n_audiences)
    return _described(rng, matrix, truth, groups, (names, names))


@dataclass(frozen=True)
class _Habits:
    """How users choose and rate."""

    density: float
    skew: float
    selection: float
    noise: float
    step: float | None

    def __post_init__(self) -> None:
        validation.share("density", self.density)
        for name in ("skew", "selection", "noise"):
            validation.real(name, getattr(self, name), low=0)
        if self.step is not None:
            validation.real("step", self.step, above=0)


def _checked_shape(n_users: int, n_items: int, n_factors: int, low: int = 1) -> tuple[int, int]:
    validation.integer("n_factors", n_factors, low=low)
    return (validation.integer("n_users", n_users, low=low),
            validation.integer("n_items", n_items, low=low))


def _truth(rng: np.random.Generator, X: list[np.ndarray], centres: list[np.ndarray],
           noise: float, spreads: Sequence[float] = (USER_BIAS, ITEM_BIAS)) -> Planted:
    b_users, b_items = (rng.normal(0, spread, len(x)) for spread, x in zip(spreads, X, strict=True))
    return Planted(MEAN, b_users, b_items, X[0], X[1], centres[0], centres[1], float(noise))


def _activity(rng: np.random.Generator, typical: np.ndarray,
              catalogue: np.ndarray | int) -> np.ndarray:
    """Draw the number of ratings of each user: log-normal with mean `typical`."""
    most = np.maximum(MOST * np.asarray(catalogue), 1).astype(np.int64)
    spread = np.exp(ACTIVITY * rng.normal(size=typical.size) - ACTIVITY**2 / 2)
    drawn: np.ndarray = np.rint(typical * spread).astype(np.int64)
    return drawn.clip(np.minimum(FEWEST, most), most)


def _rated(rng: np.random.Generator, truth: Planted, habits: _Habits, counts: np.ndarray,
           groups: list[np.ndarray] | None) -> sp.csr_array:
    """Draw who rates what, and the ratings; with `groups`, only within the same group."""
    shape = (len(truth.user_bias), len(truth.item_bias))
    fame = -habits.skew * np.log1p(rng.permutation(shape[1]))
    columns = []
    for start in range(0, shape[0], BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        liking = truth.user_factors[rows] @ truth.item_factors.T + truth.item_bias
        key = fame + habits.selection * liking + rng.gumbel(size=liking.shape)
        if groups is not None:
            key[groups[0][rows, None] != groups[1]] = -np.inf
        order = np.argsort(-key, axis=1, kind="stable")
        chosen = np.zeros(key.shape, bool)
        top = np.arange(shape[1]) < counts[rows, None]
        np.put_along_axis(chosen, order, top, axis=1)
        columns.append(np.nonzero(chosen)[1])
    indices = np.concatenate(columns)
    users = np.repeat(np.arange(shape[0]), counts)
    values = truth.scores(users, indices) + habits.noise * rng.normal(size=indices.size)
    if habits.step is not None:
        values = np.rint(values / habits.step) * habits.step
    indptr = np.concatenate([[0], np.cumsum(counts)])
    return sp.csr_array((values.clip(LOW, HIGH).astype(np.float32), indices, indptr), shape)


def _described(rng: np.random.Generator, matrix: sp.csr_array, truth: Planted,
               groups: list[np.ndarray],
               names: tuple[list[str], list[str]]) -> PlantedDataset:
    begin = rng.integers(0, YEAR, matrix.shape[0])
    moments = np.repeat(begin, np.diff(matrix.indptr)) + rng.integers(0, YEAR // 4, matrix.nnz)
    order = np.empty(matrix.nnz, np.int64)
    order[np.argsort(moments, kind="stable")] = np.arange(matrix.nnz)
    user_features, item_features = (
        one_hot([known[group] for group in numbers], prefix, categories=known)
        for prefix, numbers, known in zip(("group", "genre"), groups, names, strict=True))
    moments += 1_600_000_000
    return PlantedDataset(
        ratings=Ratings(matrix, times=moments, copy=False), truth=truth, timestamps=moments,
        user_features=user_features, item_features=item_features,
        item_titles=_titles(groups[1], names[1]), user_groups=groups[0], item_groups=groups[1],
        file_order=order, licence="Generated numbers: free for any use.")


def _words(words: tuple[str, ...], n_groups: int) -> list[str]:
    """Name groups; when the words run out, they are repeated with a number."""
    turns = (divmod(group, len(words)) for group in range(n_groups))
    return [words[place] + (f"-{turn + 1}" if turn else "") for turn, place in turns]


def _titles(groups: np.ndarray, names: list[str]) -> np.ndarray:
    """Number the items within their group: Western 1, Western 2, ..."""
    titles = np.empty(len(groups), object)
    for group, name in enumerate(names):
        members = np.flatnonzero(groups == group)
        titles[members] = [f"{name} {number}" for number in range(1, members.size + 1)]
    return titles
