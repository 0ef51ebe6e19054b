"""What the fits of a search cost, counted in fits of the model as given to all ratings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from mfcore.data.ratings import Ratings
from mfcore.models.factorization.solvers import ALTERNATING
from mfcore.models.stopping import epochs_of

KEPT = 3                    # one of three settings goes on to the next rung
LEAST_CELLS = 20_000        # of a sample of users: less says too little
LEAST_SWEEPS = 6            # of an alternating fit: fewer prefer weak penalties
GEMM = 30                   # multiplications of a dense product in the time of a sparse one
# An alternating sweep over rows of c cells takes (c + ROW)(k + WIDE) + k² / GRAM multiplications,
# a fit ENDS more sweeps and FIXED multiplications, keeping its state to go on from SAVE k for each
# row, and penalties that are found a share AUTO of a fit: measured with 2 to 55 cells per row, and
# 32 to 256 factors.  (FIXED is a tenth of a fit at most: nobody waits for smaller ones.)  Ranking
# the users that judge a fit takes a share RANKED of it.
ROW, WIDE, GRAM, ENDS, FIXED, SAVE, AUTO = 25.0, 24.0, 6.0, 2.0, 2.5e7, 30.0, 0.2
RANKED = 0.15


class Rung(NamedTuple):
    """A stage of the search: the shares of users and of epochs that its fits get."""

    users: float = 0.0
    epochs: float = 0.0


@dataclass(frozen=True)
class Costs:
    """Costs of a model and the ratings that a search learns from."""

    given: Any
    known: Ratings
    ranked: bool = False        # whether a fit is judged by rankings

    @cached_property
    def goes_on(self) -> bool:
        """Whether a fit can go on for more epochs from where it was."""
        return "n_epochs" in self.given.get_params(deep=False) \
            and "n_epochs" in type(self.given).may_change

    @property
    def alternates(self) -> bool:
        """Whether a fit can go on from the vectors of a model of other ratings."""
        return getattr(self.given, "solver", None) in ALTERNATING

    @cached_property
    def n_epochs(self) -> int:
        """Most epochs of a fit of the model as given."""
        return epochs_of(self.given, self.known).most

    @property
    def in_closed_form(self) -> bool:
        """Whether a fit is a product of rows, and perhaps an inverse."""
        return not (self.goes_on or hasattr(self.given, "n_factors"))

    @cached_property
    def fixed(self) -> float:
        """The share of a fit that does not depend on the number of users: a dense inverse."""
        if not self.in_closed_form or hasattr(self.given, "n_neighbors"):
            return 0.0
        inverse = self.known.shape[1] ** 3 / GEMM
        return float(inverse / (inverse + (np.diff(self.known.by_user.indptr) ** 2.0).sum()))

    @cached_property
    def rungs(self) -> list[Rung]:
        """Return the stages, without samples that are too small."""
        shares = [KEPT ** -power for power in (2, 1)
                  if KEPT ** -power * self.known.nnz >= LEAST_CELLS and self.fixed < 1 / KEPT]
        if not self.goes_on:
            return [*(Rung(share, 1.0) for share in shares), Rung(1.0, 1.0)]
        least = min(1.0, LEAST_SWEEPS / self.n_epochs) if self.alternates else 0.0
        some = max(1 / KEPT, least)
        first = [Rung(share, some) for share in shares] or [Rung(1.0, max(1 / KEPT**2, least))]
        return list(dict.fromkeys([*first, Rung(1.0, some), Rung(1.0, 1.0)]))

    @property
    def early(self) -> Rung:
        """The rung by which sizes are told apart: the last but one."""
        return self.rungs[-2:][0] if self.goes_on else self.rungs[-1]

    def step(self, params: Mapping[str, Any], before: Rung, rung: Rung) -> float:
        """Return what a setting costs from one rung to another: more epochs, or a new fit."""
        if self.goes_on:
            done = before.epochs if before.users == rung.users else 0.0
            cost = self._fits(params, rung.users, rung.epochs - done, saved=rung.users == 1)
        else:
            users = self.fixed + (1 - self.fixed) * rung.users
            cost = self.size(params) * users * rung.epochs
        return cost + RANKED * self.ranked * (1 if self.in_closed_form else cost)

    def last(self, params: Mapping[str, Any], rung: Rung) -> float:
        """Return what the fit to all ratings costs, for a setting that has come to a rung.

        Where it goes on from there, it takes a third of the epochs, or what is left of them.
        """
        return self._fits(params, 1.0, self.left(rung)) if self.alternates else self.size(params)

    def _fits(self, params: Mapping[str, Any], users: float, share: float, *,
              saved: bool = False) -> float:
        """Return what a fit of a share of the epochs costs: it has to begin and to finish, too."""
        n = self.n_epochs
        if not self.alternates:
            users = self.fixed + (1 - self.fixed) * users
            return self.size(params) * users * (share + 1 / n)
        sweep, k = self._sweep(self.given.n_factors), params.get("n_factors", self.given.n_factors)
        begins = min(FIXED / sweep, 0.1 * n)

        def start(reg: Any) -> float:
            return begins + (AUTO * n if reg == "auto" else 0.0)

        given = getattr(self.given, "reg", None)
        sweeps = share * params.get("n_epochs", n) + ENDS
        saves = saved * SAVE * k * sum(self.known.shape)
        return float(((sweeps * self._sweep(k, users) + saves) / sweep
                      + start(params.get("reg", given))) / (n + ENDS + start(given)))

    def left(self, rung: Rung) -> float:
        """Return the share of the epochs that a fit to all ratings runs from a rung."""
        goes_on = self.alternates and rung.users == 1
        return max(1 / KEPT, 1 - rung.epochs) if goes_on else 1.0

    def whole(self, params: Mapping[str, Any]) -> float:
        """Return what a fit to all ratings costs that goes on from nothing."""
        return self._fits(params, 1.0, 1.0)

    def size(self, params: Mapping[str, Any]) -> float:
        """Return what a setting costs relative to the model as given, by factors and epochs."""
        cost = params["n_factors"] / self.given.n_factors if "n_factors" in params else 1.0
        return float(cost * params.get("n_epochs", self.n_epochs) / self.n_epochs) \
            if self.goes_on else float(cost)

    def _sweep(self, k: int, users: float = 1.0) -> float:
        """Return the multiplications of a sweep over all items and a share of the users."""
        rows = users * self.known.shape[0] + self.known.shape[1]
        return float((2 * users * self.known.nnz + ROW * rows) * (k + WIDE) + rows * k**2 / GRAM)

    def search(self, n: int, params: Mapping[str, Any]) -> float:
        """Return what a search over n settings of a size costs."""
        total, before = 0.0, Rung()
        for rung in self.rungs:
            total += n * self.step(params, before, rung)
            before, n = rung, kept(n)
        return total


def kept(n: int) -> int:
    """Return how many of n settings go on to the next rung: the best third, and the first."""
    return -(-n // KEPT) + (n > KEPT)
