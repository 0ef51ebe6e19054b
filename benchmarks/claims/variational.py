"""Variational autoencoders are more robust.

New users, four fifths of whose items are folded in, the rest ranked: as the rows are; with half
of their items deleted; with as many items injected at random, none of them the user's.  What is
kept is NDCG@100 relative to that of whole rows, of all and of the least and most active tenth.  The
candidates are the same in all cases: neither what was deleted nor what was injected.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from benchmarks.claims.space import Between, Space, one_of
from benchmarks.claims.splits import Split, users
from benchmarks.claims.study import Arm, Claim, Comparison, Task
from mfcore import MultDAE, MultVAE, Ratings, evaluate
from mfcore.metrics.alignment import stored_in

NETWORK: Space = {"n_latent": 16, "batch_size": 64, "n_epochs": one_of(10, 20),
                  "dropout": one_of(0.0, 0.2, 0.5), "learning_rate": Between(0.001, 0.02)}
MODELS: dict[str, tuple[type, Space]] = {
    "denoising": (MultDAE, NETWORK),
    "variational": (MultVAE, NETWORK | {"hidden": (), "anneal": 100, "beta": Between(0.02, 1)}),
}


def deleted(ratings: Ratings, random: np.random.Generator) -> Ratings:
    """Return about half of each row; of each at least one cell."""
    place = np.concatenate([random.permutation(n) for n in np.diff(ratings.by_user.indptr)])
    count = np.repeat(np.diff(ratings.by_user.indptr), np.diff(ratings.by_user.indptr))
    return ratings.select_cells(place < np.maximum(1, count // 2))


def injected(ratings: Ratings, test: Ratings, random: np.random.Generator) -> Ratings:
    """Return the rows with about as many items again, neither rated nor asked for."""
    shape, users = ratings.shape, ratings.users_of_cells
    drawn = sp.csr_array((np.ones(len(users)), (users, random.integers(shape[1], size=len(users)))),
                         shape=shape)
    drawn.sum_duplicates()
    taken = stored_in(drawn, ratings.by_user) | stored_in(drawn, test.by_user)
    rows = np.repeat(np.arange(shape[0]), np.diff(drawn.indptr))[~taken]
    more = sp.csr_array((np.full(len(rows), ratings.by_user.data.max()),
                         (rows, drawn.indices[~taken])), shape=shape)
    return Ratings(sp.csr_array(ratings.by_user + more), copy=False)


def measure(task: Task) -> dict[str, float]:
    """Return NDCG@100; in the end of rows that were tampered with, and what share of it is kept."""
    split: Split = task.split
    model = MODELS[task.arm][0](**task.settings, random_state=task.seed, n_threads=1)
    model.fit(split.train)
    found = {"ndcg@100": ndcg(model, split.test, split.fold_in)}
    if task.final:
        random = np.random.default_rng(task.seed)
        activity = np.diff(split.fold_in.by_user.indptr)
        tenths = {"": activity >= 0, ", least active tenth": activity <= np.quantile(activity, 0.1),
                  ", most active tenth": activity >= np.quantile(activity, 0.9)}
        inputs = {"whole": split.fold_in, "deleted": deleted(split.fold_in, random),
                  "injected": injected(split.fold_in, split.test, random)}
        seen = inputs["injected"].by_user.toarray() != 0
        candidates = sp.csr_array((~seen).astype(float))
        for tenth, chosen in tenths.items():
            rows = np.flatnonzero(chosen)
            values = {name: ndcg(model, split.test.select_users(rows), given.select_users(rows),
                                 candidates[rows]) for name, given in inputs.items()}
            found |= {f"{name}{tenth}": value for name, value in values.items()}
            found |= {f"kept, {name}{tenth}": values[name] / values["whole"]
                      for name in ("deleted", "injected")}
    return found


def ndcg(model: MultDAE, test: Ratings, given: Ratings, candidates: Any = None) -> float:
    """Return NDCG@100 of new users among the candidates of each."""
    return evaluate(model, test, fold_in=given, candidates=candidates, metrics="ndcg@100",
                    n_threads=1)["ndcg@100"]


def compared(says: str, metric: str, decides: bool = False) -> Comparison:
    """Return the variational against the denoising one."""
    return Comparison(says, "variational", "denoising", metric, decides=decides)


CLAIM = Claim(
    name="variational", says="Variational autoencoders are more robust.",
    hypothesis="Not where the other is trained with dropout, which is deletion.",
    data=("planted", "ml-100k"), also=("movietweetings-100k/core", "online-retail/core"),
    fold=users, measure=measure, folds=10,
    arms={name: Arm(space, "ndcg@100") for name, (_, space) in MODELS.items()},
    comparisons=[
        compared("it keeps more with half of the items deleted", "kept, deleted", True),
        compared("it keeps more with as many items injected", "kept, injected", True),
        compared("it ranks better", "ndcg@100"),
        compared("it ranks better with half of the items deleted", "deleted"),
        compared("it ranks better with as many items injected", "injected"),
        *(compared(f"it keeps more, {what}, {who} tenth", f"kept, {what}, {who} tenth")
          for what in ("deleted", "injected") for who in ("least active", "most active"))],
    units={"ndcg@100": "0 to 1", "kept": "of the NDCG@100 of whole rows"},
    answer="Open: networks wanted more epochs than they got. To deleted items, on Online "
           "Retail, they are less robust.",
    found="Within the spaces that were searched they keep more with injected items on "
          "ML-100K and Online Retail, and less with deleted ones on three of four data "
          "sets. That is relative to whole rows, on which they rank better but for "
          "MovieTweetings; in absolute figures they are nowhere worse.")
