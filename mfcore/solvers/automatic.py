"""Penalties found from the data: the size of their noise, and what biases explain.

How strong.  With λ_u = g_u λ and λ_i = g_i λ, and D the diagonals of the g, the least penalty of
all P Qᵀ = S is a sum of singular values (Srebro, Rennie, Jaakkola 2005, for g = 1):

    min λ Σ_u g_u ‖P_u‖² + λ Σ_i g_i ‖Q_i‖² = 2 λ ‖D_u^½ S D_i^½‖_*

So with Ω and b = w t as in objectives/quadratic.py, S = 0 is a minimum where no singular value of
D_u^−½ b D_i^−½ is above λ, and where b is noise, it should be.  A matrix of independent errors of
size s on Ω has, up to a factor near 1, the norm (Latała 2005; Bandeira, van Handel 2016)

    s (√ρ + √κ),    ρ the mean over rows of ρ_u = Σ_{i∈Ω_u} 1 / (g_u g_i), large rows counting most
                    κ the same of columns

which for n ratings of each user, g = √n, does not depend on density: √ρ + √κ is then
(n_items / n_users)^¼ + (n_users / n_items)^¼.

Errors (w0 = 0).  s is what held-out cells of a sample of users say: the root mean square of w e,
with e the error of a fit of few factors whose own λ falls with s until s settles.  A part of the
norm is enough where vectors explain something, and it takes all of it where they do not; where
they explain most, held-out errors are less noise than what a fit leaves for want of ratings:

    λ = c s (√ρ + √κ),    c = 0.7 + 0.3 e^(−G / 0.01) − 0.3 min(max(G − 0.35, 0) / 0.35, 1)

with G the share of s² that vectors explain.

Biases b_u ~ N(0, v), found with v and s² from their own fit (MacKay 1992: of a row with n ratings,
n / (n + λᵇ) of its b is learned from them), and less by as much as vectors lower s²:

    λᵇ = s² / v,    v = Σ b² / Σ n/(n + λᵇ),    s² = Σ w e² / (N − Σ_u n/(n + λᵇ) − Σ_i n/(n + λᵇ))

Ranks (w0 > 0).  Held-out cells of a sample of users are ranked among all unknown ones, by fits to
the others whose λ falls from 0.9 |b| (√ρ + √κ), each starting at the last, until lists are
clearly worse.  Of those whose NDCG@10 is not shown to be below the best (by a standard error of
the differences), the largest λ is taken.  |b| is the mean of |b|^(4/3), to the power of 3/4: a
few large counts raise the norm, but by less than their squares say.  Where it is four times the
median or more, few counts withstand such a λ, and lists say little: it is halved first.

λ of the sample becomes that of the whole by √ρ + √κ of both.  Constants were chosen on held-out
ratings of generated and public data of many scales, densities and shapes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.special import expit

from mfcore.objectives.factors import Factors, LinearScorer, cell_scores
from mfcore.objectives.penalty import Penalty, Prior
from mfcore.objectives.quadratic import Cells, Quadratic
from mfcore.parallel import Pool
from mfcore.solvers.als import ALS, row_cost
from mfcore.solvers.sample import counts_told, is_blank, of_cells, of_users
from mfcore.validation import DivergenceError

# Cells in a sample for errors, and in one for ranks; each user counts as some more.
CELLS, RANKED_CELLS = 300_000, 120_000
HELD = 0.1                         # the share of them that is held out
LEAST = 10                         # held-out cells that say something
LEAST_NOISE = 1e-3                 # of errors, next to those of biases: less is rounding
# Fits for errors: their factors, the part of the norm, sweeps of the first and of others, most of
# them, and the fall of s² that asks for one more.
FACTORS, PART, FIRST, MORE, MOST, SETTLED = 16, 0.5, 3, 2, 6, 0.8
WEAK, STRONG, GAIN = 1.0, 0.7, 0.01                 # c
EXACT, EXPLAINED = 0.4, (0.35, 0.7)                 # its least, and the G between which it falls
# λᵇ that fits begin with or are given, its least and its most: times the mean weight of cells.
BIAS_SWEEPS, BIAS_REG, RANKED_BIAS_REG, LABEL_BIAS_REG = 5, 4.0, 2.0, 1.0
BIAS_REGS = 0.01, 1e4
# Fits for ranks: factors, parts of the norm, sweeps of the first (they begin with random vectors)
# and of others, users that are measured, and how often the norm is halved at most.
RANKED_FACTORS, PARTS = 32, (0.9, 0.7, 0.54, 0.42, 0.33, 0.26, 0.2)
RANKED_FIRST, RANKED_MORE, USERS, HALVINGS = 4, 1, 500, 20
WORSE, UNTRIED = 2.0, 0.5   # standard errors below the best that end it; λ of too little data


class Found(NamedTuple):
    """λ, and λᵇ of users and of items, in units of the penalties of the problem."""

    reg: float
    bias_reg: tuple[float, float]


class Trial(NamedTuple):
    """A part of a problem: the cells that are fitted, those held out, and where fits begin.

    Its rows take the kernel of the whole fit, of `width` factors: to compile another takes longer
    than many estimates.
    """

    known: Quadratic
    held: Cells
    at: Factors
    width: int


def found_penalties(problem: Quadratic, at: Factors, seed: int, pool: Pool) -> Found:
    """Return how strong the penalties of a problem should be, next to those it has.

    at : its biases are those of the fit, its vectors say their number and precision
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        if problem.w0 > 0:
            bias_reg = RANKED_BIAS_REG * _mean_weight(problem)
            return Found(_of_ranks(problem, at, seed, pool), (bias_reg,) * 2)
        return _of_errors(problem, at, seed, pool)


