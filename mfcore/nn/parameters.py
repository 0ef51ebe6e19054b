"""Parameters and their gradients: a block of numbers, or a few rows of a table.

A batch meets few rows of a large table (of users, items, inputs).  The gradient of all
other rows is zero, and stays unwritten: `Rows` holds the numbers of the rows met and their
lines, with rows that occur several times meaning the sum.

Gradients are no part of a parameter: parts of a batch run on several threads at the same
parameters, each with gradients of its own, and the parts are added in a fixed order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np

from mfcore.kernels import nn_rows as kernels


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


class Rows(NamedTuple):
    """The gradient of a table where only some rows have one.

    rows : ndarray of int, shape (n,); values : ndarray, shape (n, k)
        A row that occurs several times has the sum of its lines as its gradient; −1 is no
        row, and its line is left out.
    distinct : whether each row occurs once, in ascending order, and −1 does not
    """

    rows: np.ndarray
    values: np.ndarray
    distinct: bool = False

    def summed(self) -> Rows:
        """Return the same gradient with distinct rows, ascending."""
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
        """Add this gradient to a whole table of one, in place."""
        kernels.scatter_add(self.rows, self.values, dense)


def sorting(rows: np.ndarray) -> np.ndarray:
    """Return positions that sort row numbers, stably, without those of −1.

    Row and position in one number sort several times faster than an argsort.
    """
    key = (rows.astype(np.int64) << 32) | np.arange(len(rows))
    key.sort()
    order: np.ndarray = key[np.searchsorted(key, 0):] & 0xFFFFFFFF
    return order


Gradient = np.ndarray | Rows


class Gradients:
    """The gradients of one pass, by parameter; several parts of one are added."""

    def __init__(self) -> None:
        self._parts: dict[Parameter, list[Gradient]] = {}
        self._sums: dict[Parameter, Gradient] = {}

    def add(self, parameter: Parameter, part: Gradient) -> None:
        """Add to the gradient of a parameter; the array now belongs to these gradients.

        All parts are added before a sum is asked for.
        """
        self._parts.setdefault(parameter, []).append(part)

    def merge(self, other: Gradients) -> None:
        """Add all parts of others."""
        for parameter, parts in other._parts.items():
            self._parts.setdefault(parameter, []).extend(parts)

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self._parts)

    def __contains__(self, parameter: Parameter) -> bool:
        return parameter in self._parts

    def __getitem__(self, parameter: Parameter) -> Gradient:
        """Return the sum of a parameter's parts, in the order of `add`, rows distinct.

        Raises KeyError for a parameter that no layer of the pass has used.
        """
        if parameter not in self._sums:
            self._sums[parameter] = _sum(self._parts[parameter])
        return self._sums[parameter]

    def of(self, parameter: Parameter) -> Gradients:
        """Return the gradients of one parameter alone."""
        alone = Gradients()
        if parameter in self:
            alone._parts[parameter] = self._parts[parameter]
        return alone

    def dense(self, parameter: Parameter) -> np.ndarray:
        """Return the gradient of a parameter as a whole block, zeros where it has none."""
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
    total = blocks[0]
    for block in blocks[1:]:
        total += block
    for table in tables:
        table.add_to(total)
    return total


def clip(gradients: Gradients, most: float) -> float:
    """Scale gradients so that their common length is at most `most`; return what it was.

        g ← g · min(1, most / ‖g‖),    ‖g‖² = Σ of squares over all parameters

    A step then keeps its direction, and one wild batch cannot throw the parameters away.
    """
    blocks = [_numbers(gradients[parameter]) for parameter in gradients]
    length = float(np.sqrt(sum(float(np.vdot(g, g)) for g in blocks)))
    if length > most:
        for block in blocks:
            block *= most / length
    return length


def _numbers(gradient: Gradient) -> np.ndarray:
    return gradient.values if isinstance(gradient, Rows) else gradient
