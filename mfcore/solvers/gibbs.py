"""Gibbs sampling of the Bayesian factorization: the exact solver, plus noise.

A sweep draws, for items and then for users, the prior of the side (precisions, mean, groups)
given its rows, and then every row given the other side.  What ratings are, given scores, is a
likelihood: `Gaussian` draws the noise precision last, solvers/ordinal.py first what it needs.  The
conditionals are derived in objectives/bayesian.py.  That of a row is N(A⁻¹ c, (τ A)⁻¹) with the A
and c of its least squares system, so that `solve_exactly` with noise draws it.

The penalty is Λ/τ about μ + F_u G, but the solver takes penalties S about means M, with one s
for all factors and one for the bias.  So with s the least λ_f/τ of the factors, and the bias's own,

    A += (Λ/τ − S) + S               `common`, and the rows' own penalty
    c += S M,  M = (μ + F G) (Λ/τ) / S

With many factors a row is drawn in blocks of them, each given the others (solvers/subspace.py):
that leaves the same density as it is, at a cost of k B instead of k² per rating, for blocks of B.

Random numbers are keyed by (seed, sweep, side, chunk of rows), so that threads do not matter.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

import numpy as np

from mfcore import validation
from mfcore.metrics.convergence import unsettled
from mfcore.objectives.bayesian import NU, Hyper, RowPrior, draw_noise_precision
from mfcore.objectives.factors import Factors
from mfcore.objectives.penalty import Penalty
from mfcore.objectives.quadratic import Quadratic, RowSystems
from mfcore.parallel import Pool, row_chunks
from mfcore.solvers.als import solve_exactly
from mfcore.solvers.automatic import held_out_noise
from mfcore.solvers.checkpoint import group
from mfcore.solvers.loop import Solver
from mfcore.solvers.subspace import noise_width, step_through_blocks
from mfcore.validation import DivergenceError, FitWarning

LIFT = 1e-6             # share of the trace, of factors and of the bias, to add if a row has no
                        # Cholesky factor
NOISE_ROWS = 4096       # rows whose noise comes from one generator
SIDES = ("users", "items")
ENOUGH, PAIRS = 8, 400  # samples from which halves are compared, and pairs whose scores are
OF_CELLS = 0.1          # that the errors of held-out cells count as


class Noise(NamedTuple):
    """What a likelihood draws: τ, and the cut points of levels, if it has any."""

    tau: float
    cuts: np.ndarray = np.zeros(0)


class Likelihood(Protocol):
    """How ratings are distributed about the scores."""

    def start(self) -> Noise:
        """Return what a chain begins with."""

    def before(self, problem: Quadratic, at: Factors, noise: Noise, random: np.random.Generator,
               pool: Pool, *, is_exact: bool) -> tuple[Quadratic, Noise]:
        """Return the problem whose rows a sweep draws, and what it draws first.

        is_exact : False while the chain only has to find its way
        """

    def after(self, problem: Quadratic, at: Factors, noise: Noise, random: np.random.Generator,
              pool: Pool) -> tuple[float, Noise]:
        """Return a loss of the sweep, and what it draws last."""


@dataclass(frozen=True)
class Gaussian:
    """r ~ N(s, 1/(τ w)); n_cells : N; variance : v, a guess of 1/τ that counts as `worth` cells."""

    n_cells: float
    variance: float
    worth: float = NU

    def start(self) -> Noise:
        """Return 1/v."""
        return Noise(1 / self.variance)

    def before(self, problem: Quadratic, at: Factors, noise: Noise, random: np.random.Generator,
               pool: Pool, *, is_exact: bool) -> tuple[Quadratic, Noise]:
        """Return what is given."""
        return problem, noise

    def after(self, problem: Quadratic, at: Factors, noise: Noise, random: np.random.Generator,
              pool: Pool) -> tuple[float, Noise]:
        """Return Σ w (r − s)², and a draw of τ."""
        loss = problem.value(at, pool)
        squares = loss.known + loss.unknown
        if not np.isfinite(squares):
            raise DivergenceError(f"the squared error is {squares}; rescale the ratings and "
                                  f"weights, or use dtype='float64'")
        return squares, Noise(draw_noise_precision(self.n_cells, squares, self.variance, self.worth,
                                                   random))


@dataclass
class Sample:
    """One kept state of the chain: a point, the noise, and the priors of users and of items."""

    at: Factors
    noise: Noise
    users: RowPrior
    items: RowPrior


@dataclass
class Gibbs(Solver):
    """A Gibbs sampler of one problem: see `mfcore.solvers.loop.Solver`.

    Parameters
    ----------
    problem : Quadratic
        Its penalties hold the means that biases are measured from; their λ are not used.
    users, items : Hyper
        Hyperpriors, from which the priors are drawn.
    likelihood : Likelihood
    kept_sweeps : frozenset of int
        Sweeps, from 1, whose states are kept in `samples`.
    seed : int
    block_size : int or None
        Factors that are drawn together; None: all.
    """

    problem: Quadratic
    users: Hyper
    items: Hyper
    likelihood: Likelihood
    kept_sweeps: frozenset[int]
    seed: int
    block_size: int | None = None
    sweeps_done: int = 0
    noise: Noise = Noise(0.0)
    samples: list[Sample] = field(default_factory=list)
    _priors: dict[str, RowPrior] = field(default_factory=dict)
    _before: tuple[Noise, dict[str, RowPrior]] = (Noise(0.0), {})   # noise, priors, a sweep ago

    def __post_init__(self) -> None:
        self.noise = self.likelihood.start()
        self._priors = {"users": self.users.start(), "items": self.items.start()}

    @property
    def tau(self) -> float:
        """The noise precision."""
        return self.noise.tau

    def begin(self, at: Factors, pool: Pool) -> None:
        """Ask held-out cells how large errors are, before the first sweep."""
        if isinstance(self.likelihood, Gaussian) and self.problem.w0 == 0:
            self._expect(held_out_noise(self.problem, at, self.seed, pool))

    def _expect(self, variance: float) -> None:
        """Take a variance of errors as a guess, unless it is NaN."""
        if isinstance(self.likelihood, Gaussian) and variance > 0:
            self.likelihood = Gaussian(self.likelihood.n_cells, variance,
                                       max(NU, OF_CELLS * self.likelihood.n_cells))

    def epoch(self, at: Factors, pool: Pool) -> float:
        """Draw everything once; return what the likelihood calls its loss."""
        self._before = self.noise, dict(self._priors)
        self.sweeps_done += 1
        random = np.random.default_rng([self.seed, self.sweeps_done])
        is_exact = 2 * self.sweeps_done >= min(self.kept_sweeps, default=0)
        self.problem, self.noise = self.likelihood.before(self.problem, at, self.noise, random,
                                                          pool, is_exact=is_exact)
        for side in ("items", "users"):
            self._draw_rows(side, at, pool, self._draw_prior(side, at, random, pool))
        loss, self.noise = self.likelihood.after(self.problem, at, self.noise, random, pool)
        if self.sweeps_done in self.kept_sweeps:
            self.samples.append(self.sample(at))
        return loss

    def sample(self, at: Factors) -> Sample:
        """Return the present state."""
        return Sample(at.copy(), self.noise, self._priors["users"], self._priors["items"])

    def _draw_prior(self, side: str, at: Factors, random: np.random.Generator, pool: Pool
                    ) -> np.ndarray:
        """Draw the prior of a side and its group vectors; return F G, biases last."""
        X, bias, G, g = at.of_users if side == "users" else at.of_items
        base = getattr(self.problem, side).penalty
        hyper: Hyper = getattr(self, side)
        Z, ZG = X.astype(np.float64) - base.means, G.astype(np.float64)
        if self.problem.learns_bias:
            Z = np.column_stack([Z, bias.astype(np.float64) - base.bias_means])
            ZG = np.column_stack([ZG, g])
        self._priors[side], ZG, means = hyper.draw(self._priors[side], Z, ZG, random, pool)
        G[...] = ZG[:, :X.shape[1]]
        if self.problem.learns_bias:
            g[...] = ZG[:, -1]
        return means

    def _draw_rows(self, side: str, at: Factors, pool: Pool, means: np.ndarray) -> None:
        X, bias, _, _ = at.of_users if side == "users" else at.of_items
        rows = self.problem.without_groups.user_rows(at) if side == "users" else \
            self.problem.without_groups.item_rows(at)
        k = X.shape[1]
        bias_means = means[:, k] if self.problem.learns_bias else np.zeros(1)
        systems = sampled_rows(rows, self._priors[side], self.noise.tau, means[:, :k], bias_means)
        d = systems.n_free if self.block_size is None else \
            noise_width(k, self.block_size, systems.learns_bias)
        noise = row_noise((len(X), d), (self.seed, self.sweeps_done, SIDES.index(side)), X.dtype,
                          pool)
        noise /= X.dtype.type(np.sqrt(self.noise.tau))
        try:
            self._draw(systems, X, bias, pool, noise)
        except DivergenceError:                # once more, with a little more on the diagonal
            lifted = replace(systems, common=_lifted(systems, X.shape[1], pool))
            try:
                self._draw(lifted, X, bias, pool, noise)
            except DivergenceError:
                raise DivergenceError(f"no finite draw of the {side}; rescale the ratings and "
                                      f"weights, or use dtype='float64'") from None

    def _draw(self, systems: RowSystems, X: np.ndarray, bias: np.ndarray, pool: Pool,
              noise: np.ndarray) -> None:
        if self.block_size is None:
            solve_exactly(systems, X, bias, pool, noise)
        else:
            step_through_blocks(systems, X, bias, pool, self.block_size, noise)

    def go_back(self, n_epochs: int) -> None:
        """Forget the sweep after the first `n_epochs`, if one has begun."""
        if n_epochs < self.sweeps_done:
            self.sweeps_done = n_epochs
            self.noise, self._priors = self._before
            del self.samples[sum(sweep <= n_epochs for sweep in self.kept_sweeps):]

    def finish(self, at: Factors, pool: Pool) -> None:
        """Keep the last state if no sweep was kept; warn of a chain that has not settled."""
        if not self.samples:
            self.samples.append(self.sample(at))
        if len(self.samples) >= ENOUGH and len(self.samples) == len(self.kept_sweeps):
            self._compare_halves()

    def _compare_halves(self) -> None:
        """Warn where scores, or how far they spread, are not those of a settled chain."""
        random = np.random.default_rng(self.seed)
        users, items = (random.integers(0, len(X), PAIRS) for X in (self.samples[0].at.P,
                                                                    self.samples[0].at.Q))
        scores = np.array([
            np.einsum("nf,nf->n", each.at.P[users], each.at.Q[items], dtype=np.float64)
            + each.at.beta[users] + each.at.gamma[items] for each in self.samples])
        found = unsettled([scores.mean(axis=1), np.mean(scores ** 2, axis=1)])
        if found is not None:
            validation.warn(f"the chain has not settled: its {len(scores)} samples of scores are "
                            f"worth {found[1]:.0f} independent ones, and R-hat between their "
                            f"halves is {found[0]:.2f}, where 1 is best; raise n_epochs, and "
                            f"burn_in with it", FitWarning)

    def state(self) -> dict[str, np.ndarray]:
        """Return the counters, the priors and all kept samples."""
        now = Sample(Factors(*(np.empty((0, 1)),) * 2, np.empty(0), np.empty(0)), self.noise,
                     self._priors["users"], self._priors["items"])
        guess = self.likelihood.variance if isinstance(self.likelihood, Gaussian) \
            and self.likelihood.worth > NU else np.nan
        arrays = {"counters": np.array([self.seed, self.sweeps_done, len(self.samples)]),
                  "guess": np.array(guess)}
        for number, sample in enumerate([now, *self.samples]):
            arrays |= {f"{number}.{name}.{part}": array for name in ("at", *SIDES)
                       for part, array in vars(getattr(sample, name)).items()}
            arrays[f"{number}.tau"] = np.array(sample.noise.tau)
            arrays[f"{number}.cuts"] = sample.noise.cuts
        return arrays

    def resume(self, at: Factors, state: dict[str, np.ndarray]) -> None:
        """Go on from what `state` returned."""
        self.seed, self.sweeps_done, n_samples = (int(value) for value in state["counters"])
        now, *self.samples = (_sample(group(state, str(number)))
                              for number in range(n_samples + 1))
        self.noise, self._priors = now.noise, {"users": now.users, "items": now.items}
        self._expect(float(state.get("guess", np.nan)))


def sampled_rows(rows: RowSystems, prior: RowPrior, tau: float, means: np.ndarray,
                 bias_means: np.ndarray) -> RowSystems:
    """Return row systems with the penalty Λ/τ about μ + `means`, as the solver takes it."""
    penalty, n = rows.penalty, len(rows.cells.indptr) - 1
    scaled, k = prior.precision / tau, rows.Q.shape[1]
    s = np.append(np.full(k, scaled[:k].min()), scaled[k:])
    Z = penalty.means + means
    if rows.learns_bias:
        Z = np.column_stack([Z, np.broadcast_to(penalty.bias_means + bias_means, len(Z))])
    M = (Z + prior.mean) * (scaled / s)
    moved = Penalty(np.full(n, s[0]), np.full(n, s[-1]), M[:, :k],
                    M[:, k] if rows.learns_bias else penalty.bias_means)
    return replace(rows, penalty=moved, common=np.diag(scaled - s))


def _lifted(systems: RowSystems, k: int, pool: Pool) -> np.ndarray:
    """Return `common` with a little more on the diagonal, of factors and of the bias."""
    lift = np.abs(np.diag(systems.whole_matrix(pool).A0))
    lift[:k] = lift[:k].sum() + systems.penalty.reg[0]
    lift[k:] += systems.penalty.bias_reg[0]
    return np.asarray(systems.common) + LIFT * np.diag(lift)


def row_noise(shape: tuple[int, int], key: tuple[int, ...], dtype: np.dtype, pool: Pool
              ) -> np.ndarray:
    """Return standard normal numbers that depend on the key and their place alone."""
    noise = np.empty(shape, dtype)

    def fill(start: int, stop: int) -> None:
        random = np.random.default_rng([*key, start])
        noise[start:stop] = random.standard_normal((stop - start, shape[1]), dtype=dtype)

    pool.map(fill, row_chunks(shape[0], NOISE_ROWS))
    return noise


def _sample(parts: dict[str, np.ndarray]) -> Sample:
    return Sample(Factors(**group(parts, "at")), Noise(float(parts["tau"]), parts["cuts"]),
                  RowPrior(**group(parts, "users")), RowPrior(**group(parts, "items")))