def found_for_labels(problem: Quadratic, at: Factors, seed: int, pool: Pool) -> Found:
    """Return the same for the logistic loss: from squares where labels are all that counts.

    Near s the gradient of ℓ is σ(s) − y, without the 2 of squares, and a score is p (1 − p) = v
    times as steep: half of λ is enough, and v / 2 of λᵇ.  With w0 > 0, half of what the errors of
    the best constant score ask for.
    """
    cells = problem.by_user
    if problem.w0 > 0:
        n = max(counts_told(cells, problem.w0).sum(), 1)
        s = cell_scores(cells.indptr, cells.indices, 0 * at.P, 0 * at.Q, at.beta, at.gamma, pool)
        e = (cells.a + problem.w0) * expit(s) - cells.b
        size = float(np.sqrt(e @ e / n))
        bias_reg = LABEL_BIAS_REG * _mean_weight(problem)
        return Found(STRONG / 2 * size * noise_norm(problem), (bias_reg,) * 2)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        found = _of_errors(*_as_squares(problem, at), seed, pool)
    slope = float(expit(at.beta[:1]).sum() * expit(-at.beta[:1]).sum())
    user, item = (slope / 2 * each for each in found.bias_reg)
    return Found(found.reg / 2, (user, item))


def _as_squares(problem: Quadratic, at: Factors) -> tuple[Quadratic, Factors]:
    """Return the squared errors of labels, and a point: their mean in place of log-odds."""
    mean = expit(problem.users.penalty.bias_means).astype(np.float64)
    users = replace(problem.users, penalty=replace(problem.users.penalty, bias_means=mean))
    given = {each.name: getattr(problem, each.name) for each in fields(Quadratic)}
    squares = Quadratic(**{**given, "users": users,
                           "unit": float(np.sqrt(mean[0] * (1 - mean[0])))})
    return squares, replace(at, beta=expit(at.beta))


# ------------------------------------------------------------------------ what is tried

def trial_of(problem: Quadratic, at: Factors, k: int, n_cells: int, seed: int) -> Trial:
    """Hold out a share of the cells of a sample of users, which cost as much as n_cells."""
    random, counts = np.random.default_rng(seed), counts_told(problem.by_user, problem.w0)
    share = min(1.0, n_cells / max(float(counts.sum() + row_cost(k) * len(counts)), 1.0))
    rows = np.sort(random.permutation(len(counts))[:int(np.ceil(share * len(counts)))])
    none = np.zeros((1, k), at.P.dtype)
    users, items = (Prior(replace(prior.penalty, means=none))
                    for prior in (problem.users, problem.items))
    part = replace(problem, users=users, items=items)
    if len(rows) < len(counts):             # (whose items are pulled as in the whole)
        part = replace(of_users(part, rows), items=items)
    blank = is_blank(part.by_user)
    if blank.any():
        part = of_cells(part, ~blank)
    held = _drawn(part, int(random.integers(2**63))) < HELD
    P = (np.sqrt(problem.unit / k) * random.standard_normal((len(rows), k))).astype(none.dtype)
    Q = np.zeros((len(at.Q), k), none.dtype)        # (which P gives its first values)
    return Trial(of_cells(part, ~held), of_cells(part, held).by_user,
                 Factors(P, Q, at.beta[rows], at.gamma.copy()), at.P.shape[1])


