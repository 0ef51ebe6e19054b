"""L-BFGS on all parameters at once: one iteration per epoch, with an exact step.

Direction.  x holds the free numbers of P, Q, β, γ and of the groups; g is the gradient of
objectives/quadratic.py.  With the last steps s = x⁺ − x, changes y = g⁺ − g and ρ = 1 / sᵀy,

    H⁺ = (I − ρ s yᵀ) H (I − ρ y sᵀ) + ρ s sᵀ          so that H⁺ y = s

is an inverse Hessian that starts from (sᵀy / yᵀy) I, and d = −H g.  The product needs no
matrix, only a loop from the newest pair to the oldest and one back (`Pairs`).

A direction depends on the units of what it moves.  Biases are of the size of the ratings' σ,
vectors of √σ: with D = 1 for vectors and √σ for biases, all the above is done in x / D, whose
gradient is D g.

Step.  Along d = (dP, dQ, dβ, dγ) a score is a parabola and the objective a quartic:

    s(t) = (p + t dp)·(q + t dq) + β + t dβ + γ + t dγ = s0 + t s1 + t² s2
    s1 = p·dq + dp·q + dβ + dγ = [p | dp]·[dq | q] + dβ + dγ          s2 = dp·dq

    L(t) − L(0) = c1 t + c2 t² + c3 t³ + c4 t⁴
    c1 = g·d                                                          as for any function
    c2 = Σ_Ω (a s1² + 2 (a s0 − b) s2) + w0 Σ_all (s1² + 2 s0 s2) + the penalty of d
    c3 = Σ_Ω 2 a s1 s2 + w0 Σ_all 2 s1 s2           c4 = Σ_Ω a s2² + w0 Σ_all s2²

With Û = [P | β | 1], V̂ = [Q | 1 | γ] and their changes, Grams of both are polynomials too:

    Σ_all s(t)² = Σ_ef (Û(t)ᵀÛ(t))_ef (V̂(t)ᵀV̂(t))_ef              never dense

So the best step is a root of the cubic L'(t), found without trial steps or a tolerance.  There
L'(t) = 0, hence sᵀy = t (L'(t) − L'(0)) = −t g·d > 0, and H stays positive definite.

Memory.  x, g and d are float64, pairs float32: a direction needs no more digits, and H is
positive definite for any pairs with sᵀy > 0.  The sums over cells are added row by row.

A general-purpose L-BFGS hides its state, so that one could neither step it epoch by epoch nor
continue it after a stop.

Sources: Nocedal 1980; Liu and Nocedal 1989 (the start of H); Nocedal and Wright 2006,
algorithm 7.4 (two loops).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from mfcore import validation
from mfcore.kernels import cells as kernels
from mfcore.kernels import vectors
from mfcore.objectives.factors import Factors, Side
from mfcore.objectives.penalty import Prior
from mfcore.objectives.quadratic import Quadratic
from mfcore.parallel import Pool, gram, row_chunks
from mfcore.solvers.loop import Solver
from mfcore.validation import DivergenceError

# The blocks of parameters that move, by what is free.
FREE = {"both": ("P", "Q", "beta", "gamma", "G", "H", "g", "h"), "users": ("P", "beta"),
        "items": ("Q", "gamma")}
BIASES = {"beta", "gamma", "g", "h"}
# Pairs to keep.  Ten take 16 bytes more per number, and lower the loss by at most 0.4 % where the
# penalty is small (reg=0.02, from 15 to 120 epochs), else by 0.2 % after 15 epochs and by 0.01 %
# after 60 (ML-100K).
MEMORY = 8
PART = 1 << 17          # numbers of a vector that one task multiplies


class Pair(NamedTuple):
    """A step and the change of the gradient, each divided by its largest number; and σ / η."""

    s: np.ndarray
    y: np.ndarray
    ratio: float


class Pairs:
    """The last steps s and changes y of the gradient, and the direction that they give.

    Each is kept divided by its largest number, ŝ = s / σ and ŷ = y / η, so that no scale of
    the ratings leaves the range of float32.  In the two loops only the ratio σ / η is left:

        α = ŝᵀq / ŝᵀŷ            q ← q − α ŷ                            newest to oldest
        q ← (σ/η) (ŝᵀŷ / ŷᵀŷ) q                                         of the newest
        q ← q + ((σ/η) α − ŷᵀq / ŝᵀŷ) ŝ                                 oldest to newest

    Parameters
    ----------
    most : int, >= 1
        Pairs to keep; the oldest gives way.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.kept: list[Pair] = []              # oldest first

    def begin(self, step: np.ndarray) -> Pair:
        """Return a pair of this step, in the room of the oldest if there is no other."""
        s, y, _ = self.kept.pop(0) if len(self.kept) == self.most else \
            Pair(np.empty(len(step), np.float32), np.empty(len(step), np.float32), 0.0)
        return Pair(s, y, _put_rounded(step, s))

    def add(self, begun: Pair, change: np.ndarray, pool: Pool) -> None:
        """Keep a pair that `begin` returned, unless sᵀy > 0 is lost to rounding."""
        s, y, sigma = begun
        eta = _put_rounded(change, y)
        if _dot(s, y, pool) > 0:
            self.kept.append(Pair(s, y, sigma / eta))

    def put_direction(self, g: np.ndarray, d: np.ndarray, pool: Pool) -> None:
        """Write −H g to d, float64; −g if there are no pairs."""
        np.negative(g, out=d)
        pairs = [(*pair, _dot(pair.s, pair.y, pool)) for pair in self.kept]
        alphas = []
        for s, y, _, sy in reversed(pairs):
            alphas.append(_dot(s, d, pool) / sy)
            _add(d, -alphas[-1], y, pool)
        for _, y, ratio, sy in pairs[-1:]:
            d *= ratio * sy / _dot(y, y, pool)
        for (s, y, ratio, sy), alpha in zip(pairs, reversed(alphas), strict=True):
            _add(d, ratio * alpha - _dot(y, d, pool) / sy, s, pool)

    def state(self) -> dict[str, np.ndarray]:
        """Return all that `resume` needs, without copies."""
        return {"ratios": np.array([pair.ratio for pair in self.kept]),
                **{f"step_{number}": pair.s for number, pair in enumerate(self.kept)},
                **{f"change_{number}": pair.y for number, pair in enumerate(self.kept)}}

    def resume(self, state: dict[str, np.ndarray]) -> None:
        """Go on from what `state` returned."""
        self.kept = [Pair(state[f"step_{number}"], state[f"change_{number}"], float(ratio))
                     for number, ratio in enumerate(state["ratios"])]


