"""The core of factorization: from ratings to the problem, its start, new rows, and answers.

Everything here follows from an observation model (what a cell means), penalties, and the two
sides of the model; MatrixFactorization, ImplicitMF and BayesianMF differ in these alone.
Training, folding in and explaining start from the same row systems (objectives/quadratic.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Protocol

import numpy as np

from mfcore.data.ratings import Ratings
from mfcore.metrics.fitted import Folded, NewRows
from mfcore.models.factorization.observations import Observation
from mfcore.models.factorization.solvers import ALTERNATING, solver_of
from mfcore.models.fitted import Linear, answered_unless
from mfcore.models.inputs import aligned_ratings, aligned_to_users
from mfcore.models.sides import Side, Sides
from mfcore.models.training import Start
from mfcore.objectives.factors import Factors
from mfcore.objectives.penalty import Penalty, Prior, counted_cells
from mfcore.objectives.quadratic import Cells, Loss, Quadratic, RowSystems
from mfcore.objectives.scaling import penalty_weights
from mfcore.parallel import Pool
from mfcore.solvers.loop import Solver

Draw = Callable[[int, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Penalties:
    """Penalty weights, and how they grow with the ratings: see `MatrixFactorization`."""

    reg: float = 1.0
    reg_scaling: str | float = "none"
    bias_reg: tuple[float, float] = (1.0, 1.0)          # of users, of items
    bias_reg_scaling: str | float | None = None
    feature_reg: float = 1.0
    history_reg: float = 1.0

    @classmethod
    def of(cls, model: Any) -> Penalties:
        """Return the penalties of a fitted model, or of one whose penalties are stated."""
        return cls(model.reg_, model.reg_scaling, getattr(model, "bias_reg_", (1.0, 1.0)),
                   getattr(model, "bias_reg_scaling", None), model.feature_reg,
                   model.history_reg)

    def of_rows(self, ratings: Ratings, n_others: int, w0: float, side: str
                ) -> tuple[np.ndarray, np.ndarray]:
        """Return λ and λᵇ of each row of a side."""
        counts, scaling = counted_cells(ratings), self.bias_reg_scaling
        return (penalty_weights(counts, self.reg, self.reg_scaling, w0, n_others),
                penalty_weights(counts, self.bias_reg[side == "item"],
                                self.reg_scaling if scaling is None else scaling, w0, n_others))


class Backend(Protocol):
    """Where a problem is solved: other machines, in place of the solvers of this one."""

    def vectors(self, side: str, n_rows: int, random: np.random.Generator, draw: Draw
                ) -> np.ndarray:
        """Return the first vectors of a side, as `draw(n_rows, random)` does."""

    def solver(self, core: Core, sides: Sides, problem: Quadratic, seed: int) -> Solver:
        """Return what improves the factors."""


@dataclass(frozen=True)
class Core:
    """The decisions of a fit: an observation model, penalties, k; a few numbers, no array."""

    observed: Observation
    penalties: Penalties
    n_factors: int
    drift: Any = None           # effects of periods, of a fitted model that has them

    def penalty(self, ratings: Ratings, n_others: int, side: str) -> Penalty:
        """Return the penalty of the rows of a side, "user" or "item", without features."""
        reg, bias_reg = self.penalties.of_rows(ratings, n_others, self.observed.w0, side)
        return Penalty(self.observed.unit * reg, bias_reg,
                       np.zeros((1, self.n_factors), self.observed.real),
                       np.array([self.start_of(side)]))

    def start_of(self, side: str) -> float:
        """Return β⁰, what the biases of a side start from, measured from r0."""
        return self.observed.start if side == "user" else 0.0

    def half(self, ratings: Ratings, side: Side, bias: Any, other_bias: Any
             ) -> tuple[Cells, Prior]:
        """Return cells and prior of one side, whose rows are those of `ratings`."""
        beta, gamma = _zeros_for_none(ratings.shape, bias, other_bias)
        penalty = self.penalty(ratings, ratings.shape[1], side.name)
        prior = side.prior(penalty, self.penalties.feature_reg, self.penalties.history_reg,
                           self.observed.unit)
        return self.observed.cells(ratings, beta, gamma), prior

    def problem(self, ratings: Ratings, sides: Sides) -> Quadratic:
        """Return the objective of ratings that have the users and items of the fit."""
        (users, items), observed, turned = sides, self.observed, ratings.transposed
        beta, gamma = _zeros_for_none(ratings.shape, users.bias, items.bias)
        by_user, by_item = observed.cells(ratings, beta, gamma), \
            observed.cells(turned, gamma, beta)
        constant = observed.constant(ratings, users.bias, items.bias)
        of_users = self.penalty(ratings, ratings.shape[1], "user")
        of_items = self.penalty(turned, ratings.shape[0], "item")
        reg = self.penalties.feature_reg, self.penalties.history_reg, observed.unit
        return observed.formula(
            by_user, by_item, users.prior(of_users, *reg), items.prior(of_items, *reg),
            observed.w0, observed.learns_bias, constant, observed.unit)

    # --------------------------------------------------------------------- points

    def drawn(self, sides: Sides, random: np.random.Generator, init_scale: float,
              backend: Backend | None) -> Factors:
        """Draw first vectors, normal with standard deviation init_scale √(σ / k)."""
        scale = init_scale * np.sqrt(self.observed.unit / self.n_factors)
        real = self.observed.real

        def draw(n: int, random: np.random.Generator) -> np.ndarray:
            drawn: np.ndarray = random.standard_normal((n, self.n_factors), dtype=real)
            np.multiply(drawn, scale, out=drawn, dtype=np.float64, casting="unsafe")
            return drawn

        for side in sides:
            n = len(side.counts)
            side.factors = draw(n, random) if backend is None else \
                backend.vectors(side.name, n, random, draw)
        return self.point(sides)

    def point(self, sides: Sides) -> Factors:
        """Return the sides as the solver holds them."""
        users, items = sides
        P, Q, k = users.factors, items.factors, self.n_factors
        beta, gamma = self.observed.held(users.bias, self.observed.start, len(P)), \
            self.observed.held(items.bias, 0.0, len(Q))
        (G, g), (H, h) = users.groups(k, P.dtype), items.groups(k, Q.dtype)
        return Factors(P, Q, beta, gamma, G=G, g=g, H=H, h=h)

    def publish(self, at: Factors, sides: Sides) -> None:
        """Make the solver's state that of the sides."""
        learns = self.observed.learns_bias
        for side, (X, _, G, g) in zip(sides, (at.of_users, at.of_items), strict=True):
            side.factors = X
            if len(G):
                side.feature_factors, side.feature_bias = G, g if learns else None
        if learns:
            sides.users.bias = at.beta - self.observed.real.type(self.observed.start)
            sides.items.bias = at.gamma

    def go_on(self, at: Factors, other: Any) -> None:
        """Put the vectors of a fitted model into a point, and its biases where they are learned."""
        point = self.point(Sides(other.users_, other.items_))
        for name in vars(at) if self.observed.learns_bias else "PQGH":
            if getattr(at, name).size:                  # (averages of features are no unknowns)
                getattr(at, name)[...] = getattr(point, name)

    def averaged(self, ratings: Ratings, at: Factors, sides: Sides, n_threads: int | None) -> None:
        """Find vectors of features as averages, where that is asked for, and users about them."""
        found = [side.average(self.observed.learns_bias) for side in sides]
        if any(found):
            with Pool(n_threads) as pool:
                self.observed.solve(self.problem(ratings, sides).user_rows(at), at.P, at.beta,
                                    pool)
            self.publish(at, sides)

    # ------------------------------------------------------------------- new rows

    def row_systems(self, ratings: Ratings, side: Side, other: Side, pool: Pool,
                    features: Any = None, numbers: Any = None
                    ) -> tuple[RowSystems, Any, np.ndarray]:
        """Return the training row systems of rows of a side, the other side frozen.

        With fixed biases, or None, and the bias column as the solver holds it.

        numbers : rows of the model whose ratings they are, or None
        """
        Q, observed, n = other.factors, self.observed.of_new(ratings), ratings.shape[0]
        self.check_width(Q)
        start, other_start = self.start_of(side.name), self.start_of(other.name)
        gamma = observed.held(other.bias, other_start, len(Q))
        fixed = observed.row_bias(ratings)
        own = np.zeros(n) if fixed is None else fixed
        cells = observed.cells(ratings, own, gamma if other.bias is None else other.bias)
        if self.drift is not None:
            cells = self.drift.shifted(cells, ratings, side.name, observed.w0, numbers)
        held = observed.held(fixed, start, n)
        penalty = side.shifted(self.penalty(ratings, len(Q), side.name),
                               side.completed(features, ratings))
        systems = RowSystems(cells, penalty, Q, gamma, observed.w0, observed.learns_bias)
        if observed.w0:
            systems = systems.with_gram(other.gram(gamma, pool))
        return systems, fixed, held

    def check_width(self, Q: np.ndarray) -> None:
        """Raise ValueError for vectors of another length than k; kernels would not see it."""
        if Q.shape[1] != self.n_factors:
            raise ValueError(f"n_factors is {self.n_factors}, and the fitted vectors have "
                             f"{Q.shape[1]}: set it back, or fit again")

    def fold(self, ratings: Ratings, side: Side, other: Side, features: Any, pool: Pool,
             numbers: Any = None) -> Folded:
        """Return the vectors of new rows of a side: solved exactly, as training rows are."""
        systems, fixed, held = self.row_systems(ratings, side, other, pool, features, numbers)
        P = np.zeros((len(held), self.n_factors), self.observed.real)
        self.observed.solve(systems, P, held, pool)
        if self.observed.learns_bias:
            return Folded(P, held - self.observed.real.type(self.start_of(side.name)))
        return Folded(P, None if fixed is None else fixed.astype(self.observed.real))


