"""Where each model's hyper-parameters are looked for.

A space names parameters; each has a list of values, or a distribution with a method `ppf` that
maps numbers in (0, 1) to values: `LogRange` and `Range` here, or any of `scipy.stats`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple

import numpy as np

from mfcore import validation

SHARES = 1e-9, 1 - 1e-9      # of a distribution: below and above them is nothing drawn


class LogRange(NamedTuple):
    """Numbers from low to high, uniform in their logarithm; low > 0."""

    low: float
    high: float

    def ppf(self, share: float) -> float:
        """Return the value below which a share of the draws lies."""
        return float(self.low * (self.high / self.low) ** share)

    def cdf(self, value: float) -> float:
        """Return the share of the draws that lies below a value; it is not below 0 or above 1."""
        share = np.log(max(value, self.low) / self.low) / np.log(self.high / self.low)
        return float(min(share, 1.0))


class Range(NamedTuple):
    """Numbers from low to high, uniform."""

    low: float
    high: float

    def ppf(self, share: float) -> float:
        """Return the value below which a share of the draws lies."""
        return float(self.low + (self.high - self.low) * share)

    def cdf(self, value: float) -> float:
        """Return the share of the draws that lies below a value; it is not below 0 or above 1."""
        return float(np.clip((value - self.low) / (self.high - self.low), 0, 1))


class Doubling(NamedTuple):
    """Sizes from low to high, doubled after the other parameters are chosen at a smaller one."""

    low: int
    high: int


FACTORS = Doubling(8, 512)
NETWORK = {"reg": LogRange(1e-4, 1.0), "learning_rate": LogRange(3e-4, 1e-2),
           "dropout": Range(0.2, 0.8)}
# By class.  Penalties of models of ratings are in units of the ratings' variance.
SPACES: dict[str, dict[str, Any]] = {
    "MatrixFactorization": {"reg": LogRange(0.02, 30.0), "bias_reg": LogRange(0.1, 50.0),
                            "n_factors": FACTORS},
    "ImplicitMF": {"reg": LogRange(0.03, 30.0), "alpha": LogRange(0.3, 30.0),
                   "n_factors": FACTORS},
    "BPR": {"reg": LogRange(1e-4, 0.3), "learning_rate": LogRange(0.01, 0.5),
            "n_factors": FACTORS},
    "SoftmaxMF": {"temperature": LogRange(0.04, 0.6), "learning_rate": LogRange(2e-3, 0.1),
                  "n_factors": FACTORS},
    "BayesianMF": {"n_factors": FACTORS},
    "NeuralMF": {"reg": LogRange(1e-3, 10.0), "learning_rate": LogRange(3e-4, 1e-2),
                 "n_factors": FACTORS},
    "EASE": {"reg": LogRange(10.0, 5000.0), "dropout": Range(0.0, 0.6)},
    "SparseEASE": {"reg": LogRange(10.0, 3000.0), "dropout": Range(0.0, 0.6),
                   "user_power": Range(0.0, 1.0)},
    "ItemKNN": {"shrink": LogRange(1.0, 300.0), "n_neighbors": [50, 100, 200, 400]},
    "RP3Beta": {"alpha": Range(0.2, 1.2), "beta": Range(0.0, 0.8)},
    "GraphFilter": {"share": LogRange(0.03, 3.0)},
    "RatingAutoencoder": {"reg": LogRange(1.0, 300.0), "learning_rate": LogRange(3e-4, 3e-2)},
    "MultDAE": NETWORK,
    "MultVAE": {**NETWORK, "beta": LogRange(0.02, 1.0)},
    "RecVAE": {"reg": LogRange(1e-4, 1.0), "learning_rate": LogRange(1e-4, 5e-3),
               "gamma": LogRange(1e-3, 0.05)},
    "BiasOnly": {"reg_users": LogRange(0.3, 100.0), "reg_items": LogRange(0.3, 100.0)},
}


def described(each: Any) -> str:
    """Return a part of a space in words."""
    if isinstance(each, (LogRange, Range, Doubling)):
        kind = {LogRange: " (log)", Doubling: " (doubled)"}.get(type(each), "")
        return f"{each.low:g} to {each.high:g}{kind}"
    return ", ".join(map(str, each))


def checked_space(model: Any, space: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the space of a model, its own or the default one of its class.

    Raises ValueError for parameters that the model does not have, an empty space, or a class
    without a default one; TypeError for what is neither values nor a distribution, and for
    anything but a single model.
    """
    if isinstance(model, type) or not hasattr(model, "get_params"):
        raise TypeError(f"model must be an estimator, got {model!r:.60}")
    if hasattr(model, "estimator"):
        raise TypeError(f"tune takes no {type(model).__name__}: tune its estimator")
    model.validate()
    known = model.get_params(deep=False)
    if space is None:
        name = type(model).__name__
        if name not in SPACES:
            raise ValueError(f"there is no default space for {name}; give space={{name: values}}")
        return {name: each for name, each in SPACES[name].items() if name in known}
    if not isinstance(space, Mapping):
        raise TypeError(f"space must be {{parameter: values}}, got {type(space).__name__}")
    if not space:
        raise ValueError("space must name at least one parameter")
    if unknown := [name for name in space if name not in known]:
        raise validation.unknown(type(model).__name__, unknown, known)
    for name, each in space.items():
        _check(name, each)
    _check_values(model, space)
    return dict(space)