@dataclass
class LBFGS(Solver):
    """Limited-memory BFGS on one problem: see `mfcore.solvers.loop.Solver`.

    Parameters
    ----------
    problem : Quadratic
    memory : int, >= 1
        Pairs (s, y) to keep.
    free : {"both", "users", "items"}
        What moves; the rest stays as it is.

    Notes
    -----
    Computes in float64 whatever the type of the factors, which get a rounded copy.  An epoch
    forgets all pairs if the factors are not those at the end of the last one.
    """

    problem: Quadratic
    memory: int = MEMORY
    free: str = "both"
    _x: np.ndarray = field(default_factory=lambda: np.empty(0), init=False, repr=False)
    _g: np.ndarray = field(default_factory=lambda: np.empty(0), init=False, repr=False)

    def __post_init__(self) -> None:
        validation.choice("free", self.free, FREE)
        self._pairs = Pairs(validation.integer("memory", self.memory, low=1))

    def epoch(self, at: Factors, pool: Pool) -> float:
        """Take one step; return the loss after it."""
        if not self._is_at(at):
            self._begin(at, pool)
        d = np.empty_like(self._g)
        self._pairs.put_direction(self._g, d, pool)
        slope = float(self._g @ d)
        self._in_units(d, at, 1)
        t = self._best_step(at, d, slope, pool)
        if t > 0:
            d *= t
            self._move(at, d, pool)
        point = self._point(at)
        for name in FREE[self.free]:
            getattr(at, name)[...] = getattr(point, name)
        return self.problem.value(point, pool).total

    def state(self) -> dict[str, np.ndarray]:
        """Return the unrounded parameters, their gradient and the pairs."""
        return {"x": self._x, "gradient": self._g, **self._pairs.state()}

    def resume(self, at: Factors, state: dict[str, np.ndarray]) -> None:
        """Go on from what `state` returned, to the same bits."""
        self._x, self._g = state["x"], state["gradient"]
        self._pairs.resume(state)

    def _is_at(self, at: Factors) -> bool:
        """Whether the factors are x, rounded."""
        if len(self._x) != sum(getattr(at, name).size for name in FREE[self.free]):
            return False
        point = self._blocks(self._x, at)
        return all(np.array_equal(getattr(point, name).astype(block.dtype), block)
                   for name, block in vars(at).items() if name in FREE[self.free])

    def _flat(self, point: Factors) -> np.ndarray:
        return np.concatenate([getattr(point, name).ravel() for name in FREE[self.free]],
                              dtype=np.float64)

    def _in_units(self, x: np.ndarray, like: Factors, power: int) -> None:
        """Multiply x by a power of D, in place."""
        blocks, scale = self._blocks(x, like), self.problem.unit ** (power / 2)
        for name in BIASES.intersection(FREE[self.free]):
            getattr(blocks, name)[...] *= scale

    def _blocks(self, x: np.ndarray, like: Factors) -> Factors:
        """Return x as blocks (views), with zeros for those that are not free."""
        free = FREE[self.free]
        blocks = {name: np.zeros(block.shape) for name, block in vars(like).items()
                  if name not in free}
        start = 0
        for name in free:
            block = getattr(like, name)
            blocks[name] = x[start:start + block.size].reshape(block.shape)
            start += block.size
        return Factors(**blocks)

    def _point(self, at: Factors) -> Factors:
        """Return the parameters in float64: x, and from `at` what is not free."""
        blocks = vars(self._blocks(self._x, at))
        return Factors(**{name: blocks[name] if name in FREE[self.free] else
                          block.astype(np.float64) for name, block in vars(at).items()})

    def _begin(self, at: Factors, pool: Pool) -> None:
        """Start from `at`, without pairs."""
        rest_at_prior(self.problem, at, self.free)
        self._pairs = Pairs(self.memory)
        self._x = self._flat(at)
        self._g = np.empty_like(self._x)
        self._put_gradient(at, self._g, pool)

    def _put_gradient(self, at: Factors, g: np.ndarray, pool: Pool) -> None:
        self.problem.put_gradient(self._point(at), self._blocks(g, at), pool)
        self._in_units(g, at, 1)

    def _best_step(self, at: Factors, d: np.ndarray, slope: float, pool: Pool) -> float:
        c = np.append(slope, line_coefficients(self.problem, self._point(at),
                                               self._blocks(d, at), pool))
        if not np.isfinite(c).all():
            raise DivergenceError("the objective overflows along the step; rescale the "
                                  "ratings or raise reg")
        return best_step(c)

    def _move(self, at: Factors, step: np.ndarray, pool: Pool) -> None:
        """Add a step to x, and keep it with the change of g; its room then holds the new g."""
        self._x += step
        self._in_units(step, at, -1)
        begun, g = self._pairs.begin(step), step
        self._put_gradient(at, g, pool)
        change, self._g = np.subtract(g, self._g, out=self._g), g
        self._pairs.add(begun, change, pool)