def begin(model: Any, observed: Observation, ratings: Ratings, sides: Sides,
          random: np.random.Generator, backend: Backend | None) -> Start:
    """Return where a fit begins: drawn vectors, and the solver that the model names."""
    state_penalties(model)
    core = Core(observed, Penalties.of(model), model.n_factors)
    at = core.drawn(sides, random, model.init_scale, backend)
    problem, seed = core.problem(ratings, sides), int(random.integers(2**62))
    drift = periods_to_learn(model, ratings, backend) if hasattr(model, "user_periods") else None
    if "auto" in (model.reg, getattr(model, "bias_reg", None)):
        shown = problem if drift is None else drift.shifted(problem)
        problem = find_penalties(model, observed, problem, shown, at)
        core = replace(core, penalties=Penalties.of(model))
    solver = solver_of(model, problem, seed) if backend is None else \
        backend.solver(core, sides, problem, seed)
    start = Start(solver, at, lambda at: core.publish(at, sides),
                  lambda at: core.averaged(ratings, at, sides, model.n_threads),
                  go_on=partial(core.go_on, at) if model.solver in ALTERNATING else None)
    return start if drift is None else drift.start(model, start)


# ------------------------------------------------------------------ effects of periods

# What a model with effects of periods cannot do.
WITHOUT_TIMES = ("objective",)