def _check(name: str, each: Any) -> None:
    part = f"space[{name!r}]"
    if isinstance(each, (LogRange, Range, Doubling)):
        for number in each:
            validation.real(part, number, above=0 if isinstance(each, LogRange) else None)
        if not (each.low < each.high or isinstance(each, Doubling) and each.low == each.high):
            raise ValueError(f"{part} must be ascending, got {each}")
    if isinstance(each, Doubling):
        if name != "n_factors":
            raise ValueError(f"{part} must not be a Doubling: n_factors alone is doubled")
        for size in each:
            validation.integer(part, size, low=1)
    elif hasattr(each, "ppf") and not isinstance(each, type):
        low, high = (float(each.ppf(share)) for share in SHARES)
        if not (np.isfinite([low, high]).all() and low <= high):
            raise ValueError(f"{part} must be finite and ascending, got {each}")
    elif isinstance(each, (str, bytes, type, Mapping, Set)) or not hasattr(each, "__len__") \
            or getattr(each, "ndim", 1) == 0:
        raise TypeError(f"{part} must be a list of values or have a method ppf, got {each!r}")
    elif not len(each):
        raise ValueError(f"{part} holds no value")


def _check_values(model: Any, space: Mapping[str, Any]) -> None:
    """Raise what the model does for a value of a list, or for the ends of a distribution."""
    middle = np.full(len(_names(space)), 0.5)
    for place, name in enumerate(_names(space)):
        each = space[name]
        shares = SHARES if hasattr(each, "ppf") else (np.arange(len(each)) + 0.5) / len(each)
        for share in shares:
            point = np.where(np.arange(len(middle)) == place, share, middle)
            params = at_points(model, space, [point])[0]
            type(model)(**{**model.get_params(deep=False), **params}).validate()


def _names(space: Mapping[str, Any]) -> list[str]:
    return [name for name, each in space.items() if not isinstance(each, Doubling)]


def drawn(space: Mapping[str, Any], n: int, random: np.random.Generator) -> np.ndarray:
    """Return n points spread evenly over a space, in [0, 1), shape (n, d); sizes apart.

    Point m is (start + m (1/φ, 1/φ², ...)) mod 1, where φ solves φ^(d+1) = φ + 1 for d parameters
    (Roberts 2018, a generalised golden ratio).
    """
    d = len(_names(space))
    phi = 2.0
    for _ in range(30):
        phi = (1 + phi) ** (1 / (d + 1))
    points: np.ndarray = (random.random(d) + np.arange(n if d else 0)[:, None]
                          * phi ** -np.arange(1.0, d + 1)) % 1
    return points


def near(point: np.ndarray, width: float, random: np.random.Generator) -> np.ndarray:
    """Draw a point within width / 2 of another one, reflected at the bounds; NaN: anywhere."""
    drawn = random.random(len(point))
    moved = np.abs(np.where(np.isnan(point), drawn, point + width * (drawn - 0.5)))
    return np.where(moved > 1, 2 - moved, moved)


def point_of(space: Mapping[str, Any], model: Any) -> np.ndarray:
    """Return where the setting of a fitted model lies in a space; NaN where nobody can say.

    What a fit has found, such as the `reg_` of reg="auto", counts as set.
    """
    def share(name: str) -> float:
        each, value = space[name], getattr(model, name)
        if isinstance(value, str):
            value = vars(model).get(f"{name}_", value)
        if not hasattr(each, "ppf"):
            known = list(each)
            return (known.index(value) + 0.5) / len(known) if value in known else np.nan
        return float(each.cdf(value)) if hasattr(each, "cdf") and np.isscalar(value) else np.nan

    return np.array([share(name) for name in _names(space)])


def at_points(model: Any, space: Mapping[str, Any], points: Sequence[np.ndarray] | np.ndarray
              ) -> list[dict[str, Any]]:
    """Return the settings at points of a space."""
    types = inspect.signature(type(model)).parameters
    return [{name: _value(space[name], share, str(types[name].annotation))
             for name, share in zip(_names(space), point, strict=True)} for point in points]


def _value(each: Any, share: float, kind: str) -> Any:
    if not hasattr(each, "ppf"):
        return list(each)[min(int(share * len(each)), len(each) - 1)]
    value = float(each.ppf(min(max(share, SHARES[0]), SHARES[1])))
    return round(value) if "int" in kind and "float" not in kind else float(f"{value:.4g}")
