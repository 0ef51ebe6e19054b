"""Parameters, how they start, and their gradients: a block of numbers, or rows of a table.

Start.  Signals should neither fade nor grow from layer to layer.  For z_j = Σ_i x_i W_ij over
n_in inputs, with x and W independent and W of mean 0:

    Var z = n_in · Var W · E x²                            forward
    Var dx = n_out · Var W · Var dz                        backward, the transpose

LeCun keeps Var z = E x² (for a φ that is close to the identity around 0, and for selu):

    Var W = 1 / n_in

Glorot wants both directions, and takes the harmonic mean of the two answers (tanh, sigmoid):

    Var W = 2 / (n_in + n_out)

He corrects for relu, which makes E y² = ½ Var z of a symmetric z:

    Var W = 2 / n_in

Layers that normalise their output need none of these, and may start smaller, on ±1/√n_in
("narrow"):

    Var W = 1 / (3 n_in)

Numbers are uniform on ±√(3 Var W), which has that variance and no outliers.

Gradients.  A batch uses few rows of a large table (of users, items, inputs).  The gradient of
all other rows is zero and is not written: `Rows` holds the numbers of the rows used, and their
lines; several lines of one row mean their sum.

A parameter does not hold its gradient: the parts of a batch run on several threads with the
same parameters, each with its own gradients, which are added in a fixed order.

Sources: LeCun, Bottou, Orr, Müller 1998; Glorot, Bengio 2010 (eq. 16); He, Zhang, Ren, Sun
2015 (eq. 10).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np

from mfcore.kernels import nn_rows as kernels

VARIANCES: dict[str, Callable[[int, int], float]] = {
    "lecun": lambda n_in, n_out: 1 / n_in,
    "glorot": lambda n_in, n_out: 2 / (n_in + n_out),
    "he": lambda n_in, n_out: 2 / n_in,
    "narrow": lambda n_in, n_out: 1 / (3 * n_in),
}
# What suits an activation; "glorot" for the others.
SUITS = {"relu": "he", "leaky_relu": "he", "elu": "he", "selu": "lecun", "swish": "he"}


@dataclass(eq=False)
class Parameter:
    """Numbers that training moves, in place.

    Parameters
    ----------
    name : str
        For messages.
    value : ndarray
        C-contiguous; of one dimension or two.
    penalised : bool
        Whether a penalty or decay pulls at it: weights, but not offsets.
    frozen : bool
        True: gradients are not computed, and nothing moves.
    """

    name: str
    value: np.ndarray
    penalised: bool = True
    frozen: bool = False


def initial_weights(n_in: int, n_out: int, kind: str, random: np.random.Generator | None,
                    dtype: np.dtype) -> np.ndarray:
    """Return W, shape (n_in, n_out), uniform with the variance of `kind`.

    Without `random`, zeros that take no memory, for weights that are about to be replaced.
    """
    if random is None:
        return np.broadcast_to(np.zeros((), dtype), (n_in, n_out))
    bound = math.sqrt(3 * VARIANCES[kind](max(n_in, 1), max(n_out, 1)))
    return random.uniform(-bound, bound, (n_in, n_out)).astype(dtype)


def initial_table(n_rows: int, k: int, scale: float, random: np.random.Generator,
                  dtype: np.dtype) -> np.ndarray:
    """Return rows of normal numbers with standard deviation `scale`, shape (n_rows, k)."""
    return (scale * random.standard_normal((n_rows, k))).astype(dtype)


def packed(parameters: Sequence[Parameter]) -> np.ndarray:
    """Move the values of parameters into one vector; they become views of it."""
    vector = np.concatenate([parameter.value.ravel() for parameter in parameters])
    unpack(vector, parameters)
    return vector


def unpack(vector: np.ndarray, parameters: Sequence[Parameter]) -> None:
    """Make parameters views of a vector that `packed` returned.

    Raises ValueError for a vector of another length.
    """
    sizes = [parameter.value.size for parameter in parameters]
    if vector.shape != (sum(sizes),):
        raise ValueError(f"weights must have shape ({sum(sizes)},), got {vector.shape}")
    for parameter, part in zip(parameters, np.split(vector, np.cumsum(sizes)[:-1]),
                               strict=True):
        parameter.value = part.reshape(parameter.value.shape)


class Rows(NamedTuple):
    """The gradient of a table where only some rows have one.

    rows : ndarray of int, shape (n,); values : ndarray, shape (n, k)
        The gradient of a row that occurs several times is the sum of its lines.  The lines of
        row −1, which is unknown, are left out.
    distinct : whether each row occurs once, in ascending order, and −1 does not occur
    """

    rows: np.ndarray
    values: np.ndarray
    distinct: bool = False

    def summed(self) -> Rows:
        """Return the same gradient with distinct rows in ascending order."""
        if self.distinct:
            return self
        order = sorting(self.rows)
        distinct = np.empty(len(order), self.rows.dtype)
        sums = np.empty((len(order), self.values.shape[1]), self.values.dtype)
        n = kernels.sum_by_row(self.rows, order, self.values, distinct, sums)
        return Rows(distinct[:n], sums[:n], distinct=True)

    def merged(self, other: Rows) -> Rows:
        """Return the sum of two gradients of distinct rows."""
        n = len(self.rows) + len(other.rows)
        rows = np.empty(n, self.rows.dtype)
        values = np.empty((n, self.values.shape[1]), self.values.dtype)
        n = kernels.merge_rows(*self[:2], *other[:2], rows, values)
        return Rows(rows[:n], values[:n], distinct=True)

    def add_to(self, dense: np.ndarray) -> None:
        """Add this gradient to that of a whole table, in place."""
        kernels.scatter_add(self.rows, self.values, dense)


def sorting(rows: np.ndarray) -> np.ndarray:
    """Return the positions that sort row numbers, stably, without those of −1.

    To sort row and position as one number is several times faster than an argsort.
    """
    key = (rows.astype(np.int64) << 32) | np.arange(len(rows))
    key.sort()
    order: np.ndarray = key[np.searchsorted(key, 0):] & 0xFFFFFFFF
    return order


Gradient = np.ndarray | Rows


class Gradients:
    """The gradients of one pass, by parameter; the parts of a gradient are added up."""

    def __init__(self) -> None:
        self._parts: dict[Parameter, list[Gradient]] = {}
        self._sums: dict[Parameter, Gradient] = {}

    def add(self, parameter: Parameter, part: Gradient) -> None:
        """Add a part to the gradient of a parameter; these gradients now own the array.

        All parts must be added before the first sum is read.
        """
        self._parts.setdefault(parameter, []).append(part)

    def merge(self, other: Gradients) -> None:
        """Add all parts of other gradients."""
        for parameter, parts in other._parts.items():
            self._parts.setdefault(parameter, []).extend(parts)

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self._parts)

    def __contains__(self, parameter: Parameter) -> bool:
        return parameter in self._parts

    def __getitem__(self, parameter: Parameter) -> Gradient:
        """Return the sum of a parameter's parts, in the order of `add`, with distinct rows.

        Raises KeyError for a parameter that no layer of the pass has used.
        """
        if parameter not in self._sums:
            self._sums[parameter] = _sum(self._parts[parameter])
        return self._sums[parameter]

    def of(self, parameter: Parameter) -> Gradients:
        """Return the gradients with those of one parameter only."""
        alone = Gradients()
        if parameter in self:
            alone._parts[parameter] = self._parts[parameter]
        return alone

    def dense(self, parameter: Parameter) -> np.ndarray:
        """Return the gradient of a parameter as a whole block, with zeros for other rows."""
        if parameter not in self:
            return np.zeros_like(parameter.value)
        gradient = self[parameter]
        if isinstance(gradient, Rows):
            whole = np.zeros_like(parameter.value)
            gradient.add_to(whole)
            return whole
        return gradient


def _sum(parts: list[Gradient]) -> Gradient:
    tables = [part for part in parts if isinstance(part, Rows)]
    blocks = [part for part in parts if isinstance(part, np.ndarray)]
    if not blocks:
        return reduce(Rows.merged, (table.summed() for table in tables))
    total: np.ndarray = reduce(operator.iadd, blocks)
    for table in tables:
        table.add_to(total)
    return total


def clip(gradients: Gradients, most: float) -> float:
    """Scale gradients so that their common length is at most `most`; return their length before.

        g ← g · min(1, most / ‖g‖),    ‖g‖² = Σ of squares over all parameters

    The step keeps its direction, and one wild batch cannot throw the parameters far away.
    """
    sums = [gradients[parameter] for parameter in gradients]
    blocks = [each.values if isinstance(each, Rows) else each for each in sums]
    length = float(np.sqrt(sum(float(np.vdot(g, g)) for g in blocks)))
    if length > most:
        for block in blocks:
            block *= most / length
    return length