def has_periods(model: Any) -> bool:
    """Return whether a model has effects of periods."""
    return getattr(model, "user_periods", None) is not None or \
        getattr(model, "item_periods", None) is not None


def check_periods(name: str, given: Any) -> None:
    """Raise for what cuts no time: see `mfcore.data.periods`."""
    from mfcore.data import periods

    periods.check_periods(name, given)


def periods_to_learn(model: Any, ratings: Ratings, backend: Backend | None = None, *,
                     in_noise: bool = False) -> Any:
    """Return the effects of periods that a model asks for, to be learned; None for none.

    in_noise : see `Learning.of`
    """
    model.periods_ = model.user_drift_ = model.item_drift_ = None
    if not has_periods(model):
        return None
    if backend is not None:
        raise ValueError("user_periods and item_periods must be None on a cluster")
    from mfcore.models.factorization.drift import Learning

    return Learning.of(model, ratings, in_noise)


def drift_of(model: Any) -> Any:
    """Return the effects of periods of a fitted model, or None."""
    if getattr(model, "periods_", None) is None:
        return None
    from mfcore.models.factorization import drift

    return drift.drift_of(model)


def check_effects(model: Any) -> None:
    """Raise for effects of periods that no fit leaves."""
    if any(each is not None for each in (model.periods_, model.user_drift_, model.item_drift_)):
        from mfcore.models.factorization import drift

        drift.check_effects(model)


def state_penalties(model: Any) -> None:
    """Set the penalties that a model names; 1 where they are to be found."""
    model.reg_ = 1.0 if model.reg == "auto" else float(model.reg)
    bias_reg: Any = getattr(model, "bias_reg", "auto")
    stated = model.reg_ if bias_reg is None else 1.0 if bias_reg == "auto" else float(bias_reg)
    model.bias_reg_ = stated, stated


