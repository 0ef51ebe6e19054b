"""Models of the quadratic objective: from ratings to rows, solvers, and fold-in.

A subclass says what a stored cell means (`_cells`); everything else, fit, fold-in of
users and items, partial_fit, explain and objective, is the same row system throughout.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from mfcore import validation
from mfcore.data.ratings import Ratings
from mfcore.models.base import Folded
from mfcore.models.growing import merged_rows, placed
from mfcore.models.inputs import aligned_ratings, aligned_to_users
from mfcore.models.monitoring import Watched, monitor_of
from mfcore.models.problem import ProblemModel
from mfcore.models.solving import check_training, solver_of
from mfcore.objectives.factors import Factors
from mfcore.objectives.quadratic import Quadratic, RowSystems
from mfcore.parallel import Pool
from mfcore.solvers.als import solve_exactly
from mfcore.solvers.loop import Solver, run

Self = TypeVar("Self", bound="QuadraticModel")


class QuadraticModel(ProblemModel):
    """Base of MatrixFactorization, ImplicitMF and BayesianMF."""

    solver: str
    cg_steps: int
    block_size: int
    n_epochs: int
    init_scale: float
    random_state: Any

    _solvers: tuple[str, ...] = ("cg", "cholesky", "subspace")

    # -------------------------------------------------------------------- training

    def _validate(self) -> None:
        super()._validate()
        check_training(self)
        validation.real("reg", self.reg, low=0)
        validation.real_or_choice("reg_scaling", self.reg_scaling, ("count", "none"), low=0,
                                  high=10)
        validation.choice("solver", self.solver, self._solvers)
        validation.integer("cg_steps", self.cg_steps, low=1, high=1000)
        validation.integer("block_size", self.block_size, low=1)

    def _train(self, ratings: Ratings, watched: Watched) -> None:
        self._resolve(ratings)
        random = np.random.default_rng(self.random_state)
        at = self._start(ratings, random)
        self._publish(at)
        problem = self._problem(ratings)
        monitor = monitor_of(self, watched)
        solver = self._solver_for(problem, int(random.integers(2**62)))
        try:
            with Pool(self.n_threads) as pool:
                run(solver, at, pool, self.n_epochs, monitor)
        finally:
            self._publish(at)
            if self._average_groups(self._real, self._learns_bias):
                with Pool(self.n_threads) as pool:
                    self._solve(self._problem(ratings).user_rows(at), at.P, at.beta, pool)
                self._publish(at)

    def _solver_for(self, problem: Quadratic, seed: int) -> Solver:
        """Return what improves the factors: a solver of this machine."""
        return solver_of(self, problem, seed)

    def _resolve(self, ratings: Ratings) -> None:
        """Set what the data decides: unknown_weight_, origin_, global_mean_, fixed biases."""
        raise NotImplementedError

    def _start(self, ratings: Ratings, random: np.random.Generator) -> Factors:
        """Return small random factors."""
        n, m = ratings.shape
        self.user_factors_ = self._first_vectors("user", n, random)
        self.item_factors_ = self._first_vectors("item", m, random)
        return Factors(self.user_factors_, self.item_factors_, self._frozen_user_bias(),
                       self._frozen_item_bias(), **self._no_groups(self._real))

    def _first_vectors(self, side: str, n: int, random: np.random.Generator) -> np.ndarray:
        """Return vectors for the rows of a side: normal, standard deviation init_scale / √k."""
        scale = self.init_scale / np.sqrt(self.n_factors)
        drawn = scale * random.standard_normal((n, self.n_factors), dtype=self._real)
        real: np.ndarray = drawn.astype(self._real, copy=False)
        return real

    def _publish(self, at: Factors) -> None:
        """Make the solver's state the model's."""
        self.user_factors_, self.item_factors_ = at.P, at.Q
        self._publish_groups(at, self._learns_bias)

    # --------------------------------------------------------------------- fold-in

    def _fold_in_rows(self, ratings: Ratings, pool: Pool, features: Any = None) -> Folded:
        return self._solved(*self._row_systems(ratings, "user", features), "user", pool)

    def fold_in_items(self, ratings: Any = None, *, item_features: Any = None) -> Folded:
        """Return the vectors of new items, with all user vectors as they are.

        Parameters
        ----------
        ratings : Ratings or scipy sparse, shape (n_users, n_new), or None
            Users are rows here too: a column a new item.  None: items of which only features
            are known.
        item_features : Features, scipy sparse or lists of names, or None
            A row a new item; None: those of an average item of the fit.

        Returns
        -------
        Folded(factors (n_new, k), bias (n_new,) or None)
        """
        self._check_fitted()
        if ratings is None and item_features is None:
            raise ValueError("fold_in_items needs ratings or item_features, got neither")
        turned = None if ratings is None else aligned_to_users(ratings, self)
        F = None if item_features is None else self._aligned_features(
            item_features, "item", None if turned is None else turned.shape[0])
        if turned is None:
            return self._from_features("item", self._completed("item", F, None))
        with Pool(self.n_threads) as pool:
            return self._solved(*self._row_systems(turned, "item", F), "item", pool)

    def _row_systems(self, ratings: Ratings, side: str, features: Any = None
                     ) -> tuple[RowSystems, np.ndarray | None, np.ndarray]:
        """Return the training row systems of new rows of a side, the other side frozen;
        their fixed biases, or None; and the bias column as the solver holds it."""
        Q, gamma, published, start = (
            (self.user_factors_, self._frozen_user_bias(), self.user_bias_, 0.0)
            if side == "item" else
            (self.item_factors_, self._frozen_item_bias(), self.item_bias_, self._bias_start()))
        self._check_width(Q)
        fixed = self._row_bias(ratings)
        own = np.zeros(ratings.shape[0]) if fixed is None else fixed
        cells = self._cells(ratings, own, gamma if published is None else published)
        penalty = self._shifted(self._penalty(ratings, len(Q), start), side,
                                self._completed(side, features, ratings))
        systems = RowSystems(cells, penalty, Q, gamma, self.unknown_weight_, self._learns_bias)
        return systems, fixed, self._solver_bias(fixed, start, ratings.shape[0])

    def _solved(self, systems: RowSystems, fixed: np.ndarray | None, held: np.ndarray,
                side: str, pool: Pool) -> Folded:
        """Solve new rows exactly."""
        P = np.zeros((len(held), self.n_factors), self._real)
        self._solve(systems, P, held, pool)
        if self._learns_bias:
            start = self._bias_start() if side == "user" else 0.0
            return Folded(P, held - self._real.type(start))
        return Folded(P, None if fixed is None else fixed.astype(self._real))

    def _solve(self, systems: RowSystems, P: np.ndarray, bias: np.ndarray, pool: Pool) -> None:
        solve_exactly(systems, P, bias, pool)

    def partial_fit(self: Self, ratings: Any, *, users: Any = None, user_features: Any = None
                    ) -> Self:
        """Refit the given users, append new ones, and leave items as they are.

        Parameters
        ----------
        ratings : Ratings or scipy sparse, shape (n_given, n_items)
            Complete histories: a row replaces what the model knew of its user.
        users : ids of the rows, or None
            None: those of the ratings, or all users of the fit.  Row numbers from `n_users_`
            on, or unknown ids, are new users.
        user_features : Features, scipy sparse or lists of names, or None
            Of the given rows.  None: known users keep theirs, new ones have none.

        Returns self.
        """
        self._check_fitted()
        self._check_seen()
        given = aligned_ratings(ratings, self)
        merged, rows = merged_rows(self.ratings_, given, users)
        n_users = merged.shape[0]
        features = self._grown_features(user_features, rows, n_users)
        folded = self.fold_in_users(given, user_features=features and features.matrix[rows])
        self.user_features_ = self._with_history_of(merged, features)
        if self.user_bias_ is not None and folded.bias is not None:
            self.user_bias_ = placed(self.user_bias_, rows, folded.bias, n_users)
        self.user_factors_ = placed(self.user_factors_, rows, folded.factors, n_users)
        self.ratings_, self.user_counts_ = merged, np.diff(merged.by_user.indptr)
        self.item_counts_ = np.bincount(merged.by_user.indices, minlength=merged.shape[1])
        return self

    # ------------------------------------------------------------------ looking in

    def explain(self, user: Any, item: Any, k: int = 10
                ) -> tuple[float, np.ndarray, np.ndarray]:
        """Return the score of a pair, and the rated items that contribute most to it.

        The score is a sum over rated items, plus what does not come from ratings (biases,
        mean, prior, unknown cells).

        Parameters
        ----------
        user, item : id, or row number
        k : int, >= 1
            Contributions to return, largest in size first.

        Returns
        -------
        score : float
        item_ids, contributions : ndarray, shape (at most k,)

        References
        ----------
        Hu, Koren, Volinsky 2008, section 5.
        """
        self._check_fitted()
        self._check_seen()
        k = validation.count("k", k)
        row, column = int(self._known_users([user])[0]), int(self._known_items([item])[0])
        systems, _, held = self._row_systems(self.ratings_.select_users([row]), "user")
        columns, contributions = systems.contributions(0, held[0], column, Pool(1))
        best = np.argsort(-np.abs(contributions), kind="stable")[:k]
        names = columns[best].astype(np.int64)
        if self.item_ids_ is not None:
            names = self.item_ids_[names]
        return float(self.predict([user], [item])[0]), names, contributions[best]

    def objective(self, ratings: Any = None) -> dict[str, float]:
        """Return the terms of the fitted formula: total, known, unknown, penalty; float64.

        `ratings` must have the users and items of the fit; None: the training ratings.
        """
        self._check_fitted()
        self._check_seen()
        if ratings is not None:
            ratings = aligned_to_users(aligned_ratings(ratings, self), self).transposed
        at = Factors(self.user_factors_, self.item_factors_, self._frozen_user_bias(),
                     self._frozen_item_bias(), **self._groups())
        with Pool(self.n_threads) as pool:
            loss = self._problem(self.ratings_ if ratings is None else ratings).value(at, pool)
        return {"total": loss.total, **loss._asdict()}