def _drawn(problem: Quadratic, seed: int) -> np.ndarray:
    """Return a number in [0, 1) for each cell that stays if items come in another order.

    An item is told by its users, and items of the same users by the sum of what they said.
    """
    cells, n_items = problem.by_user, len(problem.by_item.indptr) - 1
    numbers = np.arange(len(cells.indptr) - 1, dtype=np.uint64) + np.uint64(seed)
    users = np.repeat(_mixed(numbers), np.diff(cells.indptr))
    told = np.zeros(n_items, np.uint64)
    np.add.at(told, cells.indices, users)
    said = np.round(np.bincount(cells.indices, cells.b, n_items) / problem.unit, 6)
    order = np.lexsort((said, told))
    starts = np.flatnonzero(np.append(True, np.diff(told[order]) != 0))
    told[order] += (np.arange(n_items) - np.repeat(starts, np.diff(np.append(starts, n_items)))
                    ).astype(np.uint64)
    drawn: np.ndarray = _mixed(users ^ _mixed(told)[cells.indices]) / 2.0**64
    return drawn


def _mixed(x: np.ndarray) -> np.ndarray:
    """Return well-mixed bits of uint64 numbers (Steele, Lea, Flood 2014: SplitMix64)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = x ^ (x >> np.uint64(31))
    return mixed


def noise_norm(problem: Quadratic) -> float:
    """Return √ρ + √κ, with the penalties of the problem for g."""
    tiny = np.finfo(float).tiny
    sides = [(counts_told(cells, problem.w0), np.maximum(prior.penalty.reg, tiny))
             for cells, prior in ((problem.by_user, problem.users),
                                  (problem.by_item, problem.items))]
    total = max(sides[0][0].sum(), 1)
    means = [float(np.sum(n / g)) / total for n, g in sides]
    return sum(float(np.sqrt(_mean_of_large(n / g * other)))
               for (n, g), other in zip(sides, means[::-1], strict=True))


def _mean_weight(problem: Quadratic) -> float:
    """Return the mean weight of the known cells that count, 1 where none does: the unit of λᵇ."""
    w = problem.by_user.a + problem.w0
    return float(w.sum() / np.count_nonzero(w)) if w.any() else 1.0


def _mean_of_large(x: np.ndarray) -> float:
    """Return the mean of x >= 0 weighted by x."""
    return float(x @ x / x.sum()) if x.any() else 0.0


# --------------------------------------------------------------------------------- errors

def held_out_noise(problem: Quadratic, at: Factors, seed: int, pool: Pool) -> float:
    """Return s², of errors times √w, as held-out cells tell it; NaN where they are too few."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        trial, bias_reg, first = _begun(problem, at, seed, pool)
        return (_settled(trial, first, bias_reg, pool) if first else np.nan) / _mean_weight(problem)


def _begun(problem: Quadratic, at: Factors, seed: int, pool: Pool
           ) -> tuple[Trial, tuple[float, float], float]:
    """Return cells to fit and to hold out, λᵇ, and s² of biases, 0 where cells are too few."""
    trial = trial_of(problem, at, min(FACTORS, at.P.shape[1]), CELLS, seed)
    bias_reg = _bias_regs(trial) if problem.learns_bias else (1.0, 1.0)
    first = _error(trial, replace(trial.at, P=0 * trial.at.P, Q=0 * trial.at.Q), pool)
    return trial, bias_reg, first if len(trial.held.indices) >= LEAST and first < np.inf else 0.0


