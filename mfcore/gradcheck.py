"""Check a gradient against its function: Taylor remainder and central differences.

For a function f, a point x, a direction d and the claimed gradient g, let phi(h) = f(x + h d):

    phi(h) = phi(0) + h phi'(0) + h^2/2 phi''(0) + O(h^3)                       Taylor
    r(h) = |phi(h) - phi(0) - h g.d|                                        remainder
         = |h (phi'(0) - g.d) + h^2/2 phi''(0) + O(h^3)|                 put in Taylor

so log2 r(h) / r(h/2) tends to 2 if g.d = phi'(0), and to 1 if not, however small the
difference.  The even terms drop out of the central difference,

    D(h) = (phi(h) - phi(-h)) / 2h = phi'(0) + h^2/6 phi'''(0) + O(h^4)

whose error is at most |D(2h) - D(h)| + |D(4h) - D(2h)| once the steps are small, plus the
rounding of phi divided by h.  The step with the least sum of the two gives the derivative
that g.d is compared with.

Rounding is measured, not guessed: over steps so small that f is nearly a parabola, third
differences contain little else.  If it hides f's change along a block, nothing can be said
about the gradient, and that is an error too.

A direction is the gradient plus noise of half its length, in one block of parameters at a
time: a random direction in all parameters at once hides a wrong small block.

Sources: remainder test as for adjoint models, Farrell, Ham, Funke and Rognes 2013;
noise from a difference table, More and Wild 2011, "Estimating computational noise".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mfcore import validation

Point = np.ndarray | Mapping[str, np.ndarray]
Function = Callable[[Any], tuple[Any, Any]]

FIRST_STEP, HALVINGS = 1 / 8, 16    # largest step, in units of max(1, |x|); how often it is halved
NOISE_STEP, NOISE_POINTS = 1e-6, 8  # of the third differences that measure rounding
CLEAR = 50.0                        # times the rounding: a remainder above it counts for the slope
LEAST_SLOPE, SLOPES = 1.5, 5        # between 1 (wrong) and 2 (right); halvings it is taken over
TOLERANCE = 1e-8                    # relative difference allowed of the directional derivatives
RESOLUTION = 1e-4                   # share of f's mean slope to which the derivative must be known


class GradientError(ValueError):
    """A gradient does not belong to its function, or cannot be checked.

    Attributes
    ----------
    result : GradientCheck or None
        What was measured; None if nothing was.
    """

    def __init__(self, message: str, result: GradientCheck | None = None) -> None:
        super().__init__(message)
        self.result = result


@dataclass(frozen=True, repr=False)
class GradientCheck:
    """What `gradcheck` measured, per block: the worst of all directions.

    Attributes
    ----------
    slopes : dict of str to float
        Slope of the remainder: about 2 for a right gradient, 3 or more where curvature
        vanishes, infinite where no remainder exceeds rounding (a linear function).
    relative_errors : dict of str to float
        |D - g.d| / max(|D|, |g.d|), D the directional derivative by central differences;
        0 where both are within its error (a stationary point).
    ok : bool
        Whether every block passed.
    """

    slopes: dict[str, float]
    relative_errors: dict[str, float]
    ok: bool

    def __repr__(self) -> str:
        """Return a line per block, such as "P: slope 2.00, right"."""
        return "\n".join(
            f"{name}: slope {slope:.2f}, {'right' if slope >= LEAST_SLOPE else 'wrong'}"
            for name, slope in self.slopes.items())


class _Finding(NamedTuple):
    slope: float
    error: float
    complaint: str


def gradcheck(value_and_gradient: Function, x: Point, *, directions: int = 2,
              random_state: int | np.random.Generator | None = 0) -> GradientCheck:
    """Check the gradient of a function at a point, one block of parameters at a time.

    Parameters
    ----------
    value_and_gradient : callable
        Takes a point like `x` and returns (value, gradient): a float64 number, and float64
        of the shape of `x`; for a dict of blocks, a dict with the same keys.
    x : float64 ndarray, or dict of str to float64 ndarray
        Where to check: away from kinks and stationary points, with as many coefficients as
        possible away from 0 and 1, where a wrong factor hides.  It is not written to.
    directions : int
        Directions per block, >= 1; each costs about 40 evaluations.
    random_state : int, Generator or None
        Seed of the noise in the directions.

    Returns
    -------
    result : GradientCheck
        Slopes and relative errors per block (the block "x" for an array).

    Raises
    ------
    GradientError
        Naming block, slope and error: if a directional derivative is off by more than
        1e-8 plus the error of the differences, if the remainder falls too slowly, if a
        value is not finite, or if rounding hides the block's effect on the value.
    TypeError
        For anything but float64.
    ValueError
        For a gradient of other blocks or shapes than `x`.

    Examples
    --------
    >>> import numpy as np
    >>> from mfcore import gradcheck
    >>> print(gradcheck(lambda x: (float(x @ x), 2 * x), np.array([0.3, -1.7])))
    x: slope 2.00, right
    """
    directions = validation.integer("directions", directions, low=1)
    rng = np.random.default_rng(random_state)
    blocks = _blocks("x", x)
    function = _on_blocks(value_and_gradient, single=not isinstance(x, Mapping))
    gradient = function(blocks)[1]
    if {name: g.shape for name, g in gradient.items()} != \
            {name: b.shape for name, b in blocks.items()}:
        raise ValueError(f"gradient must have the blocks of x, {_shapes(blocks)}, "
                         f"got {_shapes(gradient)}")
    findings = {name: [_check_direction(name, function, blocks, gradient[name], rng)
                       for _ in range(directions)]
                for name, block in blocks.items() if block.size}
    return _verdict(findings)


def _verdict(findings: dict[str, list[_Finding]]) -> GradientCheck:
    complaints = [next(filter(None, (each.complaint for each in found)), "")
                  for found in findings.values()]
    result = GradientCheck(
        {name: min(each.slope for each in found) for name, found in findings.items()},
        {name: max(each.error for each in found) for name, found in findings.items()},
        ok=not any(complaints))
    if not result.ok:
        raise GradientError("; ".join(filter(None, complaints)), result)
    return result


# ------------------------------------------------------------------ one direction

def _check_direction(name: str, function: Callable[..., Any], blocks: dict[str, np.ndarray],
                     gradient: np.ndarray, rng: np.random.Generator) -> _Finding:
    """Compare g.d with the values of f along one direction of block `name`."""
    block = blocks[name]
    direction = _direction(gradient, rng)
    unit = max(1.0, float(np.linalg.norm(block)))

    def phi(h: float) -> float:
        with np.errstate(all="ignore"):
            return float(function({**blocks, name: block + h * direction})[0])

    claimed = float(np.vdot(gradient, direction))
    if not math.isfinite(phi(0.0)) or not math.isfinite(claimed):
        raise GradientError(f"value and gradient must be finite, got {phi(0.0)} and "
                            f"{claimed} along block {name!r}")
    return _judge(name, _sample(phi, unit), claimed)


def _direction(gradient: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the unit vector along the gradient plus noise of half its length."""
    noise = rng.normal(size=gradient.shape)
    noise /= 2 * np.linalg.norm(noise)
    length = np.linalg.norm(gradient)
    direction = noise + gradient / length if length > 0 else noise
    return np.asarray(direction / np.linalg.norm(direction))