def _put_rounded(x: np.ndarray, out: np.ndarray) -> float:
    """Write x, divided by its largest number, to out, rounded to its type; return the number."""
    most = max(float(x.max(initial=0)), -float(x.min(initial=0))) or 1.0
    np.multiply(x, 1 / most, out=out, casting="same_kind")
    return most


def _dot(x: np.ndarray, y: np.ndarray, pool: Pool) -> float:
    """Return xᵀy, float64; the parts are added in order."""
    return sum(pool.map(lambda lo, hi: float(vectors.dot(x, y, lo, hi)),
                        row_chunks(len(x), PART)))


def _add(q: np.ndarray, scale: float, x: np.ndarray, pool: Pool) -> None:
    """Add scale · x to q in place."""
    pool.map(lambda lo, hi: vectors.add(q, scale, x, lo, hi), row_chunks(len(q), PART))


def line_coefficients(problem: Quadratic, at: Factors, d: Factors, pool: Pool) -> np.ndarray:
    """Return c2, c3, c4 of the objective along d, float64, shape (3,)."""
    cells = problem.by_user
    known: np.ndarray = np.sum(pool.over_rows(lambda lo, hi: kernels.sums_along(
        *cells, at.P, at.Q, at.beta, at.gamma, d.P, d.Q, d.beta, d.gamma, lo, hi),
        cells.indptr), axis=0)
    known[0] += _penalty_square(problem.users, d.of_users, problem.learns_bias)
    known[0] += _penalty_square(problem.items, d.of_items, problem.learns_bias)
    return known + problem.w0 * _whole_square_along(at, d, pool) if problem.w0 else known


