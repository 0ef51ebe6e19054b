"""What the fits of a search cost, counted in fits of the model as given to all ratings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mfcore.data.ratings import Ratings
from mfcore.models.stopping import epochs_of

KEPT = 3                    # one of three settings goes on to the next rung
LEAST_CELLS = 20_000        # of a sample of users: less says too little
GEMM = 30                   # multiplications of a dense product in the time of a sparse one


class Rung(NamedTuple):
    """A stage of the search: the shares of users and of epochs that its fits get."""

    users: float = 0.0
    epochs: float = 0.0


@dataclass(frozen=True)
class Costs:
    """Costs of a model and the ratings that a search learns from."""

    given: Any
    known: Ratings

    @property
    def goes_on(self) -> bool:
        """Whether a fit can go on for more epochs from where it was."""
        return "n_epochs" in self.given.get_params(deep=False) \
            and "n_epochs" in type(self.given).may_change

    @property
    def n_epochs(self) -> int:
        """Most epochs of a fit of the model as given."""
        return epochs_of(self.given, self.known).most

    @property
    def fixed(self) -> float:
        """The share of a fit that does not depend on the number of users.

        Models without epochs and factors invert a matrix of the items.
        """
        if self.goes_on or hasattr(self.given, "n_factors"):
            return 0.0
        inverse = self.known.shape[1] ** 3 / GEMM
        return float(inverse / (inverse + (np.diff(self.known.by_user.indptr) ** 2.0).sum()))

    def rungs(self) -> list[Rung]:
        """Return the stages, without samples that are too small."""
        shares = [KEPT ** -power for power in (2, 1)
                  if KEPT ** -power * self.known.nnz >= LEAST_CELLS and self.fixed < 1 / KEPT]
        if not self.goes_on:
            return [*(Rung(share, 1.0) for share in shares), Rung(1.0, 1.0)]
        first = [Rung(share, 1 / KEPT) for share in shares] or [Rung(1.0, 1 / KEPT**2)]
        return [*first, Rung(1.0, 1 / KEPT), Rung(1.0, 1.0)]

    def step(self, before: Rung, rung: Rung) -> float:
        """Return the cost of going on from one rung to another: more epochs, or a new fit."""
        users = self.fixed + (1 - self.fixed) * rung.users
        if not self.goes_on:
            return users * rung.epochs
        done = before.epochs if before.users == rung.users else 0.0
        ends: float = 1 / self.n_epochs                     # to begin and to finish
        return users * (rung.epochs - done + ends)

    def size(self, params: Mapping[str, Any]) -> float:
        """Return what a setting costs relative to the model as given, by factors and epochs."""
        given = {"n_factors": getattr(self.given, "n_factors", 1), "n_epochs": self.n_epochs}
        return float(np.prod([params[name] / size for name, size in given.items()
                              if name in params]))

    def search(self, n: int) -> float:
        """Return what a search over n settings of the given size costs."""
        total, before = 0.0, Rung()
        for rung in self.rungs():
            total += n * self.step(before, rung)
            before, n = rung, -(-n // KEPT)
        return total