class _Samples(NamedTuple):
    """Values of phi at 0 and at steps h and -h (largest first), with the rounding of each."""

    centre: float
    h: np.ndarray
    ahead: np.ndarray
    behind: np.ndarray
    noise: np.ndarray


def _sample(phi: Callable[[float], float], unit: float) -> _Samples:
    h = unit * FIRST_STEP * 0.5 ** np.arange(HALVINGS)
    ahead, behind = (np.array([phi(s) for s in sign * h]) for sign in (1.0, -1.0))
    inside = np.isfinite(ahead) & np.isfinite(behind)
    start = HALVINGS - int(np.argmin(inside[::-1])) if not inside.all() else 0
    near = [phi(s) for s in (np.arange(NOISE_POINTS) - NOISE_POINTS // 2) * NOISE_STEP * unit]
    noise = np.abs(np.diff(near, 3)).max() \
        + 2 * np.finfo(float).eps * np.maximum(np.abs(ahead), np.abs(behind))
    return _Samples(phi(0.0), *(each[start:] for each in (h, ahead, behind, noise)))


def _judge(name: str, phi: _Samples, claimed: float) -> _Finding:
    if phi.h.size < SLOPES:
        return _Finding(math.nan, math.nan, f"block {name!r} cannot be checked: the function "
                        f"is not finite around x; move x into its domain")
    slope = _slope(phi, claimed)
    derivative, margin = _derivative(phi)
    change = max(abs(phi.ahead[0] - phi.centre), abs(phi.behind[0] - phi.centre))
    seen_or_claimed = max(change, CLEAR * abs(claimed) * phi.h[0])
    if margin > RESOLUTION * change / phi.h[0] and seen_or_claimed > phi.noise[0]:
        return _Finding(slope, math.nan, f"block {name!r} cannot be checked: the function "
                        f"changes by {change:.1e} along it, with errors of "
                        f"{phi.noise[0]:.1e}; leave out constants, make it smooth")
    larger, difference = max(abs(derivative), abs(claimed)), abs(derivative - claimed)
    error = difference / larger if larger > margin else 0.0
    if difference <= TOLERANCE * larger + margin and slope >= LEAST_SLOPE:
        return _Finding(slope, error, "")
    return _Finding(slope, error, f"gradient of block {name!r} is wrong: the directional "
                    f"derivative is {derivative:.7g} by differences and {claimed:.7g} by the "
                    f"gradient (relative error {error:.1e}), and the remainder falls with "
                    f"slope {slope:.2f} (2 for a right gradient)")


def _slope(phi: _Samples, claimed: float) -> float:
    """Return the median slope of the remainder over the last halvings that exceed rounding."""
    remainder = np.abs(phi.ahead - phi.centre - phi.h * claimed)
    clear = remainder > CLEAR * phi.noise
    pairs = clear[:-1] & clear[1:]
    slopes = np.log2(remainder[:-1][pairs] / remainder[1:][pairs])
    return float(np.median(slopes[-SLOPES:])) if slopes.size >= SLOPES else math.inf


def _derivative(phi: _Samples) -> tuple[float, float]:
    """Return the central difference of the best step, and a bound on its error."""
    D = (phi.ahead - phi.behind) / (2 * phi.h)
    change = np.abs(np.diff(D))
    margins = change[:-1] + change[1:] + phi.noise[2:] / phi.h[2:]
    best = int(np.argmin(margins))
    return float(D[best + 2]), float(margins[best])


# -------------------------------------------------------------------------- blocks

def _on_blocks(value_and_gradient: Function, single: bool) -> Callable[..., Any]:
    """Return the function with dicts for point and gradient, even for a single array."""
    def function(blocks: dict[str, np.ndarray]) -> tuple[float, dict[str, np.ndarray]]:
        found: Any = value_and_gradient(blocks["x"] if single else dict(blocks))
        if not hasattr(found, "__len__") or len(found) != 2:
            raise TypeError(f"the function must return (value, gradient), got "
                            f"{type(found).__name__}")
        value, gradient = found
        if np.asarray(value).dtype != np.float64:
            raise TypeError(f"value must be float64, got {type(value).__name__}")
        return float(value), _blocks("gradient", {"x": gradient} if single else gradient)

    return function


def _blocks(owner: str, point: Any) -> dict[str, np.ndarray]:
    """Return copies of named float64 arrays; a single array is the block "x"."""
    named = point if isinstance(point, Mapping) else {"x": point}
    blocks = {str(name): np.array(block) for name, block in named.items()}
    for name, block in blocks.items():
        if block.dtype != np.float64:
            raise TypeError(f"{owner} must be float64, got {block.dtype} in block {name!r}")
    return blocks


def _shapes(blocks: dict[str, np.ndarray]) -> str:
    return "{" + ", ".join(f"{name}: {block.shape}" for name, block in blocks.items()) + "}"