def find_penalties(model: Any, observed: Observation, problem: Quadratic, shown: Quadratic,
                   at: Factors) -> Quadratic:
    """Find penalties that a model leaves to the ratings, and return the problem with them.

    `shown` is the problem in which they are looked for, maybe without effects of periods.
    """
    seed = model.random_state if isinstance(model.random_state, int) else 0
    with Pool(model.n_threads) as pool:
        found = observed.found(shown, at, seed, pool)
    reg = found.reg if model.reg == "auto" else 1.0
    bias_reg: Any = getattr(model, "bias_reg", 1.0)
    bias_reg = found.bias_reg if bias_reg == "auto" else (reg, reg) if bias_reg is None else (1, 1)
    user, item = model.bias_reg_
    model.reg_, model.bias_reg_ = reg * model.reg_, (user * bias_reg[0], item * bias_reg[1])
    return problem.scaled(reg, bias_reg)


def _zeros_for_none(shape: tuple[int, int], beta: Any, gamma: Any) -> tuple[Any, Any]:
    return (np.zeros(shape[0]) if beta is None else beta,
            np.zeros(shape[1]) if gamma is None else gamma)


# ------------------------------------------------------------------------- answers

@dataclass(frozen=True)
class Factorized(Linear):
    """The answers of a factorization: those of linear scores, and what row systems tell."""

    core: Any = None

    waits: ClassVar[bool] = True

    @property
    def drift(self) -> Any:
        """Effects of periods, or None."""
        return self.core.drift

    def pairs_in_time(self, rows: np.ndarray, columns: np.ndarray, new: NewRows | None,
                      effects: np.ndarray, pool: Pool) -> np.ndarray:
        """Return the scores of pairs, with effects of periods."""
        scores: np.ndarray = self.pairs(rows, columns, new, pool) + effects
        return scores

    def fold_columns(self, new: NewRows, pool: Pool) -> Folded:
        """Return the vectors of items, rows whose columns are the users."""
        return folded(self.core, self.items, self.users, new, pool)

    def explain(self, ratings: Ratings, row: int, column: int, k: int
                ) -> tuple[float, np.ndarray, np.ndarray]:
        """Return the score of a pair, and the rated columns that contribute most, with shares."""
        pool = Pool(1)
        systems, _, held = self.core.row_systems(ratings.select_users([row]), self.users,
                                                 self.items, pool, numbers=np.array([row]))
        columns, contributions = systems.contributions(0, held[0], column, pool)
        score = self.pairs(np.array([row]), np.array([column]), None, pool)[0]
        return float(score), *strongest(columns, contributions, k)

    def objective(self, model: Any, ratings: Any, pool: Pool) -> Loss:
        """Return the terms of the formula: see `Recommender.objective`."""
        given: Ratings = model.ratings_
        if ratings is not None:
            given = aligned_to_users(aligned_ratings(ratings, model), model).transposed
        core, sides = self.core, Sides(self.users, self.items)
        core = replace(core, observed=core.observed.of_new(given))
        loss: Loss = core.problem(given, sides).value(core.point(sides), pool)
        return loss


def answers_of(model: Any, observed: Observation) -> Factorized:
    """Return the answers of a fitted factorization."""
    core = Core(observed, Penalties.of(model), model.n_factors, drift_of(model))
    users, items = model.users_, model.items_

    def fold(new: NewRows, pool: Pool) -> Folded:
        return folded(core, users, items, new, pool)

    return Factorized(users, items, model.global_mean_, fold, link=observed.link,
                      unanswered=answered_unless(model, observed.w0), core=core)


def strongest(columns: np.ndarray, contributions: np.ndarray, k: int
              ) -> tuple[np.ndarray, np.ndarray]:
    """Return the k columns that contribute most to a score, and what they contribute."""
    best = np.argsort(-np.abs(contributions), kind="stable")[:k]
    return columns[best].astype(np.int64), contributions[best]


def folded(core: Core, side: Side, other: Side, new: NewRows, pool: Pool) -> Folded:
    """Return the vectors of new rows of a side; of those known by features alone, their means."""
    if new.ratings is not None:
        return core.fold(new.ratings, side, other, new.features, pool, new.numbers)
    means = side.means(side.completed(new.features, None), core.n_factors)
    return side.from_features(*means, core.observed.real)
