"""What groups are worth for users with few known ratings, or none.

    python -m benchmarks.cold_start

A fifth of the users of ML-100K is hidden entirely, five times over (seeds).  From each hidden
user 0, 1, 2, 5 or 10 ratings are folded in; the other ratings, less the same 10 in every case,
are predicted (RMSE, models of ratings) and ranked (NDCG@10).  Known of a hidden user besides
are age band, gender and occupation.  Settings are the library's defaults, chosen on validation
users among the remaining four fifths; the shrinkage of the group means was chosen there too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore import BiasOnly, ImplicitMF, MatrixFactorization, Popularity, Ratings, evaluate, fetch
from mfcore.data.features import Features
from mfcore.metrics.fitted import Folded, NewRows

RESULT = Path(__file__).parent / "results" / "cold_start.json"
FOLDED = (0, 1, 2, 5, 10)
SEEDS = 5
SHRINKAGE = 30.0            # ratings' worth of it, for the means of groups


class MeansByGroup(BiasOnly):
    """Item means, and how a group's ratings of an item differ from them (shrunken).

    s_ui = μ + b_u + b_i + mean over the user's groups g of d_gi,
    d_gi = Σ (r − μ − b_u − b_i) / (n_gi + shrinkage) over the ratings of i by members of g.
    """

    def fit(self, ratings: Any, y: Any = None, *, user_features: Any = None, **rest: Any
            ) -> MeansByGroup:
        super().fit(ratings, y, **rest)
        cells, F = self.ratings_.by_user, user_features.matrix
        left = cells.data - self.global_mean_ - self.user_bias_[self.ratings_.users_of_cells] \
            - self.item_bias_[cells.indices]
        total = F.T @ sp.csr_array((left, cells.indices, cells.indptr), shape=cells.shape)
        count = F.T @ sp.csr_array((np.ones(cells.nnz), cells.indices, cells.indptr),
                                   shape=cells.shape)
        self.item_factors_ = (total.toarray() / (count.toarray() + SHRINKAGE)).T
        self.user_factors_ = self._mean_of_groups(F)
        return self

    @staticmethod
    def _mean_of_groups(F: sp.csr_array) -> np.ndarray:
        dense: np.ndarray = F.toarray()
        return dense / np.maximum(dense.sum(axis=1, keepdims=True), 1)

    def new_rows(self, ratings: Any, user_features: Any, n_rows: int | None = None,
                 unknown: str = "raise") -> NewRows | None:
        """Return new users with their groups."""
        new = super().new_rows(ratings, None, unknown=unknown)
        F = user_features.matrix if isinstance(user_features, Features) else user_features
        return new if F is None else NewRows(None if new is None else new.ratings, F)

    def answers(self) -> Any:
        """Return the answers of biases, with the means of groups as vectors of new users."""
        known = super().answers()

        def fold(new: NewRows, pool: Any) -> Folded:
            bias = np.zeros(new.n_rows) if new.ratings is None else known.fold_in(new, pool).bias
            return Folded(self._mean_of_groups(new.features), bias)

        return replace(known, fold=fold)


class PopularityByGroup(MeansByGroup):
    """The share of a group's members who rated an item, shrunken to the share of all."""

    predicts_ratings = False

    def fit(self, ratings: Any, y: Any = None, *, user_features: Any = None, **rest: Any
            ) -> PopularityByGroup:
        BiasOnly.fit(self, ratings, y, **rest)
        F, pattern = user_features.matrix, (self.ratings_.by_user != 0).astype(float)
        share = np.asarray(pattern.mean(axis=0))
        count, members = (F.T @ pattern).toarray(), np.asarray(F.sum(axis=0))[:, None]
        self.item_factors_ = ((count + SHRINKAGE * share) / (members + SHRINKAGE)).T
        self.user_factors_ = self._mean_of_groups(F)
        self.item_bias_ = np.zeros_like(self.item_bias_)
        return self


# Name, model, and which features it gets: none, those of the users, or permuted ones.
ARMS: list[tuple[str, Callable[[], Any], str]] = [
    ("item mean", BiasOnly, "none"),
    ("item mean by group", MeansByGroup, "true"),
    ("factors without groups", lambda: MatrixFactorization(random_state=0), "none"),
    ("factors, average of members", lambda: MatrixFactorization(
        features="average", random_state=0), "true"),
    ("factors, learned groups", lambda: MatrixFactorization(random_state=0), "true"),
    ("factors, permuted groups", lambda: MatrixFactorization(random_state=0), "permuted"),
    ("popularity", Popularity, "none"),
    ("popularity by group", PopularityByGroup, "true"),
    ("implicit, without groups", lambda: ImplicitMF(random_state=0), "none"),
    ("implicit, average of members", lambda: ImplicitMF(features="average", random_state=0),
     "true"),
    ("implicit, learned groups", lambda: ImplicitMF(random_state=0), "true"),
    ("implicit, permuted groups", lambda: ImplicitMF(random_state=0), "permuted"),
]


def hidden_users(n_users: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the users to train on and the hidden fifth, both sorted."""
    order = np.random.default_rng(seed).permutation(n_users)
    return np.sort(order[n_users // 5:]), np.sort(order[:n_users // 5])


def folds(hidden: Ratings, seed: int) -> Iterator[tuple[int, Ratings, Ratings]]:
    """Yield n, n ratings of each hidden user, and those that are none of the first 10."""
    random = np.random.default_rng([seed, 1])
    place = np.concatenate([random.permutation(n) for n in np.diff(hidden.by_user.indptr)])
    for n in FOLDED:
        yield n, hidden.select_cells(place < n), hidden.select_cells(place >= max(FOLDED))


def measure(arm: tuple[str, Callable[[], Any], str], data: Any, seed: int
            ) -> dict[str, list[float]]:
    """Return RMSE (of models of ratings) and NDCG@10 of one arm by ratings folded in."""
    _, make, kind = arm
    train, test = hidden_users(data.ratings.shape[0], seed)
    features = data.user_features
    if kind == "permuted":
        random = np.random.default_rng([seed, 2])
        features = features.select(random.permutation(features.shape[0]))
    known = {} if kind == "none" else {"user_features": features.select(train)}
    model = make().fit(data.ratings.select_users(train), **known)
    given = {} if kind == "none" else {"user_features": features.select(test)}
    metrics = ["rmse", "ndcg@10"] if model.predicts_ratings else ["ndcg@10"]
    found: dict[str, list[float]] = {metric: [] for metric in metrics}
    for n, rows, rest in folds(data.ratings.select_users(test), seed):
        fold_in = {"fold_in": rows} if n or not given else {}
        for metric, value in evaluate(model, rest, metrics=metrics, **given, **fold_in).items():
            found[metric].append(value)
    return found


def main() -> None:
    """Measure all arms and write the result file."""
    data, rows = fetch("ml-100k"), []
    for arm in ARMS:
        runs = [measure(arm, data, seed) for seed in range(SEEDS)]
        for metric in runs[0]:
            values = np.array([run[metric] for run in runs])
            rows.append({"name": arm[0], "metric": metric, "folded_in": list(FOLDED),
                         "mean": values.mean(0).round(4).tolist(),
                         "sd": values.std(0, ddof=1).round(4).tolist(),
                         "seeds": values.round(5).tolist()})
            print(f"{arm[0]:30s} {metric:8s}", *(f"{value:.4f}" for value in values.mean(0)))
    RESULT.write_text(json.dumps({
        "data": "ml-100k, a fifth of the users hidden, five seeds",
        "command": "python -m benchmarks.cold_start", "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
