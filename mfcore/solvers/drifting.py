"""A solver with effects of periods: it moves the effects, and then the factors, in turn.

The solver inside sees a problem whose targets have the effects taken off (objectives/drift.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mfcore.objectives.bayesian import NU
from mfcore.objectives.drift import Drifted, Shifting
from mfcore.objectives.factors import Factors
from mfcore.objectives.quadratic import Quadratic
from mfcore.parallel import Pool
from mfcore.solvers.gibbs import Noise
from mfcore.solvers.loop import Solver

NOTHING = np.zeros(0)
DRIFT = 2                       # in the keys of random numbers, where 0 and 1 are the sides


@dataclass
class Drifting(Solver):
    """Alternate between the closed form of the effects and a solver of the factors.

    Effects come first in an epoch, so that it ends as the solver inside ends one; in the first
    epoch, in which factors are random, they stay as they are.

    Parameters
    ----------
    inner : Solver
        With an attribute `problem`, which is replaced in each epoch.
    shifting : Shifting
    """

    inner: Any
    shifting: Shifting
    _begins: bool = False

    def begin(self, at: Drifted, pool: Pool) -> None:
        """Prepare the factors as the solver inside does."""
        self._begins = True
        self.inner.problem = self.shifting.at(at.drift)
        self.inner.begin(at.factors, pool)

    def epoch(self, at: Drifted, pool: Pool) -> float:
        """Move the effects, and run an epoch of the solver inside; return its loss."""
        penalty = self._shift(at, pool)
        self._begins = False
        loss: float = self.inner.epoch(at.factors, pool)
        return loss + penalty

    def _shift(self, at: Drifted, pool: Pool) -> float:
        """Move the effects, and take them off the targets; return their penalty."""
        penalty = 0.0 if self._begins else self.move(at, self.shifting.scores(at, pool))
        self.inner.problem = self.shifting.at(at.drift)
        return penalty

    def move(self, at: Drifted, s: np.ndarray) -> float:
        """Move the effects, given the scores of cells without them; return their penalty."""
        regs = [context.reg for context in self.shifting.contexts]
        self.shifting.move(at.drift, s, regs, [NOTHING] * len(regs))
        return sum(reg * float(at.drift[part] @ at.drift[part])
                   for reg, part in zip(regs, self.shifting.parts, strict=True))

    def effects(self, at: Drifted) -> np.ndarray:
        """Return the effects that the model has at a point."""
        return at.drift

    def draws(self, at: Drifted) -> np.ndarray:
        """Return the effects in each sample of a sampler, shape (S, n_effects)."""
        return np.empty((0, len(at.drift)))

    def finish(self, at: Drifted, pool: Pool) -> None:
        """Finish the factors, given the effects."""
        self.inner.problem = self.shifting.at(at.drift)
        self.inner.finish(at.factors, pool)

    def state(self) -> dict[str, np.ndarray]:
        """Return the state of the solver inside."""
        return dict(self.inner.state())

    def resume(self, at: Drifted, state: dict[str, np.ndarray]) -> None:
        """Go on from what `state` returned."""
        self.inner.resume(at.factors, state)

    def go_back(self, n_epochs: int) -> None:
        """Forget the epoch after the first `n_epochs`."""
        self.inner.go_back(n_epochs)

    def sums(self) -> Iterable[np.ndarray]:
        """Return the sums of the solver inside."""
        sums: Iterable[np.ndarray] = self.inner.sums()
        return sums


class SampledDrift(Drifting):
    """Draw effects, and their precisions, in the sweeps of a Gibbs sampler.

    `precisions` are the Λ_d; `kept` has the effects of the sweeps that are kept, float32.
    """

    def __init__(self, inner: Any, shifting: Shifting) -> None:
        super().__init__(inner, shifting)
        self.precisions = np.array([1 / each.variance for each in shifting.contexts])
        self.kept: list[np.ndarray] = []
        self._before = -1, self.precisions, self.kept       # after how many sweeps

    def epoch(self, at: Drifted, pool: Pool) -> float:
        """Draw everything once; return what the sampler does."""
        self._before = self.inner.sweeps_done, self.precisions, self.kept
        loss = super().epoch(at, pool)
        if self.inner.sweeps_done in self.inner.kept_sweeps:
            self.kept = [*self.kept, at.drift.astype(np.float32)]
        return loss

    def move(self, at: Drifted, s: np.ndarray) -> float:
        """Draw the effects and their precisions; the loss of a sampler has no penalty."""
        inner, contexts = self.inner, self.shifting.contexts
        random = np.random.default_rng([inner.seed, inner.sweeps_done, DRIFT])
        noise = [random.standard_normal(len(each.keys)) / np.sqrt(inner.tau) for each in contexts]
        self.shifting.move(at.drift, s, (self.precisions / inner.tau).tolist(), noise)
        self.precisions = np.array([
            random.gamma((len(each.keys) + NU) / 2)
            / ((at.drift[part] @ at.drift[part] + NU * each.variance) / 2)
            for each, part in zip(contexts, self.shifting.parts, strict=True)])
        return 0.0

    def effects(self, at: Drifted) -> np.ndarray:
        """Return the mean of the kept effects; those of the point where none is kept yet."""
        mean: np.ndarray = self.draws(at).mean(axis=0, dtype=np.float64)
        return mean

    def draws(self, at: Drifted) -> np.ndarray:
        """Return the kept effects; those of the point where none is kept yet."""
        return np.array(self.kept or [at.drift.astype(np.float32)])

    def state(self) -> dict[str, np.ndarray]:
        """Return the state of the sampler, with precisions and kept effects."""
        kept = np.reshape(self.kept, (len(self.kept), self.shifting.size)).astype(np.float32)
        return {**super().state(), "drift.precisions": self.precisions, "drift.kept": kept}

    def resume(self, at: Drifted, state: dict[str, np.ndarray]) -> None:
        """Go on from what `state` returned."""
        self.precisions, self.kept = state["drift.precisions"], list(state["drift.kept"])
        super().resume(at, state)

    def go_back(self, n_epochs: int) -> None:
        """Forget the sweep after the first `n_epochs`, if one has begun."""
        done, precisions, kept = self._before
        if n_epochs <= done:
            self.precisions, self.kept = precisions, kept
        super().go_back(n_epochs)


class LatentDrift(SampledDrift):
    """The same where targets are drawn, too, before the effects.

    It takes the place of the likelihood in the sampler inside, which asks it before it draws rows.
    """

    def __init__(self, inner: Any, shifting: Shifting) -> None:
        super().__init__(inner, shifting)
        self.likelihood, inner.likelihood = inner.likelihood, self
        self.after = self.likelihood.after

    def _shift(self, at: Drifted, pool: Pool) -> float:
        self._at = at
        return 0.0

    def before(self, problem: Quadratic, at: Factors, noise: Noise, random: np.random.Generator,
               pool: Pool, *, is_exact: bool) -> tuple[Quadratic, Noise]:
        """Return the problem with targets without effects: see `Likelihood` in gibbs.py."""
        s, drift = self.shifting.scores(at, pool), self._at.drift
        about = s + self.shifting.offsets(drift).astype(s.dtype)
        z, noise = self.likelihood.drawn(about, noise, random, pool, is_exact=is_exact)
        self.shifting.pull = z.astype(np.float64)
        if self.inner.sweeps_done > 1:                  # (before, vectors are random)
            self.move(self._at, s)
        z -= self.shifting.offsets(drift)
        return self.likelihood.holding(problem, z, pool), noise
