"""Stochastic gradient steps on sampled pairs, without locks and always to the same bits.

Strata.  An epoch divides the users into g strata (equal numbers of cells) and the items into g
strata (equal numbers of items), both at random; a block is one of each.  The g blocks of a
diagonal, user stratum a with item stratum (a + shift) mod g, share neither a user nor an item:
they run in parallel, in any order, to the same bits.  Positive and negative both come from the
block's item stratum.  g depends on the data alone.

Unbiased.  A negative is uniform over the unrated items of the positive's stratum.  Each epoch
draws a new random partition, so every unrated item is in that stratum with the same probability:
by symmetry the negative of a cell is uniform over all items that the user has not rated, as if
drawn from the whole catalogue.  Only draws within an epoch depend on each other.

A user who has rated all items of a stratum skips the cells of this block in this epoch; another
partition brings them back.

Adaptive sampling (Rendle, Freudenthaler 2014): a factor f is drawn ∝ |p_f| sd_f, and a rank from
a geometric distribution; the negative is the item at that rank along ±f.  The orders are updated
every m ln m draws, with m the number of items of the stratum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from mfcore.kernels import bpr as kernels
from mfcore.objectives.pairwise import Ranking
from mfcore.parallel import Pool
from mfcore.solvers.loop import Solver
from mfcore.validation import DivergenceError

BLOCK_CELLS = 8192      # cells of a block to aim at
STRATUM_ITEMS = 32      # fewest items of a stratum
MAX_STRATA = 16         # most strata per side


@dataclass(frozen=True)
class Steps:
    """Sizes of the steps: η, and λ and λᵇ of the penalty.

    With `decay` d the rate is η / (1 + d·t) in epoch t = 0, 1, ...; without `learns_bias` biases
    stay.
    """

    learning_rate: float
    reg: float
    bias_reg: float
    decay: float
    learns_bias: bool

    def rates(self, epoch: int) -> np.ndarray:
        """Return [η, 2ηλ, η of biases, 2ηλᵇ] of an epoch, counted from 0."""
        eta = self.learning_rate / (1 + self.decay * epoch)
        return np.array([eta, 2 * eta * self.reg, eta * self.learns_bias,
                         2 * eta * self.bias_reg * self.learns_bias])


@dataclass
class PairwiseSGD(Solver):
    """The solver of BPR.

    Parameters
    ----------
    positives : csr_array, shape (n_users, n_items)
        Its pattern holds the items that each user prefers; rows sorted, none full.
    steps : Steps
    adaptive : bool
        Adaptive negatives instead of uniform ones.
    seed : int, >= 0
        Together with the number of the epoch it determines every draw.
    done : int
        Epochs done.
    """

    positives: sp.csr_array
    steps: Steps
    adaptive: bool
    seed: int
    done: int = 0

    def epoch(self, at: Ranking, pool: Pool) -> float:
        """Take a step for each positive, in place; return the mean of −ln σ(x)."""
        plan = _Plan(self.positives, np.random.default_rng([self.seed, self.done]), pool)
        rates = self.steps.rates(self.done)
        self.done += 1
        loss = 0.0
        for shift in range(plan.g):
            losses = pool.map(lambda a, s: self._block(plan, a, s, rates, at),
                              [(a, (a + shift) % plan.g) for a in range(plan.g)])
            loss += sum(losses)
            for a, found in enumerate(losses):
                if not math.isfinite(found):
                    raise _diverged(f"the loss of block {a} on diagonal {shift} is {found}",
                                    rates[0])
        if not (np.isfinite(at.P.sum()) and np.isfinite(at.Q.sum())):
            raise _diverged("the vectors are not finite", rates[0])
        return float(loss / self.positives.nnz)

    def _block(self, plan: _Plan, a: int, s: int, rates: np.ndarray, at: Ranking) -> float:
        loss, members = 0.0, plan.members[s]
        for users in plan.portions(a, s) if self.adaptive else [plan.users[a]]:
            sd, orders = item_orders(at.Q, members, self.adaptive)
            loss += float(kernels.train_block(
                users, plan.starts, plan.items, s, members, sd, orders, plan.key, rates, at.P,
                at.Q, at.gamma))
        return loss

    def state(self) -> dict[str, np.ndarray]:
        """Return the number of epochs done, and the seed."""
        return {"done": np.array(self.done), "seed": np.array(self.seed)}

    def resume(self, at: Ranking, state: dict[str, np.ndarray]) -> None:
        """Go on from what `state` returned."""
        self.done, self.seed = int(state["done"]), int(state["seed"])


def fold_in_by_pairs(positives: sp.csr_array, Q: np.ndarray, gamma: np.ndarray, steps: Steps,
                     n_passes: int, adaptive: bool, pool: Pool) -> np.ndarray:
    """Return vectors of new rows after the steps of `n_passes` epochs, items frozen.

    They start from 0 and always meet the same negatives; a row without positives, or without
    negatives, stays 0.  Shape (n_rows, k).
    """
    P = np.zeros((positives.shape[0], Q.shape[1]), Q.dtype)
    members = np.arange(Q.shape[0], dtype=np.int32)
    sd, orders = item_orders(Q, members, adaptive)
    rates = np.array([steps.rates(epoch) for epoch in range(n_passes)])
    random = np.random.default_rng(0)
    key = int(random.integers(2**63))
    pool.over_rows(lambda lo, hi: kernels.fold_in_rows(
        positives.indptr, positives.indices, members, sd, orders, key, rates, P, Q, gamma, lo,
        hi), positives.indptr)
    return P


def n_strata(shape: tuple[int, int], nnz: int) -> int:
    """Return g, the number of strata of each side: a function of the data alone."""
    by_cells = math.isqrt(nnz // BLOCK_CELLS)
    return max(1, min(MAX_STRATA, by_cells, shape[0], shape[1] // STRATUM_ITEMS))


def item_orders(Q: np.ndarray, members: np.ndarray, adaptive: bool
                ) -> tuple[np.ndarray, np.ndarray]:
    """Return sd (k,) of the members' factors and their order by each factor (k, n_members).

    The orders are empty (0, 0) if sampling is uniform.
    """
    if not adaptive:
        return np.zeros(Q.shape[1], Q.dtype), np.zeros((0, 0), np.int32)
    columns = np.ascontiguousarray(Q[members].T)
    return columns.std(axis=1), np.argsort(columns, axis=1).astype(np.int32)


class _Plan:
    """The strata of one epoch: `users` and `members` of each, cells grouped to match.

    Row u's cells of item stratum s are items[starts[u, s] : starts[u, s + 1]].
    """

    def __init__(self, positives: sp.csr_array, random: np.random.Generator, pool: Pool
                 ) -> None:
        n_users, n_items = positives.shape
        self.g = n_strata(positives.shape, positives.nnz)
        self.key = int(random.integers(2**63))
        counts = np.diff(positives.indptr)
        order = random.permutation(np.flatnonzero(counts))      # users with positives
        total = np.cumsum(counts[order])
        self.users = np.split(order, np.searchsorted(
            total, total[-1] * np.arange(1, self.g) / self.g))
        stratum = np.empty(n_items, np.int32)
        stratum[random.permutation(n_items)] = np.arange(n_items) % self.g
        self.members = [np.flatnonzero(stratum == s).astype(np.int32) for s in range(self.g)]
        self.starts = np.empty((n_users, self.g + 1), np.int64)
        self.items = np.empty(positives.nnz, np.int32)
        pool.over_rows(lambda lo, hi: kernels.group_cells(
            positives.indptr, positives.indices, stratum, self.starts, self.items, lo, hi),
            positives.indptr)

    def portions(self, a: int, s: int) -> list[np.ndarray]:
        """Cut the users of stratum a into portions of about m ln m draws in stratum s."""
        users, m = self.users[a], len(self.members[s])
        draws = np.cumsum(self.starts[users, s + 1] - self.starts[users, s])
        size = m * math.log(m + 1)
        cuts = np.searchsorted(draws, np.arange(size, draws[-1] if len(draws) else 0, size))
        return [part for part in np.split(users, cuts) if len(part)]


def _diverged(what: str, eta: float) -> DivergenceError:
    return DivergenceError(f"{what}; lower learning_rate (now {eta:g}) or reg")