def _of_errors(problem: Quadratic, at: Factors, seed: int, pool: Pool) -> Found:
    trial, bias_reg, first = _begun(problem, at, seed, pool)
    if not first:
        weight = _mean_weight(problem)
        return Found(STRONG * weight * problem.unit * noise_norm(problem), (weight * BIAS_REG,) * 2)
    penalised = problem.users.penalty.reg.any()          # (without, there is no λ to find)
    least = _settled(trial, first, bias_reg, pool) if penalised else first
    G = 1 - least / first
    c = STRONG + (WEAK - STRONG) * np.exp(-G / GAIN) \
        - (STRONG - EXACT) * np.interp(G, EXPLAINED, (0, 1))
    user, item = (least / first * each for each in bias_reg)
    return Found(float(c * np.sqrt(least) * noise_norm(problem)), (user, item))


def _settled(trial: Trial, first: float, bias_reg: tuple[float, float], pool: Pool) -> float:
    """Return s² of held-out cells when λ, which goes with s, has settled."""
    least, norm = first, noise_norm(trial.known)
    for number in range(MOST):
        share = least / first
        fit = ALS(trial.known.scaled(PART * np.sqrt(least) * norm,
                                     (share * bias_reg[0], share * bias_reg[1])), exact=False,
                  width=trial.width)
        for _ in range(MORE if number else FIRST):
            fit.epoch(trial.at, pool)
        before, least = least, min(least, _error(trial, trial.at, pool))
        if least > SETTLED * before:
            break
    return max(least, LEAST_NOISE ** 2 * first)


def _error(trial: Trial, at: Factors, pool: Pool) -> float:
    """Return the mean of (w e)² over held-out cells; infinity where it is none."""
    held = trial.held
    s = cell_scores(held.indptr, held.indices, at.P, at.Q, at.beta, at.gamma, pool)
    e = held.b - held.a * s
    counted = max(int(np.count_nonzero(held.a)), 1)
    error = float(e @ e) / counted
    return error if np.isfinite(error) else np.inf


def _bias_regs(trial: Trial) -> tuple[float, float]:
    """Return λᵇ of users and of items, and leave the biases of known cells in the trial."""
    known, at = trial.known, trial.at
    cells, users, items = known.by_user, known.users.penalty, known.items.penalty
    rows = np.repeat(np.arange(len(at.P)), np.diff(cells.indptr))
    columns, w = cells.indices, cells.a
    r = np.divide(cells.b, w, out=np.zeros_like(w), where=w > 0) - users.bias_means[0]
    unit = _mean_weight(known)
    user, item = (_Bias(users, rows, w, len(at.P), unit),
                  _Bias(items, columns, w, len(at.Q), unit))
    for _ in range(BIAS_SWEEPS):
        item.fit(r - user.values[rows])
        user.fit(r - item.values[columns])
        e = r - user.values[rows] - item.values[columns]
        left = max(float(np.count_nonzero(w)) - user.worth - item.worth, 1.0)
        noise = float(w @ e ** 2) / left
        user.learn(noise)
        item.learn(noise)
    at.beta[...], at.gamma[...] = user.values + users.bias_means[0], item.values
    return user.reg, item.reg


class _Bias:
    """Biases of one side, normal about 0 with a variance that is found too; `unit` of λᵇ."""

    def __init__(self, penalty: Penalty, rows: np.ndarray, w: np.ndarray, n: int, unit: float
                 ) -> None:
        self.rows, self.w, self.shape = rows, w, penalty.bias_reg
        self.total = np.bincount(rows, w, n)
        self.values, self.reg, self.unit = np.zeros(n), unit * BIAS_REG, unit

    def fit(self, r: np.ndarray) -> None:
        """Find the biases of ratings r, given their variance."""
        sums = np.bincount(self.rows, self.w * r, len(self.total))
        self.values = sums / np.maximum(self.total + self.reg * self.shape, np.finfo(float).tiny)

    @property
    def worth(self) -> float:
        """How many numbers the biases are worth."""
        return float(np.sum(self.total / np.maximum(self.total + self.reg * self.shape, 1e-300)))

    def learn(self, noise: float) -> None:
        """Find λᵇ, given the noise s² of ratings."""
        spread = float(self.shape @ self.values ** 2)
        if spread > 0:
            found = noise * self.worth / spread / self.unit
            self.reg = self.unit * float(np.clip(found, *BIAS_REGS))


