"""Models with features of users and items: group vectors, cold start, and their space.

A row's prior is the sum of the vectors of its features (objectives/groups.py), so a row of
which nothing else is known has a vector all the same.  Users, items and groups lie in one
space, and any two of them can be compared.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.data.features import Features, concatenate, history
from mfcore.data.ratings import Ratings
from mfcore.models.base import Folded, Recommender
from mfcore.models.features import (
    aligned_features,
    group_positions,
    n_of_history,
    with_history,
)
from mfcore.models.rows import NewRows
from mfcore.models.serving import named
from mfcore.objectives.factors import Factors
from mfcore.objectives.groups import Prior, averages
from mfcore.objectives.penalty import Penalty
from mfcore.parallel import Pool

SIDES = ("user", "item")


class GroupedModel(Recommender):
    """Base of models whose rows have priors from features.

    Fitted, for users and (with `item_` in place of `user_`) for items; None without features:
    `user_feature_factors_` (n_features, k), `user_feature_bias_` (n_features,) where biases
    are learned, `user_feature_names_`, `user_feature_mean_`, the mean row of the features, and
    `user_features_`, those of the fit.
    """

    n_factors: int
    features: str
    feature_reg: float
    history_reg: float
    user_features_: Features | None
    item_features_: Features | None
    user_feature_names_: list[str] | None
    item_feature_names_: list[str] | None
    user_feature_mean_: np.ndarray | None
    item_feature_mean_: np.ndarray | None
    user_feature_factors_: np.ndarray | None
    item_feature_factors_: np.ndarray | None
    user_feature_bias_: np.ndarray | None
    item_feature_bias_: np.ndarray | None

    def _validate(self) -> None:
        validation.choice("features", self.features, ("learned", "average"))
        validation.real("feature_reg", self.feature_reg, above=0)
        validation.real("history_reg", self.history_reg, above=0)

    # ------------------------------------------------------------------ at the fit

    def _given_features(self, ratings: Ratings, user_features: Any, item_features: Any
                        ) -> tuple[Features | None, Features | None]:
        found = (with_history("user_features", user_features, ratings, 0),
                 with_history("item_features", item_features, ratings, 1))
        for name, part in zip(SIDES, found, strict=True):
            if self.features == "average" and part is not None and part.matrix.nnz:
                validation.nonnegative(f"{name}_features of features='average'",
                                       part.matrix.data)
        return found

    def _remember_features(self, given: tuple[Features | None, Features | None]) -> None:
        for name, part in zip(SIDES, given, strict=True):
            mean = None if part is None else \
                np.asarray(self._shares(part.matrix).mean(axis=0)).ravel()
            setattr(self, f"{name}_features_", part)
            setattr(self, f"{name}_feature_names_", None if part is None else list(part.names))
            setattr(self, f"{name}_feature_mean_", mean)
            setattr(self, f"{name}_feature_factors_", None)
            setattr(self, f"{name}_feature_bias_", None)

    def _shares(self, F: sp.csr_array) -> sp.csr_array:
        """Return F as it enters the means: an average divides a row by its sum."""
        if self.features != "average":
            return F
        total = np.asarray(F.sum(axis=1)).ravel()
        share = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
        return sp.csr_array(F * share[:, None])

    def _prior(self, penalty: Penalty, side: str) -> Prior:
        """Return the prior of all rows of a side, as the solver sees it."""
        part: Features | None = getattr(self, f"{side}_features_")
        if part is None:
            return Prior(penalty)
        F = self._shares(part.matrix)
        if self.features == "average":         # means are found once, after the fit
            return Prior(self._shifted(penalty, side, F))
        return Prior(penalty, F, self._feature_regs(part))

    def _feature_regs(self, part: Features) -> np.ndarray:
        """Return λ_g of each feature."""
        reg = np.full(part.shape[1], float(self.feature_reg))
        reg[len(reg) - n_of_history(part.names):] = self.history_reg
        return reg

    def _no_groups(self, real: np.dtype) -> dict[str, np.ndarray]:
        """Return the group blocks of a start: zeros."""
        learned = self.features == "learned"
        n = [0 if part is None or not learned else part.shape[1]
             for part in (self.user_features_, self.item_features_)]
        return {"G": np.zeros((n[0], self.n_factors), real), "g": np.zeros(n[0], real),
                "H": np.zeros((n[1], self.n_factors), real), "h": np.zeros(n[1], real)}

    def _groups(self) -> dict[str, np.ndarray]:
        """Return the group blocks of the fitted point."""
        blocks = self._no_groups(self.item_factors_.dtype)
        for side, G, g in (("user", "G", "g"), ("item", "H", "h")):
            for name, what in ((G, "factors"), (g, "bias")):
                fitted = getattr(self, f"{side}_feature_{what}_")
                if len(blocks[name]) and fitted is not None:
                    blocks[name] = fitted
        return blocks

    def _grown_features(self, given: Any, rows: np.ndarray, n_users: int) -> Features | None:
        """Return the users' features without history, those of `rows` replaced where given."""
        names = self.user_feature_names_ or []
        n_known = len(names) - n_of_history(names)
        if self.user_features_ is None or not n_known:
            if given is not None:
                self._aligned_features(given, "user", len(rows))          # says why not
            return None
        known = Features(self.user_features_.matrix[:, :n_known], names[:n_known])
        matrix = sp.csr_array((known.matrix.data, known.matrix.indices, np.pad(
            known.matrix.indptr, (0, n_users - known.shape[0]), "edge")),
            shape=(n_users, known.shape[1]))
        if given is not None:
            fresh = aligned_features("user_features", given, known.names, len(rows))
            source = np.arange(n_users)
            source[rows] = n_users + np.arange(len(rows))
            matrix = sp.vstack([matrix, fresh], format="csr")[source]
        return Features(matrix, known.names)

    def _with_history_of(self, ratings: Ratings, known: Features | None) -> Features | None:
        """Return features of users with the history that the fit asked for."""
        if not n_of_history(self.user_feature_names_):
            return known
        return history(ratings) if known is None else concatenate(known, history(ratings))

    def _publish_groups(self, at: Factors, learns_bias: bool) -> None:
        for side, G, g in (("user", at.G, at.g), ("item", at.H, at.h)):
            if len(G):
                setattr(self, f"{side}_feature_factors_", G)
                setattr(self, f"{side}_feature_bias_", g if learns_bias else None)

    def _average_groups(self, real: np.dtype, learns_bias: bool) -> bool:
        """Set group vectors to the means of their members' vectors, if that is asked for."""
        asked = [side for side in SIDES if self.features == "average"
                 and getattr(self, f"{side}_features_") is not None]
        for side in asked:
            F = self._shares(getattr(self, f"{side}_features_").matrix)
            for what, found in (("factors", True), ("bias", learns_bias)):
                rows = getattr(self, f"{side}_{what}_")
                setattr(self, f"{side}_feature_{what}_",
                        averages(F, rows).astype(real) if found else None)
        return bool(asked)

    # ------------------------------------------------------------------- new rows

    def _aligned_features(self, given: Any, side: str, n_rows: int | None) -> sp.csr_array:
        names = getattr(self, f"{side}_feature_names_")
        if names is not None:
            names = names[:len(names) - n_of_history(names)] or None
        return aligned_features(f"{side}_features", given, names, n_rows)

    def _completed(self, side: str, F: Any, ratings: Ratings | None) -> Any:
        """Return all features of new rows: those given, or of an average row, and the history.

        None stands for an average row.
        """
        names = getattr(self, f"{side}_feature_names_")
        bag = n_of_history(names)
        if not bag or (F is None and ratings is None):
            return None if F is None else self._shares(F)
        n_rows = F.shape[0] if ratings is None else ratings.shape[0]
        # (Columns that came after the fit have no vector.)
        rated = sp.csr_array((n_rows, bag)) if ratings is None else \
            history(ratings).matrix[:, :bag]
        if F is None:
            mean = getattr(self, f"{side}_feature_mean_")[:len(names) - bag]
            F = sp.csr_array(np.tile(mean, (n_rows, 1)))
            if self.features == "average":      # the mean is one of shares: the rest is left
                rated = self._shares(rated) * (1 - mean.sum())
        return self._shares(sp.csr_array(sp.hstack([F, rated])))

    def _group_means(self, side: str, F: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return F G and F g in float64; of the mean row, (1, k) and (1,), where F is None.

        A row of which no features are given is taken for an average row of the fit.
        """
        G = getattr(self, f"{side}_feature_factors_")
        g = getattr(self, f"{side}_feature_bias_")
        if G is None:
            return np.zeros((1, self.n_factors)), np.zeros(1)
        F = getattr(self, f"{side}_feature_mean_")[None] if F is None else F
        return F @ G.astype(np.float64), np.zeros(F.shape[0]) if g is None else F @ g

    def _shifted(self, penalty: Penalty, side: str, F: Any) -> Penalty:
        """Return a penalty about the means of features; of the mean row where F is None."""
        means, bias_means = self._group_means(side, F)
        return replace(penalty, means=(penalty.means + means).astype(penalty.means.dtype),
                       bias_means=penalty.bias_means + bias_means)

    def _default_row(self, side: str) -> tuple[np.ndarray, float] | None:
        if getattr(self, f"{side}_feature_factors_") is None:
            return None
        means, bias_means = self._group_means(side, None)
        return means[0], float(bias_means[0])

    def _vectors_of_new(self, new: NewRows, pool: Pool) -> Folded:
        if new.ratings is not None:
            return self._fold_in_rows(new.ratings, pool, new.features)
        return self._from_features("user", self._completed("user", new.features, None))

    def _from_features(self, side: str, F: Any) -> Folded:
        """Return the vectors of rows of which nothing but features is known."""
        means, bias_means = self._group_means(side, F)
        real = self.item_factors_.dtype
        published = getattr(self, f"{side}_bias_")
        return Folded(means.astype(real), None if published is None else bias_means.astype(real))

    # ------------------------------------------------------------------- the space

    def similar_groups(self, groups: Any, k: int = 10, *, to: str = "groups",
                       side: str = "user", similarity: str = "cosine"
                       ) -> tuple[np.ndarray, np.ndarray]:
        """Return what lies nearest to groups, best first, by vectors alone.

        Parameters
        ----------
        groups : str or sequence of str
            Names of features, as in `user_feature_names_`.
        k : int, >= 1
        to : {"groups", "items", "users"}
            What to compare with: the other groups of the same side, items or users.
        side : {"user", "item"}
            Whose features the groups are.
        similarity : {"cosine", "dot"}

        Returns
        -------
        names, scores : ndarray, shape (n_groups, k)
            Names of groups, or ids; None (or -1) and -inf where fewer than k are left.

        Raises
        ------
        KeyError
            For names that the fit did not have; it lists the known ones.
        ValueError
            Where the model was fitted without features of that side.
        """
        self._check_fitted()
        validation.choice("side", side, SIDES)
        validation.choice("to", to, ("groups", "items", "users"))
        known = getattr(self, f"{side}_feature_names_")
        rows = group_positions("groups", groups, known)
        vectors = getattr(self, f"{side}_feature_factors_")
        if to == "groups":
            best, scores = self._nearest(vectors, rows, k, similarity)
            return named(best, np.array(known, object)), scores
        others, ids = (self.item_factors_, self.item_ids_) if to == "items" else \
            (self.user_factors_, self.user_ids_)
        best, scores = self._nearest(others, None, k, similarity, vectors[rows])
        return named(best, ids), scores
