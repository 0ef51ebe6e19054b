"""L-BFGS on all parameters at once: one iteration per epoch, with an exact step.

Direction.  x holds the free numbers of P, Q, β, γ and of the groups; g is the gradient of
objectives/quadratic.py.  With the last steps s = x⁺ − x, changes y = g⁺ − g and ρ = 1 / sᵀy,

    H⁺ = (I − ρ s yᵀ) H (I − ρ y sᵀ) + ρ s sᵀ          so that H⁺ y = s

is an inverse Hessian that starts from (sᵀy / yᵀy) I, and d = −H g.  The product needs no
matrix, only a loop from the newest pair to the oldest and one back.

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

A general-purpose L-BFGS hides its state, so that one could neither step it epoch by epoch nor
continue it after a stop.

Sources: Nocedal 1980; Liu and Nocedal 1989 (the start of H); Nocedal and Wright 2006,
algorithm 7.4 (two loops).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from mfcore import validation
from mfcore.objectives.factors import Factors, Side, cell_scores
from mfcore.objectives.penalty import Prior
from mfcore.objectives.quadratic import Quadratic
from mfcore.parallel import Pool, gram
from mfcore.solvers.loop import Solver
from mfcore.validation import DivergenceError

# The blocks of parameters that move, by what is free.
FREE = {"both": ("P", "Q", "beta", "gamma", "G", "H", "g", "h"), "users": ("P", "beta"),
        "items": ("Q", "gamma")}


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
    memory: int = 10
    free: str = "both"
    _x: np.ndarray = field(default_factory=lambda: np.empty(0), init=False, repr=False)
    _g: np.ndarray = field(default_factory=lambda: np.empty(0), init=False, repr=False)
    _steps: list[np.ndarray] = field(default_factory=list, init=False, repr=False)
    _changes: list[np.ndarray] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        validation.integer("memory", self.memory, low=1)
        validation.choice("free", self.free, FREE)

    def epoch(self, at: Factors, pool: Pool) -> float:
        """Take one step; return the loss after it."""
        if not np.array_equal(self._x.astype(at.P.dtype), self._flat(at)):
            self._begin(at, pool)
        d = -inverse_hessian_times(self._g, self._steps, self._changes)
        t = self._best_step(at, d, pool)
        if t > 0:
            self._move(at, t * d, pool)
        point = self._point(at)
        for name in FREE[self.free]:
            getattr(at, name)[...] = getattr(point, name)
        return self.problem.value(point, pool).total

    def state(self) -> dict[str, np.ndarray]:
        """Return the unrounded parameters, their gradient and the pairs."""
        return {"x": self._x, "gradient": self._g, "steps": np.array(self._steps),
                "changes": np.array(self._changes)}

    def resume(self, at: Factors, state: dict[str, np.ndarray]) -> None:
        """Go on from what `state` returned, to the same bits."""
        self._x, self._g = state["x"], state["gradient"]
        self._steps, self._changes = list(state["steps"]), list(state["changes"])

    def _flat(self, point: Factors) -> np.ndarray:
        return np.concatenate([getattr(point, name).ravel() for name in FREE[self.free]])

    def _blocks(self, x: np.ndarray, like: Factors) -> Factors:
        """Return x as blocks (views), with zeros for those that are not free."""
        blocks = {name: np.zeros(block.shape) for name, block in vars(like).items()}
        start = 0
        for name in FREE[self.free]:
            size, shape = blocks[name].size, blocks[name].shape
            blocks[name] = x[start:start + size].reshape(shape)
            start += size
        return Factors(**blocks)

    def _point(self, at: Factors) -> Factors:
        """Return the parameters in float64: x, and from `at` what is not free."""
        blocks = vars(self._blocks(self._x, at))
        return Factors(**{name: blocks[name] if name in FREE[self.free] else
                          block.astype(np.float64) for name, block in vars(at).items()})

    def _begin(self, at: Factors, pool: Pool) -> None:
        """Start from `at`, without pairs."""
        rest_at_prior(self.problem, at, self.free)
        self._x, self._steps, self._changes = self._flat(at).astype(np.float64), [], []
        self._g = self._flat(self.problem.gradient(self._point(at), pool))

    def _best_step(self, at: Factors, d: np.ndarray, pool: Pool) -> float:
        c = np.append(self._g @ d, line_coefficients(self.problem, self._point(at),
                                                     self._blocks(d, at), pool))
        if not np.isfinite(c).all():
            raise DivergenceError("the objective overflows along the step; rescale the "
                                  "ratings or raise reg")
        return best_step(c)

    def _move(self, at: Factors, step: np.ndarray, pool: Pool) -> None:
        """Add a step to x, and remember it with the change of the gradient."""
        self._x = self._x + step
        g = self._flat(self.problem.gradient(self._point(at), pool))
        change, self._g = g - self._g, g
        if step @ change > 0:                     # else it is only rounding
            self._steps = [*self._steps, step][-self.memory:]
            self._changes = [*self._changes, change][-self.memory:]


def inverse_hessian_times(g: np.ndarray, steps: list[np.ndarray], changes: list[np.ndarray]
                          ) -> np.ndarray:
    """Return H g for the pairs (s, y), oldest first; g itself if there are none."""
    if not steps:
        return g
    pairs = [(s, y, s @ y) for s, y in zip(steps, changes, strict=True)]
    q, alphas = g.copy(), []
    for s, y, sy in reversed(pairs):
        alphas.append((s @ q) / sy)
        q -= alphas[-1] * y
    _, y, sy = pairs[-1]
    q *= sy / (y @ y)
    for (s, y, sy), alpha in zip(pairs, reversed(alphas), strict=True):
        q += (alpha - (y @ q) / sy) * s
    return q


def line_coefficients(problem: Quadratic, at: Factors, d: Factors, pool: Pool) -> np.ndarray:
    """Return c2, c3, c4 of the objective along d, float64, shape (3,)."""
    cells = problem.by_user

    def scores(P: np.ndarray, Q: np.ndarray, beta: np.ndarray, gamma: np.ndarray) -> np.ndarray:
        return cell_scores(cells.indptr, cells.indices, P, Q, beta, gamma, pool)

    s1 = scores(np.hstack([at.P, d.P]), np.hstack([d.Q, at.Q]), d.beta, d.gamma)
    s2 = scores(d.P, d.Q, np.zeros_like(d.beta), np.zeros_like(d.gamma))
    a = cells.a
    E = a * scores(at.P, at.Q, at.beta, at.gamma) - cells.b
    known = np.array([(a * s1) @ s1 + 2 * (E @ s2), 2 * ((a * s1) @ s2), (a * s2) @ s2])
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
    one_u, one_i = np.ones((len(at.P), 1)), np.ones((len(at.Q), 1))
    U = _gram_along([at.P, at.beta[:, None], one_u], [d.P, d.beta[:, None], 0 * one_u], pool)
    V = _gram_along([at.Q, one_i, at.gamma[:, None]], [d.Q, 0 * one_i, d.gamma[:, None]], pool)
    total = np.zeros(5)
    for i in range(3):
        for j in range(3):
            total[i + j] += np.sum(U[i] * V[j])
    return total[2:]


def _gram_along(X: list[np.ndarray], dX: list[np.ndarray], pool: Pool) -> list[np.ndarray]:
    """Return the coefficients of 1, t, t² in the Gram of X + t dX."""
    G = gram(np.hstack(X + dX), pool)
    w = len(G) // 2
    return [G[:w, :w], G[:w, w:] + G[w:, :w], G[w:, w:]]