# ---------------------------------------------------------------------------------- ranks

def _of_ranks(problem: Quadratic, at: Factors, seed: int, pool: Pool) -> float:
    trial = trial_of(problem, at, min(RANKED_FACTORS, at.P.shape[1]), RANKED_CELLS, seed)
    known = trial.known.by_user
    b = np.abs(known.b)[known.a + problem.w0 != 0]
    size = float(np.mean(b**(4 / 3))**0.75) if b.any() else problem.unit * _mean_weight(problem)
    rows = _ranked_rows(trial, np.random.default_rng(seed + 1))
    part = UNTRIED
    if len(rows) >= LEAST:
        halvings = int(np.nan_to_num(np.log2(size / 2 / np.median(b[b > 0])).clip(0, HALVINGS)))
        found = list(_tried(trial, size * noise_norm(trial.known), halvings, rows, pool))
        part = _largest_good(found) if found else UNTRIED
    return part * size * noise_norm(problem)


def _ranked_rows(trial: Trial, random: np.random.Generator) -> np.ndarray:
    """Return users with known cells and relevant held-out ones."""
    everybody, n_items = np.arange(len(trial.at.P)), len(trial.at.Q)
    known, held = (np.diff(_pattern(cells, everybody, n_items).indptr)
                   for cells in (trial.known.by_user, trial.held))
    rows = np.flatnonzero((known > 0) & (held > 0))
    return np.sort(random.permutation(rows)[:USERS])


def _tried(trial: Trial, norm: float, halvings: int, rows: np.ndarray, pool: Pool
           ) -> Iterator[tuple[float, np.ndarray]]:
    """Yield parts of the norm, first halved, and NDCG of users, until clearly worse, or twice."""
    best, worse = np.full(len(rows), -1.0), 0
    parts = PARTS[0] / 2.0**np.arange(halvings), np.array(PARTS) / 2**halvings
    for number, part in enumerate(np.concatenate(parts)):
        fit = ALS(trial.known.scaled(part * norm, (1.0, 1.0)), exact=False, cg_steps=1,
                  width=trial.width)
        try:
            for _ in range(RANKED_FIRST if number in (0, halvings) else RANKED_MORE):
                fit.epoch(trial.at, pool)
            values = ranked(trial, rows, pool)
        except (DivergenceError, ValueError):         # (the fit itself will say so)
            return
        yield part, values
        better = values.mean() > best.mean()
        worse = 0 if better else worse + (number > halvings)
        if worse == 2 or number >= halvings and _is_below(values, best, WORSE):
            return
        best = values if better else best


def _largest_good(found: list[tuple[float, np.ndarray]]) -> float:
    """Return the first part whose mean is not below the best by more than a standard error."""
    best = found[int(np.argmax([values.mean() for _, values in found]))][1]
    return next(part for part, values in found if not _is_below(values, best, 1.0))


def _is_below(values: np.ndarray, best: np.ndarray, errors: float) -> bool:
    """Whether values are lower than others by more than a number of standard errors."""
    below = best - values
    return bool(np.mean(below) > errors * np.std(below) / np.sqrt(len(below)))


def ranked(trial: Trial, rows: np.ndarray, pool: Pool) -> np.ndarray:
    """Return NDCG@10 of each of some users, their held-out cells among all unknown ones."""
    from mfcore.solvers.ranked import ndcg_of

    at, n_items = trial.at, len(trial.at.Q)
    seen, held = (_pattern(cells, rows, n_items) for cells in (trial.known.by_user, trial.held))
    return ndcg_of(LinearScorer(at.P[rows], at.Q, at.beta[rows], at.gamma), seen, held, pool)


def _pattern(cells: Cells, rows: np.ndarray, n_items: int) -> sp.csr_array:
    """Return which cells of some rows have b > 0, shape (len(rows), n_items)."""
    b = cells.b > 0
    whole = sp.csr_array((b, cells.indices, cells.indptr), shape=(len(cells.indptr) - 1, n_items))
    found = whole[rows]
    found.eliminate_zeros()
    return sp.csr_array(found)