def best_step(c: np.ndarray) -> float:
    """Return the t > 0 that minimises c1 t + c2 t² + c3 t³ + c4 t⁴; 0 if it does not fall."""
    if not c[0] < 0:
        return 0.0
    scale = -c[0] / (2 * abs(c[1])) if c[1] != 0 else 1.0       # about the length of a step
    powers = scale ** np.arange(1, 5)
    roots = np.roots((c * powers * np.arange(1, 5))[::-1]).real
    steps = scale * roots[roots > 0]
    values = (steps[:, None] ** np.arange(1, 5)) @ c
    return float(steps[values.argmin()]) if len(steps) and values.min() < 0 else 0.0


def rest_at_prior(problem: Quadratic, at: Factors, free: str = "both") -> None:
    """Set rows without stored cells to their prior if w0 = 0.

    Only the penalty depends on such a row, so that this is its minimum.
    """
    sides = [(problem.by_user.indptr, problem.users, at.of_users)] * (free != "items") \
        + [(problem.by_item.indptr, problem.items, at.of_items)] * (free != "users")
    for indptr, prior, (X, bias, G, g) in sides if problem.w0 == 0 else ():
        empty = np.flatnonzero(np.diff(indptr) == 0)
        means, bias_means = prior.at(G, g).means_of(empty)
        X[empty] = means
        if problem.learns_bias:
            bias[empty] = bias_means


def _penalty_square(prior: Prior, d: Side, learns_bias: bool) -> float:
    """Return the penalty of the change d: Σ λ ‖dX − F dG‖² + λ_g ‖dG‖² + biases."""
    no_mean = replace(prior.penalty, means=np.zeros((1, d[0].shape[1])), bias_means=np.zeros(1))
    return replace(prior, penalty=no_mean).value(*d, learns_bias)


def _whole_square_along(at: Factors, d: Factors, pool: Pool) -> np.ndarray:
    """Return the coefficients of t², t³, t⁴ in Σ_all s(t)²."""
    U = _gram_along([at.P, at.beta, np.ones(len(at.P))],
                    [d.P, d.beta, np.zeros(len(at.P))], pool)
    V = _gram_along([at.Q, np.ones(len(at.Q)), at.gamma],
                    [d.Q, np.zeros(len(at.Q)), d.gamma], pool)
    total = np.zeros(5)
    for i in range(3):
        for j in range(3):
            total[i + j] += np.sum(U[i] * V[j])
    return total[2:]


def _gram_along(X: list[np.ndarray], dX: list[np.ndarray], pool: Pool) -> list[np.ndarray]:
    """Return the coefficients of 1, t, t² in the Gram of X + t dX."""
    G = gram(X[0], pool, beside=(*X[1:], *dX))
    w = len(G) // 2
    return [G[:w, :w], G[:w, w:] + G[w:, :w], G[w:, w:]]
